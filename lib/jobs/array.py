"""Job arrays: one command of ours, many times under one number of the cluster, each time with a number of its own.

All that is known of an array lies in a folder that its maker owns: `array.json`, written by whoever submits, `ends.json`, how
tasks ended, noted by whoever looks before Slurm forgets them, `batch.sh`, and what each task printed. What a task has done is
told by the files that its command writes; a task that is started a second time must go on from those.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import jobs
from lib.jobs.cluster import cluster_name
from lib.jobs.commands import Unreachable, call
from lib.jobs.profiles import ClusterProfile
from lib.jobs.queue import Job, ask
from lib.jobs.script import TASK, array_script
from lib.jobs.slurm import SAID, SCRIPT, end_jobs, own_job, sbatch
from lib.runs import read_json, write_atomic, write_json
from lib.task import InputError, Phrase

__all__ = ["TASK", "Array", "ArrayTask", "own_task", "queue_again"]

ABOUT, ENDS = "array.json", "ends.json"
ENDED_BADLY = ("failed", "lost")
MOST_TOLD = 3  # tasks whose last words are shown
FORGOTTEN = Phrase("Slurm no longer knows this task, and nobody looked when it ended.")


@dataclass(frozen=True)
class ArrayTask:
    """One task. `done` is an exit status of 0; `lost` one whose end nobody saw; `reason` is empty where there is none."""

    number: int
    state: jobs.State
    node: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Array:
    """A job array and the folder that it is known by, which need not exist yet."""

    folder: Path

    def submit(self, name: str, command: Sequence[str], n_tasks: int, settings: ClusterProfile, at_once: int = 0) -> None:
        """Start tasks 0 to n_tasks - 1 of `python -m lib command`, in whose words TASK stands for the task's number.

        `at_once` tasks at most compute at a time, 0 as many as the cluster gives. Raises InputError with the cluster's own
        message, and the names it knows, where it refuses; and for a folder whose tasks were submitted already.
        """
        if self.about():
            raise InputError(str(self.folder), "its tasks were submitted already", "Resume them, or take another folder.")
        about = {
            "name": name, "command": list(command), "n_tasks": n_tasks, "at_once": at_once, "settings": settings.model_dump(),
        }  # fmt: skip
        self._start(about, range(n_tasks))

    def resume(self, numbers: Iterable[int] | None = None, settings: ClusterProfile | None = None) -> list[int]:
        """Submit tasks anew: those given, or all, but none that waits, computes or is done. Raises InputError; returns them.

        They ask for `settings` from now on, or for what they had.
        """
        states = {task.number: task.state for task in self.tasks()}
        wanted = states if numbers is None else numbers
        open_ones = sorted({number for number in wanted if states.get(number) in ("failed", "cancelled", "lost")})
        if open_ones:
            about = self.about()
            self._start(about if settings is None else about | {"settings": settings.model_dump()}, open_ones)
        return open_ones

    def _start(self, about: Mapping[str, Any], numbers: Sequence[int]) -> None:
        """Write batch.sh, submit it, and note the new job of each number."""
        settings = ClusterProfile.parse(about["settings"], f"{self.folder.name}, {ABOUT}")
        script = array_script(self.folder, str(about["name"]), about["command"], numbers, settings, int(about["at_once"]))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / SCRIPT, script)
        except OSError as error:
            problem = Phrase("could not be written ({why})", why=error.strerror or str(error))
            raise InputError(SCRIPT, problem, "Check the free space and the permissions of the folder.") from error
        job, cluster = sbatch(self.folder / SCRIPT, script)
        started = {str(number): f"{job}_{number}" for number in numbers}
        at = dict.fromkeys(started, time.time())
        kept = {"jobs": {**about.get("jobs", {}), **started}, "submitted_at": {**about.get("submitted_at", {}), **at}}
        write_json(self.folder / ABOUT, {**about, **kept, "cluster": cluster})

    def about(self) -> dict[str, Any]:
        """array.json: name, command, n_tasks, at_once, settings, cluster, and by task its latest job and when that was submitted.

        Empty before it was submitted.
        """
        return dict(read_json(self.folder / ABOUT) or {})

    def tasks(self) -> tuple[ArrayTask, ...]:
        """All tasks by number, some seconds old at most; none before they were submitted.

        Where the cluster does not answer, or is another one that shares the disk, a task that has not ended is `queued` and its
        reason is a sentence.
        """
        about, ends = self.about(), self._ends()
        jobs_of, seen, found = dict(about.get("jobs", {})), dict[str, Job](), []
        active: set[str] = set()
        for number in range(int(about.get("n_tasks", 0))):
            name = str(jobs_of[str(number)])
            if name in ends:
                found.append(_ended(number, name, *ends[name]))
                continue
            task, job = _looked_up(number, name, float(about["submitted_at"][str(number)]), str(about.get("cluster", "")))
            found.append(task)
            if job is not None and job.ended:
                seen[name] = job
            else:
                active |= set() if task.state == "lost" else {name.partition("_")[0]}
        self._note({name: (job.state, job.reason) for name, job in seen.items()})
        jobs.SLURM.queue.arrays -= {str(name).partition("_")[0] for name in jobs_of.values()} - active
        return tuple(found)

    def cancel(self, numbers: Iterable[int] | None = None) -> None:
        """Stop the tasks given, or all, that wait or compute; returns once Slurm says that they are gone. Raises InputError."""
        about, wanted = self.about(), None if numbers is None else set(numbers)
        theirs = str(about.get("cluster", ""))
        if theirs and theirs != (cluster_name() or theirs):
            raise InputError(str(self.folder), Phrase("it runs on the cluster {cluster}", cluster=theirs), "Cancel it there.")
        active = [t.number for t in self.tasks() if t.state in jobs.ACTIVE and (wanted is None or t.number in wanted)]
        names = [str(about["jobs"][str(number)]) for number in active]
        if names:
            end_jobs(*names)
            found = ask(names)  # a task that waited is forgotten at once
            self._note({name: (found[name].state, found[name].reason) if name in found else ("CANCELLED", "") for name in names})
            jobs.SLURM.queue.forget()

    def output(self, number: int, lines: int = 40) -> str:
        """The end of what a task printed to its standard output and error, of its latest job."""
        job = self.about().get("jobs", {}).get(str(number), "")
        texts = []
        for end in ("out", "err"):
            with suppress(FileNotFoundError):
                texts.append((self.folder / f"slurm-{job}.{end}").read_text(encoding="utf-8", errors="replace"))
        return "\n".join(line for text in texts for line in text.splitlines()[-lines:])

    def last_words(self, lines: int = 40) -> str:
        """The end of what tasks printed: of a few that did not end well, with the reason, else of the first."""
        bad = [task for task in self.tasks() if task.state in ENDED_BADLY][:MOST_TOLD]
        told = [(task.number, task.reason) for task in bad] or [(0, "")]
        return "\n".join(part for number, why in told for part in (str(why), self.output(number, lines)) if part)

    def _ends(self) -> dict[str, tuple[str, str]]:
        """(state, reason) of jobs whose end was seen."""
        return {job: (str(end[0]), str(end[1])) for job, end in dict(read_json(self.folder / ENDS) or {}).items()}

    def _note(self, ends: Mapping[str, tuple[str, str]]) -> None:
        if ends:
            with suppress(OSError):  # a colleague's folder that we may only read
                write_json(self.folder / ENDS, self._ends() | dict(ends))


def own_task() -> int | None:
    """Within a job array: the number of the task that this process belongs to; None elsewhere."""
    number = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    return int(number) if number.isdigit() else None


def queue_again() -> None:
    """Put the task of this process back into the queue; Slurm ends it now and starts it anew later. Raises InputError."""
    call("scontrol", "requeue", own_job())


def _looked_up(number: int, name: str, submitted_at: float, cluster: str) -> tuple[ArrayTask, Job | None]:
    """A task that is not known to have ended, as the queue shows it."""
    if cluster and cluster != (cluster_name() or cluster):
        return ArrayTask(number, "queued", reason=Phrase("It runs on the cluster {cluster}.", cluster=cluster)), None
    array, _, _ = name.partition("_")
    try:
        job = jobs.SLURM.queue.task(array, number, submitted_at)
    except Unreachable as error:
        last = jobs.SLURM.queue.jobs.get(name)
        state: jobs.State = "queued" if last is None or last.waiting else "running"
        return ArrayTask(number, state, reason=error.sentence()), None
    if job is None:
        return ArrayTask(number, "lost", reason=FORGOTTEN), None
    if job.ended:
        return _ended(number, name, job.state, job.reason), job
    return ArrayTask(number, "queued" if job.waiting else "running", job.node, job.reason if job.waiting else ""), job


def _ended(number: int, name: str, state: str, reason: str) -> ArrayTask:
    if state == "COMPLETED":
        return ArrayTask(number, "done")
    told = Phrase("Slurm ended job {job} as {state} ({reason}).", job=name, state=state, reason=reason or "–")
    word: jobs.State = "cancelled" if state == "CANCELLED" else "failed" if state in SAID else "lost"
    return ArrayTask(number, word, reason=told)
