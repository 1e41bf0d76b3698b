"""Peaks as other programs read them: CXI for CrystFEL, Cheetah and OM, `peaks.csv`, and a list of hits.

A table of peaks has a row for each peak: `file` and `frame` say where it was found, `y_px` and `x_px` (array indices, a pixel's
centre is a whole number) where in it. CXI keeps x = fast scan in the same convention, to which CrystFEL adds its half pixel.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from lib.disk import written_whole
from lib.task import InputError, Phrase
from lib.tasks.bragg import hdf5
from lib.tasks.bragg.geometry import Geometry
from lib.tasks.bragg.series import LOST, Inside

CSV_COLUMNS = ("file", "frame", "y_px", "x_px", "intensity", "snr", "n_pixels", "score", "resolution_angstrom")
MAX_VALUES = 10**9
BLOCK_ROWS = 4096
MAX_PEAKS = 2048  # of a frame in CXI, as CrystFEL and Cheetah hold
RESULTS = "/entry_1/result_1"
FRAMES = "/entry_1/data_1/data"
PASSING = "lightbench-"  # how folders of uploads and archives begin, in the system's place for such
_CXI = {  # our column: dataset, type; the last three are OM's
    "x_px": ("peakXPosRaw", "f4"), "y_px": ("peakYPosRaw", "f4"), "intensity": ("peakTotalIntensity", "f4"),
    "n_pixels": ("peakNPixels", "f4"), "max_value": ("peakMaximumValue", "f4"), "snr": ("peakSNR", "f4"),
}  # fmt: skip
_NEEDED = ("x_px", "y_px", "intensity")


def with_resolution(peaks: pd.DataFrame, geometry: Geometry) -> pd.DataFrame:
    """Peaks of one frame with `resolution_angstrom`, the d-spacing at each; NaN where the geometry does not tell."""
    return peaks.assign(resolution_angstrom=geometry.resolution_angstrom(peaks["y_px"].to_numpy(), peaks["x_px"].to_numpy()))


def write_csv(peaks: pd.DataFrame, path: Path) -> Path:
    """Write `peaks.csv`: the columns of CSV_COLUMNS, empty where not known; whole or not at all. Raises InputError."""
    with written_whole(path) as draft:
        peaks.reindex(columns=list(CSV_COLUMNS)).to_csv(draft, index=False)
    return path


def read_csv(path: Path, name: str = "") -> pd.DataFrame:
    """A table of peaks as `write_csv` makes it, other columns kept. Raises InputError where columns are missing."""
    called = name or path.name
    try:
        peaks = pd.read_csv(path, dtype={"file": "str"})
    except (OSError, ValueError) as error:
        raise InputError(called, "is no table of peaks: it cannot be read as CSV", "Give a peaks.csv") from error
    missing = [column for column in CSV_COLUMNS[:4] if column not in peaks]
    if missing:
        problem = Phrase("has no column {columns}", columns=", ".join(missing))
        raise InputError(called, problem, Phrase("A table of peaks has the columns {columns}", columns=", ".join(CSV_COLUMNS)))
    return peaks


def hit_names(frames: pd.DataFrame, hits: np.ndarray) -> list[str]:
    """The lines of a hit list: files, and `//N` or `tag-N//` behind those of several frames, as CrystFEL names events.

    `frames` is the table of Samples, `hits` bool (n,) one value per row.
    """
    single = frames.groupby("file")["frame"].transform("size") == 1
    images = frames["dataset"] == "" if "dataset" in frames else pd.Series(False, frames.index)
    events = frames["event"] if "event" in frames else pd.Series("", frames.index)
    lines = []
    for file, frame, event, alone in zip(frames["file"], frames["frame"], events, single & images):
        lines.append(f"{file} {event}//" if event else (str(file) if alone else f"{file} //{frame}"))
    return [line for line, hit in zip(lines, hits) if hit]


def write_hits(frames: pd.DataFrame, hits: np.ndarray, path: Path) -> Path:
    """Write the list of hits, one a line, as `hit_names` gives them; whole or not at all. Raises InputError."""
    with written_whole(path) as draft:
        draft.write_text("".join(f"{line}\n" for line in hit_names(frames, hits)), encoding="utf-8")
    return path


def write_rows(hits: np.ndarray, cxi: Path, path: Path) -> Path:
    """Write the list of hits as rows of a CXI file that shows its frames, for CrystFEL: `NAME //ROW`, whole or not at all.

    `hits` is bool (n,), one value per frame. Raises InputError.
    """
    with written_whole(path) as draft:
        draft.write_text("".join(f"{cxi.name} //{row}\n" for row in np.flatnonzero(hits)), encoding="utf-8")
    return path


# --- CXI --------------------------------------------------------------------------------------------------------------
def write_cxi(peaks: pd.DataFrame, frames: pd.DataFrame, path: Path, *, shown: h5py.VirtualLayout | None = None) -> Path:
    """Write the peaks of frames, in the order of `frames` (the table of Samples), as CXI; whole or not at all.

    `/entry_1/result_1/nPeaks` (n,) and `peakXPosRaw`, `peakYPosRaw`, `peakTotalIntensity` and OM's columns (n, most peaks).
    CXI holds 2048 peaks of a frame: of more, the strongest are kept. `shown`, as `links` makes it, adds `/entry_1/data_1/data`:
    CrystFEL reads frames and peaks from one file. Raises InputError.
    """
    missing = [column for column in (*_NEEDED, "file", "frame") if column not in peaks]
    if missing:
        raise InputError(path.name, Phrase("has peaks without {columns}", columns=", ".join(missing)), "Find the peaks again")
    place, slot = _slots(peaks, frames, path.name)
    kept = slot < MAX_PEAKS
    most = max(int(slot[kept].max(initial=0)) + 1, 1)
    with written_whole(path) as draft, h5py.File(draft, "w") as file:
        file["cxi_version"] = np.int32(140)
        results = file.create_group(RESULTS)
        results["nPeaks"] = np.bincount(place[kept], minlength=len(frames)).astype(np.int32)
        for column, (key, dtype) in _CXI.items():
            if column in peaks:
                data = results.create_dataset(key, (len(frames), most), dtype, compression="gzip", shuffle=True)
                _fill(data, peaks[column].to_numpy(float)[kept], place[kept], slot[kept])
        names = np.array([f"{file_} //{frame}".encode() for file_, frame in zip(frames["file"], frames["frame"])], dtype=object)
        results.create_dataset("frame", data=names, dtype=h5py.string_dtype())
        if shown is not None:
            file.create_virtual_dataset(FRAMES, shown)
    return path


def _fill(data: h5py.Dataset, values: np.ndarray, place: np.ndarray, slot: np.ndarray) -> None:
    """Write each value to its row and slot, a block of rows at a time: a long run would not fit into memory."""
    order = np.argsort(place, kind="stable")
    for first in range(0, len(data), BLOCK_ROWS):
        last = min(first + BLOCK_ROWS, len(data))
        low, high = np.searchsorted(place, [first, last], sorter=order)
        chosen = order[low:high]
        block = np.zeros((last - first, data.shape[1]), data.dtype)
        block[place[chosen] - first, slot[chosen]] = values[chosen]
        data[first:last] = block


def _slots(peaks: pd.DataFrame, frames: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """For each peak the row of its frame, and its place there: as found, or by falling intensity where they are too many."""
    rows = pd.Series(np.arange(len(frames)), index=pd.MultiIndex.from_arrays([frames["file"].astype(str), frames["frame"]]))
    if not rows.index.is_unique:
        raise InputError(name, "has two frames of one file and number", "Give each frame once")
    place = rows.reindex(pd.MultiIndex.from_arrays([peaks["file"].astype(str), peaks["frame"]])).to_numpy(float)
    if np.isnan(place).any():
        raise InputError(
            name, "has peaks of frames that are not in the list of frames", "Give the frames the peaks were found in"
        )
    row = place.astype(np.int64)
    slot = pd.Series(row).groupby(row).cumcount().to_numpy()
    if len(slot) and slot.max() >= MAX_PEAKS:
        strength = pd.Series(peaks["intensity"].to_numpy(float))
        slot = (strength.groupby(row).rank(method="first", ascending=False) - 1).to_numpy().astype(np.int64)
    return row, slot


def stay(frames: pd.DataFrame, folder: Path) -> bool:
    """Whether the files of frames will be there as long as what is written into `folder`.

    Uploads, what was in an archive, and what a page writes for a download lie in folders that are removed again.
    """
    passing, folder = Path(tempfile.gettempdir()).resolve(), folder.resolve()

    def goes(path: Path) -> bool:
        if path.is_relative_to(passing) and path.relative_to(passing).as_posix().startswith(PASSING):
            return True
        return path.is_relative_to(folder) and any(part.startswith(".") for part in path.relative_to(folder).parts)

    files = [Path(str(path)) for path in frames["path"].unique()] if "path" in frames else []
    return bool(files) and not goes(folder) and all(path.is_file() and not goes(path) for path in files)


def links(frames: pd.DataFrame, target: Path) -> h5py.VirtualLayout | None:
    """Frames (the table of Samples) as one dataset (n, H, W) that shows them where they lie, for `write_cxi` to `target`.

    Paths are kept relative to the new file's folder; neighbours in one dataset are one source. A row that stands for a missing
    data file stays empty. None where a frame is no HDF5, has changed, or is of another size or number type than the others.
    """
    here = frames.reset_index(drop=True)
    run = (here[["path", "dataset"]] != here[["path", "dataset"]].shift()).any(axis=1) | (here["index"].diff() != 1)
    layout: h5py.VirtualLayout | None = None
    for _, part in here[here["index"] != LOST].groupby(run.cumsum()):
        path, dataset = Path(part["path"].iloc[0]), str(part["dataset"].iloc[0])
        try:
            found = hdf5.dataset(path, dataset, Inside(path.parent), target.name) if dataset else None
        except InputError:
            return None
        if found is None:
            return None
        declared, dtype, start, first = found.thing.shape, found.thing.dtype, part.index[0], int(part["index"].iloc[0])
        layout = layout or h5py.VirtualLayout((len(here), *declared[-2:]), dtype)
        if declared[-2:] != layout.shape[1:] or dtype != layout.dtype or len(declared) > 3:
            return None
        source = h5py.VirtualSource(_seen_from(target.parent, path), dataset, declared, dtype)
        layout[start : start + len(part)] = source[first : first + len(part)] if first >= 0 else source
    return layout


def _seen_from(folder: Path, path: Path) -> str:
    try:
        return os.path.relpath(path, folder.resolve())
    except ValueError:  # another drive of Windows
        return str(path)


def read_cxi(path: Path, name: str = "") -> pd.DataFrame:
    """The peaks of a CXI file, ours, Cheetah's or OM's: `frame` (row), `y_px`, `x_px`, `intensity` and what else it has.

    Raises InputError where there is no peak list, or one that does not fit together.
    """
    called = name or path.name
    remedy = Phrase("A CXI peak list has nPeaks, peakXPosRaw, peakYPosRaw and peakTotalIntensity in {group}", group=RESULTS)
    try:
        arrays = {key: _array(path, key, called) for key in ("nPeaks", *(key for key, _ in _CXI.values()))}
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(called, "has a damaged peak list", remedy) from error
    counts = arrays.pop("nPeaks")
    tables = {column: found for column, (key, _) in _CXI.items() if (found := arrays[key]) is not None}
    if counts is None or not tables.keys() >= set(_NEEDED):
        raise InputError(called, "has no peak list", remedy)
    width = tables["x_px"].shape[1] if tables["x_px"].ndim == 2 else 0
    if counts.ndim != 1 or {values.shape for values in tables.values()} != {(len(counts), width)} or (counts > width).any():
        raise InputError(called, "has a peak list that does not fit together", remedy)
    filled = np.arange(width) < counts[:, None]
    return pd.DataFrame({"frame": np.nonzero(filled)[0], **{column: values[filled] for column, values in tables.items()}})


def _array(path: Path, key: str, name: str) -> np.ndarray | None:
    """A dataset of the peak list as float64, None where there is none."""
    found = hdf5.dataset(path, f"{RESULTS}/{key}", Inside(path.parent), name)
    if found is None or found.thing.dtype.kind not in "iuf":
        return None
    if found.thing.is_virtual or found.thing.size > MAX_VALUES:
        raise InputError(name, Phrase("has a peak list too large to read ({n:,} values)", n=found.thing.size), "Split the run")
    return np.asarray(found.thing[...], float)
