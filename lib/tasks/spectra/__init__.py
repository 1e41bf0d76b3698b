"""Task `spectra`: quality class of a sample from its fluorescence. This file only joins the task's parts to the contract.

Parts are imported when they are needed: scikit-learn and chemotools are no load for a page that shows another task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from lib.task import TRUTH, Arrays, Choices, Config, Metric, Panel, Samples, Task, TrainConfig, TrainingData, View
from lib.tasks.spectra.columns import Columns
from lib.tasks.spectra.config import SIMULATION_PRESETS, SUFFIXES, Simulation
from lib.tasks.spectra.settings import TRAINING_PRESETS, Rules, Training
from lib.tasks.spectra.table import SEVERITY, TRUE_COLUMNS, class_column

if TYPE_CHECKING:
    import torch

EXAMPLES = Path(__file__).parents[3] / "data" / "spectra" / "examples"
FITTING, CERTIFYING = 11, 12  # seeds of what is drawn at random beside the batches


class Spectra(Task):
    """Class of a sample from fluorescence spectra, with a calibrated probability and a decision that keeps a promise."""

    name = "spectra"
    title = "Spectra"
    summary = "Which samples may pass without being tasted, read from their fluorescence, at a stated risk."
    input_label = "table of spectra (CSV, TSV, Parquet, HDF5)"
    output_label = "quality class with its probability and a decision"
    icon = ":material/ssid_chart:"
    suffixes = SUFFIXES
    monitor = Metric("macro_f1", "", "max")
    decides = (
        "policy", "precision_target_percent", "recall_target_percent", "risk_percent", "tastings_per_mistake", "special_costs",
        "confidence_percent",
    )  # fmt: skip
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {
        "predicted": ("Class", ""),
        "prediction_set": ("Classes that cannot be ruled out", ""),
        "decision": ("Decision", ""),
        "t2": ("T² (1: edge of training)", ""),
        "q": ("Q (1: edge of training)", ""),
        "p_The rest": ("p_The rest", ""),
    }

    Simulation, Acquisition, Rules, Training = Simulation, Columns, Rules, Training
    simulation_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = SIMULATION_PRESETS
    training_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = TRAINING_PRESETS

    def simulate(self, config: Config, n: int, rng: np.random.Generator) -> Samples:
        """N samples of one barrel, or of a whole population."""
        from lib.tasks.spectra import arrays
        from lib.tasks.spectra.simulate import simulate_samples, simulate_table

        assert isinstance(config, Simulation)
        table = simulate_table(config, n, rng) if config.population else simulate_samples(config, n, rng)
        return arrays.as_samples(table, "spectra.parquet")

    def simulation_panels(self, config: Config, rng: np.random.Generator) -> list[Panel]:
        """One sample in all channels, what each substance adds, the classes of a small population."""
        from lib.tasks.spectra import simulate_views

        assert isinstance(config, Simulation)
        return simulate_views.simulation_panels(config, rng, self.say)

    def choices(self, files: Sequence[tuple[Path, str]]) -> Choices:
        """Columns and channels of the tables, and what their names suggest."""
        from lib.tasks.spectra import choices

        return choices.choices(files)

    def bundles(self, files: Sequence[tuple[Path, str]], acquisition: Config) -> list[list[int]]:
        """The fluorimeter's files of one set belong together; other tables are alone, or what the user says they are."""
        from lib.tasks.spectra import files as tables

        assert isinstance(acquisition, Columns)
        return tables.bundles([name for _, name in files], acquisition.together)

    def read(self, path: Path, acquisition: Config, display_name: str = "") -> Samples:
        """One table."""
        return self.read_bundle([(path, display_name or path.name)], acquisition)

    def read_bundle(self, files: Sequence[tuple[Path, str]], acquisition: Config) -> Samples:
        """One table, the files of one set, or several tables joined; columns as the user named them, or as the file suggests."""
        from lib.tasks.spectra import arrays
        from lib.tasks.spectra import files as tables

        assert isinstance(acquisition, Columns)
        columns = acquisition if acquisition != Columns() else None
        paths, names = [path for path, _ in files], [name for _, name in files]
        reading = tables.read(paths, columns, names=names, cache=tables.cache_folder())
        file = names[0] + (f" and {len(names) - 1} more" if names[1:] else "")
        return arrays.as_samples(reading.table, file, reading.notes, self.tell)

    def write(self, samples: Samples, folder: Path) -> list[Path]:
        """`spectra.parquet`; what only a simulation knows goes into truth.csv."""
        from lib.tasks.spectra import arrays
        from lib.tasks.spectra import files as tables

        table = arrays.as_table(samples)
        known = [column for column in TRUE_COLUMNS if column in table.rows]
        paths = [tables.write(arrays.without(table, known), folder / "spectra.parquet")]
        if known:
            paths.append(folder / TRUTH)
            table.rows[["sample", *known]].to_csv(paths[-1], index=False)
        return paths

    def inspect(self, samples: Samples, acquisition: Config) -> pd.DataFrame:
        """Maximum, integral, plateau, gaps, duplicates and distance of each sample's spectra."""
        from lib.tasks.spectra import clean

        return clean.inspect(samples)

    def flag(self, readings: pd.DataFrame, rules: Config) -> pd.DataFrame:
        """One boolean column per rule."""
        from lib.tasks.spectra import clean

        assert isinstance(rules, Rules)
        return clean.flag(readings, rules)

    def overview(self, samples: Samples, readings: pd.DataFrame, keep: pd.Series, rules: Config) -> list[View]:
        """The whole table: integrals, maxima, classes, drift, correlations, principal components, extremes, checks."""
        from lib.tasks.spectra import checks, clean_views, transfer_views

        assert isinstance(rules, Rules)
        by = class_column(samples.table) or SEVERITY
        check = checks.check_view(samples, readings, self.say, by)
        transfer = transfer_views.transfer_view(samples, keep, self.say)
        return [*clean_views.views(samples, readings, keep, self.say, rules, by), check, *([transfer] if transfer else [])]

    def thumbnail(self, samples: Samples, row: int) -> np.ndarray:
        """The curves of one sample."""
        from lib.tasks.spectra import sample_views

        return sample_views.thumbnail(samples, row)

    def sample_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        """One sample over the table's median, its readings, and what preprocessing would make of it."""
        from lib.tasks.spectra import sample_views

        return sample_views.sample_panels(samples, row, self.say)

    def preview(self, config: TrainConfig) -> list[Panel]:
        """The classes as training would count them, and what may go wrong with them."""
        from lib.tasks.spectra.data import balance_of

        assert isinstance(config, Training)
        table, sentences = balance_of(config)
        told = "\n".join(f"- {self.tell(sentence)}" for sentence in sentences)
        balance = Panel("balance", self.say("Classes to be learnt"), table, self.say("How many samples each class has."))
        return [balance, *([Panel("remarks", self.say("Good to know before training"), told)] if told else [])]

    def folds(self, config: TrainConfig) -> list[TrainConfig]:
        """Every fold as the test part once."""
        assert isinstance(config, Training)
        if config.test_source == "file":
            return [config]  # every fold would test the same table
        return [config.model_copy(update={"current_split": k}) for k in range(config.n_splits)]

    def export_name(self, config: TrainConfig) -> str:
        """As the original project named its models."""
        from lib.tasks.spectra import names

        assert isinstance(config, Training)
        return names.write(names.of_config(config, self.facts), "") if self.facts else ""

    def training_data(self, config: TrainConfig) -> TrainingData:
        """A table, or a simulated population, in four parts."""
        from lib.tasks.spectra.data import TableData

        assert isinstance(config, Training)
        return TableData(config)

    def network(self, config: TrainConfig) -> torch.nn.Module:
        """The family's network for the channels and classes of the run."""
        from lib.tasks.spectra.families import build

        assert isinstance(config, Training)
        return build(config, self.facts)

    def solve(
        self, config: TrainConfig, data: TrainingData, say: Callable[[str], None]
    ) -> tuple[torch.nn.Module, dict[str, Any]] | None:
        """Linear families and the best of them, chosen by inner cross-validation on training rows."""
        from lib.tasks.spectra import direct
        from lib.tasks.spectra.data import TableData

        assert isinstance(config, Training) and isinstance(data, TableData)
        if not config.gradient_free:
            return None
        spectra, _, codes, groups = data.transferred("train")
        rng = np.random.default_rng([config.seed, FITTING])
        network, facts = direct.fit(config, spectra, codes, groups, rng, data.facts(), say)
        network.set_transfer(data.transfer)
        return network, facts

    def prepare(self, network: torch.nn.Module, data: TrainingData) -> None:
        """Transfer, range of each point, tabular scale, and the components that tell what is like the training spectra."""
        from lib.tasks.spectra.data import TableData
        from lib.tasks.spectra.networks import Classifier

        assert isinstance(network, Classifier) and isinstance(data, TableData)
        spectra, tabular, _, _ = data.transferred("train")
        network.set_transfer(data.transfer)
        network.fit_inputs(spectra, tabular, np.random.default_rng([data.config.seed, FITTING]))

    def tensors(self, samples: Samples) -> Arrays:
        """`spectra` (n, P) of the run's channels side by side; `tabular` (n, T) and `instrument` (n,) where it takes any."""
        from lib.tasks.spectra import arrays

        return arrays.model_inputs(samples, self.facts)

    def trial_inputs(self, n: int, rng: np.random.Generator) -> Arrays:
        """Spectra about the class means of the run."""
        from lib.tasks.spectra import arrays

        return arrays.trial_inputs(self.facts, n, rng)

    def targets(self, samples: Samples) -> Arrays:
        """Class shares and weight of each sample."""
        from lib.tasks.spectra import learning

        return learning.targets(samples, self.facts)

    def loss(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """Weighted cross-entropy."""
        from lib.tasks.spectra import learning

        return learning.loss(output, targets)

    def fit_uncertainty(self, network: torch.nn.Module, outputs: torch.Tensor, targets: dict[str, torch.Tensor]) -> None:
        """The temperature that makes probabilities of validation samples right on average."""
        from lib.tasks.spectra import learning
        from lib.tasks.spectra.networks import Classifier

        assert isinstance(network, Classifier)
        network.set_temperature(learning.fit_temperature(outputs.numpy(), targets["code"].numpy()))

    def certify(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> dict[str, Any]:
        """Cut-offs and prediction sets that keep a promise at a stated risk."""
        from lib.tasks.spectra import verdicts

        return verdicts.certify(predicted, truth, samples, self.facts, np.random.default_rng(CERTIFYING))

    def asked(self, config: TrainConfig) -> dict[str, Any]:
        """Policy, targets, risk and costs."""
        from lib.tasks.spectra import verdicts

        assert isinstance(config, Training)
        return verdicts.asked(config, self.facts["classes"])

    def redecided(self, predicted: pd.DataFrame) -> pd.DataFrame:
        """Decision, prediction set and note anew."""
        from lib.tasks.spectra import verdicts

        return verdicts.redecided(predicted, self.facts, self.say)

    def joined(self, folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Each fold keeps its own certificate: a row is decided as its own model would."""
        from lib.tasks.spectra import sheet_rows

        return sheet_rows.joined(folds)

    def decode(self, outputs: Arrays, samples: Samples) -> pd.DataFrame:
        """Class, probabilities, prediction set, decision, domain and note of each sample."""
        from lib.tasks.spectra import verdicts

        return verdicts.decode(outputs, samples, self.facts, self.say)

    def truth(self, samples: Samples) -> pd.DataFrame:
        """The recorded class as a prediction without doubt."""
        from lib.tasks.spectra import verdicts

        return verdicts.truth(samples, self.facts)

    def score(self, predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
        """Macro-F1, accuracy, balanced accuracy, area under the ROC curve, log loss, calibration error."""
        from lib.tasks.spectra import verdicts

        return verdicts.score(predicted, truth)

    def baselines(self, samples: Samples) -> pd.DataFrame:
        """Nothing beside the model: the classical methods are models here."""
        return pd.DataFrame(index=range(len(samples)))

    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of predictions.csv, with the classes of the run."""
        from lib.tasks.spectra import verdicts

        return verdicts.prediction_columns(self.facts)

    def prediction_panels(self, table: pd.DataFrame, samples: Samples, judged: pd.DataFrame) -> list[Panel]:
        """Decisions, probabilities, spectra over the class means, distance to the training data."""
        from lib.tasks.spectra import predict_views

        return predict_views.prediction_panels(table, samples, self.facts, self.say)

    def behind_panels(self, predicted: pd.DataFrame, samples: Samples) -> list[Panel]:
        """Spectra of a few samples over the class means."""
        from lib.tasks.spectra import predict_views

        return predict_views.behind_panels(predicted, samples, self.facts, self.say)

    def headline(self, row: pd.Series) -> list[tuple[str, str, str]]:
        """Class, probability, prediction set and decision of one sample."""
        from lib.tasks.spectra import predict_views

        return predict_views.headline(row, self.facts, self.say)

    def intervals(self, predicted: pd.DataFrame, truth: pd.DataFrame, unit: pd.Series | None) -> dict[str, tuple[float, float]]:
        """That of the calibration error, which resampling folds upwards."""
        from lib.tasks.spectra import sheet_views

        return {"ece_percent": sheet_views.ece_interval(predicted, truth, unit)}

    def sheet_panels(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[Panel]:
        """What a lab signs: calibration, confusion, cut-offs and what they kept, sets, errors, strata."""
        from lib.tasks.spectra import sheet_views, transfer_views

        panels = sheet_views.sheet_panels(predicted, truth, samples, self.facts, self.say)
        return [*panels, *transfer_views.sheet_panel(self.facts, self.say)]

    def example(self) -> list[Path]:
        """A small simulated table that ships."""
        return sorted(EXAMPLES.glob("*.parquet"))


TASK = Spectra()
