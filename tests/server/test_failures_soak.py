"""Everything at a time and for long: streams, whole answers, conversations, schemas, long prompts, clients that leave.

Scenario F27: no answer is lost, doubled, cut or changed, and nothing grows. The long form (20 minutes) is marked slow
and prints its figures (`pytest -m slow -s`).
"""

import asyncio
import json
import random
import time
from collections.abc import Iterator

import pytest
from load import JSON, Footprint, Load, Reply, ask, completion, exchange, footprint
from server_process import ServerProcess, serving

STORIES = ("Once upon a time", "The little fox", "In a far land there was a king who", "One day")
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"]}
MAX_GROWTH_BYTES = 12 * 2**20
SETTLED_SHARE = 0.3  # of the time; what is kept for good is there by then


@pytest.fixture(scope="module")
def soaked_server() -> Iterator[ServerProcess]:
    engine = {"batch_invariant": True, "max_num_seqs": 8}
    with serving(engine=engine, max_restarts=0) as running:
        yield running


class Soak:
    """The clients of one server, and the answers of its first quiet moment. `exact`: all later ones must equal them, as
    they do where rows do not depend on their batch; else they must be complete."""

    def __init__(self, server: ServerProcess, *, exact: bool) -> None:
        self._server, self._exact = server, exact
        self._known: dict[str, str] = {}

    async def stream(self, rng: random.Random) -> str:
        return await self._same(completion(self._server.model, rng.choice(STORIES), max_tokens=rng.choice((8, 32))))

    async def whole(self, rng: random.Random) -> str:
        return await self._same(completion(self._server.model, rng.choice(STORIES), stream=False))

    async def long_prompt(self, rng: random.Random) -> str:
        return await self._same(completion(self._server.model, rng.choice(STORIES) + " and then" * 150, max_tokens=4))

    async def stop_string(self, rng: random.Random) -> str:
        value = completion(self._server.model, rng.choice(STORIES), stop=["e", "zzz"])
        return await self._same(value)

    async def schema(self, rng: random.Random) -> str:
        message = {"role": "user", "content": rng.choice(STORIES)}
        value = {"messages": [message], "temperature": 0, "max_tokens": 40, "guided_json": SCHEMA}
        return await self._same({"model": self._server.model, **value})

    async def sampled(self, rng: random.Random) -> str:
        """Never seen before, so that cached blocks come and go."""
        prompt = [rng.randrange(5, 2000) for _ in range(rng.randrange(16, 200))]
        value = completion(self._server.model, prompt, temperature=1.0, max_tokens=8)
        reply = await ask(self._server.url, "/v1/completions", value)
        return "sampled" if reply.is_complete else f"broken: {reply}"

    async def leave(self, rng: random.Random) -> str:
        value = completion(self._server.model, rng.choice(STORIES), max_tokens=200, stream=rng.random() < 0.7)
        async with exchange(self._server.url, "/v1/completions", value) as leaving:
            await asyncio.sleep(rng.choice((0, 0.01, 0.1)))
            leaving.leave()
        return "left"

    async def refused(self, rng: random.Random) -> str:
        value = completion(self._server.model, "Once", n=rng.choice((0, 10**9)))
        reply = await ask(self._server.url, "/v1/completions", value)
        return "refused" if reply.status == 400 else f"broken: {reply}"

    async def learn(self) -> None:
        """What each of them answers when it is alone."""
        rng = random.Random(1)
        for client in (self.stream, self.whole, self.long_prompt, self.stop_string, self.schema):
            for _ in range(5):
                await client(rng)

    async def _same(self, value: JSON) -> str:
        path = "/v1/chat/completions" if "messages" in value else "/v1/completions"
        reply = await ask(self._server.url, path, value)
        if not reply.is_complete:
            return f"broken: {reply}"
        key, said = json.dumps(value), _said(reply)
        if not self._exact:
            return "complete"
        return "same" if self._known.setdefault(key, said) == said else f"changed: {said!r} of {key}"


def _said(reply: Reply) -> str:
    if "event-stream" in reply.headers["content-type"]:
        return reply.text
    choice = reply.json()["choices"][0]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


async def soak(server: ServerProcess, seconds: float, *, exact: bool = True) -> None:
    clients = Soak(server, exact=exact)
    await clients.learn()
    every = [clients.stream, clients.whole, clients.long_prompt, clients.stop_string, clients.schema]
    load = Load([*every, clients.sampled, clients.leave, clients.refused], width=12)
    engine_id = server.engine_pid()
    samples: list[tuple[int, Footprint, Footprint]] = []

    async def watch() -> None:
        while True:
            samples.append((load.outcomes.total(), footprint(server.process.pid), footprint(engine_id)))
            await asyncio.sleep(max(0.2, seconds / 500))

    watching = asyncio.create_task(watch())
    started = time.monotonic()
    await load.run(seconds)
    elapsed = time.monotonic() - started
    watching.cancel()
    print(f"\n{elapsed:.0f} s: {dict(load.outcomes)}")
    assert set(load.outcomes) <= {"same", "complete", "sampled", "left", "refused"}, load.outcomes
    settled = samples[int(len(samples) * SETTLED_SHARE) :]
    for name, place in (("API", 1), ("engine", 2)):
        prints = [sample[place] for sample in settled]
        slope = _slope([sample[0] for sample in settled], [each.memory_bytes for each in prints])
        growth = slope * (settled[-1][0] - settled[0][0])
        print(
            f"{name}: {prints[-1].memory_bytes / 2**20:.1f} MiB, {slope:+.1f} bytes per request, "
            f"at most {max(each.num_files for each in prints)} files and "
            f"{max(each.num_threads for each in prints)} threads"
        )
        assert growth < MAX_GROWTH_BYTES
        assert prints[-1].num_threads <= prints[0].num_threads + 2
    idle = await asyncio.to_thread(server.await_idle)
    assert idle["num_restarts"] == 0 and idle["num_ended_requests"]["failed"] == 0
    last = footprint(server.process.pid)
    assert last.num_files <= min(sample[1].num_files for sample in samples) + 4
    assert footprint(engine_id).num_files <= samples[0][2].num_files + 2


def _slope(xs: list[int], ys: list[int]) -> float:
    """Of the straight line through the points that leaves the least squares."""
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / max(spread, 1.0)


def test_everything_at_a_time_loses_nothing_and_grows_nothing(soaked_server: ServerProcess) -> None:
    asyncio.run(soak(soaked_server, 5.0))


@pytest.mark.slow
def test_twenty_minutes_of_everything_at_a_time(soaked_server: ServerProcess) -> None:
    asyncio.run(soak(soaked_server, 20 * 60.0))


@pytest.mark.slow
def test_twenty_minutes_with_the_kernels_that_everybody_uses() -> None:
    with serving(engine={"max_num_seqs": 8}, max_restarts=0) as server:
        asyncio.run(soak(server, 20 * 60.0, exact=False))
