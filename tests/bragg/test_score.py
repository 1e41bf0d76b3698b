"""Figures of merit: perfect is perfect, thresholds keep what they were chosen for, candidates get the right labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.task import Samples
from lib.tasks.bragg import data, hits, score
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry

SHAPE = (96, 128)


def labelled(
    missed: bool = True, spots: tuple[tuple[float, float, float], ...] = ((48, 64, 3000), (20, 30, 1500)), unseen_snr: float = 3.0
):
    """Candidates of a noisy frame with these spots (y, x, photons), and one that nobody can see."""
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = np.full(SHAPE, 20.0)
    for y, x, photons in spots:
        light += photons * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 2) / (2 * np.pi)
    pixels = np.random.default_rng(0).poisson(light).astype(np.float32)
    truth = pd.DataFrame([*spots, (70.0, 100.0, 0.01)], columns=["y_px", "x_px", "intensity"])
    truth["snr"] = [*(photons / 20 for _, _, photons in spots), unseen_snr]
    frame = Frame(pixels, np.ones(SHAPE, bool), Geometry.flat(SHAPE), "made", 3)
    return data.labelled(frame, truth, missed=missed)


def test_spots_become_labels_and_unseen_ones_are_told() -> None:
    table = labelled().table
    peaks = table[table["is_peak"]]
    assert len(peaks) == 3 and peaks["wanted"].sum() == 2
    assert set(peaks.loc[peaks["wanted"], "true_y_px"]) == {48.0, 20.0}
    assert (peaks.loc[peaks["wanted"], "off_px"] < 0.3).all()
    unseen = table[~table["proposed"]]
    assert len(unseen) <= 1 and (unseen["true_y_px"] == 70).all()
    assert labelled(unseen_snr=1.0).table["is_peak"].sum() == 2, "too weak to be told"
    assert not labelled(missed=False).table["proposed"].eq(False).any()
    assert (table["file"] == "made").all() and (table["frame"] == 3).all()


def test_a_blank_frame_has_one_row_that_is_no_peak() -> None:
    blank = Frame(np.full(SHAPE, 5, np.float32), np.ones(SHAPE, bool), Geometry.flat(SHAPE), "blank", 0)
    samples = data.labelled(blank, pd.DataFrame({"y_px": [], "x_px": [], "snr": []}), missed=True)
    assert len(samples) == 1 and not samples.table["is_peak"].any() and not samples.table["proposed"].any()


def test_the_truth_as_a_prediction_is_perfect() -> None:
    truth = score.truth(labelled().table)
    told = score.score(truth, truth)
    assert told["f1"] == told["precision"] == told["recall"] == told["best_f1"] == told["average_precision"] == 1
    assert told["ece"] == pytest.approx(0)


def test_what_nothing_proposed_cannot_be_found() -> None:
    table = labelled().table.assign(proposed=False)
    found = score.decode(np.ones(len(table)), table, {})
    assert not found["is_peak"].any() and (found["score"] == 0).all()
    assert score.score(found, score.truth(table))["recall"] == 0


def test_weak_spots_are_neither_missed_nor_false() -> None:
    is_peak, wanted = np.array([True, True, False]), np.array([True, False, False])
    assert score.counts(np.array([True, True, False]), is_peak, wanted) == {"precision": 1, "recall": 1, "f1": 1}
    assert score.counts(np.array([True, False, False]), is_peak, wanted)["recall"] == 1
    assert score.counts(np.array([True, False, True]), is_peak, wanted)["precision"] == 0.5


def test_of_two_peaks_at_one_place_the_certain_one_stays() -> None:
    table = pd.DataFrame({"of": [0, 0, 1], "y_px": [10.0, 11, 10], "x_px": [10.0, 11, 10], "proposed": True})
    table = table.assign(file="f", frame=table["of"], intensity=1.0, snr=1.0, n_pixels=1, resolution_angstrom=np.nan)
    table = table.assign(max_value=1.0, background=0.0)
    assert list(score.decode(np.array([0.8, 0.9, 0.7]), table, {})["is_peak"]) == [False, True, True]


def test_the_best_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    is_peak = rng.random(400) < 0.3
    scores = np.clip(rng.normal(0.35 + 0.3 * is_peak, 0.15), 0.001, 0.999)
    threshold, f1 = score.best_threshold(scores, is_peak, is_peak)
    assert score.counts(scores >= threshold, is_peak, is_peak)["f1"] == pytest.approx(f1)
    assert f1 == pytest.approx(max(score.counts(scores >= t, is_peak, is_peak)["f1"] for t in scores))


def test_a_frame_of_many_spots_does_not_decide_alone() -> None:
    """Ten frames want a high threshold, one with a hundred times as many spots a low one."""
    few = np.repeat(np.arange(10), 2)
    frame = np.concatenate([few, np.full(2000, 10)])
    scores = np.concatenate([np.tile([0.95, 0.6], 10), np.full(2000, 0.4)])
    is_peak = np.concatenate([np.tile([True, False], 10), np.ones(2000, bool)])
    assert score.best_threshold(scores, is_peak, is_peak)[0] < 0.4
    assert score.frame_threshold(scores, is_peak, is_peak, frame) == pytest.approx(0.775, abs=0.005), "between the two"


@pytest.mark.parametrize("budget", [0.5, 3.0, 1000.0])
def test_a_budget_of_false_peaks_is_kept(budget: float) -> None:
    rng = np.random.default_rng(1)
    scores, is_peak = rng.uniform(0.01, 1, 300), rng.random(300) < 0.2
    threshold = score.budget_threshold(scores, is_peak, 10.0, budget)
    assert (scores[~is_peak] >= threshold).sum() <= 10 * budget


def test_calibration_error_of_honest_and_of_boastful_scores() -> None:
    rng = np.random.default_rng(2)
    scores = rng.uniform(0, 1, 20_000)
    is_peak = rng.random(20_000) < scores
    assert score.calibration_error(scores, is_peak) < 0.02
    assert score.calibration_error(np.sqrt(scores), is_peak) > 0.1


def test_hits_are_told_from_blanks() -> None:
    predicted = pd.DataFrame(
        {"file": "f", "frame": [0, 0, 1, 2], "score": [0.9, 0.8, 0.1, 0.2], "is_peak": [True, True, False, False]}
    )
    truth = pd.DataFrame({"is_peak": [True, True, False, False], "wanted": [True, True, False, False]})
    samples = predicted[["file", "frame"]].assign(megapixels=1.0, noise=[1.0, 1.0, 1.1, 1.2], per_mpx=[9.0, 9.0, 5.0, 6.0])
    facts = hits.certify(predicted, truth, samples, "F1", 1.0)
    assert 0.2 < facts["threshold"] <= 0.8 and 0 < facts["hit_peaks"] < 1.7
    assert facts["range"]["noise"][0] < 1 < 1.2 < facts["range"]["noise"][1]
    assert score.hit_auc(score.per_frame(predicted, truth)) == 1


@pytest.mark.parametrize("n", [1, 2, 8])
def test_frames_of_the_detector_that_few_labels_are_of_are_seldom_called_strange(n: int) -> None:
    """One further frame falls outside as rarely as promised: 2 % of them, 1 % at each end."""
    rng, outside = np.random.default_rng(n), 0
    for _ in range(60):
        noise = rng.normal(1.2, 0.01, n)
        told = ranged(noise, rng.normal(300, 30, n))
        outside += strange(noise=rng.normal(1.2, 0.01), per_mpx=0.0, facts=told) != ""
    assert outside <= 5


def test_another_detector_is_strange_even_after_few_labels() -> None:
    told = ranged(np.linspace(1.19, 1.21, 8), np.linspace(280, 330, 8))
    assert "noise" in strange(noise=1.5, per_mpx=300, facts=told) and "noise" in strange(noise=0.9, per_mpx=300, facts=told)
    assert "stand out" in strange(noise=1.2, per_mpx=3000, facts=told)
    assert strange(noise=1.2, per_mpx=0, facts=told) == "", "a blank frame"


def ranged(noise: np.ndarray, per_mpx: np.ndarray) -> dict[str, object]:
    """What calibration frames like these have certified, one candidate each."""
    samples = pd.DataFrame({"file": "f", "frame": range(len(noise)), "megapixels": 1.0, "noise": noise, "per_mpx": per_mpx})
    predicted = samples[["file", "frame"]].assign(score=0.9, is_peak=True)
    truth = pd.DataFrame({"is_peak": True, "wanted": True}, index=samples.index)
    return hits.certify(predicted, truth, samples, "F1", 1.0)


def strange(*, noise: float, per_mpx: float, facts: dict[str, object]) -> str:
    """What a prediction notes of a frame with these readings."""
    judged = pd.DataFrame({"of": [0], "score": [0.9], "is_peak": [True], "note": [""], "noise": [noise], "per_mpx": [per_mpx]})
    judged = judged.assign(megapixels=1.0, wanted=True)
    frames = Samples({}, pd.DataFrame({"file": ["f"], "frame": [0]}))
    return str(hits.whole(judged, frames, facts)[0].loc[0, "note"])
