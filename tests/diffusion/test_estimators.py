"""Classical estimators against exact tracks: still particles, known D, blur, gaps, and the bound."""

from __future__ import annotations

import numpy as np
import pytest

from lib.tasks.diffusion import estimators
from lib.tasks.diffusion.config import Simulation
from lib.tasks.diffusion.simulate import simulate_clips

FULL = 1 / 6


def tracks(
    d: float, n: int, noise_px: float = 0.1, exposure: float = 1.0, frames: int = 16, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Centroids (n, frames) of Brownian motion averaged over the exposure, with Gaussian localisation noise."""
    rng = np.random.default_rng(seed)
    steps = 20
    move = rng.normal(size=(n, frames, steps, 2)) * np.sqrt(2 * d / steps)
    path = np.cumsum(move.reshape(n, -1, 2), axis=1).reshape(n, frames, steps, 2)
    open_ = max(round(steps * exposure), 1)
    mean = path[:, :, :open_].mean(axis=2) + rng.normal(size=(n, frames, 2)) * noise_px
    return mean[..., 0], mean[..., 1]


def test_a_still_particle_has_no_displacement() -> None:
    y = x = np.full((1, 16), 3.25)
    assert (estimators.msd(y, x) == 0).all()
    assert estimators.cve(y, x, FULL)[0] == 0
    assert estimators.mle(y, x, FULL, np.array([0.01]))[0][0] <= 1e-4


def test_straight_motion_has_a_quadratic_msd() -> None:
    y, x = np.arange(16.0)[None], np.zeros((1, 16))
    assert np.allclose(estimators.msd(y, x)[0], np.arange(1, 16) ** 2)
    assert estimators.msd_fit(y, x)[0] == pytest.approx(np.sum(np.arange(1, 16) ** 3) / np.sum(np.arange(1, 16) ** 2) / 4)


@pytest.mark.parametrize("exposure", [0.25, 1.0])
def test_cve_is_unbiased_for_d_and_for_localisation_noise(exposure: float) -> None:
    y, x = tracks(0.8, 6000, 0.3, exposure)
    d, variance = estimators.cve(y, x, exposure / 6)
    assert d.mean() == pytest.approx(0.8, rel=0.02)
    assert variance.mean() == pytest.approx(0.09, rel=0.12)


def test_cve_scatters_as_vestergaard_2014_says() -> None:
    y, x = tracks(1.0, 6000, 0.3)
    epsilon, count = 0.09 / 1.0 - 2 * FULL, 15
    theory = np.sqrt(((6 + 4 * epsilon + 2 * epsilon**2) / count + 4 * (1 + epsilon) ** 2 / count**2) / 2)
    assert estimators.cve(y, x, FULL)[0].std() == pytest.approx(theory, rel=0.05)


@pytest.mark.parametrize("d", [0.1, 1.0, 10.0])
def test_mle_with_known_noise_reaches_the_cramer_rao_bound(d: float) -> None:
    y, x = tracks(d, 1500, 0.2)
    noise = np.full(1500, 0.04)
    found = estimators.mle(y, x, FULL, noise)[0]
    bound = estimators.trajectory_bound(np.array([d]), np.array([0.04]), FULL, 16)[0]
    assert found.mean() == pytest.approx(d, rel=0.05)
    assert found.std() / d == pytest.approx(bound, rel=0.12)
    assert np.sqrt(np.mean(np.log10(found / d) ** 2)) < np.sqrt(
        np.mean(np.log10(np.maximum(estimators.cve(y, x, FULL)[0] / d, 0.01)) ** 2)
    )


def test_mle_that_fits_the_noise_finds_it() -> None:
    y, x = tracks(0.5, 200, 0.4, frames=200)
    d, variance = estimators.mle(y, x, FULL)
    assert np.median(d) == pytest.approx(0.5, rel=0.06)
    assert np.median(variance) == pytest.approx(0.16, rel=0.1)


def test_likelihood_equals_the_gaussian_with_the_tridiagonal_covariance() -> None:
    y, x = tracks(0.6, 1, 0.3)
    d, s2, steps = 0.6, 0.09, 15
    covariance = np.diag(np.full(steps, 2 * d * (1 - 2 * FULL) + 2 * s2))
    covariance += (np.eye(steps, k=1) + np.eye(steps, k=-1)) * (2 * FULL * d - s2)
    sign, log_det = np.linalg.slogdet(covariance)
    moves = [np.diff(axis[0]) for axis in (y, x)]
    exact = -0.5 * sum(log_det + m @ np.linalg.solve(covariance, m) for m in moves)
    value = estimators.log_likelihood(y, x, np.array([FULL]), np.array([d]), np.array([s2]))
    assert sign > 0
    assert value[0] == pytest.approx(exact, rel=1e-9)


def test_gaps_are_left_out_and_not_bridged() -> None:
    y, x = tracks(1.0, 400, 0.1, seed=3)
    visible = np.ones(y.shape, bool)
    visible[:, 6:8] = False
    y[:, 6:8] = 500.0  # nonsense in invisible frames must not matter
    whole = estimators.mle(*tracks(1.0, 400, 0.1, seed=3), FULL, np.full(400, 0.01))[0]
    gapped = estimators.mle(y, x, FULL, np.full(400, 0.01), visible)[0]
    assert gapped.mean() == pytest.approx(1.0, rel=0.06)
    assert np.corrcoef(np.log(whole), np.log(gapped))[0, 1] > 0.8
    assert estimators.cve(y, x, FULL, visible)[0].mean() == pytest.approx(1.0, rel=0.08)
    assert np.nanmax(estimators.msd(y, x, visible)) < 1000


def test_nothing_visible_gives_nan_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    y, x = tracks(1.0, 2)
    dark = np.zeros(y.shape, bool)
    assert np.isnan(estimators.cve(y, x, FULL, dark)[0]).all()
    assert np.isnan(estimators.mle(y, x, FULL, np.full(2, 0.01), dark)[0]).all()
    assert np.isnan(estimators.msd_fit(y, x, dark)).all()
    assert np.isnan(estimators.file_slope(y, x, dark)).all()
    assert not recwarn.list


def test_file_slope_is_the_slope_of_the_msd() -> None:
    y, x = tracks(2.0, 3)
    curve = estimators.msd(y, x)[0]
    assert estimators.file_slope(y, x)[0] == pytest.approx(abs(np.polyfit(np.arange(1, 16), curve, 1)[0]) / 4)


def test_bound_follows_the_design_table() -> None:
    """Design table: 500 photons, background 10, FWHM 200 nm, 100 nm pixels, 10 ms, 16 frames."""
    for d, expected in ((0.1, 0.273), (1.0, 0.260), (10.0, 0.258)):
        noise = estimators.localisation_variance(np.array(500.0), np.array(10.0), np.sqrt(0.8493**2 + 1 / 12 + d / 3))
        assert estimators.trajectory_bound(np.array([d]), np.array([noise]), FULL, 16)[0] == pytest.approx(expected, abs=0.005)


def test_localisation_variance_limits() -> None:
    assert estimators.localisation_variance(np.array(400.0), np.array(0.0), np.array(2.0)) == pytest.approx(0.01)
    assert estimators.localisation_variance(np.array(400.0), np.array(0.0), np.array(2.0), 2.0) == pytest.approx(0.02)
    assert estimators.localisation_variance(np.array(400.0), np.array(20.0), np.array(2.0)) > 0.015


def test_unknown_exposure_counts_as_full() -> None:
    assert np.allclose(estimators.blur_coefficient(np.array([np.nan, 1.0, 0.3])), [1 / 6, 1 / 6, 0.05])


def test_baselines_of_simulated_clips() -> None:
    samples = simulate_clips(Simulation(d_um2_s=1.0), 60, np.random.default_rng(0))
    table = estimators.baselines(samples)
    ratio = np.log10(table["d_mle_px2_per_frame"] / 1.0)
    assert np.sqrt((ratio**2).mean()) < 0.15
    assert set(estimators.BASELINE_COLUMNS) <= set(table)
    assert table["photons_per_frame"].median() == pytest.approx(500, rel=0.06)
    assert table["background_photons_px"].median() == pytest.approx(10, rel=0.03)
    assert table["bound_relative_sd"].between(0.2, 0.5).all()
    assert not set(table) & set(samples.table)


def test_emccd_readings_are_in_photo_electrons() -> None:
    config = Simulation(d_um2_s=0.5, em_gain=300.0, e_per_adu=5.0, baseline_adu=450.0)
    table = estimators.baselines(simulate_clips(config, 20, np.random.default_rng(0)))
    assert table["photons_per_frame"].median() == pytest.approx(500, rel=0.1)
    assert table["background_photons_px"].median() == pytest.approx(10, rel=0.05)
