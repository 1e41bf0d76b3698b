"""The figures of a sweep, Optuna's own in the look of the bench and the reader's language, and the table of its trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from plotly.colors import sample_colorscale

from lib.figures import ACCENT, GREY, SEQUENTIAL
from lib.sweeps import Sweep
from lib.sweeps.study import Trial, load, trials_of
from lib.task import Task
from lib.ui.curves import axis_title
from lib.ui.words import t

if TYPE_CHECKING:
    import optuna

ENOUGH = 2  # trials trained to their end, before settings can be compared
ENOUGH_FOR_IMPORTANCE = 5


@st.cache_resource(ttl=600, max_entries=16, show_spinner=False)
def _read(folder: str, stamp: tuple[int, int], _sweep: Sweep) -> tuple[optuna.Study, list[Trial]]:
    study = load(_sweep)
    return study, trials_of(study)


def read(sweep: Sweep) -> tuple[optuna.Study, list[Trial]]:
    """The study and its trials; read again only when the journal has grown."""
    found = (sweep.folder / "journal.log").stat()
    return _read(str(sweep.folder), (found.st_mtime_ns, found.st_size), sweep)


def history(study: optuna.Study, task: Task, sweep: Sweep) -> go.Figure:
    """Value of each trial in the order in which they were taken, and the best so far."""
    from optuna.visualization import plot_optimization_history

    metric = sweep.metric
    title = axis_title(metric.name, metric.unit, task.say)
    fig = plot_optimization_history(study, target_name=title)
    for trace, name, colour in zip(fig.data, (t("each trial"), t("best so far")), (GREY, ACCENT)):
        trace.update(name=name, marker_color=colour, line_color=colour)
    fig.for_each_trace(lambda trace: trace.update(showlegend=False, visible=False), {"name": "Infeasible Trial"})
    for trace in fig.data:
        trace.x = [number + 1 for number in ([] if trace.x is None else trace.x)]  # readers count from 1
    return _plain(fig, 320).update_layout(xaxis_title=t("trial"), yaxis_title=title)


def slices(study: optuna.Study, task: Task, sweep: Sweep) -> go.Figure:
    """Value against each setting that varies."""
    from optuna.visualization import plot_slice

    metric = sweep.metric
    fig = _quiet(plot_slice, study, target_name=axis_title(metric.name, metric.unit, task.say))
    bar = {"title": {"text": t("trial")}}
    for trace in fig.data:
        trace.marker.color = [number + 1 for number in ([] if trace.marker.color is None else trace.marker.color)]
        trace.update(marker_colorbar=bar, marker_colorscale=SEQUENTIAL)
    return _plain(fig, 320)


def parallel(study: optuna.Study, task: Task, sweep: Sweep) -> go.Figure:
    """One line per trial through its settings and its value."""
    from optuna.visualization import plot_parallel_coordinate

    metric = sweep.metric
    fig = _quiet(plot_parallel_coordinate, study, target_name=axis_title(metric.name, metric.unit, task.say))
    for trace in fig.data:  # a line begins at its value, 0 to 1 of the axis
        if trace.mode == "lines":
            trace.update(line_color=sample_colorscale(SEQUENTIAL, [float(trace.y[0])])[0], opacity=0.8)
    fig.update_traces(marker_colorscale=SEQUENTIAL, marker_reversescale=False, selector={"mode": "markers"})
    fig.update_annotations(font_color=GREY)
    return _plain(fig, 380).update_layout(plot_bgcolor="rgba(0,0,0,0)", margin_t=40)


def importances(study: optuna.Study) -> go.Figure:
    """How much of the difference between good trials and others each setting explains, by PED-ANOVA."""
    from optuna.visualization import plot_param_importances

    fig = _quiet(plot_param_importances, study, target_name=t("share"))
    fig.update_traces(marker_color=ACCENT)
    return _plain(fig, 320).update_layout(xaxis_title=t("share of the explained difference"), yaxis_title="")


def _quiet(plot: Any, *arguments: Any, **options: Any) -> go.Figure:
    """Without what Optuna thinks of new parts of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plot(*arguments, **options)


def _plain(fig: go.Figure, height: int) -> go.Figure:
    """Without Optuna's title: the page has one of its own."""
    return fig.update_layout(title=None, height=height, margin={"l": 56, "r": 16, "t": 32, "b": 48})


def ranked(trials: Sequence[Trial], sweep: Sweep) -> list[Trial]:
    """Trained to their end first, the best first among them."""
    sign = 1 if sweep.metric.goal == "min" else -1
    return sorted(trials, key=lambda one: (one.state != "done", one.value is None, sign * (one.value or 0.0), one.number))


def trials_table(trials: Sequence[Trial], task: Task, sweep: Sweep) -> pd.DataFrame:
    """One row per trial: number, state, value, epochs, and the settings that vary."""
    metric = sweep.metric
    table = pd.DataFrame(
        {
            t("trial"): [trial.number + 1 for trial in trials],
            t("state"): [t(trial.state) for trial in trials],
            axis_title(metric.name, metric.unit, task.say): pd.array([trial.value for trial in trials], dtype="Float64"),
            t("epochs"): [trial.epochs for trial in trials],
        }
    )
    for name in sweep.plan().vary:
        table[name] = [trial.params.get(name) for trial in trials]
    return table
