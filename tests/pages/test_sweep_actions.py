"""What the Sweep page does to a sweep that has ended: delete it with or without its runs, and undo."""

from __future__ import annotations

from lib import runs, sweeps
from lib.sweeps import Sweep
from lib.task import Task
from tests.pages.opening import open_page, texts
from tests.pages.test_sweep import keys, made, started  # noqa: F401 - a fixture


def test_a_sweep_is_deleted_and_brought_back(started: list[Sweep], toy: Task) -> None:  # noqa: F811
    sweep = made(toy, done=8)
    page = open_page("toy-sweep", sweep=sweep.id)
    page.button(key="delete-sweep").click().run()
    page.button(key="refuse-delete-sweep").click().run()
    assert sweeps.list_sweeps("toy") == [sweep] and "confirm-delete-sweep" not in keys(page)
    page.button(key="delete-sweep").click().run()
    page.button(key="confirm-delete-sweep").click().run()
    assert not page.exception and not page.error
    assert sweeps.list_sweeps("toy") == [] and len(runs.list_runs("toy")) == 8 and "sweep" not in page.query_params
    assert "No sweep yet" in texts(page) and "Deleted **looked at**" in texts(page)
    page.button(key="undo-delete-sweep").click().run()
    assert sweeps.list_sweeps("toy") == [sweep] and page.query_params["sweep"] in (sweep.id, [sweep.id])
    assert "undo-delete-sweep" not in keys(page) and sweep.id in texts(page)


def test_its_runs_are_deleted_where_that_is_ticked(started: list[Sweep], toy: Task) -> None:  # noqa: F811
    sweep = made(toy, done=8)
    page = open_page("toy-sweep", sweep=sweep.id)
    page.button(key="delete-sweep").click().run()
    ticked = page.checkbox(key="delete-sweep-runs")
    assert ticked.label == "Delete its 8 runs too" and not ticked.value
    ticked.check().run()
    page.button(key="confirm-delete-sweep").click().run()
    assert sweeps.list_sweeps("toy") == [] and runs.list_runs("toy") == []
    page.button(key="undo-delete-sweep").click().run()
    assert sweeps.list_sweeps("toy") == [sweep] and len(runs.list_runs("toy")) == 8


def test_a_running_sweep_cannot_be_deleted(started: list[Sweep], toy: Task, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr("lib.sweeps.launch.state", lambda _sweep, _trials: "running")
    made(toy, done=1)
    page = open_page("toy-sweep")
    assert "delete-sweep" not in keys(page) and "stop-sweep" in keys(page)
