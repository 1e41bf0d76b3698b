"""Figures of a finished prediction: what was decided, how sure, on which spectra, and how far from the training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Behind, Panel, Samples
from lib.tasks.spectra import verdicts
from lib.tasks.spectra.clean import Axis
from lib.tasks.spectra.learning import CLASSES, LABEL
from lib.tasks.spectra.sample_views import axis_title, channel_title, value_title
from lib.tasks.spectra.sheet_rows import legend_beside, style, thinned
from lib.tasks.spectra.table import SAMPLE
from lib.tasks.spectra.targets import in_words
from lib.tasks.spectra.verdicts import Q_LIMIT, T2_LIMIT, Facts, probability_columns
from lib.words import Say, english

FEW = 40  # samples that each get a bar
SPECTRA = 8  # samples whose spectra are drawn
MEANS = 8  # class means behind them
POINTS = 500  # of one spectrum
DOTS = 3000  # samples on the map of distances
BINS = 25
DECISION_COLOURS = {
    verdicts.PASS: figures.ACCENT, verdicts.REJECT: figures.ORANGE, verdicts.TASTE: figures.AMBER,
}  # fmt: skip


def prediction_panels(table: pd.DataFrame, samples: Samples, facts: Facts, say: Say = english) -> list[Panel]:
    """Panels of n predicted rows and their samples, in the same order; `samples` may lack spectra where files differ."""
    if not len(table):
        return [Panel("nothing", say("Nothing to show"), say("No sample was predicted."))]
    p = table[probability_columns(facts)].to_numpy(float)
    rows = np.flatnonzero(np.isfinite(p).all(axis=1))
    panels = [decision_panel(table, facts, say)] if len(table) > 1 else []  # one is told in the headline
    if len(rows):
        panels.append(probability_panel(table.reset_index(drop=True).iloc[rows], p[rows], facts, say))
        panels += spectra_panels(table, p, samples, facts, say)
    if {"t2", "q"} <= set(table.columns):
        panels.append(domain_panel(table, facts, say))
    return panels


def headline(row: pd.Series, facts: Facts, say: Say = english) -> list[tuple[str, str, str]]:
    """Class, its probability, prediction set and decision of one predicted sample: title, value, what it means."""
    name, decision = row["predicted"], str(row["decision"])
    if pd.isna(name):
        return []
    share = say("calibrated: of samples with this value, as many are of this class")
    certain = verdicts.certified(facts)
    holds = say("holds the true class {share:.0f} % of the time or more", share=100 * facts["confidence"]) if certain else ""
    return [
        (say("Class"), in_words(name, say), say("the most probable one")),
        (say("Probability"), f"{100 * float(row[verdicts.P + str(name)]):.1f} %", share),
        (say("Prediction set"), _set_in_words(str(row["prediction_set"]), say), holds),
        (say("Decision"), _decision_in_words(decision, say), promise_text(facts, say)),
    ]


def _set_in_words(members: str, say: Say) -> str:
    """A prediction set as a reader sees it."""
    return say(members) if members == verdicts.NONE else verdicts.BETWEEN.join(
        in_words(name, say) for name in members.split(verdicts.BETWEEN)
    )  # fmt: skip


def _decision_in_words(decision: str, say: Say) -> str:
    """A decision, or the class that is decided, as a reader sees it."""
    return say(decision) if decision in (*DECISION_COLOURS, verdicts.UNCERTIFIED) else in_words(decision, say)


def promise_text(facts: Facts, say: Say) -> str:
    """What a decision of this run promises, in a few words."""
    if not verdicts.certified(facts):
        return say("no promise: this model has no certificate")
    policy, risk = verdicts.policy_of(facts), 100 * facts["risk"]
    if policy == "cost":
        wrong = (facts.get("costs") or {}).get("wrong", verdicts.WRONG)
        return say("least cost, a wrong decision costing {wrong:g} tastings (risk {risk:g} %)", wrong=wrong, risk=risk)
    target = 100 * facts[f"{policy}_target"]
    if policy == "recall":
        return say("of each class at least {target:g} % are decided for it (risk {risk:g} %)", target=target, risk=risk)
    return say("of those decided so, at least {target:g} % are right (risk {risk:g} %)", target=target, risk=risk)


# --- decisions --------------------------------------------------------------------------------------------------------
def decision_panel(table: pd.DataFrame, facts: Facts, say: Say) -> Panel:
    """How many samples were decided how; before certification, how many were given each class."""
    known = verdicts.certified(facts)
    values = (table["decision"] if known else table["predicted"]).astype(object)
    words = list(dict.fromkeys(verdicts.decision_words(facts))) if known else [str(name) for name in facts["classes"]]
    counts = values.value_counts().reindex(words, fill_value=0)
    fig = figures.figure(yaxis_title=say("samples"), xaxis_type="category")
    share = [f"{count} ({100 * count / len(table):.1f} %)" for count in counts]
    colours = [DECISION_COLOURS.get(word, figures.BLUE) for word in words]
    shown = [_decision_in_words(word, say) for word in words]
    fig.add_bar(
        x=shown, y=counts.to_numpy(), marker_color=colours, text=share, textposition="outside", cliponaxis=False,
        customdata=list(range(len(words))),
    )  # fmt: skip
    doubtful = np.argsort(table[probability_columns(facts)].max(axis=1).fillna(-1.0).to_numpy(), kind="stable")
    behind = tuple(tuple(int(row) for row in doubtful[(values.iloc[doubtful] == word).to_numpy()][:SPECTRA]) for word in words)
    outside = int((~table["in_domain"].astype(bool)).sum())
    if known:
        told = say(
            "What can be decided without tasting, under the promise of the model's result sheet. {outside} of {n} samples are "
            "unlike the training data: no promise holds for them, so they are always left to the taster.",
            outside=outside, n=len(table),
        )  # fmt: skip
        told += " " + say("Promise: {promise}.", promise=promise_text(facts, say))
        return Panel("decisions", say("Decisions"), fig, told, behind=behind)
    told = say(
        "The most probable class of each sample. This model's cut-offs are not certified, so no error rate is promised; "
        "{outside} of {n} samples are unlike its training data.", outside=outside, n=len(table),
    )  # fmt: skip
    return Panel("decisions", say("Classes, without a promise"), fig, told, behind=behind)


# --- probabilities ----------------------------------------------------------------------------------------------------
def probability_panel(table: pd.DataFrame, p: np.ndarray, facts: Facts, say: Say) -> Panel:
    """Probabilities (n, K): a bar per sample for few, a histogram for two classes, a heat map for more."""
    names = [in_words(name, say) for name in facts["classes"]]
    title = say("Probabilities of the classes")
    if len(p) <= FEW:
        told = say("One bar per sample. One colour that fills the bar is a sure answer; a bar in many colours is a doubtful one.")
        return Panel("probabilities", title, _bars(table, p, names, say), told, wide=True, behind=_each(list(table.index)))
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    middle = (100 * (np.arange(BINS) + 0.5) / BINS).astype(np.float32)
    if len(names) == 2:
        name = say("probability of {name} (%)", name=names[1])
        fig = figures.figure(xaxis_title=name, yaxis_title=say("samples"), bargap=0.02)
        fig.add_bar(x=middle, y=np.bincount(place[:, 1], minlength=BINS), marker_color=figures.ACCENT, showlegend=False)
        told = say("Samples at both ends are clear cases; those in the middle are the ones worth tasting.")
        return Panel("probabilities", title, fig, told)
    count = np.stack([np.bincount(place[:, k], minlength=BINS) for k in range(len(names))])
    fig = figures.figure(xaxis_title=say("probability (%)"), height=120 + 24 * len(names))
    bar = {"title": {"text": say("log10 of samples")}}
    fig.add_heatmap(
        x=middle, y=list(range(len(names))), z=np.where(count > 0, np.log10(np.maximum(count, 1)), np.nan).astype(np.float32),
        text=count, colorscale=figures.SEQUENTIAL, colorbar=bar, hovertemplate="%{x:.0f} %: n = %{text}<extra></extra>",
    )  # fmt: skip
    fig.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed")
    told = say(
        "How many samples got how much of each class. Clear cases lie at the two ends of a row, doubtful ones in the middle."
    )
    return Panel("probabilities", title, fig, told, wide=len(names) > 6)


def _each(rows: Iterable[int]) -> Behind:
    """One sample behind each point."""
    return tuple((int(row),) for row in rows)


def _bars(table: pd.DataFrame, p: np.ndarray, names: list[str], say: Say) -> go.Figure:
    """One stacked bar per sample."""
    layout = legend_beside(len(names)) if len(names) > 4 else {}
    layout["height"] = max(140 + 20 * len(p), layout.get("height", 0))
    fig = figures.figure(xaxis_title=say("probability (%)"), yaxis_title=say("sample"), barmode="stack", **layout)
    place = list(range(len(p)))
    for k, name in enumerate(names):
        fig.add_bar(
            y=place, x=(100 * p[:, k]).round(2), orientation="h", name=name, customdata=place,
            marker_color=style(k, len(names))["color"], opacity=(1.0, 0.6, 0.3)[k // len(figures.COLOURS) % 3],
        )  # fmt: skip
    labels = [str(value)[:40] for value in table[SAMPLE]] if SAMPLE in table else [str(i + 1) for i in place]
    return fig.update_yaxes(tickvals=place, ticktext=labels, autorange="reversed").update_xaxes(range=[0, 100])


# --- spectra ----------------------------------------------------------------------------------------------------------
def spectra_panels(table: pd.DataFrame, p: np.ndarray, samples: Samples, facts: Facts, say: Say) -> list[Panel]:
    """One figure per channel: the samples of least confidence over class means, or over the batch's own median."""
    confidence = np.nan_to_num(p.max(axis=1), nan=-1.0)
    chosen = np.sort(np.argsort(confidence, kind="stable")[:SPECTRA])
    if len(samples) != len(table):
        return []
    which = (
        say("Each sample's spectrum.")
        if len(table) <= SPECTRA
        else say("The {count} samples the model is least sure of.", count=len(chosen))
    )
    return _over_means(table, samples, chosen, which, facts, say)


def behind_panels(predicted: pd.DataFrame, samples: Samples, facts: Facts, say: Say = english) -> list[Panel]:
    """Spectra of picked samples, at most SPECTRA, over the class means; named by truth and answer where the truth is known."""
    chosen = np.arange(min(len(predicted), SPECTRA))
    table = predicted.reset_index(drop=True)
    if LABEL in samples.table and samples.common.get(CLASSES) == list(facts["classes"]):
        said = [
            f"{in_words(truth, say)} → {in_words(name, say)}" for truth, name in zip(samples.table[LABEL], table["predicted"])
        ]
        which = say("Named by truth → answer; the surest mistakes come first.")
        return _over_means(table, samples, chosen, which, facts, say, said)
    return _over_means(table, samples, chosen, say("The samples picked."), facts, say)


def _over_means(
    table: pd.DataFrame, samples: Samples, chosen: np.ndarray, which: str, facts: Facts, say: Say,
    said: Sequence[str] | None = None,
) -> list[Panel]:  # fmt: skip
    """One figure per channel of the chosen rows; `said` (n,) names each row otherwise than by its class."""
    called = [in_words(name, say) if pd.notna(name) else "–" for name in table["predicted"]] if said is None else said
    panels = []
    for channel in samples.common.get("channels", ()):
        name = str(channel["name"])
        if name not in samples.inputs or samples.inputs[name].shape[1] != len(channel["axis"]):
            continue
        means = _class_means(facts, name, table["predicted"].iloc[chosen])
        fig = _spectra_figure(channel, samples.inputs[name], table, chosen, means, called, facts, say)
        over = (
            say("Grey lines are the class means of the training data.")
            if means
            else say("The grey line is the median of these samples, because the model carries no class means.")
        )
        told = say("A spectrum that follows none of the grey lines is a reason to distrust its class.")
        axis = Axis(name, np.asarray(channel["axis"], dtype=float), str(channel.get("unit", "")))
        title = say("Spectra, {channel}", channel=channel_title(axis, say))
        panels.append(Panel(f"spectra-{name}", title, fig, f"{which} {over} {told}"))
    return panels


def _class_means(facts: Facts, channel: str, named: pd.Series) -> dict[str, np.ndarray]:
    """Mean spectrum of some classes: those that the shown samples are named, then the others."""
    means: Mapping[str, Any] = (facts.get("class_means") or {}).get(channel) or {}
    order = [*dict.fromkeys(named.dropna().astype(str)), *(str(name) for name in facts["classes"])]
    return {name: np.asarray(means[name], dtype=float) for name in list(dict.fromkeys(order)) if name in means}


def _model_axis(facts: Facts, channel: str) -> np.ndarray | None:
    """Axis of the class means of a channel, which may be another than the samples'; None where it is not told."""
    found = [told["axis"] for told in facts.get("channels", ()) if str(told["name"]) == channel and told.get("axis")]
    return np.asarray(found[0], dtype=float) if found else None


def _spectra_figure(
    channel: Mapping[str, Any], values: np.ndarray, table: pd.DataFrame, chosen: np.ndarray, means: dict[str, np.ndarray],
    called: Sequence[str], facts: Facts, say: Say,
) -> go.Figure:  # fmt: skip
    """Spectra (n, P) of the chosen rows over the means, at most POINTS points each."""
    model_axis = _model_axis(facts, str(channel["name"])) if means else None
    told = Axis(str(channel["name"]), np.asarray(channel["axis"], dtype=float), str(channel.get("unit", "")))
    axis = told.positions
    layout = legend_beside(len(chosen) + len(means))
    fig = figures.figure(xaxis_title=axis_title(told, say), yaxis_title=value_title(told, say), **layout)
    behind = dict(list(means.items())[:MEANS])
    if not behind:
        behind = {say("median of these samples"): np.nanmedian(values[thinned(len(values), 2000)], axis=0)}
    for k, (name, mean) in enumerate(behind.items()):
        line = {"color": figures.GREY, "width": 3, "dash": ("solid", "dash", "dot", "dashdot")[k % 4]}
        _add_spectrum(fig, axis if model_axis is None else model_axis, mean, in_words(name, say), line, 0.6)
    for k, row in enumerate(chosen):
        sample = str(table[SAMPLE].iloc[row])[:40] if SAMPLE in table else str(row + 1)
        _add_spectrum(fig, axis, values[row], f"{sample}: {called[row]}", {"color": figures.COLOURS[k % 6], "width": 1.5}, 1.0)
    seen = values[chosen][:, told.away]
    if told.counts and np.isfinite(seen).any():  # else scattered light would set the scale
        top = max([float(np.nanmax(seen)), *(float(mean[told.away].max()) for mean in behind.values() if len(mean) == len(axis))])
        fig.update_yaxes(range=[min(0.0, float(np.nanmin(seen))), 1.1 * top])
    return fig


def _add_spectrum(
    fig: go.Figure, axis: np.ndarray, values: np.ndarray, name: str, line: Mapping[str, Any], opacity: float
) -> None:
    if len(values) != len(axis):
        return
    some = thinned(len(axis), POINTS)
    x, y = axis[some].astype(np.float32), np.asarray(values)[some].astype(np.float32)
    fig.add_scatter(x=x, y=y, mode="lines", name=name, line=dict(line), opacity=opacity)


# --- distance to the training data ------------------------------------------------------------------------------------
def domain_panel(table: pd.DataFrame, facts: Facts, say: Say) -> Panel:
    """T² against Q of each sample with the limits; of very many, all that lie outside first, then evenly spread others."""
    t2, q = table["t2"].to_numpy(float), table["q"].to_numpy(float)
    inside = table["in_domain"].to_numpy(bool)
    finite = np.isfinite(t2) & np.isfinite(q)
    out, rest = np.flatnonzero(finite & ~inside), np.flatnonzero(finite & inside)
    out = out[thinned(len(out), DOTS // 2)] if len(out) > DOTS // 2 else out
    rest = rest[thinned(len(rest), DOTS - len(out))] if len(rest) > DOTS - len(out) else rest
    fig = figures.figure(
        xaxis_title=say("T², 1 = 99.5 % of training samples"), yaxis_title=say("Q, 1 = 99.5 % of training samples")
    )
    drawn = np.concatenate([rest, out])
    kinds = ((rest, say("like the training data"), figures.ACCENT), (out, say("unlike the training data"), figures.ORANGE))
    for rows, name, colour in kinds:
        labels = table[SAMPLE].astype(str).str.slice(0, 24).iloc[rows].tolist() if SAMPLE in table else None
        fig.add_scatter(
            x=np.maximum(t2[rows], 1e-3).astype(np.float32), y=np.maximum(q[rows], 1e-3).astype(np.float32), mode="markers",
            name=name, text=labels, customdata=np.flatnonzero(np.isin(drawn, rows)).tolist(),
            marker={"color": colour, "size": 6, "opacity": 0.7},
            hovertemplate="%{text}: T² %{x:.2f}, Q %{y:.2f}<extra></extra>",
        )  # fmt: skip
    fig.add_vline(x=T2_LIMIT, line={"color": figures.GREY, "dash": "dash"})
    fig.add_hline(y=Q_LIMIT, line={"color": figures.GREY, "dash": "dash"})
    fig.update_xaxes(type="log").update_yaxes(type="log")
    told = say(
        "T² says how far a sample is from the middle of the training data, Q how much of its spectrum nothing in training "
        "explains. Beyond a dashed line ({t2:g} for T², {q:g} for Q) the model answers about something it has not seen.",
        t2=T2_LIMIT, q=Q_LIMIT,
    )  # fmt: skip
    if len(rest) + len(out) < int(finite.sum()):
        told += " " + say("{shown} of {n} samples are drawn.", shown=len(rest) + len(out), n=len(table))
    return Panel("domain", say("Distance to the training data"), fig, told, behind=_each(drawn))
