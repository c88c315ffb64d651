"""An answer as a text completion, streamed or whole, with the prompt in front where it was asked for.

Knows OpenAI's shapes alone.
"""

import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from farthing.server.answer import Answer, Choice, Event
from farthing.server.chat.dialect import usage
from farthing.server.errors import ApiError
from farthing.server.logprobs import BytesOf, completion_logprobs

_DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


class CompletionDialect:
    """`echoes`: text of the prompt of each choice, "" where it is not asked for; `first_ids`: its first token.
    `scores_only`: nothing was to be generated, and the one token that was is left out."""

    def __init__(
        self,
        model: str,
        *,
        bytes_of: BytesOf,
        logprobs: bool,
        include_usage: bool,
        echoes: Sequence[str],
        first_ids: Sequence[int],
        scores_only: bool,
    ) -> None:
        self._bytes_of, self._logprobs, self._include_usage = bytes_of, logprobs, include_usage
        self._echoes, self._first_ids, self._scores_only = echoes, first_ids, scores_only
        self._head = {"id": f"cmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._num_characters = [len(echo) for echo in echoes]

    def begin(self, answer: Answer) -> bytes:
        return b""

    def take(self, answer: Answer, events: Sequence[Event]) -> bytes:
        return b"".join(self._chunk(answer.choices[event.choice], event) for event in events)

    def end(self, answer: Answer) -> bytes:
        return (self._sse([], usage(answer)) if self._include_usage else b"") + _DONE

    def error(self, error: ApiError) -> bytes:
        return b"data: " + error.body() + b"\n\n" + _DONE

    def refusal(self, error: ApiError) -> bytes:
        return error.body()

    def whole(self, answer: Answer) -> bytes:
        choices = [self._choice(index, choice) for index, choice in enumerate(answer.choices)]
        return _encode({**self._head, "object": "text_completion", "choices": choices, "usage": usage(answer)})

    def _chunk(self, choice: Choice, event: Event) -> bytes:
        """The prompt goes out with the first token: its log-probabilities are known by then."""
        number, delta = event.choice, event.delta
        is_first = len(choice.token_ids) == len(delta.token_ids)
        text = "" if self._scores_only else delta.text
        echo = self._echoes[number] if is_first else ""
        logprobs = None
        if self._logprobs:
            known = () if self._scores_only else delta.logprobs
            offset = 0 if is_first else self._num_characters[number]
            prompt = delta.prompt_logprobs if echo else ()
            first_id = self._first_ids[number] if echo else None
            logprobs = completion_logprobs((*prompt, *known), self._bytes_of, offset=offset, first_id=first_id)
        self._num_characters[number] += len(text)
        entry = {
            "index": number,
            "text": echo + text,
            "logprobs": logprobs,
            "finish_reason": event.finish_reason,
        }
        return self._sse([entry], None)

    def _sse(self, choices: list[dict[str, Any]], counts: dict[str, Any] | None) -> bytes:
        chunk = {**self._head, "object": "text_completion", "choices": choices}
        if self._include_usage:
            chunk["usage"] = counts
        return b"data: " + _encode(chunk) + b"\n\n"

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        echo, logprobs = self._echoes[index], None
        if self._logprobs:
            known = [] if self._scores_only else choice.logprobs
            prompt = choice.prompt_logprobs if echo else []
            first_id = self._first_ids[index] if echo else None
            logprobs = completion_logprobs([*prompt, *known], self._bytes_of, offset=0, first_id=first_id)
        text = "" if self._scores_only else choice.content
        return {"index": index, "text": echo + text, "logprobs": logprobs, "finish_reason": choice.finish_reason}
