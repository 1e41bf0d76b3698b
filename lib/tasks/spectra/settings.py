"""Settings of cleaning and training spectra."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import field_validator, model_validator

from lib.task import Config, Phrase, TrainConfig, option

Family = Literal[
    "compact CNN", "VGG11", "VGG16", "ResNetV2", "best of", "PLS-DA", "shrinkage LDA", "linear SVM", "MiniRocket"
]  # fmt: skip
GRADIENT_FREE: tuple[Family, ...] = ("best of", "PLS-DA", "shrinkage LDA", "linear SVM", "MiniRocket")


class Rules(Config):
    """Thresholds of the Clean page, in the units of the table; a rule on what a table lacks removes nothing."""

    max_277: float = option(6500.0, "Highest reading of channel 277", unit="counts", group="data", log=True, ge=0, le=1e6)
    max_380: float = option(7000.0, "Highest reading of channel 380", unit="counts", group="data", log=True, ge=0, le=1e6)
    max_425: float = option(10_000.0, "Highest reading of channel 425", unit="counts", group="data", log=True, ge=0, le=1e6)
    min_integral_277: float = option(0.0, "Smallest integral of channel 277 over its axis", unit="counts·nm", group="data",
                                     log=True, ge=0, le=1e9)  # fmt: skip
    min_integral_380: float = option(0.0, "Smallest integral of channel 380 over its axis", unit="counts·nm", group="data",
                                     log=True, ge=0, le=1e9)  # fmt: skip
    min_integral_425: float = option(0.0, "Smallest integral of channel 425 over its axis", unit="counts·nm", group="data",
                                     log=True, ge=0, le=1e9)  # fmt: skip
    max_saturated_points: int = option(
        3, "Most points on a plateau at the top of a spectrum", unit="points", group="data", ge=0, le=10_000
    )
    max_negative_percent: float = option(20.0, "Most points below zero in one channel", unit="%", group="data", ge=0, le=100)
    max_missing_points: int = option(0, "Most missing points in all channels", unit="points", group="data", ge=0, le=100_000)
    min_transmittance_percent: float = option(0.0, "Lowest transmittance", unit="%", group="data", ge=0, le=100)
    max_transmittance_percent: float = option(100.0, "Highest transmittance", unit="%", group="data", ge=0, le=100)
    measured_from: str = option("", "First day kept, as 2024-03-01; empty keeps all", group="data")
    measured_to: str = option("", "Last day kept, as 2024-05-31; empty keeps all", group="data")
    drop_vr1: bool = option(False, "Remove samples of severity VR and type 1: VR1", group="data")
    drop_duplicates: bool = option(True, "Remove spectra that repeat an earlier row in every channel", group="data")
    inspector_only: bool = option(False, "Remove samples that no inspector tasted", group="data")


class Training(TrainConfig):
    """Training on a table of spectra: its own file, or a simulated population where none is named."""

    data: str = option(
        "", "Table to train on: a file, or the name of a set kept on the Clean page; empty simulates a population", group="data",
        path=True,
    )  # fmt: skip
    simulated_samples: int = option(
        20_000, "Samples of the simulated population, where no table is named", unit="samples", group="data", ge=200, le=1_000_000
    )
    kind: Literal["OVA", "AVA"] = option(
        "OVA", "The question: one class against the rest (OVA), or all classes (AVA)", group="data"
    )
    of: str = option("OK", "OVA: the class asked for; AVA: TY, TYs, IN, INs, INTY, INsTY, INTYs, INsTYs or OK+11+5", group="data")
    column: str = option("", "Column to learn instead of severity and type; AVA then has one class per value", group="data")
    channels: tuple[str, ...] = option((), "Channels, in this order; none named takes all of the table", group="data")
    tabular: tuple[str, ...] = option((), "Columns of numbers given to the model beside the spectra", group="data")
    rare: Literal["refuse", "drop", "merge"] = option(
        "drop", "What to do with classes too rare to be in every fold: refuse to train, drop them, or merge them into one",
        group="data",
    )  # fmt: skip
    group_by: Literal["specimen", "instrument", "date", "nothing"] = option(
        "specimen", "What must never be on both sides of a split", group="data"
    )
    transfer: Literal["none", "ds", "pds", "epo"] = option(
        "none",
        "Make spectra of other instruments fit those of one, learnt from specimens that both measured: direct (ds) or piecewise "
        "direct (pds) standardisation of each other one, or removal of what differs from all (epo)",
        group="data",
    )
    transfer_primary: str = option(
        "",
        "Transfer: the instrument that stays as it is, by its name in the table; empty takes the one with most samples",
        group="data",
    )
    transfer_to: tuple[str, ...] = option(
        (), "Transfer: instruments that are brought to it; none named brings all others, else those not named stay as they are",
        group="data",
    )  # fmt: skip
    transfer_shared: str = option(
        "",
        "Transfer: column whose equal values are the same specimen on two instruments; empty takes the specimens",
        group="data",
    )
    n_splits: int = option(5, "Folds; one of them is the test part", unit="folds", group="data", ge=2, le=50)
    current_split: int = option(0, "Which fold is the test part, counted from 0", group="data", ge=0, le=49)
    test_source: Literal["like-val", "is-val", "file"] = option(
        "like-val",
        "What is tested: a fold of its own (like-val), the rows that select the best epoch too, which flatters (is-val), or a "
        "table kept aside (file). Under is-val and file, the fold selects the best epoch",
        group="data",
    )
    test_data: str = option(
        "", "Table to test on under test_source = file: a file, or the name of a kept set", group="data", path=True
    )
    test_columns: tuple[str, ...] = option(
        (), "Columns of the test table under other names, as grade=quality: name in the training table, name in the test table",
        group="data",
    )  # fmt: skip
    validation_percent: float = option(15.0, "Share that selects the best epoch", unit="%", group="data", ge=2, le=40)
    calibration_percent: float = option(
        15.0, "Share on which error bars and cut-offs are certified", unit="%", group="data", ge=2, le=40
    )
    policy: Literal["precision", "recall", "cost"] = option(
        "precision",
        "What decides: so many of those accepted are right (precision), so many of each class accepted (recall), least cost",
        group="data",
    )  # fmt: skip
    precision_target_percent: float = option(92.5, "Precision that is promised", unit="%", group="data", ge=50, le=99.9)
    recall_target_percent: float = option(92.5, "Recall that is promised", unit="%", group="data", ge=50, le=99.9)
    risk_percent: float = option(10.0, "Chance that a promise does not hold", unit="%", group="data", ge=0.1, le=50)
    tastings_per_mistake: float = option(
        5.0, "What a wrong decision costs, where tasting costs 1", unit="tastings", group="data", gt=0, le=1e6
    )
    special_costs: tuple[str, ...] = option(
        (), "Wrong decisions that cost otherwise, as The rest>OK=20: truth, what was said, cost in tastings", group="data"
    )
    confidence_percent: float = option(
        90.0, "How often a prediction set holds the true class", unit="%", group="data", ge=50, le=99.9
    )
    model: Family = option("compact CNN", "Model family", group="model")
    preprocessing: Literal["range", "raw", "snv", "sg1", "sg1+snv"] = option(
        "range", "What is done to spectra first: each point to −1…1 (range), standard normal variate, first derivative",
        group="model",
    )  # fmt: skip
    width: int = option(32, "Channels of the first layers", unit="channels", group="model", ge=4, le=256)
    block_units: tuple[Annotated[int, Ge(1), Le(50)], ...] = option(
        (3, 4, 6, 3), "ResNetV2: units of each of its four blocks", group="model"
    )
    dropout: float = option(0.2, "Share of hidden units that are silent in each step", group="model", ge=0, le=0.9)
    augment: Literal["none", "da", "simulate", "da+simulate"] = option(
        "none",
        "Random change of training spectra: gain, shift, noise (da); zeros at the short end of half of them (simulate)",
        group="model",
    )
    da_gain: float = option(0.1, "da: standard deviation of each spectrum's gain about 1", group="model", ge=0, le=1)
    da_shift: float = option(1.5, "da: scale of each channel's Laplace shift", unit="points", group="model", ge=0, le=20)
    da_noise: float = option(0.05, "da: standard deviation of the relative noise of each point", group="model", ge=0, le=1)
    zero_points: tuple[Annotated[int, Ge(0), Le(100_000)], ...] = option(
        (45, 113, 158), "simulate: how many points are zero at the start of each channel, in their order", group="model"
    )
    scatter_shift: float = option(
        0.0, "Scatter: largest change of gain and of a parabola below each training spectrum, relative to its mean; 0 is off",
        group="model", ge=0, le=1,
    )  # fmt: skip
    baseline_shift: float = option(
        0.0, "Largest constant added to each training spectrum, relative to its mean; 0 is off", group="model", ge=0, le=1
    )
    gaussian_broadening: float = option(
        0.0, "Standard deviation of the widest Gaussian that blurs a training spectrum; 0 is off", unit="points", group="model",
        ge=0, le=20,
    )  # fmt: skip
    add_noise: float = option(
        0.0, "Standard deviation of noise added to each training point, relative to the spectrum's mean; 0 is off",
        group="model", ge=0, le=1,
    )  # fmt: skip
    label_smoothing: float = option(0.1, "Share of each label given to all classes alike", group="optimiser", ge=0, le=0.9)
    mixup_alpha: float = option(
        0.0, "Mixes pairs of samples with a Beta(α, α) weight; 0 never mixes", group="optimiser", ge=0, le=10
    )
    class_weights: Literal["none", "balanced", "square root"] = option(
        "none", "How much rare classes count: as they are, all alike, or halfway", group="optimiser"
    )
    batch_size: int = option(128, "Samples per optimiser step", unit="samples", group="optimiser", ge=1, le=4096)
    epochs: int = option(20, "Passes over the training data", unit="epochs", group="optimiser", ge=1, le=10_000)

    @property
    def gradient_free(self) -> bool:
        """Whether the family is fitted at once, without epochs."""
        return self.model in GRADIENT_FREE

    @property
    def beside(self) -> tuple[str, ...]:
        """The tabular columns that the family takes: a family without gradients looks at the spectra alone."""
        return () if self.gradient_free else self.tabular

    @field_validator("transfer_to", mode="before")
    @classmethod
    def _once_one_name(cls, value: Any) -> Any:
        """Runs made when there was one second instrument have its name, or an empty text."""
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fold(self) -> Self:
        if self.current_split >= self.n_splits:
            told = "current_split = {fold} does not exist; with n_splits = {folds} the last is {last}"
            raise ValueError(Phrase(told, fold=self.current_split, folds=self.n_splits, last=self.n_splits - 1))
        if (self.test_source == "file") != bool(self.test_data):
            raise ValueError(Phrase("test_data names the table of test_source = file: give both, or neither"))
        if wrong := [pair for pair in self.test_columns if not all(part.strip() for part in pair.partition("=")[::2])]:
            raise ValueError(Phrase("test_columns: {pair!r} is not of the form grade=quality", pair=wrong[0]))
        if self.validation_percent + self.calibration_percent > 60:
            told = "validation_percent and calibration_percent together must leave rows to train on: at most 60"
            raise ValueError(Phrase(told))
        return self


TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "compact CNN": {},
    "compact CNN, as shipped": {
        "simulated_samples": 60_000,
        "channels": ("277", "380", "425"),
        "epochs": 20,
        "label_smoothing": 0.0,
        "dropout": 0.3,
    },
    "VGG11": {"model": "VGG11", "learning_rate": 3e-4},
    "VGG16": {"model": "VGG16", "learning_rate": 3e-4},
    "ResNetV2": {"model": "ResNetV2"},
    "best of": {"model": "best of", "epochs": 1},
    "PLS-DA": {"model": "PLS-DA", "epochs": 1},
    "shrinkage LDA": {"model": "shrinkage LDA", "epochs": 1},
    "linear SVM": {"model": "linear SVM", "epochs": 1},
    "MiniRocket": {"model": "MiniRocket", "epochs": 1},
}
