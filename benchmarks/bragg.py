"""How well and how fast Bragg peaks are found, beside the programs of the field.

    OMP_NUM_THREADS=1 python -m benchmarks.bragg [--data ../shared/data/bragg] [--finders peakfinder8 dispersion ...]
    OMP_NUM_THREADS=1 python -m benchmarks.bragg --parts app

Each finder's settings are the best of its grid on the simulated frames; the same settings are then scored on real frames that
it was never tuned on. Peaks count as the same within 2 px; truth of real frames is the lattice that was refined against them, and
a peak on a reflection too weak to be asked for counts neither way. The files know one cut, I/σ > 5; for a second one, I/σ > 8,
the spots that must be found are measured here, in 5 × 5 pixels over the background of a ring around. Milliseconds are
CPU time for one frame, the best of several repeats, as other work on the machine stretches the clock's; compare the ratios, which
are taken against our peakfinder8 run in turn with the other.

Peers are measured where they can be imported, for example from a folder on PYTHONPATH that was filled with
`pip install --no-deps --target FOLDER ondamonitor==23.8.3 ImageD11`. The first holds the C++ peakfinder8 (GPL-3), to which ours
is held: the same peaks, at the same places, in the same time. Figures of programs that need more than pip were taken before on
the same frames by the same protocol. The part `app` measures how long a frame of a long run takes in a browser. Exits with 1
where a promise is missed.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks import bragg_app, bragg_learned
from benchmarks.limits import Limits
from benchmarks.peers import module
from lib.tasks.bragg import finders, matching
from lib.tasks.bragg.frames import Frame
from lib.tasks.bragg.geometry import Geometry
from lib.tasks.bragg.peakfinder8 import radial_bins, radial_limits

PARTS = ("finders", "app")
SIMULATED = "synthetic_1024"
SETS = (SIMULATED, "insulin", "snase")
REPEATS = 5
REFERENCE = "peakfinder8"
STRONG = 8.0  # I/σ of the second cut
APERTURE_PX, RING_PX, RING_CLIP, FEWEST_OF_RING = 2, (5.0, 8.0), 3.5, 30
LEAST_F1 = (0.98, 0.955, 0.89)  # of the learned finder on SETS
MOST_LEARNED_TIME = 2.0
AGREE_PX, AGREE_SHARE, MOST_TIME = 0.1, 0.99, 1.2
# F1 on simulated frames (1 and 4 Mpx), insulin, snase; time relative to the C peakfinder8 of the same run.
MEASURED_BEFORE = {
    "DIALS 3.12 dispersion extended": (0.940, 0.890, 0.792, 97 / 47),
    "robust peak finder": (0.635, 0.793, 0.854, 129 / 47),
}
COMPARED: tuple[dict[str, Any], ...] = (  # settings at which ours is held to the C version
    {"adc_thresh": 0.0, "min_snr": 5.0, "min_pix_count": 2, "max_pix_count": 200, "local_bg_radius": 3},
    {"adc_thresh": 20.0, "min_snr": 4.0, "min_pix_count": 1, "max_pix_count": 30, "local_bg_radius": 4},
    {"adc_thresh": 100.0, "min_snr": 7.0, "min_pix_count": 3, "max_pix_count": 100, "local_bg_radius": 2},
    {"adc_thresh": 0.0, "min_snr": 3.5, "min_pix_count": 3, "max_pix_count": 200, "local_bg_radius": 3},
)

Settings = dict[str, Any]
Find = Callable[[Frame, Settings], np.ndarray]


@dataclass(frozen=True)
class Truth:
    """A frame, what has to be found in it and what may be: y and x (n, 2) in pixels; I/σ (n,) of what has to be found."""

    frame: Frame
    must_find_yx: np.ndarray
    may_find_yx: np.ndarray
    i_over_sigma: np.ndarray

    def score(self, found: np.ndarray, cut: float = -math.inf) -> matching.Score:
        """What was found (n, 2), where only spots above the cut have to be."""
        return matching.score(found, self.must_find_yx[self.i_over_sigma > cut], self.may_find_yx)


@dataclass(frozen=True)
class Contestant:
    """A finder: how it is called, the settings to choose among, what gives y and x (n, 2), and what to install for it."""

    name: str
    grid: dict[str, tuple[Any, ...]]
    find: Find
    needs: tuple[str, ...] = field(default=())

    @property
    def installed(self) -> bool:
        """Whether all it needs can be imported."""
        return all(module(name) is not None for name in self.needs)

    def settings(self) -> Iterator[Settings]:
        """Every combination of the grid."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values))


# --- the frames -------------------------------------------------------------------------------------------------------
def load(path: Path) -> list[Truth]:
    """Frames and truth of one file, as SOURCES.md beside it describes them."""
    with h5py.File(path) as file:
        detector = file["entry/instrument/detector"]
        mask = detector["mask"][()] == 0
        y, x = detector["beam_center_yx"][()].tolist()
        geometry, truth = Geometry.flat(mask.shape, (y, x)), file["truth"]
        frames = [
            Frame(pixels.astype(np.float32), mask, geometry, path.name, n) for n, pixels in enumerate(file["entry/data/data"][:])
        ]
        must, may = ([truth[f"{f.number:03}/{kind}_find_yx"][()] for f in frames] for kind in ("must", "may"))
        return [Truth(frame, a, b, i_over_sigma(frame, a)) for frame, a, b in zip(frames, must, may, strict=True)]


def i_over_sigma(frame: Frame, places_yx: np.ndarray) -> np.ndarray:
    """Net sum of the pixels at each place (n, 2) over the spread of that sum were it background; infinite without background."""
    reach = int(RING_PX[1])
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside, radius = (abs(y) <= APERTURE_PX) & (abs(x) <= APERTURE_PX), np.hypot(y, x)
    ring = (radius >= RING_PX[0]) & (radius <= RING_PX[1])
    pixels, good = np.pad(frame.pixels, reach), np.pad(frame.mask, reach)
    out = np.full(len(places_yx), np.inf)
    for n, (row, column) in enumerate(np.rint(places_yx).astype(int)):
        here = np.s_[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        values, around, on = pixels[here], good[here] & ring, good[here] & inside
        level = values[around]
        if len(level) < FEWEST_OF_RING:
            continue
        far = np.abs(level - np.median(level))
        level = level[far <= RING_CLIP * 1.4826 * np.median(far) + 1e-6]
        size = np.count_nonzero(on)
        spread = level.std() * math.sqrt(size * (1 + size / len(level)))
        out[n] = (values[on] - level.mean()).sum() / spread if spread > 0 else np.inf
    return out


# --- who takes part ---------------------------------------------------------------------------------------------------
def ours(name: str) -> Find:
    """One of our finders by name."""
    return lambda frame, settings: finders.find(frame, finders.get(name)(**settings))[["y_px", "x_px"]].to_numpy()


def c_peakfinder8(frame: Frame, settings: Settings) -> np.ndarray:
    """OM's build; frames of one panel only."""
    height, width = frame.pixels.shape
    none = np.zeros(1, np.int32)  # of the pixels that its fast mode would sample
    found = module("om.algorithms._crystallography").peakfinder_8(
        2048, frame.pixels, mask_of(frame), radius_of(frame.geometry), 0, none, none, 0, width, height, 1, 1,
        settings["adc_thresh"], settings["min_snr"], settings["min_pix_count"], settings["max_pix_count"],
        settings["local_bg_radius"],
    )  # fmt: skip
    return np.array([found[1], found[0]]).T


@functools.lru_cache(maxsize=2)
def radius_of(geometry: Geometry) -> np.ndarray:
    """Distance from the beam (H, W), once for all frames, as OM keeps it."""
    return geometry.radius_px()


def mask_of(frame: Frame) -> np.ndarray:
    """1 for good, as OM wants it, without a copy."""
    return frame.mask.view(np.int8)


def imaged11(frame: Frame, settings: Settings) -> np.ndarray:
    """Connected pixels by ImageD11, of the frame less the mean of its radius, over the spread of its radius."""
    peer = module("ImageD11.cImageD11")
    peer.cimaged11_omp_set_num_threads(1)
    bins, cut = radial_bins(frame.geometry), 5.0
    mean, high = radial_limits(frame.pixels.ravel(), frame.mask.ravel(), bins.ravel(), int(bins.max()) + 1, cut, -math.inf)
    spread = np.maximum((high - mean) / cut, 1e-6)
    excess = np.where(frame.mask, (frame.pixels - mean[bins]) / spread[bins], 0).astype(np.float32)
    labels = np.zeros(excess.shape, np.int32)
    count = peer.connectedpixels(excess, labels, settings["sigmas"])
    if not count:
        return np.empty((0, 2))
    blobs = peer.blobproperties(excess, labels, count)
    blobs = blobs[blobs[:, peer.s_1] >= settings["min_pix_count"]]
    return np.asarray(blobs[:, [peer.s_sI, peer.s_fI]] / blobs[:, [peer.s_I]])


def contestants() -> list[Contestant]:
    """Everyone there is; a finder that is added here takes part in every table."""
    radial = {
        "adc_thresh": (0.0,),
        "min_snr": (3.0, 3.5, 4.0, 4.5, 5.0, 6.0),
        "min_pix_count": (1, 2, 3),
        "local_bg_radius": (3, 5),
    }
    window = {"min_snr": (0.0, 4.0), "sigma_background": (2.0, 4.0), "sigma_strong": (2.5, 3.0, 4.0), "kernel_size": (3, 4),
              "min_pix_count": (2, 3)}  # fmt: skip
    area = {"adc_thresh": (60.0, 80.0, 100.0), "min_snr": (0.0, 6.0, 10.0), "min_pix_count": (1, 2)}
    return [
        Contestant("learned", {}, bragg_learned.find),
        Contestant("peakfinder8", radial, ours("peakfinder8")),
        Contestant("peakfinder8 sampled", {**radial, "sampled": (True,)}, ours("peakfinder8")),
        Contestant("dispersion", window, ours("dispersion")),
        Contestant("local_maxima", area, ours("local_maxima")),
        Contestant("line_maxima", {"adc_thresh": (85.0, 90.0, 95.0, 100.0, 110.0, 120.0)}, ours("line_maxima")),
        Contestant("C peakfinder8", {**radial, "max_pix_count": (200,)}, c_peakfinder8, ("om.algorithms._crystallography",)),
        Contestant("ImageD11", {"sigmas": (2.5, 3.0, 3.5, 4.0, 5.0), "min_pix_count": (1, 2, 3)}, imaged11,
                   ("ImageD11.cImageD11",)),
    ]  # fmt: skip


def _found(name: str, settings: Settings, frame: Frame) -> np.ndarray:
    return ours(name)(frame, settings)


# --- the measurements -------------------------------------------------------------------------------------------------
def scored(find: Find, settings: Settings, frames: Sequence[Truth]) -> matching.Score:
    """The counts over all frames."""
    return matching.total(t.score(find(t.frame, settings)) for t in frames)


def chosen(contestant: Contestant, simulated: Sequence[Truth]) -> Settings:
    """The settings with the highest F1 on simulated frames, the first of equals."""
    return max(contestant.settings(), key=lambda settings: scored(contestant.find, settings, simulated).f1)


def timed(pairs: Sequence[tuple[Find, Settings]], frames: Sequence[Truth]) -> list[float]:
    """CPU milliseconds per frame of some finders run in turn: the best of several repeats, the median over up to four frames."""
    spent: list[list[float]] = [[] for _ in pairs]
    for truth in frames[:4]:
        best = [math.inf] * len(pairs)
        for _ in range(REPEATS):
            for k, (find, settings) in enumerate(pairs):
                begin = time.process_time()
                find(truth.frame, settings)
                best[k] = min(best[k], (time.process_time() - begin) * 1000)
        for k, value in enumerate(best):
            spent[k].append(value)
    return [statistics.median(values) for values in spent]


def show_finders(asked: Sequence[str], sets: dict[str, list[Truth]], limits: Limits) -> dict[str, Settings]:
    """The table: settings, F1 with precision and recall of every set, and time. Returns the settings that were chosen."""
    everyone = {contestant.name: contestant for contestant in contestants()}
    first = everyone[REFERENCE]
    reference = (first.find, chosen(first, sets[SIMULATED]))
    print(f"{'F1 (precision, recall)':<32}" + "".join(f"{name:<24}" for name in sets) + "ms, 1 Mpx   × peakfinder8")
    taken: dict[str, Settings] = {}
    lines: list[tuple[str, float, float, float]] = []
    for name in asked:
        contestant = everyone[name]
        if not contestant.installed:
            print(f"{name:<32}not installed")
            continue
        settings = reference[1] if contestant is first else chosen(contestant, sets[SIMULATED])
        found = {on: [contestant.find(t.frame, settings) for t in frames] for on, frames in sets.items()}
        scores, strong = (
            [matching.total(t.score(f, cut) for t, f in zip(sets[on], found[on], strict=True)) for on in sets]
            for cut in (-math.inf, STRONG)
        )
        ours_ms, its_ms = timed([reference, (contestant.find, settings)], sets[SIMULATED])
        print(f"{name:<32}{_cells(scores)}{its_ms:9.1f} {its_ms / ours_ms:15.2f}")
        print(f"{f'    I/σ > {STRONG:g}':<32}{_cells(strong)}")
        print("    " + ", ".join(f"{key} {value:g}" for key, value in settings.items()))
        taken[name] = settings
        if name == "learned":
            lines += [(f"learned finder, {on}: F1", s.f1, least, 1) for on, s, least in zip(sets, scores, LEAST_F1, strict=True)]
            lines.append(("learned finder: time ÷ peakfinder8's", its_ms / ours_ms, 0, MOST_LEARNED_TIME))
    for name, (*values, ratio) in MEASURED_BEFORE.items():
        print(f"{name:<32}" + "".join(f"{value:<24.3f}" for value in values) + f"{'before':>9} {ratio:15.2f}")
    for line in lines:
        limits.show(*line)
    return taken


def _cells(scores: Sequence[matching.Score]) -> str:
    return "".join(f"{f'{s.f1:.3f} ({s.precision:.3f}, {s.recall:.3f})':<24}" for s in scores)


def show_equality(sets: dict[str, list[Truth]], limits: Limits) -> None:
    """Whether our peakfinder8 finds the C version's peaks, at several settings, and how long both take."""
    same, everyone = ours("peakfinder8"), {contestant.name: contestant for contestant in contestants()}
    if not everyone["C peakfinder8"].installed:
        print("\nequality with the C peakfinder8: not installed")
        return
    print("\nour peakfinder8 beside the C version")
    for name, frames in sets.items():
        for number, settings in enumerate(COMPARED, 1):
            pairs = [(same(t.frame, settings), c_peakfinder8(t.frame, settings)) for t in frames]
            common = [matching.match(a, b, 1.0) for a, b in pairs]
            away = np.concatenate([np.linalg.norm(a[m[:, 0]] - b[m[:, 1]], axis=1) for (a, b), m in zip(pairs, common)])
            kept = np.count_nonzero(away <= AGREE_PX)
            what = f"{name}, settings {number}"
            limits.show(f"{what}: share of ours that C has", kept / sum(len(a) for a, _ in pairs), AGREE_SHARE, 1)
            limits.show(f"{what}: share of C's that ours has", kept / sum(len(b) for _, b in pairs), AGREE_SHARE, 1)
            limits.show(f"{what}: 99th percentile of distance, px", float(np.quantile(away, 0.99)), 0, AGREE_PX)
            ours_ms, c_ms = timed([(same, settings), (c_peakfinder8, settings)], frames)
            limits.show(f"{what}: time ÷ C's ({c_ms:.1f} ms)", ours_ms / c_ms, 0, MOST_TIME)


def main(arguments: list[str] | None = None) -> int:
    """Print every table; 1 where a promise is missed."""
    known = [contestant.name for contestant in contestants()]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bragg", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bragg"), help="folder of the frames with truth")
    parser.add_argument("--finders", nargs="*", choices=known, default=known, help="which finders (default: all)")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    asked, limits = parser.parse_args(arguments), Limits()
    if "finders" in asked.parts:
        measure_finders(asked.data, asked.finders, limits)
    if "app" in asked.parts:
        bragg_app.show_frames(limits)
    return 1 if limits.missed else 0


def measure_finders(data: Path, asked: Sequence[str], limits: Limits) -> None:
    """Every table of finders, from the frames with truth in a folder."""
    sets = {name: load(data / f"{name}.h5") for name in SETS}
    taken = show_finders(asked, sets, limits)
    if "learned" in asked:
        classical = {name: taken[name] for name in ("peakfinder8", "dispersion") if name in taken}
        bragg_learned.show_fresh({name: functools.partial(_found, name, used) for name, used in classical.items()}, limits)
        bragg_learned.show_trust(limits)
        bragg_learned.show_hits(limits)
    if REFERENCE in asked:
        show_equality(sets, limits)


if __name__ == "__main__":
    sys.exit(main())
