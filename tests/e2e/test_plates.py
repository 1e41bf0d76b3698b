"""Looking into large pictures in the browser: zoom, contrast, labels by clicking, a mask by drawing, a comparison of finders."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from lib import labels
from tests.conftest import wait_for
from tests.e2e.server import Server
from tests.e2e.session import Session

PLATES = Path(__file__).parents[1] / "toy" / "plates"
DOTS = importlib.import_module("tests.toy.plates.dots")


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, list[np.ndarray]]]:
    """A server that knows the task of dots, with a file of four pictures, and where their dots are."""
    home = tmp_path_factory.mktemp("dots")
    (home / "data" / "dots" / "run").mkdir(parents=True)
    frames, places = DOTS.draw(4, np.random.default_rng(0))
    np.save(home / "data" / "dots" / "run" / "a.npy", frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTBENCH_TASK_PATH", str(PLATES))
        patch.setenv("LIGHTBENCH_HOME", str(home))
        with Server(home) as running:
            yield running, places


@pytest.fixture(scope="module")
def tab(browser: Browser, dots: tuple[Server, list[np.ndarray]]) -> Iterator[Session]:
    """A tab that has read the pictures: opening one takes longer than all that is done in it."""
    session = Session(browser, dots[0].url, size=(1500, 2600))
    session.open("dots-clean")
    pick(session, "Folder under data/")
    session.press("Read the files").settle()
    pick(session, "Look")
    yield session
    session.close()


@pytest.fixture
def looking(tab: Session) -> Iterator[Session]:
    """The tab, looking at the whole first picture."""
    tab.fill("Picture, of 4", 1)
    canvas = tab.page.locator(".plate canvas")
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 0")
    tab.press("Whole picture")
    yield tab
    tab.assert_sane()
    assert tab.console == []


def pick(session: Session, name: str) -> None:
    """One of a segmented control."""
    session.page.get_by_role("radio", name=name, exact=True).locator("visible=true").first.click()
    session.settle()


def place(session: Session, y_px: float, x_px: float) -> tuple[float, float]:
    """Where on the screen an array position of the whole picture lies; a square picture touches top and bottom."""
    box = session.page.locator(".plate canvas").bounding_box()
    assert box is not None
    scale = min(box["width"], box["height"]) / DOTS.SIDE_PX
    left, top = box["x"] + (box["width"] - scale * DOTS.SIDE_PX) / 2, box["y"] + (box["height"] - scale * DOTS.SIDE_PX) / 2
    return left + (x_px + 0.5) * scale, top + (y_px + 0.5) * scale


def hover(session: Session, y_px: float, x_px: float) -> str:
    """What is told of a pixel of the whole picture."""
    session.page.mouse.move(*place(session, y_px, x_px))
    return session.page.locator(".plate .where").inner_text()


def test_a_pixel_tells_its_value_and_resolution_and_a_masked_one_that_it_is(looking: Session) -> None:
    assert hover(looking, 3, 4).startswith("y 3, x 4 · 500 counts")
    radius_mm = np.hypot(150 - 99.5, 20 - 99.5) * 0.1
    d = 1.5 / (2 * np.sin(np.arctan2(radius_mm, 80) / 2))
    assert f"{d:.2f} Å" in hover(looking, 150, 20)
    assert "masked" in hover(looking, 50, 121)
    assert "masked" not in hover(looking, 50, 110)


def test_zoom_to_single_pixels_is_kept_when_the_next_picture_comes(looking: Session) -> None:
    canvas, where = looking.page.locator(".plate canvas"), looking.page.locator(".plate .where")
    at_x, at_y = place(looking, 3, 4)

    def told(away_px: float) -> str:
        """What stands under a point so far right of the middle of the hot pixel."""
        looking.page.mouse.move(at_x + away_px, at_y)
        return where.inner_text()

    assert not told(20).startswith("y 3, x 4")
    looking.page.mouse.move(at_x, at_y)
    for _ in range(20):
        looking.page.mouse.wheel(0, -100)
    assert told(20).startswith("y 3, x 4 · 500 counts")
    before = canvas.screenshot()
    canvas.focus()
    looking.page.keyboard.press("n")
    looking.sees("a.npy · 1")
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 1")
    assert told(20).startswith("y 3, x 4 · 500 counts")
    assert canvas.screenshot() != before
    canvas.focus()
    looking.page.keyboard.press("0")
    assert not told(20).startswith("y 3, x 4")


def test_contrast_changes_the_picture_and_not_the_page(looking: Session) -> None:
    canvas = looking.page.locator(".plate canvas")
    before = canvas.screenshot()
    looking.page.get_by_label("Inverted").check()
    wait_for(lambda: canvas.screenshot() != before, "the inverted picture")
    inverted = canvas.screenshot()
    looking.page.get_by_label("Colours").select_option("viridis")
    wait_for(lambda: canvas.screenshot() not in (before, inverted), "other colours")


def test_marks_are_clicked_in_and_out_undone_and_kept(looking: Session, dots: tuple[Server, list[np.ndarray]]) -> None:
    server, places = dots
    folder = server.home / "data" / "dots" / "labels" / "mine"
    pick(looking, "Label")
    looking.press("New label set")
    looking.fill("Name", "mine")
    looking.press("Make it", exact=True).settle()
    looking.page.keyboard.press("Escape")
    (y, x), (other_y, other_x) = places[0][0], places[0][4]
    looking.page.mouse.click(*place(looking, y + 1, x))  # a little beside: it snaps to the brightest
    looking.page.mouse.click(*place(looking, other_y, other_x))
    looking.sees("2 marks in the set")
    points = labels.load(folder).points("dots/run/a.npy", 0).to_numpy()
    assert np.abs(points - [[y, x], [other_y, other_x]]).max() <= 0.5
    looking.page.mouse.click(*place(looking, y, x))
    looking.sees("1 marks in the set")
    looking.page.keyboard.press("u")
    looking.sees("2 marks in the set")
    looking.page.keyboard.press("d")
    looking.sees("1 of 4 frames done")
    looking.sees("a.npy · 1")
    kept = labels.load(folder)
    assert kept.done == {("dots/run/a.npy", 0)} and len(kept.table) == 2


def test_a_drawn_mask_is_saved_and_filled_in(looking: Session, dots: tuple[Server, list[np.ndarray]]) -> None:
    server = dots[0]
    pick(looking, "Mask")
    looking.press("Find hot and dead pixels").settle()
    looking.sees("1 bad pixels found")
    looking.page.mouse.move(*place(looking, 20, 30))
    looking.page.mouse.down()
    looking.page.mouse.move(*place(looking, 29, 49), steps=4)
    looking.page.mouse.up()
    looking.settle()
    looking.press("Brush")
    looking.page.mouse.click(*place(looking, 180, 180))
    looking.settle()
    looking.press("Undo").settle()
    looking.fill("Name of the mask", "drawn")
    looking.press("Save and use the mask").settle()
    looking.sees("Saved as")
    with h5py.File(server.home / "data" / "dots" / "masks" / "drawn.h5") as file:
        mask = file["mask"][...]
    wanted = np.ones((DOTS.SIDE_PX, DOTS.SIDE_PX), np.uint8)
    wanted[20:30, 30:50] = 0
    wanted[3, 4] = 0
    assert (mask == wanted).all()
    looking.sees("Read the same files again")


def test_finders_are_compared_and_the_worst_frame_looked_at(looking: Session, dots: tuple[Server, list[np.ndarray]]) -> None:
    places = dots[1]
    folder = labels.create("dots", "right")
    changes = [
        labels.Change(("dots/run/a.npy", frame), tuple((float(y), float(x)) for y, x in found), done=True)
        for frame, found in enumerate(places)
    ]
    labels.change(folder, changes)
    pick(looking, "Compare finders")
    looking.press("Add", exact=True).settle()
    looking.choose("Compare with", "right")
    looking.settle()
    looking.press("Compare on 4 frames").settle()
    looking.sees("Frames, the worst first")


def test_a_held_neighbour_is_shown_before_python_has_answered(looking: Session) -> None:
    canvas = looking.page.locator(".plate canvas")
    looking.page.wait_for_function("() => globalThis.lightbenchPlates.plates.size >= 2")
    looking.settle()
    canvas.focus()
    drawn_at_once = """(canvas) => {
      const press = (key) => canvas.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
      press('n');
      return canvas.getAttribute('aria-label');
    }"""
    assert canvas.evaluate(drawn_at_once) == "Picture: dots/run/a.npy · 1"
    looking.settle().sees("a.npy · 1")
    assert hover(looking, 3, 4).startswith("y 3, x 4")
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 1")
    canvas.focus()
    looking.page.keyboard.press("p")
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 0")


def test_the_next_picture_is_held_before_it_is_asked_for_and_the_whole_run_is_one(
    looking: Session, dots: tuple[Server, list[np.ndarray]]
) -> None:
    held = "() => [...globalThis.lightbenchPlates.slots.values()].every(one => globalThis.lightbenchPlates.plates.has(one.token))"
    canvas = looking.page.locator(".plate canvas")
    looking.press("Next").settle()
    looking.page.wait_for_function(f"() => globalThis.lightbenchPlates.plates.size >= 3 && ({held})()")
    pick(looking, "Whole run")
    looking.press("Gather 4 frames")
    looking.sees("Sum of 4 frames")
    expect(canvas).to_have_attribute("aria-label", "Picture: Sum of 4 frames")
    told_late = """([viewer]) => {
      const token = [...globalThis.lightbenchPlates.plates.keys()].find((one) => one !== viewer.data.token);
      viewer.turnTo({row: 0, label: 'of a run before', token, at: viewer.data.at - 0.001});
    }"""
    looking.page.evaluate(f"() => ({told_late})([...globalThis.lightbenchPlates.viewers])")
    expect(canvas).to_have_attribute("aria-label", "Picture: Sum of 4 frames")
    looking.page.get_by_text("Draw a mask on it").click()
    looking.settle()
    looking.page.mouse.move(*place(looking, 60, 70))
    looking.page.mouse.down()
    looking.page.mouse.move(*place(looking, 69, 99), steps=4)
    looking.page.mouse.up()
    looking.settle()
    looking.fill("Name of the mask", "on the whole run")
    looking.press("Save and use the mask").settle()
    looking.sees("Saved as")
    with h5py.File(dots[0].home / "data" / "dots" / "masks" / "on the whole run.h5") as file:
        assert not file["mask"][60:70, 70:100].any()
    expect(canvas).to_have_attribute("aria-label", "Picture: Sum of 4 frames")
    pick(looking, "Find")
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 1")


def test_keys_pressed_faster_than_pictures_come_all_count(looking: Session) -> None:
    canvas = looking.page.locator(".plate canvas")
    canvas.focus()
    for key in "nnpnn":
        looking.page.keyboard.press(key)
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 3")
    looking.settle()
    field = looking.page.get_by_role("spinbutton", name="Picture, of", exact=False)
    expect(field).to_have_value("4")
    field.fill("1")
    field.press("Enter")
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 0")
    canvas.focus()
    looking.page.keyboard.press("n")
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 1")
    looking.settle()
    expect(canvas).to_have_attribute("aria-label", "Picture: dots/run/a.npy · 1")
