"""Broken and hostile files: each is refused with a sentence, and what can be read still is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lib.task import InputError, Samples
from lib.tasks.bragg import files, hdf5
from lib.tasks.bragg.config import Acquisition
from tests.bragg.bad_frames import (
    BAD_FILES,
    CENTER_YX,
    SHAPE,
    bad_map,
    frames,
    write_cbf,
    write_cxi,
    write_edf,
    write_nxmx,
    write_smv,
)

NOTHING_TYPED = Acquisition()


def read(path: Path, **typed: object) -> Samples:
    return files.read(path, Acquisition.parse(typed))


def pixels(samples: Samples) -> np.ndarray:
    return np.stack([frame.pixels for frame in files.frames_of(samples)])


def text_of(error: InputError) -> str:
    return f"{error.problem}. {error.remedy}"


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_broken_file_is_refused_with_a_sentence(case: str, tmp_path: Path) -> None:
    name, write, words = BAD_FILES[case]
    folder = tmp_path / "named by the user"
    folder.mkdir()
    write(folder / name)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(InputError) as caught:
        files.read(folder / name, NOTHING_TYPED, "my run")
    error = caught.value
    assert error.subject.startswith("my run")
    assert re.search(words, text_of(error)), text_of(error)
    assert "Traceback" not in str(error) and len(error.remedy) > 10
    hdf5.close_files()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("write", [write_nxmx, write_cxi, write_cbf, write_smv, write_edf])
def test_bytes_changed_anywhere_never_give_more_than_a_sentence(write: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    several = write in (write_nxmx, write_cxi, write_edf)
    good = write(path, frames() if several else frames()[0]).read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(20):
        content = bytearray(good)
        for place in rng.integers(0, min(len(content), 4096), 4):
            content[place] = rng.integers(256)
        hdf5.close_files()
        path.write_bytes(content[: rng.integers(len(content) // 2, len(content))] if rng.random() < 0.2 else content)
        told: list[InputError] = []
        try:
            list(files.frames_of(read(path), lambda row, error: told.append(error)))  # noqa: B023
        except InputError as error:
            told.append(error)
        refused += bool(told)
        assert all(error.subject == "a.dat" for error in told)
    hdf5.close_files()
    assert refused > 0


def test_a_file_that_another_program_writes_is_told_so(tmp_path: Path) -> None:
    path = write_nxmx(tmp_path / "live.h5", frames())
    code = f"import h5py; f = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "open\n"
        with pytest.raises(InputError, match="being written by another program"):
            read(path)
        writer.communicate("\n")
    assert len(read(path)) == 3


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        read(tmp_path / "gone.h5")


# --- numbers of every kind --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i4", "i8", "u8", "f4", "f8", ">u2", "f2"])
def test_readings_of_any_number_type_come_back(dtype: str, tmp_path: Path) -> None:
    data = np.minimum(frames(), 200).astype(dtype)
    back = pixels(read(write_nxmx(tmp_path / "a.h5", data)))
    assert back.dtype == np.float32
    assert (back == data).all()


def test_what_is_no_number_is_masked_and_negative_readings_stay(tmp_path: Path) -> None:
    data = frames(dtype="f4") - 30
    data[0, 3, 4], data[0, 5, 6] = np.nan, np.inf
    frame = files.frame_at(read(write_nxmx(tmp_path / "a.h5", data, facts=False)), 0)
    assert not frame.mask[3, 4] and not frame.mask[5, 6]
    assert frame.mask.sum() == frame.mask.size - 2
    assert np.isfinite(frame.pixels).all()
    assert frame.pixels.min() < -5


def test_a_frame_of_nans_alone_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    data = frames(dtype="f4")
    data[1] = np.nan
    told: list[tuple[int, str]] = []
    samples = read(write_nxmx(tmp_path / "a.h5", data))
    kept = list(files.frames_of(samples, lambda row, error: told.append((row, str(error)))))
    assert [frame.number for frame in kept] == [0, 2]
    assert told[0][0] == 1 and "no good pixel in frame 1" in told[0][1]


def test_negative_numbers_without_a_sign_are_refused(tmp_path: Path) -> None:
    noise = np.rint(np.random.default_rng(0).normal(0, 10, (2, *SHAPE)))
    samples = read(write_nxmx(tmp_path / "a.h5", noise.astype(np.int64).astype(np.uint16)))
    with pytest.raises(InputError, match=r"just below 65,536.*without a sign"):
        files.frame_at(samples, 0)


@pytest.mark.parametrize("dtype", ["u2", "u4"])
@pytest.mark.parametrize("below", [30, 80, 500])
def test_a_frame_that_is_negative_nearly_everywhere_is_refused(below: int, dtype: str, tmp_path: Path) -> None:
    data = (frames(dtype="i8") - below).astype(dtype)
    data[0, :20] = np.iinfo(dtype).max  # a gap
    with pytest.raises(InputError, match=r"just below (65,536|4,294,967,296).*without a sign"):
        files.frame_at(read(write_nxmx(tmp_path / "a.h5", data)), 0)


@pytest.mark.parametrize("mark", [1, 2])
def test_a_frame_that_is_masked_nearly_everywhere_is_none_of_negative_numbers(mark: int, tmp_path: Path) -> None:
    data = frames(dtype="u4")
    data[:, 3:] = 2**32 - mark
    assert (files.frame_at(read(write_nxmx(tmp_path / "a.h5", data, facts=False)), 0).pixels[:3] == data[0, :3]).all()


def test_full_pixels_are_no_negative_numbers(tmp_path: Path) -> None:
    data = frames()
    data[:, :10] = 65_535
    frame = files.frame_at(read(write_cxi(tmp_path / "a.cxi", data)), 0)
    assert frame.pixels[5, 5] == 65_535 and frame.mask[5, 5]


# --- what does not fit ------------------------------------------------------------------------------------------------
def test_a_beam_centre_far_outside_is_refused_and_one_beside_the_frame_is_told(tmp_path: Path) -> None:
    path = write_nxmx(tmp_path / "a.h5", frames(), facts=False)
    with pytest.raises(InputError, match=r"y = 4000\.0, x = 20\.0 px lies outside the frame \(40 × 48 px\)"):
        read(path, beam_center_y_px=4000, beam_center_x_px=20)
    beside = read(path, beam_center_y_px=-30, beam_center_x_px=20)
    assert "outside the frame" in beside.remarks[0][1]
    assert files.frame_at(beside, 0).geometry.modules[0].origin_yx_px == (30, -20)


def test_a_beam_centre_of_the_file_far_outside_is_told_and_not_used(tmp_path: Path) -> None:
    path = write_nxmx(tmp_path / "a.h5", frames())
    with h5py.File(path, "r+") as file:
        file["entry/instrument/detector/beam_center_x"][...] = 1e6
    samples = read(path)
    assert "was not used" in samples.remarks[0][1]
    assert files.frame_at(samples, 0).geometry.modules[0].origin_yx_px == (-19.5, -23.5)


def test_geometry_that_does_not_fit_names_the_panel(tmp_path: Path) -> None:
    path = write_nxmx(tmp_path / "a.h5", frames())
    (tmp_path / "big.geom").write_text(
        "res = 10000\nclen = 0.1\np0/min_fs = 0\np0/max_fs = 99\np0/min_ss = 0\np0/max_ss = 39\n"
        "p0/fs = x\np0/ss = y\np0/corner_x = 0\np0/corner_y = 0\n"
    )
    with pytest.raises(InputError, match=r"big\.geom: panel p0 .*does not fit a frame of 40 × 48"):
        read(path, geometry_file="big.geom")


def test_a_mask_file_of_another_shape_or_missing_is_told(tmp_path: Path) -> None:
    path = write_nxmx(tmp_path / "a.h5", frames())
    write_cbf(tmp_path / "mask.cbf", np.zeros((30, 30)))
    with pytest.raises(InputError, match=r"mask of 30 × 30 pixels in mask\.cbf"):
        read(path, mask_file="mask.cbf")
    with pytest.raises(InputError, match=r"needs the file no\.h5"):
        read(path, mask_file="no.h5")
    with pytest.raises(InputError, match="outside its own folder"):
        read(path, mask_file="../../secret.h5")


@pytest.mark.parametrize("text", ["1:2:3", "5:5:0:9", "a:b:c:d", "-1:5:0:9"])
def test_a_rectangle_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="rectangle"):
        Acquisition.parse({"bad_rectangles": [text]})


def test_beam_settings_that_disagree_are_refused() -> None:
    with pytest.raises(InputError, match="give one of them"):
        Acquisition.parse({"wavelength_angstrom": 1.0, "photon_energy_ev": 9000})
    with pytest.raises(InputError, match="belong together"):
        Acquisition.parse({"beam_center_y_px": 1.0})
    assert Acquisition.parse({"photon_energy_ev": "12398.419843320026"}).wavelength == pytest.approx(1.0)


# --- the good ones go on ----------------------------------------------------------------------------------------------
def test_frames_of_several_sizes_lie_side_by_side(tmp_path: Path) -> None:
    small = read(write_nxmx(tmp_path / "small.h5", frames(2)))
    large = read(write_smv(tmp_path / "large.img", frames(1, (60, 50))[0]))
    shapes = [frame.pixels.shape for frame in files.frames_of(Samples.concat([small, large]))]
    assert shapes == [SHAPE, SHAPE, (60, 50)]


def test_a_damaged_frame_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    data = frames(4)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("entry/data/data", data=data, chunks=(1, *SHAPE), compression="gzip")
        place = made.id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    told: list[int] = []
    kept = [f.number for f in files.frames_of(read(path), lambda row, error: told.append(row))]
    assert kept == [0, 1, 3] and told == [2]


def test_a_file_that_grows_gives_what_is_written(tmp_path: Path) -> None:
    path, data = tmp_path / "live.h5", frames(6)
    with h5py.File(path, "w", libver="latest") as writer:
        made = writer.create_dataset("entry/data/data", (6, *SHAPE), "u2", maxshape=(None, *SHAPE), chunks=(1, *SHAPE))
        made[:2] = data[:2]
        writer.flush()
        writer.swmr_mode = True
        early = read(path)
        assert (pixels(early) == data[:2]).all()
        assert "4 declared frames are not written" in early.remarks[0][1]
        made[2:5] = data[2:5]
        made.flush()
        hdf5.close_files()
        assert (pixels(read(path)) == data[:5]).all()
        assert (pixels(early) == data[:2]).all()
    hdf5.close_files()


def test_a_file_that_changed_since_it_was_read_is_told(tmp_path: Path) -> None:
    path = write_nxmx(tmp_path / "a.h5", frames(5))
    samples = read(path)
    assert files.frame_at(samples, 4).number == 4
    hdf5.close_files()
    write_nxmx(path, frames(2))
    with pytest.raises(InputError, match="no frame 4 any more"):
        files.frame_at(samples, 4)
    hdf5.close_files()
    write_nxmx(path, frames(5, (30, 30)), facts=False)
    with pytest.raises(InputError, match=r"frame 0 of \(30, 30\) pixels|lost its mask|no frame"):
        files.frame_at(samples, 0)
    path.unlink()
    with pytest.raises(InputError, match=r"lost|opened"):
        files.frame_at(samples, 0)


def test_a_file_swapped_for_one_that_leads_outside_is_refused_at_the_frame(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = write_nxmx(folder / "a.h5", frames(), facts=False)
    samples = read(path)
    hdf5.close_files()
    write_nxmx(tmp_path / "other.h5", frames())
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("../other.h5", "/entry/data/data")
    with pytest.raises(InputError, match="outside its own folder"):
        files.frame_at(samples, 0)


def test_only_a_few_files_stay_open(tmp_path: Path) -> None:
    hdf5.close_files()
    for k in range(hdf5.MAX_OPEN + 5):
        read(write_nxmx(tmp_path / f"{k}.h5", frames(1)))
    assert len(hdf5._open.files) == hdf5.MAX_OPEN
    hdf5.close_files()
    assert not hdf5._open.files


def test_references_of_a_long_run_cost_little_and_read_nothing(tmp_path: Path) -> None:
    path = tmp_path / "long.h5"
    n = 10_000
    with h5py.File(path, "w") as file:
        made = file.create_dataset("entry/data/data", (n, 2048, 2048), "u2", chunks=(1, 2048, 2048), compression="gzip")
        for k in range(n):
            made.id.write_direct_chunk((k, 0, 0), b"no frame", 0)  # reading any of them would fail
        file["entry/instrument/detector/pixel_mask"] = np.zeros((2048, 2048), "u1")
    samples = read(path)
    assert len(samples) == n and not samples.inputs
    assert samples.table.memory_usage(deep=True).sum() < 8e6
    assert path.stat().st_size < 10e6
    with pytest.raises(InputError, match="damaged frame 7"):
        files.frame_at(samples, 7)


def test_a_mask_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = write_nxmx(tmp_path / "a.h5", frames(), facts=False)
    mask_path = tmp_path / "mask.h5"
    for bad in (bad_map(), 1 - bad_map()):
        hdf5.close_files()
        with h5py.File(mask_path, "w") as file:
            file["data/mask"] = bad
        mask = files.frame_at(read(path, mask_file="mask.h5"), 0).mask
        assert (mask == (bad == 0)).all()


def test_simulated_frames_go_through_the_same_door(tmp_path: Path) -> None:
    from_file = read(write_nxmx(tmp_path / "a.h5", frames()))
    mask = np.broadcast_to(bad_map() == 0, (3, *SHAPE))
    table = from_file.table[["file", "frame", "geometry", "note"]]
    simulated = Samples({"frame": frames(), "mask": mask}, table)
    for ours, theirs in zip(files.frames_of(simulated), files.frames_of(from_file), strict=True):
        assert (ours.pixels == theirs.pixels).all() and (ours.mask == theirs.mask).all()
        assert ours.geometry.modules == theirs.geometry.modules
        assert ours.geometry.modules[0].origin_yx_px == (-CENTER_YX[0], -CENTER_YX[1])
