"""A real Slurm of one node on loopback: munge, slurmctld and slurmd as root, without systemd or accounting.

Partitions: `main`, `high` (its jobs take the node from those of `main`, which are queued again) and `gone` (down).
Debian's packages are installed where they are missing and we may; the state lives in a folder of the caller's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("slurmctld", "slurmd", "munged")
UP_S = 60.0
SETTINGS = """ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port_d}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=4
MinJobAge=300
SlurmdTimeout=600
MessageTimeout=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 DefaultTime=10 PriorityTier=1
PartitionName=high Nodes={host} MaxTime=60 DefaultTime=10 PriorityTier=10
PartitionName=gone Nodes={host} MaxTime=60 State=DOWN
"""


class CannotStart(RuntimeError):
    """Why Slurm did not start, or refused something."""


class NotHere(CannotStart):
    """Why there cannot be a Slurm on this machine."""


class Cluster:
    """One Slurm; a context manager. While it is up, SLURM_CONF of this process points to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.node = folder, socket.gethostname().split(".")[0]
        self.conf = folder / "slurm.conf"
        self.before = os.environ.get("SLURM_CONF")

    def __enter__(self) -> Cluster:
        if os.geteuid():
            raise NotHere("Slurm's daemons need root here")
        with _one_at_a_time():
            install()
            _start_munge()
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        ports = {"port": _free_port(), "port_d": _free_port()}
        self.conf.write_text(SETTINGS.format(host=self.node, folder=self.folder, cpus=os.cpu_count(), **ports))
        os.environ["SLURM_CONF"] = str(self.conf)
        self.start_controller()
        self.start_node()
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel_all()
        for name in ("slurmd", "slurmctld"):
            self._stop(name, signal.SIGTERM)
        os.environ.pop("SLURM_CONF", None)
        if self.before is not None:
            os.environ["SLURM_CONF"] = self.before

    def start_controller(self) -> None:
        """Start slurmctld, with what it knew before."""
        self.run("slurmctld")
        self._wait(lambda: "UP" in self.run("scontrol", "ping", check=False), "slurmctld to answer")

    def start_node(self) -> None:
        """Start slurmd and wait until jobs can run on it."""
        self.run("slurmd")
        self._wait(lambda: self.node_state() in ("idle", "mix", "alloc"), "the node to be ready")

    def kill_controller(self) -> None:
        """kill -9 slurmctld."""
        self._stop("slurmctld", signal.SIGKILL)

    def node_state(self) -> str:
        """As sinfo says it: `idle`, `alloc`, `drain` …"""
        return self.run("sinfo", "-h", "-p", "main", "-o", "%t", check=False).strip()

    def drain(self) -> None:
        """Take the node out of service: what runs goes on, nothing new starts."""
        self.run("scontrol", "update", f"NodeName={self.node}", "State=DRAIN", "Reason=test")

    def undrain(self) -> None:
        """Back into service."""
        self.run("scontrol", "update", f"NodeName={self.node}", "State=RESUME")

    def cancel_all(self) -> None:
        """End every job and wait until none is left."""
        self.run("scancel", "--user=root", check=False)
        self._wait(lambda: not self.run("squeue", "-h", check=False).strip(), "all jobs to end")

    def lift_hold(self, job: str) -> None:
        """A job that was queued again waits two minutes; this one a second.

        slurmd tells the old start's credential from the new one's by the second: in the same one it refuses to launch the job.
        """
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now+1")

    def field(self, job: str, name: str) -> str:
        """One field of `scontrol show job`."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def run(self, *command: str, check: bool = True) -> str:
        """Output of a command; an error that says what it said."""
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=UP_S)
        if check and done.returncode:
            raise CannotStart(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def _stop(self, name: str, number: int) -> None:
        try:
            process = psutil.Process(int((self.folder / f"{name}.pid").read_text()))
            process.send_signal(number)
            process.wait(20)
        except (OSError, ValueError, psutil.Error):
            return

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + UP_S
        while not condition():
            if time.monotonic() > deadline:
                logs = [path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log"))]
                raise CannotStart(f"waited in vain for {what}\n" + "\n".join(logs))
            time.sleep(0.2)


def install() -> None:
    """Debian's packages, where a program is missing. Raises CannotStart, and NotHere where there is no apt-get."""
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        raise NotHere(f"install Slurm and munge ({', '.join(PROGRAMS)} are not on the PATH)")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-o", "DPkg::Lock::Timeout=300"]
    for command in (
        ["apt-get", "update", *options],
        ["apt-get", "install", "-y", "--no-install-recommends", *options, *PACKAGES],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
        if done.returncode:
            raise CannotStart(f"{' '.join(command)}: {done.stderr[-2000:]}")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Tests that run side by side share the machine's packages and its munge."""
    with (Path(tempfile.gettempdir()) / "lightbench-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_munge() -> None:
    """The package makes the key; its folder under /run is made by systemd, which need not be here."""
    if not _munge_works():
        Path("/run/munge").mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=False, capture_output=True)
    deadline = time.monotonic() + UP_S
    while not _munge_works():
        if time.monotonic() > deadline:
            raise CannotStart("munged does not answer; see /var/log/munge/munged.log")
        time.sleep(0.1)


def _munge_works() -> bool:
    return subprocess.run(["munge", "-n"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
