"""The front end as a step of data preparation: clips in, what the network's body takes out."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lib.task import Samples
from lib.tasks.diffusion.arrays import network_inputs
from lib.tasks.diffusion.config import Training
from lib.tasks.diffusion.families import build


def reader(config: Training) -> Callable[[Samples], Samples]:
    """A function that replaces the clips of Samples by the front end's reading of them."""
    with torch.random.fork_rng():  # the weights are not used; their random numbers belong to the real network
        network = build(config.model, config.width).eval()

    def read(samples: Samples) -> Samples:
        clips = {key: torch.from_numpy(value) for key, value in network_inputs(samples).items()}
        return Samples({key: value.numpy() for key, value in network.read(**clips).items()}, samples.table)

    return read
