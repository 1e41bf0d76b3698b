"""From any source of named columns to a `SpectraTable`: the one way that every file format takes.

A source gives its column names, how many rows it may have, and blocks of rows. Memory is the table itself plus one block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from lib.task import InputError, Phrase
from lib.tasks.spectra.axes import AxisFit, fill_empty_positions, fit_axis
from lib.tasks.spectra.columns import STANDARD_AXES, Columns, Positions, divided, layout, settled, suggest
from lib.tasks.spectra.delimited import BadCell, DelimitedSource, lines_above, open_delimited
from lib.tasks.spectra.rows import standard_rows
from lib.tasks.spectra.table import EXCITATIONS, NOTE, Channel, SpectraTable
from lib.words import as_phrase

MAX_TABLE_BYTES = 2 * 2**30  # of spectra in memory: 400,000 samples of 1338 points
SATURATED = 62_900.0  # counts: the fluorimeter's plateau is at about 62,996
NEGATIVE_SHARE = 0.05  # of the highest value: less is noise about zero
NOTED_ROWS = 4096  # samples looked at together
MARKS = (Phrase("negative"), Phrase("saturated"), Phrase("constant"))  # what the spectrum of a channel may be noted to be

Progress = Callable[[float, str], None]


def silent(fraction: float, sentence: str) -> None:
    """A progress callback that tells nobody."""


@dataclass(frozen=True)
class Reading:
    """A table, what was done to make it fit, and the meaning of columns it was read with."""

    table: SpectraTable
    notes: tuple[str, ...]
    columns: Columns


class Source(Protocol):
    """Named columns in blocks of rows; `where` is what messages call the file."""

    @property
    def where(self) -> str: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def rows_at_most(self) -> int: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102
    def batches(self, spectral: Sequence[int], other: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Blocks: the spectral columns as float32, then the others."""


def read_text(path: Path, where: str, columns: Columns | None, on_progress: Progress = silent) -> Reading:
    """A text table of spectra, the meaning of its columns as given, else as `suggest` proposes. Raises InputError."""
    source = open_delimited(path, where)
    if source.header_row and not divided(source.names)[0]:
        raise lines_above(where, source.header_row)
    meaning = settled(columns or Columns(), suggest(source.names))
    return in_either_decimal(source, lambda s: assemble(s, meaning, on_progress))


T = TypeVar("T")


def in_either_decimal(source: DelimitedSource, read: Callable[[DelimitedSource], T]) -> T:
    """What `read` gives; once more with the other decimal sign where a cell is a number only so."""
    try:
        return read(source)
    except BadCell as error:
        if not error.is_decimal:
            raise
        try:
            return read(source.other_decimal())
        except BadCell as again:
            if not again.is_decimal:
                raise
            raise InputError(
                source.where,
                Phrase("mixes decimal signs: {one!r} and {other!r}", one=error.value, other=again.value),
                "Export it again with one decimal sign throughout",
            ) from again


def assemble(source: Source, columns: Columns, on_progress: Progress = silent) -> Reading:
    """Read all blocks of a source into float32 spectra on their axes, and its other columns into standard rows.

    Raises InputError where the header, a cell, an axis or the size does not fit.
    """
    where = source.where
    laid = layout(source.names, columns, where)
    fits = [_fit(positions, columns, where) for positions in laid.channels]
    check_size(source.rows_at_most, sum(len(f.axis) for f in fits) + sum(len(p.places) for p in laid.channels) // 64, where)
    values = [np.empty((source.rows_at_most, len(f.axis)), np.float32) for f in fits]
    n, rows, infinite = _fill(source, laid.channels, laid.other, (fits, values), on_progress)
    if n == 0:
        raise InputError(where, "has 0 rows of values", "Export it again with its samples, one per row")
    frame, row_notes = standard_rows(rows, columns, where)
    notes = [*source.notes, *laid.notes, *(f.note for f in fits if f.note), *row_notes]
    if infinite:
        notes.append(Phrase("{infinite} values are too large for a spectrum: taken as missing", infinite=infinite))
    channels = []
    for positions, fit, array in zip(laid.channels, fits, values):
        channels.append(Channel(positions.name, fit.axis, array[:n], positions.unit))
    return finish(tuple(channels), frame, notes, columns, where)


def finish(channels: tuple[Channel, ...], rows: pd.DataFrame, notes: list[str], columns: Columns, where: str) -> Reading:
    """The table with each sample's note, once all values are there. Raises InputError where no spectrum says anything."""
    filled = [fill_empty_positions(c.values, c.axis, c.name, c.axis_unit, where) for c in channels]
    said, dull = sample_notes(channels)
    if dull.all():
        raise InputError(
            where, "has only constant spectra: every value of each is the same", "Check the export: there is no signal in it"
        )
    table = SpectraTable(channels, rows.assign(**{NOTE: pd.Series(said, dtype="str")}))
    return Reading(table, tuple(dict.fromkeys([*notes, *filter(None, filled), *marked(said)])), columns)


def of_file(file: str, note: str) -> Phrase:
    """A note with the file that it is about."""
    return Phrase("{file}: {note}", file=file, note=as_phrase(note))


def marked(said: Iterable[str]) -> list[str]:
    """How many samples have a note of each kind, told."""
    counts = {word: sum(word in note for note in said) for word in (*MARKS, Phrase("missing"))}
    return [
        Phrase("1 sample with {word} values: kept and marked", word=word)
        if count == 1
        else Phrase("{count} samples with {word} values: kept and marked", count=count, word=word)
        for word, count in counts.items()
        if count
    ]


def note_in(note: str, tell: Callable[[str], str]) -> str:
    """The note of a sample as `sample_notes` makes it, with every part as `tell` says it."""
    return "; ".join(tell(_part(part)) for part in note.split("; "))


def _part(part: str) -> str:
    """One part of a sample's note as a phrase; as it is where it is something else."""
    channel, _, word = part.rpartition(" ")
    if mark := next((mark for mark in MARKS if mark == word), None):
        return Phrase("{channel} {word}", channel=channel, word=mark)
    if missing := re.fullmatch(r"(.*) (\d+) points missing", part):
        return Phrase("{channel} {n} points missing", channel=missing[1], n=missing[2])
    return part


def check_size(rows: int, points: int, where: str) -> None:
    """Refuse a table that is too large before any of it is read."""
    if rows * points * 4 > MAX_TABLE_BYTES:
        gib, limit = rows * points * 4 / 2**30, MAX_TABLE_BYTES >> 30
        raise InputError(
            where,
            Phrase(
                "declares {rows:,} samples of {points:,} points ({gib:,.1f} GiB; limit {limit} GiB)",
                rows=rows,
                points=points,
                gib=gib,
                limit=limit,
            ),
            "Split it, or choose fewer channels",
        )


def _fit(positions: Positions, columns: Columns, where: str) -> AxisFit:
    """The standard axis for the fluorimeter's channels, the file's own for any other."""
    standard = STANDARD_AXES.get(positions.name) if columns.standard_axis else None
    want = positions.axis if standard is None else standard
    return fit_axis(positions.axis, want, positions.name, positions.unit, where)


def _fill(
    source: Source, channels: Sequence[Positions], other: Sequence[int], into: tuple[list[AxisFit], list[np.ndarray]],
    on_progress: Progress,
) -> tuple[int, pd.DataFrame, int]:  # fmt: skip
    """Read block after block into the arrays; rows read, the other columns, and how many values were infinite."""
    places = [int(p) for positions in channels for p in positions.places]
    ends = np.cumsum([0] + [len(positions.places) for positions in channels])
    others: list[pa.RecordBatch] = []
    n, infinite = 0, 0
    for block in source.batches(places, other):
        m = block.num_rows
        if n + m > source.rows_at_most:
            raise InputError(source.where, "has more rows than it declares", "Export it again, or copy it afresh")
        for k, (fit, values) in enumerate(zip(*into)):
            columns = [block.column(i).to_numpy(zero_copy_only=False) for i in range(ends[k], ends[k + 1])]
            part = np.stack(columns, dtype=np.float32, casting="same_kind").T if m else np.empty((0, len(columns)), np.float32)
            bad = np.isinf(part)
            if bad.any():
                part[bad], infinite = np.nan, infinite + int(bad.sum())
            values[n : n + m] = fit.apply(part)
        others.append(block.select(range(len(places), block.num_columns)))
        n += m
        on_progress(min(0.97 * n / max(source.rows_at_most, 1), 0.97), f"{source.where}: {n:,} samples read")
    return n, frame_of(others, [source.names[i] for i in other], n), infinite


def frame_of(blocks: list[pa.RecordBatch], names: list[str], n: int) -> pd.DataFrame:
    """The columns that are no spectra as a DataFrame of n rows."""
    if not blocks or not names:
        return pd.DataFrame(index=pd.RangeIndex(n))
    return pa.Table.from_batches(blocks).rename_columns(names).to_pandas(ignore_metadata=True)


def sample_notes(channels: tuple[Channel, ...]) -> tuple[list[str], np.ndarray]:
    """What is remarkable of each sample (n), and whether all its spectra are constant or missing (n,) bool.

    Negative, saturated, constant and missing values are kept: the Clean page decides.
    """
    n = len(channels[0].values)
    said: list[list[str]] = [[] for _ in range(n)]
    dull = np.ones(n, bool)
    for channel in channels:
        for first in range(0, n, NOTED_ROWS):
            part = channel.values[first : first + NOTED_ROWS]
            low, high = np.fmin.reduce(part, axis=1), np.fmax.reduce(part, axis=1)
            missing = np.zeros(len(part), int)
            suspect = np.isnan(part.sum(axis=1))
            missing[suspect] = np.isnan(part[suspect]).sum(axis=1)
            constant = (low == high) | np.isnan(low)
            dull[first : first + len(part)] &= constant
            saturated = high >= SATURATED if channel.name in EXCITATIONS else np.zeros(len(part), bool)
            for words, where in zip(MARKS, (low < -NEGATIVE_SHARE * np.abs(high), saturated, low == high)):
                for row in np.flatnonzero(where):
                    said[first + row].append(f"{channel.name} {words}")
            for row in np.flatnonzero(missing):
                said[first + row].append(f"{channel.name} {missing[row]} points missing")
    return ["; ".join(words) for words in said], dull


def rename_positions(source: DelimitedSource, channel: str) -> DelimitedSource:
    """A source whose columns are positions alone, as the source of one named channel."""
    return replace(source, names=tuple(f"{channel}_{n}" if n[:1].isdigit() else n for n in source.names))
