"""A run that lies in several datasets: its frames in order, each with the number it has in the whole run, whatever is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.task import InputError, Phrase
from lib.tasks.bragg.hdf5 import Stack
from lib.tasks.bragg.series import LOST, Block

FIRST_IMAGE = 1  # DECTRIS counts images from 1


@dataclass(frozen=True)
class Piece:
    """A dataset of a run: its frames, or why they cannot be read, and how many it declares, None where that is not known.

    `first_image` is the number that the file itself gives its first frame, None where it gives none; `event` names its group.
    """

    name: str
    inner: str
    stack: Stack | None = None
    error: InputError | None = None
    declared: int | None = None
    first_image: int | None = None
    event: str = ""

    def left_out(self) -> Phrase:
        """What is told of a piece that cannot be read."""
        why = "" if self.error is None else self.error.problem
        return Phrase("{key} was left out: {why}", key=self.name, why=why)


@dataclass
class Rows:
    """The frames of a run; `numbers`, `told` and `events` have an entry for each frame, `blocks` one for several.

    `declared` counts the frames of the run with those that are not here; `doubts` are those of `told` that are no errors.
    """

    blocks: list[Block] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    doubts: list[Phrase] = field(default_factory=list)
    declared: int = 0

    def add(self, blocks: Sequence[Block], numbers: Sequence[int], event: str, told: str = "") -> None:
        """Frames that lie in `blocks`, with their numbers in the run."""
        self.blocks += blocks
        self.numbers += numbers
        self.events += [event] * len(numbers)
        self.told += [told] * len(numbers)


def in_order(pieces: Sequence[Piece], shape: tuple[int, int], path: Path) -> Rows:
    """The frames of this shape; for each piece that cannot be read a row of index LOST that says why, as in the file `path`.

    A missing piece of unknown length is taken to be as long as the longest, and every frame behind it says so, unless the file
    of a later piece tells the number of its first frame.
    """
    rows = Rows()
    usual = max(piece.declared or 0 for piece in pieces if piece.stack is not None)
    at = end = 0  # number of the next frame, and of the one behind the last that is here
    images, unsure, lost = FIRST_IMAGE, list[str](), list[tuple[int, Piece]]()
    for piece in pieces:
        if piece.stack is None:
            lost.append((at, piece))
        else:
            told = None if piece.first_image is None else piece.first_image - images
            if unsure and told is not None and told >= end:
                at, unsure = told, []
            elif not unsure and piece.first_image is not None:
                images = piece.first_image - at
            lost = _tell_lost(rows, lost, at, path)
            if piece.stack.shape == shape:
                rows.add(piece.stack.blocks, (at + piece.stack.numbers).tolist(), piece.event, _doubt(rows, unsure, usual))
        if piece.declared is None:
            unsure.append(piece.name)
        at += usual if piece.declared is None else piece.declared
        end = end if piece.stack is None else at
    _tell_lost(rows, lost, at, path)
    rows.declared = at
    return rows


def _tell_lost(rows: Rows, lost: Sequence[tuple[int, Piece]], before: int, path: Path) -> list[tuple[int, Piece]]:
    """A row for each piece that is not here and has frames before that number; what is left to tell."""
    for number, piece in lost:
        if number < before:
            rows.add([Block(path, piece.inner, np.array([LOST]))], [number], piece.event, piece.left_out())
    return []


def _doubt(rows: Rows, unsure: Sequence[str], usual: int) -> str:
    """What is doubtful about the numbers of frames behind pieces of unknown length, told once of the whole file too."""
    if not unsure:
        return ""
    doubt = Phrase("frame numbers behind {missing} are uncertain: a missing file is taken to be as long as the longest, {n}",
                   missing=", ".join(unsure), n=usual)  # fmt: skip
    if doubt not in rows.doubts:
        rows.doubts.append(doubt)
    return doubt
