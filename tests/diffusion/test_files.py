"""TIFF clips in and out: what is accepted is fitted and said, what is not is refused with a sentence that names the file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from lib.task import InputError, Samples
from lib.tasks.diffusion import files
from lib.tasks.diffusion.config import Acquisition, Simulation
from lib.tasks.diffusion.simulate import simulate_clips
from tests.diffusion.bad_files import BAD_ARRAYS, BAD_CONTENTS

REAL = Path(__file__).parents[3] / "shared" / "data" / "diffusion"
NOTHING_TYPED = Acquisition()


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """One simulated clip, uint16 (16, 64, 64)."""
    return simulate_clips(Simulation(), 1, np.random.default_rng(0)).inputs["clip_adu"][0]


def read_array(folder: Path, frames: np.ndarray, acquisition: Acquisition = NOTHING_TYPED, **how: object) -> Samples:
    path = folder / "cell 3 (α).tif"
    tifffile.imwrite(path, frames, **how)
    return files.read(path, acquisition)


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        files.read(path, NOTHING_TYPED, "my clip.tif")
    error = caught.value
    assert error.subject == "my clip.tif"
    assert len(error.problem) > 10 and len(error.remedy) > 10
    return error


def test_written_clips_come_back_bit_for_bit(tmp_path: Path) -> None:
    config = Simulation(px_size_nm=130.0, frame_interval_s=0.02, exposure_s=0.01, d_um2_s=0.4)
    samples = simulate_clips(config, 3, np.random.default_rng(1))
    paths = files.write(samples, tmp_path / "out")
    assert [p.name for p in paths] == ["simulated-00000.tif", "simulated-00001.tif", "simulated-00002.tif", "truth.csv"]
    back = Samples.concat([files.read(p, Acquisition(exposure_s=0.01)) for p in paths[:3]])
    assert (back.inputs["clip_adu"] == samples.inputs["clip_adu"]).all()
    assert back.table["px_size_nm"].to_numpy() == pytest.approx(130, rel=1e-5)
    assert back.table["frame_interval_s"].to_numpy() == pytest.approx(0.02)
    assert back.table["exposure_fraction"].to_numpy() == pytest.approx(0.5)
    truth = pd.read_csv(paths[3])
    assert truth["true_d_um2_s"].to_numpy() == pytest.approx(0.4)
    assert truth["true_d_px2_per_frame"].to_numpy() == pytest.approx(config.d_px2_per_frame)


def test_write_never_replaces_a_file_and_leaves_nothing_half(tmp_path: Path) -> None:
    samples = simulate_clips(Simulation(), 2, np.random.default_rng(1))
    (tmp_path / "simulated-00001.tif").write_bytes(b"precious")
    with pytest.raises(InputError, match="already"):
        files.write(samples, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["simulated-00001.tif"]
    assert (tmp_path / "simulated-00001.tif").read_bytes() == b"precious"


def test_names_never_become_paths(tmp_path: Path) -> None:
    samples = simulate_clips(Simulation(), 4, np.random.default_rng(1))
    names = ["../../evil.tif", "a b'\"ü.tiff", "x/y\\evil.TIF", ".."]
    paths = files.write(samples.with_columns(file=names), tmp_path / "deep" / "er")
    assert {p.parent for p in paths} == {tmp_path / "deep" / "er"}
    assert len({p.name.lower() for p in paths}) == 5
    assert all(p.exists() for p in paths)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"compression": "lzw"},
        {"bigtiff": True, "photometric": "minisblack"},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"byteorder": ">"},
        {"ome": True, "metadata": {"axes": "TYX"}},
    ],
    ids=str,
)
def test_tiff_variants_give_the_same_clip(tmp_path: Path, clip: np.ndarray, how: dict[str, object]) -> None:
    samples = read_array(tmp_path, clip, **how)
    assert (samples.inputs["clip_adu"][0] == clip).all()
    assert samples.inputs["clip_adu"].dtype == np.uint16
    assert samples.table["file"][0] == "cell 3 (α).tif"
    assert samples.table["n_frames"][0] == 16


def test_unknown_camera_is_estimated_and_marked(tmp_path: Path, clip: np.ndarray) -> None:
    record = read_array(tmp_path, clip).table.iloc[0]
    assert record["camera_estimated"]
    assert "camera estimated: baseline" in record["note"] and "ADU/photon" in record["note"]
    assert record["slope_adu"] == pytest.approx(1.0, rel=0.35)
    assert record["excess_noise"] == 1
    assert math.isnan(record["px_size_nm"]) and math.isnan(record["exposure_fraction"])


def test_typed_camera_is_kept(tmp_path: Path, clip: np.ndarray) -> None:
    typed = Acquisition(baseline_adu=100.0, e_per_adu=2.0, em_gain=50.0, read_sigma_e=20.0)
    record = read_array(tmp_path, clip, typed).table.iloc[0]
    assert not record["camera_estimated"]
    assert record["baseline_adu"] == 100
    assert record["slope_adu"] == 50 * 2 / 2
    assert record["excess_noise"] == 2
    assert record["read_sigma_adu"] == 10
    assert record["note"] == ""


def test_typed_gain_of_a_camera_without_em_register_needs_no_em_gain(tmp_path: Path, clip: np.ndarray) -> None:
    record = read_array(tmp_path, clip, Acquisition(e_per_adu=1.25, baseline_adu=100.0)).table.iloc[0]
    assert record["slope_adu"] == pytest.approx(0.8)
    assert not record["camera_estimated"]


def test_typed_acquisition_overrides_the_file(tmp_path: Path, clip: np.ndarray) -> None:
    how = {"imagej": True, "resolution": (10.0, 10.0), "metadata": {"axes": "TYX", "unit": "um", "finterval": 0.05}}
    from_file = read_array(tmp_path, clip, **how).table.iloc[0]
    assert (from_file["px_size_nm"], from_file["frame_interval_s"]) == (pytest.approx(100), pytest.approx(0.05))
    assert "from the file" in from_file["note"]
    typed = read_array(tmp_path, clip, Acquisition(px_size_nm=160.0, frame_interval_s=0.01), **how).table.iloc[0]
    assert (typed["px_size_nm"], typed["frame_interval_s"]) == (160, 0.01)


def test_exposure_longer_than_the_interval_of_the_file_is_refused(tmp_path: Path, clip: np.ndarray) -> None:
    how = {"imagej": True, "metadata": {"axes": "TYX", "finterval": 0.05}}
    with pytest.raises(InputError, match=r"exposure_s = 0\.1 is longer"):
        read_array(tmp_path, clip, Acquisition(exposure_s=0.1), **how)


@pytest.mark.parametrize("typed", [{"exposure_s": 0.02, "frame_interval_s": 0.01}, {"em_gain": -3}, {"px_size_nm": 0}])
def test_impossible_acquisition_is_refused(typed: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(typed))):
        Acquisition.parse(typed)


def test_larger_picture_is_cut_around_the_molecule(tmp_path: Path, clip: np.ndarray) -> None:
    large = np.random.default_rng(2).poisson(10, (16, 150, 110)).astype(np.uint16) + 100
    large[:, 80:144, 30:94] = clip
    samples = read_array(tmp_path, large)
    assert samples.inputs["clip_adu"].shape == (1, 16, 64, 64)
    assert "cut from 110 × 150 px to 64 × 64 px" in samples.table["note"][0]
    middle = samples.inputs["clip_adu"][0].astype(float).mean(axis=0) - 110
    y, x = np.unravel_index(middle.argmax(), middle.shape)
    assert 10 < y < 54 and 10 < x < 54


def test_smaller_picture_is_filled_up_with_its_own_background(tmp_path: Path, clip: np.ndarray) -> None:
    samples = read_array(tmp_path, clip[:, 8:56, 12:60])
    filled = samples.inputs["clip_adu"][0]
    assert (filled[:, 8:56, 8:56] == clip[:, 8:56, 12:60]).all()
    assert "48 × 48 px filled up" in samples.table["note"][0]
    assert filled[:, :8].mean() == pytest.approx(110, abs=0.5)
    assert filled[:, :8].std() == pytest.approx(np.sqrt(10), rel=0.1)


@pytest.mark.parametrize(("count", "note"), [(9, "only 9 frames"), (30, "first 16 of 30 frames used"), (16, "")])
def test_frame_counts(tmp_path: Path, clip: np.ndarray, count: int, note: str) -> None:
    samples = read_array(tmp_path, np.concatenate([clip, clip])[:count])
    assert note in samples.table["note"][0]
    assert samples.table["n_frames"][0] == min(count, 16)
    assert (samples.inputs["clip_adu"][0][: min(count, 16)] == clip[:count]).all()


def test_blank_frames_at_the_end_are_left_out(tmp_path: Path, clip: np.ndarray) -> None:
    frames = clip.copy()
    frames[11:] = 0
    samples = read_array(tmp_path, frames)
    assert samples.table["n_frames"][0] == 11
    assert "5 blank frames" in samples.table["note"][0]


def test_float_and_8_bit_are_accepted_with_a_note(tmp_path: Path, clip: np.ndarray) -> None:
    shifted = (clip.astype(np.float64) - 115) / 7  # background already taken off: negative values
    samples = read_array(tmp_path, shifted)
    assert samples.inputs["clip_adu"].dtype == np.float32
    assert "floating-point" in samples.table["note"][0]
    assert samples.table["slope_adu"][0] == pytest.approx(1 / 7, rel=0.4)
    assert "8-bit" in read_array(tmp_path, clip.astype(np.uint8)).table["note"][0]


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_unusable_pictures_are_refused(tmp_path: Path, clip: np.ndarray, case: str) -> None:
    make, how, words = BAD_ARRAYS[case]
    path = tmp_path / "bad.tif"
    tifffile.imwrite(path, make(clip), **how)
    assert words in refusal(path).problem


def test_two_gigabytes_declared_are_refused_before_any_pixel_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, shape=(16, 8192, 8192), dtype="uint16")
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lambda *a, **k: pytest.fail("pixels were read"))
    assert "2,048 MiB" in refusal(path).problem


@pytest.mark.parametrize("case", BAD_CONTENTS)
def test_other_files_are_refused_by_content(tmp_path: Path, case: str) -> None:
    content, words = BAD_CONTENTS[case]
    path = tmp_path / "pretends.tif"
    path.write_bytes(content)
    assert words in refusal(path).problem


@pytest.mark.parametrize("how", [{}, {"compression": "lzw"}, {"imagej": True, "metadata": {"axes": "TYX"}}], ids=str)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.8, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, clip: np.ndarray, how: dict[str, object], share: float) -> None:
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, clip, **how)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert any(word in refusal(path).problem for word in ("truncated", "damaged"))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path / "gone.tif").problem


def test_reading_is_repeatable(tmp_path: Path, clip: np.ndarray) -> None:
    one, other = (read_array(tmp_path, clip[:9, :40]) for _ in range(2))
    assert (one.inputs["clip_adu"] == other.inputs["clip_adu"]).all()
    assert one.table.equals(other.table)


@pytest.mark.skipif(not REAL.exists(), reason="real clips are not on this machine (../shared/data/diffusion)")
def test_real_clips_tell_their_camera() -> None:
    for folder, background in (("blocks_70_01", 16), ("blocks_104_01", 12.5)):
        paths = sorted((REAL / folder).glob("*.tif"))[::16]
        table = pd.concat([files.read(path, NOTHING_TYPED).table for path in paths])
        assert (table["excess_noise"] == 2).all()
        assert (table["slope_adu"] / 2).median() == pytest.approx(57, rel=0.12)
        levels = [np.median(tifffile.imread(path)) for path in paths]
        photons = (np.array(levels) - table["baseline_adu"]) / table["slope_adu"] * 2
        assert photons.median() == pytest.approx(background, rel=0.25)
