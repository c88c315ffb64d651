"""Servers that several tests share: started once, never broken by a test."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server_process import ServerProcess, long_model, serving

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
MARKDOWN = """## A list

1. *First*, with `code`
   - inside
2. **Second**, [a page](https://example.org/a_(b))

| tea | cups |
|---|---:|
| green | 12 |

> said someone

```python
def merge(left, right):
    return sorted(left + right)
```
"""
HOSTILE = """<img src=x onerror="document.title='taken'"> <script>document.title='taken'</script>

[run](javascript:document.title='taken') ![far](https://example.org/pixel.png) [data](data:text/html,<b>x</b>)

| <b>bold</b> |
|---|
| <iframe src="https://example.org"></iframe> |

```<script>document.title='taken'</script>
</code></pre><img src=x onerror="document.title='taken'">
```
"""
SCRIPTS = {
    "call": CALL,
    "talk_and_call": f"Let me look. {CALL}",
    "two_calls": CALL + "\n" + CALL.replace("Paris", "Rome"),
    "object": '{"a": 1}',
    "story": "Once upon a time there was a fox. " * 20,
    "markdown": MARKDOWN,
    "hostile": HOSTILE,
    "thoughts": "<think>The fox is red. So is the hen.</think>Both are **red**.",
}


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """The bundled model."""
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def long_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_model(tmp_path_factory.mktemp("long"))


@pytest.fixture(scope="session")
def scripted_server(long_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A context of 8,192 tokens, and given answers: a prompt with SCRIPT:call is answered with SCRIPTS["call"]."""
    scripts = tmp_path_factory.mktemp("scripts") / "scripts.json"
    scripts.write_text(json.dumps(SCRIPTS))
    with serving(long_folder, engine={"context": 8192}, script="scripted.py", arguments=[str(scripts)]) as running:
        yield running


@pytest.fixture(scope="session")
def agent_server(scripted_server: ServerProcess) -> ServerProcess:
    return scripted_server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of the page; they skip where playwright or a browser is absent. Of a module: while it is
    open, an event loop of playwright's runs, beside which no test can have its own."""
    from browser import chromium

    with chromium() as running:
        yield running


@pytest.fixture
def at(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page of a server in a fresh profile; asserts at the end that nothing went wrong unseen."""
    from browser import visit

    visits: list[Any] = []

    def opened(server: ServerProcess, **context: Any) -> Any:
        visits.append(visit(browser, server.url, **context))
        visits[-1].open()
        return visits[-1]

    yield opened
    for one in visits:
        one.assert_clean()
        one.page.context.close()
