"""What stands against a clip: no molecule, two, a drift, a stuck pixel, an end of the range of D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from lib import sheet
from lib.task import Samples
from lib.tasks.diffusion import TASK, domain, estimators, stuck
from lib.tasks.diffusion.config import Acquisition, Simulation, Training
from lib.tasks.diffusion.data import SimulatedClips
from lib.tasks.diffusion.simulate import simulate_clips

EMCCD = {"baseline_adu": 450.0, "em_gain": 300.0, "e_per_adu": 5.0, "read_sigma_e": 50.0}


def clips(n: int = 3, d_px2: float = 0.5, **settings: Any) -> Samples:
    known = {"px_size_nm": 100, "frame_interval_s": 0.01, "exposure_s": 0.01, "fwhm_nm": 250, "photons": 800, "background": 10}
    return simulate_clips(Simulation(**{**known, "d_um2_s": d_px2, **settings}), n, np.random.default_rng(5))


def judged(samples: Samples, d: float = 0.5, lo: float = 0.4, hi: float = 0.6) -> pd.DataFrame:
    """A prediction as `decode` gives it."""
    ends = {"": d, "_lo": lo, "_hi": hi, "_lo95": lo / 1.5, "_hi95": hi * 1.5}
    columns = {f"d_{unit}{end}": value for unit in ("px2_per_frame", "um2_s") for end, value in ends.items()}
    return pd.DataFrame({"file": samples.table["file"], **columns, "in_domain": True, "note": "exposure assumed"})


def notes(samples: Samples, facts: dict[str, Any] | None = None, **values: float) -> list[str]:
    """What is added to the notes; each clip is out of domain where it says more than that it hardly moves."""
    found = domain.checked(judged(samples, **values), samples, facts or {})
    assert found["note"].str.startswith("exposure assumed").all()
    told = [note.removeprefix("exposure assumed").removeprefix("; ") for note in found["note"]]
    assert list(found["in_domain"]) == [note == "" or note.startswith("hardly") for note in told]
    return told


def changed(samples: Samples, clip_adu: np.ndarray) -> Samples:
    return Samples({**samples.inputs, "clip_adu": clip_adu}, samples.table, samples.common)


@pytest.mark.parametrize("camera", [{}, EMCCD])
def test_nothing_stands_against_ordinary_clips(camera: dict[str, float]) -> None:
    for d_px2 in (0.05, 1.0, 5.0):
        assert notes(clips(10, d_px2, **camera)) == [""] * 10


def test_no_molecule_is_told() -> None:
    assert all("a molecule is seen in" in note for note in notes(clips(photons=1, background=20)))


@pytest.mark.parametrize("lit", [3, 4, 6])
def test_noise_is_not_taken_for_a_molecule_that_went_dark(lit: int) -> None:
    samples, nothing = clips(20, photons=450, **EMCCD), clips(20, photons=0, **EMCCD)
    dark = np.array(samples.inputs["clip_adu"])
    dark[:, lit:] = nothing.inputs["clip_adu"][:, lit:]
    assert notes(changed(samples, dark)) == [f"a molecule is seen in {lit} of 16 frames"] * 20


def test_a_second_molecule_is_told() -> None:
    samples = clips(d_px2=0.05)
    both = np.asarray(samples.inputs["clip_adu"], float)
    assert all("a second spot" in note for note in notes(changed(samples, both + np.roll(both, 20, axis=3) - 10)))


def test_a_molecule_that_is_carried_along_is_told_and_one_that_wanders_is_not() -> None:
    samples = clips(d_px2=0.05)
    carried = np.stack([np.roll(np.asarray(samples.inputs["clip_adu"])[:, t], 2 * t - 16, axis=2) for t in range(16)], axis=1)
    assert all("2.0 px/frame in one direction" in note or "drift" in note for note in notes(changed(samples, carried)))
    assert notes(clips(60, 5.0)).count("") >= 58


def test_a_stated_width_must_be_of_the_training_and_no_wider_than_the_spots() -> None:
    samples = clips(d_px2=0.05)
    assert all("outside the training data (0.7 to 2 px)" in note for note in notes(samples.with_columns(psf_sigma_px=0.5)))
    assert all("narrower than the stated 1.90 px" in note for note in notes(samples.with_columns(psf_sigma_px=1.9)))
    assert notes(samples.with_columns(psf_sigma_px=250 / 235.5)) == [""] * 3
    assert all("(0.4 to 0.9 px)" in note for note in notes(samples.with_columns(psf_sigma_px=1.0), {"sigma_px": [0.4, 0.9]}))


def test_an_interval_at_an_end_of_the_training_is_open_there() -> None:
    samples = clips()
    assert notes(samples, d=0.004, lo=0.0033, hi=0.005) == ["hardly any motion: D is at most 0.005 px²/frame"] * 3
    slow = domain.checked(judged(samples, 0.004, 0.0033, 0.005), samples, {})
    assert (slow[["d_px2_per_frame_lo", "d_um2_s_lo"]] == 0).all(axis=None) and (slow["d_px2_per_frame_hi"] == 0.005).all()
    assert all("D is 24 px²/frame or more" in note for note in notes(samples, d=27, lo=24, hi=29))
    assert notes(samples, {"d_px2_per_frame": [0.003, 100.0]}, d=27, lo=24, hi=29) == [""] * 3


def test_a_number_without_sense_is_taken_away() -> None:
    samples = clips()
    for d in (np.inf, 5.0):
        found = domain.checked(judged(samples, d=d), samples, {})
        assert found.filter(regex="^d_").isna().all(axis=None) and not found["in_domain"].any()
        assert found["note"].str.contains("no D: the clip is unlike any of the training").all()


def test_a_stuck_pixel_is_replaced_and_a_molecule_at_rest_is_not(tmp_path: Path) -> None:
    for photons, fwhm_nm in ((200, 165), (2000, 165), (500, 330)):
        for clip in clips(10, 0.001, photons=photons, fwhm_nm=fwhm_nm).inputs["clip_adu"]:
            assert stuck.replaced(np.asarray(clip))[1] == 0
    (clean,) = clips(1, 1.0, **EMCCD).inputs["clip_adu"]
    hot = np.array(clean)
    hot[:, 50, 9] = hot.max() * 1.5
    mended, n = stuck.replaced(hot)
    assert n == 1 and mended[:, 50, 9].max() < hot[0, 50, 9] / 3
    np.testing.assert_array_equal(
        np.delete(mended.reshape(16, -1), 50 * 64 + 9, 1), np.delete(clean.reshape(16, -1), 50 * 64 + 9, 1)
    )
    d = {}
    for name, frames in (("clean", clean), ("hot", hot)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.clip(frames, 0, 65535).astype(np.uint16))
        samples = TASK.read(tmp_path / f"{name}.tif", Acquisition())
        d[name] = float(estimators.baselines(samples)["d_mle_px2_per_frame"].iloc[0])
    assert d["hot"] == pytest.approx(d["clean"], rel=0.05) and "1 stuck pixels replaced" in samples.table["note"].iloc[0]


def test_clips_that_share_a_camera_are_drawn_together_for_the_sheet() -> None:
    data = SimulatedClips(Training(test_clips=96, batch_size=96))
    groups = TASK.independent(data.batch("test", 0, 0).table)
    assert groups is not None and groups.tolist() == np.repeat([0, 1, 2], 32).tolist()
    n, off = 12, np.repeat(np.random.default_rng(0).normal(0, 0.3, 12), 32)
    true = pd.DataFrame({"d_px2_per_frame": np.ones(32 * n)})
    ends = {f"d_px2_per_frame{end}": 10**off * 10**shift for end, shift in (("", 0), ("_lo", -0.3), ("_hi", 0.3))}
    predicted = pd.DataFrame(ends | {"d_px2_per_frame_lo95": 10**off / 4, "d_px2_per_frame_hi95": 10**off * 4})
    widths = []
    for group in (None, pd.Series(np.repeat(np.arange(n), 32))):
        (rms,) = [one for one in sheet.metrics(TASK, predicted, true, group) if one["name"] == TASK.monitor.name]
        widths.append(rms["high"] - rms["low"])
    assert widths[1] > 2 * widths[0]
