"""What a training would learn from: the same patches and labels that training gets, told in numbers and shown."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.task import Samples
from lib.tasks.bragg import TASK, data, simulate, training_views
from lib.tasks.bragg.candidates import PATCH_PX
from lib.tasks.bragg.settings import Training

SMALL = Training(frames_per_epoch=6, batch_size=3, frame_px=192, validation_frames=5, calibration_frames=6, test_frames=7)


@pytest.fixture(scope="module")
def made() -> data.Candidates:
    return data.simulated(SMALL, simulate.draw_frame)


def test_the_first_lessons_are_the_first_batch_of_a_training(made: data.Candidates) -> None:
    shown = [lesson.taught for lesson in made.first_lessons(training_views.LOOKED_AT)]
    batch = made._make("train", 0, 0)
    np.testing.assert_array_equal(np.concatenate([part.inputs["patch"] for part in shown]), batch.inputs["patch"])
    np.testing.assert_array_equal(np.concatenate([part.table["is_peak"] for part in shown]), batch.table["is_peak"])


def test_the_numbers_are_those_of_the_frames_that_were_looked_at(made: data.Candidates) -> None:
    table = TASK.preview(SMALL)[0].content
    assert isinstance(table, pd.DataFrame)
    told = dict(table.to_numpy())
    peaks = made._make("train", 0, 0).table["is_peak"]
    assert told["frames to train on"] == "6" and told["frames to validate, calibrate and test on"] == "5, 6, 7"
    assert told["peaks that are learnt from, per frame"] == f"{peaks.sum() / 3:.1f}"
    assert told["places that are none, per frame"] == f"{(~peaks).sum() / 3:.1f}"


def test_a_spot_that_nothing_stands_out_at_is_counted(made: data.Candidates) -> None:
    lesson = made.first_lessons(1)[0]
    before = training_views.unseen(lesson)
    dark = np.argwhere(lesson.frame.mask)[:: lesson.frame.mask.size // 40]
    far = [
        at for at in dark if np.hypot(*(data.candidates.find(lesson.frame).table[["y_px", "x_px"]] - at).to_numpy().T).min() > 4
    ]
    there = pd.DataFrame({"y_px": [float(far[0][0])], "x_px": [float(far[0][1])], "snr": [9.0]})
    more = pd.concat([lesson.truth, there], ignore_index=True)
    assert training_views.unseen(data.Lesson(lesson.frame, more, lesson.taught)) == before + 1


def test_peaks_stand_above_and_are_brighter_than_the_others_below() -> None:
    patch = np.zeros((40, 2, PATCH_PX, PATCH_PX), np.float32)
    patch[:, 1] = 1
    patch[:20, 0, 6:9, 6:9] = 4
    table = pd.DataFrame({"is_peak": np.arange(40) < 20})
    samples = Samples({"patch": patch, "context": np.zeros((40, 2), np.float32)}, table)
    fig = training_views.patch_figure(samples, 0)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(fig.data[0].source.partition(",")[2]))))
    above, below = np.array_split(picture, 2)
    assert (above == 255).sum() == 20 * 9 * training_views.SCALE**2 and not (below == 255).any()
    assert list(fig.layout.yaxis.ticktext) == ["peaks", "no peaks"]
