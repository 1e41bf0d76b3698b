"""How soon 10 000 pictures are open, the first time and the second, and how soon Simulate follows a slider in the browser.

    python -m benchmarks.reflectance_app [--images 10000] [--parts files slider]

`files` reads a table with so many pictures of 256 × 256 px (PNG), each in a process of its own, on an empty cache and again.
`slider` moves one in Chromium: from the key press to the redrawn micrograph and to the ten channels, which the server makes
after it. Both on a home folder of their own; wall times, so on a quiet machine. Exits with 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.limits import Limits
from lib.tasks.reflectance import demo
from lib.tasks.reflectance.config import CHANNELS
from tests.e2e.server import Server
from tests.e2e.session import Session, chromium

FIRST_S, AGAIN_S, STEPS_AT_LEAST = 60.0, 2.0, 20
IMAGE_S, CHANNELS_S = 0.5, 3.0
SLIDER = "Bead density"
MOVES, BETWEEN_MS = 10, 3500
# Reads the table and prints the seconds it took and how often it told how far it is.
READ = """
import sys, time
from pathlib import Path
from lib import tasks
task, told = tasks.get("reflectance"), []
begin = time.perf_counter()
samples = task.reporting(lambda share, text: told.append(share)).read(Path(sys.argv[1]), task.Acquisition())
print(len(samples), time.perf_counter() - begin, len(told))
"""
# Notes, in seconds of the clock, when the picture last changed and when the numbers above the bars did.
WATCH = """() => {
  const seen = {}; window.changed = {};
  const note = (what, value) => { if (value && value !== seen[what]) {
    seen[what] = value; window.changed[what] = (performance.timeOrigin + performance.now()) / 1000; } };
  const look = () => {
    const figures = [...document.querySelectorAll('.live-figure')];
    const image = figures.map(one => one.querySelector('image')).find(Boolean);
    note('image', image && (image.getAttribute('href') || image.getAttribute('xlink:href')));
    const bars = figures.find(one => one.textContent.includes('poldiff'));
    note('channels', bars && [...bars.querySelectorAll('.bartext')].map(one => one.textContent).join(' '));
    setTimeout(look, 15);
  };
  look();
}"""


def written(folder: Path, count: int) -> Path:
    """A table and its pictures, all different: those of the demo set, shifted."""
    samples, rng = demo.load(None), np.random.default_rng(0)
    rows = []
    for number in range(count):
        row = number % len(samples)
        pixels = np.roll(np.asarray(samples.inputs["image"][row]), (number // len(samples), int(rng.integers(256))), (0, 1))
        name = f"{number:05d}.png"
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        rows.append({"SEM_filenames": name, **{channel: samples.table[f"true_{channel}"].iloc[row] for channel in CHANNELS}})
    pd.DataFrame(rows).to_csv(folder / "targets.csv", index=False)
    return folder / "targets.csv"


def show_files(home: Path, count: int, limits: Limits) -> None:
    """Seconds to read the table with an empty cache, and again."""
    pictures = home / "pictures"
    pictures.mkdir()
    table = written(pictures, count)
    for name, limit in (("first", FIRST_S), ("again", AGAIN_S)):
        environment = {**os.environ, "LIGHTBENCH_HOME": str(home)}
        said = subprocess.run(
            [sys.executable, "-c", READ, str(table)], env=environment, check=True, capture_output=True, text=True
        )
        n, seconds, told = said.stdout.split()
        if int(n) != count:
            raise RuntimeError(f"{n} of {count} pictures were read")
        limits.show(f"{count} pictures, {name} (s)", float(seconds), -math.inf, limit)
        if name == "first":
            limits.show("  times that it told how far it is", float(told), STEPS_AT_LEAST, math.inf)


def show_slider(home: Path, limits: Limits) -> None:
    """Seconds from the key press to the redrawn micrograph and to the channels; the middle of several, after one that warms."""
    image, channels = [], []
    with Server(home) as server, chromium() as browser:
        session = Session(browser, server.url).open("reflectance-simulate").drawn()
        session.page.evaluate(WATCH)
        slider = session.page.get_by_role("slider", name=SLIDER).first
        slider.focus()
        for _ in range(MOVES + 1):
            begin = time.time()
            slider.press("ArrowRight")
            session.page.wait_for_timeout(BETWEEN_MS)
            changed = session.page.evaluate("() => window.changed")
            image.append(changed["image"] - begin)
            channels.append(changed["channels"] - begin)
    if min(*image[1:], *channels[1:]) < 0:
        raise RuntimeError(f"a move changed nothing within {BETWEEN_MS} ms")
    limits.show("moved slider to redrawn micrograph (s)", statistics.median(image[1:]), -math.inf, IMAGE_S)
    limits.show("moved slider to ten channels (s)", statistics.median(channels[1:]), -math.inf, CHANNELS_S)
    print(f"  slowest of {MOVES}: {max(image[1:]):.2f} and {max(channels[1:]):.2f} s")


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("files", "slider"), default=["files", "slider"])
    parser.add_argument("--images", type=int, default=10_000)
    asked, limits = parser.parse_args(arguments), Limits()
    with tempfile.TemporaryDirectory() as folder:
        if "files" in asked.parts:
            show_files(Path(folder), asked.images, limits)
        if "slider" in asked.parts:
            show_slider(Path(folder), limits)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
