"""Real micrographs: right width of a pixel, right cut, right grey levels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.tasks.reflectance.bars import find_scale_bar
from lib.tasks.reflectance.files import read
from lib.tasks.reflectance.pictures import open_picture
from lib.tasks.reflectance.settings import Acquisition

REAL = Path(__file__).parents[3] / "shared" / "data" / "reflectance"
FEI, ZEISS = "FEI-Helios-Ebeam-16bits.tif", "test_tiff_Zeiss_SEM_512pix.tif"
OLYMPUS, OLD_FEI = "rsciio_olympus_SIS.tif", ("nanoballs_SiO2_2-2.TIF", "nanoballs_SiO2_3-5.TIF")
pytestmark = pytest.mark.skipif(not REAL.exists(), reason="real micrographs are not on this machine (../shared/data/reflectance)")


@pytest.mark.parametrize(
    ("name", "nm_per_px", "by", "bar", "bar_from"),
    [
        (FEI, 3372.4, "FEI", 29, "file"), (ZEISS, 5965 / 512, "Zeiss", 34, "picture"), (OLYMPUS, 0.0239279, "Olympus", 0, ""),
        (OLD_FEI[0], np.nan, "", 61, "picture"), (OLD_FEI[1], np.nan, "", 61, "picture"),
        ("EMPS_22d5aab090.png", np.nan, "", 0, ""), ("EMPS_cd48200d46.png", np.nan, "", 0, ""),
    ],
)  # fmt: skip
def test_scale_and_bar(name: str, nm_per_px: float, by: str, bar: int, bar_from: str) -> None:
    table = read(REAL / name, Acquisition()).table
    assert table["source_nm_per_px"][0] == pytest.approx(nm_per_px, rel=1e-5, nan_ok=True) and table["scale_from"][0] == by
    assert (table["info_bar_px"][0], table["bar_from"][0]) == (bar, bar_from)
    side = min(table["width_px"][0], table["height_px"][0] - bar)
    assert table["cut_px"][0] == side  # none of them has 6.4 µm at a scale that can be used
    assert table["nm_per_px"][0] == pytest.approx(nm_per_px * side / 256, rel=1e-5, nan_ok=True)


def test_sixteen_bits_keep_their_grey_levels() -> None:
    levels, raw = open_picture(REAL / FEI, FEI).levels, tifffile.imread(REAL / FEI)
    assert len(np.unique(levels)) == len(np.unique(raw)) == 64
    np.testing.assert_array_equal(levels, np.round(raw / 257.0))


def test_a_palette_with_annotation_colours_is_read_as_the_greys_that_were_measured() -> None:
    levels, raw = open_picture(REAL / ZEISS, ZEISS).levels, tifffile.imread(REAL / ZEISS)
    np.testing.assert_array_equal(levels, raw)
    image = read(REAL / ZEISS, Acquisition()).inputs["image"][0]
    assert image.mean() == pytest.approx(raw[:350, 81:431].mean(), abs=1)


def test_of_an_olympus_file_the_measured_page_is_taken_not_its_jpeg_preview() -> None:
    samples = read(REAL / OLYMPUS, Acquisition())
    assert "picture 2 of 2" in samples.table["note"][0]
    np.testing.assert_array_equal(
        open_picture(REAL / OLYMPUS, OLYMPUS).levels, np.round(tifffile.imread(REAL / OLYMPUS, key=1) / 257.0)
    )


def test_the_old_bar_is_cut_with_the_strip_below_it() -> None:
    for name in OLD_FEI:
        levels = open_picture(REAL / name, name).levels
        assert (levels[423, 100:600] == 0).mean() > 0.9 > 0.1 > (levels[422] == 0).mean()  # the bar's first row
        assert (read(REAL / name, Acquisition()).inputs["image"] == 0).mean() < 1e-3


def test_coloured_files_of_grey_pictures_and_their_scale_bars() -> None:
    for name, wide in (("EMPS_22d5aab090.png", 77), ("EMPS_cd48200d46.png", 126)):
        levels = open_picture(REAL / name, name).levels
        np.testing.assert_array_equal(levels, np.asarray(Image.open(REAL / name))[..., 0])
        bar = find_scale_bar(levels)
        assert bar is not None and bar[1].stop - bar[1].start == pytest.approx(wide, abs=2)
    table = read(REAL / "EMPS_cd48200d46.png", Acquisition()).table
    assert table["scale_bar_px"][0] == pytest.approx(163 - 114.5, abs=1)  # the square in the middle cuts this one


def test_what_the_instrument_tells() -> None:
    told = {name: json.loads(read(REAL / name, Acquisition()).table["instrument"][0]) for name in (FEI, ZEISS, OLD_FEI[0])}
    assert told[FEI]["beam"] == "5 kV" and told[FEI]["detector"] == "ETD" and told[ZEISS]["working distance"] == "3.9 mm"
    assert told[ZEISS]["detector"] == "InLens" and told[OLD_FEI[0]]["magnification"] == "3.5e+04 ×"
