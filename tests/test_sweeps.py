"""Sweeps: trials are chosen, shared among processes, pruned, resumed; each is an ordinary run."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from lib import jobs, runs, sweeps
from lib.__main__ import main
from lib.runs import Run
from lib.sweeps import Plan, Range, Sweep, Values, launch, space, study
from lib.sweeps.study import Book, Trial
from lib.task import InputError, Task
from tests.conftest import wait_for

ROOT = Path(__file__).parents[1]
QUICK = {"n_train": 32, "n_test": 32, "epochs": 3}


def planned(task: Task, vary: dict[str, Range | Values], settings: dict[str, Any] | None = None, **plan: Any) -> Sweep:
    config: Any = task.Training.parse(QUICK | (settings or {}))
    return sweeps.create(task, config, Plan.parse({"vary": vary, "pruner": "none"} | plan), "trial sweep")


def trials_of(sweep: Sweep) -> list[Trial]:
    return study.trials_of(study.load(sweep))


def nobody(_trial: object) -> bool:
    """Every process that took a trial is gone."""
    return False


def everybody(_trial: object) -> bool:
    """None is gone."""
    return True


def pretend(book: Book, value: Any) -> Trial | None:
    """Take a trial and end its run with a value of its settings, without training."""
    taken = book.take({}, everybody)
    if taken is None:
        return None
    done = {"metric": "rmse_v", "unit": "V", "state": "done"}
    taken.run.set_status(best_value=value(taken.run.config()), best_epoch=1, epoch=1, **done)
    assert book.settle(taken.number, taken.run)
    return book.trial(taken.number)


def pretend_all(sweep: Sweep, task: Task, value: Any) -> list[Trial]:
    book = Book(sweep, task)
    while pretend(book, value) is not None:
        pass
    return trials_of(sweep)


def valley(config: dict[str, Any]) -> float:
    """Lowest, 1 V, at a learning rate of 0.003."""
    return 1 + math.log10(config["learning_rate"] / 0.003) ** 2


# --- choosing ---------------------------------------------------------------------------------------------------------
def test_tpe_finds_a_known_optimum_and_begins_where_the_settings_are(toy: Task) -> None:
    sweep = planned(toy, {"learning_rate": Range(low=1e-6, high=1, log=True)}, trials=40)
    trials = pretend_all(sweep, toy, valley)
    assert trials[0].params["learning_rate"] == 0.05 == toy.Training().learning_rate
    best = launch.best_of(sweep, trials)
    assert best is not None and best.value == min(trial.value for trial in trials)
    assert best.params["learning_rate"] == pytest.approx(0.003, rel=0.4)
    off = [abs(math.log10(trial.params["learning_rate"] / 0.003)) for trial in trials[20:]]
    assert sum(decades < 1 for decades in off) > 10, "of six decades, it looks most where the value is good"


def test_draws_stay_within_their_ranges_and_keep_their_kind(toy: Task) -> None:
    vary = {
        "n_train": Range(low=16, high=64), "batch_size": Range(low=4, high=512, log=True), "dropout": Range(low=0, high=0.5),
        "model": Values(values=("weighted", "deep")), "find_learning_rate": Values(values=("true", "false")),
    }  # fmt: skip
    sweep = planned(toy, vary, trials=30, sampler="random")
    pretend_all(sweep, toy, lambda _config: 1.0)
    configs = [run.config() for run in runs.list_runs("toy")]
    assert len(configs) == 30
    for config in configs:
        assert 16 <= config["n_train"] <= 64 and isinstance(config["n_train"], int)
        assert 4 <= config["batch_size"] <= 512 and 0 <= config["dropout"] <= 0.5
        assert config["epochs"] == 3, "what does not vary is as asked"
    assert {config["model"] for config in configs} == {"weighted", "deep"}
    assert {config["find_learning_rate"] for config in configs} == {True, False}
    assert sum(config["batch_size"] < 46 for config in configs) > 8, "as many small ones as large ones"


def test_a_draw_depends_on_seed_and_number_alone(toy: Task) -> None:
    vary: dict[str, Range | Values] = {"dropout": Range(low=0.0, high=0.5), "n_train": Range(low=16, high=64)}

    def drawn(seed: int) -> list[tuple[Any, ...]]:
        sweep = planned(toy, vary, trials=8, sampler="random", seed=seed)
        for _ in range(8):
            pretend(Book(sweep, toy), lambda _config: 1.0)  # each time by another process
        return [tuple(trial.params.values()) for trial in trials_of(sweep)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 8


def test_a_grid_goes_through_every_combination_once(toy: Task) -> None:
    vary: dict[str, Range | Values] = {"seed": Range(low=0, high=3), "model": Values(values=("weighted", "deep"))}
    sweep = planned(toy, vary, sampler="grid", trials=5)
    assert sweep.plan().trials == 8, "its own number"
    trials = pretend_all(sweep, toy, lambda config: config["seed"] + 1.0)
    assert {(trial.params["seed"], trial.params["model"]) for trial in trials} == {
        (s, m) for s in range(4) for m in ("weighted", "deep")
    }
    assert len(trials) == 8 and launch.state(sweep, trials) == "done"


def test_a_seed_ensemble_is_a_grid_over_seeds(toy: Task) -> None:
    sweep = planned(toy, space.typed({"seed": "0,1,2"}), sampler="grid")
    pretend_all(sweep, toy, lambda _config: 1.0)
    found = sorted(runs.list_runs("toy"), key=lambda run: run.config()["seed"])
    assert [run.config()["seed"] for run in found] == [0, 1, 2]
    assert all(run.about()["sweep"] == sweep.id for run in found)


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ({"learning_rate": "0.1:0.01"}, "learning_rate: its range goes from 0.1 to 0.01. Give the lower end first."),
        ({"learning_rate": "0.1:7"}, "learning_rate = 7"),
        ({"weight_decay": "0:0.1:log"}, "weight_decay: a logarithmic range cannot begin at 0"),
        ({"learning_rate": "0.1:1:linear"}, "ends in 'linear'"),
        ({"n_train": "1.5:9"}, "n_train = 1.5"),
        ({"schedule": "cosine,polynomial"}, "schedule = 'polynomial'"),
        ({"schedule": "1:2"}, "schedule: it is not a number, so it has no range. Give values: schedule=A,B,C."),
        ({"learning": "1:2"}, "learning: there is no such setting. Valid keys: model, start_from, epochs"),
        ({"devices": "1,2"}, "devices: each trial of a sweep is one process"),
        ({"model": ","}, "model: it has no values to vary over"),
        ({}, "nothing varies"),
    ],
)  # fmt: skip
def test_wrong_spaces_are_refused_before_anything_is_made(toy: Task, home: Path, vary: dict[str, str], told: str) -> None:
    with pytest.raises(InputError) as error:
        planned(toy, space.typed(vary))
    assert told in str(error.value)
    assert not (home / "sweeps").exists() and not (home / "checkpoints").exists()


def test_a_grid_refuses_ranges_it_cannot_count(toy: Task) -> None:
    for text in ("0.1:0.5", "0:5000"):
        with pytest.raises(InputError, match=r"a grid needs values, not a range\. Give values"):
            planned(toy, space.typed({"dropout" if "." in text else "seed": text}), sampler="grid")
    with pytest.raises(InputError, match="the grid has 250000 points, at most 10000"):
        planned(toy, space.typed({"seed": "1:500", "n_train": "1:500"}), sampler="grid")


def test_lists_and_empty_fields_can_vary(toy: Task) -> None:
    assert space.typed({"a": "1,2;3", "b": "x:y,z", "c": "5:7"}) == {
        "a": Values(values=("1,2", "3")), "b": Values(values=("x:y", "z")), "c": Range(low=5, high=7),
    }  # fmt: skip
    stored = Plan.parse({"vary": {"a": Values(values=(None, True, 2, 0.5, "x")), "b": Range(low=1, high=2)}})
    assert Plan.model_validate_json(stored.model_dump_json()) == stored


# --- sharing ----------------------------------------------------------------------------------------------------------
def test_a_trial_is_taken_once_and_there_are_never_more_than_planned(toy: Task) -> None:
    sweep = planned(toy, {"dropout": Range(low=0, high=0.5)}, trials=5)
    books = [Book(sweep, toy), Book(sweep, toy)]
    taken = [books[turn % 2].take({}, everybody) for turn in range(7)]
    numbers = [one.number for one in taken if one is not None]
    assert numbers == [0, 1, 2, 3, 4] and taken[5:] == [None, None]
    assert len({run.id for run in runs.list_runs("toy")}) == 5
    assert {run.about()["trial"] for run in runs.list_runs("toy")} == set(numbers)


def test_a_trial_whose_process_is_gone_is_taken_again_with_the_same_run(toy: Task) -> None:
    sweep = planned(toy, {"dropout": Range(low=0, high=0.5)}, trials=3)
    first = Book(sweep, toy).take({}, everybody)
    assert first is not None
    again = Book(sweep, toy).take({}, nobody)
    assert again is not None and (again.number, again.run) == (first.number, first.run)
    assert len(runs.list_runs("toy")) == 1


def test_runs_side_by_side_share_the_cores(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.runs.cores", lambda: 8)
    for workers, threads, given in ((2, 4, 0), (16, 1, 0), (1, 0, 0), (4, 3, 3)):
        sweep = planned(toy, {"dropout": Range(low=0, high=0.5)}, {"threads": given}, workers=workers)
        taken = Book(sweep, toy).take({}, everybody)
        assert taken is not None and taken.run.config()["threads"] == threads


def test_a_line_that_was_never_finished_costs_nothing_else(toy: Task) -> None:
    sweep = planned(toy, {"dropout": Range(low=0, high=0.5)}, trials=3)
    pretend(Book(sweep, toy), lambda _config: 1.0)
    with (sweep.folder / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":4,"worker')
    assert len(pretend_all(sweep, toy, lambda _config: 2.0)) == 3


def test_settings_that_do_not_go_together_fail_their_trial_alone(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = toy.Training.parse

    def parse(values: Any, subject: str = "settings") -> Any:
        if values.get("n_train") == 2:
            raise InputError(subject, "n_train = 2 is below batch_size", "Lower batch_size.")
        return plain(values, subject)

    sweep = planned(toy, space.typed({"n_train": "1,2,3"}), sampler="grid")
    monkeypatch.setattr(toy.Training, "parse", parse)
    trials = pretend_all(sweep, toy, lambda _config: 1.0)
    assert [trial.state for trial in trials] == ["done", "failed", "done"]
    assert "n_train = 2 is below batch_size. Lower batch_size." in trials[1].reason and not trials[1].run_id


# --- pruning ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pruner", ["none", "median", "hyperband"])
def test_a_hopeless_trial_is_found_by_its_curve(toy: Task, pruner: str) -> None:
    sweep = planned(toy, {"dropout": Range(low=0, high=0.5)}, {"epochs": 9}, trials=12, pruner=pruner)
    book, stopped = Book(sweep, toy), []
    for turn in range(11):
        taken = book.take({}, everybody)
        assert taken is not None
        bad = turn == 10
        for epoch in range(1, 10):
            curve = "".join(f"{e},{(10.0 if bad else 1.0 + 0.01 * turn) / e}\n" for e in range(1, epoch + 1))
            (taken.run.folder / "metrics.csv").write_text(f"epoch,rmse_v\n{curve}")
            if book.report(taken.number, taken.run) and bad:
                stopped.append(epoch)
        taken.run.set_status(state="done", best_value=0.1, best_epoch=9, metric="rmse_v")
        book.settle(taken.number, taken.run)
    assert bool(stopped) == (pruner != "none") and stopped == sorted(stopped)
    assert not stopped or 1 <= stopped[0] < 9
    assert all(trial.epochs == 9 for trial in trials_of(sweep))


# --- real processes ---------------------------------------------------------------------------------------------------
def command(sweep: Sweep, *words: str) -> list[str]:
    return [sys.executable, "-m", "lib", "sweep", sweep.task, *words, sweep.id]


def children_of(sweep: Sweep) -> list[psutil.Process]:
    """Processes that train a trial now."""
    found = [run.proc() or {} for run in launch.open_runs(sweep)]
    return [process for proc in found if (process := launch.find_process(proc)) is not None]


@pytest.mark.slow
def test_two_workers_share_a_grid_and_every_trial_is_an_ordinary_run(toy: Task) -> None:
    """The plain mean is known to be the best there is: 0.5 V / √8 of noise."""
    vary = space.typed({"model": "weighted,plain mean", "data_file": ";missing.npy"})
    vary["data_file"] = Values(values=("", "missing.npy"))
    sweep = planned(toy, vary, {"n_test": 512}, sampler="grid")
    workers = [subprocess.Popen(command(sweep, "--work"), cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [worker.communicate(timeout=180)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    trials = trials_of(sweep)
    assert Counter(trial.state for trial in trials) == {"done": 2, "failed": 2} and launch.state(sweep, trials) == "done"
    assert len(runs.list_runs("toy")) == 4 and sum(text.count("trial ") for text in said) == 4, "none done twice"
    best = launch.best_of(sweep, trials)
    assert best is not None and best.params["model"] == "plain mean"
    assert best.value == pytest.approx(0.5 / math.sqrt(8), rel=0.1)
    for trial in trials:
        run = launch.run_of(sweep, trial)
        assert run.about()["sweep"] == sweep.id and run.status().state == trial.state
        if trial.state == "done":
            assert trial.value == run.metrics()["rmse_v"].min() == run.status().best_value
            assert run.sheet() is not None and run.test_predictions() is not None and run.log()
        else:
            assert "there is no such file" in trial.reason


@pytest.mark.slow
def test_kills_lose_no_finished_epoch_and_the_sweep_ends_with_exactly_its_trials(toy: Task) -> None:
    slow = {"epochs": 8, "step_delay_s": 0.15}
    sweep = planned(toy, {"learning_rate": Range(low=0.01, high=0.1)}, slow, trials=3, workers=2)
    launch.start(sweep)
    wait_for(lambda: len(children_of(sweep)) == 2 and all(len(r.metrics()) >= 2 for r in launch.open_runs(sweep)), "two trials")
    with pytest.raises(InputError, match="its state is running"):
        launch.start(sweep)
    (victim, *_) = launch.open_runs(sweep)
    before = victim.metrics()
    os.kill(int((victim.proc() or {})["pid"]), signal.SIGKILL)  # one trainer: the worker starts it again
    wait_for(lambda: len(victim.metrics()) > len(before) + 1, "the killed trial goes on")
    kept = victim.metrics()
    assert kept.iloc[: len(before)].equals(before), "the epochs before the kill stand as they were"
    psutil.Process(int(sweep.proc()["pid"])).kill()  # the worker: its trainers go on by themselves
    orphan = children_of(sweep)[0]
    orphan.kill()
    wait_for(lambda: launch.state(sweep, trials_of(sweep)) == "lost", "the worker is missed")
    launch.start(sweep)
    wait_for(lambda: launch.state(sweep, trials_of(sweep)) == "done", "the rest of the trials")
    trials = trials_of(sweep)
    assert [trial.state for trial in trials] == ["done"] * 3, [trial.reason for trial in trials]
    assert len(runs.list_runs("toy")) == 3
    for run in runs.list_runs("toy"):
        assert list(run.metrics()["epoch"]) == list(range(1, 9)) and run.status().state == "done"


@pytest.mark.slow
def test_pruned_trials_are_marked_and_a_stopped_sweep_goes_on(toy: Task, capsys: pytest.CaptureFixture[str]) -> None:
    rates = "0.05,0.051,0.052,0.053,0.054,0.000001"
    settings = {"epochs": 6, "step_delay_s": 0.05, "n_test": 64}
    sweep = planned(toy, space.typed({"learning_rate": rates}), settings, sampler="grid", pruner="median")
    launch.start(sweep)
    wait_for(lambda: any(trial.state == "done" for trial in trials_of(sweep)) and children_of(sweep), "the second trial")
    assert main(["sweep", "toy", "--stop", sweep.id]) == 0
    assert "cancelled" in capsys.readouterr().out and not children_of(sweep)
    halted = trials_of(sweep)
    assert launch.state(sweep, halted) == "cancelled" and launch.finished(halted) < 6
    assert subprocess.run(command(sweep, "--resume"), cwd=ROOT, check=False, capture_output=True, timeout=180).returncode == 0
    trials = trials_of(sweep)
    assert [trial.state for trial in trials] == ["done"] * 5 + ["pruned"]
    assert trials[-1].epochs < 6 and [trial.number for trial in trials] == list(range(6))
    run = launch.run_of(sweep, trials[-1])
    assert run.status().state == "cancelled" and "Stopped early by its sweep" in run.status().reason
    assert len(run.metrics()) == trials[-1].epochs and run.has_model()
    assert main(["sweep", "toy", "--show", sweep.id]) == 0
    shown = capsys.readouterr().out
    assert "6 of 6 trials" in shown and "pruned" in shown and trials[-1].run_id in shown


@pytest.mark.slow
def test_the_best_goes_on_for_longer_where_it_ended(toy: Task) -> None:
    from lib import train

    run = runs.create("toy", toy.Training.parse(QUICK | {"schedule": "constant"}).model_dump(mode="json"), "best")
    assert train.fit(run).state == "done"
    with pytest.raises(InputError, match=r"3 epochs are not more than it has \(3\)"):
        launch.longer(run, 3)
    new = launch.longer(run, 5)
    wait_for(lambda: jobs.state(new) not in jobs.ACTIVE, "two more epochs")
    assert new.status().state == "done", new.log()
    assert new.metrics().iloc[:3].equals(run.metrics()) and list(new.metrics()["epoch"]) == [1, 2, 3, 4, 5]
    assert new.about()["continues"] == run.id and new.config()["epochs"] == 5 and len(run.metrics()) == 3
    whole = Run(runs.create("toy", run.config() | {"epochs": 5}, "at once").folder)
    assert train.fit(whole).state == "done"
    assert new.metrics()["rmse_v"].tolist() == pytest.approx(whole.metrics()["rmse_v"].tolist(), rel=1e-3)


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--vary: what varies?"),
        (["--vary", "dropout"], "--vary dropout: it has no ="),
        (["--vary", "dropout=0:2"], "dropout = 2"),
        (["--vary", "dropout=0:0.5", "--sampler", "grid"], "a grid needs values"),
        (["--vary", "dropout=0:0.5", "--profile", "x"], "they belong to a cluster"),
        (["--resume", "nothing"], "there is no such sweep"),
        (["--stop", "nothing", "--set", "epochs=3"], "what a sweep varies cannot be changed"),
    ],
)  # fmt: skip
def test_wrong_words_are_refused(toy: Task, home: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert main(["sweep", "toy", *words]) == 2
    assert told in capsys.readouterr().err
    assert not (home / "sweeps").exists()


def test_sweeps_are_found_by_name_id_and_beginning(toy: Task, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (planned(toy, {"dropout": Range(low=0, high=0.5)}) for _ in range(2))
    assert sweeps.find(first.id) == sweeps.find(f"toy/{first.id}") == first and sweeps.find(second.id[:-1], "toy") == second
    with pytest.raises(InputError, match="2 sweeps match"):
        sweeps.find("trial sweep")
    with pytest.raises(InputError, match=r"there is no such sweep. Nearest: .*trial-sweep"):
        sweeps.find("trial sweap")
    assert main(["sweep", "toy", "--list"]) == 0
    listed = capsys.readouterr().out
    assert first.id in listed and second.id in listed and "0 of 20 trials" in listed
