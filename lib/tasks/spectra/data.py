"""From a table of spectra to batches: classes, groups, a four-way split, and rows gathered batch by batch."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from lib.splits import FINEST, Parts, absent, folds, four_way, leaks, numbered, warnings_of
from lib.task import InputError, Phrase, Samples, Split, TrainingData
from lib.tasks.spectra.arrays import as_samples, instrument_numbers
from lib.tasks.spectra.augment import augment, check_zero_points
from lib.tasks.spectra.config import Simulation
from lib.tasks.spectra.learning import CLASSES, CODE, LABEL, RESERVED, class_weights, codes_of, for_training
from lib.tasks.spectra.population import draw_population
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.sources import SIMULATED, Source, aligned, check_tabular, chosen, complete, load, load_test
from lib.tasks.spectra.table import DATE, GROUP, INSTRUMENT, SAMPLE, SpectraTable
from lib.tasks.spectra.targets import NO_CLASS, Classes, Target, balance, classify, restarting, settle_rare, settled_target
from lib.tasks.spectra.transfer import learn, tested
from lib.tasks.spectra.verdicts import asked
from lib.words import as_phrase, plain

IS_VAL = "The test rows also selected the best epoch (test_source = is-val): what they tell is too good."
SPLIT, ORDER, CHANGE = range(2, 5)  # streams of random numbers under one seed, as SIMULATED
MEAN_ROWS = 500  # enough for a class mean
HASHED_ROWS = 4096  # at once
DRAWN_ROWS, MEASURED_ROWS = 100_000, 5000  # simulated at most for a balance of classes: labels alone; with spectra
_UNIT = {"specimen": "specimen", "instrument": "instrument", "date": "day", "nothing": "row"}


# --- what of it is used -----------------------------------------------------------------------------------------------
def specimens_of(rows: pd.DataFrame) -> np.ndarray:
    """The specimen of each row (n,): GROUP, else SAMPLE, else the row itself."""
    column = next((c for c in (GROUP, SAMPLE) if c in rows), None)
    return np.arange(len(rows)) if column is None else rows[column].to_numpy(object)


def groups_of(rows: pd.DataFrame, config: Training, name: str) -> np.ndarray | None:
    """What must stay together (n,), empty where unknown; None for nothing. Raises InputError where the table does not tell."""
    if config.group_by == "nothing":
        return None
    if config.group_by == "specimen":
        return specimens_of(rows)
    column = INSTRUMENT if config.group_by == "instrument" else DATE
    values = rows[column] if column in rows else pd.Series([], dtype=object)
    if column == DATE:
        values = pd.to_datetime(values, errors="coerce").dt.strftime("%Y-%m-%d")
    if not (values.notna() & (values.astype(str) != "")).any():
        remedy = "Choose group_by = specimen, or name the column on the Clean page."
        raise InputError(
            name,
            Phrase("does not tell the {group_by} of its samples, by which to group", group_by=as_phrase(config.group_by)),
            remedy,
        )
    return values.to_numpy(object)


def unused(config: Training) -> list[str]:
    """A sentence on tabular columns that were named and that the family does not take."""
    if config.beside == config.tabular:
        return []
    told = "{model} looks at the spectra alone: {columns} is not used."
    return [Phrase(told, model=config.model, columns=", ".join(config.tabular))]


# --- classes and parts ------------------------------------------------------------------------------------------------
def classes_of(rows: pd.DataFrame, whole: np.ndarray, target: Target, name: str) -> Classes:
    """The classes of the target before rare ones are settled; samples that are not `whole` (n,), which lack a point, have none.

    Raises InputError as `classify`, and where no sample is left.
    """
    classes = classify(rows, target)
    missing = ~whole & (classes.codes != NO_CLASS)
    if missing.any():
        n = int(missing.sum())
        note = (
            Phrase("1 sample lacks points of the chosen channels and is left out.")
            if n == 1
            else Phrase("{n} samples lack points of the chosen channels and are left out.", n=n)
        )
        classes = replace(classes, codes=np.where(missing, NO_CLASS, classes.codes), notes=(*classes.notes, note))
    if not (classes.codes != NO_CLASS).any():
        raise InputError(name, "no sample with a label has all points of the chosen channels", "Choose other channels.")
    return classes


def settle(classes: Classes, groups: np.ndarray | None, config: Training, name: str) -> tuple[Classes, list[str], list[str]]:
    """The classes that are learnt, each in enough groups for every fold; names merged into "other"; what was left out, told.

    Raises InputError where the groups or the rarity of classes do not allow a training.
    """
    known = np.flatnonzero(classes.codes != NO_CLASS)
    units, word = len(known) if groups is None else len(np.unique(numbered(groups[known]))), _UNIT[config.group_by]
    if units < config.n_splits:
        problem = Phrase(
            "{n} {units} cannot fill {folds} folds",
            n=units,
            units=as_phrase(f"{word}s" if units != 1 else word),
            folds=config.n_splits,
        )
        fewer = Phrase("n_splits of at most {n}", n=units) if units > 1 else Phrase("a larger table")
        raise InputError(name, problem, Phrase("Choose {fewer}, or another group_by.", fewer=fewer))
    notes = []
    if groups is not None and config.group_by != "specimen":  # else settling them would only say that they are rare
        notes = warnings_of(np.array(classes.names, object)[classes.codes[known]], groups[known], 1, word)
    settled = settle_rare(classes, config.n_splits, config.rare, None if groups is None else numbered(groups))
    gone = [label for label in classes.names if label not in settled.names]
    return settled, gone if config.rare == "merge" else [], [*settled.notes, *notes]


def split(codes: np.ndarray, groups: np.ndarray | None, specimens: np.ndarray, config: Training) -> tuple[Parts, list[str]]:
    """The four parts of n rows and sentences on them; the test parts of all folds of one seed are disjoint and cover the rows.

    Instruments or days may be too few for four parts: then the test part is such groups as the others never saw, and the
    others are split by specimen. Where the test rows are not a fold of their own, the fold validates, and tests under "is-val".
    Raises InputError where no split can be made.
    """
    if config.test_source != "like-val":
        alike = config.model_copy(update={"test_source": "like-val"})
        parts, notes = split(codes, groups, specimens, alike)
        rest = np.sort(np.concatenate([parts.train, parts.validation]))
        is_val = config.test_source == "is-val"
        return Parts(rest, parts.test, parts.calibration, parts.test if is_val else parts.test[:0]), notes + [IS_VAL] * is_val
    rng = np.random.default_rng([config.seed, SPLIT])
    shares = config.validation_percent / 100, config.calibration_percent / 100
    if groups is not None and len(np.unique(numbered(groups))) == len(codes):
        groups = None  # each row is its own group: folds of rows are the same promise, and far quicker to make
    try:
        if groups is None or config.group_by == "specimen":
            return four_way(codes, rng, groups, config.n_splits, config.current_split, *shares), []
        rest, test = folds(codes, config.n_splits, rng, groups)[config.current_split]
        if len(np.unique(numbered(groups[rest]))) >= 3:
            again = np.random.default_rng([config.seed, SPLIT])  # the same folds
            return four_way(codes, again, groups, config.n_splits, config.current_split, *shares), []
        note = Phrase(
            "There are too few {units} for four parts: the test part has its own, and the others are split by specimen.",
            units=as_phrase(f"{_UNIT[config.group_by]}s"),
        )
        return _inner(rest, test, codes, specimens, shares, rng), [note]
    except ValueError as error:
        problem = error.args[0] if error.args and isinstance(error.args[0], Phrase) else str(error).rstrip(".")
        raise InputError("split", problem, "Use fewer folds, smaller shares or a larger table.") from error


def _inner(
    rest: np.ndarray,
    test: np.ndarray,
    codes: np.ndarray,
    specimens: np.ndarray,
    shares: tuple[float, float],
    rng: np.random.Generator,
) -> Parts:
    """Parts whose test rows are given: the rest by specimen. Raises ValueError where the rest cannot be split."""
    together = numbered(specimens[rest])
    pieces = min(FINEST, len(np.unique(together)))
    held = [rest[rows] for _, rows in folds(codes[rest], pieces, rng, together)]
    counts = [max(1, round(share * len(codes) / len(rest) * pieces)) for share in shares]
    if sum(counts) >= pieces:
        raise ValueError(Phrase("The shares of validation and calibration must leave rows to train on"))
    edges = np.cumsum([0, *counts, pieces - sum(counts)])
    validation, calibration, train = (np.sort(np.concatenate(held[a:b])) for a, b in pairwise(edges))
    return Parts(train, validation, calibration, test)


# --- before training --------------------------------------------------------------------------------------------------
def balance_of(config: Training, source: Source | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The classes of a training that is yet to start, and sentences on what may go wrong with them.

    A row per class as the table has them: class, samples, percent (of samples with a class), groups (what must stay together).
    The sentences tell what is left out, which classes are too rare and what becomes of them, which live in one group, instrument
    or day alone, and why a training would refuse. `source` is what `load` gave, where the caller has it. Of a simulated
    population labels alone are drawn, up to DRAWN_ROWS samples the very ones that training draws. Raises InputError as a training
    does where there is no table, channel, label or group.
    """
    rows, whole, name, notes = _rows_of(config, source)
    groups = groups_of(rows, config, name)
    target, told = settled_target(config.kind, config.of, config.column, rows, name)
    classes = classes_of(rows, whole, target, name)
    found = balance(classes, np.arange(len(rows)) if groups is None else numbered(groups))
    settled, told = classes, [*notes, *told, *unused(config), *classes.notes]
    try:
        check_tabular(rows, config.tabular, target.column, name)
        settled, _, more = settle(classes, groups, config, name)
        told += more
    except InputError as error:
        told.append(error.sentence())
    known, kept = (np.flatnonzero(one.codes != NO_CLASS) for one in (classes, settled))
    left = np.array(settled.names, dtype=object)[settled.codes[kept]]
    told += warnings_of(left, None if groups is None else groups[kept], config.n_splits, _UNIT[config.group_by])
    labels = np.array(classes.names, dtype=object)[classes.codes[known]]
    told += restarting(labels, specimens_of(rows)[known])
    told += _alone(rows.iloc[known], labels, config)
    return found, list(dict.fromkeys(told))


def _rows_of(config: Training, source: Source | None) -> tuple[pd.DataFrame, np.ndarray, str, list[str]]:
    """(rows, which have all points of the chosen channels (n,), name, notes) of what a training would read."""
    if not config.data and source is None:
        fewer = config.model_copy(update={"simulated_samples": min(config.simulated_samples, DRAWN_ROWS)})
        rows = draw_population(Simulation(), fewer.simulated_samples, np.random.default_rng([config.seed, SIMULATED]))[1]
        if config.column and config.column not in rows:  # a reading: spectra must be simulated for it
            fewer = config.model_copy(update={"simulated_samples": min(config.simulated_samples, MEASURED_ROWS)})
            rows = load(fewer).table.rows
        note = Phrase(
            "Counted on {n} simulated samples of the {all} that training will draw.", n=len(rows), all=config.simulated_samples
        )
        return rows, np.ones(len(rows), bool), "simulated", [note] if len(rows) < config.simulated_samples else []
    source = source or load(config)
    table = chosen(source.table, config.channels, source.name)
    return table.rows, complete(table), source.name, []


def _alone(rows: pd.DataFrame, labels: np.ndarray, config: Training) -> list[str]:
    """Sentences on classes (n,) of one instrument or day alone, other than what the split goes by."""
    found = []
    for by in ("instrument", "date"):
        try:
            values = groups_of(rows, config.model_copy(update={"group_by": by}), "")
        except InputError:  # the table does not tell
            continue
        if by != config.group_by and values is not None and len(np.unique(numbered(values))) > 1:
            found += warnings_of(labels, values, 1, _UNIT[by])
    return found


# --- batches ----------------------------------------------------------------------------------------------------------
class TableData(TrainingData):
    """Batches of a table of spectra, or of a simulated population where none is named.

    Each batch is gathered from the table as it was read, so the set is in memory once. Samples have the table's own rows plus
    LABEL (class name) and CODE (its place in `facts()["classes"]`); training rows also have what `learning.targets` needs.
    """

    def __init__(self, config: Training) -> None:
        """Loads and splits. Raises InputError where the table is missing or does not fit the settings."""
        self.config = config
        source = load(config)
        table = chosen(source.table, config.channels, source.name)
        self._target, told = settled_target(config.kind, config.of, config.column, table.rows, source.name)
        check_tabular(table.rows, config.tabular, self._target.column, source.name)
        check_zero_points(config, {c.name: len(c.axis) for c in table.channels})
        groups, specimens = groups_of(table.rows, config, source.name), specimens_of(table.rows)
        classes = classes_of(table.rows, complete(table), self._target, source.name)
        classes, merged, notes = settle(classes, groups, config, source.name)
        known = np.flatnonzero(classes.codes != NO_CLASS)
        labels = np.array([*classes.names, ""], dtype=object)[classes.codes]  # NO_CLASS picks the last
        inside = None if groups is None else groups[known]
        parts, split_notes = split(classes.codes[known], inside, specimens[known], config)
        notes += [*told, *unused(config), *split_notes]
        notes += restarting(labels[known], specimens[known])
        notes += warnings_of(labels[known], inside, config.n_splits, _UNIT[config.group_by])
        notes += [*leaks(specimens[known], inside), *absent(labels[known], parts)]
        self._groups = np.arange(len(table)) if groups is None else numbered(groups)
        self._rows: dict[Split, np.ndarray] = {
            "train": known[parts.train], "validation": known[parts.validation],
            "calibration": known[parts.calibration], "test": known[parts.test],
        }  # fmt: skip
        self._whole = _labelled(as_samples(table, source.name), classes, labels)
        self.transfer = learn(config, table, specimens, self._rows["train"], known, source.name)
        if config.test_source == "file":
            added, test_notes = kept_aside(config, self._target, table, self._whole, merged)
            self._rows["test"] = np.arange(len(table), len(table) + len(added))
            self._groups = np.concatenate([self._groups, self._groups.max() + 1 + np.arange(len(added))])
            specimens = np.concatenate([specimens.astype(object), specimens_of(added.table).astype(object)])
            self._whole, notes = Samples.concat([self._whole, added]), [*notes, *test_notes]
        counts = np.bincount(classes.codes[self._rows["train"]], minlength=len(classes.names))
        self._weights = class_weights(counts, config.class_weights)
        self._order: tuple[int, np.ndarray] | None = None
        self._facts = self._told(source, counts, notes, numbered(specimens)) | {"merged": merged}
        if self.transfer is not None:
            column = config.transfer_shared
            same = self._whole.table[column].to_numpy(object) if column in self._whole.table else specimens
            left = tested(self.transfer, self._whole, same, self._rows["test"])
            self._facts["transfer"] = {**self.transfer.facts(), "tested": left}
        self._instrument = instrument_numbers(self._whole.table, self._facts)

    def _told(self, source: Source, counts: np.ndarray, notes: list[str], specimens: np.ndarray) -> dict[str, Any]:
        """Most of `facts`; `specimens` (n,) numbers the specimen of each row of the table."""
        config = self.config
        return {
            "classes": self._whole.common[CLASSES],
            "counts": [int(n) for n in counts],
            "channels": self._whole.common["channels"],
            "tabular": list(config.beside),
            "target": asdict(self._target),
            "simulated": source.simulated,
            "notes": [plain(note) for note in dict.fromkeys(notes)],
            "reading": [plain(note) for note in source.notes],
            "rows": {name: len(rows) for name, rows in self._rows.items()},
            "groups": {name: len(np.unique(specimens[rows])) for name, rows in self._rows.items()},
            "source": plain(source.origin),
            "test_source": config.test_data or config.test_source,
            **asked(config, self._whole.common[CLASSES]),
            "class_means": self._class_means(),
            **({"table_sha256": self._checksum()} if config.data else {}),
        }

    def _checksum(self) -> str:
        """SHA-256 of what the parts were cut from: classes, groups and spectra of all rows.

        A simulated population has none: its seed tells it, and its last digits may differ between processors.
        """
        found = hashlib.sha256(self._whole.table[CODE].to_numpy(np.int64).tobytes())
        found.update(self._groups.astype(np.int64).tobytes())
        for values in self._whole.inputs.values():
            for first in range(0, len(values), HASHED_ROWS):
                found.update(np.ascontiguousarray(values[first : first + HASHED_ROWS]).data)
        return found.hexdigest()

    def _class_means(self) -> dict[str, dict[str, list[float]]]:
        """Mean spectrum of each class, to five digits, from at most MEAN_ROWS training rows of it: {channel: {class: (P,)}}."""
        names, rows = self._whole.common[CLASSES], self._rows["train"]
        codes = self._whole.table[CODE].to_numpy(np.int64)[rows]
        found: dict[str, dict[str, list[float]]] = {channel: {} for channel in self._whole.inputs}
        for k, name in enumerate(names):
            some = rows[codes == k][:MEAN_ROWS]
            for channel, values in self._whole.inputs.items():
                mean = values[some].mean(axis=0, dtype=float) if len(some) else np.zeros(values.shape[1])
                found[channel][name] = [float(f"{x:.5g}") for x in mean]
        return found

    def facts(self) -> dict[str, Any]:
        """What the run keeps of its data, as plain JSON values.

        "classes" (names in code order), "merged" (names that "other" stands for), "counts" (training rows of each class),
        "channels" (name, unit, axis), "tabular", "target" (kind, of, column), "simulated", "notes" (what was left out and what
        may spoil the evaluation) and "reading" (what was done to read the file), both as `words.plain`, "rows" and "groups"
        (samples and specimens of each part), "source", of a file "table_sha256" (of classes, groups and spectra of all rows);
        with an instrument transfer "transfer" (as `Adaptation.facts`, and tested).
        """
        return copy.deepcopy(self._facts)

    def batches(self, split: Split) -> int:
        """How many batches the split has; a training batch of one row, which batch norm cannot take, joins the one before."""
        rows, size = len(self._rows[split]), self.config.batch_size
        alone = split == "train" and rows > size > 1 and rows % size == 1
        return -(-rows // size) - alone

    def batch(self, split: Split, epoch: int, index: int) -> Samples:
        """Batch `index`: training rows in an order of the epoch's own, changed at random; any other as the table has them.

        Raises IndexError where there is no such batch.
        """
        count, size = self.batches(split), self.config.batch_size
        if not 0 <= index < count:
            raise IndexError(f"{split} has {count} batches, none of number {index}")
        order = self._shuffled(epoch) if split == "train" else self._rows[split]
        rows = order[index * size : None if index == count - 1 else (index + 1) * size]
        samples = self._whole.take(rows)
        if split != "train":
            return samples
        rng = np.random.default_rng([self.config.seed, CHANGE, epoch, index])
        samples = augment(samples, self.config, rng)
        if self.transfer is None or not self.config.mixup_alpha:
            return for_training(samples, self._weights, self.config, self.config.beside, rng)
        # Mixup stays within one instrument: of a mixture of two the network could not transfer the one part alone.
        numbers = self._instrument[rows]
        own = [samples.take(np.flatnonzero(numbers == number)) for number in np.unique(numbers)]
        return Samples.concat([for_training(one, self._weights, self.config, self.config.beside, rng) for one in own])

    def _shuffled(self, epoch: int) -> np.ndarray:
        """Training rows in the order of one epoch."""
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng([self.config.seed, ORDER, epoch])
            self._order = epoch, rng.permutation(self._rows["train"])
        return self._order[1]

    def everything(self, split: Split) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
        """A whole part as it was measured, for what is fitted without gradients.

        Spectra (n, P) float32, channels side by side; tabular values (n, T) float32 or None; codes (n,) int64; groups (n,), equal
        where rows must stay together.
        """
        rows, inputs, table = self._rows[split], self._whole.inputs, self._whole.table
        edges = np.cumsum([0, *(values.shape[1] for values in inputs.values())])
        spectra = np.empty((len(rows), edges[-1]), np.float32)
        for values, first, last in zip(inputs.values(), edges[:-1], edges[1:]):
            spectra[:, first:last] = values[rows]
        columns = [pd.to_numeric(table[c].iloc[rows], errors="coerce").to_numpy(np.float32, na_value=np.nan)
                   for c in self.config.beside]  # fmt: skip
        codes = table[CODE].to_numpy(np.int64)[rows]
        return spectra, np.stack(columns, 1) if columns else None, codes, self._groups[rows]

    def transferred(self, split: Split) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
        """As `everything`, with spectra as the network has them after the transfer between instruments, where there is one."""
        spectra, tabular, codes, groups = self.everything(split)
        if self.transfer is not None:
            self.transfer.apply(spectra, self._instrument[self._rows[split]])
        return spectra, tabular, codes, groups


def kept_aside(
    config: Training, target: Target, table: SpectraTable, own: Samples, merged: list[str]
) -> tuple[Samples, list[str]]:
    """Labelled samples of the table kept aside, and sentences on them; `target`, `table` and `own` are those of training.

    Only samples of classes that are learnt, with all points, are tested. Raises InputError as `load_test`, where a channel or a
    tabular column lacks, and where no sample can be tested.
    """
    source = load_test(config)
    there = aligned(source.table, table, source.name)
    check_tabular(there.rows, config.beside, target.column, source.name)
    names = own.common[CLASSES]
    codes = codes_of(as_samples(there, source.name), {"classes": names, "merged": merged, "target": asdict(target)})
    usable = np.flatnonzero((codes != NO_CLASS) & complete(there))
    if not len(usable):
        problem = Phrase("no sample has all points and one of the classes that are learnt ({names})", names=", ".join(names))
        raise InputError(source.name, problem, "Name its label column in test_columns, or give another table.")
    labels = np.array(names, dtype=object)[codes[usable]]
    samples = as_samples(there.take(usable), source.name)
    found = _labelled(samples, Classes(tuple(names), codes[usable]), labels)
    notes: list[str] = [Phrase("Tested on {n} samples of {name}, which was kept aside.", n=len(usable), name=source.name)]
    if len(usable) < len(codes):
        told = "{n} samples of {name} lack points or are of no class that is learnt."
        notes.append(Phrase(told, n=len(codes) - len(usable), name=source.name))
    if missing := [name for name in names if name not in labels]:
        notes.append(Phrase("{name} has no sample of class {classes}.", name=source.name, classes=", ".join(missing)))
    if GROUP in own.table and GROUP in found.table:
        both = np.intersect1d(own.table[GROUP].dropna().astype(str), found.table[GROUP].dropna().astype(str))
        if len(both):
            told = (
                "{n} specimens of {name} are in the training table too, so what they tell is too good: keep whole specimens "
                "aside."
            )
            notes.append(Phrase(told, n=len(both), name=source.name))
    return found, notes


def _labelled(samples: Samples, classes: Classes, labels: np.ndarray) -> Samples:
    """With LABEL and CODE; a column of the file with a name of ours is marked as the file's."""
    renamed = samples.table.rename(columns={name: f"{name} (file)" for name in RESERVED if name in samples.table})
    renamed = renamed.assign(**{LABEL: labels, CODE: classes.codes})
    return Samples(samples.inputs, renamed, {**samples.common, CLASSES: list(classes.names)})
