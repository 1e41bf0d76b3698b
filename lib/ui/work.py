"""A request to the warm worker that runs in a thread while its page goes on: progress, time left, cancel.

The thread belongs to the session that started it and keeps its outcome in a `Work`; pages look at it and never wait long.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType

from lib.task import InputError
from lib.ui.context import WorkerLike, plain
from lib.ui.theme import duration
from lib.ui.words import speaking, t
from lib.words import Say, english

_log = logging.getLogger("lightbench")
AT_ONCE_S = 1.5  # a request that ends within this time needs no progress bar
POLL_S = 0.5
WAIT_S = 0.02  # between two looks whether the page was asked for something else
BREATH_S = 0.02  # in which the requests of others come between the parts of a long one


@dataclass
class Work:
    """One request: what it is called, how far it is, how it ended. Times are seconds of `time.monotonic`."""

    label: str
    started: float = field(default_factory=time.monotonic)
    fraction: float = 0.0
    text: str = ""
    value: dict[str, Any] | None = None
    error: InputError | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def eta_s(self) -> float | None:
        """Seconds left at the present pace; None until there is a pace."""
        passed = time.monotonic() - self.started
        return passed * (1 - self.fraction) / self.fraction if self.fraction > 0.02 and passed > 1 else None

    def caption(self) -> str:
        """What is going on, how far, how long still."""
        eta = self.eta_s()
        left = t("about {time} left", time=duration(eta)) if eta is not None else ""
        return " · ".join(filter(None, [self.text or self.label, f"{self.fraction:.0%}", left]))


def begin(key: str, worker: WorkerLike, op: str, payload: Mapping[str, Any], label: str, *, parts: bool = False) -> None:
    """Start a request whose work the page keeps under `key`; a long one redraws the page, so that its buttons know.

    The session has the work before anything waits for it: whoever leaves the page at once finds it when they are back.
    """
    work = st.session_state[key] = start(worker, op, payload, label, parts=parts)
    if not soon(work):
        st.rerun()


def soon(work: Work) -> bool:
    """Whether the work ends before anybody would miss a progress bar; waits for it that long."""
    return work.ended.wait(AT_ONCE_S)


def busy(key: str) -> bool:
    """Whether the work under `key` is still going on."""
    work: Work | None = st.session_state.get(key)
    return work is not None and not work.ended.is_set()


def start(worker: WorkerLike, op: str, payload: Mapping[str, Any], label: str, *, parts: bool = False) -> Work:
    """Send the request from a thread.

    With `parts` it is sent again until its value's `done` has reached its `of`, so that other requests come between; who stops
    it gets what there is then.
    """
    work = Work(label)
    told = speaking()  # the thread has no session to ask
    serving = (worker, op, dict(payload), work, told, parts)
    threading.Thread(target=_serve, args=serving, name=f"work-{op}", daemon=True).start()
    return work


def _serve(worker: WorkerLike, op: str, payload: dict[str, Any], work: Work, t: Say = english, parts: bool = False) -> None:
    def progress(fraction: float, text: str) -> None:
        work.fraction, work.text = min(max(fraction, 0.0), 1.0), text

    try:
        if parts:
            work.value = _in_parts(worker, op, payload, work, lambda n, of: progress(n / of, t("{n} of {all}", n=n, all=of)))
        else:
            work.value = worker.request(op, payload, progress, stop=work.stop)
    except InputError as error:
        work.error = error
    except Exception as error:  # noqa: BLE001 - a thread has no page to fail on: the log gets the traceback, the page a sentence
        _log.exception("request %s failed", op)
        problem = t("it stopped unexpectedly ({kind})", kind=type(error).__name__)
        work.error = InputError(work.label, problem, t("The server's log has the details."))
    finally:
        work.ended.set()


def _in_parts(
    worker: WorkerLike, op: str, payload: dict[str, Any], work: Work, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """The value of the last part; one that is stopped is asked to end with what there is."""
    while True:
        last = work.stop.is_set()
        value = worker.request(op, payload | {"finish": last})
        progress(value["done"], value["of"])
        if last or value["done"] >= value["of"]:
            return value
        work.stop.wait(BREATH_S)


def awaited(work: Work, patience_s: float = math.inf) -> dict[str, Any] | None:
    """The work's value, None where it takes longer than so many seconds. Raises the InputError that it ended with.

    Whatever the reader does meanwhile is obeyed at once: it ends this run of the page, and not the work.
    """
    began = time.monotonic()
    while not work.ended.wait(WAIT_S):
        rest(0)
        if time.monotonic() - began > patience_s:
            return None
    if work.error is not None:
        raise work.error
    return work.value


def at_once(work: Work) -> dict[str, Any] | None:
    """`awaited`, where one that takes longer is shown with a progress bar."""
    return awaited(work, AT_ONCE_S)


def rest(seconds: float) -> None:
    """Wait, unless the reader does something, which ends this run of the page."""
    end = time.monotonic() + seconds
    while True:
        _yield_to_reader()
        if time.monotonic() >= end:
            return
        time.sleep(WAIT_S)


def _yield_to_reader() -> None:
    """End this run of the page where the reader has asked for another one.

    Streamlit turns to a newer run where the session is looked at, but lets a fragment end before it runs that fragment again
    (`_fragment_run_should_not_preempt_script`): what is waiting is then made a run that comes first.
    """
    st.session_state.get("rest")
    context = get_script_run_ctx(suppress_warning=True)
    requests = context.script_requests if context and context.fragment_ids_this_run else None
    if requests and requests._state == ScriptRequestType.RERUN:
        st.rerun(scope="fragment")


@st.fragment(run_every=POLL_S)
def show_work(work: Work, key: str) -> None:
    """Progress bar and cancel button; reruns the page when the work ends."""
    if work.ended.is_set():
        st.rerun()
    bar, button = st.columns([5, 1], vertical_alignment="bottom")
    bar.progress(work.fraction, work.caption() if not work.stop.is_set() else t("Stopping …"))
    stopping = work.stop.is_set()
    if button.button(t("Cancel"), key=f"{key}-cancel", icon=":material/stop_circle:", width="stretch", disabled=stopping):
        work.stop.set()


def warm_up(worker: WorkerLike, task: str) -> None:
    """Let the worker load what this task needs, in the background, once per server."""
    _warmed(task, worker)


@st.cache_resource(show_spinner=False)
def _warmed(task: str, _worker: WorkerLike) -> Work:
    work = Work(f"warming up for {task}")
    payload: dict[str, Any] = {"task": task}
    threading.Thread(target=_serve, args=(_worker, "warm", payload, work), name=f"warm-{task}", daemon=True).start()
    return work


def finished(key: str, done: Callable[[dict[str, Any]], None]) -> bool:
    """Look after the work that a page keeps in the session under `key`.

    Shows its progress while it runs, hands its value to `done` once, and shows why it ended early until the next work
    takes its place. True where the page may go on, False while the work runs.
    """
    work: Work | None = st.session_state.get(key)
    if work is None:
        return True
    if not work.ended.is_set():
        show_work(work, key)
        return False
    if work.value is not None:
        del st.session_state[key]
        done(work.value)
    elif work.stop.is_set():
        st.info(t("Stopped as you asked. Nothing was changed."), icon=":material/stop_circle:")
    elif work.error is not None:
        st.error(plain(str(work.error)), icon=":material/error:")
    return True
