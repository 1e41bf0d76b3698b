"""How long a frame of a run of 10 000 frames of 4 Mpx takes in the browser, from the key to the drawn picture.

A server and a browser as in `benchmarks.app`. The run is an Eiger master whose hundred links lead to one file of a hundred
compressed frames, made of eight that were simulated. Frames are asked for by someone who looks at each for a while, by someone
in a hurry, and by number, far from the one before. Needs Chromium.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from benchmarks.limits import Limits
from lib.tasks.bragg import TASK, detector, simulate
from lib.tasks.bragg.config import SIMULATION_PRESETS, Simulation
from tests.e2e.server import Server
from tests.e2e.session import Session, chromium

FRAME_S, OPEN_S = 0.3, 30.0
DIFFERENT, PER_FILE, FILES = 8, 100, 100
FRAMES = 12  # of each way to ask
LOOKING_MS = 1500
# Milliseconds from now to the picture of another frame, drawn.
WATCH = """(canvas) => {
  const begin = performance.now();
  window.shown = new Promise((done, fail) => {
    new MutationObserver((_changes, watch) => {
      watch.disconnect();
      requestAnimationFrame(() => done(performance.now() - begin));
    }).observe(canvas, {attributes: true, attributeFilter: ['aria-label']});
    setTimeout(() => fail(new Error('no other frame was shown within a minute')), 60000);
  });
}"""


def write_run(folder: Path, rng: np.random.Generator) -> Path:
    """`run_master.h5` and its data file, of an Eiger 4M with a crystal in every second frame."""
    config = Simulation.parse({**SIMULATION_PRESETS["Eiger 4M"], "hit_fraction": 0.5})
    where = detector.geometry(config)
    experiment = simulate.set_up(config, where, rng)
    with h5py.File(folder / "run_data_000001.h5", "w") as file:
        shape = (PER_FILE, *where.shape)
        frames = file.create_dataset("entry/data/data", shape, np.uint16, chunks=(1, *where.shape), **hdf5plugin.Bitshuffle())
        for number in range(DIFFERENT):
            frames[number] = np.clip(simulate.expose(experiment, rng)[0].pixels, 0, 65_535)
        for number in range(DIFFERENT, PER_FILE):
            kind, packed = frames.id.read_direct_chunk((number % DIFFERENT, 0, 0))
            frames.id.write_direct_chunk((number, 0, 0), packed, kind)
    with h5py.File(folder / "run_master.h5", "w") as file:
        file["entry/instrument/detector/pixel_mask"] = (~experiment.pixels.mask).astype(np.uint32)
        links = file.create_group("entry/data")
        for number in range(1, FILES + 1):
            links[f"data_{number:06d}"] = h5py.ExternalLink("run_data_000001.h5", "/entry/data/data")
    return folder / "run_master.h5"


def opened(session: Session) -> float:
    """Seconds until the run can be looked at: the Clean page with its folder read, one frame shown."""
    session.open(f"{TASK.name}-clean")
    session.page.get_by_role("radio", name="Folder under data/").locator("visible=true").first.click()
    session.settle()
    begin = time.perf_counter()
    session.press("Read the files").sees(f"of {PER_FILE * FILES:,} samples were measured", timeout_s=300)
    seconds = time.perf_counter() - begin
    session.drawn().page.get_by_role("radio", name="Look", exact=True).locator("visible=true").first.click()
    session.settle()
    session.page.wait_for_selector(".plate canvas[aria-label]")
    return seconds


def stepped(session: Session, pause_ms: float) -> list[float]:
    """Seconds for each of some frames by the key n, after having looked at the one before for a while."""
    canvas, seconds = session.page.locator(".plate canvas"), []
    for _ in range(FRAMES):
        session.page.wait_for_timeout(pause_ms)
        canvas.focus()
        canvas.evaluate(WATCH)
        session.page.keyboard.press("n")
        seconds.append(session.page.evaluate("() => window.shown") / 1000)
    return seconds


def jumped(session: Session, rng: np.random.Generator) -> list[float]:
    """Seconds for frames by their numbers, anywhere in the run."""
    field = session.page.get_by_role("spinbutton", name=f"Frame, of {PER_FILE * FILES}", exact=True)
    seconds = []
    for number in rng.integers(1, PER_FILE * FILES, FRAMES):
        session.page.wait_for_timeout(LOOKING_MS)
        field.fill(str(number))
        session.page.locator(".plate canvas").evaluate(WATCH)
        field.press("Enter")
        seconds.append(session.page.evaluate("() => window.shown") / 1000)
    return seconds


def show_frames(limits: Limits, seed: int = 0) -> None:
    """Make the run, open it, and print how long its frames take; the median has to keep the limit, the slowest is told."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="lightbench-benchmark-") as home:
        folder = Path(home) / "data" / TASK.name / "run"
        folder.mkdir(parents=True)
        write_run(folder, rng)
        with chromium() as browser, Server(Path(home)) as server:
            session = Session(browser, server.url)
            print(f"\n{PER_FILE * FILES:,} frames of 4 Mpx in the browser")
            limits.show("run opened on the Clean page, s", opened(session), 0, OPEN_S)
            ways = {
                "the next frame, after a look at this one": stepped(session, LOOKING_MS),
                "the next frame, in a hurry": stepped(session, 0), "a frame by its number": jumped(session, rng),
            }  # fmt: skip
            for name, seconds in ways.items():
                limits.show(f"{name}, s (slowest {max(seconds):.2f})", statistics.median(seconds), 0, FRAME_S)
            session.close()
