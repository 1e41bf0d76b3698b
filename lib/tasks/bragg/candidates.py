"""Everything in a frame that may be a Bragg peak: where it is, how strong, and the patch of pixels that the network judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pandas as pd

from lib.task import Samples
from lib.tasks.bragg import zmap
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry

HALF_PATCH_PX = 7
PATCH_PX = 2 * HALF_PATCH_PX + 1
GAP_LOW, GAP_HIGH = HALF_PATCH_PX - 2, HALF_PATCH_PX + 3  # of a patch: a masked pixel in there is beside the candidate
APART_PX = 2  # a candidate is the largest within this distance in rows and columns
LEAST = 4.0  # how far a candidate must stand out of the noise, in widths of the matched filter's own noise
SPOT_SIGMA = 2.0  # pixels of a spot stand out by that much
MOST = 4096  # per frame, the strongest ones: a crystal gives some hundred
COLUMNS = ("y_px", "x_px", "intensity", "snr", "n_pixels", "max_value", "background", "sigma")
NOISE_PIXELS = 20_000  # so many, spread over the frame, tell the noise
NOISE_RANGE = (0.8, 5.0)  # of its width; where photons are rare, most of the filter's values are alike
NOISE_QUANTILES = (0.16, 0.5)  # their distance is one standard deviation of a normal distribution


@dataclass(frozen=True)
class Candidates:
    """The n candidates of one frame, strongest first.

    `table` has COLUMNS and `row_px`, `column_px`, the pixel that is largest; `patch` is float32 (n, 2, 15, 15): asinh of z, and 1
    where a pixel is known; `context` float32 (n, 2): how far it stands out, and how correlated the noise of its frame is.
    """

    table: pd.DataFrame
    patch: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Seen:
    """A frame's readings, the frame in units of its noise, and where the beam is."""

    pixels: np.ndarray
    white: zmap.Whitened
    noise: float  # width of the matched filter's noise
    geometry: Geometry

    def places(self, least: float = LEAST) -> np.ndarray:
        """(n, 2) int: the pixels that stand out, strongest first, but for those where the direct beam is."""
        strength = self.white.strength
        rows, columns = _peaks(strength, self.white.known, least * self.noise, APART_PX)
        reflected = ~self.geometry.at_beam(rows, columns)
        rows, columns = rows[reflected], columns[reflected]
        order = np.argsort(-strength[rows, columns], kind="stable")[:MOST]
        return np.stack([rows[order], columns[order]], axis=1)

    def at(self, place: np.ndarray) -> Candidates:
        """What stands at the pixels of place (n, 2), whatever it is; those outside the frame are moved to its border."""
        columns, patch, context = self.told(place)
        return Candidates(pd.DataFrame(columns), patch, context)

    def told(self, place: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The parts of `at`: columns of its table, patch, context."""
        white = self.white
        place = np.clip(np.rint(place), 0, np.array(white.z.shape) - 1).astype(np.int64)
        background = read_blocks(white.mean, white.sigma, place)
        measured = _measure(self.pixels, white.z, white.known, background, place, SPOT_SIGMA, HALF_PATCH_PX)
        peak = white.strength[place[:, 0], place[:, 1]] / np.float32(self.noise)
        context = np.stack([np.arcsinh(peak), np.full(len(peak), np.log(self.noise))], axis=1).astype(np.float32)
        columns = {name: measured[:, k] for k, name in enumerate(COLUMNS)}
        return {**columns, "row_px": place[:, 0], "column_px": place[:, 1]}, patches(white, place), context


def see(frame: Frame) -> Seen:
    """The frame, whitened and filtered."""
    white = zmap.whiten(frame)
    return Seen(np.ascontiguousarray(frame.pixels, np.float32), white, noise_width(white.strength, white.known), frame.geometry)


def find(frame: Frame) -> Candidates:
    """Everything in a frame that stands out."""
    seen = see(frame)
    return seen.at(seen.places())


def samples_at(frame: Frame, seen: Seen, place: np.ndarray, proposed: np.ndarray, n_candidates: int) -> Samples:
    """What stands at the pixels of place (n, 2) as samples, one row each; `proposed` (n,) says which of them stand out.

    Columns beside COLUMNS: where it is, its resolution, and of the whole frame what tells whether a model knows its kind.
    """
    columns, patch, context = seen.told(place)
    n, megapixels = len(patch), max(1, int(np.count_nonzero(frame.mask))) / 1e6
    around = patch[:, 1, GAP_LOW:GAP_HIGH, GAP_LOW:GAP_HIGH]
    frame_alike = {"noise": seen.noise, "per_mpx": n_candidates / megapixels, "megapixels": megapixels}
    columns |= {
        "file": np.full(n, frame.file, object), "frame": np.full(n, frame.number), "note": np.full(n, "", object),
        "proposed": proposed, "resolution_angstrom": frame.geometry.resolution_angstrom(columns["y_px"], columns["x_px"]),
        **{name: np.full(n, value) for name, value in frame_alike.items()}, "beside_gap": around.min(axis=(1, 2)) < 1,
    }  # fmt: skip
    small = {name: values.astype(np.float32) if values.dtype == np.float64 else values for name, values in columns.items()}
    return Samples({"patch": patch, "context": context}, pd.DataFrame(small))  # there are hundreds of rows in every frame


def nothing(file: str, number: int, note: str) -> Samples:
    """The one row of a frame that has no candidates because it could not be read."""
    table = pd.DataFrame({name: [0.0] for name in COLUMNS}).assign(
        row_px=0, column_px=0, file=file, frame=number, note=note, proposed=False,
        resolution_angstrom=np.nan, noise=np.nan, per_mpx=np.nan, megapixels=np.nan, beside_gap=False,
    )  # fmt: skip
    inputs = {"patch": np.zeros((1, 2, PATCH_PX, PATCH_PX), np.float32), "context": np.zeros((1, 2), np.float32)}
    return Samples(inputs, table)


def noise_width(strength: np.ndarray, known: np.ndarray) -> float:
    """Standard deviation of the matched filter off the spots: 1 for independent pixels, more where they share noise."""
    step = max(1, int((strength.size / NOISE_PIXELS) ** 0.5))
    values = strength[::step, ::step][known[::step, ::step]]
    if not values.size:
        return 1.0
    low, middle = np.quantile(values, NOISE_QUANTILES)
    return float(np.clip(middle - low, *NOISE_RANGE))


def patches(white: zmap.Whitened, place: np.ndarray) -> np.ndarray:
    """float32 (n, 2, 15, 15) around each pixel of place (n, 2): asinh z, and 1 where it is known; beyond the border 0."""
    out = np.zeros((len(place), 2, PATCH_PX, PATCH_PX), np.float32)
    _cut(white.z, white.known, place, HALF_PATCH_PX, out)
    np.arcsinh(out[:, 0], out=out[:, 0])
    return out


@numba.njit(cache=True, nogil=True)
def _cut(z: Any, known: Any, place: Any, half: int, out: Any) -> None:
    height, width = z.shape
    for i in range(place.shape[0]):
        for dy in range(-half, half + 1):
            y = place[i, 0] + dy
            if y < 0 or y >= height:
                continue
            for dx in range(-half, half + 1):
                x = place[i, 1] + dx
                if 0 <= x < width and known[y, x]:
                    out[i, 0, dy + half, dx + half] = z[y, x]
                    out[i, 1, dy + half, dx + half] = 1.0


@numba.njit(cache=True, nogil=True)
def _peaks(strength: Any, known: Any, least: float, apart: int) -> Any:
    """Pixels of at least `least` that are the largest around; of equal ones the first."""
    height, width = strength.shape
    rows, columns = [], []
    for y in range(height):
        for x in range(width):
            value = strength[y, x]
            if value < least or not known[y, x]:
                continue
            largest = True
            for dy in range(-apart, apart + 1):
                for dx in range(-apart, apart + 1):
                    if (dy or dx) and 0 <= y + dy < height and 0 <= x + dx < width:
                        other = strength[y + dy, x + dx]
                        if other > value or (other == value and (dy < 0 or (dy == 0 and dx < 0))):
                            largest = False
            if largest:
                rows.append(y)
                columns.append(x)
    return np.array(rows, np.int64), np.array(columns, np.int64)


@numba.njit(cache=True, nogil=True)
def read_blocks(mean: Any, sigma: Any, place: Any) -> Any:
    """Background and noise (n, 2) at the pixels of place (n, 2), linear between the centres of the blocks of `zmap`."""
    out = np.zeros((place.shape[0], 2))
    for i in range(place.shape[0]):
        v = min(max((place[i, 0] + 0.5) / zmap.BLOCK_PX - 0.5, 0.0), mean.shape[0] - 1.0)
        u = min(max((place[i, 1] + 0.5) / zmap.BLOCK_PX - 0.5, 0.0), mean.shape[1] - 1.0)
        row, column = min(int(v), mean.shape[0] - 1), min(int(u), mean.shape[1] - 1)
        below, right = min(row + 1, mean.shape[0] - 1), min(column + 1, mean.shape[1] - 1)
        for k, blocks in enumerate((mean, sigma)):
            upper = blocks[row, column] + (u - column) * (blocks[row, right] - blocks[row, column])
            lower = blocks[below, column] + (u - column) * (blocks[below, right] - blocks[below, column])
            out[i, k] = upper + (v - row) * (lower - upper)
    return out


@numba.njit(cache=True, nogil=True)
def _measure(pixels: Any, z: Any, known: Any, background: Any, place: Any, least: float, half: int) -> Any:
    """COLUMNS of each place: of the pixels that are joined to it, each no higher than the one before, and stand out.

    Going only downhill keeps a spot apart from its neighbour. The 3 × 3 pixels around always count.
    """
    height, width = z.shape
    size = 2 * half + 1
    out = np.zeros((place.shape[0], 8))
    stack = np.empty((size * size, 2), np.int64)
    for i in range(place.shape[0]):
        y0, x0, sigma = place[i, 0], place[i, 1], background[i, 1]
        seen = np.zeros((size, size), np.bool_)
        seen[half, half] = True
        stack[0, 0], stack[0, 1] = y0, x0
        waiting, n, total, sy, sx, largest = 1, 0, 0.0, 0.0, 0.0, -np.inf
        while waiting:
            waiting -= 1
            y, x = stack[waiting, 0], stack[waiting, 1]
            net = z[y, x] * sigma
            n += 1
            total += net
            weight = max(net, 0.0)
            sy += weight * (y - y0)
            sx += weight * (x - x0)
            out[i, 7] += weight
            largest = max(largest, pixels[y, x])
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    v, u = y + dy, x + dx
                    a, b = v - y0 + half, u - x0 + half
                    if not (0 <= v < height and 0 <= u < width and 0 <= a < size and 0 <= b < size):
                        continue
                    if seen[a, b] or not known[v, u]:
                        continue
                    near = abs(v - y0) <= 1 and abs(u - x0) <= 1
                    if near or (z[v, u] >= least and z[v, u] <= z[y, x] + 1.0):
                        seen[a, b] = True
                        stack[waiting, 0], stack[waiting, 1] = v, u
                        waiting += 1
        weight = out[i, 7]
        out[i, 0] = y0 + (sy / weight if weight > 0 else 0.0)
        out[i, 1] = x0 + (sx / weight if weight > 0 else 0.0)
        out[i, 2] = total
        out[i, 3] = total / (sigma * np.sqrt(n)) if sigma > 0 else 0.0
        out[i, 4] = n
        out[i, 5] = largest
        out[i, 6], out[i, 7] = background[i]
    return out
