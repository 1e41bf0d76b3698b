"""Figures: both themes readable, pictures exact, films whole."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from lib import figures

PAGES = {"light": "#FFFFFF", "dark": "#0E1117"}


def picture(trace: go.Image) -> np.ndarray:
    """The pixels of a PNG trace: (h, w) grey or (h, w, 3) colour."""
    encoded = trace.source.removeprefix("data:image/png;base64,")
    opened = Image.open(io.BytesIO(base64.b64decode(encoded)), formats=["PNG"])
    return np.asarray(opened.convert("RGB") if opened.mode == "P" else opened)


def luminance(colour: str) -> float:
    """WCAG relative luminance of #rrggbb."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_a_figure_has_no_paper_of_its_own():
    fig = figures.figure(xaxis_title="D (px²/frame)")
    assert fig.layout.paper_bgcolor is None
    assert fig.layout.font.color is None
    assert fig.layout.xaxis.title.text == "D (px²/frame)"


def test_themed_gives_a_dark_copy_with_the_same_data():
    fig = figures.figure().add_scatter(x=[1, 2], y=[3, 4])
    dark = figures.themed(fig, "dark")
    assert dark.layout.template.layout.font.color == figures.TEMPLATES["dark"].layout.font.color
    assert figures.themed(fig, "light").layout.template.layout.font.color == figures.TEMPLATES["light"].layout.font.color
    assert list(dark.data[0].y) == [3, 4]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_data_and_ink_stand_out_from_the_page(mode: figures.Mode):
    for colour in figures.COLOURS:
        assert contrast(colour, PAGES[mode]) >= 2.6, colour
    layout = figures.TEMPLATES[mode].layout
    assert contrast(layout.font.color, PAGES[mode]) >= 7
    assert contrast(layout.xaxis.tickfont.color, PAGES[mode]) >= 4.5


def test_a_grey_image_holds_the_values_scaled_from_lo_to_hi():
    values = np.array([[0.0, 5.0], [10.0, 20.0]])
    assert picture(figures.image(values, colours="gray")).tolist() == [[0, 64], [128, 255]]
    assert picture(figures.image(values, lo=0, hi=10, colours="gray")).tolist() == [[0, 128], [255, 255]]


def test_an_image_with_nan_or_of_one_value_is_drawn():
    assert picture(figures.image(np.array([[np.nan, 1.0], [np.inf, 2.0]]), colours="gray")).tolist() == [[0, 0], [255, 255]]
    assert picture(figures.image(np.full((2, 2), 7.0), colours="gray")).tolist() == [[0, 0], [0, 0]]
    assert picture(figures.image(np.full((1, 2), np.nan), colours="gray")).tolist() == [[0, 0]]


def test_a_colour_image_runs_through_the_scale():
    pixels = picture(figures.image(np.array([[0.0, 1.0]]), colours="Viridis"))
    assert np.abs(pixels[0, 0].astype(int) - [68, 1, 84]).max() <= 1
    assert np.abs(pixels[0, 1].astype(int) - [253, 231, 37]).max() <= 1


def test_an_rgb_image_is_kept_as_it_is():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert picture(figures.image(pixels)).tolist() == pixels.tolist()


def test_upsampled_pixels_stay_where_they_were():
    trace = figures.image(np.array([[1, 2], [3, 4]], np.uint8), colours="gray", scale=4)
    pixels = picture(trace)
    assert pixels.shape == (8, 8)
    centres = trace.x0 + trace.dx * np.arange(8)
    assert [pixels[0, i] for i in range(8)] == [1 if x < 0.5 else 2 for x in centres]
    assert (centres.min() - trace.dx / 2, centres.max() + trace.dx / 2) == (-0.5, 1.5)


def test_a_large_image_stays_small_in_the_page():
    values = np.random.default_rng(0).normal(size=(2048, 2048))
    fig = figures.figure().add_trace(figures.image(values))
    assert len(fig.to_json()) < 8e6


def test_pixel_axes_are_square_and_point_down():
    fig = figures.subplots(1, 2)
    fig.add_trace(figures.image(np.zeros((32, 64))), 1, 2)
    figures.pixel_axes(fig, (32, 64), row=1, col=2)
    assert list(fig.layout.yaxis2.range) == [31.5, -0.5]
    assert list(fig.layout.xaxis2.range) == [-0.5, 63.5]
    assert fig.layout.yaxis2.scaleanchor == "x2"
    assert "px" in fig.layout.xaxis2.title.text
    assert fig.layout.xaxis.title.text is None


@pytest.mark.parametrize("columns", [2, 8])
def test_a_reel_holds_every_frame_where_a_player_looks_for_it(columns: int):
    frames = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    reel = figures.reel(frames, "clip", zoom=2, columns=columns)
    sheet = np.asarray(Image.open(io.BytesIO(reel.png), formats=["PNG"]))
    assert (reel.width_px, reel.height_px, reel.title, reel.zoom) == (5, 4, "clip", 2)
    for number, frame in enumerate(frames):
        top = number // reel.columns * (reel.height_px + reel.gap_px)
        left = number % reel.columns * (reel.width_px + reel.gap_px)
        np.testing.assert_array_equal(sheet[top : top + 4, left : left + 5], frame)
    assert sheet.shape == ((9, 11) if columns == 2 else (4, 17))


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_themed_text_draws_the_same_as_a_themed_figure(mode: figures.Mode):
    fig = figures.figure(xaxis_title="t (s)").add_scatter(x=np.array([1.0, np.nan]), y=[3, 4])
    told = json.loads(figures.themed_json(fig, mode, uirevision="here"))
    drawn = figures.themed(fig, mode).update_layout(uirevision="here")
    assert told == json.loads(drawn.to_json()) and told["data"][0]["y"] == [3, 4]
    assert fig.layout.uirevision is None


def test_curves_show_both_losses_and_the_best_epoch():
    history = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [100.0, 10.0, 1.0], "validation_loss": [90.0, 9.0, 2.0]})
    fig = figures.curves(history, {"train_loss": "train", "validation_loss": "validation", "absent": "no"}, "loss", best_epoch=3)
    assert [trace.name for trace in fig.data] == ["train", "validation"]
    assert fig.layout.shapes[0].x0 == 3
    assert fig.layout.yaxis.type == "log"


def test_curves_below_zero_or_empty_stay_linear():
    history = pd.DataFrame({"epoch": [1, 2], "loss": [-3.0, 4.0]})
    assert figures.curves(history, {"loss": "loss"}, "loss").layout.yaxis.type is None
    assert len(figures.curves(history.head(0), {"loss": "loss"}, "loss", best_epoch=1).layout.shapes) == 0
