"""The front end as a step of data preparation: clips in, what the network's body takes out."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lib.task import Samples
from lib.tasks.diffusion.arrays import network_inputs
from lib.tasks.diffusion.config import Training
from lib.tasks.diffusion.families import build

CHUNK = 32  # clips read at once: twice as fast as a whole batch, whose intermediate images do not fit the processor's cache


def reader(config: Training) -> Callable[[Samples], Samples]:
    """A function that replaces the clips of Samples by the front end's reading of them."""
    with torch.random.fork_rng():  # the weights are not used; their random numbers belong to the real network
        network = build(config.model, config.width).eval()

    def read(samples: Samples) -> Samples:
        clips = {key: torch.from_numpy(value).split(CHUNK) for key, value in network_inputs(samples).items()}
        parts = [network.read(**dict(zip(clips, chunk, strict=True))) for chunk in zip(*clips.values(), strict=True)]
        return Samples({key: torch.cat([part[key] for part in parts]).numpy() for key in parts[0]}, samples.table)

    return read
