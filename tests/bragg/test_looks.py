"""What the viewer shows of frames: rings on any geometry, whole runs as pictures, and no second picture of the same frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import labels
from lib.plate import Facet
from lib.task import InputError
from lib.tasks.bragg import TASK, detector, frame_views, looks, projections, simulate
from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry, Module

KNOWN = {"px_size_um": 100.0, "distance_mm": 30.0, "wavelength_angstrom": 1.3}
TURN = np.deg2rad(7)


def tilted() -> Geometry:
    """Two modules, one turned by 7° and farther away, the other mirrored."""
    turned = Module(0, 200, 0, 150, (10.0, -90.0), (np.sin(TURN), np.cos(TURN)), (np.cos(TURN), -np.sin(TURN)), offset_mm=3.0)
    mirrored = Module(200, 400, 0, 150, (-60.0, 140.0), (0.0, -1.0), (1.0, 0.0))
    return Geometry((400, 150), (turned, mirrored), **KNOWN)


def of_detector(name: str) -> Geometry:
    return detector.geometry(Simulation(detector=name))  # type: ignore[arg-type]


@pytest.mark.parametrize("where", [tilted(), of_detector("CSPAD"), of_detector("ePix10k 2M"), of_detector("Eiger 4M")])
@pytest.mark.parametrize("d_angstrom", [3.0, 4.5])
def test_a_ring_sees_its_resolution_all_along(where: Geometry, d_angstrom: float) -> None:
    curve = where.ring_yx(d_angstrom)
    y, x = curve[np.isfinite(curve[:, 0])].T
    inside = np.isfinite(where.locate(y, x)[0])  # to half a pixel, a point lies on its module
    assert len(y) > 20 and inside.mean() > 0.95
    np.testing.assert_allclose(where.resolution_angstrom(y, x)[inside], d_angstrom, rtol=1e-6)


def test_a_flat_detector_has_one_centre_and_a_turned_one_has_none() -> None:
    assert Geometry.flat((50, 60), (20.5, 31.0)).center_yx() == (20.5, 31.0)
    two = Geometry.flat((50, 60), (20.5, 31.0), panels=[(0, 25, 0, 60), (25, 50, 0, 60)])
    assert two.center_yx() == (20.5, 31.0)
    assert of_detector("Eiger 4M").center_yx() is not None
    assert tilted().center_yx() is None and of_detector("CSPAD").center_yx() is None
    assert len(Geometry.flat((50, 60)).ring_yx(3.0)) == 0, "nothing is known of its resolution"


def seen_by(facets: tuple[Facet, ...], resolution: tuple[float, float, float], y: int, x: int) -> float:
    """The resolution of a pixel as the viewer works it out."""
    (facet,) = [f for f in facets if f.y0 <= y < f.y1 and f.x0 <= x < f.x1]
    lab = np.array(facet.origin_yx) + (y - facet.y0) * np.array(facet.ss_yx) + (x - facet.x0) * np.array(facet.fs_yx)
    px_size_um, distance_mm, wavelength = resolution
    angle = np.arctan2(np.hypot(*lab) * px_size_um / 1000, distance_mm + facet.offset_mm)
    return float(wavelength / (2 * np.sin(angle / 2)))


def test_the_plate_of_turned_modules_tells_where_each_pixel_is() -> None:
    where = tilted()
    plate = looks.plate(Frame(np.zeros(where.shape, np.float32), np.ones(where.shape, bool), where))
    assert plate.center_yx is None and not plate.rings and "3 Å" in plate.curves
    assert plate.resolution is not None
    for y, x in ((5, 9), (150, 140), (390, 20)):
        wanted = where.resolution_angstrom(np.array([y]), np.array([x]))[0]
        assert seen_by(plate.facets, plate.resolution, y, x) == pytest.approx(wanted)


def test_the_figure_of_turned_modules_has_rings() -> None:
    where = tilted()
    frame = Frame(np.ones(where.shape, np.float32), np.ones(where.shape, bool), where)
    lines = [trace for trace in frame_views.frame_figure(frame).data if trace.type == "scatter" and trace.mode == "lines"]
    assert len(lines) == 1
    y, x = np.array(lines[0].y, float), np.array(lines[0].x, float)
    d = where.resolution_angstrom(y[np.isfinite(y)], x[np.isfinite(x)])
    assert np.abs(d[:, None] - np.array(frame_views.RINGS_ANGSTROM)).min(axis=1)[np.isfinite(d)].max() < 1e-6


# --- whole runs -------------------------------------------------------------------------------------------------------
def frames(n: int = 4) -> list[Frame]:
    rng = np.random.default_rng(0)
    where = Geometry.flat((20, 30), **KNOWN)
    made = []
    for number in range(n):
        mask = rng.random(where.shape) > 0.2
        mask[:, 3] = False
        made.append(Frame(rng.poisson(20, where.shape).astype(np.float32), mask, where, "run", number))
    return made


def test_a_run_gathered_frame_by_frame_is_its_sum_largest_and_mean_over_good_pixels() -> None:
    gathered: dict[str, np.ndarray] = {}
    for frame in frames():
        gathered = projections.add(gathered, frame)
    masked = np.ma.stack([np.ma.array(f.pixels.astype(float), mask=~f.mask) for f in frames()])
    plates = looks.projections(gathered, frames()[0].geometry)
    assert [*plates] == ["Largest", "Mean", "Sum"]
    for name, wanted in (("Largest", masked.max(axis=0)), ("Mean", masked.mean(axis=0)), ("Sum", masked.sum(axis=0))):
        np.testing.assert_allclose(plates[name].pixels, wanted.filled(0))
        np.testing.assert_array_equal(plates[name].mask, ~np.ma.getmaskarray(wanted))
    assert not plates["Sum"].mask[:, 3].any() and plates["Sum"].center_yx is not None


def test_a_frame_of_another_size_is_refused_and_changes_nothing() -> None:
    first, *_ = frames()
    gathered = projections.add({}, first)
    before = {name: values.copy() for name, values in gathered.items()}
    other = Frame(np.ones((5, 5), np.float32), np.ones((5, 5), bool), Geometry.flat((5, 5)), "other", 7)
    with pytest.raises(InputError, match="another size"):
        projections.add(gathered, other)
    for name, values in before.items():
        np.testing.assert_array_equal(gathered[name], values)
    assert looks.projections({}, first.geometry) == {}


def test_below_the_viewer_the_frame_is_not_drawn_again() -> None:
    samples = simulate.simulate_frames(Simulation(height_px=128, width_px=128), 1, np.random.default_rng(0))
    below = [panel.key for panel in TASK.plate_panels(samples, 0, TASK.Acquisition())]
    assert below == ["profile", "histogram"]
    assert [panel.key for panel in TASK.sample_panels(samples, 0, TASK.Acquisition())] == ["frame", *below]


def test_the_shipped_model_marks_what_it_predicts() -> None:
    from lib import looking, runs
    from lib.model import load

    run = runs.find("shipped-patchnet", "bragg")
    model = load(run, TASK)
    samples = simulate.simulate_frames(Simulation(height_px=256, width_px=256), 2, np.random.default_rng(1))
    asked = looking.Asked.learned(run.name, model.task, model.predict)
    found = asked.find(samples, 1, TASK.Acquisition())
    one = samples.take([1])
    table, peaks = model.task.whole(model.predict(model.task.parts(one)), one)
    assert len(found) == table["n_peaks"].iloc[0] > 0
    pd.testing.assert_frame_equal(found[["y_px", "x_px"]], peaks[["y_px", "x_px"]])


def test_a_written_run_knows_its_spots_when_it_is_read_again(tmp_path: Path) -> None:
    config = Simulation.model_validate({"height_px": 256, "width_px": 256, "px_size_um": 400.0})
    run = simulate.simulate_frames(config, 2, np.random.default_rng(1))
    TASK.write(run, tmp_path)
    again = TASK.read(tmp_path / "frames.cxi", TASK.Acquisition())
    for row in range(2):
        told, made = TASK.true_marks(again, row), TASK.true_marks(run, row)
        assert told is not None and made is not None and len(told) == len(made) > 0
        np.testing.assert_allclose(told.to_numpy(), made.to_numpy(), atol=1e-3)
    (tmp_path / "truth.csv").write_text("place,frame\na,1\n")
    with pytest.raises(InputError, match="does not hold the columns file, frame"):
        TASK.true_marks(again, 0)
    (tmp_path / "truth.csv").unlink()
    assert TASK.true_marks(again, 0) is None


def test_weak_spots_of_a_simulated_run_may_be_found_and_need_not() -> None:
    wanted = pd.DataFrame({"y_px": [10.0, 20.0, 30.0], "x_px": [10.0, 20.0, 30.0], "snr": [9.0, 1.0, 2.0]})
    strong, weak, none = ([10.5, 10.0], [20.0, 20.5], [50.0, 50.0])
    found = pd.DataFrame([strong, weak, none], columns=["y_px", "x_px"])
    told = looks.compare(found, wanted)
    assert (told["n_common"], told["n_only_found"], told["n_only_wanted"]) == (1, 1, 0)
    assert looks.compare(found[:1], wanted)["f1"] == 1.0
    by_hand = looks.compare(found, wanted[["y_px", "x_px"]])
    assert (by_hand["n_common"], by_hand["n_only_found"], by_hand["n_only_wanted"]) == (2, 1, 1), "labels by hand all count"
    shown = [looking_for["y_px"].tolist() for looking_for in map(TASK.marks_to_find, (wanted, wanted[["y_px", "x_px"]]))]
    assert shown == [[10.0], [10.0, 20.0, 30.0]], "a comparison circles what has to be found"


def test_the_sample_that_ships_has_its_truth_and_finders_agree_with_it() -> None:
    run, known = TASK.read(TASK.example()[0], TASK.Acquisition()), TASK.Acquisition()
    truth = [TASK.true_marks(run, row) for row in range(len(run))]
    for name in ("peakfinder8", "dispersion"):
        counts = [
            TASK.compare_marks(TASK.find(run, row, name, TASK.finders[name](), known), wanted)
            for row, wanted in enumerate(truth) if wanted is not None
        ]  # fmt: skip
        assert len(counts) == len(run) and labels.totals(pd.DataFrame(counts))["f1"] > 0.85, name
