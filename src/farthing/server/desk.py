"""Where a request of any dialect is taken in and its answer sent off: admitted, translated, run, logged.

A route hands over how to translate the request and how to write the answer; all that is the same for every API is here.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from farthing.errors import FarthingError
from farthing.sampling_params import SamplingParams
from farthing.scheduler.sequence import IDLE_PRIORITY
from farthing.server.answer import Answer, Call, Dialect
from farthing.server.books import Books
from farthing.server.errors import NO_RETRY, ApiError
from farthing.server.ignored import IgnoredFields
from farthing.server.latencies import AnswerTimes
from farthing.server.log import Log
from farthing.server.service import Caller, Conversation, Service
from farthing.server.stream import AnswerResponse, ClientGoneError

_IDLE_SECONDS = 24 * 3600.0  # the window of OpenAI's batches: idle work may wait for users all day
_OUTCOMES = ("stop", "cancelled", "failed")


class RequestCancelledError(ApiError):
    """Somebody asked by its id that the request end."""

    def __init__(self) -> None:
        super().__init__(409, "the request was cancelled", code="cancelled", headers=NO_RETRY)


class Desk:
    """`timeout` in seconds for each request of a user, from its arrival. `ended` counts by route and outcome."""

    def __init__(self, service: Service, ignored: IgnoredFields, log: Log, books: Books, *, timeout: float) -> None:
        self.service, self.ignored, self.log, self.books, self._timeout = service, ignored, log, books, timeout
        self.ended: Counter[tuple[str, str]] = Counter()
        self._open: dict[tuple[str, str], Answer] = {}  # by key id and request id

    @property
    def num_ended(self) -> dict[str, int]:
        """Requests by how they ended."""
        counts = dict.fromkeys(_OUTCOMES, 0)
        for (_, outcome), count in self.ended.items():
            counts[outcome] += count
        return counts

    async def answer(
        self,
        route: str,
        call: Callable[[], Awaitable[Call]],
        dialect: Callable[[Call], Dialect],
        *,
        streamed: bool,
        unknown_fields: Sequence[str],
        key_id: str,
    ) -> AnswerResponse:
        """FarthingError, before anything is sent, if the request is refused."""
        started = time.monotonic()
        told = self.ignored.take(unknown_fields)
        ticket = self.service.admission.enter()
        try:
            translated = await call()
            written = dialect(translated)
            is_idle = all(request.priority >= IDLE_PRIORITY for request in translated.requests)
            if is_idle:
                ticket.stand_aside()
            times = None if is_idle else AnswerTimes(self.books.latencies, started)
            answer = self.service.run(translated, ticket, times, self.books.dollars)
        except BaseException:
            ticket.end()
            raise
        request_id = translated.requests[0].request_id
        self._open[key_id, request_id] = answer

        def ended(answer: Answer, error: Exception | None) -> None:
            ticket.end()
            self._open.pop((key_id, request_id), None)
            seconds = time.monotonic() - started
            self.record_end(route, request_id, key_id, answer, error, seconds=seconds)

        return AnswerResponse(
            answer,
            written,
            streamed=streamed,
            timeout=(_IDLE_SECONDS if is_idle else self._timeout) - (time.monotonic() - started),
            headers={"x-request-id": request_id, **told},
            on_end=ended,
        )

    async def answer_conversation(
        self,
        route: str,
        conversation: Conversation,
        params: SamplingParams,
        dialect: Dialect,
        *,
        priority: int = 0,
        streamed: bool,
        unknown_fields: Sequence[str],
        key_id: str,
    ) -> AnswerResponse:
        """`answer` of the APIs that speak of messages."""
        return await self.answer(
            route,
            lambda: self.service.chat_call(conversation, params, Caller(key_id, priority)),
            lambda call: dialect,
            streamed=streamed,
            unknown_fields=unknown_fields,
            key_id=key_id,
        )

    def record_end(
        self, route: str, request_id: str, key_id: str, answer: Answer, error: Exception | None, *, seconds: float
    ) -> None:
        """Count and log how a request ended; of an error that is ours alone, where it came from."""
        is_unwanted = isinstance(error, ClientGoneError | RequestCancelledError)
        outcome = "cancelled" if is_unwanted else "failed" if error else "stop"
        self.ended[route, outcome] += 1
        if outcome == "stop":
            answer.end()
        self.books.finished(
            key=key_id,
            num_prompt_tokens=answer.num_prompt_tokens,
            num_cached_tokens=answer.num_cached_tokens,
            num_output_tokens=answer.num_output_tokens,
        )
        if error is not None and not is_unwanted and not isinstance(error, FarthingError | TimeoutError):
            self.log.failure("internal error", error, id=request_id, route=route)
        self.log.event(
            "request",
            id=request_id,
            route=route,
            caller=key_id,
            outcome=outcome,
            error=type(error).__name__ if outcome == "failed" else None,
            prompt_tokens=answer.num_prompt_tokens,
            cached_tokens=answer.num_cached_tokens,
            output_tokens=answer.num_output_tokens,
            seconds=round(seconds, 3),
            engine_seconds=answer.cost["seconds"],
            dollars=answer.cost["dollars"],
        )

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Around work for a client that is no generation: it waits for the same threads, so the same limits hold."""
        ticket = self.service.admission.enter()
        try:
            yield
        finally:
            ticket.end()

    def cancel(self, key_id: str, request_id: str) -> bool:
        """End a request of this key; its own answer says so. False if there is none (any more)."""
        answer = self._open.get((key_id, request_id))
        if answer is not None:
            answer.stream.fail(RequestCancelledError())
            answer.stream.close()
        return answer is not None
