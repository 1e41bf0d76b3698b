"""What was read of many pictures, kept in a cache folder so that the same ones open at once the next time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.disk import home

READER_VERSION = 1  # raise it when pictures are read or cut otherwise, or readings computed otherwise
FROM = 32  # fewer pictures are read as fast
CACHE_BYTES = 16 * 2**30  # the longest unused go first
Told = list[tuple[int, list[Any]]]
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where what was read is kept."""
    return home() / "cache"


def digest(pictures: Sequence[tuple[Path, str, str]]) -> str:
    """What reading depends on: files as they are now (path, size, time of change), their names, what is known of each."""
    found = hashlib.sha256(f"{READER_VERSION}".encode())
    for path, name, known in pictures:
        try:
            about = path.stat()
            state = f"{about.st_size} {about.st_mtime_ns}"
        except OSError:
            state = "gone"
        found.update(f"{path}\0{name}\0{known}\0{state}\0".encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:32]


def recall(name: str) -> tuple[np.ndarray, pd.DataFrame, Told] | None:
    """Images (memory-mapped), columns and failures of that digest; None where there are none or they are damaged."""
    folder = cache_folder() / f"reflectance-{name}"
    if not folder.is_dir():
        return None
    try:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        columns = pd.read_parquet(folder / "columns.parquet")
        told = json.loads((folder / "failures.json").read_text(encoding="utf-8"))
        os.utime(folder)
    except (OSError, ValueError, KeyError, EOFError) as error:
        _log.warning("cache %s cannot be used: %s", folder.name, error)
        return None
    return (images, columns, told) if len(images) == len(columns) else None


def keep(name: str, images: np.ndarray, columns: pd.DataFrame, told: Told) -> None:
    """Keep images (n, 256, 256), columns of n rows and failures; where the disk is full nothing is kept, and the log says so."""

    def fill(folder: Path) -> None:
        np.save(folder / "images.npy", images, allow_pickle=False)
        columns.to_parquet(folder / "columns.parquet")
        (folder / "failures.json").write_text(json.dumps(told), encoding="utf-8")

    _whole(f"reflectance-{name}", fill)


def readings(images: np.ndarray, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What `compute` makes of these images (n, 256, 256), from the cache where the same pixels were there before."""
    if len(images) < FROM:
        return compute()
    found = hashlib.sha256(f"{READER_VERSION} {images.shape}".encode())
    for start in range(0, len(images), 256):
        found.update(images[start : start + 256].tobytes())
    path = cache_folder() / f"reflectance-{found.hexdigest()[:32]}" / "readings.parquet"
    try:
        if path.exists():
            os.utime(path.parent)
            return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        _log.warning("cache %s cannot be used: %s", path.parent.name, error)
    made = compute()
    _whole(path.parent.name, lambda folder: made.to_parquet(folder / path.name))
    return made


def _whole(name: str, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside its place and rename it: a full disk leaves nothing half."""
    target = cache_folder() / name
    draft = target.with_name(f".writing-{secrets.token_hex(4)}-{name}")
    try:
        draft.mkdir(parents=True)
        fill(draft)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
        _prune(target)
    except OSError as error:
        _log.warning("cache %s was not written: %s", name, error)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _prune(newest: Path) -> None:
    """Remove the longest unused of our caches until the folder is within its limit."""

    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.iterdir())

    others = sorted((path.stat().st_mtime, path) for path in newest.parent.glob("reflectance-*") if path != newest)
    total = size(newest) + sum(size(path) for _, path in others)
    for _, path in others:
        if total <= CACHE_BYTES:
            return
        total -= size(path)
        shutil.rmtree(path, ignore_errors=True)
