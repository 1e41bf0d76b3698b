"""The result sheet's decisions: confusion, cut-offs and whether their promises held, prediction sets, costs, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel
from lib.tasks.spectra import accuracy, calibration, verdicts
from lib.tasks.spectra.decisions import UNDECIDED
from lib.tasks.spectra.sheet_rows import Scored, fine_truth
from lib.tasks.spectra.verdicts import POLICIES, Facts, Policy
from lib.words import Say

MOST_ERRORS = 35
MANY = 8  # classes beyond which the cells of a confusion are small


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
        z=share, text=cells, texttemplate="%{text}", colorscale=figures.SEQUENTIAL, zmin=0, zmax=100, xgap=1, ygap=1,
        showscale=not many, colorbar={"title": {"text": say("% of row")}}, hovertext=told, hoverinfo="text", textfont=size,
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
    told = say(
        "A cut-off is the lowest probability at which a class is accepted. Each was chosen on {rows} calibration rows of as many "
        "specimens, which the model had not seen, so that its promise holds on new samples with a risk of {risk:.0f} %; "
        "where that cannot be shown there is none, and the class is left to the taster. Precision: of those accepted, how many "
        "are right; recall: of the class, how many are accepted.",
        rows=facts["independent_rows"], risk=100 * facts["risk"],
    )  # fmt: skip
    used = say("precision") if verdicts.policy_of(facts) == "precision" else say("recall")
    told += " " + say("Decisions follow the cut-offs for {goal}.", goal=used)
    if not facts.get("grouped", True):
        told += " " + say("The table has no specimens, so every row counted as independent: replicates would break the promise.")
    return [Panel("cutoffs", title, cutoff_table(t, facts, say), told, wide=True)]


def cutoff_table(t: Scored, facts: Facts, say: Say) -> pd.DataFrame:
    """One row per class and goal. Test intervals count each specimen once, however many replicates it has."""
    rows = []
    for goal in POLICIES:
        code = verdicts.decided(t.probabilities, t.inside, facts, goal)
        for k, name in enumerate(t.names):
            record = facts["cutoffs"][name][goal]
            happened, count, kept = _happened(t, code, k, goal)
            rows.append({
                say("class"): name, say("promise"): _promise(goal, record["target"], say),
                say("cut-off (%)"): _percent(record["value"]),
                say("kept, calibration (%)"): round(record["kept_percent"], 1), say("kept, test (%)"): round(kept, 1),
                say("measured, calibration (%)"): _percent(record["measured"]),
                say("measured, test (%)"): "–" if record["value"] is None else _measured(happened, count),
                say("outcome on test rows"): _missing(record, say) or _outcome(happened, count, record["target"], say),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _happened(t: Scored, code: np.ndarray, k: int, goal: Policy) -> tuple[float, int, float]:
    """Share that the promise is about on test rows (NaN without any), how many specimens it rests on, and % of rows kept."""
    accepted, own = code == k, t.labels == k
    about = accepted if goal == "precision" else own
    right = int((accepted & own).sum())
    return (
        right / int(about.sum()) if about.any() else float("nan"),
        len(np.unique(t.groups[about])),
        100 * float(accepted.mean()),
    )


def _promise(goal: Policy, target: float, say: Say) -> str:
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


def _percent(share: float | None) -> str:
    return "–" if share is None or not np.isfinite(share) else f"{100 * share:.1f}"


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
    if not verdicts.certified(facts):
        return uncertified_panel("sets", title, say)
    table = calibration.set_summary(t.labels, verdicts.sets_of(t.probabilities, facts), t.names)
    spans = zip(table["covered_lo95"], table["covered_hi95"])
    always = [threshold is None for threshold in facts["set_thresholds"]]
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
        share=100 * facts["confidence"],
    )  # fmt: skip
    return Panel("sets", title, shown, told, wide=True)


# --- costs ------------------------------------------------------------------------------------------------------------
def cost_panel(t: Scored, facts: Facts, say: Say) -> Panel:
    """Mean cost per test sample against one cut-off for all classes; the one that calibration rows chose is marked."""
    title = say("Cost-optimal cut-off")
    if not verdicts.certified(facts):
        return uncertified_panel("cost", title, say)
    record = facts["cost"]
    at = np.linspace(0, 1, 201)
    paid = cost_curve(t, record, at)
    fig = figures.figure(xaxis_title=say("cut-off on the highest probability (%)"), yaxis_title=say("cost per sample (tastings)"))
    fig.add_scatter(x=100 * at, y=paid, mode="lines", line_color=figures.ACCENT, name=say("model, test rows"))
    line = {"color": figures.GREY, "dash": "dash"}
    fig.add_hline(y=record["taste"], line=line, annotation_text=say("taste all"), annotation_position="top left")
    told = say(
        "If a wrong decision costs as much as {ratio:g} tastings: left of the minimum errors cost too much, right of it tasting "
        "does.", ratio=record["wrong"] / record["taste"],
    )  # fmt: skip
    if record["value"] is None:
        return Panel("cost", title, fig, told + " " + say("No cut-off is shown to be cheaper than tasting every sample."))
    fig.add_vline(
        x=100 * record["value"], line={"color": figures.ORANGE, "dash": "dot"}, annotation_text=say("chosen on calibration rows")
    )
    here = float(cost_curve(t, record, np.array([record["value"]]))[0])
    told += " " + say(
        "The cut-off chosen on calibration rows, {value:.1f} %, costs {here:.3f} per test sample, against {taste:g} for tasting "
        "all and {none:.3f} for tasting none.",
        value=100 * record["value"], here=here, taste=record["taste"], none=float(paid[0]),
    )  # fmt: skip
    return Panel("cost", title, fig, told)


def cost_curve(t: Scored, costs: Mapping[str, float], at: np.ndarray) -> np.ndarray:
    """Mean cost per sample at each cut-off (m,), in the unit of the costs; samples out of the domain are always tasted."""
    score = np.where(t.inside, t.confidence, -np.inf)
    order = np.argsort(-score, kind="stable")
    wrong = np.append(0, np.cumsum((t.named != t.labels)[order]))
    accepted = np.searchsorted(-score[order], -at, side="right")
    return (costs["wrong"] * wrong[accepted] + costs["taste"] * (len(t) - accepted)) / len(t)


# --- errors -----------------------------------------------------------------------------------------------------------
def error_panels(t: Scored, facts: Facts, say: Say) -> list[Panel]:
    """The kinds of error that weigh most, without and with cut-offs."""
    detail = fine_truth(t, facts)
    told = say(
        "Which confusions make most of the errors, commonest first, and how probable the model held truth and answer. "
        "A few kinds at the top are worth more training samples; a confident wrong answer suggests a wrong label."
    )
    every = error_table(t, t.named, detail, say)
    first = Panel("errors", say("What goes wrong most, without cut-offs"), every, told, wide=True)
    title = say("What goes wrong most, with cut-offs")
    if t.decided is None:
        return [first, uncertified_panel("errors-cutoffs", title, say)]
    left = int(((t.decided != UNDECIDED) & (t.decided != t.labels)).sum())
    told = say(
        "The errors that remain among decided samples: {left} of {every}. The others now go to the taster.",
        left=left, every=int((t.named != t.labels).sum()),
    )  # fmt: skip
    return [first, Panel("errors-cutoffs", title, error_table(t, t.decided, detail, say), told, wide=True)]


def error_table(t: Scored, said: np.ndarray, detail: np.ndarray | None, say: Say) -> pd.DataFrame:
    """`accuracy.error_contributions` for reading; scores in percent."""
    table = accuracy.error_contributions(t.labels, t.probabilities, said, t.names, detail, MOST_ERRORS)
    score = {column: (100 * table[column]).round(1) for column in table if str(column).endswith(("_mean", "_sd"))}
    return pd.DataFrame({
        say("truth"): table["truth"], say("said"): table["predicted"], say("count"): table["count"],
        say("share of errors (%)"): table["percent"].round(1),
        say("score of the truth, mean (%)"): score["truth_score_mean"], say("its spread (%)"): score["truth_score_sd"],
        say("score of the answer, mean (%)"): score["predicted_score_mean"],
        say("spread of the answer (%)"): score["predicted_score_sd"],
    })  # fmt: skip
