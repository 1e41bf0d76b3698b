"""The Sweep page: form, presets, start, the live panel, stop and resume, the best for longer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lib import runs, sweeps
from lib.sweeps import Plan, Range, Sweep, launch
from lib.sweeps.study import Book
from lib.task import Task
from tests.pages.conftest import figures
from tests.pages.opening import links, make_run, open_page, texts

KEY = "toy-sweep"


@pytest.fixture
def started(toy: Task, monkeypatch: pytest.MonkeyPatch) -> list[Sweep]:
    """Sweeps that the page started; nothing is trained."""
    begun: list[Sweep] = []
    monkeypatch.setattr("lib.sweeps.launch.start", begun.append)
    monkeypatch.setattr("lib.jobs.state", lambda run: run.status().state)
    return begun


def made(task: Task, done: int, trials: int = 8, **about: Any) -> Sweep:
    """A sweep whose first trials have ended: 0.5 V, 0.4 V, …, the last of them stopped early."""
    vary = {"learning_rate": Range(low=0.001, high=0.1, log=True), "dropout": Range(low=0.0, high=0.5)}
    plan = Plan.parse({"vary": vary, "trials": trials, "sampler": "random"} | about)
    sweep = sweeps.create(task, task.Training.parse({}), plan, "looked at")  # type: ignore[arg-type]
    book = Book(sweep, task)
    for number in range(done):
        taken = book.take({}, lambda _trial: True)
        assert taken is not None
        ended = {"metric": "rmse_v", "unit": "V", "epoch": 3, "best_epoch": 2, "best_value": 0.5 - 0.1 * number}
        taken.run.set_status(state="done", **ended)
        (taken.run.folder / "metrics.csv").write_text(f"epoch,rmse_v\n1,0.9\n2,{ended['best_value']}\n3,0.8\n")
        if number == done - 1 and done > 1:
            book.note(number, pruned=True)
            taken.run.set_status(state="cancelled")
        book.settle(taken.number, taken.run)
    return sweep


def keys(page: AppTest) -> set[str | None]:
    return {button.key for button in page.button}


def test_without_sweeps_it_says_what_to_do(started: list[Sweep]) -> None:
    page = open_page("toy-sweep")
    assert "No sweep yet" in texts(page) and not page.error and not page.exception
    assert page.button(key="start-sweep").label == "Start 20 trials"


def test_start_makes_a_sweep_of_the_form(started: list[Sweep]) -> None:
    page = open_page("toy-sweep")
    page.multiselect(key=f"{KEY}-vary").set_value(["learning_rate", "n_train", "schedule"]).run()
    page.number_input(key=f"{KEY}.learning_rate.low").set_value(0.002)
    page.number_input(key=f"{KEY}.n_train.high").set_value(256)
    page.multiselect(key=f"{KEY}.schedule.choices").set_value(["cosine", "step"])
    page.number_input(key=f"{KEY}-trials").set_value(7)
    page.number_input(key="toy-train.epochs").set_value(4)
    page.text_input(key=f"{KEY}-name").set_value("my sweep").run()
    page.button(key="start-sweep").click().run()
    (sweep,) = started
    plan = sweep.plan()
    assert sweep.name == "my sweep" and sweep.config()["epochs"] == 4 and page.query_params["sweep"] == sweep.id
    assert (plan.trials, plan.sampler, plan.pruner, plan.workers) == (7, "tpe", "median", 2)
    assert plan.vary["learning_rate"] == Range(low=0.002, high=0.5, log=True)
    assert plan.vary["n_train"] == Range(low=32, high=256) and plan.vary["schedule"].model_dump() == {
        "values": ("cosine", "step")
    }
    assert sweep.id in texts(page)


def test_a_seed_ensemble_is_one_press(started: list[Sweep]) -> None:
    page = open_page("toy-sweep")
    page.button_group(key=f"{KEY}-purpose").set_value("Seed ensemble").run()
    assert page.button(key="start-sweep").label == "Start 5 trials"
    page.button(key="start-sweep").click().run()
    (sweep,) = started
    assert sweep.plan().vary["seed"].model_dump() == {"values": (0, 1, 2, 3, 4)}
    assert (sweep.plan().sampler, sweep.plan().pruner) == ("grid", "none")


def test_all_folds_are_offered_where_there_are_folds(started: list[Sweep], toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "All folds" not in open_page("toy-sweep").button_group(key=f"{KEY}-purpose").options
    monkeypatch.setattr(type(toy), "folds", lambda _task, config: [config.model_copy(update={"n_test": k}) for k in (8, 9, 10)])
    page = open_page("toy-sweep")
    page.button_group(key=f"{KEY}-purpose").set_value("All folds").run()
    page.button(key="start-sweep").click().run()
    assert started[0].plan().vary["n_test"].model_dump() == {"values": (8, 9, 10)}


def test_wrong_ranges_cannot_be_started(started: list[Sweep]) -> None:
    page = open_page("toy-sweep")
    page.number_input(key=f"{KEY}.learning_rate.low").set_value(0.6).run()
    assert "its range goes from 0.6 to 0.5" in page.error[0].value.replace("\\", "")
    assert page.button(key="start-sweep").disabled
    page.multiselect(key=f"{KEY}-vary").set_value([]).run()
    assert "Choose at least one setting that varies." in texts(page) and page.button(key="start-sweep").disabled


def test_a_running_sweep_shows_its_trials_and_can_be_stopped(
    started: list[Sweep], toy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[Sweep] = []
    monkeypatch.setattr("lib.sweeps.launch.stop", stopped.append)
    monkeypatch.setattr("lib.sweeps.launch.state", lambda _sweep, _trials: "running")
    sweep = made(toy, done=3)
    page = open_page("toy-sweep", sweep=sweep.id)
    assert not page.exception and not page.error
    assert page.get("progress")[0].proto.text == "3 of 8 trials"
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown == {"Best RMSE": "0.4 V", "Trained to the end": "2", "Stopped early": "1", "Failed": "0"}
    page.button(key="stop-sweep").click().run()
    assert "Nothing that was trained is lost" in texts(page) and not stopped
    page.button(key="refuse-stop-sweep").click().run()
    assert not stopped and "confirm-stop-sweep" not in keys(page)
    page.button(key="stop-sweep").click().run()
    page.button(key="confirm-stop-sweep").click().run()
    assert [one.id for one in stopped] == [sweep.id]


def test_a_finished_sweep_shows_figures_the_best_first_and_its_run(started: list[Sweep], toy: Task) -> None:
    sweep = made(toy, done=8)
    page = open_page("toy-sweep")
    specs = figures(page)
    assert len(specs) == 4, "history, parallel coordinates, slice, importance"
    assert "best so far" in specs[0] and "RMSE (V)" in specs[0] and "learning_rate" in specs[1] and "dropout" in specs[3]
    assert all("Objective" not in spec and "Plot" not in re.sub(r"[Pp]lotly", "", spec) for spec in specs)
    (table,) = (frame.value for frame in page.dataframe)
    assert list(table["state"]) == ["done"] * 7 + ["pruned"] and list(table["trial"]) == [7, 6, 5, 4, 3, 2, 1, 8]
    best = launch.best_of(sweep, launch.trials_of(launch.load(sweep)))
    assert best is not None and (f"toy-results?run={best.run_id}") in {target for _, target in links(page)}
    assert "stop-sweep" not in keys(page) and "resume-sweep" not in keys(page)


def test_a_lost_sweep_says_so_and_can_be_resumed(started: list[Sweep], toy: Task) -> None:
    sweep = made(toy, done=2)
    runs.write_json(sweep.folder / "proc.json", {"pid": 2**22 + 5, "created": 0.0, "submitted_at": 0.0})
    page = open_page("toy-sweep")
    assert "Resume goes on" in page.warning[0].value
    page.button(key="resume-sweep").click().run()
    assert [one.id for one in started] == [sweep.id]


def test_the_best_can_be_trained_for_longer(started: list[Sweep], toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    new = make_run("longer")

    def longer(run: runs.Run, epochs: int) -> runs.Run:
        asked.append((run.id, epochs))
        return new

    monkeypatch.setattr("lib.sweeps.launch.longer", longer)
    monkeypatch.setattr("lib.ui.sweep.go_to", lambda *_words, **_more: None)
    sweep = made(toy, done=3)
    page = open_page("toy-sweep")
    page.number_input(key=f"longer-{sweep.id}").set_value(12).run()
    page.button(key="longer-start").click().run()
    best = launch.best_of(sweep, launch.trials_of(launch.load(sweep)))
    assert best is not None and asked == [(best.run_id, 12)]


def test_an_address_of_a_sweep_that_is_gone_says_so(started: list[Sweep], toy: Task) -> None:
    made(toy, done=1)
    page = open_page("toy-sweep", sweep="20200101-000000-gone-0000")
    assert "There is no sweep" in page.warning[0].value


def test_a_trial_leads_from_its_training_to_its_sweep(started: list[Sweep], toy: Task) -> None:
    sweep = made(toy, done=1)
    (run,) = runs.list_runs("toy")
    assert f"toy-sweep?sweep={sweep.id}" in {target for _, target in links(open_page("toy-train", run=run.id))}
