"""Looking into large pictures, in the worker: one at a time, their marks, what several finders make of many, suggested masks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import labels
from lib.labels import COUNTS
from lib.task import Arrays, Config, InputError, Phrase, Plate, Samples, Task

Progress = Callable[[float, str], None]
Predict = Callable[[Samples], pd.DataFrame]
MASK_FRAMES = 24  # a run's hot pixels show in these many frames
MODEL = "model:"  # before the id of a run whose model is a finder
ERROR = "error:"  # begins the note of a sample that could not be read
PROJECT_S = 1.0  # for so long a run is gathered before others get their turn,
ABOUT = "about the gathering"  # name of what is kept beside a task's own arrays
OVERHEAD = 8  # or for so many times as long as it takes to go on where it was left


@dataclass(frozen=True)
class Asked:
    """One finder with its parameters: `find` gives the marks in one sample, of its row and the acquisition."""

    name: str
    find: Callable[[Samples, int, Config], pd.DataFrame]

    @staticmethod
    def of(task: Task, values: Mapping[str, Any]) -> Asked:
        """From plain `name` and `parameters`. Raises InputError for another finder or wrong parameters."""
        name = str(values["name"])
        if name not in task.finders:
            problem, remedy = "there is no such finder", Phrase("Finders: {names}.", names=", ".join(task.finders))
            raise InputError(Phrase("finder {name!r}", name=name), problem, remedy)
        config = task.finders[name].parse(values.get("parameters") or {}, Phrase("settings of {name}", name=name))
        return Asked(name, lambda samples, row, acquisition: task.find(samples, row, name, config, acquisition))

    @staticmethod
    def learned(name: str, task: Task, predict: Predict) -> Asked:
        """A trained model of a task whose judged parts have a place; `predict` is the model's, `task` knows its facts."""
        return Asked(name, lambda samples, row, _acquisition: judged_marks(task, predict, samples.take([row])))


def judged_marks(task: Task, predict: Predict, one: Samples) -> pd.DataFrame:
    """The parts of one sample that a model keeps, columns `y_px`, `x_px` and what else it tells. Raises InputError."""
    table, kept = task.whole(predict(task.parts(one)), one)
    note = str(table["note"].iloc[0]) if "note" in table else ""
    if note.startswith(ERROR):
        told = note.removeprefix(ERROR).strip().removesuffix(".")
        raise InputError(str(one.table["file"].iloc[0]), told, "Look at another one.")
    if not {"y_px", "x_px"} <= {*kept.columns}:
        raise InputError(task.title, "its models mark no places", "Choose another finder.")
    return kept.drop(columns="of").reset_index(drop=True)


def samples_of(folder: Path) -> Samples:
    """Samples that the Clean page had read into a folder; the last ones stay at hand."""
    return _samples(folder, (folder / "table.parquet").stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _samples(folder: Path, _changed_ns: int) -> Samples:
    return Samples.load(folder)


def plate_of(task: Task, samples: Samples, row: int, acquisition: Config) -> Plate:
    """The picture of one sample. Raises InputError."""
    plate = task.plate(samples, row, acquisition)
    if plate is None:
        raise InputError(task.title, "its samples are no pictures", "Look at the table.")
    return plate


def thumbnails(
    task: Task, samples: Samples, rows: Sequence[int], report: Progress
) -> tuple[dict[int, np.ndarray], list[dict[str, str]]]:
    """Small pictures (h, w) uint8 of samples by row, a black one where a sample cannot be read; and why not."""
    made, failures = {}, []
    places = labels.places(samples.table)
    for number, row in enumerate(rows):
        report(number / len(rows), task.tell(Phrase("picture {n} of {all}", n=number + 1, all=len(rows))))
        try:
            made[row] = task.thumbnail(samples, row)
        except InputError as error:
            made[row] = np.zeros((1, 1), np.uint8)
            failures.append({"file": f"{places[row][0]} {places[row][1]}", "error": task.tell(error.clause())})
    return made, failures


def found_in(
    task: Task, samples: Samples, rows: Sequence[int], asked: Asked, acquisition: Config, report: Progress
) -> tuple[pd.DataFrame, list[dict[str, str]], float]:
    """Marks of one finder in several samples, with their `row`; failures; and the seconds that finding took.

    A sample that cannot be read stops nothing.
    """
    parts, failures, seconds = [], [], 0.0
    places = labels.places(samples.table)
    for number, row in enumerate(rows):
        report(number / len(rows), task.tell(Phrase("{name}: {n} of {all}", name=asked.name, n=number + 1, all=len(rows))))
        begin = time.perf_counter()
        try:
            parts.append(asked.find(samples, row, acquisition).assign(row=row))
        except InputError as error:
            failures.append({"file": f"{places[row][0]} {places[row][1]}", "error": task.tell(error.clause())})
        seconds += time.perf_counter() - begin
    empty = pd.DataFrame({"y_px": [], "x_px": [], "row": []}).astype({"row": int})
    return (pd.concat(parts, ignore_index=True) if parts else empty), failures, seconds


@dataclass(frozen=True)
class Comparison:
    """What several finders made of the same samples.

    `frames` has one row per finder (its place in the order asked for) and sample: finder, row, n_found, n_wanted and COUNTS.
    `marks` has finder, row, y_px, x_px; `wanted` row, y_px, x_px. `summary` has one row per finder.
    """

    summary: pd.DataFrame
    frames: pd.DataFrame
    marks: pd.DataFrame
    wanted: pd.DataFrame
    failures: list[dict[str, str]]

    def save(self, folder: Path) -> None:
        """Write the four tables as Parquet files into an existing folder."""
        for name in ("summary", "frames", "marks", "wanted"):
            getattr(self, name).to_parquet(folder / f"{name}.parquet")


def compare(
    task: Task, samples: Samples, rows: Sequence[int], finders: Sequence[Asked], label_set: str, acquisition: Config,
    report: Progress,
) -> Comparison:  # fmt: skip
    """Run finders on samples `rows` and hold their marks against a label set, or against the truth where that is "".

    Raises InputError where there is nothing to run, or to compare with.
    """
    if not rows or not finders:
        raise InputError("the comparison", "no finder or no frame is chosen", "Choose at least one of each.")
    wanted = {row: _wanted(task, samples, row, label_set) for row in rows}
    megapixels = sum(plate_of(task, samples, row, acquisition).pixels.size for row in rows[:1]) * len(rows) / 1e6
    summary, frames, marks, failures = [], [], [], []
    for number, asked in enumerate(finders):
        asked.find(samples, rows[0], acquisition)  # compiles what has to be, before it is timed

        def step(share: float, text: str, number: int = number) -> None:
            report((number + share) / len(finders), text)

        found, failed, seconds = found_in(task, samples, rows, asked, acquisition, step)
        counts = [_counted(task, found, wanted[row], number, row) for row in rows]
        frames += counts
        marks.append(found[["row", "y_px", "x_px"]].assign(finder=number))
        failures += failed
        summary.append({
            "finder": asked.name, **labels.totals(pd.DataFrame(counts)), "marks_per_frame": len(found) / len(rows),
            "ms_per_mpx": 1000 * seconds / megapixels,
        })  # fmt: skip
    reference = pd.concat([task.marks_to_find(table).assign(row=row) for row, table in wanted.items()], ignore_index=True)
    return Comparison(pd.DataFrame(summary), pd.DataFrame(frames), pd.concat(marks, ignore_index=True), reference, failures)


def _wanted(task: Task, samples: Samples, row: int, label_set: str) -> pd.DataFrame:
    """The marks that are right for one sample: columns y_px, x_px, and what else the task knows of them."""
    if label_set:
        return _label_set(labels.folder_of(task.name) / label_set).points(*labels.places(samples.table)[row])
    truth = task.true_marks(samples, row)
    if truth is None:
        raise InputError("the truth", "it is not known of these samples", "Compare with a label set.")
    return truth


def _label_set(folder: Path) -> labels.LabelSet:
    path = folder / "labels.json"
    return _loaded(folder, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=1)
def _loaded(folder: Path, _changed_ns: int) -> labels.LabelSet:
    return labels.load(folder)


def _counted(task: Task, found: pd.DataFrame, wanted: pd.DataFrame, finder: int, row: int) -> dict[str, float]:
    """One row of `Comparison.frames`."""
    here = found[found["row"] == row]
    counts = task.compare_marks(here, wanted)
    n_wanted = len(task.marks_to_find(wanted))
    return {"finder": finder, "row": row, "n_found": len(here), "n_wanted": n_wanted} | {name: counts[name] for name in COUNTS}


def suggested_mask(task: Task, samples: Samples, rows: Sequence[int], acquisition: Config, report: Progress) -> np.ndarray:
    """Good pixels (H, W) bool as samples spread evenly over `rows` tell. Raises InputError."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(MASK_FRAMES, len(rows))).round().astype(int))
    mask = task.suggest_mask(samples.take([rows[place] for place in chosen]), acquisition, report)
    if mask is None:
        raise InputError(task.title, "it cannot tell bad pixels", "Draw the mask by hand.")
    return np.asarray(mask, bool)


@dataclass(frozen=True)
class Gathered:
    """What was gathered so far of a run's samples `rows`: the first `done` of them, as arrays, and those that could not be."""

    rows: Sequence[int]
    done: int
    arrays: Arrays
    failures: list[dict[str, str]]

    def save(self, path: Path) -> None:
        """Keep it in one .npz file, which is there whole or not at all."""
        about = np.array(json.dumps({"rows": list(self.rows), "done": self.done, "failures": self.failures}))
        draft = path.with_name(f"{path.name}.part")
        with draft.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **{ABOUT: about}, **self.arrays)
        draft.replace(path)

    @staticmethod
    def load(path: Path, rows: Sequence[int]) -> Gathered:
        """What was kept of these rows; nothing gathered yet where there is none of them."""
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(str(arrays.pop(ABOUT)))
            if about["rows"] == list(rows):
                return Gathered(rows, about["done"], arrays, about["failures"])
        return Gathered(rows, 0, {}, [])


def gather(task: Task, samples: Samples, rows: Sequence[int], acquisition: Config, path: Path) -> Gathered:
    """Go on gathering a run from where it was left in the file `path`, for about a second; keeps there what it then has.

    Samples that cannot be read are told and left out.
    """
    begin = time.perf_counter()
    left = Gathered.load(path, rows)
    end = begin + max(PROJECT_S, OVERHEAD * (time.perf_counter() - begin))
    done, arrays, failures = left.done, left.arrays, [*left.failures]
    places = labels.places(samples.table)
    while done < len(rows) and (done == left.done or time.perf_counter() < end):
        row = rows[done]
        try:
            arrays = task.project(samples, row, acquisition, arrays)
        except InputError as error:
            failures.append({"file": f"{places[row][0]} {places[row][1]}", "error": task.tell(error.clause())})
        done += 1
    gathered = Gathered(rows, done, arrays, failures)
    gathered.save(path)
    return gathered
