"""Whether D can be read from a clip at all: what stands against it beside what the network notices itself.

The network was shown dim neighbours, darkness and every width on purpose, so its own range of readings does not tell a clip
without a molecule, or with two, from one of those. These are the thresholds of the Clean page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.task import Phrase, Samples
from lib.tasks.diffusion import clean, estimators, localise
from lib.tasks.diffusion.config import Rules, Training

D = "d_px2_per_frame"
NEAR_END = 1.5  # an interval that comes this near (factor) to an end of the range of D in training reaches beyond it
NARROWER = 0.8  # of the stated width of a still spot: no spot of the clip may be narrower than that share
MOST_DRIFT = 6.0  # standard errors of the mean step: more is no chance
FEWEST_FULL = 4  # pixels at a ceiling: one may read that number by chance
LONGER_PX = 1.0  # steps of such a drift at least
BRIGHTEST = 3  # frames whose light is the molecule's where it may be dark in most others


def ranges_of(config: Training) -> dict[str, list[float]]:
    """What of its settings a run keeps to judge clips by: the ranges of D (px²/frame) and of the still spot's σ (px)."""
    return {"d_px2_per_frame": [config.d_min_px2, config.d_max_px2], "sigma_px": [config.sigma_min_px, config.sigma_max_px]}


def checked(judged: pd.DataFrame, samples: Samples, facts: Mapping[str, Any], tell: Callable[[str], str] = str) -> pd.DataFrame:
    """Predictions of real clips, a row each, with what stands against them in `in_domain` and `note`.

    A D that is no number, or lies outside its own 95 % interval, is taken away. An interval that reaches the smallest D of the
    training goes down to 0; one that reaches the largest is out of domain. `facts` are the run's, with `ranges_of`;
    `tell` puts notes into the reader's language.
    """
    ranges = {**ranges_of(Training()), **{name: facts[name] for name in ("d_px2_per_frame", "sigma_px") if name in facts}}
    against = _against(samples, ranges["sigma_px"])
    out = judged.copy()
    d, lo, hi = (judged[f"{D}{end}"].to_numpy(float) for end in ("", "_lo", "_hi"))
    senseless = ~np.isfinite(d) | (d < judged[f"{D}_lo95"].to_numpy(float)) | (d > judged[f"{D}_hi95"].to_numpy(float))
    slow = (lo < NEAR_END * ranges["d_px2_per_frame"][0]) & ~senseless
    fast = (hi > ranges["d_px2_per_frame"][1] / NEAR_END) & ~senseless
    for name in [name for name in map(str, judged) if name.startswith(("d_px2", "d_um2"))]:
        out.loc[senseless, name] = np.nan
        if name.endswith(("_lo", "_lo95")):
            out.loc[slow, name] = 0.0
    for row in range(len(out)):
        if senseless[row]:
            against[row].append(Phrase("no D: the clip is unlike any of the training"))
        if fast[row]:
            least = Phrase("as fast as the fastest of the training: D is {d:.2g} px²/frame or more", d=lo[row])
            against[row].append(least)
    most = [Phrase("hardly any motion: D is at most {d:.2g} px²/frame", d=end) if still else "" for end, still in zip(hi, slow)]
    notes = [[note, *map(tell, [*doubts, remark])] for note, doubts, remark in zip(judged["note"], against, most, strict=True)]
    known = judged["in_domain"].to_numpy(bool) & ~np.array([bool(doubts) for doubts in against])
    return out.assign(in_domain=known, note=["; ".join(filter(None, parts)) for parts in notes])


def _against(samples: Samples, sigma_px: list[float]) -> list[list[str]]:
    """For each clip, why its D cannot be trusted."""
    rules, table = Rules(), samples.table
    clips, frames = estimators.noise_equivalent(samples), table["n_frames"].to_numpy()
    found = localise.track(clips, n_frames=frames)
    visible, snr = (found.visible & _lit(found)).sum(axis=1), estimators.summarise(found)["snr"]
    second = clean.second_spot_ratio(clips, found, frames)
    drift, size = _drift(found)
    stated = table["psf_sigma_px"].to_numpy(float)
    shown = found.visible | ~found.visible.any(axis=1, keepdims=True)
    width = np.nanpercentile(np.where(shown, found.sigma_px, np.nan), 25, axis=1)
    low, high = sigma_px
    against: list[list[str]] = []
    for row, clip in enumerate(samples.inputs["clip_adu"]):
        full = clean.saturated(np.asarray(clip))
        told = {
            Phrase("a molecule is seen in {n} of {all} frames", n=visible[row], all=frames[row]): visible[row] < frames[row] / 2,
            Phrase("no spot stands out (signal-to-noise ratio {snr:.1f})", snr=snr[row]): snr[row] < rules.min_snr,
            Phrase("a second spot {times:.1f} times as bright", times=second[row]): second[row] > rules.max_second_spot,
            Phrase("{n} pixels at the camera's ceiling", n=full): full >= FEWEST_FULL,
            Phrase("it moves {px:.1f} px/frame in one direction: drift or flow", px=size[row]):
                drift[row] > MOST_DRIFT and size[row] > LONGER_PX,
            Phrase("the stated width of a still spot, {px:.2f} px, is outside the training data ({low:g} to {high:g} px)",
                   px=stated[row], low=low, high=high): stated[row] < low or stated[row] > high,
            Phrase("its spots are narrower than the stated {px:.2f} px of a still one", px=stated[row]):
                width[row] < NARROWER * stated[row],
        }  # fmt: skip
        against.append([reason for reason, holds in told.items() if holds])
    return against


def _lit(found: localise.Track) -> np.ndarray:
    """Frames (n, T) with a fair share of the light of the clip's brightest; in one that turns dark early, noise has not."""
    brightest = np.sort(found.photons, axis=1)[:, -BRIGHTEST:].mean(axis=1, keepdims=True)
    return np.asarray(found.photons > localise.FAINT_SHARE * brightest)


def _drift(found: localise.Track) -> tuple[np.ndarray, np.ndarray]:
    """The mean step of each clip in its standard errors, and its length in px; 0 with fewer than four steps of visible frames.

    Steps of diffusion are independent but for blur and localisation, which make the mean's error smaller, not larger.
    """
    both = found.visible[:, 1:] & found.visible[:, :-1]
    steps = np.stack([np.diff(found.y_px, axis=1), np.diff(found.x_px, axis=1)])
    n = both.sum(axis=1)
    mean = np.where(both, steps, 0.0).sum(axis=2) / np.maximum(n, 1)
    spread = np.where(both, (steps - mean[..., None]) ** 2, 0.0).sum(axis=2) / np.maximum(n - 1, 1)
    error = np.sqrt(spread.mean(axis=0) / np.maximum(n, 1))
    size = np.hypot(*mean)
    enough = n >= 4
    return np.where(enough, size / np.maximum(error, 1e-6), 0.0), np.where(enough, size, 0.0)
