"""Real files in, readings of each sample out; and the samples that were kept as a set of their own."""

from __future__ import annotations

import math
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lib.predict import bundled, read_bundle, scaled, told
from lib.recipe import MEASURED, rows_of
from lib.task import Config, InputError, Phrase, Samples, Task
from lib.uploads import archive_names

AT_ONCE = 16  # samples that are read from their files between two reports
GOLDEN = (5**0.5 - 1) / 2  # multiples of it, less their whole part, are spread evenly however many there are
READING = 0.6  # share of the work that is reading; the rest is looking at the samples
Progress = Callable[[float, str], None]
File = tuple[Path, str]  # where it lies, and what messages and tables call it


@dataclass(frozen=True)
class Inspection:
    """Files that were read: their samples and readings, and why the others were not."""

    samples: Samples | None  # None where no file could be read
    readings: pd.DataFrame
    failures: list[tuple[str, str]]  # display name, sentence
    raw: dict[str, list[File]]  # `file` of the samples: the untouched files they come from
    remarks: list[tuple[str, str]] = field(default_factory=list)  # display name, what was done to make the file fit


def inspect(
    task: Task, files: Sequence[File], acquisition: Config, on_progress: Progress, patience_s: float = math.inf
) -> Inspection:
    """Read files one after another; a bad one stops nothing. `on_progress` gets the finished share, 0 to 1, and a text.

    Samples that only refer to files are measured for so many seconds, spread over the run: column MEASURED tells which, and the
    readings of the others are empty.
    """
    parts: list[Samples] = []
    failures: list[tuple[str, str]] = []
    raw: dict[str, list[File]] = {}
    bundles = bundled(task, files, acquisition)
    for number, bundle in enumerate(bundles):
        on_progress(READING * number / len(bundles), f"{number + 1} of {len(bundles)}: {bundle.name}")
        tell = scaled(on_progress, READING * number / len(bundles), READING * (number + 1) / len(bundles))
        samples = read_bundle(task.reporting(tell), bundle, acquisition)
        if isinstance(samples, str):
            failures.append((bundle.name, samples))
        elif parts and samples.common != parts[0].common:
            failures.append((bundle.name, task.tell("its axes are not those of the files before it. Clean it on its own.")))
        else:
            parts.append(samples)
            raw[bundle.name] = list(bundle.files)
    if not parts:
        return Inspection(None, pd.DataFrame(), failures, raw)
    together = Samples.concat(parts) if len(parts) > 1 else parts[0]
    return Inspection(
        together, _readings(task, together, acquisition, on_progress, patience_s), failures, raw, told(task, together)
    )


def _readings(
    task: Task, samples: Samples, acquisition: Config, on_progress: Progress, patience_s: float = math.inf
) -> pd.DataFrame:
    """Readings of all samples; of those that only refer to files so many at a time that the progress can be told."""
    if samples.inputs:
        on_progress(READING, "looking at every sample")
        return task.reporting(scaled(on_progress, READING, 1.0)).inspect(samples, acquisition)
    n, begin = len(samples), time.monotonic()
    parts: list[pd.DataFrame] = []
    order = np.argsort(np.arange(n) * GOLDEN % 1)  # its first rows, however many, are spread over the run
    for start in range(0, n, AT_ONCE):
        passed = time.monotonic() - begin
        if parts and passed > patience_s:
            break
        on_progress(min(1, max(start / n, passed / patience_s)), f"looking at {start + 1} of {n}")
        rows = order[start : start + AT_ONCE]
        parts.append(task.inspect(samples.take(rows), acquisition).set_axis(rows))
    return _in_order(pd.concat(parts), samples.table)


def _in_order(found: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Readings of some rows as those of all rows of `table`, in order; what was not measured is empty."""
    if len(found) == len(table):
        return found.sort_index()
    readings = found.reindex(range(len(table)))
    for column in found:
        if column in table:
            readings[column] = table[column].reset_index(drop=True)
        elif not pd.api.types.is_numeric_dtype(found[column]):
            readings[column] = readings[column].fillna("")
    return readings.assign(**{MEASURED: readings.index.isin(found.index)})


def write_kept(
    task: Task, samples: Samples, keep: np.ndarray, raw: Mapping[str, Sequence[File]], recipe: str, folder: Path
) -> list[Path]:
    """Write the kept samples and `recipe.json` into a new folder, whole or not at all; returns the files.

    `keep` (n,) booleans. Files that hold one sample each are copied as they are; of tables with many, the kept rows are written.
    Raises InputError where nothing is kept or the folder is there already.
    """
    if not keep.any():
        raise InputError("the kept set", "no sample is kept", "Keep at least one and try again.")
    if folder.exists():
        raise InputError(str(folder), "there is such a folder already", "Choose another name.")
    rows = rows_of([str(file) for file in samples.table["file"]])
    alone = all(len(places) == 1 and len(raw[file]) == 1 and task.stands_alone(raw[file][0][1]) for file, places in rows.items())
    unfinished = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    try:
        unfinished.mkdir(parents=True)
        if alone:
            _copy([raw[file][0] for file, (row,) in rows.items() if keep[row]], unfinished)
        else:
            task.write(samples.take(np.flatnonzero(keep)), unfinished)
        (unfinished / "recipe.json").write_text(recipe, encoding="utf-8")
        unfinished.rename(folder)
    except OSError as error:
        raise InputError(
            str(folder), Phrase("it cannot be written ({why})", why=error.strerror or error), "Choose another place."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return sorted(folder.iterdir())


def _copy(files: Sequence[File], folder: Path) -> None:
    """Copy files under names that no two share and no file system refuses."""
    names = archive_names(["recipe.json", *(name for _, name in files)])[1:]
    for (path, _), name in zip(files, names, strict=True):
        shutil.copyfile(path, folder / name)
