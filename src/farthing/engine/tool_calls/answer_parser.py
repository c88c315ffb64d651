"""A model's answer, as it comes, taken apart: what it thinks, what it says, which tools it calls.

What is thought (<think>...</think>) is never read for calls; what only resembles a call comes out as content, exactly
as it was. The time is linear in the text, and the text held back is bounded (answer_reader.py). Knows no API: routes
turn the pieces into theirs. How a model writes calls is its tool format's (formats/).
"""

from collections.abc import Sequence

from farthing.engine.tool_calls.answer_reader import (
    CallArguments,
    CallEnd,
    CallStart,
    Content,
    Piece,
    Reader,
    Reading,
    Reasoning,
)
from farthing.engine.tool_calls.call_reader import Names
from farthing.engine.tool_calls.formats import ToolFormat
from farthing.engine.tool_calls.tools import Tool

__all__ = [
    "REASONING_MARKERS", "AnswerParser", "CallArguments", "CallEnd", "CallStart", "Content", "Piece", "Reasoning",
    "reasoning_for",
]  # fmt: skip

_THINK = "<think>"
_END_OF_THOUGHT = "</think>"
REASONING_MARKERS = (_THINK, _END_OF_THOUGHT)  # must stay visible in the text of a model that reasons

_THOUGHT_ENDS = ("\n\n" + _END_OF_THOUGHT, "\n" + _END_OF_THOUGHT, _END_OF_THOUGHT)


class AnswerParser:
    """One answer. `format` None or no `tools`: calls are not looked for. `reasoning`: the answer may begin with a
    thought, `reasoning_open`: the prompt has begun it.

    The newlines around a thought (at most two before its end) are dropped. Whatever the pieces pushed, joined they are
    the same. Without calls and thoughts, the content is the text."""

    def __init__(
        self,
        format: ToolFormat | None,
        *,
        tools: Sequence[Tool] = (),
        reasoning: bool = False,
        reasoning_open: bool = False,
    ) -> None:
        self._reader = Reader()
        self._reading: Reading[None] | None = None
        if reasoning or reasoning_open or (format is not None and tools):
            self._reading = _answer(self._reader, format, tools, reasoning or reasoning_open, reasoning_open)

    def push(self, text: str) -> list[Piece]:
        """Take in more of the answer; the pieces that are certain now."""
        if not text:
            return []
        if self._reading is None:
            return [Content(text)]
        self._reader.feed(text)
        return _pieces(self._reading)

    def finish(self) -> list[Piece]:
        """The rest, at the end of the answer."""
        if self._reading is None:
            return []
        self._reader.end()
        return _pieces(self._reading)


def reasoning_for(template_source: str, rendered_prompt: str) -> tuple[bool, bool]:
    """Whether a model with this chat template may think before it answers this prompt, and whether the prompt already
    began the thought. A prompt that ends with a closed thought asks for none."""
    end = rendered_prompt[-64:].rstrip()
    if _END_OF_THOUGHT not in template_source and _THINK not in template_source:
        return False, False
    if end.endswith(_END_OF_THOUGHT):
        return False, False
    return True, end.endswith(_THINK)


def _pieces(reading: Reading[None]) -> list[Piece]:
    """What is read until more text is needed; content or thought in a row is one piece."""
    pieces: list[Piece] = []
    for piece in reading:
        if piece is None:
            break
        last = pieces[-1] if pieces else None
        if isinstance(piece, Content) and isinstance(last, Content):
            pieces[-1] = Content(last.text + piece.text)
        elif isinstance(piece, Reasoning) and isinstance(last, Reasoning):
            pieces[-1] = Reasoning(last.text + piece.text)
        else:
            pieces.append(piece)
    return pieces


def _answer(
    reader: Reader, format: ToolFormat | None, tools: Sequence[Tool], reasoning: bool, reasoning_open: bool
) -> Reading[None]:
    if reasoning:
        yield from _thought(reader, reasoning_open)
    if format is not None and tools:
        yield from format.read(reader, Names(tools))
    yield from reader.until(())


def _thought(reader: Reader, is_open: bool) -> Reading[None]:
    """The thought that the answer begins with, if it does. A model may repeat the mark that the prompt ends with."""
    if (yield from reader.word((_THINK,))):
        reader.drop()
    else:
        reader.rewind()
        if not is_open:
            return
    yield from reader.drop_newlines()
    if (yield from reader.until(_THOUGHT_ENDS, Reasoning)):
        reader.drop()
        yield from reader.drop_newlines()
