"""Results of a long prediction, slice by slice on disk: what was finished before an interruption is not done again."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lib.runs import Run, write_atomic
from lib.task import Samples


@dataclass(frozen=True)
class Kept:
    """Tables of finished slices in a folder, each under a name that says what it was made of."""

    folder: Path
    origin: str

    @staticmethod
    def of(folder: Path, run: Run, settings: Mapping[str, Any], files: Sequence[tuple[Path, str]]) -> Kept:
        """Slices of one model, one set of instrument settings and the files as they are now (size and time of change)."""
        state = [(str(path.resolve()), name, path.stat().st_size, path.stat().st_mtime_ns) for path, name in files]
        weights = hashlib.sha256((run.folder / "model.safetensors").read_bytes()).hexdigest()
        return Kept(folder, json.dumps([weights, dict(settings), state], sort_keys=True))

    def get(self, samples: Samples, start: int) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """What was kept for these samples: the values and those of their parts. None where there is nothing whole.

        `start` is the place of the first among the samples read with them: rows of one file may be alike but for that.
        """
        found = [self._path(samples, start, kind) for kind in ("values", "judged")]
        if not all(path.exists() for path in found):
            return None
        values, judged = (pd.read_parquet(path) for path in found)
        return values, judged

    def put(self, samples: Samples, start: int, values: pd.DataFrame, judged: pd.DataFrame) -> None:
        """Keep both tables; the values last, each whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind, table in (("judged", judged), ("values", values)):
            buffer = io.BytesIO()
            table.to_parquet(buffer)
            write_atomic(self._path(samples, start, kind), buffer.getvalue())

    def forget(self) -> None:
        """Remove what was kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, samples: Samples, start: int, kind: str) -> Path:
        text = f"{self.origin}{start}" + samples.table.to_json(orient="values", default_handler=str)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}-{kind}.parquet"
