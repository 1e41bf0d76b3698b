"""A sweep in the browser: started from the form, stopped, resumed, and followed to its best run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lib import jobs, sweeps, tasks
from lib.runs import write_json
from lib.sweeps import Plan, launch, space, study
from tests.e2e.server import TINY, Server
from tests.e2e.session import Session


@pytest.fixture(autouse=True)
def same_home(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test looks into the home folder that the server serves, and leaves no trainer behind."""
    monkeypatch.setenv("LIGHTBENCH_HOME", str(server.home))
    yield
    for sweep in sweeps.list_sweeps("diffusion"):
        if launch.state(sweep, study.trials_of(study.load(sweep))) == "running":
            launch.stop(sweep)


def test_a_sweep_is_started_from_the_form_and_stopped(tab: Session) -> None:
    tab.open("diffusion-sweep").unfold("Optimiser").unfold("Compute")
    for label, value in (("Clips per epoch", 64), ("Validation clips", 64), ("Test clips", 64), ("Batch size (samples)", 16)):
        tab.fill(label, value)
    tab.fill("Width (channels)", 4).fill("Threads", 1).fill("Epochs", 500).fill("Name", "in the browser").fill("Trials", 4)
    tab.press("Start 4 trials").sees("running", timeout_s=60)
    sweep = sweeps.find("in the browser", "diffusion")
    assert f"sweep={sweep.id}" in tab.page.url
    tab.press("Stop", exact=True).sees("Stop this sweep?")
    tab.press("Keep running").settle()
    assert launch.state(sweep, study.trials_of(study.load(sweep))) == "running"
    tab.press("Stop", exact=True).sees("Stop this sweep?")
    tab.press("Stop it").sees("cancelled", timeout_s=60)
    assert launch.state(sweep, study.trials_of(study.load(sweep))) == "cancelled"
    assert all(jobs.state(run) not in jobs.ACTIVE for run in launch.open_runs(sweep))


def test_a_stopped_sweep_goes_on_and_leads_to_its_best_run(tab: Session) -> None:
    task = tasks.get("diffusion")
    plan = Plan.parse({"vary": space.typed({"learning_rate": "0.001,0.002"}), "sampler": "grid", "pruner": "none"})
    sweep = sweeps.create(task, task.Training.parse({**TINY, "epochs": 1}), plan, "two rates")  # type: ignore[arg-type]
    write_json(sweep.folder / "proc.json", {"cancelled_at": 0.0})
    tab.open(f"diffusion-sweep?sweep={sweep.id}").press("Resume", exact=True).sees("2 of 2 trials", timeout_s=180)
    tab.drawn().sees("History")
    trials = study.trials_of(study.load(sweep))
    assert len(trials) == 2 and launch.state(sweep, trials) == "done"
    assert tab.page.locator(".live-figure").count() == 2, "history and slice"
    best = launch.best_of(sweep, trials)
    assert best is not None
    tab.page.get_by_role("link", name="Best run").click()
    tab.settle().sees(launch.run_of(sweep, best).name)
    assert f"diffusion-results?run={best.run_id}" in tab.page.url
