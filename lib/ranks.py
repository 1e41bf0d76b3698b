"""Several processes that train one run together: how many there are, and which of them writes.

Slurm's `srun` starts them where a cluster profile asks for more than one; on one machine Lightning does. Never imports torch by
itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib.runs import cores
from lib.task import InputError, TrainConfig

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # set for every process of a distributed training
LAUNCHED = ("RANK", "MASTER_ADDR")  # set by torchrun and its like, which start the processes of all nodes


@dataclass(frozen=True)
class World:
    """All processes of a training; `by_srun` where Slurm started them."""

    per_node: int
    nodes: int = 1
    by_srun: bool = False

    def environment(self) -> list[ClusterEnvironment]:
        """What tells Lightning its rank; nothing where it finds that by itself."""
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

        if self.by_srun:
            return [SLURMEnvironment(auto_requeue=False)]  # the command that trains hears the signals
        # Within a job, Lightning would expect to have been started by srun.
        return [LightningEnvironment()] if self.nodes == 1 and not _launched() else []

    def threads(self) -> int:
        """CPU threads for each process: the cores that Slurm granted it, or its share of those of this machine."""
        granted = os.environ.get("SLURM_CPUS_PER_TASK", "") if self.by_srun else ""
        return int(granted) if granted.isdigit() else max(1, cores() // self.per_node)


def first() -> bool:
    """Whether this process is the one that writes the run's folder and speaks; true where it is alone."""
    return all(os.environ.get(rank, "0") == "0" for rank in RANKS)


def world(config: TrainConfig) -> World:
    """What srun started, else what the settings ask for. Raises InputError for nodes that nobody has started."""
    started = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if started > 1:
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
        if nodes == 1:
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")  # a node need not know its own name
        return World(started // nodes, nodes, by_srun=True)
    if config.num_nodes > 1 and not _launched():
        raise InputError(
            "num_nodes", "nothing has started the processes of the other nodes",
            "Leave it at 1, and train on Slurm with nodes in the cluster profile.",
        )  # fmt: skip
    return World(config.devices, config.num_nodes)


def _launched() -> bool:
    return all(name in os.environ for name in LAUNCHED)
