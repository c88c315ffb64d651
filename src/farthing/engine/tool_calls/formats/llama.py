"""Calls as LLaMA 3.1 and later write them: the answer is a JSON object with name and parameters, or several with "; "
between them, sometimes behind <|python_tag|>.

There is no mark to tell such an answer from one that is meant to be JSON, so an answer is a call only if it begins with
the name of a tool, and any other object is content as soon as that is clear.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farthing.engine.tool_calls.answer_reader import Reader, Reading
from farthing.engine.tool_calls.call_reader import Names, read_call
from farthing.engine.tool_calls.tool_grammar import (
    CallSyntax,
    Surroundings,
    arguments_rule,
    free_text,
    grammar_of,
    literal,
    thought,
)
from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.sampling_params import Grammar

_TAG = "<|python_tag|>"
_FOLLOWS = tuple(sorted((";", _TAG)))
_SYNTAX = CallSyntax(
    trigger="", opening="", before_name='{"name": "', after_name='", "parameters": ', after_arguments="}",
    separator="; ", closing="", between=None,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LlamaFormat:
    name: str = "llama"
    markers: tuple[str, ...] = (_TAG,)

    def matches(self, template_source: str) -> bool:
        return _TAG in template_source or "<|start_header_id|>ipython" in template_source

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, around: Surroundings) -> Grammar | None:
        chosen = choice.select(tools)
        if not chosen or choice.demands_call:
            return grammar_of(_SYNTAX, tools, choice, around)
        # Free text may be anything but the head of a call. A head is one terminal, so that free text and head are read
        # side by side until one of them is ruled out.
        numbers = range(len(chosen))
        tail = literal(_SYNTAX.after_arguments, {})
        rules = [f"call: {' | '.join(f'HEAD_{i} arguments_{i} {tail}' for i in numbers)}"]
        for i, tool in enumerate(chosen):
            head = literal(_SYNTAX.begin(tool) + _SYNTAX.after_name, {})
            rules += [rf"HEAD_{i}: /\s*/ {head}", arguments_rule(i, tool, around)]
        rules.append(free_text(around, unlike=" | ".join(f"HEAD_{i}" for i in numbers)))
        tag = f"({literal(_TAG, around.control_tokens)})?" if _TAG in around.control_tokens else ""
        calls = 'call (";" call)*' if choice.parallel else "call"
        rules.append(f"start: {thought(around, rules, newlines=False)} (FREE | {tag} {calls})")
        return Grammar("lark", "\n".join(rules))

    def read(self, reader: Reader, names: Names) -> Reading[None]:
        index = 0
        called = yield from read_call(reader, index, names, name_first=True)
        while True:
            if called:
                index += 1
                mark = yield from reader.word(_FOLLOWS)
                if mark is None and reader.at_end:
                    reader.drop()
            if not called or mark is None:
                yield from reader.release()
                mark = yield from reader.until((_TAG,))
                if mark is None:
                    return
            if mark == ";" and (yield from reader.skip_space()) == _TAG[0]:
                yield from reader.word((_TAG,))
            called = yield from read_call(reader, index, names)


FORMATS = (LlamaFormat(),)
