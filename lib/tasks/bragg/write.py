"""Frames as files that other programs read: CXI and NeXus in one, a CrystFEL geometry, and the truth as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pandas as pd

from lib.disk import written_whole
from lib.task import Samples
from lib.tasks.bragg import detector, simulate
from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.files import frames_of
from lib.tasks.bragg.geometry import Geometry, photon_energy_ev

JOULE_PER_EV = 1.602176634e-19  # SI
DATA, MASK = "/entry_1/data_1/data", "/entry_1/data_1/mask"
TRUTH = ("y_px", "x_px", "intensity", "snr", "resolution_angstrom")


def write_cxi(samples: Samples, folder: Path) -> list[Path]:
    """Write frames as `frames.cxi` into an existing folder, and `frames-2.cxi` … where they are of several detectors.

    `/entry_1/data_1/data` (n, ss, fs) and `mask` (0 is good) are also where NXmx has them, in `/entry`. Frames of one detector
    of several modules get a CrystFEL geometry, `frames.geom`. Where spots are known, `truth.csv` has a row for each: `file`,
    `frame`, `y_px, x_px` (array indices), `intensity` (photons), `snr`, `resolution_angstrom`.
    Raises InputError where a frame cannot be read or the folder cannot be written; then no file is left.
    """
    groups = [np.asarray(rows) for rows in samples.table.groupby("geometry", sort=False).indices.values()]
    paths, truth = [], []
    with ExitStack() as stack:
        for number, rows in enumerate(groups, 1):
            path = folder / (f"frames-{number}.cxi" if number > 1 else "frames.cxi")
            part = samples.take(rows) if len(groups) > 1 else samples
            _write_file(stack.enter_context(written_whole(path)), part)
            paths.append(path)
            truth.append(_truth(part.table, path.name))
        geometry = Geometry.from_json(samples.table["geometry"].iloc[0])
        if len(groups) == 1 and len(geometry.modules) > 1:
            paths.append(folder / "frames.geom")
            stack.enter_context(written_whole(paths[-1])).write_text(crystfel_geometry(geometry), encoding="utf-8")
        if "true_y_px" in samples.table:
            paths.append(folder / "truth.csv")
            pd.concat(truth).to_csv(stack.enter_context(written_whole(paths[-1])), index=False)
    return paths


def write_simulated(
    config: Simulation, n: int, rng: np.random.Generator, folder: Path, on_progress: Callable[[float], None] | None = None
) -> list[Path]:
    """Write n simulated frames of one experiment, what `write_cxi` writes of `simulate_frames`, each as it is made.

    Memory does not grow with n. `on_progress` gets the finished share, 0 to 1.
    Raises InputError where the list of intensities cannot be read or the folder cannot be written; then no file is left.
    """
    where = detector.geometry(config)
    experiment = simulate.set_up(config, where, rng)
    paths = [folder / "frames.cxi", folder / "truth.csv"]
    with ExitStack() as stack:
        run, truth = (stack.enter_context(written_whole(path)) for path in paths)
        if len(where.modules) > 1:
            paths.insert(1, folder / "frames.geom")
            stack.enter_context(written_whole(paths[1])).write_text(crystfel_geometry(where), encoding="utf-8")
        with h5py.File(run, "w") as file, truth.open("w", encoding="utf-8", newline="") as text:
            pixels, mask = _datasets(file, (n, *where.shape), np.int32, one_mask=True)
            mask[()] = ~experiment.pixels.mask
            text.write(",".join(["file", "frame", *TRUTH]) + "\n")
            for number in range(n):
                frame, spots = simulate.expose(experiment, rng)
                pixels[number] = frame.pixels
                spots.assign(file=paths[0].name, frame=number)[["file", "frame", *TRUTH]].to_csv(text, header=False, index=False)
                if on_progress is not None:
                    on_progress((number + 1) / n)
            _describe(file, where, n)
    return paths


def _datasets(file: h5py.File, shape: tuple[int, int, int], kind: type, *, one_mask: bool) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Empty frames and masks, or the one mask of all, in a new file."""
    file["cxi_version"] = np.int32(140)
    of_mask = shape[1:] if one_mask else shape
    chunk = (1, *shape[1:])
    pixels = file.create_dataset(DATA, shape, kind, chunks=chunk, **hdf5plugin.Bitshuffle())
    return pixels, file.create_dataset(MASK, of_mask, np.uint8, compression="gzip", chunks=chunk[-len(of_mask) :])


def _write_file(path: Path, samples: Samples) -> None:
    """All frames of one detector, one in memory at a time."""
    geometry = Geometry.from_json(samples.table["geometry"].iloc[0])
    n = len(samples)
    with h5py.File(path, "w") as file:
        one_mask = "mask" in samples.inputs and samples.inputs["mask"].strides[0] == 0
        pixels, mask = _datasets(file, (n, *geometry.shape), _dtype(samples), one_mask=one_mask)
        for place, frame in enumerate(frames_of(samples)):
            pixels[place] = frame.pixels
            if not one_mask or place == 0:
                mask[() if one_mask else place] = ~frame.mask
        _describe(file, geometry, n)


def _dtype(samples: Samples) -> type:
    """int32 for whole numbers in memory; float32 for all others, as frames are read."""
    frames = samples.inputs.get("frame")
    whole = frames is not None and all(bool((np.rint(frame) == frame).all()) for frame in frames)
    return np.int32 if whole else np.float32


def _describe(file: h5py.File, geometry: Geometry, n: int) -> None:
    """Detector and beam, where CXI, NXmx and LCLS's Cheetah have them. What is not known is left out."""
    cxi, nexus = file.create_group("/entry_1/instrument_1/detector_1"), file.create_group("/entry/instrument/detector")
    for path, kind in (
        ("/entry", "NXentry"),
        ("/entry/instrument", "NXinstrument"),
        ("/entry/instrument/detector", "NXdetector"),
    ):
        file[path].attrs["NX_class"] = kind
    file["/entry/definition"] = "NXmx"
    group = file.create_group("/entry/data")
    group.attrs.update({"NX_class": "NXdata", "signal": "data"})
    group["data"] = file[DATA]  # hard links: the same arrays under a second name
    nexus["pixel_mask"] = file[MASK]
    cxi["data"], cxi["mask"] = file[DATA], file[MASK]
    known: dict[str, tuple[float, str]] = {}
    if geometry.px_size_um is not None:
        known |= {"x_pixel_size": (geometry.px_size_um * 1e-6, "m"), "y_pixel_size": (geometry.px_size_um * 1e-6, "m")}
    if geometry.distance_mm is not None:
        known["distance"] = (geometry.distance_mm / 1000, "m")
        file["/LCLS/detector_1/EncoderValue"] = np.full(n, geometry.distance_mm)
    if all(m.fs_yx == (0.0, 1.0) and m.ss_yx == (1.0, 0.0) for m in geometry.modules):
        first = geometry.modules[0]
        center = first.y0 - first.origin_yx_px[0], first.x0 - first.origin_yx_px[1]
        known |= {"beam_center_y": (center[0], "pixel"), "beam_center_x": (center[1], "pixel")}
    for name, (value, unit) in known.items():
        for place in (cxi, nexus):
            place[name] = value
            place[name].attrs["units"] = unit
    if geometry.wavelength_angstrom is not None:
        energy_ev = photon_energy_ev(geometry.wavelength_angstrom)
        file["/LCLS/photon_energy_eV"] = np.full(n, energy_ev)
        file["/entry_1/instrument_1/source_1/energy"] = energy_ev * JOULE_PER_EV
        file["/entry/instrument/beam/incident_wavelength"] = geometry.wavelength_angstrom
        file["/entry/instrument/beam/incident_wavelength"].attrs["units"] = "angstrom"
        file["/entry/instrument/beam"].attrs["NX_class"] = "NXbeam"


def _truth(table: pd.DataFrame, file: str) -> pd.DataFrame:
    """One row per spot; frames are numbered as in the file."""
    columns = ["file", "frame", *TRUTH]
    if "true_y_px" not in table or not len(table):
        return pd.DataFrame(columns=columns)
    known = [name for name in TRUTH if f"true_{name}" in table]
    lists = table[[f"true_{name}" for name in known]].set_axis(known, axis=1).assign(file=file, frame=np.arange(len(table)))
    spots = lists[lists["y_px"].map(len) > 0].explode(known).reset_index(drop=True)
    return spots[[name for name in columns if name in spots]].astype(dict.fromkeys(known, float))


def crystfel_geometry(geometry: Geometry) -> str:
    """A CrystFEL geometry file for frames written by `write_cxi`. Its corners are half a pixel from the pixels' centres."""
    return "\n".join([*_common_lines(geometry), *_panel_lines(geometry)]) + "\n"


def _common_lines(geometry: Geometry) -> Iterator[str]:
    if geometry.wavelength_angstrom is not None:
        yield f"photon_energy = {photon_energy_ev(geometry.wavelength_angstrom):.6f}"
    if geometry.distance_mm is not None:
        yield f"clen = {geometry.distance_mm / 1000:.9f}"
    yield f"res = {1e6 / (geometry.px_size_um or 1e6):.9f}"
    yield from (f"data = {DATA}", "dim0 = %", "dim1 = ss", "dim2 = fs")
    yield from (f"mask = {MASK}", "mask_good = 0x0", "mask_bad = 0x1")


def _panel_lines(geometry: Geometry) -> Iterator[str]:
    for number, m in enumerate(geometry.modules):
        name = m.name or f"p{number}"
        corner = [m.origin_yx_px[k] - (m.fs_yx[k] + m.ss_yx[k]) / 2 for k in (0, 1)]
        yield ""
        yield f"{name}/min_ss = {m.y0}"
        yield f"{name}/max_ss = {m.y1 - 1}"
        yield f"{name}/min_fs = {m.x0}"
        yield f"{name}/max_fs = {m.x1 - 1}"
        yield f"{name}/corner_x = {corner[1]:.9f}"
        yield f"{name}/corner_y = {corner[0]:.9f}"
        yield f"{name}/fs = {m.fs_yx[1]:+.9f}x {m.fs_yx[0]:+.9f}y"
        yield f"{name}/ss = {m.ss_yx[1]:+.9f}x {m.ss_yx[0]:+.9f}y"
        if m.offset_mm:
            yield f"{name}/coffset = {m.offset_mm / 1000:.9f}"
