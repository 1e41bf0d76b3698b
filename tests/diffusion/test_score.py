"""Figures of merit: a perfect prediction is perfect, and each error shows in its own figure."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lib.tasks.diffusion import score


def table(d: np.ndarray, sigma: float = 0.0) -> pd.DataFrame:
    """A decoded table with log-normal intervals of relative width `sigma`."""
    return pd.DataFrame({
        "d_px2_per_frame": d,
        "d_px2_per_frame_lo": d * np.exp(-sigma), "d_px2_per_frame_hi": d * np.exp(sigma),
        "d_px2_per_frame_lo95": d * np.exp(-1.96 * sigma), "d_px2_per_frame_hi95": d * np.exp(1.96 * sigma),
    })  # fmt: skip


TRUE = np.geomspace(0.01, 10, 4000)


def test_perfect_prediction_scores_perfectly() -> None:
    found = score.score(table(TRUE), table(TRUE))
    assert found == {
        "rms_log10_d": 0, "relative_rmse": 0, "relative_bias": 0, "coverage_68_percent": 100, "coverage_95_percent": 100,
    }  # fmt: skip


def test_bias_shows_as_bias() -> None:
    found = score.score(table(TRUE * 1.2), table(TRUE))
    assert found["relative_bias"] == pytest.approx(0.2)
    assert found["relative_rmse"] == pytest.approx(0.2)
    assert found["rms_log10_d"] == pytest.approx(math.log10(1.2))
    assert found["coverage_68_percent"] == 0


def test_honest_error_bars_cover_what_they_promise() -> None:
    d = TRUE * np.exp(np.random.default_rng(0).normal(0, 0.2, len(TRUE)))
    found = score.score(table(d, 0.2), table(TRUE))
    assert found["coverage_68_percent"] == pytest.approx(68.3, abs=2.5)
    assert found["coverage_95_percent"] == pytest.approx(95, abs=1.5)
    curve = score.coverage_curve(table(d, 0.2), table(TRUE))
    assert np.abs(curve["promised_percent"] - curve["measured_percent"]).max() < 3
    short = score.coverage_curve(table(d, 0.1), table(TRUE))
    assert (short["measured_percent"] < curve["measured_percent"])[1:-1].all()


def test_missing_and_zero_values_are_left_out() -> None:
    d, true = np.array([1.0, np.nan, 2.0, 3.0]), np.array([1.0, 5.0, 2.0, 0.0])
    assert score.score(table(d), table(true))["rms_log10_d"] == 0
    nothing = score.score(table(np.array([np.nan])), table(np.array([1.0])))
    assert all(math.isnan(value) for value in nothing.values())


def test_an_estimate_of_no_motion_counts_as_one_percent() -> None:
    assert score.rms_log10(np.array([0.0, -3.0]), np.array([1.0, 1.0])) == pytest.approx(2)


def test_a_bin_ends_where_its_clips_end() -> None:
    true = np.geomspace(0.003, 0.09, 50)
    found = score.by_decade(table(true), table(true), pd.DataFrame(index=range(50)))
    assert found["d_from"].tolist() == pytest.approx([0.003, 0.01], rel=0.1)
    assert found["d_to"].tolist() == pytest.approx([0.01, 0.09], rel=0.1)
    assert ((found["d_from"] < found["d"]) & (found["d"] < found["d_to"])).all()


def test_decades_stand_beside_classical_estimates_and_the_bound() -> None:
    samples = pd.DataFrame({"d_mle_px2_per_frame": TRUE * 1.5, "d_cve_px2_per_frame": TRUE * 0.5, "bound_relative_sd": 0.26})
    found = score.by_decade(table(TRUE * 1.1), table(TRUE), samples)
    first = found[np.isclose(found["d_from"], 0.01)].set_index("method")
    assert list(first.index) == ["model", "MLE", "CVE", "trajectory bound"]
    assert first.loc["model", "relative_bias"] == pytest.approx(0.1)
    assert first.loc["MLE", "relative_rmse"] == pytest.approx(0.5)
    assert first.loc["CVE", "relative_bias"] == pytest.approx(-0.5)
    assert first.loc["trajectory bound", "relative_rmse"] == pytest.approx(0.26)
    assert first["clips"].iloc[0] == ((TRUE >= 0.01) & (TRUE < 0.1)).sum()
