"""Spots on the detector: where rays hit, how wide their spots are, and their light in each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.crystal import Reflections
from lib.tasks.bragg.geometry import Geometry

REACH_SIGMAS = 4.5
HALO_PX = 6.0  # σ of diffuse light around a spot
MIN_SIGMA_PX = 0.12  # a sharper spot lights the same pixels
SHAPE_SPREAD = 0.15  # relative σ of widths from spot to spot


@dataclass(frozen=True)
class Spots:
    """n spots in array coordinates: places, expected photons, and covariances yy, xx, yx (n, 3) in px²."""

    y_px: np.ndarray
    x_px: np.ndarray
    photons: np.ndarray
    covariance_px2: np.ndarray
    q_inv_angstrom: np.ndarray
    hkl: np.ndarray

    def take(self, rows: np.ndarray) -> Spots:
        """The given rows."""
        return Spots(self.y_px[rows], self.x_px[rows], self.photons[rows], self.covariance_px2[rows], self.q_inv_angstrom[rows],
                     self.hkl[rows])  # fmt: skip

    @staticmethod
    def joined(parts: list[Spots]) -> Spots:
        """All parts one after another."""
        return Spots(*(np.concatenate([getattr(p, name) for p in parts]) for name in Spots.__dataclass_fields__))

    def area_px(self) -> np.ndarray:
        """Area whose background counts for a spot: 4π√det C, C with a pixel's own width, as a Gaussian matched filter sees."""
        yy, xx, yx = (self.covariance_px2 + np.array([1 / 12, 1 / 12, 0])).T
        return 4 * np.pi * np.sqrt(np.maximum(yy * xx - yx**2, 1e-6))


def project(found: Reflections, where: Geometry, config: Simulation, rng: np.random.Generator) -> Spots:
    """Where the rays of reflections meet the modules; those that miss are left out. Widths vary a little from spot to spot."""
    assert where.px_size_um is not None and where.distance_mm is not None
    slope_x, slope_y = (found.direction_xyz[:, k] / found.direction_xyz[:, 2] for k in (0, 1))
    spread = np.exp(rng.normal(0, SHAPE_SPREAD, (len(slope_x), 2)))
    parts = []
    for m in where.modules:
        distance_px = (where.distance_mm + m.offset_mm) * 1000 / where.px_size_um
        y, x = slope_y * distance_px, slope_x * distance_px
        to_array = np.linalg.inv(np.array([[m.ss_yx[0], m.fs_yx[0]], [m.ss_yx[1], m.fs_yx[1]]]))
        ss, fs = to_array @ np.stack([y - m.origin_yx_px[0], x - m.origin_yx_px[1]])
        hit = np.flatnonzero((ss > -0.5) & (ss < m.y1 - m.y0 - 0.5) & (fs > -0.5) & (fs < m.x1 - m.x0 - 0.5))
        if not len(hit):
            continue
        sigma = widths_px(found.q_inv_angstrom[hit], np.hypot(slope_y, slope_x)[hit], distance_px, config) * spread[hit]
        covariance = _covariance(y[hit], x[hit], sigma, to_array, 0.0 if config.readout == "integrating" else config.psf_px)
        parts.append(Spots(m.y0 + ss[hit], m.x0 + fs[hit], found.photons[hit], covariance, found.q_inv_angstrom[hit],
                           found.hkl[hit]))  # fmt: skip
    return Spots.joined(parts) if parts else _none()


def _none() -> Spots:
    empty = np.empty(0)
    return Spots(empty, empty, empty, np.empty((0, 3)), empty, np.empty((0, 3), np.int64))


def widths_px(q_inv_angstrom: np.ndarray, tan_2theta: np.ndarray, distance_px: float, config: Simulation) -> np.ndarray:
    """σ of spots along and across the direction to the beam (n, 2) in px, without the detector's point spread.

    Beam size and divergence widen both ways; photon energies smear along, by Δ(2θ) = 2 tan θ ΔE/E; mosaic blocks turn q about
    the beam and smear across, by |q| λ η.
    """
    cosine = 1 / np.sqrt(1 + tan_2theta**2)
    px_um = config.distance_mm * 1000 / distance_px
    round_ = (config.beam_size_um / px_um) ** 2 + (config.divergence_mrad / 1000 * distance_px) ** 2
    sine = np.minimum(config.wavelength_angstrom * q_inv_angstrom / 2, 0.999)
    along = distance_px / cosine**2 * 2 * sine / np.sqrt(1 - sine**2) * config.bandwidth_percent / 100
    across = distance_px / cosine * 2 * sine * np.deg2rad(config.mosaicity_deg)
    return np.sqrt(np.stack([round_ + along**2, round_ + across**2], axis=-1))


def _covariance(y: np.ndarray, x: np.ndarray, sigma: np.ndarray, to_array: np.ndarray, psf_px: float) -> np.ndarray:
    """yy, xx, yx (n, 3) in the array of spots with σ along and across (n, 2) at (y, x) from the beam."""
    r = np.maximum(np.hypot(y, x), 1e-9)
    uy, ux = y / r, x / r
    along, across = sigma.T**2
    yy, xx, yx = along * uy**2 + across * ux**2, along * ux**2 + across * uy**2, (along - across) * uy * ux
    lab = np.stack([np.stack([yy, yx], -1), np.stack([yx, xx], -1)], -2)
    array = to_array @ lab @ to_array.T
    return np.stack([array[:, 0, 0] + psf_px**2, array[:, 1, 1] + psf_px**2, array[:, 0, 1]], axis=-1)


def add(light: np.ndarray, spots: Spots, halo_share: float = 0.0) -> None:
    """Add the spots' expected photons to `light` (H, W), in place; whatever falls outside the array is lost.

    A spot is a Gaussian integrated over each pixel on a sub-pixel grid, and its light in all pixels is its photons exactly.
    """
    _add(light, spots.y_px, spots.x_px, spots.photons, spots.covariance_px2)
    if halo_share > 0:
        covariance = np.tile([HALO_PX**2, HALO_PX**2, 0.0], (len(spots.y_px), 1))
        bright = spots.photons * halo_share > 1
        _add(light, spots.y_px[bright], spots.x_px[bright], spots.photons[bright] * halo_share, covariance[bright])


@numba.njit(cache=True)
def _add(light, y_px, x_px, photons, covariance):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The loop of `add`."""
    height, width = light.shape
    patch = np.zeros((129, 129))
    for n in range(len(y_px)):
        yy, xx = max(covariance[n, 0], MIN_SIGMA_PX**2), max(covariance[n, 1], MIN_SIGMA_PX**2)
        yx = covariance[n, 2]
        det = max(yy * xx - yx * yx, MIN_SIGMA_PX**4)
        reach = min(int(REACH_SIGMAS * np.sqrt(max(yy, xx)) + 1.5), 64)
        fine = min(max(int(2.5 / np.sqrt(det / max(yy, xx))), 1), 12)  # so many points along a pixel's side
        row0, column0 = int(np.rint(y_px[n])), int(np.rint(x_px[n]))
        total = 0.0
        for i in range(2 * reach + 1):
            for j in range(2 * reach + 1):
                value = 0.0
                for u in range(fine):
                    dy = row0 - reach + i + (u + 0.5) / fine - 0.5 - y_px[n]
                    for v in range(fine):
                        dx = column0 - reach + j + (v + 0.5) / fine - 0.5 - x_px[n]
                        power = (xx * dy * dy - 2 * yx * dy * dx + yy * dx * dx) / (2 * det)
                        if power < 12:
                            value += np.exp(-power)
                patch[i, j] = value
                total += value
        for i in range(2 * reach + 1):
            row = row0 - reach + i
            if row < 0 or row >= height:
                continue
            for j in range(2 * reach + 1):
                column = column0 - reach + j
                if 0 <= column < width:
                    light[row, column] += photons[n] * patch[i, j] / total
