"""How fast and how lean the app is: server start, page switch, a moved slider, memory with eight open tabs, one warm prediction.

    python -m benchmarks.app

Prints a table of figure, value and limit; exits with 1 where a limit is missed. Needs the shipped model and Chromium.
Runs on a home folder of its own, so nobody's runs are touched.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser

from lib import tasks
from tests.e2e.server import Server
from tests.e2e.session import QUIET_MS, Session, chromium

SESSIONS = 8
REPEATS = 5
MOVES = 7
WAIT_MS = 2500  # after a key press, longer than any redraw
# Notes when the page last changed, in seconds of the clock.
WATCH = """() => new MutationObserver(() => { window.lastChange = (performance.timeOrigin + performance.now()) / 1000; })
  .observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true})"""
STAGES = ("simulate", "clean", "train", "results", "predict")


@dataclass(frozen=True)
class Figure:
    """One measured value and the most it may be."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def kept(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.name:<58} {self.value:8.2f} {self.limit:8.2f} {self.unit:<3} {'ok' if self.kept else 'MISSED'}"


def first_page(server: Server, browser: Browser) -> Figure:
    """From the start of a server process to its drawn first page; the middle of three starts."""
    seconds = []
    for _ in range(3):
        server.stop()
        session = Session(browser, server.url)
        begin = time.perf_counter()
        server.start()
        session.open()
        seconds.append(time.perf_counter() - begin)
        session.close()
    return Figure("server start to first page", statistics.median(seconds), 3.0, "s")


def page_switches(session: Session, task: str) -> Figure:
    """The slowest of the pages, each the middle of several clicks in the menu."""
    session.open()
    slowest = 0.0
    for stage in STAGES:
        seconds = [switch(session, f"{task}-{stage}") for _ in range(REPEATS)]
        slowest = max(slowest, statistics.median(seconds))
    return Figure("slowest page switch (click in the menu to drawn page)", slowest, 1.0, "s")


def switch(session: Session, path: str) -> float:
    """Seconds from a click in the menu to the drawn page, coming from Jobs."""
    session.page.locator('[data-testid=stSidebarNavLink][href$="/jobs"]').click()
    session.page.wait_for_url("**/jobs*")
    session.settle()
    begin = time.perf_counter()
    session.page.locator(f'[data-testid=stSidebarNavLink][href$="/{path}"]').click()
    session.page.wait_for_url(f"**/{path}*")
    session.settle()
    return time.perf_counter() - begin - QUIET_MS / 1000  # for so long nothing changed any more


def moved_slider(session: Session, task: str) -> Figure:
    """Key press on the first slider of Simulate to the page's last change; the middle of several, after one that warms."""
    session.open(f"{task}-simulate").drawn()
    session.page.evaluate(WATCH)
    slider = session.page.get_by_role("slider").first
    slider.focus()
    seconds = []
    for _ in range(MOVES + 1):
        begin = time.time()
        slider.press("ArrowRight")
        session.page.wait_for_timeout(WAIT_MS)
        seconds.append(session.page.evaluate("() => window.lastChange") - begin)
    return Figure("moved slider on Simulate, key press to last change", statistics.median(seconds[1:]), 0.5, "s")


def memory(server: Server, browser: Browser, task: str) -> Figure:
    """Resident memory of the server process with eight tabs open, each of which has visited every page."""
    sessions = [Session(browser, server.url) for _ in range(SESSIONS)]
    for session in sessions:
        for stage in STAGES:
            session.open(f"{task}-{stage}")
    used = server.memory_mb()
    for session in sessions:
        session.close()
    return Figure(f"dashboard process with {SESSIONS} open sessions", used, 350.0, "MB")


def warm_prediction(session: Session, task: str) -> Figure:
    """Click on Predict to the result of one uploaded file, after a first one has warmed the worker."""
    seconds, file = [], tasks.get(task).example()[0]
    for _ in range(REPEATS):
        session.open(f"{task}-predict").upload(file).settle()
        begin = time.perf_counter()
        session.press("Predict", exact=True)
        session.sees("central 68 % interval", timeout_s=60)
        seconds.append(time.perf_counter() - begin)
        session.settle()
    return Figure("warm prediction, click to result", statistics.median(seconds[1:]), 1.0, "s")


def main() -> int:
    """Measure everything with one server and print the table."""
    task = "diffusion"
    with tempfile.TemporaryDirectory() as folder, chromium() as browser, Server(Path(folder)) as server:
        figures = [first_page(server, browser)]
        session = Session(browser, server.url)
        figures += [page_switches(session, task), moved_slider(session, task), warm_prediction(session, task)]
        figures += [memory(server, browser, task)]
        session.close()
    print(f"{'':<58} {'measured':>8} {'limit':>8}")
    for figure in figures:
        print(figure)
    return 0 if all(figure.kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
