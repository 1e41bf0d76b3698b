"""A prediction of very many files, done in parts: its folder, what was asked, what is planned, and how far it is.

The folder is that of a job, as a run's is: config.json has what was asked and the command that does it, status.json how far it
is, proc.json who does it, log.txt what was said. `.unfinished/` has the plan and the finished parts until they are one whole.
Never imports torch.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib import __version__
from lib.runs import Run, Status, home, read_json, write_atomic, write_json
from lib.task import InputError, Phrase
from lib.words import Language

UNFINISHED = ".unfinished"
PLAN = "plan.json"
PART_SUFFIX = ".part"
RESULT = "predictions.csv"
MANY_FILES = 200  # from here on a page offers to do it in the background
FILES_PER_PART, MOST_PARTS = 25, 1000


class Request(BaseModel):
    """What was asked; plain values, kept in config.json. `inputs` are paths of files, folders and archives with names to show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    model: str  # task/id of the run
    inputs: tuple[tuple[str, str], ...]
    acquisition: dict[str, Any] = Field(default_factory=dict)
    parts: int = Field(default=1, ge=1, le=100_000)
    workers: int = Field(default=1, ge=1, le=1024)
    executor: str = "local"
    cluster: dict[str, Any] = Field(default_factory=dict)  # what the jobs of an array ask for
    language: Language = "en"
    browser: bool = False  # asked by somebody at a browser, who may not read just any file of this machine


class InputFile(BaseModel):
    """One file of the plan, as it was then."""

    model_config = ConfigDict(frozen=True)

    path: str
    name: str
    size: int
    mtime_ns: int

    def unchanged(self) -> bool:
        """Whether it is still the file that was planned, or is gone, which reading it will tell."""
        try:
            now = Path(self.path).stat()
        except OSError:
            return True
        return (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns)


class Unit(BaseModel):
    """What is never split: files that belong together, by their place in the plan, or a range of the samples in them."""

    model_config = ConfigDict(frozen=True)

    files: tuple[int, ...]
    rows: tuple[int, int] | None = None  # from the first to before the second


class Plan(BaseModel):
    """Every file, once, and which part does it. `parts` are ranges of `units`: from the first to before the second."""

    model_config = ConfigDict(frozen=True)

    files: tuple[InputFile, ...]
    units: tuple[Unit, ...]
    parts: tuple[tuple[int, int], ...]
    acquisition: dict[str, Any]  # as the files together told it
    learnt: str  # clause of every note
    weights: str  # digest of the model
    unopened: tuple[tuple[str, str], ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


# --- the folder -------------------------------------------------------------------------------------------------------
def predictions_dir() -> Path:
    """Where predictions that a page starts are kept; need not exist yet."""
    return home() / "predictions"


def new_folder(task: str) -> Path:
    """A name that is free, for a prediction that a page starts."""
    return predictions_dir() / task / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def parts_for(n_files: int) -> int:
    """How many parts a prediction of so many files has where nobody chose."""
    return max(1, min(MOST_PARTS, -(-n_files // FILES_PER_PART)))


def create(folder: Path, request: Request, name: str = "") -> Run:
    """Make the folder of a new prediction, queued. Raises InputError where one is there already."""
    if is_bulk(folder):
        remedy = "Add --resume to go on with it, or choose another folder."
        raise InputError(str(folder), "it holds a prediction in parts already", remedy)
    command = ["predict", request.task, "--output", str(folder.resolve()), "--resume"]
    about = {"task": request.task, "name": name, "executor": "local", "created_at": time.time(), "version": __version__}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        status = Status(created_at=time.time(), epochs=request.parts).model_dump()
        write_json(folder / "status.json", status)
        write_json(folder / "config.json", about | {"command": command, "config": request.model_dump(mode="json")})
    except OSError as error:
        problem = Phrase("it cannot be written to ({why})", why=error.strerror or str(error))
        raise InputError(str(folder), problem, "Choose another folder.") from error
    return Run(folder)


def is_bulk(folder: Path) -> bool:
    """Whether it is the folder of a prediction in parts, finished or not."""
    about = read_json(folder / "config.json")
    return isinstance(about, dict) and about.get("command", [None])[0] == "predict"


def request_of(folder: Path) -> Request:
    """What was asked. Raises InputError where the folder holds no prediction in parts."""
    if not is_bulk(folder):
        raise InputError(str(folder), "it holds no prediction in parts", "Name the folder given as --output.")
    try:
        return Request.model_validate(Run(folder).config())
    except ValidationError as error:
        raise InputError(str(folder), "its config.json is damaged", "Start it anew in another folder.") from error


def ask_again(folder: Path, request: Request, cluster: dict[str, Any]) -> Request:
    """The same prediction whose next job array asks for something else; kept in config.json."""
    changed = request.model_copy(update={"cluster": cluster})
    about = read_json(folder / "config.json")
    write_json(folder / "config.json", about | {"config": changed.model_dump(mode="json")})
    return changed


def part_command(task: str, folder: Path) -> list[str]:
    """The words after `python -m lib` that do one part, but for its number."""
    return ["predict", task, "--output", str(folder)]


def status_of(run: Run) -> Status:
    """How far it is: parts stand for epochs. Counted in the folder, as the tasks of an array write no common status."""
    status = run.status()
    return status if status.state == "done" else status.model_copy(update={"epoch": len(finished_parts(run.folder))})


def list_bulk(task: str | None = None) -> list[Run]:
    """Predictions that pages started, newest first."""
    found = predictions_dir().glob(f"{task or '*'}/*/config.json")
    return [Run(path.parent) for path in sorted(found, key=lambda path: path.parent.name, reverse=True)]


def take_back(folder: Path) -> None:
    """Remove what `create` made where nothing could be planned, and the folder if that leaves it empty."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for name in ("config.json", "status.json", "proc.json", "log.txt"):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


# --- the plan and the parts -------------------------------------------------------------------------------------------
def write_plan(folder: Path, plan: Plan) -> None:
    """Keep the plan, whole or not at all."""
    (folder / UNFINISHED).mkdir(exist_ok=True)
    write_atomic(folder / UNFINISHED / PLAN, plan.model_dump_json())


def read_plan(folder: Path) -> Plan | None:
    """The plan, or None where none was made. Raises InputError where it is damaged."""
    try:
        return Plan.model_validate_json((folder / UNFINISHED / PLAN).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InputError(str(folder), "its plan is damaged", "Start it anew in another folder.") from error


def part_folder(folder: Path, number: int) -> Path:
    """Where a finished part lies; it is there whole or not at all."""
    return folder / UNFINISHED / f"{number:05d}{PART_SUFFIX}"


def finished_parts(folder: Path) -> set[int]:
    """Numbers of the parts that are done."""
    return {int(path.stem) for path in (folder / UNFINISHED).glob(f"[0-9]*{PART_SUFFIX}")}


def open_parts(folder: Path) -> list[int]:
    """Numbers of the parts that are not done; of all that were asked for, where nothing is planned yet."""
    planned = read_plan(folder)
    done = finished_parts(folder)
    return [number for number in range(len(planned.parts) if planned else request_of(folder).parts) if number not in done]


def slices_folder(folder: Path, number: int) -> Path:
    """Where finished slices of a part are kept until it is done."""
    return folder / UNFINISHED / f"{number:05d}.slices"


def kept_of(folder: Path, number: int) -> tuple[bool, int]:
    """How much of a part is kept: whether it is done, and files of finished slices. It only grows."""
    done, slices = part_folder(folder, number).exists(), slices_folder(folder, number)
    return done, 0 if done else len(list(slices.glob("*-values.parquet")))


def forget(folder: Path) -> None:
    """Remove plan and parts. Whoever still reads them finds nothing, rather than a part of it."""
    away = folder / f"{UNFINISHED}-{secrets.token_hex(4)}"
    try:
        (folder / UNFINISHED).rename(away)
    except FileNotFoundError:
        return
    shutil.rmtree(away, ignore_errors=True)


def split_evenly(weights: Sequence[float], n: int) -> list[tuple[int, int]]:
    """At most n ranges of neighbours of about the same total weight, none empty."""
    total, before = sum(weights) or 1.0, 0.0
    numbers = []
    for weight in weights:
        numbers.append(min(n - 1, int(n * (before + weight / 2) / total)))
        before += weight
    starts = [place for place, number in enumerate(numbers) if place == 0 or number != numbers[place - 1]]
    return list(zip(starts, [*starts[1:], len(numbers)], strict=True)) if numbers else []
