"""The command line: what it writes, what it refuses, and its exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lib.tasks
from lib import jobs, runs, train
from lib.__main__ import main
from lib.jobs.base import environment
from lib.runs import Run
from lib.task import Task
from tests.conftest import wait_for

TRAIN = ("train", "toy", "--set", "epochs=2", "n_train=32", "n_test=32")


def call(*arguments: object) -> int:
    """Exit status of one command, run in this process."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as exit_:  # argparse
        return int(exit_.code or 0)


@pytest.fixture(autouse=True)
def _argv(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lib"])  # `train` rewrites it for Lightning's other ranks
    for rank in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(rank, raising=False)


@pytest.fixture
def run(toy: Task) -> Run:
    """A small trained run."""
    config = toy.Training.parse({"epochs": 2, "n_train": 32, "n_test": 32})
    made = runs.create("toy", config.model_dump(mode="json"), "trained")
    train.fit(made)
    return made


def only_run() -> Run:
    (found,) = runs.list_runs("toy")
    return found


# --- help and usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["simulate", "clean", "convert", "train", "predict", "sheet", "export", "jobs", "worker"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    assert "usage: python -m lib" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "config"), [("simulate", "Simulation"), ("train", "Training"), ("predict", "Acquisition")])
def test_help_lists_every_key_with_default_unit_and_bounds(
    toy: Task, command: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, "toy", "--help") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and line.split()}
    fields = getattr(toy, config).model_fields
    assert set(fields) <= set(lines)
    for key, field in fields.items():
        assert field.description in lines[key]
        assert str(field.json_schema_extra["unit"]) in lines[key]
    if command == "train":
        assert "(default 3; epochs; ≥ 1, ≤ 10000)" in lines["epochs"]
        assert "cosine | plateau | step | constant" in lines["schedule"]
        assert "default empty" in lines["start_from"]


@pytest.mark.parametrize(("task", "line"), [
    ("bragg", "several with commas (default empty; px; a list, separated by commas)"),
    ("spectra", "given to the model beside the spectra (default empty; a list, separated by commas)"),
    ("spectra", "of each of its four blocks (default 3,4,6,3; a list, separated by commas)"),
])  # fmt: skip
def test_help_tells_a_list_as_it_is_typed(task: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train" if task == "spectra" else "predict", task, "--help") == 0
    assert line in capsys.readouterr().out


def test_a_task_that_does_not_load_costs_nobody_the_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "tasks" / "broken").mkdir(parents=True)
    (tmp_path / "tasks" / "broken" / "__init__.py").write_text("raise ImportError('no such package')")
    monkeypatch.setattr(lib.tasks, "__path__", [*lib.tasks.__path__, str(tmp_path / "tasks")])
    lib.tasks.names.cache_clear()
    assert call("simulate", "--help") == 0
    out = capsys.readouterr().out
    assert "settings of broken cannot be listed: it does not load (no such package)" in out
    assert "settings of toy, for --set" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("fly",), "invalid choice"),
        (("simulate", "toy", "--output", "x"), "--n"),
        (("simulate", "toy", "--n", "0", "--output", "x"), "not a positive whole number"),
        (("simulate", "toy", "--n", "3", "--seed", "-1", "--output", "x"), "cannot be negative"),
        (("simulate", "tyo", "--n", "3", "--output", "x"), "Tasks:"),
        (("simulate", "toy", "--n", "3", "--output", "x", "--set", "noise=1"), "Valid keys: mean_v, noise_v, spread_v"),
        (("simulate", "toy", "--n", "3", "--output", "x", "--set", "noise_v"), "Write KEY=VALUE; valid keys: mean_v"),
        (("simulate", "toy", "--n", "3", "--output", "x", "--set", "noise_v=-1"), "greater than 0"),
        (("simulate", "toy", "--n", "3", "--output", "x", "--preset", "silent"), "Presets: 'quiet', 'loud'"),
        (("simulate", "toy", "--n", "900000000", "--output", "x"), "GB at once"),
        (("train", "toy", "--set", "epoch=3"), "Valid keys: model, start_from, epochs"),
        (("train", "toy", "--set", "epochs=many"), "epochs = 'many'"),
        (("train", "toy", "--resume"), "it needs --run RUN"),
        (("train", "toy", "--run", "nothing"), "there is no such run"),
        (("predict", "toy", "--output", "x"), "--input"),
        (("predict", "toy", "--input", "a.npy", "--output", "x"), "no model is shipped"),
        (("predict", "toy", "--input", "a.npy", "--output", "x", "--set", "gain=1"), "Valid keys: offset_v"),
        (("sheet", "nothing"), "there is no such run"),
        (("export", "nothing", "--format", "onnx"), "there is no such run"),
        (("export", "nothing", "--format", "pickle"), "invalid choice"),
        (("jobs", "cancel"), "which run?"),
        (("jobs", "log", "nothing"), "there is no such run"),
        (("jobs", "restore", "nothing"), "In the trash: nothing"),
    ],
)
def test_wrong_usage_is_status_2_with_a_sentence_and_does_nothing(
    arguments: tuple[str, ...], words: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert not (tmp_path / "x").exists() and runs.list_runs("toy") == []


def test_the_unexpected_is_one_sentence_unless_debugging(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("wires crossed")

    monkeypatch.setattr(runs, "list_runs", broken)
    assert call("jobs") == 1
    said = capsys.readouterr().err
    assert "unexpected RuntimeError: wires crossed" in said and "Traceback" not in said
    monkeypatch.setenv("LIGHTBENCH_DEBUG", "1")
    with pytest.raises(RuntimeError):
        call("jobs")


# --- simulate -------------------------------------------------------------------------------------------------------


def test_simulate_writes_files_and_truth_and_repeats_itself(toy: Task, tmp_path: Path, capsys: Any) -> None:
    arguments = ("--n", 5, "--seed", 3, "--preset", "quiet", "--set", "mean_v=2", "spread_v=1", "--set", "noise_v=0.2")
    for name in ("a", "b"):
        assert call("simulate", "toy", *arguments, "--output", tmp_path / name) == 0
    assert "6 files" in capsys.readouterr().out
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(names) == 6 and "truth.csv" in names
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    truth = pd.read_csv(tmp_path / "a" / "truth.csv")
    assert list(truth["noise_v"]) == [0.2] * 5 and truth["mean_v"].nunique() == 5
    assert len(toy.read(tmp_path / "a" / truth["file"][0], toy.Acquisition())) == 1
    assert call("simulate", "toy", "--n", 5, "--seed", 4, "--output", tmp_path / "c") == 0
    assert (tmp_path / "c" / names[0]).read_bytes() != (tmp_path / "a" / names[0]).read_bytes()


def test_simulate_takes_an_empty_folder_and_refuses_a_full_one(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert call("simulate", "toy", "--n", 2, "--output", tmp_path / "empty") == 0
    assert call("simulate", "toy", "--n", 2, "--output", tmp_path / "full") == 2
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert "not an empty folder" in capsys.readouterr().err


def test_simulate_leaves_nothing_half_written(toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def full(samples: Any, folder: Path) -> None:
        (folder / "first.npy").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(toy, "write", full)
    assert call("simulate", "toy", "--n", 2, "--output", tmp_path / "out") == 1
    assert "No space left" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


# --- train ----------------------------------------------------------------------------------------------------------


def test_train_in_the_foreground(capsys: Any) -> None:
    assert call(*TRAIN, "--preset", "deep", "--set", "seed=4", "--name", "My first") == 0
    run = only_run()
    assert run.name == "My first"
    assert run.config() | {"model": "deep", "epochs": 2, "seed": 4, "learning_rate": 0.003} == run.config()
    assert jobs.state(run) == "done" and run.sheet() is not None
    out = capsys.readouterr().out
    assert "epoch 1/2" in out and f"toy/{run.id}  done: rmse_v" in out


def test_a_sheet_that_cannot_be_built_is_told_and_the_model_stands(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def refuse(_run: Run) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.sheet.build", refuse)
    assert call(*TRAIN) == 0
    run = only_run()
    status = run.status()
    assert status.state == "done" and run.has_model() and run.sheet() is None
    assert "No space left on device" in status.reason and f"python -m lib sheet {run.id}" in status.reason
    assert status.reason in capsys.readouterr().err
    monkeypatch.undo()


def test_a_failed_training_is_status_1(capsys: Any) -> None:
    assert call(*TRAIN, "--set", "data_file=/nowhere.h5") == 1
    assert "there is no such file" in capsys.readouterr().err
    assert jobs.state(only_run()) == "failed"


def test_the_settings_of_a_run_stand(run: Run, capsys: Any) -> None:
    assert call("train", "toy", "--run", run.id, "--resume") == 2
    assert "it is done" in capsys.readouterr().err
    run.set_status(state="failed")
    assert call("train", "toy", "--run", run.id) == 2
    assert "Add --resume" in capsys.readouterr().err
    assert call("train", "toy", "--run", run.id, "--resume", "--set", "epochs=9") == 2
    assert "cannot be changed" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_cancels_and_the_same_run_goes_on(capsys: Any) -> None:
    arguments = [sys.executable, "-m", "lib", *TRAIN, "--set", "step_delay_s=0.3", "epochs=4", "loader_workers=1"]
    process = subprocess.Popen(
        arguments, env=environment(), cwd=runs.ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: runs.list_runs("toy") and only_run().status().epoch >= 1, "an epoch")
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the trainer and its loader workers
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "cancelled" in said and "Traceback" not in said
    run = only_run()
    assert jobs.state(run) == "cancelled"
    assert call("train", "toy", "--run", run.id, "--resume") == 0
    assert list(run.metrics()["epoch"]) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_signal_before_torch_is_loaded_cancels_too() -> None:
    process = subprocess.Popen([sys.executable, "-m", "lib", *TRAIN], env=environment(), cwd=runs.ROOT, stderr=subprocess.PIPE)
    wait_for(lambda: runs.list_runs("toy") and only_run().proc(), "the claim")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert jobs.state(only_run()) == "cancelled"


@pytest.mark.slow
def test_train_in_the_background_prints_the_run(capsys: Any) -> None:
    assert call(*TRAIN, "--background") == 0
    run = only_run()
    assert capsys.readouterr().out.strip() == f"toy/{run.id}"
    wait_for(lambda: jobs.state(run) == "done", "the background run")


@pytest.mark.slow
def test_two_processes_train_one_run_together() -> None:
    settings = ("--set", "devices=2", "accelerator=cpu", "n_train=80", "dropout=0")
    arguments = [sys.executable, "-m", "lib", *TRAIN, *settings]
    done = subprocess.run(arguments, env=environment(), cwd=runs.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = only_run()
    assert jobs.state(run) == "done"
    assert list(run.metrics()["epoch"]) == [1, 2]
    assert done.stdout.count("done:") == 1  # one of them speaks, and writes
    assert len(list(run.folder.glob("events.out.tfevents.*"))) == 1
    assert run.status().steps_per_epoch == 5  # each takes half of every batch


# --- predict, sheet, export -----------------------------------------------------------------------------------------


def test_predict_reports_bad_files_and_does_the_rest(toy: Task, run: Run, tmp_path: Path, capsys: Any) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    np.save(inputs / "good.npy", np.ones((2, 8), np.float32))
    (inputs / "bad.npy").write_bytes(b"not an array")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(inputs / "good.npy", "inside.npy")
    paths = (inputs, tmp_path / "more.zip", tmp_path / "missing.npy")
    out = tmp_path / "out"
    assert call("predict", "toy", "--model", run.id, "--input", *paths, "--output", out, "--set", "offset_v=0.5") == 1
    said = capsys.readouterr()
    assert "bad.npy" in said.err and "missing.npy" in said.err and "2 files failed" in said.out
    table = pd.read_csv(out / "predictions.csv")
    assert list(table) == list(toy.prediction_columns())
    assert table["mean_v"].notna().sum() == 4 and table["note"].str.startswith("error: ").sum() == 2
    assert (out / "figures.html").exists()


def test_predict_with_good_files_and_the_shipped_model_is_status_0(toy: Task, run: Run, tmp_path: Path) -> None:
    run.folder.rename(run.folder.with_name("shipped-best"))
    assert call("predict", "toy", "--input", *toy.example(), "--output", tmp_path / "out") == 0
    assert pd.read_csv(tmp_path / "out" / "predictions.csv")["mean_v"].notna().all()


def test_predict_of_nothing_but_an_empty_folder_fails_by_name(run: Run, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    assert call("predict", "toy", "--model", run.id, "--input", tmp_path / "empty", "--output", tmp_path / "out") == 1
    assert "error: empty: the folder holds no .npy file" in capsys.readouterr().err


def test_sheet_is_one_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("sheet", run.id) == 0
    assert "rmse_v" in (tmp_path / f"{run.id}-sheet.html").read_text()
    assert call("sheet", run.id, "--output", "nowhere/sheet.html") == 2
    assert "folder does not exist" in capsys.readouterr().err


def test_what_is_not_there_yet_is_status_1(toy: Task, tmp_path: Path, capsys: Any) -> None:
    fresh = runs.create("toy", toy.Training().model_dump(mode="json"), "fresh")
    assert call("sheet", fresh.id, "--output", tmp_path / "s.html") == 1
    assert call("export", fresh.id, "--format", "safetensors", "--output", tmp_path) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


def test_export_writes_the_model(run: Run, tmp_path: Path, capsys: Any) -> None:
    assert call("export", run.id, "--format", "safetensors", "--output", tmp_path / "out") == 0
    assert Path(capsys.readouterr().out.strip()).exists()


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_jobs_list_is_a_table(run: Run, capsys: Any) -> None:
    running = runs.create("toy", {"epochs": 10}, "busy")
    jobs.claim(running)
    values = {"epoch": 3, "step": 5, "steps_per_epoch": 10, "eta_s": 130.0, "best_value": 0.25, "metric": "rmse_v", "unit": "V"}
    running.set_status(state="running", heartbeat_at=time.time(), epochs=10, **values)
    assert call("jobs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["RUN", "NAME", "TASK", "STATE", "PROGRESS", "LEFT", "BEST", "WHERE", "AGE"]
    line = next(text for text in lines if running.id in text)
    assert line.split()[1:11] == ["busy", "toy", "running", "35%", "of", "10", "2", "min", "rmse_v", "0.25"]
    assert next(text for text in lines if run.id in text).split()[3] == "done"
    assert len({text.index(" toy ") for text in lines if " toy " in text} | {lines[0].index(" TASK")}) == 1


def test_jobs_list_without_runs_says_what_to_do(capsys: Any) -> None:
    assert call("jobs", "list") == 0
    assert "python -m lib train TASK" in capsys.readouterr().out or runs.list_runs()


def test_jobs_log_delete_and_restore(run: Run, capsys: Any) -> None:
    assert call("jobs", "log", run.id, "--lines", 1) == 0
    assert "done: best epoch" in capsys.readouterr().out
    assert call("jobs", "delete", run.id) == 0
    assert runs.list_runs("toy") == []
    assert call("jobs", "restore", run.id) == 0
    assert only_run() == run and jobs.state(run) == "done"


def test_a_run_is_named_as_its_owner_named_it(run: Run, capsys: Any) -> None:
    assert run.name != run.id
    assert call("jobs", "list", run.name) == 0
    assert run.id in capsys.readouterr().out
    assert call("jobs", "delete", run.name) == 0 and runs.list_runs("toy") == []
    assert call("jobs", "restore", run.name) == 0
    assert only_run() == run
    twin = runs.create("toy", {"epochs": 1}, name=run.name)
    assert call("sheet", run.name) == 2
    assert "2 runs match" in (said := capsys.readouterr().err) and run.id in said and twin.id in said


def test_jobs_cancel_and_delete_refuse_in_the_wrong_state(run: Run, capsys: Any) -> None:
    assert call("jobs", "cancel", run.id) == 1
    assert "its state is done" in capsys.readouterr().err
    jobs.claim(run)
    run.set_status(state="running", heartbeat_at=time.time())
    assert call("jobs", "delete", run.id) == 1
    assert "Cancel it first" in capsys.readouterr().err


@pytest.mark.slow
def test_jobs_cancel_and_resume(toy: Task, capsys: Any) -> None:
    assert call(*TRAIN, "--background", "--set", "step_delay_s=0.2", "epochs=3") == 0
    run = only_run()
    wait_for(lambda: run.status().state == "running", "the start")
    assert call("jobs", "cancel", run.id) == 0
    assert jobs.state(run) == "cancelled"
    assert call("jobs", "resume", run.id) == 0
    wait_for(lambda: jobs.state(run) == "done", "the resumed run")
    assert len(run.metrics()) == 3


def test_a_reader_that_goes_away_is_no_error(run: Run) -> None:
    (run.folder / "log.txt").write_text("line\n" * 50_000)
    command = [sys.executable, "-m", "lib", "jobs", "log", run.id, "--lines", "50000"]
    process = subprocess.Popen(command, env=environment(), cwd=runs.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (0, b"")


def test_tasks_may_live_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "toy" in lib.tasks.names()
    assert Path(environment()["LIGHTBENCH_TASK_PATH"]).is_absolute()
    assert environment()["LIGHTBENCH_HOME"] == os.environ["LIGHTBENCH_HOME"]


def test_a_run_waits_for_the_one_before_it(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    values = toy.Training.parse({"epochs": 1, "n_train": 16, "n_test": 16}).model_dump(mode="json")
    first = runs.create("toy", values, "first")
    second = runs.create("toy", values, "second", after=first.id)
    states = iter(["queued", "running", "failed"])
    waited: list[float] = []
    monkeypatch.setattr(jobs, "state", lambda run: next(states) if run.id == first.id else "queued")
    monkeypatch.setattr("lib.cli.training.time.sleep", waited.append)
    assert call("train", "toy", "--run", second.id) == 0
    assert len(waited) == 2 and second.status().state == "done"
