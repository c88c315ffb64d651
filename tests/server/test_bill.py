"""The bill of a server that was killed under load: what clients were told, what stands on disk, and the clock agree."""

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from load import Load, Reply, ask, completion, exchange
from server_process import ServerProcess, serving

from farthing.engine.accounts.statement import Bill, read_bill
from farthing.hardware.calibration import calibration_folder

PRICE_PER_HOUR = 3.6  # a thousandth of a dollar a second
KEYS = {"alice": "alice-0123456789abcdef", "bob": "bob-0123456789abcdef"}
TICK_SECONDS = 1.0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of its own, in which this machine is measured already."""
    folder = tmp_path / "data" / "farthing"
    folder.mkdir(parents=True)
    if calibration_folder().is_dir():
        (folder / "calibration").symlink_to(calibration_folder())
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text("".join(f"{name}:{key}\n" for name, key in KEYS.items()))
    return path


def header(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


@dataclass
class Clients:
    """Alice's answers all come to their end, and what they said they cost is added up; Bob leaves when he likes."""

    server: ServerProcess
    usages: list[dict[str, Any]] = field(default_factory=list)

    async def alice(self, rng: random.Random) -> str:
        value = completion(
            self.server.model,
            "Once upon a time" + " and then" * rng.randrange(40),
            max_tokens=rng.choice((1, 8, 40)),
            n=rng.choice((1, 1, 3)),
            stream=rng.random() < 0.5,
            stream_options={"include_usage": True},
        )
        if not value["stream"]:
            del value["stream_options"]
        reply = await ask(self.server.url, "/v1/completions", value, headers=header("alice"))
        self.usages.append(usage_of(reply))
        return "answered"

    async def bob(self, rng: random.Random) -> str:
        value = completion(self.server.model, "There was a fox", max_tokens=200)
        async with exchange(self.server.url, "/v1/completions", value, headers=header("bob")) as leaving:
            await leaving.tokens(rng.randrange(4))
            leaving.leave()
        return "left"


def usage_of(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200 and reply.whole, reply
    if "event-stream" in reply.headers["content-type"]:
        return next(event["usage"] for event in reversed(reply.events) if event.get("usage"))
    return reply.json()["usage"]


async def load_and_kill(server: ServerProcess, seconds: float) -> list[dict[str, Any]]:
    """Load of both; then Alice is done while Bob still runs, and the server is killed. What Alice was told."""
    clients = Clients(server)
    await Load([clients.alice, clients.alice, clients.bob], width=6).run(seconds)
    value = completion(server.model, "There was a fox", max_tokens=400)
    async with exchange(server.url, "/v1/completions", value, headers=header("bob")) as running:
        await running.tokens(3)
        await asyncio.sleep(0.2)
        server.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(server.process.wait)
    return clients.usages


def bill(data: Path) -> Bill:
    return read_bill(data / "bill.sqlite", month=time.strftime("%Y-%m", time.gmtime()), by="key")


def check(data: Path, usages: list[dict[str, Any]], up_seconds: float, num_servers: int) -> None:
    """`up_seconds` by the clock of the test, which begins a little before the server's."""
    found = bill(data)
    lines = {line.label: line for line in found.lines}
    told = [usage["farthing"] for usage in usages]
    alice, bob = lines["alice"], lines["bob"]
    assert alice.amount.seconds == pytest.approx(sum(cost["seconds"] for cost in told), rel=1e-3)
    assert alice.amount.dollars == pytest.approx(sum(cost["dollars"] for cost in told), rel=1e-3)
    assert alice.requests == len(usages)
    assert alice.output_tokens == sum(usage["completion_tokens"] for usage in usages)
    assert bob.amount.seconds > 0
    spent = alice.amount.dollars + bob.amount.dollars + found.idle.dollars
    assert spent == pytest.approx(found.total.seconds / 3600 * PRICE_PER_HOUR, rel=1e-3)
    assert found.idle.seconds > 0
    assert up_seconds - num_servers * (TICK_SECONDS + 10) < found.total.seconds < up_seconds


def run(data: Path, keys: Path, seconds: float, times: int) -> None:
    usages: list[dict[str, Any]] = []
    up_seconds = 0.0
    for number in range(1, times + 1):
        started = time.monotonic()
        with serving(
            environment={"XDG_DATA_HOME": str(data.parent)},
            api_keys=str(keys),
            bill=True,
            price_per_hour=PRICE_PER_HOUR,
        ) as server:
            usages += asyncio.run(load_and_kill(server, seconds))
        up_seconds += time.monotonic() - started
        check(data, usages, up_seconds, number)
    total = sum(usage["farthing"]["seconds"] for usage in usages)
    billed = bill(data).lines[0].amount.seconds
    print(f"\n{len(usages)} answers told of {total:.4f} s, the bill says {billed:.4f} s; {up_seconds:.0f} s up")


def test_a_killed_server_leaves_a_bill_that_adds_up_and_the_next_one_goes_on_with_it(data: Path, keys: Path) -> None:
    run(data, keys, 2.0, 2)


@pytest.mark.slow
def test_a_bill_adds_up_after_minutes_of_load_and_a_kill(data: Path, keys: Path) -> None:
    run(data, keys, 240.0, 2)


def test_a_price_that_nobody_knows_leaves_dollars_open_and_counts_the_time(data: Path) -> None:
    with serving(environment={"XDG_DATA_HOME": str(data.parent)}, bill=True) as server:
        value = completion(server.model, "Once", stream=False)
        cost = usage_of(asyncio.run(ask(server.url, "/v1/completions", value)))["farthing"]
        server.end()
    found = bill(data)
    priced = 0.0 if cost["dollars"] is None else found.lines[0].amount.seconds  # some processors are in the catalogue
    assert found.lines[0].amount.priced_seconds == priced
    assert found.lines[0].amount.seconds == pytest.approx(cost["seconds"], rel=1e-3)


def test_a_bill_that_cannot_be_kept_is_said_and_the_server_serves(tmp_path: Path) -> None:
    (tmp_path / "farthing").mkdir()
    (tmp_path / "farthing" / "bill.sqlite").write_text("no database" * 100)
    if calibration_folder().is_dir():
        (tmp_path / "farthing" / "calibration").symlink_to(calibration_folder())
    with serving(environment={"XDG_DATA_HOME": str(tmp_path)}, bill=True) as server:
        assert "no bill is kept" in server.output()
        value = completion(server.model, "Once", stream=False)
        assert asyncio.run(ask(server.url, "/v1/completions", value)).status == 200
