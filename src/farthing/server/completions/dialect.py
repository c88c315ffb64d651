"""An answer as a text completion, streamed or whole, with the prompt in front where it was asked for.

Knows OpenAI's shapes alone.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from farthing.sampling_params import TokenLogprobs
from farthing.server.answer import Answer, Call, Event
from farthing.server.chat.dialect import usage
from farthing.server.errors import ApiError
from farthing.server.logprobs import Spelling, TextPlaces, completion_logprobs

_DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Prompt:
    """That of a choice. Its log-probabilities come with `first_choice`, the first one of its request."""

    ids: Sequence[int]
    text: str
    first_choice: int


class CompletionDialect:
    """`echoes`: text of the prompt of each request, None where it is not asked for. `scores_only`: nothing was to be
    generated, and the one token that was is left out."""

    def __init__(
        self,
        model: str,
        call: Call,
        *,
        spelling: Spelling,
        logprobs: bool,
        include_usage: bool,
        echoes: Sequence[str] | None,
        scores_only: bool,
    ) -> None:
        self._spelling, self._logprobs, self._include_usage = spelling, logprobs, include_usage
        self._echoed, self._scores_only = echoes is not None, scores_only
        self._prompts = [
            _Prompt(request.prompt_ids, text, call.choices[request.request_id])
            for request, text in zip(call.requests, echoes or [""] * len(call.requests), strict=True)
            for _ in range(request.params.n)
        ]
        self._head = {"id": f"cmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._begun: dict[int, TextPlaces] = {}  # by number of the choice

    def begin(self, answer: Answer) -> bytes:
        return b""

    def take(self, answer: Answer, events: Sequence[Event]) -> bytes:
        return b"".join(self._chunk(answer, event) for event in events)

    def end(self, answer: Answer) -> bytes:
        return (self._sse([], self._usage(answer)) if self._include_usage else b"") + _DONE

    def error(self, error: ApiError) -> bytes:
        return b"data: " + error.body() + b"\n\n" + _DONE

    def refusal(self, error: ApiError) -> bytes:
        return error.body()

    def whole(self, answer: Answer) -> bytes:
        choices = [self._choice(answer, number) for number in range(len(answer.choices))]
        return _encode({**self._head, "object": "text_completion", "choices": choices, "usage": self._usage(answer)})

    def _chunk(self, answer: Answer, event: Event) -> bytes:
        """The prompt goes out with the first token: its log-probabilities are known by then."""
        number, delta = event.choice, event.delta
        is_first = number not in self._begun
        if is_first:
            self._begun[number] = self._places(number)
        prompt = self._prompts[number].text if is_first else ""
        entry = {
            "index": number,
            "text": prompt + ("" if self._scores_only else delta.text),
            "logprobs": self._scores(answer, number, delta.logprobs, self._begun[number], is_first=is_first),
            "finish_reason": event.finish_reason,
        }
        return self._sse([entry], None)

    def _sse(self, choices: list[dict[str, Any]], counts: dict[str, Any] | None) -> bytes:
        chunk = {**self._head, "object": "text_completion", "choices": choices}
        if self._include_usage:
            chunk["usage"] = counts
        return b"data: " + _encode(chunk) + b"\n\n"

    def _choice(self, answer: Answer, number: int) -> dict[str, Any]:
        choice = answer.choices[number]
        return {
            "index": number,
            "text": self._prompts[number].text + ("" if self._scores_only else choice.content),
            "logprobs": self._scores(answer, number, choice.logprobs, self._places(number), is_first=True),
            "finish_reason": choice.finish_reason,
        }

    def _places(self, number: int) -> TextPlaces:
        return TextPlaces(self._spelling, () if self._echoed else self._prompts[number].ids)

    def _scores(
        self, answer: Answer, number: int, generated: Sequence[TokenLogprobs], places: TextPlaces, *, is_first: bool
    ) -> dict[str, Any] | None:
        """The choice's `logprobs`, or its next ones; the first ones begin with the echoed prompt."""
        if not self._logprobs:
            return None
        known = () if self._scores_only else generated
        if not (is_first and self._echoed):
            return completion_logprobs(known, self._spelling.bytes_of, places)
        prompt = self._prompts[number]
        scored = [*answer.choices[prompt.first_choice].prompt_logprobs, *known]
        return completion_logprobs(scored, self._spelling.bytes_of, places, first_id=prompt.ids[0])

    def _usage(self, answer: Answer) -> dict[str, Any]:
        counts = usage(answer)
        if self._scores_only:
            counts |= {"completion_tokens": 0, "total_tokens": answer.num_prompt_tokens}
        return counts
