"""Detectors: where their pixels lie, and what a pixel reads for the photons that fall on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.geometry import Geometry, Module

HOT_OF_SATURATION = (0.02, 1.0)  # what hot pixels read: from the first share of the largest reading (or 300 photons) up
ZINGER_PHOTONS = 60.0  # mean of a zinger's pixel
ZINGER_PX = 4  # longest track


@dataclass(frozen=True)
class Hardware:
    """A detector in the layout of its files: shape of the array, size of its pixels, modules seen from the detector's centre."""

    shape: tuple[int, int]
    px_size_um: float
    modules: tuple[Module, ...]


def tiled(rows: int, columns: int, height: int, width: int, gap_y: int, gap_x: int, px_size_um: float) -> Hardware:
    """Equal modules on a grid with gaps, all in px, as one picture."""
    shape = (rows * height + (rows - 1) * gap_y, columns * width + (columns - 1) * gap_x)
    centre = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    corners = [(r * (height + gap_y), c * (width + gap_x)) for r in range(rows) for c in range(columns)]
    modules = [Module(y, y + height, x, x + width, (y - centre[0], x - centre[1])) for y, x in corners]
    return Hardware(shape, px_size_um, tuple(replace(m, name=f"p{n}") for n, m in enumerate(modules)))


def _turned(module: Module, quarters: int, centre_yx_px: tuple[float, float]) -> Module:
    """A module turned by quarter turns about its own centre, which then lies at `centre_yx_px` from the beam."""
    turns = [((0.0, 1.0), (1.0, 0.0)), ((1.0, 0.0), (0.0, -1.0)), ((0.0, -1.0), (-1.0, 0.0)), ((-1.0, 0.0), (0.0, 1.0))]
    fs, ss = turns[quarters % 4]
    half_y, half_x = (module.y1 - module.y0 - 1) / 2, (module.x1 - module.x0 - 1) / 2
    origin = [centre_yx_px[k] - half_y * ss[k] - half_x * fs[k] for k in (0, 1)]
    return replace(module, origin_yx_px=(origin[0], origin[1]), fs_yx=fs, ss_yx=ss)


def _windmill(y: float, x: float, quarters: int) -> tuple[float, float]:
    """A position turned by quarter turns about the beam."""
    for _ in range(quarters % 4):
        y, x = x, -y
    return y, x


def _epix10k_2m() -> Hardware:
    """16 modules of 352 × 384 px, 100 µm, stacked in the file; in space 4 quads of 2 × 2 around the beam.

    Modules: van Driel et al. 2020, J. Synchrotron Rad. 27, 608. Places are nominal, some px from where a survey finds them.
    """
    height, width, gap, hole = 352, 384, 20, 30
    modules = []
    for n in range(16):
        quad, place = divmod(n, 4)
        y = (height + gap) * (place // 2 + 0.5) + hole
        x = (width + gap) * (place % 2 + 0.5) - hole
        flat = Module(n * height, (n + 1) * height, 0, width, (0.0, 0.0), name=f"p{n}")
        modules.append(_turned(flat, quad, _windmill(y, x, quad)))
    return Hardware((16 * height, width), 100.0, tuple(modules))


def _cspad() -> Hardware:
    """64 chips of 185 × 194 px, 110 µm, 8 × 8 in the file as Cheetah writes; in space 4 quads of 8 pairs around the beam.

    Chips come in pairs 3 px apart (Hart et al. 2012, Proc. SPIE 8504, 85040C). Places are nominal.
    """
    height, width, pair, gap, hole = 185, 194, 3, 30, 25
    square = 2 * width + pair  # two pairs side by side fill a square, each square turned from the next
    modules = []
    for quad in range(4):
        for row in range(8):
            for chip in range(2):
                block, second = divmod(row, 2)
                y0, x0 = row * height, (2 * quad + chip) * width
                dy = (second - 0.5) * (height + 12)
                dx = (chip - 0.5) * (width + pair)
                dy, dx = _windmill(dy, dx, block % 2)
                y = (square + gap) * (block // 2 + 0.5) + hole + dy
                x = (square + gap) * (block % 2 + 0.5) - hole + dx
                flat = Module(y0, y0 + height, x0, x0 + width, (0.0, 0.0), name=f"q{quad}a{2 * row + chip}")
                modules.append(_turned(flat, block + quad, _windmill(y, x, quad)))
    return Hardware((8 * height, 8 * width), 110.0, tuple(modules))


# Sizes of DECTRIS's data sheets of Eiger X and Pilatus3, of PSI's Jungfrau, and of the Rayonix MarCCD 165 binned 2 × 2.
_HARDWARE: dict[str, Hardware] = {
    "Eiger 4M": tiled(4, 2, 514, 1030, 37, 10, 75.0),
    "Eiger 16M": tiled(8, 4, 514, 1030, 37, 10, 75.0),
    "Jungfrau 4M": tiled(4, 2, 514, 1030, 36, 8, 75.0),
    "Pilatus 300K": tiled(3, 1, 195, 487, 17, 0, 172.0),
    "Pilatus 6M": tiled(12, 5, 195, 487, 17, 7, 172.0),
    "CCD 1024": tiled(1, 1, 1024, 1024, 0, 0, 158.0),
    "ePix10k 2M": _epix10k_2m(),
    "CSPAD": _cspad(),
}


def hardware(config: Simulation) -> Hardware:
    """The detector of the settings; one module of the given size where it is "flat"."""
    if config.detector == "flat":
        return tiled(1, 1, config.height_px, config.width_px, 0, 0, config.px_size_um)
    return _HARDWARE[config.detector]


def geometry(config: Simulation) -> Geometry:
    """The detector in the beam."""
    return placed(hardware(config), config)


def placed(detector: Hardware, config: Simulation) -> Geometry:
    """A detector at the distance, wavelength and beam offset of the settings."""
    dy, dx = config.beam_offset_y_px, config.beam_offset_x_px
    modules = tuple(replace(m, origin_yx_px=(m.origin_yx_px[0] - dy, m.origin_yx_px[1] - dx)) for m in detector.modules)
    return Geometry(detector.shape, modules, detector.px_size_um, config.distance_mm, config.wavelength_angstrom)


def cropped(detector: Hardware, y0: int, x0: int, shape: tuple[int, int]) -> Hardware:
    """The part of a detector's array of that shape from row y0 and column x0; its centre stays where it was."""
    kept = []
    for m in detector.modules:
        top, bottom = max(m.y0, y0), min(m.y1, y0 + shape[0])
        left, right = max(m.x0, x0), min(m.x1, x0 + shape[1])
        if top < bottom and left < right:
            y, x = m.positions_px(np.array(top), np.array(left))
            kept.append(replace(m, y0=top - y0, y1=bottom - y0, x0=left - x0, x1=right - x0, origin_yx_px=(float(y), float(x))))
    return Hardware(shape, detector.px_size_um, tuple(kept))


@dataclass(frozen=True)
class Pixels:
    """What a detector's pixels are, frame after frame: arrays (H, W)."""

    live: np.ndarray  # bool: has a sensor and is not dead
    mask: np.ndarray  # bool: known to be good
    gain: np.ndarray | float  # ADU/photon
    hot: np.ndarray  # flat indices
    hot_adu: np.ndarray


def pixels(config: Simulation, where: Geometry, shadow: np.ndarray | None, rng: np.random.Generator) -> Pixels:
    """Draw a detector's bad pixels and gains. `shadow` (H, W) bool is masked too."""
    sensor = np.zeros(where.shape, bool)
    for m in where.modules:
        sensor[m.y0 : m.y1, m.x0 : m.x1] = True
    size = sensor.size
    dead = rng.integers(0, size, rng.poisson(config.dead_share * size))
    hot = rng.integers(0, size, rng.poisson(config.hot_share * size))
    hot = hot[sensor.ravel()[hot]]
    live = sensor.copy()
    live.ravel()[dead] = False
    mask = live.copy()
    mask.ravel()[hot[rng.random(len(hot)) < config.hot_masked]] = False
    if shadow is not None:
        mask &= ~shadow
    gain: np.ndarray | float = config.adu_per_photon
    if config.gain_spread > 0:
        spread = rng.standard_normal(where.shape, np.float32)
        spread *= np.float32(config.gain_spread * config.adu_per_photon)
        gain = np.maximum(spread + np.float32(config.adu_per_photon), 0)
    full = config.saturation_adu - config.pedestal_adu
    low, high = min(HOT_OF_SATURATION[0] * full, 300 * config.adu_per_photon), HOT_OF_SATURATION[1] * full
    hot_adu = config.pedestal_adu + np.exp(rng.uniform(np.log(max(low, 1)), np.log(max(high, 2)), len(hot)))
    return Pixels(live, mask, gain, hot, hot_adu)


def read_out(
    expected: np.ndarray, chips: Pixels, where: Geometry, config: Simulation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """float32 readings (H, W) in whole ADU of expected photons (H, W), and y and x (n, 2) of pixels that zingers hit.

    Photons are Poisson. An integrating detector spreads each over neighbours after it is absorbed, so that their noise is
    alike; a counting one counts it once, so that the spread belongs to the expected photons.
    """
    light = rng.poisson(expected).astype(np.float32)
    zingers = _add_zingers(light, config.zingers_per_mpx, rng)
    if config.readout == "integrating" and config.psf_px > 0:
        light = gaussian_filter(light, config.psf_px, truncate=4.0, mode="constant")
    light *= chips.gain
    light += _read_noise(where, config, rng)
    light += np.float32(config.pedestal_adu)
    light.ravel()[chips.hot] = chips.hot_adu
    np.minimum(np.rint(light, out=light), np.float32(np.floor(config.saturation_adu)), out=light)
    light[~chips.live] = 0
    return light, zingers


def _read_noise(where: Geometry, config: Simulation, rng: np.random.Generator) -> np.ndarray | float:
    """Noise (H, W) in ADU that is there without light; 0 where there is none."""
    noise: np.ndarray | float = 0.0
    if config.read_sigma_adu > 0:
        noise = rng.standard_normal(where.shape, np.float32)
        if config.read_correlation_px > 0:
            noise = gaussian_filter(noise, config.read_correlation_px, mode="wrap")
            noise /= max(float(noise.std()), 1e-9)
        noise *= np.float32(config.read_sigma_adu)
    if config.row_sigma_adu > 0:
        rows = np.zeros(where.shape, np.float32)
        for m in where.modules:
            rows[m.y0 : m.y1, m.x0 : m.x1] = rng.normal(0, config.row_sigma_adu, (m.y1 - m.y0, 1))
        noise = noise + rows
    return noise


def _add_zingers(light: np.ndarray, per_mpx: float, rng: np.random.Generator) -> np.ndarray:
    """Bright single pixels and short tracks, in place; y and x (n, 2) of those pixels."""
    height, width = light.shape
    hit = []
    for _ in range(rng.poisson(per_mpx * light.size / 1e6)):
        y, x, angle = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, 2 * np.pi)
        for step in range(int(rng.integers(1, ZINGER_PX + 1))):
            row, column = int(y + step * np.sin(angle)), int(x + step * np.cos(angle))
            if 0 <= row < height and 0 <= column < width:
                light[row, column] += rng.exponential(ZINGER_PHOTONS)
                hit.append((row, column))
    return np.array(hit, np.int64).reshape(-1, 2)
