"""The warm worker: a child process that has torch loaded, so that the dashboard need not.

It parses uploads and predicts under a memory limit; when it crashes, only the request that did it is lost.
"""

from __future__ import annotations

import atexit
import itertools
import json
import logging
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

import psutil

from lib.jobs.base import environment
from lib.runs import ROOT
from lib.task import InputError

MEMORY_MB = 6144  # at most; and no more than three quarters of the machine's memory
POLL_S = 0.2
_log = logging.getLogger("lightbench.worker")


class WorkerDied(InputError):
    """The worker ended before it had answered; the next request starts a new one."""


class Worker:
    """One child running `python -m lib worker`, started by the first request and shared by all threads of a server."""

    def __init__(self, memory_mb: int = 0, command: Sequence[str] = ()) -> None:
        memory_mb = memory_mb or min(MEMORY_MB, int(0.75 * psutil.virtual_memory().total / 2**20))
        self.command = tuple(command) or (sys.executable, "-m", "lib", "worker", "--memory-mb", str(memory_mb))
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._replies: queue.Queue[str | None] = queue.Queue()
        self._last_words: deque[str] = deque(maxlen=20)
        self._numbers = itertools.count(1)
        atexit.register(self.close)

    def request(
        self,
        op: str,
        payload: dict[str, Any],
        on_progress: Callable[[float, str], None] | None = None,
        stop: threading.Event | None = None,
    ) -> dict[str, Any]:
        """The value of one operation. Requests of several threads wait for each other.

        `stop` may be set from another thread: the worker is ended and a new one starts with the next request.
        Raises InputError for what the worker reports, WorkerDied where it crashed, ran out of memory or was stopped.
        """
        while not self._lock.acquire(timeout=POLL_S):
            _refuse_if(stop)
        try:
            _refuse_if(stop)
            number = next(self._numbers)
            self._send({"id": number, "op": op, "payload": payload})
            while True:
                reply = self._next_reply(stop)
                if reply.get("id") not in (number, None):  # what is left of a request whose thread gave up
                    continue
                if reply["event"] == "progress":
                    if on_progress is not None:
                        on_progress(float(reply["fraction"]), str(reply["text"]))
                elif reply["event"] == "error":
                    raise InputError(reply["subject"], reply["problem"], reply["remedy"])
                else:
                    return dict(reply["value"])
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the worker; a later request starts a new one."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _send(self, message: dict[str, Any]) -> None:
        """Hand a request to the child; one that died while idle is replaced."""
        for attempt in (1, 2):
            child = self._running()
            assert child.stdin is not None
            try:
                child.stdin.write(json.dumps(message) + "\n")
                child.stdin.flush()
                return
            except (OSError, ValueError):
                self.close()
                if attempt == 2:
                    raise self._died() from None

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._replies, self._last_words = queue.Queue(), deque(maxlen=20)
            pipe = subprocess.PIPE
            child = subprocess.Popen(
                self.command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT, env=environment(), text=True, encoding="utf-8"
            )
            assert child.stdout is not None and child.stderr is not None
            threading.Thread(target=_read_replies, args=(child.stdout, self._replies), daemon=True).start()
            threading.Thread(target=_read_log, args=(child.stderr, self._last_words), daemon=True).start()
            self._child = child
        return self._child

    def _next_reply(self, stop: threading.Event | None) -> dict[str, Any]:
        while True:
            if stop is not None and stop.is_set():
                self.close()
                _refuse_if(stop)
            try:
                line = self._replies.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if line is None:
                self.close()
                raise self._died()
            try:
                reply = json.loads(line)
            except json.JSONDecodeError:  # a library that prints
                _log.info("worker printed: %s", line.rstrip())
                continue
            if isinstance(reply, dict) and "event" in reply:
                return reply

    def _died(self) -> WorkerDied:
        _log.error("the worker ended; its last words:\n%s", "\n".join(self._last_words))
        return WorkerDied(
            "the worker",
            "it ended before it had answered, most often because this input needs more memory than it may take",
            "Try again with a smaller or a sound file; other work is not affected.",
        )


def _refuse_if(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise WorkerDied("the worker", "it was stopped as asked", "Start again when you like.")


def _read_replies(stream: IO[str], replies: queue.Queue[str | None]) -> None:
    """Lines of the child's stdout, then None at its end."""
    with suppress(ValueError, OSError):
        for line in stream:
            replies.put(line)
    replies.put(None)


def _read_log(stream: IO[str], last_words: deque[str]) -> None:
    with suppress(ValueError, OSError):
        for line in stream:
            last_words.append(line.rstrip())
            _log.info("%s", line.rstrip())
