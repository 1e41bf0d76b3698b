"""The posterior that benchmarks.diffusion_floor samples: its derivatives, and the path that its coordinates stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.diffusion_posterior import POINTS, Posterior, cut, cut_sizes, motion_precision
from lib.tasks.diffusion.config import Simulation
from lib.tasks.diffusion.simulate import SUBSTEPS, simulate_clips


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    settings = Simulation(d_um2_s=1.0, exposure_s=0.01, frame_interval_s=0.01, photons=500, background=10)
    samples = simulate_clips(settings, 3, np.random.default_rng(0), keep_path=True)
    size = int(cut_sizes(samples.inputs["path_px"].astype(float)).max())
    return Posterior(cut(samples, size, settings.sigma_px), settings)


def test_derivatives_are_those_of_the_value(posterior: Posterior) -> None:
    clips, rng = posterior.clips, torch.Generator().manual_seed(0)
    x = torch.full((3,), 0.1)
    u = posterior.coordinates(clips.path_px, x)
    by_u, by_x, _ = posterior.gradient(u, x)
    along = torch.randn(u.shape, generator=rng) * posterior.scale * 0.02
    for way_u, way_x, expected in (
        (along, torch.zeros(3), (by_u * along).sum((1, 2))),
        (torch.zeros_like(u), torch.full((3,), 0.02), by_x * 0.02),
    ):
        _, _, after = posterior.gradient(u + way_u, x + way_x)
        _, _, before = posterior.gradient(u - way_u, x - way_x)
        np.testing.assert_allclose((after - before) / 2, expected, rtol=0.03, atol=0.05)


def test_coordinates_are_those_of_the_path(posterior: Posterior) -> None:
    path, x = posterior.clips.path_px, torch.tensor([-0.3, 0.0, 0.4])
    np.testing.assert_allclose(posterior.path(posterior.coordinates(path, x), x), path, atol=2e-3)


def test_motion_has_the_law_of_means_of_a_brownian_path() -> None:
    """Covariance of steps between neighbouring sub-interval means: 2δ/3 with itself, δ/6 with the next."""
    steps = np.diff(np.eye(POINTS), axis=0)
    covariance = steps @ np.linalg.pinv(motion_precision()) @ steps.T * SUBSTEPS
    np.testing.assert_allclose(np.diag(covariance), 2 / 3, atol=1e-6)
    np.testing.assert_allclose(np.diag(covariance, 1), 1 / 6, atol=1e-6)
    np.testing.assert_allclose(np.diag(covariance, 2), 0, atol=1e-6)
