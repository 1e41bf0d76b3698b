"""Runs in the background of this machine: a detached process in a session and process group of its own.

It survives the browser tab, the dashboard and the shell that started it. A process is known by its id **and** its
creation time, so that a number used again by the system is never mistaken for it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from lib.jobs.base import End, command, environment, mark_cancelled, write_proc
from lib.runs import ROOT, STALE_S, Run
from lib.task import InputError, Phrase

GRACE_S = 10.0  # to save nothing but say goodbye; then the group is killed
CREATED_TOLERANCE_S = 2.0  # the clock may be set while a job runs


def detach(words: Sequence[str], log_file: Path, note: Callable[[int], None], subject: Phrase) -> None:
    """Start a command that outlives this process; its output goes to the log, and `note` writes its number down.

    Raises InputError about `subject` where it cannot be started or noted.
    """
    options: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        flags = (getattr(subprocess, name, 0) for name in ("CREATE_NEW_PROCESS_GROUP", "DETACHED_PROCESS"))
        options = {"creationflags": sum(flags)}
    try:
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment(), **options
            )
        note(process.pid)
    except OSError as error:
        problem = Phrase("it could not be started ({why})", why=error.strerror or error)
        raise InputError(subject, problem, "Free disk and memory, then resume it.") from error
    threading.Thread(target=process.wait, name=f"reaper-{process.pid}", daemon=True).start()  # leaves no zombie


class LocalExecutor:
    """See the module."""

    name = "local"

    def available(self) -> tuple[bool, str]:
        """Always."""
        return True, ""

    def submit(self, run: Run, resume: bool = False) -> None:
        """Start the trainer; its output goes to the run's log."""
        detach(
            command(run, resume), run.folder / "log.txt", lambda pid: write_proc(run, self.name, **identity(pid)),
            Phrase("run {run}", run=run.id),
        )  # fmt: skip

    def alive(self, run: Run) -> bool:
        """Whether the very process that was started exists; on another machine of a shared disk, whether its heart beats."""
        proc = run.proc() or {}
        if proc.get("host", socket.gethostname()) == socket.gethostname():
            return find_process(proc) is not None
        last_sign = max(run.status().heartbeat_at or 0.0, float(proc.get("submitted_at", 0.0)))
        return time.time() - last_sign < STALE_S

    def waiting(self, run: Run) -> bool:
        """Never: it computes at once."""
        return False

    def end(self, run: Run) -> End:
        """Nobody watched."""
        return End("lost")

    def claim(self, run: Run) -> bool:
        """Note this process as the run's own, unless that or one of its parents is noted. Raises InputError."""
        proc = run.proc() or {}
        other = find_process(proc) if proc.get("executor", self.name) == self.name else None
        family = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        if other is not None and other.pid not in family:
            raise InputError(
                Phrase("run {run}", run=run.id),
                Phrase("process {process} trains it already", process=other.pid),
                "Wait for it, or cancel it first.",
            )
        if other is None:
            write_proc(run, self.name, **identity(os.getpid()))
        return True

    def notice_s(self, run: Run) -> float | None:
        """Only its user stops it."""
        return None

    def queue_again(self, run: Run) -> None:
        """There is no queue. Raises InputError."""
        raise InputError(Phrase("run {run}", run=run.id), "this machine has no queue", "Resume it by hand.")

    def cancel(self, run: Run) -> None:
        """Ask the trainer to stop, then kill whatever is left of its group; returns once all of it is gone."""
        proc = run.proc() or {}
        if proc.get("host", socket.gethostname()) != socket.gethostname():
            remedy = Phrase("Cancel it there: python -m lib jobs cancel {run}.", run=run.id)
            raise InputError(Phrase("run {run}", run=run.id), Phrase("it runs on {host}", host=proc["host"]), remedy)
        mark_cancelled(run)
        trainer = find_process(proc)
        members = _members(proc, trainer)
        if trainer is not None:
            _send(trainer, signal.SIGTERM)
            psutil.wait_procs([trainer], timeout=GRACE_S)
        deadline = time.monotonic() + GRACE_S
        while left := [p for p in members | _members(proc, trainer) if _lives(p)]:
            if time.monotonic() > deadline:
                numbers = ", ".join(str(p.pid) for p in left)
                raise InputError(
                    Phrase("run {run}", run=run.id),
                    Phrase("the processes {numbers} did not end", numbers=numbers),
                    "End them by hand and look again.",
                )
            for process in left:
                _send(process, getattr(signal, "SIGKILL", signal.SIGTERM))
            psutil.wait_procs(left, timeout=0.5)


def identity(pid: int) -> dict[str, Any]:
    """What tells a process from every other: pid, creation time (unix seconds), host, and the group it leads (0: none)."""
    try:
        created = psutil.Process(pid).create_time()
    except psutil.Error:  # gone already: its log says why
        created = time.time()
    leads = hasattr(os, "getpgid") and _group(pid) == pid
    return {"pid": pid, "created": created, "host": socket.gethostname(), "group": pid if leads else 0}


def find_process(proc: dict[str, Any]) -> psutil.Process | None:
    """The living process that `proc.json` describes, or None."""
    try:
        process = psutil.Process(int(proc["pid"]))
        same = abs(process.create_time() - float(proc["created"])) < CREATED_TOLERANCE_S
        return process if same and _lives(process) else None
    except (psutil.Error, KeyError, ValueError):
        return None


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _members(proc: dict[str, Any], trainer: psutil.Process | None) -> set[psutil.Process]:
    """The trainer, its descendants, and everybody in the group it leads.

    A group number can be used again once all its members are gone; without the trainer itself, only processes that are
    no older than it count.
    """
    found: set[psutil.Process] = set()
    if trainer is not None:
        try:
            found |= {trainer, *trainer.children(recursive=True)}
        except psutil.Error:
            found.add(trainer)
    group = int(proc.get("group") or 0)
    if group:
        found |= {p for p in psutil.process_iter() if _group(p.pid) == group and _not_older(p, float(proc["created"]))}
    return found


def _not_older(process: psutil.Process, created: float) -> bool:
    try:
        return bool(process.create_time() >= created - CREATED_TOLERANCE_S)
    except psutil.Error:
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _send(process: psutil.Process, number: int) -> None:
    """Signal a process that may be gone already."""
    try:
        process.send_signal(number)
    except psutil.Error:
        return
