"""A run as files for other programs: ONNX with everything in the graph, or safetensors with its settings.

What an ONNX file is held to: on simulated samples onnxruntime gives, to 1e-5, what torch gives in the same arithmetic. That is
float32, except for a network with a switch `precise`: its graph, and the torch network that the graph is compared with, then
compute in float64 what amplifies rounding. Such a graph is also held to 1e-3 of the network as it predicts here, in float32.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from lib import __version__, tasks
from lib import model as models
from lib.model import Model, as_tensors
from lib.runs import Run, write_atomic
from lib.task import Arrays, InputError, Phrase

if TYPE_CHECKING:
    import onnxruntime

FORMATS = ("onnx", "safetensors")
TOLERANCE = 1e-5  # largest difference of onnxruntime and torch, relative above 1 and absolute below
PRECISION = 1e-3  # the same between a precise graph and float32: torch's own rounding, amplified
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
        raise InputError(
            Phrase("format {format_!r}", format_=format_),
            "it is not known",
            Phrase("Formats: {formats}.", formats=", ".join(FORMATS)),
        )
    model = models.load(run, tasks.get(run.task))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _onnx(model, folder) if format_ == "onnx" else _safetensors(run, folder)
    except OSError as error:
        raise InputError(
            str(folder), Phrase("it cannot be written to ({why})", why=error.strerror or error), "Choose another folder."
        ) from error


# --- safetensors ----------------------------------------------------------------------------------------------------
def _safetensors(run: Run, folder: Path) -> Path:
    """Weights, settings and model card in `<run>-safetensors.zip`."""
    target, buffer = folder / f"{run.id}-safetensors.zip", BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("model.safetensors", "config.json", "facts.json", "model_card.md"):
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
    """`<run>.onnx`, or as the task calls it, checked against torch before it gets its name."""
    target = folder / f"{model.task.export_name(model.config) or model.run.id}.onnx"
    _refuse_other_run(target, model.run)
    exact = _precise(model)
    with tempfile.TemporaryDirectory(prefix="lightbench-onnx-") as name:
        path = Path(name) / "model.onnx"
        outputs = _trace(exact, path)
        content = _with_metadata(model, path, outputs)
    session = _session(model, content)
    for reference, limit in ((exact, TOLERANCE), (model, TOLERANCE if exact is model else PRECISION)):
        difference = largest_difference(session, reference)
        if not difference <= limit:
            problem = Phrase(
                "onnxruntime and torch differ by {difference:.1e}, more than {limit:.0e}", difference=difference, limit=limit
            )
            raise InputError(Phrase("run {run}", run=model.run.id), problem, "Export it as safetensors instead.")
    write_atomic(target, content)
    return target


def _refuse_other_run(target: Path, run: Run) -> None:
    """Raises InputError where the file is there and is not this run's: a task's name may be that of runs with other promises."""
    if not target.exists():
        return
    import onnx  # here, because the worker should start quickly

    try:
        told = {entry.key: entry.value for entry in onnx.load(str(target), load_external_data=False).metadata_props}
    except Exception:  # noqa: BLE001 - protobuf's own, which has no types: it is no ONNX file
        told = {}
    if told.get("run") != run.id:
        problem = Phrase("it is there already and is not of run {run}", run=run.id)
        raise InputError(str(target), problem, "Choose another folder, or move that file away.")


def _precise(model: Model) -> Model:
    """The model with its network's switch `precise` on, or the model itself where its network has none."""
    if not hasattr(model.network, "precise"):
        return model
    network = copy.deepcopy(model.network)
    network.precise = True  # type: ignore[assignment]
    return replace(model, network=network)


def _inputs(model: Model, n: int, seed: int) -> Arrays:
    """Network inputs of n samples like the model's own."""
    return model.task.trial_inputs(n, np.random.default_rng(seed))


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
            # strict, so that Python's len() of a tensor keeps the batch free
            graph = torch.export.export(wrapped, tuple(tensors.values()), dynamic_shapes=shapes, strict=True)
            _translate(graph, names, outputs, wrapped).save(str(path), external_data=False)
    except Exception as error:
        log.exception("run %s: ONNX export failed", model.run.id)
        raise InputError(
            Phrase("run {run}", run=model.run.id),
            "its network has a step that ONNX cannot express (see the log)",
            "Export it as safetensors instead.",
        ) from error
    return outputs


def _translate(
    graph: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], network: torch.nn.Module
) -> torch.onnx.ONNXProgram:
    """The graph in ONNX's operators, constants folded.

    Parts of the network that put operators of their own into the graph have a method `onnx_translations`.

    Of the exporter's own rewriting, which takes minutes on a large graph and gains little, only one rule is kept: a Conv3d
    without bias has got one of zeros, in a shape that onnxruntime refuses.
    """
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules.common import remove_optional_bias_from_conv_rule

    program = torch.onnx.export(
        graph, dynamo=True, optimize=False, input_names=list(inputs), output_names=list(outputs), verbose=False,
        custom_translation_table=_translations() | _own_translations(network),
    )  # fmt: skip
    assert program is not None
    optimizer.fold_constants(program.model)
    rewriter.rewrite(program.model, pattern_rewrite_rules=[remove_optional_bias_from_conv_rule])
    optimizer.remove_unused_nodes(program.model)
    return program


def _own_translations(network: torch.nn.Module) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Of all parts of the network that have any."""
    tables = [part.onnx_translations for part in network.modules() if hasattr(part, "onnx_translations")]
    return {operator: written for table in tables for operator, written in cast("Any", table)().items()}


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operators that the exporter or onnxruntime cannot take in float64.

    torch concatenates float32 with float64, ONNX does not; onnxruntime has no asinh in float64.
    """
    import onnx
    import onnx_ir
    import onnxscript

    double, op = onnx_ir.DataType.DOUBLE, cast("Any", onnxscript.opset18)

    def one_type(tensors: Any) -> list[Any]:
        mixed = len({tensor.dtype for tensor in tensors}) > 1 and any(tensor.dtype == double for tensor in tensors)
        return [op.Cast(tensor, to=double) for tensor in tensors] if mixed else list(tensors)

    def cat(tensors: Any, dim: int = 0) -> Any:
        return op.Concat(*one_type(tensors), axis=dim)

    def stack(tensors: Any, dim: int = 0) -> Any:
        return op.Concat(*(op.Unsqueeze(tensor, op.Constant(value_ints=[dim])) for tensor in one_type(tensors)), axis=dim)

    def asinh(x: Any) -> Any:
        if x.dtype != double:
            return op.Asinh(x)
        one = op.Constant(value=onnx.helper.make_tensor("one", onnx.TensorProto.DOUBLE, [], [1.0]))
        size = op.Abs(x)
        return op.Mul(op.Sign(x), op.Log(op.Add(size, op.Sqrt(op.Add(op.Mul(size, size), one)))))

    aten = torch.ops.aten
    return {aten.cat.default: cat, aten.stack.default: stack, aten.asinh.default: asinh}


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
        "facts": json.dumps(model.run.facts()),
    })  # fmt: skip
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _session(model: Model, content: bytes) -> onnxruntime.InferenceSession:
    """The graph, ready to run. Raises InputError where onnxruntime refuses it."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:
        log.exception("run %s: onnxruntime refuses the graph", model.run.id)
        problem = "its network has a step that onnxruntime cannot run (see the log)"
        raise InputError(Phrase("run {run}", run=model.run.id), problem, "Export it as safetensors instead.") from error


def largest_difference(session: onnxruntime.InferenceSession, model: Model) -> float:
    """Largest |onnxruntime − torch| / max(1, |torch|) over all outputs of simulated samples; NaN counts as infinite."""
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
