"""Which pictures show one specimen: by a pattern of the file name, or because their targets are equal."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

GROUP = "specimen"
DIGITS = 6  # targets that agree to so many decimals were copied from one measurement


def pattern_problem(pattern: str) -> str:
    """Why a pattern cannot be used, "" where it can."""
    try:
        compiled = compiled_pattern(pattern)
    except re.error as error:
        return f"{pattern!r} is no regular expression ({error})"
    if pattern and GROUP not in compiled.groupindex:
        return f"{pattern!r} does not say where the specimen is: write {{specimen}}, or (?P<specimen>…) in a regular expression"
    return ""


def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression as it is; else the text with `*` and `?` for any characters and `{specimen}` for the name looked for.

    Raises re.error.
    """
    if f"(?P<{GROUP}>" in pattern:
        return re.compile(pattern)
    wild = {"*": ".*?", "?": ".", f"{{{GROUP}}}": f"(?P<{GROUP}>.+?)"}
    parts = re.split(r"(\*|\?|\{specimen\})", pattern)
    used: set[str] = set()
    text = ""
    for part in parts:
        text += f"(?P={GROUP})" if part in used and part.startswith("{") else wild.get(part) or re.escape(part)
        used.add(part)
    return re.compile(text + r"\Z")


def by_pattern(names: Sequence[str], pattern: str) -> list[str]:
    """The specimen of each picture's name, "" where the pattern does not fit; one without `/` is for the last part."""
    compiled = compiled_pattern(pattern)
    whole = "/" in pattern
    regular = f"(?P<{GROUP}>" in pattern
    found = []
    for name in names:
        shown = name.replace("\\", "/")
        text = shown if whole else shown.rsplit("/", 1)[-1]
        match = compiled.search(text) if regular else compiled.match(text)
        found.append((match[GROUP] or "") if match else "")
    return found


def by_targets(targets: np.ndarray) -> list[str]:
    """A name for each set of equal targets (n, 10), NaN equal to NaN, "" where none is known."""
    rounded = np.round(targets, DIGITS)
    known = [bool(np.isfinite(row).any()) for row in rounded]
    names: dict[bytes, str] = {}
    keys = [row.tobytes() for row in np.nan_to_num(rounded, nan=-1e9)]
    return [names.setdefault(key, f"targets {len(names) + 1}") if there else "" for key, there in zip(keys, known)]
