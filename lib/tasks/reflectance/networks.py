"""The networks: ours (PolarNet) and what every family shares, from the image to ten channels with intervals.

A body turns an image into a map of features over the image and features without place; a head turns their mean into channels.
PolarNet sees the image at a quarter of its resolution and, on a second path, its spectrum over frequency and direction, where a
turned specimen is a shifted map. It is first trained on rendered images to tell the geometry they were rendered from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import CHANNELS, IMAGE_PX
from lib.tasks.reflectance.fingerprint import FEATURES, Fingerprint
from lib.tasks.reflectance.forest import Forest
from lib.tasks.reflectance.fourier import PolarSpectrum

DIRECTIONS = 16  # of the space in which images are compared
REFERENCES = 256  # training images that a new one is compared with
NEAREST = 3
WEAKEST, NOWHERE = 0.1, 1e3  # of a direction's spread; where there are no references
COVERAGE = 0.68  # of the intervals
FEWEST_TO_CALIBRATE = 5
TREES_PER_MEMBER, MOST_LEAVES, DEEPEST = 8, 200, 16  # of the trees on the geometry
SMALLEST_SPREAD = 0.005  # of a channel, in fractions: members that agree by chance are not that sure

Values = np.ndarray | Sequence[float]


class Block(nn.Module):
    """Depthwise 5×5, then two pointwise convolutions around an identity (after Liu et al. 2022, ConvNeXt)."""

    def __init__(self, width: int, expand: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False), nn.GroupNorm(1, width),
            nn.Conv2d(width, expand * width, 1), nn.GELU(), nn.Conv2d(expand * width, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x + self.body(x)


class Circular(nn.Module):
    """3×3 convolution of a polar map (B, C, radii, angles): after half a turn the directions begin again."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.norm = nn.GroupNorm(1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, r, a) -> (B, outputs, ⌈r/stride⌉, ⌈a/stride⌉)."""
        around = torch.cat([x[..., -1:], x, x[..., :1]], 3)
        return F.gelu(self.norm(self.conv(F.pad(around, (0, 0, 1, 1)))))


class PolarBody(nn.Module):
    """Image path (B, 5/2·width, 16, 16) and spectrum path, with contrast and scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow, middle, wide = width * 3 // 4, width * 5 // 4, width * 5 // 2
        self.first = nn.Sequential(
            nn.Conv2d(1, narrow, 8, 4, 2), nn.GroupNorm(1, narrow), nn.GELU(), nn.Conv2d(narrow, middle, 2, 2)
        )
        self.image = nn.Sequential(Block(middle, 2), nn.Conv2d(middle, wide, 2, 2), Block(wide, 2), nn.GroupNorm(1, wide))
        self.spectrum = PolarSpectrum(IMAGE_PX)
        self.polar = nn.Sequential(
            Circular(1, width // 2, 1),
            Circular(width // 2, width, 2),
            Circular(width, 3 * width // 2, 2),
            Circular(3 * width // 2, 2 * width, 2),
        )
        self.mapped, self.placeless = wide, 5 * 2 * width + 4  # the polar map keeps its five frequencies

    def forward(self, image: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Image (B, 256, 256) from 0 to 1, scale (B, 2) -> map (B, mapped, 16, 16) and features (B, placeless)."""
        mean = image.mean((1, 2))
        away = image - mean.view(-1, 1, 1)
        std = away.square().mean((1, 2)).sqrt()
        even = away / (std.view(-1, 1, 1) + 0.02)
        polar = self.polar(self.spectrum(even).unsqueeze(1) - 1)
        turned = polar.mean(3).flatten(1)  # over directions: what is left does not change when the specimen turns
        greys = torch.stack([4 * mean - 2, 8 * std - 1], 1)
        places = self.image(self.first(even.unsqueeze(1).contiguous(memory_format=torch.channels_last)))
        return places, torch.cat([turned, greys, scale], 1)


class Members(nn.Module):
    """K small networks on the same features, all at once: (B, inputs) -> (B, K, 10)."""

    def __init__(self, inputs: int, hidden: int, count: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Parameter(torch.randn(count, inputs, hidden) / inputs**0.5)
        self.enter_bias = nn.Parameter(torch.zeros(count, 1, hidden))
        self.middle = nn.Parameter(torch.randn(count, hidden, hidden) * (2 / hidden) ** 0.5)
        self.middle_bias = nn.Parameter(torch.zeros(count, 1, hidden))
        self.leave = nn.Parameter(0.1 * torch.randn(count, hidden, len(CHANNELS)) / hidden**0.5)
        self.leave_bias = nn.Parameter(torch.zeros(count, 1, len(CHANNELS)))
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs) -> (B, K, 10)."""
        x = torch.tanh(features @ self.enter + self.enter_bias)
        x = F.silu(x @ self.middle + self.middle_bias)
        x = F.dropout(x, self.dropout, self.training)
        return (x @ self.leave + self.leave_bias).transpose(0, 1)


class PolarHead(nn.Module):
    """Geometry from the features; channels from the geometry and from what else the features tell.

    With `grove`, as many groups of trees on the geometry are further members: they were fitted to training images before the
    first epoch, so they are left out while training.
    """

    def __init__(self, inputs: int, hidden: int, members: int, dropout: float, grove: bool) -> None:
        super().__init__()
        self.grove, self.count = grove, members
        trees = members * TREES_PER_MEMBER
        self.forest = Forest(trees * (2 * MOST_LEAVES - 1), trees, DEEPEST)
        self.geometry = nn.Sequential(
            nn.Linear(inputs, 3 * hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(3 * hidden, len(GEOMETRY))
        )
        self.rest = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, hidden // 2), nn.Tanh())
        self.members = Members(len(GEOMETRY) + hidden // 2, hidden, members, dropout)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs) -> channels (B, K, 10) and geometry (B, 14), both standardised."""
        geometry = self.geometry(features)
        channels = self.members(torch.cat([geometry, self.rest(features)], 1))
        if self.grove and not self.training:
            groups = self.forest(geometry).unflatten(1, (self.count, TREES_PER_MEMBER)).mean(2)
            channels = torch.cat([channels, groups], 1)
        return channels, geometry


class Reader(nn.Module):
    """Image to channels: body, head, scales of what is told, intervals, and what an image is compared with.

    `forward` gives (B, 10·K + 14): channels of each member as fractions, then the geometry, lengths as their natural logarithm.
    """

    channel_mean: Tensor
    channel_std: Tensor
    geometry_mean: Tensor
    geometry_std: Tensor
    width_factor: Tensor  # (10,) half-width of the 68 % interval over the spread of the members
    width_floor: Tensor  # (10,)
    compare_centre: Tensor
    compare_axes: Tensor  # (FEATURES, DIRECTIONS)
    references: Tensor  # (REFERENCES, DIRECTIONS)
    reach: Tensor  # (1,) distance to the nearest reference that 99 of 100 training images keep

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head, self.fingerprint = body, head, Fingerprint()
        channels, geometry = len(CHANNELS), len(GEOMETRY)
        for name, size, value in (
            ("channel_mean", channels, 0.2), ("channel_std", channels, 0.15), ("geometry_mean", geometry, 0.0),
            ("geometry_std", geometry, 1.0), ("width_factor", channels, 1.0), ("width_floor", channels, 0.05),
        ):  # fmt: skip
            self.register_buffer(name, torch.full((size,), value))
        self.register_buffer("compare_centre", torch.zeros(FEATURES))
        self.register_buffer("compare_axes", torch.zeros(FEATURES, DIRECTIONS))
        self.register_buffer("references", torch.zeros(REFERENCES, DIRECTIONS))
        self.register_buffer("reach", torch.ones(1))

    def forward(self, image: Tensor, scale: Tensor) -> Tensor:
        """(B, 10·K + 14)."""
        places, placeless = self.body(image, scale)
        members, geometry = self.head(torch.cat([places.mean((2, 3)), placeless], 1))
        members = members * self.channel_std + self.channel_mean
        return torch.cat([members.flatten(1), geometry * self.geometry_std + self.geometry_mean], 1)

    def physical(self, image: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """`channels` (B, 10), `half_width` (B, 10) of their 68 % intervals, `geometry`, `distance`, `nearest`.

        `distance` (B,) is to the nearest reference, in units of what training images keep;
        `nearest` (B, 3) are the places of the nearest references.
        """
        raw = self(image, scale)
        mean, spread = mean_and_spread(raw)
        half = self.width_factor * torch.sqrt(spread**2 + self.width_floor**2)
        distance, nearest = self._compared(image, scale)
        return {
            "channels": mean.clamp(0, 1), "half_width": half, "geometry": raw[:, -len(GEOMETRY) :],
            "distance": distance, "nearest": nearest,
        }  # fmt: skip

    def _compared(self, image: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        place = (self.fingerprint(image, scale) - self.compare_centre) @ self.compare_axes
        square = (place.unsqueeze(1) - self.references).square().sum(2)
        least = torch.topk(square, NEAREST, dim=1, largest=False)
        return least.values[:, 0].sqrt() / self.reach, least.indices.float()

    def standardise(self, channels: Sequence[Values], geometry: Sequence[Values]) -> None:
        """Take mean and standard deviation of channels (10,) and geometry (14,) of the training images."""
        for name, values in zip(("channel_mean", "channel_std", "geometry_mean", "geometry_std"), (*channels, *geometry)):
            self.get_buffer(name).copy_(torch.from_numpy(np.asarray(values, np.float32)))

    def compare_with(self, described: np.ndarray, groups: np.ndarray, references: np.ndarray) -> None:
        """Learn from fingerprints (n, FEATURES) of training images how far apart they are; `references` are rows of them.

        Distances are Euclidean after principal components of equal variance. Images of one group, (n,), tell nothing of how far
        the nearest other one is.
        """
        centre, spread = described.mean(0), described.std(0) + 1e-3
        _, strength, axes = np.linalg.svd((described - centre) / spread, full_matrices=False)
        size = min(DIRECTIONS, len(strength))
        turn = np.zeros((FEATURES, DIRECTIONS))
        turn[:, :size] = axes[:size].T / spread[:, None] / (strength[:size] / np.sqrt(len(described)) + WEAKEST)
        place = (described - centre) @ turn
        apart = np.linalg.norm(place[:, None] - place[references][None], axis=2)
        apart[groups[:, None] == groups[references][None]] = np.inf
        nearest = apart.min(1)
        reach = float(np.quantile(nearest[np.isfinite(nearest)], 0.99)) if np.isfinite(nearest).any() else 1.0
        kept = np.full((REFERENCES, DIRECTIONS), NOWHERE) * np.arange(1, REFERENCES + 1)[:, None]
        kept[: len(references)] = place[references]
        values = {"compare_centre": centre, "compare_axes": turn, "references": kept, "reach": np.array([reach + 1e-6])}
        for name, value in values.items():
            self.get_buffer(name).copy_(torch.from_numpy(np.asarray(value, np.float32)))

    def calibrate(self, raw: Tensor, channels: Tensor) -> None:
        """Set the intervals so that each channel's hold 68 % of validation images (conformal, Lei et al. 2018, section 5.2).

        `raw` (n, …) as `forward` gives it and `channels` (n, 10) fractions, NaN where not measured. The floor is half the median
        error, so that members that agree by chance do not promise too much.
        """
        mean, spread = mean_and_spread(raw)
        error = (mean.clamp(0, 1) - channels).abs()
        for k in range(len(CHANNELS)):
            known = torch.isfinite(error[:, k])
            if int(known.sum()) < FEWEST_TO_CALIBRATE:
                continue
            found = error[known, k]
            self.width_floor[k] = max(0.5 * float(found.median()), 1e-4)
            ratio = found / torch.sqrt(spread[known, k] ** 2 + self.width_floor[k] ** 2)
            self.width_factor[k] = torch.quantile(ratio, min(1.0, COVERAGE * (len(ratio) + 1) / len(ratio)))


def mean_and_spread(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the members of the channels in `Reader.forward`'s output, (B, 10) each."""
    members = raw[:, : -len(GEOMETRY)].unflatten(1, (-1, len(CHANNELS)))
    mean = members.mean(1)
    spread = (members - mean.unsqueeze(1)).square().mean(1)
    return mean, torch.sqrt(spread + SMALLEST_SPREAD**2)


def build_polar(width: int, members: int, dropout: float, *, grove: bool = False) -> Reader:
    """PolarNet, untrained; with `grove`, trees that `families.prepare` fits give half of the answer."""
    body = PolarBody(width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU
    return Reader(body, PolarHead(body.mapped + body.placeless, 2 * width, members, dropout, grove))
