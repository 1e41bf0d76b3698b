"""A prediction in parts: planned, done by processes here or by a job array of a cluster, gone on with, put together."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from lib import bulk, jobs, runs
from lib.bulk import Request
from lib.cli.typed import FAILED, INTERRUPTED, OK, UsageError, changes, find, positive, settings, task_of, usage
from lib.jobs.array import queue_again
from lib.jobs.bulk import ARRAY, submit
from lib.jobs.profiles import ClusterProfile
from lib.jobs.slurm import own_job
from lib.reporter import Reporter
from lib.runs import Interrupted, Run
from lib.signals import handled
from lib.task import InputError, Phrase

if TYPE_CHECKING:  # it brings torch along, which takes seconds
    from lib.predict import Prediction

PARTS_PER_WORKER = 8  # where nobody chose: so that no worker waits long for the last one


def parts_arguments(command: argparse.ArgumentParser) -> None:
    """What `predict` takes beside files and a model."""
    parts = command.add_argument_group("very many files", "Done in parts, which an interruption costs one of at most.")
    parts.add_argument("--parts", metavar="N", type=positive, help="divide the work into so many parts")
    parts.add_argument("--workers", metavar="N", type=positive, help="processes at a time on this machine (default 1)")
    parts.add_argument("--resume", action="store_true", help="go on with what --output holds; finished parts stay")
    parts.add_argument("--background", action="store_true", help="detach; follow it with `python -m lib jobs list DIR`")
    parts.add_argument("--executor", choices=jobs.executors(), default="local", help="slurm: the parts are a job array")
    parts.add_argument("--profile", metavar="NAME", help="cluster profile of the array; they are kept in clusters.toml")
    parts.add_argument("--set-cluster", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="what differs from it")
    parts.add_argument("--part", metavar="K", type=int, help=argparse.SUPPRESS)  # what a task of the array does


def in_parts(parsed: argparse.Namespace) -> bool:
    """Whether what was typed asks for parts."""
    return bool(
        parsed.parts
        or parsed.workers
        or parsed.resume
        or parsed.background
        or parsed.executor != "local"
        or parsed.part is not None
    )


def predict_in_parts(parsed: argparse.Namespace) -> int:
    """Plan a new prediction or go on with one, here, in the background or on a cluster; or do a single part."""
    task_of(parsed.task)
    folder: Path = parsed.output.resolve()
    if parsed.part is not None:
        return _one_part(folder, parsed.part)
    if parsed.resume:
        if any([parsed.input, parsed.set, parsed.model, parsed.parts]) or parsed.executor != "local":
            left = "--output, --workers, --profile and --set-cluster"
            raise UsageError(f"--resume: what was asked stands in the folder. Leave out all but {left}.")
        with usage():
            request, run = _more_asked(folder, parsed), Run(folder)
    else:
        request = _request(parsed)
        with usage():
            run = bulk.create(folder, request)
    request = request.model_copy(update={"workers": parsed.workers or request.workers})
    if run.status().state == "done":
        print(f"done already: {folder / bulk.RESULT}")
        return OK
    if parsed.background:
        jobs.start(run, keep=True)
        print(folder)
        print(f"It goes on in the background. Follow it: python -m lib jobs list {folder}", file=sys.stderr)
        return OK
    return _work(run, request, new=not parsed.resume)


def _more_asked(folder: Path, parsed: argparse.Namespace) -> Request:
    """What was asked, with what its next job array asks the cluster for. Raises InputError, and UsageError without a cluster."""
    request = bulk.request_of(folder)
    if not (parsed.profile or parsed.set_cluster):
        return request
    if request.executor != jobs.SLURM.name:
        raise UsageError("--profile, --set-cluster: this prediction is done on this machine. Leave them out.")
    start = jobs.SLURM.chosen(parsed.profile) if parsed.profile else ClusterProfile.parse(request.cluster, "cluster profile")
    asked = type(start).parse(start.model_dump() | changes(parsed.set_cluster, option="--set-cluster"), "--set-cluster")
    return bulk.ask_again(folder, request, asked.model_dump())


def _request(parsed: argparse.Namespace) -> Request:
    """What was typed, complete. Raises UsageError."""
    if not parsed.input:
        raise UsageError("--input: which files? Name files, folders or ZIP archives.")
    if parsed.executor == "local" and (parsed.profile or parsed.set_cluster):
        raise UsageError("--profile, --set-cluster: they belong to a cluster. Add --executor slurm.")
    task, slurm = task_of(parsed.task), parsed.executor == jobs.SLURM.name
    if slurm and not parsed.parts:
        raise UsageError("--parts: into how many tasks of a job array? Name a number.")
    acquisition = settings(task.Acquisition, parsed.set, None, {})
    with usage():
        run = find(parsed.model, task.name) if parsed.model else runs.default_model(task.name)
        asked = jobs.SLURM.chosen(parsed.profile or "", changes(parsed.set_cluster, option="--set-cluster")) if slurm else None
    workers = parsed.workers or 1
    return Request(
        task=task.name, model=f"{run.task}/{run.id}", inputs=tuple((str(path.resolve()), path.name) for path in parsed.input),
        acquisition=acquisition.model_dump(mode="json"), parts=parsed.parts or PARTS_PER_WORKER * workers, workers=workers,
        executor=parsed.executor, cluster=asked.model_dump() if asked is not None else {},
    )  # fmt: skip


# --- the work ---------------------------------------------------------------------------------------------------------
def _work(run: Run, request: Request, new: bool) -> int:
    """Do what is left of it as the one process that does."""
    if not new and jobs.executor_of(run).name == ARRAY and jobs.state(run) in jobs.ACTIVE:
        raise InputError(str(run.folder), "its job array is still in the queue", f"Cancel it first: jobs cancel {run.folder}.")
    jobs.claim(run)
    reporter = Reporter(run)
    try:
        with reporter.beating():
            status = _done(run, request, reporter)
        if status is None:
            return OK
        reporter.close("done")
        bulk.forget(run.folder)
    except KeyboardInterrupt:
        reporter.close("cancelled")
        raise
    except BaseException as error:
        if new and bulk.read_plan(run.folder) is None:
            bulk.take_back(run.folder)
        else:
            reporter.close("failed", _why(error))
        raise
    return status


def _why(error: BaseException) -> str:
    if isinstance(error, InputError):
        return error.sentence()
    told = "The prediction stopped on an unexpected error ({kind}: {why}). Resume goes on with the parts that are left."
    return Phrase(told, kind=type(error).__name__, why=str(error))


def _done(run: Run, request: Request, reporter: Reporter) -> int | None:
    """Plan, do the parts that are missing, put them together: the exit status; None where a cluster does them."""
    from lib import divided

    planned = divided.plan(run.folder, request)
    left = divided.missing(run.folder, planned)
    of, began = len(planned.parts), time.monotonic()
    reporter.update(write=True, epoch=of - len(left), epochs=of)
    if left and request.executor == jobs.SLURM.name:
        _hand_over(run, request, left, of)
        return None
    with tqdm(total=of, initial=of - len(left), unit="part", disable=not sys.stderr.isatty()) as bar:
        for count, _ in enumerate(divided.do_parts(run.folder, left, request.workers), 1):
            bar.update()
            pace_s = (time.monotonic() - began) / count
            reporter.update(epoch=of - len(left) + count, eta_s=pace_s * (len(left) - count))
    return _put_together(run)


def _hand_over(run: Run, request: Request, left: Sequence[int], n_parts: int) -> None:
    """Give the parts that are left to a job array; the last of them puts all together."""
    submit(run, bulk.part_command(request.task, run.folder), n_parts, left, request.cluster)
    print(run.folder)
    print(f"Its {len(left)} parts are a job array. Follow it: python -m lib jobs list {run.folder}", file=sys.stderr)


def _one_part(folder: Path, number: int) -> int:
    """A task of the array: its part, and the whole when that was the last one missing.

    Where its time limit comes first, it is queued again. Raises InputError where that would go on for ever.
    """
    with usage():
        bulk.request_of(folder)
    before = bulk.kept_of(folder, number)
    try:
        with _warned():  # before torch is imported
            return _part_and_whole(folder, number)
    except Interrupted as stop:
        if bulk.kept_of(folder, number) <= before:
            problem = Phrase("nothing more of part {n} could be kept before the time limit came", n=number)
            remedy = "Resume it with a longer time_limit_min, or plan it anew in more parts."
            raise InputError(str(folder), problem, remedy) from stop
        queue_again()
        print(f"The time limit came; part {number} is queued again and goes on with what is left of it.", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _warned() -> Iterator[None]:
    """Within this block, a cluster's announcement of its time limit ends the work. Raises Interrupted then."""

    def leave(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    with handled({signal.SIGUSR1: leave} if own_job() else {}):
        yield


def _part_and_whole(folder: Path, number: int) -> int:
    from lib import divided

    run = Run(folder)
    try:
        divided.do_part(folder, number)
        planned = bulk.read_plan(folder)
        if planned is not None and not divided.missing(folder, planned):
            _put_together(run)
            run.set_status(state="done", epoch=len(planned.parts), finished_at=time.time(), eta_s=None)
            bulk.forget(folder)
    except (FileNotFoundError, InputError):
        if run.status().state != "done":  # else two tasks were the last ones, and the other has finished
            raise
    return OK


def _put_together(run: Run) -> int:
    """One prediction of all parts: written and told."""
    from lib import divided, predict

    planned = bulk.read_plan(run.folder)
    assert planned is not None
    prediction = divided.together(run.folder, planned)
    return tell(prediction, predict.save(prediction, run.folder), planned.skipped)


def tell(prediction: Prediction, paths: Sequence[Path], skipped: Sequence[tuple[str, str]]) -> int:
    """Say what was written and what failed: the exit status."""
    for path in paths:
        print(path)
    for name, reason in skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    for name, remark in prediction.remarks:
        print(f"note: {name}: {remark}", file=sys.stderr)
    for name, sentence in prediction.failures:
        print(f"error: {name}: {sentence}", file=sys.stderr)
    run, notes = prediction.run, prediction.table.loc[prediction.predicted, "note"]
    unread = int(notes.astype(str).str.startswith("error:").sum())  # things in files that go on without them, as frames of a run
    told = f"{len(notes) - unread} rows predicted with {run.task}/{run.id}; {len(prediction.failures)} files failed"
    print(told + (f", {unread} rows could not be read: their notes say why" if unread else ""))
    return FAILED if prediction.failures or unread else OK
