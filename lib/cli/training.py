"""The command that trains."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from lib import jobs, runs
from lib.cli.typed import FAILED, INTERRUPTED, OK, UsageError, find, settings, task_of, usage
from lib.runs import Cancelled, Run, Status
from lib.task import Task

POLL_S = 1.0
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # set for every process of a distributed training
_log = logging.getLogger("lightbench")


def train_arguments(command: argparse.ArgumentParser) -> None:
    """What `train` takes."""
    command.add_argument("--preset", metavar="NAME", help="start from a preset's settings")
    command.add_argument("--name", metavar="NAME", default="", help="what to call the run")
    command.add_argument("--background", action="store_true", help="detach; follow it with `python -m lib jobs`")
    command.add_argument("--run", metavar="RUN", help="train this run, which exists already")
    command.add_argument("--resume", action="store_true", help="with --run: go on from its last finished epoch")


def train(parsed: argparse.Namespace) -> int:
    """Train a new run or one that exists, here or in the background."""
    with _stopping():  # before torch is imported: a signal in the seconds of the import must not be lost
        task = task_of(parsed.task)
        run = _existing_run(parsed, task) if parsed.run else _new_run(parsed, task)
        if parsed.background:
            jobs.resume(run) if parsed.resume else jobs.start(run)
            print(f"{run.task}/{run.id}")
            print(f"It trains in the background. Follow it: python -m lib jobs log {run.id}", file=sys.stderr)
            return OK
        first = all(os.environ.get(rank, "0") == "0" for rank in RANKS)
        if first:
            jobs.claim(run)
            _wait_for(str(run.about().get("after", "")), run.task)
        # Lightning starts the other ranks of one machine with this command line: they must train the same run.
        sys.argv[1:] = ["train", run.task, "--run", run.id, *(["--resume"] if parsed.resume else [])]
        status = _fit(run, parsed.resume, quiet=bool(parsed.run) or not first)
        if first:
            _say_end(run, status)
    return {"done": OK, "cancelled": INTERRUPTED}.get(status.state, FAILED)


def _wait_for(run_id: str, task: str) -> None:
    """Return once the run has ended, however it did; at once where there is none."""
    while run_id and jobs.state(runs.Run(runs.checkpoints_dir() / task / run_id)) in jobs.ACTIVE:
        time.sleep(POLL_S)


def _new_run(parsed: argparse.Namespace, task: Task) -> Run:
    if parsed.resume:
        raise UsageError("--resume: it needs --run RUN. `python -m lib jobs list` shows the runs.")
    config = settings(task.Training, parsed.set, parsed.preset, task.training_presets)
    with usage():
        return runs.create(task.name, config.model_dump(mode="json"), parsed.name)


def _existing_run(parsed: argparse.Namespace, task: Task) -> Run:
    run = find(parsed.run, task.name)
    if parsed.set or parsed.preset or parsed.name:
        raise UsageError("--run: the settings of a run cannot be changed. Leave out --set, --preset and --name.")
    if run.status().state == "done":
        raise UsageError(f"run {run.id}: it is done. Start a new one, with --set start_from={run.id} to go on from its weights.")
    if (run.folder / "last.ckpt").exists() and not parsed.resume:
        raise UsageError(f"run {run.id}: it has begun already. Add --resume to go on.")
    return run


@contextmanager
def _stopping() -> Iterator[None]:
    """Turn the signals that ask a program to stop into Cancelled, once: the second one is ignored while we clean up."""

    def stop(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise Cancelled

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fit(run: Run, resume: bool, quiet: bool) -> Status:
    """Train with a progress bar (a terminal) or a line per epoch (anything else); a job has its log instead."""
    try:
        from lib import train as engine

        with tqdm(unit="step", disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True) as bar:
            show = None if quiet else _Shown(bar)
            status = engine.fit(run, resume, show, _build_sheet)
    except Cancelled:  # while torch was being imported
        status = run.set_status(state="cancelled", finished_at=time.time())
    except ImportError as error:
        reason = f"A package is missing or broken ({error}). Install requirements.txt again, then resume."
        status = run.set_status(state="failed", reason=reason, finished_at=time.time())
    return status


def _say_end(run: Run, status: Status) -> None:
    """How it ended, in one line."""
    if status.state == "done":
        print(f"{run.task}/{run.id}  done: {status.metric} {status.best_value:.5g} {status.unit} at epoch {status.best_epoch}")
    if status.reason or status.state != "done":
        remedy = status.reason or f"python -m lib jobs resume {run.id} goes on."
        print(f"{run.task}/{run.id}  {status.state}: {remedy}", file=sys.stderr)


class _Shown:
    """Shows a training's progress."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.epoch = bar, -1

    def __call__(self, status: Status) -> None:
        best = "" if status.best_value is None else f"{status.best_value:.4g} {status.unit}".strip()
        loss = "" if status.loss is None else f"{status.loss:.4g}"
        if self.bar.disable:
            if status.epoch != self.epoch and loss:
                print(f"epoch {status.epoch}/{status.epochs}  loss {loss}  best {status.metric} {best}", flush=True)
        elif status.steps_per_epoch:
            self.bar.total = status.epochs * status.steps_per_epoch
            self.bar.set_description(f"epoch {min(status.epoch + 1, status.epochs)}/{status.epochs}", refresh=False)
            shown = {"loss": loss, f"best {status.metric}": best}
            self.bar.set_postfix({key: value for key, value in shown.items() if value}, refresh=False)
            done = status.epoch * status.steps_per_epoch + status.step
            if self.epoch < 0:
                self.bar.initial = self.bar.n = done
            self.bar.update(done - self.bar.n)
        self.epoch = status.epoch


def _build_sheet(run: Run) -> str:
    """Build the sheet of a trained run. The model is safe already, so trouble here is only told: the reason, or nothing."""
    try:
        from lib import sheet as engine

        engine.build(run)
    except Exception as error:  # noqa: BLE001
        _log.exception("the sheet of %s could not be built", run.id)
        return f"The result sheet could not be built ({error}). Once that is mended: python -m lib sheet {run.id}"
    return ""
