"""Linear models, MiniRocket's features and means of several as torch modules: what scikit-learn fitted, for ONNX too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.tasks.spectra.networks import Body, Preprocessing, widened

ABSENT = -30.0  # logit of a class that the training rows lack
NO_CHANCE = 1e-30  # least mean probability, whose logarithm float32 still holds
ROWS_ON_CPU, ROWS_ON_GPU = 1, 64  # at once: on a CPU the results of all kernels should stay in cache


class Rocket(nn.Module):
    """MiniRocket's features of (B, P) curves (Dempster, Schmidt & Webb 2021): the arithmetic of `minirocket`, in its order.

    Kernels, dilations and the number of biases follow from the number of points; only the biases are fitted. Raises ValueError
    where there are fewer points than a kernel has.
    """

    biases: Tensor  # (84, biases per kernel): columns of the first dilation, then of the second …
    kernels: Tensor  # (84, 3) taps whose weight is 2
    order: Tensor  # (2, 84) kernels that look over the ends of the curve, then the others, at even and at odd dilations
    place: Tensor  # (2, 84) where each kernel went

    def __init__(self, points: int, features: int = 9996) -> None:
        super().__init__()
        from lib.tasks.spectra import minirocket  # with scikit-learn, for which other families need not wait

        if points < minirocket.TAPS:
            raise ValueError(f"MiniRocket needs spectra of at least {minirocket.TAPS} points; these have {points}.")
        count = len(minirocket.KERNELS)
        per_kernel = max(features // count, 1)
        dilations, counts = minirocket.dilations(points, per_kernel)
        self.dilations, self.counts = dilations.tolist(), counts.tolist()
        self.points, self.taps, self.features = points, minirocket.TAPS, per_kernel * count
        even, odd = torch.arange(0, count, 2), torch.arange(1, count, 2)
        order = torch.stack([torch.cat([even, odd]), torch.cat([odd, even])])
        self.register_buffer("biases", torch.zeros(count, per_kernel))
        self.register_buffer("kernels", torch.from_numpy(minirocket.KERNELS), persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("place", order.argsort(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P) float32 -> (B, features) shares between 0 and 1."""
        if torch.compiler.is_exporting():
            return cast("Tensor", torch.ops.lightbench.minirocket(x, self.biases))
        return torch.cat([self._features(part) for part in x.split(ROWS_ON_CPU if x.device.type == "cpu" else ROWS_ON_GPU)])

    @staticmethod
    def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
        """How the operator that stands for the features in an exported program is written in ONNX."""
        from lib.tasks.spectra.rocket_graph import minirocket

        return {torch.ops.lightbench.minirocket.default: minirocket}

    def _features(self, x: Tensor) -> Tensor:
        columns, start = [], 0
        for number, (dilation, count) in enumerate(zip(self.dilations, self.counts)):
            columns.append(self._of_dilation(x, number % 2, dilation, self.biases[:, start : start + count]))
            start += count
        return torch.cat(columns, 1)

    def _of_dilation(self, x: Tensor, parity: int, dilation: int, biases: Tensor) -> Tensor:
        """(B, 84·m) shares above each of biases (84, m). Every other kernel looks at whole kernels alone, inside the curve."""
        margin, half = (self.taps // 2) * dilation, self.order.shape[1] // 2
        wide = F.pad(x, (margin, margin))
        taps = [wide[:, tap * dilation : tap * dilation + self.points] for tap in range(self.taps)]
        total = taps[0]
        for tap in taps[1:]:  # one by one, so that torch, NumPy and onnxruntime round alike
            total = total + tap
        tripled, order = 3 * torch.stack(taps, 1), self.order[parity]
        first, second, third = (tripled.index_select(1, self.kernels[order, i]) for i in range(3))
        results, limits = first + second + third - total.unsqueeze(1), biases[order]
        inner = results[:, half:, margin : self.points - margin] if self.points > 2 * margin else results[:, half:]
        found = torch.cat([_shares(results[:, :half], limits[:half]), _shares(inner, limits[half:])], 1)
        return found.index_select(1, self.place[parity]).flatten(1)


@torch.library.custom_op("lightbench::minirocket", mutates_args=(), schema="(Tensor x, Tensor biases) -> Tensor")
def _minirocket(x: Tensor, biases: Tensor) -> Tensor:
    """(B, P) and (84, m) -> (B, 84·m): the features as one operator, which an exported program holds instead of all its steps."""
    rocket = Rocket(x.shape[1], biases.numel()).to(x.device)
    rocket.biases.copy_(biases)
    return rocket(x)


@_minirocket.register_fake
def _shape(x: Tensor, biases: Tensor) -> Tensor:
    """The shape of what `_minirocket` gives."""
    return x.new_empty(x.shape[0], biases.numel())


def _shares(results: Tensor, limits: Tensor) -> Tensor:
    """(B, k, m) shares of (B, k, T) results above each of m limits (k, m)."""
    over = torch.empty_like(results)  # compared into numbers: twice as fast as turning truths into numbers
    above = [torch.gt(results, limit, out=over).sum(2, keepdim=True) for limit in limits.split(1, 1)]
    return torch.cat(above, 2) / results.shape[2]


class Linear(Body):
    """Logits = weight · (features − centre) + bias; features are the preprocessed spectra, or MiniRocket's of them.

    Tabular values are not used.
    """

    weight: Tensor  # (K, F)
    bias: Tensor  # (K,)
    centre: Tensor  # (F,)

    def __init__(self, points: int, classes: int, rocket: Rocket | None = None) -> None:
        super().__init__()
        self.rocket = rocket
        features = points if rocket is None else rocket.features
        self.register_buffer("weight", torch.zeros(classes, features))
        self.register_buffer("bias", torch.full((classes,), ABSENT))
        self.register_buffer("centre", torch.zeros(features))

    def set(self, codes: np.ndarray, coef: np.ndarray, intercept: np.ndarray, centre: np.ndarray) -> None:
        """Take coefficients (k, F) and intercepts (k,) of the classes `codes` (k,); those never seen get next to nothing.

        `centre` (F,) is any typical row of features: about it, large terms do not cancel.
        """
        self.weight.zero_()
        self.bias.fill_(ABSENT)
        self.weight[torch.from_numpy(codes)] = torch.from_numpy(coef).to(self.weight)
        self.bias[torch.from_numpy(codes)] = torch.from_numpy(intercept + coef @ centre).to(self.bias)
        self.centre.copy_(torch.from_numpy(centre))

    def forward(self, x: Tensor, tabular: Tensor) -> Tensor:
        """(B, K) float32."""
        features = x if self.rocket is None else self.rocket(x.float())
        return ((widened(features) - widened(self.centre)) @ widened(self.weight).T + widened(self.bias)).float()


class Averaged(Body):
    """The mean probability of several linear models, each with a preprocessing of its own, as its logarithm.

    It takes spectra as they are: the classifier around it preprocesses nothing.
    """

    def __init__(self, chains: Sequence[str], members: Sequence[Linear], points: int) -> None:
        super().__init__()
        self.preprocessings = nn.ModuleList(Preprocessing(chain, points) for chain in chains)
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor, tabular: Tensor) -> Tensor:
        """(B, K) float32, of which the softmax is the mean."""
        logits = [member(before(x), tabular) for before, member in zip(self.preprocessings, self.members)]
        return torch.stack(logits).softmax(2).mean(0).clamp_min(NO_CHANCE).log()
