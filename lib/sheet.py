"""The result sheet of a run: what it was trained on, how good it is on samples it never saw, and how to make it again."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import __version__, report, tasks
from lib.figures import curves
from lib.runs import FEWEST_UNITS, Run, part, tested, write_atomic, write_json
from lib.task import InputError, Panel, Phrase, Task, typed
from lib.words import Language, Say, core, english

FORMATS = ("html", "pdf")
RESAMPLES = 200
MAX_BOOTSTRAP_UNITS = 50_000  # of more independent ones the intervals are negligible and their making is not
PACKAGES = ("torch", "pytorch-lightning", "numpy", "scipy", "pandas")
UNSEEN_BY_FOLD = "Each was predicted by the model of the fold that did not see it, nor was its cut-off chosen there."
UNSEEN = "Neither training nor the choice of the best epoch saw the test samples."


def build(run: Run) -> dict[str, Any]:
    """Score the run's test predictions; write sheet.json and model_card.md into its folder and return the sheet.

    Raises InputError where the run has no test predictions yet.
    """
    table = run.test_predictions()
    if table is None or table.empty:
        raise InputError(
            Phrase("run {run}", run=run.id), "it has no test predictions yet", "Let the training finish, then build its sheet."
        )
    task = tasks.get(run.task).knowing(run.facts())
    predicted, truth, samples = (part(table, prefix) for prefix in ("predicted.", "true.", "sample."))
    sheet: dict[str, Any] = {
        "run": run.id, "task": run.task, "name": run.name, "created_at": datetime.now(UTC).timestamp(),
        "metrics": metrics(task, predicted, truth, task.independent(samples)),
        "panels": _panels(run, task, predicted, truth, samples),
        "translations": {
            language: _panels(run, task.speaking(language), predicted, truth, samples)
            for language in task.languages() if language != "en"
        },
        "provenance": _provenance(run, task, _units(task.independent(samples), len(table))),
    }  # fmt: skip
    write_json(run.folder / "sheet.json", _plain(sheet))
    write_atomic(run.folder / "model_card.md", _card(run, task, sheet))
    return run.sheet() or sheet


def _panels(run: Run, task: Task, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[dict[str, Any]]:
    """The task's panels and the curves of training, in the task's language."""
    panels = [*task.sheet_panels(predicted, truth, samples), *_training_panels(run, task)]
    return [panel.to_json() for panel in panels]


def _plain(value: Any) -> Any:
    """The same JSON value without NaN and infinity, which JSON does not have: they become null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def metrics(task: Task, predicted: pd.DataFrame, truth: pd.DataFrame, group: pd.Series | None = None) -> list[dict[str, Any]]:
    """The task's figures of merit, the selecting one first, with a 95 % interval: the task's own, else a seeded bootstrap's.

    Whole groups are drawn where samples have one, because samples of a group are not independent. FEWEST_UNITS have intervals.
    """
    scores = task.score(predicted, truth)
    names = sorted(scores, key=lambda name: name != task.monitor.name)
    units = _units(group, len(truth))
    n_units = int(units.max(initial=-1)) + 1
    low, high = _bootstrap(task, predicted, truth, units) if FEWEST_UNITS <= n_units <= MAX_BOOTSTRAP_UNITS else ({}, {})
    for name, (lowest, highest) in task.intervals(predicted, truth, group).items() if n_units >= FEWEST_UNITS else ():
        low[name], high[name] = lowest, highest
    return [
        {"name": name, "value": float(scores[name]), "unit": task.monitor.unit if name == task.monitor.name else "",
         "low": _known(low.get(name)), "high": _known(high.get(name))}
        for name in names
    ]  # fmt: skip


def _units(group: pd.Series | None, n: int) -> np.ndarray:
    """Numbers from 0 (n,) of what is independent among n samples: their groups, or each of them."""
    return np.arange(n) if group is None else pd.factorize(group, use_na_sentinel=False)[0]


def _known(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _bootstrap(
    task: Task, predicted: pd.DataFrame, truth: pd.DataFrame, units: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Lower and upper end of the central 95 % of every score over RESAMPLES draws, with replacement, of units (n,) from 0."""
    rng = np.random.default_rng(0)
    members = np.split(np.argsort(units, kind="stable"), np.cumsum(np.bincount(units))[:-1])
    draws = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        draws.append(task.score(predicted.iloc[rows].reset_index(drop=True), truth.iloc[rows].reset_index(drop=True)))
    scores = pd.DataFrame(draws).astype(float)
    low, high = scores.quantile(0.025), scores.quantile(0.975)
    return {str(k): float(v) for k, v in low.items()}, {str(k): float(v) for k, v in high.items()}


def _training_panels(run: Run, task: Task) -> list[Panel]:
    """Loss of train and validation together, and the selecting score, with the best epoch marked; none of a single epoch."""
    history, status, monitor, say = run.metrics(), run.status(), task.monitor, core(task.language)
    if len(history) < 2:
        return []
    losses = {"train_loss": say("train"), "validation_loss": say("validation")}
    told = say("Loss per epoch on training and validation samples; the dotted line is the epoch whose weights were kept.")
    told = f"{told} {task.say(task.loss_note)}" if task.loss_note else told
    loss = _in_words(curves(history, losses, say("loss"), status.best_epoch), say)
    panels = [Panel("loss-curves", say("Training and validation loss"), loss, told)]
    if monitor.name in history:
        name = task.say(monitor.name)
        title = f"{name} ({monitor.unit})" if monitor.unit else name
        score = _in_words(curves(history, {monitor.name: say("validation")}, title, status.best_epoch), say)
        told = (
            say("{score} on validation samples; lower is better. It selects the best epoch.", score=title)
            if monitor.goal == "min"
            else say("{score} on validation samples; higher is better. It selects the best epoch.", score=title)
        )
        panels.append(Panel("score-curve", say("Validation score"), score, told))
    return [*panels, *task.curves(history, status.best_epoch)]


def _in_words(fig: go.Figure, say: Say) -> go.Figure:
    """The words that `curves` puts in, in the sheet's language."""
    return fig.update_xaxes(title_text=say("epoch")).for_each_annotation(lambda mark: mark.update(text=say("best")))


def _provenance(run: Run, task: Task, units: np.ndarray) -> dict[str, Any]:
    """Where the model comes from: data, seed, settings, versions, duration, and the command that makes it again.

    `units` (n,) number what is independent among the test samples.
    """
    status, about, config = run.status(), run.about(), run.config()
    versions = {"lightbench": str(about.get("version") or __version__), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    groups = {key: field.json_schema_extra for key, field in task.Training.model_fields.items()}
    data = {
        key: value for key, value in config.items() if isinstance(extra := groups.get(key), dict) and extra.get("group") == "data"
    }
    # The trainer builds the sheet before it says that it is done: until then its last sign of life is the end.
    return {
        "command": command(run, task), "seed": config.get("seed"), "test_samples": len(units),
        "test_units": int(units.max(initial=-1)) + 1, "unseen": UNSEEN_BY_FOLD if about.get("folds") else UNSEEN,
        "data": data, "config": config, "versions": versions, "seconds": status.took_s, "trained_at": status.last_at,
        "epochs": status.epoch, "best_epoch": status.best_epoch, "executor": about.get("executor"),
    }  # fmt: skip


def command(run: Run, task: Task) -> str:
    """The command line that trains this run again: only settings that differ from the defaults; or that joins its folds."""
    if folds := run.about().get("folds"):
        return shlex.join(["python", "-m", "lib", "sheet", *folds])
    defaults = task.Training().model_dump(mode="json")
    changed = {key: value for key, value in run.config().items() if key not in defaults or defaults[key] != value}
    words = ["python", "-m", "lib", "train", run.task]
    for key, value in changed.items():
        words += ["--set", f"{key}={typed(value)}"]
    if run.name != run.id:
        words += ["--name", run.name]
    return shlex.join(words)


# --- as text and pages ----------------------------------------------------------------------------------------------
def _shown(value: Any) -> str:
    """A number to four digits, anything else as it is."""
    if value is None or value == "":
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _metrics_table(task: Task, sheet: Mapping[str, Any], say: Say) -> pd.DataFrame:
    rows = [
        {say("figure of merit"): task.say(m["name"]), say("value"): _shown(m["value"]), say("unit"): m["unit"],
         say("95 % interval"): "–" if m["low"] is None else say("{low} to {high}", low=_shown(m["low"]), high=_shown(m["high"]))}
        for m in sheet["metrics"]
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    return table if any(m["unit"] for m in sheet["metrics"]) else table.drop(columns=say("unit"))


def _duration(seconds: float | None, say: Say = english) -> str:
    if seconds is None:
        return say("unknown")
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _card(run: Run, task: Task, sheet: Mapping[str, Any]) -> str:
    """The model card in Markdown: use, data, seed, settings, figures of merit, limits, how to make it again."""
    made = sheet["provenance"]
    scores = "\n".join(
        f"| {m['name']} | {_shown(m['value'])} | {_shown(m['low'])} to {_shown(m['high'])} |" for m in sheet["metrics"]
    )
    settings = "\n".join(f"| {key} | {_shown(value)} |" for key, value in made["config"].items())
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    data = ", ".join(f"{key} = {value}" for key, value in made["data"].items() if value != "")
    return f"""# {task.title}: {run.name}

Run `{run.task}/{run.id}`, made with Lightbench {made["versions"]["lightbench"]}.

## Intended use

{task.summary} Input: {task.input_label}. Output: {task.output_label}.

## Data

Seed {made["seed"]}. {data or "See the settings below"}.
Tested on {tested(sheet, english)}. {made["unseen"]}

## Figures of merit on the test samples

| figure of merit | value | 95 % interval |
|---|---|---|
{scores}

{_chosen(task, made, run.about().get("folds", ()))}

## Limits

- The figures hold for samples like those of the data above; for others they say nothing.
- Predictions that the task can tell to be outside are marked, with the reason; that check is not complete.
- Intervals are calibrated on validation samples of the same kind as the test samples.

## Settings

| setting | value |
|---|---|
{settings}

Made with {versions}, in {_duration(made["seconds"])}.

## How to make it again

```
{made["command"]}
```
"""


def _chosen(task: Task, made: Mapping[str, Any], folds: Sequence[str]) -> str:
    """Which weights are meant."""
    if folds:
        return f"These are {len(folds)} models, one per fold: {', '.join(folds)}."
    return f"The model is the best epoch ({_shown(made['best_epoch'])}) on validation, chosen by {task.monitor.name}."


def html(run: Run, language: Language = "en") -> str:
    """The sheet as one self-contained page that prints on A4, with a line to sign; in English where it has no other language.

    The sheet is built first where the run has none. Raises InputError where the run is not ready for one.
    """
    sheet, task = run.sheet() or build(run), tasks.get(run.task)
    if language in task.languages()[1:] and language not in sheet.get("translations", {}) and not run.shipped:
        sheet = build(run)  # of a time before the task could say it in that language
    panels = sheet.get("translations", {}).get(language)
    task = task.speaking("en" if panels is None else language)
    say, made = core(task.language), sheet["provenance"]
    settings = pd.DataFrame([(k, _shown(v)) for k, v in made["config"].items()], columns=[say("setting"), say("value")])
    shown = [
        Panel(
            "metrics", say("Figures of merit"), _metrics_table(task, sheet, say),
            say("On the test samples; intervals from resampling them (95 %, bootstrap)."),
        ),
        *(Panel.from_json(panel) for panel in panels or sheet["panels"]),
        Panel("settings", say("Settings"), settings),
        Panel("again", say("How to make it again"), f"```\n{made['command']}\n```"),
    ]  # fmt: skip
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    return report.page(
        f"{task.say(task.title)}: {run.name}", _facts(run, task, sheet, say), shown, kicker=say("Lightbench · result sheet"),
        footer=say("Made with {versions}.", versions=versions), signature=True, language=task.language,
    )  # fmt: skip


def _facts(run: Run, task: Task, sheet: Mapping[str, Any], say: Say) -> dict[str, str]:
    """What stands below the heading."""
    made = sheet["provenance"]
    return {
        say("Run"): f"{run.task}/{run.id}",
        say("Measures"): say(
            "{output}, from {input}", output=task.say(task.output_label), input=task.say(task.input_label)
        ),
        say("Trained"): _trained(made, say),
        say("Tested on"): say("{samples}. {unseen}", samples=tested(sheet, say), unseen=say(made["unseen"])),
        say("Sheet made"): _date(sheet["created_at"], say),
    }  # fmt: skip


def _trained(made: Mapping[str, Any], say: Say) -> str:
    """When, for how long, and with which seed."""
    when = {"date": _date(made["trained_at"], say), "time": _duration(made["seconds"], say), "seed": made["seed"]}
    if made["epochs"] == 1:
        return say("{date}, 1 epoch in {time}, seed {seed}", **when)
    return say("{date}, {epochs} epochs in {time}, seed {seed}", epochs=made["epochs"], **when)


def _date(seconds: float | None, say: Say) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z") if seconds else say("unknown")


def pdf(run: Run, path: Path, language: Language = "en") -> Path:
    """The sheet as PDF at `path`, whole or not at all; returns the path. Raises InputError where no browser is found."""
    return save(run, path, "pdf", language)


def save(run: Run, path: Path, format_: str, language: Language = "en") -> Path:
    """Write the sheet as "html" or "pdf", whole or not at all, and return the path.

    Raises InputError: another format, no test predictions yet, no browser for a PDF, a place that cannot be written to.
    """
    if format_ not in FORMATS:
        raise InputError(
            Phrase("format {format_!r}", format_=format_),
            "it is not known",
            Phrase("Formats: {formats}.", formats=", ".join(FORMATS)),
        )
    text = html(run, language)
    content = report.pdf(text, f"result sheet of {run.id}") if format_ == "pdf" else text
    try:
        write_atomic(path, content)
    except OSError as error:
        raise InputError(
            str(path), Phrase("it cannot be written ({why})", why=error.strerror or error), "Choose another place."
        ) from error
    return path
