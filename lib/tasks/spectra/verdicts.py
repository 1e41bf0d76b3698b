"""From a network's outputs to verdicts: class, prediction set, decision, domain; how good they are, and what they promise.

Outputs of a network: `probability` (n, K), rows adding to 1; `t2` and `q` (n,), the distance to the training data within and
across its own directions, each divided by its 99.5 % quantile on training rows. A run's `facts` name the classes and, once
certified, the cut-offs. Cut-offs are chosen on calibration rows alone, one of each specimen; a sample unlike the training data
is never decided, and cut-offs are certified under that same rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lib.task import Arrays, InputError, Samples
from lib.tasks.spectra import accuracy, calibration, decisions
from lib.tasks.spectra.arrays import strangers
from lib.tasks.spectra.decisions import RECALL, RISK, UNDECIDED, Cutoff, Rows
from lib.tasks.spectra.learning import CLASSES, LABEL, codes_of
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.table import GROUP, SAMPLE
from lib.tasks.spectra.targets import NO_CLASS, Target, words
from lib.words import Say, english

Facts = Mapping[str, Any]
Goal = Literal["precision", "recall"]
Policy = Literal["precision", "recall", "cost"]

P = "p_"  # before a class name: the column of its probability
PASS, TASTE, REJECT, UNCERTIFIED, NONE = "pass", "taste", "reject", "uncertified", "none"
BETWEEN = " | "  # the classes of a prediction set
GOALS: tuple[Goal, ...] = ("precision", "recall")  # promises with a cut-off per class
POLICIES: tuple[Policy, ...] = (*GOALS, "cost")  # which cut-offs decide; precision bounds the errors among the decided
PRECISION = 0.925  # as many of the samples decided for a class must be of it
CONFIDENCE = 0.9  # of prediction sets
PROPOSING = 3  # one independent row in so many only proposes the order of testing; see decisions.precision_cutoff
WRONG = 5.0  # cost of a wrong decision, in tastings

# At 1 one training sample in 200 would be outside each limit. Measured on simulated syrup with 5 and 10 components: of new
# samples of the same population fewer than 1 in 500 pass either factor at 1200 training rows, 1 in 100 of the next days' at 300.
# Q of rows that the components were not fitted to is larger than that of those they were, so its factor is too.
T2_LIMIT, Q_LIMIT = 1.5, 2.0


def probability_columns(facts: Facts) -> list[str]:
    """The column of each class's probability, in the order of the classes; none before a run is known."""
    return [P + str(name) for name in facts.get("classes", ())]


def prediction_columns(facts: Facts) -> tuple[str, ...]:
    """Columns of predictions.csv in order."""
    return (
        "file",
        SAMPLE,
        "predicted",
        *probability_columns(facts),
        "prediction_set",
        "decision",
        "t2",
        "q",
        "in_domain",
        "note",
    )


# --- what a run decides by --------------------------------------------------------------------------------------------
def good_class(facts: Facts) -> int | None:
    """Position of the class that may pass untasted where the model asks for it alone, OVA of OK; None for other questions."""
    target = facts.get("target") or {}
    asked, names = str(target.get("of", "")), [str(name) for name in facts["classes"]]
    sound = asked in ("OK", "OK0") or (asked == "0" and not target.get("column"))
    return names.index(asked) if target.get("kind") == "OVA" and sound and asked in names else None


def decision_words(facts: Facts) -> np.ndarray:
    """What deciding each class is called (K,), and `taste` behind, where UNDECIDED points."""
    good = good_class(facts)
    names = [str(name) for name in facts["classes"]]
    words = names if good is None else [PASS if k == good else REJECT for k in range(len(names))]
    return np.array([*words, TASTE], dtype=object)


def certified(facts: Facts) -> bool:
    """Whether the run has been through `certify`."""
    return "cutoffs" in facts


def asked(config: Training, names: Sequence[str]) -> dict[str, Any]:
    """What `certify` is asked for, as facts: policy, targets, risk and costs. Raises InputError where the costs make no sense."""
    decisions.cost_matrix(names, config.tastings_per_mistake, config.special_costs)
    return {
        "policy": config.policy, "precision_target": config.precision_target_percent / 100,
        "recall_target": config.recall_target_percent / 100, "risk": config.risk_percent / 100,
        "confidence": config.confidence_percent / 100,
        "costs": {"wrong": config.tastings_per_mistake, "special": list(config.special_costs)},
    }  # fmt: skip


def policy_of(facts: Facts) -> Policy:
    """Which cut-offs decide."""
    return next((policy for policy in POLICIES if policy == facts.get("policy")), POLICIES[0])


def cutoffs_of(facts: Facts, goal: Goal) -> list[Cutoff]:
    """The certified cut-offs for a goal (K), in the order of the classes."""
    records = [facts["cutoffs"][str(name)][goal] for name in facts["classes"]]
    return [Cutoff(goal, r["target"], r["risk"], r["value"]) for r in records]


def costs_of(facts: Facts) -> np.ndarray:
    """Cost (K, K + 1) of each decision for each truth, in tastings, as of `decisions.cost_matrix`."""
    costs = facts.get("costs") or {}
    return decisions.cost_matrix(facts["classes"], float(costs.get("wrong", WRONG)), costs.get("special", ()))


def decided(probabilities: np.ndarray, in_domain: np.ndarray, facts: Facts, policy: Policy | None = None) -> np.ndarray:
    """Class that each sample is decided for (n,), or UNDECIDED; `policy` None takes the run's."""
    chosen = policy or policy_of(facts)
    if chosen == "cost":
        best, saving = decisions.expected_savings(probabilities, costs_of(facts))
        least = facts["cost"]["value"]
        code = np.where(saving >= (np.inf if least is None else least), best, UNDECIDED)
    else:
        code = decisions.decide(probabilities, cutoffs_of(facts, chosen))
    return np.where(in_domain & np.isfinite(probabilities).all(axis=1), code, UNDECIDED)


def sets_of(probabilities: np.ndarray, facts: Facts) -> np.ndarray:
    """Prediction sets (n, K) bool."""
    thresholds = np.array([-np.inf if t is None else t for t in facts["set_thresholds"]], dtype=float)
    return calibration.prediction_sets(probabilities, thresholds)


# --- decode and truth -------------------------------------------------------------------------------------------------
def decode(outputs: Arrays, samples: Samples, facts: Facts, say: Say = english) -> pd.DataFrame:
    """Verdicts of n samples, one row each; probabilities 0 to 1, `t2` and `q` in units of their 99.5 % training quantiles.

    Before certification the class is the most probable one, without a promise, and the decision says "uncertified".
    """
    p = np.asarray(outputs["probability"], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = p / p.sum(axis=1, keepdims=True)  # half precision adds to 1 only roughly
    t2, q = (np.asarray(outputs[key], dtype=np.float64) for key in ("t2", "q"))
    finite = np.isfinite(p).all(axis=1)
    best = np.where(finite, p.argmax(axis=1), NO_CLASS)
    far, unlike, strange = ~(t2 <= T2_LIMIT), ~(q <= Q_LIMIT), strangers(samples.table, facts)
    inside = finite & ~far & ~unlike & ~strange
    named = np.array([*map(str, facts["classes"]), None], dtype=object)[best]
    none, decision, members = _verdicts(p, inside, facts)
    notes = {
        say("the model gave no number for it"): ~finite,
        say("far from the middle of the training data (T²)"): finite & far,
        say("unlike any training spectrum (Q)"): finite & unlike,
        say("of an instrument that the transfer does not know, so taken as it is"): strange,
        say("no certifiable cut-off"): none,
        say("class not known to the model"): _unknown(samples, facts, codes_of(samples, facts)),
    }
    return _table(samples.table, facts, {
        "predicted": named, "p": p, "confidence": np.where(finite, p.max(axis=1), np.nan),
        "prediction_set": _joined(members, facts), "decision": decision, "t2": t2, "q": q, "in_domain": inside,
        "note": _noted(samples.table, notes),
    })  # fmt: skip


def _verdicts(p: np.ndarray, inside: np.ndarray, facts: Facts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether a sample's class has no cut-off (n,) bool, its decision (n,), and its prediction set (n, K) bool."""
    finite = np.isfinite(p).all(axis=1)
    best = np.where(finite, p.argmax(axis=1), NO_CLASS)
    if not certified(facts):
        none = np.zeros(len(p), dtype=bool)
        return none, np.full(len(p), UNCERTIFIED, dtype=object), np.arange(p.shape[1]) == best[:, None]
    return finite & lacking(facts)[best], decision_words(facts)[decided(p, inside, facts)], sets_of(p, facts)


def lacking(facts: Facts) -> np.ndarray:
    """Which classes (K,) have no cut-off under the run's policy."""
    policy = policy_of(facts)
    if policy == "cost":
        return np.full(len(facts["classes"]), facts["cost"]["value"] is None)
    return np.array([c.value is None for c in cutoffs_of(facts, policy)])


def redecided(predicted: pd.DataFrame, facts: Facts, say: Say = english) -> pd.DataFrame:
    """A table of `decode` with decision, prediction set and note as another certificate of the same model gives them."""
    p, inside = predicted[probability_columns(facts)].to_numpy(float), predicted["in_domain"].to_numpy(bool)
    none, decision, members = _verdicts(p, inside, facts)
    told = say("no certifiable cut-off")
    own = predicted["note"].map(lambda note: "; ".join(part for part in note.split("; ") if part != told))
    note = _noted(predicted.assign(note=own), {told: none})
    return predicted.assign(decision=decision, prediction_set=_joined(members, facts), note=note)


def truth(samples: Samples, facts: Facts, say: Say = english) -> pd.DataFrame:
    """What a perfect model would say, columns as of `decode`; a row without a known class has no class and NaN probabilities."""
    names = [str(name) for name in facts["classes"]]
    code = codes_of(samples, facts)
    known = code != NO_CLASS
    member = (np.arange(len(names)) == code[:, None]) & known[:, None]
    zero = np.zeros(len(code))
    return _table(samples.table, facts, {
        "predicted": np.array([*names, None], dtype=object)[code], "p": np.where(known[:, None], member.astype(float), np.nan),
        "confidence": np.where(known, 1.0, np.nan), "prediction_set": _joined(member, facts),
        "decision": decision_words(facts)[np.where(known, code, UNDECIDED)], "t2": zero, "q": zero,
        "in_domain": np.ones(len(code), dtype=bool),
        "note": _noted(samples.table, {say("class not known to the model"): _unknown(samples, facts, code)}),
    })  # fmt: skip


def _unknown(samples: Samples, facts: Facts, code: np.ndarray) -> np.ndarray:
    """Which rows (n,) have a label that is none of the model's classes; `code` (n,) as of `learning.codes_of`."""
    missing, table = code == NO_CLASS, samples.table
    if not missing.any():
        return missing
    if samples.common.get(CLASSES) != list(facts["classes"]):  # a file: it is asked as training was
        try:
            label = words(table, Target(**facts["target"]))
        except InputError:
            return np.zeros(len(table), dtype=bool)
    elif LABEL in table:
        label = table[LABEL]
    else:
        return np.zeros(len(table), dtype=bool)
    return (label.notna() & (label.astype(str).str.strip() != "")).to_numpy(bool) & missing


def _table(table: pd.DataFrame, facts: Facts, values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The columns of a prediction; `p` (n, K) becomes one column per class."""
    names = table[SAMPLE].astype(str).to_numpy() if SAMPLE in table else np.arange(1, len(table) + 1).astype(str)
    columns: dict[str, Any] = {"file": table["file"].to_numpy(), SAMPLE: names.astype(object), "predicted": values["predicted"]}
    columns |= {name: values["p"][:, k] for k, name in enumerate(probability_columns(facts))}
    columns |= {key: value for key, value in values.items() if key not in ("predicted", "p")}
    return pd.DataFrame(columns)


def _joined(members: np.ndarray, facts: Facts) -> np.ndarray:
    """Names of the classes in each set (n, K) bool, joined; few sets differ, so each kind is joined once."""
    names = [str(name) for name in facts["classes"]]
    kinds, which = np.unique(np.packbits(members, axis=1), axis=0, return_inverse=True)
    bits = np.unpackbits(kinds, axis=1, count=len(names)).astype(bool)
    words = [BETWEEN.join(name for name, there in zip(names, row) if there) or NONE for row in bits]
    return np.array(words, dtype=object)[which.reshape(-1)] if words else np.empty(0, dtype=object)


def _noted(table: pd.DataFrame, notes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Each row's own note and those of `notes` (n,) bool that apply, joined."""
    own = table["note"].fillna("").astype(str) if "note" in table else pd.Series("", index=table.index)
    kind = sum((flag.astype(np.int64) << bit for bit, flag in enumerate(notes.values())), np.zeros(len(table), np.int64))
    said = {int(k): [text for bit, text in enumerate(notes) if k >> bit & 1] for k in np.unique(kind)}
    parts = zip(own, kind.tolist(), strict=True)
    return np.array(["; ".join([note, *said[k]] if note else said[k]) for note, k in parts], dtype=object)


# --- score ------------------------------------------------------------------------------------------------------------
def labelled(predicted: pd.DataFrame, truth: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (m,) and probabilities (m, K) of the rows that have both, and those rows' positions (m,)."""
    columns = [column for column in truth if str(column).startswith(P)]
    true, p = truth[columns].to_numpy(float), predicted[columns].to_numpy(float)
    rows = np.flatnonzero(np.isfinite(true).all(axis=1) & np.isfinite(p).all(axis=1))
    return true[rows].argmax(axis=1), p[rows], rows


def score(predicted: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Figures of merit over rows with a known class; NaN where there is nothing to divide by.

    accuracy_percent; macro_f1 (0 to 1, mean over classes that occur or are predicted); balanced_accuracy_percent; log_loss_nats;
    ece_percent (expected calibration error of the top class, percentage points); auc (mean over classes against the rest).
    """
    y, p, _ = labelled(predicted, truth)
    keys = ("accuracy_percent", "macro_f1", "balanced_accuracy_percent", "log_loss_nats", "ece_percent", "auc")
    if not len(y):
        return dict.fromkeys(keys, float("nan"))
    best = p.argmax(axis=1)
    found = accuracy.score(y, best, [str(k) for k in range(p.shape[1])])
    own = np.maximum(p[np.arange(len(y)), y], calibration.SMALLEST)
    found |= {"log_loss_nats": float(abs(np.log(own).mean())), "ece_percent": _ece(best == y, p.max(axis=1))}
    found["auc"] = float(np.nanmean(found_areas)) if np.isfinite(found_areas := areas(y, p)).any() else float("nan")
    return {key: found[key] for key in keys}


def _ece(hit: np.ndarray, confidence: np.ndarray) -> float:
    """Expected calibration error over equal-mass bins, percentage points, without the bootstrap of the sheet."""
    number = calibration.equal_mass(confidence)
    return float(100 * np.abs(np.bincount(number, weights=hit - confidence)).sum() / len(hit))


def areas(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest (K,), NaN where either has no sample (Mann–Whitney, ties half)."""
    n, classes = probabilities.shape
    present = np.bincount(labels, minlength=classes)
    if classes == 2:  # one class's ranks are the other's reversed
        one = _area(rankdata(probabilities[:, 1]), labels == 1)
        return np.array([one, one])
    found = np.full(classes, np.nan)
    for k in np.flatnonzero((present > 0) & (present < n)):
        found[k] = _area(rankdata(probabilities[:, k]), labels == k)
    return found


def _area(rank: np.ndarray, positive: np.ndarray) -> float:
    count = int(positive.sum())
    pairs = count * (len(rank) - count)
    return float((rank[positive].sum() - count * (count + 1) / 2) / pairs) if pairs else float("nan")


# --- certify ----------------------------------------------------------------------------------------------------------
def certify(
    predicted: pd.DataFrame, truth: pd.DataFrame, samples: pd.DataFrame, facts: Facts, rng: np.random.Generator
) -> dict[str, Any]:
    """Cut-offs, set thresholds and what they promise, from calibration rows: plain JSON values, to be merged into `facts`.

    One row of each specimen (`samples["group"]`, all rows without it) is used; each promise holds at `risk` by itself.
    `cutoffs[class][goal]` has value (None: no certifiable cut-off), target, risk, measured, kept_percent (of all rows), rows,
    rows_needed and failure; `cost` the same for the least expected saving. `facts` may bring what `asked` tells.
    """
    y, p, rows = labelled(predicted, truth)
    inside = predicted["in_domain"].to_numpy(bool)[rows]
    own, parts = independent_parts(samples.iloc[rows], rng)
    costs = costs_of(facts)
    names = [str(name) for name in facts["classes"]]
    risk, confidence = float(facts.get("risk", RISK)), float(facts.get("confidence", CONFIDENCE))
    targets = {"recall": float(facts.get("recall_target", RECALL)), "precision": float(facts.get("precision_target", PRECISION))}
    found = [_class_cutoffs(y, p, inside, own, parts, k, targets, risk) for k in range(len(names))]
    thresholds = calibration.set_thresholds(y[own], p[own], confidence) if len(own) else np.full(len(names), -np.inf)
    return {
        "policy": policy_of(facts), "recall_target": targets["recall"], "precision_target": targets["precision"], "risk": risk,
        "cutoffs": dict(zip(names, found)), "cost": _cost(y, p, inside, parts, costs, risk),
        "set_thresholds": [float(t) if np.isfinite(t) else None for t in thresholds], "confidence": confidence,
        "calibration_rows": len(rows), "independent_rows": len(own), "grouped": GROUP in samples,
    }  # fmt: skip


def independent_parts(samples: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Positions of one row of each specimen, and their two parts: rows to test, and rows that propose the order of testing."""
    from lib.splits import numbered  # brings scikit-learn, which pages that only show a prediction need not load

    groups = numbered(samples[GROUP]) if GROUP in samples else np.arange(len(samples))
    own = decisions.independent_rows(groups, rng)
    proposing = np.sort(rng.permutation(own)[: len(own) // PROPOSING])
    return own, (np.setdiff1d(own, proposing), proposing)


def class_rows(y: np.ndarray, p: np.ndarray, inside: np.ndarray, k: int) -> Rows:
    """Rows (n,) to certify class k with, as they are decided: none outside the domain, none more probably of another class."""
    return _gated(decisions.rows_of_class(y, p, k, top_only=True), inside)


def _class_cutoffs(
    y: np.ndarray, p: np.ndarray, inside: np.ndarray, own: np.ndarray, parts: tuple[np.ndarray, np.ndarray], k: int,
    targets: Mapping[str, float], risk: float,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """The recall and the precision cut-off of class k. Recall needs no proposals, so it is tested on all of `own`."""
    if not len(own):
        return {goal: _record(Cutoff(goal, targets[goal], risk, None, failure="too few rows")) for goal in GOALS}

    def rows_of(some: np.ndarray) -> Rows:
        return class_rows(y[some], p[some], inside[some], k)

    testing, proposing = parts
    other = rows_of(proposing) if len(proposing) else None
    return {
        "recall": _record(decisions.recall_cutoff(rows_of(own), targets["recall"], risk)),
        "precision": _record(decisions.precision_cutoff(rows_of(testing), targets["precision"], risk, other)),
    }


def _gated(rows: Rows, inside: np.ndarray) -> Rows:
    """The rows, none outside the domain ever accepted."""
    return Rows(np.where(inside, rows.score, -np.inf), rows.good, rows.saving)


def _cost(
    y: np.ndarray, p: np.ndarray, inside: np.ndarray, parts: tuple[np.ndarray, np.ndarray], costs: np.ndarray, risk: float
) -> dict[str, Any]:
    """The one cut-off on the expected saving that saves most against tasting all."""
    testing, proposing = parts
    if not len(testing):
        return _record(Cutoff("cost", 0.0, risk, None, failure="too few rows"))

    def rows_of(some: np.ndarray) -> tuple[Rows, tuple[float, float]]:
        best, saving = decisions.expected_savings(p[some], costs)
        rows = _gated(Rows(saving, best == y[some]), inside[some])
        return decisions.savings(rows, best, y[some], costs)

    rows, span = rows_of(testing)
    other = rows_of(proposing)[0] if len(proposing) else None
    return _record(decisions.cost_cutoff(rows, span, 0.0, risk, other))


def _record(found: Cutoff) -> dict[str, Any]:
    """A cut-off as plain JSON values; kept_percent is of all rows, 0 to 100."""
    return {
        "value": found.value, "target": found.target, "risk": found.risk,
        "measured": float(found.measured) if np.isfinite(found.measured) else None, "kept_percent": 100 * float(found.kept),
        "rows": int(found.rows), "rows_needed": int(found.rows_needed), "failure": found.failure,
    }  # fmt: skip
