"""The pictures of a simulated scale: micrograph, swatches, spectrum, ten channels, a cut drawn to scale, and a sweep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel, View
from lib.tasks.reflectance import channels, render
from lib.tasks.reflectance.colour import on_screen
from lib.tasks.reflectance.config import CENTRE_NM, CHANNELS, FLUORESCENT, IMAGE_PX
from lib.tasks.reflectance.scale import Scale, Simulation
from lib.words import Say, english

SPAN_NM = (300.0, 1000.0)
STEPS_NM = ((1.4, 10.0), (2.0, 20.0), (np.inf, 35.0))  # of a spectrum, by the largest cell in µm²: waves cost their third power
SPECTRUM_ACCURACY = 0.8  # of the orders that the channels take
SWEEP_NM = np.arange(SPAN_NM[0], SPAN_NM[1] + 0.5, 25.0)
SWEEP_ACCURACY = 0.7
SWEEP_POINTS = 13
SWEEP_SPAN = (0.6, 1.6)  # of the value that is set
FRACTIONS = ("window_fill", "melanin", "pigment_k", "ground_cover")
CHANNEL_COLOURS = dict(zip(CHANNELS, (
    figures.PURPLE, figures.BLUE, figures.ACCENT, figures.ORANGE, figures.GREY, figures.GREY,
    figures.BLUE, figures.ACCENT, figures.ORANGE, figures.AMBER,
)))  # fmt: skip
ABOVE_NM, BELOW_NM = 150.0, 450.0  # air drawn above the ridges, and below the lamina, where its name stands


def simulation_panels(config: Simulation, rng: np.random.Generator, say: Say = english) -> list[Panel]:
    """The scale at exactly these settings, as a microscope sees it and cut across."""
    scale = config.scale()
    image = render.image(scale, rng, config.nm_per_px)
    return [
        Panel("micrograph", say("Simulated micrograph"), _micrograph(image, config.nm_per_px, say),
              say("Secondary electrons, {nm:g} nm/px. Ridges wander and ribs are staggered as on real scales; a new draw looks "
                  "at another place.", nm=config.nm_per_px)),
        Panel("cut", say("Cut across the ridges"), _cut(scale, say),
              say("Drawn to scale, between two cross-ribs. Light falls from above; the microscope sees no lower lamina.")),
    ]  # fmt: skip


def simulation_views(config: Simulation, say: Say = english) -> list[View]:
    """What light does to it: rigorous optics, which take a second or more."""
    scale = config.scale()
    views = [
        View(say("Simulated colour"), lambda: _colour_panel(scale, say)),
        View(say("Ten channels"), lambda: _bars_panel(scale, say)),
        View(say("Reflectance spectrum"), lambda: _spectrum_panel(scale, say)),
    ]
    if config.sweep != "none":
        told = say("Spectrum over {name}", name=say(in_words(config.sweep)))
        views.append(View(told, lambda: _sweep_panel(scale, config.sweep, say)))
    return views


def _colour_panel(scale: Scale, say: Say) -> Panel:
    told = say(
        "Reflectance 1 is white. Blue, green and red as they look together; ultraviolet and infrared as grey levels; "
        "fluorescence on a black ground."
    )
    return Panel("swatch", say("Simulated colour"), swatches(channels.measure(scale), say), told)


def _bars_panel(scale: Scale, say: Say) -> Panel:
    told = say("What is to be predicted from the micrograph. Fluorescence follows a simple rule, not a measurement.")
    return Panel("channels", say("Ten channels"), _bars(channels.measure(scale), say), told)


def _spectrum_panel(scale: Scale, say: Say) -> Panel:
    told = say(
        "Simulated: a perfectly periodic scale at normal incidence, on a ground scale and the wing membrane. Real scales are "
        "less regular, and their narrow peaks wider. Dotted: the six bands."
    )
    return Panel("spectrum", say("Reflectance spectrum"), _spectrum(scale, say), told, True)


# --- picture and colours ----------------------------------------------------------------------------------------------
def _micrograph(image: np.ndarray, nm_per_px: float, say: Say) -> go.Figure:
    """The image with axes in µm."""
    fig = figures.figure(height=420, margin={"l": 56, "r": 8, "t": 16, "b": 48})
    trace = figures.image(image, colours="gray")
    step_um = nm_per_px / 1000
    trace.update(
        x0=step_um / 2, y0=step_um / 2, dx=step_um, dy=step_um, hovertemplate="x %{x:.2f} µm<br>y %{y:.2f} µm<extra></extra>"
    )
    side_um = IMAGE_PX * step_um
    fig.add_trace(trace)
    fig.update_xaxes(title_text=say("x (µm)"), range=[0, side_um], showgrid=False, constrain="domain")
    return fig.update_yaxes(
        title_text=say("y (µm)"), range=[side_um, 0], showgrid=False, constrain="domain", scaleanchor="x", scaleratio=1
    )


def colour(blue: float, green: float, red: float) -> str:
    """Colour of linear B, G, R in 0 to 1 on a screen, as "rgb(…)"."""
    return "rgb({}, {}, {})".format(*on_screen((blue, green, red)))


def swatches(values: np.ndarray, say: Say = english) -> go.Figure:
    """Chips of ten channels (10,), fractions: B, G and R in one, UV and infrared as grey levels, fluorescence in one."""
    known = dict(zip(CHANNELS, (float(value) for value in values)))
    light = [known[name] for name in FLUORESCENT]
    chips = [
        (0.0, 1.0, 3.0, 2.0, colour(known["B"], known["G"], known["R"]), say("visible (B, G, R)")),
        (0.0, 0.0, 0.9, 0.9, _grey(known["UV"]), say("UV<br>{percent:.0f} %", percent=100 * known["UV"])),
        (1.05, 0.0, 0.9, 0.9, _grey(known["740"]), say("740 nm<br>{percent:.0f} %", percent=100 * known["740"])),
        (2.1, 0.0, 0.9, 0.9, _grey(known["940"]), say("940 nm<br>{percent:.0f} %", percent=100 * known["940"])),
        (3.15, 0.0, 1.35, 0.9, colour(*light), say("fluorescence")),
    ]  # fmt: skip
    fig = figures.figure(height=420, margin={"l": 8, "r": 8, "t": 16, "b": 8})
    for x, y, width, height, fill, text in chips:
        top = y + height * (1.25 if y else 1)
        fig.add_shape(type="rect", x0=x, x1=4.5 if y else x + width, y0=y + 0.25, y1=top, fillcolor=fill, line_width=1)
        fig.add_annotation(x=x, y=y + 0.22, text=text, showarrow=False, xanchor="left", yanchor="top", align="left")
    fig.update_xaxes(visible=False, range=[-0.05, 4.55])
    return fig.update_yaxes(visible=False, range=[-0.35, 3.6])


def _grey(value: float) -> str:
    return colour(value, value, value)


# --- light ------------------------------------------------------------------------------------------------------------
def spectrum_nm(scale: Scale) -> np.ndarray:
    """Wavelengths of the drawn spectrum: fewer for large cells, so that a page stays quick."""
    cell_um2 = scale.ridge_period_nm * scale.rib_period_nm / 1e6
    step = next(step for most, step in STEPS_NM if cell_um2 <= most)
    return np.arange(SPAN_NM[0], SPAN_NM[1] + 0.5, step)


def _spectrum(scale: Scale, say: Say) -> go.Figure:
    """Reflectance of both polarisations, with the bands of the channels."""
    at_nm = spectrum_nm(scale)
    reflectance = 100 * channels.spectrum(scale, at_nm, SPECTRUM_ACCURACY)
    fig = figures.figure(height=340, xaxis_title=say("wavelength (nm)"), yaxis_title=say("reflectance (%)"))
    for column, name, line in (
        (0, say("field across the ridges"), figures.ACCENT),
        (1, say("field along the ridges"), figures.BLUE),
    ):
        fig.add_scatter(x=at_nm, y=reflectance[:, column], mode="lines", name=name, line_color=line)
    for name, centre in CENTRE_NM.items():
        fig.add_vline(x=centre, line_dash="dot", line_width=1, annotation_text=name, annotation_position="top right")
    return fig.update_yaxes(range=[0, max(10.0, 1.08 * float(reflectance.max()))]).update_xaxes(range=list(SPAN_NM))


def _bars(values: np.ndarray, say: Say) -> go.Figure:
    """The ten channels in percent."""
    fig = figures.figure(height=340, yaxis_title=say("reflectance, or fluorescence (%)"))
    patterns = ["/" if name in FLUORESCENT else "" for name in CHANNELS]
    fig.add_bar(
        x=list(CHANNELS), y=100 * values, marker={"color": list(CHANNEL_COLOURS.values()), "pattern_shape": patterns},
        text=[f"{100 * value:.1f}" for value in values], textposition="outside", cliponaxis=False,
        hovertemplate="%{x}: %{y:.2f} %<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(type="category", tickangle=0, tickfont_size=10)
    return fig.update_yaxes(range=[0, max(10.0, 115 * float(values.max()))])


def _sweep_panel(scale: Scale, name: str, say: Say) -> Panel:
    """Spectra over one parameter as a map."""
    at, told = swept_values(scale, name), say(in_words(name))
    scales = [replace(scale, **dict[str, Any]({name: float(value)})) for value in at]
    rows = [channels.spectrum(one, SWEEP_NM, SWEEP_ACCURACY).mean(axis=1) for one in scales]
    fig = figures.figure(height=420, xaxis_title=say("wavelength (nm)"), yaxis_title=told)
    fig.add_heatmap(x=SWEEP_NM, y=at, z=100 * np.array(rows), zmin=0, colorbar={"title": say("reflectance (%)")},
                    hovertemplate="%{x} nm<br>%{y:.4g}<br>%{z:.1f} %<extra></extra>")  # fmt: skip
    fig.add_hline(y=getattr(scale, name), line_dash="dot", line_width=1, annotation_text=say("this scale"))
    explanation = say("Unpolarised reflectance while {name} varies and all else stays. Every {step:g} nm, and with fewer orders "
                      "than the channels.", name=told, step=float(SWEEP_NM[1] - SWEEP_NM[0]))  # fmt: skip
    return Panel("sweep", say("Spectrum over {name}", name=told), fig, explanation, True)


def in_words(name: str) -> str:
    """A parameter's name for an axis: "lamina (nm)" for lamina_nm."""
    return f"{name.removesuffix('_nm').replace('_', ' ')}{' (nm)' if name.endswith('_nm') else ''}"


def swept_values(scale: Scale, name: str) -> np.ndarray:
    """Values of one parameter around the scale's own; fractions and amounts from 0, and no wall wider than what holds it."""
    value = float(getattr(scale, name))
    if name in FRACTIONS or value == 0:
        most = {"melanin": 0.6, "pigment_k": 0.5, "bead_density": 2.0, "ridge_height_nm": 1000.0}.get(name, 1.0)
        return np.linspace(0, most, SWEEP_POINTS)
    low, high = SWEEP_SPAN[0] * value, SWEEP_SPAN[1] * value
    room = {"ridge_width_nm": scale.ridge_period_nm, "rib_width_nm": scale.rib_period_nm}
    needs = {"ridge_period_nm": scale.ridge_width_nm, "rib_period_nm": scale.rib_width_nm}
    return np.linspace(max(low, needs.get(name, 0) / 0.9), min(high, 0.9 * room.get(name, np.inf)), SWEEP_POINTS)


# --- the cut ----------------------------------------------------------------------------------------------------------
Box = tuple[float, float, float, float]  # x0, x1, z0, z1 in nm


def section(scale: Scale) -> dict[str, list[Box]]:
    """Boxes (x0, x1, z0, z1 in nm) of one ridge period, its ridge at 0: `wall` in the cut, behind it `rib` and `bead`.

    Heights count from the upper side of the cross-ribs.
    """
    half = scale.ridge_period_nm / 2
    core = scale.ridge_width_nm / 2
    closed = half - (half - core) * (1 - scale.window_fill)
    floor = -scale.lattice_nm - scale.air_gap_nm
    wall: list[Box] = [(-closed, closed, -scale.lattice_nm, 0.0), (-half, half, floor - scale.lamina_nm, floor)]
    if scale.ridge_height_nm > 0:
        wall.append((-core, core, 0.0, scale.ridge_height_nm))
    step = scale.ridge_height_nm / max(scale.n_shelves, 1)
    for number in range(scale.n_shelves):
        top = scale.ridge_height_nm - number * step
        wall.append((-scale.half_shelf_nm, scale.half_shelf_nm, top - channels.SHELF_SHARE * step, top))
    bead = channels.BEAD_NM[0] * scale.bead_density**0.5
    middles = [side * share * scale.ridge_period_nm for share, _ in channels.BEAD_PLACES for side in (-1, 1)]
    beads = [(middle - bead, middle + bead, -scale.lattice_nm, 0.0) for middle in middles if bead > 0]
    return {"rib": [(-half, half, -scale.lattice_nm, 0.0)], "bead": beads, "wall": wall}


def _cut(scale: Scale, say: Say) -> go.Figure:
    """The section over two periods, in µm with equal axes; the lamina is labelled as it is hidden from the microscope."""
    fig = figures.figure(height=340, xaxis_title=say("across the ridges (µm)"), yaxis_title=say("height (µm)"))
    shades = {
        "rib": ("#D9B380", say("cross-rib, behind")),
        "bead": (figures.AMBER, say("beads, behind")),
        "wall": ("#8A5A2B", say("wall")),
    }
    for name, boxes in section(scale).items():
        if not boxes:
            continue
        x: list[float | None] = []
        z: list[float | None] = []
        for x0, x1, z0, z1 in boxes:
            for shift in (-0.5, 0.5):
                moved = [(side + shift * scale.ridge_period_nm) / 1000 for side in (x0, x1, x1, x0, x0)]
                x += [*moved, None]
                z += [level / 1000 for level in (z0, z0, z1, z1, z0)] + [None]
        fill, told = shades[name]
        fig.add_scatter(x=x, y=z, fill="toself", fillcolor=fill, line={"width": 0}, mode="lines", name=told, hoverinfo="skip")
    floor = -scale.lattice_nm - scale.air_gap_nm
    for level, text in ((floor + scale.air_gap_nm / 2, say("air gap")), (floor - scale.lamina_nm, say("lower lamina"))):
        fig.add_annotation(x=0, y=level / 1000, text=text, showarrow=False, yanchor="middle" if level > floor else "top")
    fig.update_xaxes(range=[-scale.ridge_period_nm / 1000, scale.ridge_period_nm / 1000], showgrid=False, constrain="domain")
    lowest = floor - scale.lamina_nm - BELOW_NM
    highest = scale.ridge_height_nm + ABOVE_NM
    return fig.update_yaxes(
        range=[lowest / 1000, highest / 1000], showgrid=False, scaleanchor="x", scaleratio=1, constrain="domain"
    )
