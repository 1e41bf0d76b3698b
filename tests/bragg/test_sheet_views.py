"""The result sheet of a finder that learnt from labels by hand, where nobody knows how strong a spot is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.tasks.bragg import sheet_views
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
