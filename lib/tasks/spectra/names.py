"""The original project's file names of models, written and read: they say how a model was trained.

    ResNetV2 y=['OVA', 'OK'] c=('277', '380', '425') t=('da',) 0-20 s=42 eps=0.1.onnx

Checkpoints carry the validation figures as well: `…eps=0.1_val_loss=3.696E-01_val_f1=0.8394_val_acc=0.8394.ckpt`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.task import InputError, Phrase
from lib.tasks.spectra.settings import Training

ENDINGS = (".onnx", ".ckpt", ".scaler", ".csv", "")
LONGEST_BYTES = 255  # what a file system takes
EXAMPLE = "ResNetV2 y=['OVA', 'OK'] c=('277', '380', '425') t=('da',) 0-20 s=42 eps=0.1.onnx"

_FORBIDDEN = r"""[/\\<>:"|?*']"""
_WORDS = r"(?:'[^']*'(?:, '[^']*')*,?)?"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_FORM = re.compile(
    rf"(?P<model>.+?) y=\[(?P<y>{_WORDS})\] c=\((?P<c>{_WORDS})\) t=(?:\((?P<t>{_WORDS})\)|None)"
    rf" (?P<current>[0-9]+)-(?P<splits>[0-9]+) s=(?P<seed>[0-9]+|None) eps=(?P<eps>{_NUMBER})"
    rf"(?:_val_loss=(?P<loss>{_NUMBER}E[+-][0-9]+)_val_f1=(?P<f1>{_NUMBER})_val_acc=(?P<accuracy>{_NUMBER}))?"
    r"(?P<ending>\.onnx|\.ckpt|\.scaler|\.csv|)"
)


@dataclass(frozen=True)
class Validation:
    """Figures of the best epoch on validation rows: loss (nats), macro-F1 and accuracy (0 to 1)."""

    loss: float
    f1: float
    accuracy: float


@dataclass(frozen=True)
class ModelName:
    """What a file name tells of a model.

    `kind` and `of` are the target (OVA, OK); `channels` in order; `transforms` None where there were none; fold
    `current_split` of `n_splits`, counted from 0; `seed` None where it was not fixed; `smoothing` the label smoothing, 0 to 1.
    Raises InputError where a field cannot stand in a file name or is out of its range.
    """

    model: str
    kind: str
    of: str
    channels: tuple[str, ...]
    transforms: tuple[str, ...] | None
    current_split: int
    n_splits: int
    seed: int | None
    smoothing: float
    validation: Validation | None = None

    def __post_init__(self) -> None:
        for word in (self.model, self.kind, self.of, *self.channels, *(self.transforms or ())):
            _refuse(not word or not word.isprintable() or re.search(_FORBIDDEN, word), repr(word), "cannot be in a name")
        _refuse(self.model != self.model.strip() or " y=[" in self.model, repr(self.model), "cannot be a model's name")
        _refuse(not self.channels or len(set(self.channels)) < len(self.channels), "channels", "need one or more, each once")
        _refuse(not 0 <= self.current_split < self.n_splits, f"fold {self.current_split}-{self.n_splits}", "is not one of them")
        _refuse(self.seed is not None and self.seed < 0, f"seed {self.seed}", "is below 0")
        _refuse(not 0 <= self.smoothing <= 1, f"eps {self.smoothing}", "is not between 0 and 1")
        if v := self.validation:
            fine = all(map(math.isfinite, (v.loss, v.f1, v.accuracy))) and v.loss >= 0 and 0 <= v.f1 <= 1 and 0 <= v.accuracy <= 1
            _refuse(not fine, "validation", "has a figure out of range")


def _refuse(wrong: object, what: str, problem: str) -> None:
    if wrong:
        raise InputError(Phrase("model name: {what}", what=what), problem, Phrase("The form is {example}.", example=EXAMPLE))


def write(name: ModelName, ending: str = ".onnx") -> str:
    """The file name. A smoothing of more than one decimal is written with all it needs, where the original rounds it.

    Raises InputError where the name would be longer than a file system takes, ValueError on an unknown ending.
    """
    if ending not in ENDINGS:
        raise ValueError(f"unknown ending {ending!r}")
    transforms = None if name.transforms is None else tuple(name.transforms)
    eps = np.format_float_positional(abs(name.smoothing), trim="0")  # abs: no "-0.0"
    figures = ""
    if v := name.validation:
        figures = f"_val_loss={v.loss:.3E}_val_f1={v.f1:.4f}_val_acc={v.accuracy:.4f}"
    text = (
        f"{name.model} y={[name.kind, name.of]} c={tuple(name.channels)} t={transforms} "
        f"{name.current_split}-{name.n_splits} s={name.seed} eps={eps}{figures}{ending}"
    )
    _refuse(len(text.encode()) > LONGEST_BYTES, f"{text[:40]}…", f"is longer than {LONGEST_BYTES} bytes")
    return text


def of_config(config: Training, facts: Mapping[str, Any]) -> ModelName:
    """The name of a run from its settings and the facts of its data, which tell the channels where the settings name none.

    A family without gradients uses neither augmentation nor smoothing, and its name says so. An AVA of a column has the column
    for its code. A character that cannot stand in a file name becomes "_". Raises InputError as ModelName.
    """
    gradients = not config.gradient_free
    transforms = tuple(config.augment.split("+")) if gradients and config.augment != "none" else None
    target = {"kind": config.kind, "of": config.of, "column": config.column} | facts.get("target", {})
    asked = target["column"] if target["kind"] == "AVA" and target["column"] else target["of"]
    return ModelName(
        model=config.model,
        kind=target["kind"],
        of=_fitting(asked),
        channels=tuple(_fitting(str(channel["name"])) for channel in facts["channels"]),
        transforms=transforms,
        current_split=config.current_split,
        n_splits=config.n_splits,
        seed=config.seed,
        smoothing=config.label_smoothing if gradients else 0.0,
    )


def _fitting(word: str) -> str:
    """The word with "_" for what a file name cannot hold."""
    return re.sub(_FORBIDDEN, "_", "".join(c if c.isprintable() else "_" for c in word)) or "_"


def parse(text: str) -> ModelName:
    """What a file name tells; the inverse of `write`, whatever the ending. Raises InputError where the form is another."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise InputError(
            Phrase("file name {name!r}", name=text[:120]),
            "it does not have the form of a model's name",
            Phrase("The form is {example}.", example=EXAMPLE),
        )
    target = _words(found["y"])
    _refuse(len(target) != 2, f"y={list(target)}", "needs two words, such as OVA and OK")
    figures = [found[key] for key in ("loss", "f1", "accuracy")]
    return ModelName(
        model=found["model"],
        kind=target[0],
        of=target[1],
        channels=_words(found["c"]),
        transforms=None if found["t"] is None else _words(found["t"]),
        current_split=int(found["current"]),
        n_splits=int(found["splits"]),
        seed=None if found["seed"] == "None" else int(found["seed"]),
        smoothing=float(found["eps"]),
        validation=None if figures[0] is None else Validation(*map(float, figures)),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"'([^']*)'", text))
