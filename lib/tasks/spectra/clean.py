"""Look at spectra before they are used: readings of each sample, and which rules it breaks.

Tables may be memory-mapped and larger than memory, so spectra are read some rows at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from lib.task import InputError, Phrase, Samples
from lib.tasks.spectra.settings import Rules
from lib.tasks.spectra.table import (
    DATE,
    EXCITATIONS,
    GROUP,
    INSPECTOR,
    INSTRUMENT,
    PROVENANCE,
    SAMPLE,
    SEVERITY,
    TYPE,
)

CHUNK_ROWS = 1000
PLATEAU_COUNTS = 62_996.0  # a full 16-bit converter less the original instrument's dark level
PLATEAU_POINTS = 3  # equal neighbours at the top of a spectrum; fewer happen by chance
SCATTER_NM = 15.0  # half width of a line of scattered light, wings included
REFERENCE_ROWS = 2000  # rows that the median spectrum is taken of
NOT_BELOW_ZERO = (*EXCITATIONS, "lspr")  # others may be centred or derivatives: half of their points are negative
CARRIED = (SEVERITY, TYPE, PROVENANCE, INSTRUMENT, GROUP, DATE)
TRANSMITTANCE, BRIX = "transmittance_percent", "brix_deg"
KNOWN_AS = {  # reading: what files call it
    TRANSMITTANCE: (TRANSMITTANCE, "greffon_transmittance", "transmittance"),
    BRIX: (BRIX, "greffon_brix", "brix"),
}


@dataclass(frozen=True)
class Axis:
    """A channel without its values: `positions` (P,), increasing, in `unit`."""

    name: str
    positions: np.ndarray
    unit: str

    @property
    def counts(self) -> bool:
        """Whether it is a fluorescence channel: emission in nm, read in counts."""
        return self.name in EXCITATIONS and self.unit == "nm"

    @property
    def maximum(self) -> str:
        """Name of the reading."""
        return f"max_{self.name}_counts" if self.counts else f"max_{self.name}"

    @property
    def integral(self) -> str:
        """Name of the reading."""
        return f"integral_{self.name}_counts_nm" if self.counts else f"integral_{self.name}"

    @property
    def at_excitation(self) -> str:
        """Name of the reading at emission = excitation."""
        return f"at_excitation_{self.name}_counts"

    @property
    def away(self) -> np.ndarray:
        """Positions (P,) that light scattered at the excitation, and its second order, do not reach; all of other channels."""
        if not self.counts:
            return np.ones(len(self.positions), dtype=bool)
        lines = float(self.name) * np.array([[1.0], [2.0]])
        away = np.asarray((np.abs(self.positions - lines) > SCATTER_NM).all(axis=0))
        return away if away.any() else ~away

    @property
    def excitation_place(self) -> int | None:
        """Index of the position nearest to the excitation; None where the axis does not hold it."""
        if not self.counts or len(self.positions) < 2:
            return None
        off = np.abs(self.positions - float(self.name))
        return int(off.argmin()) if off.min() <= np.diff(self.positions).max() / 2 else None


def axes_of(samples: Samples) -> list[Axis]:
    """The channels of a table, in order."""
    return [Axis(c["name"], np.asarray(c["axis"], dtype=float), c["unit"]) for c in samples.common["channels"]]


def some_rows(n: int, most: int, seed: int = 0) -> np.ndarray:
    """At most `most` of n row numbers, increasing; the same ones each time."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def filled(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Spectra (n, P) with missing points filled linearly from their neighbours; one without any point stays missing."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if not len(bad):
        return values
    out = np.array(values)
    for row in bad:
        there = np.isfinite(out[row])
        out[row] = np.interp(positions, positions[there], out[row][there]) if there.any() else np.nan
    return out


def snv(values: np.ndarray) -> np.ndarray:
    """Spectra (n, P) without missing points, less their mean and by their standard deviation; a flat one becomes zeros."""
    centred = values - values.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.einsum("ij,ij->i", centred, centred) / centred.shape[1])
    return centred * _inverse(spread, values)[:, None]


def _inverse(spread: np.ndarray, values: np.ndarray) -> np.ndarray:
    """1/spread (n,), 0 where a spectrum is flat up to rounding."""
    flat = spread <= 1e-7 * np.abs(values).max(axis=1, initial=0)
    return np.asarray(np.where(flat, 0, 1 / np.where(flat, 1, spread)), dtype=values.dtype)


# --- readings ---------------------------------------------------------------------------------------------------------
def inspect(samples: Samples) -> pd.DataFrame:
    """What each sample shows, one row each: size of its spectra, plateaus, gaps, copies, oddness; and what is known of it.

    Per channel: largest reading, integral over the axis (trapezoids), reading at emission = excitation. `saturated_points`
    and `missing_points` count over all channels, `negative_percent` is that of the worst channel. `duplicate_of` is the row
    (from 0) of the first spectrum that is equal in every channel, −1 where there is none. `distance` is how far the shape
    is from the table's median shape, relative to the median sample: 1 is usual.
    """
    axes = axes_of(samples)
    shapes = {axis.name: median_shape(samples, axis) for axis in axes}
    parts = [_chunk(blocks, axes, shapes) for blocks in _chunks(samples, axes)]
    table = samples.table.reset_index(drop=True)
    columns: dict[str, object] = {"file": table["file"].to_numpy()}
    columns[SAMPLE] = table[SAMPLE].to_numpy() if SAMPLE in table else np.arange(1, len(table) + 1).astype(str)
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}
    if found:
        digest = found.pop("digest")
        off = np.sqrt(found.pop("off"))
        usual = float(np.nanmedian(off)) if np.isfinite(off).any() else 0.0
        columns |= found
        columns["duplicate_of"] = earlier_equal(digest)
        columns["distance"] = off / usual if usual > 0 else np.zeros(len(off))
    return pd.DataFrame(columns | _carried(table))


def _carried(table: pd.DataFrame) -> dict[str, pd.Series]:
    """What is known of each sample and rules or figures need."""
    known = {name: table[name] for name in CARRIED if name in table}
    for reading, names in KNOWN_AS.items():
        there = [name for name in names if name in table]
        if there:
            known[reading] = pd.to_numeric(table[there[0]], errors="coerce").astype(float)
    return known


def _chunks(samples: Samples, axes: list[Axis]) -> Iterator[list[np.ndarray]]:
    """Some rows of every channel at a time, float32 (rows, P)."""
    for start in range(0, len(samples), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        yield [np.ascontiguousarray(samples.inputs[axis.name][rows], dtype=np.float32) for axis in axes]


def median_shape(samples: Samples, axis: Axis) -> np.ndarray:
    """Median (P,) of the spectra after SNV, of at most `REFERENCE_ROWS` rows; zeros where there is none."""
    rows = some_rows(len(samples), REFERENCE_ROWS)
    values = filled(np.asarray(samples.inputs[axis.name][rows], dtype=np.float32), axis.positions)
    values = values[np.isfinite(values).all(axis=1)]
    return np.median(snv(values), axis=0).astype(float) if len(values) else np.zeros(len(axis.positions))


def _chunk(blocks: list[np.ndarray], axes: list[Axis], shapes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Readings of some rows; `off` is the mean square deviation of the shape, `digest` one number per different row."""
    rows = len(blocks[0])
    out: dict[str, np.ndarray] = {}
    saturated, missing = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    negative: list[np.ndarray] = []
    off = np.zeros(rows)
    for axis, block in zip(axes, blocks):
        gaps = ~np.isfinite(block.sum(axis=1, dtype=float))
        missing[gaps] += np.count_nonzero(~np.isfinite(block[gaps]), axis=1)
        whole = filled(block, axis.positions) if gaps.any() else block
        out |= _sizes(whole, axis)
        saturated += plateau_points(whole, axis)
        if axis.name in NOT_BELOW_ZERO:
            negative.append(np.count_nonzero(whole < 0, axis=1) * (100 / whole.shape[1]))
        off += _off_shape(whole, shapes[axis.name]) / len(axes)
    out["saturated_points"] = saturated
    if negative:
        out["negative_percent"] = np.max(negative, axis=0)
    return out | {"missing_points": missing, "digest": _digests(blocks), "off": off}


def _sizes(block: np.ndarray, axis: Axis) -> dict[str, np.ndarray]:
    """Largest reading, integral and reading at the excitation of spectra (rows, P)."""
    out = {axis.maximum: block.max(axis=1).astype(float), axis.integral: np.trapezoid(block, axis.positions, axis=1)}
    if axis.excitation_place is not None:
        out[axis.at_excitation] = block[:, axis.excitation_place].astype(float)
    return out


def plateau_points(values: np.ndarray, axis: Axis) -> np.ndarray:
    """Points (n,) of spectra (n, P) that lie on a plateau at the top: equal neighbours, or at the converter's limit.

    A flat spectrum has no top. Readings that are no counts may be rounded, and a rounded peak has equal neighbours too:
    there a plateau must end in a step.
    """
    top = values.max(axis=1)
    limit = values >= (PLATEAU_COUNTS if axis.counts else np.inf)
    found = np.count_nonzero(limit, axis=1)
    several = np.count_nonzero(values == top[:, None], axis=1) >= PLATEAU_POINTS
    for row in np.flatnonzero(several & (top > values.min(axis=1))):
        spectrum = values[row]
        at_top = spectrum == top[row]
        whole = at_top[:-2] & at_top[1:-1] & at_top[2:]
        if not whole.any() or not (axis.counts or _ends_in_step(spectrum, at_top)):
            continue
        inside = np.zeros(len(spectrum), dtype=bool)
        for shift in range(PLATEAU_POINTS):
            inside[shift : len(spectrum) - 2 + shift] |= whole
        found[row] = np.count_nonzero(inside | limit[row])
    return found


def _ends_in_step(spectrum: np.ndarray, at_top: np.ndarray) -> bool:
    """Whether some point beside the top lies lower than rounding explains."""
    steps = np.abs(np.diff(spectrum))
    beside = steps[at_top[1:] != at_top[:-1]]
    return bool(beside.max(initial=0) > 1.5 * steps[steps > 0].min())


def _off_shape(block: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Mean square difference (rows,) of spectra after SNV from a shape (P,); of a flat one, from zeros."""
    centred = block - block.mean(axis=1, keepdims=True, dtype=float)
    spread = np.sqrt(np.einsum("ij,ij->i", centred, centred) / centred.shape[1])
    inverse = _inverse(spread, block).astype(float)
    square = (spread * inverse) ** 2 - 2 * (centred @ shape) * inverse / len(shape) + shape @ shape / len(shape)
    return np.asarray(np.maximum(square, 0))


def _digests(blocks: list[np.ndarray]) -> np.ndarray:
    """A 64-bit number (rows,) of all channels together: of 300 000 rows two unequal ones share it once in 400 million tables."""
    together = np.concatenate(blocks, axis=1)
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in together)
    return np.frombuffer(digests, dtype=np.int64)


def earlier_equal(digest: np.ndarray) -> np.ndarray:
    """For each of (n,) numbers the place of the first equal one, −1 where it is the first itself."""
    codes, names = pd.factorize(digest)
    first = np.full(len(names), len(digest))
    np.minimum.at(first, codes, np.arange(len(digest)))
    return np.asarray(np.where(first[codes] < np.arange(len(digest)), first[codes], -1))


# --- rules ------------------------------------------------------------------------------------------------------------
def flag(readings: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """One boolean column per rule, True where the rule removes the sample; a value that is missing breaks no rule.

    Raises InputError naming the field where a day cannot be read.
    """

    vr1 = _words(readings, SEVERITY, "VR") & (_numbers(readings, TYPE) == 1)
    found = {
        **{f"max_{name}": _above(readings, f"max_{name}_counts", getattr(rules, f"max_{name}")) for name in EXCITATIONS},
        **{
            f"min_integral_{name}": _below(readings, f"integral_{name}_counts_nm", getattr(rules, f"min_integral_{name}"))
            for name in EXCITATIONS
        },
        "max_saturated_points": _above(readings, "saturated_points", rules.max_saturated_points),
        "max_negative_percent": _above(readings, "negative_percent", rules.max_negative_percent),
        "max_missing_points": _above(readings, "missing_points", rules.max_missing_points),
        "min_transmittance_percent": _below(readings, TRANSMITTANCE, rules.min_transmittance_percent),
        "max_transmittance_percent": _above(readings, TRANSMITTANCE, rules.max_transmittance_percent),
        **_outside_dates(readings, rules),
        "drop_vr1": vr1 & rules.drop_vr1,
        "drop_duplicates": _above(readings, "duplicate_of", -1) & rules.drop_duplicates,
        "inspector_only": ~_words(readings, PROVENANCE, INSPECTOR) & (rules.inspector_only and PROVENANCE in readings),
    }
    return pd.DataFrame({name: found[name] for name in Rules.model_fields}, index=readings.index)


def _numbers(readings: pd.DataFrame, column: str) -> np.ndarray:
    """A column as float (n,), NaN where it or the value is missing: comparisons with NaN are False."""
    if column not in readings:
        return np.full(len(readings), np.nan)
    return pd.to_numeric(readings[column], errors="coerce").to_numpy(float, na_value=np.nan)


def _above(readings: pd.DataFrame, column: str, limit: float) -> np.ndarray:
    return _numbers(readings, column) > limit


def _below(readings: pd.DataFrame, column: str, limit: float) -> np.ndarray:
    return _numbers(readings, column) < limit


def _words(readings: pd.DataFrame, column: str, word: str) -> np.ndarray:
    """Rows (n,) that have this word in the column."""
    if column not in readings:
        return np.zeros(len(readings), dtype=bool)
    return (readings[column].astype(object) == word).to_numpy(bool)


def _outside_dates(readings: pd.DataFrame, rules: Rules) -> dict[str, np.ndarray]:
    """Rows measured before the first day and after the last; both days are kept."""
    first, last = _day(rules.measured_from, "measured_from"), _day(rules.measured_to, "measured_to")
    if first is not None and last is not None and first > last:
        raise InputError(
            Phrase("measured_from = {first!r}", first=rules.measured_from),
            Phrase("it is later than measured_to = {last!r}, so no sample would be kept", last=rules.measured_to),
            "Choose an earlier first day or a later last one.",
        )
    measured = days(readings)
    nothing = np.zeros(len(readings), dtype=bool)
    return {
        "measured_from": nothing if first is None or measured is None else measured < first,
        "measured_to": nothing if last is None or measured is None else measured > last,
    }


def _day(text: str, field: str) -> np.datetime64 | None:
    """A day as it is typed; None where the field is empty."""
    if not text.strip():
        return None
    try:
        return np.datetime64(date.fromisoformat(text.strip()), "D")
    except ValueError as error:
        raise InputError(
            Phrase("{field} = {given!r}", field=field, given=text), "it is no day", "Write it as 2024-03-01, or leave it empty."
        ) from error


def times(readings: pd.DataFrame) -> np.ndarray | None:
    """When each sample was measured, datetime64[s] (n,), NaT where unknown; None where the table does not tell of any."""
    if DATE not in readings:
        return None
    values = readings[DATE]
    if not pd.api.types.is_datetime64_any_dtype(values):
        values = pd.to_datetime(values, errors="coerce", format="mixed", utc=True)
    if getattr(values.dt, "tz", None) is not None:
        values = values.dt.tz_localize(None)
    found = values.to_numpy().astype("datetime64[s]")
    return None if np.isnat(found).all() else found


def days(readings: pd.DataFrame) -> np.ndarray | None:
    """`times` as whole days, datetime64[D] (n,)."""
    found = times(readings)
    return None if found is None else found.astype("datetime64[D]")
