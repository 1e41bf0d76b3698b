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
NOTE = "note"  # what is remarkable about this sample's spectra; derived, never read from a file
TRUE_COLUMNS = ("true_severity", "true_defect_type")  # what only a simulation knows
INSPECTOR, ALGORITHM = "inspector", "algorithm"  # values of PROVENANCE
_DECLARED = "label"  # in `attrs` of `rows`: the column that its owner named as the label
MOST_LABELS = 50  # a column with more different values names samples or measures them


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


def declared(rows: pd.DataFrame, label: str) -> pd.DataFrame:
    """The rows with the name of the column that holds the label; "" for none. It stays with them through their copies."""
    rows.attrs = {**rows.attrs, _DECLARED: label}
    return rows


def label_of(rows: pd.DataFrame) -> str:
    """The column that was declared as the label, "" where there is none."""
    name = rows.attrs.get(_DECLARED, "")
    return name if name in rows else ""


def divides(rows: pd.DataFrame, column: str) -> bool:
    """Whether a column puts samples into classes: two or more values, few enough that most have several samples."""
    values = rows[column]
    count = values[values.notna() & (values.astype(str) != "")].nunique()
    return 2 <= count <= min(MOST_LABELS, len(rows) // 2)


def class_column(rows: pd.DataFrame) -> str:
    """SEVERITY where the rows have it, else the declared label where it puts samples into classes, else ""."""
    label = label_of(rows)
    return SEVERITY if SEVERITY in rows else label if label and divides(rows, label) else ""
