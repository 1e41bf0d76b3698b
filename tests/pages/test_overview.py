"""Figures over all samples on the Clean page: one at a time, and what is picked in them is shown, kept and dropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

import lib.ui.overview
from lib.task import Config, Panel, Pick, Samples, Task, View
from lib.ui.overview import has_overview
from lib.ui.panels import numbers_of
from tests.pages.conftest import Open, figures, texts
from tests.pages.test_clean import FROM_FOLDER, READ, kept_metric

TITLES = ["Points", "Plain", "Table of medians", "Chosen", "Rows to tick"]
MADE: list[str] = []
SEEN: list[tuple[list[bool], float]] = []  # what the task was told: kept rows and the rule


def views(self: Task, samples: Samples, readings: pd.DataFrame, keep: pd.Series, rules: Config) -> list[View]:
    """A figure whose points are rows, one without, a table, and a text of what the reader chose."""

    def points() -> Panel:
        MADE.append("Points")
        SEEN.append((keep.tolist(), float(rules.max_spread_v)))
        figure = go.Figure(go.Scattergl(x=readings["median_v"], y=readings["spread_v"], customdata=np.arange(len(readings))))
        return Panel("points", "Points", figure, "One point per row.")

    def plain() -> Panel:
        MADE.append("Plain")
        return Panel("plain", "Plain", go.Figure(go.Bar(y=[1, 2])), "Two bars.")

    def table() -> Panel:
        MADE.append("Table of medians")
        return Panel("medians", "Table of medians", readings[["median_v"]], "Of all rows.")

    def chosen(way: str) -> Panel:
        MADE.append(f"Chosen {way}")
        return Panel("chosen", "Chosen", f"By way {way}.")

    ways = (Pick("way", "Way", ("one", "two")),)
    asked = View("Chosen", chosen, "all samples", ways, {"Train so": lambda way: {"seed": len(way)}})
    ticked = View("Rows to tick", lambda: Panel("ticked", "", readings[["median_v"]][:3], "Three.", behind=((4,), (2,), (1, 3))))
    return [*(View(title, make) for title, make in zip(TITLES, (points, plain, table))), asked, ticked]


@pytest.fixture
def loaded(open_page: Open, readings: object, toy: Task, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page after reading five good files, r0 noisy, on a task with an overview."""
    monkeypatch.setattr(type(toy), "overview", views)
    MADE.clear()
    SEEN.clear()
    page = open_page("clean", FROM_FOLDER)
    return page.button(key=READ).click().run()


def choose(page: AppTest, title: str) -> AppTest:
    page.session_state["toy-clean-overview-view"] = TITLES.index(title)
    return page.run()


def pick(page: AppTest, rows: Sequence[int], turn: int = 0) -> AppTest:
    """What a frame around these points gives."""
    selection = {"points": [{"customdata": [row]} for row in rows], "point_indices": list(rows), "box": [], "lasso": []}
    page.session_state[f"toy-clean-overview-{TITLES.index('Points')}-{turn}"] = {"selection": selection}
    return page.run()


def test_a_task_without_figures_of_all_samples_has_no_such_view(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_overview(toy)
    monkeypatch.setattr(type(toy), "overview", views)
    assert has_overview(toy)


def test_a_view_that_asks_is_made_once_for_each_answer(loaded: AppTest) -> None:
    way = "toy-clean-overview-3-way"
    MADE.clear()
    choose(loaded, "Chosen")
    assert "By way one." in texts(loaded) and set(MADE) == {"Chosen one"}
    loaded.selectbox(key=way).select("two").run()
    loaded.selectbox(key=way).select("one").run()
    assert "By way one." in texts(loaded) and MADE == ["Chosen one", "Chosen two"]
    loaded.button(key=READ).click().run()
    assert MADE == ["Chosen one", "Chosen two", "Chosen one"], "other files, another panel"


def test_what_was_chosen_goes_into_the_training_form(loaded: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[str] = []
    monkeypatch.setattr(lib.ui.overview, "go_to", lambda task, stage: gone.append(f"{task} {stage}"))
    choose(loaded, "Chosen").selectbox(key="toy-clean-overview-3-way").select("two").run()
    loaded.button(key="toy-clean-overview-carry-Train so").click().run()
    assert gone == ["toy train"] and loaded.session_state["toy-train:fill"] == {"seed": 3}


def test_only_the_view_that_is_looked_at_is_made(loaded: AppTest) -> None:
    assert not loaded.exception and MADE and set(MADE) == {"Points"}
    assert "One point per row." in texts(loaded)
    MADE.clear()
    choose(loaded, "Table of medians")
    assert set(MADE) == {"Table of medians"} and "Of all rows." in texts(loaded)
    assert any(list(frame.value.columns) == ["median_v"] for frame in loaded.dataframe)
    MADE.clear()
    choose(loaded, "Plain")
    assert set(MADE) == {"Plain"} and loaded.button(key="toy-clean-drop").disabled


def test_the_views_follow_the_rules(loaded: AppTest) -> None:
    assert SEEN[-1] == ([False, True, True, True, True], 5.0)
    loaded.number_input(key="toy-clean-rules.max_spread_v").set_value(100.0).run()
    assert SEEN[-1] == ([True] * 5, 100.0)


def test_picked_points_are_shown_dropped_and_undone(loaded: AppTest) -> None:
    assert loaded.button(key="toy-clean-drop").disabled
    pick(loaded, [3, 1])
    assert not loaded.exception
    assert "r1.npy" in texts(loaded) and "the first of 2 picked" in texts(loaded)
    loaded.button(key="toy-clean-drop").click().run()
    assert kept_metric(loaded) == "2 of 5" and SEEN[-1][0] == [False, False, True, False, True]
    assert loaded.button(key="toy-clean-drop").disabled, "a selection ends when it was used"
    loaded.button(key="toy-clean-undo").click().run()
    assert kept_metric(loaded) == "4 of 5"


@pytest.mark.parametrize(
    ("rows", "cells", "first", "dropped"),
    [([1], [], "r2.npy", 3), ([], [(0, "median_v")], "r4.npy", 3), ([0, 2], [(2, "median_v")], "r4.npy", 1), ([], [], "", 4)],
)
def test_ticked_rows_and_pressed_cells_are_shown_and_dropped(
    loaded: AppTest, rows: list[int], cells: list[tuple[int, str]], first: str, dropped: int
) -> None:
    selection = {"rows": rows, "columns": [], "cells": cells}
    loaded.session_state[f"toy-clean-overview-{TITLES.index('Rows to tick')}-0"] = {"selection": selection}
    choose(loaded, "Rows to tick")
    assert not loaded.exception and "tick several at their left edge" in texts(loaded)
    assert loaded.button(key="toy-clean-drop").disabled == (not first) and first in texts(loaded)
    if first:
        loaded.button(key="toy-clean-drop").click().run()
    assert kept_metric(loaded) == f"{dropped} of 5"


def test_other_views_are_still_there(loaded: AppTest) -> None:
    loaded.session_state["toy-clean-view"] = "Table"
    loaded.run()
    assert any("no." in frame.value for frame in loaded.dataframe)
    loaded.session_state["toy-clean-view"] = "Contact sheet"
    loaded.run()
    assert not loaded.exception and len(figures(loaded)) == 1


@pytest.mark.parametrize(
    ("points", "rows"),
    [
        ([{"customdata": 3}, {"customdata": [1]}, {"customdata": (2.0,)}], [3, 1, 2]),
        ([{"x": 1}, {"customdata": None}, {"customdata": []}, {"customdata": "a"}], []),
        ([], []),
    ],
)
def test_row_numbers_of_points(points: list[dict[str, object]], rows: list[int]) -> None:
    assert numbers_of(points) == rows
