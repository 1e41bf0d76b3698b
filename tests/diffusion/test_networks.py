"""The networks: symmetry, error bars, missing knowledge, training data that are read once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from lib.task import Samples
from lib.tasks.diffusion import TASK
from lib.tasks.diffusion.arrays import network_inputs
from lib.tasks.diffusion.config import Family, Simulation, Training
from lib.tasks.diffusion.data import SimulatedClips, draw_group
from lib.tasks.diffusion.families import build
from lib.tasks.diffusion.features import FRAME_FEATURES, SCALARS, VECTORS
from lib.tasks.diffusion.networks import COMPONENTS, READINGS, Posterior, Symmetry, negative_log_likelihood
from lib.tasks.diffusion.simulate import simulate_clips

FAMILIES: tuple[Family, ...] = ("SpotNet", "SimpleCNN", "ParkCNN", "ParkCNN no pooling", "ResNet2D", "ResNet3D")
NARROW = {"SpotNet": 8, "SimpleCNN": 4, "ParkCNN": 4, "ParkCNN no pooling": 4, "ResNet2D": 4, "ResNet3D": 4}


def clips(n: int = 6, seed: int = 0, **settings: Any) -> Samples:
    """Clips at the default conditions, D from 0.03 to 10 µm²/s if not said otherwise."""
    rng = np.random.default_rng(seed)
    if settings:
        return simulate_clips(Simulation(**settings), n, rng)
    return Samples.concat([simulate_clips(Simulation(d_um2_s=float(d)), 1, rng) for d in np.geomspace(0.03, 10, n)])


def tensors(samples: Samples) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in network_inputs(samples).items()}


def network(family: Family = "SpotNet") -> Any:
    """An untrained network, the same each time, that has met a few clips."""
    torch.manual_seed(0)
    made = build(family, NARROW[family])
    made.train()
    made(**tensors(clips(16, seed=9)))
    return made.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_ordered_finite_values(family: Family) -> None:
    with torch.no_grad():
        found = network(family).physical(**tensors(clips()))
    ends = [found[f"d_px2_per_frame{end}"] for end in ("_lo95", "_lo", "_hi", "_hi95")]
    assert all(
        torch.isfinite(value).all() and (value > 0).all() for value in found.values() if value is not found["out_of_range"]
    )
    assert all((low < high).all() for low, high in pairwise(ends))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("number", range(1, 8))
def test_turning_the_clip_does_not_change_d(family: Family, number: int) -> None:
    """The eight symmetries are averaged over, so only rounding and ties on the pixel grid may differ."""
    samples, turn, made = clips(), Symmetry(number), network(family)
    given = tensors(samples)
    with torch.no_grad():
        straight = made.physical(**given)["d_px2_per_frame"]
        turned = made.physical(turn.images(given["clip_adu"]).contiguous(), given["camera"])["d_px2_per_frame"]
    difference = (turned / straight).log10().abs()
    assert difference.median() < 0.01, difference


@pytest.mark.parametrize("number", range(8))
def test_a_symmetry_acts_on_features_as_on_images(number: int) -> None:
    """Reading the turned clip equals turning the reading: signs and exchanged axes are right.

    Except for the offset inside the crop, whose corner lies on every second pixel counted from the upper left.
    """
    made, turn, given = network(), Symmetry(number), tensors(clips(4, d_um2_s=0.5))
    with torch.no_grad():
        read = made.read(**given)["frames"]
        turned = made.read(turn.images(given["clip_adu"]).contiguous(), given["camera"])["frames"]
    offset = [SCALARS + 2 * VECTORS - 2, SCALARS + 2 * VECTORS - 1]
    rest = [k for k in range(FRAME_FEATURES) if k not in offset]
    difference = (turn.frame_features(read) - turned).abs()[..., rest]
    assert difference.median() < 1e-3
    assert difference.mean() < 0.01


def test_the_untrained_network_starts_at_the_physical_estimate() -> None:
    with torch.no_grad():
        found = network().physical(**tensors(clips(24, d_um2_s=1.0)))["d_px2_per_frame"]
    assert 0.7 < float(found.median()) < 1.4


def test_a_width_known_well_tells_more_of_a_slow_molecule_than_one_known_roughly() -> None:
    slow, sigma_px = clips(16, d_um2_s=0.1), Simulation().sigma_px
    spread = {}
    for error in (0.002, 0.02, 0.1):
        given = tensors(slow.with_columns(psf_sigma_px=sigma_px, psf_sigma_error=error))
        spread[error] = float(network().read(**given)["clip"][:, 1].mean())  # log of the physical posterior's width
    assert spread[0.002] < spread[0.02] < spread[0.1]


@pytest.mark.parametrize("missing", [[2], [3], [2, 3]])
def test_unknown_exposure_and_width_still_give_d(missing: list[int]) -> None:
    given = tensors(clips(12, d_um2_s=1.0))
    given["camera"][:, missing] = -1.0
    with torch.no_grad():
        found = network().physical(**given)["d_px2_per_frame"]
    assert 0.5 < float(found.median()) < 2


@pytest.mark.parametrize("value", [0, 100, 65_535])
def test_an_empty_clip_gives_finite_values(value: int) -> None:
    given = {"clip_adu": torch.full((1, 16, 64, 64), float(value)), "camera": torch.tensor([[100.0, 1.0, 1.0, -1.0, -1.0]])}
    with torch.no_grad():
        found = network().physical(**given)
    assert all(torch.isfinite(value).all() for value in found.values())


def test_calibration_makes_the_intervals_hold_68_percent_in_good_and_in_bad_light() -> None:
    made, n = network(), 4000
    rng = torch.Generator().manual_seed(1)
    log10_d = torch.rand(n, generator=rng) * 2 - 1
    log10_photons = 2 + 1.5 * torch.rand(n, generator=rng)
    raw = torch.zeros(n, 3 * COMPONENTS + len(READINGS))
    error = 10 ** (-0.2 - 0.3 * log10_photons)  # 0.16 decades at 100 photons, 0.07 at 1000
    raw[:, COMPONENTS : 2 * COMPONENTS] = (log10_d + error * torch.randn(n, generator=rng)).unsqueeze(1)
    raw[:, 2 * COMPONENTS : 3 * COMPONENTS] = -2.2  # says 0.115 decades everywhere
    raw[:, 3 * COMPONENTS] = log10_photons
    made.calibrate(raw, log10_d)
    posterior = Posterior.of(raw[:, : 3 * COMPONENTS])
    limits = posterior.quantiles(made._factor(posterior, raw[:, 3 * COMPONENTS :]))
    inside = ((log10_d >= limits[:, 1]) & (log10_d <= limits[:, 2])).float()
    assert float(inside.mean()) == pytest.approx(0.68, abs=0.01)
    assert float(inside[log10_photons < 2.5].mean()) == pytest.approx(0.68, abs=0.04)
    assert float(inside[log10_photons > 3].mean()) == pytest.approx(0.68, abs=0.04)


def test_the_likelihood_is_that_of_a_gaussian() -> None:
    raw = torch.zeros(3, 3 * COMPONENTS + len(READINGS))  # four equal components at 0
    width = float(np.log(2) + 0.01)
    y = torch.tensor([0.0, 0.5, -1.0])
    expected = torch.distributions.Normal(0.0, width).log_prob(y).mean()
    assert float(negative_log_likelihood(raw, y)) == pytest.approx(-float(expected), abs=1e-6)


# --- training data ----------------------------------------------------------------------------------------------------
SMALL = {"clips_per_epoch": 64, "validation_clips": 64, "test_clips": 64, "batch_size": 32, "width": 8}


def test_the_same_seed_gives_the_same_clips_and_splits_differ() -> None:
    config = Training(**SMALL)
    first, again = (SimulatedClips(config).batch("train", 0, 1).inputs["clip_adu"] for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, SimulatedClips(config).batch("validation", 0, 1).inputs["clip_adu"])
    assert not np.array_equal(first, SimulatedClips(config).batch("train", 1, 1).inputs["clip_adu"])
    assert np.array_equal(
        SimulatedClips(config).batch("test", 0, 0).inputs["clip_adu"],
        SimulatedClips(config).batch("test", 5, 0).inputs["clip_adu"],
    )


def test_clips_read_once_train_as_clips_read_each_time() -> None:
    """What the front end read beforehand gives the network the same output as the clip itself."""
    once, always = SimulatedClips(Training(**SMALL, passes=3)), SimulatedClips(Training(**SMALL))
    read, raw = once.batch("train", 0, 0), always.batch("train", 0, 0)
    assert once.batch("train", 2, 0) is read
    assert once.batch("train", 3, 0) is not read
    made = network()
    with torch.no_grad():
        kept = made(**{key: torch.from_numpy(value) for key, value in read.inputs.items()})
        fresh = made(**tensors(raw))
    torch.testing.assert_close(kept, fresh, rtol=1e-3, atol=1e-3)
    assert read.table["true_d_px2_per_frame"].equals(raw.table["true_d_px2_per_frame"])


def test_the_time_left_knows_that_kept_clips_cost_little() -> None:
    config = Training(**SMALL, passes=3)
    assert [config.effort(epoch) < 0.5 for epoch in range(5)] == [False, True, True, False, True]
    assert Training(**SMALL).effort(1) == 1


def test_training_clips_cover_the_ranges_asked_for() -> None:
    config, rng = (
        Training(d_min_px2=0.1, d_max_px2=1.0, photons_min=200, photons_max=400, typical_fraction=0),
        np.random.default_rng(2),
    )
    table = Samples.concat([draw_group(config, 16, rng) for _ in range(8)]).table
    assert table["true_d_px2_per_frame"].between(0.1, 1.0).all()
    assert table["photons"].between(200, 400).all()
    assert 0.05 < table["exposure_fraction"].isna().mean() < 0.5
    assert 0.2 < table["psf_sigma_px"].isna().mean() < 0.6


def test_targets_are_the_simulated_truth() -> None:
    samples = clips(3, d_um2_s=2.0)
    assert TASK.targets(samples)["log10_d"] == pytest.approx(np.log10(2.0))
