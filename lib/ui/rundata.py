"""What pages read of runs: overviews, curves, tables of differences. Files are read again only when they changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from lib.runs import Run, Status, list_runs
from lib.task import InputError, Task, TrainConfig
from lib.ui.context import Jobs
from lib.ui.theme import duration, number
from lib.ui.words import t

ACTIVE = ("queued", "running")
Stamp = tuple[int, int, int]  # of a file's content, as far as can be told without reading it
NO_FILE: Stamp = (0, 0, 0)
ENOUGH_SAMPLES = 1000  # of a training that tells how long one takes
OPEN_END = ("failed", "cancelled", "lost")  # states from which training can go on


@dataclass(frozen=True)
class Overview:
    """One run at one moment."""

    run: Run
    name: str
    state: str
    status: Status
    config: Mapping[str, Any]
    executor: str

    @property
    def active(self) -> bool:
        """Whether it is, or will be, computing."""
        return self.state in ACTIVE

    @property
    def best(self) -> str:
        """Best value on validation with its unit."""
        return number(self.status.best_value, self.status.unit)

    @property
    def progress_text(self) -> str:
        """Epoch and time left, in words."""
        status = self.status
        epochs = t("epoch {n} of {all}", n=status.epoch, all=status.epochs) if status.epochs else ""
        if self.state == "running" and status.eta_s is not None:
            return t("{epochs} · {time} left", epochs=epochs, time=duration(status.eta_s))
        if self.state == "queued":
            return t("waiting to start")
        return epochs

    @property
    def age(self) -> str:
        """Time since it was made."""
        return t("{time} ago", time=duration(time.time() - self.status.created_at)) if self.status.created_at else "–"

    @property
    def label(self) -> str:
        """One line that tells it from the others in a list; of a run that goes on, only what stays true while it does."""
        if self.active:
            return f"{self.name} · {t('in progress')}"
        value = t("best {value}", value=self.best) if self.status.best_value is not None else ""
        return " · ".join(filter(None, [self.name, t(self.state), value]))


def overview(run: Run, jobs: Jobs) -> Overview:
    """How a run stands now."""
    about, status = _known(run)
    state = status.state if status.finished else jobs.state(run)
    executor = "" if run.shipped else str(about.get("executor") or "")
    return Overview(run, str(about.get("name") or run.id), state, status, about.get("config", {}), executor)


def overviews(jobs: Jobs, task: str | None = None) -> list[Overview]:
    """All runs, or a task's, newest first, shipped ones last."""
    return [overview(run, jobs) for run in list_runs(task)]


def metrics_of(run: Run) -> pd.DataFrame:
    """metrics.csv of a run."""
    return _metrics(str(run.folder), _changed(run.folder / "metrics.csv"))


def sheet_of(run: Run) -> dict[str, Any] | None:
    """sheet.json of a run."""
    return _sheet(str(run.folder), _changed(run.folder / "sheet.json"))


def export_name_of(row: Overview, task: Task) -> str:
    """What the exported model of a run is called in the lab, "" where its task gives no such name or the run has no model."""
    if type(task).export_name is Task.export_name or not row.run.has_model():
        return ""
    return _export_name(str(row.run.folder), _changed(row.run.folder / "facts.json"), task)


def test_csv(run: Run) -> bytes | None:
    """The test predictions as CSV, or None before the end of training."""
    stamp = _changed(run.folder / "test_predictions.parquet")
    return _test_csv(str(run.folder), stamp) if stamp != NO_FILE else None


def tested_on(run: Run) -> str:
    """A digest of the test samples with their true values, the same for runs that were tested on the same; "" without any."""
    stamp = _changed(run.folder / "test_predictions.parquet")
    return _tested_on(str(run.folder), stamp) if stamp != NO_FILE else ""


def settings_of(task: Task, rows: Sequence[Overview]) -> list[dict[str, Any]]:
    """All settings of each run; one that did not exist when a run was made has its default."""
    defaults = task.Training().model_dump(mode="json")
    return [defaults | dict(row.config) for row in rows]


def differing(settings: Sequence[Mapping[str, Any]], ignore: Iterable[str] = ("seed",)) -> list[str]:
    """Names of settings that are not the same in all runs, whose `settings_of` these are, in the order of the Config."""
    names = list(dict.fromkeys(name for one in settings for name in one))
    return [n for n in names if n not in set(ignore) and len({repr(one.get(n)) for one in settings}) > 1]


def seconds_per_sample(
    rows: Sequence[Overview], training: type[TrainConfig], values: Mapping[str, Any]
) -> tuple[float, float, Overview] | None:
    """(seconds per sample in an epoch of full effort, samples per epoch, run) of the newest run like these settings.

    Like them is a run of the same model that learnt from labels too, or did not either; own ones go first, but for those of so
    few samples that starting took most of their time.
    """
    alike = [
        row for row in rows
        if row.config.get("model") == values["model"] and bool(row.config.get("labels")) == bool(values.get("labels"))
    ]  # fmt: skip
    found: list[tuple[float, float, Overview]] = []
    for row in sorted(alike, key=lambda row: row.run.shipped):
        metrics = metrics_of(row.run)
        samples = row.status.steps_per_epoch * int(row.config.get("batch_size", 0))
        if samples and "seconds" in metrics and len(metrics):
            config = training.model_validate({key: row.config[key] for key in training.model_fields if key in row.config})
            efforts = sum(config.effort(int(epoch) - 1) for epoch in metrics["epoch"])
            found.append((float(metrics["seconds"].sum()) / efforts / samples, float(samples), row))
            if samples * efforts >= ENOUGH_SAMPLES:
                return found[-1]
    return found[0] if found else None


def _changed(path: Path) -> Stamp:
    """Time, size and inode of a file: the key under which its content is kept. Renaming a new file to it changes the inode."""
    try:
        found = path.stat()
    except OSError:
        return NO_FILE
    return found.st_mtime_ns, found.st_size, found.st_ino


_seen: dict[Path, tuple[tuple[Stamp, Stamp], dict[str, Any], Status]] = {}  # of every run, for all sessions: small, never changed


def _known(run: Run) -> tuple[dict[str, Any], Status]:
    """config.json and status.json. Lists of hundreds of runs are drawn every few seconds, so this costs two looks at the disk."""
    stamps = _changed(run.folder / "config.json"), _changed(run.folder / "status.json")
    kept = _seen.get(run.folder)
    if kept is None or kept[0] != stamps:
        kept = _seen[run.folder] = stamps, run.about() | {"config": run.config()}, run.status()
    return kept[1], kept[2]


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def _metrics(folder: str, stamp: Stamp) -> pd.DataFrame:
    return Run(Path(folder)).metrics()


@st.cache_data(ttl=600, max_entries=8, show_spinner=False)
def _sheet(folder: str, stamp: Stamp) -> dict[str, Any] | None:
    return Run(Path(folder)).sheet()


@st.cache_data(ttl=600, max_entries=512, show_spinner=False)
def _export_name(folder: str, stamp: Stamp, _task: Task) -> str:
    run = Run(Path(folder))
    try:
        return _task.knowing(run.facts()).export_name(_task.Training.parse(run.config()))
    except InputError:  # settings of another version, or a name that no file can have
        return ""


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def _tested_on(folder: str, stamp: Stamp) -> str:
    table = Run(Path(folder)).test_predictions()
    if table is None:
        return ""
    known = table[[column for column in table if not str(column).startswith("predicted.")]].astype(str)
    return hashlib.sha256(pd.util.hash_pandas_object(known, index=False).to_numpy().tobytes()).hexdigest()


@st.cache_data(ttl=600, max_entries=4, show_spinner=False)
def _test_csv(folder: str, stamp: Stamp) -> bytes | None:
    table = Run(Path(folder)).test_predictions()
    return None if table is None else table.to_csv(index=False).encode()
