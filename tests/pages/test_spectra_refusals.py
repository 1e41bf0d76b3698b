"""What a table cannot be used for, as the pages of `spectra` say it: before a training, after it has failed, at prediction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from lib import runs, train
from lib.runs import Run
from lib.tasks.spectra import TASK
from lib.ui.context import plain
from tests.pages.conftest import texts
from tests.spectra import bad_tables as tables
from tests.spectra.test_task import BAD_TRAININGS, NOTHING_DROPPED, tiny

pytestmark = pytest.mark.usefixtures("bench")
Open = Callable[..., AppTest]
SAID_IN_FRENCH = {
    "one class only": "il ne reste qu'une classe, a",
    "a class with one member": "chacune a moins de 5 groupes, un pour chaque pli",
    "no label": "aucun échantillon n'a d'étiquette",
    "no such tabular column": "n'a pas de colonne 'brix'",
}


def ended(page: AppTest, stage: str) -> AppTest:
    """The page after its request has ended."""
    key = f"spectra-{stage}-work"
    if key in page.session_state:
        assert page.session_state[key].ended.wait(120)
    page.run()
    assert not page.exception
    return page


def csv(frame: pd.DataFrame, **how: Any) -> bytes:
    return frame.to_csv(index=False, **how).encode()


# --- train ------------------------------------------------------------------------------------------------------------
def settings_on(case: str, bench: Path) -> dict[str, Any]:
    """Training settings on a kept set that cannot be trained on, with the values that make it so."""
    columns, options, _ = BAD_TRAININGS[case]
    folder = bench / "data" / "spectra" / case
    folder.mkdir(parents=True, exist_ok=True)
    frame = tables.generic(24).assign(**{"specimen": [f"s{k}" for k in range(24)], **columns})
    frame.to_csv(folder / "table.csv", index=False)
    return tiny(**{"data": case, "column": "class", "kind": "AVA", "of": "class", "channels": [], **options})


def train_page(open_spectra: Open, case: str, bench: Path, **params: str) -> AppTest:
    page = open_spectra("train", **params)
    page.session_state["spectra-train:fill"] = settings_on(case, bench)
    page.run()
    assert not page.exception
    return page


@pytest.mark.parametrize("case", BAD_TRAININGS)
def test_a_look_at_the_data_says_why_they_cannot_be_learnt(case: str, open_spectra: Open, bench: Path) -> None:
    page = train_page(open_spectra, case, bench)
    page.button(key="spectra-train-preview-button").click().run()
    assert not page.exception
    assert plain(BAD_TRAININGS[case][2]) in texts(page) or BAD_TRAININGS[case][2] in texts(page)


@pytest.mark.parametrize("case", ["one class only", "a class with one member"])
def test_a_training_that_could_not_be_says_why_on_its_page(
    case: str, open_spectra: Open, bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.jobs.start", train.fit)
    page = train_page(open_spectra, case, bench)
    page.button(key="start-training").click().run()
    assert not page.exception
    run = max(runs.list_runs("spectra"), key=lambda run: run.id)
    assert run.status().state == "failed" and (bench / "data" / "spectra" / case / "table.csv").exists()
    assert plain(BAD_TRAININGS[case][2]) in "".join(error.value for error in page.error)
    assert "Traceback" not in texts(page), "its log has the sentence too, and no more"
    runs.delete(run)


@pytest.mark.parametrize("case", SAID_IN_FRENCH)
def test_why_is_said_in_french(case: str, open_spectra: Open, bench: Path) -> None:
    page = train_page(open_spectra, case, bench, lang="fr")
    page.button(key="spectra-train-preview-button").click().run()
    assert plain(SAID_IN_FRENCH[case]) in texts(page) or SAID_IN_FRENCH[case] in texts(page)


# --- predict ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def with_brix(bench: Path) -> Run:
    """A network that takes a tabular value, trained on classes a and b."""
    path = bench / "with brix.csv"
    tables.generic(60).assign(brix=np.arange(60) + 0.5, specimen=[f"s{k}" for k in range(60)]).to_csv(path, index=False)
    asked = {"data": str(path), "column": "class", "kind": "AVA", "of": "class", "channels": [], "tabular": ["brix"]}
    run = runs.create("spectra", tiny(**asked, model="compact CNN", width=4), "with brix")
    assert train.fit(run).state == "done", run.log()
    return run


def predict_page(page: AppTest, **files: pd.DataFrame) -> AppTest:
    uploads = [(f"{name}.csv", csv(frame), "") for name, frame in files.items()]
    page.file_uploader(key="spectra-predict-upload").set_value(uploads).run()
    page.button(key="spectra-predict-go").click().run()
    return ended(page, "predict")


@pytest.mark.slow
def test_labels_that_the_model_does_not_know_are_noted_and_predicted(open_spectra: Open, with_brix: Run) -> None:
    new = tables.generic(4).assign(brix=1.5, **{"class": ["a", "c", "", "b"]})
    page = predict_page(open_spectra("predict", run=with_brix.id), new=new)
    assert not page.error
    table = page.session_state["spectra-predict-outcome"].table
    assert set(table["predicted"]) <= {"a", "b"}
    assert table["note"].str.contains("class not known to the model").tolist() == [False, True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize(("language", "said"), [
    ("en", "lacks the column 'brix', which this model takes beside the spectra"),
    ("fr", "n'a pas la colonne 'brix', que ce modèle prend à côté des spectres"),
])  # fmt: skip
def test_a_table_without_a_tabular_column_is_named_beside_a_good_one(
    open_spectra: Open, with_brix: Run, language: str, said: str
) -> None:
    good = tables.generic(4).assign(brix=1.5)
    page = predict_page(open_spectra("predict", run=with_brix.id, lang=language), good=good, without=good.drop(columns="brix"))
    assert plain("without.csv") in texts(page) and plain(said) in texts(page)
    table = page.session_state["spectra-predict-outcome"].table
    assert table["predicted"].notna().sum() == 4 and len(table) == 5


# --- clean ------------------------------------------------------------------------------------------------------------
def clean_page(open_spectra: Open, files: dict[str, bytes]) -> AppTest:
    page = open_spectra("clean")
    page.file_uploader(key="spectra-clean-files-upload").set_value([(*file, "") for file in files.items()]).run()
    page.button(key="spectra-clean-read").click().run()
    return ended(page, "clean")


def test_two_million_columns_are_refused(open_spectra: Open, tmp_path: Path) -> None:
    tables.two_million_columns(tmp_path / "wide.csv")
    page = clean_page(open_spectra, {"wide.csv": (tmp_path / "wide.csv").read_bytes(), "good.csv": csv(tables.generic())})
    assert "columns in its first line" in texts(page) and page.metric[0].value.endswith("of 8")


def test_a_table_in_french_excel_is_read_as_the_plain_one(open_spectra: Open) -> None:
    frame = tables.one_table(lspr=False).rename(columns={"greffon_limpidite": "limpidité"})
    text = frame.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")
    contents = {"plain.csv": csv(frame), "french.csv": text.encode("cp1252"), "marked.csv": text.encode("utf-8-sig")}
    read = {}
    for name, content in contents.items():
        page = clean_page(open_spectra, {name: content})
        assert not page.error
        read[name] = page.session_state["spectra-clean-inspection"].samples
    for name in ("french.csv", "marked.csv"):
        pd.testing.assert_frame_equal(
            read[name].table.drop(columns=["file", "note"]), read["plain.csv"].table.drop(columns=["file", "note"])
        )
        assert all(np.array_equal(values, read["plain.csv"].inputs[key]) for key, values in read[name].inputs.items())


def test_negative_saturated_and_constant_spectra_are_flagged_and_kept_on_request(open_spectra: Open) -> None:
    frame = tables.one_table(6, lspr=False)
    points = [name for name in frame if name.startswith("277_")]
    frame.loc[0, points[:150]] = -50.0
    frame.loc[1, points] = np.minimum(frame.loc[1, points].astype(float), 0.5 * frame.loc[1, points].astype(float).max())
    frame.loc[2, [name for name in frame if name[:4] in ("277_", "380_", "425_")]] = 12.0
    page = clean_page(open_spectra, {"odd.csv": csv(frame)})
    page.session_state["spectra-clean-rules:fill"] = dict(NOTHING_DROPPED)
    page.run()
    inspection = page.session_state["spectra-clean-inspection"]
    flags = TASK.flag(inspection.readings, TASK.Rules.parse(NOTHING_DROPPED))
    assert flags["max_negative_percent"].tolist() == [True] + [False] * 5
    assert flags["max_saturated_points"][1] and not flags["max_saturated_points"][[0, 3, 4, 5]].any()
    assert len(inspection.samples) == 6 and page.metric[0].value.endswith("of 6")
    lax = {"max_negative_percent": 100.0, "max_saturated_points": 10_000}
    page.session_state["spectra-clean-rules:fill"] = NOTHING_DROPPED | lax
    assert page.run().metric[0].value == "6 of 6"
