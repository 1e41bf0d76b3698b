"""Every target code on a small table, rare classes, and what bad labels say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.task import InputError
from lib.tasks.spectra import targets
from lib.tasks.spectra.targets import Target

ROWS = pd.DataFrame(
    [
        ("OK", 0), ("OK - Inspecteur", 0), ("OK - SpectrAcer", 0), ("CROCHET", 0), ("VR", 1), ("VR", 11), ("VR", 12),
        ("VR", 2), ("VR", 5), ("NC", 5), ("NC", 1), ("NC", 4),
    ],
    columns=["severity", "defect_type"],
)  # fmt: skip
EXPECTED = {
    "TY": "0 0 0 0 1 11 12 2 5 5 1 4",
    "TYs": "0 0 0 0 1 1 1 2 5 5 1 4",
    "IN": "OK OK OK CROCHET VR VR VR VR VR NC NC NC",
    "INTY": "OK0 OK0 OK0 CROCHET0 VR1 VR11 VR12 VR2 VR5 NC5 NC1 NC4",
    "INsTY": "OK OK OK CROCHET 1 11 12 2 5 5 1 4",
    "INTYs": "OK0 OK0 OK0 CROCHET0 VR1 VR1 VR1 VR2 VR5 NC5 NC1 NC4",
    "INsTYs": "OK OK OK CROCHET 1 1 1 2 5 5 1 4",
}
ORDERS = {
    "TY": "0 1 2 4 5 11 12",
    "IN": "NC VR CROCHET OK",
    "INTY": "NC1 NC4 NC5 VR1 VR2 VR5 VR11 VR12 CROCHET0 OK0",
    "INsTYs": "1 2 4 5 CROCHET OK",
}


@pytest.mark.parametrize("code", EXPECTED)
def test_ava_codes(code: str) -> None:
    found = targets.classify(ROWS, Target("AVA", code))
    assert [found.names[k] for k in found.codes] == EXPECTED[code].split()
    assert found.notes == ()


@pytest.mark.parametrize("code", ORDERS)
def test_classes_come_in_a_readable_order(code: str) -> None:
    assert targets.classify(ROWS, Target("AVA", code)).names == tuple(ORDERS[code].split())


def test_simplified_severity_is_two_classes() -> None:
    found = targets.classify(ROWS, Target("AVA", "INs"))
    assert found.names == ("VR - NC", "OK - CROCHET")
    assert found.codes.tolist() == [1] * 4 + [0] * 8


def test_ok_11_5() -> None:
    found = targets.classify(ROWS, Target("AVA", "OK+11+5"))
    assert found.names == ("OK", "VR11", "VR/NC5", "The rest")
    assert found.codes.tolist() == [0, 0, 0, 3, 3, 1, 3, 3, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("value", "where"),
    [("OK", [0, 1, 2]), ("NC", [9, 10, 11]), ("11", [5]), ("5", [8, 9]), ("1", [4, 5, 6, 10]), ("VR11", [5]), ("OK0", [0, 1, 2])],
)
def test_ova_is_one_against_the_rest(value: str, where: list[int]) -> None:
    found = targets.classify(ROWS, Target("OVA", value))
    assert found.names == ("The rest", value)
    assert np.flatnonzero(found.codes).tolist() == where


def test_every_choice_offered_can_be_asked() -> None:
    offered = targets.choices(ROWS)
    assert offered["OVA"][:7] == ["0", "1", "2", "4", "5", "11", "12"]
    assert {"OK", "VR11"} <= set(offered["OVA"])
    for kind, codes in offered.items():
        for code in codes:
            assert targets.classify(ROWS, Target(kind, code)).counts.sum() == len(ROWS)


def test_any_column_can_be_the_target() -> None:
    rows = pd.DataFrame({"origin": ["Crete", "Apulia", None, "Crete", " "], "year": [2019.0, 2020.0, 2019.0, np.nan, 2021.0]})
    found = targets.classify(rows, Target("AVA", "origin", "origin"))
    assert found.names == ("Apulia", "Crete")
    assert found.codes.tolist() == [1, 0, -1, 1, -1]
    assert "2 samples have no label" in found.notes[0]
    assert targets.classify(rows, Target("AVA", "year", "year")).names == ("2019", "2020", "2021")
    assert targets.classify(rows, Target("OVA", "2019", "year")).codes.tolist() == [1, 0, 1, -1, 0]


def test_a_model_keeps_its_classes_on_another_table() -> None:
    names = targets.classify(ROWS, Target("AVA", "TYs")).names
    found = targets.classify(pd.DataFrame({"defect_type": [5, 6, 0]}), Target("AVA", "TYs"), names)
    assert found.names == names
    assert found.codes.tolist() == [names.index("5"), -1, 0]
    assert found.notes == ("1 sample is of a class the model does not know: 6.",)
    none = targets.classify(pd.DataFrame({"severity": ["NC"]}), Target("OVA", "OK"), ("The rest", "OK"))
    assert none.codes.tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "target", "says"),
    [
        ({"severity": ["OK"]}, ("AVA", "TY"), "no such column"),
        ({"severity": ["fine"], "defect_type": [0]}, ("AVA", "IN"), "'fine' is no severity"),
        ({"severity": ["OK"], "defect_type": [1.5]}, ("AVA", "TY"), "'1.5' is no defect type"),
        ({"severity": ["OK"], "defect_type": [0]}, ("OVA", "NC"), "no sample is 'NC'"),
        ({"severity": ["OK"], "defect_type": [0]}, ("OVA", "VR11"), "There are 0, OK, OK0"),
        ({"severity": [None], "defect_type": [None]}, ("AVA", "INTY"), "no sample has a label"),
        ({}, ("AVA", "TIES"), "Codes: TY, TYs"),
        ({}, ("AVO", "TY"), "Choose AVA or OVA"),
    ],
)
def test_bad_labels_are_named(rows: dict, target: tuple, says: str) -> None:
    with pytest.raises(InputError, match=says):
        targets.classify(pd.DataFrame(rows), Target(*target))


def test_balance_counts_samples_and_groups() -> None:
    found = targets.classify(ROWS, Target("AVA", "IN"))
    table = targets.balance(found, np.repeat(np.arange(6), 2))
    assert table["samples"].tolist() == [3, 5, 1, 3]
    assert table["percent"].sum() == pytest.approx(100)
    assert table["groups"].tolist() == [2, 3, 1, 2]
    assert "groups" not in targets.balance(found)


def test_rare_classes_are_named_and_settled() -> None:
    found = targets.classify(ROWS, Target("AVA", "IN"))
    assert targets.too_rare(found, 3) == ("CROCHET",)
    assert targets.too_rare(found, 3, np.repeat(np.arange(6), 2)) == ("NC", "CROCHET", "OK")
    with pytest.raises(InputError, match="classes CROCHET: each has fewer than 3 samples"):
        targets.settle_rare(found, 3)
    dropped = targets.settle_rare(found, 3, "drop")
    assert dropped.names == ("NC", "VR", "OK")
    assert dropped.codes.tolist() == [2, 2, 2, -1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert dropped.notes == ("Too rare to split, dropped: CROCHET (1 sample).",)
    merged = targets.settle_rare(found, 4, "merge")
    assert merged.names == ("VR", "other")
    assert merged.counts.tolist() == [5, 7]
    assert targets.settle_rare(found, 1) is found


def test_what_cannot_be_settled_is_refused() -> None:
    found = targets.classify(ROWS, Target("AVA", "IN"))
    with pytest.raises(InputError, match="together still have fewer"):
        targets.settle_rare(found, 3, "merge")
    with pytest.raises(InputError, match="only one class is left, VR"):
        targets.settle_rare(found, 5, "drop")
    with pytest.raises(InputError, match="only one class is left"):
        targets.settle_rare(targets.classify(ROWS.head(3), Target("AVA", "IN")), 2)


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 8), st.sampled_from(["drop", "merge"]))
def test_settled_classes_can_always_be_split(labels: list[int], folds: int, choice: targets.Rare) -> None:
    found = targets.classify(pd.DataFrame({"defect_type": labels}), Target("AVA", "TY"))
    try:
        settled = targets.settle_rare(found, folds, choice)
    except InputError:
        return
    assert settled.counts.min() >= folds
    assert len(settled.names) >= 2
    kept = settled.codes >= 0
    assert kept.all() or choice == "drop"
    for before, after in zip(found.codes[kept], settled.codes[kept]):
        assert settled.names[after] in (found.names[before], targets.OTHER)
