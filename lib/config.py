"""Settings: one schema for a form, the options of a command line, config.json and the errors of wrong values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from lib.words import Phrase, as_phrase

Group = Literal["data", "model", "optimiser", "compute", "visible", "hidden", "camera"]


class InputError(ValueError):
    """Bad input that its owner can mend: what it is about, what is wrong, what to do.

    The text is shown to users as it stands, so it is a full sentence and never a traceback. A text with values is a `Phrase`,
    which can be said in another language.
    """

    def __init__(self, subject: str, problem: str, remedy: str) -> None:
        self.subject, self.problem, self.remedy = subject, problem, remedy
        super().__init__(f"{subject}: {problem}. {remedy}")

    def spoken(self, tell: Callable[[str], str]) -> InputError:
        """The same with each part as `tell` says it."""
        return InputError(tell(self.subject), tell(self.problem), tell(self.remedy))

    def sentence(self) -> Phrase:
        """All of it as one text that can be said in another language."""
        return Phrase("{subject}: {told}", subject=as_phrase(self.subject), told=self.clause())

    def clause(self) -> Phrase:
        """Problem and remedy, for a list that names the subject already."""
        return Phrase("{problem}. {remedy}", problem=as_phrase(self.problem), remedy=as_phrase(self.remedy))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.subject, self.problem, self.remedy)


def first_bytes(path: Path, name: str, size: int, what: str) -> bytes:
    """Up to `size` bytes from the file's start, which say what it is, whatever its name ends in.

    Raises InputError where it cannot be opened or is empty; `name` is shown for it and `what` it should hold, as in "clip".
    """
    try:
        with path.open("rb") as file:
            start = file.read(size)
    except OSError as error:
        problem = Phrase("cannot be opened ({why})", why=error.strerror or str(error))
        raise InputError(name, problem, "Check the path and the permissions") from error
    if not start:
        raise InputError(name, "is empty (0 bytes)", Phrase("Copy or export the {what} again", what=what))
    return start


def option(
    default: Any, help_: str, *, unit: str = "", group: str = "", log: bool = False, empty: str = "", path: bool = False,
    **bounds: Any,
) -> Any:  # fmt: skip
    """A field of a Config: default, one-sentence help, unit, the form group it stands in, and pydantic bounds.

    `log=True` asks the form for a logarithmic slider; `empty` says what a number that is left out stands for, where it is not
    estimated then; `path=True` is a text that names a file or folder. `bounds` are pydantic's `ge`, `gt`, `le`, `lt`.
    """
    extra: dict[str, Any] = {"unit": unit, "group": group, "log": log}
    extra |= {name: value for name, value in (("empty", empty), ("path", path)) if value}
    return Field(default, description=help_, json_schema_extra=extra, **bounds)


class Config(BaseModel):
    """Frozen, unknown keys forbidden: the schema of a form, of CLI options, of config.json and of error messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], subject: str = "settings") -> Self:
        """Build from typed values or from the strings of a command line.

        Raises InputError naming every wrong key with the valid ones, and every wrong value with its bounds.
        """
        unknown = [key for key in values if key not in cls.model_fields]
        if unknown:
            raise InputError(
                subject,
                Phrase("unknown key {keys}", keys=", ".join(map(repr, unknown))),
                Phrase("Valid keys: {keys}.", keys=", ".join(cls.model_fields) or "none"),
            )
        try:
            return cls.model_validate({key: _plain(value, cls.model_fields[key]) for key, value in values.items()})
        except ValidationError as error:
            wrong = [_explain(e) for e in error.errors()]
            parts = {f"wrong_{place}": one for place, one in enumerate(wrong)}
            problem = Phrase("; ".join(f"{{{name}}}" for name in parts), **parts)
            raise InputError(subject, problem, "Mend the value and try again.") from error


def _plain(value: Any, field: FieldInfo) -> Any:
    """A typed value as it is; of text, nothing for a field that may be empty, and the parts of a comma-separated list."""
    if not isinstance(value, str):
        return value
    if value in ("", "none", "None") and _optional(field):
        return None
    if get_origin(field.annotation) is tuple:
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def typed(value: Any) -> str:
    """A value as `Config.parse` takes it from a command line."""
    return "" if value is None else ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _optional(field: FieldInfo) -> bool:
    """Whether a field may be left empty, which is not the same as an empty text."""
    return type(None) in get_args(field.annotation)


def _explain(error: Any) -> Phrase:
    """One pydantic error as `key = value: what was expected`."""
    key = ".".join(str(part) for part in error["loc"])
    told = _expected(error)
    return Phrase("{key} = {value!r}: {told}", key=key, value=error["input"], told=told) if key else as_phrase(told)


def _expected(error: Any) -> Phrase:
    """What pydantic or a validator says, with its bounds kept apart from the words."""
    told, context = str(error["msg"]), error.get("ctx", {})
    if isinstance(context.get("error"), ValueError) and context["error"].args:
        return as_phrase(context["error"].args[0])
    shown = {name: f"{value:.15g}" if isinstance(value, float) else str(value) for name, value in context.items()}
    for name, value in shown.items():  # the words as a template, as far as the bounds stand in them as they are
        told = re.sub(rf"(?<![\w.]){re.escape(value)}(?![\w.])", f"{{{name}}}", told, count=1)
    return Phrase(told, **{name: _either(value) for name, value in shown.items() if f"{{{name}}}" in told})


def _either(values: str) -> str:
    """'a', 'b' or 'c', whose last comma is a word."""
    others, or_, last = values.rpartition(" or ")
    return Phrase("{others} or {last}", others=others, last=last) if or_ else values


class TrainConfig(Config):
    """What every training has; a task's Training adds its data and model fields."""

    model: str = option("", "Model family", group="model")
    start_from: str = option("", "Run id whose weights to start from; empty starts fresh", group="model")
    epochs: int = option(30, "Passes over the training data", unit="epochs", group="optimiser", ge=1, le=10_000)
    batch_size: int = option(64, "Samples per optimiser step", unit="samples", group="optimiser", ge=1, le=4096)
    learning_rate: float = option(1e-3, "Peak step size of AdamW", group="optimiser", log=True, gt=0, le=1)
    weight_decay: float = option(1e-4, "AdamW weight decay", group="optimiser", log=True, ge=0, le=1)
    find_learning_rate: bool = option(False, "Try rates first and take the one where the loss falls fastest", group="optimiser")
    schedule: Literal["cosine", "plateau", "step", "constant"] = option(
        "cosine", "The rate: cosine to zero, half on a validation plateau, a tenth after each third, constant", group="optimiser"
    )
    patience_epochs: int = option(
        0,
        "Stop after this many epochs without a better validation value; 0 never stops early",
        unit="epochs",
        group="optimiser",
        ge=0,
    )
    seed: int = option(0, "Seed of data, initial weights and order", group="compute", ge=0, le=2**31 - 1)
    accelerator: Literal["auto", "cpu", "gpu"] = option("auto", "Where to compute", group="compute")
    devices: int = option(1, "GPUs, or CPU processes, per node", group="compute", ge=1, le=64)
    num_nodes: int = option(1, "Cluster nodes", group="compute", ge=1, le=256)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = option(
        "32-true", "Number format; mixed needs a GPU", group="compute"
    )
    threads: int = option(0, "CPU threads; 0 uses all cores", group="compute", ge=0, le=256)
    loader_workers: int = option(0, "Extra processes that prepare batches", group="compute", ge=0, le=64)

    def effort(self, epoch: int) -> float:
        """How long an epoch takes, relative to one that makes its samples; for estimates of time."""
        return 1.0
