"""The Clean page: real files in, a reading of each, rules and a hand to choose, the kept set and its recipe out."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from lib import recipe
from lib.figures import themed
from lib.recipe import Hand
from lib.runs import home
from lib.task import Config, InputError, Samples, Task
from lib.ui.calibrate import calibrate_section
from lib.ui.columns import column_config
from lib.ui.contact import PER_PAGE, compose, plotly_text, sheet_figure
from lib.ui.context import Jobs, WorkerLike, empty_state, guard, page_header, plain, stage_link, theme
from lib.ui.files import Source, choose, counted, private_folder, show_failures, show_remarks, show_skipped, zip_files, zip_folder
from lib.ui.forms import config_form, fill_form
from lib.ui.look import has_plates, look_view
from lib.ui.offers import offered
from lib.ui.overview import Made, has_overview, show_overview
from lib.ui.panels import show_panels
from lib.ui.pictures import Pictured, panels_of, small_pictures
from lib.ui.predict import acquisition_form, acquisition_key
from lib.ui.tally import flagged, show_counts, show_unmeasured
from lib.ui.words import one_of, t
from lib.ui.work import begin, busy, finished, warm_up
from lib.uploads import archive_names

MAX_ZIP_BYTES = 1024**3
TABLE_ROWS = 5000  # more make every click slow
VIEWS, SHOWN, PICKS = ("Overview", "Contact sheet", "Table", "Look"), ("all", "kept", "dropped"), ("clicks", "a frame")


@dataclass
class Inspection:
    """Files that were read: their samples and readings, and every change by hand, newest last."""

    source: Source
    acquisition: dict[str, Any]
    folder: tempfile.TemporaryDirectory[str]  # of `samples`, memory-mapped
    samples: Samples
    readings: pd.DataFrame
    failures: list[dict[str, str]]
    skipped: list[dict[str, str]]
    remarks: list[dict[str, str]]  # what was done to make files fit
    raw: list[dict[str, str]]  # untouched originals: path, name, and file as in the readings
    hands: list[Hand] = field(default_factory=lambda: [{}])
    digests_: dict[str, str] = field(default_factory=dict)
    made: Made = field(default_factory=dict)  # panels of the overview

    def __post_init__(self) -> None:
        self.pictured = Pictured(self.folder.name, self.samples, self.acquisition)

    @property
    def hand(self) -> Hand:
        """What the hand says now."""
        return self.hands[-1]

    @property
    def files(self) -> list[str]:
        """The file of each sample."""
        return [str(file) for file in self.readings["file"]]

    def digests(self) -> dict[str, str]:
        """SHA-256 of every raw file, computed once."""
        if not self.digests_:
            self.digests_ = {file: recipe.digest(paths) for file, paths in self.originals().items()}
        return self.digests_

    def originals(self) -> dict[str, list[Path]]:
        """The raw files behind each file of the readings."""
        found: dict[str, list[Path]] = {}
        for raw in self.raw:
            found.setdefault(raw["file"], []).append(Path(raw["path"]))
        return found


def clean_page(task: Task, worker: WorkerLike, jobs: Jobs) -> None:
    """Everything below the menu."""
    purpose = t("Look at real files, drop what does not belong, and keep a record of how. Raw files stay as they are.")
    page_header(t("Clean"), purpose, task)
    with guard():
        warm_up(worker, task.name)
        _load(task, worker)
    with guard():
        if not finished(_key(task, "work"), lambda value: _keep(task, value)):
            return
        if _key(task, "refused") in st.session_state:
            show_failures(st.session_state[_key(task, "refused")])
            st.error(t("None of these files could be read, so nothing was changed."), icon=":material/error:")
        inspection: Inspection | None = st.session_state.get(_key(task, "inspection"))
        if inspection is None:
            empty_state(t("Choose files and press **Read the files**: a table of readings and a contact sheet appear here."))
            _recipe_upload(task)
            return
        _review(task, inspection, worker, jobs)


def _key(task: Task, name: str) -> str:
    return f"{task.name}-clean-{name}"


# --- loading ---------------------------------------------------------------------------------------------------------
def _load(task: Task, worker: WorkerLike) -> None:
    """File choice and the button that has them read."""
    loaded: Inspection | None = st.session_state.get(_key(task, "inspection"))
    title = " · ".join([t("Files"), *([plain(loaded.source.label)] if loaded else [])])
    with st.expander(title, expanded=True, icon=":material/upload_file:"):
        chosen = choose(task, _key(task, "files"))
        acquisition = acquisition_form(task, offered(task, worker, chosen, _key(task, "offered")))
        running = busy(_key(task, "work"))
        pressed = st.button(
            t("Read the files"), type="primary", icon=":material/search_insights:", key=_key(task, "read"),
            disabled=running or chosen is None or acquisition is None, help=None if chosen else t("Choose files first."),
        )  # fmt: skip
        if loaded and acquisition is not None and acquisition != loaded.acquisition and not running:
            st.caption(":material/info: " + t("The instrument settings changed since these files were read."))
            if st.button(t("Read the same files again"), icon=":material/refresh:", key=_key(task, "again")):
                _inspect(task, worker, loaded.source, acquisition)
    if pressed and chosen is not None and acquisition is not None:
        _inspect(task, worker, chosen.take(), acquisition)


def _measure_all(task: Task, worker: WorkerLike, inspection: Inspection) -> None:
    _inspect(task, worker, inspection.source, inspection.acquisition, everything=True)
    st.rerun()


def _inspect(task: Task, worker: WorkerLike, source: Source, acquisition: dict[str, Any], *, everything: bool = False) -> None:
    with st.spinner(t("Reading {files} …", files=plain(source.label)), show_time=True):
        folder = private_folder()
        payload = {
            "task": task.name, "files": source.payload(), "acquisition": acquisition, "output": folder.name,
            "language": task.language, "everything": everything,
        }  # fmt: skip
        st.session_state.pop(_key(task, "refused"), None)
        st.session_state[_key(task, "asked")] = (source, acquisition, folder)
        begin(_key(task, "work"), worker, "inspect", payload, t("reading {files}", files=source.label))


def _keep(task: Task, value: dict[str, Any]) -> None:
    """Put what the worker read into the session, in place of what was there."""
    source, acquisition, folder = st.session_state[_key(task, "asked")]
    failures = list(value["failures"])
    if not value["n"]:
        st.session_state[_key(task, "refused")] = failures
        return
    path = Path(folder.name)
    raw = [{key: str(file[key]) for key in ("path", "name", "file")} for file in value["files"]]
    readings = pd.read_parquet(path / "readings.parquet")
    skipped, remarks = list(value.get("skipped", [])), list(value.get("remarks", []))
    before: Inspection | None = st.session_state.get(_key(task, "inspection"))
    inspection = Inspection(source, acquisition, folder, Samples.load(path), readings, failures, skipped, remarks, raw)
    if before is not None and before.source is source and before.acquisition == acquisition:
        inspection.hands = before.hands  # the same samples, more of them measured
    st.session_state[_key(task, "inspection")] = inspection
    for stale in ("calibration", "applied"):
        st.session_state.pop(_key(task, stale), None)
    waiting = st.session_state.pop(_key(task, "recipe-waiting"), None)
    if waiting is not None:
        _apply_recipe(task, inspection, waiting)


# --- reviewing -------------------------------------------------------------------------------------------------------
@st.fragment  # a slider need not wait for the files and their settings
@guard()
def _review(task: Task, inspection: Inspection, worker: WorkerLike, jobs: Jobs) -> None:
    """Rules, pictures and table, choice by hand, export, calibration."""
    show_failures(inspection.failures)
    show_remarks(inspection.remarks)
    show_skipped(inspection.skipped)
    st.subheader(t("Rules"), anchor=False, divider="gray")
    left, right = st.columns([5, 4], gap="large")
    with left:
        rules = config_form(task.Rules, _key(task, "rules"), columns=2, sliders=True, subject=t("rules"), say=task.say)
    if rules is None:
        return
    flags = flagged(task, inspection.readings, task.Rules.parse(rules))
    keep = recipe.kept(flags, inspection.hand)
    with right:
        show_counts(task, flags, keep, inspection.hand, _key(task, "counts"))
    show_unmeasured(inspection.readings, _key(task, "measure"), lambda: _measure_all(task, worker, inspection))
    st.subheader(t("Samples"), anchor=False, divider="gray")
    _samples(task, inspection, task.Rules.parse(rules), flags, keep, worker)
    st.subheader(t("Export"), anchor=False, divider="gray")
    if recipe.unmeasured(inspection.readings).any():
        st.caption(t("Once all samples are measured, those that are kept can be saved, with the recipe."))
    else:
        _export(task, inspection, worker, rules, flags, keep)
    _recipe_upload(task)
    if type(task).calibrate is not Task.calibrate:
        st.subheader(t("Calibrate"), anchor=False, divider="gray")
        rows = [int(row) for row in keep[keep].index]
        calibrate_section(task, worker, inspection.folder.name, rows, inspection.acquisition, jobs)


def _samples(task: Task, inspection: Inspection, rules: Config, flags: pd.DataFrame, keep: pd.Series, worker: WorkerLike) -> None:
    """Overview, contact sheet or table; what is picked there can be kept, dropped and looked at."""
    views = [view for view in VIEWS if {"Overview": has_overview, "Look": has_plates}.get(view, bool)(task)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = one_of(t("View"), views, _key(task, "view"))
        show = one_of(t("Show"), list(SHOWN), _key(task, "show")) if view != "Overview" else "all"
        pick = one_of(t("Pick with"), list(PICKS), _key(task, "pick")) if view == "Contact sheet" else "clicks"
    rows = list(range(len(keep))) if show == "all" else np.flatnonzero(keep == (show == "kept")).tolist()
    if not rows:
        empty_state(t("No sample is kept.") if show == "kept" else t("No sample is dropped."))
        return
    if view == "Look":
        look_view(task, worker, inspection.folder.name, inspection.samples, rows, inspection.acquisition)
        return
    if view == "Overview":
        over = task.overview(inspection.samples, inspection.readings, keep, rules)
        picked = show_overview(task, over, _key(task, "overview"), _turn(task), inspection.made)
    elif view == "Table":
        picked = _table(task, inspection, rows, flags, keep)
    else:
        picked = _contact_sheet(task, worker, inspection, rows, flags, keep, frame=pick == "a frame")
    _by_hand(task, inspection, picked)
    if picked:
        row = picked[0]
        more = t("the first of {n} picked", n=len(picked)) if len(picked) > 1 else ""
        st.markdown("##### " + " · ".join(filter(None, [str(row + 1), plain(inspection.files[row]), more])))
        why = _reasons(flags, inspection.hand)[row]
        st.caption(plain(": ".join(filter(None, [t("Kept") if keep.iloc[row] else t("Dropped"), why]))))
        show_panels(panels_of(task, worker, inspection.pictured, row), _key(task, f"sample-{row}"))


def _reasons(flags: pd.DataFrame, hand: Hand) -> list[str]:
    """`recipe.reasons` with the hand's words in the reader's language; rules go by their keys, as in the recipe."""
    by_hand = {"kept by hand": t("kept by hand"), "dropped by hand": t("dropped by hand")}
    return ["; ".join(by_hand.get(part, part) for part in why.split("; ")) for why in recipe.reasons(flags, hand)]


def _contact_sheet(
    task: Task,
    worker: WorkerLike,
    inspection: Inspection,
    rows: Sequence[int],
    flags: pd.DataFrame,
    keep: pd.Series,
    *,
    frame: bool,
) -> list[int]:
    """One page of thumbnails; returns the rows picked in it."""
    pages = math.ceil(len(rows) / PER_PAGE)
    page = _page_number(task, pages) if pages > 1 else 1
    shown = list(rows[(page - 1) * PER_PAGE : page * PER_PAGE])
    why, small = _reasons(flags, inspection.hand), small_pictures(task, worker, inspection.pictured, shown)
    if small is None:
        return []
    sheet = compose(
        small, [str(row + 1) for row in shown],
        [bool(keep.iloc[row]) for row in shown], [row in inspection.hand for row in shown],
    )  # fmt: skip
    hover = [f"{row + 1} · {plotly_text(inspection.files[row])}<br>{why[row] or t('kept')}" for row in shown]
    event: Any = st.plotly_chart(
        themed(sheet_figure(sheet, hover, frame=frame), theme()), theme=None, width="stretch", on_select="rerun",
        selection_mode=("points", "box"), config={"displayModeBar": False},
        key=_key(task, f"sheet-{page}-{hash(tuple(shown))}-{_turn(task)}-{frame}"),
        alt=t("Contact sheet of the samples: dropped ones are dimmed and crossed"),
    )  # fmt: skip
    st.caption(
        t("Drag a frame over the pictures to pick. Crossed: dropped. Corner: by hand.")
        if frame
        else t("Click a picture to look at it, with Shift to pick several. Crossed: dropped. Corner: by hand.")
    )
    return sorted(shown[int(index)] for index in event["selection"]["point_indices"] if int(index) < len(shown))


def _page_number(task: Task, pages: int) -> int:
    key = _key(task, "page")
    if int(st.session_state.get(key) or 1) > pages:
        st.session_state[key] = pages
    return int(st.number_input(t("Page of {pages}", pages=pages), 1, pages, key=key, persist_state="session", width=140) or 1)


def _table(task: Task, inspection: Inspection, rows: Sequence[int], flags: pd.DataFrame, keep: pd.Series) -> list[int]:
    """The readings; returns the rows picked in it."""
    why = _reasons(flags, inspection.hand)
    readings = inspection.readings.reset_index(drop=True)
    readings.insert(0, "no.", range(1, len(readings) + 1))
    readings.insert(1, "kept", keep.to_numpy(bool))
    readings.insert(3, "why", why)
    if "note" not in readings and "note" in inspection.samples.table:
        readings["note"] = inspection.samples.table["note"].to_numpy()
    shown = readings.iloc[list(rows)[:TABLE_ROWS]]
    event: Any = st.dataframe(
        shown, column_config=column_config(task, shown), hide_index=True, on_select="rerun", selection_mode="multi-row",
        key=_key(task, f"table-{hash(tuple(rows))}-{_turn(task)}"), width="stretch", lazy=False,
    )  # fmt: skip
    if len(rows) > TABLE_ROWS:
        text = t("The first {most:,} of {n:,} rows; **Readings as CSV** below has all of them.", most=TABLE_ROWS, n=len(rows))
        st.caption(text)
    st.caption(t("Pick rows at their left edge to look at a sample, or to keep or drop several together."))
    return [rows[int(index)] for index in event["selection"]["rows"] if int(index) < len(rows)]


# --- by hand ---------------------------------------------------------------------------------------------------------
def _turn(task: Task) -> int:
    """Counts changes by hand: part of the pictures' keys, so that a selection ends when it was used."""
    return int(st.session_state.get(_key(task, "turn"), 0))


def _by_hand(task: Task, inspection: Inspection, picked: Sequence[int]) -> None:
    """Keep, drop, undo."""

    def change(hand: Hand) -> None:
        inspection.hands.append(hand)
        st.session_state[_key(task, "turn")] = _turn(task) + 1

    def undo() -> None:
        inspection.hands.pop()

    n = len(picked)
    words = (
        ("keep", t("Keep {n} picked", n=n) if n > 1 else t("Keep picked"), True, ":material/check:"),
        ("drop", t("Drop {n} picked", n=n) if n > 1 else t("Drop picked"), False, ":material/close:"),
    )
    with st.container(horizontal=True):
        for name, label, keep, icon in words:
            st.button(
                label, key=_key(task, name), icon=icon, disabled=not picked, on_click=change,
                args=(inspection.hand | dict.fromkeys(picked, keep),), help=None if picked else t("Pick samples first."),
            )  # fmt: skip
        st.button(t("Undo"), key=_key(task, "undo"), icon=":material/undo:", disabled=len(inspection.hands) < 2, on_click=undo)
        st.button(
            t("Forget all changes by hand"), key=_key(task, "forget"), icon=":material/restart_alt:", type="tertiary",
            disabled=not inspection.hand, on_click=change, args=({},),
        )  # fmt: skip


# --- export ----------------------------------------------------------------------------------------------------------
def _export(
    task: Task, inspection: Inspection, worker: WorkerLike, rules: dict[str, Any], flags: pd.DataFrame, keep: pd.Series
) -> None:
    """The kept set as a download or as a set of this bench, the recipe alone, the readings."""

    def text() -> str:
        files = inspection.files
        return recipe.build(task, rules, inspection.acquisition, files, inspection.digests(), flags, inspection.hand)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(set(inspection.files)) == len(inspection.files):
            _kept_files(task, inspection, text, keep)
        else:
            _kept_table(task, inspection, worker, text, keep)
        st.download_button(
            t("Recipe"), text, "recipe.json", "application/json",
            key=_key(task, "recipe"), on_click="ignore", icon=":material/receipt_long:",
            help=t("Rules, instrument settings, every file by its SHA-256, what was dropped and why."),
        )  # fmt: skip
        st.download_button(
            t("Readings as CSV"), lambda: _readings_csv(inspection, flags, keep), f"{task.name}-readings.csv", "text/csv",
            key=_key(task, "csv"), on_click="ignore", icon=":material/csv:",
        )  # fmt: skip
    kept_in = st.session_state.get(_key(task, "kept-in"))
    if kept_in is not None and kept_in.is_dir():
        _where_kept(task, kept_in)


def _kept_files(task: Task, inspection: Inspection, text: Callable[[], str], keep: pd.Series) -> None:
    """Untouched files of the kept samples in one ZIP."""
    originals = inspection.originals()
    chosen = [file for file, kept in zip(inspection.files, keep) if kept]
    size = sum(originals[file][0].stat().st_size for file in chosen)

    def archive() -> bytes:
        names = archive_names(["recipe.json", *chosen])[1:]
        raw = ((name, originals[file][0].read_bytes()) for name, file in zip(names, chosen))
        return zip_files([("recipe.json", text().encode()), *raw])

    too_large = size > MAX_ZIP_BYTES
    told = t("ZIP of the untouched raw files of every kept sample, and recipe.json.")
    if too_large:
        told = t("Too large for one ZIP in the browser: take the recipe, it names each file with its hash.")
    label = t("Kept set: {files}, {size} MB", files=counted(len(chosen)), size=f"{size / 1e6:.3g}")
    st.download_button(
        label, archive, f"{task.name}-kept.zip", "application/zip",
        key=_key(task, "zip"), on_click="ignore", icon=":material/folder_zip:", type="primary",
        disabled=not chosen or too_large, help=told,
    )  # fmt: skip


def _kept_table(task: Task, inspection: Inspection, worker: WorkerLike, text: Callable[[], str], keep: pd.Series) -> None:
    """A name and a button that writes the kept samples, with the recipe, where trainings find them."""
    name = st.text_input(t("Name of the kept set"), f"clean-{time.strftime('%Y%m%d')}", key=_key(task, "set-name"), width=240)
    n = int(keep.sum())
    pressed = st.button(
        t("Save the kept set: {n:,} samples", n=n), key=_key(task, "save"), icon=":material/save:", type="primary",
        disabled=not n,
        help=t("Writes the kept samples and recipe.json into the bench's data folder. The raw files stay as they are."),
    )  # fmt: skip
    if not pressed:
        return
    if archive_names([name]) != [name] or name.startswith("."):
        problem = t("it cannot be the name of a folder")
        raise InputError(t("name {name}", name=repr(name)), problem, t("Use letters, digits, - and _."))
    folder = home() / "data" / task.name / name
    payload = {
        "task": task.name, "folder": inspection.folder.name, "keep": keep.tolist(), "files": inspection.raw, "recipe": text(),
        "output": str(folder),
    }  # fmt: skip
    with st.spinner(t("Writing the kept set …"), show_time=True):
        worker.request("keep", payload)
    st.session_state[_key(task, "kept-in")] = folder


def _where_kept(task: Task, folder: Path) -> None:
    """Where the set lies, and what can be done with it."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.markdown(t(":material/check: Saved as the set **{name}** in `{folder}` ({size} MB).",
                      name=plain(folder.name), folder=folder, size=f"{size / 1e6:.3g}"))  # fmt: skip
        stage_link(task.name, "train", t("Train on it"), icon=":material/model_training:", data=folder.name)
        if size <= MAX_ZIP_BYTES:
            st.download_button(
                t("Download it"), lambda: zip_folder(folder), f"{folder.name}.zip", "application/zip",
                key=_key(task, "set-zip"), on_click="ignore", icon=":material/folder_zip:",
            )  # fmt: skip


def _readings_csv(inspection: Inspection, flags: pd.DataFrame, keep: pd.Series) -> str:
    why = recipe.reasons(flags, inspection.hand)
    table = inspection.readings.reset_index(drop=True).assign(kept=keep.to_numpy(bool), why=why)
    return str(table.to_csv(index=False, lineterminator="\n"))


# --- recipe ----------------------------------------------------------------------------------------------------------
def _recipe_upload(task: Task) -> None:
    """Take a recipe and apply it to the files at hand, or to the next ones."""
    with st.expander(t("Apply a recipe made before"), icon=":material/receipt_long:"):
        key = _key(task, "recipe-upload")
        upload = st.file_uploader("recipe.json", key=key, type=["json"])
        icon = ":material/playlist_add_check:"
        if upload is not None and st.button(t("Apply the recipe"), key=_key(task, "recipe-apply"), icon=icon):
            wanted = recipe.parse(task, upload.getvalue(), upload.name)
            _take_recipe(task, wanted)
            st.rerun()
        applied = st.session_state.get(_key(task, "applied"))
        if applied:
            st.markdown(plain(applied))


def _take_recipe(task: Task, wanted: dict[str, Any]) -> None:
    """Fill the forms from a recipe; apply its hand now, or when the files have been read with its instrument settings."""
    fill_form(_key(task, "rules"), wanted["rules"])
    fill_form(acquisition_key(task), wanted["acquisition"])
    inspection: Inspection | None = st.session_state.get(_key(task, "inspection"))
    if inspection is not None and inspection.acquisition == wanted["acquisition"]:
        _apply_recipe(task, inspection, wanted)
        return
    st.session_state[_key(task, "recipe-waiting")] = wanted
    st.session_state[_key(task, "applied")] = t(
        "The rules and instrument settings of the recipe are filled in. Read its files now: the choice by hand follows."
    )


def _apply_recipe(task: Task, inspection: Inspection, wanted: dict[str, Any]) -> None:
    """Replace the hand's choice by the recipe's and say how well the result agrees with it."""
    applied = recipe.apply(wanted, inspection.files, inspection.digests())
    inspection.hands.append(applied.hand)
    flags = flagged(task, inspection.readings, task.Rules.parse(wanted["rules"]))
    keep = recipe.kept(flags, applied.hand)
    here = len(applied.kept)
    same = sum(bool(keep.iloc[row]) == kept for row, kept in applied.kept.items())
    report = [
        t("Recipe applied: {same} of {here} samples come out as when it was made; {kept} are kept.",
          same=same, here=here, kept=int(keep.sum())),
    ]  # fmt: skip
    if applied.missing:
        files, first = counted(len(applied.missing)), applied.missing[0]
        report.append(t("{files} of the recipe are not here, the first is {first}.", files=files, first=first))
    if applied.unknown:
        text = t("{n} samples here are not in the recipe; the rules alone decide on them.", n=applied.unknown)
        report.append(text)
    st.session_state[_key(task, "applied")] = " ".join(report)
