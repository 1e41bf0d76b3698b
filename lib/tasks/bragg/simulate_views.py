"""The pictures of a simulated frame: its spots, its radial profile, how strong its spots are, and what its settings mean."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel, Samples
from lib.tasks.bragg import crystal, detector, files, frame_views
from lib.tasks.bragg.config import Simulation
from lib.tasks.bragg.frames import Frame
from lib.words import Say, english

STRONG_SNR = 5.0
SNR_RANGE = (0.1, 1e4)


def simulation_panels(sample: Samples, config: Simulation, say: Say = english) -> list[Panel]:
    """Panels of the first frame of `sample`, simulated with `config`."""
    frame = files.frame_at(sample, 0)
    truth = truth_of(sample, 0)
    strong = truth["snr"] >= STRONG_SNR
    marks = [
        (name, colour, truth["y_px"][rows].to_numpy(), truth["x_px"][rows].to_numpy())
        for name, colour, rows in (
            (say("strong spots"), figures.ACCENT, strong), (say("weak spots"), figures.AMBER, ~strong),
        )
    ]  # fmt: skip
    return [
        Panel(
            "frame", say("Simulated frame"), _frame_figure(frame, marks), say(
            "Logarithmic contrast. Strong spots have I/σ of 5 or more, weak ones less: no finder sees them all. Click a name in "
            "the legend to hide its circles. Dotted: resolution."), True,
        ),
        Panel(
            "profile", say("Radial profile"), frame_views.profile_figure(frame, say), say(
            "Mean and largest reading at each distance from the beam. The hump of the mean is the solvent ring; narrow humps are "
            "ice or powder."),
        ),
        Panel(
            "snr", say("How strong the spots are"), _snr_figure(truth, say), say(
            "I/σ of every spot: its photons over the noise of itself and of the background under it."),
        ),
        Panel("numbers", say("In numbers"), numbers(frame, truth, config, say),
              say("What these settings mean on the detector."), True),
    ]  # fmt: skip


def truth_of(samples: Samples, row: int) -> pd.DataFrame:
    """`y_px, x_px, intensity, snr, resolution_angstrom` of the spots of one simulated frame."""
    about = samples.table.iloc[row]
    names = ("y_px", "x_px", "intensity", "snr", "resolution_angstrom")
    return pd.DataFrame({name: np.asarray(about[f"true_{name}"], float) for name in names})


def _frame_figure(frame: Frame, marks: list[tuple[str, str, np.ndarray, np.ndarray]]) -> go.Figure:
    """The frame with its spots; weak ones, the last, wait in the legend."""
    fig = frame_views.frame_figure(frame, marks)
    for trace in fig.data:
        if trace.name is not None and trace.name.startswith(marks[-1][0]):
            trace.visible = "legendonly"
    return fig


def _snr_figure(truth: pd.DataFrame, say: Say) -> go.Figure:
    """Histogram of the spots' I/σ on a logarithmic axis."""
    edges = np.linspace(np.log10(SNR_RANGE[0]), np.log10(SNR_RANGE[1]), 41)
    values = np.log10(truth["snr"].clip(*SNR_RANGE))
    middle = 10 ** ((edges[1:] + edges[:-1]) / 2)
    fig = figures.figure(xaxis_title="I/σ", yaxis_title=say("spots"), xaxis_type="log", height=320, bargap=0)
    colours = np.where(middle >= STRONG_SNR, figures.ACCENT, figures.AMBER)
    widths = 10 ** edges[1:] - 10 ** edges[:-1]
    fig.add_bar(
        x=middle, y=np.histogram(values, edges)[0], width=widths, marker_color=colours, hovertemplate=f"%{{y}} {say('spots')}"
    )
    fig.add_vline(x=STRONG_SNR, line_dash="dash", line_width=1)
    at = float(np.log10(STRONG_SNR))  # where a logarithmic axis has its annotations
    return fig.add_annotation(x=at, y=1, yref="paper", yanchor="bottom", text=f"I/σ = {STRONG_SNR:g}", showarrow=False)


def numbers(frame: Frame, truth: pd.DataFrame, config: Simulation, say: Say = english) -> pd.DataFrame:
    """`quantity, value, unit` of beam, detector, spots and background."""
    height, width = frame.geometry.shape
    strong = truth[truth["snr"] >= STRONG_SNR]
    rows, columns = np.mgrid[: height : max(height // 64, 1), : width : max(width // 64, 1)]
    seen = frame.geometry.resolution_angstrom(rows.ravel(), columns.ravel())
    sigma = crystal.Rocking.of(config).sigma(np.array(0.2), config.wavelength_angstrom)
    spacing = config.distance_mm * 1000 / detector.hardware(config).px_size_um * config.wavelength_angstrom
    longest = max(config.cell_a_angstrom, config.cell_b_angstrom, config.cell_c_angstrom)
    background = (float(np.median(frame.pixels[frame.mask])) if frame.mask.any() else np.nan) - config.pedestal_adu
    told = [
        (say("wavelength"), f"{config.wavelength_angstrom:.4g}", "Å"),
        (say("detector"), f"{height} × {width}", "px"),
        (say("pixel size"), f"{frame.geometry.px_size_um:g}", "µm"),
        (say("resolution in the farthest corner"), f"{np.nanmin(seen):.3g}", "Å"),
        (say("neighbouring spots along the longest axis"), f"{spacing / longest:.3g}", "px"),
        (say("rocking width σ at 5 Å"), f"{np.rad2deg(float(sigma) / 0.2):.3g}", "°"),
        (say("background (median)"), f"{background / config.adu_per_photon:.3g}", say("photons/px")),
        (say("spots, and those of I/σ ≥ 5"), f"{len(truth)}, {len(strong)}", ""),
        (say("finest resolution of a strong spot"), f"{strong['resolution_angstrom'].min():.3g}" if len(strong) else "–", "Å"),
        (say("masked"), f"{100 * (1 - frame.mask.mean()):.3g}", "%"),
    ]
    return pd.DataFrame(told, columns=[say("quantity"), say("value"), say("unit")])
