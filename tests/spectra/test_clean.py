"""Readings of spectra have known answers, rules remove what they say, and checks find what was put in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.task import InputError, Samples
from lib.tasks.spectra import checks, clean
from lib.tasks.spectra.arrays import as_samples
from lib.tasks.spectra.config import Simulation
from lib.tasks.spectra.settings import Rules
from lib.tasks.spectra.simulate import simulate_table
from lib.tasks.spectra.table import FLUORESCENCE_NM, LSPR_NM, Channel, SpectraTable


def samples_of(rows: dict | None = None, **channels: np.ndarray) -> Samples:
    """Spectra (n, P) by channel name; `c277` stands for channel 277, `lspr` for the absorbance."""
    n = len(next(iter(channels.values())))
    built = []
    for name, values in channels.items():
        axis = {446: FLUORESCENCE_NM, 251: LSPR_NM}.get(values.shape[1], np.arange(values.shape[1], dtype=float))
        unit = "nm" if values.shape[1] in (446, 251) else "cm⁻¹"
        built.append(Channel(name.removeprefix("c"), axis, values.astype(np.float32), unit))
    table = pd.DataFrame({"sample": [f"s{i}" for i in range(n)], **(rows or {})})
    return as_samples(SpectraTable(tuple(built), table), "table.csv")


def hills(n: int, seed: int = 0, points: int = 446) -> np.ndarray:
    """Positive spectra (n, points) that all differ."""
    rng = np.random.default_rng(seed)
    x = np.arange(points)
    return 500 * np.exp(-((x - points / 2 - rng.normal(0, 5, (n, 1))) ** 2) / 2000) + rng.uniform(10, 20, (n, points))


def simulated(n: int = 300) -> Samples:
    return as_samples(simulate_table(Simulation(), n, np.random.default_rng(1)), "sim.csv")


# --- readings ---------------------------------------------------------------------------------------------------------
def test_maximum_integral_and_reading_at_the_excitation_are_those_of_a_triangle():
    triangle = np.maximum(100 - np.abs(FLUORESCENCE_NM - 430), 0)[None] * 2  # height 200, base 200 nm
    read = clean.inspect(samples_of(c425=triangle)).iloc[0]
    assert read["max_425_counts"] == 200
    assert read["integral_425_counts_nm"] == pytest.approx(200 * 200 / 2)
    assert read["at_excitation_425_counts"] == 190


def test_the_trapezoid_knows_an_uneven_axis():
    channel = Channel("277", np.array([300.0, 310.0, 340.0]), np.array([[0.0, 10.0, 10.0]], np.float32))
    read = clean.inspect(as_samples(SpectraTable((channel,), pd.DataFrame({"sample": ["a"]})), "x")).iloc[0]
    assert read["integral_277_counts_nm"] == pytest.approx(50 + 300)


def test_file_and_sample_come_first_and_the_excitation_only_where_the_axis_holds_it():
    read = clean.inspect(samples_of(c277=hills(3), c380=hills(3), lspr=hills(3, points=251)))
    assert list(read.columns[:2]) == ["file", "sample"]
    assert "at_excitation_380_counts" in read and "at_excitation_277_counts" not in read
    assert {"max_lspr", "integral_lspr"} <= set(read.columns)


def test_a_plateau_is_counted_and_two_equal_points_are_none():
    spectra = hills(4)
    spectra[1] = np.minimum(spectra[1], 400)
    spectra[2, 100:102] = 900
    spectra[3] = 7.0  # flat, no top
    read = clean.inspect(samples_of(c380=spectra))
    assert read["saturated_points"].tolist() == [0, int((spectra[1] == 400).sum()), 0, 0]
    assert read["saturated_points"][1] > 20


def test_a_single_point_at_the_converters_limit_is_saturated():
    spectra = hills(2)
    spectra[0, 50] = 62_996
    assert clean.inspect(samples_of(c380=spectra))["saturated_points"].tolist() == [1, 0]


def test_a_rounded_peak_of_absorbance_is_no_plateau_but_a_cut_one_is():
    peak = np.round(np.exp(-((LSPR_NM - 520) ** 2) / 5000), 3)
    assert (peak == peak.max()).sum() >= 3
    read = clean.inspect(samples_of(lspr=np.stack([peak, np.minimum(peak, 0.5)])))
    assert read["saturated_points"][0] == 0
    assert read["saturated_points"][1] > 10


def test_points_below_zero_are_those_of_the_worst_channel_and_not_of_centred_spectra():
    one, other = hills(1), hills(1)
    one[0, :223] = -1
    assert clean.inspect(samples_of(c277=one, c380=other))["negative_percent"][0] == pytest.approx(50)
    assert "negative_percent" not in clean.inspect(samples_of(spectrum=hills(2, points=100) - 300))


def test_missing_points_are_counted_and_bridged():
    spectra = np.tile(np.linspace(0, 445, 446), (3, 1))
    spectra[1, 10:20] = np.nan
    spectra[2] = np.nan
    read = clean.inspect(samples_of(c380=spectra))
    assert read["missing_points"].tolist() == [0, 10, 446]
    assert read["integral_380_counts_nm"][1] == pytest.approx(read["integral_380_counts_nm"][0])
    assert np.isnan(read["integral_380_counts_nm"][2])


def test_copies_are_found_across_chunks_and_only_where_every_channel_agrees(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clean, "CHUNK_ROWS", 3)
    one, other = hills(8), hills(8, seed=1)
    one[[5, 7]] = one[0]
    other[[5, 6]] = other[0]
    assert clean.inspect(samples_of(c277=one, c380=other))["duplicate_of"].tolist() == [-1] * 5 + [0, -1, -1]


def test_first_equal_row_is_named():
    assert clean.earlier_equal(np.array([4, 9, 4, 9, 9, 1])).tolist() == [-1, -1, 0, 1, 1, -1]


def test_chunks_change_no_reading(monkeypatch: pytest.MonkeyPatch):
    samples = simulated(30)
    whole = clean.inspect(samples)
    monkeypatch.setattr(clean, "CHUNK_ROWS", 7)
    pd.testing.assert_frame_equal(whole, clean.inspect(samples))


def test_distance_is_one_for_usual_shapes_and_blind_to_size():
    spectra = hills(40)
    spectra[3] = 50 * spectra[4] + 100
    spectra[9] = spectra[9, ::-1] + np.linspace(0, 2000, 446)
    read = clean.inspect(samples_of(c380=spectra))
    assert read["distance"].median() == pytest.approx(1)
    assert read["distance"].idxmax() == 9 and read["distance"][9] > 3
    assert read["distance"][3] == pytest.approx(read["distance"][4], rel=1e-3)


def test_distance_equals_the_plain_formula():
    samples = simulated(20)
    off = 0
    for axis in clean.axes_of(samples):
        shape = clean.snv(np.asarray(samples.inputs[axis.name], dtype=float))
        off += ((shape - np.median(shape, axis=0)) ** 2).mean(axis=1)
    plain = np.sqrt(off) / np.median(np.sqrt(off))
    np.testing.assert_allclose(clean.inspect(samples)["distance"], plain, rtol=1e-3)


def test_known_columns_are_carried_under_names_with_units():
    read = clean.inspect(samples_of({"severity": ["OK", "VR"], "greffon_transmittance": ["71.5", ""]}, c277=hills(2)))
    assert read["severity"].tolist() == ["OK", "VR"]
    assert read["transmittance_percent"].iloc[0] == 71.5 and np.isnan(read["transmittance_percent"].iloc[1])


# --- rules ------------------------------------------------------------------------------------------------------------
def test_flags_have_one_column_per_rule_in_order():
    flags = clean.flag(clean.inspect(simulated(20)), Rules())
    assert list(flags.columns) == list(Rules.model_fields)
    assert all(pd.api.types.is_bool_dtype(flags[name]) for name in flags)


def test_rules_on_what_a_table_lacks_remove_nothing():
    readings = pd.DataFrame({"file": ["a", "b"]}, index=[5, 9])
    rules = Rules(
        max_277=0, min_integral_277=1e9, measured_from="2030-01-01", drop_vr1=True, inspector_only=True,
        min_transmittance_percent=99,
    )  # fmt: skip
    flags = clean.flag(readings, rules)
    assert not flags.to_numpy().any()
    assert list(flags.index) == [5, 9]


def test_limits_are_kept_and_what_is_beyond_is_removed():
    readings = pd.DataFrame({
        "max_277_counts": [6500.0, 6501.0, np.nan], "integral_380_counts_nm": [100.0, 99.0, np.nan],
        "transmittance_percent": [50.0, 49.0, np.nan], "saturated_points": [0, 2, 3], "missing_points": [0, 1, 0],
        "negative_percent": [20.0, 20.1, 0.0], "duplicate_of": [-1, 0, -1],
    })  # fmt: skip
    flags = clean.flag(readings, Rules(min_integral_380=100, min_transmittance_percent=50, max_saturated_points=2))
    assert flags["max_277"].tolist() == [False, True, False]
    assert flags["min_integral_380"].tolist() == [False, True, False]
    assert flags["min_transmittance_percent"].tolist() == [False, True, False]
    assert flags["max_saturated_points"].tolist() == [False, False, True]
    assert flags["max_missing_points"].tolist() == [False, True, False]
    assert flags["max_negative_percent"].tolist() == [False, True, False]
    assert flags["drop_duplicates"].tolist() == [False, True, False]
    assert not clean.flag(readings, Rules(drop_duplicates=False))["drop_duplicates"].any()


@pytest.mark.parametrize("as_text", [False, True])
def test_both_days_of_a_range_are_kept_and_a_sample_without_a_date_too(as_text: bool):
    words = pd.Series(["2024-02-29 23:59", "2024-03-01 00:00", "2024-05-31 23:59", "2024-06-01 00:00", None])
    readings = pd.DataFrame({"measured_at": words if as_text else pd.to_datetime(words)})
    flags = clean.flag(readings, Rules(measured_from="2024-03-01", measured_to="2024-05-31"))
    assert flags["measured_from"].tolist() == [True, False, False, False, False]
    assert flags["measured_to"].tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"measured_from": "01/03/2024"}, "measured_from"),
        ({"measured_to": "2024-02-30"}, "measured_to"),
        ({"measured_from": "2024-03-02", "measured_to": "2024-03-01"}, "measured_to"),
    ],
)
def test_a_day_that_cannot_be_read_is_named_even_without_dates(rules: dict, named: str):
    with pytest.raises(InputError, match=named):
        clean.flag(pd.DataFrame({"file": ["a"]}), Rules(**rules))


@pytest.mark.parametrize("kind", [pd.Series([1, 1, 11, None], dtype="Int64"), pd.Series(["1", "1", "11", ""])])
def test_vr1_is_severity_and_type_together(kind: pd.Series):
    readings = pd.DataFrame({"severity": ["VR", "CROCHET", "VR", "VR"], "defect_type": kind})
    assert clean.flag(readings, Rules(drop_vr1=True))["drop_vr1"].tolist() == [True, False, False, False]
    assert not clean.flag(readings, Rules())["drop_vr1"].any()


def test_inspector_only_removes_what_nobody_is_known_to_have_tasted():
    readings = pd.DataFrame({"provenance": ["inspector", "algorithm", "", None]})
    assert clean.flag(readings, Rules(inspector_only=True))["inspector_only"].tolist() == [False, True, True, True]


def test_readings_survive_parquet(tmp_path):
    readings = clean.inspect(simulated(20))
    readings.to_parquet(tmp_path / "readings.parquet")
    rules = Rules(measured_from="2019-06-01", drop_vr1=True, inspector_only=True)
    again = clean.flag(pd.read_parquet(tmp_path / "readings.parquet"), rules)
    pd.testing.assert_frame_equal(clean.flag(readings, rules), again)


# --- checks -----------------------------------------------------------------------------------------------------------
def found(samples: Samples) -> dict[str, checks.Check]:
    return {check.key: check for check in checks.checks(samples, clean.inspect(samples))}


def test_copies_and_gaps_are_told_with_their_numbers():
    spectra = hills(6)
    spectra[4] = spectra[1]
    spectra[2, 3] = np.nan
    told = found(samples_of({"brix": [1.0, None, None, 2, 3, 4]}, c277=spectra))
    assert "1 spectrum repeats" in told["duplicates"].finding
    assert told["duplicates"].table.iloc[0].tolist() == [5, "s4", 2, "s1"]
    assert "brix: 2 (33.3 %)" in told["missing"].finding
    assert len(told["missing"].table) == 2


def test_a_clean_table_needs_nothing_done():
    told = found(samples_of(c277=hills(6)))
    assert told["duplicates"].advice == told["missing"].advice == ""
    assert set(told) == {"duplicates", "missing"}


def test_spread_within_and_between_is_that_of_the_simulation():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(2000), rng.integers(2, 5, 2000))
    values = rng.normal(0, 0.5, 2000)[codes] + rng.normal(0, 0.1, len(codes))
    within, between = checks.spread_of(values, codes)
    assert within == pytest.approx(0.1, rel=0.05)
    assert between == pytest.approx(0.5, rel=0.05)
    assert np.isnan(checks.spread_of(values[:3], np.arange(3))[1])


def test_replicates_are_counted():
    told = found(samples_of({"group": ["a", "a", "b", "c", "c", "c", "", ""]}, c277=hills(8)))
    assert "2 of 3 specimens" in told["replicates"].finding and "5 samples" in told["replicates"].finding


def test_class_and_instrument_that_go_together_are_told():
    severity, instrument = np.repeat(["OK", "VR"], 30), np.repeat(["A", "B"], 30)
    told = found(samples_of({"severity": severity, "instrument": instrument}, c277=hills(60)))["confounding-instrument"]
    assert "confounded" in told.finding and "1.00" in told.finding and told.advice
    mixed = np.tile(["A", "B"], 30)
    told = found(samples_of({"severity": severity, "instrument": mixed}, c277=hills(60)))["confounding-instrument"]
    assert "alike" in told.finding and not told.advice
    rare = np.where(np.arange(60) % 6, "OK", "VR")  # ten of one class, too few to say that they go with an instrument
    told = found(samples_of({"severity": rare, "instrument": instrument}, c277=hills(60)))["confounding-instrument"]
    assert "alike" in told.finding and "one class" not in told.finding


def test_cramers_v_is_one_for_a_copy_and_near_zero_for_chance():
    rng = np.random.default_rng(0)
    one = rng.choice(["a", "b", "c"], 2000)
    assert checks.cramers_v(one, one) == pytest.approx(1)
    assert checks.cramers_v(one, rng.permutation(one)) < 0.05


def test_labels_of_the_algorithm_are_no_truth():
    rows = {
        "severity": ["OK", "OK", "VR", "OK"], "provenance": ["inspector", "algorithm", "inspector", ""],
        "algorithm_severity": ["OK", "OK", "OK", "OK"],
    }  # fmt: skip
    told = found(samples_of(rows, c277=hills(4)))["provenance"]
    assert "inspector 50.0 %" in told.finding and "unknown 25.0 %" in told.finding
    assert "Of 2 samples that both judged, they agree on 50 %" in told.finding
    assert told.advice


def test_a_step_between_instruments_is_measured_on_shared_specimens():
    spectra = hills(80)
    group = np.repeat(np.arange(40).astype(str), 2)
    instrument = np.tile(["A", "B"], 40)
    spectra[1::2] = 1.3 * spectra[::2]
    told = found(samples_of({"group": group, "instrument": instrument}, c277=spectra))["step"]
    assert told.table.iloc[0, 2] == pytest.approx(30, abs=0.2)
    assert told.table.iloc[0, 3] == 40
    assert told.advice


def test_a_lamp_that_fades_is_found():
    when = pd.date_range("2024-01-01", periods=200, freq="D")
    fade = np.exp(np.log(0.8) * np.arange(200) / 365.25)[:, None]
    told = found(samples_of({"measured_at": when}, c277=hills(200) * fade))["drift"]
    assert told.table["r with date"][0] < -0.9
    assert told.table["change per year (%)"][0] == pytest.approx(-20, abs=2)
    assert told.advice and "syrup" not in told.advice and "instrument" not in told.finding + "".join(told.table)
    severity = np.where(np.arange(200) % 2, "OK", "VR")
    maple = {"measured_at": when, "severity": severity, "instrument": "A"}
    told = found(samples_of(maple, c277=hills(200) * fade))["drift"]
    assert "season, which changes syrup too" in told.advice and "instrument A, " in told.finding


def test_no_rate_per_year_where_one_instrument_was_used_for_a_few_weeks():
    when = pd.date_range("2024-01-01", periods=400, freq="D")
    names = np.where(np.arange(400) < 40, "B", "A")
    told = found(samples_of({"measured_at": when, "instrument": names}, c277=hills(400)))["drift"]
    assert "change per month (%)" in told.table and set(told.table["instrument"]) == {"A", "B"}


@pytest.mark.parametrize(("step", "period", "days"), [("D", "month", 30.4375), ("4h", "day", 1), ("1min", "hour", 1 / 24)])
def test_a_rate_is_given_per_period_that_the_dates_bear(step: str, period: str, days: float):
    when = pd.date_range("2024-03-01", periods=100, freq=step)
    periods = (when - when[0]) / pd.Timedelta(days=days)
    fade = np.exp(np.log(0.8) * periods.to_numpy())[:, None]
    told = found(samples_of({"measured_at": when}, c277=hills(100) * fade))["drift"]
    assert told.table[f"change per {period} (%)"][0] == pytest.approx(-20, abs=2) and f"% per {period}." in told.finding


def test_the_panel_has_a_row_per_check_and_shows_the_figures_behind_each():
    samples = simulated(200)
    readings = clean.inspect(samples)
    panel = checks.check_panel(samples, readings)
    assert list(panel.content.columns) == ["check", "finding", "what to do"]
    assert len(panel.content) == len(checks.checks(samples, readings)) == 9
    every, *titles = checks.check_view(samples, readings).picks[0].values
    assert checks.check_panel(samples, readings, of=every).content.equals(panel.content)
    assert set(titles) == set(panel.content["check"]), "each check is offered by its title"
    step = checks.check_panel(samples, readings, of="Step between instruments")
    assert "specimens on both" in step.content and "reads" in step.explanation
    bare = samples_of({}, c277=hills(8))
    assert "does not tell" in checks.check_panel(bare, clean.inspect(bare), of="Drift").content
