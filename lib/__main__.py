"""The command line, `python -m lib …`: the same engine as the buttons.

Exit status: 0 all went well; 1 something failed, the rest is done; 2 wrong usage, nothing was done; 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
from tqdm import tqdm

from lib import __version__, jobs, runs, tasks
from lib.runs import Cancelled, Run, Status
from lib.task import Config, InputError, Task

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
MAX_SIMULATED_BYTES = 2 * 10**9
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # set for every process of a distributed training
CONFIG_OF = {"simulate": "Simulation", "train": "Training", "predict": "Acquisition"}
SHEET_FORMATS, EXPORT_FORMATS = ("html", "pdf"), ("onnx", "safetensors")
JOB_ACTIONS = ("list", "cancel", "resume", "log", "delete", "restore")
_log = logging.getLogger("lightbench")


class UsageError(Exception):
    """What was typed cannot be done; nothing was."""


@contextmanager
def _usage() -> Iterator[None]:
    """Bad input in this block is wrong usage: exit status 2."""
    try:
        yield
    except InputError as error:
        raise UsageError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = bool(os.environ.get("LIGHTBENCH_DEBUG"))
    logging.basicConfig(level=logging.INFO if debug else logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr)
    try:
        parsed = _parser(given).parse_args(given)
        return int(parsed.run_command(parsed))
    except UsageError as error:
        return _say_error(str(error), USAGE)
    except InputError as error:
        return _say_error(str(error), FAILED)
    except (KeyboardInterrupt, Cancelled):
        return _say_error("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if debug:
            raise
        _log.debug("failed", exc_info=True)
        return _say_error(f"unexpected {type(error).__name__}: {error}. Set LIGHTBENCH_DEBUG=1 to see where.", FAILED)


def _say_error(sentence: str, status: int) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return status


# --- what can be typed ----------------------------------------------------------------------------------------------


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--version", action="version", version=f"lightbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run_command: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        asked = name in CONFIG_OF and name in given and bool({"-h", "--help"} & set(given))
        command = commands.add_parser(
            name, help=help_, description=help_, formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=_keys_help(CONFIG_OF[name], given) if asked else None,
        )  # fmt: skip
        command.set_defaults(run_command=run_command)
        if name in CONFIG_OF:
            command.add_argument("task", metavar="TASK", help=f"one of: {', '.join(tasks.names())}")
            command.add_argument(
                "--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="settings; with --help all are listed"
            )
        return command

    _simulate_arguments(add("simulate", simulate, "Write simulated files and their true values."))
    _train_arguments(add("train", train, "Train a model."))
    _predict_arguments(add("predict", predict, "Measure files with a trained model: predictions.csv and figures."))
    sheet_command = add("sheet", sheet, "Write a run's result sheet as one file.")
    sheet_command.add_argument("run", metavar="RUN", help="run id, its beginning, task/id, or folder")
    sheet_command.add_argument("--format", choices=SHEET_FORMATS, default="html")
    sheet_command.add_argument("--output", metavar="FILE", type=Path, help="default: <run>-sheet.<format> in this folder")
    export_command = add("export", export, "Write a run's model for use elsewhere.")
    export_command.add_argument("run", metavar="RUN", help="run id, its beginning, task/id, or folder")
    export_command.add_argument("--format", choices=EXPORT_FORMATS, required=True)
    export_command.add_argument("--output", metavar="DIR", type=Path, default=Path(), help="default: this folder")
    jobs_command = add("jobs", jobs_, "List runs, or cancel, resume, read the log of, delete or restore one.")
    jobs_command.add_argument("action", choices=JOB_ACTIONS, nargs="?", default="list")
    jobs_command.add_argument("run", metavar="RUN", nargs="?", help="run id, its beginning, task/id, or folder")
    jobs_command.add_argument("--lines", type=_positive, default=40, help="how much of the log (default 40)")
    worker_command = add("worker", worker, "Answer requests on stdin as JSON lines (the dashboard starts this).")
    worker_command.add_argument("--memory-mb", type=_positive, default=0, help="refuse to use more memory than this")
    return parser


def _simulate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--n", type=_positive, required=True, help="how many")
    command.add_argument("--seed", type=_seed, default=0, help="same seed, same files (default 0)")
    command.add_argument("--output", metavar="DIR", type=Path, required=True, help="a folder that is empty or not there yet")
    command.add_argument("--preset", metavar="NAME", help="start from a preset's settings")


def _train_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--preset", metavar="NAME", help="start from a preset's settings")
    command.add_argument("--name", metavar="NAME", default="", help="what to call the run")
    command.add_argument("--background", action="store_true", help="detach; follow it with `python -m lib jobs`")
    command.add_argument("--run", metavar="RUN", help="train this run, which exists already")
    command.add_argument("--resume", action="store_true", help="with --run: go on from its last finished epoch")


def _predict_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--input", metavar="PATH", type=Path, nargs="+", required=True, help="files, folders and ZIP archives")
    command.add_argument("--output", metavar="DIR", type=Path, required=True, help="where predictions.csv and figures go")
    command.add_argument("--model", metavar="RUN", help="run to use (default: the best shipped model)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a seed cannot be negative")
    return value


def _keys_help(config_name: str, given: Sequence[str]) -> str:
    """Every key of the named task, or of all tasks: default, unit, bounds, meaning."""
    shown = [name for name in tasks.names() if name in given] or list(tasks.names())
    parts = []
    for name in shown:
        try:
            task = tasks.get(name)
        except Exception as error:  # noqa: BLE001 - a lab's own task that does not load must not cost the help of the others
            parts.append(f"the settings of {name} cannot be listed: it does not load ({error})")
            continue
        config: type[Config] = getattr(task, config_name)
        parts.append(f"settings of {name}, for --set KEY=VALUE:\n" + "\n".join(_key_lines(config)))
        presets = {"Simulation": task.simulation_presets, "Training": task.training_presets}.get(config_name, {})
        if presets:
            parts.append(f"presets of {name}: " + ", ".join(map(repr, presets)))
    return "\n\n".join(parts)


def _key_lines(config: type[Config]) -> Iterator[str]:
    for key, field in config.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        signs = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        bounds = [f"{sign} {getattr(rule, name)}" for rule in field.metadata for name, sign in signs if hasattr(rule, name)]
        choices = [str(c) for c in get_args(field.annotation)] if get_origin(field.annotation) is not None else []
        choices = [c for c in choices if not c.startswith("<class")] if field.default is not None else []
        facts = [f"default {'empty' if field.default in (None, '') else field.default}", str(extra.get("unit", ""))]
        facts += [", ".join(bounds), " | ".join(choices)]
        yield f"  {key:<22} {field.description} ({'; '.join(fact for fact in facts if fact)})"


def _settings(config: type[Config], pairs: Sequence[str], preset: str | None, presets: Mapping[str, Mapping[str, Any]]) -> Config:
    """The Config of a preset and KEY=VALUE pairs. Raises UsageError listing what is valid."""
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in presets:
            raise UsageError(f"preset {preset!r}: there is no such preset. Presets: {', '.join(presets) or 'none'}.")
        values |= presets[preset]
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair}: it has no =. Write KEY=VALUE; valid keys: {', '.join(config.model_fields)}.")
        values[key.strip()] = value.strip()
    with _usage():
        return config.parse(values)


def _task(name: str) -> Task:
    with _usage():
        return tasks.get(name)


def _find(text: str, task: str | None = None) -> Run:
    with _usage():
        return runs.find(text, task)


# --- simulate and predict -------------------------------------------------------------------------------------------


def simulate(parsed: argparse.Namespace) -> int:
    """Write n simulated files, all or none."""
    task = _task(parsed.task)
    config = _settings(task.Simulation, parsed.set, parsed.preset, task.simulation_presets)
    output: Path = parsed.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: it is not an empty folder. Choose one that is, or a new name.")
    one = task.simulate(config, 1, np.random.default_rng(parsed.seed))
    size = parsed.n * sum(value.nbytes for value in one.inputs.values())
    if size > MAX_SIMULATED_BYTES:
        most = parsed.n * MAX_SIMULATED_BYTES // size
        raise UsageError(f"--n {parsed.n}: that is {size / 1e9:.1f} GB at once. At most {most}; call it again with other seeds.")
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        samples = task.simulate(config, parsed.n, np.random.default_rng(parsed.seed))
        written = task.write(samples, temporary)
        if output.exists():
            output.rmdir()
        temporary.chmod(0o755)
        temporary.rename(output)
    except OSError as error:
        raise InputError(str(output), f"it could not be written ({error.strerror or error})", "Check the disk.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{len(written)} files in {output}")
    return OK


def predict(parsed: argparse.Namespace) -> int:
    """Predict all files; those that fail are named and do not stop the rest."""
    task = _task(parsed.task)
    acquisition = _settings(task.Acquisition, parsed.set, None, {})
    if parsed.model:
        run = _find(parsed.model, task.name)
    else:
        with _usage():
            run = runs.default_model(task.name)
    from lib import model as models
    from lib import predict as engine
    from lib.uploads import expand

    with tempfile.TemporaryDirectory(prefix="lightbench-") as folder:
        found = expand(parsed.input, task.suffixes, Path(folder))
        if not found.files and not found.failures:
            raise InputError("--input", f"it holds no {' or '.join(task.suffixes)} file", "Check the paths.")
        model = models.load(run, task)
        with tqdm(total=len(found.files), unit="file", disable=not sys.stderr.isatty()) as bar:

            def advance(share: float, _text: str) -> None:
                bar.update(round(share * len(found.files)) - bar.n)

            prediction = engine.predict_files(model, found.files, acquisition, advance, found.failures)
    for path in engine.save(prediction, parsed.output):
        print(path)
    for name, reason in found.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    for name, sentence in prediction.failures:
        print(f"error: {name}: {sentence}", file=sys.stderr)
    print(f"{int(prediction.predicted.sum())} rows predicted with {run.task}/{run.id}; {len(prediction.failures)} files failed")
    return FAILED if prediction.failures else OK


# --- train ----------------------------------------------------------------------------------------------------------


def train(parsed: argparse.Namespace) -> int:
    """Train a new run or one that exists, here or in the background."""
    with _stopping():  # before torch is imported: a signal in the seconds of the import must not be lost
        task = _task(parsed.task)
        run = _existing_run(parsed, task) if parsed.run else _new_run(parsed, task)
        if parsed.background:
            jobs.resume(run) if parsed.resume else jobs.start(run)
            print(f"{run.task}/{run.id}")
            print(f"It trains in the background. Follow it: python -m lib jobs log {run.id}", file=sys.stderr)
            return OK
        first = all(os.environ.get(rank, "0") == "0" for rank in RANKS)
        if first:
            jobs.claim(run)
        # Lightning starts the other ranks of one machine with this command line: they must train the same run.
        sys.argv[1:] = ["train", run.task, "--run", run.id, *(["--resume"] if parsed.resume else [])]
        status = _fit(run, parsed.resume, quiet=bool(parsed.run) or not first)
        if first:
            _say_end(run, status)
    return {"done": OK, "cancelled": INTERRUPTED}.get(status.state, FAILED)


def _new_run(parsed: argparse.Namespace, task: Task) -> Run:
    if parsed.resume:
        raise UsageError("--resume: it needs --run RUN. `python -m lib jobs list` shows the runs.")
    config = _settings(task.Training, parsed.set, parsed.preset, task.training_presets)
    with _usage():
        return runs.create(task.name, config.model_dump(mode="json"), parsed.name)


def _existing_run(parsed: argparse.Namespace, task: Task) -> Run:
    run = _find(parsed.run, task.name)
    if parsed.set or parsed.preset or parsed.name:
        raise UsageError("--run: the settings of a run cannot be changed. Leave out --set, --preset and --name.")
    if run.status().state == "done":
        raise UsageError(f"run {run.id}: it is done. Start a new one, with --set start_from={run.id} to go on from its weights.")
    if (run.folder / "last.ckpt").exists() and not parsed.resume:
        raise UsageError(f"run {run.id}: it has begun already. Add --resume to go on.")
    return run


@contextmanager
def _stopping() -> Iterator[None]:
    """Turn the signals that ask a program to stop into Cancelled, once: the second one is ignored while we clean up."""

    def stop(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise Cancelled

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fit(run: Run, resume: bool, quiet: bool) -> Status:
    """Train with a progress bar (a terminal) or a line per epoch (anything else); a job has its log instead."""
    try:
        from lib import train as engine

        with tqdm(unit="step", disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True) as bar:
            show = None if quiet else _Shown(bar)
            status = engine.fit(run, resume, show, _build_sheet)
    except Cancelled:  # while torch was being imported
        status = run.set_status(state="cancelled", finished_at=time.time())
    except ImportError as error:
        reason = f"A package is missing or broken ({error}). Install requirements.txt again, then resume."
        status = run.set_status(state="failed", reason=reason, finished_at=time.time())
    return status


def _say_end(run: Run, status: Status) -> None:
    """How it ended, in one line."""
    if status.state == "done":
        print(f"{run.task}/{run.id}  done: {status.metric} {status.best_value:.5g} {status.unit} at epoch {status.best_epoch}")
    if status.reason or status.state != "done":
        remedy = status.reason or f"python -m lib jobs resume {run.id} goes on."
        print(f"{run.task}/{run.id}  {status.state}: {remedy}", file=sys.stderr)


class _Shown:
    """Shows a training's progress."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.epoch = bar, -1

    def __call__(self, status: Status) -> None:
        best = "" if status.best_value is None else f"{status.best_value:.4g} {status.unit}".strip()
        loss = "" if status.loss is None else f"{status.loss:.4g}"
        if self.bar.disable:
            if status.epoch != self.epoch and loss:
                print(f"epoch {status.epoch}/{status.epochs}  loss {loss}  best {status.metric} {best}", flush=True)
        elif status.steps_per_epoch:
            self.bar.total = status.epochs * status.steps_per_epoch
            self.bar.set_description(f"epoch {min(status.epoch + 1, status.epochs)}/{status.epochs}", refresh=False)
            shown = {"loss": loss, f"best {status.metric}": best}
            self.bar.set_postfix({key: value for key, value in shown.items() if value}, refresh=False)
            done = status.epoch * status.steps_per_epoch + status.step
            if self.epoch < 0:
                self.bar.initial = self.bar.n = done
            self.bar.update(done - self.bar.n)
        self.epoch = status.epoch


def _build_sheet(run: Run) -> str:
    """Build the sheet of a trained run. The model is safe already, so trouble here is only told: the reason, or nothing."""
    try:
        from lib import sheet as engine

        engine.build(run)
    except Exception as error:  # noqa: BLE001
        _log.exception("the sheet of %s could not be built", run.id)
        return f"The result sheet could not be built ({error}). Once that is mended: python -m lib sheet {run.id}"
    return ""


# --- sheet, export, jobs, worker ------------------------------------------------------------------------------------


def sheet(parsed: argparse.Namespace) -> int:
    """Write the result sheet as one file."""
    run = _find(parsed.run)
    path: Path = parsed.output or Path(f"{run.id}-sheet.{parsed.format}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: its folder does not exist. Make it first.")
    from lib import sheet as engine

    print(engine.save(run, path, parsed.format))
    return OK


def export(parsed: argparse.Namespace) -> int:
    """Write the model for use elsewhere."""
    run = _find(parsed.run)
    from lib import export as engine

    print(engine.export(run, parsed.format, parsed.output))
    return OK


def jobs_(parsed: argparse.Namespace) -> int:
    """List runs, or do something to one."""
    if parsed.action == "list":
        shown = [_find(parsed.run)] if parsed.run else runs.list_runs()
        print(_table(shown))
        return OK
    if not parsed.run:
        raise UsageError(f"jobs {parsed.action}: which run? `python -m lib jobs list` shows them.")
    if parsed.action == "restore":
        return _restore(parsed.run)
    run = _find(parsed.run)
    if parsed.action == "log":
        print(jobs.log(run, parsed.lines))
        return OK
    actions: dict[str, Callable[[Run], object]] = {"cancel": jobs.cancel, "resume": jobs.resume, "delete": _delete}
    actions[parsed.action](run)
    print(f"{run.task}/{run.id}  {'deleted' if parsed.action == 'delete' else jobs.state(run)}")
    return OK


def _delete(run: Run) -> None:
    if jobs.state(run) in jobs.ACTIVE:
        raise InputError(f"run {run.id}", f"its state is {jobs.state(run)}", "Cancel it first.")
    runs.delete(run)


def _restore(text: str) -> int:
    matches = [path for path in runs.trash() if path.name.startswith(text.rpartition("/")[2])]
    if len(matches) != 1:
        names = ", ".join(path.name for path in (matches or runs.trash())[:8])
        raise UsageError(f"run {text!r}: {len(matches)} deleted runs match. In the trash: {names or 'nothing'}.")
    run = runs.restore(matches[0])
    print(f"{run.task}/{run.id}  {jobs.state(run)}")
    return OK


def _table(shown: Sequence[Run]) -> str:
    """One line per run, columns aligned."""
    rows = [("RUN", "TASK", "STATE", "PROGRESS", "LEFT", "BEST", "WHERE", "AGE")]
    for run in shown:
        status = run.status()
        state = jobs.state(run)
        value = "" if status.best_value is None else f"{status.metric} {status.best_value:.4g} {status.unit}".strip()
        left = _duration(status.eta_s) if state == "running" else ""
        where = "shipped" if run.shipped else str(run.about().get("executor", ""))
        progress = f"{status.progress:4.0%} of {status.epochs}"
        rows.append((run.id, run.task, state, progress, left, value, where, _duration(time.time() - status.created_at)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines if shown else [*lines, "(no runs yet: python -m lib train TASK)"])


def _duration(seconds: float | None) -> str:
    """Two figures at most: `45 s`, `12 min`, `3 h`, `5 d`."""
    if seconds is None:
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def worker(parsed: argparse.Namespace) -> int:
    """Serve the dashboard until stdin closes."""
    if parsed.memory_mb and sys.platform == "linux":  # elsewhere the limit is not kept, or counts what is only reserved
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (parsed.memory_mb * 2**20, parsed.memory_mb * 2**20))
    from lib import serve

    serve.serve()
    return OK


if __name__ == "__main__":
    sys.exit(main())
