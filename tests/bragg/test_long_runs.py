"""A long run on the Clean page: some frames are measured at once, spread over the run; the others wait, and rules spare them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import cleaning, recipe
from lib.tasks.bragg import TASK, hdf5
from lib.ui.tally import flagged
from tests.bragg.bad_frames import frames, write_nxmx

FRAMES = 70


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nxmx(tmp_path_factory.mktemp("long") / "run.h5", frames(FRAMES, (80, 48)), facts=False)


def inspected(run: Path, patience_s: float) -> pd.DataFrame:
    seen = cleaning.inspect(TASK, [(run, run.name)], TASK.Acquisition(), lambda _share, _text: None, patience_s)
    hdf5.close_files()
    return seen.readings


def test_who_does_not_wait_gets_frames_from_all_over_the_run(run: Path) -> None:
    whole, some = inspected(run, np.inf), inspected(run, 1e-9)
    measured = np.flatnonzero(some["measured"])
    assert len(some) == FRAMES and len(measured) == cleaning.AT_ONCE
    assert np.diff([-1, *measured, FRAMES]).max() <= 2 * FRAMES / cleaning.AT_ONCE
    assert list(some["frame"]) == list(range(FRAMES)) and set(some["file"]) == {"run.h5"}
    assert some.loc[~some["measured"], "mean_adu"].isna().all() and set(some["problem"]) == {""}
    pd.testing.assert_series_equal(some["mean_adu"].iloc[measured], whole["mean_adu"].iloc[measured])


def test_who_waits_gets_every_frame_in_order(run: Path) -> None:
    whole = inspected(run, np.inf)
    assert "measured" not in whole and not recipe.unmeasured(whole).any()
    assert list(whole["frame"]) == list(range(FRAMES)) and whole["mean_adu"].notna().all()
    one_by_one = TASK.inspect(TASK.read(run, TASK.Acquisition()), TASK.Acquisition())
    pd.testing.assert_frame_equal(whole, one_by_one.assign(file="run.h5"))


def test_rules_leave_alone_what_is_not_measured(run: Path) -> None:
    some = inspected(run, 1e-9)
    flags = flagged(TASK, some, TASK.Rules(min_candidates=100, min_mean=1e6))
    assert (flags.any(axis=1) == some["measured"]).all()
