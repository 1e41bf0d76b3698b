"""How good the shipped diffusion model is, beside its peers on the same clips.

    python -m benchmarks.diffusion [--model RUN] [--clips 600] [--real FOLDER ...]

1. Fresh simulated clips: error, bias and coverage of the model, CVE, MLE and the original project's MSD fit, and the bound of
   every trajectory method. `known σ` has the still spot's width typed, `alone` has nothing but the clip and its camera.
2. Real clips in folders, named `block-ID-a-b-start.tif`: windows of one molecule that share no frame must agree.
3. The simulator's speed beside the original project's 0.33 s per clip.

Exits with 1 where a figure misses its limit.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.limits import Limits
from lib import model, predict, runs
from lib.task import Samples
from lib.tasks.diffusion import TASK, estimators, score
from lib.tasks.diffusion.config import CLIP_FRAMES, Acquisition, Simulation
from lib.tasks.diffusion.simulate import simulate_clips

D_UM2_S = (0.1, 0.25, 1.0, 2.5, 10.0)
SEED = 20_261_121  # training draws from seeds of four numbers, so none of these clips was ever seen
ORIGINAL_SECONDS_PER_CLIP = 0.33
PEERS = {"MLE": "d_mle_px2_per_frame", "CVE": "d_cve_px2_per_frame", "original MSD": "d_msd_px2_per_frame"}
FAST_PX2 = 1.0  # a clip whose MLE is above this shows a fast molecule: the populations are two decades apart
NEAR_FRAMES = 32  # windows that start closer: over longer times a molecule's own D changes, as all methods agree
BLOCK = re.compile(r"block-(\d+)-.*-(\d+)\.tif$")


# --- fresh simulated clips --------------------------------------------------------------------------------------------
def nominal(d_um2_s: float, clips: int) -> tuple[Simulation, Samples]:
    """Clips at 500 photons/frame, background 10/px, 10 ms, 100 nm, FWHM 200 nm, on an ideal camera."""
    settings = Simulation(d_um2_s=d_um2_s, px_size_nm=100, frame_interval_s=0.01, exposure_s=0.01, fwhm_nm=200,
                          photons=500, background=10)  # fmt: skip
    return settings, simulate_clips(settings, clips, np.random.default_rng([SEED, round(1000 * d_um2_s)]))


def estimates(shipped: model.Model, settings: Simulation, samples: Samples) -> dict[str, pd.DataFrame]:
    """Tables with d_px2_per_frame (and limits, for the model) of every method."""
    found = estimators.baselines(samples)
    tables = {name: pd.DataFrame({score.D: found[column]}) for name, column in PEERS.items()}
    known = samples.with_columns(psf_sigma_px=settings.sigma_px, psf_sigma_error=0.002)
    return {"model, known σ": shipped.predict(known, 64), "model, alone": shipped.predict(samples, 64)} | tables


def trajectory_bound(settings: Simulation) -> float:
    """Least relative RMSE of any unbiased estimate from centroids at these conditions."""
    d, blur = settings.d_px2_per_frame, settings.exposure_s / settings.frame_interval_s / 6
    width = np.sqrt(settings.sigma_px**2 + 1 / 12 + 2 * d * blur)
    noise = estimators.localisation_variance(np.array([settings.photons]), np.array([settings.background]), np.array([width]))
    return float(estimators.trajectory_bound(np.array([d]), noise, blur, CLIP_FRAMES)[0])


def accuracy(shipped: model.Model, clips: int) -> pd.DataFrame:
    """One row per method and D: rms_log10_d, relative_rmse, relative_bias, coverage_68_percent."""
    rows = []
    for d in D_UM2_S:
        settings, samples = nominal(d, clips)
        true = np.full(len(samples), settings.d_px2_per_frame)
        for method, table in estimates(shipped, settings, samples).items():
            relative = table[score.D].to_numpy(float) / true - 1
            covered = score.coverage_percent(table, true, "") if f"{score.D}_lo" in table else np.nan
            rows.append({
                "method": method, "d_um2_s": d, "rms_log10_d": score.rms_log10(table[score.D].to_numpy(float), true),
                "relative_rmse": np.sqrt(np.mean(relative**2)), "relative_bias": np.mean(relative), "coverage_68": covered,
            })  # fmt: skip
        rows.append({"method": "trajectory bound", "d_um2_s": d, "relative_rmse": trajectory_bound(settings)})
    return pd.DataFrame(rows)


def show_accuracy(found: pd.DataFrame, clips: int, limits: Limits) -> None:
    """The table, then the limits of both ways to use the model."""
    print(f"\nFresh simulated clips, {clips} per D; 500 photons/frame, background 10/px, 16 frames, 10 ms, 100 nm, FWHM 200 nm")
    for column in ("relative_rmse", "relative_bias", "rms_log10_d", "coverage_68"):
        table = found.pivot(index="method", columns="d_um2_s", values=column).reindex(found["method"].unique())
        table["mean"] = table.mean(axis=1)
        print(f"\n{column} at D [µm²/s]\n{table.dropna(how='all').to_string(float_format='{:.3f}'.format)}")
    print()
    bound = found[found["method"] == "trajectory bound"].set_index("d_um2_s")["relative_rmse"]
    for method in ("model, known σ", "model, alone"):
        mine = found[found["method"] == method].set_index("d_um2_s")
        fast = mine.index[mine.index >= 1]
        limits.show(f"{method}: mean rms log10 error", float(mine["rms_log10_d"].mean()), -np.inf, 0.070)
        ratio = float((mine.loc[fast, "relative_rmse"] / bound.loc[fast]).max())
        limits.show(f"{method}: relative RMSE ÷ trajectory bound, worst D ≥ 1", ratio, -np.inf, 0.6)
        limits.show(f"{method}: largest |bias|", float(mine["relative_bias"].abs().max()), -np.inf, 0.05)
        limits.show(f"{method}: coverage of 68 % intervals, mean of the D", float(mine["coverage_68"].mean()), 65, 71)


# --- real clips -------------------------------------------------------------------------------------------------------
def disjoint_pairs(names: list[str]) -> Iterator[tuple[int, int, int]]:
    """Row numbers of windows of one molecule that share no frame, and how many frames lie between their starts."""
    parts = [BLOCK.search(name) for name in names]
    for (i, a), (j, b) in itertools.combinations(enumerate(parts), 2):
        if a and b and a[1] == b[1] and (apart := abs(int(a[2]) - int(b[2]))) >= CLIP_FRAMES:
            yield i, j, apart


def consistency(values: np.ndarray, pairs: list[tuple[int, int, int]]) -> float:
    """Rms of log10 of the ratio over pairs, divided by √2: the error of one window if errors are independent."""
    log10_d = np.log10(np.maximum(values, 1e-3))
    return float(np.sqrt(np.mean([(log10_d[i] - log10_d[j]) ** 2 for i, j, _ in pairs]) / 2))


def predict_folder(shipped: model.Model, folder: Path) -> pd.DataFrame:
    """Predictions of a folder's clips as a user would get them with nothing typed, with every classical estimate."""
    files = [(path, path.name) for path in sorted(folder.glob("*.tif"))]
    result = predict.predict_files(shipped, files, Acquisition())
    table = result.table[result.predicted].reset_index(drop=True)
    assert result.samples is not None, f"no clip in {folder} could be predicted"
    return table.assign(d_msd_px2_per_frame=estimators.baselines(result.samples)["d_msd_px2_per_frame"].to_numpy())


def show_real(shipped: model.Model, folders: list[Path], limits: Limits) -> None:
    """Consistency over all folders' fast molecules; each folder's mean beside its pooled CVE; the populations' distance."""
    tables, pairs, start = [], [], 0
    for folder in folders:
        table = predict_folder(shipped, folder)
        table["fast"] = table["d_mle_px2_per_frame"] > FAST_PX2
        moves = table["fast"].to_numpy(bool)
        found = disjoint_pairs(list(table["file"]))
        pairs += [(i + start, j + start, apart) for i, j, apart in found if moves[i] and moves[j]]
        start += len(table)
        fast, slow = table[table["fast"]], table[~table["fast"]]
        counts = f"{len(fast)} clips of fast molecules, {len(slow)} of slow ones, {int(table['in_domain'].sum())} in domain"
        print(f"\n{folder.name}: {counts}")
        if len(fast):
            ratio = fast[score.D].mean() / fast["d_cve_px2_per_frame"].mean()
            limits.show(f"{folder.name}: mean D of fast clips ÷ pooled CVE", float(ratio), 0.9, 1.1)
        if len(fast) and len(slow):
            gap = np.log10(fast[score.D].quantile(0.05) / slow[score.D].quantile(0.95))
            limits.show(f"{folder.name}: decades from the fast 5 % to the slow 95 % quantile", float(gap), 0.0, np.inf)
        tables.append(table)
    everything = pd.concat(tables, ignore_index=True)
    near = [pair for pair in pairs if pair[2] < NEAR_FRAMES]
    print(f"\nDisjoint windows of one fast molecule: rms log10 ratio ÷ √2 over {len(pairs)} pairs")
    print(f"(and over the {len(near)} of them that start less than {NEAR_FRAMES} frames apart)")
    for name, column in {**PEERS, "model": score.D}.items():
        values = everything[column].to_numpy(float)
        print(f"{name:<62} {consistency(values, pairs):9.3f} ({consistency(values, near):.3f})")
    limits.show(
        "model, camera and σ estimated from the clips", consistency(everything[score.D].to_numpy(float), pairs), -np.inf, 0.1
    )


# --- simulator --------------------------------------------------------------------------------------------------------
def show_simulator(limits: Limits, clips: int = 2560, chunk: int = 128) -> None:
    """Time per clip on one core at the nominal conditions, the best of five rounds."""
    settings, rng = Simulation(), np.random.default_rng(0)
    simulate_clips(settings, chunk, rng)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(clips // chunk // 5):
            simulate_clips(settings, chunk, rng)
        seconds.append((time.perf_counter() - begin) / (clips // chunk // 5 * chunk))
    own, original = 1e3 * min(seconds), 1e3 * ORIGINAL_SECONDS_PER_CLIP
    print(f"\nSimulator: {own:.2f} ms per clip on one core; the original project needed {original:g} ms")
    limits.show("times faster than the original", ORIGINAL_SECONDS_PER_CLIP / min(seconds), 500, np.inf)


def main(arguments: list[str] | None = None) -> int:
    """Print every table; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diffusion", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", default="", help="run to measure (default: the shipped model)")
    parser.add_argument("--clips", type=int, default=600, help="simulated clips per D (default: %(default)s)")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="folders of real clips named block-ID-a-b-start.tif")
    chosen = parser.parse_args(arguments)
    run = runs.find(chosen.model, TASK.name) if chosen.model else runs.default_model(TASK.name)
    shipped, limits = model.load(run, TASK), Limits()
    print(f"model {run.id}")
    show_accuracy(accuracy(shipped, chosen.clips), chosen.clips, limits)
    if chosen.real:
        show_real(shipped, chosen.real, limits)
    show_simulator(limits)
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
