"""Where the pictures are that a table names: among the files given with it, beside it, or in a folder the user names.

A table is a file from anywhere. For somebody at a browser it leads to nothing outside its own folder and data/.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.disk import data_dir, within_reach
from lib.task import InputError, Phrase

File = tuple[Path, str]
_NUMBERED = re.compile(r" \(\d+\)(?=\.[A-Za-z]{3,4}$|$)")  # as the bench tells files of one name apart


@dataclass(frozen=True)
class Place:
    """A picture's file, or why there is none."""

    path: Path | None
    problem: str = ""


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a path written on any system, without `.`."""
    return tuple(part for part in re.split(r"[/\\]+", name.strip()) if part not in ("", "."))


class Given:
    """Files that came with a table, found by the end of their names."""

    def __init__(self, files: Sequence[File], wanted: Sequence[str]) -> None:
        asked = {parts_of(name)[-1].casefold() for name in wanted if parts_of(name)}
        self._by_name: dict[str, list[tuple[tuple[str, ...], Path]]] = defaultdict(list)
        for path, name in files:
            parts = tuple(part.casefold() for part in parts_of(name))
            plain = _NUMBERED.sub("", parts[-1])
            last = parts[-1] if parts[-1] in asked else plain
            self._by_name[last].append(((*parts[:-1], last), path))

    def find(self, name: str) -> Place | None:
        """The file whose name ends most like this one; None where no last part is the same."""
        parts = tuple(part.casefold() for part in parts_of(name))
        there = self._by_name.get(parts[-1], []) if parts else []
        if not there:
            return None
        common = [_common(parts, candidate) for candidate, _ in there]
        best = [path for count, (_, path) in zip(common, there) if count == max(common)]
        if len(best) > 1:
            return Place(None, Phrase("{n} files have that name: write their folders into the table too", n=len(best)))
        return Place(best[0])


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many last parts are the same."""
    count = 0
    for a, b in zip(reversed(one), reversed(other)):
        if a != b:
            break
        count += 1
    return count


def locate(names: Sequence[str], given: Sequence[File], table: Path, image_folder: str) -> list[Place]:
    """A place for each name of a table that lies at `table`, in the order of the names.

    A relative `image_folder` is one under data/, or at the command line also one of the folder where that is. Raises InputError
    where a browser names one outside data/.
    """
    index = Given(given, names)
    folders = [*_named_folders(image_folder), table.parent]
    return [index.find(name) or _on_disk(name, folders, table.parent) for name in names]


def _named_folders(image_folder: str) -> list[Path]:
    if not image_folder:
        return []
    written = Path(image_folder).expanduser()
    below = data_dir() / written
    if not within_reach(below):
        problem = Phrase("image_folder = {folder} leads out of data/", folder=repr(image_folder))
        raise InputError("image_folder", problem, "Name a folder under data/, or upload the pictures together with the table")
    return [folder for folder in (below, Path.cwd() / written) if within_reach(folder)]


def _on_disk(name: str, folders: Sequence[Path], beside: Path) -> Place:
    """A file as the name says, or under one of the folders by as much of the name's end as is there.

    What may not be reached is told from the name alone: nobody learns whether there is such a file.
    """
    barred = False
    for candidate in _candidates(name, folders):
        try:
            if not within_reach(candidate, beside):
                barred = True
            elif candidate.is_file():
                return Place(candidate)
        except (OSError, ValueError):  # a name that no file can have
            continue
    if barred:
        return Place(None, Phrase("is not among the files given, and its path leads out of data/"))
    return Place(None, Phrase("is not there"))


def _candidates(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    parts = parts_of(name)
    if "\0" in name or not parts:
        return
    written = Path(name.strip())
    if written.is_absolute():
        yield written
    for folder in folders:
        if not written.is_absolute():
            yield folder / written
        for start in range(len(parts)):
            if ".." not in parts[start:]:
                yield folder.joinpath(*parts[start:])
