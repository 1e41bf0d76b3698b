"""Where the table of a training comes from, and the one it may be tested on: a file, a kept set, or a simulated population."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.disk import home
from lib.task import TRUTH, InputError, Phrase
from lib.tasks.spectra.axes import resample
from lib.tasks.spectra.config import Simulation
from lib.tasks.spectra.files import SUFFIXES, cache_folder, read
from lib.tasks.spectra.learning import RESERVED
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.simulate import simulate_table
from lib.tasks.spectra.table import SEVERITY, TRUE_COLUMNS, TYPE, SpectraTable

ROOT = Path(__file__).resolve().parents[3]
SIMULATED = 1  # stream of random numbers, as those of `data`
KEPT = "spectra.parquet"  # what `Task.write` calls the table of a kept set
SCANNED_ROWS = 4096  # looked at together


# --- where the table comes from ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Source:
    """A table, what it is called in tables, where it is from, whether it was simulated, and what was done to read it."""

    table: SpectraTable
    name: str
    origin: str
    simulated: bool
    notes: tuple[str, ...] = ()


def located(data: str) -> Path:
    """The file or folder of a set kept under `data/spectra/`, with or without its ending, or of a path.

    Raises InputError listing the sets there are.
    """
    folders = [home() / "data" / "spectra", ROOT / "data" / "spectra"]
    for folder in (*folders, Path.cwd()):  # an absolute path stays what it is
        for ending in ("", *SUFFIXES):
            path = Path(f"{folder / Path(data).expanduser()}{ending}")
            if _exists(path):
                kept = path / KEPT
                return kept if _exists(kept) else path
    sets = sorted({p.name for f in folders if f.is_dir() for p in f.iterdir() if p.is_dir() or p.suffix in SUFFIXES})
    there = Phrase("Sets kept: {sets}.", sets=", ".join(sets[:20])) if sets else Phrase("No set is kept yet.")
    remedy = Phrase(
        "{there} Give the path of a file or folder, or leave it empty to train on a simulated population.", there=there
    )
    raise InputError(Phrase("data {data!r}", data=data), "there is no such file, folder or kept set", remedy)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def load(config: Training) -> Source:
    """The table that a training names, or the simulated population of its seed. Raises InputError as `located`, `files.read`."""
    if not config.data:
        rng = np.random.default_rng([config.seed, SIMULATED])
        told = "simulated population of {n} samples, seed {seed}"
        origin = Phrase(told, n=config.simulated_samples, seed=config.seed)
        return Source(simulate_table(Simulation(), config.simulated_samples, rng), "simulated", origin, True)
    return _opened(config.data)


def load_test(config: Training) -> Source:
    """The table kept aside for testing, its columns under the names of the training table.

    Raises InputError as `load`, and where a column that is to be renamed is not there.
    """
    source, name = _opened(config.test_data), config.test_data
    names = {theirs.strip(): ours.strip() for ours, _, theirs in (pair.partition("=") for pair in config.test_columns)}
    rows = source.table.rows
    if missing := [column for column in names if column not in rows]:
        there = ", ".join(map(str, rows.columns[:40]))
        problem = Phrase("has no column {column!r}, which test_columns names", column=missing[0])
        raise InputError(name, problem, Phrase("Its columns: {names}.", names=there))
    renamed = rows.drop(columns=[ours for ours in names.values() if ours in rows and ours not in names]).rename(columns=names)
    return replace(source, table=SpectraTable(source.table.channels, renamed))


def _opened(data: str) -> Source:
    """A table that lies on disk."""
    path = located(data)
    reading = read(path, cache=cache_folder())
    truth = (path / TRUTH if path.is_dir() else path.with_name(TRUTH)).exists()  # what `Task.write` puts beside a simulated table
    simulated = truth or TRUE_COLUMNS[0] in reading.table.rows or "simulated" in path.name.casefold()
    return Source(reading.table, path.name, str(path), simulated, reading.notes)


# --- what of it is used -----------------------------------------------------------------------------------------------
def chosen(table: SpectraTable, channels: Sequence[str], name: str) -> SpectraTable:
    """The table with these channels, in this order; all of them where none is named. Raises InputError listing what there is."""
    if not channels:
        return table
    there = {c.name: c for c in table.channels}
    if unknown := [wanted for wanted in channels if wanted not in there]:
        raise InputError(
            name,
            Phrase("has no channel {channels}", channels=", ".join(unknown)),
            Phrase("Channels: {names}.", names=", ".join(there)),
        )
    if len(set(channels)) < len(channels):
        raise InputError("channels", "a channel is named twice", "Name each channel once.")
    return SpectraTable(tuple(there[wanted] for wanted in channels), table.rows)


def check_tabular(rows: pd.DataFrame, tabular: Sequence[str], label: str, name: str) -> None:
    """Raises InputError where a tabular column is missing, holds no number, or is the label itself, column `label` too."""
    answers = (SEVERITY, TYPE, *TRUE_COLUMNS, label)
    numeric = [str(c) for c in rows if pd.api.types.is_numeric_dtype(rows[c]) and c not in answers]
    columns = Phrase("Columns of numbers: {names}.", names=", ".join(numeric[:40]) or Phrase("none"))
    for column in tabular:
        if column not in rows:
            problem, remedy = Phrase("has no column {column!r}", column=column), columns
        elif column in answers:
            problem = Phrase("column {column!r} tells the label, so a model needs no spectra", column=column)
            remedy = Phrase("Choose other columns.")
        elif column in RESERVED:
            problem = Phrase("column {column!r} has a name that training uses itself", column=column)
            remedy = Phrase("Rename the column.")
        elif pd.to_numeric(rows[column], errors="coerce").isna().all():
            problem, remedy = Phrase("column {column!r} holds no number", column=column), columns
        else:
            continue
        raise InputError(name, problem, remedy)


def aligned(table: SpectraTable, like: SpectraTable, name: str) -> SpectraTable:
    """The table with the channels of another, on its axes. Raises InputError where a channel lacks or its axis is too short."""
    found = chosen(table, [channel.name for channel in like.channels], name)
    pairs = zip(found.channels, like.channels)
    fitted = [one if np.array_equal(one.axis, other.axis) else resample(one, other.axis, name)[0] for one, other in pairs]
    return SpectraTable(tuple(fitted), found.rows)


def complete(table: SpectraTable) -> np.ndarray:
    """Which samples have a finite value at every point of every channel, (n,) bool."""
    whole = np.ones(len(table), bool)
    for channel in table.channels:
        for first in range(0, len(table), SCANNED_ROWS):
            part = slice(first, first + SCANNED_ROWS)
            whole[part] &= np.isfinite(channel.values[part].sum(axis=1, dtype=np.float64))
    return whole
