"""The requests of eight clients, replayed: none is refused, streams are whole, the second turn re-uses the first.

A file of tests/data/clients holds what one client sends, built from its documentation and source. Of a request:
`follows` names the one whose body and answer it continues, `append` what is added to that body's lists, `ignored` names
that the answer's `x-farthing-ignored` holds, `calls` the tool that must be called, `allows` further statuses. In texts,
`{{long:N}}` is N words, `{{fresh:N}}` N hexadecimal digits new in every request, `{{answer.x}}` a part of the answer.
Knows the server by HTTP only.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from farthing.models.published_models import find_published

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "tests" / "data" / "clients").glob("*.json"))
}
REQUESTS = {(name, request["name"]): request for name, client in CLIENTS.items() for request in client["requests"]}
for (name, _), request in REQUESTS.items():
    if "follows" in request:  # it goes where the first went, as the first went
        first = REQUESTS[name, request["follows"]]
        request.update({part: first[part] for part in ("method", "path", "headers")})
PAGES = ROOT / "examples" / "clients"
STORY = "the little fox went home and saw a big dog in her tree so they had to play with all of it then he was happy"
WORDS = STORY.split(" ")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says in any dialect; a call that no model made is made up, so that a session can go on.

    `num_prompt_tokens` counts the cached ones too.
    """

    text: str = ""
    tool_name: str = ""
    tool_arguments: str = "{}"
    tool_call_id: str = "call_made_up"
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as it was sent, and what came back: `events` are the (event, data) of a stream without its comments."""

    path: str
    body: dict[str, Any]
    response: httpx.Response
    events: list[tuple[str, str]]

    @property
    def dialect(self) -> str:
        """`chat/completions`, `completions`, `responses` or `messages`."""
        return httpx.URL(self.path).path.removeprefix("/v1/")

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(data) for _, data in self.events if data != "[DONE]"]


@dataclass(slots=True)
class Replay:
    """Sends every request once, each after the one it follows."""

    http: httpx.Client
    model: str
    exchanges: dict[Key, Exchange] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def send(self, key: Key) -> Exchange:
        if key not in self.exchanges:
            request = REQUESTS[key]
            body = self._body(key, request)
            response = self.http.request(
                request["method"], request["path"], headers=request["headers"], json=body or None
            )
            streams = response.headers.get("content-type", "").startswith("text/event-stream")
            events = list(_events(response.text)) if streams else []
            self.exchanges[key] = Exchange(request["path"], body, response, events)
        return self.exchanges[key]

    def _body(self, key: Key, request: dict[str, Any]) -> dict[str, Any]:
        if "follows" not in request:
            return self._filled(request.get("body", {}), None)
        before = self.send((key[0], request["follows"]))
        answer = answer_of(before)
        body = {**before.body, **self._filled(request.get("body", {}), answer)}
        for name, items in request["append"].items():
            body[name] = body[name] + self._filled(items, answer)
        return body

    def _filled(self, value: Any, answer: Answer | None) -> Any:
        if isinstance(value, dict):
            return {name: self._filled(item, answer) for name, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item, answer) for item in value]
        if not isinstance(value, str):
            return value
        if value == "{{answer.tool_input}}":
            assert answer is not None
            return json.loads(answer.tool_arguments)
        return re.sub(r"\{\{([a-z_.]+)(?::(\d+))?\}\}", lambda found: self._text(found, answer), value)

    def _text(self, found: re.Match[str], answer: Answer | None) -> str:
        name, count = found[1], int(found[2] or 5)
        if name == "model":
            return self.model
        if name == "long":
            return " ".join(WORDS[(7 * place + place // len(WORDS)) % len(WORDS)] for place in range(count))
        if name == "fresh":
            return f"{next(self.numbers) * 40503 % 16**count:0{count}x}"
        assert answer is not None, f"{found[0]} in a request that follows none"
        return str(getattr(answer, name.removeprefix("answer.")))


def _events(text: str) -> Iterator[tuple[str, str]]:
    for block in text.replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        fields = [line.partition(":") for line in lines]
        data = "\n".join(value.removeprefix(" ") for name, _, value in fields if name == "data")
        kinds = [value.strip() for name, _, value in fields if name == "event"]
        if data:
            yield (kinds[0] if kinds else "message"), data


def answer_of(exchange: Exchange) -> Answer:
    """The answer to a streamed request of a session, whole; a broken stream fails here."""
    read = {"chat/completions": _chat, "responses": _responses, "messages": _messages}[exchange.dialect]
    said, calls, num_prompt_tokens, num_cached_tokens = read(exchange)
    tools = exchange.body.get("tools") or [{"name": ""}]
    first = tools[0].get("function", tools[0])["name"]
    call = calls[0] if calls else {"id": Answer().tool_call_id, "name": first, "arguments": "{}"}
    return Answer(said, call["name"], call["arguments"], call["id"], num_prompt_tokens, num_cached_tokens)


Read = tuple[str, list[dict[str, str]], int, int]


def _chat(exchange: Exchange) -> Read:
    assert exchange.events[-1][1] == "[DONE]"
    chunks, usage = list(exchange.chunks), {"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}
    if exchange.body.get("stream_options", {}).get("include_usage"):
        last = chunks.pop()
        assert last["choices"] == [], "the usage stands in a chunk of its own, before the end"
        usage = last["usage"]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    said = "".join(choice["delta"].get("content") or "" for choice in choices)
    calls: dict[int, dict[str, str]] = {}
    for delta in (delta for choice in choices for delta in choice["delta"].get("tool_calls") or []):
        if delta["index"] not in calls:
            assert delta["type"] == "function"
            calls[delta["index"]] = {"id": delta["id"], "name": delta["function"]["name"], "arguments": ""}
        calls[delta["index"]]["arguments"] += delta["function"].get("arguments") or ""
    assert [reason in ("stop", "length", "tool_calls") for reason in reasons] == [True]
    if calls and exchange.body.get("tool_choice") == "auto":
        assert reasons[0] != "stop", "agents go on only after tool_calls"
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return said, [calls[index] for index in sorted(calls)], usage["prompt_tokens"], cached


def _responses(exchange: Exchange) -> Read:
    chunks = exchange.chunks
    assert [kind for kind, _ in exchange.events] == [chunk["type"] for chunk in chunks]
    assert [chunk["sequence_number"] for chunk in chunks] == list(range(len(chunks)))
    assert chunks[0]["type"] == "response.created"
    assert chunks[-1]["type"] == "response.completed", "a client that reads another end sends the whole turn again"
    items = [chunk["item"] for chunk in chunks if chunk["type"] == "response.output_item.done"]
    assert items == chunks[-1]["response"]["output"], "clients take the items from output_item.done alone"
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    said = "".join(part["text"] for part in parts if part["type"] == "output_text")
    assert said == "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "response.output_text.delta")
    calls = [
        {"id": item["call_id"], "name": item["name"], "arguments": item["arguments"]}
        for item in items
        if item["type"] == "function_call"
    ]
    usage = chunks[-1]["response"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens_details"]["reasoning_tokens"] >= 0
    return said, calls, usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]


def _messages(exchange: Exchange) -> Read:
    chunks = [chunk for chunk in exchange.chunks if chunk["type"] != "ping"]
    assert [kind for kind, _ in exchange.events if kind != "ping"] == [chunk["type"] for chunk in chunks]
    kinds = [chunk["type"] for chunk in chunks]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    started = [chunk["index"] for chunk in chunks if chunk["type"] == "content_block_start"]
    stopped = [chunk["index"] for chunk in chunks if chunk["type"] == "content_block_stop"]
    assert started == stopped == list(range(len(started))), "blocks come one after another"
    blocks = [chunk["content_block"] for chunk in chunks if chunk["type"] == "content_block_start"]
    written = ["" for _ in blocks]
    for chunk in chunks:
        if chunk["type"] == "content_block_delta":
            delta = chunk["delta"]
            written[chunk["index"]] += delta.get("text") or delta.get("partial_json") or ""
    said = "".join(value for block, value in zip(blocks, written, strict=True) if block["type"] == "text")
    calls = [
        {"id": block["id"], "name": block["name"], "arguments": value or "{}"}
        for block, value in zip(blocks, written, strict=True)
        if block["type"] == "tool_use"
    ]
    assert chunks[-2]["delta"]["stop_reason"] in ("end_turn", "max_tokens", "tool_use", "stop_sequence")
    usage = {**chunks[0]["message"]["usage"], **chunks[-2]["usage"]}
    cached = usage["cache_read_input_tokens"]
    return said, calls, usage["input_tokens"] + cached + (usage.get("cache_creation_input_tokens") or 0), cached


@pytest.fixture(scope="module")
def replay(agent_server: Any) -> Iterator[Replay]:
    with httpx.Client(base_url=agent_server.url, timeout=120.0) as http:
        yield Replay(http, agent_server.model)


def streamed(*dialects: str) -> list[Key]:
    """The requests that ask for a stream in one of these dialects."""
    firsts = {key: REQUESTS[key[0], request.get("follows", key[1])] for key, request in REQUESTS.items()}
    paths = tuple(f"/v1/{dialect}" for dialect in dialects)
    return [
        key
        for key, first in firsts.items()
        if first.get("body", {}).get("stream") and first["path"].partition("?")[0] in paths
    ]


@pytest.mark.parametrize("key", REQUESTS, ids=" - ".join)
def test_no_request_of_a_client_is_refused(replay: Replay, key: Key) -> None:
    response = replay.send(key).response
    assert response.status_code in (200, *REQUESTS[key].get("allows", [])), response.text


@pytest.mark.parametrize("key", streamed("chat/completions", "responses", "messages"), ids=" - ".join)
def test_its_stream_is_whole(replay: Replay, key: Key) -> None:
    json.loads(answer_of(replay.send(key)).tool_arguments)


@pytest.mark.parametrize("key", streamed("completions"), ids=" - ".join)
def test_a_stream_of_plain_completions_is_whole(replay: Replay, key: Key) -> None:
    exchange = replay.send(key)
    assert exchange.events[-1][1] == "[DONE]"
    reasons = [choice["finish_reason"] for chunk in exchange.chunks for choice in chunk["choices"]]
    assert [reason in ("stop", "length") for reason in reasons if reason] == [True]


@pytest.mark.parametrize("key", [key for key in REQUESTS if REQUESTS[key].get("ignored")], ids=" - ".join)
def test_what_of_it_is_ignored_is_named(replay: Replay, key: Key) -> None:
    named = replay.send(key).response.headers["x-farthing-ignored"]
    assert [name for name in REQUESTS[key]["ignored"] if name not in named] == []


@pytest.mark.parametrize("client", CLIENTS)
def test_the_second_turn_of_its_session_finds_95_percent_of_the_first_in_the_cache(replay: Replay, client: str) -> None:
    first, second = (answer_of(replay.send((client, name))) for name in ("turn 1", "turn 2"))
    assert first.num_prompt_tokens >= 2000, "the session is as long as those of agents"
    assert second.num_prompt_tokens > first.num_prompt_tokens
    assert second.num_cached_tokens >= 0.95 * first.num_prompt_tokens


@pytest.mark.parametrize("key", [key for key in REQUESTS if REQUESTS[key].get("calls")], ids=" - ".join)
def test_a_tool_that_is_asked_for_by_name_is_called(replay: Replay, key: Key) -> None:
    answer = answer_of(replay.send(key))
    assert answer.tool_call_id != Answer().tool_call_id
    assert answer.tool_name == REQUESTS[key]["calls"]
    assert json.loads(answer.tool_arguments)["grade"] in ("right", "wrong")


@pytest.mark.parametrize("key", [key for key in REQUESTS if REQUESTS[key]["method"] == "GET"], ids=" - ".join)
def test_the_list_of_models_holds_the_model(replay: Replay, key: Key) -> None:
    assert replay.model in [model["id"] for model in replay.send(key).response.json()["data"]]


def test_the_tokens_of_a_request_are_counted(replay: Replay) -> None:
    assert replay.send(("claude-code", "count tokens")).response.json()["input_tokens"] > 100


@pytest.mark.parametrize("client", CLIENTS)
def test_it_has_a_page_that_starts_a_published_model(client: str) -> None:
    page = (PAGES / f"{client}.md").read_text(encoding="utf-8")
    started = re.findall(r"farthing serve ([\w.-]+)", page)
    assert started and all(find_published(name) is not None for name in started)
    assert f"({client}.md)" in (PAGES / "README.md").read_text(encoding="utf-8")
