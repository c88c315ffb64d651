"""A client of servers: what it sends, what it reads, and what it says when there is nothing to read."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from farthing.client.connection import ConnectionLostError, Server
from farthing.errors import UsageError

PIECES = (b"data: on", b"e\n\n: a comm", b"ent\n\ndata:two\n", b"\n")


@contextmanager
def answering(raw: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives `raw` to everyone, and what it was asked."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.rfile.readline()
            asked.append(head)
            self.wfile.write(raw)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_events_are_put_together_from_any_chunks_and_comments_are_left_out():
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def read(url: str) -> list[bytes]:
        async with Server.at(url).exchange("GET", "/") as reply:
            return [event async for event in reply.events()]

    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in PIECES)
    with answering(head + chunks + b"0\r\n\r\n") as (url, _):
        assert asyncio.run(read(url)) == [b"one", b"two"]


def test_a_body_of_known_length_is_parsed_and_the_key_is_sent(tmp_path: Path):
    key = tmp_path / "key"
    key.write_text("# mine\nme:0123456789abcdef\n")
    with answering(b'HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\n{"a": 1}and more') as (url, asked):
        status, content = asyncio.run(Server.at(url, key_file=key).ask("GET", "/x"))
    assert (status, content) == (404, {"a": 1})
    assert b"GET /x HTTP/1.1" in asked[0] and b"Authorization: Bearer 0123456789abcdef\r\n" in asked[0]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 80\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
    ],
)
def test_an_answer_that_breaks_off_or_is_none_is_a_lost_connection(raw: bytes):
    with answering(raw) as (url, _), pytest.raises(ConnectionLostError):
        asyncio.run(Server.at(url).ask("GET", "/"))


def test_a_mistake_of_the_caller_stays_what_it_is():
    async def fail(url: str) -> None:
        async with Server.at(url).exchange("GET", "/"):
            raise ValueError("mine")

    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (url, _),
        pytest.raises(ValueError, match="mine"),
    ):
        asyncio.run(fail(url))


def test_nobody_at_the_address_is_told_with_the_way_to_a_server():
    with pytest.raises(ConnectionLostError, match="farthing serve"):
        asyncio.run(Server.at("http://127.0.0.1:9").ask("GET", "/"))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://[::1]:80/v1", "http://[::1]:80"),
        ("https://llm.example.org/", "https://llm.example.org:443"),
    ],
)
def test_addresses_are_taken_as_people_write_them(given: str, url: str):
    assert Server.at(given).url == url


@pytest.mark.parametrize("given", ["", "http://", "ftp://x", "http://x:99999", "http://x/path", "http://me:secret@x"])
def test_what_is_no_address_is_refused(given: str):
    with pytest.raises(UsageError, match="http://HOST:PORT"):
        Server.at(given)


def test_a_key_file_without_a_key_is_refused(tmp_path: Path):
    empty = tmp_path / "empty"
    empty.write_text("# nothing\n")
    for path in (empty, tmp_path / "absent"):
        with pytest.raises(UsageError, match="key file"):
            Server.at("localhost:1", key_file=path)
