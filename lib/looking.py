"""Looking into large pictures, in the worker: one at a time, their marks, what several finders make of many, suggested masks."""

from __future__ import annotations

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
from lib.task import Config, InputError, Plate, Samples, Task

Progress = Callable[[float, str], None]
MASK_FRAMES = 24  # a run's hot pixels show in these many frames


@dataclass(frozen=True)
class Asked:
    """One finder with its parameters."""

    name: str
    config: Config

    @staticmethod
    def of(task: Task, values: Mapping[str, Any]) -> Asked:
        """From plain `name` and `parameters`. Raises InputError for another finder or wrong parameters."""
        name = str(values["name"])
        if name not in task.finders:
            raise InputError(f"finder {name!r}", "there is no such finder", f"Finders: {', '.join(task.finders)}.")
        return Asked(name, task.finders[name].parse(values.get("parameters") or {}, f"settings of {name}"))


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


def found_in(
    task: Task, samples: Samples, rows: Sequence[int], asked: Asked, acquisition: Config, report: Progress
) -> tuple[pd.DataFrame, list[dict[str, str]], float]:
    """Marks of one finder in several samples, with their `row`; failures; and the seconds that finding took.

    A sample that cannot be read stops nothing.
    """
    parts, failures, seconds = [], [], 0.0
    places = labels.places(samples.table)
    for number, row in enumerate(rows):
        report(number / len(rows), f"{asked.name}: {number + 1} of {len(rows)}")
        begin = time.perf_counter()
        try:
            parts.append(task.find(samples, row, asked.name, asked.config, acquisition).assign(row=row))
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
        task.find(samples, rows[0], asked.name, asked.config, acquisition)  # compiles what has to be, before it is timed

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
    reference = pd.concat([table.assign(row=row) for row, table in wanted.items()], ignore_index=True)
    return Comparison(pd.DataFrame(summary), pd.DataFrame(frames), pd.concat(marks, ignore_index=True), reference, failures)


def _wanted(task: Task, samples: Samples, row: int, label_set: str) -> pd.DataFrame:
    """The marks that are right for one sample: columns y_px, x_px."""
    if label_set:
        return _label_set(labels.folder_of(task.name) / label_set).points(*labels.places(samples.table)[row])
    truth = task.true_marks(samples, row)
    if truth is None:
        raise InputError("the truth", "it is not known of these samples", "Compare with a label set.")
    return truth[["y_px", "x_px"]]


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
    return {"finder": finder, "row": row, "n_found": len(here), "n_wanted": len(wanted)} | {name: counts[name] for name in COUNTS}


def suggested_mask(task: Task, samples: Samples, rows: Sequence[int], acquisition: Config, report: Progress) -> np.ndarray:
    """Good pixels (H, W) bool as samples spread evenly over `rows` tell. Raises InputError."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(MASK_FRAMES, len(rows))).round().astype(int))
    mask = task.suggest_mask(samples.take([rows[place] for place in chosen]), acquisition, report)
    if mask is None:
        raise InputError(task.title, "it cannot tell bad pixels", "Draw the mask by hand.")
    return np.asarray(mask, bool)
