"""The main job: a file goes in, a diffusion coefficient with an error bar comes out."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser

from lib import tasks
from tests.diffusion.bad_files import write_bad_tiffs, write_bad_zips
from tests.e2e.server import ROOT, Server
from tests.e2e.session import Session

TASK = tasks.get("diffusion")
VALUE_WITH_INTERVAL = re.compile(r"\d[\d.]*\s*px²/frame\s+\S*\s*\d[\d.]*\s*(–|to|…|\.\.\.|-)\s*\d")


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Three clips as a microscope would write them."""
    samples = TASK.simulate(TASK.Simulation(), 3, np.random.default_rng(5))
    return [path for path in TASK.write(samples, tmp_path) if path.suffix in TASK.suffixes]


def unpacked_table(path: Path) -> pd.DataFrame:
    """predictions.csv out of the one download."""
    with zipfile.ZipFile(path) as archive:
        assert {"predictions.csv", "figures.html"} <= {Path(name).name for name in archive.namelist()}
        return pd.read_csv(io.BytesIO(archive.read("predictions.csv")))


def small_model(server: Server) -> str:
    """The run that this session trained first."""
    return min(path.name for path in (server.home / "checkpoints" / "diffusion").iterdir())


def test_sample_gives_a_value_with_an_error_bar(tab: Session) -> None:
    tab.open().page.locator(".st-key-sample-diffusion").get_by_role("button").click()
    tab.sees("Download everything", timeout_s=120)
    tab.drawn()
    assert "diffusion-predict" in tab.page.url
    assert "px²/frame" in tab.text()


def test_one_upload_gives_a_value_with_an_error_bar(tab: Session, clips: list[Path]) -> None:
    tab.open("diffusion-predict").upload(clips[0]).settle().press("Predict", exact=True)
    tab.sees("Download everything", timeout_s=120)
    assert VALUE_WITH_INTERVAL.search(tab.drawn().text()), tab.text()


def test_a_bad_file_is_named_and_stops_no_other(tab: Session, clips: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "not a clip 'ü'.tif"
    bad.write_bytes(b"II*\x00 but nothing after that")
    tab.open("diffusion-predict").upload(clips[0], bad, clips[1]).settle().press("Predict", exact=True)
    tab.sees("2 of 3 predicted", timeout_s=120)
    tab.sees(bad.name)
    table = unpacked_table(tab.download("Download everything", tmp_path))
    assert list(table.columns) == list(TASK.prediction_columns())
    assert list(table["d_px2_per_frame"].notna()) == [True, False, True]
    assert table["note"][1].startswith("error: ")


def predicted_by_command(server: Server, files: list[Path], output: Path) -> pd.DataFrame:
    """The table that the command line makes of the same files with the same model; some of them must fail."""
    command = [sys.executable, "-m", "lib", "predict", "diffusion", "--model", small_model(server), "--output", str(output)]
    environment = {**os.environ, "LIGHTBENCH_HOME": str(server.home)}
    line = [*command, "--input", *map(str, files)]
    done = subprocess.run(line, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return pd.read_csv(output / "predictions.csv")


def test_the_odd_files_of_the_world(tab: Session, server: Server, clips: list[Path], tmp_path: Path) -> None:
    """Every kind of bad file among two good ones, in the browser and from the command line: each is named with its reason."""
    clip = TASK.simulate(TASK.Simulation(), 1, np.random.default_rng(0)).inputs["clip_adu"][0]
    bad = {**write_bad_tiffs(tmp_path / "odd", clip), **write_bad_zips(tmp_path / "odd")}
    files = [clips[0], *bad, clips[1]]
    tab.open("diffusion-predict").upload(*files).settle().press("Predict", exact=True)
    tab.sees("Download everything", timeout_s=180)
    in_browser = unpacked_table(tab.settle().download("Download everything", tmp_path))
    for table in (in_browser, predicted_by_command(server, files, tmp_path / "out")):
        good = table["d_px2_per_frame"].notna()
        assert sorted(Path(name).name for name in table[good]["file"]) == [path.name for path in clips[:2]]
        told = [f"{row.file}: {row.note}" for row in table[~good].itertuples()]
        assert [path.name for path, words in bad.items() if not any(path.stem in t and words in t for t in told)] == []


def test_zip_with_a_climbing_path(tab: Session, clips: list[Path], tmp_path: Path) -> None:
    packed = tmp_path / "many clips.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in clips:
            archive.write(path, f"day 1/{path.name}")
        archive.write(clips[0], "../../climbs-out.tif")
        archive.writestr("readme.txt", "not a clip")
    tab.open("diffusion-predict").upload(packed).settle().press("Predict", exact=True)
    tab.sees("Download everything", timeout_s=120)
    tab.sees("climbs-out.tif")
    table = unpacked_table(tab.download("Download everything", tmp_path))
    assert table["d_px2_per_frame"].notna().sum() == len(clips)


def test_pixel_size_and_interval_give_physical_units(tab: Session, clips: list[Path]) -> None:
    tab.open("diffusion-predict").unfold("What do you know of the instrument?")
    tab.fill("Pixel size (nm)", 100).fill("Frame interval (s)", 0.01)
    tab.upload(clips[0]).settle().press("Predict", exact=True).sees("Download everything", timeout_s=120)
    assert "µm²/s" in tab.drawn().text()


def test_exposure_longer_than_the_interval_is_a_sentence(tab: Session) -> None:
    tab.open("diffusion-predict").unfold("What do you know of the instrument?")
    tab.fill("Frame interval (s)", 0.01).fill("Exposure (s)", 0.05)
    tab.sees("exposure_s = 0.05 is longer than frame_interval_s = 0.01")


def test_two_tabs_do_not_disturb_each_other(browser: Browser, server: Server, tab: Session, clips: list[Path]) -> None:
    """Two people at the same moment, each with a file of their own."""
    other = Session(browser, server.url)
    for session, path in ((tab, clips[0]), (other, clips[1])):
        session.open("diffusion-predict").upload(path).settle()
    for session in (tab, other):
        session.press("Predict", exact=True)
    for session, mine, foreign in ((tab, clips[0], clips[1]), (other, clips[1], clips[0])):
        session.sees("Download everything", timeout_s=120)
        assert mine.name in session.text() and foreign.name not in session.text()
    other.close()
