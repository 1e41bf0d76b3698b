"""Candidates with labels: from simulated frames, or from frames that a user labelled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from lib import labels
from lib.task import InputError, Phrase, Samples, Split, TrainingData
from lib.tasks.bragg import candidates, causes, files, finders, folders, matching
from lib.tasks.bragg.config import Acquisition, drawn_mask
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.matching import WANTED_SNR
from lib.tasks.bragg.settings import Training

if TYPE_CHECKING:
    from lib.tasks.bragg import networks

SPLITS: dict[Split, int] = {"train": 0, "validation": 1, "calibration": 2, "test": 3}
MATCH_PX = 2.0  # a candidate this near to a spot's centre is that spot
TOLD_SNR = 2.0  # weaker spots that nothing is near to are not told
TAUGHT_SNR = 3.0  # weaker spots are neither peaks nor none to learn from

PEERS = {"peakfinder8": "peakfinder8", "dispersion": "dispersion extended", "local_maxima": "threshold and local maxima"}

SHARES = (0.15, 0.1, 0.15)  # of labelled frames, at least one each: for validation, calibration, test
FEWEST_LABELLED = 10
Source = Callable[[Split, int, np.random.Generator], tuple[Frame, pd.DataFrame]]
Drawer = Callable[[np.random.Generator, tuple[int, int]], tuple[Frame, pd.DataFrame]]


def labelled(frame: Frame, truth: pd.DataFrame, *, missed: bool) -> Samples:
    """The candidates of a frame with their labels, one row each.

    `truth` has `y_px, x_px, snr` of every spot. Columns of the table beside those of `candidates`: `is_peak` (the nearest
    candidate within MATCH_PX of a spot), `wanted` (that spot has WANTED_SNR or more), `true_snr, true_y_px, true_x_px` of that
    spot, `off_px` (distance to it), `nearest_px` (distance to any spot), `unsure` (a further candidate beside the same spot).
    With `missed`, spots that no candidate is near to are rows too, with `proposed` False: nothing can find them; and a frame
    with neither has one such row, which is no peak; and the columns of `causes.told` are there.
    """
    spots = truth[["y_px", "x_px"]].to_numpy(float)
    seen = candidates.see(frame)
    place = seen.places()
    n = len(place)
    centres = seen.at(place).table[["y_px", "x_px"]].to_numpy(float)
    spot, distance, further = match(centres, spots)
    seeable = np.flatnonzero(truth["snr"].to_numpy(float) >= TOLD_SNR)
    lost = np.setdiff1d(seeable, spot[spot >= 0])
    if missed and (len(lost) or not n):
        place = np.concatenate([place, spots[lost] if len(lost) else np.zeros((1, 2))])
        spot = np.concatenate([spot, lost if len(lost) else [-1]])
    more = len(place) - n
    nearest = KDTree(spots).query(centres)[0] if len(spots) and n else np.full(n, np.inf)
    samples = candidates.samples_at(frame, seen, place, np.arange(len(place)) < n, n)
    is_peak = spot >= 0
    true = truth[["y_px", "x_px", "snr"]].reset_index(drop=True).reindex(np.where(is_peak, spot, -1)).reset_index(drop=True)
    true = true.astype(np.float32)
    beside = {
        "nearest_px": np.concatenate([nearest, np.zeros(more)]),
        "off_px": np.concatenate([distance, np.full(more, np.nan)]),
    }
    around = causes.told(frame, *samples.table[["y_px", "x_px"]].to_numpy(float).T) if missed else {}
    return samples.with_columns(
        **around, is_peak=is_peak, wanted=is_peak & (true["snr"] >= WANTED_SNR).to_numpy(bool), true_snr=true["snr"].to_numpy(),
        true_y_px=true["y_px"].to_numpy(), true_x_px=true["x_px"].to_numpy(),
        unsure=np.concatenate([further, np.zeros(more, bool)]),
        **{name: values.astype(np.float32) for name, values in beside.items()},
    )  # fmt: skip


def match(place: np.ndarray, spots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of candidates at place (n, 2): the spot (k, 2) each is, −1 for none; its distance in px; whether another has that spot."""
    spot, distance = np.full(len(place), -1), np.full(len(place), np.nan)
    pairs = matching.match(place, spots, MATCH_PX)
    spot[pairs[:, 0]] = pairs[:, 1]
    distance[pairs[:, 0]] = np.hypot(*(place[pairs[:, 0]] - spots[pairs[:, 1]]).T)
    return spot, distance, (spot < 0) & matching.explained(place, spots, MATCH_PX)


def beside_peers(samples: Samples, frame: Frame, truth: pd.DataFrame) -> Samples:
    """With columns of how many spots each classical finder found, made up and missed, and of the milliseconds that it took.

    All are in the frame's first row; the others have no count and no time.
    """
    spots = truth[["y_px", "x_px"]].to_numpy(float)
    wanted = spots[(truth["snr"] >= WANTED_SNR).to_numpy(bool)]
    columns: dict[str, np.ndarray] = {}
    for name in PEERS:
        begin = time.perf_counter()
        found = finders.find(frame, finders.get(name)())[["y_px", "x_px"]].to_numpy(float)
        columns[f"{name}_ms"] = in_first(samples, 1000 * (time.perf_counter() - begin))
        told = matching.score(found, wanted, spots, MATCH_PX)
        for kind, n in (("right", told.true_positives), ("false", told.false_positives), ("missed", told.missed)):
            columns[f"{name}_{kind}"] = np.where(np.arange(len(samples)) == 0, n, 0).astype(np.int32)
    return samples.with_columns(**columns)


def in_first(samples: Samples, value: float) -> np.ndarray:
    """(n,) float32: the value in the first row, NaN in the others."""
    return np.where(np.arange(len(samples)) == 0, value, np.nan).astype(np.float32)


def thin(samples: Samples, most: int, hard: float, rng: np.random.Generator) -> Samples:
    """The sure rows of a training frame: at most so many peaks, and so many others.

    Of the others a share `hard`, 0 to 1, are the strongest (hard negatives), the rest is drawn from those that are left.
    """
    table = samples.table
    weak = (table["true_snr"] < TAUGHT_SNR).to_numpy(bool)
    sure = ~table["unsure"].to_numpy(bool) & ~weak
    no = np.flatnonzero(sure & ~table["is_peak"].to_numpy(bool))  # strongest first, as candidates come
    if len(no) > most:
        strongest = no[: round(most * hard)]
        no = np.concatenate([strongest, rng.choice(no[len(strongest) :], most - len(strongest), replace=False)])
    yes = np.flatnonzero(sure & table["is_peak"].to_numpy(bool))
    if len(yes) > most:
        yes = rng.choice(yes, most, replace=False)
    return samples.take(np.sort(np.concatenate([yes, no])))


def turned(samples: Samples, rng: np.random.Generator) -> Samples:
    """Each patch in one of its eight orientations: a peak is a peak in all of them."""
    patch = samples.inputs["patch"].astype(np.float32)
    way = rng.integers(0, 8, len(patch))
    for k in range(8):
        some = patch[way == k]
        some = some.swapaxes(2, 3) if k & 4 else some
        some = some[:, :, ::-1] if k & 2 else some
        patch[way == k] = some[:, :, :, ::-1] if k & 1 else some
    return Samples({**samples.inputs, "patch": patch}, samples.table, samples.common)


@dataclass(frozen=True)
class Lesson:
    """A training frame, its spots (`y_px, x_px, snr`), and the candidates of it that are learnt from."""

    frame: Frame
    truth: pd.DataFrame
    taught: Samples


class Candidates(TrainingData):
    """Candidates of frames that `source` gives by split and number; those for training are turned in every epoch."""

    def __init__(self, config: Training, sizes: Mapping[Split, int], source: Source) -> None:
        self.config, self.sizes, self.source = config, sizes, source
        self.kept: dict[int, tuple[int, Samples]] = {}
        self.network: networks.Judge | None = None  # to tell how long a model takes

    def facts(self) -> dict[str, Any]:
        """How the threshold is to be chosen."""
        return {"threshold_by": self.config.threshold_by, "false_peaks_per_mpx": self.config.false_peaks_per_mpx}

    def batches(self, split: Split) -> int:
        """How many batches the split has in one epoch."""
        return math.ceil(self.sizes[split] / self.config.batch_size)

    def batch(self, split: Split, epoch: int, index: int) -> Samples:
        """Batch `index`, the same on any machine."""
        if split != "train":
            return self._make(split, 0, index)
        generation = epoch // self.config.passes
        kept = self.kept.get(index)
        if kept is None or kept[0] != generation:
            made = self._make(split, generation, index)
            small = Samples({**made.inputs, "patch": made.inputs["patch"].astype(np.float16)}, made.table[["is_peak"]])
            kept = self.kept[index] = generation, small
        return turned(kept[1], np.random.default_rng([self.config.seed, len(SPLITS), epoch, index]))

    def _make(self, split: Split, generation: int, index: int) -> Samples:
        rng = np.random.default_rng([self.config.seed, SPLITS[split], generation, index])
        first = index * self.config.batch_size
        frames = range(first, min(first + self.config.batch_size, self.sizes[split]))
        return Samples.concat([self._one(split, number, rng) for number in frames])

    def _one(self, split: Split, number: int, rng: np.random.Generator) -> Samples:
        if split == "train":
            return self.lesson(number, rng).taught
        frame, truth = self.source(split, number, rng)
        samples = labelled(frame, truth, missed=True)
        if split != "test":
            return samples
        return beside_peers(samples, frame, truth).with_columns(model_ms=in_first(samples, self._model_ms(frame)))

    def lesson(self, number: int, rng: np.random.Generator) -> Lesson:
        """Training frame `number` and what is learnt from it."""
        frame, truth = self.source("train", number, rng)
        most, hard = self.config.candidates_per_frame, self.config.hard_negative_fraction
        return Lesson(frame, truth, thin(labelled(frame, truth, missed=False), most, hard, rng))

    def first_lessons(self, most: int) -> list[Lesson]:
        """The first frames of the first epoch's first batch, at most so many, as training makes them."""
        rng = np.random.default_rng([self.config.seed, SPLITS["train"], 0, 0])
        return [self.lesson(number, rng) for number in range(min(most, self.config.batch_size, self.sizes["train"]))]

    def _model_ms(self, frame: Frame) -> float:
        """Milliseconds from a frame to its candidates' scores, by a network of this size on one core, as its peers are timed."""
        import torch

        from lib.tasks.bragg import networks

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            if self.network is None:
                with torch.random.fork_rng(devices=[]):  # its weights do not matter, and nobody's random state may move
                    self.network = networks.build(self.config.model, self.config.width, self.config.dropout).eval()
                _judge(self.network, frame)  # the first time is longer
            begin = time.perf_counter()
            _judge(self.network, frame)
            return 1000 * (time.perf_counter() - begin)
        finally:
            torch.set_num_threads(threads)


def _judge(network: networks.Judge, frame: Frame) -> None:
    """All that a model of this kind does with a frame."""
    import torch

    found = candidates.find(frame)
    with torch.inference_mode():
        network.physical(torch.from_numpy(found.patch), torch.from_numpy(found.context))


def simulated(config: Training, draw: Drawer) -> Candidates:
    """Of simulated frames, each of an experiment of its own."""
    sizes: dict[Split, int] = {
        "train": config.frames_per_epoch, "validation": config.validation_frames, "calibration": config.calibration_frames,
        "test": config.test_frames,
    }  # fmt: skip

    def source(split: Split, number: int, rng: np.random.Generator) -> tuple[Frame, pd.DataFrame]:
        frame, truth = draw(rng, (config.frame_px, config.frame_px))
        return replace(frame, file=f"simulated {split}", number=number), truth

    return Candidates(config, sizes, source)


def labelled_by_hand(config: Training) -> Candidates:
    """Of frames that people marked as done: what they marked are peaks, all else that stands out is none.

    Frames are read as they were when they were labelled, and dealt to the splits by chance, always the same for one seed; what
    was marked under their mask is left out. Raises InputError where frames, labels or the mask are missing.
    """
    marked = labels.load(labels.folder_of("bragg") / config.labels)
    frames = folders.of_folder(config.data, {file: _known(marked, file, config.mask) for file, _ in marked.done})
    places = {place: row for row, place in enumerate(labels.places(frames.table))} if frames is not None else {}
    rows = [(places[place], place) for place in sorted(marked.done) if place in places]
    if frames is None or len(rows) < FEWEST_LABELLED:
        problem = Phrase(
            "only {n} of its frames that are done are in {folder}, at least {least} are needed", n=len(rows),
            folder=config.data, least=FEWEST_LABELLED,
        )  # fmt: skip
        remedy = "Label more frames and mark them as done, or name the folder they lie in."
        raise InputError(Phrase("label set {name}", name=config.labels), problem, remedy)
    order = np.random.default_rng([config.seed, len(SPLITS) + 1]).permutation(len(rows))
    others = [math.ceil(share * len(rows)) for share in SHARES]
    first = np.cumsum([len(rows) - sum(others), *others[:-1]])
    dealt = dict(zip(SPLITS, np.split(order, first), strict=True))

    def source(split: Split, number: int, _rng: np.random.Generator) -> tuple[Frame, pd.DataFrame]:
        row, place = rows[dealt[split][number]]
        frame = files.frame_at(frames, row)
        return frame, on_good_pixels(marked.points(*place), frame.mask).assign(snr=np.inf)

    sizes: dict[Split, int] = {split: len(numbers) for split, numbers in dealt.items()}
    return Candidates(config.model_copy(update={"batch_size": min(config.batch_size, sizes["train"])}), sizes, source)


def _known(marked: labels.LabelSet, file: str, mask: str) -> Acquisition:
    """What was typed of a file when it was labelled, but for the mask where another one is named.

    Raises InputError where a label set of another version holds what is no setting.
    """
    typed = dict(marked.acquisitions.get(file, {}))
    return Acquisition.parse(typed | (drawn_mask(mask) if mask else {}), Phrase("label set {name}", name=marked.name))


def on_good_pixels(points: pd.DataFrame, mask: np.ndarray) -> pd.DataFrame:
    """Those of the points (`y_px, x_px`) that lie on good pixels of the mask (H, W), or beside the frame."""
    row, column = (np.rint(points[axis].to_numpy(float)).astype(int) for axis in ("y_px", "x_px"))
    inside = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
    hidden = np.zeros(len(points), bool)
    hidden[inside] = ~mask[row[inside], column[inside]]
    return points[~hidden]
