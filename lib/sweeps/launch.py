"""Sweeps as jobs: start, watch, stop and resume those who train their trials, here or on a cluster.

On this machine one detached process trains several runs side by side. On a cluster a job array trains one run in each task.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil

from lib import jobs, runs
from lib.disk import read_json, write_json
from lib.jobs.array import Array
from lib.jobs.commands import Unreachable
from lib.jobs.local import detach, find_process, identity
from lib.jobs.profiles import ClusterProfile
from lib.jobs.script import array_script
from lib.jobs.slurm import SETTINGS, own_job
from lib.runs import Run, checkpoints_dir
from lib.sweeps import Sweep, sweeps_dir
from lib.sweeps.study import OWNER, RUN, Trial, load, trials_of
from lib.task import InputError, Phrase

State = Literal["queued", "running", "done", "cancelled", "lost"]
STOP_S = 30.0  # for its trainers to say goodbye
SLURM = "slurm"


def own_identity(sweep: Sweep) -> dict[str, Any]:
    """What tells this process from every other that works on the sweep."""
    job = own_job() if sweep.executor == SLURM else ""
    return {"job": job, "taken_at": time.time()} if job else identity(os.getpid())


def lives(sweep: Sweep, trial: Mapping[str, Any]) -> bool:
    """Whether the process that looks after a trial exists, from the trial's attributes; never of this very cluster job."""
    owner, run = trial.get(OWNER, {}), Run(checkpoints_dir() / sweep.task / str(trial.get(RUN)))
    if not owner or owner.get("job", "-") == own_job():
        return False
    if "job" in owner:
        return _job_lives(str(owner["job"]), float(owner["taken_at"])) and not _fell_silent(run, str(owner["job"]))
    if owner.get("host") == socket.gethostname():
        return find_process(owner) is not None
    return jobs.state(run) in jobs.ACTIVE


def _job_lives(job: str, taken_at: float) -> bool:
    """Whether the cluster still has a job that took a trial. Its run tells that only once the job has claimed it."""
    array, _, task = job.partition("_")
    queue = jobs.SLURM.queue
    try:
        found = queue.task(array, int(task), taken_at) if task else queue.job(job, taken_at)
    except Unreachable:
        return True  # nobody knows; a controller that restarts loses no job
    return found is not None and not found.ended


def _fell_silent(run: Run, job: str) -> bool:
    """Whether the trainer that a job started is dead, although the cluster lists the job."""
    return str((run.proc() or {}).get("job_id", "")) == job and jobs.state(run) == "lost"


def assign(sweep: Sweep, settings: ClusterProfile) -> None:
    """Note what its jobs on a cluster ask for."""
    write_json(sweep.folder / SETTINGS, settings.model_dump())


def cluster_settings(sweep: Sweep) -> ClusterProfile:
    """What its jobs on a cluster ask for. Raises InputError."""
    return ClusterProfile.parse(read_json(sweep.folder / SETTINGS) or {}, Phrase("sweep {sweep}", sweep=sweep.id))


# --- state ------------------------------------------------------------------------------------------------------------
def state(sweep: Sweep, trials: list[Trial]) -> State:
    """How the sweep stands: `lost` is one that has trials left and nobody who trains them, and was not stopped."""
    if (working := _working(sweep)) is not None:
        return working
    if finished(trials) >= sweep.plan().trials:
        return "done"
    if "cancelled_at" in sweep.proc():
        return "cancelled"
    new = not sweep.proc() and time.time() - float(sweep.about().get("created_at", 0)) < jobs.START_S
    return "queued" if new else "lost"


def finished(trials: list[Trial]) -> int:
    """How many trials have ended, however they did."""
    return sum(trial.state in ("done", "pruned", "failed") for trial in trials)


def _working(sweep: Sweep) -> State | None:
    """Whether somebody works on it or waits for a node; None where nobody does."""
    if sweep.executor == SLURM and (array := _array(sweep)) is not None:
        states = {task.state for task in array.tasks()}
        return "running" if "running" in states else "queued" if "queued" in states else None
    proc = sweep.proc()
    if proc.get("host", socket.gethostname()) != socket.gethostname():
        return "running" if "cancelled_at" not in proc and _beats(sweep) else None
    return "running" if find_process(proc) is not None else None


def _beats(sweep: Sweep) -> bool:
    """Whether one of its runs is alive, for a sweep that another machine works on."""
    return any(jobs.state(run) in jobs.ACTIVE for run in open_runs(sweep))


def _array(sweep: Sweep) -> Array | None:
    """The job array that was submitted last."""
    folders = sorted(sweep.folder.glob("array-*"), key=lambda path: int(path.name.partition("-")[2]))
    return Array(folders[-1]) if folders else None


def waits_for(sweep: Sweep) -> str:
    """Why none of its tasks has a node yet, in Slurm's word or a sentence; empty where that is not so."""
    array = _array(sweep) if sweep.executor == SLURM else None
    tasks = array.tasks() if array is not None else ()
    reasons = [task.reason for task in tasks if task.state == "queued" and task.reason]
    return reasons[0] if reasons and not any(task.state == "running" for task in tasks) else ""


def last_words(sweep: Sweep, lines: int) -> str:
    """The end of what those who train its trials printed."""
    array = _array(sweep) if sweep.executor == SLURM else None
    return array.last_words(lines) if array is not None else sweep.log(lines)


def open_runs(sweep: Sweep) -> list[Run]:
    """Runs of trials that have not ended."""
    named = [trial.run_id for trial in trials_of(load(sweep)) if trial.state == "running" and trial.run_id]
    return [Run(checkpoints_dir() / sweep.task / run_id) for run_id in named]


# --- start and stop ---------------------------------------------------------------------------------------------------
def script(sweep: Sweep, settings: ClusterProfile) -> str:
    """The batch script that `start` would submit next with these settings."""
    return _script(_next_array(sweep).folder, sweep.task, sweep.id, sweep.name, sweep.plan().workers, settings)


def preview(task: str, name: str, workers: int, settings: Mapping[str, Any]) -> str:
    """The batch script of a new sweep of that name; `SWEEP` stands for its id. Raises InputError."""
    folder, asked = sweeps_dir() / task / "SWEEP", ClusterProfile.parse(settings, "cluster profile")
    return _script(folder / "array-1", task, folder.name, name or folder.name, workers, asked)


def _script(folder: Path, task: str, sweep_id: str, name: str, workers: int, settings: ClusterProfile) -> str:
    return array_script(folder, f"{task}-{name}", _command(task, sweep_id), range(workers), settings)


def _command(task: str, sweep_id: str) -> list[str]:
    """What each of its processes does."""
    return ["sweep", task, "--work", sweep_id]


def start(sweep: Sweep) -> None:
    """Train its trials in the background, or those that are left. Raises InputError where it is under way, done or refused."""
    _check_open(sweep)
    if sweep.executor == SLURM:
        _submit(sweep)
    else:
        _detach(sweep)


def _check_open(sweep: Sweep) -> None:
    now = state(sweep, trials_of(load(sweep)))
    if now in ("running", "done") or (now == "queued" and sweep.proc()):
        problem = Phrase("its state is {state}", state=now)
        raise InputError(Phrase("sweep {sweep}", sweep=sweep.id), problem, "Only a stopped or lost sweep can be resumed.")


def _submit(sweep: Sweep) -> None:
    """As a job array with a task for each worker."""
    array, command = _next_array(sweep), _command(sweep.task, sweep.id)
    try:
        array.submit(f"{sweep.task}-{sweep.name}", command, sweep.plan().workers, cluster_settings(sweep))
    except InputError:
        shutil.rmtree(array.folder, ignore_errors=True)
        raise
    write_json(sweep.folder / "proc.json", {"submitted_at": time.time()})


def _next_array(sweep: Sweep) -> Array:
    """The job array that is submitted next."""
    before = _array(sweep)
    return Array(sweep.folder / f"array-{int(before.folder.name.partition('-')[2]) + 1 if before else 1}")


def _detach(sweep: Sweep) -> None:
    """As a process of its own on this machine."""
    command = [sys.executable, "-m", "lib", *_command(sweep.task, sweep.id)]
    detach(
        command, sweep.folder / "log.txt",
        lambda pid: write_json(sweep.folder / "proc.json", identity(pid) | {"submitted_at": time.time()}),
        Phrase("sweep {sweep}", sweep=sweep.id),
    )  # fmt: skip


def work_here(sweep: Sweep) -> None:
    """Note this process as the one that works on the sweep. Raises InputError where another one does."""
    _check_open(sweep)
    write_json(sweep.folder / "proc.json", identity(os.getpid()) | {"submitted_at": time.time()})


def stop(sweep: Sweep) -> None:
    """End its trainers; returns once they are gone. Trials that ended stay, and resuming trains the others. Raises InputError."""
    proc = sweep.proc()
    if sweep.executor != SLURM and proc.get("host", socket.gethostname()) != socket.gethostname():
        problem = Phrase("it runs on {host}", host=proc["host"])
        raise InputError(Phrase("sweep {sweep}", sweep=sweep.id), problem, "Stop it there.")
    write_json(sweep.folder / "proc.json", proc | {"cancelled_at": time.time()})
    if sweep.executor == SLURM and (array := _array(sweep)) is not None:
        array.cancel()
        return
    worker = find_process(proc)
    if worker is not None:
        worker.send_signal(signal.SIGTERM)
        _gone, left = psutil.wait_procs([worker], timeout=STOP_S)
        for process in left:
            process.kill()
    for run in open_runs(sweep):  # where their worker was killed, they train on
        if jobs.state(run) in jobs.ACTIVE:
            jobs.cancel(run)


# --- what comes of it -------------------------------------------------------------------------------------------------
def best_of(sweep: Sweep, trials: list[Trial]) -> Trial | None:
    """The trial with the best value among those that were trained to their end; None before there is one."""
    ranked = [trial for trial in trials if trial.state == "done" and trial.value is not None]
    pick: Callable[..., Trial] = min if sweep.metric.goal == "min" else max
    return pick(ranked, key=lambda trial: trial.value) if ranked else None


def run_of(sweep: Sweep, trial: Trial) -> Run:
    """The run of a trial."""
    return Run(checkpoints_dir() / sweep.task / trial.run_id)


def longer(run: Run, epochs: int, name: str = "") -> Run:
    """Start a new run with the settings of a finished one and more epochs, which goes on from the end of its training.

    Where it has no checkpoint (a model that needs no gradient), it starts anew. Early stopping is switched off where it had
    ended the run. Raises InputError where there are not more epochs than before.
    """
    status, config = run.status(), run.config()
    if epochs <= status.epoch:
        problem = Phrase("{epochs} epochs are not more than it has ({done})", epochs=epochs, done=status.epoch)
        raise InputError(Phrase("run {run}", run=run.id), problem, "Give more epochs.")
    early = status.epoch < int(config.get("epochs", 0))
    config |= {"epochs": epochs} | ({"patience_epochs": 0} if early else {})
    executor = str(run.about().get("executor") or "local")
    new = runs.create(run.task, config, name or f"{run.name}, {epochs}", executor, about={"continues": run.id})
    if (run.folder / SETTINGS).exists():
        shutil.copy2(run.folder / SETTINGS, new.folder / SETTINGS)
    kept = ("last.ckpt", "model.safetensors", "metrics.csv")
    if not all((run.folder / name).exists() for name in kept):
        jobs.start(new)
        return new
    for file in kept:
        _copy(run.folder / file, new.folder / file)
    new.set_status(
        state="cancelled", **status.model_dump(include={"epoch", "metric", "unit", "goal", "best_value", "best_epoch"})
    )
    jobs.resume(new)
    return new


def _copy(source: Path, target: Path) -> None:
    """A copy that is there whole or not at all."""
    draft = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, draft)
    draft.replace(target)
