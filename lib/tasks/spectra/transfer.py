"""Instrument transfer in training: an affine map of each channel, learnt from the specimens that both instruments measured.

`preprocess.Transfer` fits ds, pds and epo; all three are affine, y = (x − centre) · matrix + offset, which is what a network and
its ONNX graph hold. Each channel has its own map: channels have units of their own, and the one of the largest numbers would
otherwise decide. The map sees training rows alone, and no labels.
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
    """What brings spectra of the instrument `second` to `first` (ds, pds), or projects those of both (epo).

    `maps` are the channels', in their order; `shared` counts the specimens they were learnt from.
    """

    method: Method
    first: str
    second: str
    shared: int
    maps: tuple[Affine, ...]

    def facts(self) -> dict[str, str | int]:
        """What a run keeps of it: "method", "from" (the first instrument), "to" (the second) and "shared" (specimens)."""
        return {"method": self.method, "from": self.first, "to": self.second, "shared": self.shared}

    def apply(self, spectra: np.ndarray, second: np.ndarray) -> None:
        """Change spectra (n, P), channels side by side, in place: the rows where `second` (n,) is true; for epo all."""
        rows = np.arange(len(spectra)) if self.method == "epo" else np.flatnonzero(second)
        edges = np.cumsum([0, *(len(one.centre) for one in self.maps)])
        for some in np.array_split(rows, -(-len(rows) // ROWS)) if len(rows) else []:
            for one, start, end in zip(self.maps, edges[:-1], edges[1:]):
                spectra[some, start:end] = one(spectra[some, start:end])


# --- learning ---------------------------------------------------------------------------------------------------------
def learn(
    config: Training, table: SpectraTable, specimens: np.ndarray, train: np.ndarray, used: np.ndarray, name: str
) -> Adaptation | None:
    """The transfer that a training asks for, None where it asks for none.

    `specimens` (n,) of the rows of the table; `train` and `used` are the row numbers of the training part and of all parts.
    Replicates of a specimen on one instrument are averaged. Raises InputError where the used rows are not of two instruments
    with names, where too few specimens of the training part were measured on both, and where `transfer_shared` is no column.
    """
    if config.transfer == "none":
        return None
    instruments = instruments_of(table.rows)
    first, second = _pair(instruments[used], config.transfer_to, name)
    own, other = (train[instruments[train] == word] for word in (first, second))
    number = numbered(_same(table.rows, config.transfer_shared, specimens, name))
    shared = np.intersect1d(number[own], number[other])
    least = {method: COMPONENTS[method] + 1 for method in METHODS}
    if len(shared) < least[config.transfer]:
        problem = Phrase(
            "{n} specimens of the training part were measured on both {first} and {second}",
            n=len(shared),
            first=first,
            second=second,
        )
        needed = ", ".join(f"{method} {count}" for method, count in least.items())
        remedy = Phrase("Needed are {needed}: measure more on both, group by specimen, or choose transfer = none.", needed=needed)
        raise InputError("instrument transfer", problem, remedy)
    own, other = own[np.isin(number[own], shared)], other[np.isin(number[other], shared)]
    maps = [
        _affine(config.transfer, specimen_means(channel.values, own, number), specimen_means(channel.values, other, number))
        for channel in table.channels
    ]
    return Adaptation(config.transfer, first, second, len(shared), tuple(maps))


def apart_percent(first: np.ndarray, second: np.ndarray) -> float:
    """How far two instruments are apart on the same specimens (m, p): root mean square of what differs between the instruments,
    in % of what differs between specimens on the first. At 100 % the instrument matters as much as the specimen.
    """
    between = float(np.sqrt(((first - first.mean(axis=0)) ** 2).mean()))
    apart = float(np.sqrt(((second - first) ** 2).mean()))
    return 100 * apart / between if between > 0 else float("nan")


def tested(adaptation: Adaptation, samples: Samples, same: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """What a transfer leaves on rows that it was not learnt from, as plain JSON values.

    `same` (n,) is equal for rows of the same specimen; `rows` are row numbers. "specimens" counts those that both instruments
    measured; "left" has "channel", "before_percent" and "after_percent" (`apart_percent`) of each channel, and is empty for one
    specimen.
    """
    instruments, number = instruments_of(samples.table), numbered(same)
    own, other = (rows[instruments[rows] == word] for word in (adaptation.first, adaptation.second))
    both = np.intersect1d(number[own], number[other])
    left: list[dict[str, Any]] = []
    for (name, values), one in zip(samples.inputs.items(), adaptation.maps, strict=True):
        if len(both) > 1:
            first, second = (specimen_means(values, some[np.isin(number[some], both)], number) for some in (own, other))
            after = one(first) if adaptation.method == "epo" else first, one(second)
            percents = {"before_percent": apart_percent(first, second), "after_percent": apart_percent(*after)}
            left.append({"channel": name} | {key: round(value, 2) for key, value in percents.items() if np.isfinite(value)})
    return {"specimens": len(both), "left": left}


def pooled(transfers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of a transfer of several folds: specimens added up, what is left as the mean over folds, by their specimens."""
    parts = [one["tested"] for one in transfers if one.get("tested", {}).get("left")]
    if not parts:
        return dict(transfers[0])
    weights = [part["specimens"] for part in parts]
    left = [
        {"channel": row["channel"]} | {
            key: round(float(np.average([part["left"][place][key] for part in parts], weights=weights)), 2)
            for key in ("before_percent", "after_percent") if all(key in part["left"][place] for part in parts)
        }
        for place, row in enumerate(parts[0]["left"])
    ]  # fmt: skip
    return {**transfers[0], "tested": {"specimens": sum(weights), "left": left}}


def second_rows(rows: pd.DataFrame, adaptation: Adaptation | None) -> np.ndarray:
    """Which rows the second instrument measured (n,) bool; none without a transfer."""
    return np.zeros(len(rows), bool) if adaptation is None else instruments_of(rows) == adaptation.second


def _same(rows: pd.DataFrame, column: str, specimens: np.ndarray, name: str) -> np.ndarray:
    """What is equal for rows of the same specimen (n,): a column that the user names, else the specimens."""
    if not column:
        return specimens
    if column not in rows:
        there = ", ".join(map(str, rows.columns[:40]))
        problem = Phrase("has no column {column!r}, by which to find the specimens that both instruments measured", column=column)
        raise InputError(name, problem, Phrase("Columns: {names}. Or leave transfer_shared empty.", names=there))
    return rows[column].to_numpy(object)


def _pair(instruments: np.ndarray, wanted: str, name: str) -> tuple[str, str]:
    """(first, second) instrument of the rows (n,): the one named is the second, else the one with fewer rows."""
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
    if len(found) != 2:
        problem = Phrase(
            "a transfer is between two instruments, and the samples are of {count} ({names})",
            count=len(found),
            names=", ".join(found[:10]),
        )
        raise InputError(name, problem, "Keep the samples of two on the Clean page, or choose transfer = none.")
    if wanted and wanted not in found:
        raise InputError(
            Phrase("transfer_to {wanted!r}", wanted=wanted),
            "no sample is of that instrument",
            Phrase("Instruments: {names}.", names=", ".join(found)),
        )
    return (found[0], found[1]) if wanted in ("", found[1]) else (found[1], found[0])


def specimen_means(values: np.ndarray, rows: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Mean spectrum of each specimen among some rows: (m, p) float64, in the order of the specimens' numbers."""
    order = rows[np.argsort(number[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    return np.asarray(np.add.reduceat(values[order], starts, axis=0, dtype=float) / counts[:, None])


def _affine(method: Method, first: np.ndarray, second: np.ndarray) -> Affine:
    """The map of one channel from its shared specimens (m, p), about their mean: large terms then do not cancel.

    DS sets all to the mean that lies outside its few directions. A strange spectrum of the second instrument would then look
    ordinary to the network, so here what lies outside passes as it is.
    """
    fitted = Transfer(method).fit(first, second)
    centre = second.mean(axis=0).astype(np.float32)
    identity = np.eye(len(centre))
    matrix = fitted.of_second(identity) - fitted.of_second(np.zeros((1, len(centre))))
    if method == "ds":
        values, directions = np.linalg.svd(second - second.mean(axis=0), full_matrices=False)[1:]
        seen = directions[: COMPONENTS["ds"]][values[: COMPONENTS["ds"]] > 1e-10 * values[0]]
        matrix += identity - seen.T @ seen
    return Affine(centre, matrix.astype(np.float32), fitted.of_second(centre[None])[0].astype(np.float32))
