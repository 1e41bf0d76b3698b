"""Pictures and tables of predictions and sheets: colours, maps of influence, search by colour, what stands beside the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.splits import leaks
from lib.task import Film, Panel, Samples
from lib.tasks.reflectance import TASK, maps, predict_views, sheet_views, training_views
from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import CHANNELS, TRUE
from lib.tasks.reflectance.ranking import parse_target, ranked
from lib.tasks.reflectance.simulate_views import in_words
from lib.words import english, plain
from tests.reflectance.small import gratings

FACTS: dict[str, Any] = {
    "stage": "channels", "split_by": "specimen", "simulated": True, "notes": ["A note."], "source": "a set", "start_from": "",
    "rows": {"train": 4, "test": 8}, "groups": {"train": 2, "test": 4},
    "references": [{"name": f"r{k}", "kind": "fine", "values": [0.1 * k] * 9 + [None]} for k in range(3)],
}  # fmt: skip


def predicted_of(samples: Samples, off: float = 0.02) -> pd.DataFrame:
    """Predictions that are off by so much, with intervals."""
    truth = samples.table[[TRUE + c for c in CHANNELS]].set_axis(list(CHANNELS), axis=1)
    found = truth + off
    ends = {f"{c}{end}": (found[c] + sign * 0.03).clip(0, 1) for c in CHANNELS for end, sign in (("_lo", -1), ("_hi", 1))}
    return found.assign(
        **ends, file=samples.table["file"], image=samples.table["file"], specimen=samples.table["specimen"], in_domain=True,
        note="", nearest=[np.array([0, 1, 2])] * len(samples),
    )  # fmt: skip


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Eight images, the influence of the top left corner known of the first six."""
    cells = np.zeros((10, 4, 4), np.float32)
    cells[:, 0, 0] = 0.1
    return gratings(4).with_columns(influence=[*([cells.ravel()] * 6), None, None])


# --- search by colour -------------------------------------------------------------------------------------------------
def test_targets_are_colours_or_channels() -> None:
    assert parse_target("") == {}
    assert parse_target("#ffffff") == {"R": 1.0, "G": 1.0, "B": 1.0}
    assert parse_target("b=0.4; 940=0.1") == {"B": 0.4, "940": 0.1}
    grey = parse_target("#808080")["G"]
    assert grey == pytest.approx(0.216, abs=0.001), "sRGB 128 is 21.6 % of the light"


@pytest.mark.parametrize("wrong", ["blue", "B=2", "Q=0.1", "#12", "B="])
def test_wrong_targets_are_told_in_a_sentence(wrong: str) -> None:
    with pytest.raises(ValueError, match="channels are UV, B"):
        parse_target(wrong)


def test_nearest_colour_comes_first_and_unknown_ones_not_at_all() -> None:
    table = pd.DataFrame({"B": [0.9, 0.42, np.nan], "G": [0.1, 0.1, 0.1]})
    found = ranked(table, {"B": 0.4, "G": 0.1})
    assert found["row"].tolist() == [1, 0]
    assert found["distance_pp"].tolist() == pytest.approx([100 * 0.02 / 2**0.5, 100 * 0.5 / 2**0.5])


# --- pictures ---------------------------------------------------------------------------------------------------------
def test_chip_has_the_colour_of_its_channels() -> None:
    assert maps.chip((1.0, 0.0, 0.0), 4)[0, 0].tolist() == [0, 0, 255]
    assert maps.chip((0.2159, 0.2159, 0.2159), 4)[0, 0].tolist() == pytest.approx([128] * 3, abs=1)
    assert np.ptp(maps.chip((np.nan, 0.1, 0.1), 24)) > 0


def test_composite_is_bright_where_a_channel_is_raised_and_in_its_colour() -> None:
    cells = np.zeros((10, 8, 8), np.float32)
    cells[CHANNELS.index("B"), 0, 0] = 1.0
    picture = maps.composite(np.full((256, 256), 128, np.uint8), cells.ravel(), ("B", "G", "R")).astype(int)
    assert picture[8, 8, 2] > picture[8, 8, 0] + 40, "blue is the third of red, green, blue"
    assert abs(picture[200, 200] - picture[200, 200, 0]).max() < 12


# --- panels -----------------------------------------------------------------------------------------------------------
def test_prediction_panels_show_colours_neighbours_maps_specimens_and_search(samples: Samples) -> None:
    table = predicted_of(samples)
    judged = table[["nearest"]].assign(of=np.arange(len(table)))
    shown = Samples(samples.inputs, samples.table, {"target": "B=0.2"})
    panels = {p.key: p for p in predict_views.prediction_panels(table, shown, judged, FACTS, english)}
    assert {"summary", "swatches", "channels", "maps", "specimens", "search"} <= panels.keys()
    film = panels["maps"].content
    assert isinstance(film, Film) and len(film.reels) == 3 and len(film.labels) == 6 < len(table)
    assert "first 6" in panels["maps"].explanation and "not tested" in panels["maps"].explanation
    assert [trace.name for trace in panels["channels"].content.data[:4]] == ["predicted", "r0 fine", "r1 fine", "r2 fine"]
    first = int(panels["search"].behind[0][0])
    assert abs(table["B"] - 0.2).argmin() == first
    assert all(Panel.from_json(panel.to_json()).key == key for key, panel in panels.items())


def test_without_a_target_nothing_is_ranked(samples: Samples) -> None:
    table = predicted_of(samples)
    panels = predict_views.prediction_panels(table, samples, pd.DataFrame(), FACTS, english)
    assert "search" not in {panel.key for panel in panels}


def test_behind_panels_hold_true_and_predicted_values(samples: Samples) -> None:
    panels = predict_views.behind_panels(predicted_of(samples).head(2), samples.take([0, 1]), FACTS, english)
    assert [panel.key for panel in panels] == ["image-0", "image-1", "values-behind"]
    values = panels[-1].content
    assert isinstance(values, pd.DataFrame) and len(values) == 4
    assert "measured colour" in panels[0].explanation and "where it looked" in panels[0].explanation
    (unexplained, _) = predict_views.behind_panels(predicted_of(samples).tail(1), samples.take([7]), FACTS, english)
    assert "where it looked" not in unexplained.explanation


def test_sheet_compares_with_simpler_ways_and_tells_of_leakage(samples: Samples) -> None:
    truth = samples.table[[TRUE + c for c in CHANNELS]].set_axis(list(CHANNELS), axis=1)
    columns = {
        f"{name}_{c}": truth[c] + off
        for name, off in (("trees", 0.04), ("oracle", 0.02), ("leaky", 0.01), ("new_kind", 0.1), ("mean", 0.2), ("ridge", 0.05))
        for c in CHANNELS
    }  # fmt: skip
    table = samples.table.assign(group=samples.table["specimen"], **columns)
    predicted = predicted_of(samples, 0.03)
    panels = {p.key: p for p in sheet_views.sheet_panels(predicted, truth, table, FACTS, english)}
    beside = panels["beside"].content
    assert isinstance(beside, pd.DataFrame)
    assert beside["MAE (pp)"].tolist() == [3.0, 3.0, 4.0, 5.0, 20.0, 2.0]
    assert beside.iloc[0, -1] == 50, "3 pp is half of the way from 4 to 2"
    leakage = panels["leakage"].content
    assert isinstance(leakage, str) and "1.00 pp" in leakage and "75 % better" in leakage and "10.00 pp" in leakage
    assert panels["kinds"].content.shape[0] == 2 and len(panels["specimens"].behind) == 4
    assert "A note." in panels["data"].content
    flattering = sheet_views.leakage_text(predicted, truth, table, FACTS | {"split_by": "nothing"}, english)
    assert "flatters" in flattering


def test_a_french_sheet_has_no_english_names() -> None:
    rng = np.random.default_rng(0)
    truth = pd.DataFrame(rng.uniform(1, 2, (8, len(GEOMETRY))), columns=list(GEOMETRY))
    note = plain(leaks(["s1", "s1", "s2"])[0])
    facts = FACTS | {"stage": "geometry", "spans": dict.fromkeys(GEOMETRY, 1.0), "source": "12 rendered images, seed 0",
                     "notes": [note]}  # fmt: skip
    french = TASK.knowing(facts).speaking("fr")
    panels = {p.key: p for p in french.sheet_panels(truth, truth, pd.DataFrame(index=range(8)))}
    names = panels["geometry"].content["paramètre"]
    assert names[0] == "période des crêtes (nm)" and not set(names) & {in_words(name) for name in GEOMETRY}
    assert "Source : 12 images de synthèse." in panels["data"].content and "replicates" not in panels["data"].content
    for name in (*TASK.knowing(facts).score(truth, truth), *(f"mae_{c}_pp" for c in CHANNELS), "rmse_pp", "r2"):
        assert french.say(name) != name


@pytest.mark.parametrize(("holds", "words"), [(True, "mean something"), (False, "mean nothing")])
def test_the_deletion_test_is_told_with_its_outcome(holds: bool, words: str) -> None:
    numbers = {
        f"{k}_{n}": v for k in ("raising", "lowering") for n, v in (("pp", 0.86), ("percent", 77.0), ("error_percent", 1.7))
    }
    told = predict_views.deletion_text({"deletion": {"images": 48, **numbers, "holds": holds}}, english)
    assert "48 test images" in told and "0.86 pp" in told and "77 of 100" in told and words in told


# --- learning curves --------------------------------------------------------------------------------------------------
def test_every_channel_has_its_curves_on_training_and_validation() -> None:
    columns = {f"{split}mae_{c}_pp": [9.0, 5.0, 4.0 + k] for split in ("train_", "") for k, c in enumerate(CHANNELS)}
    history = pd.DataFrame({"epoch": [1, 2, 3], **columns})
    (panel,) = training_views.curves(history, 2, english)
    assert len(panel.content.data) == 20 and "changed at random" in panel.explanation
    assert panel.content.data[1].y[-1] == 4 and panel.content.data[19].y[-1] == 13
    (older,) = training_views.curves(history.drop(columns=[c for c in history if c.startswith("train_")]), None, english)
    assert len(older.content.data) == 10 and "changed at random" not in older.explanation


def test_one_epoch_has_no_curve() -> None:
    assert training_views.curves(pd.DataFrame({"epoch": [1], "mae_UV_pp": [4.0]}), 1, english) == []
