"""What is known of each sample: a file's other columns as the standard columns of `SpectraTable.rows`.

Severity and provenance are told apart (`OK - Inspecteur`, `OK - SpectrAcer`): the old algorithm's own verdict is no truth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.task import InputError, Phrase
from lib.tasks.spectra.columns import Columns
from lib.tasks.spectra.table import (
    ALGORITHM,
    DATE,
    GROUP,
    INSPECTOR,
    INSTRUMENT,
    NOTE,
    PROVENANCE,
    SAMPLE,
    SEVERITIES,
    SEVERITY,
    TYPE,
    TYPES,
    declared,
)

KEY = "sequence"  # the fluorimeter's own sample number: it joins files, so it may not repeat
STANDARD = (SAMPLE, GROUP, INSTRUMENT, DATE, SEVERITY, TYPE, PROVENANCE)
WHO: Mapping[str, str] = {
    "inspecteur": INSPECTOR, "inspector": INSPECTOR, "spectracer": ALGORITHM, "algorithm": ALGORITHM, "algorithme": ALGORITHM,
}  # fmt: skip
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y%m%d")
_TIMES = ("", " %H:%M:%S", " %H:%M:%S.%f", " %H:%M", "T%H:%M:%S", "T%H:%M:%S.%f", " %H:%M:%S%z", " %Hh%M")
_WHOLE = re.compile(r"[-+]?(0|[1-9]\d*)")


def standard_rows(frame: pd.DataFrame, columns: Columns, where: str) -> tuple[pd.DataFrame, list[str]]:
    """A file's other columns (n rows, text or numbers) as standard ones first, the rest as they are; and notes.

    Text is stripped and "" where missing; dates are datetime64; the type is Int64. Raises InputError on a repeated
    `sequence`, and on a cell of a tabular column that is no number. The rows know their label's column (`table.label_of`).
    """
    frame = frame.drop(columns=[c for c in frame if c == NOTE or _is_blank(c, frame[c])]).reset_index(drop=True)
    notes: list[str] = []
    rows = _identity(frame, columns, where, notes)
    if columns.instrument:
        rows[INSTRUMENT] = text(frame[columns.instrument])
    used = {name for names in columns.roles().values() for name in names} - {columns.label}  # which may name specimens too
    if columns.date:
        rows[DATE] = _dates(frame, columns, notes)
        used -= {columns.date, columns.time} if (rows[DATE].isna() & (text(frame[columns.date]) != "")).any() else set()
    _labels(rows, frame, columns, notes)
    rows = {name: rows[name] for name in STANDARD if name in rows}
    label = ""
    for name in frame.columns.difference([*used], sort=False):
        if name in columns.tabular:
            values = _numbers(frame[name], name, where)
        else:
            values = text(frame[name]) if name == columns.label else _as_it_is(frame[name])
        label = _free(name, rows) if name == columns.label else label
        rows[_free(name, rows)] = values
    return declared(pd.DataFrame(rows), label), notes


def text(values: pd.Series) -> pd.Series:
    """Stripped text, "" where missing; whole numbers without a decimal point."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype("str").fillna("").str.strip().replace({"nan": "", "<NA>": "", "None": ""})


def _is_blank(name: object, values: pd.Series) -> bool:
    """Whether a column has neither name nor content: what a separator at the end of each line makes."""
    return re.fullmatch(r"column \d+", str(name)) is not None and not (text(values) != "").any()


def _free(name: str, rows: Mapping[str, pd.Series]) -> str:
    """The file's name of a column, marked where a standard column has that name."""
    while name in rows or name in STANDARD:
        name = f"{name} (file)"
    return name


def _identity(frame: pd.DataFrame, columns: Columns, where: str, notes: list[str]) -> dict[str, pd.Series]:
    """Sample and specimen."""
    numbered = pd.Series([str(i + 1) for i in range(len(frame))], dtype="str")
    if not columns.sample:
        rows = {SAMPLE: numbered}
    else:
        names = text(frame[columns.sample])
        rows = {SAMPLE: names.where(names != "", "row " + numbered)}
    if columns.group:
        rows[GROUP] = text(frame[columns.group[0]])
        for more in columns.group[1:]:
            rows[GROUP] = rows[GROUP] + "/" + text(frame[more])
    twice = rows[SAMPLE].duplicated(keep=False)
    if not twice.any():
        return rows
    if columns.sample.casefold() == KEY:
        first = rows[SAMPLE][twice].iloc[0]
        lines = ", ".join(str(i + 1) for i in np.flatnonzero(rows[SAMPLE] == first)[:5])
        raise InputError(
            where,
            Phrase(
                "has {n} repeated values of {column!r} ({first!r} in samples {lines})",
                n=int(rows[SAMPLE].duplicated().sum()),
                column=columns.sample,
                first=first,
                lines=lines,
            ),
            "Give every sample its own number, or remove the copies",
        )
    if GROUP not in rows:
        rows[GROUP] = rows[SAMPLE]
        notes.append(Phrase("column {column!r} repeats: taken as the specimen, its spectra as replicates", column=columns.sample))
    else:
        notes.append(Phrase("column {column!r} repeats: samples are numbered within it", column=columns.sample))
    count = (rows[SAMPLE].groupby(rows[SAMPLE]).cumcount() + 1).astype("str")
    rows[SAMPLE] = rows[SAMPLE] + "/" + count
    return rows


def _dates(frame: pd.DataFrame, columns: Columns, notes: list[str]) -> pd.Series:
    """Date of measurement, with the time of day where the file has one; NaT where it cannot be read."""
    values = frame[columns.date]
    if not columns.time and pd.api.types.is_datetime64_any_dtype(values):
        return values.dt.tz_localize(None).astype("datetime64[ns]")
    words = values.dt.strftime("%Y-%m-%d") if pd.api.types.is_datetime64_any_dtype(values) else text(values)
    if columns.time:
        words = words.str.cat(text(frame[columns.time]), sep=" ").str.strip()
    read = {date: _parsed(words, date) for date in _DATES}
    found = {date: int(values.notna().sum()) for date, values in read.items()}
    best = max(_DATES, key=found.__getitem__)  # the first of equals
    if found[best] and found["%d/%m/%Y"] == found["%m/%d/%Y"] == found[best]:
        notes.append(Phrase("dates in {column!r} taken as day/month/year", column=columns.date))
    unread = int((read[best].isna() & (words != "")).sum())
    if unread:
        notes.append(
            Phrase("{unread} dates in {column!r} could not be read: those samples have none", unread=unread, column=columns.date)
        )
    return read[best]


def _parsed(words: pd.Series, date: str) -> pd.Series:
    """Texts as dates of one format, with any time of day behind them; NaT where they are no such date."""
    read = pd.Series(pd.NaT, index=words.index, dtype="datetime64[ns]")
    some = words[words != ""].iloc[:200]
    for time in _TIMES:
        if pd.to_datetime(some, format=date + time, errors="coerce", utc=True).notna().any():
            values = pd.to_datetime(words, format=date + time, errors="coerce", utc=True).dt.tz_localize(None)
            read = read.fillna(values.astype("datetime64[ns]"))
    return read


def _labels(rows: dict[str, pd.Series], frame: pd.DataFrame, columns: Columns, notes: list[str]) -> None:
    """Severity, type and provenance, where the file has them."""
    if columns.severity:
        parts = text(frame[columns.severity]).str.extract(r"^(.*?)(?:\s*-\s*(.*))?$")
        severity, who = parts[0].str.upper(), parts[1].fillna("").str.casefold()
        rows[SEVERITY] = severity
        if not columns.provenance:
            # Only tasting finds a defect; a bare OK may be either's.
            known = who.replace(dict(WHO))
            rows[PROVENANCE] = known.where((who != "") | ~severity.isin(SEVERITIES[:3]), INSPECTOR)
        strange = severity[~severity.isin((*SEVERITIES, ""))]
        if len(strange):
            some = ", ".join(map(repr, strange.unique()[:3]))
            notes.append(
                Phrase(
                    "{n} samples have a severity that is none of {severities} ({some}): kept",
                    n=len(strange),
                    severities=", ".join(SEVERITIES),
                    some=some,
                )
            )
    if columns.provenance:
        rows[PROVENANCE] = text(frame[columns.provenance]).replace(dict(WHO))
    if columns.defect_type:
        words = text(frame[columns.defect_type])
        number = pd.to_numeric(words.str.extract(r"^(\d{1,6})(?:[.,]0+)?$", expand=False), errors="coerce").astype("Int64")
        lost = int((number.isna() & (words != "")).sum())
        strange_types = sorted(set(number.dropna().astype(int)) - set(TYPES))
        notes += [Phrase("{lost} samples have a defect type that is no number: left empty", lost=lost)] if lost else []
        notes += (
            [Phrase("defect types {types} are not among the known ones: kept", types=", ".join(map(str, strange_types)))]
            if strange_types
            else []
        )
        rows[TYPE] = number


def _numbers(values: pd.Series, name: str, where: str) -> pd.Series:
    """A tabular column as float64, NaN where empty. Raises InputError naming the first cell that is no number."""
    if pd.api.types.is_numeric_dtype(values):
        return values.astype("float64")
    words = text(values)
    read = pd.to_numeric(words.str.replace(",", ".", regex=False), errors="coerce").astype("float64")
    bad = read.isna() & ~words.str.casefold().isin(("", "nan", "na", "n/a", "-", "null", "none"))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            where,
            Phrase(
                "has {value!r} in column {name!r} of sample {row}, where a number was expected",
                value=words[row][:40],
                name=name,
                row=row + 1,
            ),
            "Mend the cell, or leave the column out of the tabular values",
        )
    return read


def _as_it_is(values: pd.Series) -> pd.Series:
    """Numbers where every cell is one, text otherwise; a code with leading zeros stays text."""
    if pd.api.types.is_bool_dtype(values):
        return values.astype(bool)
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.dt.tz_localize(None).astype("datetime64[ns]")
    if pd.api.types.is_numeric_dtype(values):
        whole = pd.api.types.is_integer_dtype(values) and not values.isna().any()
        return values.astype("int64" if whole else "float64")
    words = text(values)
    filled = words[words != ""]
    if len(filled) == len(words) and filled.isin(("true", "false")).all():
        return words == "true"
    if filled.empty or filled.str.fullmatch(r"[-+]?0\d.*").any():
        return words
    if len(filled) == len(words) and filled.str.fullmatch(_WHOLE.pattern).all() and (filled.str.len() < 19).all():
        return words.astype("int64")
    read = pd.to_numeric(filled.str.replace(",", ".", regex=False), errors="coerce")
    return words if read.isna().any() else read.reindex(words.index).astype("float64")
