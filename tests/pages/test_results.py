"""The Results page: table, sheet, comparison, downloads."""

from __future__ import annotations

import json

import pytest

from lib import sheet
from lib.task import InputError, Task
from tests.pages.conftest import figures
from tests.pages.opening import FileWorker, links, make_run, open_page, texts, with_sheet


@pytest.fixture(autouse=True)
def worker(toy: Task, monkeypatch: pytest.MonkeyPatch) -> FileWorker:
    made = FileWorker()
    monkeypatch.setattr("lib.ui.context.shared", lambda factory: made)
    monkeypatch.setattr("lib.jobs.state", lambda run: run.status().state)
    return made


def test_without_runs_it_leads_to_training() -> None:
    page = open_page("toy-results")
    assert "No model of this task yet" in texts(page)
    assert ("Train a model", "toy-train") in links(page)


def test_the_table_ranks_by_the_best_value_and_shows_what_differs() -> None:
    make_run("worse", best=0.4, learning_rate=0.01)
    make_run("better", best=0.1)
    make_run("nothing yet", "failed", epochs_done=0)
    table = open_page("toy-results").dataframe[0].value
    assert list(table["run"]) == ["better", "worse", "nothing yet"]
    assert list(table["best RMSE (V)"][:2]) == [0.1, 0.4], "the best epoch, not the last"
    assert list(table["best epoch"][:2]) == [2, 2]
    assert list(table["learning_rate"]) == [0.05, 0.01, 0.05]
    assert "weight_decay" not in table, "the same in all runs"


def test_the_best_run_is_shown_first_with_its_sheet() -> None:
    with_sheet(make_run("good", best=0.1), error_v=0.25)
    make_run("other", best=0.3)
    page = open_page("toy-results")
    assert page.subheader[0].value == "good"
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown["RMSE"] == "0.25 V" and "bias v" in shown
    assert "Predicted against true" in texts(page) and len(figures(page)) == 3
    assert "Tested on 40 samples." in texts(page)
    assert "Neither training nor the choice of the best epoch saw the test samples." in texts(page)
    assert any("python -m lib train toy" in block.value for block in page.code)


def test_the_address_chooses_the_run_and_its_model_can_be_used() -> None:
    with_sheet(make_run("good", best=0.1))
    other = with_sheet(make_run("other", best=0.3))
    page = open_page("toy-results", run=other.id)
    assert page.subheader[0].value == "other" and page.query_params["run"] == other.id
    assert ("Use this model", f"toy-predict?run={other.id}") in links(page)


def test_several_runs_are_compared() -> None:
    first = with_sheet(make_run("first", best=0.1), error_v=0.25)
    second = with_sheet(make_run("second", best=0.3, model="deep", learning_rate=0.003), error_v=0.5)
    page = open_page("toy-results", run=f"{first.id},{second.id}")
    assert page.subheader[0].value == "2 runs side by side"
    merits, settings = page.dataframe[1].value, page.dataframe[2].value
    assert list(merits.columns) == ["figure of merit", "first", "second"]
    row = merits.set_index("figure of merit").loc["RMSE"]
    assert row["first"].startswith("0.25 V") and row["second"].startswith("0.5 V")
    assert list(settings["setting"]) == ["model", "learning_rate"]
    assert list(settings["second"]) == ["deep", "0.003"]
    curves = figures(page)
    assert len(curves) == 2 and all('"first"' in spec and '"second"' in spec for spec in curves)


def test_runs_of_the_same_test_are_compared_without_a_warning_and_others_with_one() -> None:
    first, second = with_sheet(make_run("first")), with_sheet(make_run("second"), error_v=0.5)
    page = open_page("toy-results", run=f"{first.id},{second.id}")
    assert not page.warning
    assert list(page.dataframe[1].value.iloc[0]) == ["tested on", "40 samples", "40 samples"]
    table = second.test_predictions().iloc[:9]
    table.to_parquet(second.folder / "test_predictions.parquet")
    sheet.build(second)
    page = open_page("toy-results", run=f"{first.id},{second.id}")
    assert "not all tested on the same samples" in page.warning[0].value
    assert page.dataframe[1].value.iloc[0]["second"] == "9 samples: too few for 95 % intervals"


def test_a_run_without_a_sheet_is_told_beside_those_that_have_one() -> None:
    good, broken = with_sheet(make_run("good")), make_run("broken *one*", "failed")
    page = open_page("toy-results", run=f"{good.id},{broken.id}")
    assert list(page.dataframe[1].value.columns) == ["figure of merit", "good"]
    assert "broken \\*one\\* has no result sheet (failed · The disk is full.)." in texts(page)


def test_a_setting_that_a_run_is_too_old_to_have_had_its_default() -> None:
    old, new = with_sheet(make_run("old")), with_sheet(make_run("new"))
    config = {key: value for key, value in old.config().items() if key != "weight_decay"}
    (old.folder / "config.json").write_text(json.dumps(old.about() | {"config": config}))
    page = open_page("toy-results", run=f"{old.id},{new.id}")
    assert "All settings are the same." in texts(page)


def test_runs_of_one_name_stay_apart() -> None:
    runs = [with_sheet(make_run("twin", best=best)) for best in (0.1, 0.2)]
    page = open_page("toy-results", run=",".join(run.id for run in runs))
    assert list(page.dataframe[1].value.columns[1:]) == [f"twin ({run.id[-4:]})" for run in runs]


def test_a_run_without_a_sheet_says_why() -> None:
    make_run("broken", "failed")
    words = texts(open_page("toy-results"))
    assert "This run is failed, so it has no result sheet." in words and "Resume it on the Train page" in words


def test_downloads_are_made_by_the_worker(worker: FileWorker) -> None:
    run = with_sheet(make_run("good"))
    page = open_page("toy-results")
    for op, form in (("sheet", "html"), ("sheet", "pdf"), ("export", "onnx"), ("export", "safetensors")):
        page.button(key=f"make-{op}-{form}-{run.id}").click().run()
        assert not page.error
        name, content = page.session_state[f"made-{op}-{form}-{run.id}"]
        stem = "any" if op == "export" else run.id  # a model is called as its task calls it
        assert (name, content) == (f"{stem}.{form}", f"{op} of toy/{run.id}".encode())
    assert worker.asked == [("sheet", "html"), ("sheet", "pdf"), ("export", "onnx"), ("export", "safetensors")]
    labels = {element.proto.label for element in page.get("download_button")}
    assert {"Save Sheet (PDF)", "Save Model (ONNX)", "Test predictions (CSV)", "Model card"} <= labels


def test_a_file_that_cannot_be_made_says_why(worker: FileWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_sheet(make_run("good"))

    def refuse(*_: object, **__: object) -> dict[str, str]:
        raise InputError("PDF", "no browser was found", "Install Chromium.")

    monkeypatch.setattr(worker, "request", refuse)
    page = open_page("toy-results")
    page.button(key=f"make-sheet-pdf-{run.id}").click().run()
    assert "no browser was found. Install Chromium." in page.error[0].value.replace("\\", "")
