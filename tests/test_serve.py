"""The warm worker: every operation, every error as a sentence, and nothing but replies on stdout."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib import model as models
from lib import runs, serve
from lib.runs import Run
from lib.task import Calibration, Panel, Samples, Task

ROOT = Path(__file__).parents[1]
NOISY_TASK = """
import os
from lib.tasks.toy import Toy

class Noisy(Toy):
    name = "noisy"

    def read(self, path, acquisition, display_name=""):
        print("noise")
        os.write(1, b"more noise")
        return super().read(path, acquisition, display_name)

TASK = Noisy()
"""


@pytest.fixture
def run(toy: Task) -> Run:
    config = toy.Training()
    run = runs.create("toy", config.model_dump(mode="json"), name="shipped-toy")
    models.save_weights(run, toy.network(config))
    return run


def ask(op: str, **payload: Any) -> list[dict[str, Any]]:
    """All replies to one request."""
    replies = io.StringIO()
    serve.answer(json.dumps({"id": 7, "op": op, "payload": payload}), replies)
    parsed = [json.loads(line) for line in replies.getvalue().splitlines()]
    assert all(reply["id"] == 7 for reply in parsed)
    return parsed


def value(op: str, **payload: Any) -> dict[str, Any]:
    last = ask(op, **payload)[-1]
    assert last["event"] == "result", last
    return last["value"]


def inputs(folder: Path) -> list[dict[str, str]]:
    """A good file, a bad one, and an archive with a good one and one that leads out."""
    folder.mkdir()
    np.save(folder / "0.npy", np.zeros(8, np.float32))
    (folder / "1.npy").write_bytes(b"no array")
    with zipfile.ZipFile(folder / "2.zip", "w") as archive:
        archive.write(folder / "0.npy", "day/ü 1.npy")
        archive.write(folder / "0.npy", "../out.npy")
        archive.writestr("notes.txt", "")
    given = {"0.npy": "good '1'.npy", "1.npy": "bad.npy", "2.zip": "two.zip"}
    return [{"path": str(folder / stored), "name": name} for stored, name in given.items()]


def test_ping():
    assert value("ping") == {"pid": os.getpid()}


def test_predict_writes_the_results_and_names_what_failed(run: Run, tmp_path: Path):
    replies = ask("predict", task="toy", run=run.id, files=inputs(tmp_path / "in"), acquisition={}, output=str(tmp_path / "out"))
    result = replies[-1]["value"]
    assert result["n"] == 2
    assert [failure["file"] for failure in result["failures"]] == ["bad.npy", "../out.npy"]
    assert [skipped["file"] for skipped in result["skipped"]] == ["notes.txt"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"figures.html", "panels.json", "predictions.csv", "samples"}
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["file"].tolist() == ["good '1'.npy", "bad.npy", "day/ü 1.npy", "../out.npy"]
    progress = [reply for reply in replies if reply["event"] == "progress"]
    assert progress[-1]["fraction"] == 1


def test_predict_takes_the_shipped_model_where_none_is_named(run: Run, tmp_path: Path):
    files = inputs(tmp_path / "in")[:1]
    assert value("predict", task="toy", run="", files=files, acquisition={}, output=str(tmp_path / "out"))["n"] == 1


def test_inspect_keeps_samples_readings_and_raw_files(run: Run, tmp_path: Path):
    out = tmp_path / "out"
    result = value("inspect", task="toy", files=inputs(tmp_path / "in"), acquisition={"offset_v": 1}, output=str(out))
    assert result["n"] == 2
    assert [failure["file"] for failure in result["failures"]] == ["bad.npy", "../out.npy"]
    samples, readings = Samples.load(out), pd.read_parquet(out / "readings.parquet")
    assert samples.table["file"].tolist() == readings["file"].tolist() == ["good '1'.npy", "day/ü 1.npy"]
    assert float(samples.inputs["readings"][0, 0]) == -1
    raw = {file["name"]: Path(file["path"]) for file in result["files"]}
    assert np.load(raw["day/ü 1.npy"]).tolist() == [0] * 8


def test_inspect_of_nothing_good_says_so(run: Run, tmp_path: Path):
    result = value("inspect", task="toy", files=inputs(tmp_path / "in")[1:2], acquisition={}, output=str(tmp_path / "out"))
    assert result["n"] == 0
    assert len(result["failures"]) == 1


def test_calibrate_passes_the_kept_rows_and_the_seed(toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy.simulate(toy.Simulation(), 5, np.random.default_rng(0)).save(tmp_path)
    rows = toy.simulate(toy.Simulation(), 5, np.random.default_rng(0)).table["file"].tolist()
    seen: list[Any] = []

    def calibrate(samples: Samples, acquisition: Any, rng: np.random.Generator) -> Calibration:
        seen.append((samples.table["file"].tolist(), acquisition.offset_v, rng.integers(1000)))
        return Calibration(toy.Simulation(noise_v=0.25), {"n_train": 8}, {"offset_v": 1.0}, [Panel("a", "A", "text")])

    monkeypatch.setattr(toy, "calibrate", calibrate)
    result = value("calibrate", task="toy", folder=str(tmp_path), rows=[3, 1], acquisition={"offset_v": 2}, seed=4)
    assert seen == [([rows[3], rows[1]], 2.0, np.random.default_rng(4).integers(1000))]
    assert result["simulation"]["noise_v"] == 0.25
    assert (result["training"], result["acquisition"]) == ({"n_train": 8}, {"offset_v": 1.0})
    assert Panel.from_json(result["panels"][0]).content == "text"


def test_calibrate_without_such_a_step_or_without_samples_is_told(toy: Task, tmp_path: Path):
    toy.simulate(toy.Simulation(), 2, np.random.default_rng(0)).save(tmp_path)
    assert "no calibration" in ask("calibrate", task="toy", folder=str(tmp_path), rows=[0], acquisition={})[-1]["problem"]
    assert "no samples" in ask("calibrate", task="toy", folder=str(tmp_path), rows=[], acquisition={})[-1]["problem"]


def test_export_and_sheet_give_paths_or_reasons(run: Run, tmp_path: Path):
    path = Path(value("export", run=f"toy/{run.id}", task="toy", format="safetensors", output=str(tmp_path))["path"])
    assert path.is_file()
    reply = ask("sheet", run=f"toy/{run.id}", task="toy", format="html", output=str(tmp_path))[-1]
    assert reply["event"] == "error"
    assert "no test predictions" in reply["problem"]


def test_warm_loads_the_shipped_model_or_none(toy: Task, run: Run):
    assert value("warm", task="toy") == {"run": run.id}
    (run.folder / "model.safetensors").unlink()
    assert value("warm", task="toy") == {"run": None}


def test_a_model_is_kept_until_its_weights_change(toy: Task, run: Run):
    first = serve.load_model(run)
    assert serve.load_model(run) is first
    network = toy.network(toy.Training(seed=5))
    models.save_weights(run, network)
    path = run.folder / "model.safetensors"
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))
    assert serve.load_model(run) is not first


@pytest.mark.parametrize(
    ("op", "payload", "told"),
    [
        ("dance", {}, "Operations: ping"),
        ("predict", {"task": "nothing", "files": []}, "Tasks:"),
        ("predict", {"task": "toy", "run": "absent", "files": []}, "no such run"),
        ("predict", {"task": "toy", "files": [], "acquisition": {"offset": 1}, "output": "x"}, "Valid keys: offset_v"),
        ("predict", {}, "log has the details"),
    ],
)
def test_bad_requests_get_sentences(run: Run, op: str, payload: dict[str, Any], told: str):
    reply = ask(op, **payload)[-1]
    assert reply["event"] == "error"
    assert told in f"{reply['subject']}: {reply['problem']}. {reply['remedy']}"
    assert "Traceback" not in json.dumps(reply)


def test_a_line_that_is_no_request_is_answered():
    replies = io.StringIO()
    serve.answer("not json\n", replies)
    assert json.loads(replies.getvalue())["event"] == "error"


@pytest.mark.slow
def test_the_process_answers_on_stdout_and_prints_elsewhere(run: Run, tmp_path: Path):
    """A reader that prints must not break the protocol; the process ends when its stdin does."""
    (tmp_path / "plugins" / "noisy").mkdir(parents=True)
    (tmp_path / "plugins" / "noisy" / "__init__.py").write_text(NOISY_TASK)
    np.save(tmp_path / "1.npy", np.zeros((1, 8), np.float32))
    paths = os.pathsep.join([str(tmp_path / "plugins"), str(ROOT / "tests" / "toy" / "tasks")])
    requests = [
        {
            "id": 1,
            "op": "inspect",
            "payload": {"task": "noisy", "files": [{"path": str(tmp_path / "1.npy")}], "output": str(tmp_path)},
        },
        {"id": 2, "op": "ping", "payload": {}},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "lib", "worker"],
        input="\n".join(map(json.dumps, requests)) + "\n",
        env=os.environ | {"LIGHTBENCH_TASK_PATH": paths, "OMP_NUM_THREADS": "1"},
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(reply["id"], reply["event"]) for reply in replies if reply["event"] != "progress"] == [(1, "result"), (2, "result")]
    assert "noise" in done.stderr
    assert "more noise" in done.stderr
