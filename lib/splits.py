"""Rows into folds and parts: seeded, stratified by class, never two rows of one group on both sides.

A group is what must stay together: a specimen, an instrument, a day. A row without one (missing or empty) is its own group.
Row numbers are positions; classes and groups are arrays of one value per row. What may spoil an evaluation is told in sentences
by `warnings_of`, `leaks` and `absent`; only a split that cannot be made raises ValueError, with a sentence too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_random_state

from lib.words import Phrase, as_phrase

Values = Sequence[Any] | np.ndarray | pd.Series
FINEST = 10  # folds that a part of a wanted share is put together from
NAMED = 5  # classes or groups a sentence names before it counts the rest


@dataclass(frozen=True)
class Parts:
    """Increasing row numbers of the four parts; together every row once."""

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray

    def items(self) -> tuple[tuple[str, np.ndarray], ...]:
        """(name, rows) of each part, in the order they are used."""
        return tuple((name, getattr(self, name)) for name in ("train", "validation", "calibration", "test"))


# --- groups -----------------------------------------------------------------------------------------------------------
def numbered(values: Values) -> np.ndarray:
    """(n,) integers from 0, equal where the values are equal; a missing or empty value is equal to no other."""
    series = pd.Series(np.asarray(values, dtype=object))
    codes, known = pd.factorize(series.where(series.notna() & (series.astype(str) != ""), None))
    alone = codes < 0
    codes[alone] = len(known) + np.arange(alone.sum())
    return np.asarray(codes, dtype=np.intp)


def joined(*columns: Values) -> np.ndarray:
    """(n,) group numbers that keep together all rows that share a value in any of the columns, directly or in a chain."""
    if not columns:
        raise ValueError(Phrase("Name at least one column to group by"))
    codes = [numbered(column) for column in columns]
    rows = len(codes[0])
    starts = np.cumsum([rows, *(code.max(initial=-1) + 1 for code in codes)])
    nodes = np.concatenate([code + start for code, start in zip(codes, starts)])  # rows first, then each column's values
    ends = (np.tile(np.arange(rows), len(codes)), nodes)
    links = coo_array((np.ones(len(nodes), dtype=bool), ends), shape=(starts[-1], starts[-1]))
    return np.asarray(connected_components(links, directed=False)[1][:rows], dtype=np.intp)


# --- splits -----------------------------------------------------------------------------------------------------------
def folds(
    classes: Values, count: int, rng: np.random.Generator, groups: Values | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` pairs of (other rows, rows of this fold), increasing; every row is in one fold, class shares alike in all.

    Raises ValueError where there are fewer than two folds, or fewer groups (rows, without groups) than folds. A class in fewer
    groups than folds is missing from some folds: `warnings_of` says so.
    """
    code = numbered(classes)
    together = np.arange(len(code)) if groups is None else numbered(groups)
    if len(together) != len(code):
        raise ValueError(
            Phrase("There are {n} classes but {groups} groups; give one of each per row", n=len(code), groups=len(together))
        )
    available = len(np.unique(together))
    if not 2 <= count <= available:
        kind = Phrase("rows" if groups is None else "groups")
        raise ValueError(
            Phrase(
                "{count} folds cannot be made from {available} {kind}; choose from 2 to {most}",
                count=count,
                available=available,
                kind=kind,
                most=max(available, 2),
            )
        )
    if np.bincount(code).max() < count:  # scikit-learn refuses to stratify what no class allows
        return _plain_folds(together, count, rng)
    seed = int(rng.integers(2**31))
    if groups is not None:
        fold = _stratified_groups(code, together, count, seed)
        return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # `warnings_of` names the class
        found = StratifiedKFold(count, shuffle=True, random_state=seed).split(code, code)
        return [(np.sort(others), np.sort(held)) for others, held in found]


def _stratified_groups(code: np.ndarray, together: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold of each row (n,): that of scikit-learn's `StratifiedGroupKFold`, number for number, many times as fast.

    Groups, the most one-sided first, each go to the fold where the spread of class shares over the folds then is smallest.
    """
    group = np.unique(together, return_inverse=True)[1]
    held = np.zeros((group.max() + 1, code.max() + 1))
    np.add.at(held, (group, code), 1)
    shuffled = check_random_state(seed).permutation(len(held))
    order = shuffled[np.argsort(-np.std(held[shuffled], axis=1), kind="stable")]
    totals, one = held.sum(axis=0), np.eye(count)[:, :, None]
    filled, fold = np.zeros((count, held.shape[1])), np.empty(len(held), dtype=np.intp)
    for number in order:
        shares = (filled + one * held[number]) / totals  # (folds it may go to, folds, classes)
        off = shares - np.add.reduce(shares, axis=1, keepdims=True) / count
        spread = np.add.reduce(np.sqrt(np.add.reduce(off * off, axis=1) / count), axis=1) / len(totals)
        fold[number] = best = _first_best(spread.tolist(), np.add.reduce(filled, axis=1).tolist())
        filled[best] += held[number]
    return np.asarray(fold[group])


def _first_best(spread: Sequence[float], rows: Sequence[float]) -> int:
    """The place of the smallest spread; among nearly equal ones that of the fewest rows."""
    best = 0
    for k in range(1, len(spread)):
        least = spread[best]
        if spread[k] < least or (abs(spread[k] - least) <= 1e-8 + 1e-5 * abs(least) and rows[k] < rows[best]):
            best = k
    return best


def _plain_folds(together: np.ndarray, count: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Groups dealt to folds in random order, where classes are too small to stratify."""
    names, group = np.unique(together, return_inverse=True)
    fold = (rng.permutation(len(names)) % count)[group]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]


def four_way(
    classes: Values,
    rng: np.random.Generator,
    groups: Values | None = None,
    n_splits: int = 5,
    current_split: int = 0,
    validation: float = 0.15,
    calibration: float = 0.15,
) -> Parts:
    """Test rows are fold `current_split` of `n_splits`; the rest is shared among validation, calibration and training.

    With a Generator of the same seed the test parts of all `current_split` are disjoint and cover every row. `validation` and
    `calibration` are shares of all rows, met as closely as whole groups allow; 0 leaves a part empty. Raises ValueError where
    a share or number is out of range, or there are too few groups.
    """
    if not 0 <= current_split < n_splits:
        raise ValueError(
            Phrase(
                "Fold {current_split} does not exist; there are folds 0 to {last}",
                current_split=current_split,
                last=n_splits - 1,
            )
        )
    if min(validation, calibration) < 0 or validation + calibration >= 1 - 1 / n_splits:
        raise ValueError(Phrase("The shares of validation and calibration must leave rows to train on"))
    code = numbered(classes)
    together = np.arange(len(code)) if groups is None else numbered(groups)
    rest, test = folds(code, n_splits, rng, None if groups is None else together)[current_split]
    parts = []
    for share in (validation, calibration):
        rest, part = _set_apart(rest, code, None if groups is None else together, share * len(code), rng)
        parts.append(part)
    return Parts(rest, parts[0], parts[1], test)


def _set_apart(
    rows: np.ndarray, code: np.ndarray, together: np.ndarray | None, wanted: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(the others, about `wanted` of these rows)."""
    if wanted == 0:
        return rows, rows[:0]
    groups = None if together is None else together[rows]
    available = len(rows) if groups is None else len(np.unique(groups))
    finest = min(FINEST, available)
    share = Fraction(wanted / len(rows)).limit_denominator(finest)
    share = min(max(share, Fraction(1, finest)), Fraction(max(finest - 1, 1), finest))  # neither side empty
    chosen = folds(code[rows], share.denominator, rng, groups)[: share.numerator]
    part = np.sort(np.concatenate([held for _, held in chosen]))
    return np.delete(rows, part), rows[part]


# --- what may spoil an evaluation -------------------------------------------------------------------------------------
def warnings_of(classes: Values, groups: Values | None = None, n_splits: int = 5, group_word: str = "group") -> list[str]:
    """Sentences on classes that this many folds cannot test, and on classes that live in one group only."""
    table = pd.DataFrame({"label": np.asarray(classes, dtype=object)})
    table["group"] = np.arange(len(table)) if groups is None else numbered(groups)
    per_class = table.groupby("label", sort=True)["group"].agg(["nunique", "size"])
    word = as_phrase("row" if groups is None else group_word)
    found: list[str] = []
    if len(per_class) < 2:
        found.append(Phrase("There is one class only: nothing can be learnt from these rows."))
    alone = per_class[(per_class["nunique"] == 1) & (per_class["size"] > 1)] if groups is not None else per_class[:0]
    for label, count in alone["size"].items():
        found.append(
            Phrase(
                "Class {label} and {word} are confounded: all its {count} rows come from one {word}, so a model may learn the "
                "{word} instead of the class, and a fold that tests it has none to train on.",
                label=label,
                word=word,
                count=count,
            )
        )
    small = per_class[(per_class["nunique"] < n_splits) & ~per_class.index.isin(alone.index)]
    for label, count in small["nunique"].items():
        found.append(
            Phrase(
                "Class {label} has {count} {units}, too few for {n_splits} folds: "
                "{short} of them cannot test it. Merge it, drop it or use fewer folds.",
                label=label,
                count=count,
                units=word if count == 1 else as_phrase(f"{word}s"),
                n_splits=n_splits,
                short=n_splits - count,
            )
        )
    return found


def leaks(specimens: Values, groups: Values | None = None) -> list[str]:
    """A sentence where replicates of one specimen may fall on both sides of a split that keeps `groups` together."""
    specimen = numbered(specimens)
    together = np.arange(len(specimen)) if groups is None else numbered(groups)
    table = pd.DataFrame({"specimen": specimen, "group": together, "name": np.asarray(specimens, dtype=object)})
    spread = table.groupby("specimen")["group"].transform("nunique") > 1
    if not spread.any():
        return []
    names = list(dict.fromkeys(table.loc[spread, "name"].astype(str)))
    return [
        Phrase(
            "{names}: {n} rows are replicates of {count} {units} that this split may put on both sides, so test rows would have "
            "copies in training. Group by specimen.",
            names=_listed(names),
            n=int(spread.sum()),
            count=len(names),
            units=as_phrase("specimens" if len(names) > 1 else "specimen"),
        )
    ]


def absent(classes: Values, parts: Parts) -> list[str]:
    """Sentences on classes that a part which is not empty has no row of."""
    label = np.asarray(classes, dtype=object).astype(str)
    found: list[str] = []
    for name, rows in parts.items():
        missing = sorted(set(label) - set(label[rows]))
        if len(rows) and missing:
            found.append(Phrase("The {name} part has no row of class {classes}.", name=as_phrase(name), classes=_listed(missing)))
    return found


def _listed(names: Sequence[str]) -> str:
    """The first few names, then how many more."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
