"""From labelled images to a score: splits, changes of training images, estimates beside the model, scores, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.task import InputError, Samples
from lib.tasks.reflectance import augment, baselines, demo, score, sources
from lib.tasks.reflectance.columns import GEOMETRY, geometry_of
from lib.tasks.reflectance.config import CHANNELS, IMAGE_PX, TRUE
from lib.tasks.reflectance.data import Images
from lib.tasks.reflectance.training import TRAINING_PRESETS, Training
from lib.words import english, from_plain
from tests.reflectance.small import grating, gratings


@pytest.fixture
def forty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Samples]:
    """Forty specimens of two views in place of the demo set."""
    samples = gratings(40)
    monkeypatch.setattr(demo, "load", lambda _most: samples)
    yield samples


# --- the four parts ---------------------------------------------------------------------------------------------------
def specimens(data: Images) -> list[set[str]]:
    return [set(data.part(split).table["specimen"]) for split in ("train", "validation", "calibration", "test")]  # type: ignore[arg-type]


def test_views_of_a_specimen_stay_on_one_side(forty: Samples) -> None:
    parts = specimens(Images(Training()))
    assert all(parts) and sum(map(len, parts)) == 40 == len(set().union(*parts))


def test_folds_test_every_specimen_once(forty: Samples) -> None:
    tested = [specimens(Images(Training.parse({"current_split": k})))[3] for k in range(5)]
    assert sum(map(len, tested)) == 40 == len(set().union(*tested))


def test_split_by_kind_leaves_test_kinds_out_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = gratings(40)
    kinds = samples.table["specimen"].str[1:].astype(int) % 8
    monkeypatch.setattr(demo, "load", lambda _most: samples.with_columns(kind=[f"k{k}" for k in kinds]))
    data = Images(Training.parse({"split_by": "kind", "n_splits": 4}))
    kinds_of = [set(data.part(split).table["kind"]) for split in ("train", "test")]  # type: ignore[arg-type]
    assert not kinds_of[0] & kinds_of[1]


def test_split_by_nothing_is_told_as_leaking(forty: Samples) -> None:
    data = Images(Training.parse({"split_by": "nothing"}))
    assert any("both sides" in from_plain(note) for note in data.facts()["notes"])
    assert not any("both sides" in from_plain(note) for note in Images(Training()).facts()["notes"])


def test_split_by_kind_without_kinds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "load", lambda _most: gratings(20).with_columns(kind=""))
    with pytest.raises(InputError, match="kind"):
        Images(Training.parse({"split_by": "kind"}))


def test_too_few_specimens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "load", lambda _most: gratings(3, views=5))
    with pytest.raises(InputError, match="split"):
        Images(Training())


def test_unknown_set_lists_those_there_are() -> None:
    with pytest.raises(InputError, match="demo set") as caught:
        sources.load(Training.parse({"data": "no such set"}))
    assert "no such set" in str(caught.value)


def test_settings_that_do_not_fit_are_refused() -> None:
    for wrong in ({"loss_weights": "1,2"}, {"frozen": "all but the head"}, {"stage": "geometry", "model": "ridge"}):
        with pytest.raises(InputError):
            Training.parse(wrong)
    assert all(Training.parse(preset) for preset in TRAINING_PRESETS.values())


# --- training images --------------------------------------------------------------------------------------------------
def test_turning_by_a_quarter_is_turning_by_a_quarter() -> None:
    image = grating(9.0, 0.3, np.random.default_rng(0))
    turned = augment.turn(image, np.pi / 2).astype(float)
    quarter = min(np.abs(turned - np.rot90(image, k).astype(float)).mean() for k in (1, 3))
    assert quarter < 1.0


def test_enlarging_makes_structures_coarser_and_pixels_smaller() -> None:
    image = grating(16.0, 0.0, np.random.default_rng(0))
    large = augment.turn(image, 0.0, 2.0).astype(float)
    spectrum = np.abs(np.fft.rfft(large[IMAGE_PX // 2] - large[IMAGE_PX // 2].mean()))
    assert spectrum.argmax() == 8
    config = Training.parse({"zoom_percent": 20.0})
    _, nm_per_px = augment.augment(image[None].repeat(20, 0), np.full(20, 25.0), config, np.random.default_rng(1))
    assert 20 < nm_per_px.min() < nm_per_px.max() < 32


def test_without_changes_an_image_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "JPEG_SHARE", 0)
    still = Training.parse({"rotation_deg": 0, "flip": False, "zoom_percent": 0, "noise": 0, "contrast_percent": 0})
    images = gratings(3, 1).inputs["image"]
    changed, _ = augment.augment(images, np.full(3, 25.0), still, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, images)


def test_scale_is_zero_at_the_common_pixel_size_and_marked_where_unknown() -> None:
    found = augment.scale_of(np.array([25.0, 50.0, np.nan]))
    np.testing.assert_allclose(found, [[0, 1], [1, 1], [0, 0]])


def test_geometry_is_logarithmic_in_lengths_and_nan_where_unknown() -> None:
    table = pd.DataFrame({"ridge_period_nm": [1000.0], "window_fill": [0.3]})
    found = dict(zip(GEOMETRY, geometry_of(table)[0]))
    assert found["ridge_period_nm"] == pytest.approx(np.log(1000)) and found["window_fill"] == pytest.approx(0.3)
    assert np.isnan(found["lamina_nm"])


# --- estimates beside the model ---------------------------------------------------------------------------------------
def test_estimates_learn_what_can_be_learnt(forty: Samples) -> None:
    data = Images(Training())
    table = Samples.concat([data.batch("test", 0, k) for k in range(data.batches("test"))]).table
    truth = table[[TRUE + channel for channel in CHANNELS]].to_numpy()
    error = {
        name: score.mean_mae_pp(table[[f"{name}_{channel}" for channel in CHANNELS]].to_numpy(), truth)
        for name in (baselines.MEAN, baselines.RIDGE, baselines.TREES, baselines.ORACLE, baselines.LEAKY)
    }  # fmt: skip
    assert error[baselines.TREES] < 0.5 * error[baselines.MEAN] and error[baselines.RIDGE] < 0.5 * error[baselines.MEAN]
    assert error[baselines.ORACLE] < error[baselines.TREES], "the oracle sees the frequency itself"
    assert error[baselines.LEAKY] < error[baselines.TREES], "twins of test images tell their channels"


def test_a_kind_that_was_never_seen_is_harder(forty: Samples) -> None:
    data = Images(Training())
    table = Samples.concat([data.batch("test", 0, k) for k in range(data.batches("test"))]).table
    truth = table[[TRUE + channel for channel in CHANNELS]].to_numpy()
    new, trees = (table[[f"{name}_{c}" for c in CHANNELS]].to_numpy() for name in (baselines.NEW_KIND, baselines.TREES))
    assert score.mean_mae_pp(new, truth) > 2 * score.mean_mae_pp(trees, truth)


def test_real_images_have_no_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "load", lambda _most: gratings(20, geometry=False))
    columns = Images(Training()).batch("test", 0, 0).table.columns
    assert "trees_UV" in columns and "oracle_UV" not in columns


# --- score ------------------------------------------------------------------------------------------------------------
def values(n: int = 40, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).uniform(0, 1, (n, 10)), columns=list(CHANNELS))


FACTS: dict[str, Any] = {"stage": "channels", "nm_per_px": [20.0, 30.0]}


def test_an_offset_of_two_points_is_two_points() -> None:
    truth = values()
    found = score.score(truth + 0.02, truth, FACTS)
    assert found["mae_pp"] == found["rmse_pp"] == found["bias_pp"] == pytest.approx(2) == pytest.approx(found["mae_UV_pp"])
    assert score.score(truth * 0 + truth.mean(), truth, FACTS)["r2"] == pytest.approx(0, abs=1e-9)


def test_channels_that_were_not_measured_do_not_count() -> None:
    truth = values()
    truth["B"] = np.nan
    found = score.score(truth.fillna(0.0) + 0.01, truth, FACTS)
    assert found["mae_pp"] == pytest.approx(1) and "mae_B_pp" not in found


def with_intervals(truth: pd.DataFrame, half: float, rng: np.random.Generator) -> pd.DataFrame:
    middle = truth + 0.05 * rng.standard_normal(truth.shape)
    ends = {f"{c}{end}": middle[c] + sign * half for c in CHANNELS for end, sign in (("_lo", -1), ("_hi", 1))}
    return middle.assign(**ends)


def test_certificate_makes_intervals_honest() -> None:
    rng, truth = np.random.default_rng(1), values(400)
    narrow = with_intervals(truth, 0.04, rng)
    factor = score.certify(narrow, truth)["interval_factor"]
    assert factor == pytest.approx(0.05 * 0.9945 / 0.04, rel=0.05), "σ 0.05 holds 68 % within ± 0.9945 σ"
    assert score.certify(narrow.head(5), truth.head(5)) == {}


def test_decoded_intervals_stay_fractions_and_strange_images_are_told() -> None:
    outputs = {
        "channels": np.full((3, 10), 0.02), "half_width": np.full((3, 10), 0.05), "geometry": np.zeros((3, 14)),
        "distance": np.array([0.5, 3.0, 0.5]), "nearest": np.zeros((3, 3)),
    }  # fmt: skip
    table = pd.DataFrame({"file": list("abc"), "note": "", "specimen": "", "nm_per_px": [25.0, 25.0, 60.0]})
    samples = Samples({"image": np.zeros((3, 256, 256), np.uint8)}, table)
    found = score.decode(outputs, samples, FACTS, english)
    assert found["UV_lo"].tolist() == [0, 0, 0] and found["UV_hi"].tolist() == pytest.approx([0.07] * 3)
    assert found["in_domain"].tolist() == [True, False, False]
    assert "unlike" in found["note"][1] and "60 nm" in found["note"][2] and not found["note"][0]
    wider = score.decode(outputs, samples, FACTS | {"interval_factor": 2.0}, english)
    assert wider["UV_hi"].tolist() == pytest.approx([0.12] * 3)
