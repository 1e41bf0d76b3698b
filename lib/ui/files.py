"""Files that a page works on: uploads in a private folder, folders under `data/`, the shipped sample; and ZIPs to take away.

A name that came from a user is only ever shown. On disk an upload is `0001.tif`, `0002.zip` …; the folder goes when the
session ends or the files are replaced.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from lib.runs import data_dir, files_below
from lib.task import InputError, Task
from lib.ui.context import plain
from lib.ui.words import kept, speaking, t
from lib.uploads import numbered

MAX_FILES = 20_000
MAX_FOLDERS = 300
UPLOAD, FOLDER, SAMPLE = "Upload files", "Folder under data/", "Sample"


@dataclass(frozen=True)
class Source:
    """Files to work on: `files` are (path on this machine, name to show), `arguments` how a command line names them."""

    label: str
    files: tuple[tuple[Path, str], ...]
    arguments: tuple[str, ...]
    remark: str = ""
    kept_by: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    def payload(self) -> list[dict[str, str]]:
        """The files as the worker takes them."""
        return [{"path": str(path), "name": name} for path, name in self.files]


@dataclass(frozen=True)
class Chosen:
    """Files that were chosen but not yet taken: `identity` tells one choice from another, `take` makes the Source."""

    identity: tuple[str, ...]
    take: Callable[[], Source]


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder only this session knows, removed when nothing holds it any more."""
    return tempfile.TemporaryDirectory(prefix="lightbench-", ignore_cleanup_errors=True)


# --- sources ---------------------------------------------------------------------------------------------------------
def uploaded(uploads: Sequence[Any]) -> Source:
    """Streamlit's uploaded files, written into a private folder under numbers."""
    folder = private_folder()
    names = unique([upload.name for upload in uploads])
    files = []
    for number, (upload, name) in enumerate(zip(uploads, names), start=1):
        path = Path(folder.name) / f"{number:04d}{_suffix(name)}"
        path.write_bytes(upload.getbuffer())
        files.append((path, name))
    label = names[0] if len(names) == 1 else t("{n} uploaded files", n=len(names))
    return Source(label, tuple(files), tuple(names), kept_by=folder)


def in_data(task: Task, text: str) -> Source:
    """The files of this task in a folder under `data/`, subfolders included, or one file there.

    Raises InputError for a path that leaves `data/`, is not there, or holds no file of the task.
    """
    root = data_dir().resolve()
    subject = t("folder {name}", name=repr(text))
    chosen = (root / text.strip()).resolve() if "\0" not in text else root.parent
    if not chosen.is_relative_to(root):
        remedy = t("Put the files into a folder under {root}, or upload them.", root=root)
        raise InputError(subject, t("it is not inside data/"), remedy)
    if not chosen.exists():
        remedy = t("Choose one from the list, or make it and try again.")
        raise InputError(subject, t("there is no such folder under data/"), remedy)
    suffixes = (*task.suffixes, ".zip")
    found = [chosen] if chosen.is_file() else [path for path in files_below(chosen) if path.suffix.lower() in suffixes]
    inside = [path for path in found if path.resolve().is_relative_to(root)]
    if not inside:
        problem = t("it holds no {kinds} or .zip file", kinds=", ".join(task.suffixes))
        raise InputError(subject, problem, t("Choose another folder, or copy files into it."))
    left_out = len(found) - len(inside)
    remark = t("{n} links that leave data/ were left out.", n=left_out) if left_out else ""
    if len(inside) > MAX_FILES:
        first = t("Only the first {most} of {n} files are taken.", most=MAX_FILES, n=len(inside))
        remark = f"{first} {remark}"
    files = tuple((path, path.relative_to(root).as_posix()) for path in inside[:MAX_FILES])
    return Source(f"data/{chosen.relative_to(root).as_posix()}", files, (str(chosen),), remark)


def sample(task: Task) -> Source:
    """The task's shipped sample. Raises InputError where it has none."""
    paths = [path for path in task.example() if path.exists()]
    if not paths:
        problem = t("it is not in this copy of Lightbench")
        raise InputError(t("the sample"), problem, t("Upload a file of your own instead."))
    return Source(t("the sample"), tuple((path, path.name) for path in paths), tuple(str(path) for path in paths))


def folders(task: Task) -> dict[str, int]:
    """Folders under `data/` with files of the task: path from there, and how many files lie in and below it."""
    found = _folders(data_dir(), (*task.suffixes, ".zip"))
    own = [name for name in found if name.split("/")[0] == task.name]
    return {name: found[name] for name in [*own, *(name for name in found if name not in own)]}


@st.cache_data(ttl=15, show_spinner=False)
def _folders(root: Path, suffixes: tuple[str, ...]) -> dict[str, int]:
    """Kept for some seconds: a page is drawn often, and the folder may be a large one on a network."""
    found: dict[str, int] = {}
    for path in files_below(root):
        if path.suffix.lower() in suffixes:
            for folder in path.relative_to(root).parents:
                found[folder.as_posix()] = found.get(folder.as_posix(), 0) + 1
        if len(found) >= MAX_FOLDERS:
            break
    return dict(sorted(item for item in found.items() if item[0] != "."))


def _suffix(name: str) -> str:
    """A harmless file ending: the worker judges by content, but readers may look at it."""
    found = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
    return found.group().lower() if found else ".bin"


def unique(names: Sequence[str]) -> list[str]:
    """The names, those that came before as `name (2).tif`, `name (3).tif` …"""
    return numbered(names, " ({})", lambda name: name)


# --- choosing --------------------------------------------------------------------------------------------------------
def choose(task: Task, key: str, *, offer_sample: bool = True) -> Chosen | None:
    """Widgets to choose files; None while nothing is chosen."""
    places = [UPLOAD, FOLDER, SAMPLE] if offer_sample else [UPLOAD, FOLDER]
    where = st.segmented_control(
        t("Where are the files?"), places, default=UPLOAD, required=True, key=f"{key}-where", persist_state="session",
        format_func=speaking(),
    )  # fmt: skip
    if where == FOLDER:
        return _choose_folder(task, key)
    if where == SAMPLE:
        names = ", ".join(path.name for path in task.example())
        st.caption(t("The sample that comes with Lightbench: {names}.", names=names or t("none")))
        return Chosen((SAMPLE,), lambda: sample(task))
    uploads = st.file_uploader(
        t("One or many files, or a ZIP of them: {kind}", kind=task.say(task.input_label)),
        accept_multiple_files=True,
        key=f"{key}-upload",
        help=t(
            "Accepted endings: {endings}. Files stay on this machine until the session ends.",
            endings=", ".join([*task.suffixes, ".zip"]),
        ),
    )
    if not uploads:
        st.session_state.pop(f"{key}-uploaded", None)
        return None
    identity = (UPLOAD, *(upload.file_id for upload in uploads))
    return Chosen(identity, lambda: _uploaded_once(uploads, f"{key}-uploaded", identity))


def _uploaded_once(uploads: Sequence[Any], key: str, identity: tuple[str, ...]) -> Source:
    """The uploads as files, written once however often they are asked for."""
    kept_source: tuple[tuple[str, ...], Source] | None = st.session_state.get(key)
    if kept_source is None or kept_source[0] != identity:
        kept_source = st.session_state[key] = (identity, uploaded(uploads))
    return kept_source[1]


def _choose_folder(task: Task, key: str) -> Chosen | None:
    known = {name: f"{name} · {counted(n)}" for name, n in folders(task).items()}
    if not known:
        place = data_dir() / task.name
        st.caption(t("There is no file of this task under data/ yet. Copy some to {place}, or upload them.", place=place))
    chosen = st.selectbox(
        t("Folder under data/ (choose or type)"),
        list(known),
        index=0 if known else None,
        format_func=lambda name: known.get(name, name),
        accept_new_options=True,
        key=kept(f"{key}-folder"),
        persist_state="session",
        help=t("Subfolders are included. A path that leaves data/ is refused."),
    )
    return Chosen((FOLDER, str(chosen)), lambda: in_data(task, str(chosen))) if chosen else None


def counted(n: int) -> str:
    """`1 file`, `2 files`."""
    return t("{n} file", n=n) if n == 1 else t("{n} files", n=n)


def show_failures(failures: Sequence[dict[str, str]], shown: int = 5) -> None:
    """Files that could not be used, each by name with its sentence; the rest went on."""
    for failure in failures[:shown]:
        st.error(plain(sentence(failure)), icon=":material/error:")
    if len(failures) > shown:
        with st.expander(t("{n} more files that could not be read", n=len(failures) - shown)):
            st.markdown("\n".join(f"- {plain(sentence(failure))}" for failure in failures[shown:200]))


def show_remarks(remarks: Sequence[dict[str, str]], shown: int = 3) -> None:
    """What was done to make files fit, a line for each file; the lines of many files on request."""
    by_file: dict[str, list[str]] = {}
    for remark in remarks:
        by_file.setdefault(remark["file"], []).append(remark["remark"])
    lines = [f"{plain(file)}: {plain('; '.join(told))}" for file, told in by_file.items()]
    for line in lines[:shown]:
        st.caption(f":material/healing: {line}")
    if len(lines) > shown:
        with st.expander(t("{files} more with remarks on how they were read", files=counted(len(lines) - shown))):
            st.markdown("\n".join(f"- {line}" for line in lines[shown:200]))


def show_skipped(skipped: Sequence[dict[str, str]]) -> None:
    """Files in archives that are not for this task: how many, and which on request."""
    if skipped:
        with st.popover(t("{files} left out", files=counted(len(skipped))), icon=":material/filter_alt:", type="tertiary"):
            st.markdown("\n".join(f"- {plain(item['file'])}: {plain(item['reason'])}" for item in skipped[:200]))


def sentence(failure: dict[str, str]) -> str:
    """One failure as a sentence that names its file once."""
    file, error = failure["file"], failure["error"]
    return error if file in error else f"{file}: {error}"


# --- taking away -----------------------------------------------------------------------------------------------------
def zip_folder(folder: Path) -> bytes:
    """Every file of the folder in one ZIP."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return zip_files((path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths)


def zip_files(files: Iterable[tuple[str, bytes]]) -> bytes:
    """(name in the ZIP, content) pairs as one ZIP."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()
