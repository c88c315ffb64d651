"""How the page looks: on a phone, in both themes, in both languages, and what its gauges show of the ledger."""

import re
from collections.abc import Callable

import httpx
import pytest
from server_process import ServerProcess

pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")

from browser import PHONE, Visit, chromium_path
from playwright.sync_api import expect

pytestmark = pytest.mark.skipif(chromium_path() is None, reason="no chromium on PATH to open the page with")

Open = Callable[..., Visit]


def test_a_phone_shows_everything_without_scrolling_sideways(at: Open, scripted_server: ServerProcess):
    seen, page = (first := at(scripted_server, viewport=PHONE, is_mobile=True, has_touch=True)), first.page
    expect(page.locator("#history")).to_be_hidden()
    expect(page.locator("#gauges")).to_be_hidden()
    seen.ask("SCRIPT:markdown " + "long" * 40)
    seen.ask("SCRIPT:hostile")
    assert not seen.has_sideways_scroll()
    for name in ("history", "gauges"):
        page.click(f"#open-{name}")
        expect(page.locator(f"#{name}")).to_be_visible()
        assert not seen.has_sideways_scroll()
        page.keyboard.press("Escape")
        expect(page.locator(f"#{name}")).to_be_hidden()
        expect(page.locator(f"#open-{name}")).to_be_focused()
    page.click("#open-settings")
    assert not seen.has_sideways_scroll()


CONTRAST = """names => {
    const probe = document.body.appendChild(document.createElement("i"));
    const light = name => {
        probe.style.color = `var(--${name})`;
        const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number)
            .map(part => part / 255).map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const [one, other] = names.map(light);
    return Math.max(one, other) / Math.min(one, other);
}"""
PAIRS = [(ink, paper) for ink in ("text", "faint", "accent", "bad") for paper in ("ground", "surface", "raised")]


def test_both_themes_follow_the_system_can_be_switched_and_are_legible(at: Open, server: ServerProcess):
    grounds = {}
    for scheme in ("light", "dark"):
        seen = at(server, color_scheme=scheme)
        grounds[scheme] = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        for pair in [*PAIRS, ("on-accent", "accent"), ("text", "bad-ground")]:
            assert seen.page.evaluate(CONTRAST, pair) >= 4.5, (scheme, pair)  # WCAG 2.2, 1.4.3
        seen.page.click("#theme")
        seen.page.reload()
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") != grounds[scheme]
    assert grounds["light"] != grounds["dark"]


def test_both_languages_follow_the_browser_and_have_every_word(at: Open, server: ServerProcess):
    chinese = at(server, locale="zh-CN").page
    expect(chinese.locator("#new-conversation")).to_have_text("新对话")
    expect(chinese.locator("#prompt")).to_have_attribute("placeholder", "输入消息")
    expect(chinese.locator(".panel-speed h3")).to_have_text("速度")
    chinese.click("#language")
    expect(chinese.locator("#new-conversation")).to_have_text("New conversation")
    expect(chinese.locator(".panel-speed h3")).to_have_text("Speed")
    chinese.reload()
    assert chinese.evaluate("document.documentElement.lang") == "en"
    expect(chinese.locator("#new-conversation")).to_have_text("New conversation")
    words = """async () => {
        const [{ EN }, { ZH }] = [await import("/web/words.en.js"), await import("/web/words.zh.js")];
        const fields = text => (text.match(/\\{\\w+\\}/g) ?? []).sort().join();
        const missing = Object.keys(EN).filter(name => !ZH[name] || fields(ZH[name]) !== fields(EN[name]));
        return [missing, Object.keys(ZH).filter(name => !EN[name] && !name.startsWith("remedy_"))];
    }"""
    assert chinese.evaluate(words) == [[], []]


# --- the gauges


def test_the_gauges_show_the_figures_of_the_ledger(at: Open, server: ServerProcess):
    seen, page = (first := at(server)), first.page
    seen.ask("Once upon a time")
    with page.expect_response("**/farthing/ledger") as answer:
        pass
    ledger = answer.value.json()
    assert ledger["schema"] == "farthing.ledger/1" and ledger["tokens"]["output"] > 0
    expect(page.locator(".panel-queue")).to_contain_text(f"Answered{ledger['requests']['ended']['stop']}")
    panels = ("speed", "kv", "why", "limit", "money")
    speed, kv, why, limit, money = (page.locator(f".panel-{name}").inner_text() for name in panels)
    assert f"{ledger['kv']['blocks']}" in kv
    assert percent(ledger["recent"]["decode"]["share_of_limit"]) in limit
    assert "tok/s" in speed and re.search(r"last [125] min", speed)
    assert why.count("×") == min(5, len(ledger["why_slow"])) > 0 and "Reading weights" in why
    assert "reading the weights · faster answers" in why
    assert "--price-per-hour" in money
    assert page.locator(".panel-speed path.line").get_attribute("d").startswith("M")
    expect(page.locator("#state")).to_have_text("Ready")


def percent(ratio: float) -> str:
    value = ratio * 100
    return f"{value:.1f}".removesuffix(".0") + " %" if value < 9.95 else f"{value:.0f} %"


def test_a_card_is_shown_with_what_slows_it(at: Open, server: ServerProcess):
    """The server's own document, with a card in it as hardware.nvidia reads them."""
    seen = at(server)
    card = {
        "index": 0, "is_lost": False, "name": "RTX 4090", "power_watts": 214.4, "power_limit_watts": 450.0,
        "temperature_celsius": 61.0, "throttle_reasons": ["power"], "link_width": 4, "link_width_max": 16,
    }  # fmt: skip
    lost = {**dict.fromkeys(card), "index": 1, "is_lost": True, "throttle_reasons": []}
    ledger = httpx.get(f"{server.url}/farthing/ledger").json()
    document = {**ledger, "gpus": [card, lost]}
    expect(seen.page.locator(".panel-gpus")).to_be_hidden()
    seen.page.route("**/farthing/ledger", lambda route: route.fulfill(json=document))
    cards = seen.page.locator(".panel-gpus .rows div")
    expect(cards.nth(0)).to_have_text("RTX 4090214 / 450 W · 61 °C · PCIe ×4 / ×16 · Slowed down: power")
    expect(cards.nth(1)).to_contain_text("Lost")


def test_a_server_that_hides_its_figures_can_be_talked_to(at: Open, server: ServerProcess):
    seen = at(server)
    seen.page.route("**/farthing/ledger", lambda route: route.fulfill(status=404, body="{}"))
    seen.page.reload()
    expect(seen.page.locator("#gauges-note")).to_contain_text("No figures yet")
    assert seen.ask("Hello!")


def test_the_gauges_rest_while_nobody_looks_and_say_when_the_server_is_gone(at: Open, server: ServerProcess):
    seen, page = (first := at(server)), first.page
    expect(page.locator("#state")).to_have_text("Ready")
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    before = len(seen.requests)
    page.wait_for_timeout(2500)
    assert len(seen.requests) == before
    page.context.set_offline(True)
    page.evaluate("""() => {
        delete document.hidden;
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    expect(page.locator("#state")).to_have_text("No connection")
    expect(page.locator("#gauges-note")).to_contain_text("The last figures are shown")
    page.context.set_offline(False)
    expect(page.locator("#gauges-note")).to_be_hidden()
