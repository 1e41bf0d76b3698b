"""The simulator obeys the laws of absorption, emission, scatter and detection, and its population is what it says."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.task import InputError
from lib.tasks.spectra.config import SIMULATION_PRESETS, Quality, Simulation
from lib.tasks.spectra.fluorophores import (
    EMISSION_GRID_NM,
    NAMES,
    SUBSTANCES,
    absorption_per_cm,
    emission_per_nm,
    log_normal_band,
)
from lib.tasks.spectra.population import (
    QUALITIES,
    Specimens,
    algorithm_verdicts,
    class_shares,
    draw_latents,
    draw_population,
    inspector_verdicts,
    severity_and_type,
)
from lib.tasks.spectra.simulate import (
    emitted_per_nm,
    instruments,
    raman_per_nm,
    record,
    scattered_per_nm,
    simulate_samples,
    simulate_table,
    transmittance_percent,
)
from lib.tasks.spectra.table import EXCITATIONS, FLUORESCENCE_NM, LSPR_NM, SEVERITIES, TYPES, SpectraTable

STILL = {"reseat_spread": 0.0, "replicate_spread": 0.0, "read_sigma_e": 0.0, "turbidity": 0.001}  # nothing but shot noise
LN10 = np.log(10)


def specimens(brix_deg: float = 0.0, **amounts: float) -> Specimens:
    """One cell with these substances; `_` in a name stands for a space or a hyphen."""
    plain = [name.lower().replace(" ", "_").replace("-", "_") for name in NAMES]
    assert not set(amounts) - set(plain)
    row = [amounts.get(name, 0.0) for name in plain]
    return Specimens(np.array([row]), np.zeros(1), np.zeros(1), np.array([brix_deg]))


def fluorescence(excitation_nm: float, wavelength_nm: np.ndarray = FLUORESCENCE_NM, **amounts: float) -> np.ndarray:
    """Light of one cell of these substances in water, relative to what enters, per nm."""
    return emitted_per_nm(specimens(**amounts), excitation_nm, wavelength_nm)[0].astype(float)


def at(nm: float) -> int:
    return int(np.argmin(np.abs(FLUORESCENCE_NM - nm)))


# --- substances -------------------------------------------------------------------------------------------------------
def test_band_has_its_peak_width_and_asymmetry() -> None:
    fine = np.arange(250, 1000, 0.01)
    band = log_normal_band(fine, 460.0, 75.0, 1.3)
    above = fine[band >= 0.5]
    assert fine[band.argmax()] == pytest.approx(460, abs=0.02)
    assert np.ptp(above) == pytest.approx(75, abs=0.05)
    assert (above[-1] - 460) / (460 - above[0]) == pytest.approx(1.3, rel=1e-3)


def test_photons_out_are_quantum_yield_times_photons_in() -> None:
    out = np.trapezoid(emission_per_nm(EMISSION_GRID_NM), EMISSION_GRID_NM, axis=1)
    assert out == pytest.approx([substance.quantum_yield for substance in SUBSTANCES], rel=1e-6)


def test_transmittance_follows_beer_and_lambert() -> None:
    once, twice = (transmittance_percent(specimens(melanoidins=c, riboflavin=c))[0] / 100 for c in (1.0, 2.0))
    assert 0.3 < once < 0.9
    assert twice == pytest.approx(once**2)


# --- inner filter -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("excitation_nm", "emission_nm"), [(277.0, 345.0), (380.0, 500.0), (425.0, 550.0)])
def test_intensity_is_linear_when_dilute_and_levels_off_when_dense(excitation_nm: float, emission_nm: float) -> None:
    here = np.array([emission_nm])  # well away from the water's Raman band
    amounts = {"phenolics": 1.0, "maillard_fluorophores": 1.0, "melanoidins": 1.0}

    def light(scale: float) -> float:
        mixed = fluorescence(excitation_nm, here, **{k: v * scale for k, v in amounts.items()})
        return float((mixed - fluorescence(excitation_nm, here))[0])

    slope = light(1e-3)
    assert slope > 0
    assert light(2e-3) == pytest.approx(2 * slope, rel=0.03)
    assert light(1.0) < 0.6 * 1000 * slope
    assert light(100.0) < 1.05 * light(10.0)


def test_dense_cell_shines_with_the_fluorophores_share_of_all_absorption() -> None:
    here = np.array([350.0])
    a_ex, a_em = absorption_per_cm(np.array([277.0]))[:, 0], absorption_per_cm(here)[:, 0]
    trp, dark, brown = NAMES.index("tryptophan-like"), NAMES.index("furfurals"), NAMES.index("caramel polymers")
    amount = {trp: 500.0, dark: 200.0, brown: 1000.0}
    both = sum(c * (a_ex[k] + a_em[k]) for k, c in amount.items())
    expected = sum(c * a_ex[k] * emission_per_nm(here)[k, 0] for k, c in amount.items()) / both
    seen = fluorescence(277.0, here, tryptophan_like=500.0, furfurals=200.0, caramel_polymers=1000.0)
    assert seen[0] == pytest.approx(expected, rel=1e-3)


def test_absorber_dims_what_it_keeps_from_excitation_and_reddens_what_it_absorbs_on_the_way_out() -> None:
    alone = fluorescence(277.0, tryptophan_like=1.0)
    filtered = fluorescence(277.0, tryptophan_like=1.0, furfurals=1.0)
    furfural, trp = NAMES.index("furfurals"), NAMES.index("tryptophan-like")

    def depth(decadic: float) -> float:
        return float((1 - np.exp(-LN10 * decadic)) / (LN10 * decadic))

    for nm in (300.0, 400.0):
        a = absorption_per_cm(np.array([277.0, nm])).sum(1)
        assert filtered[at(nm)] / alone[at(nm)] == pytest.approx(depth(a[trp] + a[furfural]) / depth(a[trp]), rel=1e-4)
    ratio = filtered / alone
    assert ratio[at(300)] < 0.8 * ratio[at(400)]
    assert ratio[at(400)] == pytest.approx(ratio[at(500)], rel=1e-3)  # furfurals absorb at neither
    seen, unfiltered = (fluorescence(425.0, riboflavin=1.0, furfurals=amount)[at(450) :] for amount in (1.0, 0.0))
    assert seen == pytest.approx(unfiltered, rel=1e-4)


# --- scatter ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("instrument", "offset_nm"), [("A", 0.0), ("B", 3.0)])
@pytest.mark.parametrize(("excitation", "line_nm"), [("277", 554.0), ("380", 380.0), ("425", 425.0)])
def test_rayleigh_line_lies_at_the_excitation_and_in_second_order_at_twice(
    instrument: str, offset_nm: float, excitation: str, line_nm: float
) -> None:
    readings = []
    for turbidity in (0.001, 30.0):
        config = Simulation.parse({**STILL, "turbidity": turbidity, "instrument": instrument, "axis_offset_nm": 3.0})
        table = simulate_samples(config, 20, np.random.default_rng(0))
        readings.append(table.channel(excitation).values.mean(0))
    added = readings[1] - readings[0]
    assert FLUORESCENCE_NM[added.argmax()] == line_nm + offset_nm
    wide = FLUORESCENCE_NM[added > added.max() / 2]
    assert np.ptp(wide) == pytest.approx(Simulation().bandpass_nm, abs=1.1)


def test_scatter_falls_with_the_fourth_power_of_the_wavelength() -> None:
    clear = Specimens(np.zeros((1, len(NAMES))), np.ones(1), np.zeros(1), np.zeros(1))
    fine = np.arange(200, 900, 0.1)
    area = [np.trapezoid(scattered_per_nm(clear, nm, fine, 5.0, 0.0)[0], fine) for nm in (300.0, 600.0)]
    assert area[0] / area[1] == pytest.approx(16, rel=0.02)


@pytest.mark.parametrize("excitation_nm", [277.0, 380.0, 425.0])
def test_raman_band_of_water_keeps_its_shift_in_wavenumbers(excitation_nm: float) -> None:
    fine = np.arange(280, 740, 0.05)
    water, sugar = raman_per_nm(excitation_nm, fine, 5.0)
    for band, shift_per_cm in ((water, 3400), (sugar, 2930)):
        assert 1e7 / excitation_nm - 1e7 / fine[band.argmax()] == pytest.approx(shift_per_cm, abs=10)
    syrup = emitted_per_nm(specimens(brix_deg=60.0), excitation_nm, fine)[0]
    assert syrup == pytest.approx(0.4 * water + 0.6 * sugar, rel=1e-4)


# --- detector and instruments -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("electrons", [0.0, 2e3, 2e4, 4e5])
def test_variance_is_shot_noise_plus_read_noise_plus_rounding(electrons: float) -> None:
    config = Simulation(e_per_count=20.0, read_sigma_e=60.0)
    counts = record(np.full((100, 2000), electrons, np.float32), np.full(100, 7.0), config, np.random.default_rng(1))
    assert counts.mean() == pytest.approx(electrons / 20 + 7, abs=0.03 + 1e-4 * electrons / 20)
    assert counts.astype(float).var() == pytest.approx((electrons + 60**2) / 20**2 + 1 / 12, rel=0.02)
    assert np.array_equal(counts, np.rint(counts))


@pytest.mark.parametrize("dark_counts", [0, 2539])
def test_plateau_is_reached_and_never_exceeded(dark_counts: int) -> None:
    config = Simulation(turbidity=1000.0, dark_counts=dark_counts)
    table = simulate_samples(config, 10, np.random.default_rng(2))
    assert config.plateau_counts == 65_535 - dark_counts
    assert all(table.channel(name).values.max() == config.plateau_counts for name in ("380", "425"))
    assert Simulation().plateau_counts == 62_996


def test_lamp_fades_and_dark_level_rises_with_age() -> None:
    spectra = {}
    for age_days in (0.0, 365.0):
        config = Simulation(**STILL, lamp_age_days=age_days, lamp_loss_per_year=0.3, dark_drift_counts=40.0)
        spectra[age_days] = simulate_samples(config, 200, np.random.default_rng(3)).channel("380").values.mean(0)
    new, old = spectra.values()
    assert old[: at(340)].mean() - new[: at(340)].mean() == pytest.approx(40, abs=0.5)
    assert (old[at(450)] - 40) / new[at(450)] == pytest.approx(0.7, rel=0.01)


def test_instruments_differ_by_axis_response_and_lamp_alone() -> None:
    settings = {**STILL, "axis_offset_nm": 0.0}
    equal, a, b = (
        simulate_samples(Simulation.parse({**settings, **more}), 400, np.random.default_rng(4)).channel("425").values.mean(0)
        for more in ({"instrument": "B", "response_difference": 0.0}, {"instrument": "A"}, {"instrument": "B"})
    )
    assert equal == pytest.approx(a)
    bright = a > 100
    two = instruments(Simulation())
    expected = two["B"].response(FLUORESCENCE_NM) / two["A"].response(FLUORESCENCE_NM) * np.exp(two["B"].log_lamp[2])
    assert b[bright] / a[bright] == pytest.approx(expected[bright], rel=0.02)
    assert np.ptp(expected[bright]) > 0.1


def test_bud_makes_gold_clump() -> None:
    ratio = {}
    for quality in ("OK", "NC5"):
        values = simulate_samples(Simulation.parse({"quality": quality}), 30, np.random.default_rng(5)).channel("lspr").values
        ratio[quality] = values[:, LSPR_NM == 640].mean() / values[:, LSPR_NM == 521].mean()
    assert ratio["OK"] < 0.5 < ratio["NC5"]


# --- population -------------------------------------------------------------------------------------------------------
def check_shape(table: SpectraTable, n: int) -> None:
    assert [channel.name for channel in table.channels] == [*EXCITATIONS, "lspr"]
    assert [channel.values.shape[1] for channel in table.channels] == [446, 446, 446, 251]
    assert all(channel.values.dtype == np.float32 for channel in table.channels)
    assert len(table) == n and table.rows["sample"].is_unique


@pytest.mark.parametrize("n", [0, 1, 2501])  # the last is more than a chunk
def test_same_seed_same_table(n: int) -> None:
    first, again, other = (simulate_table(Simulation(), n, np.random.default_rng(seed)) for seed in (6, 6, 7))
    check_shape(first, n)
    pd.testing.assert_frame_equal(first.rows, again.rows)
    for channel in first.channels:
        assert np.isfinite(channel.values).all()
        assert np.array_equal(channel.values, again.channel(channel.name).values)
        assert not n or not np.array_equal(channel.values, other.channel(channel.name).values)


@pytest.mark.parametrize("preset", SIMULATION_PRESETS.values(), ids=SIMULATION_PRESETS)
def test_samples_at_one_setting_are_of_one_barrel(preset: dict[str, object]) -> None:
    config = Simulation.parse(preset)
    table = simulate_samples(config, 5, np.random.default_rng(8))
    check_shape(table, 5)
    assert table.rows["group"].nunique() == 1
    assert set(zip(table.rows["true_severity"], table.rows["true_defect_type"])) == {severity_and_type(config.quality)}


def test_every_verdict_is_known() -> None:
    assert set(QUALITIES) == set(get_args(Quality))
    pairs = [severity_and_type(quality) for quality in QUALITIES]
    assert {severity for severity, _ in pairs} == set(SEVERITIES)
    assert {kind for _, kind in pairs} == set(TYPES)
    assert severity_and_type("VR11") == ("VR", 11) and severity_and_type("OK") == ("OK", 0)


def test_classes_come_in_their_shares() -> None:
    config = Simulation(ok_share=0.66, crochet_share=0.16)
    rows = draw_population(config, 60_000, np.random.default_rng(9))[1].drop_duplicates("group")
    seen = (rows["true_severity"] + rows["true_defect_type"].astype(str)).value_counts(normalize=True)
    for quality, share in zip(QUALITIES, class_shares(config)):
        name = "OK0" if quality == "OK" else quality
        assert seen.get(name, 0) == pytest.approx(share, abs=5 * np.sqrt(share / len(rows)))
    by_severity = rows["true_severity"].value_counts(normalize=True)
    assert by_severity["OK"] == pytest.approx(0.66, abs=0.015)
    assert by_severity["CROCHET"] == pytest.approx(0.16, abs=0.015)


def test_replicates_of_a_seal_are_more_alike_than_seals() -> None:
    config = Simulation(ok_share=1.0, crochet_share=0.0, b_share=0.0, both_share=0.0)
    table = simulate_table(config, 1500, np.random.default_rng(10))
    for name in EXCITATIONS:
        spectra = np.log(np.maximum(table.channel(name).values[:, at(440) : at(600)], 1))
        same = (table.rows["group"].to_numpy()[1:] == table.rows["group"].to_numpy()[:-1]).nonzero()[0]
        within = np.median(np.abs(spectra[same + 1] - spectra[same]).mean(1))
        between = np.median(np.abs(spectra[np.random.default_rng(0).permutation(len(spectra))] - spectra).mean(1))
        assert within < 0.4 * between, name


def test_some_seals_are_measured_on_both_instruments() -> None:
    rows = draw_population(Simulation(both_share=0.5, b_share=0.2, replicates_per_seal=4.0), 8000, np.random.default_rng(11))[1]
    per_seal = rows.groupby("group")["instrument"].agg(["nunique", "size", "first"])
    several = per_seal[per_seal["size"] > 1]
    assert (several["nunique"] == 2).mean() == pytest.approx(0.5, abs=0.05)
    single = several[several["nunique"] == 1]
    assert (single["first"] == "B").mean() == pytest.approx(0.2 / 0.5, abs=0.06)


def test_dark_syrup_was_boiled_further_and_late_syrup_has_fewer_phenolics() -> None:
    rows = simulate_table(Simulation(ok_share=1.0, crochet_share=0.0), 3000, np.random.default_rng(12)).rows
    assert -0.7 < rows["transmittance_percent"].corr(rows["brix_deg"]) < -0.2
    assert rows["transmittance_percent"].between(0, 100).all() and rows["brix_deg"].between(60, 72).all()
    latents, _ = draw_latents(np.zeros(5000, int), Simulation(), np.random.default_rng(13))
    assert latents.std(0) == pytest.approx(np.ones(latents.shape[1]), abs=0.05)
    phenolics, brown = latents[:, NAMES.index("phenolics")], latents[:, NAMES.index("melanoidins")]
    assert np.corrcoef(phenolics, brown)[0, 1] == pytest.approx(-0.5 * 0.6, abs=0.05)


# --- who says so ------------------------------------------------------------------------------------------------------
def test_one_barrel_in_25_is_tasted_and_the_others_keep_the_algorithms_verdict() -> None:
    rows = draw_population(Simulation(), 60_000, np.random.default_rng(14))[1]
    tasted = rows["provenance"] == "inspector"
    assert tasted.mean() == pytest.approx(1 / 25, abs=0.006)
    assert (rows["severity"] == rows["algorithm_severity"])[~tasted].all()
    assert rows[tasted].groupby("group")[["severity", "defect_type"]].nunique().max().max() == 1
    right = (rows["severity"] == "OK") == (rows["true_severity"] == "OK")
    assert right[tasted].mean() > 0.96
    assert 0.8 < right[~tasted].mean() < 0.93
    assert set(rows["defect_type"]) <= set(TYPES)


def test_inspector_tastes_what_the_algorithm_rejects_if_asked_to() -> None:
    rows = draw_population(Simulation(tastes_rejects=True), 5000, np.random.default_rng(15))[1]
    kept = rows[rows["provenance"] == "algorithm"]
    assert len(kept) and (kept["severity"] == "OK").all()
    assert (rows.loc[rows["algorithm_severity"] != "OK", "provenance"] == "inspector").all()


def test_inspector_errs_by_one_step_as_often_as_said() -> None:
    quality = np.repeat(np.arange(len(QUALITIES)), 3000)
    true = np.array([SEVERITIES.index(severity_and_type(QUALITIES[q])[0]) for q in quality])
    severity, kind = inspector_verdicts(quality, Simulation(inspector_error=0.2), np.random.default_rng(16))
    step = np.array([SEVERITIES.index(s) for s in severity]) - true
    assert (step != 0).mean() == pytest.approx(0.2, abs=0.01)
    assert np.abs(step).max() == 1
    assert np.array_equal(severity == "OK", kind == 0)
    exact, _ = inspector_verdicts(quality, Simulation(inspector_error=0.0), np.random.default_rng(16))
    assert np.array_equal([SEVERITIES.index(s) for s in exact], true)


def test_algorithm_is_the_better_the_better_it_reads() -> None:
    rng = np.random.default_rng(17)
    quality = rng.choice(len(QUALITIES), 20_000, p=class_shares(Simulation()))
    latents, _ = draw_latents(quality, Simulation(), rng)
    right = [
        np.mean((algorithm_verdicts(latents, Simulation(algorithm_error=error), rng) == 0) == (quality == 0))
        for error in (0.0, 0.6, 2.0, 10.0)
    ]
    assert right == sorted(right, reverse=True)
    assert right[0] > 0.88
    assert right[-1] == pytest.approx(0.66, abs=0.03)  # reading nothing, it calls everything OK


def test_classes_that_never_occur_are_never_said() -> None:
    rows = draw_population(Simulation(ok_share=0.7, crochet_share=0.3), 3000, np.random.default_rng(18))[1]
    assert set(rows["algorithm_severity"]) == set(rows["true_severity"]) == {"OK", "CROCHET"}


def test_shares_that_add_up_to_more_than_all_are_refused() -> None:
    with pytest.raises(InputError, match="more than 1"):
        Simulation.parse({"ok_share": 0.9, "crochet_share": 0.2})


@pytest.mark.slow
@pytest.mark.parametrize(("strength", "low", "high"), [(1.0, 0.915, 0.945), (0.0, 0.45, 0.55)])
def test_difficulty_is_the_originals(strength: float, low: float, high: float) -> None:
    """Logistic regression on 4000 samples with the algorithm's labels, judged by an inspector on other barrels."""
    config, rng = Simulation(defect_strength=strength), np.random.default_rng(19)
    train = simulate_table(config, 4000, rng)
    test = simulate_table(config.model_copy(update={"inspected_share": 1.0}), 6000, rng)
    spectra, unseen = (np.hstack([channel.values for channel in table.channels]) for table in (train, test))
    if strength == 0:  # the algorithm then calls everything OK: learn from the truth, and find nothing
        train = SpectraTable((), train.rows.assign(severity=train.rows["true_severity"]))
    pca = PCA(40, whiten=True, svd_solver="randomized", random_state=0)
    model = make_pipeline(StandardScaler(), pca, LogisticRegression(max_iter=300)).fit(spectra, train.rows["severity"] == "OK")
    assert low < roc_auc_score(test.rows["severity"] == "OK", model.predict_proba(unseen)[:, 1]) < high
