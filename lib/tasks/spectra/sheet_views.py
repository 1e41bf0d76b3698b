"""The result sheet: what the test rows say of the model's probabilities, its classes and its decisions, in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel
from lib.tasks.spectra import accuracy, calibration, sheet_decisions, sheet_strata
from lib.tasks.spectra.sheet_rows import Scored, legend_beside, scored, style, thinned
from lib.tasks.spectra.verdicts import Facts, areas, labelled
from lib.words import Say, english

SEED = 0  # of resampling: the same run gives the same sheet
SCORE_BINS = 25
MANY = 4  # classes beyond which a legend stands beside its figure


def sheet_panels(
    predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, facts: Facts, say: Say = english
) -> list[Panel]:
    """All panels from test rows: predictions, truth and table of n rows each."""
    t = scored(predicted, truth, samples, facts, say)
    if not len(t):
        text = say("No test sample has both a known class and a prediction, so nothing can be scored.")
        return [sheet_strata.facts_panel(t, facts, say), Panel("nothing", say("Nothing to score"), text, wide=True)]
    rng = np.random.default_rng(SEED)
    return [
        sheet_strata.facts_panel(t, facts, say),
        calibration_panel(t, rng, say),
        score_panel(t, say),
        *sheet_decisions.confusion_panels(t, facts, say),
        *curve_panels(t, say),
        class_panel(t, say),
        coverage_panel(t, say),
        class_table(t, say),
        *sheet_decisions.cutoff_panels(t, facts, say),
        sheet_decisions.set_panel(t, facts, say),
        sheet_decisions.cost_panel(t, facts, say),
        *sheet_decisions.error_panels(t, facts, say),
        *sheet_strata.strata_panels(t, rng, say),
        *sheet_strata.candidate_panels(facts, say),
    ]


# --- are the probabilities right? -------------------------------------------------------------------------------------
def ece_interval(predicted: pd.DataFrame, truth: pd.DataFrame, specimen: pd.Series | None) -> tuple[float, float]:
    """95 % interval of the calibration error in percentage points, as its panel tells it; NaN without a row to score."""
    from lib.splits import numbered  # brings scikit-learn, which pages that only show a prediction need not load

    y, p, rows = labelled(predicted, truth)
    if not len(y):
        return float("nan"), float("nan")
    groups = None if specimen is None else numbered(specimen.iloc[rows].reset_index(drop=True))
    error = calibration.calibration_error(*calibration.top(y, p), np.random.default_rng(SEED), groups=groups)
    return error.lo95, error.hi95


def calibration_panel(t: Scored, rng: np.random.Generator, say: Say) -> Panel:
    """Share of right answers against stated probability, with the calibration error, its interval and its null floor."""
    hit, confidence = calibration.top(t.labels, t.probabilities)
    groups = t.groups if t.grouped else None
    error = calibration.calibration_error(hit, confidence, rng, groups=groups)
    table = calibration.reliability(hit, confidence)
    fig = figures.figure(xaxis_title=say("stated probability of the class named (%)"), yaxis_title=say("right (%)"))
    low = 100 * min(float(confidence.min()), float(table["hits_lo95"].min()))
    fig.add_scatter(x=[low, 100], y=[low, 100], mode="lines", line={"color": figures.GREY, "dash": "dash"}, name=say("honest"))
    bars = {"array": 100 * (table["hits_hi95"] - table["hits"]), "arrayminus": 100 * (table["hits"] - table["hits_lo95"])}
    fig.add_scatter(
        x=100 * table["confidence"], y=100 * table["hits"], error_y={"type": "data", "thickness": 1, **bars},
        mode="markers+lines", line_color=figures.ACCENT, name=say("model, with 95 % intervals"), customdata=table["samples"],
        hovertemplate="%{x:.1f} % → %{y:.1f} % (n = %{customdata})<extra></extra>",
    )  # fmt: skip
    told = say(
        "On the dashed line a stated 80 % is right 8 times in 10; below it the model is too sure of itself. "
        "The calibration error (ECE) is {ece:.1f} points (95 % interval {low:.1f} to {high:.1f}); an honest model would show "
        "{floor:.1f} on average by chance alone, and more than {top:.1f} in one set out of 20.",
        ece=error.ece_points, low=error.lo95, high=error.hi95, floor=error.floor, top=error.floor_hi95,
    )  # fmt: skip
    verdict = say("So these probabilities are shown to be off.") if error.evident else say("So nothing speaks against them here.")
    return Panel("calibration", say("Can the probabilities be believed?"), fig, told + " " + verdict)


def score_panel(t: Scored, say: Say) -> Panel:
    """Two classes: distribution of the probability of the second, by true class. More: of the true class, one row per class."""
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    two = len(t.names) == 2
    score = t.probabilities[:, 1] if two else t.probabilities[np.arange(len(t)), t.labels]
    place = np.minimum((score * SCORE_BINS).astype(int), SCORE_BINS - 1)
    count = np.bincount(t.labels * SCORE_BINS + place, minlength=len(t.names) * SCORE_BINS).reshape(len(t.names), SCORE_BINS)
    share = 100 * count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    middle = 100 * (edges[:-1] + edges[1:]) / 2
    if two:
        fig = figures.figure(
            xaxis_title=say("probability of {name} (%)", name=t.names[1]), yaxis_title=say("share of the true class (%)"),
            barmode="overlay", bargap=0,
        )  # fmt: skip
        for k in (0, 1):
            fig.add_bar(x=middle, y=share[k], name=t.names[k], marker_color=style(k, 2)["color"], opacity=0.6)
        told = say(
            "Each colour is one true class. The less the two overlap, the fewer samples the model confuses; "
            "what lies in the overlap no cut-off can tell apart."
        )
        return Panel("scores", say("Scores of each true class"), fig, told)
    fig = figures.figure(xaxis_title=say("probability given to the true class (%)"), height=120 + 24 * len(t.names))
    bar = {"title": {"text": say("% of class")}}
    row = list(range(len(t.names)))
    fig.add_heatmap(x=middle, y=row, z=share.astype(np.float32), colorscale=figures.SEQUENTIAL, colorbar=bar,
                    hovertemplate="%{x:.0f} %: %{z:.1f} %<extra></extra>")  # fmt: skip
    fig.update_yaxes(tickvals=list(range(len(t.names))), ticktext=list(t.names), autorange="reversed")
    told = say(
        "One row per true class. Colour at the right: its samples are recognised with certainty; "
        "at the left: the model is sure that they are something else."
    )
    return Panel("scores", say("Scores of each true class"), fig, told)


# --- ROC and precision–recall -----------------------------------------------------------------------------------------
def curve_panels(t: Scored, say: Say) -> list[Panel]:
    """ROC and precision–recall curve of each class against the rest, with areas."""
    roc = _curve_figure(say("other samples taken for it (%)"), say("samples of the class found (%)"), t)
    recall = _curve_figure(say("samples of the class found: recall (%)"), say("right among those named: precision (%)"), t)
    roc.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"color": figures.GREY, "width": 1}, showlegend=False, hoverinfo="skip"
    )
    area = areas(t.labels, t.probabilities)
    for k, name in enumerate(t.names):
        positive = t.labels == k
        if not positive.any() or positive.all():
            continue
        true, false = _counts(t.probabilities[:, k], positive)
        x, y = 100 * false / (~positive).sum(), 100 * true / positive.sum()
        _add_curve(roc, x, y, name, float(area[k]), style(k, len(t.names)))
        precision = true[1:] / (true[1:] + false[1:])
        average = float(np.sum(np.diff(true) / positive.sum() * precision))
        _add_curve(recall, y[1:], 100 * precision, name, average, style(k, len(t.names)))
    told = say(
        "Moving the cut-off from strict to lax runs along each curve. An area of 1 is perfect and 0.5 is guessing: "
        "it is the chance that a sample of the class scores above one that is not."
    )
    told_pr = say(
        "How often the name is right as more of the class is found. For rare classes this tells more than the ROC curve: "
        "guessing would give an area equal to the class's share of the samples."
    )
    return [
        Panel("roc", say("ROC curve of each class (area in brackets)"), roc, told),
        Panel("precision-recall", say("Precision and recall of each class (area in brackets)"), recall, told_pr),
    ]


def _counts(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives (m,) at each distinct cut-off, strict to lax, beginning with none."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-1.0))
    true = np.cumsum(positive[order])[last]
    return np.append(0, true), np.append(0, last + 1 - true)


def _curve_figure(x_title: str, y_title: str, t: Scored) -> go.Figure:
    beside = legend_beside(len(t.names)) if len(t.names) > MANY else {}
    return figures.figure(xaxis_title=x_title, yaxis_title=y_title, **beside).update_xaxes(range=[-1, 101]).update_yaxes(
        range=[-1, 102]
    )  # fmt: skip


def _add_curve(fig: go.Figure, x: np.ndarray, y: np.ndarray, name: str, area: float, line: dict[str, Any]) -> None:
    some = thinned(len(x))
    fig.add_scatter(
        x=x[some].astype(np.float32), y=y[some].astype(np.float32), mode="lines", line=line, name=f"{name} ({area:.3f})"
    )


# --- per class --------------------------------------------------------------------------------------------------------
def class_panel(t: Scored, say: Say) -> Panel:
    """Recall and precision of each class without cut-offs."""
    table = accuracy.by_class(t.labels, t.named, t.names)
    fig = figures.figure(xaxis_title=say("recall and precision (%)"), height=120 + 34 * len(t.names))
    row = np.arange(len(t.names))
    for column, name, colour, shift in (
        ("recall", say("recall"), figures.ACCENT, -0.12),
        ("precision", say("precision"), figures.ORANGE, 0.12),
    ):
        middle = table[f"{column}_percent"]
        bars = {"array": table[f"{column}_hi95"] - middle, "arrayminus": middle - table[f"{column}_lo95"]}
        fig.add_scatter(
            x=middle, y=row + shift, error_x={"type": "data", "thickness": 1.5, **bars}, mode="markers", marker_color=colour,
            name=name, hovertemplate="%{x:.1f} %",
        )  # fmt: skip
    fig.update_yaxes(tickvals=row, ticktext=list(t.names), range=[len(t.names) - 0.5, -0.5]).update_xaxes(range=[-2, 102])
    told = say(
        "Recall: how many samples of a class are found. Precision: how often its name is right. A wide bar means that there "
        "are too few test samples to say; a class at recall 0 is never found, however high the overall accuracy."
    )
    return Panel("by-class", say("How well each class is found"), fig, told)


def class_table(t: Scored, say: Say) -> Panel:
    """Recall, precision and F1 of each class without cut-offs, in numbers."""
    table = accuracy.by_class(t.labels, t.named, t.names)
    shown = pd.DataFrame({
        say("class"): table["class"], say("samples"): table["samples"], say("times named"): table["predicted"],
        say("recall (%)"): table["recall_percent"].round(1), say("recall, 95 % interval"): _span(table, "recall"),
        say("precision (%)"): table["precision_percent"].round(1), say("precision, 95 % interval"): _span(table, "precision"),
        say("F1 (0 to 1)"): table["f1"].round(3),
    })  # fmt: skip
    told = say(
        "F1 is high only where recall and precision both are; macro-F1, the mean of this column, counts a rare class as much as "
        "a common one. Intervals take the rows as independent, so with replicates they are a little too narrow."
    )
    return Panel("by-class-table", say("Each class in numbers"), shown, told, wide=True)


def _span(table: pd.DataFrame, column: str) -> list[str]:
    """The two ends of an interval in percent as text."""
    ends = zip(table[f"{column}_lo95"], table[f"{column}_hi95"])
    return ["–" if np.isnan(low) else f"{low:.1f} – {high:.1f}" for low, high in ends]


# --- accuracy against coverage ----------------------------------------------------------------------------------------
def coverage_panel(t: Scored, say: Say) -> Panel:
    """Accuracy of the most certain samples against their share; where the certified cut-offs lie."""
    table = accuracy.accuracy_by_coverage(t.labels, t.probabilities)
    table = table.iloc[thinned(len(table), 400)]
    fig = figures.figure(xaxis_title=say("share of samples decided, most certain first (%)"), yaxis_title=say("right (%)"))
    fig.add_scatter(
        x=table["kept_percent"].to_numpy(np.float32), y=table["accuracy_percent"].to_numpy(np.float32), mode="lines",
        line_color=figures.ACCENT, name=say("one cut-off for all classes"), customdata=table["cutoff"].to_numpy(np.float32),
        hovertemplate="%{x:.1f} % → %{y:.1f} % (p ≥ %{customdata:.3f})<extra></extra>",
    )  # fmt: skip
    if t.decided is not None and (t.decided >= 0).any():
        found = accuracy.score(t.labels, t.decided, t.names)
        fig.add_scatter(
            x=[found["kept_percent"]], y=[found["accuracy_percent"]], mode="markers", name=say("certified cut-offs"),
            marker={"symbol": "star", "size": 13, "color": figures.ORANGE},
        )  # fmt: skip
    told = say(
        "What accuracy you get if only the samples the model is surest of are decided and the rest are tasted. "
        "A curve that falls steeply to the right means that tasting a few doubtful samples removes most errors."
    )
    return Panel("coverage", say("Accuracy against the share decided"), fig.update_xaxes(range=[0, 101]), told)
