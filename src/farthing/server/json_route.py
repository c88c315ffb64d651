"""A router whose routes take a JSON body only if it is a sound one: bounded in depth and size before it is built.

A large body is read on a thread, so that the streams of others flow on, and no body is read twice: what the route's own
type checks next is the value that was read here. Knows no schema.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from farthing.server.errors import ApiError
from farthing.server.json_body import parse_json

_LARGE_BYTES = 64 * 2**10


class JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            body = await request.body()
            if not body:
                return await handle(request)
            _require_json(request.headers.get("content-type"))
            large = len(body) > _LARGE_BYTES
            value = await asyncio.to_thread(parse_json, body) if large else parse_json(body)
            return await handle(_ReadRequest(request, body, value))

        return checked


class _ReadRequest(Request):
    """A request whose body has been read already."""

    def __init__(self, request: Request, body: bytes, value: dict[str, object]) -> None:
        super().__init__(request.scope, request.receive)
        self._given_body, self._given_value = body, value

    async def body(self) -> bytes:
        return self._given_body

    async def json(self) -> Any:
        return self._given_value


def _require_json(content_type: str | None) -> None:
    """Only if it says otherwise: many a client says nothing."""
    kind = (content_type or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise ApiError(415, f"the body is declared as {kind:.80}", fix="send JSON with Content-Type: application/json")


def json_router() -> APIRouter:
    return APIRouter(route_class=JsonRoute)
