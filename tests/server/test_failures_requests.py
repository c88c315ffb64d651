"""Requests that ask for too much, or for what can't be: refused before anything is set aside for them.

Scenarios F23, F25.
"""

import asyncio
import json
from collections.abc import Iterator

import pytest
from load import JSON, ask, completion, footprint
from server_process import ServerProcess, serving

SPARE_BYTES = 24 * 2**20  # a body of 16 MB may be held for a moment, and Python keeps some of what it frees


@pytest.fixture(scope="module")
def small_server() -> Iterator[ServerProcess]:
    with serving(max_restarts=0) as running:
        yield running


GREEDY = {"max_tokens": 5, "temperature": 0}
CHAT = {"messages": [{"role": "user", "content": "Hello"}], **GREEDY}
TEXT = {"prompt": "Once", **GREEDY}
REFUSED: dict[str, tuple[str, JSON]] = {
    "n": ("/v1/completions", {**TEXT, "n": 10**9}),
    "n of a chat": ("/v1/chat/completions", {**CHAT, "n": 10**9}),
    "max_tokens": ("/v1/completions", {**TEXT, "max_tokens": 10**12}),
    "max_tokens beyond 64 bits": ("/v1/completions", {**TEXT, "max_tokens": 10**30}),
    "min_tokens": ("/v1/completions", {**TEXT, "min_tokens": 10**12}),
    "no prompt": ("/v1/completions", GREEDY),
    "empty prompt": ("/v1/completions", {**TEXT, "prompt": ""}),
    "empty ids": ("/v1/completions", {**TEXT, "prompt": []}),
    "no messages": ("/v1/chat/completions", {**CHAT, "messages": []}),
    "ids that are none": ("/v1/completions", {**TEXT, "prompt": [1, 10**6]}),
    "negative ids": ("/v1/completions", {**TEXT, "prompt": [-1]}),
    "too many prompts": ("/v1/completions", {**TEXT, "prompt": ["a"] * 4000}),
    "a prompt beyond the context": ("/v1/completions", {**TEXT, "prompt": "word " * 10_000}),
    "10 MB of stop strings": ("/v1/completions", {**TEXT, "stop": ["x" * 100] * 100_000}),
    "10 MB of one stop string": ("/v1/completions", {**TEXT, "stop": ["x" * 10_000_000]}),
    "logprobs of the vocabulary": ("/v1/completions", {**TEXT, "logprobs": 2048}),
    "top_logprobs of the vocabulary": ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2048}),
    "temperature": ("/v1/completions", {**TEXT, "temperature": 1e300}),
    "bias of every token and more": ("/v1/completions", {**TEXT, "logit_bias": {str(i): 1 for i in range(90_000)}}),
    "a schema that is none": (
        "/v1/chat/completions",
        {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no"}}}},
    ),
    "a schema without end": (
        "/v1/chat/completions",
        {**CHAT, "guided_json": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}},
    ),
    "a huge schema": ("/v1/chat/completions", {**CHAT, "guided_json": {"enum": ["x" * 100] * 20_000}}),
    "a pattern that explodes": ("/v1/chat/completions", {**CHAT, "guided_regex": "(((a{1,500}){1,500}){1,500})b"}),
    "a broken pattern": ("/v1/chat/completions", {**CHAT, "guided_regex": "(("}),
    "a broken grammar": ("/v1/chat/completions", {**CHAT, "guided_grammar": "start: other"}),
}
BODIES = {
    "deep lists": b'{"prompt": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "not a number": b'{"prompt": "a", "temperature": NaN}',
    "a number of a million digits": b'{"prompt": "a", "max_tokens": ' + b"9" * 1_000_000 + b"}",
    "many empty lists": b'{"prompt": [' + b"[]," * 4_000_000 + b"[]]}",
    "half a character": b'{"prompt": "\\ud800", "max_tokens": 5}',
    "more than is allowed": b'{"prompt": "' + b"x" * (16 * 2**20) + b'"}',
    "no JSON": b"prompt=Once",
    "nothing": b"",
}


def refused(server: ServerProcess, path: str, body: JSON | bytes, *statuses: int) -> None:
    before, steps = footprint(server.process.pid), server.status()["engine"]["num_steps"]
    reply = asyncio.run(ask(server.url, path, body))
    assert reply.status in statuses and reply.whole, (reply.status, reply.body[:300])
    error = json.loads(reply.body)["error"]
    assert 0 < len(error["message"]) < 2000
    assert reply.seconds < 10
    status = server.await_idle()
    assert status["engine"]["num_steps"] == steps and status["num_restarts"] == 0
    assert footprint(server.process.pid).memory_bytes < before.memory_bytes + SPARE_BYTES


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_given_is_refused_and_costs_nothing(small_server: ServerProcess, name: str) -> None:
    path, body = REFUSED[name]
    refused(small_server, path, {"model": small_server.model, **body}, 400)


@pytest.mark.parametrize("name", BODIES)
def test_what_is_no_sound_body_is_refused_and_costs_nothing(small_server: ServerProcess, name: str) -> None:
    refused(small_server, "/v1/completions", BODIES[name], 400, 413)


def test_a_bad_schema_behind_a_good_one_leaves_the_good_one_alone(small_server: ServerProcess) -> None:
    server = small_server
    good = {**CHAT, "model": server.model, "max_tokens": 200, "guided_json": {"type": "integer", "maximum": 99}}
    bad = {**CHAT, "model": server.model, "guided_regex": "(((a{1,500}){1,500}){1,500})b"}
    any_value = {**CHAT, "model": server.model, "max_tokens": 60, "guided_json": {}}

    async def play() -> None:
        paths = "/v1/chat/completions"
        replies = await asyncio.gather(*(ask(server.url, paths, body) for body in (good, bad, good, any_value)))
        assert [reply.status for reply in replies] == [200, 400, 200, 200]
        for number in (0, 2):
            assert int(replies[number].json()["choices"][0]["message"]["content"]) <= 99
        json.loads(replies[3].json()["choices"][0]["message"]["content"])  # {} allows any value, and that is bounded

    asyncio.run(play())
    assert server.await_idle()["num_restarts"] == 0
    assert asyncio.run(ask(server.url, "/v1/completions", completion(server.model, "Once"))).is_complete
