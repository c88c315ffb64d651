"""Is it alive, is it ready, how does it stand: a word each for probes, figures for its owner, and an end to a request.

`/livez` fails when only a restart of the whole server would help; `/readyz` and `/health` fail while requests would not
be served. None of them waits for the engine.
"""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from farthing.server.desk import Desk
from farthing.server.documented import error_responses
from farthing.server.snapshot import word

SCHEMA = "farthing.status/1"


def router(desk: Desk) -> APIRouter:
    routes = APIRouter(tags=["health"])
    documented: dict[int | str, dict[str, Any]] = {
        200: {"description": "ok", "content": {"text/plain": {"schema": {"type": "string"}}}},
        503: {"description": "Why not, in a word.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    }

    @routes.head("/livez", include_in_schema=False)
    @routes.get("/livez", responses=documented, response_class=PlainTextResponse)
    async def livez() -> Response:
        """Whether this server can still be of use."""
        failed = desk.service.engine.state in ("failed", "closed")
        return PlainTextResponse("failed" if failed else "ok", 503 if failed else 200)

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", responses=documented, response_class=PlainTextResponse)
    async def readyz() -> Response:
        """Whether requests are served now."""
        return _ready(desk)

    @routes.head("/health", include_in_schema=False)
    @routes.get("/health", responses=documented, response_class=PlainTextResponse)
    async def health() -> Response:
        """The same as /readyz, where others look for it."""
        return _ready(desk)

    @routes.get("/farthing/status")
    async def status() -> dict[str, Any]:
        """Engine, queue, KV blocks and counters."""
        service = desk.service
        engine, admission = service.engine, service.admission
        return {
            "schema": SCHEMA,
            "state": word(desk),
            "models": list(service.names),
            "context": service.context,
            "num_restarts": engine.num_restarts,
            "engine_process_id": engine.process_id,
            "engine": {name: getattr(engine.status, name) for name in engine.status.__struct_fields__},
            "num_open_requests": engine.num_open,
            "num_active_requests": admission.num_active,
            "num_queued_requests": admission.num_queued,
            "num_queued_tokens": admission.num_queued_tokens,
            "num_refused_requests": admission.num_refused,
            "num_ended_requests": dict(desk.num_ended),
            "num_dropped_messages": engine.num_dropped_messages,
            "ignored_fields": dict(desk.ignored.counts),
        }

    @routes.post("/farthing/cancel/{request_id}", responses=error_responses(), tags=["generate"])
    async def cancel(request_id: str, http: Request) -> dict[str, bool]:
        """End a request by the id in its header x-request-id; its own response ends with an error that says so."""
        return {"cancelled": desk.cancel(http.state.key_id or "", request_id)}

    return routes


def _ready(desk: Desk) -> Response:
    said = word(desk)
    return PlainTextResponse(said, 200 if said == "ok" else 503)
