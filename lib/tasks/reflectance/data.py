"""Images with their channels in four parts, changed at random for training; test images come with classical estimates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from lib.splits import Parts, four_way, leaks, numbered
from lib.task import InputError, Phrase, Samples, Split, TrainingData
from lib.tasks.reflectance.augment import augment
from lib.tasks.reflectance.columns import GEOMETRY, TARGETS, geometry_of
from lib.tasks.reflectance.sources import Source, load
from lib.tasks.reflectance.training import Training
from lib.words import plain

SPLIT, ORDER, CHANGE = 1, 2, 3  # streams of random numbers
REFERENCES = 256  # training images that predictions are shown beside
FEWEST_IMAGES = 10
SCALE_MARGIN = 0.1  # of the pixel size, beyond what training images had


def mean_and_std(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column (n, k), NaN left out; 0 and 1 where nothing is known, and no standard deviation is 0."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    std = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(0) / count)
    return mean, np.where(std > 1e-6, std, 1.0)


class Images(TrainingData):
    """Batches of a labelled set, or of rendered images."""

    def __init__(self, config: Training) -> None:
        """Loads and splits. Raises InputError where the set is missing, too small, or cannot be split as asked."""
        self.config = config
        self._source = load(config)
        self._whole = self._source.samples
        table = self._whole.table
        if len(table) < FEWEST_IMAGES:
            problem = f"only {len(table)} labelled images, at least {FEWEST_IMAGES} are needed"
            raise InputError(config.data or "the demo set", problem, "Give more images.")
        self.groups = _groups(table, config)
        parts = _split(table, self.groups, config)
        self._rows: dict[Split, np.ndarray] = {
            "train": parts.train, "validation": parts.validation, "calibration": parts.calibration, "test": parts.test,
        }  # fmt: skip
        self._classical: pd.DataFrame | None = None
        self._order: tuple[int, np.ndarray] | None = None
        self._facts = self._told(self._source)

    def _told(self, source: Source) -> dict[str, Any]:
        """Most of `facts`."""
        table, train = self._whole.table, self._rows["train"]
        channels, geometry = table[TARGETS].to_numpy(float)[train], geometry_of(table.iloc[train])
        notes = [*source.notes, *leaks(table["specimen"], None if self.config.split_by == "nothing" else self.groups)]
        known = table["nm_per_px"].to_numpy(float)[train]
        known = known[np.isfinite(known)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, math.inf)
        return {
            "stage": self.config.stage,
            "loss_weights": list(self.config.loss_weights),
            "geometry_weight": self.config.geometry_weight if self.config.stage == "channels" else 1.0,
            "channels": [list(map(float, one)) for one in mean_and_std(channels)],
            "geometry": [list(map(float, one)) for one in mean_and_std(geometry)],
            "spans": _spans(table.iloc[train]),
            "nm_per_px": [low * (1 - SCALE_MARGIN), high * (1 + SCALE_MARGIN)] if math.isfinite(high) else [0.0, 1e9],
            "references": _references(table, self.reference_rows()),
            "simulated": source.simulated, "source": source.origin, "split_by": self.config.split_by,
            "notes": [plain(note) for note in notes],
            "start_from": self.config.start_from,
            "rows": {name: len(rows) for name, rows in self._rows.items()},
            "groups": {name: len(np.unique(numbered(table["specimen"])[rows])) for name, rows in self._rows.items()},
        }  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What the run keeps of its data, as plain JSON values.

        "stage", "loss_weights", "geometry_weight", "channels" and "geometry" (mean and standard deviation over training images),
        "spans" (5 to 95 % range of each parameter), "nm_per_px" (range), "references" (name, kind and channels of training images
        that new ones are compared with), "simulated", "source", "split_by", "notes" (as `words.plain`), "rows" and "groups"
        (images and specimens of each part).
        """
        return self._facts

    def batches(self, split: Split) -> int:
        """How many batches the split has; a training batch of one image, which batch norm cannot take, joins the one before."""
        rows, size = len(self._rows[split]), self.config.batch_size
        return -(-rows // size) - (split == "train" and rows > size > 1 and rows % size == 1)

    def batch(self, split: Split, epoch: int, index: int) -> Samples:
        """Batch `index`: training images in an order of the epoch's own, changed at random; others as they are.

        Test images have columns of the classical estimates beside their own. Raises IndexError where there is no such batch.
        """
        count, size = self.batches(split), self.config.batch_size
        if not 0 <= index < count:
            raise IndexError(f"{split} has {count} batches, none of number {index}")
        places = slice(index * size, None if index == count - 1 else (index + 1) * size)
        if split == "train":
            rng = np.random.default_rng([self.config.seed, CHANGE, epoch, index])
            return self.changed(self._whole.take(self._shuffled(epoch)[places]), rng)
        samples = self._whole.take(self._rows[split][places])
        group = samples.table["specimen"].where(samples.table["specimen"] != "", samples.table["file"])
        samples = samples.with_columns(group=group)
        if split != "test" or self.config.stage == "geometry":
            return samples
        beside = self._estimates().iloc[places].reset_index(drop=True)
        return Samples(samples.inputs, pd.concat([samples.table, beside], axis=1), samples.common)

    def changed(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """The same, changed at random as training images are."""
        images = np.asarray(samples.inputs["image"])
        changed, nm_per_px = augment(images, samples.table["nm_per_px"].to_numpy(float), self.config, rng)
        return Samples({**samples.inputs, "image": changed}, samples.table.assign(nm_per_px=nm_per_px), samples.common)

    def _shuffled(self, epoch: int) -> np.ndarray:
        """Training rows in the order of one epoch."""
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng([self.config.seed, ORDER, epoch])
            self._order = epoch, rng.permutation(self._rows["train"])
        return self._order[1]

    def part(self, split: Split) -> Samples:
        """All of a part as it was measured."""
        return self._whole.take(self._rows[split])

    def rows(self, split: Split) -> np.ndarray:
        """Rows of the set in a part, increasing."""
        return self._rows[split]

    def reference_rows(self) -> np.ndarray:
        """Rows of the set, at most REFERENCES of the training part: the first image of each specimen, evenly spread."""
        train = self._rows["train"]
        number = numbered(self._whole.table["specimen"])[train]
        first = train[np.sort(np.unique(number, return_index=True)[1])]
        return first[np.linspace(0, len(first) - 1, min(REFERENCES, len(first))).round().astype(int)]

    def places_in_train(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the set stand in the training part."""
        return np.searchsorted(self._rows["train"], rows)

    def _estimates(self) -> pd.DataFrame:
        """Classical estimates of the test images, made once."""
        from lib.tasks.reflectance.baselines import estimates

        if self._classical is None:
            self._classical = estimates(self._whole, self._rows["train"], self._rows["test"], self.config.seed)
        return self._classical


def _groups(table: pd.DataFrame, config: Training) -> np.ndarray:
    """(n,) equal where images must stay together. Raises InputError where the set does not tell kinds."""
    if config.split_by == "nothing":
        return np.arange(len(table))
    if config.split_by == "kind" and (table["kind"].fillna("") == "").any():
        raise InputError("split_by", "not every image has a kind", "Add a column kind, or split by specimen.")
    if config.split_by == "kind":
        return numbered(table["kind"])
    return numbered(table["specimen"])


def _split(table: pd.DataFrame, groups: np.ndarray, config: Training) -> Parts:
    """Four parts; kinds are spread evenly where they may be. Raises InputError where there are too few groups."""
    kinds = table["kind"].fillna("").to_numpy(object) if config.split_by != "kind" else np.zeros(len(table), int)
    shares = config.validation_percent / 100, config.calibration_percent / 100
    rng = np.random.default_rng([config.seed, SPLIT])
    together = None if len(np.unique(groups)) == len(groups) else groups  # much faster without
    try:
        parts = four_way(kinds, rng, together, config.n_splits, config.current_split, *shares)
    except ValueError as error:
        problem = Phrase("the images cannot be split four ways: {why}", why=str(error))
        raise InputError(config.data or "the demo set", problem, "Give more specimens, or use fewer folds.") from error
    if any(not len(rows) for _, rows in parts.items()):
        raise InputError(
            config.data or "the demo set", "a part of the split is empty", "Give more specimens, or split by specimen."
        )
    return parts


def _spans(table: pd.DataFrame) -> dict[str, float]:
    """Width of the 5 to 95 % range of each parameter that the table knows."""
    found = {}
    for name in GEOMETRY:
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(float) if name in table else np.empty(0)
        values = values[np.isfinite(values)]
        if len(values):
            low, high = np.quantile(values, [0.05, 0.95])
            found[name] = float(high - low) or 1.0
    return found


def _references(table: pd.DataFrame, rows: np.ndarray) -> list[dict[str, Any]]:
    """Name, kind and channels (None where not measured) of some training images."""
    some = table.iloc[rows]
    names = some["specimen"].where(some["specimen"] != "", some["file"])
    values = some[TARGETS].to_numpy(float)
    return [
        {"name": str(name), "kind": str(kind), "values": [round(float(v), 4) if np.isfinite(v) else None for v in one]}
        for name, kind, one in zip(names, some["kind"].fillna(""), values)
    ]
