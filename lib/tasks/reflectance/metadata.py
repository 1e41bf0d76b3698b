"""What a micrograph's file tells of itself: width of a pixel, information bar, instrument.

FEI and Thermo Fisher, Zeiss and Olympus write tags of their own, ImageJ and others the TIFF resolution.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tifffile

OLYMPUS_TAG = 33560
LARGEST_NM_PER_PX = 10_000.0  # a resolution coarser than this is one of screens or paper, as 72 dpi
NM_PER_INCH, NM_PER_CM = 25.4e6, 1e7
_IMAGEJ_NM = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3, "mm": 1e6, "cm": 1e7, "å": 0.1}
_ZEISS_NM = {"pm": 1e-3, "nm": 1.0, "µm": 1e3, "μm": 1e3, "um": 1e3, "mm": 1e6, "m": 1e9}


@dataclass(frozen=True)
class Facts:
    """What the file tells: nm per pixel (NaN where nothing), who says so, height of the information bar (None where nothing).

    `instrument` are further lines for people.
    """

    nm_per_px: float = math.nan
    scale_from: str = ""
    info_bar_px: int | None = None
    instrument: Mapping[str, str] = field(default_factory=dict)


def of_resolution(dots_per_inch: Any, told_by: str = "resolution in the file") -> Facts:
    """Facts of a resolution in dots per inch, one number or two; nothing where it is one of screens or paper."""
    pair = dots_per_inch if isinstance(dots_per_inch, tuple) else (dots_per_inch, dots_per_inch)
    try:
        dots = float(pair[0])
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return Facts()
    return _plausible(NM_PER_INCH / dots, told_by) if dots > 0 else Facts()


def measured_page(tif: tifffile.TiffFile) -> int:
    """Number of the page that was measured: the first, or in Olympus files the one with the calibration."""
    for number in range(min(4, len(tif.pages))):
        page: Any = tif.pages[number]
        if OLYMPUS_TAG in page.tags:
            return number
    return 0


def of_tiff(tif: tifffile.TiffFile, number: int) -> Facts:
    """Facts of a TIFF whose page `number` is shown; the first maker that tells a width of a pixel is believed."""
    page: Any = tif.pages[number]
    height, width = page.imagelength, page.imagewidth
    fei, zeiss = _dictionary(tif.fei_metadata), _dictionary(tif.sem_metadata)
    if fei:
        return _fei(fei, height)
    if zeiss:
        return _zeiss(zeiss, width)
    olympus = page.tags.get(OLYMPUS_TAG)
    if olympus is not None and isinstance(olympus.value, dict):
        return _plausible(1e9 * _number(olympus.value.get("pixelsizex")), "Olympus", _text(page, "Make", "Model"))
    return _tiff_resolution(tif, page)


def _fei(told: Mapping[str, Any], height: int) -> Facts:
    """Pixel width of the scan in metres; the bar is what the file has more rows than the scan had lines."""
    scan, image = _dictionary(told.get("EScan")), _dictionary(told.get("Image"))
    scan = scan or _dictionary(told.get("IScan")) or _dictionary(told.get("Scan"))
    lines = _number(image.get("ResolutionY"))
    bar = int(height - lines) if 0 < lines <= height else None
    volts = _number(_dictionary(told.get("Beam")).get("HV"))
    old = _dictionary(told.get("Vector"))
    shown = {
        "microscope": _dictionary(told.get("System")).get("SystemType", "FEI"),
        "beam": _unit(volts if math.isfinite(volts) else _number(old.get("HighTension")), 1e-3, "kV"),
        "magnification": _unit(_number(old.get("Magnification")), 1, "×"),
        "working distance": _unit(_number(_dictionary(told.get("EBeam")).get("WD")), 1e3, "mm"),
        "detector": _dictionary(told.get("Detectors")).get("Name", ""),
        "date": _dictionary(told.get("User")).get("Date", ""),
    }
    found = _plausible(1e9 * _number(scan.get("PixelWidth")), "FEI")
    return Facts(found.nm_per_px, found.scale_from, bar, _said(shown))


def _zeiss(told: Mapping[str, Any], width: int) -> Facts:
    """Width of the field over the columns of the file: `ap_pixel_size` is of the store resolution, which may be another."""
    field_ = told.get("ap_width")
    nm = math.nan
    if isinstance(field_, tuple) and len(field_) >= 3:
        nm = _number(field_[1]) * _ZEISS_NM.get(str(field_[2]).strip(), math.nan) / max(width, 1)
    keys = {
        "microscope": "sv_serial_number", "beam": "ap_actualkv", "magnification": "ap_mag", "working distance": "ap_wd",
        "detector": "dp_detector_channel", "date": "ap_date",
    }  # fmt: skip
    shown = {name: " ".join(map(str, told[key][1:])) for name, key in keys.items() if isinstance(told.get(key), tuple)}
    found = _plausible(nm, "Zeiss")
    return Facts(found.nm_per_px, found.scale_from, None, _said(shown))


def _tiff_resolution(tif: tifffile.TiffFile, page: Any) -> Facts:
    """ImageJ's unit and pixels per unit, else the resolution tags."""
    tag, unit_tag = page.tags.get("XResolution"), page.tags.get("ResolutionUnit")
    shown = _text(page, "Make", "Model")
    if tag is None or not isinstance(tag.value, tuple) or not tag.value[0]:
        return Facts(instrument=shown)
    pixels, length = tag.value
    info = tif.imagej_metadata or {}
    unit = str(info.get("unit", "")).encode().decode("unicode_escape", "ignore").strip().lower()
    if unit in _IMAGEJ_NM:
        return _plausible(_IMAGEJ_NM[unit] * length / pixels, "ImageJ", shown)
    nm = {2: NM_PER_INCH, 3: NM_PER_CM}.get(int(unit_tag.value) if unit_tag is not None else 2)
    return _plausible(nm * length / pixels, "TIFF resolution", shown) if nm else Facts(instrument=shown)


# --- small things -----------------------------------------------------------------------------------------------------
def _plausible(nm_per_px: float, told_by: str, instrument: Mapping[str, str] | None = None) -> Facts:
    """Facts with this width where it can be one of a micrograph."""
    if math.isfinite(nm_per_px) and 0 < nm_per_px <= LARGEST_NM_PER_PX:
        return Facts(float(nm_per_px), told_by, None, instrument or {})
    return Facts(instrument=instrument or {})


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _unit(value: float, factor: float, unit: str) -> str:
    return f"{value * factor:.4g} {unit}" if math.isfinite(value) else ""


def _dictionary(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _said(lines: Mapping[str, Any]) -> dict[str, str]:
    """Lines that say something, without control characters and of bounded length."""
    clean = {name: re.sub(r"[^ -~À-ÿµμ×°]", "", str(text)).strip()[:80] for name, text in lines.items()}
    return {name: text for name, text in clean.items() if text}


def _text(page: Any, *tags: str) -> dict[str, str]:
    found = [str(page.tags[tag].value) for tag in tags if tag in page.tags]
    return _said({"microscope": " ".join(found)})
