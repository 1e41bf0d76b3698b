"""From the settings of a training to its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lib.task import Samples
from lib.tasks.reflectance import classical, networks, original
from lib.tasks.reflectance.augment import scale_of
from lib.tasks.reflectance.columns import GEOMETRY, TARGETS
from lib.tasks.reflectance.fingerprint import fingerprints
from lib.tasks.reflectance.learning import tensors
from lib.tasks.reflectance.networks import Reader
from lib.tasks.reflectance.training import Training

if TYPE_CHECKING:  # with scikit-learn, which only training needs
    from lib.tasks.reflectance.data import Images

MOST_COMPARED = 3000  # training images that tell how far apart images are
CHANGED_COPIES, LEAF_COPIES = 3, 6  # of each training image for the trees on the geometry; rows of a leaf
AT_ONCE = 64
FITTING = 11  # stream of random numbers
FIRST_LAYERS = ("body.first", "body.polar.0", "body.polar.1")  # of PolarNet
FIRST_ORIGINAL = 4 + original.BLOCKS[0]  # layers of an original path: stem and first stage


def build(config: Training, facts: Mapping[str, Any]) -> Reader:
    """The untrained network of a run, frozen where it is to stay as it was. Raises InputError as `classical.build`."""
    if config.gradient_free:
        return classical.build(config.model, facts)
    if config.model == "PolarNet":
        network = networks.build_polar(config.width, config.members, config.dropout, grove=has_grove(config))
    else:
        width = config.width if config.model.startswith("compact") else original.FULL_WIDTH
        fourier = config.model.endswith("Fourier")
        network = original.build_original(width, config.norm, fourier, config.members, config.dropout)
    freeze(network, config.frozen)
    return network


def has_grove(config: Training) -> bool:
    """Whether trees on the geometry help: it must be learnt before, and stay."""
    return config.stage == "channels" and config.frozen == "all but the head" and bool(config.start_from)


def freeze(network: nn.Module, which: str) -> None:
    """Layers whose weights stay: none, the first ones, or all of the body and what reads the geometry."""
    for name, weight in network.named_parameters():
        if which == "all but the head":
            weight.requires_grad_(not name.startswith(("body.", "head.geometry.")))
        elif which == "first layers":
            weight.requires_grad_(not _is_first(name))


def _is_first(name: str) -> bool:
    """Whether a weight belongs to the first layers: PolarNet's stems, or an original path up to its second stage."""
    if name.startswith("body.bodies"):
        return int(name.split(".")[4]) < FIRST_ORIGINAL  # body.bodies.0.image.5.…
    return name.startswith(FIRST_LAYERS)


def prepare(network: Reader, data: Images) -> None:
    """Scales of channels and geometry, unless they come with the weights; and what new images are compared with."""
    facts, config = data.facts(), data.config
    if not config.start_from and not config.gradient_free:
        network.standardise(facts["channels"], facts["geometry"])
    compare(network, data)
    if isinstance(network.head, networks.PolarHead) and network.head.grove:
        plant(network, data)


def plant(network: Reader, data: Images) -> None:
    """Fit trees to the geometry that the network reads from training images, as they are and changed at random."""
    head = network.head
    assert isinstance(head, networks.PolarHead)
    network.eval()
    read, wanted = [], []
    rng = np.random.default_rng([data.config.seed, FITTING, 1])
    train = data.part("train")
    for change in range(1 + CHANGED_COPIES):
        for start in range(0, len(train), AT_ONCE):
            samples = train.take(np.arange(start, min(start + AT_ONCE, len(train))))
            samples = data.changed(samples, rng) if change else samples
            with torch.no_grad():
                raw = network(**as_inputs(samples))
            geometry = (raw[:, -len(GEOMETRY) :] - network.geometry_mean) / network.geometry_std
            read.append(geometry.numpy())
            wanted.append(samples.table[TARGETS].to_numpy(float))
    count = head.count * networks.TREES_PER_MEMBER
    grown = classical.trees(rng, count, LEAF_COPIES, networks.MOST_LEAVES, networks.DEEPEST)
    channels = classical.complete(np.concatenate(wanted))
    mean, std = network.channel_mean.numpy(), network.channel_std.numpy()
    head.forest.fill(grown.fit(np.concatenate(read), (channels - mean) / std))


def as_inputs(samples: Samples) -> dict[str, torch.Tensor]:
    """What the network takes of samples."""
    return {name: torch.from_numpy(values) for name, values in tensors(samples).items()}


def compare(network: Reader, data: Images) -> None:
    """Teach a network how far apart training images are."""
    train, references = data.part("train"), data.places_in_train(data.reference_rows())
    rows = np.arange(len(train))
    if len(rows) > MOST_COMPARED:
        rng = np.random.default_rng([data.config.seed, FITTING])
        rows = np.union1d(rng.choice(rows, MOST_COMPARED, replace=False), references)
    some = train.take(rows)
    described = fingerprints(np.asarray(some.inputs["image"]), scale_of(some.table["nm_per_px"].to_numpy(float)))
    groups = data.groups[data.rows("train")][rows]
    network.compare_with(described, groups, np.searchsorted(rows, references))


def solve(config: Training, data: Images) -> tuple[Reader, dict[str, Any]]:
    """The fitted network of a family without gradients, and further facts."""
    train = data.part("train")
    described = fingerprints(np.asarray(train.inputs["image"]), scale_of(train.table["nm_per_px"].to_numpy(float)))
    channels = train.table[TARGETS].to_numpy(float)
    rng = np.random.default_rng([config.seed, FITTING])
    network, facts = classical.fit(config.model, described, channels, rng)
    compare(network, data)
    return network, facts
