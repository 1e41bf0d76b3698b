"""Task `reflectance`: ten optical channels from one SEM image. This file only joins the task's parts to the contract.

Parts are imported when they are needed: optics, decoders and scikit-learn are no load for a page that shows another task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from lib.task import Arrays, Choices, Config, Metric, Panel, Samples, Task, TrainConfig, TrainingData, View
from lib.tasks.reflectance.config import CHANNELS
from lib.tasks.reflectance.scale import SIMULATION_PRESETS, Simulation
from lib.tasks.reflectance.settings import SUFFIXES, TABLES, Acquisition, Rules
from lib.tasks.reflectance.training import TRAINING_PRESETS, Training

if TYPE_CHECKING:
    import torch

EXAMPLES = Path(__file__).parents[3] / "data" / "reflectance" / "examples"


class Reflectance(Task):
    """Ten optical channels of a nanostructured surface from one SEM image, with intervals."""

    name = "reflectance"
    title = "Reflectance"
    summary = "The colour a nanostructure will have, in ten channels from ultraviolet to infrared, from its SEM image."
    input_label = "SEM image of a nanostructured surface (PNG, TIFF, JPEG), 256 × 256 px of it"
    output_label = "reflectance, fluorescence and polarisation in ten channels"
    icon = ":material/blur_on:"
    suffixes = SUFFIXES
    monitor = Metric("mae_pp", "pp")
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {
        **{channel: (channel, "") for channel in CHANNELS},
        "in_domain": ("Like the training", ""), "image": ("Picture", ""), "specimen": ("Specimen", ""),
        "nm_per_px": ("Pixel size", "nm"), "kind": ("Kind", ""),
    }  # fmt: skip

    Simulation, Acquisition, Rules, Training = Simulation, Acquisition, Rules, Training
    simulation_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = SIMULATION_PRESETS
    training_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = TRAINING_PRESETS

    def simulate(self, config: Config, n: int, rng: np.random.Generator) -> Samples:
        """N images of specimens about one setting, with the channels of each from rigorous optics."""
        from lib.tasks.reflectance import simulate

        assert isinstance(config, Simulation)
        return simulate.simulate(config, n, rng)

    def simulation_panels(self, config: Config, rng: np.random.Generator) -> list[Panel]:
        """One scale as a microscope sees it, and cut across."""
        from lib.tasks.reflectance import simulate_views

        assert isinstance(config, Simulation)
        return simulate_views.simulation_panels(config, rng, self.say)

    def simulation_views(self, config: Config) -> list[View]:
        """Its colours, ten channels and spectrum, and a sweep."""
        from lib.tasks.reflectance import simulate_views

        assert isinstance(config, Simulation)
        return simulate_views.simulation_views(config, self.say)

    def choices(self, files_: Sequence[tuple[Path, str]]) -> Choices:
        """Patterns that find specimens in the pictures' names."""
        from lib.tasks.reflectance import files

        return Choices(files.offered(files_))

    def bundles(self, files_: Sequence[tuple[Path, str]], acquisition: Config) -> list[list[int]]:
        """A table with the pictures it names; other pictures are alone."""
        from lib.tasks.reflectance import files

        return files.bundles([name for _, name in files_])

    def read(self, path: Path, acquisition: Config, display_name: str = "") -> Samples:
        """One picture, or a table with its pictures."""
        from lib.tasks.reflectance import files

        assert isinstance(acquisition, Acquisition)
        return _aimed(files.read(path, acquisition, display_name, tell=self.tell, report=self.report), acquisition)

    def read_bundle(self, files_: Sequence[tuple[Path, str]], acquisition: Config) -> Samples:
        """A table with its pictures, or pictures."""
        from lib.tasks.reflectance import files

        assert isinstance(acquisition, Acquisition)
        return _aimed(files.read_bundle(files_, acquisition, tell=self.tell, report=self.report), acquisition)

    def stands_alone(self, name: str) -> bool:
        """A table of targets is nothing without its pictures."""
        return not name.lower().endswith(TABLES)

    def write(self, samples: Samples, folder: Path) -> list[Path]:
        """Pictures as PNG, with truth.csv."""
        from lib.tasks.reflectance import files

        return files.write(samples, folder)

    def inspect(self, samples: Samples, acquisition: Config) -> pd.DataFrame:
        """Scale, contrast, blur, saturation, copies and targets of each picture."""
        from lib.tasks.reflectance import clean

        assert isinstance(acquisition, Acquisition)
        return clean.inspect(samples, self.report)

    def flag(self, readings: pd.DataFrame, rules: Config) -> pd.DataFrame:
        """One boolean column per rule."""
        from lib.tasks.reflectance import clean

        assert isinstance(rules, Rules)
        return clean.flag(readings, rules)

    def overview(self, samples: Samples, readings: pd.DataFrame, keep: pd.Series, rules: Config) -> list[View]:
        """The set together: targets, copies, specimens, checks."""
        from lib.tasks.reflectance import clean_views

        assert isinstance(rules, Rules)
        return clean_views.overview(samples, readings, keep, rules, self.say)

    def thumbnail(self, samples: Samples, row: int) -> np.ndarray:
        """The picture, small."""
        from lib.tasks.reflectance import clean_views

        return clean_views.thumbnail(samples, row)

    def sample_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        """One picture, how it was cut, its spectrum and targets."""
        from lib.tasks.reflectance import sample_views

        return sample_views.sample_panels(samples, row, self.say)

    def training_data(self, config: TrainConfig) -> TrainingData:
        """Labelled images, or rendered ones, in four parts."""
        from lib.tasks.reflectance.data import Images

        assert isinstance(config, Training)
        return Images(config)

    def network(self, config: TrainConfig) -> torch.nn.Module:
        """The family's network."""
        from lib.tasks.reflectance import families

        assert isinstance(config, Training)
        return families.build(config, self.facts)

    def solve(
        self, config: TrainConfig, data: TrainingData, say: Callable[[str], None]
    ) -> tuple[torch.nn.Module, dict[str, Any]] | None:
        """Ridge regression and ExtraTrees, fitted at once."""
        from lib.tasks.reflectance import families
        from lib.tasks.reflectance.data import Images

        assert isinstance(config, Training) and isinstance(data, Images)
        return families.solve(config, data) if config.gradient_free else None

    def prepare(self, network: torch.nn.Module, data: TrainingData) -> None:
        """Scales of what is learnt, and what new images are compared with."""
        from lib.tasks.reflectance import families
        from lib.tasks.reflectance.data import Images
        from lib.tasks.reflectance.networks import Reader

        assert isinstance(network, Reader) and isinstance(data, Images)
        families.prepare(network, data)

    def tensors(self, samples: Samples) -> Arrays:
        """`image` (n, 256, 256) and `scale` (n, 2)."""
        from lib.tasks.reflectance import learning

        return learning.tensors(samples)

    def targets(self, samples: Samples) -> Arrays:
        """Channels and geometry, and how much each counts."""
        from lib.tasks.reflectance import learning

        return learning.targets(samples, self.facts)

    def loss(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """Weighted Huber loss of channels and geometry."""
        from lib.tasks.reflectance import learning

        return learning.loss(output, targets)

    def errors(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Absolute error of each channel in pp; nothing in stage geometry."""
        from lib.tasks.reflectance import learning

        return {} if self.facts.get("stage") == "geometry" else learning.errors(output, targets)

    def fit_uncertainty(self, network: torch.nn.Module, outputs: torch.Tensor, targets: dict[str, torch.Tensor]) -> None:
        """Make the intervals of each channel hold 68 % of validation images."""
        from lib.tasks.reflectance.networks import Reader

        assert isinstance(network, Reader)
        network.calibrate(outputs, targets["channels"])

    def certify(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> dict[str, Any]:
        """A factor on all intervals from images that chose nothing."""
        from lib.tasks.reflectance import score

        return {} if self.facts.get("stage") == "geometry" else score.certify(predicted, truth)

    def examine(self, network: torch.nn.Module, data: TrainingData) -> dict[str, Any]:
        """Whether greying what the maps of influence name does what they say."""
        from lib.tasks.reflectance import influence
        from lib.tasks.reflectance.data import Images
        from lib.tasks.reflectance.networks import Reader

        assert isinstance(network, Reader) and isinstance(data, Images)
        return {} if self.facts.get("stage") == "geometry" else influence.deletion_test(network, data)

    def explain(self, network: torch.nn.Module, samples: Samples, most: int) -> Samples:
        """With how much each place of the images raises each channel."""
        from lib.tasks.reflectance import influence
        from lib.tasks.reflectance.networks import Reader

        assert isinstance(network, Reader)
        return samples if self.facts.get("stage") == "geometry" else influence.explain(network, samples, most)

    def trial_inputs(self, n: int, rng: np.random.Generator) -> Arrays:
        """Gratings in noise, at the common pixel size or an unknown one."""
        from lib.tasks.reflectance import trial

        return trial.inputs(n, rng)

    def parts(self, samples: Samples) -> Samples:
        """The images themselves: what a network tells of places in them is kept beside the table."""
        return samples

    def whole(self, judged: pd.DataFrame, samples: Samples) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The predicted values, and with them the nearest training images of each image."""
        kept = [name for name in ("nearest",) if name in judged]
        return judged.drop(columns=kept), judged[kept].assign(of=np.arange(len(judged)))

    def decode(self, outputs: Arrays, samples: Samples) -> pd.DataFrame:
        """Channels with intervals, likeness to the training images, note."""
        from lib.tasks.reflectance import score

        return score.decode(outputs, samples, self.facts, self.say)

    def truth(self, samples: Samples) -> pd.DataFrame:
        """The measured or simulated channels."""
        from lib.tasks.reflectance import score

        return score.truth(samples, self.facts)

    def score(self, predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
        """MAE, RMSE, bias in pp, R², coverage."""
        from lib.tasks.reflectance import score

        return score.score(predicted, truth, self.facts)

    def baselines(self, samples: Samples) -> pd.DataFrame:
        """Nothing beside the model here: classical estimates come with the test images."""
        return pd.DataFrame(index=range(len(samples)))

    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of predictions.csv."""
        if self.facts.get("stage") == "geometry":
            from lib.tasks.reflectance.columns import GEOMETRY

            return ("file", "image", *GEOMETRY, "in_domain", "note")
        ends = [f"{channel}{end}" for channel in CHANNELS for end in ("_lo", "_hi")]
        return ("file", "image", "specimen", *CHANNELS, *ends, "in_domain", "note")

    def prediction_panels(self, table: pd.DataFrame, samples: Samples, judged: pd.DataFrame) -> list[Panel]:
        """Swatches, bars beside the nearest training images, maps of influence, specimens, search by colour."""
        from lib.tasks.reflectance import predict_views

        return predict_views.prediction_panels(table, samples, judged, self.facts, self.say)

    def behind_panels(self, predicted: pd.DataFrame, samples: Samples) -> list[Panel]:
        """A few images with their colours, predicted and, where known, true."""
        from lib.tasks.reflectance import predict_views

        return predict_views.behind_panels(predicted, samples, self.facts, self.say)

    def sheet_panels(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[Panel]:
        """Errors per channel beside simpler ways, leakage, kinds, coverage, best and worst."""
        from lib.tasks.reflectance import sheet_views

        return sheet_views.sheet_panels(predicted, truth, samples, self.facts, self.say)

    def curves(self, history: pd.DataFrame, best_epoch: int | None) -> list[Panel]:
        """Errors of each channel over the epochs."""
        from lib.tasks.reflectance import training_views

        return training_views.curves(history, best_epoch, self.say)

    def example(self) -> list[Path]:
        """A few simulated images that ship, and the table that tells their specimens and pixel size."""
        return [*sorted(EXAMPLES.glob("*.png")), *sorted(EXAMPLES.glob("*.csv"))]


def _aimed(samples: Samples, acquisition: Acquisition) -> Samples:
    """With what predictions are to be ranked by, where the user looks for something."""
    return replace(samples, common={**samples.common, "target": acquisition.target}) if acquisition.target else samples


TASK = Reflectance()
