"""A complete task in miniature: the mean of eight noisy numbers. Tests of the core run on it.

A file is an .npy array of shape (8,) or (n, 8), in volts. The network is a weighted mean with a fitted error bar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib.task import Arrays, Config, InputError, Metric, Panel, Samples, Split, Task, TrainConfig, TrainingData, option

if TYPE_CHECKING:
    import torch

N_READINGS = 8
FOLDER = Path(__file__).parent
SPLIT_CODES: dict[Split, int] = {"train": 1, "validation": 2, "test": 3, "calibration": 4}


class Simulation(Config):
    """One row of readings."""

    mean_v: float = option(1.0, "True mean", unit="V", group="visible", ge=-10, le=10)
    noise_v: float = option(0.5, "Standard deviation of one reading", unit="V", group="hidden", log=True, gt=0, le=10)
    spread_v: float = option(0.0, "Standard deviation of the true mean from row to row", unit="V", group="hidden", ge=0, le=10)


class Acquisition(Config):
    """What the user knows of the voltmeter."""

    offset_v: float | None = option(None, "Zero reading of the voltmeter; empty means 0", unit="V", group="camera", ge=-10, le=10)


class Rules(Config):
    """Which rows to drop."""

    max_spread_v: float = option(5.0, "Largest standard deviation of the eight readings", unit="V", group="data", gt=0, le=100)


class Training(TrainConfig):
    """Toy training."""

    model: str = option("weighted", "Model family: weighted, deep or plain mean", group="model")
    epochs: int = option(3, "Passes over the training data", unit="epochs", group="optimiser", ge=1, le=10_000)
    batch_size: int = option(16, "Samples per optimiser step", unit="samples", group="optimiser", ge=1, le=4096)
    learning_rate: float = option(0.05, "Peak step size of AdamW", group="optimiser", log=True, gt=0, le=1)
    threads: int = option(1, "CPU threads; 0 uses all cores", group="compute", ge=0, le=256)
    n_train: int = option(64, "Training samples per epoch", unit="samples", group="data", ge=1, le=100_000)
    n_test: int = option(48, "Validation samples, and test samples", unit="samples", group="data", ge=1, le=100_000)
    dropout: float = option(0.1, "Share of readings ignored while training", group="model", ge=0, le=0.9)
    step_delay_s: float = option(0.0, "Waits this long before each training batch", unit="s", group="compute", ge=0, le=60)
    data_file: str = option("", "A file that must exist, else training fails", group="data", path=True)


class ToyData(TrainingData):
    """Rows drawn anew from the batch's number."""

    def __init__(self, config: Training) -> None:
        self.config = config
        if config.data_file and not Path(config.data_file).exists():
            raise InputError(config.data_file, "there is no such file", "Download it first.")

    def facts(self) -> dict[str, Any]:
        return {"n_readings": N_READINGS}

    def batches(self, split: Split) -> int:
        n = self.config.n_train if split == "train" else self.config.n_test
        return -(-n // self.config.batch_size)

    def batch(self, split: Split, epoch: int, index: int) -> Samples:
        n = self.config.n_train if split == "train" else self.config.n_test
        size = min(self.config.batch_size, n - index * self.config.batch_size)
        key = (self.config.seed, SPLIT_CODES[split], epoch if split == "train" else 0, index)
        if split == "train" and self.config.step_delay_s:
            _wait(self.config.step_delay_s)
        return TASK.simulate(Simulation(spread_v=2.0), size, np.random.default_rng(key))


def _wait(seconds: float) -> None:
    """A slow data source: lets tests catch a run half-way."""
    import time

    time.sleep(seconds)


def _network(config: Training) -> torch.nn.Module:
    import torch

    class Weighted(torch.nn.Module):
        """Weighted mean of the readings and log of its error; inputs (n, 8) in volts."""

        log_scale: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.dropout = torch.nn.Dropout(config.dropout)
            hidden = [torch.nn.Linear(N_READINGS, N_READINGS), torch.nn.Tanh()] if config.model == "deep" else []
            self.layers = torch.nn.Sequential(*hidden, torch.nn.Linear(N_READINGS, 1))
            self.log_sigma = torch.nn.Parameter(torch.zeros(1))
            self.register_buffer("log_scale", torch.zeros(1))

        def forward(self, readings: torch.Tensor) -> torch.Tensor:
            mean = self.layers(self.dropout(readings))
            return torch.cat([mean, self.log_sigma.expand_as(mean)], dim=1)

        def physical(self, readings: torch.Tensor) -> dict[str, torch.Tensor]:
            raw = self.forward(readings)
            return {"mean_v": raw[:, 0], "sigma_v": torch.exp(raw[:, 1] + self.log_scale)}

    return Weighted()


class Toy(Task):
    """See the module."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    summary: ClassVar[str] = "The mean of eight noisy readings of a voltmeter."
    input_label: ClassVar[str] = "eight readings (.npy)"
    output_label: ClassVar[str] = "mean with error bar"
    icon: ClassVar[str] = ":material/toys:"
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    monitor: ClassVar[Metric] = Metric("rmse_v", "V")
    Simulation: ClassVar[type[Config]] = Simulation
    Acquisition: ClassVar[type[Config]] = Acquisition
    Rules: ClassVar[type[Config]] = Rules
    Training: ClassVar[type[TrainConfig]] = Training
    simulation_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quiet": {"noise_v": 0.1}, "loud": {"noise_v": 2.0}}
    training_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "weighted mean": {"model": "weighted"},
        "deep": {"model": "deep", "learning_rate": 0.003},
        "plain mean": {"model": "plain mean", "epochs": 1},
    }

    def simulate(self, config: Config, n: int, rng: np.random.Generator) -> Samples:
        assert isinstance(config, Simulation)
        truth = config.mean_v + config.spread_v * rng.standard_normal(n)
        readings = truth[:, None] + config.noise_v * rng.standard_normal((n, N_READINGS))
        files = [f"simulated-{i:05d}.npy" for i in range(n)]
        table = pd.DataFrame({"file": files, "note": "", "mean_v": truth, "noise_v": config.noise_v})
        return Samples({"readings": readings.astype(np.float32)}, table)

    def simulation_panels(self, config: Config, rng: np.random.Generator) -> list[Panel]:
        return [_readings_panel(self.simulate(config, 1, rng), 0)]

    def read(self, path: Path, acquisition: Config, display_name: str = "") -> Samples:
        assert isinstance(acquisition, Acquisition)
        name = display_name or path.name
        try:
            readings = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(name, "it is not a NumPy .npy file", "Save it with numpy.save.") from error
        readings = np.atleast_2d(readings)
        if readings.ndim != 2 or readings.shape[1] != N_READINGS:
            raise InputError(name, f"its shape is {readings.shape}", f"Give arrays of {N_READINGS} readings.")
        if not np.isfinite(readings).all():
            raise InputError(name, "it holds values that are not numbers", "Drop those rows.")
        note = "" if acquisition.offset_v is not None else "offset taken as 0"
        readings = readings.astype(np.float32) - np.float32(acquisition.offset_v or 0.0)
        return Samples({"readings": readings}, pd.DataFrame({"file": name, "note": note}, index=range(len(readings))))

    def write(self, samples: Samples, folder: Path) -> list[Path]:
        paths = []
        for name, rows in samples.table.groupby("file").indices.items():
            paths.append(folder / str(name))
            np.save(paths[-1], samples.inputs["readings"][rows].squeeze(), allow_pickle=False)
        if "mean_v" in samples.table:
            paths.append(folder / "truth.csv")
            samples.table.to_csv(paths[-1], index=False)
        return paths

    def inspect(self, samples: Samples, acquisition: Config) -> pd.DataFrame:
        readings = samples.inputs["readings"]
        values = {"spread_v": readings.std(axis=1), "median_v": np.median(readings, axis=1)}
        return pd.DataFrame({"file": samples.table["file"], **values})

    def flag(self, readings: pd.DataFrame, rules: Config) -> pd.DataFrame:
        assert isinstance(rules, Rules)
        return pd.DataFrame({"max_spread_v": readings["spread_v"] > rules.max_spread_v})

    def thumbnail(self, samples: Samples, row: int) -> np.ndarray:
        values = samples.inputs["readings"][row]
        scaled = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
        return np.tile((255 * scaled).astype(np.uint8), (N_READINGS, 1))

    def sample_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        return [_readings_panel(samples, row)]

    def training_data(self, config: TrainConfig) -> TrainingData:
        assert isinstance(config, Training)
        return ToyData(config)

    def network(self, config: TrainConfig) -> torch.nn.Module:
        assert isinstance(config, Training)
        if config.model not in ("weighted", "deep", "plain mean"):
            raise InputError("model", f"there is no model {config.model!r}", "Choose weighted, deep or plain mean.")
        return _network(config)

    def tensors(self, samples: Samples) -> Arrays:
        return {"readings": np.asarray(samples.inputs["readings"], np.float32)}

    def targets(self, samples: Samples) -> Arrays:
        return {"mean_v": samples.table["mean_v"].to_numpy(np.float32)}

    def loss(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        residual = (output[:, 0] - targets["mean_v"]) * (-output[:, 1]).exp()
        return (0.5 * residual**2 + output[:, 1]).mean()

    def fit_uncertainty(self, network: torch.nn.Module, outputs: torch.Tensor, targets: dict[str, torch.Tensor]) -> None:
        residual = (outputs[:, 0] - targets["mean_v"]) * (-outputs[:, 1]).exp()
        network.get_buffer("log_scale").copy_(residual.abs().quantile(0.68).log().reshape(1))

    def certify(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> dict[str, Any]:
        return {"calibration_bias_v": float((predicted["mean_v"] - truth["mean_v"]).mean()), "certified_on": len(samples)}

    def solve(
        self, config: TrainConfig, data: TrainingData, say: Callable[[str], None]
    ) -> tuple[torch.nn.Module, dict[str, Any]] | None:
        if config.model != "plain mean":
            return None
        import torch

        say("nothing to train: a plain mean")
        network = self.network(config)
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, 0.0 if parameter.shape == (1,) else 1 / N_READINGS)
        return network, {"solved": True}

    def decode(self, outputs: Arrays, samples: Samples) -> pd.DataFrame:
        mean, sigma = outputs["mean_v"], outputs["sigma_v"]
        return pd.DataFrame({"mean_v": mean, "mean_v_lo": mean - sigma, "mean_v_hi": mean + sigma})

    def truth(self, samples: Samples) -> pd.DataFrame:
        mean = samples.table["mean_v"].to_numpy()
        return pd.DataFrame({"mean_v": mean, "mean_v_lo": mean, "mean_v_hi": mean})

    def score(self, predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
        error = (predicted["mean_v"] - truth["mean_v"]).to_numpy()
        return {"rmse_v": float(np.sqrt(np.mean(error**2))), "bias_v": float(error.mean())}

    def baselines(self, samples: Samples) -> pd.DataFrame:
        readings = samples.inputs["readings"]
        return pd.DataFrame({"median_v": np.median(readings, axis=1), "in_domain": np.abs(readings).max(axis=1) < 20})

    def prediction_columns(self) -> tuple[str, ...]:
        return ("file", "mean_v", "mean_v_lo", "mean_v_hi", "median_v", "in_domain", "note")

    def prediction_panels(self, table: pd.DataFrame, samples: Samples, judged: pd.DataFrame) -> list[Panel]:
        figure = go.Figure(go.Scatter(y=table["mean_v"], name="mean"))
        return [Panel("means", "Means", figure, "Predicted mean of each row, in V.")]

    def sheet_panels(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[Panel]:
        figure = go.Figure(go.Scatter(x=truth["mean_v"], y=predicted["mean_v"], mode="markers"))
        median_rmse = float(np.sqrt(np.mean((samples["median_v"] - truth["mean_v"]) ** 2)))
        table = pd.DataFrame({"estimator": ["median"], "rmse_v": [median_rmse]})
        return [
            Panel("scatter", "Predicted against true", figure, "Each point is one test row, in V.", wide=True),
            Panel("baselines", "Classical estimates", table, "RMSE of the median, in V."),
        ]

    def example(self) -> list[Path]:
        return [FOLDER / "example.npy"]


def _readings_panel(samples: Samples, row: int) -> Panel:
    figure = go.Figure(go.Bar(y=samples.inputs["readings"][row]))
    return Panel("readings", "Readings", figure, "The eight readings of one row, in V.")


TASK = Toy()
