"""The contract between a task and the bench: Config, Samples, Task.

A task is one folder under `lib/tasks/`. Everything the bench knows of it is in this file: the core trains, predicts,
scores and shows any object that keeps this contract and names no task. Nothing here imports torch or streamlit.
"""

from __future__ import annotations

import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd

from lib.config import Config, Group, InputError, TrainConfig, first_bytes, option, typed
from lib.panels import Behind, Film, Marks, Panel, Pick, Picture, Reel, View
from lib.plate import Facet, Plate
from lib.samples import Arrays, Samples
from lib.words import LANGUAGES, Language, Phrase, core, english, speaker, spoken

if TYPE_CHECKING:  # torch is only ever imported by the job and the worker, never by the dashboard
    import torch

__all__ = [
    "FOLD", "NOTHING", "TRUTH", "Arrays", "Behind", "Calibration", "Choices", "Config", "Facet", "Film", "Group", "InputError",
    "Marks", "Metric", "Panel", "Phrase", "Pick", "Picture", "Plate", "Reel", "Samples", "Split", "Task", "TrainConfig",
    "TrainingData", "View", "first_bytes", "option", "typed",
]  # fmt: skip

Split = Literal["train", "validation", "calibration", "test"]
FOLD = "fold_number"  # column of the samples of a joint sheet: which of its runs predicted the row, counted from 0
TRUTH = "truth.csv"  # beside simulated files: what is truly in them, never read as a measurement
NOTHING = "-"  # in a field that names part of a file: none, whatever the file suggests


@dataclass(frozen=True)
class Choices:
    """What chosen files offer for fields of an Acquisition that name part of a file, such as a column.

    `offered` are the names there are, `suggested` what a field stands for that is left empty; NOTHING in a field says none.
    """

    offered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    suggested: Mapping[str, Any] = field(default_factory=dict)


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


def unheard(_share: float, _text: str) -> None:
    """What hears how far a long piece of work is where nobody asked."""


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
    decides: ClassVar[tuple[str, ...]] = ()  # fields of Training that only `certify` uses: they can change after training
    loss_note: ClassVar[str] = ""  # why the losses of training and validation differ, where that is not their samples alone
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {}  # column of a table: words and unit, "d_um2_s": ("D", "µm²/s")
    finders: ClassVar[Mapping[str, type[Config]]] = {}  # what marks things in a plate, by name: its parameters
    simulates_piecewise: ClassVar[bool] = False  # whether `simulate_into` holds one sample at a time, not all of them
    reads_by_reference: ClassVar[bool] = False  # whether `read` takes no values, so that some rows of it cost what they are
    facts: Mapping[str, Any] = {}  # of the run at hand: what its TrainingData and `certify` told, as its classes
    language: Language = "en"  # of what users read
    report: Callable[[float, str], None] = staticmethod(unheard)  # gets the share done of a long read or inspect, and a text

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

    def reporting(self, report: Callable[[float, str], None]) -> Self:
        """This task, telling how far its reading and its looks at samples are."""
        heard = copy.copy(self)
        heard.report = report
        return heard

    def say(self, text: str, **values: Any) -> str:
        """An English text of this task in its language, as its own catalogue has it or else the bench's; fields filled."""
        told = speaker(self.language, self._catalogue(self.language))(text, **values)
        return told if self.language == "en" or told != english(text, **values) else core(self.language)(text, **values)

    def tell(self, text: str) -> str:
        """A text of an error or a remark in this task's language, whether its own catalogue knows it or the bench's."""
        return spoken(text, self.say)

    def languages(self) -> tuple[Language, ...]:
        """English, and those that the task's folder has a catalogue of."""
        return tuple(language for language in LANGUAGES if language == "en" or self._catalogue(language).exists())

    def _catalogue(self, language: Language) -> Path:
        return Path(str(sys.modules[type(self).__module__].__file__)).parent / f"{language}.json"

    # --- simulate -----------------------------------------------------------------------------------------------
    @abstractmethod
    def simulate(self, config: Config, n: int, rng: np.random.Generator) -> Samples:
        """N simulated samples with their true values in the table."""

    def simulate_into(
        self, folder: Path, config: Config, n: int, rng: np.random.Generator, on_progress: Callable[[float], None] | None = None
    ) -> list[Path]:
        """Write N simulated samples into an existing folder, the same as `write` of `simulate`. Whole or not at all.

        A task whose samples are large makes and writes them one by one and sets `simulates_piecewise`; `on_progress` is called
        with the finished share, 0 to 1.
        """
        return self.write(self.simulate(config, n, rng), folder)

    @abstractmethod
    def simulation_panels(self, config: Config, rng: np.random.Generator) -> list[Panel]:
        """What the Simulate page shows of one sample at these settings, in ≤ 0.5 s."""

    def simulation_views(self, config: Config) -> list[View]:
        """What takes longer to compute for these settings: made one after the other, below the panels that are there at once."""
        return []

    # --- files --------------------------------------------------------------------------------------------------
    @abstractmethod
    def read(self, path: Path, acquisition: Config, display_name: str = "") -> Samples:
        """Samples of one file. Raises InputError; `display_name` is what messages call the file."""

    def choices(self, files: Sequence[tuple[Path, str]]) -> Choices:
        """What these files, paths and display names, offer for the fields of Acquisition, from a look at their beginnings.

        Without files, the fields that files would offer something for. A file that cannot be read offers nothing.
        """
        return Choices()

    def bundles(self, files: Sequence[tuple[Path, str]], acquisition: Config) -> list[list[int]]:
        """Which files belong together, by their place in the list of paths and display names; by default each is alone."""
        return [[place] for place in range(len(files))]

    def read_bundle(self, files: Sequence[tuple[Path, str]], acquisition: Config) -> Samples:
        """Samples of files that belong together. Raises InputError."""
        path, name = files[0]
        return self.read(path, acquisition, name)

    def stands_alone(self, name: str) -> bool:
        """Whether a file of that name holds its samples, so that its copy is one of them; False where it names other files."""
        return True

    @abstractmethod
    def write(self, samples: Samples, folder: Path) -> list[Path]:
        """Write samples as the files `read` takes, plus TRUTH where truth is known. Whole or not at all."""

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

    # --- looking into large pictures (in the worker: pixels never enter the dashboard otherwise) ------------------
    def plate(self, samples: Samples, row: int, acquisition: Config) -> Plate | None:
        """The picture of one sample with its values; None for a task whose samples are no pictures. Raises InputError."""
        return None

    def find(self, samples: Samples, row: int, name: str, config: Config, acquisition: Config) -> pd.DataFrame:
        """What one of `finders` marks in a sample: one row per mark, columns `y_px`, `x_px` and what else it tells.

        Raises InputError.
        """
        return pd.DataFrame({"y_px": [], "x_px": []}, dtype=float)

    def true_marks(self, samples: Samples, row: int) -> pd.DataFrame | None:
        """Columns `y_px` and `x_px` of what is truly there, None where that is not known.

        By default list cells `true_y_px` and `true_x_px` of the samples' table.
        """
        if not {"true_y_px", "true_x_px"} <= {*samples.table.columns}:
            return None
        y, x = samples.table["true_y_px"].iloc[row], samples.table["true_x_px"].iloc[row]
        known = np.ndim(y) == 1 and np.ndim(x) == 1
        return pd.DataFrame({"y_px": np.asarray(y, float), "x_px": np.asarray(x, float)}) if known else None

    def marks_to_find(self, marks: pd.DataFrame) -> pd.DataFrame:
        """Those true or labelled marks of a sample that have to be found; by default all."""
        return marks

    def compare_marks(self, found: pd.DataFrame, wanted: pd.DataFrame) -> dict[str, float]:
        """How marks of one sample agree: n_common, n_only_found, n_only_wanted, and precision, recall, f1 (0 to 1, or NaN)."""
        return {}

    def suggest_mask(self, samples: Samples, acquisition: Config, report: Callable[[float, str], None]) -> np.ndarray | None:
        """Pixels (H, W) bool, True where good, as these samples of one run tell; None where the task cannot tell.

        `report` gets the share done, 0 to 1, and a text. Raises InputError.
        """
        return None

    def mask_settings(self, path: Path) -> dict[str, Any]:
        """Fields of Acquisition that have a drawn mask used: an HDF5 file with /mask, 1 = good."""
        return {}

    def plate_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        """What to look at below the picture of one sample; by default all there is of it. Raises InputError."""
        return self.sample_panels(samples, row, acquisition)

    def project(self, samples: Samples, row: int, acquisition: Config, so_far: Arrays) -> Arrays:
        """`so_far`, arrays that gather a whole run ({} at first, may be changed in place), with one more sample in it.

        Raises InputError, and then leaves `so_far` as it was.
        """
        return so_far

    def projections(self, so_far: Arrays, samples: Samples, acquisition: Config) -> dict[str, Plate]:
        """Pictures of a whole run, by name, of what `project` gathered; {} for a task that has none."""
        return {}

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

    def independent(self, samples: pd.DataFrame) -> pd.Series | None:
        """What each of n rows of test samples shares with others that say nothing new, (n,); None where all are independent."""
        return samples.get("group")

    def intervals(self, predicted: pd.DataFrame, truth: pd.DataFrame, unit: pd.Series | None) -> dict[str, tuple[float, float]]:
        """95 % intervals of those figures of merit that resampling rows would shift, by name; NaN where there is none.

        `unit` (n,) is what `independent` gave. Others get a bootstrap interval.
        """
        return {}

    def errors(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Figures of training samples, (n,) by name, NaN where unknown: metrics.csv gets their epoch means as `train_<name>`.

        They are of samples as training changed them, by a network that still learns and has parts of it left out.
        """
        return {}

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

    def examine(self, network: torch.nn.Module, data: TrainingData) -> dict[str, Any]:
        """Further facts of the finished network that take test samples and the network itself, once, for the sheet."""
        return {}

    def explain(self, network: torch.nn.Module, samples: Samples, most: int) -> Samples:
        """The samples with columns of why the network predicts so, of the first `most` or fewer; None for the others."""
        return samples

    def asked(self, config: TrainConfig) -> dict[str, Any]:
        """The facts that `certify` reads, from the fields named in `decides`. Raises InputError where they make no sense."""
        return {}

    def redecided(self, predicted: pd.DataFrame) -> pd.DataFrame:
        """Predictions of the model at hand, made under another certificate, as its present facts decide them."""
        return predicted

    def joined(self, folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Facts of a joint sheet, from those of its runs, the folds of one training. Raises InputError where they do not fit."""
        return dict(folds[0])

    def trial_inputs(self, n: int, rng: np.random.Generator) -> Arrays:
        """Network inputs of n samples like those of the run at hand, to check an exported graph with."""
        return self.tensors(self.simulate(self.Simulation(), n, rng))

    # --- things within samples ----------------------------------------------------------------------------------
    def parts(self, samples: Samples) -> Samples:
        """What the network judges one by one: by default the samples; else things in them, of row `of` of the samples."""
        return samples

    def whole(self, judged: pd.DataFrame, samples: Samples) -> tuple[pd.DataFrame, pd.DataFrame]:
        """One row per sample from the predicted values of its parts, and those parts that are worth keeping, with column `of`."""
        return judged, pd.DataFrame()

    def write_prediction(self, table: pd.DataFrame, judged: pd.DataFrame, samples: Samples, folder: Path) -> list[Path]:
        """Further files of a prediction, beside predictions.csv: of the parts, for other programs. Each whole or not at all."""
        return []

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
    def prediction_panels(self, table: pd.DataFrame, samples: Samples, judged: pd.DataFrame) -> list[Panel]:
        """Figures of a finished prediction; `judged` are the parts of the samples, empty where the samples have none."""

    def behind_panels(self, predicted: pd.DataFrame, samples: Samples) -> list[Panel]:
        """What n samples look like that a reader picked in a table or figure, where panels say what is `behind` them."""
        return []

    def headline(self, row: pd.Series) -> list[tuple[str, str, str]]:
        """Title, value and a line below it, for the few things that tell one predicted sample at a glance.

        `row` is one of predictions.csv. Empty: every value with an interval is shown, as for any task that measures.
        """
        return []

    @abstractmethod
    def sheet_panels(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[Panel]:
        """Result-sheet panels of test predictions; `samples` is the test samples' table with baseline columns."""

    def curves(self, history: pd.DataFrame, best_epoch: int | None) -> list[Panel]:
        """Learning curves of this task's own, from the rows of metrics.csv, beside those of the loss and of `monitor`."""
        return []

    @abstractmethod
    def example(self) -> list[Path]:
        """Files shipped under data/ for the sample button."""
