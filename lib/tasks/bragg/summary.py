"""What a run looks like from its peaks: hits, peaks per frame, resolution, and all peaks on one detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

MIN_PEAKS = 15  # a frame with as many is a hit; indexing needs about that


@dataclass(frozen=True)
class Summary:
    """A run in figures.

    `per_frame` has `file`, `frame`, `n_peaks`, `is_hit`; `resolution` has the shells of `resolution_histogram`; `powder` is the
    virtual powder pattern (H, W), None where the frames are of several sizes.
    """

    per_frame: pd.DataFrame
    resolution: pd.DataFrame
    powder: np.ndarray | None

    @property
    def n_frames(self) -> int:
        """Frames looked at."""
        return len(self.per_frame)

    @property
    def n_hits(self) -> int:
        """Frames with enough peaks."""
        return int(self.per_frame["is_hit"].sum())

    @property
    def hit_rate(self) -> float:
        """Share of frames that are hits; NaN without frames."""
        return self.n_hits / self.n_frames if self.n_frames else float("nan")

    @property
    def peaks_per_hit(self) -> float:
        """Median number of peaks of a hit; NaN without hits."""
        hits = self.per_frame.loc[self.per_frame["is_hit"], "n_peaks"]
        return float(hits.median()) if len(hits) else float("nan")


def summarise(
    peaks: pd.DataFrame, frames: pd.DataFrame, shape: tuple[int, int] | None = None, min_peaks: int = MIN_PEAKS
) -> Summary:
    """Summary of the peaks (`file`, `frame`, `y_px`, `x_px`, `intensity`, perhaps `resolution_angstrom`) of all `frames`.

    `frames` is the table of Samples; `shape` (H, W) asks for the virtual powder pattern.
    """
    resolution = peaks.get("resolution_angstrom", pd.Series(dtype=float))
    powder = None if shape is None else virtual_powder(peaks, shape)
    return Summary(peaks_per_frame(peaks, frames, min_peaks), resolution_histogram(resolution.to_numpy(float)), powder)


def peaks_per_frame(peaks: pd.DataFrame, frames: pd.DataFrame, min_peaks: int = MIN_PEAKS) -> pd.DataFrame:
    """`file`, `frame`, `n_peaks` and `is_hit` (at least `min_peaks`) of every frame, also of those without a peak."""
    keys = ["file", "frame"]
    counts = peaks.groupby(keys, observed=True).size().rename("n_peaks").reset_index()
    table = frames[keys].merge(counts, on=keys, how="left")
    n_peaks = table["n_peaks"].fillna(0).astype(np.int64)
    return table.assign(n_peaks=n_peaks, is_hit=n_peaks >= min_peaks)


def resolution_histogram(resolution_angstrom: np.ndarray, shells: int = 20) -> pd.DataFrame:
    """Peaks in resolution shells of equal volume in reciprocal space: `d_max_angstrom`, `d_min_angstrom`, `n_peaks`.

    Equal volumes hold equally many reflections, so that a fall shows where the crystals stop diffracting. Unknown resolutions
    are left out; without any there is no shell.
    """
    known = resolution_angstrom[np.isfinite(resolution_angstrom) & (resolution_angstrom > 0)]
    if not len(known):
        return pd.DataFrame({"d_max_angstrom": [], "d_min_angstrom": [], "n_peaks": np.array([], np.int64)})
    edges = np.linspace(known.max() ** -3.0, known.min() ** -3.0 * (1 + 1e-9), shells + 1)
    counts, _ = np.histogram(known**-3.0, edges)
    d_angstrom = edges ** (-1 / 3)
    return pd.DataFrame({"d_max_angstrom": d_angstrom[:-1], "d_min_angstrom": d_angstrom[1:], "n_peaks": counts})


def virtual_powder(peaks: pd.DataFrame, shape: tuple[int, int]) -> np.ndarray:
    """Virtual powder pattern: float32 (H, W), intensities of all peaks of a run summed at the pixels they lie in."""
    rows, columns = (np.rint(peaks[key].to_numpy(float)).astype(np.int64) for key in ("y_px", "x_px"))
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    flat = rows[inside] * shape[1] + columns[inside]
    weights = peaks["intensity"].to_numpy(float)[inside]
    return np.bincount(flat, weights, shape[0] * shape[1]).reshape(shape).astype(np.float32)
