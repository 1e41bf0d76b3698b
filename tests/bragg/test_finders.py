"""Known answers that hold for every finder, whatever its way of finding."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from lib.task import InputError
from lib.tasks.bragg import finders, matching
from lib.tasks.bragg.finders import Finder
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry
from lib.tasks.bragg.spots import COLUMNS
from tests.bragg.hand_made import BEAM_YX, LEVEL, frame

SETTINGS = {  # for frames of `hand_made`: photons on a background of 20, so 60 is nine standard deviations
    "peakfinder8": {"adc_thresh": 0.0, "min_snr": 6.0},
    "dispersion": {"sigma_background": 4.0, "sigma_strong": 5.0},
    "local_maxima": {"adc_thresh": 60.0, "min_snr": 5.0},
    "line_maxima": {"adc_thresh": 60.0, "min_snr": 5.0},
}
EVERY = [finders.get(name)(**values) for name, values in SETTINGS.items()]
IN_TWO_DIMENSIONS = EVERY[:3]
every = pytest.mark.parametrize("finder", EVERY, ids=lambda finder: finder.name)
two_dimensional = pytest.mark.parametrize("finder", IN_TWO_DIMENSIONS, ids=lambda finder: finder.name)


FRAMES = Path(__file__).parents[3] / "shared" / "data" / "bragg"
needs_frames = pytest.mark.skipif(not FRAMES.exists(), reason="frames with truth are not on this machine (../shared/data/bragg)")


def positions(given: Frame, finder: Finder) -> np.ndarray:
    return finders.find(given, finder)[["y_px", "x_px"]].to_numpy()


def test_settings_are_given_for_every_finder():
    assert [*SETTINGS] == finders.names()


def test_an_unknown_finder_is_told_the_known_ones():
    with pytest.raises(InputError, match="peakfinder8, dispersion"):
        finders.get("peakfinder9")


@two_dimensional
def test_one_spot_is_found_at_its_centroid(finder: Finder):
    found = finders.find(frame([(50.3, 70.6, 3000)]), finder)
    assert [*found] == [*COLUMNS] and len(found) == 1
    within = 0.3 if finder.name == "local_maxima" else 0.15  # of nine pixels, which cut a spot off unevenly
    assert found["y_px"][0] == pytest.approx(50.3, abs=within) and found["x_px"][0] == pytest.approx(70.6, abs=within)
    assert found["background"][0] == pytest.approx(LEVEL, abs=2.0)
    assert 0.75 * np.sqrt(LEVEL) < found["sigma"][0] < 2 * np.sqrt(LEVEL)  # Poisson's, and the tail of the spot
    assert found["snr"][0] == pytest.approx(found["intensity"][0] / found["sigma"][0])


@pytest.mark.parametrize("finder", EVERY[:2], ids=lambda finder: finder.name)
def test_a_whole_spot_keeps_its_photons(finder: Finder):
    found = finders.find(frame([(50.3, 70.6, 3000)]), finder)
    assert found["intensity"][0] == pytest.approx(3000, rel=0.06)


@every
def test_many_spots_are_all_found(finder: Finder):
    true = [(y + 0.2, x - 0.3, 2500.0) for y in (30, 60, 90) for x in (30, 60, 90)]
    if finder.name != "line_maxima":  # which counts a spot once in every row that it reaches
        assert len(positions(frame(true), finder)) == len(true)
    pairs = matching.match(positions(frame(true), finder), np.array(true)[:, :2], 1.0)
    assert len(pairs) == len(true)


@every
def test_a_blank_frame_has_no_peak(finder: Finder):
    assert len(finders.find(frame(), finder)) == 0


@every
@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
def test_a_frame_of_one_value_has_no_peak(finder: Finder, value: float):
    blank = frame()
    found = finders.find(Frame(np.full_like(blank.pixels, value), blank.mask, blank.geometry), finder)
    assert len(found) == 0 and [*found] == [*COLUMNS]


@every
def test_a_masked_frame_has_no_peak(finder: Finder):
    assert len(finders.find(frame([(50, 70, 3000)], mask=np.zeros((120, 140), bool)), finder)) == 0


@every
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 2), (3, 3)])
def test_the_smallest_frames_are_looked_at(finder: Finder, shape: tuple[int, int]):
    assert len(finders.find(frame(shape=shape), finder)) == 0


@every
def test_masked_pixels_make_no_peak_and_hide_none(finder: Finder):
    mask = np.ones((120, 140), bool)
    mask[:, 73:76] = False
    hot = frame([(50.0, 70.5, 3000)], mask=mask)
    hot.pixels[20, 74] = hot.pixels[90, 74] = 60_000
    found = positions(hot, finder)
    assert len(found) >= 1 and (np.abs(found - [50.0, 70.5]) < 2.5).all()


@every
def test_values_that_are_no_numbers_are_left_out(finder: Finder):
    given = frame([(50.3, 70.6, 3000)])
    given.pixels[80, 80], given.pixels[30:32, 30:33], given.pixels[100, 100] = np.nan, np.inf, -np.inf
    found = positions(given, finder)
    assert len(found) >= 1 and (np.abs(found - [50.3, 70.6]) < 2.5).all()


@every
def test_resolution_limits_are_distances_from_the_beam(finder: Finder):
    # Spots 60, 75 and 90 px from the beam.
    three = np.array([(60.0, 60.0), (60.0, 75.0), (60.0, 90.0)])
    given = frame([(y, x, 3000) for y, x in three], beam_yx=(60.0, 0.0))
    limited = finder.model_copy(update={"min_res": 68.0, "max_res": 82.0})
    assert len(matching.match(positions(given, finder), three)) == 3
    found = positions(given, limited)
    assert len(found) >= 1 and (np.abs(found - [60.0, 75.0]) < 2.5).all()


@two_dimensional
def test_a_spot_across_a_panel_border_is_measured_on_each_panel(finder: Finder):
    halves = [(0, 120, 0, 70), (0, 120, 70, 140)]
    found = finders.find(frame([(50.0, 69.5, 6000)], panels=halves), finder)
    one = finders.find(frame([(50.0, 69.5, 6000)]), finder)
    assert len(one) == 1
    assert (found["n_pixels"] < one["n_pixels"][0]).all()
    assert all(x <= 69 or x >= 70 for x in found["x_px"])


@every
def test_the_frame_is_not_changed(finder: Finder):
    given = frame([(50.3, 70.6, 3000)])
    pixels, mask = given.pixels.copy(), given.mask.copy()
    finders.find(given, finder)
    assert (given.pixels == pixels).all() and (given.mask == mask).all()


@every
def test_counts_of_any_type_give_the_same_peaks(finder: Finder):
    given = frame([(50.3, 70.6, 3000)])
    counts = Frame(given.pixels.astype(np.int32), given.mask, given.geometry)
    assert finders.find(counts, finder).equals(finders.find(given, finder))


@two_dimensional
def test_a_frame_turned_over_has_the_same_peaks_turned_over(finder: Finder):
    given = frame([(50.3, 70.6, 3000), (20.1, 30.9, 800), (100.4, 120.2, 500)])
    over = Frame(np.ascontiguousarray(given.pixels.T), given.mask.T, frame(shape=(140, 120), beam_yx=BEAM_YX[::-1]).geometry)
    there, back = positions(given, finder), positions(over, finder)[:, ::-1]
    assert len(there) == len(back) == len(matching.match(there, back, 1e-6))


def test_the_line_misses_that_its_neighbours_above_and_below_are_higher():
    given = frame([(50.0, 70.0, 4000)])
    assert len(finders.find(given, EVERY[2])) == 1
    assert len(finders.find(given, EVERY[3])) > 1


@needs_frames
@pytest.mark.parametrize(
    ("name", "least"), [("peakfinder8", 0.945), ("dispersion", 0.95), ("local_maxima", 0.37), ("line_maxima", 0.23)]
)
def test_finders_as_they_come_do_on_simulated_frames_what_they_are_known_for(name: str, least: float):
    scores = []
    with h5py.File(FRAMES / "synthetic_1024.h5") as file:
        mask = file["entry/instrument/detector/mask"][()] == 0
        geometry = Geometry.flat(mask.shape, tuple(file["entry/instrument/detector/beam_center_yx"][()].tolist()))
        for number, pixels in enumerate(file["entry/data/data"]):
            truth = file[f"truth/{number:03}"]
            found = positions(Frame(pixels.astype(np.float32), mask, geometry), finders.get(name)())
            scores.append(matching.score(found, truth["must_find_yx"][()], truth["may_find_yx"][()]))
    assert matching.total(scores).f1 >= least
