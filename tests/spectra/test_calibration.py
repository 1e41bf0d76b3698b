"""Temperature, calibration error and prediction sets: answers by hand, and promises held in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.task import InputError
from lib.tasks.spectra import calibration


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def drawn(n: int, rng: np.random.Generator, sharper: float = 1.0, weights: tuple[float, ...] = (1.0, 0.0, -1.5)):
    """Labels drawn from honest probabilities of unequal classes, and those probabilities sharpened."""
    logits = rng.normal(0, 1.5, (n, len(weights))) + np.array(weights)
    labels = (softmax(logits).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return np.minimum(labels, len(weights) - 1), softmax(sharper * logits)


# --- temperature ------------------------------------------------------------------------------------------------------
def test_temperature_undoes_sharpening() -> None:
    labels, p = drawn(4000, np.random.default_rng(0), sharper=2.5)
    found = calibration.fit_temperature(labels, p)
    assert found == pytest.approx(2.5, rel=0.08)
    before, after = (calibration.negative_log_likelihood(labels, q) for q in (p, calibration.temper(p, found)))
    assert after < before
    assert calibration.temper(calibration.temper(p, found), 1 / found) == pytest.approx(p, abs=1e-9)


def test_temperature_by_hand() -> None:
    # two thirds right at a stated 0.8: the best temperature makes 0.8 into 2/3, ln 4 / T = ln 2
    labels, p = np.array([0, 0, 1]), np.array([[0.8, 0.2]] * 3)
    assert calibration.fit_temperature(labels, p) == pytest.approx(2, abs=1e-4)
    assert calibration.temper(p, 2)[0] == pytest.approx([2 / 3, 1 / 3])
    assert calibration.negative_log_likelihood(np.array([0]), np.array([[0.5, 0.5]])) == pytest.approx(np.log(2))


@settings(max_examples=50, deadline=None, database=None)
@given(st.integers(0, 999), st.floats(0.1, 10))
def test_temperature_keeps_the_order(seed: int, temperature: float) -> None:
    p = np.random.default_rng(seed).dirichlet([0.5] * 4, 5)
    q = calibration.temper(p, temperature)
    assert q.sum(axis=1) == pytest.approx(np.ones(5))
    assert (np.diff(np.take_along_axis(q, p.argsort(axis=1), axis=1), axis=1) >= 0).all()


# --- intervals and calibration error ----------------------------------------------------------------------------------
def test_clopper_pearson_by_hand() -> None:
    low, high = calibration.interval(np.array([0, 10, 0]), np.array([10, 10, 0]))
    assert low[:2] == pytest.approx([0, 0.025**0.1])
    assert high[:2] == pytest.approx([1 - 0.025**0.1, 1])
    assert np.isnan([low[2], high[2]]).all()
    assert [float(v) for v in calibration.interval(8, 10)] == pytest.approx([0.4439, 0.9748], abs=1e-4)


def test_calibration_error_by_hand() -> None:
    confidence = np.repeat([0.6, 0.9], 10)
    hit = np.array([True] * 5 + [False] * 5 + [True] * 9 + [False])
    table = calibration.reliability(hit, confidence, bins=2)
    assert table["samples"].tolist() == [10, 10]
    assert table["hits"].tolist() == [0.5, 0.9]
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.9])
    found = calibration.calibration_error(hit, confidence, np.random.default_rng(0), bins=2, repeats=50)
    assert found.ece_points == pytest.approx(5)
    assert 0 <= found.lo95 <= found.ece_points <= found.hi95 <= 100
    assert not found.evident


def test_calibration_error_is_evident_when_it_is_real_and_only_then() -> None:
    rng = np.random.default_rng(1)
    inside, false_alarms, seen = 0, 0, 0
    for _ in range(50):
        confidence = rng.uniform(0.5, 1, 500)
        off = calibration.calibration_error(rng.random(500) < confidence - 0.1, confidence, rng, repeats=80)
        inside += off.lo95 <= 10 <= off.hi95
        seen += off.evident
        fine = calibration.calibration_error(rng.random(500) < confidence, confidence, rng, repeats=80)
        false_alarms += fine.evident
        assert fine.floor == pytest.approx(fine.ece_points, abs=5)
    assert inside >= 42  # 47 expected
    assert seen >= 48
    assert false_alarms <= 8


def test_replicates_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    confidence, specimen = np.repeat(rng.uniform(0.5, 1, 60), 10), np.repeat(np.arange(60), 10)
    hit = np.repeat(rng.random(60) < 0.6, 10)
    single = calibration.calibration_error(hit, confidence, rng, repeats=100)
    grouped = calibration.calibration_error(hit, confidence, rng, repeats=100, groups=specimen)
    assert grouped.hi95 - grouped.lo95 > 1.5 * (single.hi95 - single.lo95)


# --- prediction sets --------------------------------------------------------------------------------------------------
def test_set_thresholds_by_hand() -> None:
    p = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    probabilities = np.stack([p, 1 - p], axis=1)
    labels = np.zeros(9, dtype=int)
    found = calibration.set_thresholds(labels, probabilities, 0.9)  # (9 + 1) · 0.1 = 1: the smallest
    assert found.tolist() == [0.2, -np.inf]
    assert calibration.set_thresholds(labels, probabilities, 0.8)[0] == 0.3
    assert calibration.set_thresholds(labels[:8], probabilities[:8], 0.9)[0] == -np.inf
    assert calibration.prediction_sets(np.array([[0.25, 0.75], [0.1, 0.9]]), found).tolist() == [[True, True], [False, True]]


def test_every_class_is_covered_as_promised() -> None:
    rng, share = np.random.default_rng(3), []
    test_labels, test_p = drawn(3000, rng, sharper=2)
    for _ in range(150):
        sets = calibration.prediction_sets(test_p, calibration.set_thresholds(*drawn(150, rng, sharper=2), 0.9))
        share.append([sets[test_labels == k, k].mean() for k in range(3)])
    covered = np.mean(share, axis=0)
    assert (covered >= 0.9 - 0.015).all()
    assert (covered <= 0.96).all()
    top_p = np.mean([test_p[test_labels == 2].argmax(axis=1) == 2])
    assert top_p < 0.8  # the rare class, which the most probable class alone often misses


@settings(max_examples=40, deadline=None, database=None)
@given(st.integers(0, 999), st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(1, 60))
def test_sets_grow_with_confidence(seed: int, one: float, two: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels, p = drawn(n, rng)
    small, large = (
        calibration.prediction_sets(p, calibration.set_thresholds(labels, p, confidence)) for confidence in sorted((one, two))
    )
    assert (small <= large).all()
    table = calibration.set_summary(labels, large, ("a", "b", "c"))
    assert table["samples"].sum() == n
    assert (table["covered_percent"].dropna() <= 100).all()


def test_a_perfect_prediction_is_perfectly_calibrated() -> None:
    labels = np.repeat([0, 1, 2], 20)
    p = np.eye(3)[labels]
    found = calibration.calibration_error(*calibration.top(labels, p), np.random.default_rng(0), repeats=20)
    assert (found.ece_points, found.lo95, found.hi95, found.floor, found.evident) == (0, 0, 0, 0, False)
    table = calibration.set_summary(
        labels, calibration.prediction_sets(p, calibration.set_thresholds(labels, p)), ("a", "b", "c")
    )
    assert (table["covered_percent"] == 100).all()
    assert (table["single_percent"] == 100).all()


@pytest.mark.parametrize(
    ("labels", "p"),
    [([0], [[0.5, 0.4]]), ([2], [[0.5, 0.5]]), ([-1], [[0.5, 0.5]]), ([0, 1], [[0.5, 0.5]]), ([0], [[np.nan, 1]]), ([], [])],
)
def test_what_is_no_prediction_is_refused(labels: list, p: list) -> None:
    with pytest.raises(InputError, match="predictions"):
        calibration.top(np.array(labels, dtype=int), np.array(p))
    with pytest.raises(InputError, match="confidence 1"):
        calibration.set_thresholds(np.array([0]), np.array([[1.0, 0.0]]), 1)
