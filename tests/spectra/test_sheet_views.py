"""The sheet's and the prediction's panels: right totals, right sentences, for two classes and fifteen, whatever a table lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from lib import sheet
from lib.task import FOLD, InputError, Panel, Samples
from lib.tasks.spectra import TASK, predict_views, sheet_decisions, sheet_strata, sheet_views, verdicts
from lib.tasks.spectra.sheet_rows import Scored, joined, scored, thinned
from lib.words import english
from tests.spectra.toy_runs import certified, draw, facts_of

KEYS = {
    "facts", "calibration", "scores", "confusion", "confusion-cutoffs", "roc", "precision-recall", "by-class", "by-class-table",
    "cutoffs", "coverage", "sets", "cost", "errors", "errors-cutoffs", "strata", "strata-time",
}  # fmt: skip
N = 700


def run_of(classes: int, n: int = N, **more: Any) -> tuple[pd.DataFrame, pd.DataFrame, Samples, dict[str, Any]]:
    """Predictions, truth and samples of a certified toy run."""
    rng = np.random.default_rng(classes)
    facts = certified(classes, rng, **more)
    outputs, samples = draw(n, classes, rng)
    return verdicts.decode(outputs, samples, facts), verdicts.truth(samples, facts), samples, facts


def panels_of(classes: int, drop: tuple[str, ...] = (), **more: Any) -> dict[str, Panel]:
    predicted, truth, samples, facts = run_of(classes, **more)
    return {p.key: p for p in sheet_views.sheet_panels(predicted, truth, samples.table.drop(columns=list(drop)), facts)}


def scored_of(classes: int, **more: Any) -> tuple[Scored, dict[str, Any]]:
    predicted, truth, samples, facts = run_of(classes, **more)
    return scored(predicted, truth, samples.table, facts), facts


def strings(value: Any, key: str = "") -> Iterator[str]:
    """Every text in a panel's JSON but the templates that Plotly fills itself."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in ("hovertemplate", "texttemplate", "template", "bdata"):
                yield from strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, key)
    elif isinstance(value, str):
        yield value


def bare_texts(panels: Iterator[Panel] | list[Panel]) -> list[str]:
    return [text for panel in panels for text in strings(panel.to_json()) if re.search(r"[{}]|\bnan\b", text)]


# --- the sheet --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("classes", [2, 15])
@pytest.mark.filterwarnings("error")
def test_every_panel_is_there_and_explains_itself(classes: int) -> None:
    panels = panels_of(classes)
    assert panels.keys() == KEYS
    for panel in panels.values():
        assert panel.title and len(panel.explanation) > 40, panel.key
        assert Panel.from_json(json.loads(json.dumps(panel.to_json()))).key == panel.key
        assert len(json.dumps(panel.to_json())) < 300_000
    assert bare_texts(list(panels.values())) == []


@pytest.mark.parametrize("classes", [2, 15])
@pytest.mark.filterwarnings("error")
def test_a_bare_table_makes_a_sheet_too(classes: int) -> None:
    drop = ("group", "instrument", "provenance", "measured_at", "severity", "defect_type", "sample", "label")
    panels = panels_of(classes, drop)
    assert panels.keys() == KEYS - {"strata-time"}
    assert "neither instrument nor date" in str(panels["strata"].content)
    assert "replicates may be among them" in panels["facts"].content.to_string()


@pytest.mark.filterwarnings("error")
def test_a_run_without_a_certificate_says_so() -> None:
    rng = np.random.default_rng(0)
    facts = facts_of(3)
    outputs, samples = draw(60, 3, rng)
    predicted, truth = verdicts.decode(outputs, samples, facts), verdicts.truth(samples, facts)
    panels = {p.key: p for p in sheet_views.sheet_panels(predicted, truth, samples.table, facts)}
    assert panels.keys() == KEYS
    for key in ("confusion-cutoffs", "cutoffs", "sets", "cost", "errors-cutoffs"):
        assert "no certified cut-offs" in str(panels[key].content)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_or_no_rows_make_a_sheet(n: int) -> None:
    predicted, truth, samples, facts = run_of(15, max(n, 1))
    if n == 0:
        truth = truth.assign(**{c: np.nan for c in truth if str(c).startswith("p_")})
    panels = {p.key: p for p in sheet_views.sheet_panels(predicted, truth, samples.table, facts)}
    assert ("nothing" in panels) == (n == 0) and "facts" in panels


@pytest.mark.filterwarnings("error")
def test_a_perfect_model_has_no_errors_on_its_sheet() -> None:
    _, truth, samples, facts = run_of(15)
    panels = {p.key: p for p in sheet_views.sheet_panels(truth, truth, samples.table, facts)}
    assert panels["errors"].content == panels["errors-cutoffs"].content == "No test sample is decided wrongly."
    assert "The calibration error (ECE) is 0.0 points" in panels["calibration"].explanation
    assert {trace.name.split("(")[-1] for trace in panels["roc"].content.data if trace.name} == {"1.000)"}


@pytest.mark.parametrize("specimens", [True, False])
def test_the_interval_of_the_calibration_error_is_the_one_its_panel_tells(specimens: bool) -> None:
    predicted, truth, samples, facts = run_of(3)
    truth.loc[:4, [c for c in truth if str(c).startswith("p_")]] = np.nan
    table = samples.table if specimens else samples.table.drop(columns="group")
    (panel,) = [p for p in sheet_views.sheet_panels(predicted, truth, table, facts) if p.key == "calibration"]
    figures = {figure["name"]: figure for figure in sheet.metrics(TASK.knowing(facts), predicted, truth, TASK.independent(table))}
    low, high = figures["ece_percent"]["low"], figures["ece_percent"]["high"]
    assert 0 <= low <= figures["ece_percent"]["value"] <= high and low < high
    assert f"(95 % interval {low:.1f} to {high:.1f})" in panel.explanation


def test_without_a_scored_row_the_calibration_error_has_no_interval() -> None:
    predicted, truth, samples, facts = run_of(3, 4)
    truth[[c for c in truth if str(c).startswith("p_")]] = np.nan
    figures = sheet.metrics(TASK.knowing(facts), predicted, truth, TASK.independent(samples.table))
    assert {figure["low"] for figure in figures if figure["name"] == "ece_percent"} == {None}


def test_facts_mark_simulated_data_and_name_what_was_dropped() -> None:
    text = panels_of(2)["facts"].content.to_string()
    assert "SIMULATED" in text and "NC6 (3 samples)" in text and "700 of 350 specimens" in text
    assert "simulated" in panels_of(2)["facts"].title
    text = panels_of(2, rows={"train": 9, "test": 4}, groups={"train": 5}, reading=["axis resampled"])[
        "facts"
    ].content.to_string()
    assert "train 9 (5 specimens), test 4" in text and "axis resampled" in text
    assert "SIMULATED" not in panels_of(2, simulated=False)["facts"].content.to_string()


def test_rows_without_a_class_are_left_out_and_counted() -> None:
    predicted, truth, samples, facts = run_of(2)
    unknown = samples.table.assign(code=np.where(np.arange(N) < 100, -1, samples.table["code"]))
    truth = verdicts.truth(Samples({}, unknown, samples.common), facts)
    t = scored(predicted, truth, unknown, facts)
    assert len(t) == N - 100 and t.left_out == 100
    assert "100 more have no known class" in sheet_strata.facts_panel(t, facts, english).content.to_string()


# --- confusion --------------------------------------------------------------------------------------------------------
def corner(figure: go.Figure, classes: int) -> int:
    """The total of totals."""
    cells = {(x, y): text for x, y, text in zip(figure.data[1].x, figure.data[1].y, figure.data[1].text)}
    return int(re.sub(r"<.*?>", "", cells[classes, classes]))


@pytest.mark.parametrize("classes", [2, 15])
def test_confusion_with_cut_offs_adds_to_the_rows_kept(classes: int) -> None:
    t, facts = scored_of(classes, precision_target=0.7)
    without, with_cutoffs = sheet_decisions.confusion_panels(t, facts, english)
    kept = int((t.decided >= 0).sum())
    assert 0 < kept < N
    assert corner(without.content, classes) == N and corner(with_cutoffs.content, classes) == kept
    for panel in (without, with_cutoffs):
        shares = [float(v) for v in re.findall(r"([\d.]+) %", json.dumps(panel.to_json()))]
        assert shares and max(shares) <= 100
    tasted = [text for x, text in zip(with_cutoffs.content.data[1].x, with_cutoffs.content.data[1].text) if x == classes + 1]
    assert int(tasted[-1].split("<")[0]) == N - kept


def test_confusion_by_hand() -> None:
    figure = sheet_decisions.confusion_figure(np.array([[3, 1], [0, 4]]), ("a", "b"), english, np.array([4, 0]))
    assert [list(row) for row in figure.data[0].text] == [["3<br>75.0 %", "1<br>25.0 %"], ["0", "4<br>100.0 %"]]
    cells = {(x, y): text for x, y, text in zip(figure.data[1].x, figure.data[1].y, figure.data[1].text)}
    assert cells == {
        (2, 0): "4<br>50.0 %", (2, 1): "4<br>50.0 %", (0, 2): "3<br>37.5 %", (1, 2): "5<br>62.5 %", (2, 2): "<b>8</b>",
        (3, 0): "4<br>50.0 %", (3, 1): "0", (3, 2): "4<br>33.3 %",
    }  # fmt: skip


# --- cut-offs, sets, costs, errors ------------------------------------------------------------------------------------
def test_cut_off_table_holds_promise_and_outcome() -> None:
    t, facts = scored_of(2)
    table = sheet_decisions.cutoff_table(t, facts, english)
    assert table["promise"].tolist() == ["precision ≥ 92.5 %"] * 2 + ["recall ≥ 92.5 %"] * 2
    kept = table["kept, test (%)"].to_numpy(float)
    assert ((kept >= 0) & (kept <= 100)).all()
    code = verdicts.decided(t.probabilities, t.inside, facts, "precision")
    assert kept[1] == pytest.approx(100 * np.mean(code == 1), abs=0.06)
    assert table["outcome on test rows"][1] in ("kept", "below, but within chance")


def test_cut_off_table_says_why_there_is_none() -> None:
    t, facts = scored_of(15)
    table = sheet_decisions.cutoff_table(t, facts, english)
    missing = table[table["cut-off (%)"] == "–"]
    assert len(missing) and missing["outcome on test rows"].str.startswith("no certifiable cut-off").all()
    assert (missing["measured, test (%)"] == "–").all()


def test_a_broken_promise_is_called_broken() -> None:
    t, facts = scored_of(2)
    facts["cutoffs"]["OK"]["precision"] |= {"value": 0.0, "target": 0.999}
    assert sheet_decisions.cutoff_table(t, facts, english)["outcome on test rows"][1] == "broken"


def test_replicates_do_not_narrow_the_outcome() -> None:
    """Four rows of each specimen say no more than one: a slight miss stays within chance."""
    assert sheet_decisions._outcome(0.90, 60, 0.925, english) == "below, but within chance"
    assert sheet_decisions._outcome(0.90, 6000, 0.925, english) == "broken"


def test_cost_curve_by_hand() -> None:
    t, facts = scored_of(2)
    costs = verdicts.costs_of(facts)
    paid = sheet_decisions.cost_curve(t, costs, np.array([-4.0, 1 - 5 * 0.2, 1.1]))
    wrong, sure = t.named != t.labels, t.confidence >= 0.8
    assert paid[0] == pytest.approx(5 * wrong.mean()) and paid[2] == pytest.approx(1.0)
    assert paid[1] == pytest.approx(np.where(sure, 5 * wrong, 1).mean())


def test_sets_table_has_the_promised_coverage() -> None:
    t, facts = scored_of(2)
    table = sheet_decisions.set_panel(t, facts, english).content
    assert (table["truth in the set (%)"] > 80).all() and (table["mean size (classes)"] <= 2).all()


def test_errors_name_the_fine_truth_for_one_against_the_rest() -> None:
    panels = panels_of(2)
    table = panels["errors"].content
    assert set(table["truth"]) <= {f"VR{k}" for k in range(1, 6)} and len(table) <= 35
    assert table["count"].is_monotonic_decreasing and table["share of errors (%)"].sum() == pytest.approx(100, abs=1)
    assert panels["errors-cutoffs"].content["count"].sum() < table["count"].sum()


@pytest.mark.parametrize("classes", [2, 15])
def test_behind_each_kind_of_error_are_errors_of_that_kind_the_surest_first(classes: int) -> None:
    predicted, truth, samples, facts = run_of(classes)
    panels = {p.key: p for p in sheet_views.sheet_panels(predicted, truth, samples.table, facts)}
    for key in ("errors", "errors-cutoffs"):
        table, behind = panels[key].content, panels[key].behind
        if classes == 15 and key == "errors-cutoffs":  # so few are decided that none is wrong
            assert table == "No test sample is decided wrongly." and not behind
            continue
        assert len(behind) == len(table) > 0
        for (_, kind), rows in zip(table.iterrows(), behind, strict=True):
            assert len(rows) == min(int(kind["count"]), sheet_decisions.SHOWN)
            assert set(predicted["predicted"].iloc[list(rows)]) == {kind["said"]}
            said = predicted[f"p_{kind['said']}"].iloc[list(rows)]
            assert said.is_monotonic_decreasing
            if classes == 15:
                assert set(truth["predicted"].iloc[list(rows)]) == {kind["truth"]}
    kept = {row for rows in panels["errors"].behind for row in rows}
    assert classes == 15 or {row for rows in panels["errors-cutoffs"].behind for row in rows[:1]} & kept


def test_the_costs_that_were_asked_are_those_of_the_sheet() -> None:
    panel = panels_of(2, costs={"wrong": 3.0, "special": ["The rest>OK=30"]}, policy="cost")["cost"]
    assert "3 tastings" in panel.explanation and "The rest>OK=30" in panel.explanation
    assert min(panel.content.data[0].x) == -29


# --- joint sheets -----------------------------------------------------------------------------------------------------
def joint_of(classes: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, list[dict[str, Any]]]:
    """Predictions, truth and samples of two folds one after another, and the facts of each."""
    rng = np.random.default_rng(30)
    folds = [certified(classes, rng, 1200, confidence=c, precision_target=p) for c, p in ((0.9, 0.9), (0.6, 0.7))]
    drawn = [draw(400, classes, rng) for _ in folds]
    predicted = pd.concat([verdicts.decode(*one, facts) for one, facts in zip(drawn, folds)], ignore_index=True)
    truth = pd.concat([verdicts.truth(one[1], facts) for one, facts in zip(drawn, folds)], ignore_index=True)
    samples = pd.concat([one[1].table.assign(**{FOLD: k}) for k, one in enumerate(drawn)], ignore_index=True)
    return predicted, truth, samples, folds


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 3])
def test_in_a_joint_sheet_each_row_is_decided_as_its_own_model_would(classes: int) -> None:
    predicted, truth, samples, folds = joint_of(classes)
    facts = json.loads(json.dumps(joined(folds)))
    t = scored(predicted, truth, samples, facts)
    assert t.decided is not None and t.sets is not None
    words = verdicts.decision_words(facts)[t.decided]
    assert words.tolist() == predicted["decision"].tolist()
    assert verdicts._joined(t.sets, facts).tolist() == predicted["prediction_set"].tolist()
    panels = {p.key: p for p in sheet_views.sheet_panels(predicted, truth, samples, facts)}
    assert panels.keys() == KEYS and bare_texts(list(panels.values())) == []
    assert "2 trainings" in panels["facts"].content.to_string()
    assert any(" – " in text for text in panels["cutoffs"].content["cut-off (%)"])


def test_a_joint_sheet_tells_what_each_fold_chose() -> None:
    predicted, truth, samples, folds = joint_of(2)
    for fold, setting, averaged in zip(folds, ("components 5", "components 16"), ([0], [0, 1])):
        table = [{"preprocessing": kind, "model": "PLS-DA", "setting": setting, "accuracy": 0.9} for kind in ("raw", "range")]
        means = {"277": {name: [float(len(setting))] for name in fold["classes"]}}
        fold |= {"chosen": {**table[0], "members": [table[k] for k in averaged], "table": table}, "class_means": means}
    facts = json.loads(json.dumps(joined(folds)))
    assert "chosen" not in facts and set(facts["class_means"]["277"]) == set(facts["classes"])
    assert facts["class_means"]["277"]["OK"] == [12.5], "the mean of all folds"
    panel = {p.key: p for p in sheet_views.sheet_panels(predicted, truth, samples, facts)}["candidates"]
    assert "Each fold chose its model" in panel.explanation
    assert panel.content.to_numpy().tolist() == [
        ["1/2", "raw, PLS-DA, components 5", 0.9], ["2/2", "raw, PLS-DA, components 16; range, PLS-DA, components 16", 0.9]
    ]  # fmt: skip


@pytest.mark.parametrize(("test_source", "fits"), [("is-val", True), ("like-val", False)])
def test_rows_that_validate_and_test_are_counted_once(test_source: str, fits: bool) -> None:
    folds = [facts_of(2) | {"test_source": test_source, "rows": {"train": 100 - n, "validation": n, "test": n}} for n in (40, 41)]
    if fits:
        assert joined(folds)["rows"] == {"test": 81}
    else:
        with pytest.raises(InputError, match="not cut from the same rows"):
            joined(folds)


def test_folds_of_different_classes_cannot_be_joined() -> None:
    with pytest.raises(InputError, match="their classes differ"):
        joined([facts_of(2), facts_of(3)])


# --- strata -----------------------------------------------------------------------------------------------------------
def test_strata_measure_each_part() -> None:
    t, _ = scored_of(3)
    rng = np.random.default_rng(0)
    kinds = {kind.kind: kind for kind in sheet_strata.strata(t, english)}
    assert kinds.keys() == {"origin of the label", "instrument", "month"}
    table = sheet_strata.measure(t, kinds["instrument"], rng)
    own = (t.rows["instrument"] == "B").to_numpy()
    assert table["samples"].sum() == N
    assert table["accuracy_percent"][1] == pytest.approx(100 * np.mean((t.named == t.labels)[own]))
    assert (table["accuracy_lo95"] <= table["accuracy_percent"]).all()
    assert (table["macro_f1_hi95"] >= table["macro_f1"]).all()
    assert "inspector (honest)" in kinds["origin of the label"].names


@pytest.mark.filterwarnings("error")
def test_a_stratum_of_one_specimen_has_no_interval_and_a_missing_date_no_month() -> None:
    predicted, truth, samples, facts = run_of(3)
    table = samples.table.assign(instrument=["lonely"] * 2 + ["A"] * (N - 2), provenance="")
    table.loc[:10, "measured_at"] = pd.NaT
    t = scored(predicted, truth, table, facts)
    by_instrument = sheet_strata.measure(t, sheet_strata.strata(t, english)[1], np.random.default_rng(0))
    assert by_instrument["specimens"].tolist() == [N // 2 - 1, 1]
    assert by_instrument["accuracy_lo95"].isna().tolist() == [False, True]
    assert sheet_strata.strata_panels(t, np.random.default_rng(0), english)


def test_candidates_are_shown_where_the_model_was_chosen() -> None:
    rows = [{"model": "PLS-DA", "macro_f1": 0.81234567}, {"model": "linear SVM", "macro_f1": 0.9}]
    table = panels_of(2, chosen={"table": rows})["candidates"].content
    assert table["model"].tolist() == ["PLS-DA", "linear SVM"] and table["macro-F1 (0 to 1)"][0] == 0.8123


# --- predictions ------------------------------------------------------------------------------------------------------
def prediction_of(classes: int, n: int, **more: Any) -> tuple[pd.DataFrame, Samples, dict[str, Any]]:
    predicted, _, samples, facts = run_of(classes, n, **more)
    return predicted[list(verdicts.prediction_columns(facts))], samples, facts


@pytest.mark.parametrize("classes", [2, 15])
@pytest.mark.parametrize("n", [1, 30, 400])
@pytest.mark.filterwarnings("error")
def test_prediction_panels(classes: int, n: int) -> None:
    table, samples, facts = prediction_of(classes, n)
    panels = {p.key: p for p in predict_views.prediction_panels(table, samples, facts)}
    one = set() if n > 1 else {"decisions"}  # told in the headline
    assert panels.keys() == {"decisions", "probabilities", "spectra-277", "spectra-lspr", "domain"} - one
    assert bare_texts(list(panels.values())) == []
    assert n == 1 or sum(panels["decisions"].content.data[0].y) == n


@pytest.mark.parametrize("n", [5, 400])
def test_points_and_bars_lead_to_the_samples_they_stand_for(n: int) -> None:
    table, samples, facts = prediction_of(3, n)
    panels = {p.key: p for p in predict_views.prediction_panels(table, samples, facts)}
    bars = panels["decisions"].content.data[0]
    for place, rows in zip(bars.customdata, panels["decisions"].behind, strict=True):
        assert len(rows) == min(bars.y[place], predict_views.SPECTRA)
        assert set(table["decision"].iloc[list(rows)]) <= {bars.x[place]}
    for trace in panels["domain"].content.data:
        for place, name, t2 in zip(trace.customdata, trace.text or (), trace.x):
            row = table.iloc[panels["domain"].behind[place][0]]
            assert row["sample"][:24] == name and max(row["t2"], 1e-3) == pytest.approx(float(t2), rel=1e-5)


def test_the_headline_tells_class_probability_set_and_decision() -> None:
    rng = np.random.default_rng(9)
    facts = certified(2, rng, policy="recall", recall_target=0.8, confidence=0.95)
    outputs, samples = draw(30, 2, rng)
    row = verdicts.decode(outputs, samples, facts).iloc[0]
    told = {title: (value, below) for title, value, below in predict_views.headline(row, facts)}
    assert told["Class"][0] == row["predicted"] and told["Decision"][0] == row["decision"]
    assert told["Probability"][0] == f"{100 * max(row['p_OK'], row['p_The rest']):.1f} %"
    assert told["Prediction set"][0] == row["prediction_set"] and "95 %" in told["Prediction set"][1]
    assert "at least 80 %" in told["Decision"][1]
    assert "no promise" in predict_views.headline(row, facts_of(2))[3][2]
    assert "5 tastings" in predict_views.promise_text(facts | {"policy": "cost"}, english)
    assert predict_views.headline(row.to_frame().T.assign(predicted=None).iloc[0], facts) == []


def test_scattered_light_does_not_set_the_scale() -> None:
    table, samples, facts = prediction_of(2, 3)
    samples.inputs["277"][:, 554 - 295] = 1e4  # twice the excitation
    fig = next(p for p in predict_views.prediction_panels(table, samples, facts) if p.key == "spectra-277").content
    assert fig.layout.yaxis.range[1] < 2 and max(fig.data[-1].y) > 1e3


def test_ten_thousand_predictions_stay_small() -> None:
    table, samples, facts = prediction_of(15, 10_000)
    facts["class_means"] = {"277": {name: np.linspace(0, 1, 446).tolist() for name in facts["classes"]}}
    for panel in predict_views.prediction_panels(table, samples, facts):
        assert len(json.dumps(panel.to_json())) < 300_000, panel.key


def test_spectra_lie_over_class_means_where_there_are_some() -> None:
    table, samples, facts = prediction_of(2, 3)
    facts["class_means"] = {"277": {"OK": [0.5] * 446, "The rest": [0.1] * 446}}
    panels = {p.key: p for p in predict_views.prediction_panels(table, samples, facts)}
    names = [trace.name for trace in panels["spectra-277"].content.data]
    assert set(names[:2]) == {"OK", "The rest"} and len(names) == 5 and names[2].startswith("s0: ")
    assert "class means" in panels["spectra-277"].explanation and "median" in panels["spectra-lspr"].explanation


@pytest.mark.filterwarnings("error")
def test_samples_outside_are_drawn_as_such_and_failures_left_out() -> None:
    rng = np.random.default_rng(0)
    facts = certified(2, rng)
    outputs, samples = draw(6, 2, rng)
    outputs["q"][0], outputs["probability"][1], outputs["t2"][1] = 50.0, np.nan, np.nan
    table = verdicts.decode(outputs, samples, facts)
    panels = {p.key: p for p in predict_views.prediction_panels(table, samples, facts)}
    inside, outside = panels["domain"].content.data
    assert list(outside.text) == ["s0"] and len(inside.text) == 4
    assert "2 of 6 samples are unlike" in panels["decisions"].explanation
    assert len(panels["probabilities"].content.data[0].x) == 5
    assert panels["spectra-277"].content.data[2].name == "s1: –"


def test_files_that_differ_still_show_their_decisions() -> None:
    table, samples, facts = prediction_of(2, 4)
    bare = Samples({}, samples.table)
    assert {p.key for p in predict_views.prediction_panels(table, bare, facts)} == {"decisions", "probabilities", "domain"}
    assert predict_views.prediction_panels(table.iloc[:0], bare.take([]), facts)[0].key == "nothing"


def test_every_text_goes_through_the_catalogue() -> None:
    """With a language that replaces every text, no English sentence is left."""
    seen: list[str] = []

    def say(text: str, **values: Any) -> str:
        seen.append(text)
        text.format(**values)  # every field has its value
        return "§"

    predicted, truth, samples, facts = run_of(3)
    panels = sheet_views.sheet_panels(predicted, truth, samples.table, facts, say)
    panels += predict_views.prediction_panels(predicted, samples, facts, say)
    for panel in panels:
        assert set(re.sub(r"[§ \W]", "", panel.title + panel.explanation)) <= set("0123456789"), panel.key
        if isinstance(panel.content, go.Figure):
            assert panel.content.layout.xaxis.title.text in (None, "§"), panel.key
    assert len(set(seen)) > 60


def test_thinned_keeps_both_ends() -> None:
    assert thinned(1000, 10)[[0, -1]].tolist() == [0, 999] and thinned(3).tolist() == [0, 1, 2]
