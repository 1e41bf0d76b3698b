"""The commands about result sheets: write one, join those of all folds, make another promise."""

from __future__ import annotations

import argparse
from pathlib import Path

from lib.cli.typed import OK, UsageError, changes, find
from lib.words import LANGUAGES

FORMATS = ("html", "pdf")


def sheet_arguments(command: argparse.ArgumentParser) -> None:
    """What `sheet` takes."""
    command.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        help="run name, id or its beginning, task/id, or folder; several: all folds, for a joint sheet",
    )
    command.add_argument("--format", choices=FORMATS, default="html")
    command.add_argument("--language", choices=tuple(LANGUAGES), default="en", help="English where the task has no other")
    command.add_argument("--output", metavar="FILE", type=Path, help="default: <run>-sheet.<format> in this folder")


def sheet(parsed: argparse.Namespace) -> int:
    """Write the result sheet as one file; that of several folds is a run of its own from then on."""
    found = [find(text) for text in parsed.run]
    if parsed.output is not None and not parsed.output.absolute().parent.is_dir():
        raise UsageError(f"{parsed.output}: its folder does not exist. Make it first.")
    from lib import derived
    from lib import sheet as engine

    run = derived.joined(found) if len(found) > 1 else found[0]
    path: Path = parsed.output or Path(f"{run.id}-sheet.{parsed.format}")
    print(engine.save(run, path, parsed.format, parsed.language))
    return OK


def certify_arguments(command: argparse.ArgumentParser) -> None:
    """What `certify` takes."""
    command.add_argument("run", metavar="RUN", help="run name, id or its beginning, task/id, or folder")
    command.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="the settings of the promise")
    command.add_argument("--name", metavar="NAME", default="", help="what to call the new run")


def certify(parsed: argparse.Namespace) -> int:
    """Make a run of the same model under another promise and print its id."""
    run, asked = find(parsed.run), changes(parsed.set)
    from lib import derived

    made = derived.recertified(run, asked, parsed.name)
    print(f"{made.task}/{made.id}")
    return OK
