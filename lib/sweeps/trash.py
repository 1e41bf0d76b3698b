"""Deleted sweeps: moved away with or without the runs of their trials, and brought back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lib import jobs, runs
from lib.disk import read_json, write_json
from lib.runs import TRASH, Run, checkpoints_dir
from lib.sweeps import Sweep, launch, sweeps_dir
from lib.sweeps.study import load, trials_of
from lib.task import InputError, Phrase

WITH = "deleted_with.json"  # in the folder of a deleted sweep: ids of the runs that went with it


def runs_of(sweep: Sweep) -> list[Run]:
    """The runs of its trials that are still there."""
    named = [trial.run_id for trial in trials_of(load(sweep)) if trial.run_id]
    found = [Run(checkpoints_dir() / sweep.task / run_id) for run_id in named]
    return [run for run in found if (run.folder / "config.json").exists()]


def delete(sweep: Sweep, with_runs: bool) -> Path:
    """Move a sweep to the trash, `with_runs` also those of its trials; where it is now, for `restore`.

    Runs that stay are runs like any other. Raises InputError for a sweep that is under way, or one of whose runs is that is to
    go with it; nothing was moved then.
    """
    state = launch.state(sweep, trials_of(load(sweep)))
    if state in jobs.ACTIVE:
        raise InputError(Phrase("sweep {sweep}", sweep=sweep.id), Phrase("its state is {state}", state=state), "Stop it first.")
    going = [run for run in runs_of(sweep) if not run.shipped] if with_runs else []
    busy = [run for run in going if jobs.state(run) in jobs.ACTIVE]
    if busy:
        raise InputError(Phrase("run {run}", run=busy[0].id), "it is being trained", "Cancel it first.")
    write_json(sweep.folder / WITH, [run.id for run in going])
    target = sweeps_dir() / TRASH / sweep.task / sweep.id
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep.folder.replace(target)
    for run in going:
        runs.delete(run)
    return target


def deleted(task: str) -> list[Sweep]:
    """Sweeps of a task that can be restored, newest first."""
    found = (sweeps_dir() / TRASH / task).glob("*/sweep.json")
    return [Sweep(path.parent) for path in sorted(found, reverse=True)]


def restore(place: Path) -> Sweep:
    """Bring a deleted sweep back, and the runs that went with it. Raises InputError where it is not in the trash."""
    if place.parents[1] != sweeps_dir() / TRASH or not place.is_dir():
        raise InputError(Phrase("sweep {sweep}", sweep=place.name), "it is not in the trash", "See which sweeps exist.")
    sweep = Sweep(sweeps_dir() / place.parent.name / place.name)
    sweep.folder.parent.mkdir(parents=True, exist_ok=True)
    gone_with = _gone_with(place)
    place.replace(sweep.folder)
    for run_id in gone_with:
        trashed = checkpoints_dir() / TRASH / sweep.task / run_id
        if trashed.is_dir():  # unless somebody brought it back alone
            runs.restore(trashed)
    (sweep.folder / WITH).unlink(missing_ok=True)
    return sweep


def _gone_with(place: Path) -> Sequence[str]:
    found = read_json(place / WITH)
    return [str(one) for one in found] if isinstance(found, list) else []
