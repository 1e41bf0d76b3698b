"""Where the network looked, for any image of a prediction: worked out when it is asked for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib import runs, serve, tasks
from lib.predict import MOST_EXPLAINED
from lib.task import InputError, Picture, Samples
from lib.tasks.reflectance import demo
from lib.tasks.reflectance.config import CHANNELS
from lib.ui.files import Source
from lib.ui.predict import Outcome, samples_behind
from tests.pages.fake_worker import Here

N = MOST_EXPLAINED + 4


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Some images more than a prediction explains by itself, predicted by the shipped model."""
    task, images = tasks.get("reflectance"), tmp_path_factory.mktemp("images")
    task.write(demo.load(N // 3 + 1).take(np.arange(N)).with_columns(image=""), images)
    folder = tempfile.TemporaryDirectory(dir=images)
    run = runs.default_model("reflectance")
    files = [{"path": str(path), "name": path.name} for path in sorted(images.glob("*.png"))]
    asked = {"task": "reflectance", "run": run.id, "files": files, "acquisition": {}, "output": folder.name}
    assert Here().request("predict", asked)["n"] == N
    table = pd.read_csv(Path(folder.name) / "predictions.csv", dtype={"note": str})
    return Outcome(Source("", (), ()), run, "", folder, table, [], [], [], [], 0.0, "")


def ask(outcome: Outcome, rows: list[int]) -> dict[str, Any]:
    payload = {"task": "reflectance", "run": outcome.run.id, "folder": outcome.folder.name, "rows": rows}
    columns: dict[str, Any] = Here().request("explain", payload)["columns"]
    return columns


def test_an_image_beyond_the_first_is_explained_when_asked_for(outcome: Outcome) -> None:
    kept = Samples.load(Path(outcome.folder.name) / "samples").table["influence"]
    assert kept.notna().sum() == MOST_EXPLAINED and kept.iloc[-1] is None
    late, first = ask(outcome, [N - 1, N - 2])["influence"], ask(outcome, [0]).get("influence", [kept.iloc[0]])
    assert [len(one) for one in late] == [16 * len(CHANNELS)] * 2 and late[0] != late[1]
    np.testing.assert_allclose(first[0], kept.iloc[0], atol=1e-5)  # the same as with the prediction


def test_the_page_shows_where_it_looked_for_any_row(outcome: Outcome) -> None:
    panels = samples_behind(tasks.get("reflectance"), Here(), outcome, [N - 1])
    assert isinstance(panels[0].content, Picture) and "where it looked for UV, 740, 940" in panels[0].explanation


def test_what_was_not_measured_is_no_row_of_numbers(outcome: Outcome) -> None:
    task, samples = tasks.get("reflectance"), Samples.load(Path(outcome.folder.name) / "samples").take([0, 1])
    measured = samples.with_columns(**{f"true_{channel}": [np.nan, np.nan] for channel in CHANNELS} | {"true_B": [0.25, np.nan]})
    table = task.behind_panels(outcome.table.iloc[:2], measured)[-1].content
    assert isinstance(table, pd.DataFrame) and list(table[""]) == ["predicted (%)", "measured (%)", "predicted (%)"]
    assert table["B"].iloc[1] == "25.0" and table["UV"].iloc[1] == "–"


def test_a_model_that_is_gone_is_a_sentence(outcome: Outcome) -> None:
    gone = {"task": "reflectance", "run": "gone", "folder": outcome.folder.name, "rows": [0]}
    with pytest.raises(InputError, match="there is no such run"):
        serve.OPERATIONS["explain"](gone, lambda _share, _text: None)
