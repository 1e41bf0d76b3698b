"""The Train and Jobs pages with a cluster: the choice, the form, the script, the queue, and what became of a job.

The cluster is played by scripts, see test_fake.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from lib import bulk, jobs, runs, sweeps
from lib.jobs.profiles import ClusterProfile, profile, profiles_file, save_profile
from lib.runs import Run
from lib.sweeps import Plan, launch, space
from lib.task import Task
from lib.ui.files import FOLDER
from tests.pages.conftest import models  # noqa: F401 - a fixture
from tests.pages.opening import open_page, texts
from tests.slurm.test_fake import Fakes, fakes, long_ago, submitted  # noqa: F401 - `fakes` is a fixture
from tests.test_cli import call

FORM = "train-cluster-default"


@pytest.fixture
def site(fakes: Fakes, toy: Task) -> Fakes:  # noqa: F811
    """A cluster with two partitions that takes every job and lets it wait."""
    fakes.say("sinfo", "cpu|up|1-00:00:00|10|64|257000|(null)\ngpu|up|4:00:00|2|32|515000|gpu:a100:4")
    fakes.say("sacctmgr", "physics|normal,long")
    fakes.say("scontrol", "ClusterName             = north")
    fakes.say("squeue", f"12|PENDING||{time.time() + 600:.0f}|0:00|10:00|Priority")
    fakes.say("sbatch", "12")
    fakes.say("scancel")
    return fakes


def slurm_page() -> AppTest:
    page = open_page("toy-train")
    return page.segmented_control(key="toy-train-executor").set_value("slurm").run()


def script(page: AppTest) -> str:
    return next(code.value for code in page.code if code.value.startswith("#!/bin/bash"))


def test_without_slurm_the_page_says_so_and_trains_here(fakes: Fakes, toy: Task) -> None:  # noqa: F811
    page = open_page("toy-train")
    assert "Slurm: sbatch is not on the PATH" in texts(page)
    assert not page.button(key="start-training").disabled


def test_names_of_the_cluster_are_offered_and_reach_the_script(site: Fakes) -> None:
    page = slurm_page()
    offered = {name: list(page.selectbox(key=f"{FORM}.{name}").options) for name in ("partition", "qos", "account")}
    assert offered == {"partition": ["none", "cpu", "gpu"], "qos": ["none", "normal", "long"], "account": ["none", "physics"]}
    page.selectbox(key=f"{FORM}.partition").set_value("gpu").run()
    page.text_input(key=f"{FORM}.gpus").set_value("a100:1")
    page.text_input(key="toy-train-name").set_value("my run").run()
    page.text_area(key=f"{FORM}.prologue").set_value("module load cuda").run()
    shown = script(page)
    assert "--job-name=toy-my-run" in shown
    assert "#SBATCH --partition=gpu" in shown and "#SBATCH --gres=gpu:a100:1" in shown and "module load cuda" in shown
    page.button(key="start-training").click().run()
    (run,) = runs.list_runs("toy")
    assert (run.folder / "batch.sh").read_text().strip() == shown.replace("RUN", run.id).strip(), (
        "what was shown is what was submitted"
    )
    assert "12" in texts(page) and jobs.state(run) == "queued" and len(site.calls("sbatch")) == 1


def test_a_refusal_is_shown_and_leaves_no_run(site: Fakes) -> None:
    site.say("sbatch", complains="sbatch: error: Batch job submission failed: Invalid qos specification", status=1)
    page = slurm_page()
    page.button(key="start-training").click().run()
    told = page.error[0].value.replace("\\", "")
    assert "Invalid qos specification" in told and "QOS: normal, long" in told
    assert runs.list_runs("toy") == []


def test_a_wrong_line_disables_the_start(site: Fakes) -> None:
    page = slurm_page()
    page.text_area(key=f"{FORM}.extra").set_value("exclusive").run()
    assert "is no option of sbatch" in page.error[0].value
    assert page.button(key="start-training").disabled


def test_a_damaged_profile_file_is_told_and_this_machine_still_trains(site: Fakes) -> None:
    profiles_file().write_text("[x\n")
    page = slurm_page()
    assert "clusters.toml" in page.error[0].value and page.button(key="start-training").disabled
    page.segmented_control(key="toy-train-executor").set_value("local").run()
    assert not page.error and not page.button(key="start-training").disabled


def test_settings_are_kept_as_a_profile_and_chosen_again(site: Fakes) -> None:
    save_profile("night", ClusterProfile(partition="cpu", time_limit_min=600))
    page = slurm_page()
    page.selectbox(key="train-cluster-profile").set_value("night").run()
    assert "--time=0-10:00:00" in script(page)
    page.number_input(key="train-cluster-night.time_limit_min").set_value(660).run()
    page.text_input(key="train-cluster-save-as-night").set_value("long night").run()
    page.button(key="train-cluster-save").click().run()
    assert (profile("long night").time_limit_min, profile("night").time_limit_min) == (660, 600)


def test_the_queue_is_told_on_both_pages(site: Fakes) -> None:
    run = submitted(site)
    long_ago(run)
    for path in ("toy-train", "jobs"):
        told = texts(open_page(path))
        assert "job 12 · behind jobs of higher priority (Priority) · starts about" in told
    site.say("squeue", "12|RUNNING|node7|1795320667|3:00|10:00|None")
    run.set_status(state="running", heartbeat_at=time.time())
    assert "job 12 · node7 · 3 min 0 s of 10 min" in texts(open_page("jobs"))
    site.say("squeue", "12|PENDING||N/A|0:00|10:00|SomethingNew")
    assert "job 12 · SomethingNew" in texts(open_page("jobs"))


def test_a_silent_cluster_is_told(site: Fakes) -> None:
    run = submitted(site)
    long_ago(run)
    site.say("squeue", complains="slurm_load_jobs error: Unable to contact slurm controller (connect failure)", status=1)
    assert "the cluster does not answer; jobs there go on" in texts(open_page("jobs"))
    assert jobs.state(run) == "queued"


def test_a_run_out_of_memory_says_so_and_goes_on_with_more(site: Fakes) -> None:
    run = submitted(site)
    long_ago(run)
    (run.folder / "slurm-12.err").write_text("slurmstepd: error: Detected 1 oom-kill event(s)\n")
    site.say("squeue", "12|OUT_OF_MEMORY|node7|1795320667|3:00|10:00|OutOfMemory")
    assert "used more memory than it had asked for" in texts(open_page("jobs"))
    page = open_page("toy-train")
    assert "used more memory than it had asked for" in page.error[0].value and "oom-kill" in texts(page)
    page.button(key=f"resume-{run.id}").click().run()
    page.number_input(key=f"resume-{run.id}-.memory_gb").set_value(32.0).run()
    site.say("sbatch", "13")
    site.say("squeue", "13|PENDING||N/A|0:00|10:00|Priority")
    page.button(key="confirm-resume").click().run()
    assert "#SBATCH --mem=32768M" in (run.folder / "batch.sh").read_text()
    assert (run.proc() or {})["job_id"] == "13" and jobs.state(run) == "queued"


# --- job arrays -------------------------------------------------------------------------------------------------------
def test_the_script_of_a_sweep_is_shown_and_is_the_one_submitted(site: Fakes) -> None:
    page = open_page("toy-sweep")
    page.segmented_control(key="toy-sweep-executor").set_value("slurm").run()
    form = "toy-sweep-cluster-default"
    page.selectbox(key=f"{form}.partition").set_value("gpu").run()
    page.text_input(key="toy-sweep-name").set_value("my sweep")
    page.number_input(key="toy-sweep-workers").set_value(3).run()
    shown = script(page)
    assert "#SBATCH --array=0-2" in shown and "#SBATCH --partition=gpu" in shown and "--job-name=toy-my-sweep" in shown
    page.button(key="start-sweep").click().run()
    (sweep,) = sweeps.list_sweeps("toy")
    assert (sweep.folder / "array-1" / "batch.sh").read_text().strip() == shown.replace("SWEEP", sweep.id)


def test_a_stopped_sweep_asks_what_its_next_array_wants(site: Fakes, toy: Task) -> None:
    plan = Plan.parse({"vary": space.typed({"seed": "0:3"}), "sampler": "grid", "pruner": "none"})
    sweep = sweeps.create(toy, toy.Training.parse({}), plan, "stopped", "slurm")  # type: ignore[arg-type]
    launch.assign(sweep, jobs.SLURM.chosen("", {"partition": "cpu"}))
    launch.start(sweep)
    site.say("squeue")
    launch.stop(sweep)
    page = open_page("toy-sweep", sweep=sweep.id)
    page.button(key="resume-sweep").click().run()
    assert not page.exception and not page.error
    memory = page.number_input(key=f"resume-{sweep.id}-.memory_gb")
    memory.set_value(64.0).run()
    shown = script(page)
    assert "#SBATCH --mem=65536M" in shown and "#SBATCH --partition=cpu" in shown and f"--work {sweep.id}" in shown
    page.button(key="confirm-resume-sweep").click().run()
    assert (sweep.folder / "array-2" / "batch.sh").read_text().strip() == shown
    assert launch.cluster_settings(sweep).memory_gb == 64


def test_a_sweep_says_why_it_waits_and_what_its_tasks_said_before_they_died(site: Fakes, toy: Task) -> None:
    plan = Plan.parse({"vary": space.typed({"seed": "0:3"}), "sampler": "grid", "pruner": "none", "workers": 2})
    sweep = sweeps.create(toy, toy.Training.parse({}), plan, "waits", "slurm")  # type: ignore[arg-type]
    launch.assign(sweep, jobs.SLURM.chosen("", {}))
    launch.start(sweep)
    site.say("squeue", "\n".join(f"12_{task}|PENDING||N/A|0:00|10:00|Priority" for task in range(2)))
    assert "behind jobs of higher priority (Priority)" in texts(open_page("toy-sweep"))
    site.say("squeue", "\n".join(f"12_{task}|FAILED|n1|N/A|0:01|10:00|NonZeroExitCode" for task in range(2)))
    (sweep.folder / "array-1" / "slurm-12_0.err").write_text("module: command not found\n")
    jobs.SLURM.queue.forget()
    page = open_page("toy-sweep")
    assert any("Slurm ended job 12_0 as FAILED" in code.value and "module: command not found" in code.value for code in page.code)


def test_a_folder_of_many_files_is_predicted_on_the_cluster(
    site: Fakes,
    home: Path,
    models: list[str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = home / "data" / "toy" / "night"
    folder.mkdir(parents=True)
    for number in range(bulk.MANY_FILES + 1):
        np.save(folder / f"{number:04d}.npy", np.zeros(8, np.float32))
    site.say("squeue", "\n".join(f"12_{part}|PENDING||N/A|0:00|10:00|Priority" for part in range(9)))
    begun: list[Run] = []
    monkeypatch.setattr("lib.jobs.start", lambda run, keep: begun.append(run))
    page = open_page("toy-predict")
    page.segmented_control(key="toy-predict-where").set_value(FOLDER).run()
    page.selectbox(key="toy-predict-folder").set_value("toy/night").run()
    page.segmented_control(key="toy-predict-executor").set_value("slurm").run()
    page.selectbox(key="predict-cluster-default.partition").set_value("gpu").run()
    shown = script(page)
    assert "#SBATCH --array=0-8" in shown and '--part "$SLURM_ARRAY_TASK_ID"' in shown
    page.button(key="toy-predict-bulk").click().run()
    assert not page.exception and not page.error
    (run,) = begun
    asked = bulk.request_of(run.folder)
    assert asked.executor == "slurm" and asked.cluster["partition"] == "gpu" and asked.browser
    assert call("predict", "toy", "--output", run.folder, "--resume") == 0  # what the background process does
    assert (run.folder / "array" / "batch.sh").read_text().strip() == shown.replace("PREDICTION", run.id)
    assert jobs.executor_of(run).name == "slurm array" and jobs.state(run) == "queued"


def test_a_part_that_failed_says_why_and_goes_on_with_more(
    site: Fakes,
    home: Path,
    models: list[str],  # noqa: F811
) -> None:
    for number in range(4):
        np.save(home / f"{number}.npy", np.zeros(8, np.float32))
    out = bulk.new_folder("toy")
    words = ("predict", "toy", "--input", *sorted(home.glob("*.npy")), "--model", models[0], "--output", out, "--parts", 2)
    assert call(*words, "--executor", "slurm") == 0
    site.say("squeue", "12_0|COMPLETED||N/A|0:10|10:00|None\n12_1|FAILED|n1|N/A|0:10|10:00|NonZeroExitCode")
    (out / "array" / "slurm-12_1.err").write_text("error: nothing more of part 1 could be kept\n")
    bulk.part_folder(out, 0).mkdir()
    page = open_page("jobs")
    said = texts(page).replace("\\", "")
    assert "task 1: Slurm ended job 12_1 as FAILED" in said and "error: nothing more of part 1 could be kept" in said
    assert "[slurm  " in said
    page.button(key=f"log-{out.name}").click().run()
    assert any("nothing more of part 1" in code.value for code in page.code)
    page = open_page("jobs")
    page.button(key=f"resume-{out.name}").click().run()
    page.number_input(key=f"resume-{out.name}-.time_limit_min").set_value(600).run()
    assert not page.exception and not page.error
    shown = script(page)
    assert "#SBATCH --array=1\n" in shown and "#SBATCH --time=0-10:00:00" in shown
    page.button(key="confirm-resume").click().run()
    assert bulk.request_of(out).cluster["time_limit_min"] == 600
