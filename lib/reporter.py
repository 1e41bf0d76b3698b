"""What a trainer says of itself: status.json with a heartbeat, and log.txt."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lib import runs
from lib.runs import Run, State, Status, write_json
from lib.words import plain


class Reporter:
    """The trainer's side of status.json and log.txt: a thread renews the heartbeat, `update` sets what it says.

    An inactive reporter (any rank but 0) writes nothing.
    """

    def __init__(self, run: Run, on_progress: Callable[[Status], None] | None = None, active: bool = True) -> None:
        self.run, self.on_progress, self.active = run, on_progress, active
        self.status = run.status()
        self.log = logging.getLogger(f"lightbench.run.{run.task}.{run.id}")
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Report `running` with a fresh heartbeat until the block ends; `close` tells how it ended."""
        handler: logging.Handler = logging.NullHandler()
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.log.propagate = False
        self.log.setLevel(logging.INFO)
        try:
            now, before = time.time(), self.status
            paused_s = before.paused_s + (max(now - before.last_at, 0.0) if before.started_at and before.last_at else 0.0)
            again: dict[str, Any] = {"finished_at": None, "eta_s": None, "reason": ""}
            self.update(write=True, state="running", started_at=before.started_at or now, paused_s=paused_s, **again)
            if self.active:
                handler = logging.FileHandler(self.run.folder / "log.txt", encoding="utf-8")
                handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
                thread.start()
            self.log.addHandler(handler)
            yield
        finally:
            self._stop.set()
            if thread.is_alive():
                thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(runs.HEARTBEAT_S):
            try:
                self.update(write=True)
            except OSError as error:  # the trainer meets the same trouble at its next write and reports it
                self.log.warning("heartbeat not written: %s", error)

    def update(self, write: bool = False, **changes: Any) -> None:
        """Set fields of the status; they reach the disk with the next heartbeat, or at once with `write`."""
        with self._lock:
            self.status = self.status.model_copy(update=changes | {"heartbeat_at": time.time()})
            if write and self.active:
                write_json(self.run.folder / "status.json", self.status.model_dump())
        if changes and self.on_progress is not None and not self.status.finished:
            self.on_progress(self.status)

    def close(self, state: State, reason: str = "") -> None:
        """Write how it ended, even on a full disk."""
        final = {"state": state, "reason": str(reason), "told": plain(reason), "eta_s": None, "finished_at": time.time()}
        try:
            self.update(write=True, **final)
        except OSError as error:  # no room for a new file: the old one's room is still there
            self.log.warning("status written in place: %s", error)
            with suppress(OSError), (self.run.folder / "status.json").open("r+b") as stream:
                stream.write(json.dumps(self.status.model_dump()).encode())
                stream.truncate()
        for handler in list(self.log.handlers):
            self.log.removeHandler(handler)
            handler.close()
