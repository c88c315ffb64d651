"""`POST /v1/responses`: items translated, answers as the official client reads them, streams whole and in order."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI, BadRequestError, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel
from server_process import ServerProcess

from farthing.engine.process.stream import Stream
from farthing.engine.request import Delta, Request
from farthing.engine.tool_calls.answer_parser import (
    AnswerParser,
    CallArguments,
    CallEnd,
    CallStart,
    Content,
    Piece,
    Reasoning,
)
from farthing.errors import RequestError
from farthing.sampling_params import SamplingParams, TokenLogprobs
from farthing.server.answer import Answer, Call, Choice, Event, ToolCall
from farthing.server.errors import ApiError
from farthing.server.responses.dialect import ResponsesDialect
from farthing.server.responses.schema import ResponsesRequest
from farthing.server.responses.translate import FunctionNames, conversation_of, echo, grammar_of, num_logprobs

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Tells the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
FIND = {"type": "function", "name": "find", "parameters": {"type": "object", "properties": {}}}
NOTES = {"type": "namespace", "name": "mcp__notes", "description": "Notes", "tools": [FIND]}


def translated(**body: Any) -> Any:
    return conversation_of(ResponsesRequest.model_validate({"input": "Hello", **body}))


def messages_of(*items: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    return list(translated(input=list(items), **body)[0].messages)


def call(name: str, call_id: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "name": name, "call_id": call_id, "arguments": "{}", **more}


def test_instructions_stand_before_the_items() -> None:
    assert messages_of({"role": "user", "content": "Hi"}, instructions="Be kind.") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]


def test_the_items_of_one_turn_become_one_message() -> None:
    made = messages_of(
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Look it up."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
        call("a", "call_1"),
        {"type": "ghost_snapshot", "ghost_commit": {"id": "abc"}},
        call("b", "call_2"),
        {"type": "function_call_output", "call_id": "call_1", "output": "one"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "two"}]},
    )
    assert [message["role"] for message in made] == ["user", "assistant", "tool", "tool"]
    assert made[1]["content"] == "Wait."
    assert made[1]["reasoning_content"] == "Look it up."
    assert [(one["id"], one["function"]["name"]) for one in made[1]["tool_calls"]] == [("call_1", "a"), ("call_2", "b")]
    assert [(one["tool_call_id"], one["content"]) for one in made[2:]] == [("call_1", "one"), ("call_2", "two")]


def test_a_thought_whose_text_is_not_given_leaves_no_trace() -> None:
    hidden = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "So"}], "encrypted_content": "gAAA"}
    assert messages_of({"role": "user", "content": "Hi"}, hidden, {"role": "assistant", "content": "Hello"}) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]


def test_items_and_tools_of_other_types_are_left_out_and_named() -> None:
    conversation, _, unknown = translated(
        input=[{"type": "web_search_call", "content": 3, "name": {}}, {"role": "user", "content": "Hi"}],
        tools=[{"type": "web_search", "parameters": 1}, WEATHER],
        tool_choice={"type": "web_search"},
    )
    assert len(conversation.messages) == len(conversation.tools) == 1
    assert conversation.choice.mode == "auto"
    assert unknown == ["tools[type=web_search]", "input[type=web_search_call]", "tool_choice[type=web_search]"]


def test_tools_that_stand_in_the_input_are_offered() -> None:
    item = {"type": "additional_tools", "role": "developer", "tools": [WEATHER, {"type": "custom", "name": "exec"}]}
    conversation, _, unknown = translated(input=[item, {"role": "user", "content": "Hi"}])
    assert [tool.name for tool in conversation.tools] == ["get_weather"]
    assert unknown == ["tools[type=custom]"]


def test_a_function_of_a_namespace_is_shown_under_both_names_and_told_apart_again() -> None:
    history = [call("find", "call_1", namespace="mcp__notes"), call("find", "call_2")]
    conversation, names, _ = translated(
        input=[*history, {"role": "user", "content": "Hi"}],
        tools=[WEATHER, NOTES],
        tool_choice={"type": "function", "name": "find"},
    )
    shown = "mcp__notes__find"
    assert [tool.name for tool in conversation.tools] == ["get_weather", shown]
    assert conversation.choice.name == shown
    assert [one["function"]["name"] for one in conversation.messages[0]["tool_calls"]] == [shown, shown]
    assert names.apart(shown) == ("mcp__notes", "find")
    assert names.apart("get_weather") == (None, "get_weather")


def test_a_picture_of_a_person_is_refused_and_one_of_a_tool_is_replaced_by_words() -> None:
    picture = [{"type": "input_image", "image_url": "data:,"}]
    with pytest.raises(RequestError, match="reads text alone"):
        translated(input=[{"role": "user", "content": picture}])
    conversation, _, unknown = translated(input=[{"type": "function_call_output", "call_id": "c", "output": picture}])
    assert "left out" in conversation.messages[0]["content"]
    assert unknown == ["input[type=function_call_output].content[type=input_image]"]


def test_an_effort_of_reasoning_reaches_the_template() -> None:
    assert translated(reasoning={"effort": "none"})[0].options == {"reasoning_effort": "none", "enable_thinking": False}
    assert translated(reasoning=None)[0].options == {}


def test_the_form_of_the_text_becomes_a_grammar() -> None:
    def grammar(**body: Any) -> Any:
        return grammar_of(ResponsesRequest.model_validate({"input": "Hello", **body}))

    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert grammar(text={"format": schema}).source == '{"type":"object"}'
    assert grammar(text={"format": {"type": "json_object"}}).kind == "json_object"
    assert grammar(text={"format": {"type": "text"}, "verbosity": "low"}) is None
    with pytest.raises(RequestError, match="no schema"):
        grammar(text={"format": {"type": "json_schema", "name": "n"}})
    with pytest.raises(RequestError, match="more than once"):
        grammar(text={"format": schema}, guided_regex="a+")


PARAMS = SamplingParams()
TEXTS = st.text(max_size=4)
TURNS = st.tuples(
    st.one_of(st.just(()), st.lists(st.builds(Reasoning, TEXTS), max_size=3)),
    st.lists(st.builds(Content, st.sampled_from([" ", "\n", "Hello", " you"])), max_size=4),
    st.lists(st.lists(st.sampled_from(['{"a": ', "1", "}"]), min_size=1, max_size=3), max_size=3),
    st.booleans(),
)


def choice_of(pieces: list[Piece], finish_reason: str) -> Choice:
    choice = Choice(finish_reason=finish_reason)
    for piece in pieces:
        match piece:
            case Content(text):
                choice.content += text
            case Reasoning(text):
                choice.reasoning += text
            case CallStart(_, name):
                choice.tool_calls.append(ToolCall(name))
            case CallArguments(index, text):
                choice.tool_calls[index].arguments += text
            case CallEnd(index):
                choice.tool_calls[index].complete = True
    return choice


def answer_of(choice: Choice) -> Answer:
    request = Request("1", (1, 2, 3), PARAMS, 0)
    answer = Answer(Call([request], lambda: AnswerParser(None)), Stream([request], lambda request_id: None))
    answer.choices = [choice]
    return answer


def dialect_of(**body: Any) -> ResponsesDialect:
    fields = ResponsesRequest.model_validate({"input": "Hello", **body})
    conversation, names, _ = conversation_of(fields)
    said = echo(fields, PARAMS, conversation.choice, names)
    return ResponsesDialect("small", said, names=names, bytes_of=lambda token_id: b"%c" % token_id)


def events_of(data: bytes) -> list[dict[str, Any]]:
    events = []
    for block in data.decode().removesuffix("\n\n").split("\n\n"):
        kind, _, value = block.partition("\n")
        events.append(json.loads(value.removeprefix("data: ")))
        assert kind == f"event: {events[-1]['type']}"
    return events


def streamed(pieces: list[Piece], finish_reason: str = "stop", **body: Any) -> list[dict[str, Any]]:
    dialect, answer = dialect_of(**body), answer_of(choice_of(pieces, finish_reason))
    data = dialect.begin(answer)
    for piece in pieces:
        data += dialect.take(answer, [Event(0, [piece], Delta("1", 0, "", ()), None)])
    return events_of(data + dialect.end(answer))


@given(TURNS)
def test_the_events_of_any_answer_add_up_to_its_items(turn: tuple[Any, Any, Any, bool]) -> None:
    thoughts, texts, calls, is_cut = turn
    pieces: list[Piece] = [*thoughts, *texts]
    for index, arguments in enumerate(calls):
        pieces += [CallStart(index, "find"), *(CallArguments(index, text) for text in arguments), CallEnd(index)]
    if is_cut and calls:
        pieces.pop()
    finish_reason = "length" if is_cut else "stop"
    events = streamed(pieces, finish_reason, tools=[NOTES])
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == ("response.incomplete" if is_cut else "response.completed")
    final = events[-1]["response"]
    Response.model_validate(final, strict=True)
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == final["output"]
    for index, item in enumerate(final["output"]):
        own = [event for event in events if event.get("output_index") == index]
        assert own[0]["type"] == "response.output_item.added"
        assert own[0]["item"]["id"] == item["id"]
        said = "".join(event["delta"] for event in own if event["type"].endswith(".delta"))
        assert said == (item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])

    whole = json.loads(dialect_of(tools=[NOTES]).whole(answer_of(choice_of(pieces, finish_reason))))
    Response.model_validate(whole, strict=True)
    assert [without_ids(item) for item in whole["output"]] == [without_ids(item) for item in final["output"]]


def without_ids(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in ("id", "call_id")}


def test_an_answer_that_fails_on_its_way_ends_with_its_error() -> None:
    dialect, answer = dialect_of(), answer_of(Choice())
    data = dialect.begin(answer)
    data += dialect.take(answer, [Event(0, [Content("Half")], Delta("1", 0, "Half", ()), None)])
    *_, last = events_of(data + dialect.error(ApiError(500, "the engine ended")))
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "the engine ended"}
    assert last["response"]["output"][0]["status"] == "incomplete"
    Response.model_validate(last["response"], strict=True)


def test_log_probabilities_are_those_of_the_text_alone() -> None:
    thought, text = "Hm", "Hi"
    dialect = dialect_of()
    choice = Choice(reasoning=thought, content=text, finish_reason="stop")
    choice.logprobs = [TokenLogprobs(ord(letter), -1.0, 1, ()) for letter in f"<{thought}>{text}"]
    whole = json.loads(dialect.whole(answer_of(choice)))
    assert [entry["token"] for entry in whole["output"][1]["content"][0]["logprobs"]] == ["H", "i"]

    data = b""
    for piece in (Reasoning(thought), Content(text)):
        tokens = tuple(TokenLogprobs(ord(letter), -1.0, 1, ()) for letter in piece.text)
        data += dialect.take(answer_of(choice), [Event(0, [piece], Delta("1", 0, "", (), logprobs=tokens), None)])
    (delta,) = [event for event in events_of(data) if event["type"] == "response.output_text.delta"]
    assert [entry["token"] for entry in delta["logprobs"]] == ["H", "i"]


def test_log_probabilities_are_asked_for_by_number_or_by_include() -> None:
    def asked(**body: Any) -> int | None:
        return num_logprobs(ResponsesRequest.model_validate({"input": "Hello", **body}))

    assert asked(top_logprobs=2) == 2
    assert asked(include=["message.output_text.logprobs"]) == 0
    assert asked(include=["reasoning.encrypted_content"]) is None


def test_a_name_without_a_namespace_is_its_own() -> None:
    assert FunctionNames({}).shown("find") == "find"
    assert FunctionNames({}).shown("_find", "notes") == "notes_find"


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)


@pytest.fixture(scope="module")
def scripted(scripted_server: ServerProcess) -> OpenAI:
    return OpenAI(base_url=f"{scripted_server.url}/v1", api_key="x", max_retries=0)


def test_the_client_reads_an_answer(client: OpenAI) -> None:
    response = client.responses.create(
        model="bundled", input="Once upon a time", max_output_tokens=8, temperature=0, metadata={"job": "7"}
    )
    Response.model_validate(response.model_dump())
    assert response.output_text
    assert response.status == "incomplete"
    assert response.incomplete_details is not None and response.incomplete_details.reason == "max_output_tokens"
    assert response.metadata == {"job": "7"}
    assert response.usage is not None
    assert response.usage.output_tokens == 8
    assert response.usage.total_tokens == response.usage.input_tokens + 8


def test_a_stream_says_what_a_whole_answer_says(client: OpenAI) -> None:
    def said() -> str:
        return "".join(
            event.delta
            for event in client.responses.create(
                model="bundled", input="Once upon a time", max_output_tokens=8, temperature=0, stream=True
            )
            if event.type == "response.output_text.delta"
        )

    whole = client.responses.create(model="bundled", input="Once upon a time", max_output_tokens=8, temperature=0)
    assert said() == whole.output_text


def test_log_probabilities_reach_the_client(client: OpenAI) -> None:
    response = client.responses.create(
        model="bundled", input="Once upon a time", max_output_tokens=3, temperature=0, top_logprobs=2
    )
    (entries,) = [part.logprobs for part in response.output[0].content]  # type: ignore[union-attr]
    assert [len(entry.top_logprobs) for entry in entries] == [2, 2, 2]
    assert "".join(entry.token for entry in entries) == response.output_text


class Verdict(BaseModel):
    done: bool


def test_an_answer_is_parsed_into_the_form_that_was_asked_for(client: OpenAI) -> None:
    response = client.responses.parse(model="bundled", input="Is it done?", text_format=Verdict, max_output_tokens=64)
    assert isinstance(response.output_parsed, Verdict)


def test_a_call_that_is_streamed_comes_whole(scripted: OpenAI) -> None:
    with scripted.responses.stream(
        model="bundled-long",
        input="SCRIPT:talk_and_call",
        tools=[WEATHER],  # type: ignore[list-item]
    ) as stream:
        response = stream.get_final_response()
    text, made = response.output
    assert text.type == "message"
    assert response.output_text.strip() == "Let me look."
    assert made.type == "function_call" and made.name == "get_weather"
    assert json.loads(made.arguments) == {"city": "Paris"}
    assert response.status == "completed"


def test_the_next_turn_begins_as_this_one_ended(scripted: OpenAI) -> None:
    items: list[Any] = [{"role": "user", "content": "What is the weather? " * 40 + "SCRIPT:two_calls"}]
    first = scripted.responses.create(model="bundled-long", input=items, tools=[WEATHER])  # type: ignore[list-item]
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(made.arguments)["city"] for made in calls] == ["Paris", "Rome"]
    items += [item.model_dump() for item in first.output]
    items += [{"type": "function_call_output", "call_id": made.call_id, "output": "Sunny"} for made in calls]
    second = scripted.responses.create(model="bundled-long", input=items, tools=[WEATHER])  # type: ignore[list-item]
    assert first.usage is not None and second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens >= 0.95 * first.usage.input_tokens


def test_the_asynchronous_client_is_served(server: ServerProcess) -> None:
    async def said() -> str:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x") as client:
            events = await client.responses.create(model="bundled", input="Hello", max_output_tokens=4, stream=True)
            return "".join([event.delta async for event in events if event.type == "response.output_text.delta"])

    assert asyncio.run(said())


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"previous_response_id": "resp_1"}, "send the whole conversation as input"),
        ({"conversation": "conv_1"}, "send the whole conversation as input"),
        ({"background": True}, "not made in the background"),
        ({"n": 2}, "one answer to each request"),
        ({"input": [{"type": "message", "content": "Hi"}]}, "role"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "one of the tools"),
    ],
)
def test_what_is_refused_says_what_to_do(client: OpenAI, body: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequestError, match=named):
        client.responses.create(model="bundled", input="Hello", extra_body=body)


def test_nulls_are_absent_and_unknown_fields_are_named(server: ServerProcess) -> None:
    absent = dict.fromkeys(("tools", "tool_choice", "text", "reasoning", "include", "conversation", "instructions"))
    body = {"model": "bundled", "input": "Hello", "max_output_tokens": 1, "client_metadata": {"a": "b"}, **absent}
    response = httpx.post(f"{server.url}/v1/responses", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["x-farthing-ignored"] == "client_metadata"
