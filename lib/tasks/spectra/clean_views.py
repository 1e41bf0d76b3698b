"""The pictures of a whole table of spectra: sizes, classes, drift, shapes; what is kept beside what is dropped.

Figures hold bins, quantiles or at most `POINTS` samples, so that a table of 300 000 rows draws as fast as one of 300.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from sklearn.decomposition import PCA

from lib import figures
from lib.task import Panel, Samples, View
from lib.tasks.spectra.clean import CARRIED, KNOWN_AS, PLATEAU_COUNTS, Axis, axes_of, filled, snv, some_rows, times
from lib.tasks.spectra.sample_views import (
    axis_title,
    channel_title,
    grid,
    integral_title,
    maximum_title,
    number,
    reading_titles,
    see_through,
    two_lines,
    value_title,
)
from lib.tasks.spectra.settings import Rules
from lib.tasks.spectra.table import ALGORITHM, INSPECTOR, INSTRUMENT, PROVENANCE, SAMPLE, SEVERITIES, SEVERITY, TYPE
from lib.words import Say, english

POINTS = 5000  # samples drawn one by one
FITTED = 2000  # samples that the principal components are fitted to
FARTHEST = 500  # of them, the ones with the oddest shape are always drawn
BINS, TIME_BINS = 60, 48
CORRELATED_ROWS = 20_000
CLEAR_CORRELATION = 0.2
EXTREMES = 3  # spectra at each end
MOST_CHANNELS, MOST_CLASSES, MOST_READINGS = 6, 7, 24
CLASS_COLOURS = {"NC": figures.ORANGE, "VR": figures.PURPLE, "CROCHET": figures.AMBER, "OK": figures.ACCENT}


# --- what the figures are drawn of ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Look:
    """A table to draw: its channels, readings (n rows, numbered from 0), kept rows (n,), the class of each row, and words.

    `classes` has "" where there is none; `order` names the classes from the worst to the best, or by their frequency.
    """

    samples: Samples
    axes: list[Axis]
    readings: pd.DataFrame
    keep: np.ndarray
    classes: np.ndarray
    order: list[str]
    rules: Rules
    say: Say

    def colour(self, name: str) -> str:
        """The colour of a class."""
        return CLASS_COLOURS.get(name) or figures.COLOURS[self.order.index(name) % len(figures.COLOURS)]

    def numbers(self, column: str) -> np.ndarray:
        """A reading as float (n,)."""
        return self.readings[column].to_numpy(float)


def classes_of(table: pd.DataFrame, by: str, say: Say = english) -> tuple[np.ndarray, list[str]]:
    """The class of each row (n,) as text, "" where it is missing, and the classes in order; rare ones become one."""
    if by not in table:
        return np.full(len(table), "", dtype=object), []
    names = table[by].astype(object).where(table[by].notna(), "").astype(str).to_numpy(object)
    counts = pd.Series(names[names != ""]).value_counts()
    if len(counts) > MOST_CLASSES:
        other = say("other")
        names = np.where((names == "") | np.isin(names, list(counts.index[: MOST_CLASSES - 1])), names, other)
        return names, [*counts.index[: MOST_CLASSES - 1], other]
    known = [name for name in SEVERITIES if name in counts]
    return names, [*known, *(name for name in counts.index if name not in known)]


def views(
    samples: Samples,
    readings: pd.DataFrame,
    keep: pd.Series,
    say: Say = english,
    rules: Rules | None = None,
    by: str = SEVERITY,
) -> list[View]:
    """Panels over all samples, each made when it is asked for; points that carry `customdata` are row numbers, to be picked.

    `rules` are those whose limits are drawn (by default the ones the page starts with), `by` the column of classes.
    """
    if len(samples) == 0:
        return []
    classes, order = classes_of(samples.table, by, say)
    plain, axes = readings.reset_index(drop=True), axes_of(samples)[:MOST_CHANNELS]
    look = Look(samples, axes, plain, keep.to_numpy(bool), classes, order, rules or Rules(), say)
    makers: dict[str, Callable[[Look, str], Panel]] = {
        say("Integrals"): _integrals, say("Largest readings"): _maxima,
        say("Samples by size"): _scatter, say("Samples by shape"): _scores,
    }  # fmt: skip
    of_kept = [*list(makers)[:3], say("Largest and smallest samples")]  # the others show all samples, kept or not
    if order:
        makers |= {say("Class and integral together"): _joint, say("Integral of each class"): _boxes}
    if order and {INSTRUMENT, PROVENANCE} & set(samples.table):
        makers[say("Samples of each class")] = _counts
    if times(plain) is not None:
        makers[say("Integrals over time")] = _drift
    makers |= {
        say("What goes together"): _correlations,
        say("Largest and smallest spectra"): _extreme_spectra, say("Largest and smallest samples"): _extremes_table,
    }  # fmt: skip
    return [
        View(title, partial(make, look, title), None if title in of_kept else "all samples") for title, make in makers.items()
    ]


def _bounds(values: np.ndarray, limit: float = np.nan) -> tuple[float, float]:
    """Range that shows 99 % of the values, and the limit where it is not far beyond them."""
    lo, hi = np.quantile(values, (0.005, 0.995)) if len(values) else (0.0, 1.0)
    if np.isfinite(limit) and limit < 3 * hi:
        lo, hi = min(lo, limit), max(hi, 1.05 * limit)
    return (float(lo), float(hi)) if hi > lo else (float(lo) - 0.5, float(lo) + 0.5)


def _add_shares(fig: go.Figure, values: np.ndarray, look: Look, cell: dict[str, int], limit: float = np.nan) -> None:
    """Distribution of a reading among the kept and among the dropped; what lies beyond the range is in the outer bins."""
    fine = np.isfinite(values)
    lo, hi = _bounds(values[fine], limit)
    edges = np.linspace(lo, hi, BINS + 1)
    middle = ((edges[1:] + edges[:-1]) / 2).astype(np.float32)
    for chosen, name, colour in (
        (look.keep, look.say("kept"), figures.ACCENT),
        (~look.keep, look.say("dropped"), figures.ORANGE),
    ):
        part = np.clip(values[chosen & fine], lo, hi)
        if len(part):
            share = np.histogram(part, edges)[0] * (100 / len(part))
            line = {"shape": "hvh", "color": colour, "width": 1.5}
            shown = cell == {"row": 1, "col": 1} or not any(trace.name == name for trace in fig.data)
            fig.add_scatter(
                x=middle, y=share.astype(np.float32), mode="lines", line=line, fill="tozeroy", name=name, legendgroup=name,
                showlegend=shown, **cell,
            )  # fmt: skip
    fig.update_yaxes(title_text=look.say("share of the kept, of the dropped (%)") if cell["col"] == 1 else "", **cell)


def _integrals(look: Look, title: str) -> Panel:
    """Distribution of the integral of each channel."""
    fig, cells = grid(len(look.axes))
    for axis, cell in zip(look.axes, cells):
        least = getattr(look.rules, f"min_integral_{axis.name}", 0.0) if axis.counts else 0.0
        _add_shares(fig, look.numbers(axis.integral), look, cell, least or np.nan)
        fig.update_xaxes(title_text=two_lines(integral_title(axis, look.say)), **cell)
        if least:
            fig.add_vline(x=least, line_dash="dash", annotation_text=look.say("limit"), **cell)
    text = look.say(
        "How much light each channel holds, among the {kept} kept and the {dropped} dropped samples, each adding up to 100 %. "
        "The outermost bins hold the 1 % of samples beyond them.",
        kept=int(look.keep.sum()), dropped=int((~look.keep).sum()),
    )  # fmt: skip
    return Panel("integrals", title, fig, text, True)


def _maxima(look: Look, title: str) -> Panel:
    """Distribution of the largest reading of each channel, with its limit."""
    fig, cells = grid(len(look.axes))
    for axis, cell in zip(look.axes, cells):
        values = look.numbers(axis.maximum)
        limits: dict[str, float] = {}
        if axis.counts:
            limits = {look.say("limit"): getattr(look.rules, f"max_{axis.name}"), look.say("plateau"): PLATEAU_COUNTS}
        first = next(iter(limits.values()), np.nan)
        _add_shares(fig, values, look, cell, first)
        fig.update_xaxes(title_text=two_lines(maximum_title(axis, look.say)), **cell)
        hi = _bounds(values[np.isfinite(values)], first)[1]
        for name, limit in limits.items():
            if limit <= hi:
                fig.add_vline(x=limit, line_dash="dash", line_width=1.5, annotation_text=name, **cell)
            elif limit == first:
                fig.add_annotation(
                    x=1, y=1, xref="x domain", yref="y domain", showarrow=False, xanchor="right",
                    text=look.say("limit {limit} is further right", limit=f"{limit:g}"), **cell,
                )  # fmt: skip
    text = look.say(
        "The largest reading of each spectrum, with the highest that the rules keep. Scattered light at the excitation makes "
        "the long tail. The outermost bins hold the 1 % of samples beyond them."
    )
    return Panel("maxima", title, fig, text, True)


# --- samples one by one -----------------------------------------------------------------------------------------------
def drawn_rows(readings: pd.DataFrame) -> np.ndarray:
    """At most `POINTS` rows, increasing: the `FARTHEST` of the largest `distance`, the others by chance but always the same."""
    n = len(readings)
    if n <= POINTS or "distance" not in readings:
        return some_rows(n, POINTS)
    off = np.nan_to_num(readings["distance"].to_numpy(float), nan=np.inf)
    odd = np.argpartition(off, n - FARTHEST)[n - FARTHEST :]
    others = np.setdiff1d(np.arange(n), odd)
    return np.sort(np.concatenate([odd, others[some_rows(len(others), POINTS - FARTHEST)]]))


def _points_text(look: Look, drawn: int) -> str:
    n = len(look.readings)
    if drawn == n:
        return look.say("All {n} samples are drawn.", n=n)
    return look.say("{drawn} of {n} samples are drawn: the {odd} of the oddest shape and others by chance.", drawn=drawn,
                    n=n, odd=FARTHEST)  # fmt: skip


def _add_points(fig: go.Figure, look: Look, x: np.ndarray, y: np.ndarray, rows: np.ndarray, name: str, colour: str) -> None:
    """One dot per sample; `customdata` is its row."""
    marker = {"size": 4.5, "color": colour, "opacity": 0.65}
    names = look.samples.table[SAMPLE].iloc[rows].astype(str).tolist() if SAMPLE in look.samples.table else None
    fig.add_scattergl(
        x=x.astype(np.float32), y=y.astype(np.float32), mode="markers", marker=marker, name=name,
        customdata=rows.astype(np.int32), text=names, hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
    )  # fmt: skip


def _scatter(look: Look, title: str) -> Panel:
    """Two integrals against each other, or integral and largest reading where there is one channel."""
    first, say = look.axes[0], look.say
    second = look.axes[1] if len(look.axes) > 1 else None
    x = look.numbers(first.integral)
    y = look.numbers(second.integral if second else first.maximum)
    rows = drawn_rows(look.readings)
    fig = figures.figure(
        height=420,
        xaxis_title=integral_title(first, say),
        yaxis_title=integral_title(second, say) if second else maximum_title(first, say),
    )
    for chosen, name, colour in ((look.keep, say("kept"), figures.ACCENT), (~look.keep, say("dropped"), figures.ORANGE)):
        part = rows[chosen[rows]]
        if len(part):
            _add_points(fig, look, x[part], y[part], part, name, colour)
    text = say("One point per sample: pick points to look at them, or to drop them.") + " " + _points_text(look, len(rows))
    return Panel("scatter", title, fig, text)


def scores(samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First two principal components (n, 2) of these rows' spectra after SNV, all channels side by side, and their shares (2,).

    A missing spectrum counts as flat. Fitted to at most `FITTED` of them, with a fixed seed.
    """
    parts = []
    for axis in axes_of(samples):
        values = filled(np.asarray(samples.inputs[axis.name][rows], dtype=np.float32), axis.positions)
        parts.append(snv(np.nan_to_num(values)))
    together = np.concatenate(parts, axis=1)
    found, share = np.zeros((len(rows), 2)), np.zeros(2)
    count = min(2, len(rows) - 1, together.shape[1])
    if count > 0 and float(together.var(axis=0).max()) > 0:
        model = PCA(count, svd_solver="randomized", n_oversamples=6, iterated_power=2, random_state=0)
        model.fit(together[some_rows(len(rows), FITTED)])
        found[:, :count], share[:count] = model.transform(together), model.explained_variance_ratio_
    return found, share


def _scores(look: Look, title: str) -> Panel:
    """Samples by the shape of their spectra, coloured by class."""
    rows, say = drawn_rows(look.readings), look.say
    found, share = scores(look.samples, rows)
    components = [
        say("component {k} ({share} % of the variance)", k=k + 1, share=f"{100 * part:.0f}") for k, part in enumerate(share)
    ]
    fig = figures.figure(height=420, xaxis_title=components[0], yaxis_title=components[1])
    classes = look.classes[rows]
    for name in [*look.order[::-1], ""]:  # the rarest on top
        chosen = classes == name
        if chosen.any():
            colour = look.colour(name) if name else figures.GREY
            _add_points(fig, look, found[chosen, 0], found[chosen, 1], rows[chosen], name or say("without a class"), colour)
    text = say(
        "Spectra after SNV (size and offset taken out), seen from the two directions in which they differ most. Lone points are "
        "odd spectra; clouds apart may be instruments, harvests or classes. Pick points to look at them."
    )
    return Panel("scores", title, fig, text + " " + _points_text(look, len(rows)))


# --- classes ----------------------------------------------------------------------------------------------------------
def _joint(look: Look, title: str) -> Panel:
    """Share of each class in each bin of the integral, per channel."""
    fig, cells = grid(len(look.axes), height=110 + 30 * len(look.order))
    for axis, cell in zip(look.axes, cells):
        values = look.numbers(axis.integral)
        fine = np.isfinite(values)
        edges = np.linspace(*_bounds(values[fine]), 41)
        rows = [np.histogram(values[fine & (look.classes == name)], edges)[0] for name in look.order]
        share = np.stack([100 * row / max(row.sum(), 1) for row in rows]).astype(np.float32)
        fig.add_heatmap(
            x=((edges[1:] + edges[:-1]) / 2).astype(np.float32), y=look.order, z=share, coloraxis="coloraxis",
            hovertemplate="%{y}<br>%{x:.4g}<br>%{z:.1f} %<extra></extra>", **cell,
        )  # fmt: skip
        fig.update_xaxes(title_text=two_lines(integral_title(axis, look.say)), showgrid=False, **cell)
        fig.update_yaxes(title_text=look.say("class") if cell["col"] == 1 else "", showgrid=False, **cell)
    bar = {"title": {"text": look.say("% of class")}}
    fig.update_layout(coloraxis={"colorscale": figures.SEQUENTIAL, "colorbar": bar, "cmin": 0}, margin={"t": 16})
    text = look.say(
        "How the samples of each class spread over the integral; each row adds up to 100 %. Rows alike mean that the amount of "
        "light alone does not tell the class."
    )
    return Panel("joint", title, fig, text, True)


def _boxes(look: Look, title: str) -> Panel:
    """Quantiles of the integral of each class, per channel."""
    fig, cells = grid(len(look.axes), height=110 + 32 * len(look.order))
    for axis, cell in zip(look.axes, cells):
        values = look.numbers(axis.integral)
        for name in look.order:
            part = values[(look.classes == name) & np.isfinite(values)]
            if len(part):
                low, q1, median, q3, high = ([float(q)] for q in np.quantile(part, (0.05, 0.25, 0.5, 0.75, 0.95)))
                fig.add_box(
                    y=[name], orientation="h", lowerfence=low, q1=q1, median=median, q3=q3, upperfence=high, name=name,
                    showlegend=False, marker_color=look.colour(name), **cell,
                )  # fmt: skip
        fig.update_xaxes(title_text=two_lines(integral_title(axis, look.say)), **cell)
        fig.update_yaxes(title_text=look.say("class") if cell["col"] == 1 else "", **cell)
    text = look.say("Boxes: the middle half of the samples and the median; whiskers: 5 % to 95 %.")
    return Panel("boxes", title, fig.update_layout(margin={"t": 16}), text, True)


def _counts(look: Look, title: str) -> Panel:
    """Samples of each class by instrument and by who judged."""
    kinds = {INSTRUMENT: look.say("instrument {name}"), PROVENANCE: look.say("judged by {name}")}
    judges = {INSPECTOR: look.say("inspector"), ALGORITHM: look.say("algorithm"), "": look.say("unknown")}
    there = [name for name in kinds if name in look.samples.table]
    fig, cells = grid(len(there), columns=2)
    colour = iter(figures.COLOURS * 3)
    for column, cell in zip(there, cells):
        groups, names = classes_of(look.samples.table, column, look.say)
        for group in [*names, *([""] if (groups == "").any() else [])]:
            count = [int(((look.classes == name) & (groups == group)).sum()) for name in look.order]
            shown = kinds[column].format(name=judges.get(group, group) if column == PROVENANCE else group or look.say("unknown"))
            fig.add_bar(x=look.order, y=count, name=shown, text=count, marker_color=next(colour), **cell)
        fig.update_yaxes(title_text=look.say("number of samples"), **cell)
        fig.update_xaxes(title_text=look.say("class"), **cell)
    text = look.say("Where classes are measured on other instruments, or judged by others, a model may learn that instead.")
    return Panel("counts", title, fig.update_layout(barmode="group", margin={"t": 64}), text, True)


# --- drift, correlation -----------------------------------------------------------------------------------------------
def _drift(look: Look, title: str) -> Panel:
    """Integrals over time, by instrument."""
    when, say = times(look.readings), look.say
    assert when is not None
    known = ~np.isnat(when)
    seconds = when.astype(np.int64)
    span = seconds[known].min(), seconds[known].max() + 1
    bins = np.linspace(*span, TIME_BINS + 1)
    place = np.where(known, np.clip(np.searchsorted(bins, seconds, side="right") - 1, 0, TIME_BINS - 1), -1)
    middle = ((bins[1:] + bins[:-1]) / 2).astype("datetime64[s]")
    far = span[1] - span[0] > 100 * 86_400
    labels = np.datetime_as_string(middle, unit="D" if far else "m")
    groups, names = classes_of(look.samples.table, INSTRUMENT, say)
    fig, cells = grid(len(look.axes), columns=2, height=310)
    for axis, cell in zip(look.axes, cells):
        values = look.numbers(axis.integral)
        for nth, name in enumerate(names or [""]):
            chosen = (groups == name) & (place >= 0) & np.isfinite(values)
            shown = say("instrument {name}", name=name) if name else say("all samples")
            first = cell == {"row": 1, "col": 1}
            _add_band(fig, labels, place[chosen], values[chosen], figures.COLOURS[nth], shown, first, cell)
        fig.update_yaxes(title_text=two_lines(integral_title(axis, say)), **cell)
        fig.update_xaxes(title_text=say("date of measurement"), type="date", **cell)
    text = say(
        "Median (line) and middle 68 % (band) of the samples measured in each of {bins} spans of time. A slope is a lamp that "
        "fades or a season; a step between instruments is for a transfer to take out.", bins=TIME_BINS,
    )  # fmt: skip
    return Panel("drift", title, fig, text, True)


def _add_band(
    fig: go.Figure, labels: np.ndarray, place: np.ndarray, values: np.ndarray, colour: str, name: str, legend: bool,
    cell: dict[str, int],
) -> None:  # fmt: skip
    """Median and middle 68 % of values in numbered bins."""
    if not len(values):
        return
    quantiles = pd.Series(values).groupby(place).quantile(np.array([0.16, 0.5, 0.84])).unstack()
    x = labels[quantiles.index.to_numpy()]
    low, median, high = quantiles.to_numpy(np.float32).T
    common: dict[str, Any] = {"legendgroup": name, "name": name, **cell}
    fig.add_scatter(
        x=np.r_[x, x[::-1]].tolist(), y=np.r_[low, high[::-1]], mode="lines", fill="toself", line={"width": 0},
        fillcolor=see_through(colour), hoverinfo="skip", showlegend=False, **common,
    )  # fmt: skip
    fig.add_scatter(
        x=x.tolist(), y=median, mode="lines+markers", marker_size=4, line={"color": colour}, showlegend=legend, **common
    )


def _numeric(look: Look) -> pd.DataFrame:
    """Columns that may be correlated, under the names they are shown by, of at most `CORRELATED_ROWS` rows."""
    rows = some_rows(len(look.readings), CORRELATED_ROWS)
    titles = reading_titles(look.axes, look.say)
    names = {name: title for name, title in titles.items() if name in look.readings and name not in CARRIED}
    frame = look.readings.iloc[rows][list(names)].rename(columns=names)
    table = look.samples.table
    taken = {*look.readings, TYPE, *(name for names in KNOWN_AS.values() for name in names)}
    for column in table.columns:
        plain = pd.api.types.is_numeric_dtype(table[column]) and not pd.api.types.is_bool_dtype(table[column])
        if plain and column not in taken and not str(column).startswith("true_"):
            frame[str(column)] = table[column].iloc[rows].to_numpy(float, na_value=np.nan)
    frame = frame.astype(float)
    return frame.loc[:, frame.std() > 0].iloc[:, :MOST_READINGS]


def _correlations(look: Look, title: str) -> Panel:
    """Which readings and tabular values go together."""
    frame, say = _numeric(look), look.say
    if frame.shape[1] < 2:
        return Panel("correlations", title, say("Fewer than two readings vary."))
    r = frame.corr().to_numpy(np.float32).copy()
    r[~(np.abs(r) >= CLEAR_CORRELATION)] = np.nan
    names = list(frame.columns)
    fig = figures.figure(
        height=170 + 26 * len(names), xaxis_title=say("reading"), yaxis_title=say("reading"), margin={"l": 56, "t": 16}
    )
    bar = {"title": {"text": "r"}}
    fig.add_heatmap(
        x=names, y=names, z=r.round(2), zmin=-1, zmax=1, colorscale=figures.DIVERGING, colorbar=bar, xgap=1, ygap=1,
        texttemplate="%{z:.2f}" if len(names) <= 16 else None, hovertemplate="%{x}<br>%{y}<br>r = %{z:.2f}<extra></extra>",
    )  # fmt: skip
    fig.update_yaxes(autorange="reversed", showgrid=False).update_xaxes(showgrid=False, tickangle=-35)
    text = say("Pearson's r of each pair, where |r| is at least {least}. A pair near ±1 says the same thing twice.",
               least=CLEAR_CORRELATION)  # fmt: skip
    return Panel("correlations", title, fig, text, True)


# --- extremes ---------------------------------------------------------------------------------------------------------
def extremes(readings: pd.DataFrame) -> pd.DataFrame:
    """The `EXTREMES` largest and smallest spectra of each channel, by integral, the utmost first.

    Columns reading, which, row (from 0), sample, value. Fewer where there are not twice as many spectra.
    """
    found = []
    plain = readings.reset_index(drop=True)
    for column in [name for name in plain if str(name).startswith("integral_")]:
        values = plain[column].to_numpy(float)
        fine = np.flatnonzero(np.isfinite(values))
        rising = fine[np.argsort(values[fine], kind="stable")]
        count = min(EXTREMES, max(len(rising) // 2, 1))
        for which, rows in (("largest", rising[::-1][:count]), ("smallest", rising[:count])):
            found += [(column, which, int(row), str(plain[SAMPLE].iloc[row]), float(values[row])) for row in rows]
    return pd.DataFrame(found, columns=["reading", "which", "row", "sample", "value"])


def _extremes_table(look: Look, title: str) -> Panel:
    """`extremes` as a table whose rows can be picked, samples numbered from 1 as on the page."""
    found, say = extremes(look.readings), look.say
    titles = {axis.integral: integral_title(axis, say) for axis in look.axes}
    words = {"largest": say("largest"), "smallest": say("smallest")}
    shown = pd.DataFrame({
        say("reading"): [titles.get(name, name) for name in found["reading"]],
        say("which"): found["which"].map(words),
        say("no."): found["row"] + 1,
        say("sample"): found["sample"],
        say("value"): [number(value) for value in found["value"]],
        say("kept"): look.keep[found["row"].to_numpy(int)],
    })  # fmt: skip
    return Panel(
        "extremes", title, shown, say("By integral, over all samples read."), behind=tuple((row,) for row in found["row"])
    )


def _extreme_spectra(look: Look, title: str) -> Panel:
    """The spectra of `extremes`, beside each other."""
    say, found = look.say, extremes(look.readings)
    fig, cells = grid(len(look.axes), columns=2, height=260)
    colours = {"largest": figures.ORANGE, "smallest": figures.BLUE}
    words = {"largest": say("largest"), "smallest": say("smallest")}
    named: set[str] = set()
    for axis, cell in zip(look.axes, cells):
        for which, row in found.loc[found["reading"] == axis.integral, ["which", "row"]].itertuples(index=False):
            fig.add_scatter(
                x=axis.positions.astype(np.float32), y=np.asarray(look.samples.inputs[axis.name][row], dtype=np.float32),
                mode="lines", line={"color": colours[which], "width": 1.5}, name=words[which], legendgroup=which,
                showlegend=cell == {"row": 1, "col": 1} and which not in named, **cell,
            )  # fmt: skip
            named.add(which)
        fig.update_xaxes(title_text=two_lines(axis_title(axis, say) + ", " + channel_title(axis, say)), **cell)
        fig.update_yaxes(title_text=value_title(axis, say), **cell)
    return Panel("extreme-spectra", title, fig, say("By integral, of each channel."), True)
