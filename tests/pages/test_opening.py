"""The start of the server: the browser opens where there is a screen."""

from __future__ import annotations

import asyncio
import threading
import webbrowser
from collections.abc import Callable

import pytest
import streamlit as st

from lib.ui import opening


def opened(monkeypatch: pytest.MonkeyPatch, *, headless: bool) -> list[str]:
    """The addresses a starting server opens; one with a screen is given time to do so."""
    urls: list[str] = []
    done = threading.Event()
    options = {"server.headless": headless, "server.address": "127.0.0.1", "server.port": 8765}

    def note(url: str) -> None:
        urls.append(url)
        done.set()

    async def start() -> None:
        async with opening.opening(None):
            loop = asyncio.get_running_loop()
            if headless:
                await _turns(loop.call_later)
            else:
                await loop.run_in_executor(None, done.wait, 10)

    async def _turns(call_later: Callable[..., object]) -> None:
        """Let the loop do what is due now."""
        due = asyncio.Event()
        call_later(0.01, due.set)
        await due.wait()

    monkeypatch.setattr(st, "get_option", options.__getitem__)
    monkeypatch.setattr(opening, "OPEN_AFTER_S", 0)
    monkeypatch.setattr(webbrowser, "open", note)
    asyncio.run(start())
    return urls


def test_the_browser_opens_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(monkeypatch, headless=False) == ["http://127.0.0.1:8765"]


def test_no_browser_opens_on_a_machine_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(monkeypatch, headless=True) == []
