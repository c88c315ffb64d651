"""Answers and errors as `/v1/messages` writes them, from the deltas of an engine to the bytes."""

import asyncio
import json
from typing import Any

import pytest

from farthing.engine.process.engine_client import Stream
from farthing.engine.request import Delta, Request
from farthing.engine.tool_calls.answer_parser import AnswerParser
from farthing.engine.tool_calls.formats.hermes import HermesFormat
from farthing.engine.tool_calls.tools import Tool
from farthing.sampling_params import SamplingParams
from farthing.server.answer import Answer, Call
from farthing.server.errors import ApiError
from farthing.server.messages.dialect import MessagesDialect, anthropic_error_body

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def answer_of(
    text: str, *, finish_reason: str = "stop", stop_reason: str | None = None, thinks: bool = False
) -> Answer:
    """An answer whose text comes three characters a token."""
    prompt = Request("r", tuple(range(10)), SamplingParams(), 0)
    stream = Stream([prompt], lambda request_id: None)
    for at in range(0, len(text), 3):
        stream.push(Delta("r", 0, text[at : at + 3], (1,), num_cached_tokens=0 if at else 4))
    stream.push(Delta("r", 0, "", (), finish_reason, stop_reason))
    tools = [Tool("get_weather")]
    parser = AnswerParser(HermesFormat(), tools=tools, reasoning=thinks)
    return Answer(Call([prompt], lambda: parser), stream)


def streamed(answer: Answer) -> list[dict[str, Any]]:
    async def run() -> bytes:
        dialect = MessagesDialect("model")
        data = dialect.begin(answer)
        async for events in answer:
            data += dialect.take(answer, events)
        return data + dialect.end(answer)

    events = []
    for block in asyncio.run(run()).decode().strip().split("\n\n"):
        kind, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {events[-1]['type']}"
    return events


def whole(answer: Answer) -> dict[str, Any]:
    async def run() -> bytes:
        async for _ in answer:
            pass
        return MessagesDialect("model").whole(answer)

    return dict(json.loads(asyncio.run(run())))


def joined(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Type and text of each block; blocks that do not come one after another fail here."""
    blocks: list[tuple[str, str]] = []
    is_open = False
    for event in events:
        if event["type"] == "content_block_start":
            assert not is_open and event["index"] == len(blocks)
            blocks.append((event["content_block"]["type"], ""))
            is_open = True
        elif event["type"] == "content_block_delta":
            assert is_open and event["index"] == len(blocks) - 1
            delta = event["delta"]
            text = delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + text)
        elif event["type"] == "content_block_stop":
            assert is_open and event["index"] == len(blocks) - 1
            is_open = False
    assert not is_open
    return blocks


def test_a_stream_is_thought_text_and_calls_in_blocks_one_after_another() -> None:
    events = streamed(answer_of(f"<think>\nHm.\n</think>\n\nLet me look.\n{CALL}\n{CALL}", thinks=True))
    arguments = '{"city": "Paris"}'
    assert joined(events) == [
        ("thinking", "Hm."), ("text", "Let me look.\n"), ("tool_use", arguments), ("tool_use", arguments),
    ]  # fmt: skip
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "ping"] and kinds.count("ping") == 1
    assert kinds[-2:] == ["message_delta", "message_stop"]
    deltas = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert deltas.count("signature_delta") == 1
    assert deltas.index("signature_delta") == deltas.index("text_delta") - 1
    calls = [event["content_block"] for event in events if event.get("content_block", {}).get("type") == "tool_use"]
    assert calls[0]["id"].startswith("toolu_") and calls[0]["id"] != calls[1]["id"]
    assert (calls[0]["name"], calls[0]["input"]) == ("get_weather", {})


def test_the_end_of_a_stream_tells_which_tokens_were_cached() -> None:
    events = streamed(answer_of("Hello!"))
    start, last = events[0]["message"]["usage"], events[-2]["usage"]
    assert (start["input_tokens"], start["cache_read_input_tokens"], start["output_tokens"]) == (10, 0, 0)
    assert (last["input_tokens"], last["cache_read_input_tokens"], last["output_tokens"]) == (6, 4, 2)


def test_a_whole_message_holds_the_same_blocks_as_the_stream() -> None:
    message = whole(answer_of(f"<think>\nHm.\n</think>\n\nLet me look.\n{CALL}", thinks=True))
    *first, call = message["content"]
    assert first == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Let me look.\n"},
    ]
    assert call.pop("id").startswith("toolu_")
    assert call == {"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}}
    assert message["id"].startswith("msg_")
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "model")
    assert message["usage"]["input_tokens"] == 6


@pytest.mark.parametrize(
    ("text", "finish_reason", "stop_reason", "expected"),
    [
        ("Hello", "stop", None, ("end_turn", None)),
        ("Hello", "length", None, ("max_tokens", None)),
        ("Hello", "stop", "END", ("stop_sequence", "END")),
        (CALL, "stop", None, ("tool_use", None)),
        (CALL, "length", None, ("max_tokens", None)),
    ],
)
def test_why_an_answer_ended(
    text: str, finish_reason: str, stop_reason: str | None, expected: tuple[str, str | None]
) -> None:
    message = whole(answer_of(text, finish_reason=finish_reason, stop_reason=stop_reason))
    assert (message["stop_reason"], message["stop_sequence"]) == expected
    last = streamed(answer_of(text, finish_reason=finish_reason, stop_reason=stop_reason))[-2]
    assert (last["delta"]["stop_reason"], last["delta"]["stop_sequence"]) == expected


def test_a_call_that_was_cut_loses_nothing() -> None:
    cut = CALL[: CALL.index("Paris") + 3]
    (text,) = whole(answer_of(cut, finish_reason="length"))["content"]
    assert text == {"type": "text", "text": '{"city": "Par'}
    assert joined(streamed(answer_of(cut, finish_reason="length"))) == [("tool_use", '{"city": "Par')]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n", [("text", "\n\n")]),
        ("\n\nHello", [("text", "\n\nHello")]),
        (f"\n{CALL}\n", [("tool_use", "")]),
    ],
)
def test_white_space_makes_a_block_only_where_nothing_else_does(text: str, expected: list[tuple[str, str]]) -> None:
    kinds = [kind for kind, _ in expected]
    assert [block["type"] for block in whole(answer_of(text))["content"]] == kinds
    blocks = joined(streamed(answer_of(text)))
    assert [kind for kind, _ in blocks] == kinds
    assert [text for kind, text in blocks if kind == "text"] == [text for kind, text in expected if kind == "text"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error"),
        (404, "not_found_error"), (408, "invalid_request_error"), (413, "request_too_large"),
        (429, "rate_limit_error"), (500, "api_error"), (503, "overloaded_error"), (504, "timeout_error"),
    ],
)  # fmt: skip
def test_errors_have_the_types_of_anthropic(status: int, kind: str) -> None:
    body = json.loads(anthropic_error_body(ApiError(status, "it failed")))
    assert body == {"type": "error", "error": {"type": kind, "message": "it failed"}, "request_id": None}


def test_a_stream_that_fails_ends_with_an_error_event() -> None:
    kind, data = MessagesDialect("model").error(ApiError(500, "it failed")).decode().strip().split("\n")
    assert kind == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"] == {"type": "api_error", "message": "it failed"}
