"""Jobs: start, watch, cancel and resume runs, wherever they compute. Never imports torch."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Literal

import psutil

from lib.jobs.base import Executor, mark_cancelled, write_proc
from lib.jobs.local import LocalExecutor, find_process, identity
from lib.runs import Run
from lib.task import InputError

State = Literal["queued", "running", "done", "failed", "cancelled", "lost"]
ACTIVE: tuple[State, ...] = ("queued", "running")
START_S = 10.0  # a new run without a process is lost only after this

_EXECUTORS: dict[str, Executor] = {executor.name: executor for executor in (LocalExecutor(),)}


def executors() -> Mapping[str, Executor]:
    """All executors by name, usable here or not."""
    return _EXECUTORS


def executor_of(run: Run) -> Executor:
    """The executor of a run: the one its process was started with, else the one it was made for. Raises InputError."""
    name = str((run.proc() or {}).get("executor") or run.about().get("executor") or "local")
    if name not in _EXECUTORS:
        raise InputError(f"run {run.id}", f"there is no executor {name!r}", f"Executors: {', '.join(_EXECUTORS)}.")
    return _EXECUTORS[name]


def state(run: Run) -> State:
    """What the run says of itself, and whether its process lives: `lost` is a run that never said that it ended."""
    status, proc = run.status(), run.proc()
    if status.finished:
        return status.state
    if proc is not None and executor_of(run).alive(run):
        renewed = (status.heartbeat_at or 0.0) >= float(proc.get("submitted_at", 0.0)) - START_S
        return "running" if status.state == "running" and renewed else "queued"
    status = run.status()  # it may have ended between the two looks
    if status.finished:
        return status.state
    if proc is None:
        return "queued" if time.time() - status.created_at < START_S else "lost"
    return "cancelled" if "cancelled_at" in proc else "lost"


def start(run: Run) -> None:
    """Submit a new run to its executor. Raises InputError where that is not usable here."""
    _submit(run, resume=False)


def resume(run: Run) -> None:
    """Train on from `last.ckpt`, or from the start where nothing was saved. Raises InputError for a run that is not open."""
    now = state(run)
    if now in ACTIVE or now == "done":
        raise InputError(f"run {run.id}", f"its state is {now}", "Only a failed, cancelled or lost run can be resumed.")
    run.set_status(state="queued", reason="", finished_at=None, eta_s=None)  # no trainer lives, so this is ours to write
    _submit(run, resume=True)


def _submit(run: Run, resume: bool) -> None:
    executor = executor_of(run)
    usable, why = executor.available()
    if not usable:
        raise InputError(f"executor {executor.name}", why, "Choose another executor.")
    executor.submit(run, resume=resume)


def cancel(run: Run) -> None:
    """Stop a run and everything it started; returns once it is gone. Raises InputError where it has ended already."""
    now = state(run)
    if now not in (*ACTIVE, "lost"):
        raise InputError(f"run {run.id}", f"its state is {now}", "Only a queued, running or lost run can be cancelled.")
    if run.proc() is None:
        mark_cancelled(run)
    else:
        executor_of(run).cancel(run)


def claim(run: Run) -> None:
    """Called by a trainer before it begins: note this process as the run's own.

    Raises InputError where another living process trains it, so that two starts of one run never write to one folder.
    """
    proc = run.proc() or {}
    other = find_process(proc) if proc.get("executor", "local") == "local" else None
    family = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    if other is not None and other.pid not in family:
        raise InputError(f"run {run.id}", f"process {other.pid} trains it already", "Wait for it, or cancel it first.")
    if other is None:
        write_proc(run, "local", **identity(os.getpid()))


def log(run: Run, lines: int = 200) -> str:
    """The last lines of the run's log."""
    return run.log(lines)
