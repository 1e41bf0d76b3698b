"""The Clean page: reading files, rules, keep and drop by hand, undo, export, recipe, calibration."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import recipe, runs
from lib.task import InputError, Task
from lib.ui import files
from lib.ui.calibrate import rounded, training_values
from lib.ui.clean import Inspection
from lib.ui.contact import COLUMNS, PER_PAGE, compose, sheet_figure
from lib.ui.context import plain
from tests.pages.conftest import Open, figures, texts
from tests.pages.fake_worker import PAYLOADS, Calibrating

READ = "toy-clean-read"
FROM_FOLDER = {"toy-clean-files-where": files.FOLDER, "toy-clean-files-folder": "toy/set one"}


@pytest.fixture
def loaded(open_page: Open, readings: Path):
    """The page after reading five good files and a bad one; r0 breaks the rule."""
    page = open_page("clean", FROM_FOLDER)
    return page.button(key=READ).click().run()


def inspection(page) -> Inspection:
    return page.session_state["toy-clean-inspection"]


def kept_metric(page) -> str:
    return page.metric[0].value


def pick(page, rows: list[int]):
    """Pick rows of the table view."""
    page.session_state["toy-clean-view"] = "Table"
    page.run()
    (table,) = [t for t in page.dataframe if "no." in t.value]
    page.session_state[table.key] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    return page.run()


def test_empty_page_says_what_to_do(open_page: Open):
    page = open_page("clean")
    assert not page.exception and not page.error
    assert "Read the files" in texts(page)
    assert page.button(key=READ).disabled


def test_files_are_read_and_the_bad_one_is_named(loaded):
    assert not loaded.exception
    assert len(loaded.error) == 1 and plain("bad $x$ *y*.npy") in loaded.error[0].value
    assert kept_metric(loaded) == "4 of 5"
    assert len(figures(loaded)) == 1


def test_rule_moves_the_count(loaded):
    loaded.number_input(key="toy-clean-rules.max_spread_v").set_value(100.0).run()
    assert kept_metric(loaded) == "5 of 5"
    counts = loaded.dataframe[0].value
    assert list(counts["removes"]) == [0]


def test_only_bad_files_leave_what_was_there(loaded):
    loaded.session_state["toy-clean-files-where"] = files.UPLOAD
    loaded.run()
    loaded.file_uploader(key="toy-clean-files-upload").upload("broken.npy", b"no").run()
    loaded.button(key=READ).click().run()
    assert "broken.npy" in texts(loaded) and "None of these files" in texts(loaded)
    assert kept_metric(loaded) == "4 of 5"


def test_picked_row_is_shown_kept_dropped_and_undone(loaded):
    pick(loaded, [1, 2])
    assert "r1.npy" in texts(loaded)
    loaded.button(key="toy-clean-drop").click().run()
    assert kept_metric(loaded) == "2 of 5"
    pick(loaded, [0])
    loaded.button(key="toy-clean-keep").click().run()
    assert kept_metric(loaded) == "3 of 5"
    loaded.button(key="toy-clean-undo").click().run()
    loaded.button(key="toy-clean-undo").click().run()
    assert kept_metric(loaded) == "4 of 5"
    assert loaded.button(key="toy-clean-undo").disabled


def test_forgetting_changes_by_hand_can_be_undone(loaded):
    pick(loaded, [1])
    loaded.button(key="toy-clean-drop").click().run()
    loaded.button(key="toy-clean-forget").click().run()
    assert kept_metric(loaded) == "4 of 5"
    loaded.button(key="toy-clean-undo").click().run()
    assert kept_metric(loaded) == "3 of 5"


def test_show_only_dropped(loaded):
    loaded.session_state["toy-clean-view"] = "Table"
    loaded.session_state["toy-clean-show"] = "dropped"
    loaded.run()
    (table,) = [t for t in loaded.dataframe if "no." in t.value]
    assert list(table.value["no."]) == [1]
    assert list(table.value["why"]) == ["max_spread_v"]


def test_changed_instrument_offers_to_read_again(loaded):
    loaded.number_input(key="toy-acquisition.offset_v").set_value(0.5).run()
    loaded.button(key="toy-clean-again").click().run()
    assert inspection(loaded).acquisition == {"offset_v": 0.5}
    assert float(inspection(loaded).readings["median_v"].iloc[2]) == pytest.approx(0.5, abs=0.1)


def test_raw_files_stay_untouched(loaded, readings: Path):
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in readings.iterdir()}
    pick(loaded, [1])
    loaded.button(key="toy-clean-drop").click().run()
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in readings.iterdir()} == before


# --- recipe ----------------------------------------------------------------------------------------------------------
def recipe_of(page, task: Task) -> bytes:
    """What the Recipe button gives at the rules' defaults."""
    seen = inspection(page)
    flags = task.flag(seen.readings, task.Rules())
    rules = task.Rules().model_dump()
    return recipe.build(task, rules, seen.acquisition, seen.files, seen.digests(), flags, seen.hand).encode()


def test_recipe_reproduces_the_set_under_other_names(loaded, toy: Task, open_page: Open):
    pick(loaded, [1, 3])
    loaded.button(key="toy-clean-drop").click().run()
    pick(loaded, [0])
    loaded.button(key="toy-clean-keep").click().run()
    content = recipe_of(loaded, toy)
    kept = [entry["file"] for entry in json.loads(content)["files"] if not entry["dropped"]]
    assert [Path(name).name for name in kept] == ["r0.npy", "r2.npy", "r4.npy"]

    other = open_page("clean")
    raw = inspection(loaded).raw
    others = [(f"renamed-{n}.npy", Path(file["path"]).read_bytes(), "") for n, file in enumerate(raw)]
    other.file_uploader(key="toy-clean-files-upload").set_value(others).run()
    other.button(key=READ).click().run()
    other.file_uploader(key="toy-clean-recipe-upload").upload("recipe.json", content).run()
    other.button(key="toy-clean-recipe-apply").click().run()
    assert "5 of 5 samples come out as when it was made" in texts(other)
    assert kept_metric(other) == "3 of 5"
    assert inspection(other).hand == inspection(loaded).hand


def test_recipe_with_other_instrument_waits_for_reading(loaded, toy: Task):
    wanted = json.loads(recipe_of(loaded, toy))
    wanted["acquisition"] = {"offset_v": 0.25}
    wanted["rules"] = {"max_spread_v": 50.0}
    wanted["files"][2] |= {"by_hand": {"0": False}, "dropped": {"0": "dropped by hand"}}
    wanted["files"][0]["dropped"] = {}
    loaded.file_uploader(key="toy-clean-recipe-upload").upload("recipe.json", json.dumps(wanted).encode()).run()
    loaded.button(key="toy-clean-recipe-apply").click().run()
    assert "Read its files now" in texts(loaded)
    loaded.button(key="toy-clean-again").click().run()
    assert inspection(loaded).acquisition == {"offset_v": 0.25}
    assert "5 of 5 samples" in texts(loaded)
    assert kept_metric(loaded) == "4 of 5"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"nonsense", "not a recipe"),
        (b"[]", "not a recipe"),
        (b'{"format": "else", "samples": []}', "not a recipe"),
        (b'{"format": "lightbench-recipe", "version": 2, "task": "toy", "files": [{}]}', "not a recipe"),
        (
            b'{"format": "lightbench-recipe", "version": 2, "task": "toy", '
            b'"files": [{"file": "a", "sha256": "b", "samples": 1, "dropped": {}, "by_hand": {"0": "yes"}}]}',
            "not a recipe",
        ),
        (b'{"format": "lightbench-recipe", "version": 99, "task": "toy", "samples": []}', "version"),
        (b'{"format": "lightbench-recipe", "version": 2, "task": "other", "files": []}', "belongs to the task"),
        (b'{"format": "lightbench-recipe", "version": 2, "task": "toy", "rules": {"x": 1}, "files": []}', "unknown key"),
        (b"[" * 100_000, "not a recipe"),
        (b"\xff\xfe", "not a recipe"),
    ],
)
def test_wrong_recipe_is_a_sentence_and_changes_nothing(loaded, content: bytes, why: str):
    loaded.file_uploader(key="toy-clean-recipe-upload").upload("mine.json", content).run()
    loaded.button(key="toy-clean-recipe-apply").click().run()
    assert not loaded.exception
    assert why in loaded.error[-1].value and "mine.json" in loaded.error[-1].value
    assert kept_metric(loaded) == "4 of 5"


def test_recipe_says_what_is_missing_and_what_is_new(toy: Task):
    flags = pd.DataFrame({"rule": [False, True]})
    text = recipe.build(toy, {}, {}, ["a", "b"], {"a": "1", "b": "2"}, flags, {1: True})
    applied = recipe.apply(json.loads(text), ["x", "y"], {"x": "2", "y": "3"})
    assert applied.missing == ["a"] and applied.unknown == 1
    assert applied.hand == {0: True} and applied.kept == {0: True}


def test_copies_of_one_file_and_samples_of_one_file_stay_apart(toy: Task):
    names, digests = ["a", "a", "copy", "copy"], {"a": "1", "copy": "1"}
    flags = pd.DataFrame({"rule": [False] * 4})
    hand = {1: False, 2: False}
    text = recipe.build(toy, {}, {}, names, digests, flags, hand)
    assert recipe.apply(json.loads(text), names, digests).hand == hand


def test_kept_and_reasons():
    flags = pd.DataFrame({"one": [True, False, True], "two": [True, False, False]})
    hand = {0: True, 1: False}
    assert list(recipe.kept(flags, hand)) == [True, False, False]
    assert recipe.reasons(flags, hand) == ["kept by hand; one, two", "dropped by hand", "one"]


def test_task_without_rules_keeps_everything():
    flags = pd.DataFrame(index=range(3))
    assert list(recipe.kept(flags, {})) == [True] * 3
    assert recipe.reasons(flags, {1: False}) == ["", "dropped by hand", ""]


# --- export ----------------------------------------------------------------------------------------------------------
def test_kept_set_holds_the_untouched_files(loaded, monkeypatch, readings: Path, toy: Task):
    archives = {}
    original = files.st.download_button

    def catch(label, data, name, *args, **kwargs):
        archives[name] = data
        return original(label, data, name, *args, **kwargs)

    monkeypatch.setattr("streamlit.download_button", catch)
    loaded.run()
    with zipfile.ZipFile(io.BytesIO(archives["toy-kept.zip"]())) as archive:
        assert archive.namelist() == ["recipe.json", "r1.npy", "r2.npy", "r3.npy", "r4.npy"]
        assert archive.read("r2.npy") == (readings / "r2.npy").read_bytes()
        assert archive.read("recipe.json").decode() == archives["recipe.json"]()
    table = pd.read_csv(io.StringIO(archives["toy-readings.csv"]()))
    assert list(table["kept"]) == [False, True, True, True, True]


# --- contact sheet ---------------------------------------------------------------------------------------------------
def test_contact_sheet_marks_what_is_dropped():
    bright = np.full((20, 10), 200, dtype=np.uint8)
    sheet = np.asarray(compose([bright, bright], ["1", "2"], [True, False], [False, True]))
    half = sheet.shape[1] // COLUMNS
    kept, dropped = sheet[:, :half], sheet[:, half : 2 * half]
    assert kept[half // 2 + 8, half // 2, 0] == 200
    assert dropped[half // 2 + 8, half // 2, 0] < 100
    assert (sheet[:, 2 * half :, 3] == 0).all()


def test_contact_sheet_has_a_point_for_each_thumbnail():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 64), dtype=np.uint8) for _ in range(PER_PAGE)]
    names = [str(n) for n in range(PER_PAGE)]
    figure = sheet_figure(compose(pictures, names, [True] * PER_PAGE, [False] * PER_PAGE), names)
    assert len(figure.data[0].x) == PER_PAGE
    assert figure.data[0].x[COLUMNS] == 0.5 and figure.data[0].y[COLUMNS] == 1.5
    assert len(figure.to_json()) < 1_000_000


# --- calibrate -------------------------------------------------------------------------------------------------------
@pytest.fixture
def calibrating(toy: Task, monkeypatch):
    monkeypatch.setattr(type(toy), "calibrate", Calibrating.calibrate)


def test_task_without_calibration_has_no_section(loaded):
    assert "Calibrate" not in [part.value for part in loaded.subheader]


def test_calibration_uses_the_kept_rows_and_fills_the_simulator(calibrating, loaded):
    loaded.button(key="toy-clean-calibration-go").click().run()
    payload = next(payload for op, payload in PAYLOADS if op == "calibrate")
    assert payload["rows"] == [1, 2, 3, 4]
    assert "4 samples" in texts(loaded)
    loaded.button(key="toy-clean-calibration-simulate").click().run()
    assert loaded.session_state["toy-simulate:fill"]["mean_v"] == pytest.approx(1.0, abs=0.1)


def test_calibration_fills_the_instrument(calibrating, loaded):
    loaded.button(key="toy-clean-calibration-go").click().run()
    loaded.button(key="toy-clean-calibration-acquisition").click().run()
    assert loaded.number_input(key="toy-acquisition.offset_v").value == 0.5
    assert "changed since these files were read" in texts(loaded)


def test_measured_numbers_are_filled_in_as_a_person_would_type_them():
    assert [rounded(v) for v in (324.29915338, 0.00012345678, 3, "x", None, True)] == [324.3, 0.0001235, 3, "x", None, True]


def test_training_for_these_conditions_starts_a_run(calibrating, loaded, monkeypatch):
    started = []
    monkeypatch.setattr("lib.jobs.start", started.append)
    loaded.button(key="toy-clean-calibration-go").click().run()
    loaded.button(key="toy-clean-calibration-train").click().run()
    (run,) = started
    config = run.config()
    assert config["n_train"] == 32 and config["model"] == "weighted"


def test_training_values_are_checked(toy: Task):
    assert training_values(toy, {"n_train": 7})["n_train"] == 7
    with pytest.raises(InputError, match="n_train"):
        training_values(toy, {"n_train": -7})


def test_kept_rows_of_a_table_become_a_set_to_train_on(open_page: Open, toy: Task, tmp_path: Path):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(6, 8)).astype(np.float32)
    table[2] *= 100  # breaks max_spread_v
    buffer = io.BytesIO()
    np.save(buffer, table)
    page = open_page("clean")
    page.file_uploader(key="toy-clean-files-upload").set_value([("many.npy", buffer.getvalue(), "")]).run()
    page.button(key=READ).click().run()
    assert kept_metric(page) == "5 of 6"
    page.text_input(key="toy-clean-set-name").set_value("../up").run()
    page.button(key="toy-clean-save").click().run()
    assert "cannot be the name of a folder" in page.error[-1].value
    page.text_input(key="toy-clean-set-name").set_value("monday").run()
    page.button(key="toy-clean-save").click().run()
    assert not page.exception
    folder = runs.home() / "data" / "toy" / "monday"
    wanted = json.loads((folder / "recipe.json").read_text())
    assert wanted["files"][0]["samples"] == 6 and list(wanted["files"][0]["dropped"]) == ["2"]
    assert "monday" in texts(page) and runs.sets("toy") == ["monday"]
    page.button(key="toy-clean-save").click().run()
    assert "there is such a folder already" in page.error[-1].value
