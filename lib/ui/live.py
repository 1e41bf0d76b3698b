"""Figures that are drawn once, where they come into view, and redrawn where they stand.

`st.plotly_chart` makes a figure that changed anew and draws it three times over, some 0.1 s each. It is left where points are
picked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from lib.ui.words import t

LIBRARY = "figure-library"
_figure = st.components.v2.component(
    "live_figure", js=Path(__file__).with_name("live.js").read_text(encoding="utf-8"), isolate_styles=False
)


def bring_plotly() -> None:
    """Have the browser load the Plotly that comes with Streamlit: one empty figure, out of sight. Once on a page."""
    with st.container(key=LIBRARY):
        st.html(f"<style>.st-key-{LIBRARY} {{ display: none; }}</style>")
        st.plotly_chart(go.Figure(), key=f"{LIBRARY}-figure")


def live_figure(spec: str, key: str, config: dict[str, Any]) -> None:
    """A figure as JSON over the width of its column; one of the same key that is there already is redrawn in place."""
    _figure(key=key, data={"figure": spec, "config": config, "full": t("Full screen")})
