"""Verdicts: known answers on toy probabilities, perfection, promises kept on fresh samples, and what cannot be certified."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from lib.task import Samples
from lib.tasks.spectra import verdicts
from tests.spectra.toy_runs import certified, draw, facts_of

PERFECT = {
    "accuracy_percent": 100, "macro_f1": 1, "balanced_accuracy_percent": 100, "log_loss_nats": 0, "ece_percent": 0, "auc": 1,
}  # fmt: skip


def samples_of(classes: int = 2, **columns: object) -> Samples:
    """Samples of the run's own data."""
    return Samples({}, pd.DataFrame({"file": "a.csv", "note": "", **columns}), {"classes": facts_of(classes)["classes"]})


def outputs_of(p: list[list[float]], t2: object = 0.0, q: object = 0.0) -> dict[str, np.ndarray]:
    n = len(p)
    return {"probability": np.array(p, dtype=np.float32), "t2": np.full(n, t2), "q": np.full(n, q)}


def by_hand(policy: str = "precision") -> dict:
    """A certificate with OK from 0.8 and the rest from 0.9."""
    cut = {"target": 0.925, "risk": 0.1, "measured": 0.95, "kept_percent": 40.0, "rows": 100, "rows_needed": 30, "failure": ""}
    none = cut | {"value": None, "failure": "too few rows"}
    return facts_of(2) | {
        "policy": policy, "risk": 0.1, "confidence": 0.9, "set_thresholds": [0.3, None],
        "cutoffs": {"The rest": {"precision": cut | {"value": 0.9}, "recall": none},
                    "OK": {"precision": cut | {"value": 0.8}, "recall": cut | {"value": 0.6}}},
    }  # fmt: skip


# --- decode -----------------------------------------------------------------------------------------------------------
def test_decode_before_certification_promises_nothing() -> None:
    found = verdicts.decode(outputs_of([[0.3, 0.7], [0.95, 0.05]]), samples_of(sample=["a", "b"]), facts_of(2))
    assert found["predicted"].tolist() == ["OK", "The rest"]
    assert found["decision"].tolist() == ["uncertified"] * 2
    assert found["prediction_set"].tolist() == ["OK", "The rest"]
    assert found["confidence"].tolist() == pytest.approx([0.7, 0.95])
    assert found["p_OK"].tolist() == pytest.approx([0.7, 0.05])
    assert found["note"].tolist() == ["", ""]


def test_decode_passes_tastes_and_rejects_by_the_cut_offs() -> None:
    found = verdicts.decode(
        outputs_of([[0.2, 0.8], [0.3, 0.7], [0.85, 0.15], [0.95, 0.05]]), samples_of(sample=range(4)), by_hand()
    )
    assert found["decision"].tolist() == ["pass", "taste", "taste", "reject"]
    assert found["prediction_set"].tolist() == ["OK", "The rest | OK", "The rest | OK", "The rest | OK"]


def test_the_policy_chooses_the_cut_offs_and_a_missing_one_is_told() -> None:
    found = verdicts.decode(outputs_of([[0.35, 0.65], [0.99, 0.01]]), samples_of(sample=[1, 2]), by_hand("recall"))
    assert found["decision"].tolist() == ["pass", "taste"]
    assert found["note"].tolist() == ["", "no certifiable cut-off"]


def test_least_cost_decides_by_the_expected_saving() -> None:
    """Passing a bad barrel costs 20 tastings, any other mistake 2: at 0.9 OK passing saves 1 - 2, rejecting 1 - 1.8."""
    facts = by_hand("cost") | {"costs": {"wrong": 2.0, "special": ["The rest>OK=20"]}, "cost": {"value": 0.1}}
    p = [[0.1, 0.9], [0.04, 0.96], [0.6, 0.4], [0.5, 0.5]]  # savings: 1 - 2 = -1 or 1 - 1.8; 1 - 0.8; 1 - 0.8; 1 - 1
    found = verdicts.decode(outputs_of(p), samples_of(sample=range(4)), facts)
    assert found["decision"].tolist() == ["taste", "pass", "reject", "taste"]
    none = verdicts.decode(outputs_of(p), samples_of(sample=range(4)), facts | {"cost": {"value": None}})
    assert set(none["decision"]) == {"taste"} and set(none["note"]) == {"no certifiable cut-off"}


def test_another_certificate_decides_as_if_it_had_been_the_first() -> None:
    rng = np.random.default_rng(2)
    one, other = certified(3, rng, 900), certified(3, rng, 900, policy="recall", recall_target=0.7, confidence=0.6)
    outputs, samples = draw(400, 3, rng)
    outputs["t2"][:20] = 9.0
    samples = samples.with_columns(note=["saturated"] * 30 + [""] * 370)
    before = verdicts.decode(outputs, samples, one)
    after = verdicts.redecided(before, other)
    assert (before["decision"] != after["decision"]).any() and (before["prediction_set"] != after["prediction_set"]).any()
    columns = ["sample", "predicted", "decision", "prediction_set", "in_domain"]
    wanted = verdicts.decode(outputs, samples, other)
    pd.testing.assert_frame_equal(after[columns], wanted[columns])
    assert [set(a.split("; ")) for a in after["note"]] == [set(b.split("; ")) for b in wanted["note"]]


def test_an_empty_set_is_shown_as_none() -> None:
    facts = by_hand() | {"set_thresholds": [0.9, 0.9]}
    assert verdicts.decode(outputs_of([[0.5, 0.5]]), samples_of(sample=[1]), facts)["prediction_set"].tolist() == ["none"]


@pytest.mark.parametrize(("t2", "q", "word"), [(9.0, 0.0, "T²"), (0.0, 9.0, "Q"), (np.nan, 0.0, "T²")])
def test_out_of_domain_is_told_and_never_decided(t2: float, q: float, word: str) -> None:
    found = verdicts.decode(outputs_of([[0.01, 0.99]], t2, q), samples_of(sample=[1]), by_hand())
    assert not found["in_domain"][0] and found["decision"][0] == "taste" and word in found["note"][0]
    assert found["predicted"][0] == "OK"


def test_a_sample_at_the_edge_of_the_training_data_is_inside() -> None:
    found = verdicts.decode(outputs_of([[0.01, 0.99]], verdicts.T2_LIMIT, verdicts.Q_LIMIT), samples_of(sample=[1]), by_hand())
    assert found["in_domain"][0] and found["decision"][0] == "pass"


def test_a_network_that_gives_no_number_decides_nothing() -> None:
    found = verdicts.decode(outputs_of([[np.nan, np.nan], [0.1, 0.9]]), samples_of(sample=[1, 2]), by_hand())
    assert found["predicted"].isna().tolist() == [True, False] and found["decision"].tolist() == ["taste", "pass"]
    assert found["prediction_set"][0] == "none" and not found["in_domain"][0] and "no number" in found["note"][0]


def test_notes_are_joined_and_an_unknown_label_is_told() -> None:
    samples = samples_of(label=["NC6", ""], code=[-1, -1]).with_columns(note=["resampled", ""])
    found = verdicts.decode(outputs_of([[0.1, 0.9], [0.1, 0.9]]), samples, facts_of(2))
    assert found["note"].tolist() == ["resampled; class not known to the model", ""]


def test_a_file_is_asked_as_training_was() -> None:
    """Its own columns "code" and "label" mean nothing here; severities do."""
    facts = facts_of(2) | {"classes": ["VR", "OK"], "target": {"kind": "AVA", "of": "IN", "column": ""}}
    table = pd.DataFrame({"file": "a", "note": "", "code": 0, "label": "x", "severity": ["OK", "NC", ""]})
    samples = Samples({}, table, {"channels": []})
    assert verdicts.truth(samples, facts)["predicted"].fillna("?").tolist() == ["OK", "?", "?"]
    found = verdicts.decode(outputs_of([[0.1, 0.9]] * 3), samples, facts)
    assert found["note"].tolist() == ["", "class not known to the model", ""]
    bare = Samples({}, table.drop(columns="severity"), {"channels": []})
    assert verdicts.decode(outputs_of([[0.1, 0.9]] * 3), bare, facts)["note"].tolist() == ["", "", ""]


def test_decode_of_a_table_without_names_numbers_them_and_of_none_is_empty() -> None:
    assert verdicts.decode(outputs_of([[0.1, 0.9]]), samples_of(x=[1]), facts_of(2))["sample"].tolist() == ["1"]
    nothing = {"probability": np.empty((0, 2)), "t2": np.empty(0), "q": np.empty(0)}
    assert verdicts.decode(nothing, samples_of(sample=[]), by_hand()).empty


def test_half_precision_is_brought_back_to_one() -> None:
    found = verdicts.decode(outputs_of([[0.301, 0.701]]), samples_of(sample=[1]), facts_of(2))
    assert found[["p_The rest", "p_OK"]].sum(axis=1)[0] == pytest.approx(1, abs=1e-12)


def test_a_class_asked_for_that_is_not_good_keeps_its_name() -> None:
    facts = by_hand() | {"classes": ["The rest", "VR11"], "target": {"kind": "OVA", "of": "VR11", "column": ""}}
    facts["cutoffs"] = {"The rest": facts["cutoffs"]["The rest"], "VR11": facts["cutoffs"]["OK"]}
    found = verdicts.decode(outputs_of([[0.1, 0.9], [0.4, 0.6]]), samples_of(sample=[1, 2]), facts)
    assert found["decision"].tolist() == ["VR11", "taste"]


def test_columns_of_a_prediction_are_those_of_decode() -> None:
    assert verdicts.prediction_columns({})[0] == "file" and verdicts.prediction_columns({})[-1] == "note"
    rng = np.random.default_rng(0)
    outputs, samples = draw(5, 3, rng)
    facts = facts_of(3)
    found = verdicts.decode(outputs, samples, facts)
    columns = verdicts.prediction_columns(facts)
    assert columns[0] == "file" and columns[-1] == "note" and set(columns) <= set(found.columns)
    assert list(verdicts.truth(samples, facts).columns) == list(found.columns)


# --- truth and score --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("classes", [2, 15])
def test_a_perfect_prediction_is_perfect(classes: int) -> None:
    rng = np.random.default_rng(1)
    _, samples = draw(400, classes, rng)
    truth = verdicts.truth(samples, facts_of(classes))
    assert verdicts.score(truth, truth) == pytest.approx(PERFECT, abs=1e-9)
    assert verdicts.score(truth.iloc[::-1].reset_index(drop=True), truth)["macro_f1"] < 0.9


def test_truth_by_code_or_unknown() -> None:
    facts = facts_of(2)
    by_code = verdicts.truth(samples_of(code=[1, 0, -1]), facts)
    assert by_code["predicted"].fillna("?").tolist() == ["OK", "The rest", "?"]
    by_label = verdicts.truth(samples_of(code=[1, 0, -1, -1, -1], label=["OK", "The rest", "NC6", None, ""]), facts)
    assert by_label["predicted"].fillna("?").tolist() == ["OK", "The rest", "?", "?", "?"]
    assert by_label["note"].tolist() == ["", "", "class not known to the model", "", ""]
    assert by_label["decision"].tolist() == ["pass", "reject", "taste", "taste", "taste"]
    assert by_label["p_OK"].isna().tolist() == [False, False, True, True, True]
    assert verdicts.truth(samples_of(x=[1]), facts)["predicted"].isna().all()


def test_score_by_hand() -> None:
    facts = facts_of(2)
    samples = samples_of(code=[1, 1, 1, 0, -1])
    predicted = verdicts.decode(outputs_of([[0.1, 0.9], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]]), samples, facts)
    found = verdicts.score(predicted, verdicts.truth(samples, facts))
    assert found["accuracy_percent"] == pytest.approx(50)
    assert found["balanced_accuracy_percent"] == pytest.approx((2 / 3 + 0) / 2 * 100)
    assert found["macro_f1"] == pytest.approx((2 * 2 / 6 + 0) / 2)
    assert found["log_loss_nats"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.3]).mean(), rel=1e-6)
    assert found["auc"] == pytest.approx(2 / 3)
    # each confidence has a bin of its own: 0.9 and 0.8 right, 0.6 and 0.7 wrong
    assert found["ece_percent"] == pytest.approx(100 * (0.1 + 0.2 + 0.6 + 0.7) / 4, rel=1e-5)


def test_score_of_one_row_and_of_none() -> None:
    facts = facts_of(15)
    one = verdicts.truth(samples_of(15, code=[3]), facts)
    assert verdicts.score(one, one)["macro_f1"] == 1 and math.isnan(verdicts.score(one, one)["auc"])
    none = verdicts.truth(samples_of(15, code=[-1]), facts)
    assert all(math.isnan(value) for value in verdicts.score(none, none).values())


def test_area_counts_ties_half_and_leaves_out_absent_classes() -> None:
    p = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
    found = verdicts.areas(np.array([0, 1, 1]), p)
    assert found[0] == pytest.approx(0.75) and found[1] == pytest.approx(0.75) and np.isnan(found[2])


# --- certify ----------------------------------------------------------------------------------------------------------
def test_certificate_is_plain_json_and_counts_specimens() -> None:
    facts = certified(2, np.random.default_rng(3), 800)
    json.dumps(facts, allow_nan=False)
    assert facts["calibration_rows"] == 800 and facts["independent_rows"] == 400 and facts["grouped"]
    assert facts["cutoffs"].keys() == {"The rest", "OK"} and facts["recall_target"] == 0.925 and facts["risk"] == 0.1
    record = facts["cutoffs"]["OK"]["precision"]
    assert 0.5 <= record["value"] <= 1 and record["measured"] >= 0.925 and 0 < record["kept_percent"] <= 100


def test_the_cost_certificate_saves_on_fresh_samples() -> None:
    """Of 25 certificates at a risk of 10 % hardly any costs more than tasting all; the asked costs are the ones paid."""
    rng = np.random.default_rng(14)
    outputs, fresh = draw(40_000, 2, rng)
    p, truth, paid = outputs["probability"], fresh.table["code"].to_numpy(), []
    for _ in range(25):
        facts = certified(2, rng, 600, policy="cost", costs={"wrong": 3.0, "special": ["The rest>OK=6"]})
        code, cost = verdicts.decided(p, np.ones(len(p), dtype=bool), facts), verdicts.costs_of(facts)
        paid.append(cost[truth, code].mean())
    assert cost[0, 1] == 6 and cost[1, 0] == 3
    assert np.median(paid) < 0.7
    assert np.sum(np.array(paid) > 1) <= 0.1 * 25 + 3 * math.sqrt(25 * 0.09)


@pytest.mark.parametrize("goal", ["precision", "recall"])
def test_a_promise_is_kept_on_fresh_samples(goal: str) -> None:
    broken, made, repeats = 0, 0, 25
    rng = np.random.default_rng(4)
    outputs, fresh = draw(40_000, 2, rng)
    truth = fresh.table["code"].to_numpy()
    p = outputs["probability"]
    for _ in range(repeats):
        facts = certified(2, rng, 600, **{f"{goal}_target": 0.85})
        code = verdicts.decided(p, np.ones(len(p), dtype=bool), facts, goal)
        if facts["cutoffs"]["OK"][goal]["value"] is not None:
            made += 1
            about = code == 1 if goal == "precision" else truth == 1
            broken += np.mean((code == truth)[about]) < 0.85
    assert made >= repeats * 0.6
    assert broken <= 0.1 * repeats + 3 * math.sqrt(repeats * 0.09)


def test_what_cannot_be_certified_says_why() -> None:
    rng = np.random.default_rng(5)
    few = certified(15, rng, 60)
    assert few["cutoffs"]["VR/NC 14 - é"]["recall"] == {
        "value": None, "target": 0.925, "risk": 0.1, "measured": None, "kept_percent": 0.0,
        "rows": few["cutoffs"]["VR/NC 14 - é"]["recall"]["rows"], "rows_needed": 30, "failure": "too few rows",
    }  # fmt: skip
    assert None in few["set_thresholds"]
    facts = facts_of(2)
    outputs, samples = draw(600, 2, rng)
    outputs["probability"] = np.random.default_rng(0).permutation(outputs["probability"])  # a model that knows nothing
    told = verdicts.certify(verdicts.decode(outputs, samples, facts), verdicts.truth(samples, facts), samples.table, facts, rng)
    assert told["cutoffs"]["OK"]["precision"]["value"] is None
    assert told["cutoffs"]["OK"]["precision"]["failure"] == "out of reach"
    decoded = verdicts.decode(outputs, samples, facts | told)
    assert set(decoded["decision"]) == {"taste"} and set(decoded["note"]) == {"no certifiable cut-off"}


def test_no_calibration_rows_certify_nothing() -> None:
    facts = facts_of(2)
    samples = samples_of(code=[-1, -1])
    predicted = verdicts.decode(outputs_of([[0.1, 0.9]] * 2), samples, facts)
    rng = np.random.default_rng(0)
    told = verdicts.certify(predicted, verdicts.truth(samples, facts), samples.table, facts, rng)
    assert told["independent_rows"] == 0 and told["cost"]["value"] is None and told["set_thresholds"] == [None, None]
    assert verdicts.decode(outputs_of([[0.1, 0.9]] * 2), samples, facts | told)["prediction_set"][0] == "The rest | OK"


def test_samples_outside_the_domain_count_as_not_accepted() -> None:
    """A recall promise must not be made where a tenth of the class is never decided."""
    facts, rng = facts_of(2), np.random.default_rng(6)
    n = 2000
    code = rng.integers(0, 2, n)
    p = np.where(np.arange(2) == code[:, None], 0.99, 0.01)
    samples = samples_of(code=code)
    far = np.where(rng.random(n) < 0.2, 9.0, 0.0)
    inside, outside = ({"probability": p, "t2": t2, "q": np.zeros(n)} for t2 in (np.zeros(n), far))
    told = [
        verdicts.certify(verdicts.decode(o, samples, facts), verdicts.truth(samples, facts), samples.table, facts, rng)
        for o in (inside, outside)
    ]
    assert [t["cutoffs"]["OK"]["recall"]["value"] is None for t in told] == [False, True]
    assert told[1]["cutoffs"]["OK"]["precision"]["value"] is not None
    assert told[1]["cutoffs"]["OK"]["precision"]["kept_percent"] < 45


def test_without_specimens_rows_stand_alone_and_it_is_noted() -> None:
    facts, rng = facts_of(2), np.random.default_rng(7)
    outputs, samples = draw(200, 2, rng)
    table = samples.table.drop(columns="group")
    told = verdicts.certify(verdicts.decode(outputs, samples, facts), verdicts.truth(samples, facts), table, facts, rng)
    assert told["independent_rows"] == 200 and not told["grouped"]


def test_the_same_generator_gives_the_same_certificate() -> None:
    assert certified(3, np.random.default_rng(8), 300) == certified(3, np.random.default_rng(8), 300)


def test_notes_are_said_in_the_reader_s_language() -> None:
    found = verdicts.decode(
        outputs_of([[0.1, 0.9]], 9.0), samples_of(sample=[1]), facts_of(2), lambda text, **values: text.upper()
    )
    assert found["note"][0].isupper()
