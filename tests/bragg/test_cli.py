"""The command line on detector frames: every broken file is named with its reason, and good frames go on beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from lib.__main__ import main
from tests.bragg.bad_frames import BAD_FILES, frames, write_bad_files, write_nxmx

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
    assert (tmp_path / "out" / "peaks.cxi").exists() and not list((tmp_path / "out").glob("*.part"))
