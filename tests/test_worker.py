"""The warm worker's client: replies reach who asked, and a child that dies harms one request only."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lib.jobs.worker import Worker, WorkerDied
from lib.task import InputError, Task
from tests.conftest import wait_for

CHILD = """
import json, os, sys, time
print("a library says hello")
for line in sys.stdin:
    asked = json.loads(line)
    def reply(event, **values):
        print(json.dumps({"id": asked["id"], "event": event, **values}), flush=True)
    op, payload = asked["op"], asked["payload"]
    if op == "die":
        print("boom", file=sys.stderr, flush=True)
        os._exit(1)
    if op == "hang":
        reply("progress", fraction=0.1, text="hanging")
        time.sleep(600)
    if op == "bad":
        reply("error", subject="a.npy", problem="it is empty", remedy="Give another")
        continue
    for step in range(payload.get("steps", 0)):
        reply("progress", fraction=(step + 1) / payload["steps"], text=f"step {step}")
    print("{not json", flush=True)
    reply("result", value={"pid": os.getpid(), "echo": payload})
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    made = Worker(command=(sys.executable, str(script)))
    yield made
    made.close()


def test_the_child_is_started_once_and_answers(worker: Worker) -> None:
    first, second = worker.request("echo", {"text": "µm²/s"}), worker.request("echo", {})
    assert first["echo"] == {"text": "µm²/s"}
    assert first["pid"] == second["pid"] != os.getpid()


def test_progress_arrives_in_order(worker: Worker) -> None:
    seen: list[tuple[float, str]] = []
    worker.request("echo", {"steps": 4}, lambda fraction, text: seen.append((fraction, text)))
    assert seen == [(0.25, "step 0"), (0.5, "step 1"), (0.75, "step 2"), (1.0, "step 3")]


def test_an_error_reply_is_an_input_error_and_the_child_lives_on(worker: Worker) -> None:
    pid = worker.request("echo", {})["pid"]
    with pytest.raises(InputError) as caught:
        worker.request("bad", {})
    assert not isinstance(caught.value, WorkerDied)
    assert str(caught.value) == "a.npy: it is empty. Give another"
    assert worker.request("echo", {})["pid"] == pid


def test_a_crash_costs_one_request(worker: Worker) -> None:
    pid = worker.request("echo", {})["pid"]
    with pytest.raises(WorkerDied, match="ended before it had answered"):
        worker.request("die", {})
    assert worker.request("echo", {})["pid"] != pid


def test_a_child_killed_while_idle_is_replaced_unnoticed(worker: Worker) -> None:
    pid = worker.request("echo", {})["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "the child to die")
    assert worker.request("echo", {})["pid"] != pid


def test_a_request_can_be_stopped_from_another_thread(worker: Worker) -> None:
    stop = threading.Event()
    with pytest.raises(WorkerDied, match="stopped as asked"):
        worker.request("hang", {}, lambda fraction, text: stop.set(), stop=stop)
    assert worker.request("echo", {"x": 1})["echo"] == {"x": 1}


def test_a_thread_that_waits_for_its_turn_can_give_up(worker: Worker) -> None:
    hanging, stop_first, stop_second = threading.Event(), threading.Event(), threading.Event()
    ended: list[str] = []

    def first() -> None:
        with pytest.raises(WorkerDied):
            worker.request("hang", {}, lambda fraction, text: hanging.set(), stop=stop_first)
        ended.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert hanging.wait(60)
    stop_second.set()
    with pytest.raises(WorkerDied, match="stopped as asked"):
        worker.request("echo", {}, stop=stop_second)
    assert ended == []  # the first was not disturbed
    stop_first.set()
    thread.join(60)
    assert ended == ["first"]


def test_a_failing_listener_does_not_mix_up_replies(worker: Worker) -> None:
    def fail(fraction: float, text: str) -> None:
        raise RuntimeError("the page is gone")

    with pytest.raises(RuntimeError):
        worker.request("echo", {"steps": 3, "who": "gone"}, fail)
    assert worker.request("echo", {"who": "next"})["echo"] == {"who": "next"}


def test_many_threads_get_their_own_answers(worker: Worker) -> None:
    answers: dict[int, int] = {}

    def ask(number: int) -> None:
        answers[number] = worker.request("echo", {"number": number})["echo"]["number"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {i: i for i in range(12)}


def test_close_ends_the_child(worker: Worker) -> None:
    pid = worker.request("echo", {})["pid"]
    worker.close()
    assert not psutil.pid_exists(pid)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory limits are kept on Linux only")
def test_the_real_worker_answers_under_its_memory_limit(toy: Task) -> None:
    worker = Worker(memory_mb=3000)
    try:
        pid = worker.request("ping", {})["pid"]
        limits = Path(f"/proc/{pid}/limits").read_text()
        line = next(text for text in limits.splitlines() if text.startswith("Max data size"))
        assert int(line.split()[3]) == 3000 * 2**20
        with pytest.raises(InputError, match="there is no such task") as caught:
            worker.request("predict", {"task": "nothing"})
        assert not isinstance(caught.value, WorkerDied)
        assert worker.request("ping", {})["pid"] == pid
    finally:
        worker.close()
