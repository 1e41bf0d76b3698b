"""Where HDF5 files of detectors and facilities keep frames, masks, and what is known of detector and beam.

NXmx and Eiger masters (`/entry/data`), CXI (`/entry_1/data_1/data`), SACLA's Cheetah (`/tag-N/data`), older Cheetah
(`/data/data`), and plain files with one dataset of frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib import drawn
from lib.task import InputError, Phrase
from lib.tasks.bragg import hdf5
from lib.tasks.bragg.geometry import HC_EV_ANGSTROM
from lib.tasks.bragg.masks import ONE_IS_GOOD, ZERO_IS_GOOD, MaskSource, check_shape
from lib.tasks.bragg.series import Block, Facts, Inside, Series

PLACES = (
    "/entry/data/data", "/entry_1/data_1/data", "/entry_1/instrument_1/detector_1/data", "/entry/instrument/detector/data",
    "/entry_1/image_1/data", "/data/data", "/data/rawdata0", "/data", "/images",
)  # fmt: skip
NUMBERED = re.compile(r"data_\d+")  # Eiger: a link for each data file
TAG = re.compile(r"tag[-_]\d+")  # SACLA: a group for each frame


@dataclass(frozen=True)
class Source:
    """A file to read, what messages call it, and which other files it may lead to."""

    path: Path
    name: str
    inside: Inside

    def dataset(self, inner: str) -> hdf5.Found | None:
        """The dataset at a path, None where there is none."""
        return hdf5.dataset(self.path, inner, self.inside, self.name)

    def number(self, places: Sequence[str], unit: str, default: str) -> float | None:
        """The first number found at one of several paths, in `unit`; without a unit in the file it is in `default`."""
        found = (hdf5.number(self.path, place, self.inside, self.name, unit, default) for place in places)
        return next((value for value in found if value is not None), None)

    def numbers(self, places: Sequence[str], unit: str, default: str) -> np.ndarray | None:
        """The first array found at one of several paths, flat, in `unit`."""
        found = (hdf5.numbers(self.path, place, self.inside, self.name, unit, default) for place in places)
        return next((values.reshape(-1) for values in found if values is not None), None)


def read(source: Source, wanted: str = "") -> Series:
    """The frames of an HDF5 file; `wanted` is where they are, with % for a part that changes from frame to frame.

    Raises InputError, which lists what is there where no frames are found.
    """
    stacks, events, remarks = _stacks(source, wanted)
    shape, dtype = stacks[0].shape, stacks[0].dtype
    fitting = [stack for stack in stacks if stack.shape == shape]
    if len(fitting) < len(stacks):
        remarks.append(Phrase("{n} datasets with frames of another size were left out", n=len(stacks) - len(fitting)))
    missing = sum(stack.missing for stack in fitting)
    if missing:
        remarks.append(Phrase("{n} declared frames are not written and were left out", n=missing))
    blocks = tuple(block for stack in fitting for block in stack.blocks)
    n = sum(len(block.index) for block in blocks)
    numbers = blocks[0].index if len(blocks) == 1 and n > 1 else np.arange(n)
    masks = tuple(_mask(source, blocks, shape, n + missing))
    low, high = _marks(dtype, blocks[0].dataset)
    known = facts(source, numbers, n + missing, events)
    return Series(shape, blocks, known, masks, low, high, tuple(remarks), tuple(events), numbers)


# --- frames -----------------------------------------------------------------------------------------------------------
def _stacks(source: Source, wanted: str) -> tuple[list[hdf5.Stack], list[str], list[str]]:
    """Frames, the names of their groups where each has one, and remarks."""
    remarks: list[str] = []
    if wanted:
        return (*_wanted(source, wanted, remarks), remarks)
    for place in PLACES:
        if (found := source.dataset(place)) is not None:
            return [hdf5.stack(found, source.inside, source.name)], [], remarks
        if (numbered := _numbered(source, place.rpartition("/")[0], remarks)) is not None:
            return numbered, [], remarks
    tags = [key for key in hdf5.keys(source.path, "/", source.inside, source.name) if TAG.fullmatch(key)]
    if tags:
        return (*_events(source, "/%/data", tags, remarks), remarks)
    only = hdf5.image_datasets(source.path, source.name)
    if len(only) == 1 and (found := source.dataset(only[0])) is not None:
        remarks.append(Phrase("frames were taken from {path}, the only dataset that holds images", path=only[0]))
        return [hdf5.stack(found, source.inside, source.name)], [], remarks
    raise _no_frames(source, Phrase("has no frames in the usual places ({places})", places=", ".join(PLACES[:3])))


def _wanted(source: Source, wanted: str, remarks: list[str]) -> tuple[list[hdf5.Stack], list[str]]:
    """Frames at a path that was named."""
    if "%" in wanted:
        before, after = wanted.split("%", 1)
        groups = [key for key in hdf5.keys(source.path, before or "/", source.inside, source.name)
                  if source.dataset(f"{before or '/'}{key}{after}") is not None]  # fmt: skip
        if not groups:
            raise _no_frames(source, Phrase("has no dataset {path!r}", path=wanted))
        return _events(source, wanted if wanted.startswith("/") else f"/{wanted}", groups, remarks)
    if (found := source.dataset(wanted)) is not None:
        return [hdf5.stack(found, source.inside, source.name)], []
    if (numbered := _numbered(source, wanted, remarks)) is not None:
        return numbered, []
    raise _no_frames(source, Phrase("has no dataset {path!r}", path=wanted))


def _no_frames(source: Source, problem: str) -> InputError:
    there = hdf5.listing(source.path, source.name)
    return InputError(
        source.name, problem, Phrase("Name the dataset that holds the frames. There is: {there}", there=there)
    )  # fmt: skip


def _numbered(source: Source, group: str, remarks: list[str]) -> list[hdf5.Stack] | None:
    """Frames behind data_000001, data_000002, …; None where there are none. What cannot be opened is told and left out.

    Raises InputError where none of them can be opened.
    """
    found = hdf5.follow(source.path, group, source.inside, source.name)
    names = sorted(key for key in found.thing if NUMBERED.fullmatch(key)) if found is not None and found.is_group else []
    stacks: list[hdf5.Stack] = []
    refused: list[InputError] = []
    for key in names:
        try:
            data = source.dataset(f"{group}/{key}")
            if data is not None:
                stacks.append(hdf5.stack(data, source.inside, source.name))
        except InputError as error:
            refused.append(error)
            remarks.append(Phrase("{key} was left out: {why}", key=key, why=error.problem))
    if refused and not stacks:
        raise refused[0]
    return stacks or None


def _events(source: Source, place: str, groups: Sequence[str], remarks: list[str]) -> tuple[list[hdf5.Stack], list[str]]:
    """One frame from each group, `%` in `place` standing for its name; the name of each frame's group too."""
    stacks: list[hdf5.Stack] = []
    kept: list[str] = []
    refused: list[InputError] = []
    for group in groups:
        try:
            data = source.dataset(place.replace("%", group, 1))
            if data is None:
                continue
            stack = hdf5.stack(data, source.inside, source.name)
        except InputError as error:
            refused.append(error)
            continue
        if not stacks or stack.shape == stacks[0].shape:
            kept += [group] * len(stack)
        stacks.append(stack)
    if not stacks:
        raise refused[0] if refused else _no_frames(source, Phrase("has no dataset {path!r}", path=place))
    if refused:
        remarks.append(Phrase("{n} frames were left out: {why}", n=len(refused), why=refused[0].problem))
    return stacks, kept


# --- masks ------------------------------------------------------------------------------------------------------------
_MASKS = {
    "/entry/": ("/entry/instrument/detector/pixel_mask", "/entry/instrument/detector/detectorSpecific/pixel_mask",
                "/entry/instrument/detector/mask", "/entry/data/mask"),
    "/entry_1/": ("/entry_1/data_1/mask", "/entry_1/instrument_1/detector_1/mask"),
    "/data": ("/data/mask",),
}  # fmt: skip


def _mask(source: Source, blocks: Sequence[Block], shape: tuple[int, int], declared: int) -> Iterator[MaskSource]:
    """The mask that stands beside the frames: 0 is good in all these layouts. Raises InputError where it does not fit."""
    family = blocks[0].dataset
    places = [places for start, places in _MASKS.items() if family.startswith(start)]
    for place in (*(place for group in places for place in group), *_MASKS["/entry/"]):
        found = source.dataset(place)
        if found is None or found.thing.dtype.kind not in "iufb":
            continue
        yield mask_source(found, ZERO_IS_GOOD, shape, declared if len(blocks) == 1 else 1, source.name)
        return


def mask_source(found: hdf5.Found, bits: tuple[int, int], shape: tuple[int, int], n: int, name: str) -> MaskSource:
    """A dataset as a mask of n frames (H, W): one for all, or one for each. Raises InputError where its shape is another."""
    declared = tuple(found.thing.shape)
    if len(declared) == 3 and declared[0] == 1:
        declared = declared[1:]
    per_frame = len(declared) == 3 and declared[0] == n > 1
    check_shape(declared[1:] if per_frame else declared, shape, name, found.inner)
    return MaskSource(str(found.path), found.inner, *bits, per_frame=per_frame)


def mask_file(source: Source, wanted: str, convention: str, shape: tuple[int, int]) -> MaskSource:
    """The mask in an HDF5 file of its own, at `wanted` or the only one there.

    `convention` is "zero", "one", or "by format": OM and CrystFEL keep masks in /data/data with 1 for good, and those drawn here
    say so. Raises InputError.
    """
    if wanted:
        places = [wanted]
    else:
        usual = [place for group in _MASKS.values() for place in group] + ["/data/data", "/data", "/mask"]
        places = [place for place in usual if source.dataset(place) is not None][:1]
        places = places or hdf5.image_datasets(source.path, source.name)
    found = source.dataset(places[0]) if len(places) == 1 else None
    if found is None or found.thing.dtype.kind not in "iufb":
        there = hdf5.listing(source.path, source.name)
        problem = Phrase("has no mask {path!r}", path=wanted) if wanted else "holds no mask, or several"
        raise InputError(source.name, problem, Phrase("Name the dataset of the mask. There is: {there}", there=there))
    told = found.inner == "/data/data" or found.thing.attrs.get("meaning") == drawn.MEANING
    one = convention == "one" or (convention == "by format" and told)
    return mask_source(found, ONE_IS_GOOD if one else ZERO_IS_GOOD, shape, 1, source.name)


def _marks(dtype: np.dtype, inner: str) -> tuple[float | None, float | None]:
    """(low, high): NeXus detectors mark bad pixels by the largest number, signed ones by the smallest too.

    CXI and Cheetah hold cameras whose largest number is a full pixel.
    """
    if dtype.kind == "f" or not inner.startswith("/entry/"):
        return None, None
    limits = np.iinfo(dtype)
    return (float(limits.min) + 1 if dtype.kind == "i" else None), float(limits.max)


# --- detector and beam ------------------------------------------------------------------------------------------------
_DETECTORS = ("/entry/instrument/detector", "/entry_1/instrument_1/detector_1", "/entry/instrument/detector_1")


def facts(source: Source, numbers: np.ndarray, declared: int, events: Sequence[str] = ()) -> Facts:
    """What the file says of detector and beam, for frames `numbers` of those it declares."""
    center = _center(source)
    size = source.number([f"{d}/x_pixel_size" for d in _DETECTORS], "um", "m")
    if size is None:
        size = source.number(["/metadata/pixelsize_in_micro_meter", "/metadata/pixelsize_in_um"], "um", "um")
    distance = source.numbers([f"{d}/{key}" for d in _DETECTORS for key in ("distance", "detector_distance")], "mm", "m")
    if distance is None:
        distance = source.numbers(["/metadata/distance_in_mm"], "mm", "mm")
    saturation = source.number([f"{d}/{key}" for d in _DETECTORS for key in ("saturation_value",
                               "detectorSpecific/saturation_value", "detectorSpecific/countrate_correction_count_cutoff")],
                               "px", "px")  # fmt: skip
    return Facts(center, size, per_frame(distance, numbers, declared), _wavelength(source, numbers, declared, events),
                 np.nan if saturation is None else saturation)  # fmt: skip


def _center(source: Source) -> tuple[float, float] | None:
    both = source.numbers([f"{d}/beam_center_yx" for d in _DETECTORS], "px", "px")
    if both is not None and len(both) == 2:
        return float(both[0]), float(both[1])
    y, x = (source.number([f"{d}/beam_center_{axis}" for d in _DETECTORS], "px", "px") for axis in "yx")
    return None if y is None or x is None or (y == 0 and x == 0) else (y, x)  # 0, 0 is what a detector writes untold


def _wavelength(source: Source, numbers: np.ndarray, declared: int, events: Sequence[str]) -> float | np.ndarray:
    """Wavelengths in ångström, one for all or one for each frame; NaN where nothing is said."""
    direct = source.numbers(
        ["/entry/instrument/beam/incident_wavelength", "/entry/sample/beam/incident_wavelength", "/entry/instrument/wavelength",
         "/entry/instrument/monochromator/wavelength", "/entry_1/instrument_1/beam_1/incident_wavelength"],
        "angstrom", "angstrom",
    )  # fmt: skip
    if direct is not None:
        return per_frame(np.where(direct > 0, direct, np.nan), numbers, declared)
    places = [("/LCLS/photon_energy_eV", "ev"), ("/entry/instrument/beam/incident_energy", "ev"),
              ("/entry_1/instrument_1/source_1/energy", "j"), ("/entry_1/instrument_1/beam_1/photon_energy", "ev")]  # fmt: skip
    energies = next((e for place, unit in places if (e := source.numbers([place], "ev", unit)) is not None), None)
    if energies is None and events:
        each = [source.number([f"/{event}/photon_energy_ev"], "ev", "ev") for event in events]
        energies = np.array([np.nan if energy is None else energy for energy in each])
    if energies is None:
        return np.nan
    return per_frame(HC_EV_ANGSTROM / np.where(energies > 0, energies, np.nan), numbers, declared)


def per_frame(values: np.ndarray | None, numbers: np.ndarray, declared: int) -> float | np.ndarray:
    """One number for each of the frames `numbers`, or the first for all where there are not as many as declared frames."""
    if values is None or not len(values):
        return np.nan
    return values[numbers] if len(values) == declared > 1 else float(values[0])
