"""One Slurm for all tests of this folder that ask for it.

Where it can run, as root on Debian, it must: only on other machines, and never in CI, its tests are skipped, saying why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lib import jobs
from lib.jobs.cluster import _Kept, cluster_name
from lib.jobs.slurm import SlurmExecutor
from tests.slurm.cluster import Cluster, NotHere


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.__enter__()
    except NotHere as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Slurm: {error}. As root, with apt-get, it is installed and started by itself.")
    yield cluster
    cluster.__exit__()


@pytest.fixture
def cluster(_running: Cluster, slurm: SlurmExecutor) -> Iterator[Cluster]:
    """The cluster with an empty queue, before and after the test."""
    yield _running
    _running.cancel_all()


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmExecutor]:
    """The executor with nothing remembered, which asks the queue twice a second."""
    monkeypatch.setattr("lib.jobs.queue.POLL_S", 0.5)
    monkeypatch.setattr(jobs.SLURM, "queue", SlurmExecutor().queue)
    for name in [name for name in os.environ if name.startswith(("SLURM_JOB", "SLURM_ARRAY", "SBATCH"))]:
        monkeypatch.delenv(name)
    _forget()
    yield jobs.SLURM
    _forget()


def _forget() -> None:
    cluster_name.cache_clear()
    _Kept.offers = None
