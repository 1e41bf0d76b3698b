"""Sweeps: many runs of one task whose settings vary, chosen by a sampler and judged by their best validation value.

A sweep's folder, `sweeps/<task>/<sweep_id>/`, holds what was asked (`sweep.json`), what became of each trial (`journal.log`,
Optuna's own journal) and who works on it (`proc.json`). Every trial is an ordinary run folder that names its sweep. Never
imports torch, and Optuna only inside functions.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from lib import __version__
from lib.disk import home, read_json, write_json
from lib.runs import JobFolder, meant
from lib.sweeps.space import Range, Values, checked, defaults_to
from lib.task import Config, InputError, Metric, Phrase, Task, TrainConfig, option

__all__ = ["SINGLE", "Plan", "Range", "Sampler", "Sweep", "Values", "create", "find", "grid", "list_sweeps", "sweeps_dir"]

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["none", "median", "hyperband"]
SINGLE = ("devices", "num_nodes")  # a trial is one process: these are 1, and cannot vary
MOST_POINTS = 10_000  # of a grid


class Plan(Config):
    """What a sweep does."""

    vary: dict[str, Range | Values] = option({}, "What varies: a range or a list of values for each setting")
    sampler: Sampler = option(
        "tpe", "How settings are chosen: by TPE, which learns from the trials so far; at random; all of them"
    )
    pruner: Pruner = option("median", "Whether hopeless trials stop early: never, below the median, by hyperband")
    trials: int = option(20, "How many runs", unit="trials", ge=1, le=MOST_POINTS)
    workers: int = option(1, "How many runs train at once", unit="runs", ge=1, le=256)
    seed: int = option(0, "Seed of the sampler", ge=0, le=2**31 - 1)

    @field_validator("vary")
    @classmethod
    def _something(cls, value: dict[str, Range | Values]) -> dict[str, Range | Values]:
        if not value:
            raise ValueError(Phrase("nothing varies; name at least one setting"))
        return value


@dataclass(frozen=True)
class Sweep(JobFolder):
    """One sweep folder."""

    DESCRIBED_IN = "sweep.json"
    SETTINGS = ("config", "plan")

    @property
    def executor(self) -> str:
        """Where its trials compute."""
        return str(self.about().get("executor") or "local")

    def config(self) -> dict[str, Any]:
        """The settings that all trials share."""
        return dict((read_json(self.folder / "sweep.json") or {}).get("config", {}))

    def plan(self) -> Plan:
        """What was asked. Raises InputError where sweep.json is damaged."""
        stored = read_json(self.folder / "sweep.json") or {}
        return Plan.parse(stored.get("plan", {}), Phrase("sweep {sweep}, {file}", sweep=self.id, file="sweep.json"))

    @property
    def metric(self) -> Metric:
        """What judges the trials, on validation."""
        about = self.about()
        return Metric(str(about.get("metric", "")), str(about.get("unit", "")), "max" if about.get("goal") == "max" else "min")

    def proc(self) -> dict[str, Any]:
        """proc.json: the process on this machine that works on it, and when it was asked to stop."""
        found = read_json(self.folder / "proc.json")
        return found if isinstance(found, dict) else {}


def sweeps_dir() -> Path:
    """Where sweeps are made; need not exist yet."""
    return home() / "sweeps"


def grid(vary: Mapping[str, Range | Values]) -> list[dict[str, Any]]:
    """Every combination of the values, the last setting fastest. Raises InputError for a range of numbers that are not whole."""
    lists = {key: one.points() if isinstance(one, Range) else list(one.values) for key, one in vary.items()}
    for key, points in lists.items():
        if points is None:
            remedy = Phrase("Give values: {key}=A,B,C.", key=key)
            raise InputError(key, "a grid needs values, not a range", remedy)
    n = math.prod(len(points or ()) for points in lists.values())
    if n > MOST_POINTS:
        problem = Phrase("the grid has {n} points, at most {most}", n=n, most=MOST_POINTS)
        raise InputError(Phrase("sweep"), problem, "Give fewer values, or sample at random.")
    return [dict(zip(lists, point, strict=True)) for point in itertools.product(*(points or () for points in lists.values()))]


def create(task: Task, config: TrainConfig, plan: Plan, name: str = "", executor: str = "local") -> Sweep:
    """Make a sweep's folder with its study, nothing started.

    A grid has as many trials as points; otherwise the first trial has the settings of `config` where they are within the
    ranges. Raises InputError naming the setting that cannot vary so, and what is valid.
    """
    for key in SINGLE:
        if key in plan.vary or getattr(config, key) != 1:
            raise InputError(key, "each trial of a sweep is one process", Phrase("Set {key}=1.", key=key))
    vary = {key: checked(type(config), key, one) for key, one in plan.vary.items()}
    points = grid(vary) if plan.sampler == "grid" else defaults_to(config, vary)
    trials = len(points) if plan.sampler == "grid" else plan.trials
    plan = plan.model_copy(update={"vary": vary, "trials": trials})
    slug = re.sub(r"[^a-z0-9]+", "-", (name or "sweep").lower()).strip("-")[:40] or "sweep"
    now = time.time()
    sweep = Sweep(sweeps_dir() / task.name / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{slug}-{secrets.token_hex(2)}")
    sweep.folder.mkdir(parents=True)
    monitor = task.monitor
    about = {
        "task": task.name, "name": name, "executor": executor, "created_at": now, "version": __version__,
        "metric": monitor.name, "unit": monitor.unit, "goal": monitor.goal,
    }  # fmt: skip
    from lib.sweeps.study import begin  # Optuna costs a fifth of a second

    begin(sweep, monitor, points)
    write_json(
        sweep.folder / "sweep.json", about | {"config": config.model_dump(mode="json"), "plan": plan.model_dump(mode="json")}
    )
    return sweep


def list_sweeps(task: str | None = None) -> list[Sweep]:
    """All sweeps, or a task's, newest first."""
    parents = sorted(sweeps_dir().iterdir()) if sweeps_dir().is_dir() else []
    folders = [child for parent in parents if parent.is_dir() and task in (None, parent.name) for child in parent.iterdir()]
    return [
        Sweep(folder) for folder in sorted(folders, key=lambda path: path.name, reverse=True) if (folder / "sweep.json").exists()
    ]


def find(text: str, task: str | None = None) -> Sweep:
    """The sweep of that id, `task/id` or name, or beginning of an id. Raises InputError naming the nearest or all that match."""
    known = list_sweeps(task)
    matches = meant(text, known)
    if len(matches) == 1:
        return matches[0]
    subject = Phrase("sweep {sweep!r}", sweep=text)
    if matches:
        names = ", ".join(one.id for one in matches[:8])
        raise InputError(subject, Phrase("{n} sweeps match", n=len(matches)), Phrase("Choose one of: {sweeps}.", sweeps=names))
    by_word = {one.name: one.id for one in known} | {one.id: one.id for one in known}
    near = [by_word[word] for word in difflib.get_close_matches(text, by_word, n=3, cutoff=0.3)] or [one.id for one in known[:3]]
    remedy = Phrase("Nearest: {sweeps}.", sweeps=", ".join(dict.fromkeys(near))) if near else "There are no sweeps yet."
    raise InputError(subject, "there is no such sweep", remedy)
