"""The pages of `bragg` with the worker's own operations in this process: what a training may learn from, and long runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lib import drawn, labels, runs
from tests.bragg.bad_frames import BAD_FILES, MISFITS, SHAPE, frames, write_bad_files, write_cxi, write_partly_bad
from tests.pages.fake_worker import Here
from tests.pages.opening import open_page, texts

KEY = "bragg-train"
PATIENCE_S = 120  # whitening is compiled where it was not yet


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a worker in this process."""
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    monkeypatch.setattr("lib.jobs.worker.Worker", Here)
    st.cache_resource.clear()
    st.cache_data.clear()
    return tmp_path


@pytest.fixture
def train_page(home: Path) -> AppTest:
    """The Train page of a home with a run of twelve frames, all of them labelled, and a drawn mask."""
    folder = home / "data" / "bragg" / "beamtime" / "monday"
    folder.mkdir(parents=True)
    write_cxi(folder / "run.cxi", frames(12))
    (home / "data" / "bragg" / "other").mkdir()
    write_cxi(home / "data" / "bragg" / "other" / "else.cxi", frames())
    drawn.save("bragg", "mine", np.ones(SHAPE, bool))
    made = labels.create("bragg", "by hand")
    done = [labels.Change(("bragg/beamtime/monday/run.cxi", n), ((5.0 + n, 7.0),), (), True) for n in range(12)]
    labels.change(made, done)
    return open_page(KEY)


def test_label_sets_and_the_folders_of_their_frames_are_picked_from_lists(train_page: AppTest) -> None:
    assert list(train_page.selectbox(key=f"{KEY}.labels").options) == ["none", "by hand"]
    assert list(train_page.selectbox(key=f"{KEY}.data").options) == ["none", "beamtime", "beamtime/monday", "other"]
    assert list(train_page.selectbox(key=f"{KEY}.mask").options) == ["none", "mine.h5"]


def test_labels_without_a_folder_cannot_be_trained_on_and_with_it_show_what_they_teach(train_page: AppTest) -> None:
    page = train_page.selectbox(key=f"{KEY}.labels").set_value("by hand").run()
    assert "labels need data" in page.error[0].value and page.button(key="start-training").disabled
    page.selectbox(key=f"{KEY}.data").set_value("beamtime").run()
    assert not page.error and not page.button(key="start-training").disabled
    page.button(key=f"{KEY}-preview-button").click().run(timeout=PATIENCE_S)
    assert not page.exception and not page.error, [error.value for error in page.error]
    told = next(table.value for table in page.dataframe if "frames to train on" in table.value.to_string())
    assert dict(told.to_numpy())["frames to train on"] == "6"
    assert "Patches and their labels" in texts(page)


def test_a_label_set_whose_frames_are_elsewhere_says_so_in_the_preview(train_page: AppTest) -> None:
    page = train_page.selectbox(key=f"{KEY}.labels").set_value("by hand").run()
    page.selectbox(key=f"{KEY}.data").set_value("other").run()
    page.button(key=f"{KEY}-preview-button").click().run(timeout=PATIENCE_S)
    assert not page.exception and "only 0 of its frames that are done are in other" in page.error[0].value


def test_how_long_a_training_on_labels_takes_is_told_by_one_on_labels_alone(train_page: AppTest) -> None:
    simulated = runs.default_model("bragg").config()  # ships, of thousands of frames
    own = runs.create("bragg", simulated | {"labels": "by hand", "data": "beamtime", "batch_size": 4, "epochs": 2}, "on labels")
    pd.DataFrame({"epoch": [1, 2], "seconds": [2.0, 0.1]}).to_csv(own.folder / "metrics.csv", index=False)  # twice eight frames
    own.set_status(state="done", epoch=2, epochs=2, steps_per_epoch=2)
    assert "as in shipped" in texts(open_page(KEY))
    page = train_page.selectbox(key=f"{KEY}.labels").set_value("by hand").run()
    page.selectbox(key=f"{KEY}.data").set_value("beamtime").run()
    page.number_input(key=f"{KEY}.epochs").set_value(10).run()
    assert "Roughly **3 s** for 10 epochs (250 ms per new sample, as in on labels)" in texts(page)


def clean_page(*files: Path, settings: dict[str, object] | None = None) -> AppTest:
    """The Clean page with uploaded files read."""
    page = open_page("bragg-clean")
    page.session_state["bragg-acquisition:fill"] = dict(settings or {})
    page.file_uploader(key="bragg-clean-files-upload").set_value([(file.name, file.read_bytes(), "") for file in files]).run()
    page.button(key="bragg-clean-read").click().run()
    return finished(page)


def finished(page: AppTest) -> AppTest:
    """The page after its request has ended."""
    if "bragg-clean-work" in page.session_state:
        assert page.session_state["bragg-clean-work"].ended.wait(120)
    page.run(timeout=PATIENCE_S)
    assert not page.exception
    return page


def test_a_long_run_is_open_before_every_frame_is_measured(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.serve.LOOK_S", 1e-9)
    page = clean_page(write_cxi(tmp_path / "run.cxi", frames(30)))
    assert "16 of 30 samples were measured" in page.info[0].value
    assert "bragg-clean-save" not in {button.key for button in page.button}, "the kept set is not known yet"
    assert "30 of 30" in [metric.value for metric in page.metric]
    page.session_state["bragg-clean-inspection"].hands.append({3: False})
    page.button(key="bragg-clean-measure").click().run()
    finished(page)
    assert not page.info and "bragg-clean-save" in {button.key for button in page.button}
    assert page.session_state["bragg-clean-inspection"].hand == {3: False}, "what a hand chose stays"


@pytest.mark.parametrize("case", MISFITS)
def test_files_that_do_not_go_together_are_told_on_the_page(case: str, home: Path, tmp_path: Path) -> None:
    write, settings, words = MISFITS[case]
    page = clean_page(*write(tmp_path), settings=settings)
    told = [error.value.replace("\\", "") for error in page.error]
    assert any(re.search(words, text) and "good.h5" in text for text in told), told
    assert "bragg-clean-inspection" not in page.session_state


def test_every_broken_file_is_named_on_the_page_and_good_frames_are_read(home: Path, tmp_path: Path) -> None:
    bad = write_bad_files(tmp_path / "bad")
    page = clean_page(write_cxi(tmp_path / "good.cxi", frames()), *bad.values())
    assert "3 of 3" in [metric.value for metric in page.metric]
    lines = texts(page).replace("\\", "").splitlines()
    alone = {"symbolic link leading outside"}  # an upload has no links: what the file points to is not there
    lost = [
        case for case, path in bad.items()
        if not any(path.name in line and (case in alone or re.search(BAD_FILES[case][2], line)) for line in lines)
    ]  # fmt: skip
    assert lost == []


def test_bad_frames_are_told_in_the_table_and_removed_by_a_rule(home: Path, tmp_path: Path) -> None:
    cases = write_partly_bad(tmp_path / "in")
    page = clean_page(*(path for path, _, _ in cases.values()))
    readings = page.session_state["bragg-clean-inspection"].readings
    for path, bad, words in cases.values():
        told = readings[(readings["file"] == path.name) & (readings["problem"] != "")]
        assert told["frame"].tolist() == bad and told["problem"].str.contains(words).all()
    assert "3 of 6" in [metric.value for metric in page.metric]
