"""From a frame to candidates: the background taken away and its noise divided out, then everything that stands out.

What is left does not depend on offset, gain or units of the detector, so that one network serves them all. Compiled: a frame of a
million pixels takes some ten milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from lib.tasks.bragg.frames import Frame

HALF_WINDOW_PX = 10  # the background is taken from 21 × 21 pixels around each one
PASSES = 3  # the first sees the spots too, the others leave out what stood out in the one before
CLIP_SIGMA = 3.5
FEWEST = 40  # good pixels that tell a background; with fewer, a pixel is not looked at
FLOOR = 1e-3  # of the noise, relative to the largest one, where all counts are alike
KERNEL = np.exp(-0.5 * (np.arange(-2, 3) / 0.85) ** 2)  # the cut through a spot of two pixels' width


@dataclass(frozen=True)
class Whitened:
    """A frame in units of its own noise: z (H, W) float32 is 0 where nothing is known; mean and sigma as in the frame."""

    z: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    known: np.ndarray  # bool: good pixels whose background is known


def whiten(frame: Frame) -> Whitened:
    """Mean and standard deviation of the good pixels in a window around each, spots left out, and the frame in their units."""
    recorded = np.ascontiguousarray(frame.pixels, np.float32)
    pixels, known = np.empty_like(recorded), np.empty(recorded.shape, np.bool_)
    _prepare(recorded, frame.mask, pixels, known)
    mean, sigma = np.empty_like(pixels), np.empty_like(pixels)
    used = known.copy()
    for turn in range(PASSES):
        _local(pixels, used, HALF_WINDOW_PX, FEWEST, mean, sigma)
        if turn < PASSES - 1:
            _clip(pixels, known, mean, sigma, CLIP_SIGMA, used)
    z = np.empty_like(pixels)
    _divide(pixels, known, mean, sigma, z)
    return Whitened(z, mean, sigma, known)


@numba.njit(cache=True, nogil=True)
def _prepare(recorded: Any, mask: Any, pixels: Any, known: Any) -> None:
    """Which pixels are known, and 0 at the others."""
    height, width = recorded.shape
    for y in range(height):
        for x in range(width):
            good = mask[y, x] and np.isfinite(recorded[y, x])
            known[y, x] = good
            pixels[y, x] = recorded[y, x] if good else np.float32(0)


@numba.njit(cache=True, nogil=True)
def _local(pixels: Any, used: Any, half: int, fewest: int, mean: Any, sigma: Any) -> None:
    """Mean and sd over the window of used pixels; sd −1 where they are too few.

    Column sums slide down, their sums over the window slide along the row: no cost grows with the window. Loops have no branches,
    so that they are done several pixels at a time.
    """
    height, width = pixels.shape
    shift = np.float32(_typical(pixels, used))  # squares of small differences keep their digits
    sums = np.zeros((3, width))  # count, sum and sum of squares of each column's pixels in the window
    slide = np.zeros((3, width + 2 * half + 1))
    for row in range(-half, height):
        if row + half < height:
            _add(pixels[row + half], used[row + half], shift, 1.0, sums)
        if row - half - 1 >= 0:
            _add(pixels[row - half - 1], used[row - half - 1], shift, -1.0, sums)
        if row >= 0:
            for k in range(3):
                total = 0.0
                for x in range(width):
                    total += sums[k, x]
                    slide[k, x + half + 1] = total
                for x in range(width + half + 1, width + 2 * half + 1):
                    slide[k, x] = total
            _finish(slide, 2 * half + 1, fewest, shift, mean[row], sigma[row])


@numba.njit(cache=True, nogil=True)
def _add(pixels: Any, used: Any, shift: Any, sign: float, sums: Any) -> None:
    """Add one row to the column sums, or take it away."""
    for x in range(pixels.size):
        here = sign * used[x]
        value = float(pixels[x] - shift)
        sums[0, x] += here
        sums[1, x] += here * value
        sums[2, x] += here * value * value


@numba.njit(cache=True, nogil=True)
def _finish(slide: Any, size: int, fewest: int, shift: Any, mean: Any, sigma: Any) -> None:
    """Mean and sd of one row from running totals of its column sums."""
    for x in range(mean.size):
        n = slide[0, x + size] - slide[0, x]
        share = 1.0 / max(n, 1.0)
        average = (slide[1, x + size] - slide[1, x]) * share
        spread = np.float32((slide[2, x + size] - slide[2, x]) * share - average * average)
        mean[x] = np.float32(average) + shift
        sigma[x] = np.sqrt(max(np.float32(0), spread)) if n >= fewest else np.float32(-1)


@numba.njit(cache=True, nogil=True)
def _typical(pixels: Any, used: Any) -> float:
    """Mean of every 97th used pixel."""
    flat, good = pixels.ravel(), used.ravel()
    total, n = 0.0, 0
    for i in range(0, flat.size, 97):
        if good[i]:
            total += flat[i]
            n += 1
    return total / n if n else 0.0


@numba.njit(cache=True, nogil=True)
def _clip(pixels: Any, known: Any, mean: Any, sigma: Any, clip: float, used: Any) -> None:
    """Leave out what stands out, and put back what no longer does."""
    height, width = pixels.shape
    for y in range(height):
        for x in range(width):
            used[y, x] = known[y, x] and (sigma[y, x] < 0 or abs(pixels[y, x] - mean[y, x]) <= clip * sigma[y, x] + 1e-6)


@numba.njit(cache=True, nogil=True)
def _divide(pixels: Any, known: Any, mean: Any, sigma: Any, z: Any) -> None:
    """(pixel − mean) / sd; pixels without a background become unknown, with mean, sd and z of 0."""
    height, width = pixels.shape
    largest = np.float32(0)
    for y in range(0, height, 8):
        for x in range(width):
            largest = max(largest, sigma[y, x])
    floor = max(largest * np.float32(FLOOR), np.float32(1e-6))
    for y in range(height):
        for x in range(width):
            told = sigma[y, x] >= 0
            known[y, x] = known[y, x] and told
            mean[y, x] = mean[y, x] if told else np.float32(0)
            sigma[y, x] = sigma[y, x] if told else np.float32(0)
            share = np.float32(1) / max(sigma[y, x], floor)
            z[y, x] = (pixels[y, x] - mean[y, x]) * share if known[y, x] else np.float32(0)


def matched(white: Whitened) -> np.ndarray:
    """float32 (H, W): how far a spot of KERNEL's width at each pixel stands out of the noise, in its standard deviations."""
    kernel = KERNEL.astype(np.float32)
    return np.asarray(_matched(white.z, white.known, kernel))


@numba.njit(cache=True, nogil=True)
def _matched(z: Any, known: Any, kernel: Any) -> Any:
    """Σ k z / sqrt(Σ k²) over known pixels (z is 0 at the others): rows first, then columns; 0 at the border of two pixels."""
    height, width = z.shape
    k0, k1, k2 = kernel[0], kernel[1], kernel[2]  # it is symmetric, of five
    w0, w1, w2 = k0 * k0, k1 * k1, k2 * k2
    rows = np.zeros((height, width), np.float32)
    weight = np.zeros((height, width), np.float32)
    for y in range(height):
        line, good, out, there = z[y], known[y], rows[y], weight[y]
        for x in range(2, width - 2):
            out[x] = k0 * (line[x - 2] + line[x + 2]) + k1 * (line[x - 1] + line[x + 1]) + k2 * line[x]
        for x in range(2, width - 2):
            outer, inner = np.float32(good[x - 2]) + np.float32(good[x + 2]), np.float32(good[x - 1]) + np.float32(good[x + 1])
            there[x] = w0 * outer + w1 * inner + w2 * np.float32(good[x])
    least = np.float32(0.35) * (2 * w0 + 2 * w1 + w2) ** 2
    strength = np.zeros((height, width), np.float32)
    for y in range(2, height - 2):
        for x in range(2, width - 2):
            s = k0 * (rows[y - 2, x] + rows[y + 2, x]) + k1 * (rows[y - 1, x] + rows[y + 1, x]) + k2 * rows[y, x]
            w = w0 * (weight[y - 2, x] + weight[y + 2, x]) + w1 * (weight[y - 1, x] + weight[y + 1, x]) + w2 * weight[y, x]
            enough = np.float32(known[y, x]) * np.float32(w > least)
            strength[y, x] = enough * s / np.sqrt(max(w, least))
    return strength
