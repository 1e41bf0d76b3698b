"""The command line on tables of spectra: exit status, the sentence that names the file, and good files beside bad ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import runs
from lib.__main__ import main
from tests.spectra import bad_tables as tables
from tests.spectra.test_task import BAD_TRAININGS, NOTHING_DROPPED, original_set, population, write_bad_tables, written

Capture = pytest.CaptureFixture[str]
TINY = ["--preset", "PLS-DA", "--set", "threads=1", "accelerator=cpu", "channels=277,380,425"]


@pytest.fixture(scope="module", autouse=True)
def one_process(bench: Path) -> Iterator[None]:
    """`train` rewrites argv for the ranks that Lightning starts: it is to find that it is alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lib"])
        for rank in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
            patch.delenv(rank, raising=False)
        yield


@pytest.fixture(scope="module")
def run_id(bench: Path) -> str:
    """A tiny run, trained by its command."""
    assert call("train", "spectra", "--name", "tiny", *TINY, "simulated_samples=300") == 0
    (run,) = runs.list_runs("spectra")
    return run.id


def call(*arguments: object) -> int:
    """Exit status of one command, run in this process."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as exit_:  # argparse
        return int(exit_.code or 0)


def predictions(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "predictions.csv", dtype={"sample": str}, keep_default_na=False, na_values=[""])


# --- predict ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_bad_tables_are_named_and_good_ones_unaffected(run_id: str, tmp_path: Path, capsys: Capture) -> None:
    good, bad = written(tmp_path / "good", population())[0], write_bad_tables(tmp_path / "odd")
    assert call("predict", "spectra", "--model", run_id, "--input", good, *bad, "--output", tmp_path / "out") == 1
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    lost = [path.name for path, words in bad.items() if not any(path.name in line and words in line for line in lines)]
    assert lost == [] and len(lines) == len(bad) and "Traceback" not in said.err
    assert f"8 rows predicted with spectra/{run_id}; {len(bad)} files failed" in said.out
    assert call("predict", "spectra", "--model", run_id, "--input", good, "--output", tmp_path / "alone") == 0
    with_bad = predictions(tmp_path / "out")
    kept = with_bad[with_bad["predicted"].notna()]
    alone = predictions(tmp_path / "alone")
    assert len(with_bad) == 8 + len(bad)
    pd.testing.assert_frame_equal(kept.astype(alone.dtypes), alone)


@pytest.mark.slow
def test_a_folder_with_the_fluorimeters_files_is_one_table(run_id: str, tmp_path: Path, capsys: Capture) -> None:
    original_set(tmp_path / "set")
    assert call("predict", "spectra", "--model", run_id, "--input", tmp_path / "set", "--output", tmp_path / "out") == 0
    table = predictions(tmp_path / "out")
    assert table["sample"].tolist() == tables.KEYS and table["file"].nunique() == 1
    (tmp_path / "set" / "EX_425_2018.txt").unlink()
    assert call("predict", "spectra", "--model", run_id, "--input", tmp_path / "set", "--output", tmp_path / "out") == 1
    assert "EX_425….txt: is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_what_columns_mean_can_be_typed(run_id: str, tmp_path: Path, capsys: Capture) -> None:
    tables.one_table(lspr=False).to_csv(tmp_path / "a.csv", index=False)
    line = ["predict", "spectra", "--model", run_id, "--input", tmp_path / "a.csv", "--output", tmp_path / "out", "--set"]
    assert call(*line, "sample=scelle") == 0
    assert predictions(tmp_path / "out")["sample"].tolist()[:2] == ["A000/1", "A000/2"]
    assert call(*line, "sample=barrel") == 1
    assert "a.csv: has no column 'barrel', which was chosen as sample" in capsys.readouterr().err
    assert call(*line, "specimen=scelle") == 2
    assert "unknown key 'specimen'" in capsys.readouterr().err


# --- clean, train -----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_clean_keeps_a_set_that_train_takes_by_name(bench: Path, tmp_path: Path, capsys: Capture) -> None:
    raw, kept = written(tmp_path, population(300))[0], bench / "data" / "spectra" / "harvest"
    assert call("clean", "spectra", "--input", raw, "--output", kept, "--set", "max_425=800") == 0
    assert " of 300 samples kept" in capsys.readouterr().out
    told = json.loads((kept / "recipe.json").read_text())
    assert told["rules"]["max_425"] == 800 and "max_425" in set(told["files"][0]["dropped"].values())
    assert call("clean", "spectra", "--input", raw, "--output", tmp_path / "again", "--recipe", kept / "recipe.json") == 0
    for name in ("spectra.parquet", "recipe.json"):
        assert (tmp_path / "again" / name).read_bytes() == (kept / name).read_bytes()
    assert call("train", "spectra", "--name", "harvest", *TINY, "data=harvest") == 0
    (run,) = (run for run in runs.list_runs("spectra") if run.name == "harvest")
    assert sum(run.facts()["rows"].values()) == 300 - len(told["files"][0]["dropped"])


def test_clean_reads_the_fluorimeters_files_of_an_archive(tmp_path: Path, capsys: Capture) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path, name in original_set(tmp_path / "day 1"):
            archive.write(path, name)
    rules = [f"{key}={value}" for key, value in NOTHING_DROPPED.items()]
    line = ["clean", "spectra", "--input", tmp_path / "set.zip", "--output", tmp_path / "kept", "--set", *rules]
    assert call(*line) == 0, capsys.readouterr().err
    assert "6 of 6 samples kept" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"spectra.parquet", "recipe.json"}


def test_a_table_in_french_excel_is_cleaned_as_the_plain_one(tmp_path: Path, capsys: Capture) -> None:
    frame = tables.one_table(lspr=False).rename(columns={"greffon_limpidite": "limpidité"})
    text = frame.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")
    contents = {"plain": frame.to_csv(index=False).encode(), "latin": text.encode("cp1252"), "marked": text.encode("utf-8-sig")}
    rules = [f"{key}={value}" for key, value in NOTHING_DROPPED.items()]
    kept = {}
    for name, content in contents.items():
        (tmp_path / f"{name}.csv").write_bytes(content)
        line = ["clean", "spectra", "--input", tmp_path / f"{name}.csv", "--output", tmp_path / name, "--set", *rules]
        assert call(*line) == 0, capsys.readouterr().err
        kept[name] = pd.read_parquet(tmp_path / name / "spectra.parquet")
    for name in ("latin", "marked"):
        pd.testing.assert_frame_equal(kept[name], kept["plain"])


def test_negative_saturated_and_bright_spectra_are_left_out_and_the_recipe_says_why(tmp_path: Path, capsys: Capture) -> None:
    frame = tables.one_table(6, lspr=False)
    points = [name for name in frame if name.startswith("277_")]
    frame.loc[0, points[:150]] = -50.0
    frame.loc[1, points] = np.minimum(frame.loc[1, points].astype(float), 0.5 * frame.loc[1, points].astype(float).max())
    frame.to_csv(tmp_path / "odd.csv", index=False)
    rules = [f"{key}={value}" for key, value in NOTHING_DROPPED.items()]
    line = ["clean", "spectra", "--input", tmp_path / "odd.csv", "--output", tmp_path / "kept", "--set", *rules]
    assert call(*line) == 0
    assert "4 of 6 samples kept" in capsys.readouterr().out
    dropped = json.loads((tmp_path / "kept" / "recipe.json").read_text())["files"][0]["dropped"]
    assert dropped == {"0": "max_negative_percent", "1": "max_saturated_points"}


@pytest.mark.parametrize("case", tables.BAD_SETS)
def test_files_that_do_not_fit_together_are_not_cleaned(case: str, tmp_path: Path, capsys: Capture) -> None:
    spoil, words = tables.BAD_SETS[case]
    original_set(tmp_path / "set")
    spoil(tmp_path / "set")
    before = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    assert call("clean", "spectra", "--input", tmp_path / "set", "--output", tmp_path / "kept") == 1
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and not (tmp_path / "kept").exists()
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}


@pytest.mark.parametrize("case", BAD_TRAININGS)
def test_a_table_that_cannot_be_trained_on_says_why(case: str, bench: Path, tmp_path: Path, capsys: Capture) -> None:
    columns, options, words = BAD_TRAININGS[case]
    frame = tables.generic(24).assign(**{"specimen": [f"s{k}" for k in range(24)], **columns})
    frame.to_csv(tmp_path / "table.csv", index=False)
    asked = {"data": tmp_path / "table.csv", "column": "class", "kind": "AVA", "of": "class", "channels": "", **options}
    typed = [f"{key}={','.join(value) if isinstance(value, list) else value}" for key, value in asked.items()]
    assert call("train", "spectra", *TINY, *typed) == 1
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


@pytest.mark.slow
def test_unknown_labels_and_a_missing_tabular_column_are_told(bench: Path, tmp_path: Path, capsys: Capture) -> None:
    train, new = (tables.generic(n).assign(brix=np.arange(n) + 0.5) for n in (60, 4))
    train.assign(specimen=[f"s{k}" for k in range(60)]).to_csv(tmp_path / "train.csv", index=False)
    asked = ("column=class", "kind=AVA", "channels=", "tabular=brix", "model=compact CNN", "epochs=1", "width=4")
    assert call("train", "spectra", "--name", "with brix", *TINY, f"data={tmp_path / 'train.csv'}", *asked) == 0
    new.assign(**{"class": ["a", "c", "", "b"]}).to_csv(tmp_path / "new.csv", index=False)
    new.drop(columns="brix").to_csv(tmp_path / "without.csv", index=False)
    line = ["predict", "spectra", "--model", "with brix", "--output", tmp_path / "out", "--input"]
    assert call(*line, tmp_path / "new.csv", tmp_path / "without.csv") == 1
    assert "without.csv: lacks the column 'brix', which this model takes beside the spectra" in capsys.readouterr().err
    notes = predictions(tmp_path / "out").query("file == 'new.csv'")["note"].fillna("")
    assert notes.str.contains("class not known to the model").tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data=nowhere", "data 'nowhere': there is no such file, folder or kept set"),
        ("of=VR99", "no sample is 'VR99'"),
        ("tabular=colour", "has no column 'colour'"),
    ],
)
def test_a_training_that_cannot_be_says_why(bench: Path, setting: str, words: str, capsys: Capture) -> None:
    assert call("train", "spectra", *TINY, "simulated_samples=300", setting) == 1
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("setting", "words"),
    [("kind=BVA", "kind = 'BVA'"), ("current_split=5", "current_split = 5 does not exist"), ("fold=1", "unknown key 'fold'")],
)
def test_a_wrong_setting_is_usage_and_makes_no_run(bench: Path, setting: str, words: str, capsys: Capture) -> None:
    before = len(runs.list_runs("spectra"))
    assert call("train", "spectra", *TINY, setting) == 2
    assert words in capsys.readouterr().err and len(runs.list_runs("spectra")) == before


# --- several tables ---------------------------------------------------------------------------------------------------
def test_several_tables_are_cleaned_as_channels_or_instruments(tmp_path: Path, capsys: Capture) -> None:
    for name, gain in (("A", 1.0), ("B", 1.5)):
        frame = tables.generic()
        frame[frame.columns[2:]] *= gain  # the same spectra twice would be duplicates
        frame.to_csv(tmp_path / f"{name}.csv", index=False, sep=";", decimal=",")
    line = ["clean", "spectra", "--input", tmp_path / "A.csv", tmp_path / "B.csv", "--output"]
    assert call(*line, tmp_path / "two", "--instrument", "together=instruments") == 0, capsys.readouterr().err
    said = capsys.readouterr()
    kept = pd.read_parquet(tmp_path / "two" / "spectra.parquet")
    assert kept["instrument"].tolist() == ["A"] * 8 + ["B"] * 8 and "16 of 16 samples kept" in said.out
    assert "note: A.csv and 1 more: A.csv: comma as decimal sign" in said.err  # once for each file, not for each sample
    assert call(*line, tmp_path / "wide", "--instrument", "together=channels", "channels=B,A") == 0
    wide = pd.read_parquet(tmp_path / "wide" / "spectra.parquet")
    assert len(wide) == 8 and [name for name in wide if name.endswith("_1000")] == ["B_1000", "A_1000"]
    again = ["clean", "spectra", "--input", tmp_path / "A.csv", tmp_path / "B.csv", "--recipe", tmp_path / "two" / "recipe.json"]
    assert call(*again, "--output", tmp_path / "again") == 0  # the recipe says how they were joined
    assert pd.read_parquet(tmp_path / "again" / "spectra.parquet").equals(kept)
    capsys.readouterr()
    assert call(*line, tmp_path / "no", "--instrument", "together=sideways") == 2
    assert "'apart', 'channels' or 'instruments'" in capsys.readouterr().err


# --- convert ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_only_the_owner_of_a_pickle_turns_it_into_a_table(run_id: str, tmp_path: Path, capsys: Capture) -> None:
    frame, pickled, table = tables.one_table(2, lspr=False), tmp_path / "mine.pkl", tmp_path / "mine.parquet"
    getattr(frame.set_index("sequence"), "to_" + "pickle")(pickled)
    out = tmp_path / "out"
    assert call("predict", "spectra", "--model", run_id, "--input", pickled, "--output", out) == 1
    assert "mine.pkl: is a Python pickle" in (said := capsys.readouterr().err) and "--i-made-it" in said
    assert call("convert", pickled, table) == 2
    assert "--i-made-it" in capsys.readouterr().err and not table.exists()
    assert call("convert", pickled, table, "--i-made-it") == 0
    frame.to_csv(tmp_path / "mine.csv", index=False)
    assert call("predict", "spectra", "--model", run_id, "--input", table, tmp_path / "mine.csv", "--output", out) == 0
    done = predictions(out)
    one, other = (part.drop(columns="file").reset_index(drop=True) for _, part in done.groupby("file", sort=False))
    pd.testing.assert_frame_equal(one, other)


def test_columns_of_several_kinds_are_converted_to_text_and_it_is_said(tmp_path: Path, capsys: Capture) -> None:
    frame = tables.generic().assign(remark=[1, "two", None, 3.5, b"caf\xc3\xa9", True, pd.Timestamp("2024-03-01"), ""], plain="x")
    getattr(frame, "to_" + "pickle")(tmp_path / "mine.pkl")
    assert call("convert", tmp_path / "mine.pkl", tmp_path / "mine.parquet", "--i-made-it") == 0
    said = capsys.readouterr().err
    assert "note: column 'remark' holds values of several kinds: written as text" in said and "plain" not in said
    table = pd.read_parquet(tmp_path / "mine.parquet")
    expected = ["1", "two", None, "3.5", "café", "True", "2024-03-01 00:00:00", ""]
    assert [None if pd.isna(v) else v for v in table["remark"]] == expected
    pd.testing.assert_frame_equal(
        table.drop(columns=["remark", "plain"]), frame.drop(columns=["remark", "plain"]), check_dtype=False
    )
    frame.columns = ["class", "class", *frame.columns[2:]]
    getattr(frame, "to_" + "pickle")(tmp_path / "twice.pkl")
    assert call("convert", tmp_path / "twice.pkl", tmp_path / "twice.parquet", "--i-made-it") == 1
    assert "several columns called 'class'" in capsys.readouterr().err and not (tmp_path / "twice.parquet").exists()
