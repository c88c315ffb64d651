"""From tokens to text as they come: whole characters only, stop strings found across token borders.

A token is bytes, so all that is remembered is an unfinished character and the text that may be the start of a stop
string; the cost per token does not grow with the output. What comes out, joined, is Tokenizer.decode of all tokens.
Knows no scheduling: the engine ends a sequence when `stop_found` is set.
"""

import codecs
from collections.abc import Sequence

from farthing.engine.tokenization.tokenizer import Tokenizer


class Detokenizer:
    """One output stream.

    `prompt_ids` are the tokens that the output continues: an output that continues visible text keeps its leading
    space and finishes a character that the prompt began. Stop strings are looked for in the text of the tokens after
    the first `min_tokens`; the text ends before the first one found. Control tokens are no text, but for `visible_ids`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        prompt_ids: Sequence[int] = (),
        stop: Sequence[str] = (),
        skip_special: bool = True,
        visible_ids: Sequence[int] = (),
        min_tokens: int = 0,
    ) -> None:
        self._bytes_of = tokenizer.token_bytes
        self._hidden = tokenizer.special_ids.difference(visible_ids) if skip_special else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        assert all(self._stop)
        self._exempt_tokens = min_tokens
        self._held = ""
        self.stop_found: str | None = None
        shown = [token_id for token_id in prompt_ids if token_id not in self._hidden]
        self._utf8.decode(b"".join(map(self._bytes_of, shown[-4:])))  # a character has at most 4 bytes
        self._strips_space = tokenizer.strips_leading_space and not shown

    def push(self, token_id: int) -> str:
        """Take in the next token; the text that can be shown now, "" once a stop string was found."""
        data = b"" if token_id in self._hidden else self._bytes_of(token_id)
        searched = self._exempt_tokens <= 0
        self._exempt_tokens -= 1
        return self._take(self._utf8.decode(data), searched=searched)

    def finish(self) -> str:
        """The rest at the end of the output; an unfinished character becomes U+FFFD."""
        text = self._take(self._utf8.decode(b"", True), searched=self._exempt_tokens < 0)
        rest, self._held = self._held, ""
        return text + rest

    def _take(self, text: str, *, searched: bool) -> str:
        if self.stop_found is not None:
            return ""
        if self._strips_space and text:
            text = text.removeprefix(" ")
            self._strips_space = False
        if not searched:
            return text
        text = self._held + text
        found = [(place, stop) for stop in self._stop if (place := text.find(stop)) >= 0]
        if found:
            place, self.stop_found = min(found, key=lambda hit: hit[0])
            self._held = ""
            return text[:place]
        certain = self._certain_characters(text)
        self._held = text[certain:]
        return text[:certain]

    def _certain_characters(self, text: str) -> int:
        """How many characters of `text` can't be the beginning of a stop string, whatever follows."""
        certain = len(text)
        for stop in self._stop:
            place = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while 0 <= place < certain:
                if stop.startswith(text[place:]):
                    certain = place
                place = text.find(stop[0], place + 1)
        return certain
