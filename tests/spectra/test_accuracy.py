"""Confusion, recall and errors by hand; a perfect prediction is perfect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.tasks.spectra import accuracy
from lib.tasks.spectra.decisions import UNDECIDED

NAMES = ("NC", "VR", "OK")
LABELS = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, UNDECIDED, 2, 2, 2, 1, UNDECIDED])


def test_confusion_by_hand() -> None:
    assert accuracy.confusion(LABELS, PREDICTED, 3).tolist() == [[1, 1, 0, 0], [0, 2, 0, 1], [0, 1, 3, 1]]


def test_classes_by_hand() -> None:
    table = accuracy.by_class(LABELS, PREDICTED, NAMES).set_index("class")
    assert table["recall_percent"].tolist() == pytest.approx([50, 200 / 3, 60])
    assert table["precision_percent"].tolist() == pytest.approx([100, 50, 100])
    assert table["f1"].tolist() == pytest.approx([2 / 3, 4 / 7, 3 / 4])
    assert table["kept_percent"].tolist() == pytest.approx([100, 200 / 3, 80])
    assert table.loc["NC", "recall_lo95"] == pytest.approx(1.258, abs=1e-3)
    found = accuracy.score(LABELS, PREDICTED, NAMES)
    assert found["accuracy_percent"] == pytest.approx(75)
    assert found["kept_percent"] == pytest.approx(80)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 7 + 3 / 4) / 3)
    assert found["balanced_accuracy_percent"] == pytest.approx((50 + 200 / 3 + 60) / 3)


def test_a_class_never_found_pulls_macro_f1_down() -> None:
    always = accuracy.score(np.array([0] + [1] * 99), np.ones(100, dtype=int), ("rare", "common", "absent"))
    assert always["accuracy_percent"] == 99
    assert always["macro_f1"] == pytest.approx(198 / 199 / 2)
    assert always["balanced_accuracy_percent"] == 50


def test_a_perfect_prediction_is_perfect() -> None:
    assert accuracy.score(LABELS, LABELS, NAMES) == {
        "accuracy_percent": 100, "kept_percent": 100, "macro_f1": 1, "balanced_accuracy_percent": 100,
    }  # fmt: skip
    p = np.eye(3)[LABELS]
    assert accuracy.error_contributions(LABELS, p, LABELS, NAMES).empty
    assert accuracy.accuracy_by_coverage(LABELS, p).to_dict("records") == [
        {"cutoff": 1.0, "kept_percent": 100.0, "accuracy_percent": 100.0}
    ]


def test_accuracy_by_coverage_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.6, 0.4]])
    table = accuracy.accuracy_by_coverage(np.array([0, 1, 1, 0]), p)
    assert table["cutoff"].tolist() == [0.9, 0.8, 0.6]
    assert table["kept_percent"].tolist() == [25, 75, 100]
    assert table["accuracy_percent"].tolist() == pytest.approx([100, 200 / 3, 75])


def test_errors_by_hand() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([1, 1, 1, 0, UNDECIDED])
    p = np.array([[0.4, 0.6], [0.2, 0.8], [0.1, 0.9], [0.7, 0.3], [0.9, 0.1]])
    detail = np.array(["VR11", "VR11", "NC5", "OK0", "OK0"])
    table = accuracy.error_contributions(labels, p, predicted, ("The rest", "OK"), detail)
    assert table["truth"].tolist() == ["VR11", "NC5", "OK0"]
    assert table["predicted"].tolist() == ["OK", "OK", "The rest"]
    assert table["count"].tolist() == [2, 1, 1]
    assert table["percent"].tolist() == [50, 25, 25]
    assert table["truth_score_mean"].tolist() == pytest.approx([0.3, 0.1, 0.3])
    assert table["predicted_score_sd"].iloc[0] == pytest.approx(0.02**0.5)
    assert table["predicted_score_sd"].iloc[1:].isna().all()
    assert len(accuracy.error_contributions(labels, p, predicted, ("The rest", "OK"), detail, most=1)) == 1


@settings(max_examples=12, deadline=None, database=None)
@given(st.integers(0, 999), st.integers(1, 80))
def test_nothing_is_above_all(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted, p = rng.integers(3, size=n), rng.integers(-1, 3, size=n), rng.dirichlet([1, 1, 1], n).round(1)
    p = (p + 1e-3) / (p + 1e-3).sum(axis=1, keepdims=True)
    assert accuracy.confusion(labels, predicted, 3).sum() == n
    table = accuracy.by_class(labels, predicted, NAMES)
    for what in ("recall", "precision"):
        low, mid, high = (table[f"{what}_{end}"].dropna() for end in ("lo95", "percent", "hi95"))
        assert ((low >= 0) & (low <= mid + 1e-9) & (mid <= high + 1e-9) & (high <= 100)).all()
    assert (table["kept_percent"].dropna() <= 100).all()
    assert accuracy.error_contributions(labels, p, predicted, NAMES)["percent"].sum() <= 100 + 1e-9
    curve = accuracy.accuracy_by_coverage(labels, p)
    assert curve["kept_percent"].is_monotonic_increasing
    assert curve["kept_percent"].iloc[-1] == 100
