"""Runs on a cluster: what submitting costs, how long many runs take to list, and what random faults cost a training.

    python -m benchmarks.jobs [--faults 50] [--seed 1]

Starts a real Slurm of one node (root, Debian), as the tests do, and trains the toy task of the tests on it. Prints a table of
figure and limit; exits with 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.limits import Limits
from lib import jobs, runs
from lib.jobs import queue
from lib.jobs.commands import call
from tests.slurm.cluster import Cluster

TOY = Path(__file__).parents[1] / "tests" / "toy" / "tasks"
PATIENCE_S = 300.0
POLL_S = queue.POLL_S
EPOCHS_PER_FAULT = 3


def submitted(executor: str = "slurm", start: bool = True, **settings: Any) -> runs.Run:
    """A run of the toy task on the cluster."""
    config = {"model": "weighted", "n_train": 64, "n_test": 32, "epochs": 3, "threads": 1} | settings
    run = runs.create("toy", config, "benchmark", executor)
    jobs.SLURM.assign(run, jobs.SLURM.chosen("", {"time_limit_min": 59, "cpus_per_task": 1}))
    if start:
        jobs.start(run)
    return run


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def submission(limits: Limits, cluster: Cluster) -> None:
    """Start of a run beside a bare sbatch of the same script; the middle of nine."""
    cluster.drain()
    ours = [seconds(submitted) for _ in range(9)]
    script = str(runs.list_runs("toy")[0].folder / "batch.sh")
    bare = [seconds(lambda: call("sbatch", "--parsable", script)) for _ in range(9)]
    cluster.cancel_all()
    cluster.undrain()
    limits.show("bare sbatch, s", statistics.median(bare), -math.inf, math.inf)
    limits.show("start of a run, beyond sbatch, s", statistics.median(ours) - statistics.median(bare), -math.inf, 1.0)


def listing(limits: Limits, n_active: int = 200, n_done: int = 500) -> None:
    """States of runs that wait, then of finished ones, in a process that knows nothing yet."""
    for number in range(n_active):
        run = submitted(start=False)
        values = {"executor": "slurm", "submitted_at": time.time() - 60, "job_id": str(100_000 + number)}
        runs.write_json(run.folder / "proc.json", values)
    asked: list[int] = []
    plain = queue.squeue
    queue.squeue = lambda ids: asked.append(len(ids)) or plain(ids)  # type: ignore[func-returns-value]
    jobs.SLURM.queue.forget()
    queue.POLL_S = POLL_S
    took = seconds(lambda: [jobs.state(run) for run in runs.list_runs("toy")])
    queue.squeue, queue.POLL_S = plain, 0.5
    limits.show(f"{n_active} runs listed, s", took, -math.inf, 1.0)
    limits.show("questions to the cluster for that", len(asked), 1, 1)
    for _ in range(n_done):
        submitted(start=False).set_status(state="done")
    took = seconds(lambda: [jobs.state(run) for run in runs.list_runs("toy")])
    limits.show(f"{n_active + n_done} runs listed again, s", took, -math.inf, 1.0)


def faults(limits: Limits, cluster: Cluster, n: int, rng: np.random.Generator) -> None:
    """One training that is killed or queued again n times at random moments: how many finished epochs it trained twice."""
    run = submitted(epochs=EPOCHS_PER_FAULT * n + 3, step_delay_s=0.1)
    kinds = Counter[str]()
    while sum(kinds.values()) < n and not run.status().finished:
        epoch = run.status().epoch
        until(lambda epoch=epoch: run.status().epoch > epoch or run.status().finished)  # type: ignore[misc]
        time.sleep(float(rng.uniform(0, 0.6)))
        kind = str(rng.choice(["kill -9 of the trainer", "announced time limit", "requeue without a word"]))
        if run.status().finished:
            break
        kinds[kind] += 1
        fault(run, kind, cluster)
    until(lambda: run.status().state == "done")
    log = run.log(100_000)
    epochs = run.status().epochs
    twice = sum(log.count(f"epoch {epoch} ") - 1 for epoch in range(1, epochs + 1))
    print(", ".join(f"{count} × {kind}" for kind, count in kinds.items()))
    limits.show("faults", sum(kinds.values()), n, n)
    limits.show("epochs in metrics.csv, of those asked for", len(run.metrics()) / epochs, 1, 1)
    limits.show("finished epochs trained twice, per fault", twice / max(1, sum(kinds.values())), 0, 1)


def fault(run: runs.Run, kind: str, cluster: Cluster) -> None:
    """Do it, and see to it that the run goes on."""
    job = str((run.proc() or {})["job_id"])
    if kind.startswith("kill"):
        for process in psutil.process_iter(["cmdline"]):
            if run.id in (process.info["cmdline"] or []):
                process.kill()
        until(lambda: jobs.state(run) in ("failed", "lost", "done"))
        if jobs.state(run) != "done":
            jobs.resume(run)
        return
    cluster.run(*(["scancel", "--signal=USR1", "--batch", job] if "limit" in kind else ["scontrol", "requeue", job]), check=False)
    until(lambda: run.status().finished or cluster.field(job, "JobState") == "PENDING")
    if not run.status().finished:
        cluster.lift_hold(job)
    elif run.status().state == "failed":  # warned before it had finished an epoch
        jobs.resume(run)


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not do what was waited for")
        time.sleep(0.05)


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ["LIGHTBENCH_TASK_PATH"] = str(TOY)
    queue.POLL_S = 0.5
    limits = Limits()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIGHTBENCH_HOME"] = folder
        (Path(folder) / "slurm").mkdir()
        with Cluster(Path(folder) / "slurm") as cluster:
            submission(limits, cluster)
            listing(limits)
            if given.faults:
                faults(limits, cluster, given.faults, np.random.default_rng(given.seed))
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
