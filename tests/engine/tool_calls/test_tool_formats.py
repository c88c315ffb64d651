"""Tool formats: the right one for a model, and grammars that let only calls of the tools pass as calls."""

import json
from pathlib import Path

import pytest
from llguidance import LLMatcher, LLTokenizer
from llguidance._tokenizer import TokenizerWrapper

from farthing.engine.tool_calls.answer_parser import AnswerParser, CallArguments, CallStart
from farthing.engine.tool_calls.formats import all_formats, choose_format
from farthing.engine.tool_calls.tool_grammar import Surroundings, object_schema
from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.errors import RequestError

CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/name"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string", "minLength": 1}},
}
TOOLS = (Tool("weather", parameters=CITY), Tool("weather_now"))
MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>")
CONTROL = {mark: 257 + i for i, mark in enumerate(MARKS)}
FORMATS = all_formats()
AUTO, REQUIRED = ToolChoice(), ToolChoice("required")
CITY_CALL = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": %s}\n</tool_call>',
    "llama": '{"name": "weather", "parameters": %s}',
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": %s}]',
    "mistral-named": "[TOOL_CALLS]weather[ARGS]%s",
}
TWO_CALLS = {
    "hermes": CITY_CALL["hermes"] + '\n<tool_call>\n{"name": "weather_now", "arguments": {}}\n</tool_call>',
    "llama": CITY_CALL["llama"] + '; {"name": "weather_now", "parameters": {}}',
    "mistral": CITY_CALL["mistral"][:-1] + ', {"name": "weather_now", "arguments": {}}]',
    "mistral-named": CITY_CALL["mistral-named"] + "[TOOL_CALLS]weather_now[ARGS]{}",
}
ROME = '{"city": "Rome"}'


class Bytes:
    """A tokenizer of bytes, and MARKS as control tokens."""

    def __init__(self) -> None:
        self.eos_token_id, self.bos_token_id = 256, None
        self.tokens = [bytes([i]) for i in range(256)] + [b"<end>", *(mark.encode() for mark in MARKS)]
        self.special_token_ids = list(range(256, len(self.tokens)))

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


TOKENIZER = LLTokenizer(TokenizerWrapper(Bytes()))


def tokens(text: str, control: dict[str, int]) -> list[int]:
    ids = []
    while text:
        mark = next((mark for mark in control if text.startswith(mark)), None)
        ids += [control[mark]] if mark else text[0].encode()
        text = text[len(mark or text[0]) :]
    return ids


class Grammatical:
    """What a grammar says of texts: "whole", "begun" (more must come) or "never"."""

    def __init__(self, form: str, choice: ToolChoice, around: Surroundings, tools=TOOLS) -> None:
        self.control = dict(around.control_tokens)
        grammar = FORMATS[form].grammar(tools, choice, around)
        assert grammar is not None and grammar.kind == "lark"
        self.source = LLMatcher.grammar_from_lark(grammar.source)
        assert LLMatcher.validate_grammar(self.source, TOKENIZER) == ""

    def __call__(self, text: str) -> str:
        matcher = LLMatcher(TOKENIZER, self.source)
        ids = tokens(text, self.control)
        if matcher.try_consume_tokens(ids) < len(ids):
            return "never"
        return "whole" if matcher.is_accepting() else "begun"


def surroundings(with_control: bool, **more) -> Surroundings:
    return Surroundings(CONTROL if with_control else {}, **more)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("llama3", "hermes"), ("mistral-7b-v0.3-hf", "mistral"), ("qwen2.5", "hermes"), ("qwen3_30b", "hermes")],
)
def test_the_chat_template_of_a_model_tells_its_format(folder: str, name: str, shared: Path):
    config = json.loads((shared / "fixtures" / "tokenizers" / folder / "tokenizer_config.json").read_text())
    assert choose_format(config["chat_template"]).name == name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ '<|python_tag|>' + tool_call.name }}", "llama"),
        ("{{ '<|start_header_id|>ipython<|end_header_id|>' }}", "llama"),
        ("{{ '[TOOL_CALLS]' + name + '[ARGS]' }}", "mistral-named"),
        ("{{ messages[0].content }}", "hermes"),
        ("", "hermes"),
    ],
)
def test_a_format_is_known_by_its_marks(source: str, name: str):
    assert choose_format(source).name == name


@pytest.mark.parametrize("with_control", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_a_demanded_call_obeys_the_schema_and_is_read_back(form: str, with_control: bool):
    says = Grammatical(form, REQUIRED, surroundings(with_control))
    text = TWO_CALLS[form] % ROME
    assert says(CITY_CALL[form] % ROME) == says(text) == "whole"
    assert says(CITY_CALL[form] % '{"city":}') == "never" and says("Well") == "never" and says("") == "begun"
    for bad in ('{"town"', '{"city": 7', '{"city": ""', "[]"):
        assert says(CITY_CALL[form].split("%s")[0] + bad) == "never", bad
    assert says(CITY_CALL[form].replace("weather", "rain") % ROME) == "never"
    parser = AnswerParser(FORMATS[form], tools=TOOLS)
    pieces = parser.push(text) + parser.finish()
    assert [piece.name for piece in pieces if isinstance(piece, CallStart)] == ["weather", "weather_now"]
    assert "".join(piece.text for piece in pieces if isinstance(piece, CallArguments)) == ROME + "{}"


@pytest.mark.parametrize("with_control", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_only_the_named_tool_and_one_call_where_that_is_asked(form: str, with_control: bool):
    says = Grammatical(form, ToolChoice("named", "weather", parallel=False), surroundings(with_control))
    assert says(CITY_CALL[form] % ROME) == "whole"
    assert says(TWO_CALLS[form] % ROME) == "never"
    assert says(CITY_CALL[form].replace("weather", "weather_now") % "{}") == "never"


@pytest.mark.parametrize("with_control", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_free_text_is_free_until_it_becomes_a_call(form: str, with_control: bool):
    says = Grammatical(form, AUTO, surroundings(with_control))
    for text in ("", "Hello\n\nthere {", '{"name": "Bob"}', '{"a": 1}', "a < b [c] <tool"):
        assert says(text) == "whole", text
    for before in ("", "" if form == "llama" else "Let me see.\n"):
        assert says(before + CITY_CALL[form] % ROME) == says(before + TWO_CALLS[form] % ROME) == "whole"
        assert says(before + CITY_CALL[form].split("%s")[0]) == "begun"
        assert says(before + CITY_CALL[form].split("%s")[0] + '{"town"') == "never"


def test_a_llama_call_may_stand_behind_its_tag():
    says = Grammatical("llama", AUTO, surroundings(True))
    assert says("<|python_tag|>" + TWO_CALLS["llama"] % ROME) == "whole" and says("<|python_tag|>print") == "never"


@pytest.mark.parametrize("with_control", [False, True])
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_a_thought_before_the_call_is_free(form: str, is_open: bool, with_control: bool):
    around = surroundings(with_control, reasoning=True, reasoning_open=is_open)
    begin = "" if is_open else "<think>"
    loose = CITY_CALL[form].replace("[TOOL_CALLS]", "[").replace("[ARGS]", "(").replace("tool_call", "tool")
    thought = f"{begin}\nHm: {loose % '{]'}\n</think>\n\n"
    for choice in (AUTO, REQUIRED):
        says = Grammatical(form, choice, around)
        assert says(thought + CITY_CALL[form] % ROME) == "whole"
        assert says(thought + CITY_CALL[form].split("%s")[0] + '{"town"') == "never"
        assert says(thought) == ("whole" if choice is AUTO else "begun")
        if not is_open:
            assert says(CITY_CALL[form] % ROME) == "whole"
        elif choice is REQUIRED:
            assert says(CITY_CALL[form] % ROME) != "whole"


def test_a_call_in_a_thought_that_is_text_is_free():
    says = Grammatical("hermes", AUTO, surroundings(False, reasoning=True))
    assert says('<think><tool_call>{"no"</think>Yes') == "whole" and says('<tool_call>{"no"') == "never"


def test_a_lenient_tool_takes_any_object():
    tools = (Tool("weather", parameters={"type": "object", "$ref": "https://elsewhere"}), Tool("weather_now"))
    says = Grammatical("hermes", REQUIRED, Surroundings(lenient={"weather"}), tools)
    assert says(CITY_CALL["hermes"] % '{"any": [1]}') == "whole" and says(CITY_CALL["hermes"] % "[]") == "never"


@pytest.mark.parametrize("form", FORMATS)
def test_a_name_can_not_write_grammar(form: str):
    tools = (Tool('x" | /.*/ <[256]> "é\n/\\'), Tool("</think>"))
    for choice in (AUTO, REQUIRED):
        says = Grammatical(form, choice, surroundings(True), tools)
        assert says("x") == ("whole" if choice is AUTO else "never")


def test_arguments_are_always_an_object():
    assert object_schema(None) == object_schema({}) == object_schema({"type": "string"}) == {"type": "object"}
    assert object_schema({"required": []}) == {"type": "object", "required": []}


def test_objects_take_no_property_that_they_do_not_name_unless_they_say_so():
    inner = {"type": "object", "properties": {"x": {"type": "string"}}}
    made = object_schema({"properties": {"a": inner, "b": {"type": "array", "items": inner}}, "$defs": {"c": inner}})
    closed_inner = {**inner, "additionalProperties": False}
    assert made["additionalProperties"] is False
    assert made["properties"] == {"a": closed_inner, "b": {"type": "array", "items": closed_inner}}
    assert made["$defs"] == {"c": closed_inner}
    assert object_schema({"properties": {}, "additionalProperties": True})["additionalProperties"] is True
    for combined in ({"allOf": [inner]}, {"anyOf": [inner]}, {"$ref": "#/$defs/c"}):
        assert "additionalProperties" not in object_schema({"properties": {}, **combined})
    assert object_schema({"properties": {"a": {"const": inner}}})["properties"]["a"] == {"const": inner}


def test_without_tools_there_is_no_grammar():
    for tool_format in FORMATS.values():
        assert tool_format.grammar((), AUTO, Surroundings()) is None
        assert tool_format.grammar(TOOLS, ToolChoice("none"), Surroundings()) is None


def test_a_choice_that_can_not_be_met_is_refused():
    with pytest.raises(RequestError, match="must be one of the tools"):
        ToolChoice("named", "rain").select(TOOLS)
    with pytest.raises(RequestError, match="no tools"):
        REQUIRED.select(())
