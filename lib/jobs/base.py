"""What an executor is: something that runs `python -m lib train …` elsewhere and can say whether it still does.

A job and the world meet only in the run folder, so a job can be started by hand with the same command line.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lib.runs import ROOT, Run, home, write_json
from lib.task import Phrase

# What a trainer that its cluster stops says of itself.
TIME_IS_UP = Phrase("The time limit came; queued again to go on from the last finished epoch.")
STOPPED = Phrase("Stopped by the cluster; it goes on when the cluster starts it again.")
NO_PROGRESS = Phrase(
    "Not one epoch was finished within the time limit. Raise time_limit_min, or make an epoch smaller, then resume."
)


def not_again(why: str) -> Phrase:
    """Of a run that met its time limit where its cluster refused to queue it again, and said why."""
    told = "The time limit came, and the cluster did not queue the job again ({why}). Resume goes on from the last epoch."
    return Phrase(told, why=why)


@dataclass(frozen=True)
class End:
    """What became of a run whose trainer is gone without having said so itself; `reason` is a sentence, empty where unknown."""

    state: Literal["failed", "cancelled", "lost"]
    reason: str = ""


class Executor(Protocol):
    """Where runs compute. It owns `proc.json`; the trainer owns `status.json`."""

    @property
    def name(self) -> str:
        """As in config.json and on the command line."""

    def available(self) -> tuple[bool, str]:
        """Whether it can be used here, and in one sentence why not."""

    def submit(self, run: Run, resume: bool = False) -> None:
        """Start the trainer, detached from this process, and write `proc.json`. Raises InputError."""

    def alive(self, run: Run) -> bool:
        """Whether the run's trainer exists, waiting or computing."""

    def waiting(self, run: Run) -> bool:
        """Of a run that is alive: whether it has no place to compute yet, or has lost it for now."""

    def end(self, run: Run) -> End:
        """Of a run that is not alive and did not end by itself: what became of it."""

    def claim(self, run: Run) -> bool:
        """Note this process as the run's own if this is a place of the executor. Raises InputError where another trains it."""

    def notice_s(self, run: Run) -> float | None:
        """In the run's own process: seconds of warning before the executor ends it for now; None where it never does."""

    def queue_again(self, run: Run) -> None:
        """In the run's own process: end it, and start it anew later. Raises InputError."""

    def cancel(self, run: Run) -> None:
        """Stop every process of the run; returns once they are gone. Raises InputError where that fails."""


def command(run: Run, resume: bool = False) -> list[str]:
    """The command line of the run's trainer, or of whatever else works in a folder like a run's, as that says."""
    own = run.about().get("command")
    if own:
        return [sys.executable, "-m", "lib", *map(str, own)]
    return [sys.executable, "-m", "lib", "train", run.task, "--run", run.id, *(["--resume"] if resume else [])]


def environment() -> dict[str, str]:
    """The environment of a process of ours that starts in the repository folder: relative paths made absolute."""
    paths = [os.path.abspath(p) for p in os.environ.get("LIGHTBENCH_TASK_PATH", "").split(os.pathsep) if p]  # noqa: PTH100
    ours = {"LIGHTBENCH_HOME": str(home()), "LIGHTBENCH_TASK_PATH": os.pathsep.join(paths), "PYTHONPATH": str(ROOT)}
    return dict(os.environ) | ours | {"PYTHONUNBUFFERED": "1"}


def write_proc(run: Run, executor: str, **values: Any) -> None:
    """Write `proc.json` for a trainer submitted now."""
    write_json(run.folder / "proc.json", {"executor": executor, "submitted_at": time.time(), **values})


def mark_cancelled(run: Run) -> None:
    """Note in `proc.json` that the run was asked to stop: it is `cancelled` even if the trainer had no time to say so."""
    write_json(run.folder / "proc.json", (run.proc() or {}) | {"cancelled_at": time.time()})
