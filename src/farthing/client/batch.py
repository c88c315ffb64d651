"""Rows of a batch sent to a server, a number at a time, and what came back kept: until all are done, or it is time.

A row is asked until it has an answer of its own: a server that is busy (429) or away is waited for, what failed by
chance is asked again a few times, and what the row itself is refused for is its answer. Knows HTTP by connection.py; no
files (batch_journal.py) and no terminal.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from farthing.client.batch_file import Row, RowError
from farthing.client.batch_journal import Journal
from farthing.client.batch_result import Result, answered, refused
from farthing.client.connection import ConnectionLostError, Server
from farthing.client.presence import Presence
from farthing.errors import FarthingError
from farthing.scheduler.sequence import IDLE_PRIORITY

AWAY_SECONDS = 300.0

_MAX_TRIES = {500: 3, 502: 20, 503: 20, 504: 3}  # an engine that restarts answers with 503
_MAX_LOST = 20
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.5, 30.0
_MAX_RETRY_AFTER_SECONDS = 60.0
_TICK_SECONDS = 0.2
_SYNC_SECONDS = 1.0
_NUM_RECENT = 64
_ROWS_A_BREATH = 256  # so many that need no server are dealt with before others come to their turn


class KeyRefusedError(FarthingError):
    """The server wants another key: no row would be answered."""


@dataclass(frozen=True, slots=True)
class Terms:
    """`idle`: beside the users of the server, who go first. `until`: when nothing may run any more (as time.time)."""

    concurrency: int
    idle: bool
    until: float | None = None
    away_seconds: float = AWAY_SECONDS


class Batch:
    """`rows` in order; those that the journal has are passed over. `on_progress` is called several times a second."""

    def __init__(
        self,
        server: Server,
        rows: Iterator[Row],
        journal: Journal,
        terms: Terms,
        presence: Presence,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        assert journal.head is not None
        self._server, self._rows, self._journal, self._terms = server, rows, journal, terms
        self._created = journal.head.created
        self._presence, self._on_progress = presence, on_progress
        self._recent_seconds: deque[float] = deque(maxlen=_NUM_RECENT)

    async def run(self) -> None:
        """Until every row was taken, or the time is up; the journal tells which. ServerAwayError, KeyRefusedError or
        JournalError if it can't go on. What is done is kept."""
        tasks = (self._work_all(), self._presence.watch(), self._keep_time(), self._keep_safe())
        running = [asyncio.create_task(task) for task in tasks]
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._on_progress()

    async def _work_all(self) -> None:
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._terms.concurrency):
                    workers.create_task(self._work())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _work(self) -> None:
        """One row after another. All workers take from the same rows, and none waits while it takes one."""
        num_unasked = 0
        for row in self._rows:
            if self._is_late():
                return
            if not self._journal.is_done(row.index):
                if row.error is None:
                    self._journal.append(row.index, await self._answer(row))
                    continue
                self._journal.append(row.index, refused(row, row.error))
            num_unasked += 1
            if num_unasked % _ROWS_A_BREATH == 0:
                await asyncio.sleep(0)

    async def _answer(self, row: Row) -> Result:
        """The row's answer, however long the server has to be waited for."""
        body = request_body(row, idle=self._terms.idle)
        pause, num_lost, tries = _FIRST_PAUSE_SECONDS, 0, dict.fromkeys(_MAX_TRIES, 0)
        while True:
            await self._presence.wait()
            started, asked_to_wait = time.monotonic(), 0.0
            try:
                status, headers, content = await self._ask(row.url, body)
            except ConnectionLostError as error:
                self._presence.doubt()
                num_lost += 1
                if num_lost == _MAX_LOST:
                    return refused(row, RowError("connection_lost", error.what))
            else:
                if status in (401, 403):
                    raise KeyRefusedError(f"the server refuses the key (status {status})", fix="name a good --key-file")
                if status in tries:
                    tries[status] += 1
                if status != 429 and tries.get(status, 0) >= _MAX_TRIES.get(status, 0):
                    self._recent_seconds.append(time.monotonic() - started)
                    return answered(row, status, content, created=self._created)
                if status in (502, 503):
                    self._presence.doubt()
                asked_to_wait = _retry_after(headers)
            await asyncio.sleep(asked_to_wait or pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    async def _ask(self, url: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content. A server that has been silent for long has lost the request."""
        asking = asyncio.create_task(self._exchange(url, body))
        silence = asyncio.create_task(self._presence.silent.wait())
        try:
            await asyncio.wait((asking, silence), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            raise ConnectionLostError(f"{self._server.url} has fallen silent", fix="send the request again")
        finally:
            asking.cancel()
            silence.cancel()
            await asyncio.gather(asking, silence, return_exceptions=True)

    async def _exchange(self, url: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        async with self._server.exchange("POST", url, body) as reply:
            return reply.status, reply.headers, await reply.read()

    def _is_late(self) -> bool:
        """Whether a row like the last ones would not end in time."""
        return (
            self._terms.until is not None and time.time() + max(self._recent_seconds, default=0.0) >= self._terms.until
        )

    async def _keep_time(self) -> None:
        """Ends when nothing may run any more."""
        while self._terms.until is None or time.time() < self._terms.until:
            self._on_progress()
            await asyncio.sleep(_TICK_SECONDS)

    async def _keep_safe(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_SECONDS)
            await asyncio.to_thread(self._journal.sync)


def refuse_rows(rows: Iterable[Row], journal: Journal) -> None:
    """Those that can't be asked: all that are not done, where no server is needed for any other."""
    for row in rows:
        if not journal.is_done(row.index):
            assert row.error is not None
            journal.append(row.index, refused(row, row.error))


def request_body(row: Row, *, idle: bool) -> bytes:
    """What is sent for the row: never streamed; beside users, with the priority that disturbs nobody."""
    body: dict[str, Any] = {name: value for name, value in row.body.items() if name not in ("stream", "stream_options")}
    if idle:
        body["priority"] = IDLE_PRIORITY
    return json.dumps(body).encode()


def _retry_after(headers: dict[str, str]) -> float:
    """Seconds that the server asks to wait, within reason; 0 if it does not."""
    text = headers.get("retry-after", "")
    return min(float(text), _MAX_RETRY_AFTER_SECONDS) if text.isascii() and text.isdigit() else 0.0
