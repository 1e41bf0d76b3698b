"""Promised precision and recall, kept on fresh simulated test sets; beside the original's rule on the same sets.

One fast model is trained through the task on a simulated population. Then, again and again, a fresh calibration set certifies
its cut-offs (`Task.certify`) and a fresh, much larger test set tells what they truly keep. A promise of risk r may break for a
share r of calibration sets: that share is what is counted here. Where no cut-off can be certified nothing is promised.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from benchmarks.limits import Limits
from lib.model import physical
from lib.tasks.spectra import TASK, Spectra, verdicts
from lib.tasks.spectra.calibration import interval
from lib.tasks.spectra.decisions import RISK, rows_of_class
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.verdicts import Goal

MODEL, TRAINED_SAMPLES = "PLS-DA", 4000
CALIBRATION_SAMPLES, TEST_SAMPLES = 2000, 20_000
CALIBRATIONS_PER_TEST = 20  # a test set is drawn anew after so many calibration sets
PROMISES: tuple[tuple[Goal, float], ...] = (("recall", 0.925), ("precision", 0.925), ("precision", 0.98))
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


@dataclass
class Count:
    """How one promise fared: what it truly kept each time it was made, and what the original's rule kept each time."""

    target: float
    repeats: int = 0
    kept: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)

    def missed(self, kept: list[float]) -> float:
        """Share of all repeats, in %, that kept less than was promised."""
        return 100 * sum(value < self.target for value in kept) / self.repeats


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
    """Certify every promise on the calibration set and enter what it and the original's rule keep on the test set."""
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
                count.kept.append(kept_share(policy, y == k, decided == k))
            rows, seen = rows_of_class(own_y, own_p, k, top_only=True), rows_of_class(y, p, k, top_only=True)
            cutoff = naive_cutoff(policy, rows.score, rows.good, target)
            count.naive.append(kept_share(policy, y == k, np.isfinite(seen.score) & (seen.score >= cutoff)))


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
    print("    share of repeats that miss, in %, beside the stated risk")
    for (policy, target, name), count in counts.items():
        said = f"{policy} {100 * target:g} % of {name!r}"
        limits.show(said, count.missed(count.kept), -math.inf, 100 * RISK)
        show_detail(count)


def show_detail(count: Count) -> None:
    """How often the promise was made, what it kept, and how the original's rule fared."""
    low, high = (100 * float(end) for end in interval(round(count.missed(count.kept) * count.repeats / 100), count.repeats))
    made, naive = f"promised in {len(count.kept)} of {count.repeats} repeats", 100 * np.nanmean(count.naive)
    if count.kept:
        made += (
            f", truly kept {100 * np.nanmean(count.kept):.1f} % on average; 95 % interval of the misses {low:.1f} to {high:.1f} %"
        )
    print(f"    {made}")
    print(f"    the original's rule misses in {count.missed(count.naive):.1f} %, truly kept {naive:.1f} % on average")
