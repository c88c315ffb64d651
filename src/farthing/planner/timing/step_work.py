"""One rank's step as a dozen sums of work, and the seconds that an engine takes for them on a device.

The description is asked once for the sums; then a step is arithmetic on numbers, or on columns of them (the fit). The
same functions of planner/timing/efficiency.py price the ops one by one in planner/timing/forecast.py; both agree to a
thousandth, because the products of one step have the same rows. Knows no catalogue.
"""

import math
from dataclasses import astuple, dataclass, fields, replace

from farthing.models.spec import ModelSpec, Op
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape, causal_pairs, touched_tokens
from farthing.ops.comm import Comm
from farthing.ops.linear import Linear
from farthing.ops.moe import Experts
from farthing.planner.timing.efficiency import (
    Efficiency,
    LinkEfficiency,
    attention_seconds,
    host_seconds,
    message_seconds,
    product_seconds,
    small_op_seconds,
)
from farthing.planner.timing.load_steps import StepUse

FUSED = frozenset(  # no kernel of their own on a GPU
    {
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.q_norm",
        "self_attn.k_norm",
        "self_attn.add",
        "mlp.up_proj",
        "mlp.add",
    }
)


@dataclass(frozen=True, slots=True)
class StepWork:
    """Bytes, FLOPs and counts of one step. `layer_*`: the products in the layers, in the math of the weights; `head_*`:
    the last one. `wire_bytes` of `messages` collectives, of `ranks` each; `sends` to the next stage of `send_bytes`.
    """

    rows: float
    layer_bytes: float
    layer_flops: float
    head_rows: float
    head_bytes: float
    head_flops: float
    kv_bytes: float
    attention_flops: float
    other_bytes: float
    kernels: float
    sequences: float
    messages: float
    wire_bytes: float
    log_ranks: float
    sends: float
    send_bytes: float


_FIELDS = tuple(field.name for field in fields(StepWork))
_LOG_RANKS = _FIELDS.index("log_ranks")


@dataclass(frozen=True, slots=True)
class Speeds:
    """Nominal figures of a device: bytes/s, FLOP/s in the math of the layers and in 16 bits, bytes/s of its links."""

    bandwidth: float
    layer_rate: float
    plain_rate: float
    link: float
    stage_link: float


def step_work(spec: ModelSpec, batch: BatchShape) -> StepWork:
    """Of one rank; equal layers are asked once."""
    totals = [0.0] * len(_FIELDS)
    log_ranks = 0.0
    parts = [(op, 1) for op in (*spec.entry_ops, *spec.exit_ops)]
    for layer, times in spec.distinct_layers:
        parts += [(op, times) for op in layer.ops()]
    for op, times in parts:
        part = _of_op(op, batch)
        for index, value in enumerate(part):
            totals[index] += times * value
        if isinstance(op, Comm):
            log_ranks = max(log_ranks, math.log2(op.num_ranks))
    named = dict(zip(_FIELDS, totals, strict=True))
    named |= {"rows": float(batch.num_tokens), "head_rows": float(batch.num_logits), "log_ranks": log_ranks}
    return StepWork(**named | {"sequences": float(batch.num_sequences)})


class WorkLines:
    """The work of steps of equal sequences in a handful of products: every sum of a dense description is a constant and
    so much for each token, row of logits, attended position and causal pair (as models/step_cost.py says)."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        windows = {layer.attention.window for layer in spec.layers}
        self._is_sum = len(windows) == 1 and not spec.plan_only and 1 not in windows
        self._window = next(iter(windows))
        if not self._is_sum:
            return
        nothing, logit, one, two, behind = (
            astuple(step_work(spec, BatchShape.of(sequences, num_logits)))
            for sequences, num_logits in (([], 0), ([], 1), ([(1, 0)], 0), ([(2, 0)], 0), ([(1, 1)], 0))
        )
        self._lines = []
        for empty, a_logit, a_token, two_tokens, one_behind in zip(nothing, logit, one, two, behind, strict=True):
            pair = two_tokens - 2 * a_token + empty
            attended = one_behind - a_token - pair
            self._lines.append((empty, a_token - empty - attended - pair, a_logit - empty, attended, pair))

    def at(self, use: StepUse) -> StepWork:
        """Of one step of a use."""
        if not self._is_sum:
            groups = [(use.new, use.context)] * use.count + [(use.prompt_tokens, 0)] * round(use.prompts)
            return step_work(self._spec, BatchShape.of(groups))
        window = self._window
        sequences = use.count + use.prompts
        tokens = use.count * use.new + use.prompts * use.prompt_tokens
        attended = use.count * touched_tokens(use.new, use.context, window) + use.prompts * use.prompt_tokens
        pairs: float = use.count * causal_pairs(use.new, use.context, window)
        if use.prompts:
            pairs += use.prompts * causal_pairs(use.prompt_tokens, 0, window)
        work = StepWork(
            *(
                constant + token * tokens + logit * sequences + position * attended + pair * pairs
                for constant, token, logit, position, pair in self._lines
            )
        )
        return replace(work, log_ranks=self._lines[_LOG_RANKS][0], sequences=float(sequences))


def _of_op(op: Op, batch: BatchShape) -> tuple[float, ...]:
    """The op's part of a StepWork, in the order of its fields; rows and sequences are the step's."""
    cost = op.cost(batch)
    zero = dict.fromkeys(_FIELDS, 0.0)
    if isinstance(op, Comm):
        if op.kind == "send":
            zero |= {"sends": 1.0, "send_bytes": float(cost.comm_bytes)}
        else:
            wire = wire_factor(op) * cost.comm_bytes
            zero |= {"messages": 1.0, "wire_bytes": wire, "log_ranks": math.log2(op.num_ranks)}
    elif isinstance(op, Attention):
        zero |= {"kv_bytes": float(cost.moved_bytes), "attention_flops": float(cost.total_flops)}
    elif isinstance(op, Linear) and op.on_logits:
        zero |= {"head_bytes": float(cost.moved_bytes), "head_flops": float(cost.total_flops)}
    elif isinstance(op, Linear | Experts):
        zero |= {"layer_bytes": float(cost.moved_bytes), "layer_flops": float(cost.total_flops)}
    elif op.name not in FUSED:
        zero["other_bytes"] = float(cost.moved_bytes)
    if not isinstance(op, Comm):
        zero["kernels"] = float(num_fused_kernels(op))
    return tuple(zero.values())


def num_fused_kernels(op: Op) -> int:
    """Kernels that a good GPU engine starts for an op."""
    return 0 if op.name in FUSED else 1


def wire_factor(comm: Comm) -> float:
    """Ring all-reduce moves 2 (n-1)/n of the payload over each link, an all-gather (n-1) parts, a send one."""
    n = comm.num_ranks
    return {"all_reduce": 2 * (n - 1) / n, "all_gather": float(n - 1), "send": 1.0}[comm.kind]


def work_seconds(work: StepWork, speeds: Speeds, one: Efficiency, link: LinkEfficiency, send: LinkEfficiency) -> float:
    """Seconds of the step under an engine's constants. Plain arithmetic: `work` and `speeds` may hold columns."""
    return (
        product_seconds(work.layer_bytes / speeds.bandwidth, work.layer_flops / speeds.layer_rate, work.rows, one)
        + product_seconds(work.head_bytes / speeds.bandwidth, work.head_flops / speeds.plain_rate, work.head_rows, one)
        + attention_seconds(work.kv_bytes / speeds.bandwidth, work.attention_flops / speeds.plain_rate, one)
        + small_op_seconds(work.other_bytes / speeds.bandwidth)
        + work.kernels * one.kernel_seconds
        + host_seconds(work.sequences, one)
        + work.messages * message_seconds(0.0, work.log_ranks, link)
        + message_seconds(work.wire_bytes / speeds.link, 0.0, link)
        + work.sends * message_seconds(0.0, 1.0, send)
        + message_seconds(work.send_bytes / speeds.stage_link, 0.0, send)
    )
