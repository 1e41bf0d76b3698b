"""Model families without gradients: chosen and fitted by `classical.best_of` in one go, then turned into a torch network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import nn

from lib.task import InputError, Phrase
from lib.tasks.spectra import families
from lib.tasks.spectra.classical import CANDIDATES, Candidate, best_of
from lib.tasks.spectra.linear import Averaged, Linear
from lib.tasks.spectra.minirocket import TAPS
from lib.tasks.spectra.networks import Classifier, Preprocessing
from lib.tasks.spectra.settings import Training

MOST_ROWS = 20_000
# MiniRocket: its 9996 features of more rows do not fit into an ordinary memory; the SVM: its time grows faster than the rows
SUITED_TO = {"MiniRocket": 10_000, "linear SVM": 5_000}
RARE_ROWS = 20  # a class keeps at least so many rows, or all it has
CENTRE_ROWS = 200

Say = Callable[[str], None]


def fit(
    config: Training,
    spectra: np.ndarray,
    codes: np.ndarray,
    groups: np.ndarray | None,
    rng: np.random.Generator,
    facts: Mapping[str, Any],
    say: Say,
) -> tuple[Classifier, dict[str, Any]]:
    """The fitted network of a family without gradients, and what to add to the run's facts: {"chosen": …}.

    "best of" is the mean of the candidates that held-out rows cannot tell from the best (`classical.alike`); a family by its name
    is its best candidate alone.

    `spectra` (n, P) in their own units (of further instruments: as they are after the transfer), `codes` (n,) positions in
    facts["classes"], `groups` (n,): training rows alone; what is held out for the choice is taken from them by group. "chosen"
    has preprocessing, model and setting of the best candidate, `members` with the same of each that is averaged, and `table`, a
    row per candidate: candidate, preprocessing, model, setting, accuracy (0 to 1), macro_f1, log_loss (nats), seconds, averaged
    ("✓" or ""). The network's temperature is 1, as its scores are divided by the one that held-out
    rows gave. `say` gets sentences for the log. Raises InputError as `classical.best_of`, and where the spectra are too short for
    MiniRocket.
    """
    candidates = _candidates(config.model, len(codes), spectra.shape[1], say)
    rows = _subsample(codes, SUITED_TO.get(config.model, MOST_ROWS), rng, say)
    x = np.asarray(spectra[rows], dtype=np.float64)
    groups = None if groups is None else np.asarray(groups)[rows]
    _refuse_lone(codes[rows], groups, facts["classes"])
    best = best_of(x, codes[rows], rng, groups, candidates)
    names = best.members if config.model == "best of" else best.members[:1]
    table = [{name: _plain(value) for name, value in row.items()} for row in best.table.to_dict("records")]
    table = [row | {"averaged": "✓" if row["candidate"] in names else ""} for row in table]
    members = [{name: row[name] for name in ("preprocessing", "model", "setting")} for row in table if row["averaged"]]
    accuracy = 100 * float(best.table["accuracy"].iloc[0])
    say(f"Chosen by held-out groups: {best.name} ({members[0]['setting']}), accuracy {accuracy:.1f} %.")
    if len(names) > 1:
        say(f"Averaged with what is within a standard error of it: {'; '.join(names[1:])}.")
    transfer = families.instrument_map(facts)
    lengths = [len(channel["axis"]) for channel in facts["channels"]]
    network = families.linear(members, lengths, len(facts["classes"]), transfer=transfer)
    network.fit_inputs(spectra[rows], None, rng)
    _fill(network, [best.models[name] for name in names], spectra[rows])
    return network, {"chosen": members[0] | {"members": members, "table": table}}


def _plain(value: Any) -> str | float:
    """A cell as JSON takes it."""
    return value if isinstance(value, str) else float(value)


def _candidates(family: str, rows: int, points: int, say: Say) -> tuple[Candidate, ...]:
    """What the family chooses among. Raises InputError where nothing is left."""
    found = tuple(c for c in CANDIDATES if family in ("best of", c.model))
    for model, most in SUITED_TO.items():
        if family == "best of" and rows > most:
            say(f"{model} is left out: {rows} rows are more than the {most} that it is suited to.")
            found = tuple(c for c in found if c.model != model)
    if points < TAPS:
        found = tuple(c for c in found if c.model != "MiniRocket")
    if not found:
        problem = Phrase("it needs spectra of at least {least} points; these have {points}", least=TAPS, points=points)
        raise InputError(Phrase("model {family!r}", family=family), problem, "Choose a linear model.")
    return found


def _refuse_lone(codes: np.ndarray, groups: np.ndarray | None, classes: Sequence[str]) -> None:
    """Raises InputError where a class has so few training rows that none of them can be held out for the choice."""
    together = np.arange(len(codes)) if groups is None else groups
    lone = [classes[code] for code in np.unique(codes) if len(np.unique(together[codes == code])) < 2]
    if lone:
        raise InputError(
            "choice of a model",
            Phrase("of class {classes} there is one specimen only to train on, so none can be held out", classes=", ".join(lone)),
            "Lower validation_percent and calibration_percent or raise n_splits; else merge or drop rare classes.",
        )


def _subsample(codes: np.ndarray, most: int, rng: np.random.Generator, say: Say) -> np.ndarray:
    """Increasing row numbers: all, or about `most` with the classes' shares kept and rare classes whole."""
    if len(codes) <= most:
        return np.arange(len(codes))
    parts = []
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        wanted = max(round(most * len(rows) / len(codes)), min(len(rows), RARE_ROWS))
        parts.append(rng.choice(rows, wanted, replace=False))
    kept = np.sort(np.concatenate(parts))
    say(f"Fitted on {len(kept)} of {len(codes)} training rows, drawn with the shares of the classes kept.")
    return kept


def _fill(network: Classifier, fitted: Sequence[Pipeline], spectra: np.ndarray) -> None:
    """Copy fitted pipelines of `best_of` into the network; `spectra` (n, P) are the rows they were fitted to."""
    body = network.body
    if isinstance(body, Averaged):
        for before, member, pipeline in zip(body.preprocessings, body.members, fitted):
            assert isinstance(before, Preprocessing)
            before.fit(spectra)
            _fill_one(member, pipeline, spectra)
    else:
        _fill_one(body, fitted[0], spectra)


def _fill_one(body: nn.Module, fitted: Pipeline, spectra: np.ndarray) -> None:
    """Biases of MiniRocket, coefficients, intercepts, temperature."""
    assert isinstance(body, Linear)
    model = fitted[-1]
    if body.rocket is not None:
        body.rocket.biases.copy_(torch.from_numpy(np.concatenate(fitted.named_steps["features"].biases_, axis=1)))
    some = np.asarray(spectra[:: max(len(spectra) // CENTRE_ROWS, 1)], dtype=np.float64)
    centre = np.asarray(fitted[:-1].transform(some), dtype=np.float64).mean(axis=0)
    body.set(model.classes_, model.coef_ / model.temperature, model.intercept_ / model.temperature, centre)
