"""Figures over all samples of the Clean page, drawn one at a time; points in them can be picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from lib.figures import themed
from lib.task import Task, View
from lib.ui.context import theme
from lib.ui.panels import PAGE_FONT, show_panel
from lib.ui.words import t


def has_overview(task: Task) -> bool:
    """Whether the task has figures over all samples."""
    return type(task).overview is not Task.overview


def show_overview(views: Sequence[View], key: str, turn: int) -> list[int]:
    """Choice of a view and the view; returns the rows picked in it. A new `turn` ends a selection."""
    chosen: int = st.pills(  # by number: titles change with the language
        t("What to look at"), list(range(len(views))), default=0, required=True, key=f"{key}-view", persist_state="session",
        format_func=lambda number: views[number].title,
    )  # fmt: skip
    panel = views[chosen].make()
    if isinstance(panel.content, go.Figure) and _pickable(panel.content):
        picked = _picked(panel.content, f"{key}-{chosen}-{turn}")
        st.caption(panel.explanation)
        return picked
    show_panel(replace(panel, title=""), f"{key}-{panel.key}")
    return []


def _pickable(figure: go.Figure) -> bool:
    return any(trace.customdata is not None for trace in figure.data)


def _picked(figure: go.Figure, key: str) -> list[int]:
    """The figure with box and lasso; row numbers of the points inside."""
    drawn = themed(figure, theme()).update_layout(font_family=PAGE_FONT, dragmode="select")
    event: Any = st.plotly_chart(
        drawn, theme=None, width="stretch", key=key, on_select="rerun", selection_mode=("points", "box", "lasso"),
        config={"displaylogo": False},
    )  # fmt: skip
    return sorted(set(_rows(event["selection"]["points"])))


def _rows(points: Sequence[dict[str, Any]]) -> list[int]:
    """Row numbers that the points carry; Streamlit gives a single one as it is or in a list."""
    found = []
    for point in points:
        value = point.get("customdata")
        value = value[0] if isinstance(value, list | tuple) and value else value
        if isinstance(value, int | float):
            found.append(int(value))
    return found
