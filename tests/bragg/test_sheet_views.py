"""The result sheet of a finder that learnt from labels by hand, where nobody knows how strong a spot is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib import sheet
from lib.tasks.bragg import TASK, sheet_views
from lib.words import english
from tests.bragg.test_french import judged


def test_spots_marked_by_hand_are_not_sorted_by_a_strength_that_nobody_knows() -> None:
    predicted, truth, samples = judged()
    by_hand = samples.assign(true_snr=np.where(truth["is_peak"], np.inf, np.nan))
    panels = {panel.key: panel for panel in sheet_views.sheet_panels(predicted, truth, by_hand, {"threshold": 0.5})}
    simulated = {panel.key for panel in sheet_views.sheet_panels(predicted, truth, samples, {"threshold": 0.5})}
    assert simulated - set(panels) == {"snr"}
    table = panels["peers"].content
    assert isinstance(table, pd.DataFrame) and table["recall"].between(0, 1).all()
    told = " ".join(str(part) for panel in panels.values() for part in (panel.explanation, panel.content, panel.title))
    assert "marked" in told and "I/σ" not in told and "weaker" not in told


def frames(n: int, spots: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(predicted, truth, samples) of n frames of so many spots each: all found in every second frame, none in the others."""
    frame = np.repeat(np.arange(n), spots)
    found = frame % 2 == 0
    told = {"file": "run.cxi", "frame": frame}
    predicted = pd.DataFrame({**told, "score": np.where(found, 0.9, 0.1), "is_peak": found})
    return predicted, pd.DataFrame({"is_peak": True, "wanted": True}, index=predicted.index), pd.DataFrame(told)


def test_intervals_are_those_of_frames_as_the_spots_of_one_are_found_together() -> None:
    predicted, truth, samples = frames(24, 50)
    found = {one["name"]: one for one in sheet.metrics(TASK, predicted, truth, TASK.independent(samples))}["recall"]
    half = 1.96 * np.sqrt(0.5 * 0.5 / 24)
    assert found["value"] == 0.5 and found["high"] - found["low"] > 1.5 * half


def test_the_sheet_tells_which_frames_count_as_hits() -> None:
    each = pd.DataFrame({
        "expected_peaks": [9.0, 7.0, 0.5, 0.2, 0.1], "is_hit": [True, True, True, False, False], "n_true": [8, 6, 0, 0, 0],
    })  # fmt: skip
    (panel,) = sheet_views._hits(each, {"hit_peaks": 3.0}, english)
    assert "of 3 true hits, which have at least one true spot, and 2 blanks" in panel.explanation
    assert panel.explanation.endswith("1 of the hits have no spot of I/σ ≥ 5.")
