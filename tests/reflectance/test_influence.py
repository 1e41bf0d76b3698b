"""Where a network looked: known networks are found out, and the deletion test tells maps that mean something from others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lib.task import Samples
from lib.tasks.reflectance import influence
from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import CHANNELS, IMAGE_PX
from lib.tasks.reflectance.networks import Reader

SIZE = IMAGE_PX // influence.SIDE


class Weighted(torch.nn.Module):
    """The brightness of each place times a weight of its own."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, image: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = torch.nn.functional.avg_pool2d(image.unsqueeze(1), SIZE)
        return places * self.weights.view(1, 1, influence.SIDE, influence.SIDE), scale[:, :0]


class Same(torch.nn.Module):
    """The mean feature as every channel."""

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return features.unsqueeze(1).expand(-1, 1, len(CHANNELS)), features.expand(-1, len(GEOMETRY))


def reader_of(weights: np.ndarray) -> Reader:
    reader = Reader(Weighted(torch.from_numpy(weights).float()), Same())
    reader.standardise((np.full(10, 0.3), np.ones(10)), (np.zeros(14), np.ones(14)))
    return reader.eval()


def images_of(count: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (n, 256, 256): each place of a grey of its own."""
    greys = rng.integers(40, 216, (count, influence.SIDE, influence.SIDE))
    return greys.repeat(SIZE, 1).repeat(SIZE, 2).astype(np.uint8)


def samples_of(count: int, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    names = [f"{k}.png" for k in range(count)]
    return Samples({"image": images_of(count, rng)}, pd.DataFrame({"file": names, "specimen": "", "nm_per_px": 25.0}))


def data_of(samples: Samples) -> Any:
    """Training data whose test part these are."""
    return SimpleNamespace(part=lambda _split: samples, config=SimpleNamespace(seed=0))


def test_every_two_places_share_one_line() -> None:
    lines = influence.lines().astype(int)
    assert lines.shape == (20, 16) and (lines.sum(1) == 4).all()
    np.testing.assert_array_equal(lines.T @ lines, np.ones((16, 16), int) + 4 * np.eye(16, dtype=int))


def test_what_places_add_is_found_exactly() -> None:
    rng = np.random.default_rng(1)
    weights, image = rng.normal(0, 0.5, 16), images_of(1, rng)[0].astype(np.float32) / 255
    found = influence.influence(reader_of(weights), torch.from_numpy(image), torch.zeros(2))
    places = image[::SIZE, ::SIZE].ravel()
    true = weights * (places - image.mean()) / 16
    np.testing.assert_allclose(found.numpy(), np.tile(true, (10, 1)), atol=1e-5)


def test_the_first_images_are_explained_and_the_others_not() -> None:
    explained = influence.explain(reader_of(np.ones(16)), samples_of(3), 2).table["influence"]
    assert [None if one is None else len(one) for one in explained] == [160, 160, None]
    tables_alone = Samples({}, samples_of(2).table)
    assert influence.explain(reader_of(np.ones(16)), tables_alone, 2) is tables_alone


def test_maps_of_a_network_that_looks_at_places_pass_the_deletion_test() -> None:
    weights = np.random.default_rng(2).normal(0, 0.5, 16)
    found = influence.deletion_test(reader_of(weights), data_of(samples_of(20)))["deletion"]
    assert found["holds"] and found["raising_percent"] > 95 and found["lowering_percent"] > 95 and found["images"] == 20


def test_maps_that_name_the_wrong_places_fail_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    monkeypatch.setattr(influence, "influence", lambda *_: torch.from_numpy(rng.normal(size=(10, 16))))
    found = influence.deletion_test(reader_of(rng.normal(0, 0.5, 16)), data_of(samples_of(20)))["deletion"]
    assert not found["holds"] and 35 < found["raising_percent"] < 65


def test_one_image_of_each_specimen_is_tested() -> None:
    samples = samples_of(6).with_columns(specimen=["a", "a", "b", "b", "", ""])
    found = influence.deletion_test(reader_of(np.ones(16)), data_of(samples))["deletion"]
    assert found["images"] == 4
