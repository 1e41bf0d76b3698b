"""Choosing a finder and its parameters, and seeing what it marks."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import streamlit as st

from lib.task import Config, InputError, Task
from lib.ui.context import show_error
from lib.ui.desk import Desk, hold
from lib.ui.forms import config_form
from lib.ui.plate import FOUND, Shown
from lib.ui.predict import usable_models
from lib.ui.theme import number
from lib.ui.words import kept, t
from lib.ui.work import show_work

NONE = ""
MODEL = "model:"  # as the worker knows a finder that is the model of a run
MODELS_FOR_S = 10.0  # so long the list of runs is taken for true


def choose_finder(desk: Desk, *, none: bool = True) -> dict[str, Any] | None:
    """A finder with its parameters, as plain values; None where none is chosen, or a parameter is wrong."""
    options = [*([NONE] if none else []), *desk.task.finders, *models(desk)]
    if not desk.task.finders:
        return None
    key = desk.key("finder" if none else "finder-to-add")
    hold(key)
    name = st.selectbox(
        t("Finder"), options, key=kept(key), persist_state="session",
        format_func=lambda option: finder_title(desk, option) if option else t("none"),
    )  # fmt: skip
    if not name:
        return None
    if name.startswith(MODEL):
        return {"name": name, "parameters": {}}
    config: type[Config] = desk.task.finders[name]
    subject = t("settings of {name}", name=name)
    values = config_form(
        config, desk.key(f"finder-{name}-{none}"), columns=1, folded=("hidden", "more"), subject=subject, say=desk.task.say
    )
    return None if values is None else {"name": name, "parameters": values}


def models(desk: Desk) -> dict[str, str]:
    """Finders that are trained models, by name; of a task whose models judge things within samples."""
    if type(desk.task).parts is Task.parts:
        return {}
    if time.monotonic() - desk.models[0] > MODELS_FOR_S:
        desk.models = time.monotonic(), {f"{MODEL}{run.id}": run.name for run in usable_models(desk.task)}
    return desk.models[1]


def finder_title(desk: Desk, name: str) -> str:
    """What a finder is called: a model by the name of its run, others by their words among the task's labels."""
    if name.startswith(MODEL):
        return models(desk).get(name, name.removeprefix(MODEL))
    return desk.task.say(desk.task.labels.get(name, (name, ""))[0])


def searched(desk: Desk, asked: dict[str, Any]) -> pd.DataFrame | None:
    """What a finder marks in the picture at hand; None while that takes its time, or why it failed is told."""
    try:
        found = desk.search(asked)
        if found is None:
            show_work(desk.searching(asked), desk.key("finding"))
        return found
    except InputError as error:
        if desk.searching(asked).stop.is_set():
            st.info(t("Stopped as you asked. Nothing was changed."), icon=":material/stop_circle:")
        else:
            show_error(error)
        st.button(
            t("Find again"), key=desk.key("find-again"), icon=":material/refresh:", on_click=desk.search_again, args=(asked,)
        )
        return None


def found_marks(desk: Desk, asked: dict[str, Any] | None = None) -> list[Shown]:
    """What the chosen finder marks in the picture at hand; chosen here where it is not given."""
    asked = asked or choose_finder(desk)
    if asked is None:
        return []
    with st.spinner(t("Finding …"), show_time=True):
        found = searched(desk, asked)
    if found is None:
        return []
    st.caption(t("{n} marks found.", n=number(len(found))) if len(found) < 1000 else t("{n} marks found.", n=len(found)))
    return [Shown(finder_title(desk, asked["name"]), found, FOUND)]
