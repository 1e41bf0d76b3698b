"""What absorbs and what shines in maple syrup: a table of substances with their absorption and emission spectra.

Positions and yields are those of the literature named with each substance; amounts are those of a typical amber syrup,
so that "relative concentration 1" means the absorption coefficients written here. Coefficients are decadic, per cm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LN2 = float(np.log(2))
EMISSION_GRID_NM = np.arange(250.0, 1001.0)  # wide enough that no emission band is cut: its integral is the quantum yield
TAIL_AT_NM = 420.0  # where browning is read in food science


@dataclass(frozen=True)
class Band:
    """A Gaussian absorption band: position and width in nm, decadic absorption coefficient at its peak in 1/cm."""

    peak_nm: float
    fwhm_nm: float
    peak_per_cm: float


@dataclass(frozen=True)
class Substance:
    """Absorption as bands plus a tail a₄₂₀·exp(−S(λ − 420 nm)), and one log-normal emission band with its quantum yield."""

    name: str
    source: str
    bands: tuple[Band, ...] = ()
    tail_per_cm: float = 0.0
    tail_slope_per_nm: float = 0.0
    emission_nm: float = 500.0
    emission_fwhm_nm: float = 100.0
    asymmetry: float = 1.3  # ρ: width of the red side over that of the blue side
    quantum_yield: float = 0.0  # 0: absorbs and does not shine


SUBSTANCES: tuple[Substance, ...] = (
    Substance(
        "tryptophan-like",
        "absorption 280 nm, emission 350 nm, yield 0.13: Lakowicz 2006, Principles of Fluorescence Spectroscopy, ch. 16",
        (Band(279.0, 30.0, 1.2),),
        emission_nm=350.0, emission_fwhm_nm=60.0, quantum_yield=0.13,
    ),
    Substance(
        "phenolics",
        "lignans and phenolic acids, Li & Seeram 2010, J. Agric. Food Chem. 58:11673; emission 320 nm: Clément, Lagacé &"
        " Panneton 2010, J. Food Eng. 97:17",
        (Band(280.0, 42.0, 6.0),),
        emission_nm=320.0, emission_fwhm_nm=55.0, quantum_yield=0.03,
    ),
    Substance(
        "coumarins",
        "scopoletin-like: found in maple syrup by Li & Seeram 2010; absorption 345 nm, emission 460 nm",
        (Band(345.0, 60.0, 0.3), Band(298.0, 45.0, 0.15)),
        emission_nm=460.0, emission_fwhm_nm=75.0, quantum_yield=0.3,
    ),
    Substance(
        "Maillard fluorophores",
        "early products of amino acids with sugars, excited near 360, shining near 440 nm: Monnier & Cerami 1981, Science"
        " 211:491",
        (Band(350.0, 80.0, 0.8),),
        emission_nm=440.0, emission_fwhm_nm=95.0, quantum_yield=0.03,
    ),
    Substance(
        "melanoidins",
        "brown polymers, exponential absorption, broad emission near 500 nm: Wang, Qian & Yao 2011, Food Chem. 128:573",
        tail_per_cm=1.2, tail_slope_per_nm=0.0125,
        emission_nm=500.0, emission_fwhm_nm=130.0, asymmetry=1.4, quantum_yield=0.01,
    ),
    Substance(
        "caramel polymers",
        "products of overheated sugar: flatter absorption and redder emission than melanoidins",
        tail_per_cm=0.25, tail_slope_per_nm=0.009,
        emission_nm=545.0, emission_fwhm_nm=140.0, asymmetry=1.4, quantum_yield=0.01,
    ),
    Substance(
        "riboflavin",
        "absorption 267, 372, 445 nm, emission 528 nm, yield 0.26: Weber & Teale 1957, Trans. Faraday Soc. 53:646",
        (Band(445.0, 70.0, 0.06), Band(372.0, 55.0, 0.05), Band(267.0, 30.0, 0.15)),
        emission_nm=528.0, emission_fwhm_nm=62.0, asymmetry=1.5, quantum_yield=0.26,
    ),
    Substance(
        "furfurals",
        "5-hydroxymethylfurfural, 284 nm, does not shine: White 1979, J. AOAC 62:509",
        (Band(284.0, 45.0, 3.5),),
    ),
)  # fmt: skip
NAMES: tuple[str, ...] = tuple(substance.name for substance in SUBSTANCES)


def gaussian(x: np.ndarray, centre: float, fwhm: float) -> np.ndarray:
    """Gaussian of height 1; `x`, `centre` and `fwhm` in one unit."""
    return np.exp(-4 * LN2 * ((x - centre) / fwhm) ** 2)


def log_normal_band(wavelength_nm: np.ndarray, peak_nm: float, fwhm_nm: float, asymmetry: float) -> np.ndarray:
    """Emission band of height 1 (log-normal: Siano & Metzler 1969, J. Chem. Phys. 51:1856).

    `asymmetry` = ρ > 1 is the ratio of the red to the blue half width; the full width at half maximum is `fwhm_nm`.
    """
    argument = 1 + (wavelength_nm - peak_nm) * (asymmetry**2 - 1) / (asymmetry * fwhm_nm)
    inside = argument > 0
    logarithm = np.log(np.where(inside, argument, 1.0))
    return np.where(inside, np.exp(-LN2 * (logarithm / np.log(asymmetry)) ** 2), 0.0)


def absorption_per_cm(wavelength_nm: np.ndarray) -> np.ndarray:
    """Decadic absorption coefficient of each substance at relative concentration 1: (substances, P), 1/cm.

    `wavelength_nm` is (P,). By Beer and Lambert's law a mixture's coefficient is `concentrations @ absorption_per_cm(λ)`.
    """
    rows = []
    for substance in SUBSTANCES:
        tail = substance.tail_per_cm * np.exp(-substance.tail_slope_per_nm * (wavelength_nm - TAIL_AT_NM))
        bands = (band.peak_per_cm * gaussian(wavelength_nm, band.peak_nm, band.fwhm_nm) for band in substance.bands)
        rows.append(sum(bands, start=tail))
    return np.stack(rows)


def emission_per_nm(wavelength_nm: np.ndarray) -> np.ndarray:
    """Photons emitted per absorbed photon and nm: (substances, P), 1/nm; the integral over all λ is the quantum yield.

    The shape does not depend on the excitation (Kasha's rule). `wavelength_nm` is (P,).
    """
    rows = []
    for substance in SUBSTANCES:
        shape = (substance.emission_nm, substance.emission_fwhm_nm, substance.asymmetry)
        area_nm = np.trapezoid(log_normal_band(EMISSION_GRID_NM, *shape), EMISSION_GRID_NM)
        rows.append(substance.quantum_yield / area_nm * log_normal_band(wavelength_nm, *shape))
    return np.stack(rows)
