"""Files to values: order, bad files, notes, and what is written."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib import model as models
from lib import predict, runs
from lib.model import Model
from lib.task import Config, InputError, Panel, Samples, Task


@pytest.fixture
def model(toy: Task) -> Model:
    """An untrained toy model: what it predicts does not matter here, only that it is the same each time."""
    config = toy.Training()
    run = runs.create("toy", config.model_dump(mode="json"), name="shipped-toy")
    models.save_weights(run, toy.network(config))
    return models.load(run, toy)


def write(folder: Path, name: str, readings: np.ndarray) -> tuple[Path, str]:
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir())):05d}.npy"
    np.save(path, readings.astype(np.float32))
    return path, name


def readings(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 8))


def broken(folder: Path, name: str) -> tuple[Path, str]:
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir())):05d}.npy"
    path.write_bytes(b"no array")
    return path, name


def test_rows_are_in_the_order_of_the_files_and_bad_ones_among_them(model: Model, tmp_path: Path):
    folder = tmp_path / "in"
    files = [
        write(folder, "b", readings(1)),
        broken(folder, "bad, 'quoted' ü"),
        write(folder, "a", readings(2)),
        broken(folder, "z"),
    ]
    result = predict.predict_files(model, files, model.task.Acquisition())
    assert tuple(result.table.columns) == model.task.prediction_columns()
    assert result.table["file"].tolist() == ["b", "bad, 'quoted' ü", "a", "a", "z"]
    assert result.predicted.tolist() == [True, False, True, True, False]
    assert result.table["mean_v"].isna().tolist() == [False, True, False, False, True]
    assert result.table["note"][1].startswith("error: it is not a NumPy .npy file. Save it")
    assert [name for name, _ in result.failures] == ["bad, 'quoted' ü", "z"]
    assert result.samples is not None
    assert len(result.samples) == 3


def test_values_do_not_depend_on_the_files_beside_them(model: Model, tmp_path: Path):
    files = [write(tmp_path / "in", f"{i}", readings(1, seed=i)) for i in range(150)]
    together = predict.predict_files(model, files, model.task.Acquisition()).table
    for i in (0, 63, 64, 149):
        alone = predict.predict_files(model, files[i : i + 1], model.task.Acquisition()).table
        assert alone["mean_v"][0] == pytest.approx(together["mean_v"][i], rel=1e-6)
        assert alone["median_v"][0] == together["median_v"][i]


def test_settings_reach_the_reader_and_its_notes_the_table(model: Model, tmp_path: Path):
    files = [write(tmp_path / "in", "x", readings(1))]
    estimated = predict.predict_files(model, files, model.task.Acquisition()).table
    given = predict.predict_files(model, files, model.task.Acquisition(offset_v=1.0)).table
    assert estimated["note"].tolist() == ["offset taken as 0"]
    assert given["note"].tolist() == [""]
    assert given["median_v"][0] == pytest.approx(estimated["median_v"][0] - 1, abs=1e-6)


def test_two_files_of_one_name_stay_two_rows(model: Model, tmp_path: Path):
    files = [write(tmp_path / "in", "same", readings(1, seed)) for seed in (1, 2)]
    table = predict.predict_files(model, files, model.task.Acquisition()).table
    assert table["file"].tolist() == ["same", "same"]
    assert table["median_v"].nunique() == 2


@pytest.mark.parametrize(("error", "told"), [(KeyError("x"), "internal error, see the log"), (MemoryError(), "more memory")])
def test_a_reader_that_breaks_stops_nothing_and_shows_no_traceback(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, told: str
):
    read = model.task.read

    def sometimes(path: Path, acquisition: Config, name: str = "") -> Samples:
        if name == "bad":
            raise error
        return read(path, acquisition, name)

    monkeypatch.setattr(model.task, "read", sometimes)
    files = [write(tmp_path / "in", name, readings(1)) for name in ("one", "bad", "two")]
    result = predict.predict_files(model, files, model.task.Acquisition())
    assert result.predicted.tolist() == [True, False, True]
    assert told in result.table["note"][1]
    assert "Traceback" not in result.table["note"][1]
    assert caplog.records[0].exc_info is not None


def test_samples_that_the_model_cannot_take_do_not_stop_those_beside_them(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    baselines = model.task.baselines

    def picky(samples: Samples) -> pd.DataFrame:
        if (samples.inputs["readings"] > 100).any():
            raise FloatingPointError("too large")
        return baselines(samples)

    monkeypatch.setattr(model.task, "baselines", picky)
    files = [write(tmp_path / "in", str(i), readings(1) + (1000 if i == 3 else 0)) for i in range(6)]
    result = predict.predict_files(model, files, model.task.Acquisition())
    assert result.predicted.tolist() == [True, True, True, False, True, True]
    assert "could not be predicted" in result.table["note"][3]


def test_files_that_could_not_be_opened_come_last(model: Model, tmp_path: Path):
    files = [write(tmp_path / "in", "good", readings(1))]
    result = predict.predict_files(model, files, model.task.Acquisition(), unopened=[("a.zip", "the archive is empty. Fill it.")])
    assert result.table["file"].tolist() == ["good", "a.zip"]
    assert result.table["note"][1] == "error: the archive is empty. Fill it."
    assert result.failures == [("a.zip", "the archive is empty. Fill it.")]


@pytest.mark.parametrize("n_bad", [0, 2])
def test_nothing_good_gives_an_empty_table_with_all_columns(model: Model, tmp_path: Path, n_bad: int):
    files = [broken(tmp_path / "in", "bad") for _ in range(n_bad)]
    result = predict.predict_files(model, files, model.task.Acquisition())
    assert tuple(result.table.columns) == model.task.prediction_columns()
    assert len(result.table) == n_bad
    assert result.samples is None
    predict.save(result, tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == n_bad


def test_progress_rises_to_one(model: Model, tmp_path: Path):
    files = [write(tmp_path / "in", f"file-{i}", readings(1)) for i in range(130)]
    seen: list[tuple[float, str]] = []
    predict.predict_files(model, files, model.task.Acquisition(), lambda fraction, text: seen.append((fraction, text)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert len(fractions) >= 3
    assert fractions[-1] == 1
    assert "130 of 130: file-129" in seen[-1][1]


def test_progress_inside_a_file_of_many_samples_is_told(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read = type(model.task).read

    def slowly(task: Any, path: Path, acquisition: Any, display_name: str = "") -> Samples:
        for k in range(4):
            task.report(k / 4, f"{k + 1} of 4 pages")
        return read(task, path, acquisition, display_name)

    monkeypatch.setattr(type(model.task), "read", slowly)
    monkeypatch.setattr(type(model.task), "parts", lambda _task, samples: samples)
    monkeypatch.setattr(
        type(model.task), "whole", lambda _task, judged, samples: (judged, pd.DataFrame({"of": range(len(samples))}))
    )
    seen: list[tuple[float, str]] = []
    files = [write(tmp_path / "in", "first", readings(40)), write(tmp_path / "in", "second", readings(40))]
    predict.predict_files(model, files, model.task.Acquisition(), lambda fraction, text: seen.append((fraction, text)))
    fractions, texts = [fraction for fraction, _ in seen], [text for _, text in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert texts.count("3 of 4 pages") == 2 and any(text.startswith("32 of 80") for text in texts)


def test_why_is_told_of_the_first_samples_and_its_failure_costs_no_number(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = [write(tmp_path / "in", "x", readings(3))]
    monkeypatch.setattr(type(model.task), "explain", lambda _task, _network, samples, most: samples.with_columns(most=most))
    samples = predict.predict_files(model, files, model.task.Acquisition()).samples
    assert samples is not None and set(samples.table["most"]) == {predict.MOST_EXPLAINED}
    monkeypatch.setattr(type(model.task), "explain", lambda *_: 1 / 0)
    assert len(predict.predict_files(model, files, model.task.Acquisition()).table) == 3


def test_the_csv_reads_back_exactly(model: Model, tmp_path: Path):
    files = [write(tmp_path / "in", "ünï, \"q\" 'x'", readings(3))]
    result = predict.predict_files(model, files, model.task.Acquisition())
    written = predict.save(result, tmp_path / "new" / "out")
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(path.name for path in written)
    back = pd.read_csv(tmp_path / "new" / "out" / "predictions.csv", encoding="utf-8")
    assert back["file"].tolist() == result.table["file"].tolist()
    assert back["mean_v"].astype(np.float32).tolist() == result.table["mean_v"].tolist()


def test_the_page_stands_alone_and_names_its_origin(model: Model, tmp_path: Path):
    files = [write(tmp_path / "in", "<script>alert(1)</script>.npy", readings(1)), broken(tmp_path / "in", "bad & worse")]
    result = predict.predict_files(model, files, model.task.Acquisition(offset_v=0.5))
    predict.save(result, tmp_path / "out")
    page = (tmp_path / "out" / "figures.html").read_text(encoding="utf-8")
    outside = page.replace(re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1], "")  # type: ignore[index]
    assert "<script src" not in page
    assert "<link" not in outside
    assert page.count("plotly.js v") == 1
    assert "<script>alert(1)" not in page
    assert html.escape("<script>alert(1)</script>.npy") in page
    assert "bad &amp; worse" in page
    for expected in ("toy/shipped-toy", "offset_v = 0.5", "Means", "Predicted mean of each row, in V."):
        assert expected in page
    panels = [Panel.from_json(panel) for panel in json.loads((tmp_path / "out" / "panels.json").read_text(encoding="utf-8"))]
    assert [panel.key for panel in panels] == ["means"]


def test_figures_that_fail_do_not_cost_the_numbers(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(table: pd.DataFrame, samples: Samples) -> list[Panel]:
        raise ZeroDivisionError

    monkeypatch.setattr(model.task, "prediction_panels", fails)
    result = predict.predict_files(model, [write(tmp_path / "in", "x", readings(1))], model.task.Acquisition())
    predict.save(result, tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 1
    assert "could not be drawn" in (tmp_path / "out" / "figures.html").read_text(encoding="utf-8")


def test_an_output_that_cannot_be_written_is_told(model: Model, tmp_path: Path):
    result = predict.predict_files(model, [write(tmp_path / "in", "x", readings(1))], model.task.Acquisition())
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"cannot be written"):
        predict.save(result, tmp_path / "taken")


def test_files_predicted_together_teach_what_they_share_and_few_files_do_not(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task learns from the set is in the settings and in every sample's note; a typed value is not asked again."""
    asked: list[int] = []

    def learn(self: Task, samples: Samples, acquisition: Config) -> tuple[Config, str]:
        asked.append(len(samples))
        return acquisition.model_copy(update={"offset_v": 0.25}), "offset from the set"

    monkeypatch.setattr(type(model.task), "learn", learn)
    files = [write(tmp_path / "in", f"{i}", readings(1, i)) for i in range(predict.LEARN_FROM)]
    together = predict.predict_files(model, [*files, broken(tmp_path / "in", "bad")], model.task.Acquisition())
    assert asked == [predict.LEARN_FROM]
    assert together.settings["offset_v"] == 0.25
    assert together.table["note"][together.predicted].str.contains("offset from the set").all()
    predict.predict_files(model, files[:2], model.task.Acquisition())
    assert len(asked) == 1
