"""The limits that a benchmark's figures are held to."""

from __future__ import annotations

import math


class Limits:
    """Collects what misses its limit while figures are printed."""

    def __init__(self) -> None:
        self.missed = 0

    def show(self, name: str, value: float, low: float, high: float) -> None:
        """Print one figure beside the range it has to be in."""
        kept = low <= value <= high
        self.missed += not kept
        wanted = f"≤ {high:g}" if low == -math.inf else f"≥ {low:g}" if high == math.inf else f"{low:g} … {high:g}"
        print(f"{name:<62} {value:9.3f}   {wanted:<14} {'ok' if kept else 'MISSED'}")
