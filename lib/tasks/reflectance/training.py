"""Settings of training: which images, which network, and what it learns."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import model_validator

from lib.task import TrainConfig, option
from lib.tasks.reflectance.config import CHANNELS

Family = Literal[
    "PolarNet", "original", "original + Fourier", "compact original", "compact original + Fourier", "ExtraTrees", "ridge"
]  # fmt: skip
GRADIENT_FREE: tuple[Family, ...] = ("ExtraTrees", "ridge")
Weight = Annotated[float, Ge(0), Le(1000)]


class Training(TrainConfig):
    """Training on images with measured channels, or on rendered images of known geometry."""

    stage: Literal["channels", "geometry"] = option(
        "channels",
        "What is learnt: the ten channels of labelled images, or first the visible geometry of rendered ones, which costs no "
        "optics; a run of channels then starts from it",
        group="data",
    )
    data: str = option(
        "", "Set to learn from: a CSV file, or the name of a set kept on the Clean page; empty takes the simulated demo set",
        group="data", path=True,
    )  # fmt: skip
    specimens: int = option(
        100_000,
        "At most so many specimens are used, spread evenly over the set",
        unit="specimens",
        group="data",
        ge=16,
        le=100_000,
    )
    rendered_images: int = option(
        12_000, "Stage geometry: images that are rendered, each of a scale of its own", unit="images", group="data",
        ge=16, le=1_000_000,
    )  # fmt: skip
    split_by: Literal["specimen", "kind", "nothing"] = option(
        "specimen", "What must never be on both sides of a split; nothing shows how much twins flatter", group="data"
    )
    n_splits: int = option(5, "Folds; one of them is the test part", unit="folds", group="data", ge=2, le=50)
    current_split: int = option(0, "Which fold is the test part, counted from 0", group="data", ge=0, le=49)
    validation_percent: float = option(15.0, "Share that selects the best epoch", unit="%", group="data", ge=2, le=40)
    calibration_percent: float = option(
        10.0, "Share on which the width of the intervals is certified", unit="%", group="data", ge=2, le=40
    )
    rotation_deg: float = option(
        180.0, "Training images are turned by up to this angle either way", unit="°", group="data", ge=0, le=180
    )
    flip: bool = option(True, "Mirror half of the training images", group="data")
    zoom_percent: float = option(
        8.0,
        "Training images are enlarged or shrunk by up to this; their nm per pixel follows",
        unit="%",
        group="data",
        ge=0,
        le=50,
    )
    noise: float = option(
        0.03, "Largest standard deviation of noise added to training images, relative to white", group="data", ge=0, le=1
    )
    contrast_percent: float = option(
        15.0, "Contrast of training images changes by up to this; brightness by half as much", unit="%", group="data", ge=0, le=90
    )
    model: Family = option(
        "PolarNet", "Model family: ours, the original project's at full size or compact, or a method on Fourier features",
        group="model",
    )  # fmt: skip
    norm: Literal["group", "batch", "instance"] = option("group", "Normalisation in the original families", group="model")
    width: int = option(32, "Channels of the first layers of PolarNet and of the compact originals", unit="channels",
                        group="model", ge=8, le=256)  # fmt: skip
    members: int = option(
        1, "Networks that are averaged; those of PolarNet share all but their last layers", unit="networks", group="model",
        ge=1, le=64,
    )  # fmt: skip
    frozen: Literal["nothing", "first layers", "all but the head"] = option(
        "nothing", "Layers that keep the weights they started from", group="model"
    )
    dropout: float = option(0.1, "Share of dense inputs left out while training", group="model", ge=0, le=0.9)
    geometry_weight: float = option(
        0.3,
        "Stage channels: how much the geometry counts beside the channels, where it is known",
        group="optimiser",
        ge=0,
        le=100,
    )
    loss_weights: tuple[Weight, ...] = option(
        (3.0, 4.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0), f"Weight of the squared error of {', '.join(CHANNELS)}",
        group="optimiser",
    )  # fmt: skip
    epochs: int = option(40, "Passes over the training data", unit="epochs", group="optimiser", ge=1, le=10_000)
    batch_size: int = option(32, "Images per optimiser step", unit="images", group="optimiser", ge=1, le=4096)

    @property
    def gradient_free(self) -> bool:
        """Whether the family is fitted at once, without epochs."""
        return self.model in GRADIENT_FREE

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.current_split >= self.n_splits:
            raise ValueError(f"current_split = {self.current_split} does not exist; with n_splits = {self.n_splits} the last is "
                             f"{self.n_splits - 1}")  # fmt: skip
        if len(self.loss_weights) != len(CHANNELS) or not any(self.loss_weights):
            raise ValueError(f"loss_weights needs {len(CHANNELS)} numbers, not all 0, one for each of {', '.join(CHANNELS)}")
        if self.stage == "geometry" and (self.gradient_free or self.data):
            raise ValueError("stage = geometry renders its own images and trains a network: leave data empty, choose a network")
        if self.frozen != "nothing" and not self.start_from:
            raise ValueError("frozen layers keep the weights of another run: name it in start_from")
        if self.validation_percent + self.calibration_percent > 60:
            raise ValueError("validation_percent and calibration_percent together must leave images to train on: at most 60")
        return self


TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "PolarNet": {"members": 8, "epochs": 40},
    "PolarNet from geometry": {
        "members": 8,
        "epochs": 8,
        "learning_rate": 3e-3,
        "frozen": "all but the head",
        "start_from": "shipped-geometry",
    },
    "PolarNet, geometry first": {
        "stage": "geometry",
        "members": 8,
        "epochs": 24,
        "rendered_images": 16_000,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "zoom_percent": 0.0,
        "n_splits": 20,
        "validation_percent": 5.0,
        "calibration_percent": 2.0,
    },
    "PolarNet for a lab's few images": {
        "members": 8,
        "epochs": 20,
        "learning_rate": 1e-3,
        "frozen": "all but the head",
        "start_from": "shipped-polarnet",
    },
    "compact original": {"model": "compact original", "epochs": 40},
    "compact original + Fourier": {"model": "compact original + Fourier", "epochs": 40},
    "original": {"model": "original", "epochs": 200, "learning_rate": 1e-4},
    "original + Fourier": {"model": "original + Fourier", "epochs": 200, "learning_rate": 1e-4},
    "ExtraTrees": {"model": "ExtraTrees", "epochs": 1},
    "ridge": {"model": "ridge", "epochs": 1},
}
