"""Training data: simulated frames by number, and frames that people labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import drawn, labels
from lib.task import InputError
from lib.tasks.bragg import data, simulate, write
from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.settings import Training

FRAMES = 12
SMALL = Simulation(height_px=128, width_px=128, water_photons=2, spot_photons=3e4)


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A run under data/bragg, its strong spots marked as a person would, and one frame more that nobody looked at."""
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    folder = tmp_path / "data" / "bragg" / "run"
    folder.mkdir(parents=True)
    samples = simulate.simulate_frames(SMALL, FRAMES + 1, np.random.default_rng(0))
    write.write_cxi(samples, folder)
    made = labels.create("bragg", "mine")
    for row in range(FRAMES):
        true = samples.table.iloc[row]
        strong = np.asarray(true["true_snr"]) > 5
        points = tuple(zip(np.asarray(true["true_y_px"])[strong].tolist(), np.asarray(true["true_x_px"])[strong].tolist()))
        labels.change(made, [labels.Change(("frames.cxi", row), points, (), True)])
    return samples.table


def test_labelled_frames_are_dealt_once_and_their_marks_are_peaks(labelled: pd.DataFrame) -> None:
    made = data.labelled_by_hand(Training(labels="mine", data="run", batch_size=2))
    seen: list[int] = []
    for split in data.SPLITS:
        for index in range(made.batches(split)):
            table = made._make(split, 0, index).table
            seen += table["frame"].unique().tolist()
            if split == "test":
                marked = labels.load(labels.folder_of("bragg") / "mine")
                for frame, rows in ((n, table[table["frame"] == n]) for n in table["frame"].unique()):
                    assert rows["is_peak"].sum() == len(marked.points("frames.cxi", int(frame)))
    assert sum(made.sizes.values()) == FRAMES and len(seen) == len(set(seen))
    assert set(seen) <= set(range(FRAMES))  # the frame that nobody looked at is never learnt from


def test_even_the_fewest_labelled_frames_choose_a_threshold(labelled: pd.DataFrame) -> None:
    mine = labels.folder_of("bragg") / "mine"
    for row in range(data.FEWEST_LABELLED, FRAMES):
        labels.change(mine, [labels.Change(("frames.cxi", row), done=False)])
    sizes = data.labelled_by_hand(Training(labels="mine", data="run")).sizes
    assert sizes == {"train": 5, "validation": 2, "calibration": 1, "test": 2}


def test_too_few_labels_are_refused_with_what_to_do(labelled: pd.DataFrame) -> None:
    labels.create("bragg", "empty")
    with pytest.raises(InputError, match="at least 10"):
        data.labelled_by_hand(Training(labels="empty", data="run"))
    with pytest.raises(InputError, match="no-such-folder"):
        data.labelled_by_hand(Training(labels="mine", data="no-such-folder"))


def test_labels_want_to_know_where_their_frames_lie() -> None:
    with pytest.raises(InputError, match="labels need data"):
        Training.parse({"labels": "mine"})


def test_what_is_learnt_from_is_sure_and_bounded() -> None:
    config = Training(frames_per_epoch=4, batch_size=4, frame_px=128, candidates_per_frame=20)
    table = data.simulated(config, simulate.draw_frame)._make("train", 0, 0).table
    per_frame = table.groupby("frame")["is_peak"].agg(["sum", "size"])
    assert (per_frame["sum"] <= 20).all() and (per_frame["size"] <= 40).all()
    assert not table["unsure"].any() and table["true_snr"].dropna().ge(data.TAUGHT_SNR).all()


def test_turning_keeps_what_is_known() -> None:
    config = Training(frames_per_epoch=4, batch_size=4, frame_px=128)
    made = data.simulated(config, simulate.draw_frame)
    once, again = made.batch("train", 1, 0), made.batch("train", 2, 0)
    np.testing.assert_array_equal(once.table["is_peak"], again.table["is_peak"])
    np.testing.assert_allclose(once.inputs["patch"].sum((2, 3)), again.inputs["patch"].sum((2, 3)), rtol=1e-3, atol=1e-2)
    assert not np.array_equal(once.inputs["patch"], again.inputs["patch"])


def test_a_drawn_mask_hides_candidates_and_labels_of_labelled_frames(labelled: pd.DataFrame) -> None:
    good = np.ones((128, 128), bool)
    good[:, :64] = False
    drawn.save("bragg", "left half", good)
    with pytest.raises(InputError, match="mask needs labels"):
        Training.parse({"mask": "left half.h5"})
    whole, right = (data.labelled_by_hand(Training(labels="mine", data="run", mask=mask)) for mask in ("", "left half.h5"))
    parts = ("validation", "calibration", "test")
    before, after = (
        pd.concat([made.batch(part, 0, n).table for part in parts for n in range(made.batches(part))]) for made in (whole, right)
    )
    assert before["is_peak"].sum() > after["is_peak"].sum() > 0
    assert (before["x_px"] < 60).any() and (after.loc[after["proposed"], "column_px"] >= 64).all()
    missed = after[after["is_peak"] & ~after["proposed"]]
    assert (missed["true_x_px"] >= 63.5).all(), "what was marked under the mask is not missed"


def test_a_mask_that_is_not_there_or_of_other_frames_is_named(labelled: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="gone"):
        data.labelled_by_hand(Training(labels="mine", data="run", mask="gone.h5"))
    drawn.save("bragg", "small", np.ones((64, 64), bool))
    with pytest.raises(InputError, match=r"64 × 64"):
        data.labelled_by_hand(Training(labels="mine", data="run", mask="small.h5"))
