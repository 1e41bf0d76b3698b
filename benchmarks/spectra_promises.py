"""Promised precision and recall, kept on fresh simulated test sets; beside MAPIE's and the original's rule on the same sets.

One fast model is trained through the task on a simulated population. Then, again and again, a fresh calibration set certifies
its cut-offs (`Task.certify`) and a fresh, much larger test set tells what they truly keep. A promise of risk r may break for a
share r of calibration sets: that share is what is counted here. Where no cut-off can be certified nothing is promised. What a
promise is worth is the share of samples that it decides, counted as none where nothing is promised.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from benchmarks import spectra_mapie
from benchmarks.limits import Limits
from lib.model import physical
from lib.tasks.spectra import CERTIFYING, TASK, Spectra, verdicts
from lib.tasks.spectra.calibration import interval
from lib.tasks.spectra.decisions import RISK, rows_of_class
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.verdicts import Goal

MODEL, TRAINED_SAMPLES = "PLS-DA", 4000
CALIBRATION_SAMPLES, TEST_SAMPLES = 2000, 20_000
CALIBRATIONS_PER_TEST = 20  # a test set is drawn anew after so many calibration sets
PROMISES: tuple[tuple[Goal, float], ...] = (("recall", 0.925), ("precision", 0.925), ("precision", 0.98))
OURS, MAPIE, ORIGINAL = "ours", "MAPIE", "the original's rule"
BATCH = 1024


@dataclass(frozen=True)
class Judged:
    """Predicted and true values of simulated samples, and their table."""

    predicted: pd.DataFrame
    truth: pd.DataFrame
    table: pd.DataFrame

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels (m,), probabilities (m, K) and whether inside the domain (m,) of the samples that have a class."""
        y, p, rows = verdicts.labelled(self.predicted, self.truth)
        return y, p, self.predicted["in_domain"].to_numpy(bool)[rows]

    def labelled(self) -> pd.DataFrame:
        """The table of the samples that have a class (m rows)."""
        return self.table.iloc[verdicts.labelled(self.predicted, self.truth)[2]]


@dataclass
class Fared:
    """What one rule truly kept each time it promised, and the share of test samples that it then decided, both 0 to 1."""

    kept: list[float] = field(default_factory=list)
    decided: list[float] = field(default_factory=list)


@dataclass
class Count:
    """How one promise fared under each rule."""

    target: float
    repeats: int = 0
    rules: defaultdict[str, Fared] = field(default_factory=lambda: defaultdict(Fared))

    def enter(self, rule: str, policy: Goal, good: np.ndarray, accepted: np.ndarray) -> None:
        """What a promise of this repeat keeps: which test samples are good (n,), and which are accepted (n,)."""
        self.rules[rule].kept.append(kept_share(policy, good, accepted))
        self.rules[rule].decided.append(float(accepted.mean()))

    def missed(self, rule: str) -> float:
        """Share of all repeats, in %, that kept less than was promised."""
        return 100 * sum(value < self.target for value in self.rules[rule].kept) / self.repeats


# --- model and samples ------------------------------------------------------------------------------------------------
def trained(model: str, seed: int) -> tuple[Spectra, nn.Module]:
    """A family without gradients, fitted to a simulated population through the task, and the task that knows it."""
    config = Training.parse({"model": model, "simulated_samples": TRAINED_SAMPLES, "seed": seed})
    data = TASK.training_data(config)
    task = TASK.knowing(data.facts())
    solved = task.solve(config, data, lambda sentence: print(f"    {sentence}"))
    assert solved is not None, f"{model} is trained with gradients"
    network, facts = solved
    return task.knowing({**task.facts, **facts}), network.eval()


def judged(task: Spectra, network: nn.Module, n: int, rng: np.random.Generator) -> Judged:
    """A fresh population of n samples as the model sees it."""
    samples = task.simulate(task.Simulation(population=True), n, rng)
    predicted = task.decode(physical(task, network, samples, batch=BATCH), samples)
    return Judged(predicted, task.truth(samples), samples.table)


# --- what a cut-off truly keeps ---------------------------------------------------------------------------------------
def kept_share(policy: Goal, good: np.ndarray, accepted: np.ndarray) -> float:
    """Precision or recall of accepting those rows (n,); a precision of nothing breaks no promise."""
    among, found = (accepted, good) if policy == "precision" else (good, accepted)
    return float(found[among].mean()) if among.any() else math.nan


def naive_cutoff(policy: Goal, score: np.ndarray, good: np.ndarray, target: float) -> float:
    """The original's rule: the cut-off whose precision on these very rows is nearest to the target, at a recall above one half.

    For recall, the score that just so many of the good rows reach.
    """
    if policy == "recall":
        return float(np.quantile(score[good], 1 - target, method="lower"))
    order = np.argsort(-score, kind="stable")
    order = order[np.isfinite(score[order])]
    right, accepted = np.cumsum(good[order]), np.arange(1, len(order) + 1)
    last = np.append(np.diff(score[order]) != 0, True)  # equal scores are accepted together
    off = np.where(last & (right > good.sum() / 2), np.abs(right / accepted - target), np.inf)
    return float(score[order][np.argmin(off)])


def with_target(facts: Mapping[str, Any], policy: Goal, target: float) -> dict[str, Any]:
    """The facts of a run that asks for this promise."""
    return {**facts, "policy": policy, f"{policy}_target": target}


def compare(task: Spectra, calibration: Judged, test: Judged, counts: Mapping[tuple[Goal, float, str], Count]) -> None:
    """Certify every promise on the calibration set and enter what it and the other rules keep on the test set."""
    y, p, inside = test.rows()
    own_y, own_p, _ = calibration.rows()
    for policy, target in PROMISES:
        asked = task.knowing(with_target(task.facts, policy, target))
        facts = {**asked.facts, **asked.certify(calibration.predicted, calibration.truth, calibration.table)}
        decided = verdicts.decided(p, inside, facts, policy)
        for k, name in enumerate(facts["classes"]):
            count = counts[policy, target, name]
            count.repeats += 1
            if facts["cutoffs"][name][policy]["value"] is not None:
                count.enter(OURS, policy, y == k, decided == k)
            if spectra_mapie.installed() and (peer := mapie_cutoff(policy, target, calibration, k)) is not None:
                count.enter(MAPIE, policy, y == k, verdicts.class_rows(y, p, inside, k).score >= peer)
            rows, seen = rows_of_class(own_y, own_p, k, top_only=True), rows_of_class(y, p, k, top_only=True)
            cutoff = naive_cutoff(policy, rows.score, rows.good, target)
            count.enter(ORIGINAL, policy, y == k, np.isfinite(seen.score) & (seen.score >= cutoff))


def mapie_cutoff(policy: Goal, target: float, calibration: Judged, k: int) -> float | None:
    """What MAPIE certifies for class k on the very rows that ours is certified on; None where it certifies nothing."""
    y, p, inside = calibration.rows()
    own, (testing, proposing) = verdicts.independent_parts(calibration.labelled(), np.random.default_rng(CERTIFYING))
    tested = own if policy == "recall" else testing
    rows, other = (verdicts.class_rows(y[some], p[some], inside[some], k) for some in (tested, proposing))
    return spectra_mapie.cutoff(policy, target, RISK, rows, other)


def sets(draw: Callable[[int], Judged], repeats: int) -> Iterator[tuple[Judged, Judged]]:
    """(calibration set, test set) for each repeat."""
    for repeat in range(repeats):
        if repeat % CALIBRATIONS_PER_TEST == 0:
            test = draw(TEST_SAMPLES)
        yield draw(CALIBRATION_SAMPLES), test


# --- the table --------------------------------------------------------------------------------------------------------
def show_promises(repeats: int, seed: int, limits: Limits, model: str = MODEL) -> None:
    """Train, repeat, and print each promise's share of misses beside its risk."""
    begin = time.perf_counter(), time.process_time()
    print(f"\nPromises: {model} trained on {TRAINED_SAMPLES:,} simulated samples")
    task, network = trained(model, seed)
    rng = np.random.default_rng([seed, 1])
    counts = {(*promise, str(name)): Count(promise[1]) for promise in PROMISES for name in task.facts["classes"]}
    for calibration, test in sets(lambda n: judged(task, network, n, rng), repeats):
        compare(task, calibration, test, counts)
    spent = f"{time.perf_counter() - begin[0]:.0f} s, CPU {time.process_time() - begin[1]:.0f} s"
    print(f"    {repeats} calibration sets of {CALIBRATION_SAMPLES:,}, tested on {TEST_SAMPLES:,} fresh samples each; {spent}")
    if not spectra_mapie.installed():
        print("    MAPIE is not installed (requirements-dev.txt): ours is compared with the original's rule alone")
    print("    share of repeats that miss, in %, beside the stated risk")
    for (policy, target, name), count in counts.items():
        said = f"{policy} {100 * target:g} % of {name!r}"
        limits.show(said, count.missed(OURS), -math.inf, 100 * RISK)
        for rule in (OURS, *((MAPIE,) if spectra_mapie.installed() else ()), ORIGINAL):
            show_detail(rule, count)


def show_detail(rule: str, count: Count) -> None:
    """How often one rule promised, how much that decided, what it kept and how often it missed."""
    fared, missed = count.rules[rule], count.missed(rule)
    low, high = (100 * float(end) for end in interval(round(missed * count.repeats / 100), count.repeats))
    said = f"promised in {len(fared.kept)} of {count.repeats} repeats"
    if fared.kept:
        said += (
            f", decided {100 * sum(fared.decided) / count.repeats:.1f} % of samples,"
            f" truly kept {100 * np.nanmean(fared.kept):.1f} %, missed in {missed:.1f} % (95 % interval {low:.1f} to {high:.1f})"
        )
    print(f"    {rule}: {said}")
