"""The transfer on the Clean page: what it is offered for, what it tells of known differences, what it hands to training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from lib import tasks
from lib.task import Panel, Samples, View
from lib.tasks.spectra import transfer_views
from lib.tasks.spectra.arrays import as_samples
from tests.spectra.test_transfer import curves, on_second, three_instruments, two_instruments

TASK = tasks.get("spectra")


def samples(n: int = 120, **columns: object) -> Samples:
    return as_samples(two_instruments(n, **columns), "two.csv")


def view_of(found: Samples, keep: np.ndarray | None = None) -> View | None:
    return transfer_views.transfer_view(found, pd.Series(np.ones(len(found), bool) if keep is None else keep))


def panel_of(found: Samples, keep: np.ndarray | None = None, **values: str) -> Panel:
    view = view_of(found, keep)
    assert view is not None
    return view.make(**{pick.name: pick.values[0] for pick in view.picks} | values)


def test_the_page_offers_instruments_and_the_columns_that_both_share() -> None:
    view = view_of(samples())
    assert view is not None
    assert {pick.name: pick.values for pick in view.picks} == {
        "first": ("A", "B"), "second": ("B", "A"), "shared": ("group",),
    }  # fmt: skip


def test_a_table_that_tells_no_two_instruments_is_not_asked() -> None:
    one = samples()
    assert view_of(replace(one, table=one.table.drop(columns="instrument"))) is None
    assert view_of(one.take(np.flatnonzero(one.table["instrument"] == "A"))) is None
    apart = one.with_columns(group=[f"s{i}" for i in range(len(one))], kind="", sample=[f"r{i}" for i in range(len(one))])
    assert view_of(apart) is None, "no specimen was measured on both"


def test_what_differs_is_measured_and_each_method_takes_most_of_it_out() -> None:
    first = curves(60, 40)
    trials = transfer_views.tried(first, on_second(first))
    assert list(trials) == ["none", "ds", "pds", "epo"]
    assert trials["none"].error_percent > 60
    assert max(trials[method].error_percent for method in ("ds", "pds", "epo")) < 0.25 * trials["none"].error_percent


def test_equal_instruments_have_no_error_and_an_offset_has_the_one_it_should() -> None:
    first = curves(60, 40)
    assert transfer_views.tried(first, first)["none"].error_percent == 0
    spread = float(np.sqrt(((first - first.mean(axis=0)) ** 2).mean()))
    assert transfer_views.tried(first, first + 0.5 * spread)["none"].error_percent == pytest.approx(50)


def test_specimens_do_not_help_to_transfer_themselves() -> None:
    """Noise of the second instrument cannot be learnt; a map tried on what it was fitted to would seem to."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(24, 40))
    assert transfer_views.tried(first, rng.normal(size=(24, 40)))["ds"].error_percent > 80


def test_the_figure_has_a_row_per_channel_and_a_column_per_method() -> None:
    panel = panel_of(samples())
    assert isinstance(panel.content, go.Figure)
    titles = [note.text for note in panel.content.layout.annotations]
    assert len(titles) == 8 and titles[0].startswith("as they are: ") and len(panel.content.data) == 16
    assert "leaves least" in panel.explanation and "40 kept specimens" in panel.explanation


def test_only_kept_samples_count_and_too_few_are_told() -> None:
    found = samples()
    few = np.isin(found.table["group"], [f"g{k}" for k in range(0, 30, 3)])
    panel = panel_of(found, few)
    assert "10 kept specimens" in panel.explanation and "DS would need more shared specimens" in panel.explanation
    fewer = panel_of(found, np.isin(found.table["group"], ["g0", "g3"]))
    assert "2 kept specimens" in str(fewer.content) and "at least 6" in str(fewer.content)
    assert "two different" in str(panel_of(found, first="A", second="A").content)


def test_what_was_chosen_fills_in_the_training() -> None:
    view = view_of(samples())
    assert view is not None and list(view.carry) == ["Train with DS", "Train with PDS", "Train with EPO"]
    settings = view.carry["Train with PDS"](first="A", second="B", shared="group")
    assert settings == {"transfer": "pds", "transfer_primary": "A", "transfer_to": (), "transfer_shared": ""}
    assert TASK.Training.parse(settings).transfer == "pds"
    assert view.carry["Train with EPO"](first="A", second="B", shared="seal")["transfer_shared"] == "seal"


def test_the_sheet_says_that_spectra_were_transferred() -> None:
    assert transfer_views.sheet_panel({}) == []
    facts = {"transfer": {"method": "epo", "from": "A", "to": ["B"], "known": ["A", "B"], "shared": [17]}}
    (panel,) = transfer_views.sheet_panel(facts)
    assert isinstance(panel.content, pd.DataFrame)
    assert list(panel.content["this run"]) == ["external parameter orthogonalisation (EPO), of all", "A", "B", "17"]
    left = [{"channel": "277", "before_percent": 61.2, "after_percent": 7.9}, {"channel": "flat"}]
    facts["transfer"] |= {"tested": [{"specimens": 9, "left": left}]}
    (panel,) = transfer_views.sheet_panel(facts)
    assert list(panel.content["this run"])[4:] == ["9", "61 % before, 8 % after"] and "has not seen" in panel.explanation


def test_the_sheet_tells_of_each_instrument_and_of_those_left_as_they_are() -> None:
    left = [[{"channel": "277", "before_percent": 60.0, "after_percent": after}] for after in (5.0, 9.0)]
    tested = [{"specimens": n, "left": one} for n, one in zip((4, 6), left)]
    told = {"method": "pds", "from": "A", "to": ["B", "C"], "known": ["A", "B", "C", "D"], "shared": [17, 20], "tested": tested}
    (panel,) = transfer_views.sheet_panel({"transfer": told})
    assert isinstance(panel.content, pd.DataFrame)
    assert list(panel.content["this run"]) == [
        "piecewise direct standardisation (PDS)", "A", "B", "17", "4", "60 % before, 5 % after", "C", "20", "6",
        "60 % before, 9 % after", "D",
    ]  # fmt: skip


def test_a_run_made_with_one_second_instrument_is_told_as_before() -> None:
    told = {"method": "pds", "from": "A", "to": "B", "shared": 17, "tested": {"specimens": 9, "left": []}}
    (panel,) = transfer_views.sheet_panel({"transfer": told})
    assert isinstance(panel.content, pd.DataFrame) and list(panel.content["this run"])[1:] == ["A", "B", "17", "9"]


def test_of_three_instruments_two_are_shown_and_the_others_named() -> None:
    found = as_samples(three_instruments(), "three.csv")
    view = view_of(found)
    assert view is not None and [pick.values for pick in view.picks[:2]] == [("A", "B", "C"), ("B", "C", "A")]
    panel = panel_of(found, second="C")
    assert "training brings each of the others, B, C, to A" in panel.explanation
    names = {trace.name for trace in panel.content.data} if isinstance(panel.content, go.Figure) else set()
    assert names == {"instrument A", "instrument C"}
