"""Predictions of many files in the background: offered on the Predict page, followed and taken away on the Jobs page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from lib import bulk
from lib.bulk import Request
from lib.runs import Run
from lib.task import Task
from lib.ui.actions import ask, run_actions
from lib.ui.cluster import SLURM, cluster_form, script_box
from lib.ui.context import Jobs, core_page, guard, plain, title_of
from lib.ui.files import FOLDER, Chosen, counted, folders, zip_files
from lib.ui.rundata import Overview, overview
from lib.ui.theme import duration, state_badge
from lib.ui.train import executor_choice
from lib.ui.words import language, speaking, t
from lib.words import core, english, spoken

EVERY_S = 2
PER_PAGE = 8
WIDTHS = [3.2, 1.3, 2.6, 1.9, 3.2]
NOT_TAKEN = ("config.json", "status.json", "proc.json", "log.txt", "panels.json")  # of the job and the page, not of the result


# --- on the Predict page ------------------------------------------------------------------------------------------------
def offer(task: Task, model: Run, chosen: Chosen | None, acquisition: Mapping[str, Any] | None, jobs: Jobs) -> None:
    """For a folder of many files: a button that has them predicted in the background."""
    if chosen is None or acquisition is None or chosen.identity[0] != FOLDER:
        return
    n = folders(task).get(chosen.identity[1], 0)
    if n <= bulk.MANY_FILES:
        return
    text = t(
        "{files}: that takes a while, and this page would have to stay open. In the background they are predicted part by part; "
        "you can close the browser, and an interruption costs one part at most.", files=counted(n),
    )  # fmt: skip
    st.info(text, icon=":material/stacks:")
    executor = executor_choice(jobs, f"{task.name}-predict-executor")
    cluster = _cluster(task, jobs, bulk.parts_for(n)) if executor == SLURM else {}
    ready = executor is not None and cluster is not None
    pressed = st.button(
        t("Predict in the background"), key=f"{task.name}-predict-bulk", icon=":material/stacks:", disabled=not ready
    )
    if pressed and executor is not None and cluster is not None:
        _start(task, model, chosen, acquisition, jobs, executor, cluster)
    if started := st.session_state.get(f"{task.name}-predict-bulk-started"):
        st.success(t("Started: {name}. The Jobs page shows how far it is, and has the result.", name=plain(started)))
        st.page_link(core_page("jobs"))


def _cluster(task: Task, jobs: Jobs, n_parts: int) -> dict[str, Any] | None:
    """What to ask the cluster for, and the script of the job array that asks; None while a value is wrong."""
    slurm = jobs.executors()[SLURM]
    values = cluster_form(slurm, "predict-cluster")
    if values is not None:
        folder = bulk.predictions_dir() / task.name / "PREDICTION"
        script_box(slurm.preview_parts(folder, bulk.part_command(task.name, folder), range(n_parts), values))
    return values


def _start(
    task: Task, model: Run, chosen: Chosen, acquisition: Mapping[str, Any], jobs: Jobs, executor: str, cluster: dict[str, Any]
) -> None:
    source = chosen.take()
    request = Request(
        task=task.name, model=f"{model.task}/{model.id}", inputs=tuple((str(path), name) for path, name in source.files),
        acquisition=dict(acquisition), parts=bulk.parts_for(len(source.files)), language=task.language,
        browser=True, executor=executor, cluster=cluster,
    )  # fmt: skip
    name = f"{source.label} · {counted(len(source.files))}"
    jobs.start(bulk.create(bulk.new_folder(task.name), request, name), keep=True)
    st.session_state[f"{task.name}-predict-bulk-started"] = name


# --- on the Jobs page -----------------------------------------------------------------------------------------------------
def list_predictions(tasks: Sequence[Task], jobs: Jobs) -> None:
    """Every prediction that was started in the background, live; nothing where there is none."""
    found = bulk.list_bulk()
    if not found:
        return
    st.subheader(t("Predictions in the background"), anchor=False)
    live = any(_row(run, jobs).active for run in found)
    st.fragment(_list, run_every=EVERY_S if live else None)({task.name: task for task in tasks}, jobs)
    st.subheader(t("Trainings"), anchor=False)


def _row(run: Run, jobs: Jobs) -> Overview:
    row = overview(run, jobs)
    return replace(row, status=bulk.status_of(run), executor=str(row.config.get("executor", row.executor)))


def _list(tasks: Mapping[str, Task], jobs: Jobs) -> None:
    with guard():
        found = bulk.list_bulk()
        pages = -(-len(found) // PER_PAGE)
        page = min(pages, st.session_state.get("bulk-page", 1)) if pages > 1 else 1
        for run in found[(page - 1) * PER_PAGE : page * PER_PAGE]:
            _show(_row(run, jobs), tasks, jobs)
        if pages > 1:
            st.pagination(pages, key="bulk-page")


def _show(row: Overview, tasks: Mapping[str, Task], jobs: Jobs) -> None:
    task, folder = tasks.get(row.run.task), row.run.folder
    cells = st.columns(WIDTHS, vertical_alignment="center")
    cells[0].markdown(f"{plain(row.name)}  \n:gray[:small[{title_of(task) if task else plain(row.run.task)}]]")
    with cells[1]:
        state_badge(row.state)
    with cells[2]:
        st.progress(row.status.progress, text=_progress(row))
        if row.status.reason and row.state != "done":
            st.caption(plain(spoken(row.status.why, task.say if task else english, task.tell if task else english)))
        elif not row.active and not row.status.finished:
            st.caption(plain(spoken(jobs.end(row.run).reason, speaking(), core(language()))))
    cells[3].markdown(f":gray[:small[{row.executor}  \n{row.age}]]")
    with cells[4], st.container(horizontal=True, gap="small", horizontal_alignment="right"):
        if row.state == "done":
            st.download_button(
                t("Download everything"), lambda: taken_away(folder), f"{row.run.task}-{row.run.id}.zip", "application/zip",
                key=f"bulk-zip-{row.run.id}", on_click="ignore", icon=":material/folder_zip:",
            )  # fmt: skip
        ask(row, "log", icon_only=True)
        for action in run_actions(row):
            ask(row, action, icon_only=True)
        if not row.active:
            ask(row, "delete", icon_only=True)


def _progress(row: Overview) -> str:
    """How many parts, and the time left."""
    status = row.status
    if row.state == "queued" and not status.epoch:
        return t("waiting to start")
    parts = t("{n} of {all} parts", n=status.epoch, all=status.epochs)
    if row.state == "running" and status.eta_s is not None:
        return t("{epochs} · {time} left", epochs=parts, time=duration(status.eta_s))
    return parts


def taken_away(folder: Path) -> bytes:
    """Every file of a prediction that people or programs read, as a ZIP: not what a page or a job is made of."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in NOT_TAKEN)
    return zip_files((path.name, path.read_bytes()) for path in paths)
