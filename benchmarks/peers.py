"""Packages of others that a benchmark compares with, where they are installed."""

from __future__ import annotations

import functools
import importlib
from typing import Any


@functools.cache
def module(name: str) -> Any:
    """A peer's module, None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
