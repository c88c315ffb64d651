"""One call of a tool as most models write it: a JSON object of a name and arguments, or arguments after the name.

A call begins only when its name is complete, is one of the tools given, and an object of arguments follows; until then
nothing is released and the caller may still take the text for text. Knows no marks around calls: those are
formats/.
"""

import json
from collections.abc import Sequence

from farthing.engine.tool_calls.answer_reader import CallArguments, CallEnd, CallStart, Piece, Reader, Reading
from farthing.engine.tool_calls.tools import Tool

_ARGUMENTS = ("arguments", "parameters")
_KEYS = tuple(sorted(("name", *_ARGUMENTS, "type", "id")))
_FIRST_KEYS = ("name", "type")
_MAX_OTHER_CHARACTERS = 64  # of the type or id of a call


class Names:
    """The names of tools, by the ways in which JSON may spell them."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._by_spelling = {
            json.dumps(tool.name, ensure_ascii=ascii_only)[1:-1]: tool.name
            for tool in tools
            for ascii_only in (False, True)
        }
        self.spellings = tuple(sorted(self._by_spelling))
        self.plain = tuple(sorted(tool.name for tool in tools))

    def name(self, spelling: str) -> str:
        return self._by_spelling[spelling]


def read_call(reader: Reader, index: int, names: Names, *, name_first: bool = False) -> Reading[bool]:
    """Read {"name": ..., "arguments": {...}} after white space and release it as call `index`.

    False if it is no call: then nothing was released, and the character that did not fit is the next to read.
    `name_first`: the object is taken for a call only if it begins with the name (or a type), as JSON that is meant as
    an answer should not be held back.
    """
    if (yield from reader.skip_space()) != "{":
        return False
    reader.place += 1
    spelling: str | None = None
    held: tuple[int, int] | None = None  # arguments that came before the name, from and to, counted from reader.start
    keys = _FIRST_KEYS if name_first else _KEYS
    while True:
        key = yield from reader.word(keys, quoted=True)
        if key is None or (yield from reader.skip_space()) != ":":
            return False
        reader.place += 1
        if key == "name":
            if spelling is not None:
                return False
            spelling = yield from reader.word(names.spellings, quoted=True)
            if spelling is None:
                return False
        elif key in _ARGUMENTS:
            if held is not None or (yield from reader.skip_space()) != "{":
                return False
            if spelling is not None:
                return (yield from _stream(reader, index, names.name(spelling)))
            begin = reader.place - reader.start
            if not (yield from reader.json_object(None)):
                return False
            held = (begin, reader.place - reader.start)
        elif not (yield from _skip_string(reader)):
            return False
        follows = yield from reader.skip_space()
        if follows == "}" and spelling is not None:
            reader.place += 1
            text = reader.held[slice(*held)] if held else "{}"
            yield CallStart(index, names.name(spelling))
            yield CallArguments(index, text)
            yield CallEnd(index)
            reader.drop()
            return True
        if follows != ",":
            return False
        reader.place += 1
        keys = _KEYS


def read_arguments(reader: Reader, index: int, name: str) -> Reading[None]:
    """Release the object at the reader's place as the arguments of call `index`."""

    def wrap(text: str) -> Piece:
        return CallArguments(index, text)

    reader.drop()
    yield CallStart(index, name)
    if (yield from reader.json_object(wrap)):
        yield CallEnd(index)


def _stream(reader: Reader, index: int, name: str) -> Reading[bool]:
    """The arguments, and what follows them in the object. A model that forgets the last brace is forgiven."""
    yield from read_arguments(reader, index, name)
    while (follows := (yield from reader.skip_space())) == ",":
        reader.place += 1
        key = yield from reader.word(("id", "type"), quoted=True)
        if key is None or (yield from reader.skip_space()) != ":":
            return True
        reader.place += 1
        if not (yield from _skip_string(reader)):
            return True
    if follows == "}":
        reader.place += 1
    if follows == "}" or reader.at_end:
        reader.drop()
    return True


def _skip_string(reader: Reader) -> Reading[bool]:
    """Read a short JSON string without escapes."""
    if (yield from reader.skip_space()) != '"':
        return False
    reader.place += 1
    for _ in range(_MAX_OTHER_CHARACTERS):
        character = yield from reader.next()
        if character in ("", "\\"):
            return False
        reader.place += 1
        if character == '"':
            return True
    return False
