"""Samples: arrays for a network and a table of what is known of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.words import from_plain, plain

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Samples:
    """n samples: `inputs` arrays of shape (n, …) and a `table` of n rows.

    The table has `file` (display name of the origin), `note` (what was done to make the file fit, may be empty), and
    whatever the task knows of each sample: true values (simulated or labelled), settings, group, date.
    """

    inputs: Arrays
    table: pd.DataFrame
    common: Mapping[str, Any] = field(default_factory=dict)  # plain JSON values that all samples share, as the axis of a spectrum
    remarks: tuple[tuple[str, str], ...] = ()  # (file, what was done to make the whole of it fit)

    def __post_init__(self) -> None:
        wrong = {key: len(value) for key, value in self.inputs.items() if len(value) != len(self.table)}
        if wrong:
            raise ValueError(f"inputs {wrong} do not match {len(self.table)} table rows")

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: Sequence[int] | np.ndarray) -> Samples:
        """The given rows, in that order."""
        index = np.asarray(rows) if len(rows) else np.empty(0, np.intp)  # an empty list would be an array of floats
        inputs = {k: v[index] for k, v in self.inputs.items()}
        return replace(self, inputs=inputs, table=self.table.iloc[index].reset_index(drop=True))

    def with_columns(self, **columns: Any) -> Samples:
        """A copy whose table has these columns set."""
        return replace(self, table=self.table.assign(**columns))

    def save(self, folder: Path) -> None:
        """Write one .npy per input, `table.parquet`, `common.json` and `remarks.json` into an existing folder."""
        (folder / "common.json").write_text(json.dumps(dict(self.common)), encoding="utf-8")
        remarks = [[file, plain(remark)] for file, remark in self.remarks]
        (folder / "remarks.json").write_text(json.dumps(remarks), encoding="utf-8")
        for key, value in self.inputs.items():
            np.save(folder / f"input-{key}.npy", value, allow_pickle=False)
        self.table.to_parquet(folder / "table.parquet")

    @staticmethod
    def load(folder: Path) -> Samples:
        """Samples written by `save`, arrays memory-mapped."""
        files = sorted(folder.glob("input-*.npy"))
        inputs = {f.stem.removeprefix("input-"): np.load(f, mmap_mode="r", allow_pickle=False) for f in files}
        common = json.loads((folder / "common.json").read_text(encoding="utf-8"))
        remarks = json.loads((folder / "remarks.json").read_text(encoding="utf-8"))
        told = tuple((str(file), from_plain(remark)) for file, remark in remarks)
        return Samples(inputs, pd.read_parquet(folder / "table.parquet"), common, told)

    @staticmethod
    def concat(parts: Sequence[Samples]) -> Samples:
        """All parts one after another. Raises ValueError on an empty list, or where they have not the same in common."""
        if not parts:
            raise ValueError("nothing to concatenate")
        if any(part.common != parts[0].common for part in parts):
            raise ValueError("samples that differ in what each set has in common cannot be one set")
        inputs = {key: np.concatenate([p.inputs[key] for p in parts]) for key in parts[0].inputs}
        remarks = tuple(remark for part in parts for remark in part.remarks)
        return Samples(inputs, pd.concat([p.table for p in parts], ignore_index=True), parts[0].common, remarks)
