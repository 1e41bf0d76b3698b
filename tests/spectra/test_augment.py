"""Augmentation: each option reaches what it names and nothing else, and the original stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.task import InputError, Samples
from lib.tasks.spectra.augment import augment, check_zero_points, shifted, zeroed
from lib.tasks.spectra.settings import Training

POINTS = {"277": 60, "380": 60, "lspr": 40}
STILL: dict[str, Any] = {"augment": "da", "da_gain": 0, "da_shift": 0, "da_noise": 0}


def batch(n: int = 64, points: dict[str, int] = POINTS) -> Samples:
    rng = np.random.default_rng(3)
    peaks = {k: np.exp(-(((np.arange(p) - p / 2) / (p / 6)) ** 2)) for k, p in points.items()}
    inputs = {k: (rng.uniform(500, 900, (n, 1)) * peak).astype(np.float32) for k, peak in peaks.items()}
    return Samples(inputs, pd.DataFrame({"file": ["x"] * n, "code": 0}), {"classes": ["a"]})


def changed(seed: int = 0, samples: Samples | None = None, **options: Any) -> Samples:
    return augment(batch() if samples is None else samples, Training(**options), np.random.default_rng(seed))


def equal(one: Samples, other: Samples) -> bool:
    return list(one.inputs) == list(other.inputs) and all(np.array_equal(v, other.inputs[k]) for k, v in one.inputs.items())


@pytest.mark.parametrize("options", [{"augment": "none"}, STILL, STILL | {"augment": "da+simulate", "zero_points": (0, 0, 0)},
                                     {"augment": "simulate", "zero_points": ()}])  # fmt: skip
def test_all_zero_is_the_identity(options: dict[str, Any]) -> None:
    assert equal(changed(**options), batch())


@pytest.mark.parametrize("options", [{"augment": "da"}, {"augment": "simulate"}, {"augment": "da+simulate"}])
def test_the_original_is_untouched_and_the_table_the_same(options: dict[str, Any]) -> None:
    samples = batch()
    for values in samples.inputs.values():
        values.flags.writeable = False
    out = changed(samples=samples, **options)
    assert equal(samples, batch()) and not equal(out, samples)
    assert out.table is samples.table and out.common == samples.common
    assert all(v.dtype == np.float32 for v in out.inputs.values())


CHEMOTOOLS = ("scatter_shift", "baseline_shift", "gaussian_broadening", "add_noise")


@pytest.mark.parametrize("name", CHEMOTOOLS)
def test_chemotools_options_change_every_channel_and_nothing_else(name: str) -> None:
    samples = batch()
    for values in samples.inputs.values():
        values.flags.writeable = False
    out = changed(samples=samples, **{name: 0.3})
    assert all(np.abs(out.inputs[k] - v).max() > 0 and out.inputs[k].dtype == np.float32 for k, v in samples.inputs.items())
    assert equal(samples, batch()) and out.table is samples.table
    assert equal(out, changed(**{name: 0.3})) and not equal(out, changed(seed=1, **{name: 0.3}))


@pytest.mark.parametrize("name", CHEMOTOOLS)
def test_chemotools_options_are_relative_to_the_spectrum(name: str) -> None:
    """Counts and absorbances take the same setting: a unit a thousand times smaller gives numbers a thousand times larger."""
    small = batch()
    large = Samples({k: 1000 * v for k, v in small.inputs.items()}, small.table)
    one, other = (changed(samples=samples, **{name: 0.2}) for samples in (small, large))
    for channel, values in one.inputs.items():
        assert other.inputs[channel] == pytest.approx(1000 * values, rel=1e-3, abs=1)


def test_chemotools_options_are_of_the_asked_size() -> None:
    samples = batch(400)
    size = np.abs(samples.inputs["277"]).mean(axis=1, keepdims=True)
    off = {
        name: (changed(samples=samples, **{name: 0.1}).inputs["277"] - samples.inputs["277"]) / size
        for name in ("baseline_shift", "add_noise")
    }
    assert np.ptp(off["baseline_shift"], axis=1).max() < 1e-3, "a constant for each spectrum"
    assert off["baseline_shift"].min() >= 0 and 0.09 < off["baseline_shift"].max() < 0.101
    assert off["add_noise"].std() == pytest.approx(0.1, rel=0.05)


def test_broadening_keeps_the_light_and_lowers_the_peak() -> None:
    samples = batch()
    out = changed(samples=samples, gaussian_broadening=8)
    before, after = samples.inputs["277"], out.inputs["277"]
    assert (after.max(axis=1) <= before.max(axis=1) * 1.0001).all() and after.max(axis=1).mean() < 0.97 * before.max(
        axis=1
    ).mean()
    assert after.sum(axis=1) == pytest.approx(before.sum(axis=1), rel=0.02)


def test_a_spectrum_of_zeros_gives_numbers() -> None:
    dark = Samples({"277": np.zeros((3, 60), np.float32)}, pd.DataFrame({"file": ["x"] * 3}))
    found = changed(samples=dark, **dict.fromkeys(CHEMOTOOLS, 0.1)).inputs["277"]
    assert np.isfinite(found).all()


def test_gain_is_one_factor_per_sample_of_the_asked_spread() -> None:
    samples = batch(2000)
    out = changed(samples=samples, **STILL | {"da_gain": 0.2})
    ratio = np.concatenate([out.inputs[k][:, 10:-10] / v[:, 10:-10] for k, v in samples.inputs.items()], axis=1)
    assert np.ptp(ratio, axis=1).max() < 1e-5
    assert ratio[:, 0].mean() == pytest.approx(1, abs=0.02) and ratio[:, 0].std() == pytest.approx(0.2, rel=0.06)


def test_noise_is_relative_and_of_the_asked_spread() -> None:
    samples = batch(400)
    out = changed(samples=samples, **STILL | {"da_noise": 0.05})
    for name, values in samples.inputs.items():
        ratio = out.inputs[name] / values
        assert ratio.std() == pytest.approx(0.05, rel=0.03) and ratio.mean() == pytest.approx(1, abs=0.002)
        assert abs(np.corrcoef(ratio[:, 20], ratio[:, 21])[0, 1]) < 0.2


def test_shift_moves_each_channel_by_its_own_laplace_length() -> None:
    points = {"a": 401, "b": 401}
    ramp = np.tile(np.arange(401, dtype=np.float32), (3000, 1))
    samples = Samples(dict.fromkeys(points, ramp), pd.DataFrame({"file": ["x"] * 3000}))
    out = changed(samples=samples, **STILL | {"da_shift": 3})
    moved = {name: 200 - values[:, 200] for name, values in out.inputs.items()}
    for shift in moved.values():
        assert np.abs(shift).mean() == pytest.approx(3, rel=0.06)  # mean of |Laplace(0, b)| is b
        assert np.median(shift) == pytest.approx(0, abs=0.2)
    assert abs(np.corrcoef(*moved.values())[0, 1]) < 0.1


def test_one_option_set_to_zero_leaves_the_others_draws() -> None:
    both = changed(**STILL | {"da_gain": 0.2, "da_noise": 0.1})
    gain, noise = changed(**STILL | {"da_gain": 0.2}), changed(**STILL | {"da_noise": 0.1})
    for name, values in batch().inputs.items():
        np.testing.assert_allclose(both.inputs[name], gain.inputs[name] * noise.inputs[name] / values, rtol=2e-5)


def test_simulate_zeroes_the_start_of_each_channel_in_their_order() -> None:
    samples = batch()
    out = changed(samples=samples, augment="simulate", zero_points=(5, 0))
    zero = ~out.inputs["277"][:, :5].any(axis=1)
    assert 0 < zero.sum() < len(samples), "some samples are as the old instrument gives them, some as the new one"
    assert np.array_equal(out.inputs["277"][~zero], samples.inputs["277"][~zero])
    assert np.array_equal(out.inputs["277"][:, 5:], samples.inputs["277"][:, 5:])
    assert np.array_equal(out.inputs["380"], samples.inputs["380"]) and np.array_equal(out.inputs["lspr"], samples.inputs["lspr"])


def test_zeros_stay_zero_under_both_and_the_rest_is_as_under_da() -> None:
    out, da = changed(augment="da+simulate", zero_points=(7,)), changed(augment="da")
    zero = ~out.inputs["277"][:, :7].any(axis=1)
    assert 0 < zero.sum() < len(zero)
    assert np.array_equal(out.inputs["277"][:, 7:], da.inputs["277"][:, 7:])
    assert np.array_equal(out.inputs["277"][~zero], da.inputs["277"][~zero])


def test_same_seed_same_batch() -> None:
    assert equal(changed(4, augment="da"), changed(4, augment="da"))
    assert not equal(changed(4, augment="da"), changed(5, augment="da"))


@pytest.mark.parametrize(("wanted", "fits"), [((60,), False), ((0, 59, 39), True), ((1, 1, 1, 999), True)])
def test_zero_points_must_lie_within_their_channel(wanted: tuple[int, ...], fits: bool) -> None:
    config = Training(augment="simulate", zero_points=wanted)
    if fits:
        check_zero_points(config, POINTS)
    else:
        with pytest.raises(InputError, match="channel 277 cannot be zero: it has 60"):
            check_zero_points(config, POINTS)
    check_zero_points(Training(augment="da", zero_points=wanted), POINTS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=4), st.integers(1, 12))
def test_shifted_is_linear_interpolation_with_held_ends(shift: list[float], points: int) -> None:
    values = np.random.default_rng(points).normal(size=(len(shift), points)).astype(np.float32)
    place = np.arange(points)
    wanted = [np.interp(place - s, place, row) for s, row in zip(shift, values)]
    np.testing.assert_allclose(shifted(values, np.array(shift)), wanted, atol=1e-5)


def test_a_missing_point_does_not_spread_without_a_shift() -> None:
    samples = batch(4)
    samples.inputs["277"][0, 30] = np.nan
    out = changed(samples=samples, **STILL | {"da_gain": 0.1, "da_noise": 0.1})
    assert np.isnan(out.inputs["277"]).sum() == 1


def test_no_rows_and_no_points() -> None:
    empty = batch().take([])
    assert len(changed(samples=empty, augment="da+simulate", zero_points=(1, 1, 1))) == 0
    assert shifted(np.zeros((2, 0)), np.zeros(2)).shape == (2, 0) and zeroed(np.zeros((2, 0)), 3, np.ones(2, bool)).shape == (
        2,
        0,
    )
