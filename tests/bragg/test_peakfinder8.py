"""peakfinder8: the compiled one beside a slow one in plain NumPy, and what its limits do."""

import numpy as np
import pytest
from scipy import ndimage

from lib.tasks.bragg import peakfinder8
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry
from tests.bragg.hand_made import frame

USUAL = {"adc_thresh": 0.0, "min_snr": 5.0, "min_pix_count": 2, "max_pix_count": 200, "local_bg_radius": 3}


def crowded(seed: int, panels: tuple[tuple[int, int, int, int], ...] = ()) -> Frame:
    """Spots of all strengths, some touching, on a background that falls with the radius, with bad pixels."""
    rng = np.random.default_rng(seed)
    shape = (120, 140)
    spots = [(*rng.uniform((0, 0), shape), rng.exponential(800)) for _ in range(60)]
    given = frame(spots, shape=shape, panels=panels, mask=rng.random(shape) > 0.03, seed=seed)
    pixels = given.pixels + rng.poisson(2000 / (5 + np.nan_to_num(given.geometry.radius_px()))).astype(np.float32)
    return Frame(pixels, given.mask, given.geometry)


def slow_limits(values: np.ndarray, bins: np.ndarray, min_snr: float, adc_thresh: float, n_bins: int):
    mean, high = np.zeros(n_bins), np.full(n_bins, np.inf)
    for b in np.unique(bins):
        ring, low, limit = values[bins == b], -1e9, 1e9
        for _ in range(5):
            kept = ring[(ring > low) & (ring < limit)].astype(float)
            if len(kept) == 0:
                mean[b], limit = 0.0, np.inf
                break
            mean[b], spread = kept.mean(), kept.std()
            low, limit = mean[b] - min_snr * spread, max(mean[b] + min_snr * spread, adc_thresh)
        high[b] = limit
    return mean, high


def slow(given: Frame, adc_thresh: float, min_snr: float, min_pix_count: int, max_pix_count: int, local_bg_radius: int):
    """The steps as they are described, one after the other."""
    radius = given.geometry.radius_px()
    good, bins = given.mask & np.isfinite(radius), np.rint(np.nan_to_num(radius)).astype(int)
    mean, high = slow_limits(given.pixels[good], bins[good], min_snr, adc_thresh, bins.max() + 1)
    strong = good & (given.pixels > high[bins])
    below = good & (given.pixels < high[bins])
    ys, xs = np.indices(given.pixels.shape)
    reach, rows = 2 * local_bg_radius, []
    for m in given.geometry.modules:
        panel = (ys >= m.y0) & (ys < m.y1) & (xs >= m.x0) & (xs < m.x1)
        inner = (ys > m.y0) & (ys < m.y1 - 1) & (xs > m.x0) & (xs < m.x1 - 1)
        labels, _ = ndimage.label(strong & panel, np.ones((3, 3)))
        firsts = [label for label in labels[inner] if label]
        for label in dict.fromkeys(firsts):
            y, x = np.nonzero(labels == label)
            v = given.pixels[y, x].astype(float)
            if not min_pix_count <= len(v) <= max_pix_count:
                continue
            weight = np.abs(v - mean[bins[y, x]])
            cy, cx = round(float((y * weight).sum() / weight.sum())), round(float((x * weight).sum() / weight.sum()))
            disk = (ys - cy) ** 2 + (xs - cx) ** 2 <= reach**2
            around = given.pixels[disk & (ys < cy + reach) & (xs < cx + reach) & panel & below].astype(float)
            offset, sigma = (around.mean(), around.std()) if len(around) else (mean[bins[cy, cx]], 0.0)
            sigma, top = sigma or 0.01, around.max() if len(around) else offset
            total = (v - offset).sum()
            if total / sigma >= min_snr and v.max() - offset >= top - offset:
                at = ((y * v).sum() / v.sum(), (x * v).sum() / v.sum())
                rows.append([*at, total, total / sigma, len(v), v.max() - offset, offset, sigma])
    return np.array(rows)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "settings",
    [
        USUAL,
        {**USUAL, "min_snr": 3.5, "min_pix_count": 1, "max_pix_count": 12},
        {**USUAL, "adc_thresh": 90.0, "local_bg_radius": 2},
    ],
    ids=["usual", "low and small", "threshold"],
)
@pytest.mark.parametrize("panels", [(), ((0, 60, 0, 70), (0, 60, 70, 140), (64, 120, 0, 140))], ids=["whole", "panels"])
def test_the_compiled_finder_gives_what_the_description_does(seed, settings, panels):
    given = crowded(seed, panels)
    found = peakfinder8.find(given, **settings)
    described = slow(given, **settings)
    assert len(described) > 10
    np.testing.assert_allclose(found.to_numpy(), described, rtol=1e-5, atol=1e-5)


def test_touching_spots_are_one_peak_and_separate_ones_are_two():
    assert len(peakfinder8.find(frame([(50, 70, 3000), (50, 73, 3000)]), **USUAL)) == 1
    assert len(peakfinder8.find(frame([(50, 70, 3000), (50, 79, 3000)]), **USUAL)) == 2


def test_the_number_of_pixels_is_limited_at_both_ends():
    given = frame([(50, 70, 3000)])
    pixels = int(peakfinder8.find(given, **USUAL)["n_pixels"][0])
    for least, most, found in ((pixels, pixels, 1), (pixels + 1, 200, 0), (1, pixels - 1, 0)):
        assert len(peakfinder8.find(given, **{**USUAL, "min_pix_count": least, "max_pix_count": most})) == found


def test_a_peak_starts_off_the_border_but_may_grow_onto_it():
    given = frame()
    given.pixels[0, 40:44] = given.pixels[60, 139] = 500  # on the outermost row and column alone
    given.pixels[0:2, 90:92] = 500
    found = peakfinder8.find(given, **USUAL)
    assert found[["y_px", "x_px", "n_pixels"]].to_numpy().tolist() == [[0.5, 90.5, 4]]


def test_a_peak_has_to_be_above_all_that_is_left_around_it():
    given = frame()
    given.pixels[:] = 20
    given.pixels[50, 70:72] = 200
    given.pixels[50, 74] = 300  # alone, it is no peak, but as it is over the limit it is no background either
    assert len(peakfinder8.find(given, **USUAL)) == 1
    ring = np.rint(given.geometry.radius_px()) == np.rint(given.geometry.radius_px())[53, 70]
    given.pixels[ring] = np.arange(ring.sum()) % 2 * 10 + 255  # background of its radius, and brighter than the peak
    assert len(peakfinder8.find(given, **USUAL)) == 0


def test_a_peak_with_nothing_left_around_it_is_measured_against_its_radius():
    given = frame([(50, 70, 3000)])
    strong = given.pixels > 60
    near = np.hypot(*(np.indices(given.pixels.shape) - np.array([50, 70])[:, None, None])) < 12
    found = peakfinder8.find(Frame(given.pixels, ~near | strong, given.geometry), **USUAL)
    assert len(found) == 1
    assert found["sigma"][0] == 0.01 and found["background"][0] == pytest.approx(20, abs=5)


def test_the_threshold_is_of_each_radius_and_never_below_the_given_one():
    given = crowded(0)
    found = {thresh: peakfinder8.find(given, **{**USUAL, "adc_thresh": thresh}) for thresh in (0.0, 150.0)}
    assert 0 < len(found[150.0]) < len(found[0.0])
    assert (found[150.0]["max_value"] + found[150.0]["background"] > 150).all()


def test_a_ring_is_no_peak():
    given = frame()
    ring = np.abs(given.geometry.radius_px() - 40) < 3
    bright = given.pixels + np.random.default_rng(1).poisson(80, ring.shape) * ring
    assert len(peakfinder8.find(Frame(bright.astype(np.float32), given.mask, given.geometry), **USUAL)) == 0


def test_sampling_takes_at_most_a_hundred_pixels_of_each_radius_from_all_around():
    geometry = Geometry.flat((300, 400), (140.0, 210.0))
    chosen, bins = peakfinder8.sampled_pixels(geometry), peakfinder8.radial_bins(geometry).ravel()
    np.testing.assert_array_equal(np.bincount(bins[chosen]), np.minimum(np.bincount(bins), 100))
    assert len(np.unique(chosen)) == len(chosen)
    y, x = np.divmod(chosen[bins[chosen] == 100], 400)
    angles = np.histogram(np.arctan2(y - 140.0, x - 210.0), 8, (-np.pi, np.pi))[0]
    assert angles.min() >= 8 and angles.max() <= 18


def test_sampling_finds_nearly_the_same_peaks():
    given = crowded(1)
    full, sampled = (peakfinder8.find(given, **USUAL, sampled=sampled) for sampled in (False, True))
    assert abs(len(full) - len(sampled)) <= 0.1 * len(full) and not full.equals(sampled)
