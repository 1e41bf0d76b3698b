"""The contact sheet: thumbnails composed into one picture, with a clickable mark on each."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image, ImageDraw, ImageFont

from lib.figures import ACCENT, AMBER, ORANGE, figure

COLUMNS, ROWS = 12, 4
PER_PAGE = COLUMNS * ROWS
TILE_PX, GAP_PX = 96, 8
COLOURS = {"kept": ACCENT, "dropped": ORANGE, "hand": AMBER}


def compose(thumbnails: Sequence[np.ndarray], labels: Sequence[str], kept: Sequence[bool], hand: Sequence[bool]) -> Image.Image:
    """Thumbnails (uint8, grey) in a grid on a clear ground: dropped ones dimmed and crossed, by-hand ones with a corner."""
    rows = -(-len(thumbnails) // COLUMNS)
    cell = TILE_PX + GAP_PX
    sheet = Image.new("RGBA", (COLUMNS * cell, rows * cell), (0, 0, 0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (thumbnail, label, keep, by_hand) in enumerate(zip(thumbnails, labels, kept, hand)):
        left, top = number % COLUMNS * cell + GAP_PX // 2, number // COLUMNS * cell + GAP_PX // 2
        right, bottom = left + TILE_PX - 1, top + TILE_PX - 1
        sheet.paste(_tile(thumbnail, dim=not keep), (left, top))
        colour = COLOURS["kept" if keep else "dropped"]
        draw.rectangle((left, top, right, bottom), outline=colour, width=3)
        if not keep:
            draw.line((left + 12, bottom - 12, right - 12, top + 12), fill=colour, width=3)
        if by_hand:
            draw.polygon([(right - 22, top), (right, top), (right, top + 22)], fill=COLOURS["hand"])
        box = draw.textbbox((left + 6, top + 5), label, font=font)
        draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=(0, 0, 0, 150))
        draw.text((left + 6, top + 5), label, fill=(255, 255, 255, 255), font=font)
    return sheet


def _tile(thumbnail: np.ndarray, *, dim: bool) -> Image.Image:
    """One thumbnail fitted into a tile, its shape kept."""
    picture = Image.fromarray(np.ascontiguousarray(thumbnail, dtype=np.uint8))
    scale = TILE_PX / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)
    if dim:
        picture = picture.point(lambda value: value // 3)
    tile = Image.new("L", (TILE_PX, TILE_PX))
    tile.paste(picture, ((TILE_PX - size[0]) // 2, (TILE_PX - size[1]) // 2))
    return tile


def plotly_text(text: str) -> str:
    """Text whose marks of HTML a figure shows and does not obey."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def sheet_figure(sheet: Image.Image, hover: Sequence[str], *, frame: bool = False) -> go.Figure:
    """The composed picture with one invisible, selectable point on each tile, numbered as on the page.

    Points are picked by clicks, or with `frame` by dragging a frame over them: Streamlit allows one or the other.
    """
    rows = sheet.height // (TILE_PX + GAP_PX)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=1)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    n = np.arange(len(hover))
    points = go.Scatter(
        x=n % COLUMNS + 0.5, y=n // COLUMNS + 0.5, mode="markers", text=list(hover), hovertemplate="%{text}<extra></extra>",
        marker={"symbol": "square", "size": 70, "color": ACCENT, "opacity": 0},
        selected={"marker": {"opacity": 0.45, "color": ACCENT}}, unselected={"marker": {"opacity": 0}},
    )  # fmt: skip
    result = figure(height=86 * rows, margin={"l": 0, "r": 0, "t": 0, "b": 0}, dragmode="select" if frame else "pan")
    result.update_layout(showlegend=False)
    result.add_trace(points)
    result.add_layout_image(
        source=source, xref="x", yref="y", x=0, y=0, sizex=COLUMNS, sizey=rows, sizing="stretch", layer="below"
    )
    result.update_xaxes(visible=False, range=[0, COLUMNS], fixedrange=True, constrain="domain")
    result.update_yaxes(
        visible=False, range=[rows, 0], fixedrange=True, scaleanchor="x", constrain="domain", constraintoward="top"
    )
    return result
