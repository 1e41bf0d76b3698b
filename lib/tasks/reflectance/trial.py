"""Inputs to check an exported network with."""

from __future__ import annotations

import numpy as np

from lib.task import Arrays
from lib.tasks.reflectance.config import IMAGE_PX


def inputs(n: int, rng: np.random.Generator) -> Arrays:
    """`image` (n, 256, 256) of crossed gratings in noise, `scale` (n, 2): some of a known pixel size, some of none."""
    y, x = np.mgrid[:IMAGE_PX, :IMAGE_PX] / IMAGE_PX
    images = []
    for _ in range(n):
        across, along, turn = rng.uniform(3, 12), rng.uniform(8, 30), rng.uniform(0, np.pi)
        u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        pattern = 0.45 + 0.2 * np.cos(2 * np.pi * across * u) + 0.1 * np.cos(2 * np.pi * along * v)
        images.append(pattern + 0.03 * rng.standard_normal(x.shape))
    scale = np.stack([rng.uniform(-0.3, 0.3, n), np.ones(n)], 1) * (np.arange(n) % 3 != 2)[:, None]
    return {"image": np.clip(images, 0, 1).astype(np.float32), "scale": scale.astype(np.float32)}
