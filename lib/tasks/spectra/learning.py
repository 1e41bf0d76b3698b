"""What the network is held to: soft targets, class weights, mixup, the loss, and the temperature of its probabilities.

The loss sees outputs and targets alone, so what is done to one training row stands in its table: how much its label is smoothed,
what it is mixed with and how much it counts. Rows without these columns (validation, test, a new file) are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from lib.task import Arrays, InputError, Samples
from lib.tasks.spectra.calibration import TEMPERATURES
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.targets import NO_CLASS, OTHER, Target, words

if TYPE_CHECKING:
    import torch

LABEL, CODE = "label", "code"  # class name and its place in facts["classes"]
MIXED_WITH, MIXED_SHARE = "mixed_with", "mixed_share"  # code of the other row; share of its own
SMOOTHING, WEIGHT = "label_smoothing", "loss_weight"
RESERVED = (LABEL, CODE, MIXED_WITH, MIXED_SHARE, SMOOTHING, WEIGHT)
CLASSES = (
    "classes"  # in `Samples.common`: the class names that CODE counts in; without it a column of that name is the file's own
)


# --- training rows ----------------------------------------------------------------------------------------------------
def class_weights(counts: np.ndarray | Sequence[int], kind: Literal["none", "balanced", "square root"]) -> np.ndarray:
    """Weight of each class (K,) from its number of training rows (K,); the mean over training rows is 1.

    "balanced" gives every class the same total weight, "square root" goes half of the way. A class without rows has weight 1.
    """
    count = np.asarray(counts, dtype=np.float64)
    power = {"none": 0.0, "balanced": 1.0, "square root": 0.5}[kind]
    weight = np.maximum(count, 1) ** -power
    weight *= count.sum() / max(float(count @ weight), 1e-300)
    return np.where(count > 0, weight, 1.0)


def for_training(
    samples: Samples, weights: np.ndarray, config: Training, tabular: Sequence[str], rng: np.random.Generator
) -> Samples:
    """A training batch with its columns for the loss, mixed where `config.mixup_alpha` is above 0. Never changes its input.

    `weights` (K,) are the classes'; `tabular` names the columns that are model inputs and are mixed with the spectra.
    """
    code = samples.table[CODE].to_numpy()
    samples = samples.with_columns(**{SMOOTHING: config.label_smoothing, WEIGHT: weights[code]})
    return mixed(samples, config.mixup_alpha, tabular, rng) if config.mixup_alpha > 0 else samples


def mixed(samples: Samples, alpha: float, tabular: Sequence[str], rng: np.random.Generator) -> Samples:
    """Mixup: each row becomes λ of itself and 1 - λ of another, λ from Beta(α, α) (Zhang et al. 2018, section 2).

    The larger of λ and 1 - λ is the row's own: the pairs are the same, and its label stays that of its greater part. Inputs,
    tabular columns and weights are mixed; a tabular value missing in either row is missing. Columns: MIXED_WITH, MIXED_SHARE.
    """
    other = rng.permutation(len(samples))
    drawn = rng.beta(alpha, alpha, len(samples))
    share = np.maximum(drawn, 1 - drawn)
    inputs = {name: _blend(values, values[other], share.astype(np.float32)[:, None]) for name, values in samples.inputs.items()}
    columns: dict[str, Any] = {MIXED_WITH: samples.table[CODE].to_numpy()[other], MIXED_SHARE: share}
    for name in (*tabular, WEIGHT):
        values = pd.to_numeric(samples.table[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        columns[name] = _blend(values, values[other], share)
    return Samples(inputs, samples.table.assign(**columns), samples.common)


def _blend(own: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`share` of one and the rest of the other."""
    return share * own + (1 - share) * other


# --- targets ----------------------------------------------------------------------------------------------------------
def codes_of(samples: Samples, facts: Mapping[str, Any]) -> np.ndarray:
    """Class of each sample (n,) int64 as its place in `facts["classes"]`; NO_CLASS where the model does not know it.

    Samples of the run's own data carry it. Of any other it is found by `facts["target"]`, a class that training merged into
    "other" included; where the label's columns are missing or cannot be read, no sample has a class.
    """
    names = list(facts["classes"])
    if samples.common.get(CLASSES) == names and CODE in samples.table:
        return samples.table[CODE].to_numpy(np.int64, copy=True)  # pandas' own is not writable, as torch wants it
    number = dict.fromkeys(facts.get("merged", ()), names.index(OTHER)) if OTHER in names else {}
    number |= {name: place for place, name in enumerate(names)}
    try:
        found = words(samples.table, Target(**facts["target"]))
    except InputError:
        return np.full(len(samples), NO_CLASS, np.int64)
    return np.array([NO_CLASS if word is None else number.get(word, NO_CLASS) for word in found], dtype=np.int64)


def targets(samples: Samples, facts: Mapping[str, Any]) -> Arrays:
    """What `loss` compares with: `target` (n, K) float32, rows that sum to 1; `weight` (n,) float32; `code` (n,) int64.

    Training rows are smoothed, mixed and weighted as their table says; any other target is one-hot of weight 1. A row of no
    class that the model knows has a target of zeros and weight 0.
    """
    table, code, classes = samples.table, codes_of(samples, facts), len(facts["classes"])
    ours = samples.common.get(CLASSES) == list(facts["classes"])
    one_hot = np.eye(classes + 1, classes)  # its last row, which NO_CLASS picks, is empty
    target = one_hot[code]
    if ours and MIXED_WITH in table:
        target = _blend(target, one_hot[table[MIXED_WITH].to_numpy()], table[MIXED_SHARE].to_numpy(float)[:, None])
    if ours and SMOOTHING in table:
        smoothing = table[SMOOTHING].to_numpy(float)[:, None]
        target = (1 - smoothing) * target + smoothing / classes
    weight = table[WEIGHT].to_numpy(float) if ours and WEIGHT in table else np.ones(len(code))
    known = code != NO_CLASS
    return {
        "target": np.where(known[:, None], target, 0).astype(np.float32),
        "weight": np.where(known, weight, 0).astype(np.float32),
        "code": code,
    }


# --- loss and temperature ---------------------------------------------------------------------------------------------
def loss(output: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of logits (n, K) with soft `target` (n, K), averaged with `weight` (n,); a scalar, 0 where no row counts.

    Without weights it is torch's `cross_entropy(..., label_smoothing=…)`. Computed in float32 whatever the logits are in.
    """
    each = -(targets["target"] * output.float().log_softmax(dim=1)).sum(dim=1)
    weight = targets["weight"]
    return (weight * each).sum() / weight.sum().clamp_min(1e-12)


def fit_temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """The temperature of least negative log-likelihood of logits (n, K), between 0.05 and 20 (Guo et al. 2017, section 4.2).

    Like `calibration.fit_temperature`, but from logits: an overconfident network's probabilities round to 0 and 1, and what was
    rounded away cannot be tempered. Rows of NO_CLASS do not count. Raises InputError where no row is left or a logit is not
    finite.
    """
    z, code = np.asarray(logits, dtype=np.float64), np.asarray(codes)
    z, code = z[code != NO_CLASS], code[code != NO_CLASS]
    if not len(code):
        raise InputError(
            "validation", "no row has a class that the model knows", "Give it rows of the classes it was trained on."
        )
    if not np.isfinite(z).all():
        raise InputError("validation", "the model's outputs are not all finite", "Lower learning_rate and train again.")
    true = z[np.arange(len(code)), code]

    def cost(log_t: float) -> float:
        raised = np.exp(-log_t)
        return float((logsumexp(z * raised, axis=1) - true * raised).mean())

    bounds = tuple(np.log(TEMPERATURES))
    return float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))
