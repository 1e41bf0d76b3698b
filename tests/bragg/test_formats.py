"""Every format comes back as it was written: pixels, mask, geometry, beam; and the real frames read as they are known to be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import fabio
import h5py
import numpy as np
import pytest
import tifffile

from lib import drawn
from lib.task import InputError, Samples
from lib.tasks.bragg import files, hdf5
from lib.tasks.bragg.config import Acquisition
from lib.tasks.bragg.geometry import Geometry, wavelength_angstrom
from lib.tasks.bragg.writing import write_mask
from tests.bragg.bad_frames import (
    CENTER_YX,
    DISTANCE_MM,
    GAP,
    PX_UM,
    SHAPE,
    WAVELENGTH,
    bad_map,
    frames,
    write_cbf,
    write_cxi,
    write_edf,
    write_eiger,
    write_nxmx,
    write_old_cheetah,
    write_sacla,
    write_smv,
    write_virtual,
)

REAL = Path(__file__).parents[3] / "shared" / "data" / "bragg"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="real frames are not on this machine (../shared/data/bragg)")


def read(path: Path, **typed: object) -> Samples:
    return files.read(path, Acquisition.parse(typed))


def pixels(samples: Samples) -> np.ndarray:
    return np.stack([frame.pixels for frame in files.frames_of(samples)])


def assert_known(geometry: Geometry) -> None:
    """The detector and beam that the writers of bad_frames.py put down."""
    assert geometry.modules[0].origin_yx_px == pytest.approx((-CENTER_YX[0], -CENTER_YX[1]))
    assert geometry.px_size_um == pytest.approx(PX_UM)
    assert geometry.distance_mm == pytest.approx(DISTANCE_MM)
    assert geometry.wavelength_angstrom == pytest.approx(WAVELENGTH)


# --- HDF5 -------------------------------------------------------------------------------------------------------------
def test_nxmx_gives_frames_mask_geometry_and_the_full_pixel(tmp_path: Path) -> None:
    data = frames(dtype="u4")
    data[1, 3, 3] = 2**32 - 1
    samples = read(write_nxmx(tmp_path / "run.nxs", data))
    first, second, _ = files.frames_of(samples)
    assert (first.pixels == data[0]).all()
    assert (first.mask == (bad_map() == 0)).all()
    assert not second.mask[3, 3] and second.mask.sum() == first.mask.sum() - 1
    assert_known(first.geometry)
    assert samples.table["frame"].to_list() == [0, 1, 2]
    assert set(samples.table["file"]) == {"run.nxs"} and set(samples.table["saturation_adu"]) == {60_000}


def test_an_eiger_master_gives_all_its_data_files_in_order(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, data := frames(5))
    samples = read(path)
    assert (pixels(samples) == data).all()
    assert samples.table["frame"].to_list() == [0, 1, 2, 3, 4]
    assert samples.table["index"].to_list() == [0, 1, 0, 1, 0]
    assert_known(files.frame_at(samples, 4).geometry)
    assert not files.frame_at(samples, 4).mask[GAP].any()


def test_a_master_that_was_moved_with_its_data_files_still_finds_them(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, data := frames(4), target="/somewhere/else/run_data_{:06d}.h5")
    assert (pixels(read(path)) == data).all()


def test_an_uploaded_master_finds_its_data_files_by_the_names_people_know(tmp_path: Path) -> None:
    path = write_eiger(tmp_path, data := frames(4))
    upload = tmp_path / "upload"
    upload.mkdir()
    given = []
    for number, file in enumerate((path, *sorted(tmp_path.glob("run_data_*")))):
        given.append((file.rename(upload / f"{number:05d}.h5"), f"session 3/{file.name}"))
    samples = files.read_bundle(given, Acquisition())
    assert (pixels(samples) == data).all()
    assert set(samples.table["file"]) == {"session 3/run_master.h5"}
    with pytest.raises(InputError, match=r"needs the file run_data_00000[12]\.h5"):
        files.read_bundle(given[:1], Acquisition())


def test_files_that_belong_together_are_bundled() -> None:
    names = ["a/r_data_000001.h5", "a/r_master.h5", "b/r_data_000001.h5", "x.cbf", "d.geom", "my_mask.h5", "a/r_data_000002.h5"]
    assert files.bundles(names) == [[1, 0, 6, 4, 5], [2, 4, 5], [3, 4, 5]]
    assert files.bundles(["unmasked.h5", "d.geom"]) == [[0, 1]]
    assert files.bundles(["d.geom"]) == [[0]]


def test_a_geometry_file_alone_is_no_frames_and_a_mask_alone_can_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "d.geom").write_text("clen = 0.1")
    with pytest.raises(InputError, match="together with the frames"):
        read(tmp_path / "d.geom")
    mask = write_mask(bad_map() == 0, tmp_path / "mask.h5")
    assert (files.frame_at(read(mask, dataset="/entry_1/data_1/mask"), 0).pixels == bad_map()).all()


def test_files_offer_what_can_be_named(tmp_path: Path) -> None:
    run, mask = write_cxi(tmp_path / "run.cxi", frames()), write_mask(bad_map() == 0, tmp_path / "mask.h5")
    (tmp_path / "d.geom").write_text("")
    given = [(run, "run.cxi"), (mask, "up/mask.h5"), (tmp_path / "d.geom", "up/d.geom"), (tmp_path / "gone.h5", "gone.h5")]
    offered = files.offered(given)
    assert "/entry_1/data_1/data" in offered["dataset"]
    assert (offered["geometry_file"], offered["mask_file"]) == (("d.geom",), ("mask.h5",))


def test_a_drawn_mask_is_written_and_read(tmp_path: Path) -> None:
    run = write_smv(tmp_path / "a.img", frames()[0])
    good = np.random.default_rng(0).random(SHAPE) > 0.3
    write_mask(good, tmp_path / "drawn.h5")
    assert (files.frame_at(read(run, mask_file="drawn.h5"), 0).mask == good).all()


def test_a_virtual_dataset_of_whole_frames_is_taken_apart(tmp_path: Path) -> None:
    samples = read(write_virtual(tmp_path, data := frames(4)))
    assert (pixels(samples) == data).all()
    assert [Path(p).name for p in samples.table["path"]] == ["a.h5", "a.h5", "b.h5", "b.h5"]


def test_a_virtual_dataset_that_pieces_frames_together_is_refused(tmp_path: Path) -> None:
    write_nxmx(tmp_path / "half.h5", frames(2, (20, 48)), facts=False)
    layout = h5py.VirtualLayout((2, 40, 48), "u2")
    for top in (0, 20):
        layout[:, top : top + 20] = h5py.VirtualSource("half.h5", "/entry/data/data", (2, 20, 48), "u2")
    with h5py.File(tmp_path / "both.h5", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    with pytest.raises(InputError, match="pieces each frame"):
        read(tmp_path / "both.h5")


def test_cxi_gives_each_frame_its_photon_energy(tmp_path: Path) -> None:
    data = frames(3)
    samples = read(write_cxi(tmp_path / "run.cxi", data))
    wavelengths = [frame.geometry.wavelength_angstrom for frame in files.frames_of(samples)]
    assert wavelengths == pytest.approx([wavelength_angstrom(e) for e in (9000, 9100, 9200)])
    frame = files.frame_at(samples, 2)
    assert (frame.pixels == data[2]).all() and not frame.mask[GAP].any() and frame.mask.mean() > 0.9
    assert frame.geometry.distance_mm == pytest.approx(DISTANCE_MM) and frame.geometry.px_size_um == pytest.approx(PX_UM)


def test_cxi_with_a_mask_for_each_frame(tmp_path: Path) -> None:
    path = write_cxi(tmp_path / "run.cxi", frames(3))
    with h5py.File(path, "r+") as file:
        del file["entry_1/data_1/mask"]
        each = np.zeros((3, *SHAPE), "u2")
        for k in range(3):
            each[k, k] = 4
        file["entry_1/data_1/mask"] = each
    for frame in files.frames_of(read(path)):
        assert not frame.mask[frame.number].any() and frame.mask.sum() == frame.mask.size - SHAPE[1]


def test_sacla_gives_a_frame_for_each_tag(tmp_path: Path) -> None:
    samples = read(write_sacla(tmp_path / "run.h5", data := frames(3)))
    assert (pixels(samples) == data).all()
    assert samples.table["event"].to_list() == ["tag-900", "tag-902", "tag-904"]
    geometry = files.frame_at(samples, 2).geometry
    assert geometry.wavelength_angstrom == pytest.approx(wavelength_angstrom(7002))
    assert geometry.px_size_um == pytest.approx(50)


@pytest.mark.parametrize("place", ["data/data", "data", "images", "entry/instrument/detector/data", "odd/place/of/frames"])
def test_plain_layouts_are_found(place: str, tmp_path: Path) -> None:
    data = frames(2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[place] = data
    assert (pixels(read(tmp_path / "a.h5")) == data).all()


def test_old_cheetah_and_frames_of_one_are_frames(tmp_path: Path) -> None:
    one = frames(1)[0]
    assert (pixels(read(write_old_cheetah(tmp_path / "old.h5", one))) == one).all()
    for name, array in (("hw", one), ("hw1", one[..., None]), ("nhw1", one[None, ..., None])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["entry/data/data"] = array
        assert (pixels(read(tmp_path / f"{name}.h5")) == one).all()


def test_a_named_dataset_is_taken_and_one_that_is_not_there_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data/data"], file["raw/gain0"] = frames(2), frames(3, seed=5)
        file["event_7/raw"], file["event_8/raw"] = frames(1)[0], frames(1)[0]
    assert (pixels(read(tmp_path / "a.h5", dataset="raw/gain0")) == frames(3, seed=5)).all()
    assert len(read(tmp_path / "a.h5", dataset="/%/raw")) == 2
    with pytest.raises(InputError, match=r"no dataset 'raw/gain1'\. .*/raw/gain0 \(3 × 40 × 48, uint16\)"):
        read(tmp_path / "a.h5", dataset="raw/gain1")


def test_two_candidates_are_listed_not_guessed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cam1/x"], file["cam2/x"] = frames(2), frames(2)
    with pytest.raises(InputError, match=r"There is: /cam1/x .*, /cam2/x"):
        read(tmp_path / "a.h5")


# --- images -----------------------------------------------------------------------------------------------------------
def test_cbf_gives_frame_facts_and_pilatus_marks(tmp_path: Path) -> None:
    data = frames()[0].astype(int)
    data[3, 3], data[4, 4] = -1, -2
    frame = files.frame_at(read(write_cbf(tmp_path / "a.cbf", data)), 0)
    assert (frame.pixels == data).all()
    assert not frame.mask[3, 3] and not frame.mask[4, 4] and frame.mask.sum() == frame.mask.size - 2
    assert_known(frame.geometry)


def test_smv_gives_frame_and_facts_by_mosflms_convention(tmp_path: Path) -> None:
    data = frames()[0]
    samples = read(write_smv(tmp_path / "a.img", data))
    frame = files.frame_at(samples, 0)
    assert (frame.pixels == data).all() and frame.mask.all()
    assert_known(frame.geometry)
    assert samples.table["saturation_adu"][0] == 60_000
    assert "Mosflm" in samples.remarks[0][1]


def test_edf_gives_all_its_frames_and_facts(tmp_path: Path) -> None:
    data = frames()
    samples = read(write_edf(tmp_path / "a.edf", data))
    assert (pixels(samples) == data).all()
    assert_known(files.frame_at(samples, 1).geometry)


@pytest.mark.parametrize("how", [{}, {"compression": "lzw"}, {"bigtiff": True}, {"byteorder": ">"}])
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_tiff_gives_all_its_frames(how: dict[str, object], dtype: str, tmp_path: Path) -> None:
    data = frames(dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", **how)
    assert (pixels(read(tmp_path / "a.tif")) == data).all()


def test_a_pilatus_tiff_tells_its_facts_and_marks(tmp_path: Path) -> None:
    data = frames(1, dtype="i4")[0]
    data[5, 5] = -1
    text = f"# PILATUS 100K\r\n# Pixel_size {PX_UM}e-6 m x {PX_UM}e-6 m\r\n# Detector_distance {DISTANCE_MM / 1e3} m"
    tifffile.imwrite(tmp_path / "a.tif", data, description=text, metadata=None)
    frame = files.frame_at(read(tmp_path / "a.tif"), 0)
    assert frame.geometry.px_size_um == pytest.approx(PX_UM) and frame.geometry.distance_mm == pytest.approx(DISTANCE_MM)
    assert not frame.mask[5, 5] and frame.mask.sum() == frame.mask.size - 1


# --- masks and what is typed ------------------------------------------------------------------------------------------
def _as_hdf5(place: str) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, bad: np.ndarray) -> None:
        with h5py.File(path, "w") as file:
            file[place] = bad

    return write


@pytest.mark.parametrize(
    ("name", "write", "good_is"),
    [
        ("mask.h5", _as_hdf5("data/data"), 1),
        ("mask.h5", _as_hdf5("entry_1/data_1/mask"), 0),
        ("mask.h5", _as_hdf5("entry/instrument/detector/pixel_mask"), 0),
        ("mask.h5", _as_hdf5("somewhere/else"), 0),
        ("mask.tif", lambda p, m: tifffile.imwrite(p, m.astype("u1")), 0),
        ("mask.edf", lambda p, m: fabio.edfimage.EdfImage(data=m).write(str(p)), 0),
    ],
)
def test_mask_files_of_all_conventions(
    name: str, write: Callable[[Path, np.ndarray], None], good_is: int, tmp_path: Path
) -> None:
    path = write_cbf(tmp_path / "a.cbf", frames()[0])
    write(tmp_path / name, bad_map() if good_is == 0 else 1 - bad_map())
    assert (files.frame_at(read(path, mask_file=name), 0).mask == (bad_map() == 0)).all()
    turned = files.frame_at(read(path, mask_file=name, mask_good="one" if good_is == 0 else "zero"), 0).mask
    assert (turned == (bad_map() == 1)).all()


def test_a_copy_of_a_mask_that_was_drawn_says_what_it_means(home: Path) -> None:
    good, run = bad_map() == 0, write_cbf(home / "a.cbf", frames()[0])
    shutil.copy(drawn.save("bragg", "stop", good), home / "copied.h5")
    assert (files.frame_at(read(run, mask_file="copied.h5"), 0).mask == good).all()


def test_companions_of_an_upload_are_used_without_being_named(tmp_path: Path) -> None:
    frame = write_cbf(tmp_path / "00000.cbf", frames()[0])
    _as_hdf5("entry_1/data_1/mask")(tmp_path / "00001.h5", bad_map())
    given = [(frame, "a.cbf"), (tmp_path / "00001.h5", "run7-mask.h5")]
    samples = files.read_bundle(given, Acquisition())
    assert not files.frame_at(samples, 0).mask[GAP].any()
    assert samples.remarks == (("a.cbf", "mask from run7-mask.h5"),)


def test_what_is_typed_goes_before_what_the_file_says(tmp_path: Path) -> None:
    path = write_cxi(tmp_path / "a.cxi", frames())
    typed = {
        "beam_center_y_px": 1.5, "beam_center_x_px": 2.5, "px_size_um": 10, "distance_mm": 99, "photon_energy_ev": 5000,
        "saturation_adu": 7,
    }  # fmt: skip
    samples = read(path, bad_rectangles="0:2:0:48,30:40:5:6", **typed)
    frame = files.frame_at(samples, 1)
    geometry = frame.geometry
    assert geometry.modules[0].origin_yx_px == (-1.5, -2.5)
    assert (geometry.px_size_um, geometry.distance_mm) == (10, 99)
    assert geometry.wavelength_angstrom == pytest.approx(wavelength_angstrom(5000))
    assert set(samples.table["saturation_adu"]) == {7}
    expected = bad_map() == 0
    expected[0:2], expected[30:40, 5:6] = False, False
    assert (frame.mask == expected).all()


def test_references_survive_saving_and_joining(tmp_path: Path) -> None:
    first, second = read(write_nxmx(tmp_path / "a.h5", frames())), read(write_smv(tmp_path / "b.img", frames()[0]))
    both = Samples.concat([first, second])
    (tmp_path / "kept").mkdir()
    both.save(tmp_path / "kept")
    back = Samples.load(tmp_path / "kept").take([3, 1])
    assert [frame.file for frame in files.frames_of(back)] == ["b.img", "a.h5"]
    assert (pixels(back) == frames()[[0, 1]]).all()
    hdf5.close_files()


# --- real frames ------------------------------------------------------------------------------------------------------
@needs_real
def test_the_same_real_frame_from_smv_and_hdf5() -> None:
    smv, stack = read(REAL / "snase_00001.img"), read(REAL / "snase.h5")
    assert len(stack) == 4
    one, other = files.frame_at(smv, 0), files.frame_at(stack, 0)
    assert (one.pixels == other.pixels).all()
    assert np.array(one.geometry.modules[0].origin_yx_px) == pytest.approx(other.geometry.modules[0].origin_yx_px, abs=8)
    assert (one.geometry.px_size_um, one.geometry.distance_mm) == (pytest.approx(80), pytest.approx(57.43))


@needs_real
def test_the_same_real_frame_from_cbf_and_hdf5() -> None:
    cbf, stack = files.frame_at(read(REAL / "braggy_in16c_010001.cbf"), 0), files.frame_at(read(REAL / "insulin.h5"), 0)
    assert (cbf.pixels == stack.pixels).all()
    assert not (stack.mask & ~cbf.mask).any()  # what Pilatus marks as bad is bad in the mask that came with the truth
    assert np.array(cbf.geometry.modules[0].origin_yx_px) == pytest.approx(stack.geometry.modules[0].origin_yx_px, abs=6)
    assert cbf.geometry.wavelength_angstrom == pytest.approx(1.542)


@needs_real
def test_simulated_frames_of_the_shared_set_read_whole() -> None:
    samples = read(REAL / "synthetic_1024.h5")
    assert len(samples) == 12
    assert pixels(samples.take([0, 11])).shape == (2, 1024, 1024)
    assert 0.9 < files.frame_at(samples, 5).mask.mean() < 0.96
