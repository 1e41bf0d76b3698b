"""A prediction in parts: the same as by one process, whatever interrupts it; every file once, none lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from lib import bulk, divided, jobs, runs, train
from lib.disk import within_reach
from lib.jobs.base import environment
from lib.kept import Kept
from lib.predict import SLICE
from lib.runs import Run
from lib.task import Samples, Task
from tests.conftest import wait_for
from tests.test_cli import call

N_FILES = 30
BAD = (7, 8, 21)


@pytest.fixture
def run(toy: Task) -> Run:
    """A small trained run."""
    config = toy.Training.parse({"model": "plain mean", "epochs": 1, "n_train": 32, "n_test": 32})
    made = runs.create("toy", config.model_dump(mode="json"), "trained")
    train.fit(made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of one to three rows, in two folders; some of them are no arrays."""
    made = tmp_path / "measured"
    rng = np.random.default_rng(1)
    for number in range(N_FILES):
        path = made / f"day {number % 2}" / f"{number:03d}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number in BAD:
            path.write_bytes(b"no array")
        else:
            np.save(path, rng.normal(1, 0.5, (1 + number % 3, 8)).astype(np.float32))
    return made


def predict(output: Path, *more: object) -> int:
    return call("predict", "toy", "--output", output, *more)


def alike(one: Path, other: Path) -> None:
    """Two predictions are the same but for how float32 rounds, which depends on what goes through the network together."""
    tables = [pd.read_csv(folder / "predictions.csv") for folder in (one, other)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)


def test_parts_give_what_one_process_gives(run: Run, folder: Path, tmp_path: Path, capsys: Any) -> None:
    given = ("--input", folder, "--model", run.id)
    assert predict(tmp_path / "whole", *given) == 1  # the bad files
    told = capsys.readouterr()
    assert predict(tmp_path / "parts", *given, "--parts", 7) == 1
    again = capsys.readouterr()
    alike(tmp_path / "parts", tmp_path / "whole")
    assert again.out == told.out.replace(str(tmp_path / "whole"), str(tmp_path / "parts"))
    assert again.err == told.err and again.err.count("error: ") == len(BAD)
    assert not (tmp_path / "parts" / bulk.UNFINISHED).exists()
    assert jobs.state(Run(tmp_path / "parts")) == "done"


def test_every_file_stands_in_the_plan_once_and_neighbours_stay_together(run: Run, folder: Path, tmp_path: Path) -> None:
    request = bulk.Request(task="toy", model=f"toy/{run.id}", inputs=((str(folder), "measured"),), parts=4)
    made = bulk.create(tmp_path / "out", request)
    plan = divided.plan(made.folder, request)
    taken = [place for unit in plan.units for place in unit.files]
    assert sorted(taken) == list(range(N_FILES)) and len({file.path for file in plan.files}) == N_FILES
    assert [place for first, end in plan.parts for place in range(first, end)] == list(range(len(plan.units)))
    assert len(plan.parts) == 4 and divided.plan(made.folder, request) == plan


@pytest.mark.parametrize("n", [1, 2, 5, 100])
def test_parts_weigh_about_the_same(n: int) -> None:
    weights = np.random.default_rng(2).lognormal(size=60)
    parts = bulk.split_evenly(list(weights), n)
    assert [k for first, end in parts for k in range(first, end)] == list(range(60)) and len(parts) <= n
    assert max(weights[slice(*part)].sum() for part in parts) <= weights.sum() / n + weights.max()
    assert bulk.split_evenly([], n) == []


DIES = """
import os, signal, sys
from lib import divided
from lib.__main__ import main
plain, parts = divided.write_atomic, []
def write(path, data):
    parts.append(path.name)
    if parts.count("part.json") == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    plain(path, data)
divided.write_atomic = write
main(sys.argv[1:])
"""


def test_a_killed_prediction_goes_on_where_it_was(run: Run, folder: Path, tmp_path: Path, capsys: Any) -> None:
    out, given = tmp_path / "out", ("--input", folder, "--model", run.id, "--parts", 6)
    assert predict(tmp_path / "whole", *given) == 1
    words = ["predict", "toy", "--output", out, *given]
    killed = subprocess.run([sys.executable, "-c", DIES, *map(str, words)], env=environment(), cwd=runs.ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL and not (out / "predictions.csv").exists()
    assert bulk.finished_parts(out) == {0, 1} and jobs.state(Run(out)) == "lost"
    before = {path: path.stat().st_mtime_ns for path in (out / bulk.UNFINISHED).glob("0000[01].part/*")}
    np.save(folder / "day 0" / "new.npy", np.zeros(8, np.float32))  # it was not asked for
    for number in (0, 1):
        divided.do_part(out, number)
    assert before and before == {path: path.stat().st_mtime_ns for path in before}
    capsys.readouterr()
    assert call("jobs", "list", out) == 0
    assert "33% of 6 parts" in capsys.readouterr().out
    assert predict(out, "--resume") == 1
    assert (out / "predictions.csv").read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()
    assert predict(out, "--resume") == 0 and "done already" in capsys.readouterr().out


def test_workers_do_parts_side_by_side_and_end_with_who_started_them(run: Run, folder: Path, tmp_path: Path) -> None:
    out, given = tmp_path / "out", ("--input", folder, "--model", run.id, "--parts", 10)
    assert predict(tmp_path / "whole", *given) == 1
    assert predict(out, *given, "--workers", 2, "--background") == 0
    wait_for(lambda: bulk.finished_parts(out) or jobs.state(Run(out)) == "done", "a finished part")
    leader = int((Run(out).proc() or {})["pid"])
    workers = [child.pid for child in psutil.Process(leader).children(recursive=True)] if psutil.pid_exists(leader) else []
    with suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers), "the end of the workers")
    if jobs.state(Run(out)) != "done":
        assert jobs.state(Run(out)) == "lost"
        jobs.resume(Run(out))
        wait_for(lambda: jobs.state(Run(out)) not in jobs.ACTIVE, "the end of the prediction")
    assert jobs.state(Run(out)) == "done", Run(out).log()
    alike(out, tmp_path / "whole")


@pytest.fixture
def warned(patient: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A part of four slices within a cluster's job, and what the cluster is asked for."""
    config = patient.Training.parse({"model": "plain mean", "epochs": 1, "n_train": 32, "n_test": 32})
    made = runs.create("patient", config.model_dump(mode="json"), "trained")
    train.fit(made)
    monkeypatch.setattr("tests.toy.slices.patient.SLICE_S", 0.0)
    np.save(tmp_path / "rows.npy", np.random.default_rng(1).normal(1, 0.5, (4 * SLICE, 8)).astype(np.float32))
    inputs = ((str(tmp_path / "rows.npy"), "rows.npy"),)
    request = bulk.Request(task="patient", model=f"patient/{made.id}", inputs=inputs, executor="slurm")
    out = bulk.create(tmp_path / "out", request).folder
    divided.plan(out, request)
    asked: list[str] = []
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setattr("lib.cli.parts.queue_again", lambda: asked.append("again"))
    return out, asked


def one_part(out: Path) -> int:
    return call("predict", "patient", "--output", out, "--part", 0)


def after_slices(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster announces its time limit when so many slices are kept."""
    plain, kept = Kept.put, [0]

    def put(self: Kept, *slices: Any) -> None:
        if kept[0] == n:
            os.kill(os.getpid(), signal.SIGUSR1)
        plain(self, *slices)
        kept[0] += 1

    monkeypatch.setattr(Kept, "put", put)


def test_a_part_that_meets_its_time_limit_is_queued_again_and_keeps_what_it_has(
    warned: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out, asked = warned
    after_slices(2, monkeypatch)
    assert one_part(out) == 130 and asked == ["again"]
    assert bulk.kept_of(out, 0) == (False, 2) and "part 0 is queued again" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    done: list[int] = []
    monkeypatch.setattr(Kept, "put", lambda *_: done.append(1))
    assert one_part(out) == 0 and len(done) == 2 and asked == ["again"]
    found, rows = pd.read_csv(out / bulk.RESULT)["mean_v"], np.load(out.parent / "rows.npy")
    np.testing.assert_allclose(
        found, rows.mean(1), rtol=1e-5
    )  # each row its own value, though all rows say the same of themselves
    assert Run(out).status().state == "done"


def test_a_part_that_gets_no_farther_is_not_queued_for_ever(
    warned: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out, asked = warned
    after_slices(0, monkeypatch)
    assert one_part(out) == 1 and asked == []
    assert "nothing more of part 0 could be kept before the time limit came. Resume it with a longer" in capsys.readouterr().err


def test_two_processes_may_do_the_same_part(run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = bulk.Request(task="toy", model=f"toy/{run.id}", inputs=((str(folder), "measured"),), parts=3)
    made = bulk.create(tmp_path / "out", request).folder
    plan, plain = divided.plan(made, request), divided.write_atomic

    def other_first(path: Path, data: bytes | str) -> None:
        """While this one writes, another one finishes the same part."""
        monkeypatch.setattr(divided, "write_atomic", plain)
        divided.do_part(made, 1)
        plain(path, data)

    monkeypatch.setattr(divided, "write_atomic", other_first)
    divided.do_part(made, 1)
    assert divided.missing(made, plan) == [0, 2]
    assert [path.name for path in (made / bulk.UNFINISHED).iterdir() if path.name.startswith(".0")] == []
    for number in (0, 2):
        divided.do_part(made, number)
    table = divided.together(made, plan).table
    assert len(table) == sum(1 + number % 3 for number in range(N_FILES) if number not in BAD) + len(BAD)


def test_a_file_that_changed_or_went_is_a_row_with_a_note(run: Run, folder: Path, tmp_path: Path) -> None:
    request = bulk.Request(task="toy", model=f"toy/{run.id}", inputs=((str(folder), "measured"),), parts=2)
    made = bulk.create(tmp_path / "out", request).folder
    plan = divided.plan(made, request)
    np.save(folder / "day 0" / "000.npy", np.zeros((5, 8), np.float32))
    (folder / "day 1" / "001.npy").unlink()
    for number in range(2):
        divided.do_part(made, number)
    notes = divided.together(made, plan).table.set_index("file")["note"]
    assert "changed after the prediction was planned" in notes["day 0/000.npy"]
    assert notes["day 1/001.npy"].startswith("error: ")


def test_archives_stay_unpacked_until_the_end(run: Run, folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "day.zip", "w") as archive:
        for path in sorted((folder / "day 0").iterdir()):
            archive.write(path, path.name)
        archive.writestr("../out.npy", b"")
    given = ("--input", tmp_path / "day.zip", "--model", run.id)
    assert predict(tmp_path / "whole", *given) == predict(tmp_path / "parts", *given, "--parts", 4) == 1
    alike(tmp_path / "parts", tmp_path / "whole")
    assert "leads out of the archive" in (tmp_path / "parts" / "predictions.csv").read_text()


def test_a_model_that_changed_is_not_mixed_with_what_it_was(run: Run, folder: Path, tmp_path: Path, capsys: Any) -> None:
    request = bulk.Request(task="toy", model=f"toy/{run.id}", inputs=((str(folder), "measured"),), parts=2)
    made = bulk.create(tmp_path / "out", request).folder
    divided.plan(made, request)
    with (run.folder / "model.safetensors").open("ab") as stream:
        stream.write(b" ")
    assert predict(made, "--part", 0) == 1
    assert f"the model toy/{run.id} changed after the prediction was planned" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("--parts", 2), "--input: which files"),
        (("--input", "{folder}", "--parts", 0), "positive whole number"),
        (("--input", "{folder}", "--executor", "slurm"), "--parts: into how many"),
        (("--input", "{folder}", "--parts", 2, "--profile", "x"), "Add --executor slurm"),
        (("--resume",), "it holds no prediction in parts"),
        (("--part", 0), "it holds no prediction in parts"),
        (("--resume", "--parts", 3), "what was asked stands in the folder"),
    ],
)
def test_wrong_usage_is_told_and_leaves_nothing(
    run: Run, folder: Path, tmp_path: Path, capsys: Any, given: tuple[object, ...], why: str
) -> None:
    words = [folder if word == "{folder}" else word for word in given]
    if "slurm" not in given:
        words += ["--model", run.id] if "--input" in given else []
    assert predict(tmp_path / "out", *words) == 2
    assert why in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_empty_folder_is_told_and_leaves_nothing(run: Run, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    assert predict(tmp_path / "out", "--input", tmp_path / "empty", "--model", run.id, "--parts", 3) == 1
    assert "the folder holds no .npy file" in capsys.readouterr().err


def test_a_second_prediction_does_not_touch_the_first(run: Run, folder: Path, tmp_path: Path, capsys: Any) -> None:
    given = ("--input", folder, "--model", run.id, "--parts", 2)
    assert predict(tmp_path / "out", *given) == 1
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    assert predict(tmp_path / "out", *given) == 2
    assert "it holds a prediction in parts already" in capsys.readouterr().err
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize("browser", [True, False])
def test_what_a_browser_asked_for_leads_no_further_than_data(
    toy: Task, run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: bool
) -> None:
    seen: set[bool] = set()
    plain = type(toy).read

    def read(self: Task, path: Path, *more: Any) -> Samples:
        seen.add(within_reach(Path("/etc/passwd")))
        return plain(self, path, *more)

    monkeypatch.setattr(type(toy), "read", read)
    monkeypatch.setattr(type(toy), "reads_by_reference", True)  # planning reads too
    asked = {"task": "toy", "model": f"toy/{run.id}", "inputs": ((str(folder), "measured"),), "parts": 20, "browser": browser}
    request = bulk.Request(**asked)
    made = bulk.create(tmp_path / "out", request).folder
    divided.plan(made, request)
    assert seen == {not browser}
    divided.do_part(made, 0)
    assert seen == {not browser}
