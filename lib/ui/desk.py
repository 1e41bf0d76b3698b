"""What one session has before it while it looks into pictures: which one, those fetched from the worker, what was drawn."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from lib.drawn import Stroke
from lib.labels import History, Place, places
from lib.task import InputError, Panel, Samples, Task
from lib.ui.context import WorkerLike, show_error
from lib.ui.files import private_folder
from lib.ui.plate import Edit, Sheet, Shown, Tool
from lib.ui.words import t

SHEETS_KEPT = 6


@dataclass(frozen=True)
class Pictures:
    """Samples that were read, under `acquisition`: `folder` has them for the worker, `rows` are those to go through."""

    folder: str
    samples: Samples
    rows: Sequence[int]
    acquisition: Mapping[str, Any]


@dataclass
class Comparison:
    """A finished comparison of finders, as `lib.looking` made it: tables, and what was asked."""

    summary: pd.DataFrame
    frames: pd.DataFrame
    marks: pd.DataFrame
    wanted: pd.DataFrame
    finders: list[dict[str, Any]]
    failures: list[dict[str, str]]


@dataclass
class Desk:
    """A session's place in a set of pictures; it goes when other files are read."""

    task: Task
    worker: WorkerLike
    pictures: Pictures
    places: list[Place]
    row: int
    folder: tempfile.TemporaryDirectory[str] = field(default_factory=private_folder)
    sheets: dict[int, Sheet] = field(default_factory=dict)
    found: dict[tuple[int, str], pd.DataFrame] = field(default_factory=dict)
    panels: tuple[int, list[Panel]] | None = None
    strokes: list[Stroke] = field(default_factory=list)
    unstroked: list[Stroke] = field(default_factory=list)
    histories: dict[str, History] = field(default_factory=dict)  # by label set
    asked: list[dict[str, Any]] = field(default_factory=list)  # finders to compare
    compared: Comparison | None = None
    trouble: InputError | None = None  # what went wrong while a hand's edit was taken
    told: str = ""  # what was done last, to be said once

    def key(self, name: str) -> str:
        """A key of the session, this task's alone."""
        return f"{self.task.name}-look-{name}"

    def label(self, row: int) -> str:
        """What a picture is called: its file and number."""
        file, frame = self.places[row]
        return f"{file} · {frame}"

    def payload(self, **more: Any) -> dict[str, Any]:
        """What every request to the worker needs, and more."""
        return {
            "task": self.task.name, "folder": self.pictures.folder, "acquisition": dict(self.pictures.acquisition),
            "language": self.task.language, **more,
        }  # fmt: skip

    def sheet(self) -> Sheet:
        """The picture that is looked at; the worker reads it once. Raises InputError."""
        if self.row not in self.sheets:
            value = self.worker.request("plate", self.payload(row=self.row, output=self.folder.name))
            self.sheets[self.row] = Sheet.of(self.row, self.label(self.row), Path(value["path"]))
            while len(self.sheets) > SHEETS_KEPT:
                self.sheets.pop(next(iter(self.sheets))).path.unlink(missing_ok=True)
        return self.sheets[self.row]

    def marks(self, asked: Mapping[str, Any]) -> pd.DataFrame:
        """What a finder marks in the picture that is looked at; asked for once. Raises InputError."""
        key = (self.row, json.dumps(dict(asked), sort_keys=True))
        if key not in self.found:
            found, failures = self.find([self.row], asked)
            if failures:
                problem, remedy = failures[0]["error"], t("Look at another one, or change the finder's settings.")
                raise InputError(failures[0]["file"], problem.removesuffix("."), remedy)
            self.found[key] = found
        return self.found[key]

    def find(self, rows: Sequence[int], asked: Mapping[str, Any]) -> tuple[pd.DataFrame, list[dict[str, str]]]:
        """What a finder marks in several pictures, with their `row`, and failures."""
        output = Path(self.folder.name) / "found.parquet"
        value = self.worker.request("find", self.payload(rows=list(rows), finder=dict(asked), output=str(output)))
        return pd.read_parquet(output), list(value["failures"])

    def step(self, by: int) -> None:
        """Go on by some pictures among those to go through."""
        rows = list(self.pictures.rows)
        at = rows.index(self.row) if self.row in rows else 0
        self.row = rows[min(max(at + by, 0), len(rows) - 1)]


@dataclass
class Dressing:
    """What one way of looking lays over the picture, and what hands may do there."""

    marks: list[Shown] = field(default_factory=list)
    editable: str = ""
    strokes: Sequence[Stroke] = ()
    tools: tuple[Tool, ...] = ("move",)
    keys: dict[str, str] = field(default_factory=dict)
    on_edit: Callable[[Edit], None] = lambda _edit: None
    below: Callable[[], None] = lambda: None  # shows what needs the whole width


def desk_of(task: Task, worker: WorkerLike, pictures: Pictures) -> Desk:
    """The session's desk for these samples; a new one where other files were read."""
    key = f"{task.name}-look-desk"
    desk: Desk | None = st.session_state.get(key)
    if desk is None or desk.pictures.folder != pictures.folder:
        desk = Desk(task, worker, pictures, places(pictures.samples.table), pictures.rows[0])
        st.session_state[key] = desk
    desk.task, desk.worker, desk.pictures = task, worker, pictures
    if desk.row not in pictures.rows:
        desk.row = pictures.rows[0]
    return desk


def attempt(desk: Desk, act: Callable[[], None]) -> None:
    """Do what a button or a hand asked for, before the page is drawn; why it failed is said there."""
    try:
        act()
    except InputError as error:
        desk.trouble = error


def hold(key: str) -> None:
    """Have a choice shown as it is when its widget comes back after long work."""
    if key in st.session_state:
        st.session_state[key] = st.session_state[key]


def show_news(desk: Desk) -> None:
    """Say once what was done last, or why it failed."""
    if desk.trouble is not None:
        show_error(desk.trouble)
        desk.trouble = None
    if desk.told:
        st.success(desk.told, icon=":material/check:")
        desk.told = ""
