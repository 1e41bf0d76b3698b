"""How fast the spectra task is with a table of 60 000 samples × 1338 points (three channels), in a home folder of its own.

Each figure is wall-clock time beside its limit; CPU time stands beside it, as other work on the machine stretches the one and
not the other. Files have just been written, so the disk is not part of it. Threads are torch's, or OMP_NUM_THREADS.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

from benchmarks.limits import Limits
from lib import figures, predict, recipe, runs, train
from lib import model as models
from lib.task import Samples, View
from lib.tasks.spectra import TASK
from lib.tasks.spectra.arrays import as_table
from lib.tasks.spectra.files import cache_folder, write
from lib.tasks.spectra.settings import Rules, Training
from lib.tasks.spectra.table import EXCITATIONS

ROWS, PREDICTED_ROWS = 60_000, 10_000
PRESET = "a whole population"
FAMILIES = ("compact CNN", "PLS-DA")  # that predict
REPEATS = 3
FIRST_OPEN_S, NEXT_OPEN_S, SLIDER_S, PREDICTION_S, TRAINING_S = 10.0, 2.0, 0.5, 5.0, 600.0
NEAR_BEST = 0.01  # of macro-F1: one point


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock and of this process's CPU time, the middle ones of several repeats."""

    wall_s: float
    cpu_s: float

    def show(self, name: str, limit_s: float, limits: Limits) -> None:
        """The wall-clock seconds beside their limit."""
        limits.show(f"{name}, s (CPU {self.cpu_s:.2f} s)", self.wall_s, -math.inf, limit_s)


def timed(action: Callable[[], object], repeats: int = REPEATS, before: Callable[[], object] = lambda: None) -> Spent:
    """The middle of some repeats, each after `before`, which is not counted."""
    wall, cpu = [], []
    for _ in range(repeats):
        before()
        begin = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - begin[0])
        cpu.append(time.process_time() - begin[1])
    return Spent(statistics.median(wall), statistics.median(cpu))


@contextmanager
def own_home() -> Iterator[Path]:
    """A home folder that goes away again: nobody's runs, sets or caches are touched."""
    before = os.environ.get("LIGHTBENCH_HOME")
    with tempfile.TemporaryDirectory(prefix="lightbench-benchmark-") as folder:
        os.environ["LIGHTBENCH_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("LIGHTBENCH_HOME")
            if before is not None:
                os.environ["LIGHTBENCH_HOME"] = before


def busy() -> str:
    """How busy the machine is: processes that ran or waited for a core in the last minute."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    more = ", more than it has: compare CPU times" if load > cores else ""
    return f"load {load:.1f} on {cores} cores{more}"


# --- the table --------------------------------------------------------------------------------------------------------
def demo(rows: int, seed: int) -> Samples:
    """What `python -m lib simulate spectra --preset "a whole population"` simulates, its three fluorescence channels."""
    config = TASK.Simulation.parse(TASK.simulation_presets[PRESET])
    whole = TASK.simulate(config, rows, np.random.default_rng(seed))
    described = [channel for channel in whole.common["channels"] if channel["name"] in EXCITATIONS]
    return Samples({name: whole.inputs[name] for name in EXCITATIONS}, whole.table, {"channels": described})


def written(samples: Samples, folder: Path) -> Path:
    """The Parquet file that the command would write."""
    folder.mkdir(parents=True)
    return next(path for path in TASK.write(samples, folder) if path.suffix == ".parquet")


def show_opening(samples: Samples, folder: Path, limits: Limits) -> Path:
    """Open the table as Parquet and as CSV, without and with its cache; returns the Parquet file."""
    parquet = written(samples, folder)
    csv = write(as_table(samples), folder / "spectra.csv")
    for path, kind in ((parquet, "Parquet"), (csv, "CSV")):
        said = f"{kind}, {path.stat().st_size / 1e6:.0f} MB"
        timed(partial(read, path), before=forget).show(f"open the first time ({said})", FIRST_OPEN_S, limits)
        timed(partial(read, path)).show(f"open again ({said})", NEXT_OPEN_S, limits)
    csv.unlink()
    return parquet


def forget() -> None:
    """Empty the cache, so that the next opening is a first one."""
    shutil.rmtree(cache_folder(), ignore_errors=True)


def read(path: Path) -> Samples:
    """The table as the pages and commands read it."""
    return TASK.read(path, TASK.Acquisition())


# --- the Clean page ---------------------------------------------------------------------------------------------------
def show_slider(path: Path, folder: Path, limits: Limits) -> None:
    """What the server does when a slider of the Clean page moves: flags, counts and the chosen view, one view after another."""
    folder.mkdir()
    read(path).save(folder)
    samples = Samples.load(folder)  # mapped, as the page holds it
    readings = TASK.inspect(samples, TASK.Acquisition())
    spent = {}
    for number, view in enumerate(overview(samples, readings, Rules())[0]):
        if view.made_of is None:  # others do not ask the rules: the page makes them once
            spent[view.title] = timed(partial(answer, samples, readings, number, count(6000, 100)))
    print("    " + "; ".join(f"{title} {value.wall_s:.2f}" for title, value in spent.items()))
    slowest = max(spent, key=lambda title: spent[title].wall_s)
    spent[slowest].show(f"slider, server part, slowest view ({slowest})", SLIDER_S, limits)


def overview(samples: Samples, readings: pd.DataFrame, rules: Rules) -> tuple[list[View], pd.DataFrame]:
    """The views, and how many samples each rule removes, in all and alone."""
    flags = TASK.flag(readings, rules).reset_index(drop=True)
    alone = flags.sum(axis=1) == 1
    counts = pd.DataFrame({"removes": flags.sum(), "share": flags.mean(), "alone": flags[alone].sum()})
    return TASK.overview(samples, readings, recipe.kept(flags, {}), rules), counts


def answer(samples: Samples, readings: pd.DataFrame, number: int, steps: Iterator[int]) -> str:
    """One view as it is sent to the browser, at the slider's next step."""
    panel = overview(samples, readings, Rules(max_277=next(steps)))[0][number].make()
    if isinstance(panel.content, go.Figure):
        return str(figures.themed(panel.content, "light").to_json())
    return str(panel.to_json())


# --- predictions ------------------------------------------------------------------------------------------------------
def show_predictions(path: Path, folder: Path, seed: int, limits: Limits) -> None:
    """Predict a table with a loaded model, as the warm worker does; how well does not matter, so it is hardly trained."""
    file = written(read(path).take(np.arange(PREDICTED_ROWS)), folder)
    for family in FAMILIES:
        values = {"model": family, "simulated_samples": 1000, "channels": EXCITATIONS, "epochs": 1, "seed": seed, "threads": 1}
        predicting = partial(predicted, models.load(trained({**values, "accelerator": "cpu"}), TASK), file)
        predicting()  # torch's first steps are slow
        name = f"{PREDICTED_ROWS:,} predictions, {family}"
        timed(predicting, before=forget).show(f"{name}, file new", PREDICTION_S, limits)
        timed(predicting).show(f"{name}, file in cache", PREDICTION_S, limits)


def predicted(model: models.Model, file: Path) -> None:
    """The whole file through `predict_files`: reading, network, decisions, figures. Raises RuntimeError where a row lacks."""
    done = predict.predict_files(model, [(file, file.name)], TASK.Acquisition())
    if int(done.predicted.sum()) != PREDICTED_ROWS:
        raise RuntimeError(f"{int(done.predicted.sum())} of {PREDICTED_ROWS} rows were predicted: {done.failures}")


def trained(values: dict[str, object]) -> runs.Run:
    """A finished run. Raises RuntimeError where it failed."""
    run = runs.create(TASK.name, Training.parse(values).model_dump(mode="json"), "benchmark")
    status = train.fit(run)
    if status.state != "done":
        raise RuntimeError(f"training ended as {status.state}: {status.reason}")
    return run


# --- training ---------------------------------------------------------------------------------------------------------
def show_training(path: Path, seed: int, limits: Limits, threads: int = 2) -> None:
    """Time that the compact CNN's preset takes on two cores until its validation value is within a point of its best."""
    values = {**TASK.training_presets["compact CNN"], "data": str(path), "seed": seed, "threads": threads, "accelerator": "cpu"}
    begin = time.perf_counter(), time.process_time()
    run = trained(values)
    wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
    metrics, name = run.metrics(), TASK.monitor.name
    best = float(metrics[name].max())
    near = metrics[metrics[name] >= best - NEAR_BEST].iloc[0]
    within = float(metrics.loc[metrics["epoch"] <= near["epoch"], "seconds"].sum())
    begun = wall - float(metrics["seconds"].sum())  # reading, splitting, scaling, and at the end calibration and test
    print(f"    {len(metrics)} epochs in {wall:.0f} s (CPU {cpu:.0f} s); best {name} {best:.4f}; besides epochs {begun:.0f} s")
    print("    " + ", ".join(f"{value:.3f}" for value in metrics[name]))
    said = f"compact CNN within a point of its best, epoch {int(near['epoch'])}, s"
    limits.show(said, within + begun, -math.inf, TRAINING_S)


# --- all of it --------------------------------------------------------------------------------------------------------
def show_speeds(seed: int, limits: Limits, *, rows: int = ROWS, training: bool = False) -> None:
    """Write the table, then time what people wait for."""
    with own_home() as home:
        samples = demo(rows, seed)
        points = sum(values.shape[1] for values in samples.inputs.values())
        print(f"\nSpeeds: {rows:,} × {points} simulated table; {busy()}; {torch.get_num_threads()} threads")
        path = show_opening(samples, home / "data" / TASK.name / "demo", limits)
        del samples
        show_slider(path, home / "page", limits)
        show_predictions(path, home / "data" / TASK.name / "ten", seed, limits)
        if training:
            show_training(path, seed, limits)
        print(f"    at the end: {busy()}")
