"""A large picture whose pixels have values: zoomed, contrasted and marked in the browser."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from pydantic import TypeAdapter

ALIGNED_BYTES = 8  # where the pixels begin, so that any number type can be read in place
# Integers travel as bytes or half bytes where most lie within a narrow band: the step above the band's lowest value. The largest
# two steps say that a pixel has the largest value of all, as gaps and dead pixels have, or the next one in a list.
BAND_BITS = (4, 8)
SAMPLED = 50_000  # pixels, to find the band


@dataclass(frozen=True)
class Facet:
    """A rectangle of a picture, rows `y0:y1` and columns `x0:x1`, that lies in space on its own.

    The centre of its first pixel is at `origin_yx` from the beam in pixels, `ss_yx` and `fs_yx` are the steps to the next row
    and column, and it stands `offset_mm` farther away than the distance of the plate's `resolution`.
    """

    y0: int
    y1: int
    x0: int
    x1: int
    origin_yx: tuple[float, float]
    ss_yx: tuple[float, float]
    fs_yx: tuple[float, float]
    offset_mm: float = 0.0


@dataclass(frozen=True)
class Plate:
    """Pixels (H, W) of any number type; `mask` (H, W) bool, True where a pixel is good; `unit` of a pixel's value.

    `center_yx` (array indices) is the middle of `rings`, labels with radii in pixels. `resolution` is pixel size in µm, distance
    in mm and wavelength in Å, where the d-spacing that a pixel sees is known. Of a picture that is no flat grid around one centre
    `facets` say where its pixels lie, and `curves` are its rings: by label, array positions (n, 2) with NaN after each arc.
    """

    pixels: np.ndarray
    mask: np.ndarray
    unit: str = ""
    center_yx: tuple[float, float] | None = None
    rings: tuple[tuple[str, float], ...] = ()
    resolution: tuple[float, float, float] | None = None
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    facets: tuple[Facet, ...] = ()

    def to_bytes(self) -> bytes:
        """What the viewer reads, little-endian: length of the header (uint32), header (JSON), pixels, mask (one bit a pixel).

        Where the header has a `band`, the pixels are those that do not fit into it, then the steps of all (see BAND_BITS).
        """
        pixels = compact(self.pixels)
        band, parts = _banded(pixels) or (None, [np.ascontiguousarray(pixels)])
        about = {
            "shape": list(pixels.shape), "type": pixels.dtype.name, "band": band, "unit": self.unit, "center": self.center_yx,
            "rings": [[label, radius_px] for label, radius_px in self.rings if np.isfinite(radius_px)],
            "resolution": self.resolution,
            "curves": [[label, _arcs(curve)] for label, curve in self.curves.items()],
            "facets": [asdict(facet) for facet in self.facets],
        }  # fmt: skip
        header = json.dumps(about).encode()
        header += b" " * (-(len(header) + 4) % ALIGNED_BYTES)
        bits = np.packbits(self.mask.ravel(), bitorder="little")
        return b"".join([len(header).to_bytes(4, "little"), header, *(part.tobytes() for part in (*parts, bits))])

    @staticmethod
    def from_bytes(content: bytes) -> Plate:
        """The plate that `to_bytes` wrote, its pixels in the type they travelled in."""
        start = 4 + int.from_bytes(content[:4], "little")
        about = json.loads(content[4:start])
        shape, kind = tuple(about["shape"]), np.dtype(about["type"]).newbyteorder("<")
        n, band = shape[0] * shape[1], about["band"]
        wide = np.frombuffer(content, kind, band["listed"] if band else n, start)
        if band:
            steps = np.frombuffer(content, np.uint8, -(-n * band["bits"] // 8), start + wide.nbytes)
            pixels = _unbanded(steps, wide, band, n)
            bits = np.frombuffer(content, np.uint8, offset=start + wide.nbytes + steps.nbytes)
        else:
            pixels, bits = wide, np.frombuffer(content, np.uint8, offset=start + wide.nbytes)
        mask = np.unpackbits(bits, count=n, bitorder="little").astype(bool).reshape(shape)
        center, resolution = about["center"], about["resolution"]
        rings = tuple((str(label), float(radius_px)) for label, radius_px in about["rings"])
        curves = {str(label): _curve(arcs) for label, arcs in about["curves"]}
        facets = TypeAdapter(tuple[Facet, ...]).validate_python(about["facets"])
        return Plate(pixels.reshape(shape), mask, about["unit"], tuple(center) if center else None, rings,
                     tuple(resolution) if resolution else None, curves, facets)  # fmt: skip


def _banded(pixels: np.ndarray) -> tuple[dict[str, int], list[np.ndarray]] | None:
    """Integers (H, W) as a band's place, the values that are listed, and the steps; None where that saves nothing."""
    if pixels.dtype.kind == "f" or pixels.size < 2:
        return None
    flat, largest = pixels.ravel(), int(pixels.max())
    sample = flat[:: max(1, flat.size // SAMPLED)].astype(float)
    _, bits, lowest = min(_bands(sample, flat.itemsize, largest))
    if not bits:
        return None
    unsigned, top = flat.view(f"u{flat.itemsize}"), 2**bits - 2
    steps = unsigned - unsigned.dtype.type(lowest % 2 ** (8 * flat.itemsize))  # modulo: below the band is far above it
    outside = np.flatnonzero(steps >= top)
    values = flat[outside]
    narrow = steps.astype(np.uint8)
    narrow[outside] = np.where(values == largest, top, top + 1)
    if bits == 4:
        narrow = np.append(narrow, np.uint8(0)) if flat.size % 2 else narrow
        narrow = narrow[::2] | narrow[1::2] << 4
    listed = values[values != largest]
    return {"bits": bits, "lowest": lowest, "largest": largest, "listed": len(listed)}, [listed, narrow]


def _bands(sample: np.ndarray, itemsize: int, largest: int) -> Iterator[tuple[float, int, int]]:
    """Bytes a pixel that each band would need, with its bits and lowest value; bits 0 for the pixels as they are."""
    yield itemsize, 0, 0
    for bits in BAND_BITS:
        width = 2**bits - 2
        lowest = int(np.percentile(sample, 1)) - width // 16
        inside = ((sample >= lowest) & (sample < lowest + width)) | (sample == largest)
        yield bits / 8 + itemsize * float(np.mean(~inside)), bits, lowest


def _unbanded(steps: np.ndarray, listed: np.ndarray, band: Mapping[str, int], n: int) -> np.ndarray:
    """The pixels that `_banded` took apart, flat."""
    if band["bits"] == 4:
        steps = np.stack([steps & 15, steps >> 4], axis=1).ravel()[:n]
    top = 2 ** band["bits"] - 2
    pixels = np.add(steps, band["lowest"], dtype=np.int64)
    pixels[steps == top] = band["largest"]
    pixels[steps == top + 1] = listed
    return pixels.astype(listed.dtype)


def _arcs(curve: np.ndarray) -> list[list[list[float]]]:
    """Positions (n, 2) cut at rows of NaN, to a hundredth of a pixel."""
    gaps = np.flatnonzero(np.isnan(curve[:, 0]))
    return [part[np.isfinite(part[:, 0])].round(2).tolist() for part in np.split(curve, gaps) if np.isfinite(part[:, 0]).any()]


def _curve(arcs: list[list[list[float]]]) -> np.ndarray:
    """What `_arcs` cut, in one."""
    return np.concatenate([np.zeros((0, 2)), *([*arc, [np.nan, np.nan]] for arc in arcs)])


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
