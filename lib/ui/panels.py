"""Panels and figures on a page, in the theme the browser shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from lib import player
from lib.figures import themed, themed_json
from lib.task import Film, Panel, Picture
from lib.ui.context import guard, plain, theme
from lib.ui.live import live_figure
from lib.ui.words import speaking, t

# Plotly's own menu: download as SVG, for papers; the logo and the selection tools only take room.
PLOTLY_MENU: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg", "filename": "lightbench"},
}
MOUNT = "\nexport default ({parentElement, data}) => mount(parentElement, data);"
_player = st.components.v2.component("film_player", css=player.style(), js=player.script() + MOUNT)
SamplesBehind = Callable[[Sequence[int]], list[Panel]]  # what samples of these numbers look like; empty where not at hand
CELL, MOST_LINES = 60, 60  # characters that fit into a cell; rows of a table that is written out
PAGE_FONT = "'Source Sans', Inter, system-ui, sans-serif"  # the font that Streamlit brings along


def show_figure(figure: go.Figure, key: str) -> None:
    """One figure over the width of its column; one that changes is redrawn in place and keeps what the reader zoomed."""
    live_figure(themed_json(figure, theme(), font={"family": PAGE_FONT}, uirevision=key), key, PLOTLY_MENU)


def show_film(film: Film, key: str) -> None:
    """A film to play; on a redraw it keeps its frame and plays on."""
    _player(key=key, data=player.told(film, speaking()))


def show_panel(panel: Panel, key: str, behind: SamplesBehind | None = None) -> None:
    """One panel: its title, its content, what it tells; with `behind`, a reader can pick the samples behind a row or point."""
    if panel.title:
        st.markdown(f"##### {panel.title}")
    if panel.behind and behind is not None:
        _show_pickable(panel, key, behind)
        return
    if isinstance(panel.content, go.Figure):
        show_figure(panel.content, key)
    elif isinstance(panel.content, Picture):
        st.image(panel.content.png, width="stretch")
    elif isinstance(panel.content, Film):
        show_film(panel.content, key)
    elif isinstance(panel.content, pd.DataFrame) and _is_text(panel.content):
        st.table(panel.content.map(lambda value: plain(str(value))), hide_index=True)
    elif isinstance(panel.content, pd.DataFrame):
        st.dataframe(
            panel.content, width="stretch", hide_index=_plain_index(panel.content), key=key, placeholder="–",
            column_config=_room(panel.content),
        )  # fmt: skip
    else:
        st.markdown(panel.content)
    if panel.explanation:
        st.caption(panel.explanation)


@st.fragment
def _show_pickable(panel: Panel, key: str, behind: SamplesBehind) -> None:
    """A table or figure whose rows or points can be picked, then the samples behind them; a fragment: the page is not redrawn."""
    if isinstance(panel.content, go.Figure):
        drawn = themed(panel.content, theme()).update_layout(font_family=PAGE_FONT)
        event: Any = st.plotly_chart(
            drawn, theme=None, width="stretch", key=key, config=PLOTLY_MENU, on_select="rerun", selection_mode="points"
        )
        places = numbers_of(event["selection"]["points"])
        hint = t("Press a point or bar to see the samples behind it.")
    else:
        event = st.dataframe(
            panel.content, width="stretch", hide_index=True, key=key, placeholder="–", on_select="rerun",
            selection_mode="single-row",
        )  # fmt: skip
        places = event["selection"]["rows"]
        hint = t("Tick a row to see the samples behind it.")
    st.caption(f"{panel.explanation} :material/touch_app: {hint}")
    show_behind(behind_places(panel, places), key, behind)


def behind_places(panel: Panel, places: Iterable[int]) -> list[int]:
    """Numbers of the samples behind these rows or points of a panel, each once."""
    return list(dict.fromkeys(number for place in places if place < len(panel.behind) for number in panel.behind[place]))


def show_behind(numbers: Sequence[int], key: str, behind: SamplesBehind) -> None:
    """The samples of these numbers; nothing where there are no numbers, and a sentence where they are not at hand."""
    if not numbers:
        return
    with st.container(border=True), guard():
        found = behind(numbers)
        if found:
            show_panels(found, f"{key}-behind")
        else:
            st.caption(t("What was measured of these samples is not kept here, so it cannot be shown."))


def numbers_of(points: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers that picked points carry as `customdata`; Streamlit gives a single one as it is or in a list."""
    found = []
    for point in points:
        value = point.get("customdata")
        value = value[0] if isinstance(value, list | tuple) and value else value
        if isinstance(value, int | float):
            found.append(int(value))
    return found


def show_panels(panels: Sequence[Panel], key: str, columns: int = 2, behind: SamplesBehind | None = None) -> None:
    """Panels in a grid, `columns` side by side; a wide one takes the whole row. `key` must be unique on the page.

    A panel that cannot be drawn shows its own sentence and leaves the others alone.
    """
    row: list[Panel] = []
    for panel in [*panels, None]:
        if row and (panel is None or panel.wide or len(row) == columns):
            _show_row(row, key, columns, behind)
            row = []
        if panel is not None and panel.wide:
            _show_row([panel], key, 1, behind)
        elif panel is not None:
            row.append(panel)


def _show_row(row: Sequence[Panel], key: str, columns: int, behind: SamplesBehind | None) -> None:
    for panel, column in zip(row, st.columns(columns, gap="medium"), strict=False):
        with column, guard():
            show_panel(panel, f"{key}-{panel.key}", behind)


def _room(table: pd.DataFrame) -> dict[str, Any]:
    """Names and values: the values get the room, because they are sentences."""
    return {str(table.columns[0]): st.column_config.Column(width="medium")} if len(table.columns) == 2 else {}


def _is_text(table: pd.DataFrame) -> bool:
    """Whether it holds texts alone, some too long for a cell: a table that is written out breaks their lines."""
    cells = list(table.to_numpy().ravel()) if len(table) <= MOST_LINES else []
    return _plain_index(table) and all(isinstance(value, str) for value in cells) and any(len(value) > CELL for value in cells)


def _plain_index(table: pd.DataFrame) -> bool:
    """Whether the index is only a row number."""
    return list(table.index) == list(range(len(table)))
