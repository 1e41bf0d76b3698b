"""The run folder, `checkpoints/<task>/<run_id>/`: the only channel between a job and the world.

Plain files, each written whole or not at all, so that any number of processes and machines on a shared file system
can look on. Needs no database and never imports torch.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from lib import __version__
from lib.disk import ROOT, data_dir, files_below, for_browser, home, read_json, refuse_beyond_data, write_atomic, write_json
from lib.task import InputError, Phrase, Samples
from lib.words import Say, from_plain

__all__ = [
    "FEWEST_UNITS", "FINISHED", "HEARTBEAT_S", "ROOT", "SHIPPED_HERE", "SHIPPED_PREFIX", "STALE_S", "TEST_ROW", "TRASH",
    "Cancelled", "Interrupted", "Predictions", "Run", "State", "Status", "checkpoints_dir", "cores", "create", "data_dir",
    "default_model", "delete", "explain", "files_below", "find", "for_browser", "home", "list_runs", "meant", "part",
    "read_json", "refuse_beyond_data", "restore", "save_predictions", "sets", "tested", "trash", "write_atomic", "write_json",
]  # fmt: skip

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED: tuple[State, ...] = ("done", "failed", "cancelled")
SHIPPED_PREFIX = "shipped-"
HEARTBEAT_S = 2.0  # the trainer renews status.json at least this often
STALE_S = 30.0  # a heartbeat older than this is a dead one, seen from another machine
SHIPPED_HERE = ROOT / "checkpoints"  # shipped models are found here wherever the user's own runs live
TRASH = ".trash"
FEWEST_UNITS = 10  # independent test samples: how much fewer of them differ says nothing of the next ones
TEST_ROW = "test_row"  # column of the samples kept with a run: their row in its test predictions
Predictions = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]  # predicted, true, and the samples' own table


class Cancelled(BaseException):
    """Raised in the trainer by whoever asks it to stop, a signal's handler or its sweep, which says why; not an error."""


class Interrupted(BaseException):
    """Raised in a trainer that its cluster stops for now; the run is queued again, and the text says why. Not an error."""


def cores() -> int:
    """Cores this process may use; a cluster often grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sets(task: str) -> list[str]:
    """Names of the sets of real samples that were kept for a task, newest first."""
    folder = home() / "data" / task
    kept = [path for path in folder.iterdir() if (path / "recipe.json").is_file()] if folder.is_dir() else []
    return [path.name for path in sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True)]


def checkpoints_dir() -> Path:
    """Where runs are made; need not exist yet."""
    return home() / "checkpoints"


class Status(BaseModel):
    """status.json: what a run says of itself. Times are unix seconds.

    `epoch` counts finished epochs; `step` of `steps_per_epoch` is the place within the current one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: State = "queued"
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps_per_epoch: int = 0
    eta_s: float | None = None
    created_at: float = 0.0
    started_at: float | None = None
    heartbeat_at: float | None = None
    finished_at: float | None = None
    metric: str = ""
    unit: str = ""
    goal: Literal["min", "max"] = "min"
    best_value: float | None = None
    best_epoch: int | None = None
    loss: float | None = None  # mean training loss of the last epoch
    reason: str = ""
    told: Any = ""  # the reason as `words.plain`, to be said in another language
    paused_s: float = 0.0  # between an end and the resume after it, since `started_at`

    @property
    def last_at(self) -> float | None:
        """When it ended, or gave the last sign of life."""
        return self.finished_at or self.heartbeat_at

    @property
    def took_s(self) -> float | None:
        """Seconds of training until `last_at`, without pauses; None before it began."""
        return self.last_at - self.started_at - self.paused_s if self.started_at and self.last_at else None

    @property
    def why(self) -> str:
        """The reason, as a phrase where it was one."""
        told = from_plain(self.told)
        return told if told == self.reason else self.reason

    @property
    def finished(self) -> bool:
        """Whether the trainer closed the run itself."""
        return self.state in FINISHED

    @property
    def progress(self) -> float:
        """Share of the work that is done, 0 to 1."""
        if self.state == "done":
            return 1.0
        within = self.step / self.steps_per_epoch if self.steps_per_epoch else 0.0
        return min(1.0, (self.epoch + within) / self.epochs) if self.epochs else 0.0


@dataclass(frozen=True)
class JobFolder:
    """The folder of something that computes: `<task>/<id>/`. Every read tolerates files that are not there yet."""

    folder: Path
    DESCRIBED_IN: ClassVar[str] = "config.json"
    SETTINGS: ClassVar[tuple[str, ...]] = ("config",)  # of what that file holds

    @property
    def id(self) -> str:
        """Folder name; unique within a task."""
        return self.folder.name

    @property
    def task(self) -> str:
        """Name of the task it belongs to."""
        return self.folder.parent.name

    @property
    def name(self) -> str:
        """The user's name for it, else its id."""
        return str(self.about().get("name") or self.id)

    def about(self) -> dict[str, Any]:
        """What describes it, without its settings: task, name, executor, created_at, version, and more of a sweep."""
        described = read_json(self.folder / self.DESCRIBED_IN) or {}
        return {key: value for key, value in described.items() if key not in self.SETTINGS}

    def log(self, lines: int = 200, name: str = "log.txt") -> str:
        """The last lines of log.txt, or of another text file of the folder."""
        try:
            with (self.folder / name).open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - 400 * lines))
                text = stream.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


Folder = TypeVar("Folder", bound=JobFolder)


@dataclass(frozen=True)
class Run(JobFolder):
    """One run folder."""

    @property
    def shipped(self) -> bool:
        """Whether it came with the repository: readable, never changed."""
        return self.id.startswith(SHIPPED_PREFIX)

    def config(self) -> dict[str, Any]:
        """The settings it trains with: values of the task's Training."""
        return dict((read_json(self.folder / "config.json") or {}).get("config", {}))

    def status(self) -> Status:
        """What the run says of itself; `lib.jobs.state` adds whether its process lives."""
        try:
            return Status.model_validate(read_json(self.folder / "status.json") or {})
        except ValidationError:
            return Status(state="failed", reason="status.json is damaged.")

    def set_status(self, **changes: Any) -> Status:
        """Change fields of status.json and return the whole. Only the trainer does this once it has started."""
        status = Status.model_validate(self.status().model_dump() | changes)
        write_json(self.folder / "status.json", status.model_dump())
        return status

    def metrics(self) -> pd.DataFrame:
        """metrics.csv: one row per finished epoch; empty before the first."""
        try:
            return pd.read_csv(StringIO((self.folder / "metrics.csv").read_text(encoding="utf-8")))
        except (FileNotFoundError, pd.errors.EmptyDataError, pd.errors.ParserError):
            return pd.DataFrame()

    def proc(self) -> dict[str, Any] | None:
        """proc.json: the process or cluster job behind the run; written by its executor."""
        values = read_json(self.folder / "proc.json")
        return values if isinstance(values, dict) else None

    def facts(self) -> dict[str, Any]:
        """What its data were, as its task's TrainingData told; empty where it told nothing."""
        return dict(read_json(self.folder / "facts.json") or {})

    def save_facts(self, facts: Mapping[str, Any]) -> None:
        """Write facts.json; nothing where there are none."""
        if facts:
            write_json(self.folder / "facts.json", dict(facts))

    def sheet(self) -> dict[str, Any] | None:
        """sheet.json, the result sheet, or None before it is built."""
        values = read_json(self.folder / "sheet.json")
        return values if isinstance(values, dict) else None

    def test_predictions(self) -> pd.DataFrame | None:
        """Columns `predicted.*`, `true.*` and `sample.*` of every test sample, or None before the end of training."""
        path = self.folder / "test_predictions.parquet"
        return pd.read_parquet(path) if path.exists() else None

    def calibration_predictions(self) -> pd.DataFrame | None:
        """The same of the calibration samples, from which its promises can be certified anew; None where it had none."""
        path = self.folder / "calibration_predictions.parquet"
        return pd.read_parquet(path) if path.exists() else None

    def test_samples(self) -> Samples | None:
        """A few test samples, those behind the sheet's panels; column TEST_ROW says which. None where none were kept."""
        folder = self.folder / "test_samples"
        return Samples.load(folder) if folder.is_dir() else None

    def save_test_samples(self, samples: Samples) -> None:
        """Keep what `test_samples` returns, whole or not at all."""
        folder = self.folder / "test_samples"
        partial = self.folder / f".partial-{secrets.token_hex(4)}"
        partial.mkdir()
        samples.save(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)

    def has_model(self) -> bool:
        """Whether it can predict: true from the first improvement on validation."""
        return (self.folder / "model.safetensors").exists()

    def resumable(self) -> bool:
        """Whether training can go on from `last.ckpt`, or from the start where it had saved nothing yet."""
        return self.status().state != "done"

    def params_summary(self, defaults: Mapping[str, Any] | None = None) -> str:
        """The settings that differ from `defaults` (all where None) as `key=value, …`."""
        shown = {k: v for k, v in self.config().items() if defaults is None or defaults.get(k) != v}
        return ", ".join(f"{key}={value}" for key, value in shown.items())


def save_predictions(run: Run, split: Literal["calibration", "test"], found: Predictions) -> None:
    """Write what `calibration_predictions` or `test_predictions` returns, whole or not at all."""
    buffer = BytesIO()
    named = zip(("predicted.", "true.", "sample."), found, strict=True)
    pd.concat([table.add_prefix(prefix) for prefix, table in named], axis=1).to_parquet(buffer)
    write_atomic(run.folder / f"{split}_predictions.parquet", buffer.getvalue())


def part(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Columns of one prefix, `predicted.`, `true.` or `sample.`, without it."""
    names = [name for name in table.columns if name.startswith(prefix)]
    return table[names].rename(columns=lambda name: name.removeprefix(prefix))


def tested(sheet: Mapping[str, Any], say: Say) -> str:
    """How many test samples a sheet is of, how many of them independent, and whether that is too few for intervals."""
    n = sheet["provenance"]["test_samples"]
    units = sheet["provenance"].get("test_units", n)
    told = say("{n} samples", n=n) if units == n else say("{n} samples, {units} of them independent", n=n, units=units)
    return say("{told}: too few for 95 % intervals", told=told) if units < FEWEST_UNITS else told


def create(
    task: str,
    config: Mapping[str, Any],
    name: str = "",
    executor: str = "local",
    after: str = "",
    about: Mapping[str, Any] | None = None,
) -> Run:
    """Make the folder of a new run, queued, from plain JSON settings.

    The id is `<UTC time>-<name or model>-<4 hex digits>`; a name that starts with `shipped-` gives exactly that id.
    Its trainer waits for the run `after` (an id of the same task) to end. `about` is kept beside the name, as the sweep that it
    is a trial of. Raises InputError where a shipped run of that name exists already.
    """
    now = time.time()
    slug = re.sub(r"[^a-z0-9]+", "-", (name or str(config.get("model", "")) or "run").lower()).strip("-")[:40] or "run"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    run = _new_folder(task, slug, stamp)
    known = {"task": task, "name": name, "executor": executor, "created_at": now, "version": __version__, **(about or {})}
    known |= {"after": after} if after else {}
    write_json(run.folder / "config.json", known | {"config": dict(config)})
    write_json(run.folder / "status.json", Status(created_at=now, epochs=int(config.get("epochs", 0))).model_dump())
    return run


def _new_folder(task: str, slug: str, stamp: str) -> Run:
    """A folder that nobody has. Hundreds of runs can be made within a second, so an id that is taken is drawn anew."""
    shipped = slug.startswith(SHIPPED_PREFIX)
    while True:
        run_id = slug if shipped else f"{stamp}-{slug}-{secrets.token_hex(2)}"
        run = Run(checkpoints_dir() / task / run_id)
        try:
            run.folder.mkdir(parents=True)
        except FileExistsError as error:
            if shipped:
                told = Phrase("run {run!r}", run=run_id)
                raise InputError(told, "a run of that id exists already", "Choose another name.") from error
            continue
        return run


def list_runs(task: str | None = None, shipped_first: bool = False) -> list[Run]:
    """All runs, or a task's: newest first, the shipped ones after them (or before)."""
    found = list(_walk(checkpoints_dir(), task))
    if checkpoints_dir() != SHIPPED_HERE:
        mine = {(run.task, run.id) for run in found}
        found += [run for run in _walk(SHIPPED_HERE, task) if run.shipped and (run.task, run.id) not in mine]
    found.sort(key=lambda run: run.id, reverse=True)
    return sorted(found, key=lambda run: run.shipped, reverse=shipped_first)


def _walk(folder: Path, task: str | None) -> Iterator[Run]:
    for parent in _subfolders(folder):
        if task in (None, parent.name):
            yield from (Run(child) for child in _subfolders(parent) if (child / "config.json").exists())


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def find(text: str, task: str | None = None) -> Run:
    """The run of that id, `task/id`, folder or name, or beginning of an id; a name or beginning must be of one run only.

    Raises InputError naming the nearest ones, or all that match.
    """
    runs = list_runs(task)
    matches = meant(text, runs)
    if len(matches) == 1:
        return matches[0]
    names = [f"{run.task}/{run.id}" for run in (matches or runs)]
    if matches:
        raise InputError(
            Phrase("run {run!r}", run=text),
            Phrase("{n} runs match", n=len(matches)),
            Phrase("Choose one of: {runs}.", runs=", ".join(names[:8])),
        )
    by_word = {run.name: f"{run.task}/{run.id}" for run in reversed(runs)} | dict(zip(names, names, strict=True))
    near = [by_word[word] for word in difflib.get_close_matches(text, by_word, n=3, cutoff=0.3)] or names[:3]
    remedy = Phrase("Nearest: {runs}.", runs=", ".join(dict.fromkeys(near))) if near else "There are no runs yet."
    raise InputError(Phrase("run {run!r}", run=text), "there is no such run", remedy)


def meant(text: str, known: Sequence[Folder]) -> list[Folder]:
    """Those that a text can mean: what names one exactly comes before a name that several may have, and a mere beginning."""
    place = Path(text).expanduser().resolve()
    if not text:
        return []
    if found := [one for one in known if text in (one.id, f"{one.task}/{one.id}") or one.folder == place]:
        return found
    if found := [one for one in known if text in (one.name, f"{one.task}/{one.name}")]:
        return found
    return [one for one in known if one.id.startswith(text) or f"{one.task}/{one.id}".startswith(text)]


def default_model(task: str) -> Run:
    """The shipped run with the best validation value. Raises InputError where none is shipped."""
    shipped = [run for run in list_runs(task) if run.shipped and run.has_model()]
    if not shipped:
        raise InputError(Phrase("task {task!r}", task=task), "no model is shipped for it", "Train one, or name the run to use.")

    def rank(run: Run) -> tuple[bool, float, str]:
        status = run.status()
        value = status.best_value if status.best_value is not None else 0.0
        return status.best_value is None, value if status.goal == "min" else -value, run.id

    return min(shipped, key=rank)


def delete(run: Run) -> Path:
    """Move a run to the trash and return where it is now; `restore` brings it back.

    Raises InputError for a shipped run and for one that is being trained.
    """
    status = run.status()
    if run.shipped:
        raise InputError(
            Phrase("run {run}", run=run.id), "it ships with Lightbench and cannot be deleted", "Delete your own runs only."
        )
    if status.state == "running" and time.time() - (status.heartbeat_at or 0.0) < 3 * HEARTBEAT_S:
        raise InputError(Phrase("run {run}", run=run.id), "it is being trained", "Cancel it first.")
    target = run.folder.parents[1] / TRASH / run.task / run.id
    target.parent.mkdir(parents=True, exist_ok=True)
    run.folder.replace(target)
    return target


def trash() -> list[Path]:
    """Deleted runs that can be restored, newest first."""
    kinds = (checkpoints_dir(), home() / "predictions")
    found = [child for kind in kinds for parent in _subfolders(kind / TRASH) for child in _subfolders(parent)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def restore(path: Path) -> Run:
    """Bring a deleted run back. Raises InputError where it is not in the trash."""
    run = Run(path.parents[2] / path.parent.name / path.name)
    if path.parents[1].name != TRASH or not path.is_dir():
        raise InputError(
            Phrase("run {run}", run=path.name), "it is not in the trash", "See `python -m lib jobs list` for the runs that exist."
        )
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    path.replace(run.folder)
    return run


def explain(error: BaseException) -> str:
    """One sentence on why training stopped, and what helps."""
    first_line = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, InputError):
        return error.sentence()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Phrase("The disk is full: free some space, then resume this run.")
    if isinstance(error, MemoryError) or "out of memory" in first_line or "allocate memory" in first_line:
        return Phrase("There is not enough memory: choose a smaller batch_size, then start again.")
    if isinstance(error, OSError):
        told = "A file could not be read or written: {why} ({file})."
        return Phrase(told, why=error.strerror or first_line, file=error.filename or Phrase("no name given"))
    told = "Training stopped on an unexpected error ({kind}: {why}); the log has the details."
    return Phrase(told, kind=type(error).__name__, why=first_line)
