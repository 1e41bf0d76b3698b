"""Fixtures of every test: a home folder of its own, and the toy task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import lib.tasks
from lib.task import Task

TOY_TASKS = Path(__file__).parent / "toy" / "tasks"
TOY_PLATES = Path(__file__).parent / "toy" / "plates"
TOY_SLICES = Path(__file__).parent / "toy" / "slices"

settings.register_profile("same", derandomize=True)  # the same examples everywhere: a test that fails here fails there
settings.load_profile("same")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages wait for what they ask of a worker, however slow the machine: a browser would look again, AppTest does not."""
    monkeypatch.setattr("lib.ui.work.AT_ONCE_S", 120.0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LIGHTBENCH_HOME, for this process and those it starts; here no shipped model is seen either."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("LIGHTBENCH_HOME", str(folder))
    monkeypatch.setattr("lib.runs.SHIPPED_HERE", tmp_path / "nothing shipped")
    return folder


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder for a whole module, which says `pytestmark = pytest.mark.usefixtures("bench")`."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTBENCH_HOME", str(folder))
        patch.setattr("lib.runs.SHIPPED_HERE", folder / "nothing shipped")
        yield folder


@pytest.fixture
def toy(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """The toy task, found by `lib.tasks` here and in the processes the test starts."""
    yield from _found_in(TOY_TASKS, "toy", monkeypatch)


@pytest.fixture
def dots(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """The toy task whose samples are pictures, found as `toy` is."""
    yield from _found_in(TOY_PLATES, "dots", monkeypatch)


@pytest.fixture
def patient(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """The toy task whose predictions keep finished slices, found as `toy` is."""
    yield from _found_in(TOY_SLICES, "patient", monkeypatch)


def _found_in(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    monkeypatch.setenv("LIGHTBENCH_TASK_PATH", str(folder))
    monkeypatch.setattr(lib.tasks, "__path__", [*lib.tasks.__path__, str(folder)])
    _forget()
    yield lib.tasks.get(name)
    _forget()


def _forget() -> None:
    lib.tasks.names.cache_clear()
    lib.tasks.get.cache_clear()


def wait_for(condition: Callable[[], object], what: str, seconds: float = 180.0) -> None:
    """Wait until something is true of another process or thread; fail with `what` when it never comes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.05)
