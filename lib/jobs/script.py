"""The batch script of a run: everything the cluster is told, in a file that can be read, kept and submitted by hand."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.jobs.base import environment
from lib.jobs.profiles import ClusterProfile
from lib.runs import ROOT

EXPORTED = ("LIGHTBENCH_HOME", "LIGHTBENCH_TASK_PATH", "PYTHONPATH", "PYTHONUNBUFFERED")
SIGNAL = "USR1"  # what announces the end of the time limit
TASK = "{task}"  # in the words of a command: stands for the number of a task within its array


def batch_script(
    folder: Path, job_name: str, command: Sequence[str], profile: ClusterProfile, after: str = "", array: str = ""
) -> str:
    """The script that works in `folder` with `command`; it waits for the job `after` to end, however it does.

    Several processes are started by srun, which the signal does not pass through: it goes to them. `array` are the numbers of
    the tasks of a job array, as sbatch reads them, each one process. Otherwise the signal is ignored until the command listens:
    it must not end a shell that still loads modules.
    """
    given = [*directives(folder, job_name, profile, after, array), *profile.extra.splitlines()]
    options = [f"#SBATCH {line}" for line in given]
    values = environment()
    exports = [f"export {name}={shlex.quote(values[name])}" for name in EXPORTED if values.get(name)]
    words = [profile.python or command[0], *command[1:]]
    steps = [f"trap '' {SIGNAL}", *profile.prologue.splitlines(), *exports, f"cd {shlex.quote(str(ROOT))} || exit 1"]
    typed = " ".join('"$SLURM_ARRAY_TASK_ID"'.join(part and shlex.quote(part) for part in word.split(TASK)) for word in words)
    launcher = "" if array else _launcher(profile)
    return "\n".join(["#!/bin/bash", *options, "", *steps, f"exec {launcher}{typed}", ""])


def array_script(
    folder: Path, name: str, command: Sequence[str], numbers: Sequence[int], profile: ClusterProfile, at_once: int = 0
) -> str:
    """The script of a job array whose tasks, of these numbers, do `python -m lib command`; 0 `at_once` is as many as can be."""
    listed = _listed(numbers) + (f"%{at_once}" if at_once else "")
    words = re.sub(r"[^\w.-]+", "-", name).strip("-")[:60] or "lightbench"
    return batch_script(folder, words, [sys.executable, "-m", "lib", *command], profile, array=listed)


def _listed(numbers: Sequence[int]) -> str:
    """As sbatch reads them: 0-7, or 2,5,7."""
    whole = list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}-{numbers[-1]}" if whole and len(numbers) > 1 else ",".join(map(str, numbers))


def _launcher(profile: ClusterProfile) -> str:
    """What starts the command in every process, empty for a single one. If one process fails, the others cannot go on."""
    if profile.nodes * profile.tasks_per_node == 1:
        return ""
    cores = f" --cpus-per-task={profile.cpus_per_task}" if profile.cpus_per_task else ""  # srun does not take the job's own
    return f"srun --mpi=none --export=ALL --kill-on-bad-exit=1 --wait=0{cores} "


def directives(folder: Path, job_name: str, profile: ClusterProfile, after: str = "", array: str = "") -> list[str]:
    """Options of sbatch, one an item; what the profile leaves open is not mentioned."""
    place = str(folder).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    output = f"{place}/slurm-{'%A_%a' if array else '%j'}"
    nodes, each = (1, 1) if array else (profile.nodes, profile.tasks_per_node)
    several = nodes * each > 1
    given = {
        "job-name": job_name, "output": f'"{output}.out"', "error": f'"{output}.err"', "open-mode": "append", "array": array,
        "partition": profile.partition, "qos": profile.qos, "account": profile.account,
        "time": slurm_time(profile.time_limit_min), "nodes": str(nodes), "ntasks": str(nodes * each),
        "ntasks-per-node": str(each) if several else "",
        "cpus-per-task": str(profile.cpus_per_task or ""), "gres": f"gpu:{profile.gpus}" if profile.gpus else "",
        "mem": f"{round(1024 * profile.memory_gb)}M" if profile.memory_gb else "",
        "constraint": f'"{profile.constraint}"' if profile.constraint else "",
        "mail-user": profile.mail, "mail-type": "END,FAIL" if profile.mail else "",
        "dependency": f"afterany:{after}" if after else "",
        "signal": f"{'' if several else 'B:'}{SIGNAL}@{profile.signal_s}" if profile.signal_s and profile.time_limit_min else "",
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in given.items() if value] + ["--requeue" if profile.requeue else "--no-requeue"]


def names_of(script: str) -> list[str]:
    """Names of the options that a script sets, as Slurm's environment variables call them."""
    names = [line.removeprefix("#SBATCH --").partition("=")[0] for line in script.splitlines() if line.startswith("#SBATCH --")]
    return [{"time": "timelimit", "mem": "mem_per_node", "array": "array_inx"}.get(name, name) for name in names]


def slurm_time(minutes: int) -> str:
    """As sbatch reads it, `D-HH:MM:SS`; nothing for 0."""
    days, rest = divmod(minutes, 24 * 60)
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00" if minutes else ""
