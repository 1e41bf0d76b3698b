"""What there is at a place of a frame that is no Bragg peak, and what a finder may take for one."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from lib.tasks.bragg.frames import Frame

BESIDE_PX = 3.0  # a place this near to an artefact is that artefact
RING_PX = 12  # what is wider to each side is scatter of the solvent
CORE_PX = 5  # so many radii are averaged
RING_ERRORS, RING_SIGMAS = 6.0, 0.5  # a ring is higher than around it by so many errors of the mean, and spreads of a pixel
FEWEST_PX = 20  # of one radius; fewer tell no mean
RING_EDGE_PX = 2  # beside it


def told(frame: Frame, y_px: np.ndarray, x_px: np.ndarray) -> dict[str, np.ndarray]:
    """Whether places (n,) lie on a ring, and beside each kind of artefact that is known of the frame: bool (n,) by column."""
    columns = {"on_ring": on_ring(frame, y_px, x_px)}
    for name in ("hot", "zinger"):
        there = frame.artefacts.get(name)
        if there is not None:
            columns[f"beside_{name}"] = beside(there, y_px, x_px)
    return columns


def beside(there_yx: np.ndarray, y_px: np.ndarray, x_px: np.ndarray) -> np.ndarray:
    """Which places (n,) are within BESIDE_PX of one of `there_yx` (k, 2), as bool (n,)."""
    place = np.column_stack([y_px, x_px]).astype(float)
    if not len(there_yx) or not len(place):
        return np.zeros(len(place), bool)
    return np.asarray(KDTree(there_yx).query(place)[0] <= BESIDE_PX)


def on_ring(frame: Frame, y_px: np.ndarray, x_px: np.ndarray) -> np.ndarray:
    """Which places (n,) lie on a powder or ice ring, as bool (n,); False outside every module."""
    ring = rings(frame)
    y, x, _ = frame.geometry.locate(y_px, x_px)
    radius = np.rint(np.nan_to_num(np.hypot(y, x), nan=-1)).astype(int)
    known = (radius >= 0) & (radius < len(ring))
    return np.asarray(known & ring[np.clip(radius, 0, len(ring) - 1)])


def rings(frame: Frame) -> np.ndarray:
    """Which whole radii in pixels (n,) have a ring: bool.

    The mean of the background around each radius is held against the means around the radii RING_PX farther in and out: a slope
    is as much higher on one side as it is lower on the other, and what falls ever slower is lower in the middle.
    """
    from lib.tasks.bragg.peakfinder8 import radial_bins, radial_limits

    bins, cut = radial_bins(frame.geometry).ravel(), 3.0
    size = int(bins.max()) + 1
    mean, high = radial_limits(frame.pixels.ravel(), frame.mask.ravel(), bins, size, cut, -np.inf)
    n = np.bincount(bins[frame.mask.ravel() & (bins >= 0)], minlength=size)
    seen = np.flatnonzero((n >= FEWEST_PX) & np.isfinite(high))
    if not len(seen):
        return np.zeros(size, bool)
    radii = np.arange(size)
    level, sigma = (np.interp(radii, seen, values[seen]) for values in (mean, (high - mean) / cut))
    near = ndimage.uniform_filter1d(level, CORE_PX, mode="nearest")
    counted = CORE_PX * np.maximum(ndimage.uniform_filter1d(n.astype(float), CORE_PX, mode="nearest"), 1)
    inner, outer = (np.clip(radii + step, 0, size - 1) for step in (-RING_PX, RING_PX))
    excess = near - (near[inner] + near[outer]) / 2
    error = sigma * np.sqrt(1 / counted + (1 / counted[inner] + 1 / counted[outer]) / 4)
    between = (radii >= seen[0] + RING_PX) & (radii <= seen[-1] - RING_PX)
    raised = between & (excess > np.maximum(RING_ERRORS * error, RING_SIGMAS * sigma))
    return np.asarray(ndimage.binary_dilation(raised, iterations=RING_EDGE_PX))
