"""Spectra of maple syrup from its substances: absorption, emission, inner filter, scatter, instrument and detector.

Each step is one function. Light enters the front face of a cell 1 cm deep and is collected from the same face, so it is
absorbed on its way in (primary inner-filter effect) and on its way out (secondary). Wavelengths are in nm, absorption
coefficients decadic in 1/cm, light in photo-electrons of a typical reading, readings in counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.tasks.spectra.config import InstrumentName, Simulation
from lib.tasks.spectra.fluorophores import LN2, absorption_per_cm, emission_per_nm, gaussian
from lib.tasks.spectra.population import Specimens, draw_population, one_specimen
from lib.tasks.spectra.table import DATE, EXCITATIONS, FLUORESCENCE_NM, INSTRUMENT, LSPR_NM, Channel, SpectraTable

FLOAT = np.float32
CHUNK = 2000  # samples computed at once: three working arrays of 4 MB
LN10 = float(np.log(10))
CELL_CM = 1.0
COLOUR_NM = 560.0  # where syrup is graded by colour, through 1 cm (CFIA, Canadian Standards of Identity, vol. 6)
ADC_MAX = 65_535

# Photo-electrons per unit of emitted light with a new lamp, so that a typical syrup reads up to 500–1000 counts in each channel.
LAMP_E: dict[str, float] = {"277": 7.5e7, "380": 7.2e7, "425": 1.0e8}
LAMP_WEAR: dict[str, float] = {"277": 1.5, "380": 1.0, "425": 0.8}  # the ultraviolet end of an arc lamp fades first
PARTICLES_PER_CM = 0.010  # scattered back by a typical syrup at 400 nm
RAMAN = (  # shift and width in 1/cm, scatter in 1/cm at 400 nm excitation, of: water or sugar
    (3400.0, 400.0, 1.5e-3, "water"),  # O–H stretch (Lawaetz & Stedmon 2009, Appl. Spectrosc. 63:936)
    (2930.0, 90.0, 3.0e-4, "sugar"),  # C–H stretch
)


@dataclass(frozen=True)
class Instrument:
    """A fluorimeter: what it reads as λ is truly λ − `axis_offset_nm`; its response and lamps are relative to instrument A."""

    name: str
    axis_offset_nm: float
    log_response: tuple[float, ...]  # ln of the sensitivity: Legendre coefficients over the emission range
    log_lamp: tuple[float, float, float]  # ln of the lamp at 277, 380, 425 nm

    def response(self, emission_nm: np.ndarray) -> np.ndarray:
        """Sensitivity at true wavelengths (P,), about 1."""
        middle, half = FLUORESCENCE_NM.mean(), np.ptp(FLUORESCENCE_NM) / 2
        return np.exp(np.polynomial.legendre.legval((emission_nm - middle) / half, self.log_response))


def instruments(config: Simulation) -> dict[InstrumentName, Instrument]:
    """The two fluorimeters. A is the reference; B differs by its axis, its response and its lamps."""
    d = config.response_difference
    return {
        "A": Instrument("A", 0.0, (0.0, 0.05, -0.25), (0.0, 0.0, 0.0)),
        "B": Instrument(
            "B", config.axis_offset_nm, (0.0, 0.05 - 0.2 * d, -0.25 + 0.1 * d, 0.05 * d), (-0.1 * d, 0.12 * d, 0.05 * d)
        ),
    }


# --- light in the cell ------------------------------------------------------------------------------------------------
def depth_cm(absorption: np.ndarray) -> np.ndarray:
    """Depth from which light comes back: (1 − exp(−μL))/μ with μ = ln 10 · absorption, L = 1 cm; same shape, in cm.

    `absorption` (1/cm, decadic) is that of the way in plus that of the way out. The limits are L in a clear cell and 1/μ in
    a dark one (front-face fluorometry: Eisinger & Flores 1979, Anal. Biochem. 94:15).
    """
    optical = np.maximum(LN10 * CELL_CM * absorption, FLOAT(1e-6))
    return -np.expm1(-optical) / optical * CELL_CM


def line_per_nm(wavelength_nm: np.ndarray, centre_nm: float, fwhm_nm: float) -> np.ndarray:
    """A spectral line as the instrument shows it, of area 1: 95 % Gaussian and 5 % Lorentzian for the stray wings."""
    half = fwhm_nm / 2
    lorentzian = half / np.pi / ((wavelength_nm - centre_nm) ** 2 + half**2)
    height = 2 * np.sqrt(LN2 / np.pi) / fwhm_nm
    return 0.95 * height * gaussian(wavelength_nm, centre_nm, fwhm_nm) + 0.05 * lorentzian


def raman_per_nm(excitation_nm: float, emission_nm: np.ndarray, bandpass_nm: float) -> np.ndarray:
    """Raman bands of pure water and of pure sugar, scatter per cm and nm: (2, P).

    A band lies at 1/λ = 1/λ_ex − shift, and scatter falls with the fourth power of the wavelength.
    """
    bands = {"water": np.zeros_like(emission_nm), "sugar": np.zeros_like(emission_nm)}
    for shift_per_cm, width_per_cm, strength, matter in RAMAN:
        centre_nm = 1e7 / (1e7 / excitation_nm - shift_per_cm)
        width_nm = np.hypot(width_per_cm * centre_nm**2 / 1e7, bandpass_nm)
        bands[matter] += strength * (400 / excitation_nm) ** 4 * line_per_nm(emission_nm, centre_nm, float(width_nm))
    return np.stack([bands["water"], bands["sugar"]])


def emitted_per_nm(specimens: Specimens, excitation_nm: float, emission_nm: np.ndarray, bandpass_nm: float = 5.0) -> np.ndarray:
    """Fluorescence and Raman light that leaves the cell, relative to the light that enters, per nm: float32 (n, P).

    F(λ) = Σ_k [ln 10 · c_k a_k(λ_ex) Φ_k g_k(λ) + Raman] · depth(A(λ_ex) + A(λ)): linear in concentration where the cell is
    clear, and settling at the substance's share of all absorption where it is dark.
    """
    amounts = specimens.concentrations.astype(FLOAT)
    at_excitation = absorption_per_cm(np.array([excitation_nm]))[:, 0].astype(FLOAT)
    water = (1 - specimens.brix_deg / 100).astype(FLOAT)
    sources = np.column_stack([FLOAT(LN10) * amounts * at_excitation, water, 1 - water])
    shapes = np.vstack([emission_per_nm(emission_nm), raman_per_nm(excitation_nm, emission_nm, bandpass_nm)]).astype(FLOAT)
    absorption = amounts @ absorption_per_cm(emission_nm).astype(FLOAT)
    absorption += (amounts @ at_excitation)[:, None]
    return (sources @ shapes) * depth_cm(absorption)


def scattered_per_nm(
    specimens: Specimens, excitation_nm: float, emission_nm: np.ndarray, bandpass_nm: float, second_order: float
) -> np.ndarray:
    """Light scattered without change of wavelength, per nm: float32 (n, P).

    It lies at λ_ex and, as the grating's second order, at 2 λ_ex; particles much smaller than λ scatter as λ⁻⁴ (Rayleigh).
    """
    absorption = specimens.concentrations @ absorption_per_cm(np.array([excitation_nm]))[:, 0]
    strength = specimens.turbidity * PARTICLES_PER_CM * (400 / excitation_nm) ** 4 * depth_cm(2 * absorption)
    line = line_per_nm(emission_nm, excitation_nm, bandpass_nm)
    line = line + second_order * line_per_nm(emission_nm, 2 * excitation_nm, bandpass_nm)
    return strength.astype(FLOAT)[:, None] * line.astype(FLOAT)


def transmittance_percent(specimens: Specimens) -> np.ndarray:
    """Light that 1 cm of the syrup lets through at 560 nm, in % (n,): 100 · 10^(−A)."""
    return 100 * 10 ** -(specimens.concentrations @ absorption_per_cm(np.array([COLOUR_NM]))[:, 0])


# --- instrument -------------------------------------------------------------------------------------------------------
def record(electrons: np.ndarray, baseline_counts: np.ndarray, config: Simulation, rng: np.random.Generator) -> np.ndarray:
    """Counts of mean photo-electrons (n, P), the dark level subtracted: float32 (n, P).

    Shot noise (Poisson, here its normal limit: thousands of electrons per point), read noise, gain, whole numbers, and a
    16-bit converter: no reading is above 65 535 less the dark level. `baseline_counts` (n,) is what the dark level has moved.
    """
    noise = rng.standard_normal(electrons.shape, dtype=FLOAT)
    noise *= np.sqrt(np.maximum(electrons, 0) + FLOAT(config.read_sigma_e**2))
    raw = (electrons + noise) / FLOAT(config.e_per_count) + (baseline_counts + config.dark_counts).astype(FLOAT)[:, None]
    return np.clip(np.rint(raw), 0, ADC_MAX).astype(FLOAT) - FLOAT(config.dark_counts)


def lamp_e(config: Simulation, instrument: Instrument, excitation: str, age_days: np.ndarray) -> np.ndarray:
    """Photo-electrons per unit of emitted light at these ages of the lamp, (n,): it fades exponentially."""
    loss = LAMP_WEAR[excitation] * np.log(1 - config.lamp_loss_per_year) * age_days / 365
    return LAMP_E[excitation] * np.exp(instrument.log_lamp[EXCITATIONS.index(excitation)] + loss)


def fluorescence_counts(
    specimens: Specimens,
    config: Simulation,
    instrument: Instrument,
    excitation: str,
    age_days: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """One channel of n samples as one instrument reads it: float32 counts (n, 446); `age_days` (n,) is its lamp's age."""
    excitation_nm, true_nm = float(excitation), FLUORESCENCE_NM - instrument.axis_offset_nm
    light = emitted_per_nm(specimens, excitation_nm, true_nm, config.bandpass_nm)
    light += scattered_per_nm(specimens, excitation_nm, true_nm, config.bandpass_nm, config.second_order)
    light *= instrument.response(true_nm).astype(FLOAT)
    reseat = np.exp(rng.normal(0, config.reseat_spread, len(light)))
    light *= (lamp_e(config, instrument, excitation, age_days) * reseat).astype(FLOAT)[:, None]
    return record(light, config.dark_drift_counts * age_days / 365, config, rng)


def lspr_absorbance(specimens: Specimens, rng: np.random.Generator) -> np.ndarray:
    """Absorbance of gold nanoparticles with a drop of syrup: float32 (n, 251).

    Single particles absorb at 520 nm over the interband absorption of gold (Haiss et al. 2007, Anal. Chem. 79:4215), clumps
    near 640 nm; off-flavours make the particles clump (Forest, Théorêt, Coutu & Masson 2020, Anal. Methods 12:2460).
    """
    n = len(specimens.turbidity)
    single = 0.55 * gaussian(LSPR_NM, 521.0, 75.0) + 0.45 * np.exp(-(LSPR_NM - 450.0) / 150.0)
    clumped = 0.45 * gaussian(LSPR_NM, 640.0, 150.0) + 0.45 * np.exp(-(LSPR_NM - 450.0) / 250.0)
    share = 1 / (1 + np.exp(2.0 - 1.5 * specimens.aggregation))[:, None]
    gold = np.exp(rng.normal(0, 0.03, (n, 1)))
    drop = 0.05 * specimens.concentrations @ absorption_per_cm(LSPR_NM)  # the syrup's own colour, diluted
    absorbance = gold * ((1 - share) * single + share * clumped) + drop + rng.normal(0, 0.005, (n, 1))
    return (absorbance + rng.normal(0, 0.003, absorbance.shape)).astype(FLOAT)


def measure(
    specimens: Specimens, names: np.ndarray, age_days: np.ndarray, config: Simulation, rng: np.random.Generator
) -> tuple[Channel, ...]:
    """The four channels of n specimens, each read by the instrument `names` (n,) says, with a lamp of `age_days` (n,)."""
    n = len(names)
    counts = {excitation: np.empty((n, len(FLUORESCENCE_NM)), FLOAT) for excitation in EXCITATIONS}
    absorbance = np.empty((n, len(LSPR_NM)), FLOAT)
    for start in range(0, n, CHUNK):
        chunk = np.arange(start, min(start + CHUNK, n))
        for name, instrument in instruments(config).items():
            rows = chunk[names[chunk] == name]
            part = specimens.take(rows)
            for excitation in EXCITATIONS:
                counts[excitation][rows] = fluorescence_counts(part, config, instrument, excitation, age_days[rows], rng)
        absorbance[chunk] = lspr_absorbance(specimens.take(chunk), rng)
    channels = [Channel(excitation, FLUORESCENCE_NM, values) for excitation, values in counts.items()]
    return (*channels, Channel("lspr", LSPR_NM, absorbance))


# --- what is asked for ------------------------------------------------------------------------------------------------
def tabular_readings(specimens: Specimens, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Transmittance (%) and °Brix as a colorimeter and a refractometer read them, (n,) each."""
    n = len(specimens.turbidity)
    return {
        "transmittance_percent": np.clip(transmittance_percent(specimens) + rng.normal(0, 0.5, n), 0, 100).round(1),
        "brix_deg": (specimens.brix_deg + rng.normal(0, 0.05, n)).round(1),
    }


def simulate_samples(config: Simulation, n: int, rng: np.random.Generator) -> SpectraTable:
    """N samples of one barrel at one setting, as one instrument reads them; they differ by the replicate spread and noise."""
    specimens, rows = one_specimen(config, n, rng)
    channels = measure(specimens, rows[INSTRUMENT].to_numpy(), np.full(n, config.lamp_age_days), config, rng)
    return SpectraTable(channels, rows.assign(**tabular_readings(specimens, rng)))


def simulate_table(config: Simulation, n: int, rng: np.random.Generator) -> SpectraTable:
    """N samples of a whole population: barrels of all classes in their shares, over years, on two instruments.

    Channels 277, 380, 425 (counts, 446 points) and lspr (absorbance, 251 points). `rows` has sample, group (the seal of the
    barrel), instrument, measured_at, the recorded severity, defect_type and provenance, algorithm_severity,
    transmittance_percent, brix_deg, and the truth that no file tells: true_severity, true_defect_type.
    """
    specimens, rows = draw_population(config, n, rng)
    age_days = rows[DATE].dt.day_of_year.to_numpy(float) - 1
    channels = measure(specimens, rows[INSTRUMENT].to_numpy(), age_days, config, rng)
    return SpectraTable(channels, pd.concat([rows, pd.DataFrame(tabular_readings(specimens, rng))], axis=1))
