"""Networks that judge candidates: ours (PatchNet), a small U-Net, and the original project's CCN as a patch classifier.

Every network takes `patch` (B, 2, 15, 15: asinh of z, and where it is known) and `context` (B, 2: how far the candidate stands
out, and how correlated its frame's noise is), and gives the logit of its being a Bragg peak.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.tasks.bragg.candidates import PATCH_PX

CHANNELS, CONTEXT = 2, 2


class Residual(nn.Module):
    """Two 3 × 3 convolutions with batch norm around an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as the input."""
        return torch.relu(self.body(x) + x)


def _down(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class PatchNet(nn.Module):
    """Convolutions that halve the patch twice, then dense layers that keep positions; 0.07 M weights at width 32."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        first = [nn.Conv2d(CHANNELS, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        last = 3 * width // 2
        self.features = nn.Sequential(*first, Residual(width), *_down(width, last), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(16 * last + CONTEXT, last), nn.ReLU(), nn.Dropout(dropout), nn.Linear(last, 1))

    def forward(self, patch: Tensor, context: Tensor) -> Tensor:
        """(B,) logits."""
        return self.head(torch.cat([self.features(patch), context], 1)).squeeze(1)


class UNet(nn.Module):
    """Two levels down and up again over the patch; read off at its centre, as a U-Net over the frame would be."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = self._pair(CHANNELS, width)
        self.down = self._pair(width, 2 * width)
        self.deep = self._pair(2 * width, 4 * width)
        self.up = self._pair(6 * width, 2 * width)
        self.leave = self._pair(3 * width, width)
        self.map = nn.Conv2d(width, 1, 1)

    @staticmethod
    def _pair(inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for n in (inputs, outputs):
            layers += [nn.Conv2d(n, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, patch: Tensor, context: Tensor) -> Tensor:
        """(B,) logits of the centre pixel."""
        patch = F.pad(patch, (0, 1, 0, 1))  # 16 × 16, so that halving comes out even
        high = self.enter(patch)
        middle = self.down(F.max_pool2d(high, 2))
        low = self.deep(F.max_pool2d(middle, 2))
        middle = self.up(torch.cat([F.interpolate(low, scale_factor=2.0), middle], 1))
        high = self.leave(torch.cat([F.interpolate(middle, scale_factor=2.0), high], 1))
        centre = PATCH_PX // 2
        return self.map(high)[:, 0, centre, centre]


class CCN(nn.Module):
    """The original's layers: two convolutions of 32 and 64 with pooling, dropout ½, dense 128, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * (PATCH_PX // 4) ** 2, 128), nn.ReLU(), nn.Linear(128, 2),
        )  # fmt: skip

    def forward(self, patch: Tensor, context: Tensor) -> Tensor:
        """(B,) logits: class 1 over class 0, of the pixels scaled to [0, 1] over each patch, as the original did."""
        pixels = patch[:, :1]
        low = pixels.amin((2, 3), keepdim=True)
        classes = self.body((pixels - low) / (pixels.amax((2, 3), keepdim=True) - low).clamp(min=1e-6))
        return classes[:, 1] - classes[:, 0]


class Judge(nn.Module):
    """A network with the scale and shift that make its probabilities right on validation candidates (Platt 1999)."""

    slope: Tensor
    shift: Tensor

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, patch: Tensor, context: Tensor) -> Tensor:
        """(B,) logits, not yet calibrated."""
        return self.body(patch, context)

    def physical(self, patch: Tensor, context: Tensor) -> dict[str, Tensor]:
        """`score` (B,): the probability that the candidate is a Bragg peak."""
        return {"score": torch.sigmoid(self.slope * self(patch, context) + self.shift)}

    def calibrate(self, logits: Tensor, labels: Tensor) -> None:
        """Fit scale and shift by maximum likelihood. Does nothing where all labels are alike."""
        if labels.min() == labels.max():
            return
        free = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
        logits, labels = logits.double(), labels.double()
        optimiser = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = F.binary_cross_entropy_with_logits(free[0] * logits + free[1], labels)
            value.backward()
            return value

        optimiser.step(loss)
        self.slope.fill_(float(free[0].detach()))
        self.shift.fill_(float(free[1].detach()))


def build(family: str, width: int, dropout: float) -> Judge:
    """The untrained network of a family."""
    makers = {"PatchNet": lambda: PatchNet(width, dropout), "U-Net": lambda: UNet(width), "CCN": CCN}
    return Judge(makers[family]())
