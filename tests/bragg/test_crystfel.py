"""CrystFEL geometry files: rotated panels against positions worked out by hand, beams, bad regions, masks, and wrong files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from lib.task import InputError
from lib.tasks.bragg import crystfel, files
from lib.tasks.bragg.config import Acquisition
from lib.tasks.bragg.geometry import wavelength_angstrom
from tests.bragg.bad_frames import frames, write_cxi, write_nxmx

TWO_PANELS = """
; two panels, the second turned by a quarter and 2 mm further away
clen = 0.1 m   ; camera length
photon_energy = 9.5 keV
res = 10000
adu_per_eV = 0.001
data = /entry/data/data
dim0 = %
dim1 = ss
dim2 = fs
rigid_group_q0 = a,b

a/min_fs = 0
a/max_fs = 47
a/min_ss = 0
a/max_ss = 19
a/corner_x = -24.0
a/corner_y = 3
a/fs = +1.000000x +0.000000y
a/ss = y
a/coffset = 0.001

b/min_fs = 0
b/max_fs = 47
b/min_ss = 20
b/max_ss = 39
b/corner_x = 10
b/corner_y = -5.5
b/fs = -y
b/ss = 1.0x + 0.0y
b/coffset = 0.003
"""


def described(folder: Path, text: str = TWO_PANELS) -> crystfel.Description:
    path = folder / "detector.geom"
    path.write_text(text)
    return crystfel.read(path)


def test_rotated_panels_lie_where_a_hand_calculation_puts_them(tmp_path: Path) -> None:
    geometry = described(tmp_path).geometry((40, 48))
    y, x, z_mm = geometry.locate(np.array([0.0, 19.0, 20.0, 22.0]), np.array([0.0, 2.0, 0.0, 5.0]))
    # a: the first pixel's centre is half a pixel from the corner along both scans.
    # b: fast scan runs down (-y), slow scan to the right (+x); its first pixel is (10.5, -6) from the beam.
    assert x == pytest.approx([-23.5, -21.5, 10.5, 12.5])
    assert y == pytest.approx([3.5, 22.5, -6.0, -11.0])
    assert z_mm == pytest.approx([101, 101, 103, 103])
    assert geometry.px_size_um == pytest.approx(100)
    assert geometry.wavelength_angstrom == pytest.approx(wavelength_angstrom(9500))


def test_resolution_of_a_turned_panel_follows_braggs_law(tmp_path: Path) -> None:
    geometry = described(tmp_path).geometry((40, 48))
    d = geometry.resolution_angstrom(np.array([22.0]), np.array([5.0]))[0]
    radius_mm = np.hypot(12.5, -11.0) * 0.1
    theta = np.arctan(radius_mm / 103) / 2
    assert 2 * d * np.sin(theta) == pytest.approx(wavelength_angstrom(9500))


def test_a_panel_with_larger_pixels_is_scaled(tmp_path: Path) -> None:
    geometry = described(tmp_path, TWO_PANELS.replace("b/corner_x = 10", "b/res = 5000\nb/corner_x = 10")).geometry((40, 48))
    y, x, _ = geometry.locate(np.array([20.0, 21.0]), np.array([0.0, 0.0]))
    assert x == pytest.approx([21.0, 23.0]) and y == pytest.approx([-12.0, -12.0])


def test_the_whole_detector_shifts(tmp_path: Path) -> None:
    moved = described(tmp_path, "detector_shift_x = 1 mm\n" + TWO_PANELS).modules[0].origin_yx_px
    assert moved == pytest.approx((3.5, -23.5 + 10))


def test_defaults_hold_for_the_panels_that_follow(tmp_path: Path) -> None:
    text = TWO_PANELS.replace("b/min_fs = 0", "no_index = 1\nb/min_fs = 0", 1)
    assert (20, 40, 0, 48) in described(tmp_path, text).boxes
    assert not described(tmp_path).boxes


def test_the_camera_length_may_stand_behind_the_panels(tmp_path: Path) -> None:
    assert described(tmp_path, TWO_PANELS.replace("clen = 0.1 m", "") + "clen = 300 mm\n").distance_mm == pytest.approx(301)


@pytest.mark.parametrize(
    ("line", "angstrom"),
    [
        ("photon_energy = 8000 eV", wavelength_angstrom(8000)),
        ("photon_energy = 8000", wavelength_angstrom(8000)),
        ("wavelength = 1.25 A", 1.25),
        ("wavelength = 1.25e-10 m", 1.25),
    ],
)
def test_beam_units(line: str, angstrom: float, tmp_path: Path) -> None:
    described_ = described(tmp_path, TWO_PANELS.replace("photon_energy = 9.5 keV", line))
    assert described_.wavelength_angstrom == pytest.approx(angstrom)


def test_bad_regions_edges_and_marks_become_the_mask(tmp_path: Path) -> None:
    text = TWO_PANELS + (
        "badstop/min_x = -2\nbadstop/max_x = 2\nbadstop/min_y = 3\nbadstop/max_y = 6\n"
        "badcol/min_fs = 40\nbadcol/max_fs = 41\nbadcol/min_ss = 0\nbadcol/max_ss = 99\nbadcol/panel = b\n"
    )
    text = "mask_edge_pixels = 1\nflag_morethan = 300\nflag_lessthan = 1\n" + text
    (tmp_path / "d.geom").write_text(text)
    data = frames(1)
    data[0, 10, 10], data[0, 10, 11], data[0, 10, 12] = 300, 301, 0
    path = write_nxmx(tmp_path / "a.h5", data, facts=False)
    mask = files.frame_at(files.read(path, Acquisition(geometry_file="d.geom")), 0).mask
    expected = np.zeros((40, 48), bool)
    expected[1:19, 1:47] = expected[21:39, 1:47] = True
    expected[0:3, 22:26] = False  # of panel a: x from -1.5 to 1.5, y from 3.5 to 5.5
    expected[20:40, 40:42] = False
    expected[10, 11] = expected[10, 12] = False
    expected[data[0] > 300] = False
    assert (mask == expected).all()


def test_masks_by_bits_in_the_data_file_and_in_one_of_its_own(tmp_path: Path) -> None:
    bits = np.zeros((40, 48), "u2")
    bits[3, 3], bits[4, 4], bits[5, 5] = 1, 2, 3
    path = write_nxmx(tmp_path / "a.h5", frames(), facts=False)
    with h5py.File(path, "r+") as file:
        file["own/map"] = bits
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["data/data"] = (bits != 2).astype("u1")
    for lines, bad in (
        ("mask0_data = /own/map\nmask0_goodbits = 0x0\nmask0_badbits = 0x2\n", [(4, 4), (5, 5)]),
        ("mask = /data/data\nmask_file = m.h5\nmask_good = 0x1\nmask_bad = 0x0\n", [(4, 4)]),
    ):
        (tmp_path / "d.geom").write_text(lines + TWO_PANELS)
        mask = files.frame_at(files.read(path, Acquisition(geometry_file="d.geom")), 0).mask
        assert [tuple(map(int, place)) for place in np.argwhere(~mask[:10, :10])] == bad


def test_camera_length_and_energy_come_from_the_data_file_for_each_frame(tmp_path: Path) -> None:
    path = write_cxi(tmp_path / "run.cxi", frames(3))
    with h5py.File(path, "r+") as file:
        file["LCLS/detector_1/EncoderValue"] = np.array([-400.0, -401.0, -402.0])
    text = TWO_PANELS.replace("clen = 0.1 m", "clen = /LCLS/detector_1/EncoderValue")
    text = text.replace("9.5 keV", "/LCLS/photon_energy_eV eV").replace("/entry/data/data", "/entry_1/data_1/data")
    text = text.replace("coffset = 0.001", "coffset = 0.5").replace("coffset = 0.003", "coffset = 0.502")
    (tmp_path / "d.geom").write_text(text)
    samples = files.read(path, Acquisition(geometry_file="d.geom"))
    for frame in files.frames_of(samples):
        assert frame.geometry.distance_mm == pytest.approx(100 - frame.number)
        assert frame.geometry.modules[1].offset_mm == pytest.approx(2)
        assert frame.geometry.wavelength_angstrom == pytest.approx(wavelength_angstrom(9000 + 100 * frame.number))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("b/corner_x = 10", ""), "lacks corner_x for b"),
        (("b/fs = -y", "b/fs = sideways"), r"fs = 'sideways' in b, where a direction"),
        (("a/max_fs = 47", "a/max_fs = wide"), r"max_fs = 'wide' in a, where a number"),
        (("res = 10000", "res = 0"), "res = '0' in a, where pixels per metre"),
        (("clen = 0.1 m", "clen = 0.1 ft"), "clen = 'ft'"),
        (("dim1 = ss", "dim1 = 3"), "more than three dimensions"),
        (("b/min_fs = 0", "b/data = /other\nb/min_fs = 0"), "several datasets"),
        ((TWO_PANELS, "hello\n"), "line 1 that is no parameter: 'hello'"),
        ((TWO_PANELS, "; nothing\n"), "describes no panel"),
        (("b/max_ss = 39", "b/max_ss = 49"), r"panel b \(rows 20–49.*does not fit a frame of 40 × 48"),
    ],
)
def test_a_wrong_geometry_file_is_told(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        described(tmp_path, TWO_PANELS.replace(*change, 1)).geometry((40, 48))
    assert caught.value.subject == "detector.geom"


def test_a_typed_beam_centre_and_a_geometry_file_exclude_each_other(tmp_path: Path) -> None:
    described(tmp_path)
    path = write_nxmx(tmp_path / "a.h5", frames())
    with pytest.raises(InputError, match="Leave one of them empty"):
        files.read(path, Acquisition(geometry_file="detector.geom", beam_center_y_px=1, beam_center_x_px=1))
