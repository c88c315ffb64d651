"""The official `openai` client against a real server: what its users do with it, unchanged."""

import asyncio
import json

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from server_process import ServerProcess

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def scripted(scripted_server: ServerProcess) -> OpenAI:
    return OpenAI(base_url=f"{scripted_server.url}/v1", api_key="none", max_retries=0)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_conversation_is_answered(client: OpenAI):
    answer = client.chat.completions.create(model="bundled", messages=user("Hello!"), temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_streamed_answer_is_the_whole_answer(client: OpenAI):
    asked = {"model": "bundled", "messages": user("Tell me a story about a fox."), "temperature": 0.9, "seed": 5}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    streamed, at_once = chunks[-1].usage.model_dump(), whole.usage.model_dump()
    assert streamed.pop("farthing")["seconds"] > 0 and at_once.pop("farthing")["seconds"] > 0
    assert streamed == at_once


def test_many_answers_of_an_asynchronous_client_come_together(server: ServerProcess):
    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            asked = [
                client.chat.completions.create(
                    model="bundled", messages=user(f"Tell me about {animal}."), max_tokens=20, temperature=0
                )
                for animal in ("a fox", "a bear", "a mouse", "a king", "an owl")
            ]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    assert all(asyncio.run(ask()))


def test_an_asynchronous_stream_can_be_left(server: ServerProcess):
    async def leave() -> None:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(
                model="bundled", messages=user("Tell me a story."), stream=True, extra_body={"ignore_eos": True}
            )
            async for _ in stream:
                break
            await stream.close()

    asyncio.run(leave())
    server.await_idle()


def test_several_samples_of_one_prompt_differ_and_are_numbered(client: OpenAI):
    answer = client.chat.completions.create(
        model="bundled", messages=user("Tell me a story."), n=3, max_tokens=30, seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_logprobs_come_with_the_most_likely_tokens(client: OpenAI):
    answer = client.chat.completions.create(
        model="bundled", messages=user("Hello!"), logprobs=True, top_logprobs=3, max_tokens=4, temperature=0
    )
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    assert all(len(token.top_logprobs) == 3 and token.logprob == token.top_logprobs[0].logprob for token in tokens)
    assert all(bytes(token.bytes).decode() == token.token for token in tokens)


def test_logit_bias_rules_a_token_out(client: OpenAI, server: ServerProcess):
    asked = {"model": "bundled", "messages": user("Hello!"), "max_tokens": 1, "temperature": 0, "logprobs": True}
    first = client.chat.completions.create(**asked).choices[0].logprobs.content[0].token
    (token_id,) = client.post("/../tokenize", body={"prompt": first, "add_special_tokens": False}, cast_to=object)[
        "tokens"
    ]
    other = client.chat.completions.create(**asked, logit_bias={str(token_id): -100}).choices[0].message.content
    assert other != first


def test_a_stop_string_ends_the_answer_before_itself(client: OpenAI):
    answer = client.completions.create(model="bundled", prompt="Once upon a time", stop=[" a "], max_tokens=100, seed=3)
    assert " a " not in answer.choices[0].text and answer.choices[0].finish_reason == "stop"


def test_a_prompt_of_token_ids_is_the_prompt_that_they_spell(client: OpenAI):
    ids = client.post("/../tokenize", body={"prompt": "Once upon a time"}, cast_to=object)["tokens"]
    texts = [
        client.completions.create(model="bundled", prompt=prompt, temperature=0, max_tokens=8).choices[0].text
        for prompt in ("Once upon a time", ids, [ids])
    ]
    assert texts[0] == texts[1] == texts[2]


def test_a_list_of_prompts_is_answered_in_its_order_and_echoed(client: OpenAI):
    prompts = ["The fox", "The bear"]
    answer = client.completions.create(model="bundled", prompt=prompts, echo=True, max_tokens=3)
    assert [choice.text.startswith(prompt) for choice, prompt in zip(answer.choices, prompts, strict=True)] == [
        True
    ] * 2


def test_a_prompt_is_scored_without_generating(client: OpenAI):
    answer = client.completions.create(model="bundled", prompt="Once upon a time", echo=True, max_tokens=0, logprobs=1)
    scored = answer.choices[0].logprobs
    assert answer.choices[0].text == "Once upon a time"
    assert scored.token_logprobs[0] is None and all(value <= 0 for value in scored.token_logprobs[1:])


class Person(BaseModel):
    name: str
    age: int


def test_a_structured_answer_parses_into_its_class(client: OpenAI):
    answer = client.chat.completions.parse(
        model="bundled", messages=user("Who are you?"), response_format=Person, seed=2
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_a_json_object_is_a_json_object(client: OpenAI):
    answer = client.chat.completions.create(
        model="bundled", messages=user("Say it in JSON."), response_format={"type": "json_object"}, seed=4
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_a_named_tool_is_called_with_arguments_that_obey_its_schema(client: OpenAI):
    answer = client.chat.completions.create(
        model="bundled",
        messages=user("What is the weather in Paris?"),
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    choice = answer.choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert call.function.name == "get_weather" and list(json.loads(call.function.arguments)) == ["city"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_that_the_model_chose_to_make_is_told_from_its_words(scripted: OpenAI, streamed: bool):
    asked = {"model": "bundled-long", "messages": user("SCRIPT:talk_and_call"), "tools": [WEATHER]}
    if streamed:
        with scripted.chat.completions.stream(**asked) as stream:
            message = stream.get_final_completion().choices[0].message
    else:
        message = scripted.chat.completions.create(**asked).choices[0].message
    assert message.content.strip() == "Let me look."
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"} and call.id


def test_an_answer_of_a_given_form_and_calls_of_tools_go_together(scripted: OpenAI):
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": {"type": "object", "properties": {}}}}
    asked = {"model": "bundled-long", "tools": [WEATHER], "response_format": form}
    called = scripted.chat.completions.create(messages=user("SCRIPT:call"), **asked).choices[0].message
    assert called.tool_calls and not called.content
    said = scripted.chat.completions.create(messages=user("SCRIPT:object"), **asked).choices[0].message
    assert json.loads(said.content) == {"a": 1} and not said.tool_calls
    demanded = scripted.chat.completions.create(messages=user("SCRIPT:call"), tool_choice="required", **asked)
    assert demanded.choices[0].finish_reason == "tool_calls"


def test_choices_and_calls_of_unknown_types_are_ignored_and_named(client: OpenAI):
    raw = client.chat.completions.with_raw_response.create(
        model="bundled",
        messages=[
            *user("Hi"),
            {"role": "assistant", "content": "Hm.", "tool_calls": [{"id": "x", "type": "custom", "custom": {}}]},
            *user("Hello!"),
        ],
        max_tokens=1,
        tools=[WEATHER],
        tool_choice={"type": "allowed_tools", "allowed_tools": {}},
    )
    named = raw.headers["x-farthing-ignored"]
    assert "tool_choice[type=allowed_tools]" in named and "messages[].tool_calls[type=custom]" in named


def test_two_calls_of_one_answer_are_numbered(scripted: OpenAI):
    message = (
        scripted.chat.completions.create(model="bundled-long", messages=user("SCRIPT:two_calls"), tools=[WEATHER])
        .choices[0]
        .message
    )
    assert [json.loads(call.function.arguments)["city"] for call in message.tool_calls] == ["Paris", "Rome"]
    assert len({call.id for call in message.tool_calls}) == 2


def test_without_tools_the_text_of_a_call_is_text(scripted: OpenAI):
    message = scripted.chat.completions.create(model="bundled-long", messages=user("SCRIPT:call")).choices[0].message
    assert message.tool_calls is None and message.content.startswith("<tool_call>")


def test_tool_choice_none_keeps_a_call_from_being_made(scripted: OpenAI):
    message = (
        scripted.chat.completions.create(
            model="bundled-long", messages=user("SCRIPT:call"), tools=[WEATHER], tool_choice="none"
        )
        .choices[0]
        .message
    )
    assert message.tool_calls is None


def test_the_result_of_a_tool_leads_on(scripted: OpenAI):
    call = (
        scripted.chat.completions.create(model="bundled-long", messages=user("SCRIPT:call"), tools=[WEATHER])
        .choices[0]
        .message
    )
    told = [
        *user("SCRIPT:call"),
        call,
        {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "SCRIPT:default"},
    ]
    answer = scripted.chat.completions.create(model="bundled-long", messages=told, tools=[WEATHER])
    assert answer.choices[0].message.content == "Hello there."


def test_a_model_that_is_not_served_is_named_with_those_that_are(client: OpenAI):
    with pytest.raises(openai.NotFoundError, match="use bundled") as refused:
        client.chat.completions.create(model="gpt-4o", messages=user("Hello!"))
    assert refused.value.code == "model_not_found"


def test_too_long_a_prompt_is_refused_with_both_counts(client: OpenAI):
    with pytest.raises(openai.BadRequestError, match=r"prompt has \d+ tokens.* 512") as refused:
        client.chat.completions.create(model="bundled", messages=user("word " * 2000))
    assert refused.value.code == "context_length_exceeded"


def test_an_impossible_value_is_refused_by_name(client: OpenAI):
    with pytest.raises(openai.BadRequestError, match="temperature is 1000"):
        client.chat.completions.create(model="bundled", messages=user("Hello!"), temperature=1000)


def test_unknown_fields_are_ignored_and_named(client: OpenAI):
    raw = client.chat.completions.with_raw_response.create(
        model="bundled", messages=[{"role": "user", "content": "Hi", "mood": 1}], max_tokens=1, extra_body={"safety": 2}
    )
    assert set(raw.headers["x-farthing-ignored"].split(", ")) == {"safety", "messages[].mood"}


def test_of_the_template_options_only_known_ones_count_and_the_others_are_named(client: OpenAI):
    raw = client.chat.completions.with_raw_response.create(
        model="bundled",
        messages=user("Hi"),
        max_tokens=1,
        extra_body={"chat_template_kwargs": {"enable_thinking": False, "tokenize": True, "messages": []}},
    )
    assert set(raw.headers["x-farthing-ignored"].split(", ")) == {
        "chat_template_kwargs.tokenize", "chat_template_kwargs.messages",
    }  # fmt: skip


def test_the_models_are_listed_with_their_context(client: OpenAI):
    (model,) = client.models.list().data
    assert model.id == "bundled" and model.context_length == 512
    assert client.models.retrieve("bundled").id == "bundled"


def test_embeddings_are_declined_with_advice(client: OpenAI):
    with pytest.raises(openai.InternalServerError, match="embedding server") as refused:
        client.embeddings.create(model="bundled", input="text")
    assert refused.value.status_code == 501
