"""Settings of the spectra task: what is simulated."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from lib.task import Config, Phrase, option

# Severity and type of the verdict: Quebec's code of maple syrup in bulk (Décision 12568 of the RMAAQ, art. 8).
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".h5", ".hdf5")
Quality = Literal[
    "OK",
    "CROCHET1", "CROCHET4", "CROCHET5", "CROCHET11", "CROCHET12", "CROCHET13", "CROCHET14",
    "VR1", "VR2", "VR4", "VR5", "VR11", "VR12", "VR13", "VR14",
    "NC2", "NC4", "NC5", "NC6", "NC14",
]  # fmt: skip
InstrumentName = Literal["A", "B"]


class Simulation(Config):
    """One simulated syrup, the instruments that measure it, and the population it comes from.

    Relative amounts are 1 in a typical syrup. In a population they shift every barrel's amount; `quality`, `instrument` and
    `lamp_age_days` then vary from barrel to barrel and are not used.
    """

    quality: Quality = option("OK", "Verdict that a perfect inspector would give: severity and type of defect", group="sample")
    concentration: float = option(
        1.0, "All dissolved substances, relative to a typical syrup", group="sample", log=True, ge=0.001, le=100
    )
    tryptophan_like: float = option(1.0, "Amino acids and peptides, relative", group="sample", log=True, ge=0.01, le=100)
    phenolics: float = option(1.0, "Lignans and phenolic acids, relative", group="sample", log=True, ge=0.01, le=100)
    maillard: float = option(1.0, "Early Maillard products, relative", group="sample", log=True, ge=0.01, le=100)
    colour: float = option(1.0, "Melanoidins and caramel, relative", group="sample", log=True, ge=0.01, le=100)
    riboflavin: float = option(1.0, "Riboflavin, relative", group="sample", log=True, ge=0.01, le=100)
    turbidity: float = option(1.0, "Light that particles scatter, relative", group="sample", log=True, ge=0.001, le=1000)
    brix_deg: float = option(66.9, "Dissolved sugar", unit="°Brix", group="sample", ge=0, le=85)

    instrument: InstrumentName = option("A", "Which fluorimeter measures the sample", group="instrument")
    lamp_age_days: float = option(0.0, "Time since the lamp was new", unit="days", group="instrument", ge=0, le=3650)
    lamp_loss_per_year: float = option(
        0.2, "Share of its light at 380 nm that a lamp loses in a year; more at 277 nm", group="instrument", ge=0, le=0.95
    )
    dark_drift_counts: float = option(
        20.0, "Rise of the dark level in a year", unit="counts", group="instrument", ge=-2000, le=2000
    )
    axis_offset_nm: float = option(1.0, "Wavelength error of instrument B", unit="nm", group="instrument", ge=-10, le=10)
    response_difference: float = option(
        1.0, "How much B's sensitivity differs from A's; 0 is not at all", group="instrument", ge=0, le=5
    )
    bandpass_nm: float = option(5.0, "Width of a spectral line as measured (FWHM)", unit="nm", group="instrument", ge=1, le=30)
    second_order: float = option(0.2, "Share of light that the grating also shows at twice its wavelength", group="instrument",
                                 ge=0, le=1)  # fmt: skip
    e_per_count: float = option(20.0, "Photo-electrons per count", unit="e⁻/count", group="instrument", log=True, ge=0.1, le=1000)
    read_sigma_e: float = option(60.0, "Read noise", unit="e⁻", group="instrument", ge=0, le=10_000)
    dark_counts: int = option(
        2539, "Dark level that the instrument subtracts; the plateau is 65 535 less this", unit="counts", group="instrument",
        ge=0, le=60_000,
    )  # fmt: skip
    reseat_spread: float = option(
        0.03, "Relative spread of the intensity when a cell is taken out and put back", group="instrument", ge=0, le=0.5
    )

    population: bool = option(
        False, "Draw barrels of all classes, measured on both instruments over the years, instead of this one", group="population"
    )
    ok_share: float = option(0.66, "Share of barrels without a defect: OK", group="population", ge=0, le=1)
    crochet_share: float = option(0.16, "Share of barrels with a trace of a defect: CROCHET", group="population", ge=0, le=1)
    defect_strength: float = option(
        1.0, "How much a defect changes the syrup; at 1 a good model tells OK from the rest with AUC .93", group="population",
        ge=0, le=10,
    )  # fmt: skip
    replicates_per_seal: float = option(2.0, "Samples taken from a barrel, on average", group="population", ge=1, le=50)
    replicate_spread: float = option(
        0.03, "Relative spread of each substance between samples of one barrel", group="population", ge=0, le=1
    )
    b_share: float = option(0.35, "Share of barrels measured on instrument B", group="population", ge=0, le=1)
    both_share: float = option(0.1, "Share of barrels whose samples are measured on A and B in turn", group="population",
                               ge=0, le=1)  # fmt: skip
    years: int = option(3, "Harvests; the lamp is new on each 1 January", unit="years", group="population", ge=1, le=20)
    inspected_share: float = option(
        0.04, "Share of barrels that an inspector tastes; the others keep the algorithm's verdict", group="population", ge=0, le=1
    )
    tastes_rejects: bool = option(
        False, "The inspector also tastes every sample that the algorithm does not call OK", group="population"
    )
    inspector_error: float = option(
        0.03, "Chance that an inspector's verdict is off by one step of severity", group="population", ge=0, le=1
    )
    algorithm_error: float = option(
        1.2, "Error with which the old algorithm reads each substance, relative to its natural spread", group="population",
        ge=0, le=10,
    )  # fmt: skip

    @model_validator(mode="after")
    def _shares(self) -> Self:
        for one, other in (("ok_share", "crochet_share"), ("b_share", "both_share")):
            if getattr(self, one) + getattr(self, other) > 1 + 1e-9:
                raise ValueError(
                    Phrase(
                        "{one} = {one_value} and {other} = {other_value} add up to more than 1",
                        one=one,
                        one_value=getattr(self, one),
                        other=other,
                        other_value=getattr(self, other),
                    )
                )
        return self

    @property
    def plateau_counts(self) -> float:
        """The largest reading: a full 16-bit converter less the dark level."""
        return float(65_535 - self.dark_counts)


SIMULATION_PRESETS: dict[str, dict[str, Any]] = {
    "amber, OK": {},
    "a whole population": {"population": True},
    "late season, bud": {"quality": "VR5", "colour": 1.8, "phenolics": 0.7},
    "burnt": {"quality": "NC14", "colour": 2.0},
    "golden, early season": {"colour": 0.4, "phenolics": 1.4, "maillard": 0.7},
    "cloudy": {"turbidity": 30.0},
    "two equal instruments, no drift": {"axis_offset_nm": 0.0, "response_difference": 0.0, "lamp_loss_per_year": 0.0,
                                        "dark_drift_counts": 0.0},
}  # fmt: skip
