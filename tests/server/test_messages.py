"""`/v1/messages` and `count_tokens`, used by Anthropic's own client against real servers."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from server_process import ServerProcess

GREEDY = {"temperature": 0}  # not among the client's own words in every version
HELLO = [{"role": "user", "content": "Hello!"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}


@pytest.fixture
def client(server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0) as made:
        yield made


@pytest.fixture
def scripted(scripted_server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=scripted_server.url, api_key="x", max_retries=0) as made:
        yield made


def test_the_client_gets_a_message(client: anthropic.Anthropic, server: ServerProcess) -> None:
    message = client.messages.create(model=server.model, max_tokens=4, messages=HELLO, extra_body=GREEDY)
    assert (message.role, message.model) == ("assistant", server.model)
    assert message.content[0].type == "text" and message.content[0].text
    assert 0 < message.usage.output_tokens <= 4


def test_the_client_s_stream_says_what_its_message_says(client: anthropic.Anthropic, server: ServerProcess) -> None:
    asked: dict[str, Any] = {
        "model": server.model,
        "max_tokens": 12,
        "messages": HELLO,
        "extra_body": GREEDY,
    }
    with client.messages.stream(**asked) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    message = client.messages.create(**asked)
    assert final.content[0].text == said == message.content[0].text
    assert final.stop_reason == message.stop_reason
    assert final.usage.output_tokens == message.usage.output_tokens > 0


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
    assert stop_reason in ("end_turn", "max_tokens")


def test_a_stop_sequence_ends_the_answer_and_is_told(
    scripted: anthropic.Anthropic, scripted_server: ServerProcess
) -> None:
    message = scripted.messages.create(
        model=scripted_server.model,
        max_tokens=16000,  # more than the context: clamped
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
        extra_body=GREEDY,
        messages=HELLO,
        tools=[{"name": "grade", "input_schema": {**grade, "additionalProperties": False}}],
        tool_choice={"type": "tool", "name": "grade", "disable_parallel_tool_use": True},
    )
    assert message.stop_reason == "tool_use"
    assert message.content[-1].type == "tool_use" and message.content[-1].input["grade"] in ("right", "wrong")


def test_an_answer_has_the_form_that_was_asked_for(client: anthropic.Anthropic, server: ServerProcess) -> None:
    flag = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    message = client.messages.create(
        model=server.model,
        max_tokens=40,
        extra_body=GREEDY,
        messages=HELLO,
        output_config={"format": {"type": "json_schema", "schema": {**flag, "additionalProperties": False}}},
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
