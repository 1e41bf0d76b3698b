"""A learning rate from the data: the range test of Smith (2017, WACV), on a copy of the untrained network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch

from lib.batches import Shard, TrainSource
from lib.task import InputError, Task, TrainConfig, TrainingData

STEPS, LOWEST, HIGHEST = 100, 1e-6, 0.3
SMOOTHING = 0.9  # of the loss from step to step
FIRST = 10  # steps after which the smoothed loss rests on enough of them
BELOW_BEST = 0.1  # of the rate with the least loss: a safe distance from where training breaks (Howard & Gugger 2020, fastai)


def find(task: Task, config: TrainConfig, network: torch.nn.Module, data: TrainingData, say: Callable[[str], None]) -> float:
    """A tenth of the rate at which the loss is least while the rate rises from LOWEST to HIGHEST over STEPS optimiser steps.

    The network is left as it is. Raises InputError where the loss never falls.
    """
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    losses = _losses(task, config, copy.deepcopy(network).train(), data, rates)
    best = FIRST + int(np.argmin(losses[FIRST:])) if len(losses) > FIRST else 0
    if best <= FIRST or not losses[best] < losses[FIRST]:
        raise InputError("learning rate", "the loss falls at no rate that was tried", "Set learning_rate by hand.")
    found = float(f"{BELOW_BEST * rates[best]:.2g}")
    say(f"learning rate {found:g}: a tenth of {rates[best]:.2g}, where the loss was least of {len(losses)} steps at rising rates")
    return found


def _losses(task: Task, config: TrainConfig, probe: torch.nn.Module, data: TrainingData, rates: np.ndarray) -> np.ndarray:
    """Smoothed loss of each step (≤ STEPS,), up to where it is no longer a number."""
    optimiser = torch.optim.AdamW(probe.parameters(), weight_decay=config.weight_decay)
    source, count = TrainSource(task, data), data.batches("train")
    smooth, found = 0.0, []
    for step, rate in enumerate(rates):
        batch = source[Shard(step // count, step % count)]
        for group in optimiser.param_groups:
            group["lr"] = float(rate)
        loss = task.loss(probe(**batch.inputs), batch.targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        smooth = SMOOTHING * smooth + (1 - SMOOTHING) * float(loss.detach())
        if not math.isfinite(smooth):
            break
        found.append(smooth / (1 - SMOOTHING ** (step + 1)))
    return np.asarray(found)
