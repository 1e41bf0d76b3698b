"""What the pixels of pictures tell, each on its own: grey values, sharpness, noise, main period; and descriptors to compare them.

All on the 256 × 256 px that a network sees. Spectra are of the picture times a Hann window, normed so that white noise of
variance σ² has σ² at every frequency.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import fft, sparse

from lib.tasks.reflectance.config import IMAGE_PX

AT_ONCE = 64  # pictures in one block
RINGS = IMAGE_PX // 2  # one for every whole frequency, in periods per picture
NOISE_RINGS = slice(92, 118)  # where noise is looked for: nearer to the Nyquist frequency resampling has taken it away
QUANTISATION = 1 / 12  # variance that rounding to whole grey levels adds, in levels²
STANDS_OUT = 3.0  # times the noise
FAINT = 0.02  # share of the power per octave
OCTAVES = (3, 6, 12, 24, 48, 96)  # edges, in periods per picture
FIRST_RING = 3  # slower changes are shading
BANDS = (3, 6, 10, 16, 25, 40, 64)  # edges, in periods per picture, of the rings that tell directions
ANGLES, HARMONICS = 36, 6
HASH_PX, HASH_SIDE = 32, 8


@dataclass(frozen=True)
class Looks:
    """Readings of n pictures, their radial spectra (n, 128), and what compares them.

    `hashes` uint64 (n,) perceptual hashes, `small` float32 (n, 1024) standardised 32 × 32 px, `signatures` float32 (n, k) that do
    not change when a picture is turned or mirrored.
    """

    readings: pd.DataFrame
    radial: np.ndarray
    hashes: np.ndarray
    small: np.ndarray
    signatures: np.ndarray


def look(images: np.ndarray, on_done: Callable[[int], None] = lambda _n: None) -> Looks:
    """Look at uint8 (n, 256, 256), some at a time on all cores; `on_done` gets how many are done."""
    starts = range(0, len(images), AT_ONCE)
    parts = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for part in pool.map(lambda start: _block(np.asarray(images[start : start + AT_ONCE])), starts):
            parts.append(part)
            on_done(min(len(parts) * AT_ONCE, len(images)))
    return Looks(
        pd.concat([part.readings for part in parts], ignore_index=True),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("radial", "hashes", "small", "signatures")),
    )


def _block(images: np.ndarray) -> Looks:
    values = images.astype(np.float32)
    power = spectrum(values).reshape(len(values), -1).T
    rings, wedges = _rings(), _wedges()
    radial = np.ascontiguousarray((rings @ power).T)
    small = _standardised(_shrunk(values))
    return Looks(_readings(images, values, radial), radial, hashes_of(small), small, _signatures(radial, (wedges @ power).T))


def _shrunk(values: np.ndarray) -> np.ndarray:
    """(n, 32, 32) averages of (n, 256, 256)."""
    rows = values.reshape(len(values), HASH_PX, -1, IMAGE_PX).mean(axis=2)
    return rows.reshape(len(values), HASH_PX, HASH_PX, -1).mean(axis=3)


def spectrum(values: np.ndarray) -> np.ndarray:
    """Power (n, 256, 129) of float32 (n, 256, 256), each without its mean and times a Hann window."""
    window = np.hanning(IMAGE_PX + 1)[:-1].astype(np.float32)
    window2 = window[:, None] * window
    flat = (values - values.mean(axis=(1, 2), keepdims=True)) * (window2 / np.float32(np.sqrt((window2**2).sum())))
    found = fft.rfft2(flat)
    return found.real**2 + found.imag**2


@cache
def _frequencies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radius (periods per picture), angle (0 to π) and weight of each entry of the half spectrum, flat."""
    down, across = np.fft.fftfreq(IMAGE_PX, 1 / IMAGE_PX)[:, None], np.arange(IMAGE_PX // 2 + 1)[None, :]
    weight = np.where((across == 0) | (across == IMAGE_PX // 2), 1.0, 2.0) * np.ones_like(down)
    return np.hypot(down, across).ravel(), np.mod(np.arctan2(down, across), np.pi).ravel(), weight.ravel()


@cache
def _rings() -> sparse.csr_array:
    """Averages over rings of whole radius, 1 to 128: (128, 256·129)."""
    radius, _, weight = _frequencies()
    ring = np.rint(radius).astype(int) - 1
    return _averages(ring, weight, RINGS)


@cache
def _wedges() -> sparse.csr_array:
    """Averages over `ANGLES` directions of each of `BANDS`: (6·36, 256·129)."""
    radius, angle, weight = _frequencies()
    band = np.digitize(radius, BANDS) - 1
    wedge = np.minimum((angle / np.pi * ANGLES).astype(int), ANGLES - 1)
    place = np.where((band >= 0) & (band < len(BANDS) - 1), band * ANGLES + wedge, -1)
    return _averages(place, weight, (len(BANDS) - 1) * ANGLES)


def _averages(place: np.ndarray, weight: np.ndarray, count: int) -> sparse.csr_array:
    """A matrix whose row k averages the entries of place k."""
    inside = np.flatnonzero((place >= 0) & (place < count))
    total = np.bincount(place[inside], weight[inside], count)
    values = (weight[inside] / total[place[inside]]).astype(np.float32)
    return sparse.csr_array((values, (place[inside], inside)), shape=(count, len(place)))


# --- readings ---------------------------------------------------------------------------------------------------------
def _readings(images: np.ndarray, values: np.ndarray, radial: np.ndarray) -> pd.DataFrame:
    laplacian = (
        values[:, :-2, 1:-1] + values[:, 2:, 1:-1] + values[:, 1:-1, :-2] + values[:, 1:-1, 2:] - 4 * values[:, 1:-1, 1:-1]
    )
    noise = noise_of(radial)
    return pd.DataFrame(
        {
            "mean_grey": values.mean(axis=(1, 2)),
            "contrast_grey": values.std(axis=(1, 2)),
            "saturated_percent": 100 * ((images == 0) | (images == 255)).mean(axis=(1, 2)),
            "laplacian_variance": laplacian.var(axis=(1, 2)),
            "noise_grey": np.sqrt(noise),
            "detail_px": detail_px(radial, noise),
            "period_px": period_px(radial, noise),
        }
    ).astype(float)


def noise_of(radial: np.ndarray) -> np.ndarray:
    """Variance of the noise (n,), from radial spectra (n, 128): the level that the high frequencies level out at."""
    return np.maximum(np.median(radial[:, NOISE_RINGS], axis=1), QUANTISATION)


def detail_px(radial: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Period in px (n,) of the finest structure that stands out; 256 where none does.

    It has power above the noise, and per octave more than `FAINT` of what the octaves have on average: blur takes that away,
    whether noise came before or after. Unlike the variance of the Laplacian this never takes noise for sharpness.
    """
    smooth = (radial[:, :-2] + radial[:, 1:-1] + radial[:, 2:]) / 3  # rings 2 to 127
    above = np.clip(smooth - noise[:, None], 0, None) * np.arange(2, RINGS) ** 2
    usual = np.mean([above[:, a - 2 : b - 2].mean(axis=1) for a, b in pairwise(OCTAVES)], axis=0)
    clear = (smooth > STANDS_OUT * noise[:, None]) & (above > FAINT * usual[:, None])
    finest = np.where(clear.any(axis=1), 2 + clear.shape[1] - 1 - np.argmax(clear[:, ::-1], axis=1), 1)
    return IMAGE_PX / finest.astype(float)


def period_px(radial: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Period in px (n,) at which a picture has most power per octave above its noise; NaN where there is none."""
    ring = np.arange(1, RINGS + 1)
    octave = np.clip(radial - noise[:, None], 0, None) * ring**2
    octave = (octave[:, :-2] + octave[:, 1:-1] + octave[:, 2:])[:, FIRST_RING - 2 :]
    best = np.argmax(octave, axis=1) + FIRST_RING
    return np.where(octave.max(axis=1) > 0, IMAGE_PX / best, np.nan)


# --- descriptors ------------------------------------------------------------------------------------------------------
def _standardised(small: np.ndarray) -> np.ndarray:
    """(n, 32, 32) as float32 (n, 1024) of mean 0 and length 1; 0 for a flat picture."""
    flat = small.reshape(len(small), -1) - small.mean(axis=(1, 2))[:, None]
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return (flat / np.where(length > 1e-3, length, np.inf)).astype(np.float32)


def hashes_of(small: np.ndarray) -> np.ndarray:
    """64-bit perceptual hashes (n,) of 32 × 32 px: signs of the 8 × 8 slowest cosines about their median (Zauner 2010)."""
    cosines = fft.dctn(small.reshape(-1, HASH_PX, HASH_PX), axes=(1, 2))[:, :HASH_SIDE, :HASH_SIDE].reshape(len(small), -1)
    bits = cosines > np.median(cosines, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def _signatures(radial: np.ndarray, wedges: np.ndarray) -> np.ndarray:
    """What stays when a picture is turned, mirrored or brightened: log radial spectrum, and strengths of harmonics over angle."""
    edges = np.unique(np.geomspace(FIRST_RING, 90, 25).astype(int))
    rings = np.stack([np.log(radial[:, a - 1 : b - 1].mean(axis=1) + QUANTISATION) for a, b in pairwise(edges)], 1)
    rings = rings - rings.mean(axis=1, keepdims=True)
    turning = np.log(wedges.reshape(len(wedges), -1, ANGLES) + QUANTISATION)
    strengths = np.abs(np.fft.rfft(turning, axis=2))[:, :, 1 : HARMONICS + 1] / ANGLES
    return np.concatenate([rings, strengths.reshape(len(wedges), -1)], axis=1).astype(np.float32)
