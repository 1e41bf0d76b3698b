"""The Predict page: a model, what is known of the instrument, files; then values with error bars, figures, one ZIP."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from lib.runs import Run, list_runs
from lib.task import NOTHING, Choices, Panel, Samples, Task
from lib.ui.columns import HIGH, LOW, column_config, heading, interval, significant, value_columns, words_and_unit
from lib.ui.commands import changed, command, show_command
from lib.ui.context import Jobs, WorkerLike, empty_state, guard, page_header, plain, query, set_query, stage_link, title_of
from lib.ui.curves import words as in_words
from lib.ui.files import Chosen, Source, choose, private_folder, sample, show_failures, show_remarks, show_skipped
from lib.ui.forms import config_form, spoken
from lib.ui.offers import offered
from lib.ui.panels import SamplesBehind, show_behind, show_panels
from lib.ui.parts import offer, taken_away
from lib.ui.theme import number
from lib.ui.words import kept, t
from lib.ui.work import begin, busy, finished, warm_up
from lib.words import LANGUAGES, Language

TEXT = ("file", "sample", "predicted", "prediction_set", "decision", "note")  # columns that are text even where they hold digits
STYLED_ROWS = 2000
MOST_BEHIND = 32  # samples that are shown at once behind a row or point
TINTS = {"failed": "background-color: rgba(213, 94, 0, 0.18)", "outside": "background-color: rgba(197, 138, 0, 0.20)"}


@dataclass(frozen=True)
class Outcome:
    """A finished prediction: the folder the worker wrote, and where its input came from."""

    source: Source
    run: Run
    model: str
    folder: tempfile.TemporaryDirectory[str]
    table: pd.DataFrame
    panels: list[Panel]
    failures: list[dict[str, str]]
    skipped: list[dict[str, str]]
    remarks: list[dict[str, str]]
    seconds: float
    command: str
    language: Language = "en"  # of notes and figures


def predict_page(task: Task, worker: WorkerLike, jobs: Jobs) -> None:
    """Everything below the menu."""
    purpose = t("From {input} to {output}.", input=task.say(task.input_label), output=task.say(task.output_label))
    page_header(t("Predict"), purpose, task)
    with guard():
        models = usable_models(task)
        if not models:
            text = t(
                "There is no trained {task} model yet. Train one first; it appears here when it is done.", task=title_of(task)
            )
            empty_state(text)
            stage_link(task.name, "train", t("Train a model"))
            return
        warm_up(worker, task.name)
        run = _choose_model(task, models)
        chosen = choose(task, f"{task.name}-predict", offer_sample=False)
        acquisition = acquisition_form(task, offered(task, worker, chosen, f"{task.name}-predict-offered"))
        _ask(task, worker, run, chosen, acquisition)
        offer(task, run, chosen, acquisition, jobs)
    with guard():
        if finished(_work_key(task), lambda value: _keep(task, value)):
            _show(task, worker)


def acquisition_form(task: Task, offers: Choices) -> dict[str, Any] | None:
    """What is known of the instrument, shared by the Clean and Predict pages; None where a value is wrong.

    `offers` is what the chosen files have to pick from.
    """
    title = t("What do you know of the instrument? All optional")
    if offers.offered:
        title = t("What is in the files, and what do you know of the instrument? All optional")
    with st.expander(title, icon=":material/tune:"):
        text = t(
            "Type what you know and leave the rest empty: an empty field is estimated from your data, and the result says so. "
            "The values stand in the instrument's data sheet, in the acquisition software, or in the file's metadata; "
            "the ? beside a field says what it means."
        )
        st.caption(text)
        if offers.suggested:
            st.caption(t("Columns are picked from the chosen files. What is suggested is used, unless you choose another one."))
        values = config_form(
            task.Acquisition, acquisition_key(task), offers=offers, subject=t("instrument settings"), say=task.say
        )
    if values is None:
        st.caption(":material/error: " + t("Mend the instrument settings above first."))
        return None
    given = changed(task.Acquisition.parse(values))
    suggested = {name: words for name, words in offers.suggested.items() if words and name not in given}
    if suggested:
        st.caption(":material/auto_fix_high: " + t("Suggested: {settings}", settings=_listed(task, suggested)))
    if given:
        st.caption(t("Given: {settings}", settings=_listed(task, given)))
    return values


def _listed(task: Task, settings: Mapping[str, Any]) -> str:
    """Fields of Acquisition by their labels, with their values."""
    labels = {entry.name: entry.label for entry in spoken(task.Acquisition, task.say)}
    return plain(" · ".join(f"{labels[name]} {_worded(value)}" for name, value in settings.items()))


def _worded(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return ", ".join(map(_worded, value))
    return f"{value:g}" if isinstance(value, float) else t("none") if value == NOTHING else str(value)


def acquisition_key(task: Task) -> str:
    """Where the instrument's settings live."""
    return f"{task.name}-acquisition"


# --- model -----------------------------------------------------------------------------------------------------------
def usable_models(task: Task) -> list[Run]:
    """Runs with weights that no job is still changing: the shipped best first, then the newest."""
    runs = [run for run in list_runs(task.name) if run.has_model() and (run.shipped or run.status().finished)]
    return sorted(runs, key=lambda run: not run.shipped)


def _choose_model(task: Task, models: list[Run]) -> Run:
    """The model choice; `?run=` in the address chooses, and the choice goes into the address."""
    key, wanted = f"{task.name}-predict-run", query("run")
    by_id = {run.id: run for run in models}
    if wanted and wanted != st.session_state.get(f"{key}:link"):
        st.session_state[f"{key}:link"] = wanted
        if wanted in by_id:
            st.session_state[key] = wanted
        else:
            text = t(
                "The address asks for the model {name}, which is not here or not finished. Another one is chosen below.",
                name=plain(wanted),
            )
            st.warning(text, icon=":material/link_off:")
    if st.session_state.get(key) not in by_id:
        st.session_state.pop(key, None)
    labels = {name: model_label(task, model) for name, model in by_id.items()}
    chosen = st.selectbox(t("Model"), list(by_id), format_func=labels.__getitem__, key=kept(key), persist_state="session")
    if wanted and chosen != wanted:
        st.session_state[f"{key}:link"] = chosen
        set_query("run", chosen)
    return by_id[chosen]


def model_label(task: Task, run: Run) -> str:
    """Name, best value with unit, and whether it ships."""
    status = run.status()
    metric, unit = (status.metric, status.unit) if status.metric else (task.monitor.name, task.monitor.unit)
    value = number(status.best_value, unit)
    score = f"{in_words(metric, unit, task.say)} {value}"
    best = t("{score} on validation", score=score) if status.best_value is not None else ""
    return " · ".join(filter(None, [run.name or run.id, best, t("shipped") if run.shipped else ""]))


# --- asking ----------------------------------------------------------------------------------------------------------
def _ask(task: Task, worker: WorkerLike, run: Run, chosen: Chosen | None, acquisition: dict[str, Any] | None) -> None:
    """The two buttons. `?sample=1` presses the sample button."""
    with st.container(horizontal=True, vertical_alignment="center"):
        running = busy(_work_key(task))
        go = st.button(
            t("Predict"), type="primary", key=f"{task.name}-predict-go", icon=":material/straighten:",
            disabled=running or chosen is None or acquisition is None, help=None if chosen else t("Choose files first."),
        )  # fmt: skip
        try_it = st.button(
            t("Try it with a sample"), key=f"{task.name}-predict-sample", icon=":material/science:",
            disabled=running or acquisition is None,
            help=t("Runs the sample that comes with Lightbench; needs no file of yours."),
        )  # fmt: skip
    linked = query("sample") == "1" and not running
    if acquisition is None:
        return
    if linked or try_it:
        set_query("sample", "")  # the link asks once, and asks again when it is opened again
        _start(task, worker, run, acquisition, lambda: sample(task))
    elif go and chosen is not None:
        _start(task, worker, run, acquisition, chosen.take)


def _start(task: Task, worker: WorkerLike, run: Run, acquisition: dict[str, Any], make: Callable[[], Source]) -> None:
    with st.spinner(t("Predicting …"), show_time=True):
        source, folder = make(), private_folder()
        payload = {
            "task": task.name, "run": run.id, "files": source.payload(), "acquisition": acquisition, "output": folder.name,
            "language": task.language,
        }  # fmt: skip
        line = _command(task, run, source, acquisition)
        st.session_state[f"{task.name}-predict-asked"] = (source, run, folder, line, task.language)
        begin(_work_key(task), worker, "predict", payload, t("prediction of {files}", files=source.label))


def _command(task: Task, run: Run, source: Source, acquisition: dict[str, Any]) -> str:
    settings = changed(task.Acquisition.parse(acquisition))
    return command(["predict", task.name, "--input", *source.arguments, "--output", "predictions", "--model", run.id], settings)


def _work_key(task: Task) -> str:
    return f"{task.name}-predict-work"


def _keep(task: Task, value: dict[str, Any]) -> None:
    """Put the worker's answer into the session, in place of the one before."""
    source, run, folder, line, said_in = st.session_state[f"{task.name}-predict-asked"]
    path = Path(folder.name)
    text = dict.fromkeys(TEXT, str)
    table = pd.read_csv(path / "predictions.csv", dtype=text, keep_default_na=False, na_values=[""])
    table["note"] = table["note"].fillna("")
    stored = json.loads((path / "panels.json").read_text(encoding="utf-8"))
    panels = [Panel.from_json(panel) for panel in (stored["panels"] if isinstance(stored, dict) else stored)]
    st.session_state[f"{task.name}-predict-outcome"] = Outcome(
        source, run, model_label(task, run), folder, table, panels, list(value["failures"]), list(value.get("skipped", [])),
        list(value.get("remarks", [])), float(value["seconds"]), line, said_in,
    )  # fmt: skip


# --- showing ---------------------------------------------------------------------------------------------------------
def _show(task: Task, worker: WorkerLike) -> None:
    outcome: Outcome | None = st.session_state.get(f"{task.name}-predict-outcome")
    if outcome is None:
        empty_state(t("Choose files and press **Predict**, or press **Try it with a sample** to see what comes out."))
        return
    st.subheader(t("Result"), anchor=False, divider="gray")
    good = outcome.table[states(outcome.table) != "failed"]
    model = t("model {name}", name=outcome.model)
    facts = [outcome.source.label, model, f"{outcome.seconds:.2f} s", outcome.source.remark]
    if len(outcome.table) != 1:
        facts.insert(0, t("{n} of {all} predicted", n=len(good), all=len(outcome.table)))
    st.caption(plain(" · ".join(filter(None, facts))))
    if outcome.language != task.language and task.language in task.languages():
        spoken_in = LANGUAGES[outcome.language]
        st.caption(
            t(
                "Notes and figures were made in {language}: predict again to have them in the language chosen now.",
                language=spoken_in,
            )
        )
    show_failures(outcome.failures)
    show_remarks(outcome.remarks)
    show_skipped(outcome.skipped)
    if len(good) == 1:
        _headline(task.knowing(outcome.run.facts()), good.iloc[0])
    elif "in_domain" in good and not _truths(good["in_domain"]).all():
        outside = int((~_truths(good["in_domain"])).sum())
        text = t(
            "{outside} of {n} lie outside what the model was trained for; the column note says why. "
            "Read their values with caution.", outside=outside, n=len(good),
        )  # fmt: skip
        st.warning(text, icon=":material/warning:")
    _downloads(task, outcome)
    behind = partial(samples_behind, task, worker, outcome)
    if len(outcome.table) > 1 or good.empty:
        _table(task, outcome.table, behind)
    if len(good):
        show_panels(outcome.panels, f"{task.name}-predict-panels", behind=behind)
    if len(outcome.table) == 1 and len(good):
        with st.expander(t("All values"), icon=":material/table_rows:"):
            _table(task, outcome.table)
    show_command(outcome.command)


def samples_behind(task: Task, worker: WorkerLike, outcome: Outcome, numbers: Sequence[int]) -> list[Panel]:
    """What samples look like, by their number among the rows that were predicted; empty where they are not kept.

    Where a task can tell why the model says so of a sample, the worker works that out now, for these few.
    """
    folder, some = Path(outcome.folder.name), list(numbers)[:MOST_BEHIND]
    if not (folder / "samples").is_dir():
        return []
    samples = Samples.load(folder / "samples").take(some)
    if type(task).explain is not Task.explain:
        payload = {"task": task.name, "run": outcome.run.id, "folder": str(folder), "rows": some, "language": task.language}
        with st.spinner(t("Looking where the model looked …")):
            samples = samples.with_columns(**worker.request("explain", payload)["columns"])
    predicted = outcome.table[states(outcome.table) != "failed"].reset_index(drop=True)
    return task.knowing(outcome.run.facts()).behind_panels(predicted.iloc[some], samples)


def _headline(task: Task, row: pd.Series) -> None:
    """The value of a single file, large, with its interval and unit; or what its task tells of it at a glance."""
    told = task.headline(row)
    for (title, value, below), cell in zip(told, st.columns(len(told)) if told else ()):
        with cell.container(border=True, height="stretch"):
            st.caption(title)
            st.header(plain(value), anchor=False)
            st.caption(below)
    if not told:
        _values(task, row)
    note = plain(str(row.get("note", "")))
    if "in_domain" in row.index and not _truths(pd.Series([row["in_domain"]])).iloc[0]:
        text = t("**Outside what the model was trained for.** {note} Read the value with caution.", note=note)
        st.warning(text, icon=":material/warning:")
    elif note:
        st.caption(f":material/info: {note}")


def _values(task: Task, row: pd.Series) -> None:
    columns = [c for c in value_columns(list(map(str, row.index))) if pd.notna(row[c])]
    for column, cell in zip(columns, st.columns(max(len(columns), 1))):
        words, unit = words_and_unit(task, column)
        with cell.container(border=True):
            st.caption(words, help=t("Column `{name}`", name=column))
            st.header(f"{significant(float(row[column]))} {unit}", anchor=False)
            st.markdown(f"{interval(row, column)} {unit} :gray[· {t('central 68 % interval')}]")


def _downloads(task: Task, outcome: Outcome) -> None:
    folder = Path(outcome.folder.name)
    with st.container(horizontal=True):
        st.download_button(
            t("Download everything"), lambda: taken_away(folder), f"{task.name}-predictions.zip", "application/zip",
            key=f"{task.name}-predict-zip", on_click="ignore", icon=":material/folder_zip:", type="primary",
            help=t("ZIP: predictions.csv, files for other programs, and all figures as one HTML file that needs no network."),
        )  # fmt: skip
        st.download_button(
            t("Table as CSV"), (folder / "predictions.csv").read_bytes, f"{task.name}-predictions.csv", "text/csv",
            key=f"{task.name}-predict-csv", on_click="ignore", icon=":material/csv:",
        )  # fmt: skip


def _said(task: Task, value: str) -> str:
    """A word of the task, or several with bars between them, in the reader's language."""
    return " | ".join(map(task.say, value.split(" | ")))


@st.fragment
def _table(task: Task, table: pd.DataFrame, behind: SamplesBehind | None = None) -> None:
    """Every file with its outcome, each interval as one text; failed rows and rows outside the model's range are tinted."""
    shown = table.copy()
    values = value_columns(list(map(str, table.columns)))
    for column in values:
        shown[column + LOW] = [interval(row, column) if pd.notna(row[column]) else None for _, row in table.iterrows()]
    rest = [column for column in shown if column not in ("file", "in_domain", *(value + HIGH for value in values))]
    shown = shown[[column for column in ("file", "in_domain") if column in shown] + rest]
    state = states(table)
    if "in_domain" in shown:
        shown["in_domain"] = state.map({"ok": t("yes"), "outside": t("no"), "failed": ""})
    for column in (name for name in task.labels if name in shown and not pd.api.types.is_numeric_dtype(shown[name])):
        shown[column] = shown[column].map(lambda value: _said(task, value) if isinstance(value, str) else value)
    data: Any = shown
    if len(shown) <= STYLED_ROWS:
        data = shown.style.apply(lambda row: [TINTS.get(state.loc[row.name], "")] * len(row), axis=1)
    config = column_config(task, shown)
    for column in values:
        words, unit = words_and_unit(task, column)
        told = t("68 % interval ({unit})", unit=unit) if unit else t("{value}, 68 % interval", value=words)
        config[column + LOW] = st.column_config.TextColumn(told, help=f"`{column + LOW}` – `{column + HIGH}`")
    config["note"] = st.column_config.TextColumn(heading(task, "note"), width="large")
    key = f"{task.name}-predict-table"
    shape: Any = {"column_config": config, "hide_index": True, "width": "stretch", "placeholder": ""}
    if behind is None or type(task).behind_panels is Task.behind_panels:
        st.dataframe(data, key=key, **shape)
        return
    event: Any = st.dataframe(data, key=f"{key}-pick", on_select="rerun", selection_mode="single-row", **shape)
    st.caption(":material/touch_app: " + t("Tick a row to see the samples behind it."))
    place = (state != "failed").cumsum() - 1  # among the rows that were predicted
    show_behind([int(place.iloc[row]) for row in event["selection"]["rows"] if state.iloc[row] != "failed"], key, behind)


def states(table: pd.DataFrame) -> pd.Series:
    """`ok`, `outside` (not in the model's range) or `failed` for each row of predictions.csv."""
    state = pd.Series("ok", index=table.index)
    if "in_domain" in table:
        state[~_truths(table["in_domain"])] = "outside"
    state[table["note"].fillna("").astype(str).str.startswith("error:")] = "failed"
    return state


def _truths(column: pd.Series) -> pd.Series:
    """Booleans as they come back from a CSV with empty cells."""
    return column.astype(str).str.lower().isin(["true", "1", "1.0"])
