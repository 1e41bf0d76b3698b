"""Job arrays on a real Slurm: one submission, a state for each task, and tasks that go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib import jobs
from lib.jobs.array import TASK, Array
from lib.task import InputError
from tests.conftest import wait_for
from tests.slurm.cluster import Cluster
from tests.slurm.toy_runs import make, reaches

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]
COMMAND = ["train", "toy", "--run", f"toy/array-{TASK}", "--resume"]


def states(array: Array) -> list[str]:
    return [task.state for task in array.tasks()]


def test_an_array_of_eight_trains_eight_runs(cluster: Cluster, home: Path) -> None:
    missing = home / "data.npy"
    files = {1: str(missing)}
    made = [make(name=f"array-{number}", model="plain mean", data_file=files.get(number, "")) for number in range(8)]
    array = Array(home / "an array")
    assert array.tasks() == () and array.about() == {}
    array.submit("eight runs", COMMAND, 8, jobs.SLURM.chosen("", {"time_limit_min": 5, "cpus_per_task": 1}))
    assert set(states(array)) <= {"queued", "running"} and cluster.run("squeue", "-h", "-o", "%A").split()[0].isdigit()
    array.cancel([7])
    assert states(array)[7] == "cancelled" and "CANCELLED" in array.tasks()[7].reason
    wait_for(lambda: not set(states(array)) & {"queued", "running"}, "eight ends", 600)
    assert states(array) == ["done", "failed", *["done"] * 5, "cancelled"]
    assert [jobs.state(run) for run in made[:7]] == ["done", "failed", *["done"] * 5] and made[7].proc() is None
    assert "NonZeroExitCode" in array.tasks()[1].reason and "there is no such file" in array.output(1)
    missing.write_text("")
    assert array.resume([0]) == []
    assert array.resume() == [1, 7]
    wait_for(lambda: states(array) == ["done"] * 8, "the rest", 300)
    assert [jobs.state(run) for run in made] == ["done"] * 8
    numbers = [(run.proc() or {})["job_id"].split("_") for run in made]
    assert [task for _, task in numbers] == list("01234567") and len({job for job, _ in numbers}) == 2


def test_a_task_that_meets_its_time_limit_goes_on_under_its_number(cluster: Cluster, home: Path) -> None:
    run = make(name="array-0", step_delay_s=0.15, epochs=8)
    array = Array(home / "an array")
    array.submit("one run", COMMAND, 1, jobs.SLURM.settings(run))
    reaches(run, 1)
    name = str(array.about()["jobs"]["0"])
    cluster.run("scancel", "--signal=USR1", "--batch", name)  # as the cluster does it near the limit
    wait_for(lambda: array.tasks()[0].reason == "BeginTime", "the task to be queued again")
    assert states(array) == ["queued"] and jobs.state(run) == "queued"
    cluster.lift_hold(name)
    wait_for(lambda: states(array) == ["done"], "its end")
    assert jobs.state(run) == "done" and [run.log().count(f"epoch {epoch} ") for epoch in range(1, 9)] == [1] * 8


def test_what_slurm_has_forgotten_is_lost_unless_somebody_looked(
    cluster: Cluster, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = Array(home / "an array")
    array.submit("three words", ["--version"], 3, jobs.SLURM.chosen("", {"time_limit_min": 5, "cpus_per_task": 1}))
    with pytest.raises(InputError, match="submitted already"):
        array.submit("once more", ["--version"], 3, jobs.SLURM.chosen("", {}))
    wait_for(lambda: states(array) == ["done"] * 3, "three ends")
    monkeypatch.setattr("lib.jobs.queue.squeue", lambda _ids: "")
    jobs.SLURM.queue.forget()
    assert states(array) == ["done"] * 3
    (array.folder / "ends.json").unlink()
    assert states(array) == ["lost"] * 3 and "nobody looked" in array.tasks()[0].reason
