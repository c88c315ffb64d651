"""Law 1: FLOPs, parameter bytes, KV bytes and communication of a model exist once; PyTorch's own count equals them."""

from pathlib import Path

import pytest
import torch
from tiny_models import CASES, MOE_CASES, Case, load, make_reference, save_reference
from torch.utils.flop_counter import FlopCounterMode

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.vendor import VendorKernels
from farthing.models.auto import describe, read_config
from farthing.models.parallel import parallelize
from farthing.models.spec import ModelSpec, Op, Precision
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.ops.linear import Linear
from farthing.ops.moe import Experts
from farthing.quantization.base import resolve
from farthing.scheduler.batch import Batch, BatchItem

DECODE = ((1, 30), (1, 7), (1, 0), (1, 300), (1, 255), (1, 256), (1, 12), (1, 99))
PREFILL = ((24, 0), (40, 0), (16, 0), (8, 0), (8, 0), (16, 0), (8, 0), (16, 0))
MIXED = ((1, 30), (9, 17), (1, 0), (5, 270))
SHAPES = {"decode": DECODE, "prefill": PREFILL, "mixed": MIXED, "one": ((1, 40),)}


def batch_of(shape: tuple[tuple[int, int], ...], block_size: int) -> Batch:
    items, next_block = [], 0
    for seq_id, (new, context) in enumerate(shape):
        num_blocks = -(-(new + context) // block_size)
        table = tuple(range(next_block, next_block + num_blocks))
        next_block += num_blocks
        items.append(BatchItem(seq_id, context, tuple(range(3, 3 + new)), table, samples=True, output_index=0))
    return Batch(0, tuple(items))


def described_flops(spec: ModelSpec, kind: type[Op], batch: BatchShape) -> int:
    return sum(op.cost(batch).total_flops for _, op in spec.named_ops() if isinstance(op, kind))


def counted_flops(loaded, shape) -> dict[str, int]:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        steps = loaded.runner.steps
        steps.logits(steps.hidden(loaded.runner.buffers.fill(batch_of(shape, loaded.runner.block_size))))
    counts = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    attention = sum(flops for op, flops in counts.items() if "bmm" in op)
    return {"attention": attention, "linear": sum(counts.values()) - attention}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)
def test_counted_flops_equal_the_description(case: Case, shape: tuple[tuple[int, int], ...], tmp_path: Path) -> None:
    """On the reference, which attends row by row; the linears of the vendor's libraries too."""
    save_reference(make_reference(case), tmp_path)
    batch = BatchShape.of(shape)
    on_reference = load(tmp_path, kernels=ReferenceKernels())
    on_vendor = load(tmp_path, kernels=VendorKernels())
    linear = described_flops(on_reference.spec, Linear, batch)
    attention = described_flops(on_reference.spec, Attention, batch)
    assert counted_flops(on_reference, shape) == {"attention": attention, "linear": linear}
    assert counted_flops(on_vendor, shape)["linear"] == linear


@pytest.mark.parametrize(("num_sequences", "new", "context"), [(4, 1, 9), (1, 1, 3), (2, 11, 0), (1, 7, 5)])
@pytest.mark.parametrize("case", MOE_CASES, ids=lambda case: case.name)
def test_flops_of_a_model_with_experts_are_those_that_transformers_computes(
    case: Case, num_sequences: int, new: int, context: int, tmp_path: Path
) -> None:
    """Whatever experts the router takes: k of them for each token. Attention there computes the rectangle: left out."""
    model = make_reference(case)
    model.config.save_pretrained(tmp_path)
    spec = describe(read_config(tmp_path), Precision.of(resolve("fp32", "cpu")))
    ids = torch.randint(0, spec.vocab_size, (num_sequences, context + new), generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        past = model(ids[:, :context], use_cache=True).past_key_values if context else None
        with FlopCounterMode(display=False) as counter:
            model(ids[:, context:], past_key_values=past)
    counted = sum(flops for op, flops in counter.get_flop_counts()["Global"].items() if "bmm" not in str(op))
    batch = BatchShape.of([(new, context)] * num_sequences, num_logits=num_sequences * new)  # all rows leave there
    assert counted == described_flops(spec, Linear, batch) + described_flops(spec, Experts, batch)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parameter_and_kv_bytes_are_what_the_runtime_allocates(case: Case, tmp_path: Path) -> None:
    save_reference(make_reference(case), tmp_path)
    for kv_format in ("auto", "int8"):
        loaded = load(tmp_path, kv_format=kv_format)
        assert loaded.memory.bytes_by_use["weights"] == loaded.spec.weight_bytes
        assert loaded.memory.bytes_by_use["kv"] == loaded.spec.kv_bytes_per_token * 256 * 8


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_a_step_costs_the_sum_of_its_ops_and_only_matrix_products_have_flops(case: Case, tmp_path: Path) -> None:
    save_reference(make_reference(case), tmp_path)
    spec = load(tmp_path).spec
    batch = BatchShape.of(MIXED)
    costs = [(op, op.cost(batch)) for _, op in spec.named_ops()]
    whole = spec.cost(batch)
    assert whole.total_flops == sum(cost.total_flops for _, cost in costs)
    assert whole.moved_bytes == sum(cost.moved_bytes for _, cost in costs)
    assert all(cost.total_flops == 0 for op, cost in costs if not isinstance(op, (Linear, Attention)))


def test_communicated_bytes_are_the_payload_that_a_rank_hands_over(tmp_path: Path) -> None:
    save_reference(make_reference(CASES[1]), tmp_path)
    spec = load(tmp_path).spec
    batch = BatchShape.of(MIXED)
    hidden_bytes = batch.num_tokens * spec.hidden_size * 4
    (rank,) = parallelize(spec, tp=2)
    logits_bytes = batch.num_logits * spec.vocab_size // 2 * 4
    assert rank.cost(batch).comm_bytes == (2 * len(spec.layers) + 1) * hidden_bytes + logits_bytes
    first, last = parallelize(spec, pp=2)
    assert first.cost(batch).comm_bytes == hidden_bytes
    assert last.cost(batch).comm_bytes == 0
    assert not any(isinstance(op, Comm) for _, op in spec.named_ops())
