"""The pictures of README and docs, taken from a running app: `make screenshots`.

python -m tests.e2e.screenshots docs/images
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from lib import tasks
from tests.e2e.server import Server
from tests.e2e.session import Session, chromium

WIDE = (1360, 900)
TALL = (1360, 1250)


def take(server: Server, browser: Browser, task: str, folder: Path) -> None:
    """One picture per page, with something to see on each."""
    tab = Session(browser, server.url, size=TALL)
    tab.open(f"{task}-predict?sample=1").sees("Download everything", timeout_s=120)
    tab.drawn().shoot(folder / "predict.png")
    tab.open(f"{task}-simulate").drawn().shoot(folder / "simulate.png")
    tab.open(f"{task}-results").drawn().shoot(folder / "results.png")
    tab.open(f"{task}-clean").press("Sample").settle().drawn().shoot(folder / "clean.png")
    tab.close()
    tab = Session(browser, server.url, size=TALL)
    start_training(tab, task).drawn().shoot(folder / "train.png")
    tab.close()
    tab = Session(browser, server.url, size=WIDE)
    tab.open().drawn().shoot(folder / "home.png")
    tab.close()
    tab = Session(browser, server.url, size=TALL, scheme="dark")
    tab.open(f"{task}-simulate").drawn().shoot(folder / "dark.png")
    tab.close()


def start_training(tab: Session, task: str) -> Session:
    """A small run, caught after a few epochs."""
    tab.open(f"{task}-train").press("Start training")
    return tab


def main(folder: Path) -> None:
    """Start an app of our own, take the pictures, stop it."""
    with tempfile.TemporaryDirectory() as home, chromium() as browser, Server(Path(home)) as server:
        take(server, browser, tasks.names()[0], folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
