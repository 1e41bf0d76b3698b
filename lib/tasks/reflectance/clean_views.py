"""The pictures of a whole set of micrographs: checks, copies, targets, readings, specimens, scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image

from lib import figures
from lib.task import Panel, Pick, Samples, View
from lib.tasks.reflectance import clean
from lib.tasks.reflectance.config import CHANNELS, TRUE
from lib.tasks.reflectance.sample_views import thumbnail
from lib.tasks.reflectance.settings import Rules
from lib.tasks.reflectance.specimens import by_pattern, by_targets
from lib.words import Say, english

__all__ = ["overview", "thumbnail"]

POINTS = 5000  # samples drawn one by one
TILES, TILE_PX, ACROSS = 48, 96, 8  # of a sheet of pictures
GROUPS, ALIKE = 8, 6  # groups of copies that are shown, and pictures of one group
LISTED = 200  # rows of the table of specimens
TEST_SHARE = 0.15  # of the random split that leakage is told for, the original's
BINS = 40

# Rule: what it checks, and its threshold as a template of {value}; "" where it is on or off.
CHECKS = {
    "max_scale_ratio": ("nm per px far from the median", "factor {value:g}"),
    "drop_unknown_scale": ("nm per px not known", ""),
    "min_contrast_grey": ("low contrast", "below {value:g} grey levels"),
    "max_saturated_percent": ("saturated", "above {value:g} %"),
    "max_detail_px": ("blurred", "nothing finer than {value:g} px"),
    "min_laplacian": ("small variance of the Laplacian", "below {value:g} grey levels²"),
    "drop_scale_bars": ("scale bar inside", ""),
    "drop_copies": ("same pixels as an earlier picture", ""),
    "max_copy_bits": ("copy, by its perceptual hash", "up to {value:g} of 64 bits"),
    "drop_turned_copies": ("copy, turned, mirrored or shifted", ""),
    "drop_outside_targets": ("targets outside 0 to 1", ""),
    "drop_contradictions": ("several rows with other targets", ""),
    "min_targets": ("too few targets", "below {value:g} of 10"),
    "drop_leaks": ("specimen in another part of the split too", ""),
}
READINGS = {
    "contrast_grey": ("Contrast", "standard deviation (grey levels)", "min_contrast_grey"),
    "saturated_percent": ("Saturated pixels", "saturated (%)", "max_saturated_percent"),
    "detail_px": ("Finest detail", "period of the finest detail (px)", "max_detail_px"),
    "laplacian_variance": ("Variance of the Laplacian", "variance (grey levels²)", "min_laplacian"),
    "noise_grey": ("Noise", "noise (grey levels)", ""),
    "mean_grey": ("Brightness", "mean (grey levels)", ""),
    "period_nm": ("Main period", "main period (nm)", ""),
    "info_bar_px": ("Information bar", "height cut away (px)", ""),
}
# Column of the readings with an earlier row: what a picture then is.
COPY_OF = (
    ("repeats_row", "same pixels as {n}"), ("copy_of_row", "copy of {n}, {bits} bits"), ("turned_of_row", "turned copy of {n}"),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What the views are drawn of; `keep` bool (n,), `flags` of all rules, those too that are off."""

    samples: Samples
    readings: pd.DataFrame
    keep: np.ndarray
    flags: pd.DataFrame
    rules: Rules
    say: Say

    @property
    def targets(self) -> pd.DataFrame:
        """The ten targets as fractions (n, 10), columns by channel; NaN where not known."""
        table = self.samples.table
        nothing = np.full(len(table), np.nan)
        return pd.DataFrame({c: table[TRUE + c].to_numpy(float) if TRUE + c in table else nothing for c in CHANNELS})


def overview(samples: Samples, readings: pd.DataFrame, keep: pd.Series, rules: Rules, say: Say = english) -> list[View]:
    """Views over all pictures, each made when it is asked for; points with `customdata` are rows, to be picked."""
    plain = readings.reset_index(drop=True)
    every = rules.model_copy(update={name: True for name in CHECKS if name.startswith("drop_")})
    look = Look(samples, plain, keep.to_numpy(bool), clean.flag(plain, every), rules, say)
    if not len(samples):
        return []
    views = [View(say("Checks"), partial(_checks, look))]
    flagged = [name for name in CHECKS if look.flags[name].any()]
    if flagged:
        words = {say(CHECKS[name][0]): name for name in flagged}
        pick = Pick("check", say("Check"), tuple(words))
        views.append(View(say("Pictures behind a check"), partial(_behind, look, words), picks=(pick,)))
    if clean.copy_groups(plain, rules):
        views.append(View(say("Copies side by side"), partial(_copies, look)))
    there = {say(title): name for name, (title, _, _) in READINGS.items() if plain[name].notna().any()}
    views.append(View(say("Readings"), partial(_reading, look, there), picks=(Pick("reading", say("Reading"), tuple(there)),)))
    if look.targets.notna().to_numpy().any():
        views += [View(say("Targets"), partial(_targets, look)), View(say("Targets together"), partial(_correlations, look))]
    views.append(View(say("Specimens"), partial(_specimens, look)))
    if plain["nm_per_px"].notna().any():
        views.append(View(say("Scale"), partial(_scales, look)))
    return views


# --- checks -----------------------------------------------------------------------------------------------------------
def _checks(look: Look) -> Panel:
    """Every check with its threshold and how many pictures it finds, whether its rule removes them or not."""
    say = look.say
    rows = []
    for name, (words, threshold) in CHECKS.items():
        value = getattr(look.rules, name)
        shown = say(threshold, value=value) if threshold else (say("on") if value else say("off"))
        found = np.flatnonzero(look.flags[name])
        some = ", ".join(look.readings["image"].iloc[found[:3]]) + (" …" if len(found) > 3 else "")
        rows.append((say(words), shown, len(found), some))
    table = pd.DataFrame(rows, columns=[say("check"), say("threshold"), say("pictures"), say("the first of them")])
    text = say(
        "The view Pictures behind a check shows them. Pictures that are missing or cannot be read are named above the rules."
    )
    return Panel("checks", say("Checks"), table, f"{text} {_leakage(look)}", True)


def _leakage(look: Look) -> str:
    """What a split by pictures would leak, and whether copies join specimens."""
    say, specimens = look.say, look.readings["specimen"].to_numpy(object)
    named = specimens[specimens != ""]
    sentences = []
    if len(named):
        views = pd.Series(named).value_counts()
        seen = float((views * (1 - TEST_SHARE ** (views - 1))).sum() / views.sum())
        sentences.append(
            say("With a random {share} test part, {seen} of the test pictures would have another view of their specimen in "
                "training: split by specimen.", share=f"{TEST_SHARE:.0%}", seen=f"{seen:.0%}")
        )  # fmt: skip
    else:
        sentences.append(say("Specimens are not known, so views of one specimen may come to both sides of a split."))
    crossing = sum(len({specimens[row] for row in rows} - {""}) > 1 for rows in clean.copy_groups(look.readings, look.rules))
    if crossing:
        sentences.append(
            say("{n} groups of copies join several specimens: they leak even through a split by specimen.", n=crossing)
        )
    return " ".join(sentences)


def _behind(look: Look, words: dict[str, str], check: str) -> Panel:
    """The pictures that one check finds."""
    rows = np.flatnonzero(look.flags[words[check]]).tolist()
    text = look.say("{shown} of {n} pictures. Pick some to look at them.", shown=min(TILES, len(rows)), n=len(rows))
    return Panel(
        "behind", check, _sheet(look, [rows[k : k + ACROSS] for k in range(0, min(TILES, len(rows)), ACROSS)]), text, True
    )


def _copies(look: Look) -> Panel:
    """Groups of copies, one in each line, the first of a group being the one that stays."""
    groups = clean.copy_groups(look.readings, look.rules)
    text = look.say(
        "{n} groups; each line is one, and the rules keep its first picture. Hover for names and what they share.",
        n=len(groups),
    )
    return Panel("copies", look.say("Copies side by side"), _sheet(look, [rows[:ALIKE] for rows in groups[:GROUPS]]), text, True)


def _sheet(look: Look, lines: Sequence[Sequence[int]]) -> go.Figure:
    """Pictures in lines, each with a point that can be picked."""
    across = max(map(len, lines))
    cell = TILE_PX + 1
    sheet = np.full((len(lines) * cell - 1, across * cell - 1), figures.GAP_LEVEL, np.uint8)
    x, y, rows = [], [], []
    for line, members in enumerate(lines):
        for place, row in enumerate(members):
            top, left = line * cell, place * cell
            small = Image.fromarray(thumbnail(look.samples, row)).resize((TILE_PX, TILE_PX), Image.Resampling.BOX)
            sheet[top : top + TILE_PX, left : left + TILE_PX] = np.asarray(small)
            x.append(left + TILE_PX / 2)
            y.append(top + TILE_PX / 2)
            rows.append(row)
    fig = figures.figure(height=max(220, 110 * len(lines) + 40), margin={"l": 0, "r": 0, "t": 8, "b": 8}, showlegend=False)
    fig.add_trace(figures.image(sheet, colours="gray", lo=0, hi=255))
    marker = {"symbol": "square", "size": 70, "color": figures.ACCENT, "opacity": 0}
    fig.add_scatter(
        x=x, y=y, mode="markers", customdata=rows, text=[_hover(look, row) for row in rows], marker=marker,
        hovertemplate="%{text}<extra></extra>", selected={"marker": {"opacity": 0.45}}, unselected={"marker": {"opacity": 0}},
    )  # fmt: skip
    figures.pixel_axes(fig, sheet.shape, title=False)
    return fig.update_xaxes(visible=False).update_yaxes(visible=False)


def _hover(look: Look, row: int) -> str:
    """A picture's number, name and specimen, and the row that it repeats."""
    reading, say = look.readings.iloc[row], look.say
    parts = [f"{row + 1} · {_escaped(reading['image'])}"]
    if reading["specimen"]:
        parts.append(say("specimen {name}", name=_escaped(reading["specimen"])))
    for column, words in COPY_OF:
        if np.isfinite(reading[column]):
            bits = f"{reading['copy_bits']:g}"
            parts.append(say(words, n=int(reading[column]) + 1, bits=bits))
            break
    return "<br>".join(parts)


def _escaped(text: str) -> str:
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- readings ---------------------------------------------------------------------------------------------------------
def _drawn(n: int) -> np.ndarray:
    """Rows drawn one by one: all, or `POINTS` of them evenly spread."""
    return np.arange(n) if n <= POINTS else np.unique(np.linspace(0, n - 1, POINTS).astype(int))


def _reading(look: Look, there: dict[str, str], reading: str) -> Panel:
    """One reading of all pictures, with the rule's limit."""
    name = there[reading]
    _, axis, rule = READINGS[name]
    say, values = look.say, look.readings[name].to_numpy(float)
    fig = figures.figure(xaxis_title=say("picture"), yaxis_title=say(axis), height=400)
    rows = _drawn(len(values))
    for chosen, label, colour in ((look.keep, say("kept"), figures.ACCENT), (~look.keep, say("dropped"), figures.ORANGE)):
        part = rows[chosen[rows]]
        if len(part):
            fig.add_scattergl(
                x=part + 1, y=values[part], customdata=part, mode="markers", name=label, marker={"color": colour, "size": 5},
                text=[_hover(look, row) for row in part], hovertemplate="%{text}<br>%{y:.4g}<extra></extra>",
            )  # fmt: skip
    if rule and (limit := float(getattr(look.rules, rule))) > 0:
        fig.add_hline(y=limit, line_dash="dash", annotation_text=say("limit"))
    positive = values[np.isfinite(values)]
    if positive.size and positive.min() > 0 and positive.max() > 30 * positive.min():
        fig.update_yaxes(type="log")
    text = say("Each point is a picture. Draw a box to pick some.")
    if name == "laplacian_variance":
        text += " " + say("Noise inflates this usual measure of sharpness; the finest detail does not take noise for sharpness.")
    return Panel(f"reading-{name}", reading, fig, text, True)


def _scales(look: Look) -> Panel:
    """Width of a pixel, in the files and as the network sees it."""
    say = look.say
    fig = figures.figure(xaxis_title=say("nm per px"), yaxis_title=say("pictures"), height=340, barmode="overlay")
    columns = (
        ("source_nm_per_px", say("in the file"), figures.GREY),
        ("nm_per_px", say("as the network sees it"), figures.ACCENT),
    )
    found = {name: np.log10(v[v > 0]) for name, _, _ in columns for v in [look.readings[name].to_numpy(float)]}
    every = np.concatenate(list(found.values()))
    edges = np.linspace(every.min() - 0.02, every.max() + 0.02, BINS + 1)
    for name, label, colour in columns:
        counts = np.histogram(found[name], edges)[0]
        middle, width = 10 ** ((edges[1:] + edges[:-1]) / 2), 10 ** edges[1:] - 10 ** edges[:-1]
        fig.add_bar(x=middle, y=counts, width=width, name=label, marker_color=colour, opacity=0.75)
    unknown = int(look.readings["nm_per_px"].isna().sum())
    text = say(
        "Pictures of known scale and enough field are brought to 25 nm per px. Of {n} pictures the scale is not known.", n=unknown
    )
    return Panel("scales", say("Scale"), fig.update_xaxes(type="log"), text, True)


# --- targets and specimens --------------------------------------------------------------------------------------------
def _targets(look: Look) -> Panel:
    """Distribution of each channel."""
    say, targets = look.say, look.targets
    fig = figures.figure(yaxis_title=say("target (%)"), height=400, violinmode="group")
    rows = _drawn(len(targets))
    for chosen, label, colour in ((look.keep, say("kept"), figures.ACCENT), (~look.keep, say("dropped"), figures.ORANGE)):
        part = targets.iloc[rows[chosen[rows]]].melt(var_name="channel", value_name="value").dropna()
        if len(part):
            fig.add_box(
                x=part["channel"], y=100 * part["value"], name=label, marker_color=colour, marker_size=3, line_width=1.5,
                boxpoints="outliers",
            )  # fmt: skip
    fig.update_layout(boxmode="group").update_xaxes(categoryorder="array", categoryarray=list(CHANNELS), type="category")
    fig.add_hrect(y0=0, y1=100, line_width=0, fillcolor=figures.GREY, opacity=0.08)
    known = targets.notna().sum()
    least = known.idxmin()
    text = say("Shaded: what a fraction can be. Fewest known: {channel}, {n} of {all}.", channel=least, n=int(known.min()),
               all=len(targets))  # fmt: skip
    return Panel("targets", say("Targets"), fig, text, True)


def _correlations(look: Look) -> Panel:
    """How channels go together, over specimens where they are known: views of one count once."""
    say, targets = look.say, look.targets
    once = ~targets.duplicated()
    matrix = targets[once & look.keep].corr()
    fig = figures.figure(height=440)
    fig.add_heatmap(
        z=matrix.to_numpy(), x=list(CHANNELS), y=list(CHANNELS), zmin=-1, zmax=1, colorscale=figures.DIVERGING, reversescale=True,
        texttemplate="%{z:.2f}", hovertemplate="%{x}, %{y}: %{z:.2f}<extra></extra>", colorbar_title="r",
    )  # fmt: skip
    fig.update_xaxes(type="category").update_yaxes(type="category", autorange="reversed")
    text = say("Pearson's r over {n} kept pictures of different targets.", n=int((once & look.keep).sum()))
    return Panel("correlations", say("Targets together"), fig, text, True)


def _specimens(look: Look) -> Panel:
    """Which picture is of which specimen: as it was read, and as the pattern to try and equal targets would have it."""
    say, readings = look.say, look.readings
    names = readings["image"].tolist()
    table = pd.DataFrame({say("picture"): names, say("specimen"): readings["specimen"]})
    targets = look.targets.to_numpy()
    if np.isfinite(targets).any():
        table[say("by equal targets")] = by_targets(targets)
    if look.rules.try_pattern:
        table[say("by the pattern")] = by_pattern(names, look.rules.try_pattern)
    told = [
        say("{column}: {k} specimens, {n} pictures without one.", column=column, k=len(set(found) - {""}), n=found.count(""))
        for column in table.columns[1:]
        for found in [table[column].tolist()]
    ]
    hint = say("Write a pattern into the rule Try pattern, as {specimen}_view*.png, to see at once what it finds.")
    shown = say("The first {n} rows are shown.", n=LISTED) if len(table) > LISTED else ""
    return Panel("specimens", say("Specimens"), table.head(LISTED), " ".join(filter(None, [*told, shown, hint])), True)
