"""What a spectrometer and a camera see of a scale: the ten channels, and spectra for both polarisations."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np

from lib.tasks.reflectance import materials
from lib.tasks.reflectance.config import CENTRE_NM, REFLECTED
from lib.tasks.reflectance.optics import Lattice, Stripes, Structure, reflect
from lib.tasks.reflectance.scale import Scale

HALF_BAND_NM = 12.0  # a band is the mean at its centre plus and minus this
GAPS_NM = (-140.0, -70.0, 0.0, 70.0, 140.0)  # spread of the air gap: trabeculae are uneven and scales are curved
NARROWEST_GAP_NM = 50.0
QUARTER_PARTS = (100, 48)  # points across half a period, along x and y
SUPERSAMPLES = 4  # for the round outline of beads
SHELF_SHARE = 0.375  # of one shelf and the gap below it, how much is shelf
# A bead of density 1: half axes along x and y, and where it sits, in ridge periods from the ridge and rib widths from the rib.
BEAD_NM = (70.0, 95.0)
BEAD_PLACES = ((0.25, 0.55), (0.42, 0.55))
MEMBRANE_R = 0.08  # wing membrane: two surfaces of chitin, incoherent
CHITIN_EMITS = 0.002  # what chitin itself adds to the fluorescing part of the absorption, as κ
CAMERA_GAIN = 4.0  # fluorescence is read on a brighter scale than reflectance
LEAST_ABSORBED = 0.01


def orders(scale: Scale, wavelength_nm: float, accuracy: float = 1.0) -> tuple[int, int]:
    """Diffraction orders along x and y: all that propagate in chitin and some more, times `accuracy`."""
    return (
        math.ceil(accuracy * (1.55 * scale.ridge_period_nm / wavelength_nm + 3)),
        math.ceil(accuracy * (1.55 * scale.rib_period_nm / wavelength_nm + 2)),
    )


# --- from the scale to a periodic structure ---------------------------------------------------------------------------
def structure(scale: Scale, wavelength_nm: float) -> Structure:
    """The scale as a periodic structure, its middle a ridge and a cross-rib; permittivities at one wavelength.

    Walls that do not end at a grid point fill it in part, so that spectra change smoothly with every dimension.
    """
    beads = scale.bead_density > 0
    wall = materials.wall_permittivity(scale.melanin, scale.pigment, 0.0 if beads else scale.pigment_k, wavelength_nm)
    x_nm, y_nm = half_cell_nm(scale)
    core = _inside(x_nm, scale.ridge_width_nm / 2)
    rib = _inside(y_nm, scale.rib_width_nm / 2)
    window_nm = (scale.ridge_period_nm - scale.ridge_width_nm) / 2 * (1 - scale.window_fill)
    solid = np.maximum(core, _inside(x_nm, scale.ridge_period_nm / 2 - window_nm))
    filled = np.maximum(solid[:, None], rib)
    permittivity = 1 + (wall - 1) * filled
    if beads:
        inside = bead_cover(scale)
        bead = materials.bead_permittivity(scale.pigment, scale.pigment_k, wavelength_nm)
        permittivity = permittivity * (1 - inside) + bead * inside
    above = _ridge(scale, core, _inside(x_nm, scale.half_shelf_nm), wall)
    lamina = Stripes(wall, scale.lamina_nm)
    lattice = Lattice(permittivity, scale.lattice_nm)
    return Structure(scale.ridge_period_nm, scale.rib_period_nm, above, lattice, (lamina,))


def half_cell_nm(scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the parts of half a ridge period and half a rib period, from the middle of ridge and rib."""
    nx, ny = QUARTER_PARTS
    return (np.arange(nx) + 0.5) / nx * scale.ridge_period_nm / 2, (np.arange(ny) + 0.5) / ny * scale.rib_period_nm / 2


def _inside(at_nm: np.ndarray, edge_nm: float) -> np.ndarray:
    """Share of each equal part that lies below `edge_nm`."""
    return np.clip((edge_nm - at_nm) / (at_nm[1] - at_nm[0]) + 0.5, 0, 1)


def _ridge(scale: Scale, core: np.ndarray, shelf: np.ndarray, wall: complex) -> tuple[Stripes, ...]:
    """The ridge from its top down: shelves and core in turn, or the core alone."""
    if scale.ridge_height_nm == 0:
        return ()
    if not scale.n_shelves:
        return (Stripes(1 + (wall - 1) * core, scale.ridge_height_nm),)
    step_nm = scale.ridge_height_nm / scale.n_shelves
    wide = Stripes(1 + (wall - 1) * shelf, SHELF_SHARE * step_nm)
    narrow = Stripes(1 + (wall - 1) * core, (1 - SHELF_SHARE) * step_nm)
    return (wide, narrow) * scale.n_shelves


def bead_cover(scale: Scale) -> np.ndarray:
    """Share of each part of the quarter cell that beads fill."""
    nx, ny = (SUPERSAMPLES * parts for parts in QUARTER_PARTS)
    x_nm = (np.arange(nx) + 0.5) / nx * scale.ridge_period_nm / 2
    y_nm = (np.arange(ny) + 0.5) / ny * scale.rib_period_nm / 2
    size = math.sqrt(scale.bead_density)
    inside = np.zeros((nx, ny), bool)
    for ridge_periods, rib_widths in BEAD_PLACES:
        across = (x_nm - ridge_periods * scale.ridge_period_nm) / (BEAD_NM[0] * size)
        along = (y_nm - rib_widths * scale.rib_width_nm) / (BEAD_NM[1] * size)
        inside |= across[:, None] ** 2 + along**2 < 1
    return inside.reshape(QUARTER_PARTS[0], SUPERSAMPLES, QUARTER_PARTS[1], SUPERSAMPLES).mean(axis=(1, 3))


# --- light ------------------------------------------------------------------------------------------------------------
def cover_scale(scale: Scale, wavelength_nm: float, accuracy: float = 1.0) -> np.ndarray:
    """(R, T) for both polarisations (2, 2) of the scale alone, mean over the spread of its air gap."""
    gaps = [max(scale.air_gap_nm + more, NARROWEST_GAP_NM) for more in GAPS_NM]
    cell = structure(scale, wavelength_nm)
    return reflect(cell, wavelength_nm, orders(scale, wavelength_nm, accuracy), gaps).mean(axis=0)


def on_the_wing(single: np.ndarray, ground_cover: float) -> np.ndarray:
    """Reflectance (…, 2) per polarisation of a scale (…, 2, (R, T)) that lies on another one and on the wing membrane.

    Plates that add up intensities, not fields (Stavenga, Giraldo & Hoenders 2006, on stacked scales of pierids). `ground_cover`
    of what lies below is a second, like scale. What comes from below has lost its polarisation.
    """
    r, t = np.moveaxis(single.mean(axis=-2), -1, 0)
    second = r + t**2 * MEMBRANE_R / (1 - r * MEMBRANE_R)
    below = (ground_cover * second + (1 - ground_cover) * MEMBRANE_R)[..., None]
    return single[..., 0] + single[..., 1] * t[..., None] * below / (1 - r[..., None] * below)


def measure(scale: Scale) -> np.ndarray:
    """The ten channels (10,) in the order of config.CHANNELS, as fractions from 0 to 1.

    Fluorescence is phenomenological: absorbed ultraviolet, times the share that falls to what emits, times its yield, less what
    the scale absorbs of it again. `poldiff` is the largest difference between the polarisations in B, G and R.
    """
    cover = _covering(scale)
    bands = {
        name: np.mean([_kept(cover, CENTRE_NM[name] + side, 1.0) for side in (-HALF_BAND_NM, HALF_BAND_NM)], axis=0)
        for name in REFLECTED
    }
    seen = {name: on_the_wing(single, scale.ground_cover) for name, single in bands.items()}
    reflected = [float(seen[name].mean()) for name in REFLECTED]
    absorbed = {name: 1 - float(single.sum(axis=1).mean()) for name, single in bands.items()}
    emitted = fluorescence(scale, absorbed["UV"], [absorbed[name] for name in "BGR"])
    poldiff = max(float(abs(seen[name][0] - seen[name][1])) for name in "BGR")
    return np.clip([*reflected, *emitted, poldiff], 0, 1)


def fluorescence(scale: Scale, absorbed_uv: float, absorbed_bgr: list[float]) -> list[float]:
    """fB, fG and fR from the absorbed shares at 365 nm and in B, G and R."""
    uv_nm = CENTRE_NM["UV"]
    emits = scale.pigment_k * materials.pigment_kappa(scale.pigment, uv_nm) + CHITIN_EMITS
    share = emits / (emits + scale.melanin * materials.melanin_kappa(uv_nm))
    light = CAMERA_GAIN * scale.quantum_yield * share * max(absorbed_uv, LEAST_ABSORBED)
    colours = materials.PIGMENTS[scale.pigment].emission_bgr
    return [light * part * (1 - lost) for part, lost in zip(colours, absorbed_bgr)]


def spectrum(scale: Scale, wavelengths_nm: np.ndarray, accuracy: float = 1.0) -> np.ndarray:
    """Reflectance (n, 2) on the wing at n wavelengths, electric field along x and along y."""
    cover = _covering(scale)
    single = np.array([_kept(cover, float(wavelength), accuracy) for wavelength in wavelengths_nm])
    return on_the_wing(single, scale.ground_cover)


def _covering(scale: Scale) -> Scale:
    """What rigorous optics see of a scale: one that differs in the rest alone has been computed already."""
    return replace(scale, ground_cover=0.0, quantum_yield=0.0, kind="")


@functools.lru_cache(maxsize=8192)
def _kept(scale: Scale, wavelength_nm: float, accuracy: float) -> np.ndarray:
    """`cover_scale`, kept: a page asks again when something else on it changes."""
    found = cover_scale(scale, wavelength_nm, accuracy)
    found.setflags(write=False)
    return found
