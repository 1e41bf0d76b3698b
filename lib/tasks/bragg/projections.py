"""A whole run as one picture: the sum and the largest reading of every pixel, gathered frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lib.task import InputError, Phrase, Samples
from lib.tasks.bragg.files import frame_at
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
    total = largest = n_good = np.zeros(0)
    done, failures, stopped = 0, [], False
    for count, row in enumerate(chosen):
        if stopped := cancelled():
            break
        try:
            frame = frame_at(samples, row)
            if done and frame.pixels.shape != total.shape:
                problem = Phrase("is of another size than the frames before: {shape}", shape=str(frame.pixels.shape))
                raise InputError(frame.file, problem, "Project the frames of one detector")
        except InputError as error:
            failures.append((row, str(error)))
        else:
            if not done:
                total, n_good = np.zeros(frame.pixels.shape), np.zeros(frame.pixels.shape, np.int32)
                largest = np.full(frame.pixels.shape, np.nan, np.float32)
            np.add(total, frame.pixels, out=total, where=frame.mask)
            np.fmax(largest, frame.pixels, out=largest, where=frame.mask)
            n_good += frame.mask
            done += 1
        if on_progress is not None:
            on_progress((count + 1) / len(chosen), Phrase("{n} of {all} frames", n=count + 1, all=len(chosen)))
    if not done and not stopped:
        raise _nothing(failures)
    return Projection(total, largest, n_good, done, tuple(failures), stopped)


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
