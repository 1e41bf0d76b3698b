"""Frames of a folder that people know by name: the files that a label set speaks of, wherever they lie in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath

from lib.disk import data_dir, files_below
from lib.task import InputError, Phrase, Samples
from lib.tasks.bragg import files
from lib.tasks.bragg.config import SUFFIXES, Acquisition


def of_folder(data: str, wanted: Mapping[str, Acquisition]) -> Samples | None:
    """References to the frames of those files of a folder, or file, that are `wanted`; each file is called as it is there.

    `data` lies under data/bragg or anywhere; folders in it are looked into. `wanted` are the names that pages or commands gave
    files, with what was typed of each: a name from a folder under data/ has its path before it, an uploaded one has none, so a
    file is known by the end of its path where only one ends so. None where no file is wanted. Raises InputError where the folder
    is not there or holds no frames, and where a wanted file cannot be read.
    """
    found = listed(data)
    called = named([name for _, name in found], wanted)
    parts = []
    for _, folder in groupby(range(len(found)), key=lambda place: found[place][0].parent):
        places = list(folder)
        for group in files.bundles([found[place][1] for place in places]):
            together = [found[places[place]] for place in group]
            if name := called.get(together[0][1]):
                read = files.read_bundle(together, wanted[name])
                parts.append(read.with_columns(file=[name] * len(read)))
    return Samples.concat(parts) if parts else None


def listed(data: str) -> list[files.File]:
    """The files of frames in a folder and the folders in it, or the one file, as pages name them. Raises InputError."""
    here = data_dir() / "bragg" / data
    path = here if here.exists() else Path(data).expanduser()
    if not path.exists():
        raise InputError(data, "is neither in data/bragg nor a file or folder of this machine", "Check the name")
    root = data_dir().resolve()
    top = root if path.resolve().is_relative_to(root) else path.resolve().parent
    found = [(file, file.resolve().relative_to(top).as_posix()) for file in _walk(path) if file.resolve().is_relative_to(top)]
    if not found:
        raise InputError(data, Phrase("holds none of {formats}", formats=files.FORMATS), "Choose the folder of the frames")
    return found


def _walk(path: Path) -> Iterator[Path]:
    """Files of frames, folder after folder."""
    if path.is_file():
        yield path
    yield from (file for file in files_below(path) if file.name.lower().endswith(SUFFIXES))


def named(there: Sequence[str], wanted: Collection[str]) -> dict[str, str]:
    """Which of the files that are there has which of the wanted names: the same, or the only one whose path ends alike."""
    known: dict[str, str] = {}
    for name in wanted:
        same = [own for own in there if own == name] or [own for own in there if _ends_alike(own, name)]
        if len(same) == 1:
            known[same[0]] = name
    return known


def _ends_alike(one: str, other: str) -> bool:
    a, b = PurePosixPath(one).parts, PurePosixPath(other).parts
    n = min(len(a), len(b))
    return a[-n:] == b[-n:]
