"""The limits of a connection, over raw sockets against uvicorn."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from farthing.server.http_protocol import HttpLimits, LimitedProtocol
from farthing.server.listen import bind

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LONG = GET.replace(b"/", b"/long", 1)
left: list[float] = []  # when the application was told that a client of /long had gone


class Impatient(LimitedProtocol):
    """With less time, so that the tests take little of it."""

    limits = HttpLimits(header_seconds=0.5)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, then answers with its length and the number of headers; at /long for a second, in three parts."""
    length = 0
    while (message := await receive()).get("more_body"):
        length += len(message["body"])
    length += len(message.get("body", b""))
    body = b"%d bytes, %d headers" % (length, len(scope["headers"]))
    headers = [(b"content-length", str(len(body)).encode())]
    if scope["path"] == "/long":
        await answer_long(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_long(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    gone = asyncio.create_task(receive())
    for part in (b"one ", b"two ", b"three"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
        done, _ = await asyncio.wait([gone], timeout=0.33)
        if done:
            left.append(time.monotonic())
            return
    gone.cancel()
    await send({"type": "http.response.body", "body": b""})


def serving(protocol: type[LimitedProtocol]) -> Iterator[int]:
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        application, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    yield from serving(LimitedProtocol)


@pytest.fixture(scope="module")
def impatient_port() -> Iterator[int]:
    yield from serving(Impatient)


def ask(port: int, *parts: bytes) -> bytes:
    """Everything that comes back until the server closes, at the latest a second after the last answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it closed already
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    content = b""
    try:
        while part := connection.recv(65536):
            content += part
    except ConnectionResetError:
        pass
    return content


def answered(port: int, request: bytes) -> bytes:
    """The first answer to a request on a connection that stays open until it came."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        content = b""
        while b"\r\n\r\n" not in content and (part := connection.recv(65536)):
            content += part
        return content


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def assert_serves(port: int) -> None:
    assert status(answered(port, GET)) == 200


def test_an_ordinary_request_is_served_in_any_pieces(port: int):
    request = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            connection.sendall(bytes([byte]))
        assert b"5 bytes, 2 headers" in connection.recv(65536)
        connection.sendall(GET)
        assert b"0 bytes, 1 headers" in connection.recv(65536)


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Big: " + b"a" * 70_000 + b"\r\n",
        b"X-Huge: " + b"a" * 2_000_000,
        b"X" * 2_000_000,
        b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(70)),
        b"".join(b"X-%d: a\r\n" % number for number in range(100)),
    ],
    ids=["one large", "one without end", "a name without end", "large together", "101"],
)
def test_headers_beyond_the_limits_are_a_431(port: int, headers: bytes):
    answer = answered(port, b"GET / HTTP/1.1\r\n" + HOST + headers + b"\r\n")
    assert status(answer) == 431
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "headers_too_large"
    assert_serves(port)


def test_headers_at_the_limits_are_served(port: int):
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 600) for number in range(99))
    assert b"100 headers" in ask(port, b"GET / HTTP/1.1\r\n" + HOST + headers + b"\r\n")


@pytest.mark.parametrize("length", [9_000, 1_000_000])
def test_a_long_request_line_is_a_414(port: int, length: int):
    assert status(answered(port, b"GET /" + b"a" * length + b" HTTP/1.1\r\n" + HOST + b"\r\n")) == 414


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
        b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A : b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\rX-B: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
        b"NONSENSE / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_a_400(port: int, request_bytes: bytes):
    answer = answered(port, request_bytes)
    assert status(answer) == 400
    assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])


def test_headers_that_do_not_end_in_time_are_a_408_though_they_keep_coming(impatient_port: int):
    with socket.create_connection(("127.0.0.1", impatient_port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + HOST)
        connection.settimeout(0.05)
        content = b""
        for _ in range(100):
            try:
                connection.sendall(b"X-A: a\r\n" if not content else b"")
                content += connection.recv(65536)
                break
            except TimeoutError:
                continue
        assert status(content) == 408


@pytest.mark.parametrize("before", [b"", GET, GET + b"\r\n"])
def test_a_connection_that_says_nothing_or_only_line_ends_is_closed(impatient_port: int, before: bytes):
    with socket.create_connection(("127.0.0.1", impatient_port), timeout=10) as connection:
        if before:
            connection.sendall(before + b"\r\n")
        answer = read_all(connection)
        assert answer == b"" or status(answer) == 200


def test_slow_requests_do_not_hold_up_others(impatient_port: int):
    slow = [socket.create_connection(("127.0.0.1", impatient_port), timeout=10) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"GET / HTTP/1.1\r\n")
    assert_serves(impatient_port)
    for connection in slow:
        connection.close()


def test_a_body_may_take_longer_than_the_headers(impatient_port: int):
    with socket.create_connection(("127.0.0.1", impatient_port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n")
        for _ in range(10):
            threading.Event().wait(0.1)
            connection.sendall(b"a")
        assert b"10 bytes" in connection.recv(65536)


def test_a_few_requests_sent_ahead_are_answered_in_order_and_many_close_the_connection(port: int):
    assert ask(port, GET * 10).count(b"200 OK") == 10
    assert ask(port, GET * 1000).count(b"200 OK") < 1000
    assert_serves(port)


@pytest.mark.parametrize(
    "ahead",
    [GET, GET * 15, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 900000\r\n\r\n" + b"a" * 800_000],
    ids=["one", "as many as may", "a large body"],
)
def test_who_leaves_is_missed_though_requests_were_sent_ahead(port: int, ahead: bytes):
    left.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(LONG)
        assert b"200 OK" in connection.recv(65536)
        with suppress(OSError):  # so much ahead that the server closes
            connection.sendall(ahead)
    deadline = time.monotonic() + 5
    while not left:
        assert time.monotonic() < deadline, "nobody told the application"
        time.sleep(0.02)


def test_line_ends_behind_a_body_are_nothing(impatient_port: int):
    with socket.create_connection(("127.0.0.1", impatient_port), timeout=10) as connection:
        connection.sendall(b"POST /long HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello\r\n")
        connection.sendall(b"\r\n")
        answer = read_all(connection)  # until the connection has been idle for long enough
    assert answer.endswith(b"three\r\n0\r\n\r\n") and answer.count(b"HTTP/1.1") == 1


def test_line_ends_do_not_keep_a_connection_alive(impatient_port: int):
    with socket.create_connection(("127.0.0.1", impatient_port), timeout=0.1) as connection:
        connection.sendall(GET)
        deadline, content = time.monotonic() + 5, b""
        with suppress(OSError):
            while time.monotonic() < deadline:
                connection.sendall(b"\r\n")
                with suppress(TimeoutError):
                    if not (part := connection.recv(65536)):
                        break
                    content += part
        assert time.monotonic() < deadline and content.count(b"HTTP/1.1") == 1


def test_the_headers_of_a_later_request_have_to_end_in_time_too(impatient_port: int):
    with socket.create_connection(("127.0.0.1", impatient_port), timeout=10) as connection:
        connection.sendall(GET)
        assert status(connection.recv(65536)) == 200
        connection.sendall(b"\r\nG")
        assert status(read_all(connection)) == 408


def test_a_trailer_is_no_header(port: int):
    chunked = (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Api-Key: a\r\n\r\n"
    )
    assert b"5 bytes, 2 headers" in ask(port, chunked)


@pytest.mark.parametrize(
    "rest", [b"0\r\nX-A: ", b"0\r\n", b"5;"], ids=["a trailer", "a trailer's name", "an extension"]
)
def test_what_follows_a_body_without_end_closes_the_connection(port: int, rest: bytes):
    start = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    ask(port, start + rest, b"a" * 5_000_000)
    assert_serves(port)


def test_trailers_beyond_the_limit_close_the_connection(port: int):
    start = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
    assert b"200 OK" not in ask(
        port, start + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(100)) + b"\r\n"
    )


def test_an_upgrade_is_answered_as_a_request(port: int):
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"
    assert status(answered(port, b"GET / HTTP/1.1\r\n" + HOST + upgrade + b"\r\n")) == 200
