"""What the readers of file formats hand over: frames of one file that can be found again, none of them read yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lib.task import InputError, Phrase
from lib.tasks.bragg.masks import MaskSource

MIN_SIDE_PX = 8  # smaller frames have no room for a peak and its background
MAX_FRAME_PX = 2**26  # 8192², the largest detector in use; checked before anything is read
MAX_FRAMES = 10_000_000
LOST = -2  # index of a frame that stands for a dataset that should be there and is not


@dataclass(frozen=True)
class Inside:
    """Files that may be opened: everything in one folder, and those handed over together under the names people know."""

    folder: Path
    given: Mapping[str, Path] = field(default_factory=dict)

    def find(self, wanted: str, name: str, base: Path | None = None) -> Path:
        """The file that `name` asks for as `wanted`, relative to the folder `base`; if moved since, the one of that name here.

        Raises InputError where it lies outside the folder, by `..`, an absolute path or a symbolic link, or is not there.
        """
        last = wanted.replace("\\", "/").rpartition("/")[2]
        if last in self.given:
            return self.given[last]
        root = self.folder.resolve()
        target, here = ((base or self.folder) / wanted).resolve(), (root / last).resolve()
        if not (target.is_relative_to(root) and target.is_file()) and here.is_file():
            target = here
        if not target.is_relative_to(root):
            problem = Phrase("points to {file}, outside its own folder, which is never opened", file=wanted)
            raise InputError(name, problem, "Put both files into one folder and link them by name alone")
        if not target.is_file():
            raise InputError(
                name, Phrase("needs the file {file}, which is not here", file=wanted),
                "Put it into the same folder, or hand over both together",
            )  # fmt: skip
        return target


@dataclass(frozen=True)
class Facts:
    """What a file says of detector and beam; NaN or None where it says nothing.

    Distance and wavelength are one number, or an array (n,) with one for each frame.
    """

    center_yx_px: tuple[float, float] | None = None
    px_size_um: float | None = None
    distance_mm: float | np.ndarray = np.nan
    wavelength_angstrom: float | np.ndarray = np.nan
    saturation_adu: float = np.nan


@dataclass(frozen=True)
class Block:
    """Frames `index` (k,) of one dataset of one file; -1 where the dataset is a single frame. Images have no dataset.

    LOST instead of an index stands for a dataset that cannot be read: one row says why its frames are not here.
    """

    path: Path
    dataset: str
    index: np.ndarray


@dataclass(frozen=True)
class Series:
    """All frames of one file in their order, all of one shape (H, W).

    Readings below `low` or from `high` on, and readings equal to `equal`, are no measurements but marks of bad pixels.
    """

    shape: tuple[int, int]
    blocks: tuple[Block, ...]
    facts: Facts = Facts()
    masks: tuple[MaskSource, ...] = ()
    low: float | None = None
    high: float | None = None
    remarks: tuple[str, ...] = ()
    events: tuple[str, ...] = ()  # as CrystFEL names frames that have a group each
    numbers: np.ndarray | None = None  # of the frames in their file; counted from 0 where it is None
    told: tuple[str, ...] = ()  # of each frame what is wrong with it or doubtful, "" for nothing; empty where none has anything

    def __len__(self) -> int:
        return sum(len(block.index) for block in self.blocks)


def check_frame(shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    """Raises InputError where a declared frame (H, W) is too small, too large, or holds no plain numbers."""
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        problem = Phrase("holds {dtype} values, where a frame has whole or decimal numbers", dtype=str(dtype))
        raise InputError(name, problem, "Write the frames as integers or floats")
    height, width = shape
    if min(shape) < MIN_SIDE_PX:
        raise InputError(
            name, Phrase("has frames of {height} × {width} pixels, too small for a peak and its background (at least {least})",
                         height=height, width=width, least=MIN_SIDE_PX),
            "Give whole detector frames",
        )  # fmt: skip
    if height * width > MAX_FRAME_PX:
        size = height * width * dtype.itemsize / 2**30
        raise InputError(
            name, Phrase("declares frames of {height:,} × {width:,} pixels ({size:.1f} GiB each); at most {most:,} pixels",
                         height=height, width=width, size=size, most=MAX_FRAME_PX),
            "Check the file: no detector is that large",
        )  # fmt: skip
