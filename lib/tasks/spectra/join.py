"""Several tables as one: side by side as channels of the same samples, or one below the other as instruments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from lib.task import InputError
from lib.tasks.spectra.axes import resample
from lib.tasks.spectra.table import GROUP, INSTRUMENT, SAMPLE, Channel, SpectraTable


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
            notes += [f"{name}: {note}"] if note else []
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
            name, f"has no channel {like.name} (it has {there})", "Join tables that hold the same channels"
        ) from error
    if found.axis_unit and like.axis_unit and found.axis_unit != like.axis_unit:
        raise InputError(
            name, f"has channel {like.name} in {found.axis_unit}, the first table in {like.axis_unit}", "Bring both to one unit"
        )
    return found


def _matching(first: SpectraTable, first_name: str, other: SpectraTable, name: str) -> np.ndarray:
    """Positions in `other` of the samples of `first`. Raises InputError naming samples that only one of them has."""
    for here, there, lacking in ((first, other, name), (other, first, first_name)):
        alone = here.rows[SAMPLE][~here.rows[SAMPLE].isin(there.rows[SAMPLE])]
        if len(alone):
            some = ", ".join(alone.iloc[:5])
            raise InputError(
                lacking, f"lacks {len(alone)} samples that the other table has ({some})", "Join tables of the same samples"
            )
    return np.asarray(pd.Index(other.rows[SAMPLE]).get_indexer(pd.Index(first.rows[SAMPLE])))
