"""Dispersion: sums over sliding windows beside sums written out, and what the statistics promise."""

import numpy as np
import pytest
from scipy.stats import chi2

from lib.tasks.bragg import dispersion
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.spots import panels
from tests.bragg.hand_made import frame

USUAL = {
    "adc_thresh": 0.0, "gain": 1.0, "sigma_background": 4.0, "sigma_strong": 4.0, "kernel_size": 3, "min_snr": 0.0,
    "min_pix_count": 2, "max_pix_count": 200, "local_bg_radius": 3,
}  # fmt: skip
PANELS = ((0, 40, 0, 60), (40, 90, 0, 60), (0, 90, 64, 100))


def busy(seed: int, panels: tuple[tuple[int, int, int, int], ...] = PANELS) -> Frame:
    rng = np.random.default_rng(seed)
    spots = [(*rng.uniform((0, 0), (90, 100)), rng.exponential(900)) for _ in range(25)]
    return frame(spots, shape=(90, 100), panels=panels, mask=rng.random((90, 100)) > 0.05, seed=seed)


def window(y: int, x: int, reach: int, panel: tuple[int, int, int, int]) -> tuple[slice, slice]:
    y0, y1, x0, x1 = panel
    return slice(max(y - reach, y0), min(y + reach + 1, y1)), slice(max(x - reach, x0), min(x + reach + 1, x1))


def slow_state(given: Frame, gain: float, sigma_background: float, sigma_strong: float, reach: int) -> np.ndarray:
    """Strong pixels, each window written out."""
    pixels, good = given.pixels.astype(float), given.mask
    spread, region, strong = (np.zeros(pixels.shape, bool) for _ in range(3))
    where = [(p, y, x) for p in PANELS for y in range(p[0], p[1]) for x in range(p[2], p[3]) if good[y, x]]
    for p, y, x in where:
        near = window(y, x, reach, p)
        v = pixels[near][good[near]]
        if len(v) >= 2 and v.sum() > 0:
            limit = gain * (1 + sigma_background * np.sqrt(2 / (len(v) - 1)))
            spread[y, x] = v.var(ddof=1) / v.mean() > limit
    for p, y, x in where:
        near = window(y, x, reach - 1, p)
        region[y, x] = spread[y, x] and not (good & ~spread)[near].any()
    for p, y, x in where:
        near = window(y, x, reach + 2, p)
        v = pixels[near][(good & ~region)[near]]
        mean = v.mean() if len(v) >= 2 else 0.0
        strong[y, x] = region[y, x] and pixels[y, x] >= mean + sigma_strong * np.sqrt(gain * mean)
    return strong


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("gain", "reach"), [(1.0, 3), (1.5, 2)])
def test_the_compiled_passes_give_what_windows_written_out_do(seed: int, gain: float, reach: int):
    given = busy(seed)
    rectangles, state = panels(given.geometry), np.zeros(given.mask.shape, np.uint8)
    spread = dispersion.overdispersed(given.pixels, given.mask, rectangles, reach, gain, 2.0)
    region = dispersion.eroded(given.pixels, spread, given.mask & ~spread, rectangles, reach - 1)
    dispersion.mark_strong(
        given.pixels, region, given.mask & ~region, rectangles, reach + dispersion.WIDER, gain, 3.0, 0.0, state
    )
    described = slow_state(given, gain, 2.0, 3.0, reach)
    assert described.sum() > 50
    np.testing.assert_array_equal(state == 1, described)


def test_a_flat_background_is_overdispersed_as_rarely_as_chance_has_it():
    given = frame(shape=(300, 300))
    marked = dispersion.overdispersed(given.pixels, given.mask, panels(given.geometry), 3, 1.0, 3.0)
    expected = chi2.sf(48 * (1 + 3.0 * np.sqrt(2 / 48)), 48)  # of 49 counts, (n − 1) × variance ÷ mean is χ² with n − 1
    assert marked.mean() == pytest.approx(expected, rel=0.5)


def test_a_background_in_units_of_several_photons_needs_its_gain():
    given = frame([(50.3, 70.6, 3000)])
    in_adu = Frame(given.pixels * 7, given.mask, given.geometry)
    found = dispersion.find(given, **USUAL)
    assert len(found) == 1
    assert len(dispersion.find(in_adu, **USUAL)) == 0  # noise stands out everywhere, and all of it touches
    scaled = dispersion.find(in_adu, **{**USUAL, "gain": 7.0})
    np.testing.assert_allclose(scaled[["y_px", "x_px", "snr"]], found[["y_px", "x_px", "snr"]], rtol=1e-6)
    np.testing.assert_allclose(scaled["intensity"], 7 * found["intensity"], rtol=1e-6)


def test_the_region_of_a_spot_is_eroded_to_about_the_spot():
    given = frame([(50.0, 70.0, 3000)])
    rectangles = panels(given.geometry)
    spread = dispersion.overdispersed(given.pixels, given.mask, rectangles, 3, 1.0, 6.0)
    region = dispersion.eroded(given.pixels, spread, given.mask & ~spread, rectangles, 2)
    assert spread.sum() > 60 and 9 <= region.sum() <= spread.sum() / 2
    assert np.argwhere(region).mean(axis=0) == pytest.approx([50, 70], abs=0.6)


def test_large_counts_far_off_leave_no_trace_in_later_windows():
    given = frame([(100.0, 120.0, 3000)])
    marred = Frame(given.pixels.copy(), given.mask.copy(), given.geometry)
    marred.pixels[5, 5] = 2.0**24
    there = [dispersion.find(each, **{**USUAL, "min_pix_count": 3}) for each in (given, marred)]
    assert len(there[0]) == 1
    assert there[0].equals(there[1])


def test_a_threshold_leaves_the_bright_ones():
    given = frame([(40.0, 40.0, 4000), (80.0, 100.0, 700)])
    assert len(dispersion.find(given, **USUAL)) == 2
    assert dispersion.find(given, **{**USUAL, "adc_thresh": 250.0})["y_px"].to_numpy() == pytest.approx([40.0], abs=0.6)
