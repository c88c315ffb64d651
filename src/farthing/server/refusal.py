"""A request turned away before the application saw it: one complete answer, in the shape of the API that was asked.

Shared by the parts that stand around the application. Knows no route and no reason of its own.
"""

from collections.abc import Callable

from starlette.types import Scope, Send

from farthing.server.errors import ApiError

ErrorBody = Callable[[str, ApiError], bytes]  # of a path and an error


def openai_body(path: str, error: ApiError) -> bytes:
    """OpenAI's error object, whatever the path."""
    return error.body()


async def refuse(scope: Scope, send: Send, error: ApiError, error_body: ErrorBody, *, more: bool = False) -> None:
    """Sends the whole answer. With `more`, the caller still has to send the empty body message that ends it."""
    body = error_body(scope["path"], error)
    fields = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": more})
