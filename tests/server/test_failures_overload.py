"""More than can be served: the queue is bounded, who does not fit is told when to come back, and who waits is served.

Scenarios F5, F26. The long form is marked slow and prints its figures (`pytest -m slow -s`).
"""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from load import Footprint, Load, Reply, ask, completion, footprint, get, quantile
from server_process import ServerProcess, serving

MAX_QUEUED = 16
MAX_RUNNING = 8
NUM_CLIENTS = 10 * (MAX_QUEUED + MAX_RUNNING)
MINUTE = 60.0


@pytest.fixture(scope="module")
def busy_server() -> Iterator[ServerProcess]:
    engine = {"max_num_seqs": MAX_RUNNING}
    with serving(engine=engine, max_queued_requests=MAX_QUEUED, max_restarts=0) as running:
        yield running


def request(server: ServerProcess, rng: random.Random) -> dict[str, object]:
    prompt = [rng.randrange(5, 2000) for _ in range(rng.randrange(4, 64))]
    return completion(server.model, prompt, stream=rng.random() < 0.5)


async def overload(server: ServerProcess, seconds: float) -> None:
    """Ten clients for every place, each coming back soon after a refusal; figures are checked and printed."""

    async def polite(rng: random.Random) -> str:
        reply = await ask(server.url, "/v1/completions", request(server, rng))
        assert reply.is_complete, reply
        return "served"

    async def pressing(rng: random.Random) -> str:
        reply = await ask(server.url, "/v1/completions", request(server, rng))
        if reply.status == 429:
            assert int(reply.headers["retry-after"]) >= 1 and reply.json()["error"]["code"] == "rate_limit_exceeded"
            await asyncio.sleep(rng.uniform(0.1, 0.5))
            return "refused"
        assert reply.is_complete, reply
        waits.append(reply.seconds)
        return "served"

    async def watch() -> None:
        while True:
            status = (await get(server.url, "/farthing/status")).json()
            queued.append(int(status["num_queued_requests"]))
            prints.append(footprint(server.process.pid))
            await asyncio.sleep(0.2)

    waits: list[float] = []
    queued: list[int] = []
    prints: list[Footprint] = []
    quiet, storm = Load([polite], width=MAX_RUNNING), Load([pressing], width=NUM_CLIENTS)
    quiet_seconds = min(MINUTE, seconds / 3)
    await quiet.run(quiet_seconds)
    watching = asyncio.create_task(watch())
    started = time.monotonic()
    await storm.run(seconds)
    elapsed = time.monotonic() - started
    watching.cancel()
    usual, kept = quiet.outcomes["served"] / quiet_seconds, storm.outcomes["served"] / elapsed
    settled = prints[len(prints) // 4 :]  # connections and buffers are there by then
    growth = settled[-1].memory_bytes - settled[0].memory_bytes
    print(
        f"\n{elapsed:.0f} s: {usual:.1f} requests/s before, {kept:.1f} in the storm, "
        f"{storm.outcomes['refused']} refused, at most {max(queued)} queued, "
        f"answers within {quantile(waits, 0.5):.2f} s (p50), {quantile(waits, 0.99):.2f} s (p99), "
        f"API memory +{growth / 2**20:.1f} MiB"
    )
    assert max(queued) <= MAX_QUEUED
    assert storm.outcomes["refused"] > storm.outcomes["served"]
    assert kept > 0.5 * usual
    assert growth < 16 * 2**20
    status = await asyncio.to_thread(server.await_idle)
    assert status["num_restarts"] == 0 and status["num_ended_requests"]["failed"] == 0
    assert (await ask(server.url, "/v1/completions", completion(server.model, "Once"))).is_complete


def test_ten_times_too_many_clients_meet_a_bounded_queue_and_goodput_is_kept(busy_server: ServerProcess) -> None:
    asyncio.run(overload(busy_server, 5.0))


@pytest.mark.slow
def test_ten_minutes_of_ten_times_too_many_clients(busy_server: ServerProcess) -> None:
    asyncio.run(overload(busy_server, 10 * MINUTE))


def test_health_answers_and_nothing_restarts_while_long_prompts_keep_everything_busy(long_folder: Path) -> None:
    """More prompt tokens wait than the rest of the test could compute; and as many requests as may."""
    limits = {"max_queued_requests": 400, "max_queued_tokens": 100_000}
    with serving(long_folder, engine={"context": 8192}, stall_seconds=4.0, max_restarts=0, **limits) as server:

        async def play() -> None:
            rng = random.Random(0)
            words = ["fox", "tree", "river", "friend", "little", "house", "was", "the"]
            long = [" ".join(rng.choices(words, k=7000)) for _ in range(16)]
            values = [completion(server.model, prompt, max_tokens=4) for prompt in long]
            values += [completion(server.model, "Once upon a time", max_tokens=4) for _ in range(300)]
            asked = [asyncio.create_task(ask(server.url, "/v1/completions", value)) for value in values]
            seconds: list[float] = []
            end = time.monotonic() + 6.0
            while time.monotonic() < end:
                health = await get(server.url, "/health")
                assert health.status == 200
                seconds.append(health.seconds)
                await asyncio.sleep(0.02)
            assert quantile(seconds, 0.99) < 1.0, sorted(seconds)[-5:]
            over = [task.result() for task in asked if task.done()]
            assert all(reply.is_complete or reply.status == 429 for reply in over)
            status = server.status()
            assert status["num_queued_tokens"] <= limits["max_queued_tokens"] and status["num_restarts"] == 0
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

        asyncio.run(play())
        server.await_idle()
        reply: Reply = asyncio.run(ask(server.url, "/v1/completions", completion(server.model, "Once")))
        assert reply.is_complete
