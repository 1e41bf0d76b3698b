"""Several processes under srun train one run: as one process would, with one writer, cancelled and queued again as one."""

from __future__ import annotations

import pandas as pd
import pytest
from safetensors.numpy import load_file

from lib import jobs, train
from tests.conftest import wait_for
from tests.slurm.cluster import Cluster
from tests.slurm.toy_runs import SLOW, again, becomes, job_of, make, reaches, started, trainers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]
TWO = {"tasks": 2}
SAME = {"dropout": 0.0, "n_train": 65}  # the last batch has a row for one of them only


def test_two_tasks_learn_what_one_process_learns(cluster: Cluster) -> None:
    run = started(TWO, **SAME, epochs=4)
    becomes(run, "done")
    alone = make("local", **SAME, epochs=4)
    train.fit(alone)
    pd.testing.assert_frame_equal(run.metrics().drop(columns="seconds"), alone.metrics().drop(columns="seconds"), rtol=1e-4)
    ours, theirs = (load_file(one.folder / "model.safetensors") for one in (run, alone))
    assert all(abs(ours[name] - theirs[name]).max() < 1e-4 for name in theirs)
    assert run.status().steps_per_epoch == alone.status().steps_per_epoch == 5
    assert [run.log().count(f"epoch {epoch} ") for epoch in range(1, 5)] == [1] * 4
    assert len(list(run.folder.glob("events.out.tfevents.*"))) == 1 and run.sheet() is not None
    assert (run.folder / f"slurm-{job_of(run)}.err").read_text() == ""


def test_two_tasks_stop_at_the_time_limit_and_go_on(cluster: Cluster) -> None:
    run = started(TWO, **SLOW | SAME)
    reaches(run, 2)
    assert len(trainers(run)) == 2
    cluster.run("scancel", "--signal=USR1", job_of(run))  # as the cluster does it near the limit
    wait_for(lambda: run.status().state == "queued", "the announcement of the limit")
    kept = run.status().epoch
    again(cluster, run)
    becomes(run, "done")
    assert [run.log().count(f"epoch {epoch} ") for epoch in range(1, 9)] == [1] * 8 and 2 <= kept < 8
    whole = make("local", **SLOW | SAME | {"step_delay_s": 0.0})
    train.fit(whole)
    pd.testing.assert_frame_equal(run.metrics().drop(columns="seconds"), whole.metrics().drop(columns="seconds"), rtol=1e-4)


def test_when_one_of_two_dies_the_run_fails_and_resumes_and_both_are_cancelled(cluster: Cluster) -> None:
    run = started(TWO, **SLOW | {"epochs": 500})
    reaches(run, 1)
    trainers(run)[-1].kill()
    becomes(run, "failed")
    wait_for(lambda: not trainers(run), "the other one to end")
    jobs.resume(run)
    reaches(run, run.status().epoch + 1)
    both = trainers(run)
    jobs.cancel(run)
    assert jobs.state(run) == run.status().state == "cancelled"
    assert len(both) == 2 and not any(process.is_running() for process in both)
