"""Conversations of clients, normalised for real chat templates and rendered by them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from importlib.resources import files
from pathlib import Path

import pytest

from farthing.engine.chats.chat import ChatTemplate
from farthing.engine.chats.conversation import normalise, template_tools
from farthing.engine.chats.template_traits import traits_of
from farthing.engine.tool_calls.formats import choose_format
from farthing.engine.tool_calls.tools import Tool

FOLDERS = ("llama3", "mistral-7b-v0.3-hf", "qwen2.5", "qwen3_30b")
NAMES = (*FOLDERS, "bundled", "strict")
ANY_ROLE = "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] }}{% endfor %}"
# Refuses as LLaMA 2 and Gemma do: no system role, no two turns of one role in a row.
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{{ '<' ~ m.role ~ '>' ~ m.content }}{% endfor %}"
)
# Insists as LLaMA 3.1 does: one call to a message, results from "ipython".
ONE_CALL = (
    "{% if messages[0].role == 'system' %}{{ '' }}{% endif %}{% if tools %}{% endif %}"
    "{% for message in messages %}{% if 'tool_calls' in message %}{% if not message.tool_calls|length == 1 %}"
    "{{ raise_exception('one call') }}{% endif %}{% set f = message.tool_calls[0].function %}"
    "{{ '<call>' + f.name + (f.arguments | tojson) }}{% elif message.role == 'tool' %}"
    "{{ '<ipython>' + message.content }}"
    "{% else %}{{ '<' + message.role + '>' + message.content }}{% endif %}{% endfor %}"
)
TOOLS = (
    Tool("weather", "The weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
    Tool("clock"),
)
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "How is Rome?"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_0123456789", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
        {"id": "call_abc", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
    ],
}
RESULTS = [
    {"role": "tool", "tool_call_id": "call_0123456789", "content": [{"type": "text", "text": "sunny"}]},
    {"role": "tool", "tool_call_id": "call_abc", "content": "noon"},
]
ANSWER = {"role": "assistant", "content": "Sunny."}
NEXT = {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "Paris?"}]}
AGENT = [SYSTEM, USER, CALL, *RESULTS]


class Model:
    def __init__(self, source: str, special: dict[str, str]) -> None:
        self.source = source
        self.template = ChatTemplate(source, special_tokens=special)

    def normalise(self, messages, tools=TOOLS):
        tool_format = choose_format(self.source)
        return normalise(messages, template_source=self.source, format=tool_format, tools=tools)

    def render(self, messages, tools=TOOLS, **more) -> str:
        described = template_tools(tools, template_source=self.source)
        return self.template.render(self.normalise(messages, tools), tools=described, **more)


def model_of(config_path: Path) -> Model:
    config = json.loads(config_path.read_text())
    special = {name: token for name in ("bos_token", "eos_token") if isinstance(token := config.get(name), str)}
    return Model(config["chat_template"], special)


@pytest.fixture(scope="module")
def models(shared: Path) -> Iterator[dict[str, Model]]:
    folder = shared / "fixtures" / "tokenizers"
    made = {name: model_of(folder / name / "tokenizer_config.json") for name in FOLDERS}
    made["bundled"] = model_of(Path(str(files("farthing.models") / "bundled" / "tokenizer_config.json")))
    made["strict"] = Model(STRICT, {})
    with ExitStack() as stack:
        for model in made.values():
            stack.callback(model.template.close)
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_every_template_takes_an_agents_conversation(name: str, models: dict[str, Model]):
    text = models[name].render([*AGENT, ANSWER, NEXT])
    for told in ("Be brief.", "How is Rome?", "weather", "The weather of a city", "Rome", "sunny", "noon", "Paris?"):
        assert told in text, told
    assert text == models[name].render([*AGENT, ANSWER, NEXT])


@pytest.mark.parametrize("name", NAMES)
def test_the_next_step_of_an_agent_begins_as_the_step_before(name: str, models: dict[str, Model]):
    first = models[name].render([SYSTEM, USER], add_generation_prompt=False)
    second = models[name].render(AGENT, add_generation_prompt=False)
    third = models[name].render(
        [*AGENT, {**CALL, "tool_calls": CALL["tool_calls"][:1]}, RESULTS[0]], add_generation_prompt=False
    )
    if name == "llama3":  # its template always adds the head of an answer
        first, second = (
            text.removesuffix("<|start_header_id|>assistant<|end_header_id|>\n\n") for text in (first, second)
        )
    assert second.startswith(first) and third.startswith(second)


@pytest.mark.parametrize("name", ["llama3", "qwen2.5", "bundled", "strict"])
def test_the_next_turn_of_the_user_begins_as_the_turn_before(name: str, models: dict[str, Model]):
    before = models[name].render([*AGENT, ANSWER], add_generation_prompt=False)
    before = before.removesuffix("<|start_header_id|>assistant<|end_header_id|>\n\n")
    assert models[name].render([*AGENT, ANSWER, NEXT]).startswith(before)


def test_mistral_describes_tools_beside_the_last_user_message_only(models: dict[str, Model]):
    mistral = models["mistral-7b-v0.3-hf"]
    first, second = mistral.render(AGENT), mistral.render([*AGENT, ANSWER, NEXT])
    assert first.startswith("<s>[AVAILABLE_TOOLS]") and second.startswith("<s>[INST] How is Rome?[/INST]")
    assert "[INST] Be brief.\n\nHow is Rome?[/INST]" in first and "[INST] Be brief.\n\nAnd\nParis?[/INST]" in second


def test_arguments_are_written_as_the_template_writes_them(models: dict[str, Model]):
    assert '"arguments": {"city": "Rome"}}' in models["qwen2.5"].render(AGENT)
    assert '"arguments": {"city": "Rome"}, "id": "' in models["mistral-7b-v0.3-hf"].render(AGENT)
    for name in ("qwen3_30b", "llama3", "bundled"):  # where the template takes text, it stays as the model wrote it
        assert '<tool_call>\n{"name": "weather", "arguments": {"city":"Rome"}}\n</tool_call>' in models[name].render(
            AGENT
        )


@pytest.mark.parametrize("arguments", ["not json", "[1]", "", None, {"city": "Rome"}, "[" * 100_000])
@pytest.mark.parametrize("name", NAMES)
def test_arguments_may_be_anything(name: str, arguments: object, models: dict[str, Model]):
    function = {"name": "weather", "arguments": arguments}
    call = {"role": "assistant", "tool_calls": [{"id": "x", "function": function}]}
    assert "weather" in models[name].render([USER, call, {"role": "tool", "tool_call_id": "x", "content": "y"}])


def test_a_template_without_tools_is_told_of_them_in_the_system_message(models: dict[str, Model]):
    bundled = models["bundled"]
    assert template_tools(TOOLS, template_source=bundled.source) is None
    head, *rest = bundled.normalise(AGENT)
    assert head["role"] == "system" and head["content"].startswith("Be brief.\n\n") and "<tools>" in head["content"]
    assert [message["role"] for message in rest] == ["user", "assistant", "user"]
    assert rest[2]["content"].count("<tool_response>") == 2
    without = bundled.normalise(AGENT, tools=())
    assert without == [SYSTEM, *rest]


def test_a_template_with_tools_gets_them_in_its_own_way(models: dict[str, Model]):
    described = template_tools(TOOLS, template_source=models["qwen2.5"].source)
    assert described is not None and described[1] == {
        "type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
    }  # fmt: skip
    assert models["qwen2.5"].normalise(AGENT)[0] == SYSTEM


def test_one_call_to_a_message_where_the_template_wants_it():
    with closing(ChatTemplate(ONE_CALL, special_tokens={})) as template:
        made = normalise([*AGENT, ANSWER], template_source=ONE_CALL, format=None, tools=())
        expected = '<call>weather{"city": "Rome"}<ipython>sunny<call>clock{}<ipython>noon<assistant>Sunny.'
        assert template.render(made) == "<system>Be brief.<user>How is Rome?" + expected
        made = normalise([USER, {**CALL, "content": "Well."}], template_source=ONE_CALL, format=None, tools=())
        assert template.render(made) == '<user>How is Rome?<assistant>Well.<call>weather{"city": "Rome"}<call>clock{}'


def test_short_ids_are_made_of_long_ones_and_agree(models: dict[str, Model]):
    made = models["mistral-7b-v0.3-hf"].normalise(AGENT)
    ids = [call["id"] for call in made[1]["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in made[2:]] and len(set(ids)) == 2
    assert all(len(call_id) == 9 and call_id.isalnum() for call_id in ids)
    kept = [{**CALL, "tool_calls": [{**CALL["tool_calls"][0], "id": "abcDEF123"}]}]
    assert models["mistral-7b-v0.3-hf"].normalise([USER, *kept])[1]["tool_calls"][0]["id"] == "abcDEF123"


def test_a_call_and_its_result_without_an_id_get_one():
    old = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clock", "arguments": "{}"}}]}
    made = normalise(
        [USER, old, {"role": "function", "name": "clock", "content": "noon"}],
        template_source=ONE_CALL, format=None, tools=(),
    )  # fmt: skip
    assert made[1]["tool_calls"][0]["id"] == made[2]["tool_call_id"] and made[2]["role"] == "tool"


def test_two_turns_of_one_role_become_one_where_turns_must_alternate(models: dict[str, Model]):
    assert models["strict"].render([USER, USER, ANSWER, ANSWER], tools=()) == (
        "<user>How is Rome?\n\nHow is Rome?<assistant>Sunny.\n\nSunny."
    )
    assert models["strict"].render([ANSWER, USER], tools=()) == "<user><assistant>Sunny.<user>How is Rome?"
    assert (
        models["mistral-7b-v0.3-hf"]
        .render([*AGENT, USER], tools=())
        .endswith('"}[/TOOL_RESULTS] </s>[INST] Be brief.\n\nHow is Rome?[/INST]')
    )
    assert len(models["qwen2.5"].normalise([USER, USER, ANSWER, ANSWER])) == 4


def test_system_messages_are_one_at_the_head_and_stay_in_place_further_on(models: dict[str, Model]):
    later = {"role": "developer", "content": "Be kind."}
    for name in ("mistral-7b-v0.3-hf", "strict"):
        assert "Be brief.\n\nBe kind." in models[name].render([SYSTEM, later, USER], tools=())
        text = models[name].render([SYSTEM, USER, later], tools=())
        assert text.index(USER["content"]) < text.index("Be kind.")
    roles = [message["role"] for message in models["qwen2.5"].normalise([SYSTEM, later, USER, later])]
    assert roles == ["system", "user", "system"]
    made = normalise([later, USER], template_source="{{ developer }}" + ANY_ROLE, format=None, tools=())
    assert made[0]["role"] == "developer"


@pytest.mark.parametrize("as_parts", [False, True])
def test_a_billing_header_that_changes_is_dropped(as_parts: bool):
    def system(number: int) -> list[dict[str, object]]:
        header = f"x-anthropic-billing-header: cc_version=2.1.{number}; cch=ab{number};"
        if as_parts:
            return [{"role": "system", "content": [{"type": "text", "text": text} for text in (header, "Be brief.")]}]
        return [{"role": "system", "content": f"{header}\nBe brief."}]

    for number in (1, 2):
        made = normalise([*system(number), USER], template_source=ANY_ROLE, format=None, tools=())
        assert made == [SYSTEM, USER]
    kept = {"role": "system", "content": "See the x-billing-header: 1"}
    assert normalise([kept], template_source=ANY_ROLE, format=None, tools=()) == [kept]
    only = {"role": "system", "content": "x-billing-header: 1"}
    assert normalise([only, USER], template_source=ANY_ROLE, format=None, tools=()) == [USER]


def test_thoughts_of_this_turn_reach_a_template_that_shows_them(models: dict[str, Model]):
    thinking = {**CALL, "reasoning_content": "Rome is in Italy."}
    assert "<think>\nRome is in Italy.\n</think>" in models["qwen3_30b"].render([USER, thinking, *RESULTS])
    assert models["qwen3_30b"].normalise([{**ANSWER, "reasoning": "So."}])[0]["reasoning_content"] == "So."


def test_unknown_keys_and_empty_calls_do_not_reach_a_template():
    messages = [{**USER, "cache_control": {}}, {**ANSWER, "tool_calls": None, "annotations": []}]
    assert normalise(messages, template_source=ONE_CALL, format=None, tools=()) == [USER, ANSWER]


def test_what_a_template_takes_is_read_off_its_source(models: dict[str, Model]):
    traits = {name: traits_of(model.source) for name, model in models.items()}
    assert [name for name in NAMES if traits[name].takes_tools] == ["mistral-7b-v0.3-hf", "qwen2.5", "qwen3_30b"]
    assert [name for name in NAMES if traits[name].alternates] == ["mistral-7b-v0.3-hf", "strict"]
    assert [name for name in NAMES if not traits[name].takes_system] == ["strict"]
    assert [name for name in NAMES if traits[name].one_system] == ["mistral-7b-v0.3-hf", "strict"]
    assert [name for name in NAMES if traits[name].short_ids] == ["mistral-7b-v0.3-hf"]
    assert [name for name in NAMES if traits[name].takes_argument_text] == ["qwen3_30b"]


@pytest.mark.parametrize("unit", ["{", " ", "in ", "tools ", "length ", "tool_calls |", "message", "x-"])
def test_no_source_and_no_header_takes_long(unit: str):
    source = unit * (2**20 // len(unit))
    assert not traits_of(source).short_ids
    assert normalise([{"role": "system", "content": source}], template_source="", format=None, tools=())
