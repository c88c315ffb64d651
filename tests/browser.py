"""A real browser before a real server: for tests of the page, and for its screenshots.

`with chromium() as browser`, `visit(browser, url)` give a page whose requests and complaints are kept. Nothing may
leave the server's origin and nothing may be complained of: `Visit.assert_clean()`. Needs Playwright and a Chromium.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}
WAIT_MS = 20_000  # a limit against hanging


def chromium_path() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page in a profile of its own. `requests`: URLs; `complaints`: of the console, of scripts, of the policy."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url.rstrip("/")
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)
        page.set_default_timeout(WAIT_MS)

    def open(self) -> None:
        self.page.goto(f"{self.url}/")
        self.page.wait_for_selector("#prompt")

    def send(self, text: str) -> None:
        self.page.fill("#prompt", text)
        self.page.press("#prompt", "Enter")

    def answered(self) -> str:
        """The text of the last answer, once it is complete."""
        self.page.wait_for_selector(".message.last.of-assistant[aria-busy=false]")
        return self.page.locator(".message.last .body").inner_text()

    def ask(self, text: str) -> str:
        self.send(text)
        return self.answered()

    def save_settings(self, values: dict[str, str]) -> None:
        self.page.click("#open-settings")
        for name, value in values.items():
            self.page.fill(f"#{name}", value)
        self.page.click("#settings-form [type=submit]")

    def has_sideways_scroll(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def assert_clean(self) -> None:
        strangers = [url for url in self.requests if not url.startswith((self.url, "data:"))]
        assert strangers == [] and self.complaints == []

    def _heard(self, message: ConsoleMessage) -> None:
        is_refusal = message.text.startswith("Failed to load resource")  # of a request: the page shows it itself
        if message.type in ("error", "warning") and not is_refusal:
            self.complaints.append(message.text)


def visit(browser: Browser, url: str, **context: Any) -> Visit:
    """A new page, not opened yet. `context`: of Playwright's new_context, such as viewport, locale, color_scheme."""
    page = browser.new_context(**{"viewport": DESKTOP, "locale": "en-US", **context}).new_page()
    return Visit(page, url)
