"""The contract's own value types."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.task import Samples


@pytest.fixture
def three() -> Samples:
    table = pd.DataFrame({"file": ["a", "b", "c"], "note": "", "true_v": [1.0, 2.0, 3.0]})
    return Samples({"clip": np.arange(12, dtype=np.uint16).reshape(3, 4)}, table)


def test_rows_are_taken_in_the_order_asked_for(three: Samples) -> None:
    taken = three.take([2, 0])
    assert list(taken.table["file"]) == ["c", "a"] and list(taken.table.index) == [0, 1]
    np.testing.assert_array_equal(taken.inputs["clip"], three.inputs["clip"][[2, 0]])


@pytest.mark.parametrize("none", [[], (), np.array([]), np.array([], dtype=int)], ids=["list", "tuple", "floats", "integers"])
def test_taking_no_rows_keeps_shapes_and_types(three: Samples, none: list[int]) -> None:
    taken = three.take(none)
    assert len(taken) == 0 and taken.inputs["clip"].shape == (0, 4)
    assert taken.inputs["clip"].dtype == np.uint16
    pd.testing.assert_series_equal(taken.table.dtypes, three.table.dtypes)


def test_inputs_and_table_of_different_length_are_refused(three: Samples) -> None:
    with pytest.raises(ValueError, match=r"\{'clip': 3\} do not match 2 table rows"):
        Samples(three.inputs, three.table.head(2))
