"""What people upload by mistake or by malice: each with words that its refusal must hold."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

BAD_ARRAYS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], dict[str, object], str]] = {
    "rgb": (lambda c: np.zeros((64, 64, 3), np.uint8), {"photometric": "rgb"}, "colour"),
    "rgba": (lambda c: np.zeros((64, 64, 4), np.uint8), {"photometric": "rgb"}, "colour"),
    "rgb stack": (lambda c: np.zeros((16, 64, 64, 3), np.uint8), {"photometric": "rgb"}, "colour"),
    "one frame": (lambda c: c[0], {}, "single frame"),
    "four frames": (lambda c: c[:4], {"photometric": "minisblack"}, "4 frames"),
    "zeros": (lambda c: c * 0, {}, "same value (0)"),
    "constant": (lambda c: c * 0 + 7, {}, "same value (7)"),
    "nan": (lambda c: np.where(c > 140, np.nan, c).astype(np.float32), {}, "not numbers"),
    "infinite": (lambda c: np.where(c > 140, np.inf, c).astype(np.float32), {}, "not numbers"),
    "huge values": (lambda c: c.astype(np.float64) * 1e12, {}, "no camera"),
    "movie": (lambda c: np.ones((10_000, 8, 8), np.uint8), {"photometric": "minisblack"}, "10000 frames"),
    "tiny": (lambda c: c[:, :20], {}, "64 × 20 px"),
    "two channels": (lambda c: np.stack([c, c], 1), {"imagej": True, "metadata": {"axes": "TCYX"}}, "several channels"),
    "complex": (lambda c: c.astype(np.complex64), {}, "complex64"),
}
BAD_CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "a picture": (b"\x89PNG\r\n\x1a\n....", "PNG"),
    "an archive": (b"PK\x03\x04....", "ZIP"),
    "a text": (b"hello, world", "not a TIFF"),
    "noise": (b"II*\0" + bytes(range(256)) * 50, "damaged"),
    "a header": (b"MM\0*\0\0", "damaged"),
}


def write_bad_tiffs(folder: Path, clip: np.ndarray) -> dict[Path, str]:
    """One TIFF of every kind that is refused, under names that invite trouble: path and the words of its refusal."""
    folder.mkdir(parents=True)
    found = {}
    for kind, (make, how, words) in BAD_ARRAYS.items():
        found[folder / f"{kind} 'ü' $x$.tif"] = words
        tifffile.imwrite(folder / f"{kind} 'ü' $x$.tif", make(clip), **how)
    for kind, (content, words) in BAD_CONTENTS.items():
        found[folder / f"{kind}.tif"] = words
        (folder / f"{kind}.tif").write_bytes(content)
    whole = io.BytesIO()
    tifffile.imwrite(whole, clip)
    found[folder / "cut off.tif"] = "truncated"
    (folder / "cut off.tif").write_bytes(whole.getvalue()[: whole.tell() // 2])
    found[folder / "two gigabytes.tif"] = "2,048 MiB"
    _declare_two_gigabytes(folder / "two gigabytes.tif", clip)
    return found


def _declare_two_gigabytes(path: Path, clip: np.ndarray) -> None:
    """A small file whose tags speak of 16 frames of 128 MiB."""
    tifffile.imwrite(path, clip, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for page in tif.pages:
            for tag, value in (("ImageWidth", 32_768), ("ImageLength", 2048), ("RowsPerStrip", 2048)):
                page.tags[tag].overwrite(value)


def write_bad_zips(folder: Path) -> dict[Path, str]:
    """Archives that are refused, or hold only what is: path and the words of the refusal."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "nothing in it.zip", "w"):
        pass
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.tif", bytes(300 * 2**20))
    (folder / "not a zip.zip").write_bytes(b"PK\x03\x04 not an archive")
    return {folder / "nothing in it.zip": "empty", folder / "bomb.zip": "bomb", folder / "not a zip.zip": "ZIP"}
