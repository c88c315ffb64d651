"""The report of a plan beside the server's figures."""

from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from server_process import ServerProcess

from farthing.server.books import Books
from farthing.server.report_route import router


def test_without_a_plan_file_there_is_none_and_the_ledger_says_so(server: ServerProcess) -> None:
    answer = httpx.get(f"{server.url}/farthing/report", timeout=10)
    assert answer.status_code == 404 and "farthing serve plan.toml" in answer.text
    assert httpx.get(f"{server.url}/farthing/ledger", timeout=10).json()["report"] == []


def test_a_report_is_a_page_that_can_load_nothing() -> None:
    app = FastAPI()
    desk: Any = SimpleNamespace(books=Books(reports={"en": "<p>a plan</p>", "zh": "<p>规划</p>"}))
    app.include_router(router(desk))
    answer = TestClient(app).get("/farthing/report?lang=zh")
    assert answer.text == "<p>规划</p>" and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert TestClient(app).get("/farthing/report?lang=xx").status_code == 422
