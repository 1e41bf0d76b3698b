"""Readings, flags and calibration of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.task import InputError, Samples
from lib.tasks.diffusion import clean, files, realism
from lib.tasks.diffusion.config import Acquisition, Rules, Simulation, Training
from lib.tasks.diffusion.simulate import simulate_clips

REAL = Path(__file__).parents[3] / "shared" / "data" / "diffusion"
EMCCD = {"em_gain": 300.0, "e_per_adu": 5.0, "baseline_adu": 450.0, "read_sigma_e": 50.0, "fwhm_nm": 320.0}


def clips(n: int, seed: int = 0, **settings: float) -> Samples:
    return simulate_clips(Simulation(**settings), n, np.random.default_rng(seed))


def with_pixels(samples: Samples, pixels: np.ndarray) -> Samples:
    return Samples(samples.inputs | {"clip_adu": pixels}, samples.table)


def test_readings_of_good_clips_are_right_and_nothing_is_flagged() -> None:
    readings = clean.inspect(clips(8, d_um2_s=0.5, **EMCCD))
    assert readings.columns[0] == "file"
    assert readings["adu_per_photon"].to_numpy() == pytest.approx(60)
    assert readings["photons_per_frame"].median() == pytest.approx(500, rel=0.1)
    assert readings["background_photons_px"].median() == pytest.approx(10, rel=0.05)
    assert readings["sigma_px"].median() == pytest.approx(np.sqrt(1.36**2 + 1 / 12 + 0.17), rel=0.05)
    assert readings["d_cve_px2_per_frame"].mean() == pytest.approx(0.5, rel=0.5)
    flags = clean.flag(readings, Rules())
    assert list(flags.columns) == list(Rules.model_fields)
    assert flags.dtypes.eq(bool).all()
    assert not flags.to_numpy().any()


def test_saturated_pixels_are_counted() -> None:
    samples = clips(2, photons=3000.0, d_um2_s=0.05)
    pixels = samples.inputs["clip_adu"].copy()
    pixels[1] = np.where(pixels[1] > 300, 65_535, pixels[1])
    readings = clean.inspect(with_pixels(samples, pixels))
    assert readings["saturated_px"][0] == 0
    assert readings["saturated_px"][1] == (pixels[1] == 65_535).sum()
    assert clean.flag(readings, Rules())["max_saturated_px"].tolist() == [False, True]


def test_two_molecules_are_flagged_and_one_is_not() -> None:
    samples = clips(6, d_um2_s=0.1)
    other = clips(6, 1, d_um2_s=0.1, photons=400.0, background=0.0, baseline_adu=0.0).inputs["clip_adu"]
    pixels = samples.inputs["clip_adu"].copy()
    pixels[:3] += np.roll(other, 18, axis=2)[:3]
    readings = clean.inspect(with_pixels(samples, pixels))
    ratio = readings["second_spot_ratio"].to_numpy()[:3]  # of two nearly alike either may be followed
    assert np.minimum(ratio, 1 / ratio) == pytest.approx(0.8, abs=0.15)
    assert (readings["second_spot_ratio"].to_numpy()[3:] == 0).all()
    assert clean.flag(readings, Rules())["max_second_spot"].tolist() == [True] * 3 + [False] * 3


def test_blinking_jumps_edges_and_darkness_are_flagged() -> None:
    samples = clips(4, d_um2_s=0.05)
    pixels = samples.inputs["clip_adu"].copy()
    empty = clips(1, photons=0.0).inputs["clip_adu"][0]
    pixels[0, 5:11] = empty[5:11]
    pixels[1, 8:] = np.roll(pixels[1, 8:], 22, axis=2)
    pixels[2] = np.roll(pixels[2], 30, axis=1)
    pixels[3] = empty
    flags = clean.flag(clean.inspect(with_pixels(samples, pixels)), Rules())
    assert flags["max_dark_frames"].tolist()[:3] == [True, False, False]
    assert flags["max_jump_px"].tolist()[:3] == [False, True, False]
    assert flags["min_edge_px"].tolist()[:3] == [False, False, True]
    assert flags.loc[3, ["min_snr", "max_dark_frames"]].any()


def test_thresholds_move_the_flags() -> None:
    readings = clean.inspect(clips(4, photons=300.0))
    assert clean.flag(readings, Rules(min_photons=1000))["min_photons"].all()
    assert not clean.flag(readings, Rules(min_photons=50))["min_photons"].any()


def mixed(n: int = 12) -> Samples:
    """Slow and fast molecules under one EMCCD."""
    return Samples.concat([clips(n // 2, 2, d_um2_s=0.05, **EMCCD), clips(n - n // 2, 3, d_um2_s=5.0, **EMCCD)])


def test_calibration_finds_the_settings_that_made_the_clips() -> None:
    found = clean.calibrate(mixed(), Acquisition(), simulate_clips, np.random.default_rng(0))
    simulation = found.simulation
    assert isinstance(simulation, Simulation)
    assert simulation.adu_per_photon == pytest.approx(60, rel=0.1)
    assert simulation.excess_noise == 2
    assert simulation.baseline_adu == pytest.approx(450, abs=80)
    assert simulation.background == pytest.approx(10, rel=0.12)
    assert simulation.photons == pytest.approx(500, rel=0.12)
    assert simulation.sigma_px == pytest.approx(1.36, rel=0.06)
    training = Training.parse(found.training)
    assert training.photons_min < 500 < training.photons_max
    assert training.background_min < 10 < training.background_max
    assert training.sigma_min_px < 1.36 < training.sigma_max_px
    assert training.emccd_fraction == 1
    instrument = Acquisition.parse(found.acquisition)
    assert instrument.psf_sigma_px == pytest.approx(1.36, rel=0.05)
    assert instrument.psf_sigma_error_percent == 3
    assert "EM gain of 300 is nominal" in str(found.panels[0].content)
    assert {"settings", "beside", "likeness", "photon-transfer", "histogram", "mean-spot"} == {p.key for p in found.panels}


def test_simulated_twins_look_like_the_clips_they_were_read_from() -> None:
    panels = clean.calibrate(mixed(8), Acquisition(), simulate_clips, np.random.default_rng(0)).panels
    table = next(panel.content for panel in panels if panel.key == "likeness")
    assert isinstance(table, pd.DataFrame)
    frame = table[table["picture"] == "one frame"].set_index("compared")
    assert frame.loc["real and twin", "PSNR (dB)"] > frame.loc["twin and twin", "PSNR (dB)"] - 1.5
    assert frame.loc["real and twin", "SSIM"] > 0.7 * frame.loc["twin and twin", "SSIM"]


def test_calibration_keeps_what_is_typed_and_refuses_clips_without_molecule() -> None:
    typed = Acquisition(baseline_adu=430.0, em_gain=100.0, e_per_adu=2.0, psf_sigma_px=1.2, psf_sigma_error_percent=0.5)
    found = clean.calibrate(mixed(4), typed, simulate_clips, np.random.default_rng(0))
    simulation = found.simulation
    assert isinstance(simulation, Simulation)
    assert (simulation.baseline_adu, simulation.em_gain, simulation.e_per_adu) == (430, 100, pytest.approx(2))
    assert simulation.sigma_px == pytest.approx(1.2)
    assert (found.acquisition["psf_sigma_px"], found.acquisition["psf_sigma_error_percent"]) == (1.2, 0.5)
    assert "nominal" not in str(found.panels[0].content)
    with pytest.raises(InputError, match="no clip"):
        clean.calibrate(mixed(4).take(np.arange(0)), Acquisition(), simulate_clips, np.random.default_rng(0))


def test_calibration_keeps_electrons_per_count_of_a_camera_without_em_register() -> None:
    typed = Acquisition(e_per_adu=0.9, baseline_adu=100.0)
    simulation = clean.calibrate(clips(6, d_um2_s=0.1), typed, simulate_clips, np.random.default_rng(0)).simulation
    assert isinstance(simulation, Simulation)
    assert (simulation.em_gain, simulation.e_per_adu) == (1, pytest.approx(0.9))


def test_calibration_from_moving_molecules_tells_no_instrument_of_a_guessed_width() -> None:
    found = clean.calibrate(clips(6, d_um2_s=3.0, **EMCCD), Acquisition(), simulate_clips, np.random.default_rng(0))
    assert "psf_sigma_px" not in found.acquisition
    assert "rough guess" in str(found.panels[0].content)


def test_ssim_and_psnr() -> None:
    picture = np.random.default_rng(0).normal(size=(32, 32)).cumsum(axis=0)
    span = float(np.ptp(picture))
    assert realism.ssim(picture, picture, span) == pytest.approx(1)
    assert realism.ssim(picture, -picture, span) < 0.6
    assert realism.psnr_db(picture, picture + 0.1 * span, span) == pytest.approx(20)


@pytest.mark.skipif(not REAL.exists(), reason="real clips are not on this machine (../shared/data/diffusion)")
def test_real_folder_is_read_as_its_photon_transfer_says() -> None:
    paths = sorted((REAL / "blocks_70_01").glob("*.tif"))[::6]
    samples = Samples.concat([files.read(path, Acquisition()) for path in paths])
    simulation = clean.calibrate(samples, Acquisition(), simulate_clips, np.random.default_rng(0)).simulation
    assert isinstance(simulation, Simulation)
    assert simulation.adu_per_photon == pytest.approx(56, rel=0.1)
    assert simulation.baseline_adu == pytest.approx(530, abs=60)
    assert simulation.background == pytest.approx(15.5, rel=0.15)
    assert simulation.sigma_px == pytest.approx(1.36, rel=0.06)
