"""A table of spectra: what every file format becomes and every step of this task works on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

FLUORESCENCE_NM = np.arange(295.0, 741.0)  # emission of the fluorimeter, 446 points
LSPR_NM = np.arange(450.0, 701.0)  # absorbance, 251 points
EXCITATIONS = ("277", "380", "425")  # nm; names of the fluorescence channels

# Columns of `rows` that have a meaning here; files bring any others along as tabular values.
SAMPLE, GROUP, INSTRUMENT, DATE = "sample", "group", "instrument", "measured_at"  # GROUP: the specimen (seal of a barrel)
SEVERITY, TYPE, PROVENANCE = "severity", "defect_type", "provenance"  # NC VR CROCHET OK; 0 1 2 4 5 6 11–14; who said so
SEVERITIES = ("NC", "VR", "CROCHET", "OK")
TYPES = (0, 1, 2, 4, 5, 6, 11, 12, 13, 14)
TRUE_COLUMNS = ("true_severity", "true_defect_type")  # what only a simulation knows
INSPECTOR, ALGORITHM = "inspector", "algorithm"  # values of PROVENANCE


@dataclass(frozen=True)
class Channel:
    """One kind of spectrum of n samples: `values` (n, P) float32 at the `axis` (P,) positions, increasing."""

    name: str
    axis: np.ndarray
    values: np.ndarray
    axis_unit: str = "nm"


@dataclass(frozen=True)
class SpectraTable:
    """N samples: channels in the user's order, and `rows` (n) with SAMPLE and what else is known of each."""

    channels: tuple[Channel, ...]
    rows: pd.DataFrame

    def __post_init__(self) -> None:
        wrong = {c.name: c.values.shape for c in self.channels if c.values.shape != (len(self.rows), len(c.axis))}
        if wrong:
            raise ValueError(f"channels {wrong} do not match {len(self.rows)} rows and their axes")

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> SpectraTable:
        """Some rows, by position or by boolean mask, in that order."""
        kept = self.rows.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows].reset_index(drop=True)
        return SpectraTable(tuple(replace(c, values=c.values[rows]) for c in self.channels), kept)

    def channel(self, name: str) -> Channel:
        """The channel of that name. Raises KeyError listing the ones there are."""
        for found in self.channels:
            if found.name == name:
                return found
        raise KeyError(f"no channel {name!r}; there are {', '.join(c.name for c in self.channels)}")
