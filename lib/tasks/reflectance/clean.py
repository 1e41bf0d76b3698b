"""What each picture and its targets tell at a glance, and which of them the rules remove."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lib.task import Samples, unheard
from lib.tasks.reflectance import kept
from lib.tasks.reflectance.config import CHANNELS, TRUE
from lib.tasks.reflectance.copies import find_copies
from lib.tasks.reflectance.looks import look
from lib.tasks.reflectance.settings import Rules

TARGETS = [TRUE + channel for channel in CHANNELS]
TEXTS = ("image", "specimen", "kind", "split", "scale_from", "bar_from")
NUMBERS = ("nm_per_px", "source_nm_per_px", "info_bar_px", "scale_bar_px")
LOOKING = 0.9  # share of the work that is looking at each picture; the rest is comparing them
ROWS = ("repeats_row", "copy_of_row", "turned_of_row")  # numbers of rows from 0, NaN where there is none


def inspect(samples: Samples, report: Callable[[float, str], None] = unheard) -> pd.DataFrame:
    """Readings of each picture, one row each, `file` first.

    Of the file: scale, information and scale bar. Of the 256 × 256 px: grey values, sharpness, noise, main period, and which
    earlier row it repeats. Of the targets: how many are known, range, what is wrong. Numbers that nobody knows are NaN. `report`
    gets the share done and a text.
    """
    images = samples.inputs["image"]
    looked = kept.readings(images, lambda: _looked(images, report))
    table = samples.table
    first: dict[str, Any] = {"file": table["file"].to_numpy()}
    first |= {name: _texts(table, name) for name in TEXTS}
    first |= {name: _numbers(table, name) for name in NUMBERS}
    period_nm = looked["period_px"].to_numpy() * first["nm_per_px"]
    return pd.concat([pd.DataFrame(first), looked, pd.DataFrame({"period_nm": period_nm}), _of_targets(table)], axis=1)


def _looked(images: np.ndarray, report: Callable[[float, str], None]) -> pd.DataFrame:
    """What needs the pixels."""
    if not len(images):
        return pd.DataFrame(columns=[*_EMPTY, *ROWS, "copy_bits"], dtype=float)
    looks = look(images, lambda done: report(LOOKING * done / len(images), f"looking at {done} of {len(images)}"))
    report(LOOKING, "looking for copies")
    return pd.concat([looks.readings, find_copies(images, looks)], axis=1)


_EMPTY = ("mean_grey", "contrast_grey", "saturated_percent", "laplacian_variance", "noise_grey", "detail_px", "period_px")


def _texts(table: pd.DataFrame, name: str) -> np.ndarray:
    found = table[name].fillna("").astype(str) if name in table else pd.Series("", index=table.index)
    return (found if name != "image" or name in table else table["file"].astype(str)).to_numpy(object)


def _numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    return table[name].to_numpy(float) if name in table else np.full(len(table), np.nan)


def _of_targets(table: pd.DataFrame) -> pd.DataFrame:
    """How many targets are known, their range, and whether the table contradicts itself or the split leaks."""
    there = [name for name in TARGETS if name in table]
    values = table[there].to_numpy(float) if there else np.full((len(table), 1), np.nan)
    known = np.isfinite(values)
    any_known = known.any(axis=1)
    return pd.DataFrame(
        {
            "n_targets": known.sum(axis=1),
            "target_min": np.where(any_known, np.where(known, values, np.inf).min(axis=1), np.nan),
            "target_max": np.where(any_known, np.where(known, values, -np.inf).max(axis=1), np.nan),
            "contradicts": table["contradicts"].to_numpy(bool) if "contradicts" in table else np.zeros(len(table), bool),
            "leaks": leaks(_texts(table, "specimen"), _texts(table, "split")),
        }
    )


def leaks(specimens: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Which pictures (n,) are in the largest part of a split while their specimen is in another part too."""
    named = (specimens != "") & (splits != "")
    if not named.any():
        return np.zeros(len(specimens), bool)
    frame = pd.DataFrame({"specimen": specimens, "split": splits})[named]
    crossing = frame.groupby("specimen")["split"].transform("nunique") > 1
    found = np.zeros(len(specimens), bool)
    found[np.flatnonzero(named)] = crossing & (frame["split"] == frame["split"].value_counts().idxmax())
    return found


# --- rules ------------------------------------------------------------------------------------------------------------
def flag(readings: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """One boolean column per rule: True where it removes the picture."""
    r = readings
    nm = r["nm_per_px"].where(r["nm_per_px"] > 0)
    ratio = nm / nm.median()
    bits = r["copy_bits"]
    never = pd.Series(False, r.index)
    return pd.DataFrame(
        {
            "max_scale_ratio": (ratio > rules.max_scale_ratio) | (ratio < 1 / rules.max_scale_ratio),
            "drop_unknown_scale": nm.isna() if rules.drop_unknown_scale else never,
            "min_contrast_grey": r["contrast_grey"] < rules.min_contrast_grey,
            "max_saturated_percent": r["saturated_percent"] > rules.max_saturated_percent,
            "max_detail_px": r["detail_px"] > rules.max_detail_px,
            "min_laplacian": r["laplacian_variance"] < rules.min_laplacian,
            "drop_scale_bars": (r["scale_bar_px"] > 0) if rules.drop_scale_bars else never,
            "drop_copies": r["repeats_row"].notna() if rules.drop_copies else never,
            "max_copy_bits": r["repeats_row"].isna() & (bits <= rules.max_copy_bits),
            "drop_turned_copies": r["turned_of_row"].notna() if rules.drop_turned_copies else never,
            "drop_outside_targets": ((r["target_min"] < 0) | (r["target_max"] > 1)) if rules.drop_outside_targets else never,
            "drop_contradictions": r["contradicts"] if rules.drop_contradictions else never,
            "min_targets": r["n_targets"] < rules.min_targets,
            "drop_leaks": r["leaks"] if rules.drop_leaks else never,
        }
    ).astype(bool)


def copy_groups(readings: pd.DataFrame, rules: Rules) -> list[list[int]]:
    """Rows that are copies of each other under the rules, each group from its first row, the largest groups first."""
    parent = list(range(len(readings)))
    near = readings["copy_bits"] <= rules.max_copy_bits
    columns = [(readings["repeats_row"], readings["repeats_row"].notna()), (readings["copy_of_row"], near),
               (readings["turned_of_row"], readings["turned_of_row"].notna())]  # fmt: skip
    for earlier, chosen in columns:
        for row in np.flatnonzero(chosen).tolist():
            parent[_root(parent, row)] = _root(parent, int(earlier.iloc[row]))
    groups: dict[int, list[int]] = {}
    for row in range(len(readings)):
        groups.setdefault(_root(parent, row), []).append(row)
    return sorted((rows for rows in groups.values() if len(rows) > 1), key=len, reverse=True)


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row
