"""What the reflectance task must show: accuracy by specimen, cost beside the original, the wave solver, speed of prediction.

    OMP_NUM_THREADS=2 python -m benchmarks.reflectance --geometry RUN [--parts 1 2 3 4] [--seeds 0 1 2 3 4] [--epochs 8]

1. On the demo set, split by specimen, several seeds: the model beside ExtraTrees on the same training images and the oracle that
   sees the visible geometry; how many true values the 68 % intervals hold.
2. The compact original, trained with the same data, epochs, changes of images and loss: its error and multiply-adds beside ours.
3. The wave solver: see benchmarks/reflectance_solver.py.
4. 500 images predicted, from a cold start too; and a deletion test: what the places that a network names are worth.

Runs are made in LIGHTBENCH_HOME, named bench-…; a run that is there is not trained again. `--geometry` is the run of stage
geometry that training starts from; without it every seed learns from scratch. Exits with 1 where a promise is missed.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import reflectance_solver
from benchmarks.limits import Limits
from lib import model as models
from lib import runs, tasks, train
from lib.runs import Run, part
from lib.task import Task
from lib.tasks.reflectance import demo, influence, score
from lib.tasks.reflectance.baselines import ALL_KNOWN, LEAKY, MEAN, NEW_KIND, ORACLE, RIDGE, TREES
from lib.tasks.reflectance.config import CHANNELS, IMAGE_PX
from lib.tasks.reflectance.data import Images
from lib.tasks.reflectance.training import Training

RATIO_TO_TREES, SHARE_OF_GAP = 0.85, 0.5
COVERAGE_PERCENT = (65.0, 71.0)
TIMES_CHEAPER, EPOCH_S = 20.0, 60.0
IMAGES, PREDICT_S, COLD_S = 500, 30.0, 5.0
COMPACT = "compact original"


# --- runs -------------------------------------------------------------------------------------------------------------
def trained(task: Task, name: str, settings: dict[str, Any]) -> Run:
    """The run of that name and these settings, trained unless it is there. Raises RuntimeError where training fails."""
    config = task.Training.parse(settings).model_dump(mode="json")
    for run in runs.list_runs(task.name):
        if run.name == name and run.config() == config and run.status().state == "done":
            return run
    run = runs.create(task.name, config, name=name)
    status = train.fit(run)
    if status.state != "done":
        raise RuntimeError(f"{run.id}: {status.state}, {status.reason}")
    return run


def settings_of(model: str, seed: int, epochs: int, geometry: str) -> dict[str, Any]:
    """Settings of one training; ours starts from the geometry, the original has none to start from."""
    shared = {"seed": seed, "current_split": 0, "epochs": epochs, "accelerator": "cpu"}
    if model == COMPACT:
        return shared | {"model": COMPACT, "members": 1}
    started = {"start_from": geometry, "frozen": "all but the head", "learning_rate": 3e-3} if geometry else {}
    return shared | {"model": "PolarNet", "members": 8} | started


def tested(run: Run) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predicted, true and the samples' table of the test images."""
    table = run.test_predictions()
    assert table is not None
    predicted, true, samples = (part(table, prefix) for prefix in ("predicted.", "true.", "sample."))
    return predicted, true, samples


def error_pp(values: pd.DataFrame, true: pd.DataFrame, prefix: str = "") -> float:
    """Mean absolute error over images, then over channels."""
    columns = [f"{prefix}{channel}" for channel in CHANNELS]
    return score.mean_mae_pp(values[columns].to_numpy(float), true[list(CHANNELS)].to_numpy(float))


# --- 1: accuracy ------------------------------------------------------------------------------------------------------
def show_accuracy(task: Task, seeds: Sequence[int], epochs: int, geometry: str, limits: Limits) -> None:
    """Errors over the seeds, each another split by specimen, and coverage."""
    rows = []
    for seed in seeds:
        predicted, true, samples = tested(
            trained(task, f"bench-polarnet-{seed}", settings_of("PolarNet", seed, epochs, geometry))
        )
        row = {"seed": seed, "ours": error_pp(predicted, true)}
        group = samples["group"]
        means = [values[list(CHANNELS)].astype(float).groupby(group).mean().reset_index() for values in (predicted, true)]
        row["ours, mean of views"] = error_pp(means[0], means[1])
        row |= {name: error_pp(samples, true, f"{name}_")
                for name in (MEAN, RIDGE, TREES, ORACLE, ALL_KNOWN, LEAKY, NEW_KIND)}  # fmt: skip
        row["coverage_percent"] = score.score(predicted, true, {})["coverage_percent"]
        rows.append(row)
    table = pd.DataFrame(rows).set_index("seed")
    print("\nmean absolute error (pp) on test specimens\n" + table.round(2).to_string())
    mean = table.mean()
    limits.show("error over that of ExtraTrees", mean["ours"] / mean[TREES], -math.inf, RATIO_TO_TREES)
    reached = (mean[TREES] - mean["ours"]) / (mean[TREES] - mean[ORACLE])
    limits.show("share of the gap to the oracle", reached, SHARE_OF_GAP, math.inf)
    limits.show("coverage of 68 % intervals (%)", mean["coverage_percent"], *COVERAGE_PERCENT)


# --- 2: cost ----------------------------------------------------------------------------------------------------------
def multiply_adds(task: Task, settings: dict[str, Any]) -> float:
    """Millions for one image, by torch's counter; a fast transform is not in it: 0.6 million at 128 px."""
    network = task.network(task.Training.parse(settings | {"start_from": "", "frozen": "nothing"})).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, IMAGE_PX, IMAGE_PX), torch.zeros(1, 2))
    return counter.get_total_flops() / 2e6


def show_cost(task: Task, seed: int, epochs: int, geometry: str, limits: Limits) -> None:
    """Ours beside the compact original, same data and epochs."""
    found: dict[str, tuple[float, float, float]] = {}
    for model in ("PolarNet", COMPACT):
        settings = settings_of(model, seed, epochs, geometry)
        run = trained(task, f"bench-{model.replace(' ', '-').lower()}-{seed}", settings)
        predicted, true, _ = tested(run)
        found[model] = error_pp(predicted, true), multiply_adds(task, settings), float(run.metrics()["seconds"].median())
        print(
            f"  {model}: {found[model][0]:.2f} pp, {found[model][1]:.1f} million multiply-adds, {found[model][2]:.1f} s an epoch"
        )
    ours, theirs = found["PolarNet"], found[COMPACT]
    limits.show("error over that of the compact original", ours[0] / theirs[0], -math.inf, 1.0)
    limits.show("multiply-adds of the compact original over ours", theirs[1] / ours[1], TIMES_CHEAPER, math.inf)
    limits.show("one epoch (s)", ours[2], -math.inf, EPOCH_S)


# --- 4: prediction ----------------------------------------------------------------------------------------------------
def show_speed(task: Task, run: Run, limits: Limits) -> None:
    """Seconds for 500 images with everything that the page shows of them, and what a cold start adds."""
    samples = demo.load(None)
    samples = samples.take(np.arange(IMAGES))
    model = models.load(run, task)
    begin = time.perf_counter()
    model.predict(samples)
    seconds = time.perf_counter() - begin
    limits.show(f"{IMAGES} images (s)", seconds, -math.inf, PREDICT_S)
    code = f"from lib import model, runs, tasks; model.load(runs.find({run.id!r}, 'reflectance'), tasks.get('reflectance'))"
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    limits.show("cold start (s)", time.perf_counter() - begin, -math.inf, COLD_S)


def show_deletion(task: Task, run: Run, limits: Limits) -> None:
    """Of 100 times, how often greying the places that a map names changes a channel more, as is said, than others at random."""
    config = task.Training.parse(run.config())
    assert isinstance(config, Training)
    found = influence.deletion_test(models.load(run, task).network, Images(config))["deletion"]  # type: ignore[arg-type]
    for name, title in (("raising", "places that raise a channel"), ("lowering", "places that lower a channel")):
        limits.show(f"{title}: beyond others at random (%)", found[f"{name}_percent"], 50.0, 100.0)
        print(f"  ± {found[f'{name}_error_percent']:.1f} %, {found[f'{name}_pp']:.2f} pp farther")


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for; 1 where a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", type=int, choices=(1, 2, 3, 4), default=[1, 2, 3, 4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--geometry", default="", help="run of stage geometry to start from")
    asked = parser.parse_args(arguments)
    task, limits = tasks.get("reflectance"), Limits()
    if 1 in asked.parts:
        show_accuracy(task, asked.seeds, asked.epochs, asked.geometry, limits)
    if 2 in asked.parts:
        show_cost(task, asked.seeds[0], asked.epochs, asked.geometry, limits)
    if 3 in asked.parts:
        reflectance_solver.show(limits)
    if 4 in asked.parts:
        run = trained(task, f"bench-polarnet-{asked.seeds[0]}",
                      settings_of("PolarNet", asked.seeds[0], asked.epochs, asked.geometry))  # fmt: skip
        show_speed(task, run, limits)
        show_deletion(task, run, limits)
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
