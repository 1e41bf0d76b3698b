"""Candidates: the noise is known, spots stand out where they are, and detectors' units do not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.tasks.bragg import candidates, zmap
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry

SHAPE = (96, 128)


def frame(pixels: np.ndarray, mask: np.ndarray | None = None) -> Frame:
    good = np.ones(pixels.shape, bool) if mask is None else mask
    return Frame(pixels.astype(np.float32), good, Geometry.flat((pixels.shape[0], pixels.shape[1])), "made", 0)


def noise(seed: int = 0, mean: float = 20.0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, SHAPE).astype(np.float32)


def spot(y: float, x: float, photons: float, sigma: float = 1.0) -> np.ndarray:
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return photons * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def test_noise_becomes_unit_noise() -> None:
    white = zmap.whiten(frame(noise()))
    assert white.z.mean() == pytest.approx(0, abs=0.02)
    assert white.z.std() == pytest.approx(1, abs=0.03)
    assert np.median(white.mean) == pytest.approx(20, abs=0.3) and np.median(white.sigma) == pytest.approx(20**0.5, abs=0.15)


def test_whitening_does_not_see_offset_and_gain() -> None:
    ours, theirs = zmap.whiten(frame(noise())), zmap.whiten(frame(7.5 * noise() + 400))
    np.testing.assert_allclose(ours.z, theirs.z, atol=2e-3)


def test_a_strong_spot_does_not_raise_the_noise_around_it() -> None:
    white = zmap.whiten(frame(noise() + spot(48, 64, 5000)))
    assert white.sigma[12, 16] == pytest.approx(20**0.5, rel=0.15)
    assert white.z[48, 64] > 100


def test_noise_around_a_blazing_spot_is_what_it_is_without() -> None:
    white = zmap.whiten(frame(noise(mean=4.0) + spot(48, 64, 1e6, 1.3)))
    ring = np.array([white.sigma[12, 19], white.sigma[9, 16], white.sigma[15, 18]])  # their windows hold a part of the spot
    assert (ring < 1.3 * 2.0).all()


def test_where_photons_are_rare_single_ones_do_not_stand_out() -> None:
    pixels = np.random.default_rng(0).poisson(0.03, SHAPE)
    assert len(candidates.find(frame(pixels))) < 0.1 * np.count_nonzero(pixels)
    pixels[40:43, 60:63] += 1
    pixels[41, 61] += 3
    found = candidates.find(frame(pixels)).table
    assert found.loc[0, ["row_px", "column_px"]].tolist() == [41, 61]


@pytest.mark.parametrize("shape", [(1, 1), (3, 97), (5, 5), (33, 4), (50, 51)])
def test_frames_of_any_shape_are_whitened(shape: tuple[int, int]) -> None:
    white = zmap.whiten(frame(np.random.default_rng(0).poisson(9, shape)))
    assert white.z.shape == white.strength.shape == shape and np.isfinite(white.z).all() and np.isfinite(white.strength).all()
    assert (white.strength[:2] == 0).all() and (white.strength[:, -2:] == 0).all()


def test_what_is_no_number_is_not_known_and_spoils_nothing_around() -> None:
    pixels = noise()
    pixels[40, 50], pixels[41, 50] = np.nan, np.inf
    white = zmap.whiten(frame(pixels))
    assert not white.known[40:42, 50].any() and white.known.sum() == pixels.size - 2
    assert white.z[38:44, 45:56].std() == pytest.approx(1, abs=0.25)


def test_slopes_leave_no_trace() -> None:
    slope = np.linspace(20, 200, SHAPE[1])[None, :] * np.ones((SHAPE[0], 1))
    white = zmap.whiten(frame(np.random.default_rng(1).poisson(slope)))
    thirds = [part.mean() for part in np.array_split(white.z[:, 12:-12], 3, axis=1)]
    np.testing.assert_allclose(thirds, 0, atol=0.05)


def test_the_filter_is_the_sum_over_known_pixels() -> None:
    mask = np.random.default_rng(3).random(SHAPE) > 0.15
    white = zmap.whiten(frame(noise(), mask))
    kernel = np.outer(zmap.KERNEL, zmap.KERNEL)
    for y, x in ((30, 41), (2, 2), (93, 125)):
        at = np.s_[y - 2 : y + 3, x - 2 : x + 3]
        wanted = (kernel * white.z[at]).sum() / np.sqrt((kernel**2 * white.known[at]).sum()) if white.known[y, x] else 0
        assert white.strength[y, x] == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_a_matched_filter_on_noise_is_a_standard_normal() -> None:
    strength = zmap.whiten(frame(noise())).strength[4:-4, 4:-4]
    assert strength.std() == pytest.approx(1, abs=0.05)


def test_correlated_noise_is_told() -> None:
    plain = noise(mean=400.0)
    smooth = (plain + np.roll(plain, 1, 0) + np.roll(plain, 1, 1) + np.roll(plain, (1, 1), (0, 1))) / 4
    assert candidates.see(frame(plain)).noise == pytest.approx(1, abs=0.06)
    assert candidates.see(frame(smooth)).noise > 1.3


@pytest.mark.parametrize(("y", "x"), [(48.0, 64.0), (30.3, 41.7), (3.4, 60.2), (92.6, 124.1)])
def test_a_spot_is_found_at_its_place_with_its_intensity(y: float, x: float) -> None:
    found = candidates.find(frame(noise() + spot(y, x, 2000)))
    first = found.table.iloc[0]
    assert np.hypot(first["y_px"] - y, first["x_px"] - x) < 0.25
    if min(y, x) > 10 and y < 85:
        assert first["intensity"] == pytest.approx(2000, rel=0.12)
        assert first["snr"] == pytest.approx(first["intensity"] / first["sigma"] / first["n_pixels"] ** 0.5, rel=0.1)
    assert found.patch.shape == (len(found), 2, 15, 15) and found.context.shape == (len(found), 2)


def test_two_spots_beside_each_other_stay_two() -> None:
    found = candidates.find(frame(noise() + spot(48, 60, 2000) + spot(48, 67, 1500))).table
    strong = found[found["snr"] > 15].sort_values("x_px")
    assert len(strong) == 2
    np.testing.assert_allclose(strong["x_px"], [60, 67], atol=0.3)
    np.testing.assert_allclose(strong["intensity"], [2000, 1500], rtol=0.15)


def test_blank_frames_have_few_candidates() -> None:
    assert len(candidates.find(frame(noise()))) < 15


def test_the_direct_beam_is_no_candidate_where_its_place_is_known() -> None:
    """It is the strongest light of a frame whose beam stop leaks; the first reflection may stand one spacing beside it."""
    given = frame(noise() + spot(50, 60, 40_000) + spot(50, 68, 2000))
    known = replace(given, geometry=Geometry.flat(SHAPE, (46.5, 58.0)))  # centres are rarely right to the pixel
    assert candidates.find(given).table.loc[0, ["row_px", "column_px"]].tolist() == [50, 60]
    assert candidates.find(known).table.loc[0, ["row_px", "column_px"]].tolist() == [50, 68]
    np.testing.assert_array_equal(known.geometry.at_beam(np.array([46, 46, 46]), np.array([52, 53, 64])), [False, True, False])


def test_masked_pixels_are_never_candidates() -> None:
    mask = np.ones(SHAPE, bool)
    mask[40:56, 50:80] = False
    pixels = noise() + spot(48, 64, 5000)
    pixels[~mask] = 1e6
    found = candidates.find(frame(pixels, mask))
    assert not len(found) or found.table["snr"].max() < 8
    assert mask[found.table["row_px"], found.table["column_px"]].all()


@pytest.mark.parametrize("pixels", [np.zeros(SHAPE), np.full(SHAPE, 7.0), np.ones((1, 1))], ids=["zeros", "flat", "one pixel"])
def test_frames_without_anything_have_no_candidates(pixels: np.ndarray) -> None:
    assert len(candidates.find(frame(pixels))) == 0


def test_an_all_masked_frame_has_no_candidates() -> None:
    assert len(candidates.find(frame(noise(), np.zeros(SHAPE, bool)))) == 0


def test_turning_a_frame_turns_its_candidates() -> None:
    pixels = noise() + spot(30.3, 41.7, 900) + spot(60, 100, 500)
    ours = candidates.find(frame(pixels)).table.iloc[:2]
    theirs = candidates.find(frame(pixels.T)).table.iloc[:2]
    np.testing.assert_allclose(ours[["y_px", "x_px"]], theirs[["x_px", "y_px"]], atol=1e-3)
    np.testing.assert_allclose(ours["intensity"], theirs["intensity"], rtol=1e-3)
