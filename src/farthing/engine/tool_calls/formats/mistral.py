"""Calls as Mistral models write them: behind [TOOL_CALLS], a JSON list of objects (tokenizer versions 3 and 7), or a
name and [ARGS] before each object of arguments (version 11 and later). Both are read, whichever the template shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farthing.engine.tool_calls.answer_reader import Reader, Reading
from farthing.engine.tool_calls.call_reader import Names, read_arguments, read_call
from farthing.engine.tool_calls.tool_grammar import CallSyntax, Surroundings, grammar_of
from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.sampling_params import Grammar

_CALLS, _ID, _ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_ID_CHARACTERS = 9
_LIST = CallSyntax(
    trigger=_CALLS, opening=_CALLS + " [", before_name='{"name": "', after_name='", "arguments": ', after_arguments="}",
    separator=", ", closing="]", between=None,
)  # fmt: skip
_NAMED = CallSyntax(
    trigger=_CALLS, opening=_CALLS, before_name="", after_name=_ARGS, after_arguments="",
    separator=None, closing="", between="",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MistralFormat:
    name: str
    syntax: CallSyntax
    markers: tuple[str, ...] = (_CALLS, _ID, _ARGS)

    def matches(self, template_source: str) -> bool:
        return _CALLS in template_source and (_ARGS in template_source) == (self.syntax is _NAMED)

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, around: Surroundings) -> Grammar | None:
        return grammar_of(self.syntax, tools, choice, around)

    def read(self, reader: Reader, names: Names) -> Reading[None]:
        heads = {name + end: (name, end) for name in names.plain for end in (_ARGS, _ID, "{")}
        beginnings = tuple(sorted(("[", *heads)))
        index = 0
        mark = yield from reader.until((_CALLS,))
        while mark:
            begun = index
            word = yield from reader.word(beginnings)
            if word == "[":
                index = yield from _read_list(reader, index, names)
            elif word is not None:
                index = yield from _read_named(reader, index, *heads[word])
            if index > begun:
                mark = yield from reader.word((_CALLS,))
                if mark:
                    continue
                if reader.at_end:
                    reader.drop()
            yield from reader.release()
            mark = yield from reader.until((_CALLS,))


FORMATS = (MistralFormat("mistral", _LIST), MistralFormat("mistral-named", _NAMED))


def _read_list(reader: Reader, index: int, names: Names) -> Reading[int]:
    """The calls after "["; the index of the next call."""
    bracket = reader.place - reader.start - 1
    if (yield from reader.skip_space()) != "{":
        reader.place = reader.start + bracket  # it may begin another mark
        return index
    while (yield from read_call(reader, index, names)):
        index += 1
        follows = yield from reader.word((",", "]"))
        if follows == "]":
            reader.drop()
        if follows != ",":
            break
    return index


def _read_named(reader: Reader, index: int, name: str, end: str) -> Reading[int]:
    """The arguments after a name; the index of the next call."""
    if end == _ID:
        for _ in range(_ID_CHARACTERS):
            if not (yield from reader.next()).isalnum():
                return index
            reader.place += 1
        if (yield from reader.word((_ARGS,))) is None:
            return index
    if end == "{":
        reader.place -= 1
    elif (yield from reader.skip_space()) != "{":
        return index
    yield from read_arguments(reader, index, name)
    return index + 1
