"""Strong pixels by the index of dispersion, the extended way of DIALS.

Photons in a flat background follow Poisson's law, so variance ÷ mean of a window is the gain; where it is more, there is a spot
near (Parkhurst et al. 2016, J. Appl. Cryst. 49, 1912–1921). A window reaches a spot before its middle does: the region found so
is eroded, and the background of a larger window without it tells which of its pixels are strong (Winter et al. 2018, Acta Cryst.
D74, 85–97). Sums over windows slide along, so they stay exact for whole counts and need no map of their own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.peakfinder8 import radial_bins
from lib.tasks.bragg.spots import BACKGROUND, NEITHER, STRONG, Groups, as_peaks, compiled, groups, inside, measured, panels

WIDER = 2  # pixels by which the second window reaches farther


def find(
    frame: Frame,
    *,
    adc_thresh: float,
    gain: float,
    sigma_background: float,
    sigma_strong: float,
    kernel_size: int,
    min_snr: float,
    min_pix_count: int,
    max_pix_count: int,
    local_bg_radius: int,
    min_res: float = 0.0,
    max_res: float = 0.0,
) -> pd.DataFrame:
    """Peaks of one frame as `spots.as_peaks`, in the order of their first pixels, panel by panel.

    `adc_thresh` is in the unit of the pixels and `gain` in that unit per photon; the first window reaches `kernel_size` pixels;
    `min_res` and `max_res` are distances from the beam in pixels, 0 for none. The two sigmas are how many standard deviations
    the variance of a window, and the value of a pixel, are above what a flat background has.
    """
    good = frame.mask & (radial_bins(frame.geometry, min_res, max_res) >= 0) & np.isfinite(frame.pixels)
    pixels = np.where(good, frame.pixels, 0).astype(np.float32)
    rectangles = panels(frame.geometry)
    state = np.where(good, np.uint8(BACKGROUND), np.uint8(NEITHER))
    spread = overdispersed(pixels, good, rectangles, kernel_size, gain, sigma_background)
    region = eroded(pixels, spread, good & ~spread, rectangles, kernel_size - 1)
    reach = kernel_size + WIDER
    mark_strong(pixels, region, good & ~region, rectangles, reach, gain, sigma_strong, adc_thresh, state)
    found = groups(state, rectangles, min_pix_count, max_pix_count)
    centres = brightest(found, pixels)
    rows = measured(pixels, state, found, rectangles, centres, np.zeros(len(centres)), local_bg_radius)
    return as_peaks(rows[(rows[:, 3] >= min_snr) & inside(rows, found, rectangles)])


@compiled
def slide(
    pixels: np.ndarray, counted: np.ndarray, panel: np.ndarray, reach: int, y: int, columns: np.ndarray, sums: np.ndarray
) -> None:
    """Number, sum and sum of squares of the counted pixels within `reach` rows and columns of each pixel of row y.

    To be called for the rows of a panel from the first on. `columns` and `sums` are (3, width); `columns` holds what is above
    and below each pixel and goes on from one row to the next.
    """
    y0, y1, x0, x1 = panel
    width = x1 - x0
    if y == y0:
        columns[:] = 0
    for row in range(y0 if y == y0 else y + reach, min(y + reach + 1, y1)):
        add_row(pixels[row, x0:x1], counted[row, x0:x1], 1.0, columns)
    if y - reach - 1 >= y0:
        add_row(pixels[y - reach - 1, x0:x1], counted[y - reach - 1, x0:x1], -1.0, columns)
    number, total, squares = 0.0, 0.0, 0.0
    for i in range(-reach, width):
        if i + reach < width:
            number += columns[0, i + reach]
            total += columns[1, i + reach]
            squares += columns[2, i + reach]
        if i - reach - 1 >= 0:
            number -= columns[0, i - reach - 1]
            total -= columns[1, i - reach - 1]
            squares -= columns[2, i - reach - 1]
        if i >= 0:
            sums[0, i], sums[1, i], sums[2, i] = number, total, squares


@compiled
def add_row(values: np.ndarray, counted: np.ndarray, sign: float, columns: np.ndarray) -> None:
    """Add a row of values (width,), or take it away again, to number, sum and sum of squares (3, width) of the counted ones."""
    for i in range(len(values)):
        v = np.float64(values[i])
        n = sign if counted[i] else 0.0
        columns[0, i] += n
        columns[1, i] += n * v
        columns[2, i] += n * v * v


@compiled
def overdispersed(
    pixels: np.ndarray, good: np.ndarray, rectangles: np.ndarray, reach: int, gain: float, sigma_background: float
) -> np.ndarray:
    """Map (H, W) bool: good pixels whose window has more variance than its mean explains.

    Of n Poisson counts, variance ÷ mean has mean 1 and variance 2 ÷ (n − 1).
    """
    spread = np.zeros(good.shape, np.bool_)
    n = np.arange((2 * reach + 1) ** 2 + 1)
    allowed = gain * (n - 1 + sigma_background * np.sqrt(2.0 * np.maximum(n - 1, 0)))  # of variance ÷ mean, times n − 1
    for p in range(len(rectangles)):
        y0, y1, x0, x1 = rectangles[p]
        columns, sums = np.zeros((3, x1 - x0)), np.zeros((3, x1 - x0))
        for y in range(y0, y1):
            slide(pixels, good, rectangles[p], reach, y, columns, sums)
            for i in range(x1 - x0):
                number, total, squares = int(sums[0, i]), sums[1, i], sums[2, i]
                if good[y, x0 + i] and number >= 2 and total > 0:
                    spread[y, x0 + i] = squares * number - total * total > allowed[number] * total
    return spread


@compiled
def eroded(pixels: np.ndarray, spread: np.ndarray, outside: np.ndarray, rectangles: np.ndarray, reach: int) -> np.ndarray:
    """Map (H, W) bool: pixels of a region `spread` farther than `reach` from every pixel of `outside` on their panel."""
    region = np.zeros(spread.shape, np.bool_)
    for p in range(len(rectangles)):
        y0, y1, x0, x1 = rectangles[p]
        columns, sums = np.zeros((3, x1 - x0)), np.zeros((3, x1 - x0))
        for y in range(y0, y1):
            slide(pixels, outside, rectangles[p], reach, y, columns, sums)
            for i in range(x1 - x0):
                region[y, x0 + i] = spread[y, x0 + i] and sums[0, i] == 0
    return region


@compiled
def mark_strong(
    pixels: np.ndarray,
    region: np.ndarray,
    outside: np.ndarray,
    rectangles: np.ndarray,
    reach: int,
    gain: float,
    sigma_strong: float,
    adc_thresh: float,
    state: np.ndarray,
) -> None:
    """Mark as STRONG the pixels of a region that stand out of the mean of the window's pixels that are `outside` it."""
    for p in range(len(rectangles)):
        y0, y1, x0, x1 = rectangles[p]
        columns, sums = np.zeros((3, x1 - x0)), np.zeros((3, x1 - x0))
        for y in range(y0, y1):
            slide(pixels, outside, rectangles[p], reach, y, columns, sums)
            for i in range(x1 - x0):
                if not region[y, x0 + i]:
                    continue
                mean = max(sums[1, i] / sums[0, i], 0.0) if sums[0, i] >= 2 else 0.0
                v = pixels[y, x0 + i]
                if v > adc_thresh and v >= mean + sigma_strong * np.sqrt(gain * mean):
                    state[y, x0 + i] = STRONG


@compiled
def brightest(found: Groups, pixels: np.ndarray) -> np.ndarray:
    """int64 (n, 2): y and x of the highest pixel of each group."""
    members, starts, homes = found
    centres, width = np.empty((len(homes), 2), np.int64), pixels.shape[1]
    for k in range(len(homes)):
        highest = -np.inf
        for m in members[starts[k] : starts[k + 1]]:
            if pixels[m // width, m % width] > highest:
                highest = pixels[m // width, m % width]
                centres[k, 0], centres[k, 1] = m // width, m % width
    return centres
