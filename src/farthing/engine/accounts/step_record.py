"""What is kept of one step of the engine: what it computed, what it took, and where that time went. Plain numbers.

It crosses from the engine process to the API process once a step, so it is written as an array. Knows no model:
step_price.py fills it, ledger.py adds it up.
"""

from typing import Literal, NamedTuple

import msgspec

PARTS = (
    "weights",
    "kv_cache",
    "activations",
    "compute",
    "communication",
    "launch",
    "host",
    "threads",
    "throttled",
)
Phase = Literal["prefill", "decode"]


class StepRecord(msgspec.Struct, array_like=True, frozen=True):
    """`seconds`: from the end of the step before it, where work was left, else from its own beginning, to its end; the
    fields of PARTS add up to it. `executor_seconds` of it passed in the executor. `limit_seconds`: what the machine's
    measured peaks allow; `forecast_seconds`: the plan's figure. `fixed_seconds`: what a larger batch would not raise.

    `num_tokens`: those computed for good, without drafts that were wrong; `num_outputs` came out.

    Parts: reading `weights`, reading and writing the `kv_cache` and `activations`, or `compute` where arithmetic is the
    limit; `communication`; `launch` of kernels; `host`: everything outside the executor (scheduling, text, messages);
    `threads`: what more threads would save; `throttled`: beyond what such a step has taken at its best.
    """

    time: float  # of its end, seconds since 1970
    phase: Phase
    num_tokens: int
    num_sequences: int
    num_outputs: int
    context_tokens: int
    seconds: float
    executor_seconds: float
    limit_seconds: float
    forecast_seconds: float
    fixed_seconds: float
    weights: float
    kv_cache: float
    activations: float
    compute: float
    communication: float
    launch: float
    host: float
    threads: float
    throttled: float
    num_waiting: int  # sequences that no step has taken yet, or that were preempted
    waiting_for: str  # what the first of them lacks: "slots", "blocks", "tokens", or ""
    used_blocks: int
    num_preemptions: int  # since the start


class Owner(NamedTuple):
    """Who pays for a sequence: its request, whose that is (the salt of its cache), and how long it waited before it was
    first computed."""

    request_id: str
    name: str
    queue_seconds: float = 0.0


class Charge(msgspec.Struct, array_like=True, frozen=True):
    """The share of one request in some steps: `seconds` of them, and of what the machine's peaks allow."""

    request_id: str
    owner: str
    seconds: float
    limit_seconds: float
    queue_seconds: float = 0.0
