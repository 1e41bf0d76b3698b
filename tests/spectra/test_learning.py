"""Targets, weights, mixup, loss and temperature, each against what its definition says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.task import InputError, Samples
from lib.tasks.spectra import calibration, learning
from lib.tasks.spectra.settings import Training

NAMES = ["a", "b", "c"]
FACTS: dict[str, Any] = {"classes": NAMES, "merged": [], "target": {"kind": "AVA", "of": "", "column": "kind"}}
ROOT = Path(__file__).parents[2]


def ours(n: int = 30, codes: np.ndarray | None = None) -> Samples:
    """A batch as TableData gives it."""
    rng = np.random.default_rng(1)
    code = np.arange(n) % 3 if codes is None else codes
    table = pd.DataFrame({"file": "x", "brix": np.arange(n) + 60, "label": [NAMES[k] for k in code], "code": code})
    inputs = {name: rng.normal(size=(n, 8)).astype(np.float32) for name in ("277", "380")}
    return Samples(inputs, table, {"channels": [], "classes": NAMES})


def trained(samples: Samples, weights: np.ndarray | None = None, seed: int = 0, **options: Any) -> Samples:
    weights = np.ones(3) if weights is None else weights
    return learning.for_training(samples, weights, Training(**options), ("brix",), np.random.default_rng(seed))


# --- weights ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["none", "balanced", "square root"])
def test_class_weights_have_mean_one_over_training_rows(kind: Any) -> None:
    counts = np.array([900, 90, 10])
    weights = learning.class_weights(counts, kind)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    wanted = {"none": (1, 1), "balanced": (10, 9), "square root": (10**0.5, 3)}[kind]
    assert (weights[1] / weights[0], weights[2] / weights[1]) == pytest.approx(wanted)


def test_a_class_without_training_rows_has_a_finite_weight() -> None:
    assert learning.class_weights([4, 0, 2], "balanced").tolist() == pytest.approx([0.75, 1, 1.5])
    assert learning.class_weights([0, 0], "balanced").tolist() == [1, 1]


# --- targets ----------------------------------------------------------------------------------------------------------
def test_rows_for_validation_are_one_hot_with_weight_one() -> None:
    samples = ours()
    found = learning.targets(samples, FACTS)
    assert np.array_equal(found["target"], np.eye(3, dtype=np.float32)[samples.table["code"]])
    assert (found["weight"] == 1).all() and np.array_equal(found["code"], samples.table["code"])
    assert [found[k].dtype for k in ("target", "weight", "code")] == [np.float32, np.float32, np.int64]


def test_training_rows_are_smoothed_and_weighted() -> None:
    found = learning.targets(trained(ours(), np.array([0.5, 1.0, 1.5]), label_smoothing=0.3), FACTS)
    own = found["target"][np.arange(30), found["code"]]
    np.testing.assert_allclose(own, 0.8, atol=1e-6)
    np.testing.assert_allclose(found["target"].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(found["weight"], np.array([0.5, 1.0, 1.5])[found["code"]])


def test_a_row_of_no_known_class_counts_nothing() -> None:
    samples = ours().with_columns(code=-1)
    found = learning.targets(trained(samples, label_smoothing=0.3), FACTS)
    assert not found["target"].any() and not found["weight"].any() and (found["code"] == -1).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_targets_sum_to_one_and_keep_each_class_expected_share(smoothing: float) -> None:
    samples = ours(3000, np.repeat([0, 1, 2], [2000, 900, 100]))
    out = trained(samples, mixup_alpha=0.4, label_smoothing=smoothing)
    found = learning.targets(out, FACTS)
    np.testing.assert_allclose(found["target"].sum(1), 1, atol=1e-6)
    shares = np.array([2000, 900, 100]) / 3000
    np.testing.assert_allclose(found["target"].mean(0), (1 - smoothing) * shares + smoothing / 3, atol=0.01)
    assert (out.table["mixed_share"] >= 0.5).all() and np.array_equal(out.table["label"], samples.table["label"])
    drawn = np.random.default_rng(9).beta(0.4, 0.4, 100_000)
    assert out.table["mixed_share"].mean() == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.015)


def test_inputs_tabular_values_and_weights_are_mixed_as_the_targets_are() -> None:
    samples, weights = ours(), np.array([0.5, 1.0, 1.5])
    out = trained(samples, weights, mixup_alpha=1.0, label_smoothing=0.0)
    other = np.random.default_rng(0).permutation(30)
    share = out.table["mixed_share"].to_numpy()[:, None]
    for name, values in samples.inputs.items():
        np.testing.assert_allclose(out.inputs[name], share * values + (1 - share) * values[other], atol=1e-5)
        assert out.inputs[name].dtype == np.float32
    brix = samples.table["brix"].to_numpy()
    np.testing.assert_allclose(out.table["brix"], share[:, 0] * brix + (1 - share[:, 0]) * brix[other])
    found = learning.targets(out, FACTS)
    np.testing.assert_allclose(found["weight"], found["target"] @ weights, atol=1e-6)
    assert np.array_equal(samples.table["brix"], ours().table["brix"])
    assert all(np.array_equal(v, ours().inputs[k]) for k, v in samples.inputs.items())


def test_a_tabular_value_missing_in_one_of_a_pair_is_missing() -> None:
    samples = ours()
    samples.table["brix"] = samples.table["brix"].astype(float)
    samples.table.loc[4, "brix"] = np.nan
    out = trained(samples, mixup_alpha=1.0)
    assert np.isnan(out.table["brix"]).sum() == 2 or np.random.default_rng(0).permutation(30)[4] == 4


def test_without_mixup_nothing_is_mixed() -> None:
    out = trained(ours(), mixup_alpha=0.0)
    assert "mixed_with" not in out.table and all(np.array_equal(v, ours().inputs[k]) for k, v in out.inputs.items())


# --- classes of other samples -----------------------------------------------------------------------------------------
def test_another_file_is_classed_by_the_target_of_the_run() -> None:
    table = pd.DataFrame({"file": "y", "kind": ["b", "a", "", "zebra", "rare"], "code": [7, 7, 7, 7, 7]})
    samples = Samples({}, table)
    assert learning.codes_of(samples, FACTS).tolist() == [1, 0, -1, -1, -1]
    merged = FACTS | {"classes": ["a", "b", "other"], "merged": ["rare"]}
    assert learning.codes_of(samples, merged).tolist() == [1, 0, -1, -1, 2]
    found = learning.targets(samples, FACTS)
    assert found["weight"].tolist() == [1, 1, 0, 0, 0] and found["target"].sum(1).tolist() == [1, 1, 0, 0, 0]


def test_columns_of_a_file_that_happen_to_have_our_names_mean_nothing() -> None:
    table = pd.DataFrame({"file": "y", "kind": ["b"], "mixed_with": [0], "label_smoothing": [9.0], "loss_weight": [5.0]})
    found = learning.targets(Samples({}, table), FACTS)
    assert found["target"].tolist() == [[0, 1, 0]] and found["weight"].tolist() == [1]


def test_a_file_without_labels_has_no_classes() -> None:
    assert learning.codes_of(Samples({}, pd.DataFrame({"file": ["y", "y"]})), FACTS).tolist() == [-1, -1]


# --- loss -------------------------------------------------------------------------------------------------------------
def as_tensors(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    return {key: torch.from_numpy(value) for key, value in arrays.items()}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_torchs_cross_entropy(smoothing: float) -> None:
    import torch

    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    given = as_tensors(learning.targets(trained(ours(), label_smoothing=smoothing), FACTS))
    wanted = torch.nn.functional.cross_entropy(logits, given["code"], label_smoothing=smoothing)
    assert learning.loss(logits, given).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_loss_is_torchs_weighted_cross_entropy_and_its_soft_one() -> None:
    import torch

    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 1.0, 1.5])
    given = as_tensors(learning.targets(trained(ours(), weights.double().numpy(), label_smoothing=0.0), FACTS))
    wanted = torch.nn.functional.cross_entropy(logits, given["code"], weight=weights)
    assert learning.loss(logits, given).item() == pytest.approx(wanted.item(), rel=1e-6)
    soft = as_tensors(learning.targets(trained(ours(), mixup_alpha=1.0), FACTS))
    assert learning.loss(logits, soft).item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, soft["target"]).item(), rel=1e-6
    )


def test_loss_of_rows_that_do_not_count_is_zero_and_has_a_gradient() -> None:
    import torch

    logits = torch.zeros(4, 3, requires_grad=True)
    given = as_tensors(learning.targets(ours(4).with_columns(code=-1), FACTS))
    value = learning.loss(logits, given)
    value.backward()
    assert value.item() == 0 and logits.grad is not None and not logits.grad.any()


def test_loss_of_half_precision_logits_is_computed_in_single() -> None:
    import torch

    given = as_tensors(learning.targets(ours(), FACTS))
    value = learning.loss(torch.full((30, 3), 300.0, dtype=torch.float16), given)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(np.log(3), rel=1e-6)


def test_the_module_brings_no_torch() -> None:
    code = "import sys, lib.tasks.spectra.data; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- temperature ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_temperature_is_found(true: float) -> None:
    rng = np.random.default_rng(2)
    honest = rng.normal(size=(20_000, 3)) * 2
    p = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    codes = (rng.random((20_000, 1)) > p.cumsum(1)).sum(1)
    found = learning.fit_temperature(honest * true, codes)
    assert found == pytest.approx(true, rel=0.03)
    q = np.exp(honest * true) / np.exp(honest * true).sum(1, keepdims=True)
    assert found == pytest.approx(calibration.fit_temperature(codes, q), rel=1e-3)


def test_temperature_of_logits_whose_probabilities_round_to_one() -> None:
    rng = np.random.default_rng(2)
    honest = rng.normal(size=(5000, 3)) * 4
    p = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    codes = (rng.random((5000, 1)) > p.cumsum(1)).sum(1)
    assert learning.fit_temperature(honest * 15, codes) == pytest.approx(15, rel=0.05)


def test_rows_without_a_class_do_not_count_for_the_temperature() -> None:
    rng = np.random.default_rng(2)
    logits, codes = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    more = np.concatenate([logits, 50 * rng.normal(size=(40, 3))])
    assert learning.fit_temperature(more, np.append(codes, [-1] * 40)) == learning.fit_temperature(logits, codes)


def test_bad_logits_are_refused() -> None:
    with pytest.raises(InputError, match="no row has a class"):
        learning.fit_temperature(np.zeros((2, 3)), np.array([-1, -1]))
    with pytest.raises(InputError, match="not all finite"):
        learning.fit_temperature(np.full((2, 3), np.nan), np.array([0, 1]))
