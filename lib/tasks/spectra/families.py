"""The model families: compact CNN, VGG11, VGG16 and ResNetV2 in one dimension, and what a fit without gradients has chosen.

All four convolve over the points of the spectra with their channels as channels; a shorter channel is filled up with zeros,
which stand for its mean. Lengths are known when a network is built, so a short spectrum simply is not halved any further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.task import InputError, Phrase
from lib.tasks.spectra.arrays import bridge, takes_instrument
from lib.tasks.spectra.linear import Averaged, Linear, Rocket
from lib.tasks.spectra.networks import Body, Classifier, InstrumentMap, Unfitted, split_points
from lib.tasks.spectra.settings import GRADIENT_FREE, Training

FEWEST_POINTS = {"compact CNN": 4, "VGG11": 8, "VGG16": 8, "ResNetV2": 8}  # of the longest channel
POSITIONS = 64  # the compact CNN halves its spectra down to at most so many
POOLED = 7  # positions that VGG's dense layers see
VGG: dict[str, tuple[int, ...]] = {"VGG11": (1, 1, 2, 2, 2), "VGG16": (2, 2, 3, 3, 3)}  # convolutions before each pooling
VGG_WIDTHS = (1, 2, 4, 8, 8)  # times `width`, which is 64 in the paper
EXPANSION = 4  # of ResNetV2's bottlenecks
MOST_NORM_GROUPS = 32


def build(config: Training, facts: Mapping[str, Any]) -> Classifier:
    """The untrained network of a run, from its settings and the facts of its data.

    These are channels, tabular, classes and, where there are any, transfer and chosen.

    A family without gradients is built as facts["chosen"] says; without it, it is a place for what `direct.fit` gives, and
    using it raises InputError. Raises InputError where the spectra are too short for the family.
    """
    lengths = [len(channel["axis"]) for channel in facts["channels"]]
    tabular, classes = len(facts["tabular"]), len(facts["classes"])
    if config.model in GRADIENT_FREE:
        chosen = facts.get("chosen")
        if chosen is None:
            return Classifier(Unfitted(config.model), "raw", lengths, tabular, instrument_map(facts))
        return linear(chosen.get("members", [chosen]), lengths, classes, tabular, instrument_map(facts))
    if max(lengths) < FEWEST_POINTS[config.model]:
        raise InputError(
            Phrase("model {model!r}", model=config.model),
            Phrase(
                "it needs spectra of at least {least} points; the longest channel has {points}",
                least=FEWEST_POINTS[config.model],
                points=max(lengths),
            ),
            "Choose a linear model, or take spectra on a finer axis.",
        )
    body = _convolutional(config, lengths, tabular, classes)
    return Classifier(body, config.preprocessing, lengths, tabular, instrument_map(facts))


def instrument_map(facts: Mapping[str, Any]) -> InstrumentMap | None:
    """The empty map between the instruments of a run; None where it has no transfer."""
    transfer = bridge(facts)
    if not transfer:
        return None
    lengths = [len(channel["axis"]) for channel in facts["channels"]]
    return InstrumentMap(lengths, len(transfer["to"])) if takes_instrument(facts) else InstrumentMap(lengths, all_alike=True)


def linear(
    members: Sequence[Mapping[str, Any]],
    lengths: Sequence[int],
    classes: int,
    tabular: int = 0,
    transfer: InstrumentMap | None = None,
) -> Classifier:
    """The empty network of one candidate of the classical models ("preprocessing", "model"), or of the mean of several.

    `lengths` are the channels' points.
    """
    points = sum(lengths)
    bodies = [Linear(points, classes, Rocket(points) if one["model"] == "MiniRocket" else None) for one in members]
    chains = [str(one["preprocessing"]) for one in members]
    if len(bodies) == 1:
        return Classifier(bodies[0], chains[0], lengths, tabular, transfer)
    return Classifier(Averaged(chains, bodies, points), "raw", lengths, tabular, transfer)


def _convolutional(config: Training, lengths: Sequence[int], tabular: int, classes: int) -> Body:
    channels, points, width = len(lengths), max(lengths), config.width
    if config.model == "compact CNN":
        trunk: Trunk = CompactTrunk(channels, points, width)
        hidden: tuple[int, ...] = (4 * width,)
    elif config.model in VGG:
        trunk = VggTrunk(VGG[config.model], channels, points, width)
        hidden = (16 * width, 16 * width)
    else:
        trunk = ResNetTrunk(config.block_units, channels, points, width)
        hidden = (4 * width,) if tabular else ()
    return Convolutional(lengths, trunk, Head(trunk.features + tabular, hidden, classes, config.dropout))


class Trunk(nn.Module):
    """Turns (B, channels, points) into (B, features)."""

    features: int


class Head(nn.Sequential):
    """Dense layers with ReLU and dropout, then the logits."""

    def __init__(self, features: int, hidden: Sequence[int], classes: int, dropout: float) -> None:
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for size in hidden:
            layers += [nn.Linear(features, size), nn.ReLU(), nn.Dropout(dropout)]
            features = size
        super().__init__(*layers, nn.Linear(features, classes))


class Convolutional(Body):
    """Spectra as numbers of order one, channels stacked → trunk → dense layers that also take the tabular values."""

    centre: Tensor  # (P,) mean of each point
    spread: Tensor  # (P,) typical deviation in the point's channel: points keep their size relative to each other

    def __init__(self, lengths: Sequence[int], trunk: Trunk, head: Head) -> None:
        super().__init__()
        self.lengths, self.trunk, self.head = list(lengths), trunk, head
        self.columns = split_points(lengths)
        self.register_buffer("centre", torch.zeros(sum(lengths)))
        self.register_buffer("spread", torch.ones(sum(lengths)))

    def fit_inputs(self, x: np.ndarray) -> None:
        """Centre and spread of preprocessed training spectra (n, P)."""
        variance = x.var(axis=0)
        self.centre.copy_(torch.from_numpy(x.mean(axis=0)))
        for first, end in self.columns:
            spread = float(np.sqrt(variance[first:end].mean()))
            rounding = 1e-7 * float(np.abs(x[:, first:end]).max())  # a channel of constants has no more than that
            self.spread[first:end] = spread if spread > rounding else 1.0

    def forward(self, x: Tensor, tabular: Tensor) -> Tensor:
        """(B, K)."""
        stacked = self._stacked(((x - self.centre) / self.spread).float())
        return self.head(torch.cat([self.trunk(stacked), tabular], 1))

    def _stacked(self, x: Tensor) -> Tensor:
        """(B, channels, longest)."""
        longest = max(self.lengths)
        if set(self.lengths) == {longest}:
            return x.unflatten(1, (len(self.lengths), longest))
        parts = [F.pad(x[:, first:end], (0, longest - (end - first))) for first, end in self.columns]
        return torch.stack(parts, 1)


# --- compact CNN ------------------------------------------------------------------------------------------------------
class CompactTrunk(Trunk):
    """Convolutions with batch norm, halving the spectra to at most POSITIONS; every position keeps its own features.

    A band's place is what tells in a spectrum: pooled over all positions it would be lost.
    """

    def __init__(self, channels: int, points: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, number = channels, 0
        while number < 3 or points > POSITIONS:
            stride = 1 if points <= POSITIONS else 4 if number == 0 and points > 8 * POSITIONS else 2
            outputs, kernel = (width, 9) if number == 0 else (2 * width, 7 if number == 1 else 5)
            layers += [nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
            inputs, points, number = outputs, -(-points // stride), number + 1
        narrow = max(width // 2, 4)
        self.layers = nn.Sequential(*layers, nn.Conv1d(inputs, narrow, 1), nn.ReLU(), nn.Flatten())
        self.features = narrow * points

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, points) -> (B, features), position after position for each feature."""
        return self.layers(x)


# --- VGG --------------------------------------------------------------------------------------------------------------
class VggTrunk(Trunk):
    """Configurations A and D of Simonyan & Zisserman 2015 with batch norm, in one dimension.

    A pooling that would leave fewer than POOLED positions is left out.
    """

    pooling: Tensor  # (positions, POOLED)

    def __init__(self, blocks: Sequence[int], channels: int, points: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for convolutions, times in zip(blocks, VGG_WIDTHS):
            for _ in range(convolutions):
                outputs = times * width
                layers += [nn.Conv1d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
                inputs = outputs
            if points // 2 >= POOLED:
                layers.append(nn.MaxPool1d(2))
                points //= 2
        self.layers = nn.Sequential(*layers)
        self.register_buffer("pooling", adaptive_average(points, POOLED), persistent=False)
        self.features = POOLED * inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, points) -> (B, features)."""
        return (self.layers(x) @ self.pooling).flatten(1)


def adaptive_average(points: int, wanted: int) -> Tensor:
    """(points, wanted) weights of torch's adaptive average pooling: ONNX has no such operator for sizes that do not divide."""
    return F.adaptive_avg_pool1d(torch.eye(points), wanted)


# --- ResNetV2 ---------------------------------------------------------------------------------------------------------
class StandardisedConv(nn.Conv1d):
    """A convolution whose kernels have mean 0 and variance 1. Qiao et al. 2019."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, points) -> (B, outputs, points / stride)."""
        centred = self.weight - self.weight.mean((1, 2), keepdim=True)
        scale = (centred.square().mean((1, 2), keepdim=True) + 1e-10).sqrt()
        return F.conv1d(x, centred / scale, None, self.stride, self.padding)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> StandardisedConv:
    return StandardisedConv(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def _norm(channels: int) -> nn.GroupNorm:
    """Group norm with as many groups as divide the channels, at least two channels in each."""
    groups = next(g for g in range(MOST_NORM_GROUPS, 0, -1) if channels % g == 0 and channels // g >= 2)
    return nn.GroupNorm(groups, channels)


class Bottleneck(nn.Module):
    """Pre-activation unit: 1, 3, 1 wide convolutions around an identity. He et al. 2016 (identity mappings)."""

    def __init__(self, inputs: int, middle: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * middle
        self.norm = nn.Sequential(_norm(inputs), nn.ReLU())
        self.body = nn.Sequential(
            _conv(inputs, middle, 1), _norm(middle), nn.ReLU(),
            _conv(middle, middle, 3, stride), _norm(middle), nn.ReLU(),
            _conv(middle, outputs, 1),
        )  # fmt: skip
        self.skip = nn.Identity() if inputs == outputs and stride == 1 else _conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, points) -> (B, 4 · middle, points / stride)."""
        ready = self.norm(x)
        return self.body(ready) + (x if isinstance(self.skip, nn.Identity) else self.skip(ready))


class ResNetTrunk(Trunk):
    """BiT of Kolesnikov et al. 2020 in one dimension: `units` bottlenecks in each block, average over all positions at the end.

    The paper's width factor is `width` / 64. Its zero-padding before the first pooling is left to the pooling, which ignores
    what lies outside: as a step of its own, onnxruntime's optimiser would turn the zeros into −∞.
    """

    def __init__(self, units: Sequence[int], channels: int, points: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(channels, width, 7, _stride(points))]
        points = _after(points)
        layers.append(nn.MaxPool1d(3, _stride(points), 1))
        points = _after(points)
        inputs = width
        for block, count in enumerate(units):
            middle = width * 2**block
            for unit in range(count):
                first = unit == 0 and block > 0
                layers.append(Bottleneck(inputs, middle, _stride(points) if first else 1))
                points = _after(points) if first else points
                inputs = EXPANSION * middle
        self.layers = nn.Sequential(*layers, _norm(inputs), nn.ReLU())
        self.features = inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, points) -> (B, features)."""
        return self.layers(x).mean(2)


def _stride(points: int) -> int:
    """2, unless too few positions would be left."""
    return 2 if points > POOLED else 1


def _after(points: int) -> int:
    """Positions after a convolution or pooling of that stride, which fills up half its kernel on each side."""
    return -(-points // _stride(points))
