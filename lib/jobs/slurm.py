"""Runs as jobs of a Slurm cluster, whose file system this machine shares.

`batch.sh` in the run's folder is all that the cluster is told. `squeue` says whether a job waits or computes, the run's
heartbeat whether its trainer really lives: Slurm may list a job as RUNNING long after its last process was killed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from lib.jobs.base import End, command, mark_cancelled, write_proc
from lib.jobs.bulk import FOLDER as ARRAY_FOLDER
from lib.jobs.bulk import array_of, parts_script
from lib.jobs.cluster import Offers, cluster_name, offers
from lib.jobs.commands import Unreachable, call, installed
from lib.jobs.profiles import DEFAULT, ClusterProfile, changed, profile, profiles, save_profile
from lib.jobs.queue import Job, Queue, ask
from lib.jobs.script import batch_script, names_of
from lib.runs import STALE_S, Run, checkpoints_dir, list_runs, read_json, write_atomic, write_json
from lib.task import InputError, Phrase

NO_SBATCH = "sbatch is not on the PATH: start Lightbench on a login node of the cluster, or load its Slurm module first."
SAID = {  # how Slurm ends a job, in words
    "BOOT_FAIL": "The node of job {job} did not start. Resume it.",
    "CANCELLED": "Job {job} was cancelled on the cluster, not from here.",
    "DEADLINE": "Job {job} passed its deadline.",
    "FAILED": "The trainer of job {job} was killed, or could not start ({reason}); its log may say why.",
    "LAUNCH_FAILED": "The node of job {job} could not start it. Resume it.",
    "NODE_FAIL": "The node of job {job} failed. Resume goes on from the last finished epoch.",
    "OUT_OF_MEMORY": "Job {job} used more memory than it had asked for. Raise memory_gb of its cluster profile, then resume.",
    "PREEMPTED": "Job {job} had to make way for one of higher priority. Resume goes on from the last finished epoch.",
    "TIMEOUT": "Job {job} reached its time limit. Resume goes on from the last finished epoch.",
}
SUBMIT_S = 120.0  # sbatch may take its time on a busy cluster; a run without a job number is lost only after this
SILENT_S = 120.0  # a trainer on a node writes every 2 s; slow file systems and clocks that differ are forgiven this much
LOADING_S = 900.0  # until its first heartbeat: modules, environments and torch from a cold network disk
CANCEL_S = 60.0
SETTINGS, SCRIPT, JOB_END = "cluster.json", "batch.sh", "job_end.json"
UNKNOWN = "UNKNOWN"  # our word for a job that nobody could tell us about yet


@dataclass(frozen=True)
class Place:
    """Where a run stands on the cluster now; `trouble` is a sentence where the cluster does not answer."""

    job: Job
    trouble: str = ""


class SlurmExecutor:
    """See the module. It may be asked from many threads."""

    name: ClassVar[str] = "slurm"
    Settings: ClassVar[type[ClusterProfile]] = ClusterProfile

    def __init__(self) -> None:
        self.queue = Queue(_watched)

    # --- what is asked of the cluster ---------------------------------------------------------------------------------
    def available(self) -> tuple[bool, str]:
        """Where sbatch is on the PATH."""
        return (True, "") if installed("sbatch") else (False, NO_SBATCH)

    def profiles(self) -> dict[str, ClusterProfile]:
        """Cluster profiles by name. Raises InputError where their file is damaged."""
        return profiles()

    def save_profile(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep settings under a name. Raises InputError."""
        save_profile(name, ClusterProfile.parse(values, "cluster profile"))

    def offers(self) -> Offers:
        """Partitions, QOS and accounts of the cluster, as far as it tells them."""
        return offers()

    def chosen(self, profile_name: str = "", values: Mapping[str, Any] | None = None) -> ClusterProfile:
        """A profile with some values changed, typed or as text. Raises InputError listing what is valid."""
        return changed(profile(profile_name or DEFAULT), dict(values or {}))

    def assign(self, run: Run, settings: ClusterProfile) -> None:
        """Note in the run's folder what its jobs, from the next on, ask for."""
        write_json(run.folder / SETTINGS, settings.model_dump())

    def settings(self, run: Run) -> ClusterProfile:
        """What the run's jobs ask for. Raises InputError."""
        return ClusterProfile.parse(
            read_json(run.folder / SETTINGS) or {}, Phrase("run {run}, {file}", run=run.id, file=SETTINGS)
        )

    def script(self, run: Run, settings: ClusterProfile, after: str = "", name: str = "") -> str:
        """The batch script of a run, which need not exist yet; `name` is what it is called then."""
        words = re.sub(r"[^\w.-]+", "-", f"{run.task}-{name or run.name}").strip("-")[:60]
        return batch_script(run.folder, words, command(run, resume=True), settings, after)

    def preview(self, task: str, values: Mapping[str, Any], name: str = "") -> str:
        """The batch script of a new run of that name; `RUN` stands for its id. Raises InputError."""
        run = Run(checkpoints_dir() / task / "RUN")
        return self.script(run, ClusterProfile.parse(values, "cluster profile"), name=name.strip())

    def preview_parts(self, folder: Path, command: Sequence[str], parts: Sequence[int], values: Mapping[str, Any]) -> str:
        """The batch script of these parts of the prediction in a folder, which need not exist yet. Raises InputError."""
        return parts_script(folder, command, parts, values)

    # --- the executor -------------------------------------------------------------------------------------------------
    def submit(self, run: Run, resume: bool = False) -> None:
        """Write batch.sh and give it to sbatch. The script goes on from last.ckpt where there is one, `resume` or not.

        Raises InputError with the cluster's own message, and the names it knows, where it refuses.
        """
        script = self.script(run, self.settings(run), self._job_of(str(run.about().get("after", "")), run.task))
        before = run.proc()
        if before and before.get("job_id") and not _elsewhere(before) and not _over(str(before["job_id"])):
            self.cancel(run)  # given up as lost, but listed still: two trainers must never write to one folder
        try:
            write_atomic(run.folder / SCRIPT, script)
            write_proc(run, self.name)  # the job may start, and look, before we know its number
        except OSError as error:
            problem = Phrase("could not be written ({why})", why=error.strerror or str(error))
            raise InputError(SCRIPT, problem, "Check the free space and the permissions of the folder.") from error
        try:
            job, cluster = sbatch(run.folder / SCRIPT, script)
        except InputError:
            self._take_back(run, before)
            raise
        write_proc(run, self.name, job_id=job, cluster=cluster)

    def _take_back(self, run: Run, before: dict[str, Any] | None) -> None:
        with suppress(OSError):
            write_json(run.folder / "proc.json", before) if before else (run.folder / "proc.json").unlink(missing_ok=True)

    def _job_of(self, run_id: str, task: str) -> str:
        """The job of another run that has not ended; empty where there is none to wait for."""
        if not run_id:
            return ""
        other = Run(checkpoints_dir() / task / run_id)
        return "" if other.status().finished else str((other.proc() or {}).get("job_id", ""))

    def alive(self, run: Run) -> bool:
        """Whether its job waits or computes: by the queue, and by the heartbeat where the queue cannot know."""
        proc = run.proc() or {}
        if not proc.get("job_id"):
            return time.time() - _submitted_at(proc) < SUBMIT_S
        if _known_end(run, proc):
            return False
        if _elsewhere(proc):
            return _silence_s(run, proc) < SILENT_S
        try:
            job = self._job(proc)
        except Unreachable:
            return True  # nobody knows; a controller that restarts loses no job
        if job is None:
            beats = time.time() - (run.status().heartbeat_at or 0.0) < STALE_S
            return beats and "cancelled_at" not in proc
        if job.ended:
            _note_end(run, job)
        return not job.ended and not _silent(run, proc, job)

    def waiting(self, run: Run) -> bool:
        """Whether its job has no node (again)."""
        place = self.place(run)
        return place is not None and place.job.waiting

    def place(self, run: Run) -> Place | None:
        """Where the run stands on the cluster; None for one that has no job there, or whose job is forgotten."""
        proc = run.proc() or {}
        if not proc.get("job_id") or _elsewhere(proc):
            return None
        try:
            job = self._job(proc)
        except Unreachable as error:
            number = str(proc["job_id"])
            return Place(self.queue.jobs.get(number, Job(number, UNKNOWN)), error.sentence())
        return Place(job) if job is not None else None

    def _job(self, proc: Mapping[str, Any]) -> Job | None:
        return self.queue.job(str(proc["job_id"]), _submitted_at(proc))

    def end(self, run: Run) -> End:
        """What the cluster says became of its job, in a sentence."""
        proc = run.proc() or {}
        job = str(proc.get("job_id", ""))
        known = _known_end(run, proc)
        if known is not None:
            state, reason = known
            told = "Job {job} ended as {state} ({reason}) before the training did; its log may say why."
            word: Literal["cancelled", "failed", "lost"] = "failed" if state in SAID else "lost"
            word = "cancelled" if state == "CANCELLED" else word
            return End(word, Phrase(SAID.get(state, told), job=job, state=state, reason=reason or "–"))
        place = self.place(run)
        if place is None or place.job.ended:
            return End("lost")
        told = "Slurm lists job {job} as {state} on {node}, but its trainer has been silent for {n:.0f} min."
        values = {"state": place.job.state, "node": place.job.node or "–", "n": _silence_s(run, proc) / 60}
        return End("lost", Phrase(told, job=job, **values))

    def cancel(self, run: Run) -> None:
        """Take its job from the queue, or end it; returns once Slurm says that it is gone."""
        proc = run.proc() or {}
        job = str(proc.get("job_id", ""))
        if _elsewhere(proc):
            raise InputError(
                Phrase("run {run}", run=run.id),
                Phrase("it runs on the cluster {cluster}", cluster=proc["cluster"]),
                Phrase("Cancel it there: python -m lib jobs cancel {run}.", run=run.id),
            )
        mark_cancelled(run)
        if job:
            end_jobs(job)
            self.queue.forget()

    # --- within the job -----------------------------------------------------------------------------------------------
    def claim(self, run: Run) -> bool:
        """Note this process as the run's own where it runs in a job, also in one that was submitted by hand.

        Raises InputError where another living job trains the run.
        """
        mine, proc = own_job(), run.proc() or {}
        other = str(proc.get("job_id", ""))
        if other and other != mine and self.alive(run):
            raise InputError(
                Phrase("run {run}", run=run.id),
                Phrase("job {job} trains it already", job=other),
                "Wait for it, or cancel it first.",
            )
        if mine and other != mine:
            write_proc(run, self.name, job_id=mine, cluster=os.environ.get("SLURM_CLUSTER_NAME", ""))
        return bool(mine)

    def notice_s(self, run: Run) -> float | None:
        """Seconds between the announcement of the time limit and its end, in the run's own job; None elsewhere."""
        mine = own_job()
        if not mine or mine != str((run.proc() or {}).get("job_id", "")):
            return None
        return float(self.settings(run).signal_s)

    def queue_again(self, run: Run) -> None:
        """Put the job of this process back into the queue; Slurm ends it now and starts it anew later. Raises InputError."""
        call("scontrol", "requeue", own_job())

    def output(self, run: Run, lines: int = 40) -> str:
        """The end of what the job printed beside the log: errors of the shell, of modules and of Slurm itself."""
        if (run.folder / ARRAY_FOLDER).is_dir():
            return array_of(run).last_words(lines)
        job = str((run.proc() or {}).get("job_id", ""))
        parts = [run.log(lines, f"slurm-{job}.{end}") for end in ("out", "err")] if job else []
        return "\n".join(part for part in parts if part)


def own_job() -> str:
    """Number of the Slurm job that this process belongs to, `array_task` within an array; empty outside one."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def sbatch(path: Path, script: str) -> tuple[str, str]:
    """Submit a script that was written to `path`: its job number, and its cluster's name where that can be told.

    Raises InputError with the cluster's own message, and the names it knows, where it refuses.
    """
    try:
        said = call("sbatch", "--parsable", str(path), set_by_script=names_of(script))
    except Unreachable:
        raise
    except InputError as error:
        remedy = error.remedy if "PATH" in error.problem else offers(fresh=True).valid_names()
        raise InputError("Slurm", error.problem, remedy) from error
    job, _, cluster = said.strip().partition(";")
    return job, cluster or cluster_name()


def _watched() -> Iterator[str]:
    """Jobs of all runs that have not ended, for one question about all of them."""
    for run in list_runs():
        proc = {} if run.shipped else run.proc() or {}
        job = str(proc.get("job_id", ""))
        if job and not _elsewhere(proc) and not run.status().finished and _known_end(run, proc) is None:
            yield job


def _submitted_at(proc: Mapping[str, Any]) -> float:
    return float(proc.get("submitted_at", 0.0))


def _elsewhere(proc: Mapping[str, Any]) -> bool:
    """Whether its job belongs to another cluster that shares the disk: this one's numbers mean other jobs."""
    theirs = str(proc.get("cluster", ""))
    return bool(theirs) and theirs != (cluster_name() or theirs)


def _silence_s(run: Run, proc: Mapping[str, Any]) -> float:
    """Seconds since the last sign of its trainer."""
    return time.time() - max(run.status().heartbeat_at or 0.0, _submitted_at(proc))


def _silent(run: Run, proc: Mapping[str, Any], job: Job) -> bool:
    """Whether a job that Slurm lists on a node has no living trainer."""
    if job.waiting or job.elapsed_s is None:
        return False
    silence_s = _silence_s(run, proc)
    heard = silence_s < job.elapsed_s  # since the job got its node
    return silence_s > SILENT_S if heard else job.elapsed_s > LOADING_S


def _known_end(run: Run, proc: Mapping[str, Any]) -> tuple[str, str] | None:
    """(state, reason) with which Slurm ended the run's present job; None where that was not seen."""
    kept = read_json(run.folder / JOB_END)
    known = isinstance(kept, dict) and kept.get("job_id") == proc.get("job_id")
    return (str(kept.get("state")), str(kept.get("reason", ""))) if known else None


def _note_end(run: Run, job: Job) -> None:
    """Keep what Slurm says before it forgets the job."""
    with suppress(OSError):  # a colleague's run in a folder that we may only read
        write_json(run.folder / JOB_END, {"job_id": job.id, "state": job.state, "reason": job.reason})


def end_jobs(*jobs: str) -> None:
    """scancel, and wait until Slurm says that they are gone. Raises InputError where they do not go."""
    try:
        call("scancel", *jobs)
    except Unreachable:
        raise
    except InputError:
        if not _over(*jobs):
            raise
    deadline = time.monotonic() + CANCEL_S
    while not _over(*jobs):
        if time.monotonic() > deadline:
            problem = Phrase("it did not end within {n:.0f} s", n=CANCEL_S)
            remedy = "Its node may be in trouble; look again in some minutes."
            raise InputError(Phrase("job {job}", job=", ".join(jobs)), problem, remedy)
        time.sleep(0.3)


def _over(*jobs: str) -> bool:
    """Whether jobs are gone, asked now. Raises Unreachable."""
    found = ask(jobs)
    return all(job not in found or found[job].ended for job in jobs)
