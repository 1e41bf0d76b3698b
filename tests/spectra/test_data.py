"""From tables to batches: splits that keep their promises, the same batches always, and a sentence for every bad table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.task import InputError, Samples, Split
from lib.tasks.spectra import data, files, learning, sources
from lib.tasks.spectra.arrays import model_inputs
from lib.tasks.spectra.data import TableData, balance_of
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.table import Channel, SpectraTable
from lib.words import from_plain


def notes_of(facts: dict[str, Any]) -> list[str]:
    """The notes that a run keeps, as sentences."""
    return [from_plain(note) for note in facts["notes"]]


PARTS: tuple[Split, ...] = ("train", "validation", "calibration", "test")
Keep = Callable[..., str]


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """Every test has its own data folder and cache."""


def made(**options: Any) -> TableData:
    return TableData(Training(**{"simulated_samples": 400, "batch_size": 32, "channels": ("277", "lspr")} | options))


def rows_of(found: TableData, split: Split, epoch: int = 0) -> pd.DataFrame:
    return Samples.concat([found.batch(split, epoch, i) for i in range(found.batches(split))]).table


def same(one: Samples, other: Samples) -> bool:
    return one.table.equals(other.table) and all(np.array_equal(v, other.inputs[k]) for k, v in one.inputs.items())


def table(n: int = 60, points: int = 20, **columns: Any) -> SpectraTable:
    """Two specimens per three rows or so, two kinds, one channel."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"sample": [f"r{k}" for k in range(n)], "kind": np.where(np.arange(n) % 2, "beef", "lamb")})
    values = rng.normal(10, 1, (n, points)).astype(np.float32)
    return SpectraTable((Channel("spectrum", np.arange(points) + 1000.0, values, "cm⁻¹"),), rows.assign(**columns))


@pytest.fixture
def keep(home: Path) -> Keep:
    """Keeps a table as a set, and says its name."""

    def write(given: SpectraTable, name: str = "mine.parquet") -> str:
        files.write(given, home / "data" / "spectra" / name)
        return name.partition(".")[0]

    return write


def asked(name: str, **options: Any) -> Training:
    return Training(**{"data": name, "kind": "AVA", "of": "kind", "column": "kind", "batch_size": 8} | options)


# --- splits -----------------------------------------------------------------------------------------------------------
def test_parts_share_no_specimen_and_cover_every_row() -> None:
    found = made()
    parts = {split: rows_of(found, split) for split in PARTS}
    names = pd.concat([p["sample"] for p in parts.values()])
    assert names.is_unique and len(names) == 400
    for one in PARTS:
        for other in PARTS:
            assert one == other or not set(parts[one]["group"]) & set(parts[other]["group"])
    told = found.facts()
    assert told["rows"] == {split: len(p) for split, p in parts.items()}
    assert told["groups"] == {split: p["group"].nunique() for split, p in parts.items()}
    assert parts["validation"]["sample"].is_monotonic_increasing
    assert told["counts"] == [int((parts["train"]["label"] == name).sum()) for name in told["classes"]]


@pytest.mark.parametrize("group_by", ["specimen", "nothing", "date"])
def test_test_parts_of_all_folds_are_disjoint_and_cover(group_by: str) -> None:
    parts = [rows_of(made(current_split=k, n_splits=4, group_by=group_by, batch_size=400), "test") for k in range(4)]
    names = pd.concat([p["sample"] for p in parts])
    assert names.is_unique and len(names) == 400


def test_grouping_by_day_keeps_days_together() -> None:
    found = made(group_by="date")
    days = [set(rows_of(found, split)["measured_at"].dt.date) for split in PARTS]
    assert sum(map(len, days)) == len(set.union(*days))


def test_grouping_by_instrument_tests_on_one_never_seen_and_warns_of_replicates() -> None:
    parts = [made(group_by="instrument", n_splits=2, current_split=k) for k in range(2)]
    assert {tuple(rows_of(found, "test")["instrument"].unique()) for found in parts} == {("A",), ("B",)}
    inner = [rows_of(parts[0], split) for split in PARTS[:3]]
    assert len({tuple(p["instrument"].unique()) for p in inner}) == 1
    assert not set(inner[0]["group"]) & (set(inner[1]["group"]) | set(inner[2]["group"]))
    notes = " ".join(notes_of(parts[0].facts()))
    assert "too few instruments for four parts" in notes and "Group by specimen" in notes
    assert sum(parts[0].facts()["rows"].values()) == 400
    assert parts[0].facts()["rows"]["validation"] == pytest.approx(60, abs=15)


def test_many_instruments_are_split_four_ways(keep: Keep) -> None:
    name = keep(table(instrument=[f"i{k // 2 % 10}" for k in range(60)]))
    found = TableData(asked(name, group_by="instrument"))
    sets = [set(rows_of(found, split)["instrument"]) for split in PARTS]
    assert sum(map(len, sets)) == 10 and all(sets)


def test_without_groups_replicates_leak_and_a_note_says_so() -> None:
    assert "Group by specimen" in " ".join(notes_of(made(group_by="nothing").facts()))
    assert not any("Group by" in note for note in notes_of(made().facts()))


def test_a_table_without_specimens_is_split_by_row(keep: Keep) -> None:
    found = TableData(asked(keep(table())))
    assert found.facts()["groups"] == found.facts()["rows"]


# --- batches ----------------------------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_batches_in_any_order_of_asking() -> None:
    options: dict[str, Any] = {"augment": "da+simulate", "zero_points": (5, 3), "mixup_alpha": 0.3}
    one, other = made(**options), made(**options)
    places = [(epoch, index) for epoch in (0, 1, 7) for index in range(one.batches("train"))]
    first = {place: one.batch("train", *place) for place in places}
    assert all(same(first[place], other.batch("train", *place)) for place in reversed(places))
    assert not same(first[0, 0], first[1, 0])
    assert not set(first[0, 0].table["mixed_share"]) & set(first[0, 1].table["mixed_share"])  # each batch has its own draws
    assert not same(first[0, 0], made(seed=1, **options).batch("train", 0, 0))


def test_each_epoch_has_every_training_row_once_in_an_order_of_its_own() -> None:
    found = made()
    one, other = rows_of(found, "train", 0)["sample"], rows_of(found, "train", 1)["sample"]
    assert one.tolist() != other.tolist() and set(one) == set(other) and one.is_unique
    assert same(found.batch("test", 0, 0), found.batch("test", 5, 0))


def test_no_training_batch_of_one_row() -> None:
    rows = made().facts()["rows"]["train"]
    for batch_size in (7, (rows - 1) // 2, rows - 1, rows, 1):
        found = made(batch_size=batch_size)
        sizes = [len(found.batch("train", 0, i)) for i in range(found.batches("train"))]
        assert sum(sizes) == rows and (batch_size == 1 or min(sizes) > 1)
        assert max(sizes) <= batch_size + (batch_size > 1)


def test_a_batch_that_is_not_there() -> None:
    found = made()
    with pytest.raises(IndexError, match="none of number"):
        found.batch("train", 0, found.batches("train"))


def test_only_training_rows_are_changed() -> None:
    plain, changed = made(), made(augment="da+simulate", mixup_alpha=0.3)
    for split in PARTS[1:]:
        assert same(plain.batch(split, 0, 0), changed.batch(split, 0, 0))
    before, after = plain.batch("train", 0, 0), changed.batch("train", 0, 0)
    assert before.table["sample"].equals(after.table["sample"]) and not same(before, after)
    assert "mixed_with" in after.table and "loss_weight" not in changed.batch("test", 0, 0).table
    assert same(changed.batch("train", 0, 0), after)  # and the table behind them is as it was


def test_samples_keep_their_rows_and_have_a_class() -> None:
    found = made(kind="AVA", of="IN")
    batch = found.batch("test", 0, 0)
    assert {"file", "note", "sample", "group", "instrument", "measured_at", "severity", "defect_type", "provenance"} <= {
        *batch.table.columns
    }
    names = np.array(found.facts()["classes"])
    assert names[batch.table["code"]].tolist() == batch.table["label"].tolist() == batch.table["severity"].tolist()
    assert set(batch.table["file"]) == {"simulated"} and batch.table["code"].dtype == np.int64


def test_class_weights_reach_the_targets() -> None:
    found = made(class_weights="balanced", kind="AVA", of="INs")
    told = found.facts()
    arrays = [learning.targets(found.batch("train", 0, i), told) for i in range(found.batches("train"))]
    weight, code = (np.concatenate([a[key] for a in arrays]) for key in ("weight", "code"))
    assert weight.mean() == pytest.approx(1, rel=1e-5)
    assert weight[code == 0].sum() == pytest.approx(weight[code == 1].sum(), rel=1e-5)
    held = learning.targets(found.batch("validation", 0, 0), told)
    assert (held["weight"] == 1).all() and set(np.unique(held["target"])) == {0.0, 1.0}
    np.testing.assert_allclose(arrays[0]["target"].max(1), 1 - 0.1 + 0.1 / 2, atol=1e-6)


def test_everything_is_the_part_as_model_inputs_see_it() -> None:
    found = made(tabular=("brix_deg", "transmittance_percent"), mixup_alpha=0.3, augment="da")
    spectra, tabular, codes, groups = found.everything("validation")
    whole = Samples.concat([found.batch("validation", 0, i) for i in range(found.batches("validation"))])
    given = model_inputs(whole, found.facts())
    assert np.array_equal(spectra, given["spectra"]) and tabular is not None and np.array_equal(tabular, given["tabular"])
    assert np.array_equal(codes, whole.table["code"])
    assert np.array_equal(groups[:, None] == groups, whole.table["group"].to_numpy()[:, None] == whole.table["group"].to_numpy())
    assert made().everything("train")[1] is None


# --- facts ------------------------------------------------------------------------------------------------------------
def test_facts_are_json_and_say_what_the_network_needs() -> None:
    found = made(channels=("lspr", "277"), tabular=("brix_deg",))
    told = found.facts()
    assert json.loads(json.dumps(told)) == told
    assert [c["name"] for c in told["channels"]] == ["lspr", "277"] and told["channels"][0]["axis"][:2] == [450.0, 451.0]
    assert told["classes"] == ["The rest", "OK"] and told["target"] == {"kind": "OVA", "of": "OK", "column": ""}
    assert told["simulated"] is True and from_plain(told["source"]) == "simulated population of 400 samples, seed 0"
    told["classes"].append("changed")
    assert found.facts()["classes"] == ["The rest", "OK"]
    spectra = model_inputs(found.batch("train", 0, 0), found.facts())["spectra"]
    assert spectra.shape == (32, 251 + 446)


def test_all_channels_where_none_is_named() -> None:
    assert [c["name"] for c in made(channels=()).facts()["channels"]] == ["277", "380", "425", "lspr"]


def test_a_kept_set_is_found_by_name_and_read_from_the_cache(keep: Keep, home: Path) -> None:
    name = keep(table())
    told = TableData(asked(name)).facts()
    assert told["simulated"] is False and told["source"].endswith("mine.parquet") and told["classes"] == ["beef", "lamb"]
    assert list((home / "cache").glob("spectra-*.h5"))
    path = home / "data" / "spectra" / "mine.parquet"
    for given in (str(path), "mine.parquet", str(path.parent)):
        assert TableData(asked(given)).facts()["classes"] == ["beef", "lamb"]


def test_columns_of_a_file_with_our_names_are_kept_as_the_files(keep: Keep) -> None:
    found = TableData(asked(keep(table(code=np.arange(60)))))
    batch = found.batch("test", 0, 0)
    assert "code (file)" in batch.table and set(batch.table["code"]) <= {0, 1}


def test_what_is_left_out_is_told(keep: Keep) -> None:
    kinds = np.where(np.arange(60) % 2, "beef", "lamb").astype(object)
    kinds[:4] = ""
    given = table(kind=kinds)
    given.channels[0].values[10, 3] = np.nan
    told = TableData(asked(keep(given))).facts()
    assert "4 samples have no label (column 'kind') and are left out." in notes_of(told)
    assert "1 sample lacks points of the chosen channels and is left out." in notes_of(told)
    assert sum(told["rows"].values()) == 55


# --- rare classes -----------------------------------------------------------------------------------------------------
def rare(members: dict[str, int]) -> SpectraTable:
    kinds = np.where(np.arange(60) % 2, "beef", "lamb").astype(object)
    start = 0
    for kind, count in members.items():
        kinds[start : start + count] = kind
        start += count
    return table(kind=kinds)


def test_a_class_of_one_member_is_dropped_and_told(keep: Keep) -> None:
    told = TableData(asked(keep(rare({"horse": 1})))).facts()
    assert told["classes"] == ["beef", "lamb"] and sum(told["rows"].values()) == 59 and told["merged"] == []
    assert "Too rare to split, dropped: horse (1 sample)." in notes_of(told)


def test_a_class_of_one_member_is_refused_or_merged(keep: Keep) -> None:
    name = keep(rare({"horse": 1}))
    with pytest.raises(InputError, match="horse: each has fewer than 5"):
        TableData(asked(name, rare="refuse"))
    with pytest.raises(InputError, match="horse together still have fewer than 5"):
        TableData(asked(name, rare="merge"))


def test_rare_classes_are_merged_and_found_again_in_another_file(keep: Keep) -> None:
    found = TableData(asked(keep(rare({"horse": 1, "goat": 4, "deer": 2})), rare="merge"))
    told = found.facts()
    assert told["classes"] == ["beef", "lamb", "other"] and sorted(told["merged"]) == ["deer", "goat", "horse"]
    other = Samples({}, pd.DataFrame({"file": "y", "kind": ["goat", "lamb", "unheard of"]}))
    assert learning.codes_of(other, told).tolist() == [2, 1, -1]


def test_a_class_of_one_instrument_is_told_to_be_confounded(keep: Keep) -> None:
    kinds = np.where(np.arange(60) % 2, "beef", "lamb").astype(object)
    kinds[:6] = "horse"
    name = keep(table(kind=kinds, instrument=[f"i{k // 6}" for k in range(60)]))
    notes = " ".join(notes_of(TableData(asked(name, group_by="instrument")).facts()))
    assert "Class horse and instrument are confounded" in notes and "dropped: horse" in notes


# --- before training --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options", [{}, {"kind": "AVA", "of": "INTY"}, {"kind": "AVA", "of": "IN", "group_by": "date", "seed": 3}]
)
def test_the_balance_of_a_population_is_that_of_its_training(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = Training(simulated_samples=400, channels=("277",), **options)
    told = TableData(config).facts()
    monkeypatch.setattr(sources, "simulate_table", None)  # spectra are not needed
    found, sentences = balance_of(config)
    assert found.columns.tolist() == ["class", "samples", "percent", "groups"]
    assert found["percent"].sum() == pytest.approx(100) and found["samples"].sum() == 400
    kept = found[found["class"].isin(told["classes"])]
    assert kept["samples"].sum() == sum(told["rows"].values())
    if "date" not in options.values():
        assert found["groups"].sum() >= sum(told["groups"].values())
    assert {note for note in notes_of(told) if "Too rare" in note} <= set(sentences)


def test_the_balance_of_a_file_names_rare_classes_and_their_fate(keep: Keep) -> None:
    name = keep(rare({"horse": 1, "goat": 4}))
    for choice, words in (("drop", "dropped: goat, horse (5 samples)"), ("merge", 'merged into "other": goat, horse (5'),
                          ("refuse", "goat, horse: each has fewer than 5")):  # fmt: skip
        found, sentences = balance_of(asked(name, rare=choice))
        assert found.set_index("class")["samples"].to_dict() == {"beef": 28, "goat": 4, "horse": 1, "lamb": 27}
        assert words in " ".join(sentences)
        assert found["groups"].tolist() == found["samples"].tolist()


def test_the_balance_tells_what_lacks_points_and_takes_a_table_that_is_open(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    given = table()
    given.channels[0].values[:3, 4] = np.nan
    config = asked(keep(given))
    source = data.load(config)
    monkeypatch.setattr(data, "load", None)
    found, sentences = balance_of(config, source)
    assert found["samples"].sum() == 57 and "3 samples lack points" in sentences[0]


def test_the_balance_warns_of_classes_of_one_instrument_or_day(keep: Keep) -> None:
    kinds = np.where(np.arange(60) % 2, "beef", "lamb").astype(object)
    kinds[:12] = "horse"
    days = pd.Timestamp("2024-05-01") + pd.to_timedelta(np.arange(60) // 12, unit="D")
    name = keep(table(kind=kinds, instrument=np.where(np.arange(60) < 20, "A", "B"), measured_at=days))
    told = " ".join(balance_of(asked(name))[1])
    assert "Class horse and instrument are confounded: all its 12 rows" in told and "Class horse and day are confounded" in told
    assert "Class horse and day are confounded" in " ".join(balance_of(asked(name, group_by="date"))[1])


def test_the_balance_of_a_reading_is_counted_on_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MEASURED_ROWS", 300)
    config = Training(simulated_samples=400, kind="AVA", column="brix_deg")
    found, sentences = balance_of(config)
    assert found["samples"].sum() == 300 and "300 simulated samples of the 400" in sentences[0]
    monkeypatch.setattr(data, "DRAWN_ROWS", 200)
    assert "Counted on 200 simulated samples of the 500" in balance_of(Training(simulated_samples=500))[1][0]


@pytest.mark.parametrize(("options", "words"), [
    ({"data": "nowhere"}, "no such file"), ({"column": "taste"}, "no such column"), ({"of": "VR99"}, "no sample is 'VR99'"),
])  # fmt: skip
def test_the_balance_of_what_is_not_there_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        balance_of(Training(simulated_samples=400, **options))


# --- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("options", "words"), [
    ({"channels": ("277", "999")}, "has no channel 999. Channels: 277, 380, 425, lspr"),
    ({"channels": ("277", "277")}, "named twice"),
    ({"tabular": ("brix",)}, "has no column 'brix'. Columns of numbers: transmittance_percent, brix_deg"),
    ({"tabular": ("instrument",)}, "holds no number"),
    ({"tabular": ("true_defect_type",)}, "tells the label"),
    ({"column": "taste"}, "column 'taste'.*no such column"),
    ({"of": "VR99"}, "no sample is 'VR99'"),
    ({"kind": "AVA", "of": "OK"}, "there is no such code"),
    ({"augment": "simulate", "zero_points": (446,)}, "channel 277 cannot be zero: it has 446"),
    ({"group_by": "instrument"}, "2 instruments cannot fill 5 folds. Choose n_splits of at most 2"),
    ({"n_splits": 2, "validation_percent": 30.0, "calibration_percent": 30.0}, "must leave rows to train on"),
    ({"n_splits": 2, "validation_percent": 30.0, "calibration_percent": 30.0, "group_by": "instrument"}, "must leave rows"),
])  # fmt: skip
def test_bad_settings_are_refused_with_a_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(**options)


@pytest.mark.parametrize("name", ["nowhere.csv", "/no/such/file.h5", "x" * 5000, "a\0b"])
def test_a_missing_table_is_told_with_the_sets_there_are(name: str, keep: Keep) -> None:
    keep(table())
    with pytest.raises(InputError, match=r"no such file, folder or kept set. Sets kept: .*mine.parquet.* leave it empty"):
        data.load(Training(data=name))


@pytest.mark.parametrize(("given", "options", "words"), [
    (table(kind="beef"), {}, "only one class is left, beef"),
    (table(kind=""), {}, "no sample has a label"),
    (table(), {"group_by": "date"}, "does not tell the date"),
    (table(), {"group_by": "instrument"}, "does not tell the instrument"),
    (table(instrument=""), {"group_by": "instrument"}, "does not tell the instrument"),
    (table(instrument="one"), {"group_by": "instrument"}, "1 instrument cannot fill 5 folds. Choose a larger table"),
    (table(6), {"n_splits": 7}, "6 specimens cannot fill 7 folds"),
    (table(4), {"n_splits": 2}, "split"),
    (table(loss_weight=1.0), {"tabular": ("loss_weight",)}, "a name that training uses itself"),
    (table(kind=np.arange(60) % 2), {"tabular": ("kind",)}, "tells the label"),
])  # fmt: skip
def test_bad_tables_are_refused_with_a_sentence(given: SpectraTable, options: dict[str, Any], words: str, keep: Keep) -> None:
    name = keep(given)
    with pytest.raises(InputError, match=words):
        TableData(asked(name, **options))


def test_a_table_of_no_rows_and_an_empty_folder_are_refused(home: Path) -> None:
    folder = home / "data" / "spectra" / "empty"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="holds no table"):
        TableData(asked("empty"))
    header = ",".join(["kind", *(str(x) for x in range(1000, 1020))])
    (folder / "none.csv").write_text(header + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="has 0 rows"):
        TableData(asked("empty"))


def test_a_table_whose_every_row_lacks_a_point_is_refused(keep: Keep) -> None:
    given = table()
    given.channels[0].values[np.arange(60), np.arange(60) % 20] = np.nan
    with pytest.raises(InputError, match="no sample with a label has all points"):
        TableData(asked(keep(given)))


@pytest.mark.parametrize("option", ["scatter_shift", "baseline_shift", "gaussian_broadening", "add_noise"])
def test_chemotools_options_reach_the_training_batches_alone(option: str) -> None:
    plain, changed = made(), made(**{option: 0.2})
    for split in PARTS[1:]:
        assert same(plain.batch(split, 0, 0), changed.batch(split, 0, 0))
    before, after = plain.batch("train", 0, 0), changed.batch("train", 0, 0)
    assert before.table["sample"].equals(after.table["sample"])
    assert all(not np.array_equal(values, after.inputs[name]) for name, values in before.inputs.items())
    assert same(changed.batch("train", 0, 0), after) and same(made(**{option: 0.2}).batch("train", 0, 0), after)
    assert not np.array_equal(changed.batch("train", 1, 0).inputs["277"], after.inputs["277"])
