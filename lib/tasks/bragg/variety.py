"""A plausible experiment drawn at random: so wide a variety of them that a network trained on it meets little that is new.

Ranges cover what laboratories and free-electron lasers use. No setting was fitted to the labels of a real frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.crystal import REFERENCE_D_ANGSTROM, Rocking
from lib.tasks.bragg.detector import Hardware, cropped, hardware, placed, tiled
from lib.tasks.bragg.geometry import HC_EV_ANGSTROM, LEAST_SPACING_PX, Geometry

LAYOUTS = ("Eiger 4M", "Jungfrau 4M", "ePix10k 2M", "CSPAD", "Pilatus 6M")
REAL_LAYOUT_SHARE = 0.45
BLANK_SHARE = 0.12
Settings = dict[str, Any]


def draw_conditions(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Simulation, Geometry]:
    """Settings of one experiment and its detector, or the part of it, of that shape (H, W)."""
    kind = rng.choice(["counting", "hybrid", "ccd"], p=[0.35, 0.3, 0.35])
    part = _hardware(shape, kind, rng)
    settings: Settings = {"px_size_um": part.px_size_um, "height_px": shape[0], "width_px": shape[1]}
    settings |= _place(part, rng)
    settings |= _background(kind, settings, rng)
    settings |= _readout(kind, rng)
    settings |= _crystal(settings, rng)
    settings |= _brightness(settings, rng)
    config = Simulation.model_validate(settings)
    return config, placed(part, config)


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform between low and high."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _sometimes(rng: np.random.Generator, chance: float, low: float, high: float) -> float:
    """Log-uniform between low and high with that chance, else 0."""
    return _log(rng, low, high) if rng.random() < chance else 0.0


def _hardware(shape: tuple[int, int], kind: str, rng: np.random.Generator) -> Hardware:
    """A window of a known detector, or modules of any size with gaps; a CCD has none."""
    if kind == "ccd":
        return tiled(1, 1, *shape, 0, 0, float(rng.uniform(60, 180)))
    if rng.random() < REAL_LAYOUT_SHARE:
        whole = hardware(Simulation(detector=str(rng.choice(LAYOUTS))))  # type: ignore[arg-type]
        y0, x0 = (int(rng.integers(0, max(have - want, 0) + 1)) for have, want in zip(whole.shape, shape))
        return cropped(whole, y0, x0, shape)
    height, width = (int(rng.integers(150, 1100)) for _ in range(2))
    gap_y, gap_x = (int(rng.integers(2, 40)) for _ in range(2))
    rows, columns = shape[0] // (height + gap_y) + 2, shape[1] // (width + gap_x) + 2
    whole = tiled(rows, columns, height, width, gap_y, gap_x, float(rng.uniform(50, 180)))
    y0, x0 = (int(rng.integers(0, have - want + 1)) for have, want in zip(whole.shape, shape))
    return cropped(whole, y0, x0, shape)


def _place(part: Hardware, rng: np.random.Generator) -> Settings:
    """Energy, distance and beam: the frame's farthest corner sees 1.4 to 4 Å, the beam hits the frame or passes beside it."""
    m = part.modules[0]
    if m.fs_yx == (0.0, 1.0) and m.ss_yx == (1.0, 0.0):  # one picture: the beam goes where it likes
        share = rng.uniform(0.3, 0.7, 2) if rng.random() < 0.6 else rng.uniform(-0.4, 1.4, 2)
        dy = share[0] * part.shape[0] + m.origin_yx_px[0] - m.y0
        dx = share[1] * part.shape[1] + m.origin_yx_px[1] - m.x0
    else:
        dy, dx = rng.normal(0, 20, 2)
    shifted = placed(part, Simulation(beam_offset_y_px=float(dy), beam_offset_x_px=float(dx)))
    reach = float(np.nanmax(shifted.radius_px()[:: part.shape[0] // 8, :: part.shape[1] // 8]))
    energy = _log(rng, 6000, 15_000)
    sine = min(HC_EV_ANGSTROM / energy / (2 * _log(rng, 1.4, 4.0)), 0.6)
    distance = reach * part.px_size_um / 1000 / np.tan(2 * np.arcsin(sine))
    return {"beam_offset_y_px": float(dy), "beam_offset_x_px": float(dx), "photon_energy_ev": energy,
            "distance_mm": float(np.clip(distance, 15, 4000)), "polarisation": float(rng.choice([0.99, 0.9, 0.0]))}  # fmt: skip


def _background(kind: str, settings: Settings, rng: np.random.Generator) -> Settings:
    """Solvent, air and artefacts. A CCD's frames are exposed longer."""
    level = _log(rng, 3, 2000) if kind == "ccd" else _log(rng, 0.03, 150)
    fields = settings["px_size_um"] / 1000 * min(settings["height_px"], settings["width_px"])  # mm across
    return {
        "water_photons": level, "air_photons": level * _log(rng, 0.05, 3), "flat_photons": level * _log(rng, 0.003, 0.5),
        "saxs_photons": level * _sometimes(rng, 0.3, 0.3, 20),
        "ice_photons": level * _sometimes(rng, 0.2, 0.2, 5), "ice_spottiness": float(rng.uniform(0, 0.6)),
        "powder_photons": level * _sometimes(rng, 0.2, 0.2, 4), "powder_d_angstrom": _log(rng, 3, 60),
        "ring_width_inv_angstrom": _log(rng, 0.001, 0.012), "halo_share": _sometimes(rng, 0.4, 0.03, 1.0),
        "tilt": float(rng.uniform(-0.6, 0.6)) if rng.random() < 0.5 else 0.0, "texture": _sometimes(rng, 0.5, 0.005, 0.1),
        "jet_photons": level * _sometimes(rng, 0.2, 1, 30), "jet_deg": float(rng.uniform(-180, 180)),
        "beamstop_mm": _sometimes(rng, 0.75, 0.01 * fields, 0.08 * fields),
        "beamstop_arm_mm": _sometimes(rng, 0.3, 0.01 * fields, 0.05 * fields),
        "beamstop_arm_deg": float(rng.uniform(-180, 180)), "beamstop_leak": float(rng.uniform(0, 0.15)),
        "beamstop_masked": bool(rng.random() < 0.4), "pulse_jitter": 0.0,
    }  # fmt: skip


def _readout(kind: str, rng: np.random.Generator) -> Settings:
    """Point spread, gain and noise of photon counters, integrating hybrid detectors, and CCDs behind a phosphor."""
    bad = {"hot_share": _sometimes(rng, 0.6, 1e-6, 3e-4), "hot_masked": float(rng.uniform(0, 1)),
           "dead_share": _sometimes(rng, 0.6, 1e-5, 3e-3)}  # fmt: skip
    if kind == "counting":
        return bad | {"readout": "counting", "psf_px": float(rng.uniform(0, 0.6)), "saturation_adu": _log(rng, 3e3, 1e6),
                      "zingers_per_mpx": _sometimes(rng, 0.3, 1, 30)}  # fmt: skip
    if kind == "hybrid":
        gain = _log(rng, 1, 150)
        read = gain * _log(rng, 0.05, 0.7)
        return bad | {
            "readout": "integrating", "psf_px": float(rng.uniform(0, 0.5)), "adu_per_photon": gain, "read_sigma_adu": read,
            "row_sigma_adu": read * _sometimes(rng, 0.4, 0.05, 0.7), "gain_spread": _sometimes(rng, 0.7, 0.002, 0.04),
            "pedestal_adu": float(rng.choice([0.0, rng.uniform(-20, 100)])), "saturation_adu": gain * _log(rng, 500, 20_000),
            "read_correlation_px": _sometimes(rng, 0.2, 0.3, 1.0), "zingers_per_mpx": _sometimes(rng, 0.3, 1, 30),
        }  # fmt: skip
    gain = _log(rng, 0.3, 6)
    return bad | {
        "readout": "integrating", "psf_px": float(rng.uniform(0.4, 1.3)), "adu_per_photon": gain,
        "read_sigma_adu": gain * _log(rng, 0.5, 5), "read_correlation_px": _sometimes(rng, 0.4, 0.3, 1.0),
        "gain_spread": _sometimes(rng, 0.7, 0.002, 0.02), "row_sigma_adu": _sometimes(rng, 0.2, 0.1, 2),
        "pedestal_adu": float(rng.uniform(0, 200)), "saturation_adu": 65_535.0,
        "zingers_per_mpx": _sometimes(rng, 0.6, 1, 60),
    }  # fmt: skip


def _crystal(settings: Settings, rng: np.random.Generator) -> Settings:
    """Cell, disorder and beam. The cell is small enough for neighbouring spots to stand apart."""
    distance_px = settings["distance_mm"] * 1000 / settings["px_size_um"]
    wavelength = HC_EV_ANGSTROM / settings["photon_energy_ev"]
    longest = float(np.clip(distance_px * wavelength / LEAST_SPACING_PX, 30, 250))
    edges = np.clip([_log(rng, 25, longest) for _ in range(3)], 10, None)
    edges[1] = edges[0] if rng.random() < 0.4 else edges[1]
    angles = {"cell_gamma_deg": 120.0} if rng.random() < 0.2 else {}
    if rng.random() < 0.4:
        angles = {f"cell_{name}_deg": float(np.clip(rng.normal(92, 7), 72, 112)) for name in ("alpha", "beta", "gamma")}
    size_px = _log(rng, 0.2, 1.0) if rng.random() < 0.8 else _log(rng, 0.5, 2.2)
    return {
        **{f"cell_{name}_angstrom": float(edge) for name, edge in zip("abc", edges)}, **angles,
        "b_factor_angstrom2": float(rng.uniform(3, 40)), "resolution_angstrom": _log(rng, 1.4, 3.5),
        "mosaicity_deg": _log(rng, 0.03, 0.5), "domain_size_um": _log(rng, 0.03, 2),
        "bandwidth_percent": _log(rng, 0.01, 0.6), "divergence_mrad": 0.0, "beam_size_um": size_px * settings["px_size_um"],
        "rotation_deg": _sometimes(rng, 0.6, 0.05, 1.5), "lattices": int(rng.choice([1, 2, 3], p=[0.85, 0.1, 0.05])),
        "hit_fraction": 0.0 if rng.random() < BLANK_SHARE else 1.0,
    }  # fmt: skip


def _brightness(settings: Settings, rng: np.random.Generator) -> Settings:
    """Photons that make an average reflection near 5 Å stand out of the background by 8 to 1000 σ."""
    rocking = Rocking.of(Simulation.model_validate(settings))
    q = 1 / REFERENCE_D_ANGSTROM
    sigma = float(rocking.sigma(np.array(q), HC_EV_ANGSTROM / settings["photon_energy_ev"]))
    spread = max(1.0, np.deg2rad(settings["rotation_deg"]) * q * 0.6 / (2.5 * sigma))  # over a turn it is there for a moment
    width2 = (settings["beam_size_um"] / settings["px_size_um"]) ** 2 + settings["psf_px"] ** 2 + 1 / 12
    noise = settings["water_photons"] + (settings.get("read_sigma_adu", 0) / settings.get("adu_per_photon", 1)) ** 2
    wanted = _log(rng, 8, 1000)
    return {"spot_photons": float(spread * (wanted * np.sqrt(4 * np.pi * width2 * noise) + min(wanted, 30.0)))}
