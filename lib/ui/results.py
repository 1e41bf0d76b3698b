"""The Results page: runs in a table; one gives its sheet, several give a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import streamlit as st

from lib.runs import Run
from lib.task import InputError, Panel, Task
from lib.ui.context import Jobs, WorkerLike, empty_state, guard, page_header, plain, query, set_query, stage_link
from lib.ui.curves import axis_title, monitor_curve, overlay, words
from lib.ui.panels import show_figure, show_panels
from lib.ui.rundata import Overview, differing, metrics_of, overviews, sheet_of, test_csv
from lib.ui.theme import duration, number

SHOWN_SETTINGS = 8  # columns of settings that differ; the comparison shows them all


def results_page(task: Task, jobs: Jobs, worker: WorkerLike) -> None:
    """Table of runs, then the sheet of the one chosen or the comparison of several."""
    page_header("Results", "Review how good each model is on samples it never saw, and compare models.", task)
    rows = [row for row in overviews(jobs, task.name) if row.state != "queued"]
    if not rows:
        empty_state("No model of this task yet. Train one: its result sheet appears here.")
        stage_link(task.name, "train", "Train a model")
        return
    rows = by_value(rows)
    chosen = _choose(rows)
    if len(chosen) > 1:
        with guard():
            _comparison(chosen)
    elif chosen:
        with guard():
            _one(chosen[0], worker)
    else:
        empty_state("Tick a run to see its sheet; tick two or more to compare them.", ":material/check_box:")


def by_value(rows: Sequence[Overview]) -> list[Overview]:
    """Best value on validation first; runs without one last."""

    def rank(row: Overview) -> tuple[bool, float]:
        value = row.status.best_value
        return value is None, 0.0 if value is None else value if row.status.goal == "min" else -value

    return sorted(rows, key=rank)


def runs_table(rows: Sequence[Overview]) -> pd.DataFrame:
    """One row per run: name, model, state, best value, and only the settings that differ between the runs."""
    status = next((row.status for row in rows if row.status.metric), rows[0].status)
    best = f"best {axis_title(status.metric, status.unit)}" if status.metric else "best"
    table = pd.DataFrame(
        {
            "run": [row.name for row in rows],
            "model": [str(row.config.get("model", "")) for row in rows],
            best: [row.status.best_value for row in rows],
            "best epoch": pd.array([row.status.best_epoch for row in rows], dtype="Int64"),
            "state": ["shipped" if row.run.shipped else row.state for row in rows],
            "epochs": [f"{row.status.epoch} / {row.status.epochs}" for row in rows],
            "made": pd.to_datetime(pd.Series([row.status.created_at for row in rows]), unit="s", utc=True),
        }
    )
    names = [name for name in differing(rows) if name not in ("model", "epochs", "start_from")][:SHOWN_SETTINGS]
    return table.assign(**{name: [_plain_cell(row.config.get(name)) for row in rows] for name in names})


def _plain_cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)


def _choose(rows: Sequence[Overview]) -> list[Overview]:
    """The table; its ticks start from `?run=`, else from the best run, and are written back there.

    Ticks are row numbers, so a new order of rows is a new table, which starts again from the runs in the address.
    """
    wanted = query("run").split(",")
    linked = [i for i, row in enumerate(rows) if row.run.id in wanted]
    default: Any = {"selection": {"rows": linked or [0], "columns": [], "cells": []}}
    table = runs_table(rows)
    event: Any = st.dataframe(
        table, hide_index=True, on_select="rerun", selection_mode="multi-row", selection_default=default,
        key=f"runs-{hash(tuple(row.run.id for row in rows))}", height="auto" if len(rows) <= 8 else 330, placeholder="–",
        column_config={
            "run": st.column_config.TextColumn(pinned=True, width="medium"),
            table.columns[2]: st.column_config.NumberColumn(format="%.4g", help="Best on validation, not the last"),
            "made": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
        },
    )  # fmt: skip
    chosen = [rows[i] for i in event.selection.rows if i < len(rows)]
    set_query("run", ",".join(row.run.id for row in chosen))
    return chosen


# --- one run ---------------------------------------------------------------------------------------------------------
def _one(row: Overview, worker: WorkerLike) -> None:
    st.subheader(plain(row.name), anchor=False)
    sheet = sheet_of(row.run)
    with st.container(horizontal=True, vertical_alignment="center"):
        if row.run.has_model():
            stage_link(row.run.task, "predict", "Use this model", run=row.run.id)
        if not row.run.shipped:
            stage_link(row.run.task, "train", "Training and log", run=row.run.id)
        _downloads(row.run, worker, sheet is not None)
    if sheet is None:
        _no_sheet(row, worker)
        return
    _metrics(sheet["metrics"])
    with guard():
        show_panels([Panel.from_json(panel) for panel in sheet["panels"]], f"sheet-{row.run.id}")
    with st.expander("Where this model comes from", icon=":material/fingerprint:"), guard():
        _provenance(sheet["provenance"])


def _no_sheet(row: Overview, worker: WorkerLike) -> None:
    """Why there is no sheet, and what to do."""
    metrics = metrics_of(row.run)
    if test_csv(row.run) is not None:
        empty_state("This run has test predictions, but its sheet was not built.")
        if st.button("Build the sheet", key="build-sheet", type="primary"):
            with st.spinner("Building the sheet…"), TemporaryDirectory() as folder:
                worker.request("sheet", _payload(row.run, folder, "html"))
            st.rerun()
    elif row.active:
        empty_state(f"Still training ({row.progress_text}). The sheet comes when it is done.", ":material/progress_activity:")
    else:
        reason = f" {plain(row.status.reason)}" if row.status.reason else ""
        empty_state(f"This run is {row.state}, so it has no result sheet.{reason} Resume it on the Train page.")
    if not metrics.empty and row.status.metric in metrics:
        show_figure(monitor_curve(metrics, row.status), f"monitor-{row.run.id}")


def _metrics(metrics: Sequence[Mapping[str, Any]]) -> None:
    """The figures of merit; the selecting one and its neighbours large, all of them as a table."""
    for metric, cell in zip(metrics, st.columns(4), strict=False):
        span = None if metric["low"] is None else f"{number(metric['low'])} to {number(metric['high'])}"
        name, told = words(metric["name"], metric["unit"]), "on the test samples; below it the 95 % bootstrap interval."
        cell.metric(
            name, number(metric["value"], metric["unit"]), span, delta_color="off", delta_arrow="off", border=True,
            help=f"`{metric['name']}` {told}",
        )  # fmt: skip
    if len(metrics) > 4:
        with st.expander(f"All {len(metrics)} figures of merit"):
            st.dataframe(metrics_table(metrics), hide_index=True, width="stretch")


def metrics_table(metrics: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Figures of merit with their 95 % intervals, one row each."""
    rows = [(m["name"], m["value"], m["low"], m["high"], m["unit"]) for m in metrics]
    return pd.DataFrame(rows, columns=["figure of merit", "value", "95 % low", "95 % high", "unit"])


def _provenance(made: Mapping[str, Any]) -> None:
    st.markdown(f"{made['unseen']} Test samples: **{made['test_samples']}**. Trained in {duration(made['seconds'])}.")
    st.markdown("To make it again:")
    st.code(made["command"], language="bash", wrap_lines=True)
    left, right = st.columns([3, 2])
    left.dataframe(_two_columns(made["config"], "setting"), hide_index=True, width="stretch", height=320)
    right.dataframe(_two_columns(made["versions"], "version of"), hide_index=True, width="stretch")


def _two_columns(values: Mapping[str, Any], name: str) -> pd.DataFrame:
    return pd.DataFrame([(key, str(value)) for key, value in values.items()], columns=[name, "value"])


# --- downloads -------------------------------------------------------------------------------------------------------
def _payload(run: Run, folder: str, form: str) -> dict[str, Any]:
    return {"task": run.task, "run": f"{run.task}/{run.id}", "format": form, "output": folder}


def _downloads(run: Run, worker: WorkerLike, has_sheet: bool) -> None:
    """What can be taken away: files that exist at once, made ones through the worker when they are asked for."""
    ready: list[tuple[str, str, str]] = []
    if has_sheet:
        ready += [("Sheet (HTML)", "sheet", "html"), ("Sheet (PDF)", "sheet", "pdf")]
    if run.has_model():
        ready += [("Model (ONNX)", "export", "onnx"), ("Model (safetensors)", "export", "safetensors")]
    with st.popover("Download", icon=":material/download:", key=f"downloads-{run.id}"):
        for label, op, form in ready:
            _made_download(run, worker, label, op, form)
        csv = test_csv(run) if has_sheet else None
        if csv is not None:
            st.download_button(
                "Test predictions (CSV)", csv, f"{run.id}-test.csv", "text/csv", on_click="ignore", width="stretch"
            )
        card = run.folder / "model_card.md"
        if card.exists():
            text = card.read_text(encoding="utf-8")
            st.download_button("Model card", text, f"{run.id}.md", "text/markdown", on_click="ignore", width="stretch")
        if not ready and csv is None:
            st.caption("Nothing to download before the first epoch is done.")


def _made_download(run: Run, worker: WorkerLike, label: str, op: str, form: str) -> None:
    """First a button that has the file made, then one that saves it: so that what goes wrong can be told."""
    key = f"{op}-{form}-{run.id}"
    made: tuple[str, bytes] | None = st.session_state.get(f"made-{key}")
    place = st.empty()
    if made is None and place.button(f"Make {label}", key=f"make-{key}", width="stretch", icon=":material/build:"):
        with guard(), st.spinner("Making the file…"):
            made = st.session_state[f"made-{key}"] = make_file(run, worker, op, form)
    if made is not None:
        place.download_button(
            f"Save {label}", made[1], made[0], key=f"save-{key}", on_click="ignore", type="primary", width="stretch",
            icon=":material/download:",
        )  # fmt: skip


def make_file(run: Run, worker: WorkerLike, op: str, form: str) -> tuple[str, bytes]:
    """Name and content of a file that the worker makes of a run. Raises InputError."""
    with TemporaryDirectory(prefix="lightbench-") as folder:
        path = Path(worker.request(op, _payload(run, folder, form))["path"])
        if not path.is_file():
            raise InputError(run.id, f"the {form} file was not made", "See the log of the server.")
        return f"{run.id}{path.suffix}", path.read_bytes()


# --- several runs ----------------------------------------------------------------------------------------------------
def _comparison(rows: Sequence[Overview]) -> None:
    st.subheader(f"{len(rows)} runs side by side", anchor=False)
    labels = unique_labels(rows)
    st.markdown("##### Figures of merit on test samples, with 95 % intervals")
    merits = merit_table(rows, labels)
    if merits.empty:
        empty_state("None of these runs has a result sheet yet.")
    else:
        st.dataframe(merits, hide_index=True, width="stretch")
    with guard():
        _overlaid(rows, labels)
    st.markdown("##### Settings that differ")
    settings = settings_table(rows, labels)
    if settings.empty:
        st.caption("All settings are the same.")
    else:
        st.dataframe(settings, hide_index=True, width="stretch", height="auto" if len(settings) < 12 else 430)


def _overlaid(rows: Sequence[Overview], labels: Sequence[str]) -> None:
    metrics = {label: metrics_of(row.run) for label, row in zip(labels, rows, strict=True)}
    status = next((row.status for row in rows if row.status.metric), rows[0].status)
    log_y = st.toggle("Log axes", key="compare-log")
    titles = {
        (status.metric, status.unit): f"{words(status.metric, status.unit)} on validation",
        ("validation_loss", ""): "validation loss",
    }
    for ((column, unit), title), cell in zip(titles.items(), st.columns(2), strict=True):
        with cell:
            st.markdown(f"##### {title[:1].upper()}{title[1:]}")
            show_figure(overlay(metrics, column, unit, log_y), f"compare-{column}")


def unique_labels(rows: Sequence[Overview]) -> list[str]:
    """Names of the runs, with the end of the id where two share a name."""
    names = [row.name for row in rows]
    return [name if names.count(name) == 1 else f"{name} ({row.run.id[-4:]})" for name, row in zip(names, rows, strict=True)]


def merit_table(rows: Sequence[Overview], labels: Sequence[str]) -> pd.DataFrame:
    """One row per figure of merit, one column per run that has a sheet: value with its interval."""
    sheets = {label: sheet_of(row.run) for row, label in zip(rows, labels, strict=True)}
    columns = {label: {m["name"]: _with_interval(m) for m in sheet["metrics"]} for label, sheet in sheets.items() if sheet}
    return pd.DataFrame(columns).fillna("–").rename_axis("figure of merit").reset_index()


def _with_interval(metric: Mapping[str, Any]) -> str:
    value = number(metric["value"], metric["unit"])
    return value if metric["low"] is None else f"{value} ({number(metric['low'])} to {number(metric['high'])})"


def settings_table(rows: Sequence[Overview], labels: Sequence[str]) -> pd.DataFrame:
    """Only the settings that differ, one row each, one column per run."""
    names = differing(rows, ignore=())
    columns = {label: [str(row.config.get(name, "–")) for name in names] for label, row in zip(labels, rows, strict=True)}
    return pd.DataFrame({"setting": names} | columns)
