"""The command that turns a pickled table into Parquet, for the owner of the pickle."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa

from lib import runs
from lib.cli.typed import OK, UsageError
from lib.task import InputError


def convert_arguments(command: argparse.ArgumentParser) -> None:
    """What `convert` takes."""
    command.add_argument("input", metavar="FILE.pkl", type=Path, help="a pickled pandas table that you made yourself")
    command.add_argument("output", metavar="FILE.parquet", type=Path, help="where the table goes")
    command.add_argument(
        "--i-made-it", action="store_true",
        help="say that the file is your own: opening a pickle runs whatever program is in it, so never open one you were sent",
    )  # fmt: skip


def _plain_names(table: pd.DataFrame) -> list[str]:
    """Names of the columns as text; those of several levels as `277_295`."""
    names: list[object] = list(table.columns)
    return ["_".join(str(part) for part in name if str(part)) if isinstance(name, tuple) else str(name) for name in names]


def without_mixed(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with every column of one kind, and the names of those that became text because they were not.

    Parquet keeps one kind of value a column; pandas lets numbers, words and dates stand in one.
    """
    as_text = []
    for name in filter(lambda column: pd.api.types.is_object_dtype(table[column]), table.columns):
        try:
            pa.array(table[name], from_pandas=True)
        except pa.ArrowException:
            as_text.append(str(name))
    texts = {name: table[name].map(_text, na_action="ignore") for name in as_text}
    return table.assign(**texts), as_text


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def convert(parsed: argparse.Namespace) -> int:
    """The only place that opens a pickle, on the word of its owner: nothing else in Lightbench ever does."""
    if not parsed.i_made_it:
        raise UsageError(
            f"{parsed.input}: opening a pickle runs whatever program is in it. If you made this file yourself and nobody "
            "changed it since, say so with --i-made-it. Never convert one that you were sent: ask for Parquet or CSV."
        )
    if parsed.output.suffix.lower() != ".parquet":
        raise UsageError(f"{parsed.output}: it does not end in .parquet. Choose such a name.")
    if not parsed.input.is_file():
        raise UsageError(f"{parsed.input}: there is no such file. Check the path.")
    try:
        table = pd.read_pickle(parsed.input)  # noqa: S301 - its owner vouches for it
    except Exception as error:  # a pickle can fail in any way
        problem = f"it could not be opened as a pickled table ({type(error).__name__}: {error})"
        raise InputError(str(parsed.input), problem, "Open it with the pandas that wrote it, and save it as Parquet.") from error
    if not isinstance(table, pd.DataFrame):
        raise InputError(str(parsed.input), f"it holds a {type(table).__name__}, not a table", "Convert a pandas DataFrame.")
    if table.index.name:
        table = table.reset_index()
    table = table.set_axis(_plain_names(table), axis=1)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        problem = f"it has several columns called {twice[0]!r}"
        raise InputError(str(parsed.input), problem, "Give every column its own name, and pickle it again.")
    table, as_text = without_mixed(table)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    runs.write_atomic(parsed.output, buffer.getvalue())
    for name in as_text:
        print(f"note: column {name!r} holds values of several kinds: written as text", file=sys.stderr)
    print(f"{len(table):,} rows, {len(table.columns):,} columns in {parsed.output}")
    return OK
