"""The only training loop: a run folder in, `model.safetensors` and test predictions out.

Lightning brings the loop, precision, devices and nodes. Kept here: batches by number (so that every run, resumed run
and rank sees the same data), the best weights by the task's figure of merit, and what the run folder tells the world.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader

from lib import lrfinder, ranks, runs, tasks
from lib.batches import Batch, Errors, Scored, ShardSampler, TrainSource, ValidationSource, as_loader_worker, pick
from lib.model import load_into, physical, save_weights
from lib.reporter import Reporter
from lib.runs import TEST_ROW, Cancelled, Predictions, Run, Status, explain, find, save_predictions, write_atomic
from lib.signals import postponed
from lib.task import Arrays, InputError, Metric, Phrase, Split, Task, TrainConfig, TrainingData

PLATEAU_EPOCHS, PLATEAU_FACTOR = 5, 0.5
STEPS_DOWN, STEP_FACTOR = 3, 0.1
WARMUP_SHARE = 0.03  # of all optimiser steps
CLIP_NORM = 1.0
LAST = "last.ckpt"
MOST_KEPT_BYTES = 32 * 2**20  # of test samples kept to be looked at

OnProgress = Callable[[Status], None]
Finish = Callable[[Run], str]  # what else belongs to a done run; returns what was wrong with it, empty where nothing was


Saved = Callable[[], None]  # may raise Interrupted or Cancelled: nothing is lost after an epoch was saved


def fit(
    run: Run,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    finish: Finish | None = None,
    saved: Saved | None = None,
) -> Status:
    """Train a run to its end, from the start or from its `last.ckpt`, and return its final status.

    `finish` is called once, with the trained and tested run, before its state is `done`; what it returns is then the reason.
    Never raises for what goes wrong while training: the run's status is then `failed` with a one-sentence reason, and
    its log has the traceback of what is no InputError. `Cancelled` (raised by the command's signal handler) ends as `cancelled`,
    and `Interrupted` as `queued`; `saved` is called after each epoch but the last and may raise either.
    """
    reporter = Reporter(run, on_progress, active=ranks.first())
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(), _quiet_lightning(), reporter.beating():
            _fit(run, resume, reporter, saved)
            reason = finish(run) if finish is not None and reporter.active else ""
        reporter.close("done", reason)
    except (Cancelled, KeyboardInterrupt) as stop:
        reporter.log.info("cancelled; resume goes on from the last finished epoch")
        reporter.close("cancelled", stop.args[0] if stop.args else "")
    except runs.Interrupted as stop:
        reporter.log.info("%s", stop)
        reporter.close("queued", stop.args[0])
    except Exception as error:  # noqa: BLE001 - whatever it was, the run must say why it ended
        reporter.log.error("%s", explain(error) if isinstance(error, InputError) else traceback.format_exc())
        if not reporter.active:
            traceback.print_exc()  # the run's log is another process's; what it prints is kept too
        reporter.close("failed", explain(error))
    finally:
        torch.set_num_threads(threads)
    return reporter.status


def _fit(run: Run, resume: bool, reporter: Reporter, saved: Saved | None) -> None:
    plain = tasks.get(run.task)
    config = plain.Training.parse(run.config(), subject=f"run {run.id}")
    world = ranks.world(config)
    torch.set_num_threads(config.threads or world.threads())
    checkpoint = run.folder / LAST if resume and (run.folder / LAST).exists() else None
    fresh = {} if checkpoint else {"epoch": 0, "step": 0, "best_value": None, "best_epoch": None, "loss": None}
    goal = {"metric": plain.monitor.name, "unit": plain.monitor.unit, "goal": plain.monitor.goal}
    reporter.update(write=True, epochs=config.epochs, **goal, **fresh)
    data = plain.training_data(config)
    task = _informed(run, data.facts(), reporter.active)
    bookkeeper = Bookkeeper(run, task.monitor, reporter, config.patience_epochs, saved)
    solved = task.solve(config, data, reporter.log.info)
    if solved is not None:
        if not reporter.active:
            return  # nothing to share
        network, facts = solved
        learner = Learner(_informed(run, {**task.facts, **facts}), config, network, data, bookkeeper)
        learner.solved()
        _finish(run, learner, bookkeeper, reporter, torch.device("cpu"))
        return
    torch.manual_seed(config.seed)
    network = task.network(config)
    if config.start_from and checkpoint is None:
        load_into(network, find(config.start_from, run.task).folder / "model.safetensors", f"run {config.start_from}")
    if checkpoint is None:
        task.prepare(network, data)
        if config.find_learning_rate:
            config = config.model_copy(update={"learning_rate": lrfinder.find(task, config, network, data, reporter.log.info)})
    learner = Learner(task, config, network, data, bookkeeper)
    trainer = _trainer(run, config, world, bookkeeper)
    trainer.fit(learner, ckpt_path=checkpoint, weights_only=True)
    if trainer.is_global_zero:
        _finish(run, learner, bookkeeper, reporter, trainer.strategy.root_device)


def _informed(run: Run, facts: Mapping[str, Any], write: bool = True) -> Task:
    """The task that knows these facts, which are written into the run's folder."""
    if write:
        run.save_facts(facts)
    return tasks.get(run.task).knowing(facts)


def _finish(run: Run, learner: Learner, books: Bookkeeper, reporter: Reporter, device: torch.device) -> None:
    """Best weights; their uncertainty fitted on validation, promises certified on calibration; then the test data: once."""
    books.close()
    if books.best_value is None:
        problem = Phrase("{metric} was never a number on validation", metric=books.metric.name)
        raise InputError("training", problem, "Lower learning_rate and try again.")
    task, network = learner.task, learner.network.eval().to(device)
    load_into(network, run.folder / "model.safetensors", f"run {run.id}")
    outputs, targets = _validation_outputs(learner, device)
    task.fit_uncertainty(network.cpu(), outputs, targets)
    value = f"{books.best_value:.6g} {books.metric.unit}".strip()
    extra = {"epoch": str(books.best_epoch), books.metric.name: value, "uncertainty": "calibrated on validation"}
    save_weights(run, network, extra)
    if learner.data.batches("calibration"):
        found = _predictions(learner, device, "calibration")
        learner.task = _informed(run, {**task.facts, **task.certify(*found)})
        if task.decides:
            save_predictions(run, "calibration", found)
    found = _predictions(learner, device, "test")
    save_predictions(run, "test", found)
    _examine(run, learner, reporter)
    _keep_behind(run, learner, found, reporter)
    reporter.log.info("done: best epoch %s, %s %s", books.best_epoch, books.metric.name, value)


def _examine(run: Run, learner: Learner, reporter: Reporter) -> None:
    """What the task asks the finished network itself about test samples, as further facts."""
    try:
        if found := learner.task.examine(learner.network, learner.data):
            learner.task = _informed(run, {**learner.task.facts, **found})
    except Exception:  # the model is safe, and its sheet can do without
        reporter.log.exception("the finished network was not examined")


def _keep_behind(run: Run, learner: Learner, found: Predictions, reporter: Reporter) -> None:
    """Keep the test samples that the sheet's panels point to, where they are few enough to keep."""
    try:
        rows = sorted({row for panel in learner.task.sheet_panels(*found) for rows in panel.behind for row in rows})
        samples = pick(learner.data, "test", rows, MOST_KEPT_BYTES)
        if samples is not None:
            explained = learner.task.explain(learner.network, samples, len(samples))
            run.save_test_samples(explained.with_columns(**{TEST_ROW: rows}))
    except Exception:  # the model is safe, and its sheet can do without
        reporter.log.exception("the samples behind the sheet were not kept")


def _validation_outputs(learner: Learner, device: torch.device) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Raw outputs and targets of all validation samples, on the CPU."""
    outputs: list[torch.Tensor] = []
    targets: list[dict[str, torch.Tensor]] = []
    with torch.no_grad():
        for index in range(len(learner.validation)):
            batch = learner.validation[index]
            outputs.append(learner.network(**batch.to(device).inputs).float().cpu())
            targets.append(batch.targets)
    return torch.cat(outputs), {key: torch.cat([part[key] for part in targets]) for key in targets[0]}


def _predictions(learner: Learner, device: torch.device, split: Split) -> Predictions:
    """Predicted and true values, and the samples' own table with the baselines: one row per sample of the split."""
    task, network = learner.task, learner.network.to(device)
    parts: list[tuple[pd.DataFrame, ...]] = []
    for index in range(learner.data.batches(split)):
        samples = learner.data.batch(split, 0, index)
        known = [table.reset_index(drop=True) for table in (samples.table, task.baselines(samples))]
        predicted = task.decode(physical(task, network, samples, device=device), samples)
        parts.append((predicted, task.truth(samples), pd.concat(known, axis=1)))
    predicted, truth, table = (pd.concat(part, ignore_index=True) for part in zip(*parts, strict=True))
    return predicted, truth, table


def _trainer(run: Run, config: TrainConfig, world: ranks.World, bookkeeper: Bookkeeper) -> pl.Trainer:
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    return pl.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=world.per_node,
        num_nodes=world.nodes,
        precision=config.precision,
        gradient_clip_val=CLIP_NORM,
        deterministic="warn" if on_gpu else None,  # the CPU is deterministic by itself, and faster without
        callbacks=[bookkeeper],
        plugins=[WholeFileIO(), *world.environment()],
        logger=False,
        enable_checkpointing=False,  # the bookkeeper saves, when the epoch's books are closed
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # batches are dealt to ranks by number
        default_root_dir=run.folder,
    )


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """No advertisements and no hints about loader workers in the run's log; warnings of torch stay."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class WholeFileIO(TorchCheckpointIO):
    """Checkpoints written whole or not at all, and read without ever running code from the file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Serialise in memory, then write atomically beside the target."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(Path(path), buffer.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors and plain values only, whatever the caller asks for. Raises InputError where the file is damaged."""
        try:
            return dict(torch.load(path, map_location=map_location or "cpu", weights_only=True))
        except Exception as error:  # torch raises half a dozen kinds; all mean that it cannot be trusted
            raise InputError(str(path), "this checkpoint is damaged", "Delete it to train from the start.") from error


# --- the learner: what Lightning drives -----------------------------------------------------------------------------


class Learner(pl.LightningModule):
    """A task's network with its loss, its data and its optimiser."""

    def __init__(self, task: Task, config: TrainConfig, network: torch.nn.Module, data: TrainingData, books: Bookkeeper) -> None:
        super().__init__()
        self.network = network
        self.task, self.config, self.data, self.books = task, config, data, books
        self.validation = ValidationSource(task, data)
        self.losses: list[torch.Tensor] = []
        self.errors = Errors()
        self.scored = Scored()

    def train_dataloader(self) -> DataLoader[Batch]:
        """This rank's training batches."""
        sampler = self._sampler()
        epochs = self.trainer.fit_loop.epoch_progress.current
        sampler.set_epoch(int(getattr(epochs, "processed", 0)))  # when resuming, loader workers look ahead
        source, workers = TrainSource(self.task, self.data), self.config.loader_workers
        return DataLoader(
            source, batch_size=None, sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
            worker_init_fn=as_loader_worker,
        )  # fmt: skip

    def _sampler(self) -> ShardSampler:
        return ShardSampler(self.data.batches("train"), self.trainer.global_rank, self.trainer.world_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """All validation batches on every rank, so that all come to the same verdict."""
        return DataLoader(self.validation, batch_size=None)

    def on_train_epoch_start(self) -> None:
        """Forget the losses and errors of the epoch before."""
        self.losses, self.errors = [], Errors()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout and the like depend on seed, epoch, step and rank alone, so a resumed run follows the same curve."""
        key = [self.config.seed, self.current_epoch, batch_idx, self.trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        """The task's loss on one batch."""
        output = self.network(**batch.inputs)
        loss = batch.weight * self.task.loss(output, batch.targets)
        self.losses.append(loss.detach())
        self.errors.add(self.task.errors(output.detach(), batch.targets))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Running statistics (batch norm) of rank 0 for all, as the saved weights will have them."""
        self.scored = Scored()
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Collect loss, outputs and predicted beside true values."""
        self._score(batch)

    def _score(self, batch: Batch) -> None:
        assert batch.samples is not None
        output = self.network(**batch.inputs)
        loss = self.task.loss(output, batch.targets)
        named: Callable[..., dict[str, torch.Tensor]] = self.network.physical  # type: ignore[assignment]
        arrays: Arrays = {key: value.float().cpu().numpy() for key, value in named(**batch.inputs).items()}
        self.scored.add(float(loss), self.task.decode(arrays, batch.samples), self.task.truth(batch.samples))

    @torch.no_grad()
    def solved(self) -> None:
        """Enter a network that was fitted without gradient into the books, as one epoch."""
        self.network.eval()
        begin = time.monotonic()
        for index in range(len(self.validation)):
            self._score(self.validation[index])
        values = {"epoch": 1.0} | self.scored.values(self.task) | {"seconds": time.monotonic() - begin}
        self.books.enter(values, 0, self)
        self.books.tell(1, epochs=1)

    def train_loss(self) -> float:
        """Mean loss of the epoch over all ranks. Raises InputError once it is no longer a number."""
        mean = torch.stack(self.losses).float().mean()
        value = float(self.trainer.strategy.reduce(mean, reduce_op="mean"))
        if not math.isfinite(value):
            raise InputError("training", "the loss is no longer a number", "Lower learning_rate, then start again.")
        return value

    def train_errors(self) -> dict[str, float]:
        """Means of the epoch over all ranks of what the task tells of training samples."""
        return self.errors.means(lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum"))

    def configure_optimizers(self) -> Any:
        """AdamW; weight decay on matrices and kernels, not on biases and norms."""
        decayed = [p for p in self.network.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in self.network.parameters() if p.requires_grad and p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        optimiser = torch.optim.AdamW(groups, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        total = max(1, len(self._sampler()) * self.config.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: self.lr_share(step, total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_share(self, step: int, total: int) -> float:
        """Share of the peak learning rate at an optimiser step: short linear warm-up, then the chosen schedule."""
        warmup = max(1, round(WARMUP_SHARE * total))
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.config.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
        if self.config.schedule == "step":
            return float(STEP_FACTOR ** (STEPS_DOWN * step // total))
        return self.books.lr_factor if self.config.schedule == "plateau" else 1.0


# --- the books: what the run folder tells ---------------------------------------------------------------------------


class Bookkeeper(pl.Callback):
    """At each epoch's end: scores, best weights, metrics.csv, TensorBoard events, then `last.ckpt`."""

    def __init__(self, run: Run, metric: Metric, reporter: Reporter, patience: int, saved: Saved | None = None) -> None:
        self.run, self.metric, self.reporter, self.patience, self.saved = run, metric, reporter, patience, saved
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.lr_factor = 1.0
        self.plateau_since = 0
        self.rows: list[dict[str, float]] = []
        self.epoch_started = self.fit_started = 0.0
        self.first_epoch = 0
        self.events: Any = None

    def state_dict(self) -> dict[str, Any]:
        """Kept in `last.ckpt`: plain values only."""
        names = ("best_value", "best_epoch", "lr_factor", "plateau_since", "rows")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The books as they stood when `last.ckpt` was written; later lines of metrics.csv are trained again."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring metrics.csv in line with the checkpoint, and do not train on where early stopping had ended it."""
        self.fit_started, self.first_epoch = time.monotonic(), trainer.current_epoch
        trainer.should_stop = self._exhausted(trainer.current_epoch - 1)
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter  # half a second that only rank 0 pays

            self.events = SummaryWriter(str(self.run.folder), purge_step=trainer.current_epoch)
            self._write_metrics()
        self.reporter.update(epoch=trainer.current_epoch, step=0, steps_per_epoch=int(trainer.num_training_batches))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self.epoch_started = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Place within the epoch and time left; written by the heartbeat."""
        assert isinstance(pl_module, Learner)
        efforts = [pl_module.config.effort(epoch) for epoch in range(self.first_epoch, trainer.max_epochs or 0)]
        passed = trainer.current_epoch - self.first_epoch
        done = sum(efforts[:passed]) + efforts[passed] * (batch_idx + 1) / max(1, int(trainer.num_training_batches))
        left = sum(efforts) - done
        self.reporter.update(step=batch_idx + 1, eta_s=(time.monotonic() - self.fit_started) / done * left)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the books of one epoch."""
        assert isinstance(pl_module, Learner)
        epoch = trainer.current_epoch
        values = {"epoch": float(epoch + 1), "train_loss": pl_module.train_loss()}
        values |= pl_module.scored.values(pl_module.task) | pl_module.train_errors()
        values["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        values["seconds"] = time.monotonic() - self.epoch_started
        with postponed() if self.reporter.active else contextlib.nullcontext():  # told and saved, or neither
            self.enter(values, epoch, pl_module)
            if trainer.is_global_zero:
                for key, value in values.items():
                    self.events.add_scalar(key, value, epoch + 1)
                self.events.flush()
            trainer.save_checkpoint(self.run.folder / LAST)
            self.tell(epoch + 1, loss=values["train_loss"])
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(self._exhausted(epoch), all=False)
        if self.saved is not None and not trainer.should_stop and epoch + 1 < (trainer.max_epochs or 0):
            self.saved()

    def enter(self, values: dict[str, float], epoch: int, learner: Learner) -> None:
        """A finished epoch's figures: judge the weights, write metrics.csv and the log."""
        self._judge(values[self.metric.name], epoch, learner)
        self.rows.append(values)
        if self.reporter.active:
            self._write_metrics()
            self.reporter.log.info("%s", "  ".join(f"{key} {value:.4g}" for key, value in values.items()))

    def tell(self, epoch: int, **more: Any) -> None:
        """What status.json says after so many epochs."""
        best = {"best_value": self.best_value, "best_epoch": self.best_epoch}
        self.reporter.update(write=True, epoch=epoch, step=0, **best, **more)

    def _judge(self, value: float, epoch: int, learner: Learner) -> None:
        """Keep the weights if they are the best so far; lower the learning rate on a plateau."""
        if math.isfinite(value) and (self.best_value is None or self.metric.better(value, self.best_value)):
            self.best_value, self.best_epoch, self.plateau_since = value, epoch + 1, epoch
            if self.reporter.active:
                save_weights(self.run, learner.network, {"epoch": str(epoch + 1), "uncertainty": "not yet calibrated"})
        elif epoch - self.plateau_since >= PLATEAU_EPOCHS:
            self.lr_factor, self.plateau_since = self.lr_factor * PLATEAU_FACTOR, epoch

    def _exhausted(self, epoch: int) -> bool:
        """Whether patience is at its end after this epoch (counted from 0)."""
        return bool(self.patience and epoch >= 0 and epoch + 1 - (self.best_epoch or 0) >= self.patience)

    def _write_metrics(self) -> None:
        if self.rows:
            table = pd.DataFrame(self.rows).astype({"epoch": int})
            write_atomic(self.run.folder / "metrics.csv", table.to_csv(index=False))

    def close(self) -> None:
        """Flush TensorBoard's events."""
        if self.events is not None:
            self.events.close()
