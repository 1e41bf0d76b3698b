"""What touching pixels measure: their groups, the background around them, and the columns that every finder returns.

A state map (H, W) uint8 says of each pixel what it is to the finder: BACKGROUND, STRONG (may be part of a peak) or NEITHER (bad,
between panels, outside the resolution limits).
"""

from __future__ import annotations

import numba
import numpy as np
import pandas as pd

from lib.tasks.bragg.geometry import Geometry

COLUMNS = ("y_px", "x_px", "intensity", "snr", "n_pixels", "max_value", "background", "sigma")
BACKGROUND, STRONG, NEITHER, USED = 0, 1, 2, 3
LEAST_SIGMA = 0.01  # of a background that is flat or hidden, as the field's programs have it
Groups = tuple[np.ndarray, np.ndarray, np.ndarray]
compiled = numba.njit(cache=True, error_model="numpy")


def as_peaks(rows: np.ndarray) -> pd.DataFrame:
    """Rows (n, 8) of COLUMNS as what every finder returns.

    Centroid weighted by value (`y_px`, `x_px`); sum over the background (`intensity`) and its ratio to the spread of one
    background pixel (`snr`, not divided by √n); `n_pixels`; highest pixel over the background (`max_value`); mean and standard
    deviation of the pixels around (`background`, `sigma`). Values are in the unit of the pixels.
    """
    columns = {name: rows[:, k] for k, name in enumerate(COLUMNS)}
    return pd.DataFrame({**columns, "n_pixels": columns["n_pixels"].astype(np.int64)})


def panels(geometry: Geometry) -> np.ndarray:
    """int64 (panels, 4): y0, y1, x0, x1 of each module; no peak reaches from one into another."""
    return np.array([(m.y0, m.y1, m.x0, m.x1) for m in geometry.modules], np.int64).reshape(-1, 4)


@compiled
def groups(state: np.ndarray, rectangles: np.ndarray, smallest: int, largest: int) -> Groups:
    """STRONG pixels that touch by sides or corners inside a panel, `smallest` to `largest` of them, in raster order.

    A group begins at a pixel off its panel's outermost rows and columns, and may grow onto them. Returns flat indices of all
    members, where each group starts among them (n + 1,) and its panel (n,). Leaves STRONG pixels that it saw marked USED.
    """
    members, starts, homes = np.empty(4096, np.int64), np.zeros(257, np.int64), np.empty(256, np.int64)
    n = 0
    for p in range(len(rectangles)):
        panel = rectangles[p]
        for y in range(panel[0] + 1, panel[1] - 1):
            for x in range(panel[2] + 1, panel[3] - 1):
                if state[y, x] != STRONG:
                    continue
                end, members = grow(y, x, state, panel, members, starts[n])
                if smallest <= end - starts[n] <= largest:
                    if n == len(homes):
                        homes = np.concatenate((homes, np.empty_like(homes)))
                        starts = np.concatenate((starts, np.zeros(n, np.int64)))
                    homes[n] = p
                    n += 1
                    starts[n] = end
    return members[: starts[n]].copy(), starts[: n + 1].copy(), homes[:n].copy()


@compiled
def grow(y: int, x: int, state: np.ndarray, panel: np.ndarray, members: np.ndarray, start: int) -> tuple[int, np.ndarray]:
    """Write flat indices of the group at (y, x) to `members` from `start` on: where they end, and the array, grown if full."""
    width = state.shape[1]
    if start == len(members):
        members = np.concatenate((members, np.empty_like(members)))
    members[start], done, end = y * width + x, start, start + 1
    state[y, x] = USED
    while done < end:
        cy, cx = members[done] // width, members[done] % width
        done += 1
        for j in range(max(cy - 1, panel[0]), min(cy + 2, panel[1])):
            for i in range(max(cx - 1, panel[2]), min(cx + 2, panel[3])):
                if state[j, i] != STRONG:
                    continue
                state[j, i] = USED
                if end == len(members):
                    members = np.concatenate((members, np.empty_like(members)))
                members[end] = j * width + i
                end += 1
    return end, members


@compiled
def measured(
    pixels: np.ndarray,
    state: np.ndarray,
    found: Groups,
    rectangles: np.ndarray,
    centres: np.ndarray,
    fallback: np.ndarray,
    local_bg_radius: int,
) -> np.ndarray:
    """Rows (n, 9): COLUMNS, and the highest background pixel over the background.

    `centres` (n, 2) whole-number y, x to measure the background around; `fallback` (n,) the background where none is in sight.
    """
    members, starts, homes = found
    rows, width = np.empty((len(homes), 9)), pixels.shape[1]
    for k in range(len(homes)):
        panel = rectangles[homes[k]]
        count, level, sigma, top = surroundings(centres[k, 0], centres[k, 1], pixels, state, panel, 2 * local_bg_radius)
        if count == 0:
            level, top = fallback[k], fallback[k]
        sigma = sigma if sigma > 0 else LEAST_SIGMA
        raw, sum_y, sum_x, highest = 0.0, 0.0, 0.0, -np.inf
        for m in members[starts[k] : starts[k + 1]]:
            y, x = m // width, m % width
            v = np.float64(pixels[y, x])
            raw += v
            sum_y += v * y
            sum_x += v * x
            highest = max(highest, v)
        n = starts[k + 1] - starts[k]
        intensity = raw - level * n
        rows[k] = np.array(
            [sum_y / raw, sum_x / raw, intensity, intensity / sigma, n, highest - level, level, sigma, top - level]
        )
    return rows


@compiled
def surroundings(
    cy: int, cx: int, pixels: np.ndarray, state: np.ndarray, panel: np.ndarray, reach: int
) -> tuple[int, float, float, float]:
    """Number, mean, standard deviation and highest value of the BACKGROUND pixels of a panel within `reach` of a pixel.

    The disk lacks its last row and column, one pixel each: so the field's programs measure it, and results stay comparable.
    """
    count, total, squares, highest = 0, 0.0, 0.0, -np.inf
    for j in range(max(cy - reach, panel[0]), min(cy + reach, panel[1])):
        for i in range(max(cx - reach, panel[2]), min(cx + reach, panel[3])):
            if state[j, i] == BACKGROUND and (j - cy) ** 2 + (i - cx) ** 2 <= reach * reach:
                v = np.float64(pixels[j, i])
                count += 1
                total += v
                squares += v * v
                highest = max(highest, v)
    if count == 0:
        return 0, 0.0, 0.0, 0.0
    level = total / count
    return count, level, np.sqrt(max(squares / count - level * level, 0.0)), highest


def inside(rows: np.ndarray, found: Groups, rectangles: np.ndarray) -> np.ndarray:
    """Whether, as bool (n,), the centroid is in its panel; of pixels that are partly negative it can lie anywhere."""
    panel = rectangles[found[2]]
    y, x = rows[:, 0], rows[:, 1]
    return (y >= panel[:, 0]) & (y <= panel[:, 1] - 1) & (x >= panel[:, 2]) & (x <= panel[:, 3] - 1)
