"""A table of spectra as the bench's samples and back, and as the arrays that a network takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lib.task import Arrays, InputError, Phrase, Samples
from lib.tasks.spectra.axes import resample
from lib.tasks.spectra.rows import text
from lib.tasks.spectra.table import INSTRUMENT, NOTE, Channel, SpectraTable
from lib.tasks.spectra.tabular import note_in


def as_samples(table: SpectraTable, file: str, remarks: Sequence[str] = (), tell: Callable[[str], str] = str) -> Samples:
    """One input per channel, (n, P) float32; axes and units in `common["channels"]`; `rows` with file and note as the table.

    `remarks` are what was done to make the whole file fit; `tell` puts the notes of samples into the reader's language.
    """
    notes = table.rows[NOTE].fillna("") if NOTE in table.rows else pd.Series("", index=table.rows.index)
    told = {note: note_in(note, tell) for note in notes.unique()}
    rows = table.rows.reset_index(drop=True).assign(file=file, note=notes.map(told).to_numpy())
    described = [{"name": c.name, "unit": c.axis_unit, "axis": [float(x) for x in c.axis]} for c in table.channels]
    first = ["file", "note"]
    rows = rows[[*first, *(name for name in rows if name not in first)]]
    of_file = tuple((file, remark) for remark in remarks)
    return Samples({c.name: c.values for c in table.channels}, rows, {"channels": described}, of_file)


def as_table(samples: Samples) -> SpectraTable:
    """The table that `as_samples` was given."""
    channels = tuple(
        Channel(c["name"], np.asarray(c["axis"]), samples.inputs[c["name"]], c["unit"]) for c in samples.common["channels"]
    )
    return SpectraTable(channels, samples.table.drop(columns="file"))


def model_inputs(samples: Samples, facts: Mapping[str, Any]) -> Arrays:
    """What the network of a run takes: `spectra` (n, P), its channels side by side, and `tabular` (n, T) where it has any.

    A run that transfers spectra between instruments takes `instrument` (n,) too: k for a sample of the k-th that is brought to
    the first, 0 for any other, which stays as it is. `facts` are the run's: "channels" (name, unit, axis), "tabular" (column
    names) and "transfer" (see `bridge`). Channels are brought to the model's axis; a tabular value that is missing is NaN, which
    the network fills. Raises InputError naming a channel or column that lacks, that of the instruments too.
    """
    table = as_table(samples)
    name = str(samples.table["file"].iloc[0]) if len(samples) else "table"
    parts = [_on_axis(table, wanted, name) for wanted in facts["channels"]]
    arrays = {"spectra": np.concatenate(parts, axis=1, dtype=np.float32)}
    missing = [column for column in facts["tabular"] if column not in samples.table]
    if missing:
        problem = Phrase(
            "lacks the column {columns}, which this model takes beside the spectra", columns=", ".join(map(repr, missing))
        )
        raise InputError(name, problem, "Add the column, or choose a model that needs spectra alone.")
    if facts["tabular"]:
        columns = [pd.to_numeric(samples.table[column], errors="coerce").to_numpy(np.float32) for column in facts["tabular"]]
        arrays["tabular"] = np.stack(columns, 1)
    if takes_instrument(facts):
        if INSTRUMENT not in samples.table:
            problem = Phrase(
                "does not tell which instrument measured its samples, {names}, by which this model transfers",
                names=" or ".join(bridge(facts)["known"]),
            )
            raise InputError(name, problem, Phrase("Name that column, or add one called {column!r}.", column=INSTRUMENT))
        arrays["instrument"] = instrument_numbers(samples.table, facts).astype(np.float32)
    return arrays


def bridge(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The transfer of a run: method, from, to, known, shared, tested, as `Adaptation.facts` has them; {} without one.

    Runs made when there was one second instrument have its values where there are lists now.
    """
    told = facts.get("transfer") or {}
    if not isinstance(told.get("to"), str):
        return dict(told)
    lists = {key: [told[key]] for key in ("to", "shared", "tested") if key in told}
    return {**told, **lists, "known": [told["from"], told["to"]]}


def takes_instrument(facts: Mapping[str, Any]) -> bool:
    """Whether the network of a run must know which instrument measured a sample; EPO projects the spectra of all alike."""
    return bridge(facts).get("method", "epo") != "epo"


def strangers(rows: pd.DataFrame, facts: Mapping[str, Any]) -> np.ndarray:
    """Which rows (n,) bool are of an instrument, or of none, that the transfer of a run does not know; none without one."""
    return ~np.isin(instruments_of(rows), bridge(facts)["known"]) if takes_instrument(facts) else np.zeros(len(rows), bool)


def instruments_of(rows: pd.DataFrame) -> np.ndarray:
    """Name of each row's instrument (n,) as text, "" where it is not known."""
    return text(rows[INSTRUMENT]).to_numpy(object) if INSTRUMENT in rows else np.full(len(rows), "", object)


def instrument_numbers(rows: pd.DataFrame, facts: Mapping[str, Any]) -> np.ndarray:
    """The place of each row's instrument (n,) among those that the run brings to the first, from 1; 0 for any other."""
    others = pd.Index(bridge(facts).get("to", ()), dtype=object)
    return np.asarray(others.get_indexer(pd.Index(instruments_of(rows), dtype=object)) + 1)


def _on_axis(table: SpectraTable, wanted: Mapping[str, Any], name: str) -> np.ndarray:
    """(n, P) of one channel on the model's axis."""
    there = ", ".join(c.name for c in table.channels)
    try:
        channel = table.channel(wanted["name"])
    except KeyError as error:
        remedy = Phrase("Add it, or choose a model that was trained without it.")
        raise InputError(
            name, Phrase("lacks channel {channel} (it has {there})", channel=wanted["name"], there=there), remedy
        ) from error
    axis = np.asarray(wanted["axis"])
    if np.array_equal(channel.axis, axis):
        return channel.values
    return resample(channel, axis, name)[0].values


def without(table: SpectraTable, columns: Sequence[str]) -> SpectraTable:
    """The table without some columns of its rows."""
    return replace(table, rows=table.rows.drop(columns=list(columns)))


def trial_inputs(facts: Mapping[str, Any], n: int, rng: np.random.Generator) -> Arrays:
    """Network inputs of n samples like those of a run: class means of `facts["class_means"]`, brighter or dimmer, with noise."""
    classes = rng.integers(len(facts["classes"]), size=n)
    gain = np.exp(rng.normal(0, 0.2, (n, 1)))
    parts = []
    for channel in facts["channels"]:
        means = facts["class_means"][channel["name"]]
        curves = np.array([means[name] for name in facts["classes"]])[classes]
        noise = 0.02 * np.abs(curves).max(initial=1e-6) * rng.normal(size=curves.shape)
        parts.append(gain * curves + noise)
    arrays = {"spectra": np.concatenate(parts, axis=1, dtype=np.float32)}
    if facts["tabular"]:
        arrays["tabular"] = rng.normal(size=(n, len(facts["tabular"]))).astype(np.float32)
    if takes_instrument(facts):
        arrays["instrument"] = rng.integers(len(bridge(facts)["to"]) + 1, size=n).astype(np.float32)
    return arrays
