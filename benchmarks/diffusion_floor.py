"""How small the error of D can be at all: the exact posterior given the images, beside the shipped model on the same clips.

    python -m benchmarks.diffusion_floor [--clips 200] [--calibrate 0]

On average over the prior (D log-uniform over the model's training range) no estimator has a smaller mean square error of log D
than the posterior's mean; for the relative error that is E[1/D] / E[1/D²]. Everything but path and D is taken as known, see
`diffusion_posterior`. A chain that mixes slowly errs towards where it began, so the floor is taken from the chain that began at
the truth: noise apart, it can be too small but not too large. `again, from the track` began with a wrong path and D and shows
how far that matters: from 2.5 µm²/s on some of its chains are still on their way, and where the molecule leaves the picture one
may stay in a path that explains nothing. `its own width` is the error that the posterior expects of itself. `--calibrate N`
draws the D of N clips from the prior and counts how often the intervals hold it. One core: 0.7 s per clip, 1.6 s at 10 µm²/s.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy.stats import kstest

from benchmarks.diffusion import D_UM2_S, SEED, nominal, trajectory_bound
from benchmarks.diffusion_posterior import D_RANGE, DRAWS, sample
from benchmarks.limits import Limits
from lib import model, runs
from lib.task import Samples
from lib.tasks.diffusion import TASK, score
from lib.tasks.diffusion.config import CLIP_FRAMES, CLIP_PX, Simulation
from lib.tasks.diffusion.data import log_uniform
from lib.tasks.diffusion.simulate import Camera, Molecules, simulate_clips, simulate_group

NOMINAL_CLIPS = 600  # that benchmarks.diffusion draws at once: another number would draw other clips
BOOTSTRAPS = 2000
CHAINS = ("exact posterior", "  again, from the track")
Figure = tuple[float, float]  # value and standard error


# --- clips ------------------------------------------------------------------------------------------------------------
def fixed_clips(d_um2_s: float, clips: int) -> tuple[Simulation, Samples]:
    """The first of the clips that benchmarks.diffusion measures at this D, with their paths."""
    settings, _ = nominal(d_um2_s, 1)
    rng = np.random.default_rng([SEED, round(1000 * d_um2_s)])  # as nominal() does
    samples = simulate_clips(settings, NOMINAL_CLIPS, rng, keep_path=True)
    return settings, samples.take(np.arange(clips))


def prior_clips(clips: int) -> tuple[Simulation, Samples]:
    """Clips at the same conditions whose D is drawn from the prior."""
    settings, rng = nominal(1.0, 1)[0], np.random.default_rng([SEED, 0])
    same = {"sigma_px": settings.sigma_px, "photons": settings.photons, "exposure": 1.0, "blink": 0.0, "lit_frames": CLIP_FRAMES}
    molecules = Molecules(
        d_px2=np.sort(log_uniform(*D_RANGE, clips, rng)),
        start_px=(CLIP_PX - 1) / 2 + rng.uniform(-2, 2, (clips, 2)),
        **{name: np.full(clips, value) for name, value in same.items()},
    )
    camera = Camera(settings.baseline_adu, settings.e_per_adu)
    return settings, simulate_group(molecules, settings.background, camera, rng, keep_path=True)


# --- figures ----------------------------------------------------------------------------------------------------------
def rms(errors: np.ndarray) -> np.ndarray:
    """Root mean square along the last axis."""
    return np.asarray(np.sqrt(np.mean(errors**2, axis=-1)))


def with_error(per_clip: np.ndarray, figure: Callable[[np.ndarray], np.ndarray] = rms) -> Figure:
    """`figure` of the clips, and its standard error by drawing the clips anew."""
    again = np.random.default_rng(0).integers(len(per_clip), size=(BOOTSTRAPS, len(per_clip)))
    return float(figure(per_clip)), float(np.std(figure(per_clip[again])))


def unmixed(draws: np.ndarray) -> np.ndarray:
    """R̂ (clips,) of the two chains, each cut into halves (Gelman et al., Bayesian Data Analysis); 1 where all agree."""
    halves = draws.reshape(4, DRAWS // 2, -1)
    within, between = halves.var(1, ddof=1).mean(0), halves.mean(1).var(0, ddof=1)
    return np.asarray(np.sqrt(1 - 2 / DRAWS + between / within))


def show_mixing(draws: np.ndarray, name: str) -> None:
    """One line on how well the chains agree."""
    reduction, both = unmixed(draws), draws.reshape(2 * DRAWS, -1)
    apart = float(rms((draws[0].mean(0) - draws[1].mean(0)) / both.std(0, ddof=1)))
    shares = f"above 1.05 in {np.mean(reduction > 1.05):.1%} and above 1.2 in {np.mean(reduction > 1.2):.1%} of clips"
    print(
        f"{name:<12} R̂ median {np.median(reduction):.3f}, {shares}; means of both chains {apart:.2f} widths apart (rms)",
        flush=True,
    )


def figures_at(d_um2_s: float, clips: int, shipped: model.Model) -> pd.DataFrame:
    """Columns method, d_um2_s, figure, value, error at one D."""
    settings, samples = fixed_clips(d_um2_s, clips)
    draws, true = sample(settings, samples, SEED), settings.d_px2_per_frame
    show_mixing(draws, f"{d_um2_s:g} µm²/s")
    guesses: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    found: dict[tuple[str, str], Figure] = {}
    for name, part in zip(CHAINS, draws):
        guesses[name] = np.exp(part.mean(0)), np.exp(-part).mean(0) / np.exp(-2 * part).mean(0)
    known = samples.with_columns(psf_sigma_px=settings.sigma_px, psf_sigma_error=0.002)
    guesses["model, known σ"] = (shipped.predict(known, 64)[score.D].to_numpy(float),) * 2
    for name, (for_log, for_relative) in guesses.items():
        found[name, "rms_log10_d"] = with_error(np.log10(for_log / true))
        found[name, "relative_rmse"] = with_error(for_relative / true - 1)
    found["exact posterior, its own width", "rms_log10_d"] = with_error(draws[0].std(0, ddof=1) / math.log(10))
    found["trajectory bound", "relative_rmse"] = trajectory_bound(settings), 0.0
    return pd.DataFrame([(name, d_um2_s, figure, *values) for (name, figure), values in found.items()],
                        columns=["method", "d_um2_s", "figure", "value", "error"])  # fmt: skip


def show_figures(found: pd.DataFrame, clips: int) -> None:
    """A table per figure, one row per method, one column per D and their mean."""
    print(f"\nThe first {clips} clips per D of benchmarks.diffusion, ± standard error over clips")
    for figure, part in found.groupby("figure", sort=False):
        mean = part.groupby("method", as_index=False).agg(
            value=("value", "mean"), error=("error", lambda e: rms(e.to_numpy()) / len(e) ** 0.5)
        )
        rows = pd.concat([part, mean.assign(d_um2_s="mean")])
        rows["text"] = [f"{value:.3f} ± {error:.3f}" if error else f"{value:.3f}" for value, error in zip(rows.value, rows.error)]
        table = rows.pivot(index="method", columns="d_um2_s", values="text")
        print(f"\n{figure} at D [µm²/s]\n{table.reindex(part['method'].unique())[[*D_UM2_S, 'mean']].to_string()}")


def show_calibration(clips: int, limits: Limits) -> None:
    """Whether the posterior holds D as often as it says, where D comes from the prior."""
    settings, samples = prior_clips(clips)
    draws, true = sample(settings, samples, SEED + 1), np.log(samples.table["true_d_px2_per_frame"].to_numpy(float))
    print(f"\nCalibration: {clips} clips with D log-uniform in {D_RANGE[0]:g}–{D_RANGE[1]:g} px²/frame")
    show_mixing(draws, "all D")
    for name, part in zip(CHAINS, draws):
        rank, z = (part < true).mean(0), (part.mean(0) - true) / part.std(0, ddof=1)
        for share in (0.68, 0.95):
            inside, slack = float(np.mean(np.abs(rank - 0.5) < share / 2)), 3 * math.sqrt(share * (1 - share) / clips)
            limits.show(
                f"{name}: share of D inside {share:.0%} intervals",
                inside,
                round(share - slack, 3),
                min(1.0, round(share + slack, 3)),
            )
        limits.show(f"{name}: Kolmogorov–Smirnov p of ranks", float(kstest(rank, "uniform").pvalue), 0.01, 1)
        print(f"{name}: rms error ÷ posterior's width {float(rms(z)):.3f}")


def main(arguments: list[str] | None = None) -> int:
    """Print every table; 1 where the posterior is not calibrated."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.diffusion_floor", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--clips", type=int, default=200, help=f"clips per D, at most {NOMINAL_CLIPS} (default: %(default)s)")
    parser.add_argument("--calibrate", type=int, default=0, help="clips with D from the prior (default: none)")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    begin, limits = time.process_time(), Limits()
    run = runs.default_model(TASK.name)
    shipped = model.load(run, TASK)
    print(f"model {run.id}")
    if chosen.clips:
        show_figures(pd.concat([figures_at(d, chosen.clips, shipped) for d in D_UM2_S]), chosen.clips)
    if chosen.calibrate:
        show_calibration(chosen.calibrate, limits)
    print(f"\n{(time.process_time() - begin) / 60:.1f} min of one core")
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
