"""A load on a server: many requests at a time from one thread, each timed from the moment it was to be sent.

Open loop: requests leave when their time has come, however many are unanswered. Closed loop: so many users, each of
whom waits for an answer before asking again. One event loop, one connection a request, little work a token. Knows
neither the lengths nor the arrivals of the requests (load_work.py) nor what is told of them (load_stats.py).
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from farthing.client.connection import ConnectionLostError, Reply, Server
from farthing.client.load_stats import Record
from farthing.client.load_work import Job, Prompts, body_of

PATH = "/v1/completions"
_TELLING_SECONDS = 0.5
_AFTER_REFUSAL_SECONDS = 0.2  # what a user of the closed loop waits before trying again
_MOST_DETAIL = 200

Tell = Callable[["Load"], None]


@dataclass(frozen=True, slots=True)
class Finished:
    """All requests in the order of their sending. `interrupted`: by Ctrl-C; what was not answered by then is cut.
    `generator_share`: processor seconds of this process a second."""

    records: list[Record]
    interrupted: bool
    generator_share: float


class Load:
    """One run against one server. `timeout`: seconds after which a request is given up. `tell(load)` is called twice a
    second."""

    def __init__(
        self, server: Server, model: str, prompts: Prompts, *, timeout: float = 600.0, tell: Tell = lambda load: None
    ) -> None:
        self.records: list[Record] = []
        self.outcomes: Counter[str] = Counter()  # of what has ended
        self.num_running = 0
        self.num_tokens = 0  # events with tokens so far
        self._server, self._model, self._prompts, self._timeout, self._tell = server, model, prompts, timeout, tell
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._began

    async def run_open(self, jobs: Iterator[Job]) -> Finished:
        """Sends each at its arrival; ends when the last answer has."""
        return await self._run(self._send_on_time, jobs)

    async def run_closed(self, jobs: Iterator[Job], *, users: int, seconds: float | None) -> Finished:
        """So many users take jobs until there are none or the time is over; ends when the last answer has."""

        async def send(jobs: Iterator[Job], group: asyncio.TaskGroup) -> None:
            for _ in range(users):
                group.create_task(self._be_a_user(jobs, seconds))

        return await self._run(send, jobs)

    async def _run(self, send: Callable[[Iterator[Job], asyncio.TaskGroup], Any], jobs: Iterator[Job]) -> Finished:
        telling = asyncio.get_running_loop().create_task(self._keep_telling())
        self._began, processor_seconds = time.perf_counter(), time.process_time()
        interrupted = False
        try:
            async with asyncio.TaskGroup() as group:
                await send(jobs, group)
        except asyncio.CancelledError:
            interrupted = True
        finally:
            share = (time.process_time() - processor_seconds) / max(self.seconds, 1e-9)
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
        return Finished(self.records, interrupted, share)

    async def _send_on_time(self, jobs: Iterator[Job], group: asyncio.TaskGroup) -> None:
        for job in jobs:
            assert job.arrival is not None
            body = body_of(job, self._prompts, self._model)
            await asyncio.sleep(job.arrival - self.seconds)
            group.create_task(self._send(self._record(job, job.arrival), body))

    async def _be_a_user(self, jobs: Iterator[Job], seconds: float | None) -> None:
        while (seconds is None or self.seconds < seconds) and (job := next(jobs, None)) is not None:
            body = body_of(job, self._prompts, self._model)
            record = self._record(job, self.seconds)
            await self._send(record, body)
            if record.outcome != "answered":
                await asyncio.sleep(_AFTER_REFUSAL_SECONDS)

    def _record(self, job: Job, scheduled: float) -> Record:
        record = Record(job.index, scheduled, job.input_tokens, job.output_tokens)
        self.records.append(record)
        return record

    async def _send(self, record: Record, body: bytes) -> None:
        record.sent = self.seconds
        self.num_running += 1
        try:
            async with asyncio.timeout(self._timeout), self._server.exchange("POST", PATH, body) as reply:
                if reply.status == 200:
                    await self._read(reply, record)
                else:
                    record.outcome = "refused" if reply.status == 429 else "failed"
                    record.reason, record.detail = _reason(reply.status, await reply.read())
        except TimeoutError:
            _fail(record, "no end in time", f"no end after {self._timeout:g} s")
        except ConnectionLostError as error:
            _fail(record, "connection lost" if record.token_times else "no connection", error.what)
        finally:
            record.ended = self.seconds
            self.outcomes[record.outcome] += 1
            self.num_running -= 1

    async def _read(self, reply: Reply, record: Record) -> None:
        """The stream to its end: when its tokens came, and what it counts."""
        times, done, usage = record.token_times, False, None
        async for event in reply.events():
            now = self.seconds
            if event == b"[DONE]":
                done = True
                continue
            try:
                fields = json.loads(event)
            except ValueError:
                fields = None
            if not isinstance(fields, dict):
                return _fail(record, "no JSON in the stream", event[:_MOST_DETAIL].decode(errors="replace"))
            if "error" in fields:
                return _fail(record, *_reason(reply.status, event))
            if fields.get("choices"):
                times.append(now)
                self.num_tokens += 1
            usage = fields.get("usage") or usage
        if not (done and times):
            return _fail(record, "the stream has no end" if times else "the stream has no tokens", "")
        record.input_tokens = _count(usage, "prompt_tokens", record.asked_input_tokens)
        details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
        record.cached_tokens = _count(details, "cached_tokens", 0)
        record.output_tokens = _count(usage, "completion_tokens", len(times))
        record.outcome = "answered"

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(_TELLING_SECONDS)
            self._tell(self)


def _fail(record: Record, reason: str, detail: str) -> None:
    record.outcome, record.reason, record.detail = "failed", reason, detail


def _count(usage: object, name: str, otherwise: int) -> int:
    """As the server tells it, where it does."""
    said = usage.get(name) if isinstance(usage, dict) else None
    return said if type(said) is int and said >= 0 else otherwise


def _reason(status: int, content: bytes) -> tuple[str, str]:
    """What all errors of this kind share, and the words of this one."""
    try:
        said = json.loads(content)["error"]
        kind, words = said.get("code") or said.get("type") or "", said.get("message") or ""
    except (ValueError, KeyError, TypeError, AttributeError):
        kind, words = "", content.decode(errors="replace")
    return f"HTTP {status} {kind}".strip(), str(words)[:_MOST_DETAIL]
