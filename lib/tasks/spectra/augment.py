"""Random changes of training spectra: gain, shift and noise, and the short end that a newer fluorimeter does not see.

The original project's two augmentations, `da` and `simulate`, whose options here reach them, and four of chemotools. Its shift is
left out: `da` has one at a fiftieth of the cost. Each works on the arrays of one batch, channel by channel, and leaves its input
as it was.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from chemotools.augmentation import AddNoise, BaselineShift, GaussianBroadening, ScatterShift
from sklearn.base import BaseEstimator

from lib.task import InputError, Phrase, Samples
from lib.tasks.spectra.settings import Training

FLOAT = np.float32


def augment(samples: Samples, config: Training, rng: np.random.Generator) -> Samples:
    """The samples with their spectra changed as `config` says; the table is the same. Never changes its input.

    Under "da" every random number is drawn whatever the options, so that one option set to 0 leaves the others' as they were.
    """
    inputs = dict(samples.inputs)
    if config.augment in ("da", "da+simulate"):
        gain = 1 + FLOAT(config.da_gain) * rng.standard_normal(len(samples), dtype=FLOAT)
        for name, values in inputs.items():
            shift = config.da_shift * rng.laplace(size=len(samples))
            noise = rng.standard_normal(values.shape, dtype=FLOAT)
            noise *= FLOAT(config.da_noise)
            noise += 1
            noise *= gain[:, None]
            noise *= shifted(values, shift) if config.da_shift else values
            inputs[name] = noise
    inputs = {name: scattered(values, config, rng) for name, values in inputs.items()}
    if config.augment in ("simulate", "da+simulate"):  # last: what the instrument does not see has no gain and no noise
        without = rng.random(len(samples)) < 0.5  # the other half keeps them, so that the model serves both instruments
        for (name, values), points in zip(inputs.items(), config.zero_points):
            inputs[name] = zeroed(values, points, without)
    return replace(samples, inputs=inputs)


def scattered(values: np.ndarray, config: Training, rng: np.random.Generator) -> np.ndarray:
    """Spectra (n, P) after those of chemotools' augmentations that `config` asks for; as they were where it asks for none.

    chemotools counts in units of the spectrum; here each spectrum is in units of its own mean size, so that one setting serves
    counts and absorbances.
    """
    steps = _steps(config)
    if not steps or not values.size:
        return values
    size = np.abs(values).mean(axis=1, keepdims=True, dtype=float)
    size[size == 0] = 1
    changed = values / size
    for step in steps:
        changed = step.set_params(random_state=int(rng.integers(2**31))).fit(changed).transform(changed)
    return np.asarray(changed * size, dtype=FLOAT)


def _steps(config: Training) -> list[BaseEstimator]:
    """What is asked for, from the sample to the detector: scatter, baseline, slit, noise."""
    asked: tuple[tuple[float, BaseEstimator], ...] = (
        (config.scatter_shift, ScatterShift(2, config.scatter_shift, config.scatter_shift)),
        (config.baseline_shift, BaselineShift(config.baseline_shift)),
        (config.gaussian_broadening, GaussianBroadening(config.gaussian_broadening, mode="nearest")),
        (config.add_noise, AddNoise("gaussian", config.add_noise)),
    )
    return [step for amount, step in asked if amount > 0]


def shifted(values: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Spectra (n, P) moved by `shift` (n,) points towards higher positions, float32.

    Between points it interpolates linearly; beyond an end the value at that end is held.
    """
    rows, points = values.shape
    if not points:
        return values.astype(FLOAT)
    shift = np.clip(shift, -points, points)  # further changes nothing, and a Laplace tail could pass every integer
    whole = np.floor(-shift).astype(np.intp)
    share = (-shift - whole).astype(FLOAT)[:, None]
    place = np.arange(points + 1) + whole[:, None]
    np.clip(place, 0, points - 1, out=place)
    place += np.arange(rows)[:, None] * points  # flat positions: `take` is twice as fast as indexing in two dimensions
    near = np.ascontiguousarray(values, FLOAT).reshape(-1).take(place)
    out = np.diff(near, axis=1)
    out *= share
    out += near[:, :-1]
    return out


def zeroed(values: np.ndarray, points: int, rows: np.ndarray) -> np.ndarray:
    """A copy of spectra (n, P) in which the first `points` points of some `rows` (n,) bool are zero."""
    out = values.astype(FLOAT)
    out[rows, :points] = 0
    return out


def check_zero_points(config: Training, points: dict[str, int]) -> None:
    """Raises InputError where `config.zero_points` does not fit the `points` of each channel, in their order."""
    if config.augment not in ("simulate", "da+simulate"):
        return
    for (name, there), wanted in zip(points.items(), config.zero_points):
        if not 0 <= wanted < there:
            problem = Phrase(
                "{wanted} points of channel {name} cannot be zero: it has {there}", wanted=wanted, name=name, there=there
            )
            raise InputError(
                "zero_points",
                problem,
                Phrase("Choose from 0 to {most}, in the order {channels}.", most=there - 1, channels=", ".join(points)),
            )
