"""From light to a screen and back: sRGB (IEC 61966-2-1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LINEAR_LIGHT, _LINEAR_SCREEN = 0.0031308, 0.04045  # below them screen values are proportional to light


def on_screen(blue_green_red: Sequence[float]) -> np.ndarray:
    """Red, green and blue levels uint8 (3,) of the light in B, G and R; what is not within 0 to 1 is cut."""
    light = np.clip(np.asarray(blue_green_red)[::-1], 0, 1)
    levels = np.where(light <= _LINEAR_LIGHT, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * levels).astype(np.uint8)


def light_of(screen: float) -> float:
    """Light of a screen value, both 0 to 1."""
    return screen / 12.92 if screen <= _LINEAR_SCREEN else ((screen + 0.055) / 1.055) ** 2.4
