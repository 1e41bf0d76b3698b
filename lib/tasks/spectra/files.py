"""Tables of spectra in and out: text, Parquet and HDF5, the fluorimeter's own files, and a cache of what was read.

What a file is, its first bytes tell, not its name. What can be mended is mended and said in `notes`; what cannot is
refused with a sentence. Files are only ever read; a pickle is not even that, because opening one runs what is in it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from lib.disk import home
from lib.task import TRUTH, InputError, Phrase, first_bytes
from lib.tasks.spectra.columns import ONLY_CHANNEL, STANDARD_AXES, Columns, Together, check_named, only, settled, suggest
from lib.tasks.spectra.config import SUFFIXES
from lib.tasks.spectra.delimited import open_head
from lib.tasks.spectra.hdf5 import hdf5_header, load_store, read_hdf5, write_store
from lib.tasks.spectra.join import joined
from lib.tasks.spectra.original import belongs, is_original, read_original, scaled
from lib.tasks.spectra.parquet import parquet_header, read_parquet, write_parquet
from lib.tasks.spectra.table import (
    DATE,
    GROUP,
    INSTRUMENT,
    NOTE,
    PROVENANCE,
    SAMPLE,
    SEVERITY,
    TYPE,
    Channel,
    SpectraTable,
    label_of,
)
from lib.tasks.spectra.tabular import Progress, Reading, read_text, silent

__all__ = ["SUFFIXES", "Columns", "Reading", "columns_of", "header", "read", "suggest", "write"]

READER_VERSION = 3  # raise it when a reader changes what it makes of a file: old caches are then read no more
CACHE_BYTES = 16 * 2**30  # kept in a cache folder; the longest unused go first
WRITTEN_ROWS = 4096
CONVERT = "python -m lib convert FILE.pkl FILE.parquet --i-made-it"
_OTHER_STARTS: Mapping[bytes, Phrase] = {
    b"%PDF": Phrase("a PDF"),
    b"\x89PNG": Phrase("a PNG picture"),
    b"\xff\xd8\xff": Phrase("a JPEG picture"),
    b"GIF8": Phrase("a GIF"),
    b"II*\0": Phrase("a TIFF"),
    b"MM\0*": Phrase("a TIFF picture"),
    b"\x93NUMPY": Phrase("a NumPy file"),
    b"\x1f\x8b": Phrase("a gzip archive"),
    b"BZh": Phrase("a bzip2 archive"),
    b"7z\xbc\xaf": Phrase("a 7-Zip archive"),
    b"\xfd7zXZ": Phrase("an xz archive"),
    b"\xd0\xcf\x11\xe0": Phrase("an old Excel workbook"),
    b"{\\rtf": Phrase("a rich-text document"),
    b"<!DOCTYPE": Phrase("a web page"),
    b"<html": Phrase("a web page"),
}
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"ccopy_reg\n", b"cpandas", b"(lp0", b"(dp0", b"(i")
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where tables that were read are kept, so that they open at once the next time."""
    return home() / "cache"


def bundles(names: Sequence[str], together: Together = "apart") -> list[list[int]]:
    """Places of the names that are read together: the fluorimeter's files of one folder; others alone, unless `together`."""
    sets: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        folder, _, base = name.replace("\\", "/").rpartition("/")
        sets.setdefault(f"{folder}/" if belongs(base) else name, []).append(place)
    found = []
    for places in sets.values():
        whole = is_original([names[place].replace("\\", "/").rpartition("/")[2] for place in places])
        found += [places] if whole else [[place] for place in places]
    if together != "apart":
        alone = [places[0] for places in found if not is_original([names[place] for place in places])]
        found = [places for places in found if places[0] not in alone] + ([sorted(alone)] if alone else [])
    return sorted(found)


# --- reading ----------------------------------------------------------------------------------------------------------
def read(
    paths: Path | Sequence[Path],
    columns: Columns | None = None,
    *,
    names: Sequence[str] = (),
    on_progress: Progress = silent,
    cache: Path | None = None,
) -> Reading:
    """A table of spectra from one file, from a folder, or from the fluorimeter's files of one set.

    `columns` says what columns mean, `suggest` what it leaves open. Other tables than those of a set are joined as
    `columns.together` says. `names` are what messages call the paths.
    `on_progress(fraction, sentence)` is called now and then. `cache` is a folder of ours where the result is kept, so that
    the same files open at once the next time. Raises InputError naming the file, the fault and the remedy.
    """
    files = _listed([paths] if isinstance(paths, Path) else list(paths), names)
    kinds = {name: _kind(path, name) for name, path in files.items()}
    kept = None if cache is None else cache / f"spectra-{_digest(files, columns)}.h5"
    if kept is not None and (found := _recall(kept)) is not None:
        on_progress(1.0, f"{len(found.table):,} samples read from the cache")
        return found
    try:
        reading = _read(files, kinds, columns, on_progress)
    except MemoryError as error:
        raise InputError(", ".join(files), "does not fit into memory", "Split it, or choose fewer channels") from error
    if kept is not None:
        on_progress(0.98, "Keeping the table for the next time")
        reading = _keep(kept, reading)
    on_progress(1.0, f"{len(reading.table):,} samples read")
    return reading


def _listed(paths: list[Path], names: Sequence[str]) -> dict[str, Path]:
    """Display name: path of each file; a folder is its tables."""
    if len(paths) == 1 and paths[0].is_dir():
        folder = paths[0]
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith("."))
        if not paths:
            raise InputError(
                folder.name,
                "holds no table of spectra",
                Phrase("Choose a folder with {endings} files", endings=", ".join(SUFFIXES)),
            )
        names = ()
        paths = [path for path in paths if path.name != TRUTH] or paths
        if is_original([path.name for path in paths]):
            paths = [path for path in paths if belongs(path.name)]
    if not paths:
        raise InputError("files", "were not chosen", "Choose at least one table of spectra")
    called = list(names) or [path.name for path in paths]
    twice = next((name for k, name in enumerate(called) if name in called[:k]), None)
    if twice is not None:
        raise InputError(twice, "was given twice", "Give each file once")
    return dict(zip(called, paths))


def _kind(path: Path, name: str) -> str:
    """`text`, `parquet` or `hdf5`, from the first bytes. Raises InputError for anything else."""
    start = first_bytes(path, name, 4096, "table")
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if start.startswith(_PICKLES) or path.suffix.lower() in (".pkl", ".pickle") or name.lower().endswith((".pkl", ".pickle")):
        raise InputError(
            name,
            "is a Python pickle, which can run any program when it is opened: it is never read here",
            Phrase("If you made it yourself and trust it, convert it once: {command}", command=CONVERT),
        )
    if start.startswith(b"PK\x03\x04"):
        book = b"[Content_Types].xml" in start or b"xl/" in start
        other: Phrase | None = Phrase("an Excel workbook") if book else Phrase("a ZIP archive")
    else:
        other = next((kind for magic, kind in _OTHER_STARTS.items() if start.lstrip().startswith(magic)), None)
    if other is not None:
        remedy = Phrase("Unpack it first") if "archive" in other else Phrase("Export the table as CSV, Parquet or HDF5")
        raise InputError(name, Phrase("is not a table of spectra but {other}", other=other), remedy)
    return "text"


def _read(files: Mapping[str, Path], kinds: Mapping[str, str], columns: Columns | None, on_progress: Progress) -> Reading:
    """Dispatch on what the files are."""
    if is_original(list(files)):
        strange = next((name for name, kind in kinds.items() if kind != "text"), None)
        if strange is not None:
            raise InputError(
                strange,
                Phrase("is a {kind} file, where a text table was expected", kind=kinds[strange]),
                "Export it as text, tab-separated",
            )
        return read_original(files, columns, on_progress)
    readers: dict[str, Callable[[Path, str, Columns | None, Progress], Reading]] = {
        "text": read_text, "parquet": read_parquet, "hdf5": read_hdf5,
    }  # fmt: skip
    if len(files) == 1:
        ((name, path),) = files.items()
        return readers[kinds[name]](path, name, columns, on_progress)
    if columns is None or columns.together == "apart":
        raise InputError(
            ", ".join(files), "are several tables that do not belong to one set (EX_277….txt, Y….txt)",
            "Say what they are together, channels or instruments, or open one at a time",
        )  # fmt: skip
    meanings = _meanings(files, columns)
    readings = {}
    for done, (name, path) in enumerate(files.items()):
        tell = scaled(on_progress, done / len(files), (done + 1) / len(files))
        readings[name] = readers[kinds[name]](path, name, meanings[name], tell)
    return joined(readings, columns)


def _meanings(files: Mapping[str, Path], given: Columns) -> dict[str, Columns]:
    """What to read each of several tables with: as channels, one table may hold what is known of the samples of all."""
    if given.together == "instruments":
        return dict.fromkeys(files, given)
    headers = {name: header(path, name)[0] for name, path in files.items()}
    everything = [column for names in headers.values() for column in names]
    check_named(everything, settled(given, Columns()), ", ".join(files))
    return {name: only(given, names).model_copy(update={"channels": ()}) for name, names in headers.items()}


def header(path: Path, name: str = "") -> tuple[tuple[str, ...], Columns]:
    """Names of the columns of one file, and what they probably mean, from its beginning. Raises InputError as `read` does."""
    called = name or path.name
    readers: dict[str, Callable[[Path, str], tuple[tuple[str, ...], Columns]]] = {
        "text": _text_header, "parquet": parquet_header, "hdf5": hdf5_header,
    }  # fmt: skip
    return readers[_kind(path, called)](path, called)


def _text_header(path: Path, name: str) -> tuple[tuple[str, ...], Columns]:
    names = open_head(path, name).names
    return names, suggest(names)


# --- the cache --------------------------------------------------------------------------------------------------------
def _digest(files: Mapping[str, Path], columns: Columns | None) -> str:
    """What a reading depends on: the files as they are now, the meaning of their columns, and the reader."""
    digest = hashlib.sha256(f"{READER_VERSION} {columns.model_dump_json() if columns else ''}".encode())
    for name, path in files.items():
        about = path.stat()
        digest.update(f"{name}\0{path.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(65536))
            file.seek(max(about.st_size - 65536, 0))
            digest.update(file.read(65536))
    return digest.hexdigest()[:32]


def _recall(kept: Path) -> Reading | None:
    """What was kept, or None; a damaged cache is as good as none."""
    if not kept.exists():
        return None
    try:
        reading = load_store(kept)
        os.utime(kept)
    except (InputError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        _log.warning("cache %s cannot be used: %s", kept.name, error)
        return None
    return reading


def _keep(kept: Path, reading: Reading) -> Reading:
    """Keep a reading; where that fails (disk full, read-only) it still counts, and the note says so."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _whole(kept, lambda path: write_store(path, reading.table, reading.notes, reading.columns))
        _prune(kept)
    except OSError as error:
        _log.warning("cache %s was not written: %s", kept, error)
        note = Phrase("not kept for the next time ({why}): it will open as slowly again", why=error.strerror or error)
        return Reading(reading.table, (*reading.notes, note), reading.columns)
    return reading


def _prune(newest: Path) -> None:
    """Remove the longest unused caches of ours until the folder is within its limit."""
    kept = sorted((p.stat().st_mtime, p) for p in newest.parent.glob("spectra-*.h5") if p != newest)
    total = newest.stat().st_size + sum(p.stat().st_size for _, p in kept)
    for _, path in kept:
        if total <= CACHE_BYTES:
            return
        total -= path.stat().st_size
        path.unlink(missing_ok=True)


def _whole(target: Path, write_to: Callable[[Path], None]) -> None:
    """Write beside the place and rename: a full disk leaves nothing half."""
    temporary = target.with_name(f".writing-{secrets.token_hex(4)}-{target.name}")
    try:
        write_to(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


# --- writing ----------------------------------------------------------------------------------------------------------
def write(table: SpectraTable, path: Path) -> Path:
    """Write a table as .parquet, .csv or .h5 (.hdf5), whole or not at all; `read` gives the same back.

    The notes of samples are not written: reading finds them again. Text forms keep a channel's positions, not the wish to
    have it on another axis than the standard one: read such a file with `standard_axis` off. Raises InputError where the
    ending is another, where the file is there already, and where channels would share a column name.
    """
    table = SpectraTable(table.channels, table.rows.drop(columns=[NOTE], errors="ignore"))
    writers: dict[str, Callable[[Path], None]] = {
        ".parquet": lambda p: write_parquet(p, _batches(table), _schema(table), columns_of(table)),
        ".csv": lambda p: _write_csv(p, table),
        ".h5": lambda p: write_store(p, table, (), columns_of(table)),
    }
    writers[".hdf5"] = writers[".h5"]
    if path.suffix.lower() not in writers:
        raise InputError(
            path.name, "has an ending that is not written", Phrase("Choose one of {endings}", endings=", ".join(writers))
        )
    if path.exists():
        raise InputError(path.name, "is there already", "Choose another name: nothing is written over")
    names = _names(table)
    twice = next((name for k, name in enumerate(sorted(names)) if k and sorted(names)[k - 1] == name), None)
    if twice is not None:
        raise InputError(path.name, Phrase("would have two columns {twice!r}", twice=twice), "Give every channel its own name")
    path.parent.mkdir(parents=True, exist_ok=True)
    _whole(path, writers[path.suffix.lower()])
    return path


def columns_of(table: SpectraTable) -> Columns:
    """The meaning of the columns of a table that `write` wrote."""
    has = set(table.rows.columns)
    roles = {"instrument": INSTRUMENT, "date": DATE, "severity": SEVERITY, "defect_type": TYPE, "provenance": PROVENANCE}
    meaning: dict[str, Any] = {role: name for role, name in (roles | {"sample": SAMPLE}).items() if name in has}
    channels = tuple(c.name for c in table.channels)
    group = (GROUP,) if GROUP in has else ()
    return Columns(group=group, label=label_of(table.rows), channels=channels, standard_axis=False, **meaning)


def _names(table: SpectraTable) -> list[str]:
    """Column names of all channels, then of the rows."""
    spectral = [f"{_prefix(c)}{_position(x)}{_suffix(c)}" for c in table.channels for x in c.axis]
    return [*spectral, *map(str, table.rows.columns)]


def _prefix(channel: Channel) -> str:
    return "" if channel.name == ONLY_CHANNEL else f"{channel.name}_"


def _suffix(channel: Channel) -> str:
    """The unit, where the name of the channel does not tell it."""
    unit = {"cm⁻¹": "cm-1"}.get(channel.axis_unit, channel.axis_unit)
    return "" if not unit or (unit == "nm" and channel.name in STANDARD_AXES) else f" {unit}"


def _position(x: float) -> str:
    """295.0 -> 295; any other as short as reads back the same."""
    return str(int(x)) if float(x).is_integer() else repr(float(x))


def _row_arrays(rows: pd.DataFrame) -> list[pa.Array]:
    """The columns of rows; a line break inside a text would end the row of a text table."""
    arrays = []
    for name in rows:
        values = rows[name]
        if pd.api.types.is_string_dtype(values):
            values = values.astype("str").str.replace(r"\s*[\r\n]+\s*", " ", regex=True)
        arrays.append(pa.Array.from_pandas(values))
    return arrays


def _schema(table: SpectraTable) -> pa.Schema:
    """Types of all columns."""
    points = sum(len(c.axis) for c in table.channels)
    kinds = [pa.float32()] * points + [array.type for array in _row_arrays(table.rows)]
    return pa.schema(list(zip(_names(table), kinds)))


def _batches(table: SpectraTable) -> Iterator[pa.RecordBatch]:
    """Blocks of rows with every column once: channels one after another, each with its own values."""
    schema, others = _schema(table), _row_arrays(table.rows)
    for first in range(0, len(table), WRITTEN_ROWS):
        last = min(first + WRITTEN_ROWS, len(table))
        columns = []
        for channel in table.channels:
            turned = np.ascontiguousarray(np.asarray(channel.values[first:last], np.float32).T)
            columns += [pa.array(values) for values in turned]
        columns += [array.slice(first, last - first) for array in others]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _write_csv(path: Path, table: SpectraTable) -> None:
    """Comma-separated UTF-8 with decimal points; numbers as short as reads back the same."""
    with pa.csv.CSVWriter(path, _schema(table)) as writer:
        for batch in _batches(table):
            writer.write_batch(batch)
