"""Why it is slow, and what each remedy would gain: the sums of a ledger read as causes, the largest gain first.

A cause that lengthens every step makes each answer slow: without its seconds the steps would be shorter, and `gain` is
that ratio. A cause that keeps the batch small makes the machine's tokens few: a larger batch would share what a step
costs whatever its size, and `gain` is the ratio of tokens per second. Gains are of one remedy alone, from measured
times; they do not multiply. Knows no requests and no hardware.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from farthing.engine.accounts.ledger import StepSums

_LEAST_GAIN = 1.02  # below it there is nothing to tell
_HALVED = 0.5  # what a format of half the bytes leaves


@dataclass(frozen=True, slots=True)
class Finding:
    """`share`: of the time of the steps, or for what keeps the batch small of the places in one: the sequences that run
    and those that could.
    `speeds`: whether the remedy makes each answer faster or the machine's throughput higher."""

    cause: str
    speeds: Literal["answers", "throughput"]
    share: float
    gain: float
    what: str
    remedy: str


# cause: (what is left of its seconds after the remedy, what it is, remedy)
_ANSWERS = {
    "weights": (_HALVED, "reading the weights", "weights in a narrower format: --format int8 where it has a kernel"),
    "kv_cache": (_HALVED, "reading the KV cache of long contexts", "a narrower --kv-format, or shorter contexts"),
    "activations": (0.0, "moving activations", "kernels that fuse"),
    "compute": (_HALVED, "arithmetic", "weights in a format that this machine multiplies faster"),
    "communication": (0.0, "communication between devices", "fewer ranks, or faster links"),
    "launch": (0.0, "launching kernels one by one", "a larger model or batch hides it; capture and replay removes it"),
    "host": (0.0, "the host between steps", "fewer busy processes beside the engine; shorter stop lists and schemas"),
    "threads": (0.0, "computing with fewer threads than there are cores", "--threads with all cores"),
    "throttled": (
        0.0,
        "steps that take longer than such steps have taken",
        "look for another busy process, heat or a power cap: farthing doctor",
    ),
}


def why_slow(sums: StepSums, *, max_num_seqs: int) -> list[Finding]:
    """Findings of at least 2 %, by gain. Empty where nothing was computed."""
    found = [*_long_steps(sums), *_small_batch(sums, max_num_seqs)]
    return sorted((one for one in found if one.gain >= _LEAST_GAIN), key=lambda one: -one.gain)


def _long_steps(sums: StepSums) -> Iterator[Finding]:
    whole = sums.seconds
    for cause, (left, what, remedy) in _ANSWERS.items():
        seconds = sums.parts[cause]
        if seconds > 0:
            remaining = max(whole - seconds * (1 - left), 1e-9)
            yield Finding(cause, "answers", seconds / whole, whole / remaining, what, remedy)


def _small_batch(sums: StepSums, max_num_seqs: int) -> Iterator[Finding]:
    """Of the decode steps: those with a prompt fill their batch with its tokens."""
    decode = sums.phases["decode"]
    if not decode.num_steps:
        return
    batch = decode.num_sequences / decode.num_steps
    waiting = {cause: seconds / sums.seconds for cause, seconds in sums.waits.items()}
    starved = min(waiting["kv_starvation"], max_num_seqs - batch)
    for cause, more, why, remedy in (
        (
            "kv_starvation",
            starved,
            f"{starved:.1f} sequences wait for KV blocks while {batch:.1f} run",
            "more memory for the KV cache (--memory, a narrower format), a smaller --context, or shorter requests",
        ),
        (
            "small_batch",
            waiting["queueing"],
            f"{waiting['queueing']:.1f} sequences wait while {batch:.1f} run, as many as may",
            "a larger --max-num-seqs",
        ),
        (
            "token_budget",
            waiting["token_budget"],
            f"{waiting['token_budget']:.1f} sequences wait while the prompts of others fill the steps",
            "a larger --max-batch-tokens",
        ),
    ):
        if more > 0:
            yield Finding(cause, "throughput", more / (batch + more), _gain(sums, batch, batch + more), why, remedy)
    if batch < max_num_seqs and not any(more > 0 for more in waiting.values()):
        yield Finding(
            "few_requests",
            "throughput",
            (max_num_seqs - batch) / max_num_seqs,
            _gain(sums, batch, max_num_seqs),
            f"{batch:.1f} of {max_num_seqs} sequences run at a time, and nobody waits",
            "nothing is wrong; more requests at a time, or farthing batch, would fill the box",
        )


def _gain(sums: StepSums, batch: float, larger: float) -> float:
    """In tokens per second: what is fixed in a step is paid once, the rest grows with the batch."""
    decode = sums.phases["decode"]
    growing = decode.seconds - decode.fixed_seconds
    return larger / batch * decode.seconds / (decode.fixed_seconds + growing * larger / batch)
