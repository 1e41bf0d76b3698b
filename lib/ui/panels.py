"""Panels and figures on a page, in the theme the browser shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from lib.figures import themed
from lib.task import Panel, Picture
from lib.ui.context import guard, theme

# Plotly's own menu: download as SVG, for papers; the logo and the selection tools only take room.
PLOTLY_MENU: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg", "filename": "lightbench"},
}
PAGE_FONT = "'Source Sans', Inter, system-ui, sans-serif"  # the font that Streamlit brings along


def show_figure(figure: go.Figure, key: str) -> None:
    """One figure over the width of its column."""
    drawn = themed(figure, theme()).update_layout(font_family=PAGE_FONT)
    st.plotly_chart(drawn, theme=None, width="stretch", key=key, config=PLOTLY_MENU)


def show_panel(panel: Panel, key: str) -> None:
    """One panel: its title, its content, what it tells."""
    if panel.title:
        st.markdown(f"##### {panel.title}")
    if isinstance(panel.content, go.Figure):
        show_figure(panel.content, key)
    elif isinstance(panel.content, Picture):
        st.image(panel.content.png, width="stretch")
    elif isinstance(panel.content, pd.DataFrame):
        st.dataframe(panel.content, width="stretch", hide_index=_plain_index(panel.content), key=key, placeholder="–")
    else:
        st.markdown(panel.content)
    if panel.explanation:
        st.caption(panel.explanation)


def show_panels(panels: Sequence[Panel], key: str, columns: int = 2) -> None:
    """Panels in a grid, `columns` side by side; a wide one takes the whole row. `key` must be unique on the page.

    A panel that cannot be drawn shows its own sentence and leaves the others alone.
    """
    row: list[Panel] = []
    for panel in [*panels, None]:
        if row and (panel is None or panel.wide or len(row) == columns):
            _show_row(row, key, columns)
            row = []
        if panel is not None and panel.wide:
            _show_row([panel], key, 1)
        elif panel is not None:
            row.append(panel)


def _show_row(row: Sequence[Panel], key: str, columns: int) -> None:
    for panel, column in zip(row, st.columns(columns, gap="medium"), strict=False):
        with column, guard():
            show_panel(panel, f"{key}-{panel.key}")


def _plain_index(table: pd.DataFrame) -> bool:
    """Whether the index is only a row number."""
    return list(table.index) == list(range(len(table)))
