"""The toy task as one that judges things in its samples, so that finished slices are kept, and takes its time over each."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np
import pandas as pd

from lib.task import Samples
from tests.toy.tasks.toy import Toy

SLICE_S = 0.4


class Patient(Toy):
    """See the module."""

    name: ClassVar[str] = "patient"
    title: ClassVar[str] = "Patient"

    def parts(self, samples: Samples) -> Samples:
        time.sleep(SLICE_S)
        return samples

    def whole(self, judged: pd.DataFrame, samples: Samples) -> tuple[pd.DataFrame, pd.DataFrame]:
        return judged, pd.DataFrame({"of": np.arange(len(judged))})


TASK = Patient()
