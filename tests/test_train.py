"""The training loop: same seed same curve, resume without a seam, every end leaves a reason."""

from __future__ import annotations

import errno
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from lib import batches, lrfinder, model, runs, train
from lib.batches import Shard, ShardSampler, TrainSource, ValidationSource
from lib.runs import Cancelled, Run, Status
from lib.signals import handled
from lib.task import InputError, Panel, Samples, Task, TrainingData


def make(task: Task, name: str = "run", **settings: Any) -> Run:
    config = task.Training.parse({"n_train": 32, "n_test": 32, "epochs": 3} | settings)
    return runs.create(task.name, config.model_dump(mode="json"), name)


def curve(run: Run) -> pd.DataFrame:
    return run.metrics().drop(columns="seconds")


def stop_at(epoch: int, step: int) -> Callable[[Status], None]:
    def look(status: Status) -> None:
        if (status.epoch, status.step) == (epoch, step):
            raise Cancelled

    return look


def test_a_finished_run_has_everything(toy: Task) -> None:
    run = make(toy, epochs=8)
    status = train.fit(run)
    assert status == run.status()
    assert (status.state, status.epoch, status.reason) == ("done", 8, "")
    assert (status.metric, status.unit, status.goal) == ("rmse_v", "V", "min")
    table = run.metrics()
    assert list(table["epoch"]) == list(range(1, 9))
    assert {"train_loss", "validation_loss", "rmse_v", "bias_v", "learning_rate", "seconds"} < set(table)
    assert status.best_value == table["rmse_v"].min()
    assert status.best_epoch == table.loc[table["rmse_v"].idxmin(), "epoch"]
    assert run.has_model() and (run.folder / "last.ckpt").exists() and list(run.folder.glob("events.out.tfevents.*"))
    assert "done: best epoch" in run.log()


def test_a_learning_rate_is_found_where_the_loss_falls_and_the_network_stays_as_it_was(toy: Task) -> None:
    config = toy.Training.parse({"n_train": 256, "dropout": 0.0})
    data, said = toy.training_data(config), []
    network = toy.network(config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rate = lrfinder.find(toy, config, network, data, said.append)
    assert 1e-3 < rate <= 0.03 and f"{rate:g}" in said[0]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    run = make(toy, find_learning_rate=True, epochs=1, schedule="constant")
    assert train.fit(run).state == "done"
    assert run.metrics()["learning_rate"].iloc[0] != run.config()["learning_rate"]


def test_steps_take_the_rate_down_to_a_hundredth(toy: Task) -> None:
    run = make(toy, epochs=9, schedule="step")
    train.fit(run)
    rates = run.metrics()["learning_rate"].to_numpy() / run.config()["learning_rate"]
    assert rates[1] == pytest.approx(1) and rates[4] == pytest.approx(0.1) and rates[7] == pytest.approx(0.01)


def test_what_the_data_and_the_calibration_samples_told_is_kept_with_the_run(toy: Task) -> None:
    run = make(toy)
    train.fit(run)
    facts = run.facts()
    assert facts["n_readings"] == 8 and facts["certified_on"] == 32
    assert model.load(run, toy).task.facts == facts
    assert toy.facts == {}, "the task itself knows nothing of one run"


def test_what_a_task_tells_of_training_samples_is_averaged_over_the_epoch(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def errors(_task: Task, output: torch.Tensor, _targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        some = torch.arange(len(output), dtype=torch.float32)
        return {"place": torch.where(some > 0, some, torch.nan), "unknown": some * torch.nan}

    monkeypatch.setattr(type(toy), "errors", errors)
    run = make(toy, n_train=32, batch_size=8, epochs=2)
    assert train.fit(run).state == "done"
    table = run.metrics()
    assert table["train_place"].tolist() == [4.0, 4.0], "the mean of 1 to 7, four times: the first of each batch is not known"
    assert table["train_unknown"].isna().all()


def test_a_finished_network_is_examined_and_its_samples_are_explained(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(_task: Task, network: torch.nn.Module, data: TrainingData) -> dict[str, Any]:
        assert not network.training
        return {"test_batches": data.batches("test")}

    monkeypatch.setattr(type(toy), "examine", examine)
    monkeypatch.setattr(type(toy), "explain", lambda _task, _network, samples, most: samples.with_columns(why=most))
    behind = Panel("rows", "Rows", "of the test", behind=((3,), (1, 5)))
    monkeypatch.setattr(type(toy), "sheet_panels", lambda *_: [behind])
    run = make(toy)
    train.fit(run)
    kept = run.test_samples()
    assert run.facts()["test_batches"] > 0 and run.facts()["certified_on"] == 32
    assert kept is not None and kept.table["why"].tolist() == [3, 3, 3]


def test_an_examination_that_fails_costs_no_model(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(toy), "examine", lambda *_: 1 / 0)
    run = make(toy)
    assert train.fit(run).state == "done" and run.has_model()
    assert "was not examined" in run.log()


def test_a_family_without_gradient_is_done_after_one_epoch(toy: Task) -> None:
    run = make(toy, model="plain mean", epochs=9)
    status = train.fit(run)
    assert (status.state, status.epoch, status.epochs, status.reason) == ("done", 1, 1, "")
    assert run.facts()["solved"] is True
    assert status.best_value == pytest.approx(run.metrics()["rmse_v"].iloc[0])
    readings = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    table = pd.DataFrame({"file": "x", "note": ""}, index=range(5))
    predicted = model.load(run, toy).predict(Samples({"readings": readings}, table))
    np.testing.assert_allclose(predicted["mean_v"], readings.mean(1), atol=1e-5)


def test_a_run_is_done_only_after_its_last_step(toy: Task) -> None:
    seen: list[tuple[str, bool]] = []

    def finish(run: Run) -> str:
        seen.append((run.status().state, run.test_predictions() is not None))
        return "the paper ran out"

    status = train.fit(make(toy), finish=finish)
    assert seen == [("running", True)]
    assert (status.state, status.reason) == ("done", "the paper ran out")


def test_a_run_stopped_in_its_last_step_is_resumed_there(toy: Task) -> None:
    run = make(toy, epochs=2)

    def stop(_run: Run) -> str:
        raise Cancelled

    assert train.fit(run, finish=stop).state == "cancelled"
    before = run.metrics()
    assert train.fit(run, resume=True, finish=lambda _run: "").state == "done"
    pd.testing.assert_frame_equal(run.metrics(), before)
    assert run.test_predictions() is not None


def test_a_stop_while_an_epoch_is_written_down_waits_until_it_is_saved(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(toy)
    entered = train.Bookkeeper.enter

    def stopped_here(books: train.Bookkeeper, values: dict[str, float], epoch: int, learner: train.Learner) -> None:
        entered(books, values, epoch, learner)
        if epoch == 1:
            signal.raise_signal(signal.SIGTERM)

    def cancel(_number: int, _frame: object) -> None:
        raise Cancelled

    monkeypatch.setattr(train.Bookkeeper, "enter", stopped_here)
    with handled({signal.SIGTERM: cancel}):
        status = train.fit(run)
    assert (status.state, status.epoch) == ("cancelled", 2)
    monkeypatch.undo()
    assert train.fit(run, resume=True).state == "done"
    assert [run.log().count(f"epoch {epoch} ") for epoch in (1, 2, 3)] == [1, 1, 1]


def test_it_learns(toy: Task) -> None:
    run = make(toy, epochs=12, n_train=128)
    train.fit(run)
    table = run.test_predictions()
    assert table is not None
    error = table["predicted.mean_v"] - table["true.mean_v"]
    assert error.std() < 0.5 * table["true.mean_v"].std()


def test_test_predictions_carry_truth_samples_and_baselines(toy: Task) -> None:
    run = make(toy, n_test=40)
    train.fit(run)
    table = run.test_predictions()
    assert table is not None and len(table) == 40
    assert {"predicted.mean_v", "true.mean_v", "sample.file", "sample.noise_v", "sample.median_v"} < set(table)


def test_the_saved_model_is_the_best_and_gives_the_test_predictions(toy: Task) -> None:
    run = make(toy, epochs=6, learning_rate=0.4)
    train.fit(run)
    loaded = model.load(run, toy)
    data = toy.training_data(loaded.config)
    validation = [data.batch("validation", 0, i) for i in range(data.batches("validation"))]
    predicted = pd.concat([loaded.predict(s) for s in validation], ignore_index=True)
    truth = pd.concat([toy.truth(s) for s in validation], ignore_index=True)
    assert toy.score(predicted, truth)["rmse_v"] == pytest.approx(run.status().best_value, rel=1e-5)
    table, test = run.test_predictions(), data.batch("test", 0, 0)
    assert table is not None
    np.testing.assert_allclose(loaded.predict(test)["mean_v"], table["predicted.mean_v"][: len(test)], rtol=1e-5)


def test_uncertainty_is_calibrated_on_the_best_weights(toy: Task) -> None:
    run = make(toy, epochs=6, n_test=400)
    train.fit(run)
    table = run.test_predictions()
    assert table is not None
    inside = table["true.mean_v"].between(table["predicted.mean_v_lo"], table["predicted.mean_v_hi"]).mean()
    assert 0.58 < inside < 0.78


def test_same_seed_same_result_whatever_happened_before(toy: Task) -> None:
    first, second, other = make(toy), make(toy), make(toy, seed=1)
    train.fit(first)
    torch.manual_seed(99)
    train.fit(second)
    train.fit(other)
    pd.testing.assert_frame_equal(curve(first), curve(second))
    weights = [safetensors.torch.load_file(run.folder / "model.safetensors") for run in (first, second)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not curve(first).equals(curve(other))


def test_training_leaves_the_random_state_and_threads_of_its_caller_alone(toy: Task) -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    train.fit(make(toy, threads=threads + 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 4},
        {"epochs": 4, "model": "deep", "dropout": 0.5},
        {"epochs": 4, "loader_workers": 1},
        {"epochs": 9, "schedule": "plateau", "learning_rate": 0.9},
        {"epochs": 4, "schedule": "constant"},
        {"epochs": 6, "schedule": "step"},
    ],
)
@pytest.mark.parametrize("where", [(0, 1), (2, 1), (3, 2)])
def test_a_resumed_run_follows_the_curve_of_an_unbroken_one(toy: Task, settings: dict[str, Any], where: tuple[int, int]) -> None:
    whole, broken = make(toy, **settings), make(toy, **settings)
    train.fit(whole)
    assert train.fit(broken, on_progress=stop_at(*where)).state == "cancelled"
    assert len(broken.metrics()) == where[0]
    assert train.fit(broken, resume=True).state == "done"
    pd.testing.assert_frame_equal(curve(broken), curve(whole))
    assert broken.status().best_epoch == whole.status().best_epoch
    pd.testing.assert_frame_equal(broken.test_predictions(), whole.test_predictions())


def test_lines_of_metrics_beyond_the_checkpoint_are_trained_again(toy: Task) -> None:
    run = make(toy, epochs=4)
    train.fit(run, on_progress=stop_at(2, 1))
    extra = run.metrics().tail(1).assign(epoch=3)
    pd.concat([run.metrics(), extra]).to_csv(run.folder / "metrics.csv", index=False)
    train.fit(run, resume=True)
    assert list(run.metrics()["epoch"]) == [1, 2, 3, 4]


def test_early_stopping_ends_after_patience_and_stays_ended(toy: Task) -> None:
    run = make(toy, epochs=30, learning_rate=0.9, patience_epochs=2)
    status = train.fit(run)
    assert status.state == "done"
    assert status.best_epoch is not None and status.epoch == status.best_epoch + 2 < 30
    run.set_status(state="failed")  # as if it had ended during the test predictions
    assert train.fit(run, resume=True).epoch == status.epoch


def test_start_from_takes_the_weights_of_another_run(toy: Task) -> None:
    source = make(toy, epochs=6)
    train.fit(source)
    fresh, continued = make(toy, epochs=1, learning_rate=1e-6), make(toy, epochs=1, learning_rate=1e-6, start_from=source.id)
    train.fit(fresh)
    train.fit(continued)
    assert continued.metrics().loc[0, "rmse_v"] < fresh.metrics().loc[0, "rmse_v"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"data_file": "/nowhere/train.h5"}, "there is no such file. Download it first."),
        ({"start_from": "no-such-run"}, "there is no such run"),
        ({"model": "huge"}, "Choose weighted, deep or plain mean"),
    ],
)
def test_bad_settings_are_a_failed_run_with_a_reason(toy: Task, settings: dict[str, Any], reason: str) -> None:
    run = make(toy, **settings)
    status = train.fit(run)
    assert status.state == "failed"
    assert reason in run.status().reason
    assert reason in run.log() and "Traceback" not in run.log(), "the page shows the log too"


def test_a_full_disk_is_a_failed_run_that_can_be_resumed(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    run, whole = make(toy, epochs=3), make(toy, epochs=3)
    train.fit(whole)
    write, calls = train.write_atomic, Counter[str]()

    def full(path: Any, content: Any) -> None:
        calls[path.name] += 1
        if path.name == "last.ckpt" and calls["last.ckpt"] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(train, "write_atomic", full)
    status = train.fit(run)
    assert (status.state, status.reason) == ("failed", "The disk is full: free some space, then resume this run.")
    assert train.fit(run, resume=True).state == "done"
    pd.testing.assert_frame_equal(curve(run), curve(whole))


def test_a_loss_that_is_no_number_fails_with_advice(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "loss", lambda output, targets: output.sum() * float("nan"))
    status = train.fit(make(toy))
    assert status.state == "failed"
    assert "no longer a number" in status.reason and "learning_rate" in status.reason


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(toy: Task, home: Any) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
            return (open, (str(home / "exploded"), "w"))

    run = make(toy)
    train.fit(run, on_progress=stop_at(1, 1))
    torch.save({"state_dict": {}, "bomb": Bomb()}, run.folder / "last.ckpt")
    status = train.fit(run, resume=True)
    assert status.state == "failed" and "damaged" in status.reason
    assert not (home / "exploded").exists()


def test_resume_without_a_checkpoint_starts_from_the_beginning(toy: Task) -> None:
    run = make(toy)
    assert train.fit(run, on_progress=stop_at(0, 1)).state == "cancelled"
    assert train.fit(run, resume=True).state == "done"
    assert len(run.metrics()) == 3


def test_a_cancelled_run_keeps_its_best_model_so_far(toy: Task) -> None:
    run = make(toy)
    train.fit(run, on_progress=stop_at(1, 1))
    samples = toy.simulate(toy.Simulation(), 3, np.random.default_rng(0))
    assert len(model.load(run, toy).predict(samples)) == 3


def test_progress_counts_up_and_tells_the_time_left(toy: Task) -> None:
    seen: list[Status] = []
    train.fit(make(toy), on_progress=seen.append)
    steps = [status for status in seen if status.steps_per_epoch]
    assert [s.progress for s in steps] == sorted(s.progress for s in steps)
    assert steps[-1].epoch == 3 and steps[0].eta_s is None
    assert all(s.eta_s is not None and s.eta_s >= 0 for s in steps[1:])


def test_the_time_left_weighs_epochs_by_their_effort(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.Training, "effort", lambda self, epoch: 1.0 if epoch == 0 else 1e-6)
    seen: list[Status] = []
    train.fit(make(toy), on_progress=seen.append)
    first = [status for status in seen if status.epoch == 0 and status.step]
    later = [status for status in seen if status.epoch == 1 and status.step]
    assert first[0].eta_s is not None and later[0].eta_s is not None
    assert later[0].eta_s < 1e-3 * first[0].eta_s


# --- batches by number ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 7, 64, 100])
def test_every_sample_is_seen_once_by_one_rank(toy: Task, world: int, n: int) -> None:
    config = toy.Training.parse({"n_train": n, "batch_size": 16})
    data = toy.training_data(config)
    whole = np.concatenate([data.batch("train", 5, i).inputs["readings"] for i in range(data.batches("train"))])
    seen: list[np.ndarray] = []
    for rank in range(world):
        sampler = ShardSampler(data.batches("train"), rank, world)
        sampler.set_epoch(5)
        # All ranks take the same number of steps, or they would wait for each other for ever.
        assert len(sampler) == len(list(sampler)) == data.batches("train")
        batches = [TrainSource(toy, data)[shard] for shard in sampler]
        seen += [batch.inputs["readings"].numpy() for batch in batches if batch.weight]
    assert sorted(map(bytes, np.concatenate(seen))) == sorted(map(bytes, whole))


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_ranks_of_a_step_have_the_loss_and_gradient_of_its_whole_batch(toy: Task, world: int) -> None:
    config = toy.Training.parse({"n_train": 17, "batch_size": 16, "dropout": 0.0})
    source, network = TrainSource(toy, toy.training_data(config)), toy.network(config)

    def learnt(*shards: Shard) -> tuple[float, np.ndarray]:
        batches = [source[shard] for shard in shards]
        loss = sum(batch.weight * toy.loss(network(**batch.inputs), batch.targets) for batch in batches) / len(batches)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        return float(loss.detach()), torch.cat([part.flatten() for part in gradients]).numpy()

    for number in (0, 1):  # the second batch has one row, for the first rank
        loss, gradient = learnt(*(Shard(0, number, rank, world) for rank in range(world)))
        expected, whole = learnt(Shard(0, number))
        assert loss == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient, whole, rtol=1e-4, atol=1e-6)


def test_validation_batches_are_made_once(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy.training_data(toy.Training.parse({"n_test": 32}))
    source, calls, batch = ValidationSource(toy, data), Counter[int](), data.batch

    def count(split: Any, epoch: int, index: int) -> Any:
        calls[index] += 1
        return batch(split, epoch, index)

    monkeypatch.setattr(data, "batch", count)
    for _ in range(3):
        assert sum(len(source[i].targets["mean_v"]) for i in range(len(source))) == 32
    assert set(calls.values()) == {1}
    monkeypatch.setattr(batches, "CACHE_BYTES", 0)
    poor = ValidationSource(toy, data)
    assert torch.equal(poor[0].inputs["readings"], poor[0].inputs["readings"])
    assert calls[0] == 3


# --- the model on disk ----------------------------------------------------------------------------------------------


def test_weights_that_do_not_fit_are_refused(toy: Task) -> None:
    run, deep = make(toy, epochs=1), make(toy, epochs=1, model="deep")
    train.fit(run)
    (deep.folder / "model.safetensors").write_bytes((run.folder / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="do not fit"):
        model.load(deep, toy)
    (deep.folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        model.load(deep, toy)
    (deep.folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no trained weights"):
        model.load(deep, toy)


def test_outputs_do_not_depend_on_the_batch(toy: Task) -> None:
    run = make(toy, epochs=1)
    train.fit(run)
    loaded, shares = model.load(run, toy), list[float]()
    samples = toy.simulate(toy.Simulation(spread_v=1.0), 10, np.random.default_rng(0))
    one, three = loaded.outputs(samples, batch=1), loaded.outputs(samples, batch=3, on_progress=shares.append)
    np.testing.assert_allclose(one["mean_v"], three["mean_v"], rtol=1e-6)
    assert shares == [0.3, 0.6, 0.9, 1.0]
    assert not any(p.requires_grad for p in loaded.network.parameters()) and not loaded.network.training
