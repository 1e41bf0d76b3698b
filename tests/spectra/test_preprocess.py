from __future__ import annotations

import numpy as np
import pytest

from lib import splits
from lib.task import InputError
from lib.tasks.spectra import preprocess

AXIS = np.linspace(0, 1, 120)


def bands(n: int, seed: int = 0) -> np.ndarray:
    """(n, 120) positive spectra of three bands of varying height."""
    heights = np.random.default_rng(seed).uniform(0.5, 2, size=(n, 3))
    return heights @ np.stack([np.exp(-((AXIS - c) ** 2) / 0.005) for c in (0.25, 0.5, 0.8)]) + 0.1


def test_snv_rows_have_mean_0_and_standard_deviation_1() -> None:
    out = preprocess.recipe("snv").fit_transform(7 * bands(5) + 3)
    assert out.mean(axis=1) == pytest.approx(0, abs=1e-12)
    assert out.std(axis=1) == pytest.approx(1)


def test_msc_undoes_gain_and_offset() -> None:
    rng, shape = np.random.default_rng(1), bands(1)
    spectra = rng.uniform(0.5, 2, size=(6, 1)) * shape + rng.normal(size=(6, 1))
    out = preprocess.recipe("msc").fit_transform(spectra)
    assert out == pytest.approx(np.tile(spectra.mean(axis=0), (6, 1)))


def test_msc_measures_new_spectra_against_the_training_reference() -> None:
    train = bands(20)
    fitted = preprocess.recipe("msc").fit(train)
    assert fitted.transform(3 * train.mean(axis=0, keepdims=True) - 5)[0] == pytest.approx(train.mean(axis=0))


def test_baseline_removes_a_slope_and_keeps_the_bands() -> None:
    peak = np.exp(-((AXIS - 0.5) ** 2) / 0.002)
    out = preprocess.recipe("baseline").fit_transform((peak + 2 * AXIS + 5)[None])[0]
    assert np.abs(out - peak).max() < 0.1


def test_savitzky_golay_is_exact_on_a_parabola() -> None:
    points = np.arange(60.0)
    curve = (2 + 3 * points + 0.5 * points**2)[None]
    inner = slice(10, -10)
    assert preprocess.recipe("smooth").fit_transform(curve)[0, inner] == pytest.approx(curve[0, inner])
    assert preprocess.recipe("sg1").fit_transform(curve)[0, inner] == pytest.approx((3 + points)[inner])
    assert preprocess.recipe("sg2").fit_transform(curve)[0, inner] == pytest.approx(1)


def test_derivative_fits_its_window_to_short_spectra_or_says_that_it_cannot() -> None:
    assert preprocess.Derivative(window=11).fit_transform(np.arange(8.0)[None])[0, 3] == pytest.approx(1)
    with pytest.raises(InputError, match="derivative ≤ degree < window"):
        preprocess.Derivative(window=3, degree=3).fit(bands(2))


def test_range_maps_training_points_to_minus_1_and_1_and_is_not_fitted_on_others() -> None:
    train = bands(30)
    fitted = preprocess.recipe("range").fit(train)
    out = fitted.transform(train)
    assert out.min(axis=0) == pytest.approx(-1)
    assert out.max(axis=0) == pytest.approx(1)
    assert fitted.transform(train.max(axis=0, keepdims=True) + np.ptp(train, axis=0))[0] == pytest.approx(3)


@pytest.mark.parametrize("text", [*preprocess.STEPS, "sg1+snv", "baseline+msc"])
def test_every_step_is_deterministic_and_leaves_flat_spectra_finite(text: str) -> None:
    spectra = np.concatenate([bands(4), np.full((1, 120), 2.0), np.zeros((1, 120))]).astype(np.float32)
    out = preprocess.recipe(text).fit(spectra).transform(spectra)
    assert out.shape == spectra.shape
    assert np.isfinite(out).all()
    assert np.array_equal(out, preprocess.recipe(text).fit(spectra).transform(spectra))


def test_unknown_steps_are_refused_with_the_list() -> None:
    with pytest.raises(InputError, match=r"no step 'snw'.*snv, msc"):
        preprocess.recipe("snw+sg1")
    assert preprocess.recipe("raw") == "passthrough"


# --- between two instruments ------------------------------------------------------------------------------------------
def shifted(x: np.ndarray) -> np.ndarray:
    """The second instrument: another gain per point, an offset and a point of shift."""
    return np.roll(x, 1, axis=1) * np.linspace(0.8, 1.2, x.shape[1]) + 0.3


@pytest.mark.parametrize("method", ["ds", "pds"])
def test_standardisation_makes_the_second_instrument_the_first(method: preprocess.Method) -> None:
    shared, fresh = bands(30), bands(50, seed=1)
    transfer = preprocess.Transfer(method, components=3).fit(shared, shifted(shared))
    before, after = np.abs(shifted(fresh) - fresh).max(), np.abs(transfer.of_second(shifted(fresh)) - fresh).max()
    assert after < 0.02 * before
    assert np.array_equal(transfer.of_first(fresh), fresh)


def test_held_out_transfer_does_not_flatter_a_map_that_fits_noise() -> None:
    rng, shared = np.random.default_rng(2), bands(30)
    noisy = shifted(shared) + 0.05 * rng.normal(size=shared.shape)
    transfer = preprocess.Transfer("ds", components=20)
    parts = splits.folds(np.zeros(30), 5, rng)
    fitted = np.abs(transfer.fit(shared, noisy).of_second(noisy) - shared).mean()
    assert np.abs(transfer.held_out(shared, noisy, parts) - shared).mean() > 1.5 * fitted


def test_epo_removes_the_direction_in_which_the_instruments_differ() -> None:
    shared, fresh = bands(10), bands(50, seed=1)
    direction = np.sin(9 * AXIS) / np.linalg.norm(np.sin(9 * AXIS))
    transfer = preprocess.Transfer("epo", components=1).fit(shared, shared + 0.7 * direction)
    assert transfer.of_second(fresh + 5 * direction) == pytest.approx(transfer.of_first(fresh), abs=1e-9)
    assert np.ptp(transfer.of_first(fresh) @ direction) < 1e-9
    assert np.linalg.norm(transfer.of_first(fresh) - fresh, axis=1).max() < np.linalg.norm(fresh, axis=1).max()


@pytest.mark.parametrize(
    ("method", "first", "second", "words"),
    [
        ("ds", bands(4), bands(5), r"\(4, 120\) values on one instrument and \(5, 120\)"),
        ("pds", bands(2), bands(2), "2 shared samples cannot tell 2 components"),
        ("dss", bands(4), bands(4), "Methods: ds, pds, epo"),
    ],
)
def test_a_transfer_that_cannot_be_learnt_says_why(method, first: np.ndarray, second: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        preprocess.Transfer(method).fit(first, second)
