"""Lightbench in the browser: one section per task, one page per stage. Start it with `streamlit run app.py`."""

import streamlit as st

from lib import tasks
from lib.ui.context import PAGE_PATH, loaded_tasks, navigation_sections
from lib.ui.theme import set_look

set_look()
page = st.navigation(navigation_sections(loaded_tasks(tasks.names(), tasks.get)), expanded=True)
st.session_state[PAGE_PATH] = page.url_path
page.run()
