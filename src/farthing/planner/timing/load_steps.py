"""What a load comes to in steps of an engine: how many of which shape lie behind a figure that somebody measured.

One stream, a batch that starts together, a closed loop, saturation. Requests that arrive at a rate are a fixed point
over these (planner/validation/row_forecast.py). Knows shapes and counts; no seconds, no hardware.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_MAX_CHUNKS = 24


@dataclass(frozen=True, slots=True)
class StepUse:
    """`times` steps of `count` sequences with `new` tokens each behind `context` others, and `prompts` whole prompts of
    `prompt_tokens` beside them (a step in the middle of many holds a fraction of one). `overlapped`: they follow each
    other through the stages of a pipeline, so that the slowest stage counts."""

    times: float
    count: int
    new: int
    context: int
    overlapped: bool = False
    prompts: float = 0.0
    prompt_tokens: int = 0


def decode_steps(
    times: float, context: float, batch: float, stages: int, prompts: float = 0.0, prompt_tokens: float = 0.0
) -> Iterator[StepUse]:
    """Steps of one token for each of `batch` sequences, and beside them a part of the prompts that follow. In a
    pipeline they go round in as many groups as there are stages."""
    running = max(1, round(batch))
    groups = min(stages, running)
    each = -(-running // groups)
    length = max(1, round(prompt_tokens)) if prompts else 0
    yield StepUse(times * groups, each, 1, max(0, round(context)), groups > 1, prompts / groups, length)


def prefill_steps(prompts: float, tokens: float, max_batch_tokens: int, overlap: float) -> Iterator[StepUse]:
    """The prompts as steps of at most `max_batch_tokens`: whole ones together, long ones in chunks. Of all but the last
    step, `overlap` follow each other through the stages of a pipeline."""
    length = max(1, round(tokens))
    together = max(1, min(round(prompts), max_batch_tokens // length))
    chunks = list(_chunks(length, max_batch_tokens))
    for index, (chunk, done, alike) in enumerate(chunks):
        times = alike * prompts / together
        alone = min(1.0, times) if index == len(chunks) - 1 else 0.0
        beside = overlap * (times - alone)
        if times > beside:
            yield StepUse(times - beside, together, chunk, done)
        if beside > 0:
            yield StepUse(beside, together, chunk, done, overlapped=True)


def _chunks(length: int, most: int) -> Iterator[tuple[int, int, int]]:
    """(tokens, tokens before them, how many such); of very many, runs are stood for by the one in their middle."""
    whole, rest = divmod(length, most)
    run = -(-whole // _MAX_CHUNKS) or 1
    for first in range(0, whole, run):
        alike = min(run, whole - first)
        yield most, (first + alike // 2) * most, alike
    if rest:
        yield rest, whole * most, 1
