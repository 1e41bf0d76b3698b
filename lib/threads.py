"""Small matrices: more threads than one only wait for each other."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@functools.cache
def _libraries() -> ThreadpoolController:
    """The linear algebra that is loaded, looked up once."""
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """While this lasts, matrix products and the like run on one thread; two were up to 16 times slower."""
    return _libraries().limit(limits=1)
