"""Where in a JSON text an answer is, and which tokens bring its end nearer there.

A small model can stay in a string, a list or a number for ever, and a grammar does not mind. As the room for an answer
runs out, the sampler favours the tokens that close something over those that open more; the grammar still decides what
is allowed, so the answer stays valid. Knows tokens as bytes; knows no grammar.
"""

from collections import Counter
from collections.abc import Sequence

import torch

MAX_DECIMAL_DIGITS = 15
"""Digits of a number with a fraction: so many survive in a double, and 0.99..9 stays below 1."""
MAX_EXPONENT_DIGITS = 2

_DIGITS = frozenset(b"0123456789")
_ZERO = frozenset(b"0")
_NUMBER = frozenset(b"0123456789+-.eE")
_QUOTE, _BACKSLASH = b'"\\'
_CLOSERS = frozenset(b"]}")
_OPENERS = frozenset(b"[{,")


class JsonPlace:
    """The end of a JSON text so far. `number` is the number that it may still be in, "" outside of one; `beginnings`
    counts the first bytes of the tokens of the string that it is in."""

    __slots__ = ("beginnings", "escaped", "in_string", "number")

    def __init__(self) -> None:
        self.in_string = self.escaped = False
        self.number = b""
        self.beginnings: Counter[int] = Counter()

    def push(self, data: bytes) -> None:
        if self.in_string:
            self.beginnings.update(data[:1])
        for byte in data:
            if self.in_string:
                self.in_string = self.escaped or byte != _QUOTE
                self.escaped = not self.escaped and byte == _BACKSLASH
            elif byte == _QUOTE:
                self.in_string, self.number = True, b""
                self.beginnings.clear()
            else:
                self.number = self.number + bytes((byte,)) if byte in _NUMBER else b""

    def copy(self) -> "JsonPlace":
        other = JsonPlace()
        other.in_string, other.escaped, other.number = self.in_string, self.escaped, self.number
        other.beginnings = self.beginnings.copy()
        return other

    @property
    def digits_left(self) -> int:
        """How many more digits the number at hand may have; an integer, which is exact, has no limit of its own."""
        mantissa, has_exponent, exponent = self.number.lower().partition(b"e")
        if has_exponent:
            return MAX_EXPONENT_DIGITS - len(exponent.lstrip(b"+-"))
        return MAX_DECIMAL_DIGITS - _num_digits(mantissa) if b"." in mantissa else MAX_DECIMAL_DIGITS


class JsonTokens:
    """The tokens of a vocabulary, sorted by what they do to a JSON text. Tensors [V], V the model's vocabulary."""

    def __init__(self, token_bytes: Sequence[bytes], *, end_ids: torch.Tensor, vocab_size: int) -> None:
        self.in_string = torch.zeros(vocab_size)
        self.outside = torch.zeros(vocab_size)
        self.in_number = torch.zeros(vocab_size)
        self.first_byte = torch.full((vocab_size,), 256)
        self.num_leading_digits = torch.zeros(vocab_size, dtype=torch.int64)
        for token_id, data in enumerate(token_bytes[:vocab_size]):
            if data[:1] == b'"' and _CLOSERS.issuperset(data[1:]):
                self.in_string[token_id] = 1.0
            if data and _CLOSERS.issuperset(data):
                self.outside[token_id] = 1.0
            elif _OPENERS.intersection(data):
                self.outside[token_id] = -1.0
            if data and data[0] in _NUMBER:
                # Of digits that have to come rather no zeros: a bound may wait for another one.
                self.in_number[token_id] = -2.0 if _ZERO.issuperset(data) else -1.0
                self.num_leading_digits[token_id] = _num_leading_digits(data)
            elif data and _CLOSERS.issuperset(data):
                self.in_number[token_id] = 1.0
            if data:
                self.first_byte[token_id] = data[0]
        for leanings_V in (self.in_string, self.outside, self.in_number):
            leanings_V[end_ids[end_ids < vocab_size]] = 1.0

    def leanings(self, place: JsonPlace, allowed_V: torch.Tensor) -> torch.Tensor:
        """Where a string may not end yet, some other character has to come: those that have come less often, of ASCII
        first."""
        if not place.in_string:
            return self.in_number if place.number else self.outside
        if (allowed_V & (self.in_string > 0)).any():
            return self.in_string
        counts = torch.zeros(257)
        counts[list(place.beginnings)] = torch.tensor(list(place.beginnings.values()), dtype=torch.float32)
        counts[128:256] += counts.max() + 1
        return -counts[self.first_byte]

    def too_long(self, place: JsonPlace) -> torch.Tensor | None:
        """bool [V]: the tokens that give the number at hand more digits than a double holds; None outside of one."""
        if not place.number:
            return None
        return self.num_leading_digits > max(place.digits_left, 0)


def _num_digits(data: bytes) -> int:
    return sum(byte in _DIGITS for byte in data)


def _num_leading_digits(data: bytes) -> int:
    return next((index for index, byte in enumerate(data) if byte not in _DIGITS), len(data))
