"""ONNX of this task: clips in, D out, at any batch size, also where float32's rounding is amplified most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from lib import export, model, runs
from lib.model import as_tensors
from lib.tasks.diffusion import TASK
from lib.tasks.diffusion.config import Family, Training
from lib.tasks.diffusion.data import draw_group


def met(config: Training) -> Any:
    """An untrained network that has met a batch of clips of every kind, so that its scales are those of training."""
    torch.manual_seed(0)
    network: Any = TASK.network(config)
    network.train()
    network(**as_tensors(TASK.tensors(draw_group(config, 16, np.random.default_rng(0)))))
    return network.eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["SimpleCNN"])  # SpotNet: tests/test_contract.py; an export takes a minute
def test_the_file_gives_what_torch_gives_on_clips_of_every_kind(family: Family, home: Path, tmp_path: Path) -> None:
    config = Training(model=family, width=4)
    network = met(config)
    run = runs.create(TASK.name, config.model_dump(mode="json"))
    model.save_weights(run, network)
    session = onnxruntime.InferenceSession(export.export(run, "onnx", tmp_path), providers=["CPUExecutionProvider"])
    inputs = TASK.tensors(draw_group(config, 24, np.random.default_rng(1)))
    found = dict(zip((output.name for output in session.get_outputs()), session.run(None, inputs), strict=True))
    in_float32 = network.physical(**as_tensors(inputs))
    network.precise = True
    in_float64 = network.physical(**as_tensors(inputs))
    assert found.keys() == in_float64.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, in_float64[name], rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(value, in_float32[name], rtol=2e-3, atol=1e-3, err_msg=name)
