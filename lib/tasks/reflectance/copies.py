"""Pictures that repeat others: the same pixels; compressed, resized or brightened; turned, mirrored or shifted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from PIL import Image
from scipy import fft

from lib.tasks.reflectance.config import IMAGE_PX
from lib.tasks.reflectance.looks import Looks

MOST_BITS = 12  # hashes that differ more are not compared further
ALIKE = 0.9  # correlation at 32 × 32 px from which pictures of alike hashes are copies
NEAREST = 2  # earlier pictures of the most alike signature that are looked at
MOST_VERIFIED = 400  # pairs laid over each other, the most alike first
FARTHEST = 2.0  # distance of signatures beyond which nothing is laid over
OVER = 0.6  # correlation of two whitened pictures laid over each other from which they are one: views of a specimen reach 0.4
WHITENED, PASSED = 0.6, (6, 40)  # power of the amplitude that is divided out; frequencies kept, in periods per picture
HALF_PX, TEMPLATE_PX = IMAGE_PX // 2, IMAGE_PX // 4
TURN_STEPS = 180  # angles of a turn that are told apart, over half a turn
BLOCK = 512


def find_copies(images: np.ndarray, looks: Looks) -> pd.DataFrame:
    """Earlier pictures that each of uint8 (n, 256, 256) repeats, as row numbers from 0, NaN where there is none.

    Columns: `repeats_row` (same pixels), `copy_of_row` and `copy_bits` (perceptual hash, verified by correlation),
    `turned_of_row` (laid over each other after a turn, a mirroring or a shift).
    """
    repeats, copy_of, bits, turned = (np.full(len(images), np.nan) for _ in range(4))
    for later, earlier, different in _near_hashes(looks):
        if different == 0 and np.isnan(repeats[later]) and np.array_equal(images[later], images[earlier]):
            repeats[later] = earlier
        if not bits[later] <= different:
            copy_of[later], bits[later] = earlier, different
    for later, earlier in _near_signatures(looks.signatures):
        if np.isnan(bits[later]) and np.isnan(turned[later]) and overlaid(images[later], images[earlier]) >= OVER:
            turned[later] = earlier
    return pd.DataFrame({"repeats_row": repeats, "copy_of_row": copy_of, "copy_bits": bits, "turned_of_row": turned})


def _near_hashes(looks: Looks) -> Iterator[tuple[int, int, int]]:
    """(later row, earlier row, bits) of pictures whose hashes and small pictures are alike."""
    hashes, small = looks.hashes, looks.small
    for start in range(0, len(hashes), BLOCK):
        block = hashes[start : start + BLOCK]
        bits = np.bitwise_count(block[:, None] ^ hashes[None, : start + len(block)])
        later, earlier = np.nonzero(bits <= MOST_BITS)
        inside = earlier < later + start
        later, earlier = later[inside], earlier[inside]
        for k in range(0, len(later), 8192):
            a, b = later[k : k + 8192], earlier[k : k + 8192]
            alike = np.einsum("nk,nk->n", small[a + start], small[b]) >= ALIKE
            yield from zip((a[alike] + start).tolist(), b[alike].tolist(), bits[a[alike], b[alike]].tolist())


def _near_signatures(signatures: np.ndarray) -> Iterator[tuple[int, int]]:
    """(later row, earlier row), the nearest first: pictures that may be one, turned."""
    squares = (signatures**2).sum(axis=1)
    pairs = []
    for start in range(0, len(signatures), BLOCK):
        stop = min(start + BLOCK, len(signatures))
        distance = squares[start:stop, None] + squares[None, :stop] - 2 * signatures[start:stop] @ signatures[:stop].T
        distance[np.arange(stop)[None, :] >= np.arange(start, stop)[:, None]] = np.inf
        nearest = np.argpartition(distance, min(NEAREST, stop) - 1, axis=1)[:, :NEAREST]
        near = np.take_along_axis(distance, nearest, axis=1)
        row, place = np.nonzero(near <= FARTHEST**2)
        pairs += list(zip(near[row, place].tolist(), (row + start).tolist(), nearest[row, place].tolist()))
    for _, later, earlier in sorted(pairs)[:MOST_VERIFIED]:
        yield later, earlier


# --- laying one picture over another ----------------------------------------------------------------------------------
def overlaid(one: np.ndarray, other: np.ndarray) -> float:
    """Largest correlation of the middle of `other`, turned, mirrored and shifted as fits best, with a part of `one`.

    Both uint8 (256, 256). The turn is where the power spectra over angle agree, which leaves half a turn open.
    """
    a = _halved(one)
    white, best = _whitened(a), -1.0
    for mirrored in (False, True):
        b = _halved(other[:, ::-1] if mirrored else other)
        turn = _turn(a, b)
        for angle in (turn, turn + 180.0):
            turned = np.asarray(Image.fromarray(b).rotate(angle, Image.Resampling.BILINEAR))
            best = max(best, _matched(white, _whitened(turned)))
            if best >= OVER:
                return best
    return best


def _halved(picture: np.ndarray) -> np.ndarray:
    """float32 (128, 128) without its mean."""
    small = picture.reshape(HALF_PX, 2, HALF_PX, 2).mean(axis=(1, 3), dtype=np.float32)
    return small - small.mean()


def _whitened(picture: np.ndarray) -> np.ndarray:
    """A picture (128, 128) whose strong periods count little more than its details: ridges alone look alike anywhere."""
    seen = fft.rfft2(picture)
    radius = np.hypot(np.fft.fftfreq(HALF_PX, 1 / HALF_PX)[:, None], np.arange(HALF_PX // 2 + 1)[None, :])
    passed = (radius >= PASSED[0]) & (radius <= PASSED[1])
    return fft.irfft2(seen * (passed / (np.abs(seen) + 1e-3) ** WHITENED), (HALF_PX, HALF_PX)).astype(np.float32)


def _turn(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees, counter-clockwise, by which b must be turned for its spectrum over angle to be that of a."""
    left, right = _over_angle(a), _over_angle(b)
    agreement = fft.irfft((fft.rfft(left, axis=1) * np.conj(fft.rfft(right, axis=1))).sum(axis=0), TURN_STEPS)
    return -float(np.argmax(agreement)) * 180 / TURN_STEPS


def _over_angle(picture: np.ndarray) -> np.ndarray:
    """Log power at `TURN_STEPS` angles, for radii 3 to 40 of (128, 128), each without its mean."""
    window = np.hanning(HALF_PX).astype(np.float32)
    power = np.log(np.abs(fft.fftshift(fft.fft2(picture * window[:, None] * window))) ** 2 + 1)
    radius, angle = np.arange(3, 41)[:, None], np.pi * np.arange(TURN_STEPS)[None, :] / TURN_STEPS
    y, x = HALF_PX // 2 + radius * np.sin(angle), HALF_PX // 2 + radius * np.cos(angle)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    dy, dx = y - y0, x - x0
    found = (1 - dy) * ((1 - dx) * power[y0, x0] + dx * power[y0, x0 + 1]) + dy * (
        (1 - dx) * power[y0 + 1, x0] + dx * power[y0 + 1, x0 + 1]
    )
    return found - found.mean(axis=1, keepdims=True)


def _matched(a: np.ndarray, turned: np.ndarray) -> float:
    """Largest correlation coefficient of the middle 64 px of `turned` with any 64 px of `a`."""
    first = (HALF_PX - TEMPLATE_PX) // 2
    template = turned[first : first + TEMPLATE_PX, first : first + TEMPLATE_PX]
    template = template - template.mean()
    norm = float(np.sqrt((template**2).sum()))
    if norm < 1e-3:
        return 0.0
    reach = HALF_PX - TEMPLATE_PX + 1
    product = fft.irfft2(fft.rfft2(a) * np.conj(fft.rfft2(template, (HALF_PX, HALF_PX))), (HALF_PX, HALF_PX))[:reach, :reach]
    count = TEMPLATE_PX**2
    total, squares = _window_sums(a, reach), _window_sums(a.astype(np.float64) ** 2, reach)
    spread = np.sqrt(np.maximum(squares - total**2 / count, 1e-3))
    return float((product / (spread * norm)).max())


def _window_sums(values: np.ndarray, reach: int) -> np.ndarray:
    """Sums over every 64 × 64 px window, by cumulated sums."""
    summed = np.pad(values.astype(np.float64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    size = TEMPLATE_PX
    return (
        summed[size:, size:][:reach, :reach]
        - summed[:-size, size:][:reach]
        - summed[size:, :-size][:, :reach]
        + summed[:-size, :-size]
    )
