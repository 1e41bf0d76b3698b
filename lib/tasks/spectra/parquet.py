"""Tables of spectra as Parquet: one column per position, the others beside them, as in the text form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.task import InputError, Phrase
from lib.tasks.spectra.columns import MAX_COLUMNS, Columns, settled, suggest
from lib.tasks.spectra.tabular import Progress, Reading, assemble, check_size, silent

BATCH_ROWS = 2048
MAX_TEXT = 10_000  # characters of one cell
META = b"lightbench.columns"  # in the schema of what we write: the meaning of its columns


@dataclass(frozen=True)
class ParquetSource:
    """A Parquet file whose footer has been checked."""

    path: Path
    where: str
    names: tuple[str, ...]
    rows_at_most: int
    notes: tuple[str, ...] = ()

    def batches(self, spectral: Sequence[int], other: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Blocks of rows: the spectral columns as float32, then the others as they are."""
        try:
            with _opened(self.path, [self.names[i] for i in other]) as file:
                for block in file.iter_batches(batch_size=BATCH_ROWS):
                    columns = [self._float32(block.column(i), i) for i in spectral]
                    columns += [self._plain(block.column(i), i) for i in other]
                    yield pa.RecordBatch.from_arrays(columns, names=[f"c{i}" for i in range(len(columns))])
        except (pa.ArrowException, OSError) as error:
            raise damaged(self.where) from error

    def _float32(self, values: pa.Array, place: int) -> pa.Array:
        """A column of a spectrum. Raises InputError naming it where it holds no numbers."""
        try:
            return values.cast(pa.float32(), safe=False)
        except pa.ArrowException as error:
            raise InputError(
                self.where,
                Phrase(
                    "has {kind} values in column {column!r}, where numbers were expected",
                    kind=values.type,
                    column=self.names[place],
                ),
                "Write the column as float32 or float64",
            ) from error

    def _plain(self, values: pa.Array, place: int) -> pa.Array:
        """Any other column without its dictionary. Raises InputError on lists, records and endless texts."""
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        if pa.types.is_nested(kind):
            raise InputError(
                self.where,
                Phrase("has {kind} values in column {column!r}", kind=kind, column=self.names[place]),
                "Write one number or text per cell, or leave it out",
            )
        if pa.types.is_dictionary(values.type):
            words = values.dictionary
            if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
                longest = pc.max(pc.binary_length(words)).as_py() or 0
                if longest > MAX_TEXT:
                    raise too_long(self.where, self.names[place], longest)
            values = values.dictionary_decode()
        return values.cast(pa.string()) if pa.types.is_binary(kind) else values


def too_long(where: str, column: str, characters: int) -> InputError:
    """The refusal of a text cell that would fill the memory."""
    return InputError(
        where,
        Phrase(
            "has a text of {characters:,} characters in column {column!r} (at most {most:,})",
            characters=characters,
            column=column,
            most=MAX_TEXT,
        ),
        "Shorten it, or leave it out",
    )


def damaged(where: str) -> InputError:
    """The refusal of a file that says it is Parquet."""
    return InputError(where, "is a damaged Parquet file: it cannot be read", "Write it again, or copy it afresh")


def _opened(path: Path, texts: list[str] | None = None) -> Any:
    """A file that is read column page by column page: a row group of any size needs little memory."""
    return pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False, buffer_size=64 * 1024)


def read_parquet(path: Path, where: str, columns: Columns | None, on_progress: Progress = silent) -> Reading:
    """A Parquet table of spectra. Raises InputError; sizes are checked from the footer before a value is read."""
    try:
        with _opened(path) as file:
            names, rows, footer = tuple(file.schema_arrow.names), file.metadata.num_rows, file.schema_arrow.metadata or {}
            kinds = [field.type for field in file.schema_arrow]
    except (pa.ArrowException, OSError) as error:
        raise damaged(where) from error
    if len(names) > MAX_COLUMNS or any(map(pa.types.is_nested, kinds)):
        wide = (
            Phrase("has {n:,} columns (at most {most:,})", n=len(names), most=MAX_COLUMNS)
            if len(names) > MAX_COLUMNS
            else Phrase("has lists or records in its cells")
        )
        raise InputError(where, wide, "Write one row per sample and one plain column per position")
    check_size(rows, sum(pa.types.is_floating(kind) for kind in kinds), where)
    return assemble(ParquetSource(path, where, names, rows), settled(columns or Columns(), _proposed(names, footer)), on_progress)


def _proposed(names: tuple[str, ...], footer: Mapping[bytes, bytes]) -> Columns:
    """The meaning of the columns as the file says, else as their names suggest."""
    try:
        return Columns.model_validate_json(footer[META]) if META in footer else suggest(names)
    except ValueError:  # a newer version's, or a forged one: its names still tell
        return suggest(names)


def parquet_header(path: Path, where: str) -> tuple[tuple[str, ...], Columns]:
    """Names of the columns, and what they probably mean. Raises InputError."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise damaged(where) from error
    return tuple(schema.names), _proposed(tuple(schema.names), schema.metadata or {})


def write_parquet(path: Path, batches: Iterator[pa.RecordBatch], schema: pa.Schema, columns: Columns) -> None:
    """Write blocks of rows with the meaning of their columns."""
    schema = schema.with_metadata({META: columns.model_dump_json().encode()})
    floats = [field.name for field in schema if pa.types.is_float32(field.type)]
    texts = [field.name for field in schema if not pa.types.is_float32(field.type)]
    streams = {"use_dictionary": texts, "use_byte_stream_split": floats, "compression": "zstd"}
    with pq.ParquetWriter(path, schema, **streams) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
