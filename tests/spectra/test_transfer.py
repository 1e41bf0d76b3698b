"""Instrument transfer in training: what is learnt, from which rows, what the network and its graph make of it, what it gains."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lib import export, model, runs, tasks, train
from lib.disk import home
from lib.task import InputError, Samples, Split
from lib.tasks.spectra import files
from lib.tasks.spectra.arrays import as_samples, instruments_of, model_inputs, trial_inputs
from lib.tasks.spectra.config import Simulation
from lib.tasks.spectra.data import TableData
from lib.tasks.spectra.families import build
from lib.tasks.spectra.networks import Classifier, InstrumentMap
from lib.tasks.spectra.preprocess import METHODS, Method, Transfer
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.simulate import simulate_table
from lib.tasks.spectra.table import Channel, SpectraTable
from lib.tasks.spectra.transfer import _affine, apart_percent, pooled
from tests.spectra.test_networks import assert_parity

POINTS = (14, 9)
TASK = tasks.get("spectra")


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """Every test has its own data folder and cache."""


def curves(n: int, points: int, seed: int = 0) -> np.ndarray:
    """(n, points) float64: four bands of varying height, and noise."""
    rng, axis = np.random.default_rng(seed), np.linspace(0, 1, points)
    bands = np.exp(-((axis - np.array([0.2, 0.4, 0.6, 0.8])[:, None]) ** 2) / 0.02)
    return 100 * (1 + rng.lognormal(0, 0.3, (n, 4)) @ bands) + rng.normal(0, 0.3, (n, points))


def on_second(x: np.ndarray) -> np.ndarray:
    """The same spectra as another instrument shows them."""
    return np.roll(x, 1, axis=1) * np.linspace(0.7, 1.3, x.shape[1]) + 20


def two_instruments(n: int = 120, **columns: Any) -> SpectraTable:
    """Specimens measured on A, each third on B too (twice); two channels of other units, the kind in their heights."""
    rng = np.random.default_rng(1)
    own = [curves(n, points, seed=k) * scale for k, (points, scale) in enumerate(zip(POINTS, (1, 1e-3)))]
    for values in own:
        values[::2] *= np.linspace(1, 1.4, values.shape[1])
    twice = np.repeat(np.arange(0, n, 3), 2)
    parts = [[x, on_second(x[twice] * rng.normal(1, 0.002, (len(twice), 1)))] for x in own]
    channels = tuple(
        Channel(name, np.arange(float(points)), np.concatenate(part).astype(np.float32), "nm")
        for name, points, part in zip(("one", "two"), POINTS, parts)
    )
    specimen = np.concatenate([np.arange(n), twice])
    rows = pd.DataFrame({
        "sample": [f"r{k}" for k in range(len(specimen))], "group": [f"g{k}" for k in specimen],
        "instrument": np.where(np.arange(len(specimen)) < n, "A", "B"), "kind": np.where(specimen % 2, "beef", "lamb"),
        "weight": 1.0 * specimen,
    })  # fmt: skip
    return SpectraTable(channels, rows.assign(**columns))


def kept(table: SpectraTable) -> str:
    """Keeps a table as a set, and says its name."""
    files.write(table, home() / "data" / "spectra" / "two.parquet")
    return "two"


def kept_once() -> str:
    return "two" if (home() / "data" / "spectra" / "two.parquet").exists() else kept(two_instruments())


def asked(name: str, **options: Any) -> Training:
    defaults = {"kind": "AVA", "of": "kind", "column": "kind", "batch_size": 8, "transfer": "pds", "width": 4}
    return Training(**{"data": name} | defaults | options)


def whole(data: TableData, split: Split) -> Samples:
    return Samples.concat([data.batch(split, 0, i) for i in range(data.batches(split))])


def prepared(config: Training) -> tuple[TableData, Classifier, dict[str, Any]]:
    """A network as training has it before the first epoch, or as it is fitted at once; and the facts of the run."""
    data = TableData(config)
    facts = data.facts()
    task = TASK.knowing(facts)
    if config.gradient_free:
        solved = task.solve(config, data, lambda sentence: None)
        assert solved is not None and isinstance(solved[0], Classifier)
        return data, solved[0].eval(), facts | solved[1]
    torch.manual_seed(0)
    network = task.network(config)
    assert isinstance(network, Classifier)
    task.prepare(network, data)
    return data, network.eval(), facts


def tensors(samples: Samples, facts: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in model_inputs(samples, facts).items()}


# --- the map ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
def test_a_map_is_that_of_the_transfer_it_was_fitted_as(method: Method) -> None:
    first, fresh = curves(40, 30), on_second(curves(50, 30, seed=1))
    fitted = Transfer(method).fit(first, on_second(first))
    found = _affine(method, first, on_second(first))
    expected = fitted.of_second(fresh)
    if method == "ds":  # what DS sets to the mean is here left as it is
        centred = fresh - on_second(first).mean(axis=0)
        seen = np.linalg.svd(on_second(first) - on_second(first).mean(axis=0))[2][:15]
        expected = expected + centred - centred @ seen.T @ seen
    assert found(fresh) == pytest.approx(expected, rel=1e-5)
    assert {part.dtype for part in (found.centre, found.matrix, found.offset)} == {np.dtype(np.float32)}


def test_what_ds_was_not_fitted_to_stays_visible() -> None:
    first = curves(40, 60)
    found = _affine("ds", first, on_second(first))
    spike = on_second(curves(1, 60, seed=2))
    strange = spike + 50 * (np.arange(60) == 30)
    assert np.abs(found(strange) - found(spike)).max() > 25


@pytest.mark.parametrize("method", METHODS)
def test_a_map_is_learnt_from_the_mean_of_each_specimen_of_training_that_both_measured(method: Method) -> None:
    table = two_instruments()
    config = asked(kept(table), transfer=method, channels=("two", "one"))
    data = TableData(config)
    assert data.transfer is not None
    rows = whole(data, "train").table
    means = rows.groupby(["group", "instrument"])["weight"].mean().unstack().dropna()
    told = data.facts()["transfer"]
    assert told.pop("tested")[0]["specimens"] > 1
    assert told == {"method": method, "from": "A", "to": ["B"], "known": ["A", "B"], "shared": [len(means)]}
    assert json.loads(json.dumps(data.facts())) == data.facts()
    places = table.rows.reset_index().set_index("sample").loc[rows["sample"], "index"].to_numpy()
    spectra = pd.DataFrame(table.channel("two").values.astype(float)[places])
    by = spectra.groupby([rows["group"].to_numpy(), rows["instrument"].to_numpy()]).mean().unstack().dropna()
    first, second = (by.xs(name, axis=1, level=1).to_numpy() for name in "AB")
    expected = _affine(method, first, second)
    for part in ("centre", "matrix", "offset"):
        assert getattr(data.transfer.maps[0][0], part) == pytest.approx(getattr(expected, part), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_sheet_tells_what_is_left_on_test_specimens(method: str) -> None:
    data = TableData(asked(kept(two_instruments()), transfer=method))
    (told,) = data.facts()["transfer"]["tested"]
    table, rows = data._whole.table, data._rows["test"]
    shared = set(table["group"][rows][table["instrument"][rows] == "A"]) & set(
        table["group"][rows][table["instrument"][rows] == "B"]
    )
    assert told["specimens"] == len(shared) and [one["channel"] for one in told["left"]] == ["one", "two"]
    assert all(one["after_percent"] < 0.5 * one["before_percent"] for one in told["left"])


def test_what_is_apart_is_in_percent_of_what_specimens_differ_by() -> None:
    first = curves(30, 14)
    assert apart_percent(first, first) == 0
    moved = first + float(np.sqrt(((first - first.mean(axis=0)) ** 2).mean()))
    assert apart_percent(first, moved) == pytest.approx(100) and np.isnan(apart_percent(first[:1], moved[:1]))


def test_folds_add_their_test_specimens_up() -> None:
    one = {"specimens": 10, "left": [{"channel": "a", "before_percent": 40.0, "after_percent": 8.0}]}
    two = {"specimens": 30, "left": [{"channel": "a", "before_percent": 60.0, "after_percent": 4.0}]}
    none = {"specimens": 1, "left": []}
    left = {"channel": "a", "before_percent": 55.0, "after_percent": 5.0}
    folds = [{"method": "pds", "tested": tested} for tested in ([one, none], [two, none], [none, one])]
    assert pooled(folds) == {"method": "pds", "tested": [{"specimens": 40, "left": [left]}, one]}
    assert pooled(folds[1:2] * 2)["tested"][1] == {"specimens": 2, "left": []}


def test_the_second_instrument_is_the_less_frequent_or_the_one_named() -> None:
    name = kept(two_instruments())
    assert TableData(asked(name)).facts()["transfer"]["to"] == ["B"]
    for named, other in (("A", "B"), ("B", "A")):
        for option in ({"transfer_to": (named,)}, {"transfer_primary": other}):
            told = TableData(asked(name, **option)).facts()["transfer"]
            assert (told["to"], told["from"]) == ([named], other)
    assert "transfer" not in TableData(asked(name, transfer="none")).facts()


def test_numbers_are_names_of_instruments_too() -> None:
    data = TableData(asked(kept(two_instruments(instrument=np.repeat([1.0, 2.0], [120, 80]))), transfer_to=("2",)))
    assert data.facts()["transfer"]["from"] == "1"
    rows = pd.DataFrame({"file": "x", "instrument": [1, 2]})
    assert instruments_of(rows).tolist() == ["1", "2"]


@pytest.mark.parametrize(("columns", "options", "words"), [
    ({"instrument": ""}, {}, "does not tell the instrument of 200 of 200 samples"),
    ({"instrument": np.repeat(["A", "B", ""], [120, 70, 10])}, {}, "of 10 of 200 samples"),
    ({"instrument": "A"}, {}, "all samples are of one, A. Add samples of another instrument"),
    ({"instrument": np.repeat(["A", "B", "C"], [120, 78, 2])}, {},
     "specimens of the training part were measured on both A and C.*name other instruments in transfer_to"),
    ({}, {"transfer_to": ("C",)}, "transfer_to 'C': no sample is of that instrument. Instruments: A, B"),
    ({}, {"transfer_primary": "C"}, "transfer_primary 'C': no sample is of that instrument. Instruments: A, B"),
    ({}, {"transfer_to": ("A", "B")}, "transfer_to 'A': one instrument must stay as it is"),
    ({}, {"transfer_to": ("A",), "transfer_primary": "A"}, "transfer_to 'A': one instrument must stay as it is"),
    ({"group": [f"g{k}" for k in range(200)]}, {}, "0 specimens of the training part .* both A and B. Needed are ds 16, pds 3,"),
    ({}, {"group_by": "instrument", "n_splits": 2}, "group by specimen"),
])  # fmt: skip
def test_a_transfer_that_cannot_be_learnt_is_told(columns: dict[str, Any], options: dict[str, Any], words: str) -> None:
    name = kept(two_instruments(**columns))
    with pytest.raises(InputError, match=words):
        TableData(asked(name, **options))


def test_a_table_without_instruments_is_told() -> None:
    table = two_instruments()
    name = kept(SpectraTable(table.channels, table.rows.drop(columns="instrument")))
    with pytest.raises(InputError, match="does not tell the instrument of 200 of 200"):
        TableData(asked(name))


def test_ds_needs_more_specimens_than_pds() -> None:
    name = kept(two_instruments(36))
    assert TableData(asked(name)).facts()["transfer"]["shared"][0] < 16
    with pytest.raises(InputError, match="Needed are ds 16"):
        TableData(asked(name, transfer="ds"))


# --- batches and inputs -----------------------------------------------------------------------------------------------
def test_batches_are_as_measured_and_mixup_stays_within_an_instrument() -> None:
    name = kept(two_instruments())
    plain, with_transfer = (TableData(asked(name, transfer=method)) for method in ("none", "pds"))
    for split in ("train", "test"):
        assert np.array_equal(whole(plain, split).inputs["one"], whole(with_transfer, split).inputs["one"])
    data = TableData(asked(name, mixup_alpha=0.5, batch_size=200))
    before, after = TableData(asked(name, batch_size=200)).batch("train", 0, 0), data.batch("train", 0, 0)
    assert sorted(before.table["sample"]) == sorted(after.table["sample"])
    plain_rows = before.inputs["one"][before.table.reset_index().set_index("sample").loc[after.table["sample"], "index"]]
    for word in "AB":
        own = (after.table["instrument"] == word).to_numpy()
        share = after.table["mixed_share"].to_numpy()[own, None]
        partners = (after.inputs["one"][own] - share * plain_rows[own]) / np.maximum(1 - share, 1e-9)
        clear = share[:, 0] < 0.95
        nearest = np.abs(partners[clear, None] - plain_rows[own]).max(axis=2).min(axis=1)
        assert clear.any() and nearest.max() < 0.1


def test_transferred_rows_are_what_the_network_makes_of_measured_ones() -> None:
    for method in METHODS:
        data, network, facts = prepared(asked(kept_once(), model="compact CNN", transfer=method))
        samples = whole(data, "test")
        inputs = tensors(samples, facts)
        expected, measured = data.transferred("test")[0], data.everything("test")[0]
        assert network.transfer is not None
        found = network.transfer(inputs["spectra"], inputs.get("instrument")).numpy()
        assert found == pytest.approx(expected, rel=1e-5)
        on_a = (samples.table["instrument"] == "A").to_numpy()
        assert np.abs(expected - measured)[~on_a].max() > 5
        assert np.array_equal(expected[on_a], measured[on_a]) == (method != "epo")


def test_the_instrument_of_each_row_is_an_input_except_where_both_are_projected() -> None:
    data = TableData(asked(kept_once()))
    samples, told = whole(data, "test"), data.facts()
    found = model_inputs(samples, told)["instrument"]
    assert found.dtype == np.float32 and found.tolist() == (samples.table["instrument"] == "B").astype(float).tolist()
    projected = TableData(asked(kept_once(), transfer="epo")).facts()
    assert "instrument" not in model_inputs(samples.with_columns(instrument="C"), projected)
    assert set(trial_inputs(told, 50, np.random.default_rng(0))["instrument"]) == {0.0, 1.0}
    assert "instrument" not in trial_inputs(projected, 5, np.random.default_rng(0))


def test_files_that_do_not_tell_the_instrument_are_refused() -> None:
    data = TableData(asked(kept_once()))
    samples, told = whole(data, "test"), data.facts()
    absent = Samples(samples.inputs, samples.table.drop(columns="instrument"), samples.common)
    with pytest.raises(InputError, match=r"two.parquet: does not tell which instrument .* A or B.*add one called 'instrument'"):
        model_inputs(absent, told)


def test_a_sample_of_an_unknown_instrument_is_taken_as_it_is_and_never_decided() -> None:
    data, network, facts = prepared(asked(kept_once(), model="PLS-DA"))
    names = np.r_[["C", ""], np.repeat("A", 8)]
    samples = whole(data, "train").take(np.arange(10)).with_columns(instrument=names)
    inputs = tensors(samples, facts)
    assert network.transfer is not None
    assert np.array_equal(network.transfer(inputs["spectra"], inputs["instrument"]).numpy(), inputs["spectra"].double().numpy())
    outputs = {name: values.numpy() for name, values in network.physical(**inputs).items()}
    outputs |= {"t2": np.zeros(10), "q": np.zeros(10)}
    found = TASK.knowing(facts).decode(outputs, samples)
    told = "of an instrument that the transfer does not know, so taken as it is"
    assert found["note"].str.contains(told).tolist() == [True, True] + [False] * 8
    assert found["in_domain"].tolist() == [False, False] + [True] * 8
    projected = TableData(asked(kept_once(), transfer="epo")).facts()
    assert not TASK.knowing(projected).decode(outputs, samples)["note"].str.contains(told).any()


def test_a_network_that_is_not_told_the_instrument_says_so() -> None:
    network = InstrumentMap([4], 2)
    with pytest.raises(InputError, match="was not told which"):
        network(torch.zeros(2, 4), None)
    assert torch.equal(network(torch.ones(3, 4), torch.tensor([0.0, 1.0, 2.0])), torch.ones(3, 4).double())


def test_weights_and_facts_made_with_one_second_instrument_are_read() -> None:
    data, network, facts = prepared(asked(kept_once(), model="PLS-DA"))
    old = copy.deepcopy(facts)
    old["transfer"] |= {key: facts["transfer"][key][0] for key in ("to", "shared", "tested")}
    del old["transfer"]["known"]
    weights = {name: value[0] if name.startswith("transfer.") else value for name, value in network.state_dict().items()}
    again = build(data.config, old)
    again.load_state_dict(weights)
    samples = whole(data, "test")
    for name, value in network.physical(**tensors(samples, facts)).items():
        assert torch.equal(again.eval().physical(**tensors(samples, old))[name], value), name


# --- networks ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(("family", "method"), [("compact CNN", "pds"), ("PLS-DA", "epo")])
def test_settings_facts_and_weights_are_enough_and_the_graph_transfers_too(family: str, method: str, tmp_path: Path) -> None:
    config = asked(kept_once(), model=family, transfer=method, tabular=("weight",))
    data, network, facts = prepared(config)
    again = build(config, json.loads(json.dumps(facts)))
    again.load_state_dict(network.state_dict())
    inputs = tensors(whole(data, "train"), facts)
    for name, value in network.physical(**inputs).items():
        assert torch.equal(again.eval().physical(**inputs)[name], value), name
    assert_parity(network, inputs, tmp_path / "model.onnx")


def test_the_second_instrument_is_within_the_domain_after_the_transfer() -> None:
    shares = {}
    for method in ("ds", "pds", "epo"):
        data, network, facts = prepared(asked(kept_once(), model="compact CNN", transfer=method, preprocessing="raw"))
        samples = whole(data, "train")
        outputs = network.physical(**tensors(samples, facts))
        outside = (outputs["t2"].numpy() > 1.5) | (outputs["q"].numpy() > 2)
        shares[method] = outside[(samples.table["instrument"] == "B").to_numpy()].mean()
    assert max(shares.values()) < 0.05


@pytest.mark.slow
def test_a_run_predicts_and_exports_with_its_transfer(tmp_path: Path) -> None:
    config = asked(kept_once(), model="PLS-DA", transfer="pds")
    run = runs.create("spectra", config.model_dump(mode="json"), name="two instruments")
    assert train.fit(run).state == "done"
    found = model.load(run, TASK)
    samples = as_samples(two_instruments(30), "fresh.csv")
    table = found.predict(samples)
    assert (table["predicted"] == samples.table["kind"]).mean() > 0.9
    assert found.network.get_buffer("transfer.matrix_0")[0].sub(torch.eye(POINTS[0])).abs().max() > 0.1
    export.export(run, "onnx", tmp_path)  # which compares the graph with torch, and refuses where they differ


# --- three instruments ------------------------------------------------------------------------------------------------
def on_third(x: np.ndarray) -> np.ndarray:
    """The same spectra as yet another instrument shows them."""
    return np.roll(x, -1, axis=1) * np.linspace(1.5, 0.8, x.shape[1]) - 30


def three_instruments(n: int = 150) -> SpectraTable:
    """Specimens measured on A; of those of a number divisible by 3 a second time on B, of the next ones on C."""
    channels = [curves(n, points, seed=k) for k, points in enumerate(POINTS)]
    for values in channels:
        values[::2] *= np.linspace(1, 1.4, values.shape[1])
    again = {"B": np.arange(0, n, 3), "C": np.arange(1, n, 3)}
    specimen = np.concatenate([np.arange(n), *again.values()])
    spectra = [np.concatenate([x, on_second(x[again["B"]]), on_third(x[again["C"]])]) for x in channels]
    rows = pd.DataFrame({
        "sample": [f"r{k}" for k in range(len(specimen))], "group": [f"g{k}" for k in specimen],
        "instrument": np.repeat(["A", "B", "C"], [n, n // 3, n // 3]), "kind": np.where(specimen % 2, "beef", "lamb"),
    })  # fmt: skip
    made = tuple(
        Channel(name, np.arange(float(points)), values.astype(np.float32), "nm")
        for name, points, values in zip(("one", "two"), POINTS, spectra)
    )
    return SpectraTable(made, rows)


def apart_after(data: TableData, primary: str, other: str) -> tuple[float, float]:
    """`apart_percent` of specimens of the test part between two instruments, as measured and after the transfer."""
    rows = whole(data, "test").table
    found = []
    for spectra in (data.everything("test")[0], data.transferred("test")[0]):
        frame = pd.DataFrame(spectra).assign(group=rows["group"].to_numpy(), instrument=rows["instrument"].to_numpy())
        one, two = (frame[frame["instrument"] == name].set_index("group").drop(columns="instrument") for name in (primary, other))
        both = one.index.intersection(two.index)
        found.append(apart_percent(one.loc[both].to_numpy(), two.loc[both].to_numpy()))
    return found[0], found[1]


@pytest.mark.parametrize("method", METHODS)
def test_each_instrument_has_a_map_of_its_own_to_the_first(method: Method) -> None:
    data = TableData(asked(kept(three_instruments()), transfer=method))
    told = data.facts()["transfer"]
    assert (told["from"], told["to"], told["known"]) == ("A", ["B", "C"], ["A", "B", "C"])
    assert len(told["shared"]) == len(told["tested"]) == 2 and min(told["shared"]) > 16
    for place, name in enumerate("BC"):
        before, after = apart_after(data, "A", name)
        assert before > 60 and after < 0.4 * before
        left = told["tested"][place]["left"]
        assert [one["channel"] for one in left] == ["one", "two"]
        assert all(one["after_percent"] < 0.4 * one["before_percent"] for one in left)
    own = (whole(data, "test").table["instrument"] == "A").to_numpy()
    unchanged = np.array_equal(data.everything("test")[0][own], data.transferred("test")[0][own])
    assert unchanged == (method != "epo")


def test_an_instrument_can_be_left_as_it_is_and_another_be_the_first() -> None:
    name = kept(three_instruments())
    data = TableData(asked(name, transfer_to=("C",)))
    told = data.facts()["transfer"]
    assert (told["from"], told["to"], told["known"]) == ("A", ["C"], ["A", "B", "C"])
    rows = whole(data, "test").table["instrument"].to_numpy()
    changed = (data.everything("test")[0] != data.transferred("test")[0]).any(axis=1)
    assert changed.tolist() == (rows == "C").tolist()
    samples = whole(data, "test")
    assert set(model_inputs(samples, data.facts())["instrument"][rows == "B"]) == {0.0}
    certain = {"probability": np.eye(2)[np.zeros(len(samples), int)], "t2": np.zeros(len(samples)), "q": np.zeros(len(samples))}
    assert TASK.knowing(data.facts()).decode(certain, samples)["in_domain"].all(), "B was in the training"
    with pytest.raises(InputError, match="0 specimens of the training part were measured on both B and C"):
        TableData(asked(name, transfer_primary="B"))
    assert TableData(asked(name, transfer_primary="B", transfer_to=("A",))).facts()["transfer"]["to"] == ["A"]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "method"), [("compact CNN", "pds"), ("PLS-DA", "ds")])
def test_a_graph_of_three_instruments_is_that_of_the_network(family: str, method: str, tmp_path: Path) -> None:
    config = asked(kept(three_instruments()), model=family, transfer=method)
    data, network, facts = prepared(config)
    inputs = tensors(whole(data, "train"), facts)
    assert set(inputs["instrument"].tolist()) == {0.0, 1.0, 2.0}
    assert network.transfer is not None
    found = network.transfer(inputs["spectra"], inputs["instrument"]).numpy()
    samples = data.everything("train")[0]
    order = data.transferred("train")[0][np.argsort(samples[:, 0], kind="stable")]
    assert found[np.argsort(inputs["spectra"][:, 0].numpy(), kind="stable")] == pytest.approx(order, rel=1e-4, abs=1e-3)
    again = build(config, json.loads(json.dumps(facts)))
    again.load_state_dict(network.state_dict())
    for name, value in network.physical(**inputs).items():
        assert torch.equal(again.eval().physical(**inputs)[name], value), name
    assert_parity(network, inputs, tmp_path / "model.onnx")


# --- what it gains ----------------------------------------------------------------------------------------------------
DIFFERENT = Simulation(
    population=True, response_difference=5.0, axis_offset_nm=8.0, b_share=0.0, both_share=0.25, lamp_loss_per_year=0.0,
    dark_drift_counts=0.0, inspected_share=1.0, inspector_error=0.0, defect_strength=2.0,
)  # fmt: skip


def accuracy_on(name: str, instrument_b: float, method: Any) -> float:
    """Share of fresh samples that PLS-DA tells rightly; all of them are measured on B, or all on A."""
    _, network, facts = prepared(Training(data=name, channels=("380",), model="PLS-DA", transfer=method))
    only = DIFFERENT.model_copy(update={"b_share": instrument_b, "both_share": 0.0})
    fresh = as_samples(simulate_table(only, 300, np.random.default_rng(101)), "fresh")
    outputs = network.physical(**tensors(fresh, facts))
    right = np.where(fresh.table["severity"] == "OK", 1, 0)
    return float(np.mean(outputs["probability"].numpy().argmax(axis=1) == right))


def test_a_transfer_makes_a_model_of_one_instrument_good_on_the_other() -> None:
    name = kept(simulate_table(DIFFERENT, 500, np.random.default_rng(1)))
    on_b = {method: accuracy_on(name, 1.0, method) for method in ("none", "ds", "pds")}
    assert on_b["ds"] > on_b["none"] + 0.12 and on_b["pds"] > on_b["none"] + 0.06
    assert on_b["ds"] > accuracy_on(name, 0.0, "none") - 0.04  # nearly as good as the first instrument's own
