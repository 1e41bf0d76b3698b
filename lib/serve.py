"""The warm worker: reads requests as JSON lines on stdin and answers on stdout, so that the dashboard never loads torch.

Request  {"id", "op", "payload"}
Reply    {"id", "event": "progress", "fraction", "text"} …, then {"id", "event": "result", "value"}
         or {"id", "event": "error", "subject", "problem", "remedy"}
One request at a time. Uploads are parsed here, in a process that may run out of memory or crash alone.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from lib import cleaning, derived, export, looking, predict, runs, sheet, tasks
from lib import model as models
from lib.model import Model
from lib.runs import Run
from lib.task import Config, InputError, Samples, Task
from lib.uploads import Expansion, expand

Progress = Callable[[float, str], None]
Operation = Callable[[Mapping[str, Any], Progress], dict[str, Any]]
MODELS_KEPT = 3
LOOK_S = 10.0  # who opens a long run sees some of it after that time
PROGRESS_EVERY_S = 0.1
MAX_THREADS = 8  # more do not make small networks faster, and trainings run beside us
log = logging.getLogger("lightbench")


# --- operations: a payload in, JSON values out ----------------------------------------------------------------------
def _ping(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{} -> {pid}."""
    return {"pid": os.getpid()}


def _warm(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{task} -> {run}: load the task's default model and run it once, so that the first prediction is quick too."""
    task = tasks.get(payload["task"])
    try:
        run = runs.default_model(task.name)
    except InputError:
        return {"run": None}
    model = load_model(run)
    model.predict(task.parts(task.simulate(task.Simulation(), 1, np.random.default_rng(0))))
    return {"run": run.id}


def _predict(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{task, run, files: [{path, name}], acquisition, output, language} -> {n, failures, skipped, remarks, seconds}.

    The tables and figures are files in `output`.
    """
    started = time.monotonic()
    task = _task(payload)
    run = runs.find(payload["run"], task.name) if payload.get("run") else runs.default_model(task.name)
    model, acquisition = load_model(run), _acquisition(task, payload)
    model = replace(model, task=model.task.speaking(task.language))
    output = Path(payload["output"])
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=output) as folder:
        found = expand(_sources(payload), task.suffixes, Path(folder))
        prediction = predict.predict_files(model, found.files, acquisition, on_progress, found.failures)
    predict.save(prediction, output)
    predict.keep_samples(prediction, output)
    n, passed = int(prediction.predicted.sum()), {"seconds": time.monotonic() - started}
    return _outcome(task, n, prediction.failures, prediction.remarks, found) | passed


def _explain(payload: Mapping[str, Any], _on_progress: Progress) -> dict[str, Any]:
    """{task, run, folder, rows, language} -> {columns}: what the task tells of why these samples are predicted so.

    `folder` is the output of `_predict`, rows count its predicted samples; `columns` by name have one item for each row.
    """
    task, rows = _task(payload), [int(row) for row in payload["rows"]]
    model = load_model(_run(payload))
    samples = Samples.load(Path(payload["folder"]) / "samples").take(rows)
    told = model.task.speaking(task.language).explain(model.network, samples, len(samples)).table
    new = [name for name in told if name not in samples.table or not told[name].equals(samples.table[name])]
    return {"columns": {name: told[name].tolist() for name in new}}


def _inspect(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{task, files, acquisition, output, everything, language} -> {n, failures, skipped, remarks, files: [{path, name, file}]}.

    Of a long run some samples are measured, with `everything` all. `output` gets the samples and readings.parquet; what was in
    archives stays unpacked beside them, so that raw files can be copied later. `file` is what the samples made of a file call
    it: files that are read together share it.
    """
    task = _task(payload)
    output = Path(payload["output"])
    unpacked = output / "unpacked"
    unpacked.mkdir(parents=True, exist_ok=True)
    found = expand(_sources(payload), task.suffixes, unpacked)
    patience_s = math.inf if payload.get("everything") else LOOK_S
    seen = cleaning.inspect(task, found.files, _acquisition(task, payload), on_progress, patience_s)
    if seen.samples is not None:
        seen.samples.save(output)
        seen.readings.to_parquet(output / "readings.parquet")
    files = [{"path": str(path), "name": name, "file": file} for file, raw in seen.raw.items() for path, name in raw]
    failures = [*seen.failures, *found.failures]
    return _outcome(task, len(seen.samples or ()), failures, seen.remarks, found) | {"files": files}


def _choices(payload: Mapping[str, Any], _on_progress: Progress) -> dict[str, Any]:
    """{task, files} -> {offered, suggested}: what files offer for the fields of the task's Acquisition."""
    task = _task(payload)
    with tempfile.TemporaryDirectory(prefix="unpacked-") as folder:
        found = expand(_sources(payload), task.suffixes, Path(folder))
        choices = task.choices(found.files)
    return {"offered": dict(choices.offered), "suggested": dict(choices.suggested)}


def _keep(payload: Mapping[str, Any], _on_progress: Progress) -> dict[str, Any]:
    """{task, folder, keep: [bool, ...], files: as `_inspect` gave, recipe, output} -> {paths}: the kept set as a new folder."""
    task, samples = tasks.get(payload["task"]), Samples.load(Path(payload["folder"]))
    raw: dict[str, list[tuple[Path, str]]] = {}
    for file in payload["files"]:
        raw.setdefault(str(file["file"]), []).append((Path(file["path"]), str(file["name"])))
    keep = np.asarray(payload["keep"], bool)
    paths = cleaning.write_kept(task, samples, keep, raw, str(payload["recipe"]), Path(payload["output"]))
    return {"paths": [str(path) for path in paths]}


def _preview(payload: Mapping[str, Any], _on_progress: Progress) -> dict[str, Any]:
    """{task, training, language} -> {panels}: what a training would learn from."""
    task = _task(payload)
    panels = task.preview(task.Training.parse(payload["training"], "training settings"))
    return {"panels": [panel.to_json() for panel in panels]}


def _plate(payload: Mapping[str, Any], _on_progress: Progress) -> dict[str, Any]:
    """{task, folder, row, acquisition, output} -> {path}: the picture of one inspected sample, as its viewer takes it."""
    task, samples = _task(payload), looking.samples_of(Path(payload["folder"]))
    plate = looking.plate_of(task, samples, int(payload["row"]), _acquisition(task, payload))
    path = Path(payload["output"]) / f"plate-{int(payload['row'])}.bin"
    path.write_bytes(plate.to_bytes())
    return {"path": str(path)}


def _panels(payload: Mapping[str, Any], _on_progress: Progress) -> dict[str, Any]:
    """{task, folder, row, acquisition, beside, language} -> {panels}: what to look at of one inspected sample.

    With `beside`, what there is to see beside its picture.
    """
    task, samples = _task(payload), looking.samples_of(Path(payload["folder"]))
    asked = task.plate_panels if payload.get("beside") else task.sample_panels
    panels = asked(samples, int(payload["row"]), _acquisition(task, payload))
    return {"panels": [panel.to_json() for panel in panels]}


def _find(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{task, folder, rows, finder: {name, parameters}, acquisition, output} -> {failures, seconds}; `output`: a Parquet file."""
    task, samples = _task(payload), looking.samples_of(Path(payload["folder"]))
    asked, acquisition = _asked(task, payload["finder"]), _acquisition(task, payload)
    found, failures, seconds = looking.found_in(task, samples, payload["rows"], asked, acquisition, on_progress)
    found.to_parquet(Path(payload["output"]))
    return {"failures": failures, "seconds": seconds}


def _compare(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{task, folder, rows, finders: [{name, parameters}], labels, acquisition, output} -> {failures}.

    `output` gets summary, frames, marks and wanted as Parquet files.
    """
    task, samples = _task(payload), looking.samples_of(Path(payload["folder"]))
    finders, acquisition = [_asked(task, one) for one in payload["finders"]], _acquisition(task, payload)
    compared = looking.compare(task, samples, payload["rows"], finders, payload["labels"], acquisition, on_progress)
    compared.save(Path(payload["output"]))
    return {"failures": compared.failures}


def _suggest_mask(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{task, folder, rows, acquisition, output} -> {n_bad}: the bad pixels (n, 2) of a run, in the .npy file `output`."""
    task, samples = _task(payload), looking.samples_of(Path(payload["folder"]))
    mask = looking.suggested_mask(task, samples, payload["rows"], _acquisition(task, payload), on_progress)
    np.save(Path(payload["output"]), np.argwhere(~mask), allow_pickle=False)
    return {"n_bad": int((~mask).sum())}


def _project(payload: Mapping[str, Any], _on_progress: Progress) -> dict[str, Any]:
    """{task, folder, rows, acquisition, output, finish, language} -> {done, of, n, failures, plates: {name: path}}.

    A part of the work: ask again until `done` is `of`. Then, or with `finish`, the folder `output` gets pictures of the n samples
    that were gathered.
    """
    task, samples, output = _task(payload), looking.samples_of(Path(payload["folder"])), Path(payload["output"])
    rows, acquisition = [int(row) for row in payload["rows"]], _acquisition(task, payload)
    found = looking.gather(task, samples, rows, acquisition, output / "gathered.npz")
    paths = {}
    if found.done == len(rows) or payload.get("finish"):
        made = task.projections(found.arrays, samples.take(rows[:1]), acquisition)
        paths = {name: output / f"run-{number}.bin" for number, name in enumerate(made)}
        for name, path in paths.items():
            path.write_bytes(made[name].to_bytes())
    n = found.done - len(found.failures)
    told = {"done": found.done, "of": len(rows), "n": n, "failures": found.failures}
    return told | {"plates": {name: str(path) for name, path in paths.items()}}


def _thumbnails(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{task, folder, rows, output} -> {failures}: small pictures of inspected samples, by row, in the .npz file `output`."""
    task, samples = _task(payload), looking.samples_of(Path(payload["folder"]))
    pictures, failures = looking.thumbnails(task, samples, payload["rows"], on_progress)
    with Path(payload["output"]).open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{str(row): picture for row, picture in pictures.items()})
    return {"failures": failures}


def _calibrate(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{task, folder, rows, acquisition, seed, language} -> {simulation, training, acquisition, panels} of inspected samples."""
    task = _task(payload)
    samples = Samples.load(Path(payload["folder"]))
    if payload.get("rows") is not None:
        samples = samples.take(np.asarray(payload["rows"], int))
    if not len(samples):
        raise InputError("calibration", "no samples are kept", "Keep at least one and try again.")
    result = task.calibrate(samples, _acquisition(task, payload), np.random.default_rng(payload.get("seed", 0)))
    if result is None:
        raise InputError(task.title, "it has no calibration from real samples", "Set the simulator by hand.")
    return {
        "simulation": result.simulation.model_dump(mode="json"), "training": result.training,
        "acquisition": result.acquisition, "panels": [panel.to_json() for panel in result.panels],
    }  # fmt: skip


def _sheet(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{run, output, format: html|pdf, language} -> {path}: `output` is the file to write, or the folder to write it into."""
    run, output, form = _run(payload), Path(payload["output"]), payload.get("format", "html")
    path = output / f"{run.id}.{form}" if output.is_dir() else output
    return {"path": str(sheet.save(run, path, form, payload.get("language", "en")))}


def _certify(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{run, changes, name} -> {run}: the id of a new run of the same model under another promise."""
    return {"run": derived.recertified(_run(payload), payload["changes"], payload.get("name", "")).id}


def _join(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{runs} -> {run}: the id of the run that holds the joint sheet of these folds."""
    return {"run": derived.joined([runs.find(run, payload.get("task")) for run in payload["runs"]]).id}


def _export(payload: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """{run, format: onnx|safetensors, output} -> {path}: `output` is the folder to write into."""
    return {"path": str(export.export(_run(payload), payload["format"], Path(payload["output"])))}


OPERATIONS: Mapping[str, Operation] = {
    "ping": _ping, "warm": _warm, "predict": _predict, "explain": _explain, "inspect": _inspect, "choices": _choices,
    "keep": _keep, "preview": _preview, "calibrate": _calibrate, "sheet": _sheet, "certify": _certify, "join": _join,
    "export": _export, "plate": _plate, "panels": _panels, "find": _find, "compare": _compare, "suggest_mask": _suggest_mask,
    "project": _project, "thumbnails": _thumbnails,
}  # fmt: skip


# --- what they share ------------------------------------------------------------------------------------------------
def load_model(run: Run) -> Model:
    """The run's model, kept warm; read again when its weights have changed on disk."""
    path = run.folder / "model.safetensors"
    return _cached(run, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=MODELS_KEPT)
def _cached(run: Run, mtime_ns: int) -> Model:
    return models.load(run, tasks.get(run.task))


def _run(payload: Mapping[str, Any]) -> Run:
    return runs.find(payload["run"], payload.get("task"))


def _task(payload: Mapping[str, Any]) -> Task:
    """The task, in the language of who asks."""
    return tasks.get(payload["task"]).speaking(payload.get("language", "en"))


def _asked(task: Task, values: Mapping[str, Any]) -> looking.Asked:
    """A finder of the task, or the model of a run: `name` is then `looking.MODEL` and its id."""
    name = str(values["name"])
    if not name.startswith(looking.MODEL):
        return looking.Asked.of(task, values)
    run = runs.find(name.removeprefix(looking.MODEL), task.name)
    model = load_model(run)
    return looking.Asked.learned(run.name, model.task.speaking(task.language), model.predict)


def _acquisition(task: Task, payload: Mapping[str, Any]) -> Config:
    return task.Acquisition.parse(payload.get("acquisition") or {}, "acquisition settings")


def _sources(payload: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """The payload's files, folders and archives with the names to show."""
    return [(Path(file["path"]), str(file.get("name") or Path(file["path"]).name)) for file in payload["files"]]


def _outcome(
    task: Task, n: int, failures: Iterable[tuple[str, str]], remarks: Iterable[tuple[str, str]], found: Expansion
) -> dict[str, Any]:
    return {
        "n": n,
        "failures": [{"file": name, "error": task.tell(error)} for name, error in failures],
        "skipped": [{"file": name, "reason": task.tell(reason)} for name, reason in found.skipped],
        "remarks": [{"file": name, "remark": remark} for name, remark in remarks],
    }


# --- the loop -------------------------------------------------------------------------------------------------------
def serve() -> None:
    """Answer requests until stdin closes. Everything that libraries print goes to stderr, the log."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    _limit_threads()
    for line in sys.stdin:
        if line.strip():
            answer(line, replies)


def _limit_threads() -> None:
    """Use the cores, but not more than helps; OMP_NUM_THREADS decides where it is set."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(MAX_THREADS, os.cpu_count() or 1)))


def answer(line: str, replies: TextIO) -> None:
    """Do one request and write its replies; whatever goes wrong becomes an error reply."""
    identity: Any = None
    try:
        request = json.loads(line)
        identity, name = request["id"], request["op"]
        if name not in OPERATIONS:
            raise InputError(f"operation {name!r}", "there is no such operation", f"Operations: {', '.join(OPERATIONS)}.")
        with runs.for_browser():
            value = OPERATIONS[name](request.get("payload") or {}, _reporter(identity, replies))
        reply: dict[str, Any] = {"event": "result", "value": value}
        json.dumps(value, allow_nan=False)
    except InputError as error:
        told = _spoken(error, request.get("payload") or {})
        reply = _error(told.subject, told.problem, told.remedy)
    except MemoryError:
        log.exception("out of memory")
        reply = _error("the worker", "it ran out of memory", "Give smaller files, or fewer at a time.")
    except Exception as error:
        log.exception("a request failed")
        problem = f"it failed unexpectedly ({type(error).__name__}); the log has the details"
        reply = _error("the worker", problem, "Try again; if it happens again, report it with that log.")
    _send(replies, {"id": identity, **reply})


def _spoken(error: InputError, payload: Mapping[str, Any]) -> InputError:
    """The error in the language of who asked, as far as a task was named that is known."""
    return error.spoken(_task(payload).tell) if payload.get("task") in tasks.names() else error


def _error(subject: str, problem: str, remedy: str) -> dict[str, Any]:
    return {"event": "error", "subject": subject, "problem": problem, "remedy": remedy}


def _send(replies: TextIO, reply: Mapping[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def _reporter(identity: Any, replies: TextIO) -> Progress:
    """Sends progress, but not more often than anybody can see."""
    last = 0.0

    def report(fraction: float, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if fraction >= 1 or now - last >= PROGRESS_EVERY_S:
            last = now
            _send(replies, {"id": identity, "event": "progress", "fraction": float(fraction), "text": text})

    return report
