"""What is asked of a deployment: when requests come, how long they are, which of them begin alike.

Everything follows from a seed, and from the same one as `farthing bench serve`: what is simulated is the load that can
be sent. Token ids stand for texts: requests of one group share a prefix, and nothing else is ever the same. Knows no
scheduler and no seconds of a step.
"""

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from farthing.errors import UsageError
from farthing.planner.simulation.lengths import Lengths

MAX_REQUESTS = 1_000_000
MAX_USERS = 100_000
OUTPUT_TOKEN = 0
_FIRST_PROMPT_TOKEN = 1


@dataclass(frozen=True, slots=True)
class Request:
    """`arrival` in seconds since the beginning; None: `think_seconds` after a user is free, who then sends it.
    `group`: of those that begin alike, from 0."""

    index: int
    arrival: float | None
    input_tokens: int
    output_tokens: int
    group: int = 0
    think_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Prefixes:
    """`tokens` at the start of a prompt are those of its group (a system prompt); `groups` of them, all as likely."""

    tokens: int = 0
    groups: int = 1

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise UsageError(f"--prefix-tokens is {self.tokens}", fix="it must be at least 0")
        if not 1 <= self.groups <= MAX_REQUESTS:
            raise UsageError(f"--prefixes is {self.groups}", fix=f"it lies between 1 and {MAX_REQUESTS:,}")


@dataclass(frozen=True, slots=True)
class Workload:
    """`requests` in the order in which they are sent. `users`: None where they come by themselves. `line`: in words."""

    requests: tuple[Request, ...]
    users: int | None
    prefixes: Prefixes
    line: str

    @property
    def longest_input(self) -> int:
        return max(request.input_tokens for request in self.requests)

    @property
    def longest_output(self) -> int:
        return max(request.output_tokens for request in self.requests)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, prompt and answer."""
        return max(request.input_tokens + request.output_tokens for request in self.requests)

    def mean_lengths(self) -> tuple[int, int]:
        """Of prompts and of answers, in whole tokens."""
        count = len(self.requests)
        inputs = sum(request.input_tokens for request in self.requests) / count
        outputs = sum(request.output_tokens for request in self.requests) / count
        return max(1, round(inputs)), max(1, round(outputs))

    def prompt_ids(self, request: Request) -> list[int]:
        """As many as it has tokens: those of its group, then at least one of its own."""
        shared = min(self.prefixes.tokens, request.input_tokens - 1)
        own = _FIRST_PROMPT_TOKEN + self.prefixes.groups + request.index
        return [_FIRST_PROMPT_TOKEN + request.group] * shared + [own] * (request.input_tokens - shared)


_NO_PREFIX = Prefixes()


def by_rate(
    rate: float, num_requests: int, inputs: Lengths, outputs: Lengths, *, prefixes: Prefixes = _NO_PREFIX, seed: int = 0
) -> Workload:
    """Arrivals of a Poisson process: `rate` a second on average, each independent of all others."""
    _check("--rate", rate, math.inf)
    _check("--requests", num_requests, MAX_REQUESTS)
    rng, arrival, requests = random.Random(f"{seed}:arrivals"), 0.0, []
    for index, (group, input_tokens, output_tokens) in _drawn(num_requests, inputs, outputs, prefixes, seed):
        arrival += rng.expovariate(rate)
        requests.append(Request(index, arrival, input_tokens, output_tokens, group))
    line = f"{num_requests:,} requests at random, {rate:g} a second (Poisson){_lengths(inputs, outputs, prefixes)}"
    line += _not_longer(requests, prefixes)
    return Workload(tuple(requests), None, prefixes, f"{line} · seed {seed}")


def by_users(
    users: int,
    think_seconds: float,
    num_requests: int,
    inputs: Lengths,
    outputs: Lengths,
    *,
    prefixes: Prefixes = _NO_PREFIX,
    seed: int = 0,
) -> Workload:
    """Each user sends a request, waits for the whole answer, and thinks: exponentially, `think_seconds` on average.
    They begin thinking."""
    _check("--users", users, MAX_USERS)
    if not 0 <= think_seconds < math.inf:
        raise UsageError(
            f"--think is {think_seconds:g}", fix="seconds between an answer and the next request, at least 0"
        )
    _check("--requests", num_requests, MAX_REQUESTS)
    rng, requests = random.Random(f"{seed}:think"), []
    for index, (group, input_tokens, output_tokens) in _drawn(num_requests, inputs, outputs, prefixes, seed):
        think = rng.expovariate(1 / think_seconds) if think_seconds else 0.0
        requests.append(Request(index, None, input_tokens, output_tokens, group, think))
    think_text = f" who think {think_seconds:g} s between requests" if think_seconds else ""
    line = f"{num_requests:,} requests of {users:,} user{'s' * (users > 1)}{think_text}"
    line += _lengths(inputs, outputs, prefixes) + _not_longer(requests, prefixes)
    return Workload(tuple(requests), users, prefixes, f"{line} · seed {seed}")


def recorded(
    lines: Iterable[tuple[float, int, int]], name: str, *, prefixes: Prefixes = _NO_PREFIX, seed: int = 0
) -> Workload:
    """Arrivals in seconds, input and output tokens, as somebody wrote them down; the first request comes at once."""
    ordered = sorted(lines, key=lambda line: line[0])
    if not ordered:
        raise UsageError(f"the trace {name} has no request", fix="give one line a request")
    _check("requests in the trace", len(ordered), MAX_REQUESTS)
    rng, begin = random.Random(f"{seed}:groups"), ordered[0][0]
    requests = tuple(
        Request(index, arrival - begin, input_tokens, output_tokens, rng.randrange(prefixes.groups))
        for index, (arrival, input_tokens, output_tokens) in enumerate(ordered)
    )
    shared = f" · {prefixes.tokens:,} of the input shared" if prefixes.tokens else ""
    shared += _not_longer(requests, prefixes)
    return Workload(requests, None, prefixes, f"{len(requests):,} requests of {name}{shared}")


def _drawn(
    num_requests: int, inputs: Lengths, outputs: Lengths, prefixes: Prefixes, seed: int
) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """(index, (group, input tokens, output tokens)) of each request."""
    sizes, groups = random.Random(f"{seed}:sizes"), random.Random(f"{seed}:groups")
    for index in itertools.islice(itertools.count(), num_requests):
        yield index, (groups.randrange(prefixes.groups), inputs.draw(sizes), outputs.draw(sizes))


def _lengths(inputs: Lengths, outputs: Lengths, prefixes: Prefixes) -> str:
    text = f" · input {inputs}, output {outputs} tokens"
    if prefixes.tokens:
        kinds = f", {prefixes.groups:,} kinds" if prefixes.groups > 1 else ""
        text += f" · the first {prefixes.tokens:,} of the input shared{kinds}"
    return text


def _not_longer(requests: Sequence[Request], prefixes: Prefixes) -> str:
    """Of prompts that are no longer than the prefix; empty without such."""
    count = sum(request.input_tokens <= prefixes.tokens for request in requests)
    return f", of {count:,} prompt{'s' * (count > 1)} that are no longer all but the last token" if count else ""


def _check(name: str, value: float, most: float) -> None:
    """NaN, too, is no number of anything."""
    if not (0 < value <= most and math.isfinite(value)):
        limit = f" and at most {most:,}" if math.isfinite(most) else ""
        raise UsageError(f"{name} is {value}", fix=f"it must be above 0{limit}")
