"""What one frame tells at a glance, and which frames the rules remove."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lib.task import InputError, Samples
from lib.tasks.bragg import files
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.settings import Rules

FEWEST_FULL = 3  # good pixels at the same largest value, far above the rest, are full


def inspect(samples: Samples, saturation_adu: float | None, tell: Callable[[str], str] = str) -> pd.DataFrame:
    """Readings of each frame: `file, frame`, mean, noise and largest value of the good pixels, shares, and candidates.

    `tell` puts what is wrong with a frame into the reader's language.
    """
    return pd.DataFrame([_reading(samples, row, saturation_adu, tell) for row in range(len(samples))])


def _reading(samples: Samples, row: int, saturation_adu: float | None, tell: Callable[[str], str]) -> dict[str, Any]:
    record = samples.table.iloc[row]
    named: dict[str, Any] = {"file": str(record["file"]), "frame": int(record["frame"])}
    try:
        return named | read_frame(files.frame_at(samples, row), saturation_adu) | {"problem": ""}
    except InputError as error:
        return named | {"problem": tell(error.clause())}


def read_frame(frame: Frame, saturation_adu: float | None = None) -> dict[str, float]:
    """The readings of one frame; where it is not known which value is full, a plateau far above the mean is taken for it."""
    from lib.tasks.bragg import candidates

    good = frame.pixels[frame.mask & np.isfinite(frame.pixels)]
    if not good.size:
        return {"mean_adu": np.nan, "noise_adu": np.nan, "max_adu": np.nan, "saturated_percent": 0.0, "masked_percent": 100.0}
    seen = candidates.see(frame)
    largest = float(good.max())
    full = saturation_adu if saturation_adu is not None else largest
    plateau = (good >= full).sum() >= FEWEST_FULL and full > good.mean() + 50 * good.std()
    known = seen.white.sigma[seen.white.sigma > 0]
    return {
        "mean_adu": float(good.mean()),
        "noise_adu": float(np.median(known)) if known.size else np.nan,
        "max_adu": largest,
        "saturated_percent": 100.0 * float((good >= full).mean()) if plateau or saturation_adu is not None else 0.0,
        "masked_percent": 100.0 * float(1 - frame.mask.mean()),
        "n_candidates": len(seen.places()),
    }


def flag(readings: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """One boolean column per rule: True where it removes the frame."""
    mean = readings["mean_adu"] if "mean_adu" in readings else pd.Series(np.nan, readings.index)
    known = mean.notna()
    nothing = pd.Series(False, readings.index)
    count = readings.get("n_candidates", nothing).fillna(0)
    return pd.DataFrame(
        {
            "min_mean": known & (mean < rules.min_mean) if rules.min_mean is not None else nothing,
            "max_mean": known & (mean > rules.max_mean) if rules.max_mean is not None else nothing,
            "max_saturated_percent": readings.get("saturated_percent", nothing).fillna(0) > rules.max_saturated_percent,
            "max_masked_percent": readings.get("masked_percent", nothing).fillna(0) > rules.max_masked_percent,
            "min_candidates": count < rules.min_candidates,
            "drop_unreadable": (readings["problem"] != "") & rules.drop_unreadable,
        }
    ).astype(bool)
