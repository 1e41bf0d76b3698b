"""The pictures of simulated syrup: one sample, what shines in it, and the classes of a small population."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel
from lib.tasks.spectra.clean import Axis
from lib.tasks.spectra.clean_views import CLASS_COLOURS
from lib.tasks.spectra.config import Simulation
from lib.tasks.spectra.fluorophores import NAMES, SUBSTANCES, absorption_per_cm, emission_per_nm
from lib.tasks.spectra.population import Specimens, one_specimen
from lib.tasks.spectra.sample_views import grid, see_through, two_lines
from lib.tasks.spectra.simulate import (
    FLOAT,
    LN10,
    depth_cm,
    instruments,
    lamp_e,
    measure,
    raman_per_nm,
    scattered_per_nm,
    simulate_table,
    transmittance_percent,
)
from lib.tasks.spectra.table import EXCITATIONS, FLUORESCENCE_NM, INSTRUMENT, LSPR_NM, SEVERITIES, Channel
from lib.words import Say, english

CHANNEL_COLOURS = dict(zip(EXCITATIONS, (figures.PURPLE, figures.BLUE, figures.ACCENT)))
REPLICATES = 12  # samples of the same barrel drawn behind the first
POPULATION = 240
NEAR_PLATEAU = 0.5  # share of the plateau from which it is drawn
SHINING = tuple(k for k, substance in enumerate(SUBSTANCES) if substance.quantum_yield > 0)
SCATTER = "scattered light"  # Rayleigh and Raman
SUBSTANCE_COLOURS = {
    "tryptophan-like": figures.ACCENT, "phenolics": figures.ORANGE, "coumarins": figures.BLUE,
    "Maillard fluorophores": figures.AMBER, "melanoidins": figures.PURPLE, "caramel polymers": figures.PURPLE,
    "riboflavin": figures.SKY,
}  # fmt: skip
HATCHED = ("caramel polymers",)  # there are more substances than colours; both of these are brown polymers


def simulation_panels(config: Simulation, rng: np.random.Generator, say: Say = english) -> list[Panel]:
    """One simulated sample in all channels, what it is made of, and the classes of a population at these settings."""
    specimens, rows = one_specimen(config, REPLICATES, rng)
    channels = measure(specimens, rows[INSTRUMENT].to_numpy(), np.full(REPLICATES, config.lamp_age_days), config, rng)
    return [
        Panel(
            "sample", say("Simulated sample: three emission spectra"), _sample(channels, config, say),
            say("Bold: one simulated sample as the instrument reads it. Thin: other samples of the same barrel. Dotted lines: "
                "light scattered at the excitation, and its second order at twice that wavelength; thin lines may "
                "be cut."), True,
        ),
        Panel(
            "contributions", say("Simulated sample: what shines in it"), _contributions(specimens, config, say),
            say("Mean counts without noise, substance upon substance. All substances absorb, so more of one may mean less light "
                "from another (inner filter)."), True,
        ),
        Panel(
            "classes", say("Simulated classes"), _classes(config, rng, say),
            say("Mean and standard deviation of each true severity in a simulated population of {n} samples. The more "
                "they overlap, the harder they are to tell apart.", n=POPULATION), True,
        ),
        Panel(
            "lspr", say("Simulated LSPR absorbance"), _lspr(channels[-1], say),
            say("Gold nanoparticles with a drop of the simulated syrup. Off-flavours make particles clump: the peak at 520 nm "
                "falls and a shoulder near 640 nm grows."),
        ),
        Panel(
            "quantities", say("Simulated sample: in numbers"), _numbers(channels, specimens, config, say),
            say("What these settings mean for light in the cell and on the detector."), True,
        ),
    ]  # fmt: skip


# --- one sample -------------------------------------------------------------------------------------------------------
def _sample(channels: tuple[Channel, ...], config: Simulation, say: Say) -> go.Figure:
    """Fluorescence channels of the first sample over its replicates, with scatter lines and, when near, the plateau."""
    fig = figures.figure(height=400, xaxis_title=say("emission (nm)"), yaxis_title=say("reading (counts)"))
    x = FLUORESCENCE_NM.astype(FLOAT)
    gaps = np.full((REPLICATES - 1, 1), np.nan, dtype=FLOAT)
    highest = 0.0
    for channel in channels:
        if channel.name not in EXCITATIONS:
            continue
        colour = CHANNEL_COLOURS[channel.name]
        name = say("excitation {name} nm", name=channel.name)
        others = np.concatenate([channel.values[1:], gaps], axis=1).ravel()  # one trace, its curves apart
        fig.add_scatter(
            x=np.tile(np.r_[x, np.nan], REPLICATES - 1).astype(FLOAT), y=others, mode="lines", opacity=0.25,
            line={"color": colour, "width": 0.7}, hoverinfo="skip", showlegend=False, legendgroup=channel.name,
        )  # fmt: skip
        fig.add_scatter(
            x=x, y=channel.values[0], mode="lines", name=name, legendgroup=channel.name, line={"color": colour, "width": 2}
        )
        _mark_scatter(fig, float(channel.name), colour, say)
        highest = max(highest, float(channel.values[0].max()))
    if highest > NEAR_PLATEAU * config.plateau_counts:
        fig.add_hline(y=config.plateau_counts, line_dash="dash", line_color=figures.ORANGE,
                      annotation_text=say("saturation plateau"), annotation_position="top left")  # fmt: skip
    return fig.update_yaxes(range=[-0.03 * highest, 1.12 * highest])


def _mark_scatter(fig: go.Figure, excitation_nm: float, colour: str, say: Say) -> None:
    """Dotted lines at emission = excitation and at twice that, where the axis holds them."""
    for nm, text in ((excitation_nm, say("Rayleigh")), (2 * excitation_nm, say("2nd order"))):
        if FLUORESCENCE_NM[0] <= nm <= FLUORESCENCE_NM[-1]:
            fig.add_vline(
                x=nm, line_dash="dot", line_width=1.2, line_color=colour, annotation_text=text, annotation_position="top right",
                annotation_font_size=11,
            )  # fmt: skip


def contributions(specimens: Specimens, config: Simulation, excitation: str) -> dict[str, np.ndarray]:
    """Mean counts (446,) that each shining substance, and scattered light, give to one channel of the first specimen.

    Their sum is the channel without noise, reseating, dark drift and saturation.
    """
    instrument, nm = instruments(config)[config.instrument], float(excitation)
    true_nm = FLUORESCENCE_NM - instrument.axis_offset_nm
    amounts = specimens.concentrations[0]
    at_excitation = absorption_per_cm(np.array([nm]))[:, 0]
    depth = depth_cm(amounts @ absorption_per_cm(true_nm) + amounts @ at_excitation)
    counts = lamp_e(config, instrument, excitation, np.array([config.lamp_age_days]))[0] / config.e_per_count
    counts = counts * instrument.response(true_nm)
    shapes = emission_per_nm(true_nm)
    found = {NAMES[k]: LN10 * amounts[k] * at_excitation[k] * shapes[k] * depth * counts for k in SHINING}
    water = 1 - specimens.brix_deg[0] / 100
    raman = np.array([water, 1 - water]) @ raman_per_nm(nm, true_nm, config.bandpass_nm) * depth
    rayleigh = scattered_per_nm(specimens, nm, true_nm, config.bandpass_nm, config.second_order)[0]
    return found | {SCATTER: (raman + rayleigh) * counts}


def _contributions(specimens: Specimens, config: Simulation, say: Say) -> go.Figure:
    """Stacked contributions, one channel beside the other; the scatter line may be cut so that the rest can be seen."""
    fig, cells = grid(len(EXCITATIONS), columns=3, height=330)
    x = FLUORESCENCE_NM[::2].astype(FLOAT)
    for excitation, cell in zip(EXCITATIONS, cells):
        parts = contributions(specimens, config, excitation)
        for name, counts in parts.items():
            colour = SUBSTANCE_COLOURS.get(name, figures.GREY)
            pattern = "/" if name in HATCHED else ""
            fig.add_scatter(
                x=x, y=counts[::2].astype(FLOAT), mode="lines", stackgroup="parts", line={"width": 0.5, "color": colour},
                fillcolor=colour, fillpattern={"shape": pattern, "fgcolor": colour} if pattern else None, name=say(name),
                legendgroup=name, showlegend=cell["col"] == 1, **cell,
            )  # fmt: skip
        shining = sum(counts for name, counts in parts.items() if name != SCATTER)
        fig.update_yaxes(range=[0, 1.35 * float(np.max(shining))], **cell)
        fig.update_yaxes(title_text=say("mean reading (counts)") if cell["col"] == 1 else "", **cell)
        fig.update_xaxes(title_text=two_lines(say("emission (nm), excitation {name} nm", name=excitation)), **cell)
    return fig.update_layout(margin={"t": 72})


def _lspr(channel: Channel, say: Say) -> go.Figure:
    """Absorbance of the first sample over its replicates."""
    fig = figures.figure(height=340, xaxis_title=say("wavelength (nm)"), yaxis_title=say("absorbance (AU)"))
    x = LSPR_NM.astype(FLOAT)
    gaps = np.full((REPLICATES - 1, 1), np.nan, dtype=FLOAT)
    fig.add_scatter(
        x=np.tile(np.r_[x, np.nan], REPLICATES - 1).astype(FLOAT), y=np.concatenate([channel.values[1:], gaps], axis=1).ravel(),
        mode="lines", line={"color": figures.GREY, "width": 0.7}, opacity=0.5, hoverinfo="skip", name=say("same barrel"),
    )  # fmt: skip
    return fig.add_scatter(x=x, y=channel.values[0], mode="lines", line={"color": figures.AMBER, "width": 2}, name=say("sample"))


# --- classes ----------------------------------------------------------------------------------------------------------
def _classes(config: Simulation, rng: np.random.Generator, say: Say) -> go.Figure:
    """Mean ± standard deviation of each true severity, per channel."""
    table = simulate_table(config, POPULATION, rng)
    severity = table.rows["true_severity"].to_numpy(object)
    fig, cells = grid(len(table.channels), columns=2, height=270)
    for channel, cell in zip(table.channels, cells):
        x = channel.axis[::2].astype(FLOAT)
        for name in SEVERITIES:
            part = channel.values[severity == name][:, ::2]
            if not len(part):
                continue
            mean, spread = part.mean(axis=0), part.std(axis=0)
            fig.add_scatter(
                x=np.r_[x, x[::-1]], y=np.r_[mean - spread, (mean + spread)[::-1]], mode="lines", line_width=0, fill="toself",
                fillcolor=see_through(CLASS_COLOURS[name], 0.13), hoverinfo="skip", showlegend=False, legendgroup=name, **cell,
            )  # fmt: skip
            legend = say("{name} ({n})", name=name, n=len(part))
            fig.add_scatter(
                x=x, y=mean, mode="lines", line={"color": CLASS_COLOURS[name], "width": 1.8}, name=legend, legendgroup=name,
                showlegend=cell == {"row": 1, "col": 1}, **cell,
            )  # fmt: skip
        _name_axes(fig, channel, cell, say)
    return fig


def _name_axes(fig: go.Figure, channel: Channel, cell: dict[str, int], say: Say) -> None:
    """Titles, and a range that leaves the top of the scatter line out."""
    if channel.name not in EXCITATIONS:
        fig.update_xaxes(title_text=say("wavelength (nm)"), **cell)
        fig.update_yaxes(title_text=say("absorbance (AU)"), **cell)
        return
    fig.update_xaxes(title_text=two_lines(say("emission (nm), excitation {name} nm", name=channel.name)), **cell)
    fig.update_yaxes(title_text=say("reading (counts)"), **cell)
    values = channel.values[:, Axis(channel.name, channel.axis, channel.axis_unit).away]
    fig.update_yaxes(range=[0, 1.1 * float(np.quantile(values.max(axis=1), 0.95))], **cell)


# --- numbers ----------------------------------------------------------------------------------------------------------
def _numbers(channels: tuple[Channel, ...], specimens: Specimens, config: Simulation, say: Say) -> pd.DataFrame:
    """Absorption, depth and readings of the sample, with units."""
    rows = [
        (say("verdict of a perfect inspector"), config.quality, ""),
        (say("transmittance at 560 nm"), f"{transmittance_percent(specimens)[0]:.3g}", "%"),
        (say("dissolved sugar"), f"{specimens.brix_deg[0]:.3g}", "°Brix"),
    ]
    for channel in channels:
        if channel.name in EXCITATIONS:
            absorption = specimens.concentrations[0] @ absorption_per_cm(np.array([float(channel.name)]))[:, 0]
            depth_mm = 10 * float(depth_cm(np.array([2 * absorption]))[0])
            saturated = int((channel.values[0] >= config.plateau_counts).sum())
            rows += [
                (say("absorption at {name} nm", name=channel.name), f"{absorption:.3g}", "1/cm"),
                (say("depth that {name} nm light is seen from", name=channel.name), f"{depth_mm:.3g}", "mm"),
                (
                    say("largest reading, excitation {name} nm", name=channel.name),
                    f"{channel.values[0].max():.5g}",
                    say("counts"),
                ),
                (say("saturated points, excitation {name} nm", name=channel.name), str(saturated), ""),
            ]
    return pd.DataFrame(rows, columns=[say("quantity"), say("value"), say("unit")])
