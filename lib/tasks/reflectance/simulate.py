"""Simulated specimens: the image of a scale and its ten channels, as samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from lib.task import Samples
from lib.tasks.reflectance import channels, render, specimen
from lib.tasks.reflectance.config import CHANNELS, HIDDEN, IMAGE_PX, TRUE, VISIBLE
from lib.tasks.reflectance.scale import KINDS, Scale, Simulation

COLUMNS = (
    "file", "note", "specimen", "kind", "nm_per_px", *(TRUE + name for name in CHANNELS), *VISIBLE, *HIDDEN, "pigment",
)  # fmt: skip


@dataclass(frozen=True)
class Looked:
    """A specimen that was measured: its scale, the ten channels as fractions, and the pixel size of its images."""

    name: str
    scale: Scale
    channels: np.ndarray
    nm_per_px: float


def simulate(config: Simulation, n: int, rng: np.random.Generator) -> Samples:
    """N images, `config.views` of each specimen, with the channels that rigorous optics give.

    `inputs` has `image` uint8 (n, 256, 256). The table has COLUMNS: `file`, `note`, `specimen`, `kind`, `nm_per_px`, the channels
    as fractions under their names after "true_", and every parameter of the scale. The channels belong to the specimen, so that
    its views share them.
    """
    images = np.empty((n, IMAGE_PX, IMAGE_PX), np.uint8)
    rows: list[tuple[Looked, int]] = []
    for number in range(-(-n // config.views)):
        scale = _drawn(config, number, rng)
        looked = Looked(f"simulated-{number:05d}", scale, channels.measure(scale), config.nm_per_px)
        for view in range(min(config.views, n - len(rows))):
            images[len(rows)] = render.image(scale, rng, config.nm_per_px)
            rows.append((looked, view))
    return Samples({"image": images}, table(rows, ".png"))


def _drawn(config: Simulation, number: int, rng: np.random.Generator) -> Scale:
    """The specimen of that number: of one kind after the other, or like the settings."""
    if not config.all_kinds:
        return specimen.vary(config.scale(), rng, config.spread)
    return specimen.draw(list(KINDS)[number % len(KINDS)], rng)


def table(rows: Sequence[tuple[Looked, int]], ending: str) -> pd.DataFrame:
    """What `simulate` tells of specimens and the numbers of their views; `ending` of the file names."""
    told = []
    for looked, view in rows:
        about = asdict(looked.scale)
        about |= {"file": f"{looked.name}-v{view}{ending}", "note": "", "specimen": looked.name, "nm_per_px": looked.nm_per_px}
        told.append(about | {TRUE + name: float(value) for name, value in zip(CHANNELS, looked.channels)})
    return pd.DataFrame(told, columns=list(COLUMNS))
