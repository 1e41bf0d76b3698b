"""Cluster profiles and the batch script they make."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from lib.jobs.profiles import ClusterProfile, profile, profiles, profiles_file, save_profile
from lib.jobs.script import TASK, batch_script, names_of, slurm_time
from lib.task import InputError

pytestmark = pytest.mark.usefixtures("home")
FOLDER = Path("/scratch/my lab/checkpoints/toy/run 100%")
WORDS = ["/opt/python", "-m", "lib", "train", "toy", "--run", "it's"]


def test_a_profile_comes_back_as_it_was_saved() -> None:
    kept = ClusterProfile(
        partition="gpu", gpus="a100:2", memory_gb=1.5, prologue='module load "cuda"\n[ -f x ] && . x\n', extra="--exclusive"
    )
    save_profile("big one", kept)
    save_profile("plain", ClusterProfile())
    assert profiles() == {"default": ClusterProfile(), "big one": kept, "plain": ClusterProfile()}


def test_what_people_wrote_into_the_file_stays() -> None:
    written = '# our cluster\n[night]\ntime_limit_min = 600 # until the shift comes\n\n[day]\nqos = "short" # ask Ana\n'
    profiles_file().write_text(written)
    save_profile("night", ClusterProfile(time_limit_min=700, partition="cpu"))
    text = profiles_file().read_text()
    assert "# our cluster" in text and '[day]\nqos = "short" # ask Ana\n' in text and "# until the shift comes" in text
    assert (profile("night").time_limit_min, profile("night").partition, profile("day").qos) == (700, "cpu", "short")


def test_the_file_explains_itself() -> None:
    save_profile("first", ClusterProfile(partition="cpu"))
    assert profiles_file().read_text().startswith("# Cluster profiles of Lightbench")
    assert "memory_gb" in profiles_file().read_text().split("[first]")[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a\n", "clusters.toml: it cannot be read"),
        ("[a]\npartitoin = 'x'\n", r"clusters.toml, \[a\]: unknown key 'partitoin'. Valid keys: partition, qos"),
        ("[a]\ntime_limit_min = -1\n", "time_limit_min = -1: Input should be greater than or equal to 0"),
        ("[a]\npartition = 'x y'\n", "partition = 'x y'"),
        ("[a]\nextra = 'rm -rf'\n", "'rm -rf' is no option of sbatch"),
        ("[a]\npython = '''a\nb'''\n", "in one line"),
    ],
)
def test_a_wrong_file_says_what_is_wrong_and_is_left_alone(text: str, told: str) -> None:
    profiles_file().write_text(text)
    with pytest.raises(InputError, match=told):
        profile("a")
    with pytest.raises(InputError):
        profiles()
    assert profiles_file().read_text() == text


def test_an_unknown_profile_lists_those_there_are() -> None:
    save_profile("gpu", ClusterProfile())
    with pytest.raises(InputError, match=r"'gpi': there is no such profile\. Profiles: default, gpu\."):
        profile("gpi")
    with pytest.raises(InputError, match="it has no name"):
        save_profile(" ", ClusterProfile())


def test_a_folder_that_cannot_be_written_keeps_the_old_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_profile("a", ClusterProfile())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.jobs.profiles.write_atomic", full)
    with pytest.raises(InputError, match="No space left on device"):
        save_profile("b", ClusterProfile())
    assert list(profiles()) == ["default", "a"]


# --- the script -------------------------------------------------------------------------------------------------------
def test_every_setting_reaches_the_script() -> None:
    asked = ClusterProfile(
        partition="gpu", qos="normal", account="physics", time_limit_min=24 * 60 + 90, nodes=2, tasks=4, cpus_per_task=8,
        memory_gb=1.5, gpus="a100:2", constraint="a100&ib", mail="me@lab.org", signal_s=300, requeue=False,
        extra="#SBATCH --exclusive\n--comment=x y",
    )  # fmt: skip
    script = batch_script(FOLDER, "toy-run", WORDS, asked, after="41")
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert set(options) == {
        "--job-name=toy-run", f'--output="{FOLDER}%/slurm-%j.out"', f'--error="{FOLDER}%/slurm-%j.err"', "--open-mode=append",
        "--partition=gpu", "--qos=normal", "--account=physics", "--time=1-01:30:00", "--nodes=2", "--ntasks=4",
        "--ntasks-per-node=2", "--cpus-per-task=8", "--mem=1536M", "--gres=gpu:a100:2",
        '--constraint="a100&ib"', "--mail-user=me@lab.org", "--mail-type=END,FAIL",
        "--dependency=afterany:41", "--signal=USR1@300", "--no-requeue", "--exclusive", "--comment=x y",
    }  # fmt: skip
    assert {"partition", "timelimit", "mem_per_node", "exclusive"} <= set(names_of(script))


@pytest.mark.parametrize(
    ("asked", "nodes", "per_node"),
    [
        ({}, 1, 1),
        ({"gpus": "a100:1"}, 1, 1),
        ({"tasks": 2}, 1, 2),
        ({"nodes": 2, "tasks": 5}, 2, 3),
        ({"nodes": 2}, 2, 1),
        ({"gpus": "a100:2,v100"}, 1, 3),
        ({"nodes": 2, "gpus": "4", "tasks": 1}, 2, 4),
    ],
)
def test_nodes_tasks_and_gpus_decide_how_many_processes_train(asked: dict[str, object], nodes: int, per_node: int) -> None:
    script = batch_script(FOLDER, "x", WORDS, ClusterProfile.parse(asked))
    assert f"#SBATCH --nodes={nodes}\n" in script and f"#SBATCH --ntasks={nodes * per_node}\n" in script
    several = nodes * per_node > 1
    assert (f"#SBATCH --ntasks-per-node={per_node}\n" in script) == several
    assert ("exec srun --mpi=none" in script) == ("--cpus-per-task=4 /opt/python -m lib" in script) == several
    assert (f"--signal={'' if several else 'B:'}USR1@120\n") in script  # srun's processes hear it, not the shell


def test_a_task_of_an_array_is_one_process_with_its_number() -> None:
    asked = ClusterProfile(nodes=2, tasks=4, gpus="2")
    script = batch_script(FOLDER, "x", [*WORDS, f"a b-{TASK}", TASK], asked, array="0-7%2")
    assert {"#SBATCH --array=0-7%2", "#SBATCH --ntasks=1", "#SBATCH --nodes=1", "#SBATCH --gres=gpu:2"} <= set(
        script.splitlines()
    )
    assert "srun" not in script and "%A_%a.out" in script and "array_inx" in names_of(script)
    assert script.endswith("""'a b-'"$SLURM_ARRAY_TASK_ID" "$SLURM_ARRAY_TASK_ID"\n""")


def test_what_is_left_open_is_left_to_the_cluster() -> None:
    script = batch_script(FOLDER, "toy-run", WORDS, ClusterProfile(time_limit_min=0, cpus_per_task=0))
    for option in ("partition", "qos", "account", "time", "cpus-per-task", "mem", "gres", "signal", "mail", "dependency"):
        assert f"--{option}" not in script
    assert slurm_time(0) == ""


def test_the_script_runs_its_prologue_and_becomes_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBENCH_HOME", str(tmp_path / "my home"))
    asked = ClusterProfile(python="echo", prologue="greeting='hello'\necho $greeting $$\nkill -USR1 $$")
    script = tmp_path / "batch.sh"
    script.write_text(batch_script(tmp_path, "x", WORDS, asked))
    shell = subprocess.Popen(["bash", str(script)], stdout=subprocess.PIPE, text=True)
    said = shell.communicate()[0].splitlines()
    assert said == [f"hello {shell.pid}", "-m lib train toy --run it's"] and shell.returncode == 0
    assert f"export LIGHTBENCH_HOME={shlex.quote(str(tmp_path / 'my home'))}" in script.read_text()


def test_a_shell_that_cannot_load_its_modules_says_so(tmp_path: Path) -> None:
    script = tmp_path / "batch.sh"
    script.write_text(
        batch_script(tmp_path, "x", WORDS, ClusterProfile(python="python", prologue="module load nowhere || exit 3"))
    )
    assert subprocess.run(["bash", str(script)], capture_output=True, check=False).returncode == 3


def test_every_setting_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert [name for name in ClusterProfile.model_fields if f"| `{name}` |" not in page] == []
