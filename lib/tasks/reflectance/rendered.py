"""Rendered images of known geometry, to learn the geometry from: no optics, so thousands cost minutes.

A set is made once and kept in the cache folder, so that a resumed or repeated training finds it there.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from lib.disk import home
from lib.task import Samples
from lib.tasks.reflectance.config import CHANNELS, COMMON_NM_PER_PX, HIDDEN, IMAGE_PX, TRUE, VISIBLE

VERSION = 1  # raise it when the images are drawn otherwise
UNUSUAL_SHARE = 0.25  # of scales that differ from their kind more than nature does
OTHER_SCALE_SHARE = 0.3  # of images at another pixel size than the common one
SCALE_SPREAD = 0.15  # of the natural logarithm of that pixel size
CHUNK = 64  # images that one process renders at a time
log = logging.getLogger("lightbench")


def rendered(count: int, seed: int) -> Samples:
    """`count` images, each of a scale of its own, with VISIBLE and HIDDEN parameters in the table; channels unknown (NaN)."""
    folder = home() / "cache" / "reflectance" / f"rendered-{_name(count, seed)}"
    if not folder.is_dir():
        _make(folder, count, seed)
    return Samples.load(folder)


def _name(count: int, seed: int) -> str:
    return hashlib.sha256(f"{VERSION} {count} {seed}".encode()).hexdigest()[:16]


def _make(folder: Path, count: int, seed: int) -> None:
    """Render on all cores, into a folder that gets its name when it is whole."""
    temporary = folder.with_name(f".{folder.name}-{os.getpid()}-{secrets.token_hex(4)}")
    temporary.mkdir(parents=True)
    try:
        images = np.lib.format.open_memmap(
            temporary / "input-image.npy", mode="w+", dtype=np.uint8, shape=(count, IMAGE_PX, IMAGE_PX)
        )
        rows: list[dict[str, object]] = []
        chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        for number, (some, told) in enumerate(_all(chunks, seed)):
            images[chunks[number].start : chunks[number].stop] = some
            rows += told
            if number % 20 == 19:
                log.info("rendered %d of %d images", len(rows), count)
        images.flush()
        Samples({}, pd.DataFrame(rows)).save(temporary)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _all(chunks: list[range], seed: int) -> Iterator[tuple[np.ndarray, list[dict[str, object]]]]:
    """What `_some` gives for each chunk, in order; on all cores where there is enough to do."""
    if len(chunks) < 4:
        yield from (_some(numbers, seed) for numbers in chunks)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ProcessPoolExecutor(min(cores, len(chunks)), multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_some, chunks, [seed] * len(chunks))


def _some(numbers: range, seed: int) -> tuple[np.ndarray, list[dict[str, object]]]:
    """Images (n, 256, 256) and their rows; each number has random numbers of its own."""
    from lib.tasks.reflectance import render, specimen

    images, rows = np.empty((len(numbers), IMAGE_PX, IMAGE_PX), np.uint8), []
    for place, number in enumerate(numbers):
        rng = np.random.default_rng([seed, number])
        scale = specimen.draw(None, rng)
        if rng.random() < UNUSUAL_SHARE:
            scale = specimen.vary(scale, rng)
        other = rng.random() < OTHER_SCALE_SHARE
        nm_per_px = COMMON_NM_PER_PX * float(np.exp(SCALE_SPREAD * rng.normal() * other))
        images[place] = render.image(scale, rng, nm_per_px)
        known = {name: float(value) for name, value in asdict(scale).items() if name in (*VISIBLE, *HIDDEN)}
        row = {"file": f"rendered{number:06d}.png", "note": "", "specimen": f"r{number}", "kind": scale.kind}
        rows.append({**row, "nm_per_px": nm_per_px, **known, **{TRUE + channel: np.nan for channel in CHANNELS}})
    return images, rows
