"""A large picture whose pixels have values: zoomed, contrasted and marked in the browser."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

ALIGNED_BYTES = 8  # where the pixels begin, so that any number type can be read in place


@dataclass(frozen=True)
class Plate:
    """Pixels (H, W) of any number type; `mask` (H, W) bool, True where a pixel is good; `unit` of a pixel's value.

    `center_yx` (array indices) is the middle of `rings`, labels with radii in pixels. `resolution` is pixel size in µm, distance
    in mm and wavelength in Å, where the d-spacing that a pixel sees is known.
    """

    pixels: np.ndarray
    mask: np.ndarray
    unit: str = ""
    center_yx: tuple[float, float] | None = None
    rings: tuple[tuple[str, float], ...] = ()
    resolution: tuple[float, float, float] | None = None

    def to_bytes(self) -> bytes:
        """What the viewer reads, little-endian: length of the header (uint32), header (JSON), pixels, mask (one bit a pixel)."""
        pixels = compact(self.pixels)
        about = {
            "shape": list(pixels.shape), "type": pixels.dtype.name, "unit": self.unit, "center": self.center_yx,
            "rings": [[label, radius_px] for label, radius_px in self.rings if np.isfinite(radius_px)],
            "resolution": self.resolution,
        }  # fmt: skip
        header = json.dumps(about).encode()
        header += b" " * (-(len(header) + 4) % ALIGNED_BYTES)
        bits = np.packbits(self.mask.ravel(), bitorder="little").tobytes()
        return b"".join([len(header).to_bytes(4, "little"), header, np.ascontiguousarray(pixels).tobytes(), bits])

    @staticmethod
    def from_bytes(content: bytes) -> Plate:
        """The plate that `to_bytes` wrote, its pixels in the type they travelled in."""
        start = 4 + int.from_bytes(content[:4], "little")
        about = json.loads(content[4:start])
        shape, kind = tuple(about["shape"]), np.dtype(about["type"]).newbyteorder("<")
        n = shape[0] * shape[1]
        pixels = np.frombuffer(content, kind, n, start).reshape(shape)
        bits = np.frombuffer(content, np.uint8, offset=start + n * kind.itemsize)
        mask = np.unpackbits(bits, count=n, bitorder="little").astype(bool).reshape(shape)
        center, resolution = about["center"], about["resolution"]
        rings = tuple((str(label), float(radius_px)) for label, radius_px in about["rings"])
        return Plate(pixels, mask, about["unit"], tuple(center) if center else None, rings,
                     tuple(resolution) if resolution else None)  # fmt: skip


def compact(pixels: np.ndarray) -> np.ndarray:
    """The same values (H, W) in the smallest type that a browser knows: whole numbers as integers, others as float32."""
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8)
    low, high = (pixels.min(), pixels.max()) if pixels.size else (np.nan, np.nan)
    for kind in ("<u1", "<i1", "<u2", "<i2", "<u4", "<i4"):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            whole = pixels.astype(kind)
            return whole if (whole == pixels).all() else pixels.astype("<f4")
    return pixels.astype("<f4")
