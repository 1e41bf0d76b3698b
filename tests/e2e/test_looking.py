"""Simulate, Clean, links, themes: what a user sees before training anything."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from lib import tasks
from tests.e2e.server import Server
from tests.e2e.session import Session

PAGES = ["", "jobs", *(f"diffusion-{stage}" for stage in ("simulate", "clean", "train", "results", "predict"))]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080)], ids=["laptop", "desktop"])
def test_page_at_real_size(browser: Browser, server: Server, path: str, size: tuple[int, int]) -> None:
    """No fault, and nothing sticks out to the right, at the sizes people have."""
    session = Session(browser, server.url, size=size)
    session.open(path).drawn()
    too_wide = session.page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
    assert too_wide <= 0
    assert session.console == []
    session.close()


@pytest.mark.parametrize("path", PAGES)
def test_dark_is_dark_and_light_is_light(browser: Browser, server: Server, tmp_path: Path, path: str) -> None:
    brightness = {}
    for scheme in ("dark", "light"):
        session = Session(browser, server.url, scheme=scheme, size=(1366, 768))
        session.open(path).drawn()
        picture = Image.open(session.shoot(tmp_path / f"{scheme}.png")).convert("L")
        brightness[scheme] = float(np.median(np.asarray(picture)))
        session.close()
    assert brightness["dark"] < 60 < 200 < brightness["light"]


def test_a_slider_redraws_the_clip(tab: Session) -> None:
    tab.open("diffusion-simulate").drawn()
    chart = tab.page.locator("[data-testid=stPlotlyChart]").first
    before = chart.screenshot()
    slider = tab.page.get_by_role("slider").first
    slider.focus()
    for _ in range(5):
        slider.press("ArrowRight")
    tab.page.wait_for_timeout(300)
    tab.drawn()
    assert chart.screenshot() != before


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
    paths = [p for s in (good, dim) for p in task.write(s, tmp_path) if p.suffix in task.suffixes]
    before = {path: path.read_bytes() for path in paths}
    tab.open("diffusion-clean").upload(*paths).settle().press("Read the files").sees(
        "Removed by all rules together", timeout_s=120
    )
    tab.drawn().sees("4 of 6")
    chart = tab.page.locator(".js-plotly-plot").first
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
