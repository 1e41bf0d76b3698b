"""Figures of merit of found peaks, the threshold, and what is kept of candidates that were judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from sklearn.metrics import average_precision_score, roc_auc_score

from lib.tasks.bragg.matching import WANTED_SNR

STEPS = np.linspace(0.005, 0.995, 199)  # of thresholds that are tried
LIKELY = 0.5  # a candidate that is more likely a peak than not speaks for a hit
THRESHOLD = 0.5  # of a model that no threshold was chosen for yet
APART_PX = 3.0  # of two peaks nearer than this the less certain one goes
BINS = 15  # of the calibration error
RANGE = (0.01, 0.99)  # quantiles of calibration frames within which a frame is like them
MARGIN = 0.1  # and beyond, in units of their width
FEWEST_RANGED = 100  # frames that such quantiles can be taken of


def decode(scores: np.ndarray, table: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Candidates with `score` (a probability), `is_peak`, and `wanted` (a strong one), and what predictions show of them."""
    told = ["file", "frame", "y_px", "x_px", "intensity", "snr", "n_pixels", "resolution_angstrom", "max_value", "background"]
    kept = table[[name for name in [*told, "of", "noise", "per_mpx", "note"] if name in table]].reset_index(drop=True)
    score = np.where(table["proposed"], scores, 0.0)
    sure = score >= float(facts.get("threshold", THRESHOLD))
    is_peak = sure & ~crowded(table, score, sure)
    return kept.assign(score=score, is_peak=is_peak, wanted=is_peak & (table["snr"] >= WANTED_SNR).to_numpy(bool))


def crowded(table: pd.DataFrame, score: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Which candidates have a more certain one of the same frame within APART_PX."""
    rows = np.flatnonzero(sure)
    out = np.zeros(len(table), bool)
    if len(rows) < 2:
        return out
    key = table["of"] if "of" in table else pd.factorize(table["file"].astype(str) + table["frame"].astype(str))[0]
    frame = np.asarray(key)[rows] * 1e6  # frames far apart in a third dimension
    place = np.column_stack([table["y_px"].to_numpy()[rows], table["x_px"].to_numpy()[rows], frame])
    pairs = cKDTree(place).query_pairs(APART_PX, output_type="ndarray")
    if len(pairs):
        first, second = score[rows[pairs[:, 0]]], score[rows[pairs[:, 1]]]
        out[rows[np.where(first >= second, pairs[:, 1], pairs[:, 0])]] = True
    return out


def truth(table: pd.DataFrame) -> pd.DataFrame:
    """What a perfect model would return: 1 for spots, even for those that no candidate is near to."""
    is_peak = table["is_peak"].to_numpy(bool)
    out = decode(is_peak.astype(float), table, {})
    return out.assign(score=is_peak.astype(float), is_peak=is_peak, wanted=table["wanted"].to_numpy(bool))


def counts(found: np.ndarray, is_peak: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1: recall over wanted spots, and a peak that is no spot at all is a false one."""
    right, false = float((found & wanted).sum()), float((found & ~is_peak).sum())
    missed = float((~found & wanted).sum())
    every = right + false
    return {
        "precision": right / every if every else 1.0,
        "recall": right / (right + missed) if right + missed else 1.0,
        "f1": 2 * right / (2 * right + false + missed) if right + false + missed else 1.0,
    }


def score(predicted: pd.DataFrame, true: pd.DataFrame) -> dict[str, float]:
    """F1, precision and recall at the model's threshold, the best F1 of any threshold, average precision, calibration error."""
    is_peak, wanted = true["is_peak"].to_numpy(bool), true["wanted"].to_numpy(bool)
    scores = predicted["score"].to_numpy(float)
    out = counts(predicted["is_peak"].to_numpy(bool), is_peak, wanted)
    out["best_f1"] = best_threshold(scores, is_peak, wanted)[1]
    counted = wanted | ~is_peak
    some = counted.any() and 0 < wanted[counted].sum() < counted.sum()
    out["average_precision"] = float(average_precision_score(wanted[counted], scores[counted])) if some else 1.0
    proposed = scores > 0
    out["ece"] = calibration_error(scores[proposed], is_peak[proposed])
    return out


def calibration_error(scores: np.ndarray, is_peak: np.ndarray) -> float:
    """Expected calibration error: mean difference of score and share of peaks over BINS equal steps of the score."""
    if not len(scores):
        return 0.0
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    n, sums, hits = (np.bincount(place, w, BINS) for w in (None, scores, is_peak.astype(float)))
    return float(np.abs(sums - hits).sum() / n.sum())


def best_threshold(scores: np.ndarray, is_peak: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """The score from which candidates are peaks so that F1 is largest, and that F1."""
    order = np.argsort(-scores, kind="stable")
    right, false = np.cumsum(wanted[order]), np.cumsum(~is_peak[order])
    total = max(1, int(wanted.sum()))
    f1 = 2 * right / np.maximum(right + false + total, 1)
    last = np.append(np.diff(scores[order]) != 0, True) if len(order) else np.zeros(0, bool)  # equal scores go together
    f1 = np.where(last & (scores[order] > 0), f1, -1.0)
    if not len(f1) or f1.max() <= 0:
        return THRESHOLD, 1.0 if not wanted.any() else 0.0
    best = int(np.argmax(f1))
    return between(scores[order], best), float(f1[best])


def frame_threshold(scores: np.ndarray, is_peak: np.ndarray, wanted: np.ndarray, frame: np.ndarray) -> float:
    """The threshold with the largest mean F1 of frames that have wanted spots: each frame counts alike, however many it has.

    `frame` (n,) are whole numbers from 0. All spots together would let the few frames with thousands of spots decide. Of equally
    good thresholds, of which few frames leave many, it is the middle one.
    """
    n = int(frame.max(initial=-1)) + 1
    missed = np.bincount(frame, wanted, n)
    if not missed.any():
        return THRESHOLD
    means = []
    for threshold in STEPS:
        found = scores >= threshold
        right, false = np.bincount(frame, found & wanted, n), np.bincount(frame, found & ~is_peak, n)
        means.append((2 * right / np.maximum(right + false + missed, 1))[missed > 0].mean())
    best = np.flatnonzero(np.array(means) >= max(means) - 1e-9)
    return float(STEPS[best[len(best) // 2]])


def budget_threshold(scores: np.ndarray, is_peak: np.ndarray, megapixels: float, most_per_mpx: float) -> float:
    """The lowest score from which there are at most so many false peaks per megapixel."""
    false = np.sort(scores[~is_peak & (scores > 0)])[::-1]
    allowed = int(most_per_mpx * megapixels)
    return between(false, allowed - 1) if allowed < len(false) else 1e-6


def between(falling: np.ndarray, last: int) -> float:
    """A threshold that takes falling values up to place `last` (−1: none) and leaves the next."""
    above = falling[last] if last >= 0 else 1.0
    below = falling[last + 1] if last + 1 < len(falling) else 0.0
    return float((above + below) / 2)


def per_frame(predicted: pd.DataFrame, true: pd.DataFrame) -> pd.DataFrame:
    """One row per frame: `file, frame, expected_peaks` (`likely`, summed), `n_peaks, n_true` (wanted spots), `is_hit`."""
    table = predicted[["file", "frame", "is_peak"]].assign(score=likely(predicted["score"]), wanted=true["wanted"].to_numpy(bool))
    table["spot"] = true["is_peak"].to_numpy(bool)
    groups = table.groupby(["file", "frame"], sort=False)
    frames = groups.agg(
        expected_peaks=("score", "sum"), n_peaks=("is_peak", "sum"), n_true=("wanted", "sum"), n_spots=("spot", "sum")
    )
    return frames.assign(is_hit=frames["n_spots"] > 0).reset_index()


def likely(scores: pd.Series) -> pd.Series:
    """The scores of candidates that are more likely peaks than not, 0 for others: of noise there are too many to add up."""
    return scores.where(scores >= LIKELY, 0.0)


def hit_auc(frames: pd.DataFrame) -> float:
    """Area under the ROC curve of expected peaks as a classifier of hits; NaN where all frames are alike."""
    if frames["is_hit"].nunique() < 2:
        return float("nan")
    return float(roc_auc_score(frames["is_hit"], frames["expected_peaks"]))
