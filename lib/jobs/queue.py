"""What the cluster's queue says of all our jobs: one `squeue` for every run and every browser session, some seconds old at most.

Slurm forgets a job some minutes after its end; where `sacct` is there it is asked for those. A controller that is down takes
seconds to say so, hence the question is put in a thread and nobody waits long for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lib.jobs.commands import Unreachable, call, installed
from lib.task import InputError

POLL_S = 5.0  # the cluster is not asked more often than this
RETRY_S = 20.0  # after it did not answer
WAIT_S = 12.0  # for the first answer about a job
PATIENCE_S = 1.0  # for a newer answer; then the old one will do
FORMAT = "%i|%T|%N|%S|%M|%l|%r"
ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
     "RECONFIG_FAIL", "REVOKED", "TIMEOUT")
)  # fmt: skip
WAITING = frozenset(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"))
SUBMITTED = "SUBMITTED"  # our word for a job that is younger than the last answer


@dataclass(frozen=True)
class Job:
    """A job as the queue shows it; times are unix seconds, and None where Slurm does not say."""

    id: str
    state: str
    node: str = ""
    starts_at: float | None = None
    elapsed_s: float | None = None
    limit_s: float | None = None
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will never compute again by itself."""
        return self.state in ENDED

    @property
    def waiting(self) -> bool:
        """Whether it has no node (again)."""
        return self.state in WAITING or self.state == SUBMITTED


class Queue:
    """The shared, rate-limited view. `watched` names the jobs that matter now; all of them are asked for at once.

    `arrays` holds the numbers of job arrays that somebody looks at.
    """

    def __init__(self, watched: Callable[[], Iterable[str]]) -> None:
        self.watched = watched
        self.arrays: set[str] = set()
        self.lock = threading.Lock()
        self.asking: threading.Thread | None = None
        self.jobs: dict[str, Job] = {}
        self.asked: frozenset[str] = frozenset()
        self.asked_at = self.answered_at = 0.0
        self.trouble: Unreachable | None = None

    def job(self, job_id: str, submitted_at: float) -> Job | None:
        """The job, or None where Slurm no longer knows it. Raises Unreachable while the cluster does not answer."""
        young = self._younger(job_id, submitted_at)
        return self.jobs.get(job_id, Job(job_id, SUBMITTED) if young else None)

    def task(self, array_id: str, number: int, submitted_at: float) -> Job | None:
        """A task of a job array, as `job` says it of a job; one question serves all tasks."""
        self.arrays.add(array_id)
        young, task_id = self._younger(array_id, submitted_at), f"{array_id}_{number}"
        return self.jobs.get(task_id, Job(task_id, SUBMITTED) if young else None)

    def forget(self) -> None:
        """Ask anew at the next look."""
        with self.lock:
            self.asked_at = 0.0

    def _younger(self, job_id: str, submitted_at: float) -> bool:
        """Whether the last answer is older than the job, after asking anew where it is time. Raises Unreachable."""
        self._refresh(job_id, submitted_at)
        if self.trouble is not None:
            raise self.trouble
        return job_id not in self.asked or submitted_at >= self.answered_at

    def _refresh(self, job_id: str, submitted_at: float) -> None:
        """Ask if the last answer is too old, or was given before anybody asked for this job."""
        with self.lock:
            age = time.time() - self.asked_at
            new = job_id not in self.asked and submitted_at < self.answered_at
            wait_s = WAIT_S if job_id not in self.asked and self.trouble is None else PATIENCE_S
            idle = self.asking is None or not self.asking.is_alive()
            if idle and (new or not 0 <= age < (RETRY_S if self.trouble else POLL_S)):
                self.asked_at = time.time()
                self.asking = threading.Thread(target=self._ask, args=(job_id,), name="squeue", daemon=True)
                self.asking.start()
            asking = self.asking
        if asking is not None:
            asking.join(wait_s)

    def _ask(self, job_id: str) -> None:
        began, ids = time.time(), frozenset({*self.watched(), *self.arrays, job_id})
        trouble: Unreachable | None = None
        jobs = self.jobs
        try:
            jobs = ask(ids)
        except Unreachable as error:
            trouble = error
        except InputError as error:  # whatever else it says, it is no verdict on our jobs
            trouble = Unreachable(error.subject, error.problem, error.remedy)
        with self.lock:
            if trouble is None:
                self.jobs, self.asked, self.answered_at = jobs, ids, began
            self.trouble, self.asking, self.asked_at = trouble, None, time.time()  # a slow cluster is not asked more often


def ask(ids: Iterable[str]) -> dict[str, Job]:
    """The jobs of those ids that Slurm knows, from one `squeue`, and one `sacct` for the rest where that is there.

    Raises Unreachable.
    """
    wanted = sorted(ids)
    if not wanted:
        return {}
    found = {job.id: job for job in map(_row, squeue(wanted).splitlines()) if job is not None}
    known = {*found, *(job_id.partition("_")[0] for job_id in found)}
    missing = [job_id for job_id in wanted if job_id not in known]
    return found | _remembered(missing) if missing and installed("sacct") else found


def squeue(ids: list[str]) -> str:
    """Raw lines for the jobs of those ids, ended ones too. Raises Unreachable."""
    options = ("--all", "--array", "--noheader", "--states=all", f"--format={FORMAT}", f"--jobs={','.join(ids)}")
    try:
        return call("squeue", *options)
    except Unreachable:
        raise
    except InputError as error:
        if "Invalid job id" in error.problem:  # said of a single job that is forgotten
            return ""
        raise


def _row(line: str) -> Job | None:
    words = line.strip().split("|", 6)
    if len(words) < 7:
        return None
    job_id, state, node, start, elapsed, limit, reason = words
    starts_at = float(start) if start.isdigit() else None
    return Job(job_id, state.split()[0], node, starts_at, seconds(elapsed), seconds(limit), "" if reason == "None" else reason)


def _remembered(ids: list[str]) -> dict[str, Job]:
    """How jobs ended that squeue has forgotten; nothing where there is no accounting."""
    try:
        text = call(
            "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode", f"--jobs={','.join(ids)}"
        )
    except InputError:
        return {}
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 2]
    return {job_id: Job(job_id, state.split()[0], reason=f"exit code {code}") for job_id, state, code in rows if state}


def seconds(text: str) -> float | None:
    """`D-HH:MM:SS`, `HH:MM:SS` or `MM:SS`; None for anything else, as UNLIMITED."""
    days, _, clock = text.rpartition("-")
    try:
        parts = [int(part) for part in clock.split(":")]
        whole = sum(part * 60**power for power, part in enumerate(reversed(parts)))
        return float(whole + 86_400 * int(days or 0))
    except ValueError:
        return None
