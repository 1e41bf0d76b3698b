"""Sweeps: what 40 short trials on two workers take, beside the time that their trainings take by themselves.

    python -m benchmarks.sweeps [--trials 40] [--epochs 15]

Trains the toy task of the tests, each run on one thread. The time of a training alone is the middle of five trials of a sweep
with one worker, from the run's start to its end with its sheet. Ideal is that time × trials / 2; what is compared is the whole
command, its imports included. Prints a table of figure and limit; exits with 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.limits import Limits
from lib import runs, sweeps
from lib.sweeps import launch, study

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "toy" / "tasks"


def swept(trials: int, workers: int, epochs: int) -> tuple[float, sweeps.Sweep]:
    """Wall time of a sweep, in seconds, and the sweep."""
    settings = [f"epochs={epochs}", "n_train=512", "n_test=256", "threads=1"]
    command = [
        sys.executable, "-m", "lib", "sweep", "toy", "--vary", "learning_rate=0.001:0.1:log", "--sampler", "random",
        "--pruner", "none", "--trials", str(trials), "--workers", str(workers), "--set", *settings,
    ]  # fmt: skip
    begin = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - begin, sweeps.list_sweeps("toy")[0]


def training_s(sweep: sweeps.Sweep) -> list[float]:
    """How long each trial trained, its sheet included."""
    statuses = [run.status() for run in runs.list_runs("toy") if run.about().get("sweep") == sweep.id]
    return [(status.finished_at or math.nan) - (status.started_at or math.nan) for status in statuses]


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=15)
    given = parser.parse_args()
    os.environ["LIGHTBENCH_TASK_PATH"] = str(TOY)
    limits = Limits()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIGHTBENCH_HOME"] = folder
        _, one = swept(5, 1, given.epochs)
        alone_s = statistics.median(training_s(one))
        took_s, two = swept(given.trials, 2, given.epochs)
        limits.show("one training alone, s", alone_s, 0, math.inf)
        limits.show(f"{given.trials} trials on two workers, s", took_s, 0, math.inf)
        limits.show("  over the ideal", took_s / (alone_s * given.trials / 2), -math.inf, 1.3)
        limits.show("  over half the sum of its trainings", took_s / (sum(training_s(two)) / 2), -math.inf, 1.3)
        trials = study.trials_of(study.load(two))
        limits.show(
            "  trials that were trained to their end", Counter(one.state for one in trials)["done"], *(2 * [given.trials])
        )
        begin = time.perf_counter()
        launch.state(two, study.trials_of(study.load(two)))
        limits.show("  its journal read, s", time.perf_counter() - begin, -math.inf, 0.5)
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
