"""Bytes that nobody should send, on the sockets between the server and its engine: dropped, counted, and nothing else.

Scenario F33. The sockets are in a folder that only its user may enter; the tests are that user.
"""

import asyncio
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from load import ask, completion, footprint
from server_process import BUNDLED, ServerProcess, serving

from farthing.engine.config import EngineConfig
from farthing.engine.process.messages import (
    MAX_MESSAGE_BYTES,
    Cancel,
    Decoder,
    EngineStatus,
    Event,
    Rejected,
    Start,
    Stepped,
    Submit,
    encode,
)
from farthing.engine.request import Delta, Request
from farthing.sampling_params import SamplingParams

REQUEST = Request("intruder", (1, 5, 9), SamplingParams(temperature=0.0, max_tokens=5), 1)


def junk() -> list[bytes]:
    """Messages that are none: random, cut off, endless, of the right form with wrong values."""
    rng = random.Random(0)
    good = encode(Submit(REQUEST))
    wrong = msgspec.msgpack.decode(good)
    wrong[1]["params"]["temperature"] = -1.0
    typed = msgspec.msgpack.decode(good)
    typed[1]["prompt_ids"] = "text"
    return [
        *(rng.randbytes(rng.randrange(200)) for _ in range(500)),
        *(good[:end] for end in range(len(good) - 1)),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        msgspec.msgpack.encode(wrong),
        msgspec.msgpack.encode(typed),
        msgspec.msgpack.encode(["Unpickle", "os.system"]),
    ]


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    folder = tmp_path_factory.mktemp("s")
    with serving(environment={"TMPDIR": str(folder)}, max_restarts=0) as server:
        (found,) = folder.iterdir()
        yield server, found


def test_only_their_user_reaches_the_sockets(sockets: tuple[ServerProcess, Path]) -> None:
    assert sockets[1].stat().st_mode & 0o777 == 0o700
    assert {path.name for path in sockets[1].iterdir()} == {"commands", "events"}


def test_the_server_drops_and_counts_what_is_no_event(sockets: tuple[ServerProcess, Path]) -> None:
    server, folder = sockets
    before = footprint(server.process.pid)
    unknown = Delta("nobody", 0, "x", (1,), "stop")
    stale = encode(Stepped([unknown], [Rejected("nobody", "no", "")], EngineStatus()))
    messages = [*junk(), stale, stale]
    with zmq.Context() as context, context.socket(zmq.PUSH) as intruder:
        intruder.connect(f"ipc://{folder}/events")
        for message in messages:
            intruder.send(message)
        intruder.send(b"\xc1" * (MAX_MESSAGE_BYTES + 1))  # its connection is closed for it

        async def play() -> None:
            value = completion(server.model, "Once upon a time", max_tokens=60)
            assert (await ask(server.url, "/v1/completions", value)).is_complete

        asyncio.run(play())
        deadline = time.monotonic() + 10
        while server.status()["num_dropped_messages"] < len(junk()):
            assert time.monotonic() < deadline, server.status()
            time.sleep(0.05)
        intruder.close(linger=0)
    assert server.status()["num_dropped_messages"] == len(junk())
    assert server.await_idle()["num_restarts"] == 0
    assert footprint(server.process.pid).memory_bytes < before.memory_bytes + 32 * 2**20


def test_bytes_that_are_not_even_the_protocol_reach_nobody(sockets: tuple[ServerProcess, Path]) -> None:
    server, folder = sockets
    rng = random.Random(1)
    for name in ("commands", "events"):
        for size in (1, 64, 4096, 100_000):
            with socket.socket(socket.AF_UNIX) as intruder:
                intruder.settimeout(5)
                intruder.connect(str(folder / name))
                try:
                    intruder.sendall(rng.randbytes(size))
                except OSError:
                    continue  # closed by the other side already
    value = completion(server.model, "Once upon a time")
    assert asyncio.run(ask(server.url, "/v1/completions", value)).is_complete
    assert server.await_idle()["num_restarts"] == 0


def test_the_engine_drops_and_counts_what_is_no_command_and_takes_none_twice(tmp_path: Path) -> None:
    """The test is the engine's owner here."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as commands, context.socket(zmq.PULL) as events:
        addresses = f"ipc://{tmp_path}/c", f"ipc://{tmp_path}/e"
        for end, address in zip((commands, events), addresses, strict=True):
            end.setsockopt(zmq.LINGER, 0)
            end.bind(address)
        process = subprocess.Popen(
            [sys.executable, "-m", "farthing.engine.process.engine_process"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert process.stdin is not None
            start = Start(str(BUNDLED), EngineConfig(threads=1), *addresses)
            process.stdin.write(msgspec.json.encode(start) + b"\n")
            process.stdin.flush()
            decoder = Decoder(Event)

            def until_finished() -> tuple[list[Delta], EngineStatus]:
                deltas: list[Delta] = []
                while not deltas or deltas[-1].finish_reason is None:
                    assert events.poll(30_000), "the engine says nothing more"
                    event = decoder.read(events.recv())
                    if isinstance(event, Stepped):
                        deltas += event.deltas
                        status = event.status
                return deltas, status

            commands.send(encode(Submit(REQUEST)))
            quiet, _ = until_finished()
            for message in junk():
                commands.send(message)
            commands.send(encode(Submit(REQUEST)))
            commands.send(encode(Submit(REQUEST)))  # played again while it runs
            commands.send(encode(Cancel("nobody")))
            deltas, status = until_finished()
            assert [delta.token_ids for delta in deltas] == [delta.token_ids for delta in quiet]
            assert status.num_dropped_messages == len(junk()) + 1
            assert process.poll() is None and decoder.num_dropped == 0
        finally:
            process.kill()
            process.wait(10)
