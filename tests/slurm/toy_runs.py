"""Runs of the toy task on the cluster of these tests, and what is waited for."""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd
import psutil

from lib import jobs, runs, train
from lib.runs import Run
from tests.conftest import wait_for
from tests.slurm.cluster import Cluster

Asked = dict[str, Any]
SLOW: dict[str, Any] = {"step_delay_s": 0.15, "epochs": 8}  # 0.6 s an epoch


def make(executor: str = "slurm", asked: Asked | None = None, name: str = "job", **settings: Any) -> Run:
    """A new run, not started."""
    config = {"model": "weighted", "n_train": 64, "n_test": 32, "epochs": 3, "threads": 1} | settings
    run = runs.create("toy", config, name, executor)
    if executor == "slurm":
        jobs.SLURM.assign(run, jobs.SLURM.chosen("", {"time_limit_min": 5, "cpus_per_task": 1} | (asked or {})))
    return run


def started(asked: Asked | None = None, **settings: Any) -> Run:
    """A new run, submitted."""
    run = make("slurm", asked, **settings)
    jobs.start(run)
    return run


def job_of(run: Run) -> str:
    """Its job number."""
    return str((run.proc() or {})["job_id"])


def trainers(run: Run) -> list[psutil.Process]:
    """The processes that train it."""
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if run.id in (p.info["cmdline"] or []) and "srun" not in p.info["cmdline"][0]]


def becomes(run: Run, state: str, seconds: float = 300) -> None:
    """Wait until its state is that."""
    wait_for(lambda: jobs.state(run) == state, f"{state} {run.folder}", seconds)


def reaches(run: Run, epoch: int) -> None:
    """Wait until so many epochs are finished."""
    wait_for(lambda: run.status().epoch >= epoch, f"epoch {epoch} {run.folder}", 300)


def quick(run: Run) -> None:
    """From its next start on the run's data come without delay."""
    about = runs.read_json(run.folder / "config.json")
    runs.write_json(run.folder / "config.json", about | {"config": about["config"] | {"step_delay_s": 0.0}})


def again(cluster: Cluster, run: Run) -> None:
    """A run that the cluster will start again is queued, with the reason, until it is."""
    job = job_of(run)
    wait_for(lambda: cluster.field(job, "JobState") == "PENDING", "the job to be queued again")
    wait_for(lambda: (place := jobs.SLURM.place(run)) is not None and place.job.reason == "BeginTime", "its two minutes")
    assert jobs.state(run) == "queued"
    quick(run)
    cluster.lift_hold(job)
    assert job_of(run) == job


@cache
def _curve(epochs: int) -> pd.DataFrame:
    whole = make("local", epochs=epochs)
    train.fit(whole)
    return whole.metrics().drop(columns="seconds")


def same_curve(run: Run, epochs: int) -> None:
    """As a run that was never interrupted, and no finished epoch was trained twice."""
    pd.testing.assert_frame_equal(run.metrics().drop(columns="seconds"), _curve(epochs))
    log = run.log()
    assert [log.count(f"epoch {epoch} ") for epoch in range(1, epochs + 1)] == [1] * epochs
