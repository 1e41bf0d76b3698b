"""Single pictures as a network sees them, kept in a cache folder by their content, so that the same one opens at once again.

Pictures of a large table are kept together, by `kept`; these are the ones that come alone, and those of small tables.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lib.disk import home, write_atomic
from lib.tasks.reflectance.config import IMAGE_PX
from lib.tasks.reflectance.kept import READER_VERSION
from lib.tasks.reflectance.pictures import Seen
from lib.words import from_plain, plain

MOST_IN_FOLDER = 128  # of 256 folders, so 32 768 pictures of 64 kB: 2 GB; the longest unused go first
_log = logging.getLogger(__name__)


def picture_path(path: Path, name: str, known: str) -> Path | None:
    """Where this picture, called `name`, read with what is `known` beside the file, is kept; None where it cannot be read."""
    try:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "blake2b")
    except OSError:
        return None
    content.update(f"\0{READER_VERSION}\0{name}\0{known}".encode("utf-8", "surrogatepass"))
    found = content.hexdigest()[:32]
    return home() / "cache" / "reflectance" / "pictures" / found[:2] / f"{found[2:]}.npz"


def recall(place: Path) -> Seen | None:
    """The picture kept there; None where there is none or it is damaged."""
    try:
        with np.load(place, allow_pickle=False) as stored:
            image, about = stored["image"], json.loads(str(stored["about"]))
        if image.shape != (IMAGE_PX, IMAGE_PX) or image.dtype != np.uint8:
            return None
        os.utime(place)
        return Seen(image, about["columns"], tuple(from_plain(note) for note in about["notes"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("cached picture %s cannot be used: %s", place.name, error)
        return None


def keep(place: Path, seen: Seen) -> None:
    """Keep a picture; where the disk is full it is not kept, and the log says so."""
    about: dict[str, Any] = {"columns": dict(seen.columns), "notes": [plain(note) for note in seen.notes]}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, image=seen.image, about=np.array(json.dumps(about, default=np.generic.item)))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, content.getvalue())
        _prune(place.parent)
    except OSError as error:
        _log.warning("picture %s was not kept: %s", place.name, error)


def _prune(folder: Path) -> None:
    """Remove the longest unused pictures of one folder until they are not too many."""
    there = list(folder.glob("*.npz"))
    if len(there) > MOST_IN_FOLDER:
        for path in sorted(there, key=lambda path: path.stat().st_mtime)[:-MOST_IN_FOLDER]:
            path.unlink(missing_ok=True)
