"""Instrument transfer in training: an affine map of each channel, learnt from the specimens that two instruments measured.

One instrument stays as it is, and each other one has maps of its own to it. `preprocess.Transfer` fits ds, pds and epo; all
three are affine, y = (x − centre) · matrix + offset, which is what a network and its ONNX graph hold. Each channel has its own
map: channels have units of their own, and the one of the largest numbers would otherwise decide. A map sees training rows alone,
and no labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.splits import numbered
from lib.task import InputError, Phrase, Samples
from lib.tasks.spectra.arrays import instruments_of
from lib.tasks.spectra.preprocess import COMPONENTS, METHODS, Method, Transfer
from lib.tasks.spectra.settings import Training
from lib.tasks.spectra.table import SpectraTable

ROWS = 4096  # mapped together


@dataclass(frozen=True)
class Affine:
    """Spectra x (n, p) of one channel become (x − centre) · matrix + offset; float32, as a network stores it."""

    centre: np.ndarray  # (p,)
    matrix: np.ndarray  # (p, p)
    offset: np.ndarray  # (p,)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, p) -> (n, p) float64."""
        return (x - self.centre.astype(float)) @ self.matrix.astype(float) + self.offset


@dataclass(frozen=True)
class Adaptation:
    """What brings spectra of each of `others` to the instrument `first` (ds, pds), or projects those of all (epo).

    `maps` are, for each of `others`, those of the channels in their order; of epo there is one such set for all. `shared` counts
    the specimens that each had in common with the first, and `known` are all instruments of the table, those left as they are
    among them.
    """

    method: Method
    first: str
    others: tuple[str, ...]
    known: tuple[str, ...]
    shared: tuple[int, ...]
    maps: tuple[tuple[Affine, ...], ...]

    def facts(self) -> dict[str, Any]:
        """What a run keeps of it, as plain JSON values.

        "method", "from" (the first instrument), "to" (the others that are brought to it), "known" and "shared".
        """
        lists = {"to": list(self.others), "known": list(self.known), "shared": list(self.shared)}
        return {"method": self.method, "from": self.first, **lists}

    def maps_of(self, place: int) -> tuple[Affine, ...]:
        """The channels' maps for one of `others`, by its place."""
        return self.maps[0 if self.method == "epo" else place]

    def apply(self, spectra: np.ndarray, number: np.ndarray) -> None:
        """Change spectra (n, P), channels side by side, in place: rows of `number` (n,) k by the maps of the k-th of `others`.

        Rows of number 0 stay as they are; under epo all rows are projected.
        """
        for place, maps in enumerate(self.maps, 1):
            rows = np.arange(len(spectra)) if self.method == "epo" else np.flatnonzero(number == place)
            edges = np.cumsum([0, *(len(one.centre) for one in maps)])
            for some in np.array_split(rows, -(-len(rows) // ROWS)) if len(rows) else []:
                for one, start, end in zip(maps, edges[:-1], edges[1:]):
                    spectra[some, start:end] = one(spectra[some, start:end])


# --- learning ---------------------------------------------------------------------------------------------------------
def learn(
    config: Training, table: SpectraTable, specimens: np.ndarray, train: np.ndarray, used: np.ndarray, name: str
) -> Adaptation | None:
    """The transfer that a training asks for, None where it asks for none.

    `specimens` (n,) of the rows of the table; `train` and `used` are the row numbers of the training part and of all parts.
    Replicates of a specimen on one instrument are averaged. Raises InputError where the used rows are not of at least two
    instruments with names, where an instrument has too few specimens of the training part in common with the first, and where
    `transfer_shared` is no column.
    """
    if config.transfer == "none":
        return None
    instruments = instruments_of(table.rows)
    first, others, known = _roles(instruments[used], config, name)
    number = numbered(_same(table.rows, config.transfer_shared, specimens, name))
    own = train[instruments[train] == first]
    pairs = [_pair(own, train[instruments[train] == word], number, config.transfer, (first, word)) for word in others]
    shared = tuple(len(np.unique(number[here])) for here, _ in pairs)
    means = [
        [(specimen_means(channel.values, here, number), specimen_means(channel.values, there, number)) for here, there in pairs]
        for channel in table.channels
    ]
    if config.transfer == "epo":  # removes as many directions for each of the others as it would for one
        count = COMPONENTS["epo"] * len(others)
        together = [[np.concatenate(side) for side in zip(*both)] for both in means]
        maps = [[_affine("epo", first_means, other_means, count) for first_means, other_means in together]]
    else:
        maps = [[_affine(config.transfer, *both[place]) for both in means] for place in range(len(others))]
    return Adaptation(config.transfer, first, others, known, shared, tuple(map(tuple, maps)))


def _roles(instruments: np.ndarray, config: Training, name: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(first, those brought to it, all) of the instruments of rows (n,), the most frequent before others.

    The first is the one named as `transfer_primary`, else, of those that `transfer_to` does not name, the one with most rows.
    """
    counts = pd.Series(instruments).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    missing = int(counts.pop("")) if "" in counts else 0
    if missing:
        problem = Phrase(
            "does not tell the instrument of {n} of {count} samples, which a transfer must know",
            n=missing,
            count=len(instruments),
        )
        raise InputError(name, problem, "Name the column of instruments on the Clean page, or choose transfer = none.")
    found = [str(word) for word in counts.index]
    if len(found) < 2:
        problem = Phrase("a transfer is between instruments, and all samples are of one, {name}", name=", ".join(found))
        raise InputError(name, problem, "Add samples of another instrument, or choose transfer = none.")
    for key, words in (("transfer_primary", [config.transfer_primary]), ("transfer_to", config.transfer_to)):
        if strange := [word for word in words if word and word not in found]:
            subject = Phrase("{key} {wanted!r}", key=key, wanted=strange[0])
            raise InputError(subject, "no sample is of that instrument", Phrase("Instruments: {names}.", names=", ".join(found)))
    first = config.transfer_primary or next((word for word in found if word not in config.transfer_to), found[0])
    if first in config.transfer_to:
        subject = Phrase("{key} {wanted!r}", key="transfer_to", wanted=first)
        raise InputError(subject, "one instrument must stay as it is", "Leave it out of transfer_to.")
    return first, tuple(word for word in found if word in (config.transfer_to or found) and word != first), tuple(found)


def _pair(
    own: np.ndarray, other: np.ndarray, number: np.ndarray, method: Method, names: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Of row numbers on two instruments, those of specimens that both measured. Raises InputError where these are too few.

    `number` (n,) is equal for rows of the same specimen.
    """
    shared = np.intersect1d(number[own], number[other])
    least = {each: COMPONENTS[each] + 1 for each in METHODS}
    if len(shared) < least[method]:
        first, second = names
        problem = Phrase(
            "{n} specimens of the training part were measured on both {first} and {second}",
            n=len(shared),
            first=first,
            second=second,
        )
        needed = ", ".join(f"{each} {count}" for each, count in least.items())
        remedy = Phrase(
            "Needed are {needed}: measure more on both, group by specimen, name other instruments in transfer_to, or choose "
            "transfer = none.",
            needed=needed,
        )
        raise InputError("instrument transfer", problem, remedy)
    return own[np.isin(number[own], shared)], other[np.isin(number[other], shared)]


# --- what it leaves ---------------------------------------------------------------------------------------------------
def tested(adaptation: Adaptation, samples: Samples, same: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
    """What a transfer leaves of each of the other instruments on rows that it was not learnt from, as plain JSON values.

    `same` (n,) is equal for rows of the same specimen; `rows` are row numbers. "specimens" counts those that the first and the
    other instrument both measured; "left" has "channel", "before_percent" and "after_percent" (`apart_percent`) of each channel,
    and is empty for one specimen.
    """
    instruments, number = instruments_of(samples.table), numbered(same)
    own = rows[instruments[rows] == adaptation.first]
    found = []
    for place, word in enumerate(adaptation.others):
        other = rows[instruments[rows] == word]
        both = np.intersect1d(number[own], number[other])
        left: list[dict[str, Any]] = []
        for (name, values), one in zip(samples.inputs.items(), adaptation.maps_of(place), strict=True):
            if len(both) > 1:
                first, second = (specimen_means(values, some[np.isin(number[some], both)], number) for some in (own, other))
                after = one(first) if adaptation.method == "epo" else first, one(second)
                percents = {"before_percent": apart_percent(first, second), "after_percent": apart_percent(*after)}
                left.append({"channel": name} | {key: round(value, 2) for key, value in percents.items() if np.isfinite(value)})
        found.append({"specimens": len(both), "left": left})
    return found


def pooled(transfers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of a transfer of several folds: specimens added up, what is left as the mean over folds, by their specimens."""
    return {**transfers[0], "tested": [_pooled(folds) for folds in zip(*(one.get("tested", ()) for one in transfers))]}


def _pooled(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is left of one instrument over the folds."""
    parts = [part for part in folds if part["left"]]
    if not parts:
        return {"specimens": sum(part["specimens"] for part in folds), "left": []}
    weights = [part["specimens"] for part in parts]
    left = [
        {"channel": row["channel"]} | {
            key: round(float(np.average([part["left"][place][key] for part in parts], weights=weights)), 2)
            for key in ("before_percent", "after_percent") if all(key in part["left"][place] for part in parts)
        }
        for place, row in enumerate(parts[0]["left"])
    ]  # fmt: skip
    return {"specimens": sum(weights), "left": left}


def apart_percent(first: np.ndarray, second: np.ndarray) -> float:
    """How far two instruments are apart on the same specimens (m, p): root mean square of what differs between the instruments,
    in % of what differs between specimens on the first. At 100 % the instrument matters as much as the specimen.
    """
    between = float(np.sqrt(((first - first.mean(axis=0)) ** 2).mean()))
    apart = float(np.sqrt(((second - first) ** 2).mean()))
    return 100 * apart / between if between > 0 else float("nan")


def _same(rows: pd.DataFrame, column: str, specimens: np.ndarray, name: str) -> np.ndarray:
    """What is equal for rows of the same specimen (n,): a column that the user names, else the specimens."""
    if not column:
        return specimens
    if column not in rows:
        there = ", ".join(map(str, rows.columns[:40]))
        problem = Phrase("has no column {column!r}, by which to find the specimens that both instruments measured", column=column)
        raise InputError(name, problem, Phrase("Columns: {names}. Or leave transfer_shared empty.", names=there))
    return rows[column].to_numpy(object)


def specimen_means(values: np.ndarray, rows: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Mean spectrum of each specimen among some rows: (m, p) float64, in the order of the specimens' numbers."""
    order = rows[np.argsort(number[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    return np.asarray(np.add.reduceat(values[order], starts, axis=0, dtype=float) / counts[:, None])


def _affine(method: Method, first: np.ndarray, second: np.ndarray, components: int | None = None) -> Affine:
    """The map of one channel from its shared specimens (m, p), about their mean: large terms then do not cancel.

    DS sets all to the mean that lies outside its few directions. A strange spectrum of the second instrument would then look
    ordinary to the network, so here what lies outside passes as it is.
    """
    fitted = Transfer(method, components).fit(first, second)
    centre = second.mean(axis=0).astype(np.float32)
    identity = np.eye(len(centre))
    matrix = fitted.of_second(identity) - fitted.of_second(np.zeros((1, len(centre))))
    if method == "ds":
        values, directions = np.linalg.svd(second - second.mean(axis=0), full_matrices=False)[1:]
        seen = directions[: COMPONENTS["ds"]][values[: COMPONENTS["ds"]] > 1e-10 * values[0]]
        matrix += identity - seen.T @ seen
    return Affine(centre, matrix.astype(np.float32), fitted.of_second(centre[None])[0].astype(np.float32))
