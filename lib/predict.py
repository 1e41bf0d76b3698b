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

import numpy as np
import pandas as pd

from lib import report
from lib.kept import Kept
from lib.model import Model
from lib.runs import Run, write_atomic
from lib.task import Config, InputError, Panel, Phrase, Samples, Task
from lib.words import core

BATCH = 64  # samples that go through the network at once, whatever the files they came from: at least
MOST_AT_ONCE, BATCH_BYTES = 1024, 8 * 2**20
SLICE = 16  # samples at a time where the network judges things in them
MOST_EXPLAINED = 32  # samples of which is told why they are predicted so, where a task can tell
READING = 0.5  # share of the work on a file that is reading it
MOST_KEPT_BYTES = 512 * 2**20  # of samples kept beside a prediction, to be looked at
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
    remarks: list[tuple[str, str]] = field(default_factory=list)  # display name, what was done to make the file fit
    judged: pd.DataFrame = field(default_factory=pd.DataFrame)  # of the things in the samples, where the network judged those


@dataclass(frozen=True)
class Bundle:
    """Files that are read together, most often one, and what messages and tables call them."""

    files: tuple[tuple[Path, str], ...]
    rows: tuple[int, int] | None = None  # of their samples, from the first to before the second; None for all of them

    @property
    def name(self) -> str:
        """The name of the first file, and how many more there are."""
        more = len(self.files) - 1
        return self.files[0][1] + (f" and {more} more" if more else "")


def bundled(task: Task, files: Sequence[tuple[Path, str]], acquisition: Config) -> list[Bundle]:
    """The files as they belong together, in order."""
    return [Bundle(tuple(files[place] for place in places)) for places in task.bundles(files, acquisition)]


def read_bundle(task: Task, bundle: Bundle, acquisition: Config) -> Samples | str:
    """The samples of the files, or the sentence that says why there are none; details of the unexpected go to the log.

    Sentences are in the task's language.
    """
    name = bundle.name
    try:
        samples = task.read_bundle(bundle.files, acquisition)
        if bundle.rows is not None:
            samples = samples.take(np.arange(*bundle.rows))
    except InputError as error:
        inform = error.spoken(task.tell)
        problem = f"{inform.problem}. {inform.remedy}"
        return problem if error.subject == name else f"{inform.subject}: {problem}"
    except MemoryError:
        log.exception("%s: out of memory", name)
        return task.tell("it needs more memory than there is. Give smaller files, or fewer at a time.")
    except Exception:  # a reader met something nobody thought of: the other files must go on
        log.exception("%s: reading failed", name)
        return task.tell("it could not be read (internal error, see the log). Report it with that log.")
    return samples if len(samples) else task.tell("it holds no samples. Check what was recorded.")


def told(task: Task, samples: Samples) -> list[tuple[str, str]]:
    """What was done to make the files of samples fit, in the task's language: (file, remark)."""
    return [(file, task.tell(remark)) for file, remark in samples.remarks]


def predict_files(
    model: Model,
    files: Sequence[tuple[Path, str]],
    acquisition: Config,
    on_progress: Progress | None = None,
    unopened: Sequence[tuple[str, str]] = (),
    kept: Kept | None = None,
) -> Prediction:
    """Read and predict files, each a path and the name to show; one bad file stops nothing.

    `acquisition` is what the user knows of the instrument (an instance of the task's Acquisition). Rows keep the order
    of `files`; files of the same name stay apart. `unopened` (name, sentence) are files that failed before reading, as from
    a damaged archive: they come last. What the files tell together (`Task.learn`) fills settings that were left empty.
    `on_progress` gets the finished share, 0 to 1, and a text. What `kept` has is not done again, and what is done is kept in it.
    """
    started, task = time.monotonic(), model.task
    if on_progress is not None and len(files) >= LEARN_FROM:
        on_progress(0.0, "reading what the files have in common")
    bundles = bundled(task, files, acquisition)
    acquisition, learnt = learn(task, bundles, acquisition)
    done = predict_bundles(model, bundles, acquisition, learnt, on_progress, kept)
    return finished(task, model.run, [done, Done(unopened)], acquisition, time.monotonic() - started)


@dataclass(frozen=True)
class Done:
    """What bundles gave. `rows` has the name of each, in order, with how many rows it gave or the sentence why none.

    `values` are the prediction columns of all rows, `judged` what was judged in them, and `remarks` (name, what was done to make
    the file fit). `samples` are those behind the rows: their tables alone where their arrays are not alike; None without rows.
    """

    rows: Sequence[tuple[str, int | str]]
    values: pd.DataFrame = field(default_factory=pd.DataFrame)
    samples: Samples | None = None
    judged: pd.DataFrame = field(default_factory=pd.DataFrame)
    remarks: list[tuple[str, str]] = field(default_factory=list)


def predict_bundles(
    model: Model, bundles: Sequence[Bundle], acquisition: Config, learnt: str, on_progress: Progress | None, kept: Kept | None
) -> Done:
    """Read and predict bundles with what `learn` gave; the rest is as `predict_files` has it."""
    outcome: dict[int, Outcome | str] = {}
    for chunk in _chunks(model.task, bundles, acquisition, outcome, on_progress):
        noted = {number: _annotate(samples, learnt) for number, samples in chunk.items()} if learnt else chunk
        advance = _advance(model.task, on_progress, len(outcome), len(chunk), bundles)
        outcome.update(_predict_chunk(model, noted, bundles, advance, kept))
        if on_progress is not None and outcome:
            last = max(outcome)
            far = Phrase("{n} of {all}: {name}", n=len(outcome), all=len(bundles), name=bundles[last].name)
            on_progress(len(outcome) / len(bundles), model.task.tell(far))
    every = [outcome[number] for number in range(len(bundles))]
    good = [result for result in every if not isinstance(result, str)]
    counts = [result if isinstance(result, str) else len(result.values) for result in every]
    samples = _same_shape([result.samples for result in good])
    return Done(
        list(zip([bundle.name for bundle in bundles], counts, strict=True)),
        pd.concat([result.values for result in good], ignore_index=True) if good else pd.DataFrame(),
        _explained(model, samples) if samples is not None else None,
        _renumbered([(result.judged, len(result.samples)) for result in good]),
        [remark for result in good for remark in told(model.task, result.samples)],
    )


def _explained(model: Model, samples: Samples) -> Samples:
    """The samples with what the task tells of why the first of them are predicted so; if that fails, without."""
    try:
        return model.task.explain(model.network, samples, MOST_EXPLAINED)
    except Exception:  # the numbers are there, and only a figure lacks
        log.exception("the prediction could not be explained")
        return samples


def finished(task: Task, run: Run, parts: Sequence[Done], acquisition: Config, seconds: float) -> Prediction:
    """The prediction that parts make together, in their order."""
    rows = [row for part in parts for row in part.rows]
    good = [part for part in parts if part.samples is not None]
    judged = _renumbered([(part.judged, len(part.values)) for part in good])
    table, predicted = _assemble(task, rows, [part.values for part in good])
    samples = _same_shape([part.samples for part in good if part.samples is not None])
    failures = [(name, told) for name, told in rows if isinstance(told, str)]
    panels = _panels(task, table[predicted].reset_index(drop=True), samples, judged)
    remarks, settings = [remark for part in parts for remark in part.remarks], acquisition.model_dump(mode="json")
    return Prediction(task, run, settings, table, predicted, samples, failures, seconds, panels, remarks, judged)


@dataclass(frozen=True)
class Outcome:
    """One bundle predicted: values, one row per sample; the samples; and what was judged in them, `of` the row it is in."""

    values: pd.DataFrame
    samples: Samples
    judged: pd.DataFrame


def _renumbered(parts: Sequence[tuple[pd.DataFrame, int]]) -> pd.DataFrame:
    """All that was judged in parts of so many rows, `of` a row of all of them together."""
    judged, row = [], 0
    for part, n in parts:
        judged.append(part.assign(of=part["of"] + row) if len(part.columns) else part)
        row += n
    return pd.concat(judged, ignore_index=True) if judged else pd.DataFrame()


def _advance(
    task: Task, on_progress: Progress | None, done: int, more: int, bundles: Sequence[Bundle]
) -> Callable[[int, int], None]:
    """Tells how far a chunk of `more` bundles, which have been read, is by its samples."""

    def advance(samples: int, total: int) -> None:
        if on_progress is not None and total > SLICE:
            share = (done + more * (READING + (1 - READING) * samples / total)) / len(bundles)
            on_progress(share, task.tell(Phrase("{n} of {all}: {name}", n=samples, all=total, name=bundles[done].name)))

    return advance


def learn(task: Task, files: Sequence[Bundle], acquisition: Config) -> tuple[Config, str]:
    """What evenly spread files have in common, and a clause for every note.

    The settings as they are where there are few files or nothing can be said.
    """
    if len(files) < LEARN_FROM or type(task).learn is Task.learn:
        return acquisition, ""
    spread = files[:: -(-len(files) // LEARN_AT_MOST)]
    read = [samples for bundle in spread if not isinstance(samples := read_bundle(task, bundle, acquisition), str)]
    together = _same_shape(read)
    return task.learn(together, acquisition) if together is not None and together.inputs else (acquisition, "")


def _annotate(samples: Samples, clause: str) -> Samples:
    return samples.with_columns(note=["; ".join(part for part in (note, clause) if part) for note in samples.table["note"]])


def _chunks(
    task: Task, files: Sequence[Bundle], acquisition: Config, outcome: dict[int, Any], on_progress: Progress | None
) -> Iterator[dict[int, Samples]]:
    """Samples of files, some BATCH at a time and alike in shape and columns; reasons of unreadable files go to `outcome`.

    Were their columns not alike, one that a file lacks would pass for values that are missing. What the task reports while it
    reads one file of many samples goes to `on_progress`.
    """
    chunk: dict[int, Samples] = {}
    shape: object = None
    for number, bundle in enumerate(files):
        heard = task
        if on_progress is not None:
            before = len(outcome) + READING * (number - len(outcome))
            heard = task.reporting(scaled(on_progress, before / len(files), (before + READING) / len(files)))
        samples = read_bundle(heard, bundle, acquisition)
        if isinstance(samples, str):
            outcome[number] = samples
            continue
        arrays = {key: (value.shape[1:], value.dtype) for key, value in samples.inputs.items()}
        new_shape = samples.common, arrays, {*samples.table.columns}
        if chunk and (new_shape != shape or sum(map(len, chunk.values())) >= BATCH):
            yield chunk
            chunk = {}
        chunk[number], shape = samples, new_shape
    yield chunk


def scaled(on_progress: Progress, low: float, high: float) -> Progress:
    """What tells `on_progress` a part of the work, from the share `low` to `high` of the whole."""
    return lambda share, text: on_progress(low + share * (high - low), text)


def _predict_chunk(
    model: Model,
    chunk: dict[int, Samples],
    files: Sequence[Bundle],
    advance: Callable[[int, int], None],
    kept: Kept | None,
) -> dict[int, Outcome | str]:
    """Tables of the chunk's files. Where the whole chunk fails, each file is tried alone."""
    if not chunk:
        return {}
    try:
        samples = Samples.concat(list(chunk.values()))
        values, judged = _in_slices(model, samples, advance, kept)
    except Exception as error:
        if len(chunk) > 1:
            alone = [_predict_chunk(model, {number: part}, files, advance, kept) for number, part in chunk.items()]
            return {number: result for one in alone for number, result in one.items()}
        number = next(iter(chunk))
        if isinstance(error, InputError):
            inform = error.spoken(model.task.tell)
            return {number: f"{inform.problem}. {inform.remedy}"}
        log.exception("%s: prediction failed", files[number].name)
        return {number: model.task.tell("it could not be predicted (internal error, see the log). Report it with that log.")}
    results: dict[int, Outcome | str] = {}
    start = 0
    for number, part in chunk.items():
        inside = judged
        if len(judged.columns):
            inside = judged[judged["of"].between(start, start + len(part) - 1)]
            inside = inside.assign(of=inside["of"] - start).reset_index(drop=True)
        results[number] = Outcome(values.iloc[start : start + len(part)], part, inside)
        start += len(part)
    return results


def _in_slices(
    model: Model, samples: Samples, advance: Callable[[int, int], None], kept: Kept | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prediction columns of all samples and what was judged in them, so many samples at a time that memory stays level."""
    if type(model.task).parts is Task.parts:
        return _values(model, samples, samples)[0], pd.DataFrame()
    every: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for start in range(0, len(samples), SLICE):
        some = samples.take(np.arange(start, min(start + SLICE, len(samples))))
        done = kept.get(some, start) if kept is not None else None
        if done is None:
            done = _values(model, model.task.parts(some), some)
            if kept is not None:
                kept.put(some, start, *done)
        every.append((done[0], done[1].assign(of=done[1]["of"] + start)))
        advance(start + len(some), len(samples))
    values, judged = (pd.concat(tables, ignore_index=True) for tables in zip(*every, strict=True))
    return values, judged


def _values(model: Model, parts: Samples, samples: Samples) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The prediction columns of samples (the model's values, classical estimates, file names and notes) and of their parts."""
    whole, judged = model.task.whole(model.predict(parts, _batch(parts)), samples)
    tables = [table.reset_index(drop=True) for table in (whole, model.task.baselines(samples))]
    notes = [samples.table["note"], *(table.pop("note") for table in tables if "note" in table)]
    values = pd.concat(tables, axis=1)
    values = values.loc[:, ~values.columns.duplicated()].assign(file=samples.table["file"].to_numpy())
    said = [[part for n in row if isinstance(n, str) and n for part in n.split("; ")] for row in zip(*notes)]
    return values.assign(note=["; ".join(dict.fromkeys(row)) for row in said]).reindex(columns=_columns(model.task)), judged


def _batch(samples: Samples) -> int:
    """How many samples go through the network at once: small ones many at a time, because each call has its cost."""
    size = sum(value.nbytes for value in samples.inputs.values()) // max(1, len(samples))
    return max(BATCH, min(MOST_AT_ONCE, BATCH_BYTES // max(1, size)))


def _columns(task: Task) -> list[str]:
    return list(task.prediction_columns())


def _assemble(
    task: Task, rows: Sequence[tuple[str, int | str]], values: Sequence[pd.DataFrame]
) -> tuple[pd.DataFrame, pd.Series]:
    """All rows in the order of the files, and which of them were predicted."""
    places: list[int] = []  # of the predicted rows in the whole table
    failed: dict[int, tuple[str, str]] = {}
    row = 0
    for name, told in rows:
        if isinstance(told, str):
            failed[row] = (name, f"error: {told}")
            row += 1
        else:
            places += range(row, row + told)
            row += told
    empty = pd.DataFrame(columns=_columns(task))
    table = pd.concat(values).set_axis(places) if values else empty
    if failed:  # their cells are empty; what is counted stays whole numbers
        table = table.astype({name: "Int64" for name, kind in table.dtypes.items() if kind.kind == "i"})
    table = table.reindex(range(row))
    table = table.astype({"file": object, "note": object})
    for place, (name, note) in failed.items():
        table.loc[place, "file"], table.loc[place, "note"] = name, note
    predicted = pd.Series([place not in failed for place in range(row)], dtype=bool)
    return table, predicted


def _same_shape(parts: list[Samples]) -> Samples | None:
    """All samples as one where their arrays agree in shape; otherwise their tables alone; None where there are none."""
    if not parts:
        return None
    shapes = [(part.common, {key: value.shape[1:] for key, value in part.inputs.items()}) for part in parts]
    alike = all(shape == shapes[0] for shape in shapes)
    return Samples.concat(parts if alike else [Samples({}, part.table) for part in parts])


def _panels(task: Task, table: pd.DataFrame, samples: Samples | None, judged: pd.DataFrame) -> list[Panel]:
    """The task's figures; if they fail, the numbers are kept and a panel says so."""
    if samples is None:
        return []
    try:
        return task.prediction_panels(table, samples, judged)
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
    more: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            write_atomic(folder / name, text)
        if prediction.samples is not None:
            good = prediction.table[prediction.predicted].reset_index(drop=True)
            more = prediction.task.write_prediction(good, prediction.judged, prediction.samples, folder)
    except OSError as error:
        raise InputError(
            str(folder), Phrase("it cannot be written to ({why})", why=error.strerror or error), "Choose another folder."
        ) from error
    return [*(folder / name for name in content), *more]


def keep_samples(prediction: Prediction, folder: Path) -> None:
    """Write what was predicted into `folder`/samples, in the order of the table's predicted rows; nothing where it is large."""
    samples = prediction.samples
    if samples is not None and 0 < sum(values.nbytes for values in samples.inputs.values()) <= MOST_KEPT_BYTES:
        (folder / "samples").mkdir()
        samples.save(folder / "samples")


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
    if prediction.remarks:
        mended = pd.DataFrame(prediction.remarks, columns=[say("file"), say("what was done to make it fit")])
        panels.append(Panel("remarks", say("How the files were read"), mended))
    return report.page(
        f"{task.say(task.title)}: {task.say(task.output_label)}", facts, [*panels, *prediction.panels],
        kicker=say("Lightbench · prediction"), language=task.language,
    )  # fmt: skip
