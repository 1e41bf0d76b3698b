"""What happens once when the server starts: the user's browser opens."""

from __future__ import annotations

import asyncio
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st

OPEN_AFTER_S = 0.5  # the server listens by then


@asynccontextmanager
async def opening(_app: st.App) -> AsyncIterator[dict[str, object]]:
    """Open the first page in the browser, except on a machine without a screen. Lives as long as the server."""
    if not st.get_option("server.headless"):
        url = f"http://{st.get_option('server.address') or 'localhost'}:{st.get_option('server.port')}"
        loop = asyncio.get_running_loop()
        loop.call_later(OPEN_AFTER_S, lambda: loop.run_in_executor(None, webbrowser.open, url))
    yield {}
