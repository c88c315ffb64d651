"""Log-probabilities as OpenAI's two older APIs print them, and where in a text its tokens begin.

Each entry is JSON already: an answer may hold a million of them, and to encode these at once would hold up everybody
else. Knows how the tokenizer spells its tokens.
"""

import codecs
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from farthing.sampling_params import TokenLogprobs

BytesOf = Callable[[int], bytes]
_FLOOR = -9999.0  # JSON has no infinity
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Spelling:
    """How tokens become text: `hidden_ids` are no part of it, and `strips_space` takes one space off its beginning."""

    bytes_of: BytesOf
    hidden_ids: frozenset[int] = frozenset()
    strips_space: bool = False


class TextPlaces:
    """Where in a text each of its tokens begins, in characters, as the detokenizer reads them: a hidden token takes no
    room, and a character of several tokens begins with the first of them. `before`: tokens that the text continues."""

    def __init__(self, spelling: Spelling, before: Sequence[int] = ()) -> None:
        self._spelling = spelling
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        last = list(islice((i for i in reversed(before) if i not in spelling.hidden_ids), 4))  # of one character
        self._utf8.decode(b"".join(map(spelling.bytes_of, reversed(last))))
        self._strips_space = spelling.strips_space and not last
        self._num_characters = 0

    def take(self, token_id: int) -> int:
        """The place of the next token."""
        place = self._num_characters
        if token_id not in self._spelling.hidden_ids:
            text = self._utf8.decode(self._spelling.bytes_of(token_id))
            if self._strips_space and text:
                text, self._strips_space = text.removeprefix(" "), False
            self._num_characters += len(text)
        return place


def chat_logprobs(logprobs: Iterable[TokenLogprobs], bytes_of: BytesOf) -> dict[str, Any]:
    """`logprobs` of a choice of a chat completion."""
    content = [
        _json(
            {
                **_entry(token.token_id, token.logprob, bytes_of),
                "top_logprobs": [_entry(token_id, logprob, bytes_of) for token_id, logprob in token.top],
            }
        )
        for token in logprobs
    ]
    return {"content": content}


def completion_logprobs(
    logprobs: Sequence[TokenLogprobs], bytes_of: BytesOf, places: TextPlaces, *, first_id: int | None = None
) -> dict[str, Any]:
    """`logprobs` of a choice of a completion. `places` are those of the choice's text, and go on. `first_id`: a token
    before the others of which nothing is known, as the first of an echoed prompt."""
    ids = [*([] if first_id is None else [first_id]), *(token.token_id for token in logprobs)]
    unknown: list[None] = [] if first_id is None else [None]
    return {
        "tokens": [_text(bytes_of(token_id)) for token_id in ids],
        "token_logprobs": [*unknown, *(_finite(token.logprob) for token in logprobs)],
        "top_logprobs": [
            *unknown,
            *(_json({_text(bytes_of(i)): _finite(value) for i, value in token.top}) for token in logprobs),
        ],
        "text_offset": [places.take(token_id) for token_id in ids],
    }


def _entry(token_id: int, logprob: float, bytes_of: BytesOf) -> dict[str, Any]:
    data = bytes_of(token_id)
    return {"token": _text(data), "logprob": _finite(logprob), "bytes": list(data)}


def _json(value: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return max(logprob, _FLOOR)
