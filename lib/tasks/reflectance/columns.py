"""Columns of the samples' table that are learnt: the channels, and the geometry of simulated scales."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.tasks.reflectance.config import CHANNELS, HIDDEN, TRUE, VISIBLE

TARGETS = [TRUE + channel for channel in CHANNELS]
GEOMETRY = (*VISIBLE, *HIDDEN)


def geometry_of(table: pd.DataFrame) -> np.ndarray:
    """(n, 14) float32 of GEOMETRY, lengths as natural logarithms; NaN where the table does not tell."""
    columns = []
    for name in GEOMETRY:
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(float) if name in table else np.full(len(table), np.nan)
        columns.append(np.log(np.maximum(values, 1e-3)) if name.endswith("_nm") else values)
    return np.stack(columns, 1).astype(np.float32)
