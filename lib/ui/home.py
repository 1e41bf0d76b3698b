"""Home: the tasks as cards, what is running, what came out last."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lib.task import Task
from lib.ui.context import Jobs, core_page, empty_state, go_to, guard, page_header, plain, stage_link, title_of
from lib.ui.curves import words
from lib.ui.rundata import Overview, overviews
from lib.ui.runlink import run_link
from lib.ui.theme import state_badge
from lib.ui.words import t
from lib.words import english

EVERY_S, IDLE_S = 2, 10  # while something trains, and while a run may be started elsewhere
LATEST = 5
PLANNED = {  # tasks to come; a card disappears here as soon as the task exists
    "diffusion": ("Diffusion", "The diffusion coefficient of one molecule from a short clip."),
    "spectra": ("Spectra", "The quality class of a sample from its fluorescence spectra, with guaranteed error."),
    "bragg": ("Bragg peaks", "Bragg peaks in detector images, found at detector speed."),
    "reflectance": ("Reflectance", "Ten optical channels of a nanostructured surface from one SEM image."),
}


def home_page(tasks: Sequence[Task], jobs: Jobs) -> None:
    """Cards, runs in progress, latest results."""
    page_header("Lightbench", t("Simulate a measurement, clean real files, train a model, review it, and measure with it."))
    with guard():
        _cards(tasks)
    rows = overviews(jobs)
    left, right = st.columns([1, 1], gap="large")
    with left, guard():
        st.subheader(t("In progress"), anchor=False)
        live = any(row.active for row in rows)
        st.fragment(_running, run_every=EVERY_S if live else IDLE_S)(jobs, tasks, live)
    with right, guard():
        st.subheader(t("Latest results"), anchor=False)
        _latest(rows, tasks)


def _cards(tasks: Sequence[Task]) -> None:
    planned = [text for name, text in PLANNED.items() if name not in {task.name for task in tasks}]
    n = len(tasks) + len(planned)
    cells = iter([cell for start in range(0, n, 4) for cell in st.columns(min(4, max(n, 2)))][:n])
    for task, cell in zip(tasks, cells, strict=False):
        with cell, st.container(border=True, height="stretch"):
            _card(task)
    for (title, text), cell in zip(planned, cells, strict=False):
        with cell, st.container(border=True, height="stretch"):
            st.markdown(f"#### :gray[{t(title)}]")
            st.markdown(f":gray[{t(text)}]")
            st.badge(t("not in this version"), color="gray")


def _card(task: Task) -> None:
    st.markdown(f"#### {task.icon} {title_of(task)}")
    st.markdown(task.say(task.summary))
    st.caption(f"{task.say(task.input_label)}  \n:material/arrow_downward: {task.say(task.output_label)}")
    try_it = t("Try it with a sample")
    if st.button(try_it, type="primary", key=f"sample-{task.name}", icon=":material/science:", width="stretch"):
        go_to(task.name, "predict", sample="1")
    if st.button(t("Measure your files"), key=f"measure-{task.name}", icon=":material/upload_file:", width="stretch"):
        go_to(task.name, "predict")
    for stage, cell in zip(("simulate", "clean", "train", "results"), [*st.columns(2), *st.columns(2)], strict=True):
        with cell:
            stage_link(task.name, stage)


def _running(jobs: Jobs, tasks: Sequence[Task], live: bool) -> None:
    """Runs in progress as they stand now; the page is drawn anew when the last one ends or the first one starts."""
    with guard():
        rows = [row for row in overviews(jobs) if row.active]
        if bool(rows) != live:
            st.rerun()
        if not rows:
            text = t("Nothing is training. A run started on a **Train** page goes on here when you close the browser.")
            empty_state(text)
            return
        for row in rows:
            with st.container(border=True):
                _title(row, tasks)
                st.progress(row.status.progress, text=row.progress_text or None)
        st.page_link(core_page("jobs"), label=t("All jobs"))


def _latest(rows: Sequence[Overview], tasks: Sequence[Task]) -> None:
    stopped = [row for row in rows if row.state in ("failed", "lost")]
    if stopped:
        told = (
            t("1 run stopped before the end: see why, and resume")
            if len(stopped) == 1
            else t("{n} runs stopped before the end: see why, and resume", n=len(stopped))
        )
        st.page_link(core_page("jobs"), label=told, icon=":material/error:")
    done = [row for row in rows if row.state == "done"]
    if not done:
        empty_state(t("No results yet. Train a model, or try a task with its sample."))
        return
    with st.container(border=True):
        for row in done[:LATEST]:
            _title(row, tasks)


def _title(row: Overview, tasks: Sequence[Task]) -> None:
    """One run: link, state, and below the link its task and best value."""
    titles = {task.name: title_of(task) for task in tasks}
    say = next((task.say for task in tasks if task.name == row.run.task), english)
    value = f"{words(row.status.metric, row.status.unit, say)} {row.best}" if row.status.best_value is not None else ""
    about = " · ".join(filter(None, [titles.get(row.run.task, row.run.task), value]))
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        with st.container(width="stretch"):
            run_link(row, titles, f"  \n:gray[:small[{plain(about)}]]")
        state_badge("shipped" if row.run.shipped else row.state)
