"""Masks drawn by hand: strokes and rectangles over a picture, and the file they are kept in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lib.disk import MASKS
from lib.runs import data_dir, write_atomic
from lib.task import InputError, Phrase
from lib.uploads import archive_names

DATASET = "mask"
MEANING = "1 = good pixel, 0 = bad"  # an attribute of it, so that a copy tells what it is


@dataclass(frozen=True)
class Stroke:
    """Pixels drawn at once: a rectangle, or discs of `radius_px` around pixels `points_yx`; `good` makes them good again.

    `box` is (y0, y1, x0, x1), first row and column in, last ones out.
    """

    good: bool = False
    box: tuple[int, int, int, int] | None = None
    points_yx: tuple[tuple[int, int], ...] = ()
    radius_px: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        return {"good": self.good, "box": self.box, "points_yx": self.points_yx, "radius_px": self.radius_px}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Stroke:
        """The stroke that `to_json` wrote, or the viewer sent."""
        box = values.get("box")
        points = tuple((int(y), int(x)) for y, x in values.get("points_yx") or ())
        corners = (int(box[0]), int(box[1]), int(box[2]), int(box[3])) if box else None
        return Stroke(bool(values.get("good")), corners, points, int(values.get("radius_px") or 0))


def paint(mask: np.ndarray, strokes: Sequence[Stroke]) -> np.ndarray:
    """The mask (H, W) bool, True where a pixel is good, after the strokes, in their order; what leaves the picture is cut off."""
    painted = mask.copy()
    for stroke in strokes:
        if stroke.box is not None:
            y0, y1, x0, x1 = (max(0, edge) for edge in stroke.box)
            painted[y0:y1, x0:x1] = stroke.good
        for y, x in _disc(stroke.radius_px) if stroke.points_yx else ():
            points = np.asarray(stroke.points_yx) + (y, x)
            inside = points[((points >= 0) & (points < mask.shape)).all(axis=1)]
            painted[inside[:, 0], inside[:, 1]] = stroke.good
    return painted


def _disc(radius_px: int) -> list[tuple[int, int]]:
    """Offsets (y, x) of the pixels whose centre is at most `radius_px` away."""
    reach = range(-radius_px, radius_px + 1)
    return [(y, x) for y in reach for x in reach if y * y + x * x <= radius_px * radius_px]


def of_pixels(bad: np.ndarray) -> Stroke:
    """The stroke that masks the pixels (H, W) that are True."""
    return Stroke(points_yx=tuple((int(y), int(x)) for y, x in np.argwhere(bad)))


def folder_of(task: str) -> Path:
    """Where a task's drawn masks are kept; need not exist yet."""
    return data_dir() / task / MASKS


def names(task: str) -> list[str]:
    """File names of the masks that were drawn for a task, newest first."""
    found = list(folder_of(task).glob("*.h5"))
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def save(task: str, name: str, mask: np.ndarray) -> Path:
    """Write a mask (H, W) bool as `<name>.h5` with the dataset /mask, uint8, 1 = good; whole or not at all.

    Raises InputError for a name that cannot be one of a file or is taken, and where the file cannot be written.
    """
    if not name.strip() or archive_names([name]) != [name] or name.startswith("."):
        raise InputError(Phrase("name {name!r}", name=name), "it cannot be the name of a mask", "Use letters, digits, - and _.")
    path = folder_of(task) / f"{name}.h5"
    if path.exists():
        raise InputError(Phrase("name {name!r}", name=name), "there is such a mask already", "Choose another name.")
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        dataset = file.create_dataset(DATASET, data=mask.astype(np.uint8), compression="gzip", compression_opts=1)
        dataset.attrs["meaning"] = MEANING
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content.getvalue())
    except OSError as error:
        problem = Phrase("it cannot be written ({why})", why=error.strerror or str(error))
        raise InputError(str(path), problem, "Free some space and try again.") from error
    return path
