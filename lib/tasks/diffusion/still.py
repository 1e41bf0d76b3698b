"""The width of a spot that does not move, from those clips of a set whose molecule hardly moves.

With it a single clip's widths speak of motion alone; without it, width and motion have to be told apart by their spread.
"""

from __future__ import annotations

import numpy as np
import torch

from lib.task import Samples
from lib.tasks.diffusion import estimators
from lib.tasks.diffusion.arrays import network_inputs
from lib.tasks.diffusion.config import CLIP_FRAMES, Acquisition
from lib.tasks.diffusion.features import localisation_variance
from lib.tasks.diffusion.frontend import Spots, read_spots

SLOW_PX2 = 0.3  # px²/frame: adds at most 0.1 px² to the spot's variance, which is taken off again
CLIPS, SPREAD = 5, 0.2  # so many clips must agree, to this median relative deviation of their variances
VISIBLE = 4.0  # matched-filter signal-to-noise ratio of a frame that counts
ERROR_PERCENT = 3.0  # standard error of what is learnt: measured on simulated folders
CHUNK = 32


def learn(samples: Samples, acquisition: Acquisition) -> tuple[Acquisition, str]:
    """The acquisition with `psf_sigma_px` filled in from clips whose molecule hardly moves, and a sentence on it.

    Needs CLIPS such clips whose widths agree; else nothing is filled in, for a wrong width is worse than none.
    """
    if acquisition.psf_sigma_px is not None:
        return acquisition, ""
    inputs = {key: torch.from_numpy(value).split(CHUNK) for key, value in network_inputs(samples).items()}
    with torch.no_grad():
        parts = [_read(read_spots(clip, camera)) for clip, camera in zip(inputs["clip_adu"], inputs["camera"], strict=True)]
    centre, noise, variance, seen = (np.concatenate(column) for column in zip(*parts, strict=True))
    blur = estimators.blur_coefficient(samples.table["exposure_fraction"].to_numpy(float))
    d = estimators.mle(centre[..., 0], centre[..., 1], blur, noise)[0]
    slow = (d < SLOW_PX2) & (seen > CLIP_FRAMES // 2)
    still = (variance - 2 * blur * d)[slow] - 1 / 12
    if len(still) < CLIPS or np.median(np.abs(still / np.median(still) - 1)) > SPREAD:
        return acquisition, ""
    sigma = float(np.sqrt(np.median(still)))
    sentence = f"width of a still spot {sigma:.2f} px, from {len(still)} clips with hardly any motion"
    return acquisition.model_copy(update={"psf_sigma_px": round(sigma, 3), "psf_sigma_error_percent": ERROR_PERCENT}), sentence


def _read(spots: Spots) -> tuple[np.ndarray, ...]:
    """Centres (n, T, 2), their variance (n,), the spot's variance per axis (n,), px², and how many frames show it (n,)."""
    seen = (spots.score > VISIBLE).to(spots.score.dtype)
    weight = seen / seen.sum(1, keepdim=True).clamp(min=1)
    width = (0.5 * (spots.covariance[..., 0] + spots.covariance[..., 1]) * weight).sum(1)
    noise = (localisation_variance(spots) * weight).sum(1).clamp(min=1e-4)
    return tuple(part.double().numpy() for part in (spots.centre, noise, width, seen.sum(1)))
