"""Learning curves: of one run while it trains, of several side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lib.figures import ACCENT, COLOURS, curves, figure
from lib.runs import Status
from lib.ui.forms import without_unit
from lib.ui.words import t
from lib.words import Say, english

WORDS = {word: word.upper() for word in ("rms", "rmse", "mae", "auc", "ece", "d", "f1")}
WORDS |= {"percent": "(%)", "pp": "(pp)", "r2": "R²"}
LOSSES = {"train_loss": "training", "validation_loss": "validation"}


def loss_curves(metrics: pd.DataFrame, status: Status, log_y: bool) -> go.Figure:
    """Training and validation loss in one figure; a loss that falls below zero keeps a linear axis."""
    present = [metrics[column] for column in LOSSES if column in metrics]
    positive = all(bool((values > 0).all()) for values in present)
    fig = _in_words(curves(metrics, {column: t(word) for column, word in LOSSES.items()}, t("loss"), status.best_epoch))
    return fig.update_layout(height=290, margin_t=44, legend_y=1.08).update_yaxes(type="log" if log_y and positive else "linear")


def _in_words(fig: go.Figure) -> go.Figure:
    """The words that `curves` puts in, in the reader's language."""
    return fig.update_xaxes(title_text=t("epoch")).for_each_annotation(lambda mark: mark.update(text=t("best")))


def monitor_curve(metrics: pd.DataFrame, status: Status, say: Say = english) -> go.Figure:
    """The value that selects the model, on validation, with the best epoch marked."""
    names = {status.metric: t("validation")}
    fig = _in_words(curves(metrics, names, axis_title(status.metric, status.unit, say), status.best_epoch))
    return fig.update_traces(line_color=ACCENT).update_layout(height=290)


def overlay(runs: Mapping[str, pd.DataFrame], column: str, title: str, log_y: bool = False) -> go.Figure:
    """One column of several runs against the epoch; the keys name the lines, `title` the axis."""
    fig = figure(height=340, xaxis_title=t("epoch"), yaxis_title=title, hovermode="x unified")
    drawn = {name: metrics for name, metrics in runs.items() if column in metrics and len(metrics)}
    for i, (name, metrics) in enumerate(drawn.items()):
        mode = "lines" if len(metrics) > 1 else "markers"
        fig.add_scatter(x=metrics["epoch"], y=metrics[column], name=name, mode=mode, line_color=COLOURS[i % len(COLOURS)])
    positive = all(bool((metrics[column] > 0).all()) for metrics in drawn.values())
    return fig.update_yaxes(type="log" if log_y and positive else "linear")


def axis_title(name: str, unit: str, say: Say = english) -> str:
    """A name in words, its unit in brackets."""
    return f"{words(name, unit, say)} ({unit})" if unit else words(name, "", say)


def words(name: str, unit: str = "", say: Say = english) -> str:
    """`rmse_um` in `µm` becomes "RMSE", or what the task's catalogue has for the name."""
    told = say(name)
    if told != name:
        return told
    return " ".join(WORDS.get(word, word) for word in without_unit(name, unit).split("_"))
