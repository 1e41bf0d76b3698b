"""One detector frame: what every finder looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lib.tasks.bragg.geometry import Geometry


@dataclass(frozen=True)
class Frame:
    """Pixels (H, W) float32 in ADU or photons, as recorded; mask (H, W) bool, True where a pixel is good; where it stood.

    `artefacts` are y and x (n, 2) in pixels of what is known to be no light of a simulated frame: "hot" pixels that are not
    masked, "zinger"s.
    """

    pixels: np.ndarray
    mask: np.ndarray
    geometry: Geometry
    file: str = ""
    number: int = 0  # of the frame in its file, counted from 0
    artefacts: Mapping[str, np.ndarray] = field(default_factory=dict)
