"""Camera settings from the clip itself: photon transfer without a calibration series.

A pixel's variance is slope · (mean - baseline) + read noise², with slope = ADU per photo-electron · F² (Janesick 2007;
F² = 2 on an EMCCD). One clip holds the slope twice:
- the molecule's bright pixels against the background: two points of the line, good to 15–20 % in one clip;
- the skewness of background noise: third over second cumulant is the slope for Poisson counts, 1.5 slopes behind an EM
  register (cumulants λg, 2λg², 6λg³ of exponentially multiplied Poisson), good to 3–5 %.
Their ratio tells the kind of camera. The molecule moves, so noise is not taken over time but from spatial frequencies
that no point-spread function passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lib.tasks.diffusion import localise
from lib.tasks.diffusion.config import Acquisition

FILTER_PX, FILTER_ORDER = 0.75, 4  # high-pass (1 - Gaussian)^4 in frequency
BORDER_PX = 6  # the filter wraps round: not used
SPOT_RADIUS_PX = 10  # background is farther from the molecule than this
BACKGROUND_PRIOR, BACKGROUND_SPREAD = 10.0, 1.2  # noise-equivalent photons/px and its log sd where a clip says nothing
EM_SKEW = 1.5  # third over second cumulant, in slopes, behind an EM register; 1 without
EM_SLOPE_ADU = 8.0  # typical boundary: sCMOS and CCD have 0.2–5 ADU per photo-electron, EMCCDs 10–200


class Known(NamedTuple):
    """What the user typed of the camera; None is estimated."""

    baseline_adu: float | None = None
    slope_adu: float | None = None
    read_sigma_adu: float | None = None
    excess_noise: float | None = None


NOTHING_KNOWN = Known()


@dataclass(frozen=True)
class Points:
    """What one clip says of the camera's line, (n,) each, in ADU and ADU²."""

    background_mean: np.ndarray
    background_variance: np.ndarray
    spot_mean: np.ndarray  # of the spot's pixels, weighted by what they tell
    spot_variance: np.ndarray
    weight: np.ndarray
    slope_error: np.ndarray  # standard error of `slope`, by leaving out frames
    skew_slope: np.ndarray  # third over second cumulant of background noise
    skew_error: np.ndarray
    lowest: np.ndarray  # smallest pixel value

    @property
    def slope(self) -> np.ndarray:
        """Variance per mean from the two points of each clip, ADU; noisy, may be negative."""
        return np.asarray((self.spot_variance - self.background_variance) / (self.spot_mean - self.background_mean))


@dataclass(frozen=True)
class Reading:
    """Camera and molecule of each clip, (n,) each. The track is in noise-equivalent photons, (ADU - baseline) / slope."""

    baseline_adu: np.ndarray
    slope_adu: np.ndarray
    slope_error: np.ndarray  # ADU, one standard deviation; 0 where the slope was given
    excess_noise: np.ndarray  # 1 or 2
    track: localise.Track
    points: Points


def photons(clips: np.ndarray, baseline: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """(ADU - baseline) / slope as float32 (n, T, H, W)."""
    lift, scale = (np.asarray(v, dtype=np.float32)[:, None, None, None] for v in (baseline, slope))
    return np.asarray((np.asarray(clips, dtype=np.float32) - lift) / scale)


def read(clips: np.ndarray, known: Known = NOTHING_KNOWN, n_frames: np.ndarray | None = None) -> Reading:
    """Camera settings and track of each clip (n, T, H, W) in ADU, each clip by itself; known settings are kept."""
    baseline, slope = _provisional(clips, n_frames)
    points = measure(clips, localise.track(photons(clips, baseline, slope), n_frames=n_frames), slope)
    return _with_track(clips, n_frames, points, *_answer(points, slope, known))


def read_set(clips: np.ndarray, known: Known = NOTHING_KNOWN, n_frames: np.ndarray | None = None) -> Reading:
    """As `read`, for clips of one camera at one setting: one slope and one baseline for all of them."""
    baseline, slope = _provisional(clips, n_frames)
    slope = np.full(len(clips), np.median(slope))
    points = measure(clips, localise.track(photons(clips, baseline, slope), n_frames=n_frames), slope)
    found = _answer(points if len(clips) < 2 else pool(points), slope[:1], known)
    return _with_track(clips, n_frames, points, *(np.repeat(value, len(clips)) for value in found))


def known_of(typed: Acquisition) -> Known:
    """What typed settings say of the camera. The slope takes both `e_per_adu` and `em_gain`, the read noise `e_per_adu`."""
    excess = None if typed.em_gain is None else (2.0 if typed.em_gain > 1 else 1.0)
    if typed.e_per_adu is None:
        return Known(typed.baseline_adu, excess_noise=excess)
    slope = None if typed.em_gain is None or excess is None else typed.em_gain * excess / typed.e_per_adu
    read_sigma = None if typed.read_sigma_e is None else typed.read_sigma_e / typed.e_per_adu
    return Known(typed.baseline_adu, slope, read_sigma, excess)


def read_without_gain(
    reader: Callable[..., Reading], clips: np.ndarray, known: Known, e_per_adu: float | None, n_frames: np.ndarray | None = None
) -> Reading:
    """As `reader`, which is `read` (of one clip) or `read_set`, where `e_per_adu` may be known without the EM gain.

    The noise then tells whether there is an EM register; without one the gain is 1, and so the slope is known.
    """
    found = reader(clips, known, n_frames)
    if e_per_adu is None or known.slope_adu is not None or found.excess_noise[0] != 1:
        return found
    return reader(clips, known._replace(slope_adu=1 / e_per_adu, excess_noise=1.0), n_frames)


def pool(points: Points) -> Points:
    """What clips of one camera say together: Points of length 1."""
    n = len(points.slope)
    rise, run = points.spot_variance - points.background_variance, points.spot_mean - points.background_mean
    line = float((points.weight * rise).sum() / (points.weight * run).sum())
    line_error = float(1 / np.sqrt((1 / np.maximum(points.slope_error, 1e-12) ** 2).sum()))
    certainty = 1 / np.maximum(points.skew_error, 1e-12) ** 2
    skew = float((certainty * points.skew_slope).sum() / certainty.sum())
    skew_error = max(float(1 / np.sqrt(certainty.sum())), float(points.skew_slope.std() / np.sqrt(n)))
    level, variance = float(np.median(points.background_mean)), float(np.median(points.background_variance))
    values = (level, variance, level + 1.0, variance + line, 1.0, line_error, skew, skew_error, float(points.lowest.min()))
    return Points(*(np.array([value]) for value in values))


def _answer(points: Points, slope: np.ndarray, known: Known) -> tuple[np.ndarray, ...]:
    """Baseline, slope, its error and F² for each row of `points`; `slope` is the provisional one."""
    n = len(points.slope)
    floor = np.maximum(1e-3 * points.background_variance, 0.1 * slope**2)  # a background of 0.1 photons/px
    noise = np.maximum(points.background_variance - (known.read_sigma_adu or 0.0) ** 2, floor)
    guess, error, excess = _posterior_slope(points, noise, known)
    if known.slope_adu is not None:
        guess, error = np.full(n, known.slope_adu), np.zeros(n)
    if known.excess_noise is not None:
        excess = np.full(n, known.excess_noise)
    level = points.background_mean - noise / guess if known.baseline_adu is None else np.full(n, known.baseline_adu)
    return level, guess, error, excess


def _with_track(
    clips: np.ndarray,
    n_frames: np.ndarray | None,
    points: Points,
    level: np.ndarray,
    slope: np.ndarray,
    error: np.ndarray,
    excess: np.ndarray,
) -> Reading:
    """The reading with the track in photons of the final camera."""
    return Reading(level, slope, error, excess, localise.track(photons(clips, level, slope), n_frames=n_frames), points)


def _provisional(clips: np.ndarray, n_frames: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Baseline and slope (n,) good enough to find the molecule: as if the background were 10 noise-equivalent photons."""
    level, variance = np.empty(len(clips)), np.empty(len(clips))
    for i, clip in enumerate(clips):
        frames = np.asarray(clip if n_frames is None else clip[: int(n_frames[i])], dtype=np.float32)
        level[i] = np.median(frames)
        steps = np.abs(np.diff(frames, axis=2)[:, ::2, ::2])
        span = float(np.quantile(frames[:, ::2, ::2], 0.999)) - level[i]
        variance[i] = max((1.4826 * float(np.median(steps))) ** 2 / 2, 1e-4 * span**2, 1e-12)
    slope = np.sqrt(variance / BACKGROUND_PRIOR)
    return level - BACKGROUND_PRIOR * slope, slope


# --- what a clip says -------------------------------------------------------------------------------------------------
def measure(clips: np.ndarray, found: localise.Track, slope: np.ndarray) -> Points:
    """The line's points of each clip (n, T, H, W). `found` is the track in photons of the provisional `slope` (n,)."""
    rows = [_measure_one(np.asarray(clip, dtype=np.float32), found, i, float(slope[i])) for i, clip in enumerate(clips)]
    return Points(*np.array(rows, dtype=float).reshape(-1, 9).T)


def curve(clips: np.ndarray, found: localise.Track, slope: float, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The photon-transfer line as points: mean (ADU) and noise variance (ADU²) of pixels grouped by the fitted signal.

    `found` is the track of `clips` in noise-equivalent photons of that `slope`.
    """
    means: list[np.ndarray] = []
    variances: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    for row, clip in enumerate(clips):
        light = np.where(found.visible[row], found.photons[row], 0)
        model = _spots(clip.shape, found.y_px[row], found.x_px[row], found.sigma_px[row], light)
        _, mean, energy = _noise_pictures(np.asarray(clip, dtype=np.float32), model * slope)
        inner = (slice(None), slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))
        chosen = (model[inner] > 0.5) | (
            np.arange(model[inner].size).reshape(model[inner].shape) % 97 == 0
        )  # background is plenty
        for store, picture in ((means, mean), (variances, energy), (expected, model)):
            store.append(picture[inner][chosen])
    group, mean, energy = np.concatenate(expected), np.concatenate(means), np.concatenate(variances)
    lit = group > 0.5
    edges = np.quantile(group[lit], np.linspace(0, 1, bins)) if lit.any() else np.array([0.5])
    bin_of = np.where(lit, np.clip(np.searchsorted(edges, group, side="right"), 1, bins - 1), 0)
    count = np.maximum(np.bincount(bin_of, minlength=bins), 1)
    kept = np.bincount(bin_of, minlength=bins) > 20
    return (np.bincount(bin_of, mean, bins) / count)[kept], (np.bincount(bin_of, energy, bins) / count)[kept]


def _noise_pictures(clip: np.ndarray, model_adu: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """High-passed noise, and the mean and the noise energy of the same pixels: E[energy] = slope · (mean - baseline)."""
    shape = clip.shape[1:]
    high, square, _ = _filters(shape)
    noise = np.fft.irfft2(np.fft.rfft2(clip - model_adu) * high, s=shape)
    norm = square[0, 0].real
    return noise, np.fft.irfft2(np.fft.rfft2(clip) * square, s=shape) / norm, noise**2 / norm


def _measure_one(clip: np.ndarray, found: localise.Track, row: int, slope: float) -> tuple[float, ...]:
    """The fields of `Points` for one clip.

    With h the high-pass filter, E[(h * noise)²] = h² * variance = slope · h² * (mean - baseline): both sides are plain sums,
    so weights from the fitted spot, never from the pixel itself, leave the slope unbiased whatever the spot's shape.
    """
    seen = found.visible[row]
    seen = seen if seen.sum() > 2 else np.ones_like(seen)
    clip = clip[seen]
    y, x, sigma, light = (getattr(found, key)[row][seen] for key in ("y_px", "x_px", "sigma_px", "photons"))
    model = _spots(clip.shape, y, x, sigma, light)
    shape, lowest = clip.shape[1:], float(clip.min())
    noise, mean, energy = _noise_pictures(clip, model * slope)
    cube = float((_filters(shape)[2] ** 3).sum())
    weight = model / (model + BACKGROUND_PRIOR) ** 2
    far = np.hypot(np.arange(shape[0])[:, None] - y[:, None, None], np.arange(shape[1]) - x[:, None, None]) > SPOT_RADIUS_PX
    far &= ~_other_light(clip, noise)
    edge = min(BORDER_PX, min(shape) // 5)
    noise, mean, energy, weight, far = (v[:, edge:-edge, edge:-edge] for v in (noise, mean, energy, weight, far))
    sums = np.stack([
        *(np.where(far, v, 0).sum((1, 2)) for v in (mean, energy, np.ones_like(mean), noise**3 / cube)),
        *((weight * v).sum((1, 2)) for v in (mean, energy, np.ones_like(mean))),
    ])  # fmt: skip
    total = sums.sum(axis=1)
    left_out = np.array([_line(total - part) for part in sums.T])
    spread = np.sqrt((len(left_out) - 1) * left_out.var(axis=0))
    background, variance, spot, spot_variance, _, skew = _line(total)
    silent = variance < 1e-3 * slope**2  # background without photons: its skewness says nothing
    return (
        background,
        variance,
        spot,
        spot_variance,
        float(total[6]),
        float(spread[4]),
        skew,
        1e3 * slope if silent else float(spread[5]),
        lowest,
    )


def _line(sums: np.ndarray) -> tuple[float, ...]:
    """Background mean and variance, spot mean and variance, slope, and third over second cumulant, from the seven sums."""
    background, variance, third = sums[[0, 1, 3]] / max(sums[2], 1)
    spot, spot_variance = sums[[4, 5]] / max(sums[6], 1e-12)
    run = spot - background
    slope = (spot_variance - variance) / run if abs(run) > 1e-12 else 0.0
    return background, variance, spot, spot_variance, slope, third / max(variance, 1e-12)


def _other_light(clip: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Pixels (T, H, W) under other spots, or hot in every frame: neither is background."""
    smooth = ndimage.gaussian_filter(clip - np.median(clip), (0, 1.3, 1.3))
    level = np.median(smooth)
    spread = 1.4826 * np.median(np.abs(smooth - level)) + 1e-12
    spots = ndimage.uniform_filter((smooth - level > 6 * spread).astype(np.float32), (0, 7, 7)) > 0.01
    lasting = np.abs(noise.mean(axis=0))
    hot = lasting > 6 * (1.4826 * np.median(lasting) + 1e-12) * 1.5
    return np.asarray(spots | hot)


def _spots(shape: tuple[int, ...], y: np.ndarray, x: np.ndarray, sigma: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Fitted Gaussians as frames (T, H, W)."""
    down = np.exp(-0.5 * ((np.arange(shape[1]) - y[:, None]) / sigma[:, None]) ** 2)
    across = np.exp(-0.5 * ((np.arange(shape[2]) - x[:, None]) / sigma[:, None]) ** 2)
    height = light / (2 * np.pi * sigma**2)
    return np.asarray((height[:, None] * down)[:, :, None] * across[:, None, :], dtype=np.float32)


@lru_cache(maxsize=8)
def _filters(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """High-pass h and its squared kernel h² as transfer functions (rfft2 layout), and h's kernel in px."""
    omega = 2 * np.pi * np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    high = (1 - np.exp(-0.5 * (omega * FILTER_PX) ** 2)) ** FILTER_ORDER
    kernel = np.fft.irfft2(high, s=shape)
    return high, np.fft.rfft2(kernel**2), kernel


# --- the answer -------------------------------------------------------------------------------------------------------
def _posterior_slope(points: Points, noise: np.ndarray, known: Known) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope (posterior mean of its logarithm), its standard deviation and the camera's F², (n,) each.

    Evidence on a grid of log slope for either kind of camera: the two-point slope (with 5 % for spots that are not
    Gaussian), the skewness slope (5 %; without EM gain, read noise of about one electron dilutes it), a typed baseline, a
    baseline that is not below zero unless pixels are, and a broad prior on the background. `noise` is background variance
    less read noise.
    """
    centre = np.log(np.sqrt(noise / BACKGROUND_PRIOR))
    grid = np.linspace(-5.0, 4.0, 1801)[None, :] + centre[:, None]
    slope = np.exp(grid)
    shared = -0.5 * ((grid - centre[:, None]) / BACKGROUND_SPREAD) ** 2 + _two_point_score(points, slope)
    level = points.background_mean[:, None]
    if known.baseline_adu is None:
        shared += _floor_score(level - noise[:, None] / slope, points.lowest[:, None], np.abs(level))
    else:  # good to 2 ADU and 1 %
        above = noise[:, None] / slope
        shared += -0.5 * ((level - above - known.baseline_adu) / (2 + 0.01 * np.abs(above))) ** 2
    counts = noise[:, None] / slope**2
    likely_em = 2.0 * (grid - np.log(EM_SLOPE_ADU))
    scores = []
    for excess, skew, prior in ((1.0, 1.0, -np.logaddexp(0, likely_em)), (2.0, EM_SKEW, -np.logaddexp(0, -likely_em))):
        dilution = np.zeros_like(grid) if excess == 2 or known.read_sigma_adu is not None else 1 / (1 + counts)
        error = np.sqrt(points.skew_error[:, None] ** 2 + (skew * slope) ** 2 * (0.05**2 + dilution**2))
        score = (
            shared
            + prior
            - 0.5 * ((points.skew_slope[:, None] - skew * slope * (1 - dilution)) / error) ** 2
            - np.log(error / slope)
        )
        allowed = known.excess_noise is None or known.excess_noise == excess
        scores.append(score if allowed else np.full_like(score, -np.inf))
    both = np.stack(scores)
    weight = np.exp(both - both.max(axis=(0, 2), keepdims=True))
    weight /= weight.sum(axis=(0, 2), keepdims=True)
    is_em = weight[1].sum(axis=1) > 0.5
    chosen = np.where(is_em[:, None], weight[1], weight[0])
    chosen = chosen / chosen.sum(axis=1, keepdims=True)
    mean = (chosen * grid).sum(axis=1)
    spread = np.sqrt((chosen * (grid - mean[:, None]) ** 2).sum(axis=1))
    return np.exp(mean), np.exp(mean) * spread, np.where(is_em, 2.0, 1.0)


def _two_point_score(points: Points, slope: np.ndarray) -> np.ndarray:
    """Log likelihood of the slope from spot against background."""
    error = np.sqrt(points.slope_error[:, None] ** 2 + (0.05 * slope) ** 2)
    return np.asarray(-0.5 * ((points.slope[:, None] - slope) / error) ** 2 - np.log(error / slope))


def _floor_score(baseline: np.ndarray, lowest: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Log prior of a baseline: not below zero, unless pixels are (background was subtracted before)."""
    below = np.minimum(baseline - np.where(lowest < 0, -np.inf, 0.0), 0)
    return np.asarray(-0.5 * (below / np.maximum(0.02 * level, 1e-9)) ** 2)
