"""Panels on a page: every kind of content, both themes, one that fails."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from lib.figures import TEMPLATES
from tests.pages.conftest import figures


def script() -> None:
    import pandas as pd
    import plotly.graph_objects as go
    import streamlit as st

    from lib.task import Panel
    from lib.ui.panels import show_panels

    panels = [
        Panel("curve", "A curve", go.Figure(go.Scatter(y=[1, 2])), "It rises."),
        Panel("words", "Some words", "**Bold** statement"),
        Panel("table", "A table", pd.DataFrame({"d (px²)": [0.5]}), wide=True),
    ]
    if st.session_state.get("broken"):
        panels.insert(1, Panel("broken", "Broken", 3.5))
    show_panels(panels, "here")


def film_script() -> None:
    import numpy as np
    import plotly.graph_objects as go

    from lib import figures
    from lib.task import Film, Panel
    from lib.ui.panels import show_panels

    film = Film((figures.reel(np.zeros((2, 4, 4), np.uint8), "clip"),), ("0 s", "1 s"))
    show_panels([Panel("film", "A film", film), Panel("curve", "A curve", go.Figure(go.Scatter(y=[1, 2])))], "here")


def drawn(**session: object) -> AppTest:
    page = AppTest.from_function(script, default_timeout=20)
    for name, value in session.items():
        page.session_state[name] = value
    return page.run()


def test_figures_tables_and_texts_are_shown_with_title_and_explanation() -> None:
    page = drawn()
    assert not page.exception and not page.error
    texts = [element.value for element in page.markdown]
    assert [text for text in texts if text.startswith("#####")] == ["##### A curve", "##### Some words", "##### A table"]
    assert "**Bold** statement" in texts and page.caption[0].value == "It rises."
    assert list(page.dataframe[0].value["d (px²)"]) == [0.5] and len(figures(page)) == 1


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_figures_follow_the_theme(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.ui.panels.theme", lambda: mode)
    spec = json.loads(figures(drawn())[0])
    assert spec["layout"]["template"]["layout"]["font"]["color"] == TEMPLATES[mode].layout.font.color


def test_a_panel_that_cannot_be_drawn_leaves_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit as st

    markdown = st.markdown

    def refuse_numbers(body: object, **options: object) -> object:
        if not isinstance(body, str):
            raise TypeError("not a text")
        return markdown(body, **options)

    monkeypatch.setattr(st, "markdown", refuse_numbers)
    page = drawn(broken=True)
    assert len(page.error) == 1 and "could not be shown (TypeError)" in page.error[0].value
    assert len(figures(page)) == 1 and len(page.dataframe) == 1
    assert "not a text" in caplog.text


def test_a_film_is_played_in_the_readers_language_and_live_figures_are_redrawn_in_place() -> None:
    page = AppTest.from_function(film_script, default_timeout=20)
    page.session_state["language"] = "fr"
    page.run()
    assert not page.exception and not page.error
    film, curve = (element.proto for element in page.get("bidi_component"))
    told = json.loads(film.json)
    assert film.component_name == "film_player" and told["words"]["play"] == "Lire"
    assert told["film"]["labels"] == ["0 s", "1 s"] and told["film"]["reels"][0]["width_px"] == 4
    assert curve.component_name == "live_figure" and curve.id != film.id
    assert json.loads(json.loads(curve.json)["figure"])["data"][0]["y"] == [1, 2]
