"""A whole run as one picture: gathered in the background, frame by frame, and looked at like a frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from lib.task import Task
from lib.ui.desk import Desk, Dressing, Whole
from lib.ui.draw import draw_section
from lib.ui.files import show_failures
from lib.ui.plate import Sheet
from lib.ui.words import kept, t
from lib.ui.work import begin, busy, finished


def has_whole(task: Task) -> bool:
    """Whether the task makes pictures of a whole run."""
    return type(task).projections is not Task.projections


def whole_section(desk: Desk) -> Dressing:
    """The button that has the shown frames gathered, how far that is, and the choice of a picture once there are some."""
    n = len(desk.pictures.rows)
    st.markdown(t(
        "All frames shown, gathered pixel by pixel: rings, shadows and bad pixels stand out. Frames can be looked at meanwhile."
    ))  # fmt: skip
    finished(desk.key("project"), lambda value: receive_whole(desk, value))
    if st.button(t("Gather {n} frames", n=n), key=desk.key("project-go"), icon=":material/stacks:", type="primary",
                 disabled=busy(desk.key("project"))):  # fmt: skip
        payload = desk.payload(rows=list(desk.pictures.rows), output=desk.folder.name)
        begin(desk.key("project"), desk.worker, "project", payload, t("gathering frames"), parts=True)
        st.rerun()
    return _picture(desk)


def receive_whole(desk: Desk, value: dict[str, Any]) -> None:
    """Take the pictures that the worker wrote."""
    n = value["n"]
    sheets = {
        name: Sheet.of(desk.row, t("{name} of {n} frames", name=desk.task.say(name), n=n), Path(path))
        for name, path in value["plates"].items()
    }
    desk.whole = Whole(sheets, n, list(value["failures"]))


def _picture(desk: Desk) -> Dressing:
    """The picture that is chosen among those of the run, perhaps to draw a mask on."""
    if desk.whole is None:
        return Dressing()
    show_failures(desk.whole.failures, shown=2)
    if not desk.whole.sheets:
        return Dressing()
    name = st.segmented_control(
        t("Picture"), list(desk.whole.sheets), default=next(iter(desk.whole.sheets)), required=True,
        key=kept(desk.key("whole-picture")), format_func=desk.task.say,
    )  # fmt: skip
    drawing = st.toggle(t("Draw a mask on it"), key=desk.key("whole-draw"), persist_state="session")
    return replace(draw_section(desk) if drawing else Dressing(), picture=desk.whole.sheets[name])
