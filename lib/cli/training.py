"""The command that trains."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from lib import jobs, ranks, runs
from lib.cli.typed import FAILED, INTERRUPTED, OK, UsageError, changes, find, settings, task_of, usage
from lib.jobs.base import NO_PROGRESS, STOPPED, TIME_IS_UP, not_again
from lib.runs import Cancelled, Interrupted, Run, Status
from lib.signals import ENDING, handled
from lib.task import InputError, Phrase, Task
from lib.words import plain

POLL_S = 1.0
OTHERS_LEAVE_S = 3  # after a signal: until then the process that writes may still need the others
_log = logging.getLogger("lightbench")


def train_arguments(command: argparse.ArgumentParser) -> None:
    """What `train` takes."""
    command.add_argument("--preset", metavar="NAME", help="start from a preset's settings")
    command.add_argument("--name", metavar="NAME", default="", help="what to call the run")
    command.add_argument("--background", action="store_true", help="detach; follow it with `python -m lib jobs`")
    command.add_argument("--run", metavar="RUN", help="train this run, which exists already")
    command.add_argument("--resume", action="store_true", help="with --run: go on from its last finished epoch")
    command.add_argument("--executor", choices=jobs.executors(), default="local", help="where to train (default local)")
    command.add_argument("--profile", metavar="NAME", help="cluster profile of a slurm run; they are kept in clusters.toml")
    command.add_argument(
        "--set-cluster", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="what differs from the profile"
    )


def train(parsed: argparse.Namespace) -> int:
    """Train a new run or one that exists, here or in the background."""
    signals = Signals()
    with signals.heard():  # before torch is imported: a signal in the seconds of the import must not be lost
        task = task_of(parsed.task)
        run = _existing_run(parsed, task) if parsed.run else _new_run(parsed, task)
        if parsed.background or (parsed.executor != "local" and not parsed.run):
            jobs.resume(run) if parsed.resume else jobs.start(run)
            print(f"{run.task}/{run.id}")
            print(f"It trains in the background. Follow it: python -m lib jobs log {run.id}", file=sys.stderr)
            return OK
        first = ranks.first()
        if first:
            jobs.claim(run)
            _wait_for(str(run.about().get("after", "")), run.task)
        # Lightning starts the other ranks of one machine with this command line: they must train the same run.
        sys.argv[1:] = ["train", run.task, "--run", run.id, *(["--resume"] if parsed.resume else [])]
        epochs_before = run.status().epoch
        status = _fit(run, parsed.resume, bool(parsed.run) or not first, signals)
        if first and status.state == "queued" and signals.warned.is_set():
            status = _queue_again(run, status, epochs_before)
        if first:
            _say_end(run, status)
    return {"done": OK, "cancelled": INTERRUPTED, "queued": INTERRUPTED}.get(status.state, FAILED)


def _wait_for(run_id: str, task: str) -> None:
    """Return once the run has ended, however it did; at once where there is none."""
    while run_id and jobs.state(runs.Run(runs.checkpoints_dir() / task / run_id)) in jobs.ACTIVE:
        time.sleep(POLL_S)


def _new_run(parsed: argparse.Namespace, task: Task) -> Run:
    if parsed.resume:
        raise UsageError("--resume: it needs --run RUN. `python -m lib jobs list` shows the runs.")
    if parsed.executor == "local" and (parsed.profile or parsed.set_cluster):
        raise UsageError("--profile, --set-cluster: they belong to a cluster. Add --executor slurm.")
    config = settings(task.Training, parsed.set, parsed.preset, task.training_presets)
    with usage():
        asked = jobs.SLURM.chosen(parsed.profile or "", _cluster_changes(parsed))
        run = runs.create(task.name, config.model_dump(mode="json"), parsed.name, parsed.executor)
    if parsed.executor == jobs.SLURM.name:
        jobs.SLURM.assign(run, asked)
    return run


def _cluster_changes(parsed: argparse.Namespace) -> dict[str, str]:
    return changes(parsed.set_cluster, option="--set-cluster")


def _existing_run(parsed: argparse.Namespace, task: Task) -> Run:
    run = find(parsed.run, task.name)
    if parsed.set or parsed.preset or parsed.name:
        raise UsageError("--run: the settings of a run cannot be changed. Leave out --set, --preset and --name.")
    if parsed.profile or parsed.set_cluster:
        _ask_for_more(parsed, run)
    if run.status().state == "done":
        raise UsageError(f"run {run.id}: it is done. Start a new one, with --set start_from={run.id} to go on from its weights.")
    if (run.folder / "last.ckpt").exists() and not parsed.resume:
        raise UsageError(f"run {run.id}: it has begun already. Add --resume to go on.")
    return run


def _ask_for_more(parsed: argparse.Namespace, run: Run) -> None:
    """What the next job of a slurm run asks for: another profile, or changes of what its last job asked for."""
    if run.about().get("executor") != jobs.SLURM.name or not parsed.background:
        raise UsageError("--profile, --set-cluster with --run: only for a slurm run that is resumed with --background.")
    with usage():
        start = jobs.SLURM.chosen(parsed.profile) if parsed.profile else jobs.SLURM.settings(run)
        asked = type(start).parse(start.model_dump() | _cluster_changes(parsed), "--set-cluster")
    if jobs.state(run) not in jobs.ACTIVE:
        jobs.SLURM.assign(run, asked)


class Signals:
    """What the signals that end a program mean to a trainer.

    SIGTERM, SIGINT and SIGHUP are its user's, once: while it cleans up, more of them are ignored. In a cluster's job that its
    user did not cancel, SIGTERM comes from the cluster, which may start the job again; SIGUSR1 announces the time limit.
    Of several processes of a training the first decides; the others go on with it, and leave soon after they are told to stop.
    """

    def __init__(self) -> None:
        self.run: Run | None = None
        self.warned = threading.Event()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within this block."""
        heard = dict.fromkeys(ENDING, self._stop) | ({signal.SIGUSR1: self._warn} if hasattr(signal, "SIGUSR1") else {})
        with handled(heard):
            yield

    def _stop(self, number: int, _frame: object) -> None:
        self._hear_no_more()
        if not ranks.first() and hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, self._leave)
            signal.alarm(OTHERS_LEAVE_S)
            return
        if number == signal.SIGTERM and self.run is not None and jobs.notice_s(self.run) is not None:
            raise Interrupted(STOPPED)
        raise Cancelled

    def _warn(self, _number: int, _frame: object) -> None:
        """Stop at the end of this epoch, or in the middle when half of the time left has passed."""
        notice_s = None if self.run is None or not ranks.first() else jobs.notice_s(self.run)
        if notice_s is not None:
            self.warned.set()
            signal.signal(signal.SIGALRM, self._leave)
            signal.alarm(max(1, round(notice_s / 2)))

    def _leave(self, _number: int = 0, _frame: object = None) -> None:
        signal.alarm(0)
        self._hear_no_more()
        raise Interrupted(TIME_IS_UP)

    def epoch_saved(self) -> None:
        """The best moment to leave. Raises Interrupted once warned."""
        if self.warned.is_set():
            self._leave()

    def _hear_no_more(self) -> None:
        """From now on it cleans up, and the cluster's own signals only say what is known."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)


def _queue_again(run: Run, status: Status, epochs_before: int) -> Status:
    """Let the cluster start it anew, unless that would go on for ever."""
    if status.epoch <= epochs_before:
        return _failed(run, NO_PROGRESS)
    try:
        jobs.queue_again(run)
    except InputError as error:
        return _failed(run, not_again(error.problem))
    return status


def _failed(run: Run, reason: Phrase) -> Status:
    return run.set_status(state="failed", reason=str(reason), told=plain(reason))


def _fit(run: Run, resume: bool, quiet: bool, signals: Signals) -> Status:
    """Train with a progress bar (a terminal) or a line per epoch (anything else); a job has its log instead."""
    signals.run = run
    try:
        from lib import train as engine

        with tqdm(unit="step", disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True) as bar:
            show = None if quiet else _Shown(bar)
            status = engine.fit(run, resume, show, build_sheet, signals.epoch_saved)
    except Cancelled:  # while torch was being imported
        status = _ended(run, state="cancelled", finished_at=time.time())
    except Interrupted as stop:
        status = _ended(run, state="queued", reason=str(stop), told=plain(stop.args[0]))
    except ImportError as error:
        reason = f"A package is missing or broken ({error}). Install requirements.txt again, then resume."
        status = _ended(run, state="failed", reason=reason, finished_at=time.time())
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)
    return status


def _ended(run: Run, **changes: Any) -> Status:
    """What status.json says from now on; of several processes the first alone writes it."""
    return run.set_status(**changes) if ranks.first() else run.status().model_copy(update=changes)


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


def build_sheet(run: Run) -> str:
    """Build the sheet of a trained run. The model is safe already, so trouble here is only told: the reason, or nothing."""
    try:
        from lib import sheet as engine

        engine.build(run)
    except Exception as error:  # noqa: BLE001
        _log.exception("the sheet of %s could not be built", run.id)
        return f"The result sheet could not be built ({error}). Once that is mended: python -m lib sheet {run.id}"
    return ""
