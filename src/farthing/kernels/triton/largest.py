"""The largest logit of each row, and the lowest id that has it. Shapes: R rows of logits, V vocabulary."""

import torch
import triton
import triton.language as tl

from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.triton.order import after_others

_PART = 4096  # logits that one program looks through


def largest(launch: Launcher, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest value of each row and the lowest id that has it; NaN is larger than all."""
    logits_RV = logits_RV.float().contiguous()
    num_rows, vocab_size = logits_RV.shape
    num_parts = triton.cdiv(vocab_size, _PART)
    found_RP = torch.empty((num_rows, num_parts), dtype=torch.int64, device=logits_RV.device)
    top_R = torch.empty(num_rows, dtype=torch.float32, device=logits_RV.device)
    token_R = torch.empty(num_rows, dtype=torch.int64, device=logits_RV.device)
    launch(largest_of_part, (num_rows, num_parts), found_RP, logits_RV, vocab_size, num_parts, PART=_PART)
    operands = top_R, token_R, found_RP, logits_RV, vocab_size, num_parts
    launch(largest_of_row, (num_rows,), *operands, num_warps=1, PARTS=triton.next_power_of_2(num_parts))
    return top_R, token_R


def examples(launch: Launcher) -> None:
    largest(launch, meta(16, 128256, dtype=torch.float32))


@triton.jit
def largest_of_part(found, logits, vocab_size, num_parts, PART: tl.constexpr, EARLY: tl.constexpr):
    """A part of a row. Values become integers of the same order, and of equal values the lowest id is the largest
    number: value and id in one."""
    after_others(EARLY)
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    id_P = part * PART + tl.arange(0, PART)
    value_P = tl.load(logits + row * vocab_size + id_P, id_P < vocab_size, float("-inf"))
    bits_P = tl.where(value_P == 0, 0.0, value_P).to(tl.int32, bitcast=True)  # zeros of either sign are equal
    order_P = tl.where(bits_P < 0, bits_P ^ 0x7FFFFFFF, bits_P)
    order_P = tl.where(value_P == value_P, order_P, 0x7FFFFFFF)
    found_P = order_P.to(tl.int64) * 4294967296 + (0x7FFFFFFF - id_P)
    tl.store(found + row * num_parts + part, tl.max(tl.where(id_P < vocab_size, found_P, -9223372036854775808), 0))


@triton.jit
def largest_of_row(top, token, found, logits, vocab_size, num_parts, PARTS: tl.constexpr, EARLY: tl.constexpr):
    after_others(EARLY)
    row = tl.program_id(0).to(tl.int64)
    part_P = tl.arange(0, PARTS)
    best = tl.max(tl.load(found + row * num_parts + part_P, part_P < num_parts, -9223372036854775808), 0)
    id = 0x7FFFFFFF - (best & 0x7FFFFFFF)
    tl.store(token + row, id)
    tl.store(top + row, tl.load(logits + row * vocab_size + id))
