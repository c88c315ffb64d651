"""Guesses at what comes next in a sequence, from its own tokens: what followed where its last few tokens stood before.

The longest match wins, of equal ones the most recent (prompt lookup; Saxena 2023. The chains are those of LZ77). How
often a guess is right is learned for each length of match, from every token that comes, whether its guess was computed
or not; so it costs nothing to find out that a text has begun to repeat itself. Knows token ids and nothing else.
"""

from collections.abc import Sequence
from typing import Protocol

_SHORTEST, _LONGEST = 2, 6  # tokens of a match; a longer one counts as the longest
_MOST_CANDIDATES = 8  # earlier places that are looked at
_FIRST_GUESS = 0.25  # share of right guesses before any is known
_NEWS = 0.1  # weight of the newest guess in that share


class DraftPolicy(Protocol):
    """How far it pays to guess, on the machine at hand."""

    def num_drafts(self, num_sequences: int, acceptance: float) -> int:
        """The most drafts for one of so many sequences of a step, where so large a share of guesses is right."""


class Drafter:
    """`token_ids`: those of the sequence, to which its owner appends. What they are now is not learned from.

    A token costs a few microseconds, when it is next asked for a guess.
    """

    __slots__ = ("_guess", "_last", "_length", "_place", "_previous", "_rates", "_token_ids")

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids = token_ids
        self._last: dict[tuple[int, int], int] = {}  # of each pair of tokens, where its last one stood most recently
        self._previous: list[int] = []  # of the pair that ends here, where it ended before; -1: nowhere
        self._rates = [_FIRST_GUESS] * (_LONGEST + 1)  # share of right guesses by length of the match
        self._place = -1  # the match of the last tokens: where its last one stood, -1: there is none
        self._length = 0
        self._guess = -1
        self._read(len(token_ids))

    def acceptance(self) -> float:
        """How likely the next token can be told, as far as is known; 0 if there is no guess."""
        while len(self._previous) < len(self._token_ids):
            self._learn(self._token_ids[len(self._previous)])
            self._read(len(self._previous) + 1)
        return self._rates[self._length] if self._length else 0.0

    def drafts(self, num_tokens: int) -> tuple[int, ...]:
        """As many tokens as asked for, if there is a guess at all. `acceptance` comes first."""
        if not self._length:
            return ()
        tokens, start = self._token_ids, self._place + 1
        found = list(tokens[start : start + num_tokens])
        period = len(tokens) - start
        while len(found) < num_tokens:  # the match reaches into itself: what repeats goes on repeating
            found.append(found[len(found) - period])
        return tuple(found)

    def _learn(self, token_id: int) -> None:
        if self._length:
            rate = self._rates[self._length]
            self._rates[self._length] = rate + _NEWS * ((token_id == self._guess) - rate)

    def _read(self, end: int) -> None:
        """Takes in the tokens up to there, and finds the match of the last of them."""
        tokens, last, previous = self._token_ids, self._last, self._previous
        if not previous and end:
            previous.append(-1)
        for place in range(len(previous), end):
            pair = tokens[place - 1], tokens[place]
            previous.append(last.get(pair, -1))
            last[pair] = place
        self._place, self._length = self._match() if end >= _SHORTEST else (-1, 0)
        self._guess = tokens[self._place + 1] if self._length else -1

    def _match(self) -> tuple[int, int]:
        """Where the longest match of what has been read ends, and its length; (-1, 0) if there is none."""
        tokens, end = self._token_ids, len(self._previous) - 1
        best, longest = -1, 0
        place = self._previous[end]
        for _ in range(_MOST_CANDIDATES):
            if place < 0:
                break
            length, most = _SHORTEST, min(_LONGEST, place + 1)
            while length < most and tokens[place - length] == tokens[end - length]:
                length += 1
            if length > longest:
                best, longest = place, length
                if length == _LONGEST:
                    break
            place = self._previous[place]
        return best, longest
