"""Who may wait: bounds on the requests and prompt tokens that have no first token yet. More are sent away with 429.

An answer that has begun waits for nothing and counts no more. Knows no engine and no HTTP beyond the refusal.
"""

import math

from farthing.server.errors import ApiError, unavailable

_MAX_RETRY_SECONDS = 60
_SMOOTHING = 0.2


class Admission:
    """`draining` is set when the server is about to end: nobody is admitted any more, and all may finish."""

    def __init__(self, *, max_requests: int, max_tokens: int) -> None:
        self._max_requests, self._max_tokens = max_requests, max_tokens
        self.draining = False
        self.num_queued = self.num_queued_tokens = 0
        self.num_active = 0  # queued or being answered
        self.num_refused = 0
        self._usual_wait_seconds = 1.0

    def enter(self) -> "Ticket":
        """ApiError 429 if too many wait, 503 while the server drains."""
        if self.draining:
            raise unavailable("the server is shutting down", fix="send the request again", seconds=5)
        if self.num_queued >= self._max_requests:
            raise self._too_many(f"{self.num_queued} requests wait already")
        return Ticket(self)

    def too_many_tokens(self, num_tokens: int) -> ApiError | None:
        """Why a prompt of this length can't wait with the others; alone it may, however long."""
        if self.num_queued_tokens and self.num_queued_tokens + num_tokens > self._max_tokens:
            return self._too_many(f"prompts of {self.num_queued_tokens} tokens wait already")
        return None

    def waited(self, seconds: float) -> None:
        """A request got its first token after `seconds`."""
        self._usual_wait_seconds += _SMOOTHING * (seconds - self._usual_wait_seconds)

    def _too_many(self, what: str) -> ApiError:
        self.num_refused += 1
        seconds = min(max(1, math.ceil(self._usual_wait_seconds)), _MAX_RETRY_SECONDS)
        return ApiError(
            429,
            f"the server is busy: {what}",
            fix=f"try again in {seconds} s",
            type="rate_limit_error",
            code="rate_limit_exceeded",
            headers={"retry-after": str(seconds)},
        )


class Ticket:
    """One request's place. `begin` and `end` may be called more than once."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._num_tokens = 0
        self._queued = self._active = True
        admission.num_queued += 1
        admission.num_active += 1

    def carry(self, num_tokens: int) -> None:
        """The prompt is known now. ApiError 429, and the ticket is gone, if it is too long to wait with the others."""
        refusal = self._admission.too_many_tokens(num_tokens)
        if refusal is not None:
            self.end()
            raise refusal
        self._num_tokens = num_tokens
        self._admission.num_queued_tokens += num_tokens

    def begin(self, waited_seconds: float | None = None) -> None:
        """The first token is there, or never comes."""
        if self._queued:
            self._queued = False
            self._admission.num_queued -= 1
            self._admission.num_queued_tokens -= self._num_tokens
            if waited_seconds is not None:
                self._admission.waited(waited_seconds)

    def end(self) -> None:
        self.begin()
        if self._active:
            self._active = False
            self._admission.num_active -= 1
