"""The trials of a sweep: Optuna's study in the sweep's folder, shared by any number of processes.

Trials are taken one at a time under a lock, so that none is done twice and there are never more than asked for. Optuna is
imported by the functions that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lib import jobs, runs
from lib.runs import Run, checkpoints_dir
from lib.sweeps import Plan, Range, Sweep
from lib.task import InputError, Metric, Phrase, Task

if TYPE_CHECKING:
    import optuna

STUDY = "sweep"
RUN, OWNER, PRUNED, REASON, STARTS = "run", "owner", "pruned", "reason", "starts"  # what a trial's attributes are called
STARTUP_TRIALS = 5  # before a median tells anything
WARMUP_SHARE = 0.2  # of the epochs, before a median may stop a trial
MOST_STARTS = 2  # of one trial that dies without a word

TrialState = Literal["waiting", "running", "done", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial at one moment; `value` is its best validation value, `number` counts from 0."""

    number: int
    state: TrialState
    params: Mapping[str, Any]
    value: float | None
    epochs: int
    run_id: str
    reason: str


@dataclass(frozen=True)
class Taken:
    """A trial that this process is to train, or whose run trains on without its owner (`adopted`)."""

    number: int
    run: Run
    adopted: bool = False


def begin(sweep: Sweep, metric: Metric, points: list[dict[str, Any]]) -> None:
    """Make the study, with these points as its first trials."""
    optuna = _optuna()
    study = optuna.create_study(study_name=STUDY, storage=_storage(sweep), direction=f"{metric.goal}imize")
    for point in points:
        study.enqueue_trial(point)


def load(sweep: Sweep) -> optuna.Study:
    """The study as it stands, to be looked at."""
    return _optuna().load_study(study_name=STUDY, storage=_storage(sweep))


def trials_of(study: optuna.Study) -> list[Trial]:
    """Every trial in the order in which they were taken."""
    names: dict[str, TrialState] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    found = []
    for one in study.get_trials(deepcopy=False):
        about = one.user_attrs
        value = one.value if one.state.name == "COMPLETE" else _best(study, one.intermediate_values)
        epochs = max(one.intermediate_values, default=0)
        params = one.params or one.system_attrs.get("fixed_params", {})
        state = names.get(one.state.name, "waiting")
        found.append(Trial(one.number, state, params, value, epochs, str(about.get(RUN, "")), str(about.get(REASON, ""))))
    return found


def _best(study: optuna.Study, values: Mapping[int, float]) -> float | None:
    pick = min if study.direction.name == "MINIMIZE" else max
    return pick(values.values()) if values else None


def _optuna() -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _storage(sweep: Sweep) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path = str(sweep.folder / "journal.log")
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))


class Book:
    """The study in a process that works on it."""

    def __init__(self, sweep: Sweep, task: Task) -> None:
        self.sweep, self.task, self.plan = sweep, task, sweep.plan()
        self.config = sweep.config()
        self._mend()
        self.storage = _storage(sweep)
        pruner = _pruner(self.plan, self._epochs)
        self.study: optuna.Study = _optuna().load_study(study_name=STUDY, storage=self.storage, pruner=pruner)

    @cached_property
    def _study_id(self) -> int:
        return int(self.storage.get_study_id_from_name(STUDY))

    @property
    def _epochs(self) -> int:
        """The most epochs that a trial has."""
        varied = self.plan.vary.get("epochs")
        ends = [varied.high] if isinstance(varied, Range) else list(varied.values) if varied else [self.config["epochs"]]
        return max(int(end) for end in ends if end is not None)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process at a time; a lock whose holder died is broken after half a minute."""
        from optuna.storages.journal import JournalFileOpenLock

        lock = JournalFileOpenLock(str(self.sweep.folder / "take"))
        lock.acquire()
        try:
            yield
        finally:
            with suppress(RuntimeError):  # it was broken because we took too long
                lock.release()

    def _mend(self) -> None:
        """Cut off a last line that was never finished: a full disk, or a machine that lost its power."""
        path = self.sweep.folder / "journal.log"
        with self._locked():
            content = path.read_bytes() if path.exists() else b""
            if content and not content.endswith(b"\n"):
                with path.open("r+b") as stream:
                    stream.truncate(content.rfind(b"\n") + 1)

    def _id(self, number: int) -> int:
        return int(self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number))

    def note(self, number: int, **attributes: Any) -> None:
        """Keep attributes of a trial."""
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(self._id(number), key, value)

    # --- taking -------------------------------------------------------------------------------------------------------
    def take(self, owner: Mapping[str, Any], lives: Callable[[Mapping[str, Any]], bool]) -> Taken | None:
        """The next trial for the process `owner`: one whose own process is gone, else a new one; None where there is none left.

        `lives` says of a trial's attributes whether its owner still exists. A trial whose settings do not go together is
        `failed` at once, and the next one is taken.
        """
        while True:
            with self._locked():
                number = self._orphan(lives)
                number = self._new() if number is None else number
                if number is None:
                    return None
                self.note(number, **{OWNER: dict(owner)})
                try:
                    run = self._run_of(number)
                except InputError as error:
                    self._fail(number, str(error))
                    continue
            alone = self.sweep.executor == "local" and run.proc() is not None and jobs.state(run) in jobs.ACTIVE
            return Taken(number, run, adopted=alone)

    def _orphan(self, lives: Callable[[Mapping[str, Any]], bool]) -> int | None:
        """A trial that nobody looks after."""
        running = [one for one in self.study.get_trials(deepcopy=False) if one.state.name == "RUNNING"]
        return next((one.number for one in running if not lives(one.user_attrs)), None)

    def _new(self) -> int | None:
        """A new trial, or one of those that wait; None once there are as many as planned."""
        known = self.study.get_trials(deepcopy=False)
        if len(known) >= self.plan.trials and not any(one.state.name == "WAITING" for one in known):
            return None
        return int(self.study.ask().number)

    def _run_of(self, number: int) -> Run:
        """The run of a trial, made if it has none. Raises InputError where its settings do not go together."""
        named = self.storage.get_trial(self._id(number)).user_attrs.get(RUN)
        folder = checkpoints_dir() / self.task.name / str(named)
        if named and (folder / "config.json").exists():
            return Run(folder)
        values = self.config | self._params(number)
        config = self.task.Training.parse(values, Phrase("trial {n}", n=number)).model_dump(mode="json")
        if not config["threads"] and self.plan.workers > 1 and self.sweep.executor == "local":
            config["threads"] = max(1, runs.cores() // self.plan.workers)  # runs side by side share the machine
        name = f"{self.sweep.name} {number + 1}/{self.plan.trials}"
        about = {"sweep": self.sweep.id, "trial": number}
        run = runs.create(self.task.name, config, name, self.sweep.executor, about=about)
        self.note(number, **{RUN: run.id})
        return run

    def _params(self, number: int) -> dict[str, Any]:
        """Its settings, drawn now unless they were before; the draw depends on the plan's seed and the number alone."""
        from optuna.trial import Trial as Asked

        self.study.sampler = _sampler(self.plan, number)
        asked = Asked(self.study, self._id(number))
        drawn: dict[str, Any] = {}
        for key, one in self.plan.vary.items():
            if not isinstance(one, Range):
                drawn[key] = asked.suggest_categorical(key, one.values)
            elif isinstance(one.low, int) and isinstance(one.high, int):
                drawn[key] = asked.suggest_int(key, one.low, one.high, log=one.log)
            else:
                drawn[key] = asked.suggest_float(key, one.low, one.high, log=one.log)
        return drawn

    # --- watching and ending ------------------------------------------------------------------------------------------
    def report(self, number: int, run: Run, *, judge: bool = True) -> bool:
        """Enter the validation values of a run's epochs so far; with `judge`, whether the trial had better stop here."""
        metrics, name = run.metrics(), self.sweep.metric.name
        trial_id = self._id(number)
        known = self.storage.get_trial(trial_id).intermediate_values
        for epoch, value in zip(metrics.get("epoch", ()), metrics.get(name, ()), strict=True):
            if int(epoch) not in known and np.isfinite(value):
                self.storage.set_trial_intermediate_value(trial_id, int(epoch), float(value))
        return judge and bool(self.study.pruner.prune(self.study, self.storage.get_trial(trial_id)))

    def settle(self, number: int, run: Run) -> bool:
        """Enter how a run ended; False where its trial is to be started once more."""
        state, status = jobs.state(run), run.status()
        about = self.storage.get_trial(self._id(number)).user_attrs
        self.report(number, run, judge=False)
        if state == "done" and status.best_value is not None:
            self.study.tell(number, status.best_value, skip_if_finished=True)
        elif self.pruned(number):
            self._tell(number, "PRUNED")
        elif state == "lost" and int(about.get(STARTS, 0)) < MOST_STARTS:
            return False
        else:
            self._fail(number, status.reason or state)
        return True

    def _fail(self, number: int, reason: str) -> None:
        self.note(number, **{REASON: str(reason)})
        self._tell(number, "FAIL")

    def _tell(self, number: int, state: str) -> None:
        from optuna.trial import TrialState as State

        self.study.tell(number, state=State[state], skip_if_finished=True)

    def pruned(self, number: int) -> bool:
        """Whether a trial was stopped early."""
        return bool(self.storage.get_trial(self._id(number)).user_attrs.get(PRUNED))

    def trial(self, number: int) -> Trial:
        """One trial as it stands."""
        return trials_of(self.study)[number]

    def started(self, number: int) -> None:
        """Count a start of a trial."""
        about = self.storage.get_trial(self._id(number)).user_attrs
        self.note(number, **{STARTS: int(about.get(STARTS, 0)) + 1})


def _sampler(plan: Plan, number: int) -> Any:
    """A sampler of its own for each trial, so that a resumed sweep never draws the same again."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0])
    return TPESampler(seed=seed) if plan.sampler == "tpe" else RandomSampler(seed=seed)


def _pruner(plan: Plan, epochs: int) -> Any:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if plan.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs)
    if plan.pruner == "median":
        return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, round(WARMUP_SHARE * epochs)))
    return NopPruner()
