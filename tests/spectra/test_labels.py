"""The label that a table's owner declared: it goes with the samples, is what a training learns first, and is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.task import InputError, Samples
from lib.tasks.spectra import TASK, checks, files
from lib.tasks.spectra.arrays import as_table
from lib.tasks.spectra.data import TableData, balance_of
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.table import label_of
from lib.words import from_plain
from tests.spectra import bad_tables as tables

N = 60


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """Every test has its own data folder and cache."""


def frame(**columns: Any) -> pd.DataFrame:
    """A table from elsewhere: `grade`, which no name suggests as the label, one specimen per row."""
    plain = tables.generic(N).drop(columns=["class", "specimen"])
    plain.insert(0, "number", [f"n{k}" for k in range(N)])
    return plain.assign(grade=["low", "mid", "high"] * (N // 3), **columns)


def opened(folder: Path, table: pd.DataFrame, **columns: Any) -> Samples:
    """The table as the Clean page has it."""
    table.to_csv(folder / "table.csv", index=False)
    return TASK.read(folder / "table.csv", TASK.Acquisition.parse(columns))


def asked(data: Path, **options: Any) -> Training:
    return Training.parse({"data": str(data), "model": "PLS-DA", "epochs": 1, "threads": 1} | options)


def told_by(config: Training) -> list[str]:
    return [from_plain(note) for note in TableData(config).facts()["notes"]]


# --- it goes with the samples -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", ["parquet", "h5"])
def test_the_label_goes_with_the_samples_through_the_store_and_the_kept_file(tmp_path: Path, ending: str) -> None:
    samples = opened(tmp_path, frame(), label="grade")
    samples.save(tmp_path)
    again = Samples.load(tmp_path).take(np.arange(10, 50)).with_columns(more=1)
    assert label_of(again.table) == "grade"
    assert label_of(Samples.concat([again, again]).table) == "grade"
    path = files.write(as_table(again), tmp_path / f"kept.{ending}")
    for _ in range(2):  # from the file, then from the cache
        assert label_of(files.read(path, cache=tmp_path / "cache").table.rows) == "grade"
    assert files.read(path).columns.label == "grade"


def test_a_label_with_the_name_of_a_standard_column_is_the_files(tmp_path: Path) -> None:
    samples = opened(tmp_path, frame().rename(columns={"grade": "provenance"}), label="provenance")
    assert label_of(samples.table) == "provenance (file)"
    assert label_of(opened(tmp_path, frame(), label="-").table) == ""


def test_tables_that_are_joined_keep_the_label_of_the_one_that_has_it(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    frame().drop(columns="grade").to_csv(tmp_path / "b.csv", index=False)
    columns = TASK.Acquisition.parse({"label": "grade", "sample": "number", "together": "channels"})
    for order in (("a.csv", "b.csv"), ("b.csv", "a.csv")):
        samples = TASK.read_bundle([(tmp_path / name, name) for name in order], columns)
        assert label_of(samples.table) == "grade"


# --- what is learnt ---------------------------------------------------------------------------------------------------
def kept(folder: Path, **columns: Any) -> Path:
    samples = opened(folder, frame(), **columns)
    return TASK.write(samples, folder / "kept")[0]


def test_a_kept_table_without_severity_is_trained_on_by_its_label_with_the_defaults(tmp_path: Path) -> None:
    path = kept(tmp_path, label="grade")
    facts = TableData(asked(path)).facts()
    assert facts["classes"] == ["high", "low", "mid"]
    assert facts["target"] == {"kind": "AVA", "of": "", "column": "grade"}
    assert "The table has no severity: its label is learnt, column 'grade'." in told_by(asked(path))
    assert "column 'grade'" in balance_of(asked(path))[1][0]
    assert "y=['AVA', 'grade']" in TASK.knowing(facts).export_name(asked(path))
    one = TableData(asked(path, of="mid")).facts()
    assert one["classes"] == ["The rest", "mid"] and one["target"] == {"kind": "OVA", "of": "mid", "column": "grade"}


def test_a_table_without_severity_or_label_says_which_column_may_be_chosen(tmp_path: Path) -> None:
    path = kept(tmp_path, label="-")
    for refused in (TableData, balance_of):
        with pytest.raises(InputError) as caught:
            refused(asked(path))
        assert caught.value.problem == "has no severity"
        assert caught.value.remedy == "Choose the column to learn: column=grade, kind=AVA. Columns: number, grade."
    assert TableData(asked(path, column="grade", kind="AVA")).facts()["classes"] == ["high", "low", "mid"]
    bare = TASK.write(opened(tmp_path, frame().drop(columns=["grade", "number"]), label="-"), tmp_path / "bare")[0]
    with pytest.raises(InputError, match="Add a column with the class of each sample"):
        TableData(asked(bare))


def test_a_label_that_names_every_sample_is_not_learnt_unasked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column=grade, kind=AVA"):
        TableData(asked(kept(tmp_path, label="number")))


def test_samples_without_a_label_are_counted_by_the_column_alone(tmp_path: Path) -> None:
    table = frame()
    table.loc[4, "grade"] = ""
    path = TASK.write(opened(tmp_path, table, label="grade"), tmp_path / "kept")[0]
    assert "1 sample has no label (column 'grade') and is left out." in told_by(asked(path, column="grade", kind="AVA", of=""))


# --- what is shown and checked ----------------------------------------------------------------------------------------
def shown(samples: Samples) -> dict[str, Any]:
    """The panels of the Clean page by key, and the checks."""
    readings = TASK.inspect(samples, TASK.Acquisition())
    views = TASK.overview(samples, readings, pd.Series(np.ones(len(samples), bool)), TASK.Rules())
    return {panel.key: panel.content for panel in (view.make() for view in views)}


def test_a_declared_label_gives_the_views_and_checks_of_classes(tmp_path: Path) -> None:
    instrument = np.repeat(["A", "B", "A"], N // 3)
    panels = shown(opened(tmp_path, frame(instrument=instrument), label="grade"))
    assert {"joint", "boxes", "counts"} <= set(panels)
    assert list(panels["joint"].data[0].y) == ["low", "mid", "high"]
    assert "Class and instrument" in panels["checks"]["check"].tolist()
    plain = shown(opened(tmp_path, frame(instrument=instrument), label="number"))
    assert not {"joint", "boxes", "counts"} & set(plain), "a name of each sample is no class"


def asked_of_specimens(samples: Samples) -> checks.Check:
    """The check of a table whose label is `grade`."""
    found = checks.checks(samples, TASK.inspect(samples, TASK.Acquisition()), by="grade")
    return next(one for one in found if one.key == "specimens")


def numbered_anew() -> pd.DataFrame:
    """Five specimens of each class, numbered from 1 in each; four samples of each."""
    return frame(specimen=[str(k // 3 % 5 + 1) for k in range(N)])


def test_specimens_whose_number_starts_anew_in_each_class_are_asked_about(tmp_path: Path) -> None:
    samples = opened(tmp_path, numbered_anew(), label="grade")
    check = asked_of_specimens(samples)
    assert check.finding.startswith("5 of 5 specimens have samples of several classes; specimen 1 of 3.")
    assert "group" in check.advice and check.table is not None and check.table.iloc[0].tolist() == ["1", 12, 3]
    path = TASK.write(samples, tmp_path / "kept")[0]
    assert check.finding in told_by(asked(path)) and check.finding in balance_of(asked(path))[1]


def test_specimens_named_by_class_and_number_are_not_asked_about(tmp_path: Path) -> None:
    samples = opened(tmp_path, numbered_anew(), label="grade", group=("grade", "specimen"))
    check = asked_of_specimens(samples)
    assert not check.advice
    assert not any("several classes" in note for note in told_by(asked(TASK.write(samples, tmp_path / "kept")[0])))


def test_specimens_beside_those_whose_number_restarts_do_not_hide_them(tmp_path: Path) -> None:
    table = numbered_anew()
    table.loc[30:, "specimen"] = [f"t{k // 2}" for k in range(30)]  # fifteen specimens of two samples each
    table.loc[30:, "grade"] = np.repeat(["low", "mid", "high"], 10)
    check = asked_of_specimens(opened(tmp_path, table, label="grade"))
    assert check.finding.startswith("5 of 20 specimens")


def test_a_few_contradicting_labels_are_no_reason_to_ask() -> None:
    population = TASK.simulate(TASK.Simulation(population=True), 400, np.random.default_rng(0))
    told = {one.key: one for one in checks.checks(population, TASK.inspect(population, TASK.Acquisition()))}
    assert not told["specimens"].advice, "inspectors err, numbers do not start anew"
