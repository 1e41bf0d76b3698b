"""Several finders on the same frames: precision, recall, F1, speed, and where they disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from lib import labels
from lib.ui.context import plain
from lib.ui.desk import Comparison, Desk, Dressing, hold
from lib.ui.files import show_failures
from lib.ui.finder import choose_finder, finder_title
from lib.ui.plate import FOUND, LABELLED, TRUE, Shown
from lib.ui.words import t
from lib.ui.work import begin

FRAMES = 20  # to begin with
TRUTH = ""
COLOURS = (FOUND, LABELLED, 3, 4, 5)  # of the finders' marks, among those of plate_paint.js: TRUE is what was wanted


def compare_section(desk: Desk) -> Dressing:
    """What to compare, the table of results, and the marks of the frame at hand."""
    asked = choose_finder(desk, none=False)

    def add() -> None:
        if asked is not None and asked not in desk.asked:
            desk.asked.append(asked)

    with st.container(horizontal=True):
        st.button(t("Add"), key=desk.key("compare-add"), icon=":material/add:", disabled=asked is None, on_click=add)
        st.button(t("Start over"), key=desk.key("compare-clear"), disabled=not desk.asked, on_click=desk.asked.clear)
    for number, one in enumerate(desk.asked, start=1):
        st.caption(f"{number}. **{plain(finder_title(desk, one['name']))}** {_changed(desk, one)}")
    reference = _reference(desk)
    rows = _rows(desk, reference) if reference is not None else []
    ready = bool(desk.asked and rows)
    if reference and not rows:
        st.caption(t("None of the frames shown is labelled in this set yet."))
    elif not desk.asked:
        st.caption(t("Add the finders to compare, one after another."))
    if st.button(t("Compare on {n} frames", n=len(rows)), key=desk.key("compare-go"), type="primary", disabled=not ready):
        payload = desk.payload(rows=rows, finders=desk.asked, labels=reference, output=desk.folder.name)
        st.session_state[desk.key("compare-asked")] = list(desk.asked)
        begin(desk.key("compare"), desk.worker, "compare", payload, t("comparing finders"))
        st.rerun()
    compared = desk.compared
    if compared is None:
        return Dressing()
    return Dressing(_marks(desk, compared), below=lambda: _results(desk, compared))


def _changed(desk: Desk, asked: dict[str, Any]) -> str:
    """Parameters that are not at their defaults, as text."""
    if asked["name"] not in desk.task.finders:
        return ""
    default = desk.task.finders[asked["name"]]().model_dump()
    return ", ".join(f"{name} = {value}" for name, value in asked["parameters"].items() if value != default.get(name))


def _reference(desk: Desk) -> str | None:
    """What counts as right: the name of a label set, TRUTH, or None where there is nothing."""
    truth = [TRUTH] if desk.task.true_marks(desk.pictures.samples, desk.row) is not None else []
    options = [*truth, *labels.names(desk.task.name)]
    if not options:
        st.caption(t("Nothing to compare with: label some frames first, or read simulated ones."))
        return None
    hold(desk.key("compare-with"))
    return st.selectbox(
        t("Compare with"), options, key=desk.key("compare-with"), format_func=lambda name: name or t("truth"),
        persist_state="session",
    )  # fmt: skip


def _rows(desk: Desk, reference: str) -> list[int]:
    """Frames to run on: those done in the label set, else some spread evenly."""
    rows = list(desk.pictures.rows)
    if reference:
        labelled = labels.load(labels.folder_of(desk.task.name) / reference)
        wanted = labelled.done or {*labelled.frames()}
        rows = [row for row in rows if desk.places[row] in wanted]
    if len(rows) < 2:
        return rows
    n = int(st.number_input(t("Frames"), 1, len(rows), min(FRAMES, len(rows)), key=desk.key("compare-n")))
    return [rows[int(place)] for place in np.unique(np.linspace(0, len(rows) - 1, n).round())]


def receive_comparison(desk: Desk, value: dict[str, Any]) -> None:
    """Take the tables that the worker wrote."""
    folder = Path(desk.folder.name)
    summary, frames, marks, wanted = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("summary", "frames", "marks", "wanted")
    )
    finders = st.session_state[desk.key("compare-asked")]
    desk.compared = Comparison(summary, frames, marks, wanted, finders, list(value["failures"]))


def _results(desk: Desk, compared: Comparison) -> None:
    """One row per finder, and one per frame to pick from."""
    show_failures(compared.failures, shown=2)
    names = _names(desk, compared)
    if len(names) > len(COLOURS):
        st.caption(t("The picture shows the marks of the first {n} finders; the tables have all.", n=len(COLOURS)))
    table = pd.DataFrame({
        t("finder"): names, t("precision"): compared.summary["precision"], t("recall"): compared.summary["recall"],
        "F1": compared.summary["f1"], t("marks per frame"): compared.summary["marks_per_frame"],
        t("ms per Mpx"): compared.summary["ms_per_mpx"],
    })  # fmt: skip
    digits = {column: st.column_config.NumberColumn(format="%.3f") for column in (t("precision"), t("recall"), "F1")}
    digits |= {column: st.column_config.NumberColumn(format="%.1f") for column in (t("marks per frame"), t("ms per Mpx"))}
    st.dataframe(table, hide_index=True, key=desk.key("compare-table"), column_config=digits)
    settings = [json.dumps(one["parameters"]) for one in compared.finders]
    st.download_button(
        t("CSV"), lambda: str(table.assign(settings=settings).to_csv(index=False)), f"{desk.task.name}-finders.csv",
        "text/csv", key=desk.key("compare-csv"), on_click="ignore", icon=":material/csv:",
    )  # fmt: skip
    _frames_table(desk, compared, names)


def _names(desk: Desk, compared: Comparison) -> list[str]:
    """The finders' names, numbered where one is there twice."""
    names = [finder_title(desk, one["name"]) for one in compared.finders]
    return [f"{number}. {name}" if names.count(name) > 1 else name for number, name in enumerate(names, start=1)]


def _frames_table(desk: Desk, compared: Comparison, names: list[str]) -> None:
    """Frames with what is missing and too much for each finder; a picked one is looked at."""
    by_row = compared.frames.set_index(["row", "finder"])[["n_only_wanted", "n_only_found"]].unstack("finder")
    wrong = pd.Series(by_row.to_numpy().sum(axis=1), by_row.index).sort_values(ascending=False, kind="stable")
    table = pd.DataFrame({t("frame"): [desk.label(int(row)) for row in wrong.index]})
    for number, name in enumerate(names):
        table[t("{name}: missing", name=name)] = by_row[("n_only_wanted", number)].loc[wrong.index].to_numpy(int)
        table[t("{name}: too many", name=name)] = by_row[("n_only_found", number)].loc[wrong.index].to_numpy(int)
    key = desk.key("compare-frames")

    def picked() -> None:
        chosen = st.session_state[key]["selection"]["rows"]
        if chosen and int(chosen[0]) < len(wrong):
            desk.row = int(wrong.index[int(chosen[0])])

    st.caption(t("Frames, the worst first. Tick one to look at it with the marks of the finders."))
    st.dataframe(table, hide_index=True, key=key, on_select=picked, selection_mode="single-row", height=280)


def _marks(desk: Desk, compared: Comparison) -> list[Shown]:
    """Of the frame at hand: what was wanted, and what the finders marked, as many as there are colours."""
    here = compared.wanted[compared.wanted["row"] == desk.row]
    if desk.row not in set(compared.frames["row"]):
        return []
    shown = [Shown(t("wanted"), here, TRUE)]
    for number, (name, colour) in enumerate(zip(_names(desk, compared), COLOURS)):
        mine = compared.marks[(compared.marks["row"] == desk.row) & (compared.marks["finder"] == number)]
        shown.append(Shown(name, mine, colour))
    return shown
