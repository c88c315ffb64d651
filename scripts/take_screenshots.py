"""Takes the screenshots of the page in docs/screenshots/: the bundled model, asked for real, in a real browser.

    PYTHONPATH=tests python scripts/take_screenshots.py

Everything that they show was said and measured while they were taken, on this machine and with what else it was doing;
only the price of the machine is given (--price-per-hour 0.05). Needs Playwright and a Chromium, and a font for Chinese.
"""

import itertools
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
from browser import DESKTOP, PHONE, Visit, chromium, visit
from playwright.sync_api import Browser
from server_process import ServerProcess, serving

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "screenshots"
DOLLARS_PER_HOUR = 0.05
LOAD_SECONDS = 45.0
LOAD_STREAMS = 2
PATIENCE_MS = 120_000
PROMPTS = ("Once upon a time there was a kind", "Tell me a story about a hen.", "What colour is the sky?")
CHAT = ("Hello! Who are you?", "Tell me a story about a bird.")
PHONE_SCREEN: dict[str, Any] = {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with serving(price_per_hour=DOLLARS_PER_HOUR) as server, chromium() as browser:
        done = threading.Event()
        loads = [threading.Thread(target=load, args=(server.url, done), daemon=True) for _ in range(LOAD_STREAMS)]
        for thread in loads:
            thread.start()
        done.wait(LOAD_SECONDS)
        take(browser, server)
        done.set()
        for thread in loads:
            thread.join()


def load(url: str, done: threading.Event) -> None:
    """Others who ask, so that there are figures to be seen."""
    with httpx.Client(base_url=url, timeout=60) as client:
        for prompt in itertools.cycle(PROMPTS):
            if done.wait(0.5):
                return
            body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 120}
            client.post("/v1/chat/completions", json=body)


def take(browser: Browser, server: ServerProcess) -> None:
    light, dark = {"color_scheme": "light"}, {"color_scheme": "dark"}
    chinese = {"locale": "zh-CN"}
    desktop = talk(visit(browser, server.url, viewport=DESKTOP, **light))
    save(desktop, "desktop-light")
    desktop.page.click("#open-settings")
    save(desktop, "settings-light")
    save(talk(visit(browser, server.url, viewport=DESKTOP, **dark, **chinese)), "desktop-dark-chinese")
    phone = talk(visit(browser, server.url, **PHONE_SCREEN, **dark))
    save(phone, "phone-dark")
    phone = talk(visit(browser, server.url, **PHONE_SCREEN, **light, **chinese))
    phone.page.click("#open-gauges")
    save(phone, "phone-light-chinese")


def talk(seen: Visit) -> Visit:
    seen.page.set_default_timeout(PATIENCE_MS)
    seen.open()
    seen.page.wait_for_selector("#panels:not([hidden])", state="attached")
    for text in CHAT:
        seen.ask(text)
    seen.page.wait_for_timeout(2500)  # a poll of the ledger
    return seen


def save(seen: Visit, name: str) -> None:
    seen.assert_clean()
    path = FOLDER / f"{name}.png"
    seen.page.screenshot(path=path)
    print(path.relative_to(ROOT), f"{path.stat().st_size // 1024} KiB", file=sys.stderr)


if __name__ == "__main__":
    main()
