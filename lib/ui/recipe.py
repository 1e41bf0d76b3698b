"""The recipe of a cleaned set: rules, what is known of the instrument, every file by its hash, and what a hand changed.

With the recipe and the same raw files anybody gets the same set again, whatever the files are called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lib import __version__
from lib.task import InputError, Task

FORMAT, VERSION = "lightbench-recipe", 1
MAX_BYTES = 64 * 2**20
Hand = dict[int, bool]  # row: kept (True) or dropped (False), against what the rules say


@dataclass(frozen=True)
class Applied:
    """A recipe on the samples at hand: what the hand changed, which rows it keeps, and what does not match."""

    hand: Hand
    kept: dict[int, bool]
    missing: list[str]  # files of the recipe that are not here
    unknown: int  # samples here that the recipe does not know


def kept(flags: pd.DataFrame, hand: Mapping[int, bool]) -> pd.Series:
    """Whether each sample is kept: no rule removes it, unless a hand said otherwise."""
    result = ~flags.any(axis=1)
    for row, keep in hand.items():
        result.iloc[row] = keep
    return result


def reasons(flags: pd.DataFrame, hand: Mapping[int, bool]) -> list[str]:
    """Why each sample stands where it stands: the rules it breaks, and `by hand`."""
    columns = [str(column) for column in flags.columns]
    broken = [", ".join(c for c, hit in zip(columns, row) if hit) for row in flags.to_numpy(bool)]
    words = {True: "kept by hand", False: "dropped by hand"}
    return ["; ".join(filter(None, [words[hand[row]] if row in hand else "", text])) for row, text in enumerate(broken)]


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def build(
    task: Task,
    rules: Mapping[str, Any],
    acquisition: Mapping[str, Any],
    files: Sequence[str],
    digests: Mapping[str, str],
    flags: pd.DataFrame,
    hand: Hand,
) -> str:
    """The recipe as JSON text. `files` names the file of each sample; samples of one file are numbered in its order."""
    keep, why, parts = kept(flags, hand), reasons(flags, hand), part_numbers(files)
    samples = [
        {"file": files[row], "sha256": digests[files[row]], "part": parts[row], "kept": bool(keep.iloc[row]), "reason": why[row],
         "by_hand": hand.get(row)}
        for row in range(len(files))
    ]  # fmt: skip
    recipe = {
        "format": FORMAT, "version": VERSION, "lightbench": __version__, "task": task.name, "rules": dict(rules),
        "acquisition": dict(acquisition), "samples": samples,
    }  # fmt: skip
    return json.dumps(recipe, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def part_numbers(files: Sequence[str]) -> list[int]:
    """The number of each sample within its file."""
    seen: dict[str, int] = {}
    numbers = []
    for file in files:
        numbers.append(seen.get(file, 0))
        seen[file] = numbers[-1] + 1
    return numbers


def parse(task: Task, content: bytes, name: str) -> dict[str, Any]:
    """A recipe file checked against the task. Raises InputError for anything that is not one."""
    remedy = "Upload the recipe.json that the Clean page exported."
    if len(content) > MAX_BYTES:
        raise InputError(name, f"it is larger than {MAX_BYTES // 2**20} MB, so it is no recipe", remedy)
    try:
        recipe = json.loads(content)
        if recipe["format"] != FORMAT:
            raise KeyError("format")
        for sample in recipe["samples"]:
            str(sample["file"]), str(sample["sha256"]), int(sample["part"]), bool(sample["kept"]), sample["by_hand"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(name, "it is not a recipe of the Clean page", remedy) from error
    if recipe["version"] != VERSION:
        problem = f"its version is {recipe['version']!r}; this Lightbench reads {VERSION}"
        raise InputError(name, problem, "Use a newer Lightbench.")
    if recipe["task"] != task.name:
        raise InputError(name, f"it belongs to the task {recipe['task']!r}", "Open it on that task's Clean page.")
    recipe["rules"] = task.Rules.parse(recipe.get("rules") or {}, f"rules in {name}").model_dump()
    known = task.Acquisition.parse(recipe.get("acquisition") or {}, f"instrument settings in {name}")
    recipe["acquisition"] = known.model_dump()
    return dict(recipe)


def apply(recipe: Mapping[str, Any], files: Sequence[str], digests: Mapping[str, str]) -> Applied:
    """Match the recipe's samples to those at hand by hash and number, not by name."""
    here: dict[tuple[str, int], list[int]] = {}
    for row, (file, part) in enumerate(zip(files, part_numbers(files))):
        here.setdefault((digests[file], part), []).append(row)
    hand: Hand = {}
    keep: dict[int, bool] = {}
    missing = []
    for sample in recipe["samples"]:
        rows = here.get((sample["sha256"], sample["part"]), [])
        if not rows:
            missing.append(str(sample["file"]))
            continue
        number = rows.pop(0) if len(rows) > 1 else rows[0]  # copies of one file: each sample of the recipe takes the next
        keep[number] = bool(sample["kept"])
        if sample["by_hand"] is not None:
            hand[number] = bool(sample["by_hand"])
    return Applied(hand, keep, list(dict.fromkeys(missing)), len(files) - len(keep))
