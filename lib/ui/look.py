"""Looking into large pictures, one after another: a viewer, finders, labels, masks, and a comparison of finders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lib.task import Panel, Samples, Task
from lib.ui.compare import compare_section, receive_comparison
from lib.ui.context import WorkerLike, guard, plain
from lib.ui.desk import WHOLE_SLOT, Desk, Dressing, Pictures, attempt, desk_of, show_news
from lib.ui.draw import draw_section, receive_suggestion
from lib.ui.finder import found_marks
from lib.ui.label import label_section, receive_marks
from lib.ui.panels import show_panels
from lib.ui.plate import TRUE, Edit, Sheet, Shown, send_pixels, show_plate
from lib.ui.whole import has_whole, whole_section
from lib.ui.words import speaking, t
from lib.ui.work import awaited, finished, rest

WHOLE = "Whole run"
MODES = ("Find", "Label", "Mask", "Compare finders", WHOLE)
AHEAD_S = 0.25  # in which the picture travels to the browser, before its neighbours are read and follow it
PAUSE_S = 0.5  # who goes on sooner is not kept waiting for figures
KEYS = {"n": "next", "p": "previous", "N": "next", "P": "previous"}


def has_plates(task: Task) -> bool:
    """Whether the task's samples are pictures to look into."""
    return type(task).plate is not Task.plate


@st.fragment
def look_view(
    task: Task, worker: WorkerLike, folder: str, samples: Samples, rows: Sequence[int], acquisition: Mapping[str, Any]
) -> None:
    """The whole view of samples that were read into a folder; only it is redrawn when something in it changes."""
    with guard():
        desk = desk_of(task, worker, Pictures(folder, samples, rows, acquisition))
        mode = _browser(desk)
        if not _worked(desk):
            return
        show_news(desk)
        left, right = st.columns([3, 1], gap="medium")
        carried = st.container()  # what brings pixels takes room, and so stands below
        title, dressing, new = left.container(), Dressing(), False
        with left, guard(), st.spinner(t("Reading {files} …", files=plain(desk.label(desk.row)))):
            if mode != WHOLE or not (desk.whole and desk.whole.sheets):  # the frame is there before what is found in it
                new = _send(desk, desk.sheet(), carried, show=True)
        with right, guard():
            dressing = _section(desk, mode)
        title.markdown(f"##### {plain(dressing.picture.label if dressing.picture else desk.label(desk.row))}")
        with left, guard():
            _show_picture(desk, dressing)
        if not dressing.picture:
            rest(AHEAD_S if new else 0)
            with guard():
                for ahead in desk.look_ahead():
                    _send(desk, ahead, carried)
        dressing.below()


def _send(desk: Desk, sheet: Sheet, place: DeltaGenerator, *, show: bool = False) -> bool:
    """Send the pixels of a frame; True where the browser does not have them yet."""
    with place:
        return send_pixels(sheet, desk.key("plate"), desk.slot(sheet.row), desk.sent, show=show)


def _show_picture(desk: Desk, dressing: Dressing) -> None:
    """The viewer with the picture, if it could be read."""
    sheet = dressing.picture or desk.sheets.get(desk.row)
    if sheet is None:
        return
    if dressing.picture:
        send_pixels(sheet, desk.key("plate"), WHOLE_SLOT, desk.sent)
    show_plate(
        sheet, desk.key("plate"), lambda edit: _edited(desk, dressing, edit), marks=dressing.marks, editable=dressing.editable,
        strokes=dressing.strokes, tools=dressing.tools, keys=KEYS | dressing.keys,
        beside={} if dressing.picture else desk.beside(),
    )  # fmt: skip
    st.caption(t(
        "Wheel: zoom. Drag: move. With the picture in focus: + − 0 zoom, arrows move, n and p go to the next and the "
        "previous one."
    ))  # fmt: skip


def _worked(desk: Desk) -> bool:
    """Look after the long work that was begun here; False while it goes on."""
    takes: dict[str, Callable[[dict[str, Any]], None]] = {
        "compare": lambda value: receive_comparison(desk, value),
        "suggest": lambda value: receive_suggestion(desk, value),
        "fill": lambda value: receive_marks(desk, value),
    }
    ended = [finished(desk.key(name), take) for name, take in takes.items()]
    return all(ended)


def _browser(desk: Desk) -> str:
    """Which picture, and the way of looking at it; returns the latter."""
    rows = list(desk.pictures.rows)
    there = {"Label": bool(desk.task.finders), "Compare finders": bool(desk.task.finders), WHOLE: has_whole(desk.task)}
    modes = [mode for mode in MODES if there.get(mode, True)]
    # Another field where something else than the field leads on: what it still says in the browser would lead back.
    if desk.numbered[1] != (number := rows.index(desk.row) + 1):
        desk.numbered = desk.numbered[0] + 1, number
    key = desk.key(f"number-{desk.numbered[0]}")
    st.session_state[desk.key("mode")] = st.session_state.get(desk.key("mode"), modes[0])

    def chosen() -> None:
        typed = min(max(int(st.session_state[key] or 1), 1), len(rows))
        desk.row, desk.numbered = rows[typed - 1], (desk.numbered[0], typed)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        mode: str | None = st.segmented_control(
            t("What to do"), modes, required=True, key=desk.key("mode"), persist_state="session", format_func=speaking()
        )
        st.number_input(t("Picture, of {n}", n=len(rows)), 1, len(rows), number, key=key, on_change=chosen, width=150)
        for name, by, icon in ((t("Previous"), -1, ":material/chevron_left:"), (t("Next"), 1, ":material/chevron_right:")):
            st.button(name, key=desk.key(f"step{by}"), icon=icon, on_click=desk.step, args=(by,))
    return mode or modes[0]


def _section(desk: Desk, mode: str) -> Dressing:
    """The controls of one way of looking, and what it lays over the picture."""
    if mode == "Label":
        return label_section(desk)
    if mode == "Mask":
        return draw_section(desk)
    if mode == "Compare finders":
        return compare_section(desk)
    if mode == WHOLE:
        return whole_section(desk)
    marks = [*found_marks(desk)]
    truth = desk.task.true_marks(desk.pictures.samples, desk.row)
    if truth is not None:
        marks.append(Shown(t("truth"), truth, TRUE))
    return Dressing(marks, below=lambda: show_panels(_panels(desk), desk.key(f"panels-{desk.row}")))


def _edited(desk: Desk, dressing: Dressing, edit: Edit) -> None:
    """Take what a hand did in the picture."""
    if edit["kind"] in ("next", "previous"):
        desk.step(1 if edit["kind"] == "next" else -1)
    else:
        attempt(desk, lambda: dressing.on_edit(edit))


def _panels(desk: Desk) -> list[Panel]:
    """The task's figures of the picture, from the worker once the reader rests there; kept until another one is looked at."""
    about = desk.row, str(desk.task.language)
    if desk.panels is None or desk.panels[0] != about:
        rest(PAUSE_S)
        work = desk.work("panels", about, t("reading {files}", files=desk.label(desk.row)), row=desk.row, beside=True)
        try:
            value = awaited(work)
        finally:
            if work.ended.is_set():
                desk.taken("panels", about)
        assert value is not None
        desk.panels = about, [Panel.from_json(panel) for panel in value["panels"]]
    return desk.panels[1]
