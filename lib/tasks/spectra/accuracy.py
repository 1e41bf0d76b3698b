"""Where a classifier is right and where it is wrong: confusion, recall of each class, errors by kind, accuracy by coverage.

Labels (n,) are positions of the true class; predicted (n,) the same, or UNDECIDED for a sample left to the taster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.tasks.spectra.calibration import interval, top
from lib.tasks.spectra.decisions import UNDECIDED


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (K, K + 1): rows the truth, columns the prediction, the last column undecided. They add to n."""
    column = np.where(predicted == UNDECIDED, classes, predicted)
    return np.bincount(labels * (classes + 1) + column, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def by_class(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """How each class is found and how often its name is right, one row per class.

    Columns: class, samples, predicted (times), recall_percent and precision_percent with their lo95 and hi95
    (Clopper–Pearson), f1 (0 to 1), kept_percent (of the class's samples that were decided). An undecided sample counts
    against recall and not against precision. NaN where there is nothing to divide by.
    """
    counts = confusion(labels, predicted, len(names))
    right, truth, said = np.diag(counts[:, :-1]), counts.sum(axis=1), counts[:, :-1].sum(axis=0)
    (recall_low, recall_high), (precision_low, precision_high) = interval(right, truth), interval(right, said)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame({
            "class": list(names), "samples": truth, "predicted": said,
            "recall_percent": 100 * right / truth, "recall_lo95": 100 * recall_low, "recall_hi95": 100 * recall_high,
            "precision_percent": 100 * right / said,
            "precision_lo95": 100 * precision_low, "precision_hi95": 100 * precision_high,
            "f1": 2 * right / (truth + said), "kept_percent": 100 * (truth - counts[:, -1]) / truth,
        })  # fmt: skip


def score(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """accuracy_percent (of the decided), kept_percent (decided share), macro_f1 and balanced_accuracy_percent.

    macro_f1 is the mean over classes that occur or are predicted, so that a class never found counts as 0;
    balanced_accuracy_percent the mean recall of the classes that occur. NaN where there is nothing to divide by.
    """
    table, decided = by_class(labels, predicted, names), predicted != UNDECIDED
    return {
        "accuracy_percent": 100 * float((labels == predicted)[decided].mean()) if decided.any() else float("nan"),
        "kept_percent": 100 * float(decided.mean()) if len(decided) else float("nan"),
        "macro_f1": float(table["f1"].mean()),
        "balanced_accuracy_percent": float(table["recall_percent"].mean()),
    }


def accuracy_by_coverage(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Accuracy of the most certain samples against their share, one row per distinct confidence, most certain first.

    Columns: cutoff (lowest confidence kept), kept_percent (0 to 100), accuracy_percent (El-Yaniv & Wiener 2010).
    Raises InputError as `calibration.checked`.
    """
    hit, confidence = top(labels, probabilities)
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-1.0))  # equal confidences are kept or left together
    kept = last + 1
    return pd.DataFrame({
        "cutoff": confidence[order][last],
        "kept_percent": 100 * kept / len(hit),
        "accuracy_percent": 100 * np.cumsum(hit[order])[last] / kept,
    })  # fmt: skip


def error_contributions(
    labels: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    detail: np.ndarray | None = None,
    most: int = 35,
) -> pd.DataFrame:
    """The kinds of error that weigh most, commonest first; undecided samples are no errors.

    `detail` (n,) names the truth more finely than the classes do (VR11 where the class is "The rest"). Columns: truth,
    predicted, count, percent (of all errors), and mean and standard deviation (NaN for one sample) of the probabilities given
    to the true and to the predicted class: truth_score_mean, truth_score_sd, predicted_score_mean, predicted_score_sd.
    """
    wrong = np.flatnonzero((predicted != labels) & (predicted != UNDECIDED))
    called = np.asarray(names, dtype=object)
    table = pd.DataFrame({
        "truth": (called[labels] if detail is None else np.asarray(detail, dtype=object))[wrong],
        "predicted": called[predicted[wrong]],
        "truth_score": probabilities[wrong, labels[wrong]],
        "predicted_score": probabilities[wrong, predicted[wrong]],
    })  # fmt: skip
    found = (
        table.groupby(["truth", "predicted"])
        .agg(
            count=("truth_score", "size"),
            truth_score_mean=("truth_score", "mean"), truth_score_sd=("truth_score", "std"),
            predicted_score_mean=("predicted_score", "mean"), predicted_score_sd=("predicted_score", "std"),
        )
        .reset_index()
    )  # fmt: skip
    found.insert(3, "percent", 100 * found["count"] / max(len(wrong), 1))
    return found.sort_values(["count", "truth", "predicted"], ascending=[False, True, True], ignore_index=True).head(most)


def surest_errors(
    labels: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    kinds: pd.DataFrame,
    detail: np.ndarray | None = None,
    most: int = 6,
) -> list[np.ndarray]:
    """For each row of `kinds`, a table of `error_contributions`, positions of at most `most` such errors.

    Those whose wrong answer was most probable come first: they are the likeliest wrong labels, and the last that a cut-off sends
    to the taster. Other arguments as of `error_contributions`.
    """
    wrong = np.flatnonzero((predicted != labels) & (predicted != UNDECIDED))
    called = np.asarray(names, dtype=object)
    truth = (called[labels] if detail is None else np.asarray(detail, dtype=object))[wrong]
    score = probabilities[wrong, predicted[wrong]]
    found = pd.DataFrame({"truth": truth, "said": called[predicted[wrong]], "score": score, "row": wrong})
    found = found.sort_values("score", ascending=False, kind="stable")
    rows = {pair: group["row"].to_numpy()[:most] for pair, group in found.groupby(["truth", "said"])}
    return [rows[truth, said] for truth, said in zip(kinds["truth"], kinds["predicted"])]
