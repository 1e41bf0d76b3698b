"""Deleted sweeps: with or without their runs, never while somebody trains, and back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lib import jobs, runs, sweeps
from lib.__main__ import main
from lib.runs import Run
from lib.sweeps import Plan, Sweep, launch, space, trash
from lib.sweeps.study import Book, load, trials_of
from lib.task import InputError, Task


@pytest.fixture
def ended(toy: Task) -> Sweep:
    """Three trials of four have ended; the sweep was stopped."""
    plan = Plan.parse({"vary": space.typed({"seed": "0:3"}), "sampler": "grid", "pruner": "none"})
    config: Any = toy.Training.parse({"epochs": 1})
    sweep = sweeps.create(toy, config, plan, "looked at")
    book = Book(sweep, toy)
    for number in range(3):
        taken = book.take({}, lambda _trial: True)
        assert taken is not None
        taken.run.set_status(state="done", metric="rmse_v", unit="V", best_value=1.0 + number, best_epoch=1, epoch=1)
        assert book.settle(taken.number, taken.run)
    runs.write_json(sweep.folder / "proc.json", {"cancelled_at": 1.0})
    return sweep


def told(sweep: Sweep) -> list[tuple[int, str, float | None, str]]:
    """What the sweep knows of its trials."""
    return [(trial.number, trial.state, trial.value, trial.run_id) for trial in trials_of(load(sweep))]


def test_a_deleted_sweep_leaves_its_runs_where_they_are(ended: Sweep) -> None:
    before, there = told(ended), runs.list_runs("toy")
    place = trash.delete(ended, with_runs=False)
    assert sweeps.list_sweeps() == [] and runs.list_runs("toy") == there and len(there) == 3
    assert [one.folder for one in trash.deleted("toy")] == [place]
    assert trash.restore(place) == ended and told(ended) == before and sweeps.list_sweeps("toy") == [ended]
    assert trash.deleted("toy") == [] and launch.state(ended, trials_of(load(ended))) == "cancelled"


def test_its_runs_go_with_it_and_come_back_with_it(ended: Sweep) -> None:
    alone, *others = runs.list_runs("toy")
    other = runs.create("toy", {"epochs": 1}, "not of it")
    runs.delete(alone)  # before, by itself: it does not come back with the sweep
    before = told(ended)
    place = trash.delete(ended, with_runs=True)
    assert runs.list_runs("toy") == [other] and len(runs.trash()) == 3
    trash.restore(place)
    assert {run.id for run in runs.list_runs("toy")} == {other.id, *(run.id for run in others)}
    assert told(ended) == before and [path.name for path in runs.trash()] == [alone.id]


def test_a_run_that_was_brought_back_alone_is_no_trouble(ended: Sweep) -> None:
    place = trash.delete(ended, with_runs=True)
    back = runs.restore(runs.trash()[0])
    trash.restore(place)
    assert len(runs.list_runs("toy")) == 3 and back in runs.list_runs("toy")


@pytest.mark.parametrize("with_runs", [True, False])
def test_nothing_is_deleted_while_somebody_trains(ended: Sweep, monkeypatch: pytest.MonkeyPatch, with_runs: bool) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lib.sweeps.launch._working", lambda _sweep: "running")
        with pytest.raises(InputError, match=r"its state is running. Stop it first"):
            trash.delete(ended, with_runs)
    busy: Run = runs.list_runs("toy")[0]
    monkeypatch.setattr(jobs, "state", lambda run: "running" if run == busy else "done")
    if with_runs:  # one of its runs was resumed by hand
        with pytest.raises(InputError, match=r"it is being trained. Cancel it first"):
            trash.delete(ended, with_runs)
        assert sweeps.list_sweeps("toy") == [ended] and len(runs.list_runs("toy")) == 3
    else:
        trash.delete(ended, with_runs)
        assert busy in runs.list_runs("toy")


def test_restore_takes_only_what_is_in_the_trash(ended: Sweep, tmp_path: Path) -> None:
    for place in (ended.folder, tmp_path):
        with pytest.raises(InputError, match="not in the trash"):
            trash.restore(place)
    assert sweeps.list_sweeps() == [ended]


def test_the_command_line_deletes_and_restores(ended: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "toy", "--with-runs"]) == 2 and "it goes with --delete" in capsys.readouterr().err
    assert main(["sweep", "toy", "--delete", "looked at", "--with-runs"]) == 0
    assert f"--restore {ended.id} brings it back" in capsys.readouterr().out and runs.list_runs("toy") == []
    assert main(["sweep", "toy", "--list"]) == 0 and "no sweeps yet" in capsys.readouterr().out
    assert main(["sweep", "toy", "--restore", "nothing"]) == 2
    assert f"In the trash: {ended.id}" in capsys.readouterr().err
    assert main(["sweep", "toy", "--restore", "looked at"]) == 0
    assert f"toy/{ended.id}  cancelled" in capsys.readouterr().out and len(runs.list_runs("toy")) == 3


def test_a_damaged_note_of_what_went_with_it_costs_only_the_runs(ended: Sweep) -> None:
    place = trash.delete(ended, with_runs=True)
    (place / trash.WITH).write_text(json.dumps({"not": "a list"}))
    trash.restore(place)
    assert sweeps.list_sweeps("toy") == [ended] and runs.list_runs("toy") == [] and len(runs.trash()) == 3
