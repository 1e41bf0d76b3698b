"""Task `diffusion`: D from a motion-blurred single-molecule clip. This file only joins the task's parts to the contract.

Parts are imported when they are needed: SciPy and the readers are no load for a page that shows another task.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from lib.task import Arrays, Calibration, Config, Metric, Panel, Phrase, Samples, Task, TrainConfig, TrainingData
from lib.tasks.diffusion.config import SIMULATION_PRESETS, TRAINING_PRESETS, Acquisition, Rules, Simulation, Training

if TYPE_CHECKING:
    import torch

EXAMPLES = Path(__file__).parents[3] / "data" / "diffusion" / "examples"
OUT_OF_RANGE = (  # one sentence per bit of the network's `out_of_range`, in the order of networks.READINGS
    Phrase("brightness outside the training data"),
    Phrase("background outside the training data"),
    Phrase("spot width outside the training data"),
    Phrase("signal-to-noise ratio outside the training data"),
    Phrase("a second bright spot"),
    Phrase("a step longer than any in the training data"),
)
UNMEASURABLE = 10.0  # 68 % limits further apart than this factor say that D could not be measured


class Diffusion(Task):
    """Diffusion coefficient of one molecule from 16 frames, with an error bar."""

    name = "diffusion"
    title = "Diffusion"
    summary = "How fast one molecule moves, read from the blur and the path in a short clip."
    input_label = "16×64×64 single-molecule clip (TIFF)"
    output_label = "diffusion coefficient D with error bar"
    icon = ":material/scatter_plot:"
    suffixes = (".tif", ".tiff")
    monitor = Metric("rms_log10_d", "decades", "min")
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {
        "d_um2_s": ("D", "µm²/s"),
        "d_px2_per_frame": ("D", "px²/frame"),
        "d_mle_px2_per_frame": ("D by MLE", "px²/frame"),
        "d_cve_px2_per_frame": ("D by CVE", "px²/frame"),
    }

    Simulation, Acquisition, Rules, Training = Simulation, Acquisition, Rules, Training
    simulation_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = SIMULATION_PRESETS
    training_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = TRAINING_PRESETS

    def simulate(self, config: Config, n: int, rng: np.random.Generator) -> Samples:
        """N clips at one setting."""
        from lib.tasks.diffusion.simulate import simulate_clips

        assert isinstance(config, Simulation)
        return simulate_clips(config, n, rng)

    def simulation_panels(self, config: Config, rng: np.random.Generator) -> list[Panel]:
        """One clip: animation, noiseless frames, path, MSD, photons, and a row of clips over D."""
        from lib.tasks.diffusion import views
        from lib.tasks.diffusion.simulate import simulate_clips

        assert isinstance(config, Simulation)
        sample = simulate_clips(config, 1, rng, keep_path=True)
        decades = [config.d_um2_s * 10**k if config.d_um2_s else 10.0**k for k in (-1, -0.5, 0, 0.5, 1)]
        row = [simulate_clips(config.model_copy(update={"d_um2_s": d}), 1, rng) for d in decades]
        return views.simulation_panels(sample, config, Samples.concat(row), self.say)

    def read(self, path: Path, acquisition: Config, display_name: str = "") -> Samples:
        """One TIFF clip, camera settings as typed or estimated."""
        from lib.tasks.diffusion import files

        assert isinstance(acquisition, Acquisition)
        return files.read(path, acquisition, display_name, self.tell)

    def write(self, samples: Samples, folder: Path) -> list[Path]:
        """TIFF stacks and truth.csv."""
        from lib.tasks.diffusion import files

        return files.write(samples, folder)

    def inspect(self, samples: Samples, acquisition: Config) -> pd.DataFrame:
        """Photon-transfer and track readings of each clip."""
        from lib.tasks.diffusion import clean

        return clean.inspect(samples)

    def flag(self, readings: pd.DataFrame, rules: Config) -> pd.DataFrame:
        """One boolean column per rule."""
        from lib.tasks.diffusion import clean

        assert isinstance(rules, Rules)
        return clean.flag(readings, rules)

    def thumbnail(self, samples: Samples, row: int) -> np.ndarray:
        """Brightest value of each pixel over the clip, as grey."""
        from lib.tasks.diffusion import views

        return views.thumbnail(samples, row)

    def sample_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        """One real clip: animation with track, MSD, photon-transfer reading."""
        from lib.tasks.diffusion import views

        return views.sample_panels(samples, row, self.say)

    def calibrate(self, samples: Samples, acquisition: Config, rng: np.random.Generator) -> Calibration | None:
        """Camera, spot width, brightness and background of these clips as simulator settings."""
        from lib.tasks.diffusion import clean
        from lib.tasks.diffusion.simulate import simulate_clips

        assert isinstance(acquisition, Acquisition)
        return clean.calibrate(samples, acquisition, simulate_clips, rng, self.say)

    def learn(self, samples: Samples, acquisition: Config) -> tuple[Config, str]:
        """The still spot's width from those clips whose molecule hardly moves, where it was not typed."""
        from lib.tasks.diffusion.still import learn

        assert isinstance(acquisition, Acquisition)
        known, sentence = learn(samples, acquisition)
        return known, self.tell(sentence)

    def training_data(self, config: TrainConfig) -> TrainingData:
        """Freshly simulated clips."""
        from lib.tasks.diffusion.data import SimulatedClips

        assert isinstance(config, Training)
        return SimulatedClips(config)

    def network(self, config: TrainConfig) -> torch.nn.Module:
        """The family's network."""
        from lib.tasks.diffusion.families import build

        assert isinstance(config, Training)
        return build(config.model, config.width, config.dropout)

    def tensors(self, samples: Samples) -> Arrays:
        """`clip_adu` (n, 16, 64, 64) and `camera` (n, 5), or what the front end has read of them."""
        from lib.tasks.diffusion.arrays import network_inputs

        return network_inputs(samples)

    def targets(self, samples: Samples) -> Arrays:
        """log10 of the true D in px²/frame."""
        return {"log10_d": np.log10(samples.table["true_d_px2_per_frame"].to_numpy(np.float32))}

    def loss(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """Negative log-likelihood of log10 D."""
        from lib.tasks.diffusion.networks import negative_log_likelihood

        return negative_log_likelihood(output, targets["log10_d"])

    def fit_uncertainty(self, network: torch.nn.Module, outputs: torch.Tensor, targets: dict[str, torch.Tensor]) -> None:
        """Scale the error bars to validation clips and note the range of their readings."""
        from lib.tasks.diffusion.networks import Estimator

        assert isinstance(network, Estimator)
        network.calibrate(outputs, targets["log10_d"])

    def decode(self, outputs: Arrays, samples: Samples) -> pd.DataFrame:
        """D in px²/frame, and in µm²/s where pixel size and frame interval are known; domain and note."""
        table = samples.table
        to_um2_s = (table["px_size_nm"].to_numpy(float) / 1000) ** 2 / table["frame_interval_s"].to_numpy(float)
        names = [name for name in outputs if name.startswith("d_px2_per_frame")]
        columns = {name: outputs[name].astype(float) for name in names}
        columns |= {name.replace("px2_per_frame", "um2_s"): columns[name] * to_um2_s for name in names}
        bits = outputs["out_of_range"].astype(int)
        reasons = ["; ".join(self.tell(text) for k, text in enumerate(OUT_OF_RANGE) if value >> k & 1) for value in bits]
        wide = columns["d_px2_per_frame_hi"] > UNMEASURABLE * columns["d_px2_per_frame_lo"]
        vague = self.say("D is not measurable here: the 68 % interval spans more than a factor of ten")
        spread = [vague if w else "" for w in wide]
        notes = ["; ".join(part for part in parts if part) for parts in zip(table["note"], reasons, spread, strict=True)]
        return pd.DataFrame({"file": table["file"].to_numpy(), **columns, "in_domain": bits == 0, "note": notes})

    def whole(self, judged: pd.DataFrame, samples: Samples) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The predictions, with what in the clips stands against them."""
        from lib.tasks.diffusion import domain

        return domain.checked(judged, samples, self.facts, self.tell), pd.DataFrame()

    def independent(self, samples: pd.DataFrame) -> pd.Series | None:
        """Simulated clips come in groups that share camera and background."""
        return samples.groupby(["background", "read_sigma_adu"], sort=False).ngroup()

    def truth(self, samples: Samples) -> pd.DataFrame:
        """The true D as a prediction with no error."""
        d = samples.table["true_d_px2_per_frame"].to_numpy(float)
        ends = ("", "_lo", "_hi", "_lo95", "_hi95")
        return self.decode({f"d_px2_per_frame{end}": d for end in ends} | {"out_of_range": np.zeros(len(d))}, samples)

    def score(self, predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
        """Rms error of log10 D, relative RMSE and bias, coverage of the intervals."""
        from lib.tasks.diffusion import score

        return score.score(predicted, truth)

    def baselines(self, samples: Samples) -> pd.DataFrame:
        """CVE, MLE and MSD fits on robust centroids, the trajectory bound, and the track's readings."""
        from lib.tasks.diffusion import estimators

        return estimators.baselines(samples)

    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of predictions.csv."""
        d = [f"d_{unit}{end}" for unit in ("um2_s", "px2_per_frame") for end in ("", "_lo", "_hi")]
        return ("file", *d, "d_mle_px2_per_frame", "d_cve_px2_per_frame", "in_domain", "note")

    def prediction_panels(self, table: pd.DataFrame, samples: Samples, judged: pd.DataFrame) -> list[Panel]:
        """D with error bars beside the classical estimates; for one clip its track too."""
        from lib.tasks.diffusion import views

        return views.prediction_panels(table, samples, self.say)

    def sheet_panels(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[Panel]:
        """Accuracy, bias and coverage against D, photons and background, beside the classical estimates."""
        from lib.tasks.diffusion import sheet_views

        return sheet_views.sheet_panels(predicted, truth, samples, self.say)

    def example(self) -> list[Path]:
        """The simulated sample clips that ship."""
        return sorted(EXAMPLES.glob("*.tif"))


TASK = Diffusion()
