"""Jobs: start, watch, cancel and resume runs, wherever they compute. Never imports torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

from lib.jobs.base import End, Executor, mark_cancelled
from lib.jobs.bulk import ArrayExecutor
from lib.jobs.local import LocalExecutor
from lib.jobs.slurm import SlurmExecutor
from lib.runs import Run, delete
from lib.task import InputError, Phrase

State = Literal["queued", "running", "done", "failed", "cancelled", "lost"]
ACTIVE: tuple[State, ...] = ("queued", "running")
START_S = 10.0  # a new run without a process is lost only after this

SLURM = SlurmExecutor()
_EXECUTORS: dict[str, Executor] = {executor.name: executor for executor in (LocalExecutor(), SLURM)}
_ALL: dict[str, Executor] = {**_EXECUTORS, ArrayExecutor.name: ArrayExecutor()}  # nobody chooses an array for a training


def executors() -> Mapping[str, Executor]:
    """Where a training can compute, by name, usable here or not."""
    return _EXECUTORS


def executor_of(run: Run) -> Executor:
    """The executor of a run: the one its process was started with, else the one it was made for. Raises InputError."""
    return _named(str((run.proc() or {}).get("executor") or run.about().get("executor") or "local"))


def _named(name: str) -> Executor:
    if name not in _ALL:
        raise InputError(
            Phrase("executor {name}", name=name),
            Phrase("there is no executor {name!r}", name=name),
            Phrase("Executors: {executors}.", executors=", ".join(_EXECUTORS)),
        )
    return _ALL[name]


def state(run: Run) -> State:
    """What the run says of itself, and whether its process lives: `lost` is a run that never said that it ended."""
    status = run.status()
    if status.finished:
        return status.state
    proc = run.proc()
    if proc is not None and (executor := executor_of(run)).alive(run):
        renewed = (status.heartbeat_at or 0.0) >= float(proc.get("submitted_at", 0.0)) - START_S
        return "running" if status.state == "running" and renewed and not executor.waiting(run) else "queued"
    status = run.status()  # it may have ended between the two looks
    if status.finished:
        return status.state
    if proc is None:
        return "queued" if time.time() - status.created_at < START_S else "lost"
    return "cancelled" if asked_to_stop(run) else end(run).state


def start(run: Run, keep: bool = False) -> None:
    """Submit a new run to its executor. Raises InputError where that refuses it; the run is in the trash then, unless `keep`."""
    try:
        _submit(run, resume=False)
    except InputError:
        if not keep:
            delete(run)  # nothing was trained, and its settings are still in the form or the command that made it
        raise


def resume(run: Run) -> None:
    """Train on from `last.ckpt`, or from the start where nothing was saved. Raises InputError for a run that is not open."""
    now = state(run)
    if now in ACTIVE or now == "done":
        raise InputError(
            Phrase("run {run}", run=run.id),
            Phrase("its state is {state}", state=now),
            "Only a failed, cancelled or lost run can be resumed.",
        )
    before = run.status().model_dump()
    run.set_status(state="queued", reason="", finished_at=None, eta_s=None)  # no trainer lives, so this is ours to write
    try:
        _submit(run, resume=True)
    except InputError:
        run.set_status(**before)
        raise


def _submit(run: Run, resume: bool) -> None:
    """To the executor that it was made for, even if it was once started by hand elsewhere."""
    executor = _named(str(run.about().get("executor") or "local"))
    usable, why = executor.available()
    if not usable:
        raise InputError(Phrase("executor {name}", name=executor.name), why, "Choose another executor.")
    executor.submit(run, resume=resume)


def cancel(run: Run) -> None:
    """Stop a run and everything it started; returns once it is gone. Raises InputError where it has ended already."""
    now = state(run)
    if now not in (*ACTIVE, "lost"):
        raise InputError(
            Phrase("run {run}", run=run.id),
            Phrase("its state is {state}", state=now),
            "Only a queued, running or lost run can be cancelled.",
        )
    if run.proc() is None:
        mark_cancelled(run)
    else:
        executor_of(run).cancel(run)


def claim(run: Run) -> None:
    """Called by a trainer before it begins: note this process as the run's own.

    Raises InputError where another living process trains it, so that two starts of one run never write to one folder.
    """
    if not executor_of(run).claim(run):  # started by hand, outside of where the run was made for
        _EXECUTORS["local"].claim(run)


def end(run: Run) -> End:
    """What became of a run that is not alive and did not end by itself, with the reason as far as its executor knows it."""
    return executor_of(run).end(run)


def notice_s(run: Run) -> float | None:
    """Called by a trainer: seconds between a cluster's warning and its end; None where nobody but its user stops it."""
    return None if asked_to_stop(run) else executor_of(run).notice_s(run)


def asked_to_stop(run: Run) -> bool:
    """Whether its user cancelled the run, so that the signal that ends it comes from there."""
    return "cancelled_at" in (run.proc() or {})


def queue_again(run: Run) -> None:
    """Called by a trainer that was warned: let its executor start it anew later. Raises InputError where it refuses."""
    executor_of(run).queue_again(run)


def log(run: Run, lines: int = 200) -> str:
    """The last lines of the run's log."""
    return run.log(lines)
