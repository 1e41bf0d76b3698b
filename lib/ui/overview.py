"""Figures over all samples of the Clean page, drawn one at a time; points and rows of tables in them can be picked."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from lib.figures import themed
from lib.task import Panel, Task, View
from lib.ui.context import go_to, theme
from lib.ui.forms import fill_form
from lib.ui.panels import PAGE_FONT, behind_places, numbers_of, show_panel
from lib.ui.words import t

MOST_MADE = 24  # panels kept for one set of files
Made = dict[tuple[Hashable, ...], Panel]


def has_overview(task: Task) -> bool:
    """Whether the task has figures over all samples."""
    return type(task).overview is not Task.overview


def show_overview(task: Task, views: Sequence[View], key: str, turn: int, made: Made) -> list[int]:
    """Choice of a view and the view; returns the rows picked in it. A new `turn` ends a selection.

    `made` keeps panels of the files at hand.
    """
    chosen: int = st.pills(  # by number: titles change with the language
        t("What to look at"), list(range(len(views))), default=0, required=True, key=f"{key}-view", persist_state="session",
        format_func=lambda number: views[number].title,
    )  # fmt: skip
    view = views[chosen]
    values = _picks(view, f"{key}-{chosen}")
    panel = _panel(view, values, made)
    if isinstance(panel.content, go.Figure) and _pickable(panel.content):
        picked = _picked(panel.content, f"{key}-{chosen}-{turn}")
        st.caption(panel.explanation)
        return picked
    if isinstance(panel.content, pd.DataFrame) and panel.behind:
        return _ticked(panel, f"{key}-{chosen}-{turn}")
    show_panel(replace(panel, title=""), f"{key}-{panel.key}")
    _carried(task, view, values, key)
    return []


def _picks(view: View, key: str) -> dict[str, str]:
    """What the reader chose for a view that asks."""
    if not view.picks:
        return {}
    cells = st.columns(len(view.picks))
    return {
        pick.name: cell.selectbox(pick.label, pick.values, key=f"{key}-{pick.name}", persist_state="session")
        for pick, cell in zip(view.picks, cells)
    }


def _panel(view: View, values: Mapping[str, str], made: Made) -> Panel:
    """The panel, made anew only where what it is made of has changed."""
    if view.made_of is None:
        return view.make(**values)
    known = (view.title, view.made_of, *values.values())  # a title tells the language too
    if known not in made:
        while len(made) >= MOST_MADE:
            made.pop(next(iter(made)))
        with st.spinner(t("Computing …"), show_time=True):
            made[known] = view.make(**values)
    return made[known]


def _carried(task: Task, view: View, values: Mapping[str, str], key: str) -> None:
    """Buttons that open the Train page with what was chosen filled in."""
    if not view.carry:
        return
    with st.container(horizontal=True):
        for label, settings in view.carry.items():
            if st.button(label, key=f"{key}-carry-{label}", icon=":material/model_training:"):
                fill_form(f"{task.name}-train", settings(**values))
                go_to(task.name, "train")


def _pickable(figure: go.Figure) -> bool:
    return any(trace.customdata is not None for trace in figure.data)


def _picked(figure: go.Figure, key: str) -> list[int]:
    """The figure with box and lasso; row numbers of the points inside."""
    drawn = themed(figure, theme()).update_layout(font_family=PAGE_FONT, dragmode="select")
    event: Any = st.plotly_chart(
        drawn, theme=None, width="stretch", key=key, on_select="rerun", selection_mode=("points", "box", "lasso"),
        config={"displaylogo": False},
    )  # fmt: skip
    return sorted(set(numbers_of(event["selection"]["points"])))


def _ticked(panel: Panel, key: str) -> list[int]:
    """The table with rows to tick; numbers of the samples behind those that are ticked or have a cell pressed."""
    event: Any = st.dataframe(
        panel.content, width="stretch", height="content", hide_index=True, key=key, placeholder="–", on_select="rerun",
        selection_mode=("multi-row", "single-cell"),
    )  # fmt: skip
    chosen = event["selection"]
    places = [*chosen["rows"], *(int(cell[0]) for cell in chosen["cells"])]
    hint = t("Press a row to look at its sample; tick several at their left edge to keep or drop them together.")
    st.caption(f"{panel.explanation} :material/touch_app: {hint}")
    return behind_places(panel, places)
