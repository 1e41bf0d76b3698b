"""Tables of spectra in the browser: a set is cleaned and kept to train on, and files are predicted beside ones that are none."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Locator, expect

from lib import tasks
from tests.e2e.server import ROOT, Server
from tests.e2e.session import Session
from tests.spectra import bad_tables as tables

TASK = tasks.get("spectra")
TINY = ("simulated_samples=300", "channels=277,380,425", "threads=1", "accelerator=cpu")
CHECKBOX, FIRST_ROW, ROW_PX = 18, 52, 35  # px from the corner of a table to the tick of its first row; from row to row


@pytest.fixture(scope="session")
def model(server: Server) -> str:
    """The id of a tiny PLS-DA in the home folder that the server serves."""
    command = [sys.executable, "-m", "lib", "train", "spectra", "--preset", "PLS-DA", "--name", "tiny spectra", "--set", *TINY]
    environment = {**os.environ, "LIGHTBENCH_HOME": str(server.home)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    (folder,) = (server.home / "checkpoints" / "spectra").iterdir()
    return folder.name


def predictions(archive: Path) -> pd.DataFrame:
    """predictions.csv out of the one download."""
    with zipfile.ZipFile(archive) as packed:
        return pd.read_csv(io.BytesIO(packed.read("predictions.csv")), dtype={"sample": str})


def pick(tab: Session, name: str) -> Session:
    """Press one of a row of choices, and wait for the page."""
    tab.page.locator("[data-testid=stButtonGroup]").get_by_text(name, exact=True).locator("visible=true").first.click()
    return tab.settle()


def tick(tab: Session, grid: Locator, row: int, button: str, x: int = CHECKBOX) -> Session:
    """Pick a row of a table so that a button can be pressed, once it takes clicks: one that is just being drawn misses them."""
    wanted = tab.settle().page.get_by_role("button", name=button)
    for _ in range(10):
        expect(grid.locator("canvas").first).to_be_visible()
        grid.click(position={"x": x, "y": FIRST_ROW + ROW_PX * row})
        with suppress(AssertionError):  # not at once again: a second click takes a late first one back
            expect(wanted).to_be_enabled(timeout=5000)
            return tab.settle()
    expect(wanted).to_be_enabled()
    return tab


def test_a_sample_table_is_cleaned_kept_and_trained_on(tab: Session, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(server.home))  # what is read here is kept in the test's own cache
    samples = TASK.read(TASK.example()[0], TASK.Acquisition())
    keep = ~TASK.flag(TASK.inspect(samples, TASK.Acquisition()), TASK.Rules()).any(axis=1)
    names = samples.table["sample"][keep].tolist()
    pick(tab.open("spectra-clean"), "Sample").press("Read the files").sees(f"{keep.sum()} of {len(keep)}", timeout_s=120)
    tab.drawn().sees("How much light each channel holds")
    pick(tab, "Samples by shape").sees("Pick points to look at them")
    assert tab.drawn().page.locator("[data-testid=stPlotlyChart]").locator("visible=true").count() >= 1
    pick(pick(tab, "Table"), "kept").sees("Pick rows at their left edge")
    grid = tab.settle().page.locator("[data-testid=stDataFrame]").last
    tick(tab, grid, 0, "Drop picked").sees(f"Spectra of sample {names[0]}")
    tab.settle().press("Drop picked").sees(f"{keep.sum() - 1} of {len(keep)}")
    tab.settle().fill("Name of the kept set", "harvest").press("Save the kept set").sees("Saved as the set", timeout_s=60)
    kept = TASK.read(server.home / "data" / "spectra" / "harvest" / "spectra.parquet", TASK.Acquisition())
    assert kept.table["sample"].tolist() == names[1:]
    tab.settle().page.get_by_role("link", name="Train on it").click()
    tab.sees("Start training")
    assert "spectra-train" in tab.settle().page.url and "data=harvest" in tab.page.url
    expect(tab.page.get_by_label("Data", exact=True).locator("visible=true").first).to_have_value("harvest")


def test_extreme_samples_are_one_press_away_and_dropped_together(tab: Session) -> None:
    pick(tab.open("spectra-clean"), "Sample").press("Read the files").sees("How much light each channel holds", timeout_s=120)
    pick(tab.drawn(), "Largest and smallest samples").sees("Press a row to look at its sample")
    grid = tab.settle().page.locator("[data-testid=stDataFrame]").nth(1)  # the first one counts what the rules remove
    tick(tab, grid, 0, "Drop picked", x=5 * CHECKBOX).sees("Spectra of sample")
    for row in (1, 2):
        tick(tab, grid, row, f"Drop {row + 1} picked")
    tab.press("Drop 3 picked").settle()
    expect(tab.page.get_by_role("button", name="Undo")).to_be_enabled()


def test_columns_wrap_in_a_narrow_window(browser: Browser, server: Server) -> None:
    session = Session(browser, server.url, size=(900, 1400))
    session.open("spectra-train").settle()
    columns = "[...document.querySelectorAll('[data-testid=stMain] [data-testid=stColumn]')]"
    widths_px = session.page.evaluate(f"() => {columns}.map(column => column.getBoundingClientRect().width)")
    session.close()
    assert len(widths_px) > 20 and min(widths_px) > 120


def test_a_wrong_file_is_named_beside_a_right_one(tab: Session, model: str, tmp_path: Path) -> None:
    samples = TASK.simulate(TASK.Simulation(population=True), 3, np.random.default_rng(1))
    TASK.write(samples, tmp_path / "good")
    wrong = tmp_path / "results 'ü'.csv"
    wrong.write_bytes(b"%PDF-1.7\n1 0 obj")
    tab.open(f"spectra-predict?run={model}").upload(wrong, tmp_path / "good" / "spectra.parquet").settle()
    tab.press("Predict", exact=True).sees("3 of 4 predicted", timeout_s=120)
    tab.sees(f"{wrong.name}: is not a table of spectra but a PDF")
    table = predictions(tab.drawn().download("Download everything", tmp_path))
    assert table["note"][0].startswith("error: ") and table["decision"][1:].isin(["pass", "taste", "reject"]).all()
    assert table["sample"][1:].tolist() == samples.table["sample"].tolist()


def test_the_fluorimeters_files_are_predicted_as_one_table(tab: Session, model: str, tmp_path: Path) -> None:
    tables.write_original(tmp_path / "set")
    tab.open(f"spectra-predict?run={model}").upload(*sorted((tmp_path / "set").iterdir())).settle()
    tab.press("Predict", exact=True).sees("6 of 6 predicted", timeout_s=120)
    table = predictions(tab.drawn().download("Download everything", tmp_path))
    assert table["sample"].tolist() == tables.KEYS and table["file"].unique().tolist() == ["EX_277_2018.txt and 3 more"]


def test_the_sheet_opens_and_says_simulated(tab: Session, model: str) -> None:
    tab.open(f"spectra-results?run={model}").sees("What was tested: simulated data")
    text = tab.drawn().text()
    for title in ("Can the probabilities be believed?", "Cut-offs: promised and what happened", "Prediction sets"):
        assert title in text
