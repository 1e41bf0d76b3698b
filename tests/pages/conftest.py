"""Pages opened alone, on the toy task, with a worker in the test's own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lib.runs import create
from lib.task import Task
from lib.ui.live import LIBRARY
from tests.pages.fake_worker import PAYLOADS, FakeWorker, Here

PAGES = Path(__file__).parents[2] / "pages"
Open = Callable[..., AppTest]


@pytest.fixture
def open_page(toy: Task, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens `pages/<stage>.py` for the toy task; keyword arguments are the address's parameters."""
    st.cache_resource.clear()
    st.cache_data.clear()
    PAYLOADS.clear()

    def worker() -> FakeWorker:
        return FakeWorker(toy)

    monkeypatch.setattr("lib.jobs.worker.Worker", worker)

    return _opener("toy")


@pytest.fixture
def readings(home: Path) -> Path:
    """A folder under data/ with good files (one noisy), one bad, and one that is not for the task."""
    folder = home / "data" / "toy" / "set one"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(5):
        np.save(folder / f"r{number}.npy", 1 + rng.normal(size=8) * (0.1 if number else 20))
    (folder / "bad $x$ *y*.npy").write_text("no array")
    (folder / "notes.txt").write_text("not for the task")
    return folder


@pytest.fixture
def models(toy: Task) -> list[str]:
    """Ids of two finished models: the shipped one and one's own."""
    ids = []
    for name in ("shipped-toy", "mine"):
        run = create("toy", toy.Training().model_dump(), name)
        (run.folder / "model.safetensors").write_bytes(b"weights")
        run.set_status(state="done", best_value=0.123, metric="rmse_v")
        ids.append(run.id)
    return ids


def texts(page: AppTest) -> str:
    """Everything the page says in words."""
    parts = [*page.error, *page.warning, *page.info, *page.markdown, *page.caption, *page.code]
    return "\n".join(str(part.value) for part in parts)


def figures(page: AppTest) -> list[str]:
    """What Plotly is given for each figure: those that are redrawn in place, then those whose points can be picked."""
    live = [part.proto for part in page.get("bidi_component") if part.proto.component_name == "live_figure"]
    picked = [part.proto for part in page.get("plotly_chart") if f"-{LIBRARY}-figure" not in part.proto.id]
    return [json.loads(part.json)["figure"] for part in live] + [part.spec for part in picked]


@pytest.fixture
def open_spectra(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens `pages/<stage>.py` for spectra, with the real operations in this process; keyword arguments are parameters."""
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr("lib.jobs.worker.Worker", Here)

    return _opener("spectra")


def _opener(task: str) -> Open:
    def opened(stage: str, session: dict | None = None, **params: str) -> AppTest:
        page = AppTest.from_file(str(PAGES / f"{stage}.py"), default_timeout=60)
        page.session_state["page_path"] = f"{task}-{stage}"
        for key, value in (session or {}).items():
            page.session_state[key] = value
        for key, value in params.items():
            page.query_params[key] = value
        return page.run()

    return opened
