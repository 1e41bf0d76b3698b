"""Photon-true simulation of a diffusing molecule under an open shutter.

Coordinates are (y, x) in px with pixel centres at whole numbers; times are in frames. Each step is one function: Brownian
path, photons, camera. Background and camera noise of a pixel that no photon of the molecule hit follow one known
distribution, which is drawn from a table; the few pixels that were hit are simulated electron by electron.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import erf, gammaln, ndtr, ndtri, xlogy

from lib.task import Samples
from lib.tasks.diffusion.config import CLIP_FRAMES, CLIP_PX, Simulation

SUBSTEPS = 16  # per exposure; interval means are exact, so this only sets how finely a smear is resolved
BLOCK = 4  # clips simulated at once: their photon maps stay in the processor's cache
ADU_MAX = 65_535
FLOAT = np.float32


@dataclass(frozen=True)
class Camera:
    """Linear camera: ADU = baseline + electrons / e_per_adu, electrons after EM gain and read noise (sigma in e⁻)."""

    baseline_adu: float
    e_per_adu: float
    em_gain: float = 1.0
    read_sigma_e: float = 0.0

    @property
    def adu_per_electron(self) -> float:
        """Mean ADU of one photo-electron."""
        return self.em_gain / self.e_per_adu

    @property
    def excess_noise(self) -> float:
        """F²: 2 with EM gain, 1 without."""
        return 2.0 if self.em_gain > 1 else 1.0


@dataclass(frozen=True)
class Molecules:
    """n molecules: each array has shape (n,). Photons are those detected (photo-electrons)."""

    d_px2: np.ndarray  # D, px²/frame
    sigma_px: np.ndarray  # spot σ of a still molecule before pixel integration, px
    photons: np.ndarray  # per frame
    exposure: np.ndarray  # fraction of the frame interval
    blink: np.ndarray  # chance that a frame is dark
    start_px: np.ndarray  # (n, 2) position when the first shutter opens
    lit_frames: np.ndarray  # the molecule bleaches after so many frames

    def some(self, rows: slice) -> Molecules:
        """Those of these rows."""
        return Molecules(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def brownian_paths(molecules: Molecules, rng: np.random.Generator, substeps: int = SUBSTEPS) -> np.ndarray:
    """Mean positions in each sub-interval of each exposure: (n, frames, substeps, 2), px.

    The sub-interval means of Brownian motion are drawn exactly: given the increment ΔW over a time δ, the mean lies at
    ΔW/2 with variance 2Dδ/12. So the mean over an exposure has the law of the continuous path for any `substeps`.
    """
    n = len(molecules.d_px2)
    shape = (n, CLIP_FRAMES, substeps, 2)
    step = np.sqrt(2 * molecules.d_px2 * molecules.exposure / substeps).astype(FLOAT)[:, None, None, None]
    rest = np.sqrt(2 * molecules.d_px2 * (1 - molecules.exposure)).astype(FLOAT)[:, None, None]
    moves = rng.standard_normal(shape, dtype=FLOAT) * step
    means = moves / 2 + rng.standard_normal(shape, dtype=FLOAT) * (step / np.float32(12**0.5))
    dark = rng.standard_normal((n, CLIP_FRAMES, 2), dtype=FLOAT) * rest  # shutter closed
    frame_end = np.cumsum(moves.sum(2) + dark, axis=1)
    frame_start = np.concatenate([np.zeros((n, 1, 2), FLOAT), frame_end[:, :-1]], axis=1)
    within = np.cumsum(moves, axis=2) - moves  # where each sub-interval begins, from the frame's start
    return molecules.start_px[:, None, None, :].astype(FLOAT) + frame_start[:, :, None, :] + within + means


def photon_counts(paths: np.ndarray, molecules: Molecules, rng: np.random.Generator) -> np.ndarray:
    """Detected photons of the molecules per pixel: int (n, frames, 64, 64).

    Photons per sub-interval are Poisson; each lands at the path plus the point-spread function plus the motion inside its
    sub-interval (variance Dδ/3). Photons beyond the border are lost, as in the instrument.
    """
    n, frames, substeps, _ = paths.shape
    lit = rng.random((n, frames), dtype=FLOAT) >= molecules.blink[:, None]
    lit &= np.arange(frames) < molecules.lit_frames[:, None]
    mean = (molecules.photons[:, None] / substeps * lit)[:, :, None]
    counts = rng.poisson(np.broadcast_to(mean, (n, frames, substeps)))
    spread = np.sqrt(molecules.sigma_px**2 + molecules.d_px2 * molecules.exposure / substeps / 3).astype(FLOAT)
    flat = counts.ravel()
    per_clip = counts.reshape(n, -1).sum(1)
    at = _normals(2 * int(per_clip.sum()), rng).reshape(2, -1)
    at *= np.repeat(spread, per_clip)
    for axis in (0, 1):
        at[axis] += np.repeat(paths[..., axis].ravel() + FLOAT(0.5), flat)
    y, x = np.floor(at, out=at).astype(np.int32)
    outside = ((y | x) & ~(CLIP_PX - 1)) != 0  # not in 0 … 63, a power of two less one
    index = y * CLIP_PX + x
    index += np.repeat(np.arange(n * frames, dtype=np.int32) * CLIP_PX**2, counts.reshape(n * frames, substeps).sum(1))
    if outside.any():
        index = index[~outside]
    return np.bincount(index, minlength=n * frames * CLIP_PX**2).reshape(n, frames, CLIP_PX, CLIP_PX)


def _sixteen_bits(size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` random uint16, drawn four at a time: twice as fast as one by one."""
    return rng.integers(0, 2**64, -(-size // 4), dtype=np.uint64).astype("<u8", copy=False).view("<u2")[:size]


@lru_cache(maxsize=1)
def _normal_slices() -> np.ndarray:
    """The standard normal cut into 2¹⁶ equally likely slices: the mean of each, scaled to unit variance; ±4.3 at the ends."""
    edges = ndtri(np.linspace(0, 1, 65_537))
    means = -np.diff(np.exp(-0.5 * edges**2)) / np.sqrt(2 * np.pi) * 65_536
    return np.asarray(means / means.std(), FLOAT)


def _normals(size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` standard normal float32 out of 2¹⁶ slices: finer than a photon's place needs to be, and several times faster."""
    return np.take(_normal_slices(), _sixteen_bits(size, rng), mode="clip")


def background_distribution(background: float, camera: Camera) -> tuple[int, np.ndarray]:
    """(first ADU value, probabilities of it and the following ones) of a pixel that only background reached.

    Without EM gain: a Poisson mixture of read-noise Gaussians, integrated over each ADU. With EM gain the register's output
    for n electrons is Gamma(n, gain) (Basden, Haniff & Mackay 2003), so the sum is compound Poisson with the characteristic
    function exp(λ(1/(1−igt) − 1) − σ²t²/2), inverted by FFT.
    """
    sigma = camera.read_sigma_e / camera.e_per_adu
    gain = camera.adu_per_electron
    if camera.em_gain > 1:
        spread = np.sqrt(2 * background * gain**2 + sigma**2)
        low = int(np.floor(-6.5 * max(sigma, 0.3))) - 1
        high = int(background * gain + 12 * spread + 40 * gain) + 2
        size = 1 << int(np.ceil(np.log2(high - low)))
        return low, _compound_poisson(background, gain, max(sigma, 0.3), low, size)
    electrons = np.arange(int(background + 8 * np.sqrt(background)) + 20)  # beyond lies less than 1e-13
    weights = np.exp(xlogy(electrons, background) - gammaln(electrons + 1) - background)  # not scipy.stats: 40 MB of import
    low = int(np.floor(-6.5 * sigma - 1))
    edges = np.arange(low, int(electrons[-1] * gain + 6.5 * sigma) + 3) - 0.5
    if sigma == 0:
        pmf = np.histogram(np.rint(electrons * gain), edges, weights=weights)[0]
    else:
        pmf = np.diff(weights @ ndtr((edges[None, :] - electrons[:, None] * gain) / sigma))
    return low, pmf / pmf.sum()


def _compound_poisson(background: float, gain: float, sigma: float, low: int, size: int) -> np.ndarray:
    """Probability of each whole ADU from `low` on, by summing aliases of the characteristic function."""
    t = 2 * np.pi * np.fft.fftfreq(size)
    total = np.zeros(size, complex)
    aliases = int(np.ceil(6 / sigma / (2 * np.pi))) + 1
    for alias in range(-aliases, aliases + 1):
        u = t + 2 * np.pi * alias
        phi = np.exp(background * (1 / (1 - 1j * gain * u) - 1) - 0.5 * (sigma * u) ** 2 - 1j * u * low)
        total += phi * np.sinc(u / (2 * np.pi))
    pmf = np.clip(np.fft.fft(total).real / size, 0, None)
    return pmf / pmf.sum()


class ValueTable:
    """Exact, fast draws from a finite distribution (Marsaglia, Tsang & Wang 2004).

    A 16-bit random number picks an entry of a table that holds value k ⌊p_k·2¹⁶⌋ times; the few numbers left over draw from
    the residual distribution, so the mixture is exact to double precision.
    """

    def __init__(self, values: np.ndarray, probabilities: np.ndarray) -> None:
        scaled = probabilities * 65_536
        whole = np.floor(scaled).astype(np.int64)
        self.filled = int(whole.sum())
        self.table = np.zeros(65_536, values.dtype)
        self.table[: self.filled] = np.repeat(values, whole)
        self.values = values
        residual = np.cumsum(scaled - whole)
        self.residual = residual / residual[-1] if residual[-1] > 0 else residual

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """`size` independent values."""
        picks = _sixteen_bits(size, rng)
        out = np.take(self.table, picks, mode="clip")  # indices are in range: skips the check
        if self.filled < 65_536:
            left = np.flatnonzero(picks >= self.filled)
            out[left] = self.values[np.searchsorted(self.residual, rng.random(len(left)), side="right")]
        return out


@lru_cache(maxsize=64)
def background_table(background: float, camera: Camera) -> ValueTable:
    """Table of ADU values (uint16, clipped to the camera's range) of a pixel that only background reached."""
    low, pmf = background_distribution(background, camera)
    adu = np.clip(np.rint(camera.baseline_adu) + low + np.arange(len(pmf)), 0, ADU_MAX)
    keep = pmf > 1e-16
    return ValueTable(adu[keep].astype(np.uint16), pmf[keep] / pmf[keep].sum())


def expose(electrons: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """uint16 ADU for photo-electron counts: EM register (Gamma), read noise, gain, whole numbers, 16-bit clip."""
    signal = electrons.astype(float)
    if camera.em_gain > 1:
        signal = rng.standard_gamma(signal) * camera.em_gain
    signal += rng.standard_normal(signal.shape) * camera.read_sigma_e
    return np.clip(np.rint(camera.baseline_adu) + np.rint(signal / camera.e_per_adu), 0, ADU_MAX).astype(np.uint16)


def record(signal: np.ndarray, background: float, camera: Camera, rng: np.random.Generator, gradient: float = 0.0) -> np.ndarray:
    """uint16 ADU of clips with these molecule photo-electrons (n, frames, h, w) over `background` e⁻/px.

    `gradient` is the relative difference between the background at the right and the left edge.
    """
    base = background * (1 - abs(gradient) / 2)
    if gradient:
        ramp = np.linspace(0, 1, signal.shape[-1])[:: 1 if gradient > 0 else -1] * background * abs(gradient)
        signal = signal + rng.poisson(ramp, signal.shape)
    adu = background_table(base, camera).draw(signal.size, rng)
    hit = np.flatnonzero(signal != 0)  # several times faster on booleans
    adu[hit] = expose(signal.ravel()[hit] + rng.poisson(base, len(hit)), camera, rng)
    return adu.reshape(signal.shape)


def camera_columns(camera: Camera) -> dict[str, float | bool]:
    """The table columns that describe a known camera."""
    return {
        "baseline_adu": float(camera.baseline_adu),
        "slope_adu": camera.adu_per_electron * camera.excess_noise,
        "excess_noise": camera.excess_noise,
        "read_sigma_adu": camera.read_sigma_e / camera.e_per_adu,
        "camera_estimated": False,
    }


def simulate_group(
    molecules: Molecules,
    background: float,
    camera: Camera,
    rng: np.random.Generator,
    *,
    gradient: float = 0.0,
    neighbours: Molecules | None = None,
    keep_path: bool = False,
) -> Samples:
    """Clips that share one camera and background (e⁻/px); truths in the table, sub-frame paths on request.

    `neighbours` adds one more molecule to each clip, which the truth does not speak of.
    """
    n = len(molecules.d_px2)
    clips = np.empty((n, CLIP_FRAMES, CLIP_PX, CLIP_PX), np.uint16)
    paths = np.empty((n, CLIP_FRAMES, SUBSTEPS, 2), FLOAT)
    for start in range(0, n, BLOCK):
        block = slice(start, start + BLOCK)
        some = molecules.some(block)
        paths[block] = brownian_paths(some, rng)
        signal = photon_counts(paths[block], some, rng)
        if neighbours is not None:
            more = neighbours.some(block)
            signal += photon_counts(brownian_paths(more, rng), more, rng)
        clips[block] = record(signal, background, camera, rng, gradient)
    table = pd.DataFrame(
        {
            "file": [f"simulated-{i:05d}.tif" for i in range(n)],
            "note": "",
            "px_size_nm": np.nan,
            "frame_interval_s": np.nan,
            "exposure_fraction": molecules.exposure,
            "psf_sigma_px": np.nan,
            "psf_sigma_error": np.nan,
            **camera_columns(camera),
            "n_frames": CLIP_FRAMES,
            "true_d_px2_per_frame": molecules.d_px2,
            "photons": molecules.photons,
            "background": background,
            "sigma_px": molecules.sigma_px,
        }
    )
    return Samples({"clip_adu": clips} | ({"path_px": paths} if keep_path else {}), table)


def simulate_clips(config: Simulation, n: int, rng: np.random.Generator, keep_path: bool = False) -> Samples:
    """N clips at one setting, molecules starting within ±2 px of the centre; units from pixel size and frame interval."""
    molecules = Molecules(
        d_px2=np.full(n, config.d_px2_per_frame),
        sigma_px=np.full(n, config.sigma_px),
        photons=np.full(n, config.photons * config.qe),
        exposure=np.full(n, config.exposure_s / config.frame_interval_s),
        blink=np.full(n, config.blink_probability),
        start_px=(CLIP_PX - 1) / 2 + rng.uniform(-2, 2, (n, 2)),
        lit_frames=np.full(n, CLIP_FRAMES),
    )
    camera = Camera(config.baseline_adu, config.e_per_adu, config.em_gain, config.read_sigma_e)
    samples = simulate_group(
        molecules, config.background * config.qe, camera, rng, gradient=config.background_gradient, keep_path=keep_path
    )
    return samples.with_columns(px_size_nm=config.px_size_nm, frame_interval_s=config.frame_interval_s)


def render_noiseless(path_px: np.ndarray, config: Simulation, oversample: int = 1) -> np.ndarray:
    """Expected molecule photons per pixel of one clip, (frames, 64·oversample, 64·oversample), without noise or background.

    `path_px` is (frames, substeps, 2). The Gaussian is integrated over every (sub-)pixel and over the sub-interval's motion.
    """
    substeps = path_px.shape[1]
    exposure = config.exposure_s / config.frame_interval_s
    sigma = np.sqrt(config.sigma_px**2 + config.d_px2_per_frame * exposure / substeps / 3)
    edges = np.arange(CLIP_PX * oversample + 1) / oversample - 0.5
    cumulative = 0.5 * (1 + erf((edges - path_px[..., None]) / (sigma * 2**0.5)))
    share = np.diff(cumulative, axis=-1)  # (frames, substeps, 2, pixels)
    return np.einsum("tky,tkx->tyx", share[:, :, 0], share[:, :, 1], optimize=True) * (config.photons * config.qe / substeps)
