"""Readings, rules and views of a set: each rule removes what it names and nothing else; each view can be drawn and picked in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from scipy import ndimage

from lib import tasks
from lib.task import Panel, Samples, View
from lib.tasks.reflectance import clean, clean_views, kept, sample_views
from lib.tasks.reflectance.config import CHANNELS, TRUE
from lib.tasks.reflectance.files import read, read_bundle
from lib.tasks.reflectance.settings import Acquisition, Rules
from tests.reflectance.bad_pictures import lab, micrograph, targets, with_bar

N = 8


def samples(n: int = N, **columns: Any) -> Samples:
    """n good pictures, two of each specimen, with targets."""
    values = pd.DataFrame([targets(row // 2) for row in range(n)], columns=[TRUE + channel for channel in CHANNELS])
    about = {
        "file": [f"{row}.png" for row in range(n)], "note": "", "kind": "wing", "nm_per_px": 25.0,
        "specimen": [f"s{row // 2}" for row in range(n)],
    }  # fmt: skip
    table = pd.concat([pd.DataFrame(about, index=range(n)), values], axis=1).assign(**columns)
    return Samples({"image": np.stack([micrograph(row) for row in range(n)])}, table)


def changed(change: Callable[[np.ndarray], np.ndarray], of: int = N - 1) -> Samples:
    """The good pictures, the last one made from picture `of`."""
    good = samples()
    images = good.inputs["image"].copy()
    images[-1] = change(images[of])
    return Samples({"image": images}, good.table)


def last(value: Any, usual: Any) -> list[Any]:
    return [usual] * (N - 1) + [value]


BROKEN: dict[str, tuple[Samples, dict[str, Any]]] = {
    "max_scale_ratio": (samples(nm_per_px=last(80.0, 25.0)), {}),
    "drop_unknown_scale": (samples(nm_per_px=last(np.nan, 25.0)), {"drop_unknown_scale": True}),
    "min_contrast_grey": (changed(lambda image: (118 + image // 16).astype(np.uint8)), {}),
    "max_saturated_percent": (changed(lambda image: np.where(image > 140, 255, image).astype(np.uint8)), {}),
    "max_detail_px": (changed(lambda image: ndimage.gaussian_filter(image, 6)), {}),
    "min_laplacian": (changed(lambda image: ndimage.gaussian_filter(image, 2.5)), {"min_laplacian": 40.0}),
    "drop_scale_bars": (samples(scale_bar_px=last(40.0, 0.0)), {}),
    "drop_copies": (changed(np.copy, of=0), {}),
    "max_copy_bits": (changed(lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8), of=0), {}),
    "drop_turned_copies": (changed(np.rot90, of=0), {}),
    "drop_outside_targets": (samples(true_R=last(1.2, 0.5)), {}),
    "drop_contradictions": (samples(contradicts=last(True, False)), {}),
    "min_targets": (samples(true_UV=last(np.nan, 0.4)), {"min_targets": 10}),
    "drop_leaks": (samples(split=last("test", "train")), {}),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_removes_what_it_names_and_nothing_else(rule: str) -> None:
    broken, how = BROKEN[rule]
    readings = clean.inspect(broken)
    flags = clean.flag(readings, Rules(**how))
    wanted = N - 2 if rule == "drop_leaks" else N - 1  # of a specimen in both parts, the view to train on goes
    assert np.flatnonzero(flags[rule]).tolist() == [wanted]
    assert flags.drop(columns=rule).to_numpy().sum() == 0
    off = {"max_scale_ratio": 1000.0, "min_contrast_grey": 0.0, "max_saturated_percent": 100.0, "max_detail_px": 256.0}
    if rule in off or rule.startswith("drop_"):
        assert not clean.flag(readings, Rules(**{rule: off.get(rule, False)})).to_numpy().any()


def test_good_pictures_break_no_rule_and_every_rule_has_its_check() -> None:
    flags = clean.flag(clean.inspect(samples()), Rules())
    assert not flags.to_numpy().any() and all(map(pd.api.types.is_bool_dtype, flags.dtypes))
    assert set(flags) == set(BROKEN) == set(clean_views.CHECKS) == set(Rules.model_fields) - {"try_pattern"}


def test_readings_stand_for_their_rows_whatever_the_index() -> None:
    one = samples()
    turned = Samples(one.inputs, one.table.set_index(np.arange(N)[::-1]))
    pd.testing.assert_frame_equal(clean.inspect(one), clean.inspect(turned))
    assert clean.inspect(one).columns[0] == "file"
    some = clean.inspect(one.take([5, 2]))
    assert list(some["file"]) == ["5.png", "2.png"] and some["contrast_grey"][1] == clean.inspect(one)["contrast_grey"][2]
    assert len(clean.inspect(one.take([]))) == 0


def test_pictures_without_a_table_are_read_and_break_no_rule(tmp_path: Path) -> None:
    table = lab(tmp_path)
    table.unlink()
    alone = Samples.concat([read(path, Acquisition()) for path in sorted(tmp_path.glob("*.png"))])
    readings = clean.inspect(alone)
    assert (readings["n_targets"] == 0).all() and readings["target_min"].isna().all() and readings["nm_per_px"].isna().all()
    assert not clean.flag(readings, Rules()).to_numpy().any()


def test_readings_of_many_are_kept_and_computed_anew_for_other_pixels(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = kept.FROM
    first = samples(n)
    readings = clean.inspect(first)
    with monkeypatch.context() as patch:
        patch.setattr(clean, "_looked", lambda images: pytest.fail("computed again"))
        pd.testing.assert_frame_equal(clean.inspect(first), readings)
    images = first.inputs["image"].copy()
    images[3, 0, 0] ^= 1
    assert clean.inspect(Samples({"image": images}, first.table))["mean_grey"][3] != readings["mean_grey"][3]


def test_groups_of_copies_join_what_repeats_each_other() -> None:
    good = samples()
    images = good.inputs["image"].copy()
    images[4], images[6], images[7] = images[1], np.rot90(images[1]), images[2]
    readings = clean.inspect(Samples({"image": images}, good.table))
    assert clean.copy_groups(readings, Rules()) == [[1, 4, 6], [2, 7]]


def test_a_specimen_in_two_parts_leaks_from_the_larger() -> None:
    specimens = np.array(["a", "a", "b", "b", "", "c"], object)
    splits = np.array(["train", "test", "train", "train", "train", ""], object)
    assert clean.leaks(specimens, splits).tolist() == [True, False, False, False, False, False]


# --- views ------------------------------------------------------------------------------------------------------------
def views(these: Samples, rules: Rules | None = None) -> dict[str, View]:
    rules = rules or Rules()
    readings = clean.inspect(these)
    keep = ~clean.flag(readings, rules).any(axis=1)
    return {view.title: view for view in clean_views.overview(these, readings, keep, rules)}


def made(view: View, choice: int = 0) -> Panel:
    panel = view.make(**{pick.name: pick.values[choice] for pick in view.picks})
    Panel.from_json(panel.to_json())  # as it goes from the worker to the page
    return panel


@pytest.mark.parametrize("rule", ["max_scale_ratio", "drop_copies", "min_targets"])
def test_every_view_can_be_drawn(rule: str) -> None:
    these, how = BROKEN[rule]
    for view in views(these, Rules(**how)).values():
        for choice in range(len(view.picks[0].values) if view.picks else 1):
            made(view, choice)


def test_checks_count_what_their_rules_find_even_where_they_are_off() -> None:
    these, _ = BROKEN["drop_scale_bars"]
    shown = made(views(these, Rules(drop_scale_bars=False))["Checks"]).content
    assert isinstance(shown, pd.DataFrame) and len(shown) == len(clean_views.CHECKS)
    row = shown.set_index("check").loc["scale bar inside"]
    assert list(row) == ["off", 1, "7.png"] and shown["pictures"].sum() == 1


def test_pictures_behind_a_check_and_copies_can_be_picked() -> None:
    these, _ = BROKEN["drop_copies"]
    for title, rows in (("Pictures behind a check", [7]), ("Copies side by side", [0, 7])):
        figure = made(views(these)[title]).content
        assert isinstance(figure, go.Figure)
        assert [list(trace.customdata) for trace in figure.data if trace.customdata is not None] == [rows]
    assert "Copies side by side" not in views(samples())


def test_leakage_of_a_random_split_is_told() -> None:
    told = made(views(samples())["Checks"]).explanation
    assert "85%" in told  # of two views, one in training with probability .85
    assert "not known" in made(views(samples(specimen=""))["Checks"]).explanation
    images = samples().inputs["image"].copy()
    images[7] = images[0]
    assert "join several specimens" in made(views(Samples({"image": images}, samples().table))["Checks"]).explanation


def test_a_pattern_is_tried_without_reading_again() -> None:
    rules = Rules(try_pattern="{specimen}.png")
    table = made(views(samples(), rules)["Specimens"]).content
    assert isinstance(table, pd.DataFrame)
    assert list(table["by the pattern"]) == [str(row) for row in range(N)]
    assert list(table["by equal targets"]) == [f"targets {1 + row // 2}" for row in range(N)]
    assert list(table["specimen"]) == [f"s{row // 2}" for row in range(N)]


def test_one_picture_of_a_file_is_shown_whole_with_its_cut(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(with_bar(micrograph(shape=(480, 640)), 34)).save(tmp_path / "a.png")
    one = read(tmp_path / "a.png", Acquisition(nm_per_px=10))
    panels = {panel.key: panel for panel in sample_views.sample_panels(one, 0)}
    assert set(panels) == {"whole", "seen", "spectrum", "histogram", "facts"}
    figure = panels["whole"].content
    assert isinstance(figure, go.Figure)
    square, bar = figure.layout.shapes
    assert (square.x0, square.x1, square.y0, square.y1) == (80 - 0.5, 560 - 0.5, -0.5, 479.5)
    assert (bar.y0, bar.y1) == (479.5, 513.5) and "34 px" in panels["whole"].explanation
    (tmp_path / "a.png").unlink()
    assert "no longer there" in str(sample_views.sample_panels(one, 0)[0].content)


def test_simulated_pictures_and_those_of_a_table_are_shown(tmp_path: Path) -> None:
    keys = [panel.key for panel in sample_views.sample_panels(samples(), 3)]
    assert keys == ["seen", "spectrum", "histogram", "targets", "facts"]
    table = lab(tmp_path)
    loaded = read_bundle([(table, "targets.csv")], Acquisition())
    assert "targets" in [panel.key for panel in sample_views.sample_panels(loaded, 0)]
    small = clean_views.thumbnail(loaded, 0)
    assert small.dtype == np.uint8 and small.ndim == 2 and np.ptp(small) > 0


def test_checks_and_readings_have_french_words() -> None:
    say = tasks.get("reflectance").speaking("fr").say
    words = {text for texts in clean_views.CHECKS.values() for text in texts if text}
    words |= {text for *texts, _ in clean_views.READINGS.values() for text in texts}
    same = {text for text in words if say(text, **({"value": 2.0} if "{" in text else {})) == text.replace("{value:g}", "2")}
    assert same == set()
