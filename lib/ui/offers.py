"""What chosen files offer for the form of a task: the worker looks at them once, the session keeps what it found."""

from __future__ import annotations

import streamlit as st

from lib.task import Choices, InputError, Task
from lib.ui.context import WorkerLike
from lib.ui.files import Chosen
from lib.ui.words import t
from lib.ui.work import Work, show_work, soon, start


def offered(task: Task, worker: WorkerLike, chosen: Chosen | None, key: str) -> Choices:
    """Names to pick from the chosen files; while they are looked at, or cannot be, fields to type into."""
    nothing = task.choices([])
    if chosen is None or not nothing.offered:
        return nothing
    held: tuple[tuple[str, ...], Work] | None = st.session_state.get(key)
    if held is None or held[0] != chosen.identity:
        try:
            source = chosen.take()
        except InputError:  # reading the files says why
            return nothing
        payload = {"task": task.name, "files": source.payload(), "language": task.language}
        work = start(worker, "choices", payload, t("looking at {files}", files=source.label))
        held = st.session_state[key] = (chosen.identity, work)
        soon(work)
    work = held[1]
    if not work.ended.is_set():
        show_work(work, key)
    if work.value is None:
        return nothing
    return Choices({name: tuple(names) for name, names in work.value["offered"].items()}, work.value["suggested"])
