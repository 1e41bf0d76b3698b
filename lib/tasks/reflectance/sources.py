"""Where the images of a training come from: the demo set, a CSV file or kept set with images, or rendered ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.disk import home
from lib.splits import numbered
from lib.task import InputError, Phrase, Samples
from lib.tasks.reflectance.columns import TARGETS
from lib.tasks.reflectance.config import CHANNELS
from lib.tasks.reflectance.settings import TABLES, Acquisition
from lib.tasks.reflectance.training import Training

ROOT = Path(__file__).resolve().parents[3]
DEMO = "the simulated demo set"


@dataclass(frozen=True)
class Source:
    """Samples, where they are from, whether they were simulated, and what was done to read them."""

    samples: Samples
    origin: str
    simulated: bool
    notes: tuple[str, ...] = ()


def load(config: Training) -> Source:
    """The images a training names, at most `specimens` of them. Raises InputError where they are not there or not labelled."""
    if config.stage == "geometry":
        from lib.tasks.reflectance.rendered import rendered

        samples = rendered(config.rendered_images, config.seed)
        return Source(samples, f"{len(samples)} rendered images, seed {config.seed}", simulated=True)
    if not config.data:
        from lib.tasks.reflectance import demo

        return Source(demo.load(config.specimens), DEMO, simulated=True)
    return _read(config)


def _read(config: Training) -> Source:
    from lib.tasks.reflectance import files

    path = located(config.data)
    samples = files.read(path, Acquisition(), config.data)
    measured = np.isfinite(samples.table[TARGETS].to_numpy(float)).any(axis=1)
    if not measured.any():
        columns = ", ".join(CHANNELS)
        remedy = f"Add columns with measured fractions from 0 to 1: {columns}."
        raise InputError(config.data, "no picture has a measured channel to learn", remedy)
    notes = [remark for _, remark in samples.remarks]
    if not measured.all():
        notes.append(Phrase("{n} pictures without any measured channel are left out.", n=int((~measured).sum())))
    samples = samples.take(np.flatnonzero(measured))
    number = numbered(samples.table["specimen"])
    count = int(number.max()) + 1
    kept = np.linspace(0, count - 1, min(config.specimens, count)).round().astype(int)
    simulated = bool(samples.table["simulated"].any())
    return Source(samples.take(np.flatnonzero(np.isin(number, kept))), str(path), simulated, tuple(notes))


def located(data: str) -> Path:
    """The CSV file or folder of a set kept under `data/reflectance/`, or of a path. Raises InputError listing the sets."""
    folders = [home() / "data" / "reflectance", ROOT / "data" / "reflectance"]
    for folder in (*folders, Path.cwd()):  # an absolute path stays what it is
        for ending in ("", *TABLES):
            path = Path(f"{folder / Path(data).expanduser()}{ending}")
            if _exists(path):
                return path
    sets = sorted({p.name for f in folders if f.is_dir() for p in f.iterdir() if p.is_dir() or p.suffix in TABLES})
    there = f"Sets kept: {', '.join(sets[:20])}." if sets else "No set is kept yet."
    remedy = f"{there} Give the path of a CSV file or of a folder, or leave it empty to train on the simulated demo set."
    raise InputError(f"data {data!r}", "there is no such file, folder or kept set", remedy)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
