"""A model of simulated scales goes on with a lab's few images: layers stay as chosen, and the lab's images are told better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from lib import model, runs, tasks, train
from lib.__main__ import main
from lib.runs import Run
from lib.task import Samples
from lib.tasks.reflectance import demo, files, score
from lib.tasks.reflectance.columns import TARGETS
from lib.tasks.reflectance.config import CHANNELS
from lib.tasks.reflectance.data import Images
from lib.tasks.reflectance.training import TRAINING_PRESETS, Training
from tests.reflectance.small import gratings

SMALL = {"width": 8, "members": 2, "threads": 1, "accelerator": "cpu", "batch_size": 8}
PRESET = "PolarNet for a lab's few images"


def trained(**settings: Any) -> Run:
    config = Training.parse({**SMALL, **settings})
    run = runs.create("reflectance", config.model_dump(mode="json"), str(settings.get("frozen", "base")))
    status = train.fit(run)
    assert status.state == "done", status.reason
    return run


@pytest.fixture
def base(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on simulated gratings in place of the demo set."""
    monkeypatch.setattr(demo, "load", lambda _most: gratings(24))
    return trained(epochs=2)


@pytest.fixture
def lab(home: Path) -> Path:
    """Twenty measured images of ten specimens, all of them much brighter than simulated ones, as a table with pictures."""
    measured = gratings(10, seed=5, geometry=False)
    brighter = {target: 0.5 + 0.5 * measured.table[target] for target in TARGETS}
    folder = home / "data" / "reflectance" / "our-wings"
    files.write(Samples(measured.inputs, measured.table.assign(image=measured.table["file"], **brighter)), folder)
    return folder


def weights(run: Run) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run.folder / "model.safetensors")


def is_frozen(name: str, frozen: str) -> bool:
    if frozen == "all but the head":
        return name.startswith(("body.", "head.geometry."))
    return frozen == "first layers" and name.startswith(("body.first.", "body.polar.0.", "body.polar.1."))


@pytest.mark.slow
def test_layers_stay_as_chosen_and_the_lab_is_told_better(base: Run, lab: Path) -> None:
    task, before = tasks.get("reflectance"), weights(base)
    data = Images(Training.parse({"data": "our-wings"}))
    test = data.part("test")
    true = test.table[TARGETS].to_numpy(float)
    at_first = model.load(base, task).predict(test)[list(CHANNELS)].to_numpy(float)
    for frozen in ("all but the head", "first layers", "nothing"):
        run = trained(start_from=base.id, frozen=frozen, data="our-wings", epochs=15, learning_rate=1e-2)
        after, trainable = weights(run), dict(model.load(run, task).network.named_parameters())
        stayed = {name for name in trainable if torch.equal(before[name], after[name])}
        assert {name for name in trainable if is_frozen(name, frozen)} <= stayed
        assert any(not is_frozen(name, frozen) and name not in stayed for name in trainable)
        now = model.load(run, task).predict(test)[list(CHANNELS)].to_numpy(float)
        assert score.mean_mae_pp(now, true) < 0.8 * score.mean_mae_pp(at_first, true)
        assert not run.facts()["simulated"] and run.facts()["start_from"] == base.id


@pytest.mark.slow
def test_the_preset_fine_tunes_the_shipped_model_from_the_command_line(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, config = tasks.get("reflectance"), Training.parse({"members": 8})
    shipped = runs.create("reflectance", config.model_dump(mode="json"), "shipped-polarnet")
    model.save_weights(shipped, task.network(config))
    words = ["train", "reflectance", "--preset", PRESET, "--name", "wings", "--set", "data=our-wings", "epochs=1", "threads=1"]
    assert main(words) == 0, capsys.readouterr().err
    run = runs.find("wings", "reflectance")
    asked = run.config()
    assert {key: asked[key] for key in TRAINING_PRESETS[PRESET] if key != "epochs"} == {
        key: value for key, value in TRAINING_PRESETS[PRESET].items() if key != "epochs"
    }
    before, after = weights(shipped), weights(run)
    frozen = [name for name in before if is_frozen(name, "all but the head")]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
    assert not np.array_equal(before["head.members.leave"], after["head.members.leave"])


def test_a_run_of_another_size_cannot_be_started_from(base: Run, lab: Path) -> None:
    config = Training.parse({**SMALL, "width": 16, "start_from": base.id, "data": "our-wings", "epochs": 1})
    run = runs.create("reflectance", config.model_dump(mode="json"), "other")
    status = train.fit(run)
    assert status.state == "failed" and "do not fit" in status.reason and "same model settings" in status.reason
