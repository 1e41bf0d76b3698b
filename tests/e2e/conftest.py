"""One browser, one server and one small model for all browser tests; each test gets a tab of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.server import Server, train
from tests.e2e.session import Session, chromium


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on a home folder that holds one model, trained for a moment: enough for every page to have something to show."""
    home = tmp_path_factory.mktemp("home")
    train(home, "small model", epochs=1)
    with Server(home) as running:
        yield running


@pytest.fixture
def tab(browser: Browser, server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Session]:
    session = Session(browser, server.url)
    yield session
    session.assert_sane()
    session.close()
    assert session.console == []
