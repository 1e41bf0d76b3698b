"""Learning curves: of one run while it trains, of several side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lib.figures import ACCENT, COLOURS, curves, figure
from lib.runs import Status
from lib.ui.forms import without_unit

WORDS = {word: word.upper() for word in ("rms", "rmse", "mae", "auc", "ece", "d")} | {"percent": "(%)"}
LOSSES = {"train_loss": "training", "validation_loss": "validation"}


def loss_curves(metrics: pd.DataFrame, status: Status, log_y: bool) -> go.Figure:
    """Training and validation loss in one figure; a loss that falls below zero keeps a linear axis."""
    present = [metrics[column] for column in LOSSES if column in metrics]
    positive = all(bool((values > 0).all()) for values in present)
    fig = curves(metrics, LOSSES, "loss", status.best_epoch)
    return fig.update_layout(height=290, margin_t=44, legend_y=1.08).update_yaxes(type="log" if log_y and positive else "linear")


def monitor_curve(metrics: pd.DataFrame, status: Status) -> go.Figure:
    """The value that selects the model, on validation, with the best epoch marked."""
    names = {status.metric: "validation"}
    fig = curves(metrics, names, axis_title(status.metric, status.unit), status.best_epoch)
    return fig.update_traces(line_color=ACCENT).update_layout(height=290)


def overlay(runs: Mapping[str, pd.DataFrame], column: str, unit: str, log_y: bool = False) -> go.Figure:
    """One column of several runs against the epoch; the keys name the lines."""
    fig = figure(height=340, xaxis_title="epoch", yaxis_title=axis_title(column, unit), hovermode="x unified")
    drawn = {name: metrics for name, metrics in runs.items() if column in metrics and len(metrics)}
    for i, (name, metrics) in enumerate(drawn.items()):
        fig.add_scatter(x=metrics["epoch"], y=metrics[column], name=name, mode="lines", line_color=COLOURS[i % len(COLOURS)])
    positive = all(bool((metrics[column] > 0).all()) for metrics in drawn.values())
    return fig.update_yaxes(type="log" if log_y and positive else "linear")


def axis_title(name: str, unit: str) -> str:
    """A name in words, its unit in brackets."""
    return f"{words(name, unit)} ({unit})" if unit else words(name)


def words(name: str, unit: str = "") -> str:
    """`rmse_um` in `µm` becomes "RMSE"."""
    return " ".join(WORDS.get(word, word) for word in without_unit(name, unit).split("_"))
