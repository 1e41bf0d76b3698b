"""How good predicted diffusion coefficients are: error, bias and whether the error bars are honest."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import erfinv

D = "d_px2_per_frame"
CLASSICAL = {"MLE": "d_mle_px2_per_frame", "CVE": "d_cve_px2_per_frame", "MSD fit": "d_msd_px2_per_frame"}
SMALLEST = 1e-2  # an estimate below this share of the true D counts as this share: CVE and MLE can be zero or negative


def score(predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Figures of merit over all rows with a prediction and a true D above 0; NaN where there is none.

    rms_log10_d: root mean square of log10(predicted / true), no unit (0.1 is about 26 %). relative_rmse and relative_bias:
    of predicted / true - 1. coverage_68_percent, coverage_95_percent: share of true values inside the interval, in percent.
    """
    d, true = predicted[D].to_numpy(float), truth[D].to_numpy(float)
    use = np.isfinite(d) & np.isfinite(true) & (true > 0)
    if not use.any():
        return dict.fromkeys(
            ("rms_log10_d", "relative_rmse", "relative_bias", "coverage_68_percent", "coverage_95_percent"), float("nan")
        )
    relative = d[use] / true[use] - 1
    return {
        "rms_log10_d": rms_log10(d[use], true[use]),
        "relative_rmse": float(np.sqrt(np.mean(relative**2))),
        "relative_bias": float(np.mean(relative)),
        "coverage_68_percent": coverage_percent(predicted[use], true[use], ""),
        "coverage_95_percent": coverage_percent(predicted[use], true[use], "95"),
    }


def rms_log10(estimate: np.ndarray, true: np.ndarray) -> float:
    """Root mean square of log10(estimate / true); estimates below 1 % of the truth count as 1 %."""
    return float(np.sqrt(np.mean(np.log10(np.maximum(estimate / true, SMALLEST)) ** 2)))


def coverage_percent(predicted: pd.DataFrame, true: np.ndarray, level: str) -> float:
    """Percent of true values inside [lo, hi], both ends included; `level` is "" for 68 % and "95" for 95 %."""
    lo, hi = predicted[f"{D}_lo{level}"].to_numpy(float), predicted[f"{D}_hi{level}"].to_numpy(float)
    slack = 1e-9 * np.abs(true)
    return float(100 * np.mean((true >= lo - slack) & (true <= hi + slack)))


def by_decade(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, bins_per_decade: int = 1) -> pd.DataFrame:
    """Errors of the model and of the classical estimates in bins of true D, one row per bin and method.

    Columns: d_from, d_to (px²/frame; of a bin that is not full, as far as clips reach), d (median), clips, method,
    relative_rmse, relative_bias, rms_log10_d, median_error (of |estimate / true - 1|, which no outlier can move). The method
    "trajectory bound" has only relative_rmse: the least any unbiased estimate from centroids can have, at the true conditions
    (median of `bound_relative_sd`). Classical estimates are taken from `samples` where it has them.
    """
    true = truth[D].to_numpy(float)
    known = np.isfinite(true) & (true > 0) & np.isfinite(predicted[D].to_numpy(float))
    if not known.any():
        return pd.DataFrame(
            columns=["d_from", "d_to", "d", "clips", "method", "relative_rmse", "relative_bias", "rms_log10_d", "median_error"]
        )
    estimates = {"model": predicted[D].to_numpy(float)}
    estimates |= {name: samples[column].to_numpy(float) for name, column in CLASSICAL.items() if column in samples}
    step = 1 / bins_per_decade
    number = np.where(known, np.floor(np.log10(np.where(known, true, 1.0)) / step + 1e-9), np.nan)
    rows = []
    for which in np.unique(number[known]):
        inside = number == which
        there = true[inside]
        ends = max(10 ** (which * step), there.min()), min(10 ** ((which + 1) * step), there.max())
        place = {"d_from": ends[0], "d_to": ends[1], "d": float(np.median(there))}
        for method, values in estimates.items():
            use = inside & np.isfinite(values)
            if use.any():
                rows.append(place | {"clips": int(use.sum()), "method": method} | _errors(values[use], true[use]))
        if "bound_relative_sd" in samples:
            bound = float(np.nanmedian(samples["bound_relative_sd"].to_numpy(float)[inside]))
            rows.append(place | {"clips": int(inside.sum()), "method": "trajectory bound", "relative_rmse": bound})
    return pd.DataFrame(rows)


def _errors(values: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Relative RMSE and bias, rms log10, median error."""
    relative = values / true - 1
    return {
        "relative_rmse": float(np.sqrt(np.mean(relative**2))),
        "relative_bias": float(np.mean(relative)),
        "rms_log10_d": rms_log10(values, true),
        "median_error": float(np.median(np.abs(relative))),
    }


def coverage_curve(predicted: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Measured against promised coverage, in percent, at levels from 5 to 99.

    The intervals are log-normal between their 68 % ends, so each level's end is the 68 % end stretched; one row per level.
    """
    d, true = predicted[D].to_numpy(float), truth[D].to_numpy(float)
    use = np.isfinite(d) & np.isfinite(true) & (true > 0) & (d > 0)
    lo, hi = (np.log(predicted[f"{D}_{end}"].to_numpy(float)[use]) for end in ("lo", "hi"))
    middle, off = np.log(d[use]), np.log(true[use]) - np.log(d[use])
    half = np.maximum(np.where(off < 0, middle - lo, hi - middle), 1e-12)
    levels = np.array([5, 10, 20, 30, 40, 50, 60, 68.27, 80, 90, 95, 99])
    share = np.abs(off) / half  # in standard deviations
    return pd.DataFrame(
        {"promised_percent": levels, "measured_percent": [100 * float(np.mean(share <= _deviations(p))) for p in levels]}
    )


def _deviations(percent: float) -> float:
    """Half width, in standard deviations, of the central interval of a normal distribution."""
    return float(np.sqrt(2) * erfinv(percent / 100))
