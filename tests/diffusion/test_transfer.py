"""Camera settings from the clip itself: gain, offset and kind of camera, one clip or many."""

from __future__ import annotations

import numpy as np
import pytest

from lib.tasks.diffusion import transfer
from lib.tasks.diffusion.config import Simulation
from lib.tasks.diffusion.simulate import simulate_clips

EMCCD = {"em_gain": 300.0, "e_per_adu": 5.0, "baseline_adu": 450.0, "read_sigma_e": 50.0, "fwhm_nm": 320.0}
SCMOS = {"e_per_adu": 0.5, "read_sigma_e": 1.5, "fwhm_nm": 320.0}


def clips(n: int, seed: int = 1, **settings: float) -> np.ndarray:
    return simulate_clips(Simulation(**settings), n, np.random.default_rng(seed)).inputs["clip_adu"]


@pytest.mark.parametrize(
    ("settings", "slope", "excess"),
    [
        (EMCCD, 120.0, 2.0),
        (EMCCD | {"d_um2_s": 6.0}, 120.0, 2.0),
        (EMCCD | {"background": 100.0}, 120.0, 2.0),
        (SCMOS, 2.0, 1.0),
        ({}, 1.0, 1.0),
    ],
)
def test_each_clip_tells_its_camera(settings: dict[str, float], slope: float, excess: float) -> None:
    found = transfer.read(clips(8, **settings))
    assert (found.excess_noise == excess).all()
    assert np.median(found.slope_adu) == pytest.approx(slope, rel=0.15)
    assert np.std(np.log(found.slope_adu)) < 0.2
    assert (found.slope_error / found.slope_adu < 0.3).all()


def test_many_clips_tell_it_better() -> None:
    found = transfer.read_set(clips(16, **EMCCD))
    assert found.slope_adu[0] == pytest.approx(120, rel=0.06)
    assert found.baseline_adu[0] == pytest.approx(450, abs=60)
    assert np.median(found.track.photons) == pytest.approx(250, rel=0.1)
    assert len(set(found.slope_adu)) == 1


def test_what_the_user_types_is_kept_and_sharpens_the_rest() -> None:
    block = clips(8, **EMCCD)
    given = transfer.read(block, transfer.Known(baseline_adu=450.0))
    assert (given.baseline_adu == 450).all()
    assert np.abs(given.slope_adu / 120 - 1).max() < 0.06
    full = transfer.read(block, transfer.Known(450.0, 120.0, 10.0, 2.0))
    assert (full.slope_adu == 120).all() and (full.slope_error == 0).all() and (full.excess_noise == 2).all()


def test_read_noise_is_taken_off_the_background() -> None:
    block = clips(8, e_per_adu=0.5, read_sigma_e=4.0, background=20.0)
    off = {
        read: np.median(transfer.read(block, transfer.Known(slope_adu=2.0, read_sigma_adu=read)).baseline_adu)
        for read in (0.0, 8.0)
    }
    assert off[8.0] == pytest.approx(100, abs=4)
    assert off[0.0] < off[8.0] - 20


def test_no_background_and_no_molecule_still_give_finite_answers() -> None:
    for block in (clips(2, background=0.0), clips(2, photons=0.0)):
        found = transfer.read(block)
        assert np.isfinite(found.slope_adu).all() and (found.slope_adu > 0).all() and np.isfinite(found.baseline_adu).all()


def test_points_of_the_curve_lie_on_the_line() -> None:
    block = clips(12, **EMCCD)
    found = transfer.read_set(block)
    mean, variance = transfer.curve(block, found.track, float(found.slope_adu[0]))
    assert len(mean) >= 6
    assert np.polyfit(mean, variance, 1)[0] == pytest.approx(120, rel=0.15)
