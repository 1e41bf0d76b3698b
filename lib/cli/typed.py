"""What was typed, as objects; wrong usage is told before anything is done."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lib import runs, tasks
from lib.runs import Run
from lib.task import Config, InputError, Task

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """What was typed cannot be done; nothing was."""


@contextmanager
def usage() -> Iterator[None]:
    """Bad input in this block is wrong usage: exit status 2."""
    try:
        yield
    except InputError as error:
        raise UsageError(str(error)) from error


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def seed_number(text: str) -> int:
    """A whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a seed cannot be negative")
    return value


def settings(config: type[Config], pairs: Sequence[str], preset: str | None, presets: Mapping[str, Mapping[str, Any]]) -> Config:
    """The Config of a preset and KEY=VALUE pairs. Raises UsageError listing what is valid."""
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in presets:
            raise UsageError(f"preset {preset!r}: there is no such preset. Presets: {', '.join(map(repr, presets)) or 'none'}.")
        values |= presets[preset]
    values |= changes(pairs, f"; valid keys: {', '.join(config.model_fields)}")
    with usage():
        return config.parse(values)


def changes(pairs: Sequence[str], hint: str = "", option: str = "--set") -> dict[str, str]:
    """KEY=VALUE pairs as typed. Raises UsageError on one without =, followed by the hint."""
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"{option} {pair}: it has no =. Write KEY=VALUE{hint}.")
    return {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)}


def task_of(name: str) -> Task:
    """The task of that name. Raises UsageError."""
    with usage():
        return tasks.get(name)


def find(text: str, task: str | None = None) -> Run:
    """The run that the text names. Raises UsageError."""
    with usage():
        return runs.find(text, task)
