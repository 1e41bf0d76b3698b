"""What users read, in their language: English sentences are the keys of one catalogue per task and language.

A task's texts go through a `Say`: `say("{n} samples", n=3)`. English is the text itself; `lib/tasks/<task>/fr.json` holds
{English text: French text} with the same fields in braces. What the bench itself writes into sheets and reports is in
`lib/fr.json`, what its pages say in `lib/ui/fr.json`. Figures keep their decimal point in every language, as in tables and files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

Language = Literal["en", "fr"]
LANGUAGES: dict[Language, str] = {"en": "English", "fr": "Français"}
Say = Callable[..., str]


def english(text: str, **values: Any) -> str:
    """The text with its fields filled."""
    return text.format(**values) if values else text


@cache
def speaker(language: Language, catalogue: Path) -> Say:
    """Says English texts in a language; what the catalogue lacks stays English. `catalogue` is a JSON file, missing is empty."""
    if language == "en" or not catalogue.exists():
        return english
    known: dict[str, str] = json.loads(catalogue.read_text(encoding="utf-8"))

    def say(text: str, **values: Any) -> str:
        return english(known.get(text, text), **values)

    return say


def core(language: Language) -> Say:
    """Says what the bench writes into sheets and reports, whatever the task."""
    return speaker(language, Path(__file__).with_name(f"{language}.json"))
