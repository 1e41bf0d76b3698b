"""Figures of a finished prediction: frames with their peaks, hits over the run, virtual powder, resolution."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import InputError, Panel, Samples
from lib.tasks.bragg import files
from lib.tasks.bragg.frame_views import frame_figure, places_in_run
from lib.words import Say, english

MOST_FRAMES = 3  # that are shown, those with the most peaks first
POWDER_BINS = 250  # to the frame's longer side
MOST_POINTS = 20_000


def prediction_panels(table: pd.DataFrame, samples: Samples, judged: pd.DataFrame, say: Say = english) -> list[Panel]:
    """Panels of predicted frames: `table` has a row per frame, `judged` one per peak, `of` its row."""
    if table["n_peaks"].notna().sum() == 0:
        return [Panel("nothing", say("Nothing to show"), say("No frame could be read."))]
    return [
        Panel("summary", say("The run"), _summary(table, judged, say), say("Hits are frames with enough expected peaks.")),
        *_frames(table, samples, judged, say),
        *(
            [Panel("run", say("Peaks over the run"), _over_run(table, say), say("Each point is a frame; hits are coloured."))]
            if len(table) > 1
            else []
        ),
        *_of_all_peaks(judged, len(table), say),
    ]


def _summary(table: pd.DataFrame, judged: pd.DataFrame, say: Say) -> pd.DataFrame:
    read = table[table["n_peaks"].notna()]
    inside = read.loc[read["is_hit"].astype(bool), "n_peaks"].astype(float)
    hits = len(inside)
    values = {
        say("frames"): f"{len(read):,}",
        say("hits"): f"{hits:,} ({hits / len(read):.1%})",
        say("peaks"): f"{len(judged):,}",
        say("peaks in a hit, median"): f"{np.median(inside):.0f}" if hits else "–",
        say("frames unlike the training"): f"{int((~read['in_domain'].astype(bool)).sum()):,}",
        say("frames not read"): f"{len(table) - len(read):,}",
    }
    return pd.DataFrame({"": list(values), say("value"): list(values.values())})


def _frames(table: pd.DataFrame, samples: Samples, judged: pd.DataFrame, say: Say) -> list[Panel]:
    """The frames with the most peaks, as far as they can still be read."""
    order = table["n_peaks"].fillna(-1).astype(float).argsort(kind="stable")[::-1][:MOST_FRAMES]
    panels = []
    for row in order:
        try:
            frame = files.frame_at(samples, int(row))
        except InputError:
            continue
        mine = judged[judged["of"] == row]
        y, x = mine["y_px"].to_numpy(), mine["x_px"].to_numpy()
        fig = frame_figure(frame, [(say("peaks"), figures.ORANGE, y, x)])
        title = say("{file} · frame {n}", file=table["file"].iloc[row], n=int(table["frame"].iloc[row]))
        panels.append(Panel(f"frame-{row}", title, fig, say("Logarithmic; circles are peaks."), wide=True))
    return panels


def _over_run(table: pd.DataFrame, say: Say) -> go.Figure:
    fig = figures.figure(xaxis_title=say("frame of the run"), yaxis_title=say("peaks"))
    hit, places = table["is_hit"].fillna(False).astype(bool).to_numpy(), places_in_run(table)
    for kind, colour, name in ((True, figures.ORANGE, say("hit")), (False, figures.GREY, say("no hit"))):
        rows = np.flatnonzero((hit == kind) & table["n_peaks"].notna().to_numpy())
        if len(rows):
            n = table["n_peaks"].to_numpy()[rows].astype(float)
            fig.add_scattergl(x=places[rows], y=n, mode="markers", name=name, marker={"color": colour, "size": 5})
    return fig


def _of_all_peaks(judged: pd.DataFrame, n_frames: int, say: Say) -> list[Panel]:
    """Where peaks were and at which resolution, over all frames."""
    if judged.empty:
        return []
    panels = []
    if n_frames > 1:
        fig = figures.figure(height=460)
        some = judged.iloc[:: -(-len(judged) // MOST_POINTS)]
        marker = {"size": 3, "color": figures.ACCENT, "opacity": 0.4}
        fig.add_scattergl(x=some["x_px"], y=some["y_px"], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)
        shape = (int(judged["y_px"].max()) + 2, int(judged["x_px"].max()) + 2)
        told = say("The peaks of all frames together: rings of ice or salt, and bad pixels that are always found, show here.")
        panels.append(Panel("powder", say("Virtual powder"), figures.pixel_axes(fig, shape), told))
    d = judged["resolution_angstrom"].dropna()
    if len(d):
        fig = figures.figure(xaxis_title="1/d² (1/Å²)", yaxis_title=say("peaks"))
        fig.add_histogram(x=1 / d**2, nbinsx=40, marker_color=figures.ACCENT, showlegend=False)
        told = say("The best 1 % of peaks reach {d} Å.", d=f"{d.quantile(0.01):.2f}")
        panels.append(Panel("resolution", say("Resolution of the peaks"), fig, told))
    fig = figures.figure(xaxis_title=say("score"), yaxis_title=say("peaks"))
    fig.add_histogram(x=judged["score"], nbinsx=30, marker_color=figures.ACCENT, showlegend=False)
    told = say("The probability that each is a Bragg peak, as the model was calibrated.")
    return [*panels, Panel("scores", say("How certain"), fig, told)]
