"""Figures of a finished prediction: colours, channels beside the nearest training images, where the network looked, search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Film, Panel, Picture, Samples
from lib.tasks.reflectance import maps
from lib.tasks.reflectance.config import CHANNELS, IMAGE_PX
from lib.tasks.reflectance.ranking import parse_target, ranked

Say = Callable[..., str]
MOST_SWATCHES, SWATCH_COLUMNS, THUMB_PX = 48, 8, 128
MOST_BARS = 24
MOST_RANKED = 50
MOST_BEHIND = 6
COLOUR = ("B", "G", "R")


def prediction_panels(
    table: pd.DataFrame, samples: Samples, judged: pd.DataFrame, facts: Mapping[str, Any], say: Say
) -> list[Panel]:
    """Panels of predicted images; `judged` has the nearest training images of each, the samples' table what influenced it."""
    if facts.get("stage") == "geometry" or not len(table):
        return [Panel("values", say("Predicted geometry"), _geometry_text(table, say))]
    images = np.asarray(samples.inputs["image"]) if samples.inputs else None
    return [
        Panel("summary", say("These images"), _summary(table, say)),
        *_swatches(table, images, say),
        Panel("channels", say("Channels and the nearest training images"), bars_figure(table, judged, facts, say),
              say("Bars are the prediction with its 68 % interval, points the training images that look most alike."), wide=True),
        *_maps(table, images, samples.table, facts, say),
        *_specimens(table, say),
        *_search(table, str(samples.common.get("target", "")), say),
    ]  # fmt: skip


def behind_panels(predicted: pd.DataFrame, samples: Samples, facts: Mapping[str, Any], say: Say) -> list[Panel]:
    """A few images with their colours, true where known and predicted, and where the network looked, if it was kept."""
    if facts.get("stage") == "geometry" or "image" not in samples.inputs:
        return []
    panels = []
    for row in range(min(len(predicted), MOST_BEHIND)):
        one, image = predicted.iloc[row], np.asarray(samples.inputs["image"][row])
        parts, told = [image], [say("image")]
        influence = samples.table.iloc[row].get("influence")
        if isinstance(influence, (list, np.ndarray)):
            parts += [maps.composite(image, influence, names) for names in maps.COMPOSITES.values()]
            told += [say("where it looked for {names} (as blue, green, red)", names=name) for name in maps.COMPOSITES]
        truth = [float(samples.table.iloc[row].get(f"true_{channel}", np.nan)) for channel in COLOUR]
        if np.isfinite(truth).all():
            parts.append(maps.chip(truth, IMAGE_PX))
            told.append(say("measured colour"))
        parts.append(maps.chip([float(one[channel]) for channel in COLOUR], IMAGE_PX))
        told.append(say("predicted colour"))
        name = str(one.get("image", samples.table["file"].iloc[row]))
        panels.append(Panel(f"image-{row}", name, Picture(figures.png(maps.beside(parts))), ", ".join(told) + ".", wide=True))
    return [*panels, Panel("values-behind", say("Channels"), _values(predicted, samples, say), wide=True)]


def _values(predicted: pd.DataFrame, samples: Samples, say: Say) -> pd.DataFrame:
    """Channels in percent with their intervals, and the true ones where known."""
    rows = []
    for row in range(min(len(predicted), MOST_BEHIND)):
        one = predicted.iloc[row]
        cells = {channel: f"{100 * float(one[channel]):.1f} ({100 * float(one[f'{channel}_lo']):.1f}–"
                          f"{100 * float(one[f'{channel}_hi']):.1f})" for channel in CHANNELS}  # fmt: skip
        name = str(one.get("image", samples.table["file"].iloc[row]))
        rows.append({say("picture"): name, "": say("predicted (%)"), **cells})
        known = [100 * float(samples.table.iloc[row].get(f"true_{channel}", np.nan)) for channel in CHANNELS]
        if np.isfinite(known).any():
            true = [f"{value:.1f}" if np.isfinite(value) else "–" for value in known]
            rows.append({say("picture"): name, "": say("measured (%)"), **dict(zip(CHANNELS, true, strict=True))})
    return pd.DataFrame(rows)


def _geometry_text(table: pd.DataFrame, say: Say) -> str:
    return say("{n} images. This model tells geometry, not colour: start a training of channels from it.", n=len(table))


def _summary(table: pd.DataFrame, say: Say) -> str:
    width = 100 * np.mean([(table[f"{channel}_hi"] - table[f"{channel}_lo"]).mean() for channel in CHANNELS])
    unlike = int((~table["in_domain"].astype(bool)).sum())
    lines = {
        say("images"): len(table), say("unlike the training images"): unlike,
        say("mean width of the 68 % intervals (pp)"): f"{width:.1f}",
    }  # fmt: skip
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _swatches(table: pd.DataFrame, images: np.ndarray | None, say: Say) -> list[Panel]:
    """Thumbnails, each above the colour it will have."""
    if images is None:
        return []
    tiles = []
    for row in range(min(len(table), MOST_SWATCHES)):
        thumb = images[row].reshape(THUMB_PX, IMAGE_PX // THUMB_PX, THUMB_PX, -1).mean((1, 3)).astype(np.uint8)
        chip = maps.chip([float(table[channel].iloc[row]) for channel in COLOUR], THUMB_PX // 3, THUMB_PX)
        tiles.append(np.concatenate([np.repeat(thumb[:, :, None], 3, 2), chip], 0))
    blank = np.zeros_like(tiles[0])
    columns = min(SWATCH_COLUMNS, len(tiles))
    tiles += [blank] * (-len(tiles) % columns)
    lines = [maps.beside(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    told = say("Each image above the colour of its B, G and R under white light; ultraviolet and infrared are not seen.")
    if len(table) > MOST_SWATCHES:
        told += " " + say("The first {n} are shown.", n=MOST_SWATCHES)
    return [Panel("swatches", say("Predicted colours"), Picture(figures.png(np.concatenate(lines, 0))), told, wide=True)]


def bars_figure(table: pd.DataFrame, judged: pd.DataFrame, facts: Mapping[str, Any], say: Say) -> go.Figure:
    """The channels of one image at a time with intervals, and those of the nearest training images; a menu chooses the image."""
    fig = figures.figure(xaxis_title=say("channel"), yaxis_title="%", barmode="group")
    names = _names(table)
    count = min(len(table), MOST_BARS)
    per_image: list[int] = []
    for row in range(count):
        traces = _traces(table.iloc[row], _nearest(judged, row, facts), say)
        for trace in traces:
            fig.add_trace(trace.update(visible=row == 0))
        per_image.append(len(traces))
    starts = np.cumsum([0, *per_image])
    buttons = []
    for row in range(count):
        shown = [bool(starts[row] <= k < starts[row + 1]) for k in range(int(starts[-1]))]
        buttons.append({"label": names[row], "method": "update", "args": [{"visible": shown}]})
    if count > 1:
        fig.update_layout(updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.18, "yanchor": "top"}])
    fig.update_layout(legend={"x": 0, "y": -0.2, "yanchor": "top"}, margin_t=56)  # above it the menu would cover it
    return fig.update_xaxes(type="category")


def _traces(row: pd.Series, nearest: Sequence[Mapping[str, Any]], say: Say) -> list[Any]:
    """Bars of the prediction, then a row of points for each of the training images."""
    values = np.array([100 * float(row[channel]) for channel in CHANNELS])
    ends = [np.array([100 * float(row[f"{channel}{end}"]) for channel in CHANNELS]) for end in ("_lo", "_hi")]
    error = {"type": "data", "symmetric": False, "array": ends[1] - values, "arrayminus": values - ends[0]}
    bars = go.Bar(x=list(CHANNELS), y=values, error_y=error, marker_color=figures.ACCENT, name=say("predicted"))
    points = [
        go.Scatter(
            x=list(CHANNELS), y=[None if v is None else 100 * v for v in one["values"]], mode="markers",
            marker={"size": 8, "color": colour, "symbol": "diamond"}, name=" ".join(filter(None, [one["name"], one["kind"]])),
        )
        for one, colour in zip(nearest, (figures.ORANGE, figures.BLUE, figures.AMBER))
    ]  # fmt: skip
    return [bars, *points]


def _nearest(judged: pd.DataFrame, row: int, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The training images that look most alike, each once."""
    references = facts.get("references", [])
    if "nearest" not in judged or not references:
        return []
    places = dict.fromkeys(int(place) % len(references) for place in judged["nearest"].iloc[row])
    return [references[place] for place in places]


def _names(table: pd.DataFrame) -> list[str]:
    """What each image is called: its picture, or its file."""
    return [str(name) for name in (table["image"] if "image" in table else table["file"])]


def _maps(table: pd.DataFrame, images: np.ndarray | None, known: pd.DataFrame, facts: Mapping[str, Any], say: Say) -> list[Panel]:
    """Images and where the network looked, one after another."""
    if images is None or "influence" not in known:
        return []
    rows = [row for row, one in enumerate(known["influence"]) if isinstance(one, (list, np.ndarray))]
    if not rows:
        return []
    reels = [figures.reel(images[rows], say("image"))]
    for name, channels in maps.COMPOSITES.items():
        frames = [maps.composite(images[row], known["influence"].iloc[row], channels) for row in rows]
        reels.append(_colour_reel(frames, name))
    film = Film(tuple(reels), tuple(_names(table)[row] for row in rows), frame_ms=1500)
    told = say(
        "Blue, green and red stand for the three channels in this order. A place is brighter where it raises the channel, darker "
        "where it lowers it, and grey where it does not matter: found by greying places of the image and predicting again."
    )
    if len(rows) < len(table):
        told += " " + say(
            "The first {n} are shown; the Predict page shows any other one when you tick it in the table.", n=len(rows)
        )
    return [Panel("maps", say("Where the network looked"), film, f"{told} {deletion_text(facts, say)}", wide=True)]


def deletion_text(facts: Mapping[str, Any], say: Say) -> str:
    """What the deletion test of the model at hand gave, in sentences."""
    found = facts.get("deletion")
    if not found:
        return say("Whether such maps mean something was not tested for this model: train it again for that.")
    told = say(
        "Deletion test on {images} test images: greying the four of 16 places that are said to raise a channel most lowers it by "
        "{raising:.2f} pp more than greying four others at random, and farther in {raising_percent:.0f} of 100 cases; those said "
        "to lower it most raise it by {lowering:.2f} pp more, and farther in {lowering_percent:.0f} of 100 (chance: 50).",
        images=found["images"], raising=found["raising_pp"], raising_percent=found["raising_percent"],
        lowering=found["lowering_pp"], lowering_percent=found["lowering_percent"],
    )  # fmt: skip
    if found["holds"]:
        return told + " " + say("**So the maps mean something for this model**, of images like those it was tested on.")
    return told + " " + say("**That is not above chance: the maps of this model mean nothing.**")


def _colour_reel(frames: Sequence[np.ndarray], title: str) -> Any:
    """RGB frames (h, w, 3) as one reel of a film."""
    from lib.task import Reel

    columns = 8
    height, width = frames[0].shape[:2]
    sheet = np.full((-(-len(frames) // columns) * (height + 1) - 1, min(len(frames), columns) * (width + 1) - 1, 3), 90, np.uint8)
    for number, frame in enumerate(frames):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[top : top + height, left : left + width] = frame
    return Reel(figures.png(sheet), width, height, title, 1, columns)


def _specimens(table: pd.DataFrame, say: Say) -> list[Panel]:
    """Means over the views of each specimen that has several."""
    names = table["specimen"].fillna("").astype(str)
    several = names[(names != "") & names.duplicated(keep=False)]
    if several.empty:
        return []
    values = 100 * table.loc[several.index, list(CHANNELS)].astype(float)
    means, spread = values.groupby(several).mean().round(1), values.groupby(several).std().mean(axis=1).round(1)
    shown = means.assign(**{say("views"): several.value_counts(), say("spread of views (pp)"): spread})
    told = say("Mean over the views of each specimen, in %. Views of one specimen see the same hidden parts: their mean is a "
               "little better than one view, not three times.")  # fmt: skip
    return [Panel("specimens", say("Specimens"), shown.rename_axis(say("specimen")).reset_index(), told, wide=True)]


def _search(table: pd.DataFrame, text: str, say: Say) -> list[Panel]:
    """The images whose predicted channels are nearest to what is looked for."""
    target = parse_target(text)
    if not target:
        return []
    order = ranked(table, target).head(MOST_RANKED)
    rows, names = order["row"].to_numpy(), _names(table)
    shown = pd.DataFrame({
        say("rank"): np.arange(1, len(rows) + 1), say("picture"): [names[row] for row in rows],
        say("distance (pp)"): order["distance_pp"].round(1).to_numpy(),
        **{f"{channel} (%)": (100 * table[channel].to_numpy(float)[rows]).round(1) for channel in target},
        say("like the training"): ["✓" if one else "–" for one in table["in_domain"].to_numpy()[rows]],
    })  # fmt: skip
    wanted = ", ".join(f"{channel} {100 * value:.0f} %" for channel, value in target.items())
    return [Panel("search", say("Closest to what you look for"), shown,
                  say("Looked for: {wanted}. Distance: root mean square over these channels.", wanted=wanted),
                  behind=tuple((int(row),) for row in rows))]  # fmt: skip
