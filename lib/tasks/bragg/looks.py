"""A frame as a plate to look into, and the marks that finders make on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lib.task import TRUTH, Arrays, Facet, InputError, Phrase, Plate, Samples
from lib.tasks.bragg import files, finders, matching
from lib.tasks.bragg import projections as module
from lib.tasks.bragg.frame_views import RINGS_ANGSTROM
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry
from lib.tasks.bragg.matching import WANTED_SNR
from lib.words import Say, english


def plate(frame: Frame) -> Plate:
    """The pixels as recorded, with rings of round resolutions where the geometry tells them."""
    geometry = frame.geometry
    resolution = None
    if geometry.px_size_um is not None and geometry.distance_mm is not None and geometry.wavelength_angstrom is not None:
        resolution = geometry.px_size_um, geometry.distance_mm, geometry.wavelength_angstrom
    centre = geometry.center_yx()
    if centre is not None:
        rings = tuple((f"{d:g} Å", geometry.ring_px(d)) for d in RINGS_ANGSTROM)
        shown = tuple((label, radius) for label, radius in rings if np.isfinite(radius))
        return Plate(frame.pixels, frame.mask, "ADU", centre, shown, resolution)
    curves = {f"{d:g} Å": geometry.ring_yx(d) for d in RINGS_ANGSTROM}
    facets = tuple(Facet(m.y0, m.y1, m.x0, m.x1, m.origin_yx_px, m.ss_yx, m.fs_yx, m.offset_mm) for m in geometry.modules)
    seen = {label: curve for label, curve in curves.items() if len(curve)}
    return Plate(frame.pixels, frame.mask, "ADU", None, (), resolution, seen, facets)


def projections(gathered: Arrays, geometry: Geometry) -> dict[str, Plate]:
    """Sum, mean and largest reading of a run as pictures, of what `projections.add` gathered; geometry tells where rings are."""
    made = module.projection(gathered)
    if not made.n_frames:
        return {}
    seen = made.n_good > 0
    values = {"Largest": made.largest, "Mean": made.mean, "Sum": made.sum}
    return {name: plate(Frame(np.where(seen, value, 0), seen, geometry)) for name, value in values.items()}


def find(frame: Frame, finder: finders.Finder) -> pd.DataFrame:
    """Peaks of one classical finder, with their resolution."""
    found = finders.find(frame, finder)
    d = frame.geometry.resolution_angstrom(found["y_px"].to_numpy(), found["x_px"].to_numpy())
    return found.assign(resolution_angstrom=d)


def true_marks(samples: Samples, row: int) -> pd.DataFrame | None:
    """`y_px`, `x_px`, `snr` of the spots of one frame as TRUTH beside its file tells them; None where it does not know the file.

    Raises InputError where that table cannot be read.
    """
    about = samples.table.iloc[row]
    path = Path(str(about.get("path", "")))
    truth = path.with_name(TRUTH) if path.name else path
    if not path.name or not truth.is_file():
        return None
    table = _truth(truth, truth.stat().st_mtime_ns)
    mine = table[table["file"] == path.name]
    return None if mine.empty else mine.loc[mine["frame"] == int(about["frame"]), ["y_px", "x_px", "snr"]].reset_index(drop=True)


@lru_cache(maxsize=2)
def _truth(path: Path, _changed_ns: int) -> pd.DataFrame:
    columns = {"file": str, "frame": int, "y_px": float, "x_px": float, "snr": float}
    try:
        return pd.read_csv(path, usecols=list(columns), dtype=columns)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        problem = Phrase("does not hold the columns {columns}", columns=", ".join(columns))
        raise InputError(path.name, problem, "Write the run again, or take the file away") from error


def compare(found: pd.DataFrame, wanted: pd.DataFrame) -> dict[str, float]:
    """How two sets of peaks of one frame agree, matched within 2 px.

    Of spots whose `snr` is known, those of WANTED_SNR must be found; a weaker one that is found is neither right nor wrong.
    """
    ours, theirs = (table[["y_px", "x_px"]].to_numpy(float) for table in (found, wanted))
    must = strong(wanted)
    told = matching.score(ours, theirs[must], theirs[~must])
    common, more, missed = told.true_positives, told.false_positives, told.missed
    return {
        "n_common": common, "n_only_found": more, "n_only_wanted": missed, "f1": told.f1,
        "precision": common / (common + more) if common + more else float("nan"),
        "recall": common / (common + missed) if common + missed else float("nan"),
    }  # fmt: skip


def strong(wanted: pd.DataFrame) -> np.ndarray:
    """Which spots, bool (n,), must be found: those of WANTED_SNR, all where no `snr` is known."""
    return wanted["snr"].to_numpy(float) >= WANTED_SNR if "snr" in wanted else np.ones(len(wanted), bool)


def suggest_mask(samples: Samples, report: Callable[[float, str], None], say: Say = english) -> np.ndarray:
    """Bool (H, W), False where a pixel is always hot or never reads, as frames spread over the run tell. Raises InputError."""
    report(0.0, say("looking for pixels that are always high or never read"))
    bad = module.find_bad_pixels(samples)
    first = files.frame_at(samples, 0)
    return first.mask & ~bad.hot & ~bad.dead
