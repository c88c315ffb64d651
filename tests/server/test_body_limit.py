"""The body limit: what the application receives, and what it never sees."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from farthing.server import body_limit
from farthing.server.body_limit import BodyLimit

LIMIT = 1000


class Server:
    """A connection on which the parts of a body arrive, and what was answered on it."""

    def __init__(
        self, parts: Sequence[bytes], headers: Sequence[tuple[bytes, bytes]] = (), *, stalls: bool = False
    ) -> None:
        self.parts, self.headers, self.stalls = list(parts), list(headers), stalls
        self.sent: list[Message] = []
        self.received: list[Message] = []
        self.num_asked = 0

    async def receive(self) -> Message:
        self.num_asked += 1
        await asyncio.sleep(0)
        if self.parts:
            part = self.parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.parts) or self.stalls}
        if self.stalls:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.received.append(await receive())
        self.received.append(await receive())

    async def run(self, limit: BodyLimit) -> None:
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": self.headers}
        await limit(scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def code(self) -> str:
        return str(json.loads(self.sent[1]["body"])["error"]["code"])


def served(
    parts: Sequence[bytes],
    headers: Sequence[tuple[bytes, bytes]] = (),
    *,
    stalls: bool = False,
    seconds: float = 5.0,
) -> Server:
    server = Server(parts, headers, stalls=stalls)
    asyncio.run(server.run(BodyLimit(server.application, max_bytes=LIMIT, max_seconds=seconds)))
    return server


@pytest.fixture(autouse=True)
def short_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "LINGER_SECONDS", 0.05)


@pytest.mark.parametrize("parts", [[b""], [b"a" * LIMIT], [b"a"] * LIMIT, [b"", b"a", b""]])
def test_a_body_arrives_as_one_message_and_then_the_disconnect(parts: list[bytes]):
    server = served(parts)
    whole = {"type": "http.request", "body": b"".join(parts), "more_body": False}
    assert server.received == [whole, {"type": "http.disconnect"}]
    assert server.sent == []


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_asked_for():
    server = Server([b"a" * 10], [(b"content-length", str(LIMIT + 1).encode())])
    seen_at_answer = []

    async def send(message: Message) -> None:
        seen_at_answer.append(server.num_asked)
        server.sent.append(message)

    server.send = send  # type: ignore[method-assign]
    asyncio.run(server.run(BodyLimit(server.application, max_bytes=LIMIT)))
    assert (server.status, server.code, seen_at_answer[0]) == (413, "body_too_large", 0)
    assert server.received == []


def test_a_body_that_grows_over_the_limit_is_refused_though_it_declared_less():
    server = served([b"a" * 400] * 5, [(b"content-length", b"10")])
    assert (server.status, server.code) == (413, "body_too_large")
    assert "--max-body-bytes" in server.sent[1]["body"].decode()
    assert server.received == []


def test_a_refused_connection_closes_after_what_still_came_was_dropped():
    server = served([b"a" * 400] * 9)
    assert (b"connection", b"close") in server.sent[0]["headers"]
    assert server.parts == []
    assert [message["more_body"] for message in server.sent[1:]] == [True, False]


def test_lingering_ends_though_the_client_does_not():
    server = served([b"a" * 400] * 9, stalls=True)
    assert server.status == 413 and not server.sent[-1]["more_body"]


def test_a_body_that_does_not_end_in_time_is_a_408():
    server = served([b"a"], stalls=True, seconds=0.05)
    assert (server.status, server.code, server.received) == (408, "request_timeout", [])


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"deflate", b"identity, gzip", b"GZIP", b""])
def test_an_encoded_body_is_refused(encoding: bytes):
    server = served([b"a"], [(b"content-encoding", encoding)])
    assert (server.status, server.code, server.received) == (415, "encoded_body", [])


def test_identity_is_no_encoding():
    assert served([b"a"], [(b"content-encoding", b"Identity")]).received[0]["body"] == b"a"


def test_a_client_that_leaves_while_it_sends_is_nobody_to_answer():
    server = Server([])
    asyncio.run(server.run(BodyLimit(server.application, max_bytes=LIMIT)))
    assert (server.sent, server.received) == ([], [])


def test_many_large_bodies_at_a_time_are_refused_and_room_returns_when_they_end():
    async def scenario() -> tuple[list[int], Server]:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})

        limit = BodyLimit(application, max_bytes=LIMIT, max_seconds=0.2)
        stalled = [Server([b"a" * LIMIT], stalls=True) for _ in range(body_limit.BODIES_AT_A_TIME + 2)]
        await asyncio.gather(*(server.run(limit) for server in stalled))
        last = Server([b"a" * LIMIT])
        await last.run(limit)
        return [server.status for server in stalled], last

    statuses, last = asyncio.run(scenario())
    assert statuses == [408] * body_limit.BODIES_AT_A_TIME + [503] * 2
    assert last.status == 200


def test_what_is_no_request_passes():
    seen = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    asyncio.run(BodyLimit(application)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
