"""Single-molecule clips as TIFF files: one clip in, one clip out.

`read` takes what microscopes and ImageJ write (multi-page, ImageJ hyperstack, BigTIFF, LZW; 8-, 16-, 32-bit, float) and
fits it to 16 × 64 × 64: frames and pixels that are too many are cut, missing ones are filled with background drawn from
the clip itself, and each such step is said in `note`. What cannot be mended is refused with a sentence.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from lib.disk import plain_names
from lib.task import InputError, Phrase, Samples, first_bytes
from lib.tasks.diffusion import metadata, stuck, transfer
from lib.tasks.diffusion.config import CLIP_FRAMES, CLIP_PX, Acquisition
from lib.words import as_phrase

MAX_FRAMES, MIN_FRAMES = 512, 5
MAX_SIDE_PX, MIN_SIDE_PX = 1024, 24
MORE_FRAMES = Phrase("Give at least {n} frames, best {best}", n=MIN_FRAMES, best=CLIP_FRAMES)
MAX_BYTES = 128 * 2**20  # of declared pixel data, checked before any is read
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_STARTS = {
    b"\x89PNG": Phrase("a PNG picture"), b"\xff\xd8\xff": Phrase("a JPEG picture"), b"\x89HDF": Phrase("an HDF5 file"),
    b"PK\x03\x04": Phrase("a ZIP archive"), b"GIF8": Phrase("a GIF"), b"%PDF": Phrase("a PDF"),
    b"\x93NUM": Phrase("a NumPy file"),
}  # fmt: skip
TRUTH_COLUMNS = (
    "file", "true_d_px2_per_frame", "true_d_um2_s", "photons", "background", "sigma_px", "exposure_fraction", "px_size_nm",
    "frame_interval_s", "baseline_adu", "slope_adu", "excess_noise", "read_sigma_adu",
)  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """Frames of one file as they are, (T, H, W), and what the file says of time and space."""

    frames: np.ndarray
    px_size_nm: metadata.Told
    frame_interval_s: metadata.Told
    notes: tuple[str, ...]


# --- reading ----------------------------------------------------------------------------------------------------------
def read(path: Path, acquisition: Acquisition, display_name: str = "", tell: Callable[[str], str] = str) -> Samples:
    """One clip of one file as Samples of length 1; `tell` puts its note into the reader's language.

    Raises InputError naming the file, the fault and the remedy.
    """
    name = display_name or path.name
    stack = _load(path, name)
    frames, notes = _usable_frames(stack.frames, name)
    frames, n_stuck = stuck.replaced(frames)
    notes = [*stack.notes, *notes, *([Phrase("{n} stuck pixels replaced by their neighbours", n=n_stuck)] if n_stuck else [])]
    camera, about = _camera(frames, acquisition)
    px_size, interval, exposure, timing = _timing(stack, acquisition, name)
    unused = _not_used(acquisition, gain_known=bool(camera.slope_error[0] == 0))
    clip, fitted = _fit(frames, camera)
    columns = {
        "file": name, "note": "; ".join(map(tell, [*notes, *fitted, *timing, *about, *unused])),
        "px_size_nm": px_size, "frame_interval_s": interval, "exposure_fraction": exposure,
        "psf_sigma_px": np.nan if acquisition.psf_sigma_px is None else acquisition.psf_sigma_px,
        "psf_sigma_error": acquisition.psf_sigma_error_percent / 100,
        "baseline_adu": float(camera.baseline_adu[0]), "slope_adu": float(camera.slope_adu[0]),
        "excess_noise": float(camera.excess_noise[0]), "read_sigma_adu": transfer.known_of(acquisition).read_sigma_adu or 0.0,
        "camera_estimated": bool(about), "n_frames": min(len(frames), CLIP_FRAMES),
    }  # fmt: skip
    return Samples({"clip_adu": clip[None]}, pd.DataFrame([columns]))


def _load(path: Path, name: str) -> Stack:
    """Frames of a TIFF, checked before pixels are read."""
    _check_start(path, name)
    try:
        with tifffile.TiffFile(path) as tif:
            _check_chain(tif, path, name)
            series, notes = _chosen_series(tif, name)
            _check_declared(series, name)
            _check_complete(series, path, name)
            px_size, interval = metadata.px_size_nm(tif), metadata.frame_interval_s(tif)
            frames = np.asarray(series.asarray())
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            name, "does not fit into memory", "Cut out 64 × 64 px around one molecule and at most 512 frames"
        ) from error
    except Exception as error:  # a forged or broken file can fail anywhere in the decoder
        raise InputError(
            name, "is a damaged TIFF: its pixels cannot be read", "Save it again from ImageJ or copy it afresh"
        ) from error
    return Stack(frames.reshape(-1, *frames.shape[-2:]), px_size, interval, notes)


def _check_start(path: Path, name: str) -> None:
    """The first bytes say what a file is, whatever its name ends in."""
    start = first_bytes(path, name, 8, Phrase("clip"))
    if not start.startswith(TIFF_STARTS):
        known = (kind for magic, kind in OTHER_STARTS.items() if start.startswith(magic))
        problem = Phrase("is not a TIFF but {other}", other=next(known, Phrase("some other kind of file")))
        raise InputError(name, problem, "Export the clip as a TIFF stack, in ImageJ with File > Save As > Tiff")


def _chosen_series(tif: tifffile.TiffFile, name: str) -> tuple[tifffile.TiffPageSeries, tuple[str, ...]]:
    """The movie of a file, and a note where a choice was made. Frames that were saved one by one are one movie."""
    first, count = tif.series[0], len(tif.series)
    if count == 1:
        return first, ()
    if first.kind != "shaped" or len(first.shape) != 2:
        return first, (Phrase("first of {n} image series in the file", n=count),)
    if any(series.shape != first.shape or series.dtype != first.dtype for series in tif.series):
        problem = Phrase("has {n} separate images of different shape or type", n=count)
        raise InputError(name, problem, "Save the frames as one stack")
    pages = [series.pages[0] for series in tif.series]
    whole = tifffile.TiffPageSeries(pages, (count, *first.shape), first.dtype, "TYX")
    return whole, (Phrase("{n} separate images taken as frames", n=count),)


def _check_declared(series: tifffile.TiffPageSeries, name: str) -> None:
    """Shape, type and size, from the header alone."""
    axes, shape = series.axes.upper(), tuple(series.shape)
    remedy = "Cut out 64 × 64 px around one molecule and 16 to 512 frames"
    if "S" in axes:
        problem = Phrase("is a colour picture ({n} values per pixel)", n=shape[axes.index("S")])
        raise InputError(name, problem, "Save the raw camera frames as grey values")
    size = int(np.prod(shape, dtype=object)) * series.dtype.itemsize
    if len(shape) < 2 or min(shape) < 1:
        raise InputError(name, Phrase("holds no image (shape {shape})", shape=shape), "Export the clip again as a TIFF stack")
    long = [count for count in shape[:-2] if count > 1]
    if len(long) > 1:
        problem = Phrase("has several channels, slices or series ({axes} = {shape})", axes=axes, shape=shape)
        raise InputError(name, problem, "Save one channel of one movie as a stack of frames")
    frames = long[0] if long else 1
    if frames == 1:
        raise InputError(name, "has a single frame, and D needs motion", MORE_FRAMES)
    if frames > MAX_FRAMES:
        raise InputError(name, Phrase("has {n} frames: a whole movie (at most {most})", n=frames, most=MAX_FRAMES), remedy)
    if max(shape[-2:]) > MAX_SIDE_PX or size > MAX_BYTES:
        problem = Phrase("declares {w} × {h} px × {n} frames ({mib:,.0f} MiB; limit {most} MiB)", w=shape[-1], h=shape[-2],
                         n=frames, mib=size / 2**20, most=MAX_BYTES >> 20)  # fmt: skip
        raise InputError(name, problem, remedy)
    if min(shape[-2:]) < MIN_SIDE_PX:
        problem = Phrase("is {w} × {h} px, too small to tell molecule from background", w=shape[-1], h=shape[-2])
        raise InputError(name, problem, Phrase("Cut out at least {n} × {n} px", n=MIN_SIDE_PX))
    if frames < MIN_FRAMES:
        raise InputError(name, Phrase("has {n} frames, too few to see diffusion", n=frames), MORE_FRAMES)
    if series.dtype.kind not in "uif":
        raise InputError(name, Phrase("holds {dtype} values", dtype=str(series.dtype)), "Save it as 16-bit grey values")


def _check_chain(tif: tifffile.TiffFile, path: Path, name: str) -> None:
    """Whether the chain of pages ends inside the file: a cut file points to pages that are gone."""
    kind, last = tif.tiff, tif.pages[-1]
    length = path.stat().st_size
    handle = tif.filehandle
    handle.seek(last.offset)
    tags = int.from_bytes(handle.read(kind.tagnosize), "little" if kind.byteorder == "<" else "big")
    handle.seek(last.offset + kind.tagnosize + tags * kind.tagsize)
    following = int.from_bytes(handle.read(kind.offsetsize), "little" if kind.byteorder == "<" else "big")
    if following >= length:
        problem = Phrase("is truncated: only {n} of its frames are complete ({size:,} bytes)", n=len(tif.pages), size=length)
        raise InputError(name, problem, "Copy the file again")


def _check_complete(series: tifffile.TiffPageSeries, path: Path, name: str) -> None:
    """Whether the file is as long as its header says."""
    length = path.stat().st_size
    if series.dataoffset is not None:
        end = series.dataoffset + series.nbytes
    else:
        pages = [page for page in series.pages if page is not None]
        end = max(offset + count for page in pages for offset, count in zip(page.dataoffsets, page.databytecounts))
    if end > length:
        raise InputError(name, Phrase("is truncated: {n:,} bytes of {all:,}", n=length, all=end), "Copy the file again")


def _usable_frames(frames: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """The first 16 frames with content. Raises InputError where pixels are missing or say nothing."""
    notes: list[str] = []
    if frames.dtype.kind == "f":
        bad = int((~np.isfinite(frames)).sum())
        if bad:
            problem = Phrase("has {n} pixels that are not numbers (NaN or infinite)", n=bad)
            raise InputError(name, problem, "Export the raw camera values")
        if float(np.abs(frames).max()) > 1e9:
            raise InputError(name, "has values beyond ±10⁹, which no camera gives", "Export the raw camera values")
        notes.append(Phrase("floating-point values: taken as linear in light"))
    elif frames.dtype.itemsize == 1:
        notes.append(Phrase("8-bit: if it was converted from 16 bits, contrast was cut and photons are less certain"))
    varies = frames.reshape(len(frames), -1)
    blank = varies.max(axis=1) == varies.min(axis=1)
    if blank.all():
        problem = Phrase("has the same value ({value:g}) in every pixel", value=float(frames.flat[0]))
        raise InputError(name, problem, "Check the export: there is no picture in it")
    end = len(frames) - int(np.argmin(blank[::-1]))
    if end < len(frames):
        notes.append(Phrase("{n} blank frames at the end left out", n=len(frames) - end))
    if end < MIN_FRAMES:
        raise InputError(name, Phrase("has {n} frames with a picture, too few to see diffusion", n=end), MORE_FRAMES)
    if end > CLIP_FRAMES:
        notes.append(Phrase("first {n} of {all} frames used", n=CLIP_FRAMES, all=end))
    kept = frames[: min(end, CLIP_FRAMES)]
    exact = kept.dtype.kind == "u" and kept.dtype.itemsize <= 2
    return kept.astype(np.uint16 if exact else np.float32), notes


# --- camera and timing ------------------------------------------------------------------------------------------------
def _camera(frames: np.ndarray, typed: Acquisition) -> tuple[transfer.Reading, list[str]]:
    """Camera of the clip: what was typed, and the rest from the clip, said in a note."""
    camera = transfer.read_without_gain(transfer.read, frames[None], transfer.known_of(typed), typed.e_per_adu)
    adu = float(camera.baseline_adu[0])
    told = [] if typed.baseline_adu is not None else [Phrase("baseline {adu:.3g} ADU", adu=adu)]
    if camera.slope_error[0] > 0:
        kind = Phrase("EMCCD") if camera.excess_noise[0] > 1 else Phrase("sCMOS or CCD")
        gain, error = camera.slope_adu[0] / camera.excess_noise[0], camera.slope_error[0] / camera.slope_adu[0]
        values = {"gain": float(gain), "error": float(error), "kind": kind}
        told.append(Phrase("{gain:.3g} ADU/photon ± {error:.0%} ({kind})", **values))
    if len(told) == 2:
        return camera, [Phrase("camera estimated: {baseline}, {gain}", baseline=told[0], gain=told[1])]
    return camera, [Phrase("camera estimated: {told}", told=one) for one in told]


def _not_used(typed: Acquisition, gain_known: bool) -> list[str]:
    """What was typed of the camera and had no effect, with what is missing."""
    cases = (
        (Phrase("e_per_adu not used for the gain: em_gain is unknown"), typed.e_per_adu is not None and not gain_known),
        (Phrase("em_gain not used for the gain: e_per_adu is unknown"), (typed.em_gain or 1) > 1 and typed.e_per_adu is None),
        (Phrase("read_sigma_e not used: e_per_adu is unknown"), typed.read_sigma_e is not None and typed.e_per_adu is None),
    )
    return [sentence for sentence, applies in cases if applies]


def _timing(stack: Stack, typed: Acquisition, name: str) -> tuple[float, float, float, list[str]]:
    """Pixel size (nm), frame interval (s), exposure fraction, each NaN where unknown, and notes."""
    px_size, interval = typed.px_size_nm, typed.frame_interval_s
    taken: list[str] = []
    notes: list[str] = []
    if px_size is None:
        px_size = stack.px_size_nm.value
        (notes if px_size is None else taken).append(stack.px_size_nm.words)
    if interval is None:
        interval = stack.frame_interval_s.value
        (notes if interval is None else taken).append(stack.frame_interval_s.words)
    notes = [words for words in notes if words]
    if len(taken) == 2:
        notes = [Phrase("{one} and {other} from the file", one=as_phrase(taken[0]), other=as_phrase(taken[1]))]
    elif taken:
        notes = [Phrase("{what} from the file", what=as_phrase(taken[0])), *notes]
    exposure = np.nan
    if typed.exposure_s is not None and interval is not None:
        exposure = typed.exposure_s / interval
        if exposure > 1 + 1e-9:
            problem = Phrase("exposure_s = {open:g} is longer than the frame interval of {interval:g} s that the file gives",
                             open=typed.exposure_s, interval=interval)  # fmt: skip
            raise InputError(name, problem, "Correct exposure_s, or type frame_interval_s")
    elif typed.exposure_s is not None:
        notes.append(Phrase("exposure_s not used: the frame interval is unknown"))
    return (np.nan if px_size is None else px_size), (np.nan if interval is None else interval), exposure, notes


# --- fitting to 16 × 64 × 64 ------------------------------------------------------------------------------------------
def _fit(frames: np.ndarray, camera: transfer.Reading) -> tuple[np.ndarray, list[str]]:
    """The clip as (16, 64, 64): cut around the molecule, or filled up with background from the clip itself."""
    count, height, width = frames.shape
    notes: list[str] = []
    seen = camera.track.visible[0]
    seen = seen if seen.any() else np.ones_like(seen)
    if height > CLIP_PX or width > CLIP_PX:
        cuts = []
        for at, size in ((camera.track.y_px[0][seen], height), (camera.track.x_px[0][seen], width)):
            first = int(np.clip(round((at.min() + at.max() - CLIP_PX + 1) / 2), 0, max(size - CLIP_PX, 0)))
            cuts.append(slice(first, first + CLIP_PX))
        frames = frames[:, cuts[0], cuts[1]]
        notes.append(
            Phrase(
                "cut from {width} × {height} px to {w} × {h} px around the brightest track (x from {x}, y from {y})",
                width=width, height=height, w=frames.shape[2], h=frames.shape[1], x=cuts[1].start, y=cuts[0].start,
            )
        )  # fmt: skip
    if frames.shape != (CLIP_FRAMES, CLIP_PX, CLIP_PX):
        if min(frames.shape[1:]) < CLIP_PX:
            size = {"w": frames.shape[2], "h": frames.shape[1]}
            notes.append(Phrase("{w} × {h} px filled up with background drawn from the clip", **size))
        if count < CLIP_FRAMES:
            notes.append(Phrase("only {n} frames: the error is larger", n=count))
        frames = _fill(frames, camera, (height, width))
    return frames, notes


def _fill(frames: np.ndarray, camera: transfer.Reading, shape: tuple[int, int]) -> np.ndarray:
    """Put the frames into the middle of a clip of background: pixels far from the molecule, drawn anew (same file, same clip)."""
    count, height, width = frames.shape
    track = camera.track
    if (height, width) == shape:
        down, across = np.arange(height)[:, None] - track.y_px[0][:, None, None], np.arange(width) - track.x_px[0][:, None, None]
        far = np.hypot(down, across) > min(transfer.SPOT_RADIUS_PX, min(shape) / 3)
        pool = frames[far]
    else:
        pool = frames[frames <= np.quantile(frames, 0.9)]
    clip = np.random.default_rng(0).choice(pool, (CLIP_FRAMES, CLIP_PX, CLIP_PX))
    top, left = (CLIP_PX - height) // 2, (CLIP_PX - width) // 2
    clip[:count, top : top + height, left : left + width] = frames
    return clip


# --- writing ----------------------------------------------------------------------------------------------------------
def write(samples: Samples, folder: Path) -> list[Path]:
    """One ImageJ TIFF stack per clip with pixel size and interval where known, and truth.csv where truth is known.

    All files are written beside their place first and then renamed, so a full disk leaves nothing half. Raises InputError
    where a file of that name is there already: raw data are never replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = plain_names(samples.table["file"].astype(str).tolist(), (".tiff", ".tif"), ".tif", "clip")
    with_truth = "true_d_px2_per_frame" in samples.table
    targets = [folder / name for name in names] + ([folder / "truth.csv"] if with_truth else [])
    taken = next((target for target in targets if target.exists()), None)
    if taken is not None:
        raise InputError(taken.name, "is there already", "Choose an empty folder: nothing is written over")
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as temporary:
        for row, name in enumerate(names):
            _write_clip(samples, row, Path(temporary) / name)
        if with_truth:
            _write_truth(samples.table.assign(file=names), Path(temporary) / "truth.csv")
        for target in targets:
            (Path(temporary) / target.name).replace(target)
    return targets


def _write_clip(samples: Samples, row: int, path: Path) -> None:
    """One clip's real frames; uint16 or float32, as they came."""
    record = samples.table.iloc[row]
    frames = np.asarray(samples.inputs["clip_adu"][row][: int(record["n_frames"])])
    about: dict[str, object] = {"axes": "TYX"}
    resolution = None
    if np.isfinite(record["px_size_nm"]):
        per_micron = 1000 / float(record["px_size_nm"])
        resolution, about["unit"] = (per_micron, per_micron), "um"
    if np.isfinite(record["frame_interval_s"]):
        about["finterval"] = float(record["frame_interval_s"])
    tifffile.imwrite(path, frames, imagej=True, resolution=resolution, metadata=about, photometric="minisblack")


def _write_truth(table: pd.DataFrame, path: Path) -> None:
    """True values and settings, one row per file."""
    um2_s = table["true_d_px2_per_frame"] * (table["px_size_nm"] / 1000) ** 2 / table["frame_interval_s"]
    known = table.assign(true_d_um2_s=um2_s)
    known[[c for c in TRUTH_COLUMNS if c in known]].to_csv(path, index=False, quoting=csv.QUOTE_MINIMAL)
