"""Cut-offs that keep a promise: chosen on calibration rows, held on new samples at a stated risk.

Learn then Test (Angelopoulos, Bates, Candès, Jordan & Lei 2021/2025): each cut-off is a null hypothesis "the promise is
broken here"; its p-value is valid at any sample size, and the family of them is tested so that the chance of accepting any
false cut-off is at most `risk`. Where none is accepted the answer is "no certifiable cut-off", not a number.

MAPIE's `BinaryClassificationController` gives the same guarantee for recall and precision. It is not used because it decides
fewer samples (`benchmarks/spectra_promises.py` shows both) and knows neither costs nor sets per class, so that the p-values and
families below would stay.

What it rests on: calibration rows independent of each other (`independent_rows` for replicates), of the model and of its
temperature, and new samples like them. A score is accepted when it is at or above the cut-off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit
from scipy.stats import binom

from lib.task import InputError, Phrase
from lib.tasks.spectra.calibration import checked
from lib.words import as_phrase

Goal = Literal["recall", "precision", "cost"]
Failure = Literal["", "too few rows", "out of reach"]
RECALL, RISK = 0.925, 0.1  # defaults: the recall the original's guide promises; one calibration set in ten may break it
FIXED = expit(np.linspace(-6, 8, 57))  # cut-offs tested where no other rows propose some: dense towards 0 and 1
STEPS = 200  # cut-offs that other rows propose
UNDECIDED = -1


@dataclass(frozen=True)
class Cutoff:
    """A certified cut-off, or why there is none.

    `value` is None where nothing could be certified: `failure` says whether the rows were too few even without a single
    error (`rows_needed` would do: of the class for recall, accepted ones for precision) or the promise was out of reach.
    `certified` are all cut-offs that hold together at this risk, ascending. `measured` is the recall or precision (0 to 1)
    or the saving per sample on the calibration rows, `kept` the share of rows accepted (0 to 1), `rows` how many rows the
    figure rests on.
    """

    goal: Goal
    target: float
    risk: float
    value: float | None
    certified: tuple[float, ...] = ()
    measured: float = math.nan
    kept: float = 0.0
    rows: int = 0
    failure: Failure = ""
    rows_needed: int = 0


@dataclass(frozen=True)
class Rows:
    """Scores (n,) and what accepting each row does: `good` (n,) bool for recall and precision, `saving` (n,) for cost."""

    score: np.ndarray
    good: np.ndarray
    saving: np.ndarray | None = None


# --- p-values and families --------------------------------------------------------------------------------------------
def binomial_p(errors: np.ndarray, rows: np.ndarray | int, most: float) -> np.ndarray:
    """p-values of "the error rate is above `most`" from counts: P(Binomial(rows, most) ≤ errors), exact; 1 without rows."""
    return np.asarray(binom.cdf(errors, rows, most))


def bounded_p(mean: np.ndarray, rows: int, most: float) -> np.ndarray:
    """p-values of "the mean of a loss between 0 and 1 is above `most`" from its sample mean.

    Hoeffding–Bentkus (Angelopoulos et al., proposition 1; Bates et al. 2021, section 3.1.2).
    """
    low = np.minimum(mean, most)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(low > 0, low * np.log(low / most), 0.0) + np.where(
            low < 1, (1 - low) * np.log((1 - low) / (1 - most)), 0
        )
    bentkus = math.e * binom.cdf(np.ceil(rows * mean - 1e-9), rows, most)
    return np.minimum(1.0, np.minimum(np.exp(-rows * entropy), bentkus))


def fixed_sequence(p_values: np.ndarray, risk: float) -> np.ndarray:
    """Which hypotheses (m,) fall when tested one after another, each at the whole risk, until the first that stands.

    The order must not depend on the rows tested (Bauer 1991; Angelopoulos et al., algorithm 1).
    """
    return np.logical_and.accumulate(p_values <= risk)


def holm(p_values: np.ndarray, risk: float) -> np.ndarray:
    """Which hypotheses (m,) fall under Bonferroni's correction, stepped down (Holm 1979); any order, any dependence."""
    order = np.argsort(p_values, kind="stable")
    fallen = np.zeros(len(p_values), dtype=bool)
    fallen[order] = np.logical_and.accumulate(p_values[order] <= risk / np.arange(len(p_values), 0, -1))
    return fallen


# --- the three promises -----------------------------------------------------------------------------------------------
def recall_cutoff(rows: Rows, target: float = RECALL, risk: float = RISK) -> Cutoff:
    """The highest cut-off that accepts at least `target` of all good samples, at `risk`.

    Recall only falls as the cut-off rises, so cut-offs are tested upwards from the lowest score of a good row, each at the
    whole risk: the exact one-sided tolerance limit of Wilks 1941 (monotone risks: Bates et al. 2021, theorem 1).
    Raises InputError where target or risk is not between 0 and 1.
    """
    _shares(target=target, risk=risk)
    own = np.sort(rows.score[rows.good])
    needed = _rows_without_error(target, risk)
    if len(own) < needed:
        return Cutoff("recall", target, risk, None, rows=len(own), failure="too few rows", rows_needed=needed)
    grid = np.unique(own[np.isfinite(own)])
    missed = np.searchsorted(own, grid, side="left")
    fallen = fixed_sequence(binomial_p(missed, len(own), 1 - target), risk)
    if not fallen.any():
        return Cutoff("recall", target, risk, None, rows=len(own), failure="out of reach", rows_needed=needed)
    best = int(np.flatnonzero(fallen)[-1])
    return Cutoff(
        "recall", target, risk, float(grid[best]), tuple(grid[fallen].tolist()), 1 - missed[best] / len(own),
        float(np.mean(rows.score >= grid[best])), len(own), rows_needed=needed,
    )  # fmt: skip


def precision_cutoff(rows: Rows, target: float, risk: float = RISK, other: Rows | None = None) -> Cutoff:
    """The lowest cut-off above which at least `target` of the accepted samples are good, at `risk`.

    Precision need not rise with the cut-off, and the highest cut-offs accept too few rows to show anything, so where to
    begin matters. `other` rows (validation: independent of the calibration rows) propose it: testing starts at their
    strongest evidence and goes down. Without them a fixed grid is tested under Holm's correction, which costs cut-offs.
    Raises InputError where target or risk is not between 0 and 1.
    """
    _shares(target=target, risk=risk)
    if other is None:
        grid = FIXED
        p, accepted, errors = _precision_p(rows, grid, target)
        fallen = holm(p, risk)
    else:
        grid = _proposed(other, _precision_p(other, _quantiles(other.score), target)[0])
        p, accepted, errors = _precision_p(rows, grid, target)
        fallen = fixed_sequence(p, risk)
    needed = _rows_without_error(target, risk if other is not None else risk / len(grid))
    if not fallen.any():
        failure: Failure = "too few rows" if accepted.max(initial=0) < needed else "out of reach"
        return Cutoff("precision", target, risk, None, rows=int(accepted.max(initial=0)), failure=failure, rows_needed=needed)
    best = int(np.flatnonzero(fallen)[np.argmin(grid[fallen])])
    return Cutoff(
        "precision", target, risk, float(grid[best]), tuple(sorted(grid[fallen].tolist())),
        1 - float(errors[best] / accepted[best]), float(accepted[best] / len(rows.score)), int(accepted[best]), "", needed,
    )  # fmt: skip


def cost_cutoff(
    rows: Rows, span: tuple[float, float], least: float = 0.0, risk: float = RISK, other: Rows | None = None
) -> Cutoff:
    """The cut-off that saves most on the calibration rows among those shown to save more than `least` per sample, at `risk`.

    `rows.saving` is what accepting a row saves against leaving it undecided (negative where it costs), always within `span`
    (both from `savings`); a row below the cut-off saves 0. p-values are Hoeffding–Bentkus. `other` rows, as in
    `precision_cutoff`, give the order of testing: their own p-values, smallest first. `target` of the result is `least`.
    Raises InputError where the risk is not between 0 and 1, `least` is negative or a saving lies outside the span.
    """
    _shares(risk=risk)
    if least < 0:
        raise InputError(
            Phrase("least saving {least}", least=least), "it is negative", "Give 0 or more: the saving per sample to be shown."
        )
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    if rows.saving is None or (other is not None and other.saving is None):
        raise ValueError("rows for a cost need their saving")
    if rows.saving.min() < low - 1e-9 or rows.saving.max() > high + 1e-9:
        raise InputError("cost matrix", "a saving lies outside its span", "Take both from the same matrix.")
    if least >= high:  # nothing to test: no sample saves that much
        return Cutoff("cost", least, risk, None, rows=len(rows.score), failure="out of reach")
    if other is None:
        grid = FIXED
        mean, p = _cost_p(rows, grid, low, high, least)
        fallen = holm(p, risk)
    else:
        proposed = _quantiles(other.score)
        grid = proposed[np.argsort(_cost_p(other, proposed, low, high, least)[1], kind="stable")]
        mean, p = _cost_p(rows, grid, low, high, least)
        fallen = fixed_sequence(p, risk)
    if not fallen.any():
        return Cutoff("cost", least, risk, None, rows=len(rows.score), failure="out of reach")
    best = int(np.flatnonzero(fallen)[np.argmax(mean[fallen])])
    kept = float(np.mean(rows.score >= grid[best]))
    return Cutoff(
        "cost", least, risk, float(grid[best]), tuple(sorted(grid[fallen].tolist())), float(mean[best]), kept, len(rows.score)
    )


def _shares(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < 1:
            raise InputError(
                Phrase("{name} {value}", name=as_phrase(name), value=value),
                "it is not between 0 and 1",
                Phrase("Give the {name} as a share, 0.9 for 90 %.", name=as_phrase(name)),
            )


def _rows_without_error(target: float, risk: float) -> int:
    """Fewest rows that certify when not one is an error: targetⁿ ≤ risk."""
    return math.ceil(math.log(risk) / math.log(target) - 1e-9)


def _accepted(score: np.ndarray, grid: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Sum of weights, or number, of the scores at or above each cut-off of the grid (m,)."""
    order = np.argsort(score, kind="stable")
    total = np.concatenate([[0.0], np.cumsum((np.ones(len(score)) if weight is None else weight)[order])])
    return np.asarray(total[-1] - total[np.searchsorted(score[order], grid, side="left")])


def _precision_p(rows: Rows, grid: np.ndarray, target: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p-value, accepted rows and errors among them at each cut-off (m,). Given how many are accepted, errors are binomial."""
    accepted, errors = _accepted(rows.score, grid), _accepted(rows.score, grid, (~rows.good).astype(float))
    return binomial_p(errors, accepted, 1 - target), accepted, errors


def _cost_p(rows: Rows, grid: np.ndarray, low: float, high: float, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean saving per sample and p-value of "it is not above `least`" at each cut-off (m,)."""
    mean = _accepted(rows.score, grid, rows.saving) / len(rows.score)
    return mean, bounded_p((high - mean) / (high - low), len(rows.score), (high - least) / (high - low))


def _quantiles(score: np.ndarray) -> np.ndarray:
    """Up to STEPS cut-offs, descending, spread over the finite scores of other rows."""
    finite = score[np.isfinite(score)]
    return np.unique(np.quantile(finite, np.linspace(0, 1, STEPS)))[::-1] if len(finite) else FIXED[::-1]


def _proposed(other: Rows, p_values: np.ndarray) -> np.ndarray:
    """The cut-offs from the strongest evidence of the other rows downwards: above it there is nothing to gain."""
    return _quantiles(other.score)[int(np.argmin(p_values)) :]


# --- from classes to rows ---------------------------------------------------------------------------------------------
def rows_of_class(labels: np.ndarray, probabilities: np.ndarray, k: int, *, top_only: bool = False) -> Rows:
    """Rows to certify class k with: the score is p_k, good is whether k is the truth. Raises InputError as `checked`.

    `top_only` scores -inf where another class is more probable, as `decide` accepts: recall then counts those as missed.
    """
    y, p = checked(labels, probabilities)
    score = np.where(p.argmax(axis=1) == k, p[:, k], -np.inf) if top_only else p[:, k]
    return Rows(score, y == k)


def rows_of_top(labels: np.ndarray, probabilities: np.ndarray) -> Rows:
    """Rows to certify one cut-off for all classes with: the score is the highest probability. Raises InputError as `checked`."""
    y, p = checked(labels, probabilities)
    return Rows(p.max(axis=1), p.argmax(axis=1) == y)


def cost_matrix(names: Sequence[str], wrong: float, special: Sequence[str] = (), taste: float = 1.0) -> np.ndarray:
    """Cost (K, K + 1), in tastings, of deciding each class (column) for each truth (row); the last column is tasting.

    `wrong` is the cost of any wrong decision, `special` names those that cost otherwise, as "The rest>OK=20": truth, said, cost.
    Raises InputError on another form, an unknown class, a cost below 0, or where no wrong decision costs more than tasting.
    """
    known = list(map(str, names))
    cost = np.column_stack([wrong * (1 - np.eye(len(known))), np.full(len(known), taste)])
    for text in special:
        truth, said, value = _special(text, known)
        cost[truth, said] = value
    if cost[:, :-1].max() <= taste:
        problem = Phrase("no wrong decision costs more than tasting ({taste:g})", taste=taste)
        raise InputError("costs", problem, "Give a larger cost: with these nothing would ever be tasted.")
    return cost


def _special(text: str, names: list[str]) -> tuple[int, int, float]:
    """Positions of truth and said, and the cost. Names may hold a ">" themselves, so every place is tried."""
    pair, _, number = text.rpartition("=")
    words = pair.split(">")
    sides = [(">".join(words[:i]).strip(), ">".join(words[i:]).strip()) for i in range(1, len(words))]
    found = [(names.index(a), names.index(b)) for a, b in sides if a in names and b in names and a != b]
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not found or not math.isfinite(value) or value < 0:
        raise InputError(
            Phrase("cost {cost!r}", cost=text),
            "it is not of the form truth>said=cost with two different classes and a cost of 0 or more",
            Phrase(
                "Write for example {first}>{last}=20. Classes: {classes}.",
                first=names[0], last=names[-1], classes=", ".join(names),
            ),
        )  # fmt: skip
    return *found[0], value


def expected_savings(probabilities: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The decision (n,) that should save most against tasting, and that saving (n,), by the probabilities (n, K).

    The Bayes decision with an option to abstain (Chow 1970); `cost` as of `cost_matrix`. With one cost for every wrong
    decision it is the most probable class.
    """
    saved = np.asarray(probabilities, dtype=np.float64) @ (cost[:, -1:] - cost[:, :-1])
    return saved.argmax(axis=1), saved.max(axis=1)


def savings(rows: Rows, decided: np.ndarray | int, truth: np.ndarray, cost: np.ndarray) -> tuple[Rows, tuple[float, float]]:
    """The rows with what accepting each saves, and the span of all savings the matrix allows.

    `cost` (C, K + 1): of deciding class k for a truth c, and in the last column of leaving c undecided (tasting it).
    `truth` (n,) are positions among the C, which may be finer than the classes (VR11 costs less than NC5);
    `decided` (n,) or one number: the class that accepting the row decides. Raises InputError on a cost that is no number.
    """
    table = np.asarray(cost, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise InputError("cost matrix", "it is not a table of numbers", "Give a cost for every truth and every decision.")
    saved = table[:, -1:] - table[:, :-1]
    columns = saved if isinstance(decided, np.ndarray) else saved[:, [decided]]
    return Rows(rows.score, rows.good, saved[truth, decided]), (float(columns.min()), float(columns.max()))


def independent_rows(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One row of each group (n,), drawn at random, as sorted positions: replicates of a specimen are not independent."""
    shuffled = rng.permutation(len(groups))
    first = np.unique(np.asarray(groups)[shuffled], return_index=True)[1]
    return np.sort(shuffled[first])


# --- decisions --------------------------------------------------------------------------------------------------------
def decide(probabilities: np.ndarray, cutoffs: list[Cutoff] | None = None) -> np.ndarray:
    """The most probable class (n,), or UNDECIDED where its probability is below its cut-off or it has none."""
    p = np.asarray(probabilities, dtype=np.float64)
    best = p.argmax(axis=1)
    if cutoffs is None:
        return best
    lowest = np.array([np.inf if c.value is None else c.value for c in cutoffs])
    return np.where(p.max(axis=1) >= lowest[best], best, UNDECIDED)
