"""Background runs: they outlive who started them, die when told to, and are never mistaken for others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import psutil
import pytest

from lib import jobs, runs, train
from lib.jobs import local
from lib.jobs.base import command, environment
from lib.runs import Run
from lib.task import InputError, Task
from tests.conftest import wait_for


@pytest.fixture
def made(toy: Task) -> Iterator[list[Run]]:
    """Runs of a test; whatever still computes at its end is killed."""
    started: list[Run] = []
    yield started
    for run in started:
        process = local.find_process(run.proc() or {})
        if process is not None and process.pid != os.getpid():
            process.kill()


def make(made: list[Run], **settings: Any) -> Run:
    config = {"model": "weighted", "n_train": 64, "n_test": 32, "epochs": 3, "threads": 1} | settings
    made.append(runs.create("toy", config, "job"))
    return made[-1]


def pid_of(run: Run) -> int:
    return int((run.proc() or {})["pid"])


def curve(run: Run) -> pd.DataFrame:
    return run.metrics().drop(columns="seconds")


def group_of(pid: int) -> list[int]:
    """Living processes of a group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            continue
    return found


@pytest.mark.slow
def test_a_job_runs_to_its_end_in_a_session_of_its_own(made: list[Run]) -> None:
    run = make(made)
    assert jobs.state(run) == "queued"
    jobs.start(run)
    assert jobs.state(run) in ("queued", "running")
    assert os.getsid(pid_of(run)) == pid_of(run) != os.getsid(0)
    wait_for(lambda: run.status().state == "done", "the run to end")
    assert run.sheet() is not None, "done means complete"
    assert jobs.state(run) == "done"
    assert "done: best epoch" in jobs.log(run)
    wait_for(lambda: not psutil.pid_exists(pid_of(run)), "the process to be gone, without a zombie")


@pytest.mark.slow
def test_kill_9_is_lost_at_once_and_resumes_with_the_same_curve(made: list[Run]) -> None:
    run, whole = make(made, step_delay_s=0.3, epochs=4), make(made, epochs=4)
    jobs.start(run)
    wait_for(lambda: run.status().epoch == 2, "two epochs")
    assert jobs.state(run) == "running"
    os.kill(pid_of(run), signal.SIGKILL)
    wait_for(lambda: jobs.state(run) == "lost", "the loss to be noticed", seconds=runs.HEARTBEAT_S)
    kept = len(run.metrics())
    assert kept >= 2
    jobs.resume(run)
    assert jobs.state(run) == "queued"
    wait_for(lambda: jobs.state(run) == "done", "the resumed run to end")
    log = run.log()
    assert all(log.count(f"epoch {epoch} ") == 1 for epoch in range(1, kept + 1))  # no finished epoch is trained twice
    train.fit(whole)
    pd.testing.assert_frame_equal(curve(run), curve(whole))


@pytest.mark.slow
def test_cancel_ends_every_process_of_the_run(made: list[Run]) -> None:
    run = make(made, step_delay_s=0.3, epochs=50, loader_workers=2)
    jobs.start(run)
    wait_for(lambda: run.status().epoch >= 1, "an epoch")
    pid = pid_of(run)
    assert len(group_of(pid)) >= 3  # the trainer and its loader workers
    jobs.cancel(run)
    assert group_of(pid) == []
    assert jobs.state(run) == run.status().state == "cancelled"
    with pytest.raises(InputError, match="its state is cancelled"):
        jobs.cancel(run)
    assert run.has_model()


@pytest.mark.slow
def test_cancel_ends_a_trainer_that_does_not_listen(made: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "GRACE_S", 0.5)
    run = make(made, step_delay_s=0.3, epochs=50)
    jobs.start(run)
    wait_for(lambda: run.status().state == "running", "the start")
    os.kill(pid_of(run), signal.SIGSTOP)
    jobs.cancel(run)
    assert group_of(pid_of(run)) == []
    assert run.status().state == "running"  # it had no time to say anything
    assert jobs.state(run) == "cancelled"


@pytest.mark.slow
def test_cancel_while_it_still_starts(made: list[Run]) -> None:
    run = make(made, step_delay_s=0.3, epochs=50)
    jobs.start(run)
    jobs.cancel(run)
    assert jobs.state(run) == "cancelled"
    assert group_of(pid_of(run)) == []
    assert run.metrics().empty


@pytest.mark.slow
def test_two_runs_at_once_do_not_disturb_each_other(made: list[Run]) -> None:
    pair = [make(made, seed=1, step_delay_s=0.05), make(made, seed=2, step_delay_s=0.05)]
    for run in pair:
        jobs.start(run)
    for run in pair:
        wait_for(lambda run=run: jobs.state(run) == "done", "both to end")
        alone = make(made, seed=run.config()["seed"])
        train.fit(alone)
        pd.testing.assert_frame_equal(curve(run), curve(alone))


@pytest.mark.slow
def test_a_job_outlives_the_process_that_started_it(made: list[Run]) -> None:
    run = make(made, step_delay_s=0.1)
    code = f"import os; from lib import jobs, runs; jobs.start(runs.find({run.id!r})); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env=environment(), cwd=runs.ROOT, check=False)
    assert jobs.state(run) in ("queued", "running")
    wait_for(lambda: jobs.state(run) == "done", "the orphan to end")


@pytest.mark.slow
def test_a_second_trainer_of_one_run_refuses_and_leaves_it_alone(made: list[Run]) -> None:
    run = make(made, step_delay_s=30)
    jobs.start(run)
    wait_for(lambda: run.status().state == "running", "the start")
    with pytest.raises(InputError, match="its state is running"):
        jobs.resume(run)
    second = subprocess.run(command(run), env=environment(), cwd=runs.ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"process {pid_of(run)} trains it already" in second.stderr
    assert jobs.state(run) == "running"
    jobs.cancel(run)


@pytest.mark.slow
def test_missing_data_is_a_failed_run_that_says_why(made: list[Run]) -> None:
    run = make(made, data_file="/nowhere/train.h5")
    jobs.start(run)
    wait_for(lambda: jobs.state(run) == "failed", "the failure")
    assert run.status().reason == "/nowhere/train.h5: there is no such file. Download it first."


# --- states, from files alone ---------------------------------------------------------------------------------------


def claimed(run: Run, **changes: Any) -> None:
    """As if this test were the run's trainer."""
    values = {"executor": "local", "submitted_at": time.time(), **local.identity(os.getpid())}
    runs.write_json(run.folder / "proc.json", values | changes)


def test_state_follows_status_process_and_heartbeat(made: list[Run]) -> None:
    run = make(made)
    claimed(run)
    assert jobs.state(run) == "queued"
    run.set_status(state="running", heartbeat_at=time.time())
    assert jobs.state(run) == "running"
    run.set_status(heartbeat_at=time.time() - 600)  # of the process before
    assert jobs.state(run) == "queued"
    run.set_status(state="done")
    assert jobs.state(run) == "done"


def test_a_process_number_used_again_is_not_our_process(made: list[Run]) -> None:
    run = make(made)
    run.set_status(state="running", heartbeat_at=time.time())
    claimed(run, created=time.time() - 10_000)
    assert jobs.state(run) == "lost"


def test_cancelling_a_lost_run_spares_the_new_owner_of_its_number(made: list[Run]) -> None:
    run = make(made)
    run.set_status(state="running")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        claimed(run, pid=bystander.pid, created=time.time() - 10_000, group=0)
        jobs.cancel(run)
        assert jobs.state(run) == "cancelled"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_run_without_process_is_queued_at_first_and_lost_later(made: list[Run]) -> None:
    run = make(made)
    assert jobs.state(run) == "queued"
    run.set_status(created_at=time.time() - 3600)
    assert jobs.state(run) == "lost"


def test_a_run_of_another_machine_is_judged_by_its_heartbeat(made: list[Run]) -> None:
    run = make(made)
    claimed(run, host="another-" + socket.gethostname(), submitted_at=time.time() - 3600)
    run.set_status(state="running", heartbeat_at=time.time())
    assert jobs.state(run) == "running"
    with pytest.raises(InputError, match="it runs on another-"):
        jobs.cancel(run)
    run.set_status(heartbeat_at=time.time() - runs.STALE_S - 1)
    assert jobs.state(run) == "lost"


def test_done_runs_are_neither_resumed_nor_cancelled(made: list[Run]) -> None:
    run = make(made)
    run.set_status(state="done")
    for action in (jobs.resume, jobs.cancel):
        with pytest.raises(InputError, match="its state is done"):
            action(run)


def test_an_unknown_or_unusable_executor_is_named(made: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(made)
    runs.write_json(run.folder / "config.json", {"executor": "mainframe", "config": {}})
    with pytest.raises(InputError, match="Executors: local"):
        jobs.start(run)
    monkeypatch.setattr(jobs.executors()["local"], "available", lambda: (False, "it is switched off"))
    with pytest.raises(InputError, match="it is switched off"):
        jobs.start(make(made))


def test_a_job_that_cannot_be_started_says_why(made: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(local.subprocess, "Popen", no_memory)
    with pytest.raises(InputError, match="could not be started"):
        jobs.start(make(made))


def test_claim_notes_this_process(made: list[Run]) -> None:
    run = make(made)
    jobs.claim(run)
    jobs.claim(run)
    assert pid_of(run) == os.getpid()
    assert (run.proc() or {})["host"] == socket.gethostname()
