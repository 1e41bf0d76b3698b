"""Every figure of cleaning and simulating draws on any table, names its axes with units, stays small, and can be translated."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from lib.task import Panel, Samples
from lib.tasks.spectra import checks, clean, clean_views, sample_views, simulate_views
from lib.tasks.spectra.arrays import as_samples
from lib.tasks.spectra.config import SIMULATION_PRESETS, Simulation
from lib.tasks.spectra.population import one_specimen
from lib.tasks.spectra.settings import Rules
from lib.tasks.spectra.simulate import emitted_per_nm, instruments, lamp_e, scattered_per_nm, simulate_table
from lib.tasks.spectra.table import EXCITATIONS, FLUORESCENCE_NM, Channel, SpectraTable
from lib.words import english

MOST_BYTES = 300_000
WITHOUT_UNIT = {"class", "number of samples", "date of measurement", "reading"}
# Names of things, which are the same in every language.
NAMES = {"NC", "VR", "CROCHET", "OK", "r"}


def overview(*args: Any, **options: Any) -> list[Panel]:
    """Every panel of `clean_views.views`."""
    return [view.make() for view in clean_views.views(*args, **options)]


def simulated(n: int = 400) -> Samples:
    return as_samples(simulate_table(Simulation(), n, np.random.default_rng(1)), "sim.csv")


def generic(n: int, points: int = 60) -> Samples:
    """One channel, centred values, no labels, dates, specimens or instruments."""
    values = np.random.default_rng(0).normal(0, 1, (n, points)).cumsum(axis=1).astype(np.float32)
    channel = Channel("spectrum", np.linspace(800, 1800, points), values, "cm⁻¹")
    return as_samples(SpectraTable((channel,), pd.DataFrame({"sample": [str(i) for i in range(n)]})), "mir.csv")


def looked_at(samples: Samples, say=english) -> list[Panel]:
    """Everything that the Clean page may show of a table."""
    readings = clean.inspect(samples)
    keep = ~clean.flag(readings, Rules()).any(axis=1)
    return [
        *overview(samples, readings, keep, say),
        *(checks.check_panel(samples, readings, say, of) for of in checks.check_view(samples, readings, say).picks[0].values),
        *sample_views.sample_panels(samples, len(samples) - 1, say),
    ]


def figures_of(panels: Sequence[Panel]) -> dict[str, go.Figure]:
    return {panel.key: panel.content for panel in panels if isinstance(panel.content, go.Figure)}


def axis_titles(fig: go.Figure) -> list[str]:
    """Titles of all axes; those of a grid may be given once per row or column."""
    return [axis.title.text for axis in (*fig.select_xaxes(), *fig.select_yaxes()) if axis.title.text]


@pytest.fixture(scope="module")
def everything() -> list[Panel]:
    return [*looked_at(simulated()), *simulate_views.simulation_panels(Simulation(), np.random.default_rng(0))]


# --- all panels -------------------------------------------------------------------------------------------------------
def test_axes_are_named_with_units(everything: list[Panel]):
    for key, fig in figures_of(everything).items():
        titles = axis_titles(fig)
        assert any(axis.title.text for axis in fig.select_xaxes()), key
        assert any(axis.title.text for axis in fig.select_yaxes()), key
        for title in titles:
            assert "(" in title or title in WITHOUT_UNIT, (key, title)


def test_panels_are_small_and_come_back_from_json(everything: list[Panel]):
    for panel in everything:
        text = json.dumps(panel.to_json())
        assert len(text) < MOST_BYTES, panel.key
        assert Panel.from_json(json.loads(text)).key == panel.key


def test_panels_have_a_key_of_their_own_a_title_and_figures_an_explanation():
    panels = looked_at(simulated(60))
    assert len({panel.key for panel in panels}) == len(panels)
    assert all(panel.title for panel in panels)
    assert all(panel.explanation for panel in panels if isinstance(panel.content, go.Figure))


def words_of(panel: Panel) -> list[str]:
    """Everything in a panel that is written for people."""
    if isinstance(panel.content, str):
        return [panel.title, panel.content]
    if isinstance(panel.content, pd.DataFrame):
        return [panel.title, *map(str, panel.content.columns)]
    fig = panel.content
    assert isinstance(fig, go.Figure)
    notes = [note.text for note in fig.layout.annotations if note.text]
    return [panel.title, panel.explanation, *axis_titles(fig), *notes, *(t.name for t in fig.data if t.name)]


def test_every_text_goes_through_say():
    marked = lambda text, **values: "§" + english(text, **values)  # noqa: E731
    panels = looked_at(simulated(60), marked)
    panels += simulate_views.simulation_panels(Simulation(turbidity=100), np.random.default_rng(0), marked)
    raw = {"sample", "A", "B", "algorithm", "inspector"}  # columns named by the table
    for panel in panels:
        for word in words_of(panel):
            assert "§" in word or word in NAMES | raw or not re.search("[a-z]", word), (panel.key, word)


@pytest.mark.parametrize("samples", [simulated(1), simulated(3), generic(1), generic(40)], ids=["1", "3", "generic 1", "generic"])
def test_small_and_plain_tables_are_drawn(samples: Samples):
    panels = looked_at(samples)
    assert {"integrals", "maxima", "scatter", "scores", "extremes", "checks", "spectra"} <= {panel.key for panel in panels}
    for panel in panels:
        json.dumps(panel.to_json())
    assert sample_views.thumbnail(samples, 0).max() == 255


def test_a_plain_table_shows_no_classes_dates_or_limits():
    panels = looked_at(generic(40))
    assert not {"joint", "boxes", "counts", "drift"} & {panel.key for panel in panels}
    assert not figures_of(panels)["maxima"].layout.shapes


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 40)])
def test_missing_spectra_are_drawn_around(rows: slice):
    samples = simulated(40)
    inputs = {name: np.array(values) for name, values in samples.inputs.items()}
    inputs["380"][rows] = np.nan
    inputs["277"][0, 5:9] = np.nan
    for panel in looked_at(Samples(inputs, samples.table, samples.common)):
        json.dumps(panel.to_json())


def test_an_empty_table_has_nothing_to_show():
    samples = simulated(3).take([])
    readings = clean.inspect(samples)
    assert len(readings) == 0 and list(readings.columns[:2]) == ["file", "sample"]
    assert overview(samples, readings, pd.Series([], dtype=bool)) == []
    assert checks.checks(samples, readings) == []


def test_views_are_made_when_asked_for_and_have_the_titles_of_their_panels(monkeypatch: pytest.MonkeyPatch):
    samples = simulated(40)
    readings = clean.inspect(samples)
    made = []
    monkeypatch.setattr(clean_views, "scores", lambda *_: made.append(1) or (np.zeros((40, 2)), np.zeros(2)))
    views = clean_views.views(samples, readings, pd.Series(np.ones(40, dtype=bool)))
    assert not made
    assert len({view.title for view in views}) == len(views)
    assert [view.make().title for view in views] == [view.title for view in views]
    assert made == [1]


# --- overview ---------------------------------------------------------------------------------------------------------
def test_points_carry_their_rows_and_at_most_so_many_are_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clean_views, "POINTS", 100)
    monkeypatch.setattr(clean_views, "FARTHEST", 10)
    samples = simulated()
    readings = clean.inspect(samples)
    keep = pd.Series(np.arange(len(samples)) % 3 > 0)
    panels = overview(samples, readings, keep)
    for key in ("scatter", "scores"):
        fig = figures_of(panels)[key]
        assert {trace.type for trace in fig.data} == {"scattergl"}
        rows = np.concatenate([trace.customdata for trace in fig.data])
        assert len(rows) == len(set(rows)) == 100
        assert set(readings["distance"].nlargest(10).index) <= set(rows)
        assert "100 of 400" in next(panel.explanation for panel in panels if panel.key == key)
    kept, dropped = figures_of(panels)["scatter"].data
    assert keep[kept.customdata].all() and not keep[dropped.customdata].any()
    np.testing.assert_allclose(kept.x, readings["integral_277_counts_nm"][kept.customdata], rtol=1e-6)
    assert {trace.name for trace in figures_of(panels)["scores"].data} <= {"NC", "VR", "CROCHET", "OK"}
    for trace in figures_of(panels)["scores"].data:
        assert (samples.table["severity"].iloc[trace.customdata] == trace.name).all()


def test_components_are_those_of_snv_spectra():
    samples = simulated(60)
    found, share = clean_views.scores(samples, np.arange(60))
    together = np.concatenate([clean.snv(np.asarray(v, dtype=float)) for v in samples.inputs.values()], axis=1)
    values = np.linalg.svd(together - together.mean(0), compute_uv=False)
    np.testing.assert_allclose(share, (values**2 / (values**2).sum())[:2], rtol=0.01)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), values[:2], rtol=0.01)


def test_distributions_of_kept_and_dropped_each_add_up_to_all():
    samples = simulated(100)
    keep = pd.Series(np.arange(100) < 80)
    fig = figures_of(overview(samples, clean.inspect(samples), keep))["integrals"]
    assert [trace.name for trace in fig.data].count("dropped") == 4
    for trace in fig.data:
        assert np.sum(trace.y) == pytest.approx(100, rel=1e-4)


def test_limits_of_the_rules_are_drawn():
    samples = simulated(100)
    keep = pd.Series(np.ones(100, dtype=bool))
    panels = overview(samples, clean.inspect(samples), keep, rules=Rules(max_277=800, min_integral_380=9e4))
    assert 800 in [shape.x0 for shape in figures_of(panels)["maxima"].layout.shapes]
    assert 9e4 in [shape.x0 for shape in figures_of(panels)["integrals"].layout.shapes]


def test_weak_correlations_are_left_empty():
    samples = simulated(300)
    readings = clean.inspect(samples)
    fig = figures_of(overview(samples, readings, pd.Series(np.ones(300, dtype=bool))))["correlations"]
    z, names = np.asarray(fig.data[0].z, dtype=float), list(fig.data[0].x)
    assert np.nanmin(np.abs(z)) >= 0.2
    one, other = names.index("largest reading, excitation 277 nm (counts)"), names.index("transmittance (%)")
    r = np.corrcoef(readings["max_277_counts"], readings["transmittance_percent"])[0, 1]
    assert (np.isnan(z[one, other]) and abs(r) < 0.2) or z[one, other] == pytest.approx(r, abs=0.006)


def test_other_columns_can_be_the_class_and_rare_values_become_one():
    table = pd.DataFrame({"origin": [*"aabbccddeeffgghhij", ""]})
    names, order = clean_views.classes_of(table, "origin")
    assert len(order) == clean_views.MOST_CLASSES and order[-1] == "other"
    assert names[-1] == "" and set(names[:-1]) == set(order)
    samples = simulated(40).with_columns(origin=np.where(np.arange(40) % 2, "Beauce", "Estrie"))
    panels = overview(samples, clean.inspect(samples), pd.Series(np.ones(40, dtype=bool)), by="origin")
    assert {trace.name for trace in figures_of(panels)["boxes"].data} == {"Beauce", "Estrie"}


def test_extremes_are_the_largest_and_the_smallest():
    readings = pd.DataFrame({"sample": list("abc"), "integral_277_counts_nm": [2.0, np.nan, 1.0]}, index=[7, 8, 9])
    found = clean_views.extremes(readings)
    assert found[["which", "row", "sample", "value"]].to_numpy().tolist() == [["largest", 0, "a", 2.0], ["smallest", 2, "c", 1.0]]


def test_rows_of_the_extremes_lead_to_their_samples():
    samples = simulated(60)
    readings, keep = clean.inspect(samples), pd.Series(np.arange(60) % 2 == 0)
    panel = next(panel for panel in overview(samples, readings, keep) if panel.key == "extremes")
    table = panel.content
    assert isinstance(table, pd.DataFrame) and len(table) == len(panel.behind) == 4 * 2 * clean_views.EXTREMES
    for (row,), number, sample, kept in zip(panel.behind, table["no."], table["sample"], table["kept"]):
        assert (number, sample, kept) == (row + 1, readings["sample"].iloc[row], keep.iloc[row])
    values = readings["integral_277_counts_nm"].to_numpy()
    assert [row for (row,) in panel.behind[:6]] == [*np.argsort(values)[::-1][:3], *np.argsort(values)[:3]]


# --- one sample -------------------------------------------------------------------------------------------------------
def test_thumbnails_are_small_grey_pictures_that_tell_spectra_apart():
    samples = simulated(20)
    pictures = [sample_views.thumbnail(samples, row) for row in range(20)]
    assert all(picture.shape == (48, 96) and picture.dtype == np.uint8 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 20


def test_a_thumbnail_draws_the_curve_where_it_is():
    axis = np.arange(96.0)
    channel = Channel("spectrum", axis, np.stack([axis, 0 * axis]).astype(np.float32), "")
    samples = as_samples(SpectraTable((channel,), pd.DataFrame({"sample": ["up", "flat"]})), "x")
    up = sample_views.thumbnail(samples, 0)
    assert up[-1, 0] == up[0, -1] == sample_views.CURVE
    assert up[0, 0] == 0 and up[-1, -1] == sample_views.BELOW
    assert (sample_views.thumbnail(samples, 1)[-1] == sample_views.CURVE).all()


def test_the_band_holds_nine_tenths_of_the_table():
    samples = generic(400)
    low, median, high = sample_views.band(samples, clean.axes_of(samples)[0])
    values = samples.inputs["spectrum"]
    assert ((values >= low) & (values <= high)).mean() == pytest.approx(0.9, abs=0.01)
    np.testing.assert_allclose(median, np.median(values, axis=0), rtol=1e-5)


def test_the_preview_shows_what_training_does():
    samples = simulated(3)
    raw, snv, derivative, baseline = (np.asarray(trace.y) for trace in sample_views.preview(samples, 1).data[:4])
    np.testing.assert_array_equal(raw, samples.inputs["277"][1])
    assert snv.mean() == pytest.approx(0, abs=1e-4) and snv.std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(derivative[20:-20], np.gradient(raw)[20:-20], atol=40)
    assert np.median(np.abs(baseline)) < np.median(np.abs(raw))


# --- simulated --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", SIMULATION_PRESETS.values(), ids=SIMULATION_PRESETS)
def test_every_preset_is_drawn_and_says_that_it_is_simulated(preset: dict):
    panels = simulate_views.simulation_panels(Simulation.parse(preset), np.random.default_rng(0))
    assert {panel.key for panel in panels} >= {"sample", "contributions", "classes", "lspr"}
    assert all("simulated" in panel.title.lower() for panel in panels)


@pytest.mark.parametrize("excitation", EXCITATIONS)
@pytest.mark.parametrize("instrument", ["A", "B"])
def test_contributions_add_up_to_the_channel_without_noise(excitation: str, instrument: str):
    config = Simulation(instrument=instrument, lamp_age_days=100)
    specimens, _ = one_specimen(config, 1, np.random.default_rng(0))
    device, nm = instruments(config)[instrument], float(excitation)
    true_nm = FLUORESCENCE_NM - device.axis_offset_nm
    light = emitted_per_nm(specimens, nm, true_nm, config.bandpass_nm)
    light = light + scattered_per_nm(specimens, nm, true_nm, config.bandpass_nm, config.second_order)
    whole = light[0] * device.response(true_nm) * lamp_e(config, device, excitation, np.array([100.0])) / config.e_per_count
    np.testing.assert_allclose(sum(simulate_views.contributions(specimens, config, excitation).values()), whole, rtol=1e-4)


def test_the_plateau_is_marked_only_when_a_reading_comes_near():
    def lines(**settings) -> int:
        panels = simulate_views.simulation_panels(Simulation(**settings), np.random.default_rng(0))
        return sum(shape.y0 == shape.y1 for shape in figures_of(panels)["sample"].layout.shapes)

    assert lines() == 0
    assert lines(turbidity=1000) == 1


def test_scattered_light_is_marked_where_the_axis_holds_it():
    panels = simulate_views.simulation_panels(Simulation(), np.random.default_rng(0))
    assert sorted(shape.x0 for shape in figures_of(panels)["sample"].layout.shapes) == [380, 425, 554]
