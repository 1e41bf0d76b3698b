"""What can be asked of single pixels and their surroundings: thresholds, local maxima, regions, label maps.

Rows and columns are (y, x); pixels that are bad or off the frame take no part in any answer.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.signal import find_peaks

from lib.tasks.bragg.frames import Frame


def threshold_mask(frame: Frame, adc_thresh: float) -> np.ndarray:
    """Map (H, W) bool: good pixels above `adc_thresh`, in the unit of the pixels."""
    return frame.mask & (frame.pixels > adc_thresh) & (frame.pixels < np.inf)


def coordinates_above(frame: Frame, adc_thresh: float) -> np.ndarray:
    """Places (n, 2) int, y and x, of the good pixels above `adc_thresh`, in raster order."""
    return np.argwhere(threshold_mask(frame, adc_thresh))


def local_maxima(frame: Frame, adc_thresh: float, size_px: int = 1) -> np.ndarray:
    """Places (n, 2) int, y and x, of the pixels above `adc_thresh` that are highest within `size_px` rows and columns.

    Touching pixels of one value are one maximum, at the middle one of them in raster order.
    """
    strong = threshold_mask(frame, adc_thresh)
    values = np.where(frame.mask & np.isfinite(frame.pixels), frame.pixels, -np.inf).astype(np.float32)
    highest = ndimage.maximum_filter(values, size=2 * size_px + 1, mode="constant", cval=-np.inf)
    places = np.argwhere(strong & (values == highest))
    if len(places) == 0:
        return places
    labels, _ = ndimage.label(strong & (values == highest), np.ones((3, 3)))
    order = np.argsort(labels[tuple(places.T)], kind="stable")
    _, first, count = np.unique(labels[tuple(places.T)][order], return_index=True, return_counts=True)
    middle = np.sort(order[first + (count - 1) // 2])
    return places[middle]


def flattened_maxima(frame: Frame, adc_thresh: float) -> np.ndarray:
    """Places (n, 2) int, y and x, of the maxima of the frame written as one line, row by row, at or above `adc_thresh`.

    It sees no neighbour above or below: for comparison with work that was done this way, not for use.
    """
    values = np.where(frame.mask & np.isfinite(frame.pixels), frame.pixels, -np.inf)
    places, _ = find_peaks(values.ravel(), height=adc_thresh)
    return np.stack(np.divmod(places, values.shape[1]), axis=1)


def region(frame: Frame, y: int, x: int, size_px: int) -> np.ndarray:
    """float32 (2s + 1, 2s + 1): the pixels within `size_px` rows and columns of (y, x), which is the middle one.

    NaN where a pixel is bad or off the frame. Raises IndexError where (y, x) itself is off the frame.
    """
    height, width = frame.pixels.shape
    if not (0 <= y < height and 0 <= x < width):
        raise IndexError(f"pixel ({y}, {x}) is not on a frame of {height} × {width} pixels")
    cut = np.full((2 * size_px + 1,) * 2, np.nan, np.float32)
    y0, y1, x0, x1 = max(y - size_px, 0), min(y + size_px + 1, height), max(x - size_px, 0), min(x + size_px + 1, width)
    place = np.s_[y0 - y + size_px : y1 - y + size_px, x0 - x + size_px : x1 - x + size_px]
    cut[place] = np.where(frame.mask[y0:y1, x0:x1], frame.pixels[y0:y1, x0:x1], np.nan)
    return cut


def scaled(cut: np.ndarray) -> np.ndarray:
    """A region scaled to 0 … 1, NaN left as it is; 0 where all pixels are equal, NaN where none is good."""
    known = cut[np.isfinite(cut)]
    if len(known) == 0:
        return np.full_like(cut, np.nan)
    low, high = float(known.min()), float(known.max())
    return (cut - np.float32(low)) / np.float32((high - low) or 1.0)


def is_peak(frame: Frame, y: int, x: int, size_px: int = 1) -> bool:
    """Whether (y, x) is good and no pixel within `size_px` rows and columns is higher, and one at least is lower."""
    cut = region(frame, y, x, size_px)
    value = cut[size_px, size_px]
    known = cut[np.isfinite(cut)]
    return bool(np.isfinite(value) and value == known.max() and value > known.min())


def label_map(peaks_yx: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W): 1 at the pixel nearest to each peak (n, 2), else 0. Raises IndexError where a peak is off the frame."""
    labels = np.zeros(shape, np.uint8)
    places = np.rint(np.asarray(peaks_yx, float).reshape(-1, 2)).astype(int)
    outside = ((places < 0) | (places >= np.array(shape))).any(axis=1)
    if outside.any():
        raise IndexError(f"peak {tuple(places[outside][0].tolist())} is not on a frame of {shape[0]} × {shape[1]} pixels")
    labels[tuple(places.T)] = 1
    return labels
