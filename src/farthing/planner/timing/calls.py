"""How many calls of kernels an op comes to, by how a step is run: what each of them costs beside its work is the
machine's.

Knows no seconds.
"""

from typing import Literal

from farthing.models.spec import Op
from farthing.ops.attention import Attention
from farthing.ops.linear import Linear
from farthing.planner.timing.step_work import num_fused_kernels

Calls = Literal["torch", "recorded", "fused"]
"""A call of torch for every operator of the eager decoder; a recorded call that is replayed with all others of a step;
a kernel of a good GPU engine, as Farthing's own is."""

# torch calls of the eager kernels, counted with a dispatch mode, and recorded calls: tests/engine/accounts/
# test_forecast_calls.py holds them to 20 %.
_TORCH_CALLS, _TORCH_CALLS_PER_SEQUENCE = 5, 28


def calls_of(kind: str, *, records: bool) -> Calls:
    """Of Farthing's engine on a device of a kind ("cpu", "cuda"). `records`: it replays whole steps there."""
    if not records:
        return "torch"
    return "recorded" if kind == "cpu" else "fused"


def num_calls(op: Op, num_sequences: int, calls: Calls) -> int:
    """Eager attention goes sequence by sequence, all else batch by batch. Recorded: inputs of products in 8 bits are
    rounded first, queries and keys are rotated apart, attention stores, attends and combines."""
    if calls == "fused":
        return num_fused_kernels(op)
    if calls == "torch":
        return _TORCH_CALLS + (_TORCH_CALLS_PER_SEQUENCE * num_sequences if isinstance(op, Attention) else 0)
    if isinstance(op, Attention):
        return 3
    rounds = isinstance(op, Linear) and op.format.activation_bits == 8
    return 2 if rounds or op.name.endswith("rope") else 1
