"""The rows that a result sheet rests on: test rows with a known class, and what the model said and decided of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib import figures
from lib.task import FOLD, InputError, Phrase
from lib.tasks.spectra import verdicts
from lib.tasks.spectra.arrays import bridge
from lib.tasks.spectra.table import GROUP, SEVERITY, TYPE
from lib.tasks.spectra.targets import in_words
from lib.tasks.spectra.transfer import pooled
from lib.tasks.spectra.verdicts import POLICIES, Facts, Policy
from lib.words import Say, english

DASHES = ("solid", "dash", "dot")


@dataclass(frozen=True)
class Scored:
    """N scored test rows of K classes; arrays are (n,) unless said otherwise.

    `names` are for readers; `labels` and `named` (the most probable class) are positions in them. So are `decisions` under each
    policy, UNDECIDED where left to the taster. Without a certificate there are neither decisions nor sets. `rows` is the
    samples' table, `groups` number the specimens (rows where unknown), `place` is where each row stands among all test rows.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray  # (n, K)
    inside: np.ndarray  # bool, like the training data
    decisions: Mapping[Policy, np.ndarray]
    sets: np.ndarray | None  # (n, K) bool
    policy: Policy
    rows: pd.DataFrame
    groups: np.ndarray
    place: np.ndarray
    left_out: int  # test rows without a known class or without a probability

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decided(self) -> np.ndarray | None:
        """Decisions under the run's policy; None without a certificate."""
        return self.decisions.get(self.policy)

    @property
    def named(self) -> np.ndarray:
        """Most probable class."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the most probable class."""
        return self.probabilities.max(axis=1)

    @property
    def grouped(self) -> bool:
        """Whether the specimens are known."""
        return GROUP in self.rows


def scored(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, facts: Facts, say: Say = english) -> Scored:
    """The rows to score out of all test rows."""
    from lib.splits import numbered  # brings scikit-learn, which pages that only show a prediction need not load

    y, p, kept = verdicts.labelled(predicted, truth)
    rows = samples.iloc[kept].reset_index(drop=True)
    inside = predicted["in_domain"].to_numpy()[kept].astype(bool)
    groups = numbered(rows[GROUP]) if GROUP in rows else np.arange(len(rows))
    decisions: dict[Policy, np.ndarray] = {}
    sets = None
    if all(map(verdicts.certified, folds_of(facts))):
        parts = _by_fold(rows, facts)
        decisions = {
            policy: _put(len(rows), [(at, verdicts.decided(p[at], inside[at], fold, policy)) for at, fold in parts])
            for policy in POLICIES
        }
        sets = _put(len(rows), [(at, verdicts.sets_of(p[at], fold)) for at, fold in parts])
    names = tuple(in_words(name, say) for name in facts["classes"])
    policy = verdicts.policy_of(facts)
    return Scored(names, y, p, inside, decisions, sets, policy, rows, groups, kept, len(predicted) - len(kept))


# --- several folds ----------------------------------------------------------------------------------------------------
OF_A_FOLD = (
    "classes", "target", "policy", "precision_target", "recall_target", "risk", "confidence", "costs", "cutoffs", "cost",
    "set_thresholds", "calibration_rows", "independent_rows", "grouped", "chosen", "counts",
)  # fmt: skip


def folds_of(facts: Facts) -> list[Facts]:
    """The facts of each fold that a joint sheet is of; of one run its own."""
    return list(facts.get("folds") or [facts])


def _by_fold(rows: pd.DataFrame, facts: Facts) -> list[tuple[np.ndarray, Facts]]:
    """Positions of the rows of each fold, and that fold's facts."""
    folds = folds_of(facts)
    number = rows[FOLD].to_numpy(int) if "folds" in facts else np.zeros(len(rows), dtype=int)
    return [(np.flatnonzero(number == k), fold) for k, fold in enumerate(folds)]


def _put(n: int, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Values of all n rows from those of each fold."""
    whole = np.empty((n, *parts[0][1].shape[1:]), dtype=parts[0][1].dtype)
    for at, values in parts:
        whole[at] = values
    return whole


def joined(folds: Sequence[Facts]) -> dict[str, Any]:
    """Facts of a joint sheet from those of its folds. Raises InputError where their classes, channels or table differ."""
    first = folds[0]
    _refuse_other_table(folds)
    for key in ("classes", "channels", "target"):
        if any(fold.get(key) != first.get(key) for fold in folds):
            raise InputError("folds", Phrase("their {key} differ", key=key), "Join the folds of one training only.")
    tested = {key: {"test": sum(fold.get(key, {}).get("test", 0) for fold in folds)} for key in ("rows", "groups")}
    told: dict[str, list[Any]] = {"notes": [], "reading": []}
    for key, notes in told.items():
        notes += [note for fold in folds for note in fold.get(key, ())]
        told[key] = [note for place, note in enumerate(notes) if note not in notes[:place]]
    transfers = [bridge(fold) for fold in folds if fold.get("transfer")]
    bridged = {"transfer": pooled(transfers)} if len(transfers) == len(folds) else {}
    own = {key: value for key, value in first.items() if key not in OF_A_FOLD or key in ("classes", "target", "policy")}
    means = {"class_means": _mean_of_means(folds)} if all(fold.get("class_means") for fold in folds) else {}
    each = [{key: fold[key] for key in OF_A_FOLD if key in fold} for fold in folds]
    return {**own, **tested, **told, **bridged, **means, "folds": each}


def _refuse_other_table(folds: Sequence[Facts]) -> None:
    """Raises InputError where the folds were not cut from the same rows; of runs without a checksum their number is compared."""
    sums = {fold["table_sha256"] for fold in folds if fold.get("table_sha256")}
    totals = {_cut_from(fold) for fold in folds if fold.get("rows")}
    if len(sums) > 1 or len(totals) > 1:
        problem = "they were not cut from the same rows: the table changed between their trainings"
        raise InputError("folds", problem, "Train all folds on one table, then join them.")


def _cut_from(fold: Facts) -> int:
    """Rows of all parts together; under "is-val" the test rows are those of validation."""
    return sum(count for part, count in fold["rows"].items() if part != "test" or fold.get("test_source") != "is-val")


def _mean_of_means(folds: Sequence[Facts]) -> dict[str, dict[str, list[float]]]:
    """Mean over the folds of the mean spectrum of each class, to five digits: {channel: {class: (P,)}}."""
    return {
        channel: {
            name: [float(f"{x:.5g}") for x in np.mean([fold["class_means"][channel][name] for fold in folds], axis=0)]
            for name in means
        }
        for channel, means in folds[0]["class_means"].items()
    }


def fine_truth(t: Scored, facts: Facts) -> np.ndarray | None:
    """The truth by severity and type, VR11 where the class is only "The rest"; None where classes are fine enough or unknown."""
    target = facts.get("target") or {}
    if target.get("kind") != "OVA" or target.get("column") or SEVERITY not in t.rows or TYPE not in t.rows:
        return None
    kind = pd.to_numeric(t.rows[TYPE], errors="coerce").astype("Int64").astype(str).replace("<NA>", "")
    return (t.rows[SEVERITY].fillna("").astype(str) + kind).to_numpy(dtype=object)


def style(k: int, classes: int) -> dict[str, Any]:
    """Line of class k: colours in turn, then the same colours dashed. Of two classes the second, the one asked for, is teal."""
    place = 1 - k if classes == 2 else k
    return {"color": figures.COLOURS[place % len(figures.COLOURS)], "dash": DASHES[place // len(figures.COLOURS) % len(DASHES)]}


def thinned(count: int, most: int = 200) -> np.ndarray:
    """Positions of at most about `most` points out of `count`, both ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def legend_beside(classes: int) -> dict[str, Any]:
    """Layout that puts the legend right of a figure with many lines, where above it would cover them."""
    return {"legend": {"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top"}, "height": max(360, 60 + 22 * classes)}
