"""The networks: Fourier images, invariances, sizes of the original, classical families as buffers, intervals, export."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.tasks.reflectance import classical, families, learning, original, trial
from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import IMAGE_PX
from lib.tasks.reflectance.fingerprint import FEATURES, Fingerprint, fingerprints
from lib.tasks.reflectance.fourier import Magnitude, PolarSpectrum, frequencies
from lib.tasks.reflectance.networks import build_polar, mean_and_spread
from lib.tasks.reflectance.training import Training
from tests.reflectance.small import grating


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in trial.inputs(3, np.random.default_rng(0)).items()}


def as_images(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures).astype(np.float32)) / 255


# --- Fourier images ---------------------------------------------------------------------------------------------------
def test_a_grating_is_a_peak_at_its_frequency_and_a_flat_image_is_nothing() -> None:
    magnitude = Magnitude(IMAGE_PX)
    found = magnitude(as_images(grating(20.0, 0.0, np.random.default_rng(0))))[0].numpy()
    row, column = np.unravel_index(found.argmax(), found.shape)
    middle = IMAGE_PX // 2
    assert (row, abs(column - middle)) == (middle, 20)
    flat = magnitude(torch.full((1, IMAGE_PX, IMAGE_PX), 0.7))
    assert float(flat.max()) < 1e-3 and torch.isfinite(flat).all(), "the mean must not leak, and log(0) must not happen"


def test_magnitude_by_matrix_product_is_that_of_the_transform() -> None:
    magnitude = Magnitude(64)
    x = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    window = x - x.mean((1, 2), keepdim=True)
    found = torch.fft.fftshift(torch.fft.fft2(window), dim=(1, 2))
    across = (window @ magnitude.cosine.T, window @ magnitude.sine.T)
    real = magnitude.cosine @ across[0] - magnitude.sine @ across[1]
    imaginary = -(magnitude.sine @ across[0] + magnitude.cosine @ across[1])
    torch.testing.assert_close(real, found.real, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(imaginary, found.imag, atol=1e-3, rtol=1e-4)


def test_polar_spectrum_finds_frequency_and_direction() -> None:
    polar = PolarSpectrum(IMAGE_PX)(as_images(grating(15.0, np.pi / 6, np.random.default_rng(1))))[0].numpy()
    radius, angle = np.unravel_index(polar.argmax(), polar.shape)
    assert frequencies()[radius] == pytest.approx(15.0, rel=0.06)
    assert 180 * angle / polar.shape[1] == pytest.approx(30, abs=6)


def test_fingerprint_stays_when_the_image_is_turned() -> None:
    rng = np.random.default_rng(2)
    image = grating(11.0, 0.4, rng)
    scale = np.tile(np.float32([0, 1]), (3, 1))
    described = fingerprints(np.stack([image, np.rot90(image), grating(22.0, 0.4, rng)]), scale)
    assert described.shape == (3, FEATURES)
    same, other = np.abs(described[0] - described[1]).mean(), np.abs(described[0] - described[2]).mean()
    assert same < 0.05 * other


# --- families ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("fourier", "millions"), [(False, 69.2), (True, 137.4)])
def test_original_families_have_their_size(fourier: bool, millions: float) -> None:
    with torch.device("meta"):
        several = original.build_original(original.FULL_WIDTH, "group", fourier, 1, 0.1)
    assert sum(weight.numel() for weight in several.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("norm", ["group", "batch", "instance"])
def test_compact_original_with_every_norm_gives_fractions(norm: str, inputs: dict[str, torch.Tensor]) -> None:
    config = Training.parse({"model": "compact original + Fourier", "norm": norm, "width": 16, "members": 2})
    network = families.build(config, {}).eval()
    with torch.no_grad():
        found = network.physical(**inputs)
    assert found["channels"].shape == (3, 10) and 0 <= float(found["channels"].min()) <= float(found["channels"].max()) <= 1
    assert (found["half_width"] > 0).all()


def test_polarnet_sees_contrast_and_scale(inputs: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    network = build_polar(16, 2, 0.0).eval()
    with torch.no_grad():
        plain = network(**inputs)
        softer = network(0.5 * inputs["image"] + 0.2, inputs["scale"])
        larger = network(inputs["image"], inputs["scale"] + 0.5)
    assert (plain - softer).abs().max() > 1e-3 and (plain - larger).abs().max() > 1e-3


def test_polarnet_costs_a_twentieth_of_the_compact_original() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    x, scale = torch.zeros(1, IMAGE_PX, IMAGE_PX), torch.zeros(1, 2)
    counted = []
    for network in (build_polar(32, 8, 0.1), original.build_original(32, "group", False, 1, 0.1)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(x, scale)
        counted.append(counter.get_total_flops())
    assert 20 * counted[0] <= counted[1]


# --- classical families ----------------------------------------------------------------------------------------------
def test_forest_and_ridge_in_a_network_give_what_scikit_learn_gives() -> None:
    rng = np.random.default_rng(3)
    described = rng.normal(size=(60, FEATURES)).astype(np.float32)
    channels = np.clip(0.3 + 0.1 * described[:, :10], 0, 1)
    for model, fitted in (("ExtraTrees", classical.trees(np.random.default_rng(9))), ("ridge", classical.ridge())):
        network, facts = classical.fit(model, described, channels, np.random.default_rng(9))
        expected = fitted.fit(described, channels).predict(described)
        members, _ = network.head(torch.from_numpy(described))
        np.testing.assert_allclose(members.mean(1).numpy(), expected, atol=2e-4)
        again = classical.build(model, facts)
        again.load_state_dict(network.state_dict())


# --- loss, intervals, freezing ---------------------------------------------------------------------------------------
def test_loss_leaves_out_what_was_not_measured() -> None:
    raw = torch.full((2, 10 + len(GEOMETRY)), 0.5)
    wanted = {
        "channels": torch.full((2, 10), 0.5), "channel_weight": torch.full((2, 10), 0.1),
        "geometry": torch.full((2, len(GEOMETRY)), 0.5), "geometry_weight": torch.ones(2, len(GEOMETRY)),
        "geometry_spread": torch.ones(2, len(GEOMETRY)),
    }  # fmt: skip
    assert float(learning.loss(raw, wanted)) == 0
    wanted["channels"][0, 3], wanted["channel_weight"][0, 3] = float("nan"), 0
    assert float(learning.loss(raw, wanted)) == 0
    wanted["channels"][1, 3] = 0.9
    assert float(learning.loss(raw, wanted)) > 0


def test_intervals_hold_68_percent_of_what_they_were_calibrated_on() -> None:
    rng = np.random.default_rng(4)
    reader = build_polar(8, 4, 0.0)
    truth = rng.uniform(0.2, 0.8, (400, 10))
    sigma = np.linspace(0.01, 0.1, 10)
    members = truth[:, None] + sigma * rng.normal(size=(400, 1, 10)) + 0.01 * rng.normal(size=(400, 4, 10))
    raw = torch.from_numpy(np.concatenate([members.reshape(400, -1), np.zeros((400, len(GEOMETRY)))], 1).astype(np.float32))
    reader.calibrate(raw, torch.from_numpy(truth.astype(np.float32)))
    mean, spread = mean_and_spread(raw)
    half = reader.width_factor * torch.sqrt(spread**2 + reader.width_floor**2)
    inside = ((mean - torch.from_numpy(truth).float()).abs() <= half).float().mean(0)
    np.testing.assert_allclose(inside.numpy(), 0.68, atol=0.015)
    assert half[:, 9].mean() > 4 * half[:, 0].mean()


@pytest.mark.parametrize("model", ["PolarNet", "compact original"])
def test_frozen_layers_are_those_asked_for(model: str) -> None:
    def moving(which: str) -> set[str]:
        config = Training.parse({"model": model, "width": 16, "frozen": which, "start_from": "x"})
        return {name for name, weight in families.build(config, {}).named_parameters() if weight.requires_grad}

    every, some, head = (moving(which) for which in ("nothing", "first layers", "all but the head"))
    assert head < some < every and all(name.startswith("head.") for name in head)


def test_an_image_far_from_the_references_is_told() -> None:
    rng = np.random.default_rng(5)
    images = np.stack([grating(float(c), 0.3, rng) for c in rng.uniform(6, 12, 24)])
    scale = np.tile(np.float32([0, 1]), (24, 1))
    reader = build_polar(8, 1, 0.0).eval()
    reader.compare_with(fingerprints(images, scale), np.arange(24), np.arange(0, 24, 2))
    strange = np.stack([grating(9.0, 0.1, rng), grating(50.0, 0.1, rng), rng.integers(0, 255, (256, 256)).astype(np.uint8)])
    with torch.no_grad():
        distance = reader.physical(as_images(*strange), torch.from_numpy(scale[:3]))["distance"]
    assert distance[0] < 1.2 and distance[1] > 1.5 and distance[2] > 1.5


def test_fingerprint_module_keeps_batches_apart() -> None:
    rng = np.random.default_rng(6)
    images, scale = as_images(*(grating(c, 0.2, rng) for c in (5.0, 9.0, 17.0))), torch.zeros(3, 2)
    describe = Fingerprint()
    torch.testing.assert_close(describe(images, scale)[1], describe(images[1:2], scale[1:2])[0])
