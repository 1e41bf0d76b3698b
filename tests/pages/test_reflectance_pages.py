"""The pages of `reflectance`: fine-tuning the shipped model on a lab's kept set from the Train page."""

from __future__ import annotations

import pytest

from lib import runs, tasks
from lib.tasks.reflectance.training import TRAINING_PRESETS
from tests.pages.opening import open_page
from tests.reflectance.bad_pictures import lab

PRESET = "PolarNet for a lab's few images"


@pytest.mark.parametrize("frozen", ["all but the head", "first layers", "nothing"])
def test_a_lab_fine_tunes_on_its_kept_set_with_the_layers_it_chooses(
    frozen: str, bench: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[runs.Run] = []
    monkeypatch.setattr("lib.jobs.start", started.append)
    monkeypatch.setattr("lib.jobs.state", lambda run: run.status().state)
    lab(runs.data_dir() / "reflectance" / "wings")
    page = open_page("reflectance-train", data="wings")
    page.selectbox(key="reflectance-train:preset").set_value(PRESET).run()
    page.selectbox(key="reflectance-train.frozen").set_value(frozen).run()
    page.button(key="start-training").click().run()
    assert not page.exception and not page.error
    config = started[0].config()
    assert config["data"] == "wings" and config["frozen"] == frozen
    assert {key: config[key] for key in TRAINING_PRESETS[PRESET] if key != "frozen"} == {
        key: value for key, value in TRAINING_PRESETS[PRESET].items() if key != "frozen"
    }
    assert tasks.get("reflectance").Training.parse(config).start_from == "shipped-polarnet"
