"""The Results page: runs in a table; one gives its sheet, several give a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import streamlit as st

from lib.runs import TEST_ROW, Run, part, tested
from lib.task import InputError, Panel, Task
from lib.ui.context import Jobs, WorkerLike, empty_state, guard, page_header, plain, query, set_query, stage_link
from lib.ui.curves import axis_title, monitor_curve, overlay, words
from lib.ui.panels import show_figure, show_panels
from lib.ui.promise import TURN, another_promise, joint_sheet
from lib.ui.rundata import (
    Overview,
    differing,
    export_name_of,
    metrics_of,
    overviews,
    settings_of,
    sheet_of,
    test_csv,
    tested_on,
)
from lib.ui.theme import duration, number
from lib.ui.words import t
from lib.words import core

SHOWN_SETTINGS = 8  # columns of settings that differ; the comparison shows them all


def results_page(task: Task, jobs: Jobs, worker: WorkerLike) -> None:
    """Table of runs, then the sheet of the one chosen or the comparison of several."""
    purpose = t("Review how good each model is on samples it never saw, and compare models.")
    page_header(t("Results"), purpose, task)
    rows = [row for row in overviews(jobs, task.name) if row.state != "queued"]
    if not rows:
        empty_state(t("No model of this task yet. Train one: its result sheet appears here."))
        stage_link(task.name, "train", t("Train a model"))
        return
    rows = by_value(rows)
    chosen = _choose(task, rows)
    if len(chosen) > 1:
        with guard():
            _comparison(task, chosen, worker)
    elif chosen:
        with guard():
            _one(task, chosen[0], worker)
    else:
        empty_state(t("Tick a run to see its sheet; tick two or more to compare them."), ":material/check_box:")


def by_value(rows: Sequence[Overview]) -> list[Overview]:
    """Best value on validation first; runs without one last."""

    def rank(row: Overview) -> tuple[bool, float]:
        value = row.status.best_value
        return value is None, 0.0 if value is None else value if row.status.goal == "min" else -value

    return sorted(rows, key=rank)


def runs_table(task: Task, rows: Sequence[Overview]) -> pd.DataFrame:
    """One row per run: name, model, state, best value, and only the settings that differ between the runs."""
    status = next((row.status for row in rows if row.status.metric), rows[0].status)
    best = t("best {value}", value=axis_title(status.metric, status.unit, task.say)) if status.metric else t("best")
    exported = [export_name_of(row, task) for row in rows]
    table = pd.DataFrame(
        {
            t("run"): [row.name for row in rows],
            t("model"): [task.say(str(row.config.get("model", ""))) for row in rows],
            best: [row.status.best_value for row in rows],
            t("best epoch"): pd.array([row.status.best_epoch for row in rows], dtype="Int64"),
            t("state"): [t("shipped" if row.run.shipped else row.state) for row in rows],
            t("epochs"): [f"{row.status.epoch} / {row.status.epochs}" for row in rows],
            t("made"): pd.to_datetime(pd.Series([row.status.created_at for row in rows]), unit="s", utc=True),
        }
    )
    settings = settings_of(task, rows)
    names = [name for name in differing(settings) if name not in ("model", "epochs", "start_from")][:SHOWN_SETTINGS]
    if any(exported):
        table[t("exported as")] = exported
    return table.assign(**{name: [_plain_cell(one.get(name)) for one in settings] for name in names})


def _plain_cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)


def _choose(task: Task, rows: Sequence[Overview]) -> list[Overview]:
    """The table; its ticks start from `?run=`, else from the best run, and are written back there.

    Ticks are row numbers, so a new order of rows is a new table, which starts again from the runs in the address.
    """
    wanted = query("run").split(",")
    linked = [i for i, row in enumerate(rows) if row.run.id in wanted]
    default: Any = {"selection": {"rows": linked or [0], "columns": [], "cells": []}}
    table = runs_table(task, rows)
    event: Any = st.dataframe(
        table, hide_index=True, on_select="rerun", selection_mode="multi-row", selection_default=default,
        key=f"runs-{hash(tuple(row.run.id for row in rows))}-{st.session_state.get(TURN, 0)}",
        height="auto" if len(rows) <= 8 else 330, placeholder="–",
        column_config={
            t("run"): st.column_config.TextColumn(pinned=True, width="medium"),
            table.columns[2]: st.column_config.NumberColumn(format="%.4g", help=t("Best on validation, not the last")),
            t("exported as"): st.column_config.TextColumn(width="medium"),
            t("made"): st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
        },
    )  # fmt: skip
    chosen = [rows[i] for i in event.selection.rows if i < len(rows)]
    set_query("run", ",".join(row.run.id for row in chosen))
    return chosen


# --- one run ---------------------------------------------------------------------------------------------------------
def _one(task: Task, row: Overview, worker: WorkerLike) -> None:
    st.subheader(plain(row.name), anchor=False)
    sheet = sheet_of(row.run)
    with st.container(horizontal=True, vertical_alignment="center"):
        if row.run.has_model():
            stage_link(row.run.task, "predict", t("Use this model"), run=row.run.id)
        if not row.run.shipped:
            stage_link(row.run.task, "train", t("Training and log"), run=row.run.id)
        _downloads(task, row.run, worker, sheet is not None)
    if sheet is None:
        _no_sheet(task, row, worker)
        return
    _metrics(task, sheet["metrics"])
    st.caption(t("Tested on {samples}.", samples=tested(sheet, core(task.language))))
    with guard():
        behind = partial(samples_behind, task, row.run)
        show_panels([Panel.from_json(panel) for panel in _panels(task, sheet)], f"sheet-{row.run.id}", behind=behind)
    if task.decides:
        with st.expander(t("Decide by another promise"), icon=":material/balance:"), guard():
            another_promise(task, row.run, worker)
    with st.expander(t("Where this model comes from"), icon=":material/fingerprint:"), guard():
        _provenance(task, sheet["provenance"])


def samples_behind(task: Task, run: Run, numbers: Sequence[int]) -> list[Panel]:
    """What test samples of these numbers look like, as far as they were kept with the run."""
    samples, table = run.test_samples(), run.test_predictions()
    if samples is None or table is None:
        return []
    kept = {int(number): place for place, number in enumerate(samples.table[TEST_ROW])}
    found = [number for number in numbers if number in kept]
    predicted = part(table.iloc[found], "predicted.").reset_index(drop=True)
    return task.knowing(run.facts()).behind_panels(predicted, samples.take([kept[n] for n in found])) if found else []


def _panels(task: Task, sheet: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sheet's panels in the reader's language, in English where the sheet has no other."""
    told: list[dict[str, Any]] | None = sheet.get("translations", {}).get(task.language)
    if told is None and task.language in task.languages()[1:]:
        st.caption(t("This sheet was built before it could be in this language, so its figures are in English."))
    return told if told is not None else list(sheet["panels"])


def _no_sheet(task: Task, row: Overview, worker: WorkerLike) -> None:
    """Why there is no sheet, and what to do."""
    metrics = metrics_of(row.run)
    if test_csv(row.run) is not None:
        empty_state(t("This run has test predictions, but its sheet was not built."))
        if st.button(t("Build the sheet"), key="build-sheet", type="primary"):
            with st.spinner(t("Building the sheet…")), TemporaryDirectory() as folder:
                worker.request("sheet", _payload(task, row.run, folder, "html"))
            st.rerun()
    elif row.active:
        text = t("Still training ({progress}). The sheet comes when it is done.", progress=row.progress_text)
        empty_state(text, ":material/progress_activity:")
    else:
        why = t("This run is {state}, so it has no result sheet.", state=t(row.state))
        empty_state(" ".join(filter(None, [why, plain(task.tell(row.status.why)), t("Resume it on the Train page.")])))
    if not metrics.empty and row.status.metric in metrics:
        show_figure(monitor_curve(metrics, row.status, task.say), f"monitor-{row.run.id}")


def _metrics(task: Task, metrics: Sequence[Mapping[str, Any]]) -> None:
    """The figures of merit; the selecting one and its neighbours large, all of them as a table."""
    for metric, cell in zip(metrics, st.columns(4), strict=False):
        span = None if metric["low"] is None else t("{low} to {high}", low=number(metric["low"]), high=number(metric["high"]))
        told = t("`{name}` on the test samples; below it the 95 % bootstrap interval.", name=metric["name"])
        cell.metric(
            words(metric["name"], metric["unit"], task.say), number(metric["value"], metric["unit"]), span,
            delta_color="off", delta_arrow="off", border=True, help=told,
        )  # fmt: skip
    if len(metrics) > 4:
        with st.expander(t("All {n} figures of merit", n=len(metrics))):
            st.dataframe(metrics_table(task, metrics), hide_index=True, width="stretch")


def metrics_table(task: Task, metrics: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Figures of merit with their 95 % intervals, one row each."""
    rows = [(words(m["name"], m["unit"], task.say), m["value"], m["low"], m["high"], m["unit"]) for m in metrics]
    return pd.DataFrame(rows, columns=[t("figure of merit"), t("value"), t("95 % low"), t("95 % high"), t("unit")])


def _provenance(task: Task, made: Mapping[str, Any]) -> None:
    st.markdown(f"{core(task.language)(made['unseen'])} {t('Trained in {time}.', time=duration(made['seconds']))}")
    st.markdown(t("To make it again:"))
    st.code(made["command"], language="bash", wrap_lines=True)
    left, right = st.columns([3, 2])
    left.dataframe(_two_columns(made["config"], t("setting")), hide_index=True, width="stretch", height=320)
    right.dataframe(_two_columns(made["versions"], t("version of")), hide_index=True, width="stretch")


def _two_columns(values: Mapping[str, Any], name: str) -> pd.DataFrame:
    return pd.DataFrame([(key, str(value)) for key, value in values.items()], columns=[name, t("value")])


# --- downloads -------------------------------------------------------------------------------------------------------
def _payload(task: Task, run: Run, folder: str, form: str) -> dict[str, Any]:
    return {
        "task": run.task, "run": f"{run.task}/{run.id}", "format": form, "output": folder, "language": task.language,
    }  # fmt: skip


def _downloads(task: Task, run: Run, worker: WorkerLike, has_sheet: bool) -> None:
    """What can be taken away: files that exist at once, made ones through the worker when they are asked for."""
    ready: list[tuple[str, str, str]] = []
    if has_sheet:
        ready += [(t("Sheet (HTML)"), "sheet", "html"), (t("Sheet (PDF)"), "sheet", "pdf")]
    if run.has_model():
        ready += [(t("Model (ONNX)"), "export", "onnx"), (t("Model (safetensors)"), "export", "safetensors")]
    with st.popover(t("Download"), icon=":material/download:", key=f"downloads-{run.id}"):
        for label, op, form in ready:
            _made_download(task, run, worker, label, op, form)
        csv = test_csv(run) if has_sheet else None
        if csv is not None:
            st.download_button(
                t("Test predictions (CSV)"), csv, f"{run.id}-test.csv", "text/csv", on_click="ignore", width="stretch"
            )
        card = run.folder / "model_card.md"
        if card.exists():
            text = card.read_text(encoding="utf-8")
            st.download_button(t("Model card"), text, f"{run.id}.md", "text/markdown", on_click="ignore", width="stretch")
        if not ready and csv is None:
            st.caption(t("Nothing to download before the first epoch is done."))


def _made_download(task: Task, run: Run, worker: WorkerLike, label: str, op: str, form: str) -> None:
    """First a button that has the file made, then one that saves it: so that what goes wrong can be told."""
    key = f"{op}-{form}-{run.id}"
    slot = f"made-{key}" if op != "sheet" or task.language == "en" else f"made-{key}-{task.language}"
    made: tuple[str, bytes] | None = st.session_state.get(slot)
    place = st.empty()
    make = t("Make {file}", file=label)
    if made is None and place.button(make, key=f"make-{key}", width="stretch", icon=":material/build:"):
        with guard(), st.spinner(t("Making the file…")):
            made = st.session_state[slot] = make_file(task, run, worker, op, form)
    if made is not None:
        place.download_button(
            t("Save {file}", file=label), made[1], made[0], key=f"save-{key}", on_click="ignore", type="primary", width="stretch",
            icon=":material/download:",
        )  # fmt: skip


def make_file(task: Task, run: Run, worker: WorkerLike, op: str, form: str) -> tuple[str, bytes]:
    """Name and content of a file that the worker makes of a run. Raises InputError."""
    with TemporaryDirectory(prefix="lightbench-") as folder:
        path = Path(worker.request(op, _payload(task, run, folder, form))["path"])
        if not path.is_file():
            raise InputError(run.id, t("the {form} file was not made", form=form), t("See the log of the server."))
        name = path.name if op == "export" else f"{run.id}{path.suffix}"  # the task names its models
        return name, path.read_bytes()


# --- several runs ----------------------------------------------------------------------------------------------------
def _comparison(task: Task, rows: Sequence[Overview], worker: WorkerLike) -> None:
    st.subheader(t("{n} runs side by side", n=len(rows)), anchor=False)
    if type(task).folds is not Task.folds:
        joint_sheet(task, [row.run for row in rows], worker)
    labels = unique_labels(rows)
    st.markdown("##### " + t("Figures of merit on test samples, with 95 % intervals"))
    _merits(task, rows, labels)
    with guard():
        _overlaid(task, rows, labels)
    st.markdown("##### " + t("Settings that differ"))
    settings = settings_table(task, rows, labels)
    if settings.empty:
        st.caption(t("All settings are the same."))
    else:
        st.dataframe(settings, hide_index=True, width="stretch", height="auto" if len(settings) < 12 else 430)


def _merits(task: Task, rows: Sequence[Overview], labels: Sequence[str]) -> None:
    """The table of figures of merit, which runs lack them, and whether they are of the same test."""
    merits = merit_table(task, rows, labels)
    if merits.empty:
        empty_state(t("None of these runs has a result sheet yet."))
        return
    if len({tested_on(row.run) for row in rows} - {""}) > 1:
        text = t("These runs were not all tested on the same samples: part of their difference may be one of the tests.")
        st.warning(text, icon=":material/compare_arrows:")
    st.dataframe(merits, hide_index=True, width="stretch")
    for row, label in zip(rows, labels, strict=True):
        if label not in merits:
            why = plain(" · ".join(filter(None, [t(row.state), task.tell(row.status.why)])))
            st.caption(t("{name} has no result sheet ({why}).", name=plain(label), why=why))


def _overlaid(task: Task, rows: Sequence[Overview], labels: Sequence[str]) -> None:
    metrics = {label: metrics_of(row.run) for label, row in zip(labels, rows, strict=True)}
    status = next((row.status for row in rows if row.status.metric), rows[0].status)
    log_y = st.toggle(t("Log axes"), key="compare-log")
    best = words(status.metric, status.unit, task.say)
    shown = (
        (status.metric, t("{value} on validation", value=best), axis_title(status.metric, status.unit, task.say)),
        ("validation_loss", t("validation loss"), t("validation loss")),
    )
    for (column, title, axis), cell in zip(shown, st.columns(2), strict=True):
        with cell:
            st.markdown(f"##### {title[:1].upper()}{title[1:]}")
            show_figure(overlay(metrics, column, axis, log_y), f"compare-{column}")


def unique_labels(rows: Sequence[Overview]) -> list[str]:
    """Names of the runs, with the end of the id where two share a name."""
    names = [row.name for row in rows]
    return [name if names.count(name) == 1 else f"{name} ({row.run.id[-4:]})" for name, row in zip(names, rows, strict=True)]


def merit_table(task: Task, rows: Sequence[Overview], labels: Sequence[str]) -> pd.DataFrame:
    """One row per figure of merit, the test before them, one column per run that has a sheet: values with their intervals."""
    sheets = {label: sheet_of(row.run) for row, label in zip(rows, labels, strict=True)}
    columns = {
        label: {t("tested on"): tested(one, core(task.language))}
        | {words(m["name"], m["unit"], task.say): _with_interval(m) for m in one["metrics"]}
        for label, one in sheets.items() if one
    }  # fmt: skip
    return pd.DataFrame(columns).fillna("–").rename_axis(t("figure of merit")).reset_index()


def _with_interval(metric: Mapping[str, Any]) -> str:
    value = number(metric["value"], metric["unit"])
    span = t("{low} to {high}", low=number(metric["low"]), high=number(metric["high"]))
    return value if metric["low"] is None else f"{value} ({span})"


def settings_table(task: Task, rows: Sequence[Overview], labels: Sequence[str]) -> pd.DataFrame:
    """Only the settings that differ, one row each, one column per run."""
    settings = settings_of(task, rows)
    names = differing(settings, ignore=())
    columns = {label: [str(one.get(name, "–")) for name in names] for label, one in zip(labels, settings, strict=True)}
    return pd.DataFrame({t("setting"): names} | columns)
