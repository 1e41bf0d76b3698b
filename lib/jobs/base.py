"""What an executor is: something that runs `python -m lib train …` elsewhere and can say whether it still does.

A job and the world meet only in the run folder, so a job can be started by hand with the same command line.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Protocol

from lib.runs import ROOT, Run, home, write_json


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

    def cancel(self, run: Run) -> None:
        """Stop every process of the run; returns once they are gone. Raises InputError where that fails."""


def command(run: Run, resume: bool = False) -> list[str]:
    """The command line of the run's trainer."""
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
