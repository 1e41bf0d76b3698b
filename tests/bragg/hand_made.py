"""Frames whose peaks are known because they were put there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry

LEVEL, SIGMA_PX = 20.0, 0.9  # photons of a background pixel, width of a spot
BEAM_YX = (150.0, -40.0)  # far off, so that no spot fills much of its radius


def spot(shape: tuple[int, int], y: float, x: float, photons: float) -> np.ndarray:
    """A Gaussian spot of so many photons."""
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    profile = np.exp(-((ys - y) ** 2 + (xs - x) ** 2) / (2 * SIGMA_PX**2))
    return photons * profile / (2 * np.pi * SIGMA_PX**2)


def frame(
    spots: Sequence[tuple[float, float, float]] = (),
    *,
    shape: tuple[int, int] = (120, 140),
    panels: Sequence[tuple[int, int, int, int]] = (),
    mask: np.ndarray | None = None,
    beam_yx: tuple[float, float] = BEAM_YX,
    seed: int = 0,
) -> Frame:
    """Poisson counts of a flat background and of spots (y, x, photons)."""
    mean = LEVEL + sum((spot(shape, *s) for s in spots), np.zeros(shape))
    pixels = np.random.default_rng(seed).poisson(mean).astype(np.float32)
    good = np.ones(shape, bool) if mask is None else mask
    return Frame(pixels, good, Geometry.flat(shape, beam_yx, panels=panels))
