"""Small sets of images with known channels for the tests of learning: gratings whose colour follows from what they show."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.task import Samples
from lib.tasks.reflectance.config import CHANNELS, HIDDEN, IMAGE_PX, TRUE, VISIBLE


def grating(cycles: float, angle_rad: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 (256, 256) of a grating of so many cycles, with noise."""
    y, x = np.mgrid[:IMAGE_PX, :IMAGE_PX] / IMAGE_PX
    phase = 2 * np.pi * (cycles * (np.cos(angle_rad) * x + np.sin(angle_rad) * y) + rng.random())
    return np.clip(120 + 70 * np.cos(phase) + 5 * rng.standard_normal(x.shape), 0, 255).astype(np.uint8)


def gratings(specimens: int, views: int = 2, seed: int = 0, *, geometry: bool = True) -> Samples:
    """Specimens of two kinds; every channel rises with the grating's frequency, which is what can be learnt."""
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for number in range(specimens):
        cycles = float(rng.uniform(4, 24))
        values = {TRUE + channel: 0.05 + 0.03 * cycles * (k + 5) / 14 for k, channel in enumerate(CHANNELS)}
        known = {name: cycles * (k + 1) for k, name in enumerate((*VISIBLE, *HIDDEN))} if geometry else {}
        for view in range(views):
            images.append(grating(cycles, float(rng.uniform(0, np.pi)), rng))
            rows.append({"file": f"s{number}_v{view}.png", "note": "", "specimen": f"s{number}",
                         "kind": "fine" if cycles > 14 else "coarse", "nm_per_px": 25.0, **values, **known})  # fmt: skip
    return Samples({"image": np.stack(images)}, pd.DataFrame(rows))
