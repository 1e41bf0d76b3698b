"""Pixel size and frame interval as a TIFF tells them: ImageJ's text, OME-XML, or the resolution tags."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

import tifffile

from lib.words import Phrase

NM_PER_UNIT = {
    "nm": 1.0, "µm": 1e3, "um": 1e3, "micron": 1e3, "microns": 1e3, "micrometer": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9,
    "in": 2.54e7, "inch": 2.54e7,
}  # fmt: skip
SECONDS_PER_UNIT = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "µs": 1e-6, "us": 1e-6, "min": 60.0,
}  # fmt: skip
UNIT_OF_TAG = {2: "inch", 3: "cm"}  # ResolutionUnit
PX_SIZE_NM, TAG_PX_SIZE_NM = (1.0, 10_000.0), (1.0, 1000.0)  # resolution tags hold print or sensor sizes too, which are larger
MAX_INTERVAL_S = 1000.0
SQUARE = 0.01  # relative difference of the sides of a pixel that still counts as square
MAX_XML_CHARACTERS = 2**24


@dataclass(frozen=True)
class Told:
    """A quantity of a file: `value` is None where it is not told or not used; `words` say it with its unit, or why not used."""

    value: float | None = None
    words: str = ""


def px_size_nm(tif: tifffile.TiffFile) -> Told:
    """Side of a pixel in the sample, nm. Pixels that are not square and unknown units give a remark and no value."""
    tags, ome = tif.pages.first.tags, _ome_pixels(tif)
    across, down = (_length(tags.get(name)) for name in ("XResolution", "YResolution"))
    imagej = _plain((tif.imagej_metadata or {}).get("unit", ""))
    known = [] if imagej in ("", "pixel", "pixels") else [_side(across, down, imagej)]
    (width, unit_across), (height, unit_down) = (
        (_positive(ome.get(f"PhysicalSize{axis}")), _plain(ome.get(f"PhysicalSize{axis}Unit", "µm"))) for axis in "XY"
    )
    known.append(_side(width, height, unit_across, unit_down))
    tag = tags.get("ResolutionUnit")
    unit = UNIT_OF_TAG.get(int(tag.value)) if tag is not None else None
    if unit and across and TAG_PX_SIZE_NM[0] <= across * NM_PER_UNIT[unit] <= TAG_PX_SIZE_NM[1]:
        known.append(_side(across, down, unit))
    return _first(known)


def frame_interval_s(tif: tifffile.TiffFile) -> Told:
    """Time from frame to frame, s. An unknown unit gives a remark and no value."""
    info, ome = tif.imagej_metadata or {}, _ome_pixels(tif)
    known = [
        _interval(_positive(info.get("finterval")), _plain(info.get("tunit", "s"))),
        _interval(_positive(ome.get("TimeIncrement")), _plain(ome.get("TimeIncrementUnit", "s"))),
    ]
    rate = _positive(info.get("fps"))
    if rate is not None and known == [Told(), Told()]:
        known.append(_played(_interval(1 / rate, "s")))
    return _first(known)


def _side(across: float | None, down: float | None, unit: str, unit_down: str = "") -> Told:
    """Width and height of a pixel as one side in nm."""
    if across is None:
        return Told()
    if unit not in NM_PER_UNIT or (unit_down or unit) not in NM_PER_UNIT:
        return Told(words=Phrase("pixel size of the file not used: its unit is {unit!r}", unit=unit))
    width = across * NM_PER_UNIT[unit]
    height = width if down is None else down * NM_PER_UNIT[unit_down or unit]
    if not math.isclose(width, height, rel_tol=SQUARE):
        told = "pixel size of the file not used: its pixels are not square ({w:.4g} × {h:.4g} nm)"
        return Told(words=Phrase(told, w=width, h=height))
    if not PX_SIZE_NM[0] <= width <= PX_SIZE_NM[1]:
        return Told(words=Phrase("pixel size of the file not used: {nm:.4g} nm is not between 1 and 10000 nm", nm=width))
    return Told(width, Phrase("pixel size {nm:.4g} nm", nm=width))


def _interval(value: float | None, unit: str) -> Told:
    """A time as seconds."""
    if value is None:
        return Told()
    if unit not in SECONDS_PER_UNIT:
        return Told(words=Phrase("frame interval of the file not used: its unit is {unit!r}", unit=unit))
    seconds = value * SECONDS_PER_UNIT[unit]
    if seconds > MAX_INTERVAL_S:
        told = "frame interval of the file not used: {s:.4g} s is longer than {most:g} s"
        return Told(words=Phrase(told, s=seconds, most=MAX_INTERVAL_S))
    return Told(seconds, Phrase("frame interval {s:.4g} s", s=seconds))


def _played(told: Told) -> Told:
    """An interval from the rate at which a file is played."""
    if told.value is None:
        return told
    return Told(told.value, Phrase("frame interval {s:.4g} s (from its fps, which may be the speed of playback)", s=told.value))


def _first(known: Iterable[Told]) -> Told:
    """The first with a value; where there is none, the first with words."""
    return min(known, key=lambda told: 0 if told.value is not None else 1 if told.words else 2, default=Told())


def _ome_pixels(tif: tifffile.TiffFile) -> Mapping[str, str]:
    """Attributes of the first `Pixels` of OME-XML; none where there is none, or where the XML declares entities of its own."""
    text = tif.ome_metadata or ""
    if len(text) > MAX_XML_CHARACTERS or "<!DOCTYPE" in text:
        return {}
    try:
        for _, element in ElementTree.iterparse(io.StringIO(text), events=("start",)):
            if element.tag.rpartition("}")[2] == "Pixels":
                return dict(element.attrib)
    except ElementTree.ParseError:
        pass
    return {}


def _length(resolution: tifffile.TiffTag | None) -> float | None:
    """Length of a pixel from a resolution, which is (pixels, length); None where it is not a positive number."""
    if resolution is None:
        return None
    pixels, length = resolution.value
    return _positive(length / pixels) if pixels else None


def _positive(value: object) -> float | None:
    """A finite positive number, else None."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _plain(unit: object) -> str:
    """A unit in lower case; ImageJ writes µ as an escape, others as the Greek letter."""
    return str(unit).strip().lower().replace("\\u00b5", "µ").replace("μ", "µ")
