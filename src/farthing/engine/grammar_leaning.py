"""Where in a JSON text an answer is, and which tokens bring its end nearer there.

A small model can stay in a string, a list or a number for ever, and a grammar does not mind. As the room for an answer
runs out, the sampler favours the tokens that close something over those that open more; the grammar still decides what
is allowed, so the answer stays valid. Knows tokens as bytes; knows no grammar.
"""

from collections.abc import Sequence

import torch

MAX_DECIMAL_DIGITS = 15
"""Digits of a number with a fraction: so many survive in a double, and 0.99..9 stays below 1."""
MAX_EXPONENT_DIGITS = 2

_DIGITS = frozenset(b"0123456789")
_NUMBER = frozenset(b"0123456789+-.eE")
_QUOTE, _BACKSLASH = b'"\\'
_CLOSERS = frozenset(b"]}")
_OPENERS = frozenset(b"[{,")


class JsonPlace:
    """The end of a JSON text so far. `number` is the number that it may still be in, "" outside of one."""

    __slots__ = ("escaped", "in_string", "number")

    def __init__(self) -> None:
        self.in_string = self.escaped = False
        self.number = b""

    def push(self, data: bytes) -> None:
        for byte in data:
            if self.in_string:
                self.in_string = self.escaped or byte != _QUOTE
                self.escaped = not self.escaped and byte == _BACKSLASH
            elif byte == _QUOTE:
                self.in_string, self.number = True, b""
            else:
                self.number = self.number + bytes((byte,)) if byte in _NUMBER else b""

    def copy(self) -> "JsonPlace":
        other = JsonPlace()
        other.in_string, other.escaped, other.number = self.in_string, self.escaped, self.number
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
        self.num_leading_digits = torch.zeros(vocab_size, dtype=torch.int64)
        for token_id, data in enumerate(token_bytes[:vocab_size]):
            if data[:1] == b'"' and _CLOSERS.issuperset(data[1:]):
                self.in_string[token_id] = 1.0
            if data and _CLOSERS.issuperset(data):
                self.outside[token_id] = 1.0
            elif _OPENERS.intersection(data):
                self.outside[token_id] = -1.0
            if data and data[0] in _DIGITS:
                self.num_leading_digits[token_id] = _num_leading_digits(data)
        for leanings_V in (self.in_string, self.outside):
            leanings_V[end_ids[end_ids < vocab_size]] = 1.0

    def leanings(self, place: JsonPlace) -> torch.Tensor:
        return self.in_string if place.in_string else self.outside

    def too_long(self, place: JsonPlace) -> torch.Tensor | None:
        """bool [V]: the tokens that give the number at hand more digits than a double holds; None outside of one."""
        if not place.number:
            return None
        return self.num_leading_digits > max(place.digits_left, 0)


def _num_digits(data: bytes) -> int:
    return sum(byte in _DIGITS for byte in data)


def _num_leading_digits(data: bytes) -> int:
    return next((index for index, byte in enumerate(data) if byte not in _DIGITS), len(data))
