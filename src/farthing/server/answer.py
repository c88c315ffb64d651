"""One answer on its way out: deltas of the engine made into events that a dialect formats, and what they add up to.

Knows no HTTP and no JSON: a dialect (chat/, completions/, responses/, messages/) writes events its own way, and
stream.py brings them to the client.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from farthing.engine.process.stream import Stream
from farthing.engine.request import Delta, Request
from farthing.engine.tool_calls.answer_parser import (
    AnswerParser,
    CallArguments,
    CallEnd,
    CallStart,
    Content,
    Piece,
    Reasoning,
)
from farthing.errors import RequestFailedError
from farthing.sampling_params import TokenLogprobs
from farthing.server.errors import ApiError
from farthing.server.latencies import AnswerTimes


@dataclass(slots=True)
class Call:
    """What a client asked for, translated. `choices`: number of the first choice of each request; a request of n
    samples takes n. `parser` makes the reader of one choice's text."""

    requests: list[Request]
    parser: Callable[[], AnswerParser]
    choices: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        number = 0
        for request in self.requests:
            self.choices[request.request_id] = number
            number += request.params.n

    @property
    def num_prompt_tokens(self) -> int:
        return sum(len(request.prompt_ids) for request in self.requests)

    @property
    def num_choices(self) -> int:
        return sum(request.params.n for request in self.requests)


@dataclass(slots=True)
class Event:
    """What is new of choice `choice`. The last one has a `finish_reason`: "stop", "length", "tool_calls"."""

    choice: int
    pieces: Sequence[Piece]
    delta: Delta
    finish_reason: str | None


@dataclass(slots=True)
class ToolCall:
    name: str
    arguments: str = ""
    complete: bool = False


@dataclass(slots=True)
class Choice:
    """All of one choice so far."""

    reasoning: str = ""
    content: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)


class Answer:
    """Iterating yields lists of events, an empty one as a pause. `on_first` is called with the first token, `times` is
    told when tokens come, `dollars` says what seconds of the machine cost.
    RequestFailedError if a choice can't be completed."""

    def __init__(
        self,
        call: Call,
        stream: Stream,
        *,
        on_first: Callable[[], None] = lambda: None,
        times: AnswerTimes | None = None,
        dollars: Callable[[float], float | None] = lambda seconds: None,
    ) -> None:
        self.call, self.stream, self._on_first, self._times, self._dollars = call, stream, on_first, times, dollars
        self.choices = [Choice() for _ in range(call.num_choices)]
        self.num_cached_tokens = self.num_output_tokens = self.num_reasoning_tokens = 0
        self._parsers = [call.parser() for _ in self.choices]

    @property
    def num_prompt_tokens(self) -> int:
        return self.call.num_prompt_tokens

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        async for deltas in self.stream:
            now = time.monotonic()
            yield [self._event(delta, now) for delta in deltas]

    @property
    def cost(self) -> dict[str, float | int | None]:
        """What the answer took so far: its share of the steps, in seconds and dollars; the share of these seconds that
        the machine's peaks would allow; prompt tokens that were not computed. None: not known."""
        seconds = self.stream.seconds
        if not seconds:  # nothing was computed, or it was not measured
            return {"seconds": None, "dollars": None, "share_of_limit": None, "cached_tokens": self.num_cached_tokens}
        dollars = self._dollars(seconds)
        return {
            "seconds": round(seconds, 6),
            "dollars": dollars if dollars is None else round(dollars, 12),
            "share_of_limit": round(self.stream.limit_seconds / seconds, 4) if self.stream.limit_seconds else None,
            "cached_tokens": self.num_cached_tokens,
        }

    def end(self) -> None:
        """It came to its end, whole."""
        if self._times is not None:
            self._times.end(self.stream.queue_seconds)

    def _event(self, delta: Delta, now: float) -> Event:
        if delta.finish_reason == "error":
            raise RequestFailedError(f"the answer failed: {delta.stop_reason}", fix="send the request again")
        number = self.call.choices[delta.request_id] + delta.index
        choice, parser = self.choices[number], self._parsers[number]
        pieces = parser.push(delta.text) if delta.text else []
        if delta.finish_reason is not None:
            pieces = [*pieces, *parser.finish()]
        for piece in pieces:
            _add(choice, piece)
        if not self.num_output_tokens:
            self._on_first()
        if self._times is not None and delta.token_ids:
            self._times.tokens(number, len(delta.token_ids), now)
        self.num_cached_tokens += delta.num_cached_tokens
        self.num_output_tokens += len(delta.token_ids)
        if pieces and all(isinstance(piece, Reasoning) for piece in pieces):
            self.num_reasoning_tokens += len(delta.token_ids)
        choice.token_ids.extend(delta.token_ids)
        choice.logprobs.extend(delta.logprobs)
        choice.prompt_logprobs.extend(delta.prompt_logprobs)
        choice.stop_reason = delta.stop_reason
        choice.finish_reason = _finish_reason(delta, choice)
        return Event(number, pieces, delta, choice.finish_reason)


class Dialect(Protocol):
    """One answer in the shape of one API: as a stream of server-sent events, or whole."""

    def begin(self, answer: Answer) -> bytes:
        """What a stream sends before the first token."""
        ...

    def take(self, answer: Answer, events: Sequence[Event]) -> bytes: ...

    def end(self, answer: Answer) -> bytes:
        """What a stream sends after the last token."""
        ...

    def error(self, error: ApiError) -> bytes:
        """What a stream sends in place of its end."""
        ...

    def refusal(self, error: ApiError) -> bytes:
        """The body of an answer that never began."""
        ...

    def whole(self, answer: Answer) -> bytes:
        """The body of an answer that is not streamed."""
        ...


def _add(choice: Choice, piece: Piece) -> None:
    match piece:
        case Content(text):
            choice.content += text
        case Reasoning(text):
            choice.reasoning += text
        case CallStart(_, name):
            choice.tool_calls.append(ToolCall(name))
        case CallArguments(index, text):
            choice.tool_calls[index].arguments += text
        case CallEnd(index):
            choice.tool_calls[index].complete = True


def _finish_reason(delta: Delta, choice: Choice) -> str | None:
    """An answer that ends by itself behind a whole call of a tool ends for that."""
    if delta.finish_reason == "stop" and choice.tool_calls and choice.tool_calls[-1].complete:
        return "tool_calls"
    return delta.finish_reason
