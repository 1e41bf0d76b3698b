"""Runs made of other runs without training: the same model under another promise, and the joint sheet of all folds.

What a run was is never changed, because its sheet may have been signed: a new run folder is made, whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from lib import runs, sheet, tasks
from lib.runs import TEST_ROW, Predictions, Run, list_runs, part, read_json, save_predictions, write_json
from lib.task import FOLD, InputError, Phrase, Samples, Task, TrainConfig

MODEL = ("model.safetensors", "metrics.csv", "calibration_predictions.parquet")  # what a new promise leaves as it is
COMPUTED = {"threads", "loader_workers", "accelerator", "devices", "num_nodes"}  # settings that make no other fold


# --- another promise --------------------------------------------------------------------------------------------------
def recertified(run: Run, changes: Mapping[str, Any], name: str = "") -> Run:
    """A new run of the same model whose promises are certified anew, from the calibration predictions that were kept.

    `changes` are values of the fields in `Task.decides`. Raises InputError: another field, a wrong value, a task without
    promises, a run whose calibration predictions were not kept.
    """
    plain = tasks.get(run.task)
    if not plain.decides:
        raise InputError(run.task, "its models make no promise", "There is nothing to choose.")
    if wrong := [key for key in changes if key not in plain.decides]:
        remedy = Phrase("Fields that can: {fields}. For others train again.", fields=", ".join(plain.decides))
        raise InputError(
            Phrase("run {run}", run=run.id), Phrase("{fields} cannot be changed after training", fields=", ".join(wrong)), remedy
        )
    if run.about().get("folds"):
        remedy = Phrase("Change the promise of each fold, then join those.")
        raise InputError(Phrase("run {run}", run=run.id), "it is a joint sheet of several models", remedy)
    kept, tested = run.calibration_predictions(), run.test_predictions()
    if kept is None or tested is None:
        raise InputError(
            Phrase("run {run}", run=run.id), "its calibration predictions were not kept, so nothing can be certified anew",
            "Train it again with the settings that you want.",
        )  # fmt: skip
    config = plain.Training.parse({**run.config(), **changes}, "promise")
    asking = plain.knowing({**run.facts(), **plain.knowing(run.facts()).asked(config)})
    facts = {**asking.facts, **asking.certify(*_parts(kept))}
    task = plain.knowing(facts)
    predicted, truth, samples = _parts(tested)
    with _new(run, config, name or _promise_name(run, changes), {"promised_anew": run.id}) as made:
        for file in MODEL:
            if (run.folder / file).exists():
                shutil.copyfile(run.folder / file, made.folder / file)
        _finish(made, run, facts, (task.redecided(predicted), truth, samples), run.test_samples())
    return made


def _promise_name(run: Run, changes: Mapping[str, Any]) -> str:
    """Not one that begins as the run's does: `shipped-…` is for runs that ship."""
    told = ", ".join(f"{key} {value}" for key, value in changes.items())
    return f"{told or 'the same promise'} · {run.name}"


def _parts(table: pd.DataFrame) -> Predictions:
    return part(table, "predicted."), part(table, "true."), part(table, "sample.")


# --- all folds --------------------------------------------------------------------------------------------------------
def joined(folds: Sequence[Run]) -> Run:
    """A run without a model whose test predictions are those of all folds of one training, each row by the model that did not
    see it; the one made before, where these runs were joined already. Its sheet is built.

    Raises InputError where these are not the folds of one training on one table, each once and all there, or one is not done.
    """
    task = tasks.get(_task_of(folds))
    ordered = _in_order(task, folds)
    names = [run.id for run in ordered]
    facts = task.joined([run.facts() for run in ordered])
    for run in list_runs(task.name):
        if run.about().get("folds") == names and run.sheet() and run.facts() == facts:
            return run
    tables = [run.test_predictions() for run in ordered]
    found = [_parts(table) for table in tables if table is not None]
    whole = pd.concat([one.assign(**{FOLD: k}) for k, (_, _, one) in enumerate(found)], ignore_index=True)
    predicted, truth = (pd.concat([parts[i] for parts in found], ignore_index=True) for i in (0, 1))
    config = task.Training.parse(ordered[0].config(), f"run {names[0]}")
    with _new(ordered[0], config, f"all {len(ordered)} folds of {ordered[0].name}", {"folds": names}) as made:
        kept = _kept(ordered, [len(parts[0]) for parts in found])
        _finish(made, ordered[0], facts, (predicted, truth, whole), kept, **_together(ordered))
    return made


def _together(folds: Sequence[Run]) -> dict[str, Any]:
    """The status of all folds as one: their mean value on validation, the time they took in all."""
    states = [run.status() for run in folds]
    values = [state.best_value for state in states if state.best_value is not None]
    took_s = sum(state.took_s or 0.0 for state in states if state.finished_at)
    ended = max((state.finished_at or 0.0) for state in states)
    best = float(np.mean(values)) if len(values) == len(states) else None
    return {"best_value": best, "best_epoch": None, "started_at": ended - took_s, "finished_at": ended}


def _task_of(folds: Sequence[Run]) -> str:
    names = {run.task for run in folds}
    if len(names) != 1:
        raise InputError("joint sheet", "the runs are of several tasks", "Choose the folds of one training.")
    return names.pop()


def _in_order(task: Task, folds: Sequence[Run]) -> list[Run]:
    """The runs in the order of the task's folds, which they must be."""
    for run in folds:
        if run.about().get("folds") or run.test_predictions() is None:
            problem = "it is a joint sheet itself" if run.about().get("folds") else "it has no test predictions yet"
            raise InputError(Phrase("run {run}", run=run.id), problem, "Choose the finished folds of one training.")
    configs = [task.Training.parse(run.config(), f"run {run.id}") for run in folds]
    wanted = [_essence(task, config) for config in task.folds(configs[0])]
    given = [_essence(task, config) for config in configs]
    for run, one in zip(folds, given, strict=True):
        if one not in wanted or given.count(one) > 1:
            problem = "it is not a fold of the same training" if one not in wanted else "this fold is given twice"
            remedy = Phrase("Choose runs that differ in nothing but the fold, {name} and the others of it.", name=folds[0].name)
            raise InputError(Phrase("run {run}", run=run.id), problem, remedy)
    missing = [f"{number}/{len(wanted)}" for number, one in enumerate(wanted, start=1) if one not in given]
    if len(wanted) < 2 or missing:
        lacking = Phrase("folds {folds} are missing", folds=", ".join(missing))
        lacking = Phrase("fold {fold} is missing", fold=missing[0]) if len(missing) == 1 else lacking
        told = "it has no folds" if len(wanted) < 2 else lacking
        raise InputError(Phrase("training of {name}", name=folds[0].name), told, "Train all folds, then join them.")
    return [folds[given.index(one)] for one in wanted]


def _essence(task: Task, config: TrainConfig) -> dict[str, Any]:
    """What makes a fold, whatever it was computed on."""
    return config.model_dump(mode="json", exclude=COMPUTED)


def _kept(folds: Sequence[Run], rows: Sequence[int]) -> Samples | None:
    """The samples kept of each fold, as rows of the joint table; None where a fold has none."""
    parts = []
    for run, start in zip(folds, np.cumsum([0, *rows[:-1]]), strict=True):
        samples = run.test_samples()
        if samples is not None:
            parts.append(samples.with_columns(**{TEST_ROW: samples.table[TEST_ROW] + start}))
    try:
        return Samples.concat(parts) if parts else None
    except ValueError:  # folds whose spectra differ in shape or axis
        return None


# --- making -----------------------------------------------------------------------------------------------------------
@contextmanager
def _new(origin: Run, config: TrainConfig, name: str, about: Mapping[str, Any]) -> Iterator[Run]:
    """A new run of these settings, which is gone again where the block fails."""
    made = runs.create(origin.task, config.model_dump(mode="json"), name, executor=str(origin.about().get("executor") or ""))
    try:
        path = made.folder / "config.json"
        write_json(path, {**(read_json(path) or {}), **about})
        yield made
    except BaseException:
        shutil.rmtree(made.folder, ignore_errors=True)
        raise


def _finish(made: Run, origin: Run, facts: Mapping[str, Any], found: Predictions, samples: Samples | None, **status: Any) -> None:
    """Facts, test predictions and samples of a new run, its state, that of its origin but for `status`, and its sheet."""
    made.save_facts(facts)
    save_predictions(made, "test", found)
    if samples is not None:
        made.save_test_samples(samples)
    made.set_status(**{**origin.status().model_dump(), "created_at": made.status().created_at, "reason": "", **status})
    sheet.build(made)
