"""Regression trees inside a network: saved, exported and run like any other layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from lib.tasks.reflectance.config import CHANNELS

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor


class Forest(nn.Module):
    """Regression trees that scikit-learn grew, as buffers, all walked at once.

    `nodes` of all trees together may be fewer than there is room for; until they are filled, every tree gives 0.
    """

    feature: Tensor  # (nodes,) of all trees, one after another
    threshold: Tensor
    below: Tensor  # (nodes,) where to go; a leaf goes to itself
    above: Tensor
    value: Tensor  # (nodes, 10)
    root: Tensor  # (trees,)

    def __init__(self, nodes: int, count: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        for name, size in (("feature", nodes), ("below", nodes), ("above", nodes), ("root", count)):
            self.register_buffer(name, torch.zeros(size, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(nodes))
        self.register_buffer("value", torch.zeros(nodes, len(CHANNELS)))

    def fill(self, fitted: ExtraTreesRegressor) -> None:
        """Take what scikit-learn fitted."""
        first = 0
        self.value.zero_()
        for number, one in enumerate(fitted.estimators_):
            tree = one.tree_
            here, leaf = slice(first, first + tree.node_count), tree.children_left < 0
            own = first + np.arange(tree.node_count)
            values = {
                "feature": np.where(leaf, 0, tree.feature), "threshold": _below(tree.threshold), "value": tree.value[:, :, 0],
                "below": np.where(leaf, own, first + tree.children_left),
                "above": np.where(leaf, own, first + tree.children_right),
            }  # fmt: skip
            for name, one_value in values.items():
                self.get_buffer(name)[here] = torch.from_numpy(np.asarray(one_value)).to(self.get_buffer(name))
            self.root[number] = first
            first += tree.node_count

    def forward(self, features: Tensor) -> Tensor:
        """(B, features) -> (B, trees, 10)."""
        node = self.root.unsqueeze(0).expand(len(features), -1)
        for _ in range(self.depth):
            goes_down = features.gather(1, self.feature[node]) <= self.threshold[node]
            node = torch.where(goes_down, self.below[node], self.above[node])
        return self.value[node]


def _below(threshold: np.ndarray) -> np.ndarray:
    """Thresholds as float32, rounded down: a float32 feature is then on the same side as in float64."""
    rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
