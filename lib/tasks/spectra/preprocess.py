"""What is done to spectra before a model sees them, as scikit-learn transformers over (n, P) arrays; and instrument transfer.

A recipe is a chain of step names, "sg1+snv". Steps are chemotools', made safe for flat spectra, or scikit-learn's. Whatever is
fitted (MSC's reference, the range of each point) is fitted on the rows given to `fit`: pass training rows alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal, Self

import numpy as np
from chemotools.adaptation import DirectStandardization, PiecewiseDirectStandardization
from chemotools.baseline import ArPls
from chemotools.derivative import SavitzkyGolay
from chemotools.projection import ExternalParameterOrthogonalization
from chemotools.scatter import MultiplicativeScatterCorrection, StandardNormalVariate
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from lib.task import InputError, Phrase

WINDOW, DEGREE = 11, 2  # points and polynomial degree of Savitzky–Golay
STIFFNESS = 1e5  # λ of the baseline: larger bends less

Method = Literal["ds", "pds", "epo"]
METHODS: tuple[Method, ...] = ("ds", "pds", "epo")
COMPONENTS: dict[Method, int] = {"ds": 15, "pds": 2, "epo": 2}


def _flat(x: np.ndarray) -> np.ndarray:
    """(n,) whether a spectrum is constant: it has no shape to normalise."""
    values = np.asarray(x)
    return np.asarray(np.ptp(values, axis=1) <= 1e-12 * np.abs(values).max(axis=1, initial=1e-300))


class Snv(StandardNormalVariate):
    """Standard normal variate: each spectrum less its mean, by its standard deviation. Barnes, Dhanoa & Lister 1989.

    A flat spectrum becomes zeros.
    """

    def transform(self, X: np.ndarray, y: None = None) -> np.ndarray:
        """(n, P) -> (n, P), rows of mean 0 and standard deviation 1."""
        flat = _flat(X)
        safe = np.array(X, dtype=float)
        safe[flat] = np.arange(safe.shape[1])
        out = np.asarray(super().transform(safe))
        out[flat] = 0
        return out


class Msc(MultiplicativeScatterCorrection):
    """Multiplicative scatter correction against the mean training spectrum. Geladi, MacDougall & Martens 1985.

    A flat spectrum, or one with no slope against the reference, becomes the reference.
    """

    def transform(self, X: np.ndarray) -> np.ndarray:
        """(n, P) -> (n, P), gain and offset of each spectrum undone."""
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.asarray(super().transform(X))
        shapeless = _flat(X) | ~np.isfinite(out).all(axis=1)
        out[shapeless] = self.reference_
        return out


STEPS: dict[str, Callable[[], BaseEstimator]] = {
    "snv": Snv,
    "msc": Msc,
    "baseline": lambda: ArPls(lam=STIFFNESS),  # Baek et al. 2015
    "smooth": lambda: SavitzkyGolay(WINDOW, DEGREE, 0),
    "sg1": lambda: SavitzkyGolay(WINDOW, DEGREE, 1),
    "sg2": lambda: SavitzkyGolay(WINDOW, DEGREE, 2),
    "range": lambda: MinMaxScaler((-1, 1)),  # each point by its least and largest training value
}


def recipe(text: str) -> Pipeline | Literal["passthrough"]:
    """The transformer of a chain of step names joined by "+"; "raw" or "" changes nothing.

    Raises InputError listing the steps where one is unknown.
    """
    names = [name for name in text.replace(" ", "").split("+") if name not in ("", "raw")]
    for name in names:
        if name not in STEPS:
            raise InputError(
                Phrase("preprocessing {chain!r}", chain=text),
                Phrase("there is no step {name!r}", name=name),
                Phrase("Steps: {steps}.", steps=", ".join(STEPS)),
            )
    if not names:
        return "passthrough"
    return Pipeline([(f"{place}-{name}", STEPS[name]()) for place, name in enumerate(names, 1)])


class Derivative(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Savitzky–Golay with the user's window (odd, points), degree and derivative; short spectra get the widest that fits."""

    def __init__(self, window: int = WINDOW, degree: int = DEGREE, order: int = 1) -> None:
        self.window, self.degree, self.order = window, degree, order

    def fit(self, X: np.ndarray, y: object = None) -> Self:
        """Choose the window. Raises InputError where the polynomial does not fit into it."""
        points = np.shape(X)[1]
        widest = min(self.window, points - 1 + points % 2)
        if not self.order <= self.degree < widest:
            raise InputError(
                Phrase(
                    "Savitzky–Golay window {window}, degree {degree}, derivative {order}",
                    window=self.window,
                    degree=self.degree,
                    order=self.order,
                ),
                Phrase("a window of {points} points does not hold it", points=widest),
                "Choose derivative ≤ degree < window ≤ points of the spectrum.",
            )
        self.filter_ = SavitzkyGolay(widest, self.degree, self.order).fit(X)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """(n, P) -> (n, P), per point of the axis."""
        return np.asarray(self.filter_.transform(X))


# --- between two instruments ------------------------------------------------------------------------------------------
class Transfer(BaseEstimator):
    """Makes spectra of a second instrument fit a model of the first, learnt from samples that both measured.

    "ds", "pds": direct and piecewise direct standardisation (Wang, Veltkamp & Kowalski 1991) map the second to the first;
    DS through the `components` largest directions of the second, PDS through as many latent variables of the `half_window`
    points to each side. "epo": external parameter orthogonalisation (Roger, Chauchard & Bellon-Maurel 2003) removes
    `components` directions of difference from both. No number means COMPONENTS of the method.
    """

    def __init__(self, method: Method = "pds", components: int | None = None, half_window: int = 5) -> None:
        self.method, self.components, self.half_window = method, components, half_window

    def fit(self, first: np.ndarray, second: np.ndarray) -> Self:
        """`first`, `second` (m, P): the same m samples, row by row. Raises InputError where they cannot be the same."""
        first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
        self._check(first, second)
        count = COMPONENTS[self.method] if self.components is None else self.components
        if self.method == "epo":
            ids = np.tile(np.arange(len(first)), 2)
            both = np.concatenate([first, second])
            self.map_ = ExternalParameterOrthogonalization(count).fit(both, X_external=both, sample_ids=ids)
            return self
        # chemotools' DS has no offset, so both are fitted about their means.
        self.first_mean_, self.second_mean_ = first.mean(axis=0), second.mean(axis=0)
        self.map_ = (
            DirectStandardization()
            if self.method == "ds"
            else PiecewiseDirectStandardization(self.half_window, count, scale=False, storage="band")
        )
        with warnings.catch_warnings():
            # Where a window holds fewer directions than components, the rest are 0: nothing to warn of.
            warnings.filterwarnings("ignore", "X (weight|score norm) is close to zero")
            self.map_.fit(self._about_mean(second, count), X_source=first - self.first_mean_)
        return self

    def _about_mean(self, second: np.ndarray, count: int) -> np.ndarray:
        """The second instrument's shared spectra less their mean; for DS, whose inverse would fit noise, in few directions."""
        centred = second - self.second_mean_
        if self.method != "ds":
            return centred
        largest = np.linalg.svd(centred, full_matrices=False)[2][:count]
        return np.asarray(centred @ largest.T @ largest)

    def held_out(self, first: np.ndarray, second: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """(m, P): each shared sample of the second instrument, transferred by a map fitted without its fold.

        `parts` as `lib.splits.folds` gives them. What `of_second` makes of the samples it was fitted to flatters it.
        """
        out = np.empty(np.shape(second))
        for others, held in parts:
            out[held] = clone(self).fit(first[others], second[others]).of_second(second[held])
        return out

    def _check(self, first: np.ndarray, second: np.ndarray) -> None:
        subject = "instrument transfer"
        if self.method not in METHODS:
            raise InputError(
                subject,
                Phrase("there is no method {method!r}", method=self.method),
                Phrase("Methods: {methods}.", methods=", ".join(METHODS)),
            )
        if first.shape != second.shape:
            problem = Phrase(
                "the shared samples have {first} values on one instrument and {second} on the other",
                first=first.shape,
                second=second.shape,
            )
            raise InputError(subject, problem, "Give the same samples in the same order on the same axis.")
        count = COMPONENTS[self.method] if self.components is None else self.components
        if len(first) <= count:
            problem = Phrase("{n} shared samples cannot tell {count} components", n=len(first), count=count)
            raise InputError(subject, problem, "Measure more samples on both instruments.")

    def of_second(self, x: np.ndarray) -> np.ndarray:
        """(n, P) of the second instrument as the model of the first should see them."""
        if self.method == "epo":
            return np.asarray(self.map_.transform(np.asarray(x, dtype=float)))
        return np.asarray(self.map_.transform(np.asarray(x, dtype=float) - self.second_mean_) + self.first_mean_)

    def of_first(self, x: np.ndarray) -> np.ndarray:
        """(n, P) of the first instrument for training: unchanged by DS and PDS, projected by EPO."""
        return np.asarray(self.map_.transform(np.asarray(x, dtype=float)) if self.method == "epo" else x)
