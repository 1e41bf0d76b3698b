"""Files in, physical values with error bars out: a table, figures, and what could not be read."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from lib import report
from lib.model import Model
from lib.runs import Run, write_atomic
from lib.task import Config, InputError, Panel, Samples, Task
from lib.words import core

BATCH = 64  # samples that go through the network at once, whatever the files they came from: at least
MOST_AT_ONCE, BATCH_BYTES = 1024, 8 * 2**20
LEARN_FROM, LEARN_AT_MOST = 5, 64  # files that are read beforehand for what they have in common: fewer say nothing
Progress = Callable[[float, str], None]
log = logging.getLogger("lightbench")


@dataclass(frozen=True)
class Prediction:
    """Predicted values of a list of files.

    `table` has the task's prediction columns: at least one row per file in the order given, a file that failed with
    empty values and the reason in `note`. `samples` are those that were predicted, one per row of `table[predicted]`.
    """

    task: Task
    run: Run
    settings: Mapping[str, Any]
    table: pd.DataFrame
    predicted: pd.Series  # boolean, one per table row
    samples: Samples | None
    failures: list[tuple[str, str]]  # display name, sentence
    seconds: float
    panels: list[Panel] = field(default_factory=list)


@dataclass(frozen=True)
class Bundle:
    """Files that are read together, most often one, and what messages and tables call them."""

    files: tuple[tuple[Path, str], ...]

    @property
    def name(self) -> str:
        """The name of the first file, and how many more there are."""
        more = len(self.files) - 1
        return self.files[0][1] + (f" and {more} more" if more else "")


def bundled(task: Task, files: Sequence[tuple[Path, str]]) -> list[Bundle]:
    """The files as they belong together, in order."""
    return [Bundle(tuple(files[place] for place in places)) for places in task.bundles(files)]


def read_bundle(task: Task, bundle: Bundle, acquisition: Config) -> Samples | str:
    """The samples of the files, or the sentence that says why there are none; details of the unexpected go to the log."""
    name = bundle.name
    try:
        samples = task.read_bundle(bundle.files, acquisition)
    except InputError as error:
        problem = f"{error.problem}. {error.remedy}"
        return problem if error.subject == name else f"{error.subject}: {problem}"
    except MemoryError:
        log.exception("%s: out of memory", name)
        return "it needs more memory than there is. Give smaller files, or fewer at a time."
    except Exception:  # a reader met something nobody thought of: the other files must go on
        log.exception("%s: reading failed", name)
        return "it could not be read (internal error, see the log). Report it with that log."
    return samples if len(samples) else "it holds no samples. Check what was recorded."


def predict_files(
    model: Model,
    files: Sequence[tuple[Path, str]],
    acquisition: Config,
    on_progress: Progress | None = None,
    unopened: Sequence[tuple[str, str]] = (),
) -> Prediction:
    """Read and predict files, each a path and the name to show; one bad file stops nothing.

    `acquisition` is what the user knows of the instrument (an instance of the task's Acquisition). Rows keep the order
    of `files`; files of the same name stay apart. `unopened` (name, sentence) are files that failed before reading, as from
    a damaged archive: they come last. What the files tell together (`Task.learn`) fills settings that were left empty.
    `on_progress` gets the finished share, 0 to 1, and a text.
    """
    started, task = time.monotonic(), model.task
    if on_progress is not None and len(files) >= LEARN_FROM:
        on_progress(0.0, "reading what the files have in common")
    bundles = bundled(task, files)
    acquisition, learnt = _learn(task, bundles, acquisition)
    outcome: dict[int, tuple[pd.DataFrame, Samples] | str] = {}
    for chunk in _chunks(task, bundles, acquisition, outcome):
        noted = {number: _annotate(samples, learnt) for number, samples in chunk.items()} if learnt else chunk
        outcome.update(_predict_chunk(model, noted, bundles))
        if on_progress is not None and outcome:
            last = max(outcome)
            on_progress(len(outcome) / len(bundles), f"{len(outcome)} of {len(bundles)}: {bundles[last].name}")
    names = [bundle.name for bundle in bundles] + [name for name, _ in unopened]
    outcome.update({len(bundles) + i: sentence for i, (_, sentence) in enumerate(unopened)})
    table, predicted, samples = _assemble(task, names, outcome)
    failures = [(names[i], result) for i, result in sorted(outcome.items()) if isinstance(result, str)]
    settings = acquisition.model_dump(mode="json")
    panels = _panels(task, table[predicted].reset_index(drop=True), samples)
    return Prediction(task, model.run, settings, table, predicted, samples, failures, time.monotonic() - started, panels)


def _learn(task: Task, files: Sequence[Bundle], acquisition: Config) -> tuple[Config, str]:
    """What evenly spread files have in common; the settings as they are where there are few files or nothing can be said."""
    if len(files) < LEARN_FROM or type(task).learn is Task.learn:
        return acquisition, ""
    spread = files[:: -(-len(files) // LEARN_AT_MOST)]
    read = [samples for bundle in spread if not isinstance(samples := read_bundle(task, bundle, acquisition), str)]
    together = _same_shape(read)
    return task.learn(together, acquisition) if together is not None and together.inputs else (acquisition, "")


def _annotate(samples: Samples, clause: str) -> Samples:
    return samples.with_columns(note=["; ".join(part for part in (note, clause) if part) for note in samples.table["note"]])


def _chunks(task: Task, files: Sequence[Bundle], acquisition: Config, outcome: dict[int, Any]) -> Iterator[dict[int, Samples]]:
    """Samples of files, some BATCH at a time and alike in shape; reasons of unreadable files go to `outcome`."""
    chunk: dict[int, Samples] = {}
    shape: object = None
    for number, bundle in enumerate(files):
        samples = read_bundle(task, bundle, acquisition)
        if isinstance(samples, str):
            outcome[number] = samples
            continue
        new_shape = samples.common, {key: (value.shape[1:], value.dtype) for key, value in samples.inputs.items()}
        if chunk and (new_shape != shape or sum(map(len, chunk.values())) >= BATCH):
            yield chunk
            chunk = {}
        chunk[number], shape = samples, new_shape
    yield chunk


def _predict_chunk(
    model: Model, chunk: dict[int, Samples], files: Sequence[Bundle]
) -> dict[int, tuple[pd.DataFrame, Samples] | str]:
    """Tables of the chunk's files. Where the whole chunk fails, each file is tried alone."""
    if not chunk:
        return {}
    try:
        samples = Samples.concat(list(chunk.values()))
        values = _values(model, samples)
    except Exception as error:
        if len(chunk) > 1:
            return {n: result for k, s in chunk.items() for n, result in _predict_chunk(model, {k: s}, files).items()}
        number = next(iter(chunk))
        if isinstance(error, InputError):
            return {number: f"{error.problem}. {error.remedy}"}
        log.exception("%s: prediction failed", files[number].name)
        return {number: "it could not be predicted (internal error, see the log). Report it with that log."}
    results: dict[int, tuple[pd.DataFrame, Samples] | str] = {}
    start = 0
    for number, part in chunk.items():
        results[number] = values.iloc[start : start + len(part)], part
        start += len(part)
    return results


def _values(model: Model, samples: Samples) -> pd.DataFrame:
    """The prediction columns of samples: the model's values, classical estimates, file names and notes."""
    tables = [model.predict(samples, _batch(samples)), model.task.baselines(samples)]
    tables = [table.reset_index(drop=True) for table in tables]
    notes = [samples.table["note"], *(table.pop("note") for table in tables if "note" in table)]
    values = pd.concat(tables, axis=1)
    values = values.loc[:, ~values.columns.duplicated()].assign(file=samples.table["file"].to_numpy())
    said = [[part for n in row if isinstance(n, str) and n for part in n.split("; ")] for row in zip(*notes)]
    return values.assign(note=["; ".join(dict.fromkeys(row)) for row in said]).reindex(columns=_columns(model.task))


def _batch(samples: Samples) -> int:
    """How many samples go through the network at once: small ones many at a time, because each call has its cost."""
    size = sum(value.nbytes for value in samples.inputs.values()) // max(1, len(samples))
    return max(BATCH, min(MOST_AT_ONCE, BATCH_BYTES // max(1, size)))


def _columns(task: Task) -> list[str]:
    return list(task.prediction_columns())


def _assemble(
    task: Task, names: Sequence[str], outcome: Mapping[int, tuple[pd.DataFrame, Samples] | str]
) -> tuple[pd.DataFrame, pd.Series, Samples | None]:
    """All rows in the order of the files, which of them were predicted, and the samples of those."""
    good = [result for _, result in sorted(outcome.items()) if not isinstance(result, str)]
    places: list[int] = []  # of the predicted rows in the whole table
    failed: dict[int, tuple[str, str]] = {}
    row = 0
    for number, name in enumerate(names):
        result = outcome[number]
        if isinstance(result, str):
            failed[row] = (name, f"error: {result}")
            row += 1
        else:
            places += range(row, row + len(result[0]))
            row += len(result[0])
    empty = pd.DataFrame(columns=_columns(task))
    table = pd.concat([values for values, _ in good]).set_axis(places).reindex(range(row)) if good else empty.reindex(range(row))
    table = table.astype({"file": object, "note": object})
    for place, (name, note) in failed.items():
        table.loc[place, "file"], table.loc[place, "note"] = name, note
    predicted = pd.Series([place not in failed for place in range(row)], dtype=bool)
    return table, predicted, _same_shape([samples for _, samples in good])


def _same_shape(parts: list[Samples]) -> Samples | None:
    """All samples as one where their arrays agree in shape; otherwise their tables alone; None where there are none."""
    if not parts:
        return None
    shapes = [(part.common, {key: value.shape[1:] for key, value in part.inputs.items()}) for part in parts]
    alike = all(shape == shapes[0] for shape in shapes)
    return Samples.concat(parts if alike else [Samples({}, part.table) for part in parts])


def _panels(task: Task, table: pd.DataFrame, samples: Samples | None) -> list[Panel]:
    """The task's figures; if they fail, the numbers are kept and a panel says so."""
    if samples is None:
        return []
    try:
        return task.prediction_panels(table, samples)
    except Exception:
        log.exception("figures of the prediction failed")
        say = core(task.language)
        text = say("The figures could not be drawn (internal error, see the log). The table above is complete.")
        return [Panel("figures-failed", say("Figures"), text)]


def save(prediction: Prediction, folder: Path) -> list[Path]:
    """Write predictions.csv (full precision), figures.html (self-contained) and panels.json, each whole or not at all.

    The folder is made where missing. Raises InputError where it cannot be written to.
    """
    csv = prediction.table.to_csv(index=False, lineterminator="\n")
    content = {
        "predictions.csv": csv,
        "figures.html": figures_html(prediction),
        "panels.json": json.dumps([panel.to_json() for panel in prediction.panels], ensure_ascii=False),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            write_atomic(folder / name, text)
    except OSError as error:
        raise InputError(str(folder), f"it cannot be written to ({error.strerror or error})", "Choose another folder.") from error
    return [folder / name for name in content]


def figures_html(prediction: Prediction) -> str:
    """One self-contained page: what was predicted with what, the table and the figures."""
    task, run, table = prediction.task, prediction.run, prediction.table
    say = core(task.language)
    known = [f"{key} = {value}" for key, value in prediction.settings.items() if value is not None]
    unknown = [key for key, value in prediction.settings.items() if value is None]
    facts = {
        say("Model"): f"{run.name} ({run.task}/{run.id})" if run.name != run.id else f"{run.task}/{run.id}",
        say("Date"): datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        say("Rows"): say(
            "{n} predicted, {failed} files failed", n=int(prediction.predicted.sum()), failed=len(prediction.failures)
        ),
        say("Settings given"): ", ".join(known) or say("none"),
        say("Taken from each file or left at their defaults"): ", ".join(unknown) or say("none"),
    }
    told = say("All rows with full precision are in predictions.csv.")
    panels = [Panel("table", say("Predicted values"), table, told, wide=True)]
    if prediction.failures:
        failed = pd.DataFrame(prediction.failures, columns=[say("file"), say("why it failed")])
        panels.append(Panel("failures", say("Files that failed"), failed))
    return report.page(
        f"{task.say(task.title)}: {task.say(task.output_label)}", facts, [*panels, *prediction.panels],
        kicker=say("Lightbench · prediction"), language=task.language,
    )  # fmt: skip
