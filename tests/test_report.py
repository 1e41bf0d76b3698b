"""Tables of the HTML page: words and numbers stay whole, in smaller letters where they must."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from lib import report
from lib.task import Panel

FILE = "a/path/without/any/space.parquet"


def page_of(table: pd.DataFrame) -> str:
    return report.page("t", {}, [Panel("a", "A", table)], kicker="k").partition("<main>")[2]


def font_px(page: str) -> float:
    found = re.search(r'class="scroll" style="font-size:([0-9.]+)px"', page)
    return float(found[1]) if found else report.FONT_PX


def test_a_table_that_fits_is_as_it_was() -> None:
    page = page_of(pd.DataFrame({"truth": ["CROCHET11"], "score of the answer, mean (%)": [92.51234567890123]}))
    assert font_px(page) == report.FONT_PX and "<td>CROCHET11</td>" in page


def test_a_wide_table_gets_smaller_letters_before_words_are_broken() -> None:
    page = page_of(pd.DataFrame({f"column {k}": [FILE] for k in range(4)}))
    assert report.SMALLEST_PX <= font_px(page) < report.FONT_PX and 'class="long"' not in page


def test_only_long_words_are_broken_and_no_number() -> None:
    table = pd.DataFrame({f"column {k}": [FILE] for k in range(8)})
    page = page_of(table.assign(spot=0.902, least=-3.4e-10, day="2024-01-02", short="simulated-00016"))
    assert page.count(f'<td class="long">{FILE}</td>') == 8
    for number in ("0.902", "-3.4e-10", "2024-01-02"):
        assert f'<td class="number">{number}</td>' in page
    assert "<td>simulated-00016</td>" in page
    assert "overflow-wrap: anywhere" not in re.findall(r"(?m)^td \{.*$", report.page("t", {}, [], kicker="k"))[0]


def test_letters_never_get_too_small_to_read() -> None:
    assert font_px(page_of(pd.DataFrame(np.ones((1, 60)), columns=[f"column {k}" for k in range(60)]))) == report.SMALLEST_PX
