"""The simulator obeys the laws of diffusion, optics and the camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lib.tasks.diffusion.config import SIMULATION_PRESETS, Simulation
from lib.tasks.diffusion.simulate import (
    Camera,
    Molecules,
    ValueTable,
    _normal_slices,
    background_distribution,
    background_table,
    brownian_paths,
    expose,
    photon_counts,
    record,
    render_noiseless,
    simulate_clips,
    simulate_group,
)

EMCCD = Camera(450.0, 5.0, 300.0, 50.0)
SCMOS = Camera(100.0, 0.5, 1.0, 1.5)
IDEAL = Camera(0.0, 1.0)


def molecules(n: int, d: float = 1.0, exposure: float = 1.0, photons: float = 500.0) -> Molecules:
    values = (np.full(n, value) for value in (d, 0.85, photons, exposure, 0.0))
    return Molecules(*values, start_px=np.full((n, 2), 31.5), lit_frames=np.full(n, 16))


@pytest.mark.parametrize("exposure", [0.2, 1.0])
@pytest.mark.parametrize("substeps", [1, 16])
def test_centroids_follow_msd_with_motion_blur(exposure: float, substeps: int) -> None:
    d, n = 0.7, 6000
    centroids = brownian_paths(molecules(n, d, exposure), np.random.default_rng(1), substeps).mean(2)
    blur = exposure / 6  # R of Berglund 2010
    for lag in (1, 4):
        moved = centroids[:, lag:] - centroids[:, :-lag]
        expected = 4 * d * (lag - 2 * blur)
        assert np.mean((moved**2).sum(-1)) == pytest.approx(expected, rel=0.03)
    steps = np.diff(centroids, axis=1)
    assert np.mean(steps[:, 1:] * steps[:, :-1]) == pytest.approx(2 * blur * d, abs=0.012)


def test_still_molecule_does_not_move() -> None:
    assert np.all(brownian_paths(molecules(3, d=0.0), np.random.default_rng(0)) == 31.5)


def test_spot_variance_is_psf_plus_pixel_plus_motion() -> None:
    d, exposure = 0.9, 0.8
    group = molecules(400, d, exposure)
    rng = np.random.default_rng(2)
    counts = photon_counts(brownian_paths(group, rng), group, rng)
    axis = np.arange(64)
    total = counts.sum((2, 3))
    for profile in (counts.sum(3), counts.sum(2)):
        mean = (profile * axis).sum(2) / total
        variance = (profile * axis**2).sum(2) / total - mean**2
        expected = (0.85**2 + 1 / 12 + d * exposure / 3) * (1 - 1 / 500)  # each frame's own mean takes one photon's share
        assert variance.mean() == pytest.approx(expected, rel=0.02)


def test_photons_are_poisson() -> None:
    group = molecules(300, d=0.1)
    rng = np.random.default_rng(3)
    total = photon_counts(brownian_paths(group, rng), group, rng).sum((2, 3)).ravel()
    assert total.mean() == pytest.approx(500, rel=0.01)
    assert total.var() == pytest.approx(500, rel=0.08)


@pytest.mark.parametrize("camera", [EMCCD, SCMOS, IDEAL], ids=["EMCCD", "sCMOS", "ideal"])
def test_photon_transfer_slope_is_gain_times_excess_noise(camera: Camera) -> None:
    rng = np.random.default_rng(4)
    means, variances = [], []
    for level in (5.0, 40.0, 160.0):
        adu = record(np.zeros((8, 16, 64, 64), int), level, camera, rng).astype(float)
        means.append(adu.mean() - camera.baseline_adu)
        variances.append(adu.var())
    slope = np.polyfit(means, variances, 1)[0]
    assert slope == pytest.approx(camera.adu_per_electron * camera.excess_noise, rel=0.02)


@pytest.mark.parametrize("camera", [EMCCD, SCMOS, IDEAL], ids=["EMCCD", "sCMOS", "ideal"])
def test_table_and_electron_by_electron_simulation_agree(camera: Camera) -> None:
    rng = np.random.default_rng(5)
    table = background_table(7.0, camera).draw(200_000, rng)
    direct = expose(rng.poisson(7.0, 200_000), camera, rng)
    assert stats.ks_2samp(table, direct).pvalue > 1e-3


def test_distribution_is_normalised_with_the_right_moments() -> None:
    low, pmf = background_distribution(12.0, EMCCD)
    adu = low + np.arange(len(pmf))
    mean = (adu * pmf).sum()
    gain = EMCCD.adu_per_electron
    assert pmf.sum() == pytest.approx(1)
    assert mean == pytest.approx(12 * gain, rel=1e-3)
    assert ((adu - mean) ** 2 * pmf).sum() == pytest.approx(2 * 12 * gain**2 + (50 / 5) ** 2 + 1 / 12, rel=1e-3)


def test_value_table_draws_rare_values_exactly() -> None:
    probabilities = np.array([0.5, 0.5 - 1e-5, 1e-5])  # the last is rarer than one table entry
    draws = ValueTable(np.array([1, 2, 3]), probabilities).draw(4_000_000, np.random.default_rng(6))
    assert 15 < (draws == 3).sum() < 70  # 40 expected
    assert (draws == 1).mean() == pytest.approx(0.5, abs=1e-3)


def test_dark_molecule_leaves_only_background_and_gradient_tilts_it() -> None:
    config = Simulation(photons=0, background=50, background_gradient=0.8, **SIMULATION_PRESETS["ideal camera"])
    clip = simulate_clips(config, 20, np.random.default_rng(7)).inputs["clip_adu"].astype(float)
    left, right = clip[..., :8].mean(), clip[..., -8:].mean()
    assert clip.mean() == pytest.approx(50, rel=0.01)
    assert (right - left) / 50 == pytest.approx(0.8 * 56 / 63, rel=0.03)


def test_noiseless_frames_hold_all_photons_and_match_the_photons_on_average() -> None:
    config = Simulation(d_um2_s=0.5, **SIMULATION_PRESETS["ideal camera"])
    path = simulate_clips(config, 1, np.random.default_rng(8), keep_path=True).inputs["path_px"]
    expected = render_noiseless(path[0], config)
    assert expected.sum((1, 2)) == pytest.approx(np.full(16, 500.0), rel=1e-3)
    n = 400
    group = replace(molecules(n, 0.5), sigma_px=np.full(n, config.sigma_px))
    counts = photon_counts(np.repeat(path, n, axis=0), group, np.random.default_rng(9)).mean(0)
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected.max() / n)
    fine = render_noiseless(path[0], config, oversample=4).reshape(16, 64, 4, 64, 4).sum((2, 4))
    assert fine == pytest.approx(expected, abs=1e-6)


def test_same_seed_same_clip_and_16_bit_ceiling() -> None:
    config = Simulation(photons=100_000, background=5000, e_per_adu=0.01)
    first, again = (simulate_clips(config, 2, np.random.default_rng(10)).inputs["clip_adu"] for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.uint16 and first.max() == 65_535


def test_bleached_molecule_is_dark_and_neighbour_adds_light() -> None:
    group = replace(molecules(50, d=0.05), lit_frames=np.full(50, 5))
    other = replace(molecules(50, d=0.05), start_px=np.full((50, 2), 12.0))
    clips = simulate_group(group, 0.5, IDEAL, np.random.default_rng(11), neighbours=other).inputs["clip_adu"]
    middle, corner = clips[:, :, 25:38, 25:38].sum((2, 3)), clips[:, :, 6:19, 6:19].sum((2, 3))
    assert middle[:, :5].mean() == pytest.approx(500 + 0.5 * 169, rel=0.02)
    assert middle[:, 5:].mean() == pytest.approx(0.5 * 169, rel=0.02)
    assert corner.mean() == pytest.approx(500 + 0.5 * 169, rel=0.02)


def test_a_photon_scatters_as_a_gaussian_to_the_fourth_moment() -> None:
    slices = _normal_slices().astype(float)
    assert len(slices) == 65_536
    assert [np.mean(slices**k) for k in (1, 2, 3)] == pytest.approx([0, 1, 0], abs=1e-6)
    assert np.mean(slices**4) == pytest.approx(3, abs=1e-3)
    assert slices.max() > 4.2
