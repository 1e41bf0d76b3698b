"""The Fourier image inside a network, and its polar form, in which a turned specimen is a shifted map.

Fourier images are made of the image that the network sees, after all changes of training, so both turn together. The mean
under the window is taken away first, so nothing leaks from frequency 0; magnitudes go through log(1 + x). For ONNX, whose
operators have no usable transform here, the same sums are two matrix products.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

RADII, ANGLES = 40, 36  # of the polar map: half a turn, for magnitudes repeat after it
SLOWEST, FASTEST = 1.5, 60.0  # cycles per image of the first and last radius
SUBPOINTS = 2  # in each direction, averaged in one cell of the polar map


class Magnitude(nn.Module):
    """log(1 + |Fourier transform|) of square images (B, n, n) under a Hann window, frequency 0 in the middle; float32.

    The scale is such that white noise of standard deviation s gives magnitudes of about s·√n.
    """

    window: Tensor  # (n, n)
    cosine: Tensor  # (n, n): row k is frequency k − n/2
    sine: Tensor

    def __init__(self, side_px: int) -> None:
        super().__init__()
        steps = np.arange(side_px)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * (steps + 0.5) / side_px)
        phase = 2 * np.pi * np.outer(steps - side_px // 2, steps) / side_px
        self.side_px = side_px
        self.register_buffer("window", _float(np.outer(hann, hann)), persistent=False)
        self.register_buffer("cosine", _float(np.cos(phase)), persistent=False)
        self.register_buffer("sine", _float(np.sin(phase)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, n, n) -> (B, n, n)."""
        x = images.float()
        weighted = x * self.window
        middle = weighted.sum((1, 2), keepdim=True) / self.window.sum()
        real, imaginary = self._transform(weighted - middle * self.window)
        power = real * real + imaginary * imaginary
        return torch.log1p(torch.sqrt(power + 1e-12) / math.sqrt(self.side_px))

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.compiler.is_exporting():
            found = torch.fft.fftshift(torch.fft.fft2(x), dim=(1, 2))
            return found.real, found.imag
        across_cosine, across_sine = x @ self.cosine.T, x @ self.sine.T
        return self.cosine @ across_cosine - self.sine @ across_sine, -(self.sine @ across_cosine + self.cosine @ across_sine)


class PolarSpectrum(nn.Module):
    """Images (B, n, n) -> (B, RADII, ANGLES): the magnitude over the logarithm of the frequency and the direction.

    `reduced` halves the image first, which leaves what is coarser than 4 of its pixels.
    """

    place: Tensor  # (RADII·ANGLES, k) which magnitudes a cell is made of
    share: Tensor  # (RADII·ANGLES, k) and how much of each

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.magnitude = Magnitude(side_px // 2)
        place, share = _polar_cells(side_px // 2)
        self.register_buffer("place", torch.from_numpy(place), persistent=False)
        self.register_buffer("share", _float(share), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, n, n) -> (B, RADII, ANGLES)."""
        small = F.avg_pool2d(images.float().unsqueeze(1), 2).squeeze(1)
        flat = self.magnitude(small).flatten(1)
        cells = flat.index_select(1, self.place.flatten()).unflatten(1, (RADII * ANGLES, -1))
        return (cells * self.share).sum(2).unflatten(1, (RADII, ANGLES))


def frequencies() -> np.ndarray:
    """(RADII,) cycles per image of each row of the polar map."""
    return np.geomspace(SLOWEST, FASTEST, RADII)


def _polar_cells(side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """(cells, k) flat places in a centred (n, n) spectrum and their bilinear shares: sub-points of each polar cell averaged."""
    inside = (np.arange(SUBPOINTS) + 0.5) / SUBPOINTS - 0.5
    step = np.log(FASTEST / SLOWEST) / (RADII - 1)
    radius = frequencies()[:, None] * np.exp(step * inside)  # (RADII, s)
    angle = np.pi * (np.arange(ANGLES)[:, None] + inside) / ANGLES  # (ANGLES, s)
    r, t = radius[:, None, :, None], angle[None, :, None, :]
    y, x = (side_px // 2 + (r * f(t)).reshape(RADII * ANGLES, -1) for f in (np.sin, np.cos))
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    places, shares = [], []
    for down in (0, 1):
        for right in (0, 1):
            row, column = np.clip(top + down, 0, side_px - 1), np.clip(left + right, 0, side_px - 1)
            places.append(row * side_px + column)
            shares.append((1 - np.abs(y - top - down)) * (1 - np.abs(x - left - right)) / SUBPOINTS**2)
    return np.concatenate(places, 1).astype(np.int64), np.concatenate(shares, 1)


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
