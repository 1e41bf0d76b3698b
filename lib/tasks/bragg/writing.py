"""Masks as files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from lib.disk import written_whole

MASK = "/entry_1/data_1/mask"


def write_mask(mask: np.ndarray, path: Path) -> Path:
    """Write a mask (H, W), True where a pixel is good, as HDF5 by CXI's convention (0 is good). Raises InputError."""
    with written_whole(path) as draft, h5py.File(draft, "w") as file:
        file.create_dataset(MASK, data=(~mask).astype(np.uint8), compression="gzip")
    return path
