"""The original project's two families, at full size or compact: a residual network on the image, and one with a second path.

The second path is the same again on the log-magnitude Fourier image. What the original got wrong is not here: the Fourier
image is made of the very image that the first path sees, nothing overflows, and running statistics never see test images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import CHANNELS, IMAGE_PX
from lib.tasks.reflectance.fourier import Magnitude
from lib.tasks.reflectance.networks import Reader

BLOCKS = (2, 2, 3, 3)
FULL_WIDTH = 128  # channels of the first blocks; each further stage has twice as many
HIDDEN = 512  # of the head at full size
NORM_GROUPS = 16


def norm_of(kind: str, channels: int) -> nn.Module:
    """Group, batch or instance normalisation of a map."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.GroupNorm(math.gcd(NORM_GROUPS, channels), channels)


class Residual(nn.Module):
    """Two 3×3 convolutions around an identity, or around a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), norm_of(norm, outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), norm_of(norm, outputs),
        )  # fmt: skip
        self.skip = nn.Identity() if inputs == outputs and stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h/stride, w/stride)."""
        return torch.relu(self.body(x) + self.skip(x))


def path(width: int, norm: str) -> nn.Sequential:
    """(B, 1, 256, 256) -> (B, 8·width, 8, 8): stem, then 2, 2, 3 and 3 residual blocks of width, 2, 4 and 8 times width."""
    layers: list[nn.Module] = [
        nn.Conv2d(1, width // 2, 7, 2, 3, bias=False), norm_of(norm, width // 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    ]  # fmt: skip
    inputs = width // 2
    for stage, blocks in enumerate(BLOCKS):
        outputs = width * 2**stage
        for block in range(blocks):
            layers.append(Residual(inputs, outputs, 2 if stage and not block else 1, norm))
            inputs = outputs
    return nn.Sequential(*layers)


class OriginalBody(nn.Module):
    """Map of the image path (B, 8·width, 8, 8); features of the Fourier path, or of the halves of the map, and the scale.

    The plain network's head takes as many features as that of both paths: the means over the left and the right half.
    """

    def __init__(self, width: int, norm: str, fourier: bool) -> None:
        super().__init__()
        self.image = path(width, norm)
        self.magnitude = Magnitude(IMAGE_PX) if fourier else None
        self.fourier = path(width, norm) if fourier else None
        self.mapped, self.placeless = 8 * width, 8 * width + 2

    def forward(self, image: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Image (B, 256, 256) from 0 to 1, scale (B, 2)."""
        places = self.image(2 * image.unsqueeze(1) - 1)
        if self.fourier is None or self.magnitude is None:
            right = places[..., places.shape[3] // 2 :].mean((2, 3))
            return places, torch.cat([right, scale], 1)
        second = self.fourier(self.magnitude(image).unsqueeze(1) - 1)
        return places, torch.cat([second.mean((2, 3)), scale], 1)


class OriginalHead(nn.Module):
    """Dense 2048 → 512 → 10 (at full size), and a linear reading of the geometry."""

    def __init__(self, inputs: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, hidden)
        self.leave = nn.Linear(hidden, len(CHANNELS))
        self.geometry = nn.Linear(hidden, len(GEOMETRY))
        self.dropout = dropout

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs) -> channels (B, 1, 10) and geometry (B, 14), both standardised."""
        x = F.dropout(torch.relu(self.enter(features)), self.dropout, self.training)
        return self.leave(x).unsqueeze(1), self.geometry(x)


class Several(nn.Module):
    """Networks of one family side by side, each from weights of its own; their channels become members."""

    def __init__(self, bodies: list[OriginalBody]) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)
        self.sizes = [(body.mapped, body.placeless) for body in bodies]
        self.mapped, self.placeless = (sum(size[k] for size in self.sizes) for k in (0, 1))

    def forward(self, image: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and features of all, one after another."""
        found = [body(image, scale) for body in self.bodies]
        return torch.cat([places for places, _ in found], 1), torch.cat([placeless for _, placeless in found], 1)


class SeveralHeads(nn.Module):
    """Each head on the features of its own body."""

    def __init__(self, heads: list[OriginalHead], several: Several) -> None:
        super().__init__()
        self.heads, self.sizes, self.mapped = nn.ModuleList(heads), several.sizes, several.mapped

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, all features) -> channels (B, K, 10), mean geometry (B, 14)."""
        pooled, placeless = features.split([self.mapped, features.shape[1] - self.mapped], 1)
        parts = zip(pooled.split([s[0] for s in self.sizes], 1), placeless.split([s[1] for s in self.sizes], 1))
        found = [head(torch.cat(part, 1)) for head, part in zip(self.heads, parts)]
        return torch.cat([channels for channels, _ in found], 1), torch.stack([geometry for _, geometry in found]).mean(0)


def build_original(width: int, norm: str, fourier: bool, members: int, dropout: float) -> Reader:
    """The untrained network; `width` is FULL_WIDTH at full size."""
    bodies = [OriginalBody(width, norm, fourier) for _ in range(members)]
    heads = [OriginalHead(body.mapped + body.placeless, HIDDEN * width // FULL_WIDTH, dropout) for body in bodies]
    several = Several(bodies)
    return Reader(several, SeveralHeads(heads, several))
