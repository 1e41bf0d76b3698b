"""The result sheet's decisions: confusion, cut-offs and whether their promises held, prediction sets, costs, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Behind, Panel
from lib.tasks.spectra import accuracy, calibration, decisions, verdicts
from lib.tasks.spectra.decisions import UNDECIDED
from lib.tasks.spectra.sheet_rows import Scored, fine_truth, folds_of
from lib.tasks.spectra.verdicts import GOALS, Facts, Goal
from lib.words import Say

MOST_ERRORS, SHOWN = 35, 6  # kinds of error, and samples to look at of each
MANY = 8  # classes beyond which the cells of a confusion are small
HALF = 50  # % of a row from which the colours are light enough for dark letters


def uncertified_panel(key: str, title: str, say: Say) -> Panel:
    """In the place of a panel that needs certified cut-offs."""
    text = say("This run has no certified cut-offs: it had no calibration rows, or was made before they were certified.")
    return Panel(key, title, text)


# --- confusion --------------------------------------------------------------------------------------------------------
def confusion_panels(t: Scored, facts: Facts, say: Say) -> list[Panel]:
    """Confusion of all test rows, and of those that the certified cut-offs decide."""
    wide = len(t.names) > 6
    told = say(
        "Rows are the truth, columns what the model said; the diagonal is right. Each cell has its count and its share of the "
        "row, so the diagonal's shares are the recall of each class."
    )
    every = accuracy.confusion(t.labels, t.named, len(t.names))[:, :-1]
    first = Panel("confusion", say("Confusion without cut-offs"), confusion_figure(every, t.names, say), told, wide)
    title = say("Confusion with cut-offs")
    if t.decided is None:
        return [first, uncertified_panel("confusion-cutoffs", title, say)]
    counts = accuracy.confusion(t.labels, t.decided, len(t.names))
    kept = int(counts[:, :-1].sum())
    told = say(
        "The same for the {kept} of {n} samples that were decided ({share:.1f} %). The last column counts those left to the "
        "taster, because no certified cut-off was reached or the sample was unlike the training data.",
        kept=kept, n=len(t), share=100 * kept / len(t),
    )  # fmt: skip
    return [first, Panel("confusion-cutoffs", title, confusion_figure(counts[:, :-1], t.names, say, counts[:, -1]), told, wide)]


def confusion_figure(counts: np.ndarray, names: tuple[str, ...], say: Say, tasted: np.ndarray | None = None) -> go.Figure:
    """Counts (K, K), rows the truth, with shares of each row and totals; `tasted` (K,) is one more column after the total."""
    k, row, column = len(names), counts.sum(axis=1), counts.sum(axis=0)
    many = k > MANY
    share = 100 * counts / np.maximum(row[:, None], 1)
    fig = figures.figure(xaxis_title=say("said"), yaxis_title=say("truth"), height=150 + 44 * (k + 1))
    cells = [[_cell(counts[i, j], share[i, j], many) for j in range(k)] for i in range(k)]
    told = [[f"{names[i]} → {names[j]}: {counts[i, j]} ({share[i, j]:.1f} %)" for j in range(k)] for i in range(k)]
    size = {"size": 9 if many else 12}
    fig.add_heatmap(
        z=share, text=cells, colorscale=figures.SEQUENTIAL, zmin=0, zmax=100, xgap=1, ygap=1,
        showscale=False, hovertext=told, hoverinfo="text",  # the shares stand in the cells
    )  # fmt: skip
    every = max(int(row.sum()), 1)
    totals = [(k, i, _cell(row[i], 100 * row[i] / every, many)) for i in range(k)]
    totals += [(j, k, _cell(column[j], 100 * column[j] / every, many)) for j in range(k)]
    totals += [(k, k, f"<b>{int(row.sum())}</b>")]
    labels = [*names, say("total")]
    if tasted is not None:
        both = np.append(row + tasted, row.sum() + tasted.sum())
        left = np.append(tasted, tasted.sum())
        totals += [(k + 1, i, _cell(n, 100 * n / max(int(both[i]), 1), many)) for i, n in enumerate(left)]
        labels += [say("tasted")]
    x, y, text = zip(*totals)
    fig.add_scatter(x=x, y=y, text=text, mode="text", textfont=size, hoverinfo="skip", showlegend=False)
    legible = {**size, "color": np.where(share > HALF, "#111111", "#ffffff").ravel().tolist()}
    at_row, at_column = np.indices((k, k)).reshape(2, -1)
    every_cell = [cell for line in cells for cell in line]
    fig.add_scatter(x=at_column, y=at_row, text=every_cell, mode="text", textfont=legible, hoverinfo="skip", showlegend=False)
    fig.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, range=[-0.5, len(labels) - 0.5], showgrid=False)
    return fig.update_yaxes(tickvals=list(range(k + 1)), ticktext=labels[: k + 1], range=[k + 0.5, -0.5], showgrid=False)


def _cell(count: float, percent: float, short: bool) -> str:
    """Count over share; where there are many cells, shares without decimals and nothing for 0."""
    if not count:
        return "" if short else "0"
    return f"{int(count)}<br>{percent:.0f} %" if short else f"{int(count)}<br>{percent:.1f} %"


# --- cut-offs ---------------------------------------------------------------------------------------------------------
def cutoff_panels(t: Scored, facts: Facts, say: Say) -> list[Panel]:
    """What was promised for each class from calibration rows, and what happened on the test rows."""
    title = say("Cut-offs: promised and what happened")
    if t.decided is None:
        return [uncertified_panel("cutoffs", title, say)]
    folds = folds_of(facts)
    told = say(
        "A cut-off is the lowest probability at which a class is accepted. Each was chosen on {rows} calibration rows of as many "
        "specimens, which the model had not seen, so that its promise holds on new samples with a risk of {risk:.0f} %; "
        "where that cannot be shown there is none, and the class is left to the taster. Precision: of those accepted, how many "
        "are right; recall: of the class, how many are accepted.",
        rows=_range([fold["independent_rows"] for fold in folds], "{:.0f}"), risk=100 * folds[0]["risk"],
    )  # fmt: skip
    told += " " + policy_text(facts, say)
    if not all(fold.get("grouped", True) for fold in folds):
        told += " " + say("The table has no specimens, so every row counted as independent: replicates would break the promise.")
    return [Panel("cutoffs", title, cutoff_table(t, facts, say), told, wide=True)]


def policy_text(facts: Facts, say: Say) -> str:
    """The policy in one sentence."""
    policy = verdicts.policy_of(facts)
    if policy == "cost":
        return say("Decisions follow the cost-optimal cut-off, not these.")
    goal = say("precision") if policy == "precision" else say("recall")
    return say("Decisions follow the cut-offs for {goal}.", goal=goal)


def cutoff_table(t: Scored, facts: Facts, say: Say) -> pd.DataFrame:
    """One row per class and goal. Test intervals count each specimen once, however many replicates it has."""
    rows = []
    for goal in GOALS:
        for k, name in enumerate(t.names):
            records = [fold["cutoffs"][str(facts["classes"][k])][goal] for fold in folds_of(facts)]
            made = [record for record in records if record["value"] is not None]
            happened, count, kept = _happened(t, t.decisions[goal], k, goal)
            outcome = _outcome(happened, count, records[0]["target"], say) if made else _missing(records[0], say)
            rows.append({
                say("class"): name, say("promise"): _promise(goal, records[0]["target"], say),
                say("cut-off (%)"): _range([100 * record["value"] for record in made]),
                say("kept, calibration (%)"): _range([record["kept_percent"] for record in records]),
                say("kept, test (%)"): round(kept, 1),
                say("measured, calibration (%)"): _range([100 * record["measured"] for record in made]),
                say("measured, test (%)"): _measured(happened, count) if made else "–",
                say("outcome on test rows"): outcome + _in_folds(len(made), len(records), say),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _range(values: Sequence[float], form: str = "{:.1f}") -> str:
    """The value, or the least and the largest of several folds."""
    if not len(values):
        return "–"
    ends = [form.format(end) for end in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else " – ".join(ends)


def _in_folds(made: int, folds: int, say: Say) -> str:
    """How many folds have a cut-off, where only some have."""
    return "" if made in (0, folds) else " " + say("({made} of {folds} folds have a cut-off)", made=made, folds=folds)


def _happened(t: Scored, code: np.ndarray, k: int, goal: Goal) -> tuple[float, int, float]:
    """Share that the promise is about on test rows (NaN without any), how many specimens it rests on, and % of rows kept."""
    accepted, own = code == k, t.labels == k
    about = accepted if goal == "precision" else own
    right = int((accepted & own).sum())
    return (
        right / int(about.sum()) if about.any() else float("nan"),
        len(np.unique(t.groups[about])),
        100 * float(accepted.mean()),
    )


def _promise(goal: Goal, target: float, say: Say) -> str:
    if goal == "precision":
        return say("precision ≥ {share:.1f} %", share=100 * target)
    return say("recall ≥ {share:.1f} %", share=100 * target)


def _missing(record: Mapping[str, Any], say: Say) -> str:
    """Why there is no cut-off; "" where there is one."""
    if record["value"] is not None:
        return ""
    if record["failure"] == "too few rows":
        need, have = record["rows_needed"], record["rows"]
        return say("no certifiable cut-off: {have} rows, {need} needed", have=have, need=need)
    return say("no certifiable cut-off: out of reach")


def _measured(share: float, count: int) -> str:
    if not count:
        return "–"
    low, high = calibration.interval(np.array(share * count), np.array(count))
    return f"{100 * share:.1f} ({100 * float(low):.1f} – {100 * float(high):.1f})"


def _outcome(share: float, count: int, target: float, say: Say) -> str:
    """Whether the test rows speak for the promise."""
    if not count:
        return say("no test row to tell")
    if share >= target:
        return say("kept")
    high = float(calibration.interval(np.array(share * count), np.array(count))[1])
    return say("below, but within chance") if high >= target else say("broken")


# --- prediction sets --------------------------------------------------------------------------------------------------
def set_panel(t: Scored, facts: Facts, say: Say) -> Panel:
    """How often the sets hold the truth, class by class, and how large they are."""
    title = say("Prediction sets")
    if t.sets is None:
        return uncertified_panel("sets", title, say)
    folds = folds_of(facts)
    table = calibration.set_summary(t.labels, t.sets, t.names)
    spans = zip(table["covered_lo95"], table["covered_hi95"])
    always = [None in thresholds for thresholds in zip(*(fold["set_thresholds"] for fold in folds), strict=True)]
    shown = pd.DataFrame({
        say("class"): table["class"], say("samples"): table["samples"],
        say("truth in the set (%)"): table["covered_percent"].round(1),
        say("95 % interval"): ["–" if np.isnan(low) else f"{low:.1f} – {high:.1f}" for low, high in spans],
        say("mean size (classes)"): table["mean_size"].round(2), say("one class only (%)"): table["single_percent"].round(1),
        say("empty (%)"): table["empty_percent"].round(1),
        say("in every set"): [say("yes, too few calibration rows") if a else say("no") for a in always],
    })  # fmt: skip
    told = say(
        "Instead of one class the model can give the set of all it cannot exclude. For samples of any class the set holds the "
        "truth {share:.0f} % of the time or more; small sets mean a model that knows, and a class with too few calibration rows "
        "is in every set because nothing allows leaving it out.",
        share=100 * folds[0]["confidence"],
    )  # fmt: skip
    return Panel("sets", title, shown, told, wide=True)


# --- costs ------------------------------------------------------------------------------------------------------------
def cost_panel(t: Scored, facts: Facts, say: Say) -> Panel:
    """Mean cost per test sample against the least expected saving; the one that calibration rows chose is marked."""
    title = say("Cost-optimal cut-off")
    if "cost" not in t.decisions:
        return uncertified_panel("cost", title, say)
    folds = folds_of(facts)
    costs = verdicts.costs_of(folds[0])
    at = np.linspace(min(-1.0, 1 - costs[:, :-1].max()), 1.0, 201)
    paid = cost_curve(t, costs, at)
    fig = figures.figure(
        xaxis_title=say("least saving expected of a decision (tastings)"), yaxis_title=say("cost per sample (tastings)")
    )
    fig.add_scatter(x=at, y=paid, mode="lines", line_color=figures.ACCENT, name=say("model, test rows"))
    line = {"color": figures.GREY, "dash": "dash"}
    fig.add_hline(y=costs[0, -1], line=line, annotation_text=say("taste all"), annotation_position="bottom left")
    told = cost_text(folds[0], say) + " " + say(
        "A sure decision saves one tasting; a doubtful one is expected to save less, or to cost. Left of the minimum errors cost "
        "too much, right of it tasting does."
    )  # fmt: skip
    chosen = [fold["cost"]["value"] for fold in folds if fold["cost"]["value"] is not None]
    if not chosen:
        return Panel("cost", title, fig, told + " " + say("No cut-off is shown to be cheaper than tasting every sample."), True)
    for value in chosen:
        fig.add_vline(x=value, line={"color": figures.ORANGE, "dash": "dot"})
    fig.add_annotation(
        x=chosen[0], y=1, yref="paper", yanchor="bottom", text=say("chosen on calibration rows"), showarrow=False,
        font_color=figures.ORANGE,
    )  # fmt: skip
    told += " " + say(
        "The cut-off chosen on calibration rows, {value}, costs {here:.3f} tastings per test sample and decides {kept:.1f} % of "
        "them; tasting all costs 1, tasting none {none:.3f}.",
        value=_range(chosen, "{:.2f}"), here=paid_by(t, costs, t.decisions["cost"]), none=float(paid[0]),
        kept=100 * float(np.mean(t.decisions["cost"] != UNDECIDED)),
    )  # fmt: skip
    return Panel("cost", title, fig, told, True)


def cost_text(facts: Facts, say: Say) -> str:
    """What was taken to cost how much."""
    costs = facts.get("costs") or {}
    told = say("A wrong decision is taken to cost {wrong:g} tastings.", wrong=costs.get("wrong", verdicts.WRONG))
    special = ", ".join(costs.get("special", ()))
    return told + (" " + say("Others (truth > said): {list}.", list=special) if special else "")


def paid_by(t: Scored, costs: np.ndarray, decided: np.ndarray) -> float:
    """Mean cost per sample (tastings) of decisions (n,); UNDECIDED, the last column of the costs, is tasted."""
    return float(costs[t.labels, decided].mean())


def cost_curve(t: Scored, costs: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Mean cost per sample (tastings) at each least saving (m,); samples out of the domain are always tasted."""
    best, saving = decisions.expected_savings(t.probabilities, costs)
    saving = np.where(t.inside, saving, -np.inf)
    order = np.argsort(-saving, kind="stable")
    taste = costs[t.labels, -1]
    change = np.append(0.0, np.cumsum((costs[t.labels, best] - taste)[order]))
    return np.asarray((taste.sum() + change[np.searchsorted(-saving[order], -at, side="right")]) / len(t))


# --- errors -----------------------------------------------------------------------------------------------------------
def error_panels(t: Scored, facts: Facts, say: Say) -> list[Panel]:
    """The kinds of error that weigh most, without and with cut-offs."""
    detail = fine_truth(t, facts)
    told = say(
        "Which confusions make most of the errors, commonest first, and how probable the model held truth and answer. "
        "A few kinds at the top are worth more training samples; a confident wrong answer suggests a wrong label."
    )
    every, behind = error_table(t, t.named, detail, say)
    first = _error_panel("errors", say("What goes wrong most, without cut-offs"), every, told, behind, say)
    title = say("What goes wrong most, with cut-offs")
    if t.decided is None:
        return [first, uncertified_panel("errors-cutoffs", title, say)]
    left = int(((t.decided != UNDECIDED) & (t.decided != t.labels)).sum())
    told = say(
        "The errors that remain among decided samples: {left} of {every}. The others now go to the taster.",
        left=left, every=int((t.named != t.labels).sum()),
    )  # fmt: skip
    some, behind = error_table(t, t.decided, detail, say)
    return [first, _error_panel("errors-cutoffs", title, some, told, behind, say)]


def _error_panel(key: str, title: str, table: pd.DataFrame, told: str, behind: Behind, say: Say) -> Panel:
    """Kinds of error, or that there is none."""
    if not len(table):
        return Panel(key, title, say("No test sample is decided wrongly."), told, wide=True)
    return Panel(key, title, table, told, wide=True, behind=behind)


def error_table(t: Scored, said: np.ndarray, detail: np.ndarray | None, say: Say) -> tuple[pd.DataFrame, Behind]:
    """`accuracy.error_contributions` for reading, scores in percent; and a few test rows of each kind, the surest first."""
    table = accuracy.error_contributions(t.labels, t.probabilities, said, t.names, detail, MOST_ERRORS)
    behind = tuple(
        tuple(int(row) for row in t.place[rows])
        for rows in accuracy.surest_errors(t.labels, t.probabilities, said, t.names, table, detail, SHOWN)
    )
    score = {column: (100 * table[column]).round(1) for column in table if str(column).endswith(("_mean", "_sd"))}
    shown = pd.DataFrame({
        say("truth"): table["truth"], say("said"): table["predicted"], say("count"): table["count"],
        say("share of errors (%)"): table["percent"].round(1),
        say("score of the truth, mean (%)"): score["truth_score_mean"], say("its spread (%)"): score["truth_score_sd"],
        say("score of the answer, mean (%)"): score["predicted_score_mean"],
        say("spread of the answer (%)"): score["predicted_score_sd"],
    })  # fmt: skip
    return shown, behind
