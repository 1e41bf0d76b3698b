"""The table that names pictures and their ten targets: by column names in any order, or by place as the original's.

Any common separator, decimal sign and encoding. What is not as expected and can be mended is said in remarks.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lib.task import InputError, Phrase, first_bytes
from lib.tasks.reflectance.config import CHANNELS, HIDDEN, TRUE, VISIBLE

MAX_BYTES = 64 * 2**20
MAX_ROWS = 200_000
PERCENT_FROM = 1.5  # a column that goes above it is no fraction
NAMED = 5  # cells or rows that a remark names
SEPARATORS = (";", "\t", "|", ",")
IMAGE_NAMES = (
    "semfilenames", "semfilename", "image", "images", "imagepath", "filename", "filenames", "file", "path", "picture", "sem",
)  # fmt: skip
TEXTS = {"specimen": ("specimen", "sample", "individual", "echantillon"), "kind": ("kind", "species", "class", "taxon"),
         "split": ("split", "part", "set"), "pigment": ("pigment",), "simulated": ("simulated",)}  # fmt: skip
SCALES = ("nmperpx", "nmperpixel", "pixelsizenm", "pxsizenm")
PICTURE_NAME = re.compile(r"\.(png|tiff?|jpe?g|bmp|gif|webp)\s*$", re.IGNORECASE)
_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-"}
_OTHER_STARTS = {
    b"PK\x03\x04": Phrase("an Excel workbook or a ZIP archive"), b"\xd0\xcf\x11\xe0": Phrase("an old Excel workbook"),
    b"%PDF": Phrase("a PDF"), b"\x89PNG": Phrase("a PNG picture"), b"\xff\xd8\xff": Phrase("a JPEG picture"),
    b"PAR1": Phrase("a Parquet file"), b"\x89HDF": Phrase("an HDF5 file"),
}  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """Rows of a table: `image` (as it is written), `row` (line in the table, from 1), and what else it tells.

    `specimen`, `kind`, `split`, `pigment`, `simulated` are texts where the table has them; `nm_per_px` and the true_ columns are
    floats, NaN where empty.
    """

    rows: pd.DataFrame
    remarks: list[str] = field(default_factory=list)


def read_table(path: Path, name: str) -> Targets:
    """The rows of a table. Raises InputError naming what was expected."""
    cells = _cells(path, name)
    header, rows = _parted(cells, name)
    remarks: list[str] = []
    if header is not None and (meant := _by_name(header, rows)) is not None:
        columns = meant
        remarks += _told_of_names(header, columns)
    else:
        columns = _by_place(rows, name)
        remarks.append(Phrase("no usable column names: taken by place as image, {channels}", channels=", ".join(CHANNELS)))
    first = 1 + (header is not None)
    table = pd.DataFrame({"image": [_at(row, columns["image"]) for row in rows], "row": np.arange(first, first + len(rows))})
    for text in (name_ for name_ in TEXTS if name_ in columns):
        table[text] = [_at(row, columns[text]) for row in rows]
    numbers = {key: place for key, place in columns.items() if key not in (*TEXTS, "image")}
    for key, place in numbers.items():
        table[key] = _numbers([_at(row, place) for row in rows], key, table["row"], remarks)
    for channel in CHANNELS:
        if TRUE + channel not in table:
            table[TRUE + channel] = np.nan
    table = table[table["image"] != ""].reset_index(drop=True)
    _fractions(table, remarks)
    return Targets(_once(table, remarks), remarks)


# --- cells ------------------------------------------------------------------------------------------------------------
def _cells(path: Path, name: str) -> list[list[str]]:
    """The rows that hold something, stripped. Raises InputError where it is no text table."""
    start = first_bytes(path, name, 4096, "table")
    other = next((kind for magic, kind in _OTHER_STARTS.items() if start.startswith(magic)), None)
    export = Phrase("Save it as CSV: the picture's file name, then {channels}", channels=", ".join(CHANNELS))
    if other is not None:
        raise InputError(name, Phrase("is not a table of targets but {other}", other=other), export)
    if path.stat().st_size > MAX_BYTES:
        raise InputError(name, Phrase("is larger than {n} MB", n=MAX_BYTES // 2**20), "Split the table")
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    elif b"\0" in content:
        raise InputError(name, "is no text: it holds zero bytes", export)
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", "replace")
    try:
        found = _separated(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), name, export)
    except csv.Error as error:
        raise InputError(name, Phrase("is a damaged table ({why})", why=error), export) from error
    return [row for row in ([cell.strip() for cell in row] for row in found) if any(row)]


def _separated(lines: list[str], name: str, remedy: str) -> list[list[str]]:
    """The cells, by the separator that divides the first rows into most cells of one number."""
    head = [line for line in lines[:50] if line.strip()]
    if not head:
        raise InputError(name, "is empty", remedy)
    if len(lines) > MAX_ROWS:
        raise InputError(name, Phrase("has more than {n} rows", n=MAX_ROWS), "Split the table")
    found = {s: [len(row) for row in csv.reader(head, delimiter=s)] for s in SEPARATORS}
    alike = [s for s in SEPARATORS if len(set(found[s][1:] or found[s])) == 1 and found[s][-1] > 1]
    best = alike[0] if alike else max(SEPARATORS, key=lambda s: found[s][-1])
    if max(found[best]) < 2:
        raise InputError(name, "is no table of pictures and targets: it has a single column", remedy)
    return list(csv.reader(lines, delimiter=best))


def _parted(cells: list[list[str]], name: str) -> tuple[list[str] | None, list[list[str]]]:
    """Header and rows; None where the first row already names a picture. Raises InputError where there is no row."""
    header = None if any(PICTURE_NAME.search(cell) for cell in cells[0]) else cells[0]
    rows = cells[header is not None :]
    if not rows:
        raise InputError(name, "has no row below its column names", "Export it again with one row per picture")
    if header is not None and len(rows[0]) == len(header) + 1:
        header = ["", *header]  # an index written without a name
    return header, rows


def _at(row: Sequence[str], place: int) -> str:
    return row[place] if place < len(row) else ""


# --- what columns mean ------------------------------------------------------------------------------------------------
def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _channel(name: str) -> str | None:
    """The channel that a column's name means, with or without `true_`, `IR`, `nm`."""
    plain = _plain(name.lower().removeprefix(TRUE))
    plain = re.sub(r"^(?:ir|r)?(740|940)(?:nm)?$", r"\1", plain)
    return next((channel for channel in CHANNELS if _plain(channel) == plain), None)


def _by_name(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, int] | None:
    """{what: place} of a header that names the picture and at least one channel or specimen; None where it does not."""
    columns: dict[str, int] = {}
    for at, name in enumerate(header):
        plain, channel = _plain(name), _channel(name)
        if channel is not None:
            columns.setdefault(TRUE + channel, at)
        elif plain in SCALES:
            columns.setdefault("nm_per_px", at)
        elif name in (*VISIBLE, *HIDDEN):
            columns.setdefault(name, at)
        else:
            what = next((text for text, words in TEXTS.items() if plain in words), None)
            if what is not None:
                columns.setdefault(what, at)
    pictures = _picture_column(rows)
    named = {_plain(name): at for at, name in reversed(list(enumerate(header)))}
    called = next((named[word] for word in IMAGE_NAMES if word in named), None)
    place = pictures
    if called is not None and (pictures is None or _is_picture_column(rows, called)):
        place = called
    if place is None or not columns:
        return None
    named_channels = sum(key.startswith(TRUE) for key in columns)
    if named_channels < len(CHANNELS) / 2 and len(header) - place - 1 == len(CHANNELS):
        return None  # ten columns, and a name or two that means a channel by chance
    return {key: at for key, at in columns.items() if at != place} | {"image": place}


def _is_picture_column(rows: Sequence[Sequence[str]], place: int) -> bool:
    return sum(bool(PICTURE_NAME.search(_at(row, place))) for row in rows) * 2 > len(rows)


def _picture_column(rows: Sequence[Sequence[str]]) -> int | None:
    """The first column most of whose cells end as a picture's name."""
    return next((place for place in range(max(map(len, rows))) if _is_picture_column(rows, place)), None)


def _told_of_names(header: Sequence[str], columns: dict[str, int]) -> list[str]:
    """Remarks on channels that lack and columns that nobody asked for."""
    remarks: list[str] = []
    lacking = [channel for channel in CHANNELS if TRUE + channel not in columns]
    if lacking:
        remarks.append(Phrase("no column {lacking}: taken as not measured", lacking=", ".join(lacking)))
    unused = [name for place, name in enumerate(header) if name and place not in columns.values()]
    if unused:
        remarks.append(Phrase("columns not used: {unused}", unused=", ".join(unused[:NAMED]) + (" …" if unused[NAMED:] else "")))
    return remarks


def _by_place(rows: Sequence[Sequence[str]], name: str) -> dict[str, int]:
    """{what: place}: the picture, then ten columns. Raises InputError where there are not ten."""
    place = _picture_column(rows)
    expected = Phrase(
        "Give the columns their names (image, {channels}), or exactly ten behind the picture's in that order",
        channels=", ".join(CHANNELS),
    )
    if place is None:
        raise InputError(name, "is no table of targets: no column names pictures (.png, .tif, .jpg, .bmp)", expected)
    width = max(set(lengths := [len(row) for row in rows]), key=lengths.count)
    behind = width - place - 1
    if behind != len(CHANNELS):
        problem = Phrase("has {n} columns behind the picture's name, where the ten targets were expected", n=behind)
        raise InputError(name, problem, expected)
    return {"image": place} | {TRUE + channel: place + 1 + k for k, channel in enumerate(CHANNELS)}


# --- numbers ----------------------------------------------------------------------------------------------------------
def _numbers(cells: Sequence[str], key: str, rows: pd.Series, remarks: list[str]) -> np.ndarray:
    """Cells as floats: comma or point as decimal sign, `12 %` as .12; NaN where empty, and where no number, which is said."""
    found = np.full(len(cells), np.nan)
    strange = []
    for k, cell in enumerate(cells):
        text = cell.replace("\u00a0", "").replace(" ", "")
        if text.lower() in _MISSING:
            continue
        percent = text.endswith("%")
        try:
            value = float(text.rstrip("%").replace(",", "."))
        except ValueError:
            strange.append(f"{cell[:20]!r} (row {rows.iloc[k]})")
            continue
        if np.isfinite(value):
            found[k] = value / 100 if percent else value
    if strange:
        some = ", ".join(strange[:NAMED]) + (" …" if strange[NAMED:] else "")
        remarks.append(Phrase("{n} cells of column {column} are no numbers: {some}; taken as not measured", n=len(strange),
                              column=key.removeprefix(TRUE), some=some))  # fmt: skip
    return found


def _fractions(table: pd.DataFrame, remarks: list[str]) -> None:
    """Bring targets in percent to fractions: where most of the columns that hold numbers go above `PERCENT_FROM`."""
    names = [TRUE + channel for channel in CHANNELS]
    largest = table[names].max()
    known = int(largest.notna().sum())
    if known and int((largest > PERCENT_FROM).sum()) * 2 > known:
        table[names] = table[names] / 100
        remarks.append(Phrase("targets up to {largest:.3g}: read as percent and divided by 100", largest=float(largest.max())))


def _once(table: pd.DataFrame, remarks: list[str]) -> pd.DataFrame:
    """Without rows that repeat an earlier one; pictures that come again with other targets stay, marked in `contradicts`."""
    content = [column for column in table if column != "row"]
    again = table.duplicated(content)
    if again.any():
        rows = ", ".join(map(str, table["row"][again][:NAMED])) + (" …" if int(again.sum()) > NAMED else "")
        remarks.append(Phrase("{n} rows repeat an earlier one and count once (rows {rows})", n=int(again.sum()), rows=rows))
    kept = table[~again].reset_index(drop=True)
    kept["contradicts"] = kept.duplicated("image", keep=False)
    if kept["contradicts"].any():
        some = list(dict.fromkeys(kept["image"][kept["contradicts"]]))
        listed = ", ".join(some[:NAMED]) + (" …" if some[NAMED:] else "")
        remarks.append(Phrase("{n} pictures come several times with other targets: {listed}", n=len(some), listed=listed))
    return kept
