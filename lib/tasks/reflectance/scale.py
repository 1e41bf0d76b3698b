"""The model of a wing scale: its parameters, the settings of the Simulate page, and ten kinds of scales."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from pydantic import model_validator

from lib.task import Config, option
from lib.tasks.reflectance.config import COMMON_NM_PER_PX

PigmentName = Literal["none", "leucopterin", "xanthopterin", "papiliochrome", "ommochrome"]
Swept = Literal[
    "none", "ridge_period_nm", "ridge_width_nm", "ridge_height_nm", "rib_period_nm", "rib_width_nm", "window_fill",
    "bead_density", "lamina_nm", "air_gap_nm", "melanin", "pigment_k", "ground_cover",
]  # fmt: skip
LATTICE_NM = 130.0  # thickness of the layer of cross-ribs
BEADS_NM = 190.0  # the same with beads
SHELF_REACH = 0.24  # how far a shelf stands out of the ridge on either side, in ridge periods
WIDEST_SHELF = 0.42  # half of the widest shelf, in ridge periods


@dataclass(frozen=True)
class Scale:
    """One scale, in the order of config.VISIBLE and config.HIDDEN; light and electrons come from above.

    Ridges run along y, one `ridge_period_nm` apart; cross-ribs along x join them; between lie windows, open but for the share
    `window_fill`. Below an air gap lies the lower lamina. Melanin is a volume share, `pigment_k` the peak of the pigment's κ.
    """

    ridge_period_nm: float
    ridge_width_nm: float
    ridge_height_nm: float
    rib_period_nm: float
    rib_width_nm: float
    window_fill: float
    bead_density: float
    n_shelves: int
    lamina_nm: float
    air_gap_nm: float
    melanin: float
    pigment_k: float
    quantum_yield: float
    ground_cover: float
    pigment: str = "none"
    kind: str = ""

    @property
    def lattice_nm(self) -> float:
        """Thickness of the layer of cross-ribs."""
        return BEADS_NM if self.bead_density > 0 else LATTICE_NM

    @property
    def half_shelf_nm(self) -> float:
        """From the middle of a ridge to the rim of its shelves."""
        return min(WIDEST_SHELF * self.ridge_period_nm, self.ridge_width_nm / 2 + SHELF_REACH * self.ridge_period_nm)


class Simulation(Config):
    """One scale. The page shows exactly these settings; files hold specimens that differ by `spread`."""

    ridge_period_nm: float = option(1900.0, "From ridge to ridge", unit="nm", group="visible", ge=400, le=3000)
    ridge_width_nm: float = option(330.0, "Width of a ridge", unit="nm", group="visible", ge=40, le=1500)
    ridge_height_nm: float = option(550.0, "Height of a ridge above the cross-ribs", unit="nm", group="visible", ge=0, le=2500)
    rib_period_nm: float = option(620.0, "From cross-rib to cross-rib", unit="nm", group="visible", ge=200, le=1000)
    rib_width_nm: float = option(150.0, "Width of a cross-rib", unit="nm", group="visible", ge=30, le=600)
    window_fill: float = option(0.05, "Share of the windows between ridges that is closed", group="visible", ge=0, le=1)
    bead_density: float = option(0.0, "Pigment beads on the cross-ribs, relative to a pierid; 0 is none", group="visible",
                                 ge=0, le=2)  # fmt: skip
    n_shelves: int = option(0, "Shelves on either flank of a ridge, as Morpho has them", group="visible", ge=0, le=10)

    lamina_nm: float = option(190.0, "Thickness of the lower lamina, a thin film", unit="nm", group="hidden", ge=20, le=600)
    air_gap_nm: float = option(900.0, "From the cross-ribs down to the lower lamina", unit="nm", group="hidden", ge=200, le=3000)
    melanin: float = option(0.02, "Melanin in the walls, by volume", group="hidden", ge=0, le=0.8)
    pigment: PigmentName = option("none", "Pigment of the walls, or of the beads where there are beads", group="hidden")
    pigment_k: float = option(0.0, "Amount of pigment: its κ at the peak", group="hidden", ge=0, le=0.8)
    quantum_yield: float = option(0.05, "Share of absorbed ultraviolet that is emitted again", group="hidden", ge=0, le=1)
    ground_cover: float = option(0.75, "Share of the wing below that a second scale covers", group="hidden", ge=0, le=1)

    nm_per_px: float = option(COMMON_NM_PER_PX, "Pixel size of the image", unit="nm/px", group="data", ge=10, le=100)
    sweep: Swept = option("none", "Parameter to vary in a map of spectra; takes some seconds", group="data")
    views: int = option(1, "Images of each specimen, in files", group="data", ge=1, le=20)
    spread: float = option(
        1.0, "How much specimens differ, in files: 1 as in nature, 0 not at all. The page shows the settings themselves",
        group="data", ge=0, le=3,
    )  # fmt: skip
    all_kinds: bool = option(False, "Specimens of all ten kinds in turn, in files, instead of this one", group="data")
    kind: str = option("", "What the specimens are called in the column kind", group="data", max_length=40)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for width, period in (("ridge_width_nm", "ridge_period_nm"), ("rib_width_nm", "rib_period_nm")):
            if getattr(self, width) > 0.9 * getattr(self, period):
                raise ValueError(
                    f"{width} = {getattr(self, width):g} leaves no room between two of them; "
                    f"at most 0.9 × {period} = {0.9 * getattr(self, period):g}"
                )
        return self

    def scale(self) -> Scale:
        """The scale at exactly these settings."""
        return Scale(**{field.name: getattr(self, field.name) for field in fields(Scale)})


def _kind(visible: tuple[float, ...], hidden: tuple[float, ...], pigment: str) -> dict[str, Any]:
    """One kind of scales from its parameters in the order of Scale; all but ground cover, which is the default."""
    names = [field.name for field in fields(Scale)]
    values = dict(zip(names, (*visible, *hidden))) | {"pigment": pigment}
    return values | {"n_shelves": int(values["n_shelves"])}


# Typical dimensions of what is told of scales of these groups in the literature, such as Ghiradella 1998 (Hairs, bristles and
# scales, in Microscopic Anatomy of Invertebrates 11A) and Stavenga, Leertouwer & Wilts 2014 (J. Exp. Biol. 217, 2171).
KINDS: dict[str, dict[str, Any]] = {
    # ridge period, width, height; rib period, width; fill, beads, shelves | lamina, gap, melanin, pigment, quantum yield
    "nymphalid blue": _kind((1900, 330, 550, 620, 150, 0.05, 0, 0), (190, 900, 0.02, 0.0, 0.05), "none"),
    "nymphalid black": _kind((1700, 380, 700, 560, 170, 0.10, 0, 0), (185, 900, 0.45, 0.0, 0.01), "none"),
    "nymphalid orange": _kind((1850, 340, 600, 600, 190, 0.15, 0, 0), (245, 1000, 0.03, 0.10, 0.10), "ommochrome"),
    "pierid white": _kind((1550, 250, 450, 520, 110, 0.0, 1.0, 0), (215, 800, 0.0, 0.16, 0.15), "leucopterin"),
    "pierid yellow": _kind((1450, 240, 450, 500, 100, 0.0, 1.15, 0), (205, 800, 0.0, 0.18, 0.30), "xanthopterin"),
    "morpho": _kind((760, 110, 1250, 600, 90, 0.0, 0, 6), (170, 500, 0.12, 0.0, 0.02), "none"),
    "papilionid": _kind((1250, 260, 500, 430, 190, 0.30, 0, 0), (200, 1500, 0.05, 0.20, 0.45), "papiliochrome"),
    "silver": _kind((2050, 230, 350, 650, 120, 0.95, 0, 0), (155, 1300, 0.0, 0.0, 0.08), "none"),
    "moth brown": _kind((1350, 360, 650, 470, 170, 0.25, 0, 0), (225, 700, 0.25, 0.03, 0.05), "papiliochrome"),
    "lycaenid": _kind((1150, 220, 400, 390, 150, 0.55, 0, 2), (140, 600, 0.08, 0.02, 0.10), "papiliochrome"),
}  # fmt: skip
GROUND_COVER = 0.75
SIMULATION_PRESETS: dict[str, dict[str, Any]] = {
    **{name: values | {"kind": name, "all_kinds": False} for name, values in KINDS.items()},
    "all kinds": {"all_kinds": True},
}
SWEPT = tuple(name for name in get_args(Swept) if name != "none")
