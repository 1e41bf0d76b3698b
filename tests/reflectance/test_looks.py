"""What pixels tell: noise, periods and sharpness of pictures whose answer is known, and which pictures repeat others."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from lib.tasks.reflectance.copies import MOST_BITS, OVER, find_copies, overlaid
from lib.tasks.reflectance.looks import look
from tests.reflectance.bad_pictures import micrograph

BIG = (700, 700)


def middle(levels: np.ndarray, y: int = 0, x: int = 0) -> np.ndarray:
    top, left = (levels.shape[0] - 256) // 2 + y, (levels.shape[1] - 256) // 2 + x
    return np.ascontiguousarray(levels[top : top + 256, left : left + 256])


def reading(image: np.ndarray, name: str) -> float:
    return float(look(image[None]).readings[name].iloc[0])


def test_white_noise_is_noise_and_nothing_else() -> None:
    noise = np.clip(np.random.default_rng(0).normal(128, 12, (256, 256)), 0, 255).round().astype(np.uint8)
    assert reading(noise, "noise_grey") == pytest.approx(12, rel=0.05)
    assert reading(noise, "contrast_grey") == pytest.approx(12, rel=0.02)
    assert reading(noise, "detail_px") == 256
    np.testing.assert_allclose(look(noise[None]).radial[0, 20:].mean(), 144, rtol=0.05)  # σ² at every frequency


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
@pytest.mark.parametrize("period", [8.0, 16.0, 32.0])
def test_the_main_period_of_stripes_is_theirs_whatever_their_direction(period: float, angle: float) -> None:
    y, x = np.mgrid[:256, :256]
    phase = x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
    stripes = 128 + 60 * np.sin(2 * np.pi * phase / period)
    assert reading(stripes.round().astype(np.uint8), "period_px") == pytest.approx(period, rel=0.1)


def test_a_flat_picture_has_no_period_and_no_detail() -> None:
    flat = np.full((256, 256), 90, np.uint8)
    assert np.isnan(reading(flat, "period_px")) and reading(flat, "detail_px") == 256
    assert reading(flat, "contrast_grey") == reading(flat, "laplacian_variance") == 0


def test_saturated_pixels_are_black_or_white() -> None:
    image = np.full((256, 256), 90, np.uint8)
    image[:64], image[64:128] = 0, 255
    assert reading(image, "saturated_percent") == 50


def test_blur_is_told_and_noise_is_not_taken_for_sharpness() -> None:
    rng = np.random.default_rng(1)
    for seed in range(5):
        sharp = micrograph(seed)
        soft = [ndimage.gaussian_filter(sharp.astype(float), sigma).round().astype(np.uint8) for sigma in (2, 3, 4, 6)]
        details = [reading(image, "detail_px") for image in (sharp, *soft)]
        assert details == sorted(details) and details[-1] > 2 * details[0]
        np.testing.assert_allclose(np.diff(details[1:]) / [1, 1, 2], details[3] / 4, rtol=0.6)  # about in proportion to the blur
        noisy = np.clip(soft[1] + rng.normal(0, 12, sharp.shape), 0, 255).astype(np.uint8)
        assert reading(noisy, "laplacian_variance") > reading(sharp, "laplacian_variance")  # fooled
        assert reading(noisy, "detail_px") >= details[2] > details[0]  # not fooled


# --- copies -----------------------------------------------------------------------------------------------------------
def compressed(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=40)
    return np.asarray(Image.open(stream))


def resized(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((150, 150), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((256, 256), Image.Resampling.BICUBIC))


def blurred(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.5)))


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "compressed": compressed, "resized": resized, "blurred": blurred,
    "brighter": lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
}  # fmt: skip
TURNED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a quarter": lambda big: middle(np.rot90(big)),
    "mirrored": lambda big: middle(big[:, ::-1]),
    "mirrored and turned": lambda big: middle(np.rot90(big[::-1])),
    "37 degrees": lambda big: middle(ndimage.rotate(big, 37, reshape=False, order=1)),
    "-100 degrees": lambda big: middle(ndimage.rotate(big, -100, reshape=False, order=1)),
    "shifted": lambda big: middle(big, 30, -40),
    "turned and shifted": lambda big: middle(ndimage.rotate(big, 20, reshape=False, order=1), 20, 15),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_by_their_hash(kind: str) -> None:
    originals = np.stack([micrograph(seed) for seed in range(8)])
    copies = np.stack([COPIES[kind](image) for image in originals])
    together = np.concatenate([originals, copies])
    found = find_copies(together, look(together))
    assert found["copy_of_row"][:8].isna().all() and list(found["copy_of_row"][8:]) == list(range(8))
    assert found["copy_bits"][8:].max() <= 6 and found["repeats_row"].isna().all()


def test_the_same_pixels_are_told_from_copies() -> None:
    images = np.stack([micrograph(0), micrograph(1), micrograph(0), micrograph(0)])
    found = find_copies(images, look(images))
    assert found["repeats_row"].fillna(-1).tolist() == [-1, -1, 0, 0] and found["copy_bits"].fillna(99).tolist() == [99, 99, 0, 0]


@pytest.mark.parametrize("kind", TURNED)
def test_turned_mirrored_and_shifted_copies_are_found(kind: str) -> None:
    big = [micrograph(seed, BIG) for seed in range(4)]
    images = np.stack([*map(middle, big), *(TURNED[kind](picture) for picture in big)])
    found = find_copies(images, look(images))
    assert found["turned_of_row"].fillna(-1).tolist() == [-1] * 4 + list(range(4))
    assert found["repeats_row"].isna().all()


def test_other_places_of_one_specimen_are_no_copies() -> None:
    big = [micrograph(seed, BIG) for seed in range(6)]
    views = np.stack([middle(picture, y, x) for picture in big for y, x in ((-200, -200), (200, 200), (-200, 200))])
    found = find_copies(views, look(views))
    assert found.isna().all(axis=None)
    assert max(overlaid(views[3 * k], views[3 * k + 1]) for k in range(6)) < OVER


def test_flat_pictures_are_compared_without_a_fault() -> None:
    images = np.stack([np.full((256, 256), grey, np.uint8) for grey in (0, 0, 90)])
    found = find_copies(images, look(images))
    assert found["repeats_row"].isna().all() and found["turned_of_row"].isna().all()  # nothing in them to compare
    assert MOST_BITS >= 6


def test_one_picture_has_nothing_to_repeat() -> None:
    image = micrograph()[None]
    assert find_copies(image, look(image)).isna().all(axis=None)
