"""The Simulate page: same seed, same picture; presets; links; files to take away."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from lib.task import Config, Panel, Task, View
from lib.ui.simulate import linked_values, simulated_files
from tests.pages.conftest import Open, figures, texts


def picture(page):
    """The readings that the page's figure shows."""
    (figure,) = figures(page)
    return json.loads(figure)["data"][0]["y"]


def test_same_seed_same_picture_and_new_draw_another(open_page: Open):
    page = open_page("simulate")
    assert not page.exception and not page.error
    first = picture(page)
    page.button(key="toy-simulate-seed-draw").click().run()
    assert page.number_input(key="toy-simulate-seed").value == 1
    assert picture(page) != first
    page.number_input(key="toy-simulate-seed").set_value(0).run()
    assert picture(page) == first


def test_preset_changes_only_its_own_keys(open_page: Open):
    page = open_page("simulate")
    page.number_input(key="toy-simulate.mean_v").set_value(3.0).run()
    preset = next(box for box in page.selectbox if box.label == "Preset")
    preset.set_value("loud").run()
    assert "--set mean_v=3.0 noise_v=2.0" in page.code[0].value


def test_command_and_link_say_what_differs_from_the_defaults(open_page: Open):
    page = open_page("simulate")
    assert page.code[0].value == "python -m lib simulate toy --n 10 --seed 0 --output toy-simulated"
    page.number_input(key="toy-simulate.mean_v").set_value(2.5).run()
    assert page.code[0].value.endswith("--set mean_v=2.5")
    assert page.code[1].value == "toy-simulate?seed=0&mean_v=2.5"


def test_link_fills_the_form_once(open_page: Open):
    page = open_page("simulate", seed="7", mean_v="2.5")
    assert page.number_input(key="toy-simulate-seed").value == 7
    assert page.number_input(key="toy-simulate.mean_v").value == 2.5
    page.number_input(key="toy-simulate.mean_v").set_value(4.0).run()
    assert page.number_input(key="toy-simulate.mean_v").value == 4.0


@pytest.mark.parametrize(
    ("key", "value"), [("mean_v", "many"), ("mean_v", "1e9"), ("noise_v", "-1"), ("seed", "-3"), ("seed", "x")]
)
def test_bad_link_is_a_sentence_and_changes_nothing(open_page: Open, key, value):
    page = open_page("simulate", **{key: value})
    assert not page.exception
    assert page.number_input(key="toy-simulate-seed").value == 0
    assert page.number_input(key="toy-simulate.mean_v").value == 1.0
    if key != "seed":
        assert "address" in page.warning[0].value


def test_linked_values_are_complete(toy: Task):
    assert linked_values(toy, {"mean_v": "2"}) == {"mean_v": 2.0, "noise_v": 0.5, "spread_v": 0.0}


def test_download_has_the_files_and_the_truth(toy: Task):
    config = toy.Simulation(mean_v=3.0, spread_v=1.0)
    content = simulated_files(toy, config, 4, 11)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        truth = pd.read_csv(archive.open("truth.csv"))
        first = np.load(io.BytesIO(archive.read("simulated-00000.npy")))
    expected = toy.simulate(config, 4, np.random.default_rng(11))
    assert len(names) == 5
    np.testing.assert_array_equal(first, expected.inputs["readings"][0])
    np.testing.assert_allclose(truth["mean_v"], expected.table["mean_v"])


def test_impossible_value_keeps_the_page_alive(open_page: Open, toy: Task, monkeypatch):
    monkeypatch.setattr(type(toy), "simulation_panels", lambda *_: 1 / 0)
    page = open_page("simulate")
    assert not page.exception
    assert "could not be shown" in texts(page)
    assert page.number_input(key="toy-simulate.mean_v").value == 1.0


def test_what_takes_long_comes_below_and_is_computed_once_for_its_settings(open_page: Open, toy: Task, monkeypatch):
    asked: list[float] = []

    def slow(_task: Task, config: Config) -> list[View]:
        def make() -> Panel:
            asked.append(config.mean_v)
            return Panel("slow", "Slow", f"computed for {config.mean_v} V")

        return [View("Slow", make)]

    monkeypatch.setattr(type(toy), "simulation_views", slow)
    page = open_page("simulate")
    assert "computed for 1.0 V" in texts(page)
    page.button(key="toy-simulate-seed-draw").click().run()
    assert asked == [1.0]
    page.number_input(key="toy-simulate.mean_v").set_value(3.0).run()
    assert "computed for 3.0 V" in texts(page) and asked == [1.0, 3.0]
