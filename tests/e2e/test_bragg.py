"""Detector frames in the browser: the sample's peaks with one download, a bad file beside a good one, a look into a frame."""

from __future__ import annotations

import re
import zipfile
from io import BytesIO
from pathlib import Path

import h5py
import pandas as pd
from playwright.sync_api import expect

from lib import tasks
from tests.bragg.bad_frames import BAD_FILES, write_bad_files
from tests.e2e.session import Session

EXAMPLE = tasks.get("bragg").example()[0]


def predictions(archive: Path, name: str) -> pd.DataFrame:
    """A table out of the one download."""
    with zipfile.ZipFile(archive) as packed:
        return pd.read_csv(BytesIO(packed.read(name)))


def test_the_sample_gives_peaks_that_other_programs_read(tab: Session, tmp_path: Path) -> None:
    tab.open("bragg-predict?sample=1").sees("Download everything", timeout_s=120)
    archive = tab.drawn().download("Download everything", tmp_path)
    frames, peaks = predictions(archive, "predictions.csv"), predictions(archive, "peaks.csv")
    assert len(frames) == 6 and 1 <= frames["is_hit"].sum() <= 5
    assert frames["n_peaks"].sum() == len(peaks) and peaks["score"].between(0, 1).all()
    with zipfile.ZipFile(archive) as packed, h5py.File(BytesIO(packed.read("peaks.cxi"))) as file:
        assert file["entry_1/result_1/nPeaks"][:].tolist() == frames["n_peaks"].tolist()


def test_a_file_without_frames_is_named_and_the_others_go_on(tab: Session, tmp_path: Path) -> None:
    bad = tmp_path / "no frames 'ü'.h5"
    with h5py.File(bad, "w") as file:
        file["entry/other"] = [1, 2, 3]
    tab.open("bragg-predict").upload(EXAMPLE, bad).settle().press("Predict", exact=True)
    tab.sees("no frames 'ü'.h5", timeout_s=120)
    tab.sees("Download everything", timeout_s=120)
    assert "6 of 7 predicted" in tab.drawn().text()


def test_every_broken_file_is_named_with_its_reason(tab: Session, tmp_path: Path) -> None:
    bad = write_bad_files(tmp_path)
    tab.open("bragg-predict").upload(EXAMPLE, *bad.values()).settle().press("Predict", exact=True)
    tab.sees("Download everything", timeout_s=180)
    tab.unfold("more files that could not be read")
    text = tab.drawn().text()
    lines = text.splitlines()
    alone = {"symbolic link leading outside"}  # an upload has no links: what the file points to is not there
    lost = [
        case for case, path in bad.items()
        if not any(path.name in line and (case in alone or re.search(BAD_FILES[case][2], line)) for line in lines)
    ]  # fmt: skip
    assert lost == [] and f"6 of {6 + len(bad)} predicted" in text


def test_a_frame_is_looked_into_and_a_finder_marks_it(tab: Session) -> None:
    tab.open("bragg-clean")
    choices = tab.page.locator("[data-testid=stButtonGroup]")
    choices.get_by_text("Sample", exact=True).first.click()
    tab.settle().press("Read the files").sees("Rules", timeout_s=120)
    tab.settle()
    choices.get_by_text("Look", exact=True).first.click()
    expect(tab.settle().page.locator("canvas").first).to_be_visible()
    tab.choose("Finder", "peakfinder8").settle()
    tab.sees("found", timeout_s=60)
