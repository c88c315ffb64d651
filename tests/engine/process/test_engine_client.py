"""The owner of an engine process, with engines that are a few lines: what it says of how one was lost."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from farthing.engine.config import EngineConfig
from farthing.engine.process.engine_client import EngineClient, Loss, Watch

_ENGINE = """
import sys, time
from pathlib import Path
import msgspec, zmq
from farthing.engine.process.messages import *
start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start)
events = zmq.Context().socket(zmq.PUSH)
events.connect(start.events_address)
say = lambda event: events.send(encode(event))
say(Planned("an engine for tests", ".", 512, 2048, 16, 8192))
say(Ready())
"""


async def changes(
    script: str, until: str, *, max_restarts: int, on_loading: Callable[[int, int], None] = lambda done, total: None
) -> list[tuple[str, str]]:
    """States and their reasons until the state comes."""
    seen: list[tuple[str, str]] = []
    client = EngineClient(
        "none",
        EngineConfig(),
        watch=Watch(max_restarts=max_restarts),
        command=[sys.executable, "-c", _ENGINE + script],
        on_change=lambda reason: seen.append((client.state, reason)),
        on_loading=on_loading,
    )
    try:
        async with asyncio.timeout(20):
            while until not in [state for state, _ in seen]:
                await asyncio.sleep(0.02)
        return seen
    finally:
        await client.close()


def test_what_one_engine_refused_is_not_told_of_the_next(tmp_path: Path) -> None:
    script = f"""
if not Path({str(tmp_path / "second")!r}).exists():
    Path({str(tmp_path / "second")!r}).touch()
    say(Refused("the model is gone", "put it back"))
    events.close(linger=5000)
    sys.exit(2)
events.close(linger=5000)
sys.exit(7)
"""
    seen = asyncio.run(changes(script, "failed", max_restarts=1))
    reasons = [reason for state, reason in seen if state != "ready"]
    assert "the model is gone" in reasons[0]
    assert reasons[1] == "the engine process ended with exit code 7"


def test_an_engine_whose_events_can_not_be_read_any_more_is_lost() -> None:
    def fail(done_bytes: int, all_bytes: int) -> None:
        raise OSError("no more")

    seen = asyncio.run(changes("say(Loading(1, 2))\ntime.sleep(60)", "restarting", max_restarts=1, on_loading=fail))
    assert seen[-1] == ("restarting", "its events can't be read: OSError('no more')")


async def losses(script: str, *, max_restarts: int) -> list[Loss]:
    """What is told of an engine until none is started any more."""
    lost: list[Loss] = []
    client = EngineClient(
        "none",
        EngineConfig(),
        watch=Watch(max_restarts=max_restarts),
        command=[sys.executable, "-c", _ENGINE + script],
        on_loss=lost.append,
    )
    try:
        async with asyncio.timeout(20):
            while client.state != "failed":
                await asyncio.sleep(0.02)
        return lost
    finally:
        await client.close()


def test_a_loss_has_the_exit_code_and_the_last_status_and_the_last_one_says_that_no_engine_is_left() -> None:
    script = """
import os
say(Stepped([], [], EngineStatus(num_steps=7)))
context = events.context
events.close(linger=5000)
context.term()
os.abort()
"""
    crash, last = asyncio.run(losses(script, max_restarts=1))
    assert (crash.kind, crash.exit_code, crash.status.num_steps) == ("crash", -6, 7)
    assert (last.kind, last.exit_code, last.status.num_steps) == ("failed", -6, 7)


def test_a_model_that_was_refused_at_the_start_is_no_loss() -> None:
    script = _ENGINE.replace("say(Ready())\n", "")
    assert script != _ENGINE
    refused = 'say(Refused("no such model", "name another"))\nevents.close(linger=5000)\nsys.exit(2)'

    async def play() -> list[Loss]:
        lost: list[Loss] = []
        command = [sys.executable, "-c", script + refused]
        client = EngineClient("none", EngineConfig(), watch=Watch(), command=command, on_loss=lost.append)
        async with asyncio.timeout(20):
            while client.state != "failed":
                await asyncio.sleep(0.02)
        await client.close()
        return lost

    assert asyncio.run(play()) == []
