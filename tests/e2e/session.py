"""A browser tab as a user sees it: open a page, wait until it is drawn, read it, press things."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Download, Locator, Page, expect, sync_playwright

ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
TIMEOUT_MS = 60_000
QUIET_MS = 300
expect.set_options(timeout=TIMEOUT_MS)  # Playwright's own five seconds are none on a busy machine
PATIENCE_MS = 5_000
# True once no script has run, nothing was loading and no text has changed for a while; a first page pauses between runs.
# A page with a live part never rests on a busy machine: after some time any moment without a script will do.
QUIET = """([quiet_ms, patience_ms, call]) => {
  const app = document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]');
  const busy = !app || !document.querySelector('[data-testid=stMainBlockContainer]')
    || document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner], [data-stale=true]');
  const text = document.body.innerText.length, now = performance.now();
  if (window.lightbenchCall !== call) { window.lightbenchCall = call; window.lightbenchBegin = now; }
  if (!busy && now - window.lightbenchBegin > patience_ms) return true;
  if (busy || text !== window.lightbenchText) { window.lightbenchText = text; window.lightbenchSince = now; return false; }
  return now - window.lightbenchSince >= quiet_ms;
}"""
# True once every figure and every film has been drawn.
DRAWN = """() => {
  const figures = [...document.querySelectorAll('[data-testid=stPlotlyChart], .live-figure')];
  const places = [...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')];
  const films = places.flatMap(place => [...place.shadowRoot.querySelectorAll('.player canvas')]);
  const seen = figures.filter(figure => !figure.closest('.st-key-figure-library')); // which only brings Plotly along
  return seen.every(figure => figure.querySelector('.main-svg')) && films.every(film => film.ariaLabel);
}"""
# Texts that a user must never see.
FAULTS = ("Traceback (most recent call last)", "Uncaught app exception", 'File "', "streamlit.errors", "Page not found")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium or Chrome where there is one, otherwise the one Playwright installed."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGS)
        yield browser
        browser.close()


class Session:
    """One tab. A tall window instead of scrolling: Streamlit scrolls an inner box."""

    def __init__(
        self, browser: Browser, url: str, *, scheme: Literal["light", "dark"] = "light", size: tuple[int, int] = (1400, 2000)
    ) -> None:
        self.url = url
        width, height = size
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True, reduced_motion="reduce"
        )
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page: Page = self.context.new_page()
        self.console: list[str] = []
        self.calls = 0
        self.page.on("pageerror", lambda error: self.console.append(str(error)))

    def close(self) -> None:
        self.context.close()

    def open(self, path: str = "") -> Session:
        """Go to a page of the app and wait until it is drawn."""
        self.page.goto(f"{self.url}/{path}")
        return self.settle()

    def settle(self) -> Session:
        """Wait until no script runs and nothing is stale, then check that the page shows no fault."""
        self.calls += 1
        self.page.wait_for_function(QUIET, arg=[QUIET_MS, PATIENCE_MS, self.calls], polling=50)
        self.assert_sane()
        return self

    def drawn(self) -> Session:
        """Wait until every figure has been drawn too."""
        self.settle()
        self.page.wait_for_function(DRAWN)
        return self

    def assert_sane(self) -> None:
        """No exception box, no traceback text."""
        text = self.text()
        assert self.page.locator("[data-testid=stException]").count() == 0, text
        for fault in FAULTS:
            assert fault not in text, text

    def text(self) -> str:
        """All text on the page."""
        return self.page.locator("body").inner_text()

    def sees(self, text: str, timeout_s: float = 30) -> Locator:
        """Wait until the text is visible somewhere."""
        found = self.page.get_by_text(text).locator("visible=true").first
        expect(found).to_be_visible(timeout=timeout_s * 1000)
        return found

    def press(self, name: str, *, exact: bool = False) -> Session:
        """Press the first visible button (or link) of that name."""
        self.page.get_by_role("button", name=name, exact=exact).locator("visible=true").first.click()
        return self

    def fill(self, label: str, value: str | float) -> Session:
        """Type into a text or number field and leave it, so that the app takes the value."""
        fields = self.page.get_by_role("spinbutton", name=label, exact=True)
        box = fields.or_(self.page.get_by_role("textbox", name=label, exact=True)).locator("visible=true").first
        box.fill(str(value))
        box.press("Tab")
        return self.settle()

    def unfold(self, title: str) -> Session:
        """Open a folded part of the page."""
        self.page.locator("summary").filter(has_text=title).first.click()
        return self

    def choose(self, label: str, value: str) -> Session:
        """Pick from a select box."""
        self.page.get_by_label(label).locator("visible=true").first.click()
        self.page.get_by_role("option", name=value, exact=True).click()
        return self

    def upload(self, *files: Path) -> Session:
        """Give files to the first uploader of the page."""
        self.page.locator("input[type=file]").first.set_input_files(list(files))
        return self

    def download(self, name: str, folder: Path) -> Path:
        """Press a download button and keep the file."""
        with self.page.expect_download() as waiting:
            self.press(name)
        got: Download = waiting.value
        target = folder / got.suggested_filename
        got.save_as(target)
        return target

    def shoot(self, path: Path) -> Path:
        """A picture of the window."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, animations="disabled")
        return path
