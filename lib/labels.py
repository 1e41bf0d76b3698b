"""Label sets: points that people marked in samples, kept under the bench's data folder, never beside raw data.

A set is the folder `data/<task>/labels/<name>/` with `labels.json` (who, when, which frames are done) and a Parquet file of
points. `labels.json` names its points file and is renamed into place last: a set is read whole, as it was before a change or
after it. Several sessions may work on one set: each change is applied to what lies on disk then.
"""

from __future__ import annotations

import io
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.disk import LABEL_SET, LABELS
from lib.runs import data_dir, read_json, write_atomic, write_json
from lib.task import InputError, Phrase
from lib.uploads import archive_names

FORMAT, VERSION = "lightbench-labels", 1
COLUMNS = ("file", "frame", "y_px", "x_px")
COUNTS = ("n_common", "n_only_found", "n_only_wanted")
LOCK_WAIT_S, LOCK_STALE_S = 10.0, 30.0
Place = tuple[str, int]  # display name of the file, number of the frame in it
Points = tuple[tuple[float, float], ...]


def places(table: pd.DataFrame) -> list[Place]:
    """File and frame of each sample; without a column `frame`, the sample's number among those of its file."""
    files = [str(file) for file in table["file"]]
    numbers = table["frame"] if "frame" in table else table.groupby("file", sort=False).cumcount()
    return [(file, int(number)) for file, number in zip(files, numbers, strict=True)]


@dataclass(frozen=True)
class Change:
    """Points (y, x) in pixels that come and go in one frame, and whether it becomes done; None leaves that as it is."""

    place: Place
    added: Points = ()
    removed: Points = ()
    done: bool | None = None

    def undone(self) -> Change:
        """The change that takes this one back."""
        return Change(self.place, self.removed, self.added, None if self.done is None else not self.done)


@dataclass(frozen=True)
class LabelSet:
    """Points per frame: `table` has the columns COLUMNS; `done` are frames that a person went through, empty ones too.

    `about` tells `by`, `created_at` and `changed_at` (unix seconds), and `started_from`, a finder with its parameters or None.
    `acquisitions` holds, by file, what was typed of the instrument when its marks last changed; of others nobody noted it.
    """

    name: str
    table: pd.DataFrame = field(default_factory=lambda: _points_table([]))
    done: frozenset[Place] = frozenset()
    about: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 0
    acquisitions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def points(self, file: str, frame: int) -> pd.DataFrame:
        """Columns `y_px`, `x_px` of one frame, in the order they were marked."""
        here = (self.table["file"] == file) & (self.table["frame"] == frame)
        return self.table.loc[here, ["y_px", "x_px"]].reset_index(drop=True)

    def frames(self) -> list[Place]:
        """Frames that have points or are done, in order."""
        with_points = self.table[["file", "frame"]].drop_duplicates().itertuples(index=False)
        return sorted({(str(file), int(frame)) for file, frame in with_points} | self.done)

    def changed(self, changes: Sequence[Change]) -> LabelSet:
        """This set after the changes. A point that is there already is not added again; one that is gone cannot go."""
        held: dict[Place, dict[tuple[float, float], None]] = {}
        for change in changes:
            points = held.setdefault(change.place, dict.fromkeys(self.points(*change.place).itertuples(index=False, name=None)))
            for gone in change.removed:
                points.pop(gone, None)
            points.update(dict.fromkeys(change.added))
        keys = pd.MultiIndex.from_frame(self.table[["file", "frame"]])
        rest = self.table[~keys.isin(list(held))] if held else self.table
        rows = [(*place, *point) for place, points in held.items() for point in points]
        done = set(self.done)
        for change in changes:
            if change.done is not None:
                (done.add if change.done else done.discard)(change.place)
        table = pd.concat([rest, _points_table(rows)], ignore_index=True) if len(rest) else _points_table(rows)
        return replace(self, table=table, done=frozenset(done))

    def to_csv(self) -> str:
        """`file,frame,y_px,x_px,done`; a done frame without points has a line with empty positions."""
        table = self.table.assign(done=[place in self.done for place in zip(self.table["file"], self.table["frame"])])
        with_points = set(zip(self.table["file"], self.table["frame"]))
        empty = [(*place, np.nan, np.nan, True) for place in sorted(self.done - with_points)]
        whole = pd.concat([table, pd.DataFrame(empty, columns=table.columns)]) if empty else table
        return str(whole.sort_values(["file", "frame"], kind="stable").to_csv(index=False, lineterminator="\n"))


def _points_table(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"file": "str", "frame": "int64", "y_px": "float64", "x_px": "float64"})


# --- on disk ----------------------------------------------------------------------------------------------------------
def folder_of(task: str) -> Path:
    """Where a task's label sets are kept; need not exist yet."""
    return data_dir() / task / LABELS


def names(task: str) -> list[str]:
    """The label sets of a task, the one changed last first."""
    return _names_in(folder_of(task))


def _names_in(folder: Path) -> list[str]:
    found = [path for path in folder.glob(f"*/{LABEL_SET}") if not path.parent.name.startswith(".")]
    return [path.parent.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def create(task: str, name: str, by: str = "", started_from: Mapping[str, Any] | None = None) -> Path:
    """A new, empty set; returns its folder. Raises InputError for a name that is taken or cannot be one of a folder."""
    if not name.strip() or archive_names([name]) != [name] or name.startswith("."):
        raise InputError(
            Phrase("name {name!r}", name=name), "it cannot be the name of a label set", "Use letters, digits, - and _."
        )
    folder = folder_of(task) / name
    try:
        folder.mkdir(parents=True)
        _write(folder, LabelSet(name, about={"by": by, "created_at": time.time(), "started_from": started_from}))
    except FileExistsError:
        raise InputError(
            Phrase("name {name!r}", name=name), "there is such a label set already", "Choose another name."
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def load(folder: Path) -> LabelSet:
    """The set in a folder. Raises InputError where there is none, or where it is damaged."""
    if not folder.is_dir():
        there = _names_in(folder.parent)
        remedy = Phrase("There are: {sets}.", sets=", ".join(there)) if there else "There are no label sets yet."
        raise InputError(_subject(folder), "there is no such label set", remedy)
    for attempt in range(5):
        about = read_json(folder / LABEL_SET)
        if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("version") != VERSION:
            problem = "labels.json is missing, damaged or of another version"
            raise InputError(_subject(folder), problem, "Choose another set, or restore its folder from a backup.")
        try:
            table = pd.read_parquet(folder / Path(about["points"]).name)[list(COLUMNS)]
            revision = int(about["revision"])
            done = frozenset((str(file), int(frame)) for file, frames in about["done"].items() for frame in frames)
            acquisitions = {str(file): dict(typed) for file, typed in about.get("acquisitions", {}).items()}
        except FileNotFoundError:  # another session has just replaced it
            time.sleep(0.02 * (attempt + 1))
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(folder) from error
        known = {key: about.get(key) for key in ("by", "created_at", "changed_at", "changed_by", "started_from")}
        points = _points_table(list(table.itertuples(index=False, name=None)))
        return LabelSet(folder.name, points, done, known, revision, acquisitions)
    raise _damaged(folder)


def change(folder: Path, changes: Sequence[Change], by: str = "", acquisition: Mapping[str, Any] | None = None) -> LabelSet:
    """Apply changes to the set as it lies on disk now, write it, and return it. Raises InputError; nothing is changed then.

    `acquisition` is what was typed of the instrument when these files were read, as plain JSON values; None leaves that as it is.
    """
    try:
        with _locked(folder):
            found = load(folder)
            about = dict(found.about) | {"changed_by": by or found.about.get("by", "")}
            typed = {change.place[0]: dict(acquisition) for change in changes} if acquisition is not None else {}
            labels = replace(
                found.changed(changes), about=about, revision=found.revision + 1, acquisitions={**found.acquisitions, **typed}
            )
            _write(folder, labels)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return labels


def _write(folder: Path, labels: LabelSet) -> None:
    """Points first, then labels.json, which makes them count; points that no longer count go, but for the last ones."""
    buffer = io.BytesIO()
    labels.table.to_parquet(buffer)
    points = f"points-{labels.revision:06d}-{secrets.token_hex(3)}.parquet"
    last = (read_json(folder / LABEL_SET) or {}).get("points")
    write_atomic(folder / points, buffer.getvalue())
    done: dict[str, list[int]] = {}
    for file, frame in sorted(labels.done):
        done.setdefault(file, []).append(frame)
    write_json(folder / LABEL_SET, {
        "format": FORMAT, "version": VERSION, "name": labels.name, **labels.about, "changed_at": time.time(),
        "revision": labels.revision, "points": points, "done": done, "acquisitions": dict(labels.acquisitions),
    })  # fmt: skip
    for path in folder.glob("points-*.parquet"):
        if path.name not in (points, last):
            path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time, over threads, processes and machines; a lock that its owner left behind is broken."""
    lock, deadline = folder / ".lock", time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if _age_s(lock) > LOCK_STALE_S:
                lock.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                problem = "another session is writing it"
                raise InputError(_subject(folder), problem, "Try again in a moment.") from None
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _damaged(folder: Path) -> InputError:
    problem = "its points cannot be read"
    return InputError(_subject(folder), problem, "Choose another set, or restore its folder from a backup.")


def _subject(folder: Path) -> Phrase:
    return Phrase("label set {name}", name=folder.name)


def _unwritable(folder: Path, error: OSError) -> InputError:
    problem = Phrase("it cannot be written ({why})", why=error.strerror or str(error))
    return InputError(_subject(folder), problem, "Free some space, or check the permissions of the data folder.")


# --- a session's work -------------------------------------------------------------------------------------------------
@dataclass
class History:
    """What one session did to a set, newest last, to take back and do again."""

    past: list[list[Change]] = field(default_factory=list)
    future: list[list[Change]] = field(default_factory=list)

    def did(self, changes: Sequence[Change]) -> None:
        """Note changes that were made together; what was undone before is forgotten."""
        self.past.append(list(changes))
        self.future.clear()

    def undo(self) -> list[Change]:
        """The changes that take the last ones back; empty where there are none."""
        if not self.past:
            return []
        self.future.append(self.past.pop())
        return [one.undone() for one in reversed(self.future[-1])]

    def redo(self) -> list[Change]:
        """The changes that were undone last; empty where there are none."""
        if not self.future:
            return []
        self.past.append(self.future.pop())
        return self.past[-1]


# --- agreement --------------------------------------------------------------------------------------------------------
def agreement(
    found: LabelSet, wanted: LabelSet, compare: Callable[[pd.DataFrame, pd.DataFrame], Mapping[str, float]]
) -> pd.DataFrame:
    """One row per frame that is done in both sets: file, frame, n_common, n_only_found, n_only_wanted.

    Where no frame is done in both, those with points in both. `compare` is the task's `compare_marks`.
    """
    both = found.done & wanted.done or set(found.frames()) & set(wanted.frames())
    rows = []
    for place in sorted(both):
        counts = compare(found.points(*place), wanted.points(*place))
        rows.append((*place, *(int(counts[name]) for name in COUNTS)))
    return pd.DataFrame(rows, columns=["file", "frame", *COUNTS])


def totals(counts: pd.DataFrame) -> dict[str, float]:
    """Sums of the COUNTS of several frames, and precision, recall and F1 of them together; NaN where a share is of nothing."""
    common, only_found, only_wanted = (float(counts[name].sum()) for name in COUNTS)

    def share(rest: float) -> float:
        return common / (common + rest) if common + rest else float("nan")

    whole = 2 * common + only_found + only_wanted
    return {
        "precision": share(only_found), "recall": share(only_wanted), "f1": 2 * common / whole if whole else 1.0,
        "n_common": common, "n_only_found": only_found, "n_only_wanted": only_wanted,
    }  # fmt: skip
