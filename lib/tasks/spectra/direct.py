"""Model families without gradients: chosen and fitted by `classical.best_of` in one go, then turned into a torch network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from lib.task import InputError
from lib.tasks.spectra import families
from lib.tasks.spectra.classical import CANDIDATES, Candidate, best_of
from lib.tasks.spectra.linear import Linear
from lib.tasks.spectra.minirocket import TAPS
from lib.tasks.spectra.networks import Classifier
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
    tabular: np.ndarray | None,
    codes: np.ndarray,
    groups: np.ndarray | None,
    rng: np.random.Generator,
    facts: Mapping[str, Any],
    say: Say,
) -> tuple[Classifier, dict[str, Any]]:
    """The fitted network of a family without gradients, and what to add to the run's facts: {"chosen": …}.

    `spectra` (n, P) in their own units (of a second instrument: as they are after the transfer), `codes` (n,) positions in
    facts["classes"], `groups` (n,): training rows alone; what is held out for the choice is taken from them by group. "chosen"
    has preprocessing, model, setting and `table`, a row per candidate: candidate, preprocessing, model, setting, accuracy (0 to
    1), macro_f1, log_loss (nats), seconds. The network's temperature is 1, as its scores are divided by the one that held-out
    rows gave. `say` gets sentences for the log. Raises InputError as `classical.best_of`, and where the spectra are too short for
    MiniRocket.
    """
    candidates = _candidates(config.model, len(codes), spectra.shape[1], say)
    rows = _subsample(codes, SUITED_TO.get(config.model, MOST_ROWS), rng, say)
    if tabular is not None and tabular.shape[1]:
        say(f"{config.model} looks at the spectra alone: the {tabular.shape[1]} tabular columns are not used.")
    x = np.asarray(spectra[rows], dtype=np.float64)
    best = best_of(x, codes[rows], rng, None if groups is None else np.asarray(groups)[rows], candidates)
    chosen = best.table.iloc[0]
    say(f"Chosen by held-out groups: {best.name} ({chosen['setting']}), accuracy {100 * chosen['accuracy']:.1f} %.")
    preprocessing, model, transfer = str(chosen["preprocessing"]), str(chosen["model"]), families.instrument_map(facts)
    network = families.linear(
        preprocessing, model, spectra.shape[1], len(facts["classes"]), len(facts["tabular"]), transfer
    )  # fmt: skip
    network.fit_inputs(spectra[rows], tabular[rows] if tabular is not None and tabular.shape[1] else None, rng)
    _fill(network, best.model, x)
    table = [{name: _plain(value) for name, value in row.items()} for row in best.table.to_dict("records")]
    return network, {"chosen": {name: table[0][name] for name in ("preprocessing", "model", "setting")} | {"table": table}}


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
        problem = f"it needs spectra of at least {TAPS} points; these have {points}"
        raise InputError(f"model {family!r}", problem, "Choose a linear model.")
    return found


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


def _fill(network: Classifier, fitted: Pipeline, x: np.ndarray) -> None:
    """Copy a fitted pipeline of `best_of` into the network: biases of MiniRocket, coefficients, intercepts, temperature."""
    body, model = network.body, fitted[-1]
    assert isinstance(body, Linear)
    if body.rocket is not None:
        body.rocket.biases.copy_(torch.from_numpy(np.concatenate(fitted.named_steps["features"].biases_, axis=1)))
    centre = np.asarray(fitted[:-1].transform(x[:: max(len(x) // CENTRE_ROWS, 1)]), dtype=np.float64).mean(axis=0)
    body.set(model.classes_, model.coef_ / model.temperature, model.intercept_ / model.temperature, centre)
