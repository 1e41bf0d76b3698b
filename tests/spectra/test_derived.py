"""Runs made of runs: another promise for the same model, the joint sheet of all folds, and the spectra behind a sheet's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib import derived, model, runs, train
from lib.__main__ import main
from lib.runs import TEST_ROW, Run, part
from lib.task import InputError, Panel
from lib.tasks.spectra import TASK, verdicts
from lib.tasks.spectra.settings import Training

pytestmark = pytest.mark.usefixtures("bench")
FOLDS = 2


def fitted(name: str, **options: Any) -> Run:
    """A finished PLS-DA on few simulated samples."""
    small = {"model": "PLS-DA", "epochs": 1, "simulated_samples": 700, "channels": ("277",), "n_splits": FOLDS}
    config = Training.parse({**small, "threads": 1, "accelerator": "cpu", **options})
    run = runs.create("spectra", config.model_dump(mode="json"), name)
    assert train.fit(run).state == "done", run.log()
    return run


@pytest.fixture(scope="module")
def folds(bench: Path) -> list[Run]:
    return [fitted("fold", current_split=k) for k in range(FOLDS)]


def contents(run: Run) -> dict[str, bytes]:
    return {path.relative_to(run.folder).as_posix(): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def predicted(run: Run, prefix: str = "predicted.") -> pd.DataFrame:
    table = run.test_predictions()
    assert table is not None
    return part(table, prefix)


# --- another promise --------------------------------------------------------------------------------------------------
def test_another_promise_is_another_run_of_the_same_model(folds: list[Run]) -> None:
    before = contents(folds[0])
    made = derived.recertified(folds[0], {"policy": "recall", "recall_target_percent": "60"}, "sixty")
    assert contents(folds[0]) == before, "what was signed stays as it was"
    assert (made.folder / "model.safetensors").read_bytes() == before["model.safetensors"]
    assert made.config()["recall_target_percent"] == 60 and made.facts()["policy"] == "recall" and made.name == "sixty"
    assert made.status().state == "done" and made.sheet() is not None
    known = TASK.knowing(made.facts())
    table = predicted(made)
    code = verdicts.decided(
        table[verdicts.probability_columns(known.facts)].to_numpy(float), table["in_domain"].to_numpy(bool), known.facts
    )
    assert (verdicts.decision_words(known.facts)[code] == table["decision"]).all()
    assert (table["decision"] != predicted(folds[0])["decision"]).any()
    again = derived.recertified(made, {"policy": "cost"})
    assert again.facts()["cutoffs"] == made.facts()["cutoffs"], "the same calibration rows and the same draw of specimens"


def test_the_promise_asked_at_training_gives_the_same_certificate(folds: list[Run]) -> None:
    trained = fitted("asked at once", policy="cost", tastings_per_mistake=3)
    later = derived.recertified(folds[0], {"policy": "cost", "tastings_per_mistake": 3})
    one, other = ({key: value for key, value in run.facts().items() if key != "chosen"} for run in (later, trained))
    assert one == other, "all but how long the fit took"
    pd.testing.assert_frame_equal(predicted(later), predicted(trained))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"epochs": 3}, "epochs cannot be changed after training"),
        ({"policy": "cheapest"}, "policy = 'cheapest'"),
        ({"special_costs": ["Good>OK=3"]}, r"cost 'Good>OK=3'.*Classes: The rest, OK"),
        ({"tastings_per_mistake": 0.5}, "no wrong decision costs more than tasting"),
    ],
)
def test_what_cannot_be_promised_is_said_and_leaves_nothing(folds: list[Run], changes: dict[str, Any], why: str) -> None:
    before = sorted(run.id for run in runs.list_runs("spectra"))
    with pytest.raises(InputError, match=why):
        derived.recertified(folds[0], changes)
    assert sorted(run.id for run in runs.list_runs("spectra")) == before


def test_a_run_that_fails_half_way_is_gone_again(folds: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(run.id for run in runs.list_runs("spectra"))

    def full(run: Run) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.sheet.build", full)
    with pytest.raises(OSError, match="No space"):
        derived.recertified(folds[0], {"policy": "cost"})
    assert sorted(run.id for run in runs.list_runs("spectra")) == before


def test_without_kept_calibration_predictions_it_says_so(folds: list[Run], tmp_path: Path) -> None:
    bare = runs.create("spectra", folds[0].config(), "bare")
    (bare.folder / "test_predictions.parquet").write_bytes((folds[0].folder / "test_predictions.parquet").read_bytes())
    bare.save_facts(folds[0].facts())
    with pytest.raises(InputError, match="calibration predictions were not kept"):
        derived.recertified(bare, {"policy": "cost"})


def test_the_command_makes_a_promise(folds: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", folds[0].id, "--set", "policy=recall", "recall_target_percent=70", "--name", "by command"]) == 0
    run = runs.find(capsys.readouterr().out.strip())
    assert run.name == "by command" and run.facts()["recall_target"] == 0.7
    assert main(["certify", folds[0].id, "--set", "policy"]) == 2
    assert "it has no =" in capsys.readouterr().err


# --- joint sheet ------------------------------------------------------------------------------------------------------
def test_the_joint_sheet_is_of_every_fold_s_test_rows(folds: list[Run]) -> None:
    joint = derived.joined(folds[::-1])
    own = pd.concat([predicted(run) for run in folds], ignore_index=True)
    pd.testing.assert_frame_equal(predicted(joint), own)
    names = predicted(joint, "sample.")["sample"]
    assert names.is_unique and len(names) == 700, "the folds' test parts are disjoint and cover all rows"
    sheet = joint.sheet()
    assert sheet is not None and sheet["provenance"]["test_samples"] == 700
    assert "the fold that did not see it" in sheet["provenance"]["unseen"]
    assert sheet["provenance"]["command"].split()[4:] == [run.id for run in folds]
    assert not joint.has_model() and joint.status().best_value == pytest.approx(np.mean([f.status().best_value for f in folds]))
    chosen = next(Panel.from_json(panel) for panel in sheet["panels"] if panel["key"] == "candidates").content
    assert chosen["fold"].tolist() == ["1/2", "2/2"], "what each fold chose"
    assert derived.joined(folds).id == joint.id, "the same folds are joined once"


def test_only_all_folds_of_one_training_are_joined(folds: list[Run]) -> None:
    other = fitted("other", current_split=1, seed=1)
    joint = derived.joined(folds)
    for given, why in (
        (folds[:1], "fold 2/2 is missing"),
        ([folds[0], folds[0]], "this fold is given twice"),
        ([folds[0], other], "not a fold of the same training"),
        ([folds[0], joint], "a joint sheet itself"),
        ([folds[0], runs.create("spectra", folds[1].config())], "no test predictions yet"),
    ):
        with pytest.raises(InputError, match=why):
            derived.joined(given)
    with pytest.raises(InputError, match="a joint sheet of several models"):
        derived.recertified(joint, {"policy": "cost"})


@pytest.mark.parametrize("checksums", [True, False])
def test_folds_of_a_table_that_changed_are_not_joined(tmp_path: Path, checksums: bool) -> None:
    path, rng = tmp_path / "spectra.csv", np.random.default_rng(3)
    made: list[Run] = []
    for fold, rows in ((0, 120), (1, 120 if checksums else 100)):
        table = pd.DataFrame(rng.normal(5, 1, (rows, 8)), columns=[str(400 + 10 * k) for k in range(8)])
        table.insert(0, "sort", np.arange(rows) % 2)
        table.assign(sort=table["sort"].map({0: "a", 1: "b"})).to_csv(path, index=False)
        options = {"channels": (), "kind": "AVA", "column": "sort", "data": str(path), "current_split": fold}
        made.append(fitted("overwritten", **options))
    if not checksums:  # runs that were made before there were any
        for run in made:
            run.save_facts({key: value for key, value in run.facts().items() if key != "table_sha256"})
    with pytest.raises(InputError, match="not cut from the same rows"):
        derived.joined(made)


def test_a_joint_sheet_is_no_model(folds: list[Run]) -> None:
    joint = derived.joined(folds)
    with pytest.raises(InputError, match=f"joint sheet of several models. Use one of them: {folds[0].id}, {folds[1].id}"):
        model.load(joint, TASK)


def test_the_command_writes_the_joint_sheet(folds: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "joint.html"
    assert main(["sheet", *(run.id for run in folds), "--language", "fr", "--output", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "2 entraînements" in text and "le modèle du pli qui ne l&#x27;a pas vu" in text
    assert main(["sheet", folds[0].id, folds[0].id]) == 1
    assert "given twice" in capsys.readouterr().err


# --- behind the rows --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("joint", [False, True])
def test_the_spectra_behind_the_errors_are_kept_and_shown(folds: list[Run], joint: bool) -> None:
    run = derived.joined(folds) if joint else folds[0]
    sheet, samples = run.sheet(), run.test_samples()
    if sheet is None:
        from lib.sheet import build

        sheet = build(run)
    panel = next(Panel.from_json(panel) for panel in sheet["panels"] if panel["key"] == "errors")
    assert samples is not None
    rows = list(samples.table[TEST_ROW])
    assert set(panel.behind[0]) <= set(rows) and panel.behind[0]
    assert list(samples.table["sample"]) == list(predicted(run)["sample"].iloc[rows]), "each under its own number"
    at = [rows.index(number) for number in panel.behind[0]]
    shown = TASK.knowing(run.facts()).behind_panels(predicted(run).iloc[list(panel.behind[0])], samples.take(at))
    assert [one.key for one in shown] == ["spectra-277"]
    drawn = [trace for trace in shown[0].content.data if "→" in str(trace.name)]
    assert len(drawn) == len(at)
    said = panel.content["said"][0]
    assert all(trace.name.endswith(f"→ {said}") and not trace.name.endswith(f": {said} → {said}") for trace in drawn)
    np.testing.assert_allclose(drawn[0].y, samples.inputs["277"][at[0]], rtol=1e-5)


def test_facts_of_a_joint_run_are_plain_json(folds: list[Run]) -> None:
    facts = derived.joined(folds).facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts and len(facts["folds"]) == FOLDS
