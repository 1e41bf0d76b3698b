"""Spectra on another axis: linear between the file's positions, never beyond them.

Resampling is refused outside the range that was measured, and where positions lie so far apart that a line between them
would invent the spectrum. Raw data stay as they are; what was done is said in a note.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lib.task import InputError, Phrase
from lib.tasks.spectra.table import Channel

SAME = 1e-3  # positions closer than this share of a step are the same
WIDEST_GAP_STEPS = 10  # of the new axis: the widest gap that a line may bridge


@dataclass(frozen=True)
class AxisFit:
    """How values (n, P) on a file's axis become values (n, Q) on `axis`: between columns `low` and `high`, by `weight`."""

    axis: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    note: str = ""

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values (n, P) as float32 (n, Q); a missing value is missing wherever it would be needed."""
        if not self.weight.any():
            unchanged = len(self.low) == values.shape[1]
            return values if unchanged else values[:, self.low]
        return values[:, self.low] * (1 - self.weight) + values[:, self.high] * self.weight


def fit_axis(have: np.ndarray, want: np.ndarray, channel: str, unit: str, where: str) -> AxisFit:
    """From axis `have` (P,) to `want` (Q,), both increasing. Raises InputError outside the range or across wide gaps."""
    step = float(np.median(np.diff(want))) if len(want) > 1 else 1.0
    close = SAME * step
    remedy = Phrase(
        "Measure the whole range; or keep the file's own positions, with standard_axis off, and train a model on those"
    )
    if have[0] > want[0] + close or have[-1] < want[-1] - close:
        raise InputError(
            where,
            Phrase(
                "has channel {channel} from {low:g} to {high:g} {unit}, and {first:g} to {last:g} {unit} are needed: "
                "spectra are not continued beyond what was measured",
                channel=channel,
                low=have[0],
                high=have[-1],
                unit=unit,
                first=want[0],
                last=want[-1],
            ),
            remedy,
        )
    high = np.clip(np.searchsorted(have, want - close), 0, len(have) - 1)
    exact = np.abs(have[high] - want) <= close
    low = np.where(exact, high, np.maximum(high - 1, 0))
    gap = have[high] - have[low]
    if (gap > WIDEST_GAP_STEPS * step + close).any():
        at = int(np.argmax(gap))
        raise InputError(
            where,
            Phrase(
                "has no positions of channel {channel} between {low:g} and {high:g} {unit} "
                "(at most {widest:g} {unit} can be bridged)",
                channel=channel,
                low=have[low[at]],
                high=have[high[at]],
                unit=unit,
                widest=WIDEST_GAP_STEPS * step,
            ),
            remedy,
        )
    weight = np.where(exact, 0.0, (want - have[low]) / np.where(gap > 0, gap, 1.0)).astype(np.float32)
    return AxisFit(want, low, high, weight, _said(have, want, exact, channel, unit))


def _said(have: np.ndarray, want: np.ndarray, exact: np.ndarray, channel: str, unit: str) -> str:
    """What the fit does, in a clause; empty where it does nothing."""
    if exact.all():
        extra = len(have) - len(want)
        return (
            Phrase(
                "channel {channel}: {extra} positions beside {first:g}–{last:g} {unit} left out",
                channel=channel,
                extra=extra,
                first=want[0],
                last=want[-1],
                unit=unit,
            )
            if extra
            else ""
        )
    lost = want[~exact]
    if len(lost) <= 0.1 * len(want):
        return Phrase(
            "channel {channel}: {n} missing positions filled linearly ({some} {unit})",
            channel=channel,
            n=len(lost),
            some=", ".join(f"{x:g}" for x in lost[:5]),
            unit=unit,
        )
    return Phrase(
        "channel {channel}: {n} positions resampled linearly to {m} ({first:g}–{last:g} {unit})",
        channel=channel,
        n=len(have),
        m=len(want),
        first=want[0],
        last=want[-1],
        unit=unit,
    )


def resample(channel: Channel, axis: np.ndarray, where: str) -> tuple[Channel, str]:
    """A channel on another axis, such as the one a model was trained on, and the note. Raises InputError as `fit_axis`."""
    fit = fit_axis(channel.axis, np.asarray(axis, dtype=float), channel.name, channel.axis_unit, where)
    return replace(channel, axis=fit.axis, values=fit.apply(channel.values)), fit.note


def fill_empty_positions(values: np.ndarray, axis: np.ndarray, channel: str, unit: str, where: str) -> str:
    """Fill columns of `values` (n, P) that no sample has, in place, from their neighbours; the note, "" where none is.

    Raises InputError where they lie at an end of the axis, or too many side by side.
    """
    first = np.isnan(values[0]) if len(values) else np.zeros(len(axis), bool)
    empty = first.copy()
    for place in np.flatnonzero(first):
        empty[place] = bool(np.isnan(values[:, place]).all())
    if not empty.any():
        return ""
    if empty.all():
        raise InputError(
            where,
            Phrase("has no value in channel {channel}", channel=channel),
            "Export it again with its spectra, or choose other channels",
        )
    fit = fit_axis(axis[~empty], axis, channel, unit, where)
    kept = np.flatnonzero(~empty)
    for place in np.flatnonzero(empty):
        low, high, weight = kept[fit.low[place]], kept[fit.high[place]], fit.weight[place]
        values[:, place] = values[:, low] * (1 - weight) + values[:, high] * weight
    return fit.note
