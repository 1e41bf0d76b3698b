"""Looking into pictures: how they travel to the browser, masks that are drawn, and what the worker makes of many frames."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from lib import drawn, labels, looking, serve
from lib.drawn import Stroke, of_pixels, paint
from lib.looking import Asked
from lib.plate import Facet, Plate, compact
from lib.task import InputError, Samples, Task
from tests.toy.plates.dots import draw


def silent(_share: float, _text: str) -> None:
    """Nobody looks at the progress."""


# --- pictures ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.0, 255.0], "uint8"), ([0.0, 65_535.0], "uint16"), ([-1.0, 40_000.0], "int32"), ([-2.0, 100.0], "int8"),
        ([-2.0, 1000.0], "int16"), ([0.0, 4e9], "uint32"), ([0.5, 1.0], "float32"), ([0.0, np.nan], "float32"),
        ([0.0, np.inf], "float32"), ([0.0, 1e12], "float32"),
    ],
)  # fmt: skip
def test_pixels_travel_in_the_smallest_type_that_keeps_them(values: list[float], kind: str) -> None:
    pixels = np.array([values], np.float64)
    found = compact(pixels)
    assert found.dtype.name == kind
    np.testing.assert_array_equal(found, pixels.astype(found.dtype))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.uint64, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 33)])
def test_a_plate_comes_back_as_it_was(dtype: type, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = (rng.random(shape) * 100).astype(dtype)
    plate = Plate(pixels, rng.random(shape) < 0.7, "ADU", (1.5, 2.5), (("3.0 Å", 4.0), ("9 Å", float("nan"))), (75.0, 100.0, 1.0))
    content = plate.to_bytes()
    found = Plate.from_bytes(content)
    np.testing.assert_array_equal(found.pixels, pixels.astype(found.pixels.dtype))
    np.testing.assert_array_equal(found.mask, plate.mask)
    assert (found.unit, found.center_yx, found.rings, found.resolution) == (
        "ADU",
        (1.5, 2.5),
        (("3.0 Å", 4.0),),
        (75.0, 100.0, 1.0),
    )
    assert (4 + int.from_bytes(content[:4], "little")) % 8 == 0  # typed arrays of a browser begin at their own size


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int16, np.uint32, np.int32])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 5), (64, 33)])
@pytest.mark.parametrize("spread", [2, 60, 5000])
def test_readings_far_from_most_come_back_too(dtype: type, shape: tuple[int, int], spread: float) -> None:
    rng, limits = np.random.default_rng(1), np.iinfo(dtype)
    pixels = np.clip(rng.normal(20, spread, shape), limits.min, limits.max).astype(dtype)
    pixels.flat[:: max(2, pixels.size // 7)] = limits.max  # as gaps have
    pixels.flat[-1] = limits.min
    found = Plate.from_bytes(Plate(pixels, pixels < limits.max).to_bytes())
    np.testing.assert_array_equal(found.pixels, pixels)


def test_faint_frames_travel_as_half_bytes() -> None:
    frame = np.random.default_rng(0).poisson(4, (200, 300)).astype(np.uint16)
    frame[50:55] = 65_535
    content = Plate(frame, frame < 65_535).to_bytes()
    assert len(content) < 0.7 * frame.size + 400


def test_where_turned_parts_of_a_picture_lie_travels_too() -> None:
    curve = np.array([[1.0, 2.0], [1.5, 2.25], [np.nan, np.nan], [3.0, 0.0], [np.nan, np.nan]])
    facet = Facet(0, 2, 0, 3, (0.5, -1.0), (0.0, 1.0), (-1.0, 0.0), 2.5)
    plate = Plate(np.zeros((2, 3)), np.ones((2, 3), bool), "ADU", None, (), (75.0, 100.0, 1.0), {"3 Å": curve}, (facet,))
    found = Plate.from_bytes(plate.to_bytes())
    np.testing.assert_array_equal(found.curves["3 Å"], curve)
    assert found.facets == (facet,) and found.center_yx is None


# --- masks ------------------------------------------------------------------------------------------------------------
def test_strokes_mask_and_take_back_in_their_order() -> None:
    good = np.ones((20, 30), bool)
    box = Stroke(box=(2, 5, 10, 40))
    erased = Stroke(good=True, points_yx=((3, 12),), radius_px=1)
    mask = paint(good, [box, erased])
    assert good.all()
    assert mask[3, 11:14].all() and not mask[2:5, 14:].any()
    assert mask[3, 11] and mask[2, 12] and not mask[2, 11]
    assert (~mask).sum() == 3 * 20 - 5
    assert (~paint(good, [erased, box])).sum() == 3 * 20


@pytest.mark.parametrize(("radius_px", "pixels"), [(0, 1), (1, 5), (2, 13), (5, 81)])
def test_a_brush_is_a_disc(radius_px: int, pixels: int) -> None:
    mask = paint(np.ones((40, 40), bool), [Stroke(points_yx=((20, 20),), radius_px=radius_px)])
    y, x = np.nonzero(~mask)
    assert len(y) == pixels and np.hypot(y - 20, x - 20).max() <= radius_px


def test_a_stroke_beyond_the_edge_is_cut_off_and_does_not_come_back_on_the_other_side() -> None:
    mask = paint(np.ones((10, 10), bool), [Stroke(points_yx=((0, 0),), radius_px=2), Stroke(box=(-5, 1, -5, 100))])
    assert mask[5:].all() and mask[1:, 5:].all() and not mask[0].any()


def test_strokes_and_pixels_make_the_same_trip() -> None:
    bad = np.random.default_rng(0).random((9, 9)) < 0.2
    stroke = of_pixels(bad)
    np.testing.assert_array_equal(~paint(np.ones((9, 9), bool), [Stroke.from_json(stroke.to_json())]), bad)


def test_a_saved_mask_has_one_for_good_and_is_never_overwritten(home: Path) -> None:
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    path = drawn.save("toy", "monday", mask)
    assert path == home / "data" / "toy" / "masks" / "monday.h5" and drawn.names("toy") == ["monday.h5"]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["mask"][...], mask.astype(np.uint8))
    with pytest.raises(InputError, match="already"):
        drawn.save("toy", "monday", ~mask)
    with pytest.raises(InputError, match="cannot be the name"):
        drawn.save("toy", "../monday", mask)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["mask"][...], mask.astype(np.uint8))


# --- in the worker ----------------------------------------------------------------------------------------------------
@pytest.fixture
def run(dots: Task, tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    """A folder of inspected samples, as the Clean page leaves it, and where the dots are."""
    frames, places = draw(4, np.random.default_rng(0))
    np.save(tmp_path / "a.npy", frames)
    folder = tmp_path / "inspected"
    folder.mkdir()
    dots.read(tmp_path / "a.npy", dots.Acquisition(), "a.npy").save(folder)
    return folder, places


def asked(op: str, folder: Path, **payload: object) -> dict:
    return serve.OPERATIONS[op]({"task": "dots", "folder": str(folder), "acquisition": {}, **payload}, silent)


MAXIMA = {"name": "maxima", "parameters": {"threshold": 50.0}}


def test_the_worker_writes_one_picture_and_its_panels(run: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    folder, _ = run
    path = Path(asked("plate", folder, row=2, output=str(tmp_path))["path"])
    plate = Plate.from_bytes(path.read_bytes())
    frame = Samples.load(folder).inputs["frame"][2]
    np.testing.assert_array_equal(plate.pixels, frame)
    assert not plate.mask[0, 121] and plate.rings[0] == ("3.0 Å", 60.0)
    (panel,) = asked("panels", folder, row=2)["panels"]
    assert f"{frame.sum():.0f}" in panel["content"]


def test_the_worker_finds(run: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    folder, places = run
    output = tmp_path / "found.parquet"
    assert asked("find", folder, rows=[0, 3], finder=MAXIMA, output=str(output))["failures"] == []
    found = pd.read_parquet(output)
    for row in (0, 3):
        here = found.loc[found["row"] == row, ["y_px", "x_px"]].to_numpy()
        assert {*map(tuple, here)} == {*map(tuple, places[row]), (3.0, 4.0)}
    assert set(found["row"]) == {0, 3}


@pytest.mark.parametrize(
    ("finder", "why"),
    [({"name": "other"}, "Finders: maxima, everything"), (MAXIMA | {"parameters": {"threshold": -1}}, "threshold")],
)
def test_another_finder_or_a_wrong_parameter_is_a_sentence(run: tuple[Path, list[np.ndarray]], finder: dict, why: str) -> None:
    with pytest.raises(InputError, match=why):
        asked("find", run[0], rows=[0], finder=finder, output="")


def test_a_frame_that_cannot_be_read_stops_nothing(
    dots: Task, run: tuple[Path, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = type(dots).find

    def broken(self, samples, row, *rest):
        if row == 1:
            raise InputError("a.npy", "frame 1 is truncated", "Copy it again")
        return find(self, samples, row, *rest)

    monkeypatch.setattr(type(dots), "find", broken)
    samples = looking.samples_of(run[0])
    found, failures, _ = looking.found_in(dots, samples, [0, 1, 2], Asked.of(dots, MAXIMA), dots.Acquisition(), silent)
    assert set(found["row"]) == {0, 2}
    assert failures == [{"file": "a.npy 1", "error": "frame 1 is truncated. Copy it again"}]


def test_finders_are_compared_with_labels(run: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    folder, places = run
    marked = labels.create("dots", "right")
    everyone = [
        labels.Change(("a.npy", row), tuple((float(y), float(x)) for y, x in found), done=True)
        for row, found in enumerate(places)
    ]
    labels.change(marked, everyone)
    finders = [MAXIMA, {"name": "maxima", "parameters": {"threshold": 400.0}}]
    assert asked("compare", folder, rows=[0, 1, 2, 3], finders=finders, labels="right", output=str(tmp_path)) == {"failures": []}
    summary, frames, marks, wanted = (
        pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("summary", "frames", "marks", "wanted")
    )
    assert summary["recall"].tolist() == [1.0, 0.0]
    assert summary["precision"].tolist() == [pytest.approx(9 / 10), 0.0]  # the hot pixel is no dot
    assert summary["marks_per_frame"].tolist() == [10.0, 1.0] and (summary["ms_per_mpx"] > 0).all()
    assert frames.groupby("finder")["n_only_wanted"].sum().tolist() == [0, 36]
    assert len(marks) == 4 * 11 and len(wanted) == 36


def test_without_labels_truth_is_needed_and_without_frames_there_is_nothing(
    run: tuple[Path, list[np.ndarray]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not known"):
        asked("compare", run[0], rows=[0], finders=[MAXIMA], labels="", output=str(tmp_path))
    with pytest.raises(InputError, match="at least one"):
        asked("compare", run[0], rows=[], finders=[MAXIMA], labels="", output=str(tmp_path))


def test_truth_in_the_table_is_what_finders_are_held_against(dots: Task, run: tuple[Path, list[np.ndarray]]) -> None:
    folder, places = run
    samples = Samples.load(folder)
    samples = samples.with_columns(
        true_y_px=[found[:, 0].astype(float) for found in places], true_x_px=[found[:, 1].astype(float) for found in places]
    )
    compared = looking.compare(dots, samples, [1], [Asked.of(dots, MAXIMA)], "", dots.Acquisition(), silent)
    assert compared.summary["recall"].tolist() == [1.0]


def test_hot_pixels_are_suggested(run: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    output = tmp_path / "bad.npy"
    assert asked("suggest_mask", run[0], rows=[0, 1, 2, 3], output=str(output)) == {"n_bad": 1}
    assert np.load(output).tolist() == [[3, 4]]


def test_a_run_is_gathered_in_parts_that_go_on_where_they_were_left(
    run: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PROJECT_S", 0.0)
    monkeypatch.setattr(looking, "OVERHEAD", 0)
    output, rows = tmp_path / "out", [3, 0, 1]
    output.mkdir()
    told = [asked("project", run[0], rows=rows, output=str(output)) for _ in rows]
    assert [(value["done"], value["of"]) for value in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[0]["plates"] == {} and told[1]["plates"] == {}
    frames = Samples.load(run[0]).inputs["frame"]
    plate = Plate.from_bytes(Path(told[2]["plates"]["Sum"]).read_bytes())
    np.testing.assert_array_equal(plate.pixels, frames[rows].sum(axis=0))
    other = asked("project", run[0], rows=[2], output=str(output))
    assert (other["done"], other["n"]) == (1, 1), "other rows begin anew"


def test_who_stops_gathering_sees_what_there_is(
    run: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PROJECT_S", 0.0)
    monkeypatch.setattr(looking, "OVERHEAD", 0)
    asked("project", run[0], rows=[0, 1, 2, 3], output=str(tmp_path))
    told = asked("project", run[0], rows=[0, 1, 2, 3], output=str(tmp_path), finish=True)
    assert (told["done"], told["n"], told["of"]) == (2, 2, 4)
    plate = Plate.from_bytes(Path(told["plates"]["Sum"]).read_bytes())
    np.testing.assert_array_equal(plate.pixels, Samples.load(run[0]).inputs["frame"][:2].sum(axis=0))


def test_a_frame_that_cannot_be_read_is_left_out_of_the_run(
    dots: Task, run: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = type(dots).project

    def broken(self, samples, row, *rest):
        if row == 1:
            raise InputError("a.npy", "frame 1 is truncated", "Copy it again")
        return project(self, samples, row, *rest)

    monkeypatch.setattr(type(dots), "project", broken)
    told = asked("project", run[0], rows=[0, 1, 2], output=str(tmp_path))
    assert (told["done"], told["n"]) == (3, 2)
    assert told["failures"] == [{"file": "a.npy 1", "error": "frame 1 is truncated. Copy it again"}]


def test_small_pictures_come_from_the_worker_black_where_there_is_none(
    dots: Task, run: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnail = type(dots).thumbnail

    def broken(self, samples, row):
        if row == 2:
            raise InputError("a.npy", "frame 2 is truncated", "Copy it again")
        return thumbnail(self, samples, row)

    monkeypatch.setattr(type(dots), "thumbnail", broken)
    output = tmp_path / "small.npz"
    told = asked("thumbnails", run[0], rows=[0, 2], output=str(output))
    assert [failure["file"] for failure in told["failures"]] == ["a.npy 2"]
    with np.load(output, allow_pickle=False) as file:
        assert {*file.files} == {"0", "2"} and not file["2"].any()
        np.testing.assert_array_equal(file["0"], dots.thumbnail(Samples.load(run[0]), 0))


def test_a_model_marks_the_parts_that_it_keeps(
    dots: Task, run: tuple[Path, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = ["", "error: it is truncated. Copy it again."]
    monkeypatch.setattr(
        type(dots), "whole",
        lambda self, judged, samples: (pd.DataFrame({"note": [notes[judged["n"].iloc[0]]]}), judged[["of", "y_px", "x_px"]]),
    )  # fmt: skip
    samples = Samples.load(run[0])

    def predict(one: Samples) -> pd.DataFrame:
        return pd.DataFrame({"of": [0], "y_px": [float(one.table["frame"].iloc[0])], "x_px": [7.0], "n": one.table["frame"] // 3})

    model = Asked.learned("mine", dots, predict)
    found, failures, _ = looking.found_in(dots, samples, [1, 3], model, dots.Acquisition(), silent)
    assert found[["y_px", "x_px", "row"]].to_numpy().tolist() == [[1.0, 7.0, 1.0]]
    assert failures == [{"file": "a.npy 3", "error": "it is truncated. Copy it again. Look at another one."}]


def test_a_model_that_is_not_there_is_a_sentence(run: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no-such-run"):
        asked("find", run[0], rows=[0], finder={"name": f"{looking.MODEL}no-such-run"}, output=str(tmp_path / "x"))


def test_a_task_without_pictures_says_so(toy: Task) -> None:
    samples = toy.simulate(toy.Simulation(), 1, np.random.default_rng(0))
    with pytest.raises(InputError, match="no pictures"):
        looking.plate_of(toy, samples, 0, toy.Acquisition())
    with pytest.raises(InputError, match="by hand"):
        looking.suggested_mask(toy, samples, [0], toy.Acquisition(), silent)
