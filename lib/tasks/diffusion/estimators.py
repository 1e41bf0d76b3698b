"""Classical estimates of D from a track, and the bound that binds every one of them.

Positions in px, D in px²/frame, localisation variance in px². `blur` is the motion-blur coefficient R: a sixth of the
fraction of the frame interval that the shutter is open (Berglund 2010), so 1/6 at full exposure. For one axis
    <dx²> = 2D(1 - 2R) + 2s²,   <dx_n dx_(n+1)> = 2RD - s²,   all other products 0.
Frames where the molecule is invisible split a track into segments; every estimator uses all segments it can.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.fft import dst

from lib.task import Samples
from lib.tasks.diffusion import localise

FULL_EXPOSURE_BLUR = 1 / 6
D_FLOOR, D_CEILING = 1e-5, 1e3  # px²/frame; an estimate at the floor means "no motion seen"
BASELINE_COLUMNS = ("d_mle_px2_per_frame", "d_cve_px2_per_frame", "d_msd_px2_per_frame", "bound_relative_sd")


def blur_coefficient(exposure_fraction: np.ndarray) -> np.ndarray:
    """R = exposure / (6 · frame interval); where the exposure is unknown (NaN) the shutter counts as always open."""
    return np.nan_to_num(np.asarray(exposure_fraction, dtype=float), nan=1.0) / 6


def localisation_variance(photons: np.ndarray, background: np.ndarray, sigma_px: np.ndarray, excess: float = 1.0) -> np.ndarray:
    """Variance per axis (px²) of a maximum-likelihood centroid.

    `photons`, `background` (photons/px) and the spot's full width `sigma_px` (pixel integration and blur included);
    `excess` is F², 2 for an EMCCD. Rieger & Stallinga 2014, the closed form of Mortensen et al. 2010.
    """
    variance = np.square(sigma_px)
    n = np.maximum(photons, 1e-9)
    tau = 2 * np.pi * np.maximum(background, 0) * variance / n
    return np.asarray(excess * variance / n * (1 + 4 * tau + np.sqrt(2 * tau / (1 + 4 * tau))))


# --- moments ----------------------------------------------------------------------------------------------------------
def _steps(y: np.ndarray, x: np.ndarray, visible: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (n, 2, T-1), 0 where unknown, and which are known (n, T-1)."""
    steps = np.diff(np.stack([y, x], axis=1), axis=2)
    known = np.ones(steps[:, 0].shape, dtype=bool) if visible is None else visible[:, 1:] & visible[:, :-1]
    return np.where(known[:, None], steps, 0.0), known


def step_moments(y: np.ndarray, x: np.ndarray, visible: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """<dx²> and <dx_n dx_(n+1)> per axis, each (n,), NaN where no pair of steps is known."""
    steps, known = _steps(y, x, visible)
    pairs = known[:, 1:] & known[:, :-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        square = (steps**2).sum(axis=(1, 2)) / (2 * known.sum(axis=1))
        product = (steps[..., 1:] * steps[..., :-1]).sum(axis=(1, 2)) / (2 * pairs.sum(axis=1))
    return square, product


def cve(
    y: np.ndarray, x: np.ndarray, blur: np.ndarray | float, visible: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance-based estimate: D (px²/frame, may be negative by chance) and localisation variance (px²), each (n,).

    `y`, `x`, `visible` (n, T); `blur` (n,) or a number. Vestergaard, Blainey & Flyvbjerg 2014, equations 14–16.
    """
    square, product = step_moments(y, x, visible)
    return square / 2 + product, blur * square + (2 * blur - 1) * product


def msd(y: np.ndarray, x: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """Time-averaged mean squared displacement (n, T-1) in px², two axes added; column k is lag k + 1."""
    n, frames = y.shape
    seen = np.ones((n, frames), dtype=bool) if visible is None else visible
    curve = np.full((n, frames - 1), np.nan)
    for lag in range(1, frames):
        both = seen[:, lag:] & seen[:, :-lag]
        squares = np.where(both, (y[:, lag:] - y[:, :-lag]) ** 2 + (x[:, lag:] - x[:, :-lag]) ** 2, 0.0)
        count = both.sum(axis=1)
        curve[:, lag - 1] = np.where(count > 0, squares.sum(axis=1) / np.maximum(count, 1), np.nan)
    return curve


def msd_fit(y: np.ndarray, x: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """D from a line through the origin fitted to all lags of the MSD, as the original project did (n,)."""
    curve = msd(y, x, visible)
    lags = np.arange(1, curve.shape[1] + 1) * np.isfinite(curve)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((np.nan_to_num(curve) * lags).sum(axis=1) / (lags**2).sum(axis=1) / 4)


def file_slope(y: np.ndarray, x: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """|slope|/4 of a straight line with intercept through all lags of the MSD: the value in the real clips' names (n,)."""
    curve = msd(y, x, visible)
    known = np.isfinite(curve)
    lags = np.where(known, np.arange(1, curve.shape[1] + 1), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(known, lags - (np.nansum(lags, axis=1) / known.sum(axis=1))[:, None], 0.0)
        return np.abs((np.nan_to_num(curve) * centred).sum(axis=1) / (centred**2).sum(axis=1)) / 4


# --- maximum likelihood -----------------------------------------------------------------------------------------------
def _segments(y: np.ndarray, x: np.ndarray, visible: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Runs of visible frames, grouped by length: (clip numbers (m,), summed squares of DST-I modes (m, steps)).

    The sine transform diagonalises the tridiagonal covariance of steps exactly (Berglund 2010).
    """
    n, frames = y.shape
    seen = np.ones((n, frames), dtype=bool) if visible is None else visible
    edges = np.diff(np.pad(seen.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    clip, start = np.nonzero(edges == 1)
    length = np.nonzero(edges == -1)[1] - start
    for frames_seen in np.unique(length[length >= 2]):
        chosen = length == frames_seen
        at = start[chosen][:, None] + np.arange(frames_seen)
        steps = np.diff(np.stack([y[clip[chosen][:, None], at], x[clip[chosen][:, None], at]], axis=1), axis=2)
        yield clip[chosen], (dst(steps, type=1, norm="ortho", axis=2) ** 2).sum(axis=1)


def _mode_variance(d: np.ndarray, variance: np.ndarray, blur: np.ndarray, steps: int) -> np.ndarray:
    """psi_k = 2D + 2(s² - 2RD)(1 - cos(pi k / (N + 1))), k = 1…N, on a new last axis."""
    bend = 1 - np.cos(np.pi * np.arange(1, steps + 1) / (steps + 1))
    return np.asarray(2 * d[..., None] + 2 * (variance - 2 * blur * d)[..., None] * bend)


def log_likelihood(
    y: np.ndarray, x: np.ndarray, blur: np.ndarray, d: np.ndarray, variance: np.ndarray, visible: np.ndarray | None = None
) -> np.ndarray:
    """Log likelihood of D and localisation variance (n, …) for each track (n, T); two axes.

    Berglund 2010, Michalet & Berglund 2012: -½ Σ_k [2 ln psi_k + Σ_axes mode_k² / psi_k].
    """
    total = np.zeros(np.broadcast_shapes(d.shape, variance.shape))
    for clip, energy in _segments(y, x, visible):
        extra = (slice(None),) + (None,) * (total.ndim - 1)
        psi = _mode_variance(d[clip], variance[clip], blur[clip][extra], energy.shape[1])
        modes = energy.reshape(len(energy), *(1,) * (total.ndim - 1), -1)
        np.add.at(total, clip, -0.5 * (2 * np.log(psi) + modes / psi).sum(axis=-1))
    return total


def mle(
    y: np.ndarray,
    x: np.ndarray,
    blur: np.ndarray | float = FULL_EXPOSURE_BLUR,
    variance: np.ndarray | None = None,
    visible: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood D (px²/frame) and localisation variance (px²), each (n,).

    `variance` (n,) is the known localisation variance; None fits it too. A grid over five decades, then zoomed until
    steps are below 0.5 %. NaN where no two neighbouring frames are visible.
    """
    n = len(y)
    ratio = np.broadcast_to(np.asarray(blur, dtype=float), (n,))
    scale = np.clip(step_moments(y, x, visible)[0] / 2, 1e-4, 1e3)
    usable = np.isfinite(scale)
    scale = np.where(usable, scale, 1.0)
    d_grid, s_grid = np.linspace(-5, 1.2, 32), np.linspace(-4, 0.6, 20)
    log_d, log_s = np.log10(scale), np.log10(scale)
    for zoom in range(4):
        d = 10 ** (log_d[:, None] + d_grid)[:, :, None]
        s = 10 ** (log_s[:, None] + s_grid)[:, None, :] if variance is None else np.asarray(variance, dtype=float)[:, None, None]
        d = np.clip(d, D_FLOOR, D_CEILING)
        value = log_likelihood(y, x, ratio, d, np.maximum(s, 1e-9), visible).reshape(n, -1)
        row, column = np.divmod(value.argmax(axis=1), s.shape[2])
        log_d = np.log10(d[np.arange(n), row, 0])
        if variance is None:
            log_s = log_s + s_grid[column]
        width = 0.2 / 4**zoom
        d_grid, s_grid = np.linspace(-width, width, 11), np.linspace(-1.25 * width, 1.25 * width, 11)
    best_s = 10**log_s if variance is None else np.asarray(variance, dtype=float)
    return np.where(usable, 10**log_d, np.nan), np.where(usable, best_s, np.nan)


def trajectory_bound(d: np.ndarray, variance: np.ndarray, blur: np.ndarray | float, n_frames: np.ndarray | int) -> np.ndarray:
    """Smallest relative standard deviation that any unbiased estimate from centroids can have, localisation variance known.

    Cramér–Rao: F = (axes/2) Σ_k (∂psi_k/∂D)² / psi_k² (Berglund 2010; Michalet & Berglund 2012). All (n,).
    """
    d, variance, ratio, frames = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (d, variance, blur, n_frames)))
    bound = np.full(d.shape, np.nan)
    for count in np.unique(frames[frames >= 2]):
        chosen = frames == count
        steps = int(count) - 1
        psi = _mode_variance(d[chosen], variance[chosen], ratio[chosen], steps)
        slope = _mode_variance(np.ones(chosen.sum()), np.zeros(chosen.sum()), ratio[chosen], steps)
        bound[chosen] = 1 / np.sqrt((slope**2 / psi**2).sum(axis=-1)) / d[chosen]
    return bound


# --- a whole set ------------------------------------------------------------------------------------------------------
def noise_equivalent(samples: Samples) -> np.ndarray:
    """Clips in noise-equivalent photons (n, T, H, W) float32: variance equals mean on EMCCD and sCMOS alike."""
    clip = np.asarray(samples.inputs["clip_adu"], dtype=np.float32)
    baseline, slope = (samples.table[c].to_numpy(np.float32)[:, None, None, None] for c in ("baseline_adu", "slope_adu"))
    return np.asarray((clip - baseline) / slope)


def baselines(samples: Samples, found: localise.Track | None = None) -> pd.DataFrame:
    """Classical estimates and a summary of the track, one row per clip; `found` saves localising twice.

    Columns: d_mle_, d_cve_, d_msd_px2_per_frame, bound_relative_sd (at the maximum-likelihood D), snr, photons_per_frame,
    background_photons_px, spot_sigma_px (medians over visible frames), n_visible. Unknown exposure counts as full exposure.
    """
    table = samples.table
    found = found or localise.track(noise_equivalent(samples), n_frames=table["n_frames"].to_numpy())
    blur = blur_coefficient(table["exposure_fraction"].to_numpy(float))
    summary = summarise(found)
    noise = localisation_variance(summary["photons"], summary["background"], summary["sigma_px"])
    y, x, seen = found.y_px, found.x_px, found.visible
    d_mle = mle(y, x, blur, noise, seen)[0]
    excess = table["excess_noise"].to_numpy(float)
    return pd.DataFrame({
        "d_mle_px2_per_frame": d_mle,
        "d_cve_px2_per_frame": cve(y, x, blur, seen)[0],
        "d_msd_px2_per_frame": msd_fit(y, x, seen),
        "bound_relative_sd": trajectory_bound(d_mle, noise, blur, seen.sum(axis=1)),
        "snr": summary["snr"],
        "photons_per_frame": summary["photons"] * excess,
        "background_photons_px": summary["background"] * excess,
        "spot_sigma_px": summary["sigma_px"],
        "n_visible": seen.sum(axis=1),
    }, index=table.index)  # fmt: skip


def summarise(found: localise.Track) -> dict[str, np.ndarray]:
    """Median over visible frames of sigma_px, photons, background and snr, each (n,); over all frames where none is visible."""
    mask = found.visible | ~found.visible.any(axis=1, keepdims=True)
    return {
        key: np.nanmedian(np.where(mask, getattr(found, key), np.nan), axis=1)
        for key in ("sigma_px", "photons", "background", "snr")
    }
