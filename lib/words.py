"""What users read, in their language: English sentences are the keys of one catalogue per task and language.

A task's texts go through a `Say`: `say("{n} samples", n=3)`. English is the text itself; `lib/tasks/<task>/fr.json` holds
{English text: French text} with the same fields in braces. What the bench itself writes into sheets and reports is in
`lib/fr.json`, what its pages say in `lib/ui/fr.json`. Figures keep their decimal point in every language, as in tables and files.

Errors and remarks are made before anybody knows who will read them: a `Phrase` is the English text, and remembers its template
and values, so that `spoken` can say it in another language.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

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


class Phrase(str):
    """An English text with its fields filled, as in `Phrase("{n} rows", n=3)`; a value may be a phrase too."""

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, **values: Any) -> Self:
        """The template with its fields filled."""
        made = super().__new__(cls, english(template, **values))
        made.template, made.values = template, values
        return made

    def __reduce__(self) -> tuple[Callable[..., Phrase], tuple[dict[str, Any]]]:
        return from_plain, (plain(self),)


def as_phrase(text: str) -> Phrase:
    """A text as a part of a phrase, to be said with it: a plain one is its own template."""
    return text if isinstance(text, Phrase) else Phrase(text)


def plain(text: str) -> Any:
    """A text as plain JSON values, its template and values kept; `from_plain` takes it."""
    if not isinstance(text, Phrase):
        return str(text)
    values = {name: _plain(value) for name, value in text.values.items()}
    return {"template": text.template, "values": values}


def _plain(value: Any) -> Any:
    """One value; a number of NumPy as Python's."""
    return plain(value) if isinstance(value, str) else value.item() if hasattr(value, "item") else value


def from_plain(stored: Any) -> Any:
    """What `plain` was given. Raises ValueError, KeyError or TypeError where it is nothing of the kind."""
    if not isinstance(stored, dict):
        return stored
    return Phrase(str(stored["template"]), **{name: from_plain(value) for name, value in stored["values"].items()})


def spoken(text: str, *says: Say) -> str:
    """A phrase, or a text without fields, in the language of the first of `says` that knows it; else as it is."""
    template, values = (text.template, text.values) if isinstance(text, Phrase) else (text, {})
    told = {name: spoken(value, *says) if isinstance(value, Phrase) else value for name, value in values.items()}
    english_ = english(template, **told)
    return next((said for say in says if (said := say(template, **told)) != english_), english_)


def core(language: Language) -> Say:
    """Says what the bench writes into sheets and reports, whatever the task."""
    return speaker(language, Path(__file__).with_name(f"{language}.json"))
