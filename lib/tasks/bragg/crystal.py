"""Which reflections a crystal has on the Ewald sphere, where they go, and how bright they are: kinematic diffraction.

q is the scattering vector without 2π, |q| = 1/d, in 1/Å; x runs along fast scan, y along slow scan, z along the beam.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf
from pathlib import Path

import numba
import numpy as np

from lib.task import InputError, Phrase
from lib.tasks.bragg.config import Simulation

REFERENCE_D_ANGSTROM = 5.0  # where `spot_photons` holds
FAINTEST = 1e-4  # of a reflection's full density: what is farther from the Ewald sphere is left out
MAX_HKL_BYTES = 200_000_000


@dataclass(frozen=True)
class HklList:
    """Intensities (H, K, L) in a box around 000 whose first element is (−h, −k, −l) of `half`, with a mean of 1."""

    values: np.ndarray
    half: tuple[int, int, int]


@dataclass(frozen=True)
class Rocking:
    """What lets a reflection beside the Ewald sphere diffract; all are σ, in radians, shares and 1/Å."""

    mosaicity_rad: float
    divergence_rad: float
    bandwidth: float
    size_inv_angstrom: float

    @staticmethod
    def of(config: Simulation) -> Rocking:
        """From settings. A block of size D spreads a lattice point by 1/D (Scherrer), as FWHM."""
        size = 1 / (config.domain_size_um * 1e4) / 2.3548
        return Rocking(np.deg2rad(config.mosaicity_deg), config.divergence_mrad / 1000, config.bandwidth_percent / 100, size)

    def sigma(self, q: np.ndarray, wavelength_angstrom: float) -> np.ndarray:
        """σ in 1/Å of the distance ε from the Ewald sphere, for q in 1/Å."""
        return np.asarray(_rocking_sigma(q, wavelength_angstrom, *self.values()))

    def values(self) -> tuple[float, float, float, float]:
        """The four σ in order."""
        return self.mosaicity_rad, self.divergence_rad, self.bandwidth, self.size_inv_angstrom


@dataclass(frozen=True)
class Reflections:
    """n reflections: indices (n, 3), q = 1/d, unit directions (n, 3) of their rays, expected photons."""

    hkl: np.ndarray
    q_inv_angstrom: np.ndarray
    direction_xyz: np.ndarray
    photons: np.ndarray


def reciprocal_matrix(config: Simulation) -> np.ndarray:
    """Columns a*, b*, c* (3, 3) in 1/Å of the unturned cell, a along x and b in the xy plane."""
    a, b, c = config.cell_a_angstrom, config.cell_b_angstrom, config.cell_c_angstrom
    alpha, beta, gamma = np.deg2rad([config.cell_alpha_deg, config.cell_beta_deg, config.cell_gamma_deg])
    cx = np.cos(beta)
    cy = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    edges = np.array([[a, b * np.cos(gamma), c * cx], [0, b * np.sin(gamma), c * cy], [0, 0, c * np.sqrt(1 - cx**2 - cy**2)]])
    return np.linalg.inv(edges).T


def polarisation_factor(direction_xyz: np.ndarray, degree: float) -> np.ndarray:
    """½ (1 + cos²2θ − p cos 2φ sin²2θ) of unit directions (n, 3), φ from fast scan (Kahn et al. 1982, JAC 15, 330)."""
    x, y, z = direction_xyz.T
    return 0.5 * (1 + z**2 - degree * (x**2 - y**2))


def reflections(config: Simulation, turn: np.ndarray, key: int, known: HklList | None = None) -> Reflections:
    """Reflections of a crystal turned by the rotation `turn` (3, 3), with mean photons.

    Photons are |F|² · exp(−B q²/2) · polarisation · density of the lattice point on the Ewald sphere, averaged over the turn
    during the frame. That density holds partiality and Lorentz factor in one: integrated over a turn about an axis at right
    angles to beam and q it is λ/sin 2θ. |F|² is exponential (Wilson 1949, acentric), the same of h and −h, drawn from `key`
    and the indices: all frames of a `key` are of one structure.
    """
    wavelength = config.wavelength_angstrom
    rocking = Rocking.of(config)
    table, half = (known.values, known.half) if known else (np.empty((0, 0, 0)), (0, 0, 0))
    edges = np.array([config.cell_a_angstrom, config.cell_b_angstrom, config.cell_c_angstrom])
    most = np.floor(edges / config.resolution_angstrom).astype(np.int64)
    rows = _enumerate(
        turn @ reciprocal_matrix(config), most, 1 / config.resolution_angstrom, wavelength, np.array(rocking.values()),
        np.deg2rad(config.rotation_deg), np.uint64(key), table, np.array(half),
    )  # fmt: skip
    q, direction = rows[:, 3], rows[:, 4:7]
    reference = 1 / (rocking.sigma(np.array(1 / REFERENCE_D_ANGSTROM), wavelength) * np.sqrt(2 * np.pi))
    fall = np.ones(len(q)) if known else np.exp(-config.b_factor_angstrom2 * q**2 / 2)
    photons = config.spot_photons * rows[:, 7] * fall * rows[:, 8] / reference
    photons *= polarisation_factor(direction, config.polarisation)
    return Reflections(rows[:, :3].astype(np.int64), q, direction, photons)


@numba.njit(cache=True)
def _rocking_sigma(q, wavelength, mosaicity, divergence, bandwidth, size):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """σ of ε: blocks and beam directions turn q by q cos θ, photon energies shift it by q sin θ, small blocks blur it."""
    sine = np.minimum(wavelength * q / 2, 1.0)
    turned = q * q * (1 - sine * sine) * (mosaicity**2 + divergence**2)
    return np.sqrt(size**2 + turned + (q * sine * bandwidth) ** 2)


@numba.njit(cache=True)
def _wilson(h, k, l, key):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, E741
    """An exponential number of mean 1 for indices up to inversion: splitmix64 (Steele et al. 2014) of indices and key."""
    if h < 0 or (h == 0 and (k < 0 or (k == 0 and l < 0))):
        h, k, l = -h, -k, -l  # noqa: E741
    state = key + np.uint64(h + 2048) * np.uint64(16777216) + np.uint64(k + 2048) * np.uint64(4096) + np.uint64(l + 2048)
    for _ in range(2):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return -np.log((float(state >> np.uint64(11)) + 0.5) / 9007199254740992.0)


@numba.njit(cache=True)
def _density(distance, sigma, half):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Mean normal density of σ at 0 while the centre moves from distance − half to distance + half."""
    if abs(half) < 1e-3 * sigma:
        return np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    root = sigma * np.sqrt(2.0)
    return (erf((distance + half) / root) - erf((distance - half) / root)) / (4 * half)


@numba.njit(cache=True)
def _enumerate(matrix, most, q_max, wavelength, rocking, sweep, key, table, half):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Rows h, k, l, q, direction x, y, z, |F|², density of all reflections near the Ewald sphere."""
    k0 = 1 / wavelength
    found = []
    for h in range(-most[0], most[0] + 1):
        for k in range(-most[1], most[1] + 1):
            for l in range(-most[2], most[2] + 1):  # noqa: E741
                x = matrix[0, 0] * h + matrix[0, 1] * k + matrix[0, 2] * l
                y = matrix[1, 0] * h + matrix[1, 1] * k + matrix[1, 2] * l
                z = matrix[2, 0] * h + matrix[2, 1] * k + matrix[2, 2] * l
                q2 = x * x + y * y + z * z
                if q2 > q_max * q_max or q2 == 0:
                    continue
                length = np.sqrt(x * x + y * y + (k0 + z) ** 2)
                distance = length - k0
                sigma = _rocking_sigma(np.sqrt(q2), wavelength, rocking[0], rocking[1], rocking[2], rocking[3])
                speed = y * k0 / length  # dε/dφ of a turn about x: s·(x̂ × q)/|s|
                if abs(distance) > 4.3 * sigma + abs(speed * sweep / 2):
                    continue
                density = _density(distance, sigma, speed * sweep / 2)
                if density * sigma < FAINTEST:
                    continue
                if abs(speed) * sweep > 0:  # it flashes where it crosses the sphere
                    angle = min(max(-distance / speed, -sweep / 2), sweep / 2)
                    y, z = y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)
                    length = np.sqrt(x * x + y * y + (k0 + z) ** 2)
                if k0 + z <= 0.02 * k0:
                    continue
                if table.size:
                    if abs(h) > half[0] or abs(k) > half[1] or abs(l) > half[2]:
                        continue
                    strength = table[h + half[0], k + half[1], l + half[2]]
                else:
                    strength = _wilson(h, k, l, key)
                found.append((float(h), float(k), float(l), np.sqrt(q2), x / length, y / length, (k0 + z) / length,
                              strength, density))  # fmt: skip
    rows = np.empty((len(found), 9))
    for n in range(len(found)):
        for column in range(9):
            rows[n, column] = found[n][column]
    return rows


def read_hkl(path: Path, name: str = "") -> HklList:
    """A list of intensities, one `h k l I …` a line, as CrystFEL writes; headers are skipped, h stands for a missing −h.

    Raises InputError where the file cannot be read or holds no such line.
    """
    name = name or path.name
    try:
        if path.stat().st_size > MAX_HKL_BYTES:
            raise InputError(name, "is larger than 200 MB", "Give a list of merged intensities: h k l I, one a line")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        problem = Phrase("cannot be opened ({why})", why=error.strerror or str(error))
        raise InputError(name, problem, "Check the path of hkl_file and the permissions") from error
    rows = np.array([row for line in lines if (row := _hkl_row(line)) is not None])
    if not len(rows) or not rows[:, 3].mean() > 0:
        raise InputError(name, "has no line of h, k, l and a positive intensity", "Give a CrystFEL .hkl list, in P1")
    hkl, strength = rows[:, :3].astype(np.int64), np.clip(rows[:, 3], 0, None) / np.clip(rows[:, 3], 0, None).mean()
    half = np.abs(hkl).max(axis=0)
    values = np.zeros(2 * half + 1)
    for sign in (-1, 1):  # what the list says of itself overwrites what its Friedel mate says
        values[tuple((sign * hkl + half).T)] = strength
    return HklList(values, (int(half[0]), int(half[1]), int(half[2])))


def _hkl_row(line: str) -> tuple[int, int, int, float] | None:
    """The first four numbers of a line, None for any other line."""
    words = line.split()
    try:
        h, k, l, strength = int(words[0]), int(words[1]), int(words[2]), float(words[3])  # noqa: E741
    except (ValueError, IndexError):
        return None
    return (h, k, l, strength) if max(abs(h), abs(k), abs(l)) < 512 and np.isfinite(strength) else None
