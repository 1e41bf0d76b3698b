"""CrystFEL geometry files (.geom): panels, beam, bad regions and masks.

After the manual page crystfel_geometry(5). Its positions are in pixels from the beam with a panel's corner as the reference;
ours have the centre of the first pixel, half a pixel along both scans further on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib.task import InputError, Phrase
from lib.tasks.bragg.geometry import HC_EV_ANGSTROM, Geometry, Module

MAX_BYTES = 16 * 2**20
MAX_PANELS = 10_000
_TERM = re.compile(r"([-+]?)\s*((?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)?\s*([xyz])")
_OLD_MASK = {"mask": "mask0_data", "mask_file": "mask0_file", "mask_good": "mask0_goodbits", "mask_bad": "mask0_badbits"}
_GLOBAL = {"clen", "data", "photon_energy", "wavelength"}
_LENGTHS_MM = {"m": 1e3, "mm": 1.0}


@dataclass(frozen=True)
class Located:
    """A value that each data file holds: its path there, the factor to our unit, and what to add then."""

    path: str
    factor: float
    offset: float = 0.0


@dataclass(frozen=True)
class PixelMask:
    """A mask that the geometry file names: file ("" for the data file itself), dataset and bits."""

    file: str
    dataset: str
    good_bits: int
    bad_bits: int


@dataclass(frozen=True)
class Description:
    """What a .geom file says; boxes and marks as in a `MaskPlan`."""

    name: str
    modules: tuple[Module, ...]
    px_size_um: float
    dataset: str = ""
    distance_mm: float | Located | None = None
    wavelength_angstrom: float | Located | None = None
    photon_energy_ev: Located | None = None
    masks: tuple[PixelMask, ...] = ()
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    lab_boxes: tuple[tuple[float, float, float, float], ...] = ()
    low: float | None = None
    high: float | None = None
    equal: tuple[float, ...] = ()
    saturation_adu: float | None = None
    remarks: tuple[str, ...] = field(default=())

    def geometry(self, shape: tuple[int, int]) -> Geometry:
        """The geometry of frames (H, W), with what is the same for all. Raises InputError where it does not fit."""
        distance = self.distance_mm if isinstance(self.distance_mm, float) else None
        wavelength = self.wavelength_angstrom if isinstance(self.wavelength_angstrom, float) else None
        return Geometry(shape, self.modules, self.px_size_um, distance, wavelength).check(self.name)


Values = dict[str, str]


def read(path: Path, name: str = "") -> Description:
    """A .geom file. Raises InputError naming the panel and the parameter that is missing or wrong."""
    called = name or path.name
    if path.stat().st_size > MAX_BYTES:
        raise InputError(called, "is too large for a geometry file", "Give a CrystFEL .geom file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(called, "is not a text file", "Give a CrystFEL .geom file") from error
    panels, bad = _sorted(text, called)
    if not panels:
        raise InputError(called, "describes no panel", "Give a CrystFEL .geom file with min_fs, max_fs, … of each panel")
    if len(panels) > MAX_PANELS:
        raise InputError(called, Phrase("describes {n:,} panels", n=len(panels)), "Give a CrystFEL .geom file")
    return _described(panels, bad, called)


def _sorted(text: str, name: str) -> tuple[dict[str, Values], dict[str, Values]]:
    """The values of each panel, with the defaults that stood before it, and of each bad region."""
    top: Values = {}
    panels: dict[str, Values] = {}
    bad: dict[str, Values] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split(";", 1)[0].strip()
        if not line or line.startswith(("group_", "rigid_group")):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise InputError(name, Phrase("has a line {n} that is no parameter: {line!r}", n=number, line=line[:60]),
                             "Give a CrystFEL .geom file: lines as panel/min_fs = 0")  # fmt: skip
        panel, slash, parameter = key.rpartition("/")
        parameter = _OLD_MASK.get(parameter, parameter)
        if not slash:
            top[parameter] = value
        elif panel.startswith("bad"):
            bad.setdefault(panel, {})[parameter] = value
        else:
            panels.setdefault(panel, dict(top))[parameter] = value
    for panel_values in panels.values():  # what there is one of may stand behind the panels too
        for key in _GLOBAL & top.keys():
            panel_values.setdefault(key, top[key])
    return panels, bad


def _described(panels: dict[str, Values], bad: dict[str, Values], name: str) -> Description:
    first = next(iter(panels.values()))
    for key, word in (("data", Phrase("datasets")), ("dim0", Phrase("array layouts"))):
        if len({panel.get(key) for panel in panels.values()}) > 1:
            raise InputError(name, Phrase("spreads its panels over several {what}", what=word),
                             "Write all panels of a frame into one array")  # fmt: skip
    if any(re.fullmatch(r"\d+", first.get(f"dim{k}", "")) for k in range(6)):
        raise InputError(name, "takes its panels from an array of more than three dimensions",
                         "Write all panels of a frame below each other in one array")  # fmt: skip
    px_size_m = 1 / _value(first, "res", name, next(iter(panels)))
    boxes, lab_boxes = _bad_regions(bad, panels, name)
    whole = [box for title, panel in panels.items() if _true(panel.get("no_index", "0")) for box in [_box(panel, title, name)]]
    distance = _distance(first, name)
    modules = tuple(_module(title, panel, px_size_m, distance, name) for title, panel in panels.items())
    edges = [edge for title, panel in panels.items() for edge in _edges(panel, title, name)]
    wavelength, energy = _beam(first, name)
    most = _optional(first, "flag_morethan", name)
    high = None if most is None else math.nextafter(most, math.inf)  # CrystFEL's limit is itself good
    tilted = any(_vector(panel, key, title, name)[2] for title, panel in panels.items() for key in ("fs", "ss"))
    return Description(
        name, modules, px_size_m * 1e6, first.get("data", ""), distance, wavelength, energy, _masks(first, name),
        (*boxes, *whole, *edges), tuple(lab_boxes), _optional(first, "flag_lessthan", name), high,
        tuple(v for v in [_optional(first, "flag_equal", name)] if v is not None), _optional(first, "max_adu", name),
        ("tilt of panels out of the detector's plane was left out",) if tilted else (),
    )  # fmt: skip


# --- panels -----------------------------------------------------------------------------------------------------------
def _module(title: str, panel: Values, px_size_m: float, distance: float | Located | None, name: str) -> Module:
    """One panel; a panel with pixels of its own size is scaled to those of the first."""
    y0, y1, x0, x1 = _box(panel, title, name)
    scale = 1 / _value(panel, "res", name, title) / px_size_m
    fs, ss = (tuple(scale * part for part in _vector(panel, key, title, name)) for key in ("fs", "ss"))
    shift = [(_shift_m(panel, axis, name) / px_size_m) for axis in "yx"]
    corner = [scale * _value(panel, f"corner_{axis}", name, title) + by for axis, by in zip("yx", shift)]
    own, further = _distance(panel, name), 0.0
    if isinstance(own, float) and isinstance(distance, float):
        further = own - distance
    elif isinstance(own, Located) and isinstance(distance, Located):
        further = own.offset - distance.offset
    return Module(
        y0, y1, x0, x1, (corner[0] + (fs[1] + ss[1]) / 2, corner[1] + (fs[0] + ss[0]) / 2), (fs[1], fs[0]), (ss[1], ss[0]),
        further, title,
    )  # fmt: skip


def _shift_m(panel: Values, axis: str, name: str) -> float:
    """Shift of the whole detector along one axis. Raises InputError where it changes from frame to frame."""
    place, unit = _split(panel.get(f"detector_shift_{axis}", "0"))
    if place.startswith("/"):
        raise InputError(name, "shifts the detector from frame to frame, which is not read here", "Give one shift, in m or mm")
    return _read(place, name, f"detector_shift_{axis}") * _unit(unit or "m", {"m": 1.0, "mm": 1e-3}, name, "detector_shift")


def _box(panel: Values, title: str, name: str) -> tuple[int, int, int, int]:
    """Rows and columns (y0, y1, x0, x1) of a panel; the file counts the last ones in."""
    low_fs, high_fs, low_ss, high_ss = (
        int(_value(panel, key, name, title)) for key in ("min_fs", "max_fs", "min_ss", "max_ss")
    )  # fmt: skip
    return low_ss, high_ss + 1, low_fs, high_fs + 1


def _vector(panel: Values, key: str, title: str, name: str) -> tuple[float, float, float]:
    """(x, y, z) of a direction as `-0.001x +0.999y`."""
    text = panel.get(key, "")
    parts = {"x": 0.0, "y": 0.0, "z": 0.0}
    for sign, size, axis in _TERM.findall(text):
        parts[axis] += float(size or 1) * (-1 if sign == "-" else 1)
    rest = _TERM.sub("", text).strip()
    if not text or rest or not (parts["x"] or parts["y"]):
        raise _wrong(name, title, key, text, Phrase("a direction as +0.999x -0.001y"))
    return parts["x"], parts["y"], parts["z"]


def _edges(panel: Values, title: str, name: str) -> list[tuple[int, int, int, int]]:
    """Rectangles of the pixels at a panel's edge that are bad."""
    width = int(_optional(panel, "mask_edge_pixels", name) or 0)
    if width <= 0:
        return []
    y0, y1, x0, x1 = _box(panel, title, name)
    return [(y0, y0 + width, x0, x1), (y1 - width, y1, x0, x1), (y0, y1, x0, x0 + width), (y0, y1, x1 - width, x1)]


def _bad_regions(
    bad: Mapping[str, Values], panels: Mapping[str, Values], name: str
) -> tuple[list[tuple[int, int, int, int]], list[tuple[float, float, float, float]]]:
    """Rectangles of the array, and rectangles (y low, y high, x low, x high) in pixels from the beam."""
    boxes, lab = [], []
    for title, region in bad.items():
        if "min_x" in region or "min_y" in region:
            y_low, y_high, x_low, x_high = (_value(region, key, name, title) for key in ("min_y", "max_y", "min_x", "max_x"))
            lab.append((y_low, y_high, x_low, x_high))
            continue
        y0, y1, x0, x1 = _box(region, title, name)
        panel = region.get("panel", "")
        if panel and panel not in panels:
            raise _wrong(name, title, "panel", panel, Phrase("the name of a panel of this file"))
        if panel:  # a region reaches no further than its panel
            top, bottom, left, right = _box(panels[panel], panel, name)
            y0, y1, x0, x1 = max(y0, top), min(y1, bottom), max(x0, left), min(x1, right)
        if y0 < y1 and x0 < x1:
            boxes.append((y0, y1, x0, x1))
    return boxes, lab


# --- beam, camera length, masks ---------------------------------------------------------------------------------------
def _distance(panel: Values, name: str) -> float | Located | None:
    """Camera length and the panel's offset in mm, or where the data files keep it."""
    text = panel.get("clen", "")
    offset_mm = 1e3 * (_optional(panel, "coffset", name) or 0.0)
    if not text:
        return None
    place, unit = _split(text)
    if place.startswith("/"):
        return Located(place, _unit(unit or "mm", _LENGTHS_MM, name, "clen"), offset_mm)
    return _read(place, name, "clen") * _unit(unit or "m", _LENGTHS_MM, name, "clen") + offset_mm


def _beam(values: Values, name: str) -> tuple[float | Located | None, Located | None]:
    """Wavelength in ångström, or where the data files keep it, or where they keep the photon energy in eV."""
    if text := values.get("wavelength", ""):
        place, unit = _split(text)
        factor = _unit(unit or "m", {"m": 1e10, "A": 1.0}, name, "wavelength")
        return (Located(place, factor), None) if place.startswith("/") else (_read(place, name, "wavelength") * factor, None)
    if text := values.get("photon_energy", ""):
        place, unit = _split(text)
        factor = _unit(unit or "eV", {"eV": 1.0, "keV": 1e3}, name, "photon_energy")
        if place.startswith("/"):
            return None, Located(place, factor)
        energy_ev = _read(place, name, "photon_energy") * factor
        return (HC_EV_ANGSTROM / energy_ev if energy_ev > 0 else None), None
    return None, None


def _masks(panel: Values, name: str) -> tuple[PixelMask, ...]:
    found = []
    for k in range(8):
        if dataset := panel.get(f"mask{k}_data", ""):
            good, bad = (_bits(panel.get(f"mask{k}_{word}bits", "0"), name, f"mask{k}_{word}bits") for word in ("good", "bad"))
            found.append(PixelMask(panel.get(f"mask{k}_file", ""), dataset, good, bad))
    return tuple(found)


# --- values -----------------------------------------------------------------------------------------------------------
def _wrong(name: str, where: str, key: str, text: str, wanted: str) -> InputError:
    what = Phrase("has {key} = {value!r} in {where}, where {wanted} was expected", key=key, value=text, where=where,
                  wanted=wanted)  # fmt: skip
    missing = Phrase("lacks {key} for {where}", key=key, where=where)
    return InputError(name, what if text else missing, "Mend the geometry file")


def _read(text: str, name: str, key: str, where: str = "the file") -> float:
    try:
        return float(text)
    except ValueError as error:
        raise _wrong(name, where, key, text, Phrase("a number")) from error


def _value(values: Values, key: str, name: str, where: str) -> float:
    """A number that must be there."""
    text = values.get(key, "")
    number = _read(text, name, key, where)
    if key == "res" and not number > 0:
        raise _wrong(name, where, key, text, Phrase("pixels per metre"))
    return number


def _optional(values: Values, key: str, name: str) -> float | None:
    return _read(values[key], name, key) if key in values else None


def _split(text: str) -> tuple[str, str]:
    """A value and its unit."""
    place, _, unit = text.strip().partition(" ")
    return place, unit.strip()


def _unit(unit: str, units: Mapping[str, float], name: str, key: str) -> float:
    if unit not in units:
        raise _wrong(name, Phrase("the file"), key, unit, " or ".join(units))
    return units[unit]


def _bits(text: str, name: str, key: str) -> int:
    try:
        return int(text, 0)
    except ValueError as error:
        raise _wrong(name, Phrase("the file"), key, text, Phrase("a number as 0xff")) from error


def _true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes")
