"""Pictures and tables of targets in and out.

One sample is one picture. A table and the pictures it names are read together; pictures without a table are read one by one. What
can be mended is mended and said in notes and remarks, what cannot is refused with a sentence. Files are only ever read.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lib.disk import files_below, plain_names
from lib.task import TRUTH, InputError, Phrase, Samples, unheard
from lib.tasks.reflectance import kept, kept_pictures, metadata
from lib.tasks.reflectance.config import CHANNELS, HIDDEN, IMAGE_PX, TRUE, VISIBLE
from lib.tasks.reflectance.located import locate
from lib.tasks.reflectance.pictures import Known, Seen, see
from lib.tasks.reflectance.settings import PICTURES, SUFFIXES, TABLES, Acquisition
from lib.tasks.reflectance.specimens import by_pattern, by_targets
from lib.tasks.reflectance.tables import Targets, read_table
from lib.words import from_plain, plain

__all__ = ["SUFFIXES", "bundles", "offered", "read", "read_bundle", "write"]

File = tuple[Path, str]
Tell = Callable[[str], str]
Report = Callable[[float, str], None]
AT_ONCE = 256  # pictures held beside those that are done
TOLD_NOTES = 10  # of the notes that most pictures have
LISTED = 40  # pictures that a remark names
TABLE = "targets.csv"  # of samples that were read from files; of simulated ones it is TRUTH
YES = {"1", "true", "yes", "vrai", "oui"}
TARGETS = [TRUE + channel for channel in CHANNELS]
PATTERNS = ("{specimen}_*", "{specimen}-*", "{specimen} *", "*{specimen}/*")


@dataclass(frozen=True)
class Source:
    """A picture to read: its file, its name for people, and what is known of it beside the file."""

    path: Path
    name: str
    known: Known


# --- what belongs together --------------------------------------------------------------------------------------------
def bundles(names: Sequence[str]) -> list[list[int]]:
    """Places of the names that are read together: each table, first, with the pictures in and below its folder; others alone.

    Pictures that lie below no table go with every table.
    """
    tables = [place for place, name in enumerate(names) if _ends(name, TABLES)]
    if not tables:
        return [[place] for place in range(len(names))]
    folders = {place: _folder(names[place]) for place in tables}
    groups: dict[int, list[int]] = {place: [] for place in tables}
    for place, name in enumerate(names):
        if place in groups:
            continue
        here = f"{_folder(name)}/" if _folder(name) else ""
        above = [t for t in tables if not folders[t] or here.startswith(f"{folders[t]}/")]
        nearest = max((len(folders[t]) for t in above), default=0)
        for table in [t for t in above if len(folders[t]) == nearest] or tables:
            groups[table].append(place)
    return [[table, *pictures] for table, pictures in groups.items()]


def _ends(name: str, suffixes: Sequence[str]) -> bool:
    return name.lower().endswith(tuple(suffixes))


def _folder(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[0]


def offered(files: Sequence[File]) -> dict[str, tuple[str, ...]]:
    """Patterns that would find specimens in the names of these pictures; without files, the field that they are for."""
    names: list[str] = []
    for path, name in files:
        try:
            names += read_table(path, name).rows["image"].tolist() if _ends(name, TABLES) else [name]
        except (InputError, OSError):
            continue
    return {"specimen_pattern": tuple(pattern for pattern in PATTERNS if _groups(names, pattern))}


def _groups(names: Sequence[str], pattern: str) -> bool:
    """Whether a pattern fits nearly all names and joins some of them."""
    found = [specimen for specimen in by_pattern(names, pattern) if specimen]
    return len(found) >= 0.9 * len(names) > 0 and 1 < len(set(found)) < len(found)


# --- reading ----------------------------------------------------------------------------------------------------------
def read(path: Path, acquisition: Acquisition, display_name: str = "", tell: Tell = str, report: Report = unheard) -> Samples:
    """One picture as a sample, a table with the pictures it names, or all of a folder. Raises InputError."""
    name = display_name or path.name
    if not path.is_dir():
        return read_bundle([(path, name)], acquisition, tell, report)
    inside = [p for p in sorted(files_below(path)) if _ends(p.name, SUFFIXES) and p.is_file()]
    shown = [(p, p.relative_to(path).as_posix()) for p in inside]
    if not shown:
        raise InputError(name, Phrase("the folder holds no {kinds} file", kinds=", ".join(SUFFIXES)), "Choose another folder")
    if any(_ends(called, TABLES) and Path(called).name != TRUTH for _, called in shown):
        shown = [(p, called) for p, called in shown if Path(called).name != TRUTH]
    together = [[shown[place] for place in places] for places in bundles([called for _, called in shown])]
    if not any(_ends(called, TABLES) for _, called in shown):
        together = [shown]
    samples = Samples.concat([read_bundle(bundle, acquisition, tell, report) for bundle in together])
    return samples.with_columns(file=name)


def read_bundle(files: Sequence[File], acquisition: Acquisition, tell: Tell = str, report: Report = unheard) -> Samples:
    """Samples of files that belong together: a table and its pictures, or pictures.

    `inputs["image"]` uint8 (n, 256, 256). The table has `file` (what the bench calls the bundle), `image` (the picture's name),
    `note`, `specimen`, `kind`, `nm_per_px`, the ten true_ columns, `simulated` (bool), and how each picture was cut. Pictures
    that are missing or cannot be read are named in the remarks and the others go on; `tell` puts notes into the reader's
    language, `report` gets the share of pictures read and a text. Raises InputError where nothing is left.
    """
    tables = [(path, name) for path, name in files if _ends(name, TABLES)]
    pictures = [(path, name) for path, name in files if not _ends(name, TABLES)]
    file = files[0][1] + (f" and {len(files) - 1} more" if files[1:] else "")
    remarks: list[str] = []
    if tables:
        targets = read_table(*tables[0])
        rows, sources = _named_by(targets, tables[0], pictures, acquisition, remarks)
    else:
        rows = pd.DataFrame({"image": [name for _, name in pictures]})
        known = Known(acquisition.nm_per_px, "user" if acquisition.nm_per_px else "", acquisition.info_bar_px)
        sources = [Source(path, name, known) for path, name in pictures]
    images, columns, failures = _looked_at(sources, lambda share, n: report(share, tell(_so_far(n, sources))))
    if not len(images):
        raise _nothing_left(failures, files, file)
    unreadable = [f"{sources[k].name} ({why.problem})" for k, why in failures]
    remarks += _told(Phrase("{n} pictures could not be read: {listed}"), unreadable)
    good = np.setdiff1d(np.arange(len(sources)), [k for k, _ in failures])
    cells = {str(name): rows[name].to_numpy()[good] for name in rows} | {str(name): columns[name].to_numpy() for name in columns}
    cells["simulated"] = _simulated(cells, tables[0][1] if tables else "")
    cells["path"] = np.array([str(sources[k].path) for k in good], object)
    table = _completed(cells, file, acquisition, remarks, tell)
    return Samples({"image": images}, table, {}, tuple((file, remark) for remark in remarks))


def _named_by(
    targets: Targets, table: File, pictures: Sequence[File], acquisition: Acquisition, remarks: list[str]
) -> tuple[pd.DataFrame, list[Source]]:
    """Rows of a table whose pictures are there, and those pictures; the others are told."""
    remarks += targets.remarks
    rows = targets.rows
    places = locate(rows["image"].tolist(), pictures, table[0], acquisition.image_folder)
    found = np.array([place.path is not None for place in places], bool)
    why = [f"{name} ({place.problem})" for name, place in zip(rows["image"], places) if place.path is None]
    lacking = _told(Phrase("{n} pictures of the table are missing: {listed}"), why)
    if not found.any():
        problem = lacking[0] if lacking else Phrase("names no picture")
        remedy = "Give the pictures together with the table, or their folder in image_folder"
        raise InputError(table[1], problem, remedy)
    used = {place.path for place in places}
    unused = [name for path, name in pictures if path not in used]
    remarks += lacking + _told(Phrase("{n} pictures are not in the table and were left out: {listed}"), unused)
    user = acquisition.nm_per_px
    told = rows["nm_per_px"] if "nm_per_px" in rows else pd.Series(np.nan, rows.index)
    sources = []
    for place, name, nm in zip(places, rows["image"], told):
        if place.path is not None:
            from_table = float(nm) if np.isfinite(nm) and nm > 0 else None
            by = "user" if user else "table" if from_table else ""
            sources.append(Source(place.path, name, Known(user or from_table, by, acquisition.info_bar_px)))
    return rows[found].reset_index(drop=True), sources


def _told(sentence: Phrase, names: Sequence[str]) -> list[str]:
    """A remark on pictures, with the names of the first of them; none where there are none."""
    if not names:
        return []
    listed = ", ".join(names[:LISTED]) + (f" … (+{len(names) - LISTED})" if names[LISTED:] else "")
    return [Phrase(sentence.template, **sentence.values | {"n": len(names), "listed": listed})]


def _nothing_left(failures: Sequence[tuple[int, InputError]], files: Sequence[File], file: str) -> InputError:
    """What to say where no picture could be read: of a single one its own fault."""
    first = failures[0][1]
    if len(files) == 1 and len(failures) == 1:
        return first
    problem = Phrase("none of its {n} pictures can be read; the first {problem}", n=len(failures), problem=first.problem)
    return InputError(file, problem, first.remedy)


# --- pictures, many at a time -----------------------------------------------------------------------------------------
def _so_far(n: int, sources: Sequence[Source]) -> Phrase:
    return Phrase("{n} of {all} pictures: {name}", n=n, all=len(sources), name=sources[n - 1].name)


def _looked_at(
    sources: Sequence[Source], report: Callable[[float, int], None]
) -> tuple[np.ndarray, pd.DataFrame, list[tuple[int, InputError]]]:
    """Images (m, 256, 256) and columns of those that can be read, and why others cannot, by place; kept for the next time."""
    digest = kept.digest([(s.path, s.name, json.dumps(vars(s.known))) for s in sources])
    found = kept.recall(digest) if len(sources) >= kept.FROM else None
    if found is not None:
        images, columns, told = found
        return images, columns, [(int(k), InputError(*(from_plain(part) for part in why))) for k, why in told]
    images = np.empty((len(sources), IMAGE_PX, IMAGE_PX), np.uint8)
    rows: list[dict[str, Any]] = []
    failures: list[tuple[int, InputError]] = []
    for k, seen in enumerate(_each(sources)):
        report(k / len(sources), k + 1)
        if isinstance(seen, InputError):
            failures.append((k, seen))
            continue
        images[len(rows)] = seen.image
        rows.append({**seen.columns, "notes": json.dumps([plain(note) for note in seen.notes], ensure_ascii=False)})
    images, columns = images[: len(rows)], pd.DataFrame(rows)
    if len(sources) >= kept.FROM:
        told = [(k, [plain(part) for part in (why.subject, why.problem, why.remedy)]) for k, why in failures]
        kept.keep(digest, images, columns, told)
    return images, columns, failures


def _each(sources: Sequence[Source]) -> Iterator[Seen | InputError]:
    """Every picture in order; decoders let go of the interpreter, so several run at a time."""
    read = _remembered if len(sources) < kept.FROM else _one  # more are kept together
    if len(sources) < 2:
        yield from map(read, sources)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(sources), AT_ONCE):
            yield from pool.map(read, sources[start : start + AT_ONCE])


def _remembered(source: Source) -> Seen | InputError:
    """One picture, from the cache where the same one was there before."""
    place = kept_pictures.picture_path(source.path, source.name, json.dumps(vars(source.known)))
    seen: Seen | InputError | None = kept_pictures.recall(place) if place is not None else None
    if seen is None:
        seen = _one(source)
        if place is not None and isinstance(seen, Seen):
            kept_pictures.keep(place, seen)
    return seen


def _one(source: Source) -> Seen | InputError:
    try:
        return see(source.path, source.name, source.known)
    except InputError as error:
        return error


# --- the samples' table -----------------------------------------------------------------------------------------------
def _completed(cells: dict[str, np.ndarray], file: str, acquisition: Acquisition, remarks: list[str], tell: Tell) -> pd.DataFrame:
    """The table of these columns and the others that samples have, notes in the reader's language.

    Made at once: a column set in a table takes as long as decoding a small picture.
    """
    count = len(cells["image"])
    for target in TARGETS:
        cells.setdefault(target, np.full(count, np.nan))
    for text in ("kind", "split"):
        cells[text] = np.array(_texts(cells, text), object)
    cells["contradicts"] = cells["contradicts"].astype(bool) if "contradicts" in cells else np.zeros(count, bool)
    known: dict[str, str] = {}
    notes = [known.setdefault(text, _spoken(text, tell)) for text in cells.pop("notes")]
    counted = Counter(clause for note in notes for clause in note.split("; ") if clause)
    remarks += [Phrase("{n} pictures: {note}", n=n, note=note) for note, n in counted.most_common(TOLD_NOTES) if n > 1]
    specimens = _specimens(cells, acquisition, remarks)
    first = {"file": [file] * count, "image": cells["image"], "note": notes, "specimen": specimens}
    first |= {name: cells[name] for name in ("kind", "nm_per_px")}
    return pd.DataFrame(first | {name: values for name, values in cells.items() if name not in first and name != "row"})


def _texts(cells: Mapping[str, np.ndarray], name: str) -> list[str]:
    """A column as texts, empty where there is nothing or no such column."""
    values = cells.get(name, np.full(len(cells["image"]), "", object))
    return ["" if value is None or value != value else str(value) for value in values]  # NaN is not itself


def _simulated(cells: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Which pictures are no measurement, by a column of their table or because that is the truth of a simulation."""
    if name.replace("\\", "/").rpartition("/")[2] == TRUTH:
        return np.ones(len(cells["image"]), bool)
    return np.array([text.lower() in YES for text in _texts(cells, "simulated")], bool)


def _spoken(notes: str, tell: Tell) -> str:
    return "; ".join(tell(from_plain(note)) for note in json.loads(notes))


def _specimens(cells: Mapping[str, np.ndarray], acquisition: Acquisition, remarks: list[str]) -> list[str]:
    """The specimen of each picture, by what the user chose, or by the first source that there is."""
    chosen, column, count = acquisition.specimen_from, _texts(cells, "specimen"), len(cells["image"])
    targets = np.stack([cells[target] for target in TARGETS], 1).astype(float)
    if chosen == "automatic":
        chosen = "column" if any(column) else "file name" if acquisition.specimen_pattern else (
            "equal targets" if np.isfinite(targets).any() else "nothing")  # fmt: skip
    if chosen == "column":
        if not any(column):
            remarks.append(Phrase("no column specimen: specimens are not known"))
        remarks += _doubtful(column, targets)
        return column
    if chosen == "nothing":
        return [""] * count
    if chosen == "file name":
        found = by_pattern(cells["image"].tolist(), acquisition.specimen_pattern)
        told = Phrase("specimens by file name: {k} in {n} pictures", k=len(set(found) - {""}), n=len(found))
    else:
        found = by_targets(targets)
        told = Phrase("specimens by equal targets: {k} in {n} pictures", k=len(set(found) - {""}), n=len(found))
    remarks += [told, *_doubtful(found, targets)]
    if "" in found:
        remarks.append(Phrase("{n} pictures without a specimen", n=found.count("")))
    return found


def _doubtful(specimens: Sequence[str], targets: np.ndarray) -> list[str]:
    """A remark on specimens whose pictures have different targets (n, 10): two of them may have got one name."""
    seen: dict[str, bytes] = {}
    rows = [row.tobytes() for row in np.nan_to_num(targets, nan=-1.0)]
    other = dict.fromkeys(name for name, row in zip(specimens, rows) if name and seen.setdefault(name, row) != row)
    return _told(
        Phrase("{n} specimens have pictures of different targets, so one name may stand for several: {listed}"), [*other]
    )


# --- writing ----------------------------------------------------------------------------------------------------------
def write(samples: Samples, folder: Path) -> list[Path]:
    """A PNG of 256 × 256 px per sample, with its width of a pixel where known, and a table of all that is known of them.

    The table is targets.csv, or truth.csv of simulated samples. `read` of the folder gives the samples again. Whole or not at
    all. Raises InputError where a file of that name is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    from_files = "image" in samples.table
    column, called = ("image", TABLE) if from_files else ("file", TRUTH)
    names = plain_names(samples.table[column].astype(str).tolist(), PICTURES, ".png", "picture")
    about = _about(samples.table, names)
    targets = [folder / name for name in [*names, *([called] if len(about.columns) > 1 else [])]]
    taken = next((target for target in targets if target.exists()), None)
    if taken is not None:
        raise InputError(taken.name, "is there already", "Choose an empty folder: nothing is written over")
    nm = samples.table["nm_per_px"] if "nm_per_px" in samples.table else pd.Series(np.nan, samples.table.index)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as temporary:
        for row, (name, width) in enumerate(zip(names, nm)):
            _write_png(np.asarray(samples.inputs["image"][row]), float(width), Path(temporary) / name)
        if len(about.columns) > 1:
            about.to_csv(Path(temporary) / called, index=False)
        for target in targets:
            (Path(temporary) / target.name).replace(target)
    return targets


def _write_png(image: np.ndarray, nm_per_px: float, path: Path) -> None:
    """PNG holds whole pixels per metre, which is exact to a millionth at these scales; the table has the number itself."""
    about: Mapping[str, Any] = (
        {"dpi": (metadata.NM_PER_INCH / nm_per_px,) * 2} if np.isfinite(nm_per_px) and nm_per_px > 0 else {}
    )
    Image.fromarray(image).save(path, "PNG", **about)


def _about(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns of the table: image, the channels under their own names, and what else is known of any sample."""
    kept_columns = {target: target.removeprefix(TRUE) for target in TARGETS}
    kept_columns |= {name: name for name in ("specimen", "kind", "split", "nm_per_px", *VISIBLE, *HIDDEN, "pigment", "simulated")}
    if "simulated" not in table:
        table = table.assign(simulated="image" not in table)  # those of the simulator come from no file
    table = table.assign(simulated=np.where(table["simulated"].astype(bool), "true", ""))
    there = {old: new for old, new in kept_columns.items() if old in table}
    found = table[list(there)].rename(columns=there)
    known = [name for name in found if (found[name].notna() & (found[name].astype(str) != "")).any()]
    return pd.concat([pd.Series(names, name="image"), found[known].reset_index(drop=True)], axis=1)
