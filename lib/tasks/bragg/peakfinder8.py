"""peakfinder8: connected pixels above a radial threshold, checked against their surroundings.

Barty et al. 2014, J. Appl. Cryst. 47, 1118–1131 ("Cheetah"), as the field's programs run it: the threshold of a pixel comes from
all pixels as far from the beam, five times over without those that stand out; touching pixels above it make a peak; and the peak
has to stand out of the disk around it. Written from that description; tests hold it to a slow numpy version of the same steps.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry
from lib.tasks.bragg.spots import BACKGROUND, NEITHER, STRONG, Groups, as_peaks, compiled, groups, inside, measured, panels

ROUNDS = 5  # of the radial statistics
SAMPLED_PER_BIN = 100


def find(
    frame: Frame,
    *,
    adc_thresh: float,
    min_snr: float,
    min_pix_count: int,
    max_pix_count: int,
    local_bg_radius: int,
    min_res: float = 0.0,
    max_res: float = 0.0,
    sampled: bool = False,
) -> pd.DataFrame:
    """Peaks of one frame as `spots.as_peaks`, in the order of their first pixels, panel by panel.

    `adc_thresh` is in the unit of the pixels; `min_res` and `max_res` are distances from the beam in pixels, 0 for none.
    `sampled` takes the radial statistics from at most 100 pixels of each radius, which is faster.
    """
    bins = radial_bins(frame.geometry, min_res, max_res)
    pixels = np.ascontiguousarray(frame.pixels, np.float32)
    values, good, near = pixels.ravel(), np.ascontiguousarray(frame.mask).ravel(), bins.ravel()
    chosen = sampled_pixels(frame.geometry, min_res, max_res) if sampled else slice(None)
    limits = radial_limits(values[chosen], good[chosen], near[chosen], int(bins.max(initial=-1)) + 1, min_snr, adc_thresh)
    state = states(values, good, near, limits[1]).reshape(pixels.shape)
    rectangles = panels(frame.geometry)
    found = groups(state, rectangles, min_pix_count, max_pix_count)
    centres, level = centres_of_mass(found, pixels, bins, limits[0])
    rows = measured(pixels, state, found, rectangles, centres, level, local_bg_radius)
    kept = (rows[:, 3] >= min_snr) & (rows[:, 5] >= rows[:, 8]) & inside(rows, found, rectangles)
    return as_peaks(rows[kept])


@lru_cache(maxsize=2)
def radial_bins(geometry: Geometry, min_res: float = 0.0, max_res: float = 0.0) -> np.ndarray:
    """int32 map (H, W): rounded distance from the beam in pixels; −1 between panels and outside the limits (0 for none)."""
    radius = geometry.radius_px()
    with np.errstate(invalid="ignore"):  # NaN between panels compares false
        counted = (radius > min_res) if min_res > 0 else (radius >= 0)
        if max_res > 0:
            counted &= radius < max_res
    bins = np.rint(np.where(counted, radius, -1)).astype(np.int32)
    bins.flags.writeable = False  # shared by every frame of the run
    return bins


@lru_cache(maxsize=2)
def sampled_pixels(geometry: Geometry, min_res: float = 0.0, max_res: float = 0.0) -> np.ndarray:
    """Flat indices (n,) of at most 100 pixels of each radial bin, evenly spread over the bin in raster order."""
    bins = radial_bins(geometry, min_res, max_res).ravel()
    return evenly_spread(bins, np.bincount(bins[bins >= 0]), SAMPLED_PER_BIN)


@compiled
def evenly_spread(bins: np.ndarray, counts: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most `most` of the members (-1: none) of each bin; `counts` says how many each has."""
    seen, chosen, n = np.zeros_like(counts), np.empty(most * len(counts), np.int64), 0
    for i in range(len(bins)):
        b = bins[i]
        if b < 0:
            continue
        rank = seen[b]
        seen[b] += 1
        # Of `most` equal steps through the bin, the first member in each.
        if counts[b] <= most or rank * most // counts[b] != (rank - 1) * most // counts[b]:
            chosen[n] = i
            n += 1
    return chosen[:n].copy()


@compiled
def radial_limits(
    values: np.ndarray, good: np.ndarray, bins: np.ndarray, n_bins: int, min_snr: float, adc_thresh: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and highest background value (n_bins,) float64 of each radius; infinite where no pixel is left to measure it.

    `values` (n,), `good` (n,) bool and `bins` (n,) of the pixels, −1 for a pixel that does not count.
    """
    # Limits are compared in the precision of the pixels, as the field's programs do.
    low, high = np.full(n_bins, -1e9, np.float32), np.full(n_bins, 1e9, np.float32)
    mean, limit = np.zeros(n_bins), np.full(n_bins, np.inf)
    for _ in range(ROUNDS):
        count, total, squares = np.zeros(n_bins), np.zeros(n_bins), np.zeros(n_bins)
        for i in range(len(values)):
            b = bins[i]
            if b >= 0 and good[i] and low[b] < values[i] < high[b]:
                v = np.float64(values[i])
                count[b] += 1
                total[b] += v
                squares[b] += v * v
        for b in range(n_bins):
            mean[b], limit[b], low[b] = 0.0, np.inf, -np.inf
            if count[b] > 0:
                mean[b] = total[b] / count[b]
                spread = np.sqrt(max(squares[b] / count[b] - mean[b] * mean[b], 0.0))
                limit[b] = max(mean[b] + min_snr * spread, adc_thresh)
                low[b] = mean[b] - min_snr * spread
            high[b] = limit[b]
    return mean, limit


@compiled
def states(values: np.ndarray, good: np.ndarray, bins: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """State (n,) uint8 of pixels: STRONG above the limit of their radius, BACKGROUND below it, NEITHER where not to be used."""
    state = np.full(len(values), NEITHER, np.uint8)
    for i in range(len(values)):
        b = bins[i]
        if b < 0 or not good[i]:
            continue
        if values[i] < limit[b]:
            state[i] = BACKGROUND
        elif limit[b] < values[i] < np.inf:
            state[i] = STRONG
    return state


@compiled
def centres_of_mass(found: Groups, pixels: np.ndarray, bins: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounded centres (n, 2) of groups, weighted by the distance from the mean of the radius, and that mean there (n,)."""
    members, starts, homes = found
    centres, level, width = np.empty((len(homes), 2), np.int64), np.zeros(len(homes)), pixels.shape[1]
    for k in range(len(homes)):
        total, sum_y, sum_x = 0.0, 0.0, 0.0
        for m in members[starts[k] : starts[k + 1]]:
            y, x = m // width, m % width
            weight = abs(pixels[y, x] - mean[bins[y, x]])
            total += weight
            sum_y += weight * y
            sum_x += weight * x
        y, x = int(np.rint(sum_y / total)), int(np.rint(sum_x / total))
        centres[k, 0], centres[k, 1] = y, x
        level[k] = mean[bins[y, x]] if bins[y, x] >= 0 else 0.0
    return centres, level
