"""How the server stands, for those who watch it: the ledger as JSON, and the same as metrics for Prometheus."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from farthing.server.desk import Desk
from farthing.server.metrics import CONTENT_TYPE, Metrics
from farthing.server.snapshot import snapshot


def router(desk: Desk) -> APIRouter:
    routes = APIRouter(tags=["health"])
    metrics = Metrics(desk)
    documented: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Metrics in Prometheus' text form.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    }

    @routes.get("/farthing/ledger")
    async def ledger() -> dict[str, Any]:
        """Speed against the machine's limit and the plan, where the time goes, why it is slow, what it costs."""
        return snapshot(desk)

    @routes.get("/metrics", responses=documented, response_class=Response)
    async def prometheus() -> Response:
        """For Prometheus to scrape."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return routes
