from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import splits

RNG = np.random.default_rng


def specimens(count: int, replicates: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(class, specimen) of `count` specimens measured several times each."""
    specimen = np.repeat(np.arange(count), replicates)
    return (specimen % classes).astype(str), specimen


@given(seed=st.integers(0, 50), count=st.integers(2, 6), replicates=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_folds_cover_every_row_once_and_never_part_a_group(seed: int, count: int, replicates: int) -> None:
    classes, groups = specimens(24, replicates, 3)
    found = splits.folds(classes, count, RNG(seed), groups)
    assert np.array_equal(np.sort(np.concatenate([held for _, held in found])), np.arange(len(classes)))
    for others, held in found:
        assert not set(groups[others]) & set(groups[held])
        assert len(others) + len(held) == len(classes)


def test_folds_hold_the_class_shares_of_the_whole() -> None:
    classes = np.repeat(["OK", "VR", "NC"], [60, 30, 10])
    for _, held in splits.folds(classes, 5, RNG(0)):
        assert dict(zip(*np.unique(classes[held], return_counts=True))) == {"OK": 12, "VR": 6, "NC": 2}


def test_the_same_seed_gives_the_same_folds_and_another_gives_others() -> None:
    classes, groups = specimens(30, 2, 3)
    first, again, other = (splits.folds(classes, 5, RNG(seed), groups) for seed in (1, 1, 2))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first, other))


def test_rows_without_a_group_stand_alone() -> None:
    assert np.array_equal(splits.numbered(["a", "", None, "a", float("nan")]), [0, 1, 2, 0, 3])


def test_joined_keeps_together_what_a_chain_connects() -> None:
    found = splits.joined(["s1", "s1", "s2", "s3", None], ["d1", "d2", "d2", "d3", "d3"])
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] != found[0]


def test_four_parts_are_disjoint_and_complete_and_about_as_large_as_asked() -> None:
    classes, groups = specimens(200, 2, 4)
    parts = splits.four_way(classes, RNG(0), groups, n_splits=5, validation=0.1, calibration=0.2)
    sizes = {name: len(rows) / len(classes) for name, rows in parts.items()}
    assert sizes == pytest.approx({"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2}, abs=0.02)
    owners = [set(groups[rows]) for _, rows in parts.items()]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 200
    assert splits.absent(classes, parts) == []


def test_the_test_parts_of_all_splits_cover_every_row_once() -> None:
    classes, groups = specimens(40, 2, 2)
    tests = [splits.four_way(classes, RNG(3), groups, 4, k).test for k in range(4)]
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(80))


def test_a_part_of_share_zero_is_empty() -> None:
    parts = splits.four_way(np.repeat(["a", "b"], 20), RNG(0), validation=0, calibration=0)
    assert len(parts.validation) == len(parts.calibration) == 0
    assert len(parts.train) == 32


def test_classes_smaller_than_the_folds_are_dealt_out_without_strata() -> None:
    found = splits.folds(np.arange(10), 5, RNG(0))
    assert [len(held) for _, held in found] == [2] * 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: splits.folds(["a", "b"], 5, RNG(0)), "5 folds cannot be made from 2 rows"),
        (lambda: splits.folds(["a", "b", "a"], 3, RNG(0), ["s", "s", "t"]), "from 2 groups"),
        (lambda: splits.folds(["a", "b"], 1, RNG(0)), "1 folds"),
        (lambda: splits.folds(["a", "b"], 2, RNG(0), ["s"]), "2 classes but 1 groups"),
        (lambda: splits.four_way(["a", "b"] * 9, RNG(0), current_split=5), "Fold 5 does not exist"),
        (lambda: splits.four_way(["a", "b"] * 9, RNG(0), validation=0.5, calibration=0.4), "leave rows to train on"),
        (lambda: splits.joined(), "at least one column"),
    ],
)
def test_an_impossible_split_says_why(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_a_class_of_one_group_is_named_as_confounded() -> None:
    meats = np.repeat(["chicken", "pork", "turkey"], 8)
    suppliers = np.concatenate([np.tile(["A", "B", "C", "D"], 4), np.repeat("E", 8)])
    found = splits.warnings_of(meats, suppliers, n_splits=4, group_word="supplier")
    assert len(found) == 1
    assert "Class turkey and supplier are confounded: all its 8 rows come from one supplier" in found[0]


def test_small_classes_are_named_with_what_the_folds_cannot_test() -> None:
    classes, groups = ["a"] * 10 + ["b"] * 6 + ["c"], [*range(10), 1, 1, 1, 2, 2, 2, 30]
    found = splits.warnings_of(classes, groups, n_splits=5)
    assert found == [
        "Class b has 2 groups, too few for 5 folds: 3 of them cannot test it. Merge it, drop it or use fewer folds.",
        "Class c has 1 group, too few for 5 folds: 4 of them cannot test it. Merge it, drop it or use fewer folds.",
    ]
    assert splits.warnings_of(["a"] * 5)[0].startswith("There is one class only")
    assert splits.warnings_of(np.repeat(["a", "b"], 5)) == []


def test_replicates_leak_unless_grouped_by_specimen() -> None:
    _, specimen = specimens(6, 2, 2)
    (sentence,) = splits.leaks(specimen)
    assert sentence.startswith("0, 1, 2, 3, 4 and 1 more: 12 rows are replicates of 6 specimens")
    assert splits.leaks(specimen, specimen) == []
    assert splits.leaks(specimen, splits.joined(specimen, np.zeros(12))) == []
    assert splits.leaks(np.arange(5)) == []


def test_absent_classes_are_named_by_part() -> None:
    nothing = np.empty(0, dtype=int)
    parts = splits.Parts(np.arange(3), nothing, np.array([3]), np.array([4]))
    assert splits.absent(["a", "b", "a", "b", "a"], parts) == [
        "The calibration part has no row of class a.",
        "The test part has no row of class b.",
    ]
