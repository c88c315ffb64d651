"""The HTTP application, put together: routes, error shapes, and around them the guard and the limits.

The order from outside in: guard (keys, hosts), body limit, routes. Everything is pure ASGI, so that a client that goes
away is noticed. Knows no sockets and no processes: serve.py runs it.
"""

import functools
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from farthing import __version__
from farthing.errors import FarthingError
from farthing.server import ledger_route, models_route, operation_route, page_route, report_route
from farthing.server.body_limit import BodyLimit
from farthing.server.chat import route as chat
from farthing.server.completions import route as completions
from farthing.server.config import ServerConfig
from farthing.server.desk import Desk
from farthing.server.errors import ApiError, api_error
from farthing.server.guard import protect
from farthing.server.keys import KeyRing
from farthing.server.messages import route as messages
from farthing.server.messages.dialect import anthropic_error_body
from farthing.server.responses import route as responses

PUBLIC_PATHS = page_route.PATHS
_ANTHROPIC_PATH = "/v1/messages"


def build_app(desk: Desk, config: ServerConfig, keys: KeyRing | None) -> ASGIApp:
    """The application that a server runs."""
    bounded = BodyLimit(build_routes(desk), max_bytes=config.max_body_bytes, error_body=error_answer_body)
    return protect(
        bounded,
        keys,
        allowed_hosts=config.allowed_host,
        cors_origins=config.cors_origin,
        public_paths=PUBLIC_PATHS,
        error_body=error_answer_body,
    )


def build_routes(desk: Desk) -> FastAPI:
    """The routes alone, with their OpenAPI page."""
    app = FastAPI(
        title="Farthing",
        version=__version__,
        description="LLaMA inference behind OpenAI-compatible and Anthropic-compatible routes.",
        docs_url=None,  # the usual page loads its scripts from elsewhere
        redoc_url=None,
        strict_content_type=False,
    )
    for routes in (
        chat,
        completions,
        responses,
        messages,
        models_route,
        operation_route,
        ledger_route,
        report_route,
        page_route,
    ):
        app.include_router(routes.router(desk))
    refuse = functools.partial(_refuse, desk)
    for kind in (FarthingError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)
    return app


def error_answer_body(path: str, error: ApiError) -> bytes:
    """The error as the API of this path writes it."""
    return anthropic_error_body(error) if path.startswith(_ANTHROPIC_PATH) else error.body()


async def _refuse(desk: Desk, request: Request, error: Exception) -> Response:
    refusal = _as_api_error(error)
    if refusal.status >= 500 and not isinstance(error, FarthingError):
        desk.log.failure("internal error", error, route=request.scope["path"])
    return Response(
        error_answer_body(request.scope["path"], refusal),
        refusal.status,
        headers=refusal.headers,
        media_type="application/json",
    )


def _as_api_error(error: Exception) -> ApiError:
    match error:
        case RequestValidationError():
            first = max(error.errors(), key=lambda found: len(found["loc"]))  # of a union the branch that came furthest
            field = _field(first, error.body) or None
            text = str(first["msg"]).removeprefix("Value error, ")
            return ApiError(400, f"{field or 'the body'}: {text}", code="invalid_value", param=field)
        case HTTPException(status_code=status, detail=detail, headers=headers):
            return ApiError(status, str(detail), code="not_found" if status == 404 else None, headers=headers)
    return api_error(error)


def _field(found: Mapping[str, Any], body: object) -> str:
    """The place of a mistake as the client wrote it: pydantic also names the branches of unions, which are no part of
    the body. What is missing is no part of it either, and is the last of its place."""
    source, *rest = found["loc"]
    if source != "body":
        return ".".join(map(str, rest))
    names, value = [], body
    for part in rest[:-1] if found["type"] == "missing" else rest:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            names.append(str(part))
            value = value[part]
    return ".".join([*names, *map(str, rest[-1:] if found["type"] == "missing" else ())])
