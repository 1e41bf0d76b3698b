"""The network of a run: preprocessing, a body that gives class scores, and how far a spectrum is from the training spectra.

A `Classifier` takes `spectra` (B, P), all channels side by side in their own units, and, where the run has any, `tabular` (B, T)
with NaN where a value is missing, and `instrument` (B,), k where the k-th of those that are brought to the first measured the
row, else 0. All that training data tell (transfer, range, means, directions, temperature) lies in buffers, so that the weights
file and the ONNX graph hold it too. Transfer, preprocessing and distances are in float64, because they amplify rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import chi2
from torch import Tensor, nn

from lib.task import InputError, Phrase
from lib.tasks.spectra.transfer import Adaptation

STEPS = ("range", "snv", "sg1")
HALF_WINDOW = 5  # points to each side of Savitzky–Golay's centre
COMPONENTS = 10  # most principal directions of the training spectra
ROWS_PER_COMPONENT = 5  # fewer training rows for each direction would tell it badly
QUANTILE = 0.995  # of the training rows' distances: the limit, which counts as 1
ROWS = 5000  # most training rows for the principal directions
FEW_ROWS = 1000  # up to here fewer than five rows lie beyond the quantile, so it is told in another way
FEWEST_ROWS = 4  # that can be left out in turn
FEW_INSIDE = 0.975
FOLDS = 10
FREEDOM = (0.3, 1000.0)  # degrees of freedom that a χ² of distances may have


def widened(x: Tensor) -> Tensor:
    """The same in float64, or in float32 on Apple's GPU, which has no other."""
    return x.float() if x.device.type == "mps" else x.double()


# --- preprocessing ----------------------------------------------------------------------------------------------------
class Preprocessing(nn.Module):
    """A chain of steps joined by "+", as `preprocess.recipe` makes it, over (B, P) spectra; "raw" changes nothing.

    "range": each point to −1…1 by its least and largest training value. "snv": standard normal variate of the whole row
    (Barnes, Dhanoa & Lister 1989), zeros for a flat one. "sg1": first derivative per point, Savitzky & Golay 1964, window 11.
    """

    low: Tensor  # (P,) least and largest training value of each point
    high: Tensor

    def __init__(self, chain: str, points: int) -> None:
        super().__init__()
        self.steps = [step for step in chain.split("+") if step != "raw"]
        unknown = [step for step in self.steps if step not in STEPS]
        if unknown:
            raise InputError(
                Phrase("preprocessing {chain!r}", chain=chain),
                Phrase("a network has no step {name!r}", name=unknown[0]),
                Phrase("Steps: raw, {steps}.", steps=", ".join(STEPS)),
            )
        if "range" in self.steps[1:]:
            raise InputError(
                Phrase("preprocessing {chain!r}", chain=chain), "range cannot come after another step", "Choose one of them."
            )
        self.register_buffer("low", torch.full((points,), -1.0))
        self.register_buffer("high", torch.ones(points))

    def fit(self, spectra: np.ndarray) -> None:
        """Take the range from training spectra (n, P)."""
        with torch.no_grad():
            self.low.copy_(torch.from_numpy(np.min(spectra, axis=0).astype(np.float32)))
            self.high.copy_(torch.from_numpy(np.max(spectra, axis=0).astype(np.float32)))

    def forward(self, spectra: Tensor) -> Tensor:
        """(B, P) -> (B, P) float64."""
        x = widened(spectra)
        for step in self.steps:
            x = self._range(x) if step == "range" else snv(x) if step == "snv" else derivative(x)
        return x

    def _range(self, x: Tensor) -> Tensor:
        low, span = widened(self.low), widened(self.high) - widened(self.low)
        span = span.masked_fill(span < 10 * torch.finfo(span.dtype).eps, 1.0)  # a constant point, as MinMaxScaler treats it
        return (x - low) * (2 / span) - 1


def snv(x: Tensor) -> Tensor:
    """(B, P) rows less their mean, by their standard deviation; a flat row becomes zeros."""
    flat = x.amax(1, keepdim=True) - x.amin(1, keepdim=True) <= 1e-12 * x.abs().amax(1, keepdim=True)
    centred = x - x.mean(1, keepdim=True)
    deviation = centred.square().mean(1, keepdim=True).sqrt()
    return centred.masked_fill(flat, 0.0) / deviation.masked_fill(flat, 1.0)


def derivative(x: Tensor) -> Tensor:
    """(B, P) slopes per point: at degree 2 the weight of the point k steps away is k / Σk². Ends are continued as they are."""
    points, reach = x.shape[1], HALF_WINDOW
    wide = torch.cat([x[:, :1].expand(-1, reach), x, x[:, -1:].expand(-1, reach)], 1)
    total = torch.zeros_like(x)
    for k in range(1, reach + 1):  # differences first: a common offset then costs no digits
        total = total + k * (wide[:, reach + k : reach + k + points] - wide[:, reach - k : reach - k + points])
    return total / (2 * sum(k * k for k in range(1, reach + 1)))


# --- between two instruments ------------------------------------------------------------------------------------------
class InstrumentMap(nn.Module):
    """Brings rows of each further instrument to the first, or, with `all_alike`, projects all: an affine map per channel."""

    centre: Tensor  # (S, P), a row for each instrument that is brought to the first; one where all are projected
    offset: Tensor  # (S, P) what becomes of `centre`

    def __init__(self, lengths: Sequence[int], count: int = 1, all_alike: bool = False) -> None:
        super().__init__()
        self.columns, self.all_alike = split_points(lengths), all_alike
        self.register_buffer("centre", torch.zeros(count, sum(lengths)))
        self.register_buffer("offset", torch.zeros(count, sum(lengths)))
        for place, points in enumerate(lengths):  # (S, points, points) of each channel; nothing changes until `set`
            self.register_buffer(f"matrix_{place}", torch.eye(points).repeat(count, 1, 1))

    def set(self, adaptation: Adaptation) -> None:
        """Take the maps of all instruments and channels."""
        for k, maps in enumerate(adaptation.maps):
            self.centre[k] = torch.from_numpy(np.concatenate([one.centre for one in maps]))
            self.offset[k] = torch.from_numpy(np.concatenate([one.offset for one in maps]))
            for place, one in enumerate(maps):
                self.get_buffer(f"matrix_{place}")[k] = torch.from_numpy(one.matrix)

    def forward(self, spectra: Tensor, instrument: Tensor | None) -> Tensor:
        """(B, P) and (B,) -> (B, P) float64: rows of instrument k by the k-th map, others as they are.

        Raises InputError where the instruments must be known and are not.
        """
        x = widened(spectra)
        if self.all_alike:
            return self._mapped(x, 0)
        if instrument is None:
            raise InputError("instrument", "the model transfers between some and was not told which", "Give `instrument`.")
        out = x
        for k in range(len(self.centre)):
            out = torch.where((instrument - (k + 1)).abs().unsqueeze(1) < 0.5, self._mapped(x, k), out)
        return out

    def _mapped(self, x: Tensor, k: int) -> Tensor:
        centred = x - widened(self.centre[k])
        parts = [
            centred[:, first:end] @ widened(self.get_buffer(f"matrix_{place}")[k])
            for place, (first, end) in enumerate(self.columns)
        ]
        return torch.cat(parts, 1) + widened(self.offset[k])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Weights made when there was one map at most have no axis of instruments."""
        for name, own in self.named_buffers():
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.ndim == own.ndim - 1:
                state_dict[prefix + name] = stored.unsqueeze(0)
        super()._load_from_state_dict(state_dict, prefix, *args)


# --- distance from the training spectra -------------------------------------------------------------------------------
class Distance(nn.Module):
    """Hotelling's T² in the principal directions of the training spectra and the squared residual Q outside them.

    Each is divided by its limit, which 99.5 % of ordinary spectra keep. Of many training rows it is their quantile (Jackson &
    Mudholkar 1979, with quantiles instead of their distribution theory). Few rows cannot tell a quantile so far out and lie
    closer to directions fitted to them than others do: then rows left out in turn give it, as the scaled χ² that has their
    quartiles (Pomerantsev & Rodionova 2014, J. Chemometrics 28:429), and no lower than what FEW_INSIDE of the rows keep.
    """

    mean: Tensor  # (P,)
    components: Tensor  # (k, P), rows of length 1, or zeros where there are fewer
    deviations: Tensor  # (k,) standard deviation of each score
    limits: Tensor  # (2,) of T² and Q

    def __init__(self, points: int) -> None:
        super().__init__()
        count = min(COMPONENTS, points)
        self.register_buffer("mean", torch.zeros(points))
        self.register_buffer("components", torch.zeros(count, points))
        self.register_buffer("deviations", torch.ones(count))
        self.register_buffer("limits", torch.ones(2))

    def fit(self, x: np.ndarray, rng: np.random.Generator) -> None:
        """From training spectra (n, P) float64."""
        parts = np.array_split(rng.permutation(len(x)), min(FOLDS, len(x))) if FEWEST_ROWS <= len(x) <= FEW_ROWS else []
        found = np.empty((2, len(x)))
        for held in parts:
            self._set_directions(np.delete(x, held, axis=0))
            found[:, held] = self._distances_of(x[held])
        self._set_directions(x)
        own = self._distances_of(x)
        if parts:
            # A row that makes a direction of its own has a large Q where it is left out, and a large T² where it is not.
            inside = np.quantile([found, own], FEW_INSIDE, axis=2).max(axis=0)
            limits = np.maximum([chi2_limit(values) for values in found], inside)
        else:
            limits = np.quantile(own, QUANTILE, axis=1)
        least = np.array([1e-6, 1e-9 * max(float(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()), 1e-20)])
        with torch.no_grad():
            self.limits.copy_(torch.from_numpy(np.maximum(limits, least)))

    def _set_directions(self, x: np.ndarray) -> None:
        from sklearn.decomposition import PCA  # half a second that only training pays

        count = min(len(self.components), len(x) // ROWS_PER_COMPONENT)
        self.components.zero_()
        self.deviations.fill_(1)
        self.mean.copy_(torch.from_numpy(x.mean(axis=0)))
        if not count or not np.ptp(x, axis=0).any():
            return
        found = PCA(count, random_state=0).fit(x)
        spread = np.sqrt(found.explained_variance_)
        used = spread > 1e-6 * spread[0]
        self.components[:count][used] = torch.from_numpy(found.components_[used]).to(self.components)
        self.deviations[:count][used] = torch.from_numpy(spread[used]).to(self.deviations)

    def _distances_of(self, x: np.ndarray) -> np.ndarray:
        return torch.stack(self.distances(torch.from_numpy(x).to(self.mean.device))).cpu().numpy()

    def distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """T² and Q (B,) of spectra (B, P), in their own units."""
        components = widened(self.components)
        centred = widened(x) - widened(self.mean)
        scores = centred @ components.T
        residual = centred - scores @ components
        return (scores / widened(self.deviations)).square().sum(1), residual.square().sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """(2, B): T² and Q by their limits."""
        return torch.stack(self.distances(x)) / widened(self.limits).unsqueeze(1)


def chi2_limit(values: np.ndarray) -> float:
    """The QUANTILE of a χ² of any scale and number of degrees of freedom, from the quartiles of values (n,), n ≥ 1.

    Quartiles, because a mean and a variance would follow the very outliers that the limit is to tell.
    """
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    if not middle > 0:
        return 0.0

    def off(log_freedom: float) -> float:
        quartiles = np.asarray(chi2.ppf((0.25, 0.5, 0.75), np.exp(log_freedom)))
        return float((quartiles[2] - quartiles[0]) / quartiles[1] - (high - low) / middle)

    least, most = np.log(FREEDOM)
    freedom = np.exp(least if off(least) <= 0 else most if off(most) >= 0 else brentq(off, least, most))
    return float(middle * chi2.ppf(QUANTILE, freedom) / chi2.ppf(0.5, freedom))


class Domain(nn.Module):
    """How far spectra are from the training spectra, as they are and by their shape, whichever is farther.

    As they are, each channel by its typical deviation, because channels have units of their own: a spectrum too bright is told.
    By shape, each channel after SNV: a band that moved is told, which the spread of brightness would hide.
    """

    spread: Tensor  # (P,) typical deviation of a channel, at all its points

    def __init__(self, lengths: Sequence[int]) -> None:
        super().__init__()
        self.columns = split_points(lengths)
        self.size, self.shape = Distance(sum(lengths)), Distance(sum(lengths))
        self.register_buffer("spread", torch.ones(sum(lengths)))

    def fit(self, x: np.ndarray, rng: np.random.Generator) -> None:
        """From training spectra (n, P) float64 in their own units."""
        variance = x.var(axis=0)
        for first, end in self.columns:
            spread = float(np.sqrt(variance[first:end].mean()))
            self.spread[first:end] = spread if spread > 1e-12 * float(np.abs(x[:, first:end]).max()) else 1.0
        for distance, seen in zip((self.size, self.shape), self._seen(torch.from_numpy(x).to(self.spread.device))):
            distance.fit(seen.double().cpu().numpy(), rng)

    def _seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spectra (B, P) as they are, and their shapes."""
        shapes = [snv(x[:, first:end]) for first, end in self.columns]
        return x / widened(self.spread), torch.cat(shapes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """T² and Q (B,) of spectra (B, P) float64 by their limits: 1 is the edge of the training spectra."""
        size, shape = self._seen(x)
        farther = torch.maximum(self.size(size), self.shape(shape)).float()
        return farther[0], farther[1]


# --- the classifier ---------------------------------------------------------------------------------------------------
class Body(nn.Module):
    """Turns preprocessed spectra into class scores."""

    def fit_inputs(self, x: np.ndarray) -> None:
        """Take what is needed of preprocessed training spectra (n, P) float64; nothing, unless a body says otherwise."""
        return

    def forward(self, x: Tensor, tabular: Tensor) -> Tensor:
        """Logits (B, K) of preprocessed spectra (B, P) float64 and standardised tabular values (B, T), T may be 0."""
        raise TypeError(f"{type(self).__name__} does not say what it makes of a spectrum")


class Unfitted(Body):
    """Stands where a model without gradients will be, before its training rows have chosen it."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self.family = family

    def forward(self, x: Tensor, tabular: Tensor) -> Tensor:
        """Raises InputError."""
        raise InputError(
            Phrase("model {model!r}", model=self.family), "it has not been fitted yet", "Train the run to its end first."
        )


class Classifier(nn.Module):
    """Transfer → preprocessing → body → probabilities of the K classes, with the distances T² and Q from the training spectra."""

    temperature: Tensor  # () divides the logits
    tabular_mean: Tensor  # (T,)
    tabular_deviation: Tensor  # (T,)

    def __init__(
        self, body: Body, preprocessing: str, lengths: Sequence[int], tabular: int = 0, transfer: InstrumentMap | None = None
    ) -> None:
        """`lengths` are the channels' points, in their order."""
        super().__init__()
        self.transfer = transfer
        self.preprocessing, self.domain, self.body = Preprocessing(preprocessing, sum(lengths)), Domain(lengths), body
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("tabular_mean", torch.zeros(tabular))
        self.register_buffer("tabular_deviation", torch.ones(tabular))

    def forward(self, spectra: Tensor, tabular: Tensor | None = None, instrument: Tensor | None = None) -> Tensor:
        """Logits (B, K) float32, before the temperature."""
        return self.body(self.preprocessing(self._transferred(spectra, instrument)), self._standardised(spectra, tabular))

    def physical(self, spectra: Tensor, tabular: Tensor | None = None, instrument: Tensor | None = None) -> dict[str, Tensor]:
        """`probability` (B, K), rows adding to 1; `t2` and `q` (B,), of which 1 is the edge of the training spectra."""
        x = self._transferred(spectra, instrument)
        logits = self.body(self.preprocessing(x), self._standardised(spectra, tabular))
        t2, q = self.domain(x)
        return {"probability": torch.softmax(logits.float() / self.temperature, 1), "t2": t2, "q": q}

    def _transferred(self, spectra: Tensor, instrument: Tensor | None) -> Tensor:
        """(B, P) float64 of any instrument."""
        return widened(spectra) if self.transfer is None else self.transfer(spectra, instrument)

    def _standardised(self, spectra: Tensor, tabular: Tensor | None) -> Tensor:
        """(B, T) of mean 0 and standard deviation 1 on training rows; a missing value is the mean. Raises InputError."""
        wanted = self.tabular_mean.shape[0]
        if not wanted:
            return spectra.new_zeros(spectra.shape[0], 0)
        if tabular is None or tabular.shape[1] != wanted:
            problem = Phrase(
                "the model takes {wanted} beside the spectra and was given {given}",
                wanted=wanted,
                given=0 if tabular is None else tabular.shape[1],
            )
            raise InputError("tabular values", problem, "Give the columns that the model was trained with.")
        known = tabular.abs() < torch.inf  # neither missing nor infinite
        return (torch.where(known, tabular, self.tabular_mean) - self.tabular_mean) / self.tabular_deviation

    def set_temperature(self, temperature: float) -> None:
        """What divides the logits: above 1 makes probabilities less certain. Guo et al. 2017."""
        if not temperature > 0:
            raise ValueError(f"a temperature is above 0, not {temperature}")
        self.temperature.fill_(temperature)

    def set_transfer(self, adaptation: Adaptation | None) -> None:
        """Take what was learnt between instruments; nothing where the run has no transfer."""
        if adaptation is not None:
            assert self.transfer is not None, "the network was built without facts['transfer']"
            self.transfer.set(adaptation)

    def fit_inputs(self, spectra: np.ndarray, tabular: np.ndarray | None, rng: np.random.Generator) -> None:
        """Range, principal directions and scales from the training rows: spectra (n, P), tabular (n, T) with NaN or None.

        Spectra of further instruments are given as they are after the transfer. Raises InputError where there are fewer than two
        rows, or a spectrum has a missing value.
        """
        if len(spectra) < 2:
            raise InputError("training spectra", Phrase("there are {n}", n=len(spectra)), "Give at least two.")
        self.preprocessing.fit(spectra)
        if not bool(torch.isfinite(self.preprocessing.low + self.preprocessing.high).all()):
            raise InputError("training spectra", "some have missing or infinite values", "Remove them on the Clean page.")
        rows = np.sort(rng.choice(len(spectra), ROWS, replace=False)) if len(spectra) > ROWS else np.arange(len(spectra))
        chosen = torch.from_numpy(np.asarray(spectra[rows], dtype=np.float32)).to(self.preprocessing.low.device)
        with torch.no_grad():
            self.domain.fit(widened(chosen).double().cpu().numpy(), rng)
            self.body.fit_inputs(self.preprocessing(chosen).double().cpu().numpy())
            if tabular is not None:
                self._fit_tabular(tabular)

    def _fit_tabular(self, tabular: np.ndarray) -> None:
        known = np.ma.masked_invalid(np.asarray(tabular, dtype=float))
        deviation = known.std(axis=0).filled(1.0)
        self.tabular_mean.copy_(torch.from_numpy(known.mean(axis=0).filled(0.0)))
        self.tabular_deviation.copy_(torch.from_numpy(np.where(deviation > 0, deviation, 1.0)))


def split_points(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(first, last + 1) column of each channel in the side-by-side spectra."""
    ends = np.cumsum(lengths).tolist()
    return list(zip([0, *ends], ends))
