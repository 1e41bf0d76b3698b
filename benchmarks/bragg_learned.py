"""The learned finder in the benchmark of Bragg peaks: a contestant, on fresh simulated frames, and as a judge of hits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import torch

from benchmarks.limits import Limits
from lib import model as models
from lib import runs, tasks
from lib.model import Model
from lib.task import Samples
from lib.tasks.bragg import data, hits, matching, score, simulate
from lib.tasks.bragg.config import SIMULATION_PRESETS, Simulation
from lib.tasks.bragg.files import frames_of
from lib.tasks.bragg.frames import Frame

ONE_MPX = tuple(name for name in SIMULATION_PRESETS if " m, " in name)
FOUR_MPX = ("Eiger 4M", "Jungfrau 4M")
FRAMES_OF_A_PRESET = {"1 Mpx": 3, "4 Mpx": 4}
HIT_SHARE, HIT_FRAMES = 0.05, 400
SEED = 20_261_122  # of nothing that a model was trained on


@cache
def shipped() -> Model:
    """The model that ships. Raises InputError where there is none."""
    torch.set_num_threads(1)
    task = tasks.get("bragg")
    return models.load(runs.default_model("bragg"), task)


def judged(frame: Frame) -> pd.DataFrame:
    """All candidates of a frame with their scores."""
    parts = hits.candidates_of(frame).with_columns(of=0)
    return shipped().predict(parts, batch=1024)


def find(frame: Frame, _settings: dict[str, object]) -> np.ndarray:
    """Y and x (n, 2) of the peaks, by the threshold that the model came with."""
    table = judged(frame)
    return table.loc[table["is_peak"], ["y_px", "x_px"]].to_numpy(float)


def fresh(presets: tuple[str, ...], each: int) -> Samples:
    """Simulated frames of several experiments, `each` of every preset."""
    made = [
        simulate.simulate_frames(Simulation.parse(SIMULATION_PRESETS[name]), each, np.random.default_rng([SEED, number]))
        for number, name in enumerate(presets)
    ]
    return Samples({}, pd.concat([part.table for part in made])) if not made else _together(made)


def _together(made: list[Samples]) -> Samples:
    shapes = {part.inputs["frame"].shape[1:] for part in made}
    assert len(shapes) == 1, "frames of one size only"
    return Samples.concat(made)


def show_fresh(others: dict[str, Callable[[Frame], np.ndarray]], limits: Limits) -> None:
    """F1 on fresh simulated frames beside classical finders with the settings that were chosen for them."""
    print("\nfresh simulated frames, F1 (spots of I/σ ≥ 5 must be found, weaker ones may)")
    for name, presets in (("1 Mpx", ONE_MPX), ("4 Mpx", FOUR_MPX)):
        counts = {who: matching.Score(0, 0, 0) for who in ("learned", *others)}
        for preset in presets:
            samples = fresh((preset,), FRAMES_OF_A_PRESET[name])
            for row, frame in enumerate(frames_of(samples)):
                true = samples.table.iloc[row]
                spots = np.column_stack([true["true_y_px"], true["true_x_px"]])
                must = spots[np.asarray(true["true_snr"]) >= matching.WANTED_SNR]
                for who, look in {"learned": lambda f: find(f, {}), **others}.items():
                    counts[who] = counts[who] + matching.score(look(frame), must, spots, data.MATCH_PX)
        for who, told in counts.items():
            print(f"  {name} {who:<24}{told.f1:.3f} (precision {told.precision:.3f}, recall {told.recall:.3f})")
        limits.show(f"learned finder, {name}: F1", counts["learned"].f1, 0.98, 1)


def show_trust(limits: Limits) -> None:
    """Calibration of the score, and hits told from blanks, on simulated frames drawn like those of the training."""
    predicted, truth = [], []
    for number in range(HIT_FRAMES):
        frame, spots = simulate.draw_frame(np.random.default_rng([SEED, 1, number]), (512, 512))
        samples = data.labelled(Frame(frame.pixels, frame.mask, frame.geometry, "fresh", number), spots, missed=True)
        predicted.append(shipped().predict(samples, batch=1024))
        truth.append(score.truth(samples.table))
    scores, true = pd.concat(predicted, ignore_index=True), pd.concat(truth, ignore_index=True)
    limits.show("learned finder: ECE of the score on fresh frames", score.score(scores, true)["ece"], 0, 0.03)


def show_hits(limits: Limits) -> None:
    """Area under the ROC curve of hits in simulated runs of which one frame in twenty is a hit."""
    expected, is_hit = [], []
    for number, preset in enumerate(ONE_MPX):
        config = Simulation.parse({**SIMULATION_PRESETS[preset], "hit_fraction": HIT_SHARE, "height_px": 512, "width_px": 512})
        samples = simulate.simulate_frames(config, HIT_FRAMES // len(ONE_MPX), np.random.default_rng([SEED, 2, number]))
        for row, frame in enumerate(frames_of(samples)):
            expected.append(float(score.likely(judged(frame)["score"]).sum()))
            is_hit.append(bool(samples.table["true_is_hit"].iloc[row]))
    frames = pd.DataFrame({"expected_peaks": expected, "is_hit": is_hit})
    print(f"  {sum(is_hit)} hits in {len(is_hit)} frames")
    limits.show("learned finder: AUC of hits at 5 % hits", score.hit_auc(frames), 0.995, 1)
