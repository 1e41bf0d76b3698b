"""Runs on a real Slurm: the same folder, states and buttons as a local run, whatever the cluster does to them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from lib import jobs, runs
from lib.jobs.base import environment
from lib.task import InputError, Task
from tests.conftest import wait_for
from tests.slurm.cluster import Cluster
from tests.slurm.toy_runs import SLOW, again, becomes, job_of, make, quick, reaches, same_curve, started, trainers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]


def test_a_run_trains_to_its_end_and_keeps_what_the_cluster_was_told(cluster: Cluster) -> None:
    run = started({"extra": "--comment=mine", "prologue": "kill -USR1 $$"})  # a shell would die of an early announcement
    assert jobs.state(run) in ("queued", "running")
    becomes(run, "done")
    assert run.sheet() is not None and run.proc()["cluster"] == "bench"
    assert "#SBATCH --comment=mine" in (run.folder / "batch.sh").read_text()
    assert (run.folder / f"slurm-{job_of(run)}.err").read_text() == ""


def test_a_run_after_another_waits_in_the_queue_not_on_a_node(cluster: Cluster) -> None:
    first = started(**SLOW | {"epochs": 2})
    second = runs.create("toy", first.config(), "second", "slurm", after=first.id)
    jobs.SLURM.assign(second, jobs.SLURM.settings(first))
    jobs.start(second)
    wait_for(lambda: (place := jobs.SLURM.place(second)) is not None and place.job.reason == "Dependency", "the dependency")
    assert jobs.state(second) == "queued"
    becomes(first, "done")
    becomes(second, "done")


def test_a_waiting_run_is_cancelled_and_its_script_submitted_by_hand(cluster: Cluster) -> None:
    cluster.drain()
    try:
        run = started()
        wait_for(lambda: (place := jobs.SLURM.place(run)) is not None and place.job.state == "PENDING", "the queue")
        assert jobs.state(run) == "queued"
        jobs.cancel(run)
        assert jobs.state(run) == "cancelled"
        assert cluster.run("squeue", "-h") == ""
    finally:
        cluster.undrain()
    job = cluster.run("sbatch", "--parsable", str(run.folder / "batch.sh")).strip()
    wait_for(lambda: run.status().state == "done", "the run to end")
    assert job_of(run) == job


def test_cancel_a_computing_run_leaves_no_process(cluster: Cluster) -> None:
    run = started(**SLOW | {"epochs": 500})
    reaches(run, 1)
    assert jobs.state(run) == "running"
    place = jobs.SLURM.place(run)
    assert place is not None and (place.job.node, place.job.limit_s) == (cluster.node, 300)
    (process,) = trainers(run)
    jobs.cancel(run)
    assert not process.is_running()
    assert jobs.state(run) == run.status().state == "cancelled" and run.has_model()
    with pytest.raises(InputError, match="its state is cancelled"):
        jobs.cancel(run)


def test_a_wrong_partition_is_told_in_slurms_words_with_the_right_ones(cluster: Cluster) -> None:
    run = make(asked={"partition": "nope"})
    with pytest.raises(InputError, match=r"Invalid partition name specified.* Partitions: main .*, high "):
        jobs.start(run)
    assert runs.list_runs("toy") == [] and cluster.run("squeue", "-h") == ""


def test_the_cluster_offers_its_partitions(cluster: Cluster) -> None:
    offers = jobs.SLURM.offers()
    assert offers.choices() == {"partition": ["", "main", "high", "gone"]}
    assert [p.up for p in offers.partitions] == [True, True, False] and offers.partitions[0].limit_s == 3600


def test_a_job_that_can_never_start_is_queued_and_says_why(cluster: Cluster) -> None:
    run = started({"cpus_per_task": 999})
    wait_for(lambda: (place := jobs.SLURM.place(run)) is not None and place.job.reason == "PartitionConfig", "the reason")
    assert jobs.state(run) == "queued"


def test_the_time_limit_costs_no_epoch_and_leaves_the_curve_as_it_was(cluster: Cluster) -> None:
    run = started({"signal_s": 90}, **SLOW | {"epochs": 100})
    reaches(run, 1)
    elapsed_s = jobs.SLURM.place(run).job.elapsed_s or 0.0  # Slurm counts limits in minutes, and looks twice a minute
    cluster.run("scontrol", "update", f"JobId={job_of(run)}", f"TimeLimit={math.ceil(elapsed_s / 60) + 1}")
    wait_for(lambda: run.status().state == "queued" and run.status().reason, "the announcement of the limit")
    kept = run.status().epoch
    assert kept >= 1 and len(run.metrics()) == kept and "time limit" in run.status().reason
    cluster.run("scontrol", "update", f"JobId={job_of(run)}", "TimeLimit=20")
    again(cluster, run)
    becomes(run, "done")
    assert cluster.field(job_of(run), "Restarts") == "1"
    same_curve(run, 100)


def test_preemption_by_a_higher_partition_costs_one_epoch_at_most(cluster: Cluster) -> None:
    run = started(**SLOW)
    reaches(run, 2)
    cluster.run("sbatch", "--partition=high", f"--cpus-per-task={os.cpu_count()}", "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: run.status().state == "queued", "preemption")
    assert "by the cluster" in run.status().reason and jobs.state(run) == "queued"
    again(cluster, run)
    becomes(run, "done")
    same_curve(run, 8)


def test_an_epoch_longer_than_the_time_limit_is_not_tried_for_ever(cluster: Cluster) -> None:
    run = started({"signal_s": 2}, step_delay_s=30)
    wait_for(lambda: run.status().state == "running", "the start")
    cluster.run("scancel", "--signal=USR1", "--batch", job_of(run))  # as the cluster does it near the limit
    becomes(run, "failed")
    assert "Not one epoch was finished within the time limit" in run.status().reason


def test_a_held_job_is_no_failure(cluster: Cluster) -> None:
    cluster.drain()
    try:
        run = started()
        cluster.run("scontrol", "hold", job_of(run))
        wait_for(lambda: (place := jobs.SLURM.place(run)) is not None and "Held" in place.job.reason, "the hold")
        assert jobs.state(run) == "queued"
    finally:
        cluster.undrain()


def test_kill_9_of_the_trainer_fails_with_the_reason_and_resumes_with_the_same_curve(cluster: Cluster) -> None:
    run = started(**SLOW)
    reaches(run, 2)
    trainers(run)[0].kill()
    becomes(run, "failed")
    first, end = job_of(run), jobs.end(run)
    assert "was killed" in end.reason and first in end.reason
    quick(run)
    jobs.resume(run)
    assert jobs.state(run) == "queued" and job_of(run) != first
    becomes(run, "done")
    same_curve(run, 8)


def test_a_job_that_slurm_lists_but_nobody_trains_is_lost_and_resumes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(**SLOW)
    reaches(run, 2)
    (process,) = trainers(run)
    process.parent().kill()  # slurmstepd: nobody is left to tell the controller
    process.kill()
    monkeypatch.setattr("lib.jobs.slurm.SILENT_S", 4.0)
    becomes(run, "lost")
    lost = job_of(run)
    assert f"lists job {lost} as RUNNING" in jobs.end(run).reason
    quick(run)
    jobs.resume(run)
    monkeypatch.setattr("lib.jobs.slurm.SILENT_S", 120.0)
    assert cluster.field(lost, "JobState") == "CANCELLED", "two trainers must never write to one folder"
    becomes(run, "done")
    same_curve(run, 8)


def test_scancel_by_hand_is_a_cancelled_run(cluster: Cluster) -> None:
    run = started(**SLOW)
    reaches(run, 1)
    cluster.run("scancel", job_of(run))
    becomes(run, "cancelled")
    assert "not from here" in jobs.end(run).reason


def test_a_dead_controller_loses_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(**SLOW | {"epochs": 40})
    reaches(run, 1)
    assert jobs.state(run) == "running"
    monkeypatch.setattr("lib.jobs.queue.RETRY_S", 0.5)
    cluster.kill_controller()
    try:
        wait_for(lambda: (place := jobs.SLURM.place(run)) is not None and place.trouble, "the silence to be noticed")
        assert jobs.state(run) == "running"
        assert "does not answer" in jobs.SLURM.place(run).trouble
        reaches(run, run.status().epoch + 1)
    finally:
        cluster.start_controller()
    becomes(run, "done")


def test_a_drained_node_finishes_what_it_has_and_starts_nothing(cluster: Cluster) -> None:
    run = started(**SLOW | {"epochs": 4})
    reaches(run, 1)
    cluster.drain()
    try:
        later = started()
        becomes(run, "done")
        assert jobs.state(later) == "queued"
    finally:
        cluster.undrain()
    becomes(later, "done")


COUNTING = """
import os, sys, time
from lib import jobs, runs
from lib.jobs import queue
calls = []
plain = queue.squeue
queue.squeue = lambda ids: calls.append(len(ids)) or plain(ids)
until = time.monotonic() + 7
while time.monotonic() < until:
    states = [jobs.state(run) for run in runs.list_runs("toy")]
    time.sleep(0.1)
print(len(calls), ",".join(states))
"""


def test_two_dashboards_ask_seldom_and_say_the_same(cluster: Cluster) -> None:
    cluster.drain()
    try:
        made = [started() for _ in range(3)]
        looks = [
            subprocess.Popen(
                [sys.executable, "-c", COUNTING], env=environment(), cwd=runs.ROOT, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        told = [look.communicate(timeout=180)[0].split() for look in looks]
        assert [states for _, states in told] == [",".join(["queued"] * len(made))] * 2
        assert all(int(calls) <= 3 for calls, _ in told), "seventy looks, one question every five seconds"
    finally:
        cluster.undrain()


def test_two_hundred_runs_take_one_question(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib.jobs import queue

    monkeypatch.setattr(queue, "POLL_S", 60.0)
    cluster.drain()
    try:
        ids = [cluster.run("sbatch", "--parsable", "--output=/dev/null", "--wrap=true").strip() for _ in range(20)]
        for number in range(200):
            run = make()
            job = ids[number] if number < len(ids) else str(10_000 + number)
            values = {"executor": "slurm", "submitted_at": time.time() - 60, "job_id": job, "cluster": "bench"}
            runs.write_json(run.folder / "proc.json", values)
        asked: list[list[str]] = []
        plain: Callable[[list[str]], str] = queue.squeue
        monkeypatch.setattr(queue, "squeue", lambda ids: asked.append(ids) or plain(ids))
        states = [jobs.state(run) for run in runs.list_runs("toy")]
        assert len(asked) == 1 and len(asked[0]) == 200
        assert sorted(states) == ["lost"] * 180 + ["queued"] * 20
    finally:
        cluster.undrain()


def test_the_command_line_submits_and_cancels(cluster: Cluster, toy: Task) -> None:
    words = [sys.executable, "-m", "lib", "train", "toy", "--executor", "slurm", "--set-cluster", "time_limit_min=3"]

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, *more], env=environment(), cwd=runs.ROOT, capture_output=True, text=True, check=False, timeout=180
        )

    done = call("cpus_per_task=1", "--set", "step_delay_s=1", "epochs=500")
    assert done.returncode == 0, done.stderr
    run = runs.find(done.stdout.strip())
    assert jobs.SLURM.settings(run).time_limit_min == 3
    wait_for(lambda: jobs.state(run) == "running", "the start")
    second = subprocess.run(
        [sys.executable, "-m", "lib", "train", "toy", "--run", run.id, "--resume"],
        env=environment(), cwd=runs.ROOT, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert second.returncode == 1 and f"job {job_of(run)} trains it already" in second.stderr
    jobs.cancel(run)
    assert call("partition=nope").returncode == 1
    assert "memory_gb" in call("memroy_gb=3").stderr
    assert [found.id for found in runs.list_runs("toy")] == [run.id]
