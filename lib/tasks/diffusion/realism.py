"""Real clips beside simulated ones at the same settings: how alike they are, in pictures and numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import ndimage

from lib import figures
from lib.task import Panel, Samples
from lib.tasks.diffusion import localise, transfer
from lib.tasks.diffusion.config import FWHM_PER_SIGMA, Simulation
from lib.tasks.diffusion.simulate import Camera, expose
from lib.words import Say, english

SHOWN = 8  # clips in a row
PATCH_PX = 10  # half side of the mean spot


def ssim(one: np.ndarray, other: np.ndarray, span: float) -> float:
    """Structural similarity of two pictures (h, w), 1 for equal ones: Wang et al. 2004, Gaussian window σ = 1.5 px."""

    def mean(picture: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(picture, 1.5, truncate=3.5))

    a, b = one.astype(float), other.astype(float)
    mean_a, mean_b = mean(a), mean(b)
    spread_a, spread_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    joint = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    index = (2 * mean_a * mean_b + c1) * (2 * joint + c2) / ((mean_a**2 + mean_b**2 + c1) * (spread_a + spread_b + c2))
    return float(index.mean())


def psnr_db(one: np.ndarray, other: np.ndarray, span: float) -> float:
    """Peak signal-to-noise ratio in dB: 10·log10(span² / mean squared difference)."""
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return float(10 * np.log10(span**2 / max(error, 1e-12)))


def twin(found: localise.Track, rows: np.ndarray, shape: tuple[int, int], camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Simulated clips with the measured spots (place, width, light, background) of the given rows, (m, T, H, W) in ADU.

    `found` is in noise-equivalent photons; photo-electrons are F² times as many.
    """
    y, x, sigma, light, level = (getattr(found, key)[rows] for key in ("y_px", "x_px", "sigma_px", "photons", "background"))
    down = np.exp(-0.5 * ((np.arange(shape[0]) - y[..., None]) / sigma[..., None]) ** 2)
    across = np.exp(-0.5 * ((np.arange(shape[1]) - x[..., None]) / sigma[..., None]) ** 2)
    spots = (
        np.einsum("nty,ntx->ntyx", down, across)
        * np.where(found.visible[rows], light / (2 * np.pi * sigma**2), 0)[..., None, None]
    )
    expected = (spots + np.median(level, axis=1)[:, None, None, None]) * camera.excess_noise
    return np.asarray(expose(rng.poisson(expected), camera, rng))


def panels(
    real: Samples,
    simulated: Samples,
    reading: transfer.Reading,
    config: Simulation,
    rng: np.random.Generator,
    remarks: Sequence[str] = (),
    say: Say = english,
) -> list[Panel]:
    """Pictures, likeness, photon-transfer line, pixel values and mean spot of real and simulated clips.

    `remarks` are sentences that go after the readings.
    """
    clips = np.asarray(real.inputs["clip_adu"], dtype=float)
    rows = np.argsort(-np.median(reading.track.snr, axis=1))[:SHOWN]
    camera = Camera(config.baseline_adu, config.e_per_adu, config.em_gain, config.read_sigma_e)
    first, second = (twin(reading.track, rows, clips.shape[2:], camera, rng).astype(float) for _ in range(2))
    told = " ".join([settings_text(reading, config, len(real), say), *remarks])
    return [
        Panel("settings", say("What was read from the clips"), told),
        Panel(
            "beside", say("Real clips and their simulated twins"), _beside(clips[rows], first), say(
            "Above: the middle frame of real clips. Below: simulated with the settings read from them, molecule "
            "at the same place."), True,
        ),
        Panel(
            "likeness", say("How alike they are"), likeness(clips[rows], first, second, say), say(
            "A real frame against its simulated twin, and two twins against each other, which differ by noise alone: "
            "that is the best any simulator can reach. SSIM 1 means equal; PSNR is higher for smaller differences."),
        ),
        Panel(
            "photon-transfer", say("Photon-transfer line"), _transfer_figure(real, simulated, reading, say), say(
            "Noise variance against mean signal of single pixels. The slope is ADU per photon (twice that on an EMCCD), and the "
            "line meets zero variance at the camera's offset. Simulated points on the same line mean that the camera matches."),
        ),
        Panel(
            "histogram", say("Pixel values"), _histogram(clips, np.asarray(simulated.inputs["clip_adu"], dtype=float), say), say(
            "All pixels of all clips. Offset and background set the peak, gain its width, the molecule the tail."),
        ),
        Panel(
            "mean-spot", say("Mean spot"), _mean_spot(clips, reading.track, first, rows, say), say(
            "All frames, shifted onto the molecule and averaged: profile through the centre. Its width is the "
            "point-spread function plus motion blur."),
        ),
    ]  # fmt: skip


def settings_text(reading: transfer.Reading, config: Simulation, count: int, say: Say = english) -> str:
    """The readings as a sentence for people."""
    em = config.em_gain > 1
    return say(
        "{n} clips, {kind}: offset **{offset:.0f} ADU**, **{gain:.3g} ADU per photon** (± {error:.0%}), background "
        "**{background:.3g} photons/px**, **{photons:.0f} photons/frame**, still spot σ **{sigma:.2f} px**, shutter open "
        "**{open:.0%}** of each frame, median D **{d:.3g} px²/frame**.", n=count,
        kind=say("an EMCCD (its noise is skewed as a gain register makes it)") if em else say("a camera without EM gain"),
        offset=config.baseline_adu, gain=config.adu_per_photon, error=float(reading.slope_error[0] / reading.slope_adu[0]),
        background=config.background, photons=config.photons, sigma=config.fwhm_nm / FWHM_PER_SIGMA / config.px_size_nm,
        open=config.exposure_s / config.frame_interval_s, d=config.d_px2_per_frame,
    )  # fmt: skip


def likeness(real: np.ndarray, first: np.ndarray, second: np.ndarray, say: Say = english) -> pd.DataFrame:
    """SSIM and PSNR, medians over the middle frames of (m, T, H, W) clips; and of means over frames."""
    rows = []
    middle = real.shape[1] // 2
    looks = ((say("one frame"), lambda clip: clip[middle]), (say("mean of all frames"), lambda clip: clip.mean(axis=0)))
    for label, picture in looks:
        for pair, one, other in ((say("real and twin"), real, first), (say("twin and twin"), second, first)):
            values = [(picture(a), picture(b)) for a, b in zip(one, other)]
            span = [float(np.ptp(b)) or 1.0 for _, b in values]
            rows.append(
                {
                    say("picture"): label,
                    say("compared"): pair,
                    "SSIM": float(np.median([ssim(a, b, s) for (a, b), s in zip(values, span)])),
                    say("PSNR (dB)"): float(np.median([psnr_db(a, b, s) for (a, b), s in zip(values, span)])),
                    say("RMS difference (ADU)"): float(np.median([np.sqrt(np.mean((a - b) ** 2)) for a, b in values])),
                }
            )
    return pd.DataFrame(rows)


def _beside(real: np.ndarray, simulated: np.ndarray) -> go.Figure:
    """Two rows of middle frames on one grey scale."""
    middle = real.shape[1] // 2
    gap = np.full((real.shape[2], 2), np.nan)

    def strip(clips: np.ndarray) -> np.ndarray:
        return np.concatenate([part for clip in clips for part in (clip[middle], gap)][:-1], axis=1)

    lo, hi = np.quantile(real[:, middle], (0.01, 0.999))
    both = np.concatenate([strip(real), np.full((2, strip(real).shape[1]), np.nan), strip(simulated)])
    fig = figures.figure(height=330, margin={"l": 8, "r": 8, "t": 8, "b": 8})
    fig.add_trace(figures.image(both, lo=float(lo), hi=float(hi), colours="gray", scale=2))
    figures.pixel_axes(fig, both.shape, title=False)
    return fig.update_xaxes(visible=False).update_yaxes(visible=False)


def _transfer_figure(real: Samples, simulated: Samples, reading: transfer.Reading, say: Say) -> go.Figure:
    """Binned noise variance against mean, and the line."""
    fig = figures.figure(xaxis_title=say("mean (ADU)"), yaxis_title=say("variance (ADU²)"))
    slope, baseline = float(reading.slope_adu[0]), float(reading.baseline_adu[0])
    mean, variance = transfer.curve(np.asarray(real.inputs["clip_adu"]), reading.track, slope)
    other = np.asarray(simulated.inputs["clip_adu"])
    lifted = np.full(len(other), baseline), np.full(len(other), slope)
    sim_mean, sim_variance = transfer.curve(other, localise.track(transfer.photons(other, *lifted)), slope)
    ends = np.array([baseline, max(mean.max(), sim_mean.max())])
    fig.add_scatter(
        x=ends,
        y=slope * (ends - baseline),
        mode="lines",
        name=say("slope {slope:.3g} ADU", slope=slope),
        line={"color": figures.COLOURS[6], "dash": "dash"},
    )
    fig.add_scatter(x=mean, y=variance, mode="markers", name=say("real"), marker={"color": figures.COLOURS[1], "size": 9})
    fig.add_scatter(
        x=sim_mean,
        y=sim_variance,
        mode="markers",
        name=say("simulated"),
        marker={"color": figures.COLOURS[0], "symbol": "diamond", "size": 8},
    )
    return fig


def _histogram(real: np.ndarray, simulated: np.ndarray, say: Say) -> go.Figure:
    """Densities of all pixel values."""
    lo, hi = np.quantile(real, (0.0001, 0.9998))
    edges = np.linspace(lo, hi, 90)
    fig = figures.figure(xaxis_title=say("pixel value (ADU)"), yaxis_title=say("share of pixels"), yaxis_type="log")
    for name, clips, colour in ((say("real"), real, figures.COLOURS[1]), (say("simulated"), simulated, figures.COLOURS[0])):
        share = np.histogram(clips, edges)[0] / clips.size
        fig.add_scatter(
            x=(edges[1:] + edges[:-1]) / 2, y=np.where(share > 0, share, np.nan), mode="lines", name=name, line_color=colour
        )
    return fig


def _mean_spot(real: np.ndarray, found: localise.Track, simulated: np.ndarray, rows: np.ndarray, say: Say) -> go.Figure:
    """Profiles through the averaged spots of real clips and their twins."""
    titles = {"xaxis_title": say("distance from the molecule (px)"), "yaxis_title": say("mean above background (ADU)")}
    fig = figures.figure(**titles)
    axis = np.arange(-PATCH_PX, PATCH_PX + 1)
    for name, clips, colour in ((say("real"), real[rows], figures.COLOURS[1]), (say("simulated"), simulated, figures.COLOURS[0])):
        profile = mean_patch(clips, found, rows)[PATCH_PX - 1 : PATCH_PX + 2].mean(axis=0)
        fig.add_scatter(x=axis, y=profile, mode="lines+markers", name=name, line_color=colour)
    return fig


def mean_patch(clips: np.ndarray, found: localise.Track, rows: np.ndarray) -> np.ndarray:
    """Average (21, 21) picture of the spot, frames shifted by whole px onto the track, background taken off."""
    total, count = np.zeros((2 * PATCH_PX + 1,) * 2), 0
    for clip, row in zip(clips, rows):
        padded = np.pad(clip - np.median(clip), ((0, 0), (PATCH_PX, PATCH_PX), (PATCH_PX, PATCH_PX)), mode="reflect")
        for frame, seen, y, x in zip(padded, found.visible[row], found.y_px[row], found.x_px[row]):
            if seen:
                top, left = round(float(y)), round(float(x))
                total += frame[top : top + 2 * PATCH_PX + 1, left : left + 2 * PATCH_PX + 1]
                count += 1
    return total / max(count, 1)
