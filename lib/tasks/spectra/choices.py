"""What chosen tables offer for the form: their columns and channels to pick from, and what their names suggest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lib.task import NOTHING, Choices, InputError
from lib.tasks.spectra.columns import PICKED, Columns, Together, divided, named
from lib.tasks.spectra.files import header
from lib.tasks.spectra.original import belongs, channel_of

LOOKED_AT = 16  # files: those behind them are like those before, or there are too many to pick columns for
SEVERAL = " | "  # between what different files suggest
_INSTRUMENT = re.compile(r"instr|device|appareil|spectrom", re.IGNORECASE)


def choices(files: Sequence[tuple[Path, str]]) -> Choices:
    """Columns and channels of the files, in their order, and the meaning that each file's names suggest.

    Without files the fields alone. A file that cannot be read offers nothing: reading it says why.
    """
    columns: dict[str, None] = {}
    channels: dict[str, None] = {}
    proposals: list[Columns] = []
    spectra: list[frozenset[str]] = []  # names of positions in each table
    for path, name in files[:LOOKED_AT]:
        if channel := channel_of(name):
            channels[channel] = None
            continue
        try:
            names, proposed = header(path, name)
        except InputError:
            continue
        its_channels, others = divided(names)
        columns |= dict.fromkeys(others)
        proposals.append(proposed)
        if not belongs(name):
            channels |= dict.fromkeys(its_channels)
            spectra.append(frozenset(names).difference(others))
    picks = (*columns, NOTHING) if files else ()
    suggested = {role: _agreed(", ".join(named(p, role)) for p in proposals) for role in PICKED} if proposals else {}
    together = _together([name for _, name in files], spectra, proposals)
    offered = dict.fromkeys(PICKED, picks) | {"channels": tuple(channels)}
    return Choices(offered, suggested | ({"together": together} if together != "apart" else {}))


def _agreed(suggested: Iterable[str]) -> str:
    """What all files suggest, or each of the different things."""
    return SEVERAL.join(dict.fromkeys(filter(None, suggested)))


def _together(files: Sequence[str], spectra: Sequence[frozenset[str]], proposals: Sequence[Columns]) -> Together:
    """What several tables probably are: instruments by their names, channels where other spectra have sample names in common."""
    if len(spectra) < 2 or len(spectra) != len(proposals):
        return "apart"
    if len(set(spectra)) == 1:
        return "instruments" if all(_INSTRUMENT.search(name) for name in files) else "apart"
    return "channels" if all(proposed.sample for proposed in proposals) else "apart"
