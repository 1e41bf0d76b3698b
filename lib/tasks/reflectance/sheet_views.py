"""Figures of the result sheet: errors per channel beside simpler ways, what leakage would have shown, kinds, intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel
from lib.tasks.reflectance import score
from lib.tasks.reflectance.baselines import ALL_KNOWN, LEAKY, MEAN, NEW_KIND, ORACLE, RIDGE, TREES
from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import CHANNELS
from lib.tasks.reflectance.predict_views import deletion_text
from lib.tasks.reflectance.simulate_views import in_words
from lib.tasks.reflectance.sources import DEMO
from lib.words import Say, from_plain, spoken

SHOWN = 4  # best and worst specimens
MOST_POINTS = 120  # each with its image, which the run keeps


def sheet_panels(
    predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, facts: Mapping[str, Any], say: Say
) -> list[Panel]:
    """Panels from predictions of test images, their true channels, and their table with the classical estimates."""
    if facts.get("stage") == "geometry":
        return _geometry_panels(predicted, truth, facts, say)
    title = say("On {images} images of {specimens} specimens that neither training nor the choice of the epoch saw.",
                images=len(truth), specimens=samples["group"].nunique())  # fmt: skip
    simulated = " " + say("All of them are simulated: periodic scales at normal incidence.") if facts["simulated"] else ""
    order, first = _by_specimen(predicted, truth, samples), _first_images(samples)
    return [
        Panel("beside", say("Beside simpler ways"), beside_table(predicted, truth, samples, say), title + simulated + " " + say(
            "ExtraTrees and ridge regression learn from the spectrum and the grey levels. The oracle is ExtraTrees on the true "
            "visible geometry; nothing that only sees the image can be expected to beat it by much."), wide=True),
        Panel("channels", say("Each channel"), channel_table(predicted, truth, samples, say),
              say("Errors in percentage points (pp). Intervals promise to hold the truth in 68 of 100 cases."), wide=True),
        Panel("coverage", say("Are the intervals honest?"), coverage_figure(predicted, truth, say),
              say("Share of true values inside the interval; the line is what is promised.")),
        Panel("scatter", say("Predicted against measured"), scatter_figure(predicted, truth, first, say),
              say("Each point is an image, one of each specimen; on the diagonal it is right. Press one to see it."), wide=True,
              behind=tuple((int(row),) for row in first)),
        Panel("leakage", say("What leakage would have shown"), leakage_text(predicted, truth, samples, facts, say)),
        *_kinds(predicted, truth, samples, say),
        Panel("specimens", say("Best and worst specimens"), specimen_table(order, samples, say),
              say("Behind a row are its images, colours and where the network looked."),
              behind=tuple(tuple(rows) for rows in order["rows"])),
        Panel("deletion", say("Do the maps mean something?"), deletion_text(facts, say)),
        *_notes(facts, say),
    ]  # fmt: skip


def _estimate(samples: pd.DataFrame, name: str) -> pd.DataFrame | None:
    """Channels as a classical way estimates them; None where it could not."""
    columns = [f"{name}_{channel}" for channel in CHANNELS]
    if any(column not in samples for column in columns):
        return None
    return samples[columns].set_axis(list(CHANNELS), axis=1)


def _row(title: str, predicted: pd.DataFrame, truth: pd.DataFrame, say: Say) -> dict[str, Any]:
    table = score.per_channel(predicted, truth)
    return {
        say("method"): title, "MAE (pp)": round(float(table["mae_pp"].mean()), 2),
        "RMSE (pp)": round(float(table["rmse_pp"].mean()), 2), "R²": round(float(table["r2"].mean()), 3),
    }  # fmt: skip


def averaged(values: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    """Mean of the channels over the views of each specimen, one row per specimen."""
    return values[list(CHANNELS)].astype(float).groupby(group.to_numpy(), sort=False).mean().reset_index(drop=True)


def beside_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say) -> pd.DataFrame:
    """MAE, RMSE and R², means over channels, of the model and of simpler ways; the share of the oracle's gain that is reached."""
    rows = [_row(say("this model"), predicted, truth, say)]
    if samples["group"].duplicated().any():
        means, true = (averaged(values, samples["group"]) for values in (predicted, truth))
        rows.append(_row(say("this model, mean over the views of a specimen"), means, true, say))
    titles = {
        TREES: say("ExtraTrees on the spectrum"), RIDGE: say("ridge regression on the spectrum"),
        MEAN: say("mean of the training"),
        ORACLE: say("oracle: true visible geometry"), ALL_KNOWN: say("oracle: hidden parameters too"),
    }  # fmt: skip
    for name, title in titles.items():
        estimate = _estimate(samples, name)
        if estimate is not None:
            rows.append(_row(title, estimate, truth, say))
    table = pd.DataFrame(rows)
    trees, oracle = _estimate(samples, TREES), _estimate(samples, ORACLE)
    if trees is not None and oracle is not None:
        worst, best = (_row("", one, truth, say)["MAE (pp)"] for one in (trees, oracle))
        if worst > best:
            reached = 100 * (worst - table["MAE (pp)"]) / (worst - best)
            table[say("of the way from ExtraTrees to the oracle (%)")] = reached.round(0)
    return table


def channel_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say) -> pd.DataFrame:
    """Errors, R² and intervals of each channel, and the error of ExtraTrees."""
    table = score.per_channel(predicted, truth)
    names = {"mae_pp": "MAE (pp)", "rmse_pp": "RMSE (pp)", "bias_pp": say("bias (pp)"), "r2": "R²",
             "coverage_percent": say("in the interval (%)"), "width_pp": say("width (pp)")}  # fmt: skip
    shown = table[[name for name in names if name in table]].round(2).rename(columns=names)
    trees = _estimate(samples, TREES)
    if trees is not None:
        shown[say("MAE of ExtraTrees (pp)")] = score.per_channel(trees, truth)["mae_pp"].round(2)
    return shown.rename_axis(say("channel")).reset_index()


def coverage_figure(predicted: pd.DataFrame, truth: pd.DataFrame, say: Say) -> go.Figure:
    """Bars of the share of true values inside the 68 % interval."""
    table = score.per_channel(predicted, truth)
    fig = figures.figure(xaxis_title=say("channel"), yaxis_title=say("in the interval (%)"), yaxis_range=[0, 100])
    fig.add_bar(x=[str(name) for name in table.index], y=table["coverage_percent"], marker_color=figures.ACCENT)
    fig.add_hline(y=100 * score.COVERAGE, line_dash="dot")
    return fig.update_xaxes(type="category")


def _first_images(samples: pd.DataFrame) -> np.ndarray:
    """Row of the first image of each specimen, of at most MOST_POINTS."""
    rows = np.flatnonzero(~samples["group"].duplicated().to_numpy())
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(MOST_POINTS, len(rows))).round().astype(int))]


def scatter_figure(predicted: pd.DataFrame, truth: pd.DataFrame, rows: np.ndarray, say: Say) -> go.Figure:
    """Predicted against measured of some rows, ten small figures; `customdata` is the place in `rows`."""
    fig = figures.subplots(2, 5, subplot_titles=list(CHANNELS), horizontal_spacing=0.05, vertical_spacing=0.14)
    for k, channel in enumerate(CHANNELS):
        x, y = 100 * truth[channel].to_numpy(float)[rows], 100 * predicted[channel].to_numpy(float)[rows]
        place = {"row": k // 5 + 1, "col": k % 5 + 1}
        top = max(1.0, float(np.nanmax(np.concatenate([x, y]), initial=1.0)))
        fig.add_scatter(x=[0, top], y=[0, top], mode="lines", line={"color": figures.GREY, "width": 1}, hoverinfo="skip", **place)
        marker = {"size": 4, "color": figures.ACCENT, "opacity": 0.6}
        told = "%{x:.1f} → %{y:.1f} %<extra></extra>"
        fig.add_scatter(x=x, y=y, mode="markers", marker=marker, customdata=np.arange(len(rows)), hovertemplate=told, **place)
    fig.update_layout(height=480, showlegend=False)
    fig.update_xaxes(title_text=say("measured (%)"), row=2)
    return fig.update_yaxes(title_text=say("predicted (%)"), col=1)


def leakage_text(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, facts: Mapping[str, Any], say: Say) -> str:
    """How the score would look with twins of test images in training, and on a kind that was never seen."""
    ours = score.score(predicted, truth, facts)["mae_pp"]
    by = {
        "specimen": say("Images of one specimen are on one side of the split alone."),
        "kind": say("All specimens of a kind are on one side of the split alone: every test kind is new to the model."),
        "nothing": say("**The split is by image: views of one specimen are on both sides, so the score flatters.**"),
    }
    lines = [f"- {by[facts['split_by']]} " + say("This model is off by {mae:.2f} pp.", mae=ours)]
    known = {name: score.mean_mae_pp(one.to_numpy(float), truth.to_numpy(float))
             for name in (TREES, LEAKY, NEW_KIND) if (one := _estimate(samples, name)) is not None}  # fmt: skip
    if TREES in known and LEAKY in known:
        lines.append("- " + say(
            "ExtraTrees is off by {trees:.2f} pp on these images, and by {leaky:.2f} pp where other images of the test "
            "specimens may be in training, as after a random split by image: {gain:.0f} % better for nothing learnt. Compare "
            "only scores of the same kind of split.", trees=known[TREES], leaky=known[LEAKY],
            gain=100 * (1 - known[LEAKY] / max(known[TREES], 1e-9))))  # fmt: skip
    if NEW_KIND in known:
        lines.append("- " + say("ExtraTrees that saw no image of the kind is off by {mae:.2f} pp: what to expect of a new kind.",
                                mae=known[NEW_KIND]))  # fmt: skip
    return "\n".join(lines)


def _kinds(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say) -> list[Panel]:
    """Errors by kind, where kinds are known."""
    kinds = samples["kind"].fillna("").astype(str) if "kind" in samples else pd.Series("", samples.index)
    if kinds.nunique() < 2:
        return []
    rows = []
    titles = {TREES: "ExtraTrees (pp)", NEW_KIND: say("ExtraTrees that never saw the kind (pp)")}
    for kind, places in kinds.groupby(kinds).groups.items():
        here = truth.loc[places].to_numpy(float)
        row: dict[str, Any] = {
            say("kind"): kind or "–", say("images"): len(places),
            say("this model (pp)"): round(score.mean_mae_pp(predicted.loc[places, list(CHANNELS)].to_numpy(float), here), 2),
        }  # fmt: skip
        for name, title in titles.items():
            estimate = _estimate(samples, name)
            if estimate is not None:
                row[title] = round(score.mean_mae_pp(estimate.loc[places].to_numpy(float), here), 2)
        rows.append(row)
    told = say("Mean absolute error over the channels. A kind that was never seen is much harder.")
    return [Panel("kinds", say("Error by kind"), pd.DataFrame(rows), told)]


def _by_specimen(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """The best and the worst specimens: name, kind, mae_pp, rows."""
    error = 100 * np.nanmean(np.abs(predicted[list(CHANNELS)].to_numpy(float) - truth.to_numpy(float)), axis=1)
    group = samples["group"].astype(str).to_numpy()
    table = pd.DataFrame({"name": group, "mae_pp": error, "row": np.arange(len(error))})
    found = table.groupby("name", sort=False).agg(mae_pp=("mae_pp", "mean"), rows=("row", list)).reset_index()
    found = found.sort_values("mae_pp", kind="stable").reset_index(drop=True)
    if len(found) > 2 * SHOWN:
        found = pd.concat([found.head(SHOWN), found.tail(SHOWN)], ignore_index=True)
    return found


def specimen_table(order: pd.DataFrame, samples: pd.DataFrame, say: Say) -> pd.DataFrame:
    """The best and worst specimens with their kind, number of images and error."""
    kinds = samples["kind"].fillna("") if "kind" in samples else pd.Series("", samples.index)
    return pd.DataFrame({
        say("specimen"): order["name"], say("kind"): [kinds.iloc[rows[0]] or "–" for rows in order["rows"]],
        say("images"): [len(rows) for rows in order["rows"]], "MAE (pp)": order["mae_pp"].round(2),
    })  # fmt: skip


def _notes(facts: Mapping[str, Any], say: Say) -> list[Panel]:
    """Where the images are from, and what was left out of them."""
    rows, groups = facts["rows"], facts["groups"]
    parts = ", ".join(f"{say(name)} {rows[name]} ({groups[name]})" for name in rows)
    source = say("the simulated demo set") if facts["source"] == DEMO else facts["source"]
    if facts["stage"] == "geometry":
        source = say("{n} rendered images", n=sum(rows.values()))
    lines = [f"- {say('Images (specimens): {parts}. Source: {source}.', parts=parts, source=source)}"]
    if facts.get("start_from"):
        lines.append("- " + say("Weights started from run {run}.", run=facts["start_from"]))
    lines += [f"- {spoken(from_plain(note), say)}" for note in facts["notes"]]
    return [Panel("data", say("The data"), "\n".join(lines))]


def _geometry_panels(predicted: pd.DataFrame, truth: pd.DataFrame, facts: Mapping[str, Any], say: Say) -> list[Panel]:
    """How well the geometry of rendered images is told."""
    rows = []
    for name in GEOMETRY:
        if name not in facts["spans"]:
            continue
        y, found = truth[name].to_numpy(float), predicted[name].to_numpy(float)
        spread = float(np.square(y - y.mean()).sum())
        rows.append({
            say("parameter"): say(in_words(name)), "MAE": round(float(np.abs(found - y).mean()), 4),
            say("of the range (%)"): round(100 * float(np.abs(found - y).mean()) / facts["spans"][name], 2),
            "R²": round(1 - float(np.square(found - y).sum()) / spread, 3) if spread > 0 else float("nan"),
        })  # fmt: skip
    told = say(
        "On {n} rendered images that were not learnt from. Hidden parameters cannot be seen: what is told of them is what is "
        "likely for the kind of scale.", n=len(truth),
    )  # fmt: skip
    return [Panel("geometry", say("Geometry from the image"), pd.DataFrame(rows), told, wide=True), *_notes(facts, say)]
