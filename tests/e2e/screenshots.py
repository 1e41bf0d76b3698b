"""The pictures of README and docs, taken from a running app with the shipped model: `make screenshots`.

python -m tests.e2e.screenshots docs/images
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser

from lib.runs import Run
from tests.e2e.server import Server, train
from tests.e2e.session import Session, chromium

WIDE, TALL = (1360, 900), (1360, 1250)
EPOCHS_SEEN = 15
DEADLINE_S = 900


def take(server: Server, browser: Browser, folder: Path) -> None:
    """One picture per page, with something to see on each."""
    tab = Session(browser, server.url, size=TALL)
    tab.open("diffusion-predict?sample=1").sees("Download everything", timeout_s=120)
    tab.drawn().shoot(folder / "predict.png")
    tab.open("diffusion-simulate").drawn().shoot(folder / "simulate.png")
    tab.open("diffusion-results").drawn().shoot(folder / "results.png")
    tab.open("diffusion-clean").page.get_by_text("Sample", exact=True).locator("visible=true").first.click()
    tab.settle().press("Read the files").sees("Removed by rules", timeout_s=120)
    tab.drawn().shoot(folder / "clean.png")
    tab.close()
    tab = Session(browser, server.url, size=WIDE, scheme="dark")
    tab.open("diffusion-simulate").drawn().shoot(folder / "dark.png")
    tab.close()
    watch_training(server, browser, folder)


def watch_training(server: Server, browser: Browser, folder: Path) -> None:
    """Home and Train while a small run is on its way; the run is ended with the server."""
    settings = {"clips_per_epoch": 1024, "validation_clips": 512, "batch_size": 32, "width": 8}
    train(server.home, "my microscope", "--background", epochs=40, **settings)
    (run,) = (Run(path) for path in (server.home / "checkpoints" / "diffusion").iterdir())
    begin = time.monotonic()
    while len(run.metrics()) < EPOCHS_SEEN:
        if run.status().finished or time.monotonic() - begin > DEADLINE_S:
            raise RuntimeError(f"the run does not get on:\n{run.log(20)}")
        time.sleep(0.5)
    tab = Session(browser, server.url, size=TALL)
    tab.open(f"diffusion-train?run={run.id}").drawn().shoot(folder / "train.png")
    tab.close()
    tab = Session(browser, server.url, size=WIDE)
    tab.open().drawn().shoot(folder / "home.png")
    tab.close()
    server.end_runs()


def main(folder: Path) -> None:
    """Start an app of our own, take the pictures, stop it."""
    with tempfile.TemporaryDirectory() as home, chromium() as browser, Server(Path(home)) as server:
        take(server, browser, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
