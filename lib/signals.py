"""Signals: who hears them, and when."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
NOTICE = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGALRM") if hasattr(signal, name))


@contextmanager
def handled(handlers: Mapping[int, Callable[[int, Any], None]]) -> Iterator[None]:
    """Within this block, signals by number go to these handlers."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def postponed() -> Iterator[None]:
    """Within this block, signals that ask to stop wait; those that came are heard at its end. Only the main thread hears any."""
    waiting: list[int] = []
    heard = [number for number in (*ENDING, *NOTICE) if callable(signal.getsignal(number))]
    if threading.current_thread() is not threading.main_thread():
        heard = []
    with handled(dict.fromkeys(heard, lambda number, _frame: waiting.append(number))):
        yield
    for number in waiting:
        signal.raise_signal(number)
