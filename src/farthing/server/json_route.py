"""A router whose routes take a JSON body only if it is a sound one: bounded in depth and size before it is built.

Knows no schema; that is the next check, by the route's own type.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from farthing.server.errors import ApiError
from farthing.server.json_body import parse_json


class JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            body = await request.body()
            if body:
                _require_json(request.headers.get("content-type"))
                parse_json(body)
            return await handle(request)

        return checked


def _require_json(content_type: str | None) -> None:
    """Only if it says otherwise: many a client says nothing."""
    kind = (content_type or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise ApiError(415, f"the body is declared as {kind:.80}", fix="send JSON with Content-Type: application/json")


def json_router() -> APIRouter:
    return APIRouter(route_class=JsonRoute)
