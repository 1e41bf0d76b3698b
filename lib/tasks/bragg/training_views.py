"""What a training would learn from, to look at before it starts: some of its patches with their labels, and a frame of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel, Samples
from lib.tasks.bragg import data
from lib.tasks.bragg.candidates import PATCH_PX
from lib.tasks.bragg.data import Candidates, Lesson
from lib.tasks.bragg.frame_views import frame_figure
from lib.words import Say, english

LOOKED_AT = 3  # frames
COLUMNS, ROWS = 7, 3  # of patches, for each of peaks and others
DARK, BRIGHT = -1.0, 4.0  # asinh of z
BETWEEN_PX = 5
SCALE = 4  # screen pixels of one of a patch


def preview_panels(made: Candidates, say: Say = english) -> list[Panel]:
    """Panels from the first training frames; they are what the first epoch begins with. Raises InputError."""
    lessons = made.first_lessons(LOOKED_AT)
    taught = Samples.concat([lesson.taught for lesson in lessons])
    shown = max(lessons, key=lambda lesson: min(counts(lesson)))
    title = say("One of the frames")
    if made.config.labels:
        title += " · " + say("{file} · frame {n}", file=shown.frame.file, n=shown.frame.number)
    return [
        Panel("numbers", say("In numbers"), numbers(made, lessons, say)),
        Panel("patches", say("Patches and their labels"), patch_figure(taught, made.config.seed, say), say(
            "What the network sees of a place: how far each pixel stands out of the noise. It is to say yes to those above and "
            "no to those below. Grey pixels are masked."
        )),
        Panel("frame", title, lesson_figure(shown, say), say(
            "Places that are not circled are not learnt from: they are too weak to be sure of, or there are "
            "enough others."
        )),
    ]  # fmt: skip


def numbers(made: Candidates, lessons: Sequence[Lesson], say: Say = english) -> pd.DataFrame:
    """`quantity, value`: frames of each part, and what some training frames teach."""
    peaks, others = zip(*map(counts, lessons), strict=True)
    lost = sum(unseen(lesson) for lesson in lessons)
    told = [
        (say("frames to train on"), f"{made.sizes['train']:,}"),
        (say("frames to validate, calibrate and test on"), ", ".join(f"{made.sizes[part]:,}" for part in list(data.SPLITS)[1:])),
        (say("frames looked at here"), f"{len(lessons)}"),
        (say("peaks that are learnt from, per frame"), f"{np.mean(peaks):.1f}"),
        (say("places that are none, per frame"), f"{np.mean(others):.1f}"),
        (say("spots that nothing stands out at, per frame"), f"{lost / len(lessons):.1f}"),
    ]
    return pd.DataFrame(told, columns=[say("quantity"), say("value")])


def counts(lesson: Lesson) -> tuple[int, int]:
    """How many peaks and how many other places are learnt from in a frame."""
    peaks = int(lesson.taught.table["is_peak"].sum())
    return peaks, len(lesson.taught) - peaks


def unseen(lesson: Lesson) -> int:
    """How many spots of a frame that ought to be found no candidate is near to: no training can teach to find them."""
    told = data.labelled(lesson.frame, lesson.truth, missed=True).table
    return int((told["wanted"].astype(bool) & ~told["proposed"].astype(bool)).sum())


def patch_figure(taught: Samples, seed: int, say: Say = english) -> go.Figure:
    """Peaks above, others below, turned as in an epoch; a few of each, by chance."""
    rng = np.random.default_rng([seed, len(data.SPLITS)])
    seen = data.turned(taught, rng)
    is_peak = seen.table["is_peak"].to_numpy(bool)
    sheets = [_sheet(seen.inputs["patch"][kind], rng) for kind in (is_peak, ~is_peak)]
    gap = np.full((BETWEEN_PX, sheets[0].shape[1]), figures.GAP_LEVEL, np.uint8)
    picture = np.concatenate([sheets[0], gap, sheets[1]])
    middles = [sheets[0].shape[0] / 2, sheets[0].shape[0] + BETWEEN_PX + sheets[1].shape[0] / 2]
    fig = figures.figure(height=360)
    fig.add_trace(figures.image(picture, colours="gray", scale=SCALE).update(hoverinfo="skip", hovertemplate=None))
    figures.pixel_axes(fig, picture.shape, title=False).update_xaxes(visible=False)
    return fig.update_yaxes(tickvals=middles, ticktext=[say("peaks"), say("no peaks")], tickangle=-90, showline=False, ticks="")


def _sheet(patches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """ROWS × COLUMNS grey patches, of (n, 2, 15, 15) by chance; empty places are masked."""
    chosen = rng.permutation(len(patches))[: ROWS * COLUMNS]
    shown = np.full((ROWS * COLUMNS, PATCH_PX, PATCH_PX), figures.GAP_LEVEL, np.uint8)
    values, known = patches[chosen, 0], patches[chosen, 1] > 0
    shown[: len(chosen)] = np.where(known, figures.grey_levels(values, DARK, BRIGHT), figures.GAP_LEVEL)
    return figures.contact_sheet(shown, COLUMNS)


def lesson_figure(lesson: Lesson, say: Say = english) -> go.Figure:
    """The frame with the places that are learnt from."""
    table = lesson.taught.table
    is_peak = table["is_peak"].to_numpy(bool)
    kinds = ((say("peaks"), figures.ORANGE, is_peak), (say("no peaks"), figures.SKY, ~is_peak))
    y, x = table["y_px"].to_numpy(float), table["x_px"].to_numpy(float)
    return frame_figure(lesson.frame, [(name, colour, y[rows], x[rows]) for name, colour, rows in kinds], height=420)
