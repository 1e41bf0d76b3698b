"""Figures of the result sheet: how well a trained model measures D, beside what classical estimates and theory allow."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Panel
from lib.tasks.diffusion import score
from lib.tasks.diffusion.views import METHOD_COLOURS, D
from lib.words import Say, english

WORST = 12
CELLS_PER_DECADE = 16


def sheet_panels(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> list[Panel]:
    """Panels of the sheet from predictions of test clips, their true values, and their table with baseline columns."""
    table = score.by_decade(predicted, truth, samples, 2)
    if table.empty:
        return [Panel("nothing", say("Nothing to score"), say("No test clip has both a prediction and a true D."))]
    light = condition_figure(predicted, truth, samples, "photons", say("photons per frame"), say)
    background = condition_figure(predicted, truth, samples, "background", say("background (photons/px)"), say)
    return [
        Panel(
            "predicted-true", say("Predicted against true D"), density_figure(predicted, truth, say), say(
            "Each clip falls into one cell; the line is perfect. A cloud that is tight and straight means that D "
            "can be read off one clip."),
        ),
        Panel(
            "rmse", say("Error by speed"), method_figure(table, "relative_rmse", say("relative RMSE of D"), say), say(
            "Root mean square of (D / true D − 1) for slow to fast molecules. MLE and CVE use centroids; no "
            "method that does can stay below the "
            "trajectory bound without bias. The model also sees the blur of each spot, so it may."),
        ),
        Panel(
            "bias", say("Bias by speed"), method_figure(table, "relative_bias", say("relative bias of D"), say), say(
            "Mean of D / true D − 1. Near zero: averaging many clips gives the right D."),
        ),
        Panel(
            "coverage", say("Are the error bars honest?"), coverage_figure(predicted, truth, say), say(
            "How often the true D lies within an interval that promises a given probability. On the diagonal the "
            "error bars are right, below it they are too short."),
        ),
        Panel(
            "photons", say("Error against brightness"), light, say("More light, smaller error. 0.1 is a typical error of 26 %."),
        ),
        Panel("background", say("Error against background"), background, say("More background, larger error.")),
        Panel(
            "by-decade", say("Errors in numbers"), decade_table(predicted, truth, samples, say), say(
            "One row per decade of true D and method."), True,
        ),
        Panel(
            "worst", say("Worst clips"), worst_table(predicted, truth, samples, say), say(
            "The clips whose D is farthest off, as a ratio. Look for a common cause: too few photons, too much "
            "background, blinking."), True,
        ),
    ]  # fmt: skip


def _usable(predicted: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """Rows with a prediction and a true D above 0."""
    d, true = predicted[D].to_numpy(float), truth[D].to_numpy(float)
    return np.isfinite(d) & (d > 0) & np.isfinite(true) & (true > 0)


def density_figure(predicted: pd.DataFrame, truth: pd.DataFrame, say: Say = english) -> go.Figure:
    """Number of clips per cell of log D against log D."""
    use = _usable(predicted, truth)
    true, d = np.log10(truth[D].to_numpy(float)[use]), np.log10(predicted[D].to_numpy(float)[use])
    lo, hi = np.floor(min(true.min(), d.min()) * 10) / 10, np.ceil(max(true.max(), d.max()) * 10) / 10 + 1e-9
    edges = np.linspace(lo, hi, max(int((hi - lo) * CELLS_PER_DECADE), 4) + 1)
    count = np.histogram2d(d, true, bins=(edges, edges))[0]
    titles = {"xaxis_title": say("true D (px²/frame)"), "yaxis_title": say("predicted D (px²/frame)")}
    fig = figures.figure(**titles, height=420)
    told = [f"{say('true')} %{{x:.3g}}", f"{say('predicted')} %{{y:.3g}}", f"%{{z}} {say('clips')}<extra></extra>"]
    fig.add_heatmap(
        x=10**edges,
        y=10**edges,
        z=np.where(count > 0, count, np.nan),
        colorscale=figures.SEQUENTIAL,
        colorbar={"title": {"text": say("clips")}},
        hovertemplate="<br>".join(told),
    )
    ends = [10 ** edges[0], 10 ** edges[-1]]
    line = {"color": figures.ORANGE, "width": 1.5, "dash": "dash"}
    fig.add_scatter(x=ends, y=ends, mode="lines", line=line, name=say("perfect"))
    span = [edges[0], edges[-1]]
    return fig.update_xaxes(type="log", range=span, constrain="domain").update_yaxes(
        type="log", range=span, scaleanchor="x", constrain="domain"
    )


def method_figure(table: pd.DataFrame, column: str, title: str, say: Say = english) -> go.Figure:
    """One line per method over true D."""
    fig = figures.figure(xaxis_title=say("true D (px²/frame)"), yaxis_title=title, xaxis_type="log")
    for method, colour in METHOD_COLOURS.items():
        part = table[(table["method"] == method) & table[column].notna()]
        if part.empty:
            continue
        line = {
            "color": colour,
            "dash": "dash" if method == "trajectory bound" else "solid",
            "width": 3 if method == "model" else 1.5,
        }
        fig.add_scatter(
            x=part["d"],
            y=part[column],
            mode="lines+markers",
            name=say(method),
            line=line,
            customdata=part["clips"],
            hovertemplate=f"%{{y:.3f}} (%{{customdata}} {say('clips')})",
        )
    shown = table.loc[table["method"] != "MSD fit", column].dropna()
    if column == "relative_bias":
        fig.add_hline(y=0, line_width=1)
        reach = max(float(shown.abs().max()) * 1.3, 0.05) if len(shown) else 1.0
        return fig.update_yaxes(range=[-min(reach, 1.0), min(reach, 1.5)], tickformat=".0%")
    top = float(np.clip(table[column].max() * 1.2, 0.5, 5))  # beyond 500 % an estimate is useless, however far
    low = float(np.clip(table[column].min() * 0.7, 0.01, 0.2))
    return fig.update_yaxes(type="log", dtick="D2", range=[np.log10(low), np.log10(top)], tickformat=".0%")


def coverage_figure(predicted: pd.DataFrame, truth: pd.DataFrame, say: Say = english) -> go.Figure:
    """Measured against promised coverage; the 68 % and 95 % intervals as given are marked."""
    use = _usable(predicted, truth)
    fig = figures.figure(xaxis_title=say("promised (%)"), yaxis_title=say("measured (%)"))
    fig.add_scatter(x=[0, 100], y=[0, 100], mode="lines", line={"color": figures.GREY, "dash": "dash"}, name=say("honest"))
    curve = score.coverage_curve(predicted, truth)
    x, y = curve["promised_percent"], curve["measured_percent"]
    fig.add_scatter(x=x, y=y, mode="lines+markers", line_color=figures.ACCENT, name=say("model"))
    given = [score.coverage_percent(predicted[use], truth[D].to_numpy(float)[use], level) for level in ("", "95")]
    labels = [f"{value:.1f} %" for value in given]
    marker = {"size": 12, "symbol": "star", "color": figures.ORANGE}
    fig.add_scatter(
        x=[68.27, 95],
        y=given,
        mode="markers+text",
        marker=marker,
        text=labels,
        textposition="bottom center",
        name=say("68 % and 95 % intervals"),
    )
    return fig.update_xaxes(range=[0, 106]).update_yaxes(range=[0, 105])


def condition_figure(
    predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, column: str, title: str, say: Say = english
) -> go.Figure:
    """Rms log10 error in eight equally filled groups of a condition, model and classical estimates."""
    fig = figures.figure(xaxis_title=title, yaxis_title=say("rms error of log10 D"), xaxis_type="log")
    use = _usable(predicted, truth)
    if column not in samples or not use.any():
        unknown = say("not known for these clips")
        return fig.add_annotation(text=unknown, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    value, true = samples[column].to_numpy(float), truth[D].to_numpy(float)
    use &= np.isfinite(value) & (value > 0)
    edges = np.unique(np.quantile(value[use], np.linspace(0, 1, 9)))
    group = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, max(len(edges) - 2, 0))
    estimates = {"model": predicted[D].to_numpy(float)}
    estimates |= {name: samples[c].to_numpy(float) for name, c in score.CLASSICAL.items() if c in samples and name != "MSD fit"}
    for name, d in estimates.items():
        good = use & np.isfinite(d)
        numbers = np.unique(group[good])
        x = [float(np.exp(np.mean(np.log(value[good & (group == g)])))) for g in numbers]
        y = [score.rms_log10(d[good & (group == g)], true[good & (group == g)]) for g in numbers]
        fig.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=say(name),
            line={"color": METHOD_COLOURS[name], "width": 3 if name == "model" else 1.5},
        )
    return fig.update_yaxes(rangemode="tozero")


def decade_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> pd.DataFrame:
    """`score.by_decade` for reading."""
    table = score.by_decade(predicted, truth, samples)
    shown = pd.DataFrame(
        {
            say("true D (px²/frame)"): [f"{a:.2g} – {b:.2g}" for a, b in zip(table["d_from"], table["d_to"])],
            say("clips"): table["clips"],
            say("method"): table["method"].map(say),
            say("relative RMSE"): table["relative_rmse"].round(3),
            say("relative bias"): table["relative_bias"].round(3),
            say("rms log10"): table["rms_log10_d"].round(3),
            say("median error"): table["median_error"].round(3),
        }
    )
    return shown.reset_index(drop=True)


def worst_table(predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, say: Say = english) -> pd.DataFrame:
    """The clips with the largest ratio between predicted and true D, and their conditions."""
    use = np.flatnonzero(_usable(predicted, truth))
    d, true = predicted[D].to_numpy(float)[use], truth[D].to_numpy(float)[use]
    order = use[np.argsort(-np.abs(np.log(d / true)), kind="stable")[:WORST]]
    columns = {
        "file": say("file"),
        "photons": say("photons/frame"),
        "background": say("background (photons/px)"),
        "sigma_px": say("spot σ (px)"),
        "exposure_fraction": say("exposure fraction"),
        "snr": say("SNR"),
        "n_visible": say("visible frames"),
        "d_mle_px2_per_frame": say("MLE D (px²/frame)"),
    }
    given = {say("true D (px²/frame)"): truth, say("predicted D (px²/frame)"): predicted}
    shown = pd.DataFrame({name: table[D].to_numpy(float)[order] for name, table in given.items()})
    shown[say("predicted / true")] = shown.iloc[:, 1] / shown.iloc[:, 0]
    for column, title in columns.items():
        if column in samples:
            shown[title] = samples[column].to_numpy()[order]
    return shown.apply(lambda values: values.map(lambda v: float(f"{v:.3g}")) if pd.api.types.is_float_dtype(values) else values)
