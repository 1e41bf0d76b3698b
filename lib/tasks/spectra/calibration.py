"""How far a classifier's probabilities can be believed, and sets of classes that hold the truth as often as promised.

Everything here is a function of labels (n,) int, positions of the true class, and probabilities (n, K) whose rows add to 1.
A temperature is fitted on validation rows: fitted on calibration rows it would void what those rows certify later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.stats import beta

from lib.task import InputError, Phrase

SMALLEST = 1e-12  # a probability of exactly 0 counts as this: its logarithm must be finite
BINS = 15
TEMPERATURES = (0.05, 20.0)  # a perfect validation set would ask for 0


def checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) as int64 and probabilities (n, K) as float64.

    Raises InputError where shapes disagree, a row is not a distribution or a label is no class.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or y.shape != p.shape[:1] or not len(y):
        raise InputError(
            "predictions", Phrase("{labels} labels do not fit {rows} probabilities", labels=y.shape, rows=p.shape),
            "Give one label and one row of probabilities per sample, and at least one sample.",
        )  # fmt: skip
    if not np.isfinite(p).all() or (p < 0).any() or np.abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise InputError("predictions", "a row of probabilities does not add to 1", "Give softmax probabilities.")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= p.shape[1]:
        raise InputError("predictions", "a label is not one of the classes", "Leave out samples without a class.")
    return y.astype(np.int64), p


def interval(successes: np.ndarray | int, trials: np.ndarray | int, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Exact two-sided interval of a share (Clopper & Pearson 1934), both ends 0 to 1; NaN where there were no trials."""
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, beta.ppf(tail, k, n - k + 1), 0.0)
        high = np.where(k < n, beta.ppf(1 - tail, k + 1, n - k), 1.0)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


# --- temperature ------------------------------------------------------------------------------------------------------
def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (…, K) with their logarithms divided by the temperature: above 1 softer, below 1 sharper; order kept."""
    logit = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), SMALLEST)) / temperature
    raised = np.exp(logit - logit.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017, section 4.2), between 0.05 and 20.

    The likelihood is convex in 1/temperature, so the minimum is the only one. Raises InputError as `checked`.
    """
    y, p = checked(labels, probabilities)
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(y, temper(p, float(np.exp(log_t)))),
        bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6},
    )  # fmt: skip
    return float(np.exp(found.x))


def negative_log_likelihood(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln p(true class), in nats per sample. Raises InputError as `checked`."""
    y, p = checked(labels, probabilities)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], SMALLEST)).mean())


# --- calibration error ------------------------------------------------------------------------------------------------
def top(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the most probable class is the true one (n,) bool, and its probability (n,). Raises InputError as `checked`."""
    y, p = checked(labels, probabilities)
    best = p.argmax(axis=1)
    return best == y, p[np.arange(len(y)), best]


def equal_mass(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Bin number (n,) of each confidence, bins holding about as many samples each; equal confidences share a bin."""
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, confidence, side="right")


def reliability(hit: np.ndarray, confidence: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Share of hits against stated confidence, one row per equal-mass bin.

    `hit` (n,) bool and `confidence` (n,) 0 to 1: of the top class from `top`, or of class k as labels == k and p[:, k].
    Columns: samples, confidence (mean), hits (share), hits_lo95, hits_hi95 (Clopper–Pearson).
    """
    number = equal_mass(confidence, bins)
    samples = np.bincount(number)
    used = samples > 0
    count, hits = samples[used], np.bincount(number, weights=hit)[used]
    low, high = interval(hits, count)
    mean = np.bincount(number, weights=confidence)[used] / count
    return pd.DataFrame({"samples": count, "confidence": mean, "hits": hits / count, "hits_lo95": low, "hits_hi95": high})


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error in percentage points, and what it is worth.

    `lo95`, `hi95`: bootstrap interval. `floor`: what a perfectly calibrated model of the same confidences would show on
    average at this sample size; `floor_hi95`: what it would exceed in one set out of 20. An error below that is no evidence.
    """

    ece_points: float
    lo95: float
    hi95: float
    floor: float
    floor_hi95: float

    @property
    def evident(self) -> bool:
        """Whether the probabilities are shown to be off."""
        return self.ece_points > self.floor_hi95


def calibration_error(
    hit: np.ndarray,
    confidence: np.ndarray,
    rng: np.random.Generator,
    bins: int = BINS,
    repeats: int = 300,
    groups: np.ndarray | None = None,
) -> CalibrationError:
    """ECE over equal-mass bins: Σ_b n_b/n · |hits_b - confidence_b| (Naeini et al. 2015; Guo et al. 2017, equation 3).

    Absolute values fold noise upwards, and a resampled estimate is folded twice, so neither it nor its mirror image covers
    the truth. The interval inverts a bootstrap test instead (Davison & Hinkley 1997, section 5.5): it holds every error that
    could have shown the estimate once resampled noise is added to its bins. With `groups` (n,) whole groups are resampled.
    The floor draws hits from the confidences (consistency resampling, Bröcker & Smith 2007).
    """
    number, n = equal_mass(confidence, bins), len(confidence)
    gap, width = np.asarray(hit, dtype=float) - confidence, int(number.max()) + 1
    member = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    size = int(member.max()) + 1
    signed = np.bincount(number, weights=gap, minlength=width) / n
    noise, null = np.empty((repeats, width)), np.empty(repeats)
    for i in range(repeats):
        weight = np.bincount(rng.integers(size, size=size), minlength=size)[member]
        noise[i] = np.bincount(number, weights=weight * gap, minlength=width) / weight.sum() - signed
        null[i] = np.abs(np.bincount(number, weights=(rng.random(n) < confidence) - confidence)).sum() / n
    found = float(np.abs(signed).sum())
    low, high = _could_have_shown(found, signed, noise)
    return CalibrationError(*(100 * float(v) for v in (found, low, high, null.mean(), np.quantile(null, 0.95))))


def _could_have_shown(found: float, signed: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
    """Smallest and largest error whose bins, with the noise (repeats, B), may show `found`; 0 to 1.

    The bins share it in the proportions of the measured gaps `signed` (B,), drawn towards their mean by as much as noise
    has spread them (James & Stein 1961): unshrunk they would hold the noise twice.
    """
    spread = signed.var(ddof=1) if len(signed) > 1 else 0.0
    own = max(0.0, 1 - float(noise.var(axis=0).mean() / spread)) if spread > 0 else 0.0
    shrunk = signed.mean() + own * (signed - signed.mean())
    total = np.abs(shrunk).sum()
    error = np.linspace(0, 2 * found, 81)
    shown = np.abs(error[:, None, None] * (shrunk / total if total > 0 else 1 / len(signed)) + noise).sum(axis=-1)
    low, high = np.quantile(shown, [0.025, 0.975], axis=1)
    possible = np.append(error[(low <= found) & (found <= high)], found)  # the estimate is always inside
    return float(possible.min()), float(min(possible.max(), 1.0))


# --- conformal prediction sets ----------------------------------------------------------------------------------------
def set_thresholds(labels: np.ndarray, probabilities: np.ndarray, confidence: float = 0.9) -> np.ndarray:
    """Lowest probability (K,) at which each class enters a prediction set; -inf where too few rows allow leaving it out.

    Class-conditional (Mondrian) split conformal prediction: for a new sample of any class k the set holds k with a chance of
    at least `confidence`, whatever the model, if calibration rows and new samples of class k are exchangeable. The threshold
    is the ⌊(n_k + 1)(1 - confidence)⌋-th smallest p_k of the n_k calibration rows of class k (Vovk 2012, proposition 3;
    Sadinle, Lei & Wasserman 2019). Raises InputError as `checked`, or where the confidence is not between 0 and 1.
    """
    y, p = checked(labels, probabilities)
    if not 0 < confidence < 1:
        raise InputError(
            Phrase("confidence {confidence}", confidence=confidence), "it is not between 0 and 1", "Choose a share such as 0.9."
        )
    thresholds = np.full(p.shape[1], -np.inf)
    for k in range(p.shape[1]):
        own = np.sort(p[y == k, k])
        rank = int((len(own) + 1) * (1 - confidence) + 1e-9)  # 20 · (1 - 0.95) is 0.9999… in floating point
        if rank:
            thresholds[k] = own[rank - 1]
    return thresholds


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which classes are in the set of each sample, (n, K) bool. An empty set is a sample unlike any class seen."""
    return np.asarray(np.asarray(probabilities, dtype=np.float64) >= thresholds)


def set_summary(labels: np.ndarray, sets: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """How the sets (n, K) did, one row per class; NaN where a class has no sample.

    Columns: class, samples, covered_percent with covered_lo95 and covered_hi95 (Clopper–Pearson), mean_size (classes),
    single_percent and empty_percent (of the class's samples).
    """
    size = sets.sum(axis=1)
    rows = []
    for k, name in enumerate(names):
        own = labels == k
        n, covered = int(own.sum()), int(sets[own, k].sum())
        low, high = interval(covered, n)
        shares = (covered / n, size[own].mean(), (size[own] == 1).mean(), (size[own] == 0).mean()) if n else (np.nan,) * 4
        rows.append({
            "class": name, "samples": n, "covered_percent": 100 * shares[0],
            "covered_lo95": 100 * float(low), "covered_hi95": 100 * float(high),
            "mean_size": shares[1], "single_percent": 100 * shares[2], "empty_percent": 100 * shares[3],
        })  # fmt: skip
    return pd.DataFrame(rows)
