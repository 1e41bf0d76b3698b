"""Several tables as one: side by side as channels of the same samples, or one below the other as instruments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from lib.task import InputError, Phrase
from lib.tasks.spectra.axes import resample
from lib.tasks.spectra.columns import Columns
from lib.tasks.spectra.table import GROUP, INSTRUMENT, NOTE, SAMPLE, Channel, SpectraTable, declared, label_of
from lib.tasks.spectra.tabular import Reading, check_size, finish, marked, of_file


def joined(readings: Mapping[str, Reading], given: Columns) -> Reading:
    """{file: reading} as one, as `given.together` says; a file is the channel, or the instrument, of its name.

    `given.channels` chooses among the joined channels. Raises InputError as `as_channels` and `as_instruments`.
    """
    where, first = ", ".join(readings), next(iter(readings.values()))
    names = table_names(list(readings))
    tables = {name: without_notes(reading.table) for name, reading in zip(names, readings.values())}
    label = next(filter(None, (label_of(table.rows) for table in tables.values())), "")
    notes: list[str] = [of_file(file, note) for file, reading in readings.items() for note in _done_to(reading)]
    if given.together == "instruments":
        points = sum(len(c.axis) for c in first.table.channels)
        check_size(sum(map(len, tables.values())), points, where)
        table, more = as_instruments(tables)
        return finish(table.channels, declared(table.rows, label), [*notes, *more], first.columns, where)
    check_size(len(first.table), sum(len(c.axis) for t in tables.values() for c in t.channels), where)
    if not all(reading.columns.sample for reading in readings.values()):
        notes.append(Phrase("not every table names its samples: joined by the order of their rows"))
    table = _chosen(as_channels(tables), given.channels, where)
    return finish(table.channels, declared(table.rows, label), notes, first.columns, where)


def table_names(files: Sequence[str]) -> list[str]:
    """What tables are called by their files: `day 1/mir.csv` is `mir`, or all of it where two would be."""
    stems = [PurePosixPath(file.replace("\\", "/")).stem for file in files]
    return stems if len(set(stems)) == len(stems) else list(files)


def without_notes(table: SpectraTable) -> SpectraTable:
    """The table without the notes of its samples, which name its channels as they were."""
    return replace(table, rows=table.rows.drop(columns=NOTE))


def _done_to(reading: Reading) -> list[str]:
    """What was done to a table, without the counts of samples: those are counted again."""
    counts = marked(reading.table.rows[NOTE])
    return [note for note in reading.notes if note not in counts]


def _chosen(table: SpectraTable, wanted: tuple[str, ...], where: str) -> SpectraTable:
    """The table with these channels, in this order; all of them where none is named."""
    there = {channel.name: channel for channel in table.channels}
    missing = [name for name in wanted if name not in there]
    if missing:
        raise InputError(
            where,
            Phrase("has no channel {missing} (it has {there})", missing=", ".join(missing), there=", ".join(there)),
            "Add the columns, or choose only channels that are there",
        )
    return replace(table, channels=tuple(there[name] for name in dict.fromkeys(wanted or there)))


def as_channels(tables: Mapping[str, SpectraTable]) -> SpectraTable:
    """{name: table} of the same samples, each table a channel of that name (several are `name_channel`).

    Samples are matched by name and put in the first table's order; its rows win, the others add the columns it lacks.
    Raises InputError where samples differ.
    """
    (first_name, first), *others = _some(tables)
    channels = list(_named(first_name, first))
    rows = first.rows
    for name, other in others:
        table = other.take(_matching(first, first_name, other, name))
        channels += _named(name, table)
        rows = pd.concat([rows, table.rows[table.rows.columns.difference(rows.columns, sort=False)]], axis=1)
    return SpectraTable(tuple(channels), rows)


def as_instruments(tables: Mapping[str, SpectraTable]) -> tuple[SpectraTable, tuple[str, ...]]:
    """{instrument: table} one below the other, and notes; every table is brought to the first one's axes.

    A sample keeps its name as the specimen where no specimen is known, so that one measured on two instruments stays
    whole in a split; its own name becomes `sample@instrument`. Raises InputError where a channel is missing or too short.
    """
    named = _some(tables)
    first = named[0][1]
    notes: list[str] = []
    parts: list[list[np.ndarray]] = [[] for _ in first.channels]
    rows = []
    for name, table in named:
        for into, channel in zip(parts, first.channels):
            fitted, note = resample(_channel(table, channel, name), channel.axis, name)
            into.append(fitted.values)
            notes += [of_file(name, note)] if note else []
        known = table.rows if GROUP in table.rows else table.rows.assign(**{GROUP: table.rows[SAMPLE]})
        rows.append(known.assign(**{INSTRUMENT: name}).assign(**{SAMPLE: known[SAMPLE] + f"@{name}"}))
    channels = [replace(c, values=np.concatenate(part)) for c, part in zip(first.channels, parts)]
    return SpectraTable(tuple(channels), pd.concat(rows, ignore_index=True)), tuple(notes)


def _some(tables: Mapping[str, SpectraTable]) -> list[tuple[str, SpectraTable]]:
    if not tables:
        raise InputError("tables", "were not chosen", "Choose at least one table of spectra")
    return list(tables.items())


def _named(name: str, table: SpectraTable) -> list[Channel]:
    """The channels of a table under its name."""
    only = len(table.channels) == 1
    return [replace(c, name=name if only else f"{name}_{c.name}") for c in table.channels]


def _channel(table: SpectraTable, like: Channel, name: str) -> Channel:
    """The channel of the same name; units that are both known must agree."""
    try:
        found = table.channel(like.name)
    except KeyError as error:
        there = ", ".join(c.name for c in table.channels)
        raise InputError(
            name,
            Phrase("has no channel {channel} (it has {there})", channel=like.name, there=there),
            "Join tables that hold the same channels",
        ) from error
    if found.axis_unit and like.axis_unit and found.axis_unit != like.axis_unit:
        raise InputError(
            name,
            Phrase(
                "has channel {channel} in {unit}, the first table in {wanted}",
                channel=like.name,
                unit=found.axis_unit,
                wanted=like.axis_unit,
            ),
            "Bring both to one unit",
        )
    return found


def _matching(first: SpectraTable, first_name: str, other: SpectraTable, name: str) -> np.ndarray:
    """Positions in `other` of the samples of `first`. Raises InputError naming samples that only one of them has."""
    for here, there, lacking in ((first, other, name), (other, first, first_name)):
        alone = here.rows[SAMPLE][~here.rows[SAMPLE].isin(there.rows[SAMPLE])]
        if len(alone):
            some = ", ".join(alone.iloc[:5])
            raise InputError(
                lacking,
                Phrase("lacks {n} samples that the other table has ({some})", n=len(alone), some=some),
                "Join tables of the same samples",
            )
    return np.asarray(pd.Index(other.rows[SAMPLE]).get_indexer(pd.Index(first.rows[SAMPLE])))
