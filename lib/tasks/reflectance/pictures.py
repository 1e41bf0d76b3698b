"""One micrograph from its file: grey levels, what was cut away, and the 256 × 256 px that a network sees.

What a file is, its first bytes tell. Its declared size is checked before a pixel is decoded.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from lib.task import InputError, Phrase, first_bytes
from lib.tasks.reflectance import metadata
from lib.tasks.reflectance.bars import find_info_bar, find_scale_bar
from lib.tasks.reflectance.config import COMMON_NM_PER_PX, IMAGE_PX
from lib.tasks.reflectance.metadata import Facts

MOST_PX = Image.MAX_IMAGE_PIXELS or 2**26  # Pillow's own limit, for TIFF too
LEAST_PX = 32
SAME_PX = 0.01  # sides that differ by less are one
COARSEST = 2.0  # times the common scale: beyond it a picture would be magnified to a blur
TWELVE_BITS, EIGHT_BITS = 4095, 255
GREY_RAMP = 0.8  # of a palette's entries equal to their index: the others colour annotations
EXPORT = Phrase("Export it as PNG, TIFF, JPEG or BMP, best uncompressed and as the microscope made it")
_STARTS = {
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}  # fmt: skip
_OTHER_STARTS = {
    b"%PDF": Phrase("a PDF"), b"GIF8": Phrase("a GIF"), b"RIFF": Phrase("a WebP picture or a film"),
    b"PK\x03\x04": Phrase("a ZIP archive"),
    b"\x93NUMPY": Phrase("a NumPy file"), b"\x89HDF": Phrase("an HDF5 file"), b"<svg": Phrase("a drawing (SVG)"),
    b"\x1f\x8b": Phrase("a gzip archive"), b"<!DOCTYPE": Phrase("a web page"), b"<html": Phrase("a web page"),
}  # fmt: skip
_DAMAGED = (
    OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, SyntaxError, EOFError, AttributeError, OverflowError,
    ZeroDivisionError, struct.error, zlib.error, tifffile.TiffFileError,
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A whole picture: grey levels uint8 (h, w) with any bar still on it, what its file tells, and what was done to read it."""

    levels: np.ndarray
    facts: Facts
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What is known of a picture beside its file: by the user or by a table. None where nobody told."""

    nm_per_px: float | None = None
    scale_from: str = ""
    info_bar_px: int | None = None


@dataclass(frozen=True)
class Seen:
    """What a network sees of a picture, (256, 256) uint8, and columns of the samples' table that tell how it was cut."""

    image: np.ndarray
    columns: Mapping[str, Any]
    notes: tuple[str, ...]


def see(path: Path, name: str, known: Known) -> Seen:
    """Read, cut and scale one picture. Raises InputError."""
    try:
        return _seen(open_picture(path, name), name, known)
    except MemoryError as error:
        raise InputError(name, "needs more memory than there is", "Save it smaller") from error


# --- reading ----------------------------------------------------------------------------------------------------------
def open_picture(path: Path, name: str) -> Picture:
    """The whole picture as grey levels. Raises InputError where it is none, too large, too small or damaged."""
    start = first_bytes(path, name, 64, "picture")
    kind = next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), None)
    if kind is None:
        other = next((what for magic, what in _OTHER_STARTS.items() if start.startswith(magic)), None)
        problem = Phrase("is not a picture but {other}", other=other) if other else Phrase("is no PNG, TIFF, JPEG or BMP picture")
        raise InputError(name, problem, EXPORT)
    try:
        return _read_tiff(path, name) if kind == "TIFF" else _read_pillow(path, name, kind)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(name, Phrase("declares more than {n} megapixels", n=2 * MOST_PX // 10**6), "Save it smaller") from error
    except UnidentifiedImageError as error:
        raise _damaged(name) from error
    except _DAMAGED as error:  # what decoders raise on bytes that nobody wrote on purpose
        raise _damaged(name) from error


def _damaged(name: str) -> InputError:
    return InputError(name, "is damaged or truncated: it cannot be decoded to its end", "Copy or export it again")


def _check_size(width: int, height: int, name: str) -> None:
    """From the header alone."""
    if width * height > MOST_PX:
        problem = Phrase("declares {w} × {h} px; at most {n} megapixels are taken", w=width, h=height, n=MOST_PX // 10**6)
        raise InputError(name, problem, "Save it smaller, or cut out a part")
    if min(width, height) < LEAST_PX:
        problem = Phrase("is {w} × {h} px, too small to show a structure", w=width, h=height)
        raise InputError(name, problem, Phrase("Give at least {n} × {n} px", n=LEAST_PX))


def _read_pillow(path: Path, name: str, kind: str) -> Picture:
    notes: list[str] = []
    with Image.open(path, formats=[kind]) as picture:
        _check_size(*picture.size, name)
        frames = int(getattr(picture, "n_frames", 1))
        if frames > 1:
            notes.append(Phrase("first of {n} pictures taken", n=frames))
        facts = metadata.of_resolution(picture.info.get("dpi"))
        picture.load()
        sixteen = picture.mode.startswith("I")
        levels = _by_type(np.asarray(picture), name, notes) if sixteen else _grey(picture, notes)
    return Picture(levels, facts, tuple(notes))


def _grey(picture: Image.Image, notes: list[str]) -> np.ndarray:
    """Grey levels of a picture of any mode; coloured ones are told."""
    if picture.mode in ("L", "1"):
        return np.asarray(picture.convert("L"))
    if picture.mode == "LA":
        return np.asarray(picture.getchannel("L"))
    colours = np.asarray(picture.convert("RGB"))
    if not (np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2])):
        notes.append(Phrase("CMYK colours turned into grey") if picture.mode == "CMYK" else Phrase("colours turned into grey"))
        return np.asarray(Image.fromarray(colours).convert("L"))
    return np.ascontiguousarray(colours[..., 0])


def _read_tiff(path: Path, name: str) -> Picture:
    """The measured page of a TIFF; palettes that colour annotations on a grey ramp are left out."""
    notes: list[str] = []
    with tifffile.TiffFile(path) as tif:
        number = metadata.measured_page(tif)
        page: Any = tif.pages[number]
        _check_size(page.imagewidth, page.imagelength, name)
        if page.imagedepth > 1 or page.samplesperpixel > 5:
            raise InputError(name, Phrase("has {n} values per pixel", n=page.samplesperpixel * page.imagedepth), EXPORT)
        end = max(offset + count for offset, count in zip(page.dataoffsets, page.databytecounts))
        if end > path.stat().st_size:
            raise InputError(
                name, Phrase("is truncated: {n} bytes of {end}", n=path.stat().st_size, end=end), "Copy the file again"
            )
        if len(tif.pages) > 1:
            notes.append(Phrase("picture {k} of {n} in the file taken", k=number + 1, n=len(tif.pages)))
        facts = metadata.of_tiff(tif, number)
        values = page.asarray()
        photometric = getattr(page.photometric, "name", "MINISBLACK")
        bits = page.bitspersample
        if photometric == "PALETTE":
            levels = _unpaletted(values, page.colormap, notes)
        elif values.ndim == 3:
            levels = _colours(values, photometric, name, notes)
        else:
            levels = values.astype(np.uint8) * np.uint8(255) if bits == 1 else _by_type(values, name, notes)
    if photometric == "MINISWHITE":
        levels = 255 - levels
    return Picture(levels, facts, tuple(notes))


def _unpaletted(indices: np.ndarray, colormap: np.ndarray, notes: list[str]) -> np.ndarray:
    """Indices as they are where the palette is a grey ramp with some annotation colours, else the palette's greys."""
    palette = (np.asarray(colormap) >> 8).astype(np.uint8).T  # (256, 3)
    ramp = np.arange(len(palette), dtype=np.uint8)
    if len(palette) == 256 and (palette == ramp[:, None]).all(axis=1).mean() >= GREY_RAMP:
        return indices.astype(np.uint8)
    return _grey(Image.fromarray(palette[indices]), notes)


def _colours(values: np.ndarray, photometric: str, name: str, notes: list[str]) -> np.ndarray:
    """Grey levels of a picture of several values per pixel, first or last axis."""
    last = values if values.shape[-1] <= 5 else np.moveaxis(values, 0, -1)
    levels = _by_type(last, name, notes) if last.dtype != np.uint8 else last
    if photometric == "SEPARATED" and levels.shape[-1] >= 4:
        return _grey(Image.fromarray(np.ascontiguousarray(levels[..., :4]), "CMYK"), notes)
    if levels.shape[-1] < 3:
        return np.ascontiguousarray(levels[..., 0])
    return _grey(Image.fromarray(np.ascontiguousarray(levels[..., :3])), notes)


def _by_type(values: np.ndarray, name: str, notes: list[str]) -> np.ndarray:
    """Grey levels by the range of the number type: 16 bits by 65535, or by 4095 or 255 where no value is larger."""
    if values.dtype == np.uint8:
        return values
    largest = float(values.max(initial=0))
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and largest <= 1):
            raise InputError(name, "holds floating-point values whose black and white are not known", "Save it with 8 or 16 bits")
        full = 1.0
        notes.append(Phrase("floating-point values: 0 is black, 1 white"))
    elif values.min(initial=0) < 0 or largest > 65535:
        raise InputError(name, Phrase("holds {kind} values beyond 16 bits", kind=str(values.dtype)), "Save it with 8 or 16 bits")
    else:
        full = 65535.0
        for smaller, bits in ((EIGHT_BITS, 8), (TWELVE_BITS, 12)):
            if 0 < largest <= smaller:
                full = float(smaller)
                notes.append(Phrase("{bits}-bit values in 16 bits: {full} is white", bits=bits, full=smaller))
                break
    return np.round(values * np.float32(255 / full)).astype(np.uint8)


# --- cutting and scaling ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Cut:
    """The square of a picture that is seen, in its pixels, and what one pixel of 256 then is, in nm (NaN where not known)."""

    y_px: float
    x_px: float
    side_px: float
    nm_per_px: float


def cut_of(height: int, width: int, nm_per_px: float) -> Cut:
    """The square in the middle of (h, w): 6.4 µm wide, for 25 nm per pixel, where scale and size of the picture allow.

    Else the largest square, with the scale it then has: the scale is not known, the field is too small, or so coarse (above
    50 nm per pixel) that the picture would only be blown up.
    """
    side = float(min(height, width))
    wanted = IMAGE_PX * COMMON_NM_PER_PX / nm_per_px if math.isfinite(nm_per_px) else math.inf
    if wanted <= side + SAME_PX and nm_per_px <= COARSEST * COMMON_NM_PER_PX:
        side = side if abs(wanted - side) <= SAME_PX else wanted
        return Cut((height - side) / 2, (width - side) / 2, side, COMMON_NM_PER_PX)
    return Cut((height - side) / 2, (width - side) / 2, side, nm_per_px * side / IMAGE_PX)


def scaled(levels: np.ndarray, cut: Cut) -> np.ndarray:
    """The square of uint8 (h, w) as (256, 256), every pixel an average of those it stands for."""
    box = (cut.x_px, cut.y_px, cut.x_px + cut.side_px, cut.y_px + cut.side_px)
    y0, x0 = (round(at) for at in (cut.y_px, cut.x_px))
    if cut.side_px == IMAGE_PX:
        return np.ascontiguousarray(levels[y0 : y0 + IMAGE_PX, x0 : x0 + IMAGE_PX])
    picture = Image.fromarray(np.ascontiguousarray(levels))
    return np.asarray(picture.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.LANCZOS, box=box))


def _seen(picture: Picture, name: str, known: Known) -> Seen:
    """Cut the bar away, then the square; what is told by hand counts before the table, and that before the file."""
    height, width = picture.levels.shape
    notes = list(picture.notes)
    bar, bar_from = info_bar(picture, known)
    if bar >= height - LEAST_PX:
        problem = Phrase("is {h} px high, and {bar} px are to be cut away as information bar", h=height, bar=bar)
        raise InputError(name, problem, "Set info_bar_px to the height of the bar, or to 0")
    if bar and bar_from != "user":
        notes.append(Phrase("{bar} px of information bar cut away", bar=bar))
    facts = picture.facts
    if known.nm_per_px is not None:
        facts = replace(facts, nm_per_px=known.nm_per_px, scale_from=known.scale_from)
    body = picture.levels[: height - bar]
    cut = cut_of(body.shape[0], body.shape[1], facts.nm_per_px)
    if cut.side_px < min(body.shape) - 1:
        notes.append(Phrase("middle {side} px of {w} × {h} px, for {nm} nm per px", side=round(cut.side_px), w=width,
                            h=body.shape[0], nm=f"{COMMON_NM_PER_PX:g}"))  # fmt: skip
    elif body.shape[0] != body.shape[1]:
        notes.append(Phrase("square in the middle of {w} × {h} px", w=width, h=body.shape[0]))
    image = scaled(body, cut)
    if int(image.min()) == int(image.max()):
        notes.append(Phrase("all of one grey"))
    columns = {
        "width_px": width, "height_px": height, "source_nm_per_px": facts.nm_per_px, "scale_from": facts.scale_from,
        "info_bar_px": bar, "bar_from": bar_from, "scale_bar_px": _scale_bar_px(body, cut), "cut_y_px": cut.y_px,
        "cut_x_px": cut.x_px, "cut_px": cut.side_px, "nm_per_px": cut.nm_per_px,
        "instrument": json.dumps(dict(facts.instrument), ensure_ascii=False),
    }  # fmt: skip
    return Seen(image, columns, tuple(notes))


def _scale_bar_px(body: np.ndarray, cut: Cut) -> float:
    """How long, in pixels of the file, the part of a scale bar is that lies in the cut; 0 where there is none."""
    bar = find_scale_bar(body)
    if bar is None or bar[0].stop <= cut.y_px or bar[0].start >= cut.y_px + cut.side_px:
        return 0.0
    return float(max(0.0, min(bar[1].stop, cut.x_px + cut.side_px) - max(bar[1].start, cut.x_px)))


def info_bar(picture: Picture, known: Known) -> tuple[int, str]:
    """Height of the information bar, and who told it: "user", "file", "picture" or ""."""
    if known.info_bar_px is not None:
        return known.info_bar_px, "user" if known.info_bar_px else ""
    told = picture.facts.info_bar_px
    if told:
        return told, "file"
    found = find_info_bar(picture.levels)
    return found, "picture" if found else ""
