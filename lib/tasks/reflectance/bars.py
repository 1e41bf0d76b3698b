"""What instruments and people print into micrographs: information bars below them, scale bars inside."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SEARCHED = 0.3  # of the height, from below
LEAST_ROWS, LEAST_SHARE = 8, 0.02  # of a bar: rows, and share of the height
REACHES = 0.9  # of the height: a bar ends below
PLAIN = 0.6  # of a bar's row: pixels that equal their left neighbour
WHITE, BLACK = 240, 5  # levels of a scale bar
LONG, FULL = 6.0, 0.9  # of a scale bar: width over height, share of its box
LOOKED_PX = 768  # a scale bar is looked for in a picture of about this side


def find_info_bar(levels: np.ndarray) -> int:
    """Rows (of uint8 (h, w)) at the lower edge that an information bar takes with what lies below it; 0 where there is none.

    Text on plain ground has mostly pixels that equal their neighbour, a micrograph has noise. A bar is a run of such rows in the
    lower part that reaches the edge or nearly so; above it rows must be noisier.
    """
    height = levels.shape[0]
    first = int(height * (1 - SEARCHED))
    above = _plain(levels[: max(first, 1) : 4])
    usual = float(np.median(above)) if above.size else 1.0
    limit = max(PLAIN, usual + 0.3 * (1 - usual))
    if usual > 0.85 or height < 4 * LEAST_ROWS:
        return 0
    rows = ndimage.binary_closing(np.pad(_plain(levels[first:]) > limit, 2, mode="edge"), iterations=2)[2:-2]
    runs, count = ndimage.label(rows)
    found = [(part[0].start, part[0].stop) for part in ndimage.find_objects(runs)] if count else []
    enough = max(LEAST_ROWS, LEAST_SHARE * height)
    bars = [start for start, stop in found if stop - start >= enough and first + stop >= REACHES * height and start > 0]
    return height - first - min(bars) if bars else 0


def _plain(levels: np.ndarray) -> np.ndarray:
    """Share of pixels in each row that equal their left neighbour."""
    return (levels[:, 1:] == levels[:, :-1]).mean(axis=1) if levels.shape[1] > 1 else np.ones(len(levels))


def find_scale_bar(levels: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of the longest solid black or white bar, flat and long, in uint8 (h, w); None where there is none."""
    step = max(1, round(max(levels.shape) / LOOKED_PX))
    small = levels[::step, ::step]
    bars = [*_solid_bars(small >= WHITE), *_solid_bars(small <= BLACK)]
    if not bars:
        return None
    rows, columns = max(bars, key=lambda bar: bar[1].stop - bar[1].start)
    return slice(rows.start * step, rows.stop * step), slice(columns.start * step, columns.stop * step)


def _solid_bars(mask: np.ndarray) -> list[tuple[slice, slice]]:
    """Things in a mask (h, w) that are full, at least `LONG` times as wide as high, and no line of a single row."""
    height, width = mask.shape
    shortest = max(8, round(0.05 * width))
    if (mask.sum(axis=1) >= shortest * FULL).sum() < 2 or mask.mean() > 0.5:
        return []
    runs = ndimage.binary_closing(mask, np.ones((1, 3), bool))  # compression may nibble at a bar
    runs = ndimage.minimum_filter1d(runs, shortest, axis=1)  # what touches a bar without being long goes
    runs = ndimage.maximum_filter1d(runs, shortest, axis=1, origin=-1 if shortest % 2 == 0 else 0)
    labelled, _ = ndimage.label(runs)
    found = []
    for rows, columns in ndimage.find_objects(labelled):
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        flat = 2 <= high <= 0.05 * height and wide >= LONG * high
        if flat and mask[rows, columns].mean() > FULL:
            found.append((rows, columns))
    return found
