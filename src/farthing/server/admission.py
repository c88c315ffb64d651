"""Who may wait: bounds on the requests and prompt tokens that have no first token yet. More are sent away with 429.

An answer that has begun waits for nothing and counts no more. Users wait in one line; idle work, which goes behind all
of them, in a line of its own with the same bounds, so that a night's batch takes nobody's place. Knows no engine and no
HTTP beyond the refusal.
"""

import math

from farthing.server.errors import ApiError, unavailable

_MAX_RETRY_SECONDS = 60
_SMOOTHING = 0.2


class Admission:
    """`draining` is set when the server is about to end: nobody is admitted any more, and all may finish."""

    def __init__(self, *, max_requests: int, max_tokens: int) -> None:
        self.draining = False
        self.num_active = 0  # queued or being answered
        self._users = _Line("requests wait already", max_requests, max_tokens)
        self._idle = _Line("idle requests wait already", max_requests, max_tokens)

    @property
    def num_queued(self) -> int:
        return self._users.num_requests + self._idle.num_requests

    @property
    def num_queued_tokens(self) -> int:
        return self._users.num_tokens + self._idle.num_tokens

    @property
    def num_refused(self) -> int:
        return self._users.num_refused + self._idle.num_refused

    def enter(self) -> "Ticket":
        """ApiError 429 if too many wait, 503 while the server drains."""
        if self.draining:
            raise unavailable("the server is shutting down", fix="send the request again", seconds=5)
        self._users.enter()
        self.num_active += 1
        return Ticket(self, self._users, self._idle)


class _Line:
    """Those of one kind that wait."""

    def __init__(self, what: str, max_requests: int, max_tokens: int) -> None:
        self._what, self._max_requests, self._max_tokens = what, max_requests, max_tokens
        self.num_requests = self.num_tokens = self.num_refused = 0
        self._usual_wait_seconds = 1.0

    def enter(self) -> None:
        """ApiError 429 if it is full."""
        if self.num_requests >= self._max_requests:
            raise self._too_many(f"{self.num_requests} {self._what}")
        self.num_requests += 1

    def carry(self, num_tokens: int) -> None:
        """One of them has a prompt of this length. ApiError 429 if it can't wait with the others; alone it may, however
        long."""
        if self.num_tokens and self.num_tokens + num_tokens > self._max_tokens:
            raise self._too_many(f"prompts of {self.num_tokens} tokens wait already")
        self.num_tokens += num_tokens

    def leave(self, num_tokens: int) -> None:
        self.num_requests -= 1
        self.num_tokens -= num_tokens

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

    def __init__(self, admission: Admission, line: _Line, idle: _Line) -> None:
        self._admission, self._line, self._idle = admission, line, idle
        self._num_tokens = 0
        self._queued = self._active = True

    def stand_aside(self) -> None:
        """The request turns out to be idle work. ApiError 429, and the ticket is gone, if too much of that waits."""
        self._line.leave(self._num_tokens)
        self._line = self._idle
        try:
            self._line.enter()
        except ApiError:
            self._queued = False
            self.end()
            raise

    def carry(self, num_tokens: int) -> None:
        """The prompt is known now. ApiError 429, and the ticket is gone, if it is too long to wait with the others."""
        try:
            self._line.carry(num_tokens)
        except ApiError:
            self.end()
            raise
        self._num_tokens = num_tokens

    def begin(self, waited_seconds: float | None = None) -> None:
        """The first token is there, or never comes."""
        if self._queued:
            self._queued = False
            self._line.leave(self._num_tokens)
            if waited_seconds is not None:
                self._line.waited(waited_seconds)

    def end(self) -> None:
        self.begin()
        if self._active:
            self._active = False
            self._admission.num_active -= 1
