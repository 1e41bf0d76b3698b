"""One micrograph: how it was cut, its grey values, its radial spectrum, what its file tells, its targets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image

from lib import figures
from lib.task import InputError, Panel, Samples
from lib.tasks.reflectance import looks
from lib.tasks.reflectance.config import CHANNELS, HIDDEN, IMAGE_PX, TRUE, VISIBLE
from lib.tasks.reflectance.pictures import open_picture
from lib.words import Say, english

BAR_FROM = {"file": "the file tells it", "picture": "found in the picture: check it", "user": "as you set it"}
INSTRUMENT = ("microscope", "beam", "magnification", "working distance", "detector", "date")  # lines that metadata may tell
SHOWN_PX = 900  # larger pictures are shown smaller
THUMBNAIL_PX = 128
BAND_COLOURS = {
    "UV": "#7A4FBF", "B": "#2F7FC4", "G": "#0E9384", "R": "#D55E00", "740": "#A33B20", "940": "#6B4A3A", "fB": "#7FB2E0",
    "fG": "#6FC3B8", "fR": "#F0A36B", "poldiff": "#7A8794",
}  # fmt: skip


def thumbnail(samples: Samples, row: int) -> np.ndarray:
    """uint8 (128, 128) of what a network sees of a sample."""
    image = np.asarray(samples.inputs["image"][row])
    return image.reshape(THUMBNAIL_PX, IMAGE_PX // THUMBNAIL_PX, THUMBNAIL_PX, -1).mean(axis=(1, 3)).round().astype(np.uint8)


def sample_panels(samples: Samples, row: int, say: Say = english) -> list[Panel]:
    """Panels of one sample."""
    record, image = samples.table.iloc[row], np.asarray(samples.inputs["image"][row])
    nm = float(record.get("nm_per_px", np.nan))
    panels = [whole_panel(record, say), seen_panel(image, nm, say), spectrum_panel(image, nm, say), histogram_panel(image, say)]
    known = {channel: float(record.get(TRUE + channel, np.nan)) for channel in CHANNELS}
    if np.isfinite(list(known.values())).any():
        panels.append(targets_panel(known, say))
    return [panel for panel in [*panels, facts_panel(record, say)] if panel is not None]


# --- pictures ---------------------------------------------------------------------------------------------------------
def whole_panel(record: pd.Series, say: Say) -> Panel | None:
    """The file's whole picture with what was cut away; None for a picture without a file, as a simulated one."""
    path = str(record.get("path", "") or "")
    if not path:
        return None
    title = say("The file")
    try:
        levels = open_picture(Path(path), str(record.get("image", record["file"]))).levels
    except InputError:
        return Panel("whole", title, say("The file is no longer there, so only what the network sees can be shown."))
    height, width = levels.shape
    bar, side = int(record["info_bar_px"]), float(record["cut_px"])
    y, x = float(record["cut_y_px"]), float(record["cut_x_px"])
    step = max(1, -(-max(levels.shape) // SHOWN_PX))
    fig = figures.figure(height=430)
    shown = np.asarray(Image.fromarray(levels).reduce(step)) if step > 1 else levels
    picture = figures.image(shown, colours="gray", lo=0, hi=255)
    picture.update(x0=(step - 1) / 2, y0=(step - 1) / 2, dx=step, dy=step)
    fig.add_trace(picture)
    box = {"x0": x - 0.5, "x1": x + side - 0.5, "y0": y - 0.5, "y1": y + side - 0.5}
    fig.add_shape(type="rect", **box, line={"color": figures.ACCENT, "width": 2})
    told = say("Green: the square that the network sees.")
    if bar:
        band = {"x0": -0.5, "x1": width - 0.5, "y0": height - bar - 0.5, "y1": height - 0.5}
        fig.add_shape(type="rect", **band, line_width=0, fillcolor=figures.ORANGE, opacity=0.35)
        source = {
            "file": say("the file tells it"),
            "picture": say("found in the picture: check it"),
            "user": say("as you set it"),
        }
        told += " " + say("Orange: {bar} px of information bar ({source}).", bar=bar, source=source.get(record["bar_from"], ""))
    if float(record["scale_bar_px"]) > 0:
        told += " " + say("A scale bar of {n} px lies inside.", n=f"{record['scale_bar_px']:g}")
    figures.pixel_axes(fig, (height, width))
    return Panel("whole", title, fig, told + " " + say("Another bar: set info_bar_px, 0 for none, and read the files again."))


def seen_panel(image: np.ndarray, nm_per_px: float, say: Say) -> Panel:
    """The 256 × 256 px that a network sees, with axes in µm where the scale is known."""
    fig = figures.figure(height=430)
    picture = figures.image(image, colours="gray", lo=0, hi=255)
    fig.add_trace(picture)
    figures.pixel_axes(fig, (IMAGE_PX, IMAGE_PX))
    text = say("256 × 256 px; nm per px is not known.")
    if np.isfinite(nm_per_px):
        um = nm_per_px / 1000
        picture_um = {"x0": um / 2, "y0": um / 2, "dx": um, "dy": um, "hovertemplate": "%{x:.2f} µm, %{y:.2f} µm<extra></extra>"}
        fig.update_traces(**picture_um)
        fig.update_xaxes(range=[0, IMAGE_PX * um], title_text="x (µm)").update_yaxes(
            range=[IMAGE_PX * um, 0], title_text="y (µm)"
        )
        text = say("256 × 256 px of {nm} nm.", nm=f"{nm_per_px:.4g}")
    return Panel("seen", say("What the network sees"), fig, text)


# --- curves -----------------------------------------------------------------------------------------------------------
def spectrum_panel(image: np.ndarray, nm_per_px: float, say: Say) -> Panel:
    """Radial power spectrum over the period, with the main period, the noise and the finest detail."""
    found = looks.look(image[None])
    radial, reading = found.radial[0], found.readings.iloc[0]
    known = np.isfinite(nm_per_px)
    unit, factor = ("nm", nm_per_px) if known else ("px", 1.0)
    period = IMAGE_PX / np.arange(1, looks.RINGS + 1) * factor
    fig = figures.figure(xaxis_title=say("period ({unit})", unit=unit), yaxis_title=say("power (grey levels²)"), height=340)
    fig.add_scatter(x=period, y=radial, mode="lines", line_color=figures.ACCENT, showlegend=False)
    fig.add_hline(y=float(reading["noise_grey"]) ** 2, line_dash="dot", line_color=figures.GREY, annotation_text=say("noise"))
    marks = {
        say("main period"): (reading["period_px"], figures.ORANGE),
        say("finest detail"): (reading["detail_px"], figures.BLUE),
    }
    for name, (at, colour) in marks.items():
        if np.isfinite(at):
            fig.add_vline(x=at * factor, line_dash="dash", line_color=colour, annotation_text=say(name))
    fig.update_xaxes(type="log", autorange="reversed").update_yaxes(type="log")
    main = f"{reading['period_px'] * factor:.4g} {unit}" if np.isfinite(reading["period_px"]) else say("none")
    text = say("Main period: {main}. Finest detail: {detail}.", main=main, detail=f"{reading['detail_px'] * factor:.3g} {unit}")
    return Panel("spectrum", say("Radial spectrum"), fig, text)


def histogram_panel(image: np.ndarray, say: Say) -> Panel:
    """How many pixels have which grey value."""
    counts = np.bincount(image.ravel(), minlength=256)
    fig = figures.figure(xaxis_title=say("grey value"), yaxis_title=say("pixels"), height=340)
    colours = [figures.ORANGE if level in (0, 255) else figures.ACCENT for level in range(256)]
    fig.add_trace(go.Bar(x=np.arange(256), y=counts, width=1, marker={"color": colours, "line_width": 0}, showlegend=False))
    share = 100 * (counts[0] + counts[255]) / image.size
    text = say("Mean {mean}, standard deviation {std}; black or white: {share} %.", mean=f"{image.mean():.1f}",
               std=f"{image.std():.1f}", share=f"{share:.2g}")  # fmt: skip
    return Panel("histogram", say("Grey values"), fig, text)


def targets_panel(known: dict[str, float], say: Say) -> Panel:
    """The ten targets as bars."""
    fig = figures.figure(yaxis_title=say("target (%)"), height=340)
    values = [100 * value for value in known.values()]
    fig.add_bar(x=list(known), y=values, marker_color=[BAND_COLOURS[channel] for channel in known], showlegend=False)
    fig.update_xaxes(type="category")
    return Panel("targets", say("Targets"), fig, say("Measured or simulated; a gap was not measured."))


def facts_panel(record: pd.Series, say: Say) -> Panel:
    """What is known of a sample, as a table."""
    lines: dict[str, str] = {}
    for name, column in (("picture", "image"), ("specimen", "specimen"), ("kind", "kind"), ("part of a split", "split")):
        lines[say(name)] = str(record.get(column, "") or "")
    if np.isfinite(source := float(record.get("source_nm_per_px", np.nan))):
        lines[say("nm per px of the file")] = f"{source:.5g} ({say(str(record['scale_from']))})"
    if np.isfinite(width := float(record.get("width_px", np.nan))):
        lines[say("size of the file")] = f"{width:.0f} × {float(record['height_px']):.0f} px"
    lines |= {say(name): text for name, text in json.loads(record.get("instrument", "") or "{}").items()}
    for name in (*VISIBLE, *HIDDEN):
        value = record.get(name)
        if isinstance(value, int | float | np.number) and np.isfinite(value):
            lines[name] = f"{value:.4g}"
    lines[say("note")] = str(record.get("note", ""))
    shown = {name: text for name, text in lines.items() if text}
    return Panel("facts", say("What is known"), pd.DataFrame({say("what"): list(shown), say("value"): list(shown.values())}))
