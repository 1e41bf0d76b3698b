"""A run as files for other programs: ONNX with everything in the graph, or safetensors with its settings."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import torch

from lib import __version__, tasks
from lib import model as models
from lib.model import Model, as_tensors
from lib.runs import Run, write_atomic
from lib.task import Arrays, InputError

FORMATS = ("onnx", "safetensors")
TOLERANCE = 1e-5  # largest difference of onnxruntime and torch, relative above 1 and absolute below
EXAMPLE_BATCH = 3  # traced; the checks use other batch sizes and other samples
CHECK_BATCHES = (1, 5)
log = logging.getLogger("lightbench")


def export(run: Run, format_: str, folder: Path) -> Path:
    """Write the run's model into `folder` (made where missing) and return the file.

    `format_` is "onnx" or "safetensors" (a ZIP of the weights, config.json and model_card.md).
    Raises InputError for another format, a run without a model, or a graph that does not compute what torch does; nothing
    is left behind then.
    """
    if format_ not in FORMATS:
        raise InputError(f"format {format_!r}", "it is not known", f"Formats: {', '.join(FORMATS)}.")
    model = models.load(run, tasks.get(run.task))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _onnx(model, folder) if format_ == "onnx" else _safetensors(run, folder)
    except OSError as error:
        raise InputError(str(folder), f"it cannot be written to ({error.strerror or error})", "Choose another folder.") from error


# --- safetensors ----------------------------------------------------------------------------------------------------
def _safetensors(run: Run, folder: Path) -> Path:
    """Weights, settings and model card in `<run>-safetensors.zip`."""
    target, buffer = folder / f"{run.id}-safetensors.zip", BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("model.safetensors", "config.json", "model_card.md"):
            if (run.folder / name).exists():
                archive.write(run.folder / name, f"{run.id}/{name}")
    write_atomic(target, buffer.getvalue())
    return target


# --- ONNX -----------------------------------------------------------------------------------------------------------
class _Physical(torch.nn.Module):
    """The network's `physical` as a forward of positional tensors, outputs in a fixed order."""

    def __init__(self, network: torch.nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.inputs, self.outputs = network, inputs, outputs

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        physical: Callable[..., dict[str, torch.Tensor]] = self.network.physical  # type: ignore[assignment]
        result = physical(**dict(zip(self.inputs, values)))
        return tuple(result[name] for name in self.outputs)


def _onnx(model: Model, folder: Path) -> Path:
    """`<run>.onnx`, checked against torch before it gets its name."""
    target = folder / f"{model.run.id}.onnx"
    subject = f"run {model.run.id}"
    with tempfile.TemporaryDirectory(prefix="lightbench-onnx-") as name:
        path = Path(name) / "model.onnx"
        outputs = _trace(model, path)
        content = _with_metadata(model, path, outputs)
    difference = largest_difference(model, content)
    if not difference <= TOLERANCE:
        problem = f"onnxruntime and torch differ by {difference:.1e}, more than {TOLERANCE:.0e}"
        raise InputError(subject, problem, "Export it as safetensors instead.")
    write_atomic(target, content)
    return target


def _inputs(model: Model, n: int, seed: int) -> Arrays:
    """Network inputs of n simulated samples at the task's default conditions."""
    task = model.task
    return task.tensors(task.simulate(task.Simulation(), n, np.random.default_rng(seed)))


def _trace(model: Model, path: Path) -> tuple[str, ...]:
    """Write the graph with a free batch size and return the names of its outputs. Raises InputError where it cannot be traced."""
    tensors = as_tensors(_inputs(model, EXAMPLE_BATCH, seed=0))
    names = tuple(tensors)
    with torch.no_grad():
        outputs = tuple(model.network.physical(**tensors))  # type: ignore[operator]
    wrapped = _Physical(model.network, names, outputs).eval()
    batch = torch.export.Dim("batch")
    shapes = (tuple({0: batch} for _ in names),)
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                wrapped, tuple(tensors.values()), str(path), dynamo=True, dynamic_shapes=shapes, external_data=False,
                input_names=list(names), output_names=list(outputs), verbose=False,
            )  # fmt: skip
    except Exception as error:
        log.exception("run %s: ONNX export failed", model.run.id)
        raise InputError(
            f"run {model.run.id}",
            "its network has a step that ONNX cannot express (see the log)",
            "Export it as safetensors instead.",
        ) from error
    return outputs


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress on stdout and warns of things that are not the user's business."""
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        chatter.setLevel(logging.ERROR)
        try:
            yield
        finally:
            chatter.setLevel(level)


def _with_metadata(model: Model, path: Path, outputs: tuple[str, ...]) -> bytes:
    """The model file with its origin in `metadata_props`, and without the exporter's notes on our source files."""
    import onnx  # here, because the worker should start quickly

    proto = onnx.load(str(path))
    graph = proto.graph
    for part in [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""
    task = model.task
    onnx.helper.set_model_props(proto, {
        "task": task.name, "run": model.run.id, "producer": f"Lightbench {__version__}", "title": task.title,
        "input": task.input_label, "output": task.output_label,
        "outputs": json.dumps(list(outputs)), "prediction_columns": json.dumps(list(task.prediction_columns())),
        "monitor": f"{task.monitor.name} ({task.monitor.unit})", "config": json.dumps(model.run.config()),
    })  # fmt: skip
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def largest_difference(model: Model, content: bytes) -> float:
    """Largest |onnxruntime − torch| / max(1, |torch|) over all outputs of simulated samples; NaN counts as infinite."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    worst = 0.0
    for n in CHECK_BATCHES:
        arrays = _inputs(model, n, seed=n)
        with torch.no_grad():
            expected = model.network.physical(**as_tensors(arrays))  # type: ignore[operator]
        for name, value in zip(names, session.run(None, arrays)):
            true = expected[name].numpy().astype(float)
            difference = np.abs(value - true) / np.maximum(1, np.abs(true))
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max()))
    return worst
