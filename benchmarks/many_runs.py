"""What 500 finished runs cost every page, and 200 listed runs the command line.

    python -m benchmarks.many_runs [--runs 500]

Runs are made up from the shipped ones, by hard links under new ids, in a home folder of its own. Prints a table of figure and
limit; exits with 1 where a limit is missed. Needs Chromium. (200 runs that wait on a cluster: python -m benchmarks.jobs.)
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from benchmarks.app import STAGES, switch
from benchmarks.limits import Limits
from lib import runs, tasks
from lib.__main__ import main as command_line
from tests.e2e.server import Server
from tests.e2e.session import Session, chromium

PAGE_S, LIST_S = 1.0, 1.0
REPEATS = 3
OWN = ("config.json", "status.json")  # each run has its own; the others are links


def make_runs(home: Path, n: int) -> None:
    """N finished runs, the tasks in turn, one every minute, some of them with another seed."""
    shipped = {name: [run for run in runs.list_runs(name) if run.shipped] for name in tasks.names()}
    names = [name for name, found in shipped.items() if found]
    for number in range(n):
        task = names[number % len(names)]
        source = shipped[task][number % len(shipped[task])].folder
        made = 1_700_000_000 + 60 * number
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(made))
        target = home / "checkpoints" / task / f"{stamp}-night-{number:04x}"
        shutil.copytree(source, target, copy_function=os.link)
        about, status = (json.loads((source / name).read_text()) for name in OWN)
        about |= {"name": f"night {number}", "created_at": made, "config": about["config"] | {"seed": number % 7}}
        for name, values in zip(OWN, (about, status | {"created_at": made}), strict=True):
            (target / name).unlink()
            runs.write_atomic(target / name, json.dumps(values))


def seconds(act: Callable[[], object]) -> float:
    """Processor time that it takes, which nobody else's load on the machine changes."""
    begin = time.process_time()
    act()
    return time.process_time() - begin


def open_page(path: str) -> None:
    """Draw the page at a URL path such as `home` or `diffusion-train`, without a browser."""
    page = AppTest.from_file(str(runs.ROOT / "pages" / f"{path.rpartition('-')[2]}.py"), default_timeout=60)
    page.session_state["page_path"] = path
    page.run()
    if page.exception or page.error:
        raise RuntimeError(f"{path}: {[error.value for error in page.error]}")


def paths() -> list[str]:
    """Every page that there is."""
    return ["home", "jobs", *(f"{task}-{stage}" for task in tasks.names() for stage in STAGES)]


def on_the_server(limits: Limits) -> None:
    """Each page drawn without a browser: the first time in this process, and the middle of some further times."""
    for path in paths():
        first = seconds(lambda path=path: open_page(path))  # type: ignore[misc]
        again = statistics.median(seconds(lambda path=path: open_page(path)) for _ in range(REPEATS))  # type: ignore[misc]
        limits.show(f"{path}: drawn by the server ({first:.2f} s at first), CPU s", again, -math.inf, PAGE_S)


def in_the_browser(limits: Limits, home: Path) -> None:
    """Each page switched to by a click in the menu, the middle of some; Jobs by its address."""
    with Server(home) as server, chromium() as browser:
        session = Session(browser, server.url)
        session.open()
        for path in paths()[2:]:
            took = statistics.median(switch(session, path) for _ in range(REPEATS))
            limits.show(f"{path}: click in the menu to drawn page, s", took, -math.inf, PAGE_S)
        session.close()


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--no-browser", action="store_true", help="only what the server does")
    given = parser.parse_args()
    limits = Limits()
    with tempfile.TemporaryDirectory(dir=runs.ROOT.parent) as folder:  # hard links need the same disk
        os.environ["LIGHTBENCH_HOME"] = folder
        make_runs(Path(folder), given.runs)
        took = seconds(lambda: command_line(["jobs", "list"]))
        limits.show(f"jobs list of {given.runs} runs, CPU s", took, -math.inf, LIST_S)
        on_the_server(limits)
        if not given.no_browser:
            in_the_browser(limits, Path(folder))
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
