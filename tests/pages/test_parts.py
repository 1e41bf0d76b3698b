"""Predictions in the background: offered for a folder of many files, listed on Jobs, taken away."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lib import bulk, jobs
from lib.runs import Run
from lib.task import Task
from lib.ui.files import FOLDER
from lib.ui.parts import taken_away
from tests.pages.conftest import Open
from tests.pages.opening import open_page as open_at
from tests.pages.opening import texts

BULK, GO = "toy-predict-bulk", "toy-predict-go"


@pytest.fixture
def many(home: Path) -> Path:
    """One file more than a page does while it waits."""
    folder = home / "data" / "toy" / "night"
    folder.mkdir(parents=True)
    for number in range(bulk.MANY_FILES + 1):
        np.save(folder / f"{number:04d}.npy", np.zeros(8, np.float32))
    return folder


def choose(open_page: Open, folder: str):
    page = open_page("predict")
    page.segmented_control(key="toy-predict-where").set_value(FOLDER).run()
    page.selectbox(key="toy-predict-folder").set_value(folder).run()
    return page


def buttons(page) -> set[str | None]:
    return {button.key for button in page.button}


def test_many_files_are_predicted_in_the_background(
    open_page: Open, models: list[str], many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Run] = []
    monkeypatch.setattr("lib.jobs.start", lambda run, keep: started.append(run))
    page = choose(open_page, "toy/night")
    page.button(key=BULK).click().run()
    assert not page.exception and not page.error
    (run,) = started
    asked = bulk.request_of(run.folder)
    assert len(asked.inputs) == bulk.MANY_FILES + 1 and asked.parts == 9 and asked.model == "toy/shipped-toy" and asked.browser
    assert run.about()["command"][:2] == ["predict", "toy"] and bulk.list_bulk() == [run]
    assert "201 files" in texts(page) and "The Jobs page shows how far it is" in texts(page)


def test_few_files_are_not(open_page: Open, models: list[str], readings: Path) -> None:
    page = choose(open_page, "toy/set one")
    assert BULK not in buttons(page) and GO in buttons(page)


def made(state: str) -> Run:
    request = bulk.Request(task="toy", model="toy/shipped-toy", inputs=(("a", "a"),), parts=8)
    run = bulk.create(bulk.new_folder("toy"), request, f"night {state}")
    for number in range(3):
        bulk.part_folder(run.folder, number).mkdir(parents=True)
    run.set_status(state=state, epoch=8 if state == "done" else 0)
    return run


def test_jobs_lists_them_with_what_can_be_done(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.jobs.state", lambda run: run.status().state)
    found = {state: made(state) for state in ("running", "cancelled", "done")}
    (found["done"].folder / "predictions.csv").write_text("file,note\n")
    page = open_at("jobs")
    assert not page.exception and not page.error
    words = texts(page)
    assert all(f"night {state}" in words for state in found)
    assert sorted(bar.proto.text for bar in page.get("progress")) == ["3 of 8 parts", "3 of 8 parts", "8 of 8 parts"]
    keys = buttons(page)
    assert {f"cancel-{found['running'].id}", f"resume-{found['cancelled'].id}", f"delete-{found['done'].id}"} <= keys
    assert not keys & {f"delete-{found['running'].id}", f"resume-{found['done'].id}"}
    page.button(key=f"delete-{found['done'].id}").click().run()
    assert len(bulk.list_bulk()) == 2
    page.button(key="undo-delete").click().run()
    assert len(bulk.list_bulk()) == 3 and (found["done"].folder / "predictions.csv").exists()


def test_what_is_taken_away_is_the_result_alone(toy: Task) -> None:
    run = made("done")
    (run.folder / "predictions.csv").write_text("file,note\n")
    (run.folder / "panels.json").write_text("[]")
    with zipfile.ZipFile(io.BytesIO(taken_away(run.folder))) as archive:
        assert archive.namelist() == ["predictions.csv"]
    assert jobs.state(run) == "done"
