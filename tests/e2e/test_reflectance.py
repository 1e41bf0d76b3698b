"""Micrographs in the browser: a simulated scale with its channels, a table with pictures, wrong files, a set that is cleaned."""

from __future__ import annotations

import re
import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import expect

from lib import tasks
from lib.tasks.reflectance import demo, files
from lib.tasks.reflectance.config import CHANNELS
from tests.e2e.server import Server
from tests.e2e.session import Session
from tests.reflectance.bad_pictures import REFUSED, REFUSED_TABLES

EXAMPLE = tasks.get("reflectance").example()
PICTURES = [path for path in EXAMPLE if path.suffix == ".png"]
(TABLE,) = (path for path in EXAMPLE if path.suffix == ".csv")


def predictions(archive: Path) -> pd.DataFrame:
    """predictions.csv out of the one download."""
    with zipfile.ZipFile(archive) as packed:
        return pd.read_csv(BytesIO(packed.read("predictions.csv")))


def pick(tab: Session, name: str) -> Session:
    """Press one of a row of choices, and wait for the page."""
    tab.page.locator("[data-testid=stButtonGroup]").get_by_text(name, exact=True).locator("visible=true").first.click()
    return tab.settle()


def test_a_scale_is_seen_with_its_ten_channels(tab: Session) -> None:
    tab.open("reflectance-simulate").sees("Simulated micrograph", timeout_s=60)
    tab.sees("Reflectance spectrum", timeout_s=60)
    figures = tab.drawn().page.locator("[data-testid=stPlotlyChart], .live-figure")
    assert figures.count() >= 5
    drawn = [figures.nth(k).inner_text().split() for k in range(figures.count())]
    assert any({*CHANNELS} <= {*words} for words in drawn)


def test_a_table_and_its_zipped_pictures_give_ten_values_with_intervals(tab: Session, tmp_path: Path) -> None:
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in PICTURES[1:]:
            packed.write(path, path.name)
        packed.writestr(PICTURES[0].name, b"%PDF-1.7\n1 0 obj" + b"x" * 500)
    tab.open("reflectance-predict").upload(TABLE, archive).settle().press("Predict", exact=True)
    tab.sees("Download everything", timeout_s=180)
    text = tab.drawn().text()
    for title in ("Predicted colours", "Channels and the nearest training images", "Where the network looked", "Specimens"):
        assert title in text
    assert f"{PICTURES[0].name} (is not a picture but a PDF)" in text
    table = predictions(tab.download("Download everything", tmp_path))
    assert sorted(table["image"]) == sorted(path.name for path in PICTURES[1:])
    for channel in CHANNELS:
        assert (table[f"{channel}_lo"] <= table[channel]).all() and (table[channel] <= table[f"{channel}_hi"]).all()


def test_every_wrong_file_is_named_with_its_reason(tab: Session, tmp_path: Path) -> None:
    bad: dict[str, tuple[Path, str]] = {}
    for number, (case, (ending, write, words)) in enumerate(REFUSED.items()):
        path = tmp_path / f"wrong-{number}{ending}"
        write(path)
        bad[case] = path, words
    good = shutil.copy(PICTURES[0], tmp_path / "good.png")
    tab.open("reflectance-predict").upload(Path(good), *(path for path, _ in bad.values())).settle()
    tab.press("Predict", exact=True).sees("Download everything", timeout_s=180)
    tab.unfold("more files that could not be read")
    lines = tab.drawn().text().splitlines()
    lost = [case for case, (path, words) in bad.items() if not any(path.name in line and words in line for line in lines)]
    assert lost == [] and f"1 of {1 + len(bad)} predicted" in "\n".join(lines)


@pytest.mark.parametrize("case", sorted(REFUSED_TABLES))
def test_a_wrong_table_is_a_sentence(case: str, tab: Session, tmp_path: Path) -> None:
    content, words = REFUSED_TABLES[case]
    table = tmp_path / "targets.csv"
    table.write_bytes(content)
    tab.open("reflectance-predict").upload(table, *PICTURES[:2]).settle().press("Predict", exact=True)
    tab.sees(words, timeout_s=120)


def spoilt_set(folder: Path) -> int:
    """Part of the demo set with one flat and one blurred picture, as a ZIP with its table; returns how many pictures."""
    samples = demo.load(8)
    written = files.write(samples.with_columns(image=samples.table["file"]), folder / "set")  # as a lab's, not as the truth
    pictures = [path for path in written if path.suffix == ".png"]
    Image.fromarray(np.full((256, 256), 128, np.uint8)).save(pictures[0])
    small = Image.open(pictures[4]).resize((12, 12))
    small.resize((256, 256), Image.Resampling.BICUBIC).save(pictures[4])
    with zipfile.ZipFile(folder / "demo-part.zip", "w") as packed:
        for path in written:
            packed.write(path, path.name)
    shutil.rmtree(folder / "set")
    return len(pictures)


def test_a_set_is_opened_and_flagged_pictures_are_dropped(tab: Session, server: Server) -> None:
    folder = server.home / "data" / "reflectance" / "spoilt"
    folder.mkdir(parents=True)
    count = spoilt_set(folder)
    pick(tab.open("reflectance-clean"), "Folder under data/")
    tab.press("Read the files").sees("Removed by rules", timeout_s=120)
    found = re.search(rf"(\d+) of {count}\b", tab.drawn().text())
    assert found is not None and int(found.group(1)) <= count - 2
    kept = int(found.group(1))
    tab.fill("Name of the kept set", "sharp").press("Save the kept set").sees("Saved as the set", timeout_s=60)
    again = files.read(server.home / "data" / "reflectance" / "sharp", files.Acquisition())
    assert len(again) == kept and again.table["specimen"].nunique() <= 8
    expect(tab.settle().page.get_by_role("link", name="Train on it")).to_be_visible()
