"""The Train page: form, estimate, start, the live panel, deep links."""

from __future__ import annotations

import time

import pytest
from streamlit.testing.v1 import AppTest

from lib import jobs, runs
from lib.task import Panel, Task
from tests.pages.conftest import figures
from tests.pages.opening import links, make_run, open_page, texts, with_sheet

KEY = "toy-train"


@pytest.fixture
def started(toy: Task, monkeypatch: pytest.MonkeyPatch) -> list[runs.Run]:
    """Runs that the page started; nothing is trained."""
    begun: list[runs.Run] = []
    monkeypatch.setattr("lib.jobs.start", begun.append)
    monkeypatch.setattr("lib.jobs.state", lambda run: run.status().state)
    return begun


def press_start(page: AppTest) -> AppTest:
    return page.button(key="start-training").click().run()


def test_without_runs_it_says_what_to_do(started: list[runs.Run]) -> None:
    page = open_page("toy-train")
    assert "No run yet" in texts(page) and not page.error
    assert "No earlier run of this model" in texts(page)


def test_start_makes_a_run_of_the_form_and_shows_it(started: list[runs.Run]) -> None:
    page = open_page("toy-train")
    page.selectbox(key=f"{KEY}:preset").set_value("deep").run()
    page.number_input(key=f"{KEY}.epochs").set_value(4)
    page.text_input(key=f"{KEY}-name").set_value("my run").run()
    press_start(page)
    (run,) = started
    config = run.config()
    assert (config["model"], config["learning_rate"], config["epochs"], run.name) == ("deep", 0.003, 4, "my run")
    assert page.query_params["run"] == run.id and run.id in texts(page)


def test_all_folds_start_each_waiting_for_the_one_before(
    started: list[runs.Run], toy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not [button for button in open_page("toy-train").button if button.key == "start-folds"], "a task without folds"
    monkeypatch.setattr(type(toy), "folds", lambda _task, config: [config.model_copy(update={"seed": k}) for k in range(3)])
    page = open_page("toy-train")
    page.button(key="start-folds").click().run()
    assert [run.config()["seed"] for run in started] == [0, 1, 2]
    assert [run.about().get("after", "") for run in started] == ["", started[0].id, started[1].id]
    assert [run.name for run in started] == ["weighted 1/3", "weighted 2/3", "weighted 3/3"]


def test_a_preview_shows_what_will_be_learnt_until_the_settings_change(
    started: list[runs.Run], toy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Panel("balance", "Balance", "half and half").to_json()
    asked: list[dict[str, object]] = []

    def answer(_worker: object, op: str, payload: dict[str, object], **_: object) -> dict[str, object]:
        asked.append({"op": op, **payload})
        return {"panels": [told]}

    monkeypatch.setattr("lib.jobs.worker.Worker.request", answer)
    monkeypatch.setattr(type(toy), "preview", lambda _task, _config: [])
    page = open_page("toy-train")
    page.button(key="toy-train-preview-button").click().run()
    assert asked[0]["op"] == "preview" and asked[0]["training"]["epochs"] == 3
    assert "half and half" in texts(page)
    page.number_input(key=f"{KEY}.epochs").set_value(4).run()
    assert "half and half" not in texts(page)


def test_wrong_settings_cannot_be_started(started: list[runs.Run]) -> None:
    page = open_page("toy-train")
    page.number_input(key=f"{KEY}.learning_rate").set_value(0.0).run()
    assert "learning_rate = 0.0" in page.error[0].value.replace("\\", "")
    assert page.button(key="start-training").disabled
    page.number_input(key=f"{KEY}.learning_rate").set_value(0.01).run()
    assert not page.error and not page.button(key="start-training").disabled


def test_estimate_comes_from_an_earlier_run_of_the_same_model(started: list[runs.Run]) -> None:
    make_run("before", "done", model="weighted", batch_size=16)  # 4 steps of 16 samples took 2 s
    page = open_page("toy-train")
    page.number_input(key=f"{KEY}.epochs").set_value(30).run()
    assert "Roughly **1 min 0 s** for 30 epochs (31 ms per new sample, as in before)" in texts(page)
    page.selectbox(key=f"{KEY}:preset").set_value("deep").run()
    assert "No earlier run of this model" in texts(page)


def test_a_training_of_a_few_samples_does_not_tell_how_long_one_takes(started: list[runs.Run]) -> None:
    long = make_run("long", "done", model="weighted", batch_size=256)  # 5 epochs of 4 steps of 256 samples
    make_run("tiny", "done", model="weighted", batch_size=2)
    page = open_page("toy-train")
    page.number_input(key=f"{KEY}.epochs").set_value(30).run()
    assert f"per new sample, as in {long.name})" in texts(page)


def test_estimate_counts_epochs_that_use_their_samples_again_for_less(
    started: list[runs.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run("before", "done", model="weighted", batch_size=16)  # 5 epochs, 4 steps of 16 samples took 2 s each
    monkeypatch.setattr("lib.task.TrainConfig.effort", lambda self, epoch: 1.0 if epoch == 0 else 0.25)
    page = open_page("toy-train")
    page.number_input(key=f"{KEY}.epochs").set_value(9).run()
    assert "Roughly **15 s** for 9 epochs" in texts(page)  # 10 s for an effort of 2, hence 5 s × (1 + 8 / 4)


def test_weights_to_start_from_are_offered(started: list[runs.Run]) -> None:
    run = with_sheet(make_run("base", "done"))
    make_run("no weights yet", "failed", epochs_done=0)
    assert page_options(open_page("toy-train"), f"{KEY}.start_from") == ["none", run.id]


def page_options(page: AppTest, key: str) -> list[str]:
    return list(page.selectbox(key=key).options)


def test_the_address_names_the_run_shown(started: list[runs.Run]) -> None:
    first, second = make_run("first", "done"), make_run("second", "failed")
    assert second.id in texts(open_page("toy-train")), "without a name the newest"
    page = open_page("toy-train", run=first.id)
    assert "log of first" in texts(page) and "log of second" not in texts(page)


def test_another_run_can_be_chosen_from_the_list(started: list[runs.Run]) -> None:
    first, second = make_run("first", "done"), make_run("second", "failed")
    page = open_page("toy-train", run=second.id)
    (chooser,) = (box for box in page.selectbox if box.label == "Run")
    chooser.set_value(first.id).run()
    assert page.query_params["run"] == first.id and "log of first" in texts(page)
    page.run()
    assert "log of first" in texts(page), "it stays"


def test_an_address_of_a_run_that_is_gone_says_so(started: list[runs.Run]) -> None:
    make_run("other", "done")
    page = open_page("toy-train", run="20200101-000000-gone-0000")
    assert "There is no run" in page.warning[0].value and "log of other" in texts(page)


def test_live_panel_shows_progress_best_value_curves_and_log(started: list[runs.Run]) -> None:
    run = make_run("going", "running", epochs_done=3, best=0.125)
    page = open_page("toy-train", run=run.id)
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown == {"Epoch": "3 / 5", "Time left": "1 min 35 s", "Running for": "1 min 0 s", "Best RMSE": "0.125 V"}
    assert "log of going" in page.code[0].value
    loss, monitor = figures(page)
    assert '"training"' in loss and '"validation"' in loss and "RMSE (V)" in monitor
    assert f"cancel-{run.id}" in {button.key for button in page.button}


def test_finished_run_links_to_its_sheet_and_its_predictions(started: list[runs.Run]) -> None:
    run = with_sheet(make_run("ready", "done"))
    targets = {target for _, target in links(open_page("toy-train"))}
    assert {f"toy-results?run={run.id}", f"toy-predict?run={run.id}"} <= targets


def test_a_failed_run_gives_its_reason_and_can_be_resumed(started: list[runs.Run]) -> None:
    run = make_run("broken", "failed")
    page = open_page("toy-train")
    assert "The disk is full." in page.error[0].value.replace("\\", "")
    assert f"resume-{run.id}" in {button.key for button in page.button}


def test_a_lost_run_says_so(started: list[runs.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("vanished", "running")
    monkeypatch.setattr("lib.jobs.state", lambda run: "lost")
    page = open_page("toy-train", run=run.id)
    assert "Resume goes on from the last finished epoch" in page.warning[0].value
    assert f"resume-{run.id}" in {button.key for button in page.button}


def test_a_fault_becomes_one_sentence_and_a_logged_traceback(started: list[runs.Run], monkeypatch, caplog) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("lib.ui.train.metrics_of", fail)
    make_run("any", "done")
    page = open_page("toy-train")
    assert not page.exception and "secret detail" not in texts(page)
    assert "could not be shown (ZeroDivisionError)" in page.error[0].value
    assert "secret detail" in caplog.text and "Traceback" in caplog.text


@pytest.mark.slow
def test_a_training_started_here_ends_with_a_sheet(toy: Task) -> None:
    page = open_page("toy-train")
    page.number_input(key=f"{KEY}.epochs").set_value(2).run()
    press_start(page)
    run = runs.find(page.query_params["run"])
    until = time.monotonic() + 120
    while jobs.state(run) in ("queued", "running") and time.monotonic() < until:
        time.sleep(0.5)
    assert jobs.state(run) == "done", run.log()
    while run.sheet() is None and time.monotonic() < until:  # it is built right after the last epoch
        time.sleep(0.2)
    page = open_page("toy-results", run=run.id)
    assert "RMSE" in {metric.label for metric in page.metric}
