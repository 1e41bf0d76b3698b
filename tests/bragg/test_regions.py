"""The building blocks: thresholds, local maxima, regions at borders, labels."""

import numpy as np
import pytest

from lib.tasks.bragg import regions
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry


def of(values: list[list[float]], bad: tuple[int, int] | None = None) -> Frame:
    pixels = np.array(values, np.float32)
    mask = np.ones(pixels.shape, bool)
    if bad:
        mask[bad] = False
    return Frame(pixels, mask, Geometry.flat(pixels.shape))


STEPS = of([[1, 2, 3], [4, 9, 5], [6, 7, 8]])
TWO_HILLS = of([[0, 0, 0, 0, 0], [0, 9, 4, 7, 0], [0, 3, 0, 2, 0], [0, 0, 0, 0, 0]])


def test_the_threshold_is_exceeded_not_reached_and_bad_pixels_are_out():
    assert regions.threshold_mask(STEPS, 7).sum() == 2
    assert regions.coordinates_above(STEPS, 7).tolist() == [[1, 1], [2, 2]]
    assert regions.coordinates_above(of(STEPS.pixels.tolist(), bad=(1, 1)), 7).tolist() == [[2, 2]]


def test_a_maximum_is_higher_than_all_its_neighbours_in_both_directions():
    assert regions.local_maxima(STEPS, 0).tolist() == [[1, 1]]
    assert regions.local_maxima(TWO_HILLS, 1).tolist() == [[1, 1], [1, 3]]
    assert regions.local_maxima(TWO_HILLS, 1, size_px=2).tolist() == [[1, 1]]
    assert regions.local_maxima(TWO_HILLS, 8).tolist() == [[1, 1]]
    assert regions.local_maxima(TWO_HILLS, 9).shape == (0, 2)


def test_a_bad_pixel_hides_no_maximum():
    hill = [[0, 0, 0, 0], [0, 9, 3, 0], [0, 0, 0, 0]]
    assert regions.local_maxima(of(hill), 1).tolist() == [[1, 1]]
    assert regions.local_maxima(of(hill, bad=(1, 1)), 1).tolist() == [[1, 2]]


def test_pixels_of_one_value_are_one_maximum():
    assert regions.local_maxima(of([[0, 0, 0, 0, 0], [0, 5, 5, 5, 0], [0, 0, 0, 0, 0]]), 1).tolist() == [[1, 2]]
    assert regions.local_maxima(of([[5, 5, 0, 5, 5], [0, 0, 0, 0, 0]]), 1).tolist() == [[0, 0], [0, 3]]


def test_the_line_sees_maxima_that_the_area_does_not():
    hill = of([[0, 3, 0], [0, 9, 0], [0, 3, 0]])
    assert regions.flattened_maxima(hill, 1).tolist() == [[0, 1], [1, 1], [2, 1]]
    assert regions.local_maxima(hill, 1).tolist() == [[1, 1]]


def test_a_region_has_its_pixel_in_the_middle():
    assert regions.region(STEPS, 1, 1, 1).tolist() == STEPS.pixels.tolist()
    assert regions.region(STEPS, 1, 2, 0).tolist() == [[5]]


@pytest.mark.parametrize(("y", "x"), [(0, 0), (0, 2), (2, 0), (2, 2), (0, 1), (2, 1), (1, 0), (1, 2)])
def test_a_region_at_the_border_is_filled_not_wrapped(y: int, x: int):
    cut = regions.region(STEPS, y, x, 2)
    assert cut.shape == (5, 5) and cut[2, 2] == STEPS.pixels[y, x]
    assert np.isfinite(cut).sum() == 9
    assert np.sort(cut[np.isfinite(cut)]).tolist() == list(range(1, 10))


def test_a_region_leaves_bad_pixels_out_and_the_frame_as_it_is():
    given = of(STEPS.pixels.tolist(), bad=(0, 1))
    cut = regions.region(given, 1, 1, 1)
    assert np.isnan(cut[0, 1]) and np.isfinite(cut).sum() == 8
    cut[:] = 0
    assert given.pixels.tolist() == STEPS.pixels.tolist()


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (0, -1), (3, 0), (0, 3)])
def test_a_region_of_a_pixel_off_the_frame_is_refused(y: int, x: int):
    with pytest.raises(IndexError, match="3 × 3"):
        regions.region(STEPS, y, x, 1)


def test_scaling_is_from_zero_to_one():
    assert regions.scaled(np.array([[2, 4], [6, np.nan]], np.float32))[0].tolist() == [0, 0.5]
    assert np.isnan(regions.scaled(np.full((3, 3), np.nan, np.float32))).all()
    assert (regions.scaled(np.full((3, 3), 7, np.float32)) == 0).all()


def test_a_peak_is_the_highest_of_its_neighbours():
    assert regions.is_peak(STEPS, 1, 1)
    assert not regions.is_peak(STEPS, 2, 2)
    assert regions.is_peak(of(STEPS.pixels.tolist(), bad=(1, 1)), 2, 2)
    assert not regions.is_peak(of(STEPS.pixels.tolist(), bad=(1, 1)), 1, 1)
    assert not regions.is_peak(of([[4, 4, 4]] * 3), 1, 1)
    # Twice as large a neighbourhood holds the other hill.
    assert regions.is_peak(TWO_HILLS, 1, 3) and not regions.is_peak(TWO_HILLS, 1, 3, size_px=2)


def test_every_local_maximum_is_a_peak_and_no_other_pixel_is():
    pixels = np.random.default_rng(3).permutation(40 * 30).reshape(40, 30).astype(np.float32)
    given = Frame(pixels, np.ones(pixels.shape, bool), Geometry.flat(pixels.shape))
    peaks = [[y, x] for y in range(40) for x in range(30) if regions.is_peak(given, y, x) and pixels[y, x] > 300]
    assert regions.local_maxima(given, 300).tolist() == peaks


def test_labels_stand_at_the_peaks_and_nowhere_else():
    labels = regions.label_map(np.array([[0.4, 1.6], [2.2, 0.0]]), (3, 4))
    assert np.argwhere(labels).tolist() == [[0, 2], [2, 0]] and labels.max() == 1
    assert regions.label_map(np.empty((0, 2)), (3, 4)).sum() == 0
    with pytest.raises(IndexError, match=r"\(3, 0\)"):
        regions.label_map(np.array([[3.0, 0.0]]), (3, 4))
