"""The Train and Jobs pages with a cluster: the choice, the form, the script, the queue, and what became of a job.

The cluster is played by scripts, see test_fake.
"""

from __future__ import annotations

import time

import pytest
from streamlit.testing.v1 import AppTest

from lib import jobs, runs
from lib.jobs.profiles import ClusterProfile, profile, profiles_file, save_profile
from lib.task import Task
from tests.pages.opening import open_page, texts
from tests.slurm.test_fake import Fakes, fakes, long_ago, submitted  # noqa: F401 - `fakes` is a fixture

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
