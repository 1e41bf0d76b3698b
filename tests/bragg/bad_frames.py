"""Detector files as labs have them: one writer per layout, and the broken ones with the words of their refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fabio
import h5py
import hdf5plugin
import numpy as np
import tifffile

SHAPE = (40, 48)
PX_UM, DISTANCE_MM, WAVELENGTH = 75.0, 120.0, 1.2
CENTER_YX = (18.5, 23.25)
GAP = np.s_[20:22, :]


def frames(n: int = 3, shape: tuple[int, int] = SHAPE, dtype: str = "u2", seed: int = 0) -> np.ndarray:
    """Poisson background with one spot per frame, (n, H, W)."""
    counts = np.random.default_rng(seed).poisson(20, (n, *shape))
    for k in range(n):
        counts[k, 5 + k, 7] = 900 + k
    return counts.astype(dtype)


def bad_map(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """1 in a gap of two rows, 0 elsewhere."""
    bad = np.zeros(shape, np.uint32)
    bad[GAP] = 1
    return bad


def _nexus_facts(file: h5py.File) -> None:
    detector = file.require_group("entry/instrument/detector")
    for key, value, units in (
        ("beam_center_y", CENTER_YX[0], "pixel"), ("beam_center_x", CENTER_YX[1], "pixel"),
        ("x_pixel_size", PX_UM * 1e-6, "m"), ("distance", DISTANCE_MM, "mm"),
    ):  # fmt: skip
        detector[key] = value
        detector[key].attrs["units"] = units
    detector["pixel_mask"] = bad_map()
    detector["saturation_value"] = 60_000
    file["entry/instrument/beam/incident_wavelength"] = WAVELENGTH
    file["entry/instrument/beam/incident_wavelength"].attrs["units"] = "angstrom"


def write_nxmx(path: Path, data: np.ndarray, facts: bool = True) -> Path:
    """One NeXus file, bitshuffle/LZ4, a piece for each frame."""
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", data=data, chunks=(1, *data.shape[1:]), **hdf5plugin.Bitshuffle(cname="lz4"))
        if facts:
            _nexus_facts(file)
    return path


def write_eiger(folder: Path, data: np.ndarray, per_file: int = 2, target: str = "run_data_{:06d}.h5") -> Path:
    """A master and its data files, linked by name."""
    path = folder / "run_master.h5"
    with h5py.File(path, "w") as master:
        _nexus_facts(master)
        group = master.create_group("entry/data")
        for number, first in enumerate(range(0, len(data), per_file), 1):
            write_nxmx(folder / f"run_data_{number:06d}.h5", data[first : first + per_file], facts=False)
            group[f"data_{number:06d}"] = h5py.ExternalLink(target.format(number), "/entry/data/data")
    return path


def write_virtual(folder: Path, data: np.ndarray) -> Path:
    """Frames of two files shown as one virtual dataset."""
    half = len(data) // 2
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    for name, part, start in (("a.h5", data[:half], 0), ("b.h5", data[half:], half)):
        write_nxmx(folder / name, part, facts=False)
        layout[start : start + len(part)] = h5py.VirtualSource(name, "/entry/data/data", part.shape, part.dtype)
    path = folder / "all.nxs"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    return path


def write_cxi(path: Path, data: np.ndarray) -> Path:
    """CXI as Cheetah writes it at LCLS: a photon energy for each frame."""
    with h5py.File(path, "w") as file:
        file.create_dataset("entry_1/data_1/data", data=data, chunks=(1, *data.shape[1:]))
        file["entry_1/data_1/mask"] = bad_map().astype("u2")
        file["entry_1/instrument_1/detector_1/x_pixel_size"] = PX_UM * 1e-6
        file["entry_1/instrument_1/detector_1/distance"] = DISTANCE_MM * 1e-3
        file["LCLS/photon_energy_eV"] = 9000.0 + 100 * np.arange(len(data))
    return path


def write_sacla(path: Path, data: np.ndarray) -> Path:
    """A group for each frame."""
    with h5py.File(path, "w") as file:
        file["metadata/pixelsize_in_micro_meter"] = 50.0
        for k, frame in enumerate(data):
            file[f"tag-{900 + 2 * k}/data"] = frame
            file[f"tag-{900 + 2 * k}/photon_energy_ev"] = 7000.0 + k
    return path


def write_old_cheetah(path: Path, frame: np.ndarray) -> Path:
    """One frame, /data/data being a soft link."""
    with h5py.File(path, "w") as file:
        file["data/rawdata0"] = frame
        file["data/data"] = h5py.SoftLink("/data/rawdata0")
    return path


def write_cbf(path: Path, frame: np.ndarray) -> Path:
    """A Pilatus image with its comment lines."""
    contents = (
        f"# Pixel_size {PX_UM * 1e-6:g} m x {PX_UM * 1e-6:g} m\r\n# Count_cutoff 60000 counts\r\n"
        f"# Beam_xy ({CENTER_YX[1]}, {CENTER_YX[0]}) pixels\r\n# Wavelength {WAVELENGTH} A\r\n"
        f"# Detector_distance {DISTANCE_MM * 1e-3} m"
    )
    header = {"_array_data.header_convention": "SLS/DECTRIS_1.1", "_array_data.header_contents": contents}
    fabio.cbfimage.CbfImage(data=frame.astype(np.int32), header=header).write(str(path))
    return path


def write_smv(path: Path, frame: np.ndarray) -> Path:
    """An ADSC image; the beam centre in mm, x along slow scan."""
    mm = PX_UM / 1000
    keys = {
        "HEADER_BYTES": "  512", "DIM": 2, "BYTE_ORDER": "little_endian", "TYPE": "unsigned_short", "SIZE1": frame.shape[1],
        "SIZE2": frame.shape[0], "PIXEL_SIZE": mm, "DISTANCE": DISTANCE_MM, "WAVELENGTH": WAVELENGTH,
        "BEAM_CENTER_X": CENTER_YX[0] * mm, "BEAM_CENTER_Y": CENTER_YX[1] * mm, "CCD_IMAGE_SATURATION": 60000,
    }  # fmt: skip
    header = "{\n" + "".join(f"{key}={value};\n" for key, value in keys.items()) + "}\n"
    path.write_bytes(header.encode().ljust(512, b" ") + frame.astype("<u2").tobytes())
    return path


def write_edf(path: Path, data: np.ndarray) -> Path:
    """An EDF file of several frames with ESRF's keys."""
    header = {
        "Center_1": CENTER_YX[1], "Center_2": CENTER_YX[0], "PSize_1": PX_UM * 1e-6, "SampleDistance": DISTANCE_MM * 1e-3,
        "WaveLength": WAVELENGTH * 1e-10,
    }  # fmt: skip
    image = fabio.edfimage.EdfImage(data=data[0], header=header)
    for frame in data[1:]:
        image.append_frame(data=frame, header=header)
    image.write(str(path))
    return path


# --- broken ones: writer, and what the refusal must say ---------------------------------------------------------------
def _dataset(path: Path, data: np.ndarray, inner: str = "entry/data/data", **how: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(inner, data=data, **how)


def _no_dataset(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/title"] = "run 7"
        file["spectrum/counts"] = np.arange(5)


def _unknown_filter(path: Path) -> None:
    with h5py.File(path, "w") as file:
        create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        create.set_chunk((1, *SHAPE))
        create.set_filter(61_234, h5py.h5z.FLAG_OPTIONAL, ())
        group = file.create_group("entry/data")
        space = h5py.h5s.create_simple((1, *SHAPE))
        data = h5py.h5d.create(group.id, b"data", h5py.h5t.NATIVE_UINT16, space, create)
        data.write_direct_chunk((0, 0, 0), b"packed by another program")


def _truncated(path: Path) -> None:
    write_nxmx(path, frames())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _external_storage(path: Path) -> None:
    secret = path.parent / "secret.raw"
    secret.write_bytes(b"root:x:0:0" * 400)
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", (1, 40, 48), "u1", external=[(str(secret), 0, 1920)])


def _link_outside(path: Path) -> None:
    outside = path.parent.parent / "elsewhere.h5"
    write_nxmx(outside, frames())
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("../elsewhere.h5", "/entry/data/data")


def _link_by_symlink(path: Path) -> None:
    write_nxmx(path.parent.parent / "elsewhere.h5", frames())
    (path.parent / "inside.h5").symlink_to(path.parent.parent / "elsewhere.h5")
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("inside.h5", "/entry/data/data")


def _virtual_outside(path: Path) -> None:
    write_nxmx(path.parent.parent / "elsewhere.h5", frames())
    layout = h5py.VirtualLayout((3, *SHAPE), "u2")
    layout[:] = h5py.VirtualSource(str(path.parent.parent / "elsewhere.h5"), "/entry/data/data", (3, *SHAPE), "u2")
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)


def _circle(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = h5py.SoftLink("/entry/data/more")
        file["entry/data/more"] = h5py.SoftLink("/entry/data/data")


def _master_alone(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("run_data_000001.h5", "/entry/data/data")


def _declares(path: Path, shape: tuple[int, ...], dtype: str = "u4") -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", shape, dtype, chunks=(1, *(min(s, 1024) for s in shape[1:])))
    assert path.stat().st_size < 8192


def _huge_chunk(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", (600, 1024, 1024), "u4", chunks=(512, 1024, 1024))


def _mask_of_another_shape(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = frames()
        file["entry/instrument/detector/pixel_mask"] = np.zeros((40, 40), "u4")


def _all_masked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = frames()
        file["entry/instrument/detector/pixel_mask"] = np.ones(SHAPE, "u4")


def _cbf_changed(path: Path) -> None:
    write_cbf(path, frames()[0])
    content = bytearray(path.read_bytes())
    content[content.index(b"\x0c\x1a\x04\xd5") + 100] ^= 0x03
    path.write_bytes(content)


def _cbf_without_marks(path: Path) -> None:
    write_cbf(path, frames()[0])
    path.write_bytes(path.read_bytes().replace(b"CIF-BINARY-FORMAT", b"CIF-BYNARY-FORMAT").replace(b"X-Binary-Size-Sec", b"X-"))


def _cut(write: Callable[[Path], object], by: int) -> Callable[[Path], None]:
    def made(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[:-by])

    return made


def _smv_declares(path: Path) -> None:
    write_smv(path, frames()[0])
    path.write_bytes(path.read_bytes().replace(b"SIZE2=40", b"SIZE2=9000000"))


def _packed_tiff(path: Path) -> None:
    tifffile.imwrite(path, frames(), photometric="minisblack", compression="zlib")


BAD_FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {  # name: file name, writer, words of the refusal
    "without the dataset": ("a.h5", _no_dataset, r"no frames.*/spectrum/counts \(5, int64\)"),
    "1-D": ("a.h5", lambda p: _dataset(p, np.arange(99)), r"shape \(99,\).*\(N, height, width\)"),
    "4-D": ("a.h5", lambda p: _dataset(p, np.zeros((2, 3, 40, 48), "u2")), r"shape \(2, 3, 40, 48\)"),
    "text": ("a.h5", lambda p: _dataset(p, np.full((2, 40, 48), b"x")), "holds .* values"),
    "complex": ("a.h5", lambda p: _dataset(p, np.zeros((2, 40, 48), "c8")), "complex64 values"),
    "zero frames": ("a.h5", lambda p: _dataset(p, np.zeros((0, 40, 48), "u2"), maxshape=(None, 40, 48)), "0 frames"),
    "1-pixel frame": ("a.h5", lambda p: _dataset(p, np.zeros((3, 1, 1), "u2")), "1 × 1 pixels, too small"),
    "1-pixel TIFF": ("a.tif", lambda p: tifffile.imwrite(p, np.zeros((1, 1), "u2")), "1 × 1 pixels, too small"),
    "missing compression plug-in": ("a.h5", _unknown_filter, "filter 61234.*not installed"),
    "truncated": ("a.h5", _truncated, r"cut short: \d+ of \d+ bytes"),
    "external link leading outside": ("m.h5", _link_outside, r"points to \.\./elsewhere\.h5, outside"),
    "symbolic link leading outside": ("m.h5", _link_by_symlink, r"points to inside\.h5, outside"),
    "virtual dataset leading outside": ("m.h5", _virtual_outside, r"points to .*elsewhere\.h5, outside"),
    "external storage": ("a.h5", _external_storage, r"secret\.raw.*never opened"),
    "links in a circle": ("a.h5", _circle, "circles"),
    "master without its data files": ("run_master.h5", _master_alone, r"needs the file run_data_000001\.h5"),
    "8 GB of frames in 8 KB": ("a.h5", lambda p: _declares(p, (2048, 1024, 1024)), "2,048 frames.*none of them is written"),
    "8 GB in one frame of 8 KB": ("a.h5", lambda p: _declares(p, (1, 46341, 46341)), "declares frames of 46,341 × 46,341"),
    "pieces that unpack to 2 GB": ("a.h5", _huge_chunk, "pieces of 2,048 MiB"),
    "mask of another shape": ("a.h5", _mask_of_another_shape, "mask of 40 × 40 pixels.*frames of 40 × 48"),
    "all-masked": ("a.h5", _all_masked, "no good pixel"),
    "CBF with wrong checksum": ("a.cbf", _cbf_changed, "checksum"),
    "cut CBF": ("a.cbf", _cut(lambda p: write_cbf(p, frames()[0]), 500), "cut short"),
    "CBF without pixels": ("a.cbf", lambda p: p.write_bytes(b"###CBF: VERSION 1.5\r\n\r\ndata_x\r\n"), "not an image of pixels"),
    "CBF with a damaged header": ("a.cbf", _cbf_without_marks, "not an image of pixels"),
    "cut SMV": ("a.img", _cut(lambda p: write_smv(p, frames()[0]), 100), "cut short: 3,740 of 3,840"),
    "SMV that declares too much": ("a.img", _smv_declares, "declares frames of 9,000,000 × 48"),
    "cut TIFF": ("a.tif", _cut(lambda p: tifffile.imwrite(p, frames(), photometric="minisblack"), 4000), "cut short"),
    "TIFF cut before its last page": ("a.tif", _cut(_packed_tiff, 700), "cut short"),
    "colour TIFF": ("a.tif", lambda p: tifffile.imwrite(p, np.zeros((40, 48, 3), "u1"), photometric="rgb"), "grey frames"),
    "cut EDF": ("a.edf", _cut(lambda p: write_edf(p, frames()), 3000), "cut short|damaged"),
    "a picture": ("a.h5", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "a PNG picture"),
    "noise": ("a.cbf", lambda p: p.write_bytes(np.random.default_rng(0).bytes(5000)), "some other kind of file"),
    "empty": ("a.h5", lambda p: p.write_bytes(b""), "is empty"),
    "HDF5 in name alone": ("a.h5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(3000)), "damaged HDF5|cut short"),
}  # fmt: skip


def write_bad_files(folder: Path) -> dict[str, Path]:
    """Each of BAD_FILES in a folder of its own, under a name that no two share; by case."""
    made = {}
    for number, (case, (name, write, _)) in enumerate(BAD_FILES.items()):
        path = folder / str(number) / "named by the user" / f"bad{number}_{name}"
        path.parent.mkdir(parents=True)
        write(path)
        made[case] = path
    return made


# --- what does not go together, or only in part: files in a folder, settings, and the words of the refusal -----------------
def _geometry_of_another_detector(folder: Path) -> list[Path]:
    geometry = folder / "big.geom"
    geometry.write_text(
        "res = 10000\nclen = 0.1\np0/min_fs = 0\np0/max_fs = 99\np0/min_ss = 0\np0/max_ss = 39\n"
        "p0/fs = x\np0/ss = y\np0/corner_x = 0\np0/corner_y = 0\n"
    )
    return [write_nxmx(folder / "good.h5", frames()), geometry]


def _mask_of_another_detector(folder: Path) -> list[Path]:
    return [write_nxmx(folder / "good.h5", frames()), write_cbf(folder / "mask.cbf", np.zeros((30, 30)))]


def _one(folder: Path) -> list[Path]:
    return [write_nxmx(folder / "good.h5", frames(), facts=False)]


MISFITS: dict[str, tuple[Callable[[Path], list[Path]], dict[str, object], str]] = {
    "geometry that does not fit": (_geometry_of_another_detector, {}, r"panel p0 .*does not fit a frame of 40 × 48"),
    "mask file of another shape": (_mask_of_another_detector, {}, r"mask of 30 × 30 pixels"),
    "beam centre outside": (
        _one, {"beam_center_y_px": 4000.0, "beam_center_x_px": 20.0}, r"y = 4000\.0, x = 20\.0 px lies outside the frame",
    ),
    "dataset that is not there": (_one, {"dataset": "/nowhere"}, r"/nowhere.*/entry/data/data|/entry/data/data.*/nowhere"),
}  # fmt: skip


def write_partly_bad(folder: Path) -> dict[str, tuple[Path, list[int], str]]:
    """Files of which some frames are bad, by case: the file, its bad frames, and the words of the refusal."""
    folder.mkdir(parents=True, exist_ok=True)
    lost = frames(dtype="f4")
    lost[1] = np.nan
    noise = np.rint(np.random.default_rng(0).normal(0, 10, (2, *SHAPE))).astype(np.int64).astype(np.uint16)
    return {
        "a frame of NaN": (write_nxmx(folder / "nan.h5", lost), [1], "no good pixel in frame 1"),
        "negative numbers without a sign": (write_nxmx(folder / "unsigned.h5", noise), [0, 1], "written without a sign"),
        "frames of another size": (write_smv(folder / "large.img", frames(1, (60, 50))[0]), [], ""),
    }
