"""HDF5 files that others wrote, opened with care.

A file can point outside itself. Links are therefore followed here, one by one, and never by the HDF5 library: soft links inside
the file, external links to files of the same folder or upload. External raw storage is refused. Virtual datasets whose parts are
whole frames are taken apart into those. What a dataset declares is checked before anything is read.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers bitshuffle, LZ4, Zstandard and others with HDF5
import numpy as np

from lib.task import InputError, Phrase
from lib.tasks.bragg.series import MAX_FRAMES, Block, Inside, check_frame

MAX_OPEN = 8  # files kept open in each thread
MAX_HOPS = 16  # links on the way to one dataset
MAX_CHUNK_BYTES = 2**30  # of one compressed piece: it is unpacked whole
MAX_LISTED, MAX_SHOWN, MAX_DEPTH = 500, 8, 8
MAX_VALUES = 10_000_000  # of a small dataset that is read whole, as a photon energy per frame

DAMAGED = Phrase("Copy it again from where it was recorded, or write it anew")


# --- open files -------------------------------------------------------------------------------------------------------
class _Open(threading.local):
    """The files this thread read last, with what they looked like when they were opened."""

    def __init__(self) -> None:
        self.files: OrderedDict[str, tuple[h5py.File, tuple[int, int]]] = OrderedDict()


_open = _Open()


def opened(path: Path, name: str) -> h5py.File:
    """The file, open for reading; the last few stay open, and one that has changed is opened again. Raises InputError."""
    try:
        about = path.stat()
    except OSError as error:
        problem = Phrase("cannot be opened ({why})", why=error.strerror or str(error))
        raise InputError(name, problem, "Check that it is still there") from error
    key, looks = str(path), (about.st_mtime_ns, about.st_size)
    held = _open.files.pop(key, None)
    if held is not None and held[1] != looks:
        held[0].close()
        held = None
    _open.files[key] = held or (_opened_now(path, name), looks)
    while len(_open.files) > MAX_OPEN:
        _open.files.popitem(last=False)[1][0].close()
    return _open.files[key][0]


def close_files() -> None:
    """Close what this thread holds open, as before a file is removed."""
    while _open.files:
        _open.files.popitem()[1][0].close()


def _opened_now(path: Path, name: str) -> h5py.File:
    """Open for reading; where somebody writes the file in a way that allows readers, beside the writer."""
    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        why = str(error)
    if "SWMR" in why or "unable to lock" in why or "open for write" in why:
        try:
            return h5py.File(path, "r", swmr=True)
        except (OSError, ValueError) as error:
            raise InputError(
                name, "is being written by another program", "Try again when it is complete"
            ) from error  # fmt: skip
    if "truncated" in why:
        sizes = dict(re.findall(r"(eof|stored_eof) = (\d+)", why))
        raise InputError(
            name, Phrase("is cut short: {found} of {whole} bytes are there", found=sizes.get("eof", "?"),
                         whole=sizes.get("stored_eof", "?")),
            "Copy it again, or wait until it is written",
        )  # fmt: skip
    raise InputError(name, "is a damaged HDF5 file: it cannot be opened", DAMAGED)


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """What the HDF5 library raises on a file that is damaged inside becomes an InputError."""
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(name, "does not fit into memory", "Write the file in pieces of one frame") from error
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(name, "is a damaged HDF5 file: part of it cannot be read", DAMAGED) from error


# --- following links --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Found:
    """A group or dataset, and the file and path where it really lies."""

    path: Path
    inner: str
    thing: h5py.Group | h5py.Dataset

    @property
    def is_group(self) -> bool:
        """Whether it is a group and no dataset."""
        return isinstance(self.thing, h5py.Group)


def _link(group: h5py.Group, key: str) -> h5py.HardLink | h5py.SoftLink | h5py.ExternalLink | None:
    try:
        return group.get(key, getlink=True)
    except (KeyError, TypeError, ValueError):
        return None


def follow(path: Path, inner: str, inside: Inside, name: str) -> Found | None:
    """What lies at `inner` of a file, through links as far as `inside` allows; None where nothing is.

    Raises InputError on a link that leads outside, to a file that is not there, or in circles.
    """
    file = opened(path, name)
    at: h5py.Group | h5py.Dataset = file
    parts = [part for part in inner.split("/") if part not in ("", ".")]
    hops = 0
    while parts:
        if not isinstance(at, h5py.Group):
            return None
        link = _link(at, parts[0])
        if link is None:
            return None
        if isinstance(link, h5py.HardLink):
            at = at[parts.pop(0)]
            continue
        hops += 1
        if hops > MAX_HOPS:
            raise InputError(name, Phrase("has links that lead in circles at {path!r}", path=inner), DAMAGED)
        if isinstance(link, h5py.ExternalLink):
            path = inside.find(link.filename, name, path.parent)
            at = file = opened(path, _called(name, path))
        elif link.path.startswith("/"):
            at = file
        parts = [part for part in link.path.split("/") if part not in ("", ".")] + parts[1:]
    return Found(path, at.name, at) if isinstance(at, h5py.Group | h5py.Dataset) else None


def _called(name: str, path: Path) -> str:
    """What messages call a file that another one leads to."""
    return f"{name} > {path.name}"


def dataset(path: Path, inner: str, inside: Inside, name: str) -> Found | None:
    """The dataset at `inner`, checked to lie in the file and to be readable; None where there is none. Raises InputError."""
    found = follow(path, inner, inside, name)
    if found is None or found.is_group:
        return None
    _check_storage(found, name)
    return found


def _check_storage(found: Found, name: str) -> None:
    """Raises InputError on raw data kept elsewhere, on filters that are not installed, and on huge pieces."""
    data = found.thing
    if data.external:
        elsewhere = ", ".join(sorted({str(entry[0]) for entry in data.external}))
        raise InputError(
            name, Phrase("keeps dataset {path!r} in another file ({file}), which is never opened", path=found.inner,
                         file=elsewhere),
            "Write it with its data inside the HDF5 file",
        )  # fmt: skip
    create = data.id.get_create_plist()
    for place in range(create.get_nfilters()):
        code, _, _, label = create.get_filter(place)
        if not h5py.h5z.filter_avail(code):
            title = label.decode("utf-8", "replace").strip("\0") or "unnamed"
            raise InputError(
                name, Phrase("is compressed with filter {code} ({title}), which is not installed here", code=code, title=title),
                "Write it again with bitshuffle/LZ4, Zstandard or gzip",
            )  # fmt: skip
    chunk = int(np.prod(data.chunks or (0,), dtype=object)) * data.dtype.itemsize
    if chunk > MAX_CHUNK_BYTES:
        raise InputError(
            name, Phrase("keeps dataset {path!r} in pieces of {size:,} MiB; at most {most:,} MiB are unpacked", path=found.inner,
                         size=chunk >> 20, most=MAX_CHUNK_BYTES >> 20),
            "Write it in pieces of one frame",
        )  # fmt: skip


def listing(path: Path, name: str) -> str:
    """The datasets a file holds, as text for people: the largest first, links told but not followed."""
    found: list[tuple[int, str]] = []
    _list(opened(path, name), "", found, 0)
    found.sort(key=lambda entry: -entry[0])
    more = len(found) - MAX_SHOWN
    shown = ", ".join(text for _, text in found[:MAX_SHOWN])
    return (shown + (f" and {more} more" if more > 0 else "")) or "nothing"


def _list(group: h5py.Group, prefix: str, found: list[tuple[int, str]], depth: int) -> None:
    for key in group:
        if len(found) >= MAX_LISTED or depth > MAX_DEPTH:
            return
        link, path = _link(group, key), f"{prefix}/{key}"
        if not isinstance(link, h5py.HardLink):
            found.append((0, f"{path} (a link)"))
            continue
        thing = group[key]
        if isinstance(thing, h5py.Group):
            _list(thing, path, found, depth + 1)
        elif isinstance(thing, h5py.Dataset):
            shape = " × ".join(map(str, thing.shape or ())) or "one value"
            found.append((int(thing.size or 0), f"{path} ({shape}, {thing.dtype})"))


def image_datasets(path: Path, name: str) -> list[str]:
    """Paths of the datasets that could hold frames, 2-D or 3-D numbers of some size, links not followed."""
    found: list[str] = []

    def look(group: h5py.Group, depth: int) -> None:
        for key in group:
            if len(found) >= MAX_LISTED or depth > MAX_DEPTH or not isinstance(_link(group, key), h5py.HardLink):
                continue
            thing = group[key]
            if isinstance(thing, h5py.Group):
                look(thing, depth + 1)
            elif isinstance(thing, h5py.Dataset) and thing.dtype.kind in "iuf" and _looks_like_images(thing.shape or ()):
                found.append(str(thing.name))

    look(opened(path, name), 0)
    return found


def _looks_like_images(shape: tuple[int, ...]) -> bool:
    return len(shape) in (2, 3) and min(shape[-2:]) >= 32


# --- frames -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Stack:
    """Frames of one dataset, or of several that a virtual one is made of.

    `numbers` (n,) are their places among the `declared` frames, of which some may not be written.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    blocks: tuple[Block, ...]
    numbers: np.ndarray
    declared: int

    def __len__(self) -> int:
        return len(self.numbers)


def stack(found: Found, inside: Inside, name: str) -> Stack:
    """The frames of a dataset (N, H, W), (H, W), (H, W, 1) or (N, H, W, 1), each found again by file, dataset and index.

    Frames that are declared but not written are left out and counted. Raises InputError for any other shape and for no frames.
    """
    data = found.thing
    shape = tuple(data.shape or ())
    layout = _layout(shape)
    if layout is None:
        raise InputError(
            name, Phrase("has dataset {path!r} of shape {shape}, where frames (N, height, width) or one frame (height, width) "
                         "were expected", path=found.inner, shape=str(shape)),
            "Name the dataset of the frames, or write panels below each other in one array per frame",
        )  # fmt: skip
    count, frame = layout
    if count == 0 or count > MAX_FRAMES:
        raise InputError(
            name, Phrase("has {n:,} frames in dataset {path!r}", n=count, path=found.inner),
            "Check what was recorded" if count == 0 else "Check the file: no run is that long",
        )  # fmt: skip
    check_frame(frame, data.dtype, name)
    if data.is_virtual:
        return _virtual(found, frame, inside, name)
    index = np.array([-1]) if len(shape) == 2 or (len(shape) == 3 and count == 1 and shape[0] != 1) else np.arange(count)
    written = _written(data, index)
    if not len(written):
        raise InputError(
            name, Phrase("declares {n:,} frames of {height} × {width} pixels in dataset {path!r}, and none of them is written",
                         n=count, height=frame[0], width=frame[1], path=found.inner),
            "Copy it again, or wait until it is recorded",
        )  # fmt: skip
    return Stack(frame, data.dtype, (Block(found.path, found.inner, written),), np.maximum(written, 0), len(index))


def declared_frames(found: Found) -> int | None:
    """How many frames a dataset says it has, whether they can be read or not; None where it has another shape."""
    layout = _layout(tuple(found.thing.shape or ()))
    return None if layout is None else layout[0]


def _layout(shape: tuple[int, ...]) -> tuple[int, tuple[int, int]] | None:
    """(number of frames, frame shape), None where it is neither a frame nor a stack of them."""
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    elif len(shape) == 3 and shape[2] == 1 and shape[1] > 1:
        shape = shape[:2]
    if len(shape) == 3:
        return shape[0], (shape[1], shape[2])
    return (1, (shape[0], shape[1])) if len(shape) == 2 else None


def _written(data: h5py.Dataset, index: np.ndarray) -> np.ndarray:
    """Those frames of `index` whose pieces are in the file; all of them where the layout does not tell."""
    if data.chunks is None:
        compact = data.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
        return index if compact or data.id.get_storage_size() > 0 else index[:0]
    per_axis = [-(-size // chunk) for size, chunk in zip(data.shape, data.chunks)]
    if data.id.get_num_chunks() == int(np.prod(per_axis)):
        return index
    counts = np.zeros(per_axis[0], np.int64)

    def count(chunk: h5py.h5d.StoreInfo) -> None:
        counts[chunk.chunk_offset[0] // data.chunks[0]] += 1

    data.id.chunk_iter(count)
    if index[0] < 0:
        return index if counts.all() else index[:0]
    whole = np.repeat(counts == int(np.prod(per_axis[1:])), data.chunks[0])[: len(index)]
    return index[whole]


def _virtual(found: Found, frame: tuple[int, int], inside: Inside, name: str) -> Stack:
    """A virtual dataset as the whole frames of other datasets that it shows."""
    pieces = []
    for source in found.thing.virtual_sources():
        start, stop = _whole_frames(source.vspace, found.thing.shape, name, found.inner)
        path = found.path if source.file_name == "." else inside.find(source.file_name, name, found.path.parent)
        part = dataset(path, source.dset_name, inside, _called(name, path))
        if part is None or part.thing.is_virtual:
            raise _pieced(name, found.inner)
        inner = stack(part, inside, _called(name, path))
        first, last = (0, 0) if part.thing.ndim == 2 else _whole_frames(source.src_space, part.thing.shape, name, found.inner)
        if inner.shape != frame or last - first != stop - start:
            raise _pieced(name, found.inner)
        (block,) = inner.blocks
        chosen = block.index if part.thing.ndim == 2 else block.index[(block.index >= first) & (block.index <= last)]
        pieces.append((start + np.maximum(chosen, 0) - first, Block(block.path, block.dataset, chosen)))
    pieces = sorted(((numbers, block) for numbers, block in pieces if len(numbers)), key=lambda piece: int(piece[0][0]))
    if not pieces:
        raise InputError(name, Phrase("has no frame behind dataset {path!r}", path=found.inner), DAMAGED)
    numbers = np.concatenate([numbers for numbers, _ in pieces])
    return Stack(frame, found.thing.dtype, tuple(block for _, block in pieces), numbers, int(found.thing.shape[0]))


def _whole_frames(space: h5py.h5s.SpaceID, shape: tuple[int, ...], name: str, inner: str) -> tuple[int, int]:
    """First and last frame of a selection from `shape` (N, H, W) that takes whole frames, one after another."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return 0, shape[0] - 1
    try:
        low, high = space.get_select_bounds()
        points = space.get_select_npoints()
    except (ValueError, RuntimeError) as error:
        raise _pieced(name, inner) from error
    if len(low) != 3 or tuple(low[1:]) != (0, 0) or points != (high[0] - low[0] + 1) * shape[1] * shape[2]:
        raise _pieced(name, inner)
    return int(low[0]), int(high[0])


def _pieced(name: str, inner: str) -> InputError:
    return InputError(
        name, Phrase("pieces each frame of dataset {path!r} together from parts of other datasets", path=inner),
        "Write whole frames into one dataset",
    )  # fmt: skip


def read_frame(path: Path, inner: str, index: int, name: str) -> np.ndarray:
    """One frame (H, W) as recorded, of a dataset as a `Block` has it. Raises InputError."""
    found = dataset(path, inner, Inside(path.parent), name)  # checked anew: the file may be another by now
    if found is None or found.thing.is_virtual or (index >= 0 and index >= len(found.thing)):
        raise InputError(name, Phrase("has no frame {n} any more", n=max(index, 0)), "Read the file again: it has changed")
    data = found.thing
    try:
        values = np.asarray(data[...] if index < 0 else data[index])
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(name, Phrase("has a damaged frame {n}: it cannot be unpacked", n=max(index, 0)), DAMAGED) from error
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


# --- small values -----------------------------------------------------------------------------------------------------
_SCALES = {
    "m": {"mm": 1e3, "um": 1e6, "m": 1.0}, "mm": {"mm": 1.0, "um": 1e3, "m": 1e-3}, "um": {"um": 1.0, "mm": 1e-3, "m": 1e-6},
    "micron": {"um": 1.0}, "microns": {"um": 1.0}, "µm": {"um": 1.0}, "a": {"angstrom": 1.0}, "å": {"angstrom": 1.0},
    "angstrom": {"angstrom": 1.0}, "angstroms": {"angstrom": 1.0}, "nm": {"angstrom": 10.0}, "ev": {"ev": 1.0},
    "kev": {"ev": 1e3},
    "j": {"ev": 1 / 1.602176634e-19}, "px": {"px": 1.0}, "pixel": {"px": 1.0}, "pixels": {"px": 1.0},
}  # fmt: skip


def numbers(path: Path, inner: str, inside: Inside, name: str, unit: str, default: str) -> np.ndarray | None:
    """Small dataset as float64 in `unit`, from its attribute `units` or else from the unit `default`; None where there is none.

    What cannot be read as plain numbers, or lies outside, counts as not there: it is only a hint.
    """
    try:
        found = dataset(path, inner, inside, name)
    except InputError:
        return None
    if found is None or found.thing.dtype.kind not in "iuf" or found.thing.size is None:
        return None
    if not 0 < found.thing.size <= MAX_VALUES or found.thing.is_virtual:
        return None
    said = found.thing.attrs.get("units", b"")
    said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    scale = _SCALES.get(said.strip().lower(), _SCALES[default]).get(unit)
    return None if scale is None else np.asarray(found.thing[()], float) * scale


def number(path: Path, inner: str, inside: Inside, name: str, unit: str, default: str) -> float | None:
    """The first of `numbers`, None where it is missing or not finite."""
    values = numbers(path, inner, inside, name, unit, default)
    return float(values.flat[0]) if values is not None and np.isfinite(values.flat[0]) else None


def keys(path: Path, inner: str, inside: Inside, name: str) -> Iterator[str]:
    """Names in a group, none where there is no such group."""
    found = follow(path, inner, inside, name)
    if found is not None and found.is_group:
        yield from found.thing
