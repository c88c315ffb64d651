"""An answer taken apart: thoughts, content and calls, whatever the pieces in which it comes."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farthing.engine.tool_calls.answer_parser import (
    AnswerParser,
    CallArguments,
    CallEnd,
    CallStart,
    Content,
    Piece,
    Reasoning,
    reasoning_for,
)
from farthing.engine.tool_calls.formats import all_formats
from farthing.engine.tool_calls.tools import Tool

TOOLS = (Tool("weather"), Tool("weather_now"), Tool("Größe"))
FORMATS = all_formats()
FRAGMENTS = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]abc123456",
    "<|python_tag|>", "\n", " ", "; ", ", ", "[", "]", "{", "}", '"', "\\", "é🙂", "text",
    '{"name": "weather", "arguments": {"city": "Zürich \\" }"}}',
    '{"name": "weather_now", "parameters": {"a": [1, {}]}}',
    '{"arguments": {"a": "x"}, "name": "weather"}', '{"name": "weather"}', '{"name": "rain", "arguments": {}}',
    '"name"', ": ", '"weather"', '"arguments"', 'weather{"a": 1}', 'weather_now[ARGS]{"b": 2}',
)  # fmt: skip
ANSWERS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=12).map("".join)


def parse(text: str, form: str | None, *, cut: int = 0, **reasoning: bool) -> list[Piece]:
    """The pieces of `text`, pushed in pieces of `cut` characters (0: at once), neighbours of a kind joined."""
    parser = AnswerParser(FORMATS[form] if form else None, tools=TOOLS, **reasoning)
    pieces = []
    for at in range(0, len(text), cut or max(1, len(text))):
        pieces += parser.push(text[at : at + (cut or len(text))])
    return joined(pieces + parser.finish())


def joined(pieces: list[Piece]) -> list[Piece]:
    made: list[Piece] = []
    for piece in pieces:
        last = made[-1] if made else None
        if isinstance(piece, Content | Reasoning) and type(last) is type(piece):
            made[-1] = type(piece)(last.text + piece.text)
        elif isinstance(piece, CallArguments) and isinstance(last, CallArguments):
            made[-1] = CallArguments(piece.index, last.text + piece.text)
        else:
            made.append(piece)
    return made


def call(index: int, name: str, arguments: str) -> list[Piece]:
    return [CallStart(index, name), CallArguments(index, arguments), CallEnd(index)]


def calls(*made: tuple[str, str]) -> list[Piece]:
    return [piece for index, (name, arguments) in enumerate(made) for piece in call(index, name, arguments)]


ONE = ("weather", '{"city":  "Zürich \\" }"}')
TWO = ("weather_now", '{"a": [1, {}]}')
CALLING = {
    "hermes": ("hermes", '<tool_call>\n{"name": "weather", "arguments": %s}\n</tool_call>\n'
                         '<tool_call>\n{"name":"weather_now","arguments":%s}\n</tool_call>\n'),
    "hermes without ends": ("hermes", '<tool_call>{"name": "weather", "arguments": %s}'
                                      '<tool_call>{"name": "weather_now", "arguments": %s'),
    "hermes arguments first": ("hermes", '<tool_call>\n{"arguments": %s, "name": "weather"}\n</tool_call><tool_call>\n'
                                         '{"parameters": %s, "type": "function", "name": "weather_now"}\n</tool_call>'),
    "llama": ("llama", '{"name": "weather", "parameters": %s}; {"name": "weather_now", "parameters": %s}'),
    "llama with tag": ("llama", '<|python_tag|>{"type": "function", "name": "weather", "parameters": %s};'
                                '<|python_tag|>{"name": "weather_now", "parameters": %s}'),
    "mistral": ("mistral", '[TOOL_CALLS] [{"name": "weather", "arguments": %s, "id": "abc123456"}, '
                           '{"name": "weather_now", "arguments": %s}]'),
    "mistral twice": ("mistral", '[TOOL_CALLS] [{"name": "weather", "arguments": %s}] '
                                 '[TOOL_CALLS][{"name": "weather_now", "arguments": %s}]'),
    "mistral by name": ("mistral-named",
                        "[TOOL_CALLS]weather[ARGS]%s[TOOL_CALLS]weather_now[CALL_ID]abc123456[ARGS]%s"),
    "mistral without marks": ("mistral-named", "[TOOL_CALLS]weather%s [TOOL_CALLS]weather_now[ARGS] %s"),
}  # fmt: skip


@pytest.mark.parametrize(("form", "text"), CALLING.values(), ids=CALLING)
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 7])
def test_calls_are_read_with_their_arguments_as_written(form, text, cut):
    assert parse(text % (ONE[1], TWO[1]), form, cut=cut) == calls(ONE, TWO)


@pytest.mark.parametrize("form", ["hermes", "mistral", "mistral-named"])
def test_content_before_a_call_is_kept(form):
    text = dict(CALLING.values())[form] % (ONE[1], TWO[1])
    assert parse("Let me see.\n" + text, form) == [Content("Let me see.\n"), *calls(ONE, TWO)]


def test_content_between_and_after_calls_is_kept():
    text = f'a <tool_call>{{"name": "weather", "arguments": {ONE[1]}}}</tool_call> b <tool_call>'
    text += f'{{"name": "weather_now", "arguments": {TWO[1]}}}</tool_call> c'
    expected = [Content("a "), *call(0, *ONE), Content(" b "), *call(1, *TWO), Content(" c")]
    assert parse(text, "hermes") == parse(text, "hermes", cut=1) == expected


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "rain", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "weather", "arguments": "text"}\n</tool_call>',
        '<tool_call>\n{"name": "weath',
        "<tool_call>\n</tool_call> <tool_c",
        '{"name": "weather", "age": 3}',
        '{"name": "weather", "parameters": ',
        '{"title": "weather", "parameters": {}}',
        '  {"a": 1}; {"name": "weather"}',
        "<|python_tag|>print('weather')",
        '[TOOL_CALLS] [{"name": "rain", "arguments": {}}]',
        '[TOOL_CALLS] [ "weather"]',
        "[TOOL_CALLS]rain[ARGS]{}",
        "[TOOL_CALLS]weather[ARGS]7",
        "[TOOL_CALLS]weather[CALL_ID]abc[ARGS]{}",
        "a [ b < c <tool [TOOL",
        '{"name": {"name": "weather"}}',
    ],
)
def test_what_only_resembles_a_call_is_content_as_it_was(form, text):
    for cut in (0, 1, 3):
        assert parse(text, form, cut=cut) == [Content(text)]


def test_a_call_behind_a_broken_one_is_found():
    good = '{"name": "weather", "arguments": {}}'
    for form, text in (
        ("hermes", f"<tool_call>\n<tool_call>{good}</tool_call>"),
        ("hermes", f'<tool_call>{{"name": <tool_call>{good}</tool_call>'),
        ("mistral", f"[TOOL_CALLS] [TOOL_CALLS] [{good}]"),
        ("mistral", f"[TOOL_CALLS] [ [TOOL_CALLS][{good}]"),
        ("llama", f"no <|python_tag|>{good}"),
    ):
        assert parse(text, form)[1:] == calls(("weather", "{}")), text


def test_a_second_call_that_is_none_is_content_and_the_first_stays():
    text = '[TOOL_CALLS] [{"name": "weather", "arguments": {}}, {"name": "rain"}]'
    assert parse(text, "mistral") == [*call(0, "weather", "{}"), Content(', {"name": "rain"}]')]
    text = '{"name": "weather", "parameters": {}}; and so on'
    assert parse(text, "llama", cut=1) == [*call(0, "weather", "{}"), Content("; and so on")]


def test_a_call_that_is_cut_short_has_no_end():
    text = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zü\\'
    assert parse(text, "hermes", cut=1) == [CallStart(0, "weather"), CallArguments(0, '{"city": "Zü\\')]
    whole = text[:-1] + '"}'
    for end in ("", "}", "}\n</tool", "}\n</tool_call>\n"):
        assert parse(whole + end, "hermes", cut=1) == call(0, "weather", '{"city": "Zü"}')


def test_arguments_and_content_stream_as_they_come():
    parser = AnswerParser(FORMATS["hermes"], tools=TOOLS)
    assert parser.push("Hello ") == [Content("Hello ")]
    assert parser.push("<b>") == [Content("<b>")]
    assert parser.push("<tool") == []
    assert parser.push('_call>{"name": "weather", "arguments": ') == []
    assert parser.push('{"city": ') == [CallStart(0, "weather"), CallArguments(0, '{"city": ')]
    assert parser.push('"Rom') == [CallArguments(0, '"Rom')]
    assert parser.push('"}}</tool_call>') == [CallArguments(0, '"}'), CallEnd(0)]
    assert parser.finish() == []


def test_an_answer_that_is_json_is_not_held_back():
    parser = AnswerParser(FORMATS["llama"], tools=TOOLS)
    assert parser.push('{"n') == []
    assert parser.push("u") == [Content('{"nu')]
    parser = AnswerParser(FORMATS["llama"], tools=TOOLS)
    assert parser.push('{"name": "weathe') == []
    assert parser.push("d") == [Content('{"name": "weathed')]
    assert parser.push(" x") == [Content(" x")]


def test_a_name_that_json_may_spell_in_two_ways_is_one_name():
    for name in ("Größe", "Gr\\u00f6\\u00dfe"):
        text = f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>'
        assert parse(text, "hermes") == call(0, "Größe", "{}")


def test_a_call_without_arguments_has_none():
    assert parse('<tool_call>{"name": "weather"}</tool_call>', "hermes") == call(0, "weather", "{}")


@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_thought_is_no_content_and_is_not_read_for_calls(cut):
    inner = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    thought = [Reasoning(f"Hm.\n\nSo: {inner}")]
    text = f"Hm.\n\nSo: {inner}\n</think>\n\n{inner}"
    expected = [*thought, *call(0, "weather", "{}")]
    assert parse("<think>\n" + text, "hermes", cut=cut, reasoning=True) == expected
    assert parse(text, "hermes", cut=cut, reasoning=True, reasoning_open=True) == expected
    assert parse("<think>" + text, "hermes", cut=cut, reasoning=True, reasoning_open=True) == expected


def test_a_thought_that_does_not_end_stays_one():
    assert parse("Hm. </thi", None, cut=1, reasoning_open=True) == [Reasoning("Hm. </thi")]


def test_only_the_beginning_of_an_answer_is_a_thought():
    for text in ("I say <think>no</think>", " \n<thin", "No. </think>"):
        assert parse(text, None, cut=1, reasoning=True) == [Content(text)]
    assert parse("<think>\n\n</think>\n\nYes", None, reasoning=True) == [Content("Yes")]
    assert parse("\n<think>x</think>Yes", None, reasoning=True) == [Reasoning("x"), Content("Yes")]


@given(ANSWERS)
def test_without_tools_and_thoughts_the_content_is_the_text(text):
    parser = AnswerParser(None)
    assert parser.push(text) + parser.finish() == ([Content(text)] if text else [])
    parser = AnswerParser(FORMATS["hermes"], tools=())
    assert parser.push(text) + parser.finish() == ([Content(text)] if text else [])


@given(ANSWERS, st.sampled_from([None, *FORMATS]), st.booleans(), st.booleans(), st.data())
@example("<tool_call>" + " " * 4097 + "<tool_call>x", "hermes", False, False, None)
@example('<tool_call>{"arguments": {"a": "' + "x" * 4097 + '"}, "name": "weather"}', "hermes", False, False, None)
def test_the_pieces_in_which_an_answer_comes_make_no_difference(text, form, reasoning, is_open, data):
    whole = parse(text, form, reasoning=reasoning, reasoning_open=is_open)
    assert parse(text, form, cut=1, reasoning=reasoning, reasoning_open=is_open) == whole
    cut = 1000 if data is None else data.draw(st.integers(2, 30))
    assert parse(text, form, cut=cut, reasoning=reasoning, reasoning_open=is_open) == whole


@given(ANSWERS, st.sampled_from(list(FORMATS)))
def test_nothing_of_an_answer_without_calls_is_lost(text, form):
    pieces = parse(text, form, cut=3)
    if not any(isinstance(piece, CallStart) for piece in pieces):
        assert pieces == ([Content(text)] if text else [])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "unit",
    ["<tool_call>", '<tool_call>{"arguments":{', "[TOOL_CALLS] [", '[TOOL_CALLS][{"id":"', "\n", "{", '{"a":"\\',
     '<|python_tag|>{"type":"', "<think>", '<tool_call>{"name":"weather","arguments":{"a":"\\"'],
)  # fmt: skip
def test_no_text_takes_long_or_is_held_back(form, unit):
    text = unit * (150_000 // len(unit))
    started = time.monotonic()
    for cut in (0, 5):
        parser = AnswerParser(FORMATS[form], tools=TOOLS, reasoning=True)
        given = received = 0
        for at in range(0, len(text), cut or max(1, len(text))):
            piece = text[at : at + (cut or len(text))]
            given += len(piece)
            received += sum(len(getattr(out, "text", "")) for out in parser.push(piece))
            if "name" not in unit and unit != "\n" and unit != "<think>":
                assert given - received <= 4096 + 100
        parser.finish()
    assert time.monotonic() - started < 10


def test_a_prompt_tells_whether_the_model_thinks():
    assert reasoning_for("no such mark", "prompt<think>\n") == (False, False)
    assert reasoning_for("{{ '<think>' }}", "assistant\n") == (True, False)
    assert reasoning_for("{{ '<think>\\n' }}", "assistant\n<think>\n") == (True, True)
    assert reasoning_for("{{ '<think>' }}", "assistant\n<think>\n\n</think>\n\n") == (False, False)
