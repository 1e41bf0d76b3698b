"""Every figure is drawn, survives the trip through JSON, and shows the numbers it should."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from lib.task import Panel, Samples
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
    assert set(panels) == {"clip", "path", "noiseless", "msd", "photons", "range", "settings"}
    assert len(figure(panels["clip"]).frames) == 16
    assert panels["range"].explanation.endswith("0.01, 1, 10 px²/frame.")


def test_msd_figure_draws_4dt() -> None:
    fig = views.msd_figure({"measured": np.arange(1.0, 16.0)}, {"true": 0.5}, 0.02)
    line = next(trace for trace in fig.data if "4Dt" in trace.name)
    assert np.allclose(line.x, np.arange(1, 16) * 0.02)
    assert np.allclose(line.y, 4 * 0.5 * np.arange(1, 16))


def test_the_photon_histogram_counts_every_pixel_in_photons() -> None:
    config = Simulation(photons=0.0, background=20.0)
    bars = views.photon_histogram(simulate_clips(config, 1, np.random.default_rng(0)), config).data[0]
    assert np.average(bars.x, weights=bars.y) == pytest.approx(20, rel=0.01)


def test_sample_panels_mark_the_molecule_in_every_frame_that_shows_it() -> None:
    samples = simulate_clips(Simulation(d_um2_s=0.2), 2, np.random.default_rng(0))
    panels = checked(views.sample_panels(samples, 1))
    assert set(panels) == {"frames", "path", "msd", "readings"}
    assert len(figure(panels["frames"]).data[1].x) == 16
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
