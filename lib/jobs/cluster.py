"""What a cluster has to offer: partitions with their limits from `sinfo`, accounts and QOS from `sacctmgr` where that tells."""

from __future__ import annotations

import getpass
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from lib.jobs.commands import call, installed
from lib.jobs.queue import seconds
from lib.task import InputError, Phrase

T = TypeVar("T")
KEPT_S = 300.0  # a cluster is not rebuilt more often


@dataclass(frozen=True)
class Partition:
    """One partition; 0 or None where the cluster does not say or sets no limit. Figures are of its largest node."""

    name: str
    up: bool
    limit_s: float | None
    nodes: int
    cpus: int
    memory_gb: float
    gpus: tuple[str, ...]

    @property
    def facts(self) -> str:
        """In one line: `1-00:00:00 · 24 × 64 CPU · 256 GB · gpu:a100:4`."""
        days, rest = divmod(int(self.limit_s or 0), 86_400)
        clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
        limit = f"{days}-{clock}" if days else clock if self.limit_s else "∞"
        nodes = f"{self.nodes} × {self.cpus} CPU"
        memory = f"{self.memory_gb:.0f} GB" if self.memory_gb >= 1 else ""
        parts = ["" if self.up else "down", limit, nodes, memory, *self.gpus]
        return " · ".join(part for part in parts if part)


@dataclass(frozen=True)
class Offers:
    """Names that a cluster profile may use; empty where the cluster does not tell them."""

    partitions: tuple[Partition, ...] = ()
    qos: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    at: float = field(default_factory=time.monotonic, compare=False)

    def choices(self) -> dict[str, list[str]]:
        """By field of a profile, for a form; only what is known."""
        names = {"partition": [p.name for p in self.partitions], "qos": list(self.qos), "account": list(self.accounts)}
        return {name: ["", *found] for name, found in names.items() if found}

    def valid_names(self) -> str:
        """Everything that is known to be valid, in a sentence."""
        lists = {"Partitions": [f"{p.name} ({p.facts})" for p in self.partitions], "QOS": self.qos, "Accounts": self.accounts}
        told = {title: ", ".join(names) for title, names in lists.items() if names}
        if not told:
            return Phrase("Ask `sinfo`, or the cluster's help desk, what is valid.")
        return Phrase(". ".join(f"{title}: {{{title}}}" for title in told) + ".", **told)


class _Kept:
    """The last offers; one question at a time."""

    lock = threading.Lock()
    offers: Offers | None = None


def offers(fresh: bool = False) -> Offers:
    """What the cluster offers, some minutes old at most, or asked now where `fresh`. Empty where it does not answer."""
    with _Kept.lock:
        known = _Kept.offers
        if known is None or fresh or time.monotonic() - known.at > KEPT_S:
            _Kept.offers = known = _asked()
    return known


@cache
def cluster_name() -> str:
    """The cluster's name in its configuration, empty where it cannot be told."""
    try:
        found = re.search(r"^ClusterName\s*=\s*(\S+)", call("scontrol", "show", "config"), re.MULTILINE)
    except InputError:
        return ""
    return found[1] if found else ""


def _asked() -> Offers:
    rows = _or_nothing(_associations)
    qos = dict.fromkeys(name for _, names in rows for name in names.split(",") if name)
    return Offers(_or_nothing(_partitions), tuple(qos), tuple(dict.fromkeys(account for account, _ in rows if account)))


def _or_nothing(read: Callable[[], tuple[T, ...]]) -> tuple[T, ...]:
    """What it reads, or nothing where the cluster does not answer or keeps it to itself."""
    try:
        return read()
    except InputError:
        return ()


def _partitions() -> tuple[Partition, ...]:
    found: dict[str, Partition] = {}
    for line in call("sinfo", "--noheader", "--format=%R|%a|%l|%D|%c|%m|%G").splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) != 7:
            continue
        name, up, limit, nodes, cpus, memory, gres = words
        gpus = tuple(re.sub(r"\(.*?\)", "", part) for part in gres.split(",") if part.startswith("gpu"))
        new = Partition(name, up == "up", seconds(limit), _number(nodes), _number(cpus), _number(memory) / 1024, gpus)
        old = found.get(name)
        found[name] = new if old is None else _joined(old, new)
    return tuple(found.values())


def _joined(one: Partition, other: Partition) -> Partition:
    """One partition with two kinds of nodes."""
    sizes = one.nodes + other.nodes, max(one.cpus, other.cpus), max(one.memory_gb, other.memory_gb)
    return Partition(one.name, one.up, one.limit_s, *sizes, tuple(dict.fromkeys(one.gpus + other.gpus)))


def _number(text: str) -> int:
    """The number at the start: sinfo writes `64+` where nodes differ."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def _associations() -> tuple[tuple[str, str], ...]:
    """(account, QOS joined by commas) of this user."""
    if not installed("sacctmgr"):
        return ()
    text = call(
        "sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}", "format=Account,QOS"
    )
    rows = (line.split("|") for line in text.splitlines() if line.count("|") == 1)
    return tuple((account, qos) for account, qos in rows)
