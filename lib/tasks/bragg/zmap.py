"""From a frame to candidates: the background taken away and its noise divided out, then everything that stands out.

What is left does not depend on offset, gain or units of the detector, so that one network serves them all. Background and noise
are told in blocks of 4 × 4 pixels, each from the 20 × 20 pixels around it, and read between the blocks' centres: that is a
sixteenth of the work of telling them for each pixel. Compiled: a frame of a million pixels takes some milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from lib.tasks.bragg.frames import Frame

BLOCK_PX = 4
HALF_WINDOW_BLOCKS = 2  # the background is taken from 5 × 5 blocks
FIRST_CLIP = 5.0  # sd by which a pixel stands out of the median of the blocks around: however bright a spot is, it is left out
CLIP_SIGMA = 4.0  # and then of the mean of all pixels around that are left, once more
FEWEST_OF_BLOCK = 4  # good pixels that tell a block's own mean and sd
FEWEST = 40  # good pixels that tell a background; with fewer, a pixel is not looked at
FLOOR = 1e-3  # of the noise, relative to the largest one, where all counts are alike
WHOLE_SIGMA = 12**-0.5  # least noise of whole numbers, that of rounding: where photons are rare most pixels around one are 0
KERNEL = np.exp(-0.5 * (np.arange(-2, 3) / 0.85) ** 2)  # the cut through a spot of two pixels' width
LEAST_WEIGHT = 0.35  # of the filter's squares that must lie on known pixels
LARGEST = np.float32(3.4e38)
NEAR, NEARER = np.float32(3 / 8), np.float32(1 / 8)  # of the way to the next block's centre: the pixels of a block


@dataclass(frozen=True)
class Whitened:
    """A frame in units of its own noise, and how far spots stand out of it.

    z and strength (H, W) float32 are 0 where nothing is known; known (H, W) bool are good pixels whose background is known. mean
    and sigma (H/4, W/4, rounded up) float32 are of blocks, in the frame's unit; both are 0 where no pixel is known.
    strength is Σ k z / √Σ k² for a spot of KERNEL's width at each pixel: standard normal for independent noise.
    """

    z: np.ndarray
    known: np.ndarray
    strength: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray


def whiten(frame: Frame) -> Whitened:
    """Mean and standard deviation of the good pixels around each block, spots left out; the frame in their units, filtered."""
    pixels, mask = np.ascontiguousarray(frame.pixels, np.float32), np.ascontiguousarray(frame.mask, np.bool_)
    blocks = tuple(-(-size // BLOCK_PX) for size in pixels.shape)
    mean, sigma = np.zeros(blocks, np.float32), np.full(blocks, -1, np.float32)
    low, high = np.full(blocks, -LARGEST), np.full(blocks, LARGEST)
    sums = np.empty((3, *blocks))
    shift, whole = _typical(pixels, mask)
    _sum_blocks(pixels, mask, low, high, shift, sums)
    _alone(sums, FEWEST_OF_BLOCK, shift, mean, sigma)
    for clip in (FIRST_CLIP, CLIP_SIGMA):
        _limits(mean, sigma, clip, low, high)
        _sum_blocks(pixels, mask, low, high, shift, sums)
        _around(sums, HALF_WINDOW_BLOCKS, FEWEST, shift, mean, sigma)
    told = sigma >= 0
    _spread(mean, sigma, told, max(float(sigma.max(initial=0)) * FLOOR, WHOLE_SIGMA if whole else 1e-6))
    z, known, strength = (np.empty(pixels.shape, kind) for kind in (np.float32, np.bool_, np.float32))
    _divide(pixels, mask, told, mean, sigma, KERNEL.astype(np.float32), LEAST_WEIGHT, z, known, strength)
    return Whitened(z, known, strength, mean, sigma)


@numba.njit(cache=True, nogil=True)
def _typical(pixels: Any, mask: Any) -> Any:
    """Mean of every 97th good pixel (sums of differences from it keep their digits), and whether all of these are whole."""
    flat, good = pixels.ravel(), mask.ravel()
    total, n, whole = 0.0, 0, True
    for i in range(0, flat.size, 97):
        if good[i] and abs(flat[i]) <= LARGEST:
            total += flat[i]
            n += 1
            whole = whole and flat[i] == np.rint(flat[i])
    return (total / n if n else 0.0), whole


@numba.njit(cache=True, nogil=True)
def _sum_blocks(pixels: Any, mask: Any, low: Any, high: Any, shift: float, sums: Any) -> None:
    """Count, sum and sum of squares (3, …) of each block's good pixels within its limits, less `shift`."""
    height, width = pixels.shape
    across = sums.shape[2]
    columns = np.zeros((3, across * BLOCK_PX))
    least, most = np.empty(width, np.float32), np.empty(width, np.float32)
    for row in range(sums.shape[1]):
        for x in range(width):
            least[x], most[x] = low[row, x // BLOCK_PX], high[row, x // BLOCK_PX]
        columns[:] = 0
        for y in range(row * BLOCK_PX, min(row * BLOCK_PX + BLOCK_PX, height)):
            _add(pixels[y], mask[y], least, most, shift, columns[0], columns[1], columns[2])
        for k in range(3):
            for b in range(across):
                at = b * BLOCK_PX
                sums[k, row, b] = columns[k, at] + columns[k, at + 1] + columns[k, at + 2] + columns[k, at + 3]


@numba.njit(cache=True, nogil=True)
def _add(pixels: Any, mask: Any, least: Any, most: Any, shift: float, count: Any, total: Any, squares: Any) -> None:
    """Add one row to the columns. Without branches, so that several pixels are done at a time."""
    for x in range(pixels.size):
        value = pixels[x]
        counted = mask[x] & (value >= least[x]) & (value <= most[x])  # what is no number is in no limits
        difference = float(value) - shift if counted else 0.0
        count[x] += 1.0 if counted else 0.0
        total[x] += difference
        squares[x] += difference * difference


@numba.njit(cache=True, nogil=True)
def _alone(sums: Any, fewest: int, shift: float, mean: Any, sigma: Any) -> None:
    """Medians of mean and sd over blocks in a window of 5 × 5, rows first; sd −1 where no block tells them, or where it is 0."""
    down, across = mean.shape
    level, spread = np.float32(0), np.float32(-1)
    for row in range(down):
        for b in range(across):  # a block that cannot tell is taken to be like the one before
            n = sums[0, row, b]
            if n >= fewest:
                average = sums[1, row, b] / n
                level = np.float32(average + shift)
                spread = np.float32(np.sqrt(max(sums[2, row, b] / n - average * average, 0.0)))
            mean[row, b], sigma[row, b] = level, spread
    for values in (mean, sigma):
        for row in range(down):
            _median(values[row].copy(), values[row])
        for b in range(across):
            _median(values[:, b].copy(), values[:, b])
    for row in range(down):
        for b in range(across):
            if sigma[row, b] == 0:
                sigma[row, b] = -1


@numba.njit(cache=True, nogil=True)
def _median(line: Any, out: Any) -> None:
    """Median of each five neighbours of a line; its ends go on beyond the border."""
    n = line.size
    long = np.empty(n + 4, line.dtype)
    long[:2], long[2 : n + 2], long[n + 2 :] = line[0], line, line[n - 1]
    for x in range(n):
        a, b, c, d, e = long[x], long[x + 1], long[x + 2], long[x + 3], long[x + 4]
        a, b = min(a, b), max(a, b)
        d, e = min(d, e), max(d, e)
        low, high = max(a, d), min(b, e)  # the least and the largest of four cannot be the median
        out[x] = max(min(low, high), min(max(low, high), c))


@numba.njit(cache=True, nogil=True)
def _around(sums: Any, half: int, fewest: int, shift: float, mean: Any, sigma: Any) -> None:
    """Mean and sd over the window of blocks around each; sd −1 where the pixels are too few."""
    down, across = mean.shape
    near = np.zeros((3, across + 2 * half))  # sums over the rows of the window, with nothing beyond the border
    window = np.empty((3, across))
    for row in range(down):
        near[:] = 0
        window[:] = 0
        for k in range(3):
            for other in range(max(row - half, 0), min(row + half + 1, down)):
                _add_to(near[k, half : half + across], sums[k, other])
            for step in range(2 * half + 1):
                _add_to(window[k], near[k, step : step + across])
        for b in range(across):
            each = 1.0 / max(window[0, b], 1.0)
            average = window[1, b] * each
            spread = np.sqrt(max(window[2, b] * each - average * average, 0.0))
            mean[row, b] = average + shift
            sigma[row, b] = spread if window[0, b] >= fewest else -1.0  # not told


@numba.njit(cache=True, nogil=True)
def _add_to(total: Any, part: Any) -> None:
    for b in range(total.size):
        total[b] += part[b]


@numba.njit(cache=True, nogil=True)
def _limits(mean: Any, sigma: Any, clip: float, low: Any, high: Any) -> None:
    """Values of each block's pixels that do not stand out; any where its noise is not known."""
    for row in range(mean.shape[0]):
        for b in range(mean.shape[1]):
            reach = clip * sigma[row, b] + 1e-6 * (1 + abs(mean[row, b])) if sigma[row, b] >= 0 else LARGEST
            low[row, b] = mean[row, b] - reach
            high[row, b] = mean[row, b] + reach


@numba.njit(cache=True, nogil=True)
def _spread(mean: Any, sigma: Any, told: Any, floor: float) -> None:
    """Raise sd to its floor. Blocks that are not told become like their neighbours that are, so that one can read between."""
    down, across = mean.shape
    for row in range(down):
        for b in range(across):
            if told[row, b]:
                sigma[row, b] = max(sigma[row, b], np.float32(floor))
                continue
            n, level, spread = 0, 0.0, 0.0
            for v in range(max(row - 1, 0), min(row + 2, down)):
                for u in range(max(b - 1, 0), min(b + 2, across)):
                    if told[v, u]:
                        n += 1
                        level += mean[v, u]
                        spread += max(sigma[v, u], floor)
            mean[row, b], sigma[row, b] = level / max(n, 1), spread / max(n, 1)


@numba.njit(cache=True, nogil=True)
def _divide(
    pixels: Any, mask: Any, told: Any, mean: Any, sigma: Any, kernel: Any, enough: float, z: Any, known: Any, strength: Any
) -> None:
    """(pixel − mean) / sd, which pixels are known, and the matched filter: five filtered rows are kept, no map of them."""
    height, width = z.shape
    k0, k1, k2 = kernel[0], kernel[1], kernel[2]  # it is symmetric, of five
    w0, w1, w2 = k0 * k0, k1 * k1, k2 * k2
    least = np.float32(enough * (2 * w0 + 2 * w1 + w2) ** 2)
    rows, weight = np.zeros((5, width), np.float32), np.zeros((5, width), np.float32)
    first, second = np.empty(width, np.float32), np.empty(width, np.float32)
    good, looked = np.zeros(width, np.float32), np.zeros(width, np.bool_)
    strength[:2], strength[max(height - 2, 0) :] = 0, 0
    for y in range(height):
        if y % BLOCK_PX == 0:
            for x in range(width):
                looked[x] = told[y // BLOCK_PX, x // BLOCK_PX]
        _read_between(mean, y, first)
        _read_between(sigma, y, second)
        _row(pixels[y], mask[y], looked, first, second, z[y], known[y], good)
        _along(z[y], k0, k1, k2, rows[y % 5])
        _along(good, w0, w1, w2, weight[y % 5])
        if y >= 4:
            a, b, c, d, e = (y + 1) % 5, (y + 2) % 5, (y + 3) % 5, (y + 4) % 5, y % 5
            _filter(rows[a], rows[b], rows[c], rows[d], rows[e], k0, k1, k2, first)
            _filter(weight[a], weight[b], weight[c], weight[d], weight[e], w0, w1, w2, second)
            _ratio(first, second, known[y - 2], least, strength[y - 2])


@numba.njit(cache=True, nogil=True)
def _read_between(blocks: Any, y: int, out: Any) -> None:
    """Values (W,) of row y, linear between the centres of blocks and level beyond the outermost."""
    down, across = blocks.shape
    place = (y + 0.5) / BLOCK_PX - 0.5
    first = min(max(int(np.floor(place)), 0), down - 1)
    second = min(first + 1, down - 1)
    part = np.float32(min(max(place - first, 0.0), 1.0))
    line = np.empty(across + 2, np.float32)
    for b in range(across):
        line[b + 1] = blocks[first, b] + part * (blocks[second, b] - blocks[first, b])
    line[0], line[across + 1] = line[1], line[across]
    whole = out.size // BLOCK_PX
    for b in range(whole):
        before, here, after = line[b], line[b + 1], line[b + 2]
        out[4 * b] = here + NEAR * (before - here)
        out[4 * b + 1] = here + NEARER * (before - here)
        out[4 * b + 2] = here + NEARER * (after - here)
        out[4 * b + 3] = here + NEAR * (after - here)
    for x in range(whole * BLOCK_PX, out.size):
        out[x] = line[whole + 1]


@numba.njit(cache=True, nogil=True)
def _row(pixels: Any, mask: Any, looked: Any, mean: Any, sigma: Any, z: Any, known: Any, good: Any) -> None:
    """One row of z, of what is known as bool and as number."""
    for x in range(pixels.size):
        here = mask[x] & looked[x] & (abs(pixels[x]) <= LARGEST)
        known[x] = here
        good[x] = np.float32(1) if here else np.float32(0)
        z[x] = (pixels[x] - mean[x]) / max(sigma[x], np.float32(1e-9)) if here else np.float32(0)


@numba.njit(cache=True, nogil=True)
def _along(line: Any, outer: Any, inner: Any, middle: Any, out: Any) -> None:
    """A symmetric filter of five along a row; nothing is written to its two ends."""
    _filter(line[:-4], line[1:-3], line[2:-2], line[3:-1], line[4:], outer, inner, middle, out[2:-2])


@numba.njit(cache=True, nogil=True)
def _filter(a: Any, b: Any, c: Any, d: Any, e: Any, outer: Any, inner: Any, middle: Any, out: Any) -> None:
    """A symmetric filter of five across lines."""
    for x in range(out.size):
        out[x] = outer * (a[x] + e[x]) + inner * (b[x] + d[x]) + middle * c[x]


@numba.njit(cache=True, nogil=True)
def _ratio(total: Any, squares: Any, known: Any, least: Any, strength: Any) -> None:
    """One row of the matched filter: 0 where pixels are unknown, or too many around."""
    for x in range(total.size):
        enough = known[x] & (squares[x] > least)
        strength[x] = total[x] / np.sqrt(max(squares[x], least)) if enough else np.float32(0)
