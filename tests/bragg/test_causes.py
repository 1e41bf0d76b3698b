"""What false peaks are: rings, hot pixels and zingers are told where they are, and the sheet counts each false peak once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.tasks.bragg import causes, data, sheet_views, simulate
from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry
from lib.tasks.bragg.settings import Training
from lib.words import english

SHAPE = (300, 320)
CENTRE = (140.0, 170.0)


def ringed(ring_photons: float, level: float = 30.0, slope_px: float = 80.0) -> Frame:
    """Photons of a background that falls with the radius, with a ring of σ 2 px at 100 px."""
    geometry = Geometry.flat(SHAPE, CENTRE)
    radius = geometry.radius_px().astype(float)
    light = level * np.exp(-radius / slope_px) + 2 + ring_photons * np.exp(-((radius - 100) ** 2) / 8)
    pixels = np.random.default_rng(0).poisson(light).astype(np.float32)
    return Frame(pixels, np.ones(SHAPE, bool), geometry)


def test_a_ring_is_found_at_its_radius_and_nowhere_else() -> None:
    found = np.flatnonzero(causes.rings(ringed(6)))
    assert 100 in found and found.min() >= 90 and found.max() <= 110


@pytest.mark.parametrize("slope_px", [20.0, 80.0, 1e6])
def test_a_slope_is_no_ring(slope_px: float) -> None:
    assert not causes.rings(ringed(0, slope_px=slope_px)).any()


def test_places_are_on_the_ring_by_their_distance_from_the_beam() -> None:
    y = CENTRE[0] + np.array([100.0, 0.0, 60.0])
    x = CENTRE[1] + np.array([0.0, 100.0, 0.0])
    assert causes.on_ring(ringed(6), y, x).tolist() == [True, True, False]


def test_a_frame_without_a_good_pixel_has_no_ring() -> None:
    frame = ringed(6)
    assert not causes.on_ring(
        Frame(frame.pixels, np.zeros(SHAPE, bool), frame.geometry), np.array([240.0]), np.array([170.0])
    ).any()


def test_a_simulated_frame_knows_its_zingers_and_the_hot_pixels_that_are_not_masked() -> None:
    config = Simulation(height_px=256, width_px=256, hot_share=2e-3, hot_masked=0.5, zingers_per_mpx=300, hit_fraction=0)
    rng = np.random.default_rng(1)
    where = Geometry.flat((256, 256), px_size_um=100, distance_mm=150, wavelength_angstrom=1.5)
    experiment = simulate.set_up(config, where, rng)
    frame, _ = simulate.expose(experiment, rng)
    hot, zingers = frame.artefacts["hot"], frame.artefacts["zinger"]
    assert 0 < len(hot) < len(experiment.pixels.hot) and len(zingers)
    assert frame.mask[hot[:, 0], hot[:, 1]].all()
    usual = np.median(frame.pixels[frame.mask])
    assert (frame.pixels[hot[:, 0], hot[:, 1]] > usual).all()
    assert np.median(frame.pixels[zingers[:, 0], zingers[:, 1]]) > usual + 20
    told = causes.told(frame, hot[:3, 0] + 1.0, hot[:3, 1] + 1.0)
    assert told["beside_hot"].all() and {*told} == {"on_ring", "beside_hot", "beside_zinger"}


def test_a_real_frame_knows_no_artefacts() -> None:
    assert {*causes.told(ringed(0), np.zeros(1), np.zeros(1))} == {"on_ring"}


def table(n: int, **columns: object) -> pd.DataFrame:
    """n false candidates of one frame, far from everything."""
    plain = {"file": "f", "frame": 0, "beside_gap": False, "nearest_px": np.inf, "max_value": 10.0, "background": 0.0,
             "intensity": 100.0}  # fmt: skip
    return pd.DataFrame(plain, index=range(n)).assign(**columns)


def counted(samples: pd.DataFrame) -> dict[str, int]:
    found = pd.DataFrame({"is_peak": True}, index=samples.index)
    rows = sheet_views.cause_table(found, found.assign(is_peak=False), samples)
    return dict(zip(rows["cause"], rows["false peaks"]))


def test_each_false_peak_has_one_cause() -> None:
    samples = table(
        6, beside_gap=[True, False, False, False, False, False], beside_hot=[True, True, False, False, False, False],
        beside_zinger=[False, False, True, False, False, False], on_ring=[True, True, True, True, False, False],
        max_value=[10.0, 10, 10, 10, 90, 10],
    )  # fmt: skip
    assert counted(samples) == {
        "beside a gap or a masked pixel": 1, "within 6 px of a true spot": 0, "a hot pixel": 1, "a zinger": 1,
        "another single pixel": 1, "on a powder or ice ring": 1, "noise and streaks": 1,
    }  # fmt: skip


def test_a_run_from_before_rings_were_told_still_has_its_causes() -> None:
    assert counted(table(2, nearest_px=[1.0, np.inf])) == {
        "beside a gap or a masked pixel": 0, "within 6 px of a true spot": 1, "a single pixel: hot, or hit by a particle": 0,
        "noise, rings and streaks": 1,
    }  # fmt: skip


def test_test_frames_tell_causes_and_times_and_training_frames_do_not() -> None:
    config = Training(frame_px=128, frames_per_epoch=2, test_frames=2, validation_frames=2, batch_size=2)
    made = data.simulated(config, simulate.draw_frame)
    test = made.batch("test", 0, 0).table
    assert {"on_ring", "beside_hot", "beside_zinger"} <= {*test.columns}
    for name in ("model", *data.PEERS):
        clock = test[f"{name}_ms"]
        assert clock.notna().sum() == 2 and (clock.dropna() > 0).all()
    peers = sheet_views._speed(test, "model_ms", english)
    assert peers["ms per Mpx"] > 0 and sheet_views._speed(test, "other_ms", english) == {}
    assert "on_ring" not in made._make("train", 0, 0).table
