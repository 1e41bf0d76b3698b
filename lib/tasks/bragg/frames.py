"""One detector frame: what every finder looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.tasks.bragg.geometry import Geometry


@dataclass(frozen=True)
class Frame:
    """Pixels (H, W) float32 in ADU or photons, as recorded; mask (H, W) bool, True where a pixel is good; where it stood."""

    pixels: np.ndarray
    mask: np.ndarray
    geometry: Geometry
    file: str = ""
    number: int = 0  # of the frame in its file, counted from 0
