"""Pictures that people look at: an image beside its colours, and where in it a network looked for each channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from lib.tasks.reflectance.colour import on_screen
from lib.tasks.reflectance.config import CHANNELS, IMAGE_PX

COMPOSITES = {"UV, 740, 940": ("UV", "740", "940"), "B, G, R": ("B", "G", "R")}  # shown as blue, green, red, as the original did
OVERLAY = 0.6  # of the composite over the image
GAP_PX = 4
CHIP_PX = 48


def cells_of(influence: Sequence[float] | np.ndarray) -> np.ndarray:
    """(10, c, c) of the flat list that `influence` gives."""
    flat = np.asarray(influence, np.float32)
    side = round((flat.size / len(CHANNELS)) ** 0.5)
    return flat.reshape(len(CHANNELS), side, side)


def composite(image: np.ndarray, influence: Sequence[float] | np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """RGB uint8 (256, 256, 3): the image under a signed map of three channels, blue, green and red in their order.

    Mid grey is no influence; a channel is brighter where the place raises it and darker where it lowers it, over the largest
    influence of the three.
    """
    cells = cells_of(influence)[[CHANNELS.index(channel) for channel in channels]]
    cells = cells - cells.mean(axis=(1, 2), keepdims=True)
    most = float(np.abs(cells).max()) or 1.0
    layers = [_smooth(one / most) for one in cells[::-1]]  # red is last
    colours = 127.5 + 127.5 * np.stack(layers, 2)
    grey = image.astype(np.float32)[:, :, None]
    return np.clip(OVERLAY * colours + (1 - OVERLAY) * grey, 0, 255).astype(np.uint8)


def _smooth(cells: np.ndarray) -> np.ndarray:
    """Cells (c, c) as (256, 256), without steps."""
    picture = Image.fromarray(cells.astype(np.float32)).resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def chip(colour: Sequence[float], height_px: int, width_px: int = CHIP_PX) -> np.ndarray:
    """RGB uint8 (h, w, 3) in the colour of linear B, G and R from 0 to 1; grey stripes where one is unknown."""
    if not np.isfinite(colour).all():
        stripes = np.where((np.arange(height_px)[:, None] // 6 + np.arange(width_px) // 6) % 2, 110, 150)
        return np.repeat(stripes[:, :, None], 3, 2).astype(np.uint8)
    return np.broadcast_to(on_screen(colour), (height_px, width_px, 3)).copy()


def beside(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Grey or RGB uint8 pictures of one height, side by side as RGB (h, w, 3)."""
    rgb = [np.repeat(part[:, :, None], 3, 2) if part.ndim == 2 else part for part in parts]
    gap = np.full((rgb[0].shape[0], GAP_PX, 3), 90, np.uint8)
    row: list[np.ndarray] = []
    for part in rgb:
        row += [part, gap]
    return np.concatenate(row[:-1], 1)
