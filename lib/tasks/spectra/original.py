"""The fluorimeter's own files: one text table per excitation (`EX_277….txt`), and one of what is known of each sample (`Y….txt`).

All are joined by their column `sequence`. Samples that differ between the files are refused; another order is put right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.task import InputError, Phrase
from lib.tasks.spectra.columns import LSPR, Columns, channel_name, check_named, settled, suggest
from lib.tasks.spectra.delimited import DelimitedSource, open_delimited
from lib.tasks.spectra.rows import KEY, standard_rows
from lib.tasks.spectra.table import EXCITATIONS, SAMPLE, SpectraTable
from lib.tasks.spectra.tabular import (
    Progress,
    Reading,
    assemble,
    check_size,
    finish,
    frame_of,
    in_either_decimal,
    of_file,
    rename_positions,
    silent,
)

# Names may begin with a folder: those of an archive, and of a folder under data/, do.
_SPECTRA = re.compile(r"(?:.*[/\\])?(?P<channel>EX[_ ]?\d+|(?:EX_)?LSPR)(?:[^\d/\\][^/\\]*)?\.(?:txt|tsv|csv)", re.IGNORECASE)
_SAMPLES = re.compile(r"(?:.*[/\\])?Y[^/\\]*\.(?:txt|tsv|csv)", re.IGNORECASE)


def is_original(names: Sequence[str]) -> bool:
    """Whether file names are those of the fluorimeter's own files."""
    return any(_SPECTRA.fullmatch(name) for name in names)


def channel_of(name: str) -> str:
    """The channel that a file of the fluorimeter's own holds, "" for any other file."""
    match = _SPECTRA.fullmatch(name)
    return channel_name(re.sub(r"^ex_(?=lspr)", "", match["channel"], flags=re.IGNORECASE)) if match else ""


def belongs(name: str) -> bool:
    """Whether a file is one of a set of the fluorimeter's own."""
    return bool(_SPECTRA.fullmatch(name) or _SAMPLES.fullmatch(name))


def read_original(files: Mapping[str, Path], columns: Columns | None, on_progress: Progress = silent) -> Reading:
    """Spectra and samples of the files {name: path}, whatever else is among them.

    `columns.channels` chooses channels and their order; none named asks for 277, 380 and 425. The other fields of `columns` are
    of the Y file. Raises InputError where a file is missing or stands twice, and where files hold different samples.
    """
    spectra, samples = _sort(files)
    wanted = _wanted(spectra, columns.channels if columns else ())
    parts = []
    for k, channel in enumerate(wanted):
        tell = scaled(on_progress, k / len(wanted), (k + 1) / len(wanted))
        parts.append(_read_channel(spectra[channel], files[spectra[channel]], channel, columns, len(wanted), tell))
    first = parts[0].table
    notes: list[str] = [of_file(spectra[c], note) for c, part in zip(wanted, parts) for note in part.notes]
    channels = [first.channels[0]]
    for channel, part in zip(wanted[1:], parts[1:]):
        order = _order(first.rows[SAMPLE], part.table.rows[SAMPLE], spectra[wanted[0]], spectra[channel])
        if order is None:
            channels.append(part.table.channels[0])
        else:
            notes.append(Phrase("{file}: samples put in the order of {first}", file=spectra[channel], first=spectra[wanted[0]]))
            channels.append(part.table.take(order).channels[0])
    if samples is None:
        notes.append(Phrase("no Y file: the labels of these samples are not known"))
        used = columns or Columns(sample=KEY)
        return finish(tuple(channels), first.rows, notes, used, spectra[wanted[0]])
    rows, used, more = _read_samples(samples, files[samples], columns, first, spectra[wanted[0]])
    return finish(tuple(channels), rows, notes + more, used, samples)


def _sort(files: Mapping[str, Path]) -> tuple[dict[str, str], str | None]:
    """File name of each channel, and of the samples."""
    spectra: dict[str, str] = {}
    samples: str | None = None
    for name in files:
        if channel := channel_of(name):
            if channel in spectra:
                raise _twice(Phrase("channel {channel}", channel=channel), spectra[channel], name)
            spectra[channel] = name
        elif _SAMPLES.fullmatch(name):
            if samples is not None:
                raise _twice(Phrase("the samples"), samples, name)
            samples = name
    if not spectra:
        raise InputError(
            ", ".join(files) or "the folder", "holds no file of spectra (EX_277….txt)", "Add the files EX_277, EX_380, EX_425"
        )
    return spectra, samples


def _twice(what: str, one: str, other: str) -> InputError:
    """The refusal of two files for the same thing."""
    return InputError(
        other,
        Phrase("holds {what}, and so does {one}", what=what, one=one),
        "Give one set of files at a time, each set in its own folder",
    )


def _wanted(spectra: Mapping[str, str], chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Channels to read, in order. Raises InputError naming the file that is missing."""
    wanted = chosen or (*EXCITATIONS, *(c for c in spectra if c not in EXCITATIONS))
    missing = [c for c in wanted if c not in spectra]
    if missing:
        there = ", ".join(spectra.values())
        names = " and ".join("LSPR….txt" if c == LSPR else f"EX_{c}….txt" for c in missing)
        raise InputError(
            names, Phrase("is missing: channel {missing} was expected beside {there}", missing=', '.join(missing), there=there),
            Phrase("Add the file, or choose only the channels that are there ({channels})", channels=', '.join(spectra)),
        )  # fmt: skip
    return wanted


def _read_channel(
    name: str, path: Path, channel: str, columns: Columns | None, share: int, on_progress: Progress
) -> Reading:  # fmt: skip
    """One excitation's file, its samples named by `sequence`."""
    source = rename_positions(open_delimited(path, name), channel)
    check_size(source.rows_at_most * share, len(source.names) - 1, name)
    index = KEY if KEY in source.names else source.names[0]
    if index.startswith(f"{channel}_"):
        raise InputError(
            name,
            Phrase("has no column {column!r}, which joins it to the other files", column=KEY),
            Phrase("Export it again with {column!r} as first column", column=KEY),
        )
    meaning = Columns(sample=index, channels=(channel,), standard_axis=columns.standard_axis if columns else True, axis_unit="nm")
    reading = in_either_decimal(source, lambda s: assemble(s, meaning, on_progress))
    rows = _unique(reading.table.rows, reading, index, name)
    return replace(reading, table=SpectraTable(reading.table.channels, rows))


def _unique(rows: pd.DataFrame, reading: Reading, index: str, name: str) -> pd.DataFrame:
    """The sample names alone. Raises InputError where an index under another name repeats."""
    if any("repeats" in note for note in reading.notes):
        raise InputError(
            name,
            Phrase("has repeated values of {index!r}", index=index),
            "Give every sample its own number, or remove the copies",
        )
    return rows[[SAMPLE]]


def _order(first: pd.Series, other: pd.Series, first_name: str, other_name: str) -> np.ndarray | None:
    """Positions in `other` of the samples of `first`; None where the order is the same. Raises InputError where they differ."""
    if len(first) == len(other) and (first.to_numpy() == other.to_numpy()).all():
        return None
    for have, lack, there in ((first, other, other_name), (other, first, first_name)):
        alone = have[~have.isin(lack)]
        if len(alone):
            holder = first_name if there == other_name else other_name
            some = ", ".join(alone.iloc[:5])
            told = f"{KEY} {some}{' …' if len(alone) > 5 else ''}"
            raise InputError(
                there,
                Phrase("lacks {n} samples that {holder} has ({some})", n=len(alone), holder=holder, some=told),
                Phrase("Export all files of one set together, with the same {column} in each", column=KEY),
            )
    return pd.Index(other).get_indexer(pd.Index(first))


def _read_samples(
    name: str, path: Path, columns: Columns | None, first: SpectraTable, first_name: str
) -> tuple[pd.DataFrame, Columns, list[str]]:  # fmt: skip
    """What is known of each sample, in the order of the spectra."""
    source = open_delimited(path, name)
    columns = settled(columns or Columns(), suggest(source.names))
    check_named(source.names, columns.model_copy(update={"sample": ""}), name)
    check_size(source.rows_at_most, len(source.names), name)
    frame = _frame(source)
    rows, notes = standard_rows(frame, columns if columns.sample in frame else columns.model_copy(update={"sample": ""}), name)
    notes = [of_file(name, note) for note in (*source.notes, *notes)]
    if columns.sample not in frame:
        if len(rows) != len(first):
            rows_told = {"n": len(rows), "m": len(first), "file": first_name}
            raise InputError(
                name,
                Phrase("has no column {column!r} and {n:,} rows where {file} has {m:,}", column=KEY, **rows_told),
                Phrase("Export it again with {column!r} as first column", column=KEY),
            )
        rows[SAMPLE] = first.rows[SAMPLE]
        return (
            rows,
            columns,
            [*notes, Phrase("{name}: no column {column!r}, joined by the order of its rows", name=name, column=KEY)],
        )
    order = _order(first.rows[SAMPLE], rows[SAMPLE], first_name, name)
    if order is not None:
        rows = rows.iloc[order].reset_index(drop=True)
        notes.append(Phrase("{name}: samples put in the order of {first_name}", name=name, first_name=first_name))
    return rows, columns, notes


def _frame(source: DelimitedSource) -> pd.DataFrame:
    """All columns of a text table that has no spectra."""
    blocks = list(source.batches([], range(len(source.names))))
    n = sum(block.num_rows for block in blocks)
    if n == 0:
        raise InputError(source.where, "has 0 rows of values", "Export it again with its samples, one per row")
    return frame_of(blocks, list(source.names), n)


def scaled(on_progress: Progress, low: float, high: float) -> Progress:
    """Progress of one part of the work."""
    return lambda fraction, sentence: on_progress(low + fraction * (high - low), sentence)
