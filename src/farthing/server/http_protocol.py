"""uvicorn's HTTP/1.1 protocol with limits on what a connection may hold before a request is whole.

Bytes, headers, request line, time to send them, and requests sent ahead (pipelined). What they say beyond the limits
is answered once, with an error object, and the connection closes. llhttp itself refuses a message with two lengths.
Bytes that bring neither a header's end nor a body are counted too: half a header, trailers, extensions of chunks.
Knows no route.
"""

import asyncio
from dataclasses import dataclass

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from farthing.server.errors import error_body

LINGER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Of one connection. Real clients send below 4 KiB and 40 headers; a gateway's tokens make it a few more."""

    max_header_bytes: int = 64 * 2**10
    max_headers: int = 100
    max_url_bytes: int = 8 * 2**10
    max_pipelined_requests: int = 16
    max_pipelined_body_bytes: int = 64 * 2**10  # of each
    header_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    message: str
    code: str


_MALFORMED = _Refusal(400, "this is not a valid HTTP request", "invalid_http")
_HEADERS = _Refusal(431, "the headers are too large or too many", "headers_too_large")
_URL = _Refusal(414, "the request line is too long", "url_too_long")
_HOST = _Refusal(400, "a request needs exactly one Host header", "invalid_host")
_AHEAD = _Refusal(429, "too much was sent ahead on one connection", "too_many_requests")
_SLOW = _Refusal(408, "the headers did not arrive in time", "request_timeout")


class LimitedProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=LimitedProtocol)`. Other limits: a subclass with another `limits`."""

    limits = HttpLimits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._refused: _Refusal | None = None
        self._in_message = False
        self._in_headers = True
        self._progressed = False
        self._cycles: list[RequestResponseCycle] = []  # being answered or waiting for it
        self._num_header_bytes = 0
        self._num_idle_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn tells the newest request alone, which is not the one that is being answered if it was sent ahead."""
        self._stop_header_timer()
        for cycle in self._cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._progressed = False
        if self._in_message or data.strip(b"\r\n"):  # line ends between requests are nothing, and start no clock
            super().data_received(data)
        self._num_idle_bytes = 0 if self._progressed else self._num_idle_bytes + len(data)
        if self._num_idle_bytes > self.limits.max_header_bytes and not self._refused:
            self._refuse(_HEADERS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = self._progressed = True
        self._start_header_timer()
        self._num_header_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.max_url_bytes:
            self._fail(_URL)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._num_header_bytes += len(name) + len(value) + 4
        if self._num_header_bytes > self.limits.max_header_bytes or len(self.headers) >= self.limits.max_headers:
            self._fail(_HEADERS)
        if self._in_headers:  # a trailer is no header: who may come in is already decided
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._progressed = True
        self._in_headers = False
        self._stop_header_timer()
        num_hosts = sum(name == b"host" for name, _ in self.headers)
        if num_hosts > 1 or (num_hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._fail(_HOST)
        if len(self.pipeline) >= self.limits.max_pipelined_requests:
            self._fail(_AHEAD)
        super().on_headers_complete()
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
        self._cycles.append(self.cycle)
        self.flow.resume_reading()  # uvicorn stops where one is sent ahead, and would not hear that the client leaves

    def on_body(self, body: bytes) -> None:
        self._progressed = True
        if self.pipeline and len(self.cycle.body) + len(body) > self.limits.max_pipelined_body_bytes:
            self._fail(_AHEAD)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progressed = self._in_headers = True
        self._in_message = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's way out of everything that its parser or a callback refuses."""
        self._refuse(self._refused or _MALFORMED)

    def _fail(self, refusal: _Refusal) -> None:
        """Ends the parsing: an exception in a callback reaches `send_400_response`."""
        self._refused = refusal
        raise httptools.HttpParserError(refusal.message)

    def _refuse(self, refusal: _Refusal) -> None:
        """One answer, and for a moment what still comes is dropped: closed at once, the client might not read it."""
        self._refused = refusal
        self._stop_header_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body or cycle.response_started or self.pipeline:
                self.transport.close()  # another answer is due or on its way: this one would be read as a part of it
                return
            cycle.disconnected = True  # the request that is broken off is the one that is being served
            cycle.message_event.set()
        body = error_body(refusal.status, refusal.message, code=refusal.code)
        fields = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[refusal.status] + fields + body)
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _start_header_timer(self) -> None:
        """From the connection's start, and from the first byte of every later request."""
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.limits.header_seconds, self._header_time_is_over)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _header_time_is_over(self) -> None:
        self._header_timer = None
        if self.scope is None:
            self.transport.close()  # connected and never spoke: browsers do so
        else:
            self._refuse(_SLOW)
