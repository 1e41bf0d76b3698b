"""The Jobs page: rows, filters, cancel, resume, delete with undo, log."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from lib import runs
from lib.task import InputError, Task
from tests.pages.opening import links, make_run, open_page, texts


@pytest.fixture(autouse=True)
def _state_as_written(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run folders without a process: their state is what status.json says."""
    monkeypatch.setattr("lib.jobs.state", lambda run: run.status().state)


def names(page: AppTest) -> list[str]:
    return [label.split("  \n")[0] for label, _ in links(page)]


def test_without_runs_it_leads_to_training() -> None:
    page = open_page("jobs")
    assert "No runs yet" in texts(page)
    assert any(target.endswith("-train") for _, target in links(page))


def test_each_run_shows_state_progress_best_value_and_executor() -> None:
    make_run("quick", "done", best=0.125)
    make_run("stuck", "failed", epochs_done=1, best=0.5)
    page = open_page("jobs")
    words = texts(page)
    assert names(page) == ["stuck", "quick"]
    assert "0.125 V" in words and "RMSE (V)" in words and "local" in words
    assert "The disk is full." in words
    assert sorted(bar.proto.value for bar in page.get("progress")) == [20, 100]


def test_actions_fit_the_state() -> None:
    made = {state: make_run(state, state) for state in ("running", "done", "failed", "cancelled")}
    shipped = make_run("shipped-one", "done")
    keys = {button.key for button in open_page("jobs").button}

    def actions(run: runs.Run) -> set[str]:
        return {action for action in ("cancel", "resume", "delete", "log") if f"{action}-{run.id}" in keys}

    assert actions(made["running"]) == {"cancel", "log"}
    assert actions(made["done"]) == {"delete", "log"}
    assert actions(made["failed"]) == actions(made["cancelled"]) == {"resume", "delete", "log"}
    assert actions(shipped) == {"log"}


def test_filter_by_state() -> None:
    make_run("good", "done")
    make_run("bad", "failed")
    page = open_page("jobs")
    page.pills(key="jobs-states").set_value(["failed"]).run()
    assert names(page) == ["bad"]
    page.pills(key="jobs-states").set_value(["lost"]).run()
    assert "No run in this state" in texts(page)


def test_a_deleted_run_comes_back_by_undo() -> None:
    run = make_run("precious", "done")
    page = open_page("jobs")
    page.button(key=f"delete-{run.id}").click().run()
    assert runs.list_runs("toy") == [] and "Deleted **precious**" in texts(page)
    page.button(key="undo-delete").click().run()
    assert [found.id for found in runs.list_runs("toy")] == [run.id]
    assert names(page) == ["precious"] and run.log() == "log of precious"


def test_cancel_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[str] = []
    monkeypatch.setattr("lib.jobs.cancel", lambda run: cancelled.append(run.id))
    run = make_run("going", "running")
    page = open_page("jobs")
    page.button(key=f"cancel-{run.id}").click().run()
    assert "going" in texts(page) and cancelled == []
    page.button(key="refuse-cancel").click().run()
    assert cancelled == [] and "confirm-cancel" not in {button.key for button in page.button}
    page.button(key=f"cancel-{run.id}").click().run()
    page.button(key="confirm-cancel").click().run()
    assert cancelled == [run.id] and "confirm-cancel" not in {button.key for button in page.button}


def test_resume_goes_on_and_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    resumed: list[str] = []
    monkeypatch.setattr("lib.jobs.resume", lambda run: resumed.append(run.id))
    run = make_run("halted", "cancelled")
    page = open_page("jobs")
    page.button(key=f"resume-{run.id}").click().run()
    assert resumed == [run.id]

    def refuse(_: runs.Run) -> None:
        raise InputError("run halted", "its folder is read-only", "Make it writable.")

    monkeypatch.setattr("lib.jobs.resume", refuse)
    page.button(key=f"resume-{run.id}").click().run()
    assert "its folder is read-only. Make it writable." in page.error[0].value.replace("\\", "")


def test_the_log_opens_in_a_dialog() -> None:
    run = make_run("talkative", "done")
    page = open_page("jobs")
    assert not page.code
    page.button(key=f"log-{run.id}").click().run()
    assert "log of talkative" in page.code[0].value


def test_a_run_of_an_unknown_task_is_shown_without_a_link() -> None:
    run = runs.create("elsewhere", {"model": "x"}, "orphan")
    run.set_status(state="done")
    page = open_page("jobs")
    assert "orphan" in texts(page) and links(page) == []


def test_names_are_letters_not_markup() -> None:
    make_run("*bold* [x](http://example.org)", "done")
    label = links(open_page("jobs"))[0][0]
    assert "\\*bold\\*" in label and "\\[x\\]" in label
