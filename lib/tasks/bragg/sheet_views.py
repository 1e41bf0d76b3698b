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
from lib.words import Say, english

TOLERANCES_PX = (1.0, 2.0, 3.0)
SNR_EDGES = (0.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0, np.inf)
RESOLUTION_BINS = 8
FEWEST = 10  # spots that a share is given for
BESIDE_PX = 6.0
SINGLE_SHARE = 0.6  # of the intensity that is in one pixel
WORST = 12


def sheet_panels(
    predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, facts: Mapping[str, Any], say: Say = english
) -> list[Panel]:
    """Panels from judged candidates of test frames, their labels, and their table."""
    if not truth["wanted"].any():
        return [Panel("nothing", say("Nothing to score"), say("No test frame has a spot that is strong enough to be found."))]
    frames = score.per_frame(predicted, truth)
    threshold = float(facts.get("threshold", score.THRESHOLD))
    known = (predicted, truth, samples)
    chosen = say(
        "The threshold, {threshold}, was chosen on calibration frames that the test did not see.", threshold=f"{threshold:.3f}"
    )
    return [
        Panel("peers", say("Beside the classical finders"), peer_table(*known, say), " ".join((
            say("The same test frames. Classical finders have their default settings, which were chosen on simulated frames."),
            say("Recall counts the peaks that were marked by hand; any other is a false one.") if by_hand(truth, samples) else
            say("Recall counts spots of I/σ ≥ 5; a weaker spot that is found is no error."),
            say("Times are medians on the machine that made the sheet."),
        )), wide=True),
        Panel("precision-recall", say("Precision and recall"), precision_recall_figure(predicted, truth, threshold, say), chosen),
        Panel("calibration", say("Is the score a probability?"), calibration_figure(predicted, truth, say), say(
            "Of candidates with a given score, the share that are peaks. On the diagonal the score can be taken at its word."
        )),
        *_by_snr(*known, say),
        *_by_resolution(*known, say),
        Panel("position", say("How far off"), position_figure(*known, say), say(
            "Distance of found peaks from the true centre, or from the mark of a hand. Half of them are nearer than the median."
        )),
        Panel("tolerance", say("F1 by tolerance"), tolerance_table(*known, say),
              say("How near a peak must be to count as found.")),
        Panel("confusion", say("Candidates"), confusion_table(*known, say),
              say("Every place that stood out of the noise, and spots that no such place was near to.")),
        Panel("causes", say("What false peaks are"), cause_table(*known, say),
              say("False peaks per frame, by what is there.")),
        *_hits(frames, facts, say),
        Panel("worst", say("Worst frames"), worst_table(*known, say), say("Frames with the most errors.")),
    ]  # fmt: skip


def by_hand(truth: pd.DataFrame, samples: pd.DataFrame) -> bool:
    """Whether the spots are peaks that people marked: nobody knows how strong one is."""
    return not np.isfinite(samples["true_snr"].to_numpy(float)[truth["is_peak"].to_numpy(bool)]).any()


def _spots(truth: pd.DataFrame, samples: pd.DataFrame, say: Say) -> str:
    """What the spots are called that have to be found."""
    return say("marked peaks") if by_hand(truth, samples) else say("spots of I/σ ≥ 5")


def peer_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> pd.DataFrame:
    """F1, precision, recall, false peaks per megapixel and time of the model and of the classical finders."""
    is_peak, wanted = truth["is_peak"].to_numpy(bool), truth["wanted"].to_numpy(bool)
    found = predicted["is_peak"].to_numpy(bool)
    area = samples.drop_duplicates(["file", "frame"])["megapixels"].sum()
    ours = (int((found & wanted).sum()), int((found & ~is_peak).sum()), int((~found & wanted).sum()))
    own = say("this model")
    counted, clocks = {own: ours}, {own: "model_ms"}
    for name, title in data.PEERS.items():
        if f"{name}_right" in samples:
            right, false, missed = (int(samples[f"{name}_{kind}"].sum()) for kind in ("right", "false", "missed"))
            counted[say(title)], clocks[say(title)] = (right, false, missed), f"{name}_ms"
    rows = []
    for title, (right, false, missed) in counted.items():
        rows.append({
            say("finder"): title, "F1": round(matching.f1_of(right, false, missed), 4),
            say("precision"): round(right / max(1, right + false), 4),
            say("recall"): round(right / max(1, right + missed), 4), say("false peaks per Mpx"): round(false / area, 3),
        } | _speed(samples, clocks[title], say))  # fmt: skip
    return pd.DataFrame(rows)


def _speed(samples: pd.DataFrame, clock: str, say: Say) -> dict[str, float]:
    """Milliseconds per megapixel, the median over frames; nothing where no clock ran."""
    if clock not in samples:
        return {}
    return {say("ms per Mpx"): round(float((samples[clock] / samples["megapixels"]).median()), 1)}


def precision_recall_figure(predicted: pd.DataFrame, truth: pd.DataFrame, threshold: float, say: Say = english) -> go.Figure:
    """Precision against recall over all thresholds, the chosen one marked."""
    counted = (truth["wanted"] | ~truth["is_peak"]).to_numpy(bool)
    precision, recall, scores = precision_recall_curve(truth["wanted"][counted], predicted["score"][counted])
    first = int((scores <= 0).sum())  # spots that did not stand out have no score: no threshold finds them
    some = np.unique(np.linspace(first, len(recall) - 1, 800).astype(int))
    fig = figures.figure(xaxis_title=say("recall"), yaxis_title=say("precision"))
    fig.add_scatter(x=recall[some], y=precision[some], mode="lines", line_color=figures.ACCENT, name=say("all thresholds"))
    is_peak, wanted = truth["is_peak"].to_numpy(bool), truth["wanted"].to_numpy(bool)
    at = score.counts(predicted["is_peak"].to_numpy(bool), is_peak, wanted)
    fig.add_scatter(
        x=[at["recall"]], y=[at["precision"]], mode="markers", name=say("chosen: F1 {f1}", f1=f"{at['f1']:.3f}"),
        marker={"size": 10, "color": figures.ORANGE}, hovertext=f"{say('score')} ≥ {threshold:.3f}",
    )  # fmt: skip
    return fig.update_xaxes(range=[0, 1.02]).update_yaxes(range=[0, 1.02])


def calibration_figure(predicted: pd.DataFrame, truth: pd.DataFrame, say: Say = english) -> go.Figure:
    """Share of peaks over the score, in equal steps."""
    scores, is_peak = predicted["score"].to_numpy(float), truth["is_peak"].to_numpy(float)
    proposed = scores > 0
    place = np.minimum((scores[proposed] * score.BINS).astype(int), score.BINS - 1)
    n, mean, share = (np.bincount(place, w, score.BINS) for w in (None, scores[proposed], is_peak[proposed]))
    some = n >= FEWEST
    error = score.calibration_error(scores[proposed], is_peak[proposed])
    fig = figures.figure(xaxis_title=say("score"), yaxis_title=say("share that are peaks"), title=f"ECE {error:.3f}")
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": figures.GREY, "dash": "dot"}, showlegend=False)
    told = f"{say('score')} %{{x:.2f}}<br>{say('peaks')} %{{y:.1%}}<br>n = %{{customdata}}<extra></extra>"
    fig.add_scatter(
        x=mean[some] / n[some], y=share[some] / n[some], mode="lines+markers", line_color=figures.ACCENT, showlegend=False,
        customdata=n[some], hovertemplate=told,
    )  # fmt: skip
    return fig


def _by_snr(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say) -> list[Panel]:
    """Of simulated spots alone."""
    if by_hand(truth, samples):
        return []
    told = say("Share of simulated spots that were found, by what a perfect fit of the spot would reach as I/σ.")
    return [Panel("snr", say("Which spots are found"), snr_figure(predicted, truth, samples, say), told)]


def snr_figure(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> go.Figure:
    """Share of true spots that were found, by SNR."""
    spots = truth["is_peak"].to_numpy(bool)
    snr, found = samples["true_snr"].to_numpy(float)[spots], predicted["is_peak"].to_numpy(bool)[spots]
    place = np.digitize(snr, SNR_EDGES) - 1
    names = [f"{a:g}–{b:g}" if np.isfinite(b) else f"≥ {a:g}" for a, b in pairwise(SNR_EDGES)]
    n, hit = np.bincount(place, minlength=len(names)), np.bincount(place, found, len(names))
    fig = figures.figure(xaxis_title=say("true I/σ of the spot"), yaxis_title=say("share found"))
    fig.add_bar(x=names, y=hit / np.maximum(n, 1), text=[f"{k:,}" for k in n], marker_color=figures.ACCENT, showlegend=False)
    return fig.update_yaxes(range=[0, 1.08])


def _by_resolution(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> list[Panel]:
    d = samples["resolution_angstrom"].to_numpy(float)
    wanted = truth["wanted"].to_numpy(bool) & np.isfinite(d)
    if wanted.sum() < RESOLUTION_BINS * FEWEST:
        return []
    edges = np.quantile(d[wanted], np.linspace(0, 1, RESOLUTION_BINS + 1))
    place = np.clip(np.searchsorted(edges, d[wanted], "right") - 1, 0, RESOLUTION_BINS - 1)
    n, hit = (np.bincount(place, w, RESOLUTION_BINS) for w in (None, predicted["is_peak"].to_numpy(float)[wanted]))
    names = [f"{a:.2g}–{b:.2g} Å" for a, b in pairwise(edges)][::-1]
    fig = figures.figure(xaxis_title=say("resolution"), yaxis_title=say("share found"))
    fig.add_bar(x=names, y=(hit / np.maximum(n, 1))[::-1], marker_color=figures.ACCENT, showlegend=False)
    told = say(
        "Share of the {spots} that were found, from the centre of the detector outwards.", spots=_spots(truth, samples, say)
    )
    return [Panel("resolution", say("Recall by resolution"), fig.update_yaxes(range=[0, 1.02]), told)]


def position_figure(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> go.Figure:
    """Histogram of distances of found peaks from their spots."""
    found = predicted["is_peak"].to_numpy(bool) & truth["is_peak"].to_numpy(bool)
    off = samples["off_px"].to_numpy(float)[found]
    off = off[np.isfinite(off)]
    title = say("median {px} px", px=f"{np.median(off):.2f}") if len(off) else ""
    fig = figures.figure(xaxis_title=say("distance from the true centre (px)"), yaxis_title=say("peaks"), title=title)
    fig.add_histogram(x=off, xbins={"start": 0, "end": 2, "size": 0.05}, marker_color=figures.ACCENT, showlegend=False)
    return fig


def tolerance_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> pd.DataFrame:
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
        [{say("within (px)"): t, "F1": s.f1, say("precision"): s.precision, say("recall"): s.recall} for t, s in scores.items()]
    ).round(4)


def confusion_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> pd.DataFrame:
    """Counts of candidates by what they are and what they were taken for."""
    found = predicted["is_peak"].to_numpy(bool)
    is_peak, wanted = truth["is_peak"].to_numpy(bool), truth["wanted"].to_numpy(bool)
    proposed = samples["proposed"].to_numpy(bool)
    kinds = {
        _spots(truth, samples, say): wanted,
        **({} if by_hand(truth, samples) else {say("weaker spots"): is_peak & ~wanted}),
        say("no spot"): ~is_peak & proposed,
    }
    rows = [
        {
            say("what it is"): name,
            say("taken for a peak"): int((kind & found).sum()),
            say("not"): int((kind & ~found & proposed).sum()),
            say("did not stand out"): int((kind & ~proposed).sum()),
        }
        for name, kind in kinds.items()
    ]
    return pd.DataFrame(rows)


def cause_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> pd.DataFrame:
    """False peaks per frame by cause; each has the first one that holds."""
    false = (predicted["is_peak"] & ~truth["is_peak"]).to_numpy(bool)
    frames = len(samples.drop_duplicates(["file", "frame"]))
    single = (samples["max_value"] - samples["background"]) > SINGLE_SHARE * samples["intensity"]
    left = pd.Series(false, samples.index)
    rings = "on_ring" in samples
    simulated = {"beside_hot": say("a hot pixel"), "beside_zinger": say("a zinger")}
    known = [(name, samples[column].fillna(False).astype(bool)) for column, name in simulated.items() if column in samples]
    lone = say("another single pixel") if known else say("a single pixel: hot, or hit by a particle")
    rest = say("noise and streaks") if rings else say("noise, rings and streaks")
    rows = []
    for name, where in (
        (say("beside a gap or a masked pixel"), samples["beside_gap"].astype(bool)),
        (say("within {px} px of a true spot", px=f"{BESIDE_PX:g}"), samples["nearest_px"] <= BESIDE_PX),
        *known,
        (lone, single),
        *([(say("on a powder or ice ring"), samples["on_ring"].fillna(False).astype(bool))] if rings else []),
        (rest, pd.Series(True, samples.index)),
    ):
        n = int((left & where).sum())
        rows.append({say("cause"): name, say("false peaks"): n, say("per frame"): round(n / max(1, frames), 3)})
        left &= ~where
    return pd.DataFrame(rows)


def _hits(frames: pd.DataFrame, facts: Mapping[str, Any], say: Say) -> list[Panel]:
    """ROC of hit and blank frames by expected peaks."""
    auc = score.hit_auc(frames)
    if not np.isfinite(auc):
        return []
    false, true, _ = roc_curve(frames["is_hit"], frames["expected_peaks"])
    fig = figures.figure(xaxis_title=say("share of blanks taken for hits"), yaxis_title=say("share of hits found"))
    fig.add_scatter(x=false, y=true, mode="lines", line_color=figures.ACCENT, showlegend=False)
    least = float(facts.get("hit_peaks", np.nan))
    taken = frames["expected_peaks"] >= least
    fig.add_scatter(
        x=[(taken & ~frames["is_hit"]).sum() / max(1, (~frames["is_hit"]).sum())],
        y=[(taken & frames["is_hit"]).sum() / max(1, frames["is_hit"].sum())],
        mode="markers", marker={"size": 10, "color": figures.ORANGE}, name=say("≥ {n} expected peaks", n=f"{least:.1f}"),
    )  # fmt: skip
    told = say(
        "Area under the curve {auc}, of {hits} true hits, which have at least one true spot, and {blanks} blanks. A frame is "
        "taken for a hit where the probabilities of its peaks add up to enough; how many is chosen on calibration frames.",
        auc=f"{auc:.4f}", hits=int(frames["is_hit"].sum()), blanks=int((~frames["is_hit"]).sum()),
    )  # fmt: skip
    if faint := int((frames["is_hit"] & (frames["n_true"] == 0)).sum()):
        told += " " + say("{n} of the hits have no spot of I/σ ≥ {least}.", n=faint, least=f"{matching.WANTED_SNR:g}")
    return [Panel("hits", say("Hits and blanks"), fig, told)]


def worst_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> pd.DataFrame:
    """The frames with the most false and missed peaks."""
    found = predicted["is_peak"].to_numpy(bool)
    table = predicted[["file", "frame"]].assign(
        false=found & ~truth["is_peak"].to_numpy(bool), missed=~found & truth["wanted"].to_numpy(bool),
        spots=truth["wanted"].to_numpy(bool),
    )  # fmt: skip
    frames = table.groupby(["file", "frame"], sort=False).sum().reset_index()
    order = (frames["false"] + frames["missed"]).argsort(kind="stable")[::-1][:WORST]
    heads = {
        "file": say("file"), "frame": say("frame"), "false": say("false peaks"), "missed": say("missed"),
        "spots": _spots(truth, samples, say),
    }  # fmt: skip
    return frames.iloc[order].reset_index(drop=True).rename(columns=heads)
