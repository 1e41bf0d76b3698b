"""The original project's four network families, on whole frames: SimpleCNN, Park CNN, ResNet2D, ResNet3D.

They keep the original's idea (frames as channels, or a 3-D residual network) and get our front end (photons instead of raw
ADU), our output (a distribution over log10 D) and our training data (D log-uniform instead of one value).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lib.tasks.diffusion.frontend import Spots
from lib.tasks.diffusion.networks import Body, Estimator, SpotNet, Symmetry

FRAMES = 16


class WholeFrames(Body):
    """Wraps a network on (B, 16, 64, 64) compressed signal-to-noise images so that it can be an Estimator's body."""

    def __init__(self, network: nn.Module, embedding: int, volume: bool = False) -> None:
        super().__init__()
        self.network, self.embedding, self.volume = network, embedding, volume

    def inputs(self, spots: Spots) -> dict[str, Tensor]:
        """`images` (B, 16, 64, 64): compressed signal to noise."""
        return {"images": torch.asinh(spots.frames / spots.noise.view(-1, 1, 1, 1))}

    def turn(self, read: dict[str, Tensor], symmetry: Symmetry) -> dict[str, Tensor]:
        """The same with turned images."""
        return {**read, "images": symmetry.images(read["images"])}

    def forward(self, read: dict[str, Tensor]) -> Tensor:
        """(B, embedding)."""
        frames = read["images"]
        return self.network(frames.unsqueeze(1) if self.volume else frames)


class Residual(nn.Module):
    """Two 3×3 (or 3×3×3) convolutions with group norm around an identity, the first with `stride`."""

    def __init__(self, inputs: int, outputs: int, stride: int, volume: bool) -> None:
        super().__init__()
        conv = nn.Conv3d if volume else nn.Conv2d
        self.body = nn.Sequential(
            conv(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(4, outputs), nn.ReLU(),
            conv(outputs, outputs, 3, 1, 1, bias=False), nn.GroupNorm(4, outputs),
        )  # fmt: skip
        self.skip = nn.Identity() if stride == 1 and inputs == outputs else conv(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Same rank as the input; space shrinks by `stride`."""
        return torch.relu(self.body(x) + self.skip(x))


def simple_cnn(width: int) -> WholeFrames:
    """Three convolutions with pooling, then two dense layers."""
    layers: list[nn.Module] = []
    channels = [FRAMES, width, 2 * width, 4 * width]
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(4 * width * 64, 128), nn.ReLU()]
    return WholeFrames(nn.Sequential(*layers), 128)


def park_cnn(width: int, pooling: bool) -> WholeFrames:
    """Convolutions of falling size with Swish; without pooling, strides do the shrinking."""
    layers: list[nn.Module] = []
    sizes = [(FRAMES, width, 7), (width, 2 * width, 5), (2 * width, 4 * width, 3), (4 * width, 4 * width, 3)]
    for inputs, outputs, kernel in sizes:
        layers += [nn.Conv2d(inputs, outputs, kernel, 1 if pooling else 2, kernel // 2), nn.SiLU()]
        layers += [nn.AvgPool2d(2)] if pooling else []
    layers += [nn.Flatten(), nn.Linear(4 * width * 16, 128), nn.SiLU()]
    return WholeFrames(nn.Sequential(*layers), 128)


def resnet(width: int, volume: bool) -> WholeFrames:
    """Stem and four residual stages; 2-D takes frames as channels, 3-D convolves over time as well."""
    first = nn.Conv3d(1, width, (3, 5, 5), (1, 2, 2), (1, 2, 2)) if volume else nn.Conv2d(FRAMES, width, 5, 2, 2)
    layers: list[nn.Module] = [first, nn.GroupNorm(4, width), nn.ReLU()]
    inputs = width
    for stage, outputs in enumerate((width, 2 * width, 4 * width, 4 * width)):
        layers += [Residual(inputs, outputs, 1 if stage == 0 else 2, volume), Residual(outputs, outputs, 1, volume)]
        inputs = outputs
    pool = nn.AdaptiveAvgPool3d(1) if volume else nn.AdaptiveAvgPool2d(1)
    return WholeFrames(nn.Sequential(*layers, pool, nn.Flatten()), inputs, volume)


def build(family: str, width: int, dropout: float = 0.0) -> Estimator:
    """The untrained network of a family, `width` channels in its first layers; SpotNet alone has dropout."""
    makers = {
        "SpotNet": lambda: SpotNet(width, dropout),
        "SimpleCNN": lambda: simple_cnn(width),
        "ParkCNN": lambda: park_cnn(width, pooling=True),
        "ParkCNN no pooling": lambda: park_cnn(width, pooling=False),
        "ResNet2D": lambda: resnet(width, volume=False),
        "ResNet3D": lambda: resnet(width, volume=True),
    }
    return Estimator(makers[family]())
