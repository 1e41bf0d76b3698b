"""What a model is asked: from severity and defect type, or any other column, to classes.

AVA (all versus all) has one class per value, OVA (one versus all) asks of one value against "The rest". The codes are
those of the original project, whose AVA and OVA names its users know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from lib.task import InputError, Phrase
from lib.tasks.spectra.table import (
    DATE,
    GROUP,
    NOTE,
    SAMPLE,
    SEVERITIES,
    SEVERITY,
    TRUE_COLUMNS,
    TYPE,
    divides,
    label_of,
)
from lib.words import Say

Kind = Literal["AVA", "OVA"]
Rare = Literal["drop", "merge", "refuse"]
REST, OTHER = "The rest", "other"  # names of classes that are made here
FAULTY, SOUND = ("NC", "VR"), ("CROCHET", "OK")
CLEAR_AGREEMENT = 0.2  # of two labels of one specimen, above chance: 0 as chance has it, 1 always (as Cohen's kappa)
FEWEST_MIXED = 3  # specimens of several classes before anybody is asked about them
NO_CLASS = -1  # code of a sample whose label is missing, dropped or unknown to the model


@dataclass(frozen=True)
class Target:
    """One question. `of` is an AVA code, or the value an OVA singles out; `column` replaces severity and type by one column.

    With a `column`, an AVA has one class per value and `of` is only its name.
    """

    kind: Kind
    of: str
    column: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(Phrase("target {kind!r}", kind=self.kind), "there is no such kind of target", "Choose AVA or OVA.")
        if self.kind == "AVA" and not self.column and self.of not in AVA_CODES:
            raise InputError(
                Phrase("target AVA {of!r}", of=self.of),
                "there is no such code",
                Phrase("Codes: {codes}.", codes=", ".join(AVA_CODES)),
            )

    @property
    def name(self) -> str:
        """As the original's folders are called: AVA_INsTYs, OVA_OK."""
        return f"{self.kind}_{self.of}"

    @property
    def called(self) -> str:
        """As messages call it: the column where one is learnt, else the code."""
        if not self.column:
            return self.name
        return Phrase("column {column!r}", column=self.column)


ASKED_FIRST = ("OVA", "OK")  # kind and value that a training starts with


def settled_target(kind: Kind, of: str, column: str, rows: pd.DataFrame, name: str) -> tuple[Target, list[str]]:
    """The question of a training's settings for these rows, and a sentence where the settings alone do not tell it.

    Without severity, type and `column` the declared label is learnt: all its classes, unless one is asked for. Raises InputError
    as Target, and where no column is declared.
    """
    if column or SEVERITY in rows or TYPE in rows:
        return Target(kind, of, column), []
    if (label := label_of(rows)) and divides(rows, label):
        all_of_it = kind == "AVA" or ((kind, of) == ASKED_FIRST and not (rows[label] == of).any())
        note = Phrase("The table has no severity: its label is learnt, column {column!r}.", column=label)
        return Target("AVA", "", label) if all_of_it else Target(kind, of, label), [note]
    there = user_columns(rows)
    example = next((one for one in there if divides(rows, one)), "")
    if example:
        choice = Phrase("Choose the column to learn: column={column}, kind=AVA.", column=example)
    else:
        choice = Phrase("Add a column with the class of each sample, and choose it as column, with kind=AVA.")
    raise InputError(name, "has no severity", Phrase("{choice} Columns: {columns}.", choice=choice, columns=_listed(there)))


def user_columns(rows: pd.DataFrame) -> list[str]:
    """The columns that may be learnt: not those that name a sample, tell its date or were made here."""
    return [str(column) for column in rows if column not in (SAMPLE, GROUP, DATE, NOTE, "file", *TRUE_COLUMNS)]


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:20]) or Phrase("none")


def in_words(name: object, say: Say) -> str:
    """A class's name as a reader sees it: those made here are words, all others the lab's own names."""
    return say("The rest") if name == REST else say("other") if name == OTHER else str(name)


@dataclass(frozen=True)
class Classes:
    """Classes and the class of each sample: `codes` (n,) int64 are positions in `names`, NO_CLASS where there is none.

    `notes` says what was left out or merged and how many samples that touched.
    """

    names: tuple[str, ...]
    codes: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> np.ndarray:
        """Samples of each class (K,)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))


# --- the columns ------------------------------------------------------------------------------------------------------
def severities(rows: pd.DataFrame) -> pd.Series:
    """Severity of each sample (n,): NC, VR, CROCHET or OK, None where missing; "OK - Inspecteur" and the like are OK.

    Raises InputError where the column is missing or holds another word.
    """
    text = _column(rows, SEVERITY)
    found = _each(text, lambda word: re.sub(r"^OK\s*-.*$", "OK", word.upper()))
    strange = sorted({str(t) for t, f in zip(text, found) if f is not None and f not in SEVERITIES})
    if strange:
        raise InputError(
            Phrase("column {column!r}", column=SEVERITY),
            Phrase("{values} is no severity", values=", ".join(map(repr, strange[:5]))),
            Phrase(
                "Severities: {severities}; an OK may name who said so, as in 'OK - Inspecteur'.", severities=", ".join(SEVERITIES)
            ),
        )
    return found


def types(rows: pd.DataFrame) -> pd.Series:
    """Defect type of each sample (n,) as digits ("0", "11"), None where missing.

    Raises InputError where the column is missing or holds something that is not a whole number.
    """
    found = _each(_column(rows, TYPE), lambda word: re.sub(r"\.0+$", "", word))
    strange = sorted({word for word in found if word is not None and not re.fullmatch(r"[0-9]{1,4}", word)})
    if strange:
        raise InputError(
            Phrase("column {column!r}", column=TYPE),
            Phrase("{values} is no defect type", values=", ".join(map(repr, strange[:5]))),
            "Types are whole numbers such as 11.",
        )
    return found


def _column(rows: pd.DataFrame, name: str) -> pd.Series:
    if name not in rows:
        columns = _listed(user_columns(rows))
        raise InputError(
            Phrase("column {name!r}", name=name), "the table has no such column", Phrase("Columns: {columns}.", columns=columns)
        )
    return pd.Series([_text(value) for value in rows[name]], index=rows.index, dtype=object)


def _each(values: pd.Series, rule: Callable[[str], str | None]) -> pd.Series:
    """The rule applied to each known value; None stays None, which pandas' own map would turn into NaN."""
    return pd.Series([None if value is None else rule(value) for value in values], index=values.index, dtype=object)


def _text(value: object) -> str | None:
    """A cell as text; None where it is empty. Whole floats lose their ".0": files with gaps read integers as floats."""
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def _join(*parts: str | None) -> str | None:
    """Severity and type as one word, VR11; None where either is missing."""
    known = [part for part in parts if part is not None]
    return "".join(known) if len(known) == len(parts) else None


# --- the codes --------------------------------------------------------------------------------------------------------
def _first_digit(severity: str | None, kind: str | None) -> str | None:
    return kind and kind[0]


def _sound_or_faulty(severity: str | None, kind: str | None) -> str | None:
    return None if severity is None else "VR - NC" if severity in FAULTY else "OK - CROCHET"


def _sound_or_type(severity: str | None, kind: str | None) -> str | None:
    """OK and CROCHET by name, VR and NC together by type.

    The original's INsTYs: with OK and CROCHET merged as well it would say no more than TYs, both having type 0.
    """
    return severity if severity in SOUND else None if severity is None else kind


def _ok_11_5(severity: str | None, kind: str | None) -> str | None:
    if severity is None or (severity != "OK" and kind is None):
        return None
    if severity == "OK":
        return "OK"
    if severity == "VR" and kind == "11":
        return "VR11"
    return "VR/NC5" if severity in FAULTY and kind == "5" else REST


AVA_CODES: dict[str, Callable[[str | None, str | None], str | None]] = {
    "TY": lambda severity, kind: kind,
    "TYs": _first_digit,
    "IN": lambda severity, kind: severity,
    "INs": _sound_or_faulty,
    "INTY": _join,
    "INsTY": _sound_or_type,
    "INTYs": lambda severity, kind: _join(severity, kind and kind[0]),
    "INsTYs": lambda severity, kind: _sound_or_type(severity, kind and kind[0]),
    "OK+11+5": _ok_11_5,
}
_TYPE_ONLY, _SEVERITY_ONLY = ("TY", "TYs"), ("IN", "INs")
# Class orders that neither number nor name gives; they are the original's.
_LISTED: dict[str, tuple[str, ...]] = {"INs": ("VR - NC", "OK - CROCHET"), "OK+11+5": ("OK", "VR11", "VR/NC5", REST)}


def words(rows: pd.DataFrame, target: Target) -> pd.Series:
    """The class of each sample (n,) by name, None where the label is missing.

    Raises InputError where a column is missing or a label is no label.
    """
    if target.column:
        values = _column(rows, target.column)
        return values if target.kind == "AVA" else _one(values, target.of)
    if target.kind == "OVA":
        return _one(_quality(rows, target.of), target.of)
    missing = pd.Series([None] * len(rows), index=rows.index, dtype=object)
    severity = missing if target.of in _TYPE_ONLY else severities(rows)
    kind = missing if target.of in _SEVERITY_ONLY else types(rows)
    rule = AVA_CODES[target.of]
    return pd.Series([rule(s, k) for s, k in zip(severity, kind)], index=rows.index, dtype=object)


def _quality(rows: pd.DataFrame, value: str) -> pd.Series:
    """Severity, type or both of each sample, whichever `value` is one of; type 1 stands for 1, 11, 12 … as in the original."""
    if value in SEVERITIES:
        return severities(rows)
    if value.isdecimal():
        return _each(types(rows), lambda kind: kind[0] if value == "1" else kind)
    return pd.Series([_join(s, k) for s, k in zip(severities(rows), types(rows))], index=rows.index, dtype=object)


def _one(values: pd.Series, value: str) -> pd.Series:
    return _each(values, lambda found: value if found == value else REST)


def choices(rows: pd.DataFrame) -> dict[Kind, list[str]]:
    """Every code this table can be asked: all AVA codes, and for OVA the types, severities and combined classes it has."""
    severity, kind = severities(rows), types(rows)
    both = {_join(s, k) for s, k in zip(severity, kind)}
    found = [{v for v in values if v is not None} for values in (set(kind), set(severity), both)]
    return {"AVA": list(AVA_CODES), "OVA": [v for values in found for v in _ordered(values)]}


def _ordered(names: set[str], code: str = "") -> tuple[str, ...]:
    """Types by number, then severities from worst to best, then all else by name; "The rest" and "other" last."""
    listed = _LISTED.get(code, ())
    return tuple(sorted(names, key=lambda name: (listed.index(name) if name in listed else len(listed), _place(name))))


def _place(name: str) -> tuple[int, int, list[tuple[int, int, str]]]:
    parts = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.findall(r"[0-9]+|[^0-9]+", name)]
    if name in (REST, OTHER):
        return 3, 0, parts
    if quality := re.fullmatch(rf"({'|'.join(SEVERITIES)})[0-9]*", name):
        return 1, SEVERITIES.index(quality[1]), parts
    return (0 if name.isdecimal() else 2), 0, parts


def restarting(labels: np.ndarray, specimens: np.ndarray) -> list[str]:
    """What is found, and what to do, where more than a few specimens mix classes as chance would; [] where they do not.

    `labels` (n,) and `specimens` (n,) are of samples that have both. Of one specimen, labels that contradict each other are
    rare; two of its samples agree hardly more often than any two where a number starts anew in each class.
    """
    table = pd.DataFrame({"specimen": specimens, "label": labels}).astype(str)
    found = table.groupby("specimen", sort=False)["label"].agg(["nunique", "size"])
    mixed = found[found["nunique"] > 1]
    if len(mixed) < FEWEST_MIXED:
        return []
    same = table.groupby(["specimen", "label"], sort=False).size()
    agreeing = float((same * (same - 1)).sum() / (found["size"] * (found["size"] - 1)).sum())
    by_chance = float((table["label"].value_counts(normalize=True) ** 2).sum())
    if agreeing - by_chance > CLEAR_AGREEMENT * (1 - by_chance):
        return []
    told = (
        "{n} of {all} specimens have samples of several classes; specimen {name} of {k}. Does its number restart in each class?"
    )
    name = mixed["nunique"].idxmax()
    return [
        Phrase(told, n=len(mixed), all=len(found), name=name, k=int(mixed["nunique"].max())),
        Phrase("Then name further columns in group on the Clean page, so that together they name one specimen."),
    ]


# --- classes ----------------------------------------------------------------------------------------------------------
def classify(rows: pd.DataFrame, target: Target, names: Sequence[str] | None = None) -> Classes:
    """The classes of a table. `names` are a trained model's: a label outside them has no class, and a note says so.

    OVA always has two classes, "The rest" first, so that class 1 is the one asked for.
    Raises InputError as `words`, and, where a model is yet to be trained, if all labels are missing or none is the one asked for.
    """
    word = words(rows, target)
    present = {w for w in word if w is not None}
    if names is None and not present:
        raise InputError(
            Phrase("target {target}", target=target.called),
            "no sample has a label",
            "Choose another target or a table with labels.",
        )
    if names is None and target.kind == "OVA" and target.of not in present:
        there = (
            choices(rows)["OVA"] if not target.column else _ordered({v for v in _column(rows, target.column) if v is not None})
        )
        raise InputError(
            Phrase("target {target}", target=target.called),
            Phrase("no sample is {label!r}", label=target.of),
            Phrase("There are {there}.", there=", ".join(there[:40])),
        )
    trained = (REST, target.of) if target.kind == "OVA" else _ordered(present, target.of)
    ordered = trained if names is None else tuple(names)
    number = {name: i for i, name in enumerate(ordered)}
    codes = np.array([NO_CLASS if w is None else number.get(w, NO_CLASS) for w in word], dtype=np.int64)
    notes = []
    if missing := sum(w is None for w in word):
        notes.append(
            Phrase("1 sample has no label ({target}) and is left out.", target=target.called)
            if missing == 1
            else Phrase("{missing} samples have no label ({target}) and are left out.", missing=missing, target=target.called)
        )
    if unknown := _ordered(present - set(ordered)):
        n, strange = sum(w in unknown for w in word), ", ".join(unknown)
        notes.append(
            Phrase("1 sample is of a class the model does not know: {classes}.", classes=strange)
            if n == 1
            else Phrase("{n} samples are of a class the model does not know: {classes}.", n=n, classes=strange)
        )
    return Classes(ordered, codes, tuple(notes))


def balance(classes: Classes, groups: np.ndarray | None = None) -> pd.DataFrame:
    """One row per class: class, samples, percent (of samples with a class), and groups where `groups` (n,) is given."""
    counts = classes.counts
    table = pd.DataFrame({"class": classes.names, "samples": counts, "percent": 100 * counts / max(counts.sum(), 1)})
    return table if groups is None else table.assign(groups=_groups_per_class(classes, groups))


def too_rare(classes: Classes, folds: int, groups: np.ndarray | None = None) -> tuple[str, ...]:
    """Classes with fewer samples, or fewer groups (n,) where given, than folds: some fold would be without them."""
    counts = classes.counts if groups is None else _groups_per_class(classes, groups)
    return tuple(name for name, count in zip(classes.names, counts) if count < folds)


def _groups_per_class(classes: Classes, groups: np.ndarray) -> np.ndarray:
    return np.array([len(pd.unique(pd.Series(groups[classes.codes == k]))) for k in range(len(classes.names))], dtype=np.int64)


def settle_rare(classes: Classes, folds: int, choice: Rare = "refuse", groups: np.ndarray | None = None) -> Classes:
    """Classes that can all be split into `folds`: the rare ones are dropped, merged into "other", or refused.

    Raises InputError naming the rare classes where the choice is "refuse", where "other" would still be too rare, and
    where fewer than two classes would be left.
    """
    rare = too_rare(classes, folds, groups)
    unit = Phrase("samples") if groups is None else Phrase("groups")
    if rare and choice == "refuse":
        raise InputError(
            Phrase("classes {classes}", classes=', '.join(rare)),
            Phrase("each has fewer than {folds} {unit}, one for each fold", folds=folds, unit=unit),
            "Drop them, merge them into one class, or use fewer folds.",
        )  # fmt: skip
    settled = _without(classes, rare, merge=choice == "merge") if rare else classes
    if still := too_rare(settled, folds, groups):
        raise InputError(
            Phrase("class {classes}", classes=", ".join(still)),
            Phrase("{classes} together still have fewer than {folds} {unit}", classes=", ".join(rare), folds=folds, unit=unit),
            "Drop them or use fewer folds.",
        )
    if len(settled.names) < 2:
        raise InputError(
            "target",
            Phrase("only one class is left, {classes}", classes=", ".join(settled.names) or "none"),
            "Choose another target or fewer folds.",
        )
    return settled


def _without(classes: Classes, rare: tuple[str, ...], *, merge: bool) -> Classes:
    """The classes with the rare ones merged into OTHER or dropped, and a note of it."""
    names = [name for name in classes.names if name not in rare]
    if merge and OTHER not in names:
        names.append(OTHER)
    fate = {name: names.index(name) if name in names else names.index(OTHER) if merge else NO_CLASS for name in classes.names}
    lookup = np.array([*fate.values(), NO_CLASS], dtype=np.int64)  # the last place serves code -1
    touched = int(np.isin(classes.codes, [classes.names.index(name) for name in rare]).sum())
    what = Phrase('merged into "{other}"', other=OTHER) if merge else Phrase("dropped")
    samples = Phrase("1 sample") if touched == 1 else Phrase("{n} samples", n=touched)
    note = Phrase("Too rare to split, {what}: {classes} ({samples}).", what=what, classes=", ".join(rare), samples=samples)
    return replace(classes, names=tuple(names), codes=lookup[classes.codes], notes=(*classes.notes, note))
