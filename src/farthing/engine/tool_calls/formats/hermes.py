"""Calls as Qwen and Hermes models write them: a JSON object in <tool_call> tags, one pair of tags for each call.

The form that models without any are taught, too; `describe`, `call_text` and `result_text` are the words for it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from farthing.engine.tool_calls.answer_reader import Reader, Reading
from farthing.engine.tool_calls.call_reader import Names, read_call
from farthing.engine.tool_calls.tool_grammar import CallSyntax, Surroundings, grammar_of
from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.sampling_params import Grammar

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_OPEN_OR_CLOSE = tuple(sorted((_OPEN, _CLOSE)))
_SYNTAX = CallSyntax(
    trigger=_OPEN, opening=_OPEN + "\n", before_name='{"name": "', after_name='", "arguments": ', after_arguments="}",
    separator=None, closing="\n" + _CLOSE, between="\n",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HermesFormat:
    name: str = "hermes"
    markers: tuple[str, ...] = (_OPEN, _CLOSE)

    def matches(self, template_source: str) -> bool:
        return _OPEN in template_source

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, around: Surroundings) -> Grammar | None:
        return grammar_of(_SYNTAX, tools, choice, around)

    def read(self, reader: Reader, names: Names) -> Reading[None]:
        index = 0
        mark = yield from reader.until((_OPEN,))
        while mark:
            if (yield from read_call(reader, index, names)):
                index += 1
                mark = yield from reader.word(_OPEN_OR_CLOSE)
                if mark == _CLOSE:
                    reader.drop()
                    mark = yield from reader.word((_OPEN,))
                if mark:
                    continue
                if reader.at_end:
                    reader.drop()
            yield from reader.release()
            mark = yield from reader.until((_OPEN,))


FORMATS = (HermesFormat(),)


def describe(tools: Sequence[Tool]) -> str:
    """What a model is told about tools that its chat template can't describe."""
    listed = "\n".join(json.dumps(tool.as_function(), ensure_ascii=False) for tool in tools)
    return (
        "You can call the functions listed below, one JSON object with name, description and parameter schema per "
        f"line:\n<tools>\n{listed}\n</tools>\n\n"
        "When a function helps with the request, write the call in exactly this form, with the name of the function "
        "and an object of arguments that fits its schema:\n"
        f'{_OPEN}\n{{"name": "function name", "arguments": {{"argument": "value"}}}}\n{_CLOSE}\n'
        "Write one such block for each call and end your answer after the last. The results reach you in "
        "<tool_response> tags. Where no function is needed, answer in plain text."
    )


def call_text(name: str, arguments: str) -> str:
    """A call as the model wrote it; `arguments` is JSON text."""
    return f'{_OPEN}\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}\n{_CLOSE}'


def result_text(content: str) -> str:
    """What a function gave, as the model is told."""
    return f"<tool_response>\n{content}\n</tool_response>"
