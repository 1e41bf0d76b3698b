"""The Clean page's view Look: pictures one after another, labels, masks, finders; on the task of dots, without a browser.

The viewer itself runs only in a browser: what hands do in it is handed to the page as it would be.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import NumberInput

from lib import drawn, labels, runs
from lib.plate import Plate
from lib.task import InputError, Task
from lib.ui import plate as viewer
from lib.ui.clean import VIEWS
from lib.ui.desk import Desk
from lib.ui.files import FOLDER
from lib.ui.look import has_plates
from tests.conftest import wait_for
from tests.pages.conftest import PAGES, figures, texts
from tests.pages.fake_worker import Here
from tests.toy.plates.dots import draw

FILE = "dots/run/a.npy"


class Screen:
    """Stands for the viewer in the browser: keeps what it was shown, and hands over edits once."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.sent: dict[str, bytes] = {}  # by token
        self.turned = ""  # the token of the picture that came without its marks, last
        self.edits: list[dict[str, Any]] = []

    def do(self, page: AppTest, **edit: Any) -> AppTest:
        """A hand's edit of the picture that is shown, then the page drawn again."""
        self.edits.append({"n": len(self.edits) + 1, "row": self.data["row"], **edit})
        return page.run().run()

    def show(self, *, key: str, data: dict[str, Any], on_edits_change: Callable[[], None]) -> None:
        self.data = data
        st.session_state[key] = {"edits": self.edits}
        on_edits_change()

    def take(self, *, key: str, data: bytes) -> None:
        start = 4 + int.from_bytes(data[:4], "little")
        self.sent[json.loads(data[4:start])["token"]] = data[start:]

    def turn(self, *, key: str, data: dict[str, Any]) -> None:
        self.turned = data["token"]

    @property
    def pixels(self) -> bytes:
        """Of the picture that is shown."""
        return self.sent[self.data["token"]]

    @property
    def marks(self) -> dict[str, list[list[float]]]:
        return {mark["name"]: mark["points"] for mark in self.data["marks"]}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    made = Screen()
    monkeypatch.setattr(viewer, "_viewer", made.show)
    monkeypatch.setattr(viewer, "_pixels", made.take)
    monkeypatch.setattr(viewer, "_turn", made.turn)
    return made


@pytest.fixture
def dot_places(home: Path) -> list[np.ndarray]:
    """A file of four pictures under data/, and where their dots are."""
    frames, places = draw(4, np.random.default_rng(0))
    (home / "data" / "dots" / "run").mkdir(parents=True)
    np.save(home / "data" / FILE, frames)
    return places


@pytest.fixture
def page(dots: Task, dot_places: list[np.ndarray], screen: Screen, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page, looking at the first picture."""
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr("lib.jobs.worker.Worker", Here)
    page = AppTest.from_file(str(PAGES / "clean.py"), default_timeout=60)
    session = {"page_path": "dots-clean", "dots-clean-files-where": FOLDER, "dots-clean-files-folder": "dots/run",
               "dots-clean-view": "Look"}  # fmt: skip
    for key, value in session.items():
        page.session_state[key] = value
    go(page.run(), "dots-clean-read", "dots-clean-work")
    assert not page.exception and not page.error
    return page


def go(page: AppTest, button: str, work: str) -> AppTest:
    """Press a button that begins long work, and wait until the page has taken its value."""
    page.button(key=button).click().run()
    wait_for(lambda: work not in page.session_state or not page.run(), f"the end of {work}")
    return page


def mode(page: AppTest, name: str) -> AppTest:
    page.session_state["dots-look-mode"] = name
    return page.run()


def desk(page: AppTest) -> Desk:
    found: Desk = page.session_state["dots-look-desk"]
    return found


def number_field(page: AppTest) -> NumberInput:
    """Where the number of a picture is typed."""
    return next(field for field in page.number_input if field.label.startswith("Picture, of"))


def label_set(page: AppTest, name: str = "mine") -> Path:
    """A new label set, made on the page."""
    mode(page, "Label")
    page.text_input(key="dots-look-label-name").set_value(name)
    page.button(key="dots-look-label-new").click().run()
    assert not page.error
    return labels.folder_of("dots") / name


def test_the_view_is_there_for_tasks_of_pictures_alone(page: AppTest, dots: Task) -> None:
    assert has_plates(dots) and "Look" in VIEWS
    from lib import tasks

    assert not has_plates(tasks.get("spectra"))


def test_the_picture_shown_is_the_one_of_the_file(page: AppTest, screen: Screen, home: Path) -> None:
    frames = np.load(home / "data" / FILE)
    plate = Plate.from_bytes(screen.pixels)
    assert screen.data["label"] == f"{FILE} · 0"
    np.testing.assert_array_equal(plate.pixels, frames[0])
    assert f"{frames[0].sum():.0f}" in texts(page)  # the task's own panel


def test_next_previous_and_number_go_through_the_pictures(page: AppTest, screen: Screen) -> None:
    page.button(key="dots-look-step1").click().run()
    assert screen.data["row"] == 1
    screen.do(page, kind="next")
    screen.do(page, kind="next")
    screen.do(page, kind="next")
    assert screen.data["row"] == 3  # the last one
    screen.do(page, kind="previous")
    assert screen.data["row"] == 2
    number_field(page).set_value(1).run()
    assert screen.data["row"] == 0
    assert screen.turned == screen.data["token"]


def test_a_number_that_is_no_longer_shown_does_not_lead_back(page: AppTest, screen: Screen) -> None:
    before = number_field(page)
    screen.do(page, kind="next")
    assert number_field(page).key != before.key and number_field(page).value == 2
    number_field(page).set_value(4).run()
    assert number_field(page).value == 4 and screen.data["row"] == 3


def test_a_finder_marks_what_it_finds_with_its_parameters(page: AppTest, screen: Screen, dot_places: list[np.ndarray]) -> None:
    page.selectbox(key="dots-look-finder").set_value("maxima").run()
    assert len(screen.marks["maxima"]) == 10
    page.number_input(key="dots-look-finder-maxima-True.threshold").set_value(400.0).run()
    assert screen.marks["maxima"] == [[3.0, 4.0]]


def test_labels_are_on_disk_after_each_click_and_undone(page: AppTest, screen: Screen) -> None:
    folder = label_set(page)
    screen.do(page, kind="add", y=10.5, x=20.25)
    screen.do(page, kind="add", y=30.0, x=40.0)
    assert labels.load(folder).points(FILE, 0).to_numpy().tolist() == [[10.5, 20.25], [30.0, 40.0]]
    assert screen.marks["labels"] == [[10.5, 20.25], [30.0, 40.0]]
    screen.do(page, kind="remove", y=10.5, x=20.25)
    assert len(labels.load(folder).table) == 1
    page.button(key="dots-look-label-undo").click().run()
    assert len(labels.load(folder).table) == 2
    screen.do(page, kind="undo")
    assert labels.load(folder).points(FILE, 0).to_numpy().tolist() == [[10.5, 20.25]]
    page.button(key="dots-look-label-redo").click().run()
    assert len(labels.load(folder).table) == 2


def test_labels_note_what_was_typed_of_the_instrument_when_the_files_were_read(page: AppTest, screen: Screen) -> None:
    folder = label_set(page)
    screen.do(page, kind="add", y=10.5, x=20.25)
    assert labels.load(folder).acquisitions == {FILE: {}}
    page.text_input(key="dots-acquisition.mask_file").set_value("typed.h5").run()
    screen.do(page, kind="add", y=30.0, x=40.0)
    assert labels.load(folder).acquisitions == {FILE: {}}, "the frames that are shown were read without it"
    go(page, "dots-clean-again", "dots-clean-work")
    page.button(key="dots-look-label-done").click().run()
    assert labels.load(folder).acquisitions == {FILE: {"mask_file": "typed.h5"}}


def test_an_edit_that_is_sent_again_counts_once(page: AppTest, screen: Screen) -> None:
    folder = label_set(page)
    screen.do(page, kind="add", y=10.0, x=20.0)
    screen.do(page, kind="remove", y=10.0, x=20.0)
    page.run().run()
    assert labels.load(folder).table.empty and screen.data["seen"] == 2


def test_a_frame_is_done_even_when_empty_and_the_next_one_comes(page: AppTest, screen: Screen) -> None:
    folder = label_set(page)
    page.button(key="dots-look-label-done").click().run()
    assert labels.load(folder).done == {(FILE, 0)} and screen.data["row"] == 1
    screen.do(page, kind="previous")
    page.button(key="dots-look-label-done").click().run()
    assert labels.load(folder).done == frozenset() and screen.data["row"] == 0


def test_labels_start_from_a_finder_on_every_untouched_frame(page: AppTest, screen: Screen) -> None:
    folder = label_set(page)
    screen.do(page, kind="add", y=1.0, x=1.0)
    page.selectbox(key="dots-look-finder").set_value("maxima").run()
    go(page, "dots-look-label-take-all", "dots-look-fill")
    found = labels.load(folder)
    assert [len(found.points(FILE, frame)) for frame in range(4)] == [1, 10, 10, 10]
    page.button(key="dots-look-label-take").click().run()
    assert len(labels.load(folder).points(FILE, 0)) == 10
    page.button(key="dots-look-label-undo").click().run()
    page.button(key="dots-look-label-undo").click().run()
    assert len(labels.load(folder).table) == 1


def test_two_sets_are_compared(page: AppTest, screen: Screen) -> None:
    for name, places in (("one", [(10.0, 10.0), (50.0, 50.0)]), ("two", [(10.0, 10.0), (90.0, 90.0), (130.0, 30.0)])):
        label_set(page, name)
        for y, x in places:
            screen.do(page, kind="add", y=y, x=x)
        screen.do(page, kind="done")
        number_field(page).set_value(1).run()
    (table,) = [one.value for one in page.dataframe if "marks" in one.value]
    assert dict(zip(table["marks"], table["count"])) == {"common": 1, "only two": 2, "only one": 1}


def test_a_set_that_cannot_be_made_is_a_sentence(page: AppTest) -> None:
    mode(page, "Label")
    page.text_input(key="dots-look-label-name").set_value("../up")
    page.button(key="dots-look-label-new").click().run()
    assert "cannot be the name" in page.error[0].value and labels.names("dots") == []


def test_a_drawn_mask_is_undone_saved_and_filled_into_the_instrument(page: AppTest, screen: Screen) -> None:
    mode(page, "Mask")
    assert page.button(key="dots-look-mask-save").disabled
    screen.do(page, kind="stroke", stroke={"box": [0, 5, 0, 7], "points_yx": [], "radius_px": 0, "good": False})
    screen.do(page, kind="stroke", stroke={"box": None, "points_yx": [[50, 50]], "radius_px": 3, "good": False})
    page.button(key="dots-look-unstroke").click().run()
    page.text_input(key="dots-look-mask-name").set_value("drawn")
    page.button(key="dots-look-mask-save").click().run()
    with h5py.File(drawn.folder_of("dots") / "drawn.h5") as file:
        assert (np.argwhere(file["mask"][...] == 0).max(axis=0) == [4, 6]).all() and (file["mask"][...] == 0).sum() == 35
    assert page.text_input(key="dots-acquisition.mask_file").value == "drawn.h5"
    assert "changed since these files were read" in texts(page)


def test_suggested_pixels_are_drawn_into_the_mask(page: AppTest, screen: Screen) -> None:
    mode(page, "Mask")
    go(page, "dots-look-suggest-go", "dots-look-suggest")
    assert [stroke["points_yx"] for stroke in screen.data["strokes"]] == [((3, 4),)]


def test_finders_are_compared_and_a_picked_frame_is_looked_at(
    page: AppTest, screen: Screen, dot_places: list[np.ndarray]
) -> None:
    folder = labels.create("dots", "right")
    everyone = [
        labels.Change((FILE, frame), tuple((float(y), float(x)) for y, x in found[: 9 - frame]), done=True)
        for frame, found in enumerate(dot_places)
    ]
    labels.change(folder, everyone)
    mode(page, "Compare finders")
    page.button(key="dots-look-compare-add").click().run()
    go(page, "dots-look-compare-go", "dots-look-compare")
    (table,) = [one.value for one in page.dataframe if "precision" in one.value]
    assert table["recall"].tolist() == [1.0] and table["precision"].tolist() == [pytest.approx((9 + 8 + 7 + 6) / 40)]
    (frames,) = [one.value for one in page.dataframe if "maxima: too many" in one.value]
    assert frames["frame"].iloc[0] == f"{FILE} · 3" and frames["maxima: too many"].tolist() == [4, 3, 2, 1]
    assert len(screen.marks["wanted"]) == 9 and len(screen.marks["maxima"]) == 10


def test_every_finder_compared_has_its_marks_and_a_colour_of_its_own(page: AppTest, screen: Screen) -> None:
    label_set(page, "right")
    screen.do(page, kind="add", y=10.0, x=10.0)
    mode(page, "Compare finders")
    script = (Path(viewer.__file__).parent / "plate_paint.js").read_text(encoding="utf-8")
    n_colours = script.split("MARKS = [")[1].split("]")[0].count("#")
    for number in range(6):
        desk(page).asked.append({"name": "maxima", "parameters": {"threshold": 90.0 + number}})
    go(page.run(), "dots-look-compare-go", "dots-look-compare")
    colours = [mark["colour"] for mark in screen.data["marks"]]
    assert len(colours) == 6 == len(set(colours)) and max(colours) < n_colours
    assert [*screen.marks] == ["wanted", *(f"{number}. maxima" for number in range(1, 6))]
    assert "first 5 finders" in texts(page)
    page.button(key="dots-look-compare-clear").click().run()
    desk(page).asked += [{"name": "maxima", "parameters": {"threshold": 90.0 + number}} for number in range(3)]
    go(page.run(), "dots-look-compare-go", "dots-look-compare")
    assert len(screen.marks) == 4 and "first 5 finders" not in texts(page)


def test_only_what_is_shown_is_gone_through(page: AppTest, screen: Screen) -> None:
    page.session_state["dots-clean-show"] = "dropped"
    page.run()
    assert "No sample is dropped" in texts(page)
    assert not page.exception


def test_the_neighbours_of_a_picture_are_in_the_browser_before_they_are_asked_for(
    page: AppTest, screen: Screen, home: Path
) -> None:
    frames = np.load(home / "data" / FILE)
    page.button(key="dots-look-step1").click().run()
    held = [Plate.from_bytes(pixels).pixels for pixels in screen.sent.values()]
    for row in (0, 1, 2):
        assert any(np.array_equal(pixels, frames[row]) for pixels in held)
    sent = len(screen.sent)
    page.button(key="dots-look-step-1").click().run()
    np.testing.assert_array_equal(Plate.from_bytes(screen.pixels).pixels, frames[0])
    assert len(screen.sent) == sent, "nothing is read twice"


def test_a_neighbour_that_cannot_be_read_does_not_trouble_this_picture(
    page: AppTest, screen: Screen, dots: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = type(dots).plate

    def broken(self, samples, row, acquisition):
        if row == 2:
            raise InputError("a.npy", "frame 2 is truncated", "Copy it again")
        return plate(self, samples, row, acquisition)

    monkeypatch.setattr(type(dots), "plate", broken)
    page.button(key="dots-look-step1").click().run()
    assert not page.error and screen.data["row"] == 1
    page.button(key="dots-look-step1").click().run()
    assert len(page.error) == 1 and "truncated" in page.error[0].value
    page.button(key="dots-look-step1").click().run()
    assert not page.error and screen.data["row"] == 3


def test_the_whole_run_is_one_picture(page: AppTest, screen: Screen, home: Path) -> None:
    mode(page, "Whole run")
    go(page, "dots-look-project-go", "dots-look-project")
    assert not page.error and "Sum of 4 frames" in screen.data["label"]
    frames = np.load(home / "data" / FILE)
    np.testing.assert_array_equal(Plate.from_bytes(screen.pixels).pixels, frames.sum(axis=0))
    mode(page, "Find")
    np.testing.assert_array_equal(Plate.from_bytes(screen.pixels).pixels, frames[0])


def test_frames_far_from_each_other_are_shown_before_the_run_is_gathered(page: AppTest, screen: Screen) -> None:
    mode(page, "Whole run")
    number_field(page).set_value(4).run()
    assert screen.data["row"] == 3 and screen.data["label"] == f"{FILE} · 3"
    assert Plate.from_bytes(screen.pixels).pixels.size


def test_a_search_that_fails_is_told_and_begun_again_only_when_asked(
    page: AppTest, dots: Task, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, find = [], type(dots).find

    def broken(self, samples, row, *rest):
        asked.append(row)
        raise InputError("a.npy", "frame 0 is truncated", "Copy it again")

    monkeypatch.setattr(type(dots), "find", broken)
    page.selectbox(key="dots-look-finder").set_value("maxima").run()
    assert "truncated" in page.error[0].value and "maxima" not in screen.marks
    page.run()
    assert asked == [0]
    monkeypatch.setattr(type(dots), "find", find)
    page.button(key="dots-look-find-again").click().run()
    assert not page.error and len(screen.marks["maxima"]) == 10


def test_a_long_search_shows_the_picture_meanwhile_and_can_be_stopped(
    page: AppTest, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, request = threading.Event(), Here.request

    def slow(self: Here, op: str, payload: dict[str, Any], on_progress: Any = None, stop: Any = None) -> dict[str, Any]:
        if op == "find":
            while not (waiting.is_set() or stop.is_set()):
                time.sleep(0.01)
            if stop.is_set():
                raise InputError("the worker", "it was stopped as asked", "Start again when you like")
        return request(self, op, payload, on_progress, stop)

    monkeypatch.setattr(Here, "request", slow)
    with monkeypatch.context() as hasty:
        hasty.setattr("lib.ui.work.AT_ONCE_S", 0)
        page.selectbox(key="dots-look-finder").set_value("maxima").run()
        assert screen.data["row"] == 0 and "maxima" not in screen.marks
        page.button(key="dots-look-finding-cancel").click().run()
        wait_for(lambda: "Stopped as you asked" in texts(page.run()), "the end of the search")
    waiting.set()
    page.button(key="dots-look-find-again").click().run()
    assert len(screen.marks["maxima"]) == 10


def test_trained_models_are_finders_too(page: AppTest, dots: Task, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.Run(Path("checkpoints") / "dots" / "mine")
    monkeypatch.setattr(type(dots), "parts", lambda self, samples: samples)
    monkeypatch.setattr("lib.ui.finder.usable_models", lambda _task: [run])
    monkeypatch.setattr("lib.runs.find", lambda _text, _task: run)
    judged = pd.DataFrame({"of": [0], "y_px": [11.0], "x_px": [12.0]})
    monkeypatch.setattr(type(dots), "whole", lambda self, table, samples: (pd.DataFrame({"note": [""]}), table))
    model = SimpleNamespace(task=dots, predict=lambda _samples: judged)
    monkeypatch.setattr("lib.serve.load_model", lambda _run: model)
    page.run()
    page.session_state["dots-look-desk"].models = (-1e9, {})
    page.run()
    page.selectbox(key="dots-look-finder").set_value("model:mine").run()
    assert not page.error and screen.marks["mine"] == [[11.0, 12.0]]


def test_small_pictures_are_read_in_the_worker_and_kept(page: AppTest, dots: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, request = [], Here.request

    def watched(self: Here, op: str, *rest: Any, **more: Any) -> dict[str, Any]:
        asked.append(op)
        return request(self, op, *rest, **more)

    monkeypatch.setattr(Here, "request", watched)
    for _ in range(2):
        page.session_state["dots-clean-view"] = "Contact sheet"
        page.run()
    assert asked.count("thumbnails") == 1 and len(figures(page)) == 1
    page.session_state["dots-clean-view"] = "Table"
    page.run()
    (table,) = [one for one in page.dataframe if "no." in one.value]
    page.session_state[table.key] = {"selection": {"rows": [2], "columns": [], "cells": []}}
    assert "The sum is" in texts(page.run()) and asked.count("panels") == 1
