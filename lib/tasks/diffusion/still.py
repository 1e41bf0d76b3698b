"""The width of a spot that does not move, from those clips of a set whose molecule hardly moves.

With it a single clip's widths speak of motion alone; without it, width and motion have to be told apart by their spread.
"""

from __future__ import annotations

import numpy as np
import torch

from lib.task import Phrase, Samples
from lib.tasks.diffusion import estimators
from lib.tasks.diffusion.arrays import network_inputs
from lib.tasks.diffusion.config import CLIP_FRAMES, Acquisition, Training
from lib.tasks.diffusion.domain import ranges_of
from lib.tasks.diffusion.features import localisation_variance
from lib.tasks.diffusion.frontend import Spots, read_spots

SLOW_PX2 = 0.3  # px²/frame: adds at most 0.1 px² to the spot's variance, which is taken off again
CLIPS, SPREAD = 5, 0.2  # so many clips must agree, to this median relative deviation of their variances
VISIBLE = 4.0  # matched-filter signal-to-noise ratio of a frame that counts
ERROR_PERCENT = 3.0  # standard error of what is learnt: measured on simulated folders
WIDER, MOST_WIDER = 0.3, 0.2  # spots of moving molecules this much wider than their motion explains, in this share of them
CHUNK = 32


def learn(samples: Samples, acquisition: Acquisition) -> tuple[Acquisition, str]:
    """The acquisition with `psf_sigma_px` filled in from clips whose molecule hardly moves, and a sentence on it.

    Needs CLIPS such clips whose widths agree, and spots of the moving molecules as wide as that width and their motion make them,
    for a set may mix two microscopes; else nothing is filled in, as a wrong width is worse than none.
    """
    if acquisition.psf_sigma_px is not None:
        return acquisition, ""
    inputs = {key: torch.from_numpy(value).split(CHUNK) for key, value in network_inputs(samples).items()}
    with torch.no_grad():
        parts = [_read(read_spots(clip, camera)) for clip, camera in zip(inputs["clip_adu"], inputs["camera"], strict=True)]
    centre, noise, variance, seen = (np.concatenate(column) for column in zip(*parts, strict=True))
    blur = estimators.blur_coefficient(samples.table["exposure_fraction"].to_numpy(float))
    d = estimators.mle(centre[..., 0], centre[..., 1], blur, noise)[0]
    clear, alone = seen > CLIP_FRAMES // 2, variance - 2 * blur * d - 1 / 12
    still = alone[clear & (d < SLOW_PX2)]
    narrowest, widest = ranges_of(Training())["sigma_px"]  # what is narrower is a pixel, what is wider is no molecule
    still = still[(still > narrowest**2) & (still < widest**2)]
    if len(still) < CLIPS or np.median(np.abs(still / np.median(still) - 1)) > SPREAD:
        return acquisition, ""
    if _others(alone, blur * d, clear & (d >= SLOW_PX2), float(np.median(still))):
        return acquisition, ""
    sigma = float(np.sqrt(np.median(still)))
    sentence = Phrase("width of a still spot {px:.2f} px, from {n} clips with hardly any motion", px=sigma, n=len(still))
    return acquisition.model_copy(update={"psf_sigma_px": round(sigma, 3), "psf_sigma_error_percent": ERROR_PERCENT}), sentence


def _others(alone: np.ndarray, motion: np.ndarray, moving: np.ndarray, still: float) -> bool:
    """Whether the moving molecules' spots are of another width than the still ones'.

    `alone` (n,) is each spot's variance without pixel and motion, of which `motion` (n,) is half the latter's, px². D from the
    path is off by a quarter, and a shutter shorter than thought makes spots narrower, never wider: only wider ones are counted.
    """
    wider = alone - still > WIDER * still + 1.5 * motion
    return bool(moving.any() and wider[moving].mean() > MOST_WIDER)


def _read(spots: Spots) -> tuple[np.ndarray, ...]:
    """Centres (n, T, 2), their variance (n,), the spot's variance per axis (n,), px², and how many frames show it (n,)."""
    seen = (spots.score > VISIBLE).to(spots.score.dtype)
    weight = seen / seen.sum(1, keepdim=True).clamp(min=1)
    width = (0.5 * (spots.covariance[..., 0] + spots.covariance[..., 1]) * weight).sum(1)
    noise = (localisation_variance(spots) * weight).sum(1).clamp(min=1e-4)
    return tuple(part.double().numpy() for part in (spots.centre, noise, width, seen.sum(1)))
