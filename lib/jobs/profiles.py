"""Cluster profiles: what a run asks of a cluster, by name, in one file that people read and edit: `clusters.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tomlkit
from pydantic import StringConstraints, field_validator
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from lib.runs import home, write_atomic
from lib.task import Config, InputError, Phrase, option

DEFAULT = "default"  # the profile that is always there
HEADER = """Cluster profiles of Lightbench: one [table] each, edited here or on a Train page.
Keys, for `--set-cluster KEY=VALUE` too: {keys}."""
Word = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\s'\"\\`$;]*$")]


class ClusterProfile(Config):
    """What a Slurm job asks for; what is empty or 0 is left to the cluster."""

    partition: Word = option("", "Partition (queue) to wait in; empty takes the cluster's default", group="queue")
    qos: Word = option("", "QOS, quality of service: priority and limits", group="queue")
    account: Word = option("", "Account (project) that is charged", group="queue")
    time_limit_min: int = option(240, "Longest time the job may take", unit="min", group="queue", ge=0, le=60 * 24 * 60)
    nodes: int = option(1, "Nodes", group="resources", ge=1, le=256)
    tasks: int = option(
        1, "Processes that train together on all nodes; with GPUs it is one for each of them", group="resources", ge=1, le=4096
    )  # fmt: skip
    cpus_per_task: int = option(4, "CPU cores for each process", group="resources", ge=0, le=1024)
    memory_gb: float = option(0, "Memory on each node", unit="GB", group="resources", ge=0, le=24_000)
    gpus: Word = option("", "GPUs on each node: a number, or kind:number as in a100:2", group="resources")
    constraint: Word = option("", "Features that the node must have, as in avx512&ib", group="resources")
    mail: Word = option("", "Address that is told when the job ends or fails", group="more")
    requeue: bool = option(True, "Queue again after preemption, a failed node or the time limit, and train on", group="more")
    signal_s: int = option(
        120, "So long before the time limit training stops at an epoch's end and is queued again; 0 never", unit="s",
        group="more", ge=0, le=3600,
    )  # fmt: skip
    python: str = option("", "Python on the cluster, as the prologue leaves it; empty takes the one of this app", group="more")
    extra: str = option("", "More sbatch options, one a line, as in --exclusive", group="more")
    prologue: str = option("", "Shell lines before the training: module load, conda activate, source …", group="more")

    @property
    def tasks_per_node(self) -> int:
        """Processes on each node: one for each GPU, else `tasks` shared out evenly, rounded up."""
        numbers = [kind.rpartition(":")[2] for kind in self.gpus.split(",") if kind]
        gpus = sum(int(number) if number.isdigit() else 1 for number in numbers)
        return gpus or -(-self.tasks // self.nodes)

    @field_validator("extra")
    @classmethod
    def _options(cls, text: str) -> str:
        """Lines such as `--exclusive`, with or without `#SBATCH`."""
        lines = [line.strip().removeprefix("#SBATCH").strip() for line in text.splitlines()]
        if wrong := [line for line in lines if line and not line.startswith("-")]:
            raise ValueError(Phrase("{line!r} is no option of sbatch; write one a line, as in --exclusive", line=wrong[0]))
        return "\n".join(line for line in lines if line)

    @field_validator("python")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if "\n" in text:
            raise ValueError(Phrase("a path or a program's name was expected, in one line"))
        return text.strip()


def profiles_file() -> Path:
    """Where they are kept; need not exist yet."""
    return home() / "clusters.toml"


def profiles() -> dict[str, ClusterProfile]:
    """All profiles by name, the default one first. Raises InputError naming what in the file is wrong."""
    tables = {name: value for name, value in _document().items() if isinstance(value, Table)}
    found = {name: ClusterProfile.parse(table.unwrap(), f"clusters.toml, [{name}]") for name, table in tables.items()}
    return {DEFAULT: ClusterProfile()} | found


def profile(name: str) -> ClusterProfile:
    """The profile of that name. Raises InputError listing those that exist."""
    known = profiles()
    if name not in known:
        remedy = Phrase("Profiles: {names}. They are kept in {file}.", names=", ".join(known), file=str(profiles_file()))
        raise InputError(Phrase("cluster profile {name!r}", name=name), "there is no such profile", remedy)
    return known[name]


def save_profile(name: str, values: ClusterProfile) -> None:
    """Keep a profile under its name; other profiles and comments in the file stay as they are. Raises InputError."""
    name = name.strip()
    if not name or not name.isprintable():
        raise InputError("cluster profile", "it has no name", "Give it one.")
    document = _document()
    if not profiles_file().exists():
        for line in HEADER.format(keys=", ".join(ClusterProfile.model_fields)).splitlines():
            document.add(tomlkit.comment(line))
    old = document.get(name)
    table = old if isinstance(old, Table) else tomlkit.table()
    for key, value in values.model_dump().items():
        if value != ClusterProfile.model_fields[key].default or key in table:
            table[key] = tomlkit.string(value, multiline=True) if isinstance(value, str) and "\n" in value else value
    document[name] = table
    try:
        write_atomic(profiles_file(), tomlkit.dumps(document))
    except OSError as error:
        problem = Phrase("could not be written ({why})", why=error.strerror or str(error))
        raise InputError(str(profiles_file()), problem, "Check the free space and the permissions of the folder.") from error


def _document() -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(profiles_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        remedy = Phrase("Mend {file}, or move it away.", file=str(profiles_file()))
        raise InputError("clusters.toml", Phrase("it cannot be read ({why})", why=str(error)), remedy) from error


def changed(start: ClusterProfile, values: dict[str, Any]) -> ClusterProfile:
    """A profile with some values changed, typed or as text. Raises InputError listing the valid keys."""
    return ClusterProfile.parse(start.model_dump() | values, "cluster profile")
