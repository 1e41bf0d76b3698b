"""Learning curves of the task: the error of each channel over the epochs, as the original project drew them."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel
from lib.tasks.reflectance.config import CHANNELS

Say = Callable[..., str]


def curves(history: pd.DataFrame, best_epoch: int | None, say: Say) -> list[Panel]:
    """Mean absolute error of each channel, in pp, on training and validation images; nothing where one epoch is all there is."""
    known = [channel for channel in CHANNELS if f"mae_{channel}_pp" in history]
    if len(history) < 2 or not known:
        return []
    told = say("Mean absolute error of each channel; the dotted line is the epoch whose weights were kept.")
    if f"train_mae_{known[0]}_pp" in history:
        told += " " + say(
            "Training images are changed at random and parts of the network are left out while it learns, so their error may be "
            "the larger one."
        )
    return [Panel("channel-curves", say("Error of each channel"), channel_curves(history, best_epoch, say), told, wide=True)]


def channel_curves(history: pd.DataFrame, best_epoch: int | None, say: Say) -> go.Figure:
    """Ten small figures over the epochs; training in grey, validation in colour."""
    fig = figures.subplots(2, 5, subplot_titles=list(CHANNELS), horizontal_spacing=0.05, vertical_spacing=0.14, shared_xaxes=True)
    lines = {"train_mae_{}_pp": (say("train"), figures.GREY), "mae_{}_pp": (say("validation"), figures.ACCENT)}
    for k, channel in enumerate(CHANNELS):
        place = {"row": k // 5 + 1, "col": k % 5 + 1}
        for column, (name, colour) in lines.items():
            if column.format(channel) not in history:
                continue
            fig.add_scatter(
                x=history["epoch"], y=history[column.format(channel)], mode="lines", line_color=colour, name=name,
                legendgroup=name, showlegend=k == 0, hovertemplate="%{x}: %{y:.2f} pp", **place,
            )  # fmt: skip
        if best_epoch is not None:
            fig.add_vline(x=best_epoch, line_dash="dot", line_width=1, **place)
    fig.update_layout(height=500, legend={"x": 0, "y": -0.16, "yanchor": "top"})  # above it would cover the first title
    fig.update_xaxes(title_text=say("epoch"), row=2)
    return fig.update_yaxes(rangemode="tozero").update_yaxes(title_text="MAE (pp)", col=1)
