"""From kept real samples to simulator settings: real beside simulated, then the Simulate page or a training in one click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from lib.runs import create
from lib.task import Config, Panel, Task
from lib.ui.context import Jobs, WorkerLike, go_to
from lib.ui.forms import defaults, fill_form, spoken
from lib.ui.panels import show_panels
from lib.ui.predict import acquisition_key
from lib.ui.simulate import form_key
from lib.ui.words import t
from lib.ui.work import begin, busy, finished

SEED = 0


def calibrate_section(
    task: Task,
    worker: WorkerLike,
    folder: str,
    rows: Sequence[int],
    acquisition: Mapping[str, Any],
    jobs: Jobs,
) -> None:
    """The button, and what came of it. `rows` are the kept samples of `folder`."""
    key = f"{task.name}-clean-calibration"
    st.caption(t("Measure the kept samples and set the simulator alike, so that a model trained on simulated ones fits them."))
    if st.button(
        t("Match the simulator to these {n} samples", n=len(rows)), icon=":material/tune:", key=f"{key}-go",
        disabled=busy(f"{key}-work") or not rows, help=None if rows else t("Keep at least one sample."),
    ):  # fmt: skip
        with st.spinner(t("Matching …"), show_time=True):
            payload = {
                "task": task.name, "folder": folder, "rows": list(rows), "acquisition": dict(acquisition), "seed": SEED,
                "language": task.language,
            }  # fmt: skip
            st.session_state[f"{key}-rows"] = len(rows)
            begin(f"{key}-work", worker, "calibrate", payload, t("matching the simulator"))

    def keep(value: dict[str, Any]) -> None:
        st.session_state[key] = value | {"rows": st.session_state[f"{key}-rows"]}

    if finished(f"{key}-work", keep) and key in st.session_state:
        _result(task, st.session_state[key], key, jobs)


def _result(task: Task, value: dict[str, Any], key: str, jobs: Jobs) -> None:
    with st.container(horizontal=True):
        if st.button(t("Open in Simulate"), icon=":material/blur_on:", key=f"{key}-simulate"):
            fill_form(form_key(task), {name: rounded(setting) for name, setting in value["simulation"].items()})
            go_to(task.name, "simulate")
        if value["acquisition"] and st.button(
            t("Use as instrument settings"), icon=":material/photo_camera:", key=f"{key}-acquisition",
            help=t("Fills in what is known of the instrument here and on the Predict page."),
        ):  # fmt: skip
            fill_form(acquisition_key(task), {name: rounded(setting) for name, setting in value["acquisition"].items()})
            st.rerun()
        if st.button(
            t("Train a model for these conditions"), icon=":material/model_training:", type="primary", key=f"{key}-train",
            help=t("Starts a training in the background with the settings below over the default preset."),
        ):  # fmt: skip
            run = create(task.name, training_values(task, value["training"]), "calibrated")
            jobs.start(run)
            go_to(task.name, "train", run=run.id)
    show_panels([Panel.from_json(panel) for panel in value["panels"]], f"{key}-panels")
    left, middle, right = st.columns(3, gap="large")
    with left:
        _settings(t("Simulator"), task, task.Simulation, value["simulation"], f"{key}-table-simulation")
    with middle:
        _settings(t("Training"), task, task.Training, value["training"], f"{key}-table-training")
    with right:
        title = t("Instrument, as read from the samples")
        _settings(title, task, task.Acquisition, value["acquisition"], f"{key}-table-acquisition")
    st.caption(t("Read from {n} samples.", n=value["rows"]))


def rounded(value: Any) -> Any:
    """A measured number to four digits, as a person would type it; anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def training_values(task: Task, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training: defaults, the first preset, then what the calibration found. Raises InputError."""
    preset = next(iter(task.training_presets.values()), {})
    return task.Training.parse(defaults(task.Training) | dict(preset) | dict(changes), t("training settings")).model_dump()


def _settings(title: str, task: Task, config: type[Config], values: Mapping[str, Any], key: str) -> None:
    """Values by their labels with units."""
    labels = {entry.name: entry.label for entry in spoken(config, task.say)}
    rows = [(labels.get(name, name), value) for name, value in values.items() if value is not None]
    st.markdown(f"###### {title}")
    if not rows:
        st.caption(t("Nothing to set."))
        return
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for _, value in rows]
    table = pd.DataFrame({t("setting"): [label for label, _ in rows], t("value"): texts})
    st.dataframe(table, hide_index=True, key=key)
