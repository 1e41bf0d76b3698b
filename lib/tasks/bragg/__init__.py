"""Task `bragg`: Bragg peaks in X-ray detector frames. This file only joins the task's parts to the contract.

Parts are imported when they are needed: compiled finders and readers of HDF5 are no load for a page that shows another task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from lib.task import Arrays, Choices, Config, Metric, Panel, Plate, Samples, Task, TrainConfig, TrainingData, View
from lib.tasks.bragg.config import SIMULATION_PRESETS, SUFFIXES, Acquisition, Simulation, drawn_mask
from lib.tasks.bragg.finders import FINDERS, Finder
from lib.tasks.bragg.settings import TRAINING_PRESETS, Rules, Training

if TYPE_CHECKING:
    import torch

    from lib.tasks.bragg.data import Candidates

EXAMPLES = Path(__file__).parents[3] / "data" / "bragg" / "examples"


class Bragg(Task):
    """Bragg peaks, frame by frame: what stands out of the noise, judged by a network."""

    name = "bragg"
    title = "Bragg peaks"
    summary = "Which spots of a diffraction frame are Bragg peaks, and which frames are hits."
    input_label = "X-ray detector frames (HDF5, CXI, CBF …)"
    output_label = "peak positions, intensities and hits"
    icon = ":material/flare:"
    suffixes = SUFFIXES
    simulates_piecewise = True
    reads_by_reference = True
    monitor = Metric("average_precision", "", "max")
    loss_note = (
        "Training learns from a choice of each frame's candidates, without doubtful ones and the faintest spots; validation "
        "keeps all, so its loss is higher and need not fall while the score rises."
    )
    labels: ClassVar[Mapping[str, tuple[str, str]]] = {
        "n_peaks": ("Peaks", ""), "is_hit": ("Hit", ""), "frame": ("Frame", ""), "in_domain": ("Like the training", ""),
        "mean_adu": ("Mean", "ADU"), "max_adu": ("Largest", "ADU"), "saturated_percent": ("Saturated", "%"),
        "masked_percent": ("Masked", "%"), "n_candidates": ("Candidates", ""), "noise_adu": ("Noise", "ADU"),
        **{name: (kind.title, "") for name, kind in FINDERS.items()},
    }  # fmt: skip

    Simulation, Acquisition, Rules, Training = Simulation, Acquisition, Rules, Training
    simulation_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = SIMULATION_PRESETS
    finders: ClassVar[Mapping[str, type[Config]]] = FINDERS
    training_presets: ClassVar[Mapping[str, Mapping[str, Any]]] = TRAINING_PRESETS

    def simulate(self, config: Config, n: int, rng: np.random.Generator) -> Samples:
        """N frames at one setting, each crystal turned anew."""
        from lib.tasks.bragg import simulate

        assert isinstance(config, Simulation)
        return simulate.simulate_frames(config, n, rng)

    def simulate_into(
        self, folder: Path, config: Config, n: int, rng: np.random.Generator, on_progress: Callable[[float], None] | None = None
    ) -> list[Path]:
        """One CXI run and truth.csv, each frame written as it is made."""
        from lib.tasks.bragg import write

        assert isinstance(config, Simulation)
        return write.write_simulated(config, n, rng, folder, on_progress)

    def simulation_panels(self, config: Config, rng: np.random.Generator) -> list[Panel]:
        """One frame with its spots and rings, its radial profile, and how strong its spots are."""
        from lib.tasks.bragg import simulate, simulate_views

        assert isinstance(config, Simulation)
        return simulate_views.simulation_panels(simulate.simulate_frames(config, 1, rng), config, self.say)

    def read(self, path: Path, acquisition: Config, display_name: str = "") -> Samples:
        """The frames of one file, by reference: pixels are read when they are needed."""
        from lib.tasks.bragg import files

        assert isinstance(acquisition, Acquisition)
        return files.read(path, acquisition, display_name)

    def choices(self, files_: Sequence[tuple[Path, str]]) -> Choices:
        """Datasets, geometry files and masks that were given."""
        from lib.tasks.bragg import files

        return Choices(files.offered(files_))

    def bundles(self, files_: Sequence[tuple[Path, str]], acquisition: Config) -> list[list[int]]:
        """An Eiger master with its data files, a geometry or mask with the frames it is for."""
        from lib.tasks.bragg import files

        return files.bundles([name for _, name in files_])

    def read_bundle(self, files_: Sequence[tuple[Path, str]], acquisition: Config) -> Samples:
        """The frames of files that belong together."""
        from lib.tasks.bragg import files

        assert isinstance(acquisition, Acquisition)
        return files.read_bundle(files_, acquisition)

    def write(self, samples: Samples, folder: Path) -> list[Path]:
        """One CXI run and truth.csv."""
        from lib.tasks.bragg import write

        return write.write_cxi(samples, folder)

    def inspect(self, samples: Samples, acquisition: Config) -> pd.DataFrame:
        """Brightness, noise, saturation and number of candidates of each frame."""
        from lib.tasks.bragg import clean

        assert isinstance(acquisition, Acquisition)
        return clean.inspect(samples, acquisition.saturation_adu, self.tell)

    def flag(self, readings: pd.DataFrame, rules: Config) -> pd.DataFrame:
        """One boolean column per rule."""
        from lib.tasks.bragg import clean

        assert isinstance(rules, Rules)
        return clean.flag(readings, rules)

    def overview(self, samples: Samples, readings: pd.DataFrame, keep: pd.Series, rules: Config) -> list[View]:
        """The run, frame by frame."""
        from lib.tasks.bragg import frame_views

        return frame_views.overview(readings, keep, self.say)

    def thumbnail(self, samples: Samples, row: int) -> np.ndarray:
        """The frame, small, on a logarithmic scale."""
        from lib.tasks.bragg import files, frame_views

        return frame_views.thumbnail(files.frame_at(samples, row))

    def sample_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        """One frame with its candidates and rings, its radial profile and its histogram."""
        from lib.tasks.bragg import files, frame_views

        return frame_views.sample_panels(files.frame_at(samples, row), self.say)

    def plate(self, samples: Samples, row: int, acquisition: Config) -> Plate | None:
        """The frame with its values, mask and rings."""
        from lib.tasks.bragg import files, looks

        return looks.plate(files.frame_at(samples, row))

    def plate_panels(self, samples: Samples, row: int, acquisition: Config) -> list[Panel]:
        """The frame's radial profile and histogram."""
        from lib.tasks.bragg import files, frame_views

        return frame_views.value_panels(files.frame_at(samples, row), self.say)

    def project(self, samples: Samples, row: int, acquisition: Config, so_far: Arrays) -> Arrays:
        """Sum and largest reading of every pixel, gathered frame by frame."""
        from lib.tasks.bragg import files, projections

        return projections.add(so_far, files.frame_at(samples, row))

    def projections(self, so_far: Arrays, samples: Samples, acquisition: Config) -> dict[str, Plate]:
        """Largest, mean and sum of a run."""
        from lib.tasks.bragg import files, looks

        return looks.projections(so_far, files.geometry_at(samples, 0))

    def find(self, samples: Samples, row: int, name: str, config: Config, acquisition: Config) -> pd.DataFrame:
        """Peaks of a classical finder."""
        from lib.tasks.bragg import files, looks

        assert isinstance(config, Finder)
        return looks.find(files.frame_at(samples, row), config)

    def true_marks(self, samples: Samples, row: int) -> pd.DataFrame | None:
        """The spots of a simulated frame, of the samples themselves or of the table beside their file."""
        from lib.tasks.bragg import looks

        known = super().true_marks(samples, row)
        if known is None:
            return looks.true_marks(samples, row)
        return known.assign(snr=np.asarray(samples.table["true_snr"].iloc[row], float))

    def marks_to_find(self, marks: pd.DataFrame) -> pd.DataFrame:
        """Spots of I/σ ≥ 5, or all where nobody knows how strong they are."""
        from lib.tasks.bragg import looks

        return marks[looks.strong(marks)]

    def compare_marks(self, found: pd.DataFrame, wanted: pd.DataFrame) -> dict[str, float]:
        """Precision, recall and F1 within 2 px."""
        from lib.tasks.bragg import looks

        return looks.compare(found, wanted)

    def suggest_mask(self, samples: Samples, acquisition: Config, report: Callable[[float, str], None]) -> np.ndarray | None:
        """Pixels that are always hot or never read."""
        from lib.tasks.bragg import looks

        return looks.suggest_mask(samples, report, self.say)

    def mask_settings(self, path: Path) -> dict[str, Any]:
        """A drawn mask, by its name."""
        return drawn_mask(path.name)

    def preview(self, config: TrainConfig) -> list[Panel]:
        """Some training patches with their labels, made as training makes them, and one of its frames."""
        from lib.tasks.bragg import training_views

        return training_views.preview_panels(self._candidates(config), self.say)

    def training_data(self, config: TrainConfig) -> TrainingData:
        """Candidates of simulated or labelled frames."""
        return self._candidates(config)

    def _candidates(self, config: TrainConfig) -> Candidates:
        from lib.tasks.bragg import data, simulate

        assert isinstance(config, Training)
        return data.labelled_by_hand(config) if config.labels else data.simulated(config, simulate.draw_frame)

    def network(self, config: TrainConfig) -> torch.nn.Module:
        """The family's network."""
        from lib.tasks.bragg.networks import build

        assert isinstance(config, Training)
        return build(config.model, config.width, config.dropout)

    def tensors(self, samples: Samples) -> Arrays:
        """`patch` (n, 2, 15, 15) and `context` (n, 2)."""
        return {key: np.asarray(samples.inputs[key], np.float32) for key in ("patch", "context")}

    def targets(self, samples: Samples) -> Arrays:
        """`is_peak`, 1 for a peak and 0 for none; `counts`, 0 for spots that are only told to be missed."""
        proposed = samples.table["proposed"] if "proposed" in samples.table else pd.Series(True, samples.table.index)
        return {"is_peak": samples.table["is_peak"].to_numpy(np.float32), "counts": proposed.to_numpy(np.float32)}

    def loss(self, output: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy of peak and no peak."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        counts = targets["counts"]
        total = binary_cross_entropy_with_logits(output, targets["is_peak"], weight=counts, reduction="sum")
        return total / counts.sum().clamp(min=1)

    def fit_uncertainty(self, network: torch.nn.Module, outputs: torch.Tensor, targets: dict[str, torch.Tensor]) -> None:
        """Make the score a probability on validation candidates."""
        from lib.tasks.bragg.networks import Judge

        assert isinstance(network, Judge)
        counted = targets["counts"] > 0
        network.calibrate(outputs[counted], targets["is_peak"][counted])

    def certify(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> dict[str, Any]:
        """The score from which a candidate is a peak, and how many expected peaks make a hit."""
        from lib.tasks.bragg import hits

        return hits.certify(predicted, truth, samples, self.facts["threshold_by"], self.facts["false_peaks_per_mpx"])

    def trial_inputs(self, n: int, rng: np.random.Generator) -> Arrays:
        """Patches of noise, some with a spot."""
        patch = np.arcsinh(rng.normal(size=(n, 2, 15, 15))).astype(np.float32)
        patch[::2, 0, 6:9, 6:9] += 2
        patch[:, 1] = 1
        return {"patch": patch, "context": rng.uniform(1, 4, (n, 2)).astype(np.float32)}

    def parts(self, samples: Samples) -> Samples:
        """The candidates of all frames; a frame that cannot be read has one row that says why."""
        from lib.tasks.bragg import hits

        return hits.parts(samples, self.tell)

    def whole(self, judged: pd.DataFrame, samples: Samples) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Number of peaks and hit of each frame, and the peaks."""
        from lib.tasks.bragg import hits

        return hits.whole(judged, samples, self.facts, self.say)

    def write_prediction(self, table: pd.DataFrame, judged: pd.DataFrame, samples: Samples, folder: Path) -> list[Path]:
        """peaks.csv, a CXI peak list, the list of hits, the summary of the run."""
        from lib.tasks.bragg import hits

        return hits.write_prediction(table, judged, samples, folder)

    def decode(self, outputs: Arrays, samples: Samples) -> pd.DataFrame:
        """Candidates with their score, and which of them are peaks."""
        from lib.tasks.bragg import score

        return score.decode(outputs["score"], samples.table, self.facts)

    def truth(self, samples: Samples) -> pd.DataFrame:
        """The labels as a prediction."""
        from lib.tasks.bragg import score

        return score.truth(samples.table)

    def score(self, predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
        """F1, precision, recall, average precision, calibration error."""
        from lib.tasks.bragg import score

        return score.score(predicted, truth)

    def independent(self, samples: pd.DataFrame) -> pd.Series | None:
        """The frame: its candidates share crystal, background and luck."""
        return samples["file"].astype(str) + " " + samples["frame"].astype(str)

    def baselines(self, samples: Samples) -> pd.DataFrame:
        """Nothing beside the model: the classical finders have a table of their own."""
        return pd.DataFrame(index=range(len(samples)))

    def prediction_columns(self) -> tuple[str, ...]:
        """Columns of predictions.csv."""
        return ("file", "frame", "n_peaks", "is_hit", "in_domain", "note")

    def prediction_panels(self, table: pd.DataFrame, samples: Samples, judged: pd.DataFrame) -> list[Panel]:
        """Frames with their peaks, hits over the run, virtual powder, resolution."""
        from lib.tasks.bragg import predict_views

        return predict_views.prediction_panels(table, samples, judged, self.say)

    def sheet_panels(self, predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[Panel]:
        """Precision and recall, positions, calibration, causes of false peaks, hits."""
        from lib.tasks.bragg import sheet_views

        return sheet_views.sheet_panels(predicted, truth, samples, self.facts, self.say)

    def example(self) -> list[Path]:
        """A short simulated run that ships."""
        return sorted(EXAMPLES.glob("*.cxi"))


TASK = Bragg()
