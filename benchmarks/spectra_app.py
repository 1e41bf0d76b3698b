"""Memory of the dashboard process with 60 000 × 1338 spectra open on the Clean page, and how long a threshold takes to redraw it.

A server and a browser as in `benchmarks.app`; every view of the page is looked at. Memory is the resident set, to which the
pages of the memory-mapped table count that have been looked at. Needs Chromium.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Locator

from benchmarks.limits import Limits
from benchmarks.spectra_speed import ROWS, SLIDER_S, busy, demo, written
from lib.tasks.spectra import TASK
from tests.e2e.server import Server
from tests.e2e.session import QUIET_MS, Session, chromium

MEMORY_MB = 1500.0
SESSIONS = 2  # tabs, each with the table open
READING_S = 300
STEPS = 5


def opened(session: Session, rows: int) -> Session:
    """The Clean page with the table read."""
    session.open(f"{TASK.name}-clean")
    session.page.get_by_role("radio", name="Folder under data/").or_(
        session.page.get_by_role("button", name="Folder under data/")
    ).locator("visible=true").first.click()
    session.settle().press("Read the files")
    session.sees(f"of {rows}", timeout_s=READING_S)
    return session.drawn()


def views(session: Session) -> Locator:
    """The pills that choose what to look at."""
    return session.page.locator("[data-testid=stButtonGroup]").filter(has_text="Integrals").locator("button")


def largest_mb(server: Server, session: Session) -> float:
    """The most memory of the server process while each view was drawn in turn."""
    most = server.memory_mb()
    pills = views(session)
    for number in range(pills.count()):
        pills.nth(number).click()
        session.drawn()
        most = max(most, server.memory_mb())
    pills.first.click()
    session.drawn()
    return most


def threshold_s(session: Session) -> float:
    """Seconds from one step of the rules' first slider, or number field, to the drawn page; the middle of several steps."""
    field = session.page.locator("[role=slider], input[type=number]").locator("visible=true").first
    seconds = []
    for _ in range(STEPS):
        field.focus()
        field.press("ArrowUp")
        begin = time.perf_counter()
        field.press("Enter")  # what a number field waits for
        session.drawn()
        seconds.append(time.perf_counter() - begin - QUIET_MS / 1000)  # for so long nothing changed any more
    return statistics.median(seconds)


def show_app(seed: int, limits: Limits, rows: int = ROWS) -> None:
    """Open the table in tab after tab, look at every view, print what the server process holds."""
    with tempfile.TemporaryDirectory(prefix="lightbench-benchmark-") as folder:
        written(demo(rows, seed), Path(folder) / "data" / TASK.name / "demo")
        with chromium() as browser, Server(Path(folder)) as server:
            print(f"\nDashboard process with {rows:,} samples open on the Clean page; {busy()}")
            sessions = []
            for number in range(1, SESSIONS + 1):
                sessions.append(opened(Session(browser, server.url), rows))
                most = largest_mb(server, sessions[-1])
                tabs = f"{number} tab{'s' if number > 1 else ''}"
                limits.show(f"memory with the table open in {tabs}, MB", most, -math.inf, MEMORY_MB)
            seconds = threshold_s(sessions[0])
            limits.show("threshold, key to drawn page in the browser, s", seconds, -math.inf, SLIDER_S)
            for session in sessions:
                session.close()
