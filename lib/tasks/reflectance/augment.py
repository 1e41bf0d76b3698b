"""Random change of training images: what a micrograph of the same specimen could also look like."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lib.tasks.reflectance.config import COMMON_NM_PER_PX, IMAGE_PX
from lib.tasks.reflectance.training import Training

JPEG_SHARE, JPEG_QUALITY = 0.3, (60, 96)  # of training images that went through a JPEG file
MARGIN_PX = 64  # mirrored rim, which turned corners show


def augment(
    images: np.ndarray, nm_per_px: np.ndarray, config: Training, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 256, 256) uint8, turned, mirrored, enlarged, with other contrast and noise; and their nm per pixel (n,).

    All of it happens to the one image that every path of a network then sees.
    """
    changed = np.empty_like(images)
    zoom = 1 + config.zoom_percent / 100 * rng.uniform(-1, 1, len(images))
    for number, image in enumerate(images):
        angle = np.deg2rad(rng.uniform(-config.rotation_deg, config.rotation_deg))
        turned = turn(image, float(angle), float(zoom[number]), mirror=bool(config.flip and rng.random() < 0.5))
        changed[number] = recorded(turned, config, rng)
    return changed, nm_per_px / zoom


def turn(image: np.ndarray, angle_rad: float, zoom: float = 1.0, *, mirror: bool = False) -> np.ndarray:
    """The image (256, 256) turned about its middle, enlarged by `zoom`, perhaps mirrored; corners show its own mirror image."""
    if mirror:
        image = image[:, ::-1]
    if not angle_rad and zoom == 1:
        return np.ascontiguousarray(image)
    wide = Image.fromarray(np.pad(image, MARGIN_PX, mode="reflect"))
    middle, cosine, sine = MARGIN_PX + IMAGE_PX / 2, np.cos(angle_rad) / zoom, np.sin(angle_rad) / zoom
    half = IMAGE_PX / 2
    rows = (
        cosine, sine, middle - half * (cosine + sine),
        -sine, cosine, middle - half * (cosine - sine),
    )  # fmt: skip
    return np.asarray(wide.transform((IMAGE_PX, IMAGE_PX), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR))


def recorded(image: np.ndarray, config: Training, rng: np.random.Generator) -> np.ndarray:
    """The image with other contrast and brightness, noise, and sometimes the traces of a JPEG file."""
    change = config.contrast_percent / 100
    gain, offset = 1 + change * rng.uniform(-1, 1), 127.5 * change / 2 * rng.uniform(-1, 1)
    values = (image.astype(np.float32) - 127.5) * np.float32(gain) + np.float32(127.5 + offset)
    if config.noise:
        sigma = 255 * config.noise * rng.random()
        values += np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    changed = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return compressed(changed, int(rng.integers(*JPEG_QUALITY))) if rng.random() < JPEG_SHARE else changed


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The image as a JPEG file of that quality gives it back."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def scale_of(nm_per_px: np.ndarray) -> np.ndarray:
    """(n, 2) float32 for the network: log2 of the pixel size over the common one, and 1; zeros where it is unknown."""
    known = np.isfinite(nm_per_px) & (nm_per_px > 0)
    ratio = np.where(known, nm_per_px, COMMON_NM_PER_PX) / COMMON_NM_PER_PX
    return np.stack([np.log2(ratio), known], 1).astype(np.float32)
