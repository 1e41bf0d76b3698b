"""Peaks as local maxima above one threshold: in two dimensions, or along the frame written as one line."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from lib.tasks.bragg import regions
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.peakfinder8 import radial_bins
from lib.tasks.bragg.spots import BACKGROUND, NEITHER, STRONG, Groups, as_peaks, measured, panels


def find(
    frame: Frame,
    *,
    adc_thresh: float,
    min_snr: float,
    min_pix_count: int,
    local_bg_radius: int,
    min_res: float = 0.0,
    max_res: float = 0.0,
    neighbours: Literal["area", "line"] = "area",
) -> pd.DataFrame:
    """Peaks of one frame as `spots.as_peaks`, in raster order.

    A peak is what is above `adc_thresh` (in the unit of the pixels) among the nine pixels around a maximum, which is sought among
    all `neighbours` or along the line only. `min_res` and `max_res` are distances from the beam in pixels, 0 for none.
    """
    good = frame.mask & (radial_bins(frame.geometry, min_res, max_res) >= 0) & np.isfinite(frame.pixels)
    counted = Frame(np.ascontiguousarray(frame.pixels, np.float32), good, frame.geometry)
    maxima = regions.local_maxima(counted, adc_thresh) if neighbours == "area" else regions.flattened_maxima(counted, adc_thresh)
    state = np.where(good, np.uint8(BACKGROUND), np.uint8(NEITHER))
    state[regions.threshold_mask(counted, adc_thresh)] = STRONG
    state[tuple(maxima.T)] = STRONG  # in a line, one at the threshold counts too
    rectangles = panels(frame.geometry)
    homes = _homes(maxima, rectangles)
    found = around(maxima, homes, state, rectangles)
    rows = measured(counted.pixels, state, found, rectangles, maxima, np.zeros(len(maxima)), local_bg_radius)
    return as_peaks(rows[(rows[:, 3] >= min_snr) & (rows[:, 4] >= min_pix_count)])


def _homes(maxima: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    """int64 (n,): the panel that each pixel (n, 2) is in."""
    homes = np.zeros(len(maxima), np.int64)
    for p, (y0, y1, x0, x1) in enumerate(rectangles):
        homes[(maxima[:, 0] >= y0) & (maxima[:, 0] < y1) & (maxima[:, 1] >= x0) & (maxima[:, 1] < x1)] = p
    return homes


def around(maxima: np.ndarray, homes: np.ndarray, state: np.ndarray, rectangles: np.ndarray) -> Groups:
    """The STRONG pixels of each maximum's panel among the nine around it, as `spots.groups` gives them."""
    step = np.array([(j, i) for j in (-1, 0, 1) for i in (-1, 0, 1)])
    places = maxima[:, None] + step  # (n, 9, 2)
    low, high = rectangles[homes][:, None, 0::2], rectangles[homes][:, None, 1::2]
    within = ((places >= low) & (places < high)).all(axis=2)
    y, x = np.where(within[..., None], places, maxima[:, None]).transpose(2, 0, 1)
    taken = within & (state[y, x] == STRONG)
    starts = np.concatenate([[0], np.cumsum(taken.sum(axis=1))])
    return (y * state.shape[1] + x)[taken], starts, homes
