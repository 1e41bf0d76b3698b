"""Where each pixel of a detector lies, and the resolution it sees.

Positions follow the array: a pixel's centre has whole-number coordinates (`y_px`, `x_px`) = (slow scan, fast scan), as CXI,
Cheetah and OM count; CrystFEL counts from the pixel's corner and is half a pixel larger.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import TypeAdapter

from lib.task import InputError, Phrase

LEAST_SPACING_PX = 6.0  # between neighbouring reflections, the direct beam among them: nearer ones are not told apart
FLAT_PX = 0.5  # modules this little away from a common grid make one flat picture
RING_POINTS = 721
HC_EV_ANGSTROM = 12398.419843320026  # CODATA 2018: Planck constant × speed of light


@dataclass(frozen=True)
class Module:
    """A rigid rectangle of pixels: rows `y0:y1` and columns `x0:x1` of the array.

    `origin_yx_px` is where the centre of its first pixel lies, seen from the beam, in pixels; `fs_yx` and `ss_yx` are the steps
    to the next pixel along fast and slow scan. `offset_mm` is how much farther from the sample than the detector it stands.
    """

    y0: int
    y1: int
    x0: int
    x1: int
    origin_yx_px: tuple[float, float]
    fs_yx: tuple[float, float] = (0.0, 1.0)
    ss_yx: tuple[float, float] = (1.0, 0.0)
    offset_mm: float = 0.0
    name: str = ""

    def positions_px(self, y_px: np.ndarray, x_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(y, x) from the beam in pixels, of array positions inside this module."""
        ss, fs = y_px - self.y0, x_px - self.x0
        return (
            self.origin_yx_px[0] + fs * self.fs_yx[0] + ss * self.ss_yx[0],
            self.origin_yx_px[1] + fs * self.fs_yx[1] + ss * self.ss_yx[1],
        )


@dataclass(frozen=True)
class Geometry:
    """A detector in the beam. Values that are not known are None; without them there is no resolution, all else works.

    Where the beam's place is not known, `beam_known` is False and the modules stand around the middle of the array.
    """

    shape: tuple[int, int]
    modules: tuple[Module, ...]
    px_size_um: float | None = None
    distance_mm: float | None = None
    wavelength_angstrom: float | None = None
    beam_known: bool = True

    @staticmethod
    def flat(
        shape: tuple[int, int],
        center_yx_px: tuple[float, float] | None = None,
        *,
        px_size_um: float | None = None,
        distance_mm: float | None = None,
        wavelength_angstrom: float | None = None,
        panels: Sequence[tuple[int, int, int, int]] = (),
    ) -> Geometry:
        """One flat grid of pixels around the beam centre (array indices; the middle of the array where it is not known).

        `panels` are the rectangles (y0, y1, x0, x1) that no peak reaches across; none is the whole array.
        """
        cy, cx = center_yx_px or ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
        whole = panels or [(0, shape[0], 0, shape[1])]
        modules = tuple(Module(y0, y1, x0, x1, (y0 - cy, x0 - cx)) for y0, y1, x0, x1 in whole)
        return Geometry(shape, modules, px_size_um, distance_mm, wavelength_angstrom, center_yx_px is not None)

    @property
    def knows_resolution(self) -> bool:
        """Whether pixel size, distance and wavelength are all known."""
        return None not in (self.px_size_um, self.distance_mm, self.wavelength_angstrom)

    def positions_px(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 maps (H, W) of each pixel's y and x from the beam, in pixels; NaN between modules."""
        y_map = np.full(self.shape, np.nan, np.float32)
        x_map = np.full(self.shape, np.nan, np.float32)
        for module in self.modules:
            ss, fs = np.ogrid[module.y0 : module.y1, module.x0 : module.x1]
            place = np.s_[module.y0 : module.y1, module.x0 : module.x1]
            y_map[place], x_map[place] = module.positions_px(ss, fs)
        return y_map, x_map

    def radius_px(self) -> np.ndarray:
        """float32 map (H, W) of each pixel's distance from the beam, in pixels; NaN between modules."""
        y_map, x_map = self.positions_px()
        return np.hypot(y_map, x_map)

    def locate(self, y_px: np.ndarray, x_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of array positions (n,): y and x from the beam in pixels, and distance from the sample along the beam in mm.

        NaN outside every module, and for the distance where it is not known.
        """
        y_px, x_px = np.asarray(y_px, float), np.asarray(x_px, float)
        y, x, z = (np.full(y_px.shape, np.nan) for _ in range(3))
        rows, columns = np.rint(y_px), np.rint(x_px)
        for module in self.modules:
            inside = (rows >= module.y0) & (rows < module.y1) & (columns >= module.x0) & (columns < module.x1)
            y[inside], x[inside] = module.positions_px(y_px[inside], x_px[inside])
            z[inside] = np.nan if self.distance_mm is None else self.distance_mm + module.offset_mm
        return y, x, z

    def at_beam(self, y_px: np.ndarray, x_px: np.ndarray) -> np.ndarray:
        """Which array positions (n,) are so near to the direct beam that no reflection can be there; none where it is not known.

        The direct beam is the origin of the reciprocal lattice, so that the nearest reflection is one spacing away from it.
        """
        y, x, _ = self.locate(y_px, x_px)
        return self.beam_known & (np.hypot(y, x) < LEAST_SPACING_PX)

    def resolution_angstrom(self, y_px: np.ndarray, x_px: np.ndarray) -> np.ndarray:
        """The d-spacing that array positions (n,) see: λ = 2 d sin θ with tan 2θ = r / distance. NaN where it is not known."""
        y, x, z_mm = self.locate(y_px, x_px)
        if not self.knows_resolution:
            return np.full(y.shape, np.nan)
        assert self.px_size_um is not None and self.wavelength_angstrom is not None
        two_theta = np.arctan2(np.hypot(y, x) * self.px_size_um / 1000, z_mm)
        with np.errstate(divide="ignore"):
            return self.wavelength_angstrom / (2 * np.sin(two_theta / 2))

    def center_yx(self) -> tuple[float, float] | None:
        """Where the beam meets a detector that is one flat grid, as array indices; None where modules are turned or moved."""
        centres = [(m.y0 - m.origin_yx_px[0], m.x0 - m.origin_yx_px[1]) for m in self.modules]
        aligned = all((m.fs_yx, m.ss_yx, m.offset_mm) == ((0.0, 1.0), (1.0, 0.0), 0.0) for m in self.modules)
        return centres[0] if aligned and np.ptp(centres, axis=0).max() < FLAT_PX else None

    def ring_yx(self, d_angstrom: float) -> np.ndarray:
        """The ring of one d-spacing as array positions (n, 2), arc after arc with a row of NaN after each; (0, 2) where none is.

        It is an ellipse in each module, from |origin + s ss + f fs| = tan 2θ times the module's distance.
        """
        radius = self.ring_px(d_angstrom)
        angle = np.linspace(0, 2 * np.pi, RING_POINTS)
        arcs = [np.zeros((0, 2))]
        for m in self.modules if np.isfinite(radius) else ():
            assert self.distance_mm is not None
            wide = radius * (self.distance_mm + m.offset_mm) / self.distance_mm
            lab = wide * np.stack([np.sin(angle), np.cos(angle)]) - np.array(m.origin_yx_px)[:, None]
            steps = np.array([m.ss_yx, m.fs_yx]).T
            y, x = np.linalg.solve(steps, lab) + np.array([[m.y0], [m.x0]])
            inside = (y >= m.y0 - 0.5) & (y <= m.y1 - 0.5) & (x >= m.x0 - 0.5) & (x <= m.x1 - 0.5)
            edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
            for first, end in edges.reshape(-1, 2):
                arcs.append(np.vstack([np.column_stack([y[first:end], x[first:end]]), [[np.nan, np.nan]]]))
        return np.concatenate(arcs)

    def ring_px(self, d_angstrom: float) -> float:
        """Radius of the ring of one d-spacing, in pixels; NaN where unknown or where the wavelength cannot reach it."""
        if not self.knows_resolution:
            return float("nan")
        assert self.px_size_um is not None and self.distance_mm is not None and self.wavelength_angstrom is not None
        sine = self.wavelength_angstrom / (2 * d_angstrom)
        if sine >= np.sin(np.pi / 4):  # 2θ ≥ 90°: it does not meet a flat detector behind the sample
            return float("nan")
        return float(np.tan(2 * np.arcsin(sine)) * self.distance_mm * 1000 / self.px_size_um)

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Geometry:
        """The geometry that `to_json` wrote."""
        return TypeAdapter(Geometry).validate_json(text)

    def check(self, subject: str) -> Geometry:
        """This geometry, where it makes sense. Raises InputError where modules leave the array or a value is not positive."""
        height, width = self.shape
        for m in self.modules:
            if not (0 <= m.y0 < m.y1 <= height and 0 <= m.x0 < m.x1 <= width):
                problem = Phrase(
                    "panel {name} (rows {y0}–{y1}, columns {x0}–{x1}) does not fit a frame of {height} × {width} pixels",
                    name=m.name or Phrase("of the geometry"), y0=m.y0, y1=m.y1 - 1, x0=m.x0, x1=m.x1 - 1, height=height,
                    width=width,
                )  # fmt: skip
                raise InputError(subject, problem, "Give the geometry of this detector, in the layout of these files")
        for name in ("px_size_um", "distance_mm", "wavelength_angstrom"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(
                    subject, Phrase("{name} = {value} is not positive", name=name, value=value), "Mend it, or leave it empty"
                )
        return self


def wavelength_angstrom(photon_energy_ev: float) -> float:
    """λ = hc / E."""
    return HC_EV_ANGSTROM / photon_energy_ev


def photon_energy_ev(wavelength: float) -> float:
    """E = hc / λ, λ in ångström."""
    return HC_EV_ANGSTROM / wavelength
