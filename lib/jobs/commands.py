"""Slurm's own programs, called: what they print, and what they complain about as a sentence.

A program that is refused says why in Slurm's words, which are kept: a user finds them in every manual and mail archive.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection

from lib.task import InputError, Phrase

ANSWER_S = 30.0  # the most that any program may take; a dead controller is told after 4 to 8 s
PREFIX = re.compile(r"^\s*(?:\w+: )?(?:error: |fatal: )?")
# What Slurm's programs say where no controller answers; the cluster's state is then unknown, not bad.
SILENT = re.compile(
    r"unable to contact slurm controller|socket timed out|zero bytes were transmitted|backup controller in standby"
    r"|connection refused|unexpected message received|could not establish a configuration source"
    r"|temporarily unable to (?:accept|contact)|transport endpoint is not connected|no route to host",
    re.IGNORECASE,
)


class Unreachable(InputError):
    """The cluster does not answer. Its jobs may well go on."""


def installed(program: str) -> bool:
    """Whether a program of Slurm is on the PATH."""
    return shutil.which(program) is not None


def call(program: str, *arguments: str, set_by_script: Collection[str] = ()) -> str:
    """What the program printed.

    `set_by_script` names options of a batch script, whose environment variables would override it unseen. Raises Unreachable
    where the cluster does not answer, and InputError with Slurm's message where it refuses.
    """
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, errors="replace", timeout=ANSWER_S, check=False,
            env=_environment(set_by_script), stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError as error:
        remedy = "Load the cluster's Slurm module, or start Lightbench on a login node."
        raise InputError(program, "this program of Slurm is not on the PATH", remedy) from error
    except subprocess.TimeoutExpired as error:
        raise _unreachable(program, Phrase("no answer within {n:.0f} s", n=ANSWER_S)) from error
    except OSError as error:
        problem = Phrase("it could not be started ({why})", why=error.strerror or str(error))
        raise InputError(program, problem, "Free memory, then try again.") from error
    if done.returncode:
        said = message(done.stderr)
        if SILENT.search(done.stderr):
            raise _unreachable(program, said)
        raise InputError(
            program, said or Phrase("exit status {n}", n=done.returncode), "Mend it, or ask the cluster's help desk."
        )
    return done.stdout


def message(stderr: str) -> str:
    """What a program complained about, in one line: the lines that say `error`, else the last one, without repetition."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if "error:" in line or "fatal:" in line] or lines[-1:]
    return "; ".join(dict.fromkeys(PREFIX.sub("", line).strip().rstrip(".") for line in told))


def _unreachable(program: str, said: str) -> Unreachable:
    problem = Phrase("it does not answer ({program}: {said})", program=program, said=said)
    return Unreachable(Phrase("cluster"), problem, Phrase("Jobs there go on; look again in some minutes."))


def _environment(set_by_script: Collection[str]) -> dict[str, str]:
    """Without what a surrounding job left behind, as when the dashboard itself runs in one; times as unix seconds."""
    ours = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_CONF_SERVER")
    hidden = {f"SBATCH_{name.upper().replace('-', '_')}" for name in set_by_script}
    kept = {
        name: value for name, value in os.environ.items() if (not name.startswith("SLURM") or name in ours) and name not in hidden
    }
    return kept | {"SLURM_TIME_FORMAT": "%s"}
