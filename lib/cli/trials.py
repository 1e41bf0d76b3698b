"""Who trains the trials of a sweep: a process that takes one after the other and trains each in a process of its own.

Those start from a server process that has imported torch once, so that a trial costs its training and little more. One that
dies takes no other with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lib import jobs, tasks
from lib.cli.training import Signals, build_sheet
from lib.jobs.array import queue_again
from lib.jobs.base import write_proc
from lib.jobs.local import identity
from lib.jobs.slurm import own_job
from lib.runs import Cancelled, Interrupted, Run
from lib.signals import ENDING, handled
from lib.sweeps import Sweep, launch
from lib.sweeps.study import PRUNED, Book, Taken
from lib.task import Phrase
from lib.words import plain

POLL_S = 0.5  # between looks at the wish to stop, and at runs that are not our children
GOODBYE_S = 20.0  # for trainers that were asked to stop
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
# What every training imports, some of it late: paid once by the server process.
PRELOAD = (
    "lib.train", "lib.sheet", "lib.cli.trials", "torch.utils.tensorboard", "torch._dynamo", "pyarrow.parquet", "optuna.storages",
    "optuna.storages.journal", "optuna.pruners", "scipy.stats", "plotly.graph_objects", "plotly.express", "pyarrow.dataset",
    "narwhals.stable.v1", "torch.profiler", "psutil",
)  # fmt: skip

Write = Callable[[str], None]


@dataclass
class Worker:
    """Trains trials of one sweep, several at once, until there are none left or it is asked to stop."""

    sweep: Sweep
    slots: int
    write: Write
    stopping: bool = False
    warned: bool = False
    children: dict[int, tuple[Run, BaseProcess | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = Book(self.sweep, tasks.get(self.sweep.task))
        self.context: Any = multiprocessing.get_context(METHOD)
        if METHOD == "forkserver":
            self.context.set_forkserver_preload([*PRELOAD, f"lib.tasks.{self.sweep.task}"])

    def work(self) -> bool:
        """Train; whether it came to the end by itself."""
        with self._heard():
            while not self.stopping:
                self._fill()
                if not self.children:
                    break
                self._wait()
            self._end_children()
        if self.warned:
            queue_again()
        return not self.stopping

    def _fill(self) -> None:
        """Start trials until every slot has one."""
        lives = partial(launch.lives, self.sweep)
        while len(self.children) < self.slots and not self.stopping:
            taken = self.book.take(launch.own_identity(self.sweep), lives)
            if taken is None:
                return
            self._begin(taken)

    def _begin(self, taken: Taken) -> None:
        """Train a trial, or only look after one that trains already; what has ended is entered."""
        number, run = taken.number, taken.run
        if taken.adopted:
            self.children[number] = (run, None)
        elif jobs.state(run) in ("done", "failed") or self.book.pruned(number):
            self._settle(number, run)
        else:
            self._start(number, run)

    def _start(self, number: int, run: Run) -> None:
        if (self.sweep.folder / "cluster.json").exists():
            jobs.SLURM.assign(run, launch.cluster_settings(self.sweep))
        run.set_status(state="queued", reason="", told="", finished_at=None, eta_s=None)
        jobs.claim(run)
        self.book.started(number)
        process = self.context.Process(target=train_trial, args=(str(self.sweep.folder), number, str(run.folder)))
        process.start()
        self.children[number] = (run, process)

    def _wait(self) -> None:
        """A moment, or until one of them ends; enter those that have ended."""
        ours = [process.sentinel for _, process in self.children.values() if process is not None]
        wait(ours, POLL_S) if ours else time.sleep(POLL_S)
        for number, (run, process) in list(self.children.items()):
            if process.is_alive() if process is not None else jobs.state(run) in jobs.ACTIVE:
                continue
            del self.children[number]
            if not self.stopping:
                self._settle(number, run)

    def _settle(self, number: int, run: Run) -> None:
        if not self.book.settle(number, run):
            self.write(f"trial {number + 1} died; it goes on from its last finished epoch")
            self._start(number, run)
            return
        trial = self.book.trial(number)
        value = "" if trial.value is None else f"  {self.sweep.metric.name} {trial.value:.5g} {self.sweep.metric.unit}".rstrip()
        params = "  ".join(f"{key}={one:.4g}" if isinstance(one, float) else f"{key}={one}" for key, one in trial.params.items())
        self.write(f"trial {number + 1} of {self.book.plan.trials}  {trial.state}{value}  {params}  {trial.reason}".rstrip())

    # --- stopping -----------------------------------------------------------------------------------------------------
    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Within this block, signals that ask to stop, and the cluster's announcement of its time limit, are a wish to stop."""
        with handled(dict.fromkeys((*ENDING, *([signal.SIGUSR1] if own_job() else [])), self._stop)):
            yield

    def _stop(self, number: int, _frame: object) -> None:
        self.stopping = True
        self.warned = self.warned or number == getattr(signal, "SIGUSR1", None)

    def _end_children(self) -> None:
        """Ask those that still train to stop: their trials stay open, to go on from their last finished epoch."""
        ours = [process for _, process in self.children.values() if process is not None and process.is_alive()]
        for process in ours:
            process.terminate()
        deadline = time.monotonic() + GOODBYE_S
        for process in ours:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
        self.children.clear()


# --- in the process of one trial --------------------------------------------------------------------------------------
def train_trial(sweep_folder: str, number: int, run_folder: str) -> None:
    """Train one trial's run, or go on with it; the sweep's pruner is asked after each epoch."""
    run, sweep, signals = Run(Path(run_folder)), Sweep(Path(sweep_folder)), Signals()
    with signals.heard():
        try:
            _settle_in(run, sweep)
            signals.run = run
            from lib import train as engine

            book = Book(sweep, tasks.get(sweep.task))

            def saved() -> None:
                signals.epoch_saved()
                if book.report(number, run):
                    book.note(number, **{PRUNED: True})
                    raise Cancelled(
                        Phrase("Stopped early by its sweep: others were better after {n} epochs.", n=run.status().epoch)
                    )

            engine.fit(run, resume=True, finish=build_sheet, saved=saved)
        except Cancelled:  # before the training began
            run.set_status(state="cancelled", finished_at=time.time())
        except Interrupted as stop:
            run.set_status(state="queued", reason=str(stop), told=plain(stop.args[0]))


def _settle_in(run: Run, sweep: Sweep) -> None:
    """Make this process the run's own: what it prints goes to the run's log, and cancelling the run ends it alone."""
    with (run.folder / "log.txt").open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    if not own_job():  # a cluster ends the whole job
        if hasattr(os, "setsid"):
            os.setsid()
        write_proc(run, "local", **identity(os.getpid()))
