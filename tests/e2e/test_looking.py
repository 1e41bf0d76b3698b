"""Simulate, Clean, links, themes: what a user sees before training anything."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from lib import tasks
from tests.conftest import wait_for
from tests.e2e.server import Server
from tests.e2e.session import Session

PAGES = ["", "jobs", *(f"diffusion-{stage}" for stage in ("simulate", "clean", "train", "results", "predict"))]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("scheme", "size"), [("light", (1366, 768)), ("dark", (1920, 1080))], ids=["laptop", "desktop"])
def test_page_in_light_and_dark(
    browser: Browser, server: Server, tmp_path: Path, path: str, scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    """No fault, nothing sticks out to the right at the sizes people have, and dark is dark."""
    session = Session(browser, server.url, scheme=scheme, size=size)
    session.open(path).drawn()
    assert session.page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth") <= 0
    picture = np.asarray(Image.open(session.shoot(tmp_path / "page.png")).convert("L"))
    assert np.median(picture) < 60 if scheme == "dark" else np.median(picture) > 200
    assert session.console == []
    session.close()


@pytest.mark.parametrize("path", ["diffusion-simulate?photons=777", "jobs"])
def test_a_kept_address_is_the_first_thing_a_fresh_server_is_asked_for(browser: Browser, tmp_path: Path, path: str) -> None:
    """A bookmark, or a tab left open while the server was restarted."""
    with Server(tmp_path) as fresh:
        session = Session(browser, fresh.url)
        session.open(path).drawn()
        title, *_ = path.removeprefix("diffusion-").partition("?")
        assert session.page.get_by_role("heading", name=title.capitalize(), exact=True).is_visible()
        assert session.page.get_by_role("dialog").count() == 0
        assert session.page.url == f"{fresh.url}/{path}"
        session.close()


def pixels(tab: Session) -> list[int]:
    """What the first film shows now."""
    found: list[int] = tab.page.locator(".player canvas").first.evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    )
    return found


def test_a_film_is_scrubbed_and_played(tab: Session) -> None:
    tab.open("diffusion-simulate").drawn()
    scrub = tab.page.get_by_role("slider", name="Frame", exact=True)
    first = pixels(tab)
    assert len(first) == 64 * 64 * 4
    scrub.press("ArrowRight")
    expect(tab.page.locator(".player output")).to_have_text("2 / 16 · 0.01 s")
    second = pixels(tab)
    assert second != first
    scrub.press("Home")
    assert pixels(tab) == first
    tab.press("Play")
    expect(scrub).to_have_attribute("aria-valuetext", "3 / 16 · 0.02 s")
    tab.press("Pause")
    assert tab.page.locator(".player .one polyline").count() == 0
    tab.page.get_by_label("true path").check()
    assert tab.page.locator(".player .one polyline").count() == 3
    tab.page.get_by_label("All frames").check()
    assert tab.page.locator(".player .all").first.is_visible() and not tab.page.locator(".player canvas").first.is_visible()
    scrub.press("End")
    assert tab.page.locator(".player canvas").first.is_visible() and not tab.page.get_by_label("All frames").is_checked()


def test_a_slider_redraws_clip_and_figures_where_they_stand(tab: Session) -> None:
    tab.open("diffusion-simulate").drawn()
    tab.page.get_by_label("true path").check()
    tab.page.get_by_role("slider", name="Frame", exact=True).press("End")
    before = pixels(tab)
    tab.page.evaluate("() => { window.kept = [...document.querySelectorAll('.live-figure')] }")
    values = "window.kept.map(figure => JSON.stringify(figure._fullData.map(trace => [...trace.y].map(Number))))"
    figures_before = tab.page.evaluate(values)
    slider = tab.page.get_by_role("slider").first
    slider.focus()
    for _ in range(5):
        slider.press("ArrowRight")
    tab.page.wait_for_function(f"before => {values}.every((now, at) => now !== before[at])", arg=figures_before)
    tab.drawn()
    expect(tab.page.locator(".player output")).to_have_text("16 / 16 · 0.15 s")
    assert tab.page.get_by_label("true path").is_checked()
    assert pixels(tab) != before
    assert tab.page.evaluate("() => window.kept.length === 3 && window.kept.every(figure => figure.isConnected)")


def test_a_figure_fills_the_screen_and_goes_back(tab: Session) -> None:
    figure = tab.open("diffusion-simulate").drawn().page.locator(".live-figure").first
    small = figure.evaluate("place => [place._fullLayout.width, place._fullLayout.height]")
    figure.hover()
    figure.locator("[data-title='Full screen']").click()
    whole = "place => place._fullLayout.width === innerWidth && place._fullLayout.height === innerHeight"
    wait_for(lambda: figure.evaluate(whole), "the figure to fill the screen", 20)
    figure.hover()
    figure.locator("[data-title='Full screen']").click()
    same = "(place, size) => String([place._fullLayout.width, place._fullLayout.height]) === String(size)"
    wait_for(lambda: figure.evaluate(same, small), "the figure to have its old size", 20)


def test_simulated_files_come_with_their_truth(tab: Session, tmp_path: Path) -> None:
    task = tasks.get("diffusion")
    got = tab.open("diffusion-simulate").drawn().download("Download as files", tmp_path)
    with zipfile.ZipFile(got) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "files")
    assert "truth.csv" in names
    clips = [name for name in names if name.endswith(task.suffixes)]
    assert len(clips) == 10
    assert len(task.read(tmp_path / "files" / clips[0], task.Acquisition())) == 1


def test_settings_in_the_address_fill_the_form(tab: Session) -> None:
    tab.open("diffusion-simulate?photons=777&seed=5").drawn()
    assert tab.page.get_by_role("spinbutton", name="Seed").input_value() == "5"
    assert "777" in tab.text()


def test_an_unknown_run_in_the_address_is_a_sentence(tab: Session) -> None:
    tab.open("diffusion-predict?run=no-such-run").sees("no-such-run")


def test_clean_load_flag_drop_export(tab: Session, tmp_path: Path) -> None:
    task = tasks.get("diffusion")
    good = task.simulate(task.Simulation(), 4, np.random.default_rng(1))
    dim = task.simulate(task.Simulation(photons=15), 2, np.random.default_rng(2)).with_columns(file=["dim-0.tif", "dim-1.tif"])
    written = [*task.write(good, tmp_path / "good"), *task.write(dim, tmp_path / "dim")]
    paths = [path for path in written if path.suffix in task.suffixes]
    before = {path: path.read_bytes() for path in paths}
    tab.open("diffusion-clean").upload(*paths).settle().press("Read the files")
    tab.sees("4 of 6", timeout_s=120)
    tab.drawn().sees("Removed by rules")
    chart = tab.page.locator(".js-plotly-plot").locator("visible=true").first
    corner = chart.locator(".nsewdrag").first.bounding_box()
    assert corner is not None
    tab.page.mouse.click(corner["x"] + 40, corner["y"] + 40)
    tab.sees(paths[0].name)
    tab.press("Drop picked").sees("3 of 6")
    tab.settle().press("Undo").sees("4 of 6")
    kept = tab.settle().download("Kept set: 4 files", tmp_path)
    with zipfile.ZipFile(kept) as archive:
        assert sorted(archive.namelist()) == sorted(["recipe.json", *(p.name for p in paths[:4])])
        assert all(archive.read(p.name) == before[p] for p in paths[:4]), "raw files come back untouched"


def test_clean_names_what_it_cannot_read(tab: Session, tmp_path: Path) -> None:
    bad = tmp_path / "notes.tif"
    bad.write_text("not a clip")
    tab.open("diffusion-clean").upload(bad).settle().press("Read the files").sees("None of these files could be read")
    tab.settle().sees("notes.tif: ")
