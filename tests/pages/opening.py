"""Open one page as a browser would, and make run folders for it to show."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from streamlit.testing.v1 import AppTest

from lib import runs, sheet, tasks

ROOT = Path(__file__).parents[2]


def open_page(path: str, **query: str) -> AppTest:
    """The page at a URL path such as `toy-train`, run once."""
    stage = path.rpartition("-")[2]
    page = AppTest.from_file(str(ROOT / "pages" / f"{stage}.py"), default_timeout=30)
    page.session_state["page_path"] = path
    for name, value in query.items():
        page.query_params[name] = value
    return page.run()


def texts(page: AppTest) -> str:
    """All words a reader sees in text, captions, messages and headings."""
    kinds = ("title", "subheader", "markdown", "caption", "error", "warning", "info", "success", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(page, kind))


def links(page: AppTest) -> list[tuple[str, str]]:
    """(first line of the label, page and query) of every link to a page."""
    found = [element.proto for element in page.get("page_link")]
    return [(proto.label.partition("  \n")[0], f"{proto.page}?{proto.query_string}".rstrip("?")) for proto in found]


def make_run(name: str, state: str = "done", epochs_done: int = 5, best: float = 0.2, **config) -> runs.Run:
    """A run folder of the toy task in some state; `best` is reached at epoch 2 and not at the last."""
    task = tasks.get("toy")
    run = runs.create("toy", task.Training.parse({"epochs": 5, **config}).model_dump(), name)
    epochs = np.arange(1, epochs_done + 1)
    values = np.where(epochs == 2, best, best + 0.1)
    if epochs_done:
        columns = {"epoch": epochs, "train_loss": 1.0 / epochs, "validation_loss": 1.1 / epochs, "rmse_v": values, "seconds": 2.0}
        pd.DataFrame(columns).to_csv(run.folder / "metrics.csv", index=False)
    now = time.time()
    run.set_status(
        state=state, epoch=epochs_done, steps_per_epoch=4, metric="rmse_v", unit="V", started_at=now - 60, heartbeat_at=now,
        finished_at=now if state in runs.FINISHED else None, eta_s=95.0 if state == "running" else None,
        best_value=best if epochs_done else None, best_epoch=2 if epochs_done else None,
        reason="The disk is full." if state == "failed" else "",
    )  # fmt: skip
    (run.folder / "log.txt").write_text(f"log of {name}\n")
    return run


def with_sheet(run: runs.Run, error_v: float = 0.2) -> runs.Run:
    """Test predictions of a known error, the sheet made of them, and a model file."""
    task, rng = tasks.get("toy"), np.random.default_rng(1)
    samples = task.simulate(task.Simulation.parse({"spread_v": 2.0}), 40, rng)
    truth = task.truth(samples)
    predicted = truth + error_v * rng.choice([-1.0, 1.0], (len(truth), 1))
    table = samples.table.join(task.baselines(samples))
    parts = [predicted.add_prefix("predicted."), truth.add_prefix("true."), table.add_prefix("sample.")]
    pd.concat(parts, axis=1).to_parquet(run.folder / "test_predictions.parquet")
    sheet.build(run)
    (run.folder / "model.safetensors").write_bytes(b"weights")
    return run


class FileWorker:
    """A worker that only writes the files it is asked for, and remembers what that was."""

    asked: list[tuple[str, str]]

    def __init__(self) -> None:
        self.asked = []

    def request(self, op, payload, on_progress=None, stop=None):
        self.asked.append((op, payload["format"]))
        path = Path(payload["output"]) / f"any.{payload['format']}"
        path.write_bytes(f"{op} of {payload['run']}".encode())
        return {"path": str(path)}
