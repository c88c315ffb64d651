"""An answer while it is being written: its pieces, and a reader for generators that wait for more text.

Whoever reads an answer is a generator: it yields the pieces that are certain, and None when it needs more text. Text is
held back from `start` on until it is released as a piece or dropped as the syntax of a call, never more than
MAX_HELD characters of it, and every character is looked at a bounded number of times. Where the text is cut into
pushes makes no difference to what is read. Knows no format: those are formats/.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

MAX_HELD = 4096

_SPACE = re.compile(r"[ \t\r\n]*")
_NEWLINES = re.compile(r"\n*")
_OUTSIDE_STRING = re.compile(r'["{}\[\]]')
_INSIDE_STRING = re.compile(r'["\\]')


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model thinks before its answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """Call number `index` of the answer, of the tool `name`, begins."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of a call's arguments; all of it joined is the text as the model wrote it."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The arguments of call `index` are complete."""

    index: int


Piece: TypeAlias = Reasoning | Content | CallStart | CallArguments | CallEnd
Wrap: TypeAlias = Callable[[str], Piece]
_T = TypeVar("_T")
Reading: TypeAlias = Generator[Piece | None, None, _T]


class Reader:
    """The text from `start` (held back) on; `place` is the next character to read."""

    __slots__ = ("_ended", "_text", "place", "start")

    def __init__(self) -> None:
        self._text = ""
        self._ended = False
        self.start = 0
        self.place = 0

    def feed(self, text: str) -> None:
        self._text = self._text[self.start :] + text
        self.place -= self.start
        self.start = 0

    def end(self) -> None:
        """No more text will come."""
        self._ended = True

    @property
    def at_end(self) -> bool:
        return self._ended and self.place == len(self._text)

    @property
    def held(self) -> str:
        """What was read and is neither released nor dropped."""
        return self._text[self.start : self.place]

    def drop(self) -> None:
        """What was read is syntax and is no part of the answer."""
        self.start = self.place

    def rewind(self) -> None:
        """Read again what is held back. Only for text that is read at most twice."""
        self.place = self.start

    def release(self, wrap: Wrap = Content) -> Reading[None]:
        """What was read is text after all."""
        if self.place > self.start:
            yield wrap(self.held)
            self.start = self.place

    def until(self, marks: tuple[str, ...], wrap: Wrap = Content) -> Reading[str | None]:
        """Release all text before the first of `marks`, which is read but held; None if the text ends before one."""
        while True:
            hits = [(found, mark) for mark in marks if (found := self._text.find(mark, self.start)) >= 0]
            found, mark = min(hits, default=(self._certain(marks), None))
            self.place = found
            yield from self.release(wrap)
            if mark is not None:
                self.place += len(mark)
                return mark
            if self._ended:
                self.place = len(self._text)
                yield from self.release(wrap)
                return None
            yield None

    def next(self) -> Reading[str]:
        """The character at `place`, not yet read; "" at the end or where no more may be held back."""
        while self.place >= len(self._text):
            if self._ended:
                return ""
            yield None
        return self._text[self.place] if self.place - self.start < MAX_HELD else ""

    def skip_space(self) -> Reading[str]:
        """Read white space; then as `next`."""
        while True:
            found = _SPACE.match(self._text, self.place, self._limit)
            assert found is not None
            self.place = found.end()
            if self.place < len(self._text) or self._ended or self.place - self.start >= MAX_HELD:
                return (yield from self.next())
            yield None

    def drop_newlines(self) -> Reading[None]:
        """Drop all newlines that follow."""
        while True:
            found = _NEWLINES.match(self._text, self.place)
            assert found is not None
            self.place = found.end()
            self.drop()
            if self.place < len(self._text) or self._ended:
                return
            yield None

    def word(self, words: tuple[str, ...], *, quoted: bool = False) -> Reading[str | None]:
        """Read one of the sorted `words`, after white space and in quotes if `quoted`. None at the first character
        that fits none of them; that one is not read."""
        character = yield from self.skip_space()
        if quoted:
            if character != '"':
                return None
            self.place += 1
        read = ""
        while True:
            if not quoted and read in words:
                return read
            character = yield from self.next()
            if quoted and character == '"' and read in words:
                self.place += 1
                return read
            longer = read + character
            at = bisect_left(words, longer)
            if not character or at == len(words) or not words[at].startswith(longer):
                return None
            read = longer
            self.place += 1

    def json_object(self, wrap: Wrap | None) -> Reading[bool]:
        """Read from "{" to the "}" that closes it, releasing the text as it comes, or holding it if `wrap` is None.
        False if the text ends before, or more would have to be held."""
        depth, in_string = 0, False
        while True:
            limit = self._limit if wrap is None else len(self._text)
            found = (_INSIDE_STRING if in_string else _OUTSIDE_STRING).search(self._text, self.place, limit)
            self.place = limit if found is None else found.start()
            escape_is_cut = found is not None and found[0] == "\\" and self.place + 2 > limit
            if found is None or escape_is_cut:
                if wrap is not None:
                    yield from self.release(wrap)
                elif limit - self.start >= MAX_HELD:
                    self.place = limit
                    return False
                if self._ended:
                    self.place = len(self._text)
                    if wrap is not None:
                        yield from self.release(wrap)
                    return False
                yield None
                continue
            if found[0] == "\\":
                self.place += 2
                continue
            self.place += 1
            if found[0] == '"':
                in_string = not in_string
            else:
                depth += 1 if found[0] in "{[" else -1
            if depth == 0:
                if wrap is not None:
                    yield from self.release(wrap)
                return True

    @property
    def _limit(self) -> int:
        return min(len(self._text), self.start + MAX_HELD)

    def _certain(self, marks: tuple[str, ...]) -> int:
        """Where the text ends that can't be the beginning of a mark, whatever follows."""
        end = len(self._text)
        longest = max(map(len, marks), default=1) - 1
        for at in range(max(self.start, end - longest), end):
            if any(mark.startswith(self._text[at:]) for mark in marks):
                return at
        return end
