"""From ADU to spots, inside the network's graph and without weights: photons, track, crop, elliptical fit.

Everything is plain tensor arithmetic, so that ONNX holds it too. Shapes: B clips, T frames, H×W px; crops are C×C px. Signals
are in noise-equivalent photons, (ADU − baseline)/slope, whose variance equals their mean for EMCCD and sCMOS alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CROP = 21  # px; covers ±3σ of a spot smeared at D = 30 px²/frame
HALF = CROP // 2
FIT_CYCLES = 5  # of three EM steps
LONGEST_STRIDE = 4.0  # longer ones sometimes throw a faint spot far off
COARSE = 2  # the track is found on a grid of 2×2 px


@dataclass(frozen=True)
class Spots:
    """What the front end reads of each clip; per-frame tensors are (B, T), crops (B, T, C, C)."""

    frames: Tensor  # (B, T, H, W) noise-equivalent photons above the clip's background
    crops: Tensor  # noise-equivalent photons above the clip's background
    inside: Tensor  # 1 where a crop pixel lies inside the field of view
    offset: Tensor  # (B, T, 2) fitted centre minus crop centre, px
    centre: Tensor  # (B, T, 2) fitted centre (y, x), px
    covariance: Tensor  # (B, T, 3) fitted σ²_yy, σ²_xx, σ²_yx, px²
    photons: Tensor  # fitted noise-equivalent photons per frame
    local_background: Tensor  # fitted background, noise-equivalent photons/px
    score: Tensor  # matched-filter signal-to-noise ratio at the track
    second: Tensor  # (B,) largest matched-filter score away from the track
    background: Tensor  # (B,) clip background
    noise: Tensor  # (B,) standard deviation of a background pixel


def gaussian_band(size: int, sigma: float, like: Tensor) -> Tensor:
    """(size, size) matrix whose rows are Gaussians of unit sum, cut at 3σ: G @ image @ Gᵀ blurs, zero outside.

    It has the number format and device of `like`. On small grids two matrix products are several times faster than two
    convolutions. Images are square.
    """
    x = torch.arange(size, dtype=like.dtype, device=like.device)
    distance = (x.unsqueeze(0) - x.unsqueeze(1)) / sigma
    kernel = torch.exp(-0.5 * distance**2) * (distance.abs() <= 3)
    return kernel / kernel[size // 2].sum()


def background_level(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each clip's background, (B,) each, by four rounds of clipping at 3σ."""
    flat = signal.flatten(1)
    mean, deviation = flat.mean(1, keepdim=True), flat.std(1, keepdim=True)
    for _ in range(4):
        keep = ((flat - mean).abs() <= 3 * deviation + 1e-6).to(flat.dtype)
        count = keep.sum(1, keepdim=True).clamp(min=1)
        mean = (flat * keep).sum(1, keepdim=True) / count
        deviation = (((flat - mean) ** 2 * keep).sum(1, keepdim=True) / count).sqrt().clamp(min=1e-3)
    return mean[:, 0], deviation[:, 0] * 1.014  # a Gaussian cut at 3σ has 0.986 of its standard deviation


def smooth_track(score: Tensor) -> Tensor:
    """Posterior of the molecule's coarse position, (B, T, h, w), by forward–backward smoothing.

    The emission is the likelihood ratio exp(z²/2) of a spot of unknown brightness; between frames the position moves by a
    mixture of a narrow and a wide Gaussian, wide enough for D = 30 px²/frame.
    """
    frames = score.shape[1]
    evidence = torch.exp((score.clamp(min=0) ** 2 / 2).clamp(max=30.0))  # (B, T, h, w)
    evidence = evidence / evidence.amax((2, 3), keepdim=True)

    narrow, wide = (gaussian_band(score.shape[-1], sigma, score) for sigma in (0.8, 3.5))
    both_ways = torch.stack([evidence, evidence.flip(1)])  # forward and backward in time are one computation
    belief = torch.ones_like(both_ways[:, :, 0])
    beliefs = [belief]
    for t in range(frames - 1):
        seen = belief * both_ways[:, :, t]
        mixed = 0.6 * (narrow @ seen @ narrow) + 0.4 * (wide @ seen @ wide) + 1e-7
        belief = mixed / mixed.amax((2, 3), keepdim=True)
        beliefs.append(belief)
    forward, backward = torch.stack(beliefs, 2)
    both = forward * backward.flip(1) * evidence
    return both / both.sum((2, 3), keepdim=True).clamp(min=1e-30)


def find_track(signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole-pixel track (B, T, 2), its matched-filter score (B, T) and the best score far from it (B,)."""
    height = signal.shape[2]
    left, right = signal[..., ::COARSE], signal[..., 1::COARSE]  # not avg_pool2d: onnxruntime has it in float32 only
    four = left[:, :, ::COARSE] + right[:, :, ::COARSE] + left[:, :, 1::COARSE] + right[:, :, 1::COARSE]
    binned = four / COARSE  # keeps the standard deviation of a pixel
    filter_sigma = 1.4 / COARSE
    band = gaussian_band(height // COARSE, filter_sigma, signal)
    coarse = (band @ binned @ band) / (noise.view(-1, 1, 1, 1) * band[height // COARSE // 2].square().sum())
    belief = smooth_track(coarse)
    rows, columns = coarse.shape[2:]
    cell = belief.flatten(2).argmax(2)
    y, x = torch.div(cell, columns, rounding_mode="floor"), cell % columns
    at_track = coarse.flatten(2).gather(2, cell.unsqueeze(2)).squeeze(2)
    dy = (torch.arange(rows, device=signal.device).view(1, 1, -1) - y.unsqueeze(2)).abs()
    dx = (torch.arange(columns, device=signal.device).view(1, 1, -1) - x.unsqueeze(2)).abs()
    near = ((dy <= 5).unsqueeze(3) & (dx <= 5).unsqueeze(2)).to(coarse.dtype)
    # the mean of the far field's best scores: one noisy frame does not make a second molecule
    second = (coarse - near * 1e4).amax((2, 3)).mean(1)
    return torch.stack([y, x], 2) * COARSE, at_track, second


def crop_at(signal: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    """C×C crops around whole-pixel positions (B, T, 2) and a mask of the pixels inside the field of view."""
    height, width = signal.shape[2:]
    reach = torch.arange(-HALF, HALF + 1, device=signal.device)
    y, x = corner[..., 0:1] + reach, corner[..., 1:2] + reach  # (B, T, C)
    inside = ((y >= 0) & (y < height)).unsqueeze(3) & ((x >= 0) & (x < width)).unsqueeze(2)
    index = y.clamp(0, height - 1).unsqueeze(3) * width + x.clamp(0, width - 1).unsqueeze(2)
    values = signal.flatten(2).gather(2, index.flatten(2)).view_as(index)
    mask = inside.to(signal.dtype)
    return values * mask, mask


@dataclass(frozen=True)
class _Crops:
    """What an EM step needs of N crops of C×C pixels, flattened."""

    data: Tensor  # (N, C²) signal and background
    basis: Tensor  # (C², 6) 1, y, x, yy, xx, yx of each pixel: moments of a weight map in one matrix product
    total: Tensor  # (N,) sum of data
    area: Tensor  # (N,) pixels inside the field of view
    background: Tensor  # (N,)

    @classmethod
    def of(cls, crops: Tensor, mask: Tensor, background: Tensor) -> _Crops:
        axis = torch.arange(-HALF, HALF + 1, device=crops.device, dtype=crops.dtype)
        y, x = axis.view(-1, 1).expand(CROP, CROP).flatten(), axis.view(1, -1).expand(CROP, CROP).flatten()
        data = crops.clamp(min=0).flatten(1)
        basis = torch.stack([torch.ones_like(y), y, x, y * y, x * x, y * x], 1)
        return cls(data, basis, data.sum(1), mask.flatten(1).sum(1).clamp(min=1), background)

    def level(self, amount: Tensor) -> Tensor:
        """Background that is left when the spot holds `amount` photons, within a factor of two of what was expected."""
        rest = (self.total - amount) / self.area
        return torch.maximum(torch.minimum(rest, 2 * self.background + 1), 0.5 * self.background).clamp(min=1e-2)

    def step(self, spot: Tensor) -> Tensor:
        """One EM step on (N, 6) centre y, x, covariance yy, xx, yx and photons."""
        my, mx, vyy, vxx, vyx, amount = spot.unbind(1)
        det = (vyy * vxx - vyx * vyx).clamp(min=0.05)
        # the exponent is a quadratic form in (y, x): its coefficients times the same basis
        a, c, b = vxx / det, vyy / det, -vyx / det
        form = torch.stack(
            [a * my * my + c * mx * mx + 2 * b * my * mx, -2 * (a * my + b * mx), -2 * (c * mx + b * my), a, c, 2 * b], 1
        )
        light = torch.exp(-0.5 * (form @ self.basis.T)) * (amount / (2 * math.pi * det.sqrt())).unsqueeze(1)
        moments = (self.data * light / (light + self.level(amount).unsqueeze(1))) @ self.basis
        found = moments[:, 0].clamp(min=1.0)
        my, mx = moments[:, 1] / found, moments[:, 2] / found
        return self.allowed(
            my, mx, moments[:, 3] / found - my * my, moments[:, 4] / found - mx * mx, moments[:, 5] / found - my * mx, found
        )

    def allowed(self, my: Tensor, mx: Tensor, vyy: Tensor, vxx: Tensor, vyx: Tensor, amount: Tensor) -> Tensor:
        """(N, 6) of the parts, brought to where they make a spot inside the crop."""
        vyy, vxx = vyy.clamp(0.3, 60.0), vxx.clamp(0.3, 60.0)
        limit = 0.95 * (vyy * vxx).sqrt()
        amount = torch.minimum(amount.clamp(min=1.0), self.total.clamp(min=2.0))
        return torch.stack(
            [my.clamp(-HALF, HALF), mx.clamp(-HALF, HALF), vyy, vxx, torch.maximum(torch.minimum(vyx, limit), -limit), amount], 1
        )


def fit_ellipse(crops: Tensor, mask: Tensor, background: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Elliptical Gaussian on a flat background, by expectation–maximisation of the Poisson likelihood.

    Plain EM creeps where the background outshines the spot; squared extrapolation (SQUAREM, Varadhan & Roland 2008, scheme S3)
    gets there in a tenth of the steps. `crops` (N, C, C) hold the background too; `background` (N,) is where the level starts
    and stays within a factor of two. Returns centre (N, 2) from the crop's middle, covariance (N, 3) yy/xx/yx with the pixel's
    1/12 included, photons (N,) and background (N,).
    """
    pixels = _Crops.of(crops, mask, background.clamp(min=1e-2))
    amount = (pixels.total - pixels.background * pixels.area).clamp(min=20.0)
    zero, two = torch.zeros_like(amount), torch.full_like(amount, 2.0)
    spot = pixels.step(pixels.step(torch.stack([zero, zero, two, two, zero, amount], 1)))
    weigh = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.02], device=crops.device, dtype=crops.dtype)  # photons count by the fifty
    for _ in range(FIT_CYCLES):
        first = pixels.step(spot)
        second = pixels.step(first)
        change = first - spot
        bend = second - first - change
        stride = ((change * weigh).square().sum(1) / (bend * weigh).square().sum(1).clamp(min=1e-12)).sqrt()
        stride = stride.clamp(1.0, LONGEST_STRIDE).unsqueeze(1)
        spot = pixels.step(pixels.allowed(*(spot + 2 * stride * change + stride**2 * bend).unbind(1)))
    return spot[:, :2], spot[:, 2:5], spot[:, 5], pixels.level(spot[:, 5])


def read_spots(clip_adu: Tensor, camera: Tensor) -> Spots:
    """Everything above on ADU clips (B, T, H, W); `camera` is (B, ≥ 2): baseline_adu, slope_adu, …."""
    per_adu = 1 / camera[:, 1].clamp(min=1e-6)
    sparse = (clip_adu[:, ::2, ::2, ::2] - camera[:, 0].view(-1, 1, 1, 1)) * per_adu.view(-1, 1, 1, 1)
    background, noise = background_level(sparse)  # 8192 pixels give the mean to 1 % of the noise
    level = -camera[:, 0] * per_adu - background
    above = torch.addcmul(level.view(-1, 1, 1, 1), clip_adu, per_adu.view(-1, 1, 1, 1))
    corner, score, second = find_track(above, noise)
    crops, inside = crop_at(above, corner)
    # photon noise needs the true level: the camera's offset may be mistyped, the fluctuation of the background is not
    level = torch.maximum(background, 0.5 * noise**2).clamp(min=0.05).unsqueeze(1).expand_as(score)
    lifted = (crops + level.view(*level.shape, 1, 1)) * inside
    offset, covariance, photons, local = fit_ellipse(lifted.flatten(0, 1), inside.flatten(0, 1), level.flatten())
    shape = score.shape
    offset = offset.view(*shape, 2)
    return Spots(
        frames=above, crops=crops, inside=inside, offset=offset, centre=corner + offset, covariance=covariance.view(*shape, 3),
        photons=photons.view(shape), local_background=local.view(shape), score=score, second=second,
        background=background, noise=noise,
    )  # fmt: skip


def fitted_spots(spots: Spots) -> Tensor:
    """(B, T, C, C) the elliptical Gaussians that `fit_ellipse` found, noise-equivalent photons per pixel."""
    axis = torch.arange(-HALF, HALF + 1, device=spots.crops.device, dtype=spots.crops.dtype)
    y = axis.view(1, 1, -1, 1) - spots.offset[..., 0].unsqueeze(-1).unsqueeze(-1)
    x = axis.view(1, 1, 1, -1) - spots.offset[..., 1].unsqueeze(-1).unsqueeze(-1)
    vyy, vxx, vyx = (part.unsqueeze(-1).unsqueeze(-1) for part in spots.covariance.unbind(-1))
    det = (vyy * vxx - vyx * vyx).clamp(min=0.05)
    form = (vxx * y * y + vyy * x * x - 2 * vyx * y * x) / det
    return torch.exp(-0.5 * form) * (spots.photons.unsqueeze(-1).unsqueeze(-1) / (2 * math.pi * det.sqrt()))
