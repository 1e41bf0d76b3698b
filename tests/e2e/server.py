"""The app as a user starts it: a server process of its own, on a free port, with a home folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 90
# The smallest run that still has curves to look at.
TINY = {"clips_per_epoch": 64, "validation_clips": 64, "test_clips": 64, "batch_size": 16, "width": 4, "threads": 1}


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def train(home: Path, name: str, *options: str, **settings: object) -> None:
    """A tiny run from the command line, as on a cluster; returns when it is done, with `--background` when it is started."""
    words = [f"{key}={value}" for key, value in {**TINY, **settings}.items()]
    command = [sys.executable, "-m", "lib", "train", "diffusion", "--name", name, *options, "--set", *words]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "LIGHTBENCH_HOME": str(home)}, check=True, capture_output=True)


class Server:
    """`streamlit run app.py` with `LIGHTBENCH_HOME = home`; a context manager that leaves no process behind."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.end_runs()

    def start(self) -> float:
        """Start and wait until it answers; returns the seconds that took."""
        begin = time.perf_counter()
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.address=127.0.0.1", "--server.headless=true"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"--server.port={self.port}"],
                cwd=ROOT, env={**os.environ, "LIGHTBENCH_HOME": str(self.home)}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while not self.answers():
            if self.process.poll() is not None or time.perf_counter() - begin > START_TIMEOUT_S:
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.05)
        return time.perf_counter() - begin

    def answers(self) -> bool:
        """Whether the server says it is well."""
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End the server and its warm worker as Ctrl-C would; trainings go on."""
        if self.process is None:
            return
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def memory_mb(self) -> float:
        """Resident memory of the dashboard process alone."""
        assert self.process is not None
        return float(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    def trainers(self) -> list[psutil.Process]:
        """Training processes that belong to this home folder."""
        return [p for p in psutil.process_iter() if _trains_in(p, self.home)]

    def end_runs(self) -> None:
        """Kill whatever this home's trainings left running."""
        for process in self.trainers():
            process.kill()


def _trains_in(process: psutil.Process, home: Path) -> bool:
    try:
        words = process.cmdline()
        return words[1:4] == ["-m", "lib", "train"] and process.environ().get("LIGHTBENCH_HOME") == str(home)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
