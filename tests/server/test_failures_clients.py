"""Clients that leave, and clients that are sent away: nothing of them stays, and nobody else notices.

Scenarios F10, F11, F13, F14 (everything between client and engine is the real application with its middleware).
"""

import asyncio
import random
from collections.abc import Iterator

import pytest
from load import JSON, Load, ask, completion, exchange, footprint
from server_process import SLOW, ServerProcess, serving

STORIES = ("Once upon a time", "The little fox", "In a far land", "One day a boy")


@pytest.fixture(scope="module")
def exact_server() -> Iterator[ServerProcess]:
    """A row of its steps does not depend on the others, so that greedy texts can be compared. Eight run at a time."""
    with serving(engine={**SLOW, "max_num_seqs": 8}, max_restarts=0) as running:
        yield running


def next_is_answered(server: ServerProcess) -> JSON:
    reply = asyncio.run(ask(server.url, "/v1/completions", completion(server.model, "Once upon a time")))
    assert reply.is_complete
    return server.await_idle()


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("moment", ["unread", "waiting", "prefill", "decode", "late"])
def test_a_client_that_leaves_gives_everything_back(exact_server: ServerProcess, moment: str, streamed: bool) -> None:
    server = exact_server
    before = server.await_idle()["num_ended_requests"]
    prompt = "word " * 400 if moment == "prefill" else "Once upon a time"
    value = completion(server.model, prompt, max_tokens=100, stream=streamed)

    async def play() -> None:
        others = []
        if moment == "waiting":  # behind eight that run
            busy = completion(server.model, "The others", max_tokens=60)
            others = [asyncio.create_task(ask(server.url, "/v1/completions", busy)) for _ in range(8)]
            while server.status()["engine"]["num_running"] < 8:
                await asyncio.sleep(0.01)
        async with exchange(server.url, "/v1/completions", value) as leaving:
            if moment == "unread":
                leaving.leave()
                return
            while not server.status()["num_open_requests"] > len(others):
                await asyncio.sleep(0.001)
            if moment == "decode":
                await (leaving.tokens(3) if streamed else asyncio.sleep(0.05))
            if moment == "late":
                while server.status()["num_open_requests"]:
                    await asyncio.sleep(0.001)
            leaving.leave()
        assert all(reply.is_complete for reply in await asyncio.gather(*others))

    asyncio.run(play())
    after = next_is_answered(server)["num_ended_requests"]
    assert after["failed"] == before["failed"]
    if moment in ("waiting", "decode"):
        assert after["cancelled"] == before["cancelled"] + 1


def test_streams_come_through_a_storm_of_aborts_unchanged(exact_server: ServerProcess) -> None:
    server = exact_server

    async def survivor(rng: random.Random) -> str:
        story = rng.choice(STORIES)
        reply = await ask(server.url, "/v1/completions", completion(server.model, story, max_tokens=40))
        return "right" if reply.is_complete and reply.text == texts[story] else f"wrong {story}: {reply}"

    async def aborted(rng: random.Random) -> str:
        value = completion(server.model, rng.choice(STORIES), max_tokens=300, stream=rng.random() < 0.5)
        async with exchange(server.url, "/v1/completions", value) as leaving:
            await asyncio.sleep(rng.choice((0, 0, 0.002, 0.01, 0.05)))
            leaving.leave()
        return "aborted"

    async def play() -> None:
        for story in STORIES:
            reply = await ask(server.url, "/v1/completions", completion(server.model, story, max_tokens=40))
            texts[story] = reply.text
        storm, streams = Load([aborted], width=16), Load([survivor], width=4)
        await storm.run(0.5)  # what a first storm allocates is not counted
        server.await_idle()
        api, engine = footprint(server.process.pid), footprint(server.engine_pid())
        await asyncio.gather(storm.run(4.0), streams.run(4.0))
        assert set(streams.outcomes) == {"right"} and streams.outcomes["right"] >= 4, streams.outcomes
        assert storm.outcomes["aborted"] > 400
        server.await_idle()
        api_after, engine_after = footprint(server.process.pid), footprint(server.engine_pid())
        assert api_after.num_files <= api.num_files + 2 and api_after.num_threads <= api.num_threads + 2
        assert (engine_after.num_files, engine_after.num_threads) == (engine.num_files, engine.num_threads)
        assert api_after.memory_bytes < api.memory_bytes + 16 * 2**20
        assert engine_after.memory_bytes < engine.memory_bytes + 16 * 2**20

    texts: dict[str, str] = {}
    asyncio.run(play())
    next_is_answered(server)


def test_a_request_that_is_cancelled_by_its_id_gets_an_end_of_its_own(exact_server: ServerProcess) -> None:
    server = exact_server
    before = server.await_idle()["num_ended_requests"]

    async def play() -> None:
        value = completion(server.model, "Once upon a time", max_tokens=400)
        async with exchange(server.url, "/v1/completions", value) as running:
            await running.tokens(2)
            cancel = f"/farthing/cancel/{running.headers['x-request-id']}"
            assert (await ask(server.url, cancel)).json() == {"cancelled": True}
            reply = await running.rest()
            assert reply.whole and reply.error is not None and reply.error["code"] == "cancelled"
            assert (await ask(server.url, cancel)).json() == {"cancelled": False}

    asyncio.run(play())
    after = next_is_answered(server)["num_ended_requests"]
    assert (after["cancelled"], after["failed"]) == (before["cancelled"] + 1, before["failed"])
    assert server.events("request")[-2]["outcome"] == "cancelled"
