"""How every figure of the bench looks: one Plotly template in light and dark, PNG images, contact sheets.

A figure is built without a template and without any paper, ink or grid colour of its own; the page that shows it calls
`themed`. Data colours come from `COLOURS`, which read alike on white and on near-black.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb
from plotly.io.json import to_json_plotly
from plotly.subplots import make_subplots

from lib.panels import Reel

Mode = Literal["light", "dark"]

FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# After Okabe & Ito (2008), told apart by colour-blind readers. The first is the brand's teal and means "ours";
# each keeps a contrast of about 3:1 on white and on the dark page.
COLOURS: tuple[str, ...] = ("#0E9384", "#D55E00", "#2F7FC4", "#C58A00", "#B5609A", "#4BA3D9", "#7A8794")
ACCENT, ORANGE, BLUE, AMBER, PURPLE, SKY, GREY = COLOURS
GAP_LEVEL = 90  # grey between pictures, seen on light and dark pages
SEQUENTIAL = "Viridis"
DIVERGING = "RdBu"

_INK = {
    "light": {"ink": "#1F2933", "soft": "#52606D", "grid": "#E4E8EC", "line": "#9AA5B1", "raised": "#FFFFFF", "idle": "#F1F4F6"},
    "dark": {"ink": "#E6EAEE", "soft": "#A9B4BF", "grid": "#2A333C", "line": "#5C6975", "raised": "#1B232B", "idle": "#26303A"},
}


def _template(mode: Mode) -> go.layout.Template:
    """The template of one mode. Papers are clear, so that a figure sits on whatever page shows it."""
    ink = _INK[mode]
    stops = np.linspace(0, 1, 11).tolist()  # spelt out, because a template cannot name a scale that Plotly.js does not know
    viridis = list(zip(stops, sample_colorscale(SEQUENTIAL, stops)))
    axis = {
        "gridcolor": ink["grid"], "linecolor": ink["line"], "tickcolor": ink["line"], "zeroline": False, "showline": True,
        "ticks": "outside", "ticklen": 4, "automargin": True, "exponentformat": "power",
        "title": {"standoff": 8, "font": {"size": 13, "color": ink["ink"]}}, "tickfont": {"size": 12, "color": ink["soft"]},
    }  # fmt: skip
    colorbar = {"outlinewidth": 0, "thickness": 12, "ticklen": 4, "tickfont": {"size": 11, "color": ink["soft"]}}
    control = {"font": {"size": 12, "color": ink["ink"]}, "bordercolor": ink["line"], "bgcolor": ink["idle"]}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": ink["ink"]},
            "title": {"font": {"size": 15}, "x": 0, "xref": "paper", "xanchor": "left"},
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(COLOURS), "xaxis": axis, "yaxis": axis,
            "colorscale": {"sequential": SEQUENTIAL, "diverging": DIVERGING}, "coloraxis": {"colorbar": colorbar},
            "hoverlabel": {"bgcolor": ink["raised"], "bordercolor": ink["line"], "font": {"color": ink["ink"], "family": FONT}},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
            "annotationdefaults": {"font": {"size": 12, "color": ink["soft"]}, "arrowcolor": ink["soft"]},
            "shapedefaults": {"line": {"color": ink["line"]}},
            "sliderdefaults": control | {"activebgcolor": ACCENT, "tickcolor": ink["line"], "borderwidth": 1},
            "updatemenudefaults": control | {"borderwidth": 1},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": ink["line"], "activecolor": ACCENT},
        },
        data={
            **{kind: [{"colorbar": colorbar, "colorscale": viridis}] for kind in ("heatmap", "contour", "histogram2d")},
            "histogram": [{"marker": {"line": {"width": 0}}}],
            "scatter": [{"marker": {"size": 6}, "line": {"width": 2}}],
        },
    )  # fmt: skip


TEMPLATES: dict[Mode, go.layout.Template] = {"light": _template("light"), "dark": _template("dark")}


def figure(**layout: Any) -> go.Figure:
    """An empty figure with compact margins; `themed` sets its template, and `layout` goes to `update_layout` as it stands."""
    top = 48 if layout.get("title") else 32
    defaults: dict[str, Any] = {"height": 360, "margin": {"l": 56, "r": 16, "t": top, "b": 48}, "template": "none"}
    return go.Figure(layout=defaults).update_layout(**layout)


def subplots(rows: int, columns: int, **options: Any) -> go.Figure:
    """`figure` with a grid of axes; `options` go to Plotly's `make_subplots`."""
    return make_subplots(rows, columns, figure=figure(), **options)


def themed(fig: go.Figure, mode: Mode) -> go.Figure:
    """A copy of the figure with the template of that mode."""
    return go.Figure(fig, skip_invalid=True).update_layout(template=TEMPLATES[mode])


def themed_json(fig: go.Figure, mode: Mode, **layout: Any) -> str:
    """What Plotly.js takes, with the template of that mode and `layout` set: `themed` without a copy that is checked again."""
    spec = fig.to_plotly_json()
    spec["layout"] |= {"template": TEMPLATES[mode].to_plotly_json(), **layout}
    return str(to_json_plotly(spec))


def grey_levels(array: np.ndarray, lo: float | None = None, hi: float | None = None) -> np.ndarray:
    """uint8 of any shape: `lo` (default: the smallest finite value) is 0 and `hi` (the largest) is 255; NaN is 0."""
    if array.dtype == np.uint8 and lo is None and hi is None:
        return array
    if lo is None or hi is None:
        finite = array[np.isfinite(array)]
        lo = lo if lo is not None else float(finite.min()) if finite.size else 0
        hi = hi if hi is not None else float(finite.max()) if finite.size else 1
    exact = array if array.dtype == np.float32 else array.astype(float)
    scaled = (exact - float(lo)) * float(255 / (hi - lo if hi > lo else 1))
    return np.nan_to_num(scaled, copy=False, posinf=255, neginf=0).clip(0, 255, out=scaled).round(out=scaled).astype(np.uint8)


def contact_sheet(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Grey levels (n, h, w) as one picture, `columns` side by side, a pixel apart."""
    count, height, width = pictures.shape
    sheet = np.full((-(-count // columns) * (height + 1) - 1, min(count, columns) * (width + 1) - 1), GAP_LEVEL, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def reel(frames: np.ndarray, title: str = "", *, zoom: float = 1, columns: int = 8, colours: str = "gray") -> Reel:
    """Grey levels (n, h, w) as the frames of a film; `zoom` of their pixels stand for one of the detector."""
    height, width = frames.shape[1:]
    return Reel(png(contact_sheet(frames, columns), colours=colours), width, height, title, zoom, columns)


def _palette(colours: str) -> list[int]:
    """256 RGB triples of a Plotly colour scale, flat as PNG palettes are."""
    scale = sample_colorscale(colours, np.linspace(0, 1, 256).tolist())
    return [round(channel) for colour in scale for channel in unlabel_rgb(colour)]


def png(levels: np.ndarray, *, colours: str = "gray", scale: int = 1) -> bytes:
    """PNG of uint8 grey levels (h, w) or RGB (h, w, 3), each pixel `scale` screen pixels wide."""
    picture = Image.fromarray(np.ascontiguousarray(levels))
    if colours != "gray" and levels.ndim == 2:
        picture.putpalette(_palette(colours))
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)  # a tenth larger than the best, in a third of the time
    return buffer.getvalue()


def image(
    array: np.ndarray, *, lo: float | None = None, hi: float | None = None, colours: str = "Viridis", scale: int = 1
) -> go.Image:
    """A picture (h, w) or RGB uint8 (h, w, 3) as a PNG trace: pixel (row, column) is centred on y = row, x = column.

    `lo` and `hi` are the values of the first and last colour, by default the array's own; `colours` is "gray" or a
    Plotly colour scale. A PNG is some hundred times smaller in the page than a heatmap. Set the axes with `pixel_axes`.
    """
    source = "data:image/png;base64," + base64.b64encode(png(grey_levels(array, lo, hi), colours=colours, scale=scale)).decode()
    step, first = 1 / scale, -0.5 + 0.5 / scale
    place = {"x0": first, "y0": first, "dx": step, "dy": step}
    return go.Image(source=source, hovertemplate="x %{x:.0f} px<br>y %{y:.0f} px<extra></extra>", **place)


def pixel_axes(fig: go.Figure, shape: tuple[int, int], *, title: bool = True, **cell: Any) -> go.Figure:
    """Axes in pixels for an `image` of `shape` (h, w): square pixels, y downwards, no grid. `cell` is row and col."""
    height, width = shape
    plain = {"showgrid": False, "constrain": "domain", "ticks": "outside"}
    names = ("x (px)", "y (px)") if title else ("", "")
    fig.update_xaxes(range=[-0.5, width - 0.5], title_text=names[0], **plain, **cell)
    fig.update_yaxes(range=[height - 0.5, -0.5], title_text=names[1], **plain, **cell)
    for axis in fig.select_yaxes(**cell):
        axis.scaleanchor, axis.scaleratio = axis.plotly_name.replace("yaxis", "x"), 1
    return fig


def curves(metrics: pd.DataFrame, columns: Mapping[str, str], y_title: str, best_epoch: int | None = None) -> go.Figure:
    """Columns of metrics.csv against the epoch: `columns` maps each to its legend; the best epoch is marked.

    The y axis is logarithmic where all values are positive and span more than a factor 20.
    """
    fig = figure(xaxis_title="epoch", yaxis_title=y_title, height=320, hovermode="x unified")
    shown = {column: legend for column, legend in columns.items() if column in metrics}
    colours = (GREY, ACCENT, ORANGE, BLUE, PURPLE) if len(shown) > 1 else (ACCENT,)
    for colour, (column, legend) in zip(colours, shown.items()):
        fig.add_scatter(
            x=metrics["epoch"], y=metrics[column], name=legend, mode="lines+markers", line_color=colour, marker_size=4
        )
    values = metrics[list(shown)].to_numpy(float)
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 20 * values.min():
        fig.update_yaxes(type="log", dtick="D2" if values.max() < 1000 * values.min() else 1)
    if best_epoch is not None and len(metrics):
        fig.add_vline(x=best_epoch, line_dash="dot", line_width=1, annotation_text="best", annotation_position="top")
    return fig
