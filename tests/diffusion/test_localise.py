"""The tracker finds the molecule, measures it without bias, and knows when it is not there."""

from __future__ import annotations

import numpy as np
import pytest

from lib.tasks.diffusion import estimators, localise
from lib.tasks.diffusion.config import Simulation
from lib.tasks.diffusion.simulate import simulate_clips


def photons_and_path(n: int, seed: int = 0, **settings: float) -> tuple[np.ndarray, np.ndarray]:
    """Noise-equivalent photons (n, 16, 64, 64) and the true mean positions (n, 16, 2)."""
    samples = simulate_clips(Simulation(**settings), n, np.random.default_rng(seed), keep_path=True)
    return estimators.noise_equivalent(samples), samples.inputs["path_px"].mean(axis=2)


def errors_px(found: localise.Track, path: np.ndarray) -> np.ndarray:
    return np.hypot(found.y_px - path[..., 0], found.x_px - path[..., 1])


def test_still_molecule_is_located_as_well_as_theory_allows() -> None:
    clips, path = photons_and_path(24, d_um2_s=0.0)
    found = localise.track(clips)
    theory = np.sqrt(2 * estimators.localisation_variance(np.array(500.0), np.array(10.0), np.array(0.9)))
    assert found.visible.all()
    assert np.sqrt((errors_px(found, path) ** 2).mean()) < 1.35 * theory
    assert np.median(found.photons) == pytest.approx(500, rel=0.05)
    assert np.median(found.background) == pytest.approx(10, rel=0.02)


def test_positions_have_no_sub_pixel_bias() -> None:
    clips, path = photons_and_path(40, d_um2_s=0.0, photons=3000.0)
    found = localise.track(clips)
    for measured, true in ((found.y_px, path[..., 0]), (found.x_px, path[..., 1])):
        fraction = true - np.rint(true)
        assert abs((measured - true).mean()) < 0.01
        assert abs(np.polyfit(fraction.ravel(), (measured - true).ravel(), 1)[0]) < 0.02


@pytest.mark.parametrize(("d", "most_lost"), [(1.0, 0.0), (10.0, 0.04), (20.0, 0.12)])
def test_fast_molecules_are_followed(d: float, most_lost: float) -> None:
    clips, path = photons_and_path(20, d_um2_s=d)
    inside = (np.abs(path - 31.5) < 31).all(axis=-1)
    assert (errors_px(localise.track(clips), path)[inside] > 4).mean() <= most_lost


def test_faint_slow_molecule_is_followed_through_noise_by_using_all_frames() -> None:
    clips, path = photons_and_path(20, d_um2_s=0.05, photons=300.0, background=100.0, fwhm_nm=300.0)
    assert (errors_px(localise.track(clips), path) > 4).mean() < 0.02


def test_width_grows_with_motion_blur() -> None:
    still, moving = (localise.track(photons_and_path(12, d_um2_s=d)[0]).sigma_px for d in (0.0, 3.0))
    assert np.median(moving) > 1.2 * np.median(still)


def test_dark_frames_are_invisible_and_padding_too() -> None:
    clips, _ = photons_and_path(6, d_um2_s=0.1)
    empty = np.random.default_rng(1).poisson(10, clips[:, :4].shape)
    clips[:, 4:8] = empty
    found = localise.track(clips, n_frames=np.full(6, 14))
    assert not found.visible[:, 4:8].any()
    assert not found.visible[:, 14:].any()
    assert found.visible[:, :4].all() and found.visible[:, 8:14].all()


def test_a_dim_neighbour_is_not_taken_for_the_bleached_molecule() -> None:
    clips, _ = photons_and_path(6, d_um2_s=0.05)
    neighbour, _ = photons_and_path(6, 1, d_um2_s=0.05, photons=200.0)
    clips[:, 8:] = np.roll(neighbour, 20, axis=3)[:, 8:]
    found = localise.track(clips)
    assert found.visible[:, :8].all()
    assert not found.visible[:, 8:].any()


def test_result_does_not_depend_on_the_unit_of_light_where_noise_is_far() -> None:
    clips, _ = photons_and_path(3, d_um2_s=0.3, photons=2000.0)
    one, other = localise.track(clips), localise.track(clips * 1.5)
    assert np.allclose(one.y_px, other.y_px, atol=0.02)
    assert np.allclose(1.5 * one.photons, other.photons, rtol=0.02)


def test_no_clip_gives_an_empty_track_and_odd_sizes_work() -> None:
    assert localise.track(np.empty((0, 16, 64, 64), np.float32)).y_px.shape == (0, 16)
    clips, path = photons_and_path(2, d_um2_s=0.05)
    found = localise.track(clips[:, :, 7:56, 9:60])
    assert np.abs(found.y_px + 7 - path[..., 0]).max() < 1.0
