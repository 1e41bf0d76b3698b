"""The Jobs page: every run of every task, live, with what can be done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from lib.task import Task
from lib.ui.actions import ask, run_actions, show_asked, show_undo
from lib.ui.cluster import end_text, place_text
from lib.ui.context import Jobs, empty_state, guard, page_header, plain, stage_page, title_of
from lib.ui.curves import axis_title
from lib.ui.parts import list_predictions
from lib.ui.rundata import Overview, overviews
from lib.ui.runlink import run_link
from lib.ui.theme import STATES, state_badge
from lib.ui.words import kept, t
from lib.words import english, spoken

EVERY_S, IDLE_S = 2, 10  # while something trains, and while a run may be started elsewhere
PER_PAGE = 15
WIDTHS = [3.2, 1.3, 2.6, 1.9, 1.5, 1.7]


def jobs_page(tasks: Sequence[Task], jobs: Jobs) -> None:
    """Runs of all tasks."""
    titles = {task.name: title_of(task) for task in tasks}
    page_header(t("Jobs"), t("Every training on this machine: how far it is, how good, and what to do with it."))
    with guard():
        show_undo()
        list_predictions(tasks, jobs)
        _trainings(tasks, jobs, titles)
    show_asked(jobs)


def _trainings(tasks: Sequence[Task], jobs: Jobs, titles: Mapping[str, str]) -> None:
    rows = overviews(jobs)
    if not rows:
        first = next(iter(titles), "")
        empty_state(t("No runs yet. Start one on a task's **Train** page; it goes on when you close the browser."))
        if first:
            label = t("Train a model: {task}", task=titles[first])
            st.page_link(stage_page(first, "train"), label=label, icon=":material/model_training:")
        return
    states, task = _filters(rows, titles)
    live = any(row.active for row in rows)
    known = {task.name: task for task in tasks}
    st.fragment(_list, run_every=EVERY_S if live else IDLE_S)(known, jobs, tuple(states), task, live)


def _filters(rows: Sequence[Overview], titles: Mapping[str, str]) -> tuple[list[str], str | None]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        counts = {state: sum(row.state == state for row in rows) for state in STATES if state != "shipped"}
        words = {state: f"{t(state)} {n}" if n else t(state) for state, n in counts.items()}
        states = st.pills(
            t("State"), list(counts), selection_mode="multi", key="jobs-states", persist_state="session",
            format_func=words.__getitem__,
        )  # fmt: skip
        present = list(dict.fromkeys(row.run.task for row in rows))
        task = st.selectbox(
            t("Task"), present, index=None, placeholder=t("All tasks"), key=kept("jobs-task"), width=240, persist_state="session",
            format_func=lambda name: titles.get(name, name),
        )  # fmt: skip
    return states, task


def _list(tasks: Mapping[str, Task], jobs: Jobs, states: Sequence[str], task: str | None, live: bool) -> None:
    """The rows as they stand now; the whole page is drawn anew when the last run ends."""
    with guard():
        rows = overviews(jobs, task)
        if task is None and any(row.active for row in rows) != live:
            st.rerun()
        shown = [row for row in rows if not states or row.state in states]
        if not shown:
            empty_state(t("No run in this state. Clear the filter to see all."), ":material/filter_alt_off:")
            return
        headings = (t("Run"), t("State"), t("Progress"), t("Best on validation"), t("Where · age"), "")
        for cell, text in zip(st.columns(WIDTHS), headings, strict=True):
            cell.caption(text)
        pages = -(-len(shown) // PER_PAGE)
        page = st.session_state.get("jobs-page", 1) if pages > 1 else 1
        for row in shown[(min(page, pages) - 1) * PER_PAGE : min(page, pages) * PER_PAGE]:
            _row(row, tasks, jobs)
        if pages > 1:
            st.pagination(pages, key="jobs-page")


def _row(row: Overview, tasks: Mapping[str, Task], jobs: Jobs) -> None:
    titles = {name: title_of(task) for name, task in tasks.items()}
    say = tasks[row.run.task].say if row.run.task in tasks else english
    cells = st.columns(WIDTHS, vertical_alignment="center")
    with cells[0]:
        model = say(str(row.config.get("model") or "")) or (t("shipped") if row.run.shipped else "")
        about = " · ".join(filter(None, [titles.get(row.run.task, row.run.task), model]))
        run_link(row, titles, f"  \n:gray[:small[{plain(about)}]]")
    with cells[1]:
        state_badge("shipped" if row.run.shipped else row.state)
    with cells[2]:
        st.progress(row.status.progress, text=row.progress_text or None)
        if place := place_text(jobs, row):
            st.caption(place)
        elif ended := end_text(jobs, row):
            st.caption(plain(ended))
        elif row.status.reason and row.state != "done":
            st.caption(plain(spoken(row.status.why, say)))
    cells[3].markdown(
        f"{row.best}  \n:gray[:small[{axis_title(row.status.metric, row.status.unit, say)}]]" if row.status.metric else "–"
    )
    cells[4].markdown(f":gray[:small[{row.executor or '–'}  \n{row.age}]]")
    with cells[5], st.container(horizontal=True, gap="small", horizontal_alignment="right"):
        ask(row, "log", icon_only=True)
        for action in run_actions(row):
            ask(row, action, icon_only=True)
        if not row.run.shipped and not row.active:
            ask(row, "delete", icon_only=True)
