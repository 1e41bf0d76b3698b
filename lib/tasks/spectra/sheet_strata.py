"""The result sheet's plain facts, and whether the model is as good on every instrument, in every month, on any kind of label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel
from lib.tasks.spectra.sheet_rows import Scored
from lib.tasks.spectra.table import ALGORITHM, DATE, INSPECTOR, INSTRUMENT, PROVENANCE
from lib.tasks.spectra.verdicts import Facts
from lib.words import Say, from_plain, spoken

RESAMPLES = 200
MOST_STRATA = 36  # three years of months
CANDIDATE_TITLES = {
    "accuracy": "accuracy (0 to 1)", "macro_f1": "macro-F1 (0 to 1)", "log_loss": "log loss (nats)", "seconds": "time to fit (s)",
    "averaged": "averaged",
}  # fmt: skip


# --- facts ------------------------------------------------------------------------------------------------------------
def facts_panel(t: Scored, facts: Facts, say: Say) -> Panel:
    """What was tested, on which data, and what was left out."""
    rows: list[tuple[str, str]] = []
    if facts.get("simulated"):
        rows.append((say("SIMULATED DATA"), say("These spectra come from a simulator; no real sample was measured.")))
    source = facts.get("source") or facts.get("data")
    rows.append((say("data"), spoken(from_plain(source), say) if source else say("not named")))
    target = facts.get("target") or {}
    asked = " ".join(str(target[key]) for key in ("kind", "of") if target.get(key))
    if asked:
        column = target.get("column")
        rows.append((say("question"), say("{asked} of column {column}", asked=asked, column=column) if column else asked))
    rows += [(say("channels"), "; ".join(_channel(c) for c in facts["channels"]))] if facts.get("channels") else []
    rows += [(say("values beside the spectra"), ", ".join(map(str, facts["tabular"])))] if facts.get("tabular") else []
    rows += [(say("rows of each part"), ", ".join(_parts(facts, say)))] if facts.get("rows") else []
    rows.append((say("test rows scored"), _count(t, say)))
    rows.append((say("samples of each class"), _classes(t)))
    if "folds" in facts:
        text = say("{n} trainings: each row is predicted by the one that did not see it", n=len(facts["folds"]))
        rows.append((say("folds"), text))
    elif "independent_rows" in facts:
        text = say("{rows} rows, {independent} of them independent", rows=facts["calibration_rows"],
                   independent=facts["independent_rows"])  # fmt: skip
        rows.append((say("calibration"), text))
    rows += [(say("note"), spoken(from_plain(note), say)) for note in facts.get("notes", ())]
    rows += [(say("reading of the file"), spoken(from_plain(note), say)) for note in facts.get("reading", ())]
    told = say("All figures below are of test rows, which neither training nor the choice of cut-offs has seen.")
    title = say("What was tested: simulated data") if facts.get("simulated") else say("What was tested")
    return Panel("facts", title, pd.DataFrame(rows, columns=[say("fact"), say("value")]), told, wide=True)


def _channel(channel: dict[str, Any]) -> str:
    """Name, range and points of one channel."""
    axis = channel.get("axis") or []
    unit = str(channel.get("unit", ""))
    return f"{channel['name']} ({axis[0]:g} – {axis[-1]:g} {unit}, {len(axis)})" if len(axis) else str(channel["name"])


def _parts(facts: Facts, say: Say) -> list[str]:
    """Samples, and specimens where they are counted, of each part of the data."""
    groups = facts.get("groups") or {}
    return [
        say("{part} {rows} ({groups} specimens)", part=say(part), rows=count, groups=groups[part])
        if part in groups
        else f"{say(part)} {count}"
        for part, count in facts["rows"].items()
    ]


def _count(t: Scored, say: Say) -> str:
    text = (
        say("{rows} of {groups} specimens", rows=len(t), groups=len(np.unique(t.groups)))
        if t.grouped
        else say("{rows}; specimens are not known, so replicates may be among them", rows=len(t))
    )
    return (
        text + "; " + say("{count} more have no known class or no prediction and are left out", count=t.left_out)
        if t.left_out
        else text
    )


def _classes(t: Scored) -> str:
    counts = np.bincount(t.labels, minlength=len(t.names))
    return ", ".join(f"{name}: {count}" for name, count in zip(t.names, counts))


# --- strata -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Strata:
    """One way to divide the test rows: its name, the names of its parts, and the part of each row (n,), -1 for none."""

    kind: str
    names: tuple[str, ...]
    part: np.ndarray
    in_time: bool = False


def strata_panels(t: Scored, rng: np.random.Generator, say: Say) -> list[Panel]:
    """Accuracy and macro-F1 by instrument, month and provenance of the label, where the table has them."""
    kinds = strata(t, say)
    title = say("By instrument, month and origin of the label")
    if not kinds:
        text = say("The table tells neither instrument nor date nor who gave the label, so nothing can be compared.")
        return [Panel("strata", title, text)]
    tables = [measure(t, kind, rng) for kind in kinds]
    shown = pd.concat([_readable(kind, table, say) for kind, table in zip(kinds, tables)], ignore_index=True)
    told = say(
        "A model may be good on average and poor on one instrument or in one season. Where an interval lies below the others, "
        "look at that stratum before you trust the model there; intervals resample whole specimens."
    )
    if PROVENANCE in t.rows:
        told += " " + say(
            "Only rows that an inspector tasted are an honest test: the others compare it with the old algorithm's verdict."
        )
    panels = [Panel("strata", title, shown, told, wide=True)]
    for kind, table in zip(kinds, tables):
        if kind.in_time and len(kind.names) > 1:
            told = say(
                "A steady fall would mean that the instrument or the syrup drifts away from what the model was trained on."
            )
            panels.append(Panel("strata-time", say("Accuracy over time"), _time_figure(kind, table, say), told, True))
    return panels


def strata(t: Scored, say: Say) -> list[Strata]:
    """The divisions that the table allows."""
    found = []
    if PROVENANCE in t.rows:
        words = {INSPECTOR: say("inspector (honest)"), ALGORITHM: say("old algorithm")}
        told = t.rows[PROVENANCE].fillna("").astype(str).replace({"": say("not known")})
        found.append(_divided(say("origin of the label"), told.map(lambda value: words.get(value, value))))
    if INSTRUMENT in t.rows:
        told = t.rows[INSTRUMENT].fillna("").astype(str).replace({"": say("not known")})
        found.append(_divided(say("instrument"), told))
    if DATE in t.rows:
        date = pd.to_datetime(t.rows[DATE], errors="coerce")
        month = date.dt.strftime("%Y-%m")
        by_year = month.nunique() > MOST_STRATA
        found.append(_divided(say("year") if by_year else say("month"), date.dt.strftime("%Y") if by_year else month, True))
    return [kind for kind in found if kind.names]


def _divided(kind: str, values: pd.Series, in_time: bool = False) -> Strata:
    """Parts by name, the largest where there are too many to show."""
    most = set(values.value_counts().index[:MOST_STRATA])
    names = tuple(sorted(most))
    return Strata(kind, names, pd.Index(names, dtype=object).get_indexer(pd.Index(values.astype(object))), in_time)


def measure(t: Scored, kind: Strata, rng: np.random.Generator) -> pd.DataFrame:
    """One row per part: samples, specimens, accuracy_percent and macro_f1 with lo95 and hi95 from resampled specimens.

    The interval is NaN where a part has fewer than two specimens.
    """
    use = kind.part >= 0
    k, parts = len(t.names), len(kind.names)
    member = np.unique(t.groups[use], return_inverse=True)[1]
    cell = (kind.part[use] * k + t.labels[use]) * k + t.named[use]

    def figures_of(weight: np.ndarray | None) -> np.ndarray:
        counts = np.bincount(cell, weights=weight, minlength=parts * k * k).reshape(parts, k, k)
        right, truth, said = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            occurs = truth + said > 0
            f1 = np.where(occurs, 2 * right / (truth + said), 0).sum(axis=1) / occurs.sum(axis=1)
            return np.stack([100 * right.sum(axis=1) / truth.sum(axis=1), f1])

    draws = np.stack([
        figures_of(np.bincount(rng.integers(member.max() + 1, size=member.max() + 1), minlength=member.max() + 1)[member])
        for _ in range(RESAMPLES)
    ])  # fmt: skip
    value = figures_of(None)
    specimens = np.array([len(np.unique(t.groups[kind.part == i])) for i in range(parts)])
    with np.errstate(invalid="ignore"):
        ends = np.where(specimens > 1, np.nanquantile(draws, [0.025, 0.975], axis=0), np.nan)
    return pd.DataFrame({
        "stratum": kind.names, "samples": np.bincount(kind.part[use], minlength=parts), "specimens": specimens,
        "accuracy_percent": value[0], "accuracy_lo95": ends[0, 0], "accuracy_hi95": ends[1, 0],
        "macro_f1": value[1], "macro_f1_lo95": ends[0, 1], "macro_f1_hi95": ends[1, 1],
    })  # fmt: skip


def _readable(kind: Strata, table: pd.DataFrame, say: Say) -> pd.DataFrame:
    return pd.DataFrame({
        say("by"): kind.kind, say("stratum"): table["stratum"], say("samples"): table["samples"],
        say("specimens"): table["specimens"], say("accuracy (%)"): table["accuracy_percent"].round(1),
        say("accuracy, 95 % interval"): _spans(table["accuracy_lo95"], table["accuracy_hi95"], 1),
        say("macro-F1"): table["macro_f1"].round(3),
        say("macro-F1, 95 % interval"): _spans(table["macro_f1_lo95"], table["macro_f1_hi95"], 3),
    })  # fmt: skip


def _spans(low: pd.Series, high: pd.Series, digits: int) -> list[str]:
    return ["–" if np.isnan(a) else f"{a:.{digits}f} – {b:.{digits}f}" for a, b in zip(low, high)]


def _time_figure(kind: Strata, table: pd.DataFrame, say: Say) -> go.Figure:
    fig = figures.figure(xaxis_title=kind.kind, yaxis_title=say("accuracy (%)"), xaxis_type="category")
    value = table["accuracy_percent"]
    bars = {
        "array": (table["accuracy_hi95"] - value).clip(lower=0).fillna(0),
        "arrayminus": (value - table["accuracy_lo95"]).clip(lower=0).fillna(0),
    }
    return fig.add_scatter(
        x=table["stratum"], y=value, error_y={"type": "data", "thickness": 1, **bars}, mode="markers+lines",
        line_color=figures.ACCENT, showlegend=False, customdata=table["samples"],
        hovertemplate="%{x}: %{y:.1f} % (n = %{customdata})<extra></extra>",
    )  # fmt: skip


# --- candidates -------------------------------------------------------------------------------------------------------
def candidate_panels(facts: Facts, say: Say) -> list[Panel]:
    """All candidates of a "best of", where the model was chosen among some; of a joint sheet what each fold chose."""
    if "folds" in facts:
        return _choices_panel(facts["folds"], say)
    rows = (facts.get("chosen") or {}).get("table")
    if not rows:
        return []
    table = pd.DataFrame(rows)
    if {"candidate", "preprocessing", "model"} <= set(table.columns):
        table = table.drop(columns="candidate")  # it is the other two together
    for column in table.select_dtypes("number"):
        table[column] = table[column].map(lambda value: float(f"{value:.4g}") if isinstance(value, float) else value)
    if "setting" in table:
        table["setting"] = [_setting(str(value), say) for value in table["setting"]]
    table.columns = [say(CANDIDATE_TITLES.get(str(column), str(column))) for column in table]
    told = say(
        "Each candidate was tried on held-out parts of the training rows: the test rows had no say. The model is the mean of "
        "those ticked, which these rows cannot tell from the first (one standard error)."
    )
    return [Panel("candidates", say("Models that were compared"), table, told, wide=True)]


def _choices_panel(folds: Sequence[Facts], say: Say) -> list[Panel]:
    """One row per fold: what its model is the mean of, and the held-out accuracy of the first of these."""
    found = [fold.get("chosen") or {} for fold in folds]
    if not all(chosen.get("members") and chosen.get("table") for chosen in found):
        return []
    names = [
        "; ".join(f"{one['preprocessing']}, {one['model']}, {_setting(str(one['setting']), say)}" for one in chosen["members"])
        for chosen in found
    ]
    table = pd.DataFrame({
        say("fold"): [f"{k}/{len(folds)}" for k in range(1, len(folds) + 1)], say("model"): names,
        say(CANDIDATE_TITLES["accuracy"]): [float(f"{chosen['table'][0]['accuracy']:.4g}") for chosen in found],
    })  # fmt: skip
    told = say(
        "Each fold chose its model on held-out parts of its own training rows: the test rows had no say. Where several models "
        "stand, theirs is the mean, and the accuracy is that of the first."
    )
    return [Panel("candidates", say("Models that each fold chose"), table, told, wide=True)]


def _setting(told: str, say: Say) -> str:
    """The setting of a candidate as `classical` writes it, in words; C and alpha are symbols."""
    name, _, value = told.partition(" ")
    words = {"components": say("components {value}", value=value), "shrinkage": say("shrinkage {value}", value=value)}
    return words.get(name, told)
