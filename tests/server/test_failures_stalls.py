"""An engine that lives and does nothing: stopped, in an endless loop, or silent. It is found and replaced in time.

Scenarios F2, F4, F8 (SIGTERM with a stuck engine).
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest
from load import Reply, ask, completion, exchange, get
from server_process import SLOW, ServerProcess, serving

STALL_SECONDS = 2.0
SLACK_SECONDS = 3.0  # for the watch to look, and for a busy machine


@pytest.fixture(scope="module")
def watched_server() -> Iterator[ServerProcess]:
    with serving(script="faulty.py", engine=SLOW, stall_seconds=STALL_SECONDS, max_restarts=20) as running:
        yield running


def served(server: ServerProcess, prompt: str = "Once upon a time") -> Reply:
    return asyncio.run(ask(server.url, "/v1/completions", completion(server.model, prompt)))


def recover(server: ServerProcess) -> None:
    deadline = time.monotonic() + 30
    while server.status()["state"] != "ok":
        assert time.monotonic() < deadline, server.output()
        time.sleep(0.05)
    assert served(server).is_complete
    server.await_idle()


def test_a_stopped_engine_is_replaced_within_the_stall_limit(watched_server: ServerProcess) -> None:
    server = watched_server

    async def play() -> None:
        async with exchange(server.url, "/v1/completions", completion(server.model, "Once", max_tokens=450)) as stream:
            await stream.tokens(2)
            stopped = time.monotonic()
            os.kill(server.engine_pid(), signal.SIGSTOP)
            reply = await stream.rest()
            assert reply.whole and reply.error is not None and reply.error["code"] == "unavailable"
            assert STALL_SECONDS - 0.5 < time.monotonic() - stopped < STALL_SECONDS + SLACK_SECONDS
            assert (await get(server.url, "/health")).status == 503
            assert (await get(server.url, "/livez")).status == 200

    asyncio.run(play())
    recover(server)
    assert any("finished no step for" in event["reason"] for event in server.events("engine"))


def test_an_engine_that_is_stopped_while_idle_is_replaced_when_it_is_asked(watched_server: ServerProcess) -> None:
    os.kill(watched_server.engine_pid(), signal.SIGSTOP)
    reply = served(watched_server)
    assert reply.error is not None and reply.error["code"] == "unavailable"
    assert reply.seconds < STALL_SECONDS + SLACK_SECONDS
    recover(watched_server)


def test_an_endless_loop_in_a_step_is_found(watched_server: ServerProcess) -> None:
    reply = served(watched_server, "A FAULT:loop comes")
    assert reply.text and reply.error is not None and reply.error["code"] == "unavailable"
    assert reply.seconds < STALL_SECONDS + SLACK_SECONDS
    recover(watched_server)


def test_an_idle_or_slow_engine_is_left_alone(watched_server: ServerProcess) -> None:
    restarts = watched_server.status()["num_restarts"]
    time.sleep(STALL_SECONDS + 1)
    assert served(watched_server, "A FAULT:slow comes").is_complete
    assert watched_server.status()["num_restarts"] == restarts


def test_a_reader_that_stands_still_is_no_stall(watched_server: ServerProcess) -> None:
    """Its answer is computed long before it is read; the engine has nothing to say meanwhile."""
    server = watched_server
    restarts = server.status()["num_restarts"]
    message = {"role": "user", "content": "Hello"}
    value = {"model": server.model, "messages": [message], "logprobs": True, "top_logprobs": 20, "n": 12,
             "max_tokens": 400, "ignore_eos": True, "stream": True}  # fmt: skip

    async def play() -> None:
        async with exchange(server.url, "/v1/chat/completions", value) as stream:
            await stream.head()
            assert stream.status == 200
            while server.status()["num_open_requests"]:
                await asyncio.sleep(0.1)
            assert server.status()["num_active_requests"] == 1, "it fitted into the buffers: ask for more"
            await asyncio.sleep(STALL_SECONDS + 1)
            assert server.status()["num_restarts"] == restarts
            stream.leave()

    asyncio.run(play())
    server.await_idle()


def test_an_engine_that_never_says_anything_again_is_found_and_term_still_ends_the_server() -> None:
    with serving(script="mute.py", stall_seconds=STALL_SECONDS, drain_seconds=0.5, max_restarts=20) as server:
        reply = served(server)
        assert reply.error is not None and reply.seconds < STALL_SECONDS + SLACK_SECONDS
        while server.status()["state"] != "ok":
            time.sleep(0.05)

        async def play() -> None:
            async with exchange(server.url, "/v1/completions", completion(server.model, "Once")) as stream:
                await stream.head()
                told = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                reply = await stream.rest()
                assert reply.whole and reply.error is not None
                assert await asyncio.to_thread(server.process.wait, 10) == 0
                assert time.monotonic() - told < 5

        asyncio.run(play())
