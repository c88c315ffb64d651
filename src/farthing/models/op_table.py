"""The ops of a description as rows: equal ops of all layers together, with parameters, bytes and a cost for each phase.

Sums only what the ops say of themselves. Knows no hardware and no terminal: cli/describe.py prints it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from farthing.models.spec import ModelSpec, Op, num_parameters
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.ops.cost import Cost
from farthing.ops.elementwise import Elementwise, RMSNorm
from farthing.ops.linear import Embedding, Linear
from farthing.ops.moe import Experts


@dataclass(frozen=True, slots=True)
class OpRow:
    """`count` equal ops, one a layer. Everything but `size` is the sum over them; `costs` has one value per phase."""

    name: str
    kind: str
    count: int
    size: str
    num_parameters: int
    weight_bytes: int
    costs: tuple[Cost, ...]


def op_rows(stages: Sequence[ModelSpec], phases: Sequence[BatchShape]) -> tuple[OpRow, ...]:
    """Rows in order of first computation, of the stages of a pipeline together."""
    counts = Counter(op for stage in stages for _, op in stage.named_ops())
    return tuple(_row(op, count, phases) for op, count in counts.items())


def _row(op: Op, count: int, phases: Sequence[BatchShape]) -> OpRow:
    return OpRow(
        name=op.name,
        kind=type(op).__name__,
        count=count,
        size=_size(op),
        num_parameters=count * num_parameters(op),
        weight_bytes=count * sum(tensor.num_bytes for tensor in op.stored()),
        costs=tuple(op.cost(phase) * count for phase in phases),
    )


def _size(op: Op) -> str:
    """What the op's cost depends on, in the words of its fields."""
    match op:
        case Linear():
            return f"{op.in_features} to {op.out_features}" + (f", matrix of {op.tied}" if op.shares_matrix else "")
        case Embedding():
            return f"{op.num_embeddings} rows of {op.embedding_dim}"
        case Experts():
            return f"{op.experts_per_token} of {op.num_experts}, {op.hidden_size} to {op.intermediate_size}"
        case Attention():
            window = f", window {op.window}" if op.window else ""
            return f"{op.num_heads} heads of {op.head_dim}, {op.num_kv_heads} KV{window}"
        case RMSNorm():
            return f"{op.num_groups} x {op.dim}" if op.num_groups > 1 else str(op.dim)
        case Elementwise():
            return str(op.dim)
        case Comm():
            return f"{op.dim}, {op.num_ranks} ranks"
