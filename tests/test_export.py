"""Exports: the graph computes what torch computes at any batch size, or there is no file."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
import torch

from lib import export, runs
from lib import model as models
from lib.model import Model
from lib.task import InputError, Task


@pytest.fixture
def model(toy: Task) -> Model:
    config = toy.Training(model="deep")
    run = runs.create("toy", config.model_dump(mode="json"), name="to export")
    network = toy.network(config)
    network.get_buffer("log_scale").fill_(0.3)  # a calibration that the graph must contain
    models.save_weights(run, network)
    return models.load(run, toy)


@pytest.mark.slow
def test_onnx_computes_what_torch_computes_at_any_batch_size(model: Model, tmp_path: Path):
    path = export.export(model.run, "onnx", tmp_path / "new")
    assert [file.name for file in path.parent.iterdir()] == [f"{model.run.id}.onnx"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["readings"]
    names = [value.name for value in session.get_outputs()]
    assert names == ["mean_v", "sigma_v"]
    for n in (1, 2, 17):
        samples = model.task.simulate(model.task.Simulation(noise_v=2.0), n, np.random.default_rng(n))
        expected = model.outputs(samples)
        for name, values in zip(names, session.run(None, model.task.tensors(samples))):
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_onnx_says_what_it_is_and_nothing_of_this_machine(model: Model, tmp_path: Path):
    path = export.export(model.run, "onnx", tmp_path)
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert (said["task"], said["run"], said["monitor"]) == ("toy", model.run.id, "rmse_v (V)")
    assert json.loads(said["config"]) == model.run.config()
    assert json.loads(said["prediction_columns"]) == list(model.task.prediction_columns())
    assert str(Path(export.__file__).parent).encode() not in path.read_bytes()


@pytest.mark.slow
def test_a_graph_that_computes_something_else_is_refused_and_leaves_no_file(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    physical = type(model.network).physical

    def drifting(self: torch.nn.Module, readings: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = physical(self, readings)
        off = 0.0 if torch.compiler.is_exporting() else 1e-4
        return {name: value + off for name, value in outputs.items()}

    monkeypatch.setattr(models, "load", lambda run, task: model)
    monkeypatch.setattr(type(model.network), "physical", drifting)
    with pytest.raises(InputError, match=r"differ by 1\.\de-04"):
        export.export(model.run, "onnx", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_a_network_that_onnx_cannot_express_is_told(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def branching(self: torch.nn.Module, readings: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean_v": readings.sum(1) if readings.sum().item() > 0 else readings.mean(1)}

    monkeypatch.setattr(models, "load", lambda run, task: model)
    monkeypatch.setattr(type(model.network), "physical", branching)
    with pytest.raises(InputError, match="safetensors instead"):
        export.export(model.run, "onnx", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_a_precise_network_is_exported_and_compared_in_float64(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sums that float32 gets wrong by 1e-4, and steps in float64 that ONNX or onnxruntime does not have as they stand."""

    def amplifying(self: torch.nn.Module, readings: torch.Tensor) -> dict[str, torch.Tensor]:
        number = torch.float64 if self.precise else torch.float32
        far = readings.to(number) + 300.0
        spread = (far.square().mean(1) - far.mean(1).square()).float()
        mixed = torch.cat([readings, far.asinh()], 1).sum(1) + torch.stack([readings[:, 0], far[:, 0]]).sum(0)
        return {"mean_v": mixed.float(), "sigma_v": 0.02 * spread}

    monkeypatch.setattr(models, "load", lambda run, task: model)
    monkeypatch.setattr(type(model.network), "physical", amplifying)
    model.network.precise = False
    session = onnxruntime.InferenceSession(export.export(model.run, "onnx", tmp_path), providers=["CPUExecutionProvider"])
    assert export.largest_difference(session, model) > export.TOLERANCE, "float32 alone would not do"
    assert model.network.precise is False, "the caller's network is left alone"
    readings = model.task.tensors(model.task.simulate(model.task.Simulation(), 7, np.random.default_rng(7)))["readings"]
    far = readings.astype(float) + 300
    mean_v, sigma_v = session.run(None, {"readings": readings})
    np.testing.assert_allclose(sigma_v, 0.02 * far.var(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mean_v, readings.sum(1) + np.arcsinh(far).sum(1) + readings[:, 0] + far[:, 0], rtol=1e-6)


@pytest.mark.slow
def test_a_file_of_another_run_is_not_overwritten(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs that differ in their promise alone have one name for their task."""
    monkeypatch.setattr(type(model.task), "export_name", lambda task, config: "one name")
    first = export.export(model.run, "onnx", tmp_path)
    before = first.read_bytes()
    other = runs.create("toy", model.run.config(), name="another promise")
    models.save_weights(other, model.network)
    with pytest.raises(InputError, match=f"is there already and is not of run {other.id}"):
        export.export(other, "onnx", tmp_path)
    assert first.read_bytes() == before
    assert export.export(model.run, "onnx", tmp_path) == first, "the same run again"
    first.write_bytes(b"no model")
    with pytest.raises(InputError, match="is there already"):
        export.export(model.run, "onnx", tmp_path)


def test_safetensors_come_with_settings_and_card(model: Model, tmp_path: Path):
    (model.run.folder / "model_card.md").write_text("# card")
    path = export.export(model.run, "safetensors", tmp_path)
    with zipfile.ZipFile(path) as archive:
        files = {Path(name).name: archive.read(name) for name in archive.namelist()}
    assert set(files) == {"model.safetensors", "config.json", "model_card.md"}
    weights = safetensors.numpy.load(files["model.safetensors"])
    for name, value in model.network.state_dict().items():
        np.testing.assert_array_equal(weights[name], value.numpy())
    assert json.loads(files["config.json"])["config"] == model.run.config()
    assert zipfile.is_zipfile(BytesIO(path.read_bytes()))


def test_unknown_formats_and_runs_without_a_model_are_told(toy: Task, model: Model, tmp_path: Path):
    with pytest.raises(InputError, match="Formats: onnx, safetensors"):
        export.export(model.run, "pt", tmp_path)
    empty = runs.create("toy", toy.Training().model_dump(mode="json"))
    with pytest.raises(InputError, match="no trained weights"):
        export.export(empty, "safetensors", tmp_path)
    assert list(tmp_path.glob("*safetensors*")) == []
