"""Time: silence while a step takes long, requests that take too long, a clock that jumps.

Scenario F36, and the promises of streams: headers at once, a comment at most 5 s apart.
"""

import asyncio
import json
import time
from itertools import pairwise
from pathlib import Path

import httpx
from load import completion
from server_process import serving

from farthing.scheduler.sequence import IDLE_PRIORITY

# Every look at the calendar is a year off, now ahead and now behind.
JUMPING = """
import itertools, time
calendar, jumps = time.time, itertools.cycle((0.0, 3e7, -3e7, 6e7))
time.time = lambda: calendar() + next(jumps)
"""


def test_a_slow_step_is_bridged_by_comments_and_a_late_request_is_told(tmp_path: Path) -> None:
    """Steps of 5 s, and 7 s for a request: one token, then the end of its time."""
    scripts = tmp_path / "scripts.json"
    scripts.write_text("{}")
    with serving(script="scripted.py", arguments=[str(scripts), "5"], request_timeout=7.0) as server:
        value = completion(server.model, "Once upon a time", max_tokens=50)

        async def stream(client: httpx.AsyncClient) -> list[tuple[float, str]]:
            started = time.monotonic()
            async with client.stream("POST", f"{server.url}/v1/completions", json=value) as answer:
                seen = [(time.monotonic() - started, "headers")]
                async for line in answer.aiter_lines():
                    seen.append((time.monotonic() - started, line))
            return seen

        async def both() -> tuple[list[tuple[float, str]], httpx.Response]:
            async with httpx.AsyncClient(timeout=30) as client:
                whole = client.post(f"{server.url}/v1/completions", json={**value, "stream": False})
                return await asyncio.gather(stream(client), whole)

        seen, whole = asyncio.run(both())
        lines = [(moment, line) for moment, line in seen if line]
        assert lines[0][1] == "headers" and lines[0][0] < 3.0
        assert lines[1][1].startswith(":")  # a comment comes before the first token
        assert all(later - sooner < 5.5 for (sooner, _), (later, _) in pairwise(lines))
        assert json.loads(lines[-2][1].removeprefix("data: "))["error"]["code"] == "request_timeout"
        assert lines[-1][1] == "data: [DONE]"
        assert whole.status_code == 504 and whole.json()["error"]["code"] == "request_timeout"
        assert whole.headers["x-should-retry"] == "false"
        assert server.await_idle()["num_ended_requests"]["failed"] == 2


def test_idle_work_has_no_user_s_time_limit(tmp_path: Path) -> None:
    """Three steps of a second each, and 1.5 s for a request."""
    scripts = tmp_path / "scripts.json"
    scripts.write_text("{}")
    with serving(script="scripted.py", arguments=[str(scripts), "1"], request_timeout=1.5) as server:
        value = completion(server.model, "Once upon a time", max_tokens=3, stream=False)
        statuses = [
            httpx.post(f"{server.url}/v1/completions", json={**value, **more}, timeout=60).status_code
            for more in ({}, {"priority": IDLE_PRIORITY})
        ]
        assert statuses == [504, 200]


def test_a_clock_that_jumps_disturbs_nothing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    with serving(environment={"PYTHONPATH": str(tmp_path)}, stall_seconds=5.0, max_restarts=0) as server:
        value = completion(server.model, "Once upon a time", max_tokens=30, stream=False)
        answers = [httpx.post(f"{server.url}/v1/completions", json=value, timeout=30).json() for _ in range(3)]
        assert len({answer["choices"][0]["text"] for answer in answers}) == 1
        created = [answer["created"] for answer in answers]
        assert max(created) - min(created) > 10**6, "the clock did not jump"
        assert httpx.get(f"{server.url}/health").text == "ok"
        assert server.await_idle()["num_restarts"] == 0
        assert len(server.events("request")) == 3
