"""A task whose samples are pictures: bright dots on a noisy ground. Tests of looking, labelling and masking run on it.

A file is an .npy array of shape (n, H, W), in counts. Only what the Clean page needs differs from the toy task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import KDTree

from lib.task import Arrays, Config, InputError, Panel, Plate, Samples, option
from tests.toy.tasks.toy import Toy

SIDE_PX = 200


class Threshold(Config):
    """A finder that takes maxima above a threshold."""

    threshold: float = option(50.0, "Lowest value of a dot", unit="counts", group="visible", ge=0, le=1e6)


class Everything(Config):
    """A finder that marks one pixel in every hundred."""

    every: int = option(100, "Pixels from mark to mark", unit="px", group="hidden", ge=1, le=1000)


class Acquisition(Config):
    """What the user knows."""

    mask_file: str = option("", "Name of a mask", group="mask")


class Rules(Config):
    """Which pictures to drop."""

    min_mean: float = option(0.0, "Lowest mean", unit="counts", group="data", ge=-1e6, le=1e6)


def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pictures (n, SIDE, SIDE) with nine dots each, a hot pixel at (3, 4) in all, and the dots' positions (9, 2)."""
    frames = rng.poisson(5, (n, SIDE_PX, SIDE_PX)).astype(np.float32)
    places = []
    for frame in frames:
        grid = np.stack(np.meshgrid([40, 100, 160], [40, 100, 160], indexing="ij"), -1).reshape(-1, 2)
        places.append(grid + rng.integers(-8, 9, grid.shape))
        frame[places[-1][:, 0], places[-1][:, 1]] += 200
    frames[:, 3, 4] = 500
    return frames, places


class Dots(Toy):
    """See the module."""

    name = "dots"
    title = "Dots"
    input_label = "pictures (.npy)"
    output_label = "dots"
    Acquisition: ClassVar[type[Config]] = Acquisition
    Rules: ClassVar[type[Config]] = Rules
    finders: ClassVar[Mapping[str, type[Config]]] = {"maxima": Threshold, "everything": Everything}

    def read(self, path: Path, acquisition: Config, display_name: str = "") -> Samples:
        name = display_name or path.name
        frames = np.load(path, allow_pickle=False)
        if frames.ndim != 3:
            raise InputError(name, f"its shape is {frames.shape}", "Give pictures of shape (n, H, W).")
        return Samples({"frame": frames}, pd.DataFrame({"file": name, "frame": range(len(frames)), "note": ""}))

    def inspect(self, samples: Samples, acquisition: Config) -> pd.DataFrame:
        return pd.DataFrame({"file": samples.table["file"], "mean": samples.inputs["frame"].mean(axis=(1, 2))})

    def flag(self, readings: pd.DataFrame, rules: Config) -> pd.DataFrame:
        assert isinstance(rules, Rules)
        return pd.DataFrame({"min_mean": readings["mean"] < rules.min_mean})

    def thumbnail(self, samples: Samples, row: int) -> np.ndarray:
        return np.clip(samples.inputs["frame"][row][::4, ::4], 0, 255).astype(np.uint8)

    def sample_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        return [Panel("sum", "Sum", f"The sum is {samples.inputs['frame'][row].sum():.0f} counts.")]

    def plate(self, samples: Samples, row: int, acquisition: Config) -> Plate:
        pixels = np.asarray(samples.inputs["frame"][row])
        mask = np.ones(pixels.shape, bool)
        mask[:, 120:124] = False
        return Plate(pixels, mask, "counts", (99.5, 99.5), (("3.0 Å", 60.0), ("2.0 Å", 95.0)), (100.0, 80.0, 1.5))

    def find(self, samples: Samples, row: int, name: str, config: Config, acquisition: Config) -> pd.DataFrame:
        pixels = np.asarray(samples.inputs["frame"][row])
        if isinstance(config, Threshold):
            y, x = np.nonzero((pixels > config.threshold) & (pixels == ndimage.maximum_filter(pixels, 5)))
        else:
            assert isinstance(config, Everything)
            y, x = np.divmod(np.arange(0, pixels.size, config.every), pixels.shape[1])
        return pd.DataFrame({"y_px": y.astype(float), "x_px": x.astype(float)})

    def compare_marks(self, found: pd.DataFrame, wanted: pd.DataFrame) -> dict[str, float]:
        tree = KDTree(wanted[["y_px", "x_px"]].to_numpy(float).reshape(-1, 2)) if len(wanted) else None
        near = (
            tree.query(found[["y_px", "x_px"]].to_numpy(float))[0] <= 2
            if tree is not None and len(found)
            else np.zeros(len(found))
        )
        common = int(near.sum())
        return {"n_common": common, "n_only_found": len(found) - common, "n_only_wanted": len(wanted) - common}

    def suggest_mask(self, samples: Samples, acquisition: Config, report: Callable[[float, str], None]) -> np.ndarray:
        report(0.5, "looking at every pixel")
        return np.asarray((samples.inputs["frame"] < 400).any(axis=0))

    def project(self, samples: Samples, row: int, acquisition: Config, so_far: Arrays) -> Arrays:
        pixels = np.asarray(samples.inputs["frame"][row], float)
        return {"sum": pixels + so_far.get("sum", 0)}

    def projections(self, so_far: Arrays, samples: Samples, acquisition: Config) -> dict[str, Plate]:
        return {"Sum": Plate(so_far["sum"], np.ones(so_far["sum"].shape, bool), "counts")} if so_far else {}

    def mask_settings(self, path: Path) -> dict[str, Any]:
        return {"mask_file": path.name}


TASK = Dots()
