"""A link to where a run is best looked at: its sheet when it is done, else its training."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from lib.ui.context import plain, stage_page
from lib.ui.rundata import Overview


def run_link(row: Overview, titles: Mapping[str, str], more: str = "") -> None:
    """The run's name as a link, then `more` (Markdown). Plain text where the run's task is not installed."""
    label = plain(row.name) + more
    if row.run.task in titles:
        stage = "results" if row.state == "done" else "train"
        st.page_link(stage_page(row.run.task, stage), label=label, query_params={"run": row.run.id})
    else:
        st.markdown(label)
