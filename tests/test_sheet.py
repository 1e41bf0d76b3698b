"""The result sheet: right numbers with honest intervals, where they come from, and pages that stand alone."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import model as models
from lib import report, runs, sheet
from lib.runs import Run
from lib.task import InputError, Panel, Task


def finished(toy: Task, n: int = 60, error_v: float = 0.5, name: str = "a 'good' <run>", group: str | None = None) -> Run:
    """A run as a training leaves it, with predictions that are off by a known spread."""
    config = toy.Training(epochs=3, learning_rate=0.02, n_train=32)
    run = runs.create("toy", config.model_dump(mode="json"), name=name)
    models.save_weights(run, toy.network(config))
    samples = toy.simulate(toy.Simulation(), n, np.random.default_rng(1))
    truth = toy.truth(samples)
    predicted = truth + np.random.default_rng(2).normal(scale=error_v, size=(n, 1))
    table = pd.concat([samples.table, toy.baselines(samples)], axis=1)
    if group is not None:
        table["group"] = group
    parts = {"predicted": predicted, "true": truth, "sample": table}
    pd.concat([part.add_prefix(f"{key}.") for key, part in parts.items()], axis=1).to_parquet(
        run.folder / "test_predictions.parquet"
    )
    history = {"epoch": [1, 2, 3], "train_loss": [3, 2, 1], "validation_loss": [3, 1, 2], "rmse_v": [0.9, 0.5, 0.6]}
    pd.DataFrame(history).to_csv(run.folder / "metrics.csv", index=False)
    run.set_status(
        state="done", epoch=3, started_at=1000.0, finished_at=1090.0, best_epoch=2, best_value=0.5, metric="rmse_v", unit="V"
    )
    return run


def test_the_figures_are_the_tasks_score_of_the_test_samples(toy: Task):
    run = finished(toy)
    built = sheet.build(run)
    table = run.test_predictions()
    assert table is not None
    expected = float(np.sqrt(np.mean((table["predicted.mean_v"] - table["true.mean_v"]) ** 2)))
    first = built["metrics"][0]
    assert (first["name"], first["unit"]) == ("rmse_v", "V")
    assert first["value"] == pytest.approx(expected)
    assert first["low"] < first["value"] < first["high"]
    assert built == run.sheet()


def test_intervals_are_the_same_every_time_and_as_wide_as_theory_says(toy: Task):
    n, error_v = 400, 0.5
    run = finished(toy, n=n, error_v=error_v)
    one, two = sheet.build(run)["metrics"], sheet.build(run)["metrics"]
    assert one == two
    bias = next(metric for metric in one if metric["name"] == "bias_v")
    assert bias["high"] - bias["low"] == pytest.approx(2 * 1.96 * error_v / math.sqrt(n), rel=0.25)


def test_samples_of_a_group_are_drawn_together(toy: Task):
    """Groups, each off by its own value: samples within say nothing new, so the interval is wide."""
    n = 20 * runs.FEWEST_UNITS
    truth = pd.DataFrame({"mean_v": np.zeros(n)})
    group = pd.Series(np.arange(n) // 20)
    predicted = pd.DataFrame({"mean_v": np.repeat(np.linspace(-1, 1, runs.FEWEST_UNITS), 20)})
    alone = {m["name"]: m["high"] - m["low"] for m in sheet.metrics(toy, predicted, truth)}
    grouped = {m["name"]: m["high"] - m["low"] for m in sheet.metrics(toy, predicted, truth, group)}
    assert grouped["bias_v"] > 2.5 * alone["bias_v"]


def test_groups_are_those_of_the_test_samples(toy: Task):
    """All samples in one group: there is nothing to draw from, so no interval is claimed."""
    run = finished(toy, group="one molecule")
    built = sheet.build(run)
    assert [(metric["low"], metric["high"]) for metric in built["metrics"]] == [(None, None)] * 2
    told = "60 samples, 1 of them independent: too few for 95 % intervals"
    assert told in sheet.html(run) and f"Tested on {told}." in (run.folder / "model_card.md").read_text()


@pytest.mark.parametrize("more", [0, -1])
def test_few_groups_have_no_interval_not_even_the_tasks_own(toy: Task, more: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(toy), "intervals", lambda *_: {"bias_v": (-1.0, 1.0)})
    n = runs.FEWEST_UNITS + more
    group = pd.Series(np.repeat(np.arange(n), 3))
    truth = pd.DataFrame({"mean_v": np.zeros(3 * n)})
    predicted = truth + np.random.default_rng(0).normal(size=truth.shape)
    found = {metric["name"]: metric["low"] is not None for metric in sheet.metrics(toy, predicted, truth, group)}
    assert found == dict.fromkeys(("rmse_v", "bias_v"), more == 0)


def test_the_time_a_run_lay_still_is_not_time_of_training(toy: Task):
    run = finished(toy)
    run.set_status(paused_s=30.0)
    assert sheet.build(run)["provenance"]["seconds"] == 60


def test_a_model_fitted_in_one_go_shows_no_curves_of_training(toy: Task):
    run = finished(toy)
    run.metrics().head(1).to_csv(run.folder / "metrics.csv", index=False)
    run.set_status(epoch=1, best_epoch=1)
    built = sheet.build(run)
    assert [panel["key"] for panel in built["panels"]] == ["scatter", "baselines"]
    assert built["provenance"]["epochs"] == 1 and ", 1 epoch in 90 s" in sheet.html(run)


def test_why_the_losses_differ_stands_under_their_curves(toy: Task, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(toy), "loss_note", "Validation is harder.")
    told = {panel["key"]: panel["explanation"] for panel in sheet.build(finished(toy))["panels"]}
    assert told["loss-curves"].endswith("whose weights were kept. Validation is harder.")


@pytest.mark.parametrize(("own", "shown"), [((-0.5, 0.25), (-0.5, 0.25)), ((float("nan"), float("nan")), (None, None))])
def test_an_interval_of_the_tasks_own_takes_the_bootstraps_place(toy: Task, own, shown, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(toy), "intervals", lambda *_: {"bias_v": own})
    metrics = {metric["name"]: metric for metric in sheet.build(finished(toy))["metrics"]}
    bias = metrics.pop("bias_v")
    assert (bias["low"], bias["high"]) == shown
    assert all(metric["low"] < metric["high"] for metric in metrics.values())


def test_one_test_sample_has_no_interval(toy: Task):
    value = pd.DataFrame({"mean_v": [1.0]})
    assert sheet.metrics(toy, value, value)[0]["low"] is None


def test_the_sheet_shows_the_tasks_panels_then_the_curves_with_the_best_epoch(toy: Task):
    panels = {panel["key"]: Panel.from_json(panel) for panel in sheet.build(finished(toy))["panels"]}
    assert list(panels) == ["scatter", "baselines", "loss-curves", "score-curve"]
    loss = panels["loss-curves"].content
    assert [trace.name for trace in loss.data] == ["train", "validation"]
    assert loss.layout.shapes[0].x0 == 2


def test_the_sheet_tells_where_the_model_comes_from(toy: Task):
    run = finished(toy)
    made = sheet.build(run)["provenance"]
    assert made["seed"] == 0
    assert made["test_samples"] == 60
    assert made["seconds"] == 90
    assert made["data"] == {"n_train": 32, "n_test": 48, "data_file": ""}
    assert made["config"] == run.config()
    assert {"lightbench", "torch", "numpy", "python"} <= set(made["versions"])
    assert "Neither training nor" in made["unseen"]


def test_the_command_makes_the_same_settings_again(toy: Task):
    run = finished(toy)
    words = shlex.split(sheet.build(run)["provenance"]["command"])
    assert words[:5] == ["python", "-m", "lib", "train", "toy"]
    pairs = [words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "--set"]
    assert toy.Training.parse(dict(pairs)).model_dump(mode="json") == run.config()
    assert words[words.index("--name") + 1] == run.name


def test_a_score_that_is_no_number_becomes_null(toy: Task, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(toy, "score", lambda predicted, truth: {"rmse_v": 1.0, "nothing_v": float("nan")})
    run = finished(toy)
    sheet.build(run)
    text = (run.folder / "sheet.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["metrics"][1]["value"] is None
    assert "nothing_v" in sheet.html(run)


def test_a_run_without_test_predictions_has_no_sheet(toy: Task):
    run = runs.create("toy", toy.Training().model_dump(mode="json"))
    for make in (sheet.build, sheet.html):
        with pytest.raises(InputError, match="no test predictions yet"):
            make(run)
    assert run.sheet() is None


def test_the_model_card_has_its_chapters(toy: Task):
    run = finished(toy)
    built = sheet.build(run)
    card = (run.folder / "model_card.md").read_text(encoding="utf-8")
    for chapter in ("Intended use", "Data", "Figures of merit", "Limits", "Settings", "How to make it again"):
        assert f"\n## {chapter}" in card
    assert built["provenance"]["command"] in card
    assert "Seed 0" in card
    assert f"{built['metrics'][0]['value']:.4g}" in card


def test_the_page_stands_alone_and_can_be_signed(toy: Task):
    run = finished(toy)
    page = sheet.html(run)
    body = re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.DOTALL)
    assert not re.search(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//", body)
    assert "a 'good' <run>" not in body
    assert "a &#x27;good&#x27; &lt;run&gt;" in body
    assert "Name and signature" in body
    for title in (
        "Figures of merit",
        "Predicted against true",
        "Classical estimates",
        "Training and validation loss",
        "Settings",
    ):
        assert f"<h2>{title}</h2>" in body
    assert page.count("plotly.js v") == 1
    assert len(re.findall(r"Plotly\.newPlot\(", body)) == 3


def test_save_writes_html_and_refuses_other_formats(toy: Task, tmp_path: Path):
    run = finished(toy)
    path = sheet.save(run, tmp_path / "sheet.html", "html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(InputError, match="Formats: html, pdf"):
        sheet.save(run, tmp_path / "sheet.docx", "docx")


# --- the page's parts ------------------------------------------------------------------------------------------------
def test_markdown_is_escaped_and_laid_out():
    assert report.markdown("a **b** `c<d>`\nstill\n\n- one\n- <two>") == (
        "<p>a <strong>b</strong> <code>c&lt;d&gt;</code> still</p><ul><li>one</li><li>&lt;two&gt;</li></ul>"
    )
    assert report.markdown("```\nx  <y>\n\nz\n```") == "<pre>x  &lt;y&gt;\n\nz</pre>"
    assert report.markdown("") == ""


def test_long_tables_are_cut_and_say_so():
    table = pd.DataFrame({"value": np.arange(report.MAX_TABLE_ROWS + 5)})
    page = report.page("t", {}, [Panel("k", "Rows", table)], kicker="k")
    assert "and 5 more rows" in page
    assert page.count("<tr>") == report.MAX_TABLE_ROWS
    assert "and 1 more row." in report.page("t", {}, [Panel("k", "Rows", table[:-4])], kicker="k")


# --- PDF -------------------------------------------------------------------------------------------------------------
def test_without_a_browser_the_pdf_says_what_to_install(monkeypatch: pytest.MonkeyPatch, toy: Task, tmp_path: Path):
    monkeypatch.setenv("LIGHTBENCH_BROWSER", "/nowhere/chrome")
    with pytest.raises(InputError, match=r"Install one .*chromium.*LIGHTBENCH_BROWSER"):
        sheet.pdf(finished(toy), tmp_path / "sheet.pdf")
    assert not (tmp_path / "sheet.pdf").exists()


@pytest.mark.skipif(os.name == "nt", reason="uses a shell script in place of a browser")
@pytest.mark.parametrize(
    "script", ["exit 3", "exit 0", 'for a in "$@"; do case $a in --print-to-pdf=*) echo no > "${a#*=}";; esac; done']
)
def test_a_browser_that_fails_leaves_no_file(monkeypatch: pytest.MonkeyPatch, toy: Task, tmp_path: Path, script: str):
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\n{script}\n")
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("LIGHTBENCH_BROWSER", str(browser))
    with pytest.raises(InputError, match="did not print"):
        sheet.pdf(finished(toy), tmp_path / "sheet.pdf")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pdf"] == []


@pytest.mark.slow
@pytest.mark.skipif(next(report._browsers(), None) is None, reason="no Chrome, Chromium or Edge on this machine")
def test_the_pdf_has_pages_with_drawn_figures(toy: Task, tmp_path: Path):
    """A page with figures prints far more drawing operators than one without: they were drawn before printing."""
    run = finished(toy)
    content = sheet.pdf(run, tmp_path / "sheet.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") >= 2 or len(re.findall(rb"/Type\s*/Page\b(?!s)", content)) >= 2
    bare = [panel for panel in map(Panel.from_json, sheet.build(run)["panels"]) if isinstance(panel.content, pd.DataFrame)]
    without = report.pdf(report.page("Toy", {}, bare, kicker=""), "page")
    assert len(content) > len(without) + 10_000
