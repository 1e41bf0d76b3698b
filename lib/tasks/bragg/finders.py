"""The classical finders behind one interface: settings with the field's names, and `find(frame, finder)`.

Defaults are the best ones on simulated frames; no real frame was looked at for them. A finder is imported when it is first run:
what is compiled takes a moment, and pages that only show the settings need none of it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import pandas as pd

from lib.task import Config, InputError, Phrase, option
from lib.tasks.bragg.frames import Frame


def _adc_thresh(default: float) -> Any:
    return option(default, "Lowest value of a pixel of a peak, as it is recorded", unit="ADU", group="peaks")


def _min_snr(default: float) -> Any:
    words = "Least ratio of a peak's sum to the spread of one background pixel"
    return option(default, words, group="peaks", ge=0, le=1000)


def _min_pix_count(default: int) -> Any:
    return option(default, "Fewest pixels of a peak", unit="px", group="peaks", ge=1, le=10_000)


def _max_pix_count(default: int) -> Any:
    return option(default, "Most pixels of a peak", unit="px", group="peaks", ge=1, le=100_000)


class Finder(Config):
    """What every finder can be told."""

    name: ClassVar[str]
    title: ClassVar[str]

    local_bg_radius: int = option(
        3, "Half the radius of the disk around a peak that its background is taken from", unit="px", group="peaks", ge=1, le=100
    )
    min_res: float = option(0.0, "Leave out what is nearer to the beam; 0 for nothing", unit="px", group="more", ge=0, le=1e5)
    max_res: float = option(0.0, "Leave out what is farther from the beam; 0 for nothing", unit="px", group="more", ge=0, le=1e5)

    @abstractmethod
    def run(self, frame: Frame) -> pd.DataFrame:
        """Peaks of one frame, columns as `spots.COLUMNS`."""


class PeakFinder8(Finder):
    """Radial threshold and local background: the field's standard."""

    name = "peakfinder8"
    title = "peakfinder8"

    adc_thresh: float = _adc_thresh(0.0)
    min_snr: float = _min_snr(3.5)
    min_pix_count: int = _min_pix_count(3)
    max_pix_count: int = _max_pix_count(200)
    sampled: bool = option(False, "Take radial statistics from at most 100 pixels of each radius: faster", group="more")

    def run(self, frame: Frame) -> pd.DataFrame:
        """Peaks as `peakfinder8.find` finds them."""
        from lib.tasks.bragg import peakfinder8

        return peakfinder8.find(frame, **self.model_dump())


class Dispersion(Finder):
    """Index of dispersion in a window, in the extended way of DIALS."""

    name = "dispersion"
    title = "dispersion extended"

    adc_thresh: float = _adc_thresh(0.0)
    min_snr: float = _min_snr(4.0)
    min_pix_count: int = _min_pix_count(3)
    max_pix_count: int = _max_pix_count(200)
    gain: float = option(1.0, "Reading of one photon", unit="ADU", group="peaks", log=True, gt=0, le=1e6)
    sigma_background: float = option(
        2.0, "Standard deviations by which a window varies more than a flat background", group="peaks", ge=0, le=100
    )
    sigma_strong: float = option(
        2.5, "Standard deviations by which a strong pixel is above the background", group="peaks", ge=0, le=100
    )
    kernel_size: int = option(4, "Reach of the window to each side", unit="px", group="more", ge=1, le=50)

    def run(self, frame: Frame) -> pd.DataFrame:
        """Peaks as `dispersion.find` finds them."""
        from lib.tasks.bragg import dispersion

        return dispersion.find(frame, **self.model_dump())


class LocalMaxima(Finder):
    """One threshold and maxima among all neighbours."""

    name = "local_maxima"
    title = "threshold and local maxima"

    adc_thresh: float = _adc_thresh(80.0)
    min_snr: float = _min_snr(10.0)
    min_pix_count: int = _min_pix_count(2)

    def run(self, frame: Frame) -> pd.DataFrame:
        """Peaks as `thresholds.find` finds them."""
        from lib.tasks.bragg import thresholds

        return thresholds.find(frame, **self.model_dump())


class LineMaxima(Finder):
    """One threshold and maxima along the flattened frame, as the original project did: for comparison."""

    name = "line_maxima"
    title = "threshold and maxima along the line"

    adc_thresh: float = _adc_thresh(95.0)
    min_snr: float = _min_snr(0.0)
    min_pix_count: int = _min_pix_count(1)

    def run(self, frame: Frame) -> pd.DataFrame:
        """Peaks as `thresholds.find` finds them along the line."""
        from lib.tasks.bragg import thresholds

        return thresholds.find(frame, **self.model_dump(), neighbours="line")


FINDERS: dict[str, type[Finder]] = {kind.name: kind for kind in (PeakFinder8, Dispersion, LocalMaxima, LineMaxima)}


def names() -> list[str]:
    """The finders there are."""
    return [*FINDERS]


def get(name: str) -> type[Finder]:
    """The settings of one finder. Raises InputError listing the names there are."""
    if name not in FINDERS:
        told = Phrase("there is none called {name!r}", name=name)
        raise InputError("finder", told, Phrase("Finders: {names}.", names=", ".join(FINDERS)))
    return FINDERS[name]


def find(frame: Frame, finder: Finder) -> pd.DataFrame:
    """Peaks of one frame (n rows), columns as `spots.COLUMNS`, in the order they were found."""
    return finder.run(frame)
