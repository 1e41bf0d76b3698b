"""The commands that work on files alone: clean and convert."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.task import Task
from tests.test_cli import call


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three files of one row each, the second far too noisy."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for k, scale in enumerate((1.0, 100.0, 2.0)):
        np.save(folder / f"row {k}.npy", (scale * np.linspace(-1, 1, 8)).astype(np.float32))
    return folder


def test_clean_keeps_the_untouched_files_that_no_rule_removes(toy: Task, rows: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert call("clean", "toy", "--input", rows, "--output", kept) == 0
    assert sorted(path.name for path in kept.iterdir()) == ["recipe.json", "row 0.npy", "row 2.npy"]
    assert (kept / "row 0.npy").read_bytes() == (rows / "row 0.npy").read_bytes()


def test_clean_says_how_many_each_rule_removes_and_how_to_loosen_the_one_that_removes_all(
    toy: Task, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["clean", "toy", "--input", rows, "--output"]
    assert call(*line, tmp_path / "kept") == 0
    said = capsys.readouterr()
    (note,) = [text for text in said.err.splitlines() if "removes" in text]
    assert note.startswith("note: rule max_spread_v=") and note.endswith("removes 1 of 3 samples")
    assert call(*line, tmp_path / "none", "--set", "max_spread_v=0.001") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no sample is kept; rule max_spread_v=0.001 removes most, 3 of 3" in error
    assert "--set max_spread_v=…" in error
    recipe = json.loads((tmp_path / "kept" / "recipe.json").read_text())
    recipe["rules"]["max_spread_v"] = 0.001
    (tmp_path / "strict.json").write_text(json.dumps(recipe))
    assert call(*line, tmp_path / "none", "--recipe", tmp_path / "strict.json") == 1
    assert "Loosen max_spread_v among the rules of the recipe" in capsys.readouterr().err


def test_a_recipe_gives_the_same_set_again_from_renamed_files(toy: Task, rows: Path, tmp_path: Path) -> None:
    assert call("clean", "toy", "--input", rows, "--output", tmp_path / "first", "--set", "max_spread_v=90") == 0
    recipe = json.loads((tmp_path / "first" / "recipe.json").read_text())
    recipe["files"][0]["by_hand"] = {"0": False}
    (tmp_path / "mine.json").write_text(json.dumps(recipe))
    (rows / "row 2.npy").rename(rows / "another.npy")
    assert call("clean", "toy", "--input", rows, "--output", tmp_path / "again", "--recipe", tmp_path / "mine.json") == 0
    names = sorted(path.name for path in (tmp_path / "again").iterdir())
    assert names == ["another.npy", "recipe.json", "row 1.npy"]


def test_rows_of_a_table_are_kept_in_a_table(toy: Task, tmp_path: Path) -> None:
    table = np.ones((4, 8), np.float32) * np.array([[1, 2, 3, 4]], np.float32).T
    table[1, 0] = 1000
    np.save(tmp_path / "many.npy", table)
    assert call("clean", "toy", "--input", tmp_path / "many.npy", "--output", tmp_path / "kept") == 0
    written = [path for path in (tmp_path / "kept").iterdir() if path.suffix == ".npy"]
    values = np.concatenate([np.atleast_2d(np.load(path)) for path in written])
    assert sorted(values.mean(1)) == [1, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("--set", "max_spread_v=1e-6"), 1, "no sample is kept"),
        (("--set", "max_spread=1"), 2, "max_spread_v"),
        (("--recipe", "missing.json"), 2, "cannot be read"),
        (("--recipe", "{rows}/row 0.npy"), 2, "not a recipe"),
        (("--recipe", "missing.json", "--set", "max_spread_v=1"), 2, "Leave out --set"),
    ],
)
def test_clean_refuses_and_leaves_nothing(
    toy: Task, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, why: str
) -> None:
    output = tmp_path / "kept"
    typed = [argument.format(rows=rows) for argument in arguments]
    assert call("clean", "toy", "--input", rows, "--output", output, *typed) == status
    assert why in capsys.readouterr().err
    assert not list(tmp_path.glob("*kept*"))


def test_a_pickle_is_converted_only_on_its_owners_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "table.pkl", tmp_path / "table.parquet"
    subprocess.run([sys.executable, "-c", _MAKE_PICKLE, str(source)], check=True)
    assert call("convert", source, target) == 2
    assert "runs whatever program is in it" in capsys.readouterr().err and not target.exists()
    assert call("convert", source, target, "--i-made-it") == 0
    found = pd.read_parquet(target)
    assert list(found.columns) == ["sequence", "277_295", "277_296"] and list(found["277_296"]) == [3.0, 4.0]
    source.write_bytes(b"nonsense")
    assert call("convert", source, tmp_path / "other.parquet", "--i-made-it") == 1
    assert "could not be opened as a pickled table" in capsys.readouterr().err and not (tmp_path / "other.parquet").exists()


_MAKE_PICKLE = """
import sys
import pandas as pd
table = pd.DataFrame({("277", 295): [1.0, 2.0], ("277", 296): [3.0, 4.0]}, index=pd.Index(["a", "b"], name="sequence"))
getattr(table, "to_" + "pickle")(sys.argv[1])
"""
