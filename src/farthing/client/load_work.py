"""What a load consists of: when requests arrive, how long they are, and the token ids of their prompts.

Everything follows from a seed; request number i is the same whatever happened before it. Knows no sockets and no
server. Garbage in a flag or a trace is a UsageError.
"""

import itertools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from farthing.client.load_trace import TraceLine
from farthing.errors import UsageError

_MOST_TOKENS = 10_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """A number of tokens, drawn evenly from `low` to `high`, both included. Written `128` or `U(32,512)`."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str, flag: str) -> "Sizes":
        found = re.fullmatch(r"(\d{1,8})|[Uu]\((\d{1,8}),(\d{1,8})\)", text.replace(" ", "").replace("_", ""))
        if found is None:
            raise UsageError(f"{flag} is {text!r:.40}", fix=f"write a number or a range: {flag} 'U(32,512)'")
        low, high = (int(found[1] or found[place]) for place in (2, 3))
        if not 1 <= low <= high <= _MOST_TOKENS:
            raise UsageError(
                f"{flag} is {text!r:.40}", fix="a range goes from a smaller number, at least 1, to a larger"
            )
        return cls(low, high)

    def draw(self, rng: random.Random) -> int:
        return rng.randint(self.low, self.high)

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"U({self.low},{self.high})"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Token ids from `low` to `high`, both included, that the model surely has."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Job:
    """One request to be sent. `arrival`: seconds since the beginning; None: when a user is free."""

    index: int
    arrival: float | None
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Prompts:
    """Random token ids; the first `prefix_tokens` of every prompt are the same."""

    vocabulary: Vocabulary
    seed: int
    prefix_tokens: int = 0

    def ids(self, job: Job) -> list[int]:
        return [*self._draw("prefix", min(self.prefix_tokens, job.input_tokens)),
                *self._draw(str(job.index), job.input_tokens - self.prefix_tokens)]  # fmt: skip

    def _draw(self, name: str, count: int) -> list[int]:
        if count <= 0:
            return []
        rng = random.Random(f"{self.seed}:{name}")
        return rng.choices(range(self.vocabulary.low, self.vocabulary.high + 1), k=count)


def body_of(job: Job, prompts: Prompts, model: str) -> bytes:
    """The request as JSON: a streamed completion of exactly so many tokens."""
    fields: dict[str, Any] = {
        "model": model,
        "prompt": prompts.ids(job),
        "max_tokens": job.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def jobs_by_rate(rate: float, inputs: Sizes, outputs: Sizes, seed: int) -> Iterator[Job]:
    """Arrivals of a Poisson process: `rate` a second on average, each independent of all others. Without end."""
    rng, arrival = random.Random(f"{seed}:arrivals"), 0.0
    for job in jobs_on_demand(inputs, outputs, seed):
        arrival += rng.expovariate(rate)
        yield Job(job.index, arrival, job.input_tokens, job.output_tokens)


def jobs_on_demand(inputs: Sizes, outputs: Sizes, seed: int) -> Iterator[Job]:
    """For users who send their next request when the last one is answered. Without end."""
    rng = random.Random(f"{seed}:sizes")
    for index in itertools.count():
        yield Job(index, None, inputs.draw(rng), outputs.draw(rng))


def jobs_of_trace(lines: list[TraceLine]) -> Iterator[Job]:
    """The recorded requests, the first one at once."""
    for index, line in enumerate(lines):
        yield Job(index, line.arrival - lines[0].arrival, line.input_tokens, line.output_tokens)


def within(jobs: Iterator[Job], *, requests: int | None, seconds: float | None) -> Iterator[Job]:
    """The first so many, and those that arrive in time."""
    for job in itertools.islice(jobs, requests):
        if seconds is not None and job.arrival is not None and job.arrival > seconds:
            return
        yield job
