"""Files, folders and ZIP archives that users hand over, as a flat list of files to read.

A display name is text for people: it is never used to build a path. Entries of an archive are unpacked under names of
our own, and only as far as fixed limits allow, because a few kilobytes can unpack to terabytes.
"""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from lib.disk import files_below, hidden
from lib.task import TRUTH, InputError, Phrase

File = tuple[Path, str]  # where it lies, and what messages and tables call it
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")


@dataclass(frozen=True)
class Limits:
    """How much one archive may hold."""

    entries: int = 10_000
    total_bytes: int = 4 * 2**30
    file_bytes: int = 2 * 2**30
    ratio: int = 200  # unpacked to packed, for entries above `ratio_from_bytes`: a blank image may pack well
    ratio_from_bytes: int = 64 * 2**20


LIMITS = Limits()


@dataclass
class Expansion:
    """What a list of sources holds. `skipped` (name, reason) is not for this task; `failures` is what went wrong."""

    files: list[File] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def clean_name(name: str) -> str:
    """A name that can be shown and written as UTF-8: line breaks, control and undecodable characters become `?`."""
    return "".join(c if c.isprintable() else "?" for c in name)[:400] or "?"


def expand(sources: Iterable[Path | File], suffixes: Sequence[str], folder: Path, limits: Limits = LIMITS) -> Expansion:
    """All files to read, in the order of `sources`; ZIP archives are unpacked into `folder`, which must exist.

    A file named directly is always taken, whatever its ending: reading decides by content. Folders (`files_below`, which passes
    over masks and label sets of the pages) and archives give the files with one of `suffixes`. The true values that lie beside
    simulated files are passed over. Nothing is raised for a bad source: it is reported.
    """
    found = Expansion()
    for number, source in enumerate(sources):
        path, given = source if isinstance(source, tuple) else (source, source.name)
        name = clean_name(given)
        try:
            if path.is_dir():
                _walk(path, name, suffixes, found)
            elif not path.is_file():
                found.failures.append((name, Phrase("there is no such file or folder. Check the path.")))
            elif Path(name).suffix.lower() == ".zip":
                target = folder / f"archive-{number}"
                target.mkdir()
                unzip(path, name, suffixes, target, found, limits)
            else:
                found.files.append((path, name))
        except InputError as error:
            found.failures.append((name, error.clause()))
        except OSError as error:
            found.failures.append(
                (name, Phrase("it could not be opened ({why}). Check the path and the disk.", why=error.strerror or error))
            )
    _set_truth_aside(found)
    found.files = _told_apart(found.files)
    return found


def _set_truth_aside(found: Expansion) -> None:
    """A table of true values is no measurement; one that is given alone is left to whoever reads it."""
    truths = [file for file in found.files if PurePosixPath(file[1].replace("\\", "/")).name == TRUTH]
    if len(truths) < len(found.files):
        found.files = [file for file in found.files if file not in truths]
        reason = Phrase("the true values of simulated samples are not read. Rename it where it is something else.")
        found.skipped += [(name, reason) for _, name in truths]


def _told_apart(files: list[File]) -> list[File]:
    """The same files, ` (2)`, ` (3)` … behind names that came before, as of two archives with a `1.tif` each."""
    taken: set[str] = set()
    result = []
    for path, name in files:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name} ({number})"
        taken.add(candidate)
        result.append((path, candidate))
    return result


def _listed(suffixes: Sequence[str]) -> str:
    return ", ".join(suffixes)


def _walk(folder: Path, name: str, suffixes: Sequence[str], found: Expansion) -> None:
    """Files of a folder by name. Raises InputError where none has the right ending."""
    before = len(found.files)
    for path in sorted(files_below(folder)):
        if not path.is_file():
            continue
        shown = clean_name(path.relative_to(folder).as_posix())
        if path.suffix.lower() in suffixes:
            found.files.append((path, shown))
        else:
            found.skipped.append((shown, Phrase("not one of {kinds}", kinds=_listed(suffixes))))
    if len(found.files) == before:
        raise InputError(
            name, Phrase("the folder holds no {kinds} file", kinds=_listed(suffixes)), "Choose the folder with the measurements."
        )


def unzip(path: Path, name: str, suffixes: Sequence[str], folder: Path, found: Expansion, limits: Limits = LIMITS) -> None:
    """Add the archive's files with one of `suffixes` to `found`, unpacked into `folder` as 00000.ext, 00001.ext, ….

    Bad entries are reported in `found`, the good ones go on. Raises InputError where the archive as a whole is unusable:
    damaged, empty, too many entries, too large in sum.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _check_archive(archive, name, limits)
            _extract(archive, entries, suffixes, folder, found, limits)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(name, "it is not a readable ZIP archive", "Make the archive anew and try again.") from error


def _check_archive(archive: zipfile.ZipFile, name: str, limits: Limits) -> list[zipfile.ZipInfo]:
    """The entries that are files. Raises InputError on an empty archive or one that declares more than the limits."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if not entries:
        raise InputError(name, "the archive is empty", "Put the measurement files into it and try again.")
    split = Phrase("Split it into smaller archives, or unpack it and give the folder.")
    if len(entries) > limits.entries:
        raise InputError(
            name, Phrase("the archive has {n} entries; at most {most} are taken", n=len(entries), most=limits.entries), split
        )
    total = sum(entry.file_size for entry in entries)
    if total > limits.total_bytes:
        raise InputError(
            name,
            Phrase("the archive unpacks to {size}; at most {most} are taken", size=_size(total), most=_size(limits.total_bytes)),
            split,
        )
    return entries


def _extract(
    archive: zipfile.ZipFile,
    entries: list[zipfile.ZipInfo],
    suffixes: Sequence[str],
    folder: Path,
    found: Expansion,
    limits: Limits,
) -> None:
    """Unpack what is wanted and safe, with one budget of bytes for the whole archive."""
    budget = limits.total_bytes
    for number, entry in enumerate(entries):
        shown = clean_name(entry.filename)
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if any(hidden(part) for part in parts if part not in (".", "..")):
            continue
        suffix = PurePosixPath(parts[-1] if parts else "").suffix.lower()
        problem = _refusal(entry, parts, limits)
        if problem:
            found.failures.append((shown, problem))
        elif suffix in ARCHIVES and suffix not in suffixes:
            found.skipped.append((shown, Phrase("an archive inside an archive is not opened; unpack it first")))
        elif suffix not in suffixes:
            found.skipped.append((shown, Phrase("not one of {kinds}", kinds=_listed(suffixes))))
        else:
            target = folder / f"{number:05d}{suffix}"
            problem = _unpack(archive, entry, target, min(budget, limits.file_bytes), limits)
            if problem:
                target.unlink(missing_ok=True)
                found.failures.append((shown, problem))
            else:
                budget -= target.stat().st_size
                found.files.append((target, shown))


def _refusal(entry: zipfile.ZipInfo, parts: tuple[str, ...], limits: Limits) -> str:
    """Why an entry is not unpacked, as a sentence; empty where nothing speaks against it."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if not parts or parts[0] == "/" or ".." in parts or re.match(r"[A-Za-z]:", parts[0]):
        return Phrase("its name leads out of the archive. It was not unpacked; make the archive anew with plain names.")
    if kind not in (0, stat.S_IFREG):
        return Phrase("it is a link or a special file. It was not unpacked; put the file itself into the archive.")
    if entry.flag_bits & 0x1:
        return Phrase("it is encrypted. Make the archive anew without a password.")
    if entry.file_size > limits.file_bytes:
        return Phrase(
            "it unpacks to {size}; at most {most} are taken. Split the file.",
            size=_size(entry.file_size),
            most=_size(limits.file_bytes),
        )
    return _bomb(entry.file_size, entry.compress_size, limits)


def _bomb(unpacked: int, packed: int, limits: Limits) -> str:
    if unpacked > limits.ratio_from_bytes and unpacked > limits.ratio * max(1, packed):
        return Phrase(
            "it unpacks to more than {most} times its size, as a decompression bomb does. Give the file unpacked.",
            most=limits.ratio,
        )
    return ""


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, most: int, limits: Limits) -> str:
    """Write one entry, counting the bytes that really come; why it failed as a sentence, or an empty string."""
    try:
        with archive.open(entry) as packed, target.open("wb") as unpacked:
            for written in _copy(packed, unpacked):
                if written > most:
                    return Phrase(
                        "with it the archive unpacks to more than {most}. Split the archive.", most=_size(limits.total_bytes)
                    )
                if problem := _bomb(written, entry.compress_size, limits):
                    return problem
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        return Phrase("it is damaged in the archive, or packed in a way that is not supported. Make the archive anew.")
    except OSError as error:
        free = _size(shutil.disk_usage(target.parent).free)
        return Phrase("it could not be unpacked ({why}; {free} free on the disk).", why=error.strerror or error, free=free)
    return ""


def _copy(source: IO[bytes], target: IO[bytes]) -> Iterator[int]:
    """Copy in pieces and give the number of bytes written so far after each."""
    written = 0
    while piece := source.read(2**20):
        target.write(piece)
        written += len(piece)
        yield written


def _size(count: int) -> str:
    """Bytes for people."""
    value, unit = float(count), "bytes"
    for bigger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, bigger
    return f"{value:.3g} {unit}"


def numbered(names: Sequence[str], mark: str, same: Callable[[str], str]) -> list[str]:
    """Names with a number put before the ending of those that are the `same` as one before."""
    used: set[str] = set()
    result = []
    for name in names:
        ending = re.search(r"(?<=.)\.[^./\\ ]{1,12}$", name)
        at = ending.start() if ending else len(name)
        candidate, number = name, 1
        while same(candidate) in used:
            number += 1
            candidate = f"{name[:at]}{mark.format(number)}{name[at:]}"
        used.add(same(candidate))
        result.append(candidate)
    return result


def archive_names(names: Sequence[str]) -> list[str]:
    """Display names as names inside a ZIP that unpack anywhere: no folders, no odd characters, no two alike."""
    safe = [re.sub(r"[^\w .()+=,@-]", "_", re.split(r"[/\\]", name)[-1]).strip(". ") or "file" for name in names]
    return numbered(safe, "-{}", str.lower)
