"""Classical models of spectra and the choice among them by inner cross-validation.

PLS-DA, shrinkage LDA, linear SVM and ridge are linear: scores = x · coefᵀ + intercept, probabilities = softmax(scores ÷ T).
Each has one setting (components, shrinkage, C, α) and solves all its settings at once, so that a choice costs one fit per fold.
"MiniRocket" is the ridge on MiniRocket's features. `best_of` compares preprocessing × model on held-out groups, few rows in
several draws of folds, and averages the candidates that those cannot tell from the best one.
"""

from __future__ import annotations

import time
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import f1_score
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from lib import splits
from lib.task import InputError, Phrase
from lib.tasks.spectra.minirocket import MiniRocket
from lib.tasks.spectra.preprocess import recipe

Solved = tuple[np.ndarray, np.ndarray]  # coefficients (S, K, P) and intercepts (S, K) of S settings
NO_VARIANCE = 1e-30
REPEATS, FEW_ROWS = 3, 1000  # how often folds are drawn anew for a choice among so few rows; of more, once


class Linear(ClassifierMixin, BaseEstimator):
    """A linear classifier with one `setting` (None: the middle of the grid) and the temperature of its probabilities.

    `fit` alone leaves the temperature at 1; `best_of` sets it from held-out rows, which is what calibrates.
    """

    grid: ClassVar[tuple[float, ...]]
    setting_name: ClassVar[str]

    def __init__(self, setting: float | None = None, temperature: float = 1.0) -> None:
        self.setting, self.temperature = setting, temperature

    @abstractmethod
    def solve(self, x: np.ndarray, member: np.ndarray, settings: Sequence[float]) -> Solved:
        """All settings at once; `x` (n, P) float64 of mean 0 and mean squared length 1, `member` (n, K) one-hot."""

    def solve_scaled(self, x: np.ndarray, code: np.ndarray, settings: Sequence[float]) -> Solved:
        """As `solve`, for spectra in their own units and class numbers (n,) from 0, all of which occur."""
        values = np.asarray(x, dtype=np.float64)
        centre = values.mean(axis=0)
        values = values - centre
        scale = float(np.sqrt((values**2).sum() / len(values))) or 1.0
        coef, intercept = self.solve(values / scale, np.eye(int(code.max()) + 1)[code], settings)
        coef = coef / scale
        return coef, intercept - coef @ centre

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit at `setting`. Raises InputError where there is one class only."""
        self.classes_, code = _classes(y)
        setting = self.grid[len(self.grid) // 2] if self.setting is None else self.setting
        coef, intercept = self.solve_scaled(X, code, [setting])
        self.coef_, self.intercept_ = coef[0], intercept[0]
        self.n_features_in_ = self.coef_.shape[1]
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(n, K) scores."""
        return np.asarray(np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, K) probabilities, columns as `classes_`."""
        return np.asarray(softmax(self.decision_function(X) / self.temperature, axis=1))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) labels."""
        return np.asarray(self.classes_[self.decision_function(X).argmax(axis=1)])


class PlsDa(Linear):
    """Partial least squares on class membership, class of the largest response. Barker & Rayens 2003."""

    grid = tuple(range(1, 21))
    setting_name = "components"

    def solve(self, x: np.ndarray, member: np.ndarray, settings: Sequence[float]) -> Solved:
        """All numbers of components from one pass, as coefficients of fewer are partial sums of those of more.

        Improved kernel algorithm 1 (Dayal & MacGregor 1997): only the small xᵀy is deflated.
        """
        most = int(min(max(settings), len(x) - 1, x.shape[1]))
        crossed = x.T @ (member - member.mean(axis=0))
        least = np.linalg.norm(crossed) * 1e-10
        rotations, loadings = np.zeros((most, x.shape[1])), np.zeros((most, x.shape[1]))
        coef = np.zeros((most + 1, member.shape[1], x.shape[1]))
        for a in range(most):
            coef[a + 1] = coef[a]
            weight = crossed @ np.linalg.eigh(crossed.T @ crossed)[1][:, -1]
            if np.linalg.norm(weight) <= least:
                continue  # nothing left to explain: more components add nothing
            weight /= np.linalg.norm(weight)
            rotations[a] = weight - (loadings[:a] @ weight) @ rotations[:a]
            score = x @ rotations[a]
            power = score @ score
            loadings[a] = score @ x / power
            response = rotations[a] @ crossed / power
            crossed = crossed - power * np.outer(loadings[a], response)
            coef[a + 1] += np.outer(response, rotations[a])
        counts = [min(int(setting), most) for setting in settings]
        return coef[counts], np.tile(member.mean(axis=0), (len(settings), 1))


class ShrinkageLda(Linear):
    """Linear discriminants with the within-class covariance shrunk towards a multiple of the identity. Friedman 1989."""

    grid = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    setting_name = "shrinkage"

    def solve(self, x: np.ndarray, member: np.ndarray, settings: Sequence[float]) -> Solved:
        """One eigen-decomposition serves every shrinkage; outside its span only the identity's part is left."""
        share = member.mean(axis=0)
        means = member.T @ x / member.sum(axis=0)[:, None]
        within = (x - member @ means) / np.sqrt(max(len(x) - member.shape[1], 1))
        values, vectors = _directions(within)
        mean_variance = max(float((within**2).sum()) / x.shape[1], NO_VARIANCE)
        inside = means @ vectors
        outside = means - inside @ vectors.T
        coef = np.stack([
            (inside / ((1 - s) * values + s * mean_variance)) @ vectors.T + outside / (s * mean_variance) for s in settings
        ])  # fmt: skip
        return coef, np.log(share) - 0.5 * (coef * means).sum(axis=2)


class LinearSvm(Linear):
    """Linear support vector machine, squared hinge, one class against the rest."""

    grid = (1.0, 1e1, 1e2, 1e3, 1e4)
    setting_name = "C"

    def solve(self, x: np.ndarray, member: np.ndarray, settings: Sequence[float]) -> Solved:
        """Fitted in the span of the rows, where there are at most n coordinates; the margin is the same there."""
        _, vectors = _directions(x)
        turned, code = x @ vectors, member.argmax(axis=1)
        coefs, intercepts = [], []
        for c in settings:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # a rough margin at a large C is judged by its errors
                svm = LinearSVC(C=c, dual=False, tol=1e-3, max_iter=200, intercept_scaling=10).fit(turned, code)
            both = len(svm.coef_) == 1
            coefs.append((np.vstack([-svm.coef_, svm.coef_]) if both else svm.coef_) @ vectors.T)
            intercepts.append(np.concatenate([-svm.intercept_, svm.intercept_]) if both else svm.intercept_)
        return np.stack(coefs), np.stack(intercepts)


class Ridge(Linear):
    """Least squares on ±1 with a penalty on squared coefficients. Hoerl & Kennard 1970."""

    grid = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    setting_name = "alpha"

    def solve(self, x: np.ndarray, member: np.ndarray, settings: Sequence[float]) -> Solved:
        """α counts against the mean squared length of a row, which is 1."""
        target = 2 * member - 1
        mean = target.mean(axis=0)
        values, vectors = _directions(x)
        inner = vectors.T @ (x.T @ (target - mean))
        coef = np.stack([(vectors @ (inner / (values + alpha)[:, None])).T for alpha in settings])
        return coef, np.tile(mean, (len(settings), 1))


def _directions(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-zero eigenvalues (r,) and eigenvectors (P, r) of xᵀx, by the smaller of xᵀx and xxᵀ."""
    wide = x.shape[1] > len(x)
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = values > max(values[-1], NO_VARIANCE) * 1e-13
    values, vectors = values[kept], vectors[:, kept]
    return values, (x.T @ vectors) / np.sqrt(values) if wide else vectors


def _classes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(labels, class numbers). Raises InputError where there is one class only."""
    labels, code = np.unique(np.asarray(y), return_inverse=True)
    if len(labels) < 2:
        problem = Phrase("all {n} rows are of one class", n=len(code)) if len(code) else "there are no rows"
        raise InputError("classes", problem, "A model needs rows of at least two classes.")
    return labels, code


# --- the choice -------------------------------------------------------------------------------------------------------
MODELS: dict[str, type[Linear]] = {
    "PLS-DA": PlsDa,
    "shrinkage LDA": ShrinkageLda,
    "linear SVM": LinearSvm,
    "MiniRocket": Ridge,
}


@dataclass(frozen=True)
class Candidate:
    """A preprocessing recipe and one of MODELS."""

    preprocessing: str
    model: str

    @property
    def name(self) -> str:
        """`sg1+snv, linear SVM`."""
        return f"{self.preprocessing}, {self.model}"


CANDIDATES = tuple(
    [Candidate(p, m) for p in ("raw", "snv", "sg1+snv", "range") for m in ("PLS-DA", "shrinkage LDA", "linear SVM")]
    + [Candidate(p, "MiniRocket") for p in ("snv", "sg1+snv")]
)


@dataclass(frozen=True)
class Best:
    """The outcome of `best_of`; it predicts as the mean of its members.

    `table`: a row per candidate, best first: candidate, preprocessing, model, setting, accuracy (0 to 1), macro_f1, log_loss
    (nats), seconds. `models`: every candidate fitted on all rows. `held_out`: of every candidate, probabilities (R, n, K) of
    each row in each of R draws of folds, from a model that had not seen its group; columns as `labels`. `members`: the
    candidates that the held-out rows cannot tell from the best one, which comes first.
    """

    table: pd.DataFrame
    models: dict[str, Pipeline]
    held_out: dict[str, np.ndarray]
    labels: np.ndarray
    members: tuple[str, ...]

    @property
    def name(self) -> str:
        """The best single candidate."""
        return self.members[0]

    @property
    def model(self) -> Pipeline:
        """Its pipeline: `predict`, `predict_proba`."""
        return self.models[self.name]

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """(n, K) mean probabilities of the members, columns as `labels`."""
        return np.asarray(np.mean([self.models[name].predict_proba(x) for name in self.members], axis=0))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n,) labels of the largest mean probability."""
        return np.asarray(self.labels[self.predict_proba(x).argmax(axis=1)])


def best_of(
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
    candidates: Sequence[Candidate] = CANDIDATES,
    folds: int = 5,
    seen_as: np.ndarray | None = None,
    repeats: int | None = None,
) -> Best:
    """Candidates compared by their accuracy on held-out groups, equals by their log loss; all are fitted on all rows.

    `x` (n, P), `y` (n,) labels, `groups` (n,). `seen_as` (n, P): the same rows as another instrument gives them; then held-out
    rows are taken from it, and the choice is the best for that instrument. Preprocessing and MiniRocket's biases see no labels
    and are fitted once on all rows; all that learns from labels is fitted within the folds. Raises InputError where there is
    one class only, a class has one group only, or a candidate is unknown. Fewer groups than `folds` make as many folds.
    `repeats`: how often the folds are drawn anew, by default REPEATS for up to FEW_ROWS rows: among few rows, which of them are
    held out together decides more than how good a candidate is (Kim 2009, Comput. Stat. Data Anal. 53:3735).
    """
    labels, code = _classes(y)
    _check(labels, code, groups, candidates)
    together = len(code) if groups is None else len(np.unique(splits.numbered(groups)))
    draws = range((REPEATS if len(code) <= FEW_ROWS else 1) if repeats is None else repeats)
    parts = [splits.folds(code, min(folds, together), rng, groups) for _ in draws]
    seed = int(rng.integers(2**31))
    prepared: dict[tuple[str, bool], tuple[Any, np.ndarray, np.ndarray]] = {}
    rows: list[dict[str, Any]] = []
    models: dict[str, Pipeline] = {}
    held_out: dict[str, np.ndarray] = {}
    for candidate in candidates:
        begin = time.perf_counter()
        key = (candidate.preprocessing, candidate.model == "MiniRocket")
        if key not in prepared:
            prepared[key] = _prepared(*key, x, seen_as, seed)
        before, features, seen = prepared[key]
        kind = MODELS[candidate.model]
        setting, temperature, probabilities = _tuned(kind(), features, seen, code, parts)
        final = kind(setting, temperature).fit(features, labels[code])
        models[candidate.name] = Pipeline([*before, ("model", final)])
        held_out[candidate.name] = probabilities
        rows.append({
            "candidate": candidate.name, "preprocessing": candidate.preprocessing, "model": candidate.model,
            "setting": f"{kind.setting_name} {setting:g}", **_measures(code, probabilities),
            "seconds": time.perf_counter() - begin,
        })  # fmt: skip
    table = _ranked(pd.DataFrame(rows))
    return Best(table, models, held_out, labels, alike(list(table["candidate"]), held_out, code, groups))


def alike(
    names: Sequence[str], held_out: Mapping[str, np.ndarray], code: np.ndarray, groups: np.ndarray | None
) -> tuple[str, ...]:
    """Those of `names`, best first, whose held-out accuracy is within one standard error of the first one's.

    `held_out` (R, n, K) as in `Best`: a row counts by the share of draws in which it is right.
    Few rows cannot tell them apart, so picking one of them is a draw that their mean does without. The standard error is that
    of a mean over groups (n,), whose rows are right or wrong together. Breiman, Friedman, Olshen & Stone 1984, section 3.4.3.
    """
    hits = {name: (held_out[name].argmax(axis=2) == code).mean(axis=0) for name in names}
    best = hits[names[0]]
    together = np.arange(len(code)) if groups is None else splits.numbered(groups)
    off = np.bincount(np.unique(together, return_inverse=True)[1], best - best.mean())
    error = float(np.sqrt((off**2).sum() * len(off) / max(len(off) - 1, 1))) / len(code)
    return tuple(name for name in names if best.mean() - hits[name].mean() <= error + 1e-9)


def _check(labels: np.ndarray, code: np.ndarray, groups: np.ndarray | None, candidates: Sequence[Candidate]) -> None:
    unknown = [c.model for c in candidates if c.model not in MODELS]
    if unknown or not candidates:
        raise InputError(
            "candidates",
            Phrase("unknown model {name!r}", name=unknown[0]) if unknown else "there are none",
            Phrase("Models: {models}.", models=[*MODELS]),
        )
    together = np.arange(len(code)) if groups is None else splits.numbered(groups)
    alone = [str(label) for k, label in enumerate(labels) if len(np.unique(together[code == k])) < 2]
    if alone:
        problem = Phrase(
            "class {classes} has one {unit} only, so it cannot be held out",
            classes=", ".join(alone),
            unit=Phrase("row" if groups is None else "group"),
        )
        raise InputError("choice of a model", problem, "Merge the class with another, leave it out, or measure more.")


def _prepared(
    preprocessing: str, rocket: bool, x: np.ndarray, seen_as: np.ndarray | None, seed: int
) -> tuple[list[tuple[str, Any]], np.ndarray, np.ndarray]:
    """Fitted steps before the model, the features of `x` and those of the rows to hold out."""
    steps: list[tuple[str, Any]] = [("preprocessing", recipe(preprocessing))]
    steps += [("features", MiniRocket(seed=seed))] if rocket else []
    chain = Pipeline(steps)
    features = np.asarray(chain.fit_transform(x))
    return chain.steps, features, features if seen_as is None else np.asarray(chain.transform(seen_as))


def _tuned(
    model: Linear, x: np.ndarray, seen: np.ndarray, code: np.ndarray, parts: Sequence[list[tuple[np.ndarray, np.ndarray]]]
) -> tuple[float, float, np.ndarray]:
    """(setting, temperature, held-out probabilities (R, n, K)) of the setting that does best over the R draws of folds."""
    scores = np.empty((len(model.grid), len(parts), len(code), int(code.max()) + 1))
    for draw, (others, held) in [(draw, part) for draw, folds in enumerate(parts) for part in folds]:
        present, inner = np.unique(code[others], return_inverse=True)
        coef, intercept = model.solve_scaled(x[others], inner, model.grid)
        found = np.einsum("np,skp->snk", seen[held].astype(np.float64), coef, optimize=True) + intercept[:, None]
        # A class that this fold's training lacks ties with the least likely one and is never predicted.
        scores[:, draw, held] = found.min(axis=2, keepdims=True)
        scores[:, draw][np.ix_(np.arange(len(scores)), held, present)] = found
    temperatures = [_temperature(s, code) for s in scores]
    tempered = [softmax(s / t, axis=2) for s, t in zip(scores, temperatures)]
    table = pd.DataFrame([_measures(code, p) for p in tempered])
    best = int(_ranked(table).index[0])
    return float(model.grid[best]), temperatures[best], tempered[best]


def _temperature(scores: np.ndarray, code: np.ndarray) -> float:
    """Of least log loss against truths softened by 1/(n + 2), as Platt 1999: no certainty from a few faultless rows.

    `scores` (R, n, K). The bounds are about the spread of the scores, whose unit differs between models.
    """
    spread = float(scores.std()) or 1.0
    doubt, classes = 1 / (len(code) + 2), scores.shape[2]
    wanted = np.full(scores.shape[1:], doubt / (classes - 1))
    wanted[np.arange(len(code)), code] = 1 - doubt
    found = minimize_scalar(
        lambda t: -(wanted * log_softmax(scores / (spread * np.exp(t)), axis=2)).sum(axis=2).mean(),
        bounds=(np.log(0.01), np.log(50)),
        method="bounded",
        options={"xatol": 0.02},
    )
    return spread * float(np.exp(found.x))


def _measures(code: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Over all rows of all draws, probabilities (R, n, K)."""
    predicted, truth = probabilities.argmax(axis=2), np.tile(code, (len(probabilities), 1))
    return {
        "accuracy": float(np.mean(predicted == truth)),
        "macro_f1": float(f1_score(truth.ravel(), predicted.ravel(), average="macro", zero_division=0)),
        "log_loss": float(-np.log(np.maximum(probabilities[:, np.arange(len(code)), code], 1e-12)).mean()),
    }


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Best first. Rounded, because sums of equal terms in another order must not decide."""
    order = pd.DataFrame({"first": -table["accuracy"], "second": table["log_loss"]}).round(9)
    return table.loc[order.sort_values(["first", "second"], kind="stable").index]
