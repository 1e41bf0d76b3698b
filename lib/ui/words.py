"""What pages say, in the language of the session: English sentences are the keys of `fr.json` beside this file.

The reader chooses in the sidebar; the choice is kept in the session and in the address (`?lang=fr`). Before any choice the
browser's language decides. Numbers keep their decimal point, as in the tables and files that they are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from lib.words import LANGUAGES, Language, Say, speaker

LANGUAGE = "language"  # session: what the reader chose
SWITCH = "language-switch"  # its widget
LINKED = "language-linked"  # session: what the address said last
CHOICES = "language-choices"  # session: keys of the widgets whose options are words
PARAMETER = "lang"
CATALOGUES = Path(__file__).parent


def language() -> Language:
    """What the reader chose, else what the address or the browser asks for; English outside a session."""
    if get_script_run_ctx(suppress_warning=True) is None:
        return "en"
    chosen: Language | None = st.session_state.get(LANGUAGE)
    return chosen or _known(st.query_params.get(PARAMETER)) or browsers_language()


def browsers_language() -> Language:
    """French for a browser that prefers it, else English."""
    return "fr" if str(st.context.locale or "").lower().startswith("fr") else "en"


def _known(text: str | None) -> Language | None:
    return next((code for code in LANGUAGES if code == text), None)


def t(text: str, **values: Any) -> str:
    """An English text of the pages in the session's language, with the fields in braces filled."""
    return speaking()(text, **values)


def speaking() -> Say:
    """`t` in the language of now, for a thread that has no session."""
    now = language()
    return speaker(now, CATALOGUES / f"{now}.json")


def kept(key: str) -> str:
    """The widget key, noted: its choice stays when the language changes the words of its options."""
    st.session_state.setdefault(CHOICES, set()).add(key)
    return key


def one_of(label: str, options: Sequence[str], key: str) -> str:
    """A choice among English words, shown in the reader's language; the first is chosen at the start."""
    chosen: str = st.segmented_control(
        label, options, default=options[0], required=True, key=key, persist_state="session", format_func=speaking()
    )
    return chosen


# --- the switch ------------------------------------------------------------------------------------------------------
def settle_language() -> None:
    """Take the language that the address newly asks for, or the browser's; call first."""
    linked = _known(st.query_params.get(PARAMETER))
    if linked and linked != st.session_state.get(LINKED):
        st.session_state[LINKED] = st.session_state[LANGUAGE] = linked
    st.session_state.setdefault(LANGUAGE, browsers_language())


def language_switch() -> None:
    """The choice in the sidebar; what is not the browser's own language goes into the address, to be kept or sent."""
    now = language()
    st.session_state[SWITCH] = now
    st.sidebar.segmented_control(
        t("Language"), list(LANGUAGES), key=SWITCH, required=True, on_change=_chosen, format_func=LANGUAGES.__getitem__,
        label_visibility="collapsed",
    )  # fmt: skip
    wanted = "" if now == browsers_language() else now
    st.session_state[LINKED] = wanted
    if wanted and st.query_params.get(PARAMETER) != wanted:
        st.query_params[PARAMETER] = wanted
    elif not wanted and PARAMETER in st.query_params:
        del st.query_params[PARAMETER]


def _chosen() -> None:
    """Before the page is drawn in the new language: what was chosen by its word is still chosen by its value."""
    st.session_state[LANGUAGE] = st.session_state[SWITCH]
    for key in st.session_state.get(CHOICES, ()):
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]
