"""Where things lie, and files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from glob import escape
from pathlib import Path
from typing import Any

from lib.config import Config, InputError
from lib.words import Phrase

ROOT = Path(__file__).resolve().parent.parent  # the repository
MASKS, LABELS, LABEL_SET = "masks", "labels", "labels.json"  # data/<task>/masks/…, data/<task>/labels/<name>/labels.json
_FOR_BROWSER: ContextVar[bool] = ContextVar("for_browser", default=False)


def home() -> Path:
    """Folder of `checkpoints/` and `data/`: the environment variable LIGHTBENCH_HOME, else the repository."""
    chosen = os.environ.get("LIGHTBENCH_HOME", "")
    return Path(chosen).expanduser().resolve() if chosen else ROOT


def data_dir() -> Path:
    """Where users put their files; need not exist yet."""
    return home() / "data"


def files_below(folder: Path) -> Iterator[Path]:
    """Files in and below a folder: each folder's own by name, then those of its folders; links to folders are not followed.

    Hidden ones are left out, and so are the masks and label sets that people make on the pages, which lie beside their files:
    they are no measurements. A folder of them that is given itself is gone through like any other.
    """
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if not (hidden(name) or _made_here(here / name)))
        yield from (here / name for name in sorted(names) if not hidden(name))


def hidden(name: str) -> bool:
    """Whether a file or folder of that name is none of the user's."""
    return name.startswith(".") or name == "__MACOSX"


def _made_here(folder: Path) -> bool:
    """Whether a folder is a task's masks that were drawn, or one of its label sets; one that is only called so is the user's."""
    real, root = folder.resolve(), data_dir().resolve()
    if real.name == MASKS and real.parent.parent == root:
        return True
    return real.parent.name == LABELS and real.parent.parent.parent == root and (real / LABEL_SET).is_file()


@contextmanager
def for_browser() -> Iterator[None]:
    """While this lasts, work is done for somebody at a browser, who may not read just any file of this machine."""
    token = _FOR_BROWSER.set(True)
    try:
        yield
    finally:
        _FOR_BROWSER.reset(token)


def within_reach(path: Path, *folders: Path) -> bool:
    """Whether a path that a file or a setting names may be read for whoever asks; nothing is opened to tell.

    Anywhere for somebody at the command line; for a browser below `data/` or one of `folders`, links followed.
    """
    if not _FOR_BROWSER.get():
        return True
    try:
        real = path.resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in (data_dir(), *folders))
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, or a ring of links
        return False


def refuse_beyond_data(config: Config, task: str) -> None:
    """Raise InputError where a setting, typed in a browser, names a file or folder outside `data/`.

    A relative one is looked for where the task's own reader does: in the task's folder under `data/`, then in the working
    directory. What is there and what is not are refused alike.
    """
    for name, field in type(config).model_fields.items():
        extra = field.json_schema_extra
        text = str(getattr(config, name) or "") if isinstance(extra, dict) and extra.get("path") else ""
        if text and not _below_data(text, task):
            problem = Phrase("{path} leads out of data/", path=repr(text))
            remedy = "Name what lies under data/, or use the command line, which may read anywhere"
            raise InputError(name, problem, remedy)


def _below_data(text: str, task: str) -> bool:
    with for_browser():
        try:
            written = Path(text).expanduser()
            for folder in () if written.is_absolute() else (data_dir() / task, ROOT / "data" / task, Path.cwd()):
                place = folder / written
                if place.exists() or any(place.parent.glob(f"{escape(place.name)}.*")):  # an ending may be left out
                    return within_reach(place, ROOT / "data")
        except (OSError, ValueError, RuntimeError):  # a name that no file can have
            return False
        return within_reach(data_dir() / task / written, ROOT / "data")


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all: temporary name beside it, flushed to disk, then renamed.

    Raises OSError (disk full, no permission); nothing is left behind then and an older file stays as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _replace(source: Path, target: Path, attempts: int = 20) -> None:
    """Rename; Windows refuses for an instant while somebody reads the target."""
    for left in reversed(range(attempts)):
        try:
            source.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or not left:
                raise
            time.sleep(0.05)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A name beside `target` to write to; it takes the target's place when all went well, and is gone when not.

    Raises InputError where the disk is full or the folder may not be written to; an older file stays as it was then.
    """
    draft = target.with_name(f".{secrets.token_hex(6)}-{target.name}")
    try:
        yield draft
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        _replace(draft, target)
    except OSError as error:
        problem = Phrase("could not be written ({why})", why=error.strerror or str(error))
        raise InputError(target.name, problem, "Check the free space and the permissions of the folder") from error
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value atomically. Raises ValueError on NaN: JSON has none."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The file's JSON value, or None where there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None


def plain_names(names: Sequence[str], endings: Sequence[str], ending: str, otherwise: str) -> list[str]:
    """Distinct plain file names, never a path: those given, whichever of `endings` they have, with `ending` instead.

    A name of which nothing is left is called as `otherwise` says; a repeated one gets a number.
    """
    used: set[str] = set()
    result = []
    for name in names:
        stem = re.sub(rf"({'|'.join(map(re.escape, endings))})$", "", re.split(r"[/\\]", name)[-1], flags=re.IGNORECASE)
        stem = re.sub(r"[^\w.()+ -]", "_", stem).strip(". ")[:120] or otherwise
        candidate, number = f"{stem}{ending}", 2
        while candidate.lower() in used:
            candidate, number = f"{stem}-{number}{ending}", number + 1
        used.add(candidate.lower())
        result.append(candidate)
    return result
