"""Text tables, read in blocks into float32: any common separator, decimal sign, encoding and line end.

What differs from a plain comma-separated UTF-8 file is said in `notes`. Memory is one block, whatever the file's size.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from lib.task import InputError, Phrase
from lib.tasks.spectra.columns import MAX_COLUMNS, is_header, unnamed

HEAD_BYTES = 4 * 2**20  # looked at to learn the dialect; the first line must end in it
BLOCK_BYTES = 8 * 2**20
SNIFFED_LINES = 50
HEADER_LINES = 30  # among which the header is looked for where the first line is none
SEPARATORS = {
    "\t": Phrase("tabs"),
    ";": Phrase("semicolons"),
    "|": Phrase("bars"),
    ",": Phrase("commas"),
    " ": Phrase("spaces"),
}
MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "-"]
_COMMA_DECIMAL = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
_POINT_DECIMAL = re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")
_BAD_CELL = re.compile(r"In CSV column #(\d+):(?: Row #(\d+):)?.*invalid value '(.*)'", re.DOTALL)
_BAD_ROW = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


@dataclass(frozen=True)
class DelimitedSource:
    """A text table whose dialect is known; `names` are its columns, `rows_at_most` counts its line ends."""

    path: Path
    where: str
    names: tuple[str, ...]
    rows_at_most: int
    separator: str
    decimal: str
    encoding: str
    first_row: int  # lines before the first row of values
    notes: tuple[str, ...]
    header_row: int = 0  # counted from 1: the row that looks like the header where the first one does not

    def batches(self, spectral: Sequence[int], other: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Blocks of rows: the spectral columns as float32, then the others as text.

        Raises InputError naming row and column of a cell that is no number, and the row that has too many or too few.
        """
        ids = [f"c{i}" for i in range(len(self.names))]
        chosen = [ids[i] for i in (*spectral, *other)]
        types = {ids[i]: pa.float32() for i in spectral} | {ids[i]: pa.binary() for i in other}
        reading = pa.csv.ReadOptions(
            column_names=ids, skip_rows=self.first_row, block_size=BLOCK_BYTES,
            encoding="utf-16" if self.encoding == "utf-16" else "utf8",  # other text is decoded column by column
            use_threads=False,  # no slower, and only so does the reader number the rows that it complains of
        )  # fmt: skip
        parsing = pa.csv.ParseOptions(delimiter=self.separator)
        converting = pa.csv.ConvertOptions(
            column_types=types, include_columns=chosen, decimal_point=self.decimal, null_values=MISSING, check_utf8=False
        )
        try:
            with self.path.open("rb") as file, pa.csv.open_csv(file, reading, parsing, converting) as blocks:
                for block in blocks:
                    yield _decoded(block, len(spectral), self.encoding)
        except (pa.ArrowException, UnicodeError) as error:
            raise self._explained(str(error)) from error

    def other_decimal(self) -> DelimitedSource:
        """The same table read with the other decimal sign."""
        decimal = "." if self.decimal == "," else ","
        kept = tuple(note for note in self.notes if "decimal" not in note)
        return replace(self, decimal=decimal, notes=(*kept, Phrase("comma as decimal sign")) if decimal == "," else kept)

    def _explained(self, message: str) -> InputError:
        """What the parser found, in the words of the file's owner."""
        if cell := _BAD_CELL.search(message):
            column, row, value = self.names[int(cell[1])], cell[2], cell[3][:40]
            if row:
                problem = Phrase(
                    "has {value!r} in row {row} of column {column!r}, where a number was expected",
                    value=value,
                    row=row,
                    column=column,
                )
            else:
                problem = Phrase("has {value!r} in column {column!r}, where a number was expected", value=value, column=column)
            return BadCell(self.where, problem, "Mend the cell, or leave it empty if the value is missing", value)
        if row_ := _BAD_ROW.search(message):
            return InputError(
                self.where,
                Phrase(
                    "has {n} columns in row {row} and {m} in the first ({separators} between them)",
                    n=row_[3],
                    row=row_[1],
                    m=row_[2],
                    separators=SEPARATORS[self.separator],
                ),
                "Use one separator throughout, and put text that holds it in quotes; the file may also be cut off there",
            )
        return InputError(self.where, "is a damaged table: it cannot be read to its end", "Export it again, or copy it afresh")


class BadCell(InputError):
    """A cell that is no number; `value` is what it holds."""

    def __init__(self, subject: str, problem: str, remedy: str, value: str) -> None:
        super().__init__(subject, problem, remedy)
        self.value = value

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return InputError, (self.subject, self.problem, self.remedy)

    @property
    def is_decimal(self) -> bool:
        """Whether it would be a number with the other decimal sign."""
        return bool(_COMMA_DECIMAL.fullmatch(self.value.strip()) or _POINT_DECIMAL.fullmatch(self.value.strip()))


def _decoded(block: pa.RecordBatch, first_text: int, encoding: str) -> pa.RecordBatch:
    """The block with its text columns as strings."""
    columns = list(block.columns)
    for place in range(first_text, len(columns)):
        try:
            columns[place] = columns[place].cast(pa.string())
        except pa.ArrowInvalid:  # not UTF-8 here, whatever the head of the file was
            texts = [(v or b"").decode("cp1252", "replace") for v in columns[place].to_pylist()]
            columns[place] = pa.array(texts, pa.string())
    return pa.RecordBatch.from_arrays(columns, names=block.schema.names)


# --- the dialect ------------------------------------------------------------------------------------------------------
def open_delimited(path: Path, where: str) -> DelimitedSource:
    """A text table with its dialect and how many rows it may have. Raises InputError where it is no table, or has no rows."""
    source = open_head(path, where)
    return replace(source, rows_at_most=_count_lines(path) - source.first_row + 1)


def open_head(path: Path, where: str) -> DelimitedSource:
    """Learn the dialect from the head of a file, however large it is; its rows are not counted. Raises InputError."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    whole = len(head) < HEAD_BYTES
    text, encoding, notes = _decode(head, where)
    ends = "\r\n" if "\r\n" in text else ("\r" if "\r" in text and "\n" not in text else "\n")
    lines = text.split(ends)
    header_row = _header_row(lines[:HEADER_LINES])
    if not whole:
        if len(lines) == 1:
            raise _too_wide(text, where)
        lines = lines[:-1]
    blank = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
    lines = [line.rstrip("\r") for line in lines[blank : blank + SNIFFED_LINES] if line.strip()]
    if len(lines) < 2:
        raise InputError(where, "has 0 rows of values" if lines else "is empty", "Export it again with its samples, one per row")
    separator, cells = _separate(lines, where, header_row)
    names = [name.strip() for name in cells[0]]
    if len(names) > MAX_COLUMNS:
        raise _too_wide(lines[0], where)
    if len(cells) > 1 and len(cells[1]) == len(names) + 1:
        names.insert(0, "")  # an index written without a name
    decimal = _decimal(cells[1:])
    notes += [Phrase("Windows line ends")] if ends == "\r\n" else ([Phrase("old Macintosh line ends")] if ends == "\r" else [])
    notes += [] if separator == "," else [Phrase("{separators} between columns", separators=SEPARATORS[separator])]
    notes += [Phrase("comma as decimal sign")] if decimal == "," else []
    named = tuple(name or unnamed(i) for i, name in enumerate(names))
    return DelimitedSource(path, where, named, 0, separator, decimal, encoding, blank + 1, tuple(notes), header_row)


def _decode(head: bytes, where: str) -> tuple[str, str, list[str]]:
    """Text, encoding and notes of the first bytes."""
    for mark, encoding, words in (
        (codecs.BOM_UTF8, "utf-8-sig", Phrase("byte-order mark")), (codecs.BOM_UTF16_LE, "utf-16", Phrase("UTF-16 text")),
        (codecs.BOM_UTF16_BE, "utf-16", Phrase("UTF-16 text")),
    ):  # fmt: skip
        if head.startswith(mark):
            return codecs.getincrementaldecoder(encoding)("replace").decode(head), encoding, [words]
    if b"\0" in head:
        raise InputError(where, "is no text: it holds zero bytes", "Export the table as CSV, Parquet or HDF5")
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head), "utf-8", []
    except UnicodeDecodeError:
        return head.decode("cp1252", "replace"), "cp1252", [Phrase("Latin-1 text")]


def _header_row(lines: list[str]) -> int:
    """The first row, from 1, that looks like a header of spectra; 0 where it is the first with any text, or there is none."""
    filled = [number for number, line in enumerate(lines, 1) if line.strip()]
    looks = (number for number in filled if any(is_header(lines[number - 1].split(separator)) for separator in SEPARATORS))
    found = next(looks, 0)
    return found if filled and found != filled[0] else 0


def lines_above(where: str, header_row: int) -> InputError:
    """The refusal of a table that does not begin with its header."""
    remedy = Phrase("Row {n} looks like the header: remove the lines above it", n=header_row)
    return InputError(where, "has no spectra: no column of its first row is named by a position", remedy)


def _separate(lines: list[str], where: str, header_row: int) -> tuple[str, list[list[str]]]:
    """The separator that divides every line alike, and the cells; else the one that divides the first line most."""
    try:
        divided = {separator: list(csv.reader(lines, delimiter=separator)) for separator in SEPARATORS}
    except csv.Error as error:
        raise InputError(
            where, Phrase("is a damaged table ({why})", why=error), "Export it again as CSV with one row per sample"
        ) from error
    for separator, cells in divided.items():
        widths = {len(row) for row in cells[1:]}
        if len(widths) == 1 and len(cells[0]) > 1 and widths <= {len(cells[0]), len(cells[0]) + 1}:
            return separator, cells
    separator = max(divided, key=lambda s: len(divided[s][0]))
    if len(divided[separator][0]) < 2 and header_row:
        raise lines_above(where, header_row)
    if len(divided[separator][0]) < 2:
        raise InputError(
            where,
            "has a single column, or a separator that is not known (tab, semicolon, comma, bar, space)",
            "Export the table as CSV with one row per sample",
        )
    return separator, divided[separator]


def _decimal(rows: list[list[str]]) -> str:
    """`,` where cells are numbers with a comma and none with a point."""
    cells = [cell.strip() for row in rows for cell in row]
    commas = any(_COMMA_DECIMAL.fullmatch(cell) for cell in cells)
    return "," if commas and not any(_POINT_DECIMAL.fullmatch(cell) for cell in cells) else "."


def _too_wide(first_line: str, where: str) -> InputError:
    """The refusal of a header that is too long."""
    count = max(first_line.count(separator) for separator in SEPARATORS) + 1
    return InputError(
        where,
        Phrase("has at least {count:,} columns in its first line (at most {most:,})", count=count, most=MAX_COLUMNS),
        "Export one row per sample and one column per position; if rows and columns are exchanged, turn the table",
    )


def _count_lines(path: Path) -> int:
    """Rows that a file may have: its line ends, so that memory is asked for once and its size is known before."""
    feeds, returns, last = 0, 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            feeds, returns, last = feeds + block.count(b"\n"), returns + block.count(b"\r"), block[-1:]
    ends = feeds if returns in (0, feeds) else feeds + returns
    return ends - 1 + (last not in b"\r\n")
