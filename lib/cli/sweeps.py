"""The command that trains many runs with settings that vary."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, get_args

from lib import jobs, sweeps
from lib.cli.trials import Worker
from lib.cli.typed import INTERRUPTED, OK, UsageError, changes, positive, seed_number, settings, task_of, usage
from lib.runs import meant
from lib.sweeps import Plan, Sampler, Sweep, launch, space, trash
from lib.sweeps.study import Trial, load, trials_of
from lib.task import Task

PRUNERS = ("none", "median", "hyperband")


def sweep_arguments(command: argparse.ArgumentParser) -> None:
    """What `sweep` takes."""
    command.add_argument(
        "--vary", metavar="KEY=SPACE", nargs="+", action="extend", default=[],
        help="LOW:HIGH, LOW:HIGH:log or A,B,C (A;B;C where the values hold commas) for each setting that varies",
    )  # fmt: skip
    command.add_argument("--trials", type=positive, default=20, help="how many runs (default 20); a grid has its own number")
    command.add_argument("--sampler", choices=get_args(Sampler), default="tpe", help="how settings are chosen (default tpe)")
    command.add_argument("--pruner", choices=PRUNERS, help="stop hopeless trials early (default median; none for a grid)")
    command.add_argument("--workers", type=positive, default=1, help="runs at once, or tasks of the job array (default 1)")
    command.add_argument("--seed", type=seed_number, default=0, help="of the sampler (default 0)")
    command.add_argument("--preset", metavar="NAME", help="start from a preset's settings")
    command.add_argument("--name", metavar="NAME", default="", help="what to call the sweep, or the longer run")
    command.add_argument("--background", action="store_true", help="detach; look at it with --show")
    command.add_argument("--executor", choices=jobs.executors(), default="local", help="where to train (default local)")
    command.add_argument("--profile", metavar="NAME", help="cluster profile of a slurm sweep")
    command.add_argument("--set-cluster", metavar="KEY=VALUE", nargs="+", action="extend", default=[],
                         help="what differs from the profile")  # fmt: skip
    one = command.add_mutually_exclusive_group()
    one.add_argument("--list", action="store_true", help="the sweeps of the task")
    one.add_argument("--show", metavar="SWEEP", help="the trials of a sweep, the best first")
    one.add_argument("--resume", metavar="SWEEP", help="train what is left of a stopped or lost sweep")
    one.add_argument("--stop", metavar="SWEEP", help="end its trainers; --resume goes on")
    one.add_argument("--longer", metavar="SWEEP", help="train its best run on, to as many epochs as --epochs says")
    one.add_argument("--work", metavar="SWEEP", help="train its trials here (what a job does)")
    one.add_argument("--delete", metavar="SWEEP", help="move a sweep to the trash; its runs stay unless --with-runs says so")
    one.add_argument("--restore", metavar="SWEEP", help="bring a deleted sweep back, and the runs that went with it")
    command.add_argument("--epochs", type=positive, help="with --longer")
    command.add_argument("--with-runs", action="store_true", help="with --delete: the runs of its trials too")


def sweep(parsed: argparse.Namespace) -> int:
    """Make a sweep, or do something to one."""
    task = task_of(parsed.task)
    if parsed.list:
        print(_table_of_sweeps(task))
        return OK
    if parsed.with_runs and not parsed.delete:
        raise UsageError("--with-runs: it goes with --delete SWEEP.")
    if parsed.restore:
        return _restore(parsed.restore, task.name)
    for action, act in ACTIONS.items():
        if text := getattr(parsed, action):
            if parsed.vary or parsed.set or parsed.preset:
                raise UsageError(f"--{action}: what a sweep varies cannot be changed. Leave out --vary, --set and --preset.")
            with usage():
                found = sweeps.find(text, task.name)
            return act(found, parsed)
    return _go(_new(parsed, task), parsed)


def _new(parsed: argparse.Namespace, task: Task) -> Sweep:
    if not parsed.vary:
        raise UsageError("--vary: what varies? For instance --vary learning_rate=0.0001:0.01:log; --list shows the sweeps.")
    if parsed.executor == "local" and (parsed.profile or parsed.set_cluster):
        raise UsageError("--profile, --set-cluster: they belong to a cluster. Add --executor slurm.")
    config: Any = settings(task.Training, parsed.set, parsed.preset, task.training_presets)
    with usage():
        asked = jobs.SLURM.chosen(parsed.profile or "", changes(parsed.set_cluster, option="--set-cluster"))
        pruner = parsed.pruner or ("none" if parsed.sampler == "grid" else "median")
        values = {name: getattr(parsed, name) for name in ("sampler", "trials", "workers", "seed")}
        plan = Plan.parse(values | {"pruner": pruner, "vary": space.typed(changes(parsed.vary, option="--vary"))}, "sweep")
        made = sweeps.create(task, config, plan, parsed.name, parsed.executor)
    if parsed.executor == jobs.SLURM.name:
        launch.assign(made, asked)
    return made


def _go(found: Sweep, parsed: argparse.Namespace) -> int:
    """Train its trials, here or in the background."""
    print(f"{found.task}/{found.id}", flush=True)
    if parsed.background or found.executor == jobs.SLURM.name:
        launch.start(found)
        print(f"It trains in the background: python -m lib sweep {found.task} --show {found.id}", file=sys.stderr)
        return OK
    launch.work_here(found)
    return _work(found, parsed)


def _resume(found: Sweep, parsed: argparse.Namespace) -> int:
    return _go(found, parsed)


def _work(found: Sweep, _parsed: argparse.Namespace) -> int:
    slots = 1 if found.executor == jobs.SLURM.name else found.plan().workers
    whole = Worker(found, slots, lambda line: print(line, flush=True)).work()
    if whole:
        print(_best_line(found))
    return OK if whole else INTERRUPTED


def _stop(found: Sweep, _parsed: argparse.Namespace) -> int:
    launch.stop(found)
    print(f"{found.task}/{found.id}  {launch.state(found, trials_of(load(found)))}")
    return OK


def _longer(found: Sweep, parsed: argparse.Namespace) -> int:
    best = launch.best_of(found, trials_of(load(found)))
    if best is None or parsed.epochs is None:
        raise UsageError(f"--longer {found.id}: {'give --epochs' if best else 'no trial was trained to its end yet'}.")
    run = launch.longer(launch.run_of(found, best), parsed.epochs, parsed.name)
    print(f"{run.task}/{run.id}")
    return OK


def _delete(found: Sweep, parsed: argparse.Namespace) -> int:
    trash.delete(found, parsed.with_runs)
    print(f"{found.task}/{found.id}  deleted; --restore {found.id} brings it back")
    return OK


def _restore(text: str, task: str) -> int:
    known = trash.deleted(task)
    matches = meant(text, known)
    if len(matches) != 1:
        names = ", ".join(one.id for one in (matches or known)[:8])
        raise UsageError(f"sweep {text!r}: {len(matches)} deleted sweeps match. In the trash: {names or 'nothing'}.")
    back = trash.restore(matches[0].folder)
    print(f"{back.task}/{back.id}  {launch.state(back, trials_of(load(back)))}")
    return OK


def _show(found: Sweep, _parsed: argparse.Namespace) -> int:
    """Its state, and one line per trial, the best first."""
    trials = trials_of(load(found))
    plan = found.plan()
    print(f"{found.task}/{found.id}  {launch.state(found, trials)}  {launch.finished(trials)} of {plan.trials} trials")
    sign = 1 if found.metric.goal == "min" else -1
    order = sorted(trials, key=lambda one: (one.state != "done", one.value is None, sign * (one.value or 0.0)))
    rows = [("TRIAL", "STATE", found.metric.name.upper(), *plan.vary, "RUN"), *(_row(one, list(plan.vary)) for one in order)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print("\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows))
    return OK


def _row(trial: Trial, keys: list[str]) -> tuple[str, ...]:
    params = [f"{value:.4g}" if isinstance(value := trial.params.get(key, ""), float) else str(value) for key in keys]
    value = "" if trial.value is None else f"{trial.value:.5g}"
    return (str(trial.number + 1), trial.state, value, *params, trial.run_id or trial.reason)


def _best_line(found: Sweep) -> str:
    best = launch.best_of(found, trials_of(load(found)))
    if best is None:
        return f"{found.task}/{found.id}  no trial was trained to its end"
    return f"{found.task}/{found.id}  best: {found.metric.name} {best.value:.5g} {found.metric.unit}  {best.run_id}"


def _table_of_sweeps(task: Task) -> str:
    lines = []
    for one in sweeps.list_sweeps(task.name):
        trials = trials_of(load(one))
        done = f"{launch.finished(trials)} of {one.plan().trials}"
        lines.append(f"{one.id}  {launch.state(one, trials)}  {done} trials  {', '.join(one.plan().vary)}")
    return "\n".join(lines) or f"(no sweeps yet: python -m lib sweep {task.name} --vary KEY=LOW:HIGH)"


Act = Callable[[Sweep, argparse.Namespace], int]
ACTIONS: dict[str, Act] = {
    "show": _show, "stop": _stop, "work": _work, "longer": _longer, "resume": _resume, "delete": _delete,
}  # fmt: skip
