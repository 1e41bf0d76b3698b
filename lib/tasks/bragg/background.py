"""Everything on a frame that is no Bragg peak: solvent, air, ice, powder, jet, and the beam stop's shadow."""

from __future__ import annotations

import numba
import numpy as np
from scipy.fft import fftfreq, irfft2, rfft2, rfftfreq
from scipy.ndimage import zoom

from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.geometry import Geometry

# Hexagonal ice, P6₃/mmc, a = 4.498, c = 7.338 Å: d in Å of its powder rings and their height Σ|F|²/q² over all reflections of a
# ring, of oxygen at z = 0.0622 (Goto, Hondoh & Mae 1990, J. Chem. Phys. 93, 1412) with B = 2 Å².
ICE_RINGS = (
    (3.895, 1.0), (3.669, 0.57), (3.441, 0.61), (2.671, 0.32), (2.249, 0.69), (2.072, 0.64), (1.948, 0.1), (1.917, 0.37),
    (1.883, 0.07), (1.72, 0.06), (1.524, 0.16), (1.472, 0.05), (1.444, 0.04), (1.373, 0.1), (1.366, 0.04),
)  # fmt: skip
TABLE_POINTS = 4096
RING_SECTORS = 180
JET_REFERENCE_PX = 20.0
JET_WIDTH_RAD = 0.03
PENUMBRA_PX = 1.5
BEAM_SIGMA_PX = 1.0  # of the direct beam, beside its own size
TEXTURE_PX = 48  # distance of the points between which slow changes are smooth


def water(q_inv_angstrom: np.ndarray) -> np.ndarray:
    """Scatter of liquid water at q = 1/d, 1 at its ring.

    Gaussians for the maximum at 2.0 Å⁻¹ (2π/d, the 3.1 Å ring) and the shoulder near 3 Å⁻¹, and a level that falls from small
    to large angles, after the measured curve of Clark et al. 2010, Proc. Natl Acad. Sci. 107, 14003.
    """
    k = 2 * np.pi * q_inv_angstrom
    rise = 1 / (1 + np.exp(-(k - 1.5) / 0.28))
    curve = 0.12 + 0.55 * np.exp(-0.5 * ((k - 1.98) / 0.34) ** 2) + 0.30 * np.exp(-0.5 * ((k - 2.95) / 0.6) ** 2)
    return (curve + 0.20 * rise * np.exp(-((k / 5.5) ** 2))) / 0.915


def air(q_inv_angstrom: np.ndarray) -> np.ndarray:
    """Scatter of single N and O atoms at q = 1/d, 1 in the direct beam: a form factor squared, and Compton scatter at large q."""
    return 0.88 * np.exp(-6.0 * q_inv_angstrom**2 * 4) + 0.12


def rings(q_inv_angstrom: np.ndarray, lines: tuple[tuple[float, float], ...], width_inv_angstrom: float) -> np.ndarray:
    """Gaussian rings at d-spacings with heights, of σ `width_inv_angstrom` in 1/d."""
    curve = np.zeros_like(q_inv_angstrom)
    for d, height in lines:
        curve += height * np.exp(-0.5 * ((q_inv_angstrom - 1 / d) / width_inv_angstrom) ** 2)
    return curve


def expected(config: Simulation, where: Geometry, rng: np.random.Generator) -> np.ndarray:
    """float32 photons (H, W) of everything but spots, before the beam stop; 0 between modules.

    Scatter falls with polarisation and with the solid angle cos³2θ of a pixel. Rings are uneven along their course, from `rng`.
    """
    q_max = 2 / config.wavelength_angstrom
    q = np.linspace(0, q_max, TABLE_POINTS)
    smooth = config.water_photons * water(q) + config.air_photons * air(q)
    smooth += config.saxs_photons / (1 + (q / 0.01) ** 2) * 2
    powder = tuple((config.powder_d_angstrom / n, 1 / n) for n in (1, 2, 3, 4)) if config.powder_photons else ()
    width = config.ring_width_inv_angstrom
    uneven = rings(q, powder, width) * config.powder_photons
    if config.ice_photons:
        uneven += rings(q, ICE_RINGS, width) * config.ice_photons
    sectors = np.exp(rng.normal(0, config.ice_spottiness, RING_SECTORS) - config.ice_spottiness**2 / 2)
    y_px, x_px = where.positions_px()
    assert where.px_size_um is not None and where.distance_mm is not None
    distance_px = where.distance_mm * 1000 / where.px_size_um
    jet = np.array([config.jet_photons, np.deg2rad(config.jet_deg), JET_WIDTH_RAD, JET_REFERENCE_PX])
    light = _light(y_px, x_px, distance_px, smooth, uneven, sectors, config.wavelength_angstrom, config.polarisation, jet)
    light += np.float32(config.flat_photons)
    if config.direct_beam_photons:
        _add_direct_beam(light, y_px, x_px, config)
    if config.tilt or config.texture:
        light *= _slow_changes(config, where.shape, rng)
    light[np.isnan(y_px)] = 0
    return light


@numba.njit(cache=True)
def _light(y_px, x_px, distance_px, smooth, uneven, sectors, wavelength, degree, jet):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Photons of each pixel from tables over q, polarisation, solid angle, uneven rings and the jet's streak."""
    height, width = y_px.shape
    light = np.zeros((height, width), np.float32)
    step = 2 / wavelength / (len(smooth) - 1)
    some_rings = uneven.max() > 0
    for row in range(height):
        for column in range(width):
            y, x = float(y_px[row, column]), float(x_px[row, column])
            if np.isnan(y):
                continue
            r2 = y * y + x * x
            cosine = distance_px / np.sqrt(distance_px * distance_px + r2)
            place = 2 / wavelength * np.sqrt((1 - cosine) / 2) / step
            index = int(place)
            part = place - index
            value = smooth[index] * (1 - part) + smooth[index + 1] * part
            if some_rings:
                ring = uneven[index] * (1 - part) + uneven[index + 1] * part
                if ring > 1e-3:
                    turn = (np.arctan2(y, x) / (2 * np.pi) + 0.5) * len(sectors)
                    sector = int(turn)
                    rest = turn - sector
                    value += ring * (sectors[sector % len(sectors)] * (1 - rest) + sectors[(sector + 1) % len(sectors)] * rest)
            sine2 = 1 - cosine * cosine
            azimuth = (x * x - y * y) / r2 if r2 > 0 else 0.0
            value *= 0.5 * (1 + cosine * cosine - degree * azimuth * sine2) * cosine**3
            if jet[0] > 0:
                r = max(np.sqrt(r2), 1.0)
                across = (x * np.sin(jet[1]) - y * np.cos(jet[1])) / r
                if abs(across) < 4 * jet[2]:
                    value += jet[0] * np.exp(-0.5 * (across / jet[2]) ** 2) * (jet[3] / max(r, 5.0)) ** 1.5
            light[row, column] = value
    return light


def _slow_changes(config: Simulation, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """float32 factors (H, W) around 1: a plane in a random direction, and smooth irregular changes."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-0.5, 0.5, shape[0])[:, None], np.linspace(-0.5, 0.5, shape[1])[None, :]
    factor = (1 + config.tilt * (y * np.sin(angle) + x * np.cos(angle))).astype(np.float32)
    if config.texture:
        coarse = rng.normal(0, config.texture, [size // TEXTURE_PX + 4 for size in shape]).astype(np.float32)
        factor += zoom(coarse, TEXTURE_PX, order=1)[: shape[0], : shape[1]]
    return np.maximum(factor, 0)


def _add_direct_beam(light: np.ndarray, y_px: np.ndarray, x_px: np.ndarray, config: Simulation) -> None:
    """Add what of the beam is not scattered, in place: a Gaussian of the beam's size at its centre."""
    variance = (config.beam_size_um / config.px_size_um) ** 2 + config.psf_px**2 + BEAM_SIGMA_PX**2
    with np.errstate(invalid="ignore"):
        near = (np.abs(y_px) < 30) & (np.abs(x_px) < 30)
    power = (y_px[near] ** 2 + x_px[near] ** 2) / (2 * variance)
    light[near] += config.direct_beam_photons / (2 * np.pi * variance) * np.exp(-power)


def diffuse(config: Simulation, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """float32 factors (H, W) of mean 1 by which a crystal's disorder modulates the light between its spots.

    Where molecules move independently the pattern is that of single ones (Wall, Ealick & Gruner 1997, PNAS 94, 6180): continuous,
    with features as large as a molecule is small, and intensities exponentially distributed (Chapman et al. 2017, J. Appl. Cryst.
    50, 1084). `diffuse_share` is its contrast. Motions along one direction stretch the features.
    """
    angle = rng.uniform(0, np.pi)
    v, u = fftfreq(shape[0])[:, None].astype(np.float32), rfftfreq(shape[1])[None, :].astype(np.float32)
    across, along = u * np.sin(angle) - v * np.cos(angle), u * np.cos(angle) + v * np.sin(angle)
    wide = config.diffuse_px * np.sqrt(2)  # of the amplitude, of which the intensity is the square
    passed = np.exp(-2 * (np.pi * wide) ** 2 * (across**2 + (config.diffuse_stretch * along) ** 2))
    fields = [irfft2(rfft2(rng.standard_normal(shape, np.float32)) * passed, shape) for _ in range(2)]
    strength = fields[0] ** 2 + fields[1] ** 2
    factor: np.ndarray = np.maximum(1 + config.diffuse_share * (strength / strength.mean() - 1), 0).astype(np.float32)
    return factor


def transmission(config: Simulation, where: Geometry) -> np.ndarray | None:
    """float32 (H, W) share of light that passes beam stop and holder; None where there is neither."""
    if config.beamstop_mm <= 0 and config.beamstop_arm_mm <= 0:
        return None
    assert where.px_size_um is not None
    y, x = where.positions_px()
    beyond = np.full(where.shape, np.inf, np.float32)  # px outside the shadow's edge
    if config.beamstop_mm > 0:
        beyond = np.hypot(y, x) - np.float32(config.beamstop_mm * 1000 / where.px_size_um)
    if config.beamstop_arm_mm > 0:
        angle = np.deg2rad(config.beamstop_arm_deg)
        along, across = x * np.cos(angle) + y * np.sin(angle), x * np.sin(angle) - y * np.cos(angle)
        arm = np.abs(across) - np.float32(config.beamstop_arm_mm * 500 / where.px_size_um)
        beyond = np.minimum(beyond, np.where(along > 0, arm, np.inf))
    passes = np.clip(beyond / PENUMBRA_PX / 2 + 0.5, 0, 1)
    return np.nan_to_num(config.beamstop_leak + (1 - config.beamstop_leak) * passes, nan=1.0).astype(np.float32)
