"""Lightbench in the browser: one section per task, one page per stage. Start it with `streamlit run app.py`."""

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from lib import tasks
from lib.ui.context import PAGE_PATH, loaded_tasks, navigation_sections
from lib.ui.opening import opening
from lib.ui.theme import set_look
from lib.ui.words import language_switch, settle_language

if __name__ == "__main__":  # one session draws its page
    settle_language()
    set_look()
    page = st.navigation(navigation_sections(loaded_tasks(tasks.names(), tasks.get)), expanded=True)
    st.session_state[PAGE_PATH] = page.url_path
    language_switch()
    page.run()
else:  # the server starts
    # Until the first st.navigation Streamlit takes a folder named pages for its old multipage mode, and refuses our addresses.
    PagesManager.uses_pages_directory = False
    app = st.App(__file__, lifespan=opening)
