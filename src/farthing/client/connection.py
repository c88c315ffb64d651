"""A server as its clients see it: HTTP/1.1 over plain sockets, one connection a request, answers as they arrive.

Small on purpose: a load generator that shares two cores with what it measures must not be the load. Knows no API.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from farthing.errors import FarthingError, UsageError

DEFAULT_URL = "http://127.0.0.1:8000"
_MAX_LINE_BYTES = 2**24  # an event with the log-probabilities of a whole vocabulary
_PORTS = {"http": 80, "https": 443}


class ConnectionLostError(FarthingError):
    """The server can't be reached, or the connection ended before the answer did."""


@dataclass(frozen=True, slots=True)
class Server:
    """`url` without a path; `key`: sent as a bearer token. Made by `at`."""

    url: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, url: str, *, key_file: Path | None = None) -> "Server":
        """UsageError for what is no address of a server, or a key file that can't be read."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            port = 0
        path = parts.path.rstrip("/").removesuffix("/v1")
        if not (parts.hostname and port) or path or parts.query or parts.username:
            raise UsageError(f"{url!r:.100} is no address of a server", fix="write http://HOST:PORT")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{parts.scheme}://{host}:{port}", None if key_file is None else read_key(key_file))

    @asynccontextmanager
    async def exchange(
        self, method: str, path: str, body: Mapping[str, Any] | bytes | None = None
    ) -> AsyncIterator["Reply"]:
        """A request, and its answer once its head is there. ConnectionLostError if there is none, or if it breaks off.

        Leaving early closes the connection, which ends the request.
        """
        parts = urlsplit(self.url)
        context = ssl.create_default_context() if parts.scheme == "https" else None
        try:
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=context, limit=_MAX_LINE_BYTES
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ConnectionLostError(
                f"no server answers at {self.url}: {reason}", fix="start one: farthing serve"
            ) from None
        try:
            writer.write(self._head(method, path, parts.netloc, content := _content(body)) + content)
            reply = Reply(reader, self.url)
            await reply.read_head()
            yield reply
        finally:
            writer.transport.abort()

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Status and parsed body; a body that is no JSON comes as text."""
        async with self.exchange(method, path, body) as reply:
            content = await reply.read()
        try:
            return reply.status, json.loads(content)
        except ValueError:
            return reply.status, content.decode(errors="replace")

    def _head(self, method: str, path: str, host: str, content: bytes) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        if self.key is not None:
            lines.append(f"Authorization: Bearer {self.key}")
        if content:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Reply:
    """An answer whose head has been read. Its body is read once: by `read`, or by `events`."""

    def __init__(self, reader: asyncio.StreamReader, url: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._reader, self._url = reader, url

    async def read_head(self) -> None:
        with self._receiving():
            self.status = int((await self._reader.readuntil(b"\n")).split()[1])
            while line := (await self._reader.readuntil(b"\n")).strip():
                name, _, value = line.decode("latin-1").partition(":")
                self.headers[name.strip().lower()] = value.strip()

    async def read(self) -> bytes:
        """All of the body."""
        return b"".join([chunk async for chunk in self._chunks()])

    async def events(self) -> AsyncIterator[bytes]:
        """What stands behind each `data:` of a stream of server-sent events, as it arrives."""
        rest = b""
        async for chunk in self._chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    yield line[5:].strip()

    async def _chunks(self) -> AsyncIterator[bytes]:
        with self._receiving():
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int((await self._reader.readuntil(b"\n")).split(b";")[0], 16):
                    yield (await self._reader.readexactly(size + 2))[:-2]
            elif "content-length" in self.headers:
                yield await self._reader.readexactly(int(self.headers["content-length"]))
            else:
                yield await self._reader.read()

    @contextmanager
    def _receiving(self) -> Iterator[None]:
        """What is no HTTP, or ends too early, is a lost connection."""
        try:
            yield
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError):
            raise ConnectionLostError(f"the connection to {self._url} broke", fix="send the request again") from None


def read_key(path: Path) -> str:
    """The first key of a file as `farthing serve --api-keys` takes it: `key` or `name:key`. UsageError without one."""
    try:
        lines = [line.strip() for line in path.read_text("ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise UsageError(f"the key file {path} can't be read: {reason}", fix="name a file with a key in it") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"the key file {path} has no key", fix="put one there, as KEY or NAME:KEY")
    return keys[0].rpartition(":")[2]


def _content(body: Mapping[str, Any] | bytes | None) -> bytes:
    if body is None:
        return b""
    return body if isinstance(body, bytes) else json.dumps(body).encode()
