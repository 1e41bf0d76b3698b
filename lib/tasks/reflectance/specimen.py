"""Specimens: scales that differ as those of one kind do in nature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lib.tasks.reflectance.scale import GROUND_COVER, KINDS, Scale

RELATIVE_SPREAD = {  # σ of the logarithm between specimens of one kind
    "ridge_period_nm": 0.10, "ridge_width_nm": 0.10, "ridge_height_nm": 0.12, "rib_period_nm": 0.10, "rib_width_nm": 0.12,
    "lamina_nm": 0.09, "air_gap_nm": 0.12, "pigment_k": 0.30, "quantum_yield": 0.30,
}  # fmt: skip
HIGHEST_RIDGE = 0.5  # in ridge periods; a ridge with shelves may be higher
HIGHEST_SHELVED = 1.8


def draw(kind: str | None, rng: np.random.Generator) -> Scale:
    """A specimen of one of KINDS; None draws the kind too."""
    name = kind if kind is not None else str(rng.choice(list(KINDS)))
    return vary(Scale(**KINDS[name], ground_cover=GROUND_COVER, kind=name), rng)


def vary(scale: Scale, rng: np.random.Generator, spread: float = 1.0) -> Scale:
    """A scale whose parameters differ from those given by `spread` times what is natural, and are still possible ones."""
    values: dict[str, Any] = {
        name: getattr(scale, name) * float(np.exp(spread * sigma * rng.normal())) for name, sigma in RELATIVE_SPREAD.items()
    }
    values["window_fill"] = float(np.clip(scale.window_fill + 0.06 * spread * rng.normal(), 0, 1))
    values["bead_density"] = scale.bead_density * max(0.1, 1 + 0.15 * spread * float(rng.normal()))
    more = 0.01 * spread * abs(float(rng.normal()))
    values["melanin"] = min(0.8, scale.melanin * float(np.exp(0.35 * spread * rng.normal())) + more)
    values["ground_cover"] = float(np.clip(scale.ground_cover + 0.15 * spread * rng.normal(), 0, 1))
    if scale.n_shelves and spread > 0:
        values["n_shelves"] = int(np.clip(scale.n_shelves + rng.integers(-1, 2), 1, 10))
    return _possible(replace(scale, **values)) if spread > 0 else scale


def _possible(scale: Scale) -> Scale:
    """Widths that leave room between two neighbours, and ridges that stand."""
    highest = (HIGHEST_SHELVED if scale.n_shelves else HIGHEST_RIDGE) * scale.ridge_period_nm
    return replace(
        scale,
        ridge_height_nm=min(scale.ridge_height_nm, highest),
        ridge_width_nm=min(scale.ridge_width_nm, 0.9 * scale.ridge_period_nm),
        rib_width_nm=min(scale.rib_width_nm, 0.9 * scale.rib_period_nm),
    )
