"""Answers of Slurm that the cluster of these tests cannot give: accounting, quotas, other versions, other clusters.

FAKES: shell scripts named as Slurm's programs print what its documentation and source say that those print.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from lib import jobs, runs, sweeps, tasks
from lib.__main__ import main
from lib.jobs import queue
from lib.jobs.array import Array
from lib.jobs.cluster import cluster_name
from lib.jobs.profiles import ClusterProfile
from lib.jobs.slurm import SlurmExecutor
from lib.runs import Run
from lib.sweeps import Plan, launch, space
from lib.sweeps.study import Book, Taken
from lib.task import InputError
from tests.conftest import wait_for

pytestmark = pytest.mark.usefixtures("toy")
SCRIPT = """#!/bin/sh
echo "$0 $*" >> {folder}/calls
env | grep -E '^(SLURM|SBATCH)' >> {folder}/environment
cat <<'END'
{says}
END
cat >&2 <<'END'
{complains}
END
exit {status}
"""


class Fakes:
    """Programs on a PATH of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def say(self, program: str, says: str = "", complains: str = "", status: int = 0) -> None:
        """From now on the program prints this."""
        values = {"folder": self.folder, "says": says, "complains": complains, "status": status}
        path = self.folder / program
        path.write_text(SCRIPT.format(**values))
        path.chmod(0o755)

    def calls(self, program: str) -> list[str]:
        """Arguments it was called with."""
        kept = self.folder / "calls"
        lines = kept.read_text().splitlines() if kept.exists() else []
        return [line.partition(" ")[2] for line in lines if Path(line.partition(" ")[0]).name == program]


@pytest.fixture
def fakes(slurm: SlurmExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "grep", "env"):
        (folder / name).symlink_to(next(p for p in (Path("/usr/bin", name), Path("/bin", name)) if p.exists()))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(queue, "POLL_S", 0.0)
    monkeypatch.setattr(queue, "PATIENCE_S", 12.0)
    return Fakes(folder)


def submitted(fakes: Fakes, job: str = "12", **config: object) -> Run:
    fakes.say("sbatch", job)
    run = runs.create("toy", {"epochs": 3} | config, "job", "slurm")
    jobs.SLURM.assign(run, jobs.SLURM.chosen("", {}))
    jobs.start(run)
    return run


def long_ago(run: Run) -> None:
    """As if it had been submitted an hour ago."""
    values = run.proc() or {}
    runs.write_json(run.folder / "proc.json", values | {"submitted_at": time.time() - 3600})


# --- without Slurm ----------------------------------------------------------------------------------------------------
def test_without_sbatch_it_says_so_and_leaves_nothing(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    there, why = jobs.executors()["slurm"].available()
    assert not there and "sbatch is not on the PATH" in why
    assert main(["train", "toy", "--executor", "slurm"]) == 1
    assert "sbatch is not on the PATH" in capsys.readouterr().err
    assert runs.list_runs("toy") == []


def test_cluster_options_of_a_local_run_are_wrong_usage(fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "toy", "--set-cluster", "partition=main"]) == 2
    assert main(["train", "toy", "--executor", "slurm", "--set-cluster", "partition"]) == 2
    assert main(["train", "toy", "--executor", "slurm", "--profile", "nope"]) == 2
    told = capsys.readouterr().err
    assert "Add --executor slurm" in told and "--set-cluster partition: it has no =" in told and "Profiles: default" in told
    assert runs.list_runs("toy") == []


# --- what sbatch says -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "Invalid qos specification"),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified", "account"),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS "
         "policy (job submit limit, user's size and/or time limits)", "QOSMaxSubmitJobPerUserLimit; Batch job"),
        ("sbatch: error: lua: give --account\nsbatch: error: Batch job submission failed: Unspecified error", "give --acc"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_with_the_names_that_are_valid(fakes: Fakes, complaint: str, told: str) -> None:
    fakes.say("sinfo", "gpu*|up|1-00:00:00|24|64|257000|gpu:a100:4(S:0-1)\ngpu*|up|1-00:00:00|2|128+|515000+|(null)")
    fakes.say("sacctmgr", "physics|normal,long\nbio|normal")
    fakes.say("sbatch", complains=complaint, status=1)
    run = runs.create("toy", {}, "job", "slurm")
    with pytest.raises(InputError, match=told) as raised:
        jobs.start(run)
    facts = "gpu* (1-00:00:00 · 26 × 128 CPU · 503 GB · gpu:a100:4)"
    assert raised.value.remedy == f"Partitions: {facts}. QOS: normal, long. Accounts: physics, bio."
    assert not run.folder.exists() and (runs.trash()[0] / "batch.sh").exists()


def test_a_refused_resume_changes_nothing(fakes: Fakes) -> None:
    run = submitted(fakes)
    run.set_status(state="failed", reason="The disk is full.")
    before = run.proc(), run.status()
    fakes.say("squeue")
    fakes.say("sbatch", complains="sbatch: error: Batch job submission failed: Invalid qos specification", status=1)
    with pytest.raises(InputError, match="Invalid qos"):
        jobs.resume(run)
    assert (run.proc(), run.status()) == before and jobs.state(run) == "failed"


def test_a_silent_controller_is_not_a_refusal(fakes: Fakes) -> None:
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    fakes.say("sbatch", complains=said, status=1)
    with pytest.raises(InputError, match="cluster: it does not answer"):
        jobs.start(runs.create("toy", {}, "job", "slurm"))


def test_a_federated_cluster_names_itself(fakes: Fakes) -> None:
    assert (submitted(fakes, "77;north").proc() or {})["cluster"] == "north"


def test_the_environment_does_not_override_the_script(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch puts SBATCH_TIMELIMIT above the script, and hands SLURM_ variables of a surrounding job on."""
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    monkeypatch.setenv("SBATCH_ACCOUNT", "physics")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    submitted(fakes)
    kept = (fakes.folder / "environment").read_text()
    assert "SBATCH_TIMELIMIT" not in kept and "SLURM_MEM" not in kept
    assert "SBATCH_ACCOUNT=physics" in kept and "SLURM_CONF=" in kept, "what the script leaves open, and where the cluster is"


# --- what becomes of a job --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("slurms", "state", "reason"),
    [
        ("OUT_OF_MEMORY", "failed", "Raise memory_gb"),
        ("NODE_FAIL", "failed", "node of job 12 failed"),
        ("TIMEOUT", "failed", "time limit"),
        ("PREEMPTED", "failed", "higher priority"),
        ("CANCELLED", "cancelled", "not from here"),
        ("COMPLETED", "lost", "ended as COMPLETED"),
        ("PENDING", "queued", ""),
        ("SUSPENDED", "queued", ""),
        ("REQUEUE_HOLD", "queued", ""),
    ],
)
def test_how_slurm_ended_it_is_the_runs_state(fakes: Fakes, slurms: str, state: str, reason: str) -> None:
    run = submitted(fakes)
    long_ago(run)
    fakes.say("squeue", f"12|{slurms}|n1|1795320667|0:10|10:00|None")
    assert jobs.state(run) == state
    fakes.say("squeue", complains="slurm_load_jobs error: Invalid job id specified", status=1)
    if reason:
        assert reason in jobs.end(run).reason
        assert jobs.state(run) == state, "Slurm forgets, the run's folder does not"
        asked = len(fakes.calls("squeue"))
        jobs.state(run)
        assert len(fakes.calls("squeue")) == asked, "what has ended is not asked for again"


def test_accounting_is_asked_for_what_squeue_forgot(fakes: Fakes) -> None:
    run = submitted(fakes)
    long_ago(run)
    fakes.say("squeue", complains="slurm_load_jobs error: Invalid job id specified", status=1)
    fakes.say("sacct", "12|CANCELLED by 1000|0:15")
    assert jobs.state(run) == "cancelled"


def test_a_job_younger_than_the_last_answer_is_queued(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "POLL_S", 60.0)
    fakes.say("squeue", "11|RUNNING|n1|1795320667|0:10|10:00|None")
    assert jobs.SLURM.queue.job("11", 0.0) is not None
    run = submitted(fakes)
    assert jobs.state(run) == "queued" and len(fakes.calls("squeue")) == 1


def test_a_forgotten_job_is_lost_unless_its_heart_beats(fakes: Fakes) -> None:
    run = submitted(fakes)
    long_ago(run)
    fakes.say("squeue", complains="slurm_load_jobs error: Invalid job id specified", status=1)
    fakes.say("sacct", complains="Slurm accounting storage is disabled", status=1)
    run.set_status(state="running", heartbeat_at=time.time())
    assert jobs.state(run) == "running", "a controller that was started anew may have forgotten it"
    run.set_status(heartbeat_at=time.time() - 600)
    assert jobs.state(run) == "lost" and jobs.end(run).reason == ""


@pytest.mark.parametrize(("elapsed", "beat_s_ago", "state"), [
    ("30:00", 60, "running"),
    ("30:00", 600, "lost"),  # Slurm lists jobs whose processes are long gone
    ("2:00", 3600, "running"),  # started anew, and still loading
    ("30:00", 3600, "lost"),
])  # fmt: skip
def test_the_heartbeat_decides_where_slurm_says_running(fakes: Fakes, elapsed: str, beat_s_ago: float, state: str) -> None:
    run = submitted(fakes)
    runs.write_json(run.folder / "proc.json", (run.proc() or {}) | {"submitted_at": time.time() - 7200})
    run.set_status(state="running", heartbeat_at=time.time() - beat_s_ago)
    fakes.say("squeue", f"12|RUNNING|n1|1795320667|{elapsed}|10:00:00|None")
    assert jobs.state(run) == state
    if state == "lost":
        assert "Slurm lists job 12 as RUNNING on n1" in jobs.end(run).reason


@pytest.mark.parametrize("complaint", [
    "slurm_load_jobs error: Socket timed out on send/recv operation",
    "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
    "squeue: error: fetch_config: DNS SRV lookup failed\nsqueue: fatal: Could not establish a configuration source",
    "squeue: error: slurm_receive_msg: Zero Bytes were transmitted or received",
    "squeue: something that nobody has seen before",
])  # fmt: skip
def test_a_cluster_that_does_not_answer_loses_no_run(fakes: Fakes, monkeypatch: pytest.MonkeyPatch, complaint: str) -> None:
    monkeypatch.setattr(queue, "RETRY_S", 0.0)
    run = submitted(fakes)
    long_ago(run)
    run.set_status(state="running", heartbeat_at=time.time() - 1000)
    fakes.say("squeue", "12|RUNNING|n1|1795320667|1:00|10:00|None")
    place = jobs.SLURM.place(run)
    assert place is not None and (place.trouble, place.job.limit_s) == ("", 600)
    fakes.say("squeue", complains=complaint, status=1)
    wait_for(lambda: jobs.SLURM.place(run).trouble, "the silence to be noticed", 10)
    assert jobs.state(run) == "running" and jobs.SLURM.place(run).job.node == "n1", "what was known last"
    fakes.say("squeue", "12|NODE_FAIL|n1|1795320667|1:00|10:00|None")
    wait_for(lambda: jobs.state(run) == "failed", "its answer", 10)


def test_a_run_of_another_cluster_is_judged_by_its_heartbeat(fakes: Fakes) -> None:
    fakes.say("scontrol", "ClusterName             = south")
    run = submitted(fakes, "77;north")
    run.set_status(state="running", heartbeat_at=time.time())
    assert jobs.state(run) == "running" and fakes.calls("squeue") == []
    with pytest.raises(InputError, match="it runs on the cluster north"):
        jobs.cancel(run)


def test_a_job_that_does_not_end_is_told(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    run = submitted(fakes)
    fakes.say("squeue", "12|COMPLETING|n1|1795320667|1:00|10:00|None")
    fakes.say("scancel")
    monkeypatch.setattr("lib.jobs.slurm.CANCEL_S", 0.5)
    with pytest.raises(InputError, match="job 12: it did not end within"):
        jobs.cancel(run)
    assert fakes.calls("scancel") == ["12"]


def test_scancel_of_a_job_that_just_ended_is_no_error(fakes: Fakes) -> None:
    run = submitted(fakes)
    fakes.say("squeue", complains="slurm_load_jobs error: Invalid job id specified", status=1)
    fakes.say("scancel", complains="scancel: error: Kill job error on job id 12: Invalid job id specified", status=1)
    jobs.cancel(run)
    assert jobs.state(run) == "cancelled"


def test_a_requeue_that_the_cluster_refuses_is_a_failed_run_that_says_so(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib.cli import training

    fakes.say("scontrol", complains="Requested operation is presently disabled for job 12", status=1)
    run = submitted(fakes)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    status = training._queue_again(run, run.set_status(state="queued", epoch=2), 1)
    assert status.state == "failed" and "presently disabled" in status.reason
    assert training._queue_again(run, run.set_status(state="queued", epoch=1), 1).reason.startswith("Not one epoch")


# --- the queue --------------------------------------------------------------------------------------------------------
def test_durations() -> None:
    told = ["0:07", "10:00", "1:00:00", "2-03:04:05", "UNLIMITED", "INVALID", ""]
    assert [queue.seconds(text) for text in told] == [7, 600, 3600, 183_845, None, None, None]


def test_many_looks_are_one_question(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "POLL_S", 60.0)
    made = [submitted(fakes, str(number)) for number in range(20, 32)]
    for run in made:
        long_ago(run)
    fakes.say("squeue", "\n".join(f"{number}|PENDING||N/A|0:00|10:00|Priority" for number in range(20, 32)))
    assert [jobs.state(run) for run in made] == ["queued"] * 12
    assert len(fakes.calls("squeue")) == 1 and "--jobs=20,21," in fakes.calls("squeue")[0]


def test_an_array_task_is_a_job_of_its_own(slurm: SlurmExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib.jobs.slurm import own_job

    monkeypatch.setenv("SLURM_JOB_ID", "99")
    assert own_job() == "99"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "90")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert own_job() == "90_4"


# --- job arrays -------------------------------------------------------------------------------------------------------
@pytest.fixture
def three_tasks(fakes: Fakes, home: Path) -> Array:
    """An array of three that was submitted an hour ago."""
    fakes.say("sbatch", "12;elsewhere")
    array = Array(home / "an array")
    array.submit("x", ["--version"], 3, ClusterProfile(), at_once=2)
    assert "#SBATCH --array=0-2%2\n" in (array.folder / "batch.sh").read_text()
    about = array.about()
    hour_ago = dict.fromkeys(about["submitted_at"], time.time() - 3600)
    runs.write_json(array.folder / "array.json", about | {"submitted_at": hour_ago})
    return array


def test_tasks_that_squeue_has_forgotten_are_asked_of_sacct(
    fakes: Fakes, three_tasks: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "POLL_S", 5.0)
    fakes.say("squeue")
    fakes.say("sacct", "12_0|COMPLETED|0:0\n12_1|OUT_OF_MEMORY|0:125")
    tasks = three_tasks.tasks()
    assert [task.state for task in tasks] == ["done", "failed", "lost"]
    assert "OUT_OF_MEMORY (exit code 0:125)" in tasks[1].reason
    assert len(fakes.calls("squeue")) == 1, "one question for all tasks"


def test_a_silent_cluster_loses_no_task(fakes: Fakes, three_tasks: Array) -> None:
    fakes.say("squeue", complains="slurm_load_jobs error: Unable to contact slurm controller (connect failure)", status=1)
    tasks = three_tasks.tasks()
    assert [task.state for task in tasks] == ["queued"] * 3 and "does not answer" in tasks[0].reason


def test_an_array_of_another_cluster_is_cancelled_there(fakes: Fakes, three_tasks: Array) -> None:
    fakes.say("scontrol", "ClusterName             = here")
    cluster_name.cache_clear()
    assert [task.state for task in three_tasks.tasks()] == ["queued"] * 3
    with pytest.raises(InputError, match="it runs on the cluster elsewhere"):
        three_tasks.cancel()


def test_a_refused_array_leaves_nothing_to_resume(fakes: Fakes, home: Path) -> None:
    fakes.say("sbatch", complains="sbatch: error: Batch job submission failed: Invalid job array specification", status=1)
    with pytest.raises(InputError, match="Invalid job array specification"):
        Array(home / "an array").submit("x", ["--version"], 100_000, ClusterProfile())
    assert Array(home / "an array").tasks() == () and Array(home / "an array").resume() == []


# --- sweeps -----------------------------------------------------------------------------------------------------------
def test_a_trial_belongs_to_the_job_that_took_it_from_the_first_moment(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.get("toy")
    plan = Plan.parse({"vary": space.typed({"seed": "0:1"}), "sampler": "grid", "workers": 2})
    sweep = sweeps.create(task, task.Training.parse({}), plan, "shared", "slurm")

    def take(number: int) -> Taken:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "3")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number))
        jobs.SLURM.queue.forget()
        taken = Book(sweep, task).take(launch.own_identity(sweep), partial(launch.lives, sweep))
        assert taken is not None
        return taken

    fakes.say("squeue", "3_0|RUNNING|n1|1795320667|0:10|10:00|None\n3_1|RUNNING|n1|1795320667|0:10|10:00|None")
    first = take(1)
    first.run.set_status(state="cancelled", finished_at=time.time())  # as a stopped sweep left it: nobody has claimed it yet
    assert [take(0).number, take(1).number] == [1, first.number]
    fakes.say("squeue", "3_0|RUNNING|n1|1795320667|0:10|10:00|None\n3_1|NODE_FAIL|n1|1795320667|0:10|10:00|None")
    assert take(2).number == first.number
    fakes.say("squeue", complains="slurm_load_jobs error: Socket timed out", status=1)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    jobs.SLURM.queue.forget()
    assert Book(sweep, task).take(launch.own_identity(sweep), partial(launch.lives, sweep)) is None, "nobody knows"
