"""The simulator obeys physics: Bragg, Laue, Poisson, polarisation, Lorentz; and what it writes, others read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import ndtr

from lib.__main__ import main
from lib.task import InputError, Samples
from lib.tasks.bragg import background, crystal, detector, files, simulate, simulate_views, spot_shapes, variety, write
from lib.tasks.bragg.config import SIMULATION_PRESETS, Acquisition, Simulation
from lib.tasks.bragg.geometry import Geometry

DARK = {"water_photons": 0.0, "air_photons": 0.0, "flat_photons": 0.0, "beamstop_mm": 0.0, "pulse_jitter": 0.0}
SMALL = {"height_px": 256, "width_px": 256, "px_size_um": 300.0}


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def lattice(config: Simulation, seed: int = 1) -> tuple[crystal.Reflections, np.ndarray]:
    turn = Rotation.from_quat(np.random.default_rng(seed).normal(size=4)).as_matrix()
    return crystal.reflections(config, turn, 5), turn


# --- crystal ----------------------------------------------------------------------------------------------------------
def test_d_spacing_of_a_tetragonal_cell_is_the_textbooks() -> None:
    config = Simulation(cell_a_angstrom=79, cell_b_angstrom=79, cell_c_angstrom=38)
    found, _ = lattice(config)
    h, k, m = found.hkl.T
    assert 1 / found.q_inv_angstrom == pytest.approx(1 / np.sqrt((h**2 + k**2) / 79**2 + m**2 / 38**2))
    assert len(found.hkl) > 50


def test_reciprocal_cell_is_the_inverse_of_a_triclinic_one() -> None:
    config = Simulation(cell_a_angstrom=30, cell_b_angstrom=40, cell_c_angstrom=50, cell_alpha_deg=80, cell_beta_deg=95,
                        cell_gamma_deg=105)  # fmt: skip
    edges = np.linalg.inv(crystal.reciprocal_matrix(config))  # rows a, b, c
    assert np.linalg.norm(edges, axis=1) == pytest.approx([30, 40, 50])
    angles = [np.rad2deg(np.arccos(edges[i] @ edges[j] / np.linalg.norm(edges[i]) / np.linalg.norm(edges[j])))
              for i, j in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
    assert angles == pytest.approx([80, 95, 105])


@pytest.mark.parametrize("rotation_deg", [0.0, 0.5])
def test_every_spot_obeys_braggs_law_within_its_rocking_width(rotation_deg: float) -> None:
    config = Simulation(mosaicity_deg=0.05, rotation_deg=rotation_deg, pulse_jitter=0, **SMALL)
    where = detector.geometry(config)
    spots = spot_shapes.project(lattice(config)[0], where, config, rng())
    assert len(spots.y_px) > 20
    q_seen = 1 / where.resolution_angstrom(spots.y_px, spots.x_px)
    sigma = crystal.Rocking.of(config).sigma(spots.q_inv_angstrom, config.wavelength_angstrom)
    # a lattice point a distance ε beside the sphere is seen at most about ε tan θ from its own q
    sine = config.wavelength_angstrom * spots.q_inv_angstrom / 2
    assert (np.abs(q_seen - spots.q_inv_angstrom) < 5 * sigma * np.tan(np.arcsin(sine)) + 2e-5).all()


def test_neighbouring_spots_stand_a_reciprocal_edge_apart() -> None:
    config = Simulation(mosaicity_deg=0.8, resolution_angstrom=8, distance_mm=1000, height_px=1024, width_px=1024)
    found = crystal.reflections(config, np.eye(3), 5)  # a along fast scan
    spots = spot_shapes.project(found, detector.geometry(config), config, rng())
    place = {tuple(hkl): x for hkl, x in zip(spots.hkl.tolist(), spots.x_px)}
    steps = [place[h + 1, k, m] - place[h, k, m] for h, k, m in place if (h + 1, k, m) in place]
    assert np.median(steps) == pytest.approx(1000 / 0.1 * config.wavelength_angstrom / 79, rel=0.01)


def test_friedel_mates_are_alike_and_intensities_are_wilsons() -> None:
    config = Simulation(mosaicity_deg=3, domain_size_um=0.01, resolution_angstrom=3)
    strengths = {}
    for seed in range(8):
        for hkl in lattice(config, seed)[0].hkl.tolist():
            strengths[tuple(hkl)] = crystal._wilson(*hkl, np.uint64(5))
    values = np.array(list(strengths.values()))
    assert len(values) > 2000
    assert values.mean() == pytest.approx(1, abs=0.1) and (values**2).mean() == pytest.approx(2, rel=0.2)  # acentric
    assert all(strengths[hkl] == strengths[tuple(-i for i in hkl)] for hkl in strengths if tuple(-i for i in hkl) in strengths)


def test_a_turn_through_the_sphere_gives_the_lorentz_factor() -> None:
    """Summed over a turn about an axis at right angles to beam and q, the density is λ/sin 2θ, whatever the mosaicity."""
    for mosaicity in (0.02, 0.2):
        config = Simulation(cell_a_angstrom=50, mosaicity_deg=mosaicity, bandwidth_percent=0, divergence_mrad=0,
                            domain_size_um=1000, b_factor_angstrom2=0, polarisation=-1, spot_photons=1)  # fmt: skip
        wavelength, d = config.wavelength_angstrom, 50 / 10
        theta = np.arcsin(wavelength / 2 / d)
        reference = 1 / (crystal.Rocking.of(config).sigma(np.array(0.2), wavelength) * np.sqrt(2 * np.pi))
        total, step = 0.0, np.deg2rad(mosaicity) / 10
        for offset in np.arange(-60, 61) * step:
            tilt = theta + offset  # the 10 0 0 reflection in the yz plane, on the sphere at offset 0
            a = np.array([0, np.cos(tilt), -np.sin(tilt)])
            turn = np.stack([a, np.array([1.0, 0, 0]), np.cross(a, [1.0, 0, 0])], axis=1)
            found = crystal.reflections(config, turn, 5)
            row = (found.hkl == [10, 0, 0]).all(axis=1)
            total += step * float((found.photons[row] / crystal.polarisation_factor(found.direction_xyz[row], -1)).sum())
        expected = wavelength / np.sin(2 * theta) * crystal._wilson(10, 0, 0, np.uint64(5)) / reference
        assert total == pytest.approx(expected, rel=0.01)


def test_polarised_light_scatters_by_cos2_in_its_plane_and_fully_across() -> None:
    angle = np.deg2rad(30)
    rays = np.array([[np.sin(angle), 0, np.cos(angle)], [0, np.sin(angle), np.cos(angle)]])
    assert crystal.polarisation_factor(rays, 1.0) == pytest.approx([np.cos(angle) ** 2, 1])
    assert crystal.polarisation_factor(rays, 0.0) == pytest.approx([(1 + np.cos(angle) ** 2) / 2] * 2)


def test_a_list_of_intensities_takes_the_place_of_wilsons(tmp_path: Path) -> None:
    path = tmp_path / "known.hkl"
    rows = [f"{h} {k} {m} {100 if h == 1 else 0} - 1 1" for h in range(4) for k in range(-4, 5) for m in range(-4, 5)]
    path.write_text("CrystFEL reflection list version 2.0\n   h k l I phase sigma(I) nmeas\n" + "\n".join(rows) + "\nEnd\n")
    config = Simulation(hkl_file=str(path), mosaicity_deg=2, domain_size_um=0.02, **DARK)
    known = crystal.read_hkl(path)
    found = crystal.reflections(config, lattice(config)[1], 5, known)
    bright = found.photons > 0
    assert bright.any() and set(np.abs(found.hkl[bright, 0])) == {1}
    assert len(simulate.simulate_frames(config, 1, rng())) == 1


@pytest.mark.parametrize("text", ["", "no numbers here\n", "1 2 3 0\n"])
def test_a_list_without_intensities_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.hkl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.hkl"):
        simulate.simulate_frames(Simulation(hkl_file=str(path), **SMALL), 1, rng())
    with pytest.raises(InputError, match="cannot be opened"):
        crystal.read_hkl(tmp_path / "missing.hkl")


# --- spots and background ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sigma", [(0.3, 0.3), (0.5, 2.0), (3.0, 1.0)])
def test_a_spots_light_is_its_gaussians_in_every_pixel_at_any_subpixel_place(sigma: tuple[float, float]) -> None:
    for y, x in ((30.0, 30.0), (30.5, 30.25), (29.63, 31.11)):
        light = np.zeros((64, 64), np.float64)
        covariance = np.array([[sigma[0] ** 2, sigma[1] ** 2, 0.0]])
        spots = spot_shapes.Spots(np.array([y]), np.array([x]), np.array([1000.0]), covariance, np.ones(1), np.zeros((1, 3)))
        spot_shapes.add(light, spots)
        assert light.sum() == pytest.approx(1000)
        rows, columns = (np.diff(ndtr((np.arange(65) - 0.5 - at) / width)) for at, width in zip((y, x), sigma))
        assert np.abs(light - 1000 * rows[:, None] * columns).max() < 0.02 * light.max()


def test_mosaic_spots_are_long_across_and_broad_spectra_along() -> None:
    q, tan = np.array([0.4]), np.array([0.8])
    mosaic = spot_shapes.widths_px(q, tan, 1000, Simulation(mosaicity_deg=1, bandwidth_percent=0))[0]
    pink = spot_shapes.widths_px(q, tan, 1000, Simulation(mosaicity_deg=0, bandwidth_percent=2))[0]
    assert mosaic[1] > 3 * mosaic[0] and pink[0] > 3 * pink[1]


@pytest.mark.parametrize("energy_ev", [7000.0, 9000.0])
def test_ice_rings_lie_where_the_geometry_says(energy_ev: float) -> None:
    config = Simulation(**{**DARK, "ice_photons": 50.0, "ice_spottiness": 0.0, "ring_width_inv_angstrom": 0.001},
                        photon_energy_ev=energy_ev, distance_mm=100, height_px=768, width_px=768, px_size_um=150)  # fmt: skip
    where = detector.geometry(config)
    light, radius = background.expected(config, where, rng()), where.radius_px()
    bins = np.rint(radius).astype(int).ravel()
    profile = np.bincount(bins, light.ravel())[:384] / np.bincount(bins).clip(1)[:384]
    rings = [where.ring_px(d) for d, _ in background.ICE_RINGS[:5]]
    assert sum(ring < 370 for ring in rings) >= 2
    for ring in [ring for ring in rings if ring < 370]:
        near = slice(int(ring) - 8, int(ring) + 9)
        assert near.start + np.argmax(profile[near]) == pytest.approx(ring, abs=1.5)


def test_the_water_ring_lies_near_3_angstrom() -> None:
    d = np.linspace(2, 6, 400)
    assert d[np.argmax(background.water(1 / d))] == pytest.approx(3.1, abs=0.3)
    assert background.water(1 / d).max() == pytest.approx(1, abs=0.05)


def test_diffuse_scattering_keeps_the_light_and_has_the_contrast_and_size_asked_for() -> None:
    config = Simulation(diffuse_share=0.2, diffuse_px=4.0)
    factor = background.diffuse(config, (512, 512), rng())
    assert factor.mean() == pytest.approx(1, abs=0.01) and factor.std() == pytest.approx(0.2, rel=0.2)
    excess = factor - factor.mean()
    for apart in (2, 4, 8):  # a Gaussian of σ 4 px seen by itself
        alike = float((excess[apart:] * excess[:-apart]).mean() / excess.var())
        assert alike == pytest.approx(np.exp(-(apart**2) / (4 * 4.0**2)), abs=0.1)


def test_only_a_crystal_scatters_diffusely() -> None:
    settings = {**DARK, **SMALL, "flat_photons": 400.0, "diffuse_share": 0.5, "spot_photons": 0.0}
    spread = {}
    for hit in (0.0, 1.0):
        values = simulate.simulate_frames(Simulation(**settings, hit_fraction=hit), 1, rng()).inputs["frame"][0]
        spread[hit] = values.var() / values.mean()
    assert spread[0.0] == pytest.approx(1, abs=0.05) and spread[1.0] > 10


def test_the_direct_beam_lies_at_its_centre_and_passes_the_stop_in_part() -> None:
    config = Simulation(**{**DARK, "direct_beam_photons": 1e6}, height_px=128, width_px=128, beam_offset_y_px=20)
    light = background.expected(config, detector.geometry(config), rng())
    assert light.sum() == pytest.approx(1e6, rel=0.02)
    assert np.unravel_index(np.argmax(light), light.shape)[0] == pytest.approx(63.5 + 20, abs=0.6)


def test_the_beam_stop_takes_light_and_is_masked_when_asked() -> None:
    settings = {**SMALL, "beamstop_mm": 6.0, "beamstop_leak": 0.0, "flat_photons": 50.0, "hit_fraction": 0.0, "psf_px": 0.0}
    for masked in (False, True):
        frame = simulate.simulate_frames(Simulation(**settings, beamstop_masked=masked), 1, rng()).inputs
        assert frame["frame"][0, 120:136, 120:136].max() == 0
        assert bool(frame["mask"][0, 128, 128]) is not masked


# --- detector ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("gain", [1.0, 20.0])
def test_variance_is_gain_times_mean_for_uncorrelated_pixels(gain: float) -> None:
    config = Simulation(**{**DARK, **SMALL, "flat_photons": 40.0}, adu_per_photon=gain, readout="integrating", psf_px=0,
                        pedestal_adu=100, hit_fraction=0, saturation_adu=1e6)  # fmt: skip
    values = simulate.simulate_frames(config, 1, rng()).inputs["frame"][0] - 100
    assert values.mean() == pytest.approx(40 * gain, rel=0.01)
    assert values.var() == pytest.approx(40 * gain**2, rel=0.05)


def test_point_spread_correlates_noise_of_integrating_detectors_only() -> None:
    told = {}
    for readout in ("counting", "integrating"):
        config = Simulation(**{**DARK, **SMALL, "flat_photons": 200.0}, readout=readout, psf_px=0.7, hit_fraction=0)
        values = simulate.simulate_frames(config, 1, rng()).inputs["frame"][0][8:-8, 8:-8]
        values = values - values.mean()
        told[readout] = float((values[1:] * values[:-1]).mean() / values.var())
    assert abs(told["counting"]) < 0.03
    assert told["integrating"] == pytest.approx(np.exp(-1 / (4 * 0.7**2)), abs=0.05)


def test_light_of_spots_arrives_whatever_the_readout() -> None:
    for readout in ("counting", "integrating"):
        config = Simulation(**{**DARK, **SMALL}, readout=readout, spot_photons=1e6, mosaicity_deg=0.3, psf_px=0.6,
                            saturation_adu=1e9)  # fmt: skip
        samples = simulate.simulate_frames(config, 1, rng())
        told, seen = np.sum(samples.table["true_intensity"][0]), float(samples.inputs["frame"][0].sum(dtype=float))
        assert told > 1e5 and seen == pytest.approx(told, rel=0.03)  # a spot at the edge loses some of its light


def test_readings_stop_at_saturation_and_the_mask_covers_what_is_dead() -> None:
    config = Simulation(**SMALL, saturation_adu=50, spot_photons=1e6, dead_share=0.01, hot_share=0.01, hot_masked=1.0)
    inputs = simulate.simulate_frames(config, 2, rng()).inputs
    assert inputs["frame"].max() == 50
    fresh = np.random.default_rng(7)
    chips = detector.pixels(config, detector.geometry(config), None, fresh)
    assert (~chips.live).sum() > 400 and not inputs["mask"][0][~chips.live].any()
    assert not inputs["mask"][0].ravel()[chips.hot].any()
    assert (inputs["frame"][:, ~chips.live] == 0).all()


@pytest.mark.parametrize("name", [name for name in SIMULATION_PRESETS if "16M" not in name])
def test_every_preset_makes_frames_of_its_detector(name: str) -> None:
    config = Simulation(**SIMULATION_PRESETS[name])
    samples = simulate.simulate_frames(config, 1, rng())
    where = Geometry.from_json(samples.table["geometry"][0]).check(name)
    assert samples.inputs["frame"].shape == (1, *where.shape)
    gaps = np.isnan(where.radius_px())
    assert not samples.inputs["mask"][0][gaps].any()
    assert sum(snr > 5 for snr in samples.table["true_snr"][0]) > 5
    told = where.resolution_angstrom(np.array(samples.table["true_y_px"][0]), np.array(samples.table["true_x_px"][0]))
    assert told == pytest.approx(np.array(samples.table["true_resolution_angstrom"][0]), rel=0.03)


@pytest.mark.parametrize("name", ["ePix10k 2M", "CSPAD", "Eiger 4M"])
def test_modules_of_a_detector_do_not_overlap_in_space(name: str) -> None:
    y, x = detector.geometry(Simulation(detector=name)).positions_px()
    seen = np.isfinite(y)
    rows, columns = (np.floor(axis[seen] - axis[seen].min() + 0.25).astype(np.int64) for axis in (y, x))
    assert np.bincount(rows * 8192 + columns).max() == 1


def test_light_between_photons_and_gaps_is_no_reading() -> None:
    samples = simulate.simulate_frames(Simulation(**SIMULATION_PRESETS["Pilatus 300K"]), 1, rng())
    assert (samples.inputs["frame"][0][195:212] == 0).all() and not samples.inputs["mask"][0][195:212].any()


# --- frames -----------------------------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_frames_and_another_one_others() -> None:
    one, two, other = (simulate.simulate_frames(Simulation(**SMALL), 2, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (one.inputs["frame"] == two.inputs["frame"]).all() and one.table.equals(two.table)
    assert (one.inputs["frame"] != other.inputs["frame"]).any()
    assert (one.inputs["frame"][0] != one.inputs["frame"][1]).any()


def test_hits_and_blanks_come_in_the_share_asked_for() -> None:
    config = Simulation(**{**SMALL, "height_px": 64, "width_px": 64, "px_size_um": 1000.0}, hit_fraction=0.3)
    hits = simulate.simulate_frames(config, 200, rng()).table["true_is_hit"]
    assert 0.2 < hits.mean() < 0.4


def test_signal_to_noise_is_the_scatter_of_a_profile_fit() -> None:
    """Least squares with the known profile on flat background, over many frames of one spot, scatters by I/snr.

    The noise of background dominates here, and I + A·v is its variance to a few per cent.
    """
    config = Simulation(**{**DARK, **SMALL, "height_px": 33, "width_px": 33, "flat_photons": 30.0}, psf_px=1.5)
    experiment = simulate.set_up(config, detector.geometry(config), rng())
    one = np.array([1.5**2, 1.5**2, 0.0])[None]
    spots = spot_shapes.Spots(np.array([16.2]), np.array([15.9]), np.array([300.0]), one, np.array([0.1]), np.zeros((1, 3)))
    profile = np.zeros((33, 33))
    spot_shapes.add(profile, spots)
    draw = rng()
    fits = [float(((draw.poisson(profile + 30.0) - 30.0) * profile).sum() / (profile**2).sum()) * 300 for _ in range(3000)]
    snr = float(simulate._truth(experiment, spots, 1.0)["snr"][0])
    assert np.mean(fits) == pytest.approx(300, rel=0.02)
    assert 300 / np.std(fits) == pytest.approx(snr, rel=0.1)


def test_drawn_experiments_are_valid_varied_and_fit_their_frame() -> None:
    draw = np.random.default_rng(11)
    kinds, strong, shapes = set(), [], ((256, 256), (192, 320))
    for number in range(40):
        config, where = variety.draw_conditions(draw, shapes[number % 2])
        where.check("drawn")
        frame, truth = simulate.expose(simulate.set_up(config, where, draw), draw)
        assert frame.pixels.shape == frame.mask.shape == shapes[number % 2] == where.shape
        assert np.isfinite(frame.pixels).all() and frame.mask.any()
        rows, columns = (np.rint(truth[name]).astype(int).to_numpy() for name in ("y_px", "x_px"))
        assert frame.mask[rows, columns].all()
        kinds.add((config.readout, config.rotation_deg > 0, len(where.modules) > 1))
        strong.append(int((truth["snr"] > 5).sum()))
    assert len(kinds) >= 5
    assert np.mean(np.array(strong) > 5) > 0.4 and min(strong) == 0


def test_a_detector_far_from_the_beam_still_makes_a_frame() -> None:
    config = Simulation(**{**SMALL, "height_px": 16, "width_px": 16}, beam_offset_y_px=8000, distance_mm=10)
    samples = simulate.simulate_frames(config, 1, rng())
    assert np.isfinite(samples.inputs["frame"]).all()


# --- files and pictures -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["Pilatus 300K", "CSPAD"])
def test_what_is_written_reads_back_the_same(tmp_path: Path, name: str) -> None:
    samples = simulate.simulate_frames(Simulation(**SIMULATION_PRESETS[name]), 2, rng())
    paths = write.write_cxi(samples, tmp_path)
    assert [p.name for p in paths] == ["frames.cxi", "frames.geom", "truth.csv"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    back = files.read_bundle([(p, p.name) for p in paths[:2]], Acquisition())
    wanted = Geometry.from_json(samples.table["geometry"][0])
    for row, frame in enumerate(files.frames_of(back)):
        assert (frame.pixels == samples.inputs["frame"][row]).all()
        assert (frame.mask == samples.inputs["mask"][row]).all()
        assert frame.geometry.wavelength_angstrom == pytest.approx(wanted.wavelength_angstrom)
        assert np.allclose(frame.geometry.radius_px(), wanted.radius_px(), atol=1e-2, equal_nan=True)
        assert frame.geometry.distance_mm == pytest.approx(wanted.distance_mm)
    truth = pd.read_csv(paths[2])
    assert len(truth) == sum(map(len, samples.table["true_y_px"]))
    assert truth["y_px"][truth["frame"] == 1].to_numpy() == pytest.approx(samples.table["true_y_px"][1])
    assert set(truth["file"]) == {"frames.cxi"}


@pytest.mark.parametrize("name", ["Pilatus 300K", "0.15 m, 7 keV"])
def test_frames_written_as_they_are_made_are_those_written_at_once(tmp_path: Path, name: str) -> None:
    config = Simulation(**SIMULATION_PRESETS[name])
    once, pieces = tmp_path / "once", tmp_path / "pieces"
    once.mkdir(), pieces.mkdir()
    shares: list[float] = []
    told = write.write_cxi(simulate.simulate_frames(config, 3, rng()), once)
    made = write.write_simulated(config, 3, rng(), pieces, shares.append)
    assert [p.name for p in made] == [p.name for p in told] and shares == pytest.approx([1 / 3, 2 / 3, 1])
    assert sorted(p.name for p in pieces.iterdir()) == sorted(p.name for p in made)
    for a, b in zip(told, made, strict=True):
        if a.suffix == ".cxi":
            first, second = (list(files.frames_of(files.read(p, Acquisition()))) for p in (a, b))
            assert all((x.pixels == y.pixels).all() and (x.mask == y.mask).all() for x, y in zip(first, second, strict=True))
            assert first[0].geometry.wavelength_angstrom == second[0].geometry.wavelength_angstrom
        else:
            assert a.read_text() == b.read_text()


def test_the_command_writes_runs_of_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.cli.files.MAX_SIMULATED_BYTES", 1000)
    small = ["height_px=64", "width_px=64", "px_size_um=1000"]
    assert main(["simulate", "bragg", "--n", "5", "--output", str(tmp_path / "run"), "--set", *small]) == 0
    assert len(files.read(tmp_path / "run" / "frames.cxi", Acquisition())) == 5


def test_a_long_run_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peaks = []
    for n in (2, 2, 20):  # once to compile what has to be
        folder = tmp_path / f"{len(peaks)}"
        folder.mkdir()
        tracemalloc.start()
        write.write_simulated(Simulation(**SMALL), n, rng(), folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 2 * 256 * 256 * 4


def test_a_flat_detectors_file_says_all_without_a_geometry_file(tmp_path: Path) -> None:
    config = Simulation(**SMALL, beam_offset_y_px=20, hit_fraction=0)
    samples = simulate.simulate_frames(config, 1, rng())
    path, truth = write.write_cxi(samples, tmp_path)
    frame = next(iter(files.frames_of(files.read(path, Acquisition()))))
    wanted = Geometry.from_json(samples.table["geometry"][0])
    assert np.allclose(frame.geometry.radius_px(), wanted.radius_px(), atol=1e-3)
    assert frame.geometry.ring_px(5) == pytest.approx(wanted.ring_px(5))
    assert len(pd.read_csv(truth)) == 0


def test_frames_of_two_detectors_go_into_two_files(tmp_path: Path) -> None:
    one, two = (simulate.simulate_frames(Simulation(**SMALL, distance_mm=mm), 1, rng()) for mm in (100, 200))
    paths = write.write_cxi(Samples.concat([one, two]), tmp_path)
    assert [p.name for p in paths] == ["frames.cxi", "frames-2.cxi", "truth.csv"]
    distances = [Geometry.from_json(files.read(p, Acquisition()).table["geometry"][0]).distance_mm for p in paths[:2]]
    assert distances == pytest.approx([100, 200])


def test_a_folder_that_cannot_take_files_is_told(tmp_path: Path) -> None:
    samples = simulate.simulate_frames(Simulation(**SMALL), 1, rng())
    with pytest.raises(InputError):
        write.write_cxi(samples, tmp_path / "missing")


@pytest.mark.parametrize("hit_fraction", [0.0, 1.0])
def test_panels_show_the_frame_and_its_spots(hit_fraction: float) -> None:
    config = Simulation(**SMALL, hit_fraction=hit_fraction)
    samples = simulate.simulate_frames(config, 1, rng())
    panels = {panel.key: panel for panel in simulate_views.simulation_panels(samples, config)}
    circles = [len(trace.x) for trace in panels["frame"].content.data if "spots" in (trace.name or "")]
    assert sum(circles) == len(samples.table["true_y_px"][0])
    assert panels["snr"].content.data[0].y.sum() == sum(circles)
    told = panels["numbers"].content.set_index("quantity")["value"]
    assert told["spots, and those of I/σ ≥ 5"].split(",")[0] == str(sum(circles)) and told["wavelength"] == "1.55"
