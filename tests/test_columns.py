"""Columns of tables on pages: no number loses its first digits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib import tasks
from lib.ui.columns import AROUND_PX, CHARACTER_PX, column_config


@pytest.mark.parametrize("late", [4.343e-35, 0.00001234, -0.4535, 1.234e8])
def test_a_long_number_that_comes_late_has_room(late: float) -> None:
    """The automatic width measures the first rows alone."""
    found = column_config(tasks.get("spectra"), pd.DataFrame({"p_a": [1.0] * 30 + [late]}))["p_a"]
    assert found["width"] >= AROUND_PX + CHARACTER_PX * len(f"{late:.4g}")


@pytest.mark.parametrize("values", [[0.4535, 0.1, 1.0], [1e-35, 1.0], [np.nan, 0.0], []])
def test_other_columns_keep_their_automatic_width(values: list[float]) -> None:
    assert column_config(tasks.get("spectra"), pd.DataFrame({"p_a": np.array(values, float)}))["p_a"]["width"] is None
