"""The report of the plan file that is served, as a page: what was planned, beside the page that shows what is measured.

Made once, before the server starts (cli/serve.py). Like every figure it needs a key where there are keys.
"""

from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from farthing.server.desk import Desk
from farthing.server.errors import ApiError

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"


def router(desk: Desk) -> APIRouter:
    routes = APIRouter()

    @routes.get("/farthing/report", include_in_schema=False)
    async def report(lang: Literal["en", "zh"] = "en") -> Response:
        page = desk.books.reports.get(lang)
        if page is None:
            raise ApiError(404, "no plan file is served", fix="start with one: farthing serve plan.toml")
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    return routes
