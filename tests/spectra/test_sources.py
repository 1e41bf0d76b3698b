"""What a training is tested on: a fold of its own, the rows that chose the best epoch, or a table kept aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib import tasks
from lib.disk import home
from lib.task import InputError, Samples, Split
from lib.tasks.spectra import files
from lib.tasks.spectra.data import TableData
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.table import Channel, SpectraTable
from lib.words import from_plain


def notes_of(facts: dict[str, Any]) -> list[str]:
    """The notes that a run keeps, as sentences."""
    return [from_plain(note) for note in facts["notes"]]


PARTS: tuple[Split, ...] = ("train", "validation", "calibration", "test")
POINTS = np.arange(20) + 1000.0


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """Every test has its own data folder and cache."""


def table(n: int, first: int = 0, axis: np.ndarray = POINTS, kind: str = "kind", **columns: Any) -> SpectraTable:
    """Rows that rise along the axis, each by its number; two kinds in turn, two rows per specimen."""
    number = np.arange(first, first + n)
    rows = pd.DataFrame({
        "sample": [f"r{k}" for k in number], "group": [f"g{k // 2}" for k in number],
        kind: np.where(number // 2 % 2, "beef", "lamb"), "number": 1.0 * number,
    })  # fmt: skip
    values = (number[:, None] + (axis - 1000.0)).astype(np.float32)
    return SpectraTable((Channel("spectrum", axis, values, "cm⁻¹"),), rows.assign(**columns))


def kept(given: SpectraTable, name: str) -> str:
    """Keeps a table as a set, once, and says its name."""
    path = home() / "data" / "spectra" / f"{name}.parquet"
    if not path.exists():
        files.write(given, path)
    return name


def made(aside: SpectraTable | None = None, **options: Any) -> TableData:
    defaults: dict[str, Any] = {
        "data": kept(table(80, fat=1.0), "mine"),
        "kind": "AVA",
        "of": "kind",
        "column": "kind",
        "batch_size": 8,
    }
    if aside is not None:
        defaults |= {"test_source": "file", "test_data": kept(aside, "aside")}
    return TableData(Training(**defaults | options))


def whole(data: TableData, split: Split) -> Samples:
    return Samples.concat([data.batch(split, 0, i) for i in range(data.batches(split))])


def numbers(data: TableData) -> dict[Split, set[float]]:
    return {split: set(whole(data, split).table["number"]) for split in PARTS}


def test_a_test_part_drawn_like_validation_shares_no_row_with_it() -> None:
    found = numbers(made())
    assert sum(map(len, found.values())) == 80 and set.union(*found.values()) == set(range(80))


def test_validation_can_be_the_test_and_the_sheet_says_that_it_flatters() -> None:
    data, like = made(test_source="is-val"), numbers(made())
    found = numbers(data)
    assert found["test"] == found["validation"] == like["test"]
    assert found["train"] | found["calibration"] | found["test"] == set(range(80))
    assert not found["train"] & found["test"] and len(found["train"]) > len(like["train"])
    assert any("what they tell is too good" in note for note in notes_of(data.facts()))


def test_a_table_kept_aside_is_the_test_and_nothing_else_is() -> None:
    data = made(table(12, first=100))
    found = numbers(data)
    assert found["test"] == set(range(100, 112))
    assert found["train"] | found["validation"] | found["calibration"] == set(range(80))
    assert not found["train"] & found["validation"]
    told, test = data.facts(), whole(data, "test")
    assert told["rows"]["test"] == 12 and told["groups"]["test"] == 6 and told["test_source"] == "aside"
    assert any("12 samples of aside.parquet" in note for note in notes_of(told))
    assert set(test.table["file"]) == {"aside.parquet"}
    assert test.inputs["spectrum"][:, 0] == pytest.approx(test.table["number"])
    assert (test.table["label"] == test.table["kind"]).all()
    assert data.everything("test")[0].shape == (12, 20)


def test_another_axis_and_other_names_are_brought_to_those_of_training() -> None:
    finer = np.arange(990.0, 1030.0, 0.5)
    aside = table(12, first=100, axis=finer, kind="species", extra=1.0)
    data = made(aside, test_columns=("kind=species", "tasted = extra"))
    test = whole(data, "test")
    assert test.inputs["spectrum"] == pytest.approx(test.table["number"].to_numpy()[:, None] + np.arange(20), abs=1e-3)
    assert set(test.table["label"]) == {"beef", "lamb"} and (test.table["tasted"] == 1).all()


def test_what_cannot_be_tested_is_left_out_and_told() -> None:
    aside = table(12, first=100)
    aside.rows.loc[:3, "kind"] = "goat"
    aside.rows.loc[:1, "group"] = "g3"  # of the training table
    aside.rows.loc[4:5, "group"] = "g3"
    data = made(aside)
    assert numbers(data)["test"] == set(range(104, 112))
    notes = " ".join(notes_of(data.facts()))
    assert "4 samples of aside.parquet lack points or are of no class that is learnt" in notes
    assert "1 specimens of aside.parquet are in the training table too" in notes


@pytest.mark.parametrize(
    ("aside", "options", "words"),
    [
        (table(12, kind="species"), {}, "no sample has all points and one of the classes that are learnt"),
        (table(12), {"test_columns": ("kind=quality",)}, "has no column 'quality', which test_columns names"),
        (table(12, axis=np.arange(5.0)), {}, "aside"),
        (table(12), {"tabular": ("fat",)}, "has no column 'fat'"),
    ],
)
def test_a_table_that_cannot_be_tested_is_refused_by_name(aside: SpectraTable, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(aside, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_source": "file"}, "test_data names the table"),
        ({"test_data": "aside"}, "give both, or neither"),
        ({"test_columns": ("kind",)}, "not of the form grade=quality"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Training.parse(options)


def test_a_kept_table_is_tested_once_not_once_per_fold() -> None:
    task = tasks.get("spectra")
    assert len(task.folds(Training(n_splits=4))) == 4 and len(task.folds(Training(n_splits=4, test_source="is-val"))) == 4
    assert len(task.folds(Training(n_splits=4, test_source="file", test_data="aside"))) == 1
