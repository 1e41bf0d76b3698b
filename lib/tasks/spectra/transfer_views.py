"""What a transfer between two instruments would do, tried on specimens that it was not learnt from; and what a run's did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures, splits
from lib.task import Panel, Pick, Samples, View
from lib.tasks.spectra.arrays import bridge, instruments_of
from lib.tasks.spectra.clean import Axis, axes_of
from lib.tasks.spectra.preprocess import COMPONENTS, METHODS, Method, Transfer
from lib.tasks.spectra.sample_views import axis_title, channel_title, value_title
from lib.tasks.spectra.table import GROUP, INSTRUMENT, SAMPLE
from lib.tasks.spectra.transfer import apart_percent, specimen_means
from lib.words import Say, english

HELD_OUT = 3  # folds: PDS takes half a second per channel and fold
MOST_SHARED = 300  # specimens that it is tried on
MOST_CHANNELS = 3
FEWEST = 6  # shared specimens that can be held out in turn


@dataclass(frozen=True)
class Trial:
    """One method on one channel: what both instruments show (m, P) after it, and the error that is left, in %."""

    first: np.ndarray
    second: np.ndarray
    error_percent: float


# --- on the Clean page ------------------------------------------------------------------------------------------------
def transfer_view(samples: Samples, keep: pd.Series, say: Say = english) -> View | None:
    """Spectra of two instruments before and after each method; None where the table does not tell two instruments apart."""
    instruments = instruments_of(samples.table)
    counts = pd.Series(instruments[instruments != ""]).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    shared = set(shared_columns(samples.table))
    shared_by = [column for column in (GROUP, SAMPLE, *map(str, samples.table)) if column in shared]
    if len(counts) < 2 or not shared_by:
        return None
    names = tuple(map(str, counts.index))
    picks = (
        Pick("first", say("Instrument that stays as it is"), names),
        Pick("second", say("Instrument that is brought to it"), (*names[1:], names[0])),
        Pick("shared", say("Column that says which samples are the same"), tuple(dict.fromkeys(shared_by))),
    )
    told = {method: partial(settings_of, method) for method in METHODS}
    carry = {say("Train with {method}", method=method.upper()): make for method, make in told.items()}
    make = partial(transfer_panel, samples, keep.to_numpy(bool), names, say)
    return View(say("Transfer between instruments"), make, keep.to_numpy(bool).tobytes(), picks, carry)


def shared_columns(table: pd.DataFrame) -> list[str]:
    """Columns of names, other than the instrument's own, of which some values occur on more than one instrument."""
    names = instruments_of(table)
    on, kinds = pd.factorize(np.asarray(names, object))
    found = []
    for column in table.columns:
        if column in ("file", "note", INSTRUMENT) or pd.api.types.is_float_dtype(table[column]):
            continue
        codes, values = pd.factorize(table[column])  # numbers instead of texts: a slider waits for this
        empty = np.flatnonzero(np.asarray(values, object) == "")
        known = (names != "") & (codes >= 0) & ~np.isin(codes, empty)
        pairs = np.unique(codes[known].astype(np.int64) * len(kinds) + on[known])
        several = int((np.bincount(pairs // len(kinds)) > 1).sum()) if len(pairs) else 0
        each = np.bincount(pairs % len(kinds)) if len(pairs) else np.zeros(1, int)
        if several >= FEWEST and 2 * several >= each[each > 0].min() * 0.02:
            found.append(str(column))
    return found


def settings_of(method: Method, first: str, second: str, shared: str) -> dict[str, Any]:
    """The training settings that stand for a choice: the second is looked at, and all others are brought to the first."""
    return {
        "transfer": method,
        "transfer_primary": first,
        "transfer_to": (),
        "transfer_shared": "" if shared == GROUP else shared,
    }


def transfer_panel(
    samples: Samples, keep: np.ndarray, names: tuple[str, ...], say: Say, first: str, second: str, shared: str
) -> Panel:
    """Mean spectra of two instruments as they are and after each method, each specimen by a map learnt without it."""
    title = say("Transfer between instruments")
    if first == second:
        return Panel("transfer", title, say("Choose two different instruments."))
    axes = axes_of(samples)[:MOST_CHANNELS]
    pairs = [pairs_of(samples, keep, axis, first, second, shared) for axis in axes]
    count = len(pairs[0][0])
    if count < FEWEST:
        told = say(
            "{n} kept specimens were measured on both {first} and {second}; at least {least} are needed to try a transfer.",
            n=count, first=first, second=second, least=FEWEST,
        )  # fmt: skip
        return Panel("transfer", title, told)
    trials = [tried(*pair) for pair in pairs]
    methods = [method for method in ("none", *METHODS) if method in trials[0]]
    fig = _figure(axes, trials, methods, (first, second), say)
    told = _told(trials, methods, count, first, second, say)
    others = [name for name in names if name != first]
    if len(others) > 1:
        told += " " + say(
            "Shown are two of {n} instruments: training brings each of the others, {others}, to {first} by a map of its own.",
            n=len(names), others=", ".join(others), first=first,
        )  # fmt: skip
    return Panel("transfer", title, fig, told, True)


def pairs_of(
    samples: Samples, keep: np.ndarray, axis: Axis, first: str, second: str, shared: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean spectrum of each shared specimen on the first and on the second instrument, (m, P) float64 each, m ≤ MOST_SHARED."""
    values, instruments = samples.inputs[axis.name], instruments_of(samples.table)
    number = splits.numbered(samples.table[shared])
    rows = [np.flatnonzero(keep & (instruments == name)) for name in (first, second)]
    both = np.intersect1d(number[rows[0]], number[rows[1]])
    if len(both) > MOST_SHARED:
        both = np.sort(np.random.default_rng(0).choice(both, MOST_SHARED, replace=False))
    own, other = (specimen_means(values, some[np.isin(number[some], both)], number) for some in rows)
    whole = np.isfinite(own.sum(axis=1) + other.sum(axis=1))
    return own[whole], other[whole]


def tried(first: np.ndarray, second: np.ndarray) -> dict[str, Trial]:
    """Every method that as many shared specimens (m, P) can tell, and "none"; each specimen after a map fitted without it.

    The error is the root mean square of what differs between the instruments, against what differs between specimens on the
    first: at 100 % the instrument matters as much as the specimen. Under EPO both are projected, and so is the comparison.
    """
    parts = splits.folds(np.zeros(len(first)), HELD_OUT, np.random.default_rng(0))
    found = {"none": _trial(first, second)}
    for method in METHODS:
        if min(len(others) for others, _ in parts) <= COMPONENTS[method]:
            continue
        own, other = np.empty_like(first), np.empty_like(second)
        for others, held in parts:
            fitted = Transfer(method).fit(first[others], second[others])
            own[held], other[held] = fitted.of_first(first[held]), fitted.of_second(second[held])
        found[method] = _trial(own, other)
    return found


def _trial(first: np.ndarray, second: np.ndarray) -> Trial:
    """Spectra with how far they are apart."""
    return Trial(first, second, apart_percent(first, second))


def _figure(axes: list[Axis], trials: list[dict[str, Trial]], methods: list[str], names: tuple[str, str], say: Say) -> go.Figure:
    """A row per channel, a column per method; the mean spectrum of each instrument."""
    words = {"none": say("as they are"), "ds": "DS", "pds": "PDS", "epo": "EPO"}
    titles = [f"{words[m]}: {trial[m].error_percent:.0f} %" for trial in trials for m in methods]
    rows, columns = len(axes), len(methods)
    fig = figures.subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=0.22 / rows)
    fig.update_layout(height=140 + 230 * rows, margin={"t": 96}, legend_y=1 + 40 / (44 + 230 * rows))
    for row, (axis, trial) in enumerate(zip(axes, trials), 1):
        for column, method in enumerate(methods, 1):
            cell = {"row": row, "col": column}
            both = zip(names, (trial[method].first, trial[method].second), (figures.ACCENT, figures.ORANGE), ("solid", "dot"))
            for name, spectra, colour, dash in both:
                fig.add_scatter(
                    x=axis.positions.astype(np.float32), y=spectra.mean(axis=0).astype(np.float32), mode="lines",
                    line={"color": colour, "width": 1.6, "dash": dash}, name=say("instrument {name}", name=name),
                    legendgroup=name, showlegend=row == column == 1, **cell,
                )  # fmt: skip
            fig.update_xaxes(title_text=axis_title(axis, say) if row == rows else "", **cell)
        fig.update_yaxes(title_text=f"{channel_title(axis, say)}<br>{value_title(axis, say)}", row=row, col=1)
    return fig


def _told(trials: list[dict[str, Trial]], methods: list[str], count: int, first: str, second: str, say: Say) -> str:
    """What was tried on what, and which method leaves least."""
    mean = {method: float(np.nanmean([trial[method].error_percent for trial in trials])) for method in methods}
    best = min(mean, key=lambda method: mean[method])
    text = say(
        "Mean spectra of the {n} kept specimens that both {first} and {second} measured; each was transferred by a map learnt "
        "without it. In %: what still differs between the instruments, against what differs between specimens.",
        n=count, first=first, second=second,
    )  # fmt: skip
    missing = [method.upper() for method in METHODS if method not in methods]
    if missing:
        text += " " + say("{methods} would need more shared specimens.", methods=", ".join(missing))
    if best == "none":
        return text + " " + say("No method is better than leaving the spectra as they are.")
    return text + " " + say("{method} leaves least: {after} % of {before} %.", method=best.upper(),
                            after=f"{mean[best]:.0f}", before=f"{mean['none']:.0f}")  # fmt: skip


# --- on the result sheet ----------------------------------------------------------------------------------------------
def sheet_panel(facts: Mapping[str, Any], say: Say = english) -> list[Panel]:
    """What was done to spectra of the other instruments, where the run has a transfer."""
    told = bridge(facts)
    if not told:
        return []
    tested = told.get("tested") or [{} for _ in told["to"]]
    rows = [(say("method"), METHOD_TITLES[told["method"]](say)), (say("instrument that stays as it is"), str(told["from"]))]
    for name, shared, left in zip(told["to"], told["shared"], tested, strict=True):
        rows += _rows_of(str(name), int(shared), left, say)
    if as_is := [str(name) for name in told["known"] if name not in (told["from"], *told["to"])]:
        rows.append((say("instruments left as they are"), ", ".join(as_is)))
    text = say(
        "Spectra of one instrument stay as they are, and each other one has a map of its own to it, learnt from the training "
        "specimens that both measured; epo projects the spectra of all. The model holds for these instruments: a sample of "
        "any other is never decided, unless all are projected."
    )
    if any(one.get("left") for one in tested):
        text += " " + say(
            "In %: what differs between the instruments on test specimens, which the map has not seen, against what differs "
            "between specimens. The less is left, the less it matters which instrument measures."
        )
    table = pd.DataFrame(rows, columns=[say("what"), say("this run")])
    return [Panel("transfer", say("Transfer between instruments"), table, text, True)]


def _rows_of(name: str, shared: int, tested: Mapping[str, Any], say: Say) -> list[tuple[str, str]]:
    """What is told of one instrument that is brought to the first."""
    rows = [(say("instrument that is brought to it"), name), (say("training specimens measured on both"), str(shared))]
    rows += [(say("test specimens measured on both"), str(tested["specimens"]))] if tested else []
    return rows + [
        (say("between the instruments, channel {name}", name=one["channel"]), say(
            "{before} % before, {after} % after", before=f"{one['before_percent']:.0f}", after=f"{one['after_percent']:.0f}"))
        for one in tested.get("left", ()) if {"before_percent", "after_percent"} <= set(one)
    ]  # fmt: skip


METHOD_TITLES: dict[Method, Callable[[Say], str]] = {
    "ds": lambda say: say("direct standardisation (DS)"),
    "pds": lambda say: say("piecewise direct standardisation (PDS)"),
    "epo": lambda say: say("external parameter orthogonalisation (EPO), of all"),
}
