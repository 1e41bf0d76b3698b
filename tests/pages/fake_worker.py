"""A worker in the test's own process: the operations of the real one, without torch, on any task."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.task import InputError, Panel, Samples, Task

PAYLOADS: list[tuple[str, dict[str, Any]]] = []  # what was asked, newest last


class Here:
    """The worker's operations, run by whoever asks."""

    def request(self, op: str, payload: dict[str, Any], on_progress: Any = None, stop: Any = None) -> dict[str, Any]:
        from lib import serve

        return {} if op == "warm" else dict(serve.OPERATIONS[op](payload, on_progress or (lambda _share, _text: None)))


class FakeWorker:
    """Answers at once. `mean` of each sample's first input stands for the model's value."""

    def __init__(self, task: Task, wait: threading.Event | None = None) -> None:
        self.task, self.wait = task, wait

    def request(self, op, payload, on_progress=None, **_):
        PAYLOADS.append((op, payload))
        if op == "warm":
            return {}
        if on_progress:
            on_progress(0.5, "half-way")
        if self.wait is not None:
            self.wait.wait(20)
        return getattr(self, f"_{op}")(payload)

    def _read(self, payload):
        known = self.task.Acquisition.parse(payload["acquisition"])
        parts, failures = [], []
        for file in payload["files"]:
            try:
                parts.append(self.task.read(Path(file["path"]), known, file["name"]))
            except InputError as error:
                failures.append({"file": file["name"], "error": f"{error.problem}. {error.remedy}"})
        return parts, failures, known

    def _inspect(self, payload):
        parts, failures, known = self._read(payload)
        if parts:
            samples, output = Samples.concat(parts), Path(payload["output"])
            samples.save(output)
            self.task.inspect(samples, known).to_parquet(output / "readings.parquet")
        bad = {failure["file"] for failure in failures}
        files = [{**file, "file": file["name"]} for file in payload["files"] if file["name"] not in bad]
        return {"n": sum(map(len, parts)), "failures": failures, "files": files}

    def _keep(self, payload):
        output = Path(payload["output"])
        if output.exists():
            raise InputError(str(output), "there is such a folder already", "Choose another name.")
        output.mkdir(parents=True)
        samples = Samples.load(Path(payload["folder"])).take(np.flatnonzero(payload["keep"]))
        self.task.write(samples, output)
        (output / "recipe.json").write_text(payload["recipe"])
        return {"paths": [str(path) for path in output.iterdir()]}

    def _predict(self, payload):
        parts, failures, _ = self._read(payload)
        columns = list(self.task.prediction_columns())
        rows = [{"file": f["file"], "note": f"error: {f['error']}"} for f in failures]
        panels = []
        if parts:
            samples = Samples.concat(parts)
            mean = next(iter(samples.inputs.values())).mean(axis=1)
            values = pd.DataFrame(
                {"mean_v": mean, "mean_v_lo": mean - 0.1, "mean_v_hi": mean + 0.1, "note": samples.table["note"]}
            )
            values = pd.concat([values, self.task.baselines(samples)], axis=1).assign(file=samples.table["file"])
            panels = self.task.prediction_panels(values, samples, pd.DataFrame())
            rows = values.to_dict("records") + rows
        output = Path(payload["output"])
        pd.DataFrame(rows, columns=columns).to_csv(output / "predictions.csv", index=False)
        (output / "figures.html").write_text("<html></html>")
        (output / "panels.json").write_text(json.dumps([panel.to_json() for panel in panels]))
        return {"n": len(rows) - len(failures), "failures": failures, "seconds": 0.1}

    def _calibrate(self, payload):
        known = self.task.Acquisition.parse(payload["acquisition"])
        samples = Samples.load(Path(payload["folder"])).take(payload["rows"])
        found = self.task.calibrate(samples, known, np.random.default_rng(payload["seed"]))
        return {
            "simulation": found.simulation.model_dump(),
            "training": found.training,
            "acquisition": found.acquisition,
            "panels": [panel.to_json() for panel in found.panels],
        }


class Calibrating:
    """Mixed into a task: a calibration that reads the mean off the samples."""

    def calibrate(self, samples, acquisition, rng):
        from lib.task import Calibration

        mean = float(next(iter(samples.inputs.values())).mean())
        text = Panel("beside", "Real beside simulated", f"{len(samples)} samples")
        return Calibration(self.Simulation(mean_v=round(mean, 3)), {"n_train": 32}, {"offset_v": 0.5}, [text])
