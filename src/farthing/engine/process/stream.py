"""The deltas of a client's requests between the engine, which pushes them, and the answer that reads them.

Belongs to one asyncio loop. Knows no process and no sockets: engine_client.py fills it.
"""

import asyncio
from collections.abc import Callable, Sequence

from farthing.engine.accounts.step_record import Charge
from farthing.engine.request import Delta, Request


class Stream:
    """The deltas of one or several requests, as they come. Iterating yields lists: all that waits is taken at once, and
    an empty one after a `wake`, which is how a reader is given a moment to do something else.

    `seconds` of steps were charged to them so far, `limit_seconds` of these are what the machine's peaks allow;
    `queue_seconds` passed before their first step, None before it.
    """

    def __init__(self, requests: Sequence[Request], forget: Callable[[str], None]) -> None:
        self.request_ids = tuple(request.request_id for request in requests)
        self._forget = forget
        self._num_unread = self._num_to_come = sum(request.params.n for request in requests)  # samples without end
        self._waiting: list[Delta] = []
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self.seconds = self.limit_seconds = 0.0
        self.queue_seconds: float | None = None

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> list[Delta]:
        if not self._num_unread:
            raise StopAsyncIteration
        if not self._waiting and self._error is None:
            await self._news.wait()
        self._news.clear()
        if not self._waiting and self._error is not None:
            raise self._error
        deltas, self._waiting = self._waiting, []
        self._num_unread -= sum(delta.finish_reason is not None for delta in deltas)
        return deltas

    def close(self) -> None:
        """Nothing more is wanted; the engine drops what still runs. May be called twice."""
        for request_id in self.request_ids:
            self._forget(request_id)

    def wake(self) -> None:
        self._news.set()

    def charge(self, charge: Charge) -> None:
        """Steps that computed something of theirs have ended."""
        self.queue_seconds = max(self.queue_seconds or 0.0, charge.queue_seconds)
        self.seconds += charge.seconds
        self.limit_seconds += charge.limit_seconds

    def push(self, delta: Delta) -> bool:
        """Whether this was the last one."""
        self._waiting.append(delta)
        self._num_to_come -= delta.finish_reason is not None
        self._news.set()
        return not self._num_to_come

    def fail(self, error: Exception) -> None:
        self._error = error
        self._news.set()
