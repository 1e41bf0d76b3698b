"""A prediction whose parts are tasks of a job array: the same as by one process, also when a task is killed on its way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import bulk, jobs, runs, train
from lib.jobs.bulk import ARRAY, array_of
from lib.predict import SLICE
from lib.runs import Run
from lib.task import Task
from tests.conftest import wait_for
from tests.slurm.cluster import Cluster
from tests.test_cli import call

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]
ASKED = ("--set-cluster", "cpus_per_task=1", "time_limit_min=5")


@pytest.fixture
def model(toy: Task) -> Run:
    made = runs.create("toy", toy.Training.parse({"model": "plain mean", "epochs": 1}).model_dump(mode="json"), "mean")
    train.fit(made)
    return made


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    folder = tmp_path / "measured"
    folder.mkdir()
    for number, row in enumerate(np.random.default_rng(1).normal(1, 0.5, (12, 8)).astype(np.float32)):
        np.save(folder / f"{number:02d}.npy", row)
    (folder / "05.npy").write_bytes(b"no array")
    return folder


def same(one: Path, other: Path) -> None:
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "predictions.csv") for folder in (one, other)), rtol=1e-5)


def test_an_array_predicts_what_one_process_does(cluster: Cluster, model: Run, measured: Path, tmp_path: Path) -> None:
    given, out = ("predict", "toy", "--input", measured, "--model", model.id, "--output"), tmp_path / "out"
    assert call(*given, tmp_path / "whole") == 1
    assert call(*given, out, "--parts", 3, "--executor", "slurm", *ASKED) == 0
    run = Run(out)
    assert jobs.executor_of(run).name == ARRAY
    wait_for(lambda: jobs.state(run) not in jobs.ACTIVE, "the array")
    assert jobs.state(run) == "done", array_of(run).output(0)
    same(out, tmp_path / "whole")
    assert not (out / bulk.UNFINISHED).exists()


def test_a_cancelled_array_goes_on_with_the_parts_that_are_left(
    cluster: Cluster, model: Run, measured: Path, tmp_path: Path
) -> None:
    given, out = ("predict", "toy", "--input", measured, "--model", model.id, "--output"), tmp_path / "out"
    assert call(*given, tmp_path / "whole") == 1
    cluster.drain()
    try:
        assert call(*given, out, "--parts", 3, "--executor", "slurm", *ASKED) == 0
        run = Run(out)
        assert jobs.state(run) == "queued" and call("predict", "toy", "--output", out, "--resume") == 1  # two would do the same
        jobs.cancel(run)
        assert jobs.state(run) == "cancelled"
        assert call("predict", "toy", "--output", out, "--part", 1) == 0  # by hand
    finally:
        cluster.undrain()
    assert bulk.finished_parts(out) == {1}
    assert call("predict", "toy", "--output", out, "--resume") == 0
    assert [task.number for task in array_of(run).tasks() if task.state in jobs.ACTIVE] == [0, 2]
    wait_for(lambda: jobs.state(run) not in jobs.ACTIVE, "the array")
    assert jobs.state(run) == "done", array_of(run).output(0)
    same(out, tmp_path / "whole")


def test_a_part_that_meets_its_time_limit_goes_on_by_itself(cluster: Cluster, patient: Task, tmp_path: Path) -> None:
    made = runs.create("patient", patient.Training.parse({"model": "plain mean", "epochs": 1}).model_dump(mode="json"), "mean")
    train.fit(made)
    rows, out = tmp_path / "rows.npy", tmp_path / "out"
    np.save(rows, np.random.default_rng(1).normal(1, 0.5, (24 * SLICE, 8)).astype(np.float32))
    given = ("predict", "patient", "--input", rows, "--model", made.id, "--output")
    assert call(*given, tmp_path / "whole") == 0
    assert call(*given, out, "--parts", 1, "--executor", "slurm", *ASKED) == 0
    run = Run(out)
    wait_for(lambda: bulk.kept_of(out, 0)[1] >= 3, "three slices")
    job = str(array_of(run).about()["jobs"]["0"])
    cluster.run("scancel", "--signal=USR1", "--batch", job)  # as the cluster does it near the time limit
    wait_for(lambda: cluster.field(job, "JobState") == "PENDING", "the part to be queued again")
    kept = {path: path.stat().st_mtime_ns for path in bulk.slices_folder(out, 0).iterdir()}
    assert len(kept) >= 6 and jobs.state(run) == "queued" and not bulk.finished_parts(out)
    cluster.lift_hold(job)
    wait_for(lambda: bulk.kept_of(out, 0)[1] * 2 > len(kept) + 2, "more slices")
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    wait_for(lambda: jobs.state(run) not in jobs.ACTIVE, "the array")
    assert jobs.state(run) == "done", array_of(run).output(0)
    same(out, tmp_path / "whole")
