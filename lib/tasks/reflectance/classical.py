"""Ridge regression and ExtraTrees on fingerprints: baselines of every sheet, and families of their own.

Fitted by scikit-learn, then held by the network's buffers, so that they are saved, exported and compared like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.task import InputError
from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import CHANNELS
from lib.tasks.reflectance.fingerprint import FEATURES, Fingerprint
from lib.tasks.reflectance.forest import Forest
from lib.tasks.reflectance.networks import Reader

if TYPE_CHECKING:  # a second that only training pays
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.pipeline import Pipeline

TREES, LEAF_ROWS = 200, 2
ALPHAS = np.logspace(0, 5, 11)


def trees(
    rng: np.random.Generator,
    count: int = TREES,
    leaf_rows: int = LEAF_ROWS,
    most_leaves: int | None = None,
    deepest: int | None = None,
) -> ExtraTreesRegressor:
    """Unfitted ExtraTrees (Geurts, Ernst & Wehenkel 2006)."""
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(
        count, min_samples_leaf=leaf_rows, max_leaf_nodes=most_leaves, max_depth=deepest,
        random_state=int(rng.integers(2**31)), n_jobs=1,
    )  # fmt: skip


def ridge() -> Pipeline:
    """Unfitted ridge regression on standardised features; its penalty by leave-one-out."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(ALPHAS))


def complete(channels: np.ndarray) -> np.ndarray:
    """Channels (n, 10) with the mean of each where a sample's was not measured; 0 for a channel that nobody measured."""
    known = np.isfinite(channels)
    mean = np.where(known, channels, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known, channels, mean)


class FingerprintBody(nn.Module):
    """The fingerprint as features without place; the map is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.describe = Fingerprint()

    def forward(self, image: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 0, 1, 1) and (B, FEATURES)."""
        return image.new_zeros(len(image), 0, 1, 1), self.describe(image, scale)


class RidgeHead(nn.Module):
    """A linear map of the fingerprint."""

    weight: Tensor  # (10, FEATURES)
    bias: Tensor  # (10,)
    centre: Tensor  # (FEATURES,)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(len(CHANNELS), FEATURES))
        self.register_buffer("bias", torch.zeros(len(CHANNELS)))
        self.register_buffer("centre", torch.zeros(FEATURES))

    def fill(self, fitted: Pipeline) -> None:
        """Take what scikit-learn fitted."""
        scaler, model = fitted[0], fitted[-1]
        found = {"weight": model.coef_ / scaler.scale_, "bias": model.intercept_, "centre": scaler.mean_}
        for name, values in found.items():
            self.get_buffer(name).copy_(torch.from_numpy(np.asarray(values, np.float32)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, FEATURES) -> channels (B, 1, 10), geometry zeros (B, 14)."""
        found = (features - self.centre) @ self.weight.T + self.bias
        return found.unsqueeze(1), features.new_zeros(len(features), len(GEOMETRY))


class ForestHead(nn.Module):
    """Trees on the fingerprint; each is a member, so their spread tells how sure they are."""

    def __init__(self, nodes: int, count: int, depth: int) -> None:
        super().__init__()
        self.forest = Forest(nodes, count, depth)

    def fill(self, fitted: ExtraTreesRegressor) -> None:
        """Take what scikit-learn fitted."""
        self.forest.fill(fitted)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, FEATURES) -> channels (B, trees, 10), geometry zeros (B, 14)."""
        return self.forest(features), features.new_zeros(len(features), len(GEOMETRY))


def build(model: str, facts: Mapping[str, Any]) -> Reader:
    """The network of a family, empty; `facts` says how large the forest is. Raises InputError where they do not."""
    if model == "ridge":
        return Reader(FingerprintBody(), RidgeHead())
    size = facts.get("forest")
    if size is None:
        raise InputError("model 'ExtraTrees'", "this run does not say how large its forest is", "Train it again.")
    return Reader(FingerprintBody(), ForestHead(size["nodes"], size["trees"], size["depth"]))


def fit(model: str, described: np.ndarray, channels: np.ndarray, rng: np.random.Generator) -> tuple[Reader, dict[str, Any]]:
    """The fitted network, and the facts with which `build` makes the same shape.

    `described` (n, FEATURES) are fingerprints, `channels` (n, 10) fractions, NaN where not measured.
    """
    facts: dict[str, Any] = {}
    if model == "ridge":
        fitted = ridge().fit(described, complete(channels))
    else:
        fitted = trees(rng).fit(described, complete(channels))
        grown = [one.tree_ for one in fitted.estimators_]
        nodes, depth = sum(tree.node_count for tree in grown), max(tree.max_depth for tree in grown)
        facts = {"forest": {"nodes": int(nodes), "trees": len(grown), "depth": int(depth)}}
    network = build(model, facts)
    network.head.fill(fitted)  # type: ignore[operator]
    network.standardise((np.zeros(len(CHANNELS)), np.ones(len(CHANNELS))), (np.zeros(len(GEOMETRY)), np.ones(len(GEOMETRY))))
    return network, facts
