"""A run of frames in one file, divided among parts: ranges of its frames, and the same peaks as by one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from lib import bulk, divided, runs, tasks
from lib.__main__ import main
from lib.predict import SLICE
from lib.tasks.bragg.config import Simulation

N_FRAMES = 40


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    config = Simulation(height_px=128, width_px=128, water_photons=2, spot_photons=3e4)
    tasks.get("bragg").simulate_into(folder, config, N_FRAMES, np.random.default_rng(3))
    (folder / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n and nothing more")
    return folder


def test_frames_of_one_file_are_dealt_in_whole_slices_and_never_twice(run_file: Path, tmp_path: Path) -> None:
    model = runs.default_model("bragg")
    request = bulk.Request(task="bragg", model=f"bragg/{model.id}", inputs=((str(run_file), "frames"),), parts=3)
    plan = divided.plan(bulk.create(tmp_path / "out", request).folder, request)
    ranges = [unit.rows for unit in plan.units if unit.rows is not None]
    assert [row for first, end in ranges for row in range(first, end)] == list(range(N_FRAMES))
    assert all(first % SLICE == 0 for first, _ in ranges) and len(plan.parts) == 3
    assert [plan.files[unit.files[0]].name for unit in plan.units if unit.rows is None] == ["broken.h5"]


@pytest.mark.slow
def test_parts_of_a_run_give_its_peaks(run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path / "home"))
    for name, more in (("whole", []), ("parts", ["--parts", "3"])):
        assert main(["predict", "bragg", "--input", str(run_file), "--output", str(tmp_path / name), *more]) == 1
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for table in ("predictions.csv", "peaks.csv"):
        pd.testing.assert_frame_equal(pd.read_csv(parts / table), pd.read_csv(whole / table), rtol=1e-4)
    assert len(pd.read_csv(parts / "predictions.csv")) == N_FRAMES + 1 and len(pd.read_csv(parts / "peaks.csv")) > 10
    assert (parts / "hits.lst").read_text() == (whole / "hits.lst").read_text()
    made, wanted = (json.loads((folder / "summary.json").read_text()) for folder in (parts, whole))
    assert made["n_peaks"] == wanted["n_peaks"] and made["n_hits"] == wanted["n_hits"]
    assert made["frames_linked"] and (parts / "peaks.lst").read_text() == (whole / "peaks.lst").read_text()
    with h5py.File(parts / "peaks.cxi") as one, h5py.File(whole / "peaks.cxi") as other:
        for key in ("entry_1/data_1/data", "entry_1/result_1/nPeaks"):
            assert (one[key][:] == other[key][:]).all() and len(one[key]) == N_FRAMES
        assert one["entry_1/data_1/data"][:].any(axis=(1, 2)).all(), "each row shows a frame"


@pytest.mark.slow
def test_frames_of_an_archive_are_not_linked_as_they_go_with_it(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path / "home"))
    archive = shutil.make_archive(str(tmp_path / "frames"), "zip", run_file)
    for name, more in (("whole", []), ("parts", ["--parts", "2"])):
        main(["predict", "bragg", "--input", archive, "--output", str(tmp_path / name), *more])
        assert not json.loads((tmp_path / name / "summary.json").read_text())["frames_linked"]
        assert (tmp_path / name / "hits.lst").exists() and not (tmp_path / name / "peaks.lst").exists()
