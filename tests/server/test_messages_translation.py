"""Requests of `/v1/messages` made into conversations: what goes where, what is left out, what is refused."""

import json
from typing import Any

import pytest

from farthing.errors import RequestError
from farthing.server.fields import ignored
from farthing.server.messages.schema import MessagesRequest
from farthing.server.messages.translate import conversation_of, requested_grammar, sampling_fields

HELLO = [{"role": "user", "content": "Hello!"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}


def request(messages: Any = HELLO, **fields: Any) -> MessagesRequest:
    return MessagesRequest.model_validate({"messages": messages, **fields})


def messages_of(messages: Any = HELLO, **fields: Any) -> list[Any]:
    return list(conversation_of(request(messages, **fields))[0].messages)


def left_out(messages: Any = HELLO, **fields: Any) -> list[str]:
    return conversation_of(request(messages, **fields))[1]


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
    text = {"type": "text", "text": "1"}
    content = [
        {"type": "text", "text": "Go on."},
        {"type": "tool_result", "tool_use_id": "a", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "b", "content": [text, text]},
        {"type": "tool_result", "tool_use_id": "c"},
        {"type": "tool_result", "tool_use_id": "d", "content": "no such file", "is_error": True},
    ]
    assert messages_of([{"role": "user", "content": content}]) == [
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": "1\n1"},
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
