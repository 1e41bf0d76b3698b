"""Search by colour: how near predicted channels are to what somebody looks for."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.tasks.reflectance.colour import light_of
from lib.tasks.reflectance.config import CHANNELS

_COLOUR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


def parse_target(text: str) -> dict[str, float]:
    """Channels that are looked for, as fractions: `#3060c0` gives R, G and B, `B=0.4, 940=0.1` what it says; empty for "".

    Raises ValueError with a sentence.
    """
    words = [word for word in re.split(r"[,;\s]+", text.strip()) if word]
    found: dict[str, float] = {}
    for word in words:
        colour = _COLOUR.fullmatch(word)
        if colour:
            found |= {name: light_of(int(part, 16) / 255) for name, part in zip("RGB", colour.groups())}
            continue
        name, sign, value = word.partition("=")
        known = {channel.casefold(): channel for channel in CHANNELS}.get(name.casefold())
        try:
            fraction = float(value)
        except ValueError:
            fraction = float("nan")
        if not sign or known is None or not 0 <= fraction <= 1:
            raise ValueError(f"{word!r} is neither a colour as #3060c0 nor a channel with a fraction from 0 to 1, as B=0.4; "
                             f"channels are {', '.join(CHANNELS)}")  # fmt: skip
        found[known] = fraction
    return found


def ranked(table: pd.DataFrame, target: Mapping[str, float]) -> pd.DataFrame:
    """Row numbers and `distance_pp`, nearest first: root mean square over the target's channels, in percentage points."""
    off = np.stack([table[channel].to_numpy(float) - value for channel, value in target.items()], 1)
    distance = 100 * np.sqrt(np.square(off).mean(1))
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    return pd.DataFrame({"row": order, "distance_pp": distance[order]})
