"""Frames as image files: CBF (Pilatus, Eiger), SMV (ADSC and others), EDF (ESRF), TIFF. One file holds one frame, or some.

fabio and tifffile read them; what a header declares is checked against the file before they do.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tifffile
from fabio.compression import decByteOffset
from fabio.dtrekimage import DtrekImage
from fabio.edfimage import EdfImage

from lib.task import InputError, Phrase
from lib.tasks.bragg.series import MAX_FRAMES, Block, Facts, Series, check_frame

logging.getLogger("fabio").setLevel(logging.CRITICAL)  # what it warns of is checked here, and said with the file's name

MAX_FILE_BYTES = 2 * 2**30  # of one CBF or SMV image
HEAD_BYTES = 2**20
_CBF_BINARY = b"\x0c\x1a\x04\xd5"  # imgCIF: begins the compressed pixels
_CBF_TYPES = {
    "signed 8-bit integer": "i1", "signed 16-bit integer": "i2", "signed 32-bit integer": "i4",
    "unsigned 8-bit integer": "u1", "unsigned 16-bit integer": "u2", "unsigned 32-bit integer": "u4",
}  # fmt: skip
_SMV_TYPES = {
    "unsigned_short": "u2", "unsigned short int": "u2", "short int": "i2", "signed_short": "i2", "long int": "i4",
    "unsigned long int": "u4", "unsigned_long": "u4", "signed_long": "i4", "unsigned char": "u1", "float ieee": "f4",
}  # fmt: skip
T = TypeVar("T")
_AGAIN = Phrase("Copy it again from where it was recorded")


def kind_of(start: bytes) -> str:
    """`cbf`, `smv`, `edf` or `tiff` by a file's first bytes, "" for anything else."""
    if start.startswith(b"###CBF"):
        return "cbf"
    if start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    text = start.lstrip()
    if text.startswith(b"{"):
        return "smv" if text[1:64].lstrip().startswith(b"HEADER_BYTES") else "edf"
    return ""


def read(path: Path, name: str, kind: str) -> Series:
    """The frames of an image file of that kind, from its headers; of a CBF the checksum too. Raises InputError."""
    return _guarded(name, kind, lambda: _FORMATS[kind].describe(path, name))


def read_frame(path: Path, index: int, name: str, kind: str) -> np.ndarray:
    """Frame `index` (H, W) as recorded. Raises InputError."""
    return _guarded(name, kind, lambda: _FORMATS[kind].load(path, index, name))


def _guarded(name: str, kind: str, action: Callable[[], T]) -> T:
    """The result; whatever a forged or broken file makes a decoder raise becomes a sentence."""
    try:
        return action()
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(name, "does not fit into memory", "Give smaller frames, or fewer in one file") from error
    except Exception as error:
        problem = Phrase("is a damaged {kind} file: it cannot be read", kind=kind.upper())
        raise InputError(name, problem, _AGAIN) from error


def _cut(name: str, found: int, whole: int) -> InputError:
    return InputError(
        name, Phrase("is cut short: {found:,} of {whole:,} bytes of pixels are there", found=found, whole=whole),
        "Copy it again, or wait until it is written",
    )  # fmt: skip


def _one(path: Path) -> tuple[Block, ...]:
    return (Block(path, "", np.zeros(1, np.int64)),)


def _number(text: object, pattern: str = r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)") -> float | None:
    """The first number in a header's text that is positive."""
    found = re.search(pattern, str(text or ""))
    try:
        value = float(found[1]) if found else 0.0
    except ValueError:
        return None
    return value if value > 0 else None


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


# --- CBF --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Cbf:
    """The text of a CBF image, and its compressed pixels, which are whole."""

    text: str
    shape: tuple[int, int]
    dtype: np.dtype
    packed: bytes


def _cbf(path: Path, name: str) -> _Cbf:
    """The parts of a CBF image, checked against each other. Raises InputError."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(name, "is too large for one image", _AGAIN)
    content = path.read_bytes()
    start = content.find(_CBF_BINARY, 0, HEAD_BYTES)
    text = content[: max(start, 0)].decode("latin-1")

    def said(key: str) -> str:
        found = re.search(rf"^{key}:?\s*\"?([^\r\n\"]*)", text, re.MULTILINE)
        return found[1].strip() if found else ""

    height, width, size = (said(f"X-Binary-Size{what}") for what in ("-Second-Dimension", "-Fastest-Dimension", ""))
    if start < 0 or not (height.isdigit() and width.isdigit() and size.isdigit()):
        raise InputError(name, "is not an image of pixels in CBF", _AGAIN)
    dtype = np.dtype(_CBF_TYPES.get(said("X-Binary-Element-Type"), "i4"))
    check_frame((int(height), int(width)), dtype, name)
    if "x-CBF_BYTE_OFFSET" not in text:
        raise InputError(name, "is not compressed by byte offsets, the only way that is read here", "Write it again that way")
    packed = content[start + len(_CBF_BINARY) :][: int(size)]
    if len(packed) < int(size):
        raise _cut(name, len(packed), int(size))
    digest = base64.b64encode(hashlib.md5(packed, usedforsecurity=False).digest()).decode()
    if said("Content-MD5") not in ("", digest):
        raise InputError(name, "does not match its own checksum: its pixels have changed since they were written", _AGAIN)
    return _Cbf(text, (int(height), int(width)), dtype, packed)


def _describe_cbf(path: Path, name: str) -> Series:
    image = _cbf(path, name)
    return Series(image.shape, _one(path), dectris_facts(image.text), low=0.0)


def _load_cbf(path: Path, index: int, name: str) -> np.ndarray:
    image = _cbf(path, name)
    pixels = decByteOffset(image.packed, size=image.shape[0] * image.shape[1], dtype=image.dtype)
    return np.asarray(pixels).astype(image.dtype).reshape(image.shape)


def dectris_facts(text: str) -> Facts:
    """Detector and beam from the comment lines of a Pilatus or Eiger image; units as they stand there."""
    number = r"\s*[:=]?\s*([\d.]+(?:[eE][-+]?\d+)?)"
    beam = re.search(r"Beam_xy\s*[:=]?\s*\(?\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)", text)
    center = (float(beam[2]), float(beam[1])) if beam else None
    return Facts(
        None if center == (0.0, 0.0) else center,
        _scaled(_number(text, "Pixel_size" + number), 1e6),
        _or_nan(_scaled(_number(text, "Detector_distance" + number), 1e3)),
        _or_nan(_number(text, "Wavelength" + number)),
        _or_nan(_number(text, "Count_cutoff" + number)),
    )


# --- SMV --------------------------------------------------------------------------------------------------------------
def _smv(path: Path, name: str) -> tuple[Mapping[str, Any], tuple[int, int], np.dtype]:
    """Header, shape and type of an SMV image whose pixels are whole."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(name, "is too large for one image", _AGAIN)
    image = DtrekImage()
    image.readheader(str(path))
    header = image.header
    shape = int(header["SIZE2"]), int(header["SIZE1"])
    said = str(header.get("Data_type", header.get("TYPE", "unsigned_short"))).lower()
    if said not in _SMV_TYPES or str(header.get("DIM", "2")).strip() != "2":
        raise InputError(name, Phrase("holds {dtype} values, which are not read here", dtype=said), "Write it as 16-bit counts")
    order = ">" if "big" in str(header.get("BYTE_ORDER", "little")) else "<"
    dtype = np.dtype(order + _SMV_TYPES[said])
    check_frame(shape, dtype, name)
    whole, found = shape[0] * shape[1] * dtype.itemsize, path.stat().st_size - int(header["HEADER_BYTES"])
    if found < whole:
        raise _cut(name, max(found, 0), whole)
    return header, shape, dtype


def _describe_smv(path: Path, name: str) -> Series:
    """The beam centre of ADSC headers is in mm and, by Mosflm's convention, x is along slow scan."""
    header, shape, _ = _smv(path, name)
    size_mm = _number(header.get("PIXEL_SIZE"))
    slow, fast = _number(header.get("BEAM_CENTER_X")), _number(header.get("BEAM_CENTER_Y"))
    center = None if None in (size_mm, slow, fast) else (_or_nan(slow) / _or_nan(size_mm), _or_nan(fast) / _or_nan(size_mm))
    facts = Facts(
        center, _scaled(size_mm, 1e3), _or_nan(_number(header.get("DISTANCE"))), _or_nan(_number(header.get("WAVELENGTH"))),
        _or_nan(_number(header.get("CCD_IMAGE_SATURATION"))),
    )  # fmt: skip
    told = "beam centre read by Mosflm's convention (x along slow scan): check it against the rings"
    return Series(shape, _one(path), facts, remarks=() if center is None else (told,))


def _load_smv(path: Path, index: int, name: str) -> np.ndarray:
    header, shape, dtype = _smv(path, name)
    pixels = np.fromfile(path, dtype, shape[0] * shape[1], offset=int(header["HEADER_BYTES"]))
    return pixels.reshape(shape)


# --- EDF --------------------------------------------------------------------------------------------------------------
def _edf(path: Path, name: str) -> EdfImage:
    """An EDF file whose frames are of one size and whole; its file is open."""
    image = EdfImage().read(str(path))
    sizes = {tuple(image.get_frame(k).shape) for k in range(image.nframes)}
    if not image.nframes or image.nframes > MAX_FRAMES or len(sizes) != 1 or len(next(iter(sizes))) != 2:
        problem = Phrase("holds images of {n} sizes, where frames of one size were expected", n=len(sizes))
        raise InputError(name, problem, "Write one frame per file")
    frame = image.get_frame(0)
    if str(frame.header.get("COMPRESSION", frame.header.get("Compression", "none"))).lower() not in ("none", "", "no"):
        raise InputError(name, "is compressed inside, which is not read here", "Write it uncompressed")
    check_frame(tuple(frame.shape), np.dtype(frame.dtype), name)
    whole = image.nframes * frame.shape[0] * frame.shape[1] * np.dtype(frame.dtype).itemsize
    if path.stat().st_size < whole or image.incomplete_file:
        raise _cut(name, min(path.stat().st_size, whole), whole)
    return image


def _describe_edf(path: Path, name: str) -> Series:
    """Keys of the ESRF's SAXS convention, lengths in metres; a counting detector marks bad pixels with negative readings."""
    image = _edf(path, name)
    header, shape, n = dict(image.header), image.get_frame(0).shape, image.nframes
    image.close()
    y, x = _number(header.get("Center_2")), _number(header.get("Center_1"))
    facts = Facts(
        None if y is None or x is None else (y, x), _scaled(_number(header.get("PSize_1")), 1e6),
        _or_nan(_scaled(_number(header.get("SampleDistance")), 1e3)), _or_nan(_scaled(_number(header.get("WaveLength")), 1e10)),
    )  # fmt: skip
    counting = re.search("pilatus|eiger", " ".join(map(str, header.values())), re.IGNORECASE)
    return Series((shape[0], shape[1]), (Block(path, "", np.arange(n)),), facts, low=0.0 if counting else None)


def _load_edf(path: Path, index: int, name: str) -> np.ndarray:
    image = _edf(path, name)
    try:
        return np.array(image.get_frame(index).data)
    finally:
        image.close()


# --- TIFF -------------------------------------------------------------------------------------------------------------
def _describe_tiff(path: Path, name: str) -> Series:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        shape, axes = tuple(series.shape), series.axes.upper()
        if "S" in axes or len(shape) not in (2, 3):
            problem = Phrase(
                "holds images of shape {shape} ({axes}), where grey frames were expected", shape=str(shape), axes=axes
            )
            raise InputError(name, problem, "Save the frames as the detector recorded them")
        check_frame(shape[-2:], series.dtype, name)
        n = shape[0] if len(shape) == 3 else 1
        end = max(_end_of(series), _next_page(tif))
        if end > path.stat().st_size:
            raise _cut(name, path.stat().st_size, end)
        text = str(tif.pages.first.description or "")
    low = 0.0 if re.search("pilatus|eiger", text, re.IGNORECASE) else None
    remarks = () if len(tif.series) == 1 else (Phrase("first of {n} image series in the file", n=len(tif.series)),)
    return Series((shape[-2], shape[-1]), (Block(path, "", np.arange(n)),), dectris_facts(text), low=low, remarks=remarks)


def _end_of(series: tifffile.TiffPageSeries) -> int:
    """Where the pixels of the last frame end."""
    if series.dataoffset is not None:
        return int(series.dataoffset) + int(series.nbytes)
    last = series.pages[-1]
    if last is None:
        return 0
    return max((start + n for start, n in zip(last.dataoffsets, last.databytecounts)), default=0)


def _next_page(tif: tifffile.TiffFile) -> int:
    """Where the last page that is there says the next one begins: 0, unless the file was cut before it."""
    pointer = tif.pages.next_page_offset
    if not pointer:
        return 0
    tif.filehandle.seek(pointer)
    return int.from_bytes(tif.filehandle.read(tif.tiff.offsetsize), "little" if tif.byteorder == "<" else "big")


def _load_tiff(path: Path, index: int, name: str) -> np.ndarray:
    with tifffile.TiffFile(path) as tif:
        return np.asarray(tif.series[0].asarray(key=index) if tif.series[0].ndim == 3 else tif.series[0].asarray())


@dataclass(frozen=True)
class _Format:
    """How the frames of one format are described and loaded."""

    describe: Callable[[Path, str], Series]
    load: Callable[[Path, int, str], np.ndarray]


_FORMATS = {
    "cbf": _Format(_describe_cbf, _load_cbf),
    "smv": _Format(_describe_smv, _load_smv),
    "edf": _Format(_describe_edf, _load_edf),
    "tiff": _Format(_describe_tiff, _load_tiff),
}
