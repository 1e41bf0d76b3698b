"""The task as the bench uses it: one tiny run from its data to its decisions, and what it says to tables that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from lib import cleaning, recipe, runs
from lib.predict import Prediction
from lib.runs import Run
from lib.task import InputError, Samples, Task
from lib.tasks.spectra import TASK
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.table import EXCITATIONS
from lib.words import from_plain
from tests.spectra import bad_tables as tables

pytestmark = pytest.mark.usefixtures("bench")
NOTHING_DROPPED = {"max_277": 1e6, "max_380": 1e6, "max_425": 1e6}  # the toy tables are brighter than any syrup
File = tuple[Path, str]


def tiny(**options: Any) -> dict[str, Any]:
    """Settings of a PLS-DA on few simulated samples, of the three channels that the fluorimeter's own files hold."""
    small = {"model": "PLS-DA", "epochs": 1, "simulated_samples": 300, "channels": EXCITATIONS}
    return Training.parse({**small, "threads": 1, "accelerator": "cpu", **options}).model_dump(mode="json")


def fitted(name: str, **options: Any) -> Run:
    """A finished run."""
    from lib import train

    run = runs.create("spectra", tiny(**options), name)
    status = train.fit(run)
    assert status.state == "done", run.log()
    return run


@pytest.fixture(scope="module")
def trained(bench: Path) -> Run:
    return fitted("tiny")


@pytest.fixture(scope="module")
def known(trained: Run) -> Task:
    """The task as it is for the trained run."""
    return TASK.knowing(trained.facts())


def predicted(run: Run, files: list[File], **columns: Any) -> Prediction:
    from lib import model, predict

    return predict.predict_files(model.load(run, TASK), files, TASK.Acquisition.parse(columns))


def population(n: int = 8, seed: int = 5) -> Samples:
    return TASK.simulate(TASK.Simulation(population=True), n, np.random.default_rng(seed))


def written(folder: Path, samples: Samples) -> File:
    """The samples as a file, without what only a simulation knows."""
    folder.mkdir(parents=True, exist_ok=True)
    (path,) = (path for path in TASK.write(samples, folder) if path.name != "truth.csv")
    return path, path.name


def write_bad_tables(folder: Path) -> dict[Path, str]:
    """Everything that people upload by mistake or by malice, a file each: path, and words of its refusal."""
    folder.mkdir(parents=True)
    found = {}
    for kind, (content, words) in tables.BAD_CONTENTS.items():
        found[folder / f"{kind} 'ü' $x$.csv"] = words
        (folder / f"{kind} 'ü' $x$.csv").write_bytes(content)
    for kind, (make, words) in tables.BAD_HDF5.items():
        found[folder / f"{kind}.h5"] = words
        with h5py.File(folder / f"{kind}.h5", "w") as file:
            make(file, folder)
    found[folder / "two million columns.csv"] = "columns in its first line"
    tables.two_million_columns(folder / "two million columns.csv")
    found[folder / "of another instrument.csv"] = "lacks channel 277"
    tables.generic().to_csv(folder / "of another instrument.csv", index=False)
    return found


def original_set(folder: Path) -> list[File]:
    """The fluorimeter's four files, named as in an archive."""
    tables.write_original(folder)
    return [(path, f"{folder.name}/{path.name}") for path in sorted(folder.iterdir())]


# --- facts ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_facts_lie_beside_the_weights_and_tell_what_was_learnt(trained: Run) -> None:
    facts = json.loads((trained.folder / "facts.json").read_text())
    assert facts["classes"] == ["The rest", "OK"] and facts["target"] == {"kind": "OVA", "of": "OK", "column": ""}
    assert [channel["name"] for channel in facts["channels"]] == list(EXCITATIONS)
    assert [len(channel["axis"]) for channel in facts["channels"]] == [446] * 3
    assert facts["simulated"] is True and "300 samples" in from_plain(facts["source"])
    assert sum(facts["rows"].values()) == 300 and set(facts["rows"]) == {"train", "validation", "calibration", "test"}
    assert facts["chosen"]["model"] == "PLS-DA" and len(facts["chosen"]["table"]) > 1
    assert sorted(facts["class_means"]["277"]) == ["OK", "The rest"]


@pytest.mark.slow
def test_promises_are_certified_or_refused_with_what_is_missing(trained: Run) -> None:
    facts = trained.facts()
    assert facts["policy"] == "precision" and facts["risk"] == 0.1 and facts["grouped"] is True
    assert facts["calibration_rows"] == facts["rows"]["calibration"]
    assert facts["independent_rows"] == facts["groups"]["calibration"], "one row of each specimen"
    for name in facts["classes"]:
        for goal in ("recall", "precision"):
            record = facts["cutoffs"][name][goal]
            assert (record["value"] is None) == bool(record["failure"]), "a number, or why there is none"
            assert record["target"] == 0.925 and record["rows_needed"] == 30
            if record["value"] is not None:
                assert 0 <= record["value"] <= 1 and record["measured"] >= record["target"] and record["rows"] >= 30
            if record["failure"] == "too few rows":
                assert record["rows"] < 30


@pytest.mark.slow
def test_the_task_of_one_run_leaves_the_others_alone(known: Task) -> None:
    other = TASK.knowing({"classes": ["a", "b", "c"]})
    assert TASK.facts == {} and known.facts["classes"] == ["The rest", "OK"]
    assert [c for c in other.prediction_columns() if c.startswith("p_")] == ["p_a", "p_b", "p_c"]
    assert [c for c in known.prediction_columns() if c.startswith("p_")] == ["p_The rest", "p_OK"]
    assert not any(c.startswith("p_") for c in TASK.prediction_columns())
    assert type(known) is type(TASK) and known.name == "spectra"


# --- decode and truth -------------------------------------------------------------------------------------------------
def test_truth_is_what_decode_makes_of_certain_outputs() -> None:
    data = TASK.training_data(Training.parse(tiny(kind="AVA", of="IN", rare="drop")))
    task = TASK.knowing(data.facts())
    samples = data.batch("test", 0, 0)
    truth = task.truth(samples)
    chances = [c for c in truth if c.startswith("p_")]
    outputs = {"probability": truth[chances].to_numpy(), "t2": np.zeros(len(truth)), "q": np.zeros(len(truth))}
    decoded = task.decode(outputs, samples)
    assert list(decoded.columns) == list(truth.columns)
    assert set(truth["predicted"]) <= set(data.facts()["classes"]) and truth["predicted"].nunique() > 1
    assert decoded["predicted"].tolist() == truth["predicted"].tolist() == samples.table["severity"].tolist()
    pd.testing.assert_frame_equal(decoded[chances], truth[chances])
    assert set(decoded["decision"]) == {"uncertified"}, "nothing is promised before it is certified"
    assert task.score(decoded, truth)["macro_f1"] == 1


@pytest.mark.slow
def test_predictions_have_the_columns_of_the_run(trained: Run, known: Task, tmp_path: Path) -> None:
    samples = population()
    done = predicted(trained, [written(tmp_path, samples)])
    table = done.table
    assert list(table.columns) == list(known.prediction_columns())
    assert list(table.columns) == [
        "file", "sample", "predicted", "p_The rest", "p_OK", "prediction_set", "decision", "t2", "q", "in_domain", "note",
    ]  # fmt: skip
    assert table["sample"].tolist() == samples.table["sample"].tolist(), "000001 stays 000001"
    assert table[["p_The rest", "p_OK"]].sum(axis=1).to_numpy(float) == pytest.approx(np.ones(8), abs=1e-6)
    best = table[["p_The rest", "p_OK"]].astype(float).idxmax(axis=1).str.removeprefix("p_")
    assert table["predicted"].tolist() == best.tolist()
    assert set(table["decision"]) <= {"pass", "taste", "reject"}
    members = {"The rest", "OK", "The rest | OK", "none"}
    assert set(table["prediction_set"]) <= members
    lacking = {name for name in known.facts["classes"] if known.facts["cutoffs"][name]["precision"]["value"] is None}
    left = table["predicted"].isin(lacking)
    assert (table["decision"][left] == "taste").all() and table["note"][left].str.contains("no certifiable cut-off").all()
    assert done.panels and not done.failures


@pytest.mark.slow
def test_samples_unlike_the_training_data_are_never_decided(trained: Run, tmp_path: Path) -> None:
    samples = population()
    turned = {k: 100 * v[:, ::-1] for k, v in samples.inputs.items()}  # SNV takes brightness away, not the shape
    strange = Samples(turned, samples.table, samples.common)
    table = predicted(trained, [written(tmp_path, strange)]).table
    assert not table["in_domain"].astype(bool).any() and set(table["decision"]) == {"taste"}
    assert table["note"].str.contains(r"far from the middle of the training data|unlike any training spectrum").all()


# --- files that belong together ---------------------------------------------------------------------------------------
def test_the_fluorimeters_files_are_one_table(tmp_path: Path) -> None:
    files = original_set(tmp_path / "day 1")
    other = original_set(tmp_path / "day 2")
    alone = (tmp_path / "more.csv", "day 1/more.csv")
    tables.generic().to_csv(alone[0], index=False)
    assert TASK.bundles([*files, alone, *other], TASK.Acquisition()) == [[0, 1, 2, 3], [4], [5, 6, 7, 8]]
    samples = TASK.read_bundle(files, TASK.Acquisition())
    assert list(samples.inputs) == list(EXCITATIONS) and len(samples) == 6
    assert samples.table["severity"].tolist() == ["OK", "OK", "OK", "VR", "CROCHET", "NC"]
    assert set(samples.table["file"]) == {"day 1/EX_277_2018.txt and 3 more"}


def test_choosing_channels_keeps_what_the_y_file_tells(tmp_path: Path) -> None:
    """The form of a page gives every field, the command line only those that were typed."""
    files = original_set(tmp_path / "set")
    typed = TASK.Acquisition.parse({"channels": "425,277"})
    form = TASK.Acquisition.parse(TASK.Acquisition().model_dump() | {"channels": ("425", "277")})
    for known in (form, typed):
        samples = TASK.read_bundle(files, known)
        assert list(samples.inputs) == ["425", "277"]
        assert samples.table["severity"][3] == "VR" and samples.table["group"][0] == "A000"


def test_a_set_that_lacks_a_file_says_which(tmp_path: Path) -> None:
    files = [file for file in original_set(tmp_path / "set") if "EX_380" not in file[1]]
    (places,) = TASK.bundles(files, TASK.Acquisition())
    with pytest.raises(InputError, match=r"EX_380….txt is missing|EX_380….txt: is missing"):
        TASK.read_bundle([files[place] for place in places], TASK.Acquisition())


@pytest.mark.slow
def test_files_of_one_set_in_another_order_give_the_same_predictions(trained: Run, tmp_path: Path) -> None:
    files = original_set(tmp_path / "set")
    plain = predicted(trained, files)
    tables.channel_frame("380").iloc[::-1].to_csv(tmp_path / "set" / "EX_380_2018.txt", sep="\t", index=False)
    assert plain.table["sample"].tolist() == tables.KEYS and not plain.failures
    pd.testing.assert_frame_equal(predicted(trained, files[::-1]).table.drop(columns="file"), plain.table.drop(columns="file"))


# --- what does not fit ------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_every_bad_file_is_named_and_costs_no_other(trained: Run, tmp_path: Path) -> None:
    good, bad = written(tmp_path / "good", population()), write_bad_tables(tmp_path / "odd")
    files = [good, *((path, path.name) for path in bad)]
    before = {path: path.read_bytes() for path, _ in files if path.stat().st_size < 2**20}
    done = predicted(trained, files)
    told = dict(done.failures)
    assert [path.name for path, words in bad.items() if words not in told.get(path.name, "")] == []
    assert all(not sentence.rstrip().endswith("..") and str(tmp_path) not in sentence for sentence in told.values())
    alone = predicted(trained, [good]).table
    pd.testing.assert_frame_equal(done.table[done.predicted].astype(alone.dtypes), alone)
    assert done.table["note"][~done.predicted].str.startswith("error: ").all()
    assert before == {path: path.read_bytes() for path in before}, "files are only read"


@pytest.mark.slow
def test_a_table_in_french_excel_gives_the_same_predictions(trained: Run, tmp_path: Path) -> None:
    frame = tables.one_table(lspr=False).rename(columns={"greffon_limpidite": "limpidité"})
    frame.to_csv(tmp_path / "plain.csv", index=False)
    text = frame.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")
    (tmp_path / "french.csv").write_bytes(text.encode("cp1252"))
    (tmp_path / "marked.csv").write_bytes(text.encode("utf-8-sig"))
    done = predicted(trained, [(tmp_path / name, name) for name in ("plain.csv", "french.csv", "marked.csv")])
    assert not done.failures
    parts = [part.drop(columns="file").reset_index(drop=True) for _, part in done.table.groupby("file", sort=False)]
    for part in parts[1:]:
        pd.testing.assert_frame_equal(part, parts[0])


@pytest.mark.slow
def test_gaps_negative_and_saturated_spectra_are_said_and_gaps_left_to_the_taster(trained: Run, tmp_path: Path) -> None:
    frame = tables.one_table(4, lspr=False).astype(object)
    frame.iloc[0, 100] = ""
    frame.iloc[1, 100] = -9000.0
    frame.iloc[2, 446:460] = 62_996
    frame.to_csv(tmp_path / "odd.csv", index=False)
    table = predicted(trained, [(tmp_path / "odd.csv", "odd.csv")]).table
    for row, words in enumerate(["277 1 points missing", "277 negative", "380 saturated"]):
        assert words in table["note"][row]
    assert "the model gave no number" in table["note"][0] and pd.isna(table["predicted"][0])
    assert table["decision"][0] == "taste" and not table["in_domain"].astype(bool)[0]
    assert table["predicted"][1:].notna().all()


def test_a_table_without_the_models_channel_or_column_is_told_so(tmp_path: Path) -> None:
    data = TASK.training_data(Training.parse(tiny(tabular=["brix_deg"], model="compact CNN")))
    task = TASK.knowing(data.facts())
    samples = population()
    assert task.tensors(samples)["tabular"].shape == (8, 1)
    without = Samples(samples.inputs, samples.table.drop(columns="brix_deg"), samples.common)
    with pytest.raises(InputError, match="lacks the column 'brix_deg', which this model takes beside the spectra"):
        task.tensors(without)
    channels = [c for c in samples.common["channels"] if c["name"] != "380"]
    fewer = Samples({c["name"]: samples.inputs[c["name"]] for c in channels}, samples.table, {"channels": channels})
    with pytest.raises(InputError, match=r"lacks channel 380 \(it has 277, 425, lspr\)"):
        task.tensors(fewer)
    short = Samples({k: v[:, 10:] for k, v in samples.inputs.items()}, samples.table,
                    {"channels": [c | {"axis": c["axis"][10:]} for c in samples.common["channels"]]})  # fmt: skip
    with pytest.raises(InputError, match="not continued beyond what was measured"):
        task.tensors(short)


@pytest.mark.parametrize("family", ["PLS-DA", "best of", "MiniRocket"])
def test_a_family_that_looks_at_spectra_alone_neither_records_nor_asks_for_tabular_values(family: str) -> None:
    data = TASK.training_data(Training.parse(tiny(tabular=["brix_deg"], model=family)))
    facts, samples = data.facts(), population()
    told = f"{family} looks at the spectra alone: brix_deg is not used."
    assert facts["tabular"] == [] and told in [from_plain(note) for note in facts["notes"]]
    without = Samples(samples.inputs, samples.table.drop(columns="brix_deg"), samples.common)
    assert list(TASK.knowing(facts).tensors(without)) == ["spectra"]
    assert set(TASK.knowing(facts).trial_inputs(2, np.random.default_rng(0))) == {"spectra"}
    assert told in str(TASK.preview(Training.parse(tiny(tabular=["brix_deg"], model=family)))[1].content)


def test_labels_that_the_model_does_not_know_are_noted(bench: Path, tmp_path: Path) -> None:
    table = tables.generic(24)
    table["specimen"] = [f"s{k}" for k in range(24)]
    table.to_csv(tmp_path / "train.csv", index=False)
    data = TASK.training_data(
        Training.parse(tiny(data=str(tmp_path / "train.csv"), column="class", kind="AVA", of="class", channels=[]))
    )
    task = TASK.knowing(data.facts())
    new = tables.generic(4).assign(**{"class": ["a", "c", "", "b"]})
    new.to_csv(tmp_path / "new.csv", index=False)
    samples = TASK.read(tmp_path / "new.csv", TASK.Acquisition())
    outputs = {"probability": np.full((4, 2), 0.5), "t2": np.zeros(4), "q": np.zeros(4)}
    decoded = task.decode(outputs, samples)
    assert decoded["note"].str.contains("class not known to the model").tolist() == [False, True, False, False]
    truth = task.truth(samples)
    assert truth["predicted"].fillna("–").tolist() == ["a", "–", "–", "b"]
    assert np.isfinite(task.score(decoded, truth)["accuracy_percent"]), "rows without a known class do not count"


BAD_TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one class only": ({"class": "a"}, {}, "only one class is left, a"),
    "a class with one member": ({"class": ["a", "b"] * 11 + ["a", "c"]}, {"rare": "refuse"}, "classes c: each has fewer than 5"),
    "no label": ({"class": ""}, {}, "no sample has a label"),
    "no such label": ({}, {"column": "grade"}, "column 'grade'"),
    "no severity": ({"class": [f"c{k}" for k in range(24)]}, {"column": "", "kind": "OVA", "of": "OK"}, "has no severity"),
    "no such class": ({}, {"kind": "OVA", "of": "z"}, "no sample is 'z'"),
    "no such tabular column": ({}, {"tabular": ["brix"]}, "has no column 'brix'"),
    "the answer as a tabular value": ({}, {"tabular": ["class"]}, "tells the label"),
    "no such channel": ({}, {"channels": ["277"]}, "has no channel 277"),
    "one specimen": ({"specimen": "s"}, {}, "1 specimen cannot fill 5 folds"),
}


@pytest.mark.parametrize("case", BAD_TRAININGS)
def test_a_training_that_cannot_be_is_refused_with_a_sentence(case: str, bench: Path, tmp_path: Path) -> None:
    columns, options, words = BAD_TRAININGS[case]
    frame = tables.generic(24).assign(**{"specimen": [f"s{k}" for k in range(24)], **columns})
    frame.to_csv(tmp_path / "table.csv", index=False)
    asked = {"data": str(tmp_path / "table.csv"), "column": "class", "kind": "AVA", "of": "class", "channels": [], **options}
    with pytest.raises(InputError) as caught:
        TASK.training_data(Training.parse(tiny(**asked)))
    assert words in str(caught.value) and caught.value.remedy


# --- kept sets --------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_kept_set_is_trained_on_by_name(bench: Path, tmp_path: Path) -> None:
    path, name = written(tmp_path, population(300))
    seen = cleaning.inspect(TASK, [(path, name)], TASK.Acquisition(), lambda _share, _text: None)
    assert seen.samples is not None and not seen.failures
    flags = TASK.flag(seen.readings, TASK.Rules(inspector_only=False))
    keep = recipe.kept(flags, {0: False}).to_numpy(bool)
    cleaning.write_kept(TASK, seen.samples, keep, seen.raw, "{}", bench / "data" / "spectra" / "harvest")
    assert runs.sets("spectra") == ["harvest"]
    facts = fitted("of a kept set", data="harvest").facts()
    assert sum(facts["rows"].values()) == keep.sum() < 300
    assert "harvest" in facts["source"]


def test_a_set_of_files_is_cleaned_as_one_and_found_again_by_its_recipe(bench: Path, tmp_path: Path) -> None:
    files = original_set(tmp_path / "set")
    seen = cleaning.inspect(TASK, files, TASK.Acquisition(), lambda _share, _text: None)
    assert seen.samples is not None and len(seen.samples) == 6
    names = [str(file) for file in seen.samples.table["file"]]
    assert set(names) == set(seen.raw) and sorted(seen.raw[names[0]]) == sorted(files)
    digests = {file: recipe.digest([path for path, _ in raw]) for file, raw in seen.raw.items()}
    rules = TASK.Rules.parse(NOTHING_DROPPED)
    flags = TASK.flag(seen.readings, rules)
    assert not flags.to_numpy().any()
    text = recipe.build(TASK, rules.model_dump(), TASK.Acquisition().model_dump(), names, digests, flags, {2: False})
    again = cleaning.inspect(TASK, files[::-1], TASK.Acquisition(), lambda _share, _text: None)
    assert again.samples is not None
    called = [str(file) for file in again.samples.table["file"]]
    found = {file: recipe.digest([path for path, _ in raw]) for file, raw in again.raw.items()}
    applied = recipe.apply(recipe.parse(TASK, text.encode(), "recipe.json"), called, found)
    assert applied.hand == {2: False} and not applied.missing and not applied.unknown
