"""Pictures of one frame, and of a run: the frame with its peaks and rings, its radial profile, its histogram."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel, View
from lib.tasks.bragg.frames import Frame
from lib.words import Say, english

SHOWN_PX = 1024  # larger frames are shown smaller, each pixel the largest of those it stands for
THUMBNAIL_PX = 96
RINGS_ANGSTROM = (50.0, 20.0, 10.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.7, 1.5, 1.2, 1.0)
MOST_RINGS = 5
MASKED_LEVEL = 60
RING_COLOUR = "#8FC7FF"  # light, as it lies on a dark picture in both themes
DARKEST, BRIGHTEST = 0.02, 0.9995  # quantiles of the good pixels
BINS = 120
STRONG_SNR = 8.0


def shrunk(frame: Frame, most_px: int = SHOWN_PX) -> tuple[np.ndarray, np.ndarray, int]:
    """Pixels and mask with every `step` × `step` as one, its largest good value; and `step`."""
    step = max(1, -(-max(frame.mask.shape) // most_px))
    pixels = np.where(frame.mask, frame.pixels, -np.inf).astype(np.float32)
    if step > 1:
        height, width = (-(-side // step) * step for side in pixels.shape)
        padded = np.full((height, width), -np.inf, np.float32)
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        pixels = padded.reshape(height // step, step, width // step, step).max(axis=(1, 3))
    return pixels, np.isfinite(pixels), step


def levels(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 grey levels, bright on dark, logarithmic above the darkest few per cent; masked pixels are dark grey."""
    good = pixels[mask]
    if not good.size:
        return np.full(pixels.shape, MASKED_LEVEL, np.uint8)
    low, middle, high = np.quantile(good, (DARKEST, 0.5, BRIGHTEST))
    scale = max(float(middle - low), 1.0)
    shown = np.log1p(np.clip(np.where(mask, pixels, low) - low, 0, None) / scale)
    out = figures.grey_levels(shown, 0.0, float(np.log1p(max(high - low, 1e-6) / scale)))
    out[~mask] = MASKED_LEVEL
    return out


def thumbnail(frame: Frame) -> np.ndarray:
    """uint8 grey levels of the frame, small."""
    pixels, mask, _ = shrunk(frame, THUMBNAIL_PX)
    return levels(pixels, mask)


def frame_figure(
    frame: Frame, marks: Sequence[tuple[str, str, np.ndarray, np.ndarray]] = (), rings: bool = True, height: int = 720
) -> go.Figure:
    """The frame with marks, each a name, a colour and y and x in px, and rings of round resolutions."""
    pixels, mask, step = shrunk(frame)
    fig = figures.figure(height=height)
    picture = figures.image(levels(pixels, mask), colours="gray")
    centre = (step - 1) / 2  # of the pixels that one stands for
    picture.update(x0=centre, y0=centre, dx=step, dy=step)
    fig.add_trace(picture)
    if rings:
        _add_rings(fig, frame)
    for name, colour, y, x in marks:
        fig.add_scatter(
            x=x, y=y, mode="markers", name=f"{name} ({len(y)})", hovertemplate=f"{name}<br>x %{{x:.1f}} px<br>y %{{y:.1f}} px",
            marker={"symbol": "circle-open", "size": 11, "color": colour, "line": {"width": 1.5}},
        )  # fmt: skip
    figures.pixel_axes(fig, frame.mask.shape)
    return fig.update_layout(legend={"orientation": "h", "y": 1.04}, showlegend=bool(marks))


def _add_rings(fig: go.Figure, frame: Frame) -> None:
    """Rings of round resolutions that cross the frame, as one line, with their labels."""
    curves = [(d, frame.geometry.ring_yx(d)) for d in RINGS_ANGSTROM]
    seen = [(d, curve) for d, curve in curves if len(curve)]
    if not seen:
        return
    shown = [seen[place] for place in np.unique(np.linspace(0, len(seen) - 1, min(MOST_RINGS, len(seen))).round().astype(int))]
    y, x = np.concatenate([curve for _, curve in shown]).T
    line = {"color": RING_COLOUR, "width": 1.2, "dash": "dot"}
    fig.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    for d, curve in shown:
        low_y, low_x = curve[np.nanargmax(curve[:, 0])]
        fig.add_annotation(
            x=low_x, y=low_y, text=f"{d:g} Å", showarrow=False, font={"color": RING_COLOUR, "size": 11},
            bgcolor="rgba(0, 0, 0, 0.65)", borderpad=1,
        )  # fmt: skip


def radial_profile(frame: Frame) -> pd.DataFrame:
    """`radius_px, mean, largest` of the good pixels at each whole radius."""
    radius = np.rint(np.nan_to_num(frame.geometry.radius_px(), nan=-1)).astype(np.int64)
    good = frame.mask & (radius >= 0)
    n = np.bincount(radius[good])
    total = np.bincount(radius[good], frame.pixels[good].astype(float))
    largest = np.full(len(n), -np.inf)
    np.maximum.at(largest, radius[good], frame.pixels[good])
    some = n > 0
    return pd.DataFrame({"radius_px": np.flatnonzero(some), "mean": total[some] / n[some], "largest": largest[some]})


def profile_figure(frame: Frame, say: Say = english) -> go.Figure:
    """Mean and largest value over the distance from the beam."""
    table = radial_profile(frame)
    fig = figures.figure(xaxis_title=say("distance from the beam (px)"), yaxis_title=say("value (ADU)"), height=320)
    fig.add_scattergl(x=table["radius_px"], y=table["largest"], name=say("largest"), mode="lines", line_color=figures.ORANGE)
    fig.add_scattergl(x=table["radius_px"], y=table["mean"], name=say("mean"), mode="lines", line_color=figures.ACCENT)
    return fig.update_yaxes(type="log") if table["mean"].min() > 0 else fig


def histogram_figure(frame: Frame, say: Say = english) -> go.Figure:
    """How many good pixels have which value: where a threshold would cut."""
    good = frame.pixels[frame.mask]
    fig = figures.figure(xaxis_title=say("value (ADU)"), yaxis_title=say("pixels"), height=320)
    if good.size:
        low, high = float(good.min()), float(good.max())
        shift = 1 - low if low < 1 else 0.0
        edges = np.geomspace(low + shift, max(high + shift, low + shift + 1), BINS) - shift
        n = np.histogram(good, edges)[0]
        fig.add_bar(x=(edges[1:] + edges[:-1]) / 2, y=n, width=np.diff(edges), marker_color=figures.ACCENT, showlegend=False)
    return fig.update_xaxes(type="log").update_yaxes(type="log")


def sample_panels(frame: Frame, say: Say = english) -> list[Panel]:
    """One frame as it is, with what stands out of its noise; radial profile; histogram."""
    from lib.tasks.bragg import candidates

    found = candidates.find(frame).table
    y, x = found["y_px"].to_numpy(), found["x_px"].to_numpy()
    strong = found["snr"].to_numpy() >= STRONG_SNR
    marks = [("SNR ≥ 8", figures.ORANGE, y[strong], x[strong])]
    told = say("Logarithmic. Circles: what stands out clearly, before any judgement; the Predict page says which are peaks.")
    if not frame.geometry.knows_resolution:
        told += " " + say("Rings need pixel size, distance and wavelength.")
    title = say("Frame {n}", n=frame.number)
    return [Panel("frame", title, frame_figure(frame, marks), told, wide=True), *value_panels(frame, say)]


def value_panels(frame: Frame, say: Say = english) -> list[Panel]:
    """Radial profile and histogram of one frame."""
    rings = say("Rings of water or ice stand out of the mean; peaks of the largest.")
    cut = say("Good pixels only. A threshold finder takes those right of its threshold.")
    return [
        Panel("profile", say("Radial profile"), profile_figure(frame, say), rings),
        Panel("histogram", say("Values"), histogram_figure(frame, say), cut),
    ]


def overview(readings: pd.DataFrame, keep: pd.Series, say: Say = english) -> list[View]:
    """Readings over the run; points can be picked."""
    over_run = {
        "mean_adu": (say("Brightness"), say("mean (ADU)")), "n_candidates": (say("Candidates"), say("candidates")),
        "max_adu": (say("Largest value"), say("largest (ADU)")),
        "saturated_percent": (say("Saturation"), say("saturated (%)")),
    }  # fmt: skip
    there = [name for name in over_run if name in readings and readings[name].notna().any()]
    return [View(over_run[name][0], partial(_over_run, readings, keep, name, *over_run[name], say)) for name in there]


def places_in_run(table: pd.DataFrame) -> np.ndarray:
    """Where frames (`file`, `frame`) stand in figures over the run: at their number; those of several files one after another."""
    return table["frame"].to_numpy(np.int64) if table["file"].nunique() == 1 else np.arange(len(table))


def _over_run(readings: pd.DataFrame, keep: pd.Series, name: str, title: str, axis: str, say: Say) -> Panel:
    fig = figures.figure(xaxis_title=say("frame of the run"), yaxis_title=axis)
    places = places_in_run(readings)
    for kept, colour, label in ((True, figures.ACCENT, say("kept")), (False, figures.GREY, say("dropped"))):
        rows = np.flatnonzero(keep.to_numpy(bool) == kept)
        if len(rows):
            fig.add_scattergl(
                x=places[rows], y=readings[name].to_numpy()[rows], customdata=rows, mode="markers", name=label,
                marker={"color": colour, "size": 5},
            )  # fmt: skip
    return Panel(name, title, fig, say("Each point is a frame. Draw a box to pick frames."), wide=True)
