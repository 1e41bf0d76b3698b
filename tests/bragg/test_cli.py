"""The command line on detector frames: every broken file is named with its reason, and good frames go on beside them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import drawn, labels
from lib.__main__ import main
from tests.bragg.bad_frames import BAD_FILES, MISFITS, SHAPE, frames, write_bad_files, write_nxmx, write_partly_bad

Capture = pytest.CaptureFixture[str]


@pytest.mark.slow
def test_every_broken_file_is_named_and_good_frames_are_predicted(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path / "home"))
    good, bad = write_nxmx(tmp_path / "good.h5", frames()), write_bad_files(tmp_path / "bad")
    command = ["predict", "bragg", "--input", good, *bad.values(), "--output", tmp_path / "out"]
    assert main([str(word) for word in command]) == 1
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    told = {case: [line for line in lines if path.name in line] for case, path in bad.items()}
    lost = [case for case, found in told.items() if not any(re.search(BAD_FILES[case][2], line) for line in found)]
    assert lost == [] and "Traceback" not in said.err
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    kept = table[table["n_peaks"].notna()]
    assert kept["file"].unique().tolist() == [good.name] and kept["frame"].tolist() == [0, 1, 2]
    assert table.loc[table["n_peaks"].isna(), "note"].str.startswith("error: ").all()
    written = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str)
    assert written["frame"].dropna().tolist() == ["0", "1", "2"], "what is counted stays whole numbers beside empty cells"
    assert written["n_peaks"].dropna().str.fullmatch(r"\d+").all()
    assert (tmp_path / "out" / "peaks.cxi").exists() and not list((tmp_path / "out").glob("*.part"))


@pytest.mark.slow
def test_bad_frames_are_told_in_their_rows_and_the_others_predicted_whatever_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path / "home"))
    cases = write_partly_bad(tmp_path / "in")
    command = ["predict", "bragg", "--input", *(path for path, _, _ in cases.values()), "--output", tmp_path / "out"]
    main([str(word) for word in command])
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    for path, bad, words in cases.values():
        mine = table[table["file"] == path.name]
        told = mine["note"].str.startswith("error: ")
        assert mine.loc[told, "frame"].tolist() == bad and (mine.loc[~told, "n_peaks"] != "").all()
        assert mine.loc[told, "note"].str.contains(words).all()


@pytest.mark.slow
def test_a_folder_of_data_gives_its_runs_and_none_of_the_masks_drawn_over_them(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    folder = tmp_path / "data" / "bragg"
    (folder / "monday").mkdir(parents=True)
    write_nxmx(folder / "monday" / "run.h5", frames())
    for name in ("beam stop", "mask-monday"):  # the second is called as a mask of the frames beside it would be
        drawn.save("bragg", name, np.ones(SHAPE, bool))
    labels.create("bragg", "mine")
    assert main(["predict", "bragg", "--input", str(folder), "--output", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["file"].unique().tolist() == ["monday/run.h5"] and table["n_peaks"].notna().all()
    assert "mask" not in capsys.readouterr().err


@pytest.mark.parametrize("case", MISFITS)
def test_files_that_do_not_go_together_are_refused_before_anything_is_written(
    case: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path / "home"))
    write, settings, words = MISFITS[case]
    (tmp_path / "in").mkdir()
    paths = write(tmp_path / "in")
    before = {path: path.read_bytes() for path in paths}
    told = ["--instrument", *(f"{key}={value}" for key, value in settings.items())] if settings else []
    command = ["clean", "bragg", "--input", tmp_path / "in", "--output", tmp_path / "out", *told]
    assert main([str(word) for word in command]) != 0
    said = capsys.readouterr().err
    assert re.search(words, said) and "good.h5" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists() and all(path.read_bytes() == content for path, content in before.items())
