"""Settings of cleaning frames and of training the learned finder."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from lib.task import Config, Phrase, TrainConfig, option


class Rules(Config):
    """Thresholds of the Clean page. A frame that breaks one is flagged."""

    min_mean: float | None = option(
        None, "Lowest mean of the good pixels: below it the beam was off", unit="ADU", group="data", empty="no limit",
        ge=-1e9,
    )  # fmt: skip
    max_mean: float | None = option(None, "Highest mean of the good pixels", unit="ADU", group="data", empty="no limit", ge=-1e9)
    max_saturated_percent: float = option(
        1.0, "Most good pixels at the detector's largest value", unit="%", group="data", ge=0, le=100
    )
    max_masked_percent: float = option(90.0, "Most pixels that are masked", unit="%", group="data", ge=0, le=100)
    min_candidates: int = option(
        0, "Fewest places that stand out of the noise; blank frames have few", unit="candidates", group="data", ge=0, le=100_000
    )
    drop_unreadable: bool = option(True, "Remove frames that cannot be read", group="data")


class Training(TrainConfig):
    """Training of the learned finder: on simulated frames, on frames of yours that were labelled, or on one after the other."""

    model: Literal["PatchNet", "U-Net", "CCN"] = option("PatchNet", "Network that judges the candidates", group="model")
    width: int = option(32, "Channels of the first layer", group="model", ge=4, le=128)
    dropout: float = option(0.1, "Share of dense inputs left out while training", group="model", ge=0, le=0.9)
    labels: str = option("", "Set of labels made on the Clean page to train on; empty simulates frames", group="data", path=True)
    data: str = option("", "Folder or file with the labelled frames, under data/bragg or anywhere", group="data", path=True)
    mask: str = option(
        "", "Mask drawn on the Clean page, beside that of the labelled frames' file; empty takes the one they were labelled with",
        group="data", path=True,
    )  # fmt: skip
    frames_per_epoch: int = option(400, "Training frames in one epoch", unit="frames", group="data", ge=1, le=1_000_000)
    passes: int = option(
        10, "Epochs before new frames are simulated; candidates are turned in each", unit="epochs", group="data", ge=1, le=10_000
    )
    validation_frames: int = option(100, "Frames that choose the best epoch", unit="frames", group="data", ge=2, le=100_000)
    calibration_frames: int = option(100, "Frames that choose the threshold", unit="frames", group="data", ge=2, le=100_000)
    test_frames: int = option(200, "Frames that the sheet is made of", unit="frames", group="data", ge=2, le=100_000)
    frame_px: int = option(512, "Height and width of a simulated frame", unit="px", group="data", ge=64, le=4096)
    candidates_per_frame: int = option(
        150, "Most peaks of a training frame, and most candidates that are none", unit="candidates", group="data", ge=1, le=4096
    )
    hard_negative_fraction: float = option(
        0.5, "Of the candidates that are no peaks, the share that are the strongest of their frame; the others come by chance: "
        "more teaches what in your backgrounds looks most like a peak", group="data", ge=0, le=1,
    )  # fmt: skip
    threshold_by: Literal["F1", "false peaks"] = option(
        "F1", "What chooses the score from which a candidate is a peak", group="data"
    )
    false_peaks_per_mpx: float = option(
        1.0, "Most false peaks, where they choose the threshold", unit="peaks/Mpx", group="data", gt=0, le=1000
    )
    epochs: int = option(30, "Passes over the training data", unit="epochs", group="optimiser", ge=1, le=10_000)
    batch_size: int = option(8, "Frames per optimiser step", unit="frames", group="optimiser", ge=1, le=4096)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.labels and not self.data:
            raise ValueError(Phrase("labels need data: the folder or file that their frames lie in"))
        if self.mask and not self.labels:
            raise ValueError(Phrase("mask needs labels: simulated frames come with masks of their own"))
        if self.batch_size > self.frames_per_epoch:
            told = "batch_size = {batch} is larger than frames_per_epoch = {frames}"
            raise ValueError(Phrase(told, batch=self.batch_size, frames=self.frames_per_epoch))
        return self

    def effort(self, epoch: int) -> float:
        """Epochs that simulate take some twenty times as long as those that look again."""
        return 1.0 if epoch % self.passes == 0 else 0.05


TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "PatchNet": {},
    "PatchNet, as shipped": {
        "frames_per_epoch": 2500, "passes": 100, "epochs": 14, "validation_frames": 200, "calibration_frames": 400,
        "test_frames": 150, "frame_px": 384, "batch_size": 6, "learning_rate": 2e-3,
    },
    "PatchNet, from the shipped one to your labels": {
        "start_from": "shipped-patchnet", "epochs": 10, "learning_rate": 3e-4,
    },
    "U-Net": {"model": "U-Net", "width": 12},
    "CCN, the original's": {
        "model": "CCN", "schedule": "constant", "learning_rate": 1e-3, "weight_decay": 0.0, "batch_size": 1,
    },
}  # fmt: skip
