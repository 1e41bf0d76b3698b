"""A run from the first click to its use, and everything that can happen to it on the way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lib import runs
from lib.runs import Run
from tests.conftest import wait_for
from tests.e2e.server import Server, train
from tests.e2e.session import Session


@pytest.fixture(autouse=True)
def same_home(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test looks into the home folder that the server serves."""
    monkeypatch.setenv("LIGHTBENCH_HOME", str(server.home))


def start(server: Server, name: str, **settings: object) -> Run:
    """A run in the background."""
    train(server.home, name, "--background", **settings)
    return named(name)


def named(name: str) -> Run:
    """The one run of that name."""
    (found,) = (run for run in runs.list_runs("diffusion") if run.name == name)
    return found


def row(tab: Session, name: str, state: str, timeout_s: float = 60) -> None:
    """Wait until the Train page shows that run in that state."""
    run = named(name)
    tab.open(f"diffusion-train?run={run.id}").sees(state, timeout_s=timeout_s)


def start_in_browser(tab: Session, name: str, epochs: int) -> Run:
    """Fill the form, start, and wait until the page shows the run going."""
    tab.open("diffusion-train").unfold("Optimiser").unfold("Compute")
    tab.fill("Name", name).fill("Epochs", epochs)
    for label, value in (("Clips per epoch", 64), ("Validation clips", 64), ("Test clips", 64), ("Batch size (samples)", 16)):
        tab.fill(label, value)
    tab.fill("Width (channels)", 4).fill("Threads", 1)
    tab.press("Start training").sees("running", timeout_s=60)
    return named(name)


def test_train_sheet_and_use(tab: Session, tmp_path: Path) -> None:
    run = start_in_browser(tab, "from the browser", epochs=6)
    tab.sees("Result sheet", timeout_s=180)
    assert tab.drawn().page.locator(".live-figure").count() >= 2, "train and validation curves"
    assert run.status().state == "done" and len(run.metrics()) == 6

    tab.open(f"diffusion-results?run={run.id}").drawn().press("Download", exact=True)
    tab.press("Make Sheet (HTML)").sees("Save Sheet (HTML)", timeout_s=60)
    page = tab.download("Save Sheet (HTML)", tmp_path).read_text(encoding="utf-8")
    assert "from the browser" in page and not re.search(r"<(script|link|img)[^>]+https?:", page), "opens without a network"

    tab.open(f"diffusion-predict?run={run.id}&sample=1").sees("Download everything", timeout_s=120)
    tab.sees("model from the browser")


def test_reload_and_cancel(tab: Session, server: Server) -> None:
    """A run goes on while the page is reloaded; cancelling is asked first, and ends every process."""
    run = start_in_browser(tab, "to cancel", epochs=500)
    assert f"run={run.id}" in tab.page.url
    tab.page.reload()
    tab.settle().sees(run.id)
    wait_for(lambda: run.status().epoch >= 2, "second epoch")
    done = run.status().epoch
    tab.page.wait_for_function(f"() => Number(/epoch (\\d+) of 500/.exec(document.body.innerText)?.[1]) >= {done}")
    tab.press("Cancel", exact=True).sees("Cancel this run?")
    tab.press("Keep running").settle()
    assert run.status().state == "running"
    tab.press("Cancel", exact=True).sees("Cancel this run?")
    tab.press("Stop it").sees("cancelled")
    wait_for(lambda: not server.trainers(), "every process gone", 20)
    assert run.status().state == "cancelled"


def test_killed_trainer_is_lost_and_resumes(tab: Session, server: Server) -> None:
    run = start(server, "to kill", epochs=500)
    wait_for(lambda: len(run.metrics()) >= 2, "second epoch")
    row(tab, "to kill", "running")
    for process in server.trainers():
        process.kill()
    tab.sees("lost", timeout_s=30)
    epochs = len(run.metrics())
    tab.press("Resume", exact=True).sees("running", timeout_s=60)
    wait_for(lambda: len(run.metrics()) > epochs, "an epoch after resuming")
    assert list(run.metrics()["epoch"].diff().dropna().unique()) == [1], "no epoch twice, none left out"
    tab.press("Cancel", exact=True).press("Stop it").sees("cancelled")


def test_a_run_outlives_the_server(tab: Session, server: Server) -> None:
    run = start(server, "outlives", epochs=500)
    wait_for(lambda: len(run.metrics()) >= 1, "first epoch")
    server.stop()
    epochs = len(run.metrics())
    server.start()
    wait_for(lambda: len(run.metrics()) > epochs, "an epoch after the restart")
    row(tab, "outlives", "running")
    tab.press("Cancel", exact=True).press("Stop it").sees("cancelled")


def test_delete_and_undo(tab: Session, server: Server) -> None:
    run = start(server, "not needed", epochs=1)
    wait_for(lambda: run.status().state == "done", "the run's end")
    tab.open("jobs").sees("not needed")
    delete = tab.page.locator(f".st-key-delete-{run.id} button").first
    delete.click()
    tab.sees("Deleted not needed")
    assert not run.folder.exists()
    tab.press("Undo")
    wait_for(run.folder.exists, "the run's return", 30)
    assert run.status().state == "done"
    expect(delete).to_be_visible()


def test_a_wrong_setting_is_a_sentence(tab: Session) -> None:
    tab.open("diffusion-train").fill("D min (px²/frame)", 50)
    tab.sees("d_min_px2 = 50.0 is above d_max_px2")
    assert tab.page.get_by_role("button", name="Start training").is_disabled()
