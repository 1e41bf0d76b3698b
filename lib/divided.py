"""A prediction divided into parts: planned once, each part done whole by whichever process takes it, then put together.

The result is that of one process: what files belong together stays together, what they tell together (`Task.learn`) is learnt
once, and every file stands in the plan exactly once. A part is written beside its place and renamed, so it is there or not.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from lib import bulk, predict, runs, tasks
from lib import model as models
from lib.bulk import InputFile, Plan, Request, Unit
from lib.kept import Kept
from lib.model import Model
from lib.predict import MOST_KEPT_BYTES, SLICE, Bundle, Done, Prediction
from lib.runs import Run, write_atomic
from lib.task import Config, InputError, Phrase, Samples, Task
from lib.uploads import Expansion, expand
from lib.words import Language

FEW_BUNDLES = 4  # for each part: with fewer, those that can be divided are
FILE_COST_BYTES = 64 * 1024  # opening a file costs as much as reading so many bytes
WATCH_S = 1.0
CHANGED = Phrase("it changed after the prediction was planned. Plan it anew in another folder.")
Progress = Callable[[float, str], None]
log = logging.getLogger("lightbench")


# --- planning ---------------------------------------------------------------------------------------------------------
def plan(folder: Path, request: Request, on_progress: Progress | None = None) -> Plan:
    """List the files, learn what they tell together, deal them to parts, and keep that; the plan there is where there is one.

    Archives are unpacked into the folder. Raises InputError where there is no file.
    """
    known = bulk.read_plan(folder)
    if known is not None:
        return known
    task, run = _task_and_run(request)
    unpacked = folder / bulk.UNFINISHED / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    found = expand([(Path(path), name) for path, name in request.inputs], task.suffixes, unpacked)
    if not found.files and not found.failures:
        raise InputError("--input", Phrase("it holds no {kinds} file", kinds=", ".join(task.suffixes)), "Check the paths.")
    if on_progress is not None:
        on_progress(0.0, f"{len(found.files)} files")
    with _reach(request):
        made = _planned(task, run, request, found)
    bulk.write_plan(folder, made)
    return made


def _planned(task: Task, run: Run, request: Request, found: Expansion) -> Plan:
    acquisition = task.Acquisition.parse(request.acquisition, "acquisition settings")
    bundles = predict.bundled(task, found.files, acquisition)
    acquisition, learnt = predict.learn(task, bundles, acquisition)
    places = {file: place for place, file in enumerate(found.files)}
    files = tuple(_as_it_is(path, name) for path, name in found.files)
    units, weights = [], []
    for bundle in bundles:
        numbers = tuple(places[file] for file in bundle.files)
        weight = sum(files[number].size + FILE_COST_BYTES for number in numbers)
        pieces = _pieces(task, bundle, acquisition, request.parts) if len(bundles) < FEW_BUNDLES * request.parts else [None]
        units += [Unit(files=numbers, rows=rows) for rows in pieces]
        weights += [weight / len(pieces)] * len(pieces)
    return Plan(
        files=files, units=tuple(units), parts=tuple(bulk.split_evenly(weights, request.parts)),
        acquisition=acquisition.model_dump(mode="json"), learnt=learnt, weights=_digest(run),
        unopened=tuple((name, str(told)) for name, told in found.failures),
        skipped=tuple((name, str(told)) for name, told in found.skipped),
    )  # fmt: skip


def _as_it_is(path: Path, name: str) -> InputFile:
    state = path.stat()
    return InputFile(path=str(path.resolve()), name=name, size=state.st_size, mtime_ns=state.st_mtime_ns)


def _pieces(task: Task, bundle: Bundle, acquisition: Config, n: int) -> Sequence[tuple[int, int] | None]:
    """Ranges of the samples in files that are read by reference, of whole slices each; else all of them at once."""
    samples = predict.read_bundle(task, bundle, acquisition) if task.reads_by_reference else ""
    if isinstance(samples, str) or len(samples) <= SLICE:
        return [None]
    size = SLICE * -(-len(samples) // (SLICE * n))
    return [(start, min(start + size, len(samples))) for start in range(0, len(samples), size)]


def _digest(run: Run) -> str:
    return hashlib.sha256((run.folder / "model.safetensors").read_bytes()).hexdigest()


def _reach(request: Request) -> AbstractContextManager[None]:
    """Within it, no file leads further than whoever asked may read."""
    return runs.for_browser() if request.browser else nullcontext()


def _task_and_run(request: Request) -> tuple[Task, Run]:
    """The task in the language of who asked, and the run of the model. Raises InputError."""
    return tasks.get(request.task).speaking(request.language), runs.find(request.model, request.task)


# --- one part ---------------------------------------------------------------------------------------------------------
def do_part(folder: Path, number: int, on_progress: Progress | None = None) -> None:
    """Predict one part and keep it; nothing where it is done already. Raises InputError where there is no such part."""
    planned = bulk.read_plan(folder)
    if planned is None or not 0 <= number < len(planned.parts):
        raise InputError(str(folder), Phrase("it has no part {n}", n=number), "Plan it first: predict with --parts.")
    if bulk.part_folder(folder, number).exists():
        return
    began, request = time.monotonic(), bulk.request_of(folder)
    if _digest(_task_and_run(request)[1]) != planned.weights:
        problem = Phrase("the model {run} changed after the prediction was planned", run=request.model)
        raise InputError(str(folder), problem, "Plan it anew in another folder.")
    model = _loaded(request)
    acquisition = model.task.Acquisition.parse(planned.acquisition, "acquisition settings")
    units = planned.units[slice(*planned.parts[number])]
    bundles = [_bundle(planned, unit) for unit in units]
    changed = [not all(planned.files[place].unchanged() for place in unit.files) for unit in units]
    good = [bundle for bundle, other in zip(bundles, changed, strict=True) if not other]
    there = [file for bundle in good for file in bundle.files if file[0].exists()]
    kept = Kept.of(bulk.slices_folder(folder, number), model.run, planned.acquisition, there)
    with _reach(request):
        done = predict.predict_bundles(model, good, acquisition, planned.learnt, on_progress, kept)
    rows = iter(done.rows)
    told = [
        (bundle.name, model.task.tell(CHANGED)) if other else next(rows) for bundle, other in zip(bundles, changed, strict=True)
    ]
    _save(folder, number, replace(done, rows=told), MOST_KEPT_BYTES // len(planned.parts), time.monotonic() - began)
    kept.forget()


@lru_cache(maxsize=1)
def _cached(task: str, model: str, language: Language) -> Model:
    request = Request(task=task, model=model, inputs=(), language=language)
    speaking, run = _task_and_run(request)
    loaded = models.load(run, speaking)
    return replace(loaded, task=loaded.task.speaking(speaking.language))


def _loaded(request: Request) -> Model:
    """The model, read once in a process."""
    return _cached(request.task, request.model, request.language)


def _bundle(planned: Plan, unit: Unit) -> Bundle:
    files = [planned.files[place] for place in unit.files]
    return Bundle(tuple((Path(file.path), file.name) for file in files), unit.rows)


def _save(folder: Path, number: int, done: Done, most_bytes: int, seconds: float) -> None:
    """Write a part beside its place and rename it; where another process was faster, its part stays."""
    draft = folder / bulk.UNFINISHED / f".{number:05d}-{secrets.token_hex(4)}"
    draft.mkdir()
    try:
        for name, table in (("values", done.values), ("judged", done.judged)):
            buffer = io.BytesIO()
            table.to_parquet(buffer)
            write_atomic(draft / f"{name}.parquet", buffer.getvalue())
        if done.samples is not None:
            size = sum(values.nbytes for values in done.samples.inputs.values())
            samples = done.samples if size <= most_bytes else Samples({}, done.samples.table)
            (draft / "samples").mkdir()
            samples.save(draft / "samples")
        about = {"rows": list(done.rows), "remarks": done.remarks, "seconds": seconds}
        write_atomic(draft / "part.json", json.dumps(about, ensure_ascii=False))
        draft.rename(bulk.part_folder(folder, number))
    except OSError:
        if not bulk.part_folder(folder, number).exists():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _load(folder: Path, number: int) -> tuple[Done, float]:
    """A finished part and the seconds it took."""
    place = bulk.part_folder(folder, number)
    about = json.loads((place / "part.json").read_text(encoding="utf-8"))
    values, judged = (pd.read_parquet(place / f"{name}.parquet") for name in ("values", "judged"))
    samples = Samples.load(place / "samples") if (place / "samples").exists() else None
    rows, remarks = ([(str(name), told) for name, told in about[key]] for key in ("rows", "remarks"))
    return Done(rows, values, samples, judged, remarks), float(about["seconds"])


# --- together ---------------------------------------------------------------------------------------------------------
def missing(folder: Path, planned: Plan) -> list[int]:
    """Parts that are not done."""
    done = bulk.finished_parts(folder)
    return [number for number in range(len(planned.parts)) if number not in done]


def together(folder: Path, planned: Plan) -> Prediction:
    """The prediction that all parts make. Raises InputError where one is missing."""
    if left := missing(folder, planned):
        raise InputError(str(folder), Phrase("{n} parts are not done", n=len(left)), "Resume it.")
    request = bulk.request_of(folder)
    task, run = _task_and_run(request)
    task = task.knowing(run.facts())
    loaded = [_load(folder, number) for number in range(len(planned.parts))]
    rows = _once(planned, [row for part, _ in loaded for row in part.rows])
    remarks = dict.fromkeys(remark for part, _ in loaded for remark in part.remarks)  # a file that was divided, once
    found = [replace(part, rows=(), remarks=[]) for part, _ in loaded]
    told = Done([*rows, *planned.unopened], remarks=list(remarks))
    acquisition = task.Acquisition.parse(planned.acquisition, "acquisition settings")
    return predict.finished(task, run, [*found, told], acquisition, sum(seconds for _, seconds in loaded))


def _once(planned: Plan, rows: Sequence[tuple[str, int | str]]) -> Iterator[tuple[str, int | str]]:
    """What each unit gave; files that were divided and could not be read are told once."""
    before: tuple[tuple[int, ...], int | str] | None = None
    for unit, row in zip(planned.units, rows, strict=True):
        now = (unit.files, row[1])
        if not (isinstance(row[1], str) and now == before):
            yield row
        before = now


# --- many parts on this machine -----------------------------------------------------------------------------------------
def do_parts(folder: Path, numbers: Sequence[int], workers: int) -> Iterator[int]:
    """Do parts, so many at a time, each worker a process of its own; gives the number of each that is done.

    Raises InputError where a worker dies, and whatever a part raised.
    """
    if workers == 1 or len(numbers) < 2:
        for number in numbers:
            do_part(folder, number)
            yield number
        return
    pool = ProcessPoolExecutor(
        min(workers, len(numbers)), get_context("spawn"), initializer=_begin_worker, initargs=(os.getpid(), workers)
    )
    try:
        waiting = {pool.submit(do_part, folder, number): number for number in numbers}
        for future in as_completed(waiting):
            future.result()
            yield waiting[future]
    except BrokenProcessPool as error:
        problem = "a worker process ended without a word, as when the memory is full"
        raise InputError(str(folder), problem, "Resume it with fewer workers.") from error
    finally:
        pool.shutdown(cancel_futures=True)  # what is being done now is finished, and need not be done again


def _begin_worker(parent: int, workers: int) -> None:
    """Share the cores, and end with the process that started us."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    threading.Thread(target=_end_with, args=(parent,), name="watch-parent", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)
