"""The body of a request, whole and bounded, before the application is asked.

Pure ASGI. Limits its bytes (declared and counted), the time in which it has to arrive and the bytes of all bodies
that are arriving together; no encodings, because a small one may hide a large body. Then the application receives it
as one message, and after that the connection's own messages: a disconnect reaches it. Knows no JSON.
"""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farthing.server.errors import ApiError
from farthing.server.refusal import ErrorBody, openai_body, refuse

# A million tokens, the longest context of today's models, is 4 MB of English and 9 MB of Chinese as \uXXXX escapes.
DEFAULT_MAX_BODY_BYTES = 16 * 2**20
DEFAULT_BODY_SECONDS = 60.0
BODIES_AT_A_TIME = 8  # of the largest size; as many more as they are smaller
LINGER_SECONDS = 2.0


class _Disconnected(Exception):
    pass


class BodyLimit:
    """The middleware. A body over `max_bytes` is a 413, one that takes longer than `max_seconds` a 408."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int = DEFAULT_MAX_BODY_BYTES,
        max_seconds: float = DEFAULT_BODY_SECONDS,
        error_body: ErrorBody = openai_body,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._arriving_bytes = 0
        self._error_body = error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._body(scope, receive)
        except _Disconnected:
            return
        except ApiError as error:
            await self._refuse_and_linger(error, scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given, body
            if given:
                return await receive()
            given = True
            message = {"type": "http.request", "body": body, "more_body": False}
            body = b""  # the application's alone from here on: it may outlive its usefulness by a long stream
            return message

        await self._app(scope, replay, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        headers = scope["headers"]
        if any(name == b"content-encoding" and value.strip().lower() != b"identity" for name, value in headers):
            raise _refusal(415, "an encoded body is not accepted", "send it without Content-Encoding", "encoded_body")
        declared = [int(value) for name, value in headers if name == b"content-length" and value.isdigit()]
        if max(declared, default=0) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._max_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Disconnected
                    chunk = message.get("body", b"")
                    self._arriving_bytes += len(chunk)
                    body += chunk
                    more = message.get("more_body", False)
                    self._check(len(body))
        except TimeoutError:
            what = f"the body did not arrive within {self._max_seconds:g} s"
            raise _refusal(408, what, "send it faster, or less", "request_timeout") from None
        finally:
            self._arriving_bytes -= len(body)
        return bytes(body)

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise self._too_large()
        if self._arriving_bytes > BODIES_AT_A_TIME * self._max_bytes:
            raise _refusal(503, "too many large bodies are arriving", "send it again later", "overloaded")

    def _too_large(self) -> ApiError:
        what = f"the body is larger than {self._max_bytes:,} bytes"
        return _refusal(413, what, "send less, or restart with a larger --max-body-bytes", "body_too_large")

    async def _refuse_and_linger(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, then drops what still comes for a moment: a client that is still sending would else not read it."""
        await refuse(scope, send, error, self._error_body, more=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _refusal(status: int, what: str, fix: str, code: str) -> ApiError:
    """The connection ends with it: what is left of the body is nobody's."""
    headers = {"connection": "close"} | ({"retry-after": "1"} if status == 503 else {})
    return ApiError(
        status,
        what,
        fix=fix,
        type="server_error" if status == 503 else "invalid_request_error",
        code=code,
        headers=headers,
    )
