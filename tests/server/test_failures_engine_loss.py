"""The engine process dies, by a signal, by a fault of a step or of one row: who was served is told, and it goes on.

Scenarios F1, F22, F28. Faults are those of tests/engines/faulty.py.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from load import Exchange, Reply, ask, completion, exchange, footprint, get
from server_process import SLOW, ServerProcess, serving

RESTART_SECONDS = 30.0


@pytest.fixture(scope="module")
def faulty_server() -> Iterator[ServerProcess]:
    with serving(script="faulty.py", engine=SLOW, max_restarts=20) as running:
        yield running


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = RESTART_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def health(server: ServerProcess) -> int:
    return (await get(server.url, "/health")).status


async def recovered(server: ServerProcess) -> Reply:
    """The answer to the next request, once the server is healthy again."""

    async def healthy() -> bool:
        return await health(server) == 200

    await until(healthy)
    reply = await ask(server.url, "/v1/completions", completion(server.model, "Once upon a time"))
    assert reply.is_complete
    return reply


async def running_streams(stack: AsyncExitStack, server: ServerProcess, number: int) -> list[Exchange]:
    """Streams that have brought some tokens and have many to come."""
    value = completion(server.model, "Once upon a time", max_tokens=450)
    running = [await stack.enter_async_context(exchange(server.url, "/v1/completions", value)) for _ in range(number)]
    for each in running:
        await each.tokens(2)
    return running


def test_numbers_that_are_none_fail_their_own_request_and_no_other(faulty_server: ServerProcess) -> None:
    server, prompt = faulty_server, "There was a fox in the wood who met FAULT:nan one day and said"

    async def play() -> None:
        before = server.status()["engine"]["num_failed_sequences"]
        quiet = await ask(server.url, "/v1/completions", completion(server.model, "Once upon a time"))
        streamed, whole, other = await asyncio.gather(
            ask(server.url, "/v1/completions", completion(server.model, prompt)),
            ask(server.url, "/v1/completions", completion(server.model, prompt, stream=False)),
            ask(server.url, "/v1/completions", completion(server.model, "Once upon a time")),
        )
        assert streamed.status == 200 and streamed.whole and streamed.error is not None
        assert streamed.error["code"] == "request_failed" and streamed.text
        assert whole.status == 500 and whole.json()["error"]["code"] == "request_failed"
        assert other.is_complete and other.text == quiet.text
        status = server.await_idle()
        assert status["engine"]["num_failed_sequences"] == before + 2 and status["num_restarts"] == 0

    asyncio.run(play())


def test_what_a_failed_step_computed_is_not_found_in_the_cache(faulty_server: ServerProcess) -> None:
    server = faulty_server
    prompt = (
        "A poisoned story of FAULT:nan begins here and goes on for a while so that it fills some blocks of the cache"
    )

    async def play() -> None:
        first = await ask(server.url, "/v1/completions", completion(server.model, prompt))
        assert first.error is not None
        first_text = first.text
        again = await ask(server.url, "/v1/completions", completion(server.model, prompt))
        assert again.error is not None and again.text == first_text
        longer = completion(server.model, prompt + first_text, max_tokens=3, stream=False)
        healthy = await ask(server.url, "/v1/completions", longer)
        assert healthy.is_complete
        used = healthy.json()["usage"]
        assert used["prompt_tokens_details"]["cached_tokens"] < used["prompt_tokens"] - 3

    asyncio.run(play())
    server.await_idle()


def test_streams_of_a_killed_engine_end_with_an_error_and_the_next_engine_serves(faulty_server: ServerProcess) -> None:
    server = faulty_server

    async def play() -> None:
        files_before = footprint(server.process.pid)
        restarts = server.status()["num_restarts"]
        quiet = await recovered(server)
        async with AsyncExitStack() as stack:
            streams = await running_streams(stack, server, 4)
            os.kill(server.engine_pid(), signal.SIGKILL)
            killed = time.monotonic()
            await asyncio.sleep(0.1)  # its connections are gone, and nobody has looked for it yet
            late = asyncio.gather(  # within the moment in which the death is not known yet
                *(ask(server.url, "/v1/completions", completion(server.model, "Late")) for _ in range(3))
            )
            streams[0].leave()
            replies = await asyncio.gather(*(stream.rest() for stream in streams[1:]))
            assert time.monotonic() - killed < 2.0
            for reply in replies:
                assert reply.whole and reply.error is not None and reply.error["code"] == "unavailable"
            assert await health(server) == 503
            assert (await get(server.url, "/livez")).status == 200
            refused = await ask(server.url, "/v1/completions", completion(server.model, "Now"))
            assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1
            for reply in await late:
                assert reply.status == 503 or reply.error is not None
        assert (await recovered(server)).text == quiet.text
        assert server.status()["num_restarts"] == restarts + 1
        server.await_idle()
        files = footprint(server.process.pid)
        assert files.num_files <= files_before.num_files + 3 and files.num_threads <= files_before.num_threads + 3

    asyncio.run(play())


@pytest.mark.parametrize("fault", ["memory", "abort"])
def test_a_fault_in_a_step_restarts_the_engine_and_gives_its_memory_back(
    faulty_server: ServerProcess, fault: str
) -> None:
    server = faulty_server

    async def play() -> None:
        old = server.engine_pid()
        memory = footprint(old).memory_bytes
        reply = await ask(server.url, "/v1/completions", completion(server.model, f"A FAULT:{fault} comes"))
        assert reply.error is not None and reply.error["code"] == "unavailable"
        await recovered(server)
        assert not os.path.exists(f"/proc/{old}")
        assert footprint(server.engine_pid()).memory_bytes < memory * 1.5
        server.await_idle()

    asyncio.run(play())


def test_a_server_whose_restarts_are_used_up_says_so_and_ends() -> None:
    with serving(script="faulty.py", engine=SLOW, max_restarts=1) as server:

        async def play() -> None:
            for prompt in ("A FAULT:error comes", "And a FAULT:error again"):
                await recovered(server)
                reply = await ask(server.url, "/v1/completions", completion(server.model, prompt))
                assert reply.whole and reply.error is not None

        asyncio.run(play())
        assert server.process.wait(20) == 1
        assert "the engine failed: the engine process ended with exit code 1" in server.output()
        assert "RuntimeError: a kernel failed" in server.output()
