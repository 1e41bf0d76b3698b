"""Which column of a table is what: positions of spectra by their names, and the rest as its owner says.

A spectrum's column is named by its position (`600`, `1005.35`, `600 nm`, `X600`) or by channel and position (`277_295`,
`lspr_450`). Whatever else a file brings is label, specimen, instrument, date or a tabular value: `suggest` proposes which from
the names, `Columns` says it where the proposal is wrong, and `settled` puts both together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lib.task import NOTHING, Config, InputError, Phrase, option
from lib.tasks.spectra.table import (
    DATE,
    EXCITATIONS,
    FLUORESCENCE_NM,
    GROUP,
    INSTRUMENT,
    LSPR_NM,
    PROVENANCE,
    SAMPLE,
    SEVERITY,
    TYPE,
)

LSPR = "lspr"
STANDARD_AXES: Mapping[str, np.ndarray] = {**dict.fromkeys(EXCITATIONS, FLUORESCENCE_NM), LSPR: LSPR_NM}
ONLY_CHANNEL = "spectrum"  # name of the channel where columns are positions alone
MIN_POINTS = 16  # columns that share a prefix and count up are spectra from here on: `sa_prob_0 … sa_prob_14` are not
MAX_NAME = 100  # characters that are looked at where a row may be a header
MAX_COLUMNS, MAX_OTHER = 20_000, 1_000  # in all; and of those that are no spectrum

_NUMBER = r"\d+(?:[.,]\d+)?"
_UNIT = r"(?:\s*\(?(?P<unit>nm|µm|um|cm-1|cm\^-1|cm⁻¹|1/cm)\)?)?"
_PLAIN = re.compile(rf"[xX]?(?P<at>-?{_NUMBER}){_UNIT}")
_NAMED = re.compile(rf"(?P<channel>.*?\D)(?P<at>(?:(?<=_)-)?{_NUMBER}){_UNIT}")
_UNITS = {"um": "µm", "cm-1": "cm⁻¹", "cm^-1": "cm⁻¹", "1/cm": "cm⁻¹"}


Together = Literal["apart", "channels", "instruments"]


class Columns(Config):
    """What the columns of a file mean. Names are the file's; an empty one stands for what `suggest` proposes, NOTHING for none.

    What `settled` gives, and a file of ours says of itself, is complete: there an empty name means that there is no such column.
    """

    sample: str = option("", "Column that names each sample; without one they are numbered", group="data")
    group: tuple[str, ...] = option(
        (), "Columns that together name the specimen (seal, barrel, patient): all its spectra stay in one split", group="data"
    )
    instrument: str = option("", "Column that names the instrument", group="data")
    date: str = option("", "Column with the date of measurement", group="data")
    time: str = option("", "Column with the time of day, where it stands apart from the date", group="data")
    label: str = option("", "Column to learn, as text", group="data")
    severity: str = option("", "Column with the severity of the defect: NC, VR, CROCHET, OK", group="data")
    defect_type: str = option("", "Column with the number of the defect", group="data")
    provenance: str = option("", "Column that tells who gave the label, where it is not part of the severity", group="data")
    tabular: tuple[str, ...] = option((), "Columns of numbers to give to the model beside the spectra", group="data")
    channels: tuple[str, ...] = option((), "Channels to read, in this order; none named reads all", group="data")
    axis_unit: str = option("", "Unit of the positions, where the names do not tell: nm, cm⁻¹", group="data")
    standard_axis: bool = option(
        True, "Bring channels 277, 380, 425 (295–740 nm) and lspr (450–700 nm) to 1 nm steps; off keeps the file's positions",
        group="data",
    )  # fmt: skip
    together: Together = option(
        "apart",
        "Several tables at once: each apart; as channels, where they hold other spectra of the same samples, joined by the "
        "sample's name; or as instruments, where they hold the same channels, one table below the other. Files go by their "
        "names: a.csv is channel, or instrument, a",
        group="data",
    )

    def roles(self) -> dict[str, tuple[str, ...]]:
        """Standard column of `rows`: the file's columns it is made of."""
        named = {
            SAMPLE: (self.sample,), GROUP: self.group, INSTRUMENT: (self.instrument,), DATE: (self.date, self.time),
            SEVERITY: (self.severity,), TYPE: (self.defect_type,), PROVENANCE: (self.provenance,),
        }  # fmt: skip
        return {role: kept for role, names in named.items() if (kept := tuple(n for n in names if n))}


@dataclass(frozen=True)
class Positions:
    """One channel of a file: the places of its columns, in the order of the axis, and the axis (P,), increasing."""

    name: str
    places: np.ndarray
    axis: np.ndarray
    unit: str


@dataclass(frozen=True)
class Layout:
    """All columns of a file: channels in order, the places of the other columns, and what was done to the order."""

    channels: tuple[Positions, ...]
    other: tuple[int, ...]
    notes: tuple[str, ...] = ()


PICKED = ("sample", "group", "instrument", "date", "time", "label", "severity", "defect_type", "provenance", "tabular")


def named(columns: Columns, role: str) -> tuple[str, ...]:
    """The columns that a field of PICKED names, NOTHING among them."""
    value = getattr(columns, role)
    return tuple(name for name in ((value,) if isinstance(value, str) else value) if name)


def settled(given: Columns, proposed: Columns) -> Columns:
    """What was given, and what is proposed for the fields left as they are.

    A column that was given a meaning which the proposal does not give it loses the proposed one: a label that is chosen as
    group is a label no more.
    """
    typed = {role: names for role in PICKED if (names := named(given, role))}
    taken = {name for role, names in typed.items() for name in names if name not in named(proposed, role)}
    values: dict[str, Any] = {}
    for role in PICKED:
        kept = tuple(name for name in typed.get(role, named(proposed, role)) if name != NOTHING)
        if role not in typed:
            kept = tuple(name for name in kept if name not in taken)
        values[role] = kept if role in ("group", "tabular") else next(iter(kept), "")
    others = (name for name in Columns.model_fields if name not in PICKED)
    changed = {name: getattr(given, name) for name in others if getattr(given, name) != Columns.model_fields[name].default}
    return proposed.model_copy(update=values | changed)


def only(given: Columns, names: Sequence[str]) -> Columns:
    """What was given, without the columns that a file of these names lacks."""
    here = {*names, NOTHING}
    kept = {role: tuple(name for name in named(given, role) if name in here) for role in PICKED}
    values = {role: found if role in ("group", "tabular") else next(iter(found), "") for role, found in kept.items()}
    return given.model_copy(update=values)


def divided(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The channels of a header, and its columns that are no positions of a spectrum."""
    groups = _spectral(names, Columns())
    spectral = {place for members in groups.values() for place, _, _ in members}
    return tuple(groups), tuple(name for place, name in enumerate(names) if place not in spectral)


# --- names -> channels ------------------------------------------------------------------------------------------------
def layout(names: Sequence[str], columns: Columns, where: str) -> Layout:
    """Channels and other columns of a header.

    Raises InputError where columns are too many, repeated, or in no order, where there are no spectra, and where a channel
    or a column that `columns` names is missing.
    """
    if len(names) > MAX_COLUMNS:
        raise InputError(
            where,
            Phrase("has {n:,} columns (at most {most:,})", n=len(names), most=MAX_COLUMNS),
            "Export one row per sample and one column per position",
        )
    groups = _spectral(names, columns)
    numbers = np.array([position for _, position, _ in groups.get(ONLY_CHANNEL, [])])
    if len(numbers) >= MIN_POINTS and not _ordered(numbers):  # told first: values repeat more often than positions do
        raise _no_header(where)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        some = ", ".join(map(repr, repeated[:3]))
        raise InputError(
            where,
            Phrase("has {n} column names that stand more than once ({some})", n=len(repeated), some=some),
            "Export it again with every position once: the copies may stand where another channel should be",
        )
    found = [_positions(channel, members, columns, where) for channel, members in groups.items()]
    chosen = _choose([p for p, _ in found], columns.channels, where)
    spectral = {place for members in groups.values() for place, _, _ in members}
    other = tuple(i for i in range(len(names)) if i not in spectral)
    if len(other) > MAX_OTHER:
        some = ", ".join(repr(names[i]) for i in other[:3])
        raise InputError(
            where,
            Phrase(
                "has {n:,} columns that are no positions of a spectrum ({some} …; at most {most:,})",
                n=len(other),
                some=some,
                most=MAX_OTHER,
            ),
            "Name the columns of a spectrum by their position, such as 600 or 277_295",
        )
    check_named(names, columns, where)
    return Layout(chosen, other, tuple(note for _, note in found if note))


def _spectral(names: Sequence[str], columns: Columns) -> dict[str, list[tuple[int, float, str]]]:
    """Channel: (place, position, unit) of its columns, in the file's order."""
    taken = {n for names_ in columns.roles().values() for n in names_} | {columns.label, *columns.tabular}
    groups: dict[str, list[tuple[int, float, str]]] = {}
    for place, name in enumerate(names):
        text = name.strip()
        if name in taken:
            continue
        if match := _PLAIN.fullmatch(text):
            channel, at, unit = ONLY_CHANNEL, match["at"], match["unit"]
        elif match := _NAMED.fullmatch(text):
            channel, at, unit = channel_name(match["channel"]), match["at"], match["unit"]
        else:
            continue
        groups.setdefault(channel, []).append((place, float(at.replace(",", ".")), _UNITS.get(unit or "", unit or "")))
    return {channel: members for channel, members in groups.items() if _is_spectrum(channel, len(members), columns)}


def channel_name(text: str) -> str:
    """The name of a channel without its separator; `EX_277` and `LSPR` are the fluorimeter's 277 and lspr."""
    plain = text.strip(" _-.")
    known = re.sub(r"^ex[_ ]?(?=\d+$)", "", plain.lower())
    return known if known in STANDARD_AXES else plain


def _is_spectrum(channel: str, points: int, columns: Columns) -> bool:
    """A named channel is one where it is known, asked for, or long enough; plain numbers always are, from two on."""
    known = channel in (ONLY_CHANNEL, *STANDARD_AXES, *columns.channels)
    return points >= (2 if known else MIN_POINTS)


def _positions(channel: str, members: list[tuple[int, float, str]], columns: Columns, where: str) -> tuple[Positions, str]:
    """A channel with its axis turned to increase, and the note that says so."""
    places, axis = np.array([m[0] for m in members]), np.array([m[1] for m in members])
    order = np.argsort(axis, kind="stable")
    steps = np.diff(axis)
    note = "" if (steps > 0).all() else Phrase("channel {channel}: positions put in increasing order", channel=channel)
    if (np.diff(axis[order]) == 0).any():
        twice = axis[order][:-1][np.diff(axis[order]) == 0][0]
        raise InputError(
            where,
            Phrase("has position {twice:g} of channel {channel} more than once", twice=twice, channel=channel),
            "Export it again, each once",
        )
    if note and channel == ONLY_CHANNEL and not (steps < 0).all():
        raise _no_header(where)
    unit = next((m[2] for m in members if m[2]), columns.axis_unit or ("nm" if channel in STANDARD_AXES else ""))
    return Positions(channel, places[order], axis[order], unit), note


def _ordered(positions: np.ndarray) -> bool:
    """Whether positions rise, or fall, throughout; two may be equal."""
    steps = np.diff(positions)
    return bool((steps >= 0).all() or (steps <= 0).all())


def _no_header(where: str) -> InputError:
    """The refusal of a table without a header."""
    return InputError(
        where,
        "has numbers for column names that neither rise nor fall: its first row seems to be data",
        "Add a first row with the name of every column, for spectra the position, such as 600",
    )


def is_header(names: Sequence[str]) -> bool:
    """Whether the cells of a row name the positions of a spectrum: enough of them, and in order."""
    if not MIN_POINTS <= len(names) <= MAX_COLUMNS:
        return False
    groups = _spectral([name[:MAX_NAME].strip(' "') for name in names], Columns())
    axes = [np.array([position for _, position, _ in members]) for members in groups.values()]
    return any(len(axis) >= MIN_POINTS and _ordered(axis) and axis[0] != axis[-1] for axis in axes)


def _choose(found: list[Positions], wanted: tuple[str, ...], where: str) -> tuple[Positions, ...]:
    """The channels asked for, in that order; else all, in the file's."""
    by_name = {p.name: p for p in found}
    if not found:
        raise InputError(
            where,
            "has no spectra: no column is named by a position",
            "Name the columns of a spectrum by their position, such as 600, or by channel and position, such as 277_295",
        )
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise InputError(
            where,
            Phrase("has no channel {missing} (it has {there})", missing=", ".join(missing), there=", ".join(by_name)),
            "Add the columns, or choose only channels that are there",
        )
    if len(set(wanted)) < len(wanted):
        raise InputError(
            where,
            Phrase("was asked for channels {channels}, one of them twice", channels=", ".join(wanted)),
            "Name each channel once",
        )
    return tuple(by_name[name] for name in wanted or by_name)


_CALLED: Mapping[str, Phrase] = {
    SAMPLE: Phrase("sample"),
    GROUP: Phrase("group"),
    INSTRUMENT: Phrase("instrument"),
    DATE: Phrase("date"),
    SEVERITY: Phrase("severity"),
    TYPE: Phrase("defect type"),
    PROVENANCE: Phrase("provenance"),
    "label": Phrase("label"),
}


def check_named(names: Sequence[str], columns: Columns, where: str) -> None:
    """Every column that is given a meaning is there."""
    roles = {role: ", ".join(used) for role, used in columns.roles().items() if not set(used) <= set(names)}
    extra = {"label": columns.label} if columns.label and columns.label not in names else {}
    for role, missing in (roles | extra).items():
        raise InputError(
            where,
            Phrase("has no column {missing!r}, which was chosen as {role}", missing=missing, role=_CALLED[role]),
            "Choose one of its columns, or none",
        )
    lost = [name for name in columns.tabular if name not in names]
    if lost:
        raise InputError(
            where,
            Phrase("has no column {columns}, which was chosen as tabular value", columns=", ".join(map(repr, lost))),
            "Add the column to the file, or leave it out of the tabular values",
        )


# --- names -> a proposal ----------------------------------------------------------------------------------------------
_WORDS: Mapping[str, str] = {
    "sample": r"sequence|sample|sample[ _]?(number|name|id|no)?:?|id|name|échantillon|echantillon",
    "group": r"scelle|scellé|specimen|seal|barrel|baril|patient|subject|batch|lot|group",
    "instrument": r"outil_id|instrument|device|spectrometer|spectrom[eè]tre|appareil",
    "date": r"mesure_date|measured_at|date|timestamp",
    "time": r"mesure_heure|time|heure",
    "severity": r"greffon_defaut_severite|severity|severite|sévérité",
    "defect_type": r"greffon_defaut_type|defect_type",
    "label": r"label|labels|class|classe|target|y|category|varietal|variety|species|origin|provenance",
}
_TABULAR = re.compile(r"(greffon_)?(brix|transmittance)(_deg|_percent)?|integral_.+", re.IGNORECASE)
_NOT_A_LABEL = re.compile(r".*(split|set|fold|type|number|weight|date|run).*", re.IGNORECASE)
# Published sets, by the columns that tell them apart: their specimens cannot be told from names.
_PUBLISHED: Mapping[frozenset[str], Columns] = {
    frozenset({"meat", "run", "sample", "supplier"}): Columns(
        label="meat", group=("meat", "supplier", "sample"), axis_unit="cm⁻¹"
    ),
    frozenset({"Sample Number:", "Group Code:", "Provenance"}): Columns(
        label="Provenance", group=("Sample Number:",), axis_unit="cm⁻¹"
    ),
    frozenset({"Sample Number:", "Group Code:", "Varietal"}): Columns(
        label="Varietal", sample="Sample Number:", axis_unit="cm⁻¹"
    ),
    frozenset({"SampleType", "weight", "hardness", "assay"}): Columns(
        label="", tabular=("weight", "hardness", "assay"), axis_unit="nm"
    ),
}  # fmt: skip


def suggest(columns: Sequence[str]) -> Columns:
    """What the columns of a file probably mean, from their names alone: the state a form starts in."""
    plain = [name for name in columns if not _PLAIN.fullmatch(name.strip())]
    if published := _PUBLISHED.get(frozenset(plain)):
        return published
    found: dict[str, str] = {}
    for role, words in _WORDS.items():
        if role == "label" and "severity" in found:
            continue  # severity and type are the labels; `provenance` then says who gave them
        for name in plain:
            if name not in found.values() and re.fullmatch(words, name.strip(), re.IGNORECASE):
                found[role] = name
                break
    if "severity" in found and PROVENANCE in plain:
        found["provenance"] = PROVENANCE
    if "sample" not in found and columns and columns[0] == unnamed(0):
        found["sample"] = columns[0]  # an index written without a name
    first = next(iter(columns), "")
    taken = {*found.values()}
    if not taken & {found.get("label"), found.get("severity")} and first in plain and first not in taken:
        found |= {} if _NAMED.fullmatch(first) or _NOT_A_LABEL.fullmatch(first) else {"label": first}
    tabular = tuple(name for name in plain if _TABULAR.fullmatch(name))
    meaning: dict[str, Any] = {role: (name,) if role == "group" else name for role, name in found.items()}
    return Columns(tabular=tabular, **meaning)


def unnamed(place: int) -> str:
    """What a column without a name is called."""
    return f"column {place + 1}"
