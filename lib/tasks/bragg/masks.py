"""Which pixels are good: the conventions of detectors and programs, rectangles, and bad pixels found in a run.

Masks are bool (H, W), True where a pixel is good. Files differ: CXI, NeXus and pyFAI write 0 for good, OM and CrystFEL 1;
Pilatus marks bad pixels by negative readings, Eiger by the largest number. All become two sets of bits, as in CrystFEL: a pixel
is good where it has every bit of `good_bits` and none of `bad_bits`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import TypeAdapter
from scipy import ndimage

from lib.task import InputError, Phrase
from lib.tasks.bragg.geometry import Geometry

ALL_BITS = 2**63 - 1
ZERO_IS_GOOD = (0, ALL_BITS)
ONE_IS_GOOD = (1, 0)
MIN_FRAMES = 5  # fewer cannot tell a hot pixel from a spot that stays


@dataclass(frozen=True)
class MaskSource:
    """A mask in a file: the dataset of an HDF5 file ("" for an image), and what its values mean.

    `per_frame`: the dataset is (N, H, W) and its frame `index` belongs to frame `index` of the data.
    """

    path: str
    dataset: str = ""
    good_bits: int = ZERO_IS_GOOD[0]
    bad_bits: int = ZERO_IS_GOOD[1]
    per_frame: bool = False


@dataclass(frozen=True)
class MaskPlan:
    """How the mask of a frame is made: files, areas, and readings that are no measurements.

    `boxes` are rectangles (y0, y1, x0, x1) of the array; `lab_boxes` (y low, y high, x low, x high) in pixels from the beam.
    Readings below `low`, from `high` on, or equal to one of `equal` mark bad pixels.
    """

    sources: tuple[MaskSource, ...] = ()
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    lab_boxes: tuple[tuple[float, float, float, float], ...] = ()
    low: float | None = None
    high: float | None = None
    equal: tuple[float, ...] = ()

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> MaskPlan:
        """The plan that `to_json` wrote."""
        return TypeAdapter(MaskPlan).validate_json(text)


def good_pixels(values: np.ndarray, good_bits: int, bad_bits: int) -> np.ndarray:
    """Mask, bool, of recorded mask values of any number type."""
    bits = np.asarray(values)
    if (good_bits, bad_bits) == ZERO_IS_GOOD:
        return np.asarray(bits == 0)
    if bits.dtype.kind == "f":
        bits = np.nan_to_num(bits)
    bits = bits.astype(np.int64)
    return np.asarray(((bits & good_bits) == good_bits) & ((bits & bad_bits) == 0))


def marked_by_area(plan: MaskPlan, geometry: Geometry) -> np.ndarray:
    """Mask, bool, of areas alone: pixels of some panel, outside every rectangle of the plan."""
    mask = np.zeros(geometry.shape, bool)
    for module in geometry.modules:
        mask[module.y0 : module.y1, module.x0 : module.x1] = True
    for y0, y1, x0, x1 in plan.boxes:
        mask[y0:y1, x0:x1] = False
    if plan.lab_boxes:
        y, x = geometry.positions_px()
        for y_low, y_high, x_low, x_high in plan.lab_boxes:
            mask[(y >= y_low) & (y <= y_high) & (x >= x_low) & (x <= x_high)] = False
    return mask


def marked_by_reading(plan: MaskPlan, values: np.ndarray) -> np.ndarray:
    """Mask, bool, of recorded readings (H, W): False for marks of bad pixels and for what is no number."""
    mask = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if plan.low is not None:
        mask &= values >= plan.low
    if plan.high is not None:
        mask &= values < plan.high
    for value in plan.equal:
        mask &= values != value
    return mask


def check_shape(found: tuple[int, ...], wanted: tuple[int, int], name: str, where: str) -> None:
    """Raises InputError where a mask is not of the shape of the frames; `where` is what holds it."""
    if tuple(found) != wanted:
        raise InputError(
            name, Phrase("has a mask of {found} pixels in {where}, and frames of {wanted} pixels",
                         found=" × ".join(map(str, found)), where=where, wanted=" × ".join(map(str, wanted))),
            "Give the mask of this detector, in the layout of these files",
        )  # fmt: skip


# --- bad pixels of a run ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class BadPixels:
    """bool maps (H, W) of pixels that always read high or never read, and how many frames they were looked for in."""

    hot: np.ndarray
    dead: np.ndarray
    n_frames: int


def bad_pixels(frames: Iterable[tuple[np.ndarray, np.ndarray]], *, n_sigma: float = 8.0, share: float = 0.8) -> BadPixels:
    """Hot and dead pixels from (pixels, mask) of frames spread over a run, one in memory at a time.

    A pixel is hot where it is `n_sigma` above its good neighbours (5 × 5) in at least `share` of the frames: a Bragg spot is
    there in few. It is dead where it reads 0 in all of them although its neighbours average more than 5. Raises InputError
    where there are fewer than 5 frames, or frames of several shapes.
    """
    high: np.ndarray | None = None
    dead: np.ndarray | None = None
    count = 0
    for pixels, mask in frames:
        if high is None or dead is None:
            high, dead = np.zeros(pixels.shape, np.int32), np.ones(pixels.shape, bool)
        if pixels.shape != high.shape:
            raise InputError("hot pixels", "the frames have several sizes", "Choose frames of one detector")
        mean, sigma = _neighbours(pixels, mask)
        high += mask & (pixels > mean + n_sigma * sigma)
        dead &= mask & (pixels == 0) & (mean > 5)
        count += 1
    if high is None or dead is None or count < MIN_FRAMES:
        problem = Phrase("{n} frames cannot tell a hot pixel from a spot", n=count)
        raise InputError("hot pixels", problem, Phrase("Choose at least {n} frames, spread over the run", n=MIN_FRAMES))
    return BadPixels(high >= share * count, dead, count)


def _neighbours(pixels: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (H, W) of the good pixels around each one, itself left out.

    The deviation is at least that of counting, so that an empty neighbourhood does not make every count a hot pixel.
    """
    values = np.where(mask, pixels, 0).astype(np.float64)

    def around(map_: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.uniform_filter(map_, 5, mode="constant") * 25 - map_)

    n = np.maximum(np.rint(around(mask.astype(np.float64))), 1)
    mean = around(values) / n
    variance = around(values**2) / n - mean**2
    return mean, np.sqrt(np.maximum(variance, np.maximum(np.abs(mean), 1.0)))
