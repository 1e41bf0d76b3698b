"""The Train page: settings on the left, the chosen run live on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from lib.drawn import names as drawn_masks
from lib.labels import names as label_sets
from lib.runs import Run, create, sets
from lib.task import Panel, Task
from lib.ui.actions import ask, run_actions, show_asked
from lib.ui.cluster import PLACES, SLURM, cluster_form, end_text, log_text, place_text, script_box
from lib.ui.context import Jobs, WorkerLike, empty_state, guard, page_header, plain, query, set_query, stage_link
from lib.ui.curves import loss_curves, monitor_curve, words
from lib.ui.files import folders
from lib.ui.forms import config_form, fill_form
from lib.ui.panels import show_figure, show_panels
from lib.ui.rundata import Overview, metrics_of, overview, overviews, seconds_per_sample
from lib.ui.theme import duration, state_badge
from lib.ui.words import kept, t

EVERY_S = 2  # the trainer's heartbeat
LOG_LINES = 200


def train_page(task: Task, jobs: Jobs, worker: WorkerLike) -> None:
    """Settings, start, and the run named by `?run=` (else the newest) as it goes."""
    purpose = t("Train a model from {input} to {output}, in the background.",
                input=task.say(task.input_label), output=task.say(task.output_label))  # fmt: skip
    page_header(t("Train"), purpose, task)
    rows = overviews(jobs, task.name)
    left, right = st.columns([5, 7], gap="large")
    with left, guard():
        _new_run(task, jobs, worker, rows)
    with right, guard():
        _runs(task, jobs, rows)
    show_asked(jobs)


# --- a new run -------------------------------------------------------------------------------------------------------
def _new_run(task: Task, jobs: Jobs, worker: WorkerLike, rows: Sequence[Overview]) -> None:
    st.subheader(t("New run"), anchor=False)
    start, place = st.container(border=True), st.container()
    values = settings_form(task, rows)
    with start:
        name = st.text_input(t("Name"), key=f"{task.name}-train-name", max_chars=60, placeholder=t("optional, to find it again"))
        executor = executor_choice(jobs, f"{task.name}-train-executor")
    with place:
        cluster = _cluster(task, jobs, name or "") if executor == SLURM else {}
    executor = executor if cluster is not None else None
    with start:
        st.caption(_estimate(task, rows, values) if values else t("Mend the settings below, then start."))
        pressed = st.button(
            t("Start training"), type="primary", icon=":material/play_arrow:", key="start-training",
            disabled=values is None or executor is None, width="stretch",
        )  # fmt: skip
        folds = task.folds(task.Training.parse(values)) if values else []
        everything = len(folds) > 1 and st.button(
            t("Train all {n} folds, one after another", n=len(folds)), icon=":material/dynamic_feed:", key="start-folds",
            disabled=executor is None, width="stretch",
        )  # fmt: skip
        if values is not None and type(task).preview is not Task.preview:
            _preview(task, worker, values)
    if (pressed or everything) and values is not None and executor is not None:
        chosen = [fold.model_dump() for fold in folds] if everything else [values]
        _start(task, jobs, chosen, name.strip() if name else "", executor, cluster)


def settings_form(task: Task, rows: Sequence[Overview]) -> dict[str, Any] | None:
    """The settings of a training, shared by the pages that start one; None while a value is wrong."""
    key = f"{task.name}-train"
    offered = {"start_from": [""] + [row.run.id for row in rows if row.run.has_model()]}
    if "data" in task.Training.model_fields:
        offered |= {name: ["", *sets(task.name)] for name in ("data", "test_data") if name in task.Training.model_fields}
        _take_linked_set(key)
    if "labels" in task.Training.model_fields:
        offered |= {"labels": ["", *label_sets(task.name)], "data": _label_folders(task, offered["data"])}
    if "mask" in task.Training.model_fields:
        offered |= {"mask": ["", *drawn_masks(task.name)]}
    return config_form(
        task.Training, key, task.training_presets, columns=2, first_preset=True,
        folded=("optimiser", "compute"), choices=offered, subject=t("training settings"),
        say=task.say, reader=task.name,
    )  # fmt: skip


def _cluster(task: Task, jobs: Jobs, name: str) -> dict[str, Any] | None:
    """What to ask the cluster for, and the script that asks; None while a value is wrong."""
    slurm = jobs.executors()[SLURM]
    values = cluster_form(slurm, "train-cluster")
    if values is not None:
        script_box(slurm.preview(task.name, values, name))
    return values


def _start(
    task: Task, jobs: Jobs, chosen: Sequence[dict[str, Any]], name: str, executor: str, cluster: dict[str, Any] | None
) -> None:
    """Make and start the runs, with what they ask a cluster for; each waits for the one before. The first is shown."""
    started: list[Run] = []
    for number, values in enumerate(chosen, 1):
        called = f"{name or values['model']} {number}/{len(chosen)}" if len(chosen) > 1 else name
        run = create(task.name, values, called, executor, after=started[-1].id if started else "")
        if cluster:
            slurm = jobs.executors()[executor]
            slurm.assign(run, slurm.Settings.parse(cluster))
        jobs.start(run)
        started.append(run)
    set_query("run", started[0].id)
    st.toast(t("Started {name}", name=", ".join(run.id for run in started[:3])), icon=":material/play_arrow:")
    st.rerun()


def _preview(task: Task, worker: WorkerLike, values: dict[str, Any]) -> None:
    """What these settings would learn from, made when it is asked for and shown while the settings stay."""
    key = f"{task.name}-train-preview"
    with st.expander(t("What it will learn from"), icon=":material/bar_chart:"):
        if st.button(t("Look at the data"), key=f"{key}-button"):
            with st.spinner(t("Reading the data …"), show_time=True):
                payload = {"task": task.name, "training": values, "language": task.language}
                st.session_state[key] = (values, worker.request("preview", payload)["panels"])
        seen, panels = st.session_state.get(key, (None, []))
        if seen == values:
            show_panels([Panel.from_json(panel) for panel in panels], key, columns=1)


def _take_linked_set(key: str) -> None:
    """`?data=` in the address chooses the set to train on, once."""
    linked = query("data")
    if linked and linked != st.session_state.get(f"{key}:linked"):
        st.session_state[f"{key}:linked"] = linked
        fill_form(key, {"data": linked})


def _label_folders(task: Task, kept_sets: Sequence[str]) -> list[str]:
    """The kept sets, then the other folders under the task's data with files of it."""
    own = f"{task.name}/"
    there = [name.removeprefix(own) for name in folders(task) if name.startswith(own)]
    return list(dict.fromkeys([*kept_sets, *there]))


def executor_choice(jobs: Jobs, key: str) -> str | None:
    """Where to run: what is there, and why the others are not."""
    found = {name: executor.available() for name, executor in jobs.executors().items()}
    usable = [name for name, (there, _) in found.items() if there]
    for name, (there, why) in found.items():
        if not there:
            st.caption(f"{t(PLACES.get(name, name))}: {t(why)}")
    if not usable:
        st.error(t("No place to run a training was found on this machine."), icon=":material/error:")
        return None
    if len(usable) == 1:
        return usable[0]
    chosen: str | None = st.segmented_control(
        t("Run on"), usable, default=usable[0], required=True, key=kept(key), persist_state="session",
        format_func=lambda name: t(PLACES.get(name or "", name or "")),
    )  # fmt: skip
    return chosen


def _estimate(task: Task, rows: Sequence[Overview], values: dict[str, Any]) -> str:
    """How long it will take, from the seconds that an earlier run of the same model took per sample."""
    measured = seconds_per_sample(rows, task.Training, values)
    if measured is None:
        return t("No earlier run of this model to estimate the time from; after the first epoch the page shows the time left.")
    seconds, samples, row = measured
    told = (float(value) for name, value in values.items() if name.endswith("_per_epoch") and not values.get("labels"))
    per_epoch = next(told, samples)  # how many are labelled nobody types
    config = task.Training.parse(values)
    total = duration(seconds * per_epoch * sum(config.effort(epoch) for epoch in range(config.epochs)))
    pace = float(f"{1e3 * seconds:.2g}")
    return t(
        "Roughly **{total}** for {epochs} epochs ({pace:g} ms per new sample, as in {run}).",
        total=total, epochs=values["epochs"], pace=pace, run=plain(row.name),
    )  # fmt: skip


# --- the chosen run --------------------------------------------------------------------------------------------------
def _runs(task: Task, jobs: Jobs, rows: Sequence[Overview]) -> None:
    own = [row for row in rows if not row.run.shipped]
    linked = next((row for row in rows if row.run.id == query("run")), None)
    st.subheader(t("Runs"), anchor=False)
    if query("run") and linked is None:
        text = t("There is no run {run} of this task; it may have been deleted.", run=repr(query("run")))
        st.warning(text, icon=":material/search_off:")
    listed = [*own, *([linked] if linked and linked not in own else [])]
    if not listed:
        empty_state(t("No run yet. Choose a preset on the left and press **Start training**: its curves and log appear here."))
        return
    by_id = {row.run.id: row for row in listed}
    labels = {name: row.label for name, row in by_id.items()}
    chosen = st.selectbox(
        t("Run"), list(by_id), index=list(by_id).index(linked.run.id) if linked else 0, format_func=labels.__getitem__,
        label_visibility="collapsed",
    )  # fmt: skip
    set_query("run", chosen)
    row = by_id[chosen]
    st.fragment(_live, run_every=EVERY_S if row.active else None)(task, row, jobs)


def _live(task: Task, before: Overview, jobs: Jobs) -> None:
    """The run as it stands now; when it ends, the whole page is drawn anew."""
    with guard():
        row = overview(before.run, jobs)
        if row.active != before.active:
            st.rerun()
        _facts(task, row, jobs)
        _curves(task, row)
        _actions(row)
        st.markdown(f"###### {t('Log')}")
        log = log_text(jobs, row.run, LOG_LINES)
        with st.container(height=260, autoscroll=True, border=False):
            st.code(log or t("Nothing logged yet."), language=None, wrap_lines=True)


def _facts(task: Task, row: Overview, jobs: Jobs) -> None:
    status = row.status
    with st.container(horizontal=True, vertical_alignment="center"):
        state_badge(row.state)
        st.caption(" · ".join(filter(None, [row.run.id, t("made {age}", age=row.age), row.executor])))
    st.progress(status.progress, text=row.progress_text or None)
    if place := place_text(jobs, row):
        st.caption(f":material/dns: {place}")
    ended = end_text(jobs, row)
    if row.active and status.reason:
        st.info(plain(task.tell(status.why)), icon=":material/pause_circle:")
    elif ended:
        st.error(plain(ended), icon=":material/error:")
    elif status.reason and row.state != "done":
        st.error(plain(task.tell(status.why)), icon=":material/error:")
    elif row.state == "lost":
        text = t("Its process is gone without a word. Resume goes on from the last finished epoch.")
        st.warning(text, icon=":material/link_off:")
    cells = st.columns([2, 2, 2, 3])
    cells[0].metric(t("Epoch"), f"{status.epoch} / {status.epochs}")
    cells[1].metric(t("Time left"), duration(status.eta_s) if row.state == "running" else "–")
    cells[2].metric(t("Took") if not row.active else t("Running for"), "–" if status.took_s is None else duration(status.took_s))
    where = t("epoch {n}", n=status.best_epoch) if status.best_epoch is not None else None
    best = t("Best {value}", value=words(status.metric or task.monitor.name, status.unit or task.monitor.unit, task.say))
    cells[3].metric(best, row.best, where, delta_color="off", delta_arrow="off")


def _curves(task: Task, row: Overview) -> None:
    metrics = metrics_of(row.run)
    if metrics.empty:
        if row.active:
            empty_state(t("The curves begin with the first finished epoch."), ":material/show_chart:")
        return
    log_y = st.toggle(t("Log loss axis"), key=f"log-axis-{row.run.id}")
    figures = {"loss": loss_curves(metrics, row.status, log_y), "monitor": monitor_curve(metrics, row.status, task.say)}
    for cell, (name, fig) in zip(st.columns(2), figures.items(), strict=True):
        with cell:
            show_figure(fig, f"{name}-{row.run.id}")


def _actions(row: Overview) -> None:
    with st.container(horizontal=True):
        if row.state == "done":
            stage_link(row.run.task, "results", t("Result sheet"), run=row.run.id)
        if row.run.has_model() and not row.active:
            stage_link(row.run.task, "predict", t("Use this model"), run=row.run.id)
        if sweep := str(row.run.about().get("sweep") or ""):
            stage_link(row.run.task, "sweep", t("Its sweep"), sweep=sweep)
        for action in run_actions(row):
            ask(row, action)
