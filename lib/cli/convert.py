"""The command that turns a pickled table into Parquet, for the owner of the pickle."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pandas as pd

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
    names: list[object] = list(table.columns)
    table.columns = pd.Index(
        ["_".join(str(part) for part in name if str(part)) if isinstance(name, tuple) else str(name) for name in names]
    )
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    runs.write_atomic(parsed.output, buffer.getvalue())
    print(f"{len(table):,} rows, {len(table.columns):,} columns in {parsed.output}")
    return OK
