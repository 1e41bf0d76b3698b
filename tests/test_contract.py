"""Every task keeps the contract of lib/task.py: the tests take each folder under lib/tasks/, and the toy, by themselves.

A fifth task is tested by being there. What is special about a task is tested in tests/<task>/.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

import lib.tasks
from lib import predict, runs, sheet
from lib.task import Config, InputError, Panel, Samples, Split, Task, TrainConfig, TrainingData

ROOT = Path(__file__).parents[1]
TOY_TASKS = ROOT / "tests" / "toy" / "tasks"
STAGES = ("simulate", "clean", "train", "sweep", "results", "predict")
ENOUGH_SAMPLES = 16


@pytest.fixture(scope="module", autouse=True)
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder for this module, and the toy task beside the real ones, here and in processes it starts."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTBENCH_HOME", str(home))
        patch.setenv("LIGHTBENCH_TASK_PATH", str(TOY_TASKS))
        patch.setattr(lib.tasks, "__path__", [*lib.tasks.__path__, str(TOY_TASKS)])
        lib.tasks.names.cache_clear()
        lib.tasks.get.cache_clear()
        yield home
    lib.tasks.names.cache_clear()
    lib.tasks.get.cache_clear()


@pytest.fixture(scope="module", params=[*lib.tasks.names(), "toy"])
def task(request: pytest.FixtureRequest, bench: Path) -> Task:
    return lib.tasks.get(request.param)


@pytest.fixture(scope="module")
def simulated(task: Task) -> Samples:
    """Three samples at the default settings."""
    return task.simulate(task.Simulation(), 3, np.random.default_rng(1))


@pytest.fixture(scope="module")
def known(task: Task) -> Task:
    """The task as it is for a run of the smallest training."""
    return task.knowing(task.training_data(tiny(task)).facts())


@pytest.fixture(scope="module")
def drawn(task: Task) -> Samples:
    """The test samples of the smallest training: their true values differ."""
    data = task.training_data(tiny(task))
    return Samples.concat([data.batch("test", 0, index) for index in range(data.batches("test"))])


def tiny(task: Task, **values: Any) -> TrainConfig:
    """The smallest sensible training: every whole number of data and model at its lower bound, two epochs."""
    small: dict[str, Any] = {"epochs": 2, "batch_size": ENOUGH_SAMPLES, "threads": 1, "accelerator": "cpu"}
    for name, field in task.Training.model_fields.items():
        lowest = bound(field, "ge")
        if field.annotation is int and lowest is not None and _extra(field)["group"] in ("data", "model"):
            least = max(int(lowest), ENOUGH_SAMPLES) if _extra(field)["group"] == "data" else int(lowest)
            small[name] = min(field.default, least)
    return task.Training.parse({**small, **values})


def bound(field: Any, *kinds: str) -> float | None:
    """The first bound of these kinds (ge, gt, le, lt) that a pydantic field has."""
    for rule in field.metadata:
        for kind in kinds:
            if hasattr(rule, kind):
                return float(getattr(rule, kind))
    return None


def _extra(field: Any) -> dict[str, Any]:
    return dict(field.json_schema_extra or {})


def same(a: Samples, b: Samples) -> bool:
    return a.inputs.keys() == b.inputs.keys() and all(np.array_equal(a.inputs[k], b.inputs[k]) for k in a.inputs)


# --- what it says of itself ------------------------------------------------------------------------------------------
def test_describes_itself(task: Task) -> None:
    assert lib.tasks.get(task.name) is task
    for text in (task.title, task.summary, task.input_label, task.output_label):
        assert text.strip()
    assert task.icon.startswith(":material/") and task.icon.endswith(":")
    assert task.suffixes and all(s.startswith(".") and s == s.lower() for s in task.suffixes)
    assert task.monitor.goal in ("min", "max")


@pytest.mark.parametrize("kind", ["Simulation", "Acquisition", "Rules", "Training"])
def test_every_setting_explains_itself(task: Task, kind: str) -> None:
    schema: type[Config] = getattr(task, kind)
    schema()  # the defaults are valid
    for name, field in schema.model_fields.items():
        extra = _extra(field)
        assert field.description and field.description.strip(), f"{kind}.{name} has no description"
        assert {"unit", "group", "log"} <= extra.keys(), f"{kind}.{name} was not made by option()"
        numbers = {int, float} & {field.annotation, *get_args(field.annotation)}
        if numbers and get_origin(field.annotation) is not tuple:
            assert bound(field, "ge", "gt") is not None, f"{kind}.{name} has no lower bound"
        if extra["log"]:
            assert bound(field, "le", "lt") is not None, f"{kind}.{name} is logarithmic and has no upper bound"


def test_acquisition_may_be_left_empty(task: Task) -> None:
    assert all(not field.is_required() for field in task.Acquisition.model_fields.values())


def test_presets_are_valid(task: Task) -> None:
    assert task.training_presets, "the first training preset is the default of the form"
    for preset in task.simulation_presets.values():
        task.Simulation.parse(preset)
    for preset in task.training_presets.values():
        task.Training.parse(preset)


def test_the_command_of_a_sheet_gives_back_all_settings(task: Task, bench: Path) -> None:
    """Of every preset, and of lists that are not the default's."""
    others: dict[str, Any] = {}
    for name, field in task.Training.model_fields.items():
        if get_origin(field.annotation) is tuple:
            several = (2,) * len(field.default) if field.default else ("the rest", "any>OK=3")
            with suppress(InputError):
                task.Training.parse({name: several})
                others[name] = several
    for preset in (*task.training_presets.values(), others):
        config = task.Training.parse(preset)
        run = runs.create(task.name, config.model_dump(mode="json"), name="with, a 'name'")
        words = shlex.split(sheet.command(run, task))
        typed = dict(word.split("=", 1) for before, word in itertools.pairwise(words) if before == "--set")
        assert task.Training.parse(typed) == config
        assert words[-2:] == ["--name", "with, a 'name'"]


def test_wrong_key_lists_the_valid_ones(task: Task) -> None:
    with pytest.raises(InputError) as caught:
        task.Training.parse({"lerning_rate": 1})
    assert "lerning_rate" in str(caught.value) and "learning_rate" in str(caught.value)


def test_examples_are_readable(task: Task) -> None:
    paths = task.example()
    assert paths
    for path in paths:
        assert path.suffix.lower() in task.suffixes
        assert len(task.read(path, task.Acquisition())) >= 1


# --- simulate and files ----------------------------------------------------------------------------------------------
def test_same_seed_same_samples(task: Task, simulated: Samples) -> None:
    again = task.simulate(task.Simulation(), 3, np.random.default_rng(1))
    other = task.simulate(task.Simulation(), 3, np.random.default_rng(2))
    assert same(simulated, again)
    pd.testing.assert_frame_equal(simulated.table, again.table)
    assert not same(simulated, other)


def test_samples_have_the_columns_of_the_contract(simulated: Samples) -> None:
    assert {"file", "note"} <= set(simulated.table.columns)
    assert simulated.table["file"].str.len().min() > 0


def test_every_simulation_preset_simulates_and_shows(task: Task) -> None:
    for preset in task.simulation_presets.values():
        config = task.Simulation.parse(preset)
        assert len(task.simulate(config, 1, np.random.default_rng(0))) == 1
        panels = task.simulation_panels(config, np.random.default_rng(0))
        assert panels and len({p.key for p in panels}) == len(panels)


def test_files_come_back_as_they_were_written(task: Task, simulated: Samples, tmp_path: Path) -> None:
    paths = [p for p in task.write(simulated, tmp_path) if p.name != "truth.csv"]
    back = Samples.concat([task.read(path, task.Acquisition()) for path in paths])
    assert list(back.table["file"]) == list(simulated.table["file"])
    ours, theirs = task.parts(simulated), task.parts(back)
    assert theirs.inputs.keys() == ours.inputs.keys()
    for key, values in ours.inputs.items():
        np.testing.assert_allclose(theirs.inputs[key], values, rtol=1e-6)
    truth = pd.read_csv(tmp_path / "truth.csv")  # a row for each sample, or for each thing in it
    assert len(truth) == len(simulated) or (type(task).parts is not Task.parts and len(truth) > 0)


def test_samples_survive_their_own_folder(simulated: Samples, tmp_path: Path) -> None:
    simulated.save(tmp_path)
    back = Samples.load(tmp_path)
    assert same(simulated, back)
    assert list(back.table["file"]) == list(simulated.table["file"])


def test_display_name_is_what_the_table_shows(task: Task) -> None:
    path = task.example()[0]
    assert set(task.read(path, task.Acquisition(), "Zelle 'ü' 1").table["file"]) == {"Zelle 'ü' 1"}


@pytest.mark.parametrize("content", [b"", b"this is no measurement\n", b"\x00" * 4096], ids=["empty", "text", "zeros"])
def test_wrong_file_is_named_in_a_sentence(task: Task, tmp_path: Path, content: bytes) -> None:
    for suffix in task.suffixes:
        path = tmp_path / f"a b'ü{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            task.read(path, task.Acquisition(), "../my file")
        assert "../my file" in str(caught.value)
        assert caught.value.problem and caught.value.remedy
        assert str(tmp_path) not in str(caught.value), "a message shows the display name, not a path of the server"


def test_truncated_file_never_raises_anything_else(task: Task, tmp_path: Path) -> None:
    whole = task.example()[0].read_bytes()
    path = tmp_path / f"cut{task.example()[0].suffix}"
    for share in (0.01, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        try:
            assert len(task.read(path, task.Acquisition())) >= 1
        except InputError as error:
            assert path.name in str(error)


# --- clean -----------------------------------------------------------------------------------------------------------
def test_readings_and_flags_fit_together(task: Task) -> None:
    samples = task.simulate(task.Simulation(), 8, np.random.default_rng(3))
    readings = task.inspect(samples, task.Acquisition())
    assert len(readings) == 8 and readings.columns[0] == "file"
    flags = task.flag(readings, task.Rules())
    assert len(flags) == 8 and all(map(pd.api.types.is_bool_dtype, flags.dtypes))
    assert set(flags.columns) <= set(task.Rules.model_fields)
    assert flags.any(axis=1).sum() <= 2, "the default rules drop good simulated samples"


def test_a_sample_can_be_looked_at(task: Task, simulated: Samples) -> None:
    image = task.thumbnail(simulated, 0)
    assert image.dtype == np.uint8 and image.ndim == 2 and np.ptp(image) > 0
    assert task.sample_panels(simulated, 0, task.Acquisition())


# --- train -----------------------------------------------------------------------------------------------------------
def test_a_batch_is_known_by_its_number(task: Task) -> None:
    data, again = task.training_data(tiny(task)), task.training_data(tiny(task))
    assert all(data.batches(split) >= 1 for split in get_args(Split) if split != "calibration")
    json.dumps(data.facts(), allow_nan=False)
    assert same(data.batch("train", 1, 0), again.batch("train", 1, 0))
    assert not same(data.batch("train", 0, 0), data.batch("train", 1, 0))
    assert same(data.batch("validation", 0, 0), data.batch("validation", 5, 0))
    assert not same(data.batch("validation", 0, 0), data.batch("test", 0, 0))
    assert not same(data.batch("test", 0, 0), task.training_data(tiny(task, seed=1)).batch("test", 0, 0))


def test_every_model_family_gives_finite_physical_values(task: Task, known: Task, simulated: Samples) -> None:
    import torch

    parts = known.parts(simulated)
    tensors = known.tensors(parts)
    for preset in task.training_presets.values():
        config = tiny(task, **_unsized(task, preset))
        data = task.training_data(config)
        solved = known.solve(config, data, lambda _sentence: None)
        network = (solved[0] if solved is not None else known.network(config)).eval()
        with torch.no_grad():
            values = network.physical(**{k: torch.from_numpy(np.array(v)) for k, v in tensors.items()})
        for name, value in values.items():
            assert len(value) == len(parts), name
            assert torch.isfinite(value).all(), f"{preset}: {name}"
        assert solved is not None or not _idle_weights(task.knowing(data.facts()), data, config), preset
        decoded = known.decode({k: v.numpy() for k, v in values.items()}, parts)
        assert len(decoded) == len(parts)
        assert len(known.whole(decoded, simulated)[0]) == len(simulated)


def _idle_weights(task: Task, data: TrainingData, config: TrainConfig) -> list[str]:
    """Weights that get no gradient from half of a batch: several processes that train together would wait for them for ever."""
    from lib.batches import Shard, TrainSource

    half = TrainSource(task, data)[Shard(0, 0, part=1, parts=2)]
    network = task.network(config).train()
    task.loss(network(**half.inputs), half.targets).backward()
    return [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]


def _unsized(task: Task, preset: Any) -> dict[str, Any]:
    """A preset's choices without its sizes."""
    return {k: v for k, v in preset.items() if task.Training.model_fields[k].annotation is not int}


# --- score -----------------------------------------------------------------------------------------------------------
def test_perfect_prediction_scores_perfectly(task: Task, known: Task, drawn: Samples) -> None:
    truth = known.truth(drawn)
    score = task.score(truth, truth)
    perfect = score[task.monitor.name]
    assert np.isfinite(perfect)
    if task.monitor.goal == "min":
        assert perfect == pytest.approx(0, abs=1e-9)
    wrong = truth.iloc[::-1].reset_index(drop=True)
    assert task.monitor.better(perfect, task.score(wrong, truth)[task.monitor.name])


def test_baselines_have_a_row_for_each_sample(task: Task, drawn: Samples) -> None:
    assert len(task.baselines(drawn)) == len(drawn)


def test_prediction_columns_start_with_the_file_and_end_with_the_note(known: Task) -> None:
    columns = known.prediction_columns()
    assert columns[0] == "file" and columns[-1] == "note" and len(set(columns)) == len(columns)


# --- the dashboard's share needs no torch ----------------------------------------------------------------------------
def test_looking_at_data_imports_no_torch(task: Task, tmp_path: Path) -> None:
    code = f"""
import sys, pathlib, numpy as np
from lib import tasks
task = tasks.get({task.name!r}); rng = np.random.default_rng(0); here = pathlib.Path({str(tmp_path)!r})
samples = task.simulate(task.Simulation(), 2, rng); task.simulation_panels(task.Simulation(), rng)
task.write(samples, here); task.read(task.example()[0], task.Acquisition())
task.flag(task.inspect(samples, task.Acquisition()), task.Rules()); task.thumbnail(samples, 0)
[panel.to_json() for panel in task.sample_panels(samples, 0, task.Acquisition())]
print(sorted({{"torch", "pytorch_lightning", "onnxruntime", "streamlit"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


# --- end to end ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def trained(task: Task, bench: Path) -> runs.Run:
    """A run trained for one epoch, then resumed for a second one."""
    from lib import train

    run = runs.create(task.name, tiny(task, epochs=1).model_dump(), name="contract")
    train.fit(run, resume=False)
    assert run.status().state == "done" and len(run.metrics()) == 1
    stored = json.loads((run.folder / "config.json").read_text())
    stored["config"]["epochs"] = 2
    runs.write_json(run.folder / "config.json", stored)
    train.fit(run, resume=True)
    return run


@pytest.mark.slow
def test_trains_and_resumes(task: Task, trained: runs.Run) -> None:
    status, metrics = trained.status(), trained.metrics()
    assert status.state == "done"
    assert list(metrics["epoch"]) == [metrics["epoch"].iloc[0], metrics["epoch"].iloc[0] + 1]
    assert {"train_loss", "validation_loss", task.monitor.name} <= set(metrics.columns)
    assert np.isfinite(metrics[["train_loss", "validation_loss"]].to_numpy(float)).all()
    values = metrics[task.monitor.name]
    assert status.best_value == pytest.approx(values.min() if task.monitor.goal == "min" else values.max())
    assert trained.has_model()


@pytest.mark.slow
def test_test_predictions_hold_truth_and_baselines(task: Task, known: Task, trained: runs.Run, drawn: Samples) -> None:
    table = trained.test_predictions()
    assert table is not None
    truth = [c.removeprefix("true.") for c in table.columns if c.startswith("true.")]
    predicted = [c.removeprefix("predicted.") for c in table.columns if c.startswith("predicted.")]
    assert truth == list(known.truth(drawn).columns) and set(truth) <= set(predicted)
    assert {f"sample.{c}" for c in task.baselines(drawn).columns} <= set(table.columns)


@pytest.mark.slow
def test_predicts_files(task: Task, trained: runs.Run, simulated: Samples, tmp_path: Path) -> None:
    from lib import model, predict

    paths = [p for p in task.write(simulated, tmp_path) if p.name != "truth.csv"]
    bad = tmp_path / f"bad{task.suffixes[0]}"
    bad.write_bytes(b"no measurement")
    files = [(p, p.name) for p in [paths[0], bad, *paths[1:]]]
    done = predict.predict_files(model.load(trained, task), files, task.Acquisition())
    assert list(done.table.columns) == list(done.task.prediction_columns())
    assert list(dict.fromkeys(done.table["file"])) == [name for _, name in files]
    failed = done.table["file"] == bad.name
    assert failed.sum() == 1 and done.table["note"][failed].str.startswith("error: ").all() and len(done.failures) == 1
    good = done.table[~failed].reset_index(drop=True)
    assert len(good) == len(simulated) and not good["note"].astype(str).str.startswith("error").any()
    panels = done.task.prediction_panels(good, done.samples, done.judged)
    assert panels and all(Panel.from_json(p.to_json()).key == p.key for p in panels)


@pytest.mark.slow
def test_sheet_holds_the_task_s_panels(task: Task, trained: runs.Run) -> None:
    from lib import sheet

    sheet.build(trained)
    stored = trained.sheet()
    assert stored is not None
    page = sheet.html(trained)
    for panel in stored["panels"]:
        assert Panel.from_json(panel).title in page
    assert "Traceback" not in page and (trained.folder / "model_card.md").read_text().strip()


@pytest.mark.slow
def test_onnx_gives_what_torch_gives(task: Task, trained: runs.Run, tmp_path: Path) -> None:
    import onnxruntime

    from lib import export, model

    session = onnxruntime.InferenceSession(str(export.export(trained, "onnx", tmp_path)))
    for n in (1, 5):
        used = model.load(trained, task)
        samples = used.task.parts(task.simulate(task.Simulation(), n, np.random.default_rng(n)))
        ours = used.outputs(samples)
        theirs = dict(zip((o.name for o in session.get_outputs()), session.run(None, used.task.tensors(samples))))
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4, atol=1e-5)


# --- pages -----------------------------------------------------------------------------------------------------------
def test_what_is_read_by_reference_can_be_read_in_ranges(task: Task, simulated: Samples, tmp_path: Path) -> None:
    if not task.reads_by_reference:
        pytest.skip("reading takes the values along")
    files = [(path, path.name) for path in task.write(simulated, tmp_path) if path.suffix in task.suffixes]
    acquisition = task.Acquisition()
    (group,) = task.bundles(files, acquisition)
    whole = predict.read_bundle(task, predict.Bundle(tuple(files[place] for place in group)), acquisition)
    assert isinstance(whole, Samples) and whole.inputs == {} and len(whole) == len(simulated)
    ranges = [predict.Bundle(tuple(files[place] for place in group), rows) for rows in ((0, 1), (1, len(whole)))]
    parts = [predict.read_bundle(task, part, acquisition) for part in ranges]
    pd.testing.assert_frame_equal(Samples.concat(parts).table, whole.table)


# --- paths typed in a browser -----------------------------------------------------------------------------------------
def path_fields(config: type[Config]) -> list[str]:
    return [name for name, field in config.model_fields.items() if _extra(field).get("path")]


@pytest.mark.parametrize("kind", ["Training", "Simulation"])
def test_settings_that_speak_of_files_are_marked_as_paths(task: Task, kind: str) -> None:
    schema: type[Config] = getattr(task, kind)
    texts = {name: f"{name.replace('_', ' ')} {field.description}" for name, field in schema.model_fields.items()
             if field.annotation is str}  # fmt: skip
    assert {name for name, text in texts.items() if re.search(r"\b(file|folder|path)s?\b", text, re.I)} <= {*path_fields(schema)}


@pytest.mark.parametrize("kind", ["Training", "Simulation"])
def test_a_path_typed_in_a_browser_stays_below_data(task: Task, kind: str, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    inside = bench / "data" / task.name / "mine.csv"
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.touch()
    (inside.parent / "way-out").unlink(missing_ok=True)
    (inside.parent / "way-out").symlink_to(ROOT / "tests", target_is_directory=True)
    beyond = ("/etc/passwd", "/no/such", "../../../etc/passwd", "../../../no/such", "~/x", "~nobody-here/x", "README.md",
              "x/../../../../y", "way-out/conftest.py", "\0")  # fmt: skip
    schema: type[Config] = getattr(task, kind)
    for name in path_fields(schema):
        for text in beyond:
            with pytest.raises(InputError, match=rf"^{name}: .* leads out of data/\. Name what lies under data/"):
                runs.refuse_beyond_data(schema.model_construct(**{name: text}), task.name)
        for text in ("", "mine", "mine.csv", "not there yet", str(inside)):
            runs.refuse_beyond_data(schema.model_construct(**{name: text}), task.name)


def test_the_train_page_starts_nothing_on_a_path_beyond_data(task: Task) -> None:
    names = path_fields(task.Training)
    if not names:
        pytest.skip("no setting of this task's training names a file")
    name = "data" if "data" in names else names[0]
    page = AppTest.from_file(str(ROOT / "pages" / "train.py"), default_timeout=60)
    page.session_state["page_path"] = f"{task.name}-train"
    page.session_state[f"{task.name}-train:fill"] = {name: "/etc/passwd"}
    page.run()
    assert [error.value for error in page.error if "leads out of data/" in error.value]
    assert page.button(key="start-training").disabled


@pytest.mark.parametrize("stage", STAGES)
def test_every_page_opens(task: Task, stage: str) -> None:
    page = AppTest.from_file(str(ROOT / "pages" / f"{stage}.py"), default_timeout=60)
    page.session_state["page_path"] = f"{task.name}-{stage}"
    page.run()
    assert not page.exception and not page.error, [e.value for e in page.error]
    assert page.title
