"""What may vary in a sweep: ranges and lists of values, checked against the fields of a Config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.fields import FieldInfo

from lib.task import Config, InputError, Phrase, TrainConfig

MOST_WHOLE = 1000  # whole numbers of a range that a grid goes through


class Range(BaseModel):
    """All numbers from `low` to `high`, both included; `log` draws their logarithm evenly."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: int | float
    high: int | float
    log: bool = False

    def points(self) -> list[int] | None:
        """All whole numbers of it; None where it is not of whole numbers, or of too many."""
        if not isinstance(self.low, int) or not isinstance(self.high, int) or self.high - self.low >= MOST_WHOLE:
            return None
        return list(range(self.low, self.high + 1))

    def holds(self, value: Any) -> bool:
        """Whether a value is within."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class Values(BaseModel):
    """A few values; None is an empty field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: tuple[bool | int | float | str | None, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value is among them."""
        return value in self.values


def typed(texts: Mapping[str, str]) -> dict[str, Range | Values]:
    """`LOW:HIGH`, `LOW:HIGH:log` or `A,B,C` for each setting, as typed. Raises InputError.

    Values that hold commas themselves are separated by semicolons.
    """
    return {key: _typed(key, text) for key, text in texts.items()}


def _typed(key: str, text: str) -> Range | Values:
    low, colon, rest = text.partition(":")
    high, _, scale = rest.partition(":")
    if colon and (ends := _numbers(low, high)) is not None:
        if scale not in ("", "log"):
            problem = Phrase("{given!r} ends in {scale!r}", given=text, scale=scale)
            raise InputError(key, problem, Phrase("Write {key}=LOW:HIGH or {key}=LOW:HIGH:log.", key=key))
        return Range(low=ends[0], high=ends[1], log=scale == "log")
    return Values(values=tuple(part.strip() for part in text.split(";" if ";" in text else ",") if part.strip()))


def _numbers(*texts: str) -> list[int | float] | None:
    try:
        return [int(text) if text.strip().lstrip("+-").isdigit() else float(text) for text in texts]
    except ValueError:
        return None


def checked(config_cls: type[TrainConfig], key: str, one: Range | Values) -> Range | Values:
    """The same as the field takes it: texts become numbers or switches. Raises InputError naming key, value and bounds."""
    if key not in config_cls.model_fields:
        keys = ", ".join(config_cls.model_fields)
        raise InputError(key, "there is no such setting", Phrase("Valid keys: {keys}.", keys=keys))
    field = config_cls.model_fields[key]
    if isinstance(one, Values):
        values = tuple(dict.fromkeys(_value(key, field, value) for value in one.values))
        if not values:
            raise InputError(key, "it has no values to vary over", "Give at least one value.")
        return Values(values=values)
    if not _is_number(field):
        raise InputError(key, "it is not a number, so it has no range", Phrase("Give values: {key}=A,B,C.", key=key))
    low, high = _value(key, field, one.low), _value(key, field, one.high)
    if not low < high:
        problem = Phrase("its range goes from {low} to {high}", low=low, high=high)
        raise InputError(key, problem, "Give the lower end first.")
    if one.log and low <= 0:
        problem = Phrase("a logarithmic range cannot begin at {low}", low=low)
        raise InputError(key, problem, "Begin above 0, or leave out log.")
    return Range(low=low, high=high, log=one.log)


def _is_number(field: FieldInfo) -> bool:
    parts = get_args(field.annotation) or (field.annotation,)
    return any(part in (int, float) for part in parts)


def _value(key: str, field: FieldInfo, value: Any) -> Any:
    """One value as its field takes it, whatever the other settings are."""
    fields: Any = {key: (field.annotation, field)}
    alone = create_model("Alone", __base__=Config, **fields)
    taken = getattr(alone.parse({key: value}, Phrase("sweep")), key)
    return ",".join(map(str, taken)) if get_origin(field.annotation) is tuple else taken


def defaults_to(config: TrainConfig, vary: Mapping[str, Range | Values]) -> list[dict[str, Any]]:
    """The point of `vary` that has the settings of `config`, so that no sweep ends worse than it began; none where outside."""
    here = {key: getattr(config, key) for key in vary}
    here = {key: ",".join(map(str, value)) if isinstance(value, tuple) else value for key, value in here.items()}
    return [here] if all(one.holds(here[key]) for key, one in vary.items()) else []
