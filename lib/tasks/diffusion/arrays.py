"""Samples of this task as the network's input arrays."""

from __future__ import annotations

import numpy as np

from lib.task import Arrays, Samples

CAMERA = ("baseline_adu", "slope_adu", "exposure_fraction", "psf_sigma_px", "psf_sigma_error")


def network_inputs(samples: Samples) -> Arrays:
    """`clip_adu` (n, 16, 64, 64) and `camera` (n, 5: CAMERA, −1 where unknown), float32; or, where the front end has read the
    clips already, its reading as it is."""
    if "clip_adu" not in samples.inputs:
        return dict(samples.inputs)
    columns = np.stack([samples.table[name].to_numpy(np.float32) for name in CAMERA], 1)
    return {"clip_adu": np.asarray(samples.inputs["clip_adu"], np.float32), "camera": np.nan_to_num(columns, nan=-1.0)}
