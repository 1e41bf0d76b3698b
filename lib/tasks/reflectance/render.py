"""The micrograph of a scale: a height map of the geometry that the optics have, and how secondary electrons show it.

Real scales are less regular than a periodic cell: ridges wander, ribs are staggered, widths differ. Only what a microscope shows
comes in, and of what is hidden the air gap alone, as the depth of the floor seen through the windows. Nothing here needs optics.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lib.tasks.reflectance.config import COMMON_NM_PER_PX, IMAGE_PX
from lib.tasks.reflectance.scale import LATTICE_NM, Scale
from lib.threads import one_thread

MARGIN_PX = 24  # drawn around the image and cut off: what filters make of a rim
FAR_BELOW_NM = -1e9
TILT_DEG = 25.0  # the operator turns ridges about upright
SPOT_NM = 25.0  # σ of the beam's interaction
SURROUNDINGS_NM = 250.0  # σ of the neighbourhood that hides a dip
BEAD_HALF_AXES_NM = (95.0, 70.0)
BEADS_PER_CELL = 3.2
STRIAE_NM, MICRORIBS_NM = 70.0, 170.0
SCUTE_RIBS = 2.6  # length of a scute, in rib periods
NOISE_STEP = 0.75  # distance of the random points of smooth noise, in its σ
FLOAT = np.float32


@dataclass(frozen=True)
class _View:
    """A field of view: per pixel, the place across (`u_nm`) and along (`v_nm`) the ridges, with its wanderings."""

    scale: Scale
    rng: np.random.Generator
    nm_per_px: float
    angle_rad: float
    u_nm: np.ndarray
    v_nm: np.ndarray

    def noise(self, sigma_nm: float) -> np.ndarray:
        """Smooth Gaussian noise of variance 1."""
        return smooth_noise(len(self.u_nm), max(sigma_nm / self.nm_per_px, 0.8), self.rng)

    def lottery(self, *numbers: np.ndarray) -> np.ndarray:
        """A number between −1 and 1 for each pixel, the same wherever the whole `numbers` are the same."""
        lowest = [int(number.min()) for number in numbers]
        sizes = [int(number.max()) - low + 1 for number, low in zip(numbers, lowest)]
        table = self.rng.uniform(-1, 1, sizes).astype(FLOAT)
        return table[tuple(number - low for number, low in zip(numbers, lowest))]


def image(scale: Scale, rng: np.random.Generator, nm_per_px: float = COMMON_NM_PER_PX) -> np.ndarray:
    """One view of a scale as uint8 (256, 256), ridges roughly upright; each call looks at another place."""
    with one_thread():
        view = _look(scale, rng, nm_per_px)
        return _develop(_electrons(_relief(view), view), view)


def height_map(scale: Scale, rng: np.random.Generator, nm_per_px: float = COMMON_NM_PER_PX) -> np.ndarray:
    """Heights in nm (256, 256) of one view, 0 at the upper side of the cross-ribs; with the same `rng` that of `image`."""
    return _relief(_look(scale, rng, nm_per_px))[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


def smooth_noise(size_px: int, sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    """float32 noise (size, size) of variance 1, smooth over `sigma_px`: few random points, each spread by a Gaussian."""
    spread = _spread(size_px, round(sigma_px, 3))
    return spread @ rng.standard_normal((spread.shape[1], spread.shape[1]), dtype=FLOAT) @ spread.T


@functools.lru_cache(maxsize=64)
def _spread(size_px: int, sigma_px: float) -> np.ndarray:
    """Weights (size, points) of random points on the pixels of a line; the squares of each line add up to 1."""
    points = np.arange(-3 * sigma_px, size_px + 3 * sigma_px, NOISE_STEP * sigma_px)
    weights = np.exp(-0.5 * ((np.arange(size_px)[:, None] - points) / sigma_px) ** 2)
    weights[weights < 1e-6] = 0  # numbers too small for float32 make a processor slow
    return (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(FLOAT)


def _look(scale: Scale, rng: np.random.Generator, nm_per_px: float) -> _View:
    """A place on the scale: turned, shifted, and with ridges that wander."""
    size = IMAGE_PX + 2 * MARGIN_PX
    angle = math.radians(rng.uniform(-TILT_DEG, TILT_DEG))
    at = (np.arange(size, dtype=FLOAT) - size / 2) * FLOAT(nm_per_px)
    across, down = at[None, :], at[:, None]
    u = math.cos(angle) * across + math.sin(angle) * down + FLOAT(rng.uniform(0, 5000))
    v = -math.sin(angle) * across + math.cos(angle) * down + FLOAT(rng.uniform(0, 5000))
    for sigma_nm, share in ((1000.0, 0.035), (300.0, 0.01)):
        u += FLOAT(share * scale.ridge_period_nm) * smooth_noise(size, max(sigma_nm / nm_per_px, 0.8), rng)
    return _View(scale, rng, nm_per_px, angle, u, v)


# --- heights ----------------------------------------------------------------------------------------------------------
def _relief(view: _View) -> np.ndarray:
    """Height of what is seen from above, in nm: floor, cross-ribs, windows, beads, ridges."""
    floor = FLOAT(-(LATTICE_NM + view.scale.air_gap_nm)) + 12 * view.noise(75)
    height, along_rib = _lattice(view, floor)
    if view.scale.bead_density > 0:
        np.maximum(height, _beads(view, along_rib), out=height)
    return _ridges(view, height)


def _lattice(view: _View, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Floor with cross-ribs and closed windows on it; and the distance of each pixel from the middle of its rib, in nm."""
    scale, u = view.scale, view.u_nm
    period, rib_period = FLOAT(scale.ridge_period_nm), FLOAT(scale.rib_period_nm)
    cell = np.floor(u / period).astype(np.intp)  # windows between the same two ridges
    bend = 0.10 * rib_period * np.sin((2 * np.pi / period) * u + FLOAT(view.rng.uniform(0, 2 * np.pi)))
    along = view.v_nm + rib_period * view.lottery(cell) + bend
    number = np.floor(along / rib_period + FLOAT(0.5)).astype(np.intp)
    distance = along - number.astype(FLOAT) * rib_period - 0.16 * rib_period * view.lottery(number, cell)
    from_middle = np.abs(u - (cell.astype(FLOAT) + FLOAT(0.5)) * period)  # of the windows
    flare = 1 + 0.8 * np.clip(from_middle / (period / 2) - FLOAT(0.55), 0, 1)  # ribs widen towards ridges
    half = scale.rib_width_nm / 2 * (1 + 0.25 * view.lottery(number, cell)) * flare
    rib = _rounded(distance / half)
    closed = from_middle > (period - scale.ridge_width_nm) / 2 * (1 - scale.window_fill) + 8 * view.noise(100)
    height = np.where(closed, -75 + 4 * view.noise(75), floor)
    return np.where(rib > 0, np.maximum(height, 60 * rib - 60), height), distance


def _rounded(ratio: np.ndarray) -> np.ndarray:
    """Height of a rounded bar, 1 in its middle and 0 from `ratio` ±1 outwards."""
    squared = ratio * ratio
    return np.sqrt(np.clip(1 - squared * squared, 0, None))


def _beads(view: _View, along_rib: np.ndarray) -> np.ndarray:
    """Height of ellipsoidal beads that hang from the cross-ribs at all angles; far below where there is none."""
    scale, rng, size = view.scale, view.rng, len(along_rib)
    cells = (size * view.nm_per_px) ** 2 / (scale.ridge_period_nm * scale.rib_period_nm)
    row, column = rng.integers(0, size, (2, round(3 * BEADS_PER_CELL * scale.bead_density * cells)))
    hung = np.flatnonzero(np.abs(along_rib[row, column]) < 0.42 * scale.rib_period_nm)[: len(row) // 3]
    row, column = row[hung], column[hung]
    unit = math.sqrt(scale.bead_density) / view.nm_per_px
    half = np.array(BEAD_HALF_AXES_NM) * unit * rng.uniform(0.8, 1.2, (len(row), 2))
    turn = view.angle_rad + np.pi / 2 + 0.5 * rng.normal(size=len(row))
    reach = math.ceil(BEAD_HALF_AXES_NM[0] * unit * 1.2)
    dy, dx = (grid.ravel() for grid in np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(FLOAT))
    cos, sin = (f(turn).astype(FLOAT)[:, None] for f in (np.cos, np.sin))
    half = half.astype(FLOAT)
    inside = 1 - ((cos * dx + sin * dy) / half[:, :1]) ** 2 - ((cos * dy - sin * dx) / half[:, 1:]) ** 2
    bead, pixel = np.nonzero(inside > 0)
    top = -150 + rng.uniform(-60, 60, len(row)).astype(FLOAT)[bead] + 80 * np.sqrt(inside[bead, pixel])
    at = (row[bead] + dy[pixel].astype(np.intp)), (column[bead] + dx[pixel].astype(np.intp))
    there = (at[0] >= 0) & (at[0] < size) & (at[1] >= 0) & (at[1] < size)
    height = np.full((size, size), FAR_BELOW_NM, FLOAT)
    np.maximum.at(height, (at[0][there], at[1][there]), top[there])
    return height


def _ridges(view: _View, height: np.ndarray) -> np.ndarray:
    """Ridges over everything: rounded tops with overlapping scutes and fine striae, flanks with micro-ribs, shelves."""
    scale, v = view.scale, view.v_nm
    period, rise = FLOAT(scale.ridge_period_nm), FLOAT(scale.ridge_height_nm)
    number = np.floor(view.u_nm / period + FLOAT(0.5)).astype(np.intp)
    du = view.u_nm - number.astype(FLOAT) * period - 0.06 * period * view.lottery(number)
    width = scale.ridge_width_nm * (1 + 0.12 * view.lottery(number)) * (1 + 0.05 * view.noise(225))
    from_middle = np.abs(du)
    if scale.n_shelves:
        height = _shelves(scale, from_middle, width, height)
    slope = 0.16 * period + 0.25 * min(rise, FLOAT(800))
    shoulder = np.clip(1 - (from_middle - width / 2) / slope, 0, 1)
    flank = 0.55 * rise * shoulder * shoulder + 18 * np.sin((2 * np.pi / MICRORIBS_NM) * v) * (shoulder > 0.2)
    seen = (shoulder > 0.35) | ((shoulder > 0.02) & (height > -140))
    height = np.where(seen, np.maximum(height, flank), height)
    scute_nm = FLOAT(SCUTE_RIBS * scale.rib_period_nm)
    scute = np.mod(v + 3 * np.abs(du + 0.12 * scale.ridge_width_nm) + 25 * view.noise(125), scute_nm) / scute_nm
    striae = np.sin((2 * np.pi / STRIAE_NM) * (du + 0.1 * v) + 2 * view.noise(250))
    rounded = _rounded(2 * du / width)
    top = rise * (0.75 + 0.25 * rounded) + 70 * scute + 9 * striae * (rounded > 0.3)
    return np.where(from_middle < width / 2, np.maximum(height, top), height).astype(FLOAT)


def _shelves(scale: Scale, from_middle: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Shelves beside the ridge; from above the upper ones are seen, each a little shorter than the one below."""
    steps = min(scale.n_shelves, 4)
    reach = np.clip((from_middle - width / 2) / (0.24 * scale.ridge_period_nm), 0, 0.999)
    level = np.floor(reach * steps) / steps
    inside = from_middle < np.minimum(0.42 * scale.ridge_period_nm, width / 2 + 0.24 * scale.ridge_period_nm)
    return np.where(inside, np.maximum(height, scale.ridge_height_nm * (1 - 0.8 * level) - 30), height)


# --- secondary electrons ----------------------------------------------------------------------------------------------
def _electrons(height: np.ndarray, view: _View) -> np.ndarray:
    """Yield of secondary electrons: steep and high places shine, dips and deep windows are dark, one side faces the detector."""
    z = ndimage.gaussian_filter(height, SPOT_NM / view.nm_per_px, mode="nearest")
    down, right = np.gradient(z, FLOAT(view.nm_per_px))
    steep = np.minimum(np.sqrt(1 + down * down + right * right), 4.5)
    box = max(3, round(2 * SURROUNDINGS_NM / view.nm_per_px))
    around = z
    for _ in range(3):  # three boxes are nearly a Gaussian
        around = ndimage.uniform_filter(around, box, mode="nearest")
    shadow = 1 / (1 + np.exp((around - z - 150) / 170))
    escape = np.exp(np.minimum(z, 0) / FLOAT(420 + 0.25 * view.scale.rib_period_nm))
    side = view.rng.uniform(0, 2 * np.pi)
    facing = 1 + 0.18 * (right * math.cos(side) + down * math.sin(side)) / steep
    light = 0.22 + 0.30 * steep ** FLOAT(0.8) + 0.16 * np.clip(z / 500, 0, 1.2)
    return light * (0.25 + 0.75 * shadow) * (0.12 + 0.88 * escape) * facing


def _develop(signal: np.ndarray, view: _View) -> np.ndarray:
    """The image as it is stored: texture, focus, charging, shot noise, and the operator's contrast and brightness."""
    rng = view.rng
    signal = signal * (1 + 0.05 * view.noise(1.2 * view.nm_per_px))
    sharp = ndimage.gaussian_filter(signal, rng.uniform(0.5, 1.1), mode="nearest")[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    level = sharp / np.percentile(sharp[::2, ::2], 99.3)
    charging = 1 + 0.08 * rng.normal() * np.linspace(-1, 1, IMAGE_PX, dtype=FLOAT)[:, None]
    lines = 0.01 * rng.standard_normal((IMAGE_PX, 1), dtype=FLOAT)
    level = np.clip(level * charging + lines, 0, 3)
    dose = rng.uniform(60, 220)  # electrons counted at level 1
    level = level + np.sqrt((level + 4 / dose) / dose) * rng.standard_normal(level.shape, dtype=FLOAT) + 4 / dose
    level = np.clip((level - 0.5) * rng.uniform(0.85, 1.15) + 0.5 + 0.04 * rng.normal(), 0, 1) ** FLOAT(rng.uniform(0.85, 1.2))
    return np.round(level * 235 + 8).astype(np.uint8)
