"""`/v1/messages`: translated both ways, and used by Anthropic's own client against real servers."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from server_process import ServerProcess

from farthing.engine.answer_parser import AnswerParser
from farthing.engine.engine_client import Stream
from farthing.engine.request import Delta, Request
from farthing.engine.tool_formats.hermes import HermesFormat
from farthing.engine.tools import Tool
from farthing.errors import RequestError
from farthing.sampling_params import SamplingParams
from farthing.server.answer import Answer, Call
from farthing.server.errors import ApiError
from farthing.server.fields import ignored
from farthing.server.messages.dialect import MessagesDialect, anthropic_error_body
from farthing.server.messages.schema import MessagesRequest
from farthing.server.messages.translate import conversation_of, requested_grammar, sampling_fields

HELLO = [{"role": "user", "content": "Hello!"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def request(messages: Any = HELLO, **fields: Any) -> MessagesRequest:
    return MessagesRequest.model_validate({"messages": messages, **fields})


def messages_of(messages: Any = HELLO, **fields: Any) -> list[Any]:
    return list(conversation_of(request(messages, **fields))[0].messages)


def left_out(messages: Any = HELLO, **fields: Any) -> list[str]:
    return conversation_of(request(messages, **fields))[1]


# --- requests


def test_a_system_prompt_of_blocks_keeps_the_changing_header_on_a_line_of_its_own() -> None:
    header = "x-anthropic-billing-header: cc_version=2; cch=12345;"
    system = [{"type": "text", "text": header}, {"type": "text", "text": "Be short."}]
    assert messages_of(system=system)[0] == {"role": "system", "content": f"{header}\nBe short."}


def test_a_system_prompt_may_be_a_string_or_nothing() -> None:
    assert messages_of(system="Be short.")[0] == {"role": "system", "content": "Be short."}
    assert messages_of(system=None) == messages_of(system=[]) == HELLO


def test_system_messages_stay_where_they_stand() -> None:
    said = [*HELLO, {"role": "system", "content": "A reminder."}, {"role": "assistant", "content": "Hi."}]
    assert messages_of(said) == said


def test_results_of_tools_come_before_the_text_of_their_message() -> None:
    content = [
        {"type": "text", "text": "Go on."},
        {"type": "tool_result", "tool_use_id": "a", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]},
        {"type": "tool_result", "tool_use_id": "c"},
        {"type": "tool_result", "tool_use_id": "d", "content": "no such file", "is_error": True},
    ]  # fmt: skip
    assert messages_of([{"role": "user", "content": content}]) == [
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": "1\n2"},
        {"role": "tool", "tool_call_id": "c", "content": ""},
        {"role": "tool", "tool_call_id": "d", "content": "Error: no such file"},
        {"role": "user", "content": "Go on."},
    ]


def test_a_system_message_between_a_call_and_its_results_goes_behind_them() -> None:
    use = {"type": "tool_use", "id": "a", "name": "get_weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "sunny"}
    said = [
        *HELLO,
        {"role": "assistant", "content": [use]},
        {"role": "system", "content": "A reminder."},
        {"role": "user", "content": [result, {"type": "text", "text": "Well?"}]},
    ]
    assert [message["role"] for message in messages_of(said)] == ["user", "assistant", "tool", "system", "user"]


def test_what_the_assistant_said_thought_and_called_is_one_message() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "RXJ3"},
        {"type": "redacted_thinking", "data": "RXJ3"},
        {"type": "text", "text": "Let me "},
        {"type": "text", "text": "look."},
        {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Zürich"}},
        {"type": "tool_use", "id": "b", "name": "get_time", "input": {}},
    ]
    (message,) = messages_of([{"role": "assistant", "content": content}])
    assert (message["content"], message["reasoning_content"]) == ("Let me look.", "Hm.")
    assert [call["id"] for call in message["tool_calls"]] == ["a", "b"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"city": "Zürich"}
    assert message["tool_calls"][1]["function"] == {"name": "get_time", "arguments": "{}"}


@pytest.mark.parametrize("content", [None, [], "", [{"type": "text", "text": ""}], [{"type": "text", "text": None}]])
def test_a_message_may_be_empty(content: object) -> None:
    assert messages_of([{"role": "user", "content": content}]) == [{"role": "user", "content": ""}]


@pytest.mark.parametrize("kind", ["image", "document"])
def test_media_are_refused_with_advice(kind: str) -> None:
    with pytest.raises(RequestError, match="send text"):
        messages_of([{"role": "user", "content": [{"type": kind, "source": {"type": "url", "url": "x"}}]}])


def test_media_in_a_result_do_not_end_the_session() -> None:
    parts = [{"type": "image", "source": {}}, {"type": "text", "text": "a picture"}, {"type": "tool_reference"}]
    said = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": parts}]}]
    (result,) = messages_of(said)
    assert result["content"] == "[image left out: the model reads text alone]\na picture"
    assert left_out(said) == [
        "messages[].content[].content[type=image]",
        "messages[].content[].content[type=tool_reference]",
    ]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "a", "input": {}},
        {"type": "tool_use", "name": "get_weather", "input": {}},
        {"type": "tool_result", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "a", "content": {"city": "Paris"}},
    ],
)
def test_a_known_block_that_lacks_its_parts_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        messages_of([{"role": "assistant" if block["type"] == "tool_use" else "user", "content": [block]}])


def test_unknown_blocks_are_left_out_and_named_once() -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "error", "error_code": "x"}}
    said = [{"role": "assistant", "content": [search, found, found, {"type": "text", "text": "Done."}]}]
    assert messages_of(said) == [{"role": "assistant", "content": "Done."}]
    assert left_out(said) == [
        "messages[].content[type=server_tool_use]",
        "messages[].content[type=web_search_tool_result]",
    ]


def test_tools_of_anthropic_s_servers_are_left_out_and_named_and_a_choice_of_them_with_them() -> None:
    fields = {"tools": [SEARCH, {**WEATHER, "type": "custom"}], "tool_choice": {"type": "tool", "name": "web_search"}}
    conversation, unknown = conversation_of(request(**fields))
    assert [tool.name for tool in conversation.tools] == ["get_weather"]
    assert conversation.choice.mode == "auto"
    assert unknown == ["tool_choice", "tools[type=web_search_20250305]"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", None, True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ("auto", None, False)),
        ({"type": "any"}, ("required", None, True)),
        ({"type": "tool", "name": "get_weather"}, ("named", "get_weather", True)),
        ({"type": "none"}, ("none", None, True)),
    ],
)
def test_every_choice_of_tools_has_its_meaning(choice: Any, expected: tuple[str, str | None, bool]) -> None:
    made = conversation_of(request(tools=[WEATHER], tool_choice=choice))[0].choice
    assert (made.mode, made.name, made.parallel) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [WEATHER], "tool_choice": {"type": "tool"}},
        {"tools": [{"description": "nameless"}]},
    ],
)
def test_tools_without_names_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="no name"):
        conversation_of(request(**fields))


@pytest.mark.parametrize(("kind", "thinks"), [("enabled", True), ("adaptive", True), ("disabled", False)])
def test_thinking_reaches_the_template(kind: str, thinks: bool) -> None:
    fields = {"thinking": {"type": kind, "budget_tokens": 1024}, "output_config": {"effort": "low"}}
    assert conversation_of(request(**fields))[0].options == {"enable_thinking": thinks, "reasoning_effort": "low"}
    assert conversation_of(request())[0].options == {}


def test_the_form_of_the_answer_may_stand_in_two_places_but_not_in_both() -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    for fields in ({"output_config": {"format": form}}, {"output_format": form}):
        grammar = requested_grammar(request(**fields))
        assert grammar is not None and json.loads(grammar.source) == SCHEMA
    assert requested_grammar(request(output_config={"effort": "low", "format": None})) is None
    with pytest.raises(RequestError, match="more than once"):
        requested_grammar(request(output_config={"format": form}, output_format=form))
    with pytest.raises(RequestError, match="no schema"):
        requested_grammar(request(output_format={"type": "json_schema"}))


def test_sampling_is_spelled_anthropic_s_way() -> None:
    fields = sampling_fields(request(temperature=0.5, top_p=0.9, top_k=5, stop_sequences=["END"]))
    assert (fields.temperature, fields.top_p, fields.top_k, fields.stop) == (0.5, 0.9, 5, ["END"])


def test_null_is_absent() -> None:
    names = [name for name in MessagesRequest.model_fields if name != "messages"]
    assert messages_of(**dict.fromkeys(names)) == HELLO


def test_what_is_not_obeyed_is_named() -> None:
    block = {"type": "text", "text": "Hello!", "cache_control": {"type": "ephemeral"}}
    fields = request(
        [{"role": "user", "content": [block]}],
        system=[block],
        tools=[{**WEATHER, "eager_input_streaming": True}],
        thinking={"type": "enabled", "budget_tokens": 1024},
        context_management={"edits": []},
        metadata={"user_id": "{}"},
    )
    assert set(ignored(fields)) == {
        "messages[].content[].cache_control",
        "system[].cache_control",
        "tools[].eager_input_streaming",
        "thinking.budget_tokens",
        "context_management",
    }


# --- answers


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
    text, call = whole(answer_of(cut, finish_reason="length"))["content"]
    assert (text["text"], call["input"]) == ('{"city": "Par', {})
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


# --- Anthropic's client


@pytest.fixture
def client(server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0) as made:
        yield made


@pytest.fixture
def scripted(scripted_server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=scripted_server.url, api_key="x", max_retries=0) as made:
        yield made


def test_the_client_gets_a_message(client: anthropic.Anthropic, server: ServerProcess) -> None:
    message = client.messages.create(model=server.model, max_tokens=4, messages=HELLO)
    assert (message.role, message.model, message.stop_reason) == ("assistant", server.model, "max_tokens")
    assert message.content[0].type == "text" and message.content[0].text
    assert message.usage.output_tokens == 4


def test_the_client_s_stream_says_what_its_message_says(client: anthropic.Anthropic, server: ServerProcess) -> None:
    asked: dict[str, Any] = {"model": server.model, "max_tokens": 12, "messages": HELLO, "temperature": 0}
    with client.messages.stream(**asked) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    message = client.messages.create(**asked)
    assert final.content[0].text == said == message.content[0].text
    assert final.stop_reason == message.stop_reason == "max_tokens"
    assert final.usage.output_tokens == 12


def test_the_asynchronous_client_streams(server: ServerProcess) -> None:
    async def run() -> tuple[list[str], str | None]:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="x", max_retries=0) as asynchronous:
            events = await asynchronous.messages.create(
                model=server.model, max_tokens=4, messages=HELLO, stream=True, extra_query={"beta": "true"}
            )
            kinds = [event.type async for event in events]
            message = await asynchronous.messages.create(model=server.model, max_tokens=4, messages=HELLO)
            return kinds, message.stop_reason

    kinds, stop_reason = asyncio.run(run())
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert stop_reason == "max_tokens"


def test_a_stop_sequence_ends_the_answer_and_is_told(
    scripted: anthropic.Anthropic, scripted_server: ServerProcess
) -> None:
    message = scripted.messages.create(
        model=scripted_server.model,
        max_tokens=64000,  # more than the context: clamped
        messages=[{"role": "user", "content": "SCRIPT:story"}],
        stop_sequences=["fox", "never"],
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "fox")
    assert message.content[0].text == "Once upon a time there was a "


def test_calls_stream_and_their_results_go_back(scripted: anthropic.Anthropic, scripted_server: ServerProcess) -> None:
    asked: dict[str, Any] = {"model": scripted_server.model, "max_tokens": 500, "tools": [WEATHER]}
    said: list[Any] = [{"role": "user", "content": "SCRIPT:talk_and_call"}]
    with scripted.messages.stream(**asked, messages=said) as stream:
        first = stream.get_final_message()
    text, call = first.content
    assert (text.type, text.text.strip(), call.type, call.name) == ("text", "Let me look.", "tool_use", "get_weather")
    assert (call.input, first.stop_reason) == ({"city": "Paris"}, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    said += [{"role": "assistant", "content": first.content}]
    said += [{"role": "user", "content": [result, {"type": "text", "text": "SCRIPT:default"}]}]
    second = scripted.messages.create(**asked, messages=said)
    assert second.content[0].text == "Hello there."
    assert second.stop_reason == "end_turn"
    assert second.usage.cache_read_input_tokens > 0
    total = second.usage.input_tokens + second.usage.cache_read_input_tokens
    assert (
        total
        == scripted.messages.count_tokens(model=scripted_server.model, messages=said, tools=[WEATHER]).input_tokens
    )


def test_several_calls_are_several_blocks(scripted: anthropic.Anthropic, scripted_server: ServerProcess) -> None:
    message = scripted.messages.create(
        model=scripted_server.model,
        max_tokens=500,
        messages=[{"role": "user", "content": "SCRIPT:two_calls"}],
        tools=[WEATHER],
    )
    assert [block.type for block in message.content] == ["tool_use", "tool_use"]
    assert [block.input["city"] for block in message.content] == ["Paris", "Rome"]


def test_a_tool_that_is_demanded_is_called(client: anthropic.Anthropic, server: ServerProcess) -> None:
    grade = {"type": "object", "properties": {"grade": {"enum": ["right", "wrong"]}}, "required": ["grade"]}
    message = client.messages.create(
        model=server.model,
        max_tokens=120,
        messages=HELLO,
        tools=[{"name": "grade", "input_schema": {**grade, "additionalProperties": False}}],
        tool_choice={"type": "tool", "name": "grade", "disable_parallel_tool_use": True},
    )
    assert message.stop_reason == "tool_use"
    assert message.content[-1].type == "tool_use" and message.content[-1].input["grade"] in ("right", "wrong")


def test_an_answer_has_the_form_that_was_asked_for(client: anthropic.Anthropic, server: ServerProcess) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}  # fmt: skip
    message = client.messages.create(
        model=server.model,
        max_tokens=40,
        messages=HELLO,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert isinstance(json.loads(message.content[0].text)["ok"], bool)


def test_what_is_ignored_is_named_in_a_header(server: ServerProcess) -> None:
    body = {"max_tokens": 1, "messages": HELLO, "tools": [SEARCH], "context_management": {}}
    for path in ("/v1/messages?beta=true", "/v1/messages/count_tokens?beta=true"):
        named = httpx.post(server.url + path, json=body, timeout=60).headers["x-farthing-ignored"]
        assert "context_management" in named and "tools[type=web_search_20250305]" in named


def test_too_long_a_prompt_is_refused_in_the_words_that_agents_know(
    client: anthropic.Anthropic, server: ServerProcess
) -> None:
    long = [{"role": "user", "content": "a fox and a dog " * 4000}]
    for stream in (False, True):
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(model=server.model, max_tokens=1, messages=long, stream=stream)
        error = caught.value.body["error"]
        assert error["type"] == "invalid_request_error"
        num_tokens, context = (
            int(part.split()[0]) for part in error["message"].removeprefix("prompt is too long: ").split(" > ")
        )
        assert num_tokens > context


def test_a_model_that_is_not_served_is_not_found(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="claude-haiku-4-5", max_tokens=1, messages=HELLO)
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="claude-haiku-4-5", messages=HELLO)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": HELLO, "max_tokens": -1},
        {"messages": HELLO, "temperature": "hot"},
        {"messages": HELLO, "thinking": {"type": "sometimes"}},
        {"messages": HELLO, "tool_choice": {"type": "any"}},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
    ],
)
def test_impossible_values_are_refused_in_anthropic_s_shape(server: ServerProcess, fields: dict[str, Any]) -> None:
    response = httpx.post(f"{server.url}/v1/messages", json={"max_tokens": 1, **fields}, timeout=60)
    assert response.status_code == 400
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == "invalid_request_error"
