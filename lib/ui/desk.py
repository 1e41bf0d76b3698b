"""What one session has before it while it looks into pictures: which one, those fetched from the worker, what was drawn."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
from lib.ui.plate import Edit, Neighbour, Sheet, Shown, Tool, Turn
from lib.ui.words import t
from lib.ui.work import Work, at_once, awaited, start

SHEETS_KEPT = 6
SLOTS = 3  # in the browser: the frame that is looked at, the next one, the one before
WHOLE_SLOT = SLOTS  # and one for a picture of the whole run
AHEAD_BYTES = 40_000_000  # larger pictures are not sent to the browser before they are asked for


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


@dataclass(frozen=True)
class Whole:
    """Pictures of a whole run, by name, of `n` frames; and those that could not be read."""

    sheets: Mapping[str, Sheet]
    n: int
    failures: list[dict[str, str]]


@dataclass
class Desk:
    """A session's place in a set of pictures; it goes when other files are read."""

    task: Task
    worker: WorkerLike
    pictures: Pictures
    places: list[Place]
    row: int
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    folder: tempfile.TemporaryDirectory[str] = field(default_factory=private_folder)
    sheets: dict[int, Sheet] = field(default_factory=dict)
    sent: dict[int, Turn] = field(default_factory=dict)  # what was said with the pixels in each slot of the browser
    numbered: tuple[int, int] = (0, -1)  # which field for the number is on the page, and which number it was made for
    found: dict[tuple[int, str], pd.DataFrame] = field(default_factory=dict)
    panels: tuple[tuple[int, str], list[Panel]] | None = None  # with row and language
    works: dict[tuple[Any, ...], Work] = field(default_factory=dict)  # requests on their way, or that failed
    whole: Whole | None = None
    # when finders that are models were listed, and what each is called
    models: tuple[float, dict[str, str]] = field(default_factory=lambda: (-math.inf, {}))
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

    def work(self, op: str, about: tuple[Any, ...], label: str, **more: Any) -> Work:
        """A request to the worker, sent once for what it is about until `taken`."""
        key = (op, *about)
        if key not in self.works:
            self.works[key] = start(self.worker, op, self.payload(**more), label)
        return self.works[key]

    def taken(self, op: str, about: tuple[Any, ...]) -> None:
        """Its value is no longer needed, or it shall be sent again."""
        self.works.pop((op, *about), None)

    def sheet(self, row: int | None = None) -> Sheet:
        """The picture that is looked at, or another one; the worker reads it once. Raises InputError."""
        row = self.row if row is None else row
        if row not in self.sheets:
            try:
                value = awaited(self._reading(row))
            except InputError:
                self.taken("plate", (row,))
                raise
            assert value is not None
            self.sheets[row] = Sheet(row, self.label(row), Path(value["path"]), self.token(row))
            self.taken("plate", (row,))
            while len(self.sheets) > SHEETS_KEPT:
                self.sheets.pop(next(iter(self.sheets))).path.unlink(missing_ok=True)
        self.sheets[row] = self.sheets.pop(row)  # the last one to go
        return self.sheets[row]

    def token(self, row: int) -> str:
        """What tells the picture of a row from any other, also before it is read."""
        return f"{self.name}{row:08x}"

    def beside(self) -> dict[str, Neighbour]:
        """The pictures after and before this one, by the kind of edit that leads there."""
        rows = list(self.pictures.rows)
        at = rows.index(self.row)
        there = {"next": at + 1, "previous": at - 1}
        return {
            kind: {"row": rows[place], "label": self.label(rows[place]), "token": self.token(rows[place])}
            for kind, place in there.items() if 0 <= place < len(rows)
        }  # fmt: skip

    def _reading(self, row: int) -> Work:
        return self.work("plate", (row,), t("reading {files}", files=self.label(row)), row=row, output=self.folder.name)

    def slot(self, row: int) -> int:
        """Where the browser keeps the picture of a row: neighbours do not take each other's place."""
        return list(self.pictures.rows).index(row) % SLOTS

    def look_ahead(self) -> list[Sheet]:
        """The pictures after and before this one, read while the reader looks at it; without those that cannot be."""
        rows, found = list(self.pictures.rows), []
        at = rows.index(self.row)
        neighbours = [rows[place] for place in (at + 1, at - 1) if 0 <= place < len(rows)]
        for row in neighbours:
            if row not in self.sheets:
                self._reading(row)
        for row in neighbours:
            with suppress(InputError):  # it is told when that picture is looked at
                found.append(self.sheet(row))
        if self.row in self.sheets:
            self.sheets[self.row] = self.sheets.pop(self.row)  # this one is the last one to go
        return [sheet for sheet in found if sheet.path.stat().st_size <= AHEAD_BYTES]

    def marks(self, asked: Mapping[str, Any]) -> pd.DataFrame:
        """What a finder marks in the picture that is looked at; asked for once. Raises InputError."""
        found = self.search(asked, awaited)
        assert found is not None
        return found

    def search(self, asked: Mapping[str, Any], wait: Callable[[Work], dict[str, Any] | None] = at_once) -> pd.DataFrame | None:
        """`marks`, or None while finding takes longer than `wait` allows. Raises InputError, until `search_again`."""
        key = (self.row, json.dumps(dict(asked), sort_keys=True))
        if key not in self.found:
            value = wait(self.searching(asked))
            if value is None:
                return None
            if value["failures"]:
                failure, remedy = value["failures"][0], t("Look at another one, or change the finder's settings.")
                raise InputError(failure["file"], failure["error"].removesuffix("."), remedy)
            self.found[key] = pd.read_parquet(self._found_in(key))
            self._found_in(key).unlink(missing_ok=True)
            self.taken("find", key)
        return self.found[key]

    def searching(self, asked: Mapping[str, Any]) -> Work:
        """The work of finding marks in the picture that is looked at."""
        key = (self.row, json.dumps(dict(asked), sort_keys=True))
        output = str(self._found_in(key))
        return self.work("find", key, t("finding"), rows=[self.row], finder=dict(asked), output=output)

    def search_again(self, asked: Mapping[str, Any]) -> None:
        """Forget a search that failed, or was stopped."""
        self.taken("find", (self.row, json.dumps(dict(asked), sort_keys=True)))

    def _found_in(self, key: tuple[int, str]) -> Path:
        return Path(self.folder.name) / f"found-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.parquet"

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
    picture: Sheet | None = None  # to show in place of the frame


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
