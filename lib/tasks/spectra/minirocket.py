"""MiniRocket: 9996 features of a curve from 84 fixed kernels. Dempster, Schmidt & Webb 2021 (KDD), written from the paper.

A kernel has nine weights, three of them 2 and six −1. It slides over the curve at several dilations; a feature is the share of
positions where the result exceeds a bias. Biases are quantiles of results on training curves: the only thing fitted, and the
only chance (which curves), so labels are never seen and one seed gives one transform.
"""

from __future__ import annotations

from itertools import combinations
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

TAPS = 9
KERNELS = np.array(list(combinations(range(TAPS), 3)))  # (84, 3): where the weight is 2
MOST_DILATIONS = 32
GOLDEN = (np.sqrt(5) + 1) / 2
ROWS_AT_ONCE = 128  # so that a kernel's results stay in cache; a multiple of 8


def dilations(points: int, per_kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """(dilations, biases per kernel at each): exponents evenly from 0 to log2((points − 1) / 8). Section 3.1.4."""
    steps = min(per_kernel, MOST_DILATIONS)
    exponents = np.linspace(0, np.log2((points - 1) / (TAPS - 1)), steps)
    found, count = np.unique(np.floor(2**exponents).astype(int), return_counts=True)
    biases = count * per_kernel // steps
    biases[: per_kernel - biases.sum()] += 1  # what rounding left over goes to the smallest
    return found, biases


def _taps(curves: np.ndarray, dilation: int) -> np.ndarray:
    """(9, P, n) shifted copies of (P, n) curves, zero outside."""
    points = len(curves)
    out = np.zeros((TAPS, *curves.shape), dtype=np.float32)
    for tap in range(TAPS):
        shift = (tap - TAPS // 2) * dilation
        out[tap, max(-shift, 0) : points - max(shift, 0)] = curves[max(shift, 0) : points + min(shift, 0)]
    return out


def _shares_above(results: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """(m, n) share of the T rows of (T, n) results above each of m biases; n a multiple of 8."""
    above = results > biases[:, None, None]
    total = np.zeros((len(biases), results.shape[1]), dtype=np.int64)
    for start in range(0, len(results), 255):  # eight counts per 64-bit word, none of which can overflow in 255 rows
        total += np.add.reduce(above[:, start : start + 255].view(np.uint64), axis=1).view(np.uint8)
    return total / len(results)


class MiniRocket(TransformerMixin, BaseEstimator):
    """(n, P) curves, P ≥ 9, to (n, F) float32 shares between 0 and 1; F is `features` rounded down to a multiple of 84."""

    def __init__(self, features: int = 9996, seed: int = 0) -> None:
        self.features, self.seed = features, seed

    def fit(self, X: np.ndarray, y: object = None) -> Self:
        """Draw the biases. Raises ValueError where curves are shorter than a kernel."""
        curves = np.asarray(X, dtype=np.float32)
        if curves.shape[1] < TAPS:
            raise ValueError(f"MiniRocket needs spectra of at least {TAPS} points; these have {curves.shape[1]}.")
        rng = np.random.default_rng(self.seed)
        per_kernel = max(self.features // len(KERNELS), 1)
        self.dilations_, counts = dilations(curves.shape[1], per_kernel)
        quantiles = iter(np.arange(1, per_kernel * len(KERNELS) + 1) * GOLDEN % 1)
        self.biases_ = []  # of each dilation (84, count)
        for dilation, count in zip(self.dilations_, counts):
            taps = _taps(curves[rng.integers(len(curves), size=len(KERNELS))].T, int(dilation))
            biases = np.empty((len(KERNELS), count), dtype=np.float32)
            for kernel, (a, b, c) in enumerate(KERNELS):
                results = 3 * (taps[a, :, kernel] + taps[b, :, kernel] + taps[c, :, kernel]) - taps[:, :, kernel].sum(axis=0)
                biases[kernel] = np.quantile(results, [next(quantiles) for _ in range(count)])
            self.biases_.append(biases)
        self.n_features_in_ = curves.shape[1]
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """(n, F) float32."""
        curves = np.asarray(X, dtype=np.float32)
        parts = [self._transform(curves[start : start + ROWS_AT_ONCE]) for start in range(0, len(curves), ROWS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty((0, sum(b.size for b in self.biases_)), dtype=np.float32)

    def _transform(self, curves: np.ndarray) -> np.ndarray:
        """As `transform`, for few rows: time runs down, samples run across, padded to whole words."""
        rows, points = curves.shape
        across = np.zeros((points, -(-rows // 8) * 8), dtype=np.float32)
        across[:, :rows] = curves.T
        columns = []
        for place, (dilation, biases) in enumerate(zip(self.dilations_, self.biases_)):
            taps = _taps(across, int(dilation))
            total = taps.sum(axis=0)
            taps *= 3
            margin = (TAPS // 2) * int(dilation)
            for kernel, (a, b, c) in enumerate(KERNELS):
                results = taps[a] + taps[b]
                results += taps[c]
                results -= total
                if (place + kernel) % 2 and points > 2 * margin:  # every other one looks at whole kernels alone
                    results = results[margin : points - margin]
                columns.append(_shares_above(results, biases[kernel])[:, :rows])
        return np.concatenate(columns).T.astype(np.float32)
