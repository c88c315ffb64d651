"""How an answer reaches its client: as a stream of server-sent events, or whole; never longer than somebody listens.

Pure ASGI: a client that goes away ends its request at once, whatever stands between. Headers of a stream leave before
the first token, and a comment whenever it has been silent for a while. Knows no API's shape: a Dialect writes that.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from farthing.server.answer import Answer, Dialect
from farthing.server.errors import api_error

_MANY_TOKENS = 2000  # to write more than these takes so long that the streams of others would wait
SILENCE_SECONDS = 4.0  # a comment at least every 5 s
_UNREAD_SECONDS = 30.0  # what a client that stops reading gets beyond its time
_COMMENT = b": waiting\n\n"
_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would hold the stream back
}


class ClientGoneError(Exception):
    """Nobody listens any more."""


class AnswerResponse(Response):
    """An ASGI response that computes while it is sent. `timeout` in seconds from now; `on_end(answer, error)` is called
    once, whatever happens, with what went wrong."""

    def __init__(
        self,
        answer: Answer,
        dialect: Dialect,
        *,
        streamed: bool,
        timeout: float,
        headers: Mapping[str, str],
        on_end: Callable[[Answer, Exception | None], None],
    ) -> None:
        super().__init__()
        self._answer, self._dialect, self._streamed = answer, dialect, streamed
        self._timeout, self._more_headers, self._on_end = timeout, headers, on_end
        self._last_sent = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop, stream = asyncio.get_running_loop(), self._answer.stream
        listening = loop.create_task(self._await_disconnect(receive))
        deadline = loop.call_later(self._timeout, stream.fail, TimeoutError())
        beat = loop.create_task(self._beat()) if self._streamed else None
        error: Exception | None = ClientGoneError()
        try:
            async with asyncio.timeout(self._timeout + _UNREAD_SECONDS):
                error = await (self._send_stream(send) if self._streamed else self._send_whole(send))
        finally:
            deadline.cancel()
            listening.cancel()
            if beat is not None:
                beat.cancel()
            stream.close()
            self._on_end(self._answer, error)

    async def _send_stream(self, send: Send) -> Exception | None:
        """What went wrong; the client has been told."""
        dialect, answer = self._dialect, self._answer
        await send(_start(200, {**_STREAM_HEADERS, **self._more_headers}))
        await self._write(send, dialect.begin(answer))
        failure: Exception | None = None
        try:
            async for events in answer:
                data = dialect.take(answer, events) if events else self._comment()
                if data:
                    await self._write(send, data)
            rest = dialect.end(answer)
        except ClientGoneError as gone:
            return gone
        except Exception as error:
            failure, rest = error, dialect.error(api_error(error))
        await send({"type": "http.response.body", "body": rest})
        return failure

    async def _send_whole(self, send: Send) -> Exception | None:
        """What went wrong; the client has been told."""
        answer, status, headers = self._answer, 200, dict(self._more_headers)
        failure: Exception | None = None
        try:
            async for _ in answer:
                pass
            whole = self._dialect.whole
            body = await asyncio.to_thread(whole, answer) if _is_large(answer) else whole(answer)
        except ClientGoneError as gone:
            return gone
        except Exception as error:
            failure, refusal = error, api_error(error)
            status, body = refusal.status, self._dialect.refusal(refusal)
            headers |= refusal.headers
        headers |= {"content-type": "application/json", "content-length": str(len(body))}
        await send(_start(status, headers))
        await send({"type": "http.response.body", "body": body})
        return failure

    async def _write(self, send: Send, data: bytes) -> None:
        self._last_sent = time.monotonic()
        await send({"type": "http.response.body", "body": data, "more_body": True})

    def _comment(self) -> bytes:
        return _COMMENT if time.monotonic() - self._last_sent >= SILENCE_SECONDS else b""

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(SILENCE_SECONDS / 8)
            if self._comment():
                self._answer.stream.wake()

    async def _await_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._answer.stream.fail(ClientGoneError())
        self._answer.stream.close()


def _is_large(answer: Answer) -> bool:
    scored = any(choice.logprobs or choice.prompt_logprobs for choice in answer.choices)
    return scored or answer.num_output_tokens > _MANY_TOKENS


def _start(status: int, headers: Mapping[str, str]) -> dict[str, object]:
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": raw}
