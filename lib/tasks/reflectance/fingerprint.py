"""Classical description of an image: its spectrum by frequency and direction, and its grey levels; the same when turned.

What ridge regression and ExtraTrees learn from, and by what images are called alike.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from lib.tasks.reflectance.config import IMAGE_PX
from lib.tasks.reflectance.fourier import ANGLES, RADII, PolarSpectrum

WEDGE = 1  # cells on either side of a direction that count as it
LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)  # quantiles of the grey levels
FEATURES = 4 * RADII + len(LEVELS) + 4 + 2
AT_ONCE = 64


class Fingerprint(nn.Module):
    """image (B, 256, 256) from 0 to 1 and scale (B, 2) -> (B, FEATURES).

    For each frequency the mean over directions, the spread over them, and the magnitude along the strongest direction and across
    it; then grey quantiles, mean, standard deviation, skewness, mean gradient; then the scale.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = PolarSpectrum(IMAGE_PX)
        self.register_buffer("wedge", torch.arange(ANGLES - WEDGE, ANGLES + WEDGE + 1).view(1, -1), persistent=False)
        turn = 2 * math.pi * torch.arange(ANGLES) / ANGLES  # twice the direction: it is the same after half a turn
        self.register_buffer("sine", torch.sin(turn), persistent=False)
        self.register_buffer("cosine", torch.cos(turn), persistent=False)
        places = torch.tensor([round(q * (IMAGE_PX**2 // 16 - 1)) for q in LEVELS])
        self.register_buffer("places", places, persistent=False)

    def forward(self, image: Tensor, scale: Tensor) -> Tensor:
        """(B, FEATURES) float32."""
        polar = self.spectrum(image)
        mean, spread = polar.mean(2), polar.std(2)
        strongest = self._strongest(polar)
        along, across = (self._towards(polar, strongest + turn) for turn in (0, ANGLES // 2))
        return torch.cat([mean, spread, along, across, self._greys(image), scale.float()], 1)

    def _strongest(self, polar: Tensor) -> Tensor:
        """(B,) direction in cells in which the image varies most: the phase of the second harmonic of the power."""
        power = torch.expm1(polar).square().sum(1)
        across, along = ((power * self.get_buffer(name)).sum(1) for name in ("sine", "cosine"))
        return torch.atan2(across, along) * (ANGLES / (2 * math.pi)) + ANGLES

    def _towards(self, polar: Tensor, direction: Tensor) -> Tensor:
        """(B, RADII): mean over the cells about one direction of each image, between cells interpolated."""
        first = torch.floor(direction)
        share = (direction - first).view(-1, 1)
        sides = []
        for step in (0, 1):
            cells = (first.long().view(-1, 1) + self.get_buffer("wedge") + step) % ANGLES
            sides.append(polar.gather(2, cells.unsqueeze(1).expand(-1, RADII, -1)).mean(2))
        return (1 - share) * sides[0] + share * sides[1]

    def _greys(self, image: Tensor) -> Tensor:
        """(B, len(LEVELS) + 4)."""
        x = image.float()
        mean = x.mean((1, 2))
        away = x - mean.view(-1, 1, 1)
        std = away.square().mean((1, 2)).sqrt()
        skew = (away**3).mean((1, 2)) / (std**3 + 1e-6)
        steps = (x[:, 1:] - x[:, :-1]).abs().mean((1, 2)) + (x[:, :, 1:] - x[:, :, :-1]).abs().mean((1, 2))
        coarse = x.unflatten(1, (-1, 4)).unflatten(3, (-1, 4)).mean((2, 4)).flatten(1)
        levels = coarse.sort(1).values.index_select(1, self.get_buffer("places"))
        return torch.cat([levels, torch.stack([mean, std, skew, steps], 1)], 1)


@torch.inference_mode()
def fingerprints(image: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, FEATURES) float32 of images (n, 256, 256) uint8 with their scale (n, 2)."""
    describe = Fingerprint()
    parts = [
        describe(torch.from_numpy(np.array(image[k : k + AT_ONCE], np.float32)) / 255, torch.from_numpy(scale[k : k + AT_ONCE]))
        for k in range(0, len(image), AT_ONCE)
    ]
    return torch.cat(parts).numpy()
