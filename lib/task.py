"""The contract between a task and the bench: Config, Samples, Task.

A task is one folder under `lib/tasks/`. Everything the bench knows of it is in this file: the core trains, predicts,
scores and shows any object that keeps this contract and names no task. Nothing here imports torch or streamlit.
"""

from __future__ import annotations

import copy
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args, get_origin

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from lib.panels import Panel, Picture, View
from lib.words import LANGUAGES, Language, speaker

if TYPE_CHECKING:  # torch is only ever imported by the job and the worker, never by the dashboard
    import torch

__all__ = [
    "Arrays", "Calibration", "Config", "Group", "InputError", "Metric", "Panel", "Picture", "Samples", "Split", "Task",
    "TrainConfig", "TrainingData", "View", "first_bytes", "option",
]  # fmt: skip

Group = Literal["data", "model", "optimiser", "compute", "visible", "hidden", "camera"]
Split = Literal["train", "validation", "calibration", "test"]
Arrays = dict[str, np.ndarray]


class InputError(ValueError):
    """Bad input that its owner can mend: what it is about, what is wrong, what to do.

    The text is shown to users as it stands, so it is a full sentence and never a traceback.
    """

    def __init__(self, subject: str, problem: str, remedy: str) -> None:
        self.subject, self.problem, self.remedy = subject, problem, remedy
        super().__init__(f"{subject}: {problem}. {remedy}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.subject, self.problem, self.remedy)


def first_bytes(path: Path, name: str, size: int, what: str) -> bytes:
    """Up to `size` bytes from the file's start, which say what it is, whatever its name ends in.

    Raises InputError where it cannot be opened or is empty; `name` is shown for it and `what` it should hold, as in "clip".
    """
    try:
        with path.open("rb") as file:
            start = file.read(size)
    except OSError as error:
        raise InputError(name, f"cannot be opened ({error.strerror or error})", "Check the path and the permissions") from error
    if not start:
        raise InputError(name, "is empty (0 bytes)", f"Copy or export the {what} again")
    return start


def option(default: Any, help_: str, *, unit: str = "", group: str = "", log: bool = False, **bounds: Any) -> Any:
    """A field of a Config: default, one-sentence help, unit, the form group it stands in, and pydantic bounds.

    `log=True` asks the form for a logarithmic slider. `bounds` are pydantic's `ge`, `gt`, `le`, `lt`.
    """
    return Field(default, description=help_, json_schema_extra={"unit": unit, "group": group, "log": log}, **bounds)


class Config(BaseModel):
    """Frozen, unknown keys forbidden: the schema of a form, of CLI options, of config.json and of error messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], subject: str = "settings") -> Self:
        """Build from typed values or from the strings of a command line.

        Raises InputError naming every wrong key with the valid ones, and every wrong value with its bounds.
        """
        unknown = [key for key in values if key not in cls.model_fields]
        if unknown:
            raise InputError(
                subject,
                f"unknown key {', '.join(map(repr, unknown))}",
                f"Valid keys: {', '.join(cls.model_fields) or 'none'}.",
            )
        try:
            return cls.model_validate({key: _plain(value, cls.model_fields[key]) for key, value in values.items()})
        except ValidationError as error:
            raise InputError(subject, "; ".join(_explain(e) for e in error.errors()), "Mend the value and try again.") from error


def _plain(value: Any, field: FieldInfo) -> Any:
    """A typed value as it is; of text, nothing for a field that may be empty, and the parts of a comma-separated list."""
    if not isinstance(value, str):
        return value
    if value in ("", "none", "None") and _optional(field):
        return None
    if get_origin(field.annotation) is tuple:
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _optional(field: FieldInfo) -> bool:
    """Whether a field may be left empty, which is not the same as an empty text."""
    return type(None) in get_args(field.annotation)


def _explain(error: Any) -> str:
    """One pydantic error as `key = value: what was expected`."""
    key = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key} = {error['input']!r}: {message}" if key else message


class TrainConfig(Config):
    """What every training has; a task's Training adds its data and model fields."""

    model: str = option("", "Model family", group="model")
    start_from: str = option("", "Run id whose weights to start from; empty starts fresh", group="model")
    epochs: int = option(30, "Passes over the training data", unit="epochs", group="optimiser", ge=1, le=10_000)
    batch_size: int = option(64, "Samples per optimiser step", unit="samples", group="optimiser", ge=1, le=4096)
    learning_rate: float = option(1e-3, "Peak step size of AdamW", group="optimiser", log=True, gt=0, le=1)
    weight_decay: float = option(1e-4, "AdamW weight decay", group="optimiser", log=True, ge=0, le=1)
    find_learning_rate: bool = option(False, "Try rates first and take the one where the loss falls fastest", group="optimiser")
    schedule: Literal["cosine", "plateau", "step", "constant"] = option(
        "cosine", "The rate: cosine to zero, half on a validation plateau, a tenth after each third, constant", group="optimiser"
    )
    patience_epochs: int = option(
        0,
        "Stop after this many epochs without a better validation value; 0 never stops early",
        unit="epochs",
        group="optimiser",
        ge=0,
    )
    seed: int = option(0, "Seed of data, initial weights and order", group="compute", ge=0, le=2**31 - 1)
    accelerator: Literal["auto", "cpu", "gpu"] = option("auto", "Where to compute", group="compute")
    devices: int = option(1, "GPUs, or CPU processes, per node", group="compute", ge=1, le=64)
    num_nodes: int = option(1, "Cluster nodes", group="compute", ge=1, le=256)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = option(
        "32-true", "Number format; mixed needs a GPU", group="compute"
    )
    threads: int = option(0, "CPU threads; 0 uses all cores", group="compute", ge=0, le=256)
    loader_workers: int = option(0, "Extra processes that prepare batches", group="compute", ge=0, le=64)

    def effort(self, epoch: int) -> float:
        """How long an epoch takes, relative to one that makes its samples; for estimates of time."""
        return 1.0


@dataclass(frozen=True)
class Samples:
    """n samples: `inputs` arrays of shape (n, …) and a `table` of n rows.

    The table has `file` (display name of the origin), `note` (what was done to make the file fit, may be empty), and
    whatever the task knows of each sample: true values (simulated or labelled), settings, group, date.
    """

    inputs: Arrays
    table: pd.DataFrame
    common: Mapping[str, Any] = field(default_factory=dict)  # plain JSON values that all samples share, as the axis of a spectrum

    def __post_init__(self) -> None:
        wrong = {key: len(value) for key, value in self.inputs.items() if len(value) != len(self.table)}
        if wrong:
            raise ValueError(f"inputs {wrong} do not match {len(self.table)} table rows")

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: Sequence[int] | np.ndarray) -> Samples:
        """The given rows, in that order."""
        index = np.asarray(rows) if len(rows) else np.empty(0, np.intp)  # an empty list would be an array of floats
        inputs = {k: v[index] for k, v in self.inputs.items()}
        return Samples(inputs, self.table.iloc[index].reset_index(drop=True), self.common)

    def with_columns(self, **columns: Any) -> Samples:
        """A copy whose table has these columns set."""
        return replace(self, table=self.table.assign(**columns))

    def save(self, folder: Path) -> None:
        """Write one .npy per input, `table.parquet` and `common.json` into an existing folder."""
        (folder / "common.json").write_text(json.dumps(dict(self.common)), encoding="utf-8")
        for key, value in self.inputs.items():
            np.save(folder / f"input-{key}.npy", value, allow_pickle=False)
        self.table.to_parquet(folder / "table.parquet")

    @staticmethod
    def load(folder: Path) -> Samples:
        """Samples written by `save`, arrays memory-mapped."""
        files = sorted(folder.glob("input-*.npy"))
        inputs = {f.stem.removeprefix("input-"): np.load(f, mmap_mode="r", allow_pickle=False) for f in files}
        common = json.loads((folder / "common.json").read_text(encoding="utf-8"))
        return Samples(inputs, pd.read_parquet(folder / "table.parquet"), common)

    @staticmethod
    def concat(parts: Sequence[Samples]) -> Samples:
        """All parts one after another. Raises ValueError on an empty list, or where they have not the same in common."""
        if not parts:
            raise ValueError("nothing to concatenate")
        if any(part.common != parts[0].common for part in parts):
            raise ValueError("samples that differ in what each set has in common cannot be one set")
        inputs = {key: np.concatenate([p.inputs[key] for p in parts]) for key in parts[0].inputs}
        return Samples(inputs, pd.concat([p.table for p in parts], ignore_index=True), parts[0].common)


@dataclass(frozen=True)
class Metric:
    """A figure of merit; its unit is in its name too."""

    name: str
    unit: str
    goal: Literal["min", "max"] = "min"

    def better(self, new: float, old: float) -> bool:
        """Whether `new` is strictly better than `old`."""
        return new < old if self.goal == "min" else new > old


@dataclass(frozen=True)
class Calibration:
    """Real samples read into simulator settings, and what to change in training to match them."""

    simulation: Config
    training: dict[str, Any]
    acquisition: dict[str, Any]
    panels: list[Panel] = field(default_factory=list)


class TrainingData(ABC):
    """Batches by number: the same (split, epoch, index) is the same batch on any machine, worker or rank.

    Training makes weights of `train`, chooses among them by `validation`, certifies what it promises on `calibration` (which a
    task may leave empty) and reports on `test`.
    """

    def facts(self) -> dict[str, Any]:
        """What the network, and whoever reads its predictions, must know of the data: plain JSON values, kept with the run."""
        return {}

    @abstractmethod
    def batches(self, split: Split) -> int:
        """How many batches the split has in one epoch."""

    @abstractmethod
    def batch(self, split: Split, epoch: int, index: int) -> Samples:
        """Batch `index`; only `train` depends on the epoch."""


class Task(ABC):
    """One measurement: how to simulate, read, clean, train, score and show it.

    Methods that need torch import it inside. Predicted values are one DataFrame row per sample.
    """

    name: ClassVar[str]  # folder name, URL part, CLI name
    title: ClassVar[str]  # "Diffusion"
    summary: ClassVar[str]  # one sentence for the card on Home
    input_label: ClassVar[str]  # "16×64×64 single-molecule clip (TIFF)"
    output_label: ClassVar[str]  # "diffusion coefficient D with error bar"
    icon: ClassVar[str]  # Material symbol, ":material/...:"
    suffixes: ClassVar[tuple[str, ...]]  # accepted file endings, lower case, with dot
    monitor: ClassVar[Metric]  # what selects the best model on validation

    Simulation: ClassVar[type[Config]]  # one kind of simulated sample
    Acquisition: ClassVar[type[Config]]  # what the user knows of the instrument: every field optional
    Rules: ClassVar[type[Config]]  # thresholds of the Clean page
    Training: ClassVar[type[TrainConfig]]
    simulation_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    training_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # first one is the default
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {}  # column of a table: words and unit, "d_um2_s": ("D", "µm²/s")
    facts: Mapping[str, Any] = {}  # of the run at hand: what its TrainingData and `certify` told, as its classes
    language: Language = "en"  # of what users read

    def knowing(self, facts: Mapping[str, Any]) -> Self:
        """This task for the model of one run, with what its data were."""
        known = copy.copy(self)
        known.facts = facts
        return known

    def speaking(self, language: Language) -> Self:
        """This task with its texts in that language, as far as its catalogue has them."""
        told = copy.copy(self)
        told.language = language
        return told

    def say(self, text: str, **values: Any) -> str:
        """An English text of this task in its language, with the fields in braces filled."""
        return speaker(self.language, self._catalogue(self.language))(text, **values)

    def languages(self) -> tuple[Language, ...]:
        """English, and those that the task's folder has a catalogue of."""
        return tuple(language for language in LANGUAGES if language == "en" or self._catalogue(language).exists())

    def _catalogue(self, language: Language) -> Path:
        return Path(str(sys.modules[type(self).__module__].__file__)).parent / f"{language}.json"

    # --- simulate -----------------------------------------------------------------------------------------------
    @abstractmethod
    def simulate(self, config: Config, n: int, rng: np.random.Generator) -> Samples:
        """N simulated samples with their true values in the table."""

    @abstractmethod
    def simulation_panels(self, config: Config, rng: np.random.Generator) -> list[Panel]:
        """What the Simulate page shows of one sample at these settings, in ≤ 0.5 s."""

    # --- files --------------------------------------------------------------------------------------------------
    @abstractmethod
    def read(self, path: Path, acquisition: Config, display_name: str = "") -> Samples:
        """Samples of one file. Raises InputError; `display_name` is what messages call the file."""

    def bundles(self, files: Sequence[tuple[Path, str]]) -> list[list[int]]:
        """Which files belong together, by their place in the list of paths and display names; by default each is alone."""
        return [[place] for place in range(len(files))]

    def read_bundle(self, files: Sequence[tuple[Path, str]], acquisition: Config) -> Samples:
        """Samples of files that belong together. Raises InputError."""
        path, name = files[0]
        return self.read(path, acquisition, name)

    @abstractmethod
    def write(self, samples: Samples, folder: Path) -> list[Path]:
        """Write samples as the files `read` takes, plus `truth.csv` where truth is known. Whole or not at all."""

    # --- clean --------------------------------------------------------------------------------------------------
    @abstractmethod
    def inspect(self, samples: Samples, acquisition: Config) -> pd.DataFrame:
        """Readings of each sample (one row each, unit in every column name, first column `file`)."""

    @abstractmethod
    def flag(self, readings: pd.DataFrame, rules: Config) -> pd.DataFrame:
        """One boolean column per rule, named as in Rules: True where the rule removes the sample."""

    def overview(self, samples: Samples, readings: pd.DataFrame, keep: pd.Series, rules: Config) -> list[View]:
        """What the samples look like together. Points whose `customdata` is a row number can be picked in the figures."""
        return []

    @abstractmethod
    def thumbnail(self, samples: Samples, row: int) -> np.ndarray:
        """uint8 grey image (h, w) of one sample for the contact sheet."""

    @abstractmethod
    def sample_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        """What to look at when one real sample is picked."""

    def calibrate(self, samples: Samples, acquisition: Config, rng: np.random.Generator) -> Calibration | None:
        """Simulator settings that match these real samples; None where a task has no such step."""
        return None

    def learn(self, samples: Samples, acquisition: Config) -> tuple[Config, str]:
        """Settings that these samples of one instrument, predicted together, tell where the user left them empty.

        Returns the acquisition to read each of them with and a clause for every sample's note, "" where nothing was learnt.
        """
        return acquisition, ""

    # --- train --------------------------------------------------------------------------------------------------
    def preview(self, config: TrainConfig) -> list[Panel]:
        """What a training with these settings would learn from, to look at before it starts. Raises InputError."""
        return []

    def folds(self, config: TrainConfig) -> list[TrainConfig]:
        """The trainings that together test every sample once; the one given where there are no folds."""
        return [config]

    def export_name(self, config: TrainConfig) -> str:
        """What an exported model is called in the lab, without ending; "" is the run's id."""
        return ""

    @abstractmethod
    def training_data(self, config: TrainConfig) -> TrainingData:
        """Train, validation and test batches. Raises InputError where data is missing."""

    @abstractmethod
    def network(self, config: TrainConfig) -> torch.nn.Module:
        """The untrained network.

        `forward(**tensors(samples))` gives the raw output that `loss` takes; `physical(**tensors(samples))` gives a
        dict of named 1-D (or (n, k)) tensors in physical units: predict, the sheet and ONNX all go through it.
        Where it amplifies float32's rounding, a boolean attribute `precise` makes `physical` compute that part in
        float64: the ONNX export switches it on.
        """

    @abstractmethod
    def tensors(self, samples: Samples) -> Arrays:
        """The network's named inputs, float32 or int64, first axis the sample."""

    @abstractmethod
    def targets(self, samples: Samples) -> Arrays:
        """What `loss` compares with."""

    @abstractmethod
    def loss(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scalar training loss."""

    def solve(
        self, config: TrainConfig, data: TrainingData, say: Callable[[str], None]
    ) -> tuple[torch.nn.Module, dict[str, Any]] | None:
        """The fitted network of a family that needs no gradient, with further facts; None where it is to be trained.

        `say` gets sentences for the log.
        """
        return None

    def prepare(self, network: torch.nn.Module, data: TrainingData) -> None:
        """Set what is fitted to training samples but is no weight, as the range of each input, before the first epoch."""
        return

    def fit_uncertainty(self, network: torch.nn.Module, outputs: torch.Tensor, targets: dict[str, torch.Tensor]) -> None:
        """Set the network's calibration buffers from validation outputs, once, on the best weights."""
        return

    def certify(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> dict[str, Any]:
        """Further facts from calibration samples, once, with the calibrated network: cut-offs and what they promise."""
        return {}

    def trial_inputs(self, n: int, rng: np.random.Generator) -> Arrays:
        """Network inputs of n samples like those of the run at hand, to check an exported graph with."""
        return self.tensors(self.simulate(self.Simulation(), n, rng))

    # --- predict and score --------------------------------------------------------------------------------------
    @abstractmethod
    def decode(self, outputs: Arrays, samples: Samples) -> pd.DataFrame:
        """Outputs of `physical` as a table in the user's units, without baselines."""

    @abstractmethod
    def truth(self, samples: Samples) -> pd.DataFrame:
        """The true values under the same column names as `decode`: what a perfect model would return."""

    @abstractmethod
    def score(self, predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
        """Figures of merit, units in the names; contains `monitor.name`. A perfect prediction scores perfectly."""

    @abstractmethod
    def baselines(self, samples: Samples) -> pd.DataFrame:
        """Columns of classical estimates shown beside the model's, and in-domain checks; may be empty."""

    @abstractmethod
    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of predictions.csv in order; the first is `file`, the last `note`."""

    @abstractmethod
    def prediction_panels(self, table: pd.DataFrame, samples: Samples) -> list[Panel]:
        """Figures of a finished prediction."""

    @abstractmethod
    def sheet_panels(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[Panel]:
        """Result-sheet panels of test predictions; `samples` is the test samples' table with baseline columns."""

    @abstractmethod
    def example(self) -> list[Path]:
        """Files shipped under data/ for the sample button."""
