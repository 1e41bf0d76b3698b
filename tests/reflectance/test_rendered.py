"""Rendered images of known geometry, and a training that begins with them: one small run of each stage, end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib import model, runs, tasks, train
from lib.runs import Run, part
from lib.task import Samples
from lib.tasks.reflectance import demo
from lib.tasks.reflectance.columns import GEOMETRY
from lib.tasks.reflectance.config import HIDDEN, TRUE, VISIBLE
from lib.tasks.reflectance.rendered import rendered
from tests.reflectance.small import gratings

SMALL = {"width": 8, "members": 2, "batch_size": 16, "threads": 1, "accelerator": "cpu", "epochs": 1}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path))
    return tmp_path


def test_rendered_images_have_geometry_and_no_channels_and_are_made_once(home: Path) -> None:
    samples = rendered(6, 3)
    assert len(samples) == 6 and np.ptp(samples.inputs["image"]) > 50
    assert np.isfinite(samples.table[[*VISIBLE, *HIDDEN]].to_numpy(float)).all()
    assert samples.table[f"{TRUE}UV"].isna().all() and samples.table["specimen"].nunique() == 6
    folder = next((home / "cache" / "reflectance").iterdir())
    before = folder.stat().st_mtime_ns
    np.testing.assert_array_equal(rendered(6, 3).inputs["image"], samples.inputs["image"])
    assert folder.stat().st_mtime_ns == before
    assert not np.array_equal(rendered(6, 4).inputs["image"], samples.inputs["image"])


def trained(**settings: object) -> Run:
    run = runs.create("reflectance", tasks.get("reflectance").Training.parse({**SMALL, **settings}).model_dump())
    status = train.fit(run)
    assert status.state == "done", status.reason
    return run


@pytest.mark.slow
def test_channels_start_from_geometry_with_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = gratings(30)
    monkeypatch.setattr(demo, "load", lambda _most: samples)
    task = tasks.get("reflectance")
    geometry = trained(stage="geometry", rendered_images=32)
    table = geometry.test_predictions()
    assert table is not None and {f"predicted.{name}" for name in GEOMETRY} <= set(table.columns)
    assert np.isfinite(geometry.metrics()["mae_pp"]).all()

    run = trained(start_from=geometry.id, frozen="all but the head")
    before, after = (model.load(one, task).network.state_dict() for one in (geometry, run))
    for name in ("body.image.0.body.2.weight", "head.geometry.0.weight", "geometry_mean"):
        np.testing.assert_array_equal(before[name], after[name])
    assert (before["head.members.enter"] != after["head.members.enter"]).any()
    used = model.load(run, task)
    assert used.network.head.forest.value.abs().max() > 0  # type: ignore[union-attr]
    found = used.outputs(Samples(samples.inputs, samples.table))
    assert np.isfinite(found["channels"]).all() and np.ptp(found["channels"][:, 0]) > 0
    predicted = part(run.test_predictions(), "predicted.")  # type: ignore[arg-type]
    assert (predicted["UV_lo"] <= predicted["UV"]).all() and (predicted["UV"] <= predicted["UV_hi"]).all()
