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

import numpy as np
import pandas as pd

from lib import __version__
from lib.task import InputError, Phrase, Task

FORMAT, VERSION = "lightbench-recipe", 2
MAX_BYTES = 64 * 2**20
MEASURED = "measured"  # column of the readings of a long run, of which only some samples were looked at so far
Hand = dict[int, bool]  # row: kept (True) or dropped (False), against what the rules say


@dataclass(frozen=True)
class Applied:
    """A recipe on the samples at hand: what the hand changed, which rows it keeps, and what does not match."""

    hand: Hand
    kept: dict[int, bool]
    missing: list[str]  # files of the recipe that are not here
    unknown: int  # samples here that the recipe does not know


def unmeasured(readings: pd.DataFrame) -> np.ndarray:
    """Bool (n,): samples of a long run that nobody has waited for: they have no readings yet."""
    return ~readings[MEASURED].to_numpy(bool) if MEASURED in readings else np.zeros(len(readings), bool)


def kept(flags: pd.DataFrame, hand: Mapping[int, bool]) -> pd.Series:
    """Whether each sample is kept: no rule removes it, unless a hand said otherwise."""
    result = ~flags.any(axis=1)
    for row, keep in hand.items():
        result.iloc[row] = keep
    return result


def reasons(flags: pd.DataFrame, hand: Mapping[int, bool]) -> list[str]:
    """Why each sample stands where it stands: the rules it breaks, and `by hand`."""
    columns = [str(column) for column in flags.columns]
    broken = flags.to_numpy(bool)
    found = [""] * len(flags)
    for row in np.flatnonzero(broken.any(axis=1)).tolist() if columns else ():  # most of a large table breaks no rule
        found[row] = ", ".join(c for c, hit in zip(columns, broken[row]) if hit)
    words = {True: "kept by hand", False: "dropped by hand"}
    for row, keep in hand.items():
        found[row] = "; ".join(filter(None, [words[keep], found[row]]))
    return found


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 of a file's bytes; of files that are read together, that of their digests in sorted order."""
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


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
    keep, why = kept(flags, hand).to_numpy(bool), reasons(flags, hand)
    entries = []
    for file, rows in rows_of(files).items():
        entries.append({
            "file": file, "sha256": digests[file], "samples": len(rows),
            "dropped": {str(part): why[row] for part, row in enumerate(rows) if not keep[row]},
            "by_hand": {str(part): hand[row] for part, row in enumerate(rows) if row in hand},
        })  # fmt: skip
    recipe = {
        "format": FORMAT, "version": VERSION, "lightbench": __version__, "task": task.name, "rules": dict(rules),
        "acquisition": dict(acquisition), "files": entries,
    }  # fmt: skip
    return json.dumps(recipe, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def rows_of(files: Sequence[str]) -> dict[str, list[int]]:
    """Row numbers of each file's samples, in the order of the files."""
    found: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        found.setdefault(file, []).append(row)
    return found


def parse(task: Task, content: bytes, name: str) -> dict[str, Any]:
    """A recipe file checked against the task. Raises InputError for anything that is not one."""
    remedy = "Take the recipe.json that the Clean page exported."
    if len(content) > MAX_BYTES:
        raise InputError(name, Phrase("it is larger than {most} MB, so it is no recipe", most=MAX_BYTES // 2**20), remedy)
    try:
        recipe = json.loads(content)
        if recipe["format"] != FORMAT:
            raise KeyError("format")
        version, belongs = recipe["version"], recipe["task"]
        for entry in recipe["files"] if version == VERSION else ():
            str(entry["file"]), str(entry["sha256"]), int(entry["samples"])
            _numbered(entry["dropped"], str), _numbered(entry["by_hand"], bool)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(name, "it is not a recipe of the Clean page", remedy) from error
    if version != VERSION:
        raise InputError(
            name,
            Phrase("its version is {version!r}; this Lightbench reads {ours}", version=version, ours=VERSION),
            "Make it again on the Clean page.",
        )
    if belongs != task.name:
        raise InputError(name, Phrase("it belongs to the task {task!r}", task=belongs), "Open it on that task's Clean page.")
    recipe["rules"] = task.Rules.parse(recipe.get("rules") or {}, f"rules in {name}").model_dump()
    known = task.Acquisition.parse(recipe.get("acquisition") or {}, f"instrument settings in {name}")
    recipe["acquisition"] = known.model_dump()
    return dict(recipe)


def _numbered(entries: Mapping[str, Any], kind: type) -> dict[int, Any]:
    """{number of the sample within its file: value}. Raises ValueError or TypeError where it is something else."""
    found = {int(part): value for part, value in entries.items()}
    if any(not isinstance(value, kind) for value in found.values()):
        raise TypeError("a value of another kind")
    return found


def apply(recipe: Mapping[str, Any], files: Sequence[str], digests: Mapping[str, str]) -> Applied:
    """Match the recipe's files to those at hand by hash, not by name, and their samples by number."""
    rows = rows_of(files)
    here: dict[str, list[str]] = {}
    for file in rows:
        here.setdefault(digests[file], []).append(file)
    hand: Hand = {}
    keep: dict[int, bool] = {}
    missing = []
    for entry in recipe["files"]:
        found = here.get(entry["sha256"], [])
        if not found:
            missing.append(str(entry["file"]))
            continue
        file = found.pop(0) if len(found) > 1 else found[0]  # copies of one file: each entry of the recipe takes the next
        dropped, by_hand = _numbered(entry["dropped"], str), _numbered(entry["by_hand"], bool)
        for part, row in enumerate(rows[file][: entry["samples"]]):
            keep[row] = part not in dropped
            if part in by_hand:
                hand[row] = by_hand[part]
    return Applied(hand, keep, list(dict.fromkeys(missing)), len(files) - len(keep))
