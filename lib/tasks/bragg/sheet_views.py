"""Figures of the result sheet: what the learned finder finds, misses and makes up, beside the classical ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from sklearn.metrics import precision_recall_curve, roc_curve

from lib import figures
from lib.task import Panel
from lib.tasks.bragg import data, matching, score

TOLERANCES_PX = (1.0, 2.0, 3.0)
SNR_EDGES = (0.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0, np.inf)
RESOLUTION_BINS = 8
FEWEST = 10  # spots that a share is given for
BESIDE_PX = 6.0
SINGLE_SHARE = 0.6  # of the intensity that is in one pixel
WORST = 12


def sheet_panels(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, facts: Mapping[str, Any]) -> list[Panel]:
    """Panels from judged candidates of test frames, their labels, and their table."""
    if not truth["wanted"].any():
        return [Panel("nothing", "Nothing to score", "No test frame has a spot that is strong enough to be found.")]
    frames = score.per_frame(predicted, truth)
    threshold = float(facts.get("threshold", score.THRESHOLD))
    chosen = f"The threshold, {threshold:.3f}, was chosen on calibration frames that the test did not see."
    wanted = "Recall counts spots of I/σ ≥ 5; a weaker spot that is found is no error."
    return [
        Panel("peers", "Beside the classical finders", peer_table(predicted, truth, samples),
              "The same test frames. Classical finders have their default settings, which were chosen on simulated frames. "
              + wanted, wide=True),
        Panel("precision-recall", "Precision and recall", precision_recall_figure(predicted, truth, threshold), chosen),
        Panel("calibration", "Is the score a probability?", calibration_figure(predicted, truth),
              "Of candidates with a given score, the share that are peaks. On the diagonal the score can be taken at its word."),
        Panel("snr", "Which spots are found", snr_figure(predicted, truth, samples),
              "Share of simulated spots that were found, by what a perfect fit of the spot would reach as I/σ."),
        *_by_resolution(predicted, truth, samples),
        Panel("position", "How far off", position_figure(predicted, truth, samples),
              "Distance of found peaks from the true centre. Half of them are nearer than the median."),
        Panel("tolerance", "F1 by tolerance", tolerance_table(predicted, truth, samples),
              "How near a peak must be to count as found."),
        Panel("confusion", "Candidates", confusion_table(predicted, truth, samples),
              "Every place that stood out of the noise, and spots that no such place was near to."),
        Panel("causes", "What false peaks are", cause_table(predicted, truth, samples),
              "False peaks per frame, by what is there."),
        *_hits(frames, facts),
        Panel("worst", "Worst frames", worst_table(predicted, truth), "Frames with the most errors."),
    ]  # fmt: skip


def peer_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """F1, precision, recall and false peaks per megapixel of the model and of the classical finders."""
    is_peak, wanted = truth["is_peak"].to_numpy(bool), truth["wanted"].to_numpy(bool)
    found = predicted["is_peak"].to_numpy(bool)
    area = samples.drop_duplicates(["file", "frame"])["megapixels"].sum()
    ours = (int((found & wanted).sum()), int((found & ~is_peak).sum()), int((~found & wanted).sum()))
    counted = {"this model": ours}
    for name, title in data.PEERS.items():
        if f"{name}_right" in samples:
            right, false, missed = (int(samples[f"{name}_{kind}"].sum()) for kind in ("right", "false", "missed"))
            counted[title] = right, false, missed
    rows = []
    for title, (right, false, missed) in counted.items():
        rows.append({
            "finder": title, "F1": round(matching.f1_of(right, false, missed), 4),
            "precision": round(right / max(1, right + false), 4), "recall": round(right / max(1, right + missed), 4),
            "false peaks per Mpx": round(false / area, 3),
        })  # fmt: skip
    return pd.DataFrame(rows)


def precision_recall_figure(predicted: pd.DataFrame, truth: pd.DataFrame, threshold: float) -> go.Figure:
    """Precision against recall over all thresholds, the chosen one marked."""
    counted = (truth["wanted"] | ~truth["is_peak"]).to_numpy(bool)
    precision, recall, _ = precision_recall_curve(truth["wanted"][counted], predicted["score"][counted])
    some = np.unique(np.linspace(0, len(recall) - 1, 800).astype(int))
    fig = figures.figure(xaxis_title="recall", yaxis_title="precision")
    fig.add_scatter(x=recall[some], y=precision[some], mode="lines", line_color=figures.ACCENT, name="all thresholds")
    is_peak, wanted = truth["is_peak"].to_numpy(bool), truth["wanted"].to_numpy(bool)
    at = score.counts(predicted["is_peak"].to_numpy(bool), is_peak, wanted)
    fig.add_scatter(
        x=[at["recall"]], y=[at["precision"]], mode="markers", name=f"chosen: F1 {at['f1']:.3f}",
        marker={"size": 10, "color": figures.ORANGE}, hovertext=f"score ≥ {threshold:.3f}",
    )  # fmt: skip
    return fig.update_xaxes(range=[0, 1.02]).update_yaxes(range=[0, 1.02])


def calibration_figure(predicted: pd.DataFrame, truth: pd.DataFrame) -> go.Figure:
    """Share of peaks over the score, in equal steps."""
    scores, is_peak = predicted["score"].to_numpy(float), truth["is_peak"].to_numpy(float)
    proposed = scores > 0
    place = np.minimum((scores[proposed] * score.BINS).astype(int), score.BINS - 1)
    n, mean, share = (np.bincount(place, w, score.BINS) for w in (None, scores[proposed], is_peak[proposed]))
    some = n >= FEWEST
    error = score.calibration_error(scores[proposed], is_peak[proposed])
    fig = figures.figure(xaxis_title="score", yaxis_title="share that are peaks", title=f"ECE {error:.3f}")
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": figures.GREY, "dash": "dot"}, showlegend=False)
    fig.add_scatter(
        x=mean[some] / n[some], y=share[some] / n[some], mode="lines+markers", line_color=figures.ACCENT, showlegend=False,
        customdata=n[some], hovertemplate="score %{x:.2f}<br>peaks %{y:.1%}<br>of %{customdata} candidates<extra></extra>",
    )  # fmt: skip
    return fig


def snr_figure(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> go.Figure:
    """Share of true spots that were found, by SNR."""
    spots = truth["is_peak"].to_numpy(bool)
    snr, found = samples["true_snr"].to_numpy(float)[spots], predicted["is_peak"].to_numpy(bool)[spots]
    place = np.digitize(snr, SNR_EDGES) - 1
    names = [f"{a:g}–{b:g}" if np.isfinite(b) else f"≥ {a:g}" for a, b in pairwise(SNR_EDGES)]
    n, hit = np.bincount(place, minlength=len(names)), np.bincount(place, found, len(names))
    fig = figures.figure(xaxis_title="true I/σ of the spot", yaxis_title="share found")
    fig.add_bar(x=names, y=hit / np.maximum(n, 1), text=[f"{k:,}" for k in n], marker_color=figures.ACCENT, showlegend=False)
    return fig.update_yaxes(range=[0, 1.08])


def _by_resolution(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> list[Panel]:
    d = samples["resolution_angstrom"].to_numpy(float)
    wanted = truth["wanted"].to_numpy(bool) & np.isfinite(d)
    if wanted.sum() < RESOLUTION_BINS * FEWEST:
        return []
    edges = np.quantile(d[wanted], np.linspace(0, 1, RESOLUTION_BINS + 1))
    place = np.clip(np.searchsorted(edges, d[wanted], "right") - 1, 0, RESOLUTION_BINS - 1)
    n, hit = (np.bincount(place, w, RESOLUTION_BINS) for w in (None, predicted["is_peak"].to_numpy(float)[wanted]))
    names = [f"{a:.2g}–{b:.2g} Å" for a, b in pairwise(edges)][::-1]
    fig = figures.figure(xaxis_title="resolution", yaxis_title="share found")
    fig.add_bar(x=names, y=(hit / np.maximum(n, 1))[::-1], marker_color=figures.ACCENT, showlegend=False)
    told = "Share of spots of I/σ ≥ 5 that were found, from the centre of the detector outwards."
    return [Panel("resolution", "Recall by resolution", fig.update_yaxes(range=[0, 1.02]), told)]


def position_figure(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> go.Figure:
    """Histogram of distances of found peaks from their spots."""
    found = predicted["is_peak"].to_numpy(bool) & truth["is_peak"].to_numpy(bool)
    off = samples["off_px"].to_numpy(float)[found]
    off = off[np.isfinite(off)]
    title = f"median {np.median(off):.2f} px" if len(off) else ""
    fig = figures.figure(xaxis_title="distance from the true centre (px)", yaxis_title="peaks", title=title)
    fig.add_histogram(x=off, xbins={"start": 0, "end": 2, "size": 0.05}, marker_color=figures.ACCENT, showlegend=False)
    return fig


def tolerance_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """F1, precision and recall where a peak must be within 1, 2 or 3 px."""
    scores = {t: matching.Score(0, 0, 0) for t in TOLERANCES_PX}
    table = samples.assign(found=predicted["is_peak"].to_numpy(bool), spot=truth["is_peak"].to_numpy(bool))
    table["wanted"] = truth["wanted"].to_numpy(bool)
    for _, frame in table.groupby(["file", "frame"], sort=False):
        found = frame.loc[frame["found"], ["y_px", "x_px"]].to_numpy(float)
        must = frame.loc[frame["wanted"], ["true_y_px", "true_x_px"]].to_numpy(float)
        may = frame.loc[frame["spot"], ["true_y_px", "true_x_px"]].to_numpy(float)
        for t in TOLERANCES_PX:
            scores[t] = scores[t] + matching.score(found, must, may, t)
    return pd.DataFrame(
        [{"within (px)": t, "F1": s.f1, "precision": s.precision, "recall": s.recall} for t, s in scores.items()]
    ).round(4)


def confusion_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Counts of candidates by what they are and what they were taken for."""
    found = predicted["is_peak"].to_numpy(bool)
    is_peak, wanted = truth["is_peak"].to_numpy(bool), truth["wanted"].to_numpy(bool)
    proposed = samples["proposed"].to_numpy(bool)
    kinds = {"spots of I/σ ≥ 5": wanted, "weaker spots": is_peak & ~wanted, "no spot": ~is_peak & proposed}
    rows = [
        {
            "what it is": name,
            "taken for a peak": int((kind & found).sum()),
            "not": int((kind & ~found & proposed).sum()),
            "did not stand out": int((kind & ~proposed).sum()),
        }
        for name, kind in kinds.items()
    ]
    return pd.DataFrame(rows)


def cause_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """False peaks per frame by cause."""
    false = (predicted["is_peak"] & ~truth["is_peak"]).to_numpy(bool)
    frames = len(samples.drop_duplicates(["file", "frame"]))
    single = (samples["max_value"] - samples["background"]) > SINGLE_SHARE * samples["intensity"]
    left = pd.Series(false, samples.index)
    rows = []
    for name, where in (
        ("beside a gap or a masked pixel", samples["beside_gap"].astype(bool)),
        (f"within {BESIDE_PX:g} px of a true spot", samples["nearest_px"] <= BESIDE_PX),
        ("a single pixel: hot, or hit by a particle", single),
        ("noise, rings and streaks", pd.Series(True, samples.index)),
    ):
        n = int((left & where).sum())
        rows.append({"cause": name, "false peaks": n, "per frame": round(n / max(1, frames), 3)})
        left &= ~where
    return pd.DataFrame(rows)


def _hits(frames: pd.DataFrame, facts: Mapping[str, Any]) -> list[Panel]:
    """ROC of hit and blank frames by expected peaks."""
    auc = score.hit_auc(frames)
    if not np.isfinite(auc):
        return []
    false, true, _ = roc_curve(frames["is_hit"], frames["expected_peaks"])
    fig = figures.figure(xaxis_title="share of blanks taken for hits", yaxis_title="share of hits found")
    fig.add_scatter(x=false, y=true, mode="lines", line_color=figures.ACCENT, showlegend=False)
    least = float(facts.get("hit_peaks", np.nan))
    taken = frames["expected_peaks"] >= least
    fig.add_scatter(
        x=[(taken & ~frames["is_hit"]).sum() / max(1, (~frames["is_hit"]).sum())],
        y=[(taken & frames["is_hit"]).sum() / max(1, frames["is_hit"].sum())],
        mode="markers", marker={"size": 10, "color": figures.ORANGE}, name=f"≥ {least:.1f} expected peaks",
    )  # fmt: skip
    told = (
        f"Area under the curve {auc:.4f}. A frame is a hit where the probabilities of its peaks add up to enough; "
        "how many is chosen on calibration frames."
    )
    return [Panel("hits", "Hits and blanks", fig, told)]


def worst_table(predicted: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The frames with the most false and missed peaks."""
    found = predicted["is_peak"].to_numpy(bool)
    table = predicted[["file", "frame"]].assign(
        false=found & ~truth["is_peak"].to_numpy(bool), missed=~found & truth["wanted"].to_numpy(bool),
        spots=truth["wanted"].to_numpy(bool),
    )  # fmt: skip
    frames = table.groupby(["file", "frame"], sort=False).sum().reset_index()
    order = (frames["false"] + frames["missed"]).argsort(kind="stable")[::-1][:WORST]
    return frames.iloc[order].reset_index(drop=True).rename(columns={"spots": "spots of I/σ ≥ 5"})
