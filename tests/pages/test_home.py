"""Home: the tasks, what is running, what came out last; and the menu of the whole app."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import lib.tasks
from lib.task import Task
from lib.ui import home as home_module
from tests.pages.opening import ROOT, links, make_run, open_page, texts


@pytest.fixture
def only_toy(toy: Task, monkeypatch: pytest.MonkeyPatch) -> Task:
    """The toy is the only task there is."""
    monkeypatch.setattr(lib.tasks, "names", cache(lambda: ("toy",)))
    return toy


def test_every_task_is_a_card_with_its_links(only_toy: Task) -> None:
    page = open_page("home")
    assert only_toy.summary in texts(page) and only_toy.input_label in texts(page)
    assert {f"toy-{stage}" for stage in ("simulate", "clean", "train", "results")} <= {target for _, target in links(page)}
    assert {"sample-toy", "measure-toy"} <= {button.key for button in page.button}


def test_planned_tasks_are_named_until_they_exist(only_toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "PLANNED", {"toy": ("Toy to come", "One."), "later": ("Later task", "Two.")})
    words = texts(open_page("home"))
    assert "Later task" in words and "Toy to come" not in words


def test_empty_states_say_what_to_do(only_toy: Task) -> None:
    words = texts(open_page("home"))
    assert "Nothing is training" in words and "No results yet. Train a model" in words


def test_results_stand_apart_from_what_stopped(only_toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"going": "running", "finished": "done", "forgotten": "failed"}
    done = {name: make_run(name, state) for name, state in runs.items()}["finished"]
    monkeypatch.setattr("lib.jobs.state", lambda run: "lost")
    page = open_page("home")
    targets = dict(links(page))
    assert targets["finished"] == f"toy-results?run={done.id}"
    assert "forgotten" not in targets, "a failed run is no result"
    assert targets["2 runs stopped before the end: see why, and resume"] == "jobs", "failed, and running without a process"


def test_a_live_run_is_shown_with_its_progress(only_toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.jobs.state", lambda run: run.status().state)
    run = make_run("going", "running", epochs_done=2)
    page = open_page("home")
    assert dict(links(page))["going"] == f"toy-train?run={run.id}"
    assert [bar.proto.value for bar in page.get("progress")] == [40]
    assert "epoch 2 of 5 · 1 min 35 s left" in page.get("progress")[0].proto.text


def test_the_sample_button_leads_to_the_prediction(only_toy: Task) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).run()
    page.button(key="sample-toy").click().run()
    assert not page.exception and not page.error
    assert page.title[0].value == "Predict"


def test_the_menu_leads_to_every_stage(only_toy: Task) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).run()
    for stage in ("train", "results"):
        page.switch_page(f"pages/{stage}.py").run()
        assert not page.exception and not page.error
        assert page.session_state["page_path"] == f"toy-{stage}"
        assert page.title[0].value == stage.capitalize()


def test_a_task_that_cannot_be_loaded_leaves_the_others_usable(toy: Task, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def get(name: str) -> Task:
        if name == "broken":
            raise RuntimeError("a plug-in with a fault")
        return toy

    monkeypatch.setattr(lib.tasks, "names", cache(lambda: ("broken", "toy")))
    monkeypatch.setattr(lib.tasks, "get", cache(get))
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).run()
    assert not page.exception and toy.summary in texts(page)
    assert "task broken could not be loaded" in caplog.text


def test_a_page_without_a_task_says_so(toy: Task) -> None:
    page = AppTest.from_file(str(ROOT / "pages" / "train.py"), default_timeout=30)
    page.session_state["page_path"] = "nothing-train"
    page.run()
    assert "there is no such task" in page.error[0].value
    page.session_state["page_path"] = ""
    page.run()
    assert "it belongs to no task" in page.error[0].value


def test_settings_keep_the_server_private_and_quiet() -> None:
    import tomllib

    found = tomllib.loads(Path(ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert found["server"]["address"] == "127.0.0.1" and found["server"]["enableXsrfProtection"] is True
    assert found["browser"]["gatherUsageStats"] is False and found["client"]["showErrorDetails"] == "none"
    assert {"light", "dark"} <= found["theme"].keys()
