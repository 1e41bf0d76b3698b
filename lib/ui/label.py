"""Labelling: click marks in and out, frame after frame, from a finder's marks on; agreement between two label sets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from lib import labels
from lib.labels import Change, History, LabelSet, Place, Points
from lib.ui.context import empty_state, plain
from lib.ui.desk import Desk, Dressing, attempt
from lib.ui.files import show_failures
from lib.ui.finder import choose_finder, finder_title, searched
from lib.ui.plate import FOUND, LABELLED, Edit, Shown
from lib.ui.words import t
from lib.ui.work import begin


def label_section(desk: Desk) -> Dressing:
    """The controls of labelling, and the labels over the picture."""
    name = _choose_set(desk)
    if not name:
        empty_state(t("Choose a label set, or make one: then click in the picture to mark, click a mark to remove it."))
        return Dressing()
    folder = labels.folder_of(desk.task.name) / name
    labelled = labels.load(folder)
    place = desk.places[desk.row]
    _progress(desk, labelled)
    _buttons(desk, folder, labelled)
    asked = _start_from(desk, folder, labelled)
    _agreement(desk, labelled)
    shown = [Shown(t("labels"), labelled.points(*place), LABELLED)]
    if asked is not None:
        found = searched(desk, asked)
        if found is not None:
            shown.insert(0, Shown(finder_title(desk, asked["name"]), found, FOUND))
    keys = {"u": "undo", "r": "redo", "d": "done"}
    return Dressing(shown, shown[-1].name, (), ("mark", "move"), keys, on_edit=lambda edit: _edited(desk, folder, edit))


# --- which set --------------------------------------------------------------------------------------------------------
def _choose_set(desk: Desk) -> str:
    """The label set to work on; "" where none is chosen."""
    known = labels.names(desk.task.name)
    key = desk.key("label-set")
    if st.session_state.get(key) not in known:
        st.session_state[key] = known[0] if known else None
    name: str | None = st.selectbox(t("Label set"), known, key=key, persist_state="session", placeholder=t("none yet"))
    with st.popover(t("New label set"), icon=":material/new_label:"):
        st.text_input(t("Name"), f"labels-{time.strftime('%Y%m%d')}", key=desk.key("label-name"))
        st.text_input(t("Your name"), key=desk.key("label-by"), persist_state="session", max_chars=100)

        def make() -> None:
            new = str(st.session_state[desk.key("label-name")])
            labels.create(desk.task.name, new, _author(desk))
            st.session_state[key] = new

        st.button(t("Make it"), key=desk.key("label-new"), type="primary", on_click=attempt, args=(desk, make))
    return name or ""


def _author(desk: Desk) -> str:
    """The name that the reader gave, may be empty."""
    return str(st.session_state.get(desk.key("label-by")) or "").strip()


def _progress(desk: Desk, labelled: LabelSet) -> None:
    """How many of the frames at hand are done."""
    here = [desk.places[row] for row in desk.pictures.rows]
    done = sum(place in labelled.done for place in here)
    st.progress(done / len(here), t("{done} of {n} frames done · {points} marks in the set", done=done, n=len(here),
                                    points=len(labelled.table)))  # fmt: skip


# --- changes: each is on disk before the page is drawn again ----------------------------------------------------------
def _history(desk: Desk, folder: Path) -> History:
    return desk.histories.setdefault(folder.name, History())


def _write(desk: Desk, folder: Path, changes: Sequence[Change]) -> None:
    """Change the set on disk; it notes what was typed of the instrument, which a training on it needs to read the same frames."""
    typed = desk.task.Acquisition.parse(desk.pictures.acquisition)
    labels.change(folder, changes, _author(desk), typed.model_dump(mode="json", exclude_defaults=True))


def _change(desk: Desk, folder: Path, changes: Sequence[Change]) -> None:
    if changes:
        _write(desk, folder, changes)
        _history(desk, folder).did(changes)


def _back(desk: Desk, folder: Path, *, again: bool = False) -> None:
    history = _history(desk, folder)
    changes = history.redo() if again else history.undo()
    if changes:
        _write(desk, folder, changes)
        desk.row = desk.places.index(changes[-1].place) if changes[-1].place in desk.places else desk.row


def _edited(desk: Desk, folder: Path, edit: Edit) -> None:
    """A click in the picture, or a key."""
    place, kind = desk.places[int(edit["row"])], edit["kind"]
    if kind in ("add", "remove"):
        point = ((float(edit["y"]), float(edit["x"])),)
        _change(desk, folder, [Change(place, added=point) if kind == "add" else Change(place, removed=point)])
    elif kind in ("undo", "redo"):
        _back(desk, folder, again=kind == "redo")
    elif kind == "done":
        _done(desk, folder, place)


def _done(desk: Desk, folder: Path, place: Place) -> None:
    """Note the frame as gone through, or no more; go on to the next one that is not."""
    labelled = labels.load(folder)
    done = place not in labelled.done
    _change(desk, folder, [Change(place, done=done)])
    if done:
        rows = list(desk.pictures.rows)
        after = rows[rows.index(desk.row) + 1 :]
        desk.row = next((row for row in after if desk.places[row] not in labelled.done), desk.row)


def _buttons(desk: Desk, folder: Path, labelled: LabelSet) -> None:
    """Done, undo, redo, take away."""
    place, history = desk.places[desk.row], _history(desk, folder)
    done = place in labelled.done
    st.button(
        t("Not done after all") if done else t("Frame done"), key=desk.key("label-done"), icon=":material/task_alt:",
        type="secondary" if done else "primary", on_click=attempt, args=(desk, lambda: _done(desk, folder, place)),
        help=t("Also when it has no marks; goes on to the next frame that is not done. Key: d"), width="stretch",
    )  # fmt: skip
    with st.container(horizontal=True):
        for name, label, icon, can in (
            ("undo", t("Undo"), ":material/undo:", history.past),
            ("redo", t("Redo"), ":material/redo:", history.future),
        ):
            st.button(
                label, key=desk.key(f"label-{name}"), icon=icon, disabled=not can, on_click=attempt,
                args=(desk, lambda again=name == "redo": _back(desk, folder, again=again)),
            )  # fmt: skip
        st.download_button(
            t("CSV"), labelled.to_csv, f"{plain(labelled.name)}.csv", "text/csv", key=desk.key("label-csv"), on_click="ignore",
            icon=":material/csv:",
        )  # fmt: skip


# --- from a finder ----------------------------------------------------------------------------------------------------
def _start_from(desk: Desk, folder: Path, labelled: LabelSet) -> dict[str, Any] | None:
    """A finder whose marks are shown, and buttons that take them over; returns it with its parameters."""
    with st.expander(t("Start from a finder"), icon=":material/auto_fix_high:"):
        asked = choose_finder(desk)
        if asked is None:
            return None

        def take() -> None:
            marks = desk.marks(asked)
            _change(desk, folder, [_filling(labelled, desk.places[desk.row], marks)])

        st.button(t("Take its marks on this frame"), key=desk.key("label-take"), on_click=attempt, args=(desk, take))
        fresh = [row for row in desk.pictures.rows if desk.places[row] not in {*labelled.frames()}]
        if st.button(
            t("Take its marks on all {n} untouched frames", n=len(fresh)), key=desk.key("label-take-all"), disabled=not fresh
        ):
            output = str(Path(desk.folder.name) / "fill.parquet")
            payload = desk.payload(rows=fresh, finder=asked, output=output)
            st.session_state[desk.key("fill-set")] = (folder, asked)
            begin(desk.key("fill"), desk.worker, "find", payload, t("finding"))
            st.rerun()
    return asked


def _filling(labelled: LabelSet, place: Place, marks: pd.DataFrame) -> Change:
    """The marks in place of what the frame has."""
    added: Points = tuple((float(y), float(x)) for y, x in zip(marks["y_px"], marks["x_px"], strict=True))
    gone = tuple(point for point in labelled.points(*place).itertuples(index=False, name=None) if point not in added)
    return Change(place, added, gone)


def receive_marks(desk: Desk, value: dict[str, Any]) -> None:
    """Put what a finder marked in many frames into the set that asked for it, as one change."""
    folder, asked = st.session_state[desk.key("fill-set")]
    found = pd.read_parquet(Path(desk.folder.name) / "fill.parquet")
    labelled = labels.load(folder)
    rows = found["row"].unique().tolist()
    changes = [_filling(labelled, desk.places[row], found[found["row"] == row]) for row in rows]
    _change(desk, folder, changes)
    show_failures(value["failures"])
    desk.told = t(
        "{n} marks of {finder} taken over, in {frames} frames.",
        n=len(found),
        finder=finder_title(desk, asked["name"]),
        frames=len(changes),
    )


# --- agreement --------------------------------------------------------------------------------------------------------
def _agreement(desk: Desk, labelled: LabelSet) -> None:
    """How this set and another agree, over the frames that are done in both."""
    others = [name for name in labels.names(desk.task.name) if name != labelled.name]
    if not others:
        return
    with st.expander(t("Agreement with another set"), icon=":material/compare_arrows:"):
        name = st.selectbox(t("The other set"), others, key=desk.key("label-other"))
        other = labels.load(labels.folder_of(desk.task.name) / name)
        counts = labels.agreement(labelled, other, desk.task.compare_marks)
        if counts.empty:
            st.caption(t("No frame is done in both."))
            return
        sums = labels.totals(counts)
        table = pd.DataFrame({
            t("marks"): [t("common"), t("only {name}", name=labelled.name), t("only {name}", name=other.name)],
            t("count"): [int(sums[name]) for name in labels.COUNTS],
        })  # fmt: skip
        st.dataframe(table, hide_index=True, key=desk.key("label-agreement"))
        st.caption(t("{n} frames. Precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}; the other set counts as right.",
                     n=len(counts), **{key: sums[key] for key in ("precision", "recall", "f1")}))  # fmt: skip
