"""Pixels that are stuck: bright in every frame, and alone. The eye passes over one; a fit of the brightest spot does not."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

BRIGHT = 8.0  # spreads of the still picture above its surroundings
SHARED = 0.2  # of a stuck pixel's excess that no neighbour has; the sharpest spot gives its neighbour 0.3
_BESIDE = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


def replaced(frames: np.ndarray) -> tuple[np.ndarray, int]:
    """Frames (T, H, W) with each stuck pixel as the median of its eight neighbours in that frame, and how many there are.

    A stuck pixel stands out of the median over frames, and its neighbours do not: a molecule that rests lights up those too.
    With fewer than five frames, or nothing stuck, the frames are given back as they are.
    """
    if len(frames) < 5 or min(frames.shape[1:]) < 5:
        return frames, 0
    still = np.median(frames, axis=0)
    level = ndimage.median_filter(still, size=5, mode="nearest")
    excess = still - level
    noise = 1.25 * np.median(frames.std(axis=0)) / np.sqrt(len(frames))  # of a median; the spread of whole numbers may be 0
    spread = max(1.4826 * float(np.median(np.abs(excess - np.median(excess)))), float(noise))
    brightest = ndimage.maximum_filter(excess, footprint=_BESIDE, mode="constant", cval=-np.inf)
    stuck = (excess > BRIGHT * spread) & (excess > 0) & (brightest < SHARED * excess)
    if not stuck.any():
        return frames, 0
    mended = np.array(frames)
    for y, x in np.argwhere(stuck):
        window = np.s_[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        good = ~stuck[window]
        mended[:, y, x] = np.median(frames[:, *window][:, good], axis=1)
    return mended, int(stuck.sum())
