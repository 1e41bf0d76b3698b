"""The rows that a result sheet rests on: test rows with a known class, and what the model said and decided of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib import figures
from lib.tasks.spectra import verdicts
from lib.tasks.spectra.table import GROUP, SEVERITY, TYPE
from lib.tasks.spectra.verdicts import Facts

DASHES = ("solid", "dash", "dot")


@dataclass(frozen=True)
class Scored:
    """N scored test rows of K classes; arrays are (n,) unless said otherwise.

    `labels` and `named` (the most probable class) are positions in `names`; `decided` too, UNDECIDED where left to the taster,
    and None where the run has no certificate. `rows` is the samples' table, `groups` number the specimens (rows where unknown).
    """

    names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray  # (n, K)
    inside: np.ndarray  # bool, like the training data
    decided: np.ndarray | None
    rows: pd.DataFrame
    groups: np.ndarray
    left_out: int  # test rows without a known class or without a probability

    def __len__(self) -> int:
        return len(self.labels)

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


def scored(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, facts: Facts) -> Scored:
    """The rows to score out of all test rows."""
    from lib.splits import numbered  # brings scikit-learn, which pages that only show a prediction need not load

    y, p, kept = verdicts.labelled(predicted, truth)
    rows = samples.iloc[kept].reset_index(drop=True)
    inside = predicted["in_domain"].to_numpy()[kept].astype(bool)
    decided = verdicts.decided(p, inside, facts) if verdicts.certified(facts) else None
    groups = numbered(rows[GROUP]) if GROUP in rows else np.arange(len(rows))
    return Scored(tuple(map(str, facts["classes"])), y, p, inside, decided, rows, groups, len(predicted) - len(kept))


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
