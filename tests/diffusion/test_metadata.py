"""What a TIFF tells of space and time, and what of the typed settings had no effect: known answers, said in the note."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from lib.task import InputError
from lib.tasks.diffusion import files
from lib.tasks.diffusion.config import Acquisition, Simulation
from lib.tasks.diffusion.simulate import simulate_clips

EM = {"em_gain": 300.0, "e_per_adu": 5.0, "baseline_adu": 450.0, "read_sigma_e": 50.0}
OME = {"axes": "TYX", "PhysicalSizeX": 107.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.107, "PhysicalSizeYUnit": "µm"}


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """One simulated EMCCD clip, uint16 (16, 64, 64)."""
    return simulate_clips(Simulation(**EM), 1, np.random.default_rng(0)).inputs["clip_adu"][0]


def told(folder: Path, frames: np.ndarray, acquisition: Acquisition | None = None, **how: object) -> pd.Series:
    """The row that `files.read` gives for these frames."""
    path = folder / "clip.tif"
    tifffile.imwrite(path, frames, **how)
    return files.read(path, acquisition or Acquisition()).table.iloc[0]


def imagej(resolution: tuple[float, float] | None = None, **about: object) -> dict[str, object]:
    return {"imagej": True, "resolution": resolution, "metadata": {"axes": "TYX", **about}}


@pytest.mark.parametrize(
    ("about", "seconds"),
    [
        ({"finterval": 20, "tunit": "ms"}, 0.02),
        ({"finterval": 20_000, "tunit": "\\u00B5s"}, 0.02),
        ({"finterval": 20_000, "tunit": "us"}, 0.02),
        ({"finterval": 0.5, "tunit": "min"}, 30),
        ({"finterval": 0.02, "tunit": "sec"}, 0.02),
        ({"finterval": 0.02}, 0.02),
        ({"fps": 50.0}, 0.02),
    ],
    ids=str,
)
def test_interval_of_imagej_is_read_in_its_unit(
    tmp_path: Path, clip: np.ndarray, about: dict[str, object], seconds: float
) -> None:
    row = told(tmp_path, clip, **imagej(**about))
    assert row["frame_interval_s"] == pytest.approx(seconds)
    assert f"frame interval {seconds:g} s" in row["note"]
    assert ("playback" in row["note"]) == ("finterval" not in about)


def test_interval_of_unknown_unit_is_not_used_and_said(tmp_path: Path, clip: np.ndarray) -> None:
    how = imagej(finterval=20, tunit="jiffy")
    row = told(tmp_path, clip, **how)
    assert math.isnan(row["frame_interval_s"])
    assert "frame interval of the file not used: its unit is 'jiffy'" in row["note"]
    assert "jiffy" not in told(tmp_path, clip, Acquisition(frame_interval_s=0.01), **how)["note"]


@pytest.mark.parametrize("interval", ["soon", -1, 0, "nan"])
def test_a_senseless_interval_counts_as_none(tmp_path: Path, clip: np.ndarray, interval: object) -> None:
    assert math.isnan(told(tmp_path, clip, **imagej(finterval=interval))["frame_interval_s"])


@pytest.mark.parametrize("unit", ["um", "\\u00B5m", "micron"])
def test_pixel_size_of_imagej(tmp_path: Path, clip: np.ndarray, unit: str) -> None:
    row = told(tmp_path, clip, **imagej((1 / 0.107, 1 / 0.107), unit=unit))
    assert row["px_size_nm"] == pytest.approx(107, rel=1e-5)


@pytest.mark.parametrize("coding", ["latin-1", "utf-8"])
def test_a_micro_sign_of_other_writers_is_understood(tmp_path: Path, clip: np.ndarray, coding: str) -> None:
    text = "ImageJ=1.53t\nimages=16\nframes=16\nunit=µm\nfinterval=20000\ntunit=µs\nfps=7\n".encode(coding)
    row = told(tmp_path, clip, description=text, metadata=None, resolution=(10.0, 10.0), photometric="minisblack")
    assert (row["px_size_nm"], row["frame_interval_s"]) == (pytest.approx(100), pytest.approx(0.02))
    assert "playback" not in row["note"]


def test_pixels_that_are_not_square_are_not_used_and_said(tmp_path: Path, clip: np.ndarray) -> None:
    row = told(tmp_path, clip, **imagej((10.0, 5.0), unit="um"))
    assert math.isnan(row["px_size_nm"])
    assert "pixels are not square (100 × 200 nm)" in row["note"]


@pytest.mark.parametrize(("unit", "word"), [("furlong", "'furlong'"), ("mm", "1e+05 nm is not between")])
def test_a_pixel_size_that_cannot_be_meant_is_said(tmp_path: Path, clip: np.ndarray, unit: str, word: str) -> None:
    row = told(tmp_path, clip, **imagej((10.0, 10.0), unit=unit))
    assert math.isnan(row["px_size_nm"])
    assert word in row["note"]


def test_ome_tells_pixel_size_and_interval(tmp_path: Path, clip: np.ndarray) -> None:
    row = told(tmp_path, clip, ome=True, metadata=OME | {"TimeIncrement": 20.0, "TimeIncrementUnit": "ms"})
    assert (row["px_size_nm"], row["frame_interval_s"]) == (pytest.approx(107), pytest.approx(0.02))
    assert "pixel size 107 nm and frame interval 0.02 s from the file" in row["note"]


def test_ome_without_units_is_in_microns_and_seconds(tmp_path: Path, clip: np.ndarray) -> None:
    row = told(tmp_path, clip, ome=True, metadata={"axes": "TYX", "PhysicalSizeX": 0.1, "TimeIncrement": 0.05})
    assert (row["px_size_nm"], row["frame_interval_s"]) == (pytest.approx(100), pytest.approx(0.05))


def test_ome_pixels_that_are_not_square_are_said(tmp_path: Path, clip: np.ndarray) -> None:
    row = told(tmp_path, clip, ome=True, metadata=OME | {"PhysicalSizeY": 0.2})
    assert math.isnan(row["px_size_nm"])
    assert "not square (107 × 200 nm)" in row["note"]


def test_ome_with_entities_of_its_own_is_not_read(tmp_path: Path, clip: np.ndarray) -> None:
    xml = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY size "0.1">]><OME><Pixels PhysicalSizeX="&size;"/></OME>'
    assert math.isnan(told(tmp_path, clip, description=xml, metadata=None)["px_size_nm"])


@pytest.mark.parametrize(("per_cm", "nm"), [(1e7 / 107, 107), (28.3, math.nan), (1e7 / 6500, math.nan)])
def test_resolution_in_cm_is_a_pixel_size_where_a_sample_can_have_it(
    tmp_path: Path, clip: np.ndarray, per_cm: float, nm: float
) -> None:
    row = told(tmp_path, clip, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")
    assert row["px_size_nm"] == pytest.approx(nm, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"exposure_s": 0.01}, "exposure_s not used: the frame interval is unknown"),
        ({"e_per_adu": 5.0}, "e_per_adu not used for the gain: em_gain is unknown"),
        ({"em_gain": 300.0}, "em_gain not used for the gain: e_per_adu is unknown"),
        ({"read_sigma_e": 50.0}, "read_sigma_e not used: e_per_adu is unknown"),
    ],
    ids=str,
)
def test_a_typed_setting_without_effect_is_said(tmp_path: Path, clip: np.ndarray, typed: dict[str, float], sentence: str) -> None:
    note = told(tmp_path, clip, Acquisition(**typed))["note"]
    assert sentence in note and note.count("not used") == 1
    assert "not used" not in told(tmp_path, clip, Acquisition(**EM, exposure_s=0.01, frame_interval_s=0.01))["note"]


def test_read_noise_in_electrons_after_an_unknown_gain_is_not_taken(tmp_path: Path, clip: np.ndarray) -> None:
    assert told(tmp_path, clip, Acquisition(read_sigma_e=50.0))["read_sigma_adu"] == 0


def write_one_by_one(path: Path, frames: list[np.ndarray]) -> Path:
    """Each frame as a page with a description of its own."""
    with tifffile.TiffWriter(path) as writer:
        for frame in frames:
            writer.write(frame, contiguous=False)
    return path


def test_frames_saved_one_by_one_are_one_movie(tmp_path: Path, clip: np.ndarray) -> None:
    samples = files.read(write_one_by_one(tmp_path / "pages.tif", list(clip)), Acquisition())
    assert (samples.inputs["clip_adu"][0] == clip).all()
    assert "16 separate images taken as frames" in samples.table["note"][0]


def test_separate_images_of_different_size_are_refused(tmp_path: Path, clip: np.ndarray) -> None:
    path = write_one_by_one(tmp_path / "pages.tif", [*clip, clip[0][:40]])
    with pytest.raises(InputError, match=r"17 separate images of different shape or type.*one stack"):
        files.read(path, Acquisition())


def test_frames_saved_one_by_one_are_refused_where_they_are_too_many(tmp_path: Path, clip: np.ndarray) -> None:
    path = write_one_by_one(tmp_path / "pages.tif", [clip[0]] * (files.MAX_FRAMES + 1))
    with pytest.raises(InputError, match="513 frames"):
        files.read(path, Acquisition())
