"""Where HDF5 files of detectors and facilities keep frames, masks, and what is known of detector and beam.

NXmx and Eiger masters (`/entry/data`), CXI (`/entry_1/data_1/data`), SACLA's Cheetah (`/tag-N/data`), older Cheetah
(`/data/data`), and plain files with one dataset of frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib import drawn
from lib.task import InputError, Phrase
from lib.tasks.bragg import hdf5
from lib.tasks.bragg.geometry import HC_EV_ANGSTROM
from lib.tasks.bragg.masks import ONE_IS_GOOD, ZERO_IS_GOOD, MaskSource, check_shape
from lib.tasks.bragg.pieces import Piece, in_order
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

    A frame keeps the number it has in the whole run where part of that cannot be read. Raises InputError, which lists what is
    there where no frames are found.
    """
    pieces, remarks = _pieces(source, wanted)
    stacks = [piece.stack for piece in pieces if piece.stack is not None]
    shape, dtype = stacks[0].shape, stacks[0].dtype
    fitting = [stack for stack in stacks if stack.shape == shape]
    if len(fitting) < len(stacks):
        remarks.append(Phrase("{n} datasets with frames of another size were left out", n=len(stacks) - len(fitting)))
    missing = sum(stack.declared - len(stack) for stack in fitting)
    if missing:
        remarks.append(Phrase("{n} declared frames are not written and were left out", n=missing))
    rows = in_order(pieces, shape, source.path)
    numbers, events = np.array(rows.numbers), tuple(rows.events) if any(rows.events) else ()
    masks = tuple(_mask(source, rows.blocks, shape, rows.declared))
    low, high = _marks(dtype, fitting[0].blocks[0].dataset)
    return Series(
        shape, tuple(rows.blocks), facts(source, numbers, rows.declared, events), masks, low, high, (*remarks, *rows.doubts),
        events, numbers, tuple(rows.told) if any(rows.told) else (),
    )  # fmt: skip


# --- frames -----------------------------------------------------------------------------------------------------------
def _pieces(source: Source, wanted: str) -> tuple[list[Piece], list[str]]:
    """The datasets of frames, at least one of which can be read, and remarks."""
    remarks: list[str] = []
    if wanted:
        return _wanted(source, wanted, remarks), remarks
    for place in PLACES:
        if (found := source.dataset(place)) is not None:
            return _whole(source, found), remarks
        if (numbered := _numbered(source, place.rpartition("/")[0], remarks)) is not None:
            return numbered, remarks
    tags = [key for key in hdf5.keys(source.path, "/", source.inside, source.name) if TAG.fullmatch(key)]
    if tags:
        return _events(source, "/%/data", tags, remarks), remarks
    only = hdf5.image_datasets(source.path, source.name)
    if len(only) == 1 and (found := source.dataset(only[0])) is not None:
        remarks.append(Phrase("frames were taken from {path}, the only dataset that holds images", path=only[0]))
        return _whole(source, found), remarks
    raise _no_frames(source, Phrase("has no frames in the usual places ({places})", places=", ".join(PLACES[:3])))


def _wanted(source: Source, wanted: str, remarks: list[str]) -> list[Piece]:
    """Frames at a path that was named."""
    if "%" in wanted:
        before, after = wanted.split("%", 1)
        groups = [key for key in hdf5.keys(source.path, before or "/", source.inside, source.name)
                  if source.dataset(f"{before or '/'}{key}{after}") is not None]  # fmt: skip
        if not groups:
            raise _no_frames(source, Phrase("has no dataset {path!r}", path=wanted))
        return _events(source, wanted if wanted.startswith("/") else f"/{wanted}", groups, remarks)
    if (found := source.dataset(wanted)) is not None:
        return _whole(source, found)
    if (numbered := _numbered(source, wanted, remarks)) is not None:
        return numbered
    raise _no_frames(source, Phrase("has no dataset {path!r}", path=wanted))


def _no_frames(source: Source, problem: str) -> InputError:
    there = hdf5.listing(source.path, source.name)
    return InputError(
        source.name, problem, Phrase("Name the dataset that holds the frames. There is: {there}", there=there)
    )  # fmt: skip


def _whole(source: Source, found: hdf5.Found) -> list[Piece]:
    """A run in one dataset. Raises InputError where it cannot be read."""
    stack = hdf5.stack(found, source.inside, source.name)
    return [Piece(found.inner, found.inner, stack, declared=stack.declared)]


def _piece(source: Source, inner: str, name: str) -> Piece:
    """One of the datasets of a run, whether it can be read or not."""
    piece = Piece(name, inner)
    try:
        found = source.dataset(inner)
        if found is None:
            raise InputError(source.name, Phrase("has no dataset {path!r}", path=inner), hdf5.DAMAGED)
        image = np.ravel(found.thing.attrs.get("image_nr_low", []))  # of its first frame, as DECTRIS writes it
        known = int(image[0]) if image.dtype.kind in "iu" and image.size else None
        piece = replace(piece, declared=hdf5.declared_frames(found), first_image=known)
        return replace(piece, stack=hdf5.stack(found, source.inside, source.name))
    except InputError as error:
        return replace(piece, error=error)


def _numbered(source: Source, group: str, remarks: list[str]) -> list[Piece] | None:
    """Frames behind data_000001, data_000002, …; None where there are none. What cannot be opened is told.

    Raises InputError where none of them can be opened.
    """
    found = hdf5.follow(source.path, group, source.inside, source.name)
    names = sorted(key for key in found.thing if NUMBERED.fullmatch(key)) if found is not None and found.is_group else []
    pieces = [_piece(source, f"{group}/{key}", key) for key in names]
    remarks += [piece.left_out() for piece in pieces if piece.error is not None]
    if pieces and all(piece.stack is None for piece in pieces):
        raise next(piece.error for piece in pieces if piece.error is not None)
    return pieces or None


def _events(source: Source, place: str, groups: Sequence[str], remarks: list[str]) -> list[Piece]:
    """One frame from each group, `%` in `place` standing for its name; a group without that dataset is none of the run's."""
    there = [group for group in groups if not _is_missing(source, place.replace("%", group, 1))]
    pieces = [replace(_piece(source, place.replace("%", group, 1), group), event=group) for group in there]
    pieces = [replace(piece, declared=piece.declared or 1) for piece in pieces]
    refused = [piece.error for piece in pieces if piece.error is not None]
    if len(refused) == len(pieces):
        raise refused[0] if refused else _no_frames(source, Phrase("has no dataset {path!r}", path=place))
    if refused:
        remarks.append(Phrase("{n} frames were left out: {why}", n=len(refused), why=refused[0].problem))
    return pieces


def _is_missing(source: Source, inner: str) -> bool:
    try:
        return source.dataset(inner) is None
    except InputError:  # it is there, and cannot be read
        return False


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
        known = np.array([np.nan if energy is None else energy for energy in each])
        return HC_EV_ANGSTROM / np.where(known > 0, known, np.nan)
    if energies is None:
        return np.nan
    return per_frame(HC_EV_ANGSTROM / np.where(energies > 0, energies, np.nan), numbers, declared)


def per_frame(values: np.ndarray | None, numbers: np.ndarray, declared: int) -> float | np.ndarray:
    """One number for each of the frames `numbers`, or the first for all where there are not as many as declared frames."""
    if values is None or not len(values):
        return np.nan
    return values[numbers] if len(values) == declared > 1 else float(values[0])
