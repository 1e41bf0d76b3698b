"""The pictures of one sample: its spectra among all others, its readings, and what preprocessing makes of it.

What channels and their readings are called on every figure of this task is said here too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel, Samples
from lib.tasks.spectra.clean import BRIX, CARRIED, TRANSMITTANCE, Axis, axes_of, filled, inspect, some_rows
from lib.tasks.spectra.preprocess import STEPS, Derivative
from lib.tasks.spectra.table import DATE, GROUP, INSTRUMENT, PROVENANCE, SAMPLE, SEVERITY, TYPE
from lib.words import Say, english

THUMBNAIL_PX = (48, 96)  # height, width
CURVE, BELOW, BETWEEN = 255, 70, 40  # grey of a curve, of the area below it, and of the line between channels
BAND_ROWS = 2000  # rows that the median and the band are taken of
MOST_CHANNELS, PREVIEWED_CHANNELS = 6, 4
FEWEST_POINTS = 5  # a spectrum shorter than this has no derivative and no baseline worth a look


# --- words ------------------------------------------------------------------------------------------------------------
def channel_title(axis: Axis, say: Say) -> str:
    """What a channel is called."""
    if axis.counts:
        return say("excitation {name} nm", name=axis.name)
    return say("LSPR") if axis.name == "lspr" else say("channel {name}", name=axis.name)


def axis_title(axis: Axis, say: Say) -> str:
    """Title of the axis of positions, with its unit."""
    if axis.counts:
        return say("emission (nm)")
    if axis.unit == "cm⁻¹":
        return say("wavenumber (cm⁻¹)")
    return say("wavelength ({unit})", unit=axis.unit) if axis.unit else say("position (as in the file)")


def value_title(axis: Axis, say: Say) -> str:
    """Title of the axis of readings, with its unit."""
    if axis.counts:
        return say("reading (counts)")
    return say("absorbance (AU)") if axis.name == "lspr" else say("reading (unit of the file)")


def integral_title(axis: Axis, say: Say) -> str:
    """Title of an axis of integrals, with its unit."""
    if axis.counts:
        return say("integral, excitation {name} nm (counts·nm)", name=axis.name)
    if axis.name == "lspr":
        return say("integral, LSPR (AU·{unit})", unit=axis.unit or "nm")
    return say("integral, channel {name} (unit of the file)", name=axis.name)


def maximum_title(axis: Axis, say: Say) -> str:
    """Title of an axis of largest readings, with its unit."""
    if axis.counts:
        return say("largest reading, excitation {name} nm (counts)", name=axis.name)
    if axis.name == "lspr":
        return say("largest absorbance, LSPR (AU)")
    return say("largest reading, channel {name} (unit of the file)", name=axis.name)


def two_lines(title: str) -> str:
    """A title of axes beside each other, broken after its first words so that neighbours do not meet."""
    return title.replace(", ", "<br>", 1)


def see_through(colour: str, share: float = 0.18) -> str:
    """A colour #rrggbb that lets most of what lies below shine through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


# --- contact sheet ----------------------------------------------------------------------------------------------------
def thumbnail(samples: Samples, row: int) -> np.ndarray:
    """uint8 (48, 96): the curves of all channels side by side.

    Fluorescence channels share one scale, so that their sizes compare, and scattered light above it is cut; every other
    channel has its own, from its least value.
    """
    height, width = THUMBNAIL_PX
    picture = np.zeros(THUMBNAIL_PX, dtype=np.uint8)
    axes = axes_of(samples)[:MOST_CHANNELS]
    spectra = [np.nan_to_num(np.asarray(samples.inputs[axis.name][row], dtype=np.float32)) for axis in axes]
    top = max((float(spectrum[axis.away].max()) for axis, spectrum in zip(axes, spectra) if axis.counts), default=0.0)
    edges = np.linspace(0, width, len(axes) + 1).astype(int)
    for axis, spectrum, left, right in zip(axes, spectra, edges, edges[1:]):
        low, high = (0.0, top) if axis.counts else (float(spectrum.min()), float(spectrum.max()))
        picture[:, left:right] = _curve(spectrum, low, high, height, right - left)
        picture[:, left : left + (left > 0)] = BETWEEN
    return picture


def _curve(spectrum: np.ndarray, low: float, high: float, height: int, width: int) -> np.ndarray:
    """uint8 (height, width): a spectrum (P,) between two values; a column shows all points that fall into it."""
    starts = np.arange(width) * len(spectrum) // width
    scaled = np.clip((spectrum - low) / (high - low if high > low else 1.0), 0, 1)
    level = height - 1 - np.rint(scaled * (height - 1)).astype(int)
    upper, lower = np.minimum.reduceat(level, starts), np.maximum.reduceat(level, starts)
    joint = level[np.maximum(starts - 1, 0)]  # the last point of the column before, so that steep flanks are joined
    upper, lower = np.minimum(upper, joint), np.maximum(lower, joint)
    y = np.arange(height)[:, None]
    return np.where(y < upper, 0, np.where(y <= lower, CURVE, BELOW)).astype(np.uint8)


# --- one sample -------------------------------------------------------------------------------------------------------
def sample_panels(samples: Samples, row: int, say: Say = english) -> list[Panel]:
    """One sample among all others: spectra over the table's median and band, readings, preprocessing."""
    one = samples.take([row])
    name = str(one.table[SAMPLE].iloc[0]) if SAMPLE in one.table else str(row + 1)
    fig, outside = _spectra(samples, row, say)
    readings = inspect(one).drop(columns=["file", SAMPLE, "duplicate_of", "distance"], errors="ignore").iloc[0]
    return [
        Panel(
            "spectra", say("Spectra of sample {name}", name=name), fig,
            say("Coloured: this sample. Grey: the median of the table and the band that holds the middle 90 % at each position, "
                "of at most {rows} samples; where light is scattered the band may be cut.", rows=BAND_ROWS), True,
        ),
        Panel(
            "readings", say("Readings of sample {name}", name=name), _readings(readings, axes_of(samples), outside, say),
            str(one.table["note"].iloc[0] or "") if "note" in one.table else "",
        ),
        Panel(
            "preprocessing", say("What preprocessing makes of it"), preview(samples, row, say),
            say("Raw; SNV: less its mean, by its standard deviation, so that size and offset are gone; first derivative "
                "(Savitzky–Golay): offset gone, edges stand out; baseline (ArPLS) taken off: what is broad is gone too."), True,
        ),
    ]  # fmt: skip


def band(samples: Samples, axis: Axis) -> np.ndarray:
    """5 %, 50 % and 95 % quantiles (3, P) of the readings at each position, of at most `BAND_ROWS` rows."""
    values = np.asarray(samples.inputs[axis.name][some_rows(len(samples), BAND_ROWS)], dtype=np.float32)
    values = filled(values, axis.positions)
    values = values[np.isfinite(values).all(axis=1)]
    return np.quantile(values, (0.05, 0.5, 0.95), axis=0) if len(values) else np.full((3, len(axis.positions)), np.nan)


def grid(count: int, columns: int = 0, height: int = 270) -> tuple[go.Figure, list[dict[str, int]]]:
    """A figure of `count` axes in 2 or 3 columns, each `height` px high with its titles, and the cell of each."""
    columns = min(columns or (2 if count in (2, 4) else 3), count)
    rows = -(-count // columns)
    height += 16  # for titles of two lines
    fig = figures.subplots(rows, columns, horizontal_spacing=0.1 if columns > 1 else 0, vertical_spacing=92 / (height * rows))
    fig.update_layout(height=80 + height * rows, margin={"t": 48})
    return fig, [{"row": i // columns + 1, "col": i % columns + 1} for i in range(count)]


def _spectra(samples: Samples, row: int, say: Say) -> tuple[go.Figure, dict[str, float]]:
    """The sample's channels over the table's; and in each the share of points outside the band, in %."""
    axes = axes_of(samples)[:MOST_CHANNELS]
    fig, cells = grid(len(axes), 2, 250)
    outside: dict[str, float] = {}
    for axis, cell in zip(axes, cells):
        low, median, high = band(samples, axis).astype(np.float32)
        values = np.asarray(samples.inputs[axis.name][row], dtype=np.float32)
        x, legend = axis.positions.astype(np.float32), cell == {"row": 1, "col": 1}
        fig.add_scatter(
            x=np.r_[x, x[::-1]], y=np.r_[low, high[::-1]], mode="lines", line_width=0, fill="toself", hoverinfo="skip",
            fillcolor=see_through(figures.GREY, 0.28), name=say("5–95 % of the table"), showlegend=legend,
            legendgroup="band", **cell,
        )  # fmt: skip
        grey = {"color": figures.GREY, "width": 1.5, "dash": "dot"}
        fig.add_scatter(
            x=x, y=median, mode="lines", line=grey, name=say("median"), showlegend=legend, legendgroup="median", **cell
        )
        fig.add_scatter(
            x=x, y=values, mode="lines", line={"color": figures.ACCENT, "width": 1.8}, name=say("this sample"),
            showlegend=legend, legendgroup="sample", **cell,
        )  # fmt: skip
        fig.update_xaxes(title_text=two_lines(axis_title(axis, say) + ", " + channel_title(axis, say)), **cell)
        fig.update_yaxes(title_text=value_title(axis, say), **cell)
        seen = np.isfinite(values)
        if axis.counts and seen.any():  # else the band's scattered light would set the scale
            top = max(float(values[seen].max()), float(np.nan_to_num(high[axis.away]).max()))
            fig.update_yaxes(range=[min(0.0, float(values[seen].min())), 1.1 * top], **cell)
        outside[axis.name] = 100 * float(np.mean((values < low)[seen] | (values > high)[seen])) if seen.any() else np.nan
    return fig, outside


def reading_titles(axes: list[Axis], say: Say) -> dict[str, str]:
    """What each reading of a sample, or column that it carries, is called, with its unit."""
    titles: dict[str, str] = {}
    for axis in axes:
        titles |= {axis.maximum: maximum_title(axis, say), axis.integral: integral_title(axis, say)}
        if axis.excitation_place is not None:
            titles[axis.at_excitation] = say("reading at the excitation, {name} nm (counts)", name=axis.name)
    return titles | {
        "saturated_points": say("points on a plateau"),
        "negative_percent": say("points below zero (%)"),
        "missing_points": say("missing points"),
        "distance": say("distance from the median shape (relative)"),
        TRANSMITTANCE: say("transmittance (%)"),
        BRIX: say("dissolved sugar (°Brix)"),
        SEVERITY: say("severity"), TYPE: say("defect type"), PROVENANCE: say("judged by"), INSTRUMENT: say("instrument"),
        GROUP: say("specimen"), DATE: say("measured at"),
    }  # fmt: skip


def _readings(readings: pd.Series, axes: list[Axis], outside: dict[str, float], say: Say) -> pd.DataFrame:
    """Readings of one sample in words."""
    titles = reading_titles(axes, say)
    rows = [(titles.get(str(name), str(name)), _shown(value)) for name, value in readings.items() if name not in CARRIED]
    rows += [
        (say("points outside the band of the table, {channel} (%)", channel=channel_title(axis, say)), _shown(outside[axis.name]))
        for axis in axes
        if axis.name in outside
    ]
    rows += [(titles[name], _shown(readings[name])) for name in CARRIED if name in readings]
    return pd.DataFrame(rows, columns=[say("reading"), say("value")])


def number(value: float) -> str:
    """A number to read: five digits, large ones whole, with thin spaces."""
    return f"{value:,.0f}".replace(",", "\u2009") if 1e4 <= abs(value) < 1e9 else f"{value:.5g}"


def _shown(value: Any) -> str:
    """A cell of a table to read."""
    if pd.isna(value) or value == "":
        return "–"
    return number(value) if isinstance(value, float) else str(value)


def preview(samples: Samples, row: int, say: Say = english) -> go.Figure:
    """One sample raw and after each of three preprocessing steps (rows), for each channel (columns)."""
    axes = axes_of(samples)[:PREVIEWED_CHANNELS]
    fig = figures.subplots(4, len(axes), shared_xaxes=True, vertical_spacing=0.045, horizontal_spacing=0.08)
    titles = [
        say("raw (as read)"), say("SNV (relative)"), say("derivative (per point)"), say("less baseline (as read)"),
    ]  # fmt: skip
    for column, axis in enumerate(axes, 1):
        values = filled(np.asarray(samples.inputs[axis.name][row], dtype=float)[None], axis.positions)
        for number, (title, made) in enumerate(zip(titles, _preprocessed(values)), 1):
            cell = {"row": number, "col": column}
            line = {"color": figures.GREY if number == 1 else figures.ACCENT, "width": 1.5}
            x, y = axis.positions.astype(np.float32), made.astype(np.float32)
            fig.add_scatter(x=x, y=y, mode="lines", line=line, name=title, showlegend=False, **cell)
            fig.update_yaxes(title_text=title.replace(" (", "<br>(") if column == 1 else "", **cell)
        fig.update_xaxes(title_text=two_lines(axis_title(axis, say) + ", " + channel_title(axis, say)), row=4, col=column)
    return fig.update_layout(height=640, margin={"t": 16})


def _preprocessed(values: np.ndarray) -> list[np.ndarray]:
    """A spectrum (1, P) raw, after SNV, as first derivative, less its baseline: (P,) each; NaN where it cannot be."""
    nothing = np.full(values.shape[1], np.nan)
    if not np.isfinite(values).all() or values.shape[1] < FEWEST_POINTS:
        return [values[0], nothing, nothing, nothing]
    steps = [STEPS["snv"](), Derivative(), STEPS["baseline"]()]
    return [values[0], *(np.asarray(step.fit(values).transform(values))[0] for step in steps)]
