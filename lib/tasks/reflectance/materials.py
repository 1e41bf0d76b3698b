"""Optical constants of what butterfly scales are made of. Refractive index n + iκ, κ ≥ 0 absorbs; wavelengths in nm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pigment:
    """A pigment of the scale: where it absorbs, and the shares of blue, green and red in what it emits under ultraviolet.

    Absorption has a peak; above it falls with `width_nm` (σ), below it stays at about half.
    """

    peak_nm: float
    width_nm: float
    emission_bgr: tuple[float, float, float]


# Peaks after absorption spectra of wing scales: pterins of pierids (Wijnen, Leertouwer & Stavenga 2007, J. Insect Physiol. 53,
# 1206), papiliochrome II (Wilts, Trzeciak, Vukusic & Stavenga 2012, J. Exp. Biol. 215, 796), ommochromes (Stavenga, Leertouwer &
# Wilts 2014, J. Exp. Biol. 217, 2171). Emission is phenomenological.
PIGMENTS = {
    "none": Pigment(300.0, 1.0, (0.60, 0.30, 0.10)),  # what chitin itself emits
    "leucopterin": Pigment(340.0, 28.0, (0.75, 0.22, 0.03)),
    "xanthopterin": Pigment(392.0, 34.0, (0.25, 0.65, 0.10)),
    "papiliochrome": Pigment(385.0, 36.0, (0.55, 0.38, 0.07)),
    "ommochrome": Pigment(480.0, 62.0, (0.05, 0.25, 0.70)),
}
BEAD_STRENGTH = 1.4  # pigment in a bead, relative to the same amount spread in a wall


def chitin_n(wavelength_nm: float) -> float:
    """Refractive index of chitin: Cauchy's A + B/λ² of Leertouwer, Wilts & Stavenga 2011, Opt. Express 19, 24061, abstract."""
    return 1.517 + 8.80e3 / wavelength_nm**2


def melanin_index(wavelength_nm: float) -> complex:
    """Complex index of melanin, as Jamin-Lebedeff interference microscopy gives it.

    The numbers are those of the project's design. The real part is within the 1.7 to 1.8 that Stavenga and colleagues measured in
    the visible (High refractive index of melanin in shiny occipital feathers of a bird of paradise); see also Stavenga et al.
    2012 (PLoS ONE 7, e49743).
    """
    return 1.648 + 2.37e4 / wavelength_nm**2 + 1j * melanin_kappa(wavelength_nm)


def melanin_kappa(wavelength_nm: float) -> float:
    """Imaginary part of melanin's index, 0.56 exp(−λ/270 nm), from the project's design."""
    return float(0.56 * np.exp(-wavelength_nm / 270.0))


def pigment_kappa(name: str, wavelength_nm: float) -> float:
    """Shape of a pigment's absorption, 1 at its peak; times the amount it is the imaginary part of the index. 0 for none."""
    if name == "none":
        return 0.0
    pigment = PIGMENTS[name]
    above = max(wavelength_nm - pigment.peak_nm, 0.0) / pigment.width_nm
    band = np.exp(-0.5 * ((wavelength_nm - pigment.peak_nm) / (1.6 * pigment.width_nm)) ** 2)
    return float(np.exp(-0.5 * above**2) * (0.55 + 0.45 * band))


def wall_permittivity(melanin: float, pigment: str, pigment_k: float, wavelength_nm: float) -> complex:
    """Permittivity of a wall of chitin with a share `melanin` of melanin by volume and `pigment_k` of a pigment.

    Indices are mixed by volume. At normal time dependence exp(−iωt), so that a positive imaginary part absorbs.
    """
    index = chitin_n(wavelength_nm) * (1 - melanin) + melanin * melanin_index(wavelength_nm)
    return complex((index + 1j * pigment_k * pigment_kappa(pigment, wavelength_nm)) ** 2)


def bead_permittivity(pigment: str, pigment_k: float, wavelength_nm: float) -> complex:
    """Permittivity of a pterin bead: denser than chitin and strongly coloured.

    The real part of the index, 1.75 + 12 000 nm²/λ², is an assumption of the project's design and not a measurement. It is kept
    below the extremes of Wilts, Steiner & Stavenga (APS March Meeting 2018, H54.1), who found more than 2 across the visible.
    """
    index = 1.75 + 1.2e4 / wavelength_nm**2 + 1j * BEAD_STRENGTH * pigment_k * pigment_kappa(pigment, wavelength_nm)
    return complex(index**2)
