"""Laws of matching and scoring."""

import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from lib.tasks.bragg import matching
from lib.tasks.bragg.matching import Score

NONE = np.empty((0, 2))


def points(n: int, seed: int, size: float = 40.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, size, (n, 2))


def test_a_perfect_prediction_has_a_perfect_score():
    truth = points(50, 0)
    assert matching.score(truth, truth) == Score(50, 0, 0)
    assert matching.score(truth[::-1], truth).f1 == 1.0


def test_what_is_within_the_tolerance_is_the_same_and_what_is_farther_is_not():
    here, there = np.array([[10.0, 10.0]]), np.array([[10.0, 12.0]])
    assert matching.match(here, there, 2.0).tolist() == [[0, 0]]
    assert matching.match(here, there, 1.999).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_one_to_one_and_within_the_tolerance(seed: int):
    a, b = points(150, seed), points(120, seed + 100)
    pairs = matching.match(a, b, 3.0)
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs)
    assert (np.linalg.norm(a[pairs[:, 0]] - b[pairs[:, 1]], axis=1) <= 3.0).all()
    assert (np.diff(pairs[:, 0]) > 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_pairs_are_those_of_the_whole_assignment(seed: int):
    a, b = points(60, seed), points(70, seed + 100)
    away = cdist(a, b)
    cost = np.where(away <= 3.0, away - 1000, 0)
    rows, columns = linear_sum_assignment(cost)
    taken = cost[rows, columns] < 0
    pairs = matching.match(a, b, 3.0)
    assert len(pairs) == taken.sum()
    assert away[pairs[:, 0], pairs[:, 1]].sum() == pytest.approx(away[rows[taken], columns[taken]].sum())


@pytest.mark.parametrize("seed", range(3))
def test_matching_is_symmetric(seed: int):
    a, b = points(100, seed), points(100, seed + 100)
    there, back = matching.match(a, b), matching.match(b, a)
    assert {(i, j) for i, j in there.tolist()} == {(i, j) for j, i in back.tolist()}


def test_nearest_first_would_lose_a_pair_that_is_kept():
    a, b = np.array([[0.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.9], [0.0, 3.9]])
    assert matching.match(a, b, 2.0).tolist() == [[0, 0], [1, 1]]


def test_nothing_matches_nothing():
    assert matching.match(NONE, NONE).shape == matching.match(points(3, 0), NONE).shape == (0, 2)
    assert matching.score(NONE, NONE).f1 == 1.0
    assert math.isnan(matching.score(NONE, NONE).precision)
    assert matching.score(points(3, 0), NONE) == Score(0, 3, 0)
    assert matching.score(NONE, points(3, 0)) == Score(0, 0, 3)


def test_a_peak_found_twice_counts_once():
    truth = np.array([[10.0, 10.0]])
    assert matching.score(np.array([[10.0, 10.0], [10.5, 10.0]]), truth) == Score(1, 1, 0)


def test_what_may_be_found_counts_neither_way():
    must, may = np.array([[10.0, 10.0]]), np.array([[10.0, 10.0], [20.0, 20.0]])
    found = np.array([[10.0, 10.5], [20.0, 21.0], [30.0, 30.0]])
    assert matching.score(found, must, may) == Score(1, 1, 0)
    assert matching.score(found[1:2], must, may) == Score(0, 0, 1)
    assert matching.explained(found, may).tolist() == [True, True, False]


def test_precision_recall_and_f1_follow_from_the_counts():
    counts = Score(6, 2, 4)
    assert (counts.precision, counts.recall) == (0.75, 0.6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert matching.total([counts, Score(1, 0, 0)]) == Score(7, 2, 4)


def test_two_label_sets_split_into_common_and_own():
    a, b = np.array([[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]]), np.array([[5.5, 5.0], [20.0, 20.0]])
    both = matching.agreement(a, b)
    assert both.common.tolist() == [[1, 0]] and both.only_a.tolist() == [0, 2] and both.only_b.tolist() == [1]
    assert both.f1 == pytest.approx(2 / 5)
    assert matching.agreement(b, a).f1 == both.f1
    assert matching.agreement(a, a).f1 == matching.agreement(NONE, NONE).f1 == 1.0
