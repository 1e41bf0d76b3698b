"""The pages of `spectra` with the worker's own operations in this process: tables in, kept sets, trainings, predictions out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from lib import runs
from lib.task import InputError
from lib.tasks.spectra import TASK
from lib.ui.context import plain
from lib.ui.work import Work
from tests.pages.conftest import figures, texts
from tests.spectra import bad_tables as tables
from tests.spectra.test_task import NOTHING_DROPPED, population, tiny, write_bad_tables, written

pytestmark = pytest.mark.usefixtures("bench")
Open = Callable[..., AppTest]
READ, GO = "spectra-clean-read", "spectra-predict-go"


@pytest.fixture(scope="module")
def trained(bench: Path) -> str:
    """The id of a tiny run."""
    from lib import train

    run = runs.create("spectra", tiny(), "tiny")
    assert train.fit(run).state == "done"
    return run.id


def done(page: AppTest, stage: str) -> AppTest:
    """The page after its request has ended, however long it took."""
    key = f"spectra-{stage}-work"
    if key in page.session_state:
        work: Work = page.session_state[key]
        assert work.ended.wait(120)
    page.run()
    assert not page.exception
    return page


def read_files(page: AppTest, files: list[tuple[str, bytes, str]]) -> AppTest:
    page.file_uploader(key="spectra-clean-files-upload").set_value(files).run()
    page.button(key=READ).click().run()
    return done(page, "clean")


def rules(page: AppTest, values: dict[str, float]) -> AppTest:
    """Rules filled in as a recipe does it, whatever widget each has."""
    page.session_state["spectra-clean-rules:fill"] = dict(values)
    return page.run()


def set_of_files(folder: Path) -> list[tuple[str, bytes, str]]:
    """The fluorimeter's four files as uploads."""
    tables.write_original(folder)
    return [(path.name, path.read_bytes(), "") for path in sorted(folder.iterdir())]


def some_table(folder: Path, n: int = 40) -> tuple[str, bytes, str]:
    path, name = written(folder, population(n))
    return name, path.read_bytes(), ""


# --- clean ------------------------------------------------------------------------------------------------------------
def test_the_fluorimeters_files_are_read_together(open_spectra: Open, tmp_path: Path) -> None:
    page = read_files(open_spectra("clean"), set_of_files(tmp_path))
    assert not page.error, [e.value for e in page.error]
    assert page.metric[0].value.endswith("of 6")
    readings = page.session_state["spectra-clean-inspection"].readings
    assert set(readings["file"]) == {"EX_277_2018.txt and 3 more"}
    assert readings["severity"].tolist() == ["OK", "OK", "OK", "VR", "CROCHET", "NC"]


def test_a_kept_set_leads_to_training_on_it(
    open_spectra: Open, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[runs.Run] = []
    monkeypatch.setattr("lib.jobs.start", started.append)
    page = read_files(open_spectra("clean"), [some_table(tmp_path)])
    assert page.metric[0].value.endswith("of 40")
    inspection = page.session_state["spectra-clean-inspection"]
    inspection.hands.append({0: False})
    page.text_input(key="spectra-clean-set-name").set_value("monday").run()
    page.button(key="spectra-clean-save").click().run()
    assert not page.exception and not page.error
    told = json.loads((bench / "data" / "spectra" / "monday" / "recipe.json").read_text())
    assert told["files"][0]["by_hand"] == {"0": False} and told["files"][0]["dropped"]["0"].startswith("dropped by hand")
    kept = TASK.read(bench / "data" / "spectra" / "monday" / "spectra.parquet", TASK.Acquisition())
    assert "000000" not in set(kept.table["sample"]) and len(kept) == 40 - len(told["files"][0]["dropped"])
    assert runs.sets("spectra") == ["monday"]

    train = open_spectra("train", data="monday")
    assert train.selectbox(key="spectra-train.data").value == "monday"
    train.selectbox(key="spectra-train:preset").set_value("PLS-DA").run()
    train.button(key="start-training").click().run()
    assert started[0].config()["data"] == "monday" and started[0].config()["model"] == "PLS-DA"


def test_a_rule_moves_the_count_and_no_view_fails(open_spectra: Open, tmp_path: Path) -> None:
    page = read_files(open_spectra("clean"), [some_table(tmp_path)])
    assert rules(page, NOTHING_DROPPED).metric[0].value == "40 of 40"
    assert rules(page, {"max_425": 0.0}).metric[0].value == "0 of 40"
    rules(page, NOTHING_DROPPED)
    pills = next(group for group in page.get("button_group") if group.key == "spectra-clean-overview-view")
    assert len(pills.options) >= 11 and "Checks" in str(pills.options)
    for number, title in enumerate(pills.options):
        page.session_state["spectra-clean-overview-view"] = number
        page.run()
        assert not page.exception and not page.error, title
        assert figures(page) or page.dataframe


def test_bad_tables_are_named_and_the_good_one_is_there(open_spectra: Open, tmp_path: Path) -> None:
    bad = {path: words for path, words in write_bad_tables(tmp_path / "odd").items() if path.stat().st_size < 2**20}
    bad.pop(tmp_path / "odd" / "of another instrument.csv")  # a good table in itself
    page = read_files(
        open_spectra("clean"), [*((path.name, path.read_bytes(), "") for path in bad), some_table(tmp_path / "good", 8)]
    )
    said = texts(page)
    assert [path.name for path, words in bad.items() if plain(path.name) not in said or plain(words) not in said] == []
    assert page.metric[0].value.endswith("of 8")


@pytest.mark.parametrize("case", tables.BAD_SETS)
def test_files_that_do_not_fit_together_are_told_and_cost_no_other(case: str, open_spectra: Open, tmp_path: Path) -> None:
    spoil, words = tables.BAD_SETS[case]
    tables.write_original(tmp_path / "set")
    spoil(tmp_path / "set")
    files = [(path.name, path.read_bytes(), "") for path in sorted((tmp_path / "set").iterdir())]
    page = read_files(open_spectra("clean"), [*files, some_table(tmp_path / "good", 8)])
    assert plain(words) in texts(page) and page.metric[0].value.endswith("of 8")


def test_tables_of_other_axes_are_not_mixed(open_spectra: Open, tmp_path: Path) -> None:
    other = tables.generic().to_csv(index=False).encode()
    page = read_files(open_spectra("clean"), [some_table(tmp_path, 8), ("other.csv", other, "")])
    assert page.metric[0].value.endswith("of 8")
    assert "other.csv" in page.error[0].value and "axes are not those of the files before it" in page.error[0].value


def upload(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    return page.file_uploader(key="spectra-clean-files-upload").set_value([(*file, "") for file in files]).run()


def press_read(page: AppTest) -> AppTest:
    page.button(key=READ).click().run()
    return done(page, "clean")


def test_columns_are_picked_from_the_table_that_was_uploaded(open_spectra: Open) -> None:
    page = open_spectra("clean")
    assert page.selectbox(key="spectra-acquisition.label").options == ["as the file suggests"]
    upload(page, ("a.csv", tables.generic().assign(brix=66.5).to_csv(index=False).encode()))
    label = page.selectbox(key="spectra-acquisition.label")
    assert label.options == ["class (suggested)", "class", "specimen", "brix", "none"]
    assert "Suggested: Group specimen · Label class · Tabular brix" in texts(page)
    label.set_value("specimen").run()
    page.multiselect(key="spectra-acquisition.group").set_value(["class"]).run()
    rows = press_read(page).session_state["spectra-clean-inspection"].samples.table
    assert rows["group"].tolist() == ["a", "b"] * 4 and rows["specimen"][0] == "s0" and rows["brix"][0] == 66.5
    assert "Given: Group class · Label specimen" in texts(page) and "Suggested: Tabular brix" in texts(page)
    page.session_state["spectra-acquisition:fill"] = {"label": "grade"}  # as a recipe does, or as it is typed in the browser
    page.run()
    assert (
        "a.csv" in press_read(page).error[0].value
        and plain("no column 'grade', which was chosen as label") in page.error[0].value
    )
    assert page.session_state["spectra-clean-inspection"].samples.table["group"][0] == "a"  # what was read is still there


def test_what_was_mended_is_told_once_for_each_file(open_spectra: Open) -> None:
    frames = [tables.generic(), tables.generic().iloc[::-1]]
    files = [(f"{k}.csv", frame.to_csv(index=False, sep=";", decimal=",").encode()) for k, frame in enumerate(frames)]
    page = press_read(upload(open_spectra("clean"), *files))
    lines = [caption.value for caption in page.caption if "comma as decimal sign" in caption.value]
    assert lines == [f":material/healing: {k}.csv: semicolons between columns; comma as decimal sign" for k in range(2)]
    french = press_read(upload(open_spectra("clean", lang="fr"), *files))
    assert "points-virgules entre les colonnes; virgule comme signe décimal" in texts(french)


def test_several_tables_are_joined_as_the_user_says(open_spectra: Open) -> None:
    brighter = tables.generic()
    brighter[brighter.columns[2:]] *= 1.5
    frames = {"instrument A.csv": tables.generic(), "instrument B.csv": brighter}
    page = upload(open_spectra("clean"), *((name, frame.to_csv(index=False).encode()) for name, frame in frames.items()))
    together = page.selectbox(key="spectra-acquisition.together")
    assert together.options == ["apart", "channels", "instruments (suggested)"] and together.value == "apart"
    together.set_value("instruments").run()
    samples = press_read(page).session_state["spectra-clean-inspection"].samples
    assert samples.table["instrument"].tolist() == ["instrument A"] * 8 + ["instrument B"] * 8
    page.selectbox(key="spectra-acquisition.together").set_value("channels").run()
    assert list(press_read(page).session_state["spectra-clean-inspection"].samples.inputs) == ["instrument A", "instrument B"]


def test_bad_tables_are_refused_in_french_on_a_french_page(open_spectra: Open, tmp_path: Path) -> None:
    bad = [path for path in write_bad_tables(tmp_path / "odd") if path.stat().st_size < 2**20 and "instrument" not in path.name]
    files = [(path.name, path.read_bytes()) for path in bad]
    good = ("bon.csv", tables.generic().to_csv(index=False).encode())
    page = press_read(upload(open_spectra("clean", lang="fr"), *files, good))
    assert page.metric[0].value.endswith("de 8") or page.metric[0].value.endswith("sur 8")
    said = texts(page)
    assert [path.name for path in bad if plain(path.name) not in said] == []
    for words in (
        "n'est pas un tableau de spectres mais un PDF",
        "'broken' à la ligne 4 de la colonne '1004.5'",
        "est un pickle",
    ):
        assert plain(words) in said
    english = {error.remedy for error in map(refusal_of, bad) if len(error.remedy.split()) > 2}
    assert len(english) > 10 and [remedy for remedy in english if plain(remedy) in said] == []


def refusal_of(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        TASK.read(path, TASK.Acquisition())
    return caught.value


def test_a_day_that_is_none_is_a_sentence(open_spectra: Open, tmp_path: Path) -> None:
    page = read_files(open_spectra("clean"), [some_table(tmp_path, 8)])
    page.text_input(key="spectra-clean-rules.measured_from").set_value("yesterday").run()
    assert not page.exception and "it is no day" in page.error[-1].value


# --- predict ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_predictions_of_a_table_beside_bad_ones(open_spectra: Open, trained: str, tmp_path: Path) -> None:
    bad = {path: words for path, words in write_bad_tables(tmp_path / "odd").items() if path.stat().st_size < 2**20}
    page = open_spectra("predict", run=trained)
    files = [some_table(tmp_path / "good", 8), *((path.name, path.read_bytes(), "") for path in bad)]
    page.file_uploader(key="spectra-predict-upload").set_value(files).run()
    page.button(key=GO).click().run()
    said = texts(done(page, "predict"))
    assert [path.name for path, words in bad.items() if plain(path.name) not in said or plain(words) not in said] == []
    table = page.session_state["spectra-predict-outcome"].table
    good = table[~table["note"].str.startswith("error: ")]
    assert len(good) == 8 and len(table) == 8 + len(bad)
    assert set(good["decision"]) <= {"pass", "taste", "reject"}
    assert np.allclose(good[["p_The rest", "p_OK"]].sum(axis=1), 1)
    assert f"8 of {len(table)} predicted" in said


@pytest.mark.slow
def test_predictions_of_the_fluorimeters_files_uploaded_together(open_spectra: Open, trained: str, tmp_path: Path) -> None:
    page = open_spectra("predict", run=trained)
    files = set_of_files(tmp_path)
    page.file_uploader(key="spectra-predict-upload").set_value(files).run()
    page.button(key=GO).click().run()
    outcome = done(page, "predict").session_state["spectra-predict-outcome"]
    assert not outcome.failures and outcome.table["sample"].astype(str).tolist() == tables.KEYS
    assert len(figures(page)) >= 3
    page.file_uploader(key="spectra-predict-upload").set_value([f for f in files if "EX_380" not in f[0]]).run()
    page.button(key=GO).click().run()
    assert plain("EX_380….txt: is missing") in texts(done(page, "predict"))


@pytest.mark.slow
def test_a_single_sample_has_its_figures_and_its_row(open_spectra: Open, trained: str, tmp_path: Path) -> None:
    page = open_spectra("predict", run=trained)
    buffer = io.BytesIO()
    tables.one_table(1, lspr=False).to_csv(buffer, index=False)
    page.file_uploader(key="spectra-predict-upload").set_value([("one.csv", buffer.getvalue(), "")]).run()
    page.button(key=GO).click().run()
    outcome = done(page, "predict").session_state["spectra-predict-outcome"]
    assert len(outcome.table) == 1 and not page.error
    assert isinstance(page.dataframe[-1].value, pd.DataFrame)


# --- results ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_sheet_says_that_its_data_are_simulated(open_spectra: Open, trained: str) -> None:
    from lib import sheet

    sheet.build(next(run for run in runs.list_runs("spectra") if run.id == trained))
    page = open_spectra("results", run=trained)
    assert not page.exception and not page.error
    tables_shown = " ".join(frame.value.to_csv() for frame in [*page.dataframe, *page.table])
    assert "SIMULATED DATA" in tables_shown and "no certifiable cut-off" in tables_shown
