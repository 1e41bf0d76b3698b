"""The parts of a prediction as a job array: submitted together, watched and cancelled as one job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.jobs.base import End, mark_cancelled, write_proc
from lib.jobs.profiles import ClusterProfile
from lib.jobs.script import TASK, array_script
from lib.runs import Run
from lib.task import InputError, Phrase

if TYPE_CHECKING:
    from lib.jobs.array import Array

ARRAY = "slurm array"
FOLDER = "array"  # in the folder of the prediction: scripts and output of the tasks
BUSY = ("queued", "running")


def array_of(run: Run) -> Array:
    """The job array of a prediction."""
    from lib.jobs.array import Array  # which looks at jobs, of which this is a part

    return Array(run.folder / FOLDER)


def parts_script(folder: Path, command: Sequence[str], parts: Sequence[int], settings: Mapping[str, Any]) -> str:
    """The batch script that `submit` gives to the cluster for these parts of the prediction in a folder. Raises InputError."""
    asked = ClusterProfile.parse(settings, "cluster profile")
    return array_script(folder / FOLDER, folder.name, [*command, "--part", TASK], parts, asked)


def submit(run: Run, command: Sequence[str], n_parts: int, left: Sequence[int], settings: Mapping[str, Any]) -> None:
    """Have an array do the parts that are left with `python -m lib <command> --part <number>`.

    Raises InputError in Slurm's words where it refuses.
    """
    array, asked = array_of(run), ClusterProfile.parse(settings, "cluster profile")
    if array.tasks():
        array.resume(list(left), asked)
    else:
        array.submit(run.id, [*command, "--part", TASK], n_parts, asked)
    write_proc(run, ARRAY)


class ArrayExecutor:
    """Of a prediction whose parts are tasks of an array; the folder says what is done, the cluster what is still to come."""

    name = ARRAY

    def available(self) -> tuple[bool, str]:
        """Never by itself: the process that plans a prediction submits its array."""
        return False, ""

    def submit(self, run: Run, resume: bool = False) -> None:
        """Left to the process that plans. Raises InputError."""
        raise InputError(str(run.folder), "its parts are submitted by the process that plans them", "Resume it.")

    def alive(self, run: Run) -> bool:
        """Whether any task waits or computes."""
        return any(task.state in BUSY for task in array_of(run).tasks())

    def waiting(self, run: Run) -> bool:
        """Whether no task has a node."""
        return not any(task.state == "running" for task in array_of(run).tasks())

    def end(self, run: Run) -> End:
        """How many tasks did not end well, and why the first of them."""
        bad = [task for task in array_of(run).tasks() if task.state not in (*BUSY, "done")]
        if not bad:
            return End("lost")
        told = "{n} tasks of the array did not end well; task {number}: {why} {said}"
        why, said = bad[0].reason or Phrase(bad[0].state), array_of(run).output(bad[0].number, 1)
        return End("failed", Phrase(told, n=len(bad), number=bad[0].number, why=why, said=said))

    def claim(self, run: Run) -> bool:
        """A task of the array claims nothing: any may do its part at any time."""
        return False

    def notice_s(self, run: Run) -> float | None:
        """Parts are not warned: a part is short, and done again."""
        return None

    def queue_again(self, run: Run) -> None:
        """Not from within. Raises InputError."""
        raise InputError(str(run.folder), "its parts are queued by the process that plans them", "Resume it.")

    def cancel(self, run: Run) -> None:
        """Take all tasks from the queue; returns once they are gone."""
        mark_cancelled(run)
        array_of(run).cancel()
