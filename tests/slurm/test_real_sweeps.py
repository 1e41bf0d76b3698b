"""A sweep whose trials are trained by the tasks of a job array: stopped, resumed, and put back into the queue on its way."""

from __future__ import annotations

from typing import Any

import pytest

from lib import jobs, runs, sweeps
from lib.sweeps import Plan, launch, space, study
from lib.sweeps.study import Trial
from lib.task import InputError, Task
from tests.conftest import wait_for
from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]


def test_tasks_of_an_array_share_the_trials_and_lose_no_finished_epoch(cluster: Cluster, toy: Task) -> None:
    settings = {"n_train": 64, "n_test": 32, "epochs": 14, "threads": 1, "step_delay_s": 0.15}
    config: Any = toy.Training.parse(settings)
    plan = Plan.parse({"vary": space.typed({"seed": "0:3"}), "sampler": "grid", "pruner": "none", "workers": 2})
    sweep = sweeps.create(toy, config, plan, "on the cluster", "slurm")
    launch.assign(sweep, jobs.SLURM.chosen("", {"time_limit_min": 5, "cpus_per_task": 1}))

    def trials() -> list[Trial]:
        return study.trials_of(study.load(sweep))

    def under_way(epochs: int) -> bool:
        found = launch.open_runs(sweep)
        return len(found) == 2 and all(run.status().state == "running" and len(run.metrics()) >= epochs for run in found)

    launch.start(sweep)
    wait_for(lambda: under_way(1), "two trials")
    assert launch.state(sweep, trials()) == "running"
    with pytest.raises(InputError, match="its state is running"):
        launch.start(sweep)
    launch.stop(sweep)
    assert launch.state(sweep, trials()) == "cancelled" and not launch.finished(trials())
    assert {jobs.state(run) for run in runs.list_runs("toy")} == {"cancelled"}

    launch.start(sweep)
    wait_for(lambda: under_way(3), "the same two trials go on")
    assert len(runs.list_runs("toy")) == 2
    run = launch.open_runs(sweep)[0]
    job = str((run.proc() or {})["job_id"])
    cluster.run("scancel", "--signal=USR1", "--batch", job)  # as the cluster does it near the time limit
    wait_for(lambda: cluster.field(job, "JobState") == "PENDING", "the task to be queued again")
    assert jobs.state(run) == "queued"
    cluster.lift_hold(job)
    wait_for(lambda: launch.state(sweep, trials()) == "done", "the rest of the trials", 240)
    assert [trial.state for trial in trials()] == ["done"] * 4 and len(runs.list_runs("toy")) == 4
    for one in runs.list_runs("toy"):
        log = one.log(1000)
        assert [log.count(f"epoch {epoch} ") for epoch in range(1, 15)] == [1] * 14, log
        assert one.about()["sweep"] == sweep.id and one.sheet() is not None
