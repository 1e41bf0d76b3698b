"""The command line, `python -m lib …`: the same engine as the buttons.

Exit status: 0 all went well; 1 something failed, the rest is done; 2 wrong usage, nothing was done; 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args, get_origin

from lib import __version__, bulk, jobs, runs, tasks
from lib.cli.convert import convert, convert_arguments
from lib.cli.files import (
    clean,
    clean_arguments,
    predict,
    predict_arguments,
    simulate,
    simulate_arguments,
)
from lib.cli.sheets import certify, certify_arguments, sheet, sheet_arguments
from lib.cli.sweeps import sweep, sweep_arguments
from lib.cli.training import train, train_arguments
from lib.cli.typed import FAILED, INTERRUPTED, OK, USAGE, UsageError, find, positive
from lib.runs import Cancelled, Run
from lib.task import Config, InputError

CONFIG_OF = {"simulate": "Simulation", "train": "Training", "sweep": "Training", "predict": "Acquisition", "clean": "Rules"}
EXPORT_FORMATS = ("onnx", "safetensors")
JOB_ACTIONS = ("list", "cancel", "resume", "log", "delete", "restore")
_log = logging.getLogger("lightbench")


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

    simulate_arguments(add("simulate", simulate, "Write simulated files and their true values."))
    train_arguments(add("train", train, "Train a model."))
    sweep_arguments(add("sweep", sweep, "Train many runs with settings that vary, and find the best on validation."))
    predict_arguments(add("predict", predict, "Measure files with a trained model: predictions.csv and figures."))
    clean_arguments(add("clean", clean, "Keep the files, or the rows of tables, that rules or a recipe of the Clean page keep."))
    convert_arguments(add("convert", convert, "Turn a pickled table that you made and trust into Parquet."))
    sheet_arguments(add("sheet", sheet, "Write the result sheet of a run, or of all folds of a training, as one file."))
    certify_arguments(add("certify", certify, "Make a run of the same model under another promise, without training."))
    export_command = add("export", export, "Write a run's model for use elsewhere.")
    export_command.add_argument("run", metavar="RUN", help="run name, id or its beginning, task/id, or folder")
    export_command.add_argument("--format", choices=EXPORT_FORMATS, required=True)
    export_command.add_argument("--output", metavar="DIR", type=Path, default=Path(), help="default: this folder")
    jobs_command = add("jobs", jobs_, "List runs, or cancel, resume, read the log of, delete or restore one.")
    jobs_command.add_argument("action", choices=JOB_ACTIONS, nargs="?", default="list")
    jobs_command.add_argument("run", metavar="RUN", nargs="?", help="run name, id or its beginning, task/id, or folder")
    jobs_command.add_argument("--lines", type=positive, default=40, help="how much of the log (default 40)")
    worker_command = add("worker", worker, "Answer requests on stdin as JSON lines (the dashboard starts this).")
    worker_command.add_argument("--memory-mb", type=positive, default=0, help="refuse to use more memory than this")
    return parser


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
        several = get_origin(field.annotation) is tuple
        choices = [str(c) for c in get_args(field.annotation)] if get_origin(field.annotation) is not None else []
        choices = [c for c in choices if not c.startswith("<class")] if field.default is not None and not several else []
        default = ",".join(map(str, field.default)) if several else field.default
        facts = [f"default {'empty' if default in (None, '') else default}", str(extra.get("unit", ""))]
        facts += [", ".join(bounds), " | ".join(choices), "a list, separated by commas" if several else ""]
        yield f"  {key:<22} {field.description} ({'; '.join(fact for fact in facts if fact)})"


# --- export, jobs, worker -------------------------------------------------------------------------------------------


def export(parsed: argparse.Namespace) -> int:
    """Write the model for use elsewhere."""
    run = find(parsed.run)
    from lib import export as engine

    print(engine.export(run, parsed.format, parsed.output))
    return OK


def jobs_(parsed: argparse.Namespace) -> int:
    """List runs, or do something to one."""
    if parsed.action == "list":
        shown = [_named(parsed.run)] if parsed.run else [*bulk.list_bulk(), *runs.list_runs()]
        print(_table(shown))
        return OK
    if not parsed.run:
        raise UsageError(f"jobs {parsed.action}: which run? `python -m lib jobs list` shows them.")
    if parsed.action == "restore":
        return _restore(parsed.run)
    run = _named(parsed.run)
    if parsed.action == "log":
        print(jobs.log(run, parsed.lines))
        return OK
    actions: dict[str, Callable[[Run], object]] = {"cancel": jobs.cancel, "resume": jobs.resume, "delete": _delete}
    actions[parsed.action](run)
    print(f"{run.task}/{run.id}  {'deleted' if parsed.action == 'delete' else jobs.state(run)}")
    return OK


def _named(text: str) -> Run:
    """A run, or the prediction in parts in the folder of that name. Raises UsageError."""
    folder = Path(text).expanduser().resolve()
    return Run(folder) if bulk.is_bulk(folder) else find(text)


def _delete(run: Run) -> None:
    if jobs.state(run) in jobs.ACTIVE:
        raise InputError(f"run {run.id}", f"its state is {jobs.state(run)}", "Cancel it first.")
    if bulk.is_bulk(run.folder) and bulk.predictions_dir() not in run.folder.parents:
        raise InputError(str(run.folder), "it is a folder of yours", "Delete it as any other.")
    runs.delete(run)


def _restore(text: str) -> int:
    matches = [path for path in runs.trash() if path.name.startswith(text.rpartition("/")[2]) or Run(path).name == text]
    if len(matches) != 1:
        names = ", ".join(path.name for path in (matches or runs.trash())[:8])
        raise UsageError(f"run {text!r}: {len(matches)} deleted runs match. In the trash: {names or 'nothing'}.")
    run = runs.restore(matches[0])
    print(f"{run.task}/{run.id}  {jobs.state(run)}")
    return OK


def _table(shown: Sequence[Run]) -> str:
    """One line per run, columns aligned."""
    rows = [("RUN", "NAME", "TASK", "STATE", "PROGRESS", "LEFT", "BEST", "WHERE", "AGE")]
    for run in shown:
        about, state = run.about(), jobs.state(run)
        parts = "command" in about
        status = bulk.status_of(run) if parts else run.status()
        value = "" if status.best_value is None else f"{status.metric} {status.best_value:.4g} {status.unit}".strip()
        left = _duration(status.eta_s) if state == "running" else ""
        where = jobs.executor_of(run).name if parts else "shipped" if run.shipped else str(about.get("executor", ""))
        progress = f"{status.progress:4.0%} of {status.epochs}{' parts' if parts else ''}"
        name, task = str(about.get("name") or ""), str(about.get("task") or run.task)
        rows.append((run.id, name, task, state, progress, left, value, where, _duration(time.time() - status.created_at)))
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
