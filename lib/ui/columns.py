"""How columns of readings and predictions are shown: words and units, values with their interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from lib.task import Task
from lib.ui.words import t

LOW, HIGH = "_lo", "_hi"
NUMBER = "%.4g"
MEASURED_ROWS, MOST_HEADING = 5, 16  # rows that an automatic width surely measures; characters of a heading that get room
AROUND_PX, CHARACTER_PX = 24, 8  # of a cell
OWN = ("no.", "kept", "why", "file", "sample", "note", "in_domain", "measured")  # columns of every task, and those that pages add


def heading(task: Task, column: str) -> str:
    """`D (µm²/s)` where the task names the column, the column's own name where it does not."""
    words, unit = words_and_unit(task, column)
    return f"{words} ({unit})" if unit else words


def words_and_unit(task: Task, column: str) -> tuple[str, str]:
    """Words and unit of a column; the ends of an interval go by the value's."""
    if column in task.labels:
        words, unit = task.labels[column]
        return task.say(words), task.say(unit)
    for ending, word in ((LOW, t("low")), (HIGH, t("high"))):
        if column.endswith(ending) and column.removesuffix(ending) in task.labels:
            words, unit = task.labels[column.removesuffix(ending)]
            return f"{task.say(words)}, {word}", task.say(unit)
    return t(column) if column in OWN else column, ""


def value_columns(columns: Sequence[str]) -> list[str]:
    """The columns that are values with an interval: those with `_lo` and `_hi` beside them."""
    return [c for c in columns if f"{c}{LOW}" in columns and f"{c}{HIGH}" in columns]


def significant(value: float) -> str:
    """Three significant digits, zeros at the end included: `2.50`."""
    return f"{value:#.3g}".rstrip(".") if math.isfinite(value) else "–"


def interval(row: Any, column: str) -> str:
    """`2.31 – 2.98`."""
    return f"{significant(float(row[column + LOW]))} – {significant(float(row[column + HIGH]))}"


def column_config(task: Task, table: pd.DataFrame) -> dict[str, Any]:
    """Headings and number formats for `st.dataframe`; the column's own name stays in the help."""
    config: dict[str, Any] = {}
    for column in map(str, table.columns):
        label, help_ = heading(task, column), t("Column `{name}`", name=column)
        if pd.api.types.is_bool_dtype(table[column]):
            config[column] = st.column_config.CheckboxColumn(label, help=help_)
        elif pd.api.types.is_float_dtype(table[column]):
            config[column] = st.column_config.NumberColumn(label, help=help_, format=NUMBER, width=_room(label, table[column]))
        else:
            config[column] = st.column_config.Column(
                label, help=help_, width="medium" if column == "file" and _long(table[column]) else None
            )
    return config


def _room(label: str, numbers: pd.Series) -> int | None:
    """Width (px) where a number longer than those that the automatic width measures would lose its first digits."""
    values = numbers.to_numpy(float, na_value=np.nan)
    measured = max((len(NUMBER % value) for value in values[:MEASURED_ROWS]), default=0)
    longest = int(_characters(values[MEASURED_ROWS:]).max(initial=0))
    return AROUND_PX + CHARACTER_PX * max(longest, min(len(label), MOST_HEADING)) if longest > measured else None


def _characters(values: np.ndarray) -> np.ndarray:
    """At most how many characters the browser shows of each of (n,) numbers: it writes 0.00001234 where Python has 1.234e-05."""
    known = np.isfinite(values) & (values != 0)
    tens = np.floor(np.log10(np.abs(values, where=known, out=np.ones(len(values)))))
    return np.where((tens < -6) | (tens > 3), 9, np.where(tens < 0, 5 - tens, 5)) * known + (values < 0)


def _long(column: pd.Series) -> bool:
    """Whether some text would not fit into a narrow column."""
    return bool(column.astype(str).str.len().max() > 16)
