"""Every op's bytes and FLOPs as sums: a constant and so much for each token, row of logits, position and causal pair.

The description is asked once; then the work of a step is a few products an op. Knows no hardware and no seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farthing.models.spec import ModelSpec, Op
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.scheduler.batch import Batch

BASIS: tuple[tuple[list[tuple[int, int]], int], ...] = (
    ([], 0),
    ([], 1),
    ([(1, 0)], 0),
    ([(2, 0)], 0),
    ([(1, 1)], 0),
)


@dataclass(frozen=True, slots=True)
class BatchSums:
    """All that the price of a batch depends on, if one window (or none) cuts attention off in all layers."""

    sequences: int
    tokens: int
    logits: int
    attended: int
    pairs: int

    @classmethod
    def of(cls, batch: Batch) -> "BatchSums":
        """Without a window."""
        _, starts, token_ids, _, samples, _, num_drafts = zip(*batch.items, strict=True)
        sizes = [len(ids) for ids in token_ids]
        tokens, context = sum(sizes), sum(starts)
        pairs = context + tokens  # where each has one new token
        if tokens > len(sizes):
            pairs = sum(n * c + n * (n + 1) // 2 for n, c in zip(sizes, starts, strict=True))
        return cls(len(sizes), tokens, sum(samples) + sum(num_drafts), context + tokens, pairs)

    @classmethod
    def of_shape(cls, shape: BatchShape, window: int | None) -> "BatchSums":
        attended, pairs = shape.attended_tokens(window), shape.attended_pairs(window)
        return cls(shape.num_sequences, shape.num_tokens, shape.num_logits, attended, pairs)


@dataclass(frozen=True, slots=True)
class Line:
    """A value that is linear in the sums of a batch."""

    constant: float
    token: float
    logit: float
    attended: float
    pair: float

    def at(self, sums: BatchSums) -> float:
        return (
            self.constant
            + self.token * sums.tokens
            + self.logit * sums.logits
            + self.attended * sums.attended
            + self.pair * sums.pairs
        )


@dataclass(frozen=True, slots=True)
class OpLines:
    """`count` equal ops: bytes moved and FLOPs by math of each."""

    op: Op
    count: int
    moved: Line
    flops: tuple[tuple[str, Line], ...]


def distinct_ops(spec: ModelSpec) -> list[tuple[Op, int]]:
    """Each op of equal layers once, with how many layers have it."""
    ops = [(op, 1) for op in spec.entry_ops]
    ops += [(op, count) for layer, count in spec.distinct_layers for op in layer.ops()]
    return ops + [(op, 1) for op in spec.exit_ops]


def op_lines(spec: ModelSpec) -> list[OpLines]:
    """Of all ops but messages. Only where the description is such a sum: no experts, no window of one position."""
    return [_of(op, count) for op, count in distinct_ops(spec) if not isinstance(op, Comm)]


def _of(op: Op, count: int) -> OpLines:
    costs = [op.cost(BatchShape.of(sequences, num_logits)) for sequences, num_logits in BASIS]
    maths = sorted({math for cost in costs for math in cost.flops})
    return OpLines(
        op,
        count,
        line_of([cost.moved_bytes for cost in costs]),
        tuple((math, line_of([cost.flops.get(math, 0) for cost in costs])) for math in maths),
    )


def line_of(values: Sequence[float]) -> Line:
    """From the values for no token; one row of logits; one token; two of one sequence; one behind another."""
    nothing, one_logit, one_token, two_tokens, one_more_behind = values
    pair = two_tokens - 2 * one_token + nothing
    attended = one_more_behind - one_token - pair
    return Line(nothing, one_token - nothing - attended - pair, one_logit - nothing, attended, pair)
