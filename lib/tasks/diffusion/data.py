"""Training clips: every parameter drawn anew within the ranges of the Training config, so no two clips share conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lib.task import Samples, Split, TrainingData
from lib.tasks.diffusion import domain
from lib.tasks.diffusion.config import CLIP_FRAMES, CLIP_PX, Training
from lib.tasks.diffusion.simulate import Camera, Molecules, simulate_group

Reader = Callable[[Samples], Samples]
GROUP = 32  # clips that share a camera and a background: building its value table costs as much as a few clips
SPLITS: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}
SIGMA_ERROR = (0.002, 0.1)  # standard error of a given still spot's σ, as a share of it
TYPICAL = {"photons": (300.0, 1000.0), "background": (5.0, 30.0)}


def log_uniform(low: float, high: float, size: int | None, rng: np.random.Generator) -> np.ndarray:
    """Values whose logarithm is uniform between the logarithms of `low` and `high`."""
    return np.exp(rng.uniform(math.log(low), math.log(high), size))


def draw_camera(config: Training, rng: np.random.Generator) -> Camera:
    """An EMCCD or sCMOS with everyday offset, gain and read noise."""
    baseline = float(np.rint(rng.uniform(80, 600)))
    if rng.random() < config.emccd_fraction:
        return Camera(baseline, float(log_uniform(2, 20, None, rng)), float(log_uniform(50, 500, None, rng)), rng.uniform(20, 80))
    return Camera(baseline, float(log_uniform(0.2, 1.2, None, rng)), 1.0, rng.uniform(0.7, 3))


def draw_molecules(config: Training, n: int, typical: bool, rng: np.random.Generator) -> Molecules:
    """N molecules; D log-uniform over the whole range, so the network learns D and not a prior on it."""
    photons = TYPICAL["photons"] if typical else (config.photons_min, config.photons_max)
    exposure = rng.uniform(config.exposure_min, config.exposure_max, n)
    exposure[rng.random(n) < 0.3] = config.exposure_max  # full-frame exposure is the most common setting
    return Molecules(
        d_px2=log_uniform(config.d_min_px2, config.d_max_px2, n, rng),
        sigma_px=rng.uniform(config.sigma_min_px, config.sigma_max_px, n),
        photons=log_uniform(*photons, n, rng),
        exposure=exposure,
        blink=np.where(rng.random(n) < 0.15, rng.uniform(0, 0.3, n), 0.0),
        start_px=(CLIP_PX - 1) / 2 + rng.normal(0, 4, (n, 2)),
        lit_frames=np.where(rng.random(n) < 0.1, rng.integers(5, CLIP_FRAMES, n), CLIP_FRAMES),
    )


def draw_neighbours(config: Training, molecules: Molecules, rng: np.random.Generator) -> Molecules:
    """A dimmer second molecule for each clip, starting 10–30 px away: real fields of view are not empty."""
    n = len(molecules.d_px2)
    angle, distance = rng.uniform(0, 2 * math.pi, n), rng.uniform(10, 30, n)
    return replace(
        molecules,
        d_px2=log_uniform(config.d_min_px2, config.d_max_px2, n, rng),
        photons=molecules.photons * rng.uniform(0.1, 0.7, n),
        start_px=(CLIP_PX - 1) / 2 + distance[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1),
        lit_frames=rng.integers(1, CLIP_FRAMES + 1, n),
    )


def draw_group(config: Training, n: int, rng: np.random.Generator) -> Samples:
    """N clips under one camera and background, with what a user would know of them (not quite right, or nothing)."""
    typical = rng.random() < config.typical_fraction
    background = TYPICAL["background"] if typical else (config.background_min, config.background_max)
    level = float(log_uniform(*background, None, rng))
    gradient = rng.uniform(-0.6, 0.6) if rng.random() < 0.06 else 0.0
    camera = draw_camera(config, rng)
    molecules = draw_molecules(config, n, typical, rng)
    neighbours = draw_neighbours(config, molecules, rng) if rng.random() < 0.12 else None
    samples = simulate_group(molecules, level, camera, rng, gradient=gradient, neighbours=neighbours)
    mistyped = rng.random(n) < 0.5
    slope = samples.table["slope_adu"] * np.where(mistyped, np.exp(rng.normal(0, 0.12, n)), 1.0)
    baseline = samples.table["baseline_adu"] + np.where(mistyped, rng.normal(0, 0.7, n) * slope, 0.0)
    truth = samples.table
    error = log_uniform(*SIGMA_ERROR, n, rng)
    return samples.with_columns(
        slope_adu=slope,
        baseline_adu=baseline,
        true_exposure_fraction=truth["exposure_fraction"],
        exposure_fraction=np.where(rng.random(n) < 0.25, np.nan, truth["exposure_fraction"]),
        psf_sigma_px=np.where(rng.random(n) < 0.4, np.nan, truth["sigma_px"] * np.exp(error * rng.normal(size=n))),
        psf_sigma_error=error,
    )


class SimulatedClips(TrainingData):
    """Fresh clips for training; fixed ones for validation and test, from seeds that training never uses.

    A network whose front end has no weights need not look at the same clip twice: with `passes` > 1 batches hold what the front
    end read and are kept in memory; those for training come `passes` times (turned differently) before new ones are made.
    """

    def __init__(self, config: Training) -> None:
        self.config = config
        self.sizes: dict[Split, int] = {
            "train": config.clips_per_epoch, "validation": config.validation_clips, "test": config.test_clips
        }  # fmt: skip
        self.kept: dict[tuple[Split, int], tuple[int, Samples]] = {}
        self._reader: Reader | None = None

    def facts(self) -> dict[str, Any]:
        """The ranges that predictions of real clips are judged by."""
        return domain.ranges_of(self.config)

    def batches(self, split: Split) -> int:
        """How many batches the split has in one epoch."""
        return math.ceil(self.sizes.get(split, 0) / self.config.batch_size)

    def batch(self, split: Split, epoch: int, index: int) -> Samples:
        """Batch `index`, the same on any machine."""
        generation = epoch // self.config.passes if split == "train" else 0
        if split == "test" or not self.config.reads_once:  # the sheet compares with estimators that need the clips themselves
            return self._draw(split, generation, index)
        kept = self.kept.get((split, index))
        if kept is None or kept[0] != generation:
            kept = generation, self._read(self._draw(split, generation, index))
            self.kept[split, index] = kept
        return kept[1]

    def _draw(self, split: Split, epoch: int, index: int) -> Samples:
        rng = np.random.default_rng([self.config.seed, SPLITS[split], epoch, index])
        size = min(self.config.batch_size, self.sizes[split] - index * self.config.batch_size)
        groups = [draw_group(self.config, min(GROUP, size - start), rng) for start in range(0, size, GROUP)]
        return Samples.concat(groups)

    def _read(self, samples: Samples) -> Samples:
        if self._reader is None:
            from lib.tasks.diffusion.reader import reader

            self._reader = reader(self.config)
        return self._reader(samples)
