"""What a network gets, what it is told to give, and how far off it counts as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.task import Arrays, Samples
from lib.tasks.reflectance.augment import scale_of
from lib.tasks.reflectance.columns import GEOMETRY, TARGETS, geometry_of
from lib.tasks.reflectance.config import CHANNELS

if TYPE_CHECKING:
    import torch

HUBER = 0.05  # fractions: errors beyond count by their size, smaller ones by its square
HUBER_GEOMETRY = 0.5  # standard deviations


def tensors(samples: Samples) -> Arrays:
    """`image` (n, 256, 256) from 0 to 1 and `scale` (n, 2), see `augment.scale_of`."""
    image = np.asarray(samples.inputs["image"])
    return {"image": image.astype(np.float32) / 255, "scale": scale_of(samples.table["nm_per_px"].to_numpy(float))}


def targets(samples: Samples, facts: Mapping[str, Any]) -> Arrays:
    """Channels (n, 10) and geometry (n, 14), NaN where unknown, and how much each counts, (n, 10) and (n, 14).

    What is to be learnt but unknown counts nothing; geometry counts over its spread in training.
    """
    channels, geometry = samples.table[TARGETS].to_numpy(np.float32), geometry_of(samples.table)
    weights = np.asarray(facts["loss_weights"], np.float32)
    if facts.get("stage") == "geometry":
        weights = 0 * weights
    counted = weights / max(float(weights.sum()), 1e-9)
    spread = np.asarray(facts["geometry"][1], np.float32)
    return {
        "channels": channels, "channel_weight": np.where(np.isfinite(channels), counted, 0).astype(np.float32),
        "geometry": geometry, "geometry_spread": np.tile(spread, (len(geometry), 1)),
        "geometry_weight": np.where(
            np.isfinite(geometry), float(facts["geometry_weight"]) / len(GEOMETRY), 0
        ).astype(np.float32),
    }  # fmt: skip


def errors(output: torch.Tensor, wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Absolute error (n,) of each channel, of the mean over the members, in pp: `mae_<channel>_pp`; NaN where unknown."""
    mean = output[:, : -len(GEOMETRY)].unflatten(1, (-1, len(CHANNELS))).mean(1).clamp(0, 1)
    off = 100 * (mean - wanted["channels"]).abs().float()
    return {f"mae_{channel}_pp": off[:, k] for k, channel in enumerate(CHANNELS)}


def loss(output: torch.Tensor, wanted: dict[str, torch.Tensor]) -> torch.Tensor:
    """Weighted Huber loss of every member's channels in units of HUBER, plus that of the geometry in standard deviations."""
    import torch
    from torch.nn.functional import smooth_l1_loss

    channels = torch.nan_to_num(wanted["channels"])
    members = output[:, : -len(GEOMETRY)].unflatten(1, (-1, channels.shape[1]))
    apart = smooth_l1_loss(members, channels.unsqueeze(1).expand_as(members), beta=HUBER, reduction="none").mean(1) / HUBER
    off = (output[:, -len(GEOMETRY) :] - torch.nan_to_num(wanted["geometry"])) / wanted["geometry_spread"]
    beside = smooth_l1_loss(off, torch.zeros_like(off), beta=HUBER_GEOMETRY, reduction="none")
    total = (apart * wanted["channel_weight"]).sum(1) + (beside * wanted["geometry_weight"]).sum(1)
    return total.mean()
