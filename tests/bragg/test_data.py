"""Training data: simulated frames by number, and frames that people labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import drawn, labels, runs
from lib.task import InputError, Split
from lib.tasks.bragg import data, files, simulate, write
from lib.tasks.bragg.config import Acquisition, Simulation, drawn_mask
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import LEAST_SPACING_PX, Geometry
from lib.tasks.bragg.settings import Training
from tests.bragg.bad_frames import SHAPE, frames, write_nxmx

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


FALSE_PEAKS = 40  # planted, each brighter than the one before


def with_false_peaks(_split: Split, _number: int, _rng: np.random.Generator) -> tuple[Frame, pd.DataFrame]:
    """A frame of noise with bright spots, the rows of which tell how bright; nobody marked one."""
    pixels = np.random.default_rng(5).poisson(20, (1000, 64)).astype(np.float32)
    for k in range(FALSE_PEAKS):
        pixels[20 + 24 * k : 22 + 24 * k, 31:33] += 100 * 1.1**k
    return Frame(pixels, np.ones(pixels.shape, bool), Geometry.flat((1000, 64))), pd.DataFrame(
        {"y_px": [], "x_px": [], "snr": []}
    )


def taught_ranks(fraction: float | None, seed: int = 0) -> np.ndarray:
    """Which of the planted spots a training learns from, 0 the brightest, at that `hard_negative_fraction`, ten a frame."""
    given = {} if fraction is None else {"hard_negative_fraction": fraction}
    config = Training.parse({"candidates_per_frame": 10, "batch_size": 1, "seed": seed, **given})
    taught = data.Candidates(config, {"train": 1}, with_false_peaks).batch("train", 0, 0)
    assert len(taught) == 10 and not taught.table["is_peak"].any()
    rows = data.Candidates(config, {"train": 1}, with_false_peaks).first_lessons(1)[0].taught.table["row_px"]
    return np.sort(FALSE_PEAKS - 1 - np.rint((rows.to_numpy() - 20.5) / 24).astype(int))


def test_all_some_or_none_of_the_false_candidates_learnt_from_are_the_strongest() -> None:
    assert taught_ranks(1.0).tolist() == list(range(10))
    assert taught_ranks(0.5)[:5].tolist() == list(range(5)) and taught_ranks(0.5)[5:].max() > 9
    by_chance = np.concatenate([taught_ranks(0.0, seed) for seed in range(20)])
    among_strongest = np.mean(by_chance < 10)
    assert 0.1 < among_strongest < 0.4, "a quarter of them are, which is what chance gives"
    np.testing.assert_array_equal(taught_ranks(None), taught_ranks(0.5))


def test_a_model_from_before_hard_negatives_could_be_chosen_took_half() -> None:
    before = {key: value for key, value in runs.default_model("bragg").config().items() if key != "hard_negative_fraction"}
    assert Training.parse(before).hard_negative_fraction == 0.5
    with pytest.raises(InputError, match="hard_negative_fraction"):
        Training.parse({"hard_negative_fraction": 1.1})


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


TYPED = {"beam_center_y_px": 10.0, "beam_center_x_px": 7.0, "px_size_um": 75.0, "distance_mm": 90.0, "photon_energy_ev": 9000.0,
         "bad_rectangles": ["30:40:0:48"]}  # fmt: skip


@pytest.fixture(params=[False, True], ids=["file without geometry", "file with its own"])
def typed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose frames were labelled with the instrument typed in, near whose beam all that stands out lies."""
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    folder = tmp_path / "data" / "bragg" / "run"
    folder.mkdir(parents=True)
    labels.create("bragg", "mine")
    return write_nxmx(folder / "run.h5", frames(FRAMES), facts=request.param)


def mark(acquisition: dict[str, object] | None) -> None:
    """Two marks on every frame: on the spot, and where the typed rectangle is."""
    changes = [labels.Change(("bragg/run/run.h5", n), ((5.0 + n, 7.0), (35.0, 20.0)), done=True) for n in range(FRAMES)]
    labels.change(labels.folder_of("bragg") / "mine", changes, acquisition=acquisition)


def first_frame(**settings: str) -> tuple[Frame, pd.DataFrame]:
    made = data.labelled_by_hand(Training(labels="mine", data="run", **settings))
    return made.source("train", 0, np.random.default_rng(0))


def test_what_was_typed_while_labelling_is_what_training_reads_the_frames_with(typed: Path) -> None:
    mark(TYPED)
    frame, truth = first_frame()
    predicted = files.frame_at(files.read(typed, Acquisition.parse(TYPED)), 0)
    assert frame.geometry == predicted.geometry and frame.geometry.distance_mm == 90
    np.testing.assert_array_equal(frame.mask, predicted.mask)
    assert not frame.mask[30:].any() and len(truth) == 1, "what was marked in the typed rectangle is left out"
    made = data.labelled_by_hand(Training(labels="mine", data="run"))
    table = made.batch("test", 0, 0).table
    found = table[table["proposed"]]
    assert not (np.hypot(found["row_px"] - 10, found["column_px"] - 7) < LEAST_SPACING_PX).any()
    assert table["resolution_angstrom"].notna().all()


def test_labels_of_nobody_who_typed_leave_it_to_the_file(typed: Path) -> None:
    mark(TYPED)
    mark(None)
    assert first_frame()[0].geometry.distance_mm == 90, "a change that says nothing of the instrument leaves what was noted"
    mark({})
    own = files.frame_at(files.read(typed, Acquisition()), 0)
    frame, truth = first_frame()
    assert frame.geometry == own.geometry and frame.mask[32:].all() and len(truth) == 2


def test_the_mask_of_then_is_used_unless_the_training_names_another(typed: Path) -> None:
    for name, place in (("then", np.s_[:, :5]), ("now", np.s_[:, 40:])):
        good = np.ones(SHAPE, bool)
        good[place] = False
        drawn.save("bragg", name, good)
    mark(TYPED | drawn_mask("then.h5"))
    then, now = first_frame()[0], first_frame(mask="now.h5")[0]
    assert not then.mask[:, :5].any() and then.mask[:20, 40:].all()
    assert now.mask[:20, :5].all() and not now.mask[:, 40:].any() and not now.mask[30:].any()
    assert now.geometry.distance_mm == 90


def test_a_set_with_a_setting_that_is_none_names_itself(typed: Path) -> None:
    mark({"colour": "red"})
    with pytest.raises(InputError, match=r"label set mine: unknown key 'colour'"):
        data.labelled_by_hand(Training(labels="mine", data="run"))
