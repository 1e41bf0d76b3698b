"""Results and Predict of `spectra`: spectra behind rows and points, another promise, all folds joined, the name of an export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lib import runs, train
from lib.runs import Run
from lib.sheet import build
from tests.pages.conftest import figures, texts
from tests.spectra.test_task import population, tiny, written

pytestmark = pytest.mark.usefixtures("bench")
Open = Callable[..., AppTest]
FOLDS = 2
SPECTRA = ["##### Spectra, excitation 277 nm", "##### Spectra, excitation 380 nm", "##### Spectra, excitation 425 nm"]


@pytest.fixture(scope="module")
def folds(bench: Path) -> list[Run]:
    """Two finished folds with their sheets."""
    made = []
    for k in range(FOLDS):
        run = runs.create("spectra", tiny(simulated_samples=700, n_splits=FOLDS, current_split=k), f"fold {k}")
        assert train.fit(run).state == "done", run.log()
        build(run)
        made.append(run)
    return made


def pick(page: AppTest, key: str, row: int) -> AppTest:
    """Tick a row of a table."""
    page.session_state[key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return page.run()


def press(page: AppTest, key: str, place: int) -> AppTest:
    """Press a point of a figure."""
    selection: dict[str, Any] = {"points": [{"customdata": [place]}], "point_indices": [place], "box": [], "lasso": []}
    page.session_state[key] = {"selection": selection}
    return page.run()


def headings(page: AppTest) -> list[str]:
    return [element.value for element in page.markdown if element.value.startswith("#####")]


# --- results ----------------------------------------------------------------------------------------------------------
def test_a_row_of_the_errors_opens_the_spectra_behind_it(open_spectra: Open, folds: list[Run]) -> None:
    page = open_spectra("results", run=folds[0].id)
    assert not page.exception and not set(SPECTRA) & set(headings(page))
    pick(page, f"sheet-{folds[0].id}-errors", 0)
    assert not page.exception and not page.error
    assert [title for title in headings(page) if title in SPECTRA] == SPECTRA


def test_a_run_that_kept_no_spectra_says_so(open_spectra: Open, folds: list[Run]) -> None:
    kept, away = folds[0].folder / "test_samples", folds[0].folder / "elsewhere"
    kept.rename(away)
    try:
        page = pick(open_spectra("results", run=folds[0].id), f"sheet-{folds[0].id}-errors", 0)
        assert "is not kept here" in texts(page) and not set(SPECTRA) & set(headings(page))
    finally:
        away.rename(kept)


def test_the_table_of_runs_has_the_name_of_the_export(open_spectra: Open, folds: list[Run]) -> None:
    table = open_spectra("results", run=folds[0].id).dataframe[0].value
    names = dict(zip(table["run"], table["exported as"], strict=True))
    assert names["fold 1"] == "PLS-DA y=['OVA', 'OK'] c=('277', '380', '425') t=None 1-2 s=0 eps=0.0"


def test_another_promise_is_made_of_a_form_and_shown(open_spectra: Open, folds: list[Run]) -> None:
    page = open_spectra("results", run=folds[1].id)
    page.selectbox(key=f"promise-{folds[1].id}.policy").set_value("recall")
    page.button(key=f"promise-go-{folds[1].id}").click().run()
    assert not page.exception and not page.error, [e.value for e in page.error]
    shown = page.query_params["run"]
    made = runs.find(shown[0] if isinstance(shown, list) else shown, "spectra")
    assert made.about()["promised_anew"] == folds[1].id and made.facts()["policy"] == "recall"
    assert page.subheader[0].value == made.name
    runs.delete(made)


def test_all_folds_are_joined_and_shown(open_spectra: Open, folds: list[Run]) -> None:
    page = open_spectra("results", run=",".join(run.id for run in folds))
    page.button(key="join-folds").click().run()
    assert not page.exception and not page.error, [e.value for e in page.error]
    assert page.subheader[0].value == "all 2 folds of fold 0"
    assert "predicted by the model of the fold that did not see it" in texts(page)
    again = open_spectra("results", run=f"{folds[0].id},{runs.list_runs('spectra')[0].id}")
    again.button(key="join-folds").click().run()
    assert "joint sheet itself" in "".join(error.value for error in again.error)


# --- predict ----------------------------------------------------------------------------------------------------------
def predicted(page: AppTest, folder: Path, n: int) -> AppTest:
    path, name = written(folder, population(n))
    page.file_uploader(key="spectra-predict-upload").set_value([(name, path.read_bytes(), "")]).run()
    page.button(key="spectra-predict-go").click().run()
    if "spectra-predict-work" in page.session_state:  # a quick one has ended, and is gone
        assert page.session_state["spectra-predict-work"].ended.wait(120)
    page.run()
    assert not page.exception and not page.error, [e.value for e in page.error]
    return page


def test_one_sample_is_told_at_a_glance(open_spectra: Open, folds: list[Run], tmp_path: Path) -> None:
    page = predicted(open_spectra("predict", run=folds[0].id), tmp_path, 1)
    row = page.session_state["spectra-predict-outcome"].table.iloc[0]
    values = [element.value for element in page.header]
    assert [values[0], *values[2:]] == [row["predicted"], row["prediction_set"].replace("|", "\\|"), row["decision"]]
    assert values[1] == f"{100 * row['p_' + row['predicted']]:.1f} %"
    assert "at least 92.5 % are right" in texts(page)


def test_a_row_or_a_point_of_a_prediction_opens_its_spectra(open_spectra: Open, folds: list[Run], tmp_path: Path) -> None:
    page = predicted(open_spectra("predict", run=folds[0].id), tmp_path, 12)
    before = len(figures(page))
    pick(page, "spectra-predict-table-pick", 3)
    assert not page.exception and len(figures(page)) == before + 4  # the table has LSPR too
    press(page, "spectra-predict-panels-domain", 5)
    assert not page.exception and len(figures(page)) == before + 8
    outcome = page.session_state["spectra-predict-outcome"]
    panel = next(panel for panel in outcome.panels if panel.key == "domain")
    drawn = figures(page)
    name = outcome.table["sample"].iloc[panel.behind[5][0]]
    assert sum(f"{name}: " in figure for figure in drawn) >= 3
