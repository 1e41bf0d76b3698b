"""The look that `.streamlit/config.toml` cannot hold: page settings, logo, and the words for states."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import streamlit as st

from lib import __version__
from lib.ui.words import t

FOLDER = Path(__file__).parent
Colour = Literal["red", "orange", "yellow", "blue", "green", "violet", "gray", "primary"]
STATES: dict[str, tuple[Colour, str]] = {  # state: colour and icon of its badge
    "queued": ("gray", ":material/schedule:"),
    "running": ("blue", ":material/progress_activity:"),
    "done": ("green", ":material/check:"),
    "failed": ("red", ":material/error:"),
    "cancelled": ("gray", ":material/block:"),
    "shipped": ("violet", ":material/inventory_2:"),
    "lost": ("orange", ":material/link_off:"),
}


def set_look() -> None:
    """Page settings, logo and narrow windows; `About` also keeps the menu with the choice between light and dark."""
    about = t("Simulate, clean, train, review and predict for scientific measurements, on your own machine. Nothing leaves it.")
    menu: Any = {"About": f"### Lightbench {__version__}\n{about}"}
    st.set_page_config("Lightbench", str(FOLDER / "mark.svg"), layout="wide", menu_items=menu)
    st.logo(str(FOLDER / "logo.svg"), size="large", icon_image=str(FOLDER / "mark.svg"))
    st.html(FOLDER / "narrow.css")


def state_badge(state: str) -> None:
    """The badge of a run's state."""
    colour, icon = STATES.get(state, ("gray", ":material/help:"))
    st.badge(t(state), icon=icon, color=colour)


def duration(seconds: float | None) -> str:
    """`95` becomes "1 min 35 s"; None an en dash."""
    if seconds is None:
        return "–"
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return t("{days} d {hours} h", days=whole // 86_400, hours=whole % 86_400 // 3600)


def number(value: float | None, unit: str = "") -> str:
    """Three significant digits with the unit; None an en dash."""
    if value is None:
        return "–"
    return f"{value:.3g} {unit}".strip()
