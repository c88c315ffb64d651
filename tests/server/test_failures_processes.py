"""Processes and their surroundings: killed, told to end, started in crowds, without a network, with nobody listening.

Scenarios F7, F8, F9, F24, F36 (the clock: test_failures_time.py).
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from load import Exchange, ask, completion, exchange, get
from server_process import SLOW, ServerProcess, serving

SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}


def chat(server: ServerProcess) -> dict[str, object]:
    """One that needs the template's helper process and that of grammars."""
    message = {"role": "user", "content": "Hello"}
    return {"model": server.model, "messages": [message], "max_tokens": 5, "response_format": SCHEMA}


def port_is_free(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.hostname, address.port))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_killed_server_leaves_no_process_and_its_port(stopped: bool) -> None:
    with serving() as server:
        assert asyncio.run(ask(server.url, "/v1/chat/completions", chat(server))).is_complete
        processes = psutil.Process(server.process.pid).children(recursive=True)
        assert len(processes) >= 3, processes  # the engine and two helpers
        if stopped:
            os.kill(server.engine_pid(), signal.SIGSTOP)
        server.process.kill()
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert not alive
        assert port_is_free(server.url)


def test_a_second_interrupt_ends_a_server_that_waits_for_its_clients() -> None:
    with serving(script="mute.py") as server:
        processes = psutil.Process(server.process.pid).children(recursive=True)

        async def play() -> None:
            async with exchange(server.url, "/v1/completions", completion(server.model, "Once")) as stuck:
                await stuck.head()
                server.process.send_signal(signal.SIGINT)
                while (await get(server.url, "/health")).body != b"draining":
                    await asyncio.sleep(0.02)
                server.process.send_signal(signal.SIGINT)
                assert await asyncio.to_thread(server.process.wait, 5) == 130

        asyncio.run(play())
        assert not psutil.wait_procs(processes, timeout=5)[1]


def test_term_during_the_start_ends_it() -> None:
    with serving(wait=False) as server:
        time.sleep(1.0)
        assert server.end(seconds=10) in (0, -signal.SIGTERM)


async def streams(stack: AsyncExitStack, server: ServerProcess, max_tokens: int) -> list[Exchange]:
    value = completion(server.model, "Once upon a time", max_tokens=max_tokens)
    running = [await stack.enter_async_context(exchange(server.url, "/v1/completions", value)) for _ in range(12)]
    await running[0].tokens(2)
    return running


def test_term_lets_running_requests_end_and_admits_no_new_ones() -> None:
    with serving(engine={**SLOW, "max_num_seqs": 8}) as server:

        async def play() -> None:
            async with AsyncExitStack() as stack:
                running = await streams(stack, server, 100)
                server.process.send_signal(signal.SIGTERM)
                while (await get(server.url, "/readyz")).status == 200:
                    await asyncio.sleep(0.02)
                late = await ask(server.url, "/v1/completions", completion(server.model, "Late"))
                assert late.status == 503 and int(late.headers["retry-after"]) >= 1
                assert (await get(server.url, "/livez")).status == 200
                replies = await asyncio.gather(*(each.rest() for each in running))
                assert all(reply.is_complete and reply.finish_reasons == ["length"] for reply in replies)

        asyncio.run(play())
        assert server.process.wait(10) == 0
        assert port_is_free(server.url)


def test_who_does_not_end_in_time_is_told() -> None:
    with serving(script="faulty.py", engine=SLOW, drain_seconds=1.0) as server:

        async def play() -> None:
            async with AsyncExitStack() as stack:
                running = await streams(stack, server, 480)
                value = completion(server.model, "A FAULT:loop comes")
                running.append(await stack.enter_async_context(exchange(server.url, "/v1/completions", value)))
                await running[-1].tokens(1)
                told = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                for reply in await asyncio.gather(*(each.rest() for each in running)):
                    assert reply.whole and (reply.is_complete or reply.error or reply.status == 503)
                assert await asyncio.to_thread(server.process.wait, 10) == 0
                assert time.monotonic() - told < 5

        asyncio.run(play())


def test_eight_at_once_share_no_port_and_disturb_nobody() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(script="mute.py", wait=False)) for _ in range(8)]
        for server in servers:
            server.await_announcement()
        assert len({server.url for server in servers}) == 8
        assert all(server.status()["state"] == "ok" for server in servers)


def test_of_several_that_want_one_port_one_gets_it_and_the_others_say_why() -> None:
    port = unused_port()
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(script="mute.py", wait=False, port=port)) for _ in range(8)]
        losers = [server for server in servers if not _announced(server)]
        assert len(losers) == 7
        for server in losers:
            assert server.process.wait(10) == 2
            assert server.output().splitlines()[-1].startswith(f"farthing: port {port} of 127.0.0.1 is in use")


def _announced(server: ServerProcess) -> bool:
    """Whether it serves; else it has ended."""
    deadline = time.monotonic() + 30
    while not server.url and server.process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return bool(server.url)


def test_a_server_needs_no_network() -> None:
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"), "http://192.0.2.1:9")
    environment = {**nowhere, "HTTP_PROXY": "http://192.0.2.1:9", "HTTPS_PROXY": "http://192.0.2.1:9"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://nowhere.invalid", "no_proxy": "", "NO_PROXY": ""}
    with serving(environment=environment) as server:
        assert asyncio.run(ask(server.url, "/v1/chat/completions", chat(server))).is_complete
        assert asyncio.run(get(server.url, "/health")).status == 200


def test_a_folder_for_sockets_that_can_not_be_had_is_told_in_a_line(tmp_path: Path) -> None:
    long = tmp_path / ("a" * 100)  # beyond what the address of a socket holds
    long.mkdir()
    with serving(script="mute.py", wait=False, environment={"TMPDIR": str(long)}) as server:
        assert server.process.wait(20) == 2
        assert "farthing: the engine process can't be started:" in server.output()
    assert not list(Path(long).iterdir())


def test_a_server_leaves_no_files_behind() -> None:
    with tempfile.TemporaryDirectory() as folder, serving(script="mute.py", environment={"TMPDIR": folder}) as server:
        assert len(os.listdir(folder)) == 1
        assert server.end() == 0
        assert not os.listdir(folder)


def test_standard_error_that_nobody_reads_holds_up_nothing() -> None:
    port = unused_port()
    command = [sys.executable, "-c", "from farthing.cli.app import main; main()"]
    arguments = ["serve", "--port", str(port), "--threads", "1"]
    with subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        url = f"http://127.0.0.1:{port}"

        async def healthy() -> dict[str, Any]:
            async with asyncio.timeout(30):
                while True:
                    with suppress(OSError):
                        if (await get(url, "/health")).status == 200:
                            return (await get(url, "/farthing/status")).json()
                    await asyncio.sleep(0.05)

        async def play() -> None:
            engine_id = (await healthy())["engine_process_id"]
            fill(Path(f"/proc/{process.pid}/fd/2"))
            os.kill(engine_id, signal.SIGKILL)
            while (await get(url, "/health")).status == 200:
                await asyncio.sleep(0.02)
            assert (await healthy())["engine_process_id"] != engine_id
            assert (await ask(url, "/v1/completions", completion("bundled", "Once"))).is_complete

        try:
            asyncio.run(play())
            process.terminate()
            assert process.wait(15) == 0
        finally:
            process.kill()


def fill(pipe: Path) -> None:
    """With the last byte that it takes."""
    end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        with suppress(BlockingIOError):
            while True:
                os.write(end, b"x")
    finally:
        os.close(end)


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
