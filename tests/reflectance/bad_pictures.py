"""Micrographs and tables as labs have them: writers of each kind, and the broken ones with the words of their refusal."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from lib.tasks.reflectance.config import CHANNELS

HEADER = ("SEM_filenames", *CHANNELS)


def micrograph(seed: int = 0, shape: tuple[int, int] = (256, 256), period_px: float = 21.0) -> np.ndarray:
    """uint8 ridges with disorder and noise, another for each seed."""
    return _micrograph(seed, shape, period_px).copy()


@cache
def _micrograph(seed: int, shape: tuple[int, int], period_px: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle = rng.uniform(0, np.pi)
    bent = 6 * ndimage.gaussian_filter(rng.normal(size=shape), 12) * 12
    ridges = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle) + bent) / period_px)
    grains = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    levels = 120 + 35 * ridges + 25 * grains / grains.std() + 6 * rng.normal(size=shape)
    return np.clip(levels, 1, 254).astype(np.uint8)


def targets(seed: int = 0) -> list[float]:
    """Ten fractions with three decimals."""
    return np.random.default_rng(seed).uniform(0.05, 0.9, 10).round(3).tolist()


def write_png(path: Path, seed: int = 0, shape: tuple[int, int] = (256, 256)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(micrograph(seed, shape)).save(path)
    return path


def with_bar(levels: np.ndarray, height: int, ground: int = 0) -> np.ndarray:
    """The picture with an information bar below it: text-like marks on plain ground."""
    bar = np.full((height, levels.shape[1]), ground, np.uint8)
    bar[height // 3 : 2 * height // 3, 20:-20:7] = 255 - ground
    return np.vstack([levels, bar])


def table_text(
    rows: int = 4, sep: str = ",", decimal: str = ".", header: tuple[str, ...] | None = HEADER, factor: float = 1
) -> str:
    """A table of pictures 0.png, 1.png … with their targets."""
    lines = [sep.join(header)] if header else []
    for row in range(rows):
        cells = [f"{factor * value:.3f}".replace(".", decimal) for value in targets(row)]
        lines.append(sep.join([f"{row}.png", *cells]))
    return "\n".join(lines) + "\n"


def lab(folder: Path, rows: int = 4, **how: object) -> Path:
    """A folder of pictures 0.png … and targets.csv."""
    for row in range(rows):
        write_png(folder / f"{row}.png", row)
    path = folder / "targets.csv"
    path.write_text(table_text(rows, **how), encoding="utf-8")  # type: ignore[arg-type]
    return path


def declared(width: int, height: int) -> bytes:
    """A PNG whose header declares a size that its few bytes do not hold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def _truncated_png(path: Path) -> None:
    whole = write_png(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _truncated_tiff(path: Path) -> None:
    tifffile.imwrite(path, micrograph())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _declared_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for tag in ("ImageWidth", "ImageLength"):
            tif.pages[0].tags[tag].overwrite(30_000)


def _float_tiff(path: Path) -> None:
    tifffile.imwrite(path, 500 * micrograph().astype(np.float32))


# name: (ending, writer, words of the refusal)
REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty": (".png", lambda p: p.write_bytes(b""), "is empty"),
    "a PDF": (".png", lambda p: p.write_bytes(b"%PDF-1.7\n" + b"x" * 500), "is not a picture but a PDF"),
    "a GIF": (".png", lambda p: Image.fromarray(micrograph()).save(p, "GIF"), "is not a picture but a GIF"),
    "text": (".jpg", lambda p: p.write_text("no picture"), "is no PNG, TIFF, JPEG or BMP picture"),
    "zeros": (".tif", lambda p: p.write_bytes(b"\0" * 4096), "is no PNG, TIFF, JPEG or BMP picture"),
    "truncated PNG": (".png", _truncated_png, "is damaged or truncated"),
    "truncated TIFF": (".tif", _truncated_tiff, "is truncated"),
    "only a PNG's start": (".png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n"), "is damaged or truncated"),
    "only a TIFF's start": (".tif", lambda p: p.write_bytes(b"II*\0\x08\0\0\0"), "is damaged or truncated"),
    "1 × 1": (".png", lambda p: Image.new("L", (1, 1)).save(p), "is 1 × 1 px, too small"),
    "30 000 × 30 000": (".png", lambda p: p.write_bytes(declared(30_000, 30_000)), "declares more than"),
    "11 000 × 11 000": (".png", lambda p: p.write_bytes(declared(11_000, 11_000)), "declares 11000 × 11000 px"),
    "TIFF of 30 000 × 30 000": (".tif", _declared_tiff, "declares 30000 × 30000 px"),
    "floats of no known white": (".tif", _float_tiff, "floating-point values"),
}


def _twelve_bits(path: Path) -> None:
    tifffile.imwrite(path, micrograph().astype(np.uint16) * 16)


def _sixteen_bits(path: Path) -> None:
    Image.fromarray(micrograph().astype(np.uint16) * 257).save(path)


def _palette_png(path: Path) -> None:
    picture = Image.fromarray(255 - micrograph())
    picture.putpalette([level for k in range(256) for level in (255 - k,) * 3])
    picture.save(path)


def _zeiss_palette(path: Path) -> None:
    colours = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    colours[:, 9::9] = 65535  # annotation colours between the greys
    tifffile.imwrite(path, micrograph(), photometric="palette", colormap=colours)


def _coloured(path: Path) -> None:
    grey = micrograph()
    Image.fromarray(np.stack([grey, grey // 2, grey // 4], axis=-1)).save(path)


def _animated(path: Path) -> None:
    frames = [Image.fromarray(micrograph(seed)) for seed in (0, 1)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


# name: (ending, writer, words of the note, largest mean difference from micrograph(0) in grey levels)
TAKEN: dict[str, tuple[str, Callable[[Path], object], str, float]] = {
    "PNG": (".png", lambda p: Image.fromarray(micrograph()).save(p), "", 0),
    "BMP": (".bmp", lambda p: Image.fromarray(micrograph()).save(p), "", 0),
    "JPEG": (".jpg", lambda p: Image.fromarray(micrograph()).save(p, quality=97), "", 2),
    "TIFF": (".tif", lambda p: tifffile.imwrite(p, micrograph()), "", 0),
    "white is zero": (".tif", lambda p: tifffile.imwrite(p, 255 - micrograph(), photometric="miniswhite"), "", 0),
    "JPEG in TIFF": (".tif", lambda p: tifffile.imwrite(p, micrograph(), compression="jpeg"), "", 3),
    "grey as RGB": (".png", lambda p: Image.fromarray(micrograph()).convert("RGB").save(p), "", 0),
    "grey with alpha": (".png", lambda p: Image.fromarray(micrograph()).convert("LA").save(p), "", 0),
    "CMYK": (".jpg", lambda p: Image.fromarray(micrograph()).convert("RGB").convert("CMYK").save(p, quality=98), "", 4),
    "16 bits": (".png", _sixteen_bits, "", 0),
    "16 bits in TIFF": (".tif", lambda p: tifffile.imwrite(p, micrograph().astype(np.uint16) * 257), "", 0),
    "12 bits in 16": (".tif", _twelve_bits, "12-bit values in 16 bits", 1),
    "8 bits in 16": (".tif", lambda p: tifffile.imwrite(p, micrograph().astype(np.uint16)), "8-bit values in 16 bits", 0),
    "floats from 0 to 1": (".tif", lambda p: tifffile.imwrite(p, micrograph() / np.float32(255)), "floating-point", 0),
    "palette": (".png", _palette_png, "", 0),
    "palette of Zeiss": (".tif", _zeiss_palette, "", 0),
    "animated": (".png", _animated, "first of 2 pictures", 0),
    "pages": (".tif", lambda p: tifffile.imwrite(p, np.stack([micrograph(0), micrograph(1)])), "picture 1 of 2", 0),
}


# name: (content of targets.csv beside 0.png … 3.png, words of the refusal)
REFUSED_TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"this is no table\n", "single column"),
    "zeros": (b"\0" * 400, "zero bytes"),
    "Excel": (b"PK\x03\x04" + b"x" * 400, "Excel"),
    "no rows": (",".join(HEADER).encode() + b"\n", "no row below its column names"),
    "nine columns": (b"\n".join(b"%d.png" % k + b",.5" * 9 for k in range(4)), "9 columns behind the picture's name"),
    "eleven columns": (b"\n".join(b"%d.png" % k + b",.5" * 11 for k in range(4)), "11 columns behind the picture's name"),
    "no pictures": (b"a,b,c\n1,2,3\n4,5,6\n", "no column names pictures"),
    "all missing": (table_text().replace(".png", "x.png").encode(), "4 pictures of the table are missing"),
}
