"""The page at / in a real browser before real servers: what a person sees and does, and what may never happen.

Every test ends with Visit.assert_clean(): nothing left the server's origin, no script failed, no policy was broken.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from server_process import ServerProcess, serving

from farthing.server import page_route

pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")

from browser import Visit, chromium_path
from playwright.sync_api import expect

pytestmark = pytest.mark.skipif(chromium_path() is None, reason="no chromium on PATH to open the page with")

KEY = "alice-0123456789abcdef"
STEP_SECONDS = 0.02
STORY = "SCRIPT:story"
Open = Callable[..., Visit]


def with_template(folder: Path, source: Path, change: Callable[[str], str | None]) -> Path:
    """A copy of the model with another chat template."""
    copy = folder / "model"
    shutil.copytree(source, copy)
    config = json.loads((copy / "tokenizer_config.json").read_text())
    config["chat_template"] = change(config["chat_template"])
    (copy / "tokenizer_config.json").write_text(json.dumps({key: value for key, value in config.items() if value}))
    return copy


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, long_folder: Path) -> Iterator[ServerProcess]:
    """With keys, given answers a token every 20 ms, and a model that may think first."""
    folder = tmp_path_factory.mktemp("keyed")
    keys, scripts = folder / "keys", folder / "scripts.json"
    keys.write_text(f"alice:{KEY}\n")
    keys.chmod(0o600)
    thoughts = "<think>Red, I think.</think>**Red**."
    scripts.write_text(json.dumps({"story": "The fox ran on. " * 200, "thoughts": thoughts}))
    model = with_template(folder, long_folder, lambda template: template + "{# <think></think> #}")
    with serving(
        model,
        engine={"context": 8192},
        script="scripted.py",
        arguments=[str(scripts), str(STEP_SECONDS)],
        api_keys=str(keys),
    ) as server:
        yield server


def with_key(seen: Visit) -> Visit:
    seen.page.fill("#key", KEY)
    seen.page.press("#key", "Enter")
    expect(seen.page.locator("#settings")).to_be_hidden()
    return seen


# --- what is served


def test_the_page_is_served_whole_with_a_strict_policy_and_a_tag(server: ServerProcess):
    client = httpx.Client(base_url=server.url)
    for path in page_route.PATHS:
        answer = client.get(path)
        assert answer.status_code == 200 and answer.content
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-cache"
        again = client.get(path, headers={"if-none-match": f'"other", W/{answer.headers["etag"]}'})
        assert again.status_code == 304 and not again.content
        assert client.head(path).headers["content-length"] == answer.headers["content-length"]
    served = {Path(path).name for path in page_route.PATHS} - {""}
    assert served | {"index.html"} == {path.name for path in (Path(page_route.__file__).parent / "web").iterdir()}


@pytest.mark.parametrize("path", ["/web", "/web/", "/web/../app.py", "/web/%2e%2e/app.py", "/index.html", "/web/x.js"])
def test_nothing_else_is_a_file(server: ServerProcess, path: str):
    assert httpx.get(server.url + path).status_code == 404


def test_no_file_of_the_page_names_another_origin_or_makes_markup_of_text():
    forbidden = r"//[\w-]+\.\w|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bstyle=|\bonclick="
    for path in (Path(page_route.__file__).parent / "web").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(forbidden, text), path


# --- the conversation


def test_an_answer_streams_and_says_at_its_end_what_it_took(at: Open, keyed: ServerProcess):
    seen = with_key(at(keyed))
    seen.save_settings({"max_tokens": "60"})
    seen.send(STORY)
    last = seen.page.locator(".message.last")
    expect(last).to_have_attribute("aria-busy", "true")
    expect(last.locator(".body")).to_contain_text("The fox")
    begun = last.locator(".body").inner_text()
    text = seen.answered()
    assert text.startswith(begun) and len(text) > len(begun)
    facts = last.locator(".facts").inner_text()
    assert "60 tokens" in facts and "of the machine" in facts and "Cut off" in facts
    expect(seen.page.locator("#announcer")).to_contain_text("The fox ran on.")  # and whole sentences are read out


def test_stop_ends_the_answer_here_and_on_the_server_and_keeps_what_came(at: Open, keyed: ServerProcess):
    seen = with_key(at(keyed))
    for stop in (lambda: seen.page.keyboard.press("Escape"), lambda: seen.page.click("#stop")):
        before = len(keyed.events("request"))
        seen.send(STORY)
        expect(seen.page.locator(".message.last .body")).to_contain_text("The fox")
        stop()
        assert seen.answered().startswith("The fox")
        assert "Stopped" in seen.page.locator(".message.last .facts").inner_text()
        expect(seen.page.locator("#send")).to_be_visible()
        while len(keyed.events("request")) == before:
            seen.page.wait_for_timeout(20)
        assert keyed.events("request")[-1]["outcome"] == "cancelled"


def test_thoughts_are_folded_away_and_not_sent_again(at: Open, keyed: ServerProcess):
    seen = with_key(at(keyed))
    assert seen.ask("SCRIPT:thoughts") == "Red."
    thought = seen.page.locator(".thought")
    expect(thought).to_be_hidden()
    seen.page.click(".thoughts summary")
    expect(thought).to_have_text("Red, I think.")
    with seen.page.expect_request("**/chat/completions") as asked:
        seen.ask("And again SCRIPT:thoughts")
    assert "Red, I think" not in (asked.value.post_data or "")


def test_markdown_is_shown_as_what_it_means(at: Open, scripted_server: ServerProcess):
    seen = at(scripted_server)
    seen.ask("SCRIPT:markdown")
    body = seen.page.locator(".message.last .body")
    for selector, text in {
        "h4": "A list", "ol > li em": "First", "ol li ul li": "inside", "ol > li strong": "Second", "li code": "code",
        "td.to-right": "12", "blockquote": "said someone",
    }.items():  # fmt: skip
        expect(body.locator(selector)).to_have_text(text)
    expect(body.locator("a")).to_have_attribute("href", "https://example.org/a_(b)")
    expect(body.locator("a")).to_have_attribute("rel", "noopener noreferrer nofollow")
    assert body.locator("pre").inner_text() == "def merge(left, right):\n    return sorted(left + right)"
    seen.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    body.get_by_role("button", name="Copy the code").click()
    expect(seen.page.locator("#announcer")).to_contain_text("Copied")
    assert seen.page.evaluate("navigator.clipboard.readText()").startswith("def merge")


def test_html_of_a_model_stays_text_and_fetches_nothing(at: Open, scripted_server: ServerProcess):
    seen = at(scripted_server)
    text = seen.ask("SCRIPT:hostile")
    assert "<img src=x onerror=\"document.title='taken'\"> <script>document.title='taken'</script>" in text
    body = seen.page.locator(".message.last .body")
    assert body.locator("img, script, iframe, b, [onerror]").count() == 0
    assert body.locator("a").evaluate_all("links => links.map(link => link.protocol)") == ["https:", "https:"]
    seen.ask("<b>me</b> SCRIPT:story")
    assert seen.page.locator(".of-user b").count() == 0
    assert "taken" not in seen.page.title()


UNCLOSED = [
    "*a ", "_a", "[a", "`a``", "![](", "~~", "http://!)", "***", "<h", "#_#", "\\`", ":/",
    "> ", ">", "- ", "1. ", "|-", "| ",
]  # fmt: skip


def test_marks_without_an_end_take_no_time_that_is_noticed(at: Open, scripted_server: ServerProcess):
    """100,000 characters of each: work that grew with the square would run into the limit of this test."""
    seen = at(scripted_server)
    for mark in UNCLOSED:
        seen.page.wait_for_function(
            """async mark => {
                const { showMarkdown } = await import("/web/markdown.js");
                const box = document.createElement("div");
                showMarkdown(box, mark.repeat(100_000 / mark.length));
                return box.childElementCount > 0;
            }""",
            arg=mark,
        )


def test_parameters_go_into_the_request_and_what_is_empty_does_not(at: Open, server: ServerProcess):
    seen = at(server)
    settings = {"system": "Be brief.", "temperature": "1.5", "seed": "7", "max_tokens": "8", "stop-texts": "x\ny"}
    seen.save_settings(settings)
    with seen.page.expect_request("**/v1/chat/completions") as asked:
        first = seen.ask("Tell me a story about a cat.")
    body = asked.value.post_data_json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."} and body["stop"] == ["x", "y"]
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (1.5, 7, 8)
    assert "top_p" not in body and "top_k" not in body
    seen.page.get_by_role("button", name="Answer again").click()
    assert seen.answered() == first  # the seed
    seen.page.click("#open-settings")
    seen.page.fill("#top_p", "1.5")
    seen.page.press("#top_p", "Enter")
    expect(seen.page.locator("#top_p-problem")).to_have_text("From 0.000001 to 1")
    expect(seen.page.locator("#top_p")).to_be_focused()


def test_a_model_without_a_chat_template_continues_the_text(at: Open, tmp_path: Path, long_folder: Path):
    with serving(with_template(tmp_path, long_folder, lambda _: None)) as plain:
        seen = at(plain)
        seen.save_settings({"max_tokens": "12"})
        with seen.page.expect_request("**/v1/completions") as asked:
            assert seen.ask("Once upon a time there was")
        assert asked.value.post_data_json["prompt"] == "Once upon a time there was"
        assert "continues the text" in seen.page.locator(".message.last .facts").inner_text()


def test_what_the_server_refuses_is_said_and_can_be_tried_again(at: Open, server: ServerProcess):
    seen = at(server)
    seen.send("word " * 3000)
    error = seen.page.locator(".message.last .error")
    expect(error).to_contain_text("The server refused (400)")
    expect(error).to_contain_text("512")  # the server's own words, with the context
    seen.page.locator(".of-user").hover()
    seen.page.get_by_role("button", name="Change this message").click()
    seen.page.context.set_offline(True)
    seen.ask("Hello!")
    expect(error).to_contain_text("The server does not answer")
    seen.page.context.set_offline(False)
    seen.page.get_by_role("button", name="Try again").click()
    assert seen.answered()
    assert seen.page.locator(".error").count() == 0 and seen.page.locator(".message").count() == 2


# --- what is kept


def test_conversations_outlive_a_reload_and_can_be_renamed_and_deleted(at: Open, scripted_server: ServerProcess):
    seen, page = (first := at(scripted_server)), first.page
    answer = seen.ask("One")
    page.click("#new-conversation")
    seen.ask("Two")
    page.reload()
    expect(page.locator("#conversations li")).to_have_count(2)
    expect(page.locator(".of-user .body")).to_have_text("Two")  # the one that was open
    page.locator("#conversations .open", has_text="One").click()
    assert page.locator(".of-assistant .body").inner_text() == answer
    page.get_by_role("button", name="Rename “One”").click()
    page.get_by_label("New name").fill("A <b>fox</b>")
    page.keyboard.press("Enter")
    expect(page.locator("#conversations .open", has_text="A <b>fox</b>")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # delete
    expect(page.locator("#conversations li")).to_have_count(1)
    expect(page.locator("#greeting")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#conversations li")).to_have_count(2)


def test_an_answer_that_a_reload_cut_off_is_kept_as_far_as_it_came(at: Open, keyed: ServerProcess):
    seen = with_key(at(keyed))
    seen.send(STORY)
    expect(seen.page.locator(".message.last .body")).to_contain_text("The fox")
    seen.page.reload()
    assert seen.answered().startswith("The fox")
    expect(seen.page.locator(".message.last .facts")).to_contain_text("Interrupted")


# --- keys


def test_the_page_needs_no_key_asks_for_one_and_forgets_it_with_the_tab(at: Open, keyed: ServerProcess):
    seen, page = (first := at(keyed)), first.page
    expect(page.locator("#key")).to_be_focused()
    expect(page.locator("#key-asked")).to_have_text("This server needs an API key.")
    page.fill("#key", "wrong-0123456789abcdef")
    page.press("#key", "Enter")
    expect(page.locator("#key-asked")).to_have_text("The server does not know this API key.")
    page.keyboard.press("Escape")
    seen.send("SCRIPT:thoughts")
    expect(page.locator(".message.last .error")).to_contain_text("The server does not know this API key.")
    with_key(seen)  # it asked again; the question that was refused is sent by itself
    expect(page.locator(".message.last .body")).to_have_text("Red.")
    assert page.evaluate("[sessionStorage['farthing.key'], localStorage['farthing.key']]") == [KEY, None]
    expect(page.locator("#model")).to_have_text("model")
    page.click("#open-settings")
    page.check("#remember-key")
    page.click("#settings-form [type=submit]")
    assert page.evaluate("[sessionStorage['farthing.key'] ?? null, localStorage['farthing.key']]") == [None, KEY]
    assert not any(KEY in url for url in seen.requests)


# --- hands, eyes, languages


def test_the_keyboard_alone_sends_stops_breaks_lines_and_switches(at: Open, keyed: ServerProcess):
    seen, page = (first := with_key(at(keyed))), first.page
    page.keyboard.press("Escape")
    page.locator("#prompt").focus()
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type(STORY)
    page.keyboard.press("Enter")
    expect(page.locator(".of-user .body")).to_have_text(f"One\n{STORY}")
    expect(page.locator(".message.last .body")).to_contain_text("The fox")
    page.keyboard.press("Escape")
    seen.answered()
    assert tab_to(seen, "#new-conversation", backwards=True)
    page.keyboard.press("Enter")
    expect(page.locator("#prompt")).to_be_focused()
    expect(page.locator("#greeting")).to_be_visible()
    assert tab_to(seen, "#conversations .open", backwards=True)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator(".of-user .body")).to_contain_text("One")
    assert tab_to(seen, "#theme", backwards=True)
    page.keyboard.press("Space")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def tab_to(seen: Visit, selector: str, *, backwards: bool = False) -> bool:
    """Whether the Tab key comes there."""
    for _ in range(40):
        seen.page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if seen.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return True
    return False


def test_every_control_has_a_name(at: Open, server: ServerProcess):
    seen = at(server)
    seen.ask("Hello!")
    nameless = """() => [...document.querySelectorAll("button, input, textarea, select, a[href], summary, img")]
        .filter(one => !one.matches("img[alt='']") && !(one.ariaLabel || one.labels?.length || one.textContent.trim()))
        .map(one => one.outerHTML)"""
    assert seen.page.evaluate(nameless) == []
