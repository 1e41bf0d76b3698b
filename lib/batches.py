"""Batches by number: which rank takes which, and where training and validation get them from."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
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
    """What one step takes. Lightning moves it to the device through `to`."""

    inputs: dict[str, torch.Tensor]
    targets: dict[str, torch.Tensor]
    samples: Samples | None = None

    def to(self, device: torch.device | str, **_: Any) -> Batch:
        """The same batch with its tensors on a device."""
        inputs = {key: value.to(device) for key, value in self.inputs.items()}
        return Batch(inputs, {key: value.to(device) for key, value in self.targets.items()}, self.samples)


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
    """The batches of one epoch that this rank takes.

    Whole batches are dealt in turn; those left over at the end are split by rows. Every rank takes the same number of
    steps and every sample is seen once.
    """

    def __init__(self, batches: int, rank: int = 0, world: int = 1) -> None:
        self.batches, self.rank, self.world, self.epoch = batches, rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, left = divmod(self.batches, self.world)
        return whole + left

    def __iter__(self) -> Iterator[Shard]:
        dealt = self.batches - self.batches % self.world
        yield from (Shard(self.epoch, index) for index in range(self.rank, dealt, self.world))
        yield from (Shard(self.epoch, index, self.rank, self.world) for index in range(dealt, self.batches))


class TrainSource(Dataset[Batch]):
    """Training batches, made anew for each epoch in whatever process asks."""

    def __init__(self, task: Task, data: TrainingData) -> None:
        self.task, self.data = task, data

    def __getitem__(self, shard: Shard) -> Batch:
        samples = self.data.batch("train", shard.epoch, shard.number)
        if shard.parts > 1:
            rows = np.arange(shard.part, len(samples), shard.parts)
            samples = samples.take(rows if len(rows) else np.array([shard.part % len(samples)]))
        return Batch(as_tensors(self.task.tensors(samples)), as_tensors(self.task.targets(samples)))


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
