"""Look at real clips before they are used: readings, flags, and simulator settings that match them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.task import Calibration, InputError, Samples
from lib.tasks.diffusion import estimators, localise, realism, transfer
from lib.tasks.diffusion.config import CLIP_PX, FWHM_PER_SIGMA, Acquisition, Rules, Simulation
from lib.words import Say, english

CEILINGS_ADU = (255, 1023, 4095, 16_383, 65_535)  # 8-, 10-, 12-, 14- and 16-bit cameras
SECOND_SNR = 5.0  # a second spot fainter than this is noise
SLOW_PX2, FAST_PX2 = 0.3, 1.0  # px²/frame: hardly blurred; blurred and far above localisation error
MOST_CLIPS = 64  # more make a calibration slower, not better
NOMINAL_EM_GAIN = 300.0  # gain and e⁻/ADU are not separable in a clip; only their ratio is used
Simulate = Callable[[Simulation, int, np.random.Generator], Samples]


# --- readings ---------------------------------------------------------------------------------------------------------
def inspect(samples: Samples) -> pd.DataFrame:
    """What each clip shows, one row each: camera, brightness, width, path, second spots, saturation, blinking, D by CVE."""
    table = samples.table
    clips = estimators.noise_equivalent(samples)
    real = table["n_frames"].to_numpy()
    found = localise.track(clips, n_frames=real)
    summary = estimators.summarise(found)
    excess = table["excess_noise"].to_numpy(float)
    blur = estimators.blur_coefficient(table["exposure_fraction"].to_numpy(float))
    return pd.DataFrame({
        "file": table["file"].to_numpy(),
        "baseline_adu": table["baseline_adu"].to_numpy(float),
        "adu_per_photon": table["slope_adu"].to_numpy(float) / excess,
        "excess_noise_f2": excess,
        "background_photons_px": summary["background"] * excess,
        "photons_per_frame": summary["photons"] * excess,
        "sigma_px": summary["sigma_px"],
        "snr": np.where(found.visible.any(axis=1), summary["snr"], 0.0),
        "max_jump_px": _longest_step(found),
        "min_edge_px": _edge_distance(found),
        "second_spot_ratio": second_spot_ratio(clips, found, real),
        "saturated_px": [saturated(np.asarray(clip)) for clip in samples.inputs["clip_adu"]],
        "dark_frames": real - found.visible.sum(axis=1),
        "d_cve_px2_per_frame": estimators.cve(found.y_px, found.x_px, blur, found.visible)[0],
        "camera_estimated": table["camera_estimated"].to_numpy(bool),
    })  # fmt: skip


def flag(readings: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """One boolean column per rule, True where the rule removes the clip."""
    return pd.DataFrame({
        "min_snr": readings["snr"] < rules.min_snr,
        "min_photons": ~(readings["photons_per_frame"] >= rules.min_photons),
        "max_jump_px": readings["max_jump_px"] > rules.max_jump_px,
        "min_edge_px": readings["min_edge_px"] < rules.min_edge_px,
        "max_second_spot": readings["second_spot_ratio"] > rules.max_second_spot,
        "max_saturated_px": readings["saturated_px"] > rules.max_saturated_px,
        "max_dark_frames": readings["dark_frames"] > rules.max_dark_frames,
    }, index=readings.index)  # fmt: skip


def _longest_step(found: localise.Track) -> np.ndarray:
    """Longest displacement between neighbouring visible frames, px; 0 where there is none."""
    both = found.visible[:, 1:] & found.visible[:, :-1]
    step = np.hypot(np.diff(found.y_px, axis=1), np.diff(found.x_px, axis=1))
    return np.asarray(np.where(both, step, 0.0).max(axis=1))


def _edge_distance(found: localise.Track) -> np.ndarray:
    """Smallest distance of a visible spot from the border, px; NaN where none is visible."""
    coordinates = np.stack([found.y_px, found.x_px])
    distance = np.minimum(coordinates, CLIP_PX - 1 - coordinates).min(axis=0)
    nearest = np.where(found.visible, distance, np.inf).min(axis=1)
    return np.asarray(np.where(np.isfinite(nearest), nearest, np.nan))


def second_spot_ratio(clips: np.ndarray, found: localise.Track, n_frames: np.ndarray) -> np.ndarray:
    """Brightness of the next spot relative to the molecule, (n,); 0 where there is nothing but noise.

    The molecule is replaced by its mirror image through the clip's centre (which is background unless something else is
    there) and the brightest remaining track is measured. It counts where it is clear in half of the frames.
    """
    rows, columns = np.arange(clips.shape[2])[:, None], np.arange(clips.shape[3])
    ratio = np.zeros(len(clips))
    for start in range(0, len(clips), localise.CHUNK_CLIPS):
        part = slice(start, start + localise.CHUNK_CLIPS)
        block = np.array(clips[part])
        y, x = found.y_px[part, :, None, None], found.x_px[part, :, None, None]
        radius = np.maximum(4 * found.sigma_px[part].max(axis=1), 6)[:, None, None, None]
        spot = np.hypot(rows - y, columns - x) < radius
        level = np.broadcast_to(found.background[part, :, None, None], block.shape)
        mirror = np.where(spot[:, :, ::-1, ::-1], level, block[:, :, ::-1, ::-1])
        other = localise.track(np.where(spot, mirror, block), n_frames=n_frames[part])
        clear = (other.snr > SECOND_SNR) & other.visible
        enough = clear.sum(axis=1) >= n_frames[part] / 2
        second = np.nanmedian(np.where(other.visible | ~other.visible.any(axis=1, keepdims=True), other.photons, np.nan), axis=1)
        ratio[part] = np.where(enough, second / np.maximum(np.median(found.photons[part], axis=1), 1e-9), 0.0)
    return ratio


def saturated(clip: np.ndarray) -> int:
    """Pixels at the ceiling of some camera's number format."""
    ceiling = clip.max()
    return int((clip == ceiling).sum()) if ceiling in CEILINGS_ADU else 0


# --- calibration ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Conditions:
    """What a set of clips of one microscope has in common; photons are photo-electrons."""

    reading: transfer.Reading
    sigma_px: float  # of a still molecule, pixel integration taken out
    photons: np.ndarray  # per frame, each clip
    background: np.ndarray  # per px, each clip
    d_px2: np.ndarray  # per clip, maximum likelihood
    exposure: float  # fraction of the frame interval
    exposure_measured: bool

    @property
    def adu_per_photon(self) -> float:
        """ADU of one photo-electron."""
        return float(self.reading.slope_adu[0] / self.reading.excess_noise[0])


def conditions(samples: Samples, acquisition: Acquisition) -> Conditions:
    """Pooled reading of clips that share camera and settings. Raises InputError where no molecule is visible."""
    table = samples.table
    known = transfer.known_of(acquisition)._replace(read_sigma_adu=None)  # the simulation counts read noise as background
    clips, frames = np.asarray(samples.inputs["clip_adu"]), table["n_frames"].to_numpy()
    reading = transfer.read_without_gain(transfer.read_set, clips, known, acquisition.e_per_adu, frames)
    seen = reading.track.visible.sum(axis=1) >= 3
    if not seen.any():
        raise InputError(
            "calibration", "no clip shows a molecule in three frames or more", "Keep clips with a visible spot and try again"
        )
    summary = {key: value[seen] for key, value in estimators.summarise(reading.track).items()}
    typed = table["exposure_fraction"].dropna()
    y, x, visible = reading.track.y_px[seen], reading.track.x_px[seen], reading.track.visible[seen]
    noise = estimators.localisation_variance(summary["photons"], summary["background"], summary["sigma_px"])
    first = estimators.cve(y, x, estimators.FULL_EXPOSURE_BLUR, visible)[0]
    measured = np.nan if len(typed) else _exposure(y, x, visible, noise, first)
    exposure = float(typed.median()) if len(typed) else (1.0 if np.isnan(measured) else measured)
    d = estimators.mle(y, x, exposure / 6, noise, visible)[0]
    f2 = float(reading.excess_noise[0])
    level = (reading.points.background_mean - reading.baseline_adu) / reading.slope_adu
    return Conditions(
        reading=reading,
        sigma_px=acquisition.psf_sigma_px or _still_width(reading.track.sigma_px[seen], visible, d),
        photons=summary["photons"] * f2,
        background=np.maximum(level * f2, 0)[seen],
        d_px2=d,
        exposure=exposure,
        exposure_measured=bool(np.isfinite(measured)),
    )


def _exposure(y: np.ndarray, x: np.ndarray, visible: np.ndarray, noise: np.ndarray, d: np.ndarray) -> float:
    """Exposure fraction 6R from the lag-1 covariance of clearly moving molecules: <dx dx'> = 2RD - s². NaN if too few."""
    fast = d > np.maximum(FAST_PX2, 8 * noise)
    if fast.sum() < 10:
        return float("nan")
    product = estimators.step_moments(y, x, visible)[1]
    return float(np.clip(6 * np.mean(product[fast] + noise[fast]) / (2 * np.mean(d[fast])), 0.1, 1.0))


def _still_width(sigma_px: np.ndarray, visible: np.ndarray, d: np.ndarray) -> float:
    """Spot σ of a still molecule: from slow clips, or else from the sharpest fifth of frames; pixel integration taken out."""
    widths = np.where(visible, sigma_px, np.nan)
    slow = d < SLOW_PX2
    variance = np.nanmedian(widths[slow] ** 2) if slow.sum() >= 3 else np.nanquantile(widths**2, 0.2)
    return float(np.sqrt(max(variance - 1 / 12, 0.1)))


def calibrate(
    samples: Samples, acquisition: Acquisition, simulate: Simulate, rng: np.random.Generator, say: Say = english
) -> Calibration:
    """Simulator settings and training ranges that match real clips, with real beside simulated.

    Median photons and background, pooled photon-transfer line, width of still spots. Pixel size and frame interval are
    taken from the table where known; else 100 nm and 10 ms stand in, which leaves everything in px and frames as it is.
    The width goes into the instrument settings where it is typed or enough clips hardly move: a guessed one misleads a model.
    Raises InputError where no clip, or none with a visible molecule, is left.
    """
    from lib.tasks.diffusion.still import learn

    if len(samples) == 0:
        raise InputError("calibration", "there is no clip", "Keep at least one clip, better twenty")
    if len(samples) > MOST_CLIPS:
        samples = samples.take(np.linspace(0, len(samples) - 1, MOST_CLIPS).astype(int))
    known, _ = learn(samples, acquisition)
    found = conditions(samples, known)
    simulation = _simulation(found, samples.table, known)
    instrument = {"baseline_adu": simulation.baseline_adu, "e_per_adu": simulation.e_per_adu, "em_gain": simulation.em_gain}
    if known.psf_sigma_px is not None:
        instrument |= {"psf_sigma_px": known.psf_sigma_px, "psf_sigma_error_percent": known.psf_sigma_error_percent}
    simulated = simulate(simulation, 32, rng)
    panels = realism.panels(samples, simulated, found.reading, simulation, rng, _remarks(simulation, known, say), say)
    return Calibration(simulation, _training(found), instrument, panels)


def _remarks(simulation: Simulation, known: Acquisition, say: Say) -> list[str]:
    """What of the calibration a clip cannot tell, as sentences."""
    remarks = []
    if simulation.em_gain > 1 and known.em_gain is None:
        remarks.append(say("The EM gain of {gain:g} is nominal: clips tell only its ratio to e⁻/ADU, and that is what is used.",
                           gain=simulation.em_gain))  # fmt: skip
    if not known.psf_sigma_px:
        remarks.append(say("Too few clips hardly move, or their widths differ: the width of the still spot is a rough guess, "
                           "good for simulation but not for the instrument settings."))  # fmt: skip
    return remarks


def _simulation(found: Conditions, table: pd.DataFrame, acquisition: Acquisition) -> Simulation:
    """The middle of the measured conditions as one simulated clip."""
    px_size = float(table["px_size_nm"].median()) if table["px_size_nm"].notna().any() else 100.0
    interval = float(table["frame_interval_s"].median()) if table["frame_interval_s"].notna().any() else 0.01
    is_em = float(found.reading.excess_noise[0]) > 1
    em_gain = acquisition.em_gain or (NOMINAL_EM_GAIN if is_em else 1.0)
    d_px2 = float(np.nanmedian(found.d_px2))
    return Simulation.parse({
        "d_um2_s": round(float(np.clip(d_px2 * (px_size / 1000) ** 2 / interval, 0, 1000)), 6),
        "px_size_nm": px_size, "frame_interval_s": interval, "exposure_s": interval * found.exposure,
        "fwhm_nm": float(np.clip(found.sigma_px * FWHM_PER_SIGMA * px_size, 1, 5000)),
        "photons": float(np.clip(np.median(found.photons), 1, 1e5)),
        "background": float(np.clip(np.median(found.background), 0, 5000)),
        "qe": 1.0, "baseline_adu": float(np.clip(found.reading.baseline_adu[0], 0, 60_000)),
        "em_gain": em_gain, "e_per_adu": float(np.clip(em_gain / found.adu_per_photon, 1e-3, 1000)),
    }, "calibration")  # fmt: skip


def _training(found: Conditions) -> dict[str, float]:
    """Ranges around what was measured, wide enough that their edges do not bias: a third beyond the middle 90 % of clips."""
    photons = np.quantile(found.photons, (0.05, 0.95)) * (0.6, 1.6)
    background = np.quantile(found.background, (0.05, 0.95)) * (0.6, 1.6)
    exposure = (max(found.exposure - 0.25, 0.1), min(found.exposure + 0.25, 1.0)) if found.exposure_measured else None
    ranges = {
        "photons_min": max(photons[0], 20.0), "photons_max": max(photons[1], 40.0),
        "background_min": max(background[0], 0.1), "background_max": max(background[1], 0.2),
        "sigma_min_px": max(found.sigma_px * 0.85, 0.4), "sigma_max_px": found.sigma_px * 1.2,
        "emccd_fraction": 1.0 if float(found.reading.excess_noise[0]) > 1 else 0.0, "typical_fraction": 0.0,
    }  # fmt: skip
    if exposure:
        ranges |= {"exposure_min": exposure[0], "exposure_max": exposure[1]}
    return {key: float(f"{value:.3g}") for key, value in ranges.items()}
