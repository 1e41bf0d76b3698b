"""A whole run as one picture: the sum and the largest reading of every pixel, gathered frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lib.task import Arrays, InputError, Phrase, Samples
from lib.tasks.bragg.files import frame_at
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.masks import MIN_FRAMES, BadPixels, bad_pixels


@dataclass(frozen=True)
class Projection:
    """Of the frames that could be read, over good pixels: sum (H, W) float64, largest float32 (NaN where none is good),
    and n_good int32, in how many frames a pixel was good. `n_frames` were added, `failures` (row, sentence) were not.
    """

    sum: np.ndarray
    largest: np.ndarray
    n_good: np.ndarray
    n_frames: int
    failures: tuple[tuple[int, str], ...]
    cancelled: bool = False

    @property
    def mean(self) -> np.ndarray:
        """Mean reading (H, W) of each pixel where it was good, NaN where it never was."""
        return np.divide(self.sum, self.n_good, out=np.full(self.sum.shape, np.nan), where=self.n_good > 0)


def project(
    samples: Samples,
    rows: Sequence[int] | None = None,
    on_progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Projection:
    """Project the frames of `rows`, or all, with one frame in memory at a time.

    `on_progress` gets the finished share, 0 to 1, and a text; once `cancelled` is true, what was gathered so far comes back.
    Frames that cannot be read, or are of another size than the first, are listed as failures. Raises InputError where none
    can be read.
    """
    chosen = range(len(samples)) if rows is None else rows
    gathered: Arrays = {}
    failures, stopped = [], False
    for count, row in enumerate(chosen):
        if stopped := cancelled():
            break
        try:
            gathered = add(gathered, frame_at(samples, row))
        except InputError as error:
            failures.append((row, str(error)))
        if on_progress is not None:
            on_progress((count + 1) / len(chosen), Phrase("{n} of {all} frames", n=count + 1, all=len(chosen)))
    if not gathered and not stopped:
        raise _nothing(failures)
    return projection(gathered, tuple(failures), stopped)


def add(gathered: Arrays, frame: Frame) -> Arrays:
    """What was gathered of other frames, {} at first, with this one in it: it is changed in place.

    Raises InputError for a frame of another size, and then changes nothing.
    """
    shape = frame.pixels.shape
    if not gathered:
        gathered = {
            "sum": np.zeros(shape), "largest": np.full(shape, np.nan, np.float32), "n_good": np.zeros(shape, np.int32),
            "n_frames": np.zeros(1, np.int64),
        }  # fmt: skip
    if shape != gathered["sum"].shape:
        problem = Phrase("is of another size than the frames before: {shape}", shape=str(shape))
        raise InputError(frame.file, problem, "Project the frames of one detector")
    np.add(gathered["sum"], frame.pixels, out=gathered["sum"], where=frame.mask)
    np.fmax(gathered["largest"], frame.pixels, out=gathered["largest"], where=frame.mask)
    gathered["n_good"] += frame.mask
    gathered["n_frames"] += 1
    return gathered


def projection(gathered: Arrays, failures: tuple[tuple[int, str], ...] = (), cancelled: bool = False) -> Projection:
    """What `add` gathered; empty arrays where it was nothing."""
    if not gathered:
        return Projection(np.zeros(0), np.zeros(0), np.zeros(0), 0, failures, cancelled)
    n_frames = int(gathered["n_frames"][0])
    return Projection(gathered["sum"], gathered["largest"], gathered["n_good"], n_frames, failures, cancelled)


def _nothing(failures: Sequence[tuple[int, str]]) -> InputError:
    if failures:
        problem = Phrase("none of {n} frames can be read; the first: {why}", n=len(failures), why=failures[0][1])
        return InputError("projection", problem, "Mend the files, or leave these frames out")
    return InputError("projection", "there are no frames", "Choose at least one")


def find_bad_pixels(samples: Samples, n_frames: int = 32, *, n_sigma: float = 8.0, share: float = 0.8) -> BadPixels:
    """Hot and dead pixels of a run from at most `n_frames` frames spread evenly over it, as `bad_pixels` tells them.

    Raises InputError where a frame cannot be read or there are too few.
    """
    spread = np.unique(np.linspace(0, len(samples) - 1, min(max(n_frames, MIN_FRAMES), len(samples))).astype(int))
    frames = (frame_at(samples, int(row)) for row in spread)
    return bad_pixels(((frame.pixels, frame.mask) for frame in frames), n_sigma=n_sigma, share=share)
