"""Cut-offs: answers by hand, and their promises held on fresh draws where the naive rule breaks them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.task import InputError
from lib.tasks.spectra import decisions
from lib.tasks.spectra.decisions import UNDECIDED, Rows

SCORES = (np.arange(200) + 0.5) / 200


def falling(score: np.ndarray) -> np.ndarray:
    """Chance of being good at a score: rises, but the model is too sure of its very highest scores."""
    return np.where(score > 0.97, 0.93, 1 / (1 + np.exp(-9 * (score - 0.45))))


def population(weight: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True precision and recall of accepting scores at or above each of SCORES."""
    above, good = (np.cumsum(v[::-1])[::-1] for v in (weight, weight * chance))
    return good / above, good / good[0]


def draw(n: int, weight: np.ndarray, chance: np.ndarray, rng: np.random.Generator) -> Rows:
    at = np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(n)).clip(max=len(SCORES) - 1)
    return Rows(SCORES[at], rng.random(n) < chance[at])


def at(curve: np.ndarray, cutoff: float) -> float:
    """A population's figure at a cut-off: that of the next score at or above it."""
    return float(curve[min(np.searchsorted(SCORES, cutoff - 1e-9), len(curve) - 1)])


def most_broken(risk: float, repeats: int) -> float:
    """Share of repeats that may break a promise of this risk, three standard errors of the count included."""
    return risk + 3 * math.sqrt(risk * (1 - risk) / repeats)


def naive_precision(rows: Rows, target: float) -> float:
    """The original's rule: the cut-off whose measured precision is nearest to the target, at a recall above one half."""
    grid = np.unique(rows.score)
    accepted = rows.score[:, None] >= grid
    right = (accepted & rows.good[:, None]).sum(axis=0)
    off = np.where(right > rows.good.sum() / 2, np.abs(right / accepted.sum(axis=0) - target), np.inf)
    return float(grid[np.argmin(off)])


# --- the promises, on fresh draws -------------------------------------------------------------------------------------
@pytest.mark.parametrize("with_other", [True, False])
def test_promised_precision_is_kept(with_other: bool) -> None:
    rng, repeats, target, risk = np.random.default_rng(4), 150, 0.95, 0.1
    weight, chance = SCORES**2, falling(SCORES)
    precision, _ = population(weight, chance)
    broken, naive, kept = 0, 0, []
    for _ in range(repeats):
        rows = draw(1500, weight, chance, rng)
        found = decisions.precision_cutoff(rows, target, risk, draw(500, weight, chance, rng) if with_other else None)
        broken += found.value is not None and at(precision, found.value) < target
        naive += at(precision, naive_precision(rows, target)) < target
        kept.append(found.kept)
    assert broken / repeats <= most_broken(risk, repeats)
    assert naive / repeats > 0.4
    assert np.mean(kept) > (0.3 if with_other else 0.1)  # 0.76 of the population could be kept


def test_promised_recall_is_kept() -> None:
    rng, repeats, target, risk = np.random.default_rng(5), 400, 0.925, 0.1
    weight, chance = np.ones(200), SCORES
    _, recall = population(weight, chance)
    broken, naive, value = 0, 0, []
    for _ in range(repeats):
        rows = draw(400, weight, chance, rng)
        found = decisions.recall_cutoff(rows, target, risk)
        assert found.value is not None
        value.append(found.value)
        broken += at(recall, found.value) < target
        naive += at(recall, float(np.quantile(rows.score[rows.good], 1 - target))) < target
    assert broken / repeats <= most_broken(risk, repeats)
    assert naive / repeats > 0.35
    assert np.mean(value) > 0.8 * float(SCORES[np.flatnonzero(recall >= target)[-1]])


@pytest.mark.parametrize("with_other", [True, False])
def test_a_saving_that_is_not_there_is_not_promised(with_other: bool) -> None:
    # one in ten is bad and costs nine times what a good one saves: at no cut-off is there anything to save
    rng, repeats, risk = np.random.default_rng(6), 200, 0.1
    cost, chance = np.array([[9.0, 0.0], [-1.0, 0.0]]), np.full(200, 0.9)
    broken, naive = 0, 0
    for _ in range(repeats):
        rows, other = draw(500, np.ones(200), chance, rng), draw(500, np.ones(200), chance, rng)
        priced, span = decisions.savings(rows, 0, rows.good.astype(int), cost)
        proposing, _ = decisions.savings(other, 0, other.good.astype(int), cost)
        broken += decisions.cost_cutoff(priced, span, risk=risk, other=proposing if with_other else None).value is not None
        naive += max(priced.saving[rows.score >= t].sum() for t in SCORES[::10] if (rows.score >= t).any()) > 0
    assert broken / repeats <= most_broken(risk, repeats)
    assert naive / repeats > 0.5


def test_a_real_saving_is_found() -> None:
    rng = np.random.default_rng(7)
    weight, chance = np.ones(200), falling(SCORES)
    cost = np.array([[10.0, 0.0], [-1.0, 0.0]])
    true = np.cumsum((weight * (11 * chance - 10))[::-1])[::-1] / weight.sum()
    rows, other = draw(3000, weight, chance, rng), draw(1500, weight, chance, rng)
    priced, span = decisions.savings(rows, 0, rows.good.astype(int), cost)
    proposing, _ = decisions.savings(other, 0, other.good.astype(int), cost)
    found = decisions.cost_cutoff(priced, span, other=proposing)
    assert span == (-10, 1)
    assert found.value is not None
    assert at(true, found.value) > 0.8 * true.max()
    assert found.value in found.certified
    assert decisions.cost_cutoff(priced, span, least=0.9).failure == "out of reach"


# --- by hand ----------------------------------------------------------------------------------------------------------
def test_recall_by_hand() -> None:
    # 59 good rows at 90 %: P(at most 1, 2, 3 missed of 59) = 0.0151, 0.0572, 0.1463
    score = np.arange(59) / 100
    rows = Rows(np.append(score, [0.005, 0.9]), np.append(np.ones(59, dtype=bool), [False, False]))
    assert decisions.recall_cutoff(rows, 0.9, 0.1).value == score[2]
    assert decisions.recall_cutoff(rows, 0.9, 0.05).value == score[1]
    assert decisions.recall_cutoff(rows, 0.9, 0.15).value == score[3]
    found = decisions.recall_cutoff(rows, 0.9, 0.1)
    assert (found.rows, found.measured, found.kept) == (59, pytest.approx(57 / 59), pytest.approx(58 / 61))
    assert found.certified == tuple(score[:3])


def test_too_few_rows_certify_nothing() -> None:
    # 0.925^29 = 0.104, 0.925^30 = 0.096
    found = decisions.recall_cutoff(Rows(np.ones(29), np.ones(29, dtype=bool)))
    assert (found.value, found.failure, found.rows_needed, found.kept) == (None, "too few rows", 30, 0)
    assert decisions.recall_cutoff(Rows(np.ones(30), np.ones(30, dtype=bool))).value == 1
    few = decisions.precision_cutoff(Rows(np.full(20, 0.99), np.ones(20, dtype=bool)), 0.95)
    assert (few.value, few.failure) == (None, "too few rows")
    bad = decisions.precision_cutoff(Rows(np.full(900, 0.99), np.arange(900) % 2 == 0), 0.95)
    assert (bad.value, bad.failure) == (None, "out of reach")
    unseen = decisions.recall_cutoff(Rows(np.full(99, -np.inf), np.ones(99, dtype=bool)))
    assert (unseen.value, unseen.failure) == (None, "out of reach")


def test_p_values_by_hand() -> None:
    assert decisions.binomial_p(np.array([0, 1]), np.array([29, 2]), 0.1) == pytest.approx([0.9**29, 0.99])
    assert decisions.binomial_p(np.array([0]), np.array([0]), 0.1) == 1
    assert decisions.bounded_p(np.array([0.0, 0.1, 0.5]), 50, 0.1) == pytest.approx([0.9**50, 1, 1])
    # a mean of 1/50 at most 10 %: Hoeffding's 5 · (0.9 / 0.98)^49 = 0.077, Bentkus' e · (0.9^50 + 5 · 0.9^49) = 0.092
    assert decisions.bounded_p(np.array([0.02]), 50, 0.1) == pytest.approx(5 * (0.9 / 0.98) ** 49)
    # of 5/50 at most 20 %: 0.157 and e · P(Binomial(50, 0.2) ≤ 5) = e · 0.0480
    assert decisions.bounded_p(np.array([0.1]), 50, 0.2) == pytest.approx(math.e * 0.0480, rel=1e-3)


def test_families_by_hand() -> None:
    assert decisions.fixed_sequence(np.array([0.01, 0.2, 0.01]), 0.1).tolist() == [True, False, False]
    assert decisions.holm(np.array([0.04, 0.01, 0.03]), 0.05).tolist() == [False, True, False]
    assert decisions.holm(np.array([0.04, 0.01, 0.02]), 0.05).tolist() == [True, True, True]


def test_savings_come_from_the_finer_truth() -> None:
    cost = np.array([[-1.0, 5.0, 0.0], [100.0, -2.0, 1.0], [10.0, -2.0, 1.0]])  # OK, NC5, VR11 × pass, reject, taste
    rows = Rows(np.array([0.9, 0.8, 0.7]), np.array([True, False, False]))
    one, span = decisions.savings(rows, 0, np.array([0, 1, 2]), cost)
    assert one.saving.tolist() == [1, -99, -9]
    assert span == (-99, 1)
    each, span = decisions.savings(rows, np.array([1, 1, 0]), np.array([0, 1, 2]), cost)
    assert each.saving.tolist() == [-5, 3, -9]
    assert span == (-99, 3)


def test_one_row_of_each_specimen() -> None:
    groups = np.array(["a", "b", "a", "c", "a", "b"])
    found = [decisions.independent_rows(groups, np.random.default_rng(seed)) for seed in range(20)]
    assert all(sorted(groups[rows]) == ["a", "b", "c"] for rows in found)
    assert {int(row) for rows in found for row in rows} == set(range(6))


def test_costs_are_named_by_truth_and_answer() -> None:
    cost = decisions.cost_matrix(["a", "a>b", "OK"], 5, ["a>b>OK = 20", "OK>a=0.5"])
    assert cost.tolist() == [[0, 5, 5, 1], [5, 0, 20, 1], [0.5, 5, 0, 1]]


@pytest.mark.parametrize("text", ["OK>a", "OK>b=3", "OK>OK=3", "OK>a=-1", "OK>a=inf", "OK>a=much", "OK=3", ""])
def test_a_cost_of_another_form_names_the_form_and_the_classes(text: str) -> None:
    with pytest.raises(InputError, match=r"truth>said=cost.*Classes: a, OK"):
        decisions.cost_matrix(["a", "OK"], 5, [text])


def test_costs_at_which_nothing_would_be_tasted_are_refused() -> None:
    with pytest.raises(InputError, match="no wrong decision costs more than tasting"):
        decisions.cost_matrix(["a", "OK"], 1)


def test_what_is_cheapest_is_decided_not_what_is_likeliest() -> None:
    """At 60 % OK, passing risks 0.4 · 20 and rejecting 0.6 · 2 tastings: rejecting is cheaper, but tasting is cheaper still."""
    cost = decisions.cost_matrix(["The rest", "OK"], 2, ["The rest>OK=20"])
    best, saving = decisions.expected_savings(np.array([[0.4, 0.6], [0.01, 0.99], [1, 0]]), cost)
    assert best.tolist() == [0, 1, 0]
    assert saving == pytest.approx([1 - 0.6 * 2, 1 - 0.01 * 20, 1])


def test_one_cost_for_all_decides_the_likeliest_class() -> None:
    p = np.random.default_rng(0).dirichlet([0.5] * 4, 300)
    best, saving = decisions.expected_savings(p, decisions.cost_matrix(list("abcd"), 5))
    assert (best == p.argmax(axis=1)).all()
    assert saving == pytest.approx(1 - 5 * (1 - p.max(axis=1)))


def cutoffs_of(
    labels: np.ndarray,
    p: np.ndarray,
    goal: str,
    target: float,
    risk: float = 0.1,
    other: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[decisions.Cutoff]:
    """One cut-off per class for the decisions of `decide`."""
    rows = [decisions.rows_of_class(labels, p, k, top_only=True) for k in range(p.shape[1])]
    if goal == "recall":
        return [decisions.recall_cutoff(own, target, risk) for own in rows]
    proposing = [None if other is None else decisions.rows_of_class(*other, k, top_only=True) for k in range(p.shape[1])]
    return [decisions.precision_cutoff(own, target, risk, some) for own, some in zip(rows, proposing)]


def test_a_perfect_prediction_keeps_everything() -> None:
    labels = np.repeat([0, 1, 2], 100)
    p = np.eye(3)[labels]
    for goal in ("recall", "precision"):
        found = cutoffs_of(labels, p, goal, 0.925)
        assert all(c.value is not None and c.measured == 1 for c in found)
        assert (decisions.decide(p, found) == labels).all()


def test_shares_out_of_range_are_refused() -> None:
    rows = Rows(np.ones(3), np.ones(3, dtype=bool), np.ones(3))
    with pytest.raises(InputError, match="target 1"):
        decisions.recall_cutoff(rows, 1.0)
    with pytest.raises(InputError, match="risk 0"):
        decisions.precision_cutoff(rows, 0.9, 0)
    with pytest.raises(InputError, match="least saving"):
        decisions.cost_cutoff(rows, (-1, 1), least=-1)
    with pytest.raises(InputError, match="outside its span"):
        decisions.cost_cutoff(rows, (-1, 0.5))


# --- properties -------------------------------------------------------------------------------------------------------
@settings(max_examples=40, deadline=None, database=None)
@given(st.integers(0, 999), st.integers(30, 200), st.floats(0.5, 0.98), st.floats(0.01, 0.4), st.booleans())
def test_cutoffs_are_sane(seed: int, n: int, target: float, risk: float, with_other: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, p, other = rng.integers(3, size=n), rng.dirichlet([0.4] * 3, n), None
    p[np.arange(n), labels] += 1.5
    p /= p.sum(axis=1, keepdims=True)
    if with_other:
        other = (labels, p)
    for goal in ("recall", "precision"):
        alone = cutoffs_of(labels, p, goal, target, risk, other)
        found = cutoffs_of(labels, p, goal, target, risk / 3, other)
        predicted = decisions.decide(p, found)
        assert np.isin(predicted, [UNDECIDED, 0, 1, 2]).all()
        for k, (cutoff, easier) in enumerate(zip(found, alone)):
            assert 0 <= cutoff.kept <= 1
            assert cutoff.kept == pytest.approx(np.mean(predicted == k))
            assert (cutoff.value is None) == bool(cutoff.failure)
            assert cutoff.value is None or (cutoff.value in cutoff.certified and cutoff.measured >= target - 1e-12)
            assert set(cutoff.certified) <= set(easier.certified)


@settings(max_examples=40, deadline=None, database=None)
@given(st.integers(0, 999), st.floats(0.5, 0.9), st.floats(0.01, 0.09))
def test_more_recall_or_less_risk_lowers_the_cutoff(seed: int, more: float, less: float) -> None:
    rng = np.random.default_rng(seed)
    rows = Rows(rng.random(150), rng.random(150) < 0.7)
    base = decisions.recall_cutoff(rows, 0.5, 0.1).value
    for harder in (decisions.recall_cutoff(rows, more, 0.1).value, decisions.recall_cutoff(rows, 0.5, less).value):
        assert base is not None
        assert harder is None or harder <= base
