"""Batches by number: which rank takes which, where training and validation get them from, and what an epoch sums up to."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, Sampler

from lib.model import as_tensors
from lib.task import Samples, Split, Task, TrainingData

CACHE_BYTES = 512 * 2**20  # validation samples up to this size stay in memory


class Shard(NamedTuple):
    """Which batch, and which of its rows: part `part` of `parts`."""

    epoch: int
    number: int
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Batch:
    """What one step takes. Lightning moves it to the device through `to`.

    `weight` times its mean loss, averaged over the ranks of a step, is the mean loss of the whole batch.
    """

    inputs: dict[str, torch.Tensor]
    targets: dict[str, torch.Tensor]
    samples: Samples | None = None
    weight: float = 1.0

    def to(self, device: torch.device | str, **_: Any) -> Batch:
        """The same batch with its tensors on a device."""
        inputs = {key: value.to(device) for key, value in self.inputs.items()}
        targets = {key: value.to(device) for key, value in self.targets.items()}
        return Batch(inputs, targets, self.samples, self.weight)


def pick(data: TrainingData, split: Split, rows: Sequence[int], most_bytes: int) -> Samples | None:
    """The samples of ascending row numbers of a split, as they stand in its batches; None where they are none or too large."""
    wanted, parts, start, size = np.asarray(rows, dtype=np.int64), [], 0, 0
    for index in range(data.batches(split) if len(wanted) else 0):
        samples = data.batch(split, 0, index)
        inside = wanted[(wanted >= start) & (wanted < start + len(samples))] - start
        start += len(samples)
        if len(inside):
            parts.append(samples.take(inside))
            size += sum(values.nbytes for values in parts[-1].inputs.values())
        if size > most_bytes:
            return None
    return Samples.concat(parts) if parts else None


class ShardSampler(Sampler[Shard]):
    """This rank's share of every batch of an epoch.

    A batch is split by rows, so that a step sees the same samples and the optimiser takes the same steps on any number of ranks.
    """

    def __init__(self, batches: int, rank: int = 0, world: int = 1) -> None:
        self.batches, self.rank, self.world, self.epoch = batches, rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Shard]:
        return (Shard(self.epoch, index, self.rank, self.world) for index in range(self.batches))


class TrainSource(Dataset[Batch]):
    """Training batches, made anew for each epoch in whatever process asks."""

    def __init__(self, task: Task, data: TrainingData) -> None:
        self.task, self.data = task, data

    def __getitem__(self, shard: Shard) -> Batch:
        samples, weight = self.data.batch("train", shard.epoch, shard.number), 1.0
        if shard.parts > 1:
            rows = np.arange(shard.part, len(samples), shard.parts)
            weight = len(rows) * shard.parts / len(samples)
            samples = samples.take(rows if len(rows) else np.array([0]))  # a rank without a row takes part, at no weight
        return Batch(as_tensors(self.task.tensors(samples)), as_tensors(self.task.targets(samples)), weight=weight)


def as_loader_worker(_number: int) -> None:
    """In a loader worker: the trainer decides when it ends, also when Ctrl-C reaches the whole group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class ValidationSource(Dataset[Batch]):
    """Validation batches: the same in every epoch, so kept in memory while they fit."""

    def __init__(self, task: Task, data: TrainingData) -> None:
        self.task, self.data = task, data
        self.kept: dict[int, Samples] = {}
        self.kept_bytes = 0

    def __len__(self) -> int:
        return self.data.batches("validation")

    def __getitem__(self, index: int) -> Batch:
        samples = self.kept.get(index)
        if samples is None:
            samples = self.data.batch("validation", 0, index)
            size = sum(value.nbytes for value in samples.inputs.values())
            if self.kept_bytes + size <= CACHE_BYTES:
                self.kept[index] = samples
                self.kept_bytes += size
        return Batch(as_tensors(self.task.tensors(samples)), as_tensors(self.task.targets(samples)), samples)


# --- what an epoch sums up to ------------------------------------------------------------------------------------------
class Errors:
    """Sums and counts over one epoch of what the task tells of training samples."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, values: Mapping[str, torch.Tensor]) -> None:
        """One batch, (n,) by name; NaN counts nothing."""
        for name, one in values.items():
            total, count = self.sums.get(name, (one.new_zeros(()), one.new_zeros(())))
            self.sums[name] = total + torch.nansum(one), count + torch.isfinite(one).sum()

    def means(self, reduced: Callable[[torch.Tensor], Any]) -> dict[str, float]:
        """`train_<name>`: the means, NaN where nothing is known; `reduced` adds up a tensor over all ranks."""
        found = {}
        for name, sums in self.sums.items():
            total, count = (float(value) for value in reduced(torch.stack(sums)))
            found[f"train_{name}"] = total / count if count else math.nan
        return found


class Scored:
    """Validation results of one epoch, batch by batch."""

    def __init__(self) -> None:
        self.loss_sum, self.rows = 0.0, 0
        self.predicted: list[pd.DataFrame] = []
        self.truth: list[pd.DataFrame] = []

    def add(self, loss: float, predicted: pd.DataFrame, truth: pd.DataFrame) -> None:
        """One batch."""
        self.loss_sum += loss * len(truth)
        self.rows += len(truth)
        self.predicted.append(predicted)
        self.truth.append(truth)

    def values(self, task: Task) -> dict[str, float]:
        """`validation_loss` (mean over samples) and every figure of merit of the task."""
        scores = task.score(pd.concat(self.predicted, ignore_index=True), pd.concat(self.truth, ignore_index=True))
        return {"validation_loss": self.loss_sum / max(1, self.rows)} | {key: float(value) for key, value in scores.items()}
