"""The cut-offs of MAPIE for the same promises from the same rows: what `lib.tasks.spectra.decisions` is compared with."""

from __future__ import annotations

import warnings

import numpy as np

from benchmarks.peers import module
from lib.tasks.spectra.decisions import Rows
from lib.tasks.spectra.verdicts import Goal

NAME = "mapie.risk_control"
GRID = np.linspace(0, 0.99, 100)  # its default
# p-values that its order is learnt by. Its own 1000 take three times as long and decided 46.0 % where these decided 45.6 %.
EVIDENCE = np.logspace(-25, 0, 300)


def installed() -> bool:
    """Whether there is a MAPIE to compare with."""
    return module(NAME) is not None


def cutoff(goal: Goal, target: float, risk: float, rows: Rows, other: Rows) -> float | None:
    """The cut-off that MAPIE certifies on the rows, None where it certifies none.

    Of its methods the strongest that the promise allows: for recall, which only falls, a fixed sequence; for precision one whose
    order is learnt from `other` rows. Cut-offs above all of those are left out: at a cut-off that accepts no row MAPIE 1.6.0 has
    a p-value of NaN, and learns an order that begins with it, so nothing would be certified.
    """
    grid = GRID[other.score.max() >= GRID]
    if not len(grid):
        return None
    method = "fixed_sequence" if goal == "recall" else "split_fixed_sequence"
    controller = module(NAME).BinaryClassificationController(
        predict_function=_as_probabilities, risk=goal, target_level=target, confidence_level=1 - risk,
        list_predict_params=grid, fwer_method=method,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing could be certified: told by the result
        if goal == "precision":
            controller.learn_fixed_sequence_order(other.score, other.good, EVIDENCE)
        found = controller.calibrate(rows.score, rows.good).best_predict_param
    return None if found is None else float(found)


def _as_probabilities(score: np.ndarray) -> np.ndarray:
    """Scores (n,) as MAPIE takes them, (n, 2), the class asked for last; below every cut-off where they are -inf."""
    return np.column_stack([np.zeros(len(score)), score])
