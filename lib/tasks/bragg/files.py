"""The door to detector frames: files in, `Samples` of references out, and from those one frame at a time.

A run of 10 000 frames costs a table: `path`, `dataset` and `index` say where a frame's pixels are, `geometry` and `mask` are JSON
texts, and nothing is read before `frames_of` or `frame_at` is asked for it. Samples that hold their pixels go through the same
two functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from lib import drawn
from lib.task import InputError, Phrase, Samples, first_bytes
from lib.tasks.bragg import crystfel, hdf5, images, layouts, masks
from lib.tasks.bragg.config import DRAWN, Acquisition, rectangle
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import HC_EV_ANGSTROM, Geometry
from lib.tasks.bragg.masks import MaskPlan, MaskSource
from lib.tasks.bragg.series import LOST, Inside, Series
from lib.words import from_plain, plain

FORMATS = Phrase("HDF5 (NeXus, CXI, Cheetah), CBF, SMV, EDF or TIFF")
OFFERING = 4  # files that are looked into for what they offer
File = tuple[Path, str]
_MASTER = re.compile(r"(.*)_master\.(h5|hdf5|nxs)", re.IGNORECASE)
_DATA_FILE = re.compile(r"(.*)_data_\d+\.(h5|hdf5)", re.IGNORECASE)
_OTHER_STARTS = {
    b"\x89PNG": Phrase("a PNG picture"), b"\xff\xd8\xff": Phrase("a JPEG picture"), b"PK\x03\x04": Phrase("a ZIP archive"),
    b"\x1f\x8b": Phrase("a gzip archive"), b"BZh": Phrase("a bzip2 archive"), b"%PDF": Phrase("a PDF"),
    b"\x93NUM": Phrase("a NumPy file"),
}  # fmt: skip


# --- files to references ----------------------------------------------------------------------------------------------
def read(path: Path, acquisition: Acquisition, display_name: str = "") -> Samples:
    """References to the frames of one file; a geometry or mask file that `acquisition` names lies in the same folder.

    One row per frame: `file`, `frame` (number in the file), `note`, `geometry` and `mask` (JSON), `path`, `dataset`, `index`,
    `event` (SACLA's tag), `told` (what is doubtful, see `told_of`), `wavelength_angstrom`, `distance_mm`, `saturation_adu` (NaN
    where unknown). A data file of a run that is not here has one row, which cannot be read. Raises InputError.
    """
    return read_bundle([(path, display_name or path.name)], acquisition)


def read_bundle(files: Sequence[File], acquisition: Acquisition) -> Samples:
    """References to the frames of files that belong together: frames, their geometry and mask, an Eiger master's data files.

    Raises InputError.
    """
    given = {_last(name): path for path, name in files}
    names = [name for _, name in files]
    frames = [files[group[0]] for group in bundles(names) if not names[group[0]].lower().endswith(".geom")]
    if not frames:
        raise InputError(names[0], "is no file of frames", Phrase("Give it together with the frames: {formats}", formats=FORMATS))
    parts = []
    for path, name in frames:
        inside = Inside(path.parent, given)
        geometry = _geometry_file(files, acquisition, inside, name)
        parts.append(_read_one(path, name, acquisition, inside, geometry, _mask_name(files, acquisition)))
    return Samples.concat(parts)


def bundles(names: Sequence[str]) -> list[list[int]]:
    """Which files are read together, the file of frames first: with an Eiger master its data files, and with every file of
    frames all geometry files (.geom) and masks (`mask` in the name) there are. Masks alone are frames to look at.
    """  # fmt: skip
    masters = {match[1]: place for place, name in enumerate(names) if (match := _MASTER.fullmatch(name))}
    companions = [place for place, name in enumerate(names) if _is_companion(name)]
    groups: dict[int, list[int]] = {}
    for place, name in enumerate(names):
        match = _DATA_FILE.fullmatch(name)
        master = masters.get(match[1]) if match else None
        if master is not None:
            groups.setdefault(master, []).append(place)
        elif place not in companions:
            groups.setdefault(place, [])
    if not groups:
        return [[place] for place in companions]
    return [[first, *more, *companions] for first, more in sorted(groups.items())]


def offered(files: Sequence[File]) -> dict[str, tuple[str, ...]]:
    """What files offer for the fields of Acquisition that name part of them; one that cannot be read offers nothing."""
    datasets: list[str] = []
    for path, name in files[:OFFERING]:
        try:
            with hdf5.guarded(name):
                datasets += hdf5.image_datasets(path, name) if kind_of(path, name) == "hdf5" else []
        except InputError:
            continue
    names = [_last(name) for _, name in files if _is_companion(name)]
    return {
        "dataset": tuple(dict.fromkeys(datasets)),
        "geometry_file": tuple(name for name in names if name.lower().endswith(".geom")),
        "mask_file": tuple(name for name in names if not name.lower().endswith(".geom")),
    }


def _last(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def _is_companion(name: str) -> bool:
    """Whether a file goes with frames and holds none itself."""
    last = _last(name).lower()
    return last.endswith(".geom") or (re.search(r"(?<![a-z])mask(?![a-z])", last) is not None)


def _geometry_file(files: Sequence[File], acquisition: Acquisition, inside: Inside, name: str) -> crystfel.Description | None:
    """The geometry file that is named, else the only one there is."""
    if acquisition.geometry_file:
        return crystfel.read(inside.find(acquisition.geometry_file, name), acquisition.geometry_file)
    there = [file for file in files if file[1].lower().endswith(".geom")]
    if len(there) > 1:
        listed = ", ".join(name for _, name in there)
        raise InputError(name, Phrase("comes with several geometry files ({files})", files=listed), "Name the one to use")
    return crystfel.read(*there[0]) if there else None


def _mask_name(files: Sequence[File], acquisition: Acquisition) -> str:
    """The mask file that is named, else the only one there is; "" for none."""
    there = [name for _, name in files[1:] if _is_companion(name) and not name.lower().endswith(".geom")]
    return acquisition.mask_file or (_last(there[0]) if len(there) == 1 else "")


def kind_of(path: Path, name: str) -> str:
    """`hdf5`, `cbf`, `smv`, `edf` or `tiff`, by content. Raises InputError for anything else."""
    start = first_bytes(path, name, 4096, Phrase("frames"))
    if start.startswith(b"\x89HDF\r\n\x1a\n") or h5py.is_hdf5(path):
        return "hdf5"
    if kind := images.kind_of(start):
        return kind
    other = next((what for magic, what in _OTHER_STARTS.items() if start.startswith(magic)), None)
    other = other or Phrase("some other kind of file")
    raise InputError(name, Phrase("holds no frames: it is {other}", other=other), Phrase("Give {formats}", formats=FORMATS))


def _read_one(
    path: Path, name: str, acquisition: Acquisition, inside: Inside, geom: crystfel.Description | None, mask_name: str
) -> Samples:
    """References to the frames of one file, with what is known of them."""
    kind = kind_of(path, name)
    source = layouts.Source(path, name, inside)
    with hdf5.guarded(name):
        if kind == "hdf5":
            series = layouts.read(source, acquisition.dataset or (geom.dataset if geom else ""))
        else:
            series = images.read(path, name, kind)
        if geom is not None:
            series = _with_geometry_file(series, geom, source if kind == "hdf5" else None)
        plan = _plan(series, acquisition, geom, source, mask_name, kind)
    geometry, remarks = _geometry(series, acquisition, geom, name)
    samples = _table(series, name, geometry, plan, acquisition)
    used = [Phrase("mask from {file}", file=mask_name)] if mask_name else []
    used += [Phrase("geometry from {file}", file=geom.name)] if geom else []
    told = (*series.remarks, *remarks, *used, *(geom.remarks if geom else ()))
    if not _static_mask(plan.to_json(), geometry.to_json(), _stamps(plan)).any():
        raise _all_masked(name)
    return replace(samples, remarks=tuple((name, remark) for remark in told))


def _with_geometry_file(series: Series, geom: crystfel.Description, source: layouts.Source | None) -> Series:
    """What a geometry file tells to look for in the data file itself, and the marks it knows."""
    facts, n = series.facts, len(series)
    numbers = np.arange(n) if series.numbers is None else series.numbers

    def located(value: crystfel.Located) -> float | np.ndarray:
        found = source.numbers([value.path], "px", "px") if source is not None else None
        return layouts.per_frame(None if found is None else found * value.factor + value.offset, numbers, int(numbers[-1]) + 1)

    if isinstance(geom.distance_mm, crystfel.Located):
        facts = replace(facts, distance_mm=located(geom.distance_mm))
    elif geom.distance_mm is not None:
        facts = replace(facts, distance_mm=geom.distance_mm)
    if isinstance(geom.wavelength_angstrom, crystfel.Located):
        facts = replace(facts, wavelength_angstrom=located(geom.wavelength_angstrom))
    elif geom.wavelength_angstrom is not None:
        facts = replace(facts, wavelength_angstrom=geom.wavelength_angstrom)
    elif geom.photon_energy_ev is not None:
        facts = replace(facts, wavelength_angstrom=HC_EV_ANGSTROM / located(geom.photon_energy_ev))
    if geom.saturation_adu is not None:
        facts = replace(facts, saturation_adu=geom.saturation_adu)
    low, high = (series.low if geom.low is None else geom.low), (series.high if geom.high is None else geom.high)
    return replace(series, facts=facts, low=low, high=high)


# --- geometry ---------------------------------------------------------------------------------------------------------
def _geometry(
    series: Series, acquisition: Acquisition, geom: crystfel.Description | None, name: str
) -> tuple[Geometry, list[str]]:
    """What is typed, else what the geometry file or the data file says; distance and wavelength the median over frames."""
    facts = series.facts
    remarks: list[str] = []
    distance = _known(acquisition.distance_mm, facts.distance_mm)
    wavelength = _known(acquisition.wavelength, facts.wavelength_angstrom)
    typed = acquisition.beam_center_y_px is not None
    if geom is not None:
        if typed:
            raise InputError(name, "has its beam centre typed and a geometry file too", "Leave one of them empty")
        geometry = geom.geometry(series.shape)
        size = acquisition.px_size_um or geometry.px_size_um
        geometry = replace(geometry, px_size_um=size, distance_mm=distance, wavelength_angstrom=wavelength)
        return geometry.check(geom.name), remarks
    center = facts.center_yx_px
    if typed:
        center = (acquisition.beam_center_y_px or 0.0, acquisition.beam_center_x_px or 0.0)
    if center is not None:
        center, remark = _check_center(center, series.shape, typed, name)
        remarks += [remark] if remark else []
    geometry = Geometry.flat(
        series.shape, center, px_size_um=acquisition.px_size_um or facts.px_size_um, distance_mm=distance,
        wavelength_angstrom=wavelength,
    )  # fmt: skip
    return geometry.check(name), remarks


def _known(typed: float | None, found: float | np.ndarray) -> float | None:
    """The typed value, else the median of those found that are finite and positive."""
    if typed is not None:
        return typed
    values = np.atleast_1d(found)
    values = values[np.isfinite(values) & (values > 0)]
    return float(np.median(values)) if len(values) else None


def _check_center(
    center: tuple[float, float], shape: tuple[int, int], typed: bool, name: str
) -> tuple[tuple[float, float] | None, str]:
    """A beam centre that can be: on the frame, or beside it by at most its width, which is told.

    A typed one that cannot be raises InputError; one from the file is not used, which is told.
    """
    (y, x), (height, width) = center, shape
    where = Phrase("beam centre y = {y:.1f}, x = {x:.1f} px lies outside the frame ({height} × {width} px)", y=y, x=x,
                   height=height, width=width)  # fmt: skip
    if -0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5:
        return center, ""
    if -height <= y <= 2 * height and -width <= x <= 2 * width:
        return center, where
    if typed:
        problem = Phrase("cannot be read with this beam centre: {where}", where=where)
        raise InputError(name, problem, "Type it in pixels, y along slow scan and x along fast scan")
    return None, Phrase("{where}, and was not used", where=where)


# --- masks ------------------------------------------------------------------------------------------------------------
def _plan(
    series: Series, acquisition: Acquisition, geom: crystfel.Description | None, source: layouts.Source, mask_name: str, kind: str
) -> MaskPlan:
    """All that says which pixels are bad. Raises InputError where a mask is missing or does not fit."""
    sources = list(series.masks)
    if mask_name:
        path = _drawn(mask_name) if mask_name.startswith(DRAWN) else source.inside.find(mask_name, source.name)
        sources.append(_mask_source(path, mask_name, acquisition, series.shape, source))
    for mask in geom.masks if geom else ():
        at = layouts.Source(source.inside.find(mask.file, source.name), mask.file, source.inside) if mask.file else source
        if kind == "hdf5" or mask.file:
            found = at.dataset(mask.dataset)
            if found is None:
                raise InputError(at.name, Phrase("has no mask {path!r}, which the geometry file names", path=mask.dataset),
                                 "Give the file with the mask, or mend the geometry file")  # fmt: skip
            n = len(series) if at is source and len(series.blocks) == 1 else 1
            sources.append(layouts.mask_source(found, (mask.good_bits, mask.bad_bits), series.shape, n, at.name))
    boxes = [*(rectangle(text) for text in acquisition.bad_rectangles), *(geom.boxes if geom else ())]
    return MaskPlan(
        tuple(sources), tuple(boxes), geom.lab_boxes if geom else (), series.low, series.high, geom.equal if geom else ()
    )


def _drawn(mask_name: str) -> Path:
    """A mask that was drawn on the Clean page, which lies in the bench's own folder."""
    last = mask_name.removeprefix(DRAWN)
    path = drawn.folder_of("bragg") / last
    if last != _last(last) or not path.is_file():
        raise InputError(last, "is no mask that was drawn here", "Choose one of those that are offered, or draw it again")
    return path


def _mask_source(
    path: Path, mask_name: str, acquisition: Acquisition, shape: tuple[int, int], source: layouts.Source
) -> MaskSource:
    """A mask file of its own, of any format."""
    kind = kind_of(path, mask_name)
    if kind == "hdf5":
        own = layouts.Source(path, mask_name, source.inside)
        return layouts.mask_file(own, acquisition.mask_dataset, acquisition.mask_good, shape)
    masks.check_shape(images.read(path, mask_name, kind).shape, shape, source.name, mask_name)
    bits = masks.ONE_IS_GOOD if acquisition.mask_good == "one" else masks.ZERO_IS_GOOD
    return MaskSource(str(path), "", *bits)


def _stamps(plan: MaskPlan) -> tuple[int, ...]:
    """When each file of a mask last changed."""
    return tuple(Path(source.path).stat().st_mtime_ns for source in plan.sources)


@lru_cache(maxsize=4)
def _static_mask(plan_text: str, geometry_text: str, stamps: tuple[int, ...]) -> np.ndarray:
    """What many frames have in common: areas, and masks from files as of `stamps`; bool (H, W), not to be written to."""
    plan, geometry = MaskPlan.from_json(plan_text), Geometry.from_json(geometry_text)
    mask = masks.marked_by_area(plan, geometry)
    for source in plan.sources:
        if not source.per_frame:
            mask &= _loaded_mask(source, 0, geometry.shape)
    mask.flags.writeable = False
    return mask


def _loaded_mask(source: MaskSource, index: int, shape: tuple[int, int]) -> np.ndarray:
    """The mask in a file, for one frame where each has its own."""
    path = Path(source.path)
    place = index if source.per_frame else (-1 if source.dataset else 0)
    values = _pixels(path, source.dataset, place, path.name)
    if values.size != shape[0] * shape[1]:
        masks.check_shape(values.shape, shape, path.name, source.dataset or path.name)
    return masks.good_pixels(values.reshape(shape), source.good_bits, source.bad_bits)


def _all_masked(name: str) -> InputError:
    return InputError(name, "has no good pixel: all of them are masked", "Check the mask, and whether 0 or 1 means good in it")


# --- the table --------------------------------------------------------------------------------------------------------
def _table(series: Series, name: str, geometry: Geometry, plan: MaskPlan, acquisition: Acquisition) -> Samples:
    """One row per frame. The JSON texts are categories: each is kept once, however many frames there are."""
    n = len(series)
    facts = series.facts
    lengths = [len(block.index) for block in series.blocks]
    saturation = facts.saturation_adu if acquisition.saturation_adu is None else acquisition.saturation_adu
    zeros = np.zeros(n, np.int8)
    table = pd.DataFrame({
        "file": np.full(n, name, object), "frame": np.arange(n) if series.numbers is None else np.maximum(series.numbers, 0),
        "note": "", "geometry": pd.Categorical.from_codes(zeros, pd.Index([geometry.to_json()])),
        "mask": pd.Categorical.from_codes(zeros, pd.Index([plan.to_json()])),
        "path": np.repeat([str(block.path.resolve()) for block in series.blocks], lengths),
        "dataset": np.repeat([block.dataset for block in series.blocks], lengths),
        "index": np.concatenate([block.index for block in series.blocks]).astype(np.int64),
        "event": series.events or "", "told": [json.dumps(plain(text)) if text else "" for text in series.told] or "",
        "wavelength_angstrom": _column(acquisition.wavelength, facts.wavelength_angstrom, n),
        "distance_mm": _column(acquisition.distance_mm, facts.distance_mm, n), "saturation_adu": float(saturation),
    })  # fmt: skip
    return Samples({}, table.astype(dict.fromkeys(("file", "note", "path", "dataset", "event", "told"), "str")))


def _column(typed: float | None, found: float | np.ndarray, n: int) -> np.ndarray:
    return np.full(n, typed) if typed is not None else np.array(np.broadcast_to(np.asarray(found, float), n))


# --- references to frames ---------------------------------------------------------------------------------------------
def frames_of(samples: Samples, on_error: Callable[[int, InputError], None] | None = None) -> Iterator[Frame]:
    """Every frame in order, one in memory at a time.

    A frame that cannot be read goes to `on_error` with its row, and the others go on; without `on_error` it raises InputError.
    """
    for row in range(len(samples)):
        try:
            frame = frame_at(samples, row)
        except InputError as error:
            if on_error is None:
                raise
            on_error(row, error)
            continue
        yield frame


def frame_at(samples: Samples, row: int) -> Frame:
    """The frame of one row, read from its file or taken from `inputs`. Raises InputError where it cannot be read.

    What is no number becomes 0 under the mask; every other reading stays as recorded.
    """
    about = samples.table.iloc[row]
    name, number, geometry = str(about["file"]), int(about.get("frame", 0)), geometry_at(samples, row)
    if "frame" in samples.inputs:
        pixels = np.asarray(samples.inputs["frame"][row], np.float32)
        return Frame(pixels, np.asarray(samples.inputs["mask"][row], bool), geometry, name, number)
    if int(about["index"]) == LOST:
        raise InputError(name, told_of(about), hdf5.DAMAGED)
    path, plan = Path(str(about["path"])), _plan_from(str(about["mask"]))
    values = _pixels(path, str(about["dataset"]), int(about["index"]), name)
    if values.shape != geometry.shape:
        problem = Phrase("has frame {n} of {found} pixels, where {wanted} were expected", n=number, found=str(values.shape),
                         wanted=str(geometry.shape))  # fmt: skip
        raise InputError(name, problem, "Read the file again: it has changed")
    _check_sign(values, name, number)
    mask = _mask_of(plan, str(about["mask"]), str(about["geometry"]), values, int(about["index"]), name)
    if not mask.any():
        raise InputError(name, Phrase("has no good pixel in frame {n}: all of them are masked", n=number),
                         "Check the mask, or leave the frame out")  # fmt: skip
    pixels = values.astype(np.float32)
    if values.dtype.kind == "f":
        np.nan_to_num(pixels, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return Frame(pixels, mask, geometry, name, number)


def told_of(about: pd.Series) -> str:
    """What is wrong with the frame of a table row or doubtful about its number, "" for nothing; to be said in any language."""
    text = str(about.get("told", ""))
    return from_plain(json.loads(text)) if text else ""


def geometry_at(samples: Samples, row: int) -> Geometry:
    """Where the detector stood for the frame of one row; nothing is read."""
    about = samples.table.iloc[row]
    geometry = _geometry_from(str(about["geometry"]))
    return geometry if "frame" in samples.inputs else _of_this_frame(geometry, about)


@lru_cache(maxsize=16)
def _geometry_from(text: str) -> Geometry:
    return Geometry.from_json(text)


@lru_cache(maxsize=16)
def _plan_from(text: str) -> MaskPlan:
    return MaskPlan.from_json(text)


def _of_this_frame(geometry: Geometry, about: pd.Series) -> Geometry:
    """The geometry with the frame's own wavelength and distance, where they are known."""
    wavelength, distance = float(about["wavelength_angstrom"]), float(about["distance_mm"])
    return replace(
        geometry, wavelength_angstrom=wavelength if wavelength > 0 else geometry.wavelength_angstrom,
        distance_mm=distance if distance > 0 else geometry.distance_mm,
    )  # fmt: skip


def _pixels(path: Path, dataset: str, index: int, name: str) -> np.ndarray:
    if dataset:
        with hdf5.guarded(name):
            return hdf5.read_frame(path, dataset, index, name)
    return images.read_frame(path, index, name, kind_of(path, name))


def _mask_of(plan: MaskPlan, plan_text: str, geometry_text: str, values: np.ndarray, index: int, name: str) -> np.ndarray:
    """The whole mask of one frame."""
    try:
        stamps = _stamps(plan)
    except OSError as error:
        raise InputError(name, "has lost its mask file", "Put it back, or read the frames again") from error
    mask = masks.marked_by_reading(plan, values) & _static_mask(plan_text, geometry_text, stamps)
    for source in plan.sources:
        if source.per_frame:
            mask &= _loaded_mask(source, max(index, 0), (values.shape[0], values.shape[1]))
    return mask


def _check_sign(values: np.ndarray, name: str, number: int) -> None:
    """Raises InputError on unsigned readings of which most lie just below the largest number, or many, and many near 0.

    A background below or around 0 looks like that when negative numbers were written without a sign. A full pixel reads the
    largest number; detectors mark gaps by that and bad pixels by the one below (-1 and -2 of Pilatus): neither is a reading.
    """
    if values.dtype.kind != "u" or values.dtype.itemsize < 2:
        return
    some, top = values[::7, ::7], int(np.iinfo(values.dtype).max)
    margin = top // 64
    some = some[some < top - 1]
    if not some.size:
        return
    wrapped, low = float(np.mean(some > top - margin)), float(np.mean(some < margin))
    if wrapped > 0.5 or (wrapped > 0.05 and low > 0.05):
        raise InputError(
            name, Phrase("has {share:.0%} of the pixels of frame {n} just below {top:,}, where negative numbers land that were "
                         "written without a sign", share=wrapped, n=number, top=top + 1),
            "Write the frames as signed integers or as floats",
        )  # fmt: skip
