"""Every figure is drawn, survives the trip through JSON, and shows the numbers it should."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from lib.task import Film, Panel, Reel, Samples
from lib.tasks.diffusion import estimators, sheet_views, views
from lib.tasks.diffusion.config import SIMULATION_PRESETS, Simulation
from lib.tasks.diffusion.simulate import simulate_clips


def checked(panels: list[Panel]) -> dict[str, Panel]:
    """Panels by key; each has a title, survives a trip through JSON and is small enough for a page."""
    assert len({panel.key for panel in panels}) == len(panels)
    for panel in panels:
        text = json.dumps(panel.to_json())
        assert panel.title and len(text) < 400_000
        assert Panel.from_json(json.loads(text)).to_json() == json.loads(text)
    return {panel.key: panel for panel in panels}


def figure(panel: Panel) -> go.Figure:
    assert isinstance(panel.content, go.Figure)
    return panel.content


def film(panel: Panel) -> Film:
    assert isinstance(panel.content, Film)
    return panel.content


def sheet(reel: Reel) -> np.ndarray:
    """Frames (n, h, w) of a reel of 16."""
    pixels = np.asarray(Image.open(io.BytesIO(reel.png), formats=["PNG"]))
    rows = [pixels[r * (reel.height_px + 1) :][: reel.height_px] for r in range(2)]
    return np.stack([row[:, c * (reel.width_px + 1) :][:, : reel.width_px] for row in rows for c in range(8)])


def series(config: Simulation) -> Samples:
    rng = np.random.default_rng(1)
    return Samples.concat([simulate_clips(config.model_copy(update={"d_um2_s": d}), 1, rng) for d in (0.01, 1.0, 10.0)])


def prediction(samples: Samples) -> pd.DataFrame:
    """A prediction table as `predict` makes it, with the maximum-likelihood D in the model's place."""
    base = estimators.baselines(samples)
    d = base["d_mle_px2_per_frame"]
    ends = {f"d_px2_per_frame_{end}": d * factor for end, factor in (("lo", 0.8), ("hi", 1.2), ("lo95", 0.6), ("hi95", 1.5))}
    columns = {"file": samples.table["file"], "d_um2_s": d * 2, "d_px2_per_frame": d, **ends, "in_domain": True, "note": ""}
    return pd.DataFrame(columns).assign(d_mle_px2_per_frame=d, d_cve_px2_per_frame=base["d_cve_px2_per_frame"])


@pytest.mark.parametrize(
    "settings",
    [{}, SIMULATION_PRESETS["EMCCD"], SIMULATION_PRESETS["sCMOS"], {"d_um2_s": 0.0}, {"photons": 0.0}, {"background": 0.0}],
)
def test_simulation_panels(settings: dict[str, float]) -> None:
    config = Simulation(**settings)
    sample = simulate_clips(config, 1, np.random.default_rng(0), keep_path=True)
    panels = checked(views.simulation_panels(sample, config, series(config)))
    assert set(panels) == {"clip", "path", "msd", "photons", "range", "settings"}
    clip = film(panels["clip"])
    assert len(clip.labels) == 16 and clip.labels[2] == "0.02 s"
    assert [(reel.width_px, reel.zoom) for reel in clip.reels] == [(64, 1), (64, 1), (256, 4)]
    assert len(panels["clip"].to_json()["content"]["reels"][2]["png"]) < 200_000
    assert panels["range"].explanation.endswith("0.01, 1, 10 px²/frame.")


def test_the_true_path_lies_on_the_light_of_every_frame_in_both_pictures() -> None:
    config = Simulation(d_um2_s=0.5, background=0.0)
    sample = simulate_clips(config, 1, np.random.default_rng(3), keep_path=True)
    clip = film(checked(views.simulation_panels(sample, config, series(config)))["clip"])
    (true,) = clip.marks
    for reel in clip.reels[1:]:
        for frame, ((x, y),) in zip(sheet(reel).astype(float) ** 2, true.points, strict=True):
            rows, columns = np.indices(frame.shape)
            centre = np.array([(frame * columns).sum(), (frame * rows).sum()]) / frame.sum()
            assert (centre + 0.5) / reel.zoom - 0.5 == pytest.approx([x, y], abs=0.5)


def test_msd_figure_draws_4dt() -> None:
    fig = views.msd_figure({"measured": np.arange(1.0, 16.0)}, {"true": 0.5}, 0.02)
    line = next(trace for trace in fig.data if "4Dt" in trace.name)
    assert np.allclose(line.x, np.arange(1, 16) * 0.02)
    assert np.allclose(line.y, 4 * 0.5 * np.arange(1, 16))


def test_the_photon_histogram_counts_every_pixel_in_photons() -> None:
    config = Simulation(photons=0.0, background=20.0)
    steps = views.photon_histogram(simulate_clips(config, 1, np.random.default_rng(0)), config).data[0]
    edges, count = np.asarray(steps.x), np.floor(np.asarray(steps.y[:-1]))  # an empty bin stands at 0.5 on the logarithmic axis
    assert np.average((edges[1:] + edges[:-1]) / 2, weights=count) == pytest.approx(20, rel=0.01)
    assert count.sum() == pytest.approx(16 * 64 * 64, rel=0.001)


def test_sample_panels_mark_the_molecule_in_every_frame_that_shows_it() -> None:
    samples = simulate_clips(Simulation(d_um2_s=0.2), 2, np.random.default_rng(0))
    panels = checked(views.sample_panels(samples, 1))
    assert set(panels) == {"frames", "path", "msd", "readings"}
    frames = film(panels["frames"])
    assert frames.spread and all(len(points) == 1 for points in frames.marks[0].points) and len(frames.labels) == 16
    picture = sheet(frames.reels[0])
    for pixels, ((x, y),) in zip(picture, frames.marks[0].points, strict=True):
        assert pixels[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean() > 2 * pixels.mean()
    assert samples.table["file"][1] in panels["frames"].title


def test_prediction_of_one_clip_shows_its_frames_and_of_many_their_distribution() -> None:
    samples = simulate_clips(Simulation(d_um2_s=1.0), 14, np.random.default_rng(0))
    table = prediction(samples)
    many = checked(views.prediction_panels(table, samples))
    assert set(many) == {"d", "distribution"}
    one = checked(views.prediction_panels(table[:1], samples.take([0])))
    assert {"d", "frames", "msd"} <= set(one)
    two = checked(views.prediction_panels(table[:2], samples.take([0, 1])))
    assert {"frames", "frames-1"} <= set(two)
    assert "µm²/s" in figure(one["d"]).layout.xaxis.title.text
    points = next(trace for trace in figure(many["d"]).data if trace.name == "model")
    assert np.allclose(np.sort(points.x), np.sort(2 * table["d_px2_per_frame"]))


def test_prediction_without_any_result_says_so_and_failed_rows_are_left_out() -> None:
    samples = simulate_clips(Simulation(), 2, np.random.default_rng(0))
    table = prediction(samples)
    failed = pd.DataFrame({"file": ["broken.tif"], "d_px2_per_frame": [np.nan], "note": ["error: is empty"]})
    panels = checked(views.prediction_panels(pd.concat([failed, table], ignore_index=True), samples))
    assert "frames-1" in panels
    assert set(checked(views.prediction_panels(failed, samples.take(np.arange(0))))) == {"nothing"}


def test_pixel_units_where_pixel_size_is_unknown() -> None:
    samples = simulate_clips(Simulation(), 1, np.random.default_rng(0))
    fig = views.interval_figure(prediction(samples).assign(d_um2_s=np.nan))
    assert "px²/frame" in fig.layout.xaxis.title.text


def test_sheet_panels() -> None:
    rng = np.random.default_rng(0)
    true = pd.DataFrame({"d_px2_per_frame": np.geomspace(0.01, 10, 400)})
    d = true["d_px2_per_frame"] * np.exp(0.2 * rng.normal(size=400))
    ends = {f"d_px2_per_frame_{end}": d * np.exp(z * 0.2) for end, z in (("lo", -1), ("hi", 1), ("lo95", -1.96), ("hi95", 1.96))}
    samples = pd.DataFrame({
        "file": [f"{i}.tif" for i in range(400)], "photons": np.geomspace(100, 2000, 400), "background": rng.uniform(1, 100, 400),
        "d_mle_px2_per_frame": d * 1.2, "d_cve_px2_per_frame": d * 0.8, "d_msd_px2_per_frame": d * 2, "bound_relative_sd": 0.26,
    })  # fmt: skip
    panels = checked(sheet_views.sheet_panels(pd.DataFrame({"d_px2_per_frame": d} | ends), true, samples))
    assert set(panels) == {"predicted-true", "rmse", "bias", "coverage", "photons", "background", "by-decade", "worst"}
    assert {trace.name for trace in figure(panels["rmse"]).data} == {"model", "MLE", "CVE", "MSD fit", "trajectory bound"}
    heat = figure(panels["predicted-true"]).data[0]
    assert np.nansum(np.array(heat.z, dtype=float)) == 400
    worst = panels["worst"].content
    assert isinstance(worst, pd.DataFrame)
    ratio = np.abs(np.log(d / true["d_px2_per_frame"]))
    assert worst["file"].iloc[0] == f"{int(ratio.idxmax())}.tif"
    nothing = sheet_views.sheet_panels(pd.DataFrame({"d_px2_per_frame": [np.nan]}), true[:1], samples[:1])
    assert [panel.key for panel in nothing] == ["nothing"]


def test_thumbnail_is_a_grey_picture_of_the_path() -> None:
    samples = simulate_clips(Simulation(d_um2_s=3.0), 1, np.random.default_rng(0))
    picture = views.thumbnail(samples, 0)
    assert picture.dtype == np.uint8 and picture.shape == (64, 64)
    assert picture.max() == 255
