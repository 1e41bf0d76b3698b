"""Which peaks are the same: one-to-one matching within a tolerance, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

TOLERANCE_PX = 2.0
WANTED_SNR = 5.0  # spots at least this strong must be found; weaker ones may be


@dataclass(frozen=True)
class Agreement:
    """Two sets of peaks of one frame: indices (n, 2) of the common ones, and of those only in the first, only in the second."""

    common: np.ndarray
    only_a: np.ndarray
    only_b: np.ndarray

    @property
    def f1(self) -> float:
        """Common peaks over the mean number of peaks of the two sets; 1 where both are empty."""
        return f1_of(len(self.common), len(self.only_a), len(self.only_b))


@dataclass(frozen=True)
class Score:
    """How many peaks were found that had to be, how many were found that nothing explains, and how many were missed."""

    true_positives: int
    false_positives: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of true ones among what was found, 0 to 1; NaN where nothing was found."""
        return _share(self.true_positives, self.false_positives)

    @property
    def recall(self) -> float:
        """Share of what had to be found that was, 0 to 1; NaN where nothing had to be."""
        return _share(self.true_positives, self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1; 1 where there was nothing to find and nothing was found."""
        return f1_of(self.true_positives, self.false_positives, self.missed)

    def __add__(self, other: Score) -> Score:
        counts = ("true_positives", "false_positives", "missed")
        return Score(*(getattr(self, name) + getattr(other, name) for name in counts))


def f1_of(common: int, only_a: int, only_b: int) -> float:
    """2 c ÷ (2 c + a + b); 1 where all three are 0."""
    total = 2 * common + only_a + only_b
    return 2 * common / total if total else 1.0


def match(a_yx: np.ndarray, b_yx: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> np.ndarray:
    """Indices (n, 2) of pairs of `a_yx` (n_a, 2) and `b_yx` (n_b, 2) at most `tolerance_px` apart, each used once.

    As many pairs as there can be, and of those the ones with the smallest sum of distances. In the order of `a_yx`.
    """
    a, b = _points(a_yx), _points(b_yx)
    if len(a) == 0 or len(b) == 0:
        return np.empty((0, 2), int)
    near = KDTree(a).sparse_distance_matrix(KDTree(b), tolerance_px, output_type="ndarray")
    if len(near) == 0:
        return np.empty((0, 2), int)
    # Peaks that share no neighbour do not touch each other's choice: each small cluster is solved alone.
    size = len(a) + len(b)
    links = coo_array((np.ones(len(near)), (near["i"], near["j"] + len(a))), shape=(size, size))
    cluster = connected_components(links, directed=False)[1][near["i"]]
    order = np.argsort(cluster, kind="stable")
    parts = np.split(near[order], np.flatnonzero(np.diff(cluster[order])) + 1)
    pairs = np.concatenate([_assigned(part) for part in parts])
    return pairs[np.argsort(pairs[:, 0])]


def _assigned(near: np.ndarray) -> np.ndarray:
    """Pairs (n, 2) of one cluster, from its candidates with fields i, j and v, the distance."""
    if len(near) == 1:
        return np.array([[near["i"][0], near["j"][0]]])
    rows, row = np.unique(near["i"], return_inverse=True)
    columns, column = np.unique(near["j"], return_inverse=True)
    gain = np.zeros((len(rows), len(columns)))
    # Any one pair more outweighs all distances together.
    gain[row, column] = 1 + (near["v"].max() + 1) * len(rows) - near["v"]
    chosen = linear_sum_assignment(gain, maximize=True)
    taken = gain[chosen] > 0
    return np.stack([rows[chosen[0][taken]], columns[chosen[1][taken]]], axis=1)


def agreement(a_yx: np.ndarray, b_yx: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> Agreement:
    """What two sets of peaks (n, 2) of one frame have in common, as labels by hand and by a finder."""
    pairs = match(a_yx, b_yx, tolerance_px)
    rest_a = np.setdiff1d(np.arange(len(_points(a_yx))), pairs[:, 0])
    return Agreement(pairs, rest_a, np.setdiff1d(np.arange(len(_points(b_yx))), pairs[:, 1]))


def score(
    found_yx: np.ndarray, must_find_yx: np.ndarray, may_find_yx: np.ndarray | None = None, tolerance_px: float = TOLERANCE_PX
) -> Score:
    """How peaks found (n, 2) compare with those of one frame that have to be found, all (n, 2).

    A peak found near `may_find_yx` (a weaker reflection of the same crystal) is neither true nor false. What is near a peak that
    has to be found but was matched by another one is false, unless `may_find_yx` explains it.
    """
    found = _points(found_yx)
    pairs = match(found, must_find_yx, tolerance_px)
    rest = np.delete(found, pairs[:, 0], axis=0)
    missed = len(_points(must_find_yx)) - len(pairs)
    return Score(len(pairs), len(rest) - int(explained(rest, may_find_yx, tolerance_px).sum()), missed)


def explained(found_yx: np.ndarray, may_find_yx: np.ndarray | None, tolerance_px: float = TOLERANCE_PX) -> np.ndarray:
    """Which of the peaks (n, 2) are, as bool (n,), within the tolerance of a position where a peak may be."""
    found = _points(found_yx)
    allowed = _points(np.empty((0, 2)) if may_find_yx is None else may_find_yx)
    if len(found) == 0 or len(allowed) == 0:
        return np.zeros(len(found), bool)
    return np.asarray(KDTree(allowed).query(found)[0] <= tolerance_px)


def total(scores: Iterable[Score]) -> Score:
    """The counts of several frames together."""
    return sum(scores, Score(0, 0, 0))


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else float("nan")


def _points(yx: np.ndarray) -> np.ndarray:
    return np.asarray(yx, float).reshape(-1, 2)
