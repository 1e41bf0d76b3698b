"""What clips of one microscope tell together: the width of a spot that does not move."""

from __future__ import annotations

import numpy as np
import pytest

from lib.task import Samples
from lib.tasks.diffusion.config import Acquisition, Simulation
from lib.tasks.diffusion.simulate import simulate_clips
from lib.tasks.diffusion.still import learn


def mixed_clips(fwhm_nm: float, d_um2_s: list[float]) -> Samples:
    rng = np.random.default_rng(3)
    return Samples.concat([simulate_clips(Simulation(d_um2_s=d, fwhm_nm=fwhm_nm), 1, rng) for d in d_um2_s])


@pytest.mark.parametrize("fwhm_nm", [200.0, 300.0, 400.0])
def test_the_still_width_is_learnt_from_clips_that_hardly_move(fwhm_nm: float) -> None:
    samples = mixed_clips(fwhm_nm, [0.01, 0.02, 0.03, 0.05, 0.1, 0.1, 1, 2, 5, 8])
    acquisition, sentence = learn(samples, Acquisition())
    assert acquisition.psf_sigma_px == pytest.approx(fwhm_nm / 235.48, rel=0.05)
    assert acquisition.psf_sigma_error_percent > Acquisition().psf_sigma_error_percent
    assert "hardly any motion" in sentence


def test_nothing_is_learnt_from_moving_clips_or_against_what_was_typed() -> None:
    moving = mixed_clips(200.0, [1, 2, 3, 4, 5, 6])
    assert learn(moving, Acquisition()) == (Acquisition(), "")
    typed = Acquisition(psf_sigma_px=1.1)
    assert learn(mixed_clips(200.0, [0.02] * 6), typed) == (typed, "")


def test_still_clips_of_one_microscope_do_not_teach_of_moving_ones_of_another() -> None:
    both = Samples.concat([mixed_clips(200.0, [0.01, 0.02, 0.03, 0.05] * 3), mixed_clips(330.0, [1.0] * 12)])
    assert learn(both, Acquisition()) == (Acquisition(), "")


def test_what_is_narrower_than_a_spot_does_not_vote() -> None:
    still, moving = mixed_clips(200.0, [0.01] * 6), mixed_clips(200.0, [1.0] * 6)
    pixel = np.array(still.inputs["clip_adu"])
    pixel[:, :, 30, 30] = pixel.max() * 20
    hot = Samples({**still.inputs, "clip_adu": pixel}, still.table, still.common)
    assert learn(Samples.concat([hot, moving]), Acquisition()) == (Acquisition(), "")


def test_clips_of_different_microscopes_teach_nothing() -> None:
    both = Samples.concat([mixed_clips(width, [0.01, 0.02, 0.03]) for width in (180.0, 450.0)])
    assert learn(both, Acquisition()) == (Acquisition(), "")
