"""The batch script of a run: everything the cluster is told, in a file that can be read, kept and submitted by hand."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from lib.jobs.base import environment
from lib.jobs.profiles import ClusterProfile
from lib.runs import ROOT

EXPORTED = ("LIGHTBENCH_HOME", "LIGHTBENCH_TASK_PATH", "PYTHONPATH", "PYTHONUNBUFFERED")
SIGNAL = "USR1"  # what announces the end of the time limit


def batch_script(folder: Path, job_name: str, command: Sequence[str], profile: ClusterProfile, after: str = "") -> str:
    """The script that trains the run in `folder` with `command`; it waits for the job `after` to end, however it does.

    The signal is ignored until the trainer listens: it must not end a shell that still loads modules.
    """
    options = [f"#SBATCH {line}" for line in [*directives(folder, job_name, profile, after), *profile.extra.splitlines()]]
    values = environment()
    exports = [f"export {name}={shlex.quote(values[name])}" for name in EXPORTED if values.get(name)]
    words = [profile.python or command[0], *command[1:]]
    steps = [f"trap '' {SIGNAL}", *profile.prologue.splitlines(), *exports, f"cd {shlex.quote(str(ROOT))} || exit 1"]
    return "\n".join(["#!/bin/bash", *options, "", *steps, f"exec {shlex.join(words)}", ""])


def directives(folder: Path, job_name: str, profile: ClusterProfile, after: str = "") -> list[str]:
    """Options of sbatch, one an item; what the profile leaves open is not mentioned."""
    place = str(folder).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    given = {
        "job-name": job_name, "output": f'"{place}/slurm-%j.out"', "error": f'"{place}/slurm-%j.err"', "open-mode": "append",
        "partition": profile.partition, "qos": profile.qos, "account": profile.account,
        "time": slurm_time(profile.time_limit_min), "nodes": str(profile.nodes), "ntasks": str(profile.tasks),
        "cpus-per-task": str(profile.cpus_per_task or ""), "gres": f"gpu:{profile.gpus}" if profile.gpus else "",
        "mem": f"{round(1024 * profile.memory_gb)}M" if profile.memory_gb else "",
        "constraint": f'"{profile.constraint}"' if profile.constraint else "",
        "mail-user": profile.mail, "mail-type": "END,FAIL" if profile.mail else "",
        "dependency": f"afterany:{after}" if after else "",
        "signal": f"B:{SIGNAL}@{profile.signal_s}" if profile.signal_s and profile.time_limit_min else "",
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in given.items() if value] + ["--requeue" if profile.requeue else "--no-requeue"]


def names_of(script: str) -> list[str]:
    """Names of the options that a script sets, as Slurm's environment variables call them."""
    names = [line.removeprefix("#SBATCH --").partition("=")[0] for line in script.splitlines() if line.startswith("#SBATCH --")]
    return [{"time": "timelimit", "mem": "mem_per_node"}.get(name, name) for name in names]


def slurm_time(minutes: int) -> str:
    """As sbatch reads it, `D-HH:MM:SS`; nothing for 0."""
    days, rest = divmod(minutes, 24 * 60)
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00" if minutes else ""
