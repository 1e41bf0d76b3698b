"""A trained network on disk and in use: `model.safetensors` with its metadata, and predictions in physical units."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import safetensors.torch
import torch

from lib import __version__
from lib.runs import Run, write_atomic
from lib.task import Arrays, InputError, Phrase, Samples, Task, TrainConfig

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Model:
    """A run's best network, ready to predict (evaluation mode, gradients off)."""

    run: Run
    task: Task
    config: TrainConfig
    network: torch.nn.Module
    device: str = "cpu"

    def outputs(self, samples: Samples, batch: int = 64, on_progress: Progress | None = None) -> Arrays:
        """Named arrays in physical units, one row per sample: the network's `physical` over all samples.

        `on_progress` is called with the finished share, 0 to 1, after each batch.
        """
        return physical(self.task, self.network, samples, batch=batch, on_progress=on_progress, device=self.device)

    def predict(self, samples: Samples, batch: int = 64, on_progress: Progress | None = None) -> pd.DataFrame:
        """The table of predicted values, one row per sample, without baselines."""
        return self.task.decode(self.outputs(samples, batch, on_progress), samples)


def physical(
    task: Task,
    network: torch.nn.Module,
    samples: Samples,
    *,
    batch: int = 64,
    on_progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> Arrays:
    """Run `network.physical` over samples in batches. Raises ValueError where there are no samples."""
    if not len(samples):
        raise ValueError("no samples to predict")
    network_physical: Callable[..., dict[str, torch.Tensor]] = network.physical  # type: ignore[assignment]
    parts: list[Arrays] = []
    with torch.inference_mode():
        for start in range(0, len(samples), batch):
            rows = np.arange(start, min(start + batch, len(samples)))
            inputs = as_tensors(task.tensors(samples.take(rows)), device)
            parts.append({key: value.float().cpu().numpy() for key, value in network_physical(**inputs).items()})
            if on_progress is not None:
                on_progress((rows[-1] + 1) / len(samples))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def as_tensors(arrays: Arrays, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """The same arrays as tensors; read-only and memory-mapped ones are copied."""
    usable = {key: value if value.flags.writeable else value.copy() for key, value in arrays.items()}
    return {key: torch.from_numpy(np.ascontiguousarray(value)).to(device) for key, value in usable.items()}


def load_into(network: torch.nn.Module, path: Path, subject: str) -> dict[str, str]:
    """Fill a network from a safetensors file and return the file's metadata. Raises InputError where they do not fit."""
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
        network.load_state_dict(safetensors.torch.load_file(path))
    except FileNotFoundError as error:
        if folds := Run(path.parent).about().get("folds"):
            remedy = Phrase("Use one of them: {runs}.", runs=", ".join(folds))
            raise InputError(subject, "it is a joint sheet of several models", remedy) from error
        raise InputError(subject, "it has no trained weights yet", "Let it train for one epoch at least.") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(subject, "its model.safetensors cannot be read", "Train it again or restore the file.") from error
    except RuntimeError as error:
        raise InputError(subject, "its weights do not fit this network", "Use a run of the same model settings.") from error
    return metadata


def save_weights(run: Run, network: torch.nn.Module, extra_metadata: Mapping[str, str] | None = None) -> Path:
    """Write `model.safetensors`, settings and origin in its metadata, whole or not at all."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
    metadata = {
        "format": "pt", "task": run.task, "run": run.id, "version": __version__, "config": json.dumps(run.config()),
    } | dict(extra_metadata or {})  # fmt: skip
    path = run.folder / "model.safetensors"
    write_atomic(path, safetensors.torch.save(state, metadata))
    return path


def load(run: Run, task: Task, device: str = "cpu") -> Model:
    """The run's best model. Raises InputError where it has no readable one that fits its settings."""
    config = task.Training.parse(run.config(), subject=f"run {run.id}")
    task = task.knowing(run.facts())
    with torch.random.fork_rng(devices=[]):  # drawing weights only to replace them must not move anybody's random state
        network = task.network(config)
    load_into(network, run.folder / "model.safetensors", f"run {run.id}")
    return Model(run, task, config, network.eval().requires_grad_(False).to(device), device)
