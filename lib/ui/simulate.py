"""The Simulate page: settings on the left, what they look like on the right, redrawn at once; files to take away."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from lib.task import Config, InputError, Panel, Task
from lib.threads import one_thread
from lib.ui.commands import changed, command, show_command
from lib.ui.context import guard, page_header, plain, stage_url
from lib.ui.files import zip_folder
from lib.ui.forms import config_form, fill_form
from lib.ui.panels import show_panel, show_panels
from lib.ui.words import t

MAX_FILES = 500  # more than that is work for the command line: a ZIP is made in memory
MAX_SEED = 2**31 - 1


def simulate_page(task: Task) -> None:
    """Everything below the menu."""
    purpose = t("What a measurement looks like at given settings. {summary}", summary=task.say(task.summary))
    page_header(t("Simulate"), purpose, task)
    with guard():
        _take_link(task)
    _workbench(task)


def form_key(task: Task) -> str:
    """Where the settings live; `fill_form` with it sets them from another page."""
    return f"{task.name}-simulate"


@st.fragment
def _workbench(task: Task) -> None:
    """Form and pictures; a fragment, so that a moved slider redraws this and nothing else."""
    with guard():
        left, right = st.columns([1, 2.3], gap="large")
        with left:
            seed = _seed(task)
            values = config_form(
                task.Simulation, form_key(task), task.simulation_presets, columns=1, sliders=True,
                subject=t("simulation settings"), say=task.say, reader=task.name,
            )  # fmt: skip
        with right:
            if values is None:
                text = t("The picture comes back when the value marked in the settings is mended.")
                st.info(text, icon=":material/arrow_back:")
                return
            config = task.Simulation.parse(values)
            show_panels(_panels(task, config, seed), f"{task.name}-simulate-panels")
            _slow_panels(task, config)
        with left:
            _take_away(task, config, seed)


def _seed(task: Task) -> int:
    """The seed field and the button for another draw."""
    key = f"{task.name}-simulate-seed"

    def draw() -> None:
        st.session_state[key] = (int(st.session_state.get(key) or 0) + 1) % MAX_SEED

    number, button = st.columns([1, 1], vertical_alignment="bottom")
    seed = number.number_input(
        t("Seed"), 0, MAX_SEED, 0, key=key, persist_state="session", help=t("The same seed draws the same picture.")
    )
    button.button(t("New draw"), on_click=draw, key=f"{key}-draw", icon=":material/casino:", width="stretch")
    return int(seed or 0)


def _panels(task: Task, config: Config, seed: int) -> list[Panel]:
    """The pictures, kept until the settings, the seed, the task or its language change."""
    drawn_for = (task.name, task.language, config.model_dump_json(), seed)
    kept = st.session_state.get("simulate-drawn")
    if kept is None or kept[0] != drawn_for:
        rng = np.random.default_rng(seed)
        # What is compiled or loaded for the first picture may take seconds.
        waiting = st.spinner(t("Drawing the first sample …"), show_time=True) if kept is None else nullcontext()
        with waiting, one_thread():  # one sample is little work, and the browser on the same machine wants to draw it
            panels = task.simulation_panels(config, rng)
        kept = st.session_state["simulate-drawn"] = drawn_for, panels
        return panels
    drawn: list[Panel] = kept[1]
    return drawn


def _slow_panels(task: Task, config: Config) -> None:
    """What takes longer, one after the other with its title and the time it takes; kept until the settings change."""
    drawn_for = (task.name, task.language, config.model_dump_json())
    kept = st.session_state.get("simulate-slow")
    if kept is None or kept[0] != drawn_for:
        kept = st.session_state["simulate-slow"] = drawn_for, {}
    made: dict[int, Panel] = kept[1]
    cells: list[Any] = []
    for number, view in enumerate(task.simulation_views(config)):
        if number not in made:
            with st.spinner(t("{title}: computing …", title=view.title), show_time=True):
                made[number] = view.make()
        if made[number].wide:
            cells = [st.container()]
        with (cells := cells or list(st.columns(2, gap="medium"))).pop(0), guard():
            show_panel(made[number], f"{task.name}-simulate-slow-{made[number].key}")


# --- taking away -----------------------------------------------------------------------------------------------------
def _take_away(task: Task, config: Config, seed: int) -> None:
    """Simulated files with their truth, the command that makes the same, and a link to these settings."""
    st.markdown(f"##### {t('Take away')}")
    n = st.number_input(
        t("How many"), 1, MAX_FILES, 10, key=f"{task.name}-simulate-n", persist_state="session",
        help=t("Simulated samples in the ZIP, each drawn anew at these settings, with the true values in truth.csv. "
               "For more than {most} use the command line.", most=MAX_FILES),
    )  # fmt: skip
    count = int(n or 1)
    st.download_button(
        t("Download as files"), lambda: simulated_files(task, config, count, seed),
        f"{task.name}-simulated-{count}-seed{seed}.zip",
        "application/zip", key=f"{task.name}-simulate-files", on_click="ignore", icon=":material/download:", width="stretch",
    )  # fmt: skip
    settings = changed(config)
    words = ["simulate", task.name, "--n", str(count), "--seed", str(seed), "--output", f"{task.name}-simulated"]
    show_command(command(words, settings))
    link = stage_url(task.name, "simulate", seed=str(seed), **{key: str(value) for key, value in settings.items()})
    with st.expander(t("Link to these settings"), icon=":material/link:"):
        st.code(link, language=None, wrap_lines=True)


def simulated_files(task: Task, config: Config, n: int, seed: int) -> bytes:
    """A ZIP of n simulated samples as the task's own files, and `truth.csv`; the same seed gives the same samples."""
    samples = task.simulate(config, n, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory(prefix="lightbench-") as folder:
        task.write(samples, Path(folder))
        return zip_folder(Path(folder))


# --- links -----------------------------------------------------------------------------------------------------------
def _take_link(task: Task) -> None:
    """Settings and seed in the address fill the form, once for each address."""
    given = {key: st.query_params[key] for key in (*task.Simulation.model_fields, "seed") if key in st.query_params}
    if not given or st.session_state.get("simulate-link") == (task.name, given):
        return
    st.session_state["simulate-link"] = (task.name, dict(given))
    seed = given.pop("seed", "")
    if seed.isdecimal() and int(seed) <= MAX_SEED:
        st.session_state[f"{task.name}-simulate-seed"] = int(seed)
    fill_form(form_key(task), linked_values(task, given))


def linked_values(task: Task, given: dict[str, str]) -> dict[str, Any]:
    """Every field of the form, those of the link over the defaults. A bad value is a sentence and changes nothing."""
    try:
        return task.Simulation.parse(given, t("settings in the address")).model_dump()
    except InputError as error:
        text = t("The settings in the address were not taken. {why}", why=plain(str(error)))
        st.warning(text, icon=":material/link_off:")
        return {}
