"""Tables of spectra as HDF5: what `write_store` writes, and other people's files of the same shape.

Other people's: one dataset (n, P) per channel with its axis in the attribute `axis` or in a dataset `axis` or `<name>_axis`
beside it, or one dataset (n,) per column named as in the text form; further datasets (n,) are the other columns.

A file can point outside itself: soft and external links, external storage and virtual datasets are refused, and every
declared shape is checked before a value is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa

from lib.task import InputError, Phrase
from lib.tasks.spectra.columns import MAX_COLUMNS, ONLY_CHANNEL, Columns, channel_name, settled, suggest
from lib.tasks.spectra.parquet import MAX_TEXT, too_long
from lib.tasks.spectra.table import Channel, SpectraTable, declared, label_of
from lib.tasks.spectra.tabular import MAX_TABLE_BYTES, Progress, Reading, assemble, check_size, finish, silent
from lib.words import from_plain, plain

FORMAT = "lightbench spectra 1"
BATCH_ROWS = 1024
MAX_CHUNK_BYTES = 256 * 2**20  # of one compressed piece: it is unpacked whole
MAX_DEPTH = 3
_REMEDY = Phrase("Write it with plain datasets in one file, or as Parquet or CSV")


# --- what may be opened -----------------------------------------------------------------------------------------------
def checked_datasets(file: h5py.File, where: str) -> dict[str, h5py.Dataset]:
    """Path: dataset of all that a file holds. Raises InputError on anything that leads outside it or is too large."""
    found: dict[str, h5py.Dataset] = {}
    _walk(file, "", where, found, 1)
    total = sum(int(np.prod(d.shape, dtype=object)) * d.dtype.itemsize for d in found.values())
    if total > 2 * MAX_TABLE_BYTES:  # float64 is read as float32
        limit = 2 * MAX_TABLE_BYTES >> 30
        raise InputError(
            where,
            Phrase("declares {gib:,.1f} GiB of values (limit {limit} GiB)", gib=total / 2**30, limit=limit),
            "Split it, or write fewer channels",
        )
    return found


def _walk(group: h5py.Group, prefix: str, where: str, found: dict[str, h5py.Dataset], depth: int) -> None:
    """Collect the datasets of a group, looking at each link before what it leads to."""
    if "pandas_type" in group.attrs:
        raise InputError(
            where,
            "is a pandas HDFStore, which keeps its names as pickles: it is never read here",
            "Write it with DataFrame.to_parquet",
        )
    if len(group) + len(found) > MAX_COLUMNS + MAX_DEPTH:
        raise InputError(
            where,
            Phrase("has more than {most:,} datasets", most=MAX_COLUMNS),
            "Write each channel as one dataset (samples, positions)",
        )
    for key in group:
        path = f"{prefix}{key}"
        link = group.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise InputError(
                where, Phrase("has a link at {path!r} to another place or file, which is never followed", path=path), _REMEDY
            )
        thing = group[key]
        if isinstance(thing, h5py.Group):
            if depth >= MAX_DEPTH:
                raise InputError(
                    where, Phrase("has groups nested deeper than {most} at {path!r}", most=MAX_DEPTH, path=path), _REMEDY
                )
            _walk(thing, f"{path}/", where, found, depth + 1)
        elif isinstance(thing, h5py.Dataset):
            _check_dataset(thing, path, where)
            found[path] = thing


def _check_dataset(data: h5py.Dataset, path: str, where: str) -> None:
    """Storage, type and size of one dataset, from its header."""
    if data.external or data.is_virtual:
        raise InputError(where, Phrase("keeps dataset {path!r} in another file, which is never opened", path=path), _REMEDY)
    text = h5py.check_string_dtype(data.dtype) is not None
    if data.dtype.kind not in "iufbS" and not text:
        raise InputError(
            where,
            Phrase("has {kind} values in dataset {path!r}, where numbers or text were expected", kind=data.dtype, path=path),
            _REMEDY,
        )
    if data.shape is None or len(data.shape) not in (1, 2):
        raise InputError(
            where,
            Phrase(
                "has dataset {path!r} of shape {shape}: (samples, positions) or (samples) was expected",
                path=path,
                shape=data.shape,
            ),
            _REMEDY,
        )
    size = int(np.prod(data.shape, dtype=object)) * data.dtype.itemsize
    chunk = int(np.prod(data.chunks or (0,), dtype=object)) * data.dtype.itemsize
    if size > 2 * MAX_TABLE_BYTES or chunk > MAX_CHUNK_BYTES:
        what = f"{size / 2**30:,.1f} GiB" if size > 2 * MAX_TABLE_BYTES else Phrase("pieces of {mib:,} MiB", mib=chunk >> 20)
        raise InputError(
            where,
            Phrase("declares {what} in dataset {path!r} (shape {shape})", what=what, path=path, shape=data.shape),
            "Split it into smaller files",
        )
    if data.dtype.kind == "S" and data.dtype.itemsize > 4 * MAX_TEXT:
        raise too_long(where, path, data.dtype.itemsize)


# --- reading ----------------------------------------------------------------------------------------------------------
def read_hdf5(path: Path, where: str, columns: Columns | None, on_progress: Progress = silent) -> Reading:
    """An HDF5 table of spectra; ours comes back as it was written unless `columns` says otherwise. Raises InputError."""
    try:
        with h5py.File(path, "r") as file:
            found = checked_datasets(file, where)
            if columns in (None, Columns()) and _attribute(file, "format") == FORMAT:
                table, notes, meaning = _stored(file, found, where)
                plain_notes = [note for note in notes if isinstance(note, str)]  # a stranger's template is never filled
                return finish(table.channels, table.rows, plain_notes, meaning, where)
            source = _source(found, where)
            return assemble(source, settled(columns or Columns(), _proposed(file, source.names)), on_progress)
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(where, "is a damaged HDF5 file: it cannot be read", "Write it again, or copy it afresh") from error


def _proposed(file: h5py.File, names: tuple[str, ...]) -> Columns:
    """The meaning of the columns as a file of ours says, else as their names suggest."""
    try:
        ours = _attribute(file, "format") == FORMAT
        return Columns.model_validate_json(_attribute(file, "columns")) if ours else suggest(names)
    except ValueError:  # a newer version's, or a forged one: its names still tell
        return suggest(names)


def hdf5_header(path: Path, where: str) -> tuple[tuple[str, ...], Columns]:
    """Names of the columns, as `read_hdf5` takes them, and what they probably mean. Raises InputError."""
    try:
        with h5py.File(path, "r") as file:
            names = _source(checked_datasets(file, where), where).names
            return names, _proposed(file, names)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(where, "is a damaged HDF5 file: it cannot be read", "Write it again, or copy it afresh") from error


@dataclass(frozen=True)
class Hdf5Source:
    """Datasets as named columns: a position of a channel is (dataset, place), any other column (dataset, None)."""

    where: str
    names: tuple[str, ...]
    rows_at_most: int
    held: tuple[tuple[h5py.Dataset, int | None], ...]
    notes: tuple[str, ...] = field(default=())

    def batches(self, spectral: Sequence[int], other: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Blocks of rows: the spectral columns as float32, then the others."""
        for first in range(0, self.rows_at_most, BATCH_ROWS):
            rows = slice(first, min(first + BATCH_ROWS, self.rows_at_most))
            blocks: dict[str, np.ndarray] = {}
            columns = []
            for i in spectral:
                data, place = self.held[i]
                if data.dtype.kind not in "iuf":
                    raise InputError(
                        self.where,
                        Phrase("has text in dataset {path!r}, where numbers were expected", path=data.name),
                        "Write it as float32",
                    )
                if data.name not in blocks:
                    blocks[data.name] = np.asarray(data[rows]).astype(np.float32)
                block = blocks[data.name]
                columns.append(pa.array(block if place is None else np.ascontiguousarray(block[:, place])))
            columns += [pa.array(_values(self.held[i][0], rows, self.where)) for i in other]
            yield pa.RecordBatch.from_arrays(columns, names=[f"c{i}" for i in range(len(columns))])


def _source(found: dict[str, h5py.Dataset], where: str) -> Hdf5Source:
    """Channels (n, P) and columns (n) of somebody's file."""
    wide = {path: data for path, data in found.items() if data.ndim == 2}
    axes = {path: _axis_of(path, data, found, where) for path, data in wide.items()}
    used = {a for _, a in axes.values()}
    flat = {path: data for path, data in found.items() if data.ndim == 1 and path not in used}
    lengths = {path: len(data) for path, data in (wide | flat).items()}
    if len(set(lengths.values())) > 1:
        (one, n), (other, m) = (
            next(iter(lengths.items())),
            next((p, k) for p, k in lengths.items() if k != next(iter(lengths.values()))),
        )
        raise InputError(
            where,
            Phrase("has {n:,} samples in {one!r} and {m:,} in {other!r}", n=n, one=one, m=m, other=other),
            "Write the same samples in every dataset",
        )
    rows = next(iter(lengths.values()), 0)
    if rows == 0:
        raise InputError(where, "has 0 rows of values", "Write it again with its samples")
    check_size(rows, sum(len(axis) for axis, _ in axes.values()), where)
    names, held = [], []
    for path, data in wide.items():
        channel = _label(path, data)
        unit = {"cm⁻¹": " cm-1", "nm": " nm", "µm": " µm"}.get(_attribute(data, "axis_unit"), "")
        names += [f"{channel}_{position!r}{unit}" for position in axes[path][0].tolist()]
        held += [(data, place) for place in range(data.shape[1])]
    names += [_label(path, data) for path, data in flat.items()]
    return Hdf5Source(where, tuple(names), rows, (*held, *((data, None) for data in flat.values())))


def _label(path: str, data: h5py.Dataset) -> str:
    """What a dataset is called: its attribute `name`, else the end of its path."""
    named = _attribute(data, "name")
    parts = [part for part in path.split("/") if part not in ("values", "data", "spectra")]
    plain = named or (parts[-1] if parts else ONLY_CHANNEL)
    return channel_name(plain) if data.ndim == 2 else plain


def _axis_of(path: str, data: h5py.Dataset, found: dict[str, h5py.Dataset], where: str) -> tuple[np.ndarray, str]:
    """Positions of a channel's columns, and the dataset they came from, "" for an attribute."""
    folder, _, last = path.rpartition("/")
    for place in (f"{path}_axis", f"axes/{last}", f"{folder}/axis" if folder else "axis"):
        if place in found and found[place].ndim == 1:
            axis = np.asarray(found[place][:])
            break
    else:
        place, axis = "", np.asarray(data.attrs.get("axis", ()))
    if axis.dtype.kind not in "iuf" or axis.shape != (data.shape[1],) or not np.isfinite(axis).all():
        raise InputError(
            where,
            Phrase("has no axis for channel {path!r}: {n} positions were expected in {path}_axis", path=path, n=data.shape[1]),
            Phrase(
                "Write the positions as attribute 'axis' of {path!r}, or as a dataset {axis!r}", path=path, axis=f"{path}_axis"
            ),
        )
    return axis.astype(float), place


def _attribute(thing: Any, name: str) -> str:
    """A text attribute, "" where there is none."""
    value = thing.attrs.get(name, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else (value if isinstance(value, str) else "")


def _values(data: h5py.Dataset, rows: slice, where: str) -> Any:
    """Numbers as they are, text as strings."""
    values = data[rows]
    if data.dtype.kind in "iufb":
        return values.astype("datetime64[ns]") if _attribute(data, "kind") == "date" and data.dtype == np.int64 else values
    if data.dtype.kind == "S":
        return pa.array(values).cast(pa.string())
    words = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    longest = max(map(len, words), default=0)
    if longest > MAX_TEXT:
        raise too_long(where, data.name, longest)
    return pa.array(words, pa.string())


# --- our own form: exact, and fast enough for a cache -----------------------------------------------------------------
def write_store(path: Path, table: SpectraTable, notes: Sequence[str], columns: Columns) -> None:
    """Write a table with its notes; every dtype of `rows` that the readers make comes back the same."""
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["label"] = label_of(table.rows)
        file.attrs["notes"], file.attrs["columns"] = json.dumps([plain(note) for note in notes]), columns.model_dump_json()
        for place, channel in enumerate(table.channels):
            data = file.create_dataset(f"channels/{place:04d}", data=np.asarray(channel.values, np.float32))
            data.attrs["name"], data.attrs["axis_unit"] = channel.name, channel.axis_unit
            file.create_dataset(f"axes/{place:04d}", data=np.asarray(channel.axis, float))
        file.create_group("rows")
        for place, name in enumerate(table.rows):
            values, kind = _plain(table.rows[name])
            data = file.create_dataset(f"rows/{place:04d}", data=values)
            data.attrs["name"], data.attrs["kind"] = str(name), kind


def _plain(values: pd.Series) -> tuple[np.ndarray, str]:
    """A column as HDF5 holds it, and what it was."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.astype("datetime64[ns]").to_numpy().view(np.int64), "date"
    if isinstance(values.dtype, pd.Int64Dtype):
        return values.astype("float64").to_numpy(na_value=np.nan), "Int64"
    if values.dtype.kind in "iufb":
        return values.to_numpy(), str(values.dtype)
    words = values.astype("str").fillna("").to_list()
    raw = [word.encode() for word in words]
    longest = max(map(len, raw), default=0)
    if longest * len(raw) > MAX_CHUNK_BYTES:  # a few long texts among many short ones
        return np.array(words, dtype=h5py.string_dtype()), "text"
    return np.array(raw, dtype=f"S{max(longest, 1)}"), "text"


def load_store(path: Path) -> Reading:
    """What `write_store` wrote. Raises InputError, OSError, KeyError or ValueError where it is not whole."""
    with h5py.File(path, "r") as file:
        if _attribute(file, "format") != FORMAT:
            raise ValueError(f"{path.name} is no table of ours")
        table, notes, columns = _stored(file, checked_datasets(file, path.name), path.name)
        return Reading(table, tuple(from_plain(note) for note in notes), columns)


def _stored(file: h5py.File, found: dict[str, h5py.Dataset], where: str) -> tuple[SpectraTable, list[Any], Columns]:
    """Table, notes as they are stored, and columns of our own form."""
    channels = []
    for path in sorted(path for path in found if path.startswith("channels/")):
        data, axis = found[path], found[path.replace("channels", "axes")]
        if data.ndim != 2 or data.dtype != np.float32:
            raise TypeError(path)
        check_size(data.shape[0], data.shape[1], where)
        values = np.empty(data.shape, np.float32)
        data.read_direct(values)
        channels.append(Channel(_attribute(data, "name"), axis[:], values, _attribute(data, "axis_unit")))
    rows = {}
    for path in sorted(path for path in found if path.startswith("rows/")):
        rows[_attribute(found[path], "name")] = _restored(found[path], where)
    if not channels or not rows or not len(channels[0].values):
        raise TypeError("no spectra")
    try:
        notes, columns = json.loads(_attribute(file, "notes")), Columns.model_validate_json(_attribute(file, "columns"))
        frame = declared(pd.DataFrame(rows), _attribute(file, "label"))
        return SpectraTable(tuple(channels), frame), list(notes), columns
    except ValueError as error:
        raise TypeError("does not fit together") from error


def _restored(data: h5py.Dataset, where: str) -> pd.Series:
    """A column with the dtype it was written with."""
    kind = _attribute(data, "kind")
    whole = slice(0, len(data))
    if kind == "text":
        return _values(data, whole, where).to_pandas().astype("str")
    values = pd.Series(np.asarray(data[:]))
    if kind == "date":
        return pd.Series(values.to_numpy(np.int64).view("datetime64[ns]"))
    return values.astype("Int64") if kind == "Int64" else values
