"""Discovers the tasks: every sub-package here that defines `TASK` is one. Nothing is registered by hand.

A lab's own task may live elsewhere: the folders named in the environment variable LIGHTBENCH_TASK_PATH are searched too.
"""

from __future__ import annotations

import os
import pkgutil
from functools import cache
from importlib import import_module

from lib.task import InputError, Task

__path__.extend(folder for folder in os.environ.get("LIGHTBENCH_TASK_PATH", "").split(os.pathsep) if folder)


@cache
def names() -> tuple[str, ...]:
    """Names of the tasks that exist, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


@cache
def get(name: str) -> Task:
    """The task of that name. Raises InputError listing the ones that exist."""
    if name not in names():
        raise InputError(f"task {name!r}", "there is no such task", f"Tasks: {', '.join(names())}.")
    return import_module(f"{__name__}.{name}").TASK
