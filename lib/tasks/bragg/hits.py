"""From frames to candidates, and from judged candidates back to frames: peaks, hits, and what a model promises of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from lib.disk import written_whole
from lib.task import InputError, Samples
from lib.tasks.bragg import files, peaklists, score, summary
from lib.tasks.bragg.frames import Frame
from lib.words import Say, english, spoken

MOST_THREADS = 8  # frames in memory at the same time
FEWEST_PEAKS = 3.0  # expected peaks of a hit, of a model that no number was chosen for yet
RANGED = ("noise", "per_mpx")  # what tells whether a frame is known
FREELY_LOW = ("per_mpx",)  # a blank of a run whose labelled frames are all hits is nothing strange


def candidates_of(frame: Frame) -> Samples:
    """The candidates of one frame, one row each; a frame with none has one row that was not proposed."""
    from lib.tasks.bragg import candidates

    seen = candidates.see(frame)
    places = seen.places()
    looked = places if len(places) else np.zeros((1, 2))
    return candidates.samples_at(frame, seen, looked, np.full(len(looked), len(places) > 0), len(places))


def parts(samples: Samples, tell: Callable[[str], str] = str) -> Samples:
    """The candidates of all frames, `of` the row of their frame; as many frames at a time as there are cores.

    `tell` puts what is wrong with a frame into the reader's language.
    """
    from lib.tasks.bragg import candidates

    def one(row: int) -> Samples:
        try:
            found = candidates_of(files.frame_at(samples, row))
        except InputError as error:
            record = samples.table.iloc[row]
            found = candidates.nothing(str(record["file"]), int(record["frame"]), f"error: {tell(error.clause())}")
        return found.with_columns(of=row)

    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        return Samples.concat(list(pool.map(one, range(len(samples)))))


def whole(
    judged: pd.DataFrame, samples: Samples, facts: Mapping[str, Any], say: Say = english
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per frame (`file, frame, n_peaks, is_hit, in_domain, note`), and its peaks.

    Of a frame that could not be read, `note` says why and the other columns are empty.
    """
    rows = judged.assign(likely=score.likely(judged["score"])).groupby("of", sort=True)
    frames = rows.agg(
        n_peaks=("is_peak", "sum"), expected=("likely", "sum"), note=("note", "first"), noise=("noise", "first"),
        per_mpx=("per_mpx", "first"),
    ).reindex(range(len(samples)))  # fmt: skip
    bad = frames["note"].astype(str).str.startswith("error")
    strange = [_strange(frames.loc[row], facts, say) for row in frames.index]
    doubts = [files.told_of(about) for _, about in samples.table.iterrows()] if "told" in samples.table else [""] * len(samples)
    further = [["", ""] if unread else [spoken(doubt, say), why] for unread, doubt, why in zip(bad, doubts, strange, strict=True)]
    table = pd.DataFrame(
        {
            "file": samples.table["file"].to_numpy(),
            "frame": samples.table["frame"].to_numpy(),
            "n_peaks": frames["n_peaks"].astype("Int64").mask(bad).array,  # as an array of NumPy they would become decimals
            "is_hit": (frames["expected"] >= float(facts.get("hit_peaks", FEWEST_PEAKS))).astype("boolean").mask(bad).array,
            "in_domain": pd.Series([not why for why in strange], dtype="boolean").mask(bad).array,
            "note": ["; ".join(filter(None, [str(note), *more])) for note, more in zip(frames["note"], further, strict=True)],
        }
    )
    peaks = judged[judged["is_peak"]].drop(columns=["noise", "per_mpx", "note", "is_peak", "wanted"]).reset_index(drop=True)
    return table, peaks


def _strange(record: pd.Series, facts: Mapping[str, Any], say: Say) -> str:
    """Why a frame is unlike those of the training; empty where it is like them, or where no range is known."""
    words = {
        "noise": say("correlation of the noise outside the training data"),
        "per_mpx": say("number of places that stand out outside the training data"),
    }
    told = []
    for name in RANGED:
        low, high = facts.get("range", {}).get(name, (-np.inf, np.inf))
        if record[name] > high or (record[name] < low and name not in FREELY_LOW):
            told.append(words[name])
    return "; ".join(told)


def certify(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, by: str, budget: float) -> dict[str, Any]:
    """From calibration frames: the score from which a candidate is a peak, how many expected peaks make a hit, and their range.

    `by` is "F1" or "false peaks"; then `budget` is the most false peaks per megapixel.
    """
    scores = predicted["score"].to_numpy(float)
    is_peak, wanted = truth["is_peak"].to_numpy(bool), truth["wanted"].to_numpy(bool)
    frames = samples.drop_duplicates(["file", "frame"])
    if by == "F1":
        number = samples.groupby(["file", "frame"], sort=False).ngroup().to_numpy()
        threshold = score.frame_threshold(scores, is_peak, wanted, number)
    else:
        threshold = score.budget_threshold(scores, is_peak, float(frames["megapixels"].sum()), budget)
    each = score.per_frame(predicted, truth)
    expected, is_hit = each["expected_peaks"].to_numpy(float), each["is_hit"].to_numpy(bool)
    return {
        "threshold": threshold,
        "hit_peaks": score.best_threshold(expected, is_hit, is_hit)[0] if is_hit.any() and not is_hit.all() else FEWEST_PEAKS,
        "range": {name: _range(frames[name].to_numpy(float)) for name in RANGED} if len(frames) > 1 else {},
    }


def _range(values: np.ndarray) -> list[float]:
    """What frames like these n > 1 read, low and high: quantiles with a margin.

    Quantiles of few frames tell little: their range reaches at least as far as one more is to be expected, if they are normally
    distributed (a prediction interval by Student's t, Hahn & Meeker 1991, Statistical Intervals).
    """
    low, high = np.quantile(values, score.RANGE)
    margin = score.MARGIN * (high - low)
    low, high = low - margin, high + margin
    n = len(values)
    if n < score.FEWEST_RANGED:
        reach = stdtrit(n - 1, score.RANGE[1]) * values.std(ddof=1) * math.sqrt(1 + 1 / n)
        low, high = min(low, values.mean() - reach), max(high, values.mean() + reach)
    return [float(low), float(high)]


def write_prediction(table: pd.DataFrame, judged: pd.DataFrame, samples: Samples, folder: Path) -> list[Path]:
    """peaks.csv, peaks.cxi, hits.lst and summary.json of a prediction, each whole or not at all.

    Where the frames lie in HDF5 files that stay, peaks.cxi shows them, and peaks.lst has its rows that are hits.
    """
    frames = samples.table
    hits = table["is_hit"].fillna(False).to_numpy(bool)
    told = summary.summarise(judged, frames)
    n_unread = int(table["n_peaks"].isna().sum())
    counts = {"n_frames": len(frames), "n_unread": n_unread, "n_hits": int(hits.sum()), "n_peaks": len(judged)}
    per_shell = told.resolution.to_dict("records")
    hit_rate = counts["n_hits"] / max(1, len(frames) - n_unread)
    shown = peaklists.links(frames, folder / "peaks.cxi") if peaklists.stay(frames, folder) else None
    told_of = {**counts, "hit_rate": hit_rate, "frames_linked": shown is not None, "resolution": per_shell}
    with written_whole(folder / "summary.json") as draft:
        draft.write_text(json.dumps(told_of, indent=2), encoding="utf-8")
    written = [
        peaklists.write_csv(judged, folder / "peaks.csv"),
        peaklists.write_cxi(judged, frames, folder / "peaks.cxi", shown=shown),
        peaklists.write_hits(frames, hits, folder / "hits.lst"),
        folder / "summary.json",
    ]
    rows = folder / "peaks.lst"
    if shown is None:
        rows.unlink(missing_ok=True)  # of a prediction before, whose peaks.cxi was another
        return written
    return [*written, peaklists.write_rows(hits, folder / "peaks.cxi", rows)]
