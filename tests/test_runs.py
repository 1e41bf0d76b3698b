"""The run folder: written whole, found again, never lost."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from lib import runs
from lib.reporter import Reporter
from lib.runs import Run, Status
from lib.task import InputError
from tests.conftest import wait_for


@pytest.fixture
def run(home: Path) -> Run:
    return runs.create("toy", {"model": "weighted", "epochs": 4}, name="My run (2)")


def shipped(task: str, name: str, value: float | None, goal: str = "min") -> Run:
    run = runs.create(task, {"epochs": 1}, name=f"shipped-{name}")
    run.set_status(state="done", best_value=value, goal=goal)
    (run.folder / "model.safetensors").write_bytes(b"weights")
    return run


def test_home_is_the_environment_or_the_repository(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs.checkpoints_dir() == home / "checkpoints"
    assert runs.data_dir() == home / "data"
    monkeypatch.delenv("LIGHTBENCH_HOME")
    assert (runs.home() / "lib" / "runs.py").exists()


def test_write_atomic_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    runs.write_atomic(path, "one")
    runs.write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_write_atomic_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    runs.write_atomic(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        runs.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_has_no_nan_and_a_half_written_file_is_no_value(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        runs.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert runs.read_json(tmp_path / "a.json") is None
    (tmp_path / "b.json").write_text('{"x": ')
    assert runs.read_json(tmp_path / "b.json") is None


def test_create_writes_settings_and_a_queued_status(run: Run) -> None:
    assert run.task == "toy"
    assert run.name == "My run (2)"
    assert run.config() == {"model": "weighted", "epochs": 4}
    assert run.about()["executor"] == "local"
    assert "config" not in run.about()
    assert run.status().state == "queued"
    assert run.status().epochs == 4
    stamp, slug, digits = run.id[:15], run.id[16:-5], run.id[-4:]
    assert time.strptime(stamp, "%Y%m%d-%H%M%S")
    assert slug == "my-run-2"
    assert int(digits, 16) >= 0


def test_two_runs_of_one_name_have_two_folders(run: Run) -> None:
    other = runs.create("toy", {"epochs": 4}, name="My run (2)")
    assert other.folder != run.folder


@pytest.mark.parametrize("name", ["../../etc", "a/b", "naïve 💡", ".hidden", " ", "x" * 300])
def test_names_never_become_paths(home: Path, name: str) -> None:
    run = runs.create("toy", {"epochs": 1}, name=name)
    assert run.folder.resolve().parent == runs.checkpoints_dir() / "toy"
    assert runs.find(run.id) == run


def test_an_empty_run_folder_reads_as_nothing_yet(home: Path) -> None:
    run = Run(home / "checkpoints" / "toy" / "x")
    assert run.status() == Status()
    assert run.metrics().empty
    assert run.log() == ""
    assert run.proc() is None and run.sheet() is None and run.test_predictions() is None
    assert not run.has_model()


def test_log_is_its_last_lines(run: Run) -> None:
    (run.folder / "log.txt").write_text("\n".join(f"line {i}" for i in range(5000)))
    assert run.log(3) == "line 4997\nline 4998\nline 4999"


def test_status_ignores_fields_of_later_versions(run: Run) -> None:
    values = json.loads((run.folder / "status.json").read_text())
    runs.write_json(run.folder / "status.json", values | {"state": "running", "new_field": 1})
    assert run.status().state == "running"


def test_a_damaged_status_is_a_failed_run(run: Run) -> None:
    runs.write_json(run.folder / "status.json", {"state": "dancing"})
    assert run.status().state == "failed"
    assert "damaged" in run.status().reason


@pytest.mark.parametrize(
    ("status", "progress"),
    [
        (Status(), 0.0),
        (Status(epochs=4, epoch=1, step=5, steps_per_epoch=10, state="running"), 0.375),
        (Status(epochs=4, epoch=2, state="done"), 1.0),
        (Status(epochs=4, epoch=4, step=0, steps_per_epoch=10, state="running"), 1.0),
    ],
)
def test_progress(status: Status, progress: float) -> None:
    assert status.progress == pytest.approx(progress)


def test_find_takes_id_task_id_folder_and_unique_beginning(run: Run) -> None:
    for text in (run.id, f"toy/{run.id}", str(run.folder), run.id[:-2], f"toy/{run.id[:-2]}"):
        assert runs.find(text) == run
        assert runs.find(text, "toy") == run
    with pytest.raises(InputError):
        runs.find(run.id, "other")


def test_find_names_the_nearest_or_all_that_match(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=run.id):
        runs.find(run.id.replace("my-run", "my-rum"))
    other = runs.create("toy", {"epochs": 1}, name="another")
    with pytest.raises(InputError, match="2 runs match") as caught:
        runs.find("20")
    assert run.id in str(caught.value) and other.id in str(caught.value)
    with pytest.raises(InputError):
        runs.find("")


def test_find_takes_the_name_of_one_run_and_lists_several_of_that_name(run: Run) -> None:
    other = runs.create("other", {"epochs": 1}, name="20")
    for text in ("My run (2)", "toy/My run (2)"):
        assert runs.find(text) == run
    assert runs.find("20") == other, "a name wins over a beginning of ids"
    twin = runs.create("other", {"epochs": 1}, name=run.name)
    assert runs.find(run.name, "toy") == runs.find(f"toy/{run.name}") == run
    with pytest.raises(InputError, match="2 runs match") as caught:
        runs.find(run.name)
    assert f"toy/{run.id}" in str(caught.value) and f"other/{twin.id}" in str(caught.value)
    runs.create("toy", {"epochs": 1}, name=run.id)
    assert runs.find(run.id) == run, "an id wins over a name"


def test_a_misspelt_name_is_told_the_nearest_run(run: Run) -> None:
    runs.create("toy", {"epochs": 1}, name="another")
    with pytest.raises(InputError, match=rf"Nearest: toy/{run.id}\b"):
        runs.find("My rnu (2)")


def test_an_exact_id_wins_over_a_beginning(home: Path) -> None:
    short = shipped("toy", "wide", 1.0)
    shipped("toy", "wide-2", 1.0)
    assert runs.find("shipped-wide", "toy") == short


def test_list_is_newest_first_with_shipped_ones_last_or_first(home: Path) -> None:
    ship = shipped("toy", "wide", 1.0)
    made = []
    for stamp in ("20250101-000000-a-0001", "20250103-000000-b-0002", "20250102-000000-c-0003"):
        run = runs.create("toy", {"epochs": 1}, name="x")
        target = run.folder.with_name(stamp)
        run.folder.rename(target)
        made.append(Run(target))
    assert runs.list_runs("toy") == [made[1], made[2], made[0], ship]
    assert runs.list_runs("toy", shipped_first=True) == [ship, made[1], made[2], made[0]]
    assert runs.list_runs("other") == []


def test_default_model_is_the_best_shipped_one(home: Path) -> None:
    with pytest.raises(InputError, match="no model is shipped"):
        runs.default_model("toy")
    shipped("toy", "fair", 0.3)
    best = shipped("toy", "good", 0.1)
    shipped("toy", "unknown", None)
    own = runs.create("toy", {"epochs": 1}, name="mine")
    own.set_status(state="done", best_value=0.01)
    (own.folder / "model.safetensors").write_bytes(b"weights")
    assert runs.default_model("toy") == best


def test_default_model_follows_the_goal_of_the_metric(home: Path) -> None:
    shipped("toy", "fair", 0.3, goal="max")
    best = shipped("toy", "good", 0.9, goal="max")
    assert runs.default_model("toy") == best


def test_deleted_runs_come_back_whole(run: Run) -> None:
    (run.folder / "metrics.csv").write_text("epoch,loss\n1,2.5\n")
    place = runs.delete(run)
    assert runs.list_runs("toy") == []
    assert runs.trash() == [place]
    assert runs.restore(place) == run
    assert run.metrics().loc[0, "loss"] == 2.5
    assert runs.trash() == []


def test_shipped_and_living_runs_cannot_be_deleted(run: Run) -> None:
    ship = shipped("toy", "wide", 1.0)
    with pytest.raises(InputError, match="ships with"):
        runs.delete(ship)
    run.set_status(state="running", heartbeat_at=time.time())
    with pytest.raises(InputError, match="Cancel it first"):
        runs.delete(run)
    run.set_status(state="running", heartbeat_at=time.time() - 600)
    runs.delete(run)
    assert ship.folder.exists() and not run.folder.exists()


def test_a_shipped_name_is_taken_once(home: Path) -> None:
    shipped("toy", "wide", 1.0)
    with pytest.raises(InputError, match="exists already"):
        runs.create("toy", {"epochs": 1}, name="shipped-wide")


def test_restore_takes_only_what_is_in_the_trash(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not in the trash"):
        runs.restore(tmp_path)


def test_params_summary_shows_what_differs(run: Run) -> None:
    assert run.params_summary() == "model=weighted, epochs=4"
    assert run.params_summary({"model": "weighted", "epochs": 3}) == "epochs=4"


def test_reporter_renews_the_heartbeat_by_itself(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "HEARTBEAT_S", 0.02)
    reporter = Reporter(run)
    with reporter.beating():
        reporter.update(step=7)
        first = run.status().heartbeat_at or 0.0
        wait_for(lambda: (run.status().heartbeat_at or 0.0) > first and run.status().step == 7, "a heartbeat")
        assert run.status().state == "running"
        reporter.log.info("hello from the trainer")
    reporter.close("done")
    assert run.status().state == "done"
    assert run.status().finished_at is not None
    assert "hello from the trainer" in run.log()


@pytest.mark.parametrize("end", ["cancelled", None])
def test_a_resumed_run_does_not_count_the_pause(run: Run, end: runs.State | None, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(runs.time, "time", lambda: clock[0])

    def trains(seconds: float) -> None:
        reporter = Reporter(run)
        with reporter.beating():
            clock[0] += seconds
            reporter.update(write=True)
        if end:
            reporter.close(end)

    trains(60)
    assert run.status().took_s == 60
    clock[0] += 3600
    run.set_status(state="queued", finished_at=None)
    trains(20)
    assert run.status().took_s == 80 and run.status().started_at == 1000
    clock[0] += 500
    trains(5)
    assert run.status().took_s == 85 and run.status().paused_s == 4100


def test_only_the_first_rank_writes(run: Run) -> None:
    before = (run.folder / "status.json").read_text()
    reporter = Reporter(run, active=False)
    with reporter.beating():
        reporter.update(write=True, step=3)
    reporter.close("done")
    assert (run.folder / "status.json").read_text() == before
    assert not (run.folder / "log.txt").exists()


def test_a_full_disk_does_not_keep_the_reporter_from_saying_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    reporter = Reporter(run)
    with reporter.beating():
        monkeypatch.setattr(os, "fsync", full)
    reporter.close("failed", "The disk is full.")
    assert run.status().state == "failed"
    assert run.status().reason == "The disk is full."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("a.h5", "it is empty", "Download it again"), "a.h5: it is empty. Download it again"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (MemoryError(), "smaller batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "smaller batch_size"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "Permission denied (/x/y)"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "smaller batch_size"),
        (ZeroDivisionError("division by zero"), "unexpected error (ZeroDivisionError: division by zero)"),
    ],
)
def test_explain_is_one_sentence(error: BaseException, words: str) -> None:
    sentence = runs.explain(error)
    assert words in sentence
    assert "\n" not in sentence


def test_runs_made_within_a_second_get_ids_of_their_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("lib.runs.secrets.token_hex", lambda n: next(drawn) if n == 2 else "0" * 2 * n)
    monkeypatch.setattr("lib.runs.time.strftime", lambda *_: "20260101-000000")
    assert [runs.create("toy", {}, "same").id[-4:] for _ in range(2)] == ["aaaa", "bbbb"]
