"""What the Clean page shows of samples that are large pictures: the worker reads them, the dashboard never does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from lib.task import Panel, Samples, Task
from lib.ui.context import WorkerLike
from lib.ui.files import show_failures
from lib.ui.look import has_plates
from lib.ui.words import t
from lib.ui.work import awaited, begin, finished, start

BLANK = np.zeros((1, 1), np.uint8)  # in place of a picture that is not there


@dataclass
class Pictured:
    """What was made of samples that were read into `folder` under `acquisition`: small pictures by row, panels of one row."""

    folder: str
    samples: Samples
    acquisition: Mapping[str, Any]
    small: dict[int, np.ndarray] = field(default_factory=dict)
    panels: tuple[tuple[int, str], list[Panel]] | None = None

    def payload(self, task: Task, **more: Any) -> dict[str, Any]:
        """What every request to the worker needs, and more."""
        return {
            "task": task.name, "folder": self.folder, "acquisition": dict(self.acquisition), "language": task.language, **more,
        }  # fmt: skip


def small_pictures(task: Task, worker: WorkerLike, pictured: Pictured, rows: Sequence[int]) -> list[np.ndarray] | None:
    """Small pictures of these rows; None while the worker reads them, with progress and cancel."""
    if not has_plates(task):
        return [task.thumbnail(pictured.samples, row) for row in rows]
    key, output = f"{task.name}-clean-small", Path(pictured.folder) / "small.npz"

    def take(value: dict[str, Any]) -> None:
        with np.load(output, allow_pickle=False) as file:
            pictured.small.update({int(row): file[row] for row in file.files})
        show_failures(value["failures"], shown=2)

    ready = finished(key, take)
    missing = [row for row in rows if row not in pictured.small]
    if ready and missing and key not in st.session_state:
        begin(key, worker, "thumbnails", pictured.payload(task, rows=missing, output=str(output)), t("reading pictures"))
        ready = finished(key, take)
    if key in st.session_state and ready:  # it was stopped, or failed, and is not begun again unasked
        st.button(t("Read the pictures"), icon=":material/refresh:", on_click=st.session_state.pop, args=(key, None))
    return [pictured.small.get(row, BLANK) for row in rows] if ready else None


def panels_of(task: Task, worker: WorkerLike, pictured: Pictured, row: int) -> list[Panel]:
    """What to look at of one sample. Raises InputError."""
    if not has_plates(task):
        return task.sample_panels(pictured.samples, row, task.Acquisition.parse(pictured.acquisition))
    about = row, str(task.language)
    if pictured.panels is None or pictured.panels[0] != about:
        with st.spinner(t("Computing …"), show_time=True):
            value = awaited(start(worker, "panels", pictured.payload(task, row=row), t("reading pictures")))
        assert value is not None
        pictured.panels = about, [Panel.from_json(panel) for panel in value["panels"]]
    return pictured.panels[1]
