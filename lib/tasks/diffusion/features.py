"""What physics says of a track, as inputs for the temporal network: displacements, widths, spectra.

All functions take the front end's Spots and return plain tensors; T frames, 2-D positions in px, displacements in px/frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.tasks.diffusion.frontend import HALF, Spots, fitted_spots

HERMITE = ((2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3), (4, 0), (3, 1), (2, 2), (1, 3), (0, 4))  # orders in (y, x)
SCALARS, VECTORS = 18, 4  # per frame; the last two scalars are the components of the elongation
FRAME_FEATURES = SCALARS + 2 * VECTORS + len(HERMITE)
D_GRID = (-3.0, 2.0, 41)  # log10 D (px²/frame) where the trajectory's likelihood is laid out
NOISE_FACTORS = (0.5, 1.0, 2.0)  # the localisation variance may be misjudged by this much
TYPICAL_EXPOSURE = 0.6  # assumed by the trajectory's likelihood where the exposure is unknown; the network corrects it
WIDTH_WEIGHT = 0.4  # tempers the width likelihood: fitted widths have heavier tails than its Gamma
SIGMA_GRID = (0.6, 2.2, 33)  # spot σ of a still molecule, px, over which the joint likelihood is averaged
CLIP_FEATURES = 36 + 2 * D_GRID[2] + 2 * len(NOISE_FACTORS)


def _relative_background(spots: Spots) -> tuple[Tensor, Tensor, Tensor]:
    """Photons, spot variance per axis and τ = 2πb·variance/photons of each frame, (B, T) each."""
    photons = spots.photons.clamp(min=5.0)
    width = 0.5 * (spots.covariance[..., 0] + spots.covariance[..., 1])
    level = (0.5 * spots.noise**2 + 0.5 * spots.background.abs()).unsqueeze(1).clamp(min=0.05)
    return photons, width, 2 * math.pi * level * width / photons


def localisation_variance(spots: Spots) -> Tensor:
    """Variance of a fitted centre per axis, px², (B, T) (Mortensen 2010 in the form of Rieger & Stallinga 2014)."""
    photons, width, tau = _relative_background(spots)
    return (width / photons * (1 + 4 * tau + (2 * tau / (1 + 4 * tau)).sqrt())).clamp(1e-4, 25.0)


def width_variance(spots: Spots) -> Tensor:
    """Variance of a fitted spot variance per axis, px⁴, (B, T) (Rieger & Stallinga 2014)."""
    photons, width, tau = _relative_background(spots)
    return (2 * width**2 / photons * (1 + 8 * tau + (9 * tau / (1 + 4 * tau)).sqrt())).clamp(1e-4, 400.0)


def sine_modes(frames: int, device: torch.device) -> Tensor:
    """Orthonormal DST-I matrix of the displacements, (T−1, T−1): it decorrelates them (Michalet & Berglund 2012)."""
    k = torch.arange(1, frames, device=device, dtype=torch.float32)
    return math.sqrt(2 / frames) * torch.sin(math.pi * torch.outer(k, k) / frames)


def _pad_both(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Displacement to the next and from the previous frame, zero where there is none."""
    zero = torch.zeros_like(steps[:, :1])
    return torch.cat([steps, zero], 1), torch.cat([zero, steps], 1)


def _signed_log(x: Tensor, scale: float) -> Tensor:
    return torch.asinh(x / scale)


def frame_features(spots: Spots) -> Tensor:
    """(B, T, FRAME_FEATURES): brightness, width, elongation and motion of each frame."""
    photons = spots.photons.clamp(min=1.0)
    typical = photons.mean(1, keepdim=True)
    variance = localisation_variance(spots)
    vyy, vxx, vyx = spots.covariance.unbind(-1)
    half_sum, half_difference = 0.5 * (vyy + vxx), 0.5 * (vyy - vxx)
    radius = (half_difference**2 + vyx**2 + 1e-8).sqrt()
    steps = spots.centre[:, 1:] - spots.centre[:, :-1]
    ahead, behind = _pad_both(steps)
    ahead2, behind2 = (v.square().sum(-1) for v in (ahead, behind))
    turn = (ahead * behind).sum(-1)

    def along(vector: Tensor, length2: Tensor) -> Tensor:
        y, x = vector.unbind(-1)
        return (half_difference * (y * y - x * x) + 2 * vyx * y * x) / (length2 + 1e-2)

    scalars = [
        photons.log() - 5, (photons / typical).log(), (spots.local_background.clamp(min=1e-2)).log() - 2,
        spots.score.clamp(min=0).log1p() - 2, torch.sigmoid(spots.score - 4), variance.log() + 4,
        half_sum.log(), (half_sum + radius).log(), (half_sum - radius).clamp(min=0.05).log(), half_sum - 1.5,
        _signed_log(along(ahead, ahead2), 0.3), _signed_log(along(behind, behind2), 0.3),
        (ahead2 + variance).log(), (behind2 + variance).log(), _signed_log(turn, 0.1), _signed_log(turn / variance, 1.0),
        _signed_log(half_difference, 0.3), _signed_log(vyx, 0.3),
    ]  # fmt: skip
    vectors = [_signed_log(ahead, 0.5), _signed_log(behind, 0.5), (spots.centre - 31.5) / 16, spots.offset]
    return torch.cat([torch.stack(scalars, -1), *vectors, hermite_shape(spots)], -1)


def hermite_shape(spots: Spots) -> Tensor:
    """(B, T, HERMITE): what the elliptical fit leaves of each spot, on Gauss–Hermite functions of the spot's own width.

    Third orders are the skew, fourth the kurtosis of the smear: the trace of the path inside the exposure.
    """
    axis = torch.arange(-HALF, HALF + 1, device=spots.crops.device, dtype=spots.crops.dtype)
    scale = (0.5 * (spots.covariance[..., 0] + spots.covariance[..., 1])).sqrt().unsqueeze(-1)
    rest = (spots.crops - fitted_spots(spots)) * spots.inside
    y, x = ((axis - spots.offset[..., k : k + 1]) / scale for k in (0, 1))

    def functions(u: Tensor) -> list[Tensor]:
        envelope = torch.exp(-0.5 * u**2)
        polynomials = [torch.ones_like(u), u, u**2 - 1, u**3 - 3 * u, u**4 - 6 * u**2 + 3]
        return [h * envelope / math.sqrt(math.factorial(k)) for k, h in enumerate(polynomials)]

    along_y, along_x = torch.stack(functions(y), -2), torch.stack(functions(x), -1)  # (B, T, 5, C), (B, T, C, 5)
    table = (along_y @ rest @ along_x) / spots.photons.clamp(min=20.0).unsqueeze(-1).unsqueeze(-1)
    return torch.stack([_signed_log(table[..., m, n], 0.05) for m, n in HERMITE], -1)


def _blur(exposure: Tensor) -> Tensor:
    """Exposure fraction with the typical one where it is unknown."""
    return torch.where(exposure >= 0, exposure, torch.full_like(exposure, TYPICAL_EXPOSURE))


def grid_moments(curve: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-likelihood over D_GRID relative to its maximum (B, points), posterior mean and sd of log10 D (flat prior)."""
    log10_d = torch.linspace(*D_GRID, device=curve.device)
    curve = curve - curve.amax(1, keepdim=True)
    weight = torch.softmax(curve, 1)
    mean = (weight * log10_d).sum(1)
    return curve, mean, ((weight * (log10_d - mean.unsqueeze(1)) ** 2).sum(1) + 1e-6).sqrt()


def track_likelihood(modes: Tensor, variance: Tensor, exposure: Tensor) -> Tensor:
    """(B, points) log-likelihood of D on D_GRID from the sine modes' energies (B, T−1).

    Berglund 2010, Michalet & Berglund 2012: mode k has variance ψ_k = 2D + 2(σ² − 2RD)(1 − cos(πk/T)) per axis, R a sixth of
    the exposure fraction. `variance` (B,) is the localisation variance σ².
    """
    steps = modes.shape[1]
    d = (10.0 ** torch.linspace(*D_GRID, device=modes.device)).view(1, -1, 1)
    c = 1 - torch.cos(math.pi * torch.arange(1, steps + 1, device=modes.device, dtype=modes.dtype) / (steps + 1))
    blur = _blur(exposure).view(-1, 1, 1) / 6
    psi = (2 * d * (1 - 2 * blur * c) + 2 * variance.view(-1, 1, 1) * c).clamp(min=1e-6)
    return -(psi.log() + modes.unsqueeze(1) / (2 * psi)).sum(-1)


def _log_gamma(k: Tensor) -> Tensor:
    """Ln Γ(k) for k ≥ 1 by Stirling's series, to 1e-3 (ONNX has no such operator)."""
    return (k - 0.5) * k.log() - k + 0.5 * math.log(2 * math.pi) + 1 / (12 * k) - 1 / (360 * k**3)


def still_sigmas(sigma: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """(B, sigmas) values of a still spot's σ to average over and their log prior: flat, or narrow where σ is known (≥ 0).

    `error` (B,) is the standard error of σ as a share of it.
    """
    low, high, points = SIGMA_GRID
    known = (sigma >= 0).unsqueeze(1)
    off = torch.linspace(-3, 3, points, device=sigma.device)
    wide = torch.linspace(low, high, points, device=sigma.device).expand(len(sigma), -1)
    grid = torch.where(known, (sigma.unsqueeze(1) * (1 + error.unsqueeze(1) * off)).clamp(min=0.3), wide)
    return grid, torch.where(known, -0.5 * off**2, torch.zeros_like(wide))


def width_likelihood(spots: Spots, exposure: Tensor, sigma: Tensor, error: Tensor) -> Tensor:
    """(B, points, sigmas) log-likelihood of D and of the still spot's σ from the fitted covariances.

    The variance per axis is σ² + 1/12 + p + noise. For Brownian motion over the exposure t the path's own variance p has mean
    Dt/3 and relative variance 4/5 (its Karhunen–Loève series, Σ 2Dt/(πk)²·χ²), and the two axes' cross term has variance
    2/5·(Dt/3)². The sum is taken as Gamma with those moments; frames count by how visible the spot is. `sigma` (B,) is the
    known σ of a still spot, −1 where unknown, `error` (B,) its standard error as a share of it.
    """
    d = (10.0 ** torch.linspace(*D_GRID, device=exposure.device)).view(1, -1, 1)
    path = d * _blur(exposure).view(-1, 1, 1) / 3
    grid, prior = (part.unsqueeze(1) for part in still_sigmas(sigma, error))
    still = grid**2 + 1 / 12
    seen = torch.sigmoid(2 * (spots.score - 4.5)) + 1e-3
    noise = ((width_variance(spots) * seen).sum(1) / seen.sum(1)).view(-1, 1, 1)
    vyy, vxx, vyx = spots.covariance.unbind(-1)
    count = seen.sum(1).view(-1, 1, 1)
    log_sum = (seen * (vyy.log() + vxx.log())).sum(1).view(-1, 1, 1)
    plain_sum = (seen * (vyy + vxx)).sum(1).view(-1, 1, 1)
    cross_sum = (seen * vyx**2).sum(1).view(-1, 1, 1)
    mean, variance = path + still, 0.8 * path**2 + noise
    shape = (mean**2 / variance).clamp(min=1.0)
    scale = mean / shape
    own = (shape - 1) * log_sum - plain_sum / scale - 2 * count * (shape * scale.log() + _log_gamma(shape))
    cross = 0.4 * path**2 + 0.5 * noise
    return WIDTH_WEIGHT * (own - 0.5 * (count * cross.log() + cross_sum / cross)) + prior


def clip_features(spots: Spots, camera: Tensor) -> Tensor:
    """(B, CLIP_FEATURES): D from track and widths, spectrum of the displacements, sorted widths, brightness, what is known.

    `camera` (B, 5) holds the exposure fraction, the still spot's σ and its relative error in its last columns, −1 where unknown.
    """
    exposure, still, error = camera[:, 2], camera[:, 3], camera[:, 4].clamp(min=0.002)
    frames = spots.centre.shape[1]
    steps = spots.centre[:, 1:] - spots.centre[:, :-1]
    variance = localisation_variance(spots)
    noise = variance.mean(1)
    modes = torch.einsum("kt,bta->bka", sine_modes(frames, steps.device), steps).square().sum(-1)
    lag1 = (steps[:, 1:] * steps[:, :-1]).sum(-1).mean(1)
    width = 0.5 * (spots.covariance[..., 0] + spots.covariance[..., 1])
    ordered = width.sort(1).values
    groups = [ordered[:, :4].mean(1), ordered[:, 4:8].mean(1), ordered[:, 8:12].mean(1), ordered[:, 12:].mean(1)]
    known, measured = (exposure >= 0).to(noise.dtype), (still >= 0).to(noise.dtype)
    smear = _signed_log(width.mean(1) - still**2 - 1 / 12, 0.05) * measured
    scalars = [
        noise.log() + 4, (modes.mean(1) + noise).log(), _signed_log(lag1, 0.05), *[g.log() for g in groups],
        spots.photons.clamp(min=1).mean(1).log() - 5, spots.noise.log() - 1, spots.second.clamp(min=0).log1p() - 1,
        (spots.score > 4).to(noise.dtype).mean(1), exposure * known, known, still * measured, measured, width.std(1).log1p(),
        smear, (error.log() + 4) * measured,
    ]  # fmt: skip
    tracks = [track_likelihood(modes, factor * noise, exposure) for factor in NOISE_FACTORS]
    widths = width_likelihood(spots, exposure, still, error)
    joint = torch.logsumexp(tracks[1].unsqueeze(2) + widths, 2)
    sigma_weight = torch.softmax(torch.logsumexp(tracks[1].unsqueeze(2) + widths, 1), 1)
    sigma = (sigma_weight * still_sigmas(still, error)[0]).sum(1)
    joint_curve, joint_mean, joint_sd = grid_moments(joint)
    readings = [grid_moments(track) for track in tracks]
    moments = [joint_mean, joint_sd.log() + 2, sigma, *[m for _, mean, sd in readings for m in (mean, sd.log() + 2)]]
    curves = [joint_curve.clamp(min=-12.0) / 4, readings[1][0].clamp(min=-12.0) / 4]
    return torch.cat([torch.stack([*moments, *scalars], -1), (modes + noise.unsqueeze(1)).log(), *curves], -1)


def physics_log10_d(features: Tensor) -> Tensor:
    """(B,) posterior mean of log10 D from track and widths, out of `clip_features`: where the network starts from."""
    return features[:, 0]
