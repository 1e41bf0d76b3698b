"""Choosing a finder and its parameters, and seeing what it marks."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lib.task import Config
from lib.ui.desk import Desk, hold
from lib.ui.forms import config_form
from lib.ui.plate import FOUND, Shown
from lib.ui.theme import number
from lib.ui.words import kept, t

NONE = ""


def choose_finder(desk: Desk, *, none: bool = True) -> dict[str, Any] | None:
    """A finder with its parameters, as plain values; None where none is chosen, or a parameter is wrong."""
    options = [*([NONE] if none else []), *desk.task.finders]
    if not desk.task.finders:
        return None
    key = desk.key("finder" if none else "finder-to-add")
    hold(key)
    name = st.selectbox(
        t("Finder"), options, key=kept(key), persist_state="session",
        format_func=lambda option: desk.task.say(option) if option else t("none"),
    )  # fmt: skip
    if not name:
        return None
    config: type[Config] = desk.task.finders[name]
    subject = t("settings of {name}", name=name)
    values = config_form(
        config, desk.key(f"finder-{name}-{none}"), columns=1, folded=("hidden",), subject=subject, say=desk.task.say
    )
    return None if values is None else {"name": name, "parameters": values}


def found_marks(desk: Desk, asked: dict[str, Any] | None = None) -> list[Shown]:
    """What the chosen finder marks in the picture at hand; chosen here where it is not given."""
    asked = asked or choose_finder(desk)
    if asked is None:
        return []
    with st.spinner(t("Finding …"), show_time=True):
        found = desk.marks(asked)
    st.caption(t("{n} marks found.", n=number(len(found))) if len(found) < 1000 else t("{n} marks found.", n=len(found)))
    return [Shown(desk.task.say(asked["name"]), found, FOUND)]
