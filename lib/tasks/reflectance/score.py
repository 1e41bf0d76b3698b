"""How good predicted channels are, in percentage points (pp), and whether their intervals are honest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.task import Arrays, Samples
from lib.tasks.reflectance.columns import GEOMETRY, TARGETS
from lib.tasks.reflectance.config import CHANNELS

COVERAGE = 0.68
FEWEST_TO_CERTIFY = 10
FACTORS = (0.7, 1.5)  # by how much the certificate may change the intervals
INTERVALS = tuple(f"{channel}{end}" for channel in CHANNELS for end in ("_lo", "_hi"))


def decode(outputs: Arrays, samples: Samples, facts: Mapping[str, Any], say: Callable[..., str]) -> pd.DataFrame:
    """Channels with 68 % intervals, whether the image is like the training images, and a note where it is not.

    In stage geometry the visible and hidden parameters instead. Further columns: `image` where the file is not the picture,
    `specimen`, `nearest` (list of places in facts["references"]).
    """
    table = samples.table
    found: dict[str, Any] = {"image": (table["image"] if "image" in table else table["file"]).to_numpy()}
    found["specimen"] = table["specimen"].to_numpy() if "specimen" in table else [""] * len(table)
    if facts.get("stage") == "geometry":
        for k, name in enumerate(GEOMETRY):
            values = outputs["geometry"][:, k].astype(float)
            found[name] = np.exp(values) if name.endswith("_nm") else values
    else:
        factor = float(facts.get("interval_factor", 1.0))
        for k, channel in enumerate(CHANNELS):
            value, half = outputs["channels"][:, k].astype(float), factor * outputs["half_width"][:, k].astype(float)
            found[channel] = value
            found[f"{channel}_lo"], found[f"{channel}_hi"] = np.clip(value - half, 0, 1), np.clip(value + half, 0, 1)
        found["nearest"] = [places.astype(np.int64) for places in outputs["nearest"]]
    alike, notes = _domain(outputs["distance"], table["nm_per_px"].to_numpy(float), facts, say)
    return pd.DataFrame(found | {"in_domain": alike, "note": notes})


def _domain(
    distance: np.ndarray, nm_per_px: np.ndarray, facts: Mapping[str, Any], say: Callable[..., str]
) -> tuple[np.ndarray, list[str]]:
    """Whether each image is like the training images in texture and pixel size (n,), and why not."""
    low, high = facts["nm_per_px"]
    far, known = distance > 1, np.isfinite(nm_per_px)
    scaled = known & ((nm_per_px < low) | (nm_per_px > high))
    notes = []
    for place in range(len(distance)):
        why = []
        if far[place]:
            why.append(say("unlike every training image ({ratio:.1f} × their distance)", ratio=float(distance[place])))
        if scaled[place]:
            why.append(say("{size:.3g} nm per px, training images have {low:.3g} to {high:.3g}", size=float(nm_per_px[place]),
                           low=low, high=high))  # fmt: skip
        if not known[place]:
            why.append(say("pixel size unknown: taken as the training images'"))
        notes.append("; ".join(why))
    return ~far & ~scaled, notes


def truth(samples: Samples, facts: Mapping[str, Any]) -> pd.DataFrame:
    """The true channels as a perfect model would give them; in stage geometry the parameters."""
    if facts.get("stage") == "geometry":
        table = samples.table
        return pd.DataFrame({name: pd.to_numeric(table[name]).to_numpy(float) for name in GEOMETRY})
    return pd.DataFrame(samples.table[TARGETS].to_numpy(float), columns=list(CHANNELS))


def score(predicted: pd.DataFrame, true: pd.DataFrame, facts: Mapping[str, Any]) -> dict[str, float]:
    """Mean over channels of MAE, RMSE, bias (pp) and R², MAE of each channel, and how often intervals hold the truth (%).

    A channel that was not measured is left out, NaN where none was. In stage geometry, mae_pp is in percent of the 5 to 95 %
    range of each parameter over training images.
    """
    if facts.get("stage") == "geometry":
        return _geometry_score(predicted, true, facts["spans"])
    table = per_channel(predicted, true)
    means = table.mean(numeric_only=True)
    found = {name: float(means[name]) for name in ("mae_pp", "rmse_pp", "r2", "bias_pp") if name in means}
    if "coverage_percent" in means:
        found["coverage_percent"] = float(means["coverage_percent"])
    return found | {f"mae_{channel}_pp": float(table.loc[channel, "mae_pp"]) for channel in table.index}


def _geometry_score(predicted: pd.DataFrame, true: pd.DataFrame, spans: Mapping[str, float]) -> dict[str, float]:
    errors = {
        name: 100 * float(np.nanmean(np.abs(predicted[name] - true[name]))) / spans[name]
        for name in GEOMETRY if name in spans and np.isfinite(true[name]).any()
    }  # fmt: skip
    mean = float(np.mean(list(errors.values()))) if errors else float("nan")
    return {"mae_pp": mean} | {f"mae_{name}_pp": value for name, value in errors.items()}


def per_channel(predicted: pd.DataFrame, true: pd.DataFrame) -> pd.DataFrame:
    """One row per channel that was measured: mae_pp, rmse_pp, bias_pp, r2 and, with intervals, coverage_percent, width_pp."""
    rows = {}
    for channel in CHANNELS:
        known = np.isfinite(true[channel].to_numpy(float))
        if not known.any():
            continue
        y, found = true[channel].to_numpy(float)[known], predicted[channel].to_numpy(float)[known]
        off, spread = found - y, float(np.square(y - y.mean()).sum())
        rows[channel] = {
            "mae_pp": 100 * float(np.abs(off).mean()), "rmse_pp": 100 * float(np.sqrt(np.square(off).mean())),
            "bias_pp": 100 * float(off.mean()), "r2": 1 - float(np.square(off).sum()) / spread if spread > 0 else float("nan"),
        }  # fmt: skip
        if f"{channel}_lo" in predicted:
            low, high = (predicted[f"{channel}{end}"].to_numpy(float)[known] for end in ("_lo", "_hi"))
            rows[channel] |= {"coverage_percent": 100 * float(((y >= low) & (y <= high)).mean()),
                              "width_pp": 100 * float((high - low).mean())}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def mean_mae_pp(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean over channels of the mean absolute error of fractions (n, 10), in percentage points; NaN where nothing is known."""
    error = np.abs(predicted - true)
    known = np.isfinite(error)
    if not known.any():
        return float("nan")
    per = [float(error[known[:, k], k].mean()) for k in range(error.shape[1]) if known[:, k].any()]
    return 100 * float(np.mean(per))


def certify(predicted: pd.DataFrame, true: pd.DataFrame) -> dict[str, Any]:
    """One factor on all intervals, from calibration images that chose nothing: validation ones have chosen the epoch.

    It is the 68 % quantile of |error| over half-width, over all channels, drawn towards 1 where there are few images, and within
    FACTORS. Empty where there are too few.
    """
    ratios = []
    for channel in CHANNELS:
        value, y = predicted[channel].to_numpy(float), true[channel].to_numpy(float)
        low, high = (predicted[f"{channel}{end}"].to_numpy(float) for end in ("_lo", "_hi"))
        side = np.where(y > value, high - value, value - low)  # an end at 0 or 1 may be nearer than the other
        ratio = np.abs(y - value) / np.maximum(side, 1e-6)
        ratios.append(ratio[np.isfinite(ratio)])
    every = np.concatenate(ratios)
    if len(predicted) < FEWEST_TO_CERTIFY or not len(every):
        return {}
    return {"interval_factor": float(np.clip(np.quantile(every, COVERAGE), *FACTORS))}
