"""Barrels of syrup: what is in them, what is wrong with them, and who says so.

A barrel's substances vary log-normally, together with the season: phenolics fall and browning rises from the first run of
sap to the last (Clément, Lagacé & Panneton 2010, J. Food Eng. 97:17). A defect shifts some of them. A latent value is the
natural logarithm of a relative amount, divided by its natural spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.tasks.spectra.config import Quality, Simulation
from lib.tasks.spectra.fluorophores import NAMES
from lib.tasks.spectra.table import (
    ALGORITHM,
    DATE,
    GROUP,
    INSPECTOR,
    INSTRUMENT,
    PROVENANCE,
    SAMPLE,
    SEVERITIES,
    SEVERITY,
    TYPE,
)

# Latent: natural spread of the logarithm, correlation with the season (early −, late +).
LATENTS: dict[str, tuple[float, float]] = {
    "tryptophan-like": (0.35, 0.2),
    "phenolics": (0.35, -0.5),
    "coumarins": (0.35, -0.2),
    "Maillard fluorophores": (0.30, 0.55),
    "melanoidins": (0.45, 0.6),
    "caramel polymers": (0.50, 0.5),
    "riboflavin": (0.40, 0.2),
    "furfurals": (0.50, 0.4),
    "turbidity": (1.30, 0.1),
    "aggregation": (0.60, 0.4),  # amino acids and thiols that make gold particles clump
}
LATENT_NAMES = tuple(LATENTS)
SPREAD = np.array([spread for spread, _ in LATENTS.values()])
SEASON = np.array([season for _, season in LATENTS.values()])

# What a medium (VR) defect does, in natural spreads before STRENGTH: all have an off-flavour in common, opposed to the maple
# flavour (Panneton, Clément & Lagacé 2013, J. Sci. Food Agric. 93:3279), and each type has more of its own.
OFF_FLAVOUR = {"tryptophan-like": 0.9, "coumarins": -0.7, "riboflavin": 0.8}
EFFECTS: dict[int, dict[str, float]] = {
    1: {"phenolics": 0.8, "furfurals": -0.5},  # of natural origin, other
    2: {"tryptophan-like": 0.6, "Maillard fluorophores": -0.4, "riboflavin": 0.8, "aggregation": 0.6},  # microbes
    4: {"phenolics": -0.4, "Maillard fluorophores": -0.8, "turbidity": 0.15},  # process
    5: {"phenolics": -0.7, "Maillard fluorophores": 0.9, "aggregation": 1.5},  # bud
    6: {"tryptophan-like": 0.4, "turbidity": 0.5, "aggregation": 0.5},  # ropy
    11: {"phenolics": 1.1, "melanoidins": -0.4},  # wood
    12: {"phenolics": 0.7, "Maillard fluorophores": -0.8, "melanoidins": -0.6},  # sap
    13: {"melanoidins": 0.6, "caramel polymers": 1.1, "furfurals": 0.9},  # over-caramelised
    14: {"melanoidins": 0.9, "caramel polymers": 1.3, "furfurals": 0.8, "aggregation": 0.4},  # burnt
}
SEVERITY_SCALE = {"NC": 1.5, "VR": 1.0, "CROCHET": 0.65, "OK": 0.0}
STRENGTH = 2.25  # times all effects; sets the difficulty: logistic regression tells OK from the rest with AUC .93 (see the tests)

# Shares within each severity; OK, CROCHET and the rest share the population as the settings say.
WITHIN_CROCHET: dict[Quality, float] = {
    "CROCHET11": 0.32, "CROCHET4": 0.18, "CROCHET5": 0.18, "CROCHET13": 0.13, "CROCHET12": 0.09, "CROCHET14": 0.06,
    "CROCHET1": 0.04,
}  # fmt: skip
WITHIN_REST: dict[Quality, float] = {
    "VR5": 0.23, "VR11": 0.19, "VR4": 0.14, "VR13": 0.09, "VR14": 0.06, "VR12": 0.05, "VR1": 0.04, "VR2": 0.015,
    "NC5": 0.08, "NC4": 0.055, "NC14": 0.025, "NC2": 0.0125, "NC6": 0.0125,
}  # fmt: skip
QUALITIES: tuple[Quality, ...] = ("OK", *WITHIN_CROCHET, *WITHIN_REST)
FIRST_YEAR = 2019
REPLICATE_TURBIDITY = 0.5  # spread of ln turbidity between samples of a barrel: bubbles and crystals come and go


@dataclass(frozen=True)
class Specimens:
    """What is in n cells. Amounts are relative to a typical syrup."""

    concentrations: np.ndarray  # (n, substances), in the order of fluorophores.NAMES
    turbidity: np.ndarray  # (n,)
    aggregation: np.ndarray  # (n,) ln of the amount of what makes gold clump
    brix_deg: np.ndarray  # (n,)

    def take(self, rows: np.ndarray) -> Specimens:
        """Some of them, by position."""
        return Specimens(self.concentrations[rows], self.turbidity[rows], self.aggregation[rows], self.brix_deg[rows])


def severity_and_type(quality: str) -> tuple[str, int]:
    """("VR", 11) of "VR11"; ("OK", 0) of "OK"."""
    severity = quality.rstrip("0123456789")
    return severity, int(quality[len(severity) :] or 0)


QUALITY_SEVERITY = np.array([severity_and_type(quality)[0] for quality in QUALITIES], dtype=object)
QUALITY_TYPE = np.array([severity_and_type(quality)[1] for quality in QUALITIES])


def class_shares(config: Simulation) -> np.ndarray:
    """Share of each of `QUALITIES` in the population; they add up to 1."""
    rest = 1 - config.ok_share - config.crochet_share
    crochet, others = np.array(list(WITHIN_CROCHET.values())), np.array(list(WITHIN_REST.values()))
    shares = np.r_[config.ok_share, config.crochet_share * crochet / crochet.sum(), max(rest, 0.0) * others / others.sum()]
    return shares / shares.sum()


def class_means(config: Simulation) -> np.ndarray:
    """Mean latent values of each of `QUALITIES`: (classes, latents), in natural spreads."""
    means = np.zeros((len(QUALITIES), len(LATENTS)))
    for row, (severity, kind) in enumerate(zip(QUALITY_SEVERITY, QUALITY_TYPE)):
        for name, effect in [*OFF_FLAVOUR.items(), *EFFECTS.get(int(kind), {}).items()]:
            means[row, LATENT_NAMES.index(name)] += effect * SEVERITY_SCALE[severity] * STRENGTH * config.defect_strength
    return means


def specimens_of(latents: np.ndarray, brix_deg: np.ndarray, config: Simulation) -> Specimens:
    """Amounts of latent values (n, latents); the settings' relative amounts are those at latent 0."""
    settings = {
        "tryptophan-like": config.tryptophan_like, "phenolics": config.phenolics, "Maillard fluorophores": config.maillard,
        "melanoidins": config.colour, "caramel polymers": config.colour, "riboflavin": config.riboflavin,
    }  # fmt: skip
    medians = np.array([settings.get(name, 1.0) for name in NAMES]) * config.concentration
    logs = latents * SPREAD
    return Specimens(np.exp(logs[:, : len(NAMES)]) * medians, np.exp(logs[:, -2]) * config.turbidity, logs[:, -1], brix_deg)


def replicate(latents: np.ndarray, config: Simulation, rng: np.random.Generator) -> np.ndarray:
    """Latents of samples of those barrels: each substance differs a little from sample to sample."""
    spread = np.full(len(LATENTS), config.replicate_spread) / SPREAD
    spread[LATENT_NAMES.index("turbidity")] = REPLICATE_TURBIDITY / SPREAD[LATENT_NAMES.index("turbidity")]
    return latents + rng.standard_normal(latents.shape) * spread


def one_specimen(config: Simulation, n: int, rng: np.random.Generator) -> tuple[Specimens, pd.DataFrame]:
    """N samples of one barrel of the class and amounts that the settings say, and their rows."""
    latents = replicate(np.repeat(class_means(config)[[QUALITIES.index(config.quality)]], n, axis=0), config, rng)
    severity, kind = severity_and_type(config.quality)
    rows = {
        SAMPLE: [f"{i:06d}" for i in range(n)], GROUP: "S000000", INSTRUMENT: config.instrument,
        DATE: pd.Timestamp(FIRST_YEAR, 1, 1) + pd.Timedelta(days=config.lamp_age_days),
        SEVERITY: severity, TYPE: kind, PROVENANCE: INSPECTOR, "true_severity": severity, "true_defect_type": kind,
    }  # fmt: skip
    return specimens_of(latents, np.full(n, config.brix_deg), config), pd.DataFrame(rows, index=range(n))


# --- a population -----------------------------------------------------------------------------------------------------
def draw_seals(config: Simulation, n: int, rng: np.random.Generator) -> np.ndarray:
    """Which barrel each of n samples comes from, (n,) from 0 on: 1 + Poisson samples of each."""
    sizes = 1 + rng.poisson(config.replicates_per_seal - 1, n)
    return np.repeat(np.arange(n), sizes)[:n]


def draw_latents(quality: np.ndarray, config: Simulation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Latents (m, latents) and °Brix (m,) of m barrels of these classes; dark syrup was boiled a little further."""
    season = rng.standard_normal((len(quality), 1))
    own = rng.standard_normal((len(quality), len(LATENTS)))
    latents = season * SEASON + own * np.sqrt(1 - SEASON**2) + class_means(config)[quality]
    colour = latents[:, LATENT_NAMES.index("melanoidins")]
    return latents, config.brix_deg + 0.2 * colour + rng.normal(0, 0.4, len(quality))


def draw_instruments(seals: np.ndarray, config: Simulation, rng: np.random.Generator) -> np.ndarray:
    """The instrument of each sample, "A" or "B" (n,): one per barrel, or both in turn."""
    fate = rng.random(seals[-1] + 1 if len(seals) else 0)[seals]
    turn = np.arange(len(seals)) % 2 == 0
    on_b = (fate < config.b_share) | ((fate < config.b_share + config.both_share) & turn)
    return np.where(on_b, "B", "A").astype(object)


def algorithm_verdicts(latents: np.ndarray, config: Simulation, rng: np.random.Generator) -> np.ndarray:
    """The old algorithm's class of each sample, as an index into `QUALITIES` (n,).

    OK or not first, then which defect, by the posteriors of normal classes with one covariance (Hastie, Tibshirani & Friedman
    2009, Elements of Statistical Learning, eq. 4.10). It reads the substances with an error and is blind to what gold shows: its
    verdicts are wrong in a way that spectra partly explain, unlike a toss of a coin.
    """
    seen = slice(0, len(NAMES))
    error = config.algorithm_error
    read = latents[:, seen] + error * rng.standard_normal((len(latents), len(NAMES)))
    natural = np.outer(SEASON, SEASON)[seen, seen] + np.diag(1 - SEASON[seen] ** 2)
    means = class_means(config)[:, seen]
    weights = np.linalg.solve(natural + error**2 * np.eye(len(NAMES)), means.T)
    with np.errstate(divide="ignore"):  # a class of share 0 is never said
        offset = np.log(class_shares(config)) - 0.5 * (means.T * weights).sum(0)
    scores = read @ weights + offset
    best = scores.max(1, keepdims=True)
    posterior = np.exp(scores - best)
    passed = posterior[:, 0] > posterior[:, 1:].sum(1)
    return np.where(passed, 0, 1 + np.argmax(posterior[:, 1:], axis=1))


def inspector_verdicts(quality: np.ndarray, config: Simulation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Severity and type that an inspector calls these classes, (m,) each: now and then one step too mild or too severe."""
    severity, kind = QUALITY_SEVERITY[quality], QUALITY_TYPE[quality]
    level = np.array([SEVERITIES.index(value) for value in severity], dtype=int)
    wrong = rng.random(len(level)) < config.inspector_error
    step = np.where(rng.random(len(level)) < 0.5, 1, -1)
    step = np.where(level == 0, 1, np.where(level == len(SEVERITIES) - 1, -1, step))
    called = np.where(wrong, level + step, level)
    imagined = QUALITY_TYPE[rng.integers(1, 1 + len(WITHIN_CROCHET), len(level))]  # a trace of what is not there
    ok = SEVERITIES.index("OK")
    kinds = np.where(called == ok, 0, np.where((level == ok) & wrong, imagined, kind))
    return np.array(SEVERITIES, dtype=object)[called], kinds


def draw_labels(
    seals: np.ndarray, quality: np.ndarray, latents: np.ndarray, config: Simulation, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The recorded labels of n samples: the inspector's where the barrel was tasted, else the algorithm's own verdict.

    `quality` is per barrel (m,), `latents` per sample (n, latents).
    """
    said = algorithm_verdicts(latents, config, rng)
    severity, kind = (called[seals] for called in inspector_verdicts(quality, config, rng))
    tasted = (rng.random(len(quality)) < config.inspected_share)[seals]
    if config.tastes_rejects:
        tasted = tasted | (QUALITY_SEVERITY[said] != "OK")
    return {
        SEVERITY: np.where(tasted, severity, QUALITY_SEVERITY[said]),
        TYPE: np.where(tasted, kind, QUALITY_TYPE[said]),
        PROVENANCE: np.where(tasted, INSPECTOR, ALGORITHM).astype(object),
        "algorithm_severity": QUALITY_SEVERITY[said],
        "true_severity": QUALITY_SEVERITY[quality[seals]],
        "true_defect_type": QUALITY_TYPE[quality[seals]],
    }


def draw_population(config: Simulation, n: int, rng: np.random.Generator) -> tuple[Specimens, pd.DataFrame]:
    """N samples of barrels of all classes, in order of date, and their rows."""
    seals = draw_seals(config, n, rng)
    barrels = int(seals[-1]) + 1 if n else 0
    quality = rng.choice(len(QUALITIES), barrels, p=class_shares(config))
    barrel_latents, brix_deg = draw_latents(quality, config, rng)
    latents = replicate(barrel_latents[seals], config, rng)
    minutes = np.sort(rng.integers(0, config.years * 365 * 24 * 60, barrels))[seals] + rng.integers(0, 10, n)
    names = draw_instruments(seals, config, rng)
    labels = draw_labels(seals, quality, latents, config, rng)
    rows = pd.DataFrame(
        {
            SAMPLE: [f"{i:06d}" for i in range(n)],
            GROUP: [f"S{seal:06d}" for seal in seals],
            INSTRUMENT: names,
            DATE: pd.Timestamp(FIRST_YEAR, 1, 1) + pd.to_timedelta(minutes, unit="min"),
            **labels,
        }
    )
    return specimens_of(latents, brix_deg[seals], config), rows
