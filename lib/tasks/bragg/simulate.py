"""Simulated frames with their truth: crystal, spots, background and detector put together, at one setting or any."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from lib.task import Samples
from lib.tasks.bragg import background, crystal, detector, spot_shapes
from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry
from lib.tasks.bragg.spot_shapes import Spots
from lib.tasks.bragg.variety import draw_conditions

FAINTEST_PHOTONS = 0.5  # a spot of fewer expected photons is not told
FILE = "frames.cxi"  # what a simulated run is called, as `write` writes it
TRUTH = ("y_px", "x_px", "intensity", "snr", "resolution_angstrom")


@dataclass(frozen=True)
class Experiment:
    """What stays the same from frame to frame: settings, detector, expected background (H, W), structure."""

    config: Simulation
    geometry: Geometry
    pixels: detector.Pixels
    background: np.ndarray
    passes: np.ndarray | None  # share of light behind the beam stop
    key: int  # of the structure factors
    known: crystal.HklList | None


def set_up(config: Simulation, where: Geometry, rng: np.random.Generator) -> Experiment:
    """Put a detector into the beam. Raises InputError where the list of intensities cannot be read."""
    passes = background.transmission(config, where)
    shadow = passes < 0.9 if passes is not None and config.beamstop_masked else None
    pixels = detector.pixels(config, where, shadow, rng)
    light = background.expected(config, where, rng)
    known = _hkl_list(config.hkl_file) if config.hkl_file else None
    return Experiment(config, where, pixels, light, passes, int(rng.integers(0, 2**63)), known)


@lru_cache(maxsize=4)
def _hkl_list(path: str) -> crystal.HklList:
    return crystal.read_hkl(Path(path))


def expose(experiment: Experiment, rng: np.random.Generator, file: str = "", number: int = 0) -> tuple[Frame, pd.DataFrame]:
    """One frame and its truth, one row per spot on a good pixel with at least half an expected photon.

    Truth has `y_px, x_px` (array indices), `intensity` (expected photons, behind the beam stop and all), `snr` and
    `resolution_angstrom`. `snr` is what a perfect profile fit reaches, I/√(I + A·v): A = 4π√det C px is the area of a spot of
    covariance C, v the variance of a pixel's background and read noise in photons², I the intensity.
    """
    config = experiment.config
    flux = float(np.exp(rng.normal(0, config.pulse_jitter))) if config.pulse_jitter > 0 else 1.0
    light = experiment.background * np.float32(flux)
    hit = rng.random() < config.hit_fraction
    spots = _spots(experiment, flux, rng) if hit else None
    if spots is not None:
        if config.diffuse_share > 0:
            light *= background.diffuse(config, light.shape, rng)
        spot_shapes.add(light, spots, config.halo_share)
    if experiment.passes is not None:
        light *= experiment.passes
    # what lies between modules and in dead pixels never becomes charge
    light[~experiment.pixels.live] = 0
    pixels, zingers = detector.read_out(light, experiment.pixels, experiment.geometry, config, rng)
    mask = experiment.pixels.mask
    hot = np.column_stack(np.divmod(experiment.pixels.hot, mask.shape[1]))
    artefacts = {"hot": hot[mask[hot[:, 0], hot[:, 1]]], "zinger": zingers}
    frame = Frame(pixels, mask, experiment.geometry, file, number, artefacts)
    return frame, _truth(experiment, spots, flux)


def _spots(experiment: Experiment, flux: float, rng: np.random.Generator) -> Spots:
    """Spots of all crystals in the beam; a second one is weaker."""
    parts = []
    for n in range(experiment.config.lattices):
        turn = Rotation.from_quat(rng.normal(size=4)).as_matrix()
        found = crystal.reflections(experiment.config, turn, experiment.key, experiment.known)
        spots = spot_shapes.project(found, experiment.geometry, experiment.config, rng)
        scale = flux * (1.0 if n == 0 else float(rng.uniform(0.1, 1)))
        parts.append(Spots(spots.y_px, spots.x_px, spots.photons * scale, *_rest(spots)))
    spots = Spots.joined(parts)
    return spots.take(np.flatnonzero(spots.photons > FAINTEST_PHOTONS / 10))


def _rest(spots: Spots) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return spots.covariance_px2, spots.q_inv_angstrom, spots.hkl


def _truth(experiment: Experiment, spots: Spots | None, flux: float) -> pd.DataFrame:
    """What `expose` tells of the spots."""
    if spots is None or not len(spots.y_px):
        return pd.DataFrame({name: np.empty(0) for name in TRUTH})
    config = experiment.config
    height, width = experiment.geometry.shape
    row = np.clip(np.rint(spots.y_px).astype(int), 0, height - 1)
    column = np.clip(np.rint(spots.x_px).astype(int), 0, width - 1)
    passes = 1.0 if experiment.passes is None else experiment.passes[row, column]
    photons = spots.photons * passes
    level = experiment.background[row, column] * flux * passes
    if config.readout == "integrating":
        psf = np.array([config.psf_px**2, config.psf_px**2, 0.0])
        spots = Spots(spots.y_px, spots.x_px, photons, spots.covariance_px2 + psf, spots.q_inv_angstrom, spots.hkl)
    noise = level + (config.read_sigma_adu / config.adu_per_photon) ** 2
    snr = photons / np.sqrt(photons + spots.area_px() * noise + 1e-12)
    told = experiment.pixels.mask[row, column] & (photons >= FAINTEST_PHOTONS)
    columns = (spots.y_px, spots.x_px, photons, snr, 1 / spots.q_inv_angstrom)
    return pd.DataFrame({name: values[told] for name, values in zip(TRUTH, columns)})


def simulate_frames(config: Simulation, n: int, rng: np.random.Generator) -> Samples:
    """N frames of one experiment, every crystal turned anew.

    `inputs` has `frame` (n, H, W) float32 in ADU and `mask` (n, H, W) bool, True where good, one array for all. The table has
    `file`, `frame`, `note`, `geometry` (JSON), `true_is_hit` and, as lists with one entry for each spot, `true_y_px`,
    `true_x_px`, `true_intensity` (photons), `true_snr` and `true_resolution_angstrom` as `expose` defines them.
    Raises InputError where the list of intensities cannot be read.
    """
    where = detector.geometry(config)
    experiment = set_up(config, where, rng)
    frames = np.empty((n, *where.shape), np.float32)
    rows = []
    for number in range(n):
        frame, truth = expose(experiment, rng)
        frames[number] = frame.pixels
        lists = {f"true_{name}": truth[name].tolist() for name in TRUTH}
        rows.append({"file": FILE, "frame": number, "note": "", "geometry": where.to_json(),
                     "true_is_hit": len(truth) > 0, **lists})  # fmt: skip
    columns = ["file", "frame", "note", "geometry", "true_is_hit", *(f"true_{name}" for name in TRUTH)]
    mask = np.broadcast_to(experiment.pixels.mask, frames.shape)
    return Samples({"frame": frames, "mask": mask}, pd.DataFrame(rows, columns=columns))


def draw_frame(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Frame, pd.DataFrame]:
    """A frame (H, W) of an experiment that is drawn whole, and its truth as `expose` gives it: what a network trains on."""
    config, where = draw_conditions(rng, shape)
    return expose(set_up(config, where, rng), rng)
