"""Clients of a server, for tests: they speak HTTP over their own sockets, leave when they like, check what they get.

A Reply is `whole` only if its HTTP message came to its end; of a stream, `is_complete` asks for its last event besides.
`Load` keeps several kinds of clients at work at a time and counts what became of them.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

HANG_SECONDS = 60.0
JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request brought. `seconds` from its sending to its end, `first_seconds` to the first token of a stream."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    seconds: float
    first_seconds: float = 0.0

    def json(self) -> JSON:
        return json.loads(self.body)

    @property
    def events(self) -> list[JSON]:
        """Of a stream, its data without comments and without [DONE]."""
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line) for line in lines if line != b"[DONE]"]

    @property
    def text(self) -> str:
        return "".join(choice.get("text", "") for event in self.events for choice in event.get("choices", ()))

    @property
    def error(self) -> JSON | None:
        """Of a stream, the error event in place of its end."""
        return next((event["error"] for event in self.events if "error" in event), None)

    @property
    def finish_reasons(self) -> list[str]:
        return [choice["finish_reason"] for event in self.events for choice in event.get("choices", ())
                if choice["finish_reason"]]  # fmt: skip

    @property
    def is_complete(self) -> bool:
        """A whole answer that came to its own end, once."""
        if self.status != 200 or not self.whole:
            return False
        if "event-stream" not in self.headers["content-type"]:
            return all(choice["finish_reason"] for choice in self.json()["choices"])
        done = self.body.endswith(b"data: [DONE]\n\n") and self.body.count(b"[DONE]") == 1
        return done and self.error is None and len(self.finish_reasons) == 1


class Exchange:
    """One request on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.status, self.headers, self.body = 0, dict[str, str](), b""
        self.whole = False
        self._reader, self._writer = reader, writer
        self._started = time.monotonic()
        self._first_seconds = 0.0

    async def head(self) -> None:
        """Status and headers."""
        if self.status:
            return
        self.status = int((await self._reader.readline()).split()[1])
        while (line := (await self._reader.readline()).strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()

    async def chunks(self) -> AsyncIterator[bytes]:
        await self.head()
        if "content-length" in self.headers:
            self.body = await self._reader.readexactly(int(self.headers["content-length"]))
            yield self.body
        else:
            while size := int(await self._reader.readline(), 16):
                chunk = (await self._reader.readexactly(size + 2))[:-2]
                self.body += chunk
                if not self._first_seconds and b'"text":"' in chunk:
                    self._first_seconds = time.monotonic() - self._started
                yield chunk
        self.whole = True

    async def tokens(self, number: int) -> None:
        """Waits until the stream has brought so many events with text."""
        if number:
            async for _ in self.chunks():
                if self.body.count(b'"text":"') >= number:
                    return

    async def rest(self) -> Reply:
        """All that still comes; a connection that breaks makes a Reply that is not whole."""
        try:
            async with asyncio.timeout(HANG_SECONDS):
                async for _ in self.chunks():
                    pass
        except (asyncio.IncompleteReadError, OSError, IndexError, ValueError):
            pass
        seconds = time.monotonic() - self._started
        return Reply(self.status, self.headers, self.body, self.whole, seconds, self._first_seconds)

    def leave(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def exchange(
    url: str,
    path: str,
    value: JSON | bytes | None = None,
    *,
    method: str = "POST",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Exchange]:
    """Sends a request; what of the answer is read is the caller's choice."""
    address = urlsplit(url)
    body = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**20)
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {text}\r\n" for name, text in headers.items()) + "\r\n"
        writer.write(head.encode() + body)
        yield Exchange(reader, writer)
    finally:
        writer.transport.abort()


async def ask(
    url: str,
    path: str,
    value: JSON | bytes | None = None,
    *,
    method: str = "POST",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Reply:
    """The whole answer."""
    async with exchange(url, path, value, method=method, headers=headers) as running:
        return await running.rest()


async def get(url: str, path: str) -> Reply:
    return await ask(url, path, method="GET")


def completion(model: str, prompt: str | list[int], **fields: Any) -> JSON:
    """A greedy streamed completion of 20 tokens, unless `fields` say otherwise."""
    usual = {"temperature": 0, "max_tokens": 20, "ignore_eos": True, "stream": True}
    return {"model": model, "prompt": prompt, **usual, **fields}


@dataclass(slots=True)
class Load:
    """`clients` are asked for in turn at random, `width` at a time, for `seconds`; each says what became of it."""

    clients: Sequence[Callable[[random.Random], Awaitable[str]]]
    width: int
    seed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    async def run(self, seconds: float) -> None:
        rng, end = random.Random(self.seed), time.monotonic() + seconds

        async def worker() -> None:
            while time.monotonic() < end:
                self.outcomes[await rng.choice(self.clients)(rng)] += 1

        await asyncio.gather(*(worker() for _ in range(self.width)))


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds. Memory is what it has written itself, wherever it lies now: in RAM or in swap."""

    memory_bytes: int
    num_files: int
    num_threads: int


def footprint(process_id: int) -> Footprint:
    folder = Path("/proc") / str(process_id)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    memory = sum(int(status[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap"))
    return Footprint(memory, len(list((folder / "fd").iterdir())), int(status["Threads"]))


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
